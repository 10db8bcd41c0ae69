//! `explain --each`: many texts in one run.
//!
//! Owns: the reading of JSON lines and the order of the answers. Holds one text at a time, so that a file may be of any length. May
//! not: judge otherwise than `explain` of one text does, or let one text change the next. A line that cannot be read ends
//! the run with its number; the answers before it were given.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use pgturnstile_rules::policy::offline::{Bench, TextVerdict};
use pgturnstile_rules::statement::{Unparsable, on_parser_stack};
use serde::Deserialize;

use super::super::{Exit, Out};
use super::{Answer, exit_of};

/// Longest line, bytes: the longest text that a target may take, with every byte of it escaped.
const LINE_BYTES_MAX: u64 = 6 * 67_108_864 + 4_096;

/// One line.
#[derive(Deserialize)]
#[serde(untagged, expecting = "neither a string nor an object with sql (and in_transaction)")]
enum Line {
    Bare(String),
    Whole(Whole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    sql: String,
    #[serde(default)]
    in_transaction: bool,
}

/// Judges every line of `path`, or of standard input for `-`.
///
/// # Errors
/// The texts cannot be read, or the answers cannot be written.
pub(super) fn run(
    path: &Path,
    bench: &Bench<'_>,
    notes: &[String],
    json: bool,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let mut lines: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(fault) => {
                out.complain(format_args!("error: {}: cannot be read: {fault}", path.display()));
                return Ok(Exit::Usage);
            }
        }
    };
    let mut exit = Exit::Yes;
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let (sql, in_transaction) = match serde_json::from_slice(&bytes) {
            Ok(Line::Bare(sql)) => (sql, bench.in_transaction),
            Ok(Line::Whole(whole)) => (whole.sql, bench.in_transaction || whole.in_transaction),
            Err(fault) => {
                out.complain(format_args!(
                    "error: {}:{number}: {fault}; write \"select 1\" or {{ \"sql\": \"select 1\" }}",
                    path.display()
                ));
                return Ok(Exit::Usage);
            }
        };
        let bench = Bench { in_transaction, ..*bench };
        let judged = on_parser_stack(|| bench.judge_here(&sql));
        let said = match (&judged, json) {
            (Ok(verdict), true) => print_object(number, verdict, &bench, notes, out)?,
            (Ok(verdict), false) => print_line(number, verdict, out)?,
            (Err(fault), _) => print_unparsable(number, fault, json, out)?,
        };
        if said == Exit::No {
            exit = Exit::No;
        }
    }
    Ok(exit)
}

fn print_object(
    number: u64,
    verdict: &TextVerdict,
    bench: &Bench<'_>,
    notes: &[String],
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let access = &bench.subject.access().id;
    serde_json::to_writer(&mut *out, &Answer::of(verdict, notes, access, Some(number)))?;
    out.line("")?;
    Ok(exit_of(verdict.judgement.action))
}

fn print_line(number: u64, verdict: &TextVerdict, out: &mut Out<'_>) -> io::Result<Exit> {
    let tags: Vec<&str> =
        verdict.statements.iter().filter(|one| !one.carried).map(|one| one.tree.tag).collect();
    let judgement = &verdict.judgement;
    let tags = if tags.is_empty() { "(no statement)".to_owned() } else { tags.join(", ") };
    out.line(format_args!("{number}: {:<6} {tags}", judgement.action.name()))?;
    if !judgement.message.is_empty() {
        out.line(format_args!("    {}", judgement.message))?;
    }
    Ok(exit_of(judgement.action))
}

fn print_unparsable(number: u64, fault: &Unparsable, json: bool, out: &mut Out<'_>) -> io::Result<Exit> {
    if json {
        let answer = serde_json::json!({
            "line": number, "action": "refuse", "asked": "refuse", "sqlstate": fault.sqlstate(), "message": fault.to_string(),
        });
        serde_json::to_writer(&mut *out, &answer)?;
        out.line("")?;
    } else {
        out.line(format_args!("{number}: refuse (no statement)\n    {fault}"))?;
    }
    Ok(Exit::No)
}
