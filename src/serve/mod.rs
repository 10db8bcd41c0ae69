//! The gateway as a process: start, signals, reload, drain, stop.
//!
//! Owns: the order of a start (everything is checked before the first listener opens) and of a stop (listeners, sessions,
//! evidence). May not: judge or relay. Fails closed: a start that lacks anything does not listen; evidence that stops ends
//! every session and the process.
//!
//! ```text
//!  load ─► evidence ─► shards ─► bind all ─► accept ──SIGHUP──► reload, or keep the old
//!                                              │
//!                                  SIGTERM, SIGINT, evidence stopped
//!                                              ▼
//!                            no new sessions ─► drain ─► end ─► last records ─► exit
//! ```

pub mod accept;
mod admit;
pub mod gateway;
pub mod keys;
pub mod mapping;
pub mod shard;
pub mod targets;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use pgturnstile_rules::document::Diagnostic;
use pgturnstile_rules::statement::{Limits as TextLimits, Parser, PoolSettings};
use secrecy::ExposeSecret;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::config::load_or_create_digest_key;
use crate::evidence::record::v1;
use crate::evidence::{self, Run, Settings};
use crate::session::Order;
use accept::Connections;
use gateway::{Gateway, Loaded};
use shard::ShardHandle;

pub use mapping::check as check_together;

/// Threads for keys, catalogs and signals.
const CONTROL_THREADS: usize = 2;
/// How long ended sessions may take for their last words after the drain deadline.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the gateway did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Configuration or policy.
    #[error("the configuration cannot be used")]
    Configuration(Vec<Diagnostic>),
    /// Evidence.
    #[error(transparent)]
    Evidence(#[from] evidence::OpenError),
    /// A listener.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A thread or runtime.
    #[error("the system refused a thread or a runtime: {0}")]
    System(#[from] io::Error),
    /// A file that the gateway needs for itself.
    #[error("{0}")]
    Machine(String),
    /// It had to stop because evidence could not be written.
    #[error("stopped: {0}")]
    Stopped(String),
}

/// Runs the gateway until it is told to stop. `ready` is called once, when every listener accepts.
///
/// # Errors
/// [`ServeError`]; no listener was opened unless it says that the gateway stopped.
pub fn serve(path: &Path, ready: impl FnOnce(&Gateway)) -> Result<(), ServeError> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let loaded = gateway::load(path, 1, control.handle(), None).map_err(ServeError::Configuration)?;
    for warning in loaded.config.warnings.iter().chain(loaded.policy.warnings()) {
        tracing::warn!("{warning}");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shard_count = loaded.config.gateway.shard_count(cores);
    let (evidence, lanes) = open_evidence(&loaded, shard_count)?;
    let parser = Parser::start(PoolSettings { limits: text_limits(&loaded), ..PoolSettings::default() })?;
    let addresses: Vec<_> = loaded.config.listeners.iter().map(|listener| listener.address).collect();
    let gateway = Gateway::new(PathBuf::from(path), loaded, evidence, parser, control.handle().clone());
    let mut handles = Vec::with_capacity(shard_count);
    let mut threads = Vec::with_capacity(shard_count);
    for (index, lane) in lanes.into_iter().enumerate() {
        let (handle, thread) = shard::start(&gateway, lane, index)?;
        handles.push(handle);
        threads.push(thread);
    }
    let handles: Arc<[ShardHandle]> = handles.into();
    let connections = Arc::new(Connections::default());
    let listeners = control
        .block_on(accept::bind(&addresses))
        .map_err(|(address, error)| ServeError::Listen { address, error })?;
    control.block_on(record_loaded(&gateway))?;
    let acceptors: Vec<_> = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let (gateway, connections) = (Arc::clone(&gateway), Arc::clone(&connections));
            control.spawn(accept::accept(gateway, listener, index, connections, Arc::clone(&handles)))
        })
        .collect();
    ready(&gateway);
    let why = control.block_on(until_stopped(&gateway));
    for acceptor in acceptors {
        acceptor.abort();
    }
    drop(handles);
    finish(&control, gateway, threads, &why)
}

fn text_limits(loaded: &Loaded) -> TextLimits {
    let of_targets = loaded.targets.values().map(|state| state.origin.statement_bytes_max).max();
    TextLimits { text_bytes_max: of_targets.unwrap_or(TextLimits::default().text_bytes_max) }
}

fn open_evidence(
    loaded: &Loaded,
    lanes: usize,
) -> Result<(evidence::Evidence, Vec<evidence::Lane>), ServeError> {
    let wanted = &loaded.config.evidence;
    let settings = Settings::of(wanted);
    let run = Run {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_hash: loaded.config.hash,
        policy_hash: loaded.policy.hash(),
    };
    let key = load_or_create_digest_key(&wanted.digest_key)
        .map_err(|error| ServeError::Machine(error.to_string()))?;
    Ok(evidence::open(&settings, &run, key.expose_secret(), lanes)?)
}

async fn record_loaded(gateway: &Gateway) -> Result<(), ServeError> {
    let loaded = gateway.loaded.load();
    for (document, hash) in
        [(v1::Document::Configuration, loaded.config.hash), (v1::Document::Policy, loaded.policy.hash())]
    {
        let entry = v1::DocumentLoaded {
            document,
            in_force: true,
            old_hash: None,
            new_hash: Some(hash),
            by: UNATTRIBUTED,
            detail: "at the start",
        };
        gateway
            .evidence
            .record(evidence::record::Entry::DocumentLoaded(entry))
            .await
            .map_err(|error| ServeError::Stopped(error.to_string()))?;
    }
    Ok(())
}

/// Who changed a file: nothing proves it while there are no signed bundles (README decision 10).
const UNATTRIBUTED: &str = "unattributed";

/// Why the gateway stops.
enum Why {
    Signal(&'static str),
    Evidence(String),
}

async fn until_stopped(gateway: &Arc<Gateway>) -> Why {
    let (mut terminate, mut interrupt, mut hangup) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) {
        (Ok(terminate), Ok(interrupt), Ok(hangup)) => (terminate, interrupt, hangup),
        (terminate, interrupt, hangup) => {
            let error = [terminate.err(), interrupt.err(), hangup.err()].into_iter().flatten().next();
            return Why::Evidence(format!("signals cannot be received: {error:?}"));
        }
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return Why::Signal("SIGTERM"),
            _ = interrupt.recv() => return Why::Signal("SIGINT"),
            _ = hangup.recv() => reload(gateway).await,
            stopped = gateway.evidence.stopped() => return Why::Evidence(stopped.to_string()),
        }
    }
}

async fn reload(gateway: &Arc<Gateway>) {
    let before = gateway.loaded.load_full();
    let old_hash = Some(before.policy.hash());
    let (in_force, new_hash, detail) = match gateway.reload() {
        Ok(next) => {
            tracing::info!("the configuration was loaded anew");
            for warning in next.config.warnings.iter().chain(next.policy.warnings()) {
                tracing::warn!("{warning}");
            }
            (true, Some(next.policy.hash()), format!("configuration {}", mapping::hex(&next.config.hash)))
        }
        Err(findings) => {
            for finding in &findings {
                tracing::error!("{finding}");
            }
            tracing::error!("the configuration was refused; the old one stays in force");
            let detail: Vec<String> = findings.iter().map(ToString::to_string).collect();
            (false, None, detail.join("\n"))
        }
    };
    let entry = v1::DocumentLoaded {
        document: v1::Document::Policy,
        in_force,
        old_hash,
        new_hash,
        by: UNATTRIBUTED,
        detail: &detail,
    };
    if let Err(error) = gateway.evidence.record(evidence::record::Entry::DocumentLoaded(entry)).await {
        tracing::error!(%error, "the reload could not be recorded");
    }
}

/// Drains the sessions, ends the rest, and closes the evidence behind them.
fn finish(
    control: &Runtime,
    gateway: Arc<Gateway>,
    threads: Vec<JoinHandle<()>>,
    why: &Why,
) -> Result<(), ServeError> {
    gateway.draining.store(true, Ordering::Release);
    let drain = Duration::from_secs(gateway.loaded.load().config.gateway.drain_deadline_s);
    control.block_on(async {
        let order = match why {
            Why::Signal(name) => {
                tracing::info!(signal = name, sessions = gateway.sessions(), "draining");
                gateway.tell(Order::Drain);
                drain
            }
            // Nothing may be released any more.
            Why::Evidence(_) => Duration::ZERO,
        };
        wait_for_sessions(&gateway, order).await;
        gateway.tell(Order::End);
        wait_for_sessions(&gateway, LAST_WORDS).await;
    });
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a shard's thread panicked");
        }
    }
    gateway.end_watchers();
    let stopped = match why {
        Why::Signal(name) => (*name).to_owned(),
        Why::Evidence(reason) => reason.clone(),
    };
    match Arc::try_unwrap(gateway) {
        Ok(gateway) => {
            if let Err(error) = control.block_on(gateway.evidence.stop(&stopped)) {
                return Err(ServeError::Stopped(error.to_string()));
            }
        }
        Err(_) => {
            tracing::error!("something still holds the gateway: its evidence ends without the closing record")
        }
    }
    match why {
        Why::Signal(_) => Ok(()),
        Why::Evidence(reason) => Err(ServeError::Stopped(reason.clone())),
    }
}

async fn wait_for_sessions(gateway: &Gateway, limit: Duration) {
    let deadline = Instant::now() + limit;
    while gateway.sessions() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
