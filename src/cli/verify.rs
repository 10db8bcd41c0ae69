//! `pgturnstile verify`: is this evidence what the gateway wrote?
//!
//! Owns the report for people and programs. It judges nothing itself: [`crate::evidence::verify`]
//! does, without the gateway, its keys or its configuration. A closed pipe never turns a broken log into a good answer.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::audit::pack::manifest;
use crate::audit::time::rfc3339;
use crate::evidence::describe::hex;
use crate::evidence::verify::{End, OpenSession, Report, Signatures, Unstopped};

use super::reading::{Fault, Reading};
use super::{Exit, Out};
use pack::{EndFrom, Pack};

mod pack;

/// Open sessions that are listed one by one; the JSON report holds all.
const OPEN_LISTED_MAX: usize = 20;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Prove a directory of evidence: every byte, the chain, the order, the completeness of every session, and its end.

Needs nothing but the directory: no gateway, no configuration, and may run beside a gateway that writes there. \
Every record's hash is computed anew, every block must continue the chain, every segment the one before; the records of \
every session must be gapless from its opening to its close, and every statement must have its result; every checkpoint \
must be signed by the log's key and fit what stands before it. The first thing that is wrong is named: segment, offset, \
record.

What the directory alone cannot prove: whoever owns the disk can cut the end off, or put back an older copy. Give the last \
checkpoint that was kept elsewhere, and the log must hold what it was signed over. Without one the report says that there \
is no evidence of completeness.

A folder that `pgturnstile audit pack` made is verified too: every file against its list, the list against its note and signature, the \
evidence in it against the end that the note names, and every listing, sample, packet, transcript and page against what the evidence gives: \
they are made anew. With --key a pack must be signed by that key; --log-key is the log's own. The end is the word of whoever made the pack: give a checkpoint that was kept elsewhere.",
    after_help = "\
Examples:
  pgturnstile verify evidence --checkpoint /mnt/witness/last
  pgturnstile verify evidence --head 4f1c... --key 'pgturnstile+1a2b3c4d+AU...'
  pgturnstile verify evidence --json | jq .first_bad

Exit codes:
  0  everything that can be proven was, and the expected end, if one was given, is there
  1  something is wrong: removed, added, moved or changed, torn by a crash, behind the expected end or another than that
  2  the directory or the checkpoint cannot be read, or the directory holds no evidence"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    /// Of an audit pack: the key that signs the checkpoints of the log in it. (--key is that of the pack then.)
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `verify`.
///
/// # Errors
/// The report cannot be written; a closed pipe is no error.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let mut reading = args.reading.clone();
    if args.log_key.is_some() && !manifest::is_pack(&args.reading.directory) {
        return Ok(Fault(Exit::Usage, "--log-key is for audit packs: the key of a log is --key".to_owned())
            .said(out));
    }
    let opened = manifest::is_pack(&args.reading.directory)
        .then(|| Pack::open(&mut reading, args.log_key.as_ref()))
        .transpose();
    let mut pack = match opened {
        Ok(pack) => pack,
        Err(fault) => return Ok(fault.said(out)),
    };
    let report = match reading.walk(&mut |_, _| {}) {
        Ok(report) => report,
        Err(fault) => return Ok(fault.said(out)),
    };
    if let Some(pack) = &mut pack {
        pack.hold_against(&report, &args.reading.directory);
    }
    let end_from = pack.as_ref().map_or(EndFrom::Outside, |pack| pack.end_from);
    let whole = pack.as_ref().is_none_or(Pack::is_sound);
    let exit = if report.sound() && whole { Exit::Yes } else { Exit::No };
    let written = if args.json {
        write_json(&report, pack.as_ref(), end_from, out)
    } else {
        pack.as_ref()
            .map_or(Ok(()), |pack| pack.write(&args.reading.directory, out))
            .and_then(|()| write_text(&report, &reading.directory, end_from, out))
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit),
        other => other.map(|()| exit),
    }
}

/// What the end of a log amounts to, in words.
fn end_text(report: &Report, from: EndFrom) -> String {
    match (from, &report.end) {
        (EndFrom::Pack, End::Reached { records, .. }) => format!(
            "The evidence ends where the pack says, at {records} records. NO EVIDENCE OF COMPLETENESS: that is the word of whoever \
             made the pack. Give a checkpoint that you kept: --checkpoint FILE."
        ),
        (EndFrom::Outside, end @ End::Reached { .. }) if !report.unstopped.is_empty() => {
            let holes = report.unstopped.len();
            let said = end.to_string();
            let said = said.strip_prefix("COMPLETE").unwrap_or(&said);
            format!(
                "COMPLETE BUT FOR {holes} STRETCH(ES) before a start of the gateway that no stop precedes (no stop, above): of these nothing \
                 proves that they are all. Otherwise complete{said}"
            )
        }
        (EndFrom::Pack | EndFrom::Outside, end) => end.to_string(),
    }
}

fn unstopped_json(unstopped: &Unstopped) -> Value {
    let Unstopped { run, from_record, from_ns, to_record, to_ns } = unstopped;
    json!({ "run": run, "from_record": from_record, "from": rfc3339(*from_ns), "to_record": to_record, "to": rfc3339(*to_ns) })
}

fn open_json(session: &OpenSession) -> Value {
    json!({
        "session": hex(&session.id),
        "opened_at": session.opened_at,
        "records": session.records,
        "outcome_unknown": session.unanswered,
        "cut_off": session.cut_off,
        "missing_close": session.missing_close,
    })
}

fn signed_json(signatures: &Signatures) -> Value {
    let last = signatures.last.as_ref().map(|checkpoint| {
        json!({
            "records": checkpoint.point.records,
            "value": hex(&checkpoint.point.value),
            "time": rfc3339(checkpoint.time_ns),
            "why": checkpoint.why.word(),
            "second_place": checkpoint.second_place,
        })
    });
    let keys: Vec<String> = signatures.keys.iter().map(ToString::to_string).collect();
    json!({
        "checkpoints": signatures.checkpoints,
        "keys": keys,
        "key_is_known": signatures.key_is_known,
        "last": last,
        "longest_silence_ms": signatures.longest_silence_ns / 1_000_000,
    })
}

fn end_json(report: &Report, from: EndFrom) -> Value {
    let text = end_text(report, from);
    match &report.end {
        End::Unproven => json!({ "state": "unproven", "text": text }),
        End::NotReached => json!({ "state": "not-reached", "text": text }),
        End::Reached { records, behind } => {
            let state = if from == EndFrom::Pack { "as-the-pack-says" } else { "reached" };
            json!({ "state": state, "records": records, "behind": behind, "unproven_stretches": report.unstopped.len(), "text": text })
        }
        End::Behind { expected, there, set_back } => json!({
            "state": if *set_back { "rollback" } else { "cut-tail" },
            "expected": expected, "there": there, "text": text,
        }),
        End::Forked { records } => json!({ "state": "fork", "records": records, "text": text }),
        End::OtherLog { log_id } => json!({ "state": "other-log", "log": hex(log_id), "text": text }),
        End::WrongKey { key } => json!({ "state": "wrong-key", "key": key, "text": text }),
    }
}

fn write_json(report: &Report, pack: Option<&Pack>, end_from: EndFrom, out: &mut Out<'_>) -> io::Result<()> {
    let first_bad = report.bad.as_ref().map(|bad| {
        json!({
            "segment": bad.position.segment,
            "offset": bad.position.offset,
            "sequence": bad.position.sequence,
            "what": bad.flaw.to_string(),
            "torn_by_a_crash": report.torn,
        })
    });
    let kinds: serde_json::Map<String, Value> =
        report.kinds.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
    let open: Vec<Value> = report.open.iter().map(open_json).collect();
    let findings: Vec<Value> =
        report.findings.iter().map(|(what, text)| json!({ "what": what.name(), "text": text })).collect();
    let value = json!({
        "ok": report.sound() && pack.is_none_or(Pack::is_sound),
        "log": report.log_id.map(|id| hex(&id)),
        "segments": report.segments,
        "bytes": report.bytes,
        "records": report.records,
        "kinds": kinds,
        "head": hex(&report.head),
        "first_time": (report.records > 0).then(|| rfc3339(report.first_ns)),
        "last_time": (report.records > 0).then(|| rfc3339(report.last_ns)),
        "runs": report.runs,
        "runs_without_a_stop": report.unstopped.iter().map(unstopped_json).collect::<Vec<Value>>(),
        "sessions": { "opened": report.sessions, "closed": report.sessions_closed, "open": open },
        "being_written": report.live,
        "in_flight_bytes": report.in_flight_bytes,
        "first_bad": first_bad,
        "findings": findings,
        "signed": signed_json(&report.signatures),
        "end_proven": end_from == EndFrom::Outside && matches!(report.end, End::Reached { .. }),
        "end": end_json(report, end_from),
        "pack": pack.map(Pack::json),
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    out.line("")
}

fn write_text(report: &Report, directory: &Path, end_from: EndFrom, out: &mut Out<'_>) -> io::Result<()> {
    if let Some(bad) = &report.bad {
        out.line(format_args!("BROKEN: {}", directory.display()))?;
        out.line(format_args!(
            "  first bad: segment {}, offset {}, record {}",
            bad.position.segment, bad.position.offset, bad.position.sequence
        ))?;
        write_findings(report, out)?;
        if report.torn {
            out.line("  It looks like a write that a crash cut off: the gateway's next start cuts it there and records that.")?;
        }
        out.line("  What stands before it:")?;
    } else if report.sound() {
        out.line(format_args!("OK: {}", directory.display()))?;
    } else {
        out.line(format_args!("BROKEN: {}", directory.display()))?;
        write_findings(report, out)?;
        out.line("  What is there:")?;
    }
    write_counts(report, out)?;
    write_signed(report, out)?;
    write_unstopped(report, out)?;
    write_open(report, out)?;
    if report.live {
        out.line(format_args!(
            "A gateway is writing here: this is the state of the moment ({} bytes in flight were not judged).",
            report.in_flight_bytes
        ))?;
    }
    if report.end.is_broken() { Ok(()) } else { out.line(end_text(report, end_from)) }
}

/// What was done, by its name.
fn write_findings(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    for (what, text) in report.findings.iter().take(OPEN_LISTED_MAX) {
        out.line(format_args!("  {}: {text}", what.name()))?;
    }
    Ok(())
}

fn write_signed(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    let signatures = &report.signatures;
    let Some(last) = &signatures.last else {
        return out.line("  signed    nothing: the log holds no checkpoint");
    };
    let behind = report.records.saturating_sub(last.point.records);
    out.line(format_args!(
        "  signed    {} checkpoint(s), the last of {} over {} records ({behind} behind it); longest silence {} s",
        signatures.checkpoints,
        rfc3339(last.time_ns),
        last.point.records,
        signatures.longest_silence_ns / 1_000_000_000
    ))?;
    for key in &signatures.keys {
        let known = if signatures.key_is_known.is_some() {
            ""
        } else {
            " (give it as --key where you know it from elsewhere)"
        };
        out.line(format_args!("  key       {key}{known}"))?;
    }
    Ok(())
}

fn write_counts(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    let log = report.log_id.map_or_else(|| "unknown".to_owned(), |id| hex(&id));
    out.line(format_args!("  log       {log}"))?;
    out.line(format_args!(
        "  records   {} in {} segment(s), {} bytes; chain, order and every hash hold",
        report.records, report.segments, report.bytes
    ))?;
    if report.records > 0 {
        out.line(format_args!("  time      {} to {}", rfc3339(report.first_ns), rfc3339(report.last_ns)))?;
    }
    let kinds: Vec<String> =
        report.kinds.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    out.line(format_args!("  kinds     {}", kinds.join(", ")))?;
    out.line(format_args!(
        "  sessions  {} opened, {} complete from opening to close, {} without a close; {} run(s) of the gateway",
        report.sessions,
        report.sessions_closed,
        report.open.len(),
        report.runs
    ))?;
    out.line(format_args!("  head      {}", hex(&report.head)))
}

/// Where a run of the gateway ended without a stop: what it wrote last nothing vouches for.
fn write_unstopped(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    for unstopped in report.unstopped.iter().take(OPEN_LISTED_MAX) {
        let Unstopped { run, from_record, from_ns, to_record, to_ns } = unstopped;
        out.line(format_args!(
            "  no stop   run {run} ended without one: from record {from_record} ({}) to record {to_record} ({}) no checkpoint proves that its \
             records are all",
            rfc3339(*from_ns),
            rfc3339(*to_ns)
        ))?;
    }
    if report.unstopped.len() > OPEN_LISTED_MAX {
        let more = report.unstopped.len() - OPEN_LISTED_MAX;
        out.line(format_args!("  no stop   … and {more} more (--json lists all)"))?;
    }
    Ok(())
}

fn write_open(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    for session in report.open.iter().take(OPEN_LISTED_MAX) {
        out.line(format_args!(
            "  open      {} since record {}, {} record(s), {} statement(s) with unknown outcome{}",
            hex(&session.id),
            session.opened_at,
            session.records,
            session.unanswered,
            if session.cut_off { "; cut off: its gateway ended without closing it" } else { "" }
        ))?;
    }
    if report.open.len() > OPEN_LISTED_MAX {
        out.line(format_args!(
            "  open      … and {} more (--json lists all)",
            report.open.len() - OPEN_LISTED_MAX
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1")
    }

    fn ran(directory: PathBuf, json: bool) -> (Exit, String, String) {
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut said, &mut complained);
        let args = Args { reading: Reading::of(&directory), log_key: None, json };
        let exit = run(&args, &mut out).unwrap();
        drop(out);
        (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
    }

    #[test]
    fn sound_evidence_is_told_with_what_cannot_be_known() {
        let (exit, said, complained) = ran(golden(), false);
        assert_eq!((exit, complained.as_str()), (Exit::Yes, ""));
        assert!(said.starts_with("OK: ") && said.contains("24 in 1 segment(s)"), "{said}");
        assert!(said.contains("2 opened, 2 complete") && said.contains(End::UNPROVEN), "{said}");
        let (exit, said, _) = ran(golden(), true);
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((exit, &report["ok"], &report["end_proven"]), (Exit::Yes, &json!(true), &json!(false)));
    }

    #[test]
    fn the_first_bad_record_is_named_and_the_answer_is_no() {
        let directory = tempfile::tempdir().unwrap();
        let name = "segment-0000000000.evidence";
        let mut content = fs::read(golden().join(name)).unwrap();
        content[2_000] ^= 1;
        fs::write(directory.path().join(name), content).unwrap();
        let (exit, said, _) = ran(directory.path().to_owned(), false);
        assert_eq!(exit, Exit::No);
        assert!(said.starts_with("BROKEN: ") && said.contains("first bad: segment 0, offset "), "{said}");
        let (exit, said, _) = ran(directory.path().to_owned(), true);
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((exit, &report["ok"]), (Exit::No, &json!(false)));
        let records = report["records"].as_u64().unwrap();
        assert_eq!(report["first_bad"]["sequence"].as_u64(), Some(records));
    }

    #[test]
    fn complete_is_not_said_without_the_stretches_that_nothing_proves() {
        let mut report = Reading::of(&golden()).walk(&mut |_, _| {}).unwrap();
        report.end = End::Reached { records: 24, behind: 0 };
        assert!(end_text(&report, EndFrom::Outside).starts_with("COMPLETE: "));
        report.unstopped =
            vec![Unstopped { run: 1, from_record: 3, from_ns: 0, to_record: 9, to_ns: 1_000_000_000 }];
        assert!(end_text(&report, EndFrom::Outside).starts_with("COMPLETE BUT FOR 1 STRETCH(ES)"));
        assert_eq!(end_json(&report, EndFrom::Outside)["unproven_stretches"], 1);
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut said, &mut complained);
        write_unstopped(&report, &mut out).unwrap();
        drop(out);
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.contains("run 1 ended without one: from record 3 (1970-01-01T00:00:00Z) to record 9"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_evidence_is_a_usage_error() {
        let directory = tempfile::tempdir().unwrap();
        for missing in [directory.path().to_owned(), directory.path().join("missing")] {
            let (exit, said, complained) = ran(missing, false);
            assert_eq!((exit, said.as_str()), (Exit::Usage, ""));
            assert!(complained.starts_with("error: cannot read"), "{complained}");
        }
    }
}
