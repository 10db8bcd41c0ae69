//! Tables that the open transaction has made itself, before any snapshot shows them.
//!
//! Owns: which definitions make a table behind which no code stands, and which statements only fill such a table: a batch of
//! rows may go on behind those, where everything else behind the session's own definitions is a full barrier. May not: know
//! what became of the transaction since (`SessionView::own_tables` says what still holds). Fails closed: what is no plain
//! table of built-in types, or no plain row of values, is none.
//!
//! Why no code can run: nobody else sees the table before its transaction ends; its definition names no other relation and no
//! type or function that is not a reviewed built-in; and what could give it code later (a trigger, rule, policy, index,
//! ALTER, a function, a block, the end of a savepoint) takes it off the list.

use super::{Resolution, SessionView};
use crate::catalog::{Snapshot, system};
use crate::class::Class;
use crate::statement::facts::{NameUse, StatementFacts};

/// The table that the statement makes, where no code can stand behind it; `None` where it makes none, or code might.
#[must_use]
pub fn makes_plain_table<'f>(
    facts: &'f StatementFacts,
    resolution: &Resolution,
    snapshot: &Snapshot,
) -> Option<&'f NameUse> {
    let [table] = facts.relations.as_slice() else { return None };
    let plain = facts.flags.plain_table
        && facts.class == Class::DdlCreate
        && table.class == Class::DdlCreate
        && !snapshot.has_relation_named(&table.name.name)
        && !resolution.runs_code
        && resolution.functions.is_empty()
        && of_built_in_types(facts, snapshot);
    plain.then_some(&table.name)
}

/// Whether the statement puts nothing but values into tables of that kind, and asks for nothing but their columns.
pub(super) fn fills_own_table(
    facts: &StatementFacts,
    snapshot: &Snapshot,
    session: &SessionView<'_>,
) -> bool {
    !session.private_code
        && !session.temp_possible
        && facts.class == Class::WriteInsert
        && facts.prepared.is_none()
        && facts.named.is_none()
        && facts.functions.is_empty()
        && facts.operators.is_empty()
        && of_built_in_types(facts, snapshot)
        && facts.relations.first().is_some_and(|target| {
            session.own_tables.contains(&target.name)
                && !snapshot.has_relation_named(&target.name.name)
                && facts.relations.iter().all(|used| used.name == target.name)
        })
}

/// Whether each type that the text names is one of the server's own, and nobody else's.
fn of_built_in_types(facts: &StatementFacts, snapshot: &Snapshot) -> bool {
    facts.types.iter().all(|used| {
        let of_server = used.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
            && (system::is_type(&used.name) || super::names::SERIAL_TYPES.contains(&used.name.as_str()));
        of_server && snapshot.types(&used.name).next().is_none()
    })
}
