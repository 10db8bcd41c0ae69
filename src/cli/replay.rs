//! `pgturnstile replay`: a session again, as it went: a transcript, in the terminal at a chosen speed, or an asciinema cast.
//!
//! Owns: what of a session is shown as typed and what as answered, and the times between. It shows what was recorded: the text with its
//! literals lifted where the exact one was not kept, rows where they were captured. May not: run anything, or print a character of
//! somebody's that could move a terminal. `--against` is `replay_against`'s.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::audit::event::{Body, Event, Exact, Statement};
use crate::audit::json;
use crate::audit::tell::Teller;
use crate::audit::time::rfc3339;
use crate::evidence::describe::{escaped, hex};
use crate::evidence::format::RecordView;
use crate::evidence::record::{self, Kind};

use super::evidence_show::captured::{self, Captured};
use super::reading::{Fault, NO_SESSION, Reading, judged, proof};
use super::replay_against::{self, Against};
use super::{Exit, Out};

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
Refusals stand out. Shown is what was recorded: a text with its literals lifted where the exact one was not kept, and rows where \
they were captured; what was masked stays masked. The evidence is verified as it is read. Nothing is run.

\
With --against the session is run again, on a scratch database that was restored to before it: each statement whose exact text and \
parameters were recorded (record = \"text\" or \"rows\"), in order, on one connection. Its tag, SQLSTATE, number of rows and digest \
of the rows are held against the recorded ones. What was masked, calls volatile functions, tells of the moment, or copies is counted \
as not comparable, or not run, with the reason. A database that is a target is refused. Settings that the client sent at its login \
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

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Who and where.
    Note,
    /// The client asked.
    Asked,
    /// It was answered.
    Answered,
    /// It was refused, or failed.
    Refused,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            What::Note => "note",
            What::Asked => "asked",
            What::Answered => "answered",
            What::Refused => "refused",
        }
    }

    /// Before a line of it, and behind, where colours may be.
    fn colour(self) -> (&'static str, &'static str) {
        match self {
            What::Note => ("\u{1b}[2m", "\u{1b}[0m"),
            What::Asked => ("\u{1b}[1m", "\u{1b}[0m"),
            What::Answered => ("", ""),
            What::Refused => ("\u{1b}[1;31m", "\u{1b}[0m"),
        }
    }
}

/// One moment of the session; its lines are safe to print.
#[derive(Clone, Debug)]
struct Step {
    at_ns: u64,
    what: What,
    lines: Vec<String>,
}

/// Collects the steps of the sessions whose id begins as was asked.
struct Collector {
    wanted: String,
    sessions: Vec<[u8; 16]>,
    teller: Teller,
    captured: Captured,
    steps: Vec<Step>,
}

impl Collector {
    fn take(&mut self, record: &RecordView<'_>) {
        let header = record.header();
        if !hex(&header.stream).starts_with(&self.wanted) {
            return;
        }
        if !self.sessions.contains(&header.stream) {
            self.sessions.push(header.stream);
        }
        // The walk has decoded it already: what cannot be decoded never comes here.
        let Ok((kind, payload)) = record::payload(record) else { return };
        if let Some(values) = self.captured.take(header.stream_sequence, &payload) {
            let lines = captured::lines(&values);
            self.steps.push(Step { at_ns: header.wall_ns, what: What::Answered, lines });
        }
        let steps = &mut self.steps;
        if !matches!(kind, Kind::Rows | Kind::CopyData | Kind::RowDescription) {
            self.teller.take(record, &mut |event| tell(event, header.wall_ns, steps));
        }
    }
}

fn tell(event: &Event, told_ns: u64, steps: &mut Vec<Step>) {
    match &event.body {
        Body::Statement(statement) => {
            steps.push(Step { at_ns: event.time_ns, what: What::Asked, lines: asked(event, statement) });
            if let Some((what, lines)) = answered(statement) {
                steps.push(Step { at_ns: told_ns, what, lines });
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
            steps.push(Step { at_ns: event.time_ns, what, lines: vec![line] });
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
    if statement.parameters > 0 {
        let values = statement.captured.parameters.iter().cloned().map(json::of).collect::<Vec<Json>>();
        let kept =
            if values.is_empty() { "by digest alone".to_owned() } else { json::line(&Json::Array(values)) };
        lines.push(format!("   {} parameter(s): {kept}", statement.parameters));
    }
    lines
}

fn answered(statement: &Statement) -> Option<(What, Vec<String>)> {
    if let Some(refusal) = &statement.refusal {
        let line = format!("REFUSED {}: {}", escaped(&refusal.sqlstate), escaped(&refusal.message));
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

/// Pauses before each step: those that were, none longer than the longest.
fn pauses(steps: &[Step], most: Duration) -> Vec<Duration> {
    let before = std::iter::once(steps.first().map_or(0, |step| step.at_ns))
        .chain(steps.iter().map(|step| step.at_ns));
    steps
        .iter()
        .zip(before)
        .map(|(step, before)| Duration::from_nanos(step.at_ns.saturating_sub(before)).min(most))
        .collect()
}

fn write_cast(path: &Path, steps: &[Step], title: &str, most: Duration) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create_new(path)?);
    let header = json!({
        "version": 2, "width": CAST_COLUMNS, "height": CAST_ROWS, "title": title,
        "timestamp": steps.first().map_or(0, |step| step.at_ns / 1_000_000_000),
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

fn show(args: &Args, steps: &[Step], out: &mut Out<'_>) -> io::Result<()> {
    let began = steps.first().map_or(0, |step| step.at_ns);
    let most = Duration::from_secs(args.pause_max_s);
    for (step, pause) in steps.iter().zip(pauses(steps, most)) {
        if args.json {
            let step = json!({ "time": rfc3339(step.at_ns), "at_ns": step.at_ns.saturating_sub(began), "what": step.what.word(), "lines": step.lines });
            out.line(json::line(&step))?;
            continue;
        }
        let time = match args.speed {
            Some(speed) => {
                out.flush()?;
                std::thread::sleep(pause.div_f64(speed));
                String::new()
            }
            None => format!("+{:>9.3} s  ", step.at_ns.saturating_sub(began) as f64 / 1e9),
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
    if args.against.against.is_some() {
        return replay_against::run(&args.reading, &wanted, &args.against, args.json, out);
    }
    let mut collector = Collector {
        wanted,
        sessions: Vec::new(),
        teller: Teller::default(),
        captured: Captured::default(),
        steps: Vec::new(),
    };
    let report = match args.reading.walk(&mut |_, record| collector.take(record)) {
        Ok(report) => report,
        Err(fault) => return Ok(fault.said(out)),
    };
    let Collector { sessions, teller, mut steps, .. } = collector;
    teller.finish(report.records, &mut |event| tell(event, event.time_ns, &mut steps));
    if sessions.len() != 1 {
        let ids: Vec<String> = sessions.iter().map(|id| hex(id)).collect();
        let what = match ids.len() {
            0 => format!("{NO_SESSION}; see pgturnstile evidence query --json"),
            count => format!("{count} sessions' ids begin so: {}", ids.join(", ")),
        };
        return Ok(Fault(Exit::No, what).said(out));
    }
    steps.sort_by_key(|step| step.at_ns);
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
    fn rows_that_were_captured_come_back() {
        let (_, lines, _) = replayed("evidence_v1_rows", &["0303"]);
        assert!(lines.contains("      | "), "{lines}");
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
