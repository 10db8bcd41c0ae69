//! The live sessions, for whoever runs the gateway.
//!
//! Owns: what is told of a session, and its JSON. May not: hold a text of a statement or a value of one: a session is told
//! by who, where and how much. It names people and addresses, so that the page is on the control socket only.

use serde_json::{Value, json};

use crate::session::Seen;

/// Whose a session is, and where it goes: what stays the same for its life.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its id, hexadecimal.
    pub session: String,
    /// The `[[issuer]]` entry.
    pub issuer: String,
    /// The token's subject.
    pub subject: String,
    /// The person behind it, where a claim says so.
    pub person: Option<String>,
    /// The `[[target]]` entry.
    pub target: String,
    /// The `[[access]]` entry.
    pub access: String,
    /// The other end, as the log names it.
    pub peer: String,
    /// The listener that it came by.
    pub listener: String,
    /// When it began, seconds since 1970.
    pub began_s: u64,
}

/// A live session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose.
    pub who: std::sync::Arc<Who>,
    /// Its numbers.
    pub seen: Seen,
}

/// The page of `/sessions`.
#[must_use]
pub fn page(sessions: &[Session], now_ms: u64) -> Value {
    let sessions: Vec<Value> = sessions.iter().map(|session| told(session, now_ms)).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "now_ms": now_ms, "sessions": sessions })
}

fn told(session: &Session, now_ms: u64) -> Value {
    let Session { who, seen } = session;
    json!({
        "session": who.session,
        "issuer": who.issuer,
        "subject": who.subject,
        "person": who.person,
        "target": who.target,
        "access": who.access,
        "peer": who.peer,
        "listener": who.listener,
        "session_age_ms": now_ms.saturating_sub(who.began_s * 1_000),
        "state": seen.phase.name(),
        "waits_for": seen.waits.name(),
        "class": seen.class.map(|class| class.name()),
        // Of the running statement, or of the state.
        "age_ms": if seen.since_ms == 0 { 0 } else { now_ms.saturating_sub(seen.since_ms) },
        "statements": seen.statements,
        "refused": seen.refused,
        "rows": seen.rows,
        "client_bytes": seen.client_bytes,
        "target_bytes": seen.target_bytes,
    })
}
