//! `pgturnstile evidence keygen` and `unseal`: the auditor's key, and what was sealed to it.
//!
//! Owns: making the key; the order of an opening: verify, write down who opens what and why, durably, then show. May not: show
//! a value that no record of its own log stands before, or hold more than one sealed record. Fails closed: evidence that is
//! not sound, a log that cannot be written, a record that does not open show nothing of themselves.
//!
//! ```text
//!   verified, counted ─► Unsealed recorded and synced ─► verified again, each record opened and shown
//!          └ not sound, or nothing fits: nothing shown   └ fails: nothing shown
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::reading::{Fault, Reading, judged, lies_inside};
use super::{Exit, Out, evidence_keys};
use crate::audit::json;
use crate::config::load_key;
use crate::evidence::describe::{Value, describe, escaped, hex};
use crate::evidence::format::{REFERS_TO_NONE, RecordView};
use crate::evidence::limits::SEGMENT_BYTES_MIN;
use crate::evidence::originals::{AuditorSecret, Original};
use crate::evidence::record::v1::{ArchivedSealed, Unsealed};
use crate::evidence::record::{self, Entry, Payload};
use crate::evidence::verify::Report;
use crate::evidence::{Run, Settings, open};

/// What errors call the file.
const KEY: &str = "auditor's key";
/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 4096;

/// Arguments of `evidence keygen`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Make an auditor's key (X25519), to which a gateway seals the originals of masked values: the private half into a new file of \
mode 0600, the public half to standard output.

The auditor runs this, on a machine of their own, and gives the printed line to the gateway's operator as [evidence] \
sealing_key. The file never goes to the gateway: whoever has it can open what was sealed.",
    after_help = "\
Examples:
  pgturnstile evidence keygen auditor.private --name audit-2027 > auditor.pub

Exit codes:
  0  it was made
  2  the name cannot be used
  3  the file exists, or cannot be written"
)]
pub struct KeyGen {
    /// The file to make; it must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A name for people; it stands in the gateway's log.
    #[arg(long, default_value = "auditor")]
    name: String,
}

/// Arguments of `evidence unseal`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Open the originals of masked values that a gateway sealed to an auditor's key, and show them.

The evidence is verified first. Then one record of who opens what, and why, is written and synced into a log of its own \
(--log, a directory that is made when it is missing; `pgturnstile verify` and `evidence show` read it); only then is \
anything opened. Where that record cannot be written, nothing is shown.",
    after_help = "\
Examples:
  pgturnstile evidence unseal evidence --private-key auditor.private --log unsealings --reason 'case 4711' --session 3f2a
  pgturnstile evidence unseal evidence --private-key auditor.private --log unsealings --reason 'case 4711' --session 3f2a --statement 12 --json

Exit codes:
  0  all that fits was opened and shown
  1  the evidence is not sound, nothing that fits is sealed to this key, or a record does not open
  2  the directory cannot be read, the file holds no key, or there is no reason
  3  the log of unsealings cannot be written: nothing was shown"
)]
pub struct Unseal {
    #[command(flatten)]
    reading: Reading,
    /// The auditor's private key, as `evidence keygen` made it.
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// Why; it stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Directory of the log of unsealings.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only sessions whose id begins with these hexadecimal digits.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only what belongs to the statement of this number.
    #[arg(long, value_name = "NUMBER", requires = "session")]
    statement: Option<u64>,
    /// Print one JSON object a value.
    #[arg(long)]
    json: bool,
}

/// Runs `evidence keygen`.
///
/// # Errors
/// The output cannot be written.
pub fn keygen(args: &KeyGen, out: &mut Out<'_>) -> io::Result<Exit> {
    let made = |seed: &[u8; 32]| {
        AuditorSecret::new(&args.name, seed).map(|key| (key.key().to_string(), key.spelled()))
    };
    evidence_keys::make(KEY, &args.file, made, out)
}

/// What is to be opened.
#[derive(Default)]
struct Found {
    records: u64,
    values: u64,
    /// Sealed to other keys.
    others: u64,
}

impl Unseal {
    /// Whether a record is asked for.
    fn wants(&self, record: &RecordView<'_>) -> bool {
        let header = record.header();
        let session = self.session.as_deref().unwrap_or("").to_ascii_lowercase();
        hex(&header.stream).starts_with(&session)
            && self.statement.is_none_or(|statement| header.refers == statement)
    }

    fn filter(&self) -> String {
        match (&self.session, self.statement) {
            (Some(session), Some(statement)) => format!("session {session}, statement {statement}"),
            (Some(session), None) => format!("session {session}"),
            (None, _) => String::new(),
        }
    }

    /// Walks over the sealed records that are asked for.
    fn walk(
        &self,
        visit: &mut dyn for<'b> FnMut(&RecordView<'b>, &'b ArchivedSealed<'b>),
    ) -> Result<Report, Fault> {
        self.reading.walk(&mut |_, record| {
            if let Ok((_, Payload::Sealed(sealed))) = record::payload(record)
                && self.wants(record)
            {
                visit(record, sealed);
            }
        })
    }
}

/// Runs `evidence unseal`.
///
/// # Errors
/// The output cannot be written.
pub fn unseal(args: &Unseal, out: &mut Out<'_>) -> io::Result<Exit> {
    let (secret, found, report) = match begin(args) {
        Ok(begun) => begun,
        Err(fault) => return Ok(fault.said(out)),
    };
    if judged(&report, out) != Exit::Yes {
        return Ok(Exit::No);
    }
    let Some(log_id) = report.log_id.filter(|_| found.records > 0) else {
        let others = match found.others {
            0 => String::new(),
            others => format!("; {others} record(s) are sealed to other keys"),
        };
        out.complain(format_args!("error: nothing that fits is sealed to this key{others}"));
        return Ok(Exit::No);
    };
    if let Err(what) = write_down(args, &secret, &found, &report, &log_id) {
        let log = args.log.display();
        let what = format!("the log of unsealings {log} cannot be written, so nothing is opened: {what}");
        return Ok(Fault(Exit::Trouble, what).said(out));
    }
    show(args, &secret, &log_id, &report, out)
}

/// Everything that is known before anything is opened.
fn begin(args: &Unseal) -> Result<(AuditorSecret, Found, Report), Fault> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(Fault(
            Exit::Usage,
            format!("--reason takes 1 to {REASON_CHARS_MAX} characters: it stands in the log for good"),
        ));
    }
    let inside = lies_inside(&args.log, &args.reading.directory)
        .map_err(|error| Fault(Exit::Trouble, format!("--log {}: {error}", args.log.display())))?;
    if inside {
        let why = format!("--log {} lies in the evidence: name a folder elsewhere", args.log.display());
        return Err(Fault(Exit::Usage, why));
    }
    let text = load_key(KEY, &args.private_key).map_err(|error| Fault(Exit::Usage, error.to_string()))?;
    let secret = AuditorSecret::parse(&text)
        .map_err(|error| Fault(Exit::Usage, format!("{}: {error}", args.private_key.display())))?;
    let mut found = Found::default();
    let report = args.walk(&mut |_, sealed| {
        if sealed.key_id == *secret.key().id() {
            found.records += 1;
            found.values += sealed.values.to_native();
        } else {
            found.others += 1;
        }
    })?;
    Ok((secret, found, report))
}

/// Who runs this, by the system's word.
fn operator() -> String {
    let uid = rustix::process::getuid().as_raw();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    format!("{} (uid {uid})", named.unwrap_or("?"))
}

/// One record in the log of unsealings, on disk when this returns.
fn write_down(
    args: &Unseal,
    secret: &AuditorSecret,
    found: &Found,
    report: &Report,
    log_id: &[u8; 16],
) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    if !args.log.exists() {
        made(&args.log).map_err(|error| said(&error))?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| said(&error))?;
    // Nothing in this log is keyed; its reserve is its own.
    let settings =
        Settings { segment_bytes: SEGMENT_BYTES_MIN, reserve_bytes: 0, ..Settings::new(args.log.clone()) };
    let run = Run {
        version: format!("{} evidence unseal", env!("CARGO_PKG_VERSION")),
        configuration_hash: [0; 32],
        policy_hash: [0; 32],
    };
    let (log, _lanes) = open(&settings, &run, &[0; 32], 1).map_err(|error| said(&error))?;
    let entry = Entry::Unsealed(Unsealed {
        reason: args.reason.trim(),
        operator: &operator(),
        filter: &args.filter(),
        log_id,
        records: report.records,
        head: &report.head,
        key_id: secret.key().id(),
        sealed: found.records,
        values: found.values,
    });
    runtime.block_on(log.record(entry)).map_err(|error| said(&error))?;
    runtime.block_on(log.stop("written down")).map_err(|error| said(&error))
}

/// Its folder, for its owner alone.
fn made(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens what was counted, and shows it.
fn show(
    args: &Unseal,
    secret: &AuditorSecret,
    log_id: &[u8; 16],
    before: &Report,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let (mut written, mut exit) = (Ok(()), Exit::Yes);
    let walked = args.walk(&mut |record, sealed| {
        // What came since is not in the log of unsealings.
        let counted = record.sequence() < before.records && sealed.key_id == *secret.key().id();
        if !counted || written.is_err() {
            return;
        }
        let opened = secret.open(log_id, record, sealed);
        match opened.as_ref().map_err(Clone::clone).and_then(|opened| opened.values()) {
            Ok(values) => written = lines(args.json, record, sealed, &values, out),
            Err(error) => {
                exit = Exit::No;
                out.complain(format_args!("error: record {}: {error}", record.sequence()));
            }
        }
    });
    written?;
    Ok(match walked {
        Ok(report) if judged(&report, out) == Exit::Yes => exit,
        Ok(_) => Exit::No,
        Err(fault) => fault.said(out),
    })
}

fn lines<'b>(
    as_json: bool,
    record: &RecordView<'b>,
    sealed: &'b ArchivedSealed<'b>,
    values: &[Original<'_>],
    out: &mut Out<'_>,
) -> io::Result<()> {
    let header = record.header();
    let session = hex(&header.stream);
    let fields = describe(&Payload::Sealed(sealed));
    let field = |wanted: &str| match fields.iter().find(|(name, _)| *name == wanted) {
        Some((_, Value::Text(text))) => text.clone(),
        Some(_) | None => String::new(),
    };
    let what = field("what");
    for original in values {
        let text = std::str::from_utf8(original.value).ok();
        if as_json {
            let refers = (header.refers != REFERS_TO_NONE).then_some(header.refers);
            let value: Json = match text {
                Some(text) => json!({ "text": text }),
                None => json!({ "hex": hex(original.value) }),
            };
            out.line(json::line(&json!({
                "session": session, "number": header.stream_sequence, "statement": refers, "what": what,
                "row": original.row, "column": original.column, "value": value,
                "went_on": original.went_on, "goes_on": original.goes_on,
            })))?;
            continue;
        }
        let value = text.map_or_else(|| format!("\\x{}", hex(original.value)), escaped);
        let place = format!("row {} column {}", original.row, original.column);
        let more = if original.goes_on { " (goes on)" } else { "" };
        let statement =
            if header.refers == REFERS_TO_NONE { "-".to_owned() } else { header.refers.to_string() };
        out.line(format_args!("{session} #{statement} {what}, {place}: {value}{more}"))?;
    }
    match sealed.rest.as_ref() {
        Some(why) if !as_json => {
            out.line(format_args!("{session} the rest of this result is not sealed: {}", escaped(why.get())))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
