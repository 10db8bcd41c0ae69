//! Reads `[[listener]]`.
//!
//! Owns the rule that a token is asked for inside TLS or on a Unix socket only, and the check that listeners do not
//! collide.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use pgturnstile_rules::document::{Place, nearest};

use super::keys::Reader;
use super::model::{Auth, ListenAddress, Listener, ListenerAt, ListenerTls, Proxies, Route};
use super::{reference, socket};

pub(super) fn listeners(root: &Reader<'_>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut taken: Vec<(ListenAddress, Place)> = Vec::new();
    for section in root.sections("listener", &reference::LISTENER) {
        let at = at(&section);
        let auth = auth(&section);
        let routes = routes(&section, matches!(at, Some(ListenerAt::Unix(_))));
        if let (Some(at), Some(auth), Some(routes)) = (at, auth, routes) {
            let listener = Listener { at, auth, routes, place: section.place() };
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
            not_here(
                section,
                "proxy_protocol",
                "is for TCP: a Unix socket shows who connects by itself; take it out",
            );
            socket::file(section, &directory, port).map(ListenerAt::Unix)
        }
        Some(Address::Tcp(address)) => {
            not_here(section, "socket", "belongs to a Unix socket, /DIRECTORY:PORT; take it out");
            let (tls, proxies) = (tls(section), proxies(section));
            Some(ListenerAt::Tcp { address, tls: tls?, proxies: proxies? })
        }
        None => {
            // What is wrong with the rest is told in the same run.
            if section.table.has("socket") {
                let _reported = socket::file(section, &PathBuf::new(), 1);
            } else {
                let _reported = (tls(section), proxies(section));
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
    #[derive(Clone, Copy)]
    enum Word {
        Token,
        Bearer,
        Certificate,
    }
    match section.word("auth", &[Word::Token, Word::Bearer, Word::Certificate])? {
        Word::Token => {
            not_here(section, "oauth", "belongs to auth = \"oauthbearer\"; take it out");
            Some(Auth::TokenPassword)
        }
        Word::Bearer => {
            let oauth = section.section("oauth", &reference::LISTENER_OAUTH);
            let (issuer, scope) = (oauth.text("issuer"), oauth.text("scope"));
            oauth.done();
            Some(Auth::OauthBearer { issuer, scope: scope? })
        }
        Word::Certificate => {
            section.table.error(
                "auth",
                "is not built yet and nobody could log in; use \"token-password\" or \"oauthbearer\"",
            );
            None
        }
    }
}

fn routes(section: &Reader<'_>, unix: bool) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    for word in section.strings("routes") {
        let Some(route) = Route::ALL.into_iter().find(|route| route.name() == word) else {
            let known = Route::ALL.map(Route::name);
            let hint = nearest(&word, &known)
                .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
            section.table.error("routes", format!("`{word}` is no way to name a target: {hint}"));
            return None;
        };
        if unix && route == Route::ServerName {
            section
                .table
                .error("routes", "no TLS on a Unix socket, and so no server name; take \"server-name\" out");
            return None;
        }
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    if routes.is_empty() {
        section.table.error("routes", "must hold at least one: no session would find its target");
    }
    (!routes.is_empty()).then_some(routes)
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

/// `Some(None)` without the table; `None` after a report.
fn proxies(section: &Reader<'_>) -> Option<Option<Proxies>> {
    let Some(table) = section.table("proxy_protocol", &reference::PROXY_PROTOCOL) else {
        return (!section.table.has("proxy_protocol")).then_some(None);
    };
    let version = table.word("version", &[Some(()), None]);
    if version == Some(None) {
        let why = "version 1 is a line of text without length or checksum and is not read; set the balancer to version 2";
        table.table.error("version", why);
    }
    let named = table.strings("trusted");
    if table.table.has("trusted") && named.is_empty() {
        table.table.error("trusted", "must name at least one address: nobody else could connect");
    }
    let networks: Result<Vec<IpNet>, String> = named.iter().map(|text| network(text)).collect();
    let trusted = networks.map_err(|fault| table.table.error("trusted", fault)).ok();
    table.done();
    version??;
    trusted.filter(|trusted| !trusted.is_empty()).map(|trusted| Some(Proxies { trusted }))
}

/// An address, or a network whose host bits are zero.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    let network = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        format!("`{text}` is neither an IP address nor a network such as 10.1.0.0/16 or 2001:db8::/32")
    })?;
    if network.prefix_len() == 0 {
        return Err(format!(
            "`{text}` is everybody: any client could name any address as its own; name the balancers"
        ));
    }
    if network != network.trunc() {
        return Err(format!("`{text}` has bits behind its prefix; write {}", network.trunc()));
    }
    Ok(network)
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
