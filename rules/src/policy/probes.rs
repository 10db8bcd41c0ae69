//! Keys near labels: what answers a writer about rows that it does not see.
//!
//! Owns: which write asks which key or check, and what of that passes (lineage.md 2.1 and 2.2). May not: follow a value; that is
//! [`crate::policy::follow`]. Every write that gives a value to a key asks whether another row has it, and the answer is its
//! success, whatever becomes of the words of the error.
//!
//! | asked | grade | `internal` | `personal` | `restricted` | `secret` |
//! |---|---|---|---|---|---|
//! | a unique key, by a value of the client's | P1 | passes | passes | passes | refused |
//! | a foreign key, by a value of the client's | P1 | passes | passes | passes | refused |
//! | whether a row is referenced, by DELETE or UPDATE of it | P2 | passes | passes | passes | refused |
//! | what the rows that reference are asked, where CASCADE, SET NULL or SET DEFAULT deletes or changes them | as theirs | | | | |
//! | a check over a labelled column that the UPDATE leaves, and one that it writes | P5 | passes | refused | refused | refused |
//! | a generated column, an index's or partition key's expression over such two, which may fail | P5 | passes | refused | refused | refused |
//! | an exclusion constraint | P5 | passes | refused | refused | refused |
//! | ON CONFLICT of a key that holds a label, or any key where one does | as a predicate | refused | refused | refused | refused |

use crate::catalog::{Action, Key, KeyRule, Relation};
use crate::class::Class;
use crate::policy::labels::{Near, Reached};
use crate::policy::object::{Object, Tier};
use crate::policy::outs::Column;
use crate::resolve::Reach;
use crate::statement::outline::{Act, Conflict, Item, Outline, Query, Source, Write};

/// How much an answer tells (lineage.md 2.1).
#[derive(Clone, Copy)]
pub(crate) enum Grade {
    /// P1 and P2: whether a value is equal to one.
    Equality,
    /// P5: one bit of any value.
    Comparison,
}

impl Grade {
    pub(crate) fn is_refused(self, tier: Tier) -> bool {
        match self {
            Grade::Equality => tier >= Tier::Secret,
            Grade::Comparison => tier >= Tier::Personal,
        }
    }
}

/// What a key would tell.
struct Answer {
    column: Column,
    grade: Grade,
    /// The labels of another relation than the one that is written.
    elsewhere: bool,
}

const NEXT_KEY: &str =
    "leave the columns of that key out of what is written, or ask whoever keeps the policy";
const NEXT_CHECK: &str =
    "give the labelled columns of it a value in the same UPDATE, or ask whoever keeps the policy";
const NEXT_CONFLICT: &str = "name the columns of a key that holds no label: ON CONFLICT (id) DO …";

impl Near<'_> {
    /// A key or check of what the statement writes that would answer more than its label allows.
    pub(crate) fn asked(&self) -> Option<Reached> {
        let outline = match (&self.statement.outline, self.statement.prepared.as_deref()) {
            (Outline::Carries, Some(inner)) => &inner.outline,
            (outline, _) => outline,
        };
        let (Outline::Rows(query)
        | Outline::CopyQuery(query)
        | Outline::CopyIn(query)
        | Outline::Stores(query)) = outline
        else {
            return None;
        };
        let mut writes = Vec::new();
        of_query(query, &mut writes);
        writes.iter().find_map(|write| self.asked_by(write))
    }

    fn asked_by(&self, write: &Write) -> Option<Reached> {
        let name = &write.relation;
        let named = |schema: &str| self.sight.snapshot.relation(schema, &name.name);
        match &name.schema {
            Some(schema) => named(schema).and_then(|relation| self.asked_of(write, relation)),
            // Each relation that the name may mean.
            None => self
                .sight
                .path
                .schemas()
                .filter_map(|schema| named(schema))
                .find_map(|relation| self.asked_of(write, relation)),
        }
    }

    fn asked_of(&self, write: &Write, target: &Relation) -> Option<Reached> {
        self.asked_through(write, target, false, &mut Vec::new())
    }

    /// Keys of the relation itself, of those that its rows may go to, and of those whose rows a foreign key changes with them.
    /// `through`: such a foreign key makes the write, and the statement does not name the relation.
    fn asked_through(
        &self,
        write: &Write,
        target: &Relation,
        through: bool,
        followed: &mut Vec<(u32, Act, Option<Vec<String>>)>,
    ) -> Option<Reached> {
        let step = (target.oid, write.act, write.columns.clone());
        if followed.contains(&step) {
            return None;
        }
        followed.push(step);
        let kin = target.kin.iter().flat_map(|kin| kin.iter());
        let kin = kin.filter_map(|(schema, name)| self.sight.snapshot.relation(schema, name));
        std::iter::once(target).chain(kin).find_map(|holder| {
            self.sight.snapshot.keys(holder.oid).iter().find_map(|key| {
                let columns = columns(key, holder, target);
                let conflict = || self.conflict(write, key, target, &columns);
                let own = (!through).then(conflict).flatten();
                own.or_else(|| self.refused(write, key, target, &columns, through)).or_else(|| {
                    let (next, relation) = self.follows(write, key, target, &columns)?;
                    self.asked_through(&next, relation, true, followed)
                })
            })
        })
    }

    /// The write that a foreign key makes of this one, in the relation that references.
    fn follows(&self, write: &Write, key: &Key, target: &Relation, of: &[i16]) -> Option<(Write, &Relation)> {
        let KeyRule::ReferencedBy { relation, columns, on_delete, on_update } = &key.rule else {
            return None;
        };
        let action = match write.act {
            Act::Delete => *on_delete,
            Act::Update if writes(write, target, of) => *on_update,
            Act::Update | Act::Insert => return None,
        };
        let relation = self.sight.snapshot.relation_by_oid(*relation)?;
        let act = match (action, write.act) {
            (Action::Refuses, _) => return None,
            (Action::Cascades, Act::Delete) => Act::Delete,
            (Action::Cascades, Act::Update | Act::Insert) | (Action::Sets, _) => Act::Update,
        };
        let known = relation.columns.is_some() && act == Act::Update;
        let names = || {
            let numbers: Vec<i16> = every(relation, columns).collect();
            let all = relation.columns.iter().flat_map(|all| all.iter());
            all.filter(|column| numbers.contains(&column.number))
                .map(|column| column.name.to_string())
                .collect()
        };
        let columns = known.then(names);
        Some((Write { relation: write.relation.clone(), act, columns, conflict: None }, relation))
    }

    /// The strictest label on some columns of a relation that is not clear for the subject.
    fn label(&self, relation: u32, columns: &[i16], elsewhere: bool) -> Option<Column> {
        let hits = self.sight.labelled.columns(relation)?;
        let all = columns.contains(&0);
        let found = hits.iter().filter(|(number, _)| all || columns.contains(number));
        let found = found.map(|(number, hit)| Column { relation, number: *number, hit: *hit });
        let shut = found.filter(|column| {
            if elsewhere { !self.is_read_in_clear(*column) } else { !self.cleared(relation, column.hit) }
        });
        shut.max_by_key(|column| self.tier(*column))
    }

    /// Whether a permit lets the subject read a column in clear that the statement does not name.
    pub(crate) fn is_read_in_clear(&self, column: Column) -> bool {
        let Some(relation) = self.sight.snapshot.relation_by_oid(column.relation) else { return false };
        let object = Object::Relation { schema: &relation.schema, name: &relation.name, reach: Reach::Table };
        self.clear_up_to(Class::ReadSelect, &object).is_some_and(|tier| tier >= self.tier(column))
    }

    pub(crate) fn tier(&self, column: Column) -> Tier {
        self.sight.labelled.fact(column.hit).map_or(Tier::Secret, |fact| fact.tier)
    }

    /// ON CONFLICT asks like a predicate, and its answer is no error.
    fn conflict(&self, write: &Write, key: &Key, target: &Relation, columns: &[i16]) -> Option<Reached> {
        let asks = match (&write.conflict, &key.rule) {
            (None, _) => false,
            (Some(Conflict::Any), KeyRule::Unique | KeyRule::Exclusion) => true,
            (Some(Conflict::Constraint(name)), KeyRule::Unique | KeyRule::Exclusion) => **name == *key.name,
            (
                Some(_),
                KeyRule::Check
                | KeyRule::Partition
                | KeyRule::Computed
                | KeyRule::Ordered { .. }
                | KeyRule::References { .. }
                | KeyRule::ReferencedBy { .. },
            ) => false,
        };
        let column = asks.then(|| self.label(target.oid, columns, false)).flatten()?;
        let (rule, name) = self.words(column);
        let why =
            format!("{name}, and ON CONFLICT without columns asks the key {}, which holds it", key.name);
        Some(Reached { rule, why, next: NEXT_CONFLICT.into() })
    }

    fn refused(
        &self,
        write: &Write,
        key: &Key,
        target: &Relation,
        columns: &[i16],
        through: bool,
    ) -> Option<Reached> {
        let answer = self.answer(write, key, target, columns, through)?;
        if !answer.grade.is_refused(self.tier(answer.column)) {
            return None;
        }
        let (rule, name) = self.words(answer.column);
        let what = match key.rule {
            KeyRule::Unique => "the unique key",
            KeyRule::Exclusion => "the exclusion constraint",
            KeyRule::Check => "the check",
            KeyRule::Partition => "the partition key",
            KeyRule::Computed => "the expression of",
            KeyRule::Ordered { .. } => "the index",
            KeyRule::References { .. } | KeyRule::ReferencedBy { .. } => "the foreign key",
        };
        let place = if answer.elsewhere { "leads to it" } else { "holds it" };
        let why = format!("{name}; {what} {} {place}, and would answer whether a value is there", key.name);
        let next = if matches!(key.rule, KeyRule::Check | KeyRule::Computed) { NEXT_CHECK } else { NEXT_KEY };
        Some(Reached { rule, why, next: next.into() })
    }

    /// A label that an UPDATE leaves, and that a generated column of a key is computed from with what it writes: what the key
    /// answers is no equality of the label's.
    fn mixed(&self, write: &Write, target: &Relation, columns: &[i16]) -> Option<Column> {
        let generated =
            target.columns.iter().flat_map(|all| all.iter()).filter(|column| column.generated.is_some());
        generated.filter(|column| columns.contains(&column.number)).find_map(|column| {
            let inputs: Vec<i16> = computed_from(target, &[column.number]).collect();
            let left: Vec<i16> =
                inputs.iter().copied().filter(|input| !writes_one(write, target, *input)).collect();
            self.label(target.oid, &left, false).filter(|_| left.len() < inputs.len())
        })
    }

    /// What a key answers to a write.
    fn answer(
        &self,
        write: &Write,
        key: &Key,
        target: &Relation,
        columns: &[i16],
        through: bool,
    ) -> Option<Answer> {
        let own = |grade| {
            let column = self.label(target.oid, columns, through)?;
            Some(Answer { column, grade, elsewhere: through })
        };
        let other = |relation: u32, columns: &[i16]| {
            let column = self.label(relation, columns, true)?;
            Some(Answer { column, grade: Grade::Equality, elsewhere: true })
        };
        let writes = writes(write, target, columns);
        match (&key.rule, write.act) {
            (KeyRule::Unique | KeyRule::References { .. }, Act::Update)
                if self.mixed(write, target, columns).is_some() =>
            {
                let column = self.mixed(write, target, columns)?;
                Some(Answer { column, grade: Grade::Comparison, elsewhere: through })
            }
            (KeyRule::Unique, Act::Insert | Act::Update) if writes => own(Grade::Equality),
            (KeyRule::Exclusion, Act::Insert | Act::Update) if writes => own(Grade::Comparison),
            (KeyRule::References { relation, columns }, Act::Insert | Act::Update) if writes => {
                other(*relation, columns)
            }
            (KeyRule::Check | KeyRule::Computed, Act::Update) if writes => {
                let read = every(target, columns).chain(computed_from(target, columns));
                let left: Vec<i16> = read.filter(|number| !writes_one(write, target, *number)).collect();
                let column = self.label(target.oid, &left, through)?;
                Some(Answer { column, grade: Grade::Comparison, elsewhere: through })
            }
            (
                KeyRule::ReferencedBy { relation, columns, on_delete: Action::Refuses, on_update: _ },
                Act::Delete,
            ) => other(*relation, columns),
            (
                KeyRule::ReferencedBy { relation, columns, on_delete: _, on_update: Action::Refuses },
                Act::Update,
            ) if writes => other(*relation, columns),
            (
                KeyRule::Unique
                | KeyRule::Exclusion
                | KeyRule::Check
                | KeyRule::Partition
                | KeyRule::Computed
                | KeyRule::Ordered { .. }
                | KeyRule::References { .. }
                | KeyRule::ReferencedBy { .. },
                Act::Insert | Act::Update | Act::Delete,
            ) => None,
        }
    }
}

/// The columns of a key of `holder`, as `target` numbers them.
fn columns(key: &Key, holder: &Relation, target: &Relation) -> Vec<i16> {
    if holder.oid == target.oid || key.columns.contains(&0) {
        return key.columns.to_vec();
    }
    let of = |relation: &Relation| relation.columns.clone().unwrap_or_default();
    let (theirs, own) = (of(holder), of(target));
    let name =
        |number: &i16| theirs.iter().find(|column| column.number == *number).map(|column| &column.name);
    let number = |name: &std::sync::Arc<str>| {
        own.iter().find(|column| column.name == *name).map(|column| column.number)
    };
    key.columns.iter().filter_map(name).filter_map(number).collect()
}

/// Every column that the numbers mean: 0 is all of them.
fn every<'c>(target: &'c Relation, columns: &'c [i16]) -> impl Iterator<Item = i16> + 'c {
    let all = target.columns.iter().flat_map(|all| all.iter()).map(|column| column.number);
    all.filter(|number| columns.contains(&0) || columns.contains(number))
}

/// The columns that the generated ones among some are computed from.
fn computed_from<'c>(target: &'c Relation, columns: &'c [i16]) -> impl Iterator<Item = i16> + 'c {
    let all = target.columns.iter().flat_map(|all| all.iter());
    let generated = all.filter(|column| columns.contains(&0) || columns.contains(&column.number));
    generated.filter_map(|column| column.generated.as_deref()).flat_map(move |inputs| {
        let all: &[i16] = if inputs.is_empty() { &[0] } else { inputs };
        every(target, all)
    })
}

/// Whether the write gives a value to any of the columns. Where the relation's columns are not known it does.
fn writes(write: &Write, target: &Relation, columns: &[i16]) -> bool {
    target.columns.is_none() || every(target, columns).any(|number| writes_one(write, target, number))
}

/// Whether it gives a value to that column, or lets a default do so that the writer may steer; a generated one changes with those
/// that it is computed from.
fn writes_one(write: &Write, target: &Relation, number: i16) -> bool {
    let Some(listed) = &write.columns else { return true };
    let all = target.columns.as_deref().unwrap_or_default();
    let Some(column) = all.iter().find(|column| column.number == number) else { return true };
    let given = |column: &crate::catalog::Column| {
        listed.iter().any(|listed| *listed == *column.name)
            || write.act == Act::Insert && column.default_varies
    };
    match &column.generated {
        None => given(column),
        Some(inputs) => {
            let input = |of: &&crate::catalog::Column| inputs.is_empty() || inputs.contains(&of.number);
            all.iter().filter(input).any(given)
        }
    }
}

/// Every write in a query, at any depth.
pub(crate) fn of_query<'q>(query: &'q Query, found: &mut Vec<&'q Write>) {
    let Query { with, recursive: _, arms, level } = query;
    found.extend(&level.writes);
    let inner = level.queries.iter().map(|inner| &inner.query);
    let stored = level.stores.as_deref();
    for query in with.iter().map(|with| &with.query).chain(arms).chain(inner).chain(stored) {
        of_query(query, found);
    }
    for item in level.items.iter().chain(&level.hidden) {
        of_item(item, found);
    }
}

fn of_item<'q>(item: &'q Item, found: &mut Vec<&'q Write>) {
    match &item.source {
        Source::Query { query, lateral: _ } => of_query(query, found),
        Source::Join { sides, natural: _, using: _, using_alias: _ } => {
            sides.iter().for_each(|side| of_item(side, found));
        }
        Source::Relation(_) | Source::Target(_) | Source::Function | Source::Excluded => {}
    }
}
