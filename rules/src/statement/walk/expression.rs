//! Expressions: functions, operators, casts and names, written or implied.
//!
//! Owns: what the analyzer (parse_expr.c, parse_func.c, parse_oper.c) would look up for each raw expression node.
//! May not: resolve. Constructs that run no catalog function (COALESCE, GREATEST, CURRENT_DATE) list none.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::functions::is_regclass;
use super::name;
use super::{Walker, kind};
use crate::class::Class;
use crate::statement::facts::{FunctionUse, NameUse, Predicate};
use crate::statement::generated::Visitor;

/// Functions of the server that the grammar knows by syntax of its own since a version (gram.y, `SystemFuncName`).
const NEWER_FUNCTIONS: [(&str, u32); 2] = [("json_object", 160_000), ("system_user", 160_000)];

impl<'t> Walker<'t> {
    pub(super) fn operator_expression(&mut self, n: &'t pb::AExpr) {
        let pb::AExpr { kind: form, name, lexpr, rexpr, rexpr_list_start: _, rexpr_list_end: _, location: _ } =
            n;
        use pb::AExprKind as K;
        match K::try_from(*form).unwrap_or(K::Undefined) {
            K::AexprOp
            | K::AexprOpAny
            | K::AexprOpAll
            | K::AexprDistinct
            | K::AexprNotDistinct
            | K::AexprNullif
            | K::AexprIn
            | K::AexprLike
            | K::AexprIlike
            | K::AexprSimilar => self.operator_name(name),
            // BETWEEN a AND b is x >= a AND x <= b; NOT BETWEEN is x < a OR x > b (parse_expr.c, transformAExprBetween).
            K::AexprBetween | K::AexprBetweenSym => {
                self.operator(None, ">=");
                self.operator(None, "<=");
            }
            K::AexprNotBetween | K::AexprNotBetweenSym => {
                self.operator(None, "<");
                self.operator(None, ">");
            }
            K::Undefined => self.unknown("an expression of unknown kind"),
        }
        if let Some(left) = lexpr {
            self.node(left);
        }
        if let Some(right) = rexpr {
            self.node(right);
        }
    }

    /// An operator's name, qualified by OPERATOR(schema.op) or not.
    pub(super) fn operator_name(&mut self, nodes: &'t [pb::Node]) {
        match name::strings(nodes).as_deref() {
            Some([op]) => self.operator(None, op),
            Some([schema, op]) => self.operator(Some((*schema).to_owned()), op),
            Some([_, schema, op]) => self.operator(Some((*schema).to_owned()), op),
            Some(_) | None => self.unknown("an operator without a name"),
        }
    }

    pub(super) fn sublink(&mut self, n: &'t pb::SubLink) {
        let pb::SubLink { xpr, sub_link_type, sub_link_id: _, testexpr, oper_name, subselect, location: _ } =
            n;
        if xpr.is_some() {
            self.unknown("SubLink.xpr");
        }
        let compares = pb::SubLinkType::try_from(*sub_link_type) == Ok(pb::SubLinkType::AnySublink);
        if !oper_name.is_empty() {
            self.operator_name(oper_name);
        } else if compares {
            self.operator(None, "=");
        }
        if let Some(test) = testexpr {
            self.node(test);
        }
        if let Some(select) = subselect {
            self.node(select);
        }
    }

    pub(super) fn sort(&mut self, n: &'t pb::SortBy) {
        let pb::SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = n;
        if !use_op.is_empty() {
            self.operator_name(use_op);
        }
        if let Some(node) = node {
            self.node(node);
        }
    }

    pub(super) fn case(&mut self, n: &'t pb::CaseExpr) {
        let pb::CaseExpr { xpr, casetype, casecollid, arg, args, defresult, location: _ } = n;
        if xpr.is_some() || *casetype != 0 || *casecollid != 0 {
            self.unknown("CaseExpr of the analyzer");
        }
        if let Some(arg) = arg {
            // CASE x WHEN y compares by =.
            self.operator(None, "=");
            self.node(arg);
        }
        self.nodes(args);
        if let Some(default) = defresult {
            self.node(default);
        }
    }

    pub(super) fn call(&mut self, n: &'t pb::FuncCall) {
        let pb::FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group,
            agg_star,
            agg_distinct: _,
            func_variadic,
            funcformat,
            location,
        } = n;
        self.nodes(args);
        self.nodes(agg_order);
        if let Some(filter) = agg_filter {
            self.node(filter);
        }
        if let Some(window) = over {
            self.window_def(window);
        }
        let Some(name) = name::from_nodes(funcname) else {
            return self.unknown("a function without a name");
        };
        let count = args.len() + if *agg_within_group { agg_order.len() } else { 0 };
        let arguments = if *func_variadic || *agg_star { None } else { u16::try_from(count).ok() };
        // An argument given by name may stand anywhere: from there on no position is known.
        let by_position = |a: &&pb::Node| !matches!(kind(Some(a)), Some(N::NamedArgExpr(_)));
        let mut constants: Vec<Option<String>> =
            args.iter().take_while(by_position).map(|a| name::constant(Some(a))).collect();
        if constants.iter().all(Option::is_none) {
            constants = Vec::new();
        }
        let implied = pb::CoercionForm::try_from(*funcformat) == Ok(pb::CoercionForm::CoerceSqlSyntax);
        let offset = usize::try_from(*location).ok();
        // The grammar puts the schema there itself: behind `system_user`, and behind `json_object(…)` without its clauses.
        let written = name.schema.as_deref() == Some("pg_catalog");
        if let Some(newer) = NEWER_FUNCTIONS.iter().find(|newer| written && newer.0 == name.name) {
            self.facts.newer.push(*newer);
        }
        let function = FunctionUse { name, arguments, constants, implied, offset };
        self.function_effect(&function, args);
        self.function(function);
    }

    /// Syntax that is a call of that name for servers before this version.
    pub(super) fn newer(&mut self, name: &'static str, since: u32) {
        self.facts.newer.push((name, since));
    }

    /// CURRENT_USER and its kin; the date and time forms call no catalog function.
    pub(super) fn value_function(&mut self, n: &'t pb::SqlValueFunction) {
        let pb::SqlValueFunction { xpr, op, r#type, typmod: _, location } = n;
        if xpr.is_some() || *r#type != 0 {
            self.unknown("SQLValueFunction of the analyzer");
        }
        use pb::SqlValueFunctionOp as Op;
        let name = match Op::try_from(*op).unwrap_or(Op::SqlvalueFunctionOpUndefined) {
            Op::SvfopCurrentDate
            | Op::SvfopCurrentTime
            | Op::SvfopCurrentTimeN
            | Op::SvfopCurrentTimestamp
            | Op::SvfopCurrentTimestampN
            | Op::SvfopLocaltime
            | Op::SvfopLocaltimeN
            | Op::SvfopLocaltimestamp
            | Op::SvfopLocaltimestampN => return,
            Op::SvfopCurrentRole | Op::SvfopCurrentUser | Op::SvfopUser => "current_user",
            Op::SvfopSessionUser => "session_user",
            Op::SvfopCurrentCatalog => "current_database",
            Op::SvfopCurrentSchema => "current_schema",
            Op::SqlvalueFunctionOpUndefined => return self.unknown("a value function of unknown kind"),
        };
        self.function(FunctionUse {
            name: NameUse { catalog: None, schema: Some("pg_catalog".to_owned()), name: name.to_owned() },
            arguments: Some(0),
            constants: Vec::new(),
            implied: true,
            offset: usize::try_from(*location).ok(),
        });
    }

    pub(super) fn cast(&mut self, n: &'t pb::TypeCast) {
        let pb::TypeCast { arg, type_name, location: _ } = n;
        if let Some(arg) = arg {
            self.node(arg);
        }
        if let Some(to) = type_name {
            self.type_name(to);
            if is_regclass(Some(to)) {
                self.relation_constant(arg.as_deref());
            }
        }
    }

    /// `'t'::regclass` names a relation; an oid in quotes names none that the text shows.
    fn relation_constant(&mut self, arg: Option<&'t pb::Node>) {
        let Some(text) = name::constant(arg) else { return };
        if text == "-" || text.bytes().all(|b| b.is_ascii_digit()) {
            return;
        }
        match name::in_constant(&text) {
            Some(name) => self.named_relation(name, Class::ReadSelect, Predicate::NotApplicable, false, None),
            None => self.unknown("a relation name in a string that is none"),
        }
    }

    pub(super) fn type_named(&mut self, n: &'t pb::TypeName) {
        let pb::TypeName { names, type_oid, setof: _, pct_type, typmods, typemod: _, array_bounds, location } =
            n;
        if *type_oid != 0 {
            self.unknown("TypeName.type_oid");
        }
        self.nodes(typmods);
        self.nodes(array_bounds);
        let parts = name::strings(names).unwrap_or_default();
        if *pct_type {
            // t.c%TYPE names a relation and a column.
            let relation = parts.split_last().and_then(|(_, relation)| name::from_parts(relation));
            match relation {
                Some(name) => {
                    let offset = usize::try_from(*location).ok();
                    self.named_relation(name, Class::ReadSelect, Predicate::NotApplicable, false, offset);
                }
                None => self.unknown("a %TYPE without a relation"),
            }
        } else if let Some(name) = name::from_parts(&parts) {
            self.types.push(name);
        } else if !parts.is_empty() {
            self.unknown("a type without a name");
        }
    }

    pub(super) fn column(&mut self, n: &'t pb::ColumnRef) {
        let pb::ColumnRef { fields, location: _ } = n;
        if let [_, .., last] = fields.as_slice()
            && let Some(attribute) = name::string(last)
        {
            self.attribute(attribute);
        }
    }

    pub(super) fn indirection(&mut self, n: &'t pb::AIndirection) {
        let pb::AIndirection { arg, indirection } = n;
        for part in indirection {
            match kind(Some(part)) {
                Some(N::String(pb::String { sval })) => self.attribute(sval),
                Some(_) | None => self.node(part),
            }
        }
        if let Some(arg) = arg {
            self.node(arg);
        }
    }

    fn attribute(&mut self, name: &str) {
        self.attributes.push(name.to_owned());
    }
}
