//! DDL on relations, schemas and types: CREATE and ALTER of what holds data.
//!
//! Owns: which relations it creates, alters, reads. May not: judge code (that is code.rs). A relation named inside without
//! a meaning of its own (INHERITS, REFERENCES, PARTITION OF) is altered: it gains children, triggers or locks.

use pg_query::protobuf as pb;
use pg_query::protobuf::AlterTableType as A;
use pg_query::protobuf::node::Node as N;

use super::object::{alter_tag, object_type};
use super::query::created;
use super::{Walker, kind, name, some};
use crate::class::Class;
use crate::statement::facts::{NameUse, ObjectKind, Predicate};
use crate::statement::generated::Visitor;

impl<'t> Walker<'t> {
    /// A relation that comes to be; a temporary one changes what the statement is.
    fn creates(&mut self, relation: Option<&'t pb::RangeVar>) {
        let Some(relation) = relation else { return self.unknown("CREATE without a relation") };
        let class = created(relation);
        self.relation(relation, class, Predicate::NotApplicable);
        if self.facts.class == Class::DdlCreate {
            self.is(class);
        }
    }

    /// Visits with relations taken as altered.
    fn altering(&mut self, f: impl FnOnce(&mut Self)) {
        let access = std::mem::replace(&mut self.access, Class::DdlAlter);
        f(self);
        self.access = access;
    }

    pub(super) fn create_table(&mut self, n: &'t pb::CreateStmt) {
        let pb::CreateStmt {
            relation,
            table_elts,
            inh_relations,
            partbound,
            partspec,
            of_typename,
            constraints,
            nnconstraints,
            options,
            oncommit: _,
            tablespacename: _,
            access_method,
            if_not_exists,
        } = n;
        self.creates(relation.as_ref());
        self.facts.flags.in_place = self.facts.tag == "CREATE TABLE" && inh_relations.is_empty();
        self.facts.flags.plain_table = !*if_not_exists
            && inh_relations.is_empty()
            && partbound.is_none()
            && partspec.is_none()
            && of_typename.is_none()
            && access_method.is_empty()
            && table_elts.iter().chain(constraints).chain(nnconstraints).all(of_its_own);
        self.altering(|w| {
            for list in [table_elts, inh_relations, constraints, nnconstraints, options] {
                w.nodes(list);
            }
            if let Some(bound) = partbound {
                w.partition_bound_spec(bound);
            }
            if let Some(spec) = partspec {
                w.partition_spec(spec);
            }
            if let Some(of) = of_typename {
                w.type_name(of);
            }
        });
    }

    /// What an index, an exclusion or a partition key compares by, where the text says it.
    pub(super) fn compares_by(&mut self, class: &'t [pb::Node]) {
        let known = match name::from_nodes(class) {
            None => class.is_empty(),
            Some(class) => {
                class.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
                    && OPERATOR_CLASSES.contains(&class.name.as_str())
            }
        };
        self.facts.flags.operator_class |= !known;
    }

    /// CREATE TABLE … (LIKE t): t's shape is read.
    pub(super) fn like(&mut self, n: &'t pb::TableLikeClause) {
        let pb::TableLikeClause { relation, options: _, relation_oid } = n;
        if *relation_oid != 0 {
            self.unknown("TableLikeClause.relation_oid");
        }
        match relation {
            Some(relation) => self.relation(relation, Class::ReadSelect, Predicate::NotApplicable),
            None => self.unknown("LIKE without a relation"),
        }
    }

    pub(super) fn create_foreign_table(&mut self, n: &'t pb::CreateForeignTableStmt) {
        let pb::CreateForeignTableStmt { base_stmt, servername, options } = n;
        match base_stmt {
            Some(base) => self.create_stmt(base),
            None => self.unknown("CREATE FOREIGN TABLE without a table"),
        }
        self.act(
            Class::AdminServer,
            Some(name::bare(servername)),
            ObjectKind::Server,
            "CREATE FOREIGN TABLE",
        );
        self.nodes(options);
    }

    pub(super) fn create_table_as(&mut self, n: &'t pb::CreateTableAsStmt) {
        let pb::CreateTableAsStmt { query, into, objtype, is_select_into: _, if_not_exists: _ } = n;
        let Some(into) = into else { return self.unknown("CREATE TABLE AS without a relation") };
        let materialized = object_type(*objtype) == pb::ObjectType::ObjectMatview;
        // With data, the server answers with the query's own tag.
        self.tagged(match (into.skip_data, materialized) {
            (false, _) => "SELECT",
            (true, false) => "CREATE TABLE AS",
            (true, true) => "CREATE MATERIALIZED VIEW",
        });
        if let (Class::DdlCreate, Some(relation)) = (self.facts.class, &into.rel) {
            self.is(created(relation));
        }
        self.into_clause(into);
        match query {
            Some(query) => self.node(query),
            None => self.unknown("CREATE TABLE AS without a query"),
        }
    }

    pub(super) fn view(&mut self, n: &'t pb::ViewStmt) {
        let pb::ViewStmt { view, aliases, query, replace: _, options, with_check_option: _ } = n;
        self.creates(view.as_ref());
        self.nodes(aliases);
        self.nodes(options);
        match query {
            Some(query) => self.node(query),
            None => self.unknown("CREATE VIEW without a query"),
        }
    }

    pub(super) fn create_sequence(&mut self, n: &'t pb::CreateSeqStmt) {
        let pb::CreateSeqStmt { sequence, options, owner_id, for_identity, if_not_exists: _ } = n;
        if *owner_id != 0 || *for_identity {
            self.unknown("CREATE SEQUENCE of the analyzer");
        }
        self.creates(sequence.as_ref());
        self.sequence_options(options);
    }

    pub(super) fn alter_sequence(&mut self, n: &'t pb::AlterSeqStmt) {
        let pb::AlterSeqStmt { sequence, options, for_identity: _, missing_ok: _ } = n;
        match sequence {
            Some(sequence) => self.relation(sequence, Class::DdlAlter, Predicate::NotApplicable),
            None => self.unknown("ALTER SEQUENCE without a relation"),
        }
        self.sequence_options(options);
    }

    /// OWNED BY t.c names a relation.
    fn sequence_options(&mut self, options: &'t [pb::Node]) {
        for option in options {
            if let Some(N::DefElem(option)) = kind(Some(option))
                && option.defname == "owned_by"
                && let Some(N::List(pb::List { items })) = kind(option.arg.as_deref())
                && let Some((_, relation @ [_, ..])) =
                    name::strings(items).as_deref().and_then(|p| p.split_last())
            {
                match name::from_parts(relation) {
                    Some(name) => {
                        self.named_relation(name, Class::DdlAlter, Predicate::NotApplicable, false, None)
                    }
                    None => self.unknown("OWNED BY without a relation"),
                }
            }
        }
        self.nodes(options);
    }

    pub(super) fn index(&mut self, n: &'t pb::IndexStmt) {
        let pb::IndexStmt {
            idxname: _,
            relation,
            access_method: _,
            table_space: _,
            index_params,
            index_including_params,
            options,
            where_clause,
            exclude_op_names,
            idxcomment,
            index_oid,
            old_number,
            old_create_subid,
            old_first_relfilelocator_subid,
            unique: _,
            nulls_not_distinct: _,
            primary,
            isconstraint,
            iswithoutoverlaps: _,
            deferrable: _,
            initdeferred: _,
            transformed,
            concurrent,
            if_not_exists: _,
            reset_default_tblspc: _,
        } = n;
        let analyzed = *transformed || *primary || *isconstraint || !idxcomment.is_empty();
        if analyzed
            || [index_oid, old_number, old_create_subid, old_first_relfilelocator_subid]
                .into_iter()
                .any(|x| *x != 0)
        {
            self.unknown("CREATE INDEX of the analyzer");
        }
        match relation {
            Some(relation) => self.relation(relation, Class::DdlIndex, Predicate::NotApplicable),
            None => self.unknown("CREATE INDEX without a relation"),
        }
        self.facts.flags.outside_transaction |= *concurrent;
        for list in [index_params, index_including_params, options, exclude_op_names] {
            self.nodes(list);
        }
        if let Some(condition) = where_clause {
            self.node(condition);
        }
    }

    pub(super) fn statistics(&mut self, n: &'t pb::CreateStatsStmt) {
        let pb::CreateStatsStmt {
            defnames,
            stat_types,
            exprs,
            relations,
            stxcomment,
            transformed,
            if_not_exists: _,
        } = n;
        if *transformed || !stxcomment.is_empty() {
            self.unknown("CREATE STATISTICS of the analyzer");
        }
        let name = name::from_nodes(defnames);
        self.act(Class::DdlCreate, name, ObjectKind::Other, "CREATE STATISTICS");
        self.altering(|w| {
            for list in [stat_types, exprs, relations] {
                w.nodes(list);
            }
        });
    }

    pub(super) fn alter_statistics(&mut self, n: &'t pb::AlterStatsStmt) {
        let pb::AlterStatsStmt { defnames, stxstattarget, missing_ok: _ } = n;
        self.named_act(Class::DdlAlter, defnames, ObjectKind::Other, "ALTER STATISTICS");
        if let Some(target) = stxstattarget {
            self.node(target);
        }
    }

    /// An act on an object named by the grammar's list of strings.
    pub(super) fn named_act(
        &mut self,
        class: Class,
        nodes: &'t [pb::Node],
        of: ObjectKind,
        why: &'static str,
    ) {
        match name::from_nodes(nodes) {
            Some(name) => self.act(class, Some(name), of, why),
            None => self.unknown("an object without a name"),
        }
    }

    pub(super) fn create_schema(&mut self, n: &'t pb::CreateSchemaStmt) {
        let pb::CreateSchemaStmt { schemaname, authrole, schema_elts, if_not_exists: _ } = n;
        let schema = match authrole {
            Some(role) if schemaname.is_empty() => super::admin::role_name(role).name,
            Some(_) | None => schemaname.clone(),
        };
        self.act(Class::DdlCreate, Some(name::bare(&schema)), ObjectKind::Schema, "CREATE SCHEMA");
        // What is created inside without a schema comes to be in this one.
        let outer = self.creation_schema.replace(schema);
        for element in schema_elts {
            let class =
                kind(Some(element)).and_then(crate::statement::generated::statement).map(|(class, _)| class);
            let access = std::mem::replace(&mut self.access, class.unwrap_or(Class::Unknown));
            self.inside(element);
            self.access = access;
        }
        self.creation_schema = outer;
    }

    pub(super) fn alter_table(&mut self, n: &'t pb::AlterTableStmt) {
        let pb::AlterTableStmt { relation, cmds, objtype, missing_ok: _ } = n;
        let of = object_type(*objtype);
        self.tagged(alter_tag(of));
        let Some(relation) = relation else { return self.unknown("ALTER TABLE without a relation") };
        if of == pb::ObjectType::ObjectType {
            let name = NameUse { schema: some(&relation.schemaname), ..name::bare(&relation.relname) };
            self.type_use(name.clone());
            self.act(Class::DdlAlter, Some(name), ObjectKind::Type, "ALTER TYPE");
        } else {
            self.relation(relation, Class::DdlAlter, Predicate::NotApplicable);
        }
        for cmd in cmds {
            match kind(Some(cmd)) {
                Some(N::AlterTableCmd(cmd)) => self.alter_table_part(relation, cmd),
                Some(_) | None => self.unknown("a part of ALTER TABLE of unknown kind"),
            }
        }
        self.facts.flags.in_place = cmds.iter().all(in_place);
    }

    fn alter_table_part(&mut self, relation: &'t pb::RangeVar, n: &'t pb::AlterTableCmd) {
        let pb::AlterTableCmd {
            subtype,
            name: _,
            num: _,
            newowner: _,
            def,
            behavior,
            missing_ok: _,
            recurse: _,
        } = n;
        self.cascades(*behavior);
        match further_class(A::try_from(*subtype).unwrap_or(A::Undefined)) {
            Further::None => {}
            Further::Also(class) => self.relation(relation, class, Predicate::NotApplicable),
            Further::Unknown => self.unknown("a part of ALTER TABLE that the grammar never writes"),
        }
        if let Some(def) = def {
            if let Some(N::PartitionCmd(pb::PartitionCmd { name: _, bound: _, concurrent })) = kind(Some(def))
            {
                self.facts.flags.outside_transaction |= *concurrent;
            }
            self.altering(|w| w.node(def));
        }
    }

    pub(super) fn move_all(&mut self, n: &'t pb::AlterTableMoveAllStmt) {
        let pb::AlterTableMoveAllStmt { orig_tablespacename, objtype, roles, new_tablespacename, nowait: _ } =
            n;
        self.tagged(alter_tag(object_type(*objtype)));
        for tablespace in [orig_tablespacename, new_tablespacename] {
            let name = Some(name::bare(tablespace));
            self.act(Class::DdlAlter, name, ObjectKind::Tablespace, "ALTER … ALL IN TABLESPACE");
        }
        self.nodes(roles);
    }

    pub(super) fn composite_type(&mut self, n: &'t pb::CompositeTypeStmt) {
        let pb::CompositeTypeStmt { typevar, coldeflist } = n;
        match typevar {
            Some(of) => {
                let name = NameUse { schema: some(&of.schemaname), ..name::bare(&of.relname) };
                self.act(Class::DdlCreate, Some(name), ObjectKind::Type, "CREATE TYPE");
            }
            None => self.unknown("CREATE TYPE without a name"),
        }
        self.nodes(coldeflist);
    }

    pub(super) fn create_enum(&mut self, n: &'t pb::CreateEnumStmt) {
        let pb::CreateEnumStmt { type_name, vals } = n;
        self.named_act(Class::DdlCreate, type_name, ObjectKind::Type, "CREATE TYPE");
        self.nodes(vals);
    }

    pub(super) fn alter_enum(&mut self, n: &'t pb::AlterEnumStmt) {
        let pb::AlterEnumStmt {
            type_name,
            old_val: _,
            new_val: _,
            new_val_neighbor: _,
            new_val_is_after: _,
            skip_if_new_val_exists: _,
        } = n;
        self.named_act(Class::DdlAlter, type_name, ObjectKind::Type, "ALTER TYPE");
    }

    /// A CHECK of a domain runs wherever a value is cast to it: code.
    pub(super) fn create_domain(&mut self, n: &'t pb::CreateDomainStmt) {
        let pb::CreateDomainStmt { domainname, type_name, coll_clause, constraints } = n;
        self.named_act(Class::DdlCreate, domainname, ObjectKind::Type, "CREATE DOMAIN");
        if constraints.iter().any(is_check) {
            self.named_act(Class::DdlCode, domainname, ObjectKind::Type, "CREATE DOMAIN with CHECK");
        }
        if let Some(of) = type_name {
            self.type_name(of);
        }
        if let Some(collation) = coll_clause {
            self.collate_clause(collation);
        }
        self.altering(|w| w.nodes(constraints));
    }

    pub(super) fn alter_domain(&mut self, n: &'t pb::AlterDomainStmt) {
        let pb::AlterDomainStmt { subtype, type_name, name: _, def, behavior, missing_ok: _ } = n;
        // DROP CONSTRAINT and DROP NOT NULL ask nothing (`AlterDomainStmt`, parsenodes.h); a default is asked by the next INSERT.
        self.facts.flags.asks_stored |= !matches!(subtype.as_str(), "X" | "N");
        self.named_act(Class::DdlAlter, type_name, ObjectKind::Type, "ALTER DOMAIN");
        self.cascades(*behavior);
        if let Some(def) = def {
            if is_check(def) {
                self.named_act(Class::DdlCode, type_name, ObjectKind::Type, "ALTER DOMAIN with CHECK");
            }
            self.altering(|w| w.node(def));
        }
    }

    pub(super) fn alter_collation(&mut self, n: &'t pb::AlterCollationStmt) {
        let pb::AlterCollationStmt { collname } = n;
        self.named_act(Class::DdlAlter, collname, ObjectKind::Other, "ALTER COLLATION");
    }

    pub(super) fn text_search_dictionary(&mut self, n: &'t pb::AlterTsDictionaryStmt) {
        let pb::AlterTsDictionaryStmt { dictname, options } = n;
        self.named_act(Class::DdlAlter, dictname, ObjectKind::Other, "ALTER TEXT SEARCH DICTIONARY");
        self.nodes(options);
    }

    pub(super) fn text_search_configuration(&mut self, n: &'t pb::AlterTsConfigurationStmt) {
        let pb::AlterTsConfigurationStmt {
            kind: _,
            cfgname,
            tokentype,
            dicts,
            r#override: _,
            replace: _,
            missing_ok: _,
        } = n;
        self.named_act(Class::DdlAlter, cfgname, ObjectKind::Other, "ALTER TEXT SEARCH CONFIGURATION");
        self.nodes(tokentype);
        self.nodes(dicts);
    }
}

/// Operator classes of the server that people name: those that are no type's default, and the plainest of those that are. Making
/// one takes a superuser.
const OPERATOR_CLASSES: [&str; 24] = [
    "array_ops",
    "bpchar_ops",
    "bpchar_pattern_ops",
    "date_ops",
    "float8_ops",
    "inet_ops",
    "int2_ops",
    "int4_ops",
    "int8_ops",
    "jsonb_ops",
    "jsonb_path_ops",
    "name_ops",
    "numeric_ops",
    "oid_ops",
    "range_ops",
    "record_image_ops",
    "text_ops",
    "text_pattern_ops",
    "timestamp_ops",
    "timestamptz_ops",
    "tsvector_ops",
    "uuid_ops",
    "varchar_ops",
    "varchar_pattern_ops",
];

fn is_check(node: &pb::Node) -> bool {
    matches!(kind(Some(node)), Some(N::Constraint(c)) if pb::ConstrType::try_from(c.contype) == Ok(pb::ConstrType::ConstrCheck))
}

/// Whether a part of CREATE TABLE names no other relation, and compares by no operator of its own choice.
fn of_its_own(part: &pb::Node) -> bool {
    match kind(Some(part)) {
        Some(N::ColumnDef(column)) => column.constraints.iter().all(of_its_own),
        Some(N::Constraint(constraint)) => matches!(
            pb::ConstrType::try_from(constraint.contype),
            Ok(pb::ConstrType::ConstrNull
                | pb::ConstrType::ConstrNotnull
                | pb::ConstrType::ConstrDefault
                | pb::ConstrType::ConstrIdentity
                | pb::ConstrType::ConstrGenerated
                | pb::ConstrType::ConstrCheck
                | pb::ConstrType::ConstrPrimary
                | pb::ConstrType::ConstrUnique)
        ),
        _ => false,
    }
}

/// Whether a part of ALTER TABLE changes nothing but the table's own columns, constraints and storage.
fn in_place(part: &pb::Node) -> bool {
    let Some(N::AlterTableCmd(part)) = kind(Some(part)) else { return false };
    matches!(
        A::try_from(part.subtype),
        Ok(A::AtAddColumn
            | A::AtDropColumn
            | A::AtColumnDefault
            | A::AtDropNotNull
            | A::AtSetNotNull
            | A::AtSetStatistics
            | A::AtSetStorage
            | A::AtSetCompression
            | A::AtAddConstraint
            | A::AtValidateConstraint
            | A::AtDropConstraint
            | A::AtAlterColumnType
            | A::AtAddIndex
            | A::AtAddIndexConstraint
            | A::AtAddIdentity
            | A::AtSetIdentity
            | A::AtDropIdentity)
    )
}

/// What a part of ALTER TABLE is beside `ddl.alter`.
enum Further {
    None,
    Also(Class),
    Unknown,
}

fn further_class(part: A) -> Further {
    match part {
        A::AtDropColumn => Further::Also(Class::DdlDrop),
        A::AtChangeOwner => Further::Also(Class::DclGrant),
        A::AtEnableRowSecurity
        | A::AtDisableRowSecurity
        | A::AtForceRowSecurity
        | A::AtNoForceRowSecurity => Further::Also(Class::DclPolicy),
        A::AtEnableTrig
        | A::AtEnableAlwaysTrig
        | A::AtEnableReplicaTrig
        | A::AtDisableTrig
        | A::AtEnableTrigAll
        | A::AtDisableTrigAll
        | A::AtEnableTrigUser
        | A::AtDisableTrigUser
        | A::AtEnableRule
        | A::AtEnableAlwaysRule
        | A::AtEnableReplicaRule
        | A::AtDisableRule => Further::Also(Class::DdlCode),
        A::AtAddIndex | A::AtAddIndexConstraint | A::AtClusterOn | A::AtDropCluster => {
            Further::Also(Class::DdlIndex)
        }
        A::AtAddColumn
        | A::AtAddColumnToView
        | A::AtColumnDefault
        | A::AtDropNotNull
        | A::AtSetNotNull
        | A::AtSetExpression
        | A::AtDropExpression
        | A::AtSetStatistics
        | A::AtSetOptions
        | A::AtResetOptions
        | A::AtSetStorage
        | A::AtSetCompression
        | A::AtAddConstraint
        | A::AtAlterConstraint
        | A::AtValidateConstraint
        | A::AtDropConstraint
        | A::AtAlterColumnType
        | A::AtAlterColumnGenericOptions
        | A::AtSetLogged
        | A::AtSetUnLogged
        | A::AtDropOids
        | A::AtSetAccessMethod
        | A::AtSetTableSpace
        | A::AtSetRelOptions
        | A::AtResetRelOptions
        | A::AtReplaceRelOptions
        | A::AtAddInherit
        | A::AtDropInherit
        | A::AtAddOf
        | A::AtDropOf
        | A::AtReplicaIdentity
        | A::AtGenericOptions
        | A::AtAttachPartition
        | A::AtDetachPartition
        | A::AtDetachPartitionFinalize
        | A::AtAddIdentity
        | A::AtSetIdentity
        | A::AtDropIdentity => Further::None,
        A::AtCookedColumnDefault
        | A::AtReAddIndex
        | A::AtReAddConstraint
        | A::AtReAddDomainConstraint
        | A::AtReAddComment
        | A::AtReAddStatistics
        | A::Undefined => Further::Unknown,
    }
}
