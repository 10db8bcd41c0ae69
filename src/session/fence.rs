//! The barrier of README decision 6 while it stands.
//!
//! Owns: which frames may follow a statement that runs code of the database's users or sets a setting, before the server
//! has said ReadyForQuery and the guarded settings have been read again. May not: decide which statements those are (that
//! is [`super::judge`]). Fails closed: a fence only ever gets stronger until it falls.
//!
//! ```text
//!   none ──Bind, Query, or Parse of such a statement──► open ──Sync, or the end of the Query──► closed
//!    ▲                                                                                             │
//!    └───────────── ReadyForQuery, then the guarded settings read as they were at login ───────────┘
//! ```
//!
//! A *full* fence lets nothing through but its own portal. A *relaxed* one stands behind a statement whose relations run code
//! (triggers, views, rules, defaults): that code may have moved a name, the role or another guarded setting, and may move it
//! back before anybody reads it. The same write may come again, so that a batch fills a table that has triggers, and the
//! transaction may end; nothing else follows in the batch. A Parse raises one too, where analysis alone may run code.

use std::sync::Arc;

use pgturnstile_rules::resolve::same_rows;
use pgturnstile_rules::statement::facts::TextFacts;

use super::denial::{self, Refusal};
use super::expect::Expectation;
use super::judge::{Decision, Fence as FenceKind};
use super::names::{Portal, Prepared};
use super::relay::Relay;

/// The barrier of decision 6 while it stands.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) kind: FenceKind,
    /// Record of the statement that raised it: its own Bind, once, and Execute may follow.
    pub(super) own: u64,
    /// What its text says: a write may come again, so that a batch fills a table that has triggers.
    pub(super) own_facts: Option<Arc<TextFacts>>,
    /// That Bind was forwarded.
    pub(super) bound: bool,
    /// A Sync or the end of a Query stands behind it: nothing moves until the server is ready and the guards are read.
    pub(super) closed: bool,
    /// What its statement does, for those that are refused behind it.
    pub(super) why: &'static str,
}

impl Fence {
    /// Behind a whole Query: closed at once.
    pub(super) fn of_query(decision: &Decision, own: u64) -> Self {
        Self {
            kind: decision.fence,
            own,
            own_facts: Some(Arc::clone(&decision.facts)),
            bound: true,
            closed: true,
            why: decision.bars_because(),
        }
    }

    /// Behind a Parse, or a Describe that has the text analysed anew, that may run code itself. Behind a full one only its own
    /// Bind may follow.
    pub(super) fn of_analysis(decision: &Decision, own: u64) -> Self {
        Self {
            kind: decision.fence,
            own,
            own_facts: Some(Arc::clone(&decision.facts)),
            bound: false,
            closed: false,
            why: decision.bars_because(),
        }
    }

    /// Stands while owed guards are read, behind no statement of its own.
    pub(super) fn reading() -> Self {
        let why = "the guarded settings are being read";
        Self { kind: FenceKind::Full, own: u64::MAX, own_facts: None, bound: true, closed: true, why }
    }

    /// Stands at a batch's end until the server has said which portals it has: behind code that runs next it could not be
    /// told whose they are.
    pub(super) fn of_portals() -> Self {
        Self { kind: FenceKind::None, ..Self::reading() }
    }

    /// Whether it stands for [`Self::of_portals`] alone.
    pub(super) fn only_looks(&self) -> bool {
        self.kind == FenceKind::None
    }
}

impl Relay {
    /// A whole Query is on its way.
    pub(super) fn fence_query(&mut self, decision: &Decision, own: u64) {
        if decision.fence != FenceKind::None {
            self.gate.fence = Some(Fence::of_query(decision, own));
        } else if decision.copies_in == 0 && self.names.has_unseen_portals() {
            self.gate.fence = Some(Fence::of_portals());
        }
    }

    /// A Sync ends the batch.
    pub(super) fn close_fence(&mut self) {
        match &mut self.gate.fence {
            Some(fence) => fence.closed = true,
            None if self.names.has_unseen_portals() => self.gate.fence = Some(Fence::of_portals()),
            None => {}
        }
    }

    /// A Bind of the statement with this record stands behind the frames so far, or an Execute: it runs. A fence only ever gets
    /// stronger.
    pub(super) fn raise_fence(&mut self, decision: &Decision, own: u64) {
        self.judge.runs(decision);
        let kind = decision.fence;
        match &mut self.gate.fence {
            Some(fence) => {
                if kind == FenceKind::Full {
                    fence.kind = FenceKind::Full;
                    fence.own = own;
                    fence.why = decision.bars_because();
                }
                fence.bound = true;
            }
            None if kind != FenceKind::None => {
                let own_facts = Some(Arc::clone(&decision.facts));
                let why = decision.bars_because();
                self.gate.fence = Some(Fence { kind, own, own_facts, bound: true, closed: false, why });
            }
            None => {}
        }
    }

    pub(super) fn fence_admits_bind(&self, statement: &Prepared) -> bool {
        self.gate.fence.as_ref().is_none_or(|fence| match fence.kind {
            FenceKind::None | FenceKind::Relaxed => true,
            FenceKind::Full => fence.own == statement.record && !fence.bound,
        })
    }

    /// Whether a judged text may follow behind a relaxed fence: what only ends or divides the transaction, and the fence's own
    /// write again, where nothing that was moved meanwhile could make another thing of it.
    pub(super) fn relaxed_fence_admits(&self, decision: &Decision) -> bool {
        let Some(fence) = self.gate.fence.as_ref().filter(|fence| fence.kind == FenceKind::Relaxed) else {
            return true;
        };
        // Facts are remembered by exact text. Digests would not do: two PREPAREs of one text share it, and not what they carry.
        let again = |own: &Arc<TextFacts>| {
            Arc::ptr_eq(own, &decision.facts) || same_rows(&own.lifted, &decision.facts.lifted)
        };
        decision.only_controls_transaction()
            || decision.repeatable && fence.own_facts.as_ref().is_some_and(again)
    }

    /// A Describe analyses its statement, perhaps anew, under whatever path the code before has left: it is admitted as its text
    /// would be, or with the statement that raised the fence.
    pub(super) fn fence_admits_describe(&self, statement: &Prepared, decision: &Decision) -> bool {
        self.gate.fence.as_ref().is_none_or(|fence| {
            fence.own == statement.record
                || fence.kind != FenceKind::Full && self.relaxed_fence_admits(decision)
        })
    }

    /// Why a Bind of an allowed text does not go on here.
    pub(super) fn refuses_bind(
        &self,
        name: &[u8],
        statement: &Prepared,
        decision: &Decision,
    ) -> Option<Refusal> {
        if !self.relaxed_fence_admits_bind(statement, decision) {
            return Some(behind_code());
        }
        if self.gate.guard_read_owed && !decision.only_controls_transaction() {
            return Some(owed());
        }
        // In a failed transaction the server runs nothing that PREPARE could have made, until an Execute has ended it.
        let executed = self.queue.iter().any(|entry| matches!(entry, Expectation::Execute(_)));
        let still_failed = self.gate.guard_read_owed && !executed;
        (!still_failed && self.names.is_doubtful(name, statement)).then(behind_code)
    }

    /// As [`Self::relaxed_fence_admits`]; and the Bind that belongs to the Parse that raised it.
    pub(super) fn relaxed_fence_admits_bind(&self, statement: &Prepared, decision: &Decision) -> bool {
        self.gate.fence.as_ref().is_some_and(|fence| fence.own == statement.record && !fence.bound)
            || self.relaxed_fence_admits(decision)
    }

    /// A portal was planned at its Bind, and yet it runs as whoever the code before has made the session: another one than
    /// the fence's own is admitted as its text would be.
    pub(super) fn relaxed_fence_admits_run(&self, portal: &Portal, decision: &Decision) -> bool {
        self.gate.fence.as_ref().is_some_and(|fence| fence.own == portal.statement.record)
            || self.relaxed_fence_admits(decision)
    }

    pub(super) fn fence_admits_execute(&self, portal: &Portal) -> bool {
        self.gate.fence.as_ref().is_none_or(|fence| match fence.kind {
            FenceKind::None | FenceKind::Relaxed => true,
            FenceKind::Full => fence.own == portal.statement.record,
        })
    }
}

/// Whether a text may follow in the fenced batch.
pub(super) fn fence_admits_text(fence: Option<&Fence>, text: &[u8]) -> bool {
    match fence.map(|fence| fence.kind) {
        None | Some(FenceKind::None) => true,
        Some(FenceKind::Relaxed) => pgturnstile_rules::statement::is_plain(text),
        Some(FenceKind::Full) => false,
    }
}

pub(super) fn behind_the_fence(fence: Option<&Fence>) -> Refusal {
    let why = fence.map_or("a barrier stands", |fence| fence.why);
    Refusal::built_in(
        denial::REFUSED,
        "built-in: barrier",
        format!(
            "pgturnstile refused a statement that was sent behind one that may change how it is read ({why}), with no \
             ReadyForQuery between them. Next: end the batch with Sync behind such a statement, and send what follows after \
             its ReadyForQuery"
        ),
    )
}

pub(super) fn behind_code() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: barrier",
        "pgturnstile refused a statement that was sent behind another one, which may change what names mean and as whom it \
         runs (a trigger, rule, view or default runs code of the database's users), with no ReadyForQuery between them. \
         Next: end the batch with Sync behind such a statement",
    )
}

/// With the SQLSTATE that the server gives to every statement in a failed transaction: drivers know it.
pub(super) fn owed() -> Refusal {
    Refusal::built_in(
        denial::IN_FAILED_TRANSACTION,
        "built-in: guards-unread",
        "pgturnstile refused a statement: the transaction failed behind one that may have moved a guarded setting, \
         and the settings cannot be read in it. Next: send ROLLBACK, or ROLLBACK TO a savepoint, by itself",
    )
}
