//! `pgturnstile evidence query`: which statements, and other events, fit a filter.
//!
//! Owns: its arguments and how an answer is laid out. The filter is [`crate::audit::filter`]'s. It reads front to back, keeps
//! nothing, and tells only what was found sound; the answer ends with how far the evidence can be trusted.

use std::io;

use crate::audit::columns::{COLUMNS, Cell, Column, column};
use crate::audit::coverage::Coverage;
use crate::audit::event::{Body, Event, Statement};
use crate::audit::filter::Filter;
use crate::audit::tell::Teller;
use crate::audit::time::rfc3339;
use crate::audit::{csv, json};
use crate::evidence::describe::escaped;
use crate::evidence::verify::Report;

use super::asked::{self, Unmet};
use super::out::shortened;
use super::reading::{Fault, Reading, judged, proof};
use super::{Exit, Out};

/// Longest text that is shown to people, characters; JSON and CSV hold all.
const TEXT_CHARS_MAX: usize = 300;

/// Arguments of `evidence query`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Ask the evidence: which statements fit a filter, who asked for them, what was decided and what came back.

All filters that are given must hold; of one that is given several times, one must. Patterns are whole words with * for any \
characters. Without --kind only statements are told; a permitted Parse runs nothing and is told with --outcome parsed alone. \
The evidence is verified as it is read: only sound records are told, and what is broken is said on standard error, with exit \
code 1. Nothing is kept in memory but the open sessions, however long the log is.

Where nothing fits, standard error names each filter that no record fits by itself, and what there is; where --from or --to lies \
outside the log, or no gateway ran in between, it says that too: nothing is an answer only about a time that the log speaks of.

CSV is meant for spreadsheets: every text is quoted, and one that begins with =, +, -, @, a tab, a line break, an apostrophe or a \
full-width form of these gets an apostrophe before it, so that no cell becomes a formula. In every form, characters that could move \
a terminal or reorder text are escaped.",
    after_help = "\
Examples:
  pgturnstile evidence query evidence --verdict refuse --from 2026-11-01
  pgturnstile evidence query evidence --who 'kim@*' --relation 'crm.*' --class write --json
  pgturnstile evidence query evidence --claim repository=acme/crm --rows-over 10000 --csv > large-reads.csv
  pgturnstile evidence query evidence --kind authentication-denied --from 2026-11-20T00:00:00Z
  pgturnstile evidence query evidence --masked --columns time,subject,relations,rows,masked --csv
  pgturnstile evidence query evidence --ref 3F4Q2F80005
  pgturnstile evidence query evidence --kind '*' --count --json

Exit codes:
  0  all of the evidence was read and is sound; what fits was told
  1  something is wrong with the evidence: what stands before it was told
  2  the filter is wrong (a class or kind that there is not), or the directory cannot be read or holds no evidence"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    filter: Filter,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a line of titles.
    #[arg(long)]
    csv: bool,
    /// The columns of the CSV or JSON, in order.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = named)]
    columns: Vec<Named>,
    /// Stop telling behind so many; the evidence is still read to its end.
    #[arg(long, value_name = "EVENTS")]
    limit: Option<u64>,
    /// Tell how many fit, not which.
    #[arg(long, conflicts_with = "csv")]
    count: bool,
}

/// A column that was asked for.
#[derive(Clone, Copy, Debug)]
struct Named(&'static Column);

fn named(name: &str) -> Result<Named, String> {
    column(name.trim()).map(Named).ok_or_else(|| {
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        format!("the columns are {}", names.join(", "))
    })
}

/// How an answer is told.
enum Form {
    People,
    Json(Vec<&'static Column>),
    Csv(Vec<&'static Column>),
}

impl Form {
    fn of(args: &Args) -> Result<Form, Fault> {
        let asked: Vec<&'static Column> = args.columns.iter().map(|column| column.0).collect();
        if args.csv {
            return Ok(Form::Csv(if asked.is_empty() { COLUMNS.iter().collect() } else { asked }));
        }
        if args.json {
            return Ok(Form::Json(asked));
        }
        if !asked.is_empty() {
            return Err(Fault(Exit::Usage, "--columns belongs to --csv or --json".to_owned()));
        }
        Ok(Form::People)
    }

    fn title(&self, out: &mut Out<'_>) -> io::Result<()> {
        match self {
            Form::People | Form::Json(_) => Ok(()),
            Form::Csv(columns) => {
                out.line(columns.iter().map(|column| column.name).collect::<Vec<&str>>().join(","))
            }
        }
    }

    fn tell(&self, event: &Event, out: &mut Out<'_>) -> io::Result<()> {
        match self {
            Form::People => lines(event).iter().try_for_each(|line| out.line(line)),
            Form::Csv(columns) => out.line(csv::line(columns.iter().map(|column| (column.cell)(event)))),
            Form::Json(columns) if columns.is_empty() => out.line(json::event_line(event)),
            Form::Json(columns) => out.line(json::line(&json::part(event, columns))),
        }
    }
}

/// Runs `evidence query`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let form = match Form::of(args) {
        Ok(form) => form,
        Err(fault) => return Ok(fault.said(out)),
    };
    if let Some(fault) = asked::fault(&args.filter) {
        return Ok(Fault(Exit::Usage, fault).said(out));
    }
    if !args.count {
        form.title(out)?;
    }
    let (mut fits, mut told) = (0_u64, Ok(()));
    let mut unmet = Unmet::of(&args.filter);
    let mut coverage = Coverage::of(args.filter.from, args.filter.to);
    let mut hear = |event: &Event| {
        if told.is_err() {
            return;
        }
        if !args.filter.wants(event) {
            if fits == 0 {
                unmet.take(event);
            }
            return;
        }
        fits += 1;
        if !args.count && args.limit.is_none_or(|limit| fits <= limit) {
            told = form.tell(event, out);
        }
    };
    let mut teller = Teller::default();
    let walked = args.reading.walk(&mut |_, record| {
        coverage.record(record);
        teller.take(record, &mut hear);
    });
    let report = match walked {
        Ok(report) => report,
        Err(fault) => return Ok(fault.said(out)),
    };
    teller.finish(report.records, &mut hear);
    told?;
    let mut remarks = if fits == 0 { unmet.lines() } else { Vec::new() };
    if args.filter.from.is_some() || args.filter.to.is_some() {
        remarks.extend(coverage.uncovered());
        remarks.extend(coverage.pauses());
    }
    close(args, &form, Found { fits, remarks }, &report, out)
}

/// What a question came to: how many fit, and what whoever asked must know beside that.
struct Found {
    fits: u64,
    remarks: Vec<String>,
}

fn close(args: &Args, form: &Form, found: Found, report: &Report, out: &mut Out<'_>) -> io::Result<Exit> {
    let Found { fits, remarks } = found;
    if args.count {
        match form {
            Form::Json(_) => out.line(serde_json::json!({ "events": fits, "sound": report.sound() }))?,
            Form::People | Form::Csv(_) => out.line(fits)?,
        }
    }
    let shown = args.limit.unwrap_or(u64::MAX).min(fits);
    let more = if shown < fits { format!(", the first {shown} told") } else { String::new() };
    out.flush()?;
    // Beside the answer, so that a program reads the answer alone.
    remarks.iter().for_each(|remark| out.complain(remark));
    out.complain(format_args!("{fits} event(s) fit{more}; {}", proof(report)));
    Ok(judged(report, out))
}

/// An event for people: when, who, where, what; then the text.
fn lines(event: &Event) -> Vec<String> {
    let session = event.session.as_deref();
    let who = session.and_then(|session| session.identity.as_ref()).map_or_else(
        || "-".to_owned(),
        |who| match &who.person {
            Some(person) if *person != who.subject => {
                format!("{} ({})", escaped(&who.subject), escaped(person))
            }
            Some(_) | None => escaped(&who.subject),
        },
    );
    let target = session.and_then(|session| session.target.as_ref());
    let target = target.map_or_else(|| "-".to_owned(), |target| escaped(&target.target));
    let head = format!("{}  record {}  {who}  {target}", rfc3339(event.time_ns), event.sequence);
    match &event.body {
        Body::Statement(statement) => {
            let mut lines = vec![format!("{head}  {}", judgement(statement))];
            lines.push(format!("    {}", text(statement)));
            lines.extend(ended(statement).map(|line| format!("    -> {line}")));
            lines
        }
        Body::Record(kind, _) => {
            let detail = match column("detail").map(|column| (column.cell)(event)) {
                Some(Cell::Json(detail)) => json::line(&detail),
                Some(Cell::Empty | Cell::Text(_) | Cell::Number(_) | Cell::List(_)) | None => String::new(),
            };
            vec![format!("{head}  {}", kind.name()), format!("    {detail}")]
        }
    }
}

/// `REFUSE by any.blind-write  write.delete  crm.orders`.
fn judgement(statement: &Statement) -> String {
    let verdict = statement.verdict();
    let loud = if verdict == "allow" { verdict.to_owned() } else { verdict.to_uppercase() };
    format!(
        "{loud} by {}  {}  {}",
        escaped(&statement.judged.rule),
        escaped(&statement.classes().join(", ")),
        escaped(&statement.relations().join(", "))
    )
}

fn text(statement: &Statement) -> String {
    match &statement.judged.text {
        Ok(text) => {
            let words: Vec<&str> =
                text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()).collect();
            shortened(&escaped(&words.join(" ")), TEXT_CHARS_MAX)
        }
        Err(why) => format!("(withheld: {}; {} bytes)", escaped(why), statement.text_bytes),
    }
}

fn ended(statement: &Statement) -> Option<String> {
    if let Some(refusal) = &statement.refusal {
        return Some(format!("refused with {}: {}", escaped(&refusal.sqlstate), escaped(&refusal.message)));
    }
    if statement.runs_nothing {
        return None;
    }
    let tags: Vec<String> = statement.results.iter().map(|result| escaped(&result.tag)).collect();
    let state = statement.results.iter().rev().find_map(|result| result.sqlstate.as_deref());
    let state = state.map_or_else(String::new, |state| format!(" SQLSTATE {}", escaped(state)));
    let masked = match statement.masked_values() {
        0 => String::new(),
        values => format!(", {values} value(s) masked"),
    };
    Some(format!("{}{state}: {} ({} row(s){masked})", statement.outcome(), tags.join(", "), statement.rows()))
}

#[cfg(test)]
mod tests;
