//! The pool of classifier threads: parses for whoever cannot parse where it stands.
//!
//! Owns: [`Parser`], its threads and its queue. May not: know a runtime (answers go to a callback) or parse by itself (that
//! is [`super::door`]). Fair: principals take turns, one parse in flight for each, so that one who sends the worst texts
//! delays nobody by more than the parses in flight. Bounded in texts, texts of one principal, and bytes; what does not
//! fit is refused at once with [`Unparsable::Busy`]. Every accepted text is answered exactly once, also at shutdown.
//!
//! ```text
//!            submit                     a thread takes              answered
//!  (absent) ────────▶ ready, in line ───────────────▶ in flight ─────────────▶ (absent)
//!                          ▲   ▲ submit                │   ▲ submit                │
//!                          │   └────┘                  │   └────┘                  │
//!                          └───────────────────────────┴───── more texts wait ─────┘
//! ```
//! States of one principal's lane; a lane in flight is not in line, which makes it one parse at a time.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::door::{self, Limits, Unparsable};
use super::facts::TextFacts;

/// How the pool is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Threads that parse.
    pub threads: usize,
    /// Texts that may wait, of all principals.
    pub waiting_texts_max: usize,
    /// Texts that may wait, of one principal.
    pub waiting_texts_per_principal_max: usize,
    /// Bytes of text that may wait, of all principals.
    pub waiting_bytes_max: usize,
    /// What a text may be.
    pub limits: Limits,
}

impl Default for PoolSettings {
    fn default() -> Self {
        PoolSettings {
            threads: 2,
            waiting_texts_max: 4096,
            waiting_texts_per_principal_max: 256,
            waiting_bytes_max: 64 * 1024 * 1024,
            limits: Limits::default(),
        }
    }
}

/// Receives the answer, on a thread of the pool: it must hand over and return, never block.
pub type Done = Box<dyn FnOnce(Result<TextFacts, Unparsable>) + Send>;

struct Job {
    text: Arc<[u8]>,
    done: Done,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    in_flight: bool,
}

#[derive(Default)]
struct Queue {
    lanes: HashMap<u64, Lane>,
    /// Principals whose turn may come, in order: those with a waiting text and none in flight.
    ready: VecDeque<u64>,
    texts: usize,
    bytes: usize,
    closed: bool,
}

struct Shared {
    settings: PoolSettings,
    queue: Mutex<Queue>,
    work: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the lock is held; were it so, the queue's counts would still be whole between statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool. Dropping it answers what waits with [`Unparsable::Closed`] and joins its threads.
pub struct Parser {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Parser {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's refusal to start a thread; those already started end.
    pub fn start(settings: PoolSettings) -> std::io::Result<Parser> {
        let shared = Arc::new(Shared { settings, queue: Mutex::default(), work: Condvar::new() });
        let mut parser = Parser { shared, threads: Vec::new() };
        for index in 0..settings.threads.max(1) {
            let shared = Arc::clone(&parser.shared);
            let thread = door::spawn_parser_thread(&format!("parser-{index}"), move || serve(&shared))?;
            parser.threads.push(thread);
        }
        Ok(parser)
    }

    /// The limits that texts are held to.
    pub fn limits(&self) -> &Limits {
        &self.shared.settings.limits
    }

    /// Queues a text under its principal's key. `done` is called once if, and only if, the result is `Ok`.
    ///
    /// # Errors
    /// [`Unparsable::TooLong`], [`Unparsable::Busy`], [`Unparsable::Closed`]: the text was not queued.
    pub fn submit(&self, text: impl Into<Arc<[u8]>>, principal: u64, done: Done) -> Result<(), Unparsable> {
        let text = text.into();
        let settings = &self.shared.settings;
        let (bytes, bytes_max) = (text.len(), settings.limits.text_bytes_max);
        if bytes > bytes_max {
            return Err(Unparsable::TooLong { bytes, bytes_max });
        }
        let mut guard = self.shared.queue();
        let queue = &mut *guard;
        if queue.closed {
            return Err(Unparsable::Closed);
        }
        let full =
            queue.texts >= settings.waiting_texts_max || queue.bytes + bytes > settings.waiting_bytes_max;
        let own = queue.lanes.get(&principal).map_or(0, |l| l.waiting.len());
        if full || own >= settings.waiting_texts_per_principal_max {
            return Err(Unparsable::Busy);
        }
        let lane = queue.lanes.entry(principal).or_default();
        if lane.waiting.is_empty() && !lane.in_flight {
            queue.ready.push_back(principal);
        }
        lane.waiting.push_back(Job { text, done });
        queue.texts += 1;
        queue.bytes += bytes;
        drop(guard);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Texts that wait now.
    pub fn waiting_texts(&self) -> usize {
        self.shared.queue().texts
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let mut guard = self.shared.queue();
        guard.closed = true;
        let lanes = std::mem::take(&mut guard.lanes);
        guard.ready.clear();
        (guard.texts, guard.bytes) = (0, 0);
        drop(guard);
        self.shared.work.notify_all();
        for job in lanes.into_values().flat_map(|lane| lane.waiting) {
            answer(job.done, Err(Unparsable::Closed));
        }
        // A callback may hold the last handle: a thread does not wait for itself.
        let here = thread::current().id();
        for thread in self.threads.drain(..).filter(|t| t.thread().id() != here) {
            // A pool thread ends without panicking: parses and callbacks are fenced.
            if thread.join().is_err() {
                debug_assert!(false, "a parser thread panicked outside its fences");
            }
        }
    }
}

fn serve(shared: &Shared) {
    while let Some((principal, job)) = next(shared) {
        let facts = door::facts_here(&job.text, &shared.settings.limits);
        // The lane goes back in line before the answer, so that the callback finds the principal served.
        finished(shared, principal);
        answer(job.done, facts);
    }
}

/// Waits for a principal's turn; `None` when the pool closes.
fn next(shared: &Shared) -> Option<(u64, Job)> {
    let mut guard = shared.queue();
    loop {
        if guard.closed {
            return None;
        }
        let queue = &mut *guard;
        if let Some(principal) = queue.ready.pop_front()
            && let Some(lane) = queue.lanes.get_mut(&principal)
            && let Some(job) = lane.waiting.pop_front()
        {
            lane.in_flight = true;
            queue.texts -= 1;
            queue.bytes -= job.text.len();
            return Some((principal, job));
        }
        guard = shared.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

fn finished(shared: &Shared, principal: u64) {
    let mut guard = shared.queue();
    let queue = &mut *guard;
    let Some(lane) = queue.lanes.get_mut(&principal) else { return };
    lane.in_flight = false;
    if lane.waiting.is_empty() {
        queue.lanes.remove(&principal);
    } else {
        queue.ready.push_back(principal);
        drop(guard);
        shared.work.notify_one();
    }
}

fn answer(done: Done, facts: Result<TextFacts, Unparsable>) {
    // A callback's panic must not take the thread that other principals wait for.
    if catch_unwind(AssertUnwindSafe(|| done(facts))).is_err() {
        debug_assert!(false, "a callback of the parser panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pool(threads: usize) -> Parser {
        Parser::start(PoolSettings { threads, waiting_texts_per_principal_max: 4, ..PoolSettings::default() })
            .unwrap()
    }

    /// A callback that blocks the thread until told.
    fn gate(parser: &Parser, principal: u64) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (entered, wait_entered) = mpsc::channel();
        let (release, wait_release) = mpsc::channel::<()>();
        let done: Done = Box::new(move |_| {
            entered.send(()).unwrap();
            wait_release.recv().ok();
        });
        parser.submit(&b"select 1"[..], principal, done).unwrap();
        (wait_entered, release)
    }

    #[test]
    fn answers_with_facts() {
        let parser = pool(2);
        let (send, answers) = mpsc::channel();
        parser.submit(&b"select a from t"[..], 1, Box::new(move |r| send.send(r).unwrap())).unwrap();
        let facts = answers.recv().unwrap().unwrap();
        assert_eq!(facts.statements.len(), 1);
        assert_eq!(facts.statements[0].relations[0].name.name, "t");
    }

    #[test]
    fn principals_take_turns() {
        let parser = pool(1);
        let (entered, release) = gate(&parser, 9);
        entered.recv().unwrap();
        let (send, order) = mpsc::channel();
        for principal in [1, 1, 1, 2, 3] {
            let send = send.clone();
            parser
                .submit(&b"select 1"[..], principal, Box::new(move |_| send.send(principal).unwrap()))
                .unwrap();
        }
        release.send(()).unwrap();
        let order: Vec<u64> = (0..5).map(|_| order.recv().unwrap()).collect();
        assert_eq!(order, [1, 2, 3, 1, 1]);
    }

    #[test]
    fn over_full_is_refused_by_name() {
        let parser = pool(1);
        let (entered, release) = gate(&parser, 9);
        entered.recv().unwrap();
        for _ in 0..4 {
            parser.submit(&b"select 1"[..], 1, Box::new(|_| ())).unwrap();
        }
        assert_eq!(parser.submit(&b"select 1"[..], 1, Box::new(|_| ())), Err(Unparsable::Busy));
        // Another principal still fits.
        parser.submit(&b"select 1"[..], 2, Box::new(|_| ())).unwrap();
        release.send(()).unwrap();
    }

    #[test]
    fn too_long_is_refused_before_it_waits() {
        let parser = pool(1);
        let text = vec![b' '; 256 * 1024 + 1];
        let refused = parser.submit(text, 1, Box::new(|_| ()));
        assert_eq!(refused, Err(Unparsable::TooLong { bytes: 262_145, bytes_max: 262_144 }));
    }

    #[test]
    fn what_waits_at_shutdown_is_answered() {
        let parser = pool(1);
        let (entered, release) = gate(&parser, 9);
        entered.recv().unwrap();
        let (send, answers) = mpsc::channel();
        parser.submit(&b"select 1"[..], 1, Box::new(move |r| send.send(r).unwrap())).unwrap();
        let closing = thread::spawn(move || drop(parser));
        assert_eq!(answers.recv().unwrap().unwrap_err(), Unparsable::Closed);
        release.send(()).unwrap();
        closing.join().unwrap();
    }
}
