//! Who may decide a hold, and when it is approved.
//!
//! Owns: the separation rules. May not: be asked of an identity that no issuer vouched for. Fails closed: a rule's quorum is of
//! people who are certainly distinct from each other and from the requester; where somebody cannot be compared with the
//! requester, two must agree, whatever the rule says.

use pgturnstile_rules::policy::{Policy, Principal};
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::people::{Human, People, Same};

/// The least quorum where an approver cannot be compared with the requester.
const INCOMPARABLE_QUORUM: usize = 2;

/// One approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// By whom.
    pub by: Human,
    /// Which of the needs it counts for: positions in [`Asked::needs`].
    pub needs: Vec<usize>,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
}

/// Why somebody may not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bar {
    /// Nothing by that id is open.
    #[error("no hold of that id is open: it was decided, it expired or was withdrawn, or it never was")]
    NotOpen,
    /// It is decided already.
    #[error("it is decided already")]
    Decided,
    /// In none of the groups.
    #[error("you are in none of the groups that may decide it, by what your token says")]
    NoApprover,
    /// The requester, or the person behind it.
    #[error(
        "it is your own statement: nobody decides what he asks for himself, nor what an agent of his asks for"
    )]
    Requester,
    /// He has approved already.
    #[error("you have approved it already")]
    Again,
    /// Another policy is in force than the one that asks for it.
    #[error(
        "it was asked for under another policy than the one in force: the statement is asked for anew when it is run again"
    )]
    OtherPolicy,
}

impl Bar {
    /// One word, for programs and records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Bar::NotOpen => "not-open",
            Bar::Decided => "decided",
            Bar::NoApprover => "no-approver",
            Bar::Requester => "requester",
            Bar::Again => "again",
            Bar::OtherPolicy => "other-policy",
        }
    }
}

/// The needs that `principal` may decide under `policy`: positions in [`Asked::needs`].
///
/// # Errors
/// It is the requester, or in no group of approvers.
pub fn may_decide(
    asked: &Asked,
    principal: &Principal,
    policy: &Policy,
    people: &People,
) -> Result<Vec<usize>, Bar> {
    match people.same(&asked.requester.human, &Human::of(principal)) {
        Same::Same => return Err(Bar::Requester),
        Same::Different | Same::Unknown => {}
    }
    // Groups are positions in the policy that asks; under another one nobody approves, and the session asks anew.
    if policy.hash() != asked.policy_hash {
        return Err(Bar::OtherPolicy);
    }
    let may = |need: &super::Need| !policy.approves(principal, &need.approval.hold).is_empty();
    let needs: Vec<usize> =
        asked.needs.iter().enumerate().filter_map(|(at, need)| may(need).then_some(at)).collect();
    if needs.is_empty() { Err(Bar::NoApprover) } else { Ok(needs) }
}

/// Whether nobody of them is this one. Who cannot be told apart from one counts as no second, in [`missing`].
#[must_use]
pub fn is_new(votes: &[Vote], by: &Human, people: &People) -> bool {
    votes.iter().all(|vote| people.same(&vote.by, by) != Same::Same)
}

/// How many more must approve, of each need; all zero: it is approved.
#[must_use]
pub fn missing(asked: &Asked, votes: &[Vote], people: &People) -> Vec<usize> {
    let comparable = |vote: &&Vote| people.same(&vote.by, &asked.requester.human) == Same::Different;
    let certain = |vote: &&Vote| people.same(&vote.by, &asked.requester.human) != Same::Same;
    let need = |(at, need): (usize, &super::Need)| {
        let of_need = || votes.iter().filter(|vote| vote.needs.contains(&at));
        let alone = need.quorum().saturating_sub(distinct(of_need().filter(comparable), people));
        let together = need.quorum().max(INCOMPARABLE_QUORUM);
        alone.min(together.saturating_sub(distinct(of_need().filter(certain), people)))
    };
    asked.needs.iter().enumerate().map(need).collect()
}

/// How many of them are certainly different people.
fn distinct<'v>(votes: impl Iterator<Item = &'v Vote>, people: &People) -> usize {
    let mut counted: Vec<&Vote> = Vec::new();
    for vote in votes {
        if counted.iter().all(|before| people.same(&before.by, &vote.by) == Same::Different) {
            counted.push(vote);
        }
    }
    counted.len()
}

#[cfg(test)]
mod tests {
    use super::super::holds::tests::asked;
    use super::super::people::tests::{human, people};
    use super::*;

    fn vote(by: Human, needs: &[usize]) -> Vote {
        Vote { by, needs: needs.to_vec(), at_ms: 0 }
    }

    #[test]
    fn one_comparable_approver_suffices_and_one_that_is_not_does_not() {
        let asked = asked(&[1]);
        let people = people(&[]);
        let lee = human("corp", "lee", Some("lee@e.x"));
        let stranger = human("github", "r", Some("99"));
        assert_eq!(missing(&asked, &[], &people), [1]);
        assert_eq!(missing(&asked, &[vote(lee.clone(), &[0])], &people), [0]);
        assert_eq!(missing(&asked, &[vote(stranger.clone(), &[0])], &people), [1]);
        // The stranger may be anybody, also the other approver: they are no two.
        let both = [vote(stranger.clone(), &[0]), vote(human("machines", "m", None), &[0])];
        assert_eq!(missing(&asked, &both, &people), [1]);
        let two = [vote(stranger, &[0]), vote(human("github", "s", Some("98")), &[0])];
        assert_eq!(missing(&asked, &two, &people), [0]);
    }

    #[test]
    fn a_quorum_is_of_distinct_people_for_each_need() {
        let asked = asked(&[2, 1]);
        let people = people(&[]);
        let lee = |subject: &str| human("corp", subject, Some("lee@e.x"));
        let twice = [vote(lee("lee"), &[0, 1]), vote(lee("lee-agent"), &[0, 1])];
        assert_eq!(missing(&asked, &twice, &people), [1, 0]);
        let kay = human("corp", "kay", Some("kay@e.x"));
        assert_eq!(missing(&asked, &[vote(lee("lee"), &[0]), vote(kay.clone(), &[0])], &people), [0, 1]);
        assert_eq!(missing(&asked, &[vote(lee("lee"), &[0, 1]), vote(kay, &[0])], &people), [0, 0]);
    }

    #[test]
    fn the_requester_counts_for_nothing_even_where_a_vote_stands() {
        let asked = asked(&[1]);
        let people = people(&[]);
        let own = human("corp", "another-agent", Some("kim@e.x"));
        assert_eq!(missing(&asked, &[vote(own, &[0])], &people), [1]);
    }

    #[test]
    fn who_cannot_be_told_apart_from_an_approver_is_no_second_one() {
        let people = people(&[]);
        let votes = [vote(human("corp", "lee", Some("lee@e.x")), &[0])];
        assert!(!is_new(&votes, &human("corp", "lee-2", Some("lee@e.x")), &people));
        assert!(is_new(&votes, &human("corp", "kay", Some("kay@e.x")), &people));
        let asked = asked(&[2]);
        let unsure = human("github", "x", Some("1"));
        assert!(is_new(&votes, &unsure, &people));
        let with = |by: Human| [votes[0].clone(), vote(by, &[0])];
        assert_eq!(missing(&asked, &with(unsure), &people), [1]);
        assert_eq!(missing(&asked, &with(human("corp", "kay", Some("kay@e.x"))), &people), [0]);
    }
}
