//! A ticket: a statement that nobody waits with, which people may decide, and which then passes once.
//!
//! Owns: what a ticket binds, part by part, and where it stands. May not: keep itself ([`super::tickets`] does), or judge. Fails
//! closed: what stands beside its parts (a name that only one session has) is no part, and has no ticket.
//!
//! ```text
//!   Open ──┬── the last approval that it needs ──► Approved ──┬── that statement, once ──► Used
//!          │                                           │      │
//!          ├── one denial ──► Denied ◄── one denial ───┘      │
//!          │                    └── told, once ──► Told       │
//!          └── its time is up ──► Expired ◄───────────────────┘
//! ```

use std::sync::Arc;

use pgturnstile_rules::policy::{Hold, HoldMode};
use serde::{Deserialize, Serialize};

use super::asked::{Asked, Id};
use super::quorum::Vote;

/// What a ticket binds, as messages name it, in the order of [`Parts`].
pub const PARTS: [&str; 8] = [
    "the text",
    "the parameters, or the protocol that carries them",
    "who asks (groups or claims)",
    "the target or the access entry",
    "the policy",
    "the role, the search path, or a setting",
    "what it reaches (a relation, view or function has changed since)",
    "whether a transaction is open",
];

/// Position of the text in [`PARTS`].
const TEXT: usize = 0;

/// The digest of each part, keyed for the gateway's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts([[u8; 32]; PARTS.len()]);

impl Parts {
    /// Of what each part is, in bytes that no other part spells.
    #[must_use]
    pub fn of(key: &[u8; 32], parts: &[Vec<u8>; PARTS.len()]) -> Self {
        let mut number = 0_u64;
        Self(parts.each_ref().map(|bytes| {
            let mut hasher = blake3::Hasher::new_keyed(key);
            hasher.update(&number.to_le_bytes()).update(bytes);
            number += 1;
            *hasher.finalize().as_bytes()
        }))
    }

    /// One digest for all of them.
    #[must_use]
    pub fn binding(&self) -> [u8; 32] {
        *blake3::hash(self.0.as_flattened()).as_bytes()
    }

    /// What is another here than there.
    #[must_use]
    pub fn differ(&self, other: &Self) -> Vec<&'static str> {
        let both = self.0.iter().zip(&other.0).zip(PARTS);
        both.filter(|((one, other), _)| one != other).map(|(_, name)| name).collect()
    }

    /// Whether the text is the same.
    #[must_use]
    pub fn have_one_text(&self, other: &Self) -> bool {
        self.0.get(TEXT) == other.0.get(TEXT)
    }
}

/// Where a ticket stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// People may decide it.
    Open,
    /// Its statement may pass.
    Approved,
    /// It may not, and its requester has not been told yet.
    Denied {
        /// Who said so.
        by: String,
        /// And why.
        reason: String,
    },
    /// Its statement has passed, or may have: it does not pass again.
    Used,
    /// Denied, and told.
    Told {
        /// Who said so.
        by: String,
        /// And why.
        reason: String,
    },
    /// Its time is up.
    Expired,
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            State::Open => "open",
            State::Approved => "approved",
            State::Denied { .. } | State::Told { .. } => "denied",
            State::Used => "used",
            State::Expired => "expired",
        }
    }

    /// Whether something can still come of it.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        match self {
            State::Open | State::Approved | State::Denied { .. } => true,
            State::Used | State::Told { .. } | State::Expired => false,
        }
    }
}

/// Why there is a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Nobody decided while its session waited.
    Unanswered,
    /// Its rule does not let the session wait.
    Mode,
}

impl Why {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Why::Unanswered => "unanswered",
            Why::Mode => "mode",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What is asked; its binding is that of the parts, its times are the ticket's.
    pub asked: Arc<Asked>,
    /// What it binds.
    pub parts: Parts,
    /// Why there is one.
    pub why: Why,
    /// Where it stands.
    pub state: State,
    /// Who has approved.
    pub votes: Vec<Vote>,
}

/// The same as a journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    asked: Asked,
    parts: Parts,
    why: Why,
    state: State,
    votes: Vec<Vote>,
}

impl Kept {
    pub(super) fn id(&self) -> Id {
        self.asked.id
    }
}

impl From<Ticket> for Kept {
    fn from(ticket: Ticket) -> Self {
        let Ticket { asked, parts, why, state, votes } = ticket;
        Self { asked: Arc::unwrap_or_clone(asked), parts, why, state, votes }
    }
}

impl From<Kept> for Ticket {
    fn from(kept: Kept) -> Self {
        let Kept { asked, parts, why, state, votes } = kept;
        Self { asked: Arc::new(asked), parts, why, state, votes }
    }
}

impl Ticket {
    /// One that nobody has decided.
    #[must_use]
    pub fn new(asked: Asked, parts: Parts, why: Why) -> Self {
        Self { asked: Arc::new(asked), parts, why, state: State::Open, votes: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> Id {
        self.asked.id
    }

    /// Where it stands at a moment: its time may be up although nobody has written that down yet.
    #[must_use]
    pub fn state_at(&self, now_ms: u64) -> &State {
        if self.state.is_live() && now_ms >= self.asked.expires_ms { &State::Expired } else { &self.state }
    }

    /// The same without the values of its statement.
    pub(super) fn without_values(&self) -> Asked {
        Asked { text: Arc::from(""), runs: Vec::new(), parameters: Vec::new(), ..Asked::clone(&self.asked) }
    }
}

/// How long a ticket lives where all of these ask, seconds; `None` where one of them knows no tickets.
pub fn life_s<'h>(holds: impl Iterator<Item = &'h Hold>) -> Option<u64> {
    let lives = holds.map(|hold| hold.ticket_ttl_s);
    lives.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other))).flatten()
}

/// Whether one of them lets no session wait.
pub fn is_at_once<'h>(mut holds: impl Iterator<Item = &'h Hold>) -> bool {
    holds.any(|hold| hold.mode == HoldMode::Ticket)
}

#[cfg(test)]
mod tests {
    use super::super::holds::tests::asked;
    use super::*;

    #[test]
    fn each_part_counts_and_is_named() {
        let parts: [Vec<u8>; PARTS.len()] = std::array::from_fn(|at| vec![u8::try_from(at).unwrap()]);
        let one = Parts::of(&[1; 32], &parts);
        assert!(one.differ(&one).is_empty() && one.have_one_text(&one));
        for at in 0..PARTS.len() {
            let mut other = parts.clone();
            other[at].push(1);
            let other = Parts::of(&[1; 32], &other);
            assert_eq!(one.differ(&other), [PARTS[at]]);
            assert_ne!(one.binding(), other.binding());
            assert_eq!(one.have_one_text(&other), at != 0);
        }
        assert_eq!(
            one.differ(&Parts::of(&[2; 32], &parts)).len(),
            PARTS.len(),
            "another journal, another key"
        );
        let same: [Vec<u8>; PARTS.len()] = std::array::from_fn(|_| Vec::new());
        let same = Parts::of(&[1; 32], &same);
        assert_ne!(same.0[0], same.0[1], "equal bytes of two parts are not one");
    }

    #[test]
    fn a_ticket_lives_as_long_as_the_shortest_and_only_where_all_know_tickets() {
        let mut holds = asked(&[1, 1]).needs.into_iter().map(|need| need.approval.hold).collect::<Vec<_>>();
        assert_eq!(life_s(holds.iter()), Some(60));
        holds[1].ticket_ttl_s = Some(7);
        assert_eq!((life_s(holds.iter()), is_at_once(holds.iter())), (Some(7), false));
        holds[1].mode = HoldMode::Ticket;
        assert!(is_at_once(holds.iter()));
        holds[0].ticket_ttl_s = None;
        assert_eq!(life_s(holds.iter()), None);
        assert_eq!(life_s(std::iter::empty()), None);
    }
}
