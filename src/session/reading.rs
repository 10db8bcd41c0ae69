//! The reading of the guarded settings behind a barrier (README decision 6).
//!
//! Owns: when it may be inserted, what came of it, and that the fence falls with it. May not: decide which statements need
//! it (that is [`super::judge`]), or pass its answers to the client. Fails closed: a setting that moved, or that cannot be
//! read, ends the session.

use pgturnstile_proto::BackendTag;
use pgturnstile_proto::backend::{Message, TransactionStatus};

use super::answers::Answers;
use super::by_sql::Told;
use super::copy_in::CopyPhase;
use super::denial::{self, GUARDED};
use super::end::End;
use super::expect::{Expectation, Reading, unasked};
use super::fence::Fence;
use super::gate::Step;
use super::names::Lookup;
use super::relay::Relay;

/// Readings that may be cancelled one behind the other: a client sends its requests for statements, not for these.
const GUARD_READS_CANCELLED_MAX: usize = 16;

impl Relay {
    /// Asks for the guarded settings behind the last answer to what may have moved them.
    pub(super) fn read_guards_if_due(&mut self) -> Result<(), End> {
        // Behind the last answer only: a frame that is still owed, or held until its record is durable, stands before
        // the reading, and its answers must not be taken for the reading's.
        let quiet = self.queue.is_empty() && self.gate.held.is_none();
        // A failed COPY is answered while the rest of a frame of its data is still to come. The reading stands behind
        // that rest: within the frame, the target would take it for data, and the frame's end for a frame of its own.
        let due = quiet && self.gate.at_frame_boundary();
        let shows_portals =
            self.status == TransactionStatus::InTransaction && self.names.has_unseen_portals();
        if due && !shows_portals && self.gate.fence.as_ref().is_some_and(Fence::only_looks) {
            self.gate.fence = None;
        }
        if due && (self.gate.fence_closed() || self.gate.guard_read_owed) {
            self.read_guards()?;
        }
        Ok(())
    }

    /// Asks for the guarded settings before a frame is judged, where the catalog has changed since they were read: a statement
    /// of this session, judged by the old one, may have met code that another session brought. Within a batch it waits for
    /// the batch's end, since nothing that is inserted there is answered before.
    pub(super) fn read_guards_under_new_catalog(&mut self) -> Result<Option<Step>, End> {
        let between = !self.gate.batch_open && self.gate.fence.is_none() && self.gate.copy == CopyPhase::None;
        if !between || !self.judge.catalog_moved() {
            return Ok(None);
        }
        if self.queue.is_empty() && self.gate.at_frame_boundary() {
            self.read_guards()?;
            // In a failed transaction they are owed, and the frame is dealt with as it stands.
            return Ok(self.gate.fence_closed().then_some(Step::Blocked));
        }
        Ok(self.answers_come().then_some(Step::Blocked))
    }

    /// Asks for the guarded settings where a statement can run; remembers it where the transaction has failed.
    ///
    /// Called behind the last answer, with no frame held or half sent: what is inserted here would take a held frame
    /// with it, or stand inside the other.
    pub(super) fn read_guards(&mut self) -> Result<(), End> {
        if !self.queue.is_empty() || self.gate.held.is_some() || !self.gate.at_frame_boundary() {
            return Err(End::gateway("the guarded settings asked for while answers are owed"));
        }
        if self.status == TransactionStatus::Failed {
            self.gate.guard_read_owed = true;
            self.gate.fence = None;
            return Ok(());
        }
        let unnamed = !matches!(self.names.statement(b"", self.batch), Lookup::Absent)
            || !matches!(self.names.portal(b"", self.batch), Lookup::Absent);
        self.judge.temp_unread |= self.names.has_unseen_portals();
        let temporary = self.judge.temp_unread;
        self.judge.reads_guards();
        let texts = GUARDED.len() + usize::from(temporary);
        let again = self.gate.guard_reads_cancelled > 0;
        let (question, answers) = if unnamed {
            (denial::guard_read_beside_unnamed(temporary, again), Answers::by_name(texts, again))
        } else {
            (denial::guard_read(temporary), Answers::of_a_query(texts))
        };
        self.up.insert(question);
        self.queue.push_back(Expectation::GuardRead {
            answers,
            values: Vec::with_capacity(GUARDED.len() + 1),
            reading: Reading::Well,
        });
        self.gate.fence = self.gate.fence.take().or_else(|| Some(Fence::reading()));
        Ok(())
    }

    /// Whether the frame is the next of the reading's answers.
    pub(super) fn is_own_answer(&mut self, tag: BackendTag) -> bool {
        match self.queue.front_mut() {
            Some(Expectation::GuardRead { answers, .. }) => answers.takes(tag),
            Some(_) | None => false,
        }
    }

    /// A description in the answers to a question of the gateway's own: of one column.
    pub(super) fn on_own_description(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        let one = matches!(self.checked(len)?, Message::RowDescription(rows) if rows.len() == 1);
        if !one || !self.is_own_answer(tag) {
            return Err(unasked(tag, self.queue.front()));
        }
        self.down.swallow(len);
        Ok(())
    }

    pub(super) async fn on_guards(
        &mut self,
        values: &[Option<Box<[u8]>>],
        reading: Reading,
    ) -> Result<(), End> {
        match reading {
            Reading::Well => self.gate.guard_reads_cancelled = 0,
            Reading::Cancelled if self.gate.guard_reads_cancelled < GUARD_READS_CANCELLED_MAX => {
                // It has failed an open transaction, as a late cancel fails any statement; else it is read again.
                self.gate.guard_reads_cancelled += 1;
                return self.read_guards();
            }
            Reading::Cancelled | Reading::Failed => {
                return Err(End::gateway(
                    "pgturnstile ended the session: the guarded settings could not be read behind a statement that may \
                     have moved them. Next: reconnect",
                ));
            }
        }
        let (settings, temporary) = match (self.judge.temp_unread, values.split_last()) {
            (true, Some((schema, settings))) => (settings, Some(schema)),
            (true, None) | (false, _) => (values, None),
        };
        if let Some(name) = self.pinned.moved_unreported(settings) {
            self.account.moved(name, "re-read").await;
            return Err(moved_setting(name));
        }
        if let Some(answer) = temporary {
            let told = answer.as_deref().and_then(Told::read);
            let told =
                told.ok_or_else(|| End::gateway("what the target says of the session cannot be read"))?;
            let idle = self.status == TransactionStatus::Idle;
            self.judge.temporary_schema(&told, idle);
            self.names.told(&told);
        }
        self.gate.fence = None;
        self.gate.guard_read_owed = false;
        Ok(())
    }
}

pub(super) fn moved_setting(name: &str) -> End {
    End::client(
        denial::REFUSED,
        format!(
            "pgturnstile ended the session: the guarded setting {name} was moved, and what follows would be judged by \
             another reading than the server's. Next: have the access entry set it, and reconnect"
        ),
    )
}
