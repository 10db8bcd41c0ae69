//! The relations of `pg_catalog` and `information_schema`, sorted by hand.
//!
//! Owns: which of them only describe objects, and which carry data, statement texts, addresses or secrets. May not: know
//! a policy. A relation on neither list is treated as data-bearing: a new version's views are not harmless by default.

/// What a system relation carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Descriptions of objects, settings and counters.
    Descriptions,
    /// Values, texts or secrets of users; the reason.
    Data(&'static str),
}

/// Data-bearing relations of `pg_catalog`, with the reason.
const CATALOG_DATA: &[(&str, &str)] = &[
    ("pg_authid", "password hashes"),
    ("pg_shadow", "password hashes"),
    ("pg_statistic", "values of columns"),
    ("pg_statistic_ext_data", "values of columns"),
    ("pg_stats", "values of columns"),
    ("pg_stats_ext", "values of columns"),
    ("pg_stats_ext_exprs", "values of columns"),
    ("pg_user_mapping", "credentials of foreign servers"),
    ("pg_user_mappings", "credentials of foreign servers"),
    ("pg_foreign_server", "addresses and options of foreign servers"),
    ("pg_subscription", "connection strings with passwords"),
    ("pg_db_role_setting", "settings of roles and databases, where applications keep secrets"),
    ("pg_largeobject", "contents of large objects"),
    ("pg_stat_activity", "statement texts and addresses of other sessions"),
    ("pg_stat_replication", "addresses of other sessions"),
    ("pg_stat_ssl", "certificates of other sessions"),
    ("pg_stat_gssapi", "principals of other sessions"),
    ("pg_stat_wal_receiver", "connection strings"),
    ("pg_prepared_statements", "statement texts with their literals"),
    ("pg_cursors", "statement texts with their literals"),
    ("pg_hba_file_rules", "the server's authentication rules"),
    ("pg_ident_file_mappings", "the server's authentication rules"),
    ("pg_file_settings", "the server's configuration files"),
];

/// Of the data-bearing ones, those that hold secrets, addresses or settings, and never what a column of a user's table holds.
const NO_COLUMN_VALUES: &[&str] = &[
    "_pg_foreign_servers",
    "_pg_user_mappings",
    "foreign_server_options",
    "pg_authid",
    "pg_db_role_setting",
    "pg_file_settings",
    "pg_foreign_server",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_shadow",
    "pg_stat_gssapi",
    "pg_stat_replication",
    "pg_stat_ssl",
    "pg_stat_wal_receiver",
    "pg_subscription",
    "pg_user_mapping",
    "pg_user_mappings",
    "user_mapping_options",
];

/// Data-bearing relations of `information_schema`, with the reason.
const INFORMATION_DATA: &[(&str, &str)] = &[
    ("_pg_user_mappings", "credentials of foreign servers"),
    ("user_mapping_options", "credentials of foreign servers"),
    ("_pg_foreign_servers", "addresses and options of foreign servers"),
    ("foreign_server_options", "addresses and options of foreign servers"),
];

/// Relations that carry data wherever an extension puts them.
const EXTENSION_DATA: &[(&str, &str)] = &[("pg_stat_statements", "statement texts of all sessions")];

/// Relations of `pg_catalog` that describe; `pg_settings` describes, but writing it sets.
const CATALOG_DESCRIPTIONS: &[&str] = &[
    "pg_aggregate",
    "pg_aios",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_attribute",
    "pg_auth_members",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_backend_memory_contexts",
    "pg_cast",
    "pg_class",
    "pg_collation",
    "pg_config",
    "pg_constraint",
    "pg_conversion",
    "pg_database",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_table",
    "pg_group",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_init_privs",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_locks",
    "pg_matviews",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_prepared_xacts",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_range",
    "pg_replication_origin",
    "pg_replication_origin_status",
    "pg_replication_slots",
    "pg_rewrite",
    "pg_roles",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_sequences",
    "pg_settings",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shmem_allocations",
    "pg_shmem_allocations_numa",
    "pg_shseclabel",
    "pg_stat_all_indexes",
    "pg_stat_all_tables",
    "pg_stat_archiver",
    "pg_stat_bgwriter",
    "pg_stat_checkpointer",
    "pg_stat_database",
    "pg_stat_database_conflicts",
    "pg_stat_io",
    "pg_stat_progress_analyze",
    "pg_stat_progress_basebackup",
    "pg_stat_progress_cluster",
    "pg_stat_progress_copy",
    "pg_stat_progress_create_index",
    "pg_stat_progress_vacuum",
    "pg_stat_recovery_prefetch",
    "pg_stat_replication_slots",
    "pg_stat_slru",
    "pg_stat_subscription",
    "pg_stat_subscription_stats",
    "pg_stat_sys_indexes",
    "pg_stat_sys_tables",
    "pg_stat_user_functions",
    "pg_stat_user_indexes",
    "pg_stat_user_tables",
    "pg_stat_wal",
    "pg_stat_xact_all_tables",
    "pg_stat_xact_sys_tables",
    "pg_stat_xact_user_functions",
    "pg_stat_xact_user_tables",
    "pg_statio_all_indexes",
    "pg_statio_all_sequences",
    "pg_statio_all_tables",
    "pg_statio_sys_indexes",
    "pg_statio_sys_sequences",
    "pg_statio_sys_tables",
    "pg_statio_user_indexes",
    "pg_statio_user_sequences",
    "pg_statio_user_tables",
    "pg_statistic_ext",
    "pg_subscription_rel",
    "pg_tables",
    "pg_tablespace",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user",
    "pg_views",
    "pg_wait_events",
];

/// Relations of `information_schema` that describe.
const INFORMATION_DESCRIPTIONS: &[&str] = &[
    "_pg_foreign_data_wrappers",
    "_pg_foreign_table_columns",
    "_pg_foreign_tables",
    "administrable_role_authorizations",
    "applicable_roles",
    "attributes",
    "character_sets",
    "check_constraint_routine_usage",
    "check_constraints",
    "collation_character_set_applicability",
    "collations",
    "column_column_usage",
    "column_domain_usage",
    "column_options",
    "column_privileges",
    "column_udt_usage",
    "columns",
    "constraint_column_usage",
    "constraint_table_usage",
    "data_type_privileges",
    "domain_constraints",
    "domain_udt_usage",
    "domains",
    "element_types",
    "enabled_roles",
    "foreign_data_wrapper_options",
    "foreign_data_wrappers",
    "foreign_servers",
    "foreign_table_options",
    "foreign_tables",
    "information_schema_catalog_name",
    "key_column_usage",
    "parameters",
    "referential_constraints",
    "role_column_grants",
    "role_routine_grants",
    "role_table_grants",
    "role_udt_grants",
    "role_usage_grants",
    "routine_column_usage",
    "routine_privileges",
    "routine_routine_usage",
    "routine_sequence_usage",
    "routine_table_usage",
    "routines",
    "schemata",
    "sequences",
    "sql_features",
    "sql_implementation_info",
    "sql_parts",
    "sql_sizing",
    "table_constraints",
    "table_privileges",
    "tables",
    "transforms",
    "triggered_update_columns",
    "triggers",
    "udt_privileges",
    "usage_privileges",
    "user_defined_types",
    "user_mappings",
    "view_column_usage",
    "view_routine_usage",
    "view_table_usage",
    "views",
];

/// Built-in types by name, without arrays (an underscore and the name) and row types.
const TYPES: &[&str] = &[
    "_record",
    "aclitem",
    "any",
    "anyarray",
    "anycompatible",
    "anycompatiblearray",
    "anycompatiblemultirange",
    "anycompatiblenonarray",
    "anycompatiblerange",
    "anyelement",
    "anyenum",
    "anymultirange",
    "anynonarray",
    "anyrange",
    "bit",
    "bool",
    "box",
    "bpchar",
    "bytea",
    "char",
    "cid",
    "cidr",
    "circle",
    "cstring",
    "date",
    "datemultirange",
    "daterange",
    "event_trigger",
    "fdw_handler",
    "float4",
    "float8",
    "gtsvector",
    "index_am_handler",
    "inet",
    "int2",
    "int2vector",
    "int4",
    "int4multirange",
    "int4range",
    "int8",
    "int8multirange",
    "int8range",
    "internal",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "language_handler",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numeric",
    "nummultirange",
    "numrange",
    "oid",
    "oidvector",
    "path",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_ddl_command",
    "pg_dependencies",
    "pg_lsn",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "pg_snapshot",
    "point",
    "polygon",
    "record",
    "refcursor",
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "table_am_handler",
    "text",
    "tid",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "trigger",
    "tsm_handler",
    "tsmultirange",
    "tsquery",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
    "tsvector",
    "txid_snapshot",
    "unknown",
    "uuid",
    "varbit",
    "varchar",
    "void",
    "xid",
    "xid8",
    "xml",
];

/// What a relation of a system schema carries. `None` where the schema is none of the system's.
#[must_use]
pub fn carries(schema: &str, name: &str) -> Option<Carries> {
    let (data, descriptions) = match schema {
        "pg_catalog" => (CATALOG_DATA, CATALOG_DESCRIPTIONS),
        "information_schema" => (INFORMATION_DATA, INFORMATION_DESCRIPTIONS),
        "pg_toast" => return Some(Carries::Data("values of columns")),
        _ => return None,
    };
    if descriptions.binary_search(&name).is_ok() {
        return Some(Carries::Descriptions);
    }
    let reason = data.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason);
    Some(Carries::Data(reason.unwrap_or("a system relation that was not reviewed")))
}

/// Whether a relation of a system schema may show what a column of a user's table holds: statistics, statement texts, large
/// objects, and all that nobody reviewed. Outside the system's schemas: true.
#[must_use]
pub fn may_show_values(schema: &str, name: &str) -> bool {
    match carries(schema, name) {
        Some(Carries::Descriptions) => false,
        Some(Carries::Data(_)) => NO_COLUMN_VALUES.binary_search(&name).is_err(),
        None => true,
    }
}

/// Whether a view or function of the system counts what a write did below its rows: WAL, blocks, updates that changed no indexed
/// column. Who sets a column to a guess reads there how much of it was right, and rolls it back: the WAL of an update leaves out
/// what old and new row have in common (`log_heap_update`, src/backend/access/heap/heapam.c).
#[must_use]
pub fn tells_volumes(schema: &str, name: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "pg_backup_",
        "pg_control_",
        "pg_create_restore_point",
        "pg_current_wal_",
        "pg_last_wal_",
        "pg_logical_emit_message",
        "pg_start_backup",
        "pg_stat_io",
        "pg_stat_wal",
        "pg_statio_",
        "pg_stop_backup",
        "pg_switch_wal",
    ];
    const COUNTERS: [&str; 8] =
        ["_archiver", "_blocks_", "_buf", "_hot_updated", "_io", "_newpage_updated", "_slru", "_wal"];
    let view = matches!(
        name,
        "pg_replication_slots"
            | "pg_stat_all_tables"
            | "pg_stat_archiver"
            | "pg_stat_bgwriter"
            | "pg_stat_checkpointer"
            | "pg_stat_database"
            | "pg_stat_replication_slots"
            | "pg_stat_slru"
            | "pg_stat_sys_tables"
            | "pg_stat_user_tables"
            | "pg_stat_xact_all_tables"
            | "pg_stat_xact_sys_tables"
            | "pg_stat_xact_user_tables"
    );
    let counter = || name.starts_with("pg_stat_get_") && COUNTERS.iter().any(|part| name.contains(part));
    schema == "pg_catalog" && (view || BEGINNINGS.iter().any(|begins| name.starts_with(begins)) || counter())
}

/// Whether the lists know a system relation at all.
#[must_use]
pub fn knows(schema: &str, name: &str) -> bool {
    let (data, descriptions) = match schema {
        "pg_catalog" => (CATALOG_DATA, CATALOG_DESCRIPTIONS),
        "information_schema" => (INFORMATION_DATA, INFORMATION_DESCRIPTIONS),
        _ => return false,
    };
    descriptions.binary_search(&name).is_ok() || data.iter().any(|(known, _)| *known == name)
}

/// Every system relation that the lists know, schema and name.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let data = |list: &'static [(&'static str, &'static str)]| list.iter().map(|(name, _)| *name);
    let catalog = CATALOG_DESCRIPTIONS.iter().copied().chain(data(CATALOG_DATA));
    let information = INFORMATION_DESCRIPTIONS.iter().copied().chain(data(INFORMATION_DATA));
    catalog.map(|name| ("pg_catalog", name)).chain(information.map(|name| ("information_schema", name)))
}

/// The reason why a relation outside the system schemas carries data of others, by its name.
#[must_use]
pub fn extension_data(name: &str) -> Option<&'static str> {
    EXTENSION_DATA.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason)
}

/// Whether `name` is a built-in type or the array type of one.
#[must_use]
pub fn is_type(name: &str) -> bool {
    let known = |name: &str| TYPES.binary_search(&name).is_ok();
    known(name) || name.strip_prefix('_').is_some_and(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_apart() {
        assert!(CATALOG_DESCRIPTIONS.is_sorted());
        assert!(INFORMATION_DESCRIPTIONS.is_sorted());
        assert!(TYPES.is_sorted());
        assert!(NO_COLUMN_VALUES.is_sorted());
        let data =
            |name: &&&str| CATALOG_DATA.iter().chain(INFORMATION_DATA).any(|(known, _)| *known == **name);
        assert_eq!(NO_COLUMN_VALUES.iter().filter(data).count(), NO_COLUMN_VALUES.len());
        for (name, _) in CATALOG_DATA {
            assert!(CATALOG_DESCRIPTIONS.binary_search(name).is_err(), "{name}");
        }
        for (name, _) in INFORMATION_DATA {
            assert!(INFORMATION_DESCRIPTIONS.binary_search(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_nobody_reviewed_carries_data() {
        assert_eq!(carries("pg_catalog", "pg_class"), Some(Carries::Descriptions));
        assert_eq!(carries("pg_catalog", "pg_authid"), Some(Carries::Data("password hashes")));
        assert!(matches!(carries("pg_catalog", "pg_brand_new"), Some(Carries::Data(_))));
        assert!(matches!(carries("pg_toast", "pg_toast_1255"), Some(Carries::Data(_))));
        assert_eq!(carries("crm", "orders"), None);
        for (name, shows) in
            [("pg_class", false), ("pg_authid", false), ("pg_stats", true), ("pg_stat_activity", true)]
        {
            assert_eq!(may_show_values("pg_catalog", name), shows, "{name}");
        }
        assert!(may_show_values("pg_catalog", "pg_brand_new") && may_show_values("crm", "pg_authid"));
        for name in
            ["pg_stat_get_xact_tuples_hot_updated", "pg_current_wal_insert_lsn", "pg_statio_user_indexes"]
        {
            assert!(tells_volumes("pg_catalog", name), "{name}");
        }
        assert!(
            !tells_volumes("pg_catalog", "pg_stat_get_live_tuples") && !tells_volumes("crm", "pg_stat_wal")
        );
        assert!(is_type("_int4") && is_type("text") && !is_type("citext"));
    }
}
