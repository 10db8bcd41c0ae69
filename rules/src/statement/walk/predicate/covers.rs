//! Whether the arms of an OR leave no row out between them.
//!
//! Owns: `a OR NOT a` in its spellings (`=` and IS DISTINCT FROM, IN and NOT IN, a condition and its IS NOT TRUE…), and comparisons that meet:
//! `id < 5 OR id >= 5`, `id > 0 OR id < 10`, `id <> 1 OR id <> 2`. An AND under NOT is read as the OR that it is. May not: know
//! a type, so that what only whole numbers leave no gap in (`id < 5 OR id > 4`) counts as one. Fails closed: arms too many to
//! be compared with each other count as all there is.

use std::cmp::Ordering;
use std::collections::HashMap;

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::Target;
use super::forms::{as_truth, reduced};
use super::same::same;

/// Comparisons between arms of one OR.
const COMPARED_ARMS_MAX: usize = 65_536;

/// Sets of what a comparison can come to: less, equal, greater.
const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
const ALL: u8 = LESS | EQUAL | GREATER;

/// One arm, and whether it stands under an odd number of NOTs.
#[derive(Clone, Copy)]
pub(super) struct Arm<'t> {
    pub(super) node: &'t pb::Node,
    pub(super) negated: bool,
}

/// The arms of an OR, and of those within it.
#[derive(Default)]
pub(super) struct Arms<'t> {
    pub(super) single: Vec<Arm<'t>>,
    /// Those that are an OR of others.
    whole: Vec<Arm<'t>>,
}

pub(super) fn arms<'t>(target: &Target<'t>, args: &'t [pb::Node], negated: bool) -> Arms<'t> {
    let mut arms = Arms::default();
    args.iter().for_each(|arg| flatten(target, arg, negated, &mut arms));
    arms
}

/// Whether they leave out none.
pub(super) fn covers<'t>(target: &Target<'t>, arms: &Arms<'t>) -> bool {
    let arms: Vec<Arm<'t>> = arms.single.iter().chain(&arms.whole).map(|arm| plain(target, *arm)).collect();
    ranges_meet(target, &arms) || complements(target, &arms)
}

/// For two conditions that are compared: whether they always agree (`Some (true)`), or never.
pub(super) fn agree<'t>(target: &Target<'t>, a: &'t pb::Node, b: &'t pb::Node) -> Option<bool> {
    let [a, b] = [a, b].map(|node| plain(target, Arm { node, negated: false }));
    if let (Some(x), Some(y)) = (comparison(&a), comparison(&b)) {
        let y = meeting(target, &x, &y)?;
        return if x.holds == y { Some(true) } else { (x.holds ^ y == ALL).then_some(false) };
    }
    same(target, true, a.node, b.node).then_some(a.negated == b.negated)
}

/// The condition itself, where the arm only says that it is so, or that it is not: `x IS NOT TRUE`, `x = false`. For rows that
/// hold no NULL these are the same.
#[allow(clippy::wildcard_enum_match_arm, reason = "a condition of any other kind is what it is")]
fn plain<'t>(target: &Target<'t>, mut arm: Arm<'t>) -> Arm<'t> {
    use pb::BoolTestType as B;
    while target.scope.spend() {
        let node = reduced(arm.node);
        let (inner, alike) = match kind(Some(node)) {
            Some(N::BooleanTest(test)) => match (B::try_from(test.booltesttype), test.arg.as_deref()) {
                (Ok(B::IsTrue | B::IsNotFalse), Some(arg)) => (arg, true),
                (Ok(B::IsFalse | B::IsNotTrue), Some(arg)) => (arg, false),
                (Ok(B::IsUnknown | B::IsNotUnknown | B::Undefined) | Err(_), _)
                | (Ok(B::IsTrue | B::IsNotTrue | B::IsFalse | B::IsNotFalse), None) => {
                    return Arm { node, ..arm };
                }
            },
            Some(N::BoolExpr(not)) => match (pb::BoolExprType::try_from(not.boolop), not.args.as_slice()) {
                (Ok(pb::BoolExprType::NotExpr), [arg]) => (arg, false),
                (Ok(_) | Err(_), _) => return Arm { node, ..arm },
            },
            Some(N::AExpr(n)) => {
                let sides = n.lexpr.as_deref().zip(n.rexpr.as_deref());
                match sides.and_then(|(left, right)| as_truth(n, left, right)) {
                    Some((truth, positive)) => (truth, positive),
                    None => return Arm { node, ..arm },
                }
            }
            Some(_) | None => return Arm { node, ..arm },
        };
        arm = Arm { node: inner, negated: arm.negated == alike };
    }
    arm
}

fn flatten<'t>(target: &Target<'t>, node: &'t pb::Node, negated: bool, out: &mut Arms<'t>) {
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
                out.whole.push(Arm { node, negated });
                return args.iter().for_each(|arg| flatten(target, arg, negated, out));
            }
            (
                Ok(pb::BoolExprType::OrExpr | pb::BoolExprType::AndExpr | pb::BoolExprType::Undefined)
                | Err(_),
                _,
            ) => {}
        }
    }
    out.single.push(Arm { node, negated });
}

/// A comparison that has an order: its sides, and what it may come to where it holds.
pub(super) struct Comparison<'t> {
    pub(super) left: &'t pb::Node,
    pub(super) right: &'t pb::Node,
    holds: u8,
}

impl Comparison<'_> {
    /// Whether it holds for every whole number on its left from `floor` on (`Some (true)`), or for none.
    pub(super) fn from(&self, floor: i128) -> Option<bool> {
        let number = whole(self.right)?;
        let holds_at = |at: i128| match at.cmp(&number) {
            Ordering::Less => self.holds & LESS > 0,
            Ordering::Equal => self.holds & EQUAL > 0,
            Ordering::Greater => self.holds & GREATER > 0,
        };
        // What lies beyond the number is all alike.
        let (first, last) = (holds_at(floor), self.holds & GREATER > 0);
        let between = number < floor || holds_at(number) == first;
        (first == last && between).then_some(first)
    }

    /// What it comes to between two numbers.
    pub(super) fn known(&self) -> Option<bool> {
        let bit = match whole(self.left)?.cmp(&whole(self.right)?) {
            Ordering::Less => LESS,
            Ordering::Equal => EQUAL,
            Ordering::Greater => GREATER,
        };
        Some(self.holds & bit > 0)
    }

    pub(super) fn turned(self) -> Self {
        Comparison { left: self.right, right: self.left, holds: turned(self.holds) }
    }
}

pub(super) fn comparison<'t>(arm: &Arm<'t>) -> Option<Comparison<'t>> {
    let Some(N::AExpr(n)) = kind(Some(arm.node)) else { return None };
    use pb::AExprKind as K;
    let (left, right) = n.lexpr.as_deref().zip(n.rexpr.as_deref())?;
    let holds = match (K::try_from(n.kind).unwrap_or(K::Undefined), n.name.last().and_then(name::string)?) {
        (K::AexprOp, "<") => LESS,
        (K::AexprOp, "<=") => LESS | EQUAL,
        (K::AexprOp, "=") | (K::AexprNotDistinct, _) => EQUAL,
        (K::AexprOp, ">=") => GREATER | EQUAL,
        (K::AexprOp, ">") => GREATER,
        (K::AexprOp, "<>" | "!=") | (K::AexprDistinct, _) => LESS | GREATER,
        (_, _) => return None,
    };
    Some(Comparison { left, right, holds: if arm.negated { ALL ^ holds } else { holds } })
}

/// What the other comparison comes to, read with the sides of the one; `None` where it compares other things.
fn meeting<'t>(target: &Target<'t>, one: &Comparison<'t>, other: &Comparison<'t>) -> Option<u8> {
    let are = |left, right| same(target, true, one.left, left) && same(target, true, one.right, right);
    if are(other.left, other.right) {
        return Some(other.holds);
    }
    are(other.right, other.left).then(|| turned(other.holds))
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
        // Sides are compared only where it matters.
        let may = a.holds | b.holds == ALL || a.holds | turned(b.holds) == ALL;
        return may && meeting(target, &a, &b).is_some_and(|b| a.holds | b == ALL);
    }
    if let (Some(a), Some(b)) = (form(one), form(other)) {
        return a.what == b.what
            && a.denies != b.denies
            && same(target, true, a.left, b.left)
            && same(target, true, a.right, b.right);
    }
    one.negated != other.negated && same(target, true, one.node, other.node)
}

/// Whether an arm, all in all, denies what it is about.
fn says_not(arm: &Arm<'_>) -> bool {
    form(arm).map_or(arm.negated, |form| form.denies)
}

/// What an arm says that has a spelling of its own for its denial.
struct Form<'t> {
    /// The form, and its operator.
    what: (&'static str, &'t str),
    /// All in all.
    denies: bool,
    left: &'t pb::Node,
    right: &'t pb::Node,
}

#[allow(clippy::wildcard_enum_match_arm, reason = "an expression of any other kind is denied by NOT alone")]
fn form<'t>(arm: &Arm<'t>) -> Option<Form<'t>> {
    use pb::BoolTestType as B;
    let (what, denies, left, right) = match kind(Some(arm.node))? {
        N::AExpr(n) => operation(n)?,
        N::SubLink(link) => {
            let operator = link.oper_name.last().and_then(name::string).unwrap_or("=");
            let (what, denies) = match pb::SubLinkType::try_from(link.sub_link_type) {
                Ok(pb::SubLinkType::AnySublink) => (("any of a query", operator), false),
                Ok(pb::SubLinkType::AllSublink) => (("any of a query", denial(operator)?), true),
                Ok(_) | Err(_) => return None,
            };
            (what, denies, link.testexpr.as_deref()?, link.subselect.as_deref()?)
        }
        N::BooleanTest(test) => {
            let denies = B::try_from(test.booltesttype) == Ok(B::IsNotUnknown);
            let arg = test.arg.as_deref()?;
            (("unknown", ""), denies, arg, arg)
        }
        N::NullTest(test) => {
            let denies = pb::NullTestType::try_from(test.nulltesttype) == Ok(pb::NullTestType::IsNotNull);
            let arg = test.arg.as_deref()?;
            (("null", ""), denies, arg, arg)
        }
        _ => return None,
    };
    Some(Form { what, denies: denies != arm.negated, left, right })
}

/// The form of an operator, its name, whether it denies, and its sides.
type Operation<'t> = ((&'static str, &'t str), bool, &'t pb::Node, &'t pb::Node);

fn operation(n: &pb::AExpr) -> Option<Operation<'_>> {
    use pb::AExprKind as K;
    let (left, right) = n.lexpr.as_deref().zip(n.rexpr.as_deref())?;
    let operator = n.name.last().and_then(name::string)?;
    let (what, denies) = match K::try_from(n.kind).unwrap_or(K::Undefined) {
        K::AexprIn => (("in", ""), operator == "<>"),
        K::AexprBetween => (("between", ""), false),
        K::AexprNotBetween => (("between", ""), true),
        K::AexprBetweenSym => (("between symmetric", ""), false),
        K::AexprNotBetweenSym => (("between symmetric", ""), true),
        // LIKE, SIMILAR TO and their operators are one.
        K::AexprLike | K::AexprIlike | K::AexprSimilar | K::AexprOp => match operator {
            "~~" | "~~*" | "~" | "~*" => (("matches", operator), false),
            "!~~" | "!~~*" | "!~" | "!~*" => (("matches", denial(operator)?), true),
            _ => return None,
        },
        K::AexprOpAny => (("any", operator), false),
        K::AexprOpAll => (("any", denial(operator)?), true),
        K::AexprDistinct | K::AexprNotDistinct | K::AexprNullif | K::Undefined => return None,
    };
    Some((what, denies, left, right))
}

/// The operator that holds where this one does not.
fn denial(operator: &str) -> Option<&'static str> {
    Some(match operator {
        "=" => "<>",
        "<>" | "!=" => "=",
        "<" => ">=",
        ">=" => "<",
        ">" => "<=",
        "<=" => ">",
        "~~" => "!~~",
        "!~~" => "~~",
        "~~*" => "!~~*",
        "!~~*" => "~~*",
        "~" => "!~",
        "!~" => "~",
        "~*" => "!~*",
        "!~*" => "~*",
        _ => return None,
    })
}
