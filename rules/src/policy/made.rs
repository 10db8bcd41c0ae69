//! What a session has made that no snapshot of the catalog shows yet, by its names.
//!
//! Owns: which names a statement makes. May not: say what they are; who resolves a bare name counts it in every schema of the path that
//! could hold one of them. Fails closed: where the names are too many, or code makes them, every name is one.

use std::sync::Arc;

use crate::statement::facts::{ObjectKind, StatementFacts};

/// Names that are kept; from so many on, every bare name counts as one.
const NAMES_MAX: usize = 1_024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Names of relations, functions, operators and schemas.
    pub names: Vec<Arc<str>>,
    /// There may be relations and schemas of other names.
    pub more: bool,
    /// There may be functions and operators of other names.
    pub calls: bool,
}

impl Made {
    fn name(&mut self, name: &str) {
        if self.names.len() >= NAMES_MAX {
            self.more = true;
            self.calls = true;
        } else if !self.names.iter().any(|made| **made == *name) {
            self.names.push(Arc::from(name));
        }
    }

    /// Notes what a statement makes, renames or alters.
    pub fn note(&mut self, statement: &StatementFacts) {
        for used in statement.relations.iter().filter(|used| used.class.covered_by("ddl")) {
            self.name(&used.name.name);
        }
        for act in statement.acts.iter().filter(|act| act.class.covered_by("ddl")) {
            let makes = match act.kind {
                ObjectKind::Function | ObjectKind::Operator | ObjectKind::Schema => true,
                // A type's name never comes before one of pg_catalog's; the rest is in no path, or a relation.
                ObjectKind::None
                | ObjectKind::Relation
                | ObjectKind::AllInSchema
                | ObjectKind::Type
                | ObjectKind::Role
                | ObjectKind::Database
                | ObjectKind::Tablespace
                | ObjectKind::Extension
                | ObjectKind::Server
                | ObjectKind::Publication
                | ObjectKind::Other => false,
            };
            if let (true, Some(object)) = (makes, &act.object) {
                self.name(&object.name);
                // The name that it takes stands nowhere in the facts.
                let renames = matches!(act.why, "RENAME" | "SET SCHEMA");
                self.more |= renames && act.kind == ObjectKind::Schema;
                self.calls |= renames;
            }
        }
    }

    /// The catalog was read since: it shows all of it.
    pub fn clear(&mut self) {
        self.names.clear();
        self.more = false;
        self.calls = false;
    }
}
