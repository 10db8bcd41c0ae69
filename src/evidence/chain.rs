//! Hashes of the evidence: what names a record, what chains a block, what binds a segment.
//!
//! Owns: the domains and the one function for each. May not: know files or records' meaning; compiles with std and blake3
//! alone (README decision 17). Every hash is `blake3::keyed_hash(D, bytes)` where `D = blake3::derive_key(context, "")`
//! for the context string of its domain: the key is public, it only keeps the domains apart.

use std::sync::LazyLock;

/// A blake3 value.
pub type Hash = [u8; 32];

/// A domain of hashing.
#[derive(Debug)]
pub struct Domain {
    key: LazyLock<Hash>,
}

/// Domain of a record's hash.
pub static RECORD: Domain = Domain::new(|| derive("pgturnstile evidence v1 record"));
/// Domain of a block's chain value.
pub static BLOCK: Domain = Domain::new(|| derive("pgturnstile evidence v1 block"));
/// Domain of the check that makes a block's seal recognisable by itself.
pub static SEAL: Domain = Domain::new(|| derive("pgturnstile evidence v1 seal"));
/// Domain of a segment header's hash.
pub static SEGMENT: Domain = Domain::new(|| derive("pgturnstile evidence v1 segment"));
/// Domain of a segment trailer's hash.
pub static TRAILER: Domain = Domain::new(|| derive("pgturnstile evidence v1 trailer"));

fn derive(context: &str) -> Hash {
    blake3::derive_key(context, b"")
}

impl Domain {
    const fn new(key: fn() -> Hash) -> Domain {
        Domain { key: LazyLock::new(key) }
    }

    /// The hash of `bytes` in this domain.
    pub fn hash(&self, bytes: &[u8]) -> Hash {
        *blake3::keyed_hash(&self.key, bytes).as_bytes()
    }
}

/// The running end of the chain: the last value, and the block that is open behind it.
///
/// Writer and verifier drive the same type: the writer asks for the next [`Seal`], the verifier compares.
#[derive(Clone, Debug)]
pub struct Chain {
    value: Hash,
    first_sequence: u64,
    count: u32,
    /// Input of the block's hash: [`SEAL_HASHED`] bytes of the seal, then one hash for each record.
    input: Vec<u8>,
}

/// Bytes of the seal that its value covers: first sequence, count, zero, durable sequence, previous value.
const SEAL_HASHED: usize = 8 + 4 + 4 + 8 + 32;

/// What closes a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Sequence of the block's first record (of the next record, when the block is empty).
    pub first_sequence: u64,
    /// Records in the block.
    pub count: u32,
    /// Every record with a sequence below this was known durable when the seal was written.
    pub durable_sequence: u64,
    /// The chain's value before this block.
    pub previous: Hash,
    /// The chain's value after it.
    pub value: Hash,
}

impl Chain {
    /// A chain that continues from `value`, with `next_sequence` as its next record.
    pub fn new(value: Hash, next_sequence: u64) -> Chain {
        Chain { value, first_sequence: next_sequence, count: 0, input: vec![0; SEAL_HASHED] }
    }

    /// The last value: of the last sealed block, or the segment's header.
    pub fn value(&self) -> Hash {
        self.value
    }

    /// Records in the open block.
    pub fn open_records(&self) -> u32 {
        self.count
    }

    /// Sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.count)
    }

    /// Takes a record into the open block.
    pub fn push(&mut self, record: &Hash) {
        self.input.extend_from_slice(record);
        self.count += 1;
    }

    /// What the seal of the open block says, given how far records are durable.
    pub fn seal(&mut self, durable_sequence: u64) -> Seal {
        self.input[..8].copy_from_slice(&self.first_sequence.to_le_bytes());
        self.input[8..12].copy_from_slice(&self.count.to_le_bytes());
        self.input[12..16].fill(0);
        self.input[16..24].copy_from_slice(&durable_sequence.to_le_bytes());
        self.input[24..SEAL_HASHED].copy_from_slice(&self.value);
        Seal {
            first_sequence: self.first_sequence,
            count: self.count,
            durable_sequence,
            previous: self.value,
            value: BLOCK.hash(&self.input),
        }
    }

    /// Closes the open block with its seal and opens the next.
    pub fn advance(&mut self, seal: &Seal) {
        self.first_sequence = self.next_sequence();
        self.count = 0;
        self.value = seal.value;
        self.input.truncate(SEAL_HASHED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_differ_and_follow_the_documented_recipe() {
        let all = [&RECORD, &BLOCK, &SEAL, &SEGMENT, &TRAILER].map(|domain| domain.hash(b"x"));
        for (i, left) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|right| left != right));
        }
        let key = blake3::derive_key("pgturnstile evidence v1 record", b"");
        assert_eq!(RECORD.hash(b"x"), *blake3::keyed_hash(&key, b"x").as_bytes());
    }

    #[test]
    fn every_part_of_a_block_moves_its_value() {
        let seal = |value: Hash, next, records: &[Hash], durable| {
            let mut chain = Chain::new(value, next);
            records.iter().for_each(|record| chain.push(record));
            chain.seal(durable).value
        };
        let base = seal([0; 32], 5, &[[1; 32], [2; 32]], 3);
        assert_ne!(base, seal([9; 32], 5, &[[1; 32], [2; 32]], 3));
        assert_ne!(base, seal([0; 32], 6, &[[1; 32], [2; 32]], 3));
        assert_ne!(base, seal([0; 32], 5, &[[2; 32], [1; 32]], 3));
        assert_ne!(base, seal([0; 32], 5, &[[1; 32]], 3));
        assert_ne!(base, seal([0; 32], 5, &[[1; 32], [2; 32]], 4));
        assert_eq!(base, seal([0; 32], 5, &[[1; 32], [2; 32]], 3));
    }

    #[test]
    fn sequences_go_on_behind_a_seal() {
        let mut chain = Chain::new([0; 32], 0);
        chain.push(&[1; 32]);
        chain.push(&[2; 32]);
        let seal = chain.seal(0);
        chain.advance(&seal);
        assert_eq!((chain.next_sequence(), chain.open_records(), chain.value()), (2, 0, seal.value));
        chain.push(&[3; 32]);
        assert_eq!(chain.seal(2).first_sequence, 2);
    }
}
