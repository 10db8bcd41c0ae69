//! The tickets of a gateway, and their journal.
//!
//! Owns: every ticket's state and its bounds, and that each change of one is on disk before anybody acts on it. May not: judge, or
//! write a record. Each change waits for the disk: whoever asks for one does so where waiting stalls nobody. Fails closed: what
//! cannot be written down does not happen, and a ticket is used before its statement goes, never behind it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::asked::{Asked, Id};
use super::journal::{self, Fault, Journal, Read};
use super::people::{Human, People};
use super::quorum::{self, Bar, Vote};
use super::ticket::{Kept, Parts, State, Ticket};

/// Tickets that ended and can still be asked for.
const ENDED_MAX: usize = if cfg!(test) { 40 } else { 1_000 };
/// A journal that is shorter is not written anew, bytes.
const REWRITE_BYTES: u64 = if cfg!(test) { 1 << 16 } else { 1 << 20 };

/// What bounds the tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tickets of which something can still come.
    pub live_max: usize,
    /// The same of one requester.
    pub per_requester_max: usize,
    /// Bytes that they take in the journal.
    pub bytes_max: usize,
}

/// Why a change did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Undone {
    /// The gateway has all that it may have.
    #[error("the gateway has all the tickets that it may have ([holds] tickets_max)")]
    Full,
    /// This requester has.
    #[error("you have all the tickets that you may have ([holds] tickets_per_requester_max)")]
    FullForRequester,
    /// Their texts do.
    #[error("what tickets keep fills what may be kept of them ([holds] tickets_bytes_max)")]
    FullOfBytes,
    /// Its state allows no such change.
    #[error(transparent)]
    Barred(#[from] Bar),
    /// It could not be written down.
    #[error(transparent)]
    Unkept(#[from] Fault),
}

/// What a requester's statement meets.
#[derive(Debug)]
pub enum Look {
    /// No ticket of his is for anything like it.
    Nothing,
    /// An approved one, which lets it pass.
    Passes(Arc<Ticket>),
    /// A denied one, of which he has not been told.
    Denied(Arc<Ticket>),
    /// One that people have not decided.
    Waits(Arc<Ticket>),
    /// An approved one for a statement that is not this one in everything.
    Differs(Arc<Ticket>, Vec<&'static str>),
}

/// Whose statement it is, and what of it tickets are compared by.
pub struct Sought<'s> {
    /// The `[[issuer]]` entry.
    pub issuer: &'s str,
    /// The token's subject.
    pub subject: &'s str,
    /// What it binds.
    pub parts: &'s Parts,
    /// Its text with its literals lifted.
    pub lifted: &'s str,
    /// Why no ticket can be for it, as it stands.
    pub bar: Option<&'static str>,
}

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    /// A ticket, new or as it stood when the journal was written anew.
    Ticket(Box<Kept>),
    /// Somebody has approved it; `enough`: all that had to.
    Approved { id: Id, vote: Vote, enough: bool },
    /// Somebody has denied it.
    Denied { id: Id, by: String, reason: String },
    /// Its statement is about to go.
    Used { id: Id },
    /// Its requester is about to be told.
    Told { id: Id },
    /// Its time is up.
    Expired { id: Id },
}

/// How many tickets there are, by state, and whether they can be written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Undecided ones.
    pub open: u64,
    /// Approved ones that are not used.
    pub approved: u64,
    /// Denied ones that nobody was told of.
    pub denied: u64,
    /// What they take in the journal.
    pub bytes: u64,
    /// The journal could not be written.
    pub broken: bool,
}

#[derive(Default)]
struct Inner {
    /// Each with the bytes that it is charged.
    tickets: BTreeMap<Id, (Arc<Ticket>, usize)>,
    bytes: usize,
    ended: VecDeque<Id>,
}

/// See the module.
pub struct Tickets {
    bounds: ArcSwap<Bounds>,
    inner: RwLock<Inner>,
    /// Whoever changes anything holds it from the look to the effect.
    journal: Mutex<Option<Journal>>,
    key: ArcSwap<Option<[u8; 32]>>,
}

impl Inner {
    fn live(&self) -> impl Iterator<Item = &Arc<Ticket>> {
        self.tickets.values().map(|(ticket, _)| ticket).filter(|ticket| ticket.state.is_live())
    }

    fn get(&self, id: Id) -> Result<&Arc<Ticket>, Bar> {
        self.tickets.get(&id).map(|(ticket, _)| ticket).ok_or(Bar::NotOpen)
    }

    /// What a line says takes effect; of `bytes`, where it makes a ticket.
    fn apply(&mut self, entry: Entry, bytes: usize) -> Result<(), &'static str> {
        let (id, state) = match entry {
            Entry::Ticket(kept) => {
                let ticket = Arc::new(Ticket::from(*kept));
                let (id, live) = (ticket.id(), ticket.state.is_live());
                if self.tickets.insert(id, (ticket, bytes)).is_some() {
                    return Err("it opens a ticket that is there already");
                }
                self.bytes += bytes;
                if !live {
                    self.over(id);
                }
                return Ok(());
            }
            Entry::Approved { id, vote, enough } => {
                let Some((ticket, _)) = self.tickets.get_mut(&id).filter(|(t, _)| t.state == State::Open)
                else {
                    return Err("it approves what is not open");
                };
                let ticket = Arc::make_mut(ticket);
                ticket.votes.push(vote);
                if enough {
                    ticket.state = State::Approved;
                }
                return Ok(());
            }
            Entry::Denied { id, by, reason } => (id, State::Denied { by, reason }),
            Entry::Used { id } => (id, State::Used),
            Entry::Told { id } => match self.get(id).map(|ticket| ticket.state.clone()) {
                Ok(State::Denied { by, reason }) => (id, State::Told { by, reason }),
                Ok(State::Open | State::Approved | State::Used | State::Told { .. } | State::Expired)
                | Err(_) => return Err("it tells of what was not denied"),
            },
            Entry::Expired { id } => (id, State::Expired),
        };
        let Some((ticket, _)) = self.tickets.get_mut(&id) else { return Err("it is about no ticket") };
        let follows = match (&ticket.state, &state) {
            (State::Open | State::Approved, State::Denied { .. }) | (State::Approved, State::Used) => true,
            (before, State::Expired) => before.is_live(),
            (State::Denied { .. }, State::Told { .. }) => true,
            (_, State::Open | State::Approved | State::Denied { .. } | State::Used | State::Told { .. }) => {
                false
            }
        };
        if !follows {
            return Err("it does not follow from where its ticket stood");
        }
        let live = state.is_live();
        Arc::make_mut(ticket).state = state;
        if !live {
            self.over(id);
        }
        Ok(())
    }

    /// Nothing can come of it any more: its values go.
    fn over(&mut self, id: Id) {
        if let Some((ticket, charged)) = self.tickets.get_mut(&id) {
            self.bytes -= *charged;
            *charged = 0;
            let bare = ticket.without_values();
            Arc::make_mut(ticket).asked = Arc::new(bare);
        }
        self.ended.push_back(id);
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.tickets.remove(&oldest);
        }
    }

    /// Those that ended first, in their order, then those that live.
    fn lines(&self) -> Vec<String> {
        let ended = self.ended.iter().filter_map(|id| self.tickets.get(id)).map(|(ticket, _)| ticket);
        let kept = |ticket: &Arc<Ticket>| Entry::Ticket(Box::new(Ticket::clone(ticket).into()));
        ended.chain(self.live()).filter_map(|ticket| serde_json::to_string(&kept(ticket)).ok()).collect()
    }
}

/// Reads what a journal says.
fn replayed(path: &Path, read: &Read) -> Result<Inner, Fault> {
    let mut inner = Inner::default();
    for (number, line) in (2..).zip(&read.lines) {
        let damaged = |what| Fault::Damaged {
            file: path.to_owned(),
            line: number,
            offset: offset_of(read, number),
            what,
        };
        let entry =
            serde_json::from_str(line).map_err(|_| damaged("it says nothing that this gateway knows"))?;
        inner.apply(entry, line.len()).map_err(damaged)?;
    }
    Ok(inner)
}

/// Where a line begins, but for the first one's length.
fn offset_of(read: &Read, number: usize) -> usize {
    let before = read.lines.iter().take(number.saturating_sub(2));
    read.begins + before.map(|line| line.len() + journal::LINE_MORE).sum::<usize>()
}

/// What a journal at rest says: its tickets, or what is wrong with it.
///
/// # Errors
/// [`Fault`].
pub fn explain(path: &Path) -> Result<Vec<Arc<Ticket>>, Fault> {
    let bytes = std::fs::read(path).map_err(|error| Fault::Io(path.to_owned(), error))?;
    let inner = replayed(path, &journal::read(path, &bytes)?)?;
    Ok(inner.tickets.into_values().map(|(ticket, _)| ticket).collect())
}

impl Tickets {
    /// None, and no journal: none can be opened.
    #[must_use]
    pub fn closed(bounds: Bounds) -> Self {
        Self {
            bounds: ArcSwap::from_pointee(bounds),
            inner: RwLock::default(),
            journal: Mutex::default(),
            key: ArcSwap::default(),
        }
    }

    /// Takes those that the journal of a folder holds, and keeps them there from here on.
    ///
    /// # Errors
    /// [`Fault`]: nothing is taken.
    pub fn keep_in(&self, folder: &Path) -> Result<(), Fault> {
        let mut journal = self.journal();
        if journal.is_some() {
            return Ok(());
        }
        let (opened, read) = Journal::open(folder)?;
        let inner = replayed(&folder.join(journal::FILE), &read)?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = inner;
        self.key.store(Arc::new(Some(read.key)));
        *journal = Some(opened);
        Ok(())
    }

    /// Whether they are kept.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        self.key.load().is_some()
    }

    /// Other bounds, for what comes from here on.
    pub fn bound(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    /// The digests of what a statement is, part by part; `None` where no tickets are kept.
    #[must_use]
    pub fn parts(&self, of: &[Vec<u8>; super::ticket::PARTS.len()]) -> Option<Parts> {
        self.key.load().as_ref().as_ref().map(|key| Parts::of(key, of))
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        // A panic under it leaves a journal whose last line may be torn: it counts as none.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        // Each change is one call.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what `say` makes of where everything stands, then lets it take effect.
    fn change(
        &self,
        say: impl FnOnce(&Inner) -> Result<Entry, Undone>,
    ) -> Result<Option<Arc<Ticket>>, Undone> {
        let mut guard = self.journal();
        let journal = guard.as_mut().ok_or(Fault::Closed)?;
        let entry = say(&self.inner())?;
        let id = match &entry {
            Entry::Ticket(kept) => kept.id(),
            Entry::Approved { id, .. }
            | Entry::Denied { id, .. }
            | Entry::Used { id }
            | Entry::Told { id }
            | Entry::Expired { id } => *id,
        };
        let line = serde_json::to_string(&entry).map_err(|error| Fault::Broken(error.to_string()))?;
        if let Entry::Ticket(_) = entry
            && self.inner().bytes.saturating_add(line.len()) > self.bounds.load().bytes_max
        {
            return Err(Undone::FullOfBytes);
        }
        journal.append(&line)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.apply(entry, line.len()).map_err(|what| Fault::Broken(what.to_owned()))?;
        let (bytes, least) = journal.lengths();
        if bytes > REWRITE_BYTES.max(least.saturating_mul(2))
            && let Err(error) = journal.rewrite(&inner.lines())
        {
            tracing::warn!(%error, "the journal of tickets could not be written anew: it grows on");
        }
        Ok(inner.get(id).ok().cloned())
    }

    /// Whether one more may be kept: asked before it is recorded, and again when it is kept.
    ///
    /// # Errors
    /// [`Undone`].
    pub fn room(&self, asked: &Asked) -> Result<(), Undone> {
        if !self.are_kept() {
            return Err(Fault::Closed.into());
        }
        self.room_in(&self.inner(), asked)
    }

    fn room_in(&self, inner: &Inner, asked: &Asked) -> Result<(), Undone> {
        let bounds = self.bounds.load();
        if inner.live().count() >= bounds.live_max {
            return Err(Undone::Full);
        }
        let same = |known: &&Arc<Ticket>| {
            let (known, new) = (&known.asked.requester, &asked.requester);
            known.issuer == new.issuer && known.subject == new.subject
        };
        if inner.live().filter(same).count() >= bounds.per_requester_max {
            return Err(Undone::FullForRequester);
        }
        if inner.bytes.saturating_add(asked.bytes()) > bounds.bytes_max {
            return Err(Undone::FullOfBytes);
        }
        Ok(())
    }

    /// Keeps a new one.
    ///
    /// # Errors
    /// [`Undone`]: there is none.
    pub fn open(&self, ticket: Ticket) -> Result<(), Undone> {
        self.change(|inner| {
            self.room_in(inner, &ticket.asked)?;
            if inner.tickets.contains_key(&ticket.id()) {
                return Err(Bar::Decided.into());
            }
            Ok(Entry::Ticket(Box::new(ticket.into())))
        })
        .map(drop)
    }

    /// An approval, recorded before; how many more are missing in all.
    ///
    /// # Errors
    /// [`Undone`]: it does not count.
    pub fn approve(&self, id: Id, vote: Vote, people: &People) -> Result<usize, Undone> {
        let mut missing = 0;
        self.change(|inner| {
            let ticket = inner.get(id)?;
            hears(ticket, &vote.by, people, vote.at_ms)?;
            let mut votes = ticket.votes.clone();
            votes.push(vote.clone());
            missing = quorum::missing(&ticket.asked, &votes, people).iter().sum();
            Ok(Entry::Approved { id, vote, enough: missing == 0 })
        })?;
        Ok(missing)
    }

    /// A denial, recorded before: one is enough, and it takes an approval back that nobody has used.
    ///
    /// # Errors
    /// As [`Tickets::approve`].
    pub fn deny(&self, id: Id, by: String, reason: String, now_ms: u64) -> Result<(), Undone> {
        self.change(|inner| {
            may_be_denied(inner.get(id)?, now_ms)?;
            Ok(Entry::Denied { id, by, reason })
        })
        .map(drop)
    }

    /// Its statement is about to go: it is used from here on, whatever becomes of that. Whoever sends asks again whether those who
    /// approved are enough.
    ///
    /// # Errors
    /// [`Undone`]: the statement must not go.
    pub fn spend(&self, id: Id, people: &People, now_ms: u64) -> Result<(), Undone> {
        self.change(|inner| {
            let ticket = inner.get(id)?;
            let missing: usize = quorum::missing(&ticket.asked, &ticket.votes, people).iter().sum();
            match ticket.state_at(now_ms) {
                State::Approved if missing == 0 => Ok(Entry::Used { id }),
                State::Approved
                | State::Open
                | State::Denied { .. }
                | State::Used
                | State::Told { .. }
                | State::Expired => Err(Bar::Decided.into()),
            }
        })
        .map(drop)
    }

    /// Its requester is about to be told that it is denied.
    ///
    /// # Errors
    /// [`Undone`].
    pub fn tell(&self, id: Id) -> Result<(), Undone> {
        self.change(|inner| match inner.get(id)?.state {
            State::Denied { .. } => Ok(Entry::Told { id }),
            State::Open | State::Approved | State::Used | State::Told { .. } | State::Expired => {
                Err(Bar::Decided.into())
            }
        })
        .map(drop)
    }

    /// Those whose time is up, which nobody has written down yet.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Vec<Arc<Ticket>> {
        self.inner().live().filter(|ticket| now_ms >= ticket.asked.expires_ms).cloned().collect()
    }

    /// Its time is up.
    ///
    /// # Errors
    /// [`Undone`].
    pub fn expire(&self, id: Id) -> Result<(), Undone> {
        self.change(|inner| {
            if inner.get(id)?.state.is_live() { Ok(Entry::Expired { id }) } else { Err(Bar::Decided.into()) }
        })
        .map(drop)
    }

    /// What is known of `id`.
    #[must_use]
    pub fn find(&self, id: Id) -> Option<Arc<Ticket>> {
        self.inner().get(id).ok().cloned()
    }

    /// All that are known, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Ticket>> {
        let mut all: Vec<_> = self.inner().tickets.values().map(|(ticket, _)| Arc::clone(ticket)).collect();
        all.sort_by_key(|ticket| (ticket.asked.opened_ms, ticket.id()));
        all
    }

    /// Whether `by` would be a new voice on it.
    ///
    /// # Errors
    /// [`Bar`].
    pub fn decidable(&self, id: Id, by: &Human, people: &People, now_ms: u64) -> Result<(), Bar> {
        hears(self.inner().get(id)?, by, people, now_ms)
    }

    /// Whether it can still be denied.
    ///
    /// # Errors
    /// [`Bar`].
    pub fn deniable(&self, id: Id, now_ms: u64) -> Result<(), Bar> {
        may_be_denied(self.inner().get(id)?, now_ms)
    }

    /// What a statement meets.
    #[must_use]
    pub fn look(&self, sought: &Sought<'_>, people: &People, now_ms: u64) -> Look {
        let inner = self.inner();
        let own = inner.live().filter(|ticket| {
            let who = &ticket.asked.requester;
            who.issuer == sought.issuer && who.subject == sought.subject && now_ms < ticket.asked.expires_ms
        });
        let (mut denied, mut waits, mut near) = (None, None, None::<(Arc<Ticket>, Vec<&'static str>)>);
        for ticket in own {
            let mut what = ticket.parts.differ(sought.parts);
            what.extend(sought.bar);
            let enough = quorum::missing(&ticket.asked, &ticket.votes, people).iter().all(|more| *more == 0);
            match (&ticket.state, what.is_empty()) {
                (State::Approved, true) if enough => return Look::Passes(Arc::clone(ticket)),
                (State::Approved, true) => near = Some((Arc::clone(ticket), vec![NOT_ENOUGH])),
                (State::Approved, false) => {
                    let akin =
                        ticket.parts.have_one_text(sought.parts) || *ticket.asked.lifted == *sought.lifted;
                    if akin && near.as_ref().is_none_or(|(_, least)| what.len() < least.len()) {
                        near = Some((Arc::clone(ticket), what));
                    }
                }
                (State::Denied { .. }, true) => denied = Some(Arc::clone(ticket)),
                (State::Open, true) => waits = Some(Arc::clone(ticket)),
                (
                    State::Denied { .. } | State::Open | State::Used | State::Told { .. } | State::Expired,
                    _,
                ) => {}
            }
        }
        match (denied, waits, near) {
            (Some(ticket), _, _) => Look::Denied(ticket),
            (None, Some(ticket), _) => Look::Waits(ticket),
            (None, None, Some((ticket, what))) => Look::Differs(ticket, what),
            (None, None, None) => Look::Nothing,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn figures(&self) -> Figures {
        // A change that waits for the disk is no news yet.
        let broken = self.journal.try_lock().is_ok_and(|it| it.as_ref().is_some_and(Journal::is_broken));
        let inner = self.inner();
        let mut figures = Figures { bytes: inner.bytes as u64, broken, ..Figures::default() };
        for ticket in inner.live() {
            match ticket.state {
                State::Open => figures.open += 1,
                State::Approved => figures.approved += 1,
                State::Denied { .. } => figures.denied += 1,
                State::Used | State::Told { .. } | State::Expired => {}
            }
        }
        figures
    }
}

/// Said of a ticket whose approvers are no longer the people who must approve.
const NOT_ENOUGH: &str = "who has approved it (they are no longer enough)";

fn hears(ticket: &Ticket, by: &Human, people: &People, now_ms: u64) -> Result<(), Bar> {
    match ticket.state_at(now_ms) {
        State::Open if quorum::is_new(&ticket.votes, by, people) => Ok(()),
        State::Open => Err(Bar::Again),
        State::Approved | State::Denied { .. } | State::Told { .. } | State::Used => Err(Bar::Decided),
        State::Expired => Err(Bar::NotOpen),
    }
}

fn may_be_denied(ticket: &Ticket, now_ms: u64) -> Result<(), Bar> {
    match ticket.state_at(now_ms) {
        State::Open | State::Approved => Ok(()),
        State::Denied { .. } | State::Told { .. } | State::Used => Err(Bar::Decided),
        State::Expired => Err(Bar::NotOpen),
    }
}

#[cfg(test)]
#[path = "tickets_tests.rs"]
mod tests;
