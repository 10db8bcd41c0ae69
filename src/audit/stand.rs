//! How much of a log somebody has taken, and whether the log still begins with it.
//!
//! Owns: a fingerprint over the records' hashes. It needs no seal to end at, and two logs with the same one hold the same records. May
//! not: prove anything about the log itself; its verifier does.

use crate::evidence::chain::Hash;

/// How much of a log was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Records.
    pub records: u64,
    /// blake3 over their hashes.
    pub fingerprint: Hash,
}

/// Follows the records, to say whether they are those that were taken before.
#[derive(Default)]
pub struct Fingerprint {
    hasher: blake3::Hasher,
    records: u64,
}

impl Fingerprint {
    /// The next record's hash.
    pub fn take(&mut self, hash: &Hash) {
        self.hasher.update(hash);
        self.records += 1;
    }

    /// Where the records stand.
    pub fn stand(&self) -> Stand {
        Stand { records: self.records, fingerprint: *self.hasher.finalize().as_bytes() }
    }
}
