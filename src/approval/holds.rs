//! The open holds of a gateway, and the last that ended.
//!
//! Owns: the state of each hold, its bounds, and that a hold is decided once. May not: wait, record, or judge. Each call takes
//! one lock for a few look-ups, and nothing is awaited under it. Never fails; beyond a bound a hold is not opened ([`Full`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::asked::{Asked, Id};
use super::people::{Human, People};
use super::quorum::{self, Bar, Vote};
use super::tickets::{Bounds, Tickets};

/// Holds that ended and can still be asked for.
const ENDED_MAX: usize = 1_000;

/// What bounds the holds, and how they are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Open holds of the gateway.
    pub open_max: usize,
    /// Open holds of one requester.
    pub open_per_requester_max: usize,
    /// Bytes of texts and parameters that they keep for approvers.
    pub bytes_max: usize,
    /// Between two notices to the client.
    pub notice_every: Duration,
    /// Who is the same human.
    pub people: People,
    /// What bounds the tickets.
    pub tickets: Bounds,
}

/// Whoever waits for a decision; told from another thread.
pub trait Wake: Send + Sync {
    /// Something was decided: look again.
    fn wake(&self);
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Approved, and sent.
    Released,
    /// Somebody denied it.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The requester gave it up, or its session ended.
    Withdrawn,
    /// Policy or catalog changed, and it was judged anew.
    Superseded,
}

impl How {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            How::Released => "released",
            How::Denied => "denied",
            How::Expired => "expired",
            How::Withdrawn => "withdrawn",
            How::Superseded => "superseded",
        }
    }
}

/// One that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What was asked.
    pub asked: Arc<Asked>,
    /// How it ended.
    pub how: How,
    /// Why, in words that the client was told.
    pub reason: String,
}

/// One that is open.
#[derive(Clone, Debug)]
pub struct Open {
    /// What is asked.
    pub asked: Arc<Asked>,
    /// Who has approved.
    pub votes: Vec<Vote>,
    /// How many more must, of each need.
    pub missing: Vec<usize>,
}

/// What is known of an id.
#[derive(Clone, Debug)]
pub enum Found {
    /// It waits, or was decided and its session is about to act on that.
    Open(Open),
    /// It ended.
    Ended(Ended),
}

/// What has become of a hold, for its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits.
    Open,
    /// It may be sent: with these approvals.
    Approved(Vec<Vote>),
    /// It may not.
    Denied {
        /// Who said so.
        by: String,
        /// And why.
        reason: String,
    },
}

/// No hold is opened: too many are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of the gateway.
    #[error("the gateway has all the open holds that it may have ([holds] open_max)")]
    Gateway,
    /// Of this requester.
    #[error("you have all the open holds that you may have ([holds] open_per_requester_max)")]
    Requester,
    /// Their texts.
    #[error("the texts of open holds fill what is kept of them ([holds] bytes_max)")]
    Bytes,
}

/// Where a hold stands.
///
/// ```text
///   Opening ── its record is on disk ──► Open ──┬── the last approval that it needs ──► Approved ──┐
///      │                                        ├── one denial ───────────────────────► Denied ────┤
///      │                                        ├── its time is up ───────────────────► Over ──────┤
///      └───────────────────────────── the session ends it: cancel, close, reload, drain ───────────┴──► gone
/// ```
///
/// Only the session takes it out; a decision counts in `Open` alone, so that exactly one of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It is being recorded: nobody is shown it.
    Opening,
    /// It waits for people.
    Open,
    /// It may be sent.
    Approved,
    /// It may not.
    Denied { by: String, reason: String },
    /// Its session is ending it.
    Over,
}

struct Entry {
    asked: Arc<Asked>,
    state: State,
    votes: Vec<Vote>,
    wake: Arc<dyn Wake>,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<Id, Entry>,
    bytes: usize,
    ended: VecDeque<Ended>,
}

/// See the module.
pub struct Holds {
    settings: ArcSwap<Settings>,
    tickets: Arc<Tickets>,
    inner: Mutex<Inner>,
}

impl Holds {
    /// None open.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let tickets = Arc::new(Tickets::closed(settings.tickets));
        Self { settings: ArcSwap::from_pointee(settings), tickets, inner: Mutex::default() }
    }

    /// What became of those that nobody waits for.
    #[must_use]
    pub fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Other settings, for what comes from here on; who waits looks again.
    pub fn configure(&self, settings: Settings) {
        self.tickets.bound(settings.tickets);
        self.settings.store(Arc::new(settings));
        for entry in self.lock().open.values() {
            entry.wake.wake();
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves maps whose entries are whole: each is put in and taken out by one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a hold that is about to be recorded.
    ///
    /// # Errors
    /// [`Full`].
    pub fn open(self: &Arc<Self>, asked: Asked, wake: Arc<dyn Wake>) -> Result<Seat, Full> {
        let settings = self.settings.load();
        let mut inner = self.lock();
        if inner.open.len() >= settings.open_max {
            return Err(Full::Gateway);
        }
        let same = |entry: &&Entry| {
            let (known, new) = (&entry.asked.requester, &asked.requester);
            known.issuer == new.issuer && known.subject == new.subject
        };
        if inner.open.values().filter(same).count() >= settings.open_per_requester_max {
            return Err(Full::Requester);
        }
        if inner.bytes.saturating_add(asked.bytes()) > settings.bytes_max {
            return Err(Full::Bytes);
        }
        inner.bytes += asked.bytes();
        let asked = Arc::new(asked);
        let entry = Entry { asked: Arc::clone(&asked), state: State::Opening, votes: Vec::new(), wake };
        inner.open.insert(asked.id, entry);
        Ok(Seat { holds: Arc::clone(self), asked, ended: false })
    }

    /// Those that people can decide, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Open> {
        let people = &self.settings.load().people;
        let inner = self.lock();
        let shown = inner.open.values().filter(|entry| entry.state == State::Open);
        let mut open: Vec<Open> = shown.map(|entry| entry.shown(people)).collect();
        open.sort_by_key(|open| (open.asked.opened_ms, open.asked.id));
        open
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// What is known of `id`.
    #[must_use]
    pub fn find(&self, id: Id) -> Option<Found> {
        let people = &self.settings.load().people;
        let inner = self.lock();
        match inner.open.get(&id) {
            Some(Entry { state: State::Opening, .. }) => None,
            Some(entry) => Some(Found::Open(entry.shown(people))),
            None => inner.ended.iter().find(|ended| ended.asked.id == id).cloned().map(Found::Ended),
        }
    }

    /// What `id` asks, where it can still be decided by `by`, who would be a new voice.
    ///
    /// # Errors
    /// [`Bar`].
    pub fn decidable(&self, id: Id, by: &Human, now_ms: u64) -> Result<Arc<Asked>, Bar> {
        let people = &self.settings.load().people;
        let inner = self.lock();
        let entry = inner.open.get(&id).ok_or(Bar::NotOpen)?;
        entry.hears(by, people, now_ms)?;
        Ok(Arc::clone(&entry.asked))
    }

    /// Whether it can still be decided.
    ///
    /// # Errors
    /// [`Bar`].
    pub fn is_open(&self, id: Id, now_ms: u64) -> Result<(), Bar> {
        self.lock().open.get(&id).ok_or(Bar::NotOpen)?.is_undecided(now_ms)
    }

    /// An approval, recorded before; how many more are missing in all.
    ///
    /// # Errors
    /// [`Bar`]: it ended, or was decided meanwhile.
    pub fn approve(&self, id: Id, vote: Vote) -> Result<usize, Bar> {
        let people = &self.settings.load().people;
        let mut inner = self.lock();
        let entry = inner.open.get_mut(&id).ok_or(Bar::NotOpen)?;
        entry.hears(&vote.by, people, vote.at_ms)?;
        entry.votes.push(vote);
        let missing: usize = quorum::missing(&entry.asked, &entry.votes, people).iter().sum();
        if missing == 0 {
            entry.state = State::Approved;
        }
        entry.wake.wake();
        Ok(missing)
    }

    /// A denial, recorded before: one is enough.
    ///
    /// # Errors
    /// As [`Holds::approve`].
    pub fn deny(&self, id: Id, by: String, reason: String, now_ms: u64) -> Result<(), Bar> {
        let mut inner = self.lock();
        let entry = inner.open.get_mut(&id).ok_or(Bar::NotOpen)?;
        entry.is_undecided(now_ms)?;
        entry.state = State::Denied { by, reason };
        entry.wake.wake();
        Ok(())
    }
}

impl Entry {
    fn shown(&self, people: &People) -> Open {
        Open {
            asked: Arc::clone(&self.asked),
            votes: self.votes.clone(),
            missing: quorum::missing(&self.asked, &self.votes, people),
        }
    }

    fn is_undecided(&self, now_ms: u64) -> Result<(), Bar> {
        match self.state {
            State::Open if now_ms >= self.asked.expires_ms => Err(Bar::NotOpen),
            State::Open => Ok(()),
            State::Approved | State::Denied { .. } => Err(Bar::Decided),
            State::Opening | State::Over => Err(Bar::NotOpen),
        }
    }

    /// Whether `by` would be a new voice.
    fn hears(&self, by: &Human, people: &People, now_ms: u64) -> Result<(), Bar> {
        self.is_undecided(now_ms)?;
        if quorum::is_new(&self.votes, by, people) { Ok(()) } else { Err(Bar::Again) }
    }

    fn outcome(&self) -> Outcome {
        match &self.state {
            State::Opening | State::Open | State::Over => Outcome::Open,
            State::Approved => Outcome::Approved(self.votes.clone()),
            State::Denied { by, reason } => Outcome::Denied { by: by.clone(), reason: reason.clone() },
        }
    }
}

/// The session's own end of a hold. Dropped without [`Seat::end`], the hold is withdrawn.
pub struct Seat {
    holds: Arc<Holds>,
    asked: Arc<Asked>,
    ended: bool,
}

impl Seat {
    /// What is asked.
    #[must_use]
    pub fn asked(&self) -> &Arc<Asked> {
        &self.asked
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.holds.settings()
    }

    /// Its record is on disk: people may see and decide it.
    pub fn show(&self) {
        if let Some(entry) = self.holds.lock().open.get_mut(&self.asked.id) {
            entry.state = State::Open;
        }
    }

    /// What has become of it.
    #[must_use]
    pub fn look(&self) -> Outcome {
        self.holds.lock().open.get(&self.asked.id).map_or(Outcome::Open, Entry::outcome)
    }

    /// Its time is up: a decision that came before counts, and none that comes later.
    #[must_use]
    pub fn expire(&self) -> Outcome {
        let mut inner = self.holds.lock();
        let Some(entry) = inner.open.get_mut(&self.asked.id) else { return Outcome::Open };
        if entry.state == State::Open {
            entry.state = State::Over;
        }
        entry.outcome()
    }

    /// It ended.
    pub fn end(mut self, how: How, reason: String) {
        self.leave(how, reason);
    }

    fn leave(&mut self, how: How, reason: String) {
        self.ended = true;
        let mut inner = self.holds.lock();
        if inner.open.remove(&self.asked.id).is_some() {
            inner.bytes -= self.asked.bytes();
        }
        if inner.ended.len() >= ENDED_MAX {
            inner.ended.pop_front();
        }
        // Of what ended nobody needs the values.
        let asked = Asked {
            text: Arc::from(""),
            runs: Vec::new(),
            parameters: Vec::new(),
            ..Asked::clone(&self.asked)
        };
        inner.ended.push_back(Ended { asked: Arc::new(asked), how, reason });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.ended {
            self.leave(How::Withdrawn, "the session ended".to_owned());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pgturnstile_rules::policy::{Approval, Hold, HoldMode, Place, Rule};

    use super::super::asked::{Need, Requester};
    use super::super::people::tests::{human, people};
    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What `corp/agent` of `kim@e.x` asks, of needs with these quorums.
    pub(in crate::approval) fn asked(quorums: &[u32]) -> Asked {
        let need = |quorum: &u32| Need {
            rule: "r (policy.toml:1)".to_owned(),
            approval: Approval {
                rule: Rule { id: "r".into(), place: Place { file: "policy.toml".into(), line: 1 } },
                hold: Hold {
                    approvers: vec![0],
                    quorum: *quorum,
                    ttl_s: 60,
                    in_transaction_ttl_s: 60,
                    ticket_ttl_s: Some(60),
                    mode: HoldMode::Wait,
                },
            },
            groups: vec!["dba".to_owned()],
        };
        Asked {
            id: Id::random().unwrap(),
            session: [1; 16],
            record: 7,
            requester: Requester {
                issuer: "corp".to_owned(),
                subject: "agent".to_owned(),
                person: Some("kim@e.x".to_owned()),
                groups: Vec::new(),
                claims: Vec::new(),
                human: human("corp", "agent", Some("kim@e.x")),
            },
            target: "crm".to_owned(),
            access: "agents".to_owned(),
            needs: quorums.iter().map(need).collect(),
            message: "DELETE on crm.orders".to_owned(),
            statements: vec![("write.delete".to_owned(), "DELETE".to_owned())],
            reaches: Vec::new(),
            lifted: Arc::from("DELETE FROM orders"),
            text: Arc::from("DELETE FROM orders"),
            runs: Vec::new(),
            parameters: Vec::new(),
            in_transaction: false,
            opened_ms: 0,
            expires_ms: 60_000,
            binding: [0; 32],
            policy_hash: [0; 32],
        }
    }

    fn holds(open_max: usize, bytes_max: usize) -> Arc<Holds> {
        Arc::new(Holds::new(Settings {
            open_max,
            open_per_requester_max: open_max,
            bytes_max,
            notice_every: Duration::from_secs(5),
            people: people(&[]),
            tickets: Bounds { live_max: 0, per_requester_max: 0, bytes_max: 0 },
        }))
    }

    fn vote(name: &str) -> Vote {
        Vote { by: human("corp", name, Some(name)), needs: vec![0], at_ms: 1 }
    }

    fn opened(holds: &Arc<Holds>, quorum: u32) -> (Seat, Id, Arc<Bell>) {
        let bell = Arc::new(Bell::default());
        let seat = holds.open(asked(&[quorum]), Arc::clone(&bell) as Arc<dyn Wake>).unwrap();
        let id = seat.asked().id;
        (seat, id, bell)
    }

    #[test]
    fn nobody_sees_or_decides_a_hold_before_it_is_recorded() {
        let holds = holds(9, 1_000);
        let (seat, id, _) = opened(&holds, 1);
        assert!(holds.list().is_empty() && holds.find(id).is_none());
        assert_eq!(holds.approve(id, vote("lee")), Err(Bar::NotOpen));
        assert_eq!(holds.deny(id, "lee".into(), "no".into(), 1), Err(Bar::NotOpen));
        seat.show();
        assert_eq!(holds.list().len(), 1);
        assert!(matches!(holds.find(id), Some(Found::Open(_))));
    }

    #[test]
    fn it_is_decided_once_and_its_session_hears_of_it() {
        let holds = holds(9, 1_000);
        let (seat, id, bell) = opened(&holds, 2);
        seat.show();
        assert_eq!(holds.approve(id, vote("lee")), Ok(1));
        assert_eq!(seat.look(), Outcome::Open);
        assert_eq!(holds.approve(id, vote("lee")), Err(Bar::Again));
        assert_eq!(holds.approve(id, vote("kay")), Ok(0));
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
        assert_eq!(seat.look(), Outcome::Approved(vec![vote("lee"), vote("kay")]));
        assert_eq!(holds.deny(id, "ann".into(), "no".into(), 1), Err(Bar::Decided), "it is too late");
        assert_eq!(holds.decidable(id, &vote("ann").by, 1).map(|_| ()), Err(Bar::Decided));
        assert!(matches!(seat.expire(), Outcome::Approved(_)), "what came in time counts");
        seat.end(How::Released, "approved".into());
        let Some(Found::Ended(ended)) = holds.find(id) else { panic!("it ended") };
        assert_eq!((ended.how, &*ended.asked.text), (How::Released, ""), "and its text is gone");
        assert_eq!((holds.count(), holds.lock().bytes), (0, 0));
    }

    #[test]
    fn behind_its_time_nothing_counts() {
        let holds = holds(9, 1_000);
        let (seat, id, _) = opened(&holds, 1);
        seat.show();
        assert_eq!(seat.expire(), Outcome::Open);
        assert_eq!(holds.approve(id, vote("lee")), Err(Bar::NotOpen));
        assert_eq!(holds.deny(id, "lee".into(), "no".into(), 1), Err(Bar::NotOpen));
        assert!(holds.list().is_empty());
        seat.end(How::Expired, String::new());
    }

    #[test]
    fn a_decision_behind_its_end_comes_too_late_although_its_session_has_not_looked() {
        let holds = holds(9, 1_000);
        let (seat, id, _) = opened(&holds, 1);
        seat.show();
        let late = Vote { at_ms: seat.asked().expires_ms, ..vote("lee") };
        assert_eq!(holds.approve(id, late), Err(Bar::NotOpen));
        assert_eq!(holds.deny(id, "lee".into(), "no".into(), 60_001), Err(Bar::NotOpen));
        assert_eq!(seat.look(), Outcome::Open);
    }

    #[test]
    fn a_session_that_goes_takes_its_hold_along() {
        let holds = holds(9, 1_000);
        let (seat, id, _) = opened(&holds, 1);
        seat.show();
        drop(seat);
        assert!(matches!(holds.find(id), Some(Found::Ended(Ended { how: How::Withdrawn, .. }))));
        assert_eq!(holds.approve(id, vote("lee")), Err(Bar::NotOpen));
        assert_eq!(holds.count(), 0);
    }

    #[test]
    fn bounds_are_kept_and_given_back() {
        let few = holds(2, 1_000);
        let first = opened(&few, 1);
        let _second = opened(&few, 1);
        let bell: Arc<dyn Wake> = Arc::new(Bell::default());
        assert_eq!(few.open(asked(&[1]), Arc::clone(&bell)).err(), Some(Full::Gateway));
        drop(first);
        assert!(few.open(asked(&[1]), Arc::clone(&bell)).is_ok());
        let small = holds(9, asked(&[1]).bytes());
        let _only = opened(&small, 1);
        assert_eq!(small.open(asked(&[1]), Arc::clone(&bell)).err(), Some(Full::Bytes));
        let one = Settings { open_per_requester_max: 1, ..Settings::clone(&few.settings()) };
        few.configure(one);
        assert_eq!(few.open(asked(&[1]), bell).err(), Some(Full::Requester));
    }

    #[test]
    fn of_decisions_at_the_same_time_exactly_one_stands() {
        let holds = holds(9, 1_000);
        for _ in 0..2_000 {
            let (seat, id, _) = opened(&holds, 1);
            seat.show();
            let barrier = std::sync::Barrier::new(3);
            let (approved, denied, expired) = std::thread::scope(|scope| {
                let approve = scope.spawn(|| {
                    barrier.wait();
                    holds.approve(id, vote("lee")).is_ok()
                });
                let deny = scope.spawn(|| {
                    barrier.wait();
                    holds.deny(id, "kay".into(), "no".into(), 1).is_ok()
                });
                barrier.wait();
                let outcome = seat.expire();
                (approve.join().unwrap(), deny.join().unwrap(), outcome)
            });
            assert_eq!(
                usize::from(approved) + usize::from(denied) + usize::from(expired == Outcome::Open),
                1,
                "{expired:?}"
            );
            match seat.look() {
                Outcome::Open => assert!(!approved && !denied),
                Outcome::Approved(_) => assert!(approved),
                Outcome::Denied { .. } => assert!(denied),
            }
        }
    }
}
