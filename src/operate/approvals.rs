//! Holds over HTTP: who waits for what, and what people say of it.
//!
//! Owns: the pages below `/holds`, their JSON, and the reading of a decision. May not: verify a token, decide, or record: the
//! gateway does ([`super::Source`]). On the control socket only. A GET shows no value of a statement and changes nothing; the exact
//! text and every decision need a POST with a token. Fails with an answer that says what and why.
//!
//! | page | says |
//! |---|---|
//! | `GET /holds` | every open hold, without values |
//! | `GET /holds/ID` | one, open or among the last that ended |
//! | `POST /holds/ID/show` | the same with its exact text and parameters, to an approver |
//! | `POST /holds/ID/approve`, `/deny` | one person's decision |
//! | `GET /tickets` | every ticket of which something can come, and the last that ended; an ID names a ticket wherever it names a hold |

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Source, process};
use crate::approval::holds::Open;
use crate::approval::ticket::State;
use crate::approval::{Asked, Ended, Found, Id, Ticket, quorum};
use crate::evidence::describe::hex;

/// Longest body: a token, and a reason.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Longest reason, characters: it stands in the client's error.
const REASON_CHARS_MAX: usize = 500;

/// What somebody wants to do with a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// See what exactly it would run.
    Show,
    /// Approve it.
    Approve,
    /// Deny it.
    Deny,
}

impl Act {
    fn of(word: &str) -> Option<Self> {
        match word {
            "show" => Some(Act::Show),
            "approve" => Some(Act::Approve),
            "deny" => Some(Act::Deny),
            _ => None,
        }
    }
}

/// A request of somebody who proves who he is.
pub struct Wish {
    /// Which hold.
    pub id: Id,
    /// What to do.
    pub act: Act,
    /// Who: a token of a configured issuer, not verified yet.
    pub token: SecretString,
    /// Why; empty where none is given.
    pub reason: String,
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// This is it.
    Shown(Box<Open>),
    /// It is a ticket: this one.
    Ticket(Arc<Ticket>),
    /// The approval counts; so many more are missing.
    Approved {
        /// As the evidence names the approver.
        by: String,
        /// In all needs together; 0: it goes on.
        missing: usize,
        /// It is a ticket: its statement passes when it is run again.
        ticket: bool,
    },
    /// It is denied.
    Denied {
        /// As the evidence names the approver.
        by: String,
        /// It is a ticket: its requester is told when the statement is run again.
        ticket: bool,
    },
}

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// HTTP status.
    pub status: StatusCode,
    /// One word, for programs.
    pub why: &'static str,
    /// The same for people.
    pub message: String,
}

impl Undone {
    /// An answer with this status.
    #[must_use]
    pub fn new(status: StatusCode, why: &'static str, message: impl Into<String>) -> Self {
        Self { status, why, message: message.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    token: String,
    #[serde(default)]
    reason: String,
}

/// Answers a request for `/tickets`.
pub(super) fn tickets<S: Source>(source: &S) -> Value {
    let all = source.holds().map(|holds| holds.tickets().list()).unwrap_or_default();
    json!({ "tickets": all.iter().map(|ticket| of_ticket(source, ticket)).collect::<Vec<_>>() })
}

/// A ticket without values.
fn of_ticket<S: Source>(source: &S, ticket: &Ticket) -> Value {
    let now_ms = process::now_ms();
    let people = source.holds().map(|holds| holds.settings());
    let missing = people.map(|settings| quorum::missing(&ticket.asked, &ticket.votes, &settings.people));
    let mut page = asked(&ticket.asked, &missing.unwrap_or_default());
    let state = ticket.state_at(now_ms);
    page["ticket"] = json!(true);
    page["why"] = json!(ticket.why.name());
    page["state"] = json!(state.name());
    page["left_s"] = json!(ticket.asked.expires_ms.saturating_sub(now_ms) / 1_000);
    page["approved_by"] = json!(ticket.votes.iter().map(|vote| vote.by.name()).collect::<Vec<_>>());
    page["reason"] = match state {
        State::Denied { by, reason } | State::Told { by, reason } => json!(format!("by {by}: {reason}")),
        State::Open | State::Approved | State::Used | State::Expired => Value::Null,
    };
    page
}

/// Answers a request below `/holds`.
pub(super) async fn page<S: Source>(source: &S, request: Request<Incoming>) -> (StatusCode, Value) {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/').skip(1);
    let (id, act) = (parts.next().filter(|id| !id.is_empty()), parts.next());
    let answered = match (request.method(), id, act, parts.next()) {
        (&Method::GET, None, None, None) => Ok(list(source)),
        (&Method::GET, Some(id), None, None) => one(source, id),
        (&Method::POST, Some(id), Some(act), None) => match (id.parse(), Act::of(act)) {
            (Ok(id), Some(act)) => wish(source, id, act, request).await,
            (Err(fault), Some(_)) => {
                Err(Undone::new(StatusCode::NOT_FOUND, "no-id", format!("{id} {fault}")))
            }
            (_, None) => Err(unknown()),
        },
        (_, _, _, _) => Err(unknown()),
    };
    answered
        .unwrap_or_else(|Undone { status, why, message }| (status, json!({ "why": why, "error": message })))
}

fn unknown() -> Undone {
    let what = "there are GET /holds, GET /holds/ID, and POST /holds/ID/show, approve and deny";
    Undone::new(StatusCode::NOT_FOUND, "no-page", what)
}

fn list<S: Source>(source: &S) -> (StatusCode, Value) {
    let open: Vec<Value> =
        source.holds().map(|holds| holds.list()).unwrap_or_default().iter().map(told).collect();
    (StatusCode::OK, json!({ "holds": open }))
}

fn one<S: Source>(source: &S, id: &str) -> Result<(StatusCode, Value), Undone> {
    let absent = |what: String| Undone::new(StatusCode::NOT_FOUND, "not-open", what);
    let id: Id = id.parse().map_err(|fault| absent(format!("{id} {fault}")))?;
    if let Some(ticket) = source.holds().and_then(|holds| holds.tickets().find(id)) {
        return Ok((StatusCode::OK, of_ticket(source, &ticket)));
    }
    match source.holds().and_then(|holds| holds.find(id)) {
        Some(Found::Open(open)) => Ok((StatusCode::OK, told(&open))),
        Some(Found::Ended(ended)) => Ok((StatusCode::OK, over(&ended))),
        None => Err(absent(format!("there is no hold {id}, and none of that id among the last that ended"))),
    }
}

async fn wish<S: Source>(
    source: &S,
    id: Id,
    act: Act,
    request: Request<Incoming>,
) -> Result<(StatusCode, Value), Undone> {
    let bad = |what: String| Undone::new(StatusCode::BAD_REQUEST, "bad-request", what);
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| bad(format!("the body cannot be read: {error}")))?.to_bytes();
    // What is wrong is not told in the parser's words: they may quote the token.
    let body: Body = serde_json::from_slice(&body)
        .map_err(|_| bad("the body must be {\"token\": …, \"reason\": …}".to_owned()))?;
    let reason = body.reason.trim().to_owned();
    if act == Act::Deny && reason.is_empty() {
        return Err(bad("a denial needs a reason: the requester is told".to_owned()));
    }
    if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
        return Err(bad(format!("a reason is one line of at most {REASON_CHARS_MAX} characters")));
    }
    let done = source.decide(Wish { id, act, token: SecretString::from(body.token), reason }).await?;
    let said = match done {
        Done::Shown(open) => with_values(told(&open), &open.asked),
        Done::Ticket(ticket) => with_values(of_ticket(source, &ticket), &ticket.asked),
        Done::Approved { by, missing, ticket } => json!({
            "id": id.to_string(), "decision": "approve", "by": by, "missing": missing, "ticket": ticket,
            "state": if missing == 0 { "approved" } else { "open" },
        }),
        Done::Denied { by, ticket } => json!({
            "id": id.to_string(), "decision": "deny", "by": by, "missing": 0, "ticket": ticket, "state": "denied",
        }),
    };
    Ok((StatusCode::OK, said))
}

/// A hold without values.
fn told(open: &Open) -> Value {
    let mut page = asked(&open.asked, &open.missing);
    page["state"] = json!(if open.missing.iter().all(|missing| *missing == 0) { "approved" } else { "open" });
    page["left_s"] = json!(open.asked.expires_ms.saturating_sub(process::now_ms()) / 1_000);
    page["approved_by"] = json!(open.votes.iter().map(|vote| vote.by.name()).collect::<Vec<_>>());
    page
}

fn over(ended: &Ended) -> Value {
    let mut page = asked(&ended.asked, &[]);
    page["state"] = json!(ended.how.name());
    page["reason"] = json!(ended.reason);
    page
}

/// The same with what would run, exactly.
fn with_values(mut page: Value, asked: &Asked) -> Value {
    page["text"] = json!(&*asked.text);
    page["runs"] = json!(asked.runs.iter().map(|text| &**text).collect::<Vec<_>>());
    page["parameters"] = json!(asked.parameters);
    page
}

fn asked(asked: &Asked, missing: &[usize]) -> Value {
    let Asked {
        id,
        session,
        record,
        requester,
        target,
        access,
        needs,
        message,
        statements,
        reaches,
        lifted,
        text: _,
        runs: _,
        parameters: _,
        in_transaction,
        opened_ms,
        expires_ms,
        binding,
        policy_hash,
    } = asked;
    let need = |(at, need): (usize, &crate::approval::Need)| {
        json!({
            "rule": need.rule, "groups": need.groups, "quorum": need.approval.hold.quorum,
            "missing": missing.get(at),
        })
    };
    let claims: serde_json::Map<String, Value> = requester
        .claims
        .iter()
        .map(|(path, json)| (path.clone(), serde_json::from_str(json).unwrap_or(Value::Null)))
        .collect();
    json!({
        "id": id.to_string(),
        "session": hex(session),
        "statement": record,
        "requester": {
            "issuer": requester.issuer, "subject": requester.subject, "person": requester.person,
            "groups": requester.groups, "claims": claims,
        },
        "target": target,
        "access": access,
        "needs": needs.iter().enumerate().map(need).collect::<Vec<_>>(),
        "message": message,
        "statements": statements.iter().map(|(class, tag)| json!({ "class": class, "tag": tag })).collect::<Vec<_>>(),
        "reaches": reaches,
        "lifted": &**lifted,
        "in_transaction": in_transaction,
        "opened_ms": opened_ms,
        "expires_ms": expires_ms,
        "binding": hex(binding),
        "policy": hex(policy_hash),
    })
}
