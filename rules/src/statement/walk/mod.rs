//! The walker: from the grammar's tree to [`StatementFacts`].
//!
//! Owns: the meaning of every node that carries some (dispositions.txt says which). May not: resolve names, know a
//! policy, parse. Invariant: every field of every node is visited, by hand-written code whose patterns have no `..` or by
//! the generated visitor. Fails closed: what has no meaning here makes the statement [`Class::Unknown`].

mod admin;
mod code;
mod ddl;
mod expression;
mod functions;
mod name;
mod object;
mod predicate;
mod query;
mod session;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::facts::{
    Act, Flags, FunctionUse, NameUse, ObjectKind, OperatorUse, Predicate, RelationUse, SettingAction,
    SettingUse, StatementFacts,
};
use super::generated::{self, Visitor};
use crate::class::Class;

/// Facts of every statement of a parsed text, in order; `text_bytes` bounds the last one's range.
pub(super) fn statements(tree: &pb::ParseResult, text_bytes: usize) -> Vec<StatementFacts> {
    let pb::ParseResult { version: _, stmts } = tree;
    stmts.iter().map(|raw| statement(raw, text_bytes)).collect()
}

fn statement(raw: &pb::RawStmt, text_bytes: usize) -> StatementFacts {
    let pb::RawStmt { stmt, stmt_location, stmt_len } = raw;
    let start = usize::try_from(*stmt_location).unwrap_or(0).min(text_bytes);
    // The server writes length 0 for "up to the end of the text".
    let end = match usize::try_from(*stmt_len).unwrap_or(0) {
        0 => text_bytes,
        len => start.saturating_add(len).min(text_bytes),
    };
    let mut facts = Walker::whole(stmt.as_deref());
    facts.range = start..end;
    facts
}

/// Why relations are named where the walker stands: decides which class a read or write gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The statement runs.
    Run,
    /// EXPLAIN: it is planned only.
    Explain,
    /// EXPLAIN ANALYZE: it runs and only its plan is shown.
    ExplainAnalyze,
    /// COPY (query) TO: what it reads leaves by COPY.
    CopyOut,
}

/// Which relations of a FROM clause a FOR UPDATE (or its kin) locks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Locking<'t> {
    None,
    All,
    /// FOR UPDATE OF: the aliases.
    Named(Rc<HashSet<&'t str>>),
}

/// A list without repeats that stays quick when a text is made to name thousands of things.
struct Once<T> {
    items: Vec<T>,
    index: HashSet<T>,
}

impl<T: Clone + Eq + Hash> Once<T> {
    /// Up to here a look along the list beats hashing.
    const SCANNED_MAX: usize = 16;

    fn new() -> Self {
        Once { items: Vec::new(), index: HashSet::new() }
    }

    fn contains(&self, item: &T) -> bool {
        if self.items.len() <= Self::SCANNED_MAX {
            self.items.contains(item)
        } else {
            self.index.contains(item)
        }
    }

    fn push(&mut self, item: T) {
        if self.contains(&item) {
            return;
        }
        if self.items.len() >= Self::SCANNED_MAX {
            if self.index.is_empty() {
                self.index.extend(self.items.iter().cloned());
            }
            self.index.insert(item.clone());
        }
        self.items.push(item);
    }
}

pub(super) struct Walker<'t> {
    facts: StatementFacts,
    /// Class of the relations that are met without a context of their own.
    access: Class,
    purpose: Purpose,
    /// Names of the WITH queries in scope, innermost last.
    ctes: Vec<&'t str>,
    /// The same, counted.
    hidden: HashMap<&'t str, usize>,
    acts: Once<Act>,
    relations: Once<RelationUse>,
    operators: Once<OperatorUse>,
    types: Once<NameUse>,
    attributes: Once<String>,
    /// How many statements stand around the one at hand: only the outermost says what the whole is.
    nested: usize,
    locking: Locking<'t>,
    /// Whether SET inside is stored with an object instead of set for the session.
    persist: bool,
    /// The schema that CREATE SCHEMA's elements come to be in.
    creation_schema: Option<String>,
    highest_parameter: i32,
}

impl<'t> Walker<'t> {
    /// Facts of a whole statement: a member of the text, or what PREPARE holds.
    fn whole(node: Option<&'t pb::Node>) -> StatementFacts {
        let kind = node.and_then(|n| n.node.as_ref());
        let (class, tag) = kind.and_then(generated::statement).unwrap_or((Class::Unknown, "UNKNOWN"));
        let mut walker = Walker {
            facts: blank(class, tag),
            access: class,
            purpose: Purpose::Run,
            ctes: Vec::new(),
            hidden: HashMap::new(),
            acts: Once::new(),
            relations: Once::new(),
            operators: Once::new(),
            types: Once::new(),
            attributes: Once::new(),
            nested: 0,
            locking: Locking::None,
            persist: false,
            creation_schema: None,
            highest_parameter: 0,
        };
        match node {
            Some(node) if class != Class::Unknown => walker.node(node),
            Some(_) | None => walker.unknown("a statement of unknown kind"),
        }
        walker.finish()
    }

    fn finish(mut self) -> StatementFacts {
        let facts = &mut self.facts;
        facts.acts = self.acts.items;
        facts.relations = self.relations.items;
        facts.operators = self.operators.items;
        facts.types = self.types.items;
        facts.attributes = self.attributes.items;
        facts.parameters = u16::try_from(self.highest_parameter.max(0)).unwrap_or(u16::MAX);
        let class = facts.class;
        let stands = facts.acts.iter().any(|a| a.class == class)
            || facts.relations.iter().any(|r| r.class == class)
            || (class == Class::SessionSet && !facts.settings.is_empty());
        if !stands {
            facts.acts.push(Act { class, object: None, kind: ObjectKind::None, why: facts.tag });
        }
        let classes = || facts.acts.iter().map(|a| a.class).chain(facts.relations.iter().map(|r| r.class));
        let locks = classes().any(|c| c == Class::SessionLock);
        let effects = has_effects(class) || classes().any(has_effects);
        let sets = facts.settings.iter().any(|s| s.action != SettingAction::Show);
        let flags = &mut facts.flags;
        flags.sets_setting |= sets;
        flags.locks |= locks;
        flags.effects |= effects;
        self.facts
    }

    /// The statement holds something that has no meaning here: only a permit that spells `unknown` reaches it.
    fn unknown(&mut self, why: &'static str) {
        self.facts.class = Class::Unknown;
        self.act(Class::Unknown, None, ObjectKind::None, why);
    }

    fn act(&mut self, class: Class, object: Option<NameUse>, kind: ObjectKind, why: &'static str) {
        self.acts.push(Act { class, object, kind, why });
    }

    /// Says what the whole statement is, unless another stands around it.
    fn is(&mut self, class: Class) {
        if self.nested == 0 {
            self.facts.class = class;
        }
    }

    /// Says the whole statement's command tag, unless another stands around it.
    fn tagged(&mut self, tag: &'static str) {
        if self.nested == 0 {
            self.facts.tag = tag;
        }
    }

    /// Visits a statement that stands inside another.
    fn inside(&mut self, node: &'t pb::Node) {
        self.nested += 1;
        self.node(node);
        self.nested -= 1;
    }

    /// Puts a WITH query's name in scope.
    fn enter_cte(&mut self, name: &'t str) {
        self.ctes.push(name);
        *self.hidden.entry(name).or_default() += 1;
    }

    /// Leaves the scopes entered since there were `outer` names.
    fn leave_ctes(&mut self, outer: usize) {
        for name in self.ctes.drain(outer..) {
            if let Some(count) = self.hidden.get_mut(name) {
                *count -= 1;
            }
        }
    }

    /// Lists a relation that no WITH query hides, under the class that the purpose makes of `class`.
    fn relation(&mut self, range: &pb::RangeVar, class: Class, predicate: Predicate) {
        let pb::RangeVar { catalogname, schemaname, relname, inh, relpersistence: _, alias: _, location } =
            range;
        let inside = if class == Class::ReadSelect { None } else { self.creation_schema.clone() };
        let name = NameUse {
            catalog: some(catalogname),
            schema: some(schemaname).or(inside),
            name: relname.clone(),
        };
        let offset = usize::try_from(*location).ok();
        self.named_relation(name, class, predicate, !inh, offset);
    }

    fn named_relation(
        &mut self,
        name: NameUse,
        class: Class,
        predicate: Predicate,
        only: bool,
        offset: Option<usize>,
    ) {
        let read = class == Class::ReadSelect;
        let write =
            matches!(class, Class::WriteInsert | Class::WriteUpdate | Class::WriteDelete | Class::WriteMerge);
        let (class, predicate) = match self.purpose {
            Purpose::Explain if read || write => (Class::ReadExplain, Predicate::NotApplicable),
            Purpose::ExplainAnalyze if read => (Class::ReadExplainAnalyze, predicate),
            Purpose::CopyOut if read => {
                let out =
                    RelationUse { name: name.clone(), class: Class::ExportCopyOut, predicate, only, offset };
                self.relations.push(out);
                (class, predicate)
            }
            Purpose::Run | Purpose::Explain | Purpose::ExplainAnalyze | Purpose::CopyOut => {
                (class, predicate)
            }
        };
        self.settings_view(&name, write);
        self.relations.push(RelationUse { name, class, predicate, only, offset });
    }

    /// `UPDATE pg_settings` calls set_config through the view's rule.
    fn settings_view(&mut self, name: &NameUse, write: bool) {
        let catalog = name.schema.as_deref().is_none_or(|s| s == "pg_catalog");
        if write && catalog && name.name == "pg_settings" {
            let setting = SettingUse { name: None, action: SettingAction::Set, value: None, local: false };
            self.facts.settings.push(setting);
        }
    }

    fn function(&mut self, function: FunctionUse) {
        self.facts.functions.push(function);
    }

    fn operator(&mut self, schema: Option<String>, name: &str) {
        self.operators.push(OperatorUse { schema, name: name.to_owned() });
    }
}

impl<'t> Visitor<'t> for Walker<'t> {
    fn refused(&mut self, what: &'static str) {
        self.unknown(what);
    }

    fn range_var(&mut self, n: &'t pb::RangeVar) {
        self.range_var_met(n);
    }
    fn select_stmt(&mut self, n: &'t pb::SelectStmt) {
        self.select(n);
    }
    fn insert_stmt(&mut self, n: &'t pb::InsertStmt) {
        self.insert(n);
    }
    fn update_stmt(&mut self, n: &'t pb::UpdateStmt) {
        self.update(n);
    }
    fn delete_stmt(&mut self, n: &'t pb::DeleteStmt) {
        self.delete(n);
    }
    fn merge_stmt(&mut self, n: &'t pb::MergeStmt) {
        self.merge(n);
    }
    fn range_subselect(&mut self, n: &'t pb::RangeSubselect) {
        self.subselect(n);
    }
    fn join_expr(&mut self, n: &'t pb::JoinExpr) {
        self.join(n);
    }
    fn range_table_sample(&mut self, n: &'t pb::RangeTableSample) {
        self.table_sample(n);
    }
    fn a_expr(&mut self, n: &'t pb::AExpr) {
        self.operator_expression(n);
    }
    fn sub_link(&mut self, n: &'t pb::SubLink) {
        self.sublink(n);
    }
    fn sort_by(&mut self, n: &'t pb::SortBy) {
        self.sort(n);
    }
    fn case_expr(&mut self, n: &'t pb::CaseExpr) {
        self.case(n);
    }
    fn func_call(&mut self, n: &'t pb::FuncCall) {
        self.call(n);
    }
    fn sql_value_function(&mut self, n: &'t pb::SqlValueFunction) {
        self.value_function(n);
    }
    fn type_cast(&mut self, n: &'t pb::TypeCast) {
        self.cast(n);
    }
    fn type_name(&mut self, n: &'t pb::TypeName) {
        self.type_named(n);
    }
    fn column_ref(&mut self, n: &'t pb::ColumnRef) {
        self.column(n);
    }
    fn a_indirection(&mut self, n: &'t pb::AIndirection) {
        self.indirection(n);
    }
    fn param_ref(&mut self, n: &'t pb::ParamRef) {
        let pb::ParamRef { number, location: _ } = n;
        self.highest_parameter = self.highest_parameter.max(*number);
    }
    fn transaction_stmt(&mut self, n: &'t pb::TransactionStmt) {
        self.transaction(n);
    }
    fn variable_set_stmt(&mut self, n: &'t pb::VariableSetStmt) {
        self.set(n);
    }
    fn notify_stmt(&mut self, n: &'t pb::NotifyStmt) {
        let pb::NotifyStmt { conditionname: _, payload: _, payload_location: _ } = n;
        self.act(Class::SessionNotify, None, ObjectKind::None, "NOTIFY");
    }
    fn variable_show_stmt(&mut self, n: &'t pb::VariableShowStmt) {
        self.show(n);
    }
    fn discard_stmt(&mut self, n: &'t pb::DiscardStmt) {
        self.discard(n);
    }
    fn prepare_stmt(&mut self, n: &'t pb::PrepareStmt) {
        self.prepare(n);
    }
    fn execute_stmt(&mut self, n: &'t pb::ExecuteStmt) {
        self.execute(n);
    }
    fn deallocate_stmt(&mut self, n: &'t pb::DeallocateStmt) {
        self.deallocate(n);
    }
    fn declare_cursor_stmt(&mut self, n: &'t pb::DeclareCursorStmt) {
        self.declare(n);
    }
    fn fetch_stmt(&mut self, n: &'t pb::FetchStmt) {
        self.fetch(n);
    }
    fn close_portal_stmt(&mut self, n: &'t pb::ClosePortalStmt) {
        self.close(n);
    }
    fn explain_stmt(&mut self, n: &'t pb::ExplainStmt) {
        self.explain(n);
    }
    fn copy_stmt(&mut self, n: &'t pb::CopyStmt) {
        self.copy(n);
    }
    fn into_clause(&mut self, n: &'t pb::IntoClause) {
        self.into(n);
    }
    fn create_stmt(&mut self, n: &'t pb::CreateStmt) {
        self.create_table(n);
    }
    fn table_like_clause(&mut self, n: &'t pb::TableLikeClause) {
        self.like(n);
    }
    fn create_foreign_table_stmt(&mut self, n: &'t pb::CreateForeignTableStmt) {
        self.create_foreign_table(n);
    }
    fn create_table_as_stmt(&mut self, n: &'t pb::CreateTableAsStmt) {
        self.create_table_as(n);
    }
    fn view_stmt(&mut self, n: &'t pb::ViewStmt) {
        self.view(n);
    }
    fn create_seq_stmt(&mut self, n: &'t pb::CreateSeqStmt) {
        self.create_sequence(n);
    }
    fn alter_seq_stmt(&mut self, n: &'t pb::AlterSeqStmt) {
        self.alter_sequence(n);
    }
    fn index_stmt(&mut self, n: &'t pb::IndexStmt) {
        self.index(n);
    }
    fn create_stats_stmt(&mut self, n: &'t pb::CreateStatsStmt) {
        self.statistics(n);
    }
    fn alter_stats_stmt(&mut self, n: &'t pb::AlterStatsStmt) {
        self.alter_statistics(n);
    }
    fn create_schema_stmt(&mut self, n: &'t pb::CreateSchemaStmt) {
        self.create_schema(n);
    }
    fn alter_table_stmt(&mut self, n: &'t pb::AlterTableStmt) {
        self.alter_table(n);
    }
    fn alter_table_move_all_stmt(&mut self, n: &'t pb::AlterTableMoveAllStmt) {
        self.move_all(n);
    }
    fn composite_type_stmt(&mut self, n: &'t pb::CompositeTypeStmt) {
        self.composite_type(n);
    }
    fn create_enum_stmt(&mut self, n: &'t pb::CreateEnumStmt) {
        self.create_enum(n);
    }
    fn alter_enum_stmt(&mut self, n: &'t pb::AlterEnumStmt) {
        self.alter_enum(n);
    }
    fn create_domain_stmt(&mut self, n: &'t pb::CreateDomainStmt) {
        self.create_domain(n);
    }
    fn alter_domain_stmt(&mut self, n: &'t pb::AlterDomainStmt) {
        self.alter_domain(n);
    }
    fn alter_collation_stmt(&mut self, n: &'t pb::AlterCollationStmt) {
        self.alter_collation(n);
    }
    fn alter_ts_dictionary_stmt(&mut self, n: &'t pb::AlterTsDictionaryStmt) {
        self.text_search_dictionary(n);
    }
    fn alter_ts_configuration_stmt(&mut self, n: &'t pb::AlterTsConfigurationStmt) {
        self.text_search_configuration(n);
    }
    fn create_function_stmt(&mut self, n: &'t pb::CreateFunctionStmt) {
        self.create_function(n);
    }
    fn alter_function_stmt(&mut self, n: &'t pb::AlterFunctionStmt) {
        self.alter_function(n);
    }
    fn call_stmt(&mut self, n: &'t pb::CallStmt) {
        self.call_procedure(n);
    }
    fn do_stmt(&mut self, n: &'t pb::DoStmt) {
        self.do_block(n);
    }
    fn rule_stmt(&mut self, n: &'t pb::RuleStmt) {
        self.rule(n);
    }
    fn create_trig_stmt(&mut self, n: &'t pb::CreateTrigStmt) {
        self.trigger(n);
    }
    fn create_event_trig_stmt(&mut self, n: &'t pb::CreateEventTrigStmt) {
        self.event_trigger(n);
    }
    fn alter_event_trig_stmt(&mut self, n: &'t pb::AlterEventTrigStmt) {
        self.alter_event_trigger(n);
    }
    fn create_p_lang_stmt(&mut self, n: &'t pb::CreatePLangStmt) {
        self.language(n);
    }
    fn create_am_stmt(&mut self, n: &'t pb::CreateAmStmt) {
        self.access_method(n);
    }
    fn define_stmt(&mut self, n: &'t pb::DefineStmt) {
        self.define(n);
    }
    fn create_range_stmt(&mut self, n: &'t pb::CreateRangeStmt) {
        self.range_type(n);
    }
    fn alter_operator_stmt(&mut self, n: &'t pb::AlterOperatorStmt) {
        self.alter_operator(n);
    }
    fn alter_type_stmt(&mut self, n: &'t pb::AlterTypeStmt) {
        self.alter_type(n);
    }
    fn create_op_class_stmt(&mut self, n: &'t pb::CreateOpClassStmt) {
        self.operator_class(n);
    }
    fn create_op_class_item(&mut self, n: &'t pb::CreateOpClassItem) {
        self.operator_class_item(n);
    }
    fn create_op_family_stmt(&mut self, n: &'t pb::CreateOpFamilyStmt) {
        self.operator_family(n);
    }
    fn alter_op_family_stmt(&mut self, n: &'t pb::AlterOpFamilyStmt) {
        self.alter_operator_family(n);
    }
    fn create_conversion_stmt(&mut self, n: &'t pb::CreateConversionStmt) {
        self.conversion(n);
    }
    fn create_cast_stmt(&mut self, n: &'t pb::CreateCastStmt) {
        self.create_cast(n);
    }
    fn create_transform_stmt(&mut self, n: &'t pb::CreateTransformStmt) {
        self.transform(n);
    }
    fn drop_stmt(&mut self, n: &'t pb::DropStmt) {
        self.drop_objects(n);
    }
    fn comment_stmt(&mut self, n: &'t pb::CommentStmt) {
        self.comment(n);
    }
    fn sec_label_stmt(&mut self, n: &'t pb::SecLabelStmt) {
        self.security_label(n);
    }
    fn rename_stmt(&mut self, n: &'t pb::RenameStmt) {
        self.rename(n);
    }
    fn alter_owner_stmt(&mut self, n: &'t pb::AlterOwnerStmt) {
        self.owner(n);
    }
    fn alter_object_schema_stmt(&mut self, n: &'t pb::AlterObjectSchemaStmt) {
        self.set_schema(n);
    }
    fn alter_object_depends_stmt(&mut self, n: &'t pb::AlterObjectDependsStmt) {
        self.depends(n);
    }
    fn grant_stmt(&mut self, n: &'t pb::GrantStmt) {
        self.grant(n);
    }
    fn grant_role_stmt(&mut self, n: &'t pb::GrantRoleStmt) {
        self.grant_role(n);
    }
    fn alter_default_privileges_stmt(&mut self, n: &'t pb::AlterDefaultPrivilegesStmt) {
        self.default_privileges(n);
    }
    fn create_policy_stmt(&mut self, n: &'t pb::CreatePolicyStmt) {
        self.create_policy(n);
    }
    fn alter_policy_stmt(&mut self, n: &'t pb::AlterPolicyStmt) {
        self.alter_policy(n);
    }
    fn create_role_stmt(&mut self, n: &'t pb::CreateRoleStmt) {
        self.create_role(n);
    }
    fn alter_role_stmt(&mut self, n: &'t pb::AlterRoleStmt) {
        self.alter_role(n);
    }
    fn alter_role_set_stmt(&mut self, n: &'t pb::AlterRoleSetStmt) {
        self.alter_role_set(n);
    }
    fn drop_role_stmt(&mut self, n: &'t pb::DropRoleStmt) {
        self.drop_role(n);
    }
    fn drop_owned_stmt(&mut self, n: &'t pb::DropOwnedStmt) {
        self.drop_owned(n);
    }
    fn reassign_owned_stmt(&mut self, n: &'t pb::ReassignOwnedStmt) {
        self.reassign_owned(n);
    }
    fn create_table_space_stmt(&mut self, n: &'t pb::CreateTableSpaceStmt) {
        self.create_tablespace(n);
    }
    fn drop_table_space_stmt(&mut self, n: &'t pb::DropTableSpaceStmt) {
        self.drop_tablespace(n);
    }
    fn alter_table_space_options_stmt(&mut self, n: &'t pb::AlterTableSpaceOptionsStmt) {
        self.alter_tablespace(n);
    }
    fn createdb_stmt(&mut self, n: &'t pb::CreatedbStmt) {
        self.create_database(n);
    }
    fn alter_database_stmt(&mut self, n: &'t pb::AlterDatabaseStmt) {
        self.alter_database(n);
    }
    fn alter_database_refresh_coll_stmt(&mut self, n: &'t pb::AlterDatabaseRefreshCollStmt) {
        self.refresh_database(n);
    }
    fn alter_database_set_stmt(&mut self, n: &'t pb::AlterDatabaseSetStmt) {
        self.alter_database_set(n);
    }
    fn dropdb_stmt(&mut self, n: &'t pb::DropdbStmt) {
        self.drop_database(n);
    }
    fn alter_system_stmt(&mut self, n: &'t pb::AlterSystemStmt) {
        self.alter_system(n);
    }
    fn load_stmt(&mut self, n: &'t pb::LoadStmt) {
        self.load(n);
    }
    fn create_extension_stmt(&mut self, n: &'t pb::CreateExtensionStmt) {
        self.create_extension(n);
    }
    fn alter_extension_stmt(&mut self, n: &'t pb::AlterExtensionStmt) {
        self.alter_extension(n);
    }
    fn alter_extension_contents_stmt(&mut self, n: &'t pb::AlterExtensionContentsStmt) {
        self.extension_contents(n);
    }
    fn create_fdw_stmt(&mut self, n: &'t pb::CreateFdwStmt) {
        self.create_wrapper(n);
    }
    fn alter_fdw_stmt(&mut self, n: &'t pb::AlterFdwStmt) {
        self.alter_wrapper(n);
    }
    fn create_foreign_server_stmt(&mut self, n: &'t pb::CreateForeignServerStmt) {
        self.create_server(n);
    }
    fn alter_foreign_server_stmt(&mut self, n: &'t pb::AlterForeignServerStmt) {
        self.alter_server(n);
    }
    fn create_user_mapping_stmt(&mut self, n: &'t pb::CreateUserMappingStmt) {
        self.create_user_mapping(n);
    }
    fn alter_user_mapping_stmt(&mut self, n: &'t pb::AlterUserMappingStmt) {
        self.alter_user_mapping(n);
    }
    fn drop_user_mapping_stmt(&mut self, n: &'t pb::DropUserMappingStmt) {
        self.drop_user_mapping(n);
    }
    fn import_foreign_schema_stmt(&mut self, n: &'t pb::ImportForeignSchemaStmt) {
        self.import_schema(n);
    }
    fn create_publication_stmt(&mut self, n: &'t pb::CreatePublicationStmt) {
        self.create_publication(n);
    }
    fn alter_publication_stmt(&mut self, n: &'t pb::AlterPublicationStmt) {
        self.alter_publication(n);
    }
    fn publication_obj_spec(&mut self, n: &'t pb::PublicationObjSpec) {
        self.publication_object(n);
    }
    fn create_subscription_stmt(&mut self, n: &'t pb::CreateSubscriptionStmt) {
        self.create_subscription(n);
    }
    fn alter_subscription_stmt(&mut self, n: &'t pb::AlterSubscriptionStmt) {
        self.alter_subscription(n);
    }
    fn drop_subscription_stmt(&mut self, n: &'t pb::DropSubscriptionStmt) {
        self.drop_subscription(n);
    }
    fn vacuum_stmt(&mut self, n: &'t pb::VacuumStmt) {
        self.vacuum(n);
    }
    fn cluster_stmt(&mut self, n: &'t pb::ClusterStmt) {
        self.cluster(n);
    }
    fn reindex_stmt(&mut self, n: &'t pb::ReindexStmt) {
        self.reindex(n);
    }
    fn refresh_mat_view_stmt(&mut self, n: &'t pb::RefreshMatViewStmt) {
        self.refresh(n);
    }
    fn truncate_stmt(&mut self, n: &'t pb::TruncateStmt) {
        self.truncate(n);
    }
    fn constraints_set_stmt(&mut self, n: &'t pb::ConstraintsSetStmt) {
        self.set_constraints(n);
    }
}

/// Whether a class alone says that something outside the session changes.
fn has_effects(class: Class) -> bool {
    match class {
        Class::ReadSelect | Class::ReadFetch | Class::ReadExplain | Class::ReadExplainAnalyze => false,
        Class::SessionTransaction
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::SessionLock => false,
        Class::ExportCopyOut | Class::ExportBulk | Class::ExportLargeObject | Class::ExportReplication => {
            false
        }
        Class::CallFunction => false,
        Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::DdlCreate
        | Class::DdlAlter
        | Class::DdlDrop
        | Class::DdlTemp
        | Class::DdlComment
        | Class::DdlIndex
        | Class::DdlCode
        | Class::DclGrant
        | Class::DclRole
        | Class::DclPolicy
        | Class::DclLabel
        | Class::SessionNotify
        | Class::ImportCopyIn
        | Class::CallProcedure
        | Class::CallDo
        | Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh
        | Class::MaintenanceCheckpoint
        | Class::AdminSystem
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer
        | Class::Unknown => true,
    }
}

fn blank(class: Class, tag: &'static str) -> StatementFacts {
    StatementFacts {
        range: 0..0,
        class,
        tag,
        acts: Vec::new(),
        relations: Vec::new(),
        functions: Vec::new(),
        operators: Vec::new(),
        types: Vec::new(),
        attributes: Vec::new(),
        settings: Vec::new(),
        transaction: None,
        named: None,
        copy: None,
        flags: Flags::default(),
        parameters: 0,
        prepared: None,
    }
}

/// The grammar writes an absent name as an empty one.
fn some(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// The node's content, if there is one.
fn kind(node: Option<&pb::Node>) -> Option<&N> {
    node.and_then(|n| n.node.as_ref())
}
