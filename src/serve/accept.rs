//! Listeners: accepting, per-address limits, placing connections on shards.
//!
//! Owns: the count of connections, of all and of one address. May not: read a byte. Kernel hashing spreads connections,
//! and database connections are few, long and unequal: each goes to the shard that has the fewest. Fails by turning the
//! connection away, with a reason where there is a way to say it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;

use super::gateway::Gateway;
use super::shard::{Arrival, ShardHandle};

/// Pause after an accept that failed: descriptors or memory are short, and a tight loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are open now.
#[derive(Default)]
pub struct Connections {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// One connection's place; given back when this is dropped.
pub struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// A place for a connection from `address`, unless a limit is reached.
    pub fn take(self: &Arc<Self>, address: IpAddr, total_max: u64, address_max: u64) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.total >= total_max || of_address >= address_max {
            return None;
        }
        counts.total += 1;
        counts.by_address.insert(address, of_address + 1);
        Some(Place { connections: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until the task is ended.
pub async fn accept(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    index: usize,
    connections: Arc<Connections>,
    shards: Arc<[ShardHandle]>,
) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => place(&gateway, tcp, peer, index, &connections, &shards),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn place(
    gateway: &Gateway,
    tcp: TcpStream,
    peer: SocketAddr,
    listener: usize,
    connections: &Arc<Connections>,
    shards: &[ShardHandle],
) {
    if gateway.draining.load(Ordering::Acquire) {
        return;
    }
    let loaded = gateway.loaded.load();
    let limits = &loaded.config.limits;
    let address = peer.ip().to_canonical();
    let Some(place) = connections.take(address, limits.connections_max, limits.connections_per_address_max)
    else {
        // Outside TLS nothing can be said that a client would believe; the log and the closed socket have to do.
        tracing::warn!(%peer, "turned away: connections_max or connections_per_address_max is reached");
        return;
    };
    let Some(shard) = shards.iter().min_by_key(|shard| shard.sessions.load(Ordering::Relaxed)) else {
        return;
    };
    match tcp.into_std() {
        Ok(tcp) => {
            let arrival = Arrival { tcp, peer, listener, place };
            match shard.arrivals.try_send(arrival) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => tracing::warn!(%peer, "turned away: the shard's queue is full"),
                Err(TrySendError::Closed(_)) => tracing::error!(%peer, "turned away: the shard has ended"),
            }
        }
        Err(error) => tracing::warn!(%peer, %error, "a socket could not be handed to its shard"),
    }
}

/// Binds every listener, or none.
///
/// # Errors
/// The first address that cannot be bound.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|error| (*address, error))?);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Arc::new(Connections::default());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = connections.take(a, 3, 2).unwrap();
        let _second = connections.take(a, 3, 2).unwrap();
        assert!(connections.take(a, 3, 2).is_none(), "the address has its two");
        let _third = connections.take(b, 3, 2).unwrap();
        assert!(connections.take(b, 3, 2).is_none(), "the gateway has its three");
        drop(first);
        assert!(connections.take(a, 3, 2).is_some());
    }
}
