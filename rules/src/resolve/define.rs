//! Whether DDL brings code to a relation that was free of it.
//!
//! Owns: which definitions the rest of a text, and of a transaction, may be judged behind by the catalog as it was. May not:
//! judge. Fails closed: what is not on its lists counts as bringing code.

use super::Resolution;
use crate::catalog::{Event, Snapshot};
use crate::class::Class;
use crate::statement::facts::StatementFacts;

/// Whether DDL leaves every relation that was there what it was, and makes none that could run code.
///
/// A foreign key ties two tables together: rows of the one are deleted and changed with rows of the other, and their keys are
/// compared. It is plain where neither can run code: the table that has it runs none by itself, and no type with code of users
/// stands in for a built-in one.
#[must_use]
pub fn plainly_defines(facts: &StatementFacts, resolution: &Resolution, snapshot: &Snapshot) -> bool {
    let made = matches!(
        facts.tag,
        "CREATE TABLE" | "CREATE INDEX" | "CREATE SEQUENCE" | "CREATE SCHEMA" | "COMMENT"
    ) || facts.tag == "CREATE TYPE" && facts.class == Class::DdlCreate
        || facts.class == Class::DdlDrop;
    let plain = |class| {
        matches!(
            class,
            Class::DdlCreate | Class::DdlTemp | Class::DdlIndex | Class::DdlComment | Class::DdlDrop
        )
    };
    let own = facts.flags.in_place.then(|| facts.relations.first().map(|used| &used.name)).flatten();
    let keys_are_plain = || {
        let own_code =
            resolution.relations.iter().filter(|found| own.is_some_and(|own| *found.name == own.name));
        let mut own_code = own_code
            .filter_map(|found| snapshot.relation(&found.schema, &found.name))
            .flat_map(|relation| Event::ALL.map(|event| relation.code(event)));
        let of_types =
            snapshot.all_types().iter().any(|of_user| of_user.everywhere && of_user.code.is_some());
        own.is_some() && !of_types && own_code.all(|code| code.is_none())
    };
    !resolution.runs_code
        && !facts.flags.operator_class
        && (made || own.is_some())
        && facts.relations.iter().all(|used| {
            // A default by nextval: what is no sequence is refused there when it is called.
            let sequence = used.class == Class::WriteUpdate && facts.flags.in_place;
            let of_key = || used.class == Class::DdlAlter && keys_are_plain();
            plain(used.class) || Some(&used.name) == own || sequence || of_key()
        })
}
