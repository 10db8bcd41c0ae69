//! The catalog of a target, kept: one snapshot for all sessions, read with the target's `control` credential.
//!
//! Owns: when the catalog is read (README decision 9: on DDL that passes, and whenever the fingerprint of every two
//! seconds has moved), and how old what is known of it may be. May not: resolve or judge. Fails closed: before the first
//! load, and once the target has not confirmed the snapshot for [`CATALOG_STALE_S`], there is no snapshot to resolve by.
//!
//! ```text
//!            connect, GREET                load                     fingerprint same
//!  Apart ──────────────────────▶ Greeted ─────────▶ Current ◀──────────────────────────┐
//!    ▲                              │                 │  every 2 s, or asked for ────────┤
//!    └──── any failure, 1 s ────────┴─────────────────┤                                  │
//!                                                     └─ fingerprint moved ─▶ load ──────┘
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pgturnstile_rules::catalog::{LoadError, Rows, Snapshot, queries};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::error::{DialError, Failure};
use crate::backend::query::query;

/// How often the fingerprint is asked for, seconds: the bound on drift that evidence states.
pub const CATALOG_FINGERPRINT_S: u64 = 2;

/// How long a snapshot serves after the target last confirmed it, seconds.
pub const CATALOG_STALE_S: u64 = 10;

/// How long one fingerprint may take, seconds.
pub const CATALOG_FINGERPRINT_LIMIT_S: u64 = 5;

/// How long one load may take, seconds.
pub const CATALOG_LOAD_LIMIT_S: u64 = 60;

/// The pause before another connection is tried, seconds.
const RETRY_S: u64 = 1;

/// Why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No control session.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A query failed.
    #[error("the catalog query \"{query}\" failed: {failure}")]
    Query {
        /// Which.
        query: &'static str,
        /// How.
        failure: Failure,
    },
    /// The answers are no catalog.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why there is no snapshot. The text is safe for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It was never read.
    #[error(
        "the target's catalog has not been read yet, so no name can be resolved: retry later; the operator finds the cause in the gateway's log"
    )]
    NeverRead,
    /// The target has not confirmed it for too long.
    #[error(
        "the target's catalog was last confirmed {age_s} s ago, more than {CATALOG_STALE_S} s, so no name can be resolved: retry later; the operator finds the cause in the gateway's log"
    )]
    Stale {
        /// How long ago, seconds.
        age_s: u64,
    },
}

/// Reads the whole catalog in one transaction. The session must have been greeted ([`greet`]).
///
/// # Errors
/// A query that fails or answers that are no catalog; the session is not to be used again.
pub async fn load<S>(stream: &mut S, epoch: u64, deadline: Instant) -> Result<Snapshot, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    ask(stream, "begin", queries::OPEN, deadline).await?;
    let answers = read(stream, deadline).await?;
    ask(stream, "commit", queries::CLOSE, deadline).await?;
    Ok(Snapshot::from_rows(&answers, epoch)?)
}

/// The answers to every query of a load, inside the transaction that is open.
///
/// # Errors
/// A query that fails; the transaction is not to be used again.
pub async fn read<S>(stream: &mut S, deadline: Instant) -> Result<Rows, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answers = Vec::with_capacity(queries::QUERIES.len());
    for of in &queries::QUERIES {
        answers.push(ask(stream, of.name, of.sql, deadline).await?);
    }
    Ok(Rows(answers))
}

/// Prepares a new control session: no name of its queries can be caught, and it never writes.
///
/// # Errors
/// The server's refusal.
pub async fn greet<S>(stream: &mut S, deadline: Instant) -> Result<(), CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    ask(stream, "greeting", queries::GREET, deadline).await.map(drop)
}

/// What the catalog was at a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// Differs once the catalog does.
    pub fingerprint: String,
    /// The moment that it is of: at an equal one it is the same. `None` where the server does not tell.
    pub moment: Option<String>,
}

/// The fingerprint of the catalog as it is now.
///
/// # Errors
/// A query that fails.
pub async fn fingerprint<S>(stream: &mut S, deadline: Instant) -> Result<Print, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut rows = ask(stream, "fingerprint", queries::FINGERPRINT, deadline).await?;
    let mut cells = rows.pop().unwrap_or_default().into_iter();
    // An answer without a value would equal another such answer: it is none.
    let fingerprint = cells.next().flatten().ok_or(CatalogError::Query {
        query: "fingerprint",
        failure: Failure::Nonsense {
            step: crate::backend::error::Step::Query,
            what: "a fingerprint without a value",
        },
    })?;
    Ok(Print { fingerprint, moment: cells.next().flatten() })
}

/// Whether nothing at all was committed since that look: then no row of the catalog is another.
async fn is_at_rest<S>(stream: &mut S, known: &Print) -> Result<bool, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(then) = known.moment.as_deref() else { return Ok(false) };
    let mut rows = ask(stream, "moment", queries::MOMENT, in_s(CATALOG_FINGERPRINT_LIMIT_S)).await?;
    Ok(rows.pop().and_then(|mut row| row.pop()).flatten().as_deref() == Some(then))
}

/// Runs one of the gateway's own queries by the name that errors give it.
pub(crate) async fn ask<S>(
    stream: &mut S,
    name: &'static str,
    sql: &str,
    deadline: Instant,
) -> Result<Vec<Vec<Option<String>>>, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = query(stream, sql, deadline).await;
    answer.map(|answer| answer.rows).map_err(|failure| CatalogError::Query { query: name, failure })
}

/// The catalog of one target, shared by all its sessions.
#[derive(Debug)]
pub struct Catalog {
    target: String,
    snapshot: ArcSwapOption<Snapshot>,
    started: Instant,
    /// When the target last confirmed the snapshot, milliseconds after `started`.
    confirmed_ms: AtomicU64,
    /// How often a fresh look was asked for.
    asked: AtomicU64,
    /// The last of these that a definition which passed the gateway stands behind.
    defined: AtomicU64,
    /// Of those, how many the snapshot answers.
    covered: watch::Sender<u64>,
    nudge: Notify,
    /// The first try to read it has come to an end, good or bad.
    settled: watch::Sender<bool>,
}

impl Catalog {
    /// The catalog of a target, not read yet. [`Catalog::keep`] reads it.
    #[must_use]
    pub fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            snapshot: ArcSwapOption::empty(),
            started: Instant::now(),
            confirmed_ms: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            defined: AtomicU64::new(0),
            covered: watch::Sender::new(0),
            nudge: Notify::new(),
            settled: watch::Sender::new(false),
        }
    }

    /// The snapshot to resolve by.
    ///
    /// # Errors
    /// None yet, or none that the target confirmed lately: nothing may be resolved, so nothing may pass.
    pub fn current(&self) -> Result<Arc<Snapshot>, Unavailable> {
        let Some(snapshot) = self.snapshot.load_full() else { return Err(Unavailable::NeverRead) };
        let age_ms = self.now_ms().saturating_sub(self.confirmed_ms.load(Ordering::Acquire));
        if age_ms > CATALOG_STALE_S * 1_000 {
            return Err(Unavailable::Stale { age_s: age_ms / 1_000 });
        }
        Ok(snapshot)
    }

    /// Waits until the first try to read it has come to an end: a session that begins while the gateway starts need not be
    /// refused for a catalog that is being read.
    pub async fn settled(&self) {
        // The sender lives as long as this catalog: it cannot be gone.
        drop(self.settled.subscribe().wait_for(|settled| *settled).await);
    }

    /// The first try has come to an end, or none will be made.
    pub fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// How long ago the target confirmed the snapshot, milliseconds; `None` when it was never read.
    #[must_use]
    pub fn age_ms(&self) -> Option<u64> {
        self.snapshot.load().as_ref()?;
        Some(self.now_ms().saturating_sub(self.confirmed_ms.load(Ordering::Acquire)))
    }

    /// Asks for a look at the catalog now: DDL, or code that may have done some, has been committed (the server's
    /// ReadyForQuery behind it has been read). Returns the number under which [`Catalog::covered`] tells that it is seen.
    pub fn look(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.nudge.notify_one();
        number
    }

    /// Says that a definition has been committed that is seen by that look: what every session waits for
    /// ([`Catalog::defined`]).
    pub fn define(&self, look: u64) {
        self.defined.fetch_max(look, Ordering::AcqRel);
    }

    /// The last look behind a definition; 0 for none.
    #[must_use]
    pub fn defined(&self) -> u64 {
        self.defined.load(Ordering::Acquire)
    }

    /// The last look after whose asking the snapshot was read, or confirmed. A session that changed the catalog sees more than
    /// the snapshot until it covers that look (`SessionView::private_catalog`).
    #[must_use]
    pub fn covered(&self) -> watch::Receiver<u64> {
        self.covered.subscribe()
    }

    /// Whether it covers that look.
    #[must_use]
    pub fn covers(&self, look: u64) -> bool {
        *self.covered.borrow() >= look
    }

    /// Keeps the catalog, for ever: to be run as a task and dropped to end it. `connect` opens a session of the target's
    /// control credential.
    pub async fn keep<S, F, C>(&self, mut connect: F)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: FnMut() -> C,
        C: Future<Output = Result<S, DialError>>,
    {
        loop {
            // It only ever returns with a reason.
            let error = self.keep_session(connect().await).await;
            self.settle();
            tracing::warn!(target_name = %self.target, %error, "the catalog could not be read; trying again");
            sleep(Duration::from_secs(RETRY_S)).await;
        }
    }

    async fn keep_session<S>(&self, connected: Result<S, DialError>) -> CatalogError
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => return error.into(),
        };
        if let Err(error) = greet(&mut stream, in_s(CATALOG_FINGERPRINT_LIMIT_S)).await {
            return error;
        }
        let mut known = None;
        loop {
            match self.look_once(&mut stream, known.take()).await {
                Ok(print) => known = Some(print),
                Err(error) => return error,
            }
            // Elapsed and notified alike mean: look.
            drop(timeout(Duration::from_secs(CATALOG_FINGERPRINT_S), self.nudge.notified()).await);
        }
    }

    /// One look: the fingerprint, and a load where it is another than `known`. The fingerprint is taken before the load,
    /// so a change between the two makes the next look load again.
    async fn look_once<S>(&self, stream: &mut S, known: Option<Print>) -> Result<Print, CatalogError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = self.asked.load(Ordering::Acquire);
        let begun_ms = self.now_ms();
        let print = match &known {
            Some(known) if is_at_rest(stream, known).await? => known.clone(),
            Some(_) | None => fingerprint(stream, in_s(CATALOG_FINGERPRINT_LIMIT_S)).await?,
        };
        if known.is_none_or(|known| known.fingerprint != print.fingerprint) {
            let earlier = self.snapshot.load_full();
            let epoch = earlier.as_ref().map_or(1, |snapshot| snapshot.epoch + 1);
            let snapshot = load(stream, epoch, in_s(CATALOG_LOAD_LIMIT_S)).await?.behind(earlier.as_deref());
            let snapshot = snapshot.printed(*blake3::hash(print.fingerprint.as_bytes()).as_bytes());
            tracing::info!(target_name = %self.target, epoch, "catalog read");
            self.snapshot.store(Some(Arc::new(snapshot)));
        }
        self.confirmed_ms.store(begun_ms, Ordering::Release);
        self.covered.send_if_modified(|covered| std::mem::replace(covered, asked.max(*covered)) < asked);
        self.settle();
        Ok(print)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn in_s(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}
