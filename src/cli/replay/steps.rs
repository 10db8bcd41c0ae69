//! What of a session is shown: as asked, answered, refused, held.
//!
//! Owns: the moments of a replay and their lines. May not: print, or let through a character of somebody's that could move a terminal.
//! Memory grows with what is shown of the session.

use crate::audit::event::{Body, Event, Exact, Statement};
use crate::audit::json;
use crate::evidence::describe::{Value, escaped};
use crate::evidence::format::RecordHeader;
use crate::evidence::record::v1::{ArchivedReportKind, Protocol};
use crate::evidence::record::{Kind, Payload};
use crate::evidence::reference::reference;
use serde_json::Value as Json;

use super::super::evidence_show::timeline;

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Who and where.
    Note,
    /// The client asked.
    Asked,
    /// It was answered.
    Answered,
    /// It was refused, or failed.
    Refused,
    /// It waits for people, or has waited.
    Held,
}

impl What {
    pub(super) fn word(self) -> &'static str {
        match self {
            What::Note => "note",
            What::Asked => "asked",
            What::Answered => "answered",
            What::Refused => "refused",
            What::Held => "held",
        }
    }

    /// Before a line of it, and behind, where colours may be.
    pub(super) fn colour(self) -> (&'static str, &'static str) {
        match self {
            What::Note => ("\u{1b}[2m", "\u{1b}[0m"),
            What::Asked => ("\u{1b}[1m", "\u{1b}[0m"),
            What::Answered => ("", ""),
            What::Refused => ("\u{1b}[1;31m", "\u{1b}[0m"),
            What::Held => ("\u{1b}[1;33m", "\u{1b}[0m"),
        }
    }
}

/// One moment of the session; its lines are safe to print.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// When, nanoseconds since 1970 UTC; and the sequence of the record with which it was known.
    pub(super) at: (u64, u64),
    pub(super) what: What,
    pub(super) lines: Vec<String>,
    /// Rows, or frames of a COPY, of which the lines show what fits; empty where nobody asked for them.
    pub(super) values: Vec<Value>,
}

impl Step {
    fn of(at: (u64, u64), what: What, lines: Vec<String>) -> Step {
        Step { at, what, lines, values: Vec::new() }
    }
}

/// Whether a record of this kind is a moment of its own; what it adds to a statement is not told again with that.
pub(super) fn shows(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Report
            | Kind::HoldOpened
            | Kind::HoldDecided
            | Kind::HoldEnded
            | Kind::TicketOpened
            | Kind::TicketDecided
            | Kind::TicketUsed
            | Kind::TicketEnded
            | Kind::Stated
            | Kind::CaptureEnded
            | Kind::CopiedIn
            | Kind::RowDescription
            | Kind::Notification
    )
}

/// The moment of a record that is one by itself.
pub(super) fn of_record(
    at: (u64, u64),
    kind: Kind,
    header: &RecordHeader,
    payload: &Payload<'_>,
) -> Option<Step> {
    if !shows(kind) {
        return None;
    }
    let failed =
        matches!(payload, Payload::Report(report) if matches!(report.what, ArchivedReportKind::Error));
    let waits = matches!(
        kind,
        Kind::HoldOpened
            | Kind::HoldDecided
            | Kind::HoldEnded
            | Kind::TicketOpened
            | Kind::TicketDecided
            | Kind::TicketUsed
            | Kind::TicketEnded
    );
    let what = if waits {
        What::Held
    } else if failed {
        What::Refused
    } else if matches!(kind, Kind::Stated | Kind::CaptureEnded) {
        What::Note
    } else {
        What::Answered
    };
    Some(Step::of(at, what, timeline::of_record(kind, header, payload)))
}

pub(super) fn tell(event: &Event, told_ns: u64, steps: &mut Vec<Step>) {
    let at = (event.time_ns, event.sequence);
    match &event.body {
        Body::Statement(statement) => {
            steps.push(Step::of(at, What::Asked, asked(event, statement)));
            if let Some((what, lines)) = answered(event, statement) {
                steps.push(Step::of((told_ns, event.told_at), what, lines));
            }
        }
        Body::Record(kind, fields) => {
            let what = match kind {
                Kind::AuthenticationDenied | Kind::Refusal | Kind::ProtocolViolation | Kind::SettingMoved => {
                    What::Refused
                }
                Kind::GatewayStarted
                | Kind::GatewayStopped
                | Kind::DocumentLoaded
                | Kind::Recovered
                | Kind::Checkpoint
                | Kind::KeyRotated
                | Kind::Clock
                | Kind::SessionOpened
                | Kind::Authenticated
                | Kind::TargetChosen
                | Kind::Statement
                | Kind::StatementResult
                | Kind::CancelRequested
                | Kind::SessionClosed
                | Kind::JudgedText
                | Kind::Masked
                | Kind::Proxied
                | Kind::Routed
                | Kind::Recording
                | Kind::Stated
                | Kind::StatementText
                | Kind::Parameters
                | Kind::RowDescription
                | Kind::Rows
                | Kind::CopyData
                | Kind::CaptureEnded
                | Kind::Report
                | Kind::Notification
                | Kind::CopiedIn
                | Kind::Sealed
                | Kind::Unsealed
                | Kind::HoldOpened
                | Kind::HoldDecided
                | Kind::HoldEnded
                | Kind::TicketOpened
                | Kind::TicketDecided
                | Kind::TicketUsed
                | Kind::TicketEnded => What::Note,
            };
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), json::of(value.clone())));
            let line = format!("-- {}: {}", kind.name(), json::line(&Json::Object(fields.collect())));
            steps.push(Step::of(at, what, vec![line]));
        }
    }
}

/// `who@target=> text`, and what the text's parameters are.
fn asked(event: &Event, statement: &Statement) -> Vec<String> {
    let session = event.session.as_deref();
    let who = session.and_then(|session| session.identity.as_ref()).map_or("?", |who| who.subject.as_str());
    let target =
        session.and_then(|session| session.target.as_ref()).map_or("?", |target| target.target.as_str());
    let text = match (statement.captured.text.as_deref(), &statement.judged.text) {
        (Some(Exact::Whole(exact) | Exact::Masked(exact)), _) => exact.clone(),
        (Some(Exact::Withheld(_)) | None, Ok(lifted)) => lifted.clone(),
        (Some(Exact::Withheld(_)) | None, Err(why)) => format!("(withheld: {why})"),
    };
    let prompt = format!("{}@{}", escaped(who), escaped(target));
    let mut lines: Vec<String> = text
        .split('\n')
        .enumerate()
        .map(|(at, line)| format!("{prompt}{} {}", if at == 0 { "=>" } else { "->" }, escaped(line)))
        .collect();
    let named = |what: &str, name: &str| {
        if name.is_empty() { String::new() } else { format!(" {what} {}", escaped(name)) }
    };
    let (name, portal) = (named("as", &statement.name), named("by portal", &statement.portal));
    match statement.protocol {
        Protocol::Simple => {}
        Protocol::Parse => lines.push(format!("   parsed{name}: that runs nothing yet")),
        Protocol::Execute => {
            lines.push(format!("   executed{}{portal}", named("statement", &statement.name)));
        }
        Protocol::Injected => lines.push("   asked by the gateway itself".to_owned()),
    }
    if statement.parameters > 0 {
        let values = statement.captured.parameters.iter().cloned().map(json::of).collect::<Vec<Json>>();
        let kept =
            if values.is_empty() { "by digest alone".to_owned() } else { json::line(&Json::Array(values)) };
        lines.push(format!("   {} parameter(s): {kept}", statement.parameters));
    }
    lines
}

fn answered(event: &Event, statement: &Statement) -> Option<(What, Vec<String>)> {
    if let Some(refusal) = &statement.refusal {
        let line = format!(
            "REFUSED {}: {} [ref {}]",
            escaped(&refusal.sqlstate),
            escaped(&refusal.message),
            reference(&event.stream, refusal.number)
        );
        return Some((What::Refused, vec![line]));
    }
    if statement.runs_nothing {
        return None;
    }
    let mut lines = Vec::new();
    let mut what = What::Answered;
    for result in &statement.results {
        let mut line = escaped(&result.tag);
        if let Some(state) = &result.sqlstate {
            what = What::Refused;
            line = format!("ERROR {} {line}", escaped(state));
        }
        lines.push(format!("{line}   ({} row(s), {} bytes)", result.rows, result.bytes));
    }
    for mask in &statement.masked {
        lines.push(format!("   masked {} x {} in {}", mask.count, escaped(&mask.by), escaped(&mask.place)));
    }
    if !statement.settled {
        lines.push("   (its end is not known)".to_owned());
    }
    Some((what, lines))
}
