//! Spellings of one expression that the grammar keeps apart.
//!
//! Owns: what is TRUE or FALSE by its word, what asks whether something is so, operands to which nothing is done, sub-selects that
//! read nothing. May not: know a target, or a type.

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::is_null;

/// `x = true`, `x <> false`, `x IS DISTINCT FROM false` and their kin: what they ask for, and whether that it is so.
pub(super) fn as_truth<'t>(
    n: &'t pb::AExpr,
    left: &'t pb::Node,
    right: &'t pb::Node,
) -> Option<(&'t pb::Node, bool)> {
    use pb::AExprKind as K;
    let (truth, said) = match (boolean(right), boolean(left)) {
        (Some(said), _) => (left, said),
        (None, Some(said)) => (right, said),
        (None, None) => return None,
    };
    let alike = match (K::try_from(n.kind).unwrap_or(K::Undefined), n.name.last().and_then(name::string)) {
        (K::AexprOp, Some("=")) | (K::AexprNotDistinct, _) => true,
        (K::AexprOp, Some("<>" | "!=")) | (K::AexprDistinct, _) => false,
        (_, None | Some(_)) => return None,
    };
    Some((truth, alike == said))
}

/// TRUE or FALSE, also as a word that is cast to it.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind is neither")]
pub(super) fn boolean(node: &pb::Node) -> Option<bool> {
    match kind(Some(node))? {
        N::AConst(pb::AConst { isnull: false, val: Some(Val::Boolval(said)), location: _ }) => {
            Some(said.boolval)
        }
        N::TypeCast(cast) => {
            let of = cast.type_name.as_ref().and_then(|of| name::strings(&of.names))?;
            let word = cast.arg.as_deref().and_then(|arg| name::constant(Some(arg)))?.to_ascii_lowercase();
            matches!(of.as_slice(), ["bool" | "boolean"] | ["pg_catalog", "bool"]).then_some(())?;
            match word.as_str() {
                "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
                "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What a sub-select gives that reads no relation, `(SELECT id)` or `(VALUES (id), (5))`: its rows, and its condition.
pub(super) struct Given<'t> {
    pub(super) rows: Vec<Vec<&'t pb::Node>>,
    pub(super) condition: Option<&'t pb::Node>,
}

pub(super) fn without_from(subselect: &pb::Node) -> Option<Given<'_>> {
    let Some(N::SelectStmt(query)) = kind(Some(subselect)) else { return None };
    let alone = query.from_clause.is_empty() && query.larg.is_none();
    if !alone || query.with_clause.is_some() || query.having_clause.is_some() || leaves_out(query) {
        return None;
    }
    let rows = if query.values_lists.is_empty() {
        let value = |one| match kind(Some(one)) {
            Some(N::ResTarget(target)) => target.val.as_deref(),
            Some(_) | None => None,
        };
        vec![query.target_list.iter().map(value).collect::<Option<_>>()?]
    } else {
        let items = |list| match kind(Some(list)) {
            Some(N::List(pb::List { items })) => Some(items.iter().collect()),
            Some(_) | None => None,
        };
        query.values_lists.iter().map(items).collect::<Option<_>>()?
    };
    Some(Given { rows, condition: query.where_clause.as_deref() })
}

/// Whether OFFSET, or a LIMIT of none, leaves out the one row.
pub(super) fn leaves_out(query: &pb::SelectStmt) -> bool {
    let zero = |node: &pb::Node| name::constant(Some(node)).is_some_and(|number| number == "0");
    query.limit_count.as_deref().is_some_and(zero)
        || query.limit_offset.as_deref().is_some_and(|offset| !zero(offset) && !is_null(offset))
}

/// The items of a row that reads no relation: `(a, b)`, `(SELECT a, b)`, `(VALUES (a, b))`.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind is no row by its form")]
pub(super) fn row(node: &pb::Node) -> Option<Vec<&pb::Node>> {
    match kind(Some(node))? {
        N::RowExpr(row) => Some(row.args.iter().collect()),
        N::SubLink(link) if link.sub_link_type == pb::SubLinkType::ExprSublink as i32 => {
            let mut given = without_from(link.subselect.as_deref()?)?;
            (given.rows.len() == 1 && given.condition.is_none()).then_some(())?;
            given.rows.pop().filter(|row| row.len() > 1)
        }
        _ => None,
    }
}

/// The name of a function that is, or may be, PostgreSQL's own.
pub(super) fn builtin(funcname: &[pb::Node]) -> Option<&str> {
    match name::strings(funcname)?.as_slice() {
        [function] | ["pg_catalog", function] => Some(function),
        _ => None,
    }
}

/// The operand, where nothing is done to it: `x + 0`, `x * 1`, `x || ''`, `+x`, `(SELECT x)`, COALESCE (x, …).
pub(super) fn reduced(mut node: &pb::Node) -> &pb::Node {
    while let Some(inner) = operand(node) {
        node = inner;
    }
    node
}

#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind does something")]
fn operand(node: &pb::Node) -> Option<&pb::Node> {
    let is = |node: &pb::Node, neutral: &str| {
        matches!(kind(Some(node)), Some(N::AConst(pb::AConst { isnull: false, val: Some(val), location: _ }))
        if match val {
            Val::Ival(number) => neutral.parse() == Ok(number.ival),
            Val::Sval(text) => neutral.is_empty() && text.sval.is_empty(),
            Val::Fval(_) | Val::Boolval(_) | Val::Bsval(_) => false,
        })
    };
    match kind(Some(node))? {
        N::AExpr(n) if pb::AExprKind::try_from(n.kind) == Ok(pb::AExprKind::AexprOp) => {
            let (left, right) = (n.lexpr.as_deref(), n.rexpr.as_deref()?);
            let operator = n.name.last().and_then(name::string)?;
            let (neutral, both) = match operator {
                "+" => ("0", true),
                "-" => ("0", false),
                "*" => ("1", true),
                "/" => ("1", false),
                "||" => ("", true),
                _ => return None,
            };
            match left {
                None => (operator == "+").then_some(right),
                Some(left) if is(right, neutral) => Some(left),
                Some(left) if both && is(left, neutral) => Some(right),
                Some(_) => None,
            }
        }
        // Where its first is NULL, whatever is compared with that is.
        N::CoalesceExpr(coalesce) => coalesce.args.first(),
        N::CollateClause(clause) => clause.arg.as_deref(),
        N::SubLink(link) if link.sub_link_type == pb::SubLinkType::ExprSublink as i32 => {
            let given = without_from(link.subselect.as_deref()?)?;
            match (given.rows.as_slice(), given.condition) {
                ([row], None) => <[_; 1]>::try_from(row.as_slice()).ok().map(|[gives]| gives),
                (_, None | Some(_)) => None,
            }
        }
        _ => None,
    }
}
