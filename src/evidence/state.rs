//! Whether evidence can be written, as those see it who hand records over.
//!
//! Owns: the words for it. May not: decide it; the writer does, through the hub of [`super::ring`].

use std::sync::Arc;

/// The evidence cannot be written any more: whoever sees this releases no further byte and ends.
#[derive(Clone, Debug, thiserror::Error)]
#[error("evidence stopped: {reason}")]
pub struct Stopped {
    /// What failed, for the operator.
    pub reason: Arc<str>,
}

/// What is wanting while new work is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanting {
    /// Space on the disk.
    Space,
    /// The second place of the checkpoints.
    SecondPlace,
}

/// Why new work is refused.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// What is wanting.
    pub wanting: Wanting,
    /// In words for the operator.
    pub reason: Arc<str>,
}

impl core::fmt::Display for Constraint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Whether evidence can be written.
#[derive(Clone, Debug)]
pub enum State {
    /// Yes.
    Running,
    /// Only what ends work.
    Constrained(Constraint),
    /// No, until the gateway is started again.
    Stopped(Stopped),
}

/// Why a record did not get a place.
#[derive(Clone, Debug)]
pub(crate) enum Unplaced {
    Stopped(Stopped),
    Stalled { waited_ms: u64 },
}
