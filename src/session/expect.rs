//! What the backend still owes.
//!
//! Owns: one entry for each forwarded request that is answered, in the order of the requests, and the rules by which a
//! backend's frame closes the front entry. May not: write bytes or records. Fails: a frame that the front entry does
//! not expect is the backend's protocol violation, and ends the session.
//!
//! ```text
//!  entry               frames that it takes                                          closed by
//!  ─────────────────   ───────────────────────────────────────────────────────────   ─────────────────────────
//!  Query               T D* C · C · G (C) · H d* c C · E          (for each statement  Z
//!                      until E) │ I (for a text of none)
//!  Parse               1 │ E                                                          either
//!  Bind                2 │ E                                                          either
//!  DescribeStatement   t, then T or n │ E                                             T, n, E
//!  DescribePortal      T or n │ E                                                     any
//!  Execute             D* then C, I or s · H d* c C · G (C) · E                       C, I, s, E
//!  Close               3 │ E                                                          either
//!  Sync                Z · E Z                                                        Z
//!  RefusedParse        E (ours to rewrite)                                            E
//!  RefusedQuery        E (ours to rewrite), Z                                         Z
//!  GuardRead           `answers`, then Z; or E Z: swallowed                           Z
//!  CopyProbe           Z* 3 Z 3 3 Z · Z 3 3 Z: see `copy_probe`                       the last Z
//!
//!  N, S, A              at any moment; they belong to no entry
//!  D                    as wide as its T said; none behind n
//!  E while a batch is open: every entry up to the next Sync is skipped by the server and taken off here
//! ```
//!
//! Source: PostgreSQL documentation, "Message Flow"; `src/backend/tcop/postgres.c` (`ignore_till_sync`,
//! `doing_extended_query_message`).

use std::collections::VecDeque;
use std::sync::Arc;

use pgturnstile_proto::BackendTag;
use pgturnstile_rules::class::Class;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::plan::Plan;
use pgturnstile_rules::policy::Fields;

use super::answers::Answers;
use super::copy_probe::Probe;
use super::denial::Refusal;
use super::drift::Stamp;
use super::end::End;
use super::judge::Decision;
use super::names::{Batch, Portal, Prepared, Undo};
use crate::evidence::Mark;

/// Requests that may be in flight at once in one session; beyond it the client is not read.
pub const EXPECTATIONS_MAX: usize = 4_096;

/// A statement in execution.
#[derive(Debug)]
pub struct Run {
    /// What was decided; names its statements.
    pub decision: Arc<Decision>,
    /// Sequence, within the session, of the record that must stand before its effect.
    pub record: u64,
    /// Its rows may leave once this is durable; `None` when they may leave already.
    pub mark: Option<Mark>,
    /// Which statement of the text is running.
    pub statement: usize,
    /// Monotonic time of forwarding, nanoseconds.
    pub started_ns: u64,
    /// Monotonic time of the first row, nanoseconds; 0 before it.
    pub first_row_ns: u64,
    /// The RowDescription of the current result came: in the simple protocol no row stands without one.
    pub described: bool,
    /// Rows of the current result.
    pub rows: u64,
    /// Bytes of the current result as delivered.
    pub bytes: u64,
    /// Columns of the current result, where they were described.
    pub columns: Option<u16>,
    /// An error closed it.
    pub failed: bool,
    /// The answer to a text without a statement came.
    pub emptied: bool,
    /// Its Execute asked for so many rows at most: it may be suspended.
    pub limited: bool,
    /// A cancel request came before its frame was sent: a stand-in was.
    pub withdrawn: bool,
    /// What looks at its rows, as it stood when it was forwarded.
    pub detectors: Detectors,
    /// What is masked in the current result; made where its rows were described.
    pub plan: Option<Plan>,
    /// The portal that it executes.
    pub portal: Option<Arc<Portal>>,
    /// Whether the catalog was looked at since it was planned.
    pub stamp: Stamp,
    /// The record that describes the rows of its current result, where rows are kept.
    pub row_description: Option<u64>,
}

impl Run {
    /// What its running statement gives, as far as labels go.
    pub fn fields(&self) -> Option<&Fields> {
        self.decision.fields(self.statement).map(AsRef::as_ref)
    }

    /// Whether its rows are looked at.
    pub fn is_looked_at(&self) -> bool {
        !self.detectors.is_empty() || self.fields().is_some_and(|fields| fields.near)
    }

    /// Whether a statement of it is still to be answered: each gives one result, and none stands behind an error.
    pub fn is_running(&self) -> bool {
        !self.failed && self.statement < self.decision.facts.statements.len()
    }

    /// Whether rows may come of the statement that is to be answered, and not as the data of a COPY.
    pub fn may_be_described(&self) -> bool {
        let statement = self.decision.facts.statements.get(self.statement);
        !self.failed && !self.described && statement.is_some_and(|statement| statement.copy.is_none())
    }

    /// Whether it may be answered as a text without a statement.
    pub fn is_empty(&self) -> bool {
        !self.failed && !self.emptied && self.decision.facts.statements.is_empty()
    }

    /// Whether a whole text is answered: each of its statements, or an error in the stead of one and of all behind it.
    pub fn is_answered(&self) -> bool {
        self.failed || !self.is_running() && !self.is_empty()
    }

    /// The class of the statement that runs; `None` for a text without any.
    pub fn class(&self) -> Option<Class> {
        self.decision.facts.statements.get(self.statement).map(|statement| statement.class)
    }

    /// The text's next statement begins.
    pub fn next_statement(&mut self) {
        self.statement += 1;
        self.described = false;
        self.columns = None;
        self.plan = None;
        self.stamp = Stamp::Due;
        self.row_description = None;
        self.rows = 0;
        self.bytes = 0;
        self.first_row_ns = 0;
    }
}

/// How our own reading of the guarded settings goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No error yet.
    Well,
    /// Cancelled: the client's request was for a statement that had just ended.
    Cancelled,
    /// It failed.
    Failed,
}

/// One entry of the queue.
#[derive(Debug)]
pub enum Expectation {
    /// A simple query.
    Query(Box<Run>),
    /// Parse.
    Parse {
        /// Takes the name back when it fails.
        undo: Option<Undo>,
    },
    /// Bind.
    Bind {
        /// Takes the portal back when it fails.
        undo: Option<Undo>,
        /// Its record, in which a failure is noted.
        run: Box<Run>,
    },
    /// Describe of a statement; ParameterDescription comes first.
    DescribeStatement {
        /// Whether it came.
        parameters_seen: bool,
        /// The statement.
        statement: Option<Arc<Prepared>>,
    },
    /// Describe of a portal.
    DescribePortal {
        /// The portal, where the name is known.
        portal: Option<Arc<Portal>>,
        /// It is the gateway's own: its answer goes nowhere.
        ours: bool,
    },
    /// Execute.
    Execute(Box<Run>),
    /// Close.
    Close {
        /// Takes the removal back when it is skipped.
        undo: Option<Undo>,
    },
    /// Sync.
    Sync {
        /// The batch that it closes.
        batch: Batch,
    },
    /// A refused frame of the extended protocol, substituted.
    RefusedParse {
        /// What to say.
        refusal: Arc<Refusal>,
        /// Its reference.
        reference: String,
        /// Where it was a Parse without a name: the statement without a name that it drops, unless the server skips it.
        undo: Option<Undo>,
    },
    /// A refused simple query, substituted.
    RefusedQuery {
        /// What to say.
        refusal: Arc<Refusal>,
        /// Its reference.
        reference: String,
        /// The error of the server came and was rewritten.
        rewritten: bool,
    },
    /// Our own reading of the guarded settings.
    GuardRead {
        /// What is still to come.
        answers: Answers,
        /// Values so far.
        values: Vec<Option<Box<[u8]>>>,
        /// How it goes.
        reading: Reading,
    },
    /// Our own question whether a COPY of the client still runs.
    CopyProbe(Probe),
}

impl Expectation {
    /// For messages about a violation.
    pub fn name(&self) -> &'static str {
        match self {
            Expectation::Query(_) => "Query",
            Expectation::Parse { .. } => "Parse",
            Expectation::Bind { .. } => "Bind",
            Expectation::DescribeStatement { .. } => "Describe (statement)",
            Expectation::DescribePortal { .. } => "Describe (portal)",
            Expectation::Execute(_) => "Execute",
            Expectation::Close { .. } => "Close",
            Expectation::Sync { .. } => "Sync",
            Expectation::RefusedParse { .. } => "a refused frame",
            Expectation::RefusedQuery { .. } => "a refused query",
            Expectation::GuardRead { .. } => "the reading of the guarded settings",
            Expectation::CopyProbe(_) => "whether a COPY runs",
        }
    }

    /// Whether the gateway itself asked: a cancel request is not for it.
    pub fn is_ours(&self) -> bool {
        matches!(self, Expectation::GuardRead { .. } | Expectation::CopyProbe(_))
    }

    /// Whether its answer ends with ReadyForQuery, so that it comes without another frame of the client.
    pub fn ends_with_ready(&self) -> bool {
        match self {
            Expectation::Query(_)
            | Expectation::Sync { .. }
            | Expectation::RefusedQuery { .. }
            | Expectation::GuardRead { .. }
            | Expectation::CopyProbe(_) => true,
            Expectation::Parse { .. }
            | Expectation::Bind { .. }
            | Expectation::DescribeStatement { .. }
            | Expectation::DescribePortal { .. }
            | Expectation::Execute(_)
            | Expectation::Close { .. }
            | Expectation::RefusedParse { .. } => false,
        }
    }

    /// The statement in execution that it stands for.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Expectation::Query(run) | Expectation::Execute(run) | Expectation::Bind { run, .. } => Some(run),
            Expectation::Parse { .. }
            | Expectation::DescribeStatement { .. }
            | Expectation::DescribePortal { .. }
            | Expectation::Close { .. }
            | Expectation::Sync { .. }
            | Expectation::RefusedParse { .. }
            | Expectation::RefusedQuery { .. }
            | Expectation::GuardRead { .. }
            | Expectation::CopyProbe(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Expectation::Query(run) | Expectation::Execute(run) | Expectation::Bind { run, .. } => Some(run),
            Expectation::Parse { .. }
            | Expectation::DescribeStatement { .. }
            | Expectation::DescribePortal { .. }
            | Expectation::Close { .. }
            | Expectation::Sync { .. }
            | Expectation::RefusedParse { .. }
            | Expectation::RefusedQuery { .. }
            | Expectation::GuardRead { .. }
            | Expectation::CopyProbe(_) => None,
        }
    }

    /// The mark that must be durable before any answer to this entry leaves.
    pub fn mark(&self) -> Option<Mark> {
        self.run()?.mark
    }

    /// The mark is durable: it need not be looked at again.
    pub fn release(&mut self) {
        if let Some(run) = self.run_mut() {
            run.mark = None;
        }
    }
}

/// Takes off the front what the server skips after an error in a batch, up to and without the next Sync, the client's or
/// that of a probe. Each is handed to `skipped`, latest first, so that changes are undone in reverse. Whether a Sync stands
/// there; if not, it has yet to be sent, and frames before it are skipped too.
pub fn skip_to_sync(queue: &mut VecDeque<Expectation>, mut skipped: impl FnMut(Expectation)) -> bool {
    let ends = |entry: &Expectation| matches!(entry, Expectation::Sync { .. } | Expectation::CopyProbe(_));
    let boundary = queue.iter().position(ends);
    let count = boundary.unwrap_or(queue.len());
    let taken: Vec<Expectation> = queue.drain(..count).collect();
    for entry in taken.into_iter().rev() {
        skipped(entry);
    }
    boundary.is_some()
}

/// A frame of the backend that the front entry does not expect.
pub(super) fn unasked(tag: BackendTag, front: Option<&Expectation>) -> End {
    End::backend(format!(
        "pgturnstile ended the session: the target sent {} where {} was owed. Next: check what stands between the \
         gateway and PostgreSQL",
        tag.name(),
        front.map_or("nothing", Expectation::name)
    ))
}
