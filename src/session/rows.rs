//! What a backend sends of data: rows, COPY data, and texts that quote it.
//!
//! Owns: the way of these frames from the buffer to the client: checked, masked, counted, digested. May not: close an
//! expectation, or record. Fails closed: rows that nothing described, or that cannot be masked, end the session, and nothing
//! of them is released.

use std::sync::Arc;

use pgturnstile_proto::backend::{self, Fields, Message, field};
use pgturnstile_proto::frontend::ObjectKind;
use pgturnstile_proto::{BackendTag, encode};
use pgturnstile_rules::mask::plan::Reach;
use pgturnstile_rules::mask::side::Report;

use super::capture::{Of, Piece};
use super::end::End;
use super::expect::{Expectation, Run, unasked};
use super::gate::Step;
use super::judge::Decision;
use super::kept::described_by;
use super::masking::{Told, Width};
use super::names::Portal;
use super::relay::Relay;
use super::world::Ground;
use crate::net::conduit::CAPACITY_BULK_BYTES;

impl Relay {
    /// Rows are masked by their description: unless the client asks for it right before, the gateway does.
    pub(super) fn describe_for_masking(&mut self, decision: &Decision, portal: &Arc<Portal>, name: &[u8]) {
        // Rows that are kept are read by it, too.
        if self.judge.detectors().is_empty() && !decision.near_labels() && !self.account.recorder.keeps_rows()
        {
            return;
        }
        let described = match self.queue.back() {
            Some(Expectation::DescribePortal { portal: Some(described), .. }) => {
                Arc::ptr_eq(described, portal)
            }
            Some(_) | None => false,
        };
        if described {
            return;
        }
        let mut frame = Vec::with_capacity(8 + name.len());
        let encoded = encode::describe(&mut frame, ObjectKind::Portal, name);
        debug_assert!(encoded.is_ok());
        self.up.insert(frame);
        self.queue.push_back(Expectation::DescribePortal { portal: Some(Arc::clone(portal)), ours: true });
    }

    /// Whether no row has a place here. In the simple protocol a RowDescription stands before each; behind Execute a client may do
    /// without, but where its portal was described that holds.
    fn is_undescribed_row(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(Expectation::Query(run)) => run.failed || !run.described,
            Some(Expectation::Execute(run)) if run.columns.is_some() => false,
            Some(Expectation::Execute(run)) => {
                match run.portal.as_ref().map(|portal| portal.described.width()) {
                    Some(Width::NoRows) => true,
                    Some(Width::Columns(columns)) => {
                        run.columns = Some(columns);
                        false
                    }
                    Some(Width::Unknown) | None => false,
                }
            }
            Some(_) | None => false,
        }
    }

    pub(super) async fn on_rows(&mut self, tag: BackendTag, len: usize) -> Result<Step, End> {
        let misplaced = if tag == BackendTag::CopyData { !self.copy_out } else { self.is_undescribed_row() };
        if misplaced {
            return Err(unasked(tag, self.queue.front()));
        }
        let run = match self.queue.front_mut() {
            Some(Expectation::Query(run) | Expectation::Execute(run)) => run,
            Some(Expectation::GuardRead { .. }) if tag == BackendTag::DataRow => {
                return self.on_own_row(len);
            }
            other => return Err(unasked(tag, other.as_deref())),
        };
        if tag == BackendTag::DataRow && run.plan.is_none() && run.is_looked_at() {
            let told = Told::of(&run.decision, run.statement, &self.judge.ground);
            run.plan = Some(match &run.portal {
                Some(portal) => portal.described.plan(&mut self.masking, &told, run.detectors)?,
                None => return Err(End::gateway("rows of an Execute without a portal")),
            });
        }
        let masks = match (tag, &run.plan, &self.masking.copy) {
            (BackendTag::CopyData, _, copy) => copy.as_ref().is_some_and(|copy| !copy.plan().is_clear()),
            (_, plan, _) => plan.as_ref().is_some_and(|plan| !plan.is_clear()),
        };
        let buffer = self.down.unscanned();
        let (rows, checked) = backend::check_rows(buffer, &self.limits, run.columns);
        checked.map_err(|fault| End::backend_fault(&fault))?;
        if rows.frames == 0 {
            // What may be masked is held whole.
            if masks || len <= CAPACITY_BULK_BYTES / 2 {
                self.down.make_room(len);
                return Ok(Step::NeedBytes);
            }
            // Larger than the buffer cares to hold: it streams, its header checked, its columns as they come.
            run.rows += 1;
            self.rows_left = len;
            if run.first_row_ns == 0 {
                run.first_row_ns = self.account.now_ns();
            }
            return self.stream_row(1).await;
        }
        if run.first_row_ns == 0 {
            run.first_row_ns = self.account.now_ns();
        }
        run.rows += rows.frames as u64;
        let frames = buffer.get(..rows.bytes).unwrap_or_default();
        self.masking.keep_originals(masks && self.account.seals_rows(), run.rows - rows.frames as u64);
        let masked = match (&run.plan, tag) {
            (_, BackendTag::CopyData) if masks => self.masking.copied(frames).await?,
            (Some(plan), BackendTag::DataRow) if masks => self.masking.rows(plan, frames).await?,
            (Some(_) | None, _) => None,
        };
        let leaving = masked.as_deref().unwrap_or(frames);
        run.bytes += leaving.len() as u64;
        self.account.delivered(leaving);
        let of = captured_of(tag, run, self.masking.copy_binary);
        let sealed = self.account.seal_rows(run, of, self.masking.take_originals()).await?;
        let mark = self.account.capture(run, of, Piece::whole(leaving, rows.frames)).await?;
        self.stay(mark.or(sealed), false);
        self.say_or_pass(rows.bytes, masked);
        Ok(Step::Done)
    }

    /// A piece of a row, or of CopyData, that is larger than the buffer cares to hold; `begins`: 1 for its first.
    pub(super) async fn stream_row(&mut self, begins: u64) -> Result<Step, End> {
        let bytes = self.down.unscanned();
        let here = bytes.len().min(self.rows_left);
        if here == 0 {
            return Ok(Step::NeedBytes);
        }
        let piece =
            Piece { bytes: bytes.get(..here).unwrap_or_default(), begins, rest: self.rows_left - here };
        self.account.delivered(piece.bytes);
        let mut mark = None;
        if let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front_mut() {
            run.bytes += here as u64;
            let tag = if self.copy_out { BackendTag::CopyData } else { BackendTag::DataRow };
            let of = captured_of(tag, run, self.masking.copy_binary);
            mark = self.account.capture(run, of, piece).await?;
        }
        self.stay(mark, begins == 0);
        self.rows_left -= here;
        self.down.pass(here);
        Ok(Step::Done)
    }

    /// The answer to a question of the gateway's own: one value.
    fn on_own_row(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.down.unscanned();
        if frame.len() < len {
            self.down.make_room(len);
            return Ok(Step::NeedBytes);
        }
        let value: Option<Box<[u8]>> = match Message::parse(frame.get(..len).unwrap_or_default()) {
            Ok(Message::DataRow(row)) => {
                let mut values = row.columns().iter();
                match (values.next(), values.next()) {
                    (Some(value), None) => value.map(Box::from),
                    (None | Some(_), None | Some(_)) => {
                        return Err(unasked(BackendTag::DataRow, self.queue.front()));
                    }
                }
            }
            Ok(_) => return Err(End::gateway("a DataRow that is none")),
            Err(fault) => return Err(End::backend_fault(&fault)),
        };
        if !self.is_own_answer(BackendTag::DataRow) {
            return Err(unasked(BackendTag::DataRow, self.queue.front()));
        }
        if let Some(Expectation::GuardRead { values, .. }) = self.queue.front_mut() {
            values.push(value);
        }
        self.down.swallow(len);
        Ok(Step::Done)
    }

    /// What leaves in the stead of an error or notice of the server.
    pub(super) async fn masked_report(&mut self, report: Report, len: usize) -> Result<Option<Vec<u8>>, End> {
        let detectors = self.judge.detectors();
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let fields = Fields::parse_notice(frame).map_err(|fault| End::backend_fault(&fault))?;
        let reach = self.reach_of(&fields);
        self.masking.report(report, frame, &detectors, reach).await
    }

    /// Whether a report may quote a labelled value: it comes of a statement near labels, or of what such a one left to the end
    /// of the transaction, or it names a relation with labels (a foreign key leads there without a text that says so).
    pub(super) fn reach_of(&self, fields: &Fields<'_>) -> Reach {
        let ground = &self.judge.ground;
        let front = self.queue.front().and_then(Expectation::run);
        let near = front.is_some_and(|run| run.decision.near_labels());
        if near || self.masking.is_near_until_the_end() || self.names_a_labelled_relation(ground, fields) {
            Reach::Labels
        } else {
            Reach::NoLabel
        }
    }

    fn names_a_labelled_relation(&self, ground: &Ground, fields: &Fields<'_>) -> bool {
        if ground.labelled.is_empty() {
            return false;
        }
        let named = |code: u8| {
            let text = fields.iter().find(|(of, _)| *of == code)?.1;
            std::str::from_utf8(text).ok()
        };
        let constraint = fields.sqlstate().is_some_and(|sqlstate| sqlstate.starts_with("23"));
        let (Some(schema), Some(table)) = (named(field::SCHEMA), named(field::TABLE)) else {
            return constraint;
        };
        let front = self.queue.front().and_then(Expectation::run).and_then(Run::fields);
        let cleared = |oid: u32| {
            front.is_some_and(|fields| fields.cleared.iter().any(|(relation, _)| *relation == oid))
        };
        match ground.snapshot.relation(schema, table) {
            Some(relation) => {
                let labelled = ground.labelled.columns(relation.oid).is_some_and(|hits| !hits.is_empty());
                (labelled || ground.labelled.closed(relation.oid).is_some()) && !cleared(relation.oid)
            }
            None => ground.labelled.named(schema, table).is_some(),
        }
    }

    pub(super) async fn on_notification(&mut self, len: usize) -> Result<(), End> {
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let Message::NotificationResponse(note) =
            Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?
        else {
            return Err(End::gateway("a NotificationResponse frame that is none"));
        };
        let detectors = self.judge.detectors();
        // Sent by code that nobody may have read: a trigger that tells of a row's change, in another session.
        let (clear, empty) = (self.judge.ground.hears_in_clear, note.payload().is_empty());
        let replaced = if clear || empty {
            self.masking.text("notification", note.payload(), &detectors)
        } else {
            Some(self.masking.withheld_notification())
        };
        // What a permit lets this session hear in clear may be a labelled value all the same.
        let withheld = !empty && (!clear || self.account.recorder.labels);
        let payload = replaced.as_deref().unwrap_or(note.payload());
        let kept = self.account.keep_notification(&note, payload, withheld).await?;
        let masked = replaced.map(|payload| {
            let mut out = Vec::with_capacity(len);
            let encoded =
                encode::notification_response(&mut out, note.process_id(), note.channel(), &payload);
            debug_assert!(encoded.is_ok());
            out
        });
        self.stay(kept, false);
        self.say_or_pass(len, masked);
        Ok(())
    }
}

/// As what the evidence keeps frames of this kind.
fn captured_of(tag: BackendTag, run: &Run, binary: bool) -> Of {
    if tag == BackendTag::CopyData {
        Of::CopyToClient { binary }
    } else {
        Of::Rows { described: described_by(run) }
    }
}
