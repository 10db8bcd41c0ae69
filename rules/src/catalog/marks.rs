//! Which columns bore a label, by number and not by name: what keeps it on them when they are renamed behind the gateway's back.
//!
//! Owns: the memory of it, one for each target, handed from snapshot to snapshot. May not: know labels; what it keeps are
//! words. Lost with the process: after a restart a label is found by its name alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Words on columns, by oid of the relation and number of the column; see the module.
#[derive(Debug, Default)]
pub struct Marks(Mutex<BTreeMap<(u32, i16), Arc<str>>>);

impl Marks {
    /// A panic under the lock leaves a map that is whole.
    fn held(&self) -> MutexGuard<'_, BTreeMap<(u32, i16), Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was marked last.
    #[must_use]
    pub fn all(&self) -> Vec<((u32, i16), Arc<str>)> {
        self.held().iter().map(|(column, word)| (*column, Arc::clone(word))).collect()
    }

    /// Marks these columns, and no others from here on.
    pub fn set(&self, marks: impl Iterator<Item = ((u32, i16), Arc<str>)>) {
        *self.held() = marks.collect();
    }
}
