//! Payload types, version 1, of what anchors the log: checkpoints, the rotation of their key, clocks. FROZEN, as all of
//! [`super::v1`], which hands them on.
//!
//! Owns: their shape. May not: hold a key that signs.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// A checkpoint was signed: how far the log had come, and with which chain value.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The whole signed note.
    #[rkyv(with = InlineAsBox)]
    pub note: &'a str,
}

/// Another key signs the checkpoints from here on.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct KeyRotated<'a> {
    /// The signed note by which the old key says so.
    #[rkyv(with = InlineAsBox)]
    pub note: &'a str,
}

/// What the machine's clocks said, at the start and when the wall clock stepped.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// `start` or `step`.
    #[rkyv(with = InlineAsBox)]
    pub why: &'a str,
    /// The wall clock, nanoseconds since 1970, UTC.
    pub wall_ns: u64,
    /// The clock that counts since the machine was booted, suspensions included, nanoseconds.
    pub boot_ns: u64,
    /// By how much the wall clock moved against that one since the last look, nanoseconds; 0 at the start.
    pub step_ns: i64,
    /// What the kernel counts with; empty where it does not say.
    #[rkyv(with = InlineAsBox)]
    pub source: &'a str,
    /// Which service on this machine says that the clock is synchronized; empty where none says so.
    #[rkyv(with = InlineAsBox)]
    pub synchronized: &'a str,
}
