//! The two clocks identity reads, in one place so that tests can set them.

use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock for claims, monotonic clock for the age of keys.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Source>);

/// Where time comes from.
pub(super) trait Source: Send + Sync {
    /// Seconds since 1970.
    fn wall_s(&self) -> i64;
    /// Milliseconds since some moment, never going back.
    fn monotonic_ms(&self) -> u64;
}

struct System;

/// One origin for the process: ages must compare across a reload of the configuration.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Source for System {
    fn wall_s(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            // A clock before 1970 makes every token one of the future: refused.
            Err(_) => 0,
        }
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock {
    /// The system's clocks.
    pub(super) fn system() -> Clock {
        LazyLock::force(&ORIGIN);
        Clock(Arc::new(System))
    }

    #[cfg(test)]
    pub(super) fn of(source: Arc<dyn Source>) -> Clock {
        Clock(source)
    }

    pub(super) fn wall_s(&self) -> i64 {
        self.0.wall_s()
    }

    pub(super) fn monotonic_ms(&self) -> u64 {
        self.0.monotonic_ms()
    }
}
