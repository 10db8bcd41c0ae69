//! `pgturnstile evidence show`: the records, for people and for programs.
//!
//! Owns how a record reads. It shows only what [`crate::evidence::verify`] found sound, and says where it stopped. Every
//! string in a record came from somebody else: what could move a terminal or reorder a line is escaped in both forms.

pub(super) mod captured;
pub(super) mod timeline;

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::audit::time::rfc3339;
use crate::audit::{filter, json};
use crate::evidence::describe::{describe, hex};
use crate::evidence::format::{FLAG_CLOSES, FLAG_GATED, REFERS_TO_NONE, RecordView};
use crate::evidence::read::Position;
use crate::evidence::record::{self, Kind, Payload};

use super::reading::{Fault, NO_SESSION, Reading, judged};
use super::{Exit, Out, evidence_export, evidence_keys, evidence_query, evidence_sql, evidence_unseal};
use captured::Captured;
use timeline::Timeline;

/// Arguments of `evidence`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes stand in the help of each: pgturnstile evidence show --help")]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: EvidenceCommand,
}

#[derive(Debug, clap::Subcommand)]
enum EvidenceCommand {
    /// Show the records: a timeline of every session, or one JSON object a line.
    Show(Args),
    /// Ask what happened: by who, group, target, relation, class, verdict, rule, time, text, digest.
    Query(Box<evidence_query::Args>),
    /// Ask in SQL, over an index that is rebuilt from the records.
    Sql(evidence_sql::Args),
    /// Write events for other systems: JSON lines, CSV, HTML, OCSF; once, or as the log grows.
    Export(Box<evidence_export::Args>),
    /// Make a key that signs checkpoints.
    NewKey(evidence_keys::NewKey),
    /// Pass the signing of checkpoints on to a new key.
    RotateKey(evidence_keys::RotateKey),
    /// Make an auditor's key, to which originals of masked values are sealed.
    #[command(name = "keygen")]
    KeyGen(evidence_unseal::KeyGen),
    /// Open originals that are sealed to an auditor's key; who does and why is recorded first.
    Unseal(Box<evidence_unseal::Unseal>),
    /// Verify the evidence and print its last checkpoint, or put it into a file.
    Checkpoint(evidence_keys::LastCheckpoint),
}

/// Runs `evidence`.
///
/// # Errors
/// The output cannot be written.
pub fn run_evidence(args: &EvidenceArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    match &args.command {
        EvidenceCommand::Show(args) => run(args, out),
        EvidenceCommand::Query(args) => evidence_query::run(args, out),
        EvidenceCommand::Sql(args) => evidence_sql::run(args, out),
        EvidenceCommand::Export(args) => evidence_export::run(args, out),
        EvidenceCommand::NewKey(args) => evidence_keys::new_key(args, out),
        EvidenceCommand::RotateKey(args) => evidence_keys::rotate_key(args, out),
        EvidenceCommand::KeyGen(args) => evidence_unseal::keygen(args, out),
        EvidenceCommand::Unseal(args) => evidence_unseal::unseal(args, out),
        EvidenceCommand::Checkpoint(args) => evidence_keys::last_checkpoint(args, out),
    }
}

/// Arguments of `evidence show`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Show the records: a timeline of every session, or one JSON object a line.

The evidence is verified as it is read; only sound records are shown, and the first bad one ends it. Sessions are shown \
whole, in the order in which they ended; those without an end come last. In JSON a statement's payload also holds what \
stands in the judged text that it points to, and one of rows or COPY data their values.",
    after_help = "\
Examples:
  pgturnstile evidence show evidence
  pgturnstile evidence show evidence --session 3f2a
  pgturnstile evidence show evidence --json | jq 'select(.kind == \"refusal\")'

Exit codes:
  0  all of it was shown
  1  something is wrong with the evidence: what stands before it was shown; or no session's id begins as asked
  2  the directory cannot be read, or holds no evidence"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    /// Only sessions (or runs of the gateway) whose id begins with these hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = filter::session)]
    session: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Runs `evidence show`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let wanted = args.session.as_deref().unwrap_or_default();
    let mut met = wanted.is_empty();
    let mut timeline = Timeline::default();
    let mut texts = Texts::default();
    let mut written = Ok(());
    let mut visit = |position: Position, record: &RecordView<'_>| {
        let session = hex(&record.header().stream);
        if written.is_err() || !session.starts_with(wanted) {
            return;
        }
        met = true;
        written = if args.json {
            write_json(position, record, &session, &mut texts, out)
        } else {
            timeline.take(record, &session, out)
        };
    };
    let report = match args.reading.walk(&mut visit) {
        Ok(report) => report,
        Err(fault) => return Ok(fault.said(out)),
    };
    written?;
    timeline.finish(out)?;
    let sound = judged(&report, out);
    if met { Ok(sound) } else { Ok(Fault(Exit::No, NO_SESSION.to_owned()).said(out)) }
}

/// What later records of open sessions point to.
#[derive(Default)]
struct Texts(HashMap<String, Kept>);

/// Of one session: payloads of judged texts by number, and what its captured rows need.
#[derive(Default)]
struct Kept {
    judged: HashMap<u64, Map<String, Json>>,
    captured: Captured,
}

impl Texts {
    /// Fills a statement's payload with what stands in its judged text, and one of rows with their values; keeps what
    /// that takes until the session ends.
    fn join(
        &mut self,
        decoded: &(Kind, Payload<'_>),
        record: &RecordView<'_>,
        session: &str,
        payload: &mut Map<String, Json>,
    ) {
        let header = record.header();
        let kept = self.0.entry(session.to_owned()).or_default();
        if decoded.0 == Kind::JudgedText {
            kept.judged.insert(header.stream_sequence, payload.clone());
        }
        if decoded.0 == Kind::Statement
            && let Some(judged) = payload.get("judged").and_then(Json::as_u64)
            && let Some(text) = kept.judged.get(&judged)
        {
            payload.extend(text.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        if let Some(values) = kept.captured.take(header.stream_sequence, &decoded.1) {
            payload.remove("frames");
            payload.insert("values".to_owned(), Json::Array(values.into_iter().map(json::of).collect()));
        }
        if header.flags & FLAG_CLOSES != 0 {
            self.0.remove(session);
        }
    }
}

fn record_json(position: Position, record: &RecordView<'_>, session: &str, texts: &mut Texts) -> Json {
    let header = record.header();
    let mut object = Map::new();
    object.insert("sequence".to_owned(), json!(record.sequence()));
    object.insert("time".to_owned(), json!(rfc3339(header.wall_ns)));
    object.insert("monotonic_ns".to_owned(), json!(header.monotonic_ns));
    object.insert("session".to_owned(), json!(session));
    object.insert("session_sequence".to_owned(), json!(header.stream_sequence));
    if header.refers != REFERS_TO_NONE {
        object.insert("refers".to_owned(), json!(header.refers));
    }
    object.insert("gated".to_owned(), json!(header.flags & FLAG_GATED != 0));
    // The walk has decoded it already: what cannot be decoded never comes here.
    if let Ok(decoded) = record::payload(record) {
        object.insert("kind".to_owned(), json!(decoded.0.name()));
        let fields = describe(&decoded.1).into_iter();
        let mut payload = fields.map(|(name, value)| (name.to_owned(), json::of(value))).collect();
        texts.join(&decoded, record, session, &mut payload);
        object.insert("payload".to_owned(), Json::Object(payload));
    }
    object.insert("segment".to_owned(), json!(position.segment));
    object.insert("offset".to_owned(), json!(position.offset));
    object.insert("hash".to_owned(), json!(hex(&record.hash())));
    Json::Object(object)
}

fn write_json(
    position: Position,
    record: &RecordView<'_>,
    session: &str,
    texts: &mut Texts,
    out: &mut Out<'_>,
) -> io::Result<()> {
    writeln!(out, "{}", json::line(&record_json(position, record, session, texts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(session: Option<&str>, json: bool) -> String {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1");
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut said, &mut complained);
        let args = Args { reading: Reading::of(&golden), session: session.map(str::to_owned), json };
        assert_eq!(run(&args, &mut out).unwrap(), Exit::Yes);
        drop(out);
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn a_session_reads_from_its_opening_to_its_close() {
        let said = shown(Some("0303"), false);
        let order = [
            "session 0303",
            "from 192.0.2.7:40112",
            "who: u-17 of corp (https://id.example.com), person kim@example.com, groups analysts, dba",
            "claims: email=\"kim@example.com\"",
            "target crm-prod",
            "#4 allow by analyst.read [simple] select name from crm.customers where id = $1",
            "reaches crm.customers (read.select)",
            "-> #4 completed: SELECT 1",
            "#7 REFUSE by any.blind-write [execute, 2 parameter(s)] (withheld: syntax error; 9 bytes)",
            "crm.customers (write.delete, no predicate)",
            "refused #7 with 42501",
            "SETTING MOVED: role is dba, must be none",
            "closed by client",
        ];
        let mut rest = said.as_str();
        for part in order {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part} is not behind the others in {said}"));
            rest = &rest[at + part.len()..];
        }
        assert!(!said.contains("gateway started") && !said.contains("DENIED"));
        assert!(said.contains("[ref "), "{said}");
        assert!(shown(None, false).contains("DENIED 28000: exp 1 is before now 2"));
    }

    #[test]
    fn a_session_that_is_not_there_is_said_and_the_answer_is_no() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1");
        for json in [false, true] {
            let (mut said, mut complained) = (Vec::new(), Vec::new());
            let mut out = Out::captured(&mut said, &mut complained);
            let args = Args { reading: Reading::of(&golden), session: Some("ffff".to_owned()), json };
            assert_eq!(run(&args, &mut out).unwrap(), Exit::No);
            drop(out);
            assert!(said.is_empty());
            assert_eq!(String::from_utf8(complained).unwrap(), "error: no session's id begins so\n");
        }
    }

    #[test]
    fn every_record_is_one_json_line_and_statements_bring_their_text() {
        let said = shown(None, true);
        let records: Vec<Json> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 24);
        assert!((0..).zip(&records).all(|(at, record)| record["sequence"].as_u64() == Some(at)));
        let statement = records.iter().find(|record| record["kind"] == "statement").unwrap();
        assert_eq!(statement["payload"]["text"]["lifted"], "select name from crm.customers where id = $1");
        assert_eq!(statement["payload"]["rule"], "analyst.read");
        assert_eq!(statement["payload"]["judged"], 3);
    }
}
