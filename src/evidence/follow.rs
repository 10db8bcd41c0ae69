//! Reading a log as it grows: verified, and never further than the last whole block.
//!
//! Owns: where the reading stands between two looks. May not: hand out a record before the seal of its block is there, nor before the
//! segment is synced as far as it was read: a crash of the gateway takes away what no seal covers, a loss of power what no sync has
//! reached, and then it was never told. Judges as [`super::verify`] does, on one core. Compiles without
//! runtime, TLS and parser.
//!
//! ```text
//!  look: walk ahead, nobody hears ──> end of the last whole block ──> sync ──> walk up to there, judged and told ──> wait for more
//!                                          └── the segment's trailer ──> next segment
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::checkpoint::LAST_NAME;
use super::format::{Flaw, RecordView, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::read::{
    Bad, ChainEnd, Expected, Observer, Position, Source, Walk, segment_name, walk_on, walk_segment,
};
use super::verify::{
    Found, Judge, Place, Report, Trust, Unreadable, is_locked, judge_end, read_note, segments,
};

/// A log that is read as it grows.
pub struct Follow {
    directory: PathBuf,
    waits: bool,
    judge: Judge,
    found: Found,
    expected: Option<Expected>,
    index: u64,
    walk: Option<Walk>,
    /// Makes what was read of a file durable.
    sync: fn(&File) -> io::Result<()>,
}

/// Hears nothing but how far whole blocks reach.
#[derive(Default)]
struct Ends(u64);

impl Observer for Ends {
    fn record(&mut self, _: Position, _: &RecordView<'_>) -> Result<(), Flaw> {
        Ok(())
    }

    fn end(&mut self, end: ChainEnd) {
        self.0 = end.position.offset;
    }
}

/// A segment up to an offset.
struct UpTo(io::Take<File>);

impl Read for UpTo {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Source for UpTo {}

fn between(path: &Path, from: u64, to: u64) -> io::Result<UpTo> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    Ok(UpTo(file.take(to.saturating_sub(from))))
}

impl Follow {
    /// Begins at the log's first record. `waits`: a torn tail is left to the gateway's next start, which cuts it, instead of being
    /// found broken.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn new(directory: &Path, trust: Trust, waits: bool) -> Result<Follow, Unreadable> {
        let path = directory.join(LAST_NAME);
        let left = read_note(&path).map_err(|error| Unreadable { path, error })?;
        Ok(Follow {
            directory: directory.to_owned(),
            waits,
            judge: Judge::new(Trust { left, ..trust }),
            found: Found::default(),
            expected: None,
            index: 0,
            walk: None,
            sync: File::sync_data,
        })
    }

    /// The log's id, as its first segment bears it.
    ///
    /// # Errors
    /// There is no first segment, or it is none.
    pub fn log_id(&self) -> Result<[u8; 16], Unreadable> {
        let path = self.directory.join(segment_name(0));
        let read = || {
            // It refuses what is no regular file.
            segments(&self.directory)?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            File::open(&path)?.read_exact(&mut bytes)?;
            let header = SegmentHeader::parse(&bytes);
            header.map_err(|flaw| io::Error::new(io::ErrorKind::InvalidData, flaw.to_string()))
        };
        match read() {
            Ok((header, _)) => Ok(header.log_id),
            Err(error) => Err(Unreadable { path, error }),
        }
    }

    /// Records that were told.
    pub fn records(&self) -> u64 {
        self.judge.streams.records
    }

    /// Segment and offset behind the last whole block; `None` where the log ends with a closed segment.
    pub fn end(&self) -> Option<(u64, u64)> {
        self.walk.as_ref().map(|walk| (self.index, walk.end))
    }

    /// Whether something is wrong: nothing behind it is ever told.
    pub fn bad(&self) -> Option<&Bad> {
        self.found.bad.as_ref()
    }

    /// Takes what is new; `visit` gets every record of a whole block, sound and in order.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn look(&mut self, visit: &mut dyn FnMut(Position, &RecordView<'_>)) -> Result<(), Unreadable> {
        let directory = self.directory.clone();
        let unreadable = |path: &Path, error| Unreadable { path: path.to_owned(), error };
        while self.found.bad.is_none() {
            let live = is_locked(&directory).map_err(|error| unreadable(&directory, error))?;
            self.found.live = live;
            let (indices, _) = segments(&directory).map_err(|error| unreadable(&directory, error))?;
            let last = indices.last().is_none_or(|last| *last <= self.index);
            let path = directory.join(segment_name(self.index));
            if !indices.contains(&self.index) {
                // The writer makes the next segment when it has something for it.
                if !last {
                    let position = Position { segment: self.index, offset: 0, sequence: self.records() };
                    self.found.bad = Some(Bad { position, flaw: Flaw::Segment("its file is missing") });
                }
                return Ok(());
            }
            let goes_on = self.segment(&path, last, visit).map_err(|error| unreadable(&path, error))?;
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what is new of the current segment; whether the next one follows.
    fn segment(
        &mut self,
        path: &Path,
        last: bool,
        visit: &mut dyn FnMut(Position, &RecordView<'_>),
    ) -> io::Result<bool> {
        let from = self.walk.as_ref().map_or(0, |walk| walk.end);
        let mut ends = Ends(from);
        let mut file = between(path, from, u64::MAX)?;
        let ahead = match &self.walk {
            Some(walk) => {
                let mut ahead = walk.clone();
                walk_on(&mut file, self.index, &mut ahead, &mut ends)?;
                ahead
            }
            None => walk_segment(&mut file, self.index, self.expected.as_ref(), &mut ends)?,
        };
        let sealed = if ahead.trailer.is_some() && ahead.bad.is_none() { ahead.end } else { ends.0 };
        if sealed > from {
            // The gateway's own sync may still be on its way: behind this one, what is told cannot be lost any more.
            (self.sync)(&File::open(path)?)?;
            if from == 0 {
                (self.sync)(&File::open(&self.directory)?)?;
            }
            let mut file = between(path, from, sealed)?;
            let mut judge = self.judge.heard_by(visit);
            let walk = match self.walk.take() {
                Some(mut walk) => {
                    walk_on(&mut file, self.index, &mut walk, &mut judge)?;
                    walk
                }
                None => walk_segment(&mut file, self.index, self.expected.as_ref(), &mut judge)?,
            };
            if let Some(bad) = walk.bad.clone() {
                self.found.bad = Some(bad);
                return Ok(false);
            }
            self.walk = Some(walk);
        }
        let whole = ahead.trailer.is_some() && ahead.bad.is_none();
        let place = Place { path, index: self.index, expected: self.expected.as_ref(), last };
        judge_end(&mut self.found, &place, ahead)?;
        if self.waits && self.found.torn {
            (self.found.torn, self.found.bad) = (false, None);
        }
        if !whole || self.found.bad.is_some() {
            return Ok(false);
        }
        if let Some(walk) = self.walk.take() {
            self.expected = Some(self.found.walked(&walk));
        }
        self.index += 1;
        Ok(true)
    }

    /// What is proven of what was read: as [`super::verify`] says it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn report(mut self) -> Result<Report, Unreadable> {
        if let Some(walk) = self.walk.take() {
            self.found.walked(&walk);
        }
        self.found.report(self.judge, &self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_that_is_not_synced() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1_signed");
        let mut told = 0;
        let mut follow = Follow::new(&golden, Trust::default(), false).unwrap();
        follow.sync = |_| Err(io::Error::other("the disk is gone"));
        assert!(follow.look(&mut |_, _| told += 1).is_err());
        assert_eq!((told, follow.records()), (0, 0));
        follow.sync = File::sync_data;
        follow.look(&mut |_, _| told += 1).unwrap();
        assert!(told > 0 && told == follow.records());
    }
}
