//! Whether the arms of an OR leave no row out between them.
//!
//! Owns: `a OR NOT a` in its spellings (`=` and `<>`, IN and NOT IN, IS TRUE and IS NOT TRUE…), and comparisons that meet:
//! `id < 5 OR id >= 5`, `id > 0 OR id < 10`, `id <> 1 OR id <> 2`. An AND under NOT is read as the OR that it is. May not: know
//! a type, so that what only whole numbers leave no gap in (`id < 5 OR id > 4`) counts as one. Fails closed: arms too many to
//! be compared with each other count as all there is.

use std::collections::HashMap;

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::{Target, same};

/// Comparisons between arms of one OR.
const COMPARED_ARMS_MAX: usize = 65_536;

/// Sets of what a comparison can come to: less, equal, greater.
const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
const ALL: u8 = LESS | EQUAL | GREATER;

/// One arm, and whether it stands under an odd number of NOTs.
pub(super) struct Arm<'t> {
    pub(super) node: &'t pb::Node,
    pub(super) negated: bool,
}

/// The arms of an OR, and of those within it.
pub(super) fn arms<'t>(target: &Target<'t>, args: &'t [pb::Node], negated: bool) -> Vec<Arm<'t>> {
    let mut arms = Vec::new();
    args.iter().for_each(|arg| flatten(target, arg, negated, &mut arms));
    arms
}

/// Whether they leave out none.
pub(super) fn covers<'t>(target: &Target<'t>, arms: &[Arm<'t>]) -> bool {
    ranges_meet(target, arms) || complements(target, arms)
}

fn flatten<'t>(target: &Target<'t>, node: &'t pb::Node, negated: bool, out: &mut Vec<Arm<'t>>) {
    if !target.scope.spend() {
        return;
    }
    if let Some(N::BoolExpr(expression)) = kind(Some(node)) {
        let pb::BoolExpr { xpr: _, boolop, args, location: _ } = &**expression;
        match (pb::BoolExprType::try_from(*boolop), negated) {
            (Ok(pb::BoolExprType::NotExpr), _) => {
                return args.iter().for_each(|arg| flatten(target, arg, !negated, out));
            }
            (Ok(pb::BoolExprType::OrExpr), false) | (Ok(pb::BoolExprType::AndExpr), true) => {
                return args.iter().for_each(|arg| flatten(target, arg, negated, out));
            }
            (
                Ok(pb::BoolExprType::OrExpr | pb::BoolExprType::AndExpr | pb::BoolExprType::Undefined)
                | Err(_),
                _,
            ) => {}
        }
    }
    out.push(Arm { node, negated });
}

/// A comparison that has an order: its sides, and what it may come to where it holds.
struct Comparison<'t> {
    left: &'t pb::Node,
    right: &'t pb::Node,
    holds: u8,
}

fn comparison<'t>(arm: &Arm<'t>) -> Option<Comparison<'t>> {
    let Some(N::AExpr(n)) = kind(Some(arm.node)) else { return None };
    let ordered = pb::AExprKind::try_from(n.kind) == Ok(pb::AExprKind::AexprOp);
    let (Some(left), Some(right), true) = (n.lexpr.as_deref(), n.rexpr.as_deref(), ordered) else {
        return None;
    };
    let holds = match n.name.last().and_then(name::string)? {
        "<" => LESS,
        "<=" => LESS | EQUAL,
        "=" => EQUAL,
        ">=" => GREATER | EQUAL,
        ">" => GREATER,
        "<>" | "!=" => LESS | GREATER,
        _ => return None,
    };
    Some(Comparison { left, right, holds: if arm.negated { ALL ^ holds } else { holds } })
}

fn turned(holds: u8) -> u8 {
    (if holds & LESS > 0 { GREATER } else { 0 })
        | (if holds & GREATER > 0 { LESS } else { 0 })
        | (holds & EQUAL)
}

/// What arms say of one column by whole numbers.
#[derive(Default)]
struct Ranges {
    /// All up to this, or all below it.
    below: Option<(i128, bool)>,
    /// All from this on, or all above it.
    above: Option<(i128, bool)>,
    /// All but this.
    hole: Option<i128>,
    points: Vec<i128>,
    all: bool,
}

impl Ranges {
    fn take(&mut self, holds: u8, number: i128) {
        let inclusive = holds & EQUAL > 0;
        match holds & (LESS | GREATER) {
            LESS => self.below = self.below.max(Some((number, inclusive))),
            GREATER => {
                let here = (number, inclusive);
                let lower =
                    |known: (i128, bool)| number < known.0 || number == known.0 && inclusive && !known.1;
                self.above = Some(self.above.filter(|known| !lower(*known)).unwrap_or(here));
            }
            0 if inclusive => self.points.push(number),
            0 => {}
            _ => {
                self.all |= inclusive || self.hole.is_some_and(|other| other != number);
                self.hole = Some(number);
            }
        }
    }

    fn meet(&self) -> bool {
        let up_to = |number: i128| self.below.is_some_and(|(to, with)| number < to || number == to && with);
        let from = |number: i128| self.above.is_some_and(|(at, with)| number > at || number == at && with);
        let filled = |hole: i128| up_to(hole) || from(hole) || self.points.contains(&hole);
        let joined = match (self.below, self.above) {
            (Some((to, with)), Some((at, also))) => at < to || at == to && (with || also),
            (None | Some(_), None | Some(_)) => false,
        };
        self.all || joined || self.hole.is_some_and(filled)
    }
}

/// Whether comparisons of one column with whole numbers leave none out.
fn ranges_meet<'t>(target: &Target<'t>, arms: &[Arm<'t>]) -> bool {
    let mut columns: HashMap<&'t str, Ranges> = HashMap::new();
    for Comparison { left, right, holds } in arms.iter().filter_map(comparison) {
        let column = |node| match kind(Some(node)) {
            Some(N::ColumnRef(column)) => target.column(column, false),
            Some(_) | None => None,
        };
        let (column, number, holds) = match (column(left), whole(right), column(right), whole(left)) {
            (Some(column), Some(number), _, _) => (column, number, holds),
            (_, _, Some(column), Some(number)) => (column, number, turned(holds)),
            (None | Some(_), None | Some(_), None | Some(_), None | Some(_)) => continue,
        };
        columns.entry(column).or_default().take(holds, number);
    }
    columns.values().any(Ranges::meet)
}

/// A whole number, written as such.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind is none")]
fn whole(node: &pb::Node) -> Option<i128> {
    match kind(Some(node))? {
        N::AConst(pb::AConst { isnull: false, val: Some(Val::Ival(number)), location: _ }) => {
            Some(i128::from(number.ival))
        }
        N::AConst(pb::AConst { isnull: false, val: Some(Val::Fval(digits)), location: _ }) => {
            digits.fval.parse().ok()
        }
        N::AExpr(n) if n.lexpr.is_none() && n.name.last().and_then(name::string) == Some("-") => {
            n.rexpr.as_deref().and_then(whole).map(|number| -number)
        }
        N::TypeCast(cast) => cast.arg.as_deref().and_then(whole),
        _ => None,
    }
}

/// Whether two arms hold for every row between them.
fn complements<'t>(target: &Target<'t>, arms: &[Arm<'t>]) -> bool {
    // What says that something is so has its complement in what says that it is not, or in a range.
    let active: Vec<&Arm<'t>> = arms.iter().filter(|arm| says_not(arm) || is_range(arm)).collect();
    if active.len().saturating_mul(arms.len()) > COMPARED_ARMS_MAX {
        return true;
    }
    active.iter().any(|one| arms.iter().any(|other| complete(target, one, other)))
}

fn is_range(arm: &Arm<'_>) -> bool {
    comparison(arm).is_some_and(|comparison| comparison.holds != EQUAL)
}

fn complete<'t>(target: &Target<'t>, one: &Arm<'t>, other: &Arm<'t>) -> bool {
    if let (Some(a), Some(b)) = (comparison(one), comparison(other)) {
        let as_written = same(target, true, a.left, b.left) && same(target, true, a.right, b.right);
        let as_turned = || same(target, true, a.left, b.right) && same(target, true, a.right, b.left);
        return as_written && a.holds | b.holds == ALL || a.holds | turned(b.holds) == ALL && as_turned();
    }
    says_not(one) && !says_not(other) && same_but_for_not(target, one.node, other.node)
}

/// Whether an arm, all in all, denies what it is about.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind denies nothing by itself")]
fn says_not(arm: &Arm<'_>) -> bool {
    use pb::AExprKind as K;
    use pb::BoolTestType as B;
    let denies = match kind(Some(arm.node)) {
        Some(N::AExpr(n)) => match K::try_from(n.kind).unwrap_or(K::Undefined) {
            K::AexprNotBetween | K::AexprNotBetweenSym | K::AexprDistinct => true,
            K::AexprIn => n.name.last().and_then(name::string) == Some("<>"),
            K::AexprLike | K::AexprIlike | K::AexprSimilar => {
                n.name.last().and_then(name::string).is_some_and(|o| o.starts_with('!'))
            }
            _ => false,
        },
        Some(N::BooleanTest(test)) => {
            matches!(B::try_from(test.booltesttype), Ok(B::IsNotTrue | B::IsNotFalse | B::IsNotUnknown))
        }
        Some(N::NullTest(test)) => {
            pb::NullTestType::try_from(test.nulltesttype) == Ok(pb::NullTestType::IsNotNull)
        }
        _ => false,
    };
    denies != arm.negated
}

/// Whether two expressions are about the same, though one may deny it.
#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind must be the same itself")]
fn same_but_for_not<'t>(target: &Target<'t>, one: &'t pb::Node, other: &'t pb::Node) -> bool {
    let sides = |a: Option<&'t pb::Node>, b: Option<&'t pb::Node>| match (a, b) {
        (Some(a), Some(b)) => same(target, true, a, b),
        (None | Some(_), None | Some(_)) => false,
    };
    match (kind(Some(one)), kind(Some(other))) {
        (Some(N::AExpr(a)), Some(N::AExpr(b))) => {
            family(a).is_some_and(|of| family(b) == Some(of))
                && sides(a.lexpr.as_deref(), b.lexpr.as_deref())
                && sides(a.rexpr.as_deref(), b.rexpr.as_deref())
                || same(target, true, one, other)
        }
        (Some(N::BooleanTest(a)), Some(N::BooleanTest(b))) => {
            truth(a) == truth(b) && sides(a.arg.as_deref(), b.arg.as_deref())
        }
        (Some(N::NullTest(a)), Some(N::NullTest(b))) => sides(a.arg.as_deref(), b.arg.as_deref()),
        (Some(_), Some(_)) => same(target, true, one, other),
        (None | Some(_), None | Some(_)) => false,
    }
}

/// Forms that differ by NOT alone; `None` for one that has no such form.
fn family(n: &pb::AExpr) -> Option<u8> {
    use pb::AExprKind as K;
    match K::try_from(n.kind).unwrap_or(K::Undefined) {
        K::AexprIn => Some(0),
        K::AexprBetween | K::AexprNotBetween => Some(1),
        K::AexprBetweenSym | K::AexprNotBetweenSym => Some(2),
        K::AexprDistinct | K::AexprNotDistinct => Some(3),
        K::AexprLike => Some(4),
        K::AexprIlike => Some(5),
        K::AexprSimilar => Some(6),
        K::AexprOp | K::AexprOpAny | K::AexprOpAll | K::AexprNullif | K::Undefined => None,
    }
}

/// What a boolean test asks for, with or without NOT.
fn truth(test: &pb::BooleanTest) -> u8 {
    use pb::BoolTestType as B;
    match B::try_from(test.booltesttype).unwrap_or(B::Undefined) {
        B::IsTrue | B::IsNotTrue => 0,
        B::IsFalse | B::IsNotFalse => 1,
        B::IsUnknown | B::IsNotUnknown => 2,
        B::Undefined => 3,
    }
}
