//! The log: records into blocks, blocks into segments, segments onto the disk.
//!
//! Owns: the one path by which bytes reach a segment, in operation and after a recovery alike: `append` puts records into
//! the buffer and the open block, `flush` seals and writes, `sync` makes durable, `rotate` ends a segment. May not: know
//! lanes, threads or tokio. Invariant: whatever was written ends with a seal; `durable_sequence` moves only behind a sync
//! that succeeded. Every error here is fatal to the caller, but for [`Log::prepare_next`], which only claims space.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::chain::{Chain, Hash};
use super::checkpoint::Point;
use super::disk::{Claim, Disk, DiskFile, Inode, write_all_at};
use super::format::{self, SEAL_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, TRAILER_BYTES, Trailer};
use super::limits::{
    BATCH_BYTES_MAX, BLOCK_BYTES_MAX, LARGE_RECORD_BYTES, RUNWAY_BYTES, RUNWAY_SYNC_BYTES_MAX,
};
use super::read::segment_name;

/// Name of the segment that is claimed but not begun.
pub(crate) const PREPARED_NAME: &str = "next.prepared";

/// What every segment header of this run says.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) log_id: [u8; 16],
    pub(crate) segment_bytes: u64,
    pub(crate) binary_hash: Hash,
    pub(crate) configuration_hash: Hash,
    pub(crate) key_id: [u8; 16],
}

/// Where a log goes on.
pub(crate) struct Resume {
    pub(crate) index: u64,
    pub(crate) first_sequence: u64,
    pub(crate) chain: Chain,
    pub(crate) offset: u64,
    pub(crate) open_bytes: usize,
}

pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    next: Option<Box<dyn DiskFile>>,
    identity: Identity,
    index: u64,
    first_sequence: u64,
    capacity: u64,
    /// End of what was written.
    offset: u64,
    /// Where zeros that were written ahead of the records end; at or below `offset` where there are none.
    runway: u64,
    /// What was not written yet; stands at `offset`, with `large` among it.
    buffer: Vec<u8>,
    /// Long records on their way, each behind so many bytes of `buffer`: they are written from where their session put them.
    large: Vec<(usize, Vec<u8>)>,
    large_bytes: usize,
    chain: Chain,
    open_bytes: usize,
    durable_sequence: u64,
    unsynced_bytes: u64,
}

/// Nanoseconds since 1970; 0 before it.
pub(crate) fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Log {
    /// Begins a segment: the first of a log, or the one behind a trailer.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        identity: Identity,
        index: u64,
        previous: Hash,
        first_sequence: u64,
    ) -> io::Result<Log> {
        let mut next = None;
        let (file, chain) =
            begin_segment(disk.as_ref(), &mut next, &identity, index, previous, first_sequence)?;
        Ok(Log {
            disk,
            file,
            next: None,
            capacity: identity.segment_bytes,
            identity,
            index,
            first_sequence,
            offset: SEGMENT_HEADER_BYTES as u64,
            runway: 0,
            buffer: Vec::with_capacity(BATCH_BYTES_MAX + BLOCK_BYTES_MAX),
            large: Vec::new(),
            large_bytes: 0,
            chain,
            open_bytes: 0,
            durable_sequence: first_sequence,
            unsynced_bytes: 0,
        })
    }

    /// Goes on in a segment without a trailer, whose torn tail (if any) is cut first, durably.
    pub(crate) fn resume(
        disk: Arc<dyn Disk>,
        file: Box<dyn DiskFile>,
        identity: Identity,
        at: Resume,
    ) -> io::Result<Log> {
        file.set_length(at.offset)?;
        file.sync_data()?;
        let capacity = identity.segment_bytes.max(at.offset);
        file.claim(capacity)?;
        file.sync_data()?;
        // All that the walk kept was synced above.
        let durable_sequence = at.chain.next_sequence();
        Ok(Log {
            disk,
            file,
            next: None,
            identity,
            index: at.index,
            first_sequence: at.first_sequence,
            capacity,
            offset: at.offset,
            runway: 0,
            buffer: Vec::with_capacity(BATCH_BYTES_MAX + BLOCK_BYTES_MAX),
            large: Vec::new(),
            large_bytes: 0,
            chain: at.chain,
            open_bytes: at.open_bytes,
            durable_sequence,
            unsynced_bytes: 0,
        })
    }

    /// Longest record that a segment of this size takes.
    pub(crate) fn record_bytes_max(segment_bytes: u64) -> u64 {
        segment_bytes.saturating_sub((SEGMENT_HEADER_BYTES + 2 * SEAL_BYTES + TRAILER_BYTES) as u64)
    }

    /// Bytes written since the last sync.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes
    }

    /// Every record below this sequence is on disk.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    /// Number of the open segment, and the bytes that it has left for records.
    pub(crate) fn segment(&self) -> (u64, u64) {
        (self.index, self.room())
    }

    /// The end of the log. Right behind a sync or [`Log::finish`] nothing is open, and all before it is durable.
    pub(crate) fn point(&self) -> Point {
        Point {
            records: self.chain.next_sequence(),
            value: self.chain.value(),
            segment: self.index,
            offset: self.offset,
        }
    }

    /// Identity of the log.
    pub(crate) fn log_id(&self) -> [u8; 16] {
        self.identity.log_id
    }

    /// Takes a finished record: gives it its sequence, its place in the block and in the buffer.
    pub(crate) fn append(&mut self, record: &mut [u8]) -> io::Result<()> {
        self.begin_record(record)?;
        self.buffer.extend_from_slice(record);
        self.end_record(record.len())
    }

    /// The same for a record that it may keep: a long one is not copied again.
    pub(crate) fn take(&mut self, mut record: Vec<u8>) -> io::Result<()> {
        if record.len() < LARGE_RECORD_BYTES {
            return self.append(&mut record);
        }
        self.begin_record(&mut record)?;
        let bytes = record.len();
        self.large_bytes += bytes;
        self.large.push((self.buffer.len(), record));
        self.end_record(bytes)
    }

    fn begin_record(&mut self, record: &mut [u8]) -> io::Result<()> {
        if record.len() as u64 > self.room() {
            self.rotate()?;
        }
        format::set_sequence(record, self.chain.next_sequence());
        self.chain.push(&format::carried_hash(record));
        Ok(())
    }

    fn end_record(&mut self, bytes: usize) -> io::Result<()> {
        self.open_bytes += bytes;
        if self.open_bytes >= BLOCK_BYTES_MAX {
            self.seal();
        }
        if self.waiting_bytes() >= BATCH_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    /// Bytes that were not written yet.
    fn waiting_bytes(&self) -> usize {
        self.buffer.len() + self.large_bytes
    }

    /// Bytes that a record may have to fit, with its seal and the trailer behind it.
    fn room(&self) -> u64 {
        let used = self.offset + self.waiting_bytes() as u64 + (SEAL_BYTES + TRAILER_BYTES) as u64;
        self.capacity.saturating_sub(used)
    }

    fn seal(&mut self) {
        let seal = self.chain.seal(self.durable_sequence);
        self.buffer.extend_from_slice(&format::encode_seal(&seal));
        self.chain.advance(&seal);
        self.open_bytes = 0;
    }

    fn write(&mut self) -> io::Result<()> {
        let mut from = 0;
        for (behind, record) in std::mem::take(&mut self.large) {
            self.write_piece(from..behind)?;
            from = behind;
            write_all_at(self.file.as_ref(), &record, self.offset)?;
            self.wrote(record.len());
        }
        self.write_piece(from..self.buffer.len())?;
        self.large_bytes = 0;
        self.buffer.clear();
        Ok(())
    }

    fn write_piece(&mut self, piece: std::ops::Range<usize>) -> io::Result<()> {
        let bytes = &self.buffer[piece];
        write_all_at(self.file.as_ref(), bytes, self.offset)?;
        let written = bytes.len();
        self.wrote(written);
        Ok(())
    }

    fn wrote(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.unsynced_bytes += bytes as u64;
    }

    /// Seals the open block and writes everything.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.chain.open_records() > 0 {
            self.seal();
        }
        if self.waiting_bytes() == 0 { Ok(()) } else { self.write() }
    }

    /// Flushes and makes everything durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.unsynced_bytes > 0 {
            self.extend_runway()?;
            self.file.sync_data()?;
            self.still_linked()?;
            self.unsynced_bytes = 0;
        }
        self.durable_sequence = self.chain.next_sequence();
        Ok(())
    }

    /// What is synced into a file that no name leads to is lost with the process, and into a shorter one is lost already.
    fn still_linked(&self) -> io::Result<Option<Inode>> {
        let inode = self.file.inode()?;
        match inode {
            Some(Inode { links: 0, .. }) => Err(self.gone("was removed")),
            // All of its space was claimed: a write behind the cut would make a hole, and not the length.
            Some(Inode { bytes, .. }) if bytes < self.capacity => Err(self.gone("was cut")),
            Some(_) | None => Ok(inode),
        }
    }

    /// Whether the segment's name still leads to the file that is written: not where the directory was moved or replaced.
    pub(crate) fn still_there(&self) -> io::Result<()> {
        let Some(own) = self.still_linked()? else { return Ok(()) };
        match self.disk.found(&segment_name(self.index)) {
            Ok(Some(found)) if found.number != own.number => Err(self.gone("was replaced")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.gone("was moved away")),
            Err(error) => Err(error),
        }
    }

    fn gone(&self, how: &str) -> io::Error {
        let what = format!("the segment {} {how} while it was written", segment_name(self.index));
        io::Error::other(what)
    }

    /// Writes zeros ahead of the records, once in a while and where syncs are small; [`RUNWAY_BYTES`] says why. They read
    /// as the space does that was claimed: nothing but the cost of the syncs that follow depends on them.
    fn extend_runway(&mut self) -> io::Result<()> {
        if self.offset < self.runway || self.unsynced_bytes > RUNWAY_SYNC_BYTES_MAX {
            return Ok(());
        }
        let end = (self.offset + RUNWAY_BYTES).min(self.capacity);
        let zeros = vec![0; usize::try_from(end.saturating_sub(self.offset)).unwrap_or(0)];
        write_all_at(self.file.as_ref(), &zeros, self.offset)?;
        self.runway = end;
        Ok(())
    }

    /// Whether the next segment should be claimed now: the current one is half full and none is ready.
    pub(crate) fn wants_next(&self) -> bool {
        self.next.is_none() && self.offset >= self.capacity / 2
    }

    /// Claims the next segment's space. An error leaves the log as it is.
    pub(crate) fn prepare_next(&mut self) -> io::Result<Claim> {
        let (file, claim) = prepare(self.disk.as_ref(), &self.identity)?;
        self.next = Some(file);
        Ok(claim)
    }

    /// Free space of the file system, bytes.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    /// Ends the segment with a trailer, durably, and begins the next.
    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        let trailer = Trailer {
            first_sequence: self.first_sequence,
            count: self.chain.next_sequence() - self.first_sequence,
            closed_ns: wall_ns(),
            value: self.chain.value(),
        };
        let (bytes, hash) = trailer.encode();
        self.buffer.extend_from_slice(&bytes);
        self.write()?;
        self.file.sync_data()?;
        self.unsynced_bytes = 0;
        self.durable_sequence = self.chain.next_sequence();
        // Give back what the segment did not need; the content is durable already.
        self.file.set_length(self.offset)?;
        let next_sequence = self.chain.next_sequence();
        let (file, chain) = begin_segment(
            self.disk.as_ref(),
            &mut self.next,
            &self.identity,
            self.index + 1,
            hash,
            next_sequence,
        )?;
        self.file = file;
        self.chain = chain;
        self.index += 1;
        self.first_sequence = next_sequence;
        self.capacity = self.identity.segment_bytes;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.runway = 0;
        Ok(())
    }

    /// Ends the run: everything durable, an empty last block that says so, the unused space given back.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.sync()?;
        if self.room() > 0 {
            self.seal();
            self.write()?;
        }
        self.file.set_length(self.offset)?;
        self.file.sync_data()?;
        if self.next.take().is_some() {
            self.disk.remove(PREPARED_NAME)?;
            self.disk.sync_directory()?;
        }
        Ok(())
    }
}

fn prepare(disk: &dyn Disk, identity: &Identity) -> io::Result<(Box<dyn DiskFile>, Claim)> {
    if disk.list()?.iter().any(|name| name == PREPARED_NAME) {
        disk.remove(PREPARED_NAME)?;
    }
    let file = disk.create(PREPARED_NAME)?;
    match file.claim(identity.segment_bytes) {
        Ok(claim) => Ok((file, claim)),
        Err(error) => {
            // What was claimed in part is given back; that this fails too changes nothing about the error.
            drop(disk.remove(PREPARED_NAME));
            Err(error)
        }
    }
}

/// Claims (unless that is done), writes and syncs the header, then gives the file its name: a segment's file never
/// exists without a sound header.
fn begin_segment(
    disk: &dyn Disk,
    next: &mut Option<Box<dyn DiskFile>>,
    identity: &Identity,
    index: u64,
    previous: Hash,
    first_sequence: u64,
) -> io::Result<(Box<dyn DiskFile>, Chain)> {
    let file = match next.take() {
        Some(file) => file,
        None => prepare(disk, identity)?.0,
    };
    let header = SegmentHeader {
        log_id: identity.log_id,
        index,
        first_sequence,
        previous,
        created_ns: wall_ns(),
        segment_bytes: identity.segment_bytes,
        binary_hash: identity.binary_hash,
        configuration_hash: identity.configuration_hash,
        key_id: identity.key_id,
    };
    let bytes = header.encode();
    write_all_at(file.as_ref(), &bytes, 0)?;
    file.sync_data()?;
    disk.rename(PREPARED_NAME, &segment_name(index))?;
    disk.sync_directory()?;
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[224..]);
    Ok((file, Chain::new(hash, first_sequence)))
}
