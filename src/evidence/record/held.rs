//! Payload types, version 1, of holds: statements that wait for people. FROZEN, as all of [`super::v1`], which hands them on.
//!
//! Owns: their shape. May not: hold a text, a parameter or an unkeyed digest of one. Kinds 44 and 46 stand in the session's
//! stream and refer to the held statement; kind 45 stands in the gateway's, since people decide beside the session.

use rkyv::with::{Inline, InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use super::v1::Text;
use crate::evidence::chain::Hash;

/// What one rule asks for before the statement may go.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct HoldNeed<'a> {
    /// The rule, with its place.
    #[rkyv(with = InlineAsBox)]
    pub rule: &'a str,
    /// Groups whose members may approve.
    #[rkyv(with = InlineAsBox)]
    pub approvers: &'a [Text<'a>],
    /// How many distinct people must.
    pub quorum: u32,
}

/// A statement waits for approval. Nothing of it was sent.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct HoldOpened<'a> {
    /// Its id, as people spell it.
    #[rkyv(with = InlineAsBox)]
    pub hold: &'a str,
    /// What every rule asks for.
    #[rkyv(with = InlineAsBox)]
    pub needs: &'a [HoldNeed<'a>],
    /// Digest of what an approval binds, keyed for the session: frame, text, identity, target, policy, resolution, settings.
    #[rkyv(with = Inline)]
    pub binding: &'a Hash,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// When it ends unanswered.
    pub expires_ns: u64,
    /// What sets that end: `rule`, `token` or `statement_timeout`.
    #[rkyv(with = InlineAsBox)]
    pub limit: &'a str,
}

/// Somebody decided on a hold, or tried to.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct HoldDecided<'a> {
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub hold: &'a str,
    /// The session that holds the statement.
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
    /// Digest that the approval binds, as the hold's opening has it.
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

/// How a hold ended.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// Approved; what was held is sent behind this record.
    Released,
    /// Somebody denied it.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The requester gave it up, or its session or token ended.
    Withdrawn,
    /// Policy or catalog changed, and it was judged anew.
    Superseded,
}

/// A hold ended.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct HoldEnded<'a> {
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub hold: &'a str,
    /// How.
    pub outcome: HoldOutcome,
    /// Why.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
    /// Who approved, as issuer and person or subject.
    #[rkyv(with = InlineAsBox)]
    pub approved_by: &'a [Text<'a>],
    /// How long it waited.
    pub waited_ns: u64,
}
