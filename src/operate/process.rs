//! The process in numbers: descriptors, memory, processor time.
//!
//! Owns: reading them from the system, and the limit of descriptors. May not: fail the gateway: what cannot be read is not
//! shown. Names are those of every Prometheus client library.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::Text;

/// What the process uses.
#[derive(Clone, Debug)]
pub struct Process {
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    resident_bytes: Option<u64>,
    cpu_seconds: String,
    started_s: u64,
}

/// When the process started, seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Now, milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Descriptors that are open now; `None` where the system does not say. Its own, for the looking, is not counted.
pub fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some((entries.count() as u64).saturating_sub(1))
}

/// Descriptors that may be open; `None` for no limit.
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the limit of descriptors to the most that the process may have; the limit that then holds. The soft limit is
/// low for the sake of programs that use `select`, which this one does not.
pub fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open descriptors could not be raised");
            limit.current
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

impl Process {
    /// As it is now; `started_s`: when the process started, seconds since 1970.
    pub fn read(started_s: u64) -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            open_fds: open_descriptors(),
            max_fds: descriptors_max(),
            resident_bytes: resident_bytes(),
            cpu_seconds: format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec),
            started_s,
        }
    }

    pub(super) fn render(&self, text: &mut Text) {
        if let Some(open) = self.open_fds {
            text.gauge("process_open_fds", "Open descriptors.", open);
        }
        if let Some(max) = self.max_fds {
            text.gauge("process_max_fds", "Descriptors that may be open.", max);
        }
        if let Some(bytes) = self.resident_bytes {
            text.gauge("process_resident_memory_bytes", "Memory that is resident.", bytes);
        }
        text.family("process_cpu_seconds_total", "counter", "Processor time, user and system.")
            .sample(&[], &self.cpu_seconds);
        text.gauge("process_start_time_seconds", "Start of the process, since 1970.", self.started_s);
    }
}
