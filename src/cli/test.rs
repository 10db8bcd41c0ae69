//! `pgturnstile test`: the policy's own tests, offline.
//!
//! Owns: its arguments, the comparison with what a `[[test]]` expects, the report. It judges nothing itself. A test that
//! cannot be run (a missing file, an expectation that nothing can check yet) has failed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use pgturnstile_rules::catalog::Definitions;
use pgturnstile_rules::policy::fixture;
use pgturnstile_rules::policy::offline::{Bench, TextVerdict};
use pgturnstile_rules::policy::{Test, TestPrincipal};
use pgturnstile_rules::statement::on_parser_stack;
use serde::Serialize;

use super::explain::{Loaded, Source, complain, load, now_s, read_catalog, read_claims};
use super::{Exit, Out};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Run the tests that stand in the policy and in the packs it includes ([[test]]), without a server.

Each names who asks, on which target, against which catalog, and what must come out. `hold` is what the policy asks for, \
also while holds are refused for want of being built.",
    after_help = "\
Examples:
  pgturnstile test
  pgturnstile test --policy policy.toml 'blind'    only tests with that word in their name
  pgturnstile test --json | jq '.tests[] | select(.passed | not)'

Exit codes:
  0  every test passed
  1  at least one failed
  2  the policy is wrong, or no test was run"
)]
pub struct Args {
    /// Run only tests whose name holds this.
    #[arg(value_name = "WORD")]
    word: Option<String>,
    #[command(flatten)]
    source: Source,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    tests: Vec<Outcome>,
}

/// How one test ended.
#[derive(Serialize)]
struct Outcome {
    name: String,
    place: String,
    passed: bool,
    /// Why it failed, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// The reason tree of a failed test.
    #[serde(skip_serializing_if = "String::is_empty")]
    tree: String,
}

/// Runs `test`.
///
/// # Errors
/// The report cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let loaded = match load(&args.source) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(complain(out, &found)),
    };
    let mut catalogs = HashMap::new();
    let chosen = |test: &&Test| args.word.as_ref().is_none_or(|word| test.name.contains(word.as_str()));
    let tests: Vec<Outcome> = loaded
        .policy
        .model()
        .tests
        .iter()
        .filter(chosen)
        .map(|test| outcome(test, &loaded, &mut catalogs))
        .collect();
    let failed = tests.iter().filter(|test| !test.passed).count();
    let report = Report { passed: tests.len() - failed, failed, tests };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        out.line("")?;
    } else {
        print(&report, out)?;
    }
    if report.tests.is_empty() {
        out.complain("error: no test was run; write [[test]] entries in the policy (rules/README.md)");
        return Ok(Exit::Usage);
    }
    Ok(if failed == 0 { Exit::Yes } else { Exit::No })
}

fn print(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    for test in &report.tests {
        let mark = if test.passed { "ok  " } else { "FAIL" };
        out.line(format_args!("{mark}  {}  ({})", test.name, test.place))?;
        for reason in &test.reasons {
            out.line(format_args!("      {reason}"))?;
        }
        for line in test.tree.lines() {
            out.line(format_args!("      {line}"))?;
        }
    }
    out.line(format_args!("{} passed, {} failed", report.passed, report.failed))
}

type Catalogs = HashMap<Option<String>, Result<Definitions, String>>;

fn outcome(test: &Test, loaded: &Loaded, catalogs: &mut Catalogs) -> Outcome {
    let (reasons, tree) = match judge(test, loaded, catalogs) {
        Ok(verdict) => {
            let reasons = compare(test, &verdict);
            let tree = if reasons.is_empty() { String::new() } else { verdict.render() };
            (reasons, tree)
        }
        Err(reasons) => (reasons, String::new()),
    };
    Outcome {
        name: test.name.clone(),
        place: test.place.to_string(),
        passed: reasons.is_empty(),
        reasons,
        tree,
    }
}

/// The verdict, or why the test has failed without one; no reasons at all where being refused was expected.
fn judge(test: &Test, loaded: &Loaded, catalogs: &mut Catalogs) -> Result<TextVerdict, Vec<String>> {
    let folder = loaded.policy.folder();
    let claims = match &test.who {
        TestPrincipal::Inline(claims) => Ok(claims.clone()),
        TestPrincipal::File(file) => read_claims(&beside(folder, file)),
    };
    let principal = claims
        .and_then(|claims| fixture::principal(&claims, &loaded.issuers))
        .map_err(|fault| vec![fault])?;
    let catalog = catalogs.entry(test.catalog.clone()).or_insert_with(|| {
        let path = test.catalog.as_deref().map(|file| beside(folder, file));
        read_catalog(path.as_deref())
    });
    let catalog = catalog.as_ref().map_err(|fault| vec![fault.clone()])?;
    let refusal_expected = |what: String| {
        if test.expect.action == "refuse" && test.expect.rules.is_empty() { Vec::new() } else { vec![what] }
    };
    let subject = loaded
        .policy
        .subject(&principal, &test.target, None)
        .map_err(|refused| refusal_expected(format!("no session: {refused}")))?;
    let bench = Bench {
        policy: &loaded.policy,
        subject: &subject,
        snapshot: &catalog.snapshot,
        in_transaction: test.in_transaction,
        now_s: now_s(),
        limits: loaded.limits(&test.target),
    };
    on_parser_stack(|| bench.judge_here(&test.sql))
        .map_err(|fault| refusal_expected(format!("the text has no facts: {fault}")))
}

fn beside(folder: Option<&Path>, file: &str) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(file), |folder| folder.join(file))
}

/// What differs from what was expected.
fn compare(test: &Test, verdict: &TextVerdict) -> Vec<String> {
    let judgement = &verdict.judgement;
    let mut reasons = Vec::new();
    if test.expect.action != judgement.asked.name() {
        reasons.push(format!(
            "expected {}, the policy asks to {}",
            test.expect.action,
            judgement.asked.name()
        ));
    }
    for wanted in &test.expect.rules {
        if !judgement.rules.iter().any(|rule| *rule.id == **wanted) {
            let spoke: Vec<&str> = judgement.rules.iter().map(|rule| &*rule.id).collect();
            reasons.push(format!("expected rule {wanted} to speak; those that did: {}", spoke.join(", ")));
        }
    }
    if test.expect.fields.is_some() {
        reasons.push("`fields` cannot be checked: masking is not built into this version".into());
    }
    reasons
}
