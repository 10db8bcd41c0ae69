//! Payload types, version 1, of originals that are sealed to an auditor's key, and of their opening. FROZEN, as all of
//! [`super::v1`], which hands them on.
//!
//! Owns: their shape. May not: hold an original that is not sealed, or a key.

use rkyv::with::{Inline, InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use crate::evidence::chain::Hash;

/// What sealed values are the originals of.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedOf {
    /// Masked values of rows.
    Rows,
    /// Masked fields of a COPY to the client.
    CopyToClient,
    /// A statement's exact text.
    Text,
    /// Bound parameters.
    Parameters,
    /// The frame of an error or a notice.
    Report,
    /// A notification's payload.
    Notification,
}

/// Originals of what was masked of the statement that it refers to, sealed. The format's page says what the fields hold.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// Of what.
    pub what: SealedOf,
    /// Why further originals of the same result are not sealed; `None`: nothing is left out here.
    #[rkyv(with = Map<InlineAsBox>)]
    pub rest: Option<&'a str>,
    /// How many values begin in it.
    pub values: u64,
    /// Names the auditor's key.
    #[rkyv(with = Inline)]
    pub key_id: &'a [u8; 16],
    /// The columns (or parameters, counted from 0) that they are of, in rising order.
    #[rkyv(with = InlineAsBox)]
    pub columns: &'a [u16],
    /// The encapsulated key of RFC 9180.
    #[rkyv(with = Inline)]
    pub encapsulated: &'a [u8; 32],
    /// The sealed values.
    #[rkyv(with = InlineAsBox)]
    pub ciphertext: &'a [u8],
}

/// Somebody is about to open sealed originals; it stands in a log of its own.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Unsealed<'a> {
    /// Why, in the words of who opens them.
    #[rkyv(with = InlineAsBox)]
    pub reason: &'a str,
    /// The account that the program runs as, by the system's word.
    #[rkyv(with = InlineAsBox)]
    pub operator: &'a str,
    /// Which sessions and statements were asked for; empty: all.
    #[rkyv(with = InlineAsBox)]
    pub filter: &'a str,
    /// Identity of the log that holds them.
    #[rkyv(with = Inline)]
    pub log_id: &'a [u8; 16],
    /// Records that this log held.
    pub records: u64,
    /// Its chain value behind them.
    #[rkyv(with = Inline)]
    pub head: &'a Hash,
    /// Names the auditor's key.
    #[rkyv(with = Inline)]
    pub key_id: &'a [u8; 16],
    /// Sealed records that are opened.
    pub sealed: u64,
    /// Values that begin in them.
    pub values: u64,
}
