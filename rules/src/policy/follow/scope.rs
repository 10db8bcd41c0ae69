//! What stands in sight of a name: the items of FROM, level by level.
//!
//! Owns: which of them a name before a dot may mean. May not: say what a column is. Fails closed: what only may be meant is
//! found as well, and ends no search.

use std::rc::Rc;

use crate::policy::outs::Outs;

/// Something that a qualifier can name.
pub(super) struct Ranged {
    pub(super) alias: Rc<str>,
    pub(super) outs: Outs,
    /// It stands in a join with an alias of its own: what that join's ON says may mean it, and nothing else
    /// (parse_clause.c, transformFromClauseItem).
    pub(super) hidden: bool,
}

impl Ranged {
    pub(super) fn new(alias: &str, outs: Outs) -> Self {
        Self { alias: alias.into(), outs, hidden: false }
    }
}

/// What names mean at one level and around it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) items: &'s [Ranged],
    /// Names that are found here may mean something further out all the same.
    pub(super) weak: bool,
    pub(super) outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    /// Items of that alias, innermost level first; a name with a schema may mean an item without an alias, too. What is hidden is
    /// found as well where the use is `weak`, and ends no search.
    pub(super) fn aliased(&self, alias: &str, alone: bool, weak: bool) -> Vec<&Ranged> {
        let mut found: Vec<&Ranged> = Vec::new();
        let mut next = Some(self);
        while let Some(level) = next {
            let seen = |item: &&Ranged| !item.hidden || weak || level.weak;
            found.extend(level.items.iter().filter(|item| &*item.alias == alias).filter(seen));
            if found.iter().any(|item| !item.hidden) && !level.weak && alone {
                return found;
            }
            next = level.outer;
        }
        found
    }
}
