//! Opening a log: begin it, go on with it, or cut what a crash tore off and say so.
//!
//! Owns: the decision what is torn and what is damage. May not: repair anything but the tail. The last segment is walked by
//! the reader that `verify` uses; the longest sound prefix is kept, to the last whole record. A flaw counts as torn only
//! where a crash can leave it *and* no seal behind it proves that the bytes had been durable; everything else refuses the
//! start ([`OpenError::Inconsistent`]) and names the command that explains.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::OpenError;
use super::chain::Hash;
use super::checkpoint::Checkpoint;
use super::disk::{Disk, DiskFile, Sequential};
use super::format::{Flaw, RecordView, SEGMENT_HEADER_BYTES, SegmentHeader, TRAILER_BYTES, Trailer};
use super::log::{Identity, Log, PREPARED_NAME, Resume};
use super::read::{
    Bad, ChainEnd, Expected, Observer, Position, Tail, Walk, scan_tail, segment_index, segment_name,
    walk_segment,
};
use super::record::{self, Kind, Payload};

/// What a start cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the sound part ends.
    pub position: Position,
    /// How many bytes were cut (up to the last that was not zero).
    pub bytes: u64,
    /// Whole records kept that no seal covered.
    pub unsealed_kept: u32,
    /// What was wrong there.
    pub flaw: Flaw,
}

/// A checkpoint that was kept, in this place or another: the log must hold it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) checkpoint: Checkpoint,
    /// The file it was read from.
    pub(crate) file: PathBuf,
}

/// What opening found.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) cut: Option<Cut>,
    /// Key id of the last segment of an older run.
    pub(crate) key_id_before: Option<[u8; 16]>,
    /// The last checkpoint in the segments that were walked, as a note.
    pub(crate) last_note: Option<String>,
}

/// What a walk of the last segments looks for.
struct Search<'h> {
    held: &'h [Held],
    found: Vec<bool>,
    last_note: Option<String>,
}

/// Opens the log of a directory. `identity.log_id` is used only where there is none yet. Nothing is cut or written unless
/// the log holds every checkpoint of `held`.
pub(crate) fn open(disk: Arc<dyn Disk>, mut identity: Identity, held: &[Held]) -> Result<Opened, OpenError> {
    let (indices, prepared) = segments(disk.as_ref())?;
    let Some(&last) = indices.last() else {
        if let Some(held) = held.first() {
            return Err(behind(held, 0));
        }
        drop_prepared(disk.as_ref(), prepared)?;
        let log = Log::begin(disk, identity, 0, [0; 32], 0).map_err(OpenError::Write)?;
        return Ok(Opened { log, cut: None, key_id_before: None, last_note: None });
    };
    let mut search = Search { held, found: vec![false; held.len()], last_note: None };
    let expected = search.earlier(disk.as_ref(), last)?;
    let file = disk.open(&segment_name(last)).map_err(OpenError::Read)?;
    let walk = search.walk(file.as_ref(), last, expected.as_ref())?;
    let Some(header) = &walk.header else {
        // A segment gets its name only behind a durable header: this is no crash.
        let flaw = walk.bad.map_or(Flaw::Segment("it has no header"), |bad| bad.flaw);
        return Err(inconsistent(last, 0, 0, flaw));
    };
    let key_id_before = Some(header.key_id);
    identity.log_id = header.log_id;
    let first_sequence = header.first_sequence;
    let cut = torn(file.as_ref(), last, &walk)?;
    search.judge(header.log_id, walk.chain.next_sequence())?;
    search.look_back(disk.as_ref(), last)?;
    drop_prepared(disk.as_ref(), prepared)?;
    let log = match walk.trailer {
        Some(hash) => {
            let next = walk.chain.next_sequence();
            drop(file);
            Log::begin(disk, identity, last + 1, hash, next)
        }
        None => {
            let at = Resume {
                index: last,
                first_sequence,
                chain: walk.chain,
                offset: walk.end,
                open_bytes: walk.open_bytes,
            };
            Log::resume(disk, file, identity, at)
        }
    }
    .map_err(OpenError::Write)?;
    Ok(Opened { log, cut, key_id_before, last_note: search.last_note })
}

/// Indices of the segments, without a gap, and whether a prepared one stands beside them.
fn segments(disk: &dyn Disk) -> Result<(Vec<u64>, bool), OpenError> {
    let names = disk.list().map_err(OpenError::Read)?;
    let mut indices: Vec<u64> = names.iter().filter_map(|name| segment_index(name)).collect();
    indices.sort_unstable();
    if let Some((missing, _)) = (0..).zip(&indices).find(|(expected, index)| expected != *index) {
        return Err(inconsistent(missing, 0, 0, Flaw::Segment("its file is missing")));
    }
    Ok((indices, names.iter().any(|name| name == PREPARED_NAME)))
}

/// Claimed by an earlier run, never begun: no record was ever in it.
fn drop_prepared(disk: &dyn Disk, there: bool) -> Result<(), OpenError> {
    if there { disk.remove(PREPARED_NAME).map_err(OpenError::Write) } else { Ok(()) }
}

fn behind(held: &Held, records: u64) -> OpenError {
    OpenError::Behind { file: held.file.clone(), held: held.checkpoint.point.records, records }
}

impl Observer for Search<'_> {
    fn record(&mut self, _: Position, record: &RecordView<'_>) -> Result<(), Flaw> {
        if record.header().kind == Kind::Checkpoint.code()
            && let (_, Payload::Checkpoint(checkpoint)) = record::payload(record)?
        {
            self.last_note = Some(checkpoint.note.get().to_owned());
        }
        Ok(())
    }

    fn end(&mut self, end: ChainEnd) {
        for (found, held) in self.found.iter_mut().zip(self.held) {
            let point = held.checkpoint.point;
            *found |= (point.records, point.value) == (end.position.sequence, end.value);
        }
    }
}

impl Search<'_> {
    /// Walks one segment with an eye on checkpoints.
    fn walk(
        &mut self,
        file: &dyn DiskFile,
        index: u64,
        expected: Option<&Expected>,
    ) -> Result<Walk, OpenError> {
        walk_segment(&mut Sequential::new(file, 0), index, expected, self).map_err(OpenError::Read)
    }

    /// Walks the segments before the last one from the first on that a checkpoint of `held` stands in. Says what the last
    /// one must continue from.
    fn earlier(&mut self, disk: &dyn Disk, last: u64) -> Result<Option<Expected>, OpenError> {
        let from = self.held.iter().map(|held| held.checkpoint.point.segment).min().unwrap_or(last).min(last);
        let mut expected = match from.checked_sub(1) {
            None => None,
            Some(before) => Some(end_of(disk, before)?),
        };
        for index in from..last {
            let file = disk.open(&segment_name(index)).map_err(OpenError::Read)?;
            let walk = self.walk(file.as_ref(), index, expected.as_ref())?;
            let next_sequence = walk.chain.next_sequence();
            let log_id = walk.header.as_ref().map_or([0; 16], |header| header.log_id);
            expected = match (walk.bad, walk.trailer) {
                (Some(bad), _) => return Err(OpenError::Inconsistent(bad)),
                (None, Some(previous)) => Some(Expected { log_id, previous, next_sequence }),
                (None, None) => return Err(inconsistent(index, walk.end, next_sequence, Flaw::NoTrailer)),
            };
        }
        Ok(expected)
    }

    /// A crash right behind a rotation leaves the last checkpoint in the segment before the last.
    fn look_back(&mut self, disk: &dyn Disk, last: u64) -> Result<(), OpenError> {
        if let (None, Some(before)) = (&self.last_note, last.checked_sub(1)) {
            let file = disk.open(&segment_name(before)).map_err(OpenError::Read)?;
            self.walk(file.as_ref(), before, None)?;
        }
        Ok(())
    }

    /// Whether the log holds every checkpoint that was kept.
    fn judge(&self, log_id: [u8; 16], records: u64) -> Result<(), OpenError> {
        for (held, found) in self.held.iter().zip(&self.found) {
            let file = held.file.clone();
            if held.checkpoint.log_id != log_id {
                return Err(OpenError::OtherLog { file, held: held.checkpoint.log_id, log_id });
            }
            if held.checkpoint.point.records > records {
                return Err(behind(held, records));
            }
            if !found {
                return Err(OpenError::Forked { file, held: held.checkpoint.point.records });
            }
        }
        Ok(())
    }
}

fn inconsistent(segment: u64, offset: u64, sequence: u64, flaw: Flaw) -> OpenError {
    OpenError::Inconsistent(Bad { position: Position { segment, offset, sequence }, flaw })
}

/// What the last segment's header must continue from: the trailer of the one before.
fn end_of(disk: &dyn Disk, index: u64) -> Result<Expected, OpenError> {
    let file = disk.open(&segment_name(index)).map_err(OpenError::Read)?;
    let flawed = |flaw| inconsistent(index, 0, 0, flaw);
    let mut head = [0; SEGMENT_HEADER_BYTES];
    read_exact(file.as_ref(), &mut head, 0)?;
    let (header, _) = SegmentHeader::parse(&head).map_err(flawed)?;
    let end = file.length().map_err(OpenError::Read)?;
    let Some(offset) = end.checked_sub(TRAILER_BYTES as u64) else {
        return Err(flawed(Flaw::NoTrailer));
    };
    let mut tail = [0; TRAILER_BYTES];
    read_exact(file.as_ref(), &mut tail, offset)?;
    match Trailer::parse(&tail) {
        Ok((trailer, previous)) => Ok(Expected {
            log_id: header.log_id,
            previous,
            next_sequence: trailer.first_sequence.saturating_add(trailer.count),
        }),
        // A crash between the trailer and giving back the unused space leaves zeros behind it: walk to find it.
        Err(_) => walked_end(file.as_ref(), index, header.log_id),
    }
}

fn walked_end(file: &dyn DiskFile, index: u64, log_id: [u8; 16]) -> Result<Expected, OpenError> {
    let walk = walk_segment(&mut Sequential::new(file, 0), index, None, &mut ()).map_err(OpenError::Read)?;
    let next_sequence = walk.chain.next_sequence();
    match (walk.bad, walk.trailer) {
        (Some(bad), _) => Err(OpenError::Inconsistent(bad)),
        (None, Some(previous)) => Ok(Expected { log_id, previous, next_sequence }),
        (None, None) => Err(inconsistent(index, walk.end, next_sequence, Flaw::NoTrailer)),
    }
}

fn read_exact(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> Result<(), OpenError> {
    use std::io::Read;
    match super::disk::Sequential::new(file, offset).read_exact(bytes) {
        // A file that is too short is found by the parse behind this.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other.map_err(OpenError::Read),
    }
}

/// Whether the segment's tail is torn, and how much of it; an error where a crash cannot explain it.
fn torn(file: &dyn DiskFile, segment: u64, walk: &Walk) -> Result<Option<Cut>, OpenError> {
    // A trailer behind it says nothing: a power cut may keep the later page of a write and lose the earlier one.
    let Tail { bytes, durable_sequence, closed: _ } =
        scan_tail(&mut Sequential::new(file, walk.end)).map_err(OpenError::Read)?;
    let sequence = walk.chain.next_sequence();
    let position = Position { segment, offset: walk.end, sequence };
    let flaw = match &walk.bad {
        None if bytes == 0 && walk.chain.open_records() == 0 => return Ok(None),
        None if bytes == 0 => Flaw::Unsealed(walk.chain.open_records()),
        None => Flaw::BehindEnd,
        Some(bad) => bad.flaw.clone(),
    };
    // Records below `durable_sequence` were on disk, whole and sealed, when that seal was written.
    let was_durable =
        durable_sequence > sequence || (durable_sequence == sequence && walk.chain.open_records() > 0);
    if was_durable || !flaw.torn_looking() || (walk.trailer.is_some() && bytes > 0) {
        return Err(OpenError::Inconsistent(Bad { position, flaw }));
    }
    Ok(Some(Cut { position, bytes, unsealed_kept: walk.chain.open_records(), flaw }))
}

/// Hash of a file's content, for the binary's own.
pub(crate) fn file_hash(path: &std::path::Path) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(*hasher.finalize().as_bytes())
}
