//! Clock evidence: what the machine's clocks said at the start, and when the wall clock stepped.
//!
//! Owns: reading the clocks, and telling a step from drift. May not: correct a time; records bear what the clock said. A
//! machine without these files or clocks says less, and never fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::limits::CLOCK_STEP_MS;
use super::log::wall_ns;

/// What the kernel counts with.
const SOURCE_FILE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// A file that systemd-timesyncd touches while the clock is synchronized.
const TIMESYNC_FILE: &str = "/run/systemd/timesync/synchronized";

/// What the clocks said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Nanoseconds since 1970, UTC.
    pub(crate) wall_ns: u64,
    /// Nanoseconds since the machine was booted, suspensions included.
    pub(crate) boot_ns: u64,
    /// How far apart the two may have been read, nanoseconds: the thread may have been put aside between them.
    pub(crate) apart_ns: u64,
}

fn boot_ns() -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let boot = Duration::new(seconds, u32::try_from(boot.tv_nsec).unwrap_or(0));
    u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX)
}

impl Reading {
    pub(crate) fn now() -> Reading {
        let before = boot_ns();
        let wall_ns = wall_ns();
        let apart_ns = boot_ns().saturating_sub(before);
        Reading { wall_ns, boot_ns: before, apart_ns }
    }

    /// By how much the wall clock moved against the other since `before`, where that is a step.
    pub(crate) fn step_since(&self, before: &Reading) -> Option<i64> {
        let elapsed = i128::from(self.boot_ns) - i128::from(before.boot_ns);
        let moved = i128::from(self.wall_ns) - i128::from(before.wall_ns) - elapsed;
        let limit =
            i128::from(CLOCK_STEP_MS * 1_000_000) + i128::from(self.apart_ns) + i128::from(before.apart_ns);
        (moved.abs() >= limit)
            .then(|| i64::try_from(moved).unwrap_or(if moved < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// What the kernel counts with; empty where it does not say.
pub(crate) fn source() -> String {
    fs::read_to_string(SOURCE_FILE).unwrap_or_default().trim().to_owned()
}

/// Which service of this machine says that the clock is synchronized; empty where none says so.
pub(crate) fn synchronized() -> &'static str {
    if Path::new(TIMESYNC_FILE).exists() { "systemd-timesyncd" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_step_is_told_from_drift_in_both_directions() {
        let before = Reading { wall_ns: 100 * SECOND, boot_ns: 10 * SECOND, apart_ns: 0 };
        let after = |wall_ns| Reading { wall_ns, boot_ns: 11 * SECOND, apart_ns: 0 }.step_since(&before);
        // A clock that is slewed moves by half a millisecond a second.
        assert_eq!((after(101 * SECOND), after(101 * SECOND + 500_000)), (None, None));
        assert_eq!(after(161 * SECOND), Some(60 * SECOND as i64));
        assert_eq!(after(41 * SECOND), Some(-60 * SECOND as i64));
        assert_eq!(after(u64::MAX), Some(i64::MAX));
        // Two looks that a busy machine took apart tell nothing.
        let late = Reading { wall_ns: 101 * SECOND + SECOND / 2, boot_ns: 11 * SECOND, apart_ns: SECOND };
        assert_eq!(late.step_since(&before), None);
    }

    #[test]
    fn this_machine_has_clocks() {
        let reading = Reading::now();
        assert!(reading.wall_ns > 0 && reading.boot_ns > 0);
        assert_eq!(reading.step_since(&reading), None);
    }
}
