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

use super::denial::{self, Refusal};
use super::judge::Fence as FenceKind;
use super::names::{Portal, Prepared};
use super::relay::Relay;

/// The barrier of decision 6 while it stands.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) kind: FenceKind,
    /// Record of the statement that raised it: its own Bind, once, and Execute may follow.
    pub(super) own: u64,
    /// That Bind was forwarded.
    pub(super) bound: bool,
    /// A Sync or the end of a Query stands behind it: nothing moves until the server is ready and the guards are read.
    pub(super) closed: bool,
}

impl Fence {
    /// Stands while owed guards are read, behind no statement of its own.
    pub(super) fn reading() -> Self {
        Self { kind: FenceKind::Full, own: u64::MAX, bound: true, closed: true }
    }
}

impl Relay {
    /// A Bind of the statement with this record stands behind the frames so far. A fence only ever gets stronger.
    pub(super) fn raise_fence(&mut self, kind: FenceKind, own: u64) {
        match &mut self.gate.fence {
            Some(fence) => {
                if kind == FenceKind::Full {
                    fence.kind = FenceKind::Full;
                    fence.own = own;
                }
                fence.bound = true;
            }
            None if kind != FenceKind::None => {
                self.gate.fence = Some(Fence { kind, own, bound: true, closed: false });
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

pub(super) fn behind_the_fence() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: barrier",
        "pgturnstile refused a statement that was sent behind one that may change how it is read (it runs code of the \
         database's users, or sets a setting), with no ReadyForQuery between them. Next: end the batch with Sync \
         behind such a statement, and send what follows after its ReadyForQuery",
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
