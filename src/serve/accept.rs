//! Listeners: accepting, per-address limits, placing connections on shards.
//!
//! Owns: the count of connections, of all and of one address, and how many the process has descriptors for. May not: read a
//! byte. Kernel hashing spreads connections, and database connections are few, long and unequal: each goes to the shard
//! that has the fewest. Fails by turning the connection away, with a reason where there is a way to say it. Descriptors
//! that run out all the same (somebody else's limit, a lowered one) stop neither the loop nor the sessions: the
//! connection waits in the kernel, and the accept is tried again.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::error::TrySendError;

use super::gateway::Gateway;
use super::peer::{Origin, Peer};
use super::shard::{Arrival, ShardHandle, Socket};
use crate::config::Config;
use crate::net::local::Held;
use crate::operate::figures::Arrivals;

/// Pause after an accept that failed: descriptors or memory are short, and a tight loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed accepts are told once in this time, with their number.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);
/// Descriptors of one session: its client and its target.
const DESCRIPTORS_A_CONNECTION: u64 = 2;

/// Connections that are open now.
#[derive(Default)]
pub struct Connections {
    counts: Mutex<Counts>,
    /// Connections that the process has descriptors for; 0: no limit.
    described_max: AtomicU64,
    accept_failures: AtomicU64,
    over_connections: AtomicU64,
    over_descriptors: AtomicU64,
    over_queue: AtomicU64,
}

#[derive(Default)]
struct Counts {
    total: u64,
    by_origin: HashMap<Origin, u64>,
}

/// One connection's place; given back when this is dropped.
pub struct Place {
    connections: Arc<Connections>,
    origin: Origin,
}

impl Connections {
    /// Bounds the connections by the descriptors that are left beside `aside`; the bound. `descriptors_max` is the
    /// process's limit, `None` for none.
    pub fn bound_by_descriptors(&self, descriptors_max: Option<u64>, aside: u64) -> Option<u64> {
        let left = descriptors_max?.saturating_sub(aside) / DESCRIPTORS_A_CONNECTION;
        self.described_max.store(left, Ordering::Relaxed);
        Some(left)
    }

    fn described_max(&self) -> u64 {
        match self.described_max.load(Ordering::Relaxed) {
            0 => u64::MAX,
            bound => bound,
        }
    }

    /// Connections that may be open, where the configuration allows `connections_max`.
    pub fn limit(&self, connections_max: u64) -> u64 {
        connections_max.min(self.described_max())
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// What came to no connection.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals {
            accept_failures: self.accept_failures.load(Ordering::Relaxed),
            over_connections: self.over_connections.load(Ordering::Relaxed),
            over_descriptors: self.over_descriptors.load(Ordering::Relaxed),
            over_queue: self.over_queue.load(Ordering::Relaxed),
        }
    }

    /// A place for a connection from `origin`, unless a limit is reached.
    pub fn take(self: &Arc<Self>, origin: Origin, total_max: u64, origin_max: u64) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = counts.by_origin.get(&origin).copied().unwrap_or(0);
        if counts.total >= total_max || of_origin >= origin_max {
            return None;
        }
        counts.total += 1;
        counts.by_origin.insert(origin, of_origin + 1);
        Some(Place { connections: Arc::clone(self), origin })
    }
}

impl Place {
    /// Counts it for another origin, once it is known whose it is, unless that has reached its limit. `false`: nothing
    /// has changed, and the limit is told in the metrics.
    #[must_use]
    pub fn belongs_to(&mut self, origin: Origin, origin_max: u64) -> bool {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = counts.by_origin.get(&origin).copied().unwrap_or(0);
        if of_origin >= origin_max {
            self.connections.over_connections.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        counts.by_origin.insert(origin, of_origin + 1);
        counts.leave(self.origin);
        self.origin = origin;
        true
    }
}

impl Counts {
    fn leave(&mut self, origin: Origin) {
        if let Some(count) = self.by_origin.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.by_origin.remove(&origin);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        counts.leave(self.origin);
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, with its file where that is ours.
    Unix(UnixListener, Option<Held>),
}

impl Listening {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Listening::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                Ok((Socket::Tcp(tcp.into_std()?), Peer::Address(peer)))
            }
            Listening::Unix(listener, _held) => {
                let (unix, _nameless) = listener.accept().await?;
                let peer = Peer::of_process(&unix.peer_cred()?);
                Ok((Socket::Unix(unix.into_std()?), peer))
            }
        }
    }
}

/// Accepts until the task is ended.
pub async fn accept(gateway: Arc<Gateway>, listener: Listening, index: usize, shards: Arc<[ShardHandle]>) {
    let mut complained: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => place(&gateway, socket, peer, index, &shards),
            Err(error) => {
                let failures = gateway.connections.accept_failures.fetch_add(1, Ordering::Relaxed) + 1;
                if complained.is_none_or(|at| at.elapsed() >= ACCEPT_COMPLAINT) {
                    complained = Some(Instant::now());
                    tracing::warn!(%error, failures, "connections cannot be accepted; trying again, they wait");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The peer's address, where it is a load balancer that the listener believes.
pub(super) fn trusted_proxy(config: &Config, listener: usize, peer: &Peer) -> Option<IpAddr> {
    let proxies = config.listeners.get(listener)?.proxies()?;
    let address = peer.address()?.ip().to_canonical();
    proxies.trusts(address).then_some(address)
}

fn place(gateway: &Gateway, socket: Socket, peer: Peer, listener: usize, shards: &[ShardHandle]) {
    let connections = &gateway.connections;
    let loaded = gateway.loaded.load();
    let limits = &loaded.config.limits;
    let total_max = connections.limit(limits.connections_max);
    let (origin, origin_max) = match trusted_proxy(&loaded.config, listener, &peer) {
        Some(proxy) => (Origin::Proxy(proxy), u64::MAX),
        None => (peer.origin(), limits.connections_per_address_max),
    };
    let Some(place) = connections.take(origin, total_max, origin_max) else {
        // Before login nothing can be said that a client would believe; the log and the closed socket have to do.
        if total_max < limits.connections_max && connections.open() >= total_max {
            connections.over_descriptors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%peer, total_max, "turned away: the limit of open descriptors allows no more connections");
        } else {
            connections.over_connections.fetch_add(1, Ordering::Relaxed);
            if connections.open() >= total_max {
                tracing::warn!(%peer, total_max, "turned away: connections_max is reached");
            } else {
                tracing::warn!(%peer, origin_max, "turned away: connections_per_address_max is reached by this client");
            }
        }
        return;
    };
    let Some(shard) = shards.iter().min_by_key(|shard| shard.sessions.load(Ordering::Relaxed)) else {
        return;
    };
    match shard.arrivals.try_send(Arrival { socket, peer, listener, place }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            connections.over_queue.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%peer, "turned away: the shard's queue is full");
        }
        Err(TrySendError::Closed(_)) => tracing::error!(%peer, "turned away: the shard has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Arc::new(Connections::default());
        let (a, b) = (Origin::Address([10, 0, 0, 1].into()), Origin::User(1_000));
        let first = connections.take(a, 3, 2).unwrap();
        let _second = connections.take(a, 3, 2).unwrap();
        assert!(connections.take(a, 3, 2).is_none(), "the origin has its two");
        let _third = connections.take(b, 3, 2).unwrap();
        assert!(connections.take(b, 3, 2).is_none(), "the gateway has its three");
        drop(first);
        assert!(connections.take(a, 3, 2).is_some());
    }

    #[test]
    fn a_place_that_came_by_a_proxy_is_counted_for_its_client_once_that_is_known() {
        let connections = Arc::new(Connections::default());
        let (proxy, client) = (Origin::Proxy([10, 0, 0, 5].into()), Origin::Address([192, 0, 2, 7].into()));
        let mut places: Vec<Place> = (0..4).map(|_| connections.take(proxy, 9, u64::MAX).unwrap()).collect();
        assert!(places[0].belongs_to(client, 2) && places[1].belongs_to(client, 2));
        assert!(!places[2].belongs_to(client, 2), "the client has its two");
        assert!(connections.take(client, 9, 2).is_none(), "by whatever way it comes");
        assert_eq!((connections.open(), connections.arrivals().over_connections), (4, 1));
        drop(places);
        let counts = connections.counts.lock().unwrap();
        assert!(counts.total == 0 && counts.by_origin.is_empty());
    }

    #[test]
    fn descriptors_bound_what_the_configuration_allows() {
        let connections = Connections::default();
        assert_eq!(connections.limit(5_000), 5_000);
        assert_eq!(connections.bound_by_descriptors(None, 40), None);
        assert_eq!(connections.bound_by_descriptors(Some(100), 40), Some(30));
        assert_eq!((connections.limit(5_000), connections.limit(7)), (30, 7));
    }
}
