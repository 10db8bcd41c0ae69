//! Checkpoints in operation: when they are due, signing them, and where they go.
//!
//! Owns: the thread that signs, beside the writer; the record of each checkpoint, the second place, the file that a stop
//! leaves; looks at the clock. May not: add a sync, or let the writer or a session wait: the writer only leaves its durable
//! end here behind each sync it makes anyway, under a lock that is held for a copy. Fails by saying so to the operator; a
//! second place that is overdue, or that somebody else writes to, refuses new work until it is repaired.
//!
//! ```text
//!  writer ── end behind each sync ──> Watch ── due: segment, records, interval ──> signer
//!                                                                                    │
//!                log (queued, as every record) <── checkpoint record ────────────────┤
//!                second place          <── the same note, synced there ──────────────┤
//!                last.checkpoint       <── at the ordered end, which no record can follow
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, LAST_NAME, Point, Why};
use super::clock::{self, Reading};
use super::disk::{Disk, write_all_at};
use super::head::Head;
use super::limits::{
    CHECKPOINT_EVERY_RECORDS_DEFAULT, CHECKPOINT_EVERY_S_DEFAULT, CLOCK_LOOK_MS, HEAD_OVERDUE_INTERVALS,
    HEAD_OVERDUE_S_MIN,
};
use super::log::wall_ns;
use super::note::SigningKey;
use super::record::{Entry, How, v1};
use super::session::SessionLog;

/// The same while it is written.
const DRAFT_NAME: &str = "last.checkpoint.new";

/// How checkpoints are made.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The key.
    pub key: SigningKey,
    /// The note by which the key before passed the signing on to it; needed only where the log knows another one.
    pub rotation: Option<String>,
    /// Where the last checkpoint is also kept.
    pub head: Option<PathBuf>,
    /// Most time between two, seconds.
    pub every_s: u64,
    /// Most records between two.
    pub every_records: u64,
}

impl Signing {
    /// By this key, everything else at its default.
    pub fn new(key: SigningKey) -> Signing {
        Signing {
            key,
            rotation: None,
            head: None,
            every_s: CHECKPOINT_EVERY_S_DEFAULT,
            every_records: CHECKPOINT_EVERY_RECORDS_DEFAULT,
        }
    }
}

/// What writer and signer share.
pub(crate) struct Watch {
    state: Mutex<State>,
    news: Condvar,
    every_records: u64,
}

struct State {
    /// The durable end.
    end: Point,
    /// Records below the last end that was signed, or is about to be.
    signed: u64,
    due: Option<Why>,
    finishing: bool,
    trouble: Option<Arc<str>>,
    /// When a note was last kept in the second place; `None` where there is none.
    kept: Option<Instant>,
}

impl State {
    /// A checkpoint over this end is on its way.
    fn begin(&mut self, end: Point) {
        (self.end, self.signed, self.due) = (end, end.records, None);
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What stands in it is replaced by single stores: a panic leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to here is on disk. Called by the writer behind each sync.
    pub(crate) fn durable(&self, end: Point) {
        let mut state = self.lock();
        let due = if end.segment != state.end.segment {
            Some(Why::Rotation)
        } else if end.records.saturating_sub(state.signed) >= self.every_records {
            Some(Why::Records)
        } else {
            None
        };
        state.end = end;
        if due.is_some() {
            state.due = due;
            state.signed = end.records;
            drop(state);
            self.news.notify_one();
        }
    }

    /// Why new work must be refused, if so.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.lock().trouble.clone()
    }

    fn finish(&self) {
        self.lock().finishing = true;
        self.news.notify_one();
    }

    /// Waits until a checkpoint is due, the end has come, or the time is over.
    fn wait(&self, limit: Duration) -> (Point, Option<Why>, bool) {
        let state = self.lock();
        let waited =
            self.news.wait_timeout_while(state, limit, |state| state.due.is_none() && !state.finishing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (state.end, state.due.take(), state.finishing)
    }
}

/// The signer, before its thread runs and after.
pub(crate) struct Signer {
    signing: Signing,
    log_id: [u8; 16],
    disk: Arc<dyn Disk>,
    head: Option<Head>,
    watch: Arc<Watch>,
    last: Instant,
    /// When the second place was last known to be right.
    kept: Instant,
    clock: Reading,
}

/// The signer's thread.
pub(crate) struct Anchor {
    watch: Arc<Watch>,
    thread: JoinHandle<Signer>,
}

impl Signer {
    pub(crate) fn new(
        signing: Signing,
        log_id: [u8; 16],
        disk: Arc<dyn Disk>,
        head: Option<Head>,
        end: Point,
    ) -> Signer {
        let state =
            State { end, signed: end.records, due: None, finishing: false, trouble: None, kept: None };
        let watch = Watch {
            state: Mutex::new(state),
            news: Condvar::new(),
            every_records: signing.every_records.max(1),
        };
        let now = Instant::now();
        Signer {
            signing,
            log_id,
            disk,
            head,
            watch: Arc::new(watch),
            last: now,
            kept: now,
            clock: Reading::now(),
        }
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// What the clocks said when this was made: the first clock record's content.
    pub(crate) fn clock(&self) -> Reading {
        self.clock
    }

    fn sign(&self, point: Point, why: Why) -> String {
        let checkpoint = Checkpoint {
            log_id: self.log_id,
            point,
            time_ns: wall_ns(),
            why,
            second_place: self.head.is_some(),
            key: self.signing.key.verifier().clone(),
        };
        self.signing.key.sign(&checkpoint.text())
    }

    /// Signs the start, before any session: its note, which the caller records.
    ///
    /// # Errors
    /// The second place cannot be written: the gateway does not start.
    pub(crate) fn start(&mut self, point: Point) -> Result<String, String> {
        self.watch.lock().begin(point);
        let note = self.sign(point, Why::Start);
        if let Some(head) = &mut self.head {
            head.keep(&note)?;
            self.watch.lock().kept = Some(Instant::now());
        }
        Ok(note)
    }

    /// Begins the thread. `gateway` is the stream of the gateway's run.
    pub(crate) fn spawn(mut self, gateway: Arc<tokio::sync::Mutex<SessionLog>>) -> std::io::Result<Anchor> {
        let watch = Arc::clone(&self.watch);
        let thread = std::thread::Builder::new().name("evidence-signer".to_owned()).spawn(move || {
            while self.round(&gateway) {}
            self
        })?;
        Ok(Anchor { watch, thread })
    }

    /// One wait and what it brought; whether there is another.
    fn round(&mut self, gateway: &tokio::sync::Mutex<SessionLog>) -> bool {
        let every = Duration::from_secs(self.signing.every_s);
        let look = Duration::from_millis(CLOCK_LOOK_MS);
        let (end, due, finishing) = self.watch.wait(every.saturating_sub(self.last.elapsed()).min(look));
        if finishing {
            return false;
        }
        self.look_at_the_clock(gateway);
        let due = due.or_else(|| (self.last.elapsed() >= every).then_some(Why::Interval));
        if let Some(why) = due {
            self.checkpoint(gateway, end, why);
        }
        true
    }

    fn checkpoint(&mut self, gateway: &tokio::sync::Mutex<SessionLog>, end: Point, why: Why) {
        self.last = Instant::now();
        let note = self.sign(end, why);
        record(gateway, &Entry::Checkpoint(v1::Checkpoint { note: &note }));
        self.keep(&note);
    }

    /// Puts a note into the second place; says trouble where it misses for long, or belongs to somebody else.
    fn keep(&mut self, note: &str) {
        let Some(head) = &mut self.head else { return };
        let limit = HEAD_OVERDUE_S_MIN.max(HEAD_OVERDUE_INTERVALS * self.signing.every_s);
        let trouble = match head.keep(note) {
            Ok(()) => {
                self.kept = Instant::now();
                self.watch.lock().kept = Some(self.kept);
                None
            }
            Err(what) => {
                tracing::error!(%what, "the last checkpoint could not be kept in its second place");
                let overdue = self.kept.elapsed() >= Duration::from_secs(limit);
                overdue.then(|| Arc::from(format!("the second place of the checkpoints is overdue: {what}")))
            }
        };
        self.watch.lock().trouble = trouble;
    }

    fn look_at_the_clock(&mut self, gateway: &tokio::sync::Mutex<SessionLog>) {
        let now = Reading::now();
        if let Some(step_ns) = now.step_since(&self.clock) {
            tracing::warn!(step_ns, "the wall clock stepped");
            let source = clock::source();
            record(gateway, &Entry::Clock(clock_entry("step", &now, step_ns, &source)));
        }
        self.clock = now;
    }

    /// The last checkpoint of an ordered end, over what no record can follow.
    pub(crate) fn stop(mut self) {
        let end = self.watch.lock().end;
        let note = self.sign(end, Why::Stop);
        if let Err(error) = leave(self.disk.as_ref(), &note) {
            tracing::error!(%error, "the last checkpoint could not be left in the evidence directory");
        }
        self.keep(&note);
    }
}

/// What a clock record says.
pub(crate) fn clock_entry<'a>(why: &'a str, now: &Reading, step_ns: i64, source: &'a str) -> v1::Clock<'a> {
    v1::Clock {
        why,
        wall_ns: now.wall_ns,
        boot_ns: now.boot_ns,
        step_ns,
        source,
        synchronized: clock::synchronized(),
    }
}

/// Queues a record of the gateway's own, without waiting for room: what finds none now is said again at the next time.
fn record(gateway: &tokio::sync::Mutex<SessionLog>, entry: &Entry<'_>) {
    match gateway.blocking_lock().try_append(entry, How::QUEUED) {
        Ok(Some(_)) => {}
        Ok(None) => {
            tracing::warn!("the evidence's queue is full: a checkpoint is not recorded; the next one will be")
        }
        Err(error) => tracing::warn!(%error, "a checkpoint is not recorded"),
    }
}

/// Writes the note into the directory: create, write, sync, rename, sync the directory.
fn leave(disk: &dyn Disk, note: &str) -> std::io::Result<()> {
    if disk.list()?.iter().any(|name| name == DRAFT_NAME) {
        disk.remove(DRAFT_NAME)?;
    }
    let file = disk.create(DRAFT_NAME)?;
    write_all_at(file.as_ref(), note.as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(DRAFT_NAME, LAST_NAME)?;
    disk.sync_directory()
}

/// The note that an ordered stop left, if there is one.
pub(crate) fn left(disk: &dyn Disk, most: usize) -> std::io::Result<Option<String>> {
    use std::io::Read;
    if !disk.list()?.iter().any(|name| name == LAST_NAME) {
        return Ok(None);
    }
    let file = disk.open(LAST_NAME)?;
    let mut text = String::new();
    super::disk::Sequential::new(file.as_ref(), 0).take(most as u64 + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// The path of what [`left`] reads.
pub(crate) fn left_path(directory: &Path) -> PathBuf {
    directory.join(LAST_NAME)
}

impl core::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Anchor")
    }
}

impl Anchor {
    /// How long ago a note was last kept in the second place, seconds; `None` where there is none.
    pub(crate) fn kept_ago_s(&self) -> Option<u64> {
        self.watch.lock().kept.map(|kept| kept.elapsed().as_secs())
    }

    /// Ends the thread; the signer is left for [`Signer::stop`].
    pub(crate) fn finish(self) -> Option<Signer> {
        self.watch.finish();
        match self.thread.join() {
            Ok(signer) => Some(signer),
            Err(_) => {
                tracing::error!("the evidence's signer panicked");
                None
            }
        }
    }
}
