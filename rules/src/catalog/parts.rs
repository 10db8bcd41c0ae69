//! What a snapshot is made of.

use std::collections::HashMap;
use std::sync::Arc;

/// Schema and name of relations that share rows.
pub type Kin = Arc<[(Arc<str>, Arc<str>)]>;

/// A way to use a relation, as far as code in its way is told apart. The values are the bits of the queries' masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// Its rows or its definition are looked at: every use.
    Read = 1,
    /// INSERT, COPY in.
    Insert = 2,
    /// UPDATE.
    Update = 4,
    /// DELETE.
    Delete = 8,
    /// TRUNCATE.
    Truncate = 16,
    /// Its partition key is computed: any use of it or of a partition. Not asked for by itself.
    PartitionKey = 32,
}

impl Event {
    /// All of them, in the order of [`Event::index`].
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Insert, Self::Update, Self::Delete, Self::Truncate, Self::PartitionKey];

    /// Its place in [`Event::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Insert => 1,
            Self::Update => 2,
            Self::Delete => 3,
            Self::Truncate => 4,
            Self::PartitionKey => 5,
        }
    }
}

/// `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `r`
    Table,
    /// `p`
    Partitioned,
    /// `v`
    View,
    /// `m`
    MaterializedView,
    /// `f`
    Foreign,
    /// `S`
    Sequence,
    /// `i` and `I`: shares the relations' name space, is reached by DDL alone.
    Index,
}

impl Kind {
    pub(super) fn from_relkind(letter: &str) -> Option<Self> {
        Some(match letter {
            "r" => Self::Table,
            "p" => Self::Partitioned,
            "v" => Self::View,
            "m" => Self::MaterializedView,
            "f" => Self::Foreign,
            "S" => Self::Sequence,
            "i" | "I" => Self::Index,
            _ => return None,
        })
    }

    /// Why a relation of this kind is not free of user code by its kind alone: only plain and partitioned tables are, and
    /// sequences, which have no columns of users and run nothing.
    pub(super) const fn hazard(self) -> Option<&'static str> {
        match self {
            Self::Table | Self::Partitioned | Self::Sequence | Self::Index => None,
            Self::View => Some("is a view"),
            Self::MaterializedView => Some("is a materialized view"),
            Self::Foreign => Some("is a foreign table"),
        }
    }
}

/// A column of a relation of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number, `pg_attribute.attnum`.
    pub number: i16,
    /// Its name.
    pub name: Arc<str>,
    /// Oid of its type.
    pub type_oid: u32,
    /// Its type is in the category of strings: a mask can be a text.
    pub text: bool,
    /// It is generated, from these columns.
    pub generated: Option<Box<[i16]>>,
    /// What an INSERT that leaves it out gives it is no constant: the writer may steer it (a sequence, a setting).
    pub default_varies: bool,
}

/// What the target says of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Oid of the relation.
    pub relation: u32,
    /// Number of the column.
    pub column: i16,
    /// A comment on it; otherwise a SECURITY LABEL of the provider `anon`.
    pub comment: bool,
    /// The words.
    pub words: Arc<str>,
}

/// A relation.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its oid.
    pub oid: u32,
    /// Its kind.
    pub kind: Kind,
    /// Made by `initdb`: a relation of `pg_catalog` or `information_schema` that the system lists know.
    pub system: bool,
    /// Schema and name of those that share its rows by inheritance or partitioning: ancestors and descendants, not
    /// siblings. `None` for most.
    pub kin: Option<Kin>,
    /// The user types of its columns, with everything those are made of.
    pub types: Box<[TypeId]>,
    /// Its columns in their order; `None` where they are not known: relations of the system, sequences, indexes, and what
    /// a file of definitions does not tell.
    pub columns: Option<Arc<[Column]>>,
    /// Row security is on: what of it is read or written depends on who the session is.
    pub row_security: bool,
    pub(super) reasons: [Option<Arc<str>>; 6],
}

impl Relation {
    /// The first reason why using it so runs user code; `None` when it does not.
    #[must_use]
    pub fn code(&self, event: Event) -> Option<&Arc<str>> {
        self.reasons[event.index()].as_ref()
    }
}

/// A user type's place in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(super) u32);

impl TypeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A user type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its oid.
    pub oid: u32,
    /// Oid of the relation whose row it is; 0 for others.
    pub relation: u32,
    /// A value of it can stand where a text names no type of a user: by an implicit cast, as a preferred type, or since
    /// it is a domain of a built-in type or a row. An operator or a function over it competes with built-ins always.
    pub everywhere: bool,
    /// It is in the category of strings: an unknown literal can become it.
    pub string: bool,
    /// Itself and every user type it is made of.
    pub closure: Box<[TypeId]>,
    /// User types, not among those, whose values are taken where this one is asked for: it is a domain over one, or an array of such.
    pub taken_from: Box<[TypeId]>,
    /// The first reason why reading or writing a value of it runs user code.
    pub code: Option<Arc<str>>,
    /// The functions of users behind that reason.
    pub functions: Box<[FunctionName]>,
}

/// A function by name, for permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its argument types as the catalog spells them; empty when unknown.
    pub arguments: Arc<str>,
}

/// Relations by schema and name.
#[derive(Debug, Default)]
pub(super) struct Relations(pub(super) HashMap<Arc<str>, HashMap<Arc<str>, Relation>>);

/// A function, procedure or aggregate.
#[derive(Clone, Debug)]
pub struct Routine {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its oid.
    pub oid: u32,
    /// `f` function, `p` procedure, `a` aggregate, `w` window function.
    pub kind: char,
    /// How many of its last arguments have defaults.
    pub defaults: u16,
    /// Its last argument repeats.
    pub variadic: bool,
    /// Oids of its argument types.
    pub arguments: Box<[u32]>,
    /// The argument types as the catalog spells them.
    pub signature: Arc<str>,
    /// Oid of its result type.
    pub result: u32,
    /// An aggregate that runs reviewed code of an extension alone.
    pub computes: bool,
}

impl Routine {
    /// Whether a call with so many arguments could mean it; generous, since counting too many is safe.
    #[must_use]
    pub fn may_take(&self, arguments: Option<u16>) -> bool {
        let Some(given) = arguments.map(usize::from) else { return true };
        let declared = self.arguments.len();
        let fewest = declared.saturating_sub(usize::from(self.defaults) + usize::from(self.variadic));
        self.kind == 'a' || given >= fewest && (self.variadic || given <= declared)
    }
}

/// An operator of a user.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its oid.
    pub oid: u32,
    /// Oid of the left operand's type; 0 for a prefix operator.
    pub left: u32,
    /// Oid of the right operand's type.
    pub right: u32,
    /// Oid of the result's type.
    pub result: u32,
    /// Schema of its function.
    pub function_schema: Arc<str>,
    /// Name of its function.
    pub function: Arc<str>,
    /// It runs reviewed code of an extension alone, which computes from its arguments.
    pub computes: bool,
}
