//! Queries: SELECT, INSERT, UPDATE, DELETE, MERGE, WITH and FROM.
//!
//! Owns: which class each relation gets and which names WITH hides. May not: look at columns' meaning.
//!
//! WITH, as the server scopes it (parse_cte.c): a plain item sees the items before it, a recursive list sees itself whole;
//! only unqualified names match; a target of INSERT, UPDATE, DELETE or MERGE never matches.

use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::predicate::{self, Target};
use super::{Locking, Outer, Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{FunctionUse, NameUse, ObjectKind, Predicate};
use crate::statement::generated::{self, Visitor};

impl<'t> Walker<'t> {
    /// A relation met in FROM, or anywhere that has no meaning of its own.
    pub(super) fn range_var_met(&mut self, n: &'t pb::RangeVar) {
        let pb::RangeVar { catalogname, schemaname, relname, inh: _, relpersistence: _, alias, location: _ } =
            n;
        let hidden = catalogname.is_empty()
            && schemaname.is_empty()
            && self.hidden.get(relname.as_str()).is_some_and(|count| *count > 0);
        if self.access != Class::ReadSelect {
            return self.relation(n, self.access, Predicate::NotApplicable);
        }
        if hidden {
            return;
        }
        self.relation(n, Class::ReadSelect, Predicate::NotApplicable);
        let called = alias.as_ref().map_or(relname.as_str(), |a| a.aliasname.as_str());
        let locked = match &self.locking {
            Locking::None => false,
            Locking::All => true,
            Locking::Named(names) => names.contains(called),
        };
        if locked {
            self.relation(n, Class::SessionLock, Predicate::NotApplicable);
        }
    }

    /// Runs `f` with relations taken as read.
    fn reading(&mut self, f: impl FnOnce(&mut Self)) {
        let access = std::mem::replace(&mut self.access, Class::ReadSelect);
        f(self);
        self.access = access;
    }

    /// Visits WITH and leaves its names in scope; the result restores the outer scope by `leave_ctes`.
    fn enter_with(&mut self, with: Option<&'t pb::WithClause>) -> Outer {
        let outer = Outer { names: self.ctes.len(), withs: self.withs.len() };
        let Some(clause) = with else { return outer };
        let pb::WithClause { ctes, recursive, location: _ } = clause;
        self.withs.push(clause);
        let items = ctes.iter().map(|node| match kind(Some(node)) {
            Some(N::CommonTableExpr(item)) => Some(&**item),
            Some(_) | None => None,
        });
        let items: Option<Vec<&'t pb::CommonTableExpr>> = items.collect();
        let Some(items) = items else {
            self.unknown("a WITH item of unknown kind");
            return outer;
        };
        if *recursive {
            for item in &items {
                self.enter_cte(&item.ctename);
            }
        }
        for item in items {
            // Locks of the outer query do not reach into WITH (parse_clause.c, transformLockingClause).
            let locking = std::mem::replace(&mut self.locking, Locking::None);
            self.reading(|w| generated::walk_common_table_expr(w, item));
            self.locking = locking;
            if !*recursive {
                self.enter_cte(&item.ctename);
            }
        }
        outer
    }

    pub(super) fn select(&mut self, n: &'t pb::SelectStmt) {
        self.reading(|w| w.select_reading(n));
    }

    fn select_reading(&mut self, n: &'t pb::SelectStmt) {
        let pb::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op,
            all: _,
            larg,
            rarg,
        } = n;
        let outer = self.enter_with(with_clause.as_ref());
        let row = self.row_of_settings(n);
        let outer_row = std::mem::replace(&mut self.row_setting, row);
        let inherited = self.locking.clone();
        self.lock(locking_clause);
        self.nodes(from_clause);
        for arm in [larg, rarg].into_iter().flatten() {
            self.select_stmt(arm);
        }
        self.locking = Locking::None;
        if let Some(into) = into_clause {
            self.into(into);
        }
        for list in [distinct_clause, target_list, group_clause, window_clause, values_lists, sort_clause] {
            self.nodes(list);
        }
        for node in [where_clause, having_clause, limit_offset, limit_count].into_iter().flatten() {
            self.node(node);
        }
        if pb::SetOperation::try_from(*op).is_err() {
            self.unknown("a set operation of unknown kind");
        }
        self.locking = inherited;
        self.row_setting = outer_row;
        self.leave_ctes(outer);
    }

    /// FOR UPDATE and its kin: what they lock in this query's FROM, on top of what an outer query locks.
    fn lock(&mut self, clauses: &'t [pb::Node]) {
        for clause in clauses {
            let Some(N::LockingClause(pb::LockingClause { locked_rels, strength: _, wait_policy: _ })) =
                kind(Some(clause))
            else {
                self.unknown("a locking clause of unknown kind");
                continue;
            };
            self.act(Class::SessionLock, None, ObjectKind::None, "FOR UPDATE or its kin");
            if locked_rels.is_empty() {
                self.locking = Locking::All;
                continue;
            }
            let named = locked_rels.iter().filter_map(|r| match kind(Some(r)) {
                Some(N::RangeVar(range)) => Some(range.relname.as_str()),
                Some(_) | None => None,
            });
            match &mut self.locking {
                Locking::All => {}
                Locking::Named(names) => Rc::make_mut(names).extend(named),
                Locking::None => self.locking = Locking::Named(Rc::new(named.collect())),
            }
        }
    }

    /// SELECT INTO and CREATE TABLE AS: the relation that comes to be.
    pub(super) fn into(&mut self, n: &'t pb::IntoClause) {
        let pb::IntoClause {
            rel,
            col_names,
            access_method: _,
            options,
            on_commit: _,
            table_space_name: _,
            view_query,
            skip_data: _,
        } = n;
        if view_query.is_some() {
            self.unknown("IntoClause.view_query");
        }
        match rel {
            Some(rel) => {
                let class = created(rel);
                self.relation(rel, class, Predicate::NotApplicable);
                // The statement as a whole is one that creates, whatever its first word.
                if self.facts.class == Class::ReadSelect {
                    self.is(class);
                }
            }
            None => self.unknown("INTO without a relation"),
        }
        self.nodes(col_names);
        self.nodes(options);
    }

    pub(super) fn subselect(&mut self, n: &'t pb::RangeSubselect) {
        let pb::RangeSubselect { lateral: _, subquery, alias } = n;
        // FOR UPDATE reaches into a sub-select in FROM whole, or when OF names its alias.
        let inner = match (&self.locking, alias) {
            (Locking::All, _) => Locking::All,
            (Locking::Named(names), Some(alias)) if names.contains(alias.aliasname.as_str()) => Locking::All,
            (Locking::Named(_) | Locking::None, _) => Locking::None,
        };
        let outer = std::mem::replace(&mut self.locking, inner);
        if let Some(query) = subquery {
            self.node(query);
        }
        self.locking = outer;
    }

    pub(super) fn table_functions(&mut self, n: &'t pb::RangeFunction) {
        let pb::RangeFunction { lateral: _, ordinality: _, is_rowsfrom: _, functions, alias, coldeflist } = n;
        for function in functions {
            match unnest_of_several(function) {
                Some(call) => {
                    self.nodes(&call.args);
                    for _ in &call.args {
                        self.function(FunctionUse {
                            name: NameUse {
                                catalog: None,
                                schema: Some("pg_catalog".into()),
                                name: "unnest".into(),
                            },
                            arguments: Some(1),
                            constants: Vec::new(),
                            implied: true,
                            offset: usize::try_from(call.location).ok(),
                        });
                    }
                }
                None => self.node(function),
            }
        }
        if let Some(alias) = alias {
            self.alias(alias);
        }
        self.nodes(coldeflist);
    }

    pub(super) fn join(&mut self, n: &'t pb::JoinExpr) {
        let pb::JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias: _,
            quals,
            alias,
            rtindex: _,
        } = n;
        // FOR UPDATE OF j, where j names a join, is refused by the server; an alias hides the names below it.
        let outer = self.locking.clone();
        if alias.is_some() && matches!(self.locking, Locking::Named(_)) {
            self.locking = Locking::All;
        }
        for side in [larg, rarg].into_iter().flatten() {
            self.node(side);
        }
        self.locking = Locking::None;
        if *is_natural || !using_clause.is_empty() {
            self.operator(None, "=");
        }
        self.nodes(using_clause);
        if let Some(quals) = quals {
            self.node(quals);
        }
        self.locking = outer;
    }

    pub(super) fn table_sample(&mut self, n: &'t pb::RangeTableSample) {
        let pb::RangeTableSample { relation, method, args, repeatable, location } = n;
        if let Some(relation) = relation {
            self.node(relation);
        }
        self.nodes(args);
        if let Some(seed) = repeatable {
            self.node(seed);
        }
        match name::from_nodes(method) {
            Some(name) => self.function(FunctionUse {
                name,
                arguments: None,
                constants: Vec::new(),
                implied: true,
                offset: usize::try_from(*location).ok(),
            }),
            None => self.unknown("a sampling method without a name"),
        }
    }

    pub(super) fn insert(&mut self, n: &'t pb::InsertStmt) {
        let pb::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = n;
        let outer = self.enter_with(with_clause.as_ref());
        match relation {
            Some(target) => {
                self.relation(target, Class::WriteInsert, Predicate::NotApplicable);
                if let Some(conflict) = on_conflict_clause {
                    self.on_conflict(target, conflict, select_stmt.as_deref());
                }
                self.returning(target, returning_clause.as_ref());
            }
            None => self.unknown("INSERT without a relation"),
        }
        self.nodes(cols);
        if let Some(source) = select_stmt {
            self.node(source);
        }
        self.leave_ctes(outer);
    }

    /// DO UPDATE is an update of the rows that the arbiter matches: restricted by it, unless the rows to insert come out
    /// of the target itself, in which case only the action's own WHERE counts.
    fn on_conflict(
        &mut self,
        target: &'t pb::RangeVar,
        n: &'t pb::OnConflictClause,
        source: Option<&'t pb::Node>,
    ) {
        let pb::OnConflictClause { action, infer, target_list, where_clause, location: _ } = n;
        use pb::OnConflictAction as A;
        match A::try_from(*action).unwrap_or(A::Undefined) {
            A::OnconflictUpdate => {
                let own = Target::of(target, &[], source, self.withs());
                let restricted = !own.fed_by_itself() || predicate::restricts(&own, where_clause.as_deref());
                self.relation(target, Class::WriteUpdate, graded(restricted));
            }
            A::OnconflictNothing | A::OnconflictNone => {}
            A::Undefined => self.unknown("ON CONFLICT of unknown kind"),
        }
        self.reading(|w| {
            if let Some(infer) = infer {
                w.infer_clause(infer);
            }
            w.nodes(target_list);
            if let Some(condition) = where_clause {
                w.node(condition);
            }
        });
    }

    /// RETURNING shows the target's rows: a read of it.
    fn returning(&mut self, target: &'t pb::RangeVar, n: Option<&'t pb::ReturningClause>) {
        if let Some(clause) = n {
            self.relation(target, Class::ReadSelect, Predicate::NotApplicable);
            self.reading(|w| w.returning_clause(clause));
        }
    }

    pub(super) fn update(&mut self, n: &'t pb::UpdateStmt) {
        let pb::UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = n;
        let outer = self.enter_with(with_clause.as_ref());
        match relation {
            Some(target) => {
                let own = Target::of(target, from_clause, None, self.withs());
                let restricted = predicate::restricts(&own, where_clause.as_deref());
                self.relation(target, Class::WriteUpdate, graded(restricted));
                self.returning(target, returning_clause.as_ref());
            }
            None => self.unknown("UPDATE without a relation"),
        }
        self.reading(|w| {
            w.nodes(target_list);
            w.nodes(from_clause);
            if let Some(condition) = where_clause {
                w.node(condition);
            }
        });
        self.leave_ctes(outer);
    }

    pub(super) fn delete(&mut self, n: &'t pb::DeleteStmt) {
        let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = n;
        let outer = self.enter_with(with_clause.as_ref());
        match relation {
            Some(target) => {
                let own = Target::of(target, using_clause, None, self.withs());
                let restricted = predicate::restricts(&own, where_clause.as_deref());
                self.relation(target, Class::WriteDelete, graded(restricted));
                self.returning(target, returning_clause.as_ref());
            }
            None => self.unknown("DELETE without a relation"),
        }
        self.reading(|w| {
            w.nodes(using_clause);
            if let Some(condition) = where_clause {
                w.node(condition);
            }
        });
        self.leave_ctes(outer);
    }

    pub(super) fn merge(&mut self, n: &'t pb::MergeStmt) {
        let pb::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = n;
        let outer = self.enter_with(with_clause.as_ref());
        match relation {
            Some(target) => {
                let source = source_relation.as_deref().map_or(&[][..], std::slice::from_ref);
                let own = Target::of(target, source, None, self.withs());
                self.relation(target, Class::WriteMerge, Predicate::NotApplicable);
                let joined = predicate::restricts(&own, join_condition.as_deref());
                for clause in merge_when_clauses {
                    self.merge_action(target, &own, joined, clause);
                }
                self.returning(target, returning_clause.as_ref());
            }
            None => self.unknown("MERGE without a relation"),
        }
        self.reading(|w| {
            for node in [source_relation, join_condition].into_iter().flatten() {
                w.node(node);
            }
        });
        self.leave_ctes(outer);
    }

    /// One WHEN: an insert, update or delete of its own. Rows that no source row matches are not restricted by the join.
    fn merge_action(
        &mut self,
        target: &'t pb::RangeVar,
        own: &Target<'t>,
        joined: bool,
        clause: &'t pb::Node,
    ) {
        let Some(N::MergeWhenClause(clause)) = kind(Some(clause)) else {
            return self.unknown("a MERGE action of unknown kind");
        };
        let pb::MergeWhenClause { match_kind, command_type, r#override: _, condition, target_list, values } =
            &**clause;
        use pb::{CmdType, MergeMatchKind as M};
        let by_join = match M::try_from(*match_kind).unwrap_or(M::Undefined) {
            M::MergeWhenMatched => joined,
            M::MergeWhenNotMatchedBySource | M::MergeWhenNotMatchedByTarget => false,
            M::Undefined => return self.unknown("a MERGE action of unknown kind"),
        };
        let restricted = by_join || predicate::restricts(own, condition.as_deref());
        match CmdType::try_from(*command_type) {
            Ok(CmdType::CmdInsert) => self.relation(target, Class::WriteInsert, Predicate::NotApplicable),
            Ok(CmdType::CmdUpdate) => self.relation(target, Class::WriteUpdate, graded(restricted)),
            Ok(CmdType::CmdDelete) => self.relation(target, Class::WriteDelete, graded(restricted)),
            Ok(CmdType::CmdNothing) => {}
            Ok(
                CmdType::Undefined
                | CmdType::CmdUnknown
                | CmdType::CmdSelect
                | CmdType::CmdMerge
                | CmdType::CmdUtility,
            )
            | Err(_) => self.unknown("a MERGE action of unknown kind"),
        }
        self.reading(|w| {
            if let Some(condition) = condition {
                w.node(condition);
            }
            w.nodes(target_list);
            w.nodes(values);
        });
    }
}

/// Class of a relation that comes to be: temporary or not.
pub(super) fn created(rel: &pb::RangeVar) -> Class {
    if rel.relpersistence == "t" || rel.schemaname == "pg_temp" { Class::DdlTemp } else { Class::DdlCreate }
}

fn graded(restricted: bool) -> Predicate {
    if restricted { Predicate::Present } else { Predicate::Absent }
}

/// `unnest(a, b)` in FROM without a schema, and without anything that only aggregates have: the server makes one call of its own
/// `pg_catalog.unnest` of each argument (`transformRangeFunction`, src/backend/parser/parse_clause.c). The node is the pair of
/// function and column definitions.
fn unnest_of_several(node: &pb::Node) -> Option<&pb::FuncCall> {
    let Some(N::List(pair)) = kind(Some(node)) else { return None };
    let (function, definitions) = pair.items.split_first()?;
    let Some(N::FuncCall(call)) = kind(Some(function)) else { return None };
    let none = |node: &pb::Node| match kind(Some(node)) {
        None => true,
        Some(N::List(list)) => list.items.is_empty(),
        Some(_) => false,
    };
    let plain = call.agg_order.is_empty()
        && call.agg_filter.is_none()
        && call.over.is_none()
        && !call.agg_star
        && !call.agg_distinct
        && !call.func_variadic;
    let named = name::strings(&call.funcname).as_deref() == Some(&["unnest"]);
    (named && plain && call.args.len() > 1 && definitions.iter().all(none)).then_some(&**call)
}
