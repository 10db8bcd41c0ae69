//! Expressions that may give another one: COALESCE, CASE, GREATEST, LEAST, NULLIF.
//!
//! Owns: `id = COALESCE ($1, id)`, `id = CASE WHEN $1 THEN 5 ELSE id END` and their kin: whether a row is chosen is not the row's to say,
//! so where the other side is what they may give, the comparison may hold for every row. May not: know a target's types. Fails closed:
//! what is too deep to be compared counts as the same.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::super::kind;
use super::same::same;
use super::{Target, is_null, looks};

/// Whether `node` gives `other`, for some parameters, whatever the row.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind gives itself alone")]
pub(super) fn may_give<'t>(target: &Target<'t>, twin: bool, node: &'t pb::Node, other: &'t pb::Node) -> bool {
    let Some(found) = kind(Some(node)) else { return false };
    match found {
        N::CoalesceExpr(coalesce) => {
            // Up to the first that the row decides over.
            for arg in &coalesce.args {
                if !target.scope.spend() || same(target, twin, arg, other) {
                    return true;
                }
                if looks(target, arg) {
                    return false;
                }
            }
            false
        }
        N::MinMaxExpr(of) => target.scope.spend() && of.args.iter().all(|arg| same(target, twin, arg, other)),
        N::AExpr(n) if pb::AExprKind::try_from(n.kind) == Ok(pb::AExprKind::AexprNullif) => {
            n.rexpr.as_deref().is_some_and(is_null)
                && n.lexpr
                    .as_deref()
                    .is_some_and(|left| target.scope.spend() && same(target, twin, left, other))
        }
        N::CaseExpr(case) => {
            let arms = || {
                case.args.iter().filter_map(|arm| match kind(Some(arm)) {
                    Some(N::CaseWhen(when)) => Some(&**when),
                    Some(_) | None => None,
                })
            };
            let of_the_row = case.arg.as_deref().is_some_and(|arg| looks(target, arg))
                || arms().any(|when| when.expr.as_deref().is_some_and(|expr| looks(target, expr)));
            let results = arms().filter_map(|when| when.result.as_deref()).chain(case.defresult.as_deref());
            !of_the_row
                && results
                    .into_iter()
                    .any(|result| !target.scope.spend() || same(target, twin, result, other))
        }
        _ => false,
    }
}
