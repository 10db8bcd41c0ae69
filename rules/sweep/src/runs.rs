//! Where in a run of rows something sensitive may stand: candidates, and nothing but candidates.
//!
//! Owns: two questions to every byte, asked 64 at a time: is it an `@`; does a stretch of at least [`RUN_BYTES_MIN`] *number
//! bytes* (digits, and what people put between them) begin here. May not: know rows, columns or what a number means.
//! Invariant: for every input the positions are those of the scalar twin; a stretch is told once, at its first byte. Never
//! fails.

use crate::Engine;

/// Bytes that the shortest number with separators takes, as far as detectors look for it.
pub const RUN_BYTES_MIN: usize = 10;

/// Bytes looked at in one step.
const STEP_BYTES: usize = 64;

/// Something that may be worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// An `@` stands here.
    At(usize),
    /// At least [`RUN_BYTES_MIN`] number bytes begin here.
    Run(usize),
}

impl Candidate {
    /// Where it stands.
    pub fn position(self) -> usize {
        match self {
            Candidate::At(position) | Candidate::Run(position) => position,
        }
    }
}

/// A digit, or one of ` ( ) + - .` and space.
#[inline]
pub fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b' ' | b'(' | b')' | b'+' | b'-' | b'.')
}

/// What the two questions say of 64 bytes, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    number: u64,
    at: u64,
}

/// The candidates of some bytes in their order; see the module.
#[derive(Clone, Debug)]
pub struct Candidates<'b> {
    bytes: &'b [u8],
    engine: Engine,
    /// Where the block stands that `number` speaks of; the next one has been looked at too.
    base: usize,
    /// Blocks of `bytes` that were read, in bytes.
    read: usize,
    /// Number bytes of the block read last, whose stretches may go on.
    last: Masks,
    /// Whether the byte before the block began a stretch.
    began: bool,
    /// Hits of the block at `base` that were not told yet.
    runs: u64,
    ats: u64,
    /// A block is in `last`.
    primed: bool,
}

impl<'b> Candidates<'b> {
    /// Over `bytes`, by the fastest engine of the machine.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self::with(Engine::best(), bytes)
    }

    /// By a given engine: the knob by which tests and benches force one. `None` when the machine lacks it.
    pub fn by(engine: Engine, bytes: &'b [u8]) -> Option<Self> {
        engine.is_available().then(|| Self::with(engine, bytes))
    }

    fn with(engine: Engine, bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            engine,
            base: 0,
            read: 0,
            last: Masks::default(),
            began: false,
            runs: 0,
            ats: 0,
            primed: false,
        }
    }

    /// Reads blocks until one holds a hit, or the bytes are over; whether there is a hit.
    fn advance(&mut self) -> bool {
        match self.engine {
            Engine::Scalar => self.advance_by(masks_scalar),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the call of a function with a target feature")]
            Engine::Avx2 => {
                // SAFETY: the function's only requirement is that the processor has AVX2. `Candidates` is made with
                // `Engine::Avx2` by `Engine::best` or behind `is_available` alone, which both detect it at run time.
                unsafe { avx2::advance(self) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Engine::Avx2 => self.advance_by(masks_scalar),
        }
    }

    #[inline(always)]
    fn advance_by(&mut self, masks: impl Fn(&[u8; STEP_BYTES]) -> Masks) -> bool {
        loop {
            if self.primed && self.read >= self.bytes.len() {
                // The last block: nothing follows that could make a stretch longer.
                let block = self.read - STEP_BYTES;
                self.primed = false;
                return self.conclude(block, Masks::default());
            }
            if self.read >= self.bytes.len() {
                return false;
            }
            let next = match self.bytes.get(self.read..).and_then(|rest| rest.first_chunk::<STEP_BYTES>()) {
                Some(block) => masks(block),
                None => {
                    let rest = self.bytes.get(self.read..).unwrap_or_default();
                    // Padded with what is neither.
                    let mut block = [0; STEP_BYTES];
                    if let Some(part) = block.get_mut(..rest.len()) {
                        part.copy_from_slice(rest);
                    }
                    masks(&block)
                }
            };
            self.read += STEP_BYTES;
            if !self.primed {
                (self.primed, self.last) = (true, next);
                continue;
            }
            let block = self.read - 2 * STEP_BYTES;
            let hit = self.conclude(block, next);
            if hit {
                return true;
            }
        }
    }

    /// The block at `block`, whose masks are `last`, is settled by what follows it.
    #[inline(always)]
    fn conclude(&mut self, block: usize, next: Masks) -> bool {
        // Bit i of `ten` is set where bytes i to i + 9 are all number bytes.
        let one = u128::from(next.number) << 64 | u128::from(self.last.number);
        let two = one & one >> 1;
        let four = two & two >> 2;
        let eight = four & four >> 4;
        let ten = eight & two >> 8;
        const { assert!(RUN_BYTES_MIN == 10) };
        #[allow(clippy::cast_possible_truncation, reason = "the low half is the block's own")]
        let starts = ten as u64;
        self.runs = starts & !(starts << 1 | u64::from(self.began));
        self.began = starts >> 63 != 0;
        self.ats = self.last.at;
        self.base = block;
        self.last = next;
        self.runs | self.ats != 0
    }
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    #[inline]
    fn next(&mut self) -> Option<Candidate> {
        if self.runs | self.ats == 0 && !self.advance() {
            return None;
        }
        let run = self.runs.trailing_zeros();
        let at = self.ats.trailing_zeros();
        // No byte is both.
        if run < at {
            self.runs &= self.runs - 1;
            Some(Candidate::Run(self.base + run as usize))
        } else {
            self.ats &= self.ats - 1;
            Some(Candidate::At(self.base + at as usize))
        }
    }
}

fn masks_scalar(block: &[u8; STEP_BYTES]) -> Masks {
    let mut masks = Masks::default();
    for (index, byte) in block.iter().enumerate() {
        masks.number |= u64::from(is_number_byte(*byte)) << index;
        masks.at |= u64::from(*byte == b'@') << index;
    }
    masks
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };
    use core::hint::black_box;

    use super::{Candidates, Masks, STEP_BYTES};

    #[target_feature(enable = "avx2")]
    pub(super) fn advance(candidates: &mut Candidates<'_>) -> bool {
        candidates.advance_by(
            #[inline(always)]
            |block| masks(block),
        )
    }

    /// The bits are hidden from the optimizer: it knows where they come from, and where they live on in the loop it carries
    /// 128 single bits instead of two words (LLVM 22 with link-time optimization).
    #[target_feature(enable = "avx2")]
    #[inline]
    fn masks(block: &[u8; STEP_BYTES]) -> Masks {
        const { assert!(STEP_BYTES == 2 * size_of::<__m256i>()) };
        let (low, high) = (half(block, 0), half(block, 1));
        Masks {
            number: black_box(u64::from(number(high)) << 32 | u64::from(number(low))),
            at: black_box(u64::from(at(high)) << 32 | u64::from(at(low))),
        }
    }

    /// Two tables by the byte's halves, whose bits meet for number bytes alone: bit 0 for 0x2_, bit 1 for 0x3_.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn number(value: __m256i) -> u32 {
        // Low halves: space ( ) + - . are 0 8 9 B D E of 0x2_, digits are 0 to 9 of 0x3_.
        let by_low = _mm256_setr_epi8(
            3, 2, 2, 2, 2, 2, 2, 2, 3, 3, 0, 1, 0, 1, 1, 0, 3, 2, 2, 2, 2, 2, 2, 2, 3, 3, 0, 1, 0, 1, 1, 0,
        );
        let by_high = _mm256_setr_epi8(
            0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        );
        let nibble = _mm256_set1_epi8(0x0F);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(value), nibble);
        let low = _mm256_and_si256(value, nibble);
        let both = _mm256_and_si256(_mm256_shuffle_epi8(by_low, low), _mm256_shuffle_epi8(by_high, high));
        !_mm256_movemask_epi8(_mm256_cmpeq_epi8(both, _mm256_setzero_si256())).cast_unsigned()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn at(value: __m256i) -> u32 {
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(value, _mm256_set1_epi8(b'@'.cast_signed()))).cast_unsigned()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    #[allow(unsafe_code, reason = "the load takes a pointer")]
    fn half(block: &[u8; STEP_BYTES], index: usize) -> __m256i {
        let (halves, _) = block.as_chunks::<{ STEP_BYTES / 2 }>();
        let half = halves.get(index).unwrap_or(&[0; STEP_BYTES / 2]);
        // SAFETY: the pointer comes from a reference to exactly 32 readable bytes, and `loadu` asks no alignment.
        unsafe { _mm256_loadu_si256(half.as_ptr().cast::<__m256i>()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The meaning, byte by byte.
    fn naive(bytes: &[u8]) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (position, byte) in bytes.iter().enumerate() {
            if *byte == b'@' {
                found.push(Candidate::At(position));
            }
            let begins = position == 0 || !is_number_byte(bytes[position - 1]);
            let long = bytes[position..].iter().take_while(|b| is_number_byte(**b)).count() >= RUN_BYTES_MIN;
            if begins && long {
                found.push(Candidate::Run(position));
            }
        }
        found
    }

    fn agree(bytes: &[u8]) {
        for engine in Engine::ALL.into_iter().filter(|engine| engine.is_available()) {
            let found: Vec<_> = Candidates::by(engine, bytes).unwrap().collect();
            assert_eq!(found, naive(bytes), "{engine:?} {:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(Candidates::new(bytes).collect::<Vec<_>>(), naive(bytes));
    }

    #[test]
    fn every_byte_alone_and_ten_times() {
        for byte in 0..=u8::MAX {
            agree(&[byte]);
            agree(&[byte; 9]);
            agree(&[byte; 10]);
            agree(&[byte; 200]);
        }
    }

    #[test]
    fn a_stretch_at_every_place_of_four_blocks() {
        for length in [9, 10, 11, 63, 64, 65, 130] {
            for place in 0..4 * STEP_BYTES - length {
                let mut bytes = [b'x'; 4 * STEP_BYTES];
                bytes[place..place + length].fill(b'7');
                agree(&bytes);
                agree(&bytes[..place + length]);
            }
        }
    }

    proptest! {
        #[test]
        fn engines_agree(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            agree(&bytes);
        }

        #[test]
        fn engines_agree_on_numbers(text in "[0-9 ()+.@x-]{0,300}", cut in 0usize..70) {
            agree(text.as_bytes().get(cut..).unwrap_or_default());
        }
    }
}
