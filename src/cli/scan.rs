//! `pgturnstile scan`: what a database holds, and which labels it lacks.
//!
//! Owns: its arguments, the reading of the baseline, the progress, the exit code. The scan itself is [`crate::scan`]. May not:
//! print what a server or a file of somebody's says without escaping it.

mod show;

use std::io;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgturnstile_rules::policy::Policy;
use pgturnstile_rules::policy::model::Label;
use pgturnstile_rules::policy::pattern::Pattern;

use super::explain::read_text;
use super::source::{self, Source, Wrong};
use super::{Exit, Out};
use crate::backend::{KeyCache, Login};
use crate::evidence::describe::escaped;
use crate::scan::class::Confidence;
use crate::scan::report::{self, Report, Settings};
use crate::scan::{Options, Progress, ScanError, drift, fragment, scan};

/// Longest baseline that is read, bytes.
const BASELINE_BYTES_MAX: u64 = 256 << 20;

/// Arguments of `scan`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Sample a database, read-only, and say which columns hold personal data, cards, account numbers and secrets, how sure that is, \
and which label of the policy covers each. No value is ever printed: only names, types, counts and shapes (9{3}-9{2}-9{4}, \
a@a.a), and a count below ten or a shape that few values have not exactly.

It connects to a target of the configuration with that target's own control credential (or --credential), or by --dsn \
without any configuration. One REPEATABLE READ READ ONLY transaction reads the catalog and a sample of each table: all \
rows of a small one, random pages (TABLESAMPLE SYSTEM) of a large one. Each table is read behind a savepoint that is rolled \
back to, so that its ACCESS SHARE lock goes at once. What may not be read is listed and said why; the login needs SELECT on \
what it shall look at, and nothing else.

Values are held against the gateway's own detectors. A checksum or a strict form in most values gives high confidence; a \
form without one, or a few matches, medium; the column's name alone, low. They are patterns: what is not found is not proven \
absent.",
    after_help = "\
Examples:
  pgturnstile scan --target crm                              a table for people
  pgturnstile scan --target crm --toml > labels.toml         labels to paste into the policy; then: pgturnstile check
  pgturnstile scan --target crm --json > crm.scan.json       to keep, for later
  pgturnstile scan --target crm --baseline crm.scan.json     what has changed since
  pgturnstile scan --target crm --only 'crm.*' --skip 'crm.audit_*' --rows 50000
  PGPASSWORD=… pgturnstile scan --dsn 'postgresql://me@db.example.com/crm?sslmode=verify-full&sslrootcert=ca.pem'
  pgturnstile scan --target crm --json | jq '.columns[] | select(.finding and (.label | not)) | .column'

Changes since a baseline: new and gone columns, another type, content that appeared or became another, a labelled column that \
matches nothing any more, a label that is gone, a column that could not be looked at.

Exit codes:
  0  no column at or above --min-confidence lacks a label, and nothing has changed since the baseline
  1  a column lacks one, or something has changed
  2  the arguments, the configuration, the policy or the baseline is wrong
  3  the target cannot be reached, or nothing of it could be read"
)]
pub struct Args {
    /// The target of the configuration; not needed where there is only one.
    #[arg(long, value_name = "NAME", conflicts_with = "dsn")]
    target: Option<String>,
    /// A connection URL instead of a target: postgresql://user@host:port/database?sslmode=…; the password from PGPASSWORD.
    #[arg(long, value_name = "URL", env = "PGTURNSTILE_SCAN_DSN")]
    dsn: Option<String>,
    /// The configuration file, which names the targets and the policy.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG", default_value = "pgturnstile.toml")]
    config: PathBuf,
    /// The policy whose labels count, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Another credential of the configuration than the target's control credential.
    #[arg(long, value_name = "NAME", conflicts_with = "dsn")]
    credential: Option<String>,
    /// Look at these relations only: schema.name, with `*`. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Leave these relations out. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// Rows of a relation at most.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rows: u64,
    /// Chooses the pages of a sample: the same seed, the same pages.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u32,
    /// How long reading one relation may take, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    statement_timeout_ms: u32,
    /// How long to wait for a relation that somebody has locked, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    lock_timeout_ms: u32,
    /// How long the whole may take, seconds: for so long the transaction holds VACUUM's horizon back.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit_s: u64,
    /// Also read what runs code of users or asks other servers: views, foreign tables, row security by functions.
    #[arg(long)]
    with_code: bool,
    /// Read no row: names and types alone.
    #[arg(long)]
    names_only: bool,
    /// From which confidence a finding counts: in the exit code, in drift, and as a label that is not commented out.
    #[arg(long, value_enum, default_value_t = Confidence::Medium)]
    min_confidence: Confidence,
    /// An earlier --json: say what has changed since.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "toml")]
    json: bool,
    /// Print the labels that are lacking, as a part of policy.toml.
    #[arg(long)]
    toml: bool,
}

/// What keeps a scan from beginning or ending.
enum Trouble {
    /// The arguments, or a file that they name.
    Wrong(Wrong),
    /// The target.
    Scan(ScanError),
}

impl From<Wrong> for Trouble {
    fn from(wrong: Wrong) -> Self {
        Trouble::Wrong(wrong)
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Trouble::Wrong(Wrong::Arguments(message))
    }
}

/// Runs `scan`.
///
/// # Errors
/// The report cannot be written, or no runtime can be made.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match prepare(args).and_then(|ready| runtime.block_on(ready.scan())) {
        Ok(report) => report,
        Err(Trouble::Wrong(Wrong::Files(found))) => return Ok(super::explain::complain(out, &found)),
        Err(Trouble::Wrong(Wrong::Arguments(message))) => {
            out.complain(format_args!("error: {}", escaped(&message)));
            return Ok(Exit::Usage);
        }
        Err(Trouble::Scan(error)) => {
            out.complain(format_args!("error: {}", escaped(&error.to_string())));
            return Ok(Exit::Trouble);
        }
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        out.line("")?;
    } else if args.toml {
        out.write(&fragment::fragment(&report))?;
    } else {
        show::show(&report, args.baseline.as_deref(), out)?;
    }
    if !args.names_only && !report.read_something() {
        out.complain(
            "error: nothing could be read: the login may read none of these relations. Next: name the credential of one that may by \
             --credential NAME, as [credential.NAME] of the configuration has it, or the login by --dsn",
        );
        return Ok(Exit::Trouble);
    }
    let drifted = report.drift.as_ref().is_some_and(|drift| !drift.is_empty());
    Ok(if report.unlabelled == 0 && !drifted { Exit::Yes } else { Exit::No })
}

/// Everything that a scan needs, read and checked.
struct Ready {
    source: Source,
    labels: Vec<Label>,
    options: Options,
    baseline: Option<Report>,
}

fn prepare(args: &Args) -> Result<Ready, Trouble> {
    let only = patterns("--only", &args.only)?;
    let skip = patterns("--skip", &args.skip)?;
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    let (source, policy) = match &args.dsn {
        Some(dsn) => (source::of_dsn(dsn)?, args.policy.clone()),
        None => {
            let (source, policy) =
                source::of_config(&args.config, args.target.as_deref(), args.credential.as_deref())?;
            (source, Some(args.policy.clone().unwrap_or(policy)))
        }
    };
    let labels = match policy {
        Some(policy) => Policy::load(&policy).map_err(Wrong::Files)?.model().labels.clone(),
        None => Vec::new(),
    };
    let settings = Settings {
        rows: args.rows,
        seed: args.seed,
        statement_timeout_ms: args.statement_timeout_ms,
        lock_timeout_ms: args.lock_timeout_ms,
        time_limit_s: args.time_limit_s,
        min_confidence: args.min_confidence,
    };
    let options = Options { settings, only, skip, with_code: args.with_code, names_only: args.names_only };
    Ok(Ready { source, labels, options, baseline })
}

impl Ready {
    async fn scan(self) -> Result<Report, Trouble> {
        // Draws nothing unless standard error is a terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        let mut progress = |progress: Progress<'_>| {
            bar.set_length(progress.of as u64);
            bar.set_position(progress.done as u64);
            bar.set_message(escaped(&format!("{}.{}", progress.schema, progress.name)));
        };
        let keys = KeyCache::default();
        let login = Login { credential: &self.source.credential, keys: &keys };
        let scanned = scan(&self.source.target, &login, &self.labels, &self.options, &mut progress).await;
        bar.finish_and_clear();
        let mut report = scanned.map_err(Trouble::Scan)?;
        report.drift = self.baseline.as_ref().map(|before| drift::compare(before, &report));
        Ok(report)
    }
}

fn patterns(flag: &str, given: &[String]) -> Result<Vec<Pattern>, Trouble> {
    let read = |text: &String| match Pattern::parse(text) {
        Ok(pattern @ (Pattern::Relation { .. } | Pattern::Star)) => Ok(pattern),
        Ok(Pattern::Function { .. } | Pattern::Kind(_) | Pattern::Setting(_) | Pattern::Label(_)) => {
            Err(format!("{flag} {text}: must name relations: schema.name, with `*`").into())
        }
        Err(bad) => Err(format!("{flag} {text}: {bad}").into()),
    };
    given.iter().map(read).collect()
}

fn read_baseline(path: &Path) -> Result<Report, String> {
    let text = read_text(path, BASELINE_BYTES_MAX)?;
    let fault = |what: &dyn std::fmt::Display| {
        format!("{}: is no report of pgturnstile scan --json: {what}", path.display())
    };
    let report: Report = serde_json::from_str(&text).map_err(|error| fault(&error))?;
    if report.version != report::VERSION {
        return Err(fault(&format_args!(
            "it has version {}, this program reads {}",
            report.version,
            report::VERSION
        )));
    }
    Ok(report)
}
