//! Proving a directory of evidence: every byte, the chain, the order, the completeness of every session.
//!
//! Owns: what counts as proven, and the report. May not: change anything, need a key, need the gateway. Streams: memory
//! grows with the sessions that are open at once, not with the log. Stops at the first thing that is wrong and names it.
//! Compiles with std, blake3 and rkyv alone (README decision 17).
//!
//! What it cannot prove, it says: without a checkpoint that was kept elsewhere, whoever owns the disk can cut the end off or
//! write the whole log anew. [`End::UNPROVEN`] is printed with every such result.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ahead::{Ahead, Crew};
use super::chain::Hash;
use super::checkpoint::LAST_NAME;
use super::diagnose;
pub use super::diagnose::Tampering;
use super::format::{Flaw, RecordView};
use super::limits::SEGMENT_BYTES_MAX;
use super::note::NOTE_BYTES_MAX;
use super::read::{
    Bad, ChainEnd, Expected, Observer, Position, Tail, Walk, is_stranger, scan_tail, segment_index,
    segment_name, walk_segment,
};
use super::record::{self, Kind, Payload};
use super::signed::Signed;
pub use super::signed::{End, ExpectedEnd, Signatures, Trust};
use super::streams::Streams;

/// Why a directory could not be verified at all.
#[derive(Debug)]
pub struct Unreadable {
    /// What could not be read.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cannot read {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Unreadable {}

/// A session that has no closing record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Its id.
    pub id: [u8; 16],
    /// Global sequence of its opening.
    pub opened_at: u64,
    /// Its records so far.
    pub records: u64,
    /// Its statements whose end is not known.
    pub unanswered: u64,
    /// The run that it belonged to has ended (another started behind it): it was cut off by a crash.
    pub cut_off: bool,
    /// The run that it belonged to ended in order, which closes every session: its close was taken out.
    pub missing_close: bool,
}

/// A run of the gateway behind which another began although it has no stop. Behind its last checkpoint its records are vouched for
/// by nothing but the log: who owns the disk could take the last of them away before the next start, which signs what it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstopped {
    /// Its number, from 1.
    pub run: u64,
    /// Records that its last checkpoint was signed over; 0 where none is.
    pub from_record: u64,
    /// When that was, nanoseconds since 1970 UTC; where none is, the log's first record.
    pub from_ns: u64,
    /// Sequence of the next run's first record.
    pub to_record: u64,
    /// When that run began.
    pub to_ns: u64,
}

/// What was proven, and the first thing that was not.
#[derive(Clone, Debug)]
pub struct Report {
    /// Identity of the log.
    pub log_id: Option<[u8; 16]>,
    /// Segments read.
    pub segments: u64,
    /// Bytes of records, seals, headers and trailers that were checked.
    pub bytes: u64,
    /// Sound records.
    pub records: u64,
    /// Records of each kind, in the order of [`Kind::ALL`].
    pub kinds: Vec<(Kind, u64)>,
    /// Chain value at the end.
    pub head: Hash,
    /// Wall time of the first and last record, nanoseconds since 1970.
    pub first_ns: u64,
    /// See `first_ns`.
    pub last_ns: u64,
    /// Runs of the gateway that started.
    pub runs: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Sessions that have both ends.
    pub sessions_closed: u64,
    /// Sessions without a closing record, in the order of their opening.
    pub open: Vec<OpenSession>,
    /// Earlier runs of the gateway that have no stop: stretches of which nothing proves that they are all.
    pub unstopped: Vec<Unstopped>,
    /// A gateway holds the directory's lock: the log is being written while it is read.
    pub live: bool,
    /// Bytes behind the last good frame of a log that is being written: not judged.
    pub in_flight_bytes: u64,
    /// The first thing that is wrong.
    pub bad: Option<Bad>,
    /// What is wrong looks like a write that a crash cut off: the next start would cut and record it.
    pub torn: bool,
    /// What its checkpoints say.
    pub signatures: Signatures,
    /// What is proven of its end.
    pub end: End,
    /// What was done to it, in words: first what is wrong in it, then what contradicts its checkpoints and sessions.
    pub findings: Vec<(Tampering, String)>,
}

impl Report {
    /// Whether everything that can be proven was.
    pub fn sound(&self) -> bool {
        self.bad.is_none() && self.findings.is_empty()
    }
}

/// What is judged on the way.
pub(super) struct Judge {
    pub(super) streams: Streams,
    signed: Signed,
    unstopped: Vec<Unstopped>,
}

impl Judge {
    pub(super) fn new(trust: Trust) -> Judge {
        Judge { streams: Streams::default(), signed: Signed::new(trust), unstopped: Vec::new() }
    }

    /// A run begins, and the one before has no stop.
    fn unstopped(&mut self, to_record: u64, to_ns: u64) {
        let (from_record, from_ns) = self.signed.vouched().unwrap_or((0, self.streams.first_ns));
        let run = self.streams.runs;
        self.unstopped.push(Unstopped { run, from_record, from_ns, to_record, to_ns });
    }

    /// The same, with who else hears of each sound record.
    pub(super) fn heard_by<'j>(
        &'j mut self,
        visit: &'j mut dyn FnMut(Position, &RecordView<'_>),
    ) -> Heard<'j> {
        Heard { judge: self, visit }
    }
}

/// Judges, and tells who listens.
pub(super) struct Heard<'j> {
    judge: &'j mut Judge,
    visit: &'j mut dyn FnMut(Position, &RecordView<'_>),
}

impl Observer for Heard<'_> {
    fn record(&mut self, position: Position, record: &RecordView<'_>) -> Result<(), Flaw> {
        let kind = record::kind(record)?;
        let mut judged = None;
        if kind == Kind::GatewayStarted && self.judge.streams.has_unstopped_run() {
            self.judge.unstopped(position.sequence, record.header().wall_ns);
        }
        // Who read ahead has checked every payload: only those are looked into that say something of other records.
        if !record.payload_is_checked() || Signed::reads(kind) || kind == Kind::Statement {
            let (_, payload) = record::payload(record)?;
            if let Payload::Statement(statement) = payload {
                judged = Some(statement.judged.to_native());
            }
            self.judge.signed.take(&payload)?;
        }
        self.judge.streams.take(position, record, kind, judged)?;
        (self.visit)(position, record);
        Ok(())
    }

    fn end(&mut self, end: ChainEnd) {
        self.judge.signed.passed(&end);
    }
}

/// Verifies a directory without anything from outside: see [`verify_with`].
///
/// # Errors
/// As [`verify_with`].
pub fn verify(
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(Position, &RecordView<'_>),
) -> Result<Report, Unreadable> {
    verify_with(directory, Trust::default(), progress, visit)
}

/// Verifies a directory, on every core. `progress` hears how many bytes of how many were read. Calls `visit` for every sound record.
///
/// # Errors
/// Only where the directory or a file cannot be read; everything that is wrong with what was read is in the report.
pub fn verify_with(
    directory: &Path,
    trust: Trust,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(Position, &RecordView<'_>),
) -> Result<Report, Unreadable> {
    Crew::run(|crew| verify_by(crew, directory, trust, progress, visit))
}

fn verify_by(
    crew: &Crew,
    directory: &Path,
    mut trust: Trust,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(Position, &RecordView<'_>),
) -> Result<Report, Unreadable> {
    let failed = |path: &Path, error| Unreadable { path: path.to_owned(), error };
    let live = is_locked(directory).map_err(|error| failed(directory, error))?;
    let left = directory.join(LAST_NAME);
    trust.left = read_note(&left).map_err(|error| failed(&left, error))?;
    let (indices, total) = segments(directory).map_err(|error| failed(directory, error))?;
    let mut judge = Judge::new(trust);
    let mut found = Found { live, ..Found::default() };
    let mut expected: Option<Expected> = None;
    let mut before = 0;
    for (at, index) in (0..).zip(indices.iter().copied()) {
        if index != at {
            let position = Position { segment: at, offset: 0, sequence: judge.streams.records };
            found.bad = Some(Bad { position, flaw: Flaw::Segment("its file is missing") });
            break;
        }
        let path = directory.join(segment_name(index));
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let counted = Counted { file, read: before, total, progress: &mut *progress };
        let mut ahead = Ahead::new(crew, counted);
        let walk = walk_segment(&mut ahead, index, expected.as_ref(), &mut judge.heard_by(visit))
            .map_err(|error| failed(&path, error))?;
        before = ahead.into_file().read;
        let next = found.walked(&walk);
        let last = index + 1 == indices.len() as u64;
        let place = Place { path: &path, index, expected: expected.as_ref(), last };
        judge_end(&mut found, &place, walk).map_err(|error| failed(&path, error))?;
        if found.bad.is_some() {
            break;
        }
        expected = Some(next);
    }
    found.report(judge, directory)
}

/// What the walks found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) live: bool,
    log_id: Option<[u8; 16]>,
    segments: u64,
    bytes: u64,
    head: Hash,
    in_flight_bytes: u64,
    pub(super) bad: Option<Bad>,
    pub(super) torn: bool,
}

impl Found {
    /// Counts a segment; says what the next one must continue from.
    pub(super) fn walked(&mut self, walk: &Walk) -> Expected {
        self.segments += 1;
        self.bytes += walk.end;
        self.head = walk.chain.value();
        self.log_id = self.log_id.or(walk.header.as_ref().map(|header| header.log_id));
        Expected {
            log_id: self.log_id.unwrap_or_default(),
            previous: walk.trailer.unwrap_or_default(),
            next_sequence: walk.chain.next_sequence(),
        }
    }

    pub(super) fn report(self, judge: Judge, directory: &Path) -> Result<Report, Unreadable> {
        let Judge { streams, signed, unstopped } = judge;
        let kinds = Kind::ALL.iter().copied().zip(streams.kinds.0).filter(|(_, count)| *count > 0);
        let (signatures, end) = signed.finish(streams.records, streams.last_ns, self.bad.is_none());
        let open = streams.open_sessions();
        let mut findings = Vec::new();
        if let Some(bad) = &self.bad {
            let named = diagnose::flaw(directory, bad, self.torn);
            let named = named.map_err(|error| Unreadable { path: directory.to_owned(), error })?;
            findings.push((named, bad.flaw.to_string()));
        } else {
            findings.extend(diagnose::outside(&end, &signatures, &open));
        }
        for name in strangers(directory).map_err(|error| Unreadable { path: directory.to_owned(), error })? {
            let text = format!(
                "{name} is no segment's name: a number has one spelling, and no gateway made this file"
            );
            findings.push((Tampering::Fork, text));
        }
        Ok(Report {
            log_id: self.log_id,
            segments: self.segments,
            bytes: self.bytes,
            records: streams.records,
            kinds: kinds.collect(),
            head: self.head,
            first_ns: streams.first_ns,
            last_ns: streams.last_ns,
            runs: streams.runs,
            sessions: streams.sessions,
            sessions_closed: streams.sessions_closed,
            open,
            unstopped,
            live: self.live,
            in_flight_bytes: self.in_flight_bytes,
            bad: self.bad,
            torn: self.torn,
            signatures,
            end,
            findings,
        })
    }
}

/// A note beside the segments; `None` where there is none.
pub(super) fn read_note(path: &Path) -> io::Result<Option<String>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
            // What is no text is no note either: the judgement says so.
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

/// A segment among the others.
pub(super) struct Place<'p> {
    pub(super) path: &'p Path,
    pub(super) index: u64,
    pub(super) expected: Option<&'p Expected>,
    pub(super) last: bool,
}

impl Place<'_> {
    /// Whether sound frames stand behind `end` by now: the first look came while they were written.
    fn has_moved_on(&self, end: u64) -> io::Result<bool> {
        let again = walk_segment(&mut File::open(self.path)?, self.index, self.expected, &mut ())?;
        Ok(again.end > end)
    }
}

/// What the end of a segment means: sealed, still written to, torn, or damaged.
pub(super) fn judge_end(found: &mut Found, place: &Place<'_>, walk: Walk) -> io::Result<()> {
    let sequence = walk.chain.next_sequence();
    let position = Position { segment: place.index, offset: walk.end, sequence };
    let decided = walk.bad.as_ref().is_some_and(|bad| !(place.last && bad.flaw.torn_looking()));
    // What stands behind a flaw that no crash leaves changes nothing, however long it is.
    let tail = if decided {
        Tail::default()
    } else {
        let mut file = File::open(place.path)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(walk.end))?;
        scan_tail(&mut file)?
    };
    let open_records = walk.chain.open_records();
    let flaw = match walk.bad {
        Some(bad) => Some(bad.flaw),
        None if walk.trailer.is_none() && !place.last => Some(Flaw::NoTrailer),
        None if tail.bytes > 0 => Some(Flaw::BehindEnd),
        None if open_records > 0 => Some(Flaw::Unsealed(open_records)),
        None => None,
    };
    let Some(flaw) = flaw else { return Ok(()) };
    // The rule of the recovery: a later seal that proves the bytes were durable rules a crash out.
    let was_durable =
        tail.durable_sequence > sequence || (tail.durable_sequence == sequence && open_records > 0);
    let looks_torn = place.last && flaw.torn_looking() && walk.trailer.is_none();
    let torn = looks_torn && !was_durable;
    // Whoever holds the lock need not be a gateway: behind a trailer none writes.
    if found.live && !tail.closed && looks_torn && (torn || place.has_moved_on(walk.end)?) {
        found.in_flight_bytes = tail.bytes;
        return Ok(());
    }
    found.torn = torn;
    found.bad = Some(Bad { position, flaw });
    Ok(())
}

/// Whether a gateway holds the directory's lock: it is writing there.
///
/// # Errors
/// The directory cannot be opened.
pub fn is_locked(directory: &Path) -> io::Result<bool> {
    match File::open(directory)?.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Names of files that would pass for segments.
fn strangers(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().to_str().filter(|name| is_stranger(name)).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// Indices of the segments in order, at least one, and their bytes in all.
pub(super) fn segments(directory: &Path) -> io::Result<(Vec<u64>, u64)> {
    let mut indices = Vec::new();
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(index) = entry.file_name().to_str().and_then(segment_index) {
            let found = std::fs::metadata(entry.path())?;
            // A pipe or a device has no end.
            if !found.is_file() {
                let why = format!("{} is no regular file", entry.file_name().display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            // A hole of any length costs its maker nothing, and would be read to its end.
            if found.len() > SEGMENT_BYTES_MAX {
                let why = format!(
                    "{} has {} bytes, and no segment has more than {SEGMENT_BYTES_MAX}: it is not as a gateway left it",
                    entry.file_name().display(),
                    found.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            indices.push(index);
            total += found.len();
        }
    }
    if indices.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it holds no segment of evidence"));
    }
    indices.sort_unstable();
    Ok((indices, total))
}

/// A file that tells how far it was read.
struct Counted<'p> {
    file: File,
    read: u64,
    total: u64,
    progress: &'p mut dyn FnMut(u64, u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        self.read += read as u64;
        (self.progress)(self.read, self.total);
        Ok(read)
    }
}
