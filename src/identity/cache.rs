//! One issuer's keys in memory: who may fetch, when, and how long an answer is believed.
//!
//! Owns: a snapshot of the key set that readers take without a lock, and the single flight that replaces it. May not:
//! verify; block a shard; fetch more often than the floor allows, whatever tokens say; hand out keys that could not be
//! confirmed for longer than the bound. A failed refresh leaves the last good keys, loudly; the bound then ends them.
//!
//! Fetches run on the control runtime: a shard that ends, or a client that gives up, does not cancel what others wait
//! for.
//!
//! ```text
//!   age of the snapshot:   0 ──────── refresh_ms ───────────────── stale_ms_max ───────▶
//!   known kid              use        use, refresh behind the back  wait for a refresh, else refuse
//!   unknown kid            wait for a refresh, else refuse          the same
//!
//!            begin(): none aloft and the floor has passed
//!   ┌──────┐ ────────────────────────────────────────────▶ ┌───────┐
//!   │ idle │                                               │ aloft │  begin(): join the one that is aloft
//!   └──────┘ ◀──────────────────────────────────────────── └───────┘
//!            landed, failed, or dropped with its runtime: wakes all who wait
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::clock::Clock;
use super::http::Client;
use super::jwks::KeySet;
use super::limits::KeyTiming;
use super::source::{KeysError, Place, Reading, Stamp};

/// The cache. Dropping it ends its background task.
pub(super) struct KeyCache {
    shared: Arc<Shared>,
}

struct Shared {
    /// The issuer's configured name, for the log.
    name: String,
    place: Place,
    client: Client,
    timing: KeyTiming,
    clock: Clock,
    runtime: Handle,
    current: ArcSwapOption<Snapshot>,
    flight: Mutex<Flight>,
    counters: Counters,
}

/// Keys as last confirmed.
pub(super) struct Snapshot {
    pub(super) keys: Arc<KeySet>,
    stamp: Option<Stamp>,
    /// When the reading that brought or confirmed them began: keys are never younger than they look.
    confirmed_at_ms: u64,
}

#[derive(Default)]
struct Flight {
    aloft: Option<watch::Receiver<()>>,
    /// No fetch begins before this, in milliseconds of the monotonic clock.
    not_before_ms: u64,
    /// Why the last fetch failed; `None` after one that did not.
    failure: Option<KeysError>,
}

/// Counts since the start, for metrics.
#[derive(Debug, Default)]
pub(super) struct Counters {
    fetches: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    /// Readings of the source that began.
    #[must_use]
    pub(super) fn fetches_total(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Readings that brought no keys.
    #[must_use]
    pub(super) fn failures_total(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// Why there is no key for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// No keys, or keys too old to be believed.
    Unavailable { retry_in_s: u64, cause: String },
    /// The set, as fresh as it may be had, has no such `kid`.
    Unknown { retry_in_s: u64, keys: usize },
}

/// What the snapshot is good for at this moment.
enum Look {
    Good(Arc<Snapshot>),
    Due(Arc<Snapshot>),
    Unknown { keys: usize },
    TooOld,
    Never,
}

enum Begun {
    Aloft(watch::Receiver<()>),
    NotYet,
}

impl KeyCache {
    /// Sets a cache up and begins its first fetch; returns at once.
    pub(super) fn new(
        name: &str,
        place: Place,
        client: Client,
        timing: KeyTiming,
        clock: Clock,
        runtime: &Handle,
    ) -> KeyCache {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            place,
            client,
            timing,
            clock,
            runtime: runtime.clone(),
            current: ArcSwapOption::empty(),
            flight: Mutex::default(),
            counters: Counters::default(),
        });
        shared.begin();
        runtime.spawn(keep_fresh(Arc::downgrade(&shared), timing));
        KeyCache { shared }
    }

    /// Takes over another cache's keys where both read the same place: a reload during an outage loses nothing.
    pub(super) fn inherit(&self, other: &KeyCache) {
        if self.shared.place == other.shared.place {
            let inherited = other.shared.current.load_full();
            self.shared.current.rcu(|now| now.clone().or_else(|| inherited.clone()));
        }
    }

    /// Keys among which a token with this `kid` may find its own. Waits for at most one fetch, which is bounded by
    /// its own timeout.
    pub(super) async fn for_kid(&self, kid: Option<&str>) -> Result<Arc<Snapshot>, NoKey> {
        match self.shared.look(kid) {
            Look::Good(snapshot) => return Ok(snapshot),
            Look::Due(snapshot) => {
                self.shared.begin();
                return Ok(snapshot);
            }
            Look::Unknown { .. } | Look::TooOld | Look::Never => {}
        }
        if let Begun::Aloft(mut landing) = self.shared.begin() {
            // An error is the sender's end, which is how every flight ends.
            while landing.changed().await.is_ok() {}
        }
        match self.shared.look(kid) {
            Look::Good(snapshot) | Look::Due(snapshot) => Ok(snapshot),
            Look::Unknown { keys } => Err(NoKey::Unknown { retry_in_s: self.shared.retry_in_s(), keys }),
            Look::TooOld => Err(self.shared.unavailable("the keys are older than may be believed")),
            Look::Never => Err(self.shared.unavailable("no keys were ever fetched")),
        }
    }

    /// Begins a refresh, if the floor allows, and does not wait for it.
    pub(super) fn refresh_soon(&self) {
        self.shared.begin();
    }

    /// Counts since the start.
    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Whether there are keys that may be believed.
    pub(super) fn is_usable(&self) -> bool {
        let now_ms = self.shared.clock.monotonic_ms();
        let confirmed = self.shared.current.load_full().map(|snapshot| snapshot.confirmed_at_ms);
        confirmed.is_some_and(|at| now_ms.saturating_sub(at) <= self.shared.timing.stale_ms_max)
    }

    /// Seconds since the keys were last confirmed; `None` when they never were.
    pub(super) fn age_s(&self) -> Option<u64> {
        let now_ms = self.shared.clock.monotonic_ms();
        let snapshot = self.shared.current.load_full()?;
        Some(now_ms.saturating_sub(snapshot.confirmed_at_ms) / 1_000)
    }
}

impl Shared {
    fn look(&self, kid: Option<&str>) -> Look {
        let Some(snapshot) = self.current.load_full() else { return Look::Never };
        let age_ms = self.clock.monotonic_ms().saturating_sub(snapshot.confirmed_at_ms);
        if age_ms > self.timing.stale_ms_max {
            Look::TooOld
        } else if !snapshot.keys.may_hold(kid) {
            Look::Unknown { keys: snapshot.keys.len() }
        } else if age_ms > self.timing.refresh_ms {
            Look::Due(snapshot)
        } else {
            Look::Good(snapshot)
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Held for a few assignments that cannot panic; a poisoned lock holds a whole value all the same.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Shared>) -> Begun {
        let mut flight = self.flight();
        if let Some(landing) = &flight.aloft {
            return Begun::Aloft(landing.clone());
        }
        let now_ms = self.clock.monotonic_ms();
        if now_ms < flight.not_before_ms {
            return Begun::NotYet;
        }
        flight.not_before_ms = now_ms.saturating_add(self.timing.floor_ms);
        let (sender, landing) = watch::channel(());
        flight.aloft = Some(landing.clone());
        drop(flight);
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        let aloft =
            Aloft { shared: Arc::clone(self), outcome: Err(KeysError::CutOff), began_at_ms: now_ms, sender };
        // Not awaited: the guard reports the end, also when the runtime drops the future before its first poll.
        drop(self.runtime.spawn(aloft.fly()));
        Begun::Aloft(landing)
    }

    fn retry_in_s(&self) -> u64 {
        let not_before_ms = self.flight().not_before_ms;
        not_before_ms.saturating_sub(self.clock.monotonic_ms()).div_ceil(1_000)
    }

    fn unavailable(&self, what: &str) -> NoKey {
        let cause = match &self.flight().failure {
            Some(failure) => format!("{what}; {failure}"),
            None => what.to_owned(),
        };
        NoKey::Unavailable { retry_in_s: self.retry_in_s(), cause }
    }

    /// Takes the outcome of a reading over.
    fn land(&self, outcome: Result<Reading, KeysError>, began_at_ms: u64) {
        let failure = match outcome {
            Ok(reading) => {
                self.take_over(reading, began_at_ms);
                None
            }
            Err(error @ KeysError::CutOff) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                // The gateway is stopping: nobody waits for the keys.
                tracing::debug!(issuer = %self.name, cause = %error, "the reading of the issuer's keys ended");
                Some(error)
            }
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    issuer = %self.name,
                    cause = %error,
                    keys_usable_s_max = self.timing.stale_ms_max / 1_000,
                    "the issuer's keys could not be read; those of the last good reading, if there was one, are used until they are too old"
                );
                Some(error)
            }
        };
        let mut flight = self.flight();
        flight.failure = failure;
        flight.aloft = None;
    }

    fn take_over(&self, reading: Reading, began_at_ms: u64) {
        let last = self.current.load_full();
        let (keys, stamp) = match (reading, &last) {
            (Reading::Keys(keys, stamp), Some(last)) if last.keys.same_as(&keys) => {
                (Arc::clone(&last.keys), stamp)
            }
            (Reading::Keys(keys, stamp), _) => {
                tracing::info!(
                    issuer = %self.name,
                    keys = keys.len(),
                    left_out = ?keys.left_out,
                    "the issuer's keys are new"
                );
                (Arc::new(keys), stamp)
            }
            (Reading::Unchanged, Some(last)) => (Arc::clone(&last.keys), last.stamp),
            // A file can only be unchanged against a snapshot.
            (Reading::Unchanged, None) => return,
        };
        self.current.store(Some(Arc::new(Snapshot { keys, stamp, confirmed_at_ms: began_at_ms })));
    }
}

/// A fetch under way. Whatever ends it, also its runtime's end, runs `drop`: the outcome is taken over, the flight is
/// marked as landed, and then the sender goes, which wakes everybody who waits.
struct Aloft {
    shared: Arc<Shared>,
    outcome: Result<Reading, KeysError>,
    began_at_ms: u64,
    /// Never sends; its end is the signal. Declared last of what `drop` leaves to the compiler.
    #[expect(dead_code, reason = "held for its drop")]
    sender: watch::Sender<()>,
}

impl Aloft {
    async fn fly(mut self) {
        let stamp = self.shared.current.load_full().and_then(|snapshot| snapshot.stamp);
        self.outcome = self.shared.place.read(&self.shared.client, stamp).await;
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(KeysError::CutOff));
        self.shared.land(outcome, self.began_at_ms);
    }
}

/// Refreshes before anybody has to wait, until the cache is gone: again after the floor where it failed, also at the
/// first time, so that a gateway that starts before its identity provider is ready soon after it.
async fn keep_fresh(shared: Weak<Shared>, timing: KeyTiming) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let begun = alive.begin();
        drop(alive);
        if let Begun::Aloft(mut landing) = begun {
            // What is waited for decides the pause: a look while it is aloft would see the outcome before it.
            while landing.changed().await.is_ok() {}
        }
        let Some(alive) = shared.upgrade() else { return };
        let failed = alive.flight().failure.is_some();
        drop(alive);
        let pause_ms = if failed { timing.floor_ms } else { timing.refresh_ms };
        tokio::time::sleep(Duration::from_millis(pause_ms.max(100))).await;
    }
}
