//! Whether a write is restricted: config.md's `predicate = "absent"`, by form alone.
//!
//! Owns: one question, "does this condition look at the target's rows and is it not true by its form?". May not: prove
//! anything about data. True by form are: no condition; no column of the target in it; an expression compared with itself
//! (also through a self-join); IS NOT NULL; LIKE '%'; an OR with such; an AND of such only. Fails closed: a column whose
//! owner the text does not show counts as no column of the target.

mod covers;
mod forms;
mod gives;

use std::cell::Cell;
use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use self::covers::{arms, covers};
use self::forms::{as_truth, reduced, without_from};
use self::gives::may_give;
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
                Some(N::SelectStmt(query)) => !chooses(relation, None, self, query),
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
            Some(N::SelectStmt(query)) => !chooses(relation, None, &scope, query),
            Some(_) | None => false,
        };
        Target { alias, relation, joined: !others.is_empty(), twins, fed_by_itself, scope }
    }

    /// Whether the rows to insert are read from the target.
    pub(super) fn fed_by_itself(&self) -> bool {
        self.fed_by_itself
    }

    /// The bare column name, where the reference is one of the target's (`twin`: or of the same relation beside it).
    fn column(&self, n: &'t pb::ColumnRef, twin: bool) -> Option<&'t str> {
        let parts = name::strings(&n.fields)?;
        match parts.as_slice() {
            [column] if !self.joined || twin => Some(column),
            [alias, column] if *alias == self.alias || (twin && self.twins.contains(alias)) => Some(column),
            [schema, relation, column]
                if (*schema, *relation) == self.relation && self.alias == *relation =>
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
            Some(N::SelectStmt(query)) => !chooses(self.relation, None, self.scope, query),
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
    let Some(node) = kind(Some(node)).filter(|_| target.scope.spend()) else { return false };
    match node {
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
                    !covers(target, &arms) && arms.iter().all(|arm| grade(target, arm.node, arm.negated))
                }
                (Ok(pb::BoolExprType::Undefined) | Err(_), _) => false,
            }
        }
        N::NullTest(test) => {
            let pb::NullTest { xpr: _, arg, nulltesttype, argisrow: _, location: _ } = &**test;
            let not_null = pb::NullTestType::try_from(*nulltesttype) != Ok(pb::NullTestType::IsNull);
            not_null == negated && arg.as_deref().is_some_and(|a| looks(target, a))
        }
        N::BooleanTest(test) => boolean_test(target, test, negated),
        N::AExpr(expression) => compares(target, expression, negated),
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
        B::IsTrue | B::IsNotFalse => grade(target, arg, negated),
        B::IsFalse | B::IsNotTrue => grade(target, arg, !negated),
        // x IS NOT UNKNOWN is x IS NOT NULL.
        B::IsUnknown => !negated && looks(target, arg),
        B::IsNotUnknown => negated && looks(target, arg),
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
    use pb::AExprKind as K;
    match K::try_from(*form).unwrap_or(K::Undefined) {
        // x IS DISTINCT FROM NULL is x IS NOT NULL.
        K::AexprDistinct if is_null(right) || is_null(left) => negated,
        K::AexprNotDistinct if is_null(right) || is_null(left) => !negated,
        K::AexprOp if strict(operator) => !same(target, false, left, right),
        K::AexprOp | K::AexprDistinct | K::AexprNotDistinct | K::AexprNullif | K::AexprSimilar => {
            !same(target, true, left, right)
        }
        K::AexprLike | K::AexprIlike => {
            let all =
                name::constant(Some(right)).is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b == b'%'));
            let positive = !operator.first().and_then(name::string).is_some_and(|o| o.starts_with('!'));
            !(same(target, true, left, right) || (all && positive != negated))
        }
        K::AexprIn | K::AexprOpAny | K::AexprOpAll => match kind(Some(uncast(right))) {
            Some(N::List(pb::List { items })) => !items.iter().any(|i| same(target, true, left, i)),
            Some(N::AArrayExpr(array)) => {
                !array.elements.is_empty() && !array.elements.iter().any(|i| same(target, true, left, i))
            }
            // What is compared with all of nothing holds.
            Some(_) if name::constant(Some(right)).is_some_and(|array| array.trim() == "{}") => false,
            // ARRAY (SELECT …) is read as IN (SELECT …).
            Some(N::SubLink(link)) if link.sub_link_type == pb::SubLinkType::ArraySublink as i32 => {
                sublink(target, link, negated)
            }
            Some(_) | None => !same(target, true, left, right),
        },
        K::AexprBetween | K::AexprNotBetween | K::AexprBetweenSym | K::AexprNotBetweenSym => {
            match kind(Some(right)) {
                Some(N::List(pb::List { items })) => !items.iter().all(|i| same(target, true, left, i)),
                Some(_) | None => false,
            }
        }
        K::Undefined => false,
    }
}

/// EXISTS, IN and their kin: they must look at the target's row, and where they read the target itself, that reading must
/// be restricted too (`id IN (SELECT id FROM the target)` holds for every row).
fn sublink<'t>(target: &Target<'t>, n: &'t pb::SubLink, negated: bool) -> bool {
    let pb::SubLink { xpr: _, sub_link_type, sub_link_id: _, testexpr, oper_name: _, subselect, location: _ } =
        n;
    let Some(subselect) = subselect.as_deref() else { return false };
    if let Some((gives, condition)) = without_from(subselect) {
        let chosen = |negated| condition.is_some_and(|condition| grade(target, condition, negated));
        match pb::SubLinkType::try_from(*sub_link_type).unwrap_or(pb::SubLinkType::Undefined) {
            pb::SubLinkType::ExprSublink => return chosen(false) || grade(target, gives, negated),
            pb::SubLinkType::ExistsSublink => return chosen(negated),
            pb::SubLinkType::AnySublink | pb::SubLinkType::AllSublink => {
                let differs = testexpr.as_deref().is_some_and(|test| {
                    (looks(target, test) || looks(target, gives)) && !same(target, true, test, gives)
                });
                // NOT IN (SELECT 5 WHERE $1) holds for every row where nothing is selected.
                let any = *sub_link_type == pb::SubLinkType::AnySublink as i32;
                return chosen(negated) || differs && (condition.is_none() || any != negated);
            }
            pb::SubLinkType::RowcompareSublink
            | pb::SubLinkType::MultiexprSublink
            | pb::SubLinkType::ArraySublink
            | pb::SubLinkType::CteSublink
            | pb::SubLinkType::Undefined => {}
        }
    }
    let array = *sub_link_type == pb::SubLinkType::ArraySublink as i32;
    if !array && !testexpr.as_deref().is_some_and(|t| looks(target, t)) && !looks(target, subselect) {
        return false;
    }
    match kind(Some(subselect)) {
        Some(N::SelectStmt(query)) => chooses(target.relation, Some(target.alias), &target.scope, query),
        Some(_) | None => false,
    }
}

/// Whether a query that may read the target itself leaves rows of it out; `outer` is the alias of the row outside.
fn chooses<'t>(
    relation: (&'t str, &'t str),
    outer: Option<&'t str>,
    scope: &Scope<'t>,
    select: &'t pb::SelectStmt,
) -> bool {
    if !scope.spend() {
        return false;
    }
    let mut scope = scope.clone();
    if let Some(with) = &select.with_clause {
        scope.enter(relation, with);
    }
    if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
        return chooses(relation, outer, &scope, left) && chooses(relation, outer, &scope, right);
    }
    let mut from = From { relation, scope: &scope, twins: Vec::new(), named: false };
    from.nodes(&select.from_clause);
    let limited = select.limit_count.as_deref().is_some_and(|l| !is_null(l));
    if !from.named || limited || select.having_clause.is_some() {
        return true;
    }
    let single =
        matches!(select.from_clause.as_slice(), [one] if !matches!(kind(Some(one)), Some(N::JoinExpr(_))));
    let aliases = from.twins;
    let twins: Vec<&'t str> = aliases.iter().copied().chain(outer).collect();
    aliases.iter().any(|alias| {
        let (twins, scope) = (twins.clone(), scope.clone());
        let inner = Target { alias, relation, joined: !single, twins, fed_by_itself: false, scope };
        restricts(&inner, select.where_clause.as_deref())
    })
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

/// `<`, `>`, `<>`: between a row and another row of the same relation these do choose.
fn strict(operator: &[pb::Node]) -> bool {
    operator.last().and_then(name::string).is_some_and(|o| matches!(o, "<" | ">" | "<>" | "!="))
}

/// Whether two expressions are the same by form: equal but for positions and for how a column of the target is
/// qualified. With `twin`, columns of the same relation beside the target count as its own.
fn same<'t>(target: &Target<'t>, twin: bool, a: &'t pb::Node, b: &'t pb::Node) -> bool {
    if may_give(target, twin, a, b) || may_give(target, twin, b, a) {
        return true;
    }
    let (a, b) = (reduced(a), reduced(b));
    let (Some(a), Some(b)) = (kind(Some(a)), kind(Some(b))) else { return false };
    let all = |x: &'t [pb::Node], y: &'t [pb::Node]| {
        x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(target, twin, x, y))
    };
    let one = |x: Option<&'t pb::Node>, y: Option<&'t pb::Node>| match (x, y) {
        (Some(x), Some(y)) => same(target, twin, x, y),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    match (a, b) {
        (N::ColumnRef(x), N::ColumnRef(y)) => match (target.column(x, twin), target.column(y, twin)) {
            (Some(x), Some(y)) => x == y,
            (None | Some(_), None | Some(_)) => {
                name::strings(&x.fields).is_some_and(|p| name::strings(&y.fields) == Some(p))
            }
        },
        (N::AConst(x), N::AConst(y)) => x.val == y.val && x.isnull == y.isnull,
        (N::ParamRef(x), N::ParamRef(y)) => x.number == y.number,
        (N::AExpr(x), N::AExpr(y)) => {
            x.kind == y.kind
                && name::strings(&x.name) == name::strings(&y.name)
                && one(x.lexpr.as_deref(), y.lexpr.as_deref())
                && one(x.rexpr.as_deref(), y.rexpr.as_deref())
        }
        (N::FuncCall(x), N::FuncCall(y)) => {
            name::strings(&x.funcname) == name::strings(&y.funcname) && all(&x.args, &y.args)
        }
        (N::TypeCast(x), N::TypeCast(y)) => one(x.arg.as_deref(), y.arg.as_deref()),
        // A cast changes how a value is read, not which rows have it: x::text = x::text, x = x::int.
        (N::TypeCast(x), _) => {
            x.arg.as_deref().and_then(|x| x.node.as_ref()).is_some_and(|x| same_kind(target, twin, x, b))
        }
        (_, N::TypeCast(y)) => {
            y.arg.as_deref().and_then(|y| y.node.as_ref()).is_some_and(|y| same_kind(target, twin, a, y))
        }
        (N::CoalesceExpr(x), N::CoalesceExpr(y)) => all(&x.args, &y.args),
        (N::RowExpr(x), N::RowExpr(y)) => all(&x.args, &y.args),
        (N::List(x), N::List(y)) => all(&x.items, &y.items),
        (N::NullTest(x), N::NullTest(y)) => {
            x.nulltesttype == y.nulltesttype && one(x.arg.as_deref(), y.arg.as_deref())
        }
        (N::BoolExpr(x), N::BoolExpr(y)) => x.boolop == y.boolop && all(&x.args, &y.args),
        (_, _) => false,
    }
}

fn same_kind<'t>(target: &Target<'t>, twin: bool, a: &'t N, b: &'t N) -> bool {
    match (a, b) {
        (N::ColumnRef(x), N::ColumnRef(y)) => {
            let (x, y) = (target.column(x, twin), target.column(y, twin));
            x.is_some() && x == y
        }
        (_, _) => false,
    }
}
