//! A person's decision on a hold or ticket: from a token to a recorded approval or denial.
//!
//! Owns: the order token → separation rules → record → effect, one decision at a time. May not: be asked for anything without a
//! token. Fails closed: what cannot be recorded does not count; who is refused is recorded too, where a token proved who it was.

use std::sync::Arc;

use hyper::StatusCode;
use pgturnstile_rules::policy::Principal;
use secrecy::ExposeSecret;

use super::gateway::Gateway;
use crate::approval::{Asked, Bar, Found, Human, Ticket, Vote, quorum, tickets};
use crate::evidence::record::{Entry, v1};
use crate::operate::approvals::{Act, Done, Undone, Wish};
use crate::operate::process;

/// By which way decisions come.
const CHANNEL: &str = "control-socket";

/// What came of a wish.
///
/// # Errors
/// [`Undone`]: nothing was decided, and why.
pub(super) async fn decide(gateway: &Arc<Gateway>, wish: Wish) -> Result<Done, Undone> {
    let loaded = gateway.loaded.load_full();
    let principal = loaded.verifier.verify(wish.token.expose_secret().as_bytes()).await.map_err(|denied| {
        tracing::info!(hold = %wish.id, reason = denied.exact(), "a decision with a token that is not believed");
        Undone::new(StatusCode::UNAUTHORIZED, "token", denied.client_text())
    })?;
    // One at a time: between the look at who has said what and the count stands a write to disk.
    let _deciding = gateway.deciding.lock().await;
    if let Some(ticket) = gateway.holds.tickets().find(wish.id) {
        return on_ticket(gateway, wish, &ticket, &principal).await;
    }
    let open = match gateway.holds.find(wish.id) {
        Some(Found::Open(open)) => open,
        Some(Found::Ended(ended)) => {
            let what = format!("hold {} is {} already: {}", wish.id, ended.how.name(), ended.reason);
            return Err(Undone::new(StatusCode::CONFLICT, Bar::NotOpen.word(), what));
        }
        None => return Err(barred(Bar::NotOpen)),
    };
    let people = &gateway.holds.settings().people;
    let by = Human::of(&principal);
    let now_ms = process::now_ms();
    let may =
        quorum::may_decide(&open.asked, &principal, &loaded.policy, people).and_then(|needs| {
            match wish.act {
                Act::Show => Ok(needs),
                Act::Approve => gateway.holds.decidable(wish.id, &by, now_ms).map(|_| needs),
                Act::Deny => gateway.holds.is_open(wish.id, now_ms).map(|()| needs),
            }
        });
    if wish.act == Act::Show {
        return may.map(|_| Done::Shown(Box::new(open))).map_err(barred);
    }
    record(gateway, &wish, &open.asked, What::Hold, &principal, may.as_ref().err().copied()).await?;
    let needs = may.map_err(barred)?;
    let name = by.name();
    match wish.act {
        Act::Deny => {
            let denied = gateway.holds.deny(wish.id, name.clone(), wish.reason, now_ms);
            denied.map(|()| Done::Denied { by: name, ticket: false }).map_err(barred)
        }
        Act::Show | Act::Approve => {
            let approved = gateway.holds.approve(wish.id, Vote { by, needs, at_ms: now_ms });
            approved.map(|missing| Done::Approved { by: name, missing, ticket: false }).map_err(barred)
        }
    }
}

/// What is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Hold,
    Ticket,
}

/// The same order for a ticket; its effect waits for the disk, too.
async fn on_ticket(
    gateway: &Arc<Gateway>,
    wish: Wish,
    ticket: &Arc<Ticket>,
    principal: &Principal,
) -> Result<Done, Undone> {
    let loaded = gateway.loaded.load_full();
    let settings = gateway.holds.settings();
    let (tickets, id) = (Arc::clone(gateway.holds.tickets()), wish.id);
    let by = Human::of(principal);
    let now_ms = process::now_ms();
    let may =
        quorum::may_decide(&ticket.asked, principal, &loaded.policy, &settings.people).and_then(|needs| {
            match wish.act {
                Act::Show => Ok(needs),
                Act::Approve => tickets.decidable(id, &by, &settings.people, now_ms).map(|()| needs),
                Act::Deny => tickets.deniable(id, now_ms).map(|()| needs),
            }
        });
    if wish.act == Act::Show {
        return may.map(|_| Done::Ticket(Arc::clone(ticket))).map_err(barred);
    }
    record(gateway, &wish, &ticket.asked, What::Ticket, principal, may.as_ref().err().copied()).await?;
    let needs = may.map_err(barred)?;
    let name = by.name();
    let (act, reason, said) = (wish.act, wish.reason, name.clone());
    let done = tokio::task::spawn_blocking(move || match act {
        Act::Deny => tickets.deny(id, said, reason, now_ms).map(|()| 0),
        Act::Show | Act::Approve => tickets.approve(id, Vote { by, needs, at_ms: now_ms }, &settings.people),
    });
    let missing = match done.await {
        Ok(Ok(missing)) => missing,
        Ok(Err(tickets::Undone::Barred(bar))) => return Err(barred(bar)),
        Ok(Err(undone)) => return Err(unkept(&undone.to_string())),
        Err(error) => return Err(unkept(&error.to_string())),
    };
    Ok(match act {
        Act::Deny => Done::Denied { by: name, ticket: true },
        Act::Show | Act::Approve => Done::Approved { by: name, missing, ticket: true },
    })
}

fn unkept(why: &str) -> Undone {
    let what = format!("the decision does not count, because it could not be written down: {why}");
    Undone::new(StatusCode::SERVICE_UNAVAILABLE, "unrecorded", what)
}

fn barred(bar: Bar) -> Undone {
    let status = match bar {
        Bar::NotOpen | Bar::Decided | Bar::Again | Bar::OtherPolicy => StatusCode::CONFLICT,
        Bar::NoApprover | Bar::Requester => StatusCode::FORBIDDEN,
    };
    Undone::new(status, bar.word(), bar.to_string())
}

/// The record that stands before the effect.
async fn record(
    gateway: &Gateway,
    wish: &Wish,
    asked: &Asked,
    what: What,
    principal: &Principal,
    bar: Option<Bar>,
) -> Result<(), Undone> {
    let policy = &gateway.loaded.load().policy;
    let mut groups: Vec<&str> = Vec::new();
    for need in &asked.needs {
        for group in policy.approves(principal, &need.approval.hold) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    let groups: Vec<v1::Text<'_>> = groups.into_iter().map(|text| v1::Text { text }).collect();
    let id = wish.id.to_string();
    let decision = if wish.act == Act::Deny { "deny" } else { "approve" };
    let hold = v1::HoldDecided {
        hold: &id,
        session: asked.session,
        statement: asked.record,
        decision,
        refused: bar.map(Bar::word),
        reason: &wish.reason,
        binding: &asked.binding,
        issuer: &principal.issuer,
        issuer_url: &principal.issuer_url,
        subject: &principal.subject,
        person: principal.person.as_deref(),
        groups: &groups,
        token_thumbprint: &principal.token_thumbprint,
        token_id: principal.token_id.as_deref(),
        channel: CHANNEL,
    };
    let entry = match what {
        What::Hold => Entry::HoldDecided(hold),
        What::Ticket => Entry::TicketDecided(of_ticket(hold)),
    };
    gateway.evidence.record(entry).await.map_err(|error| {
        let what = format!("the decision does not count, because it could not be recorded: {error}");
        Undone::new(StatusCode::SERVICE_UNAVAILABLE, "unrecorded", what)
    })
}

fn of_ticket(decided: v1::HoldDecided<'_>) -> v1::TicketDecided<'_> {
    let v1::HoldDecided {
        hold,
        session,
        statement,
        decision,
        refused,
        reason,
        binding,
        issuer,
        issuer_url,
        subject,
        person,
        groups,
        token_thumbprint,
        token_id,
        channel,
    } = decided;
    v1::TicketDecided {
        ticket: hold,
        session,
        statement,
        decision,
        refused,
        reason,
        binding,
        issuer,
        issuer_url,
        subject,
        person,
        groups,
        token_thumbprint,
        token_id,
        channel,
    }
}
