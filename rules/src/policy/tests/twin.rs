//! The judgement once more, as plainly as it can be said: every rule asked of every atom, no index, no order.

use crate::policy::atoms::{Atom, atoms};
use crate::policy::group::Member;
use crate::policy::model::{Groups, Mode, Then};
use crate::policy::{Action, Context, Policy, Principal};
use crate::policy::{condition::Situation, judge, settings};
use crate::resolve::Resolution;
use crate::statement::facts::StatementFacts;

/// Action asked for by the policy, or a refusal.
pub(super) fn asked(
    policy: &Policy,
    principal: &Principal,
    target: &str,
    statement: &StatementFacts,
    resolution: &Resolution,
    context: &Context<'_>,
) -> Action {
    let access = policy.access(principal, target, None).expect("an access entry");
    assert_eq!(access.mode, Mode::Write, "the twin knows sessions that may write");
    let atoms = atoms(statement, resolution, &access.guards.search_path);
    let mut worst = Action::Allow;
    for setting in &statement.settings {
        if settings::check(setting, statement, access).is_err() {
            worst = Action::Refuse;
        }
    }
    for atom in &atoms {
        if !permitted(policy, principal, target, atom) {
            worst = Action::Refuse;
        }
        worst = worst.max(restricted(policy, principal, target, atom, &atoms, context));
    }
    worst
}

fn permitted(policy: &Policy, principal: &Principal, target: &str, atom: &Atom<'_>) -> bool {
    policy.model().permits.iter().any(|permit| {
        permit.targets.contain(target)
            && in_groups(policy, principal, &permit.groups, |member| *member == Member::Yes)
            && permit.classes.contain(atom.class)
            && permit.on.covers(atom.class, &atom.object)
    })
}

fn restricted(
    policy: &Policy,
    principal: &Principal,
    target: &str,
    atom: &Atom<'_>,
    atoms: &[Atom<'_>],
    context: &Context<'_>,
) -> Action {
    let situation = Situation {
        predicate: atom.predicate,
        atoms,
        in_transaction: context.in_transaction,
        text_digest: context.text_digest,
        tiers: &[],
        touched: &std::cell::RefCell::default(),
    };
    let mut worst = Action::Allow;
    for restrict in &policy.model().restricts {
        let applies = restrict.targets.contain(target)
            && in_groups(policy, principal, &restrict.groups, |member| *member != Member::No)
            && restrict.classes.contain(atom.class)
            && restrict.on.touches(atom.class, &atom.object)
            && judge::fires(restrict, &situation)
            && !restrict.observe.as_ref().is_some_and(|observe| judge::is_running(observe, context.now_s));
        if applies {
            worst = worst.max(match restrict.then {
                Then::Hold(_) => Action::Hold,
                Then::Cut | Then::Refuse => Action::Refuse,
            });
        }
    }
    worst
}

fn in_groups(
    policy: &Policy,
    principal: &Principal,
    groups: &Groups,
    test: impl Fn(&Member) -> bool,
) -> bool {
    match groups {
        Groups::Everyone => true,
        Groups::Listed(listed) => listed.iter().any(|at| test(&policy.model().groups[*at].member(principal))),
    }
}
