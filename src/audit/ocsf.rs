//! Events as OCSF, version 1.8.0: statements as Datastore Activity (6005), logins and denials as Authentication (3002).
//!
//! Owns: the mapping. Other events have no class here and are counted by who exports. `unmapped` holds what OCSF has no place
//! for. tests/e2e holds the parts of OCSF's schema that are used and validates against them.

use std::net::SocketAddr;

use serde_json::{Map, Value as Json, json};

use super::columns::{Cell, column};
use super::csv::plain;
use super::event::{Body, Event, Identity, Session, Statement};
use super::json;
use crate::evidence::describe::hex;
use crate::evidence::record::Kind;

/// The schema's version.
pub const VERSION: &str = "1.8.0";

/// Activities of class 6005, by the first word of the statement's class, or the whole.
const ACTIVITIES: [(&str, u64, &str); 9] = [
    ("read.select", 4, "Query"),
    ("read", 1, "Read"),
    ("export", 1, "Read"),
    ("write.update", 2, "Update"),
    ("write.delete", 7, "Delete"),
    ("write.truncate", 7, "Delete"),
    ("write", 5, "Write"),
    ("ddl.create", 6, "Create"),
    ("ddl.drop", 7, "Delete"),
];

/// An event as OCSF; `None` where it has no class here. `log` is the log's id.
pub fn of(event: &Event, log: &str) -> Option<Json> {
    let mut object = match &event.body {
        Body::Statement(statement) => activity(event, statement),
        Body::Record(Kind::Authenticated, _) => login(event, true),
        Body::Record(Kind::AuthenticationDenied, _) => login(event, false),
        Body::Record(..) => return None,
    };
    object.insert("time".to_owned(), json!(event.time_ns / 1_000_000));
    object.insert(
        "metadata".to_owned(),
        json!({
            "version": VERSION,
            "product": { "name": "pgturnstile", "vendor_name": "pgturnstile", "version": env!("CARGO_PKG_VERSION") },
            "uid": format!("{log}/{}", event.sequence),
            "sequence": event.sequence,
            "correlation_uid": hex(&event.stream),
            "log_name": log,
            "original_time": super::time::rfc3339(event.time_ns),
        }),
    );
    Some(Json::Object(object))
}

fn words(event: &Event, name: &str) -> String {
    column(name).map(|column| plain(&(column.cell)(event))).unwrap_or_default()
}

/// `host:port`, with the address told from a name.
fn endpoint(text: &str) -> Map<String, Json> {
    let mut endpoint = Map::new();
    if let Ok(address) = text.parse::<SocketAddr>() {
        endpoint.insert("ip".to_owned(), json!(address.ip().to_string()));
        endpoint.insert("port".to_owned(), json!(address.port()));
        return endpoint;
    }
    match text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) if !host.is_empty() && !host.starts_with('/') => {
            endpoint.insert("hostname".to_owned(), json!(host));
            endpoint.insert("port".to_owned(), json!(port));
        }
        Some(_) | None => {
            endpoint.insert("name".to_owned(), json!(if text.is_empty() { "unknown" } else { text }));
        }
    }
    endpoint
}

fn user(who: &Identity) -> Json {
    let groups: Vec<Json> = who.groups.iter().map(|group| json!({ "name": group })).collect();
    json!({
        "uid": who.subject,
        "name": who.person.as_deref().unwrap_or(&who.subject),
        "type_id": 0,
        "groups": groups,
    })
}

fn session_of(event: &Event, session: &Session) -> Json {
    let mut object = json!({ "uid": hex(&event.stream), "created_time": session.opened_ns / 1_000_000, "is_remote": true });
    if let (Some(who), Some(object)) = (&session.identity, object.as_object_mut()) {
        object.insert("issuer".to_owned(), json!(who.issuer_url));
        object.insert("credential_uid".to_owned(), json!(who.token_thumbprint));
    }
    object
}

/// What every class shares: class, activity, outcome.
fn base(class: (u64, u64), activity: (u64, &str), failed: Option<bool>) -> Map<String, Json> {
    let (category, class) = class;
    let (status_id, status) = match failed {
        Some(false) => (1, "Success"),
        Some(true) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let Json::Object(object) = json!({
        "category_uid": category,
        "class_uid": class,
        "activity_id": activity.0,
        "activity_name": activity.1,
        "type_uid": class * 100 + activity.0,
        "severity_id": if failed == Some(true) { 3 } else { 1 },
        "status_id": status_id,
        "status": status,
    }) else {
        return Map::new();
    };
    object
}

fn activity(event: &Event, statement: &Statement) -> Map<String, Json> {
    let class = statement.judged.facts.first().map(|facts| facts.class.as_str()).unwrap_or_default();
    let known = ACTIVITIES.iter().find(|(prefix, ..)| {
        class == *prefix || class.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    });
    let activity =
        known.map_or((99, if class.is_empty() { "unknown" } else { class }), |(_, id, name)| (*id, *name));
    let failed = match statement.outcome() {
        "completed" | "suspended" | "parsed" => Some(false),
        "failed" | "refused" | "skipped" => Some(true),
        _ => None,
    };
    let mut object = base((6, 6005), activity, failed);
    let text = match &statement.judged.text {
        Ok(text) => text.clone(),
        Err(why) => format!("(withheld: {why})"),
    };
    let session = event.session.as_deref();
    let mut actor = Map::new();
    actor.insert("app_name".to_owned(), json!("pgturnstile"));
    if let Some(session) = session {
        actor.insert("session".to_owned(), session_of(event, session));
        if let Some(who) = &session.identity {
            actor.insert("user".to_owned(), user(who));
            actor.insert("idp".to_owned(), json!({ "name": who.issuer, "uid": who.issuer_url }));
        }
    }
    let rule = json!({ "name": statement.judged.rule, "uid": hex(&statement.judged.policy_hash), "is_applied": true });
    actor.insert("authorizations".to_owned(), json!([{ "decision": statement.verdict(), "policy": rule }]));
    let target = session.and_then(|session| session.target.as_ref());
    let database = target.map_or("unknown", |target| target.database.as_str());
    let mut query = Map::new();
    query.insert("query_string".to_owned(), json!(text));
    query.insert("name".to_owned(), json!(class));
    if let Some(commitment) = &statement.text_commitment {
        query.insert("uid".to_owned(), json!(hex(commitment)));
    }
    query.insert(
        "bytes".to_owned(),
        json!(statement.results.iter().fold(0_u64, |sum, result| sum.saturating_add(result.bytes))),
    );
    for (name, value) in [
        ("message", json!(format!("{} {} by {}", statement.verdict(), class, statement.judged.rule))),
        ("actor", Json::Object(actor)),
        ("src_endpoint", Json::Object(endpoint(session.map_or("", |session| session.peer.as_str())))),
        ("database", json!({ "name": database, "type_id": 1, "type": "Relational" })),
        ("query_info", Json::Object(query)),
        ("type_id", json!(1)),
        ("unmapped", unmapped(event)),
    ] {
        object.insert(name.to_owned(), value);
    }
    if let Some(target) = target {
        let mut at = endpoint(&target.endpoint);
        at.insert("svc_name".to_owned(), json!(target.target));
        object.insert("dst_endpoint".to_owned(), Json::Object(at));
    }
    if let Some(relation) = statement.relations().first() {
        object.insert("table".to_owned(), json!({ "name": relation }));
    }
    outcome(&mut object, &words(event, "sqlstate"), &words(event, "refusal"));
    object
}

fn outcome(object: &mut Map<String, Json>, code: &str, detail: &str) {
    for (name, words) in [("status_code", code), ("status_detail", detail)] {
        if !words.is_empty() {
            object.insert(name.to_owned(), json!(words));
        }
    }
}

/// What OCSF has no place for.
fn unmapped(event: &Event) -> Json {
    const NAMES: [&str; 12] = [
        "number",
        "outcome",
        "classes",
        "relations",
        "rows",
        "bytes_in",
        "masked",
        "claims",
        "access",
        "parameter_digest",
        "result_digest",
        "hash",
    ];
    let cells = NAMES.iter().filter_map(|name| {
        let cell = (column(name)?.cell)(event);
        (cell != Cell::Empty).then_some(())?;
        Some(((*name).to_owned(), json::cell(cell)?))
    });
    Json::Object(cells.collect())
}

/// A login that was proven, or denied.
fn login(event: &Event, proven: bool) -> Map<String, Json> {
    let mut object = base((3, 3002), (1, "Logon"), Some(!proven));
    let session = event.session.as_deref();
    let who = session.and_then(|session| session.identity.as_ref());
    let field = |name: &str| match &event.body {
        Body::Record(_, fields) => fields
            .iter()
            .find(|(field, _)| *field == name)
            .and_then(|(_, value)| json::of(value.clone()).as_str().map(str::to_owned)),
        Body::Statement(_) => None,
    };
    let claimed = field("claimed_user").unwrap_or_else(|| "unknown".to_owned());
    let user = who.map_or_else(|| json!({ "name": claimed, "type_id": 0 }), user);
    object.insert("user".to_owned(), user);
    object.insert("service".to_owned(), json!({ "name": "pgturnstile" }));
    object.insert("is_remote".to_owned(), json!(true));
    if let Some(session) = session {
        object.insert("session".to_owned(), session_of(event, session));
        object.insert("src_endpoint".to_owned(), Json::Object(endpoint(&session.peer)));
        object.insert("dst_endpoint".to_owned(), Json::Object(endpoint(&session.listener)));
    }
    if let Some(method) = field("method") {
        object.insert("auth_protocol_id".to_owned(), json!(4));
        object.insert("auth_protocol".to_owned(), json!("OpenID"));
        object.insert("unmapped".to_owned(), json!({ "method": method, "hash": hex(&event.hash) }));
    }
    outcome(&mut object, &field("sqlstate").unwrap_or_default(), &field("reason").unwrap_or_default());
    object
}
