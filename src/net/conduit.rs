//! One direction of a session: a linear buffer with four positions.
//!
//! ```text
//!   sent ──── cleared ──── scanned ──── filled ──── capacity
//!    │ may leave  │ judged,     │ received,   │ free
//!    │ now        │ not yet     │ not yet     │
//!    │            │ released    │ framed      │
//! ```
//!
//! Owns: bytes between one peer's socket and the other's, and what is spliced into or cut out of them. Invariant:
//! `sent <= cleared <= scanned <= filled`; only bytes below `cleared` can be written, and `cleared` moves only by the
//! named methods below. May not: know frames or verdicts. Fails: never; growth stops at the bound that the caller gives.
//!
//! Bytes leave as they came. Where the gateway has to say something of its own (a substituted frame, an injected
//! command, a rewritten error) a *splice* stands at a position of the stream: first its bytes go out, then as many
//! received bytes are skipped as it replaces.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Capacity of a conduit that carries little: an idle session costs two of these.
pub const CAPACITY_MIN_BYTES: usize = 8 * 1024;
/// Capacity once a read filled the smaller one; larger buffers cost cache misses, smaller ones system calls.
pub const CAPACITY_BULK_BYTES: usize = 64 * 1024;
/// Where a bulk buffer's content begins. rustls copies each fragment to five bytes behind the start of a block of its own;
/// both blocks lie on a page's start, and `rep movsb`, by which the C library copies what is longer than 2 KiB, runs at a
/// fifteenth of its speed where the target stands less than a cache line behind the source, modulo 4 KiB. From here it
/// stands before it. `bench/compare --only bulk` measures it.
const FRONT_BYTES: usize = 64;
/// Small exchanges in a row after which a conduit that had grown is small again.
const QUIET_EXCHANGES: u8 = 16;
/// Slices handed to one vectored write.
pub const SLICES_MAX: usize = 8;

/// A place in the order of what leaves.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Absolute stream offset.
    at: u64,
    /// Splices before it.
    splices: u64,
}

#[derive(Debug)]
struct Splice {
    /// Absolute stream offset at which it stands.
    at: u64,
    /// How many were made before it.
    number: u64,
    insert: Vec<u8>,
    written: usize,
    skip: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Conduit {
    buffer: Vec<u8>,
    /// Absolute stream offset of `buffer[0]`.
    base: u64,
    sent: usize,
    cleared: usize,
    scanned: usize,
    filled: usize,
    splices: VecDeque<Splice>,
    /// Bytes of splices not yet written: bounds what the gateway itself queues.
    inserted_bytes: usize,
    /// Received bytes below `cleared` that splices skip.
    skipped_bytes: usize,
    /// From here on nothing may leave yet, whatever is cleared.
    stays: Option<Position>,
    /// Splices made so far.
    spliced: u64,
    /// Exchanges in a row that the small capacity would have held.
    quiet: u8,
}

impl Default for Conduit {
    fn default() -> Self {
        Self::new()
    }
}

impl Conduit {
    /// An empty conduit of the small capacity.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; CAPACITY_MIN_BYTES],
            base: 0,
            sent: 0,
            cleared: 0,
            scanned: 0,
            filled: 0,
            splices: VecDeque::new(),
            inserted_bytes: 0,
            skipped_bytes: 0,
            stays: None,
            spliced: 0,
            quiet: 0,
        }
    }

    /// What was received and not yet framed.
    pub fn unscanned(&self) -> &[u8] {
        self.buffer.get(self.scanned..self.filled).unwrap_or_default()
    }

    /// What was framed and not yet released, then what was not yet framed.
    pub fn uncleared(&self) -> &[u8] {
        self.buffer.get(self.cleared..self.filled).unwrap_or_default()
    }

    /// Whether nothing waits to be written.
    pub fn drained(&self) -> bool {
        self.sent == self.cleared && self.splices.is_empty()
    }

    /// Where the next bytes to be framed, or to be spliced in, will stand: for [`Self::stay`].
    pub fn position(&self) -> Position {
        Position { at: self.base + self.scanned as u64, splices: self.spliced }
    }

    /// From `position` on, an earlier [`Self::position`], nothing leaves until this is called again, with a later one or none.
    pub fn stay(&mut self, position: Option<Position>) {
        self.stays = position;
    }

    /// What stays is forgotten, and all behind it; whether there was anything.
    pub fn drop_staying(&mut self) -> bool {
        let Some(stays) = self.stays.take() else { return false };
        let end = self.index(stays.at).max(self.sent).min(self.cleared);
        while self.splices.back().is_some_and(|splice| splice.number >= stays.splices) {
            if let Some(splice) = self.splices.pop_back() {
                self.inserted_bytes -= splice.insert.len() - splice.written;
                self.skipped_bytes -= splice.skip;
            }
        }
        (self.cleared, self.scanned, self.filled) = (end, end, end);
        true
    }

    /// Whether something may be written now.
    pub fn leaves(&self) -> bool {
        self.sent < self.leaving_end() || self.splices.front().is_some_and(|splice| self.may_leave(splice))
    }

    fn may_leave(&self, splice: &Splice) -> bool {
        self.stays.is_none_or(|stays| splice.number < stays.splices)
    }

    /// Behind the last byte that may leave.
    fn leaving_end(&self) -> usize {
        match self.stays {
            None => self.cleared,
            Some(stays) => self.index(stays.at).min(self.cleared).max(self.sent),
        }
    }

    /// Bytes that wait to be written.
    pub fn outgoing_bytes(&self) -> usize {
        (self.cleared - self.sent) - self.skipped_bytes + self.inserted_bytes
    }

    /// Free space behind `filled`, after making some: moves what is live to the front, and grows up to
    /// [`CAPACITY_BULK_BYTES`]. Empty means: the other side must read first.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled == self.buffer.len() {
            if self.sent > self.front() {
                self.compact();
            } else if self.buffer.len() < CAPACITY_BULK_BYTES {
                self.buffer.resize(CAPACITY_BULK_BYTES, 0);
            }
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Makes room for a frame of `frame_bytes` that starts at `scanned` and has to be whole. Grows by doubling, and only
    /// when what is there is full: a declared length alone allocates nothing. While received bytes may leave, that is the room
    /// to come: a buffer that grew by just the rest of a row would be read into by just that rest, again and again. What
    /// stands before the front, and what the gateway says itself, is no room when it has left.
    pub fn make_room(&mut self, frame_bytes: usize) {
        let room_to_come = self.outgoing_bytes() > 0 && self.cleared > self.front();
        if self.filled < self.buffer.len() || self.filled - self.scanned >= frame_bytes || room_to_come {
            return;
        }
        self.compact();
        if self.filled == self.buffer.len() {
            let wanted = (self.buffer.len() * 2).min(self.scanned + frame_bytes).max(CAPACITY_BULK_BYTES);
            self.buffer.resize(wanted, 0);
        }
    }

    /// `count` bytes were read into [`Self::space`].
    pub fn fill(&mut self, count: usize) {
        debug_assert!(self.filled + count <= self.buffer.len());
        self.filled = (self.filled + count).min(self.buffer.len());
        // A read that fills the small buffer announces more.
        if self.filled == self.buffer.len() && self.buffer.len() < CAPACITY_BULK_BYTES {
            self.buffer.resize(CAPACITY_BULK_BYTES, 0);
        }
    }

    /// The next `count` bytes are framed and judged, and wait for [`Self::clear`].
    pub fn scan(&mut self, count: usize) {
        self.scanned = (self.scanned + count).min(self.filled);
    }

    /// All that was scanned may leave.
    pub fn clear(&mut self) {
        self.cleared = self.scanned;
    }

    /// The next `count` bytes are framed and may leave at once.
    pub fn pass(&mut self, count: usize) {
        debug_assert!(self.cleared == self.scanned);
        self.scan(count);
        self.clear();
    }

    /// The next `count` bytes are replaced by `insert`: those leave in their stead.
    pub fn replace(&mut self, count: usize, insert: Vec<u8>) {
        debug_assert!(self.cleared == self.scanned);
        let count = count.min(self.filled - self.scanned);
        if insert.is_empty() && self.drained() && self.stays.is_none() {
            self.scanned += count;
            self.cleared = self.scanned;
            self.sent = self.scanned;
            return;
        }
        self.inserted_bytes += insert.len();
        self.skipped_bytes += count;
        self.splices.push_back(Splice {
            at: self.base + self.scanned as u64,
            number: self.spliced,
            insert,
            written: 0,
            skip: count,
        });
        self.spliced += 1;
        self.scanned += count;
        self.cleared = self.scanned;
    }

    /// The next `count` bytes go nowhere.
    pub fn swallow(&mut self, count: usize) {
        self.replace(count, Vec::new());
    }

    /// `bytes` leave behind all that is released so far.
    pub fn insert(&mut self, bytes: Vec<u8>) {
        self.replace(0, bytes);
    }

    /// Slices for one vectored write, in order; how many were set.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        let mut position = self.sent;
        for splice in self.splices.iter().take_while(|splice| self.may_leave(splice)) {
            let at = self.index(splice.at);
            if position < at && !push(out, &mut count, self.buffer.get(position..at)) {
                return count;
            }
            if !push(out, &mut count, splice.insert.get(splice.written..)) {
                return count;
            }
            position = at + splice.skip;
        }
        push(out, &mut count, self.buffer.get(position..self.leaving_end()));
        count
    }

    /// `count` bytes of what [`Self::slices`] gave were written.
    pub fn advance(&mut self, mut count: usize) {
        let (stays, end) = (self.stays, self.leaving_end());
        loop {
            let front = self.splices.front_mut();
            let Some(splice) = front.filter(|splice| stays.is_none_or(|stays| splice.number < stays.splices))
            else {
                self.sent = (self.sent + count).min(end);
                break;
            };
            let at = usize::try_from(splice.at - self.base).unwrap_or(self.cleared);
            let plain = (at - self.sent).min(count);
            self.sent += plain;
            count -= plain;
            if self.sent < at {
                break;
            }
            let own = (splice.insert.len() - splice.written).min(count);
            splice.written += own;
            self.inserted_bytes -= own;
            count -= own;
            if splice.written < splice.insert.len() {
                break;
            }
            self.sent = at + splice.skip;
            self.skipped_bytes -= splice.skip;
            self.splices.pop_front();
        }
        self.rest();
    }

    /// What was scanned and not released goes nowhere.
    pub fn drop_scanned(&mut self) {
        let count = self.scanned - self.cleared;
        self.scanned = self.cleared;
        self.swallow(count);
    }

    /// Forgets everything: nothing more leaves.
    pub fn clear_all(&mut self) {
        self.base += self.filled as u64;
        self.splices.clear();
        self.inserted_bytes = 0;
        self.skipped_bytes = 0;
        self.stays = None;
        (self.sent, self.cleared, self.scanned, self.filled) = (0, 0, 0, 0);
    }

    /// Forgets everything that is not released.
    pub fn cut(&mut self) {
        self.filled = self.cleared;
        self.scanned = self.cleared;
    }

    /// Received bytes that stand before everything read later: what came with the bytes of an earlier phase.
    pub fn preload(&mut self, bytes: &[u8]) {
        if self.buffer.len() < self.filled + bytes.len() {
            self.buffer.resize(self.filled + bytes.len(), 0);
        }
        if let Some(space) = self.buffer.get_mut(self.filled..self.filled + bytes.len()) {
            space.copy_from_slice(bytes);
            self.filled += bytes.len();
        }
    }

    fn index(&self, absolute: u64) -> usize {
        usize::try_from(absolute.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.filled)
    }

    /// Starts at the front again when nothing is held: costs nothing and keeps reads contiguous. After a while of small
    /// exchanges it gives back what a large one had made it grow to.
    fn rest(&mut self) {
        if self.sent != self.filled || !self.splices.is_empty() {
            return;
        }
        self.quiet = if self.filled <= CAPACITY_MIN_BYTES { self.quiet.saturating_add(1) } else { 0 };
        self.compact();
        if self.quiet >= QUIET_EXCHANGES && self.buffer.len() > CAPACITY_MIN_BYTES {
            self.buffer.truncate(CAPACITY_MIN_BYTES);
            self.buffer.shrink_to_fit();
        }
    }

    /// Where the content begins once it was moved to the front.
    fn front(&self) -> usize {
        if self.buffer.len() >= CAPACITY_BULK_BYTES { FRONT_BYTES } else { 0 }
    }

    fn compact(&mut self) {
        let front = self.front();
        if self.sent <= front {
            return;
        }
        let by = self.sent - front;
        self.buffer.copy_within(self.sent..self.filled, front);
        self.base += by as u64;
        self.cleared -= by;
        self.scanned -= by;
        self.filled -= by;
        self.sent = front;
    }
}

/// Adds a slice; false when `out` is full.
fn push<'a>(out: &mut [IoSlice<'a>; SLICES_MAX], count: &mut usize, slice: Option<&'a [u8]>) -> bool {
    let slice = slice.unwrap_or_default();
    if slice.is_empty() {
        return true;
    }
    match out.get_mut(*count) {
        Some(place) => {
            *place = IoSlice::new(slice);
            *count += 1;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receive(conduit: &mut Conduit, bytes: &[u8]) -> usize {
        let space = conduit.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        conduit.fill(count);
        count
    }

    #[test]
    fn rows_that_may_leave_are_room_for_the_one_that_is_not_whole() {
        let mut conduit = Conduit::new();
        let sent: Vec<u8> = (0..=255).cycle().take(3 * CAPACITY_BULK_BYTES).collect();
        let mut read = 0;
        while read < CAPACITY_BULK_BYTES {
            read += receive(&mut conduit, &sent[read..]);
        }
        // All but the last hundred bytes are whole rows; of the last row, as many are missing.
        conduit.pass(CAPACITY_BULK_BYTES - 100);
        conduit.make_room(200);
        assert_eq!(receive(&mut conduit, &sent[read..]), 0, "the client reads first");
        let mut out = Vec::new();
        write(&mut conduit, usize::MAX, &mut out);
        assert_eq!(out.len(), CAPACITY_BULK_BYTES - 100);
        // The front and the hundred bytes of the row are not free.
        let free = CAPACITY_BULK_BYTES - FRONT_BYTES - 100;
        assert_eq!(receive(&mut conduit, &sent[read..]), free, "and then a whole buffer comes");
        // A frame that needs more than all of it still gets it.
        conduit.make_room(2 * CAPACITY_BULK_BYTES);
        assert!(receive(&mut conduit, &sent) > 0);
    }

    #[test]
    fn what_leaves_and_is_no_room_does_not_keep_a_long_frame_waiting() {
        for (passed, said) in [(27, ""), (0, "greeting"), (27, "greeting"), (FRONT_BYTES, "")] {
            let mut conduit = Conduit::new();
            let sent = vec![7; 2 * CAPACITY_BULK_BYTES];
            let mut read = 0;
            conduit.insert(said.into());
            while read < CAPACITY_BULK_BYTES {
                read += receive(&mut conduit, &sent[read..]);
            }
            conduit.pass(passed);
            conduit.make_room(sent.len() - passed);
            let mut out = Vec::new();
            write(&mut conduit, usize::MAX, &mut out);
            assert_eq!(out.len(), passed + said.len());
            assert!(
                receive(&mut conduit, &sent[read..]) > 0,
                "{passed} and {said:?} left, and nothing can be read"
            );
        }
    }

    fn write(conduit: &mut Conduit, limit: usize, out: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = conduit.slices(&mut slices);
        let mut left = limit;
        for slice in &slices[..used] {
            let take = slice.len().min(left);
            out.extend_from_slice(&slice[..take]);
            left -= take;
        }
        conduit.advance(limit - left);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Receive(Vec<u8>),
        Pass(usize),
        Replace(usize, Vec<u8>),
        Stay,
        Go,
        Write(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..9000).prop_map(Step::Receive),
            (0usize..6000).prop_map(Step::Pass),
            (0usize..200, proptest::collection::vec(any::<u8>(), 0..50))
                .prop_map(|(n, b)| Step::Replace(n, b)),
            Just(Step::Stay),
            Just(Step::Go),
            (0usize..20000).prop_map(Step::Write),
        ]
    }

    proptest! {
        /// Against the naive twin: one growing vector of what must leave.
        #[test]
        fn agrees_with_the_naive_twin(steps in proptest::collection::vec(step(), 1..60)) {
            let mut conduit = Conduit::new();
            let mut received: VecDeque<u8> = VecDeque::new();
            let mut expected = Vec::new();
            let mut written = Vec::new();
            // How much of what is expected may leave.
            let mut stays: Option<usize> = None;
            for step in steps {
                match step {
                    Step::Stay if stays.is_none() => {
                        stays = Some(expected.len());
                        conduit.stay(Some(conduit.position()));
                    }
                    Step::Stay => {}
                    Step::Go => {
                        stays = None;
                        conduit.stay(None);
                    }
                    Step::Receive(bytes) => {
                        let count = receive(&mut conduit, &bytes);
                        received.extend(&bytes[..count]);
                    }
                    Step::Pass(count) => {
                        let count = count.min(received.len());
                        expected.extend(received.drain(..count));
                        conduit.pass(count);
                    }
                    Step::Replace(count, insert) => {
                        let count = count.min(received.len());
                        received.drain(..count);
                        expected.extend_from_slice(&insert);
                        conduit.replace(count, insert);
                    }
                    Step::Write(limit) => write(&mut conduit, limit, &mut written),
                }
                prop_assert_eq!(conduit.unscanned(), received.make_contiguous());
                prop_assert_eq!(conduit.outgoing_bytes(), expected.len() - written.len());
                prop_assert!(expected.starts_with(&written));
                prop_assert!(stays.is_none_or(|stays| written.len() <= stays), "more left than may");
            }
            while conduit.leaves() {
                write(&mut conduit, 777, &mut written);
            }
            let all = stays.unwrap_or(expected.len());
            prop_assert_eq!(&written, &expected[..all]);
            // What stays goes nowhere, and what is said instead leaves.
            prop_assert_eq!(conduit.drop_staying(), stays.is_some());
            conduit.insert(b"end".to_vec());
            while !conduit.drained() {
                write(&mut conduit, 777, &mut written);
            }
            prop_assert_eq!(written, [&expected[..all], b"end"].concat());
        }
    }

    #[test]
    fn small_exchanges_give_back_what_a_large_one_took() {
        let mut conduit = Conduit::new();
        let mut out = Vec::new();
        let mut exchange = |conduit: &mut Conduit, bytes: usize| {
            let count = receive(conduit, &vec![7; bytes]);
            conduit.pass(count);
            write(conduit, count, &mut out);
        };
        exchange(&mut conduit, CAPACITY_MIN_BYTES);
        exchange(&mut conduit, CAPACITY_BULK_BYTES);
        assert_eq!(conduit.buffer.len(), CAPACITY_BULK_BYTES);
        for _ in 0..QUIET_EXCHANGES {
            exchange(&mut conduit, 100);
        }
        assert_eq!(conduit.buffer.len(), CAPACITY_MIN_BYTES);
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let mut conduit = Conduit::new();
        receive(&mut conduit, b"D\x03\xff\xff\xff");
        conduit.make_room(64 << 20);
        assert_eq!(conduit.buffer.len(), CAPACITY_MIN_BYTES);
    }
}
