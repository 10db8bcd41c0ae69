//! Reads `[[listener]]`.
//!
//! Owns the rule that a token is asked for inside TLS or on a Unix socket only, and the check that listeners do not
//! collide.

use std::net::SocketAddr;
use std::path::PathBuf;

use pgturnstile_rules::document::Place;

use super::keys::Reader;
use super::model::{Auth, ListenAddress, Listener, ListenerAt, ListenerTls};
use super::{reference, socket};

pub(super) fn listeners(root: &Reader<'_>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut taken: Vec<(ListenAddress, Place)> = Vec::new();
    for section in root.sections("listener", &reference::LISTENER) {
        let at = at(&section);
        let auth = auth(&section);
        if let (Some(at), Some(auth)) = (at, auth) {
            let listener = Listener { at, auth, place: section.place() };
            let address = listener.address();
            if let Some((other, first)) = taken.iter().find(|(other, _)| collide(other, &address)) {
                section.table.error("address", format!("collides with {other} at {first}; use another port"));
            }
            taken.push((address, section.table.place_of("address")));
            listeners.push(listener);
        }
        section.done();
    }
    listeners
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf, u16),
}

fn at(section: &Reader<'_>) -> Option<ListenerAt> {
    let address = address(section);
    match address {
        Some(Address::Unix(directory, port)) => {
            not_here(section, "tls", "PostgreSQL's clients speak no TLS on a Unix socket; take it out");
            socket::file(section, &directory, port).map(ListenerAt::Unix)
        }
        Some(Address::Tcp(address)) => {
            not_here(section, "socket", "belongs to a Unix socket, /DIRECTORY:PORT; take it out");
            tls(section).map(|tls| ListenerAt::Tcp { address, tls })
        }
        None => {
            // What is wrong with the rest is told in the same run.
            if section.table.has("socket") {
                let _reported = socket::file(section, &PathBuf::new(), 1);
            } else {
                let _reported = tls(section);
            }
            None
        }
    }
}

/// Reports a table that does not belong to this kind of listener.
fn not_here(section: &Reader<'_>, key: &str, why: &str) {
    if let Some(shape) = section.table.shape(key) {
        shape.value.abandon();
        section.table.error(key, why);
    }
}

fn address(section: &Reader<'_>) -> Option<Address> {
    const FORMS: &str = "must be an IP address and a port, such as 0.0.0.0:6432 or [::]:6432 (a host name is not resolved \
                         here), or /DIRECTORY:PORT for a Unix socket";
    let text = section.text("address")?;
    let parsed = match socket::parse(&text) {
        Some(socket) => socket.map(|(directory, port)| Address::Unix(directory, port)),
        None => text.parse().map(Address::Tcp).map_err(|_| FORMS.to_owned()),
    };
    parsed.map_err(|fault| section.table.error("address", fault)).ok()
}

fn auth(section: &Reader<'_>) -> Option<Auth> {
    let auth = section.word("auth", &[Some(Auth::TokenPassword), None, None])?;
    if auth.is_none() {
        section.table.error("auth", "is not built yet and nobody could log in; use \"token-password\"");
    }
    auth
}

fn tls(section: &Reader<'_>) -> Option<ListenerTls> {
    if !section.table.has("tls") {
        section.table.error("tls", "is required here: a token is never asked for outside TLS on a network");
    }
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
fn collide(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            a.port() == b.port()
                && a.port() != 0
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        (ListenAddress::Tcp(_), ListenAddress::Unix(_)) | (ListenAddress::Unix(_), ListenAddress::Tcp(_)) => {
            false
        }
    }
}
