//! A shard: one thread, one single-threaded runtime, its sessions for life, its lane of the evidence.
//!
//! Owns: the thread and what its sessions share. May not: block. The thread has the parser's stack, since short texts are
//! parsed on it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pgturnstile_rules::statement::spawn_parser_thread;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::accept::Place;
use super::arrive;
use super::gateway::Gateway;
use super::peer::Peer;
use crate::evidence::Lane;
use crate::net::stream::{Stream, set_tcp_options};
use crate::operate::pulse::BEAT;
use crate::session::{ShardMemory, Tally};

/// Connections that may wait for a shard to take them.
const ARRIVALS_MAX: usize = 1_024;

/// A socket between two runtimes.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// A connection on its way to its shard.
pub struct Arrival {
    /// The socket.
    pub socket: Socket,
    /// Who.
    pub peer: Peer,
    /// By which listener.
    pub listener: usize,
    /// Its place among the connections.
    pub place: Place,
}

/// How the acceptor reaches a shard.
pub struct ShardHandle {
    /// Where arrivals go.
    pub arrivals: mpsc::Sender<Arrival>,
    /// Its sessions, for placement.
    pub sessions: Arc<AtomicUsize>,
}

/// What the sessions of a shard share.
pub struct Shard {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Its lane.
    pub lane: Lane,
    /// What it remembers of texts.
    pub memory: Arc<ShardMemory>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a shard.
///
/// # Errors
/// The system's refusal to start a thread or a runtime.
pub fn start(gateway: &Arc<Gateway>, lane: Lane, index: usize) -> io::Result<(ShardHandle, JoinHandle<()>)> {
    let (arrivals, queue) = mpsc::channel(ARRIVALS_MAX);
    let sessions = Arc::new(AtomicUsize::new(0));
    let tally = gateway.tallies.get(index).map(Arc::clone).unwrap_or_default();
    let memory = Arc::new(ShardMemory::new(tally));
    let shard = Arc::new(Shard { gateway: Arc::clone(gateway), lane, memory });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counter = Arc::clone(&sessions);
    let thread = spawn_parser_thread(&format!("shard-{index}"), move || {
        runtime.block_on(serve(shard, queue, counter));
    })?;
    Ok((ShardHandle { arrivals, sessions }, thread))
}

/// Takes arrivals until the acceptors are gone, then waits for the sessions.
async fn serve(shard: Arc<Shard>, mut queue: mpsc::Receiver<Arrival>, sessions: Arc<AtomicUsize>) {
    let beating = tokio::spawn(beat(Arc::clone(shard.memory.tally())));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            arrival = queue.recv() => match arrival {
                Some(arrival) => {
                    sessions.fetch_add(1, Ordering::Relaxed);
                    let counted = Counted(Arc::clone(&sessions));
                    let shard = Arc::clone(&shard);
                    tasks.spawn(async move {
                        let _counted = counted;
                        connection(shard, arrival).await;
                    });
                }
                None => break,
            },
            Some(ended) = tasks.join_next() => report(ended),
        }
    }
    while let Some(ended) = tasks.join_next().await {
        report(ended);
    }
    beating.abort();
}

/// Shows that this thread comes round.
async fn beat(tally: Arc<Tally>) {
    let mut beats = tokio::time::interval(BEAT);
    loop {
        beats.tick().await;
        tally.beat();
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's task panicked: its connections are closed, the others go on");
    }
}

async fn connection(shard: Arc<Shard>, arrival: Arrival) {
    let stream = match arrival.socket {
        Socket::Tcp(tcp) => TcpStream::from_std(tcp).map(Stream::Plain),
        Socket::Unix(unix) => UnixStream::from_std(unix).map(Stream::Unix),
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(peer = %arrival.peer, %error, "a socket could not be taken over");
            return;
        }
    };
    let idle = Duration::from_secs(shard.gateway.loaded.load().config.limits.keepalive_s);
    if let Some(Err(error)) = stream.tcp().map(|tcp| set_tcp_options(tcp, idle)) {
        tracing::debug!(peer = %arrival.peer, %error, "socket options were refused");
    }
    arrive::connection(shard, stream, arrival.peer, arrival.listener, arrival.place).await;
}
