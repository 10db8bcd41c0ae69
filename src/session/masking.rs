//! Masking in its session: which plan holds for which rows, and what is counted of it.
//!
//! Owns: the masker, the running COPY, the tally since the last record; the description of a portal's rows. May not: judge, or
//! release a byte: the backend gate ([`super::flow`]) does. Fails closed: rows that nothing described, rows of another
//! width, COPY data that cannot be read end the session, and nothing of them is released.
//!
//! ```text
//!  simple:    RowDescription ──────────────────────────────► plan of the run
//!  extended:  Describe of the portal, the client's or ours ─► described, kept with the portal ─► plan of each Execute
//!  COPY:      CopyOutResponse and the statement's options ──► CopyMasker
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use pgturnstile_proto::Format;
use pgturnstile_proto::backend::{CopyResponse, RowDescription};
use pgturnstile_rules::mask::copy::CopyMasker;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::plan::{Column, ColumnMask, Plan, Reach};
use pgturnstile_rules::mask::row::{Masker, Misfit};
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::side::Report;
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::mask::tally::Tally;
use pgturnstile_rules::statement::facts::CopySpelling;

use super::end::End;

/// What the server last said of a portal's rows. Right before each Execute it is asked again: a cursor may have been
/// declared anew, under its name, by code that no text names.
#[derive(Debug, Default)]
pub struct Described(Mutex<Option<Box<[Shape]>>>);

impl Described {
    /// A panic under the lock leaves a value that is whole: it is put in by one assignment.
    fn shapes(&self) -> MutexGuard<'_, Option<Box<[Shape]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server answered; `None`: no rows.
    pub(super) fn answered(&self, rows: Option<&RowDescription<'_>>) {
        *self.shapes() = rows
            .map(|rows| rows.iter().map(|field| Shape::of(field.type_oid, binary(field.format))).collect());
    }

    /// The plan for its rows; `None` where nothing, or no rows, were described.
    pub(super) fn plan(&self, detectors: Detectors) -> Option<Plan> {
        Some(plan(self.shapes().as_deref()?.iter().copied(), detectors))
    }
}

fn binary(format: Format) -> bool {
    match format {
        Format::Text => false,
        Format::Binary => true,
    }
}

/// No label stands on a column yet: what reaches one is refused by the policy.
fn plan(shapes: impl Iterator<Item = Shape>, detectors: Detectors) -> Plan {
    Plan::new(shapes.map(|shape| Column { mask: ColumnMask::Clear, shape }).collect(), detectors)
}

/// The plan for rows that this frame describes.
pub(super) fn plan_of(rows: &RowDescription<'_>, detectors: Detectors) -> Plan {
    plan(rows.iter().map(|field| Shape::of(field.type_oid, binary(field.format))), detectors)
}

/// The masking of a COPY that begins; `None` where the options leave it open how its rows are spelled.
pub(super) fn copy_of(
    response: &CopyResponse<'_>,
    spelling: Option<&CopySpelling>,
    detectors: Detectors,
) -> Option<CopyMasker> {
    let spelling = spelling?;
    let shape = match (spelling, response.overall()) {
        (CopySpelling::Binary, Format::Binary) => Shape::UnknownBinary,
        (CopySpelling::Text { .. } | CopySpelling::Csv { .. }, Format::Text) => Shape::Unknown,
        (CopySpelling::Binary, Format::Text)
        | (CopySpelling::Text { .. } | CopySpelling::Csv { .. }, Format::Binary) => return None,
    };
    let columns = response.columns().iter().count();
    Some(CopyMasker::new(plan((0..columns).map(|_| shape), detectors), spelling.clone()))
}

/// See the module.
pub(super) struct Masking {
    masker: Masker,
    /// Of the COPY that runs.
    pub(super) copy: Option<CopyMasker>,
    /// Since the last record.
    pub(super) tally: Tally,
}

impl Masking {
    pub(super) fn new(key: TokenKey) -> Self {
        Self { masker: Masker::new(key), copy: None, tally: Tally::default() }
    }

    /// What leaves in the stead of checked rows.
    pub(super) fn rows(&mut self, plan: &Plan, run: &[u8]) -> Result<Option<Vec<u8>>, End> {
        self.masker.rows(plan, run, &mut self.tally).map_err(misfit)
    }

    /// What leaves in the stead of checked CopyData.
    pub(super) fn copied(&mut self, run: &[u8]) -> Result<Option<Vec<u8>>, End> {
        match &mut self.copy {
            Some(copy) => copy.run(&mut self.masker, run, &mut self.tally).map_err(misfit),
            None => Ok(None),
        }
    }

    /// What is left when a COPY ends.
    pub(super) fn copy_ended(&mut self) -> Result<Option<Vec<u8>>, End> {
        match self.copy.take() {
            Some(mut copy) => copy.end(&mut self.masker, &mut self.tally).map_err(misfit),
            None => Ok(None),
        }
    }

    /// What leaves in the stead of an error or a notice.
    pub(super) fn report(
        &mut self,
        report: Report,
        frame: &[u8],
        detectors: &Detectors,
    ) -> Result<Option<Vec<u8>>, End> {
        self.masker.report(report, frame, detectors, Reach::NoLabel, &mut self.tally).map_err(misfit)
    }

    /// What stands in for a text of the server.
    pub(super) fn text(&mut self, what: &'static str, text: &[u8], detectors: &Detectors) -> Option<Vec<u8>> {
        self.masker.plain(what, text, detectors, &mut self.tally)
    }
}

fn misfit(misfit: Misfit) -> End {
    End::backend(format!(
        "pgturnstile ended the session: the target sent {misfit}, which cannot be masked. Next: reconnect; if it stays so, \
         report it with the statement"
    ))
}
