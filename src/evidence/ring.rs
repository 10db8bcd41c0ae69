//! Lanes: how sessions hand records to the one writer without a lock, and learn what is on disk.
//!
//! Owns: the rings, their byte credits, the writer's parking flag, the marks of what is durable and the wakers behind
//! them. May not: know files or payloads. Bounds: a lane holds at most its share of `queue_bytes_max`; who finds no
//! credits waits, and after the stall limit is refused. Nothing is ever dropped. Fails by [`Stopped`] for everybody, once
//! and for good, when the writer stopped.
//!
//! ```text
//!  session ── credits ──> ring (one a shard) ──> writer ──> segment
//!     ^                                            │
//!     └────── durable mark, one wake a lane ───────┘
//! ```
//!
//! One wake a lane: the writer wakes a single waiter of each lane; that task, on its own shard's thread, wakes the others
//! whose marks are reached (a wake within a runtime costs no system call). A waiter that is dropped hands this duty on,
//! and one that is neither polled nor dropped is made up for by the writer's next idle look.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tokio::sync::{Notify, Semaphore};

use super::figures::{Figures, Written};
use super::limits::{CHARGE_BYTES_MIN, LANE_BUDGET_BYTES_MAX, LANE_BUDGET_BYTES_MIN, WAKE_RECORDS};
use super::state::{Constraint, State, Stopped, Unplaced, Wanting};

const RUNNING: u8 = 0;
const CONSTRAINED: u8 = 1;
const STOPPED: u8 = 2;

/// What the writer does, as far as producers care.
///
/// ```text
///            no record            no record for long
///   Awake ─────────────> Dozing ─────────────────────> Asleep
///    │ ^   any look, gated │                              │ any push
///    │ └───────────────────┴──────────────────────────────┘
///    │      siblings are expected
///    └───────────────────────────> Gathering ── enough of them, or patience is over ──> Awake
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rest {
    /// It looks at the rings before it rests again.
    Awake = 0,
    /// It looks again within [`super::limits::DOZE_MS`]; a gated record or a full ring should wake it.
    Dozing = 1,
    /// It looks only when woken.
    Asleep = 2,
    /// It gathers siblings for one sync: it looks again within its patience, or when as many gated records as it waits
    /// for were pushed. Who waits for a mark is covered by that sync and wakes nobody.
    Gathering = 3,
}

/// What a session has for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A record that nobody waits for.
    Queued,
    /// A record that asks for a sync.
    Gated,
    /// Somebody waits for a mark.
    Awaited,
    /// Somebody waits for credits.
    Starved,
}

/// One record on its way.
pub(crate) struct Queued {
    pub(crate) record: Vec<u8>,
    pub(crate) ticket: u64,
    pub(crate) charge: u32,
    pub(crate) gated: bool,
}

#[derive(Default)]
struct Waiters {
    list: Vec<Waiter>,
    next_id: u64,
}

struct Waiter {
    id: u64,
    ticket: u64,
    waker: Waker,
}

/// What sessions and writer share of one lane.
pub(crate) struct Ring {
    index: u32,
    budget: usize,
    queue: ArrayQueue<Queued>,
    credits: Semaphore,
    /// The next ticket. Tickets number the records of a lane.
    tickets: AtomicU64,
    /// Every ticket below this is on disk.
    durable: AtomicU64,
    /// Somebody waits for every ticket below this.
    wanted: AtomicU64,
    waiters: Mutex<Waiters>,
}

/// What all lanes and the writer share.
pub(crate) struct Hub {
    state: AtomicU8,
    constrained: Mutex<Constraint>,
    stopped: OnceLock<Stopped>,
    /// Sessions that ended without room for their closing record.
    unclosed: AtomicU64,
    /// The writer made everything durable before it stopped.
    in_order: AtomicBool,
    stopped_notify: Notify,
    rest: AtomicU8,
    /// Gated records that a gathering writer still waits for; below zero once it was woken.
    missing: AtomicI64,
    writer: OnceLock<Thread>,
    rings: Vec<Arc<Ring>>,
    started: Instant,
    stall_limit: Duration,
    record_bytes_max: u64,
    /// The writer's counters.
    written: Written,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while one of these is held leaves a list or a string whole: going on is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring {
    fn new(index: u32, budget: usize) -> Ring {
        Ring {
            index,
            budget,
            queue: ArrayQueue::new(budget / CHARGE_BYTES_MIN),
            credits: Semaphore::new(budget),
            tickets: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn pop(&self) -> Option<Queued> {
        self.queue.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives back the credits of records whose buffers are gone.
    pub(crate) fn return_credits(&self, charge: usize) {
        self.credits.add_permits(charge);
    }

    /// Whether somebody waits for a ticket that is not durable yet.
    pub(crate) fn wants_sync(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > self.durable.load(Ordering::Relaxed)
    }

    /// Says that every ticket below `durable` is on disk, and wakes one of those who wait for it.
    pub(crate) fn publish(&self, durable: u64) {
        self.durable.store(durable, Ordering::SeqCst);
        self.wake_one();
    }

    /// Wakes one waiter whose mark is reached; says whether there was one.
    pub(crate) fn wake_one(&self) -> bool {
        let durable = self.durable.load(Ordering::SeqCst);
        let waker = {
            let waiters = lock(&self.waiters);
            waiters.list.iter().find(|waiter| waiter.ticket < durable).map(|waiter| waiter.waker.clone())
        };
        match waker {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }

    /// Leaves the list; wakes everybody else whose mark is reached, on this thread.
    fn leave(&self, id: u64) {
        let durable = self.durable.load(Ordering::SeqCst);
        let mut ready = Vec::new();
        {
            let mut waiters = lock(&self.waiters);
            waiters.list.retain_mut(|waiter| {
                if waiter.id == id {
                    return false;
                }
                if waiter.ticket < durable {
                    ready.push(waiter.waker.clone());
                    return false;
                }
                true
            });
        }
        ready.into_iter().for_each(Waker::wake);
    }

    fn wake_all(&self) {
        let all = std::mem::take(&mut lock(&self.waiters).list);
        all.into_iter().for_each(|waiter| waiter.waker.wake());
    }
}

impl Hub {
    pub(crate) fn new(
        lanes: usize,
        stall_limit_ms: u64,
        queue_bytes_max: u64,
        record_bytes_max: u64,
    ) -> Arc<Hub> {
        let lanes = lanes.max(1);
        let share = usize::try_from(queue_bytes_max).unwrap_or(usize::MAX) / lanes;
        let budget = share.clamp(LANE_BUDGET_BYTES_MIN, LANE_BUDGET_BYTES_MAX);
        let rings = (0..).take(lanes).map(|index| Arc::new(Ring::new(index, budget))).collect();
        Arc::new(Hub {
            state: AtomicU8::new(RUNNING),
            constrained: Mutex::new(Constraint { wanting: Wanting::Space, reason: Arc::from("") }),
            stopped: OnceLock::new(),
            unclosed: AtomicU64::new(0),
            in_order: AtomicBool::new(false),
            stopped_notify: Notify::new(),
            rest: AtomicU8::new(Rest::Awake as u8),
            missing: AtomicI64::new(0),
            writer: OnceLock::new(),
            rings,
            started: Instant::now(),
            stall_limit: Duration::from_millis(stall_limit_ms),
            record_bytes_max,
            written: Written::new(),
        })
    }

    pub(crate) fn rings(&self) -> &[Arc<Ring>] {
        &self.rings
    }

    /// The writer's counters; only the writer moves them.
    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    /// The numbers of this moment.
    pub(crate) fn figures(&self) -> Figures {
        let budget: usize = self.rings.iter().map(|ring| ring.budget).sum();
        let free: usize = self.rings.iter().map(|ring| ring.credits.available_permits()).sum();
        self.written.read(budget.saturating_sub(free) as u64, budget as u64)
    }

    /// Lets producers wake this thread. Called once, by the writer.
    pub(crate) fn adopt_writer(&self) {
        // A second writer cannot exist: the hub is built with its one.
        drop(self.writer.set(std::thread::current()));
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            RUNNING => State::Running,
            CONSTRAINED => State::Constrained(lock(&self.constrained).clone()),
            // STOPPED, and no other value is ever stored.
            _ => State::Stopped(self.why_stopped()),
        }
    }

    fn why_stopped(&self) -> Stopped {
        self.stopped.get().cloned().unwrap_or_else(|| Stopped { reason: Arc::from("the writer is gone") })
    }

    fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) == STOPPED
    }

    /// Something is wanting, or is there again. Says whether that is news.
    pub(crate) fn set_constrained(&self, constraint: Option<Constraint>) -> bool {
        let (from, to) = match constraint {
            Some(constraint) => {
                *lock(&self.constrained) = constraint;
                (RUNNING, CONSTRAINED)
            }
            None => (CONSTRAINED, RUNNING),
        };
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes no new record: the gateway stops.
    pub(crate) fn close_lanes(&self) {
        self.rings.iter().for_each(|ring| ring.credits.close());
    }

    /// Whether no record is on its way.
    pub(crate) fn all_credits_back(&self) -> bool {
        self.rings.iter().all(|ring| ring.credits.available_permits() == ring.budget)
    }

    /// Ends evidence for good: everybody who waits, and everybody who comes, learns it.
    pub(crate) fn stop(&self, reason: &str) {
        // The first reason stands.
        drop(self.stopped.set(Stopped { reason: Arc::from(reason) }));
        self.state.store(STOPPED, Ordering::SeqCst);
        for ring in &self.rings {
            ring.credits.close();
            ring.wake_all();
        }
        self.stopped_notify.notify_waiters();
    }

    /// Sessions that ended without their closing record.
    pub(crate) fn unclosed(&self) -> u64 {
        self.unclosed.load(Ordering::SeqCst)
    }

    /// The end that is none for want of anything: all that was taken is on disk.
    pub(crate) fn stop_in_order(&self, reason: &str) {
        self.in_order.store(true, Ordering::SeqCst);
        self.stop(reason);
    }

    /// Whether it ended so.
    pub(crate) fn finished_in_order(&self) -> bool {
        self.in_order.load(Ordering::SeqCst)
    }

    /// Waits until evidence has stopped.
    pub(crate) async fn stopped(&self) -> Stopped {
        let mut notified = std::pin::pin!(self.stopped_notify.notified());
        loop {
            notified.as_mut().enable();
            if self.is_stopped() {
                return self.why_stopped();
            }
            notified.as_mut().await;
            notified.set(self.stopped_notify.notified());
        }
    }

    /// The writer is about to rest. Whoever pushed before this and saw it awake is seen by the look that must follow.
    pub(crate) fn rest(&self, rest: Rest) {
        self.rest.store(rest as u8, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The writer is about to gather that many gated records. As with [`Hub::rest`], a look must follow.
    pub(crate) fn gather(&self, missing: usize) {
        self.missing.store(i64::try_from(missing).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.rest(Rest::Gathering);
    }

    /// Wakes the writer behind news, where it rests in a way that these should end.
    fn nudge(&self, news: News, ring: &Ring) {
        // Pairs with the fence in `rest`: either the writer sees the push, or this sees that it rests.
        fence(Ordering::SeqCst);
        let rest = self.rest.load(Ordering::Relaxed);
        if rest == Rest::Awake as u8 {
            return;
        }
        let full = || ring.queue.len() >= WAKE_RECORDS;
        let wake = if rest == Rest::Gathering as u8 {
            match news {
                News::Gated => self.missing.fetch_sub(1, Ordering::Relaxed) == 1 || full(),
                News::Queued | News::Awaited => full(),
                News::Starved => true,
            }
        } else {
            rest == Rest::Asleep as u8 || news != News::Queued || full()
        };
        if wake && self.rest.swap(Rest::Awake as u8, Ordering::SeqCst) != Rest::Awake as u8 {
            self.wake_writer();
        }
    }

    pub(crate) fn wake_writer(&self) {
        if let Some(thread) = self.writer.get() {
            thread.unpark();
        }
    }
}

/// One shard's way to the writer. Cheap to clone; records keep the order in which they were submitted.
#[derive(Clone)]
pub struct Lane {
    hub: Arc<Hub>,
    ring: Arc<Ring>,
}

impl core::fmt::Debug for Lane {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Lane({})", self.ring.index)
    }
}

/// A record's place in its lane and its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Ticket in the lane.
    ticket: u64,
    /// Number of the record in its stream: what later records refer to.
    pub stream_sequence: u64,
}

impl Mark {
    pub(crate) fn new(ticket: u64, stream_sequence: u64) -> Mark {
        Mark { ticket, stream_sequence }
    }
}

impl Lane {
    pub(crate) fn new(hub: Arc<Hub>, ring: Arc<Ring>) -> Lane {
        Lane { hub, ring }
    }

    /// Index of the lane.
    pub fn index(&self) -> u32 {
        self.ring.index
    }

    /// Whether evidence can be written.
    pub fn state(&self) -> State {
        self.hub.state()
    }

    /// A session ended without its closing record.
    pub(crate) fn left_unclosed(&self) {
        self.hub.unclosed.fetch_add(1, Ordering::SeqCst);
    }

    /// Longest record that a segment takes, bytes.
    pub fn record_bytes_max(&self) -> u64 {
        self.hub.record_bytes_max
    }

    /// One load: nothing stands in the way of new work.
    pub fn is_running(&self) -> bool {
        self.hub.state.load(Ordering::Acquire) == RUNNING
    }

    /// Waits until evidence has stopped: the gateway's signal to end every session and exit.
    pub async fn stopped(&self) -> Stopped {
        self.hub.stopped().await
    }

    /// Nanoseconds since the gateway's evidence was opened, by a clock that never steps.
    pub(crate) fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.hub.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn charge(&self, record: &[u8]) -> u32 {
        // One record may be longer than a small budget: then it takes all of it. The budget fits 32 bits.
        u32::try_from(record.len().clamp(CHARGE_BYTES_MIN, self.ring.budget)).unwrap_or(u32::MAX)
    }

    /// Queues a record if there are credits at once; gives it back where there are none.
    pub(crate) fn try_submit(&self, record: Vec<u8>, gated: bool) -> Result<Result<u64, Vec<u8>>, Stopped> {
        let charge = self.charge(&record);
        match self.ring.credits.try_acquire_many(charge) {
            Ok(permit) => {
                permit.forget();
                self.push(record, charge, gated).map(Ok)
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => Ok(Err(record)),
            Err(tokio::sync::TryAcquireError::Closed) => Err(self.hub.why_stopped()),
        }
    }

    /// Queues a record; waits for credits up to the stall limit. Cancelling the wait leaves no trace.
    pub(crate) async fn submit(&self, record: Vec<u8>, gated: bool) -> Result<u64, Unplaced> {
        let record = match self.try_submit(record, gated).map_err(Unplaced::Stopped)? {
            Ok(ticket) => return Ok(ticket),
            Err(record) => record,
        };
        let charge = self.charge(&record);
        self.hub.nudge(News::Starved, &self.ring);
        match tokio::time::timeout(self.hub.stall_limit, self.ring.credits.acquire_many(charge)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                self.push(record, charge, gated).map_err(Unplaced::Stopped)
            }
            Ok(Err(_closed)) => Err(Unplaced::Stopped(self.hub.why_stopped())),
            Err(_elapsed) => {
                let waited_ms = u64::try_from(self.hub.stall_limit.as_millis()).unwrap_or(u64::MAX);
                Err(Unplaced::Stalled { waited_ms })
            }
        }
    }

    fn push(&self, record: Vec<u8>, charge: u32, gated: bool) -> Result<u64, Stopped> {
        let ticket = self.ring.tickets.fetch_add(1, Ordering::Relaxed);
        let queued = Queued { record, ticket, charge, gated };
        if self.ring.queue.push(queued).is_err() {
            // Credits are at least slots * minimum charge: a full ring means the accounting is wrong, and a record lost.
            self.hub.stop("internal: a ring was full although credits were held");
            return Err(self.hub.why_stopped());
        }
        self.hub.nudge(if gated { News::Gated } else { News::Queued }, &self.ring);
        Ok(ticket)
    }

    /// Whether the record of this mark is on disk. One load.
    pub fn durable(&self, mark: Mark) -> bool {
        mark.ticket < self.ring.durable.load(Ordering::Acquire)
    }

    /// Waits until the record of this mark is on disk; asks for a sync where its record did not. Poll it or drop it.
    pub fn until_durable(&self, mark: Mark) -> UntilDurable<'_> {
        UntilDurable { lane: self, ticket: mark.ticket, id: None }
    }
}

/// See [`Lane::until_durable`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct UntilDurable<'l> {
    lane: &'l Lane,
    ticket: u64,
    id: Option<u64>,
}

impl UntilDurable<'_> {
    fn check(&mut self) -> Option<Result<(), Stopped>> {
        let ring = &self.lane.ring;
        if self.ticket < ring.durable.load(Ordering::SeqCst) {
            if let Some(id) = self.id.take() {
                ring.leave(id);
            }
            return Some(Ok(()));
        }
        self.lane.hub.is_stopped().then(|| Err(self.lane.hub.why_stopped()))
    }
}

impl Future for UntilDurable<'_> {
    type Output = Result<(), Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(done) = this.check() {
            return Poll::Ready(done);
        }
        let ring = &this.lane.ring;
        let first = this.id.is_none();
        {
            let mut waiters = lock(&ring.waiters);
            let id = *this.id.get_or_insert_with(|| {
                waiters.next_id += 1;
                waiters.next_id
            });
            match waiters.list.iter_mut().find(|waiter| waiter.id == id) {
                Some(waiter) => waiter.waker.clone_from(cx.waker()),
                None => waiters.list.push(Waiter { id, ticket: this.ticket, waker: cx.waker().clone() }),
            }
        }
        if first {
            ring.wanted.fetch_max(this.ticket + 1, Ordering::SeqCst);
            this.lane.hub.nudge(News::Awaited, ring);
        }
        // The writer stores before it looks at the list: what it stored before this waiter stood there is seen now.
        match this.check() {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        }
    }
}

impl Drop for UntilDurable<'_> {
    fn drop(&mut self) {
        // It may be the one that was woken for all: the others are woken now.
        if let Some(id) = self.id.take() {
            self.lane.ring.leave(id);
        }
    }
}
