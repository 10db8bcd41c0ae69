//! The records as sessions: who, from where, to which target, what was asked, what was decided, what came back.
//!
//! Owns the layout for people. Holds the lines of the sessions that are open at once, nothing of those that ended.

mod waits;

use std::collections::HashMap;
use std::io;

use crate::audit::time::rfc3339;
use crate::evidence::checkpoint::{Checkpoint, Why};
use crate::evidence::describe::{Value, describe, escaped};
use crate::evidence::format::{FLAG_CLOSES, REFERS_TO_NONE, RecordHeader, RecordView};
use crate::evidence::record::{self, Kind, Payload};
use crate::evidence::reference::reference;

use self::waits::{hold, ticket};
use super::super::Out;
use super::captured::{self, Captured};

/// Longest text of a statement that is shown, characters; `--json` shows all.
const TEXT_CHARS_MAX: usize = 2_000;

/// A session on its way.
struct Open {
    order: u64,
    /// Judged texts, by number in the session.
    texts: HashMap<u64, Fields>,
    captured: Captured,
    started_ns: u64,
    lines: Vec<String>,
}

/// Collects the lines of sessions and prints each when it ends.
#[derive(Default)]
pub(in crate::cli) struct Timeline {
    open: HashMap<String, Open>,
}

/// Fields of a payload, by name.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn value(&self, name: &str) -> &Value {
        self.0.iter().find(|(field, _)| *field == name).map_or(&Value::Null, |(_, value)| value)
    }

    fn text(&self, name: &str) -> String {
        plain(self.value(name))
    }

    /// A string as it stands there, not to be printed.
    fn raw(&self, name: &str) -> &str {
        if let Value::Text(text) = self.value(name) { text } else { "" }
    }

    fn number(&self, name: &str) -> u64 {
        if let Value::Unsigned(number) = self.value(name) { *number } else { 0 }
    }
}

/// A value in words.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Text(text) => one_line(text),
        Value::Bytes(bytes) => format!("({} bytes)", bytes.len()),
        Value::List(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Map(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// White space becomes one blank, what could deceive is escaped.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (at, word) in text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()).enumerate() {
        if at > 0 {
            line.push(' ');
        }
        line.push_str(&escaped(word));
    }
    match line.char_indices().nth(TEXT_CHARS_MAX) {
        Some((cut, _)) => format!("{}… ({} characters)", &line[..cut], text.chars().count()),
        None => line,
    }
}

/// `crm.customers (read.select), …` of all statements of a text.
fn reach(facts: &Value) -> String {
    let Value::List(statements) = facts else { return String::new() };
    let mut parts = Vec::new();
    for statement in statements {
        let Value::Map(fields) = statement else { continue };
        let fields = Fields(fields.clone());
        if let Value::List(relations) = fields.value("relations") {
            for relation in relations {
                let Value::Map(relation) = relation else { continue };
                let relation = Fields(relation.clone());
                let blind = if *relation.value("blind") == Value::Bool(true) { ", no predicate" } else { "" };
                parts.push(format!("{} ({}{blind})", relation.text("name"), relation.text("access")));
            }
        }
        for list in ["functions", "acts", "settings"] {
            if let Value::List(names) = fields.value(list) {
                parts.extend(names.iter().map(|name| format!("{} [{list}]", plain(name))));
            }
        }
    }
    parts.join(", ")
}

fn millis(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

/// The lines of one record, without the time before them.
fn lines(kind: Kind, header: &RecordHeader, fields: &Fields, texts: &HashMap<u64, Fields>) -> Vec<String> {
    let text = |name: &str| fields.text(name);
    match kind {
        Kind::GatewayStarted => vec![started(fields)],
        Kind::GatewayStopped => vec![format!("gateway stopped: {}", text("reason"))],
        Kind::DocumentLoaded => vec![loaded(fields)],
        Kind::Recovered => vec![recovered(fields)],
        Kind::Checkpoint => checkpoint(fields.raw("note")),
        Kind::KeyRotated => vec!["another key signs the checkpoints from here on".to_owned()],
        Kind::Clock => vec![clock(fields)],
        Kind::SessionOpened => {
            vec![format!("from {} through {}, TLS: {}", text("peer"), text("listener"), text("tls"))]
        }
        Kind::Authenticated => authenticated(fields),
        Kind::AuthenticationDenied => denied(fields),
        Kind::TargetChosen => target(fields),
        // Told with the statements that point to it.
        Kind::JudgedText => Vec::new(),
        Kind::Statement => statement(header, fields, texts),
        Kind::StatementResult => vec![result(header, fields)],
        Kind::Refusal => vec![refusal(header, fields)],
        Kind::Masked => vec![masked(header, fields)],
        Kind::Proxied => vec![format!("by load balancer {}, to {}", text("proxy"), text("destination"))],
        Kind::Routed => vec![format!("to target {} by {}", text("target"), text("by"))],
        Kind::CancelRequested => vec![format!("cancel from {}: {}", text("peer"), text("outcome"))],
        Kind::SettingMoved => vec![format!(
            "SETTING MOVED: {} is {}, must be {} ({})",
            text("name"),
            text("seen"),
            text("expected"),
            text("how")
        )],
        Kind::ProtocolViolation => {
            vec![format!("PROTOCOL VIOLATION by {}: {} at {}", text("side"), text("what"), text("offset"))]
        }
        Kind::Recording => vec![format!("records {} ({})", text("record"), text("why"))],
        Kind::Stated => vec![format!("says of itself ({}): {}", text("origin"), text("claims"))],
        Kind::StatementText => vec![format!("   text {}", kept(fields.value("text")))],
        Kind::Parameters => parameters(fields.value("values")),
        Kind::RowDescription => vec![format!("   columns {}", columns(fields.value("columns")))],
        Kind::Rows => vec![format!("   rows from {}: {}", text("first_row"), text("rows"))],
        Kind::CopyData => vec![format!("   copy data {}", text("direction"))],
        Kind::CaptureEnded => vec![format!(
            "   capture of {} ended behind {} row(s), {} bytes: {}",
            text("what"),
            text("rows"),
            text("bytes"),
            text("why")
        )],
        Kind::Report => vec![report(fields)],
        Kind::Notification => vec![format!("notification on {}: {}", text("channel"), text("payload"))],
        Kind::CopiedIn => {
            vec![format!("   copied in: {} frame(s), {} bytes", text("frames"), text("bytes"))]
        }
        Kind::Sealed => {
            vec![format!(
                "   sealed {} original(s) of {} to key {}",
                text("values"),
                text("what"),
                text("key_id")
            )]
        }
        Kind::Unsealed => vec![unsealed(fields)],
        Kind::HoldOpened | Kind::HoldDecided | Kind::HoldEnded => vec![hold(kind, fields)],
        Kind::TicketOpened | Kind::TicketDecided | Kind::TicketUsed | Kind::TicketEnded => {
            vec![ticket(kind, fields)]
        }
        Kind::SessionClosed => vec![closed(fields)],
    }
}

fn closed(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    format!("closed by {}: {} ({})", text("by"), text("reason"), text("totals"))
}

/// The lines of a record that needs no other one to be told.
pub(in crate::cli) fn of_record(kind: Kind, header: &RecordHeader, payload: &Payload<'_>) -> Vec<String> {
    lines(kind, header, &Fields(describe(payload)), &HashMap::new())
}

fn unsealed(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    format!(
        "{} opens {} original(s) in {} record(s) of log {}, asked for {}: {}",
        text("operator"),
        text("values"),
        text("sealed"),
        text("log_id"),
        text("filter"),
        text("reason")
    )
}

/// `select 1`, `masked: …`, `withheld: …`.
fn kept(value: &Value) -> String {
    match value {
        Value::Map(parts) => match parts.last() {
            Some(("whole", value)) => plain(value),
            Some(("null", _)) => "NULL".to_owned(),
            Some((how, value)) => format!("({how}) {}", plain(value)),
            None => String::new(),
        },
        Value::Null
        | Value::Bool(_)
        | Value::Unsigned(_)
        | Value::Signed(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::List(_) => plain(value),
    }
}

fn parameters(values: &Value) -> Vec<String> {
    let Value::List(values) = values else { return Vec::new() };
    (1..).zip(values).map(|(at, value)| format!("   ${at} = {}", kept(value))).collect()
}

fn columns(columns: &Value) -> String {
    let Value::List(columns) = columns else { return String::new() };
    let name = |column: &Value| {
        if let Value::Map(fields) = column { Fields(fields.clone()).text("name") } else { plain(column) }
    };
    columns.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// `error 23505: duplicate key …`.
fn report(fields: &Fields) -> String {
    let field = |code: &str| {
        let Value::List(list) = fields.value("fields") else { return None };
        list.iter().find_map(|field| {
            let Value::Map(parts) = field else { return None };
            let parts = Fields(parts.clone());
            (parts.raw("code") == code).then(|| parts.text("text"))
        })
    };
    format!(
        "   {} {}: {}",
        fields.text("what"),
        field("C").unwrap_or_default(),
        field("M").unwrap_or_default()
    )
}

/// `masked of 12: 3 x detector card in column 2, …`.
fn masked(header: &RecordHeader, fields: &Fields) -> String {
    let Value::List(counts) = fields.value("counts") else { return String::new() };
    let parts: Vec<String> = counts
        .iter()
        .map(|count| {
            let Value::Map(count) = count else { return String::new() };
            let count = Fields(count.clone());
            format!("{} x {} in {}", count.text("count"), count.text("by"), count.text("place"))
        })
        .collect();
    let of = if header.refers == REFERS_TO_NONE { String::new() } else { format!(" of {}", header.refers) };
    format!("masked{of}: {}", parts.join(", "))
}

fn started(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    format!(
        "gateway started: pgturnstile {} on {}, process {}, {} shard(s), policy {}",
        text("version"),
        text("host"),
        text("process"),
        text("shards"),
        short(&text("policy_hash"))
    )
}

fn loaded(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    let in_force = *fields.value("in_force") == Value::Bool(true);
    format!(
        "{} {}: {} -> {}, by {}; {}",
        text("document"),
        if in_force { "loaded" } else { "REFUSED, the old one stays" },
        short(&text("old_hash")),
        short(&text("new_hash")),
        text("by"),
        text("detail")
    )
}

fn recovered(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    format!(
        "RECOVERED: segment {} was cut at {} ({} bytes: {}); {} records stand before it",
        text("segment"),
        text("offset"),
        text("bytes_cut"),
        text("flaw"),
        text("next_sequence")
    )
}

/// Those of a start and of a new segment; the rest, every few seconds, would hide what was done.
fn checkpoint(note: &str) -> Vec<String> {
    match Checkpoint::open(note) {
        Ok(Checkpoint { why: Why::Interval | Why::Records, .. }) => Vec::new(),
        Ok(Checkpoint { why, point, key, .. }) => {
            vec![format!(
                "checkpoint over {} records ({}), signed by {}",
                point.records,
                why.word(),
                key.name()
            )]
        }
        Err(error) => vec![format!("NO CHECKPOINT: {error}")],
    }
}

fn clock(fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    let synchronized = match text("synchronized").as_str() {
        "" => "nothing here says that it is synchronized".to_owned(),
        service => format!("{service} says that it is synchronized"),
    };
    match text("why").as_str() {
        "step" => format!("THE CLOCK STEPPED by {} ns ({synchronized})", text("step_ns")),
        _ => format!("clock: {}, {synchronized}", text("source")),
    }
}

fn denied(fields: &Fields) -> Vec<String> {
    let text = |name: &str| fields.text(name);
    vec![
        format!("DENIED {}: {}", text("sqlstate"), text("reason")),
        format!(
            "claimed user {}, database {}; token {}; told: {}",
            text("claimed_user"),
            text("claimed_database"),
            text("token_thumbprint"),
            text("told")
        ),
    ]
}

fn target(fields: &Fields) -> Vec<String> {
    let text = |name: &str| fields.text(name);
    vec![
        format!(
            "target {} ({}, database {}, TLS: {}) as {} by access {}, {}, {}",
            text("target"),
            text("endpoint"),
            text("database"),
            text("tls"),
            text("user"),
            text("access"),
            text("mode"),
            text("durability")
        ),
        format!(
            "search_path {}; server {}, backend process {}; policy {}",
            text("search_path"),
            text("server_version"),
            text("backend_process"),
            short(&text("policy_hash"))
        ),
    ]
}

fn refusal(header: &RecordHeader, fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    let what = match header.refers {
        REFERS_TO_NONE => String::new(),
        statement => format!(" #{statement}"),
    };
    format!(
        "   refused{what} with {} by {} ({}): {} [ref {}]",
        text("sqlstate"),
        text("rule"),
        text("how"),
        text("message"),
        reference(&header.stream, header.stream_sequence)
    )
}

/// The first digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// `email="kim@example.com"`.
fn claim(claim: &Value) -> String {
    let Value::Map(parts) = claim else { return plain(claim) };
    parts.iter().map(|(_, part)| plain(part)).collect::<Vec<_>>().join("=")
}

fn authenticated(fields: &Fields) -> Vec<String> {
    let text = |name: &str| fields.text(name);
    let groups = if *fields.value("groups_known") == Value::Bool(true) {
        text("groups")
    } else {
        "unknown".to_owned()
    };
    let mut lines = vec![format!(
        "who: {} of {} ({}), person {}, groups {}; token {} by {}",
        text("subject"),
        text("issuer"),
        text("issuer_url"),
        text("person"),
        groups,
        text("token_thumbprint"),
        text("method")
    )];
    if let Value::List(claims) = fields.value("claims")
        && !claims.is_empty()
    {
        let claims: Vec<String> = claims.iter().map(claim).collect();
        lines.push(format!("claims: {}", claims.join(", ")));
    }
    lines
}

fn statement(header: &RecordHeader, fields: &Fields, texts: &HashMap<u64, Fields>) -> Vec<String> {
    let text = |name: &str| fields.text(name);
    let judged = texts.get(&fields.number("judged"));
    let of_text = |name: &str| judged.map_or_else(|| "?".to_owned(), |judged| judged.text(name));
    let shown = match judged.map(|judged| judged.value("text")) {
        Some(Value::Map(held)) => match held.first() {
            Some(("lifted", lifted)) => plain(lifted),
            Some((how, why)) => format!("({how}: {}; {} bytes)", plain(why), fields.number("text_bytes")),
            None => String::new(),
        },
        Some(_) | None => String::new(),
    };
    let action = text("action");
    let mut lines = vec![format!(
        "#{} {} by {} [{}{}] {shown}",
        header.stream_sequence,
        if action == "allow" { action } else { action.to_uppercase() },
        of_text("rule"),
        text("protocol"),
        if fields.number("parameters") > 0 {
            format!(", {} parameter(s)", text("parameters"))
        } else {
            String::new()
        }
    )];
    let reach = judged.map(|judged| reach(judged.value("facts"))).unwrap_or_default();
    if !reach.is_empty() {
        lines.push(format!("   reaches {reach}"));
    }
    lines
}

fn result(header: &RecordHeader, fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    let took = match (fields.number("started_ns"), fields.number("ended_ns")) {
        (0, _) => String::new(),
        (started, ended) => format!(", {}", millis(ended.saturating_sub(started))),
    };
    let error = if *fields.value("sqlstate") == Value::Null {
        String::new()
    } else {
        format!(" SQLSTATE {}", text("sqlstate"))
    };
    format!(
        "   -> #{} {}{error}: {} ({} row(s), {} bytes{took})",
        header.refers,
        text("outcome"),
        text("tag"),
        text("rows"),
        text("bytes")
    )
}

impl Timeline {
    /// Takes a record; prints its session if that ends with it, or the record itself if it is the gateway's.
    pub(in crate::cli) fn take(
        &mut self,
        record: &RecordView<'_>,
        session: &str,
        out: &mut Out<'_>,
    ) -> io::Result<()> {
        let header = record.header();
        // The walk has decoded it already: what cannot be decoded never comes here.
        let Ok((kind, payload)) = record::payload(record) else { return Ok(()) };
        let fields = Fields(describe(&payload));
        if matches!(
            kind,
            Kind::GatewayStarted
                | Kind::GatewayStopped
                | Kind::DocumentLoaded
                | Kind::Recovered
                | Kind::Checkpoint
                | Kind::KeyRotated
                | Kind::Clock
        ) {
            for line in lines(kind, &header, &fields, &HashMap::new()) {
                out.line(format_args!("{}  {line}", rfc3339(header.wall_ns)))?;
            }
            return Ok(());
        }
        let open = self.open.entry(session.to_owned()).or_insert_with(|| Open {
            order: record.sequence(),
            texts: HashMap::new(),
            captured: Captured::default(),
            started_ns: header.wall_ns,
            lines: Vec::new(),
        });
        let since = header.wall_ns.saturating_sub(open.started_ns);
        for (at, line) in lines(kind, &header, &fields, &open.texts).into_iter().enumerate() {
            // A record's time stands before its first line only.
            let time = if at == 0 { format!("+{}", millis(since)) } else { String::new() };
            open.lines.push(format!("  {time:>16}  {line}"));
        }
        let values = open.captured.take(header.stream_sequence, &payload).unwrap_or_default();
        open.lines.extend(captured::lines(&values).into_iter().map(|line| format!("  {:>16}  {line}", "")));
        if kind == Kind::JudgedText {
            open.texts.insert(header.stream_sequence, fields);
        }
        if header.flags & FLAG_CLOSES != 0
            && let Some(open) = self.open.remove(session)
        {
            print(session, &open, "", out)?;
        }
        Ok(())
    }

    /// Prints the sessions that have no end.
    pub(in crate::cli) fn finish(self, out: &mut Out<'_>) -> io::Result<()> {
        let mut open: Vec<(String, Open)> = self.open.into_iter().collect();
        open.sort_unstable_by_key(|(_, session)| session.order);
        for (session, open) in open {
            print(&session, &open, "  (no closing record)", out)?;
        }
        Ok(())
    }
}

fn print(session: &str, open: &Open, remark: &str, out: &mut Out<'_>) -> io::Result<()> {
    out.line(format_args!("{}  session {session}{remark}", rfc3339(open.started_ns)))?;
    for line in &open.lines {
        out.line(line)?;
    }
    Ok(())
}
