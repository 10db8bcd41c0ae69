//! Built-in functions whose call is an act of its own: settings, locks, notifications, files, large objects, SQL in a
//! string.
//!
//! Owns: the table by name. May not: say that a function is harmless (that is the catalog's reviewed list). Names match
//! unqualified or in pg_catalog; extensions' functions in any schema.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::{Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{FunctionUse, NameUse, ObjectKind, Predicate, SettingAction, SettingUse};

/// What calling a function by its name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Setting,
    Notify,
    Lock,
    LargeObject,
    Files,
    Dynamic,
    System,
    Replication,
    SequenceWrite,
    SequenceRead,
    Nothing,
}

fn effect(name: &str) -> Effect {
    match name {
        "set_config" => Effect::Setting,
        "pg_notify" => Effect::Notify,
        "nextval" | "setval" => Effect::SequenceWrite,
        "currval" => Effect::SequenceRead,
        "lo_import" | "lo_export" | "pg_stat_file" | "pg_current_logfile" | "pg_logdir_ls" => Effect::Files,
        "loread" | "lowrite" => Effect::LargeObject,
        "ts_stat" | "ts_rewrite" | "xpath_table" | "connectby" => Effect::Dynamic,
        "pg_terminate_backend"
        | "pg_cancel_backend"
        | "pg_reload_conf"
        | "pg_promote"
        | "pg_switch_wal"
        | "pg_rotate_logfile"
        | "pg_rotate_logfile_old"
        | "pg_create_restore_point"
        | "pg_backup_start"
        | "pg_backup_stop"
        | "pg_start_backup"
        | "pg_stop_backup"
        | "pg_wal_replay_pause"
        | "pg_wal_replay_resume"
        | "pg_log_backend_memory_contexts"
        | "pg_log_standby_snapshot"
        | "pg_import_system_collations"
        | "pg_nextoid"
        | "pg_sync_replication_slots"
        | "pg_extension_config_dump"
        | "pg_stop_making_pinned_objects" => Effect::System,
        "pg_logical_emit_message" => Effect::Replication,
        other => by_prefix(other),
    }
}

fn by_prefix(name: &str) -> Effect {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if starts(&["pg_advisory_unlock"]) {
        Effect::Nothing // frees what this session holds: no act on anybody else
    } else if starts(&["pg_advisory_", "pg_try_advisory_"]) {
        Effect::Lock
    } else if starts(&["pg_read_", "pg_ls_", "pg_file_"]) {
        Effect::Files
    } else if starts(&["lo_"]) {
        Effect::LargeObject
    } else if starts(&[
        "query_to_",
        "cursor_to_",
        "table_to_xml",
        "schema_to_",
        "database_to_",
        "dblink",
        "crosstab",
    ]) {
        Effect::Dynamic
    } else if starts(&["pg_logical_slot_", "pg_create_physical_", "pg_create_logical_", "pg_copy_physical_"])
        || starts(&["pg_copy_logical_", "pg_drop_replication_", "pg_replication_", "pg_get_replication_"])
        || starts(&["binary_upgrade_"])
    {
        Effect::Replication
    } else if starts(&["pg_stat_reset"]) {
        Effect::System
    } else {
        Effect::Nothing
    }
}

impl<'t> Walker<'t> {
    /// Adds what the call does beyond calling.
    pub(super) fn function_effect(&mut self, function: &FunctionUse, arguments: &[pb::Node]) {
        let NameUse { catalog: _, schema, name } = &function.name;
        let effect = effect(name);
        let extension = name.starts_with("dblink")
            || name.starts_with("crosstab")
            || matches!(name.as_str(), "xpath_table" | "connectby");
        if effect == Effect::Nothing || !(extension || schema.as_deref().is_none_or(|s| s == "pg_catalog")) {
            return;
        }
        // The built-in is meant: what else may compete for the name is found by the resolution, and judged beside it.
        let built_in = || Some("pg_catalog".to_owned());
        let object = Some(NameUse { schema: schema.clone().or_else(built_in), ..function.name.clone() });
        match effect {
            Effect::Setting => self.set_config(function, arguments),
            Effect::Notify => self.act(Class::SessionNotify, None, ObjectKind::None, "pg_notify"),
            Effect::Lock => self.act(Class::SessionLock, None, ObjectKind::None, "an advisory lock function"),
            Effect::LargeObject => {
                self.facts.flags.effects = true;
                self.act(Class::ExportLargeObject, object, ObjectKind::Function, "a large object function");
            }
            Effect::Files => {
                self.facts.flags.server_files = true;
                self.act(Class::AdminSystem, object, ObjectKind::Function, "a function on server files");
            }
            Effect::Dynamic => self.facts.flags.dynamic = true,
            Effect::System => {
                self.act(Class::AdminSystem, object, ObjectKind::Function, "a server control function")
            }
            Effect::Replication => {
                self.act(Class::ExportReplication, object, ObjectKind::Function, "a replication function");
            }
            Effect::SequenceWrite => self.sequence(arguments, Class::WriteUpdate),
            Effect::SequenceRead => self.sequence(arguments, Class::ReadSelect),
            Effect::Nothing => {}
        }
    }

    fn set_config(&mut self, function: &FunctionUse, arguments: &[pb::Node]) {
        let constant = |i: usize| function.constants.get(i).cloned().flatten();
        let of_row = || arguments.first().filter(|first| is_column_name(Some(first))).and(self.row_setting);
        let local = constant(2)
            .is_some_and(|l| matches!(l.to_ascii_lowercase().as_str(), "true" | "t" | "1" | "on" | "yes"));
        self.facts.settings.push(SettingUse {
            name: constant(0).as_deref().or_else(of_row).map(str::to_ascii_lowercase),
            action: SettingAction::Set,
            value: constant(1),
            local,
        });
    }

    /// The constant in `FROM pg_settings WHERE name = 'constant'`, and nothing beside it: there the column `name` is that
    /// constant. pg_dump says so what it sets only where the server knows it (`set_restrict_relation_kind`).
    pub(super) fn row_of_settings(&self, n: &'t pb::SelectStmt) -> Option<&'t str> {
        let [from] = n.from_clause.as_slice() else { return None };
        let Some(N::RangeVar(of)) = kind(Some(from)) else { return None };
        let in_catalog =
            of.schemaname == "pg_catalog" || of.schemaname.is_empty() && !self.ctes.contains(&"pg_settings");
        if of.relname != "pg_settings" || !in_catalog || !of.catalogname.is_empty() || of.alias.is_some() {
            return None;
        }
        let Some(N::AExpr(condition)) = kind(n.where_clause.as_deref()) else { return None };
        let plain = pb::AExprKind::try_from(condition.kind) == Ok(pb::AExprKind::AexprOp);
        let equal = name::strings(&condition.name).as_deref() == Some(&["="]);
        if !plain || !equal || !is_column_name(condition.lexpr.as_deref()) {
            return None;
        }
        let Some(N::AConst(pb::AConst { val: Some(pb::a_const::Val::Sval(text)), isnull: _, location: _ })) =
            kind(condition.rexpr.as_deref())
        else {
            return None;
        };
        Some(&text.sval)
    }

    /// A sequence named by the constant of a regclass argument; where the text does not fix it, the call writes unseen.
    fn sequence(&mut self, arguments: &[pb::Node], class: Class) {
        let constant = match arguments.first().and_then(|a| kind(Some(a))) {
            // 's.q'::regclass; the cast has listed it as read.
            Some(N::TypeCast(cast)) if is_regclass(cast.type_name.as_ref()) => {
                name::constant(cast.arg.as_deref())
            }
            Some(_) | None => arguments.first().and_then(|a| name::constant(Some(a))),
        };
        if class == Class::WriteUpdate {
            self.facts.flags.effects = true;
        }
        if let Some(name) = constant.as_deref().and_then(name::in_constant) {
            self.named_relation(name, class, Predicate::NotApplicable, false, None);
        } else {
            self.act(class, None, ObjectKind::None, "a sequence that the text does not name");
        }
    }
}

/// The column `name`, of no relation that the text says.
fn is_column_name(node: Option<&pb::Node>) -> bool {
    let Some(N::ColumnRef(column)) = kind(node) else { return false };
    name::strings(&column.fields).as_deref() == Some(&["name"])
}

/// The type regclass itself, in pg_catalog or unqualified.
pub(super) fn is_regclass(of: Option<&pb::TypeName>) -> bool {
    let parts = of.filter(|of| of.array_bounds.is_empty()).and_then(|of| name::strings(&of.names));
    matches!(parts.as_deref(), Some(["regclass"] | ["pg_catalog", "regclass"]))
}
