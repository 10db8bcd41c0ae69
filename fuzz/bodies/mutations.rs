//! Deterministic mutations: the same on every machine and in every run, so that a replay that fails fails again.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a helper of tests")]

/// One to four random edits. Borders of integers are favoured: lengths and counts are where frames break.
pub fn mutated(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    const WORDS: [i32; 12] = [0, 1, 3, 4, 5, 8, 255, 65_535, 65_536, i32::MAX, i32::MIN, -1];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.byte()),
            2 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(4)))),
            3 => overwrite(&mut bytes, at, &[random.byte()]),
            4 => overwrite(&mut bytes, at, &WORDS[random.below(WORDS.len())].to_be_bytes()),
            5 => overwrite(&mut bytes, at, &WORDS[random.below(WORDS.len())].to_be_bytes()[2..]),
            6 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                let from = random.below(other.len() + 1);
                let piece = &other[from..other.len().min(from + 1 + random.below(64))];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}

/// Xorshift (Marsaglia 2003).
pub struct Random(u64);

impl Random {
    /// Starts the sequence with this number.
    pub fn new(number: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (number + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
