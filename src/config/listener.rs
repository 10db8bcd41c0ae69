//! Reads `[[listener]]`.
//!
//! Owns the rule that a token is asked for inside TLS only, and the check that listeners do not collide.

use std::net::SocketAddr;

use pgturnstile_rules::document::Place;

use super::keys::Reader;
use super::model::{Auth, Listener, ListenerTls};
use super::reference;

pub(super) fn listeners(root: &Reader<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    let mut taken: Vec<(SocketAddr, Place)> = Vec::new();
    for section in root.sections("listener", &reference::LISTENER) {
        let address = address(&section);
        if let Some(address) = address {
            if let Some((other, first)) = taken.iter().find(|(other, _)| collide(*other, address)) {
                section.table.error("address", format!("collides with {other} at {first}; use another port"));
            }
            taken.push((address, section.table.place_of("address")));
        }
        let auth = auth(&section);
        let tls = tls(&section);
        if let (Some(address), Some(auth), Some(tls)) = (address, auth, tls) {
            listeners.push(Listener { address, tls, auth, place: section.place() });
        }
        section.done();
    }
    listeners
}

fn address(section: &Reader<'_>) -> Option<SocketAddr> {
    let text = section.text("address")?;
    let parsed = text.parse();
    if parsed.is_err() {
        let hint = if text.starts_with('/') {
            "Unix-socket listeners are not built yet; use an IP address and a port"
        } else {
            "must be an IP address and a port, such as 0.0.0.0:6432 or [::]:6432 (a host name is not resolved here)"
        };
        section.table.error("address", hint);
    }
    parsed.ok()
}

fn auth(section: &Reader<'_>) -> Option<Auth> {
    let auth = section.word("auth", &[Some(Auth::TokenPassword), None, None])?;
    if auth.is_none() {
        section.table.error("auth", "is not built yet and nobody could log in; use \"token-password\"");
    }
    auth
}

fn tls(section: &Reader<'_>) -> Option<ListenerTls> {
    let tls = section.table("tls", &reference::LISTENER_TLS)?;
    let certificate = tls.path("certificate");
    let key = tls.path("key");
    if !tls.boolean("required") {
        tls.table.error(
            "required",
            "must be true: a token is never asked for outside TLS, so a client without it could not log in",
        );
    }
    let direct = tls.boolean("direct");
    tls.done();
    Some(ListenerTls { certificate: certificate?, key: key?, direct })
}

/// Whether the second address could not be bound beside the first. Port 0 is chosen by the system and never collides.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
