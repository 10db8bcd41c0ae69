//! Policy: who may do what.
//!
//! Owns: policy.toml from its text to a verdict with a reason. [`Policy::load`] reads and checks, [`Policy::subject`]
//! finds what applies to an identity on a target, [`Policy::judge`] decides on one statement and [`Policy::explain`]
//! tells why. May not: parse SQL, resolve names, do IO on the data path. Permits add, restricts tighten, the strictest
//! wins, no permit means refuse. Everything that is not built yet refuses and says so.
//!
//! ```text
//! policy.toml, packs ──load──> Model ──subject──> Subject (rules of this identity, indexed by object)
//!                                                    │
//! StatementFacts + Resolution ──atoms──> [Atom] ──judge──> Judgement (action, rule, message) [+ tree]
//! ```

pub mod atoms;
pub mod condition;
pub mod course;
mod depends;
mod fields;
pub mod fixture;
mod follow;
pub mod group;
mod index;
pub mod judge;
pub mod labelled;
mod labels;
mod lint;
mod load;
pub mod made;
mod message;
pub mod model;
mod moved_here;
mod near_system;
pub mod object;
pub mod offline;
mod order;
mod outs;
pub mod packs;
pub mod pattern;
pub mod place;
pub mod principal;
mod probes;
mod read;
pub mod recording;
pub mod reference;
pub mod settings;
mod stored;
pub mod subject;
#[cfg(test)]
mod tests;
pub mod tree;
mod values;

use std::path::{Path, PathBuf};

pub use fields::{CLEAR, FieldLabel, Fields};
pub use judge::{Action, Approval, Context, Judgement, Observed, SQLSTATE_REFUSED};
pub use labelled::Labelled;
pub use labels::{Sight, origins};
pub use model::{Access, Durability, Guards, Hold, HoldMode, Mode, Model, Record, Rule, Test, TestPrincipal};
pub use place::Place;
pub use principal::Principal;
pub use recording::Recording;
pub use subject::{NoAccess, Subject};
pub use tree::StatementTree;

use crate::document::Diagnostic;

/// A policy that has passed every check.
#[derive(Debug)]
pub struct Policy {
    pub(crate) model: Model,
    hash: [u8; 32],
    generation: u64,
    warnings: Vec<Diagnostic>,
    folder: Option<PathBuf>,
    label_memory: labelled::LabelMemory,
}

impl Policy {
    /// blake3 over every file that was read (the policy, its includes, shipped packs), each as its name and its text,
    /// length-prefixed: what the evidence records.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// A number that no two loads of this process share, growing with each: the key of caches.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What loaded, but should be known: conditions, cuts and labels that are not built and therefore refuse.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The rules as read.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The folder to which paths in `[[test]]` entries are relative; `None` for a policy that was not read from a file.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A policy of rules that stand in no file.
    #[cfg(test)]
    pub(crate) fn of_model(model: Model) -> Self {
        Self {
            model,
            hash: [1; 32],
            generation: 0,
            warnings: Vec::new(),
            folder: None,
            label_memory: labelled::LabelMemory::default(),
        }
    }
}
