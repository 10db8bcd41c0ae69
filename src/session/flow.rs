//! The backend gate: what a backend's frame closes, and when it may go on to the client.
//!
//! Owns: the order record of the result → release, and the rewriting of the errors of substituted frames. May not: write to
//! a socket, or judge. Fails closed: a frame that nothing asked for, an
//! authentication request after login, a second BackendKeyData, CopyBoth, or a guarded setting that moved ends the
//! session.

use pgturnstile_proto::backend::{self, Message, TransactionStatus};
use pgturnstile_proto::{BackendTag, Format, encode};
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::side::Report;

use super::capture::{Of, Piece};
use super::copy_in::CopyPhase;
use super::denial::{self, SYNTAX_ERROR};
use super::end::End;
use super::expect::{self, Expectation, Reading, Run, unasked};
use super::gate::Step;
use super::masking::{Seen, Told};
use super::names::Batch;
use super::reading::moved_setting;
use super::refuse::Skip;
use super::relay::Relay;

/// What a run of rows came to.
pub enum Outcome<'a> {
    /// With its command tag.
    Complete(&'a [u8]),
    /// An empty text.
    Empty,
    /// The row limit of an Execute.
    Suspended,
    /// An error, with its SQLSTATE.
    Error(&'a [u8]),
}

impl Relay {
    /// Deals with as many of the backend's frames as are here and may move; whether any did.
    pub(super) async fn backend_frames(&mut self) -> Result<bool, End> {
        let mut moved = false;
        loop {
            match self.backend_frame().await? {
                Step::Done => moved = true,
                Step::NeedBytes => {
                    self.answers_wait = false;
                    return Ok(moved);
                }
                Step::Blocked => {
                    self.answers_wait = true;
                    return Ok(moved);
                }
            }
        }
    }

    async fn backend_frame(&mut self) -> Result<Step, End> {
        if self.rows_left > 0 {
            return self.stream_row(0).await;
        }
        let Some(header) = backend::Header::peek(self.down.unscanned(), &self.limits)
            .map_err(|fault| End::backend_fault(&fault))?
        else {
            return Ok(Step::NeedBytes);
        };
        // Nothing that answers a statement leaves before the record of the statement is durable.
        if let Some(front) = self.queue.front_mut()
            && let Some(mark) = front.mark()
        {
            let durable = self.account.durable(mark)?;
            if !durable && !self.account.stays() {
                return Ok(Step::Blocked);
            }
            front.release();
            if !durable {
                // It is dealt with, and stays here: one sync then covers the statement and its rows.
                self.stay(Some(mark), false);
            }
        }
        if !self.is_stamped().await? {
            return Ok(Step::Blocked);
        }
        if matches!(header.tag, BackendTag::DataRow | BackendTag::CopyData) {
            self.gate.copy_syncs.answered(header.tag);
            return self.on_rows(header.tag, header.len).await;
        }
        if self.down.unscanned().len() < header.len {
            self.down.make_room(header.len);
            return Ok(Step::NeedBytes);
        }
        self.gate.copy_syncs.answered(header.tag);
        self.answer(header.tag, header.len).await?;
        Ok(Step::Done)
    }

    async fn answer(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        match tag {
            BackendTag::ReadyForQuery => self.on_ready(len).await,
            BackendTag::CommandComplete => self.on_complete(len).await,
            BackendTag::ErrorResponse => self.on_error(len).await,
            BackendTag::RowDescription | BackendTag::NoData | BackendTag::ParameterDescription => {
                self.on_description(tag, len).await
            }
            BackendTag::ParseComplete | BackendTag::BindComplete | BackendTag::CloseComplete => {
                self.on_acknowledged(tag, len)
            }
            BackendTag::EmptyQueryResponse | BackendTag::PortalSuspended => self.on_other_end(tag, len).await,
            BackendTag::CopyInResponse | BackendTag::CopyOutResponse | BackendTag::CopyDone => {
                self.on_copy(tag, len).await
            }
            BackendTag::ParameterStatus => self.on_parameter(len).await,
            BackendTag::NoticeResponse => {
                self.checked(len)?;
                let masked = self.masked_report(Report::Notice, len).await?;
                self.tell(len, Report::Notice, masked).await
            }
            BackendTag::NotificationResponse => self.on_notification(len).await,
            BackendTag::DataRow | BackendTag::CopyData => Err(End::gateway("rows outside their path")),
            BackendTag::Authentication
            | BackendTag::BackendKeyData
            | BackendTag::NegotiateProtocolVersion
            | BackendTag::CopyBothResponse
            | BackendTag::FunctionCallResponse => Err(unasked(tag, self.queue.front())),
        }
    }

    /// Reads the whole frame, so that nothing is passed on unread.
    pub(super) fn checked(&self, len: usize) -> Result<Message<'_>, End> {
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        Message::parse(frame).map_err(|fault| End::backend_fault(&fault))
    }

    async fn on_description(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        if let Some(Expectation::GuardRead { .. }) = self.queue.front() {
            return self.on_own_description(tag, len);
        }
        let recorded = self.describe_rows(tag, len).await?;
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let message = Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?;
        let rows = if let Message::RowDescription(rows) = &message { Some(rows) } else { None };
        let ground = &self.judge.ground;
        match (self.queue.front_mut(), tag) {
            (Some(Expectation::Query(run)), BackendTag::RowDescription) if run.may_be_described() => {
                run.described = true;
                run.columns = rows.and_then(|rows| u16::try_from(rows.len()).ok());
                run.row_description = recorded;
                let told = Told::of(&run.decision, run.statement, ground);
                run.plan = match rows {
                    Some(rows) if run.is_looked_at() || told.has_labels() => Some(self.masking.plan(
                        rows.len(),
                        rows.iter().map(Seen::of),
                        &told,
                        run.detectors,
                    )?),
                    Some(_) | None => None,
                };
                self.down.pass(len);
            }
            (
                Some(Expectation::DescribeStatement { parameters_seen, statement }),
                BackendTag::ParameterDescription,
            ) if !*parameters_seen => {
                *parameters_seen = true;
                if let (Some(statement), Message::ParameterDescription(parameters)) = (statement, &message)
                    && self.account.recorder.keeps_texts()
                {
                    statement.types().set(parameters.types());
                }
                self.down.pass(len);
            }
            (
                Some(Expectation::DescribeStatement { parameters_seen: true, .. }),
                BackendTag::RowDescription | BackendTag::NoData,
            ) => {
                self.queue.pop_front();
                self.down.pass(len);
            }
            (
                Some(Expectation::DescribePortal { portal, ours }),
                BackendTag::RowDescription | BackendTag::NoData,
            ) => {
                if let Some(portal) = portal {
                    let told = Told::of(&portal.statement.decision, 0, ground);
                    if let (Some(rows), true) = (rows, told.has_labels()) {
                        self.masking.plan(rows.len(), rows.iter().map(Seen::of), &told, Detectors::NONE)?;
                    }
                    portal.described.answered(rows, recorded);
                }
                let ours = *ours;
                self.queue.pop_front();
                if ours {
                    self.down.swallow(len);
                } else {
                    self.down.pass(len);
                }
            }
            (front, tag) => return Err(unasked(tag, front.as_deref())),
        }
        Ok(())
    }

    fn on_acknowledged(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        self.checked(len)?;
        let probed = match self.queue.front_mut() {
            Some(Expectation::CopyProbe(probe)) => tag == BackendTag::CloseComplete && probe.closed(),
            Some(_) | None => false,
        };
        if probed || self.is_own_answer(tag) {
            self.down.swallow(len);
            return Ok(());
        }
        let undo = match (self.queue.pop_front(), tag) {
            (Some(Expectation::Parse { undo, .. }), BackendTag::ParseComplete)
            | (Some(Expectation::Bind { undo, .. }), BackendTag::BindComplete)
            | (Some(Expectation::Close { undo }), BackendTag::CloseComplete) => undo,
            (front, tag) => return Err(unasked(tag, front.as_ref())),
        };
        if let Some(undo) = undo {
            self.names.confirm(&undo);
        }
        self.down.pass(len);
        Ok(())
    }

    async fn on_complete(&mut self, len: usize) -> Result<(), End> {
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let Message::CommandComplete(complete) =
            Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?
        else {
            return Err(End::gateway("a CommandComplete frame that is none"));
        };
        let tag: Vec<u8> = complete.tag().into();
        let copied = complete.rows().filter(|_| self.copy_out);
        if self.is_own_answer(BackendTag::CommandComplete) {
            self.down.swallow(len);
            return Ok(());
        }
        if let (Some(rows), Some(run)) = (copied, self.queue.front_mut().and_then(Expectation::run_mut)) {
            // A CSV's header and the end of a binary copy were CopyData too.
            run.rows = run.rows.min(rows);
        }
        match self.queue.front_mut() {
            Some(Expectation::Query(run)) if run.is_running() => {
                self.account.masked(Some(run.record), self.masking.counted()).await?;
                self.account.result(run, &Outcome::Complete(&tag)).await?;
                self.names_done_query();
            }
            Some(Expectation::Execute(run)) if run.is_running() => {
                self.account.masked(Some(run.record), self.masking.counted()).await?;
                self.account.result(run, &Outcome::Complete(&tag)).await?;
                if let Some(portal) = &run.portal {
                    self.names.done(portal);
                }
                self.names_done_query();
                self.queue.pop_front();
            }
            front => return Err(unasked(BackendTag::CommandComplete, front.as_deref())),
        }
        self.copy_out = false;
        self.down.pass(len);
        Ok(())
    }

    /// The front run's statement succeeded: what it did to the shared name space stands, and the next one follows.
    fn names_done_query(&mut self) {
        let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front_mut() else {
            return;
        };
        let decision = std::sync::Arc::clone(&run.decision);
        let index = run.statement;
        let record = run.record;
        run.next_statement();
        if decision.changes_catalog {
            self.judge.catalog_changed(&decision);
        }
        self.judge.named_done(&decision, index, record, &mut self.names);
    }

    async fn on_other_end(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        self.checked(len)?;
        let suspended = tag == BackendTag::PortalSuspended;
        let outcome = if suspended { Outcome::Suspended } else { Outcome::Empty };
        match self.queue.front_mut() {
            Some(Expectation::Query(run)) if !suspended && run.is_empty() => {
                run.emptied = true;
                self.account.result(run, &outcome).await?;
            }
            Some(Expectation::Execute(run)) if if suspended { run.limited } else { run.is_empty() } => {
                self.account.masked(Some(run.record), self.masking.counted()).await?;
                self.account.result(run, &outcome).await?;
                self.queue.pop_front();
            }
            front => return Err(unasked(tag, front.as_deref())),
        }
        self.down.pass(len);
        Ok(())
    }

    async fn on_copy(&mut self, tag: BackendTag, len: usize) -> Result<(), End> {
        let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front() else {
            self.checked(len)?;
            return Err(unasked(tag, self.queue.front()));
        };
        let mut masker = None;
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let message = Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?;
        if let Message::CopyOutResponse(response) | Message::CopyInResponse(response) = &message {
            self.masking.copy_binary = response.overall() == Format::Binary;
        }
        if let Message::CopyOutResponse(response) = &message
            && run.is_looked_at()
        {
            let told = Told::of(&run.decision, run.statement, &self.judge.ground);
            let by_name = self.judge.temp_possible || self.judge.private_ddl.is_some();
            masker = Some(self.masking.copy_of(response, &told, by_name, run.detectors)?);
        }
        let awaited = run.decision.copies_in > 0 && self.gate.copy == CopyPhase::Awaited;
        if tag == BackendTag::CopyInResponse && awaited {
            self.gate.copy = CopyPhase::Active;
        } else if tag == BackendTag::CopyOutResponse && run.decision.copies_out {
            self.copy_out = true;
            self.masking.copy = masker;
        } else if tag != BackendTag::CopyDone || !self.copy_out {
            return Err(unasked(tag, self.queue.front()));
        } else {
            self.masking.keep_originals(self.account.seals_rows(), 0);
            if let Some(rest) = self.masking.copy_ended()? {
                self.account.delivered(&rest);
                let of = Of::CopyToClient { binary: self.masking.copy_binary };
                let sealed = self.account.seal_rows(run, of, self.masking.take_originals()).await?;
                let mark = self.account.capture(run, of, Piece::whole(&rest, 1)).await?;
                self.stay(mark.or(sealed), false);
                self.down.insert(rest);
            }
        }
        self.down.pass(len);
        Ok(())
    }

    async fn on_parameter(&mut self, len: usize) -> Result<(), End> {
        let Message::ParameterStatus(status) = self.checked(len)? else {
            return Err(End::gateway("a ParameterStatus frame that is none"));
        };
        if let Some(moved) = self.pinned.moved(status.name(), status.value()) {
            self.account.moved(&moved, "reported").await;
            return Err(moved_setting(&moved));
        }
        let (name, value) = (status.name().to_vec(), status.value().to_vec());
        self.pinned.note(&name, &value);
        let detectors = self.judge.detectors();
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let masked = match Message::parse(frame) {
            Ok(Message::ParameterStatus(status)) => {
                self.masking.text("setting", status.value(), &detectors).map(|value| {
                    let mut out = Vec::with_capacity(len);
                    let encoded = encode::parameter_status(&mut out, status.name(), value);
                    debug_assert!(encoded.is_ok());
                    out
                })
            }
            Ok(_) | Err(_) => None,
        };
        self.say_or_pass(len, masked);
        Ok(())
    }

    async fn on_error(&mut self, len: usize) -> Result<(), End> {
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let Message::ErrorResponse(fields) =
            Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?
        else {
            return Err(End::gateway("an ErrorResponse frame that is none"));
        };
        let sqlstate: Vec<u8> = fields.sqlstate().unwrap_or("XX000").into();
        // An error of the gateway's own Describe is the one that the Execute behind it would have met.
        if let Some(Expectation::DescribePortal { ours: true, .. }) = self.queue.front()
            && let Some(Expectation::Execute(_)) = self.queue.get(1)
        {
            self.queue.pop_front();
        }
        let reach = self.reach_of(&fields);
        let says = self.says_what_broke_the_copy(&fields, &sqlstate);
        let masked =
            self.masking.report(Report::Error, frame, &self.judge.detectors(), reach).await?.or(says);
        let (sqlstate, masked) = match self.withdrawn_frame_failed(&sqlstate) {
            Some(cancelled) => (denial::CANCELLED.into(), Some(cancelled)),
            None => (sqlstate, masked),
        };
        self.masking.copy = None;
        if matches!(fields.severity(), Some(b"FATAL" | b"PANIC") | None) {
            return self.on_fatal(len, &sqlstate, masked).await;
        }
        self.copy_out = false;
        match self.queue.front_mut() {
            Some(Expectation::Query(_)) => {
                self.keep_report(len, Report::Error, masked.as_deref()).await?;
                self.fail_front(&sqlstate).await?;
                self.say_or_pass(len, masked);
            }
            Some(Expectation::Sync { .. }) => {
                // Work at the end of the transaction failed: deferred constraints, serialization.
                self.account.failed_aside(&sqlstate).await?;
                self.tell(len, Report::Error, masked).await?;
            }
            Some(
                Expectation::RefusedQuery { rewritten: true, .. }
                | Expectation::GuardRead { reading: Reading::Cancelled | Reading::Failed, .. }
                | Expectation::CopyProbe(_),
            )
            | None => {
                return Err(unasked(BackendTag::ErrorResponse, self.queue.front()));
            }
            Some(Expectation::RefusedQuery { refusal, reference, rewritten }) => {
                *rewritten = true;
                let ours = (sqlstate == SYNTAX_ERROR.as_bytes()).then(|| denial::error(refusal, reference));
                self.say_or_pass(len, ours.or(masked));
            }
            Some(Expectation::GuardRead { answers, reading: reading @ Reading::Well, .. }) => {
                answers.failed();
                let cancelled = sqlstate == denial::CANCELLED.as_bytes();
                *reading = if cancelled { Reading::Cancelled } else { Reading::Failed };
                self.down.swallow(len);
            }
            Some(_) => self.on_batch_error(len, &sqlstate, masked).await?,
        }
        self.end_failed_copy();
        Ok(())
    }

    /// An error in the extended protocol: its entry ends, and all behind it up to the Sync is skipped.
    async fn on_batch_error(
        &mut self,
        len: usize,
        sqlstate: &[u8],
        masked: Option<Vec<u8>>,
    ) -> Result<(), End> {
        let mut ours = None;
        if !matches!(self.queue.front(), Some(Expectation::RefusedParse { .. })) {
            self.keep_report(len, Report::Error, masked.as_deref()).await?;
        }
        let Some(mut front) = self.queue.pop_front() else { return Ok(()) };
        match &mut front {
            Expectation::Bind { run, .. } | Expectation::Execute(run) => {
                run.failed = true;
                self.account.masked(Some(run.record), self.masking.counted()).await?;
                self.account.result(run, &Outcome::Error(sqlstate)).await?;
            }
            Expectation::RefusedParse { refusal, reference, undo } => {
                if let Some(undo) = undo.take() {
                    self.names.confirm(&undo);
                }
                ours = (sqlstate == SYNTAX_ERROR.as_bytes()).then(|| denial::error(refusal, reference));
            }
            Expectation::Parse { .. }
            | Expectation::DescribeStatement { .. }
            | Expectation::DescribePortal { .. }
            | Expectation::Close { .. } => self.account.failed_aside(sqlstate).await?,
            Expectation::Query(_)
            | Expectation::Sync { .. }
            | Expectation::RefusedQuery { .. }
            | Expectation::GuardRead { .. }
            | Expectation::CopyProbe(_) => {}
        }
        let names = &mut self.names;
        let mut skipped_runs = Vec::new();
        let sync_stands = expect::skip_to_sync(&mut self.queue, |entry| {
            if let Some(run) = undo(names, entry) {
                skipped_runs.push(run);
            }
        });
        undo(names, front);
        for run in skipped_runs.into_iter().rev() {
            self.account.skipped(&run).await?;
        }
        if !sync_stands && self.gate.skip == Skip::No {
            self.gate.skip = Skip::ServerSkips;
        }
        if !sync_stands && let Some(fence) = &mut self.gate.fence {
            // The server skips the Query that closed it: no ReadyForQuery comes before the Sync, which closes it again.
            fence.closed = false;
        }
        if !sync_stands && let Some(held) = self.drop_held() {
            // It was not sent yet, and would be skipped.
            if let Some(run) = undo(&mut self.names, held) {
                self.account.skipped(&run).await?;
            }
        }
        self.say_or_pass(len, ours.or(masked));
        Ok(())
    }

    /// The running statement has failed.
    async fn fail_front(&mut self, sqlstate: &[u8]) -> Result<(), End> {
        if let Some(Expectation::Query(run) | Expectation::Execute(run) | Expectation::Bind { run, .. }) =
            self.queue.front_mut()
        {
            run.failed = true;
            self.account.masked(Some(run.record), self.masking.counted()).await?;
            self.account.result(run, &Outcome::Error(sqlstate)).await?;
        }
        Ok(())
    }

    pub(super) fn say_or_pass(&mut self, len: usize, ours: Option<Vec<u8>>) {
        match ours {
            Some(answer) => self.down.replace(len, answer),
            None => self.down.pass(len),
        }
    }

    async fn on_fatal(&mut self, len: usize, sqlstate: &[u8], masked: Option<Vec<u8>>) -> Result<(), End> {
        self.keep_report(len, Report::Error, masked.as_deref()).await?;
        self.fail_front(sqlstate).await?;
        if let Some(end) = self.broken_copy(sqlstate) {
            self.down.swallow(len);
            return Err(end);
        }
        self.say_or_pass(len, masked);
        Err(End::BackendSaidFatal { sqlstate: String::from_utf8_lossy(sqlstate).into_owned() })
    }

    async fn on_ready(&mut self, len: usize) -> Result<(), End> {
        let Message::ReadyForQuery { status } = self.checked(len)? else {
            return Err(End::gateway("a ReadyForQuery frame that is none"));
        };
        if let Some(Expectation::CopyProbe(_)) = self.queue.front() {
            return self.on_probe_ready(len, status).await;
        }
        if self.on_copy_sync_answered(len, status).await? {
            return Ok(());
        }
        let batch = match self.queue.pop_front() {
            Some(Expectation::Query(run)) if run.is_answered() => self.batch.saturating_sub(1),
            Some(Expectation::RefusedQuery { rewritten: true, .. }) => self.batch.saturating_sub(1),
            Some(Expectation::Sync { batch }) => batch,
            Some(Expectation::GuardRead { answers, values, reading }) if answers.over() => {
                self.down.swallow(len);
                self.status = status;
                return self.on_guards(&values, reading).await;
            }
            front => return Err(unasked(BackendTag::ReadyForQuery, front.as_ref())),
        };
        self.ready_behind(batch, status, len).await
    }

    /// The server stands ready behind this batch.
    pub(super) async fn ready_behind(
        &mut self,
        batch: Batch,
        status: TransactionStatus,
        len: usize,
    ) -> Result<(), End> {
        self.status = status;
        self.copy_out = false;
        self.gate.copy_broken_by = None;
        self.account.masked(None, self.masking.counted()).await?;
        if status == TransactionStatus::Idle {
            self.names.transaction_ended(batch);
            let quiet = self.queue.is_empty() && self.gate.held.is_none();
            self.judge.transaction_ended(quiet);
            if self.queue.is_empty() {
                self.masking.transaction_ended();
            }
            if self.queue.is_empty() {
                self.account.portals_ended().await?;
            }
        }
        self.down.pass(len);
        self.read_guards_if_due()
    }
}

/// Takes back what an entry changed; its run, when it had one that counts as a statement.
fn undo(names: &mut super::names::Names, entry: Expectation) -> Option<Box<Run>> {
    match entry {
        Expectation::Parse { undo, .. }
        | Expectation::RefusedParse { undo, .. }
        | Expectation::Close { undo } => {
            if let Some(undo) = undo {
                names.undo(undo);
            }
            None
        }
        Expectation::Bind { undo, run } => {
            if let Some(undo) = undo {
                names.undo(undo);
            }
            Some(run)
        }
        Expectation::Query(run) => Some(run),
        Expectation::Execute(_)
        | Expectation::DescribeStatement { .. }
        | Expectation::DescribePortal { .. }
        | Expectation::Sync { .. }
        | Expectation::RefusedQuery { .. }
        | Expectation::GuardRead { .. }
        | Expectation::CopyProbe(_) => None,
    }
}
