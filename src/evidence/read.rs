//! Reading a segment, front to back, from any source of bytes.
//!
//! Owns: the one walk that `verify`, `evidence show` and the recovery at start share: frames, record hashes, block chain,
//! sequences. May not: know what a session is ([`super::verify`] does), nor write. Holds one buffer that grows to the
//! longest frame (bounded by [`limits::RECORD_BYTES_MAX`]); never allocates from a declared length that `peek` has not
//! bounded. Stops at the first flaw and says where. Compiles with std, blake3 and rkyv alone.
//!
//! [`limits::RECORD_BYTES_MAX`]: super::limits::RECORD_BYTES_MAX

use std::io::{self, Read};

use rkyv::util::AlignedVec;

use super::chain::{Chain, Hash};
use super::format::{
    self, FRAME_ALIGN, Flaw, Frame, RecordView, SEAL_BYTES, SEAL_MAGIC, SEGMENT_HEADER_BYTES, SegmentHeader,
    TRAILER_BYTES, TRAILER_MAGIC,
};
use super::limits::READ_BUFFER_BYTES;

/// Name of a segment's file.
pub fn segment_name(index: u64) -> String {
    format!("segment-{index:010}.evidence")
}

/// The index in a segment's file name; `None` for any other file.
pub fn segment_index(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".evidence")?;
    let index = digits.parse().ok()?;
    (segment_name(index) == name).then_some(index)
}

/// Whether a file bears a segment's name with a number that is spelled otherwise, or is none: no gateway made it.
pub fn is_stranger(name: &str) -> bool {
    let digits = name.strip_prefix("segment-").and_then(|name| name.strip_suffix(".evidence"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
        && segment_index(name).is_none()
}

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the segment.
    pub segment: u64,
    /// Offset of the frame in the segment's file, bytes.
    pub offset: u64,
    /// Global sequence of the record there, or of the next one where another frame stands.
    pub sequence: u64,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where.
    pub position: Position,
    /// What.
    pub flaw: Flaw,
}

/// What the segment before left behind.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// Hash of its trailer.
    pub previous: Hash,
    /// Sequence of the next record.
    pub next_sequence: u64,
}

/// How far a walk came.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The header, where it was sound.
    pub header: Option<SegmentHeader>,
    /// The chain behind the last good frame.
    pub chain: Chain,
    /// Offset behind the last good frame, bytes.
    pub end: u64,
    /// Bytes of the open block's records.
    pub open_bytes: usize,
    /// The furthest that a good seal says was durable.
    pub durable_sequence: u64,
    /// Hash of the trailer, where the segment has one.
    pub trailer: Option<Hash>,
    /// Where and why the walk stopped early.
    pub bad: Option<Bad>,
}

impl Walk {
    /// Where the walk stands.
    fn position(&self, segment: u64) -> Position {
        Position { segment, offset: self.end, sequence: self.chain.next_sequence() }
    }

    /// Tells where the chain stands.
    fn tell(&self, index: u64, observer: &mut dyn Observer) {
        let log_id = self.header.as_ref().map_or([0; 16], |header| header.log_id);
        observer.end(ChainEnd { position: self.position(index), value: self.chain.value(), log_id });
    }
}

/// The chain at a segment's start or behind a sound block.
#[derive(Clone, Copy, Debug)]
pub struct ChainEnd {
    /// Where: the sequence is the number of records before it.
    pub position: Position,
    /// Its value.
    pub value: Hash,
    /// The log that the segment's header names.
    pub log_id: [u8; 16],
}

/// Who hears what a walk finds.
pub trait Observer {
    /// A sound record; the observer may find a flaw of its own.
    ///
    /// # Errors
    /// The flaw; the walk stops at this record.
    fn record(&mut self, position: Position, record: &RecordView<'_>) -> Result<(), Flaw>;
    /// The chain stands at a segment's start, or behind a sound block.
    fn end(&mut self, end: ChainEnd);
}

/// Nobody: the walk itself is what is wanted.
impl Observer for () {
    fn record(&mut self, _: Position, _: &RecordView<'_>) -> Result<(), Flaw> {
        Ok(())
    }

    fn end(&mut self, _: ChainEnd) {}
}

/// A function that hears of every sound record.
pub struct EachRecord<F>(pub F);

impl<F: FnMut(Position, &RecordView<'_>) -> Result<(), Flaw>> Observer for EachRecord<F> {
    fn record(&mut self, position: Position, record: &RecordView<'_>) -> Result<(), Flaw> {
        (self.0)(position, record)
    }

    fn end(&mut self, _: ChainEnd) {}
}

/// Bytes of a segment, front to back.
pub trait Source: Read {
    /// Every record that ends at or before this offset has been found sound, hash and payload, by somebody who read ahead.
    fn checked_until(&self) -> u64 {
        0
    }
}

impl Source for std::fs::File {}

impl Source for &[u8] {}

/// Reads frames from a source into one aligned buffer.
struct Frames<'r> {
    source: &'r mut dyn Source,
    buffer: AlignedVec<16>,
    start: usize,
    filled: usize,
    offset: u64,
}

impl<'r> Frames<'r> {
    fn new(source: &'r mut dyn Source) -> Frames<'r> {
        Frames::at(source, 0)
    }

    /// A source whose first byte is the segment's at `offset`, where a frame begins.
    fn at(source: &'r mut dyn Source, offset: u64) -> Frames<'r> {
        let mut buffer = AlignedVec::new();
        buffer.resize(READ_BUFFER_BYTES, 0);
        Frames { source, buffer, start: 0, filled: 0, offset }
    }

    /// Makes `needed` bytes available at `start`; says how many there are, fewer only at the end.
    fn fill(&mut self, needed: usize) -> io::Result<usize> {
        if self.filled - self.start >= needed {
            return Ok(self.filled - self.start);
        }
        // Frames are multiples of 16 from an aligned base, so moving to the front keeps payloads aligned.
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < needed {
            self.buffer.resize(needed.next_multiple_of(READ_BUFFER_BYTES), 0);
        }
        while self.filled < needed {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled - self.start)
    }

    fn bytes(&self, length: usize) -> &[u8] {
        &self.buffer[self.start..self.start + length]
    }

    /// Whether the next record, of this length, was found sound by who read ahead.
    fn is_checked(&self, length: usize) -> bool {
        self.offset + length as u64 <= self.source.checked_until()
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// The next frame, whole in the buffer. `None` = zeros or the end of the file.
    fn next(&mut self) -> io::Result<Result<Option<(Frame, usize)>, Flaw>> {
        let there = self.fill(8)?;
        if there == 0 {
            return Ok(Ok(None));
        }
        if there < 8 {
            return Ok(Err(Flaw::Short { needed: 8, there }));
        }
        let mut first = [0; 8];
        first.copy_from_slice(self.bytes(8));
        let (frame, length) = match format::peek(&first) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(flaw) => return Ok(Err(flaw)),
        };
        let there = self.fill(length)?;
        if there < length {
            return Ok(Err(Flaw::Short { needed: length, there }));
        }
        Ok(Ok(Some((frame, length))))
    }
}

/// Walks one segment. `expected` is what the segment before left; without it the header is taken at its word.
/// `Err` only where the source cannot be read.
pub fn walk_segment(
    source: &mut dyn Source,
    index: u64,
    expected: Option<&Expected>,
    observer: &mut dyn Observer,
) -> io::Result<Walk> {
    let mut frames = Frames::new(source);
    let next_sequence = expected.map_or(0, |expected| expected.next_sequence);
    let mut walk = Walk {
        header: None,
        chain: Chain::new([0; 32], next_sequence),
        end: 0,
        open_bytes: 0,
        durable_sequence: 0,
        trailer: None,
        bad: None,
    };
    let there = frames.fill(SEGMENT_HEADER_BYTES)?.min(SEGMENT_HEADER_BYTES);
    match check_header(frames.bytes(there), index, expected) {
        Ok((header, hash)) => {
            walk.chain = Chain::new(hash, header.first_sequence);
            walk.durable_sequence = header.first_sequence;
            walk.header = Some(header);
        }
        Err(flaw) => {
            walk.bad =
                Some(Bad { position: Position { segment: index, offset: 0, sequence: next_sequence }, flaw });
            return Ok(walk);
        }
    }
    frames.consume(SEGMENT_HEADER_BYTES);
    walk.end = frames.offset;
    walk.tell(index, observer);
    walk_frames(&mut frames, index, &mut walk, observer)?;
    Ok(walk)
}

/// Walks on where a walk of the segment ended; the source's first byte is the one at [`Walk::end`].
///
/// # Errors
/// The source cannot be read.
pub fn walk_on(
    source: &mut dyn Source,
    index: u64,
    walk: &mut Walk,
    observer: &mut dyn Observer,
) -> io::Result<()> {
    walk.bad = None;
    let offset = walk.end;
    walk_frames(&mut Frames::at(source, offset), index, walk, observer)
}

fn check_header(
    bytes: &[u8],
    index: u64,
    expected: Option<&Expected>,
) -> Result<(SegmentHeader, Hash), Flaw> {
    let (header, hash) = SegmentHeader::parse(bytes)?;
    if header.index != index {
        return Err(Flaw::Segment("its header bears another index than its file"));
    }
    if let Some(expected) = expected {
        if header.log_id != expected.log_id {
            return Err(Flaw::Segment("it belongs to another log"));
        }
        if header.previous != expected.previous {
            return Err(Flaw::Segment("it does not continue from the trailer before it"));
        }
        if header.first_sequence != expected.next_sequence {
            return Err(Flaw::Sequence {
                frame: "a segment",
                claimed: header.first_sequence,
                expected: expected.next_sequence,
            });
        }
    } else if index == 0 && (header.previous != [0; 32] || header.first_sequence != 0) {
        return Err(Flaw::Segment("the first segment must begin the chain"));
    }
    Ok((header, hash))
}

fn walk_frames(
    frames: &mut Frames<'_>,
    index: u64,
    walk: &mut Walk,
    observer: &mut dyn Observer,
) -> io::Result<()> {
    loop {
        let position = walk.position(index);
        let step = match frames.next()? {
            Ok(None) => return Ok(()),
            Ok(Some(_)) if walk.trailer.is_some() => Err(Flaw::BehindEnd),
            Ok(Some((frame, length))) => {
                let bytes = frames.bytes(length);
                match frame {
                    Frame::Record => {
                        let checked = frames.is_checked(length);
                        take_record(bytes, checked, position, walk, observer)
                    }
                    Frame::Seal => take_seal(bytes, position, walk),
                    Frame::Trailer => take_trailer(bytes, position, walk),
                }
                .map(|()| (frame, length))
            }
            Err(flaw) => Err(flaw),
        };
        match step {
            Ok((frame, length)) => {
                frames.consume(length);
                walk.end = frames.offset;
                if frame == Frame::Seal {
                    walk.tell(index, observer);
                }
            }
            Err(flaw) => {
                walk.bad = Some(Bad { position, flaw });
                return Ok(());
            }
        }
    }
}

/// Checks a record and moves the walk behind it.
fn take_record(
    bytes: &[u8],
    checked: bool,
    position: Position,
    walk: &mut Walk,
    observer: &mut dyn Observer,
) -> Result<(), Flaw> {
    let record = if checked { RecordView::checked(bytes) } else { RecordView::parse(bytes)? };
    if record.sequence() != position.sequence {
        return Err(Flaw::Sequence {
            frame: "a record",
            claimed: record.sequence(),
            expected: position.sequence,
        });
    }
    observer.record(position, &record)?;
    walk.chain.push(&record.hash());
    walk.open_bytes += bytes.len();
    Ok(())
}

/// Checks a block's end and moves the walk behind it.
fn take_seal(bytes: &[u8], position: Position, walk: &mut Walk) -> Result<(), Flaw> {
    let seal = format::parse_seal(bytes)?;
    let ours = walk.chain.seal(seal.durable_sequence);
    if (seal.first_sequence, seal.count) != (ours.first_sequence, ours.count) {
        return Err(Flaw::Sequence {
            frame: "the end of a block",
            claimed: seal.first_sequence.saturating_add(u64::from(seal.count)),
            expected: position.sequence,
        });
    }
    if seal.previous != ours.previous {
        return Err(Flaw::Previous);
    }
    if seal.value != ours.value {
        return Err(Flaw::BlockValue);
    }
    walk.durable_sequence = walk.durable_sequence.max(seal.durable_sequence);
    walk.chain.advance(&ours);
    walk.open_bytes = 0;
    Ok(())
}

/// Checks a segment's end.
fn take_trailer(bytes: &[u8], position: Position, walk: &mut Walk) -> Result<(), Flaw> {
    let (trailer, hash) = format::Trailer::parse(bytes)?;
    let first = walk.header.as_ref().map_or(0, |header| header.first_sequence);
    if walk.chain.open_records() != 0 {
        return Err(Flaw::Trailer("it stands inside a block"));
    }
    if trailer.value != walk.chain.value() {
        return Err(Flaw::Trailer("it bears another chain value"));
    }
    if (trailer.first_sequence, trailer.first_sequence.saturating_add(trailer.count))
        != (first, position.sequence)
    {
        return Err(Flaw::Trailer("it counts other records"));
    }
    walk.trailer = Some(hash);
    Ok(())
}

/// A second look at a segment in which something is wrong: every frame that can be told apart, wherever it stands.
pub struct Scan<'r> {
    frames: Frames<'r>,
}

impl<'r> Scan<'r> {
    /// Looks at a whole segment's file.
    pub fn new(source: &'r mut dyn Source) -> Scan<'r> {
        Scan { frames: Frames::new(source) }
    }

    /// Calls `found` with offset, kind and bytes of each. What is no frame is stepped over, [`FRAME_ALIGN`] at a time.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn frames(mut self, found: &mut dyn FnMut(u64, Frame, &[u8])) -> io::Result<()> {
        let header = self.frames.fill(SEGMENT_HEADER_BYTES)?.min(SEGMENT_HEADER_BYTES);
        self.frames.consume(header);
        loop {
            let step = match self.frames.next()? {
                Ok(Some((frame, length))) => {
                    found(self.frames.offset, frame, self.frames.bytes(length));
                    length
                }
                Ok(None) | Err(_) => FRAME_ALIGN,
            };
            let there = self.frames.fill(step)?;
            if there == 0 {
                return Ok(());
            }
            self.frames.consume(step.min(there));
        }
    }
}

/// What stands behind the last good frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes up to the last one that is not zero, counted from where the scan began.
    pub bytes: u64,
    /// The furthest that a whole seal in it says was durable; 0 without one.
    pub durable_sequence: u64,
    /// A whole trailer is in it: the segment was closed, and nobody is writing there.
    pub closed: bool,
}

/// Looks at everything behind the last good frame: how much is not zero, and whether a later seal survives that proves
/// earlier records were durable (then what is missing before it was not torn by a crash). `source` must begin at a
/// multiple of 16 of the file.
pub fn scan_tail(source: &mut dyn Source) -> io::Result<Tail> {
    let mut tail = Tail::default();
    let mut frames = Frames::new(source);
    loop {
        let there = frames.fill(READ_BUFFER_BYTES / 2)?;
        if there == 0 {
            return Ok(tail);
        }
        // The last SEAL_BYTES are looked at again with the next piece, unless this is the end.
        let last = there < READ_BUFFER_BYTES / 2;
        let step = if last { there } else { (there - SEAL_BYTES) / FRAME_ALIGN * FRAME_ALIGN };
        let bytes = frames.bytes(there);
        if !all_zero(bytes) {
            for at in (0..step).step_by(FRAME_ALIGN) {
                if bytes[at..].starts_with(&SEAL_MAGIC)
                    && let Some(frame) = bytes.get(at..at + SEAL_BYTES)
                    && let Ok(seal) = format::parse_seal(frame)
                {
                    tail.durable_sequence = tail.durable_sequence.max(seal.durable_sequence);
                }
                tail.closed |= bytes[at..].starts_with(&TRAILER_MAGIC)
                    && bytes
                        .get(at..at + TRAILER_BYTES)
                        .is_some_and(|frame| format::Trailer::parse(frame).is_ok());
            }
            if let Some(at) = bytes[..step].iter().rposition(|byte| *byte != 0) {
                tail.bytes = frames.offset + at as u64 + 1;
            }
        }
        frames.consume(step);
    }
}

/// Whether every byte is zero; in pieces, so that the compiler compares whole vectors.
fn all_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}
