//! Checking records ahead of the walk, on every core.
//!
//! Owns: the threads that hash, and the reader that hands the walk bytes of which it knows how far their records are sound.
//! May not: judge anything: where a record does not check, the walk meets it itself and names what is wrong, in the order
//! in which things stand. Bounds: [`PIECE_BYTES`] a piece, two pieces a thread and one more in memory. Compiles with std,
//! blake3 and rkyv alone.
//!
//! ```text
//!  file ── pieces of whole frames ──> crew: every record's hash and payload ──> "sound up to here"
//!                                                                                    │
//!                                walk: sequences, chain, streams, signatures <───────┘ in order
//! ```

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rkyv::util::AlignedVec;

use super::format::{self, Frame, RecordView, SEGMENT_HEADER_BYTES};
use super::limits::{PIECE_BYTES, RECORD_BYTES_MAX};
use super::read::Source;
use super::record;

/// How far a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Taken,
    /// Every record below this many bytes of the piece is sound.
    Sound(usize),
}

/// Whole frames, as far as they could be told apart.
struct Piece {
    bytes: AlignedVec<16>,
    /// Bytes of it that the file gave.
    filled: usize,
    /// Where its first frame begins.
    first: usize,
    /// Where its last whole frame ends.
    end: usize,
    state: Mutex<State>,
    done: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is replaced by single stores: a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The frame that begins here, and its length, where it is whole.
fn frame_at(bytes: &[u8], at: usize) -> Option<(Frame, usize)> {
    let first = bytes.get(at..)?.first_chunk::<8>()?;
    let (frame, length) = format::peek(first).ok().flatten()?;
    (bytes.len() - at >= length).then_some((frame, length))
}

/// Says how far a piece is sound when it is dropped: also where a check panicked, so that nobody waits for ever.
struct Told<'p> {
    piece: &'p Piece,
    at: usize,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        *lock(&self.piece.state) = State::Sound(self.at);
        self.piece.done.notify_all();
    }
}

impl Piece {
    fn check(&self) {
        let bytes = &self.bytes[..self.end];
        let mut told = Told { piece: self, at: self.first };
        while let Some((frame, length)) = frame_at(bytes, told.at) {
            if frame == Frame::Record {
                let record = RecordView::parse(&bytes[told.at..told.at + length]);
                if !record.is_ok_and(|record| record::payload(&record).is_ok()) {
                    break;
                }
            }
            told.at += length;
        }
    }

    /// Takes it, where nobody has.
    fn take(&self) -> bool {
        let mut state = lock(&self.state);
        let waiting = *state == State::Waiting;
        if waiting {
            *state = State::Taken;
        }
        waiting
    }

    /// How far it is sound; checks it here where nobody has begun to.
    fn sound(&self) -> usize {
        if self.take() {
            self.check();
        }
        let mut state = lock(&self.state);
        loop {
            match *state {
                State::Sound(at) => return at,
                State::Waiting | State::Taken => {
                    state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Arc<Piece>>,
    over: bool,
}

/// The threads that check, and what waits for them.
#[derive(Default)]
pub(super) struct Crew {
    queue: Mutex<Queue>,
    news: Condvar,
    threads: usize,
}

/// Ends the threads, however the verification ends.
struct Over<'c>(&'c Crew);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).over = true;
        self.0.news.notify_all();
    }
}

impl Crew {
    /// Runs `with` beside one thread for each core but its own.
    pub(super) fn run<T>(with: impl FnOnce(&Crew) -> T) -> T {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let crew = Crew { threads: cores - 1, ..Crew::default() };
        std::thread::scope(|scope| {
            let _over = Over(&crew);
            for _ in 0..crew.threads {
                // Where the system gives no thread, the walk checks for itself what nobody took.
                drop(std::thread::Builder::new().spawn_scoped(scope, || crew.work()));
            }
            with(&crew)
        })
    }

    fn work(&self) {
        loop {
            let piece = {
                let queue = lock(&self.queue);
                let waited = self.news.wait_while(queue, |queue| queue.pieces.is_empty() && !queue.over);
                let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
                match queue.pieces.pop_front() {
                    Some(piece) => piece,
                    None => return,
                }
            };
            if piece.take() {
                piece.check();
            }
        }
    }

    fn put(&self, piece: &Arc<Piece>) {
        lock(&self.queue).pieces.push_back(Arc::clone(piece));
        self.news.notify_one();
    }
}

/// A segment's file, read in pieces that the crew checks while the walk is behind.
pub(super) struct Ahead<'c, R> {
    crew: &'c Crew,
    file: R,
    /// Bytes of a frame that the last piece cut.
    carried: Vec<u8>,
    /// Pieces in their order, the first of them behind the one that is read.
    pieces: VecDeque<Arc<Piece>>,
    current: Option<Arc<Piece>>,
    /// How much of the current piece was read.
    position: usize,
    /// Offset of the current piece's end in the file.
    behind: u64,
    checked: u64,
    /// Whether frames can still be told apart.
    framed: bool,
    began: bool,
    ended: bool,
    spare: Vec<AlignedVec<16>>,
}

impl<'c, R: Read> Ahead<'c, R> {
    pub(super) fn new(crew: &'c Crew, file: R) -> Ahead<'c, R> {
        Ahead {
            crew,
            file,
            carried: Vec::new(),
            pieces: VecDeque::new(),
            current: None,
            position: 0,
            behind: 0,
            checked: 0,
            framed: true,
            began: false,
            ended: false,
            spare: Vec::new(),
        }
    }

    /// The file, read as far as it was.
    pub(super) fn into_file(self) -> R {
        self.file
    }

    /// Reads one more piece and hands it to the crew.
    fn read_piece(&mut self) -> io::Result<()> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        let mut filled = self.carried.len();
        // A frame that is longer than a piece makes this one longer.
        bytes.resize(PIECE_BYTES.max(filled + PIECE_BYTES / 2), 0);
        bytes[..filled].copy_from_slice(&self.carried);
        self.carried.clear();
        while filled < bytes.len() {
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let first = if self.began { 0 } else { SEGMENT_HEADER_BYTES.min(filled) };
        self.began = true;
        let mut end = first;
        while self.framed
            && let Some((_, length)) = frame_at(&bytes[..filled], end)
        {
            end += length;
        }
        // What follows is a frame that goes on in the next piece, or nothing that can be told apart.
        let left = filled - end;
        if self.framed && !self.ended && left < RECORD_BYTES_MAX {
            self.carried.extend_from_slice(&bytes[end..filled]);
            filled = end;
        } else {
            self.framed = false;
        }
        let state = Mutex::new(State::Waiting);
        let piece = Arc::new(Piece { bytes, filled, first, end, state, done: Condvar::new() });
        self.crew.put(&piece);
        self.pieces.push_back(piece);
        Ok(())
    }

    /// Goes on to the next piece; whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(piece) = self.current.take().and_then(Arc::into_inner) {
            self.spare.push(piece.bytes);
        }
        while !self.ended && self.pieces.len() <= 2 * self.crew.threads {
            self.read_piece()?;
        }
        let Some(piece) = self.pieces.pop_front() else { return Ok(false) };
        let begins = self.behind;
        let sound = piece.sound() as u64;
        // Only what continues without a gap counts.
        if self.checked == begins {
            self.checked = begins + sound;
        }
        self.behind = begins + piece.filled as u64;
        self.position = 0;
        self.current = Some(piece);
        Ok(true)
    }
}

impl<R: Read> Read for Ahead<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = &self.current {
                let there = &piece.bytes[self.position..piece.filled];
                if !there.is_empty() {
                    let taken = there.len().min(bytes.len());
                    bytes[..taken].copy_from_slice(&there[..taken]);
                    self.position += taken;
                    return Ok(taken);
                }
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

impl<R: Read> Source for Ahead<'_, R> {
    fn checked_until(&self) -> u64 {
        self.checked
    }
}
