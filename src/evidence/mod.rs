//! Evidence: what happened, chained, on disk before anything it covers goes on.
//!
//! Owns: the record format (README.md of this folder), the lanes from sessions to the one writer, segments, recovery, and
//! the reader behind `pgturnstile verify`. May not: know sockets, frames or policies. Invariants: nothing is dropped; a mark
//! says durable only behind an `fdatasync` that succeeded; nothing that is masked is written (the session hands in lifted texts
//! and keyed digests, and what is captured behind the masker). Fails closed: a write or sync that fails stops evidence for everybody, for good.
//!
//! Two halves. `ahead`, `chain`, `checkpoint`, `delivered`, `describe`, `diagnose`, `follow`, `format`, `note`, `read`, `record`, `reference`,
//! `second_place`, `signed`, `streams`, `value`, `verify` compile with std, blake3, rkyv and pure code for signatures alone (README
//! decision 17). `anchor`, `clock`, `head`,
//! `held`, `originals`, `ring`, `session`, `state`, `recent`, `writer`, `siblings`, `log`, `disk`, `recover`, `keys`, `figures` make the
//! evidence.

pub mod chain;
pub mod checkpoint;
pub mod delivered;
pub mod describe;
pub mod disk;
pub mod figures;
pub mod follow;
pub mod format;
pub mod keys;
pub mod limits;
pub mod note;
pub mod originals;
pub mod read;
pub mod record;
pub mod reference;
pub mod second_place;
pub mod value;
pub mod verify;

mod ahead;
mod anchor;
mod clock;
mod diagnose;
mod head;
mod held;
mod log;
mod open;
mod recent;
mod recover;
mod ring;
mod session;
mod siblings;
mod signed;
mod state;
mod streams;
mod writer;

pub use anchor::Signing;
pub use figures::{Figures, Spread};
pub use open::{Evidence, OpenError, Run, Settings, open};
pub use recover::Cut;
pub use ring::{Lane, Mark, UntilDurable};
pub use session::{AppendError, SessionLog};
pub use state::{Constraint, State, Stopped, Wanting};

#[cfg(test)]
mod tests;
