//! Payload types, version 1, of what is kept of statements and results beyond their digests: `record = "text"` and
//! `record = "rows"`. FROZEN, as all of [`super::v1`], which hands them on.
//!
//! Owns: their shape. May not: hold what a label or a detector masked, or would have masked for somebody else: the session
//! decides that before it hands anything in. Bytes of rows and COPY data stand as they left, frames and all.

use rkyv::with::{Inline, InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use crate::evidence::chain::Hash;

/// `described` of rows that nothing described.
pub const NOT_DESCRIBED: u64 = u64::MAX;

/// How much is recorded of the session's statements and results from here on.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// `digest`, `text` or `rows`.
    #[rkyv(with = InlineAsBox)]
    pub record: &'a str,
    /// Bytes of rows, and of COPY data in each direction, that are kept of one result at most.
    pub rows_bytes_max: u64,
    /// What says so: a place in the policy, or the default and its reason.
    #[rkyv(with = InlineAsBox)]
    pub why: &'a str,
}

/// One thing that the client says of itself.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct StatedClaim<'a> {
    /// What: `agent`, `model`, `version`, `run`, `commit`, `person`, or a further word of the client's.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Its value, as the client spelled it.
    #[rkyv(with = InlineAsBox)]
    pub value: &'a str,
}

/// What the client says of itself. Nobody verified it: what an issuer vouched for stands in [`super::v1::Authenticated`].
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Stated<'a> {
    /// Where it says so: `application_name`, or `comment` of the statement that it refers to.
    #[rkyv(with = InlineAsBox)]
    pub origin: &'a str,
    /// What it says.
    #[rkyv(with = InlineAsBox)]
    pub claims: &'a [StatedClaim<'a>],
}

/// What is kept of a statement's exact text.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub enum TextKept<'a> {
    /// All of it, as received: its commitment is over these bytes.
    Whole(#[rkyv(with = InlineAsBox)] &'a str),
    /// What detectors find in it is replaced by constants.
    Masked(#[rkyv(with = InlineAsBox)] &'a str),
    /// Nothing, for this reason: the judged text, without literals, and the commitment stand for it.
    Withheld(#[rkyv(with = InlineAsBox)] &'a str),
}

/// The exact text of the statement that it refers to.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct StatementText<'a> {
    /// The text.
    pub text: TextKept<'a>,
}

/// What is kept of one bound parameter.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub enum ValueKept<'a> {
    /// It is NULL.
    Null,
    /// All of it, as bound.
    Whole(#[rkyv(with = InlineAsBox)] &'a [u8]),
    /// What detectors find in it is replaced by constants.
    Masked(#[rkyv(with = InlineAsBox)] &'a [u8]),
    /// Nothing, for this reason: the keyed digest of the statement's parameters stands for it.
    Withheld(#[rkyv(with = InlineAsBox)] &'a str),
}

/// One bound parameter.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// Oid of its type, as the Parse declared or the server described it; 0 where neither did.
    pub type_oid: u32,
    /// It is spelled in the type's binary form.
    pub binary: bool,
    /// Its value.
    pub value: ValueKept<'a>,
}

/// What is bound to the parameters of the statement that it refers to.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// In order.
    #[rkyv(with = InlineAsBox)]
    pub values: &'a [Parameter<'a>],
}

/// One column of a result.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct ResultColumn<'a> {
    /// Its name; what detectors find in it is replaced.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Oid of the relation that it is a plain column of; 0 where it is none.
    pub table_oid: u32,
    /// Number of that column; 0 where it is none.
    pub attribute: i16,
    /// Oid of its type.
    pub type_oid: u32,
    /// Size of the type, bytes; below zero: it varies.
    pub type_bytes: i16,
    /// The type's modifier; -1 without one.
    pub type_modifier: i32,
    /// Its values are spelled in binary.
    pub binary: bool,
}

/// The columns of results. Rows point to it; results that look alike share it.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct RowDescription<'a> {
    /// In order.
    #[rkyv(with = InlineAsBox)]
    pub columns: &'a [ResultColumn<'a>],
}

/// Rows as they left for the client, masked.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Number in the session of the [`RowDescription`]; [`NOT_DESCRIBED`] where nothing described them.
    pub described: u64,
    /// Rows of the result that began before these bytes.
    pub first_row: u64,
    /// Rows that begin in them.
    pub rows: u64,
    /// DataRow frames. One that is very long may go on in the next record of the result.
    #[rkyv(with = InlineAsBox)]
    pub frames: &'a [u8],
}

/// Which way data goes.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the client.
    ToClient,
    /// From the client.
    FromClient,
}

/// Data of a COPY, as it left, masked.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct CopyData<'a> {
    /// Which way.
    pub direction: Direction,
    /// The COPY is spelled in binary.
    pub binary: bool,
    /// Bytes of the copy's frames before these.
    pub offset: u64,
    /// CopyData frames. One may go on in the next record of the copy.
    #[rkyv(with = InlineAsBox)]
    pub frames: &'a [u8],
}

/// What was being captured.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured {
    /// Rows.
    Rows,
    /// Data of a COPY to the client.
    CopyToClient,
    /// Data of a COPY from the client.
    CopyFromClient,
}

/// Capture ended before the result did: the rest of it is held by digest alone.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct CaptureEnded<'a> {
    /// Of what.
    pub what: Captured,
    /// Why.
    #[rkyv(with = InlineAsBox)]
    pub why: &'a str,
    /// Rows (or CopyData frames) of the result that were captured: the next one is the first that was not.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Whether the server reports an error.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// ErrorResponse.
    Error,
    /// NoticeResponse.
    Notice,
}

/// One field of a report.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct ReportField<'a> {
    /// Its code, an ASCII letter (PostgreSQL documentation, "Error and Notice Message Fields").
    pub code: u8,
    /// Its text.
    #[rkyv(with = InlineAsBox)]
    pub text: &'a str,
}

/// An error or a notice, as it left for the client.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Which.
    pub what: ReportKind,
    /// Its fields, in order.
    #[rkyv(with = InlineAsBox)]
    pub fields: &'a [ReportField<'a>],
}

/// A notification, as it left for the client.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Process id of the server's backend that sent it.
    pub process: u32,
    /// The channel; what detectors find in it is replaced.
    #[rkyv(with = InlineAsBox)]
    pub channel: &'a str,
    /// The payload; `None`: it is withheld, because it may hold a labelled value.
    #[rkyv(with = Map<InlineAsBox>)]
    pub payload: Option<&'a str>,
}

/// All data of a COPY from the client, whatever of it was captured.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct CopiedIn<'a> {
    /// CopyData frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Digest over these bytes as received, keyed per session as that of parameters.
    #[rkyv(with = Inline)]
    pub digest: &'a Hash,
}
