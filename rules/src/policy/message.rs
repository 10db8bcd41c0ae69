//! The words of a refusal.
//!
//! Owns: the primary message, one line that says what, why, which rule and what next, since many clients show nothing
//! else (experience.md 0.2). May not: hold a literal of the statement. Names are printed with control characters escaped.

use std::borrow::Cow;

use crate::class::Class;
use crate::policy::atoms::Atom;
use crate::policy::condition::Condition;
use crate::policy::group::Group;
use crate::policy::judge::{Approval, Objection, is_blind};
use crate::policy::model::{Restrict, Then};
use crate::policy::object::Object;
use crate::policy::subject::Subject;
use crate::resolve::Reach;
use crate::statement::closed;
use crate::statement::facts::StatementFacts;

const ASK: &str = "ask whoever keeps the policy";

/// The whole message. `objections` is how many reasons there are in all.
pub(crate) fn refusal(statement: &StatementFacts, worst: &Objection<'_>, objections: usize) -> String {
    format!("pgturnstile refused {}. Next: {}.", held(statement, worst, objections), worst.next)
}

/// What is held, and why: the same without the words around it.
pub(crate) fn held(statement: &StatementFacts, worst: &Objection<'_>, objections: usize) -> String {
    let place = worst.rule.place.to_string();
    let mut message = statement.tag.to_owned();
    if worst.object != Object::Whole {
        message.push_str(&format!(" on {}", worst.object));
    }
    message.push_str(&format!(": {} (rule {}, {place})", worst.why, worst.rule.id));
    match objections {
        0 | 1 => {}
        2 => message.push_str("; there is 1 more reason"),
        more => message.push_str(&format!("; there are {} more reasons", more - 1)),
    }
    message
}

/// Why no permit opens an atom, and what to do.
pub(crate) fn no_permit(atom: &Atom<'_>, subject: &Subject) -> (String, String) {
    if atom.class == Class::Unknown {
        return (
            "it is not known what this statement does, and only a permit that spells unknown opens it".into(),
            "write it in a form that pgturnstile can classify".into(),
        );
    }
    let class = atom.class.name();
    let (why, hint) = match atom.object {
        Object::Relation { reach: Reach::Unresolved, .. } => (
            format!(
                "nothing by that name is known on {}, and no permit of yours covers {class} there",
                subject.target()
            ),
            Some("check the name and its schema"),
        ),
        Object::Relation { reach: Reach::DataBearingCatalog, schema, name } => {
            let closed = closed::of_relation(name).filter(|_| schema == "pg_catalog");
            let carries = closed.map_or_else(
                || "it carries users' data or secrets".to_owned(),
                |(column, holds)| format!("its column {column} holds {holds}"),
            );
            let next = closed.map(|_| "name the columns that you need, without that one and without *");
            (format!("{carries}, and only a permit for {class} that spells it exactly opens it"), next)
        }
        Object::Unfixed if atom.why == "CASCADE" => (
            format!(
                "CASCADE reaches objects that the text does not name, and no permit of yours covers {class} on everything"
            ),
            Some("leave CASCADE out and name every object"),
        ),
        Object::Whole => (format!("no permit of yours covers {class}"), None),
        Object::Relation { .. }
        | Object::Unfixed
        | Object::Function { .. }
        | Object::Setting { .. }
        | Object::Named { .. } => (format!("no permit of yours covers {class} on it"), None),
    };
    let next = match (subject.unknown_groups().next(), hint) {
        // Most often the reason, and nothing that a permit would mend.
        (Some((group, claim)), _) => {
            format!("have your token carry the claim {claim}, which group {group} needs, or {ASK}")
        }
        (None, Some(hint)) => format!("{hint}, or {ASK} for a permit"),
        (None, None) if atom.object == Object::Whole => format!("{ASK} for a permit on {class}"),
        (None, None) => format!("{ASK} for a permit on {class} for {}", atom.object),
    };
    (why, next)
}

/// Why a restrict stands against an atom, and what to do.
pub(crate) fn restricted<'r>(restrict: &'r Restrict, atom: &Atom<'_>) -> (Cow<'r, str>, Cow<'r, str>) {
    let subject = match &restrict.message {
        Some(message) => message.clone(),
        None => {
            let conditions: Vec<String> =
                restrict.when.iter().filter(|condition| condition.is_built()).map(Condition::words).collect();
            let class = atom.class.name();
            if conditions.is_empty() { class.to_owned() } else { format!("{class} {}", conditions.join(" ")) }
        }
    };
    let unknown: Vec<&str> = restrict
        .when
        .iter()
        .chain(&restrict.unless)
        .filter(|condition| !condition.is_built())
        .map(Condition::key)
        .collect();
    let verb = match (&restrict.then, &restrict.message) {
        (Then::Hold(_), None) => " needs approval",
        (Then::Hold(_), Some(_)) => "",
        (Then::Cut, None) => " is to be cut while it runs, and cuts are not built into this version",
        (Then::Cut, Some(_)) => "; it is to be cut while it runs, and cuts are not built into this version",
        (Then::Refuse, None) => " is refused",
        (Then::Refuse, Some(_)) => "",
    };
    let mut why = format!("{subject}{verb}");
    if !unknown.is_empty() {
        why.push_str(&format!(
            " ({}: not built either, and counted against the statement)",
            unknown.join(", ")
        ));
    }
    let on_predicate = restrict.when.iter().any(|condition| matches!(condition, Condition::Predicate(_)));
    let next = if on_predicate && is_blind(atom) {
        format!("add a WHERE clause that looks at the columns of {}, or {ASK}", atom.object)
    } else {
        match restrict.then {
            Then::Cut => format!("{ASK}, who can run it or change the rule until then"),
            Then::Hold(_) => "wait for an approver, or cancel it".to_owned(),
            Then::Refuse => format!("{ASK}, if it must run"),
        }
    };
    (why.into(), next.into())
}

/// Who has to approve, one line for each rule.
pub(crate) fn approvals(approvals: &[Approval], groups: &[Group]) -> Vec<String> {
    let line = |approval: &Approval| {
        let Approval { rule, hold } = approval;
        let named = |at: &usize| groups.get(*at).map(|group| group.name.to_string());
        format!(
            "{} of {} must approve (rule {}, {}), never who asks; it waits {} s, inside a transaction {} s",
            hold.quorum,
            hold.approvers.iter().filter_map(named).collect::<Vec<_>>().join(", "),
            rule.id,
            rule.place,
            hold.ttl_s,
            hold.in_transaction_ttl_s
        )
    };
    approvals.iter().map(line).collect()
}
