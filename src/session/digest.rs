//! The keyed digest of a result's rows, fed as they come.
//!
//! Owns: how much is hashed at once. blake3 is fast on whole, aligned pieces alone: rows end anywhere, and slices of odd
//! length cost a third more (0.23 against 0.17 s/GB for 58 KB, twice as much for 16 KB). So what is left of a piece
//! waits here, a copy of at most [`PIECE_BYTES`]. May not: change the digest, which is that of all bytes in their order.
//! Results smaller than a piece are hashed as they are, and allocate nothing. Never fails.

/// Sixteen chunks of blake3: as many as its widest code hashes side by side.
const PIECE_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct RowDigest {
    hasher: blake3::Hasher,
    /// The begun piece. While it holds anything, the hasher has seen whole pieces alone.
    begun: Vec<u8>,
}

impl RowDigest {
    /// The digest of nothing yet, under the key that `hasher` has.
    pub(super) fn new(hasher: blake3::Hasher) -> Self {
        Self { hasher, begun: Vec::new() }
    }

    /// The next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let rest = self.complete(bytes);
        let (whole, begun) = rest.split_at(rest.len() - rest.len() % PIECE_BYTES);
        self.hasher.update(whole);
        self.begun.extend_from_slice(begun);
    }

    /// Brings the hasher to the end of a piece as far as `bytes` go, and says what is left of them.
    fn complete<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let seen = usize::try_from(self.hasher.count() % PIECE_BYTES as u64).unwrap_or(0);
        let missing = PIECE_BYTES - seen - self.begun.len();
        if missing == PIECE_BYTES && bytes.len() >= PIECE_BYTES {
            return bytes;
        }
        let (first, rest) = bytes.split_at(missing.min(bytes.len()));
        if self.begun.is_empty() {
            self.hasher.update(first);
            return rest;
        }
        self.begun.extend_from_slice(first);
        if self.begun.len() == PIECE_BYTES {
            self.hasher.update(&self.begun);
            self.begun.clear();
        }
        rest
    }

    /// The digest of all of it.
    pub(super) fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.begun);
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes are cut, the digest is that of all of them.
        #[test]
        fn agrees_with_one_update(cuts in proptest::collection::vec(
            prop_oneof![0usize..300, 16_000usize..17_000, 0usize..70_000], 0..40,
        )) {
            let mut digest = RowDigest::new(blake3::Hasher::new_keyed(&[7; 32]));
            let mut plain = blake3::Hasher::new_keyed(&[7; 32]);
            for (turn, length) in cuts.into_iter().enumerate() {
                let bytes = vec![u8::try_from(turn).unwrap_or(0); length];
                digest.update(&bytes);
                plain.update(&bytes);
            }
            prop_assert_eq!(digest.finish(), *plain.finalize().as_bytes());
        }
    }
}
