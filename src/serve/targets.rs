//! A target while the gateway runs: how to dial it, its slots, its catalog.
//!
//! Owns: the control connection that reads the catalog and watches it drift (lineage 4.4, "bounded"), and the cap on
//! sessions. May not: judge, or touch a client. Fails closed: a catalog that could not be confirmed for
//! [`CATALOG_AGE_MAX`] counts as none, and without one no session begins and no statement passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use pgturnstile_rules::catalog::Snapshot;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::mapping::Origin;
use crate::backend::catalog::{self, ReadError, Watched};
use crate::backend::settings::Guards;
use crate::backend::{
    ClientSettings, Connected, DialError, KeyCache, Login, Pooling, StartupParameters, Target, dial, pooler,
};

/// How often the catalog's fingerprint is compared: the bound of unseen drift.
pub const FINGERPRINT_EVERY: Duration = Duration::from_secs(2);
/// How long a catalog is used without a fingerprint that confirms it.
pub const CATALOG_AGE_MAX: Duration = Duration::from_secs(10);
/// How long the control connection may take for one step.
pub const CONTROL_DEADLINE: Duration = Duration::from_secs(30);
/// Pause before the control connection is dialled again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A catalog that was read.
#[derive(Debug)]
struct Reading {
    snapshot: Arc<Snapshot>,
    number: u64,
}

/// See the module.
pub struct TargetState {
    /// How to dial it.
    pub target: Arc<Target>,
    /// Slots of sessions, given in the order of asking.
    pub slots: Arc<Semaphore>,
    /// Derived SCRAM keys.
    pub keys: Arc<KeyCache>,
    /// What it was made from.
    pub origin: Origin,
    reading: ArcSwapOption<Reading>,
    /// Number of the reading in use, 0 while there is none.
    number: AtomicU64,
    /// Readings asked for so far; a reading's number is what had been asked for when it began, plus one.
    asked: AtomicU64,
    wake: Notify,
    confirmed: ArcSwap<Instant>,
    /// Why there is no catalog; for the log and for `health`.
    trouble: Mutex<Option<String>>,
}

impl TargetState {
    /// A target whose catalog is still to be read.
    pub fn new(target: Target, origin: Origin, keys: Arc<KeyCache>) -> Self {
        Self {
            target: Arc::new(target),
            slots: Arc::new(Semaphore::new(origin.sessions_max.min(Semaphore::MAX_PERMITS))),
            keys,
            origin,
            reading: ArcSwapOption::empty(),
            number: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            wake: Notify::new(),
            confirmed: ArcSwap::from_pointee(Instant::now()),
            trouble: Mutex::new(Some("it has not been read yet".to_owned())),
        }
    }

    /// The catalog in use and its number.
    pub fn catalog(&self) -> Option<(Arc<Snapshot>, u64)> {
        self.reading.load().as_ref().map(|reading| (Arc::clone(&reading.snapshot), reading.number))
    }

    /// The number of the catalog in use; 0 without one.
    pub fn catalog_number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Asks for a new reading; the least number of one that begins after this call.
    pub fn read_again(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 2;
        self.wake.notify_one();
        number
    }

    /// Why there is no catalog.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Reads and watches the catalog for as long as the target is configured. Runs on the control runtime.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let error = match self.watch_once().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            tracing::error!(target_name = self.target.name(), %error, "the catalog cannot be read; dialling again");
            self.set_trouble(Some(error.to_string()));
            self.expire();
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn watch_once(&self) -> Result<std::convert::Infallible, WatchError> {
        let login = Login { credential: &self.origin.control, keys: &self.keys };
        let parameters = self.control_parameters()?;
        let deadline = Instant::now() + CONTROL_DEADLINE;
        if pooler::detect(&self.target, &login, &parameters, deadline).await? == Pooling::Transaction {
            return Err(WatchError::Pooler);
        }
        let mut connected = dial(&self.target, &login, &parameters, deadline).await?;
        catalog::greet(&mut connected, deadline).await?;
        let mut watched = self.read(&mut connected).await?;
        loop {
            if self.asked.load(Ordering::Acquire) + 1 > self.catalog_number() {
                watched = self.read(&mut connected).await?;
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(FINGERPRINT_EVERY) => {
                    let began = Instant::now();
                    if catalog::drifted(&mut connected, &watched, began + CONTROL_DEADLINE).await? {
                        self.asked.fetch_add(1, Ordering::AcqRel);
                    } else {
                        self.confirmed.store(Arc::new(began));
                    }
                }
            }
        }
    }

    async fn read(&self, connected: &mut Connected) -> Result<Watched, WatchError> {
        // What is asked for from here on is a later reading.
        let number = self.asked.load(Ordering::Acquire) + 1;
        let began = Instant::now();
        let watched = catalog::read(connected, number, began + CONTROL_DEADLINE).await?;
        self.reading.store(Some(Arc::new(Reading { snapshot: Arc::clone(&watched.snapshot), number })));
        self.number.store(number, Ordering::Release);
        self.confirmed.store(Arc::new(began));
        self.set_trouble(None);
        tracing::info!(
            target_name = self.target.name(),
            reading = number,
            ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the catalog was read"
        );
        Ok(watched)
    }

    /// Takes the catalog out of use when it is too old.
    pub fn expire(&self) {
        if self.confirmed.load().elapsed() > CATALOG_AGE_MAX && self.reading.swap(None).is_some() {
            self.number.store(0, Ordering::Release);
            tracing::error!(
                target_name = self.target.name(),
                "the catalog is no longer confirmed: statements on this target are refused"
            );
        }
    }

    fn control_parameters(&self) -> Result<StartupParameters, WatchError> {
        let guards = Guards { read_only: true, ..Guards::default() };
        let client = ClientSettings::default();
        StartupParameters::build(
            &self.origin.control.user,
            self.target.database(),
            &client,
            &guards,
            "catalog",
        )
        .map_err(|error| WatchError::Parameters(error.to_string()))
    }
}

/// Why the catalog is not watched.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Parameters(String),
    #[error(
        "a transaction pooler stands between the gateway and the target: what one client sets would show in another's \
         session. Point the target at PostgreSQL itself, or at a pooler in session mode"
    )]
    Pooler,
}
