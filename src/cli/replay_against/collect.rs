//! What of a recorded session can be run again, in order.
//!
//! Owns: the way from records to runs: exact text, parameters, forms of values, what came back. May not: connect. What cannot be
//! run says why.

use std::collections::HashMap;

use pgturnstile_rules::statement::{Limits, facts_here, on_parser_stack};

use crate::audit::event::{Body, Event, Exact, Returned, Target};
use crate::audit::tell::Teller;
use crate::evidence::describe::hex;
use crate::evidence::format::RecordView;
use crate::evidence::record::v1::{
    Action, ArchivedParameter, ArchivedRowDescription, ArchivedValueKept, Facts, Protocol,
};
use crate::evidence::record::{self, Payload};

/// One bound parameter, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) type_oid: u32,
    pub(super) binary: bool,
    /// `None`: NULL.
    pub(super) value: Option<Vec<u8>>,
}

/// How a statement is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// As one Query.
    Simple,
    /// As Parse, Bind, Execute; `None`: the forms of its values were not recorded.
    Extended { parameters: Vec<Bound>, binary: Option<Vec<bool>> },
}

/// A statement that ran.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// Its number in the session.
    pub(super) number: u64,
    pub(super) sequence: u64,
    /// Its exact text, or why there is none.
    pub(super) text: Result<String, String>,
    /// How it is sent, or why it cannot be.
    pub(super) sent: Result<Sent, String>,
    /// What is known of each statement of the text.
    pub(super) facts: Vec<Facts>,
    /// Functions that the text calls, the grammar's own left out; or why it cannot be read.
    pub(super) functions: Result<Vec<String>, String>,
    /// Something of it was masked.
    pub(super) masked: bool,
    /// What came back.
    pub(super) results: Vec<Returned>,
    /// Its end is recorded.
    pub(super) settled: bool,
}

/// Collects the sessions whose ids begin as was asked.
pub(super) struct Collector {
    wanted: String,
    /// Those sessions.
    pub(super) sessions: Vec<[u8; 16]>,
    /// Where the session went.
    pub(super) target: Option<Target>,
    /// Its search path.
    pub(super) search_path: Vec<String>,
    /// Ids of the digest keys of the runs.
    pub(super) digest_keys: Vec<String>,
    teller: Teller,
    parameters: HashMap<u64, Result<Vec<Bound>, String>>,
    /// Forms of the columns by the number of their description.
    forms: HashMap<u64, Vec<bool>>,
    /// The description of a statement's rows.
    described: HashMap<u64, u64>,
    ran: Vec<Ran>,
}

impl Collector {
    pub(super) fn new(wanted: String) -> Self {
        Self {
            wanted,
            sessions: Vec::new(),
            target: None,
            search_path: Vec::new(),
            digest_keys: Vec::new(),
            teller: Teller::default(),
            parameters: HashMap::new(),
            forms: HashMap::new(),
            described: HashMap::new(),
            ran: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, record: &RecordView<'_>) {
        let header = record.header();
        // The walk has decoded it already: what cannot be decoded never comes here.
        let Ok((_, payload)) = record::payload(record) else { return };
        if let Payload::GatewayStarted(started) = &payload {
            self.digest_keys.push(started.key_id.get().to_owned());
        }
        if !hex(&header.stream).starts_with(&self.wanted) {
            return;
        }
        if !self.sessions.contains(&header.stream) {
            self.sessions.push(header.stream);
        }
        if let Payload::TargetChosen(chosen) = &payload {
            self.search_path =
                chosen.search_path.get().iter().map(|part| part.text.get().to_owned()).collect();
        } else if let Payload::Parameters(bound) = &payload {
            let values = bound.values.get().iter().map(bound_of).collect();
            self.parameters.insert(header.refers, values);
        } else if let Payload::RowDescription(description) = &payload {
            self.forms.insert(header.stream_sequence, forms_of(description));
            self.described.entry(header.refers).or_insert(header.stream_sequence);
        } else if let Payload::Rows(rows) = &payload {
            self.described.insert(header.refers, rows.described.to_native());
        }
        let (ran, target) = (&mut self.ran, &mut self.target);
        self.teller.take(record, &mut |event| hear(event, ran, target));
    }

    /// What ran, in order; `records`: how many the log holds.
    pub(super) fn finish(self, records: u64) -> Vec<Ran> {
        let Self { teller, parameters, forms, described, mut ran, mut target, .. } = self;
        teller.finish(records, &mut |event| hear(event, &mut ran, &mut target));
        ran.sort_by_key(|ran| ran.sequence);
        for one in &mut ran {
            let Ok(Sent::Extended { parameters: bound, binary }) = &mut one.sent else { continue };
            *binary = described.get(&one.number).and_then(|number| forms.get(number)).cloned();
            match parameters.get(&one.number) {
                Some(Ok(values)) => *bound = values.clone(),
                Some(Err(why)) => one.sent = Err(why.clone()),
                // It has none, or they are held by digest: the count tells.
                None => {}
            }
        }
        ran
    }
}

fn bound_of(parameter: &ArchivedParameter<'_>) -> Result<Bound, String> {
    let ArchivedParameter { type_oid, binary, value } = parameter;
    let value = match value {
        ArchivedValueKept::Null => None,
        ArchivedValueKept::Whole(bytes) => Some(bytes.get().to_vec()),
        ArchivedValueKept::Masked(_) => return Err("a parameter was recorded masked".to_owned()),
        ArchivedValueKept::Withheld(why) => return Err(format!("a parameter is withheld: {}", why.get())),
    };
    Ok(Bound { type_oid: type_oid.to_native(), binary: *binary, value })
}

fn forms_of(description: &ArchivedRowDescription<'_>) -> Vec<bool> {
    description.columns.get().iter().map(|column| column.binary).collect()
}

/// Names of the functions in a text. The evidence names those of users alone.
fn functions_of(text: &str) -> Result<Vec<String>, String> {
    let read = on_parser_stack(|| facts_here(text.as_bytes(), &Limits::default()));
    let facts = read.map_err(|error| format!("its text cannot be read here: {}", error.reason()))?;
    let written = facts.statements.iter().flat_map(|one| &one.functions).filter(|function| !function.implied);
    Ok(written.map(|function| function.name.name.clone()).collect())
}

fn hear(event: &Event, ran: &mut Vec<Ran>, target: &mut Option<Target>) {
    if let Some(known) = event.session.as_deref().and_then(|session| session.target.as_ref()) {
        target.get_or_insert_with(|| known.clone());
    }
    let Body::Statement(statement) = &event.body else { return };
    let allowed = match statement.action {
        // What was held and not approved was refused.
        Action::Allow | Action::Hold => true,
        Action::Refuse => false,
    };
    if !allowed || statement.runs_nothing || statement.refusal.is_some() {
        return;
    }
    let extended = |bound: u64| match bound {
        0 => Ok(Sent::Extended { parameters: Vec::new(), binary: None }),
        // Filled in where they were recorded.
        _ if statement.captured.parameters.is_empty() => {
            Err("its parameters are held by digest alone".to_owned())
        }
        _ => Ok(Sent::Extended { parameters: Vec::new(), binary: None }),
    };
    let sent = match statement.protocol {
        Protocol::Simple => Ok(Sent::Simple),
        Protocol::Execute => extended(statement.parameters),
        // The gateway asked it, not the client.
        Protocol::Injected | Protocol::Parse => return,
    };
    let sent = match (statement.outcome(), statement.action) {
        ("skipped", _) => Err("the server skipped it, behind an error".to_owned()),
        ("unknown", Action::Hold) => Err("it was held, and no end of it is known".to_owned()),
        (_, _) => sent,
    };
    let text = match statement.captured.text.as_deref() {
        Some(Exact::Whole(text)) => Ok(text.clone()),
        Some(Exact::Masked(_)) => Err("its text was recorded masked".to_owned()),
        Some(Exact::Withheld(why)) => Err(format!("its text is withheld: {why}")),
        None => Err("its exact text was not recorded (record = \"text\" or \"rows\" does)".to_owned()),
    };
    ran.push(Ran {
        number: event.number,
        sequence: event.sequence,
        functions: text.as_deref().map_or(Ok(Vec::new()), functions_of),
        text,
        sent,
        facts: statement.judged.facts.clone(),
        masked: !statement.masked.is_empty(),
        results: statement.results.clone(),
        settled: statement.settled,
    });
}

#[cfg(test)]
impl Ran {
    /// A simple query that ended.
    pub(super) fn of_test(text: &str, facts: Vec<Facts>, results: Vec<Returned>) -> Ran {
        Ran {
            number: 1,
            sequence: 1,
            text: Ok(text.to_owned()),
            sent: Ok(Sent::Simple),
            functions: functions_of(text),
            facts,
            masked: false,
            results,
            settled: true,
        }
    }
}
