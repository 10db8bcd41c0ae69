//! The rule near labels: what reaches no label passes; a labelled column stands only as a bare output; everything else is
//! refused, with the column, the label, its line, and what would pass.
//!
//! Owns: that rule (README decision 11, lineage.md 7.2 step 1). May not: mask, or see a row. Fails closed: what may run
//! code that nobody read is near every label of the target, and so is what the snapshot does not know.
//!
//! ```text
//! no label on the target ───────────────────────────────────────────────► far
//! functions, code behind relations, closed or unknown relations ────────► refused
//! every relation unlabelled, or its labels clear for the subject ───────► far
//! otherwise ─ follow the columns ─ used, stored, not followed ──────────► refused
//!                                └ bare outputs alone ──────────────────► near: fields, each clean or labelled
//! ```

use std::cell::Cell;
use std::sync::Arc;

use crate::catalog::{Event, Snapshot, system};
use crate::class::Class;
use crate::mask::plan::Style;
use crate::policy::atoms::Atom;
use crate::policy::fields::{FieldLabel, Fields, column_name};
use crate::policy::follow::{Follow, LOOKS_MAX};
use crate::policy::labelled::{Hit, LabelFact, Labelled, RULE_LABELS};
use crate::policy::model::{Disclose, Label, Permit, Rule};
use crate::policy::object::{Home, Object, Tier, home};
use crate::policy::outs::{Column, Outs, Trouble};
use crate::policy::place::Place as RulePlace;
use crate::policy::subject::Subject;
use crate::resolve::{Reach, Resolution, SearchPath, event};
use crate::statement::facts::{NamedUse, ObjectKind, StatementFacts};
use crate::statement::outline::{Outline, Place};

/// What the labels are seen by: the target's catalog and the session's names.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'s> {
    /// The labels of the target.
    pub labelled: &'s Labelled,
    /// The catalog that they were computed for, and the statement was resolved by.
    pub snapshot: &'s Snapshot,
    /// The session's path.
    pub path: &'s SearchPath,
    /// Unqualified names may mean temporary relations.
    pub temp_possible: bool,
    /// The names of those; `None` where not all are known.
    pub temp_names: Option<&'s [Arc<str>]>,
    /// The session's own DDL is not in the snapshot yet: what is not known may be what it made, which holds nothing labelled.
    pub private_catalog: bool,
}

/// What became of a statement.
pub(crate) enum Outcome {
    /// It reaches no label.
    Far,
    /// It reaches labels, and gives those that are not clear for the subject as bare outputs alone.
    Near(Fields),
    /// It is refused.
    Refused(Reached),
}

/// Why a statement is refused for a label.
pub(crate) struct Reached {
    /// The label, or the built-in rule where it is only feared.
    pub(crate) rule: Rule,
    /// Why, as a clause.
    pub(crate) why: String,
    /// What would pass.
    pub(crate) next: String,
}

/// One statement near labels.
pub(crate) struct Near<'n> {
    pub(crate) sight: &'n Sight<'n>,
    pub(crate) subject: &'n Subject,
    pub(crate) permits: &'n [Permit],
    pub(crate) atoms: &'n [Atom<'n>],
    pub(crate) statement: &'n StatementFacts,
    pub(crate) resolution: &'n Resolution,
}

/// How much a permit keeps back; see [`Disclose`].
const TOKEN: u8 = 0;
const MASKED: u8 = 1;
const WITHHELD: u8 = 2;

const NEXT_CODE: &str =
    "leave it out of the statement, or ask whoever keeps the policy to disclose in clear what it reads";
pub(crate) const NEXT_WHO_SEES_ALL: &str =
    "ask whoever keeps the policy: it takes an identity that sees every label of the target in clear";
const NEXT_NAME: &str = "check the name; what was made a moment ago is known within two seconds";
const NEXT_BARE: &str =
    "take labelled columns as plain outputs alone (SELECT id, column FROM …), which leave masked";

pub(crate) fn feared(why: String, next: &str) -> Reached {
    Reached { rule: Rule { id: RULE_LABELS.into(), place: RulePlace::built_in() }, why, next: next.into() }
}

impl Near<'_> {
    /// What becomes of the statement.
    pub(crate) fn judge(&self) -> Outcome {
        if self.sight.labelled.facts().is_empty() {
            return Outcome::Far;
        }
        if let Some(reached) = self.missing() {
            return Outcome::Refused(reached);
        }
        if self.sight.labelled.is_empty() {
            return Outcome::Far;
        }
        let reached = self.code().or_else(|| self.relations()).or_else(|| self.named_objects());
        let reached = reached.or_else(|| self.asked()).or_else(|| self.depended());
        if let Some(reached) = reached.or_else(|| self.moves_scans()) {
            return Outcome::Refused(reached);
        }
        let Some(first) = self.first_label() else {
            return match (self.copied(), self.all_cleared()) {
                (Some(reached), _) => Outcome::Refused(reached),
                (None, cleared) if cleared.is_empty() => Outcome::Far,
                (None, cleared) => Outcome::Near(Fields { more: true, cleared, ..Fields::default() }),
            };
        };
        match self.follow(self.statement, &first) {
            Ok(fields) => match self.copied() {
                Some(reached) => Outcome::Refused(reached),
                None => Outcome::Near(Fields { near: true, cleared: self.all_cleared(), ..fields }),
            },
            Err(reached) => Outcome::Refused(*reached),
        }
    }

    /// Labelled columns of what it reaches that leave in clear.
    fn all_cleared(&self) -> Vec<(u32, i16)> {
        let mut cleared = Vec::new();
        for relation in &self.resolution.relations {
            let Some(found) = self.sight.snapshot.relation(&relation.schema, &relation.name) else {
                continue;
            };
            for (number, hit) in self.sight.labelled.columns(found.oid).into_iter().flatten() {
                if self.cleared(found.oid, *hit) && !cleared.contains(&(found.oid, *number)) {
                    cleared.push((found.oid, *number));
                }
            }
        }
        cleared
    }

    /// Whether all that is labelled on the target is clear for the subject in calls of code that may read anything.
    pub(crate) fn code_is_clear(&self, class: Class, object: &Object<'_>) -> bool {
        self.clear_up_to(class, object).is_some_and(|tier| tier >= self.sight.labelled.strictest())
    }

    /// The tier up to which some permit lets the atom see in clear.
    pub(crate) fn clear_up_to(&self, class: Class, object: &Object<'_>) -> Option<Tier> {
        let covering = self.subject.permits.all_covering(self.permits, class, object);
        let tiers = covering.into_iter().filter_map(|at| match self.permits.get(at)?.disclose {
            Disclose::ClearUpTo(tier) => Some(tier),
            Disclose::Token | Disclose::Masked | Disclose::Withheld => None,
        });
        tiers.max()
    }

    /// Whether a label on a relation leaves in clear: every atom on the relation must say so.
    pub(crate) fn cleared(&self, relation: u32, hit: Hit) -> bool {
        let Some(fact) = self.sight.labelled.fact(hit) else { return false };
        self.least_generous(relation, |atom| {
            u8::from(self.clear_up_to(atom.class, &atom.object).is_none_or(|tier| tier < fact.tier))
        }) == Some(0)
    }

    /// What stands in for a labelled column of a relation: of the permits on an atom the most generous counts, of the atoms
    /// the least generous.
    fn style(&self, relation: u32, hit: Hit) -> Style {
        let Some(fact) = self.sight.labelled.fact(hit).filter(|_| hit.identity) else { return Style::Null };
        let reserve = self.least_generous(relation, |atom| {
            let covering = self.subject.permits.all_covering(self.permits, atom.class, &atom.object);
            let reserves = covering.into_iter().filter_map(|at| match self.permits.get(at)?.disclose {
                Disclose::Token => Some(TOKEN),
                // Not up to this tier, or the column would be clear.
                Disclose::ClearUpTo(_) | Disclose::Masked => Some(MASKED),
                Disclose::Withheld => Some(WITHHELD),
            });
            reserves.min().unwrap_or(WITHHELD)
        });
        match reserve {
            Some(TOKEN) => Style::Token(fact.canonical()),
            Some(MASKED) => fact.style(),
            Some(_) | None => Style::Null,
        }
    }

    /// The largest of what `reserve` says of the atoms on a relation; `None` where there is none.
    fn least_generous(&self, relation: u32, reserve: impl Fn(&Atom<'_>) -> u8) -> Option<u8> {
        let relation = self.sight.snapshot.relation_by_oid(relation)?;
        let on = |atom: &&Atom<'_>| {
            matches!(atom.object, Object::Relation { schema, name, reach: _ }
                if schema == &*relation.schema && name == &*relation.name)
        };
        self.atoms.iter().filter(on).map(reserve).max()
    }

    /// A relation that a label names and nobody knows: it may be there by the time the server looks.
    fn missing(&self) -> Option<Reached> {
        let unknown = |reach: Reach| matches!(reach, Reach::Unresolved);
        for relation in self.resolution.relations.iter().filter(|relation| unknown(relation.reach)) {
            let fact = self.sight.labelled.named(&relation.schema, &relation.name);
            if let (false, Some(fact)) = (self.sight.private_catalog, fact) {
                let why = format!(
                    "{}.{} is named by a label, and is not in the catalog that the gateway read",
                    relation.schema, relation.name
                );
                return Some(Reached { rule: fact.rule.clone(), why, next: NEXT_NAME.into() });
            }
        }
        None
    }

    pub(crate) fn follow_with<'a>(&'a self, cleared: &'a dyn Fn(u32, Hit) -> bool) -> Follow<'a> {
        Follow {
            labelled: self.sight.labelled,
            snapshot: self.sight.snapshot,
            path: self.sight.path,
            temp_possible: self.sight.temp_possible,
            temp_names: self.sight.temp_names,
            cleared,
            stored_alone: false,
            looks: Cell::new(LOOKS_MAX),
        }
    }

    /// Definitions of code, and of what reads elsewhere: until the catalog shows them nobody sees what they do, and behind it
    /// nobody reads what their bodies say.
    fn defines_code(&self) -> Option<Reached> {
        let unclear = |atom: &&Atom<'_>| !self.code_is_clear(atom.class, &atom.object);
        if self.statement.flags.asks_stored && self.atoms.iter().any(|atom| unclear(&atom)) {
            return Some(feared(
                format!(
                    "{} asks each column of that type whether its values fit, at once or by the next write",
                    self.statement.tag
                ),
                NEXT_WHO_SEES_ALL,
            ));
        }
        let domain = matches!(self.statement.tag, "CREATE DOMAIN" | "ALTER DOMAIN"); // what its CHECK calls is named
        let foreign = self.statement.tag.contains("FOREIGN");
        let found = self.atoms.iter().find(|atom| {
            let always = matches!(
                atom.class,
                Class::AdminExtension
                    | Class::AdminServer
                    | Class::AdminSubscription
                    | Class::ExportReplication
            );
            let renamed = matches!(
                atom.object,
                Object::Named { kind: ObjectKind::Function | ObjectKind::Operator, .. }
            );
            let code = always
                || atom.class == Class::DdlCode && !domain
                || matches!(atom.class, Class::DdlCreate | Class::DdlAlter) && (foreign || renamed);
            code && unclear(atom)
        })?;
        let why = format!(
            "{} defines what may read a labelled column, and nobody can see through it",
            found.class.name()
        );
        Some(feared(why, NEXT_WHO_SEES_ALL))
    }

    /// Code that may read or copy anything.
    fn code(&self) -> Option<Reached> {
        if let Some(reached) = self.defines_code() {
            return Some(reached);
        }
        for function in &self.resolution.functions {
            let object = Object::Function {
                schema: &function.schema,
                name: &function.name,
                arguments: &function.arguments,
            };
            let harmless = function.category.is_some_and(|category| !category.tells_stored_data());
            if !harmless && !self.code_is_clear(function.class, &object) {
                let why = format!("{object} may read a labelled column");
                return Some(feared(why, NEXT_CODE));
            }
        }
        if let Some(name) = self.calls_of_volumes().next() {
            return Some(feared(
                format!("{name} tells what a write did below its rows, and so how much of a guess was right"),
                NEXT_CODE,
            ));
        }
        if self.statement.flags.dynamic && !self.code_is_clear(self.statement.class, &Object::Whole) {
            return Some(feared("code that no text names may read a labelled column".into(), NEXT_CODE));
        }
        let reason = self.sight.snapshot.everywhere().filter(|_| self.statement.transaction.is_none())?;
        Some(feared(
            format!("code in the way of every statement ({reason}) may read a labelled column"),
            NEXT_CODE,
        ))
    }

    /// Relations that are closed, not known, or have code in their way.
    fn relations(&self) -> Option<Reached> {
        for relation in &self.resolution.relations {
            let name = || format!("{}.{}", relation.schema, relation.name);
            match relation.reach {
                Reach::Catalog | Reach::DataBearingCatalog if self.writes_catalog(relation) => {
                    let why =
                        format!("{} is the catalog itself: a write of it moves what labels stand on", name());
                    return Some(feared(why, NEXT_WHO_SEES_ALL));
                }
                Reach::DataBearingCatalog if system::may_show_values(&relation.schema, &relation.name) => {
                    let why = format!("{} may show a labelled column's values", name());
                    return Some(feared(why, NEXT_CODE));
                }
                Reach::Catalog if self.tells_volumes(relation) => {
                    let why = format!(
                        "{} counts what a write did below its rows, which tells how much of a guess was right",
                        name()
                    );
                    return Some(feared(why, NEXT_CODE));
                }
                // What is only dropped shows nothing (DROP … IF EXISTS of what is not there).
                Reach::Unresolved if !self.sight.private_catalog && relation.class != Class::DdlDrop => {
                    let why = format!(
                        "{} is not in the catalog that the gateway read, and may be a view of a labelled column",
                        name()
                    );
                    return Some(feared(why, NEXT_NAME));
                }
                Reach::DataBearingCatalog
                | Reach::Unresolved
                | Reach::Temporary
                | Reach::New
                | Reach::Catalog
                | Reach::Sequence => {}
                Reach::Table | Reach::View | Reach::MaterializedView | Reach::Foreign => {
                    if let Some(reached) =
                        self.relation(&relation.schema, &relation.name, relation.reach, relation.class)
                    {
                        return Some(reached);
                    }
                }
            }
        }
        None
    }

    fn relation(&self, schema: &Arc<str>, name: &Arc<str>, reach: Reach, class: Class) -> Option<Reached> {
        let found = self.sight.snapshot.relation(schema, name)?;
        let object = Object::Relation { schema, name, reach };
        if self.code_is_clear(class, &object) {
            return None;
        }
        if let Some(closed) = self.sight.labelled.closed(found.oid) {
            return Some(Reached {
                rule: closed.rule.clone(),
                why: format!("{schema}.{name} is closed: {}", closed.why),
                next: "ask whoever keeps the policy; `pgturnstile check` says what mends it".into(),
            });
        }
        let event = event(class);
        let view = matches!(reach, Reach::View | Reach::MaterializedView);
        if view && event == Event::Read {
            return None; // its definition was followed, and what it leads to closes it
        }
        let code = found.code(event)?;
        let why = format!("code behind a relation ({code}) may read or copy a labelled column");
        Some(feared(why, NEXT_CODE))
    }

    /// Objects that are named without being read: schemas, everything in one, CASCADE.
    fn named_objects(&self) -> Option<Reached> {
        for atom in self.atoms {
            let schema = match atom.object {
                Object::Unfixed if matches!(atom.class, Class::DdlDrop | Class::WriteTruncate) => continue,
                // What depends on a column or a constraint goes with it; nothing is renamed and nothing is read.
                Object::Unfixed if atom.why == "CASCADE" && self.statement.tag == "ALTER TABLE" => continue,
                Object::Unfixed => None,
                Object::Named { kind, schema: None, name } if home(kind) == Home::IsSchema => Some(name),
                Object::Named { .. }
                | Object::Whole
                | Object::Function { .. }
                | Object::Setting { .. }
                | Object::Relation { .. } => continue,
            };
            if self.code_is_clear(atom.class, &atom.object) {
                continue;
            }
            let Some(schema) = schema else {
                let why = "it reaches objects that the text does not name, and one of them may be labelled"
                    .to_owned();
                return Some(feared(why, "name every object"));
            };
            let labelled = self.sight.snapshot.relations().find(|(of, relation)| {
                *of == schema
                    && self.sight.labelled.columns(relation.oid).is_some_and(|hits| !hits.is_empty())
            });
            if let Some((_, relation)) = labelled {
                let why = format!(
                    "it changes schema {schema}, and {schema}.{} has labelled columns",
                    relation.name
                );
                return Some(feared(why, "ask whoever keeps the policy"));
            }
        }
        None
    }

    /// The first label that the statement reaches and that is not clear for the subject.
    fn first_label(&self) -> Option<Column> {
        for relation in &self.resolution.relations {
            let Some(found) = self.sight.snapshot.relation(&relation.schema, &relation.name) else {
                continue;
            };
            for (number, hit) in self.sight.labelled.columns(found.oid).into_iter().flatten() {
                if !self.cleared(found.oid, *hit) {
                    return Some(Column { relation: found.oid, number: *number, hit: *hit });
                }
            }
        }
        None
    }

    /// The fields of a statement that reaches `first`.
    fn follow(&self, statement: &StatementFacts, first: &Column) -> Result<Fields, Box<Reached>> {
        let cleared = |relation, hit| self.cleared(relation, hit);
        let follow = self.follow_with(&cleared);
        let outs = match &statement.outline {
            Outline::Rows(query) | Outline::CopyQuery(query) => follow.statement(query),
            Outline::CopyTable { relation, columns } => follow.relation(relation, columns),
            Outline::CopyIn(query) => follow.statement(query),
            Outline::Stores(query) => follow.statement(query).and_then(|outs| match outs.labelled() {
                Some(column) => Err(Trouble::Used(column, Place::Assigned)),
                None => Ok(Outs::default()),
            }),
            Outline::NoValues => Ok(Outs::default()),
            Outline::Carries => return self.carried(statement, first),
            Outline::Explains => {
                let why = "a plan tells of values by its estimates, widths and counts";
                return Err(Box::new(self.near(*first, why, "run it without EXPLAIN")));
            }
            Outline::Opaque => {
                let why = format!("{} is not followed near a label", statement.tag);
                return Err(Box::new(self.near(*first, &why, &self.next_disclosing(first.relation))));
            }
        };
        match outs {
            Ok(outs) => Ok(Fields {
                list: outs.list.iter().map(|out| out.column.map(|column| self.field(column))).collect(),
                more: outs.more,
                ..Fields::default()
            }),
            Err(Trouble::Used(column, place)) => {
                let (rule, name) = self.words(column);
                let why = format!(
                    "{name} and stands {}, where its values would show without leaving",
                    place.words()
                );
                Err(Box::new(Reached { rule, why, next: NEXT_BARE.into() }))
            }
            Err(Trouble::Unfollowed(why)) => Err(Box::new(self.near(*first, &why, NEXT_BARE))),
        }
    }

    /// What lets a statement pass that no mask could follow: leaving the relation out, or an identity that sees it in clear.
    fn next_disclosing(&self, relation: u32) -> String {
        let name = self.sight.snapshot.relation_by_oid(relation).map_or_else(
            || "the relation".to_owned(),
            |relation| format!("{}.{}", relation.schema, relation.name),
        );
        let tier = self.sight.labelled.tiers(relation).into_iter().max().unwrap_or(Tier::Secret).name();
        format!(
            "use an identity whose permit discloses {name} up to {tier} (disclose = {{ clear_up_to = \"{tier}\" }}), or leave {name} \
             out of it"
        )
    }

    /// What PREPARE holds is judged with it; what EXECUTE and FETCH bring in is judged by itself, by whoever brings it.
    fn carried(&self, statement: &StatementFacts, first: &Column) -> Result<Fields, Box<Reached>> {
        match (&statement.named, statement.prepared.as_deref()) {
            (Some(NamedUse::Prepare(_)), Some(inner)) => self.follow(inner, first),
            (Some(NamedUse::Execute(_) | NamedUse::Fetch(_)), None) if statement.relations.is_empty() => {
                Ok(Fields { more: true, ..Fields::default() })
            }
            _ => Err(Box::new(self.near(*first, "what it carries is not known", NEXT_BARE))),
        }
    }

    fn field(&self, column: Column) -> FieldLabel {
        let Column { relation, number, hit } = column;
        FieldLabel { relation, number, hit, style: self.style(relation, hit) }
    }

    pub(crate) fn near(&self, column: Column, why: &str, next: &str) -> Reached {
        let (rule, name) = self.words(column);
        Reached { rule, why: format!("it reaches a relation where {name}: {why}"), next: next.into() }
    }

    /// A label's rule, and "crm.customers.ssn is labelled restricted".
    pub(crate) fn words(&self, column: Column) -> (Rule, String) {
        let name = column_name(self.sight, column.relation, column.number);
        let unknown = || Rule { id: RULE_LABELS.into(), place: RulePlace::built_in() };
        let fact: Option<&LabelFact> = self.sight.labelled.fact(column.hit);
        let tier = fact.map_or("secret", |fact| fact.tier.name());
        (fact.map_or_else(unknown, |fact| fact.rule.clone()), format!("{name} is labelled {tier}"))
    }
}

/// For each column that a COPY to the client gives: the relation and column that it is. Empty where the statement is no such
/// COPY, or cannot be followed; `None` for what is computed, or may be several things. Told for detectors, no label rests on it.
#[must_use]
pub fn origins(statement: &StatementFacts, sight: &Sight<'_>) -> Vec<Option<(u32, i16)>> {
    let none = Labelled::default();
    let follow = Follow {
        labelled: &none,
        snapshot: sight.snapshot,
        path: sight.path,
        temp_possible: sight.temp_possible,
        temp_names: sight.temp_names,
        cleared: &|_, _| false,
        stored_alone: false,
        looks: Cell::new(LOOKS_MAX),
    };
    let outs = match &statement.outline {
        Outline::CopyQuery(query) => follow.statement(query),
        Outline::CopyTable { relation, columns } => follow.relation(relation, columns),
        Outline::Rows(_)
        | Outline::CopyIn(_)
        | Outline::Stores(_)
        | Outline::NoValues
        | Outline::Carries
        | Outline::Explains
        | Outline::Opaque => return Vec::new(),
    };
    match outs {
        Ok(outs) if !outs.more && !sight.private_catalog => outs.list.iter().map(|out| out.origin).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// The tiers of labels that an atom may reach: what restricts on `label:` and conditions on it ask.
pub(crate) fn tiers(sight: Option<&Sight<'_>>, labels: &[Label], atom: &Atom<'_>) -> Vec<Tier> {
    let Some(sight) = sight else { return labels.iter().map(|label| label.tier).collect() };
    match atom.object {
        Object::Relation { schema, name, reach: _ } => match sight.snapshot.relation(schema, name) {
            Some(relation) => sight.labelled.tiers(relation.oid),
            None => sight.labelled.named(schema, name).into_iter().map(|fact| fact.tier).collect(),
        },
        Object::Function { .. } | Object::Unfixed | Object::Named { .. } => sight.labelled.all_tiers(),
        Object::Whole | Object::Setting { .. } => Vec::new(),
    }
}

/// Without a catalog nothing is known of any object.
pub(crate) fn unseen(labels: &[Label], atoms: &[Atom<'_>]) -> Outcome {
    let names = |atom: &&Atom<'_>| match atom.object {
        Object::Relation { .. } | Object::Function { .. } | Object::Named { .. } | Object::Unfixed => true,
        Object::Whole | Object::Setting { .. } => false,
    };
    match atoms.iter().find(names).filter(|_| !labels.is_empty()) {
        Some(atom) => {
            let why =
                format!("the labels were not looked up on this target, and {} may be labelled", atom.object);
            Outcome::Refused(feared(why, "ask the operator: the gateway lacks the target's catalog"))
        }
        None => Outcome::Far,
    }
}
