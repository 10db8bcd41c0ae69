//! Masking of what is too large for a session's turn.
//!
//! Owns: the threads beside the shards where a large row, a large run of rows, or a large report is masked, and how many of them there are at
//! once. May not: release, count or record; the session waits for its own and goes on. Fails closed: a thread that fails ends the
//! session.
//!
//! A shard's sessions share one thread: a row of 64 MiB masked there would keep all of them standing still for a second.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use pgturnstile_rules::mask::copy::CopyMasker;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::plan::{Plan, Reach};
use pgturnstile_rules::mask::row::{Masker, Misfit};
use pgturnstile_rules::mask::side::Report;
use pgturnstile_rules::mask::tally::Tally;
use tokio::sync::Semaphore;

use super::end::End;

/// What a session masks in its own turn at most, bytes: some milliseconds of work.
pub(super) const HERE_BYTES_MAX: usize = 256 * 1024;

/// As many at once as the machine has processors, in the order in which they ask. It bounds the memory that they take, too: each
/// about twice its row.
static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, std::num::NonZero::get)));

/// What is masked, and what it takes.
pub(super) struct Work {
    pub(super) masker: Masker,
    pub(super) tally: Tally,
    pub(super) of: Of,
    /// The run that came; empty at the end of a COPY.
    pub(super) run: Vec<u8>,
}

pub(super) enum Of {
    /// Rows under this plan.
    Rows(Plan),
    /// Data of a COPY.
    Copy(CopyMasker),
    /// An error or a notice.
    Report(Report, Detectors, Reach),
}

/// What leaves in the run's stead.
pub(super) type Masked = Result<Option<Vec<u8>>, Misfit>;

/// Masks on a thread of its own.
///
/// # Errors
/// The thread failed.
pub(super) async fn mask(mut work: Work) -> Result<(Work, Masked), End> {
    let failed = || End::gateway("the masking of a large row failed");
    let _place = PLACES.acquire().await.map_err(|_closed| failed())?;
    let masking = move || {
        let Work { masker, tally, of, run } = &mut work;
        let masked = match of {
            Of::Rows(plan) => masker.rows(plan, run, tally),
            Of::Copy(copy) => copy.run(masker, run, tally),
            Of::Report(report, detectors, reach) => masker.report(*report, run, detectors, *reach, tally),
        };
        (work, masked)
    };
    tokio::task::spawn_blocking(masking).await.map_err(|_panicked| failed())
}
