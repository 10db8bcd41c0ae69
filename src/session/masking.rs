//! Masking in its session: which plan holds for which rows, and what is counted of it.
//!
//! Owns: the masker, the running COPY, the tally since the last record; the description of a portal's rows; how the text's
//! word on labels and the server's are held against each other ([`Told`]). May not: judge, or release a byte: the backend
//! gate ([`super::flow`]) does. Fails closed: rows that nothing described, rows of another width, a labelled column where the
//! text shows none or another, COPY data that cannot be read end the session, and nothing of them is released.
//!
//! ```text
//!  simple:    RowDescription ──────────────────────────────► plan of the run
//!  extended:  Describe of the portal, the client's or ours ─► described, kept with the portal ─► plan of each Execute
//!  COPY:      CopyOutResponse and the statement's options ──► CopyMasker
//! ```
//!
//! | the text says | the server says | the field |
//! |---|---|---|
//! | a labelled column | that column | leaves by the label's style |
//! | a labelled column | no column | leaves as NULL |
//! | a labelled column | another column | the session ends |
//! | no label | a labelled column that no permit discloses | the session ends |
//! | no label | any other, or none | goes through the detectors |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgturnstile_proto::Format;
use pgturnstile_proto::backend::{CopyResponse, FieldDescription, RowDescription};
use pgturnstile_rules::catalog::{Column as CatalogColumn, FIRST_USER_OID, Relation};
use pgturnstile_rules::mask::copy::CopyMasker;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::originals::Originals;
use pgturnstile_rules::mask::plan::{Column, ColumnMask, LabelId, Origin, Plan, Reach, Style};
use pgturnstile_rules::mask::row::{Masker, Misfit};
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::side::Report;
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::mask::tally::{At, By, Tally};
use pgturnstile_rules::policy::labelled::Hit;
use pgturnstile_rules::policy::{self, FieldLabel, Fields, Labelled, Sight};
use pgturnstile_rules::statement::facts::{CopySpelling, StatementFacts};

use super::denial::{self, Refusal};
use super::end::End;
use super::judge::Decision;
use super::large;
use super::world::Ground;
use crate::evidence::record::v1;

/// What the server says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Oid of the relation that it is a plain column of; 0 where it is none.
    relation: u32,
    /// Number of that column; 0 for the whole row.
    number: i16,
    type_oid: u32,
    binary: bool,
}

impl Seen {
    pub(super) fn of(field: FieldDescription<'_>) -> Self {
        Self {
            relation: field.table_oid,
            number: field.attribute,
            type_oid: field.type_oid,
            binary: binary(field.format),
        }
    }
}

fn binary(format: Format) -> bool {
    match format {
        Format::Text => false,
        Format::Binary => true,
    }
}

/// What the server last said of a portal's rows. Right before each Execute it is asked again: a cursor may have been
/// declared anew, under its name, by code that no text names.
#[derive(Debug, Default)]
pub struct Described(Mutex<Answer>);

/// How many columns a portal's rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// It was not described.
    Unknown,
    /// It gives none.
    NoRows,
    /// So many.
    Columns(u16),
}

#[derive(Debug, Default)]
struct Answer {
    /// The server has answered.
    came: bool,
    fields: Option<Box<[Seen]>>,
    /// The record that holds it, where rows are kept.
    record: Option<u64>,
}

impl Described {
    /// A panic under the lock leaves a value that is whole: it is put in by one assignment.
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server answered, and the record that holds it; `None`: no rows.
    pub(super) fn answered(&self, rows: Option<&RowDescription<'_>>, record: Option<u64>) {
        let fields = rows.map(|rows| rows.iter().map(Seen::of).collect());
        *self.answer() = Answer { came: true, fields, record };
    }

    /// How many columns its rows have, as the server said at its Describe: they are settled at its Bind.
    pub(super) fn width(&self) -> Width {
        let answer = self.answer();
        match &answer.fields {
            Some(fields) => u16::try_from(fields.len()).map_or(Width::Unknown, Width::Columns),
            None if answer.came => Width::NoRows,
            None => Width::Unknown,
        }
    }

    /// The number of that record.
    pub(super) fn number(&self) -> Option<u64> {
        self.answer().record
    }

    /// The plan for its rows.
    ///
    /// # Errors
    /// Nothing, or no rows, were described; or text and server do not agree.
    pub(super) fn plan(
        &self,
        masking: &mut Masking,
        told: &Told<'_>,
        detectors: Detectors,
    ) -> Result<Plan, End> {
        match self.answer().fields.as_deref() {
            Some(fields) => masking.plan(fields.len(), fields.iter().copied(), told, detectors),
            None => Err(End::backend(
                "pgturnstile ended the session: the target sent rows that it had not described, and the policy has rows \
                 searched or masked. Next: reconnect; if it stays so, report it with the statement",
            )),
        }
    }
}

/// What the text of a statement says of its fields, and the labels by which the server's word is held against it.
pub(super) struct Told<'t> {
    fields: Option<&'t Fields>,
    /// The labels that the text was judged by.
    then: &'t Labelled,
    /// Those of now, which may be stricter.
    ground: &'t Ground,
    statement: Option<&'t StatementFacts>,
}

impl<'t> Told<'t> {
    pub(super) fn of(decision: &'t Decision, statement: usize, ground: &'t Ground) -> Self {
        let fields = decision.fields(statement).map(AsRef::as_ref);
        let statement = decision.facts.statements.get(statement);
        Self { fields, then: &decision.labelled, ground, statement }
    }

    /// The relation and column that each column of a COPY of `width` is, as far as the catalog tells; `by_name`: a name may
    /// mean something that the catalog does not show.
    fn copied(&self, width: usize, by_name: bool) -> Vec<Option<(u32, i16)>> {
        let sight = Sight {
            labelled: &self.ground.labelled,
            snapshot: &self.ground.snapshot,
            path: &self.ground.path,
            temp_possible: by_name,
            temp_names: None,
            private_catalog: by_name,
        };
        let known = self.statement.map(|statement| policy::origins(statement, &sight)).unwrap_or_default();
        if known.len() == width { known } else { vec![None; width] }
    }

    /// What the catalog knows of a column.
    fn column(&self, relation: u32, number: i16) -> Option<(&'t Relation, &'t CatalogColumn)> {
        let relation = self.ground.snapshot.relation_by_oid(relation)?;
        let column = relation.columns.as_deref()?.iter().find(|column| column.number == number)?;
        Some((relation, column))
    }

    /// The column that a field is, for its tokens.
    fn origin(&self, relation: u32, number: i16) -> Option<Origin> {
        let (relation, column) = self.column(relation, number)?;
        Some(Origin::of(&relation.schema, &relation.name, &column.name))
    }

    /// A column of a COPY that bears no label. A string of a type of users is a string.
    fn copied_column(&self, known: Option<(u32, i16)>, binary: bool) -> Column {
        let found = known.and_then(|(relation, number)| self.column(relation, number));
        let oid = found.and_then(|(_, column)| {
            (column.type_oid < FIRST_USER_OID || !column.text).then_some(column.type_oid)
        });
        let origin = known.and_then(|(relation, number)| self.origin(relation, number));
        Column { origin, ..Column::clear(Shape::of_copied(oid, binary)) }
    }

    /// Whether anything is labelled at all.
    pub(super) fn has_labels(&self) -> bool {
        self.fields.is_some() || !self.then.is_empty() || !self.ground.labelled.is_empty()
    }

    /// The label that the text shows on field `at` of `width`.
    fn label(&self, at: usize, width: usize) -> Result<Option<&'t FieldLabel>, End> {
        let Some(fields) = self.fields else { return Ok(None) };
        if !fields.more && fields.list.len() != width {
            return Err(disagree("a result of another width than the statement's text shows"));
        }
        Ok(fields.list.get(at).and_then(Option::as_ref))
    }

    /// What becomes of field `at` of `width` by labels; see the module's table.
    fn given(&self, at: usize, width: usize, seen: Seen, hits: &mut Hits<'t>) -> Result<Given<'t>, End> {
        match self.label(at, width)? {
            Some(label) if (seen.relation, seen.number) == (label.relation, label.number) => {
                Ok(Given::Label(label))
            }
            Some(_) if seen.relation == 0 => Ok(Given::Unproven),
            Some(_) => Err(disagree("another column than the labelled one that the statement's text shows")),
            None if self.is_labelled(seen, hits) => {
                Err(disagree("a labelled column that the statement's text does not show"))
            }
            None => Ok(Given::Clear),
        }
    }

    /// Whether the server's word is a labelled column that no permit disclosed to the statement.
    fn is_labelled(&self, seen: Seen, hits: &mut Hits<'t>) -> bool {
        if hits.relation != seen.relation {
            let of = [self.then, &*self.ground.labelled].map(|labelled| labelled.columns(seen.relation));
            *hits = Hits { relation: seen.relation, of };
        }
        let cleared =
            |number: i16| self.fields.is_some_and(|fields| fields.cleared.contains(&(seen.relation, number)));
        hits.of.into_iter().flatten().any(|columns| {
            // Number 0 is the whole row.
            columns.keys().any(|number| (seen.number == 0 || seen.number == *number) && !cleared(*number))
        })
    }

    /// How values of a labelled column are spelled. What the server calls a type of users may be a string all the same.
    fn shape(&self, label: &FieldLabel, type_oid: Option<u32>, binary: bool) -> Shape {
        let column = self.column(label.relation, label.number).map(|(_, column)| column);
        let of_user = type_oid.is_none_or(|oid| oid >= FIRST_USER_OID);
        match (column, type_oid) {
            (Some(column), _) if of_user && column.text => Shape::Text,
            (Some(column), None) => Shape::of(column.type_oid, binary),
            (_, Some(oid)) => Shape::of(oid, binary),
            (None, None) => Shape::Opaque,
        }
    }
}

/// The labels on the relation that was looked at last, then and now: fields of one relation stand together. Relation 0 is none.
#[derive(Default)]
struct Hits<'t> {
    relation: u32,
    of: [Option<&'t BTreeMap<i16, Hit>>; 2],
}

/// What becomes of a field by labels.
enum Given<'t> {
    /// Nothing.
    Clear,
    /// It leaves by the label's style.
    Label(&'t FieldLabel),
    /// The text shows a label, and the server does not say that it is that column.
    Unproven,
}

fn disagree(what: &str) -> End {
    End::gateway(format!(
        "pgturnstile ended the session: the target describes {what}, so nothing of it was released; the schema may have changed \
         a moment ago. Next: reconnect and run it again; if it stays so, report it with the statement"
    ))
}

/// Whether two judgements of what a portal gives show the same labels in the same fields.
pub(super) fn give_the_same(then: Option<&Arc<Fields>>, now: Option<&Arc<Fields>>) -> bool {
    let near = |fields: Option<&Arc<Fields>>| fields.is_some_and(|fields| fields.near);
    let labels = |fields: Option<&Arc<Fields>>| -> Vec<(usize, u32, i16, bool)> {
        let list = fields.into_iter().flat_map(|fields| fields.list.iter().enumerate());
        list.filter_map(|(at, field)| {
            field.as_ref().map(|field| (at, field.relation, field.number, field.hit.identity))
        })
        .collect()
    };
    near(then) == near(now) && labels(then) == labels(now)
}

/// The refusal where they do not: what the server planned then, it gives now.
pub(super) fn gives_other_labels(what: &str) -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: labels-moved",
        format!(
            "pgturnstile refused to read on from a {what}: since it was opened, the policy or the catalog has moved which of its \
             fields are labelled. Next: open it anew"
        ),
    )
}

/// See the module.
pub(super) struct Masking {
    masker: Masker,
    /// Of the COPY that runs.
    pub(super) copy: Option<CopyMasker>,
    /// It is spelled in binary.
    pub(super) copy_binary: bool,
    /// Since the last record.
    tally: Tally,
    /// Names of the labels that were carried out in this session: a [`LabelId`] is a place in it.
    labels: Vec<Arc<str>>,
    /// What was forwarded in this transaction may quote labelled values until it ends: constraints are checked there, and
    /// cursors run on.
    near_until_the_end: bool,
}

impl Masking {
    pub(super) fn new(key: TokenKey) -> Self {
        Self {
            masker: Masker::new(key),
            copy: None,
            copy_binary: false,
            tally: Tally::default(),
            labels: Vec::new(),
            near_until_the_end: false,
        }
    }

    /// A statement goes to the target.
    pub(super) fn forwarded(&mut self, decision: &Decision) {
        self.near_until_the_end |= decision.near_labels() && !decision.proven;
    }

    /// No transaction is open, and nothing is in flight.
    pub(super) fn transaction_ended(&mut self) {
        self.near_until_the_end = false;
    }

    pub(super) fn is_near_until_the_end(&self) -> bool {
        self.near_until_the_end
    }

    fn label(&mut self, label: &FieldLabel, of: &Labelled, style: Style) -> ColumnMask {
        let unknown = || Arc::from("label");
        let name = of.fact(label.hit).map_or_else(unknown, |fact| Arc::clone(&fact.rule.id));
        let known = self.labels.iter().position(|known| *known == name);
        let at = known.unwrap_or_else(|| {
            self.labels.push(name);
            self.labels.len() - 1
        });
        ColumnMask::Label { label: LabelId(u32::try_from(at).unwrap_or(u32::MAX)), style }
    }

    /// The plan for rows of `width` fields that the server describes so.
    ///
    /// # Errors
    /// Text and server do not agree: nothing of the rows may be released.
    pub(super) fn plan(
        &mut self,
        width: usize,
        fields: impl Iterator<Item = Seen>,
        told: &Told<'_>,
        detectors: Detectors,
    ) -> Result<Plan, End> {
        let tokens = detectors.give_tokens();
        let mut columns = Vec::with_capacity(width);
        let mut hits = Hits::default();
        for (at, seen) in fields.enumerate() {
            let shape = Shape::of(seen.type_oid, seen.binary);
            columns.push(match told.given(at, width, seen, &mut hits)? {
                Given::Clear => {
                    let origin = tokens.then(|| told.origin(seen.relation, seen.number)).flatten();
                    Column { origin, ..Column::clear(shape) }
                }
                Given::Label(label) => Column {
                    origin: None,
                    mask: self.label(label, told.then, label.style),
                    shape: told.shape(label, Some(seen.type_oid), seen.binary),
                },
                Given::Unproven => Column {
                    origin: None,
                    mask: ColumnMask::Null { why: "the server does not say that it is the labelled column" },
                    shape,
                },
            });
        }
        Ok(Plan::new(columns, detectors))
    }

    /// The masking of a COPY that begins. No server's word stands against the text's here, so every column must be told.
    ///
    /// # Errors
    /// The options leave it open how its rows are spelled, or the width is another.
    pub(super) fn copy_of(
        &mut self,
        response: &CopyResponse<'_>,
        told: &Told<'_>,
        by_name: bool,
        detectors: Detectors,
    ) -> Result<CopyMasker, End> {
        let spelling = told.statement.and_then(|facts| facts.copy_spelling.as_ref());
        let spelling = spelling.ok_or_else(|| End::gateway("a COPY whose spelling is not known"))?;
        let binary = match (spelling, response.overall()) {
            (CopySpelling::Binary, Format::Binary) => true,
            (CopySpelling::Text { .. } | CopySpelling::Csv { .. }, Format::Text) => false,
            (CopySpelling::Binary, Format::Text)
            | (CopySpelling::Text { .. } | CopySpelling::Csv { .. }, Format::Binary) => {
                return Err(End::gateway("a COPY that is spelled otherwise than its text says"));
            }
        };
        // Who chooses what NULL is written as could ask which values are written so (copyto.c quotes such a value in CSV
        // alone): all values of a labelled column are then written alike.
        let own_null = matches!(spelling, CopySpelling::Text { null, .. } if **null != *b"\\N");
        let width = response.columns().iter().count();
        let mut columns = Vec::with_capacity(width);
        for (at, known) in told.copied(width, by_name).into_iter().enumerate() {
            columns.push(match told.label(at, width)? {
                None => told.copied_column(known, binary),
                Some(label) => Column {
                    origin: None,
                    mask: self.label(label, told.then, if own_null { Style::Null } else { label.style }),
                    shape: told.shape(label, None, binary),
                },
            });
        }
        Ok(CopyMasker::new(Plan::new(columns, detectors), spelling.clone()))
    }

    /// Whether originals of what is masked next are kept, until they are taken; `first_row`: rows of the result before.
    pub(super) fn keep_originals(&mut self, keeps: bool, first_row: u64) {
        // Rows of a COPY are counted by what cuts it into rows.
        let first_row = if self.copy.is_some() { 0 } else { first_row };
        self.masker.keep_originals(keeps, first_row);
    }

    /// What was kept.
    pub(super) fn take_originals(&mut self) -> Originals {
        self.masker.take_originals()
    }

    /// What leaves in the stead of checked rows.
    pub(super) async fn rows(&mut self, plan: &Plan, run: &[u8]) -> Result<Option<Vec<u8>>, End> {
        if run.len() <= large::HERE_BYTES_MAX {
            return self.masker.rows(plan, run, &mut self.tally).map_err(misfit);
        }
        self.elsewhere(large::Of::Rows(plan.clone()), run).await
    }

    /// What leaves in the stead of checked CopyData.
    pub(super) async fn copied(&mut self, run: &[u8]) -> Result<Option<Vec<u8>>, End> {
        let Some(mut copy) = self.copy.take() else { return Ok(None) };
        if run.len() + copy.waiting_bytes() > large::HERE_BYTES_MAX {
            return self.elsewhere(large::Of::Copy(copy), run).await;
        }
        let masked = copy.run(&mut self.masker, run, &mut self.tally).map_err(misfit);
        self.copy = Some(copy);
        masked
    }

    /// The same where it would keep the shard's other sessions waiting.
    async fn elsewhere(&mut self, of: large::Of, run: &[u8]) -> Result<Option<Vec<u8>>, End> {
        let masker = Masker::new(self.masker.key().clone());
        let masker = std::mem::replace(&mut self.masker, masker);
        let work = large::Work { masker, tally: self.tally.take(), of, run: run.to_vec() };
        let (work, masked) = large::mask(work).await?;
        self.masker = work.masker;
        self.tally = work.tally;
        if let large::Of::Copy(copy) = work.of {
            self.copy = Some(copy);
        }
        masked.map_err(misfit)
    }

    /// What is left when a COPY ends.
    pub(super) fn copy_ended(&mut self) -> Result<Option<Vec<u8>>, End> {
        match self.copy.take() {
            Some(mut copy) => copy.end(&mut self.masker, &mut self.tally).map_err(misfit),
            None => Ok(None),
        }
    }

    /// What leaves in the stead of an error or a notice.
    pub(super) async fn report(
        &mut self,
        report: Report,
        frame: &[u8],
        detectors: &Detectors,
        reach: Reach,
    ) -> Result<Option<Vec<u8>>, End> {
        if frame.len() <= large::HERE_BYTES_MAX {
            return self.masker.report(report, frame, detectors, reach, &mut self.tally).map_err(misfit);
        }
        self.elsewhere(large::Of::Report(report, *detectors, reach), frame).await
    }

    /// The same for the evidence, which may tell less: `near`: it may quote a labelled value, whoever may see it.
    pub(super) async fn report_for_evidence(
        &mut self,
        report: Report,
        told: &[u8],
        detectors: &Detectors,
        near: bool,
    ) -> Result<Option<Vec<u8>>, End> {
        let reach = if near { Reach::Labels } else { Reach::NoLabel };
        // What the client was told is counted; this is told to nobody.
        let counted = self.tally.take();
        let masked = self.report(report, told, detectors, reach).await;
        self.tally = counted;
        masked
    }

    /// What stands in for a text of the server.
    pub(super) fn text(&mut self, what: &'static str, text: &[u8], detectors: &Detectors) -> Option<Vec<u8>> {
        self.masker.plain(what, text, detectors, &mut self.tally)
    }

    /// What stands in for a payload that may hold anything.
    pub(super) fn withheld_notification(&mut self) -> Vec<u8> {
        self.tally.add(At::Text("notification"), By::Withheld("its payload may hold a labelled value"));
        Vec::new()
    }

    /// What was masked since this was asked last.
    pub(super) fn counted(&mut self) -> Vec<v1::MaskCount> {
        if self.tally.is_empty() {
            return Vec::new();
        }
        let name = |label: LabelId| {
            usize::try_from(label.0).ok().and_then(|at| self.labels.get(at)).map_or("label", |name| name)
        };
        let counts = self.tally.take().sorted().into_iter();
        counts
            .map(|(at, by, count)| v1::MaskCount {
                place: match at {
                    At::Column(index) => format!("column {}", u32::from(index) + 1),
                    At::Text(what) => what.to_owned(),
                },
                by: match by {
                    By::Detector(detector) => format!("detector {}", detector.name()),
                    By::Label(label) => name(label).to_owned(),
                    By::Withheld(why) => format!("withheld: {why}"),
                },
                count,
            })
            .collect()
    }
}

fn misfit(misfit: Misfit) -> End {
    End::backend(format!(
        "pgturnstile ended the session: the target sent {misfit}, which cannot be masked. Next: reconnect; if it stays so, \
         report it with the statement"
    ))
}
