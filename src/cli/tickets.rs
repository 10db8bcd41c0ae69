//! `pgturnstile tickets`: statements that people may decide while nobody waits with them.
//!
//! Owns: the list, and what is said of a journal at rest. May not: decide, or change a journal. Fails with the gateway's own words, or
//! with those of whoever reads the journal at a start.

use std::io;
use std::path::PathBuf;

use hyper::Method;
use serde_json::{Value, json};

use super::control_socket::Gateway;
use super::holds::{Early, Line, Proof, ended, path_part, picture, requester, text};
use super::out::{aligned, shortened};
use super::{Exit, Out};
use crate::serve::tickets::explain;

/// Arguments of `tickets`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Show the tickets: statements that nobody decided on while their sessions waited, or whose rule lets no session wait (ticket_ttl_s and \
mode of a rule's hold). Their clients were refused with the ticket's id. `approve` and `deny` decide a ticket as they do a hold; \
approved, it lets exactly that statement of that requester pass, once, when it is run again before the ticket's end.

The same statement is: text and parameters byte for byte; requester with groups and kept claims; target, access entry and policy; role, \
search path and settings; every relation and function that it reaches, unchanged; a transaction open, or none. What is another is \
said, and asked for anew.

Without a token no value is shown. With the token of an approver, `tickets ID` shows the exact text and its parameters.",
    after_help = "\
Examples:
  pgturnstile tickets                                       all of which something can come, and the last that ended
  pgturnstile tickets 7K3M-9QX2-TB4R                        one, without values
  PGTURNSTILE_TOKEN=$(…) pgturnstile tickets 7K3M-9QX2-TB4R   exactly as it would run
  pgturnstile tickets --json | jq -r '.tickets[] | select(.state == \"open\").id'
  pgturnstile tickets --check state/tickets.journal         the journal of a gateway that does not start

Exit codes:
  0  done
  1  there is no such ticket, or you may not see it; the journal is damaged
  2  the configuration names no control socket
  3  no gateway answers"
)]
pub struct Args {
    #[command(flatten)]
    gateway: Gateway,
    /// One ticket.
    #[arg(value_name = "ID", conflicts_with = "check")]
    id: Option<String>,
    #[command(flatten)]
    proof: Proof,
    /// Read this journal instead of asking a gateway, and say what is in it, or where it is damaged. Changes nothing.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `tickets`.
///
/// # Errors
/// Output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    if let Some(file) = &args.check {
        return match explain(file) {
            Ok(found) if args.json => {
                out.line(json!({ "tickets": found }))?;
                Ok(Exit::Yes)
            }
            Ok(found) => {
                for ticket in &found {
                    let (id, state) = (text(ticket, "id"), text(ticket, "state"));
                    out.line(format_args!(
                        "{id}  {state}  {}: {}",
                        text(ticket, "requester"),
                        text(ticket, "message")
                    ))?;
                }
                out.line(format_args!("{} is whole: {} ticket(s)", file.display(), found.len()))?;
                Ok(Exit::Yes)
            }
            Err(fault) => {
                out.complain(fault);
                Ok(Exit::No)
            }
        };
    }
    let page = match asked(args) {
        Ok(page) => page,
        Err(early) => return ended(Err(early), out),
    };
    if args.json {
        out.line(&page)?;
    } else if args.id.is_some() {
        out.write(&picture(&page))?;
    } else {
        for row in table(page["tickets"].as_array().map(Vec::as_slice).unwrap_or_default()) {
            out.line(row)?;
        }
    }
    Ok(Exit::Yes)
}

fn asked(args: &Args) -> Result<Value, Early> {
    let line = Line::open(&args.gateway)?;
    match (&args.id, args.proof.token().map_err(|fault| (fault, Exit::Usage))?) {
        (None, _) => line.ask(Method::GET, "/tickets", &Value::Null),
        (Some(id), None) => line.ask(Method::GET, &format!("/holds/{}", path_part(id)), &Value::Null),
        (Some(id), Some(token)) => line.wish(id, "show", &token, ""),
    }
}

fn table(tickets: &[Value]) -> Vec<String> {
    let titles = [
        ("ID", false),
        ("STATE", false),
        ("REQUESTER", false),
        ("TARGET", false),
        ("LEFT", true),
        ("MISSING", true),
        ("WHAT", false),
    ];
    let rows = tickets.iter().map(|page| {
        let needs = page["needs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let missing: u64 = needs.iter().filter_map(|need| need["missing"].as_u64()).sum();
        let state = text(page, "state");
        let lives = matches!(state.as_str(), "open" | "approved");
        vec![
            text(page, "id"),
            state,
            shortened(&requester(page), 32),
            shortened(&text(page, "target"), 16),
            if lives { format!("{} s", text(page, "left_s")) } else { String::new() },
            if lives { missing.to_string() } else { String::new() },
            shortened(&text(page, "message"), 90),
        ]
    });
    aligned(&titles, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_told_with_where_they_stand() {
        let page = |state: &str| {
            json!({ "id": "7K3M-9QX2-TB4R", "state": state, "ticket": true, "left_s": 60, "target": "crm", "message": "DELETE\u{1b}[2J",
                    "requester": { "issuer": "corp", "subject": "a" }, "needs": [{ "missing": 2 }] })
        };
        let rows = table(&[page("open"), page("used")]);
        assert!(
            rows[1].contains("60 s") && rows[1].contains('2') && rows[1].contains("\\u{1b}"),
            "{rows:#?}"
        );
        assert!(rows[2].contains("used") && !rows[2].contains("60 s"), "{rows:#?}");
    }
}
