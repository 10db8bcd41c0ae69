//! The session's evidence: what is recorded, when, and which bytes wait for it.
//!
//! Owns: the session's log, the running digests, totals, and which statements still lack a result. May not: judge, frame,
//! or hold a value: texts are lifted, digests keyed; what is kept beyond that, and when, is `kept` and
//! `capture`. Fails closed: where a record cannot be taken, the caller refuses the
//! statement ([`Unrecorded::Refused`]) or ends the session ([`Unrecorded::Ended`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pgturnstile_proto::frontend::Bind;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::value::redacted;

use super::denial::Refusal;
use super::digest::RowDigest;
use super::end::End;
use super::expect::{Expectation, Run};
use super::flow::Outcome;
use super::judge::Decision;
use super::names::Prepared;
use super::recorder::Recorder;
use super::tally::Tally;
use crate::evidence::describe::hex;
use crate::evidence::record::v1::{self, Action, Protocol, SessionClosed, StatementResult, TextHeld, Totals};
use crate::evidence::record::{Entry, How};
use crate::evidence::reference::reference;
use crate::evidence::{AppendError, Lane, Mark, SessionLog, State};

/// Whether a session waits for its records to be on disk (README decision 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It waits.
    Gated,
    /// Records are in order and not yet synced; the session's record says so.
    Queued,
}

/// A record that was not taken.
#[derive(Debug)]
pub enum Unrecorded {
    /// The statement is refused; the session goes on.
    Refused(Refusal),
    /// Evidence is gone: the session ends.
    Ended(End),
}

impl From<AppendError> for Unrecorded {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Stopped(_) | AppendError::Closed => Unrecorded::Ended(ended(&error)),
            AppendError::Stalled { .. }
            | AppendError::Constrained(_)
            | AppendError::Encode(_)
            | AppendError::Unsealed(_)
            | AppendError::Unanswered => {
                tracing::warn!(%error, "a statement was refused because it could not be recorded");
                Unrecorded::Refused(Refusal::built_in(
                    error.sqlstate(),
                    "built-in: evidence",
                    error.client_text(),
                ))
            }
        }
    }
}

pub(super) fn ended(error: &AppendError) -> End {
    End::Fatal {
        fault: super::end::Fault::Gateway,
        sqlstate: error.sqlstate(),
        message: error.client_text().into(),
    }
}

/// A name of a statement or portal, as evidence holds it.
fn named<'n>(decision: &Decision, name: &'n [u8]) -> Cow<'n, str> {
    let name = String::from_utf8_lossy(name);
    redacted(&decision.detectors, &name).map_or(name, Cow::Owned)
}

/// See the module.
pub struct Account {
    pub(super) log: SessionLog,
    /// What is kept beyond digests.
    pub(super) recorder: Recorder,
    durability: Durability,
    /// What the shard counts.
    tally: Arc<Tally>,
    pub(super) totals: Totals,
    /// Digest of the running result; begun with its first row.
    pub(super) digest: Option<RowDigest>,
    pub(super) copied_in_bytes: u64,
    /// The last statement's record, for errors that belong to no statement of their own.
    last_record: Option<u64>,
    /// Binds whose portal may still give a result.
    open_binds: Vec<u64>,
}

impl Account {
    /// The end of a session whose evidence cannot be written any more.
    pub fn unrecorded(&self) -> End {
        match self.log.lane().state() {
            State::Stopped(stopped) => ended(&AppendError::Stopped(stopped)),
            State::Running | State::Constrained(_) => ended(&AppendError::Closed),
        }
    }

    /// The account of a session whose target is chosen.
    pub fn new(log: SessionLog, durability: Durability, tally: Arc<Tally>) -> Self {
        Self {
            log,
            recorder: Recorder::new(),
            durability,
            tally,
            totals: Totals::default(),
            digest: None,
            copied_in_bytes: 0,
            last_record: None,
            open_binds: Vec::new(),
        }
    }

    /// What the session has come to.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The lane, to wait on.
    pub fn lane(&self) -> &Lane {
        self.log.lane()
    }

    /// Wall time, nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whether the record of `mark` is on disk.
    ///
    /// # Errors
    /// Evidence has stopped: nothing may be released any more.
    pub fn durable(&self, mark: Mark) -> Result<bool, End> {
        if !self.log.lane().is_running()
            && let State::Stopped(stopped) = self.log.lane().state()
        {
            return Err(ended(&AppendError::Stopped(stopped)));
        }
        Ok(self.log.lane().durable(mark))
    }

    /// Whether the session waits for its records.
    pub(super) fn waits(&self) -> bool {
        self.durability == Durability::Gated
    }

    /// The last statement's record.
    pub(super) fn last_record(&self) -> Option<u64> {
        self.last_record
    }

    pub(super) fn how(&self) -> How {
        match self.durability {
            Durability::Gated => How::GATED,
            Durability::Queued => How::QUEUED,
        }
    }

    pub(super) fn gate(&self, mark: Mark) -> Option<Mark> {
        match self.durability {
            Durability::Gated => Some(mark),
            Durability::Queued => None,
        }
    }

    /// Records a simple query that passes, or is held: its record's number, and the mark that its effect waits for.
    pub async fn query(
        &mut self,
        decision: &Decision,
        text: &[u8],
    ) -> Result<(u64, Option<Mark>), Unrecorded> {
        let action = action_of(decision);
        let statement = v1::Statement { action, ..self.allowed(decision, Protocol::Simple, "", "", text) };
        let how = self.how_of(decision);
        let mark = self.append(statement, self.led(how)).await?;
        let kept = self.keep_text(mark, how, Some(decision), text).await;
        let kept = self.kept(mark, kept).await?;
        if action == Action::Allow {
            self.may_run(decision);
        }
        Ok((mark.stream_sequence, self.gate(kept)))
    }

    /// A statement that goes on before its record is durable asks for no sync where its rows will.
    fn how_of(&self, decision: &Decision) -> How {
        if decision.required.is_some() {
            // Whoever decides on it finds it on disk, whatever the access entry says.
            return How::GATED;
        }
        if decision.proven && self.stays() { self.how().followed() } else { self.how() }
    }

    /// The same for the first of two records that stand together.
    fn led(&self, how: How) -> How {
        if self.recorder.keeps_texts() { how.followed() } else { how }
    }

    /// Where what belongs to a statement was not taken, the statement goes nowhere.
    async fn kept(&mut self, statement: Mark, kept: Result<Mark, AppendError>) -> Result<Mark, Unrecorded> {
        if let Err(error) = &kept {
            let settled = self.settle(statement.stream_sequence, v1::Outcome::Skipped, None).await;
            tracing::debug!(%error, settled = settled.is_ok(), "a statement's text could not be recorded");
        }
        Ok(kept?)
    }

    /// A text counts when it may run: at its Query, or at each of its Binds.
    pub(super) fn may_run(&self, decision: &Decision) {
        self.tally.allowed(decision.facts.statements.iter().map(|statement| statement.class));
    }

    /// Records a Parse that passes.
    pub async fn parse(
        &mut self,
        decision: &Decision,
        name: &[u8],
        text: &[u8],
    ) -> Result<(u64, Option<Mark>), Unrecorded> {
        let name = named(decision, name);
        let statement = self.allowed(decision, Protocol::Parse, &name, "", text);
        // Its Bind is what waits for the disk, unless analysis alone may run code.
        let how = if decision.runs_at_analysis { self.how() } else { How::QUEUED };
        let mark = self.append(statement, self.led(how)).await?;
        let kept = self.keep_text(mark, how, Some(decision), text).await;
        let kept = self.kept(mark, kept).await?;
        Ok((mark.stream_sequence, self.gate(kept).filter(|_| decision.runs_at_analysis)))
    }

    /// Records a Bind that passes, or is held: from here on, or from its release on, the statement may run.
    pub async fn bind(
        &mut self,
        decision: &Decision,
        prepared: &Prepared,
        bind: &Bind<'_>,
    ) -> Result<(u64, Option<Mark>), Unrecorded> {
        let portal = named(decision, bind.portal());
        let (parameters, parameter_digest) = self.parameters(bind);
        let statement = v1::Statement {
            protocol: Protocol::Execute,
            name: "",
            portal: &portal,
            text: TextHeld::Lifted(&decision.held),
            text_bytes: decision.facts.text_bytes as u64,
            // The Parse that this record refers to holds the commitment to the text.
            text_commitment: [0; 32],
            parameters,
            parameter_digest,
            facts: &decision.summary,
            action: action_of(decision),
            rule: &decision.rule,
            policy_hash: decision.policy_hash,
            catalog_epoch: decision.epoch,
        };
        let how = self.how_of(decision);
        let first = if parameters > 0 { self.led(how) } else { how };
        let mark = self.append(statement, first.belonging_to(prepared.record)).await?;
        let kept = self.keep_parameters(mark, how, decision, bind, &prepared.types().list()).await;
        let kept = self.kept(mark, kept).await?;
        if decision.required.is_none() {
            self.bound(decision, mark.stream_sequence);
        }
        Ok((mark.stream_sequence, self.gate(kept)))
    }

    /// The statement of a Bind may run now.
    pub(super) fn bound(&mut self, decision: &Decision, record: u64) {
        self.may_run(decision);
        self.open_binds.push(record);
    }

    fn allowed<'a>(
        &self,
        decision: &'a Decision,
        protocol: Protocol,
        name: &'a str,
        portal: &'a str,
        text: &[u8],
    ) -> v1::Statement<'a> {
        v1::Statement {
            protocol,
            name,
            portal,
            text: TextHeld::Lifted(&decision.held),
            text_bytes: decision.facts.text_bytes as u64,
            text_commitment: self.log.keys().text(text),
            parameters: 0,
            parameter_digest: None,
            facts: &decision.summary,
            action: Action::Allow,
            rule: &decision.rule,
            policy_hash: decision.policy_hash,
            catalog_epoch: decision.epoch,
        }
    }

    async fn append(&mut self, statement: v1::Statement<'_>, how: How) -> Result<Mark, Unrecorded> {
        let mark = self.log.append(Entry::Statement(statement), how).await?;
        self.totals.statements += 1;
        self.last_record = Some(mark.stream_sequence);
        Ok(mark)
    }

    /// Number of parameters and their keyed digest, over formats, lengths and bytes.
    fn parameters(&self, bind: &Bind<'_>) -> (u16, Option<[u8; 32]>) {
        let values = bind.parameters();
        if values.is_empty() {
            return (0, None);
        }
        let mut bytes = Vec::with_capacity(values.as_bytes().len() + 2 * values.len());
        for (format, _) in bind.typed_parameters() {
            bytes.extend_from_slice(&format.code().to_be_bytes());
        }
        bytes.extend_from_slice(values.as_bytes());
        let digest = self.log.keys().parameters(&bytes);
        zeroize::Zeroize::zeroize(&mut bytes);
        (u16::try_from(values.len()).unwrap_or(u16::MAX), Some(digest))
    }

    /// Records a refusal, the statement first where there is one; the reference that client, server and evidence share.
    /// A refusal that cannot be recorded still refuses: nothing passes by it. `held`: the record of the statement, where it was
    /// held before.
    pub async fn refusal(
        &mut self,
        refusal: &Refusal,
        detectors: &Detectors,
        decision: Option<&Decision>,
        text: Option<&[u8]>,
        held: Option<u64>,
        how_carried_out: &str,
    ) -> Result<String, End> {
        let safe = redacted(detectors, &refusal.safe);
        let refusal = &Refusal { safe: safe.unwrap_or_else(|| refusal.safe.clone()), ..refusal.clone() };
        self.totals.refused += 1;
        self.totals.statements += u64::from(text.is_some() && held.is_none());
        let statements = decision.map(|decision| decision.facts.statements.as_slice()).unwrap_or_default();
        self.tally.refused(refusal, statements.iter().map(|statement| statement.class));
        let recorded = match self.record_refusal(refusal, decision, text, held, how_carried_out).await {
            // Longer than a record may be: its length and commitment are recorded then, as of a text that cannot be read.
            Err(AppendError::Encode(_)) if decision.is_some() => {
                self.record_refusal(refusal, None, text, held, how_carried_out).await
            }
            recorded => recorded,
        };
        match recorded {
            Ok(sequence) => {
                let name = reference(&self.log.id(), sequence);
                tracing::debug!(
                    session = hex(&self.log.id()),
                    rule = refusal.rule,
                    reference = name,
                    "refused"
                );
                Ok(name)
            }
            Err(error @ (AppendError::Stopped(_) | AppendError::Closed)) => Err(ended(&error)),
            Err(error) => {
                tracing::warn!(session = hex(&self.log.id()), %error, "a refusal could not be recorded");
                Ok("unrecorded".to_owned())
            }
        }
    }

    async fn record_refusal(
        &mut self,
        refusal: &Refusal,
        decision: Option<&Decision>,
        text: Option<&[u8]>,
        held: Option<u64>,
        how_carried_out: &str,
    ) -> Result<u64, AppendError> {
        let mut refers = held.or(self.last_record);
        let mut settles = held.is_some();
        if let Some(text) = text.filter(|_| held.is_none()) {
            let statement = v1::Statement {
                protocol: Protocol::Simple,
                name: "",
                portal: "",
                text: match decision {
                    Some(decision) => TextHeld::Lifted(&decision.held),
                    None => TextHeld::Withheld(&refusal.rule),
                },
                text_bytes: text.len() as u64,
                text_commitment: self.log.keys().text(text),
                parameters: 0,
                parameter_digest: None,
                facts: decision.map(|decision| decision.summary.as_slice()).unwrap_or_default(),
                action: Action::Refuse,
                rule: &refusal.rule,
                policy_hash: decision.map_or([0; 32], |decision| decision.policy_hash),
                catalog_epoch: decision.map_or(0, |decision| decision.epoch),
            };
            let mark = self.log.append(Entry::Statement(statement), How::QUEUED).await?;
            self.keep_text(mark, How::QUEUED, decision, text).await?;
            refers = Some(mark.stream_sequence);
            settles = true;
        }
        let entry = Entry::Refusal(v1::Refusal {
            sqlstate: refusal.sqlstate,
            rule: &refusal.rule,
            message: &refusal.safe,
            how: how_carried_out,
        });
        let how = match refers {
            Some(record) if settles => How::QUEUED.answering(record),
            Some(record) => How::QUEUED.belonging_to(record),
            None => How::QUEUED,
        };
        Ok(self.log.append(entry, how).await?.stream_sequence)
    }

    /// Bytes of rows that leave for the client.
    pub fn delivered(&mut self, bytes: &[u8]) {
        self.digest.get_or_insert_with(|| RowDigest::new(self.log.keys().result())).update(bytes);
    }

    /// Bytes of CopyData from the client.
    pub fn copied_in(&mut self, frame_bytes: usize) {
        self.copied_in_bytes += frame_bytes as u64;
    }

    /// Records what came back for the running statement, and begins the next result.
    ///
    /// # Errors
    /// The record was not taken: the session ends, and what waits behind it is not released.
    pub async fn result(&mut self, run: &mut Run, outcome: &Outcome<'_>) -> Result<(), End> {
        let digest = self.digest.take().map(RowDigest::finish);
        let (kind, tag, sqlstate) = match outcome {
            Outcome::Complete(tag) => (v1::Outcome::Completed, *tag, None),
            Outcome::Empty => (v1::Outcome::Completed, b"".as_slice(), None),
            Outcome::Suspended => (v1::Outcome::Suspended, b"".as_slice(), None),
            Outcome::Error(sqlstate) => (v1::Outcome::Failed, b"".as_slice(), Some(*sqlstate)),
        };
        let tag = String::from_utf8_lossy(tag);
        let sqlstate = sqlstate.map(String::from_utf8_lossy);
        self.copied_in_ended(run.record, self.copied_in_bytes).await?;
        self.recorder.result_ended();
        let entry = Entry::StatementResult(StatementResult {
            outcome: kind,
            tag: &tag,
            sqlstate: sqlstate.as_deref(),
            rows: run.rows,
            bytes: run.bytes,
            bytes_in: std::mem::take(&mut self.copied_in_bytes),
            digest,
            started_ns: run.started_ns,
            first_row_ns: run.first_row_ns,
            ended_ns: self.now_ns(),
        });
        let last = run.failed || run.statement + 1 >= run.decision.facts.statements.len();
        let settles = last && !matches!(outcome, Outcome::Suspended);
        let how =
            if settles { How::QUEUED.answering(run.record) } else { How::QUEUED.belonging_to(run.record) };
        self.totals.rows += run.rows;
        if settles {
            self.open_binds.retain(|bind| *bind != run.record);
        }
        self.log.append(entry, how).await.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// Records what was masked since the last record: of the statement of `record`, or of the last one.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub async fn masked(&mut self, record: Option<u64>, counts: Vec<v1::MaskCount>) -> Result<(), End> {
        if counts.is_empty() {
            return Ok(());
        }
        let how = match record.or(self.last_record) {
            Some(record) => How::QUEUED.belonging_to(record),
            None => How::QUEUED,
        };
        let entry = Entry::Masked(v1::Masked { counts: &counts });
        self.log.append(entry, how).await.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// The server skipped a statement behind an earlier error.
    pub async fn skipped(&mut self, run: &Run) -> Result<(), End> {
        self.open_binds.retain(|bind| *bind != run.record);
        self.settle(run.record, v1::Outcome::Skipped, None).await
    }

    /// An error that belongs to no statement in execution: of Parse, Describe, or at the end of the transaction.
    pub async fn failed_aside(&mut self, sqlstate: &[u8]) -> Result<(), End> {
        let Some(record) = self.last_record else { return Ok(()) };
        let sqlstate = String::from_utf8_lossy(sqlstate);
        let entry = Entry::StatementResult(StatementResult {
            sqlstate: Some(&sqlstate),
            ..bare(v1::Outcome::Failed, self.now_ns())
        });
        self.log.append(entry, How::QUEUED.belonging_to(record)).await.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// The transaction ended and with it every portal: those that gave no result never will.
    pub async fn portals_ended(&mut self) -> Result<(), End> {
        for record in std::mem::take(&mut self.open_binds) {
            self.settle(record, v1::Outcome::Suspended, None).await?;
        }
        Ok(())
    }

    pub(super) async fn settle(
        &mut self,
        record: u64,
        outcome: v1::Outcome,
        sqlstate: Option<&str>,
    ) -> Result<(), End> {
        let entry = Entry::StatementResult(StatementResult { sqlstate, ..bare(outcome, self.now_ns()) });
        self.log.append(entry, How::QUEUED.answering(record)).await.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// The short name of a record, for what the client is told of it.
    pub fn reference(&self, record: u64) -> String {
        reference(&self.log.id(), record)
    }

    /// Records that a guarded setting moved.
    pub async fn moved(&mut self, name: &str, how: &str) {
        let entry = Entry::SettingMoved(v1::SettingMoved {
            name,
            expected: "as at login",
            seen: "another value",
            how,
        });
        if let Err(error) = self.log.append(entry, How::QUEUED).await {
            tracing::warn!(session = hex(&self.log.id()), %error, "a moved setting could not be recorded");
        }
    }

    /// Bytes read from the two peers, for the totals.
    pub fn read(&mut self, client_bytes: u64, server_bytes: u64) {
        self.totals.client_bytes += client_bytes;
        self.totals.server_bytes += server_bytes;
        self.tally.read(client_bytes, server_bytes);
    }

    /// Records the end. Statements whose results did not come are closed as unknown.
    pub async fn close(self, end: &End, owed: impl Iterator<Item = &Expectation>) {
        let owed = owed.count();
        let reason = match owed {
            0 => end.reason().into_owned(),
            owed => format!("{} ({owed} replies were owed)", end.reason()),
        };
        let Totals { statements, refused, rows, client_bytes, server_bytes, .. } = &self.totals;
        tracing::info!(
            session = hex(&self.log.id()),
            by = end.fault().name(),
            %reason,
            statements,
            refused,
            rows,
            client_bytes,
            server_bytes,
            "session ended"
        );
        let closed = SessionClosed { reason: &reason, by: end.fault().name(), totals: &self.totals };
        if let Err(error) = self.log.close(closed).await {
            tracing::warn!(%error, "the end of a session could not be recorded");
        }
    }
}

/// What a record says of a statement that was not refused.
fn action_of(decision: &Decision) -> Action {
    if decision.required.is_some() { Action::Hold } else { Action::Allow }
}

pub(super) fn bare(outcome: v1::Outcome, now_ns: u64) -> StatementResult<'static> {
    StatementResult {
        outcome,
        tag: "",
        sqlstate: None,
        rows: 0,
        bytes: 0,
        bytes_in: 0,
        digest: None,
        started_ns: 0,
        first_row_ns: 0,
        ended_ns: now_ns,
    }
}
