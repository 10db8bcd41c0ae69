//! The tickets of a running gateway: where they are kept, and the end of those whose time is up.
//!
//! Owns: opening the journal where a rule asks for tickets or one is there, and recording what nobody came for. May not: decide. Fails
//! closed: a journal that cannot be read or locked stops the start, and refuses a reload that would need it.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pgturnstile_rules::document::{Diagnostic, Severity};
use pgturnstile_rules::policy::Policy;
use pgturnstile_rules::policy::model::Then;
use serde_json::{Value, json};

use super::gateway::Gateway;
use crate::approval::journal::{self, Fault};
use crate::approval::{Holds, Ticket, tickets};
use crate::config::Config;
use crate::evidence::record::{Entry, v1};
use crate::operate::process;

/// Between two looks at what has expired.
const SWEEP: Duration = Duration::from_secs(1);

fn asks_for_tickets(policy: &Policy) -> bool {
    policy.model().restricts.iter().any(|restrict| match &restrict.then {
        Then::Hold(hold) => hold.ticket_ttl_s.is_some(),
        Then::Cut | Then::Refuse => false,
    })
}

/// Opens the journal where it is needed: a rule asks for tickets, or some were left there.
///
/// # Errors
/// It cannot be used.
pub(super) fn open(holds: &Holds, config: &Config, policy: &Policy) -> Result<(), Fault> {
    let folder = &config.gateway.state_directory;
    if asks_for_tickets(policy) || folder.join(journal::FILE).exists() {
        holds.tickets().keep_in(folder)?;
    }
    Ok(())
}

/// What is wrong, at the place where the state folder is named.
pub(super) fn finding(config: &Config, fault: &Fault) -> Diagnostic {
    config.gateway.state_place.diagnostic(Severity::Error, fault.to_string())
}

/// Records the end of tickets whose time is up, for as long as the gateway is there.
pub(super) async fn sweep(gateway: Weak<Gateway>) {
    let mut looks = tokio::time::interval(SWEEP);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        for ticket in gateway.holds.tickets().due(process::now_ms()) {
            expired(&gateway, &ticket).await;
        }
    }
}

/// The record first: a crash between the two leaves it to be recorded again.
async fn expired(gateway: &Gateway, ticket: &Arc<Ticket>) {
    let id = ticket.id().to_string();
    let entry = v1::TicketEnded {
        ticket: &id,
        session: ticket.asked.session,
        statement: ticket.asked.record,
        outcome: v1::TicketOutcome::Expired,
        reason: ticket.state.name(),
    };
    if let Err(error) = gateway.evidence.record(Entry::TicketEnded(entry)).await {
        tracing::warn!(%error, ticket = id, "the end of a ticket could not be recorded");
        return;
    }
    let (holds, id) = (Arc::clone(&gateway.holds), ticket.id());
    let done = tokio::task::spawn_blocking(move || holds.tickets().expire(id)).await;
    if let Ok(Err(undone)) = done {
        tracing::warn!(%undone, ticket = %id, "the end of a ticket could not be written down");
    }
}

/// What a journal at rest says, ticket by ticket, without values.
///
/// # Errors
/// What is wrong with it, in words.
pub fn explain(path: &Path) -> Result<Vec<Value>, String> {
    let told = |ticket: Arc<Ticket>| {
        json!({
            "id": ticket.id().to_string(),
            "state": ticket.state_at(process::now_ms()).name(),
            "requester": format!("{}/{}", ticket.asked.requester.issuer, ticket.asked.requester.subject),
            "message": ticket.asked.message,
        })
    };
    let found = tickets::explain(path).map_err(|fault| fault.to_string())?;
    Ok(found.into_iter().map(told).collect())
}
