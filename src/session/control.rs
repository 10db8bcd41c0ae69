//! Orders to a running session from outside its task.
//!
//! Owns: an atomic word for orders, one for what a cancel request meets, and one waker for each session; beside them the
//! numbers that the session shows. May not: carry data in. An order is never lost: the waker is registered before the word
//! is read.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;

use super::live::{Live, Seen};
use crate::approval::Wake;

/// What a session is told to do. Orders only get stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Nothing.
    None,
    /// End when idle and outside a transaction.
    Drain,
    /// End now.
    End,
    /// End now: the evidence cannot be written any more.
    Unrecorded,
}

/// What a session does, for whoever counts sessions (the names of `pg_stat_activity.state`, where it has them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its client, outside a transaction.
    Idle,
    /// The target owes the client something.
    Active,
    /// It waits for a record to be on disk.
    AwaitingEvidence,
    /// A statement of it waits for people to decide.
    AwaitingApproval,
    /// It waits for its client, inside a transaction.
    IdleInTransaction,
    /// The same, and the transaction has failed.
    IdleInFailedTransaction,
}

impl Phase {
    /// All.
    pub const ALL: [Phase; 6] = [
        Phase::Idle,
        Phase::Active,
        Phase::AwaitingEvidence,
        Phase::AwaitingApproval,
        Phase::IdleInTransaction,
        Phase::IdleInFailedTransaction,
    ];

    /// As a label's value.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Active => "active",
            Phase::AwaitingEvidence => "awaiting_evidence",
            Phase::AwaitingApproval => "awaiting_approval",
            Phase::IdleInTransaction => "idle_in_transaction",
            Phase::IdleInFailedTransaction => "idle_in_failed_transaction",
        }
    }
}

/// What a cancel request meets, as one word, so that a statement that is about to be sent is either withdrawn or cancelled
/// at the target, and never missed between the two.
///
/// ```text
///   the end of a turn: nothing, RUNNING, HELD, or both
///
///   HELD ───────────a cancel request──► WITHDRAWN ◄──it was forwarded── CANCELLING ◄──a cancel request── HELD and RUNNING
///    │                                      │                               │
///    └─ released or dropped ─► RUNNING ◄────┴── a stand-in goes             └── its batch fails ─► RUNNING
/// ```
///
/// While CANCELLING nothing is sent, so that the forwarded request meets what stands before the frame, and nothing behind.
mod work {
    /// The target owes the client something.
    pub(super) const RUNNING: u8 = 1;
    /// A statement waits here: for its record, its verdict, the reading of the guards. All that stands before it is of its
    /// own batch.
    pub(super) const HELD: u8 = 2;
    /// A cancel request came for it, and is on its way to the target.
    pub(super) const CANCELLING: u8 = 4;
    /// A cancel request came for it, and is done.
    pub(super) const WITHDRAWN: u8 = 8;
}

/// What a cancel request has met.
#[derive(Debug)]
pub enum Met<'c> {
    /// Nothing.
    Idle,
    /// The target owes the client something: the request goes on.
    Running,
    /// A statement that was not sent yet, and is withdrawn.
    Held,
    /// The same behind others of its batch, which the target may still run: the request goes on, and the frame is withdrawn
    /// when this is dropped.
    HeldBehind(Withdrawal<'c>),
}

/// See [`Met::HeldBehind`].
#[derive(Debug)]
pub struct Withdrawal<'c>(&'c Control);

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        let Control { work, waker, .. } = self.0;
        // Where the batch has failed meanwhile, the frame is gone already.
        let moved =
            work.compare_exchange(work::CANCELLING, work::WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_ok() {
            waker.wake();
        }
    }
}

/// What becomes of a statement that waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It is sent.
    Released,
    /// A cancel request has come for it.
    Withdrawn,
    /// It stays until such a request has reached the target.
    Stays,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Control {
    order: AtomicU8,
    seen: AtomicU8,
    work: AtomicU8,
    /// Somebody has said something of the statement that waits for people.
    decided: AtomicBool,
    live: Live,
    waker: AtomicWaker,
}

impl Control {
    /// Tells the session; a weaker order than the standing one changes nothing.
    pub fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// The standing order.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::None,
            1 => Order::Drain,
            2 => Order::End,
            _ => Order::Unrecorded,
        }
    }

    /// A cancel request for the session: a statement that waits here is withdrawn by it.
    pub fn cancel(&self) -> Met<'_> {
        let withdraw = |work: u8| match (work & work::HELD > 0, work & work::RUNNING > 0) {
            (true, true) => Some(work::CANCELLING),
            (true, false) => Some(work::WITHDRAWN),
            (false, _) => None,
        };
        match self.work.fetch_update(Ordering::AcqRel, Ordering::Acquire, withdraw) {
            Ok(work) if work & work::RUNNING > 0 => Met::HeldBehind(Withdrawal(self)),
            Ok(_) => {
                self.waker.wake();
                Met::Held
            }
            // One that came before it has withdrawn the frame already.
            Err(work) if work & (work::WITHDRAWN | work::CANCELLING) > 0 => Met::Held,
            Err(work) if work & work::RUNNING > 0 => Met::Running,
            Err(_) => Met::Idle,
        }
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        self.live.phase()
    }

    /// Its numbers now.
    pub fn seen(&self) -> Seen {
        self.live.seen()
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// What a cancel request meets from now on. False where one has come for the held frame: it has to be withdrawn.
    pub(super) fn set_work(&self, running: bool, held: bool) -> bool {
        let work = if running { work::RUNNING } else { 0 } | if held { work::HELD } else { 0 };
        let now = self.work.load(Ordering::Acquire);
        // Beside the session only a request moves the word, where a frame is held.
        let stands = match now {
            now if now == work || now & (work::CANCELLING | work::WITHDRAWN) > 0 => now,
            now => self
                .work
                .compare_exchange(now, work, Ordering::AcqRel, Ordering::Acquire)
                .map_or_else(|moved| moved, |_| work),
        };
        stands & work::WITHDRAWN == 0
    }

    /// Whether a cancel request for the held frame is on its way to the target.
    pub(super) fn cancelling(&self) -> bool {
        self.work.load(Ordering::Acquire) & work::CANCELLING > 0
    }

    /// What has come for a statement that goes on waiting, for people: requests keep meeting it.
    pub(super) fn met_while_held(&self) -> Held {
        match self.work.load(Ordering::Acquire) {
            work if work & work::WITHDRAWN > 0 => Held::Withdrawn,
            work if work & work::CANCELLING > 0 => Held::Stays,
            _ => Held::Released,
        }
    }

    /// What waited waits no longer, if anything did: the common case is that nothing has, and beside the session only a
    /// request for what waits moves the word.
    pub(super) fn release_if_held(&self) -> Held {
        let waited = self.work.load(Ordering::Acquire) & !work::RUNNING > 0;
        if waited { self.release_held() } else { Held::Released }
    }

    /// The record of the held frame is durable. What follows may run, but where it stays.
    pub(super) fn release_held(&self) -> Held {
        let run = |work: u8| (work & work::CANCELLING == 0).then_some(work::RUNNING);
        match self.work.fetch_update(Ordering::AcqRel, Ordering::Acquire, run) {
            Ok(work) if work & work::WITHDRAWN > 0 => Held::Withdrawn,
            Ok(_) => Held::Released,
            Err(_) => Held::Stays,
        }
    }

    /// No frame is held any more, and what follows may run.
    pub(super) fn forget_held(&self) {
        self.work.store(work::RUNNING, Ordering::Release);
    }

    /// Registers the session's task while a statement of it is being judged.
    pub(super) fn listen(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    /// Registers the session's task; true when an order stands that it has not seen, or a frame has to be withdrawn.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        let order = self.order.load(Ordering::Acquire);
        let withdrawn = self.work.load(Ordering::Acquire) & work::WITHDRAWN > 0;
        let decided = self.decided.load(Ordering::Relaxed) && self.decided.swap(false, Ordering::AcqRel);
        self.seen.swap(order, Ordering::Relaxed) != order || withdrawn || decided
    }
}

impl Wake for Control {
    fn wake(&self) {
        self.decided.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_request_goes_on_where_something_runs_and_nowhere_where_nothing_does() {
        let control = Control::default();
        assert!(matches!(control.cancel(), Met::Idle));
        assert!(control.set_work(true, false));
        assert!(matches!(control.cancel(), Met::Running));
        assert!(control.set_work(false, false));
        assert!(matches!(control.cancel(), Met::Idle));
    }

    #[test]
    fn a_held_frame_is_withdrawn_or_released_and_nothing_is_between_the_two() {
        let control = Control::default();
        assert!(control.set_work(false, true));
        assert!(matches!(control.cancel(), Met::Held));
        assert!(matches!(control.cancel(), Met::Held), "as one");
        assert!(!control.set_work(false, true), "the session hears of it at the end of its turn");
        assert_eq!(control.release_held(), Held::Withdrawn, "and where the frame would be sent");
        assert!(matches!(control.cancel(), Met::Running), "what stands in for it runs");
        assert!(control.set_work(true, false));
        assert!(control.set_work(false, true));
        assert_eq!(control.release_held(), Held::Released);
        assert!(matches!(control.cancel(), Met::Running), "what was sent runs");
    }

    #[test]
    fn a_held_frame_behind_others_stays_while_a_request_is_on_its_way() {
        let control = Control::default();
        assert!(control.set_work(true, true));
        let Met::HeldBehind(withdrawal) = control.cancel() else { panic!("it stands behind others") };
        assert!(control.cancelling());
        assert!(control.set_work(true, true), "it is not withdrawn yet");
        assert_eq!(control.release_held(), Held::Stays);
        drop(withdrawal);
        assert!(!control.set_work(true, true));
        assert_eq!(control.release_held(), Held::Withdrawn);
    }

    #[test]
    fn what_has_not_waited_is_no_business_of_the_word() {
        let control = Control::default();
        assert_eq!(control.release_if_held(), Held::Released);
        assert!(matches!(control.cancel(), Met::Idle), "it still says what the last turn said");
        assert!(control.set_work(false, true));
        assert_eq!(control.release_if_held(), Held::Released);
        assert!(matches!(control.cancel(), Met::Running), "what waited runs");
        assert!(control.set_work(false, true));
        assert!(matches!(control.cancel(), Met::Held));
        assert_eq!(control.release_if_held(), Held::Withdrawn);
        assert_eq!(control.release_if_held(), Held::Released, "once");
    }

    #[test]
    fn a_request_for_a_frame_that_went_with_its_batch_withdraws_no_later_one() {
        let control = Control::default();
        assert!(control.set_work(true, true));
        let met = control.cancel();
        control.forget_held();
        assert!(control.set_work(false, true), "another frame is held");
        drop(met);
        assert!(control.set_work(false, true));
        assert_eq!(control.release_held(), Held::Released);
    }
}
