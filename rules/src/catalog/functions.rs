//! Functions by oid: what an expression that calls one runs.
//!
//! Owns: why such a call is code. May not: know names in a text. Fails closed: a function that nothing explains is a reason.

use std::collections::HashMap;

use super::FIRST_USER_OID;
use super::builtins::{self, Category};
use super::load::{Raw, RawEverywhere};
use super::parts::Routine;
use super::reviewed::Reviewed;

/// Functions by oid, to name and judge what an expression calls.
pub(super) struct Functions<'r> {
    pub(super) users: HashMap<u32, &'r Routine>,
    builtins: HashMap<u32, Option<Category>>,
    text_search: bool,
    reviewed: &'r Reviewed,
}

impl<'r> Functions<'r> {
    pub(super) fn new(raw: &'r Raw, reviewed: &'r Reviewed) -> Self {
        let search = |entry: &RawEverywhere| matches!(entry, RawEverywhere::Search(_));
        Self {
            users: raw.routines.iter().map(|routine| (routine.oid, routine)).collect(),
            builtins: raw.builtins.iter().map(|routine| (routine.oid, category(routine))).collect(),
            text_search: raw.everywhere.iter().any(search),
            reviewed,
        }
    }

    /// Why calling it runs code that is not reviewed; `None` when it does not.
    pub(super) fn hazard(&self, oid: u32) -> Option<String> {
        if self.reviewed.function(oid) {
            return None;
        }
        if let Some(user) = self.users.get(&oid) {
            return Some(format!("calls {}.{}({})", user.schema, user.name, user.signature));
        }
        match self.builtins.get(&oid) {
            Some(Some(Category::TextSearch)) if self.text_search => {
                Some("uses text search, which is not built-in code alone here".into())
            }
            Some(Some(category)) if !category.barrier() => None,
            Some(Some(category)) => Some(format!("calls a built-in function that {}", category.says())),
            Some(None) | None => Some(format!("calls function {oid}, which is not reviewed")),
        }
    }

    /// Why using an operator, or what else a tree names by its oid, runs code that is not reviewed.
    pub(super) fn object_hazard(&self, oid: u32) -> Option<String> {
        (oid >= FIRST_USER_OID && !self.reviewed.operator(oid))
            .then(|| format!("uses object {oid} outside the built-ins"))
    }
}

/// The category of a built-in of this server, by name and argument types.
pub(super) fn category(routine: &Routine) -> Option<Category> {
    let known = builtins::functions(&routine.schema, &routine.name);
    known.iter().find(|builtin| builtin.arguments == routine.arguments).map(|builtin| builtin.category)
}
