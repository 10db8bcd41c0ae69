//! Whether a name still stands for what the client made under it, where code ran that may have given it to another.
//!
//! Code of the database's users can close a portal and open a cursor of its own under the name (`refcursor`), and drop a
//! prepared statement and prepare another (`EXECUTE 'DEALLOCATE s'`). It cannot touch what has no name, and it cannot make
//! what only the protocol makes: a statement that PREPARE did not make.
//!
//! ```text
//!   portal:     Bind ──► unseen ──the server says since when it has it──► seen
//!                           │                                               │ code runs
//!                           │ code runs                                     ▼
//!                           ▼                                     not certain ──the same since then──► seen
//!                         lost ◄──────────another, since another time──────────┘
//!   statement:  certain until code runs that may prepare; in the batch of that code it is not bound again
//! ```
//!
//! Prepared statements that such code gave away are forgotten where the server says what it has ([`super::by_sql`]).
//!
//! Owns: the count of code that may have done so, and what is certain of each name since. May not: ask. Fails closed: what is
//! not certain is not run.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::by_sql::Since;
use super::decision::Decision;

/// What the server has said of a portal.
#[derive(Debug, PartialEq)]
enum Seen {
    /// Nothing yet.
    Unseen,
    /// It has it since then.
    Since(Value),
    /// What stands there now may be another's.
    Lost,
}

/// A portal that has a name.
#[derive(Debug)]
pub(super) struct Bound {
    /// The record of its Bind.
    record: u64,
    seen: Seen,
    /// Whether it may give rows later, so that it is worth asking for.
    asks: bool,
    /// Up to which code it is certain.
    upto: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Texts with code, which may open cursors, counted as they go to the server.
    code: u64,
    /// Those with code that may prepare statements, too ([`pgturnstile_rules::catalog::Snapshot::defines`]).
    prepares: u64,
    /// Up to which of these the server has said what it has.
    told: u64,
    portals: HashMap<Box<[u8]>, Bound>,
    /// Portals that the server is to be asked for at the end of their batch.
    unseen: HashSet<Box<[u8]>>,
}

impl Standing {
    /// A text is on its way.
    pub(super) fn goes(&mut self, decision: &Decision) {
        self.code += u64::from(decision.runs_code);
        self.prepares += u64::from(decision.runs_code && decision.brings_code);
    }

    /// How many texts there were so far with code that may prepare.
    pub(super) fn prepares(&self) -> u64 {
        self.prepares
    }

    /// Whether there was one since the server has said what it has, and since this count.
    pub(super) fn may_have_prepared_since(&self, count: u64) -> bool {
        self.prepares > self.told.max(count)
    }

    /// A portal is bound. `asks`: it may give rows later, so that it is worth asking for.
    pub(super) fn bound(&mut self, name: &[u8], record: u64, asks: bool) {
        if asks {
            self.unseen.insert(name.into());
        }
        self.portals.insert(name.into(), Bound { record, seen: Seen::Unseen, asks, upto: self.code });
    }

    /// The name is given up; what was known of it, to be put back where that fails.
    pub(super) fn dropped(&mut self, name: &[u8]) -> Option<Bound> {
        if name.is_empty() {
            return None;
        }
        self.unseen.remove(name);
        self.portals.remove(name)
    }

    /// What was done to the name has failed.
    pub(super) fn put_back(&mut self, name: &[u8], before: Option<Bound>) {
        self.dropped(name);
        if let Some(before) = before {
            if before.asks && before.seen == Seen::Unseen {
                self.unseen.insert(name.into());
            }
            self.portals.insert(name.into(), before);
        }
    }

    /// Those alone are left that `stays` says.
    pub(super) fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        self.portals.retain(|name, _| stays(name));
        self.unseen.retain(|name| stays(name));
    }

    /// A portal has given its last row: it has none left to mistake.
    pub(super) fn done(&mut self, name: &[u8]) {
        if let Some(bound) = self.portals.get_mut(name) {
            bound.asks = false;
            self.unseen.remove(name);
        }
    }

    /// Whether the server is to be asked for some of them.
    pub(super) fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Whether the portal with this record still stands under its name, for certain.
    pub(super) fn stands(&self, name: &[u8], record: u64) -> bool {
        let certain =
            |bound: &Bound| bound.record == record && bound.seen != Seen::Lost && bound.upto == self.code;
        name.is_empty() || self.portals.get(name).is_some_and(certain)
    }

    /// A portal runs that stood: its own code cannot close it (`PortalDrop`, src/backend/utils/mmgr/portalmem.c).
    pub(super) fn runs(&mut self, name: &[u8]) {
        if let Some(bound) = self.portals.get_mut(name) {
            bound.upto = self.code;
        }
    }

    /// The server says which cursors it has, and since when: the portals that are gone.
    pub(super) fn told(&mut self, cursors: &Since) -> Vec<Box<[u8]>> {
        self.told = self.prepares;
        self.unseen.clear();
        let mut gone = Vec::new();
        for (name, bound) in &mut self.portals {
            let now = std::str::from_utf8(name).ok().and_then(|name| cursors.get(name));
            let Some(now) = now else {
                gone.push(name.clone());
                continue;
            };
            let same = match &bound.seen {
                Seen::Unseen => bound.upto == self.code,
                Seen::Since(then) => then == now,
                Seen::Lost => false,
            };
            bound.seen = if same { Seen::Since(now.clone()) } else { Seen::Lost };
            bound.upto = self.code;
        }
        gone.iter().for_each(|name| drop(self.dropped(name)));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Since {
        serde_json::from_str(text).unwrap()
    }

    fn code(brings_code: bool) -> Decision {
        Decision { runs_code: true, brings_code, ..Decision::for_tests() }
    }

    #[test]
    fn a_portal_that_was_seen_stands_while_it_is_the_same() {
        let mut standing = Standing::default();
        standing.bound(b"p", 1, true);
        assert!(standing.has_unseen() && standing.stands(b"p", 1) && !standing.stands(b"p", 2));
        assert!(standing.told(&told(r#"{"p": 1.5}"#)).is_empty());
        assert!(!standing.has_unseen());
        for (since, stands) in [("1.5", true), ("2.5", false), ("1.5", false)] {
            standing.goes(&code(false));
            assert!(!standing.stands(b"p", 1));
            assert!(standing.told(&told(&format!(r#"{{"p": {since}}}"#))).is_empty());
            assert_eq!(standing.stands(b"p", 1), stands, "{since}");
        }
    }

    #[test]
    fn one_that_code_ran_beside_before_it_was_seen_is_lost() {
        let mut standing = Standing::default();
        standing.bound(b"p", 1, true);
        standing.goes(&code(false));
        standing.told(&told(r#"{"p": 1.5}"#));
        assert!(!standing.stands(b"p", 1));
        standing.bound(b"p", 2, true);
        assert!(standing.stands(b"p", 2));
    }

    #[test]
    fn what_was_known_of_a_name_comes_back_where_its_change_fails() {
        let mut standing = Standing::default();
        standing.bound(b"p", 1, true);
        let before = standing.dropped(b"p");
        assert!(!standing.has_unseen() && !standing.stands(b"p", 1));
        standing.bound(b"p", 2, true);
        standing.put_back(b"p", before);
        assert!(standing.has_unseen() && standing.stands(b"p", 1) && !standing.stands(b"p", 2));
        standing.put_back(b"p", None);
        assert!(!standing.has_unseen());
    }

    #[test]
    fn its_own_code_leaves_it_where_it_is() {
        let mut standing = Standing::default();
        standing.goes(&code(false));
        standing.bound(b"p", 1, true);
        standing.bound(b"q", 2, true);
        standing.goes(&code(false));
        standing.runs(b"p");
        assert!(standing.stands(b"p", 1) && !standing.stands(b"q", 2) && standing.stands(b"", 3));
    }

    #[test]
    fn one_that_the_server_has_not_is_gone() {
        let mut standing = Standing::default();
        standing.bound(b"p", 1, true);
        standing.bound(b"q", 2, false);
        standing.done(b"p");
        assert!(!standing.has_unseen());
        assert_eq!(standing.told(&told(r#"{"q": 1}"#)), [Box::from(*b"p")]);
        assert!(!standing.stands(b"p", 1) && standing.stands(b"q", 2));
        standing.retain(|name| name != b"q");
        assert!(!standing.stands(b"q", 2));
    }

    #[test]
    fn a_statement_is_certain_until_code_runs_that_may_prepare() {
        let mut standing = Standing::default();
        standing.goes(&code(false));
        assert!(!standing.may_have_prepared_since(0));
        standing.goes(&code(true));
        let made = standing.prepares();
        assert!(standing.may_have_prepared_since(0) && !standing.may_have_prepared_since(made));
        standing.told(&Since::new());
        assert!(!standing.may_have_prepared_since(0));
        standing.goes(&code(true));
        assert!(standing.may_have_prepared_since(made));
    }
}
