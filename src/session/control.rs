//! Orders to a running session from outside its task.
//!
//! Owns: one atomic word and one waker for each session; beside them the numbers that the session shows. May not: carry data in. An order is never lost: the waker is
//! registered before the word is read.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;

use super::live::{Live, Seen};

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
    /// It waits for its client, inside a transaction.
    IdleInTransaction,
    /// The same, and the transaction has failed.
    IdleInFailedTransaction,
}

impl Phase {
    /// All.
    pub const ALL: [Phase; 5] = [
        Phase::Idle,
        Phase::Active,
        Phase::AwaitingEvidence,
        Phase::IdleInTransaction,
        Phase::IdleInFailedTransaction,
    ];

    /// As a label's value.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Active => "active",
            Phase::AwaitingEvidence => "awaiting_evidence",
            Phase::IdleInTransaction => "idle_in_transaction",
            Phase::IdleInFailedTransaction => "idle_in_failed_transaction",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Control {
    order: AtomicU8,
    seen: AtomicU8,
    busy: AtomicBool,
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

    /// Whether the target owes the client anything: only then does a cancel request go on.
    pub fn busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
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

    pub(super) fn set_busy(&self, busy: bool) {
        if self.busy.load(Ordering::Relaxed) != busy {
            self.busy.store(busy, Ordering::Release);
        }
    }

    /// Registers the session's task; true when an order stands that it has not seen.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        let order = self.order.load(Ordering::Acquire);
        self.seen.swap(order, Ordering::Relaxed) != order
    }
}
