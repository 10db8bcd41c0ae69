//! The masker: from a plan and the server's bytes to the bytes that leave.
//!
//! Owns: what is replaced in rows, COPY data and the server's texts, and the tally of it. May not: judge a statement, read a
//! catalog, write to a socket. Invariant: the same bytes as [`reference`](mod@reference) makes, which walks every value by the plain meaning of
//! the detectors; property tests and a fuzz target hold them against each other. Fails closed: what cannot be read is an
//! error, and nothing of it is released.
//!
//! ```text
//!  run of whole frames ─ plan is clear ─────────────────────────────────────────────► as it is
//!        │
//!        ├─ no label, nothing hidden ─ sweep: no candidate ─────────────────────────► as it is
//!        │                               └ candidate ─► its row is walked
//!        └─ a label, or a type that spells values as no sweep sees ─► every row is walked
//!                                                          └ nothing replaced ──────► as it is
//!                                                          └ replaced ──────────────► rebuilt, lengths corrected
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | the seam to labels |
//! | [`shape`] | how a type spells its values |
//! | [`detect`] | what is recognised by pattern |
//! | [`style`] | what stands in |
//! | [`value`]; `json`, `binary`, `guess` | one value; JSON, containers in binary, values without a type |
//! | [`row`], [`copy`], [`side`] | rows, COPY data, texts |
//! | [`originals`] | what masked values were, where somebody seals them |
//! | [`tally`] | what was masked, how often |

mod binary;
pub mod copy;
pub mod detect;
mod guess;
mod json;
mod number;
pub mod originals;
pub mod plan;
pub mod reference;
pub mod row;
pub mod shape;
pub mod side;
pub mod style;
pub mod tally;
pub mod value;

#[cfg(test)]
mod tests;
