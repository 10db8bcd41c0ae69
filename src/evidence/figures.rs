//! What the evidence says of itself in numbers, for metrics and health.
//!
//! Owns: the writer's counters and the histograms of its syncs and batches. May not: take a lock, or be written by any
//! thread but the writer's: a count is a load and a store. Never fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a sync's duration, microseconds. What is longer than the last counts in the sum and in `+Inf` only.
pub const SYNC_US: [u64; 14] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 1_000_000, 5_000_000];
/// Upper bounds of a batch's size, records.
pub const BATCH_RECORDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// A histogram that one thread fills and any may read.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Values at most at each bound and above the one before.
    counts: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

/// A histogram as it stood at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Upper bounds and how many values were at most there, cumulative.
    pub buckets: Vec<(u64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// Their sum, in the unit of the bounds.
    pub sum: u64,
}

fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    fn put(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        if let Some(count) = bucket.and_then(|bucket| self.counts.get(bucket)) {
            add(count, 1);
        }
        add(&self.count, 1);
        add(&self.sum, value);
    }

    fn read(&self) -> Spread {
        let mut below = 0;
        let buckets = self.bounds.iter().zip(&self.counts).map(|(bound, count)| {
            below += count.load(Ordering::Relaxed);
            (*bound, below)
        });
        let buckets: Vec<_> = buckets.collect();
        // Read last and never below the buckets: a reader must not see more in a bucket than in all.
        let count = self.count.load(Ordering::Relaxed).max(below);
        Spread { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// The writer's counters.
#[derive(Debug)]
pub(crate) struct Written {
    sync_us: Histogram<{ SYNC_US.len() }>,
    batch_records: Histogram<{ BATCH_RECORDS.len() }>,
    /// Every sequence below this is on disk.
    durable_sequence: AtomicU64,
    segment: AtomicU64,
    segment_left_bytes: AtomicU64,
    free_bytes: AtomicU64,
    record_bytes: AtomicU64,
}

impl Written {
    pub(crate) fn new() -> Self {
        Self {
            sync_us: Histogram::new(&SYNC_US),
            batch_records: Histogram::new(&BATCH_RECORDS),
            durable_sequence: AtomicU64::new(0),
            segment: AtomicU64::new(0),
            segment_left_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
        }
    }

    /// A batch went to the file.
    pub(crate) fn batch(&self, records: usize, bytes: usize) {
        self.batch_records.put(records as u64);
        add(&self.record_bytes, bytes as u64);
    }

    /// A sync took this long and made every sequence below `durable_sequence` durable.
    pub(crate) fn synced(&self, took: Duration, durable_sequence: u64) {
        self.sync_us.put(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.durable_sequence.store(durable_sequence, Ordering::Relaxed);
    }

    /// Where the open segment stands.
    pub(crate) fn segment(&self, index: u64, left_bytes: u64) {
        self.segment.store(index, Ordering::Relaxed);
        self.segment_left_bytes.store(left_bytes, Ordering::Relaxed);
    }

    /// What the file system has.
    pub(crate) fn free(&self, bytes: u64) {
        self.free_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The numbers, with what the lanes say of themselves.
    pub(crate) fn read(&self, queue_bytes: u64, queue_bytes_max: u64) -> Figures {
        Figures {
            sync_us: self.sync_us.read(),
            batch_records: self.batch_records.read(),
            last_durable_sequence: self.durable_sequence.load(Ordering::Relaxed).checked_sub(1),
            segment: self.segment.load(Ordering::Relaxed),
            segment_left_bytes: self.segment_left_bytes.load(Ordering::Relaxed),
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            record_bytes: self.record_bytes.load(Ordering::Relaxed),
            queue_bytes,
            queue_bytes_max,
            second_place_age_s: None,
        }
    }
}

/// What the evidence says of itself.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How long syncs took, microseconds.
    pub sync_us: Spread,
    /// Records that went to the file together.
    pub batch_records: Spread,
    /// The last record that is on disk; `None` before the first.
    pub last_durable_sequence: Option<u64>,
    /// Number of the open segment.
    pub segment: u64,
    /// What it has left, bytes.
    pub segment_left_bytes: u64,
    /// Free space of the file system when it was last measured, bytes.
    pub free_bytes: u64,
    /// Bytes of records that went to the file since the start.
    pub record_bytes: u64,
    /// What sessions have handed over and the writer has not written, bytes as they are charged.
    pub queue_bytes: u64,
    /// What of these the lanes may hold.
    pub queue_bytes_max: u64,
    /// Since a checkpoint was last kept in the second place, seconds; `None` where there is none.
    pub second_place_age_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_what_is_above_them_counts_in_all() {
        let histogram = Histogram::new(&BATCH_RECORDS);
        for value in [1, 2, 3, 4, 256, 257] {
            histogram.put(value);
        }
        let spread = histogram.read();
        assert_eq!(spread.buckets.first(), Some(&(1, 1)));
        assert_eq!(spread.buckets.get(2), Some(&(4, 4)));
        assert_eq!(spread.buckets.last(), Some(&(256, 5)));
        assert_eq!((spread.count, spread.sum), (6, 523));
    }

    #[test]
    fn nothing_durable_is_said_so() {
        let written = Written::new();
        assert_eq!(written.read(0, 1).last_durable_sequence, None);
        written.synced(Duration::from_micros(70), 12);
        assert_eq!(written.read(0, 1).last_durable_sequence, Some(11));
    }
}
