//! Functions, operators and casts by name: who competes for each.

use std::collections::HashSet;
use std::sync::Arc;

use super::ResolvedFunction;
use super::names::is_temporary;
use super::statement::Resolver;
use crate::catalog::builtins::{self, Category};
use crate::catalog::{FIRST_USER_OID, Routine, Snapshot, Type, TypeId};
use crate::class::Class;
use crate::statement::facts::{FunctionUse, ObjectKind, OperatorUse};

/// Oid of `text`, the preferred type of its category: an unknown literal becomes it where it can.
const TEXT: u32 = 25;

/// Pseudo-types that take a row: record, any, anyelement, anynonarray, anycompatible, anycompatiblenonarray.
const TAKE_ROWS: [u32; 6] = [2249, 2276, 2283, 2776, 5077, 5079];

/// The user types that a statement can hold values of.
#[derive(Debug, Default)]
pub(super) struct Reached {
    all: bool,
    types: HashSet<TypeId>,
}

impl Reached {
    pub(super) fn extend(&mut self, types: impl IntoIterator<Item = TypeId>) {
        self.types.extend(types);
    }

    /// It cannot be told.
    pub(super) fn everything(&mut self) {
        self.all = true;
    }

    /// Grows with the statement's calls; compared to see whether another round is needed.
    pub(super) fn size(&self) -> (bool, usize) {
        (self.all, self.types.len())
    }

    /// Whether reading or writing a value of one of them runs code.
    pub(super) fn runs_code(&self, snapshot: &Snapshot) -> bool {
        self.all || self.known_to_run_code(snapshot)
    }

    /// Whether one of those that are known does.
    pub(super) fn known_to_run_code(&self, snapshot: &Snapshot) -> bool {
        self.types.iter().any(|id| snapshot.type_of(*id).code.is_some())
    }

    /// Whether what is reached cannot be told.
    pub(super) fn is_unknown(&self) -> bool {
        self.all
    }

    fn has(&self, of_user: &Type, id: TypeId) -> bool {
        let taken = || of_user.taken_from.iter().any(|from| self.types.contains(from));
        self.all || of_user.everywhere || self.types.contains(&id) || taken()
    }
}

impl Resolver<'_> {
    /// Whether a value of that type can stand in this statement.
    fn met(&self, oid: u32) -> bool {
        if oid < FIRST_USER_OID {
            return true;
        }
        match self.snapshot.type_by_oid(oid) {
            Some(of_user) => of_user.closure.first().is_none_or(|id| self.reached.has(of_user, *id)),
            None => true,
        }
    }

    /// Whether an unknown literal could become that type for want of a built-in that takes a text there.
    fn string(&self, oid: u32) -> bool {
        self.snapshot.type_by_oid(oid).is_some_and(|of_user| of_user.string)
    }

    pub(super) fn call(&mut self, used: &FunctionUse) {
        let defined = |act: &crate::statement::facts::Act| {
            act.kind == ObjectKind::Function
                && act.class != Class::CallProcedure
                && act.object.as_ref() == Some(&used.name)
        };
        if used.arguments.is_none() && self.facts.acts.iter().any(defined) {
            return; // named as the object of an act, and judged as that
        }
        let name = used.name.name.as_str();
        if let Some(schema) = used.name.schema.as_deref().filter(|schema| is_temporary(schema)) {
            return self.unknown_function(schema, name);
        }
        let schemas = match &used.name.schema {
            Some(schema) => vec![Arc::from(schema.as_str())],
            None => self.lookup_path(),
        };
        let mut found = self.builtin_call(&schemas, used);
        if used.name.schema.is_none() {
            found |= self.made_call(name);
        }
        let built_in: Vec<&builtins::Builtin> = schemas
            .iter()
            .flat_map(|schema| builtins::functions(schema, name))
            .filter(|builtin| builtin.takes(used.arguments))
            .collect();
        for routine in self.snapshot.routines(name) {
            if !schemas.contains(&routine.schema) || !routine.may_take(used.arguments) {
                continue;
            }
            found = true;
            let competes = built_in.is_empty()
                || routine.arguments.iter().all(|oid| self.met(*oid))
                || self.catches_literal(&routine.arguments, &built_in);
            if competes {
                self.user_call(routine);
            }
        }
        // `f(x)` is a cast where f is a type (parse_func.c, FuncNameAsType).
        if used.arguments.is_none_or(|count| count == 1) {
            for schema in &schemas {
                found |= self.type_in(schema, name);
            }
        }
        if !found {
            for schema in schemas.iter().filter(|schema| schemas.len() == 1 || &***schema != "pg_catalog") {
                self.unknown_function(schema, name);
            }
            if used.name.schema.is_none() && schemas.len() == 1 {
                self.unknown_function("pg_catalog", name);
            }
        }
    }

    /// What the session made under a bare name competes with every built-in of that name, as what the snapshot shows does; its
    /// arguments are not known.
    fn made_call(&mut self, name: &str) -> bool {
        if !self.session.made_calls && !self.is_made(name) {
            return false;
        }
        let mut found = false;
        for schema in self.lookup_path() {
            if self.may_hold_made(&schema) {
                found = true;
                self.unknown_function(&schema, name);
            }
        }
        found
    }

    /// An argument of a string-like user type takes an unknown literal unless some built-in takes a text in its place.
    fn catches_literal(&self, arguments: &[u32], built_in: &[&builtins::Builtin]) -> bool {
        arguments.iter().enumerate().any(|(place, oid)| {
            self.string(*oid) && !built_in.iter().any(|other| other.arguments.get(place) == Some(&TEXT))
        })
    }

    /// Judges the built-ins of that name; `false` when there are none.
    fn builtin_call(&mut self, schemas: &[Arc<str>], used: &FunctionUse) -> bool {
        let name = used.name.name.as_str();
        let mut found = false;
        for schema in schemas {
            for builtin in
                builtins::functions(schema, name).iter().filter(|builtin| builtin.takes(used.arguments))
            {
                found = true;
                self.builtin(schema, name, builtin.category, used.arguments.is_some());
            }
            for routine in self.snapshot.unreviewed_functions(name) {
                if routine.schema == *schema && routine.may_take(used.arguments) {
                    found = true;
                    self.unknown_function(schema, name);
                }
            }
        }
        found
    }

    fn builtin(&mut self, schema: &Arc<str>, name: &str, category: Category, called: bool) {
        if category == Category::TextSearch
            && let Some(reason) = self.snapshot.text_search()
        {
            let reason = reason.clone();
            self.permit(schema, name, "", Class::CallFunction);
            return self.named(format!("{name} uses text search, and {reason}"));
        }
        if category.reviewed() {
            return;
        }
        self.unproven(format!("{schema}.{name} {}", category.says()));
        if !(called && category.judged_by_facts()) {
            self.permit_of(schema, name, "", category.class(), Some(category));
        }
        if category.barrier() {
            self.named(format!("{schema}.{name} {}", category.says()));
        }
    }

    fn user_call(&mut self, routine: &Routine) {
        let class = if routine.kind == 'p' { Class::CallProcedure } else { Class::CallFunction };
        let reason = format!("{}.{}({}) is no built-in", routine.schema, routine.name, routine.signature);
        // Reviewed code of an extension asks for its permit, as all who are called do, and is no barrier.
        let category = routine.computes.then_some(Category::Pure);
        self.permit_of(&routine.schema, &routine.name, &routine.signature, class, category);
        if routine.computes {
            self.unproven(reason)
        } else {
            self.named(reason)
        }
        if let Some(result) = self.snapshot.type_by_oid(routine.result) {
            self.reached.extend(result.closure.iter().copied());
        }
    }

    pub(super) fn unknown_function(&mut self, schema: &str, name: &str) {
        self.permit(&Arc::from(schema), name, "", Class::CallFunction);
        self.named(format!("the catalog snapshot knows no reviewed function {schema}.{name}"));
        self.reached.everything();
    }

    pub(super) fn permit(&mut self, schema: &Arc<str>, name: &str, arguments: &str, class: Class) {
        self.permit_of(schema, name, arguments, class, None);
    }

    /// One entry for each function and class, with the worst of what a call of it may do.
    fn permit_of(
        &mut self,
        schema: &Arc<str>,
        name: &str,
        arguments: &str,
        class: Class,
        category: Option<Category>,
    ) {
        let function = ResolvedFunction {
            schema: schema.clone(),
            name: name.into(),
            arguments: arguments.into(),
            class,
            category,
        };
        if let Some(known) = self.functions.add(function) {
            known.take_worst(category);
        }
    }

    pub(super) fn operator(&mut self, used: &OperatorUse) {
        let schemas = match &used.schema {
            Some(schema) => vec![Arc::from(schema.as_str())],
            None => self.lookup_path(),
        };
        let in_catalog = schemas.iter().any(|schema| &**schema == "pg_catalog");
        let built_in = if in_catalog { builtins::operators(&used.name) } else { &[] };
        let mut found = !built_in.is_empty();
        if used.schema.is_none() {
            found |= self.made_call(&used.name);
        }
        let search = built_in.iter().any(|operator| operator.category == Category::TextSearch);
        if search && let Some(reason) = self.snapshot.text_search() {
            let reason = reason.clone();
            self.permit(&Arc::from("pg_catalog"), &used.name, "", Class::CallFunction);
            self.named(format!("operator {} uses text search, and {reason}", used.name));
        }
        if in_catalog && self.snapshot.has_unreviewed_operator(&used.name) {
            found = true;
            self.unknown_function("pg_catalog", &used.name);
        }
        for operator in self.snapshot.operators(&used.name) {
            if !schemas.contains(&operator.schema) {
                continue;
            }
            found = true;
            let alike: Vec<_> =
                built_in.iter().filter(|other| (other.left == 0) == (operator.left == 0)).collect();
            let met = |oid: u32| oid == 0 || self.met(oid);
            let strings = self.string(operator.left) || self.string(operator.right);
            let literal =
                strings && !alike.iter().any(|other| other.right == TEXT && matches!(other.left, 0 | TEXT));
            if alike.is_empty() || met(operator.left) && met(operator.right) || literal {
                if !operator.computes {
                    self.permit(&operator.function_schema, &operator.function, "", Class::CallFunction);
                    self.named(format!(
                        "operator {}.{} is no built-in and runs {}.{}",
                        operator.schema, used.name, operator.function_schema, operator.function
                    ));
                }
                if let Some(result) = self.snapshot.type_by_oid(operator.result) {
                    self.reached.extend(result.closure.iter().copied());
                }
            }
        }
        if !found {
            for schema in &schemas {
                self.unknown_function(schema, &used.name);
            }
        }
    }

    /// `t.f` calls f on the row of t where t has no such column (parse_func.c, ParseComplexProjection).
    pub(super) fn attribute(&mut self, name: &str) {
        let schemas = self.lookup_path();
        for routine in self.snapshot.routines(name) {
            let first = routine.arguments.first().copied();
            let takes_row = first.is_some_and(|oid| {
                TAKE_ROWS.contains(&oid)
                    || oid >= FIRST_USER_OID
                        && self.snapshot.type_by_oid(oid).is_none_or(|of_user| of_user.everywhere)
            });
            if schemas.contains(&routine.schema) && routine.may_take(Some(1)) && takes_row {
                self.user_call(routine);
            }
        }
    }

    /// A cast, parameter or the like whose type runs code of users.
    pub(super) fn type_code(&mut self, code: &Arc<str>, of_user: &Type) {
        for function in &of_user.functions {
            self.permit(&function.schema, &function.name, &function.arguments, Class::CallFunction);
        }
        if of_user.functions.is_empty() {
            self.permit(&of_user.schema, &of_user.name, "", Class::CallFunction);
        }
        self.runs(code.clone());
    }

    /// Types that Parse declares for its parameters: their input functions run at Bind.
    pub(super) fn parameters(&mut self) {
        for oid in self.session.parameter_types {
            if *oid < FIRST_USER_OID {
                continue;
            }
            match self.snapshot.type_by_oid(*oid) {
                Some(of_user) => {
                    self.reached.extend(of_user.closure.iter().copied());
                    if let Some(code) = &of_user.code {
                        self.type_code(&code.clone(), of_user);
                    }
                }
                None => {
                    self.reached.everything();
                    self.runs(format!(
                        "a parameter is declared of type {oid}, which the catalog snapshot does not know"
                    ));
                }
            }
        }
    }
}
