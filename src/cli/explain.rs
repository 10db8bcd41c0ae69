//! `pgturnstile explain`: what the policy says of a text, and why, with file and line.
//!
//! Owns: its arguments and output, and the reading of policy, claims and fixture that `test` shares. It judges nothing
//! itself and sends the text nowhere: the same parser, resolution and judgement as a session's, on the parser's own stack.

mod each;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pgturnstile_rules::catalog::{Definitions, FIXTURE_BYTES_MAX};
use pgturnstile_rules::document::Diagnostic;
use pgturnstile_rules::policy::fixture::{self, Issuer};
use pgturnstile_rules::policy::offline::{Bench, Explained, TextVerdict};
use pgturnstile_rules::policy::{Action, Policy, Principal};
use pgturnstile_rules::statement::{Limits, on_parser_stack};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Config, Files};

use super::{Exit, Out, source};

/// Longest file of claims, bytes: a token has at most 64 KiB.
const CLAIMS_BYTES_MAX: u64 = 1 << 20;

/// Where the catalog comes from.
#[derive(Debug, clap::Args)]
pub(super) struct CatalogSource {
    /// SQL file that makes the catalog, as `pg_dump --schema-only` writes it.
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Read the catalog from this database instead: postgresql://user@host:port/database?sslmode=…; the password from PGPASSWORD.
    #[arg(long, value_name = "URL", conflicts_with = "catalog")]
    dsn: Option<String>,
}

impl CatalogSource {
    /// The catalog; `None` where none was named.
    pub(super) fn read(&self) -> Option<Result<Definitions, String>> {
        match (&self.catalog, &self.dsn) {
            (Some(path), _) => Some(read_catalog(Some(path))),
            (None, Some(dsn)) => {
                let snapshot = source::snapshot(dsn);
                Some(snapshot.map(|snapshot| Definitions { snapshot, notes: Vec::new() }))
            }
            (None, None) => None,
        }
    }

    /// What it is called in findings.
    pub(super) fn name(&self) -> String {
        self.catalog.as_ref().map_or_else(|| "--dsn".to_owned(), |path| path.display().to_string())
    }
}

/// Where the policy comes from.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// The gateway's configuration: names the policy, the issuers and the limits.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG", default_value = "pgturnstile.toml")]
    config: PathBuf,
    /// The policy alone, without a configuration.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Say what the policy makes of a text, and why: every atom of every statement, the permit that opens it or the rule that \
stands against it, with file and line.

The text is judged whole, as the first message of a session, also by the rules that no policy moves: what stands behind a \
statement that runs code, and EXECUTE, FETCH or MOVE of a name that no message before has made.

The text is sent nowhere. Names are resolved by a fixture, a SQL file of CREATE statements, or by the catalog of a database \
that --dsn names; without one, every relation is unknown.

With --each, many texts are judged in one run, each by itself: one JSON value a line, either the text as a string or \
{ \"sql\": TEXT, \"in_transaction\": true }. One line a text comes back, in the same order; with --json it is one object, \
with the line's number in \"line\".",
    after_help = "\
Examples:
  pgturnstile explain 'delete from crm.orders' --as claims/agent.json --target crm-prod --catalog fixtures/crm.sql
  pgturnstile explain - --as claims/agent.json --target crm-prod < migration.sql
  pgturnstile explain 'select 1' --as claims/agent.json --target crm-prod --json | jq .statements
  pgturnstile explain --each texts.jsonl --as claims/agent.json --target crm-prod --json | jq 'select(.action != \"allow\")'

The claims file holds the claims of a token (its iss is looked up in the configuration), or names the issuer itself:
  { \"issuer\": \"corp\", \"claims\": { \"sub\": \"agent-7\", \"groups\": [\"bi\"] } }

Exit codes:
  0  it would pass (all of it, with --each)
  1  it would be refused (some of it)
  2  the policy, the claims, the fixture or a line of --each is wrong"
)]
pub struct Args {
    /// The text, or - for standard input.
    #[arg(value_name = "SQL", required_unless_present = "each")]
    sql: Option<String>,
    /// File of texts, one JSON value a line, or - for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    each: Option<PathBuf>,
    /// JSON file with the claims of who asks.
    #[arg(long = "as", value_name = "FILE")]
    who: PathBuf,
    /// Name of the target.
    #[arg(long, value_name = "NAME")]
    target: String,
    #[command(flatten)]
    catalog: CatalogSource,
    /// User name of the connection: chooses among several access entries by id.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Judge as inside an open transaction.
    #[arg(long)]
    in_transaction: bool,
    #[command(flatten)]
    source: Source,
    /// Print one JSON object; with --each one a line.
    #[arg(long)]
    json: bool,
}

/// The answer as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    /// Number of the line of `--each`, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    action: &'static str,
    asked: &'static str,
    sqlstate: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Named>,
    rules: Vec<Named>,
    observed: Vec<Named>,
    access: &'a str,
    digest: &'a str,
    statements: &'a [Explained],
    notes: Vec<&'a str>,
}

#[derive(Serialize)]
struct Named {
    id: String,
    place: String,
}

impl Named {
    fn of(rule: &pgturnstile_rules::policy::Rule) -> Self {
        Self { id: rule.id.to_string(), place: rule.place.to_string() }
    }
}

/// A policy with what surrounds it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) policy: Policy,
    pub(super) issuers: Vec<Issuer>,
    config: Option<Config>,
}

impl Loaded {
    /// Bounds of a text on `target`.
    pub(super) fn limits(&self, target: &str) -> Limits {
        let bytes = self
            .config
            .as_ref()
            .and_then(|config| config.target(target))
            .map(|target| target.statement_bytes_max);
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(text_bytes_max) => Limits { text_bytes_max },
            None => Limits::default(),
        }
    }
}

/// Reads the policy, and the configuration where it is asked for.
pub(super) fn load(source: &Source) -> Result<Loaded, Vec<Diagnostic>> {
    if let Some(path) = &source.policy {
        return Ok(Loaded { policy: Policy::load(path)?, issuers: Vec::new(), config: None });
    }
    let config = Config::load_with(&source.config, Files::Skip)?;
    let policy = Policy::load(&config.gateway.policy)?;
    let issuers = config
        .issuers
        .iter()
        .map(|issuer| Issuer {
            name: issuer.name.clone(),
            url: issuer.issuer.clone(),
            groups: issuer.groups.clone(),
            person: issuer.person.clone(),
        })
        .collect();
    Ok(Loaded { policy, issuers, config: Some(config) })
}

/// Prints what is wrong with a policy.
pub(super) fn complain(out: &mut Out<'_>, found: &[Diagnostic]) -> Exit {
    for diagnostic in found {
        out.complain(diagnostic.render());
    }
    Exit::Usage
}

/// Reads a file of claims.
pub(super) fn read_claims(path: &Path) -> Result<Map<String, Value>, String> {
    let text = read_text(path, CLAIMS_BYTES_MAX)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(format!("{}: must be a JSON object of claims", path.display()))
        }
        Err(fault) => Err(format!("{}: {fault}", path.display())),
    }
}

/// Reads a fixture; `None` is an empty database.
pub(super) fn read_catalog(path: Option<&Path>) -> Result<Definitions, String> {
    let (text, path) = match path {
        Some(path) => (read_text(path, FIXTURE_BYTES_MAX as u64)?, path),
        None => (String::new(), Path::new("catalog")),
    };
    Definitions::from_text(&text, path).map_err(|fault| fault.to_string())
}

pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let refuse = |fault: &dyn std::fmt::Display| format!("{}: cannot be read: {fault}", path.display());
    let file = std::fs::File::open(path).map_err(|fault| refuse(&fault))?;
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|fault| refuse(&fault))?;
    if text.len() as u64 > bytes_max {
        return Err(refuse(&format_args!("it is longer than {bytes_max} bytes")));
    }
    Ok(text)
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A target that the configuration does not have is a slip of the pen, not a refusal.
fn known_target(loaded: &Loaded, args: &Args) -> Result<(), String> {
    let Some(config) = &loaded.config else { return Ok(()) };
    match config.target(&args.target) {
        Some(_) => Ok(()),
        None => Err(source::no_target(config, &format!("there is no target {}", args.target))),
    }
}

/// So is an issuer.
fn known_issuer(loaded: &Loaded, principal: Principal) -> Result<Principal, String> {
    let known =
        loaded.config.is_none() || loaded.issuers.iter().any(|issuer| issuer.name == principal.issuer);
    let names = || loaded.issuers.iter().map(|issuer| issuer.name.as_str()).collect::<Vec<&str>>().join(", ");
    if known {
        Ok(principal)
    } else {
        Err(format!("there is no issuer {}; the configuration has: {}", principal.issuer, names()))
    }
}

/// Runs `explain`.
///
/// # Errors
/// The answer cannot be written, or standard input cannot be read.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let loaded = match load(&args.source) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(complain(out, &found)),
    };
    let prepared = known_target(&loaded, args).and_then(|()| read_claims(&args.who)).and_then(|claims| {
        let principal = fixture::principal(&claims, &loaded.issuers)
            .and_then(|principal| known_issuer(&loaded, principal))
            .map_err(|fault| format!("{}: {fault}", args.who.display()))?;
        let given = args.catalog.read();
        let notes = given.is_none().then(|| {
            "no --catalog FILE or --dsn URL: every relation outside the system's schemas is unknown"
                .to_owned()
        });
        let mut catalog = given.unwrap_or_else(|| read_catalog(None))?;
        catalog.notes.extend(notes);
        Ok((principal, catalog))
    });
    let (principal, catalog) = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => {
            out.complain(format_args!("error: {fault}"));
            return Ok(Exit::Usage);
        }
    };
    let subject = match loaded.policy.subject(&principal, &args.target, args.user.as_deref()) {
        Ok(subject) => subject,
        Err(refused) => {
            return print_refused("28000", &refused.to_string(), args.json, out);
        }
    };
    let bench = Bench {
        policy: &loaded.policy,
        subject: &subject,
        snapshot: &catalog.snapshot,
        in_transaction: args.in_transaction,
        now_s: now_s(),
        limits: loaded.limits(&args.target),
    };
    let notes = catalog.notes.clone();
    if let Some(path) = &args.each {
        return each::run(path, &bench, &notes, args.json, out);
    }
    let sql = match args.sql.as_deref() {
        Some("-") => io::read_to_string(io::stdin())?,
        Some(sql) => sql.to_owned(),
        None => String::new(),
    };
    match on_parser_stack(|| bench.judge_here(&sql)) {
        Ok(verdict) => print(&verdict, &notes, &subject.access().id, args.json, out),
        Err(fault) => print_refused(fault.sqlstate(), &fault.to_string(), args.json, out),
    }
}

impl<'a> Answer<'a> {
    fn of(verdict: &'a TextVerdict, notes: &'a [String], access: &'a str, line: Option<u64>) -> Self {
        let judgement = &verdict.judgement;
        Self {
            line,
            action: judgement.action.name(),
            asked: judgement.asked.name(),
            sqlstate: judgement.sqlstate,
            message: &judgement.message,
            rule: judgement.rule.as_ref().map(Named::of),
            rules: judgement.rules.iter().map(Named::of).collect(),
            observed: judgement.observed.iter().map(|observed| Named::of(&observed.rule)).collect(),
            access,
            digest: &verdict.digest,
            statements: &verdict.statements,
            notes: verdict.notes.iter().chain(notes).map(String::as_str).collect(),
        }
    }
}

fn print(
    verdict: &TextVerdict,
    notes: &[String],
    access: &str,
    json: bool,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let judgement = &verdict.judgement;
    if json {
        let answer = Answer::of(verdict, notes, access, None);
        serde_json::to_writer_pretty(&mut *out, &answer)?;
        out.line("")?;
    } else {
        out.write(&verdict.render())?;
        for note in notes {
            out.line(format_args!("+- note: {note}"))?;
        }
        out.line(format_args!("+- access {access}, text {}", verdict.digest))?;
    }
    Ok(exit_of(judgement.action))
}

fn exit_of(action: Action) -> Exit {
    match action {
        Action::Allow => Exit::Yes,
        Action::Hold | Action::Refuse => Exit::No,
    }
}

/// A refusal without a verdict: no session, or a text that has no facts.
fn print_refused(sqlstate: &str, message: &str, json: bool, out: &mut Out<'_>) -> io::Result<Exit> {
    if json {
        let answer = serde_json::json!({
            "action": "refuse", "asked": "refuse", "sqlstate": sqlstate, "message": message,
        });
        serde_json::to_writer_pretty(&mut *out, &answer)?;
        out.line("")?;
    } else {
        out.line(format_args!("refuse  {sqlstate}\n+- {message}"))?;
    }
    Ok(Exit::No)
}
