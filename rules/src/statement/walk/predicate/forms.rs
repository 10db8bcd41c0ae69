//! Spellings of one expression that the grammar keeps apart.
//!
//! Owns: what is TRUE or FALSE by its word, what asks whether something is so, operands to which nothing is done, sub-selects that
//! read nothing. May not: know a target, or a type.

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};

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
fn boolean(node: &pb::Node) -> Option<bool> {
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

/// What a sub-select gives that reads no relation (`(SELECT id)`), and its condition.
pub(super) fn without_from(subselect: &pb::Node) -> Option<(&pb::Node, Option<&pb::Node>)> {
    let Some(N::SelectStmt(query)) = kind(Some(subselect)) else { return None };
    let alone = query.from_clause.is_empty() && query.values_lists.is_empty() && query.larg.is_none();
    let plain = query.with_clause.is_none() && query.having_clause.is_none() && query.limit_count.is_none();
    let ([one], true) = (query.target_list.as_slice(), alone && plain && query.limit_offset.is_none()) else {
        return None;
    };
    match kind(Some(one)) {
        Some(N::ResTarget(target)) => Some((target.val.as_deref()?, query.where_clause.as_deref())),
        Some(_) | None => None,
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
            let (gives, condition) = without_from(link.subselect.as_deref()?)?;
            condition.is_none().then_some(gives)
        }
        _ => None,
    }
}
