//! A statement that waits for people to decide (README decision 14).
//!
//! Owns: when the client's next frame is held, what it waits for, and what becomes of it. May not: decide who approves (that is
//! [`crate::approval`]), judge, or change a byte of the frame: it stays in the buffer, unscanned, until it is sent or refused.
//! Fails closed: what is sent is the frame whose binding was approved, judged again at that moment; everything else is refused.
//!
//! ```text
//!   judged: held ─► target at rest ─► recorded ─► OPEN ─┬─ approved, by enough people ─► recorded, durable ─► sent, once
//!     ▲              (Flush, or an     (durable,        ├─ denied, time is up, drain ──► recorded ─► refused (or a ticket)
//!     │               own batch)        then shown)     ├─ a cancel request ───────────► recorded ─► refused (57014)
//!     │                                                 ├─ a peer or the session ends ─► recorded ─► the end
//!     │                                                 └─ policy or catalog changed ──► recorded ─┐
//!     └──────────────────────────────────────────────────────── judged anew ◄──────────────────────┘
//! ```
//!
//! Each turn of the session judges the frame again, so that a hold never outlives the verdict that asked for it. While it is
//! open the target owes nothing; nothing behind the frame moves; other sessions of the shard go on. Inside a transaction the
//! guarded settings are read with each notice, so that the server does not take the session for idle.
//!
//! A server counts `statement_timeout` from the first Parse, Bind or Execute of a batch. So a batch that has run nothing, or runs
//! in a transaction block, is ended for the server before the wait, by the reading of the guards: a Sync there changes nothing.
//! Where it would commit, the wait is bounded by that timeout.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::encode;
use pgturnstile_proto::frontend::Message;
use pgturnstile_rules::statement::facts::TransactionControl;
use tokio::time::Instant;

use super::account::Unrecorded;
use super::control::Order;
use super::decision::Decision;
use super::denial::{self, Refusal};
use super::end::End;
use super::expect::Expectation;
use super::gate::{ANSWERS_BYTES_MAX, Step};
use super::hold_words as words;
use super::names::Prepared;
use super::refuse::{Stand, text_of};
use super::relay::Relay;
use super::waiting::Waiting;
use crate::approval::{How, Outcome, Seat, Vote, quorum};
use crate::evidence::Mark;
use crate::evidence::record::v1::Outcome as Result_;

/// Bytes that may wait for a client that is told nothing more.
const NOTICES_BYTES_MAX: usize = 16 * 1024;

/// What became of the record of a statement.
pub(super) enum Recorded {
    /// It stands as this record, and may be sent when the mark is durable.
    As(u64, Option<Mark>),
    /// It is refused, or waits.
    Not(Step),
}

/// How the target was brought to rest before a frame that is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was not.
    None,
    /// By a Flush: it sends what it owes.
    Flushed,
    /// And by the end of its batch.
    Ended,
}

/// What the open batch has bound so far, as far as a Sync of the gateway's own would change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchRuns {
    /// Nothing: a Sync is harmless.
    Nothing,
    /// What runs in a transaction block, and does not end it: the same.
    InBlock,
    /// Anything else: a Sync would commit it.
    Outside,
}

impl BatchRuns {
    /// The same behind one more Bind.
    pub(super) fn and(self, decision: &Decision, status: TransactionStatus) -> Self {
        let mut begins = false;
        for statement in &decision.facts.statements {
            match statement.transaction {
                Some(
                    TransactionControl::Commit | TransactionControl::Rollback | TransactionControl::TwoPhase,
                ) => return BatchRuns::Outside,
                Some(TransactionControl::Begin { .. }) => begins = true,
                Some(TransactionControl::Savepoint | TransactionControl::Mode { .. }) | None => {}
            }
        }
        match self {
            BatchRuns::Outside => BatchRuns::Outside,
            BatchRuns::InBlock => BatchRuns::InBlock,
            BatchRuns::Nothing if begins || status == TransactionStatus::InTransaction => BatchRuns::InBlock,
            BatchRuns::Nothing => BatchRuns::Outside,
        }
    }
}

/// What sets the end of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The rule's own time.
    Rule,
    /// The requester's token expires.
    Token,
    /// The server's `statement_timeout` runs.
    StatementTimeout,
}

impl Limit {
    /// For the record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Limit::Rule => "rule",
            Limit::Token => "token",
            Limit::StatementTimeout => "statement_timeout",
        }
    }
}

/// An open hold.
pub(super) struct Hold {
    /// Its place among the gateway's holds.
    pub(super) seat: Seat,
    /// What an approval binds.
    pub(super) binding: [u8; 32],
    /// The statement's record.
    pub(super) record: u64,
    /// When it was opened.
    pub(super) opened: Instant,
    /// When it ends unanswered.
    pub(super) deadline: Instant,
    /// What sets that.
    pub(super) limit: Limit,
    /// When the client is told again.
    pub(super) next_notice: Instant,
    /// Between two such moments.
    pub(super) every: Duration,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("id", &self.seat.asked().id.to_string()).finish_non_exhaustive()
    }
}

impl Relay {
    /// Records the statement of the frame at the front, once it is approved where it has to be. `prepared`: what a Bind binds;
    /// `None` for a Query.
    pub(super) async fn recorded(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
    ) -> Result<Recorded, End> {
        if (decision.required.is_some() || self.gate.hold.is_some())
            && let Some(recorded) = Box::pin(self.approved(len, stand, decision, prepared)).await?
        {
            return Ok(recorded);
        }
        self.account.follow(&self.judge.ground).await?;
        match self.record(len, decision, prepared).await {
            Ok((record, mark)) => Ok(Recorded::As(record, mark)),
            Err(Unrecorded::Refused(refusal)) => self.refused(len, stand, decision, refusal).await,
            Err(Unrecorded::Ended(end)) => Err(end),
        }
    }

    /// Records it as it stands.
    pub(super) async fn record(
        &mut self,
        len: usize,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
    ) -> Result<(u64, Option<Mark>), Unrecorded> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let Some(prepared) = prepared else {
            return waiting.recorded(self.account.query(decision, text_of(frame))).await;
        };
        match Message::parse(frame) {
            Ok(Message::Bind(bind)) => waiting.recorded(self.account.bind(decision, prepared, &bind)).await,
            Ok(_) => Err(Unrecorded::Ended(End::gateway("a Bind frame that is none"))),
            Err(fault) => Err(Unrecorded::Ended(End::client_fault(&fault))),
        }
    }

    pub(super) async fn refused(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        refusal: Refusal,
    ) -> Result<Recorded, End> {
        self.refuse(len, stand, refusal, Some(Arc::clone(decision))).await.map(Recorded::Not)
    }

    /// Looks whether people have decided; `None` where nobody has to any more.
    async fn approved(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
    ) -> Result<Option<Recorded>, End> {
        let waits = Ok(Some(Recorded::Not(Step::Blocked)));
        if !self.queue.is_empty() {
            self.flush();
            return waits;
        }
        if decision.required.is_none() {
            self.supersede("by policy and catalog as they are now it needs no approval").await?;
            return Ok(None);
        }
        let controls = decision.facts.statements.iter().any(|statement| statement.transaction.is_some());
        if self.status == TransactionStatus::Failed && !controls {
            return self.refused(len, stand, decision, words::failed_transaction()).await.map(Some);
        }
        if self.ends_batch_first()? {
            return waits;
        }
        let binding = self.binding(len, decision, prepared);
        if self.gate.hold.as_ref().is_some_and(|hold| hold.binding != binding) {
            self.supersede("policy, catalog or identity are no longer those that it was held under").await?;
        }
        if self.gate.hold.is_none() {
            return self.ticket_or_hold(len, stand, decision, prepared, binding).await.map(Some);
        }
        self.look_at_hold(len, stand, decision, prepared).await.map(Some)
    }

    /// The target is to send what it owes: it keeps the answers of a batch until it is told.
    fn flush(&mut self) {
        if self.gate.rest == Rest::None && !self.queue.iter().any(Expectation::ends_with_ready) {
            self.gate.rest = Rest::Flushed;
            let mut flush = Vec::with_capacity(5);
            encode::flush(&mut flush);
            self.up.insert(flush);
        }
    }

    /// Ends the open batch for the server, where that changes nothing; see the module.
    fn ends_batch_first(&mut self) -> Result<bool, End> {
        let open = self.gate.batch_open && self.gate.batch_runs != BatchRuns::Outside;
        if !open || self.gate.hold.is_some() || self.gate.rest == Rest::Ended {
            return Ok(false);
        }
        self.gate.rest = Rest::Ended;
        self.read_guards()?;
        Ok(!self.queue.is_empty())
    }

    /// Whether the server stands between two batches, inside a transaction: its idle timeout runs.
    fn idles_in_transaction(&self) -> bool {
        self.status == TransactionStatus::InTransaction
            && (!self.gate.batch_open || self.gate.batch_runs != BatchRuns::Outside)
    }

    async fn look_at_hold(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
    ) -> Result<Recorded, End> {
        let Some(hold) = &self.gate.hold else { return Ok(Recorded::Not(Step::Blocked)) };
        let (now, asked) = (Instant::now(), hold.seat.asked());
        let is_over = now >= hold.deadline;
        if self.control.order() != Order::None {
            let refusal = words::draining(asked);
            self.end_hold(How::Withdrawn, &refusal.safe).await?;
            return self.refused(len, stand, decision, refusal).await;
        }
        let outcome = if is_over { hold.seat.expire() } else { hold.seat.look() };
        let (how, refusal) = match outcome {
            Outcome::Approved(votes) => {
                return self.let_through(len, stand, decision, prepared, &votes).await;
            }
            Outcome::Denied { by, reason } => (How::Denied, words::denied(asked, &by, &reason)),
            Outcome::Open if is_over && hold.limit == Limit::Token => {
                (How::Withdrawn, words::token_expired(&asked.message))
            }
            Outcome::Open if is_over => {
                let limit = hold.limit;
                return self.hold_expired(len, stand, decision, prepared, limit).await;
            }
            Outcome::Open => {
                self.tell_of_hold(now)?;
                return Ok(Recorded::Not(Step::Blocked));
            }
        };
        self.end_hold(how, &refusal.safe).await?;
        self.refused(len, stand, decision, refusal).await
    }

    /// Tells the client that it still waits, and keeps the target from taking the session for idle.
    fn tell_of_hold(&mut self, now: Instant) -> Result<(), End> {
        let Some(hold) = self.gate.hold.as_mut().filter(|hold| now >= hold.next_notice) else {
            return Ok(());
        };
        hold.next_notice = now + hold.every;
        if self.down.outgoing_bytes() < NOTICES_BYTES_MAX {
            self.down.insert(denial::notice(&words::waits(hold.seat.asked(), hold.deadline - now)));
        }
        if self.idles_in_transaction() { self.read_guards() } else { Ok(()) }
    }

    /// Enough people have approved it: it goes, once its release is on disk.
    async fn let_through(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        votes: &[Vote],
    ) -> Result<Recorded, End> {
        let Some(hold) = self.gate.hold.take() else { return Ok(Recorded::Not(Step::Blocked)) };
        let people = &hold.seat.settings().people;
        // Asked again by whoever sends: the configuration may have learnt since who is whom.
        if quorum::missing(hold.seat.asked(), votes, people).iter().any(|missing| *missing > 0) {
            self.gate.hold = Some(hold);
            self.supersede("the people who approved it are no longer enough").await?;
            return Ok(Recorded::Not(Step::Done));
        }
        match self.account.hold_ended(&hold, How::Released, "approved", votes).await {
            Ok(mark) => {
                let record = hold.record;
                match prepared {
                    None => self.account.may_run(decision),
                    Some(_) => self.account.bound(decision, record),
                }
                hold.seat.end(How::Released, "approved".to_owned());
                Ok(Recorded::As(record, Some(mark)))
            }
            Err(Unrecorded::Refused(refusal)) => {
                self.gate.was_held = Some(hold.record);
                self.refused(len, stand, decision, refusal).await
            }
            Err(Unrecorded::Ended(end)) => Err(end),
        }
    }

    /// The hold ends without being let through; what refuses the statement then answers its record.
    pub(super) async fn end_hold(&mut self, how: How, reason: &str) -> Result<(), End> {
        let Some(hold) = self.gate.hold.take() else { return Ok(()) };
        self.gate.was_held = Some(hold.record);
        let ended = self.account.hold_ended(&hold, how, reason, &[]).await;
        hold.seat.end(how, reason.to_owned());
        match ended {
            // It is refused either way.
            Ok(_) | Err(Unrecorded::Refused(_)) => Ok(()),
            Err(Unrecorded::Ended(end)) => Err(end),
        }
    }

    /// What was held is judged anew: it gets another record.
    async fn supersede(&mut self, why: &str) -> Result<(), End> {
        self.end_hold(How::Superseded, why).await?;
        self.settle_held().await
    }

    async fn settle_held(&mut self) -> Result<(), End> {
        match self.gate.was_held.take() {
            Some(record) => self.account.settle(record, Result_::Skipped, None).await,
            None => Ok(()),
        }
    }

    /// The frame at the front is refused: a hold of it ends with that. The record that the refusal answers.
    pub(super) async fn held_no_longer(&mut self, refusal: &Refusal) -> Result<Option<u64>, End> {
        if self.gate.hold.is_some() {
            let withdrawn = refusal.sqlstate == denial::CANCELLED;
            let how = if withdrawn { How::Withdrawn } else { How::Superseded };
            self.end_hold(how, &refusal.safe).await?;
        }
        Ok(self.gate.was_held.take())
    }

    /// The session ends, and its hold with it.
    pub(super) async fn hold_ends_with_the_session(&mut self, end: &End) {
        if self.gate.hold.is_none() {
            return;
        }
        let mut ended = self.end_hold(How::Withdrawn, &end.reason()).await;
        if ended.is_ok() {
            ended = self.settle_held().await;
        }
        if let Err(unrecorded) = ended {
            tracing::debug!(reason = %unrecorded.reason(), "the end of a hold is not recorded");
        }
    }

    /// When an open hold is looked at again, whatever happens; `None` where something else has to happen first.
    pub(super) fn hold_is_looked_at(&self) -> Option<Instant> {
        let waits = self.queue.is_empty() && self.down.outgoing_bytes() <= ANSWERS_BYTES_MAX;
        self.gate.hold.as_ref().filter(|_| waits).map(|hold| hold.deadline.min(hold.next_notice))
    }
}

/// What is held at its Bind would run before that.
pub(super) fn analysed_before_approval() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: analysed-before-approval",
        "pgturnstile refused a Parse: the statement needs approval, and a type in it runs code of the database's users already while \
         it is prepared. Next: send it as a simple query, where it is held before anything runs",
    )
}

#[cfg(test)]
mod tests {
    use pgturnstile_rules::statement::facts_here;
    use pgturnstile_rules::statement::{Limits, spawn_parser_thread};

    use super::*;

    fn behind(batch: &[&'static str], status: TransactionStatus) -> BatchRuns {
        let texts: Vec<&'static str> = batch.to_vec();
        let run = move || {
            let mut runs = BatchRuns::Nothing;
            for text in texts {
                let facts = Arc::new(facts_here(text.as_bytes(), &Limits::default()).unwrap());
                runs = runs.and(&Decision { facts, ..Decision::for_tests() }, status);
            }
            runs
        };
        spawn_parser_thread("test", run).unwrap().join().unwrap()
    }

    #[test]
    fn a_sync_of_ours_stands_only_where_it_commits_nothing() {
        use TransactionStatus::{Idle, InTransaction};
        assert_eq!(behind(&[], Idle), BatchRuns::Nothing);
        assert_eq!(behind(&["BEGIN"], Idle), BatchRuns::InBlock, "as pgjdbc begins");
        assert_eq!(behind(&["BEGIN", "INSERT INTO t VALUES (1)"], Idle), BatchRuns::InBlock);
        assert_eq!(behind(&["INSERT INTO t VALUES (1)"], Idle), BatchRuns::Outside);
        assert_eq!(behind(&["INSERT INTO t VALUES (1)", "BEGIN"], Idle), BatchRuns::Outside);
        assert_eq!(behind(&["INSERT INTO t VALUES (1)", "SAVEPOINT a"], InTransaction), BatchRuns::InBlock);
        for end in ["COMMIT", "ROLLBACK", "PREPARE TRANSACTION 'x'"] {
            assert_eq!(behind(&["SELECT 1", end], InTransaction), BatchRuns::Outside, "{end}");
            assert_eq!(behind(&[end, "BEGIN"], InTransaction), BatchRuns::Outside, "{end}");
        }
    }
}
