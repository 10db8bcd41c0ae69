//! DDL that makes or changes code: functions, triggers, rules, operators, casts, languages.
//!
//! Owns: which objects carry the code and which functions it names. May not: read a function's body that is text: it is
//! dynamic by nature, and class `ddl.code` says so. Bodies, actions and expressions that the grammar parses are walked.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::object::{alter_tag, create_tag, object_type};
use super::{Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{ObjectKind, Predicate};
use crate::statement::generated::{self, Visitor};

/// Parameters of CREATE AGGREGATE, OPERATOR, TYPE… that name a function (the grammar reads them as types).
const FUNCTION_PARAMETERS: &[&str] = &[
    "sfunc",
    "finalfunc",
    "combinefunc",
    "serialfunc",
    "deserialfunc",
    "msfunc",
    "minvfunc",
    "mfinalfunc",
    "sfunc1",
    "procedure",
    "function",
    "restrict",
    "join",
    "input",
    "output",
    "receive",
    "send",
    "typmod_in",
    "typmod_out",
    "analyze",
    "subscript",
    "canonical",
    "subtype_diff",
    "start",
    "gettoken",
    "end",
    "headline",
    "lextypes",
    "init",
    "lexize",
    "handler",
    "validator",
    "inline",
];

impl<'t> Walker<'t> {
    /// Options that may name functions or hold settings.
    pub(super) fn code_options(&mut self, options: &'t [pb::Node]) {
        let outer = std::mem::replace(&mut self.persist, true);
        for node in options {
            if let Some(N::DefElem(option)) = kind(Some(node))
                && FUNCTION_PARAMETERS.contains(&option.defname.to_ascii_lowercase().as_str())
            {
                let named = match kind(option.arg.as_deref()) {
                    Some(N::TypeName(of)) => name::from_nodes(&of.names),
                    Some(N::List(pb::List { items })) => name::from_nodes(items),
                    Some(N::String(pb::String { sval })) => name::in_constant(sval),
                    Some(_) | None => None,
                };
                if let Some(function) = named {
                    self.mention(function);
                }
            }
            self.node(node);
        }
        self.persist = outer;
    }

    pub(super) fn create_function(&mut self, n: &'t pb::CreateFunctionStmt) {
        let pb::CreateFunctionStmt {
            is_procedure,
            replace: _,
            funcname,
            parameters,
            return_type,
            options,
            sql_body,
        } = n;
        self.tagged(if *is_procedure { "CREATE PROCEDURE" } else { "CREATE FUNCTION" });
        self.named_act(Class::DdlCode, funcname, ObjectKind::Function, self.facts.tag);
        self.nodes(parameters);
        if let Some(of) = return_type {
            self.type_name(of);
        }
        self.code_options(options);
        if let Some(body) = sql_body {
            self.inside(body);
        }
    }

    pub(super) fn alter_function(&mut self, n: &'t pb::AlterFunctionStmt) {
        let pb::AlterFunctionStmt { objtype, func, actions } = n;
        self.tagged(alter_tag(object_type(*objtype)));
        match func {
            Some(func) => self.code_object(func, self.facts.tag),
            None => self.unknown("ALTER FUNCTION without a function"),
        }
        self.code_options(actions);
    }

    /// A function that a statement changes.
    fn code_object(&mut self, n: &'t pb::ObjectWithArgs, why: &'static str) {
        self.named_act(Class::DdlCode, &n.objname, ObjectKind::Function, why);
        self.function_object(n);
    }

    /// A function named with its argument types.
    fn function_object(&mut self, n: &'t pb::ObjectWithArgs) {
        let pb::ObjectWithArgs { objname, objargs, objfuncargs, args_unspecified: _ } = n;
        self.mention_nodes(objname);
        self.nodes(objargs);
        self.nodes(objfuncargs);
    }

    pub(super) fn call_procedure(&mut self, n: &'t pb::CallStmt) {
        let pb::CallStmt { funccall, funcexpr, outargs } = n;
        if funcexpr.is_some() || !outargs.is_empty() {
            self.unknown("CALL of the analyzer");
        }
        self.facts.flags.dynamic = true;
        match funccall {
            Some(call) => {
                self.named_act(Class::CallProcedure, &call.funcname, ObjectKind::Function, "CALL");
                self.func_call(call);
            }
            None => self.unknown("CALL without a procedure"),
        }
    }

    pub(super) fn do_block(&mut self, n: &'t pb::DoStmt) {
        let pb::DoStmt { args } = n;
        self.facts.flags.dynamic = true;
        self.nodes(args);
    }

    pub(super) fn rule(&mut self, n: &'t pb::RuleStmt) {
        let pb::RuleStmt { relation, rulename: _, where_clause, event: _, instead: _, actions, replace: _ } =
            n;
        match relation {
            Some(relation) => self.relation(relation, Class::DdlCode, Predicate::NotApplicable),
            None => self.unknown("CREATE RULE without a relation"),
        }
        if let Some(condition) = where_clause {
            self.node(condition);
        }
        for action in actions {
            self.inside(action);
        }
    }

    pub(super) fn trigger(&mut self, n: &'t pb::CreateTrigStmt) {
        let pb::CreateTrigStmt {
            replace: _,
            isconstraint: _,
            trigname: _,
            relation,
            funcname,
            args,
            row: _,
            timing: _,
            events: _,
            columns,
            when_clause,
            transition_rels,
            deferrable: _,
            initdeferred: _,
            constrrel,
        } = n;
        for relation in [relation, constrrel].into_iter().flatten() {
            self.relation(relation, Class::DdlCode, Predicate::NotApplicable);
        }
        self.mention_nodes(funcname);
        for list in [args, columns, transition_rels] {
            self.nodes(list);
        }
        if let Some(condition) = when_clause {
            self.node(condition);
        }
    }

    pub(super) fn event_trigger(&mut self, n: &'t pb::CreateEventTrigStmt) {
        let pb::CreateEventTrigStmt { trigname, eventname: _, whenclause, funcname } = n;
        self.act(Class::DdlCode, Some(name::bare(trigname)), ObjectKind::Other, "CREATE EVENT TRIGGER");
        self.mention_nodes(funcname);
        self.nodes(whenclause);
    }

    pub(super) fn alter_event_trigger(&mut self, n: &'t pb::AlterEventTrigStmt) {
        let pb::AlterEventTrigStmt { trigname, tgenabled: _ } = n;
        self.act(Class::DdlCode, Some(name::bare(trigname)), ObjectKind::Other, "ALTER EVENT TRIGGER");
    }

    pub(super) fn language(&mut self, n: &'t pb::CreatePLangStmt) {
        let pb::CreatePLangStmt { replace: _, plname, plhandler, plinline, plvalidator, pltrusted: _ } = n;
        self.act(Class::DdlCode, Some(name::bare(plname)), ObjectKind::Other, "CREATE LANGUAGE");
        for function in [plhandler, plinline, plvalidator] {
            if !function.is_empty() {
                self.mention_nodes(function);
            }
        }
    }

    pub(super) fn access_method(&mut self, n: &'t pb::CreateAmStmt) {
        let pb::CreateAmStmt { amname, handler_name, amtype: _ } = n;
        self.act(Class::DdlCode, Some(name::bare(amname)), ObjectKind::Other, "CREATE ACCESS METHOD");
        self.mention_nodes(handler_name);
    }

    /// CREATE AGGREGATE, OPERATOR, TYPE, COLLATION, TEXT SEARCH …
    pub(super) fn define(&mut self, n: &'t pb::DefineStmt) {
        let pb::DefineStmt {
            kind: of,
            oldstyle: _,
            defnames,
            args,
            definition,
            if_not_exists: _,
            replace: _,
        } = n;
        use pb::ObjectType as O;
        let object = object_type(*of);
        self.tagged(create_tag(object));
        let made = [
            (O::ObjectAggregate, Class::DdlCode, ObjectKind::Function),
            (O::ObjectOperator, Class::DdlCode, ObjectKind::Operator),
            (O::ObjectType, Class::DdlCode, ObjectKind::Type),
            (O::ObjectTsparser, Class::DdlCode, ObjectKind::Other),
            (O::ObjectTstemplate, Class::DdlCode, ObjectKind::Other),
            (O::ObjectCollation, Class::DdlCreate, ObjectKind::Other),
            (O::ObjectTsconfiguration, Class::DdlCreate, ObjectKind::Other),
            (O::ObjectTsdictionary, Class::DdlCreate, ObjectKind::Other),
        ];
        let Some((_, class, kind)) = made.into_iter().find(|(of, _, _)| *of == object) else {
            return self.unknown("CREATE of an object of unknown kind");
        };
        self.is(class);
        self.named_act(class, defnames, kind, self.facts.tag);
        self.nodes(args);
        self.code_options(definition);
    }

    pub(super) fn range_type(&mut self, n: &'t pb::CreateRangeStmt) {
        let pb::CreateRangeStmt { type_name, params } = n;
        self.named_act(Class::DdlCode, type_name, ObjectKind::Type, "CREATE TYPE AS RANGE");
        self.code_options(params);
    }

    pub(super) fn alter_operator(&mut self, n: &'t pb::AlterOperatorStmt) {
        let pb::AlterOperatorStmt { opername, options } = n;
        match opername {
            Some(operator) => {
                self.named_act(Class::DdlCode, &operator.objname, ObjectKind::Operator, "ALTER OPERATOR");
                self.operator_name(&operator.objname);
                generated::walk_object_with_args(self, operator);
            }
            None => self.unknown("ALTER OPERATOR without an operator"),
        }
        self.code_options(options);
    }

    pub(super) fn alter_type(&mut self, n: &'t pb::AlterTypeStmt) {
        let pb::AlterTypeStmt { type_name, options } = n;
        self.named_act(Class::DdlCode, type_name, ObjectKind::Type, "ALTER TYPE");
        self.code_options(options);
    }

    pub(super) fn operator_class(&mut self, n: &'t pb::CreateOpClassStmt) {
        let pb::CreateOpClassStmt { opclassname, opfamilyname, amname: _, datatype, items, is_default: _ } =
            n;
        self.named_act(Class::DdlCode, opclassname, ObjectKind::Other, "CREATE OPERATOR CLASS");
        if !opfamilyname.is_empty() {
            self.named_act(Class::DdlCode, opfamilyname, ObjectKind::Other, "CREATE OPERATOR CLASS");
        }
        if let Some(of) = datatype {
            self.type_name(of);
        }
        self.nodes(items);
    }

    pub(super) fn operator_class_item(&mut self, n: &'t pb::CreateOpClassItem) {
        let pb::CreateOpClassItem { itemtype, name, number: _, order_family, class_args, storedtype } = n;
        // OPCLASS_ITEM_OPERATOR 1, _FUNCTION 2, _STORAGETYPE 3 (parsenodes.h).
        match (itemtype, name) {
            (1, Some(operator)) => {
                self.operator_name(&operator.objname);
                generated::walk_object_with_args(self, operator);
            }
            (2, Some(function)) => self.function_object(function),
            (_, Some(other)) => generated::walk_object_with_args(self, other),
            (_, None) => {}
        }
        self.nodes(order_family);
        self.nodes(class_args);
        if let Some(of) = storedtype {
            self.type_name(of);
        }
    }

    pub(super) fn operator_family(&mut self, n: &'t pb::CreateOpFamilyStmt) {
        let pb::CreateOpFamilyStmt { opfamilyname, amname: _ } = n;
        self.named_act(Class::DdlCode, opfamilyname, ObjectKind::Other, "CREATE OPERATOR FAMILY");
    }

    pub(super) fn alter_operator_family(&mut self, n: &'t pb::AlterOpFamilyStmt) {
        let pb::AlterOpFamilyStmt { opfamilyname, amname: _, is_drop: _, items } = n;
        self.named_act(Class::DdlCode, opfamilyname, ObjectKind::Other, "ALTER OPERATOR FAMILY");
        self.nodes(items);
    }

    pub(super) fn conversion(&mut self, n: &'t pb::CreateConversionStmt) {
        let pb::CreateConversionStmt {
            conversion_name,
            for_encoding_name: _,
            to_encoding_name: _,
            func_name,
            def: _,
        } = n;
        self.named_act(Class::DdlCode, conversion_name, ObjectKind::Other, "CREATE CONVERSION");
        self.mention_nodes(func_name);
    }

    pub(super) fn create_cast(&mut self, n: &'t pb::CreateCastStmt) {
        let pb::CreateCastStmt { sourcetype, targettype, func, context: _, inout: _ } = n;
        for of in [sourcetype, targettype].into_iter().flatten() {
            self.type_name(of);
            self.named_act(Class::DdlCode, &of.names, ObjectKind::Type, "CREATE CAST");
        }
        if let Some(func) = func {
            self.function_object(func);
        }
    }

    pub(super) fn transform(&mut self, n: &'t pb::CreateTransformStmt) {
        let pb::CreateTransformStmt { replace: _, type_name, lang: _, fromsql, tosql } = n;
        if let Some(of) = type_name {
            self.type_name(of);
            self.named_act(Class::DdlCode, &of.names, ObjectKind::Type, "CREATE TRANSFORM");
        }
        for func in [fromsql, tosql].into_iter().flatten() {
            self.function_object(func);
        }
    }
}
