//! Arrival: from an accepted socket to its startup packet, or to its end before that.
//!
//! Owns: the login deadline's beginning, cancel requests, and the records of connections that never became sessions, or of where
//! they were led. May not: ask for a credential, or dial. Fails closed: whoever is turned away here has learnt nothing of targets or policy.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_proto::proxy::Header;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::accept::{Place, trusted_proxy};
use super::admit::Admission;
use super::gateway::{Loaded, listener_name};
use super::keys::Cancellable;
use super::mapping;
use super::peer::Peer;
use super::route::{Asked, Routed};
use super::shard::Shard;
use super::turned::Turned;
use crate::backend;
use crate::config::Listener;
use crate::evidence::record::v1;
use crate::evidence::record::{Entry, How};
use crate::evidence::{AppendError, SessionLog};
use crate::net::proxy_protocol::{self, Unread};
use crate::net::stream::Stream;
use crate::session::greeting::{self, Greeting, Rejected};
use crate::session::{Fault, Login, Met};

/// How long a cancel request's own connection may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a cancel request may take to reach the target.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
pub(super) async fn connection(
    shard: Arc<Shard>,
    stream: Stream,
    mut peer: Peer,
    listener: usize,
    mut place: Place,
) {
    let loaded = shard.gateway.loaded.load_full();
    let deadline = Instant::now() + Duration::from_millis(loaded.config.limits.login_deadline_ms);
    let greeted = async {
        match present(&loaded, stream, listener, &mut peer, &mut place).await? {
            Some(stream) => greet(&loaded, stream, listener).await,
            None => Ok(Greeting::Nothing),
        }
    };
    match timeout_at(deadline, greeted).await {
        Ok(Ok(Greeting::Startup { stream, packet })) => {
            let admission = Admission { shard, loaded, peer, listener, deadline };
            Box::pin(admission.run(stream, packet)).await;
        }
        Ok(Ok(Greeting::Cancel { mut stream, process_id, key })) => {
            cancel(&shard, &peer, process_id, &key).await;
            // Closed in order, as a server does: libpq 17 reports a cancel connection that is torn as a failed cancel.
            match timeout(CLOSE_DEADLINE, stream.shutdown()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a cancel request's socket was closed already"),
                Err(_) => tracing::debug!("a cancel request's socket did not close in time"),
            }
        }
        Ok(Ok(Greeting::Nothing)) => {}
        Ok(Err(rejected)) => {
            shard.memory.tally().login(match rejected {
                Rejected::Untrusted | Rejected::Unpresented(_) => Login::Proxy,
                Rejected::TooMany
                | Rejected::Malformed(_)
                | Rejected::Socket(_)
                | Rejected::NoTls
                | Rejected::EarlyBytes
                | Rejected::DirectTls
                | Rejected::NoAlpn
                | Rejected::Handshake(_)
                | Rejected::Repeats
                | Rejected::NotAPassword(_)
                | Rejected::Mechanism
                | Rejected::Bearer(_)
                | Rejected::TokenTooLong { .. }
                | Rejected::Late
                | Rejected::Closed => Login::Greeting,
            });
            record_rejected(&shard, &loaded, &peer, listener, &rejected).await;
        }
        Err(_) => {
            shard.memory.tally().login(Login::Deadline);
            record_rejected(&shard, &loaded, &peer, listener, &Rejected::Late).await;
        }
    }
    drop(place);
}

/// Learns whose the connection is, where the listener is reached through load balancers; `None` where it was closed before
/// it said so.
async fn present(
    loaded: &Loaded,
    mut stream: Stream,
    listener: usize,
    peer: &mut Peer,
    place: &mut Place,
) -> Result<Option<Stream>, Rejected> {
    let entry = loaded.config.listeners.get(listener);
    if entry.and_then(Listener::proxies).is_none() {
        return Ok(Some(stream));
    }
    let trusted = trusted_proxy(&loaded.config, listener, peer);
    let Some(proxy) = peer.address().filter(|_| trusted.is_some()) else {
        // Whatever it says of itself is not even read.
        return reject(stream, Rejected::Untrusted).await;
    };
    match proxy_protocol::read(&mut stream).await {
        Ok(None) => return Ok(None),
        // A health check of the balancer: its own connection.
        Ok(Some(Header::Local)) => {}
        Ok(Some(Header::Proxied { source, destination })) => {
            *peer = Peer::Proxied { client: source, destination, proxy };
        }
        Err(Unread::Malformed(fault)) => return reject(stream, Rejected::Unpresented(fault)).await,
        Err(Unread::Socket(error)) => return Err(Rejected::Socket(error)),
    }
    if place.belongs_to(peer.origin(), loaded.config.limits.connections_per_address_max) {
        Ok(Some(stream))
    } else {
        Err(Rejected::TooMany)
    }
}

async fn reject(mut stream: Stream, why: Rejected) -> Result<Option<Stream>, Rejected> {
    greeting::last_words(&mut stream, &why).await;
    Err(why)
}

/// The first words with the client, as its listener speaks them.
async fn greet(loaded: &Loaded, stream: Stream, listener: usize) -> Result<Greeting, Rejected> {
    let tls = loaded.listener_tls.get(listener).and_then(Option::as_ref);
    let direct = loaded.config.listeners.get(listener).and_then(Listener::tls).is_some_and(|tls| tls.direct);
    match (stream, tls) {
        (Stream::Plain(tcp), Some(tls)) => greeting::greet(tcp, tls, direct).await,
        (Stream::Unix(unix), None) => greeting::greet_local(unix).await,
        // A network without TLS, or TLS where there is none: no listener is so.
        (Stream::Plain(_), None) | (Stream::Unix(_), Some(_)) | (Stream::Tls(_), _) => Err(Rejected::NoTls),
    }
}

async fn record_rejected(shard: &Shard, loaded: &Loaded, peer: &Peer, listener: usize, rejected: &Rejected) {
    let mut log = match open_log(shard, loaded, peer, listener, "none").await {
        Ok(log) => log,
        Err(error) => {
            tracing::warn!(%peer, reason = %rejected, %error, "a rejected connection could not be recorded");
            return;
        }
    };
    let session = mapping::hex(&log.id());
    tracing::info!(session, %peer, reason = %rejected, "turned away before login");
    let what = rejected.to_string();
    let violation = v1::ProtocolViolation { side: "frontend", what: &what, offset: 0 };
    if let Err(error) = log.append(Entry::ProtocolViolation(violation), How::QUEUED).await {
        tracing::warn!(session, %error, "a rejected connection could not be recorded");
    }
    close_log(log, Fault::Client, &what).await;
}

/// Closes a session that never began.
pub(super) async fn close_log(log: SessionLog, fault: Fault, reason: &str) {
    let session = mapping::hex(&log.id());
    let totals = v1::Totals::default();
    let closed = v1::SessionClosed { reason, by: fault.name(), totals: &totals };
    if let Err(error) = log.close(closed).await {
        tracing::warn!(session, %error, "the end of a session could not be recorded");
    }
}

/// Opens the records of a connection.
pub(super) async fn open_log(
    shard: &Shard,
    loaded: &Loaded,
    peer: &Peer,
    listener: usize,
    tls: &str,
) -> Result<SessionLog, AppendError> {
    let mut id = [0; 16];
    if getrandom::fill(&mut id).is_err() {
        return Err(AppendError::Closed);
    }
    let mut log = shard.gateway.evidence.session(&shard.lane, id);
    let client = peer.client();
    let listener = listener_name(&loaded.config, listener);
    let opened = v1::SessionOpened { peer: &client, listener: &listener, tls };
    log.append(Entry::SessionOpened(opened), How::QUEUED).await?;
    if let Peer::Proxied { proxy, destination, .. } = peer {
        let (proxy, destination) = (proxy.to_string(), destination.to_string());
        let proxied = v1::Proxied { proxy: &proxy, destination: &destination };
        log.append(Entry::Proxied(proxied), How::QUEUED).await?;
    }
    Ok(log)
}

/// A cancel request: never answered, whatever comes of it.
async fn cancel(shard: &Shard, peer: &Peer, process_id: u32, key: &[u8]) {
    let Some(found) = shard.gateway.keys.find(process_id, key) else {
        tracing::info!(%peer, "a cancel request that names no session");
        return;
    };
    let outcome = match found.control.cancel() {
        // Nothing of this session's client is running: a late cancel must not hit what is not its own.
        Met::Idle => "idle".to_owned(),
        Met::Held => "withdrawn before it was sent".to_owned(),
        Met::Running => forward_cancel(&found).await,
        Met::HeldBehind(withdrawal) => {
            let forwarded = forward_cancel(&found).await;
            drop(withdrawal);
            format!("{forwarded}; withdrawn before it was sent: what stood behind it")
        }
    };
    let session = mapping::hex(&found.session);
    tracing::info!(session, %peer, outcome, "cancel request");
    let peer = peer.to_string();
    let outcome = format!("session {session}: {outcome}");
    let entry = v1::CancelRequested { peer: &peer, outcome: &outcome };
    if let Err(error) = shard.gateway.evidence.record(Entry::CancelRequested(entry)).await {
        tracing::warn!(%error, "a cancel request could not be recorded");
    }
}

async fn forward_cancel(found: &Cancellable) -> String {
    let deadline = Instant::now() + CANCEL_DEADLINE;
    match backend::cancel(&found.target, &found.credential, &found.key, deadline).await {
        Ok(()) => "forwarded".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

/// Records how the target was named.
///
/// # Errors
/// The record was not taken.
pub(super) async fn record_routed(
    log: &mut SessionLog,
    routed: &Routed,
    asked: &Asked<'_>,
) -> Result<(), Turned> {
    let by: Vec<v1::Text<'_>> = routed.by.iter().map(|way| v1::Text { text: way.name() }).collect();
    let entry = v1::Routed {
        target: &routed.target,
        by: &by,
        server_name: asked.server_name,
        user: asked.user,
        database: asked.database,
    };
    log.append(Entry::Routed(entry), How::QUEUED).await?;
    Ok(())
}
