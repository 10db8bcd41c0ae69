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

/// Whether evidence can be written.
#[derive(Clone, Debug)]
pub enum State {
    /// Yes.
    Running,
    /// Only what ends work: space runs out.
    Constrained(Arc<str>),
    /// No, until the gateway is started again.
    Stopped(Stopped),
}

/// Why a record did not get a place.
#[derive(Clone, Debug)]
pub(crate) enum Unplaced {
    Stopped(Stopped),
    Stalled { waited_ms: u64 },
}
