//! `pgturnstile replay`: a session again, as it went: a transcript, in the terminal at a chosen speed, or an asciinema cast.
//!
//! Owns: the order, the times between, and the forms. What of a session is shown, and as what, is `steps`'. It shows what was recorded: the
//! text with its literals lifted where the exact one was not kept, rows where they were captured. May not: run anything, or print a character of
//! somebody's that could move a terminal. `--against` is `replay_against`'s.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::audit::json;
use crate::audit::tell::Teller;
use crate::audit::time::rfc3339;
use crate::evidence::describe::hex;
use crate::evidence::format::RecordView;
use crate::evidence::record::{self, Kind, Payload};

use super::evidence_show::captured::{self, Captured};
use super::reading::{Fault, NO_SESSION, Reading, judged, outside, proof};
use super::replay_against::{self, Against};
use super::{Exit, Out};
use steps::{Step, What};

mod steps;

/// Size of the terminal that a cast is for.
const CAST_COLUMNS: u32 = 120;
const CAST_ROWS: u32 = 36;
/// Fewest digits of a session's id.
const ID_DIGITS_MIN: usize = 4;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Show a session again as it went: what was asked, what was decided, what came back.

As a transcript with times (the default), in the terminal at the speed that --speed names, or as an asciinema cast (version 2) for a player. \
Refusals, errors and waits for people stand out, with who decided. A text that came to be prepared is shown as parsed, and each run of it as \
executed. Shown is what was recorded: a text with its literals lifted where the exact one was not kept; rows, parameters, errors and notices where \
they were captured; what was masked stays masked. Of rows, a terminal gets ten of a record and 80 characters of a value, and … where more is there; --json has \
all under \"values\". The evidence is verified as it is read. Nothing is run.

\
With --against the session is run again, on a scratch database that was restored to before it: each statement whose exact text and \
parameters were recorded (record = \"text\" or \"rows\"), in order, on one connection. Its tag, SQLSTATE, number of rows and digest \
of the rows are held against the recorded ones. What was masked, calls volatile functions, tells of the moment, or copies is counted \
as not comparable, or not run, with the reason. A database that is a target is refused: by address, and, behind a tunnel or a proxy, by what \
the server says of itself (its start, system identifier and the database's oid), which the targets of the configuration that bear the same \
database name are asked for as well. One of that name that cannot be asked is refused too: --even-a-target says that you know better. Settings that the client sent at its login \
(TimeZone, DateStyle) are not recorded: give them to the scratch role.",
    after_help = "\
Examples:
  pgturnstile evidence query evidence --verdict refuse --json | jq -r .session | sort -u     (which session?)
  pgturnstile replay evidence 4d5f99562e51
  pgturnstile replay evidence 4d5f99562e51 --speed 4 --pause-max-s 1
  pgturnstile replay evidence 4d5f99562e51 --cast session.cast && asciinema play session.cast
  pgturnstile replay evidence 4d5f99562e51 --json
  pgturnstile replay evidence 4d5f99562e51 --against postgresql://me@127.0.0.1/scratch --digest-key state/digest.key

Exit codes:
  0  it was shown, over sound evidence; with --against: nothing that is comparable differs
  1  there is no such session, or several, or something is wrong with the evidence; with --against: something differs
  2  the arguments or the directory cannot be used; --against leads to a target
  3  the cast cannot be written; the scratch database cannot be reached, or was lost"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    /// The session, by the first digits of its id.
    #[arg(value_name = "SESSION")]
    session: String,
    /// In the terminal, with the pauses that were, so many times as fast.
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["cast", "json"], value_parser = speed)]
    speed: Option<f64>,
    /// The longest pause of --speed and --cast, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pause_max_s: u64,
    /// Write an asciinema cast into this file; it must not exist.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    cast: Option<PathBuf>,
    /// Print one JSON object a step.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    against: Against,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => Err("write a number from 0.01 to 1000".to_owned()),
    }
}

/// Collects the steps of the sessions whose id begins as was asked.
struct Collector {
    wanted: String,
    sessions: Vec<[u8; 16]>,
    teller: Teller,
    captured: Captured,
    steps: Vec<Step>,
    /// Whether every value is wanted, and not what fits a terminal alone.
    values: bool,
}

impl Collector {
    fn take(&mut self, record: &RecordView<'_>) {
        let header = record.header();
        // The walk has decoded it already: what cannot be decoded never comes here.
        let Ok((kind, payload)) = record::payload(record) else { return };
        // People decide elsewhere: it stands among the gateway's own records.
        let decided = matches!(&payload, Payload::HoldDecided(decided) if hex(&decided.session).starts_with(&self.wanted));
        if !decided && !hex(&header.stream).starts_with(&self.wanted) {
            return;
        }
        if !decided && !self.sessions.contains(&header.stream) {
            self.sessions.push(header.stream);
        }
        let at = (header.wall_ns, record.sequence());
        if let Some(step) = steps::of_record(at, kind, &header, &payload) {
            self.steps.push(step);
        }
        if let Some(values) = self.captured.take(header.stream_sequence, &payload) {
            let lines = captured::lines(&values);
            let values = if self.values { values } else { Vec::new() };
            self.steps.push(Step { at, what: What::Answered, lines, values });
        }
        if !steps::shows(kind) && !matches!(kind, Kind::Rows | Kind::CopyData) {
            let steps = &mut self.steps;
            self.teller.take(record, &mut |event| steps::tell(event, header.wall_ns, steps));
        }
    }
}

/// Pauses before each step: those that were, none longer than the longest.
fn pauses(steps: &[Step], most: Duration) -> Vec<Duration> {
    let before =
        std::iter::once(steps.first().map_or(0, |step| step.at.0)).chain(steps.iter().map(|step| step.at.0));
    steps
        .iter()
        .zip(before)
        .map(|(step, before)| Duration::from_nanos(step.at.0.saturating_sub(before)).min(most))
        .collect()
}

fn write_cast(path: &Path, steps: &[Step], title: &str, most: Duration) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create_new(path)?);
    let header = json!({
        "version": 2, "width": CAST_COLUMNS, "height": CAST_ROWS, "title": title,
        "timestamp": steps.first().map_or(0, |step| step.at.0 / 1_000_000_000),
    });
    writeln!(file, "{header}")?;
    let mut at = Duration::ZERO;
    for (step, pause) in steps.iter().zip(pauses(steps, most)) {
        at += pause;
        let (on, off) = step.what.colour();
        let text: String = step.lines.iter().map(|line| format!("{on}{line}{off}\r\n")).collect();
        writeln!(file, "{}", json!([at.as_secs_f64(), "o", text]))?;
    }
    file.flush()?;
    file.get_ref().sync_all()
}

/// A step for programs: its lines as for people, and every value that they show or cut.
fn step_json(step: &Step, began: u64) -> Json {
    let values: Vec<Json> = step.values.iter().cloned().map(json::of).collect();
    let mut told = json!({
        "time": rfc3339(step.at.0), "at_ns": step.at.0.saturating_sub(began), "what": step.what.word(), "lines": step.lines,
    });
    if !values.is_empty() {
        told["values"] = Json::Array(values);
    }
    told
}

fn show(args: &Args, steps: &[Step], out: &mut Out<'_>) -> io::Result<()> {
    let began = steps.first().map_or(0, |step| step.at.0);
    let most = Duration::from_secs(args.pause_max_s);
    for (step, pause) in steps.iter().zip(pauses(steps, most)) {
        if args.json {
            let step = step_json(step, began);
            out.line(json::line(&step))?;
            continue;
        }
        let time = match args.speed {
            Some(speed) => {
                out.flush()?;
                std::thread::sleep(pause.div_f64(speed));
                String::new()
            }
            None => format!("+{:>9.3} s  ", step.at.0.saturating_sub(began) as f64 / 1e9),
        };
        let (on, off) = if out.colour() { step.what.colour() } else { ("", "") };
        for (at, line) in step.lines.iter().enumerate() {
            let time = if at == 0 { time.clone() } else { " ".repeat(time.len()) };
            out.line(format_args!("{time}{on}{line}{off}"))?;
        }
    }
    Ok(())
}

/// Runs `replay`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let wanted = args.session.to_ascii_lowercase();
    if wanted.len() < ID_DIGITS_MIN || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = format!("write at least {ID_DIGITS_MIN} hexadecimal digits of the session's id");
        return Ok(Fault(Exit::Usage, what).said(out));
    }
    if let Some(Err(fault)) = args.cast.as_ref().map(|cast| outside(cast, &args.reading.directory)) {
        return Ok(fault.said(out));
    }
    if args.against.against.is_some() {
        return replay_against::run(&args.reading, &wanted, &args.against, args.json, out);
    }
    let mut collector = Collector {
        wanted,
        sessions: Vec::new(),
        teller: Teller::default(),
        captured: Captured::default(),
        steps: Vec::new(),
        values: args.json,
    };
    let report = match args.reading.walk(&mut |_, record| collector.take(record)) {
        Ok(report) => report,
        Err(fault) => return Ok(fault.said(out)),
    };
    let Collector { sessions, teller, mut steps, .. } = collector;
    teller.finish(report.records, &mut |event| steps::tell(event, event.time_ns, &mut steps));
    if sessions.len() != 1 {
        let ids: Vec<String> = sessions.iter().map(|id| hex(id)).collect();
        let what = match ids.len() {
            0 => format!("{NO_SESSION}; see pgturnstile evidence query --json"),
            count => format!("{count} sessions' ids begin so: {}", ids.join(", ")),
        };
        return Ok(Fault(Exit::No, what).said(out));
    }
    steps.sort_by_key(|step| step.at);
    match &args.cast {
        None => show(args, &steps, out)?,
        Some(path) => {
            let title =
                sessions.first().map(|id| format!("pgturnstile session {}", hex(id))).unwrap_or_default();
            let most = Duration::from_secs(args.pause_max_s);
            if let Err(error) = write_cast(path, &steps, &title, most) {
                return Ok(Fault(Exit::Trouble, format!("{}: {error}", path.display())).said(out));
            }
        }
    }
    out.flush()?;
    out.complain(format_args!("{} step(s); {}", steps.len(), proof(&report)));
    Ok(judged(&report, out))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::evidence::describe::is_deceptive;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn replayed(log: &str, arguments: &[&str]) -> (Exit, String, String) {
        let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(log).display().to_string();
        let line = Line::try_parse_from(["replay", &log].iter().chain(arguments)).unwrap();
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut said, &mut complained);
        let exit = run(&line.args, &mut out).unwrap();
        drop(out);
        (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
    }

    #[test]
    fn a_session_is_shown_as_it_went_with_its_refusals() {
        let (exit, said, complained) = replayed("evidence_v1", &["0303"]);
        assert_eq!(exit, Exit::Yes, "{complained}");
        let order =
            ["u-17@crm-prod=> select name from crm.customers", "SELECT 1", "REFUSED 42501", "session-closed"];
        let mut rest = said.as_str();
        for part in order {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part} is not behind the others in {said}"));
            rest = &rest[at + part.len()..];
        }
        assert!(!said.contains(|character: char| character != '\n' && is_deceptive(character)));
        let (_, fast, _) = replayed("evidence_v1", &["0303", "--speed", "1000", "--pause-max-s", "0"]);
        assert!(fast.contains("REFUSED 42501"));
        let (_, steps, _) = replayed("evidence_v1", &["0303", "--json"]);
        assert!(steps.lines().all(|line| serde_json::from_str::<Json>(line).unwrap()["lines"].is_array()));
    }

    #[test]
    fn a_cast_is_version_two_and_its_times_do_not_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.cast");
        let shown = path.display().to_string();
        let (exit, _, complained) = replayed("evidence_v1", &["0303", "--cast", &shown]);
        assert_eq!(exit, Exit::Yes, "{complained}");
        let cast = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Json> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["version"], 2);
        let times: Vec<f64> = lines[1..].iter().map(|line| line[0].as_f64().unwrap()).collect();
        assert!(times.len() > 3 && times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
        assert!(lines[1..].iter().all(|line| line[1] == "o") && cast.contains("[1;31mREFUSED"));
        let (exit, _, complained) = replayed("evidence_v1", &["0303", "--cast", &shown]);
        assert!(exit == Exit::Trouble && complained.contains("exists"), "{complained}");
    }

    #[test]
    fn a_cast_is_not_written_into_the_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1");
        let name = "segment-0000000000.evidence";
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        let cast = folder.path().join("segment-0000000001.evidence");
        let (log, shown) = (folder.path().display().to_string(), cast.display().to_string());
        let (exit, said, complained) = replayed(&log, &["0303", "--cast", &shown]);
        assert!(
            exit == Exit::Usage && said.is_empty() && complained.contains("lies in the evidence"),
            "{complained}"
        );
        assert!(!cast.exists());
    }

    #[test]
    fn what_was_captured_comes_back_with_names_errors_and_notices() {
        let (_, lines, _) = replayed("evidence_v1_rows", &["0303"]);
        for part in [
            "      | ",
            "   columns ",
            "   error 23505: duplicate key",
            "   notice 23505",
            "executed",
            "capture of",
        ] {
            assert!(lines.contains(part), "{part} is not in {lines}");
        }
        // A report is told once: as itself, and with no statement.
        assert_eq!(lines.matches("duplicate key").count(), 2, "{lines}");
        let (_, steps, _) = replayed("evidence_v1_rows", &["0303", "--json"]);
        let steps: Vec<Json> = steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(steps.iter().any(|step| step["values"][0].is_array()), "{steps:?}");
    }

    #[test]
    fn refusals_have_their_reference_and_holds_their_decision() {
        let (_, lines, _) = replayed("evidence_v1", &["0303"]);
        let refused = lines.lines().find(|line| line.contains("REFUSED 42501")).unwrap();
        assert!(refused.contains("[ref "), "{refused}");
        let (_, lines, complained) = replayed("evidence_v1_holds", &["0303"]);
        for part in ["HELD as ", " of hold ", "released"] {
            assert!(lines.contains(part), "{part} is not in {lines} {complained}");
        }
    }

    #[test]
    fn no_session_several_and_no_id_are_told_apart() {
        for (id, exit, says) in [
            ("ffff", Exit::No, "no session's id"),
            ("03", Exit::Usage, "at least 4"),
            ("zzzz", Exit::Usage, "hexadecimal"),
        ] {
            let (exited, said, complained) = replayed("evidence_v1", &[id]);
            assert!(exited == exit && said.is_empty() && complained.contains(says), "{id}: {complained}");
        }
    }
}
