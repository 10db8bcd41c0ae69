//! Payload types, version 1, of tickets: statements that nobody waits with, and that pass once when people have approved them.
//! FROZEN, as all of [`super::v1`], which hands them on.
//!
//! Owns: their shape. May not: hold a text, a parameter or an unkeyed digest of one. Kinds 47 and 49 stand in a session's stream and
//! refer to the statement: to the one that became a ticket, and to the one that passes by it, perhaps of another session. Kind 48
//! stands in the gateway's stream, since people decide beside every session; kind 50 in that of whoever met its end.

use rkyv::with::{Inline, InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use super::v1::{HoldNeed, Text};
use crate::evidence::chain::Hash;

/// A statement became a ticket. Nothing of it was sent.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TicketOpened<'a> {
    /// Its id, as people spell it; that of the hold that it was.
    #[rkyv(with = InlineAsBox)]
    pub ticket: &'a str,
    /// `unanswered`: nobody decided on the hold; `mode`: its rule lets no session wait.
    #[rkyv(with = InlineAsBox)]
    pub why: &'a str,
    /// What every rule asks for.
    #[rkyv(with = InlineAsBox)]
    pub needs: &'a [HoldNeed<'a>],
    /// Digest of what an approval binds, keyed for the gateway's journal.
    #[rkyv(with = Inline)]
    pub binding: &'a Hash,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// Until when it may be decided and used.
    pub expires_ns: u64,
}

/// Somebody decided on a ticket, or tried to.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TicketDecided<'a> {
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub ticket: &'a str,
    /// The session whose statement became it.
    pub session: [u8; 16],
    /// Number of the statement's record in that session.
    pub statement: u64,
    /// `approve` or `deny`.
    #[rkyv(with = InlineAsBox)]
    pub decision: &'a str,
    /// Why this does not count (`requester`, `no-approver`, …); `None` where it does.
    #[rkyv(with = Map<InlineAsBox>)]
    pub refused: Option<&'a str>,
    /// Why, in the approver's words; empty where none were given.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
    /// Digest that the approval binds, as the ticket's opening has it.
    #[rkyv(with = Inline)]
    pub binding: &'a Hash,
    /// The `[[issuer]]` entry that vouched for the approver.
    #[rkyv(with = InlineAsBox)]
    pub issuer: &'a str,
    /// The token's `iss`.
    #[rkyv(with = InlineAsBox)]
    pub issuer_url: &'a str,
    /// The token's `sub`.
    #[rkyv(with = InlineAsBox)]
    pub subject: &'a str,
    /// The person behind it.
    #[rkyv(with = Map<InlineAsBox>)]
    pub person: Option<&'a str>,
    /// The groups of approvers that the approver is in.
    #[rkyv(with = InlineAsBox)]
    pub groups: &'a [Text<'a>],
    /// Thumbprint of the token.
    #[rkyv(with = InlineAsBox)]
    pub token_thumbprint: &'a str,
    /// `jti`.
    #[rkyv(with = Map<InlineAsBox>)]
    pub token_id: Option<&'a str>,
    /// By which way it came: `control-socket`.
    #[rkyv(with = InlineAsBox)]
    pub channel: &'a str,
}

/// A ticket is used: its statement is sent behind this record, or nowhere.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TicketUsed<'a> {
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub ticket: &'a str,
    /// The session whose statement became it.
    pub session: [u8; 16],
    /// Number of that statement's record in that session.
    pub statement: u64,
    /// Digest that was approved, as the ticket's opening has it.
    #[rkyv(with = Inline)]
    pub binding: &'a Hash,
    /// Who approved, as issuer and person or subject.
    #[rkyv(with = InlineAsBox)]
    pub approved_by: &'a [Text<'a>],
    /// When it was opened.
    pub opened_ns: u64,
}

/// How a ticket ended that was not used.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketOutcome {
    /// Somebody denied it, and its requester is told.
    Denied,
    /// Its time was up.
    Expired,
    /// It could not be kept.
    Withdrawn,
}

/// Nothing comes of a ticket any more.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TicketEnded<'a> {
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub ticket: &'a str,
    /// The session whose statement became it.
    pub session: [u8; 16],
    /// Number of that statement's record in that session.
    pub statement: u64,
    /// How.
    pub outcome: TicketOutcome,
    /// Why.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
}
