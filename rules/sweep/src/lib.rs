//! Sweeps over runs of bytes with SIMD, each with a scalar twin.
//!
//! Owns: all unsafe code of the workspace (README decision 1). May not: know protocol, policy or allocation; every function
//! is from bytes to positions. Invariant: an engine's answer is the scalar twin's, for every input; property tests hold
//! them against each other at every alignment and length around a block. Fails: never; an engine that the machine lacks
//! is not offered, and the scalar twin serves every machine.

use std::sync::OnceLock;

mod runs;

pub use runs::{Candidate, Candidates, RUN_BYTES_MIN, is_number_byte};

/// How a sweep is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Byte by byte: the meaning of the sweep, and the way of machines without AVX2.
    Scalar,
    /// 32 bytes at a time; x86-64 with AVX2, detected when the process first sweeps.
    Avx2,
}

impl Engine {
    /// Every engine, whether this machine has it or not.
    pub const ALL: [Engine; 2] = [Engine::Scalar, Engine::Avx2];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Engine::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(not(target_arch = "x86_64"))]
            Engine::Avx2 => false,
        }
    }

    /// The fastest that this machine has, chosen once in the process.
    pub fn best() -> Engine {
        static BEST: OnceLock<Engine> = OnceLock::new();
        *BEST.get_or_init(|| if Engine::Avx2.is_available() { Engine::Avx2 } else { Engine::Scalar })
    }
}

/// Length of the longest prefix that is *plain*: no backslash, no NUL, no byte above 0x7F.
///
/// A plain text reads the same under every client_encoding that PostgreSQL allows and under either setting of
/// standard_conforming_strings (README decision 6).
#[inline]
pub fn plain_prefix(bytes: &[u8]) -> usize {
    // Below one block there is nothing to win, nor to dispatch.
    if bytes.len() < BLOCK_BYTES { plain_prefix_scalar(bytes) } else { dispatch(Engine::best(), bytes) }
}

/// Whether all of it is plain.
#[inline]
pub fn is_plain(bytes: &[u8]) -> bool {
    plain_prefix(bytes) == bytes.len()
}

/// [`plain_prefix`] by a given engine: the knob by which tests and benches force one. `None` when the machine lacks it.
pub fn plain_prefix_by(engine: Engine, bytes: &[u8]) -> Option<usize> {
    engine.is_available().then(|| dispatch(engine, bytes))
}

/// Bytes that a SIMD step takes.
const BLOCK_BYTES: usize = 32;

/// Runs an engine. Callers pass [`Engine::Avx2`] only after `is_available` said so.
fn dispatch(engine: Engine, bytes: &[u8]) -> usize {
    match engine {
        Engine::Scalar => plain_prefix_scalar(bytes),
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code, reason = "the call of a function with a target feature")]
        Engine::Avx2 => {
            debug_assert!(engine.is_available(), "AVX2 was detected");
            // SAFETY: the function's only requirement is that the processor has AVX2. `dispatch` is private; its callers
            // pass `Engine::Avx2` from `Engine::best` or behind `is_available`, which both detect it at run time.
            unsafe { avx2::plain_prefix(bytes) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Engine::Avx2 => plain_prefix_scalar(bytes),
    }
}

fn plain_prefix_scalar(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| matches!(b, 0 | b'\\' | 0x80..=0xFF)).unwrap_or(bytes.len())
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set1_epi8, _mm256_setzero_si256,
    };

    use super::{BLOCK_BYTES, plain_prefix_scalar};

    #[target_feature(enable = "avx2")]
    pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
        const { assert!(BLOCK_BYTES == size_of::<__m256i>()) };
        let (blocks, tail) = bytes.as_chunks::<BLOCK_BYTES>();
        let (backslash, zero) = (_mm256_set1_epi8(b'\\'.cast_signed()), _mm256_setzero_si256());
        for (index, block) in blocks.iter().enumerate() {
            let value = load(block);
            let special =
                _mm256_or_si256(_mm256_cmpeq_epi8(value, backslash), _mm256_cmpeq_epi8(value, zero));
            // The mask takes each byte's top bit: set by a match, and in the value itself by a byte above 0x7F.
            let mask = _mm256_movemask_epi8(_mm256_or_si256(special, value)).cast_unsigned();
            if mask != 0 {
                return index * BLOCK_BYTES + mask.trailing_zeros() as usize;
            }
        }
        bytes.len() - tail.len() + plain_prefix_scalar(tail)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    #[allow(unsafe_code, reason = "the load takes a pointer")]
    fn load(block: &[u8; BLOCK_BYTES]) -> __m256i {
        // SAFETY: the pointer comes from a reference to exactly 32 readable bytes, and `loadu` asks no alignment.
        unsafe { _mm256_loadu_si256(block.as_ptr().cast::<__m256i>()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[(&[u8], usize)] = &[
        (b"", 0),
        (b"select 1", 8),
        (b"\\", 0),
        (b"a\0", 1),
        (b"\x7f\x80", 1),
        (b"caf\xc3\xa9", 3),
        (b"select 'a\\'; delete from t; --'", 9),
        (b"0123456789012345678901234567890", 31),
        (b"01234567890123456789012345678901", 32),
        (b"0123456789012345678901234567890\\", 31),
        (b"01234567890123456789012345678901\0", 32),
        (b"0123456789012345678901234567890123456789012345678901234567890123\xff", 64),
    ];

    #[test]
    fn every_engine_answers_the_table() {
        for engine in Engine::ALL.into_iter().filter(|e| e.is_available()) {
            for (bytes, expected) in TABLE {
                assert_eq!(plain_prefix_by(engine, bytes), Some(*expected), "{engine:?} {bytes:?}");
            }
        }
        for (bytes, expected) in TABLE {
            assert_eq!(plain_prefix(bytes), *expected, "{bytes:?}");
            assert_eq!(is_plain(bytes), *expected == bytes.len(), "{bytes:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_of_three_blocks() {
        for place in 0..3 * BLOCK_BYTES {
            for byte in 0..=u8::MAX {
                let mut bytes = [b'a'; 3 * BLOCK_BYTES];
                bytes[place] = byte;
                let expected = if matches!(byte, 0 | b'\\') || byte > 0x7F { place } else { bytes.len() };
                for engine in Engine::ALL.into_iter().filter(|e| e.is_available()) {
                    assert_eq!(
                        plain_prefix_by(engine, &bytes),
                        Some(expected),
                        "{engine:?} {byte:#x} at {place}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn engines_agree(bytes in proptest::collection::vec(any::<u8>(), 0..200), offset in 0usize..40) {
            let part = bytes.get(offset..).unwrap_or(&[]);
            for engine in Engine::ALL.into_iter().filter(|e| e.is_available()) {
                prop_assert_eq!(plain_prefix_by(engine, part), Some(plain_prefix_scalar(part)));
            }
        }

        #[test]
        fn engines_agree_on_mostly_plain_bytes(
            len in 0usize..300, offset in 0usize..40, place in 0usize..300, byte in any::<u8>(),
        ) {
            let mut bytes = vec![b' '; len];
            if let Some(b) = bytes.get_mut(place) {
                *b = byte;
            }
            let part = bytes.get(offset..).unwrap_or(&[]);
            for engine in Engine::ALL.into_iter().filter(|e| e.is_available()) {
                prop_assert_eq!(plain_prefix_by(engine, part), Some(plain_prefix_scalar(part)));
            }
        }
    }
}
