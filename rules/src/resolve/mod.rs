//! Names to objects: what a statement reaches on this target, by the catalog snapshot and the session's search path.
//!
//! Owns: README decision 9 (names are resolved, not guessed), the meaning of *code-free* and *proven*, and the barrier
//! class of decision 6. May not: judge. Fails closed: what the snapshot does not know is [`Reach::Unresolved`].
//!
//! - *Code-free* ([`Code::Free`]): no code of a user can run. Every relation is a plain or partitioned table (or a
//!   sequence, or a system relation) without a trigger, rule, expression, type, index or child that leads to such code;
//!   every function, operator and cast is a built-in that was reviewed, and no object of a user competes for its name.
//! - *Proven* ([`Resolution::proven`]): a code-free SELECT without effects.
//! - A user's function or operator competes where it stands in `pg_catalog` or in any schema of the path, takes such a
//!   number of arguments, and each of its argument types could be met: a built-in or polymorphic type, a row, a domain of
//!   a built-in, or a type that the statement reaches by a relation, a cast, a parameter or a result. Where no built-in
//!   of that name takes as many arguments, it competes in any case. All who compete must be permitted.

mod again;
mod calls;
mod define;
mod listed;
mod names;
mod own;
mod statement;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub use self::again::{is_unmistakable, may_come_again, same_rows};
pub use self::define::plainly_defines;
use self::listed::Listed;
pub(crate) use self::names::event;
pub use self::own::makes_plain_table;
use crate::catalog::Snapshot;
use crate::catalog::builtins::Category;
use crate::class::Class;
use crate::statement::facts::{NameUse, Predicate, StatementFacts};

/// What one statement reaches.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Relations, each once for every schema of the path that has it (temp first): all must be permitted.
    pub relations: Vec<ResolvedRelation>,
    /// Functions, operators, casts outside the reviewed built-ins: each needs a permit on `fn:`.
    pub functions: Vec<ResolvedFunction>,
    /// Whether user code can run, and how it would be reached.
    pub code: Code,
    /// Whether such code runs with the statement, so that what stands behind it in one text may find settings and names
    /// moved. Not for what only defines code, sets a setting by itself, or is a barrier for what the snapshot does not
    /// show of the session's own definitions.
    pub runs_code: bool,
    /// Whether code may run when the text is only analysed, as at Parse: input functions of types on its constants.
    pub runs_at_analysis: bool,
    /// It does, by a type that is known to, or that is named and may be of the session's own making.
    pub types_run_code: bool,
    /// The first reason why the statement is not proven; `None` when it is (decision 9: a code-free select without
    /// effects). Only a proven statement may be forwarded before its record is durable.
    pub unproven: Option<Arc<str>>,
    /// The catalog epoch that was used.
    pub epoch: u64,
}

impl Resolution {
    /// Whether it is a code-free select without effects.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.unproven.is_none()
    }

    /// Both together: everything that either reaches, the stricter barrier, proven only if both are.
    #[must_use]
    pub fn merge(mut self, other: Resolution) -> Resolution {
        let mut relations = Listed::of(self.relations);
        for relation in other.relations {
            relations.add(relation);
        }
        self.relations = relations.into_list();
        let mut functions = Listed::of(self.functions);
        for function in other.functions {
            let category = function.category;
            if let Some(known) = functions.add(function) {
                known.take_worst(category);
            }
        }
        self.functions = functions.into_list();
        self.code = self.code.or_stricter(other.code);
        self.runs_code |= other.runs_code;
        self.runs_at_analysis |= other.runs_at_analysis;
        self.types_run_code |= other.types_run_code;
        self.unproven = self.unproven.or(other.unproven);
        self
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

impl Code {
    const fn rank(&self) -> u8 {
        match self {
            Self::Free => 0,
            Self::ThroughRelations(_) => 1,
            Self::Named(_) => 2,
        }
    }

    /// The stricter of two; the first where they are alike.
    #[must_use]
    pub fn or_stricter(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Why it is not free.
    #[must_use]
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Free => None,
            Self::ThroughRelations(reason) | Self::Named(reason) => Some(reason),
        }
    }
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
    /// Those that share its rows by inheritance or partitioning ([`crate::catalog::Relation::kin`]).
    pub kin: Option<crate::catalog::Kin>,
    /// Class of the access.
    pub class: Class,
    /// For updates and deletes.
    pub predicate: Predicate,
}

/// What a relation is, as far as judgement cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Plain or partitioned table, or partition; also an index, for DDL that names one.
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
    /// Relation that carries data or secrets of others (pg_stats, pg_authid…): in no `kind:` and no pack.
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
    /// What a call can do, where it certainly is a built-in of the table, or an aggregate over reviewed code of an extension; `None` for
    /// code of users, and for what is not known.
    pub category: Option<Category>,
}

impl ResolvedFunction {
    /// Of two calls of it, what either may do at worst: what is not known, or tells what is stored.
    fn take_worst(&mut self, category: Option<Category>) {
        if self.category.is_some_and(|category| !category.tells_stored_data()) {
            self.category = category;
        }
    }
}

impl fmt::Display for ResolvedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}({})", self.schema, self.name, self.arguments)
    }
}

/// The schemas in which unqualified names are looked up, in order. `pg_temp` (relations and types alone) and `pg_catalog`
/// come first unless they are listed (PostgreSQL, "The Schema Search Path").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPath(Vec<Arc<str>>);

impl SearchPath {
    /// The path as the access entry sets it; `$user` becomes the login's name.
    #[must_use]
    pub fn new<S: AsRef<str>>(schemas: impl IntoIterator<Item = S>, login: &str) -> Self {
        let named = schemas.into_iter().map(|schema| match schema.as_ref() {
            "$user" => Arc::from(login),
            other => Arc::from(other),
        });
        Self(named.collect())
    }

    /// The schemas listed.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }
}

/// Whether a bare name may be that of a temporary relation.
pub(crate) fn may_be_temporary(possible: bool, names: Option<&[Arc<str>]>, name: &str) -> bool {
    possible && names.is_none_or(|names| names.iter().any(|known| **known == *name))
}

/// What the gateway knows of the session beyond its path.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionView<'s> {
    /// The session may own temporary objects: it ran CREATE TEMP, SELECT INTO TEMP, or code that no text names.
    pub temp_possible: bool,
    /// The names of its temporary relations; `None` where not all are known.
    pub temp_names: Option<&'s [Arc<str>]>,
    /// Code may stand behind those: they were not all made by plain definitions of the session's own.
    pub temp_code: bool,
    /// A type of its temporary schema may bear the name of one of the server's own.
    pub temp_types: bool,
    /// The session may see a catalog that the snapshot does not show: DDL, or code that may have done some, passed in this
    /// transaction, or since the snapshot was read. Everything is a barrier until then.
    pub private_catalog: bool,
    /// Some of that may have brought code to a relation: it renamed, attached or described one, or ran code itself.
    pub private_code: bool,
    /// Names of relations, functions, operators and schemas that the session made or altered, which no snapshot shows yet: bare
    /// ones may mean those first.
    pub made: &'s [Arc<str>],
    /// There may be relations and schemas that are not listed: there are too many, or code ran that makes some.
    pub made_more: bool,
    /// There may be functions or operators that are not listed: one was renamed, or moved to another schema.
    pub made_calls: bool,
    /// Tables that this transaction has made, behind which no code stands ([`makes_plain_table`]), as their definitions spelled
    /// them. None where anything has run since that could have changed that.
    pub own_tables: &'s [NameUse],
    /// A WITH HOLD cursor is open in this transaction whose statement is not code-free: COMMIT runs the rest of it.
    pub held_cursor: bool,
    /// Oids of parameter types that Parse declares (0 is unspecified).
    pub parameter_types: &'s [u32],
}

/// Different names that one statement may hold: `pg_dump` locks all its tables in texts of 100,000 bytes, some nine thousand names.
pub const NAMES_MAX: usize = 10_000;

/// Whether a statement holds more different names than that, what it prepares included: each is looked for in every schema of the
/// path, and judged, while other sessions wait.
#[must_use]
pub fn names_too_many(facts: &StatementFacts) -> bool {
    let relations = facts.relations.iter().map(|used| &used.name);
    let functions = facts.functions.iter().map(|used| &used.name);
    let acts = facts.acts.iter().filter_map(|act| act.object.as_ref());
    let all = || relations.clone().chain(functions.clone()).chain(acts.clone()).chain(&facts.types);
    let many = facts.operators.len() > NAMES_MAX
        || all().take(NAMES_MAX + 1).count() > NAMES_MAX && all().collect::<HashSet<_>>().len() > NAMES_MAX;
    many || facts.prepared.as_deref().is_some_and(names_too_many)
}

/// What a statement reaches. EXECUTE and FETCH are not resolved by themselves: see [`resolve_carrying`].
#[must_use]
pub fn resolve(
    facts: &StatementFacts,
    snapshot: &Snapshot,
    path: &SearchPath,
    session: &SessionView<'_>,
) -> Resolution {
    statement::resolve(facts, None, snapshot, path, session)
}

/// What an EXECUTE, FETCH or MOVE reaches, `carried` being the facts of the statement that was prepared or declared under
/// its name.
#[must_use]
pub fn resolve_carrying(
    facts: &StatementFacts,
    carried: &StatementFacts,
    snapshot: &Snapshot,
    path: &SearchPath,
    session: &SessionView<'_>,
) -> Resolution {
    statement::resolve(facts, Some(carried), snapshot, path, session)
}
