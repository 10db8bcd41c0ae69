//! The bytes of a segment: header, records, seals, trailer. Views in the manner of smoltcp: `parse` checks, accessors
//! cannot fail afterwards.
//!
//! Owns: the layout that README.md of this folder describes, byte for byte. May not: read files, know payloads. Little
//! endian; every frame starts at a multiple of 16 and begins with a magic word and its whole length. Fails by a [`Flaw`]
//! that says what is wrong. Compiles with std and blake3 alone.

use core::fmt;

use super::chain::{self, Hash, Seal};
use super::limits::RECORD_BYTES_MAX;

/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 256;
/// Bytes of a record before its payload: prefix and header.
pub const RECORD_HEAD_BYTES: usize = 112;
/// Bytes of the record's prefix, which its hash does not cover; each of them is proven otherwise.
pub const RECORD_PREFIX_BYTES: usize = 48;
/// Bytes of a seal.
pub const SEAL_BYTES: usize = 112;
/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 96;
/// Every frame's length and offset is a multiple of this.
pub const FRAME_ALIGN: usize = 16;
/// The version of this layout.
pub const FORMAT_VERSION: u16 = 1;

/// First bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"PGTEVID1";
/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = *b"PGTR";
/// First bytes of a seal (it ends a block).
pub const SEAL_MAGIC: [u8; 4] = *b"PGTB";
/// First bytes of a trailer.
pub const TRAILER_MAGIC: [u8; 4] = *b"PGTT";

/// The record asked to be durable before its session went on.
pub const FLAG_GATED: u16 = 1;
/// The record opens its stream: it is the first of its session (or of the gateway's run).
pub const FLAG_OPENS: u16 = 2;
/// The record closes its stream.
pub const FLAG_CLOSES: u16 = 4;
/// The record expects an answer: another record of the stream that settles it.
pub const FLAG_EXPECTS: u16 = 8;
/// The record settles the one it refers to.
pub const FLAG_SETTLES: u16 = 16;
/// All flags of this version.
pub const FLAGS_KNOWN: u16 = 31;

/// `refers` of a record that refers to none.
pub const REFERS_TO_NONE: u64 = u64::MAX;

/// What is wrong with bytes that should be evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The segment ends inside a frame.
    Short {
        /// Bytes that the frame needs.
        needed: usize,
        /// Bytes that are there.
        there: usize,
    },
    /// The bytes begin no known frame.
    UnknownFrame([u8; 4]),
    /// A declared length that the frame cannot have.
    Length {
        /// Which frame.
        frame: &'static str,
        /// The length it declares.
        declared: u64,
    },
    /// The record's hash is not that of its header and payload.
    RecordHash,
    /// Padding or a reserved field is not zero.
    NotZero(&'static str),
    /// A version that this program does not know.
    Version(u32),
    /// A flag that this program does not know.
    Flags(u16),
    /// A seal whose own check fails.
    SealCheck,
    /// A header or trailer whose own check fails.
    Check(&'static str),
    /// A record, seal or trailer that stands where another belongs.
    Sequence {
        /// Which frame.
        frame: &'static str,
        /// What it claims.
        claimed: u64,
        /// What belongs there.
        expected: u64,
    },
    /// A seal that does not continue the chain.
    Previous,
    /// A seal whose value is not that of its records.
    BlockValue,
    /// A trailer that does not fit its segment.
    Trailer(&'static str),
    /// Something behind the end of the records.
    BehindEnd,
    /// A segment that does not continue the one before, or is of another log.
    Segment(&'static str),
    /// A record out of its session's order.
    SessionOrder(String),
    /// A payload that its kind cannot have.
    Payload(String),
    /// A checkpoint or a key's rotation that does not fit the log, or was signed by a key that may not.
    Checkpoint(String),
    /// Whole records that no seal covers.
    Unsealed(u32),
    /// The segment is not the last, yet ends without a trailer.
    NoTrailer,
}

impl Flaw {
    /// Whether a write that was cut off by a crash can look like this. The rest cannot come from a crash.
    pub fn torn_looking(&self) -> bool {
        match self {
            Flaw::Short { .. }
            | Flaw::UnknownFrame(_)
            | Flaw::Length { .. }
            | Flaw::RecordHash
            | Flaw::NotZero(_)
            | Flaw::SealCheck
            | Flaw::Check("trailer")
            | Flaw::Unsealed(_)
            | Flaw::BehindEnd => true,
            Flaw::Version(_)
            | Flaw::Flags(_)
            | Flaw::Check(_)
            | Flaw::Sequence { .. }
            | Flaw::Previous
            | Flaw::BlockValue
            | Flaw::Trailer(_)
            | Flaw::Segment(_)
            | Flaw::SessionOrder(_)
            | Flaw::Payload(_)
            | Flaw::Checkpoint(_)
            | Flaw::NoTrailer => false,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Short { needed, there } => {
                write!(f, "the segment ends inside a frame: {needed} bytes needed, {there} there")
            }
            Flaw::UnknownFrame(bytes) => {
                write!(f, "no frame begins with {}", bytes.escape_ascii())
            }
            Flaw::Length { frame, declared } => write!(f, "a {frame} cannot be {declared} bytes long"),
            Flaw::RecordHash => f.write_str("the record's hash is not that of its header and payload: it was changed"),
            Flaw::NotZero(what) => write!(f, "{what} must be zero"),
            Flaw::Version(version) => write!(f, "version {version} is not known to this program"),
            Flaw::Flags(flags) => write!(f, "flags {flags:#06x} are not known to this program"),
            Flaw::SealCheck => f.write_str("the seal of the block was changed: its own check fails"),
            Flaw::Check(what) => write!(f, "the {what} was changed: its own check fails"),
            Flaw::Sequence { frame, claimed, expected } => {
                write!(f, "{frame} with sequence {claimed} stands where {expected} belongs: removed, added or moved")
            }
            Flaw::Previous => f.write_str("the block does not continue the chain: one before it was removed, added or changed"),
            Flaw::BlockValue => f.write_str("the chain value is not that of the block's records: one was changed, removed, added or moved"),
            Flaw::Trailer(what) => write!(f, "the trailer does not fit its segment: {what}"),
            Flaw::BehindEnd => f.write_str("bytes stand behind the end of the records"),
            Flaw::Segment(what) => write!(f, "the segment does not continue the log: {what}"),
            Flaw::SessionOrder(what) | Flaw::Payload(what) | Flaw::Checkpoint(what) => f.write_str(what),
            Flaw::Unsealed(records) => write!(f, "the last {records} records are not sealed by a block"),
            Flaw::NoTrailer => f.write_str("the segment ends without a trailer although another follows: its end was cut off"),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(field)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Header of a segment. Its hash is the chain's value at the segment's start, so every field is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Random identity of the log: every segment of one directory carries the same.
    pub log_id: [u8; 16],
    /// Number of the segment, from 0.
    pub index: u64,
    /// Sequence of its first record.
    pub first_sequence: u64,
    /// Hash of the trailer of the segment before; zeros in segment 0.
    pub previous: Hash,
    /// When it was created: nanoseconds since 1970, UTC.
    pub created_ns: u64,
    /// Size that was claimed for it, bytes.
    pub segment_bytes: u64,
    /// blake3 of the gateway's binary.
    pub binary_hash: Hash,
    /// blake3 of the configuration in force.
    pub configuration_hash: Hash,
    /// Which commitment key was in force.
    pub key_id: [u8; 16],
}

impl SegmentHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&u32::from(FORMAT_VERSION).to_le_bytes());
        bytes[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id);
        bytes[32..40].copy_from_slice(&self.index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[48..80].copy_from_slice(&self.previous);
        bytes[80..88].copy_from_slice(&self.created_ns.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[96..128].copy_from_slice(&self.binary_hash);
        bytes[128..160].copy_from_slice(&self.configuration_hash);
        bytes[160..176].copy_from_slice(&self.key_id);
        let hash = chain::SEGMENT.hash(&bytes[..224]);
        bytes[224..].copy_from_slice(&hash);
        bytes
    }

    /// Reads a header, and its hash, which is the chain's first value in the segment.
    pub fn parse(bytes: &[u8]) -> Result<(SegmentHeader, Hash), Flaw> {
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return Err(Flaw::Short { needed: SEGMENT_HEADER_BYTES, there: bytes.len() });
        }
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(Flaw::Segment("it does not begin with PGTEVID1"));
        }
        let hash = array_at(bytes, 224);
        if chain::SEGMENT.hash(&bytes[..224]) != hash {
            return Err(Flaw::Check("segment header"));
        }
        if u32_at(bytes, 8) != u32::from(FORMAT_VERSION) {
            return Err(Flaw::Version(u32_at(bytes, 8)));
        }
        if u32_at(bytes, 12) as usize != SEGMENT_HEADER_BYTES {
            return Err(Flaw::Length { frame: "segment header", declared: u64::from(u32_at(bytes, 12)) });
        }
        if bytes[176..224].iter().any(|byte| *byte != 0) {
            return Err(Flaw::NotZero("reserved bytes of the segment header"));
        }
        let header = SegmentHeader {
            log_id: array_at(bytes, 16),
            index: u64_at(bytes, 32),
            first_sequence: u64_at(bytes, 40),
            previous: array_at(bytes, 48),
            created_ns: u64_at(bytes, 80),
            segment_bytes: u64_at(bytes, 88),
            binary_hash: array_at(bytes, 96),
            configuration_hash: array_at(bytes, 128),
            key_id: array_at(bytes, 160),
        };
        Ok((header, hash))
    }
}

/// The hashed header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the payload is: see [`super::record::Kind`].
    pub kind: u16,
    /// Version of the payload's type.
    pub kind_version: u16,
    /// `FLAG_…`.
    pub flags: u16,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// The lane (shard) it came through.
    pub lane: u32,
    /// The stream it belongs to: a session, or a run of the gateway.
    pub stream: [u8; 16],
    /// Its number within the stream, from 0, without gaps.
    pub stream_sequence: u64,
    /// Number within the stream of the record it answers or belongs to; [`REFERS_TO_NONE`] for none.
    pub refers: u64,
    /// When: nanoseconds since 1970, UTC, by the system's clock.
    pub wall_ns: u64,
    /// When: nanoseconds since the gateway started, by a clock that never steps.
    pub monotonic_ns: u64,
}

/// Begins a record in an empty buffer: prefix and header, to be finished by [`finish_record`] behind the payload.
pub fn begin_record(buffer: &mut Vec<u8>, header: &RecordHeader) {
    let mut head = [0u8; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&RECORD_MAGIC);
    head[48..50].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    head[50..52].copy_from_slice(&header.kind.to_le_bytes());
    head[52..54].copy_from_slice(&header.kind_version.to_le_bytes());
    head[54..56].copy_from_slice(&header.flags.to_le_bytes());
    head[60..64].copy_from_slice(&header.lane.to_le_bytes());
    head[64..80].copy_from_slice(&header.stream);
    head[80..88].copy_from_slice(&header.stream_sequence.to_le_bytes());
    head[88..96].copy_from_slice(&header.refers.to_le_bytes());
    head[96..104].copy_from_slice(&header.wall_ns.to_le_bytes());
    head[104..112].copy_from_slice(&header.monotonic_ns.to_le_bytes());
    buffer.extend_from_slice(&head);
}

/// Finishes a record whose payload stands behind its head: length, hash, padding. `Err` holds the length that is over
/// [`RECORD_BYTES_MAX`]. The global sequence is the writer's to fill in ([`set_sequence`]).
pub fn finish_record(buffer: &mut Vec<u8>) -> Result<(), usize> {
    let end = buffer.len();
    let frame = end.next_multiple_of(FRAME_ALIGN);
    if frame > RECORD_BYTES_MAX {
        return Err(frame);
    }
    buffer[56..60].copy_from_slice(&((end - RECORD_HEAD_BYTES) as u32).to_le_bytes());
    let hash = chain::RECORD.hash(&buffer[RECORD_PREFIX_BYTES..end]);
    buffer[4..8].copy_from_slice(&(frame as u32).to_le_bytes());
    buffer[16..48].copy_from_slice(&hash);
    buffer.resize(frame, 0);
    Ok(())
}

/// Writes the global sequence into a finished record.
pub fn set_sequence(record: &mut [u8], sequence: u64) {
    record[8..16].copy_from_slice(&sequence.to_le_bytes());
}

/// The hash that a finished record carries.
pub fn carried_hash(record: &[u8]) -> Hash {
    array_at(record, 16)
}

/// The stream that a finished record belongs to.
pub fn carried_stream(record: &[u8]) -> [u8; 16] {
    array_at(record, 64)
}

/// A whole record whose length, hash, padding, version and flags were checked.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'b> {
    bytes: &'b [u8],
    payload_checked: bool,
}

impl<'b> RecordView<'b> {
    /// Checks a whole frame.
    pub fn parse(bytes: &'b [u8]) -> Result<RecordView<'b>, Flaw> {
        if bytes.len() < RECORD_HEAD_BYTES {
            return Err(Flaw::Short { needed: RECORD_HEAD_BYTES, there: bytes.len() });
        }
        let payload = u32_at(bytes, 56) as usize;
        let end = RECORD_HEAD_BYTES.saturating_add(payload);
        if end.next_multiple_of(FRAME_ALIGN) != bytes.len() {
            return Err(Flaw::Length { frame: "record's payload", declared: payload as u64 });
        }
        if chain::RECORD.hash(&bytes[RECORD_PREFIX_BYTES..end]) != array_at::<32>(bytes, 16) {
            return Err(Flaw::RecordHash);
        }
        if bytes[end..].iter().any(|byte| *byte != 0) {
            return Err(Flaw::NotZero("a record's padding"));
        }
        if u16_at(bytes, 48) != FORMAT_VERSION {
            return Err(Flaw::Version(u32::from(u16_at(bytes, 48))));
        }
        if u16_at(bytes, 54) & !FLAGS_KNOWN != 0 {
            return Err(Flaw::Flags(u16_at(bytes, 54)));
        }
        Ok(RecordView { bytes, payload_checked: false })
    }

    /// The same frame once more, behind a [`RecordView::parse`] and a check of its payload that found nothing.
    pub(super) fn checked(bytes: &'b [u8]) -> RecordView<'b> {
        RecordView { bytes, payload_checked: true }
    }

    /// Whether its payload is known to be one of its kind.
    pub(super) fn payload_is_checked(&self) -> bool {
        self.payload_checked
    }

    /// Its global sequence.
    pub fn sequence(&self) -> u64 {
        u64_at(self.bytes, 8)
    }

    /// Its hash.
    pub fn hash(&self) -> Hash {
        array_at(self.bytes, 16)
    }

    /// Its header.
    pub fn header(&self) -> RecordHeader {
        RecordHeader {
            kind: u16_at(self.bytes, 50),
            kind_version: u16_at(self.bytes, 52),
            flags: u16_at(self.bytes, 54),
            payload_bytes: u32_at(self.bytes, 56),
            lane: u32_at(self.bytes, 60),
            stream: array_at(self.bytes, 64),
            stream_sequence: u64_at(self.bytes, 80),
            refers: u64_at(self.bytes, 88),
            wall_ns: u64_at(self.bytes, 96),
            monotonic_ns: u64_at(self.bytes, 104),
        }
    }

    /// Its payload, at the same alignment (modulo 16) as the frame.
    pub fn payload(&self) -> &'b [u8] {
        &self.bytes[RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + u32_at(self.bytes, 56) as usize]
    }
}

/// Bytes of a seal.
pub fn encode_seal(seal: &Seal) -> [u8; SEAL_BYTES] {
    let mut bytes = [0; SEAL_BYTES];
    bytes[..4].copy_from_slice(&SEAL_MAGIC);
    bytes[4..8].copy_from_slice(&(SEAL_BYTES as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&seal.first_sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&seal.count.to_le_bytes());
    bytes[24..32].copy_from_slice(&seal.durable_sequence.to_le_bytes());
    bytes[32..64].copy_from_slice(&seal.previous);
    bytes[64..96].copy_from_slice(&seal.value);
    let check = chain::SEAL.hash(&bytes[..96]);
    bytes[96..].copy_from_slice(&check[..16]);
    bytes
}

/// Reads a whole seal frame; says nothing yet about whether it fits the chain.
pub fn parse_seal(bytes: &[u8]) -> Result<Seal, Flaw> {
    if bytes.len() != SEAL_BYTES {
        return Err(Flaw::Length { frame: "seal", declared: bytes.len() as u64 });
    }
    if chain::SEAL.hash(&bytes[..96])[..16] != bytes[96..] {
        return Err(Flaw::SealCheck);
    }
    if u32_at(bytes, 20) != 0 {
        return Err(Flaw::NotZero("the seal's reserved field"));
    }
    Ok(Seal {
        first_sequence: u64_at(bytes, 8),
        count: u32_at(bytes, 16),
        durable_sequence: u64_at(bytes, 24),
        previous: array_at(bytes, 32),
        value: array_at(bytes, 64),
    })
}

/// What ends a segment for good. Its hash is what the next segment's header continues from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Sequence of the segment's first record.
    pub first_sequence: u64,
    /// Records in the segment.
    pub count: u64,
    /// When it was closed: nanoseconds since 1970, UTC.
    pub closed_ns: u64,
    /// The chain's value behind the last block.
    pub value: Hash,
}

impl Trailer {
    /// Its bytes, and its hash.
    pub fn encode(&self) -> ([u8; TRAILER_BYTES], Hash) {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..4].copy_from_slice(&TRAILER_MAGIC);
        bytes[4..8].copy_from_slice(&(TRAILER_BYTES as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.closed_ns.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.value);
        let hash = chain::TRAILER.hash(&bytes[..64]);
        bytes[64..].copy_from_slice(&hash);
        (bytes, hash)
    }

    /// Reads a whole trailer frame, and its hash.
    pub fn parse(bytes: &[u8]) -> Result<(Trailer, Hash), Flaw> {
        if bytes.len() != TRAILER_BYTES {
            return Err(Flaw::Length { frame: "trailer", declared: bytes.len() as u64 });
        }
        let hash = array_at(bytes, 64);
        if chain::TRAILER.hash(&bytes[..64]) != hash {
            return Err(Flaw::Check("trailer"));
        }
        let trailer = Trailer {
            first_sequence: u64_at(bytes, 8),
            count: u64_at(bytes, 16),
            closed_ns: u64_at(bytes, 24),
            value: array_at(bytes, 32),
        };
        Ok((trailer, hash))
    }
}

/// Which frame begins here, and how long it says it is. `Ok(None)` = zeros: the claimed but unused rest of a segment.
pub fn peek(first: &[u8; 8]) -> Result<Option<(Frame, usize)>, Flaw> {
    let magic: [u8; 4] = array_at(first, 0);
    let declared = u32_at(first, 4) as usize;
    let (frame, name, range) = match magic {
        RECORD_MAGIC => (Frame::Record, "record", RECORD_HEAD_BYTES..=RECORD_BYTES_MAX),
        SEAL_MAGIC => (Frame::Seal, "seal", SEAL_BYTES..=SEAL_BYTES),
        TRAILER_MAGIC => (Frame::Trailer, "trailer", TRAILER_BYTES..=TRAILER_BYTES),
        [0, 0, 0, 0] if declared == 0 => return Ok(None),
        _ => return Err(Flaw::UnknownFrame(magic)),
    };
    if !range.contains(&declared) || !declared.is_multiple_of(FRAME_ALIGN) {
        return Err(Flaw::Length { frame: name, declared: declared as u64 });
    }
    Ok(Some((frame, declared)))
}

/// The frames of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One record.
    Record,
    /// The end of a block.
    Seal,
    /// The end of the segment.
    Trailer,
}
