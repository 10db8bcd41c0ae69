//! Who may read labelled values in clear must not make copies of them where no label stands (lineage.md 1.7).
//!
//! Owns: what of a statement whose labels are all clear is stored. May not: judge who sees what; [`crate::policy::labels`] does.
//! Fails closed: what cannot be followed in a statement that writes, and that reaches a label, is refused.
//!
//! Labels may choose and order what is written (WHERE, ON, ORDER BY …). What is written may not be made of them, in whatever
//! expression, and by whatever carrier: PREPARE, EXPLAIN ANALYZE, COPY of a query that writes.

use crate::class::Class;
use crate::policy::labels::{Near, Reached};
use crate::policy::outs::{Column, Outs, Trouble};
use crate::policy::probes;
use crate::statement::outline::{Act, Outline, Place, Query};

const NEXT: &str = "label the column that it goes to in a step of its own, or ask whoever keeps the policy";

impl Near<'_> {
    /// The copy that the statement makes.
    pub(crate) fn copied(&self) -> Option<Reached> {
        let reached = self.any_label()?;
        let outline = match (&self.statement.outline, self.statement.prepared.as_deref()) {
            (Outline::Carries, Some(inner)) => &inner.outline,
            (outline, _) => outline,
        };
        let stored = match outline {
            Outline::Rows(query) | Outline::CopyQuery(query) if writes(query) => self.stored(query),
            Outline::Stores(query) => self.stored(query).and_then(|outs| match outs.labelled() {
                Some(column) => Err(Trouble::Used(column, Place::Assigned)),
                None => Ok(outs),
            }),
            Outline::Explains if self.runs_a_write() => {
                let why = "EXPLAIN ANALYZE runs the write, and what it stores is not followed";
                return Some(self.near(reached, why, "run it without EXPLAIN"));
            }
            Outline::Rows(_)
            | Outline::CopyQuery(_)
            | Outline::CopyTable { .. }
            | Outline::CopyIn(_)
            | Outline::NoValues
            | Outline::Carries
            | Outline::Explains
            | Outline::Opaque => return None,
        };
        match stored {
            Ok(_) => None,
            Err(Trouble::Used(column, _)) => {
                let (rule, name) = self.words(column);
                let why = format!("{name}, and it would be copied to where no label stands");
                Some(Reached { rule, why, next: NEXT.into() })
            }
            Err(Trouble::Unfollowed(why)) => {
                let why = format!("what is written could not be told from it: {why}");
                Some(self.near(reached, &why, NEXT))
            }
        }
    }

    /// What a query gives and writes, with every label shut.
    fn stored(&self, query: &Query) -> Result<Outs, Trouble> {
        let shut = |_, _| false;
        let mut follow = self.follow_with(&shut);
        follow.stored_alone = true;
        follow.statement(query)
    }

    /// A label that the statement reaches.
    fn any_label(&self) -> Option<Column> {
        self.resolution.relations.iter().find_map(|reached| {
            let relation = self.sight.snapshot.relation(&reached.schema, &reached.name)?.oid;
            let (number, hit) = self.sight.labelled.columns(relation)?.iter().next()?;
            Some(Column { relation, number: *number, hit: *hit })
        })
    }

    fn runs_a_write(&self) -> bool {
        self.atoms.iter().any(|atom| {
            matches!(
                atom.class,
                Class::WriteInsert
                    | Class::WriteUpdate
                    | Class::WriteMerge
                    | Class::DdlCreate
                    | Class::DdlTemp
            )
        })
    }
}

/// Whether it gives values to a relation.
fn writes(query: &Query) -> bool {
    let mut found = Vec::new();
    probes::of_query(query, &mut found);
    found.iter().any(|write| matches!(write.act, Act::Insert | Act::Update))
}
