//! DCL, administration and maintenance.
//!
//! Owns: which objects they act on. Who gains or loses by it (grantees, new owners, a policy's roles) is no object of the
//! act and is not listed. Also roles, privileges, policies, databases, extensions, servers, publications, and statements on the server itself.
//! May not: keep a password or a connection string (no fact holds one).

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::object::object_type;
use super::{Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{NameUse, ObjectKind, Predicate};
use crate::statement::generated::Visitor;

/// A role as written; the key words stand for themselves.
pub(super) fn role_name(role: &pb::RoleSpec) -> NameUse {
    let pb::RoleSpec { roletype, rolename, location: _ } = role;
    use pb::RoleSpecType as R;
    name::bare(match R::try_from(*roletype).unwrap_or(R::Undefined) {
        R::RolespecCstring | R::Undefined => rolename,
        R::RolespecCurrentRole => "current_role",
        R::RolespecCurrentUser => "current_user",
        R::RolespecSessionUser => "session_user",
        R::RolespecPublic => "public",
    })
}

impl<'t> Walker<'t> {
    /// Roles that a statement acts on.
    fn roles(&mut self, nodes: &'t [pb::Node], class: Class, why: &'static str) {
        for node in nodes {
            match kind(Some(node)) {
                Some(N::RoleSpec(role)) => self.act(class, Some(role_name(role)), ObjectKind::Role, why),
                Some(N::AccessPriv(pb::AccessPriv { priv_name, cols })) => {
                    self.act(class, Some(name::bare(priv_name)), ObjectKind::Role, why);
                    self.nodes(cols);
                }
                Some(_) | None => self.unknown("a role of unknown kind"),
            }
        }
    }

    pub(super) fn grant(&mut self, n: &'t pb::GrantStmt) {
        let pb::GrantStmt {
            is_grant,
            targtype,
            objtype,
            objects,
            privileges,
            grantees: _,
            grant_option: _,
            grantor: _,
            behavior,
        } = n;
        if self.facts.class == Class::DclGrant && self.facts.tag == "GRANT" {
            self.tagged(if *is_grant { "GRANT" } else { "REVOKE" });
        }
        self.cascades(*behavior);
        use pb::GrantTargetType as G;
        match G::try_from(*targtype).unwrap_or(G::Undefined) {
            G::AclTargetObject => {
                for object in objects {
                    self.touch(object_type(*objtype), object, Class::DclGrant, "GRANT or REVOKE");
                }
            }
            G::AclTargetAllInSchema => {
                for schema in objects {
                    let name = name::string(schema).map(name::bare);
                    self.act(Class::DclGrant, name, ObjectKind::AllInSchema, "GRANT or REVOKE ON ALL");
                }
            }
            G::AclTargetDefaults => {
                self.act(Class::DclGrant, None, ObjectKind::None, "ALTER DEFAULT PRIVILEGES")
            }
            G::Undefined => self.unknown("a GRANT of unknown kind"),
        }
        self.nodes(privileges);
    }

    pub(super) fn grant_role(&mut self, n: &'t pb::GrantRoleStmt) {
        let pb::GrantRoleStmt { granted_roles, grantee_roles: _, is_grant, opt, grantor: _, behavior } = n;
        self.tagged(if *is_grant { "GRANT ROLE" } else { "REVOKE ROLE" });
        self.cascades(*behavior);
        for class in [Class::DclGrant, Class::DclRole] {
            self.roles(granted_roles, class, "GRANT or REVOKE of a role");
        }
        self.nodes(opt);
    }

    pub(super) fn default_privileges(&mut self, n: &'t pb::AlterDefaultPrivilegesStmt) {
        let pb::AlterDefaultPrivilegesStmt { options, action } = n;
        for option in options {
            let Some(N::DefElem(option)) = kind(Some(option)) else {
                self.unknown("an option of unknown kind");
                continue;
            };
            let Some(N::List(pb::List { items })) = kind(option.arg.as_deref()) else { continue };
            if option.defname == "schemas" {
                for schema in items {
                    let name = name::string(schema).map(name::bare);
                    self.act(Class::DclGrant, name, ObjectKind::AllInSchema, "ALTER DEFAULT PRIVILEGES");
                }
            }
        }
        match action {
            Some(action) => self.grant_stmt(action),
            None => self.unknown("ALTER DEFAULT PRIVILEGES without an action"),
        }
    }

    pub(super) fn create_policy(&mut self, n: &'t pb::CreatePolicyStmt) {
        let pb::CreatePolicyStmt {
            policy_name: _,
            table,
            cmd_name: _,
            permissive: _,
            roles: _,
            qual,
            with_check,
        } = n;
        self.policy(table.as_ref(), qual.as_deref(), with_check.as_deref());
    }

    pub(super) fn alter_policy(&mut self, n: &'t pb::AlterPolicyStmt) {
        let pb::AlterPolicyStmt { policy_name: _, table, roles: _, qual, with_check } = n;
        self.policy(table.as_ref(), qual.as_deref(), with_check.as_deref());
    }

    fn policy(
        &mut self,
        table: Option<&'t pb::RangeVar>,
        qual: Option<&'t pb::Node>,
        check: Option<&'t pb::Node>,
    ) {
        match table {
            Some(table) => self.relation(table, Class::DclPolicy, Predicate::NotApplicable),
            None => self.unknown("a policy without a relation"),
        }
        for expression in [qual, check].into_iter().flatten() {
            self.node(expression);
        }
    }

    pub(super) fn create_role(&mut self, n: &'t pb::CreateRoleStmt) {
        let pb::CreateRoleStmt { stmt_type: _, role, options } = n;
        self.act(Class::DclRole, Some(name::bare(role)), ObjectKind::Role, "CREATE ROLE");
        self.role_options(options);
    }

    pub(super) fn alter_role(&mut self, n: &'t pb::AlterRoleStmt) {
        let pb::AlterRoleStmt { role, options, action: _ } = n;
        let name = role.as_ref().map(role_name);
        self.act(Class::DclRole, name, ObjectKind::Role, "ALTER ROLE");
        self.role_options(options);
    }

    /// IN ROLE, ROLE and ADMIN grant memberships.
    fn role_options(&mut self, options: &'t [pb::Node]) {
        for option in options {
            match kind(Some(option)) {
                Some(N::DefElem(option)) => {
                    if let Some(N::List(pb::List { items })) = kind(option.arg.as_deref()) {
                        self.roles(items, Class::DclGrant, "membership by CREATE or ALTER ROLE");
                    }
                }
                Some(_) | None => self.unknown("an option of unknown kind"),
            }
        }
        self.nodes(options);
    }

    pub(super) fn alter_role_set(&mut self, n: &'t pb::AlterRoleSetStmt) {
        let pb::AlterRoleSetStmt { role, database, setstmt } = n;
        match role {
            Some(role) => self.act(Class::DclRole, Some(role_name(role)), ObjectKind::Role, "ALTER ROLE SET"),
            None => self.act(Class::DclRole, None, ObjectKind::None, "ALTER ROLE ALL SET"),
        }
        if !database.is_empty() {
            self.act(
                Class::AdminDatabase,
                Some(name::bare(database)),
                ObjectKind::Database,
                "ALTER ROLE SET IN DATABASE",
            );
        }
        self.persisted(setstmt.as_ref());
    }

    /// A SET that is stored with an object.
    fn persisted(&mut self, set: Option<&'t pb::VariableSetStmt>) {
        let outer = std::mem::replace(&mut self.persist, true);
        match set {
            Some(set) => self.variable_set_stmt(set),
            None => self.unknown("a stored setting without one"),
        }
        self.persist = outer;
    }

    pub(super) fn drop_role(&mut self, n: &'t pb::DropRoleStmt) {
        let pb::DropRoleStmt { roles, missing_ok: _ } = n;
        self.roles(roles, Class::DclRole, "DROP ROLE");
    }

    pub(super) fn drop_owned(&mut self, n: &'t pb::DropOwnedStmt) {
        let pb::DropOwnedStmt { roles, behavior } = n;
        self.act(Class::DdlDrop, None, ObjectKind::None, "DROP OWNED");
        self.roles(roles, Class::DclGrant, "DROP OWNED");
        self.cascades(*behavior);
    }

    pub(super) fn reassign_owned(&mut self, n: &'t pb::ReassignOwnedStmt) {
        let pb::ReassignOwnedStmt { roles, newrole: _ } = n;
        self.roles(roles, Class::DclGrant, "REASSIGN OWNED");
    }

    /// An administrative act on one object by its bare name.
    fn administer(&mut self, class: Class, object: &str, of: ObjectKind, why: &'static str) {
        self.act(class, Some(name::bare(object)), of, why);
    }

    pub(super) fn create_tablespace(&mut self, n: &'t pb::CreateTableSpaceStmt) {
        let pb::CreateTableSpaceStmt { tablespacename, owner: _, location: _, options } = n;
        self.administer(Class::AdminDatabase, tablespacename, ObjectKind::Tablespace, "CREATE TABLESPACE");
        self.facts.flags.server_files = true;
        self.facts.flags.outside_transaction = true;
        self.nodes(options);
    }

    pub(super) fn drop_tablespace(&mut self, n: &'t pb::DropTableSpaceStmt) {
        let pb::DropTableSpaceStmt { tablespacename, missing_ok: _ } = n;
        self.administer(Class::AdminDatabase, tablespacename, ObjectKind::Tablespace, "DROP TABLESPACE");
        self.facts.flags.outside_transaction = true;
    }

    pub(super) fn alter_tablespace(&mut self, n: &'t pb::AlterTableSpaceOptionsStmt) {
        let pb::AlterTableSpaceOptionsStmt { tablespacename, options, is_reset: _ } = n;
        self.administer(Class::AdminDatabase, tablespacename, ObjectKind::Tablespace, "ALTER TABLESPACE");
        self.nodes(options);
    }

    pub(super) fn create_database(&mut self, n: &'t pb::CreatedbStmt) {
        let pb::CreatedbStmt { dbname, options } = n;
        self.administer(Class::AdminDatabase, dbname, ObjectKind::Database, "CREATE DATABASE");
        self.facts.flags.outside_transaction = true;
        self.nodes(options);
    }

    pub(super) fn alter_database(&mut self, n: &'t pb::AlterDatabaseStmt) {
        let pb::AlterDatabaseStmt { dbname, options } = n;
        self.administer(Class::AdminDatabase, dbname, ObjectKind::Database, "ALTER DATABASE");
        let moves =
            options.iter().any(|o| matches!(kind(Some(o)), Some(N::DefElem(d)) if d.defname == "tablespace"));
        self.facts.flags.outside_transaction |= moves;
        self.nodes(options);
    }

    pub(super) fn refresh_database(&mut self, n: &'t pb::AlterDatabaseRefreshCollStmt) {
        let pb::AlterDatabaseRefreshCollStmt { dbname } = n;
        self.administer(Class::AdminDatabase, dbname, ObjectKind::Database, "ALTER DATABASE");
    }

    pub(super) fn alter_database_set(&mut self, n: &'t pb::AlterDatabaseSetStmt) {
        let pb::AlterDatabaseSetStmt { dbname, setstmt } = n;
        self.administer(Class::AdminDatabase, dbname, ObjectKind::Database, "ALTER DATABASE SET");
        self.persisted(setstmt.as_ref());
    }

    pub(super) fn drop_database(&mut self, n: &'t pb::DropdbStmt) {
        let pb::DropdbStmt { dbname, missing_ok: _, options } = n;
        self.administer(Class::AdminDatabase, dbname, ObjectKind::Database, "DROP DATABASE");
        self.facts.flags.outside_transaction = true;
        self.nodes(options);
    }

    pub(super) fn alter_system(&mut self, n: &'t pb::AlterSystemStmt) {
        let pb::AlterSystemStmt { setstmt } = n;
        self.facts.flags.outside_transaction = true;
        self.facts.flags.server_files = true;
        self.persisted(setstmt.as_ref());
    }

    pub(super) fn load(&mut self, n: &'t pb::LoadStmt) {
        let pb::LoadStmt { filename: _ } = n;
        self.facts.flags.server_files = true;
        self.facts.flags.dynamic = true;
    }

    pub(super) fn create_extension(&mut self, n: &'t pb::CreateExtensionStmt) {
        let pb::CreateExtensionStmt { extname, if_not_exists: _, options } = n;
        self.administer(Class::AdminExtension, extname, ObjectKind::Extension, "CREATE EXTENSION");
        self.nodes(options);
    }

    pub(super) fn alter_extension(&mut self, n: &'t pb::AlterExtensionStmt) {
        let pb::AlterExtensionStmt { extname, options } = n;
        self.administer(Class::AdminExtension, extname, ObjectKind::Extension, "ALTER EXTENSION");
        self.nodes(options);
    }

    pub(super) fn extension_contents(&mut self, n: &'t pb::AlterExtensionContentsStmt) {
        let pb::AlterExtensionContentsStmt { extname, action: _, objtype, object } = n;
        self.administer(Class::AdminExtension, extname, ObjectKind::Extension, "ALTER EXTENSION");
        match object {
            Some(node) => {
                self.touch(object_type(*objtype), node, Class::DdlAlter, "ALTER EXTENSION ADD or DROP")
            }
            None => self.unknown("ALTER EXTENSION without an object"),
        }
    }

    pub(super) fn create_wrapper(&mut self, n: &'t pb::CreateFdwStmt) {
        let pb::CreateFdwStmt { fdwname, func_options, options } = n;
        self.wrapper(fdwname, func_options, options);
    }

    pub(super) fn alter_wrapper(&mut self, n: &'t pb::AlterFdwStmt) {
        let pb::AlterFdwStmt { fdwname, func_options, options } = n;
        self.wrapper(fdwname, func_options, options);
    }

    fn wrapper(&mut self, wrapper: &str, functions: &'t [pb::Node], options: &'t [pb::Node]) {
        self.administer(Class::AdminServer, wrapper, ObjectKind::Server, "a foreign data wrapper");
        self.code_options(functions);
        self.nodes(options);
    }

    pub(super) fn create_server(&mut self, n: &'t pb::CreateForeignServerStmt) {
        let pb::CreateForeignServerStmt {
            servername,
            servertype: _,
            version: _,
            fdwname,
            if_not_exists: _,
            options,
        } = n;
        self.administer(Class::AdminServer, servername, ObjectKind::Server, "CREATE SERVER");
        self.administer(Class::AdminServer, fdwname, ObjectKind::Server, "CREATE SERVER");
        self.nodes(options);
    }

    pub(super) fn alter_server(&mut self, n: &'t pb::AlterForeignServerStmt) {
        let pb::AlterForeignServerStmt { servername, version: _, options, has_version: _ } = n;
        self.administer(Class::AdminServer, servername, ObjectKind::Server, "ALTER SERVER");
        self.nodes(options);
    }

    pub(super) fn create_user_mapping(&mut self, n: &'t pb::CreateUserMappingStmt) {
        let pb::CreateUserMappingStmt { user, servername, if_not_exists: _, options } = n;
        self.user_mapping(user.as_ref(), servername);
        self.nodes(options);
    }

    pub(super) fn alter_user_mapping(&mut self, n: &'t pb::AlterUserMappingStmt) {
        let pb::AlterUserMappingStmt { user, servername, options } = n;
        self.user_mapping(user.as_ref(), servername);
        self.nodes(options);
    }

    pub(super) fn drop_user_mapping(&mut self, n: &'t pb::DropUserMappingStmt) {
        let pb::DropUserMappingStmt { user, servername, missing_ok: _ } = n;
        self.user_mapping(user.as_ref(), servername);
    }

    fn user_mapping(&mut self, user: Option<&'t pb::RoleSpec>, server: &str) {
        self.administer(Class::AdminServer, server, ObjectKind::Server, "a user mapping");
        if let Some(user) = user {
            self.act(Class::AdminServer, Some(role_name(user)), ObjectKind::Role, "a user mapping");
        }
    }

    /// The foreign tables come to be in the local schema; LIMIT TO names them, else no text does.
    pub(super) fn import_schema(&mut self, n: &'t pb::ImportForeignSchemaStmt) {
        let pb::ImportForeignSchemaStmt {
            server_name,
            remote_schema: _,
            local_schema,
            list_type,
            table_list,
            options,
        } = n;
        self.administer(Class::AdminServer, server_name, ObjectKind::Server, "IMPORT FOREIGN SCHEMA");
        self.administer(Class::DdlCreate, local_schema, ObjectKind::AllInSchema, "IMPORT FOREIGN SCHEMA");
        let limited = pb::ImportForeignSchemaType::try_from(*list_type)
            == Ok(pb::ImportForeignSchemaType::FdwImportSchemaLimitTo);
        for table in table_list {
            match kind(Some(table)) {
                Some(N::RangeVar(table)) if limited => {
                    let name = NameUse { schema: Some(local_schema.clone()), ..name::bare(&table.relname) };
                    self.named_relation(name, Class::DdlCreate, Predicate::NotApplicable, false, None);
                }
                Some(N::RangeVar(_)) => {}
                Some(_) | None => self.unknown("IMPORT FOREIGN SCHEMA of an object of unknown kind"),
            }
        }
        self.nodes(options);
    }

    pub(super) fn create_publication(&mut self, n: &'t pb::CreatePublicationStmt) {
        let pb::CreatePublicationStmt { pubname, options, pubobjects, for_all_tables: _ } = n;
        self.administer(Class::AdminSubscription, pubname, ObjectKind::Publication, "CREATE PUBLICATION");
        self.nodes(options);
        self.nodes(pubobjects);
    }

    pub(super) fn alter_publication(&mut self, n: &'t pb::AlterPublicationStmt) {
        let pb::AlterPublicationStmt { pubname, options, pubobjects, for_all_tables: _, action: _ } = n;
        self.administer(Class::AdminSubscription, pubname, ObjectKind::Publication, "ALTER PUBLICATION");
        self.nodes(options);
        self.nodes(pubobjects);
    }

    /// A publication's table (met below as a relation) or whole schema.
    pub(super) fn publication_object(&mut self, n: &'t pb::PublicationObjSpec) {
        let pb::PublicationObjSpec { pubobjtype: _, name, pubtable, location: _ } = n;
        if !name.is_empty() {
            self.administer(
                Class::AdminSubscription,
                name,
                ObjectKind::AllInSchema,
                "a publication's schema",
            );
        }
        if let Some(table) = pubtable {
            self.publication_table(table);
        }
    }

    pub(super) fn create_subscription(&mut self, n: &'t pb::CreateSubscriptionStmt) {
        let pb::CreateSubscriptionStmt { subname, conninfo: _, publication, options, conninfo_location: _ } =
            n;
        self.subscription(subname, "CREATE SUBSCRIPTION");
        self.nodes(publication);
        self.nodes(options);
    }

    pub(super) fn alter_subscription(&mut self, n: &'t pb::AlterSubscriptionStmt) {
        let pb::AlterSubscriptionStmt {
            kind: _,
            subname,
            conninfo: _,
            publication,
            options,
            conninfo_location: _,
        } = n;
        self.subscription(subname, "ALTER SUBSCRIPTION");
        self.nodes(publication);
        self.nodes(options);
    }

    pub(super) fn drop_subscription(&mut self, n: &'t pb::DropSubscriptionStmt) {
        let pb::DropSubscriptionStmt { subname, missing_ok: _, behavior } = n;
        self.subscription(subname, "DROP SUBSCRIPTION");
        self.cascades(*behavior);
    }

    /// Most forms reach out to the publisher and refuse a transaction block.
    fn subscription(&mut self, name: &str, why: &'static str) {
        self.administer(Class::AdminSubscription, name, ObjectKind::Publication, why);
        self.facts.flags.outside_transaction = true;
    }

    pub(super) fn vacuum(&mut self, n: &'t pb::VacuumStmt) {
        let pb::VacuumStmt { options, rels, is_vacuumcmd } = n;
        let analyzes =
            options.iter().any(|o| matches!(kind(Some(o)), Some(N::DefElem(d)) if d.defname == "analyze"));
        let (class, tag) = if *is_vacuumcmd {
            (Class::MaintenanceVacuum, "VACUUM")
        } else {
            (Class::MaintenanceAnalyze, "ANALYZE")
        };
        self.is(class);
        self.tagged(tag);
        self.facts.flags.outside_transaction |= *is_vacuumcmd;
        let mut classes = vec![class];
        if *is_vacuumcmd && analyzes {
            classes.push(Class::MaintenanceAnalyze);
        }
        for class in classes {
            if rels.is_empty() {
                self.act(class, None, ObjectKind::None, "every relation of the database");
            }
            self.access = class;
            self.nodes(rels);
        }
        self.nodes(options);
    }

    pub(super) fn cluster(&mut self, n: &'t pb::ClusterStmt) {
        let pb::ClusterStmt { relation, indexname: _, params } = n;
        match relation {
            Some(relation) => self.relation(relation, Class::MaintenanceCluster, Predicate::NotApplicable),
            None => self.facts.flags.outside_transaction = true,
        }
        self.nodes(params);
    }

    pub(super) fn reindex(&mut self, n: &'t pb::ReindexStmt) {
        let pb::ReindexStmt { kind: of, relation, name, params } = n;
        use pb::ReindexObjectType as R;
        let class = Class::MaintenanceReindex;
        match (R::try_from(*of).unwrap_or(R::Undefined), relation) {
            (R::ReindexObjectIndex | R::ReindexObjectTable, Some(relation)) => {
                self.relation(relation, class, Predicate::NotApplicable);
            }
            (R::ReindexObjectSchema, None) => {
                self.administer(class, name, ObjectKind::AllInSchema, "REINDEX SCHEMA");
                self.facts.flags.outside_transaction = true;
            }
            (R::ReindexObjectDatabase | R::ReindexObjectSystem, None) => {
                self.act(class, None, ObjectKind::None, "REINDEX DATABASE or SYSTEM");
                self.facts.flags.outside_transaction = true;
            }
            (_, _) => self.unknown("a REINDEX of unknown kind"),
        }
        let concurrently =
            |o: &pb::Node| matches!(kind(Some(o)), Some(N::DefElem(d)) if d.defname == "concurrently");
        self.facts.flags.outside_transaction |= params.iter().any(concurrently);
        self.nodes(params);
    }

    pub(super) fn refresh(&mut self, n: &'t pb::RefreshMatViewStmt) {
        let pb::RefreshMatViewStmt { concurrent: _, skip_data: _, relation } = n;
        match relation {
            Some(relation) => self.relation(relation, Class::MaintenanceRefresh, Predicate::NotApplicable),
            None => self.unknown("REFRESH without a relation"),
        }
    }

    pub(super) fn truncate(&mut self, n: &'t pb::TruncateStmt) {
        let pb::TruncateStmt { relations, restart_seqs: _, behavior } = n;
        self.cascades(*behavior);
        self.nodes(relations);
    }

    /// SET CONSTRAINTS: the names are constraints', not relations'.
    pub(super) fn set_constraints(&mut self, n: &'t pb::ConstraintsSetStmt) {
        let pb::ConstraintsSetStmt { constraints: _, deferred: _ } = n;
    }
}
