//! Tests of the tickets: their states against a model, and what a start finds of them.

use std::collections::HashMap;
use std::fs;

use proptest::prelude::*;

use super::super::holds::tests::asked;
use super::super::people::tests::{human, people};
use super::super::ticket::{PARTS, Why};
use super::*;

const BOUNDS: Bounds = Bounds { live_max: 9, per_requester_max: 9, bytes_max: 1 << 20 };
/// Before a ticket's end.
const NOW: u64 = 5;

fn kept(folder: &Path) -> Tickets {
    let tickets = Tickets::closed(BOUNDS);
    tickets.keep_in(folder).unwrap();
    tickets
}

fn parts(tickets: &Tickets, text: u8) -> Parts {
    let mut of: [Vec<u8>; PARTS.len()] = std::array::from_fn(|_| Vec::new());
    of[0].push(text);
    tickets.parts(&of).unwrap()
}

fn ticket(tickets: &Tickets, quorum: u32, text: u8) -> Ticket {
    Ticket::new(asked(&[quorum]), parts(tickets, text), Why::Mode)
}

fn vote(name: &str) -> Vote {
    Vote { by: human("corp", name, Some(name)), needs: vec![0], at_ms: NOW }
}

fn sought<'s>(parts: &'s Parts, bar: Option<&'static str>) -> Sought<'s> {
    Sought { issuer: "corp", subject: "agent", parts, lifted: "another", bar }
}

fn opened(tickets: &Tickets, quorum: u32, text: u8) -> Id {
    let ticket = ticket(tickets, quorum, text);
    let id = ticket.id();
    tickets.open(ticket).unwrap();
    id
}

fn barred(done: Result<impl Sized, Undone>) -> Option<Bar> {
    match done {
        Err(Undone::Barred(bar)) => Some(bar),
        Ok(_) | Err(_) => None,
    }
}

#[test]
fn an_approved_ticket_passes_once_and_never_again_behind_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let people = people(&[]);
    let tickets = kept(folder.path());
    let id = opened(&tickets, 2, 1);
    let one = parts(&tickets, 1);
    assert!(matches!(tickets.look(&sought(&one, None), &people, NOW), Look::Waits(_)));
    assert!(matches!(tickets.approve(id, vote("lee"), &people), Ok(1)));
    assert_eq!(barred(tickets.approve(id, vote("lee"), &people)), Some(Bar::Again));
    assert_eq!(barred(tickets.spend(id, &people, NOW)), Some(Bar::Decided), "one of two is not enough");
    // Killed between the decisions, and between decision and use.
    drop(tickets);
    let tickets = kept(folder.path());
    assert!(matches!(tickets.approve(id, vote("kay"), &people), Ok(0)));
    drop(tickets);
    let tickets = kept(folder.path());
    let one = parts(&tickets, 1);
    let Look::Passes(found) = tickets.look(&sought(&one, None), &people, NOW) else { panic!("it passes") };
    assert_eq!((found.id(), found.votes.len()), (id, 2));
    assert!(tickets.spend(id, &people, NOW).is_ok());
    assert_eq!(barred(tickets.spend(id, &people, NOW)), Some(Bar::Decided));
    assert!(matches!(tickets.look(&sought(&one, None), &people, NOW), Look::Nothing));
    // Killed between its use and the sending.
    drop(tickets);
    let tickets = kept(folder.path());
    assert!(matches!(tickets.look(&sought(&one, None), &people, NOW), Look::Nothing));
    let found = tickets.find(id).unwrap();
    assert_eq!((&found.state, &*found.asked.text), (&State::Used, ""), "and its values are gone");
    assert_eq!(tickets.figures(), Figures::default());
}

#[test]
fn what_is_another_is_said_and_what_one_session_alone_has_never_passes() {
    let folder = tempfile::tempdir().unwrap();
    let people = people(&[]);
    let tickets = kept(folder.path());
    let id = opened(&tickets, 1, 1);
    tickets.approve(id, vote("lee"), &people).unwrap();
    for (at, name) in PARTS.iter().enumerate().skip(1) {
        let mut of: [Vec<u8>; PARTS.len()] = std::array::from_fn(|_| Vec::new());
        of[0].push(1);
        of[at].push(9);
        let other = tickets.parts(&of).unwrap();
        let Look::Differs(found, what) = tickets.look(&sought(&other, None), &people, NOW) else {
            panic!("{name}")
        };
        assert_eq!((found.id(), what), (id, vec![*name]));
    }
    let one = parts(&tickets, 1);
    let Look::Differs(_, what) = tickets.look(&sought(&one, Some("temporary")), &people, NOW) else {
        panic!()
    };
    assert_eq!(what, ["temporary"]);
    // Another text is another matter, unless its literals alone are others.
    let other = parts(&tickets, 2);
    assert!(matches!(tickets.look(&sought(&other, None), &people, NOW), Look::Nothing));
    let literals = Sought { lifted: "DELETE FROM orders", ..sought(&other, None) };
    assert!(matches!(tickets.look(&literals, &people, NOW), Look::Differs(_, what) if what == [PARTS[0]]));
    // Another requester's is not even told of.
    let somebody = Sought { subject: "another", ..sought(&one, None) };
    assert!(matches!(tickets.look(&somebody, &people, NOW), Look::Nothing));
    // The people who approved it are one by now.
    let now_kim = super::super::people::tests::people(&[&[("corp", "lee"), ("corp", "kim@e.x")]]);
    assert!(
        matches!(tickets.look(&sought(&one, None), &now_kim, NOW), Look::Differs(_, what) if what == [NOT_ENOUGH])
    );
    assert_eq!(barred(tickets.spend(id, &now_kim, NOW)), Some(Bar::Decided));
    // Its time is up.
    assert!(matches!(tickets.look(&sought(&one, None), &people, 60_000), Look::Nothing));
    assert_eq!(barred(tickets.spend(id, &people, 60_000)), Some(Bar::Decided));
    assert_eq!(tickets.due(60_000).len(), 1);
}

#[test]
fn a_denial_is_told_once_and_takes_back_what_nobody_has_used() {
    let folder = tempfile::tempdir().unwrap();
    let people = people(&[]);
    let tickets = kept(folder.path());
    let id = opened(&tickets, 1, 1);
    tickets.approve(id, vote("lee"), &people).unwrap();
    tickets.deny(id, "kay".into(), "no".into(), NOW).unwrap();
    assert_eq!(barred(tickets.deny(id, "kay".into(), "no".into(), NOW)), Some(Bar::Decided));
    drop(tickets);
    let tickets = kept(folder.path());
    let one = parts(&tickets, 1);
    assert!(matches!(tickets.look(&sought(&one, None), &people, NOW), Look::Denied(_)));
    tickets.tell(id).unwrap();
    assert_eq!(barred(tickets.tell(id)), Some(Bar::Decided));
    assert!(matches!(tickets.look(&sought(&one, None), &people, NOW), Look::Nothing));
    assert!(matches!(&tickets.find(id).unwrap().state, State::Told { reason, .. } if reason == "no"));
}

#[test]
fn bounds_are_kept_and_given_back_and_without_a_journal_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = Tickets::closed(Bounds { live_max: 1, ..BOUNDS });
    assert!(matches!(tickets.room(&asked(&[1])), Err(Undone::Unkept(Fault::Closed))));
    tickets.keep_in(folder.path()).unwrap();
    let first = opened(&tickets, 1, 1);
    assert!(matches!(tickets.open(ticket(&tickets, 1, 2)), Err(Undone::Full)));
    tickets.expire(first).unwrap();
    opened(&tickets, 1, 2);
    tickets.bound(Bounds { per_requester_max: 1, ..BOUNDS });
    assert!(matches!(tickets.open(ticket(&tickets, 1, 3)), Err(Undone::FullForRequester)));
    tickets.bound(Bounds { bytes_max: 10, ..BOUNDS });
    assert!(matches!(tickets.open(ticket(&tickets, 1, 3)), Err(Undone::FullOfBytes)));
}

#[test]
fn a_journal_that_says_what_cannot_follow_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = kept(folder.path());
    let id = opened(&tickets, 1, 1);
    drop(tickets);
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&serde_json::to_string(&Entry::Used { id }).unwrap()).unwrap();
    drop(journal);
    let fault = Tickets::closed(BOUNDS).keep_in(folder.path()).unwrap_err();
    let path = folder.path().join(journal::FILE);
    let bytes = fs::read(&path).unwrap();
    let begins = bytes.split_inclusive(|byte| *byte == b'\n').take(2).map(<[u8]>::len).sum::<usize>();
    assert!(matches!(&fault, Fault::Damaged { line: 3, offset, .. } if *offset == begins), "{fault}");
    assert!(explain(&path).is_err());
}

#[test]
fn it_is_written_anew_before_it_grows_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = kept(folder.path());
    let stays = opened(&tickets, 1, 1);
    let path = folder.path().join(journal::FILE);
    let mut longest = 0;
    for _ in 0..3 * ENDED_MAX {
        let id = opened(&tickets, 1, 2);
        tickets.expire(id).unwrap();
        longest = longest.max(fs::metadata(&path).unwrap().len());
    }
    assert!(longest < 4 * REWRITE_BYTES, "{longest}");
    assert_eq!(tickets.list().len(), ENDED_MAX + 1);
    drop(tickets);
    let tickets = kept(folder.path());
    assert_eq!(tickets.find(stays).map(|ticket| ticket.state.clone()), Some(State::Open));
    assert_eq!(tickets.list().len(), ENDED_MAX + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Open(u8),
    Approve(usize, u8, u64),
    Deny(usize, u64),
    Spend(usize, u64),
    Tell(usize),
    Expire(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    // The second is behind a ticket's end.
    let time = || prop_oneof![4 => Just(NOW), 1 => Just(60_000)];
    prop_oneof![
        (1..=2_u8).prop_map(Step::Open),
        (0..4_usize, 0..3_u8, time()).prop_map(|(which, who, now)| Step::Approve(which, who, now)),
        (0..4_usize, time()).prop_map(|(which, now)| Step::Deny(which, now)),
        (0..4_usize, time()).prop_map(|(which, now)| Step::Spend(which, now)),
        (0..4_usize).prop_map(Step::Tell),
        (0..4_usize).prop_map(Step::Expire),
        Just(Step::Restart),
    ]
}

/// What a ticket is, told again in the plainest way.
#[derive(Default)]
struct Model {
    quorum: u8,
    approved: Vec<u8>,
    denied: bool,
    over: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, with a start anywhere: a statement passes once at most, only approved by enough people, never
    /// behind a denial or its end.
    #[test]
    fn a_ticket_does_what_its_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let people = people(&[]);
        let mut tickets = kept(folder.path());
        let mut ids: Vec<Id> = Vec::new();
        let mut models: HashMap<Id, Model> = HashMap::new();
        for step in steps {
            let of = |which: usize| ids.get(which).copied();
            match step {
                Step::Open(quorum) if ids.len() < 4 => {
                    let id = opened(&tickets, u32::from(quorum), 1);
                    ids.push(id);
                    models.insert(id, Model { quorum, ..Model::default() });
                }
                Step::Open(_) => {}
                Step::Approve(which, who, now) => if let Some(id) = of(which) {
                    let model = models.get_mut(&id).unwrap();
                    let full = model.approved.len() >= usize::from(model.quorum);
                    let may = !model.over && !model.denied && !full && now < 60_000 && !model.approved.contains(&who);
                    let vote = Vote { at_ms: now, ..vote(["ann", "bob", "cat"][usize::from(who)]) };
                    prop_assert_eq!(tickets.approve(id, vote, &people).is_ok(), may);
                    if may { model.approved.push(who); }
                },
                Step::Deny(which, now) => if let Some(id) = of(which) {
                    let model = models.get_mut(&id).unwrap();
                    let may = !model.over && !model.denied && now < 60_000;
                    prop_assert_eq!(tickets.deny(id, "ann".into(), "no".into(), now).is_ok(), may);
                    model.denied |= may;
                },
                Step::Spend(which, now) => if let Some(id) = of(which) {
                    let model = models.get_mut(&id).unwrap();
                    let enough = model.approved.len() >= usize::from(model.quorum);
                    let may = !model.over && !model.denied && enough && now < 60_000;
                    prop_assert_eq!(tickets.spend(id, &people, now).is_ok(), may);
                    model.over |= may;
                },
                Step::Tell(which) => if let Some(id) = of(which) {
                    let model = models.get_mut(&id).unwrap();
                    let may = !model.over && model.denied;
                    prop_assert_eq!(tickets.tell(id).is_ok(), may);
                    model.over |= may;
                },
                Step::Expire(which) => if let Some(id) = of(which) {
                    let model = models.get_mut(&id).unwrap();
                    prop_assert_eq!(tickets.expire(id).is_ok(), !model.over);
                    model.over = true;
                },
                Step::Restart => {
                    let before = tickets.list();
                    drop(tickets);
                    tickets = kept(folder.path());
                    // What ended keeps no values, and the text of the samples is one.
                    prop_assert_eq!(tickets.list(), before);
                }
            }
            let live = models.values().filter(|model| !model.over).count() as u64;
            let figures = tickets.figures();
            prop_assert_eq!(figures.open + figures.approved + figures.denied, live);
        }
    }
}
