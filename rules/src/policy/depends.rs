//! Views and row security policies whose rows depend on labelled columns.
//!
//! Owns: [`Depends`], which of them the session may steer, and what of that passes. May not: read a definition; that is
//! `catalog/uses.rs`. Rows that are chosen by comparing a label with constants tell what the owner said; compared with a setting, a sequence, or a
//! column that the session may write, they answer whatever is asked. Such a relation is closed to who sees the column masked, as a predicate
//! would be; an equality of two columns is told as a foreign key tells it, and by the tier.

use crate::catalog::{Comparison, Snapshot};
use crate::class::Class;
use crate::policy::labelled::{Finding, Labelled};
use crate::policy::labels::{Near, Reached};
use crate::policy::model::Mode;
use crate::policy::object::Object;
use crate::policy::outs::Column;
use crate::policy::probes::Grade;
use crate::resolve::Reach;
use crate::statement::outline::Outline;

/// A labelled column that the rows of a relation depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Depends {
    /// The column.
    column: Column,
    /// What compares it, for a person: `row security policy a of crm.rl`.
    what: String,
    /// It is compared with what the session holds, or the definition does not read.
    session: bool,
    /// It is compared with columns of these relations.
    by: Vec<u32>,
    /// It is an equality of two columns.
    equality: bool,
}

impl Labelled {
    /// Finds them, once every label stands where it spreads to.
    pub(super) fn depend(&mut self, snapshot: &Snapshot) {
        for (schema, relation) in snapshot.relations().filter(|(_, relation)| !relation.system) {
            let name = format!("{schema}.{}", relation.name);
            let mut found = Vec::new();
            if let Some(view) = snapshot.view(relation.oid) {
                let what = format!("the definition of {name}");
                self.compared(view.comparisons.as_deref(), &view.reads, &what, &mut found);
            }
            for policy in snapshot.row_policies(relation.oid).iter().filter(|_| relation.row_security) {
                let what = format!("row security policy {} of {name}", policy.name);
                self.compared(policy.comparisons.as_deref(), &[(relation.oid, 0)], &what, &mut found);
            }
            if !found.is_empty() {
                self.depends.insert(relation.oid, found);
            }
        }
        self.pass_on(snapshot);
    }

    /// The labelled columns of comparisons, with what they are compared with.
    fn compared(
        &self,
        comparisons: Option<&[Comparison]>,
        reads: &[(u32, i16)],
        what: &str,
        found: &mut Vec<Depends>,
    ) {
        let unread = [Comparison { columns: reads.to_vec(), session: true, ..Comparison::default() }];
        for comparison in comparisons.unwrap_or(&unread) {
            for (at, (relation, number)) in comparison.columns.iter().enumerate() {
                let hits = self.columns(*relation).into_iter().flatten();
                for (column, hit) in hits.filter(|(column, _)| *number == 0 || *column == number) {
                    let others = comparison.columns.iter().enumerate().filter(|(other, _)| *other != at);
                    let mut by: Vec<u32> = others.map(|(_, (relation, _))| *relation).collect();
                    if comparison.rows {
                        by.push(*relation);
                    }
                    by.sort_unstable();
                    by.dedup();
                    let depends = Depends {
                        column: Column { relation: *relation, number: *column, hit: *hit },
                        what: what.to_owned(),
                        session: comparison.session,
                        by,
                        equality: comparison.equality,
                    };
                    if !found.contains(&depends) {
                        found.push(depends);
                    }
                }
            }
        }
    }

    /// A view has what the relations have that it reads.
    fn pass_on(&mut self, snapshot: &Snapshot) {
        let mut changed = !self.depends.is_empty();
        while changed {
            changed = false;
            for (_, relation) in snapshot.relations() {
                let Some(view) = snapshot.view(relation.oid) else { continue };
                let below = view.reads.iter().filter(|(read, _)| *read != relation.oid);
                let below: Vec<Depends> = below.flat_map(|(read, _)| self.depends(*read)).cloned().collect();
                for depends in below {
                    let own = self.depends.entry(relation.oid).or_default();
                    if !own.contains(&depends) {
                        own.push(depends);
                        changed = true;
                    }
                }
            }
        }
    }

    /// What the rows of a relation depend on.
    pub(crate) fn depends(&self, relation: u32) -> &[Depends] {
        self.depends.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Definitions that a session may steer are worth a word before somebody meets them.
    pub(super) fn tell_depends(&mut self, snapshot: &Snapshot) {
        let steered = |depends: &&Depends| depends.session || !depends.by.is_empty();
        let mut all: Vec<&Depends> = self.depends.values().flatten().filter(steered).collect();
        all.sort_unstable_by(|one, other| one.what.cmp(&other.what));
        all.dedup_by(|one, other| one.what == other.what && one.column == other.column);
        let told = all.into_iter().filter_map(|depends| {
            let fact = self.fact(depends.column.hit)?;
            let name = named(snapshot, depends.column);
            let with = if depends.session { "what a session holds" } else { "other columns" };
            let message = format!(
                "{} compares {name}, which is labelled, with {with}: who may steer that, and sees the column masked, is refused the \
                 relation. Next: compare it with constants alone, or disclose it",
                depends.what
            );
            Some(Finding { rule: fact.rule.clone(), message, unmatched: false })
        });
        let told: Vec<Finding> = told.collect();
        self.findings.extend(told);
    }
}

fn named(snapshot: &Snapshot, column: Column) -> String {
    let Some(relation) = snapshot.relation_by_oid(column.relation) else { return "a column".to_owned() };
    let columns = relation.columns.iter().flat_map(|all| all.iter());
    let name = { columns }.find(|of| of.number == column.number).map_or("?", |of| &*of.name);
    format!("{}.{}.{name}", relation.schema, relation.name)
}

impl Near<'_> {
    /// A definition behind the statement that answers what the session may ask, or whose plan would.
    pub(crate) fn depended(&self) -> Option<Reached> {
        let explains = matches!(self.statement.outline, Outline::Explains);
        for reached in self.resolution.relations.iter().filter(|reached| reached.class != Class::DdlDrop) {
            let relation = self.sight.snapshot.relation(&reached.schema, &reached.name);
            let all = relation.map_or(&[][..], |relation| self.sight.labelled.depends(relation.oid));
            for depends in all {
                let clear = self.is_read_in_clear(depends.column)
                    || relation.is_some_and(|relation| self.cleared(relation.oid, depends.column.hit));
                if clear {
                    continue;
                }
                if explains {
                    let why =
                        format!("{} compares it, and a plan tells of values by its estimates", depends.what);
                    return Some(self.near(depends.column, &why, "run it without EXPLAIN"));
                }
                if let Some(reached) = self.steered(depends) {
                    return Some(reached);
                }
            }
        }
        None
    }

    fn steered(&self, depends: &Depends) -> Option<Reached> {
        let Depends { column, what, session, by, equality } = depends;
        let grade = if *equality && !session { Grade::Equality } else { Grade::Comparison };
        let with = if *session {
            "what the session holds (a setting, a sequence, a random value)".to_owned()
        } else {
            let written = by.iter().find(|oid| self.may_write(**oid, &mut Vec::new()))?;
            let relation = self.sight.snapshot.relation_by_oid(*written);
            let name = relation.map_or("a relation".to_owned(), |of| format!("{}.{}", of.schema, of.name));
            format!("columns of {name}, which you may write")
        };
        if !grade.is_refused(self.tier(*column)) {
            return None;
        }
        let (rule, name) = self.words(*column);
        let why = format!("{name}; {what} compares it with {with}, so that the rows would answer");
        let next = "ask whoever keeps the policy to disclose that column to you, or the owner to compare it with constants alone";
        Some(Reached { rule, why, next: next.into() })
    }

    /// Whether some permit lets the subject give values to a relation, or to what a view reads. What is not known it may.
    fn may_write(&self, oid: u32, seen: &mut Vec<u32>) -> bool {
        if self.subject.access().mode == Mode::Read || seen.contains(&oid) {
            return false;
        }
        seen.push(oid);
        let Some(relation) = self.sight.snapshot.relation_by_oid(oid) else { return true };
        let object = Object::Relation { schema: &relation.schema, name: &relation.name, reach: Reach::Table };
        let writes = [Class::WriteInsert, Class::WriteUpdate, Class::WriteMerge, Class::ImportCopyIn];
        let permits = &self.subject.permits;
        writes.iter().any(|class| permits.covering(self.permits, *class, &object).is_some())
            || self
                .sight
                .snapshot
                .view(oid)
                .is_some_and(|view| view.reads.iter().any(|(read, _)| self.may_write(*read, seen)))
    }
}
