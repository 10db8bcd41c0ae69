//! Whether a write is restricted: config.md's `predicate = "absent"`, by form alone.
//!
//! Owns: one question, "does this condition look at the target's rows and is it not true by its form?". May not: prove
//! anything about data. True by form are: no condition; no column of the target in it; an expression compared with itself
//! (also through a self-join); IS NOT NULL; LIKE '%'; an OR with such; an AND of such only. Fails closed: a column whose
//! owner the text does not show counts as no column of the target.

mod covers;
mod forms;
mod gives;
mod patterns;
mod same;
mod sublink;

use std::cell::Cell;
use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use self::covers::{Arm, agree, arms, covers};
use self::forms::{as_truth, boolean};
use self::patterns::{any_text, any_text_of};
use self::same::same;
use self::sublink::{Asks, asked, chooses, counted, finds_itself, sublink};
use super::{kind, name};
use crate::statement::generated::{self, Visitor};

/// WITH queries in scope that are told apart; a name beyond them counts as a blind reading of the target.
const CTES_MAX: usize = 64;
/// Nodes that reading one write's condition may visit, since nested readings of the target multiply; then it counts as
/// one that holds always.
const VISITS_MAX: u32 = 2_000_000;

/// What stands around a condition: WITH queries, and what is left of the work.
#[derive(Clone)]
struct Scope<'t> {
    /// Name, and whether the query yields every row of the target. Innermost last.
    ctes: Vec<(&'t str, bool)>,
    overflow: bool,
    left: Rc<Cell<u32>>,
}

impl<'t> Scope<'t> {
    fn of(relation: (&'t str, &'t str), withs: impl Iterator<Item = &'t pb::WithClause>) -> Self {
        let mut scope = Scope { ctes: Vec::new(), overflow: false, left: Rc::new(Cell::new(VISITS_MAX)) };
        withs.for_each(|with| scope.enter(relation, with));
        scope
    }

    fn enter(&mut self, relation: (&'t str, &'t str), with: &'t pb::WithClause) {
        for item in &with.ctes {
            let Some(N::CommonTableExpr(item)) = kind(Some(item)) else { continue };
            if self.ctes.len() >= CTES_MAX {
                self.overflow = true;
                return;
            }
            let blind = match kind(item.ctequery.as_deref()) {
                Some(N::SelectStmt(query)) => !chooses(relation, None, self, query, Asks::Rows),
                // What it changes was graded by itself.
                Some(_) | None => false,
            };
            self.ctes.push((item.ctename.as_str(), blind));
        }
    }

    /// Whether an unqualified name is a WITH query, and then whether a blind one.
    fn cte(&self, name: &str) -> Option<bool> {
        let known = self.ctes.iter().rev().find(|(n, _)| *n == name).map(|(_, blind)| *blind);
        known.or(self.overflow.then_some(true))
    }

    fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Takes one visit; `false` when none is left.
    fn spend(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

/// The target of a write and the names that columns of it may carry.
pub(super) struct Target<'t> {
    /// What a qualified column of the target says.
    alias: &'t str,
    relation: (&'t str, &'t str),
    /// Other relations stand beside it, so that an unqualified column may be theirs.
    joined: bool,
    /// Aliases of the same relation beside it: columns compared across are compared with themselves.
    twins: Vec<&'t str>,
    /// The rows to insert come out of the relation itself.
    fed_by_itself: bool,
    scope: Scope<'t>,
}

impl<'t> Target<'t> {
    /// `others` is FROM, USING or MERGE's source; `source` what INSERT inserts; `withs` the WITH clauses in scope.
    pub(super) fn of(
        target: &'t pb::RangeVar,
        others: &'t [pb::Node],
        source: Option<&'t pb::Node>,
        withs: impl Iterator<Item = &'t pb::WithClause>,
    ) -> Self {
        let relation = (target.schemaname.as_str(), target.relname.as_str());
        let alias = target.alias.as_ref().map_or(target.relname.as_str(), |a| a.aliasname.as_str());
        let scope = Scope::of(relation, withs);
        let mut from = From { relation, scope: &scope, twins: Vec::new(), named: false };
        from.nodes(others);
        let twins = from.twins;
        let fed_by_itself = match kind(source) {
            Some(N::SelectStmt(query)) => !chooses(relation, None, &scope, query, Asks::Rows),
            Some(_) | None => false,
        };
        Target { alias, relation, joined: !others.is_empty(), twins, fed_by_itself, scope }
    }

    /// Whether the rows to insert are read from the target.
    pub(super) fn fed_by_itself(&self) -> bool {
        self.fed_by_itself
    }

    /// Whether a name is that of the target's row (`twin`: or of the same relation beside it).
    fn goes_by(&self, name: &str, twin: bool) -> bool {
        name == self.alias || (twin && self.twins.contains(&name))
    }

    /// The bare column name, where the reference is one of the target's (`twin`: or of the same relation beside it).
    fn column(&self, n: &'t pb::ColumnRef, twin: bool) -> Option<&'t str> {
        let parts = name::strings(&n.fields)?;
        match parts.as_slice() {
            [column] if !self.joined || twin => Some(column),
            [alias, column] if self.goes_by(alias, twin) => Some(column),
            [schema, relation, column]
                if (*schema, *relation) == self.relation && self.goes_by(relation, twin) =>
            {
                Some(column)
            }
            _ => None,
        }
    }
}

/// Finds readings of the whole relation among FROM items.
struct From<'a, 't> {
    relation: (&'t str, &'t str),
    scope: &'a Scope<'t>,
    twins: Vec<&'t str>,
    named: bool,
}

impl<'t> From<'_, 't> {
    fn twin(&mut self, alias: Option<&'t pb::Alias>, name: Option<&'t str>) {
        self.named = true;
        self.twins.extend(alias.map(|a| a.aliasname.as_str()).or(name));
    }
}

impl<'t> Visitor<'t> for From<'_, 't> {
    fn refused(&mut self, _: &'static str) {}

    fn range_var(&mut self, n: &'t pb::RangeVar) {
        let (schema, relation) = self.relation;
        let cte = if n.schemaname.is_empty() { self.scope.cte(&n.relname) } else { None };
        let schemas_agree = schema.is_empty() || n.schemaname.is_empty() || n.schemaname == schema;
        if cte.unwrap_or(n.relname == relation && schemas_agree) {
            self.twin(n.alias.as_ref(), Some(&n.relname));
        }
    }

    /// A sub-select goes by its alias; one that leaves rows out is another relation.
    fn range_subselect(&mut self, n: &'t pb::RangeSubselect) {
        let blind = match kind(n.subquery.as_deref()) {
            // LATERAL (SELECT t.id): the row's own columns by another name.
            Some(N::SelectStmt(query)) if n.lateral && query.from_clause.is_empty() => true,
            Some(N::SelectStmt(query)) => !chooses(self.relation, None, self.scope, query, Asks::Rows),
            Some(_) | None => true,
        };
        if blind {
            self.twin(n.alias.as_ref(), None);
        }
    }
}

/// Whether the condition restricts a write to `target`.
pub(super) fn restricts<'t>(target: &Target<'t>, condition: Option<&'t pb::Node>) -> bool {
    condition.is_some_and(|c| grade(target, c, false)) && !target.scope.is_spent()
}

/// `true`: it looks at the target's rows and is not true by its form. `negated`: read under an odd number of NOTs, where
/// AND is OR and the reverse.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "an expression of any other kind restricts if it looks at the rows"
)]
fn grade<'t>(target: &Target<'t>, node: &'t pb::Node, negated: bool) -> bool {
    let Some(found) = kind(Some(node)).filter(|_| target.scope.spend()) else { return false };
    match found {
        N::BoolExpr(bool_expr) => {
            let pb::BoolExpr { xpr: _, boolop, args, location: _ } = &**bool_expr;
            let mut grades = args.iter();
            match (pb::BoolExprType::try_from(*boolop), negated) {
                (Ok(pb::BoolExprType::NotExpr), _) => grades.all(|a| grade(target, a, !negated)),
                (Ok(pb::BoolExprType::AndExpr), false) | (Ok(pb::BoolExprType::OrExpr), true) => {
                    grades.any(|a| grade(target, a, negated))
                }
                (Ok(pb::BoolExprType::OrExpr), false) | (Ok(pb::BoolExprType::AndExpr), true) => {
                    let arms = arms(target, args, negated);
                    !covers(target, &arms)
                        && arms.single.iter().all(|arm| grade(target, arm.node, arm.negated))
                }
                (Ok(pb::BoolExprType::Undefined) | Err(_), _) => false,
            }
        }
        N::NullTest(test) => {
            let pb::NullTest { xpr: _, arg, nulltesttype, argisrow: _, location: _ } = &**test;
            let not_null = pb::NullTestType::try_from(*nulltesttype) != Ok(pb::NullTestType::IsNull);
            not_null == negated && arg.as_deref().is_some_and(|a| looks(target, a) && !always_null(target, a))
        }
        N::BooleanTest(test) => boolean_test(target, test, negated),
        N::AExpr(expression) => {
            counted(target, &Arm { node, negated }).unwrap_or_else(|| compares(target, expression, negated))
        }
        N::SubLink(link) => sublink(target, link, negated),
        N::CaseExpr(case) => case_expression(target, case, negated),
        N::CoalesceExpr(coalesce) => {
            let pb::CoalesceExpr { xpr: _, coalescetype: _, coalescecollid: _, args, location: _ } =
                &**coalesce;
            let mut live = args.iter().filter(|a| !is_false(a)).peekable();
            live.peek().is_some() && live.all(|a| grade(target, a, negated))
        }
        N::TypeCast(cast) => cast.arg.as_deref().is_some_and(|a| grade(target, a, negated)),
        N::CollateClause(clause) => clause.arg.as_deref().is_some_and(|a| grade(target, a, negated)),
        N::FuncCall(call) if any_text_of(call).is_some_and(|positive| positive != negated) => false,
        // The function of an operator (`int4eq(id, id)`).
        N::FuncCall(call) if matches!(call.args.as_slice(), [a, b] if same(target, true, a, b)) => false,
        // One row: that of the cursor.
        N::CurrentOfExpr(_) => true,
        other => looks_kind(target, other),
    }
}

fn boolean_test<'t>(target: &Target<'t>, test: &'t pb::BooleanTest, negated: bool) -> bool {
    let pb::BooleanTest { xpr: _, arg, booltesttype, location: _ } = test;
    let Some(arg) = arg.as_deref() else { return false };
    use pb::BoolTestType as B;
    match B::try_from(*booltesttype).unwrap_or(B::Undefined) {
        B::IsNotTrue | B::IsNotFalse if !negated && always_null(target, arg) => false,
        B::IsTrue | B::IsFalse if negated && always_null(target, arg) => false,
        B::IsTrue | B::IsNotFalse => grade(target, arg, negated),
        B::IsFalse | B::IsNotTrue => grade(target, arg, !negated),
        // x IS NOT UNKNOWN is x IS NOT NULL.
        B::IsUnknown => !negated && looks(target, arg) && !always_null(target, arg),
        B::IsNotUnknown => negated && looks(target, arg) && !always_null(target, arg),
        B::Undefined => false,
    }
}

fn compares<'t>(target: &Target<'t>, n: &'t pb::AExpr, negated: bool) -> bool {
    let pb::AExpr {
        kind: form,
        name: operator,
        lexpr,
        rexpr,
        rexpr_list_start: _,
        rexpr_list_end: _,
        location: _,
    } = n;
    let (Some(left), Some(right)) = (lexpr.as_deref(), rexpr.as_deref()) else {
        return rexpr.as_deref().is_some_and(|r| looks(target, r));
    };
    if !looks(target, left) && !looks(target, right) {
        return false;
    }
    if let Some((truth, positive)) = as_truth(n, left, right) {
        return grade(target, truth, negated == positive);
    }
    let said = operator.last().and_then(name::string).unwrap_or_default();
    use pb::AExprKind as K;
    match K::try_from(*form).unwrap_or(K::Undefined) {
        // x IS DISTINCT FROM NULL is x IS NOT NULL.
        K::AexprDistinct | K::AexprNotDistinct if is_null(right) || is_null(left) => {
            let other = if is_null(right) { left } else { right };
            negated == (*form == K::AexprDistinct as i32) && !always_null(target, other)
        }
        K::AexprOp | K::AexprLike | K::AexprIlike | K::AexprSimilar
            if any_text(said, right).is_some_and(|positive| positive != negated) =>
        {
            false
        }
        K::AexprOp if matches!(said, "<" | ">") => !same(target, false, left, right),
        K::AexprOp | K::AexprDistinct | K::AexprNotDistinct => equates(target, n, left, right),
        K::AexprNullif | K::AexprLike | K::AexprIlike | K::AexprSimilar => !same(target, true, left, right),
        K::AexprIn | K::AexprOpAny | K::AexprOpAll => member(target, n, (left, right), negated),
        K::AexprBetween | K::AexprNotBetween | K::AexprBetweenSym | K::AexprNotBetweenSym => {
            match kind(Some(right)) {
                Some(N::List(pb::List { items })) => !items.iter().all(|i| same(target, true, left, i)),
                Some(_) | None => false,
            }
        }
        K::Undefined => false,
    }
}

/// `=` and its kin, also between conditions and with what a sub-select gives.
fn equates<'t>(target: &Target<'t>, n: &'t pb::AExpr, left: &'t pb::Node, right: &'t pb::Node) -> bool {
    let said = n.name.last().and_then(name::string);
    let operation = n.kind == pb::AExprKind::AexprOp as i32;
    let distinct = n.kind == pb::AExprKind::AexprDistinct as i32;
    let denies = distinct || operation && matches!(said, Some("<>" | "!="));
    let equal = !distinct && (!operation || said == Some("="));
    let alike = agree(target, left, right);
    if denies && alike == Some(false) {
        return false;
    }
    if denies && operation {
        // Between a row and another row of the same relation it does choose.
        return !same(target, false, left, right);
    }
    let itself = || finds_itself(target, left, right) || finds_itself(target, right, left);
    !(alike == Some(true) && equal || same(target, true, left, right) || itself())
}

/// IN, ANY and ALL of a list or an array.
fn member<'t>(
    target: &Target<'t>,
    n: &'t pb::AExpr,
    (left, right): (&'t pb::Node, &'t pb::Node),
    negated: bool,
) -> bool {
    let all = n.kind == pb::AExprKind::AexprOpAll as i32;
    let among = |items: &'t [pb::Node]| {
        let said = |truth: bool| items.iter().any(|item| boolean(item) == Some(truth));
        let either = !all && said(true) && said(false);
        !either && !items.iter().any(|item| same(target, true, left, item))
    };
    match kind(Some(uncast(right))) {
        Some(N::List(pb::List { items })) => among(items),
        // What is compared with all of nothing holds, and with any of nothing does not.
        Some(N::AArrayExpr(array)) if array.elements.is_empty() => all == negated,
        Some(N::AArrayExpr(array)) => among(&array.elements),
        Some(_) if name::constant(Some(uncast(right))).is_some_and(|array| array.trim() == "{}") => {
            all == negated
        }
        // ARRAY (SELECT …) is read as IN (SELECT …).
        Some(N::SubLink(link)) if link.sub_link_type == pb::SubLinkType::ArraySublink as i32 => {
            let asks = if all { Asks::All(Some(left)) } else { Asks::Any(Some(left)) };
            link.subselect.as_deref().is_some_and(|query| asked(target, asks, query, negated))
        }
        Some(_) | None => !same(target, true, left, right),
    }
}

/// What is NULL for every row, and so never true and never known.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind may be known")]
fn always_null<'t>(target: &Target<'t>, node: &'t pb::Node) -> bool {
    use pb::AExprKind as K;
    match kind(Some(node)) {
        Some(N::TypeCast(cast)) => cast.arg.as_deref().is_some_and(|arg| always_null(target, arg)),
        Some(N::AExpr(n)) => {
            let Some((left, right)) = n.lexpr.as_deref().zip(n.rexpr.as_deref()) else { return false };
            match (K::try_from(n.kind).unwrap_or(K::Undefined), n.name.last().and_then(name::string)) {
                (K::AexprNullif, _) => is_null(left) || same(target, true, left, right),
                (K::AexprOp, Some("=" | "<>" | "!=" | "<" | ">" | "<=" | ">=")) => {
                    is_null(left) || is_null(right)
                }
                (_, None | Some(_)) => false,
            }
        }
        Some(_) => is_null(node),
        None => false,
    }
}

/// Each result that may be true must be restricted by its condition or by itself.
fn case_expression<'t>(target: &Target<'t>, n: &'t pb::CaseExpr, negated: bool) -> bool {
    let arms = n.args.iter().all(|arm| match kind(Some(arm)) {
        Some(N::CaseWhen(when)) => {
            let pb::CaseWhen { xpr: _, expr, result, location: _ } = &**when;
            let condition = expr.as_deref().is_some_and(|expr| match n.arg.as_deref() {
                // CASE x WHEN y is x = y.
                Some(of) => (looks(target, of) || looks(target, expr)) && !same(target, true, of, expr),
                None => grade(target, expr, false),
            });
            result
                .as_deref()
                .is_some_and(|r| (is_false(r) && !negated) || condition || grade(target, r, negated))
        }
        Some(_) | None => false,
    });
    arms && n.defresult.as_deref().is_none_or(|d| (is_false(d) && !negated) || grade(target, d, negated))
}

/// What is cast.
fn uncast(mut node: &pb::Node) -> &pb::Node {
    while let Some(N::TypeCast(cast)) = kind(Some(node))
        && let Some(arg) = cast.arg.as_deref()
    {
        node = arg;
    }
    node
}

fn is_null(node: &pb::Node) -> bool {
    match kind(Some(node)) {
        Some(N::AConst(c)) => c.isnull,
        Some(N::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_null),
        Some(_) | None => false,
    }
}

/// FALSE or NULL, written as such.
fn is_false(node: &pb::Node) -> bool {
    is_null(node)
        || matches!(kind(Some(node)), Some(N::AConst(c)) if matches!(&c.val, Some(Val::Boolval(b)) if !b.boolval))
}

/// Whether a column of the target stands anywhere in it.
fn looks<'t>(target: &Target<'t>, node: &'t pb::Node) -> bool {
    kind(Some(node)).is_some_and(|k| looks_kind(target, k))
}

fn looks_kind<'t>(target: &Target<'t>, node: &'t N) -> bool {
    let mut search = Search { target, found: false, inner: false, shadowed: false };
    generated::dispatch_kind(&mut search, node);
    search.found
}

/// Looks for a column of the target, minding sub-selects that use its name anew.
struct Search<'a, 't> {
    target: &'a Target<'t>,
    found: bool,
    /// Inside a sub-select, an unqualified column may be that one's.
    inner: bool,
    /// The sub-select has a FROM item of the target's alias.
    shadowed: bool,
}

impl<'t> Visitor<'t> for Search<'_, 't> {
    fn refused(&mut self, _: &'static str) {}

    fn node(&mut self, node: &'t pb::Node) {
        if !self.found && self.target.scope.spend() {
            generated::dispatch(self, node);
        }
    }

    fn column_ref(&mut self, n: &'t pb::ColumnRef) {
        let unqualified = n.fields.len() == 1;
        let theirs = self.shadowed || (self.inner && unqualified);
        // Every row of a table has the same one.
        let chooses = |column: &str| column != "tableoid";
        if !theirs && self.target.column(n, false).is_some_and(chooses) {
            self.found = true;
        }
    }

    fn select_stmt(&mut self, n: &'t pb::SelectStmt) {
        let (inner, shadowed) = (self.inner, self.shadowed);
        let mut names = Aliases { alias: self.target.alias, found: false };
        names.nodes(&n.from_clause);
        // Without FROM there is no other owner for an unqualified column.
        self.inner |= !n.from_clause.is_empty();
        self.shadowed |= names.found;
        generated::walk_select_stmt(self, n);
        (self.inner, self.shadowed) = (inner, shadowed);
    }
}

/// Whether a FROM list itself (not its sub-selects) uses the alias.
struct Aliases<'t> {
    alias: &'t str,
    found: bool,
}

impl<'t> Visitor<'t> for Aliases<'t> {
    fn refused(&mut self, _: &'static str) {}

    fn range_var(&mut self, n: &'t pb::RangeVar) {
        self.found |= n.alias.as_ref().map_or(n.relname.as_str(), |a| a.aliasname.as_str()) == self.alias;
    }

    fn alias(&mut self, n: &'t pb::Alias) {
        self.found |= n.aliasname == self.alias;
    }

    fn select_stmt(&mut self, _: &'t pb::SelectStmt) {}
}
