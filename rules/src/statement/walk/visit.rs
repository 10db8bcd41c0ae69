//! The walker as a visitor: which hand-written method reads which node.
//!
//! Owns: that one table. May not: hold meaning. A node without a line here is descended into by the generated visitor.

use pg_query::protobuf as pb;

use super::Walker;
use crate::class::Class;
use crate::statement::facts::ObjectKind;
use crate::statement::generated::{
    Visitor, walk_index_elem, walk_json_array_agg, walk_json_array_constructor,
    walk_json_array_query_constructor, walk_json_func_expr, walk_json_object_agg,
    walk_json_object_constructor, walk_json_parse_expr, walk_json_scalar_expr, walk_json_serialize_expr,
    walk_json_table, walk_merge_support_func, walk_partition_elem,
};

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
    fn range_function(&mut self, n: &'t pb::RangeFunction) {
        self.table_functions(n);
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
    fn json_object_constructor(&mut self, n: &'t pb::JsonObjectConstructor) {
        self.newer("json_object", 160_000);
        walk_json_object_constructor(self, n);
    }
    fn json_array_constructor(&mut self, n: &'t pb::JsonArrayConstructor) {
        self.newer("json_array", 160_000);
        walk_json_array_constructor(self, n);
    }
    fn json_array_query_constructor(&mut self, n: &'t pb::JsonArrayQueryConstructor) {
        self.newer("json_array", 160_000);
        walk_json_array_query_constructor(self, n);
    }
    fn json_object_agg(&mut self, n: &'t pb::JsonObjectAgg) {
        self.newer("json_objectagg", 160_000);
        walk_json_object_agg(self, n);
    }
    fn json_array_agg(&mut self, n: &'t pb::JsonArrayAgg) {
        self.newer("json_arrayagg", 160_000);
        walk_json_array_agg(self, n);
    }
    fn json_parse_expr(&mut self, n: &'t pb::JsonParseExpr) {
        self.newer("json", 170_000);
        walk_json_parse_expr(self, n);
    }
    fn json_scalar_expr(&mut self, n: &'t pb::JsonScalarExpr) {
        self.newer("json_scalar", 170_000);
        walk_json_scalar_expr(self, n);
    }
    fn json_serialize_expr(&mut self, n: &'t pb::JsonSerializeExpr) {
        self.newer("json_serialize", 170_000);
        walk_json_serialize_expr(self, n);
    }
    fn json_func_expr(&mut self, n: &'t pb::JsonFuncExpr) {
        for name in ["json_exists", "json_query", "json_value"] {
            self.newer(name, 170_000);
        }
        walk_json_func_expr(self, n);
    }
    fn merge_support_func(&mut self, n: &'t pb::MergeSupportFunc) {
        self.newer("merge_action", 170_000);
        walk_merge_support_func(self, n);
    }
    fn json_table(&mut self, n: &'t pb::JsonTable) {
        self.newer("json_table", 170_000);
        walk_json_table(self, n);
    }
    fn index_elem(&mut self, n: &'t pb::IndexElem) {
        self.compares_by(&n.opclass);
        walk_index_elem(self, n);
    }
    fn partition_elem(&mut self, n: &'t pb::PartitionElem) {
        self.compares_by(&n.opclass);
        walk_partition_elem(self, n);
    }
    fn constraints_set_stmt(&mut self, n: &'t pb::ConstraintsSetStmt) {
        self.set_constraints(n);
    }
}
