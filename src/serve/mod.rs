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
//!                            no accept ─► drain ─► end ─► last records ─► exit
//! ```

pub mod accept;
mod admit;
mod arrive;
pub(crate) mod bundle;
mod decide;
pub mod gateway;
mod guards;
mod inherit;
pub mod keys;
pub mod mapping;
pub mod peer;
pub(crate) mod records;
mod report;
pub mod route;
pub mod shard;
pub mod targets;
pub mod tickets;
mod turned;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use pgturnstile_rules::document::Diagnostic;
use pgturnstile_rules::statement::{Limits as TextLimits, Parser, PoolSettings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::approval::Holds;
use crate::config::{ListenAddress, SocketFile};
use crate::evidence;
use crate::evidence::record::v1;
use crate::net::local;
use crate::operate::http::Door;
use crate::operate::notify::{Manager, Notice};
use crate::operate::{http, process};
use crate::session::Order;
use accept::Listening;
use bundle::UNATTRIBUTED;
use gateway::{Gateway, Loaded};
use inherit::Inherited;
use records::open_evidence;
use report::Beside;
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
    #[error("cannot listen on {address}: {error}{}", if error.kind() == io::ErrorKind::AddrInUse { "; who it is: ss -lxtnp" } else { "" })]
    Listen {
        /// Where.
        address: ListenAddress,
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
/// [`ServeError`]; no connection was accepted unless it says that the gateway stopped.
pub fn serve(path: &Path, ready: impl FnOnce(&Gateway)) -> Result<(), ServeError> {
    let mut inherited = Inherited::take()?;
    let descriptors_max = process::raise_descriptors();
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let loaded = gateway::load(path, 1, control.handle(), None).map_err(ServeError::Configuration)?;
    bundle::remember(&loaded.config, &loaded.attribution).map_err(ServeError::Machine)?;
    for warning in loaded.config.warnings.iter().chain(loaded.policy.warnings()) {
        tracing::warn!("{warning}");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shard_count = loaded.config.gateway.shard_count(cores);
    // Before anything that has to be ended in order. As process 1 of a container a signal without a handler is lost.
    let mut signals = Signals::listen(&control)?;
    let holds = Holds::new(mapping::holds(&loaded.config));
    tickets::open(&holds, &loaded.config, &loaded.policy)
        .map_err(|fault| ServeError::Configuration(vec![tickets::finding(&loaded.config, &fault)]))?;
    let (evidence, lanes, token_key) = open_evidence(&loaded, shard_count, &control)?;
    let parser = Parser::start(PoolSettings { limits: text_limits(&loaded), ..PoolSettings::default() })?;
    let listeners = listen(&loaded, &mut inherited, &control)?;
    inherited.finish()?;
    let gateway = Gateway::new(
        PathBuf::from(path),
        loaded,
        (evidence, token_key, holds),
        parser,
        control.handle().clone(),
        shard_count,
    );
    let mut handles = Vec::with_capacity(shard_count);
    let mut threads = Vec::with_capacity(shard_count);
    for (index, lane) in lanes.into_iter().enumerate() {
        let (handle, thread) = shard::start(&gateway, lane, index)?;
        handles.push(handle);
        threads.push(thread);
    }
    bound_connections(&gateway, descriptors_max)?;
    control.block_on(record_loaded(&gateway))?;
    let manager = Arc::new(Manager::from_environment());
    let beside = Beside::start(&gateway, listeners.control, &manager, control.handle());
    let acceptors = start_acceptors(&gateway, listeners.clients, handles.into(), &control);
    ready(&gateway);
    manager.tell(Notice::Ready);
    let why = control.block_on(until_stopped(&gateway, &manager, &mut signals));
    manager.tell(Notice::Stopping);
    control.block_on(stop_acceptors(acceptors));
    finish(&control, gateway, threads, beside, &why)
}

/// The sockets of a gateway.
struct Listeners {
    /// Of each `[[listener]]`, in the order of the file.
    clients: Vec<Listening>,
    /// Of `[control]`.
    control: Vec<Door>,
}

/// Listens everywhere, or nowhere. A connection that arrives before the shards run waits in the kernel.
fn listen(loaded: &Loaded, inherited: &mut Inherited, control: &Runtime) -> Result<Listeners, ServeError> {
    let _entered = control.enter();
    let config = &loaded.config;
    let clients = config.listeners.iter().map(|listener| inherited.listen(listener));
    let clients = clients.collect::<Result<_, _>>()?;
    let mut control = Vec::new();
    if let Some(wanted) = &config.control {
        control.push(Door::Network(inherited.tcp(wanted.address)?));
        control.extend(wanted.socket.as_ref().map(|path| control_socket(path)).transpose()?);
    }
    Ok(Listeners { clients, control })
}

/// The control socket: the gateway's own user's.
fn control_socket(path: &Path) -> Result<Door, ServeError> {
    let file = SocketFile { path: path.to_path_buf(), mode: CONTROL_SOCKET_MODE, group: None };
    let listening = local::listen(&file).and_then(|(socket, held)| {
        socket.set_nonblocking(true)?;
        Ok(Door::Local(tokio::net::UnixListener::from_std(socket)?, held))
    });
    listening.map_err(|error| ServeError::Listen { address: ListenAddress::Unix(file.path), error })
}

/// Permissions of the control socket: it names people.
const CONTROL_SOCKET_MODE: u32 = 0o600;

/// Descriptors that are kept for what is no client's connection: evidence segments, readings of keys, password commands,
/// cancel requests.
const DESCRIPTORS_RESERVED: u64 = 24;

/// Bounds the connections by what descriptors there are: a session that cannot dial, or evidence that cannot begin a
/// segment, would be worse than a client that is turned away.
fn bound_connections(gateway: &Gateway, descriptors_max: Option<u64>) -> Result<(), ServeError> {
    let loaded = gateway.loaded.load();
    let open = process::open_descriptors().unwrap_or(0);
    let control = loaded.config.control.as_ref().map_or(0, |control| {
        let doors = 1 + u64::from(control.socket.is_some());
        doors * http::CONNECTIONS_MAX as u64
    });
    let aside = open + loaded.config.targets.len() as u64 + control + DESCRIPTORS_RESERVED;
    let wanted = loaded.config.limits.connections_max;
    match gateway.connections.bound_by_descriptors(descriptors_max, aside) {
        Some(0) => Err(ServeError::Machine(format!(
            "the limit of open descriptors, {}, leaves none for connections: {aside} are needed beside them; raise it \
             (LimitNOFILE of a service, ulimit -n)",
            descriptors_max.unwrap_or(0)
        ))),
        Some(bound) if bound < wanted => {
            tracing::warn!(
                bound,
                connections_max = wanted,
                descriptors_max,
                "the limit of open descriptors allows fewer connections than connections_max; raise it (LimitNOFILE of a \
                 service, ulimit -n)"
            );
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

fn start_acceptors(
    gateway: &Arc<Gateway>,
    listeners: Vec<Listening>,
    shards: Arc<[ShardHandle]>,
    control: &Runtime,
) -> Vec<tokio::task::JoinHandle<()>> {
    let accept = |(index, listener)| {
        control.spawn(accept::accept(Arc::clone(gateway), listener, index, Arc::clone(&shards)))
    };
    listeners.into_iter().enumerate().map(accept).collect()
}

/// Behind this no connection is accepted: what still arrives is refused, or waits in a socket that was handed over.
async fn stop_acceptors(acceptors: Vec<tokio::task::JoinHandle<()>>) {
    for acceptor in acceptors {
        acceptor.abort();
        // Ended is ended; a panic there has been reported by the runtime.
        drop(acceptor.await);
    }
}

fn text_limits(loaded: &Loaded) -> TextLimits {
    let of_targets = loaded.targets.values().map(|state| state.origin.statement_bytes_max).max();
    TextLimits { text_bytes_max: of_targets.unwrap_or(TextLimits::default().text_bytes_max) }
}

async fn record_loaded(gateway: &Gateway) -> Result<(), ServeError> {
    let loaded = gateway.loaded.load();
    for (document, hash, by) in [
        (v1::Document::Configuration, loaded.config.hash, UNATTRIBUTED),
        (v1::Document::Policy, loaded.policy.hash(), loaded.attribution.by.as_str()),
    ] {
        let entry = v1::DocumentLoaded {
            document,
            in_force: true,
            old_hash: None,
            new_hash: Some(hash),
            by,
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

/// Why the gateway stops.
enum Why {
    Signal(&'static str),
    Evidence(String),
}

/// What the process is told. A signal that comes while the gateway starts is kept until it has started.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen(control: &Runtime) -> std::io::Result<Self> {
        let _entered = control.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_stopped(gateway: &Arc<Gateway>, manager: &Manager, signals: &mut Signals) -> Why {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Why::Signal("SIGTERM"),
            _ = signals.interrupt.recv() => return Why::Signal("SIGINT"),
            _ = signals.hangup.recv() => {
                manager.tell(Notice::Reloading);
                reload(gateway).await;
                manager.tell(Notice::Ready);
            }
            stopped = gateway.evidence.stopped() => return Why::Evidence(stopped.to_string()),
        }
    }
}

async fn reload(gateway: &Arc<Gateway>) {
    let before = gateway.loaded.load_full();
    let old_hash = Some(before.policy.hash());
    let (in_force, new_hash, by, detail) = match gateway.reload() {
        Ok(next) => {
            reloaded_configuration(gateway, &before, &next).await;
            tracing::info!(
                generation = next.policy.generation(),
                policy = mapping::hex(&next.policy.hash()),
                "the configuration was loaded anew and is in force"
            );
            for warning in next.config.warnings.iter().chain(next.policy.warnings()) {
                tracing::warn!("{warning}");
            }
            let detail = format!("configuration {}", mapping::hex(&next.config.hash));
            (true, Some(next.policy.hash()), next.attribution.by.clone(), detail)
        }
        Err(findings) => {
            for finding in &findings {
                tracing::error!("{finding}");
            }
            tracing::error!("the configuration was refused; the old one stays in force");
            let detail: Vec<String> = findings.iter().map(ToString::to_string).collect();
            (false, None, UNATTRIBUTED.to_owned(), detail.join("\n"))
        }
    };
    let entry = v1::DocumentLoaded {
        document: v1::Document::Policy,
        in_force,
        old_hash,
        new_hash,
        by: &by,
        detail: &detail,
    };
    record_reload(gateway, entry).await;
}

/// A configuration that changed is a record of its own: nobody's signature covers it.
async fn reloaded_configuration(gateway: &Gateway, before: &Loaded, next: &Loaded) {
    if before.config.hash == next.config.hash {
        return;
    }
    let entry = v1::DocumentLoaded {
        document: v1::Document::Configuration,
        in_force: true,
        old_hash: Some(before.config.hash),
        new_hash: Some(next.config.hash),
        by: UNATTRIBUTED,
        detail: "at a reload",
    };
    record_reload(gateway, entry).await;
}

async fn record_reload(gateway: &Gateway, entry: v1::DocumentLoaded<'_>) {
    if let Err(error) = gateway.evidence.record(evidence::record::Entry::DocumentLoaded(entry)).await {
        tracing::error!(%error, "the reload could not be recorded");
    }
}

/// Drains the sessions, ends the rest, and closes the evidence behind them.
fn finish(
    control: &Runtime,
    gateway: Arc<Gateway>,
    threads: Vec<JoinHandle<()>>,
    beside: Beside,
    why: &Why,
) -> Result<(), ServeError> {
    gateway.draining.store(true, Ordering::Release);
    let sessions_ended = gateway.sessions();
    let drain = Duration::from_secs(gateway.loaded.load().config.gateway.drain_deadline_s);
    control.block_on(async {
        let (grace, last) = match why {
            Why::Signal(name) => {
                tracing::info!(signal = name, sessions = gateway.sessions(), "draining");
                gateway.tell(Order::Drain);
                (drain, Order::End)
            }
            // Nothing may be released any more.
            Why::Evidence(_) => (Duration::ZERO, Order::Unrecorded),
        };
        wait_for_sessions(&gateway, grace).await;
        gateway.tell(last);
        wait_for_sessions(&gateway, LAST_WORDS).await;
    });
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a shard's thread panicked");
        }
    }
    control.block_on(beside.stop());
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
        Why::Signal(_) => {
            tracing::info!(sessions_ended, "stopped");
            Ok(())
        }
        Why::Evidence(reason) => Err(ServeError::Stopped(reason.clone())),
    }
}

async fn wait_for_sessions(gateway: &Gateway, limit: Duration) {
    let deadline = Instant::now() + limit;
    while gateway.sessions() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
