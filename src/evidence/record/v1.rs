//! Payload types, version 1. FROZEN: a published field is never moved, renamed, retyped or removed; what must change
//! becomes a `v2` beside this module, and old files stay readable. A golden file guards it.
//!
//! Owns: the shape of every payload. May not: hold a token, a password or an unkeyed digest of one (a digest over a few
//! digits is no secret), nor a value of a statement or result but where [`super::captured`] says so. Identity fields are strings, as the parties spelled them. Times are
//! nanoseconds since 1970 (UTC) unless named otherwise. Serialized with rkyv 0.8, little endian, 32-bit offsets, aligned.
//!
//! The types borrow, so that a session serializes what it holds without copying it first; [`Facts`] alone is owned,
//! because it is built once for a text and recorded many times.

use rkyv::with::{Inline, InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use crate::evidence::chain::Hash;

pub use super::anchored::{
    ArchivedCheckpoint, ArchivedClock, ArchivedKeyRotated, Checkpoint, Clock, KeyRotated,
};
pub use super::captured::*;
pub use super::held::*;
pub use super::sealed::*;
pub use super::ticket::*;

/// One string of a list.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The string.
    #[rkyv(with = InlineAsBox)]
    pub text: &'a str,
}

/// One claim of a token, verified, that the issuer's `keep` names.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Path of the claim.
    #[rkyv(with = InlineAsBox)]
    pub path: &'a str,
    /// Its value as JSON.
    #[rkyv(with = InlineAsBox)]
    pub json: &'a str,
}

/// The gateway started; opens the run's stream.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct GatewayStarted<'a> {
    /// Version of the program.
    #[rkyv(with = InlineAsBox)]
    pub version: &'a str,
    /// blake3 of its binary.
    pub binary_hash: Hash,
    /// blake3 of the configuration.
    pub configuration_hash: Hash,
    /// Hash of the policy.
    pub policy_hash: Hash,
    /// Which commitment key is in force: hex of the segment header's key id.
    #[rkyv(with = InlineAsBox)]
    pub key_id: &'a str,
    /// Name of the host.
    #[rkyv(with = InlineAsBox)]
    pub host: &'a str,
    /// Process id.
    pub process: u32,
    /// How many shards.
    pub shards: u32,
}

/// The gateway stopped in order; closes the run's stream.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct GatewayStopped<'a> {
    /// Why (`signal`, …).
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
}

/// What of the configuration was loaded.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// pgturnstile.toml.
    Configuration,
    /// The policy with all its packs.
    Policy,
    /// Keys, certificates and the like that stand beside them.
    Material,
}

/// A configuration or policy was loaded, or refused while the old one stays.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct DocumentLoaded<'a> {
    /// Which.
    pub document: Document,
    /// Whether it is in force now. `false`: it was refused, the old one stays.
    pub in_force: bool,
    /// Hash of the one before; `None` at the first load.
    pub old_hash: Option<Hash>,
    /// Hash of the new one; `None` where it could not be read.
    pub new_hash: Option<Hash>,
    /// Who changed it: `unattributed` where nothing proves it.
    #[rkyv(with = InlineAsBox)]
    pub by: &'a str,
    /// Errors of a refused one, or what was loaded.
    #[rkyv(with = InlineAsBox)]
    pub detail: &'a str,
}

/// A start found a torn tail and cut it.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Recovered<'a> {
    /// Segment that was cut.
    pub segment: u64,
    /// Where: the segment's new end, bytes.
    pub offset: u64,
    /// How many bytes behind it were not zero up to the last such byte, and are gone.
    pub bytes_cut: u64,
    /// Sequence of the next record, that is how many records the log kept.
    pub next_sequence: u64,
    /// Whole records kept that no seal covered yet.
    pub unsealed_kept: u32,
    /// What was wrong with the bytes.
    #[rkyv(with = InlineAsBox)]
    pub flaw: &'a str,
}

/// A client connected; opens the session's stream.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SessionOpened<'a> {
    /// Address and port of the peer.
    #[rkyv(with = InlineAsBox)]
    pub peer: &'a str,
    /// The listener's address.
    #[rkyv(with = InlineAsBox)]
    pub listener: &'a str,
    /// TLS version, suite and, with a client certificate, its subject; `none` without TLS.
    #[rkyv(with = InlineAsBox)]
    pub tls: &'a str,
}

/// A client proved who it is.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Authenticated<'a> {
    /// How (`token-password`, …).
    #[rkyv(with = InlineAsBox)]
    pub method: &'a str,
    /// The `[[issuer]]` entry.
    #[rkyv(with = InlineAsBox)]
    pub issuer: &'a str,
    /// The token's `iss`.
    #[rkyv(with = InlineAsBox)]
    pub issuer_url: &'a str,
    /// The token's `sub`.
    #[rkyv(with = InlineAsBox)]
    pub subject: &'a str,
    /// The person behind it, where a claim says so.
    #[rkyv(with = Map<InlineAsBox>)]
    pub person: Option<&'a str>,
    /// Whether the groups are known at all.
    pub groups_known: bool,
    /// Groups of the policy that it matched.
    #[rkyv(with = InlineAsBox)]
    pub groups: &'a [Text<'a>],
    /// The claims kept.
    #[rkyv(with = InlineAsBox)]
    pub claims: &'a [Claim<'a>],
    /// Thumbprint of the token: its only trace.
    #[rkyv(with = InlineAsBox)]
    pub token_thumbprint: &'a str,
    /// The token's `jti`.
    #[rkyv(with = Map<InlineAsBox>)]
    pub token_id: Option<&'a str>,
    /// The token's `iat`, seconds since 1970.
    pub issued_at_s: i64,
    /// The token's `exp`, seconds since 1970.
    pub expires_at_s: i64,
}

/// A client could not prove who it is.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct AuthenticationDenied<'a> {
    /// How it tried.
    #[rkyv(with = InlineAsBox)]
    pub method: &'a str,
    /// What the client was told.
    #[rkyv(with = InlineAsBox)]
    pub told: &'a str,
    /// The exact reason.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
    /// SQLSTATE of the answer.
    #[rkyv(with = InlineAsBox)]
    pub sqlstate: &'a str,
    /// The user of the startup packet, as claimed.
    #[rkyv(with = InlineAsBox)]
    pub claimed_user: &'a str,
    /// The database of the startup packet, as claimed.
    #[rkyv(with = InlineAsBox)]
    pub claimed_database: &'a str,
    /// Thumbprint of what was shown; `None` where nothing was.
    #[rkyv(with = Map<InlineAsBox>)]
    pub token_thumbprint: Option<&'a str>,
}

/// The session got its target and login.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TargetChosen<'a> {
    /// The `[[target]]` entry.
    #[rkyv(with = InlineAsBox)]
    pub target: &'a str,
    /// Its address and port, as dialed.
    #[rkyv(with = InlineAsBox)]
    pub endpoint: &'a str,
    /// Database.
    #[rkyv(with = InlineAsBox)]
    pub database: &'a str,
    /// TLS to the target: version, suite, mode; `none` without.
    #[rkyv(with = InlineAsBox)]
    pub tls: &'a str,
    /// The `[[access]]` entry.
    #[rkyv(with = InlineAsBox)]
    pub access: &'a str,
    /// The `[credential.…]` entry.
    #[rkyv(with = InlineAsBox)]
    pub login: &'a str,
    /// The database user of that credential.
    #[rkyv(with = InlineAsBox)]
    pub user: &'a str,
    /// `read` or `write`.
    #[rkyv(with = InlineAsBox)]
    pub mode: &'a str,
    /// `gated` or `queued`.
    #[rkyv(with = InlineAsBox)]
    pub durability: &'a str,
    /// The search path that the startup packet set.
    #[rkyv(with = InlineAsBox)]
    pub search_path: &'a [Text<'a>],
    /// The server's version as it reports it.
    #[rkyv(with = InlineAsBox)]
    pub server_version: &'a str,
    /// application_name as sent to the server: it carries the session's id.
    #[rkyv(with = InlineAsBox)]
    pub application_name: &'a str,
    /// Process id of the server's backend.
    pub backend_process: u32,
    /// Hash of the policy in force.
    pub policy_hash: Hash,
    /// Epoch of the catalog snapshot.
    pub catalog_epoch: u64,
}

/// What a frame of the client asked for.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Query.
    Simple,
    /// Parse: the text is judged, nothing runs yet.
    Parse,
    /// Bind and Execute of a parsed statement.
    Execute,
    /// Sent by the gateway itself.
    Injected,
}

/// What may be held of a text.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub enum TextHeld<'a> {
    /// Literals lifted, comments dropped.
    Lifted(#[rkyv(with = InlineAsBox)] &'a str),
    /// Nothing but length and commitment, for this reason: it could not be parsed, or is too long.
    Withheld(#[rkyv(with = InlineAsBox)] &'a str),
}

/// What the gateway decided.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It passes.
    Allow,
    /// It waits for a person.
    Hold,
    /// It does not pass.
    Refuse,
}

/// A relation that a statement reaches.
#[derive(Archive, Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `schema.name`.
    pub name: String,
    /// Class of the access (`read.select`, …).
    pub access: String,
    /// What it is (`table`, `view`, …).
    pub what: String,
    /// It is an update or delete without a real predicate.
    pub blind: bool,
}

/// What is known of one statement of a text.
#[derive(Archive, Serialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its class.
    pub class: String,
    /// The server's tag for it.
    pub tag: String,
    /// Relations with access.
    pub relations: Vec<Relation>,
    /// Functions called, `schema.name` where resolved.
    pub functions: Vec<String>,
    /// Further acts: class, and object where there is one.
    pub acts: Vec<String>,
    /// Settings touched: `set name`, `reset name`, `show name`.
    pub settings: Vec<String>,
    /// Why it is not proven (README decision 9); `None` when it is.
    pub unproven: Option<String>,
}

/// A statement was judged: what a session hands in. It is no payload itself: what a session says again and again (text,
/// facts, rule) becomes one [`JudgedText`], the rest a short [`JudgedStatement`] that points to it.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Which frame brought it.
    pub protocol: Protocol,
    /// The prepared statement's name; empty for the unnamed one and for simple queries.
    pub name: &'a str,
    /// The portal's name; empty for the unnamed one and for simple queries.
    pub portal: &'a str,
    /// What is held of its text.
    pub text: TextHeld<'a>,
    /// Length of the exact text, bytes.
    pub text_bytes: u64,
    /// Commitment to the exact text, keyed per session; zeros where the Parse that it refers to holds it.
    pub text_commitment: Hash,
    /// Bound parameters.
    pub parameters: u16,
    /// Digest over formats, lengths and bytes of the parameters, keyed per session; `None` without any.
    pub parameter_digest: Option<Hash>,
    /// Facts, one for each statement of the text.
    pub facts: &'a [Facts],
    /// The verdict.
    pub action: Action,
    /// The rule that decided it.
    pub rule: &'a str,
    /// Hash of the policy that holds that rule.
    pub policy_hash: Hash,
    /// Epoch of the catalog snapshot that resolved the names.
    pub catalog_epoch: u64,
}

/// A text, what it reaches, and what the policy says of it: the part that statements of a session share. Statements whose
/// literals alone differ share it too.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct JudgedText<'a> {
    /// What is held of the text.
    pub text: TextHeld<'a>,
    /// Facts, one for each statement of the text.
    #[rkyv(with = InlineAsBox)]
    pub facts: &'a [Facts],
    /// The verdict.
    pub action: Action,
    /// The rule that decided it.
    #[rkyv(with = InlineAsBox)]
    pub rule: &'a str,
    /// Hash of the policy that holds that rule.
    pub policy_hash: Hash,
    /// Epoch of the catalog snapshot that resolved the names.
    pub catalog_epoch: u64,
}

/// One statement: which text, with which literals and parameters.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct JudgedStatement<'a> {
    /// Number in the session of the [`JudgedText`] that holds its text, facts, rule and policy.
    pub judged: u64,
    /// Which frame brought it.
    pub protocol: Protocol,
    /// The verdict.
    pub action: Action,
    /// Bound parameters.
    pub parameters: u16,
    /// The prepared statement's name; empty for the unnamed one and for simple queries.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// The portal's name; empty for the unnamed one and for simple queries.
    #[rkyv(with = InlineAsBox)]
    pub portal: &'a str,
    /// Length of the exact text, bytes.
    pub text_bytes: u64,
    /// Commitment to the exact text, keyed per session; zeros where the Parse that it refers to holds it.
    pub text_commitment: Hash,
    /// Digest over formats, lengths and bytes of the parameters, keyed per session; `None` without any.
    #[rkyv(with = Map<InlineAsBox>)]
    pub parameter_digest: Option<&'a Hash>,
}

impl<'a> Statement<'a> {
    /// The part that other statements may share.
    pub const fn shared(&self) -> JudgedText<'a> {
        JudgedText {
            text: self.text,
            facts: self.facts,
            action: self.action,
            rule: self.rule,
            policy_hash: self.policy_hash,
            catalog_epoch: self.catalog_epoch,
        }
    }

    /// The part of its own.
    pub const fn own(&'a self, judged: u64) -> JudgedStatement<'a> {
        JudgedStatement {
            judged,
            protocol: self.protocol,
            action: self.action,
            parameters: self.parameters,
            name: self.name,
            portal: self.portal,
            text_bytes: self.text_bytes,
            text_commitment: self.text_commitment,
            parameter_digest: self.parameter_digest.as_ref(),
        }
    }
}

/// How the work on a statement ended.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server completed it.
    Completed,
    /// The server answered with an error.
    Failed,
    /// Suspended: the portal gave as many rows as were asked for.
    Suspended,
    /// The server skipped it behind an earlier error.
    Skipped,
    /// The end is not known: the connection or the gateway ended first.
    Unknown,
}

/// What came back for a statement, as sent to the client.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct StatementResult<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// The command tag, with its counts; empty where there is none.
    #[rkyv(with = InlineAsBox)]
    pub tag: &'a str,
    /// SQLSTATE of the error; `None` without one.
    #[rkyv(with = Map<InlineAsBox>)]
    pub sqlstate: Option<&'a str>,
    /// Rows sent (DataRow, or CopyData of a COPY to the client).
    pub rows: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Bytes of CopyData that came from the client.
    pub bytes_in: u64,
    /// Digest over those bytes as sent, keyed per session; `None` where no row was.
    pub digest: Option<Hash>,
    /// When the statement was forwarded.
    pub started_ns: u64,
    /// When the first byte of its answer came; 0 where none did.
    pub first_row_ns: u64,
    /// When its last byte came.
    pub ended_ns: u64,
}

/// What was masked in one place by one cause.
#[derive(Archive, Serialize, Clone, Debug, PartialEq, Eq)]
pub struct MaskCount {
    /// `column N` of the result, from 1; `error`, `notice`, `notification`, `setting`.
    pub place: String,
    /// `label NAME`, `detector NAME`, or `withheld: WHY`.
    pub by: String,
    /// How many values, or matches inside values.
    pub count: u64,
}

/// What was masked of a statement's result, or of the server's texts; never a value.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Masked<'a> {
    /// By place and cause.
    #[rkyv(with = InlineAsBox)]
    pub counts: &'a [MaskCount],
}

/// A statement was refused; what the client was told.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// SQLSTATE.
    #[rkyv(with = InlineAsBox)]
    pub sqlstate: &'a str,
    /// The rule, or the limit.
    #[rkyv(with = InlineAsBox)]
    pub rule: &'a str,
    /// The primary message.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
    /// How it was carried out: `local`, `substituted`, `closed`.
    #[rkyv(with = InlineAsBox)]
    pub how: &'a str,
}

/// A cancel request came for this session.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct CancelRequested<'a> {
    /// Address of who asked.
    #[rkyv(with = InlineAsBox)]
    pub peer: &'a str,
    /// What became of it: `forwarded`, `idle`, `failed: …`.
    #[rkyv(with = InlineAsBox)]
    pub outcome: &'a str,
}

/// A guarded setting moved; the session ends.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SettingMoved<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// What it had to be.
    #[rkyv(with = InlineAsBox)]
    pub expected: &'a str,
    /// What the server says it is.
    #[rkyv(with = InlineAsBox)]
    pub seen: &'a str,
    /// How it was noticed: `reported`, `re-read`.
    #[rkyv(with = InlineAsBox)]
    pub how: &'a str,
}

/// A peer broke the protocol; the session ends.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct ProtocolViolation<'a> {
    /// `frontend` or `backend`.
    #[rkyv(with = InlineAsBox)]
    pub side: &'a str,
    /// Frame and what is wrong with it.
    #[rkyv(with = InlineAsBox)]
    pub what: &'a str,
    /// Offset within the frame, bytes.
    pub offset: u64,
}

/// The session ended; closes its stream.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SessionClosed<'a> {
    /// Why.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
    /// Who ended it or is at fault: `client`, `backend`, `operator`, `gateway`.
    #[rkyv(with = InlineAsBox)]
    pub by: &'a str,
    /// Totals.
    #[rkyv(with = Inline)]
    pub totals: &'a Totals,
}

/// Totals of a session.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Statements judged.
    pub statements: u64,
    /// Of them refused.
    pub refused: u64,
    /// Rows sent to the client.
    pub rows: u64,
    /// Bytes read from the client.
    pub client_bytes: u64,
    /// Bytes read from the server.
    pub server_bytes: u64,
}

/// The connection came by a load balancer, which said whose it is: the peer of the opening is its word.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Proxied<'a> {
    /// Address and port of the load balancer: the peer of the socket.
    #[rkyv(with = InlineAsBox)]
    pub proxy: &'a str,
    /// Address and port that the client connected to, by the same word.
    #[rkyv(with = InlineAsBox)]
    pub destination: &'a str,
}

/// How the session's target was named: decided once, before its login there.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The `[[target]]` entry.
    #[rkyv(with = InlineAsBox)]
    pub target: &'a str,
    /// What named it: `database`, `server-name`, `user-suffix`; several where they agreed.
    #[rkyv(with = InlineAsBox)]
    pub by: &'a [Text<'a>],
    /// The server name of the TLS handshake; `None` without one.
    #[rkyv(with = Map<InlineAsBox>)]
    pub server_name: Option<&'a str>,
    /// The user of the startup packet, as sent.
    #[rkyv(with = InlineAsBox)]
    pub user: &'a str,
    /// The database of the startup packet, as sent; `None` without one.
    #[rkyv(with = Map<InlineAsBox>)]
    pub database: Option<&'a str>,
}
