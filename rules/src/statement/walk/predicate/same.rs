//! Whether two expressions are one and the same, by form.
//!
//! Owns: two trees that are equal, of whatever kind, but for where they stand, how a column of the target is qualified, casts of
//! one column, and operands to which nothing is done. What a function gives twice for one row counts as one value: which of the users'
//! do not is nothing that the text says. May not: compute, or know a type. Fails closed: what is too much to compare counts as the same.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::Target;
use super::forms::{reduced, row};
use super::gives::may_give;
use crate::statement::generated;

/// With `twin`, columns of the same relation beside the target count as its own.
pub(super) fn same<'t>(target: &Target<'t>, twin: bool, a: &'t pb::Node, b: &'t pb::Node) -> bool {
    if may_give(target, twin, a, b) || may_give(target, twin, b, a) {
        return true;
    }
    if let (Some(x), Some(y)) = (row(a), row(b)) {
        return all_same(target, twin, &x, &y);
    }
    let (a, b) = (reduced(a), reduced(b));
    match (kind(Some(a)), kind(Some(b))) {
        (Some(a), Some(b)) => same_kind(target, twin, a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The same of each of two rows.
pub(super) fn all_same<'t>(target: &Target<'t>, twin: bool, a: &[&'t pb::Node], b: &[&'t pb::Node]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(target, twin, a, b))
}

fn same_kind<'t>(target: &Target<'t>, twin: bool, a: &'t N, b: &'t N) -> bool {
    if let (Some(x), Some(y)) = (column(target, twin, a), column(target, twin, b)) {
        return x == y;
    }
    match (a, b) {
        (N::AExpr(x), N::AExpr(y)) => {
            x.kind == y.kind
                && operator(&x.name) == operator(&y.name)
                && one(target, twin, x.lexpr.as_deref(), y.lexpr.as_deref())
                && one(target, twin, x.rexpr.as_deref(), y.rexpr.as_deref())
        }
        (N::TypeCast(x), N::TypeCast(y)) => one(target, twin, x.arg.as_deref(), y.arg.as_deref()),
        // A cast changes how a value is read, not which rows have it: x::text = x::text, x = x::int.
        (N::TypeCast(x), other) | (other, N::TypeCast(x)) => {
            let cast = kind(x.arg.as_deref()).and_then(|arg| column(target, twin, arg));
            cast.is_some() && cast == column(target, twin, other)
        }
        // Names within are that one's own.
        (N::SelectStmt(_), N::SelectStmt(_)) => verbatim(target, a, b),
        (a, b) => !target.scope.spend() || generated::alike(&|x, y| same(target, twin, x, y), a, b),
    }
}

fn one<'t>(target: &Target<'t>, twin: bool, a: Option<&'t pb::Node>, b: Option<&'t pb::Node>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(target, twin, a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn verbatim<'t>(target: &Target<'t>, a: &'t N, b: &'t N) -> bool {
    let below = |x: &'t pb::Node, y: &'t pb::Node| match (kind(Some(x)), kind(Some(y))) {
        (Some(x), Some(y)) => verbatim(target, x, y),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    !target.scope.spend() || generated::alike(&below, a, b)
}

/// An operator without its schema.
fn operator(name: &[pb::Node]) -> Option<&str> {
    name.last().and_then(name::string)
}

/// A column of the target: `id`, `t.id`, `(t).id`.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind is no column")]
fn column<'t>(target: &Target<'t>, twin: bool, node: &'t N) -> Option<&'t str> {
    match node {
        N::ColumnRef(column) => target.column(column, twin),
        N::AIndirection(of) => {
            let Some(N::ColumnRef(row)) = kind(of.arg.as_deref()) else { return None };
            let (row, field) = (name::strings(&row.fields)?, name::strings(&of.indirection)?);
            match (row.as_slice(), field.as_slice()) {
                ([row], [field]) if target.goes_by(row, twin) => Some(field),
                _ => None,
            }
        }
        _ => None,
    }
}
