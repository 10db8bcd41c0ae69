//! What a client is told of a hold.
//!
//! Owns: the words, and their SQLSTATEs. May not: hold a value of the statement: messages name what is held as the policy does.
//! Never fails.
//!
//! | SQLSTATE | says |
//! |---|---|
//! | `PH001` | somebody denied it |
//! | `PH002` | nobody decided in time |
//! | `PH003` | it was given up: the gateway stops, or the requester's token expired |
//! | `PH004` | it cannot be held: too much is, or its text cannot be shown |
//! | `PH005` | it is a ticket: run it again when that is approved |
//! | `57014` | a cancel request came for it |
//!
//! Class `PH` is of the classes that the SQL standard leaves to implementations (ISO/IEC 9075-2, 24.1), which PostgreSQL does not
//! use. No driver or tool takes it for a connection that failed or for a transaction that may be tried again, as they do with
//! classes 08, 40, 53, 55 and 57.

use std::time::Duration;

use super::denial::{self, Refusal};
use super::hold::Limit;
use crate::approval::ticket::State;
use crate::approval::{Asked, Full, Id, Ticket};

const DENIED: &str = "PH001";
const EXPIRED: &str = "PH002";
const WITHDRAWN: &str = "PH003";
const CANNOT_WAIT: &str = "PH004";
const TICKET: &str = "PH005";

/// It waits; `left` is how long it still may.
pub(super) fn waits(asked: &Asked, left: Duration) -> String {
    let needs: Vec<String> = asked
        .needs
        .iter()
        .map(|need| format!("{} of {}", need.approval.hold.quorum, need.groups.join(", ")))
        .collect();
    format!(
        "pgturnstile holds {}: it waits for approval by {}, {} s left. To decide: pgturnstile approve {id}, or pgturnstile deny {id} \
         --reason WHY. A cancel request withdraws it",
        asked.message,
        needs.join(" and "),
        left.as_secs(),
        id = asked.id
    )
}

/// Somebody denied it: who and why reach the client.
pub(super) fn denied(asked: &Asked, by: &str, reason: &str) -> Refusal {
    denied_as("hold", asked, by, reason)
}

fn denied_as(what: &str, asked: &Asked, by: &str, reason: &str) -> Refusal {
    let (id, message) = (asked.id, &asked.message);
    Refusal {
        sqlstate: DENIED,
        message: format!(
            "pgturnstile refused {message}: denied by {by}: {reason} ({what} {id}). Next: change it, or ask {by}"
        ),
        safe: format!("pgturnstile refused {message}: denied by {by} ({what} {id})"),
        rule: "built-in: hold-denied".to_owned(),
    }
}

/// Somebody denied its ticket.
pub(super) fn ticket_denied(ticket: &Ticket) -> Refusal {
    match &ticket.state {
        State::Denied { by, reason } | State::Told { by, reason } => {
            denied_as("ticket", &ticket.asked, by, reason)
        }
        State::Open | State::Approved | State::Used | State::Expired => {
            denied_as("ticket", &ticket.asked, "an approver", "no reason is known")
        }
    }
}

/// What a requester does with a ticket.
fn next(asked: &Asked) -> String {
    let groups: Vec<String> = asked.needs.iter().map(|need| need.groups.join(", ")).collect();
    format!(
        "it may be decided and used until {until}. Next: an approver ({groups}) runs pgturnstile approve {id}; pgturnstile hold wait {id} \
         says when; then run the same statement again, and it passes once",
        until = moment(asked.expires_ms),
        groups = groups.join(" and "),
        id = asked.id,
    )
}

/// A moment as people read it, UTC.
fn moment(ms: u64) -> String {
    i64::try_from(ms / 1_000)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| format!("{ms} ms"), |time| time.to_string())
}

fn ticketed(rule: &'static str, message: String) -> Refusal {
    Refusal::built_in(TICKET, rule, message)
}

/// Nobody decided in time: it is a ticket from here on.
pub(super) fn ticket_instead(hold: &Asked, ticket: &Asked) -> Refusal {
    let waited_s = hold.expires_ms.saturating_sub(hold.opened_ms) / 1_000;
    ticketed(
        "built-in: hold-ticket",
        format!(
            "pgturnstile refused {}: nobody decided within {waited_s} s, and it is now ticket {}: {}",
            ticket.message,
            ticket.id,
            next(ticket)
        ),
    )
}

/// Its rule lets no session wait.
pub(super) fn ticket_at_once(ticket: &Asked, beside: Option<&str>) -> Refusal {
    let beside = beside.map_or(String::new(), |beside| format!(". {beside}"));
    ticketed(
        "built-in: hold-ticket",
        format!(
            "pgturnstile refused {}, and asks for approval of it by ticket {}: {}{beside}",
            ticket.message,
            ticket.id,
            next(ticket)
        ),
    )
}

/// There is one already.
pub(super) fn ticket_waits(ticket: &Asked) -> Refusal {
    ticketed(
        "built-in: hold-ticket",
        format!(
            "pgturnstile refused {}: its ticket {} is not decided yet: {}",
            ticket.message,
            ticket.id,
            next(ticket)
        ),
    )
}

/// An approved ticket is not for what was sent.
pub(super) fn differs(id: Id, what: &[&str]) -> String {
    format!(
        "pgturnstile: ticket {id} is approved, and is not for this statement as it stands; what is another: {}. It stays as it is",
        what.join("; ")
    )
}

/// Its rule lets no session wait, and there can be no ticket.
pub(super) fn no_ticket(message: &str, why: &str) -> Refusal {
    Refusal::built_in(
        CANNOT_WAIT,
        "built-in: hold-no-ticket",
        format!(
            "pgturnstile refused {message}; it is approved by ticket alone, and there is none for it: {why}. Next: change that, and run \
             it again"
        ),
    )
}

/// The same of one that has waited.
pub(super) fn without_ticket(expired: Refusal, why: &str) -> Refusal {
    let more = format!(". It became no ticket: {why}");
    Refusal {
        message: format!("{}{more}", expired.message),
        safe: format!("{}{more}", expired.safe),
        ..expired
    }
}

/// It is approved, and cannot be marked as used.
pub(super) fn not_used(asked: &Asked, why: &str) -> Refusal {
    Refusal::built_in(
        CANNOT_WAIT,
        "built-in: hold-ticket-unwritten",
        format!(
            "pgturnstile refused {}: its ticket {} is approved, and its use could not be written down: {why}. Next: tell whoever runs \
             the gateway",
            asked.message, asked.id
        ),
    )
}

/// Nobody decided in time.
pub(super) fn expired(asked: &Asked, limit: Limit) -> Refusal {
    let (id, message) = (asked.id, &asked.message);
    let waited_s = asked.expires_ms.saturating_sub(asked.opened_ms) / 1_000;
    let (why, next) = match limit {
        Limit::Rule | Limit::Token => ("", "tell an approver, and run it again"),
        Limit::StatementTimeout => (
            ", since statement_timeout runs at the target while a batch is open",
            "send it in a batch of its own, or in a transaction block, and run it again",
        ),
    };
    Refusal::built_in(
        EXPIRED,
        "built-in: hold-expired",
        format!(
            "pgturnstile refused {message}: nobody decided within {waited_s} s{why} (hold {id}). Next: {next}"
        ),
    )
}

/// The requester's token has expired: nobody vouches for it any more.
pub(super) fn token_expired(message: &str) -> Refusal {
    Refusal::built_in(
        WITHDRAWN,
        "built-in: hold-token-expired",
        format!(
            "pgturnstile refused {message}: your token has expired, and nothing is approved for whom no issuer vouches. Next: reconnect \
             with a fresh token"
        ),
    )
}

/// The gateway stops.
pub(super) fn draining(asked: &Asked) -> Refusal {
    Refusal::built_in(
        WITHDRAWN,
        "built-in: hold-drained",
        format!(
            "pgturnstile refused {}: the gateway is being stopped, and what was held goes with it (hold {}). Next: reconnect, and run it \
             again",
            asked.message, asked.id
        ),
    )
}

/// Too many are held.
pub(super) fn full(message: &str, full: Full) -> Refusal {
    Refusal::built_in(
        CANNOT_WAIT,
        "built-in: holds-full",
        format!(
            "pgturnstile refused {message}, and {full}. Next: run it again when others have been decided"
        ),
    )
}

/// No approver could see what runs.
pub(super) fn not_shown(message: &str) -> Refusal {
    Refusal::built_in(
        CANNOT_WAIT,
        "built-in: hold-not-shown",
        format!(
            "pgturnstile refused {message}, and the text of what it runs was not kept when it was prepared, so no approver could see it. \
             Next: prepare it again"
        ),
    )
}

/// The server would refuse it whatever people say.
pub(super) fn failed_transaction() -> Refusal {
    Refusal::built_in(
        denial::IN_FAILED_TRANSACTION,
        "built-in: hold-in-failed-transaction",
        "current transaction is aborted, commands ignored until end of transaction block: pgturnstile asks nobody to approve what the \
         target would refuse. Next: ROLLBACK",
    )
}
