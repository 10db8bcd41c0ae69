//! Who is likely to come along with the next sync: group commit that adapts to load.
//!
//! A sync costs the same for one record as for a hundred, so it pays to let the sessions that are about to ask come along:
//! PostgreSQL's `commit_delay` and `commit_siblings` (xlog.c, XLogFlush), with both numbers measured instead of set. The
//! number expected is that of distinct streams in the last two gated batches: two, because a group that has split in two
//! halves, each writing while the other one gathers, would otherwise stay split. Patience is twice what a sync takes.
//!
//! Owns: the estimate. May not: wait, or touch a record. Never fails; a wrong estimate costs one patience. A lone session is
//! never waited with, and neither is one whose siblings were quiet for [`SIBLINGS_FORGOTTEN_MS`], nor while waiting gained
//! nothing the last times (then it is tried again after 1, 2, 4 … [`FRUITLESS_PAUSE_MAX`] batches).

use std::time::{Duration, Instant};

use super::limits::{FRUITLESS_PAUSE_MAX, PATIENCE_US_MAX, PATIENCE_US_MIN, SIBLINGS_FORGOTTEN_MS};

/// See the module.
#[derive(Debug)]
pub(crate) struct Siblings {
    /// Streams of the last gated batch, sorted, each once.
    last: Vec<u128>,
    /// Streams of the two last gated batches.
    expected: usize,
    last_at: Option<Instant>,
    sync: Duration,
    /// Waits in a row that gained nobody.
    fruitless: u32,
    /// Batches that are not waited with.
    pause: u32,
}

impl Siblings {
    pub(crate) fn new() -> Siblings {
        Siblings {
            last: Vec::new(),
            expected: 1,
            last_at: None,
            sync: Duration::from_micros(PATIENCE_US_MIN),
            fruitless: 0,
            pause: 0,
        }
    }

    /// How many streams a sync at this moment should cover; 1: nobody is waited for.
    pub(crate) fn expected(&self, now: Instant) -> usize {
        let forgotten = Duration::from_millis(SIBLINGS_FORGOTTEN_MS);
        let recent = self.last_at.is_some_and(|at| now.duration_since(at) < forgotten);
        if recent && self.pause == 0 { self.expected } else { 1 }
    }

    /// How long they are waited for at most.
    pub(crate) fn patience(&self) -> Duration {
        (self.sync * 2).clamp(Duration::from_micros(PATIENCE_US_MIN), Duration::from_micros(PATIENCE_US_MAX))
    }

    /// A gated batch is complete: its streams, sorted, each once. `gained`: how many of them the wait for it brought;
    /// `None` where nobody was waited for.
    pub(crate) fn batch(&mut self, streams: Vec<u128>, gained: Option<usize>, now: Instant) {
        let fresh = streams.iter().filter(|stream| self.last.binary_search(stream).is_err()).count();
        self.expected = self.last.len() + fresh;
        self.last = streams;
        self.last_at = Some(now);
        match gained {
            None => self.pause = self.pause.saturating_sub(1),
            Some(0) => {
                self.pause = 1_u32.checked_shl(self.fruitless).unwrap_or(u32::MAX).min(FRUITLESS_PAUSE_MAX);
                self.fruitless += 1;
            }
            Some(_) => self.fruitless = 0,
        }
    }

    /// A sync took this long.
    pub(crate) fn synced(&mut self, took: Duration) {
        self.sync = (self.sync * 7 + took) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64, start: Instant) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_lone_stream_never_waits() {
        let start = Instant::now();
        let mut siblings = Siblings::new();
        for turn in 0..10 {
            assert_eq!(siblings.expected(after(turn, start)), 1);
            siblings.batch(vec![7], None, after(turn, start));
        }
    }

    #[test]
    fn halves_find_together_and_a_whole_group_is_not_counted_twice() {
        let start = Instant::now();
        let mut siblings = Siblings::new();
        siblings.batch(vec![1, 2, 3, 4], None, start);
        siblings.batch(vec![5, 6, 7, 8], None, start);
        assert_eq!(siblings.expected(start), 8);
        siblings.batch((1..=8).collect(), Some(4), start);
        siblings.batch((1..=8).collect(), Some(4), start);
        assert_eq!(siblings.expected(start), 8);
    }

    #[test]
    fn who_left_is_waited_for_no_longer_than_two_batches() {
        let start = Instant::now();
        let mut siblings = Siblings::new();
        siblings.batch((1..=8).collect(), None, start);
        siblings.batch(vec![1, 2], Some(1), start);
        assert_eq!(siblings.expected(start), 8);
        siblings.batch(vec![1, 2], Some(1), start);
        assert_eq!(siblings.expected(start), 2);
    }

    #[test]
    fn siblings_that_were_quiet_are_forgotten() {
        let start = Instant::now();
        let mut siblings = Siblings::new();
        siblings.batch(vec![1, 2], None, start);
        assert_eq!(siblings.expected(after(SIBLINGS_FORGOTTEN_MS - 1, start)), 2);
        assert_eq!(siblings.expected(after(SIBLINGS_FORGOTTEN_MS, start)), 1);
    }

    #[test]
    fn waiting_in_vain_is_tried_ever_more_seldom_and_begins_anew_when_it_pays() {
        let start = Instant::now();
        let mut siblings = Siblings::new();
        let mut waited = 0;
        for turn in 0..1_000_u128 {
            // Two streams that never meet.
            let gained = (siblings.expected(start) > 1).then_some(0);
            waited += usize::from(gained.is_some());
            siblings.batch(vec![turn % 2], gained, start);
        }
        assert!((5..=30).contains(&waited), "{waited}");
        while siblings.expected(start) == 1 {
            siblings.batch(vec![1, 2], None, start);
        }
        siblings.batch(vec![1, 2], Some(1), start);
        assert_eq!(siblings.expected(start), 2);
    }

    #[test]
    fn patience_follows_the_disk_within_its_bounds() {
        let mut siblings = Siblings::new();
        assert_eq!(siblings.patience(), Duration::from_micros(2 * PATIENCE_US_MIN));
        for _ in 0..100 {
            siblings.synced(Duration::from_micros(150));
        }
        assert!((290..=300).contains(&siblings.patience().as_micros()), "{:?}", siblings.patience());
        for _ in 0..100 {
            siblings.synced(Duration::from_secs(1));
        }
        assert_eq!(siblings.patience(), Duration::from_micros(PATIENCE_US_MAX));
    }
}
