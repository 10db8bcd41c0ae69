//! Samples that anybody can draw again.
//!
//! Owns: the rule: of a population, those events come that have the smallest blake3 of seed, population and sequence. The
//! same seed draws the same ones, whoever draws; and who does not know the seed beforehand cannot arrange them.

use std::collections::BinaryHeap;

use crate::evidence::chain::Hash;

/// What decides whether an event is drawn: blake3 over the seed, the population's name and the sequence in decimal, each ended by
/// a newline.
pub fn rank(seed: &str, population: &str, sequence: u64) -> Hash {
    *blake3::hash(format!("{seed}\n{population}\n{sequence}\n").as_bytes()).as_bytes()
}

/// Draws while events come by: holds the sample alone, however long the population is.
#[derive(Debug)]
pub struct Sample {
    most: usize,
    drawn: BinaryHeap<(Hash, u64, [u8; 16])>,
}

impl Sample {
    /// A sample of at most so many.
    pub fn new(most: usize) -> Sample {
        Sample { most, drawn: BinaryHeap::new() }
    }

    /// An event of the population, and its session.
    pub fn offer(&mut self, seed: &str, population: &str, sequence: u64, session: [u8; 16]) {
        self.drawn.push((rank(seed, population, sequence), sequence, session));
        if self.drawn.len() > self.most {
            self.drawn.pop();
        }
    }

    /// The sequences that were drawn, with their sessions, in the log's order.
    pub fn drawn(&self) -> Vec<(u64, [u8; 16])> {
        let mut drawn: Vec<(u64, [u8; 16])> =
            self.drawn.iter().map(|(_, sequence, session)| (*sequence, *session)).collect();
        drawn.sort_unstable();
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_draws_others() {
        let draw = |seed: &str| {
            let mut sample = Sample::new(5);
            (0..1_000).for_each(|sequence| sample.offer(seed, "logins", sequence, [0; 16]));
            sample.drawn().into_iter().map(|(sequence, _)| sequence).collect::<Vec<u64>>()
        };
        let mut all: Vec<u64> = (0..1_000).collect();
        all.sort_by_key(|sequence| rank("a", "logins", *sequence));
        all.truncate(5);
        all.sort_unstable();
        assert_eq!(draw("a"), all);
        assert_ne!(draw("a"), draw("b"));
        let mut few = Sample::new(5);
        few.offer("a", "logins", 3, [9; 16]);
        assert_eq!(few.drawn(), [(3, [9; 16])]);
    }
}
