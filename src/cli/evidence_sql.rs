//! `pgturnstile evidence sql`: questions in SQL over an index that is rebuilt from the evidence.
//!
//! Owns: its arguments, when the index is built or brought up to date, and how rows are laid out. The tables are
//! [`crate::audit::index`]'s. Every run verifies the log; a question never changes anything.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::audit::columns::Cell;
use crate::audit::event::Event;
use crate::audit::index::{Index, IndexError, Questions, Rows, ValueRef};
use crate::audit::stand::{Fingerprint, Stand};
use crate::audit::tell::Teller;
use crate::audit::{csv, json};
use crate::evidence::describe::{escaped, hex};
use crate::evidence::verify::Report;

use super::out::{aligned, shortened};
use super::reading::{Fault, Reading, judged, lies_inside, proof};
use super::{Exit, Out};

/// Widest cell of the table for people, characters.
const CELL_CHARS_MAX: usize = 80;
/// Rows of the table for people, unless --limit says otherwise.
const ROWS_SHOWN: usize = 200;

/// Arguments of `evidence sql`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Ask the evidence in SQL (SQLite's): one SELECT over an index that is built from the records.

Without --index the index is private and gone with the command. With --index FILE it is kept there, and the next run adds only \
what is new; it is built anew where its records are not the log's. It must lie outside the evidence directory. Every run \
verifies the whole log first. Whoever may write FILE can make the index lie: keep it as carefully as the answers matter, or \
leave it out. A question cannot change the index, nor reach another file.

The views to begin with: statements (one row each, with who, target, verdict, rule, classes, rows, text) and reached (one row for \
each relation that a statement names; what a view, a function or a trigger reads, and the partitions below a table, are not named). Beside them: sessions, session_groups, session_claims, texts, text_relations, \
text_uses, asked, results, parameter_values, reports (errors and notices), stated (what clients say of themselves), holds, decisions, masks, events (everything \
else that is no statement), meta. src/audit/README.md tells every column.",
    after_help = "\
Examples:
  pgturnstile evidence sql evidence 'SELECT verdict, count(*) FROM statements GROUP BY 1'
  pgturnstile evidence sql evidence --index /var/tmp/evidence.db \\
    \"SELECT subject, name, sum(rows) FROM (SELECT DISTINCT s.sequence, s.subject, s.rows, r.name FROM statements s JOIN reached r USING (sequence) WHERE s.time >= '2026-11') GROUP BY 1, 2 ORDER BY 3 DESC\"
       (DISTINCT: a statement may reach a relation more than once; the rows of a join count for each relation in it)
  pgturnstile evidence sql evidence --json \"SELECT sequence, detail ->> 'reason' AS why FROM events WHERE kind = 'authentication-denied'\"
  pgturnstile evidence sql evidence --csv \"SELECT s.id, c.json FROM sessions s JOIN session_claims c ON c.session = s.key\"
  pgturnstile evidence sql evidence --index /var/tmp/evidence.db     (no question: builds it, and says what it holds)

Exit codes:
  0  the evidence is sound, the question was answered
  1  something is wrong with the evidence: the answer is about what stands before it
  2  the question, the index file or the directory cannot be used
  3  the index cannot be written"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    /// The question: one SELECT.
    #[arg(value_name = "SELECT")]
    question: Option<String>,
    /// Keep the index in this file, outside the evidence directory.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a line of titles, safe for spreadsheets as that of `evidence query`.
    #[arg(long)]
    csv: bool,
    /// Rows at most; the table for people ends at 200 without it.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
}

fn fault(error: &IndexError, index: Option<&Path>) -> Fault {
    let file = index.map(|path| format!("{}: ", path.display())).unwrap_or_default();
    match error {
        IndexError::NotOurs => Fault(Exit::Usage, format!("{file}{error}")),
        IndexError::NoQuestion | IndexError::Titles(_) => Fault(Exit::Usage, error.to_string()),
        IndexError::Sqlite(_) => Fault(Exit::Trouble, format!("{file}{}", escaped(&error.to_string()))),
    }
}

/// The index must not stand among the chained files.
fn outside(index: &Path, directory: &Path) -> Result<(), Fault> {
    match lies_inside(index, directory) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault(
            Exit::Usage,
            "--index lies inside the evidence directory, which holds chained files alone: name a file elsewhere".to_owned(),
        )),
        Err(error) => Err(Fault(Exit::Trouble, format!("{}: {error}", index.display()))),
    }
}

/// Brings the index to the log's end. `keep` what it holds, where it holds the log's own first records.
fn fill(args: &Args, index: &mut Index, keep: bool) -> Result<(Report, bool), Fault> {
    let stand = index.stand().filter(|_| keep);
    let wrong = |error: IndexError| fault(&error, args.index.as_deref());
    let mut filling = index.filling(keep).map_err(wrong)?;
    let (mut teller, mut seen, mut held) = (Teller::default(), Fingerprint::default(), None);
    let mut hear = |event: &Event| filling.take(event);
    let walked = args.reading.walk(&mut |_, record| {
        seen.take(&record.hash());
        if let Some(stand) = stand.filter(|stand| stand.records == record.sequence() + 1) {
            held = Some(seen.stand() == stand);
        }
        if held != Some(false) {
            teller.take(record, &mut hear);
        }
    });
    let report = match walked {
        Ok(report) => report,
        Err(fault) => {
            filling.give_up().map_err(wrong)?;
            return Err(fault);
        }
    };
    if stand.is_some_and(|stand| stand.records > 0) && held != Some(true) {
        filling.give_up().map_err(wrong)?;
        return Ok((report, false));
    }
    teller.finish(report.records, &mut hear);
    filling.commit(seen.stand()).map_err(wrong)?;
    Ok((report, true))
}

/// The questions' connection, over an index that holds the log, and what the log is worth.
fn ready(args: &Args, out: &mut Out<'_>) -> Result<(Questions, Report), Fault> {
    let path = args.index.as_deref();
    if let Some(path) = path {
        outside(path, &args.reading.directory)?;
    }
    let wrong = |error: IndexError| fault(&error, path);
    let mut index = Index::open(path).map_err(wrong)?;
    let before = index.stand().map_or(0, |stand: Stand| stand.records);
    let (mut report, filled) = fill(args, &mut index, true)?;
    if !filled {
        out.complain("The index holds other records than the log: it is built anew.");
        report = fill(args, &mut index, false)?.0;
    }
    if let Some(path) = path {
        let state =
            if before > 0 && filled { format!("{before} were there") } else { "built anew".to_owned() };
        out.complain(format_args!("index {}: {} records ({state})", path.display(), report.records));
    }
    Ok((index.questions(path).map_err(wrong)?, report))
}

/// Runs `evidence sql`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let (questions, report) = match ready(args, out) {
        Ok(ready) => ready,
        Err(fault) => return Ok(fault.said(out)),
    };
    let sql = args.question.as_deref().unwrap_or("SELECT name, value FROM meta");
    let mut answer =
        Answer { args, titles: Vec::new(), shown: Vec::new(), rows: 0, more: false, written: Ok(()), out };
    let asked = questions.ask(sql, &mut answer);
    let Answer { titles, shown, rows, more, written, out, .. } = answer;
    written?;
    if let Err(error) = asked {
        return Ok(match error {
            IndexError::Sqlite(_) => Fault(Exit::Usage, escaped(&error.to_string())),
            IndexError::NotOurs | IndexError::NoQuestion | IndexError::Titles(_) => fault(&error, None),
        }
        .said(out));
    }
    if !args.json && !args.csv {
        let titles: Vec<(String, bool)> = titles.iter().map(|title| (escaped(title), false)).collect();
        let titles: Vec<(&str, bool)> =
            titles.iter().map(|(title, right)| (title.as_str(), *right)).collect();
        for line in aligned(&titles, shown) {
            out.line(line)?;
        }
    }
    out.flush()?;
    let more = if more { ", and more (--limit)" } else { "" };
    out.complain(format_args!("{rows} row(s){more}; {}", proof(&report)));
    Ok(judged(&report, out))
}

/// An answer on its way out.
struct Answer<'a, 'o, 'w> {
    args: &'a Args,
    titles: Vec<String>,
    /// Rows of the table for people.
    shown: Vec<Vec<String>>,
    rows: usize,
    more: bool,
    written: io::Result<()>,
    out: &'o mut Out<'w>,
}

impl Answer<'_, '_, '_> {
    fn people(&self) -> bool {
        !self.args.json && !self.args.csv
    }
}

impl Rows for Answer<'_, '_, '_> {
    fn titles(&mut self, titles: &[String]) -> Result<(), String> {
        let double = titles.iter().enumerate().find(|(at, title)| titles[..*at].contains(title));
        if let (true, Some((_, title))) = (self.args.json, double) {
            // An object holds one value of a name: the other would be lost.
            return Err(format!("two columns are named {}: give one another name (AS)", escaped(title)));
        }
        self.titles = titles.to_vec();
        if self.args.csv {
            let titles = titles.iter().map(|title| Cell::Text(title.clone()));
            self.written = self.out.line(csv::line(titles));
        }
        Ok(())
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> bool {
        let limit = self.args.limit.unwrap_or(if self.people() { ROWS_SHOWN } else { usize::MAX });
        if self.rows == limit {
            self.more = true;
            return false;
        }
        self.rows += 1;
        let cells = values.iter().map(|value| cell(*value));
        if self.args.csv {
            self.written = self.out.line(csv::line(cells));
        } else if self.args.json {
            let fields =
                self.titles.iter().cloned().zip(cells.map(|cell| json::cell(cell).unwrap_or_default()));
            self.written = self.out.line(json::line(&Json::Object(fields.collect::<Map<String, Json>>())));
        } else {
            let shown = cells.map(|cell| shortened(&escaped(&csv::plain(&cell)), CELL_CHARS_MAX));
            self.shown.push(shown.collect());
        }
        self.written.is_ok()
    }
}

/// A value of SQLite's.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Empty,
        ValueRef::Integer(number) => Cell::Json(json!(number)),
        ValueRef::Real(number) if number.is_finite() => Cell::Json(json!(number)),
        // JSON has no such number, and NULL would be another answer; SQLite has no NaN.
        ValueRef::Real(number) => Cell::Text(if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Text(hex(bytes)),
    }
}

#[cfg(test)]
mod tests;
