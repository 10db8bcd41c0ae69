//! Names to objects: what a statement reaches on this target, by the catalog snapshot and the session's search path.
//!
//! Owns: README decision 9 (names are resolved, not guessed), the meaning of *code-free* and *proven*, and the barrier
//! class of decision 6. May not: judge. Fails closed: what the snapshot does not know is [`Reach::Unresolved`].

use std::sync::Arc;

use crate::class::Class;
use crate::statement::facts::Predicate;

/// What one statement reaches.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Relations, each once for every schema of the path that has it (temp first): all must be permitted.
    pub relations: Vec<ResolvedRelation>,
    /// Functions, operators, casts outside the reviewed built-ins: each needs a permit on `fn:`.
    pub functions: Vec<ResolvedFunction>,
    /// Whether user code can run, and how it would be reached.
    pub code: Code,
    /// The first reason why the statement is not proven; `None` when it is (decision 9: a code-free select without
    /// effects). Only a proven statement may be forwarded before its record is durable.
    pub unproven: Option<Arc<str>>,
    /// The catalog epoch that was used.
    pub epoch: u64,
}

impl Resolution {
    /// Whether it is a code-free select without effects.
    pub fn proven(&self) -> bool {
        self.unproven.is_none()
    }
}

/// Whether user code can run in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// No: no barrier.
    Free,
    /// Only through relations (triggers, views, rules, defaults…) that no text names: a relaxed barrier.
    ThroughRelations(Arc<str>),
    /// Through the text itself (a function outside the reviewed ones, DO, CALL, EXECUTE, DDL…), or it sets a setting: a
    /// full barrier.
    Named(Arc<str>),
}

/// A relation that a statement reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRelation {
    /// Schema (real one; `pg_temp` for temporary relations).
    pub schema: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// What it is.
    pub reach: Reach,
    /// Class of the access.
    pub class: Class,
    /// For updates and deletes.
    pub predicate: Predicate,
}

/// What a relation is, as far as judgement cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Plain or partitioned table, or partition.
    Table,
    /// View.
    View,
    /// Materialized view.
    MaterializedView,
    /// Sequence.
    Sequence,
    /// Foreign table.
    Foreign,
    /// Temporary relation of this session.
    Temporary,
    /// Relation of pg_catalog or information_schema that carries no data of users: `kind:catalog`.
    Catalog,
    /// Relation of pg_catalog that carries data or secrets (pg_stats, pg_authid…): in no `kind:` and no pack.
    DataBearingCatalog,
    /// A relation to be created.
    New,
    /// Nothing by that name: the server will say so; permits are still needed for every schema of the path.
    Unresolved,
}

/// A function, operator or cast that needs a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFunction {
    /// Schema; `pg_catalog` for a built-in that is not reviewed.
    pub schema: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Argument types as the catalog spells them, comma-separated; empty when unknown.
    pub arguments: Arc<str>,
    /// Class of the call: [`Class::CallFunction`] or [`Class::CallProcedure`], or a stricter one for server files etc.
    pub class: Class,
}
