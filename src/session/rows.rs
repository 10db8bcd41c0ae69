//! What a backend sends of data: rows, COPY data, and texts that quote it.
//!
//! Owns: the way of these frames from the buffer to the client: checked, masked, counted, digested. May not: close an
//! expectation, or record. Fails closed: rows that nothing described, or that cannot be masked, end the session, and nothing
//! of them is released.

use std::sync::Arc;

use pgturnstile_proto::backend::{self, Message};
use pgturnstile_proto::frontend::ObjectKind;
use pgturnstile_proto::{BackendTag, encode};
use pgturnstile_rules::mask::side::Report;

use super::end::End;
use super::expect::{Expectation, Run};
use super::flow::unasked;
use super::gate::Step;
use super::names::Portal;
use super::relay::Relay;
use crate::net::conduit::CAPACITY_BULK_BYTES;

impl Relay {
    /// Rows are masked by their description: unless the client asks for it right before, the gateway does.
    pub(super) fn describe_for_masking(&mut self, portal: &Arc<Portal>, name: &[u8]) {
        let described = match self.queue.back() {
            Some(Expectation::DescribePortal { portal: Some(described), .. }) => {
                Arc::ptr_eq(described, portal)
            }
            Some(_) | None => false,
        };
        if self.judge.detectors().is_empty() || described {
            return;
        }
        let mut frame = Vec::with_capacity(8 + name.len());
        let encoded = encode::describe(&mut frame, ObjectKind::Portal, name);
        debug_assert!(encoded.is_ok());
        self.up.insert(frame);
        self.queue.push_back(Expectation::DescribePortal { portal: Some(Arc::clone(portal)), ours: true });
    }

    pub(super) fn on_rows(&mut self, tag: BackendTag, len: usize) -> Result<Step, End> {
        let misplaced = if tag == BackendTag::CopyData {
            !self.copy_out
        } else {
            // Behind Execute a client may do without a description; in the simple protocol the server never does.
            matches!(self.queue.front(), Some(Expectation::Query(run)) if !run.described)
        };
        if misplaced {
            return Err(unasked(tag, self.queue.front()));
        }
        let run = match self.queue.front_mut() {
            Some(Expectation::Query(run) | Expectation::Execute(run)) => run,
            Some(Expectation::GuardRead { .. }) if tag == BackendTag::DataRow => {
                return self.on_guard_row(len);
            }
            other => return Err(unasked(tag, other.as_deref())),
        };
        if tag == BackendTag::DataRow {
            plan_run(run)?;
        }
        let width = run.plan.as_ref().map(|plan| plan.columns().len());
        let masks = match (tag, &run.plan, &self.masking.copy) {
            (BackendTag::CopyData, _, copy) => copy.as_ref().is_some_and(|copy| !copy.plan().is_clear()),
            (_, plan, _) => plan.as_ref().is_some_and(|plan| !plan.is_clear()),
        };
        let buffer = self.down.unscanned();
        let width = width.and_then(|width| u16::try_from(width).ok());
        let (rows, checked) = backend::check_rows(buffer, &self.limits, width);
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
            return Ok(self.stream_row());
        }
        if run.first_row_ns == 0 {
            run.first_row_ns = self.account.now_ns();
        }
        run.rows += rows.frames as u64;
        let frames = buffer.get(..rows.bytes).unwrap_or_default();
        let masked = match (&run.plan, tag) {
            (_, BackendTag::CopyData) if masks => self.masking.copied(frames)?,
            (Some(plan), BackendTag::DataRow) if masks => self.masking.rows(plan, frames)?,
            (Some(_) | None, _) => None,
        };
        match masked {
            None => {
                run.bytes += rows.bytes as u64;
                self.account.delivered(frames);
                self.down.pass(rows.bytes);
            }
            Some(masked) => {
                run.bytes += masked.len() as u64;
                self.account.delivered(&masked);
                self.down.replace(rows.bytes, masked);
            }
        }
        Ok(Step::Done)
    }

    pub(super) fn stream_row(&mut self) -> Step {
        let here = self.down.unscanned().len().min(self.rows_left);
        if here == 0 {
            return Step::NeedBytes;
        }
        if let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front_mut() {
            run.bytes += here as u64;
        }
        self.account.delivered(self.down.unscanned().get(..here).unwrap_or_default());
        self.rows_left -= here;
        self.down.pass(here);
        Step::Done
    }

    fn on_guard_row(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.down.unscanned();
        if frame.len() < len {
            self.down.make_room(len);
            return Ok(Step::NeedBytes);
        }
        let value = match Message::parse(frame.get(..len).unwrap_or_default()) {
            Ok(Message::DataRow(row)) => row.columns().iter().next().flatten().map(Box::from),
            Ok(_) => return Err(End::gateway("a DataRow that is none")),
            Err(fault) => return Err(End::backend_fault(&fault)),
        };
        if let Some(Expectation::GuardRead { values, .. }) = self.queue.front_mut() {
            values.push(value);
        }
        self.down.swallow(len);
        Ok(Step::Done)
    }

    /// What leaves in the stead of an error or notice of the server.
    pub(super) fn masked_report(&mut self, report: Report, len: usize) -> Result<Option<Vec<u8>>, End> {
        let detectors = self.judge.detectors();
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        self.masking.report(report, frame, &detectors)
    }

    pub(super) fn on_notification(&mut self, len: usize) -> Result<(), End> {
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let Message::NotificationResponse(note) =
            Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?
        else {
            return Err(End::gateway("a NotificationResponse frame that is none"));
        };
        let detectors = self.judge.detectors();
        let masked = self.masking.text("notification", note.payload(), &detectors).map(|payload| {
            let mut out = Vec::with_capacity(len);
            let encoded = encode::notification_response(&mut out, note.process_id(), note.channel(), payload);
            debug_assert!(encoded.is_ok());
            out
        });
        self.say_or_pass(len, masked);
        Ok(())
    }
}

/// The plan for the rows of a run, where anything looks at them: rows that nobody described do not pass.
fn plan_run(run: &mut Run) -> Result<(), End> {
    if run.detectors.is_empty() || run.plan.is_some() {
        return Ok(());
    }
    run.plan = run.portal.as_ref().and_then(|portal| portal.described.plan(run.detectors));
    match &run.plan {
        Some(_) => Ok(()),
        None => Err(End::backend(
            "pgturnstile ended the session: the target sent rows that it had not described, and the policy has rows searched. \
             Next: reconnect; if it stays so, report it with the statement",
        )),
    }
}
