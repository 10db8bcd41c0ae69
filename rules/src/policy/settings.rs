//! Settings: which a client may move, which stand for the session, and what a read-only session may not do.
//!
//! Owns: the allow-list of settings (threats.md, requirement 3; README decisions 6, 9 and 15) and the classes that
//! `mode = "read"` lets pass. May not: know permits; what is refused here, no permit opens. Fails closed: a setting
//! that is on no list is [`Category::Closed`], one whose name the text does not fix is refused.
//!
//! The names and what an ordinary role may set are those of PostgreSQL 14 to 18, `src/backend/utils/misc/guc_tables.c`
//! (14 and 15: `guc.c`).

use crate::class::Class;
use crate::policy::model::{Access, Mode};
use crate::resolve::Reach;
use crate::statement::facts::{SettingAction, SettingUse, StatementFacts, TransactionControl};

/// What kind of setting a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// A client may set it for itself: how values look, how a query is planned.
    Client,
    /// Time limits and durability: only in a session with `mode = "write"`, by a permit on `session.set`.
    Guard,
    /// Stands for the whole session; setting it to the value it has is allowed.
    Pinned,
    /// Of an application or an extension (`app.tenant`): by a permit that names it (`setting:app.tenant`) or `*`.
    Custom,
    /// Anything else: refused.
    Closed,
}

/// Settings of [`Category::Client`], sorted. `enable_*` is added by [`category`].
pub(crate) const CLIENT: &[&str] = &[
    "application_name",
    "bytea_output",
    "check_function_bodies",
    "client_min_messages",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "hash_mem_multiplier",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "restrict_nonsystem_relation_kind",
    "seq_page_cost",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    "temp_buffers",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Settings of [`Category::Guard`], sorted.
pub(crate) const GUARD: &[&str] = &[
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
];

/// Settings of [`Category::Pinned`], sorted.
pub(crate) const PINNED: &[&str] = &[
    "client_encoding",
    "default_transaction_read_only",
    "role",
    "row_security",
    "search_path",
    "session_authorization",
    "session_replication_role",
    "standard_conforming_strings",
    "transaction_read_only",
];

/// What kind of setting `name` is.
pub fn category(name: &str) -> Category {
    let lowered = name.to_ascii_lowercase();
    let name = lowered.as_str();
    if CLIENT.binary_search(&name).is_ok() || is_planner_switch(name) {
        Category::Client
    } else if GUARD.binary_search(&name).is_ok() {
        Category::Guard
    } else if PINNED.binary_search(&name).is_ok() {
        Category::Pinned
    } else if name.contains('.') {
        Category::Custom
    } else {
        Category::Closed
    }
}

/// `enable_…` without a dot is a planner switch of the server; an extension cannot define one (its names have a dot).
fn is_planner_switch(name: &str) -> bool {
    name.strip_prefix("enable_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

/// A refusal that no permit opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    /// Id of the built-in rule.
    pub(crate) id: &'static str,
    /// Why, as the rest of a sentence behind the object.
    pub(crate) why: String,
    /// What the client can do.
    pub(crate) next: String,
}

/// Id of the rule on settings.
pub(crate) const RULE_SETTINGS: &str = "builtin.settings";
/// Id of the rule on read-only sessions.
pub(crate) const RULE_READ_MODE: &str = "builtin.read-mode";

/// The category under which permits see a use of a setting. Returning to the session's own start value is the client's
/// own affair: the access entry's guards stand in the startup packet, so RESET returns to them (README decision 15).
pub(crate) fn category_of_use(setting: &SettingUse) -> Category {
    match setting.action {
        SettingAction::Reset => Category::Client,
        SettingAction::Show | SettingAction::Set | SettingAction::Persist => {
            setting.name.as_deref().map_or(Category::Closed, category)
        }
    }
}

/// Whether the rules on settings refuse this use.
pub(crate) fn check(
    setting: &SettingUse,
    statement: &StatementFacts,
    access: &Access,
) -> Result<(), BuiltIn> {
    match setting.action {
        SettingAction::Show => Ok(()),
        SettingAction::Reset => check_reset(setting, access),
        SettingAction::Persist => check_persist(statement, access),
        SettingAction::Set => check_set(setting, access),
    }
}

/// The start value of a setting is the access entry's, but for one: before 16 the server lets `RESET
/// transaction_read_only` (and SET … TO DEFAULT) make a transaction READ WRITE, since its reset value is `off` whatever the
/// session's default says. RESET ALL leaves it alone (GUC_NO_RESET_ALL).
fn check_reset(setting: &SettingUse, access: &Access) -> Result<(), BuiltIn> {
    let escapes =
        setting.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("transaction_read_only"));
    match access.mode {
        Mode::Read if escapes => Err(read_mode(access, "asks for READ WRITE")),
        Mode::Read | Mode::Write => Ok(()),
    }
}

/// ALTER SYSTEM, ALTER ROLE … SET and the like are judged by their own class; anything else that would keep a setting
/// beyond the session (an UPDATE of pg_settings) hides which setting it moves.
fn check_persist(statement: &StatementFacts, access: &Access) -> Result<(), BuiltIn> {
    let judged_by_class = matches!(
        statement.class,
        Class::AdminSystem | Class::AdminDatabase | Class::DclRole | Class::DdlCode
    );
    match (judged_by_class, access.mode) {
        (true, Mode::Write) => Ok(()),
        (true, Mode::Read) => Err(read_mode(access, "changes a setting beyond this session")),
        (false, Mode::Read | Mode::Write) => Err(BuiltIn {
            id: RULE_SETTINGS,
            why: "the text does not fix which setting it changes".into(),
            next: "use SET with the setting's name".into(),
        }),
    }
}

fn check_set(setting: &SettingUse, access: &Access) -> Result<(), BuiltIn> {
    let Some(name) = setting.name.as_deref() else {
        return Err(BuiltIn {
            id: RULE_SETTINGS,
            why: "the text does not fix which setting it changes".into(),
            next: "use SET, or set_config with the setting's name as a constant".into(),
        });
    };
    match category(name) {
        Category::Client | Category::Custom => Ok(()),
        Category::Guard => match access.mode {
            Mode::Write => Ok(()),
            Mode::Read => Err(read_mode(access, "changes a limit of this session")),
        },
        Category::Pinned if keeps_pinned(name, setting.value.as_deref(), access) => Ok(()),
        Category::Pinned => Err(BuiltIn {
            id: RULE_SETTINGS,
            why: "it stands for the whole session and does not move".into(),
            next: pinned_next(name, access),
        }),
        Category::Closed => Err(BuiltIn {
            id: RULE_SETTINGS,
            why: "it is not on the list of settings that a client may change".into(),
            next: "leave it as the server has it, or have a DBA set it for the role".into(),
        }),
    }
}

fn pinned_next(name: &str, access: &Access) -> String {
    match name {
        "search_path" => format!(
            "name objects with their schema, or set search_path in the guards of access entry {} ({})",
            access.id, access.place
        ),
        "role" | "session_authorization" => {
            "connect by an access entry with that login; a session keeps the role it began with".into()
        }
        "client_encoding" => "use UTF8".into(),
        "standard_conforming_strings" => "leave it on, and write escapes as E'…'".into(),
        "default_transaction_read_only" | "transaction_read_only" => match access.mode {
            Mode::Read => {
                format!(
                    "use an access entry with mode = \"write\" (this one is {}, {})",
                    access.id, access.place
                )
            }
            Mode::Write => {
                "use BEGIN READ ONLY for a transaction, or an access entry with mode = \"read\"".into()
            }
        },
        _ => "leave it as the session began".into(),
    }
}

/// Whether `value` is what the session has anyway, or is stricter.
fn keeps_pinned(name: &str, value: Option<&str>, access: &Access) -> bool {
    let Some(value) = value else { return false };
    let lowered = value.to_ascii_lowercase();
    let on = matches!(lowered.as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
    let off = matches!(lowered.as_str(), "off" | "false" | "no" | "0" | "f" | "n");
    match name {
        "client_encoding" => {
            // As pg_char_to_encoding cleans names (src/common/encnames.c): only letters and digits count.
            let cleaned: String = lowered.chars().filter(char::is_ascii_alphanumeric).collect();
            cleaned == "utf8" || cleaned == "unicode"
        }
        "standard_conforming_strings" | "row_security" => on,
        "session_replication_role" => lowered == "origin",
        "role" => lowered == "none",
        "search_path" => match access.guards.search_path.as_slice() {
            // What pg_dump, pg_restore and their scripts set.
            [] => value.is_empty(),
            [only] => only == value,
            [_, _, ..] => false,
        },
        "default_transaction_read_only" | "transaction_read_only" => match access.mode {
            Mode::Read => on,
            // A transaction that makes itself read-only only tightens; the session's own default is off.
            Mode::Write => off || (on && name == "transaction_read_only"),
        },
        _ => false,
    }
}

/// Whether a statement as a whole may not run in a session with `mode = "read"`, beyond what [`class_in_read_mode`] says.
pub(crate) fn check_transaction(statement: &StatementFacts, access: &Access) -> Result<(), BuiltIn> {
    let Some(control) = statement.transaction else { return Ok(()) };
    if access.mode == Mode::Write {
        return Ok(());
    }
    match control {
        TransactionControl::Begin { read_write: true } | TransactionControl::Mode { read_write: true } => {
            Err(read_mode(access, "asks for READ WRITE"))
        }
        // COMMIT PREPARED makes another session's writes last, and no read-only transaction stops it.
        TransactionControl::TwoPhase => Err(read_mode(access, "uses two-phase commit")),
        TransactionControl::Begin { read_write: false }
        | TransactionControl::Mode { read_write: false }
        | TransactionControl::Commit
        | TransactionControl::Rollback
        | TransactionControl::Savepoint => Ok(()),
    }
}

/// Functions that write large objects. Before 16 the server runs them in a read-only transaction (`PreventCommandIfReadOnly`
/// came to src/backend/libpq/be-fsstubs.c with 16).
const LARGE_OBJECT_WRITERS: &[&str] = &[
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_import",
    "lo_put",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "lowrite",
];

/// Whether a statement in a session with `mode = "read"` writes large objects, which no relation of its text shows.
pub(crate) fn check_large_objects(statement: &StatementFacts, access: &Access) -> Result<(), BuiltIn> {
    let writes = statement.functions.iter().any(|function| {
        function.name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
            && LARGE_OBJECT_WRITERS.contains(&function.name.name.as_str())
    });
    match access.mode {
        Mode::Read if writes => Err(read_mode(access, "writes large objects")),
        Mode::Read | Mode::Write => Ok(()),
    }
}

/// Whether `mode = "read"` refuses an access of `class`: what a read-only transaction of the server does not stop
/// (README decision 15; `ClassifyUtilityCommandAsReadOnly` in `src/backend/tcop/utility.c` lets ALTER SYSTEM, CALL, DO,
/// VACUUM, REINDEX, LOCK, NOTIFY and COPY to files run), and with it everything else that is no read.
pub(crate) fn class_in_read_mode(class: Class, reach: Option<Reach>, access: &Access) -> Result<(), BuiltIn> {
    match access.mode {
        Mode::Write => return Ok(()),
        Mode::Read => {}
    }
    let own = reach == Some(Reach::Temporary) && writes_rows(class);
    match escapes_read_mode(class) {
        Some(what) if !own => Err(read_mode(access, what)),
        Some(_) | None => Ok(()),
    }
}

/// Whether a session with `mode = "read"` may do it at all.
pub(crate) fn passes_read_mode(class: Class) -> bool {
    escapes_read_mode(class).is_none()
}

/// Classes that a read-only transaction allows on the session's own temporary relations.
fn writes_rows(class: Class) -> bool {
    matches!(
        class,
        Class::WriteInsert
            | Class::WriteUpdate
            | Class::WriteDelete
            | Class::WriteMerge
            | Class::ImportCopyIn
    )
}

/// What a class does that a read-only session may not; `None` where it may.
fn escapes_read_mode(class: Class) -> Option<&'static str> {
    Some(match class {
        Class::ReadSelect
        | Class::ReadFetch
        | Class::ReadExplain
        | Class::ReadExplainAnalyze
        | Class::SessionTransaction
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::ExportCopyOut
        | Class::ExportBulk
        | Class::ExportLargeObject
        | Class::CallFunction => return None,
        Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::ImportCopyIn => "writes",
        Class::DdlCreate
        | Class::DdlAlter
        | Class::DdlDrop
        | Class::DdlTemp
        | Class::DdlComment
        | Class::DdlIndex
        | Class::DdlCode => "changes the schema",
        Class::DclGrant | Class::DclRole | Class::DclPolicy | Class::DclLabel => "changes rights",
        Class::SessionNotify => "notifies other sessions",
        // No read-only transaction stops it: what it ends, or leaves to be ended, wrote elsewhere.
        Class::SessionTwoPhase => "uses two-phase commit",
        Class::SessionLock => "takes locks that other sessions wait for",
        Class::ExportReplication => "replicates",
        Class::CallProcedure | Class::CallDo => {
            "runs code that can end the read-only transaction and begin another"
        }
        Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh
        | Class::MaintenanceCheckpoint => "is maintenance",
        Class::AdminSystem
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer => "changes the server",
        Class::Unknown => "is not known to be a read",
    })
}

fn read_mode(access: &Access, what: &str) -> BuiltIn {
    BuiltIn {
        id: RULE_READ_MODE,
        why: format!(
            "it {what}, and this session is read-only (access entry {}, {})",
            access.id, access.place
        ),
        next: "connect by an access entry with mode = \"write\", if you have one".into(),
    }
}
