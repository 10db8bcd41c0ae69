//! `pgturnstile verify`: is this evidence what the gateway wrote?
//!
//! Owns the report for people and programs, and the progress bar. It judges nothing itself: [`crate::evidence::verify`]
//! does, without the gateway, its keys or its configuration. A closed pipe never turns a broken log into a good answer.

use std::io;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::evidence::describe::hex;
use crate::evidence::verify::{OpenSession, Report, verify};

use super::{Exit, Out};

/// Below this the bar would be gone before it was read.
const PROGRESS_BYTES_MIN: u64 = 32 << 20;
/// Open sessions that are listed one by one; the JSON report holds all.
const OPEN_LISTED_MAX: usize = 20;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Prove a directory of evidence: every byte, the chain, the order, the completeness of every session.

Needs nothing but the directory: no gateway, no key, no configuration, and may run beside a gateway that writes there. \
Every record's hash is computed anew, every block must continue the chain, every segment the one before; the records of \
every session must be gapless from its opening to its close, and every statement must have its result. The first thing \
that is wrong is named: segment, offset, record.

What it cannot know: without a checkpoint kept elsewhere, whoever owns the disk can cut the end off, or write the whole \
log anew. The report says so.",
    after_help = "\
Examples:
  pgturnstile verify evidence
  pgturnstile verify evidence --json | jq .first_bad

Exit codes:
  0  everything that can be proven was
  1  something is wrong: removed, added, moved or changed, or torn by a crash
  2  the directory cannot be read, or holds no evidence"
)]
pub struct Args {
    /// The directory of the evidence.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `verify`.
///
/// # Errors
/// The report cannot be written; a closed pipe is no error.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let mut shown = false;
    let mut progress = |read: u64, total: u64| {
        if !shown && total >= PROGRESS_BYTES_MIN {
            shown = true;
            bar.set_length(total);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
            {
                bar.set_style(style);
            }
            // Draws nothing unless standard error is a terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if shown {
            bar.set_position(read);
        }
    };
    let verified = verify(&args.directory, &mut progress, &mut |_, _| {});
    bar.finish_and_clear();
    let report = match verified {
        Ok(report) => report,
        Err(unreadable) => {
            out.complain(format_args!("error: {unreadable}; name the directory of an [evidence] section"));
            return Ok(Exit::Usage);
        }
    };
    let exit = if report.sound() { Exit::Yes } else { Exit::No };
    let written = if args.json { write_json(&report, out) } else { write_text(&report, args, out) };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit),
        other => other.map(|()| exit),
    }
}

/// Nanoseconds since 1970 as RFC 3339.
pub(super) fn rfc3339(ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

fn open_json(session: &OpenSession) -> Value {
    json!({
        "session": hex(&session.id),
        "opened_at": session.opened_at,
        "records": session.records,
        "outcome_unknown": session.unanswered,
        "cut_off": session.cut_off,
    })
}

fn write_json(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
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
    let value = json!({
        "ok": report.sound(),
        "log": report.log_id.map(|id| hex(&id)),
        "segments": report.segments,
        "bytes": report.bytes,
        "records": report.records,
        "kinds": kinds,
        "head": hex(&report.head),
        "first_time": (report.records > 0).then(|| rfc3339(report.first_ns)),
        "last_time": (report.records > 0).then(|| rfc3339(report.last_ns)),
        "runs": report.runs,
        "sessions": { "opened": report.sessions, "closed": report.sessions_closed, "open": open },
        "being_written": report.live,
        "in_flight_bytes": report.in_flight_bytes,
        "first_bad": first_bad,
        "end_proven": false,
        "end": Report::TAIL,
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    out.line("")
}

fn write_text(report: &Report, args: &Args, out: &mut Out<'_>) -> io::Result<()> {
    if let Some(bad) = &report.bad {
        out.line(format_args!("BROKEN: {}", args.directory.display()))?;
        out.line(format_args!(
            "  first bad: segment {}, offset {}, record {}",
            bad.position.segment, bad.position.offset, bad.position.sequence
        ))?;
        out.line(format_args!("  {}", bad.flaw))?;
        if report.torn {
            out.line("  It looks like a write that a crash cut off: the gateway's next start cuts it there and records that.")?;
        }
        out.line("  What stands before it:")?;
    } else {
        out.line(format_args!("OK: {}", args.directory.display()))?;
    }
    write_counts(report, out)?;
    write_open(report, out)?;
    if report.live {
        out.line(format_args!(
            "A gateway is writing here: this is the state of the moment ({} bytes in flight were not judged).",
            report.in_flight_bytes
        ))?;
    }
    out.line(Report::TAIL)
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
    use std::path::Path;

    use super::*;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1")
    }

    fn ran(directory: PathBuf, json: bool) -> (Exit, String, String) {
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut said, &mut complained);
        let exit = run(&Args { directory, json }, &mut out).unwrap();
        drop(out);
        (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
    }

    #[test]
    fn sound_evidence_is_told_with_what_cannot_be_known() {
        let (exit, said, complained) = ran(golden(), false);
        assert_eq!((exit, complained.as_str()), (Exit::Yes, ""));
        assert!(said.starts_with("OK: ") && said.contains("24 in 1 segment(s)"), "{said}");
        assert!(said.contains("2 opened, 2 complete") && said.contains(Report::TAIL), "{said}");
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
    fn what_is_no_evidence_is_a_usage_error() {
        let directory = tempfile::tempdir().unwrap();
        for missing in [directory.path().to_owned(), directory.path().join("missing")] {
            let (exit, said, complained) = ran(missing, false);
            assert_eq!((exit, said.as_str()), (Exit::Usage, ""));
            assert!(complained.starts_with("error: cannot read"), "{complained}");
        }
    }
}
