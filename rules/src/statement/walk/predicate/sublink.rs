//! Conditions by sub-select: EXISTS, IN, ANY, ALL, `(SELECT …) = x`, `(SELECT count (*) …) > 0`.
//!
//! Owns: which of them hold whatever the row: they read nothing and give the row's own values, they read the same rows again, they
//! always give a row, or none. May not: know the rows of another relation; these choose. Fails closed: a reading of the target
//! that says nothing of which rows it leaves out leaves none out.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::covers::{Arm, Comparison, comparison};
use super::forms::{Given, boolean, builtin, leaves_out, without_from};
use super::same::{all_same, same};
use super::{From, Scope, Target, grade, is_false, is_null, looks, restricts};
use crate::statement::generated::{self, Visitor};

/// What is asked of a query.
#[derive(Clone, Copy)]
pub(super) enum Asks<'t> {
    /// Its rows, one by one.
    Rows,
    Value,
    Exists,
    /// How many rows it has, at least one.
    Counts,
    Any(Option<&'t pb::Node>),
    All(Option<&'t pb::Node>),
}

pub(super) fn sublink<'t>(target: &Target<'t>, n: &'t pb::SubLink, negated: bool) -> bool {
    let pb::SubLink { xpr: _, sub_link_type, sub_link_id: _, testexpr, oper_name: _, subselect, location: _ } =
        n;
    let test = testexpr.as_deref();
    use pb::SubLinkType as L;
    let asks = match L::try_from(*sub_link_type).unwrap_or(L::Undefined) {
        L::ExistsSublink => Asks::Exists,
        L::AnySublink => Asks::Any(test),
        L::AllSublink => Asks::All(test),
        L::ExprSublink => Asks::Value,
        // None of these is a condition.
        L::ArraySublink | L::RowcompareSublink | L::MultiexprSublink | L::CteSublink | L::Undefined => {
            return false;
        }
    };
    subselect.as_deref().is_some_and(|subselect| asked(target, asks, subselect, negated))
}

/// Whether such a question restricts: it must look at the target's row, and where the query reads the target itself, that reading
/// must be restricted too (`id IN (SELECT id FROM the target)` holds for every row).
pub(super) fn asked<'t>(target: &Target<'t>, asks: Asks<'t>, subselect: &'t pb::Node, negated: bool) -> bool {
    let Some(N::SelectStmt(query)) = kind(Some(subselect)) else { return false };
    let test = match asks {
        Asks::Any(test) | Asks::All(test) => test,
        Asks::Rows | Asks::Value | Asks::Exists | Asks::Counts => None,
    };
    let at_the_row = test.is_some_and(|test| looks(target, test)) || looks(target, subselect);
    if gives_nothing(query) {
        let chosen = match asks {
            Asks::Exists | Asks::Counts | Asks::Any(_) => !negated,
            Asks::All(_) => negated,
            Asks::Rows | Asks::Value => false,
        };
        return at_the_row && chosen;
    }
    if let Some(given) = without_from(subselect) {
        return given_restricts(target, asks, &given, negated);
    }
    if !at_the_row {
        return false;
    }
    if matches!(asks, Asks::Exists) && is_one_group(query) && always_a_row(query) {
        return negated;
    }
    chooses(target.relation, Some(target.alias), &target.scope, query, asks)
}

/// The same of a query that reads no relation.
fn given_restricts<'t>(target: &Target<'t>, asks: Asks<'t>, given: &Given<'t>, negated: bool) -> bool {
    let chosen = |negated| given.condition.is_some_and(|condition| grade(target, condition, negated));
    let differs = |test: &'t pb::Node, all: bool| {
        let tests = row_of(test);
        let equal = |row: &Vec<&'t pb::Node>| match row.as_slice() {
            [one] => same(target, true, test, one),
            several => tests.as_deref().is_some_and(|tests| all_same(target, true, tests, several)),
        };
        let sees = looks(target, test) || given.rows.iter().flatten().any(|value| looks(target, value));
        sees && !(if all { given.rows.iter().all(equal) } else { given.rows.iter().any(equal) })
    };
    // NOT IN (SELECT 5 WHERE $1) holds for every row where nothing is selected.
    let all_the_rows = |any: bool| given.condition.is_none() || any != negated;
    match asks {
        Asks::Exists | Asks::Counts => chosen(negated),
        Asks::Any(test) => {
            chosen(negated) || test.is_some_and(|test| differs(test, false)) && all_the_rows(true)
        }
        Asks::All(test) => {
            chosen(negated) || test.is_some_and(|test| differs(test, true)) && all_the_rows(false)
        }
        Asks::Rows | Asks::Value => {
            chosen(false) || given.rows.iter().flatten().any(|value| grade(target, value, negated))
        }
    }
}

fn row_of(test: &pb::Node) -> Option<Vec<&pb::Node>> {
    match kind(Some(test)) {
        Some(N::RowExpr(row)) => Some(row.args.iter().collect()),
        Some(_) | None => None,
    }
}

/// Readings of the target in a query's FROM list, each with the rest of them and the row outside beside it.
struct Readings<'t> {
    named: bool,
    of: Vec<Target<'t>>,
}

fn readings<'t>(
    relation: (&'t str, &'t str),
    outer: Option<&'t str>,
    scope: &Scope<'t>,
    select: &'t pb::SelectStmt,
) -> Readings<'t> {
    let mut from = From { relation, scope, twins: Vec::new(), named: false };
    from.nodes(&select.from_clause);
    let single =
        matches!(select.from_clause.as_slice(), [one] if !matches!(kind(Some(one)), Some(N::JoinExpr(_))));
    let twins: Vec<&'t str> = from.twins.iter().copied().chain(outer).collect();
    let reading = |alias: &&'t str| {
        let (twins, scope) = (twins.clone(), scope.clone());
        Target { alias, relation, joined: !single, twins, fed_by_itself: false, scope }
    };
    Readings { named: from.named, of: from.twins.iter().map(reading).collect() }
}

/// Whether a query that may read the target itself leaves rows of it out; `outer` is the alias of the row outside.
pub(super) fn chooses<'t>(
    relation: (&'t str, &'t str),
    outer: Option<&'t str>,
    scope: &Scope<'t>,
    select: &'t pb::SelectStmt,
    asks: Asks<'t>,
) -> bool {
    if !scope.spend() {
        return false;
    }
    let mut scope = scope.clone();
    if let Some(with) = &select.with_clause {
        scope.enter(relation, with);
    }
    if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
        return chooses(relation, outer, &scope, left, asks) && chooses(relation, outer, &scope, right, asks);
    }
    let readings = readings(relation, outer, &scope, select);
    if !readings.named {
        return true;
    }
    let limited = select.limit_count.as_deref().is_some_and(|limit| !is_null(limit));
    let within_limit = match asks {
        // One row is as good as all of them.
        Asks::Exists | Asks::Counts => true,
        Asks::Any(Some(test)) => readings.of.iter().any(|inner| is_pinned(inner, select, test)),
        Asks::Any(None) | Asks::All(_) | Asks::Rows | Asks::Value => false,
    };
    if limited && !within_limit {
        return true;
    }
    readings.of.iter().any(|inner| {
        restricts(inner, select.where_clause.as_deref())
            || select.having_clause.as_deref().is_some_and(|having| !every_group(Some(inner), having, 1))
    })
}

/// The only value that a query gives.
fn output(select: &pb::SelectStmt) -> Option<&pb::Node> {
    match select.target_list.as_slice() {
        [one] => match kind(Some(one)) {
            Some(N::ResTarget(target)) => target.val.as_deref(),
            Some(_) | None => None,
        },
        _ => None,
    }
}

/// Conditions that all hold.
fn conjuncts(condition: Option<&pb::Node>) -> &[pb::Node] {
    match kind(condition) {
        Some(N::BoolExpr(and)) if pb::BoolExprType::try_from(and.boolop) == Ok(pb::BoolExprType::AndExpr) => {
            &and.args
        }
        Some(_) | None => condition.map_or(&[], std::slice::from_ref),
    }
}

/// What of the row outside the rows of a reading are equal in.
fn ties<'a, 't>(
    inner: &'a Target<'t>,
    select: &'t pb::SelectStmt,
) -> impl Iterator<Item = &'t pb::Node> + use<'a, 't> {
    conjuncts(select.where_clause.as_deref()).iter().filter_map(move |condition| {
        let Some(N::AExpr(n)) = kind(Some(condition)) else { return None };
        let operation = pb::AExprKind::try_from(n.kind) == Ok(pb::AExprKind::AexprOp);
        let equals = operation && n.name.last().and_then(name::string) == Some("=");
        let (left, right) = n.lexpr.as_deref().zip(n.rexpr.as_deref()).filter(|_| equals)?;
        (same(inner, true, left, right) && !same(inner, false, left, right)).then_some(left)
    })
}

/// Whether each row that is read gives the very value that is looked for, so that LIMIT leaves nothing out.
fn is_pinned<'t>(inner: &Target<'t>, select: &'t pb::SelectStmt, test: &'t pb::Node) -> bool {
    output(select).is_some_and(|output| same(inner, true, output, test))
        && ties(inner, select).any(|tied| same(inner, true, tied, test))
}

/// Whether a sub-select's one value is what stands on the other side: it finds the row again.
pub(super) fn finds_itself<'t>(target: &Target<'t>, node: &'t pb::Node, other: &'t pb::Node) -> bool {
    let Some(N::SubLink(link)) = kind(Some(node)) else { return false };
    let Some(N::SelectStmt(query)) = kind(link.subselect.as_deref()) else { return false };
    let value = link.sub_link_type == pb::SubLinkType::ExprSublink as i32 && query.limit_count.is_none();
    if !value || chooses(target.relation, Some(target.alias), &target.scope, query, Asks::Value) {
        return false;
    }
    let readings = readings(target.relation, Some(target.alias), &target.scope, query);
    output(query).is_some_and(|output| {
        readings
            .of
            .iter()
            .any(|inner| ties(inner, query).next().is_some() && same(inner, true, output, other))
    })
}

/// `(SELECT count (*) …) > 0`: EXISTS in other words, or what holds of any count. `None` where it is neither.
pub(super) fn counted<'t>(target: &Target<'t>, condition: &Arm<'t>) -> Option<bool> {
    let compared = comparison(condition)?;
    let query_of = |node: &'t pb::Node| match kind(Some(node)) {
        Some(N::SubLink(link)) if link.sub_link_type == pb::SubLinkType::ExprSublink as i32 => {
            link.subselect.as_deref()
        }
        Some(_) | None => None,
    };
    let compared = if query_of(compared.left).is_some() { compared } else { compared.turned() };
    let subselect = query_of(compared.left)?;
    let Some(N::SelectStmt(query)) = kind(Some(subselect)) else { return None };
    let plain = query.group_clause.is_empty() && query.having_clause.is_none() && !leaves_out(query);
    is_count(output(query)?).filter(|filtered| plain && !filtered)?;
    match (compared.from(0), compared.from(1)) {
        (Some(always), _) => Some(!always && looks(target, subselect)),
        (None, Some(exists)) => Some(asked(target, Asks::Counts, subselect, !exists)),
        (None, None) => None,
    }
}

/// A call of count, and whether it has a filter.
fn is_count(node: &pb::Node) -> Option<bool> {
    match kind(Some(node)) {
        Some(N::FuncCall(call)) if builtin(&call.funcname) == Some("count") => {
            call.over.is_none().then_some(call.agg_filter.is_some())
        }
        Some(_) | None => None,
    }
}

/// Whether a query gives no row, whatever there is to read.
fn gives_nothing(query: &pb::SelectStmt) -> bool {
    let none = |node: &pb::Node| name::constant(Some(node)).is_some_and(|number| number == "0");
    query.limit_count.as_deref().is_some_and(none)
        || !is_one_group(query) && query.larg.is_none() && query.where_clause.as_deref().is_some_and(never)
}

/// Whether a condition holds for no row, by its constants.
fn never(condition: &pb::Node) -> bool {
    if is_false(condition) {
        return true;
    }
    match kind(Some(condition)) {
        Some(N::BoolExpr(of)) => match pb::BoolExprType::try_from(of.boolop) {
            Ok(pb::BoolExprType::AndExpr) => of.args.iter().any(never),
            Ok(pb::BoolExprType::OrExpr) => of.args.iter().all(never),
            Ok(pb::BoolExprType::NotExpr) => of.args.iter().all(|arg| boolean(arg) == Some(true)),
            Ok(pb::BoolExprType::Undefined) | Err(_) => false,
        },
        Some(N::AExpr(_)) => comparison(&Arm { node: condition, negated: false })
            .is_some_and(|known| known.known() == Some(false)),
        Some(_) | None => false,
    }
}

/// Aggregates without GROUP BY: one row, of however many.
fn is_one_group(query: &pb::SelectStmt) -> bool {
    let mut aggregates = Aggregates { found: query.having_clause.is_some() };
    aggregates.nodes(&query.target_list);
    query.group_clause.is_empty() && aggregates.found
}

/// Whether that one row is always there.
fn always_a_row(query: &pb::SelectStmt) -> bool {
    !leaves_out(query) && query.having_clause.as_deref().is_none_or(|having| every_group(None, having, 0))
}

/// Whether HAVING leaves no group out of those that hold `least` rows or more; `inner` is the reading of the target.
fn every_group<'t>(inner: Option<&Target<'t>>, having: &'t pb::Node, least: i128) -> bool {
    if let Some(N::BoolExpr(of)) = kind(Some(having)) {
        let mut arms = of.args.iter().map(|arg| every_group(inner, arg, least));
        match pb::BoolExprType::try_from(of.boolop) {
            Ok(pb::BoolExprType::AndExpr) => return arms.all(|every| every),
            Ok(pb::BoolExprType::OrExpr) if arms.any(|every| every) => return true,
            Ok(pb::BoolExprType::OrExpr | pb::BoolExprType::NotExpr | pb::BoolExprType::Undefined)
            | Err(_) => {}
        }
    }
    if let Some(compared) = comparison(&Arm { node: having, negated: false })
        && let Some(always) = count_compared(compared, least)
    {
        return always;
    }
    let mut moves = Moves { found: false };
    moves.node(having);
    // A constant or a parameter says the same of each group.
    !moves.found || inner.is_some_and(|inner| looks(inner, having) && !grade(inner, having, false))
}

/// What a comparison of a count with a number comes to, where that is known.
fn count_compared(compared: Comparison<'_>, least: i128) -> Option<bool> {
    let counts = |node: &pb::Node| is_count(node).is_some_and(|filtered| !filtered);
    let compared = if counts(compared.left) { compared } else { compared.turned() };
    compared.from(least).filter(|_| counts(compared.left))
}

/// Finds what may differ from row to row, or from group to group.
struct Moves {
    found: bool,
}

impl<'t> Visitor<'t> for Moves {
    fn refused(&mut self, _: &'static str) {}

    fn column_ref(&mut self, _: &'t pb::ColumnRef) {
        self.found = true;
    }

    fn func_call(&mut self, _: &'t pb::FuncCall) {
        self.found = true;
    }

    fn sub_link(&mut self, _: &'t pb::SubLink) {
        self.found = true;
    }
}

/// Finds PostgreSQL's own aggregates of a query itself.
struct Aggregates {
    found: bool,
}

impl<'t> Visitor<'t> for Aggregates {
    fn refused(&mut self, _: &'static str) {}

    fn func_call(&mut self, n: &'t pb::FuncCall) {
        let own = matches!(
            builtin(&n.funcname),
            Some(
                "count"
                    | "max"
                    | "min"
                    | "sum"
                    | "avg"
                    | "bool_and"
                    | "bool_or"
                    | "every"
                    | "any_value"
                    | "array_agg"
                    | "string_agg"
                    | "json_agg"
                    | "jsonb_agg"
                    | "bit_and"
                    | "bit_or"
            )
        );
        self.found |= own && n.over.is_none();
        generated::walk_func_call(self, n);
    }

    fn select_stmt(&mut self, _: &'t pb::SelectStmt) {}
}
