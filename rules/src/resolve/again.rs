//! Whether a statement means the same when it comes again behind code that ran with it.
//!
//! Owns: which batches a relaxed barrier (README decision 6) lets go on: code behind a trigger, a default or a type may have
//! moved the search path, the role or row security by the second time, and may move them back before anybody reads them.
//! May not: judge. Fails closed: what is no plain write of one table, whose every name is unmistakable, does not come again.

use super::own::fills_own_table;
use super::{Reach, Resolution, SessionView};
use crate::catalog::{Snapshot, system};
use crate::class::Class;
use crate::statement::facts::{NameUse, StatementFacts};

/// Whether the statement does no more the second time than the first, whatever settings its code has moved: it writes one
/// table and reads no other, and each name without a schema is that of one object in all schemas. What it may do to that
/// table, it was let do the first time; row security alone would look at each row by who the session is by then.
#[must_use]
pub fn may_come_again(
    facts: &StatementFacts,
    resolution: &Resolution,
    snapshot: &Snapshot,
    session: &SessionView<'_>,
) -> bool {
    let writes = |class| matches!(class, Class::WriteInsert | Class::WriteUpdate | Class::WriteDelete);
    let target = facts.relations.first().map(|used| &used.name);
    // A table of this transaction's own is in no snapshot, and nobody else can touch it.
    let own = fills_own_table(facts, snapshot, session);
    let plain = |reach: &Reach| {
        matches!(reach, Reach::Table | Reach::Temporary)
            || own && matches!(reach, Reach::Unresolved | Reach::New)
    };
    writes(facts.class)
        && facts.prepared.is_none()
        && facts.relations.iter().all(|used| {
            (writes(used.class) || used.class == Class::ReadSelect)
                && Some(&used.name) == target
                && (used.name.schema.is_some() || !snapshot.shares_its_name(&used.name.name))
        })
        && resolution.relations.iter().all(|found| {
            let known = snapshot.relation(&found.schema, &found.name);
            plain(&found.reach) && !known.is_some_and(|relation| relation.row_security)
        })
        && facts
            .functions
            .iter()
            .all(|used| of_server(&used.name) || snapshot.routines(&used.name.name).is_empty())
        && facts.operators.iter().all(|used| {
            used.schema.as_deref() == Some("pg_catalog") || snapshot.operators(&used.name).is_empty()
        })
        && facts.types.iter().all(|name| of_server(name) || one_type(name, snapshot))
        && facts.attributes.iter().all(|name| snapshot.routines(name).is_empty())
}

/// Whether every name of the statement is that of one object, whatever path and role it is analysed under: code that runs
/// while it is (input functions of types on its constants) may move both between two of its own names.
#[must_use]
pub fn is_unmistakable(facts: &StatementFacts, resolution: &Resolution, snapshot: &Snapshot) -> bool {
    let one = |name: &NameUse, others: bool| name.schema.is_some() || !others;
    facts.relations.iter().all(|used| one(&used.name, snapshot.shares_its_name(&used.name.name)))
        && facts.functions.iter().all(|used| one(&used.name, !snapshot.routines(&used.name.name).is_empty()))
        && facts
            .operators
            .iter()
            .all(|used| used.schema.is_some() || snapshot.operators(&used.name).is_empty())
        && facts.types.iter().all(|name| of_server(name) || one_type(name, snapshot))
        && facts.attributes.iter().all(|name| snapshot.routines(name).is_empty())
        && facts.newer.is_empty()
        && facts.prepared.as_deref().is_none_or(|inner| is_unmistakable(inner, resolution, snapshot))
        && resolution.relations.iter().all(|found| {
            !snapshot.relation(&found.schema, &found.name).is_some_and(|relation| relation.row_security)
        })
}

fn of_server(name: &NameUse) -> bool {
    name.schema.as_deref() == Some("pg_catalog")
}

fn one_type(name: &NameUse, snapshot: &Snapshot) -> bool {
    let of_users = snapshot.types(&name.name).count();
    name.schema.is_some() || of_users + usize::from(system::is_type(&name.name)) <= 1
}

/// Whether both lifted texts put rows of parameters into the same columns of the same table: drivers spell a batch of rows as
/// texts of several lengths (pgjdbc's `reWriteBatchedInserts`).
#[must_use]
pub fn same_rows(one: &str, other: &str) -> bool {
    match (rows_of_parameters(one), rows_of_parameters(other)) {
        (Some(before), Some(same)) => before == same,
        (None, _) | (_, None) => false,
    }
}

/// What stands before the VALUES of an insert behind which nothing but parameters stands.
fn rows_of_parameters(lifted: &str) -> Option<&str> {
    let at = lifted.to_ascii_uppercase().find("VALUES")?;
    let (before, rows) = lifted.split_at(at);
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'(' | b')' | b',' | b'$' | b' ');
    rows.get("VALUES".len()..)?.bytes().all(plain).then_some(before)
}
