//! The reviewed built-ins: what a call of each function of `pg_catalog` can do.
//!
//! Owns: the two checked-in tables, `builtins.tsv` and `operators.tsv`, and what each category means. May not: trust a
//! name. A built-in is known by name *and* argument types, so a new overload of a reviewed name is not reviewed; what is
//! not in the table is not reviewed. A test compares the tables with `pg_proc` and `pg_operator` of a live server.
//!
//! # The rule of the review
//!
//! The tables hold every function of PostgreSQL 14 to 18 that a text can call (no argument or result of type `internal`,
//! no trigger or handler result). Each got its category so:
//!
//! - Declared immutable by the server in every version, and computing from its arguments alone: `pure`. Immutable
//!   functions that open relations, run support functions by oid or take SQL in a string were looked up in the server's
//!   source and moved (`satisfies_hash_partition`, `pg_partition_root`, two-argument `ts_rewrite`, `ts_lexize`).
//! - Declared stable or volatile: read one by one. `pure` only where it depends on arguments and formatting settings
//!   (`to_char`, `json_agg`); else the category of what it reads or does.
//! - Input functions that reach other types' code by oid or name (`domain_in`, `record_in`, `pg_input_is_valid`) are
//!   `dynamic`: they run the checks of user domains that no text names.
//! - Operators take the category of their function. Polymorphic ones (`array_eq`, `record_out`) run the code of the types
//!   they are given; those types are reached by a relation, a cast or a parameter, and judged there.
//!
//! Only the categories for which [`Category::reviewed`] holds need no permit.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::class::Class;

/// What a call of a built-in can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Computes from its arguments, and at most from formatting settings.
    Pure,
    /// Describes objects of the catalog, their sizes and one's privileges on them.
    Catalog,
    /// Reads the state of this session or of the server as a whole.
    Session,
    /// Reads a clock.
    Clock,
    /// Draws random values.
    Random,
    /// Text search: runs the parsers and templates of a configuration; pure unless the target has ones of its own.
    TextSearch,
    /// Moves or reads a sequence that a text names by value.
    Sequence,
    /// Takes advisory locks.
    Lock,
    /// Frees advisory locks that the session itself holds: judged by no permit, for it takes nothing from anybody.
    Unlock,
    /// Sends a notification.
    Notify,
    /// Sleeps: holds a connection and is a channel in time.
    Sleep,
    /// A further effect: assigns a transaction id, exports a snapshot.
    Effect,
    /// Large objects.
    LargeObject,
    /// Reads, writes or lists files of the server, or tells its configuration files.
    ServerFiles,
    /// Replication: slots, origins, emitted messages; output plugins are code.
    Replication,
    /// Acts on other sessions or the whole server.
    Admin,
    /// Returns data, statement texts or addresses that belong to others.
    DataBearing,
    /// Counters and internals of the server.
    Monitoring,
    /// Runs SQL, or code of types, that no text names.
    Dynamic,
    /// Maintains an index, in a read-only transaction too, and runs the code that the index is defined by.
    Maintenance,
    /// Sets a setting.
    Setting,
}

impl Category {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pure" => Self::Pure,
            "catalog" => Self::Catalog,
            "session" => Self::Session,
            "clock" => Self::Clock,
            "random" => Self::Random,
            "text-search" => Self::TextSearch,
            "sequence" => Self::Sequence,
            "lock" => Self::Lock,
            "unlock" => Self::Unlock,
            "notify" => Self::Notify,
            "sleep" => Self::Sleep,
            "effect" => Self::Effect,
            "large-object" => Self::LargeObject,
            "server-files" => Self::ServerFiles,
            "replication" => Self::Replication,
            "admin" => Self::Admin,
            "data-bearing" => Self::DataBearing,
            "monitoring" => Self::Monitoring,
            "dynamic" => Self::Dynamic,
            "maintenance" => Self::Maintenance,
            "setting" => Self::Setting,
            _ => return None,
        })
    }

    /// What such a function does, for a reason that a person reads.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Pure => "computes from its arguments",
            Self::Catalog => "describes objects of the catalog",
            Self::Session => "reads the state of the session",
            Self::Clock => "reads a clock",
            Self::Random => "draws random values",
            Self::TextSearch => "runs a text search configuration",
            Self::Sequence => "moves or reads a sequence",
            Self::Lock => "takes advisory locks",
            Self::Unlock => "frees advisory locks",
            Self::Notify => "sends a notification",
            Self::Sleep => "sleeps",
            Self::Effect => "has an effect beyond its result",
            Self::LargeObject => "reads or writes large objects",
            Self::ServerFiles => "touches files of the server",
            Self::Replication => "belongs to replication",
            Self::Admin => "acts on other sessions or the server",
            Self::DataBearing => "returns data of others",
            Self::Monitoring => "shows internals of the server",
            Self::Dynamic => "runs SQL or code that no text names",
            Self::Maintenance => "maintains an index, and runs the code that it is defined by",
            Self::Setting => "sets a setting",
        }
    }

    /// Whether a call needs no permit, and leaves a select proven.
    #[must_use]
    pub const fn reviewed(self) -> bool {
        match self {
            Self::Pure | Self::Catalog | Self::Session | Self::Clock | Self::Random | Self::TextSearch => {
                true
            }
            Self::Sequence
            | Self::Lock
            | Self::Unlock
            | Self::Notify
            | Self::Sleep
            | Self::Effect
            | Self::LargeObject
            | Self::ServerFiles
            | Self::Replication
            | Self::Admin
            | Self::DataBearing
            | Self::Monitoring
            | Self::Dynamic
            | Self::Maintenance
            | Self::Setting => false,
        }
    }

    /// Whether what a call does stands among the statement's own facts (a write of the sequence, the setting), or is
    /// nothing to permit, so that a permit on the function would ask twice. A name without a call has no such facts.
    #[must_use]
    pub const fn judged_by_facts(self) -> bool {
        match self {
            Self::Sequence | Self::Setting | Self::Unlock => true,
            Self::Pure
            | Self::Catalog
            | Self::Session
            | Self::Clock
            | Self::Random
            | Self::TextSearch
            | Self::Lock
            | Self::Notify
            | Self::Sleep
            | Self::Effect
            | Self::LargeObject
            | Self::ServerFiles
            | Self::Replication
            | Self::Admin
            | Self::DataBearing
            | Self::Monitoring
            | Self::Dynamic
            | Self::Maintenance => false,
        }
    }

    /// The class under which a call of a function that is not reviewed is judged.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Pure
            | Self::Catalog
            | Self::Session
            | Self::Clock
            | Self::Random
            | Self::TextSearch
            | Self::Sequence
            | Self::Unlock
            | Self::Sleep
            | Self::Effect
            | Self::DataBearing
            | Self::Monitoring
            | Self::Dynamic => Class::CallFunction,
            Self::Lock => Class::SessionLock,
            Self::Notify => Class::SessionNotify,
            Self::LargeObject => Class::ExportLargeObject,
            Self::ServerFiles | Self::Admin => Class::AdminSystem,
            Self::Maintenance => Class::MaintenanceVacuum,
            Self::Replication => Class::ExportReplication,
            Self::Setting => Class::SessionSet,
        }
    }

    /// Whether a call can tell of stored data that the statement does not name as a relation: what is refused near labels.
    /// Counters of relations tell how many rows were touched, never what they hold.
    #[must_use]
    pub const fn tells_stored_data(self) -> bool {
        match self {
            Self::Pure
            | Self::Catalog
            | Self::Session
            | Self::Clock
            | Self::Random
            | Self::Sequence
            | Self::Lock
            | Self::Unlock
            | Self::Notify
            | Self::Sleep
            | Self::Effect
            | Self::Admin
            | Self::Monitoring => false,
            Self::TextSearch
            | Self::LargeObject
            | Self::ServerFiles
            | Self::Replication
            | Self::DataBearing
            | Self::Dynamic
            | Self::Maintenance
            | Self::Setting => true,
        }
    }

    /// Whether a call can run code that no text names, or move a setting: a full barrier.
    #[must_use]
    pub const fn barrier(self) -> bool {
        match self {
            Self::Dynamic | Self::Maintenance | Self::Setting | Self::Replication | Self::Admin => true,
            Self::Pure
            | Self::Catalog
            | Self::Session
            | Self::Clock
            | Self::Random
            | Self::TextSearch
            | Self::Sequence
            | Self::Lock
            | Self::Unlock
            | Self::Notify
            | Self::Sleep
            | Self::Effect
            | Self::LargeObject
            | Self::ServerFiles
            | Self::DataBearing
            | Self::Monitoring => false,
        }
    }
}

/// One overload of a built-in function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// `f` function, `a` aggregate, `w` window function.
    pub kind: char,
    /// How many of its last arguments have defaults.
    pub defaults: u16,
    /// Its last argument repeats.
    pub variadic: bool,
    /// Oids of its argument types.
    pub arguments: Box<[u32]>,
    /// The volatilities it was declared with over the versions: `i`, `s`, `v`.
    pub volatility: &'static str,
    /// What a call can do.
    pub category: Category,
}

impl Builtin {
    /// Whether a call with so many arguments can mean this overload; `None` is an unknown number.
    #[must_use]
    pub fn takes(&self, arguments: Option<u16>) -> bool {
        let Some(given) = arguments.map(usize::from) else { return true };
        let declared = self.arguments.len();
        let fewest = declared.saturating_sub(usize::from(self.defaults));
        // An ordered-set aggregate is written with its direct arguments alone.
        self.kind == 'a' && given <= declared || given >= fewest && (self.variadic || given <= declared)
    }
}

/// One built-in operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinOperator {
    /// Oid of the left operand's type; 0 for a prefix operator.
    pub left: u32,
    /// Oid of the right operand's type.
    pub right: u32,
    /// What using it can do.
    pub category: Category,
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Builtin>>> =
    LazyLock::new(|| table(include_str!("builtins.tsv"), function));

static OPERATORS: LazyLock<HashMap<&'static str, Vec<BuiltinOperator>>> =
    LazyLock::new(|| table(include_str!("operators.tsv"), operator));

/// The overloads of a built-in that the table knows; empty when it knows none.
#[must_use]
pub fn functions(schema: &str, name: &str) -> &'static [Builtin] {
    let found = match schema {
        "pg_catalog" => FUNCTIONS.get(name),
        "information_schema" => FUNCTIONS.get(format!("information_schema.{name}").as_str()),
        _ => None,
    };
    found.map_or(&[], Vec::as_slice)
}

/// The built-in operators of a name.
#[must_use]
pub fn operators(name: &str) -> &'static [BuiltinOperator] {
    OPERATORS.get(name).map_or(&[], Vec::as_slice)
}

/// How many functions and operators the tables hold.
#[must_use]
pub fn counts() -> (usize, usize) {
    (FUNCTIONS.values().map(Vec::len).sum(), OPERATORS.values().map(Vec::len).sum())
}

/// A line that does not read is left out, hence not reviewed; a test sees that every line reads.
fn table<T>(
    text: &'static str,
    read: fn(&'static str) -> Option<(&'static str, T)>,
) -> HashMap<&'static str, Vec<T>> {
    let mut table: HashMap<&'static str, Vec<T>> = HashMap::new();
    for (name, entry) in text.lines().filter(|line| !line.starts_with("# ")).filter_map(read) {
        table.entry(name).or_default().push(entry);
    }
    table
}

fn function(line: &'static str) -> Option<(&'static str, Builtin)> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [name, kind, defaults, variadic, arguments, volatility, category] = fields[..] else { return None };
    let entry = Builtin {
        kind: kind.chars().next()?,
        defaults: defaults.parse().ok()?,
        variadic: variadic == "v",
        arguments: oids(arguments)?,
        volatility,
        category: Category::from_name(category)?,
    };
    Some((name, entry))
}

fn oids(list: &str) -> Option<Box<[u32]>> {
    if list == "-" {
        return Some(Box::default());
    }
    list.split(',').map(|oid| oid.parse().ok()).collect()
}

fn operator(line: &'static str) -> Option<(&'static str, BuiltinOperator)> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [name, left, right, category] = fields[..] else { return None };
    let entry = BuiltinOperator {
        left: left.parse().ok()?,
        right: right.parse().ok()?,
        category: Category::from_name(category)?,
    };
    Some((name, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_reads() {
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with("# ")).count();
        assert_eq!(counts(), (lines(include_str!("builtins.tsv")), lines(include_str!("operators.tsv"))));
    }

    #[test]
    fn what_is_known_to_do_harm_is_not_reviewed() {
        for name in [
            "set_config",
            "query_to_xml",
            "ts_stat",
            "pg_read_file",
            "lo_export",
            "lo_get",
            "pg_sleep",
            "nextval",
            "setval",
            "pg_notify",
            "pg_advisory_lock",
            "pg_terminate_backend",
            "pg_reload_conf",
            "pg_stat_get_activity",
            "currtid2",
            "domain_in",
            "record_in",
            "pg_input_is_valid",
            "pg_logical_slot_get_changes",
            "cursor_to_xml",
            "pg_ls_dir",
            "pg_export_snapshot",
            "binary_upgrade_set_next_pg_type_oid",
            "pg_stat_get_backend_activity",
        ] {
            let found = functions("pg_catalog", name);
            assert!(!found.is_empty(), "{name}");
            assert!(found.iter().all(|builtin| !builtin.category.reviewed()), "{name}");
        }
        assert!(functions("pg_catalog", "no_such_function").is_empty());
        assert!(functions("public", "upper").is_empty());
    }

    #[test]
    fn volatile_and_pure_is_a_short_list() {
        let mut odd: Vec<&str> = FUNCTIONS
            .iter()
            .filter(|(_, found)| {
                found.iter().any(|b| b.category == Category::Pure && b.volatility.contains('v'))
            })
            .map(|(name, _)| *name)
            .collect();
        odd.sort_unstable();
        // timezone(text, timetz) looks at today's date; the sampling methods draw, and are called by the executor alone.
        assert_eq!(odd, ["bernoulli", "system", "timezone"]);
    }

    #[test]
    fn overloads_are_told_apart_by_their_number_of_arguments() {
        let category = |arguments| {
            let mut found =
                functions("pg_catalog", "ts_rewrite").iter().filter(|builtin| builtin.takes(Some(arguments)));
            (found.next().map(|builtin| builtin.category), found.count())
        };
        assert_eq!(category(2), (Some(Category::Dynamic), 0));
        assert_eq!(category(3), (Some(Category::Pure), 0));
    }
}
