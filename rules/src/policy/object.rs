//! Objects that a statement reaches, and the words that sort them.
//!
//! Owns: [`Object`], kinds, tiers, and how an object is printed into a message. May not: resolve a name or match one
//! (pattern.rs). Names are printed with control characters escaped and cut where they are very long.

use core::fmt;

use crate::policy::settings::Category;
use crate::resolve::Reach;
use crate::statement::facts::ObjectKind;

/// Bytes of a PostgreSQL identifier: NAMEDATALEN - 1 (`src/include/pg_config_manual.h`).
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// What one atom of a statement acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object<'s> {
    /// The statement as a whole: it names no object of its class (`SELECT 1`, `BEGIN`).
    Whole,
    /// There is an object, but the text does not fix which.
    Unfixed,
    /// A relation, resolved.
    Relation {
        /// Schema; `pg_temp` for temporary relations.
        schema: &'s str,
        /// Name.
        name: &'s str,
        /// What it is.
        reach: Reach,
    },
    /// A function, operator or cast outside the reviewed built-ins.
    Function {
        /// Schema.
        schema: &'s str,
        /// Name.
        name: &'s str,
        /// Argument types, comma-separated; empty when unknown.
        arguments: &'s str,
    },
    /// A setting.
    Setting {
        /// Lower-cased name; `None` when the text does not fix it.
        name: Option<&'s str>,
        /// What kind of setting it is.
        category: Category,
        /// It is only shown.
        shown: bool,
    },
    /// Anything else that has a name: a type, a schema, a role, an extension, a function in DDL.
    Named {
        /// What it is.
        kind: ObjectKind,
        /// Schema, where written, or one of the session's path where not; `None` for what lies in no schema.
        schema: Option<&'s str>,
        /// Name.
        name: &'s str,
    },
}

impl fmt::Display for Object<'_> {
    /// One line, safe in a message: control characters are escaped, and a very long name is cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Object::Whole => f.write_str("the statement"),
            Object::Unfixed => f.write_str("an object that the text does not fix"),
            Object::Relation { schema, name, .. } => write!(f, "{}.{}", Printed(schema), Printed(name)),
            Object::Function { schema, name, arguments } => {
                write!(f, "fn:{}.{}", Printed(schema), Printed(name))?;
                if arguments.is_empty() { Ok(()) } else { write!(f, "({})", Printed(arguments)) }
            }
            Object::Setting { name: Some(name), .. } => write!(f, "setting {}", Printed(name)),
            Object::Setting { name: None, .. } => f.write_str("a setting that the text does not fix"),
            Object::Named { kind, schema, name } => {
                f.write_str(prefix_of(kind))?;
                if let Some(schema) = schema {
                    write!(f, "{}.", Printed(schema))?;
                }
                Printed(name).fmt(f)
            }
        }
    }
}

fn prefix_of(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::None | ObjectKind::Relation | ObjectKind::Other => "",
        ObjectKind::Schema => "schema ",
        ObjectKind::AllInSchema => "everything in schema ",
        ObjectKind::Function => "fn:",
        ObjectKind::Operator => "operator ",
        ObjectKind::Type => "type ",
        ObjectKind::Role => "role ",
        ObjectKind::Database => "database ",
        ObjectKind::Tablespace => "tablespace ",
        ObjectKind::Extension => "extension ",
        ObjectKind::Server => "server ",
        ObjectKind::Publication => "publication ",
    }
}

/// Where the name of a named object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In a schema.
    InSchema,
    /// It is a schema, or all of one.
    IsSchema,
    /// In the database or the server.
    Outside,
}

/// Where objects of a kind lie.
pub(crate) fn home(kind: ObjectKind) -> Home {
    match kind {
        ObjectKind::Relation | ObjectKind::Function | ObjectKind::Operator | ObjectKind::Type => Home::InSchema,
        ObjectKind::Schema | ObjectKind::AllInSchema => Home::IsSchema,
        ObjectKind::Role
        | ObjectKind::Database
        | ObjectKind::Tablespace
        | ObjectKind::Extension
        | ObjectKind::Server
        | ObjectKind::Publication
        // Languages and casts lie in no schema, collations do; what is not told apart is opened by `*` alone, or by a
        // name that says its schema (atoms.rs).
        | ObjectKind::Other
        | ObjectKind::None => Home::Outside,
    }
}

/// A name made safe for one line of a message.
struct Printed<'s>(&'s str);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A resolved name has at most 63 bytes; an argument list may have more.
        const PRINTED_CHARS_MAX: usize = 200;
        for character in self.0.chars().take(PRINTED_CHARS_MAX) {
            if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        if self.0.chars().nth(PRINTED_CHARS_MAX).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// How sensitive a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Inside the company.
    Internal,
    /// About a person.
    Personal,
    /// Restricted.
    Restricted,
    /// Secret.
    Secret,
}

impl Tier {
    /// Every tier, mildest first.
    pub const ALL: [Tier; 4] = [Tier::Internal, Tier::Personal, Tier::Restricted, Tier::Secret];

    /// The word that a policy writes.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Internal => "internal",
            Tier::Personal => "personal",
            Tier::Restricted => "restricted",
            Tier::Secret => "secret",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// Kinds of objects that `kind:` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tables, partitioned tables, partitions.
    Table,
    /// Views.
    View,
    /// Materialized views.
    MaterializedView,
    /// Sequences.
    Sequence,
    /// Foreign tables.
    Foreign,
    /// Temporary relations of the session.
    Temporary,
    /// System catalogs and information_schema without those that carry users' data or secrets.
    Catalog,
    /// Settings that a client may set for itself ([`Category::Client`]), and pinned ones to the value they have.
    ClientSetting,
    /// Time limits and the like ([`Category::Guard`]).
    GuardSetting,
    /// Any setting, read by SHOW.
    Show,
}

impl Kind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Kind; 10] = [
        Kind::Table,
        Kind::View,
        Kind::MaterializedView,
        Kind::Sequence,
        Kind::Foreign,
        Kind::Temporary,
        Kind::Catalog,
        Kind::ClientSetting,
        Kind::GuardSetting,
        Kind::Show,
    ];

    /// The word behind `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::View => "view",
            Kind::MaterializedView => "materialized-view",
            Kind::Sequence => "sequence",
            Kind::Foreign => "foreign-table",
            Kind::Temporary => "temp",
            Kind::Catalog => "catalog",
            Kind::ClientSetting => "client-setting",
            Kind::GuardSetting => "guard-setting",
            Kind::Show => "show",
        }
    }

    /// What it covers, for the reference.
    pub const fn meaning(self) -> &'static str {
        match self {
            Kind::Table => "tables, partitioned tables, partitions",
            Kind::View => "views",
            Kind::MaterializedView => "materialized views",
            Kind::Sequence => "sequences",
            Kind::Foreign => "foreign tables",
            Kind::Temporary => "temporary relations of the session",
            Kind::Catalog => {
                "system catalogs and information_schema, never those that carry users' data or secrets"
            }
            Kind::ClientSetting => {
                "settings that a client may set for itself, pinned ones to the value they have, and RESET"
            }
            Kind::GuardSetting => "time limits and durability of the session",
            Kind::Show => "any setting, by SHOW",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of a relation; none for what is to be created, is not there, or carries data of a catalog.
    pub(crate) const fn of_relation(reach: Reach) -> Option<Self> {
        match reach {
            Reach::Table => Some(Kind::Table),
            Reach::View => Some(Kind::View),
            Reach::MaterializedView => Some(Kind::MaterializedView),
            Reach::Sequence => Some(Kind::Sequence),
            Reach::Foreign => Some(Kind::Foreign),
            Reach::Temporary => Some(Kind::Temporary),
            Reach::Catalog => Some(Kind::Catalog),
            Reach::DataBearingCatalog | Reach::New | Reach::Unresolved => None,
        }
    }

    /// Whether this kind is one of settings.
    pub(crate) const fn is_setting(self) -> bool {
        match self {
            Kind::ClientSetting | Kind::GuardSetting | Kind::Show => true,
            Kind::Table
            | Kind::View
            | Kind::MaterializedView
            | Kind::Sequence
            | Kind::Foreign
            | Kind::Temporary
            | Kind::Catalog => false,
        }
    }

    pub(super) fn covers_setting(self, category: Category, shown: bool) -> bool {
        match self {
            Kind::Show => shown,
            // A pinned setting only ever passes with the value that it has (settings.rs).
            Kind::ClientSetting => !shown && matches!(category, Category::Client | Category::Pinned),
            Kind::GuardSetting => !shown && category == Category::Guard,
            Kind::Table
            | Kind::View
            | Kind::MaterializedView
            | Kind::Sequence
            | Kind::Foreign
            | Kind::Temporary
            | Kind::Catalog => false,
        }
    }
}
