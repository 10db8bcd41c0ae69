//! Whether the shards' threads move.
//!
//! Owns: when each shard's beat was last seen to change. May not: touch a shard. A shard beats once a second from its own
//! thread; one that is blocked, for whatever reason, does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a shard beats, and how often it is looked at.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a shard may be silent. Far more than anything a shard does at a stretch, so that a busy machine is not taken
/// for a stuck thread.
pub const SILENCE_S_MAX: u64 = 15;

/// See the module.
#[derive(Debug)]
pub struct Pulse {
    seen: Mutex<Vec<(u64, Instant)>>,
}

impl Pulse {
    /// That many shards, all of them alive at `now`.
    pub fn new(shards: usize, now: Instant) -> Self {
        Self { seen: Mutex::new(vec![(0, now); shards]) }
    }

    /// Takes the shards' beats as they are at `now`.
    pub fn look(&self, beats: impl Iterator<Item = u64>, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for ((last, at), beats) in seen.iter_mut().zip(beats) {
            if *last != beats {
                (*last, *at) = (beats, now);
            }
        }
    }

    /// Shards that were silent for too long.
    pub fn stalled(&self, now: Instant) -> Vec<usize> {
        let limit = Duration::from_secs(SILENCE_S_MAX);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = seen.iter().enumerate().filter(|(_, (_, at))| now.duration_since(*at) > limit);
        silent.map(|(shard, _)| shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_beat_is_named_and_comes_back() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let pulse = Pulse::new(2, start);
        for second in 1..=20 {
            pulse.look([second, 1].into_iter(), after(second));
        }
        assert_eq!(pulse.stalled(after(16)), Vec::<usize>::new());
        assert_eq!(pulse.stalled(after(20)), [1]);
        pulse.look([21, 2].into_iter(), after(21));
        assert_eq!(pulse.stalled(after(21)), Vec::<usize>::new());
    }
}
