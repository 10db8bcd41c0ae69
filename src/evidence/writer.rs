//! The writer: one thread that takes records from the lanes, orders them, writes, syncs, and says what is on disk.
//!
//! Owns: batching, the moment of each sync, the marks. May not: hash or serialize payloads (sessions did), nor go on after
//! a failed write or sync: then it stops evidence for everybody ([`Hub::stop`]). Bounds: a batch is at most
//! [`BATCH_RECORDS_MAX`] records or [`BATCH_BYTES_MAX`] bytes; it is written at once when the lanes are empty, but for a gated
//! one whose siblings are expected, which waits for them within the patience that [`Siblings`] measures.
//!
//! Order of durability: append (buffer and chain) → write → credits back → `fdatasync` → marks → wakes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::anchor::Watch;
use super::disk::Claim;
use super::format;
use super::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DOZE_MS, DOZES_UNTIL_SLEEP, FINISH_LIMIT_MS, SPACE_CHECK_INTERVAL_MS,
    UNSYNCED_BYTES_MAX,
};
use super::log::Log;
use super::ring::{Hub, Queued, Rest, Ring};
use super::siblings::Siblings;
use super::state::{Constraint, State, Wanting};

/// What the writer knows of one lane.
struct Tracked {
    ring: Arc<Ring>,
    /// Every ticket below this was written.
    written: u64,
    /// Tickets that were written before one that was taken earlier by another thread.
    ahead: BTreeSet<u64>,
    /// What was published last.
    durable: u64,
    credits: usize,
}

/// Settings of the writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) sync_interval: Duration,
    pub(crate) reserve_bytes: u64,
}

/// The writer's state. [`Writer::turn`] is one round; [`Writer::run`] is the thread.
pub(crate) struct Writer {
    hub: Arc<Hub>,
    log: Log,
    lanes: Vec<Tracked>,
    batch: Vec<(usize, Queued)>,
    batch_bytes: usize,
    siblings: Siblings,
    /// The last turn synced for sessions that waited: they may be about to ask again.
    released: bool,
    first_lane: usize,
    pace: Pace,
    last_sync: Instant,
    last_space_check: Option<Instant>,
    finishing: Arc<AtomicBool>,
    /// Where the durable end is left for checkpoints.
    watch: Option<Arc<Watch>>,
}

/// Stops evidence if the writer's thread ends in any way but the ordered one.
struct StopOnUnwind(Arc<Hub>);

impl Drop for StopOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("internal: the evidence writer panicked");
        }
    }
}

impl Writer {
    pub(crate) fn new(
        hub: Arc<Hub>,
        log: Log,
        pace: Pace,
        finishing: Arc<AtomicBool>,
        watch: Option<Arc<Watch>>,
    ) -> Writer {
        let lanes = hub
            .rings()
            .iter()
            .map(|ring| Tracked {
                ring: Arc::clone(ring),
                written: 0,
                ahead: BTreeSet::new(),
                durable: 0,
                credits: 0,
            })
            .collect();
        Writer {
            hub,
            log,
            lanes,
            batch: Vec::with_capacity(BATCH_RECORDS_MAX),
            batch_bytes: 0,
            siblings: Siblings::new(),
            released: false,
            first_lane: 0,
            pace,
            last_sync: Instant::now(),
            last_space_check: None,
            finishing,
            watch,
        }
    }

    /// The hub, for tests that turn the writer themselves.
    #[cfg(test)]
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Measures free space at the next turn, for tests.
    #[cfg(test)]
    pub(crate) fn forget_space_check(&mut self) {
        self.last_space_check = None;
    }

    /// The thread's body: returns when it was told to finish and all is on disk, or when evidence stopped.
    pub(crate) fn run(mut self) {
        self.hub.adopt_writer();
        let _guard = StopOnUnwind(Arc::clone(&self.hub));
        let mut idle = 0;
        loop {
            match self.turn() {
                Ok(true) => idle = 0,
                Ok(false) if self.finishing.load(Ordering::SeqCst) && self.lanes_empty() => {
                    self.finish();
                    return;
                }
                Ok(false) => {
                    idle += 1;
                    self.rest(idle);
                }
                Err(error) => {
                    tracing::error!(%error, "evidence stopped: a write or sync failed; no byte is released any more");
                    self.hub.stop(&format!("a write or sync of the evidence failed: {error}"));
                    return;
                }
            }
        }
    }

    /// The ordered end: no new record, everything that holds credits is awaited, all of it made durable.
    fn finish(&mut self) {
        self.hub.close_lanes();
        let deadline = Instant::now() + Duration::from_millis(FINISH_LIMIT_MS);
        let mut result = self.turn().map(|_| ());
        while result.is_ok() && !self.hub.all_credits_back() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(DOZE_MS));
            result = self.turn().map(|_| ());
        }
        match result.and_then(|()| self.log.finish()) {
            Ok(()) => {
                self.publish();
                self.leave_end();
                self.hub.stop_in_order("the gateway stopped in order");
            }
            Err(error) => {
                tracing::error!(%error, "evidence could not be finished in order");
                self.hub.stop(&format!("a write or sync of the evidence failed: {error}"));
            }
        }
    }

    fn lanes_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ring.is_empty())
    }

    /// Rests until the next look is due or somebody wakes it.
    fn rest(&self, idle: u32) {
        let unsynced = self.log.unsynced_bytes() > 0;
        // Every lane is looked at, whatever another one said.
        let stragglers = self.lanes.iter().filter(|lane| lane.ring.wake_one()).count() > 0;
        let watched = unsynced || stragglers || !self.is_unconstrained();
        let rest = if idle < DOZES_UNTIL_SLEEP || watched { Rest::Dozing } else { Rest::Asleep };
        self.hub.rest(rest);
        let something = !self.lanes_empty()
            || self.lanes.iter().any(|lane| lane.ring.wants_sync())
            || self.finishing.load(Ordering::SeqCst);
        if !something {
            match rest {
                Rest::Dozing => std::thread::park_timeout(Duration::from_millis(DOZE_MS)),
                Rest::Asleep => std::thread::park(),
                Rest::Awake | Rest::Gathering => {}
            }
        }
        self.hub.rest(Rest::Awake);
    }

    fn is_unconstrained(&self) -> bool {
        matches!(self.hub.state(), State::Running)
    }

    /// One round: a batch from the lanes to the disk. `Ok(false)` where there was none.
    pub(crate) fn turn(&mut self) -> io::Result<bool> {
        self.collect();
        self.await_siblings();
        let mut gated = false;
        let records = !self.batch.is_empty();
        if records {
            self.hub.written().batch(self.batch.len(), self.batch_bytes);
        }
        self.batch_bytes = 0;
        for (lane, queued) in self.batch.drain(..) {
            gated |= queued.gated;
            self.lanes[lane].took(&queued);
            self.log.take(queued.record)?;
        }
        if records {
            self.log.flush()?;
            for lane in &mut self.lanes {
                let credits = std::mem::take(&mut lane.credits);
                if credits > 0 {
                    lane.ring.return_credits(credits);
                }
            }
        }
        if gated || self.sync_is_due() {
            let begun = Instant::now();
            self.log.sync()?;
            self.last_sync = Instant::now();
            let took = self.last_sync.duration_since(begun);
            self.siblings.synced(took);
            self.hub.written().synced(took, self.log.durable_sequence());
            self.publish();
            self.leave_end();
            self.released = gated;
        }
        let (segment, left_bytes) = self.log.segment();
        self.hub.written().segment(segment, left_bytes);
        self.watch_space()?;
        Ok(records)
    }

    /// Gives the siblings of a gated record, and those whom the last sync released, a moment to come along with this one.
    fn await_siblings(&mut self) {
        let released = std::mem::take(&mut self.released);
        let mut here = self.gated_streams();
        if here.is_empty() && !released {
            return;
        }
        let now = Instant::now();
        let expected = self.siblings.expected(now);
        let first = here.len().max(1);
        let waits = here.len() < expected && expected > 1;
        if waits {
            let deadline = now + self.siblings.patience();
            while here.len() < expected && !self.batch_is_full() {
                self.hub.gather(expected - here.len());
                // The look that must follow, before it rests and after.
                self.collect();
                here = self.gated_streams();
                let left = deadline.saturating_duration_since(Instant::now());
                if here.len() >= expected || left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left);
                self.collect();
                here = self.gated_streams();
            }
            self.hub.rest(Rest::Awake);
        }
        if !here.is_empty() {
            let gained = waits.then(|| here.len() - first);
            self.siblings.batch(here, gained, Instant::now());
        }
    }

    /// Streams of the batch's gated records, each once.
    fn gated_streams(&self) -> Vec<u128> {
        let gated = self.batch.iter().filter(|(_, queued)| queued.gated);
        let mut streams: Vec<u128> =
            gated.map(|(_, queued)| u128::from_ne_bytes(format::carried_stream(&queued.record))).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    fn batch_is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS_MAX || self.batch_bytes >= BATCH_BYTES_MAX
    }

    /// Takes from the lanes in turn, beginning with another one each time.
    fn collect(&mut self) {
        let lanes = self.lanes.len();
        self.first_lane = (self.first_lane + 1) % lanes;
        for step in 0..lanes {
            let lane = (self.first_lane + step) % lanes;
            while !self.batch_is_full() {
                let Some(queued) = self.lanes[lane].ring.pop() else { break };
                self.batch_bytes += queued.record.len();
                self.batch.push((lane, queued));
            }
        }
    }

    fn sync_is_due(&self) -> bool {
        if self.lanes.iter().any(|lane| lane.ring.wants_sync() && lane.written > lane.durable) {
            return true;
        }
        let unsynced = self.log.unsynced_bytes();
        unsynced >= UNSYNCED_BYTES_MAX
            || (unsynced > 0 && self.last_sync.elapsed() >= self.pace.sync_interval)
    }

    /// Everything that was written is on disk: says so on every lane where that is news.
    fn publish(&mut self) {
        for lane in &mut self.lanes {
            if lane.durable < lane.written {
                lane.durable = lane.written;
                lane.ring.publish(lane.durable);
            }
        }
    }

    /// Says where the log ends, all of it durable, for the next checkpoint.
    fn leave_end(&self) {
        if let Some(watch) = &self.watch {
            watch.durable(self.log.point());
        }
    }

    /// Claims the next segment in time and measures free space; says where work must be refused for want of it, or of the second
    /// place. Fails where the segment is not there any more.
    fn watch_space(&mut self) -> io::Result<()> {
        let wants_next = self.log.wants_next();
        let interval = Duration::from_millis(SPACE_CHECK_INTERVAL_MS);
        let constrained = !self.is_unconstrained();
        let due = self.last_space_check.is_none_or(|last| last.elapsed() >= interval);
        if !due && (!wants_next || constrained) {
            return Ok(());
        }
        self.last_space_check = Some(Instant::now());
        self.log.still_there()?;
        let overdue = self.watch.as_ref().and_then(|watch| watch.trouble());
        let overdue = overdue.map(|reason| Constraint { wanting: Wanting::SecondPlace, reason });
        let space = |reason: String| Constraint { wanting: Wanting::Space, reason: reason.into() };
        let constraint = self.shortage(wants_next).map(space).or(overdue);
        if self.hub.set_constrained(constraint.clone()) {
            match constraint {
                Some(reason) => {
                    tracing::error!(%reason, "evidence is constrained: new sessions and statements are refused");
                }
                None => tracing::info!("evidence lacks nothing again: work is accepted"),
            }
        }
        Ok(())
    }

    /// What is short, in words for the operator.
    fn shortage(&mut self, wants_next: bool) -> Option<String> {
        if wants_next {
            match self.log.prepare_next() {
                Ok(Claim::Reserved) => {}
                Ok(Claim::ZeroFilled) => {
                    tracing::warn!(
                        "the file system cannot reserve space: the next evidence segment was filled with zeros"
                    );
                }
                Err(error) => return Some(format!("space for the next segment cannot be claimed: {error}")),
            }
        }
        match self.log.free_bytes() {
            Ok(free) => {
                self.hub.written().free(free);
                (free < self.pace.reserve_bytes).then(|| {
                    format!(
                        "{free} bytes are free where the evidence is written; reserve_bytes is {}",
                        self.pace.reserve_bytes
                    )
                })
            }
            Err(error) => Some(format!("free space cannot be measured: {error}")),
        }
    }
}

impl Tracked {
    /// Notes a record as written (it is, once the batch is flushed), in whatever order tickets come.
    fn took(&mut self, queued: &Queued) {
        self.credits += queued.charge as usize;
        if queued.ticket != self.written {
            self.ahead.insert(queued.ticket);
            return;
        }
        self.written += 1;
        while self.ahead.remove(&self.written) {
            self.written += 1;
        }
    }
}
