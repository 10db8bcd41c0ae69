//! Proving a directory of evidence: every byte, the chain, the order, the completeness of every session.
//!
//! Owns: what counts as proven, and the report. May not: change anything, need a key, need the gateway. Streams: memory
//! grows with the sessions that are open at once, not with the log. Stops at the first thing that is wrong and names it.
//! Compiles with std, blake3 and rkyv alone (README decision 17).
//!
//! What it cannot prove, it says: without a checkpoint that was kept elsewhere, whoever owns the disk can cut the end off or
//! write the whole log anew. [`Report::TAIL`] is printed with every result.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::chain::Hash;
use super::describe::hex;
use super::format::{
    FLAG_CLOSES, FLAG_EXPECTS, FLAG_OPENS, FLAG_SETTLES, Flaw, REFERS_TO_NONE, RecordHeader, RecordView,
};
use super::read::{Bad, Expected, Position, Walk, scan_tail, segment_index, segment_name, walk_segment};
use super::record::{self, Kind, Payload};

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
}

/// What was proven, and the first thing that was not.
#[derive(Clone, Debug, Default)]
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
    /// A gateway holds the directory's lock: the log is being written while it is read.
    pub live: bool,
    /// Bytes behind the last good frame of a log that is being written: not judged.
    pub in_flight_bytes: u64,
    /// The first thing that is wrong.
    pub bad: Option<Bad>,
    /// What is wrong looks like a write that a crash cut off: the next start would cut and record it.
    pub torn: bool,
}

impl Report {
    /// What this verification cannot know.
    pub const TAIL: &'static str = "No checkpoint from outside was given, so nothing proves that the end of the log was not cut off, or the whole log written anew, by somebody who owns the disk (signed checkpoints are not built yet).";

    /// Whether everything that can be proven was.
    pub fn sound(&self) -> bool {
        self.bad.is_none()
    }
}

/// One stream on the way.
#[derive(Debug)]
struct Stream {
    opened_at: u64,
    next: u64,
    unanswered: HashSet<u64>,
    /// Numbers of its judged texts.
    texts: HashSet<u64>,
    run: u64,
    gateway: bool,
}

/// The rules of streams: gapless, opened first, closed last, every expected answer given.
#[derive(Debug, Default)]
struct Streams {
    open: HashMap<[u8; 16], Stream>,
    runs: u64,
    sessions: u64,
    sessions_closed: u64,
    kinds: [u64; Kind::ALL.len()],
    records: u64,
    first_ns: u64,
    last_ns: u64,
}

fn order(text: String) -> Flaw {
    Flaw::SessionOrder(text)
}

impl Streams {
    fn take(&mut self, position: Position, record: &RecordView<'_>) -> Result<(), Flaw> {
        let header = record.header();
        let (kind, payload) = record::payload(record)?;
        if header.flags & (FLAG_OPENS | FLAG_CLOSES) != kind.flags() {
            return Err(Flaw::Flags(header.flags));
        }
        if header.flags & FLAG_OPENS != 0 {
            self.opened(position, &header, kind)?;
        }
        let Some(stream) = self.open.get_mut(&header.stream) else {
            let id = hex(&header.stream);
            return Err(order(format!("the record belongs to session {id}, which is not open here")));
        };
        if header.stream_sequence != stream.next {
            return Err(order(format!(
                "record {} of session {} stands where its record {} belongs: removed, added or moved",
                header.stream_sequence,
                hex(&header.stream),
                stream.next
            )));
        }
        stream.next += 1;
        stream.answer(&header)?;
        stream.text(&header, &payload)?;
        if header.flags & FLAG_CLOSES != 0 {
            self.closed(&header)?;
        }
        if self.records == 0 {
            self.first_ns = header.wall_ns;
        }
        self.last_ns = header.wall_ns;
        self.records += 1;
        self.kinds[kind.index()] += 1;
        Ok(())
    }

    fn opened(&mut self, position: Position, header: &RecordHeader, kind: Kind) -> Result<(), Flaw> {
        let gateway = kind == Kind::GatewayStarted;
        if gateway {
            self.runs += 1;
        } else if self.runs == 0 {
            return Err(order("a session opens before any run of the gateway".to_owned()));
        } else {
            self.sessions += 1;
        }
        let stream = Stream {
            opened_at: position.sequence,
            next: 0,
            unanswered: HashSet::new(),
            texts: HashSet::new(),
            run: self.runs,
            gateway,
        };
        match self.open.insert(header.stream, stream) {
            None => Ok(()),
            Some(_) => Err(order(format!("session {} is opened twice", hex(&header.stream)))),
        }
    }

    fn closed(&mut self, header: &RecordHeader) -> Result<(), Flaw> {
        let id = hex(&header.stream);
        let Some(stream) = self.open.remove(&header.stream) else {
            return Err(order(format!("session {id} is closed twice")));
        };
        if let Some(statement) = stream.unanswered.iter().min() {
            return Err(order(format!(
                "session {id} is closed although its record {statement} has no result"
            )));
        }
        if !stream.gateway {
            self.sessions_closed += 1;
        }
        Ok(())
    }

    fn open_sessions(&self) -> Vec<OpenSession> {
        let mut open: Vec<OpenSession> = self
            .open
            .iter()
            .filter(|(_, stream)| !stream.gateway)
            .map(|(id, stream)| OpenSession {
                id: *id,
                opened_at: stream.opened_at,
                records: stream.next,
                unanswered: stream.unanswered.len() as u64,
                cut_off: stream.run < self.runs,
            })
            .collect();
        open.sort_unstable_by_key(|session| session.opened_at);
        open
    }
}

impl Stream {
    /// Notes a judged text, and holds a statement to one that stands before it.
    fn text(&mut self, header: &RecordHeader, payload: &Payload<'_>) -> Result<(), Flaw> {
        match payload {
            Payload::JudgedText(_) => {
                self.texts.insert(header.stream_sequence);
            }
            Payload::Statement(statement) if !self.texts.contains(&statement.judged.to_native()) => {
                return Err(order(format!(
                    "statement {} of session {} points to record {}, which holds no judged text",
                    header.stream_sequence,
                    hex(&header.stream),
                    statement.judged
                )));
            }
            Payload::Statement(_)
            | Payload::GatewayStarted(_)
            | Payload::GatewayStopped(_)
            | Payload::DocumentLoaded(_)
            | Payload::Recovered(_)
            | Payload::SessionOpened(_)
            | Payload::Authenticated(_)
            | Payload::AuthenticationDenied(_)
            | Payload::TargetChosen(_)
            | Payload::StatementResult(_)
            | Payload::Refusal(_)
            | Payload::CancelRequested(_)
            | Payload::Masked(_)
            | Payload::Proxied(_)
            | Payload::Routed(_)
            | Payload::SettingMoved(_)
            | Payload::ProtocolViolation(_)
            | Payload::SessionClosed(_) => {}
        }
        Ok(())
    }

    /// Notes what a record expects and what it answers.
    fn answer(&mut self, header: &RecordHeader) -> Result<(), Flaw> {
        if header.refers != REFERS_TO_NONE && header.refers >= header.stream_sequence {
            return Err(order(format!(
                "a record of session {} refers to record {}, which is not before it",
                hex(&header.stream),
                header.refers
            )));
        }
        if header.flags & FLAG_SETTLES != 0 && !self.unanswered.remove(&header.refers) {
            return Err(order(format!(
                "a result of session {} answers record {}, which expects none",
                hex(&header.stream),
                header.refers
            )));
        }
        if header.flags & FLAG_EXPECTS != 0 {
            self.unanswered.insert(header.stream_sequence);
        }
        Ok(())
    }
}

/// Verifies a directory. `progress` hears how many bytes of how many were read. Calls `visit` for every sound record.
///
/// # Errors
/// Only where the directory or a file cannot be read; everything that is wrong with what was read is in the report.
pub fn verify(
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(Position, &RecordView<'_>),
) -> Result<Report, Unreadable> {
    let failed = |path: &Path, error| Unreadable { path: path.to_owned(), error };
    let live = is_locked(directory).map_err(|error| failed(directory, error))?;
    let (indices, total) = segments(directory).map_err(|error| failed(directory, error))?;
    let mut report = Report { live, ..Report::default() };
    let mut streams = Streams::default();
    let mut expected: Option<Expected> = None;
    let mut before = 0;
    for (at, index) in (0..).zip(indices.iter().copied()) {
        if index != at {
            let position = Position { segment: at, offset: 0, sequence: streams.records };
            report.bad = Some(Bad { position, flaw: Flaw::Segment("its file is missing") });
            break;
        }
        let path = directory.join(segment_name(index));
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let mut counted = Counted { file, read: before, total, progress: &mut *progress };
        let mut both = |position: Position, record: &RecordView<'_>| {
            streams.take(position, record)?;
            visit(position, record);
            Ok(())
        };
        let last = index + 1 == indices.len() as u64;
        let walk = walk_segment(&mut counted, index, expected.as_ref(), &mut both)
            .map_err(|error| failed(&path, error))?;
        before = counted.read;
        report.segments += 1;
        report.bytes += walk.end;
        report.head = walk.chain.value();
        report.log_id = report.log_id.or(walk.header.as_ref().map(|header| header.log_id));
        let next = Expected {
            log_id: report.log_id.unwrap_or_default(),
            previous: walk.trailer.unwrap_or_default(),
            next_sequence: walk.chain.next_sequence(),
        };
        let place = Place { path: &path, index, expected: expected.as_ref(), last };
        judge_end(&mut report, &place, walk).map_err(|error| failed(&path, error))?;
        if report.bad.is_some() {
            break;
        }
        expected = Some(next);
    }
    if indices.is_empty() {
        return Err(failed(
            directory,
            io::Error::new(io::ErrorKind::NotFound, "it holds no segment of evidence"),
        ));
    }
    report.records = streams.records;
    report.first_ns = streams.first_ns;
    report.last_ns = streams.last_ns;
    report.runs = streams.runs;
    report.sessions = streams.sessions;
    report.sessions_closed = streams.sessions_closed;
    report.open = streams.open_sessions();
    report.kinds = Kind::ALL.iter().copied().zip(streams.kinds).filter(|(_, count)| *count > 0).collect();
    Ok(report)
}

/// A segment among the others.
struct Place<'p> {
    path: &'p Path,
    index: u64,
    expected: Option<&'p Expected>,
    last: bool,
}

impl Place<'_> {
    /// Whether sound frames stand behind `end` by now: the first look came while they were written.
    fn has_moved_on(&self, end: u64) -> io::Result<bool> {
        let again = walk_segment(&mut File::open(self.path)?, self.index, self.expected, &mut |_, _| Ok(()))?;
        Ok(again.end > end)
    }
}

/// What the end of a segment means: sealed, still written to, torn, or damaged.
fn judge_end(report: &mut Report, place: &Place<'_>, walk: Walk) -> io::Result<()> {
    let sequence = walk.chain.next_sequence();
    let position = Position { segment: place.index, offset: walk.end, sequence };
    let mut file = File::open(place.path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(walk.end))?;
    let tail = scan_tail(&mut file)?;
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
    if report.live && looks_torn && (torn || place.has_moved_on(walk.end)?) {
        report.in_flight_bytes = tail.bytes;
        return Ok(());
    }
    report.torn = torn;
    report.bad = Some(Bad { position, flaw });
    Ok(())
}

/// Whether a gateway holds the directory's lock.
fn is_locked(directory: &Path) -> io::Result<bool> {
    match File::open(directory)?.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Indices of the segments in order, and their bytes in all.
fn segments(directory: &Path) -> io::Result<(Vec<u64>, u64)> {
    let mut indices = Vec::new();
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(index) = entry.file_name().to_str().and_then(segment_index) {
            indices.push(index);
            total += entry.metadata()?.len();
        }
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
