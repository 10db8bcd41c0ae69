//! How the second place of the last checkpoint stands against the log, without verifying the log.
//!
//! Owns: the look that `pgturnstile check` takes: one read of the second place, of `last.checkpoint` and of the last segment. May
//! not: write, nor prove anything: a start and `pgturnstile verify --checkpoint` do. What cannot be read of a log that is
//! damaged is left to them. Compiles without runtime, TLS and parser.

use std::fs::File;
use std::io;
use std::path::Path;

use super::checkpoint::{Checkpoint, LAST_NAME};
use super::limits::{HEAD_OVERDUE_INTERVALS, HEAD_OVERDUE_S_MIN};
use super::read::{EachRecord, segment_name, walk_segment};
use super::record::{self, Payload};
use super::verify::{is_locked, read_note, segments};

/// How the second place stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no log yet, or nothing speaks against it.
    Fits,
    /// It holds no checkpoint, although the log's gateway kept one there.
    Missing,
    /// What stands there is no checkpoint.
    NoCheckpoint,
    /// It is of another log.
    OtherLog,
    /// It is older than the log's own last checkpoint.
    Behind {
        /// Records that it was signed over.
        there: u64,
        /// Records that the log's last was signed over.
        log: u64,
    },
    /// The log holds fewer records than it was signed over: a start refuses.
    Ahead {
        /// Records that it was signed over.
        there: u64,
        /// Records of the log.
        log: u64,
    },
}

/// Looks at the second place `head` of the log in `directory`, whose gateway signs every `every_s` seconds.
///
/// # Errors
/// The directory, a segment or the second place cannot be read.
pub fn second_place(directory: &Path, head: &Path, every_s: u64) -> io::Result<Standing> {
    if !directory.is_dir() {
        return Ok(Standing::Fits);
    }
    let last_segment = match segments(directory) {
        Ok((indices, _)) => indices.last().copied().unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Fits),
        Err(error) => return Err(error),
    };
    let live = is_locked(directory)?;
    let kept = read_note(head)?;
    let left = read_note(&directory.join(LAST_NAME))?;
    let mut last = left.and_then(|note| Checkpoint::open(&note).ok());
    let mut note = |checkpoint: Checkpoint| {
        if last.as_ref().is_none_or(|last| last.point.records <= checkpoint.point.records) {
            last = Some(checkpoint);
        }
    };
    let mut each = EachRecord(|_, record: &super::format::RecordView<'_>| {
        if let Ok((_, Payload::Checkpoint(checkpoint))) = record::payload(record)
            && let Ok(checkpoint) = Checkpoint::open(checkpoint.note.get())
        {
            note(checkpoint);
        }
        Ok(())
    });
    let mut segment = File::open(directory.join(segment_name(last_segment)))?;
    let walk = walk_segment(&mut segment, last_segment, None, &mut each)?;
    let log = walk.chain.next_sequence();
    let Some(kept) = kept else {
        let expected = last.is_some_and(|last| last.second_place);
        return Ok(if expected { Standing::Missing } else { Standing::Fits });
    };
    let Ok(kept) = Checkpoint::open(&kept) else { return Ok(Standing::NoCheckpoint) };
    if walk.header.as_ref().is_some_and(|header| header.log_id != kept.log_id) {
        return Ok(Standing::OtherLog);
    }
    let there = kept.point.records;
    // A damaged header leaves nothing to compare with; a log that is being written has moved on since.
    if walk.header.is_some() && !live && log < there {
        return Ok(Standing::Ahead { there, log });
    }
    // While a gateway runs, a note is recorded a moment before it is kept: only an overdue one is behind.
    let grace_s =
        if live { HEAD_OVERDUE_S_MIN.max(HEAD_OVERDUE_INTERVALS.saturating_mul(every_s)) } else { 0 };
    match last {
        Some(last)
            if last.second_place
                && last.point.records > there
                && last.time_ns > kept.time_ns.saturating_add(grace_s.saturating_mul(1_000_000_000)) =>
        {
            Ok(Standing::Behind { there, log: last.point.records })
        }
        Some(_) | None => Ok(Standing::Fits),
    }
}
