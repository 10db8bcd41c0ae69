//! `pgturnstile test`: the policy's own tests, offline.
//!
//! Owns: its arguments, the comparison with what a `[[test]]` expects, the report. It judges nothing itself. A test that
//! cannot be run (a missing file, an expectation that nothing can check yet) has failed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};

use pgturnstile_rules::catalog::Definitions;
use pgturnstile_rules::policy::fixture;
use pgturnstile_rules::policy::offline::{Bench, TextVerdict};
use pgturnstile_rules::policy::{Action, CLEAR, Policy, Test, TestPrincipal};
use pgturnstile_rules::statement::on_parser_stack;
use serde::Serialize;

use super::explain::{Loaded, Source, complain, load, now_s, read_catalog, read_claims};
use super::{Exit, Out};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Run the tests that stand in the policy and in the packs it includes ([[test]]), without a server.

Each names who asks, on which target, against which catalog, and what must come out.",
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
    let mut shelf = Shelf::default();
    let chosen = |test: &&Test| args.word.as_ref().is_none_or(|word| test.name.contains(word.as_str()));
    let tests: Vec<Outcome> = loaded
        .policy
        .model()
        .tests
        .iter()
        .filter(chosen)
        .map(|test| outcome(test, &loaded, &mut shelf))
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
        let there = loaded.policy.model().tests.len();
        out.complain(match &args.word {
            Some(word) if there > 0 => {
                format!("error: no test's name holds {word:?}; {there} tests are there")
            }
            Some(_) | None => {
                "error: no test was run; write [[test]] entries in the policy (rules/README.md)".to_owned()
            }
        });
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

/// What several tests share.
#[derive(Default)]
struct Shelf {
    catalogs: HashMap<Option<String>, Result<Definitions, String>>,
    packs: HashMap<&'static str, Policy>,
}

fn outcome(test: &Test, loaded: &Loaded, shelf: &mut Shelf) -> Outcome {
    let (reasons, tree) = match judge(test, loaded, shelf) {
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
fn judge(test: &Test, loaded: &Loaded, shelf: &mut Shelf) -> Result<TextVerdict, Vec<String>> {
    let folder = loaded.policy.folder();
    let claims = match &test.who {
        TestPrincipal::Inline(claims) => Ok(claims.clone()),
        TestPrincipal::File(file) => read_claims(&beside(folder, file)),
    };
    let principal = claims
        .and_then(|claims| fixture::principal(&claims, &loaded.issuers))
        .map_err(|fault| vec![fault])?;
    let catalog = shelf.catalogs.entry(test.catalog.clone()).or_insert_with(|| {
        let path = test.catalog.as_deref().map(|file| beside(folder, file));
        read_catalog(path.as_deref())
    });
    let catalog = catalog.as_ref().map_err(|fault| vec![fault.clone()])?;
    let refusal_expected = |what: String| {
        if test.expect.action == "refuse" && test.expect.rules.is_empty() { Vec::new() } else { vec![what] }
    };
    let policy = match test.pack {
        None => &loaded.policy,
        Some(pack) => match shelf.packs.entry(pack.name) {
            Entry::Occupied(held) => &*held.into_mut(),
            Entry::Vacant(free) => {
                let bench = pack
                    .bench()
                    .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
                &*free.insert(bench)
            }
        },
    };
    let subject = policy
        .subject(&principal, &test.target, None)
        .map_err(|refused| refusal_expected(format!("no session: {refused}")))?;
    let bench = Bench {
        policy,
        subject: &subject,
        snapshot: &catalog.snapshot,
        in_transaction: test.in_transaction,
        now_s: now_s(),
        limits: loaded.limits(&test.target),
    };
    on_parser_stack(|| {
        let mut session = bench.session();
        for (at, text) in test.before.iter().enumerate() {
            let fault = match session.judge_here(text) {
                Ok(verdict) if verdict.judgement.action == Action::Allow => continue,
                Ok(verdict) => verdict.judgement.message,
                Err(fault) => fault.to_string(),
            };
            return Err(vec![format!("text {} of before does not pass: {fault}", at + 1)]);
        }
        session
            .judge_here(&test.sql)
            .map_err(|fault| refusal_expected(format!("the text has no facts: {fault}")))
    })
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
    if let Some(wanted) = &test.expect.fields {
        let given = judgement.fields.as_ref().map(|fields| fields.words()).unwrap_or_default();
        // A statement that reaches no label gives clear fields, however many.
        let far = given.is_empty() && wanted.iter().all(|field| field == CLEAR);
        if !far && *wanted != given {
            reasons.push(format!("expected the fields {}, got {}", wanted.join(", "), given.join(", ")));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::super::Cli;
    use super::*;
    use crate::cli::explain;

    const POLICY: &str = r#"
version = 1
include = ["packs/drivers.toml", "packs/admin-guard.toml"]
[group.agents]
any = [{ issuer = "corp", groups = ["agents"] }]
[[access]]
id = "agents"
groups = ["agents"]
targets = ["crm"]
login = "agent"
mode = "write"
guards = { search_path = ["crm"] }
[[permit]]
id = "agents.read"
groups = ["agents"]
targets = ["crm"]
classes = ["read.select"]
on = ["crm.*"]
[[test]]
name = "agents read orders"
as = "claims/agent.json"
target = "crm"
catalog = "crm.sql"
sql = "select * from orders"
expect = { action = "allow", rules = ["agents.read"] }
[[test]]
name = "strangers get no session"
as = { issuer = "corp", groups = [] }
target = "crm"
sql = "select 1"
expect = { action = "refuse" }
"#;

    fn folder(policy: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("policy.toml", policy);
        write("crm.sql", "create schema crm; create table crm.orders (id int);");
        std::fs::create_dir(folder.path().join("claims")).expect("a folder");
        write(
            "claims/agent.json",
            r#"{ "issuer": "corp", "claims": { "sub": "agent-7", "groups": ["agents"] } }"#,
        );
        folder
    }

    fn words(folder: &Path, words: &[&str]) -> Vec<String> {
        let at = |word: &str| word.replace("@", &format!("{}/", folder.display()));
        std::iter::once("pgturnstile".to_owned()).chain(words.iter().map(|word| at(word))).collect()
    }

    /// Runs `test` or `explain` as the command line would.
    fn run_words(folder: &Path, arguments: &[&str]) -> (Exit, String, String) {
        #[derive(Debug, clap::Parser)]
        enum Commands {
            Test(Args),
            Explain(explain::Args),
        }
        drop(Cli::try_parse_from(words(folder, arguments)).expect("a command line"));
        let (mut standard, mut error) = (Vec::new(), Vec::new());
        let exit = {
            let mut out = Out::captured(&mut standard, &mut error);
            let outcome = match Commands::try_parse_from(words(folder, arguments)).expect("a command line") {
                Commands::Test(args) => run(&args, &mut out),
                Commands::Explain(args) => explain::run(&args, &mut out),
            };
            out.finish(outcome)
        };
        (exit, String::from_utf8(standard).expect("text"), String::from_utf8(error).expect("text"))
    }

    #[test]
    fn tests_of_policy_and_packs_pass_and_a_wrong_expectation_fails() {
        let sound = folder(POLICY);
        let (exit, said, _) = run_words(sound.path(), &["test", "--policy", "@policy.toml"]);
        assert_eq!(exit, Exit::Yes, "{said}");
        assert!(said.contains("ok    agents read orders  (policy.toml:19)"), "{said}");
        assert!(said.contains("ok    drivers: health checks pass"), "{said}");
        let wrong = folder(&POLICY.replace("from orders\"", "from mart.orders\""));
        let (exit, said, _) = run_words(wrong.path(), &["test", "--policy", "@policy.toml", "agents"]);
        assert_eq!(exit, Exit::No, "{said}");
        assert!(
            said.contains("expected allow, the policy asks to refuse") && said.contains("0 passed, 1 failed"),
            "{said}"
        );
        let (exit, said, _) =
            run_words(wrong.path(), &["test", "--policy", "@policy.toml", "--json", "agents"]);
        let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((exit, &report["failed"]), (Exit::No, &serde_json::json!(1)));
        let (exit, _, error) = run_words(sound.path(), &["test", "--policy", "@policy.toml", "no such test"]);
        assert!(exit == Exit::Usage && error.contains("no test's name holds \"no such test\"; "), "{error}");
    }

    #[test]
    fn a_test_says_what_was_sent_before() {
        let behind = |before: &str, sql: &str| {
            let more = format!(
                "[[test]]\nname = \"behind\"\nas = \"claims/agent.json\"\ntarget = \"crm\"\ncatalog = \"crm.sql\"\n\
                 before = [\"{before}\"]\nsql = \"{sql}\"\nexpect = {{ action = \"allow\" }}\n"
            );
            let folder = folder(&format!("{POLICY}{more}"));
            let (exit, said, error) =
                run_words(folder.path(), &["test", "--policy", "@policy.toml", "behind"]);
            (exit, said + &error)
        };
        let (exit, said) = behind("prepare p as select * from orders", "execute p");
        assert_eq!(exit, Exit::Yes, "{said}");
        let (exit, said) = behind("select 1", "execute p");
        assert!(exit == Exit::No && said.contains("builtin.unknown-name (built in) -> refuse"), "{said}");
        let (exit, said) = behind("drop table orders", "select 1");
        assert!(exit == Exit::No && said.contains("text 1 of before does not pass: pgturnstile"), "{said}");
    }

    #[test]
    fn explain_answers_by_its_exit_code() {
        let folder = folder(POLICY);
        let who = [
            "--as",
            "@claims/agent.json",
            "--target",
            "crm",
            "--policy",
            "@policy.toml",
            "--catalog",
            "@crm.sql",
        ];
        let explain = |sql: &str, more: &[&str]| {
            run_words(folder.path(), &[&["explain", sql][..], &who[..], more].concat())
        };
        let (exit, said, _) = explain("select * from orders", &[]);
        assert_eq!(exit, Exit::Yes, "{said}");
        assert!(said.contains("permit agents.read (policy.toml:14)"), "{said}");
        let (exit, said, _) = explain("drop table orders", &["--json"]);
        let answer: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((exit, &answer["sqlstate"]), (Exit::No, &serde_json::json!("42501")));
        let (exit, said, _) = explain("prepare p as select * from orders; execute p", &["--json"]);
        let answer: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((exit, &answer["rule"]["id"]), (Exit::No, &serde_json::json!("builtin.order")));
        // Behind PREPARE and what that holds.
        assert_eq!(answer["statements"][2]["leaves"][0]["kind"], "built-in", "{said}");
        let (exit, said, _) = explain("selct 1", &[]);
        assert!(exit == Exit::No && said.starts_with("refuse  42601"), "{said}");
        let sum = format!("select {}", vec!["1"; 60_000].join("+"));
        let (exit, said, _) = explain(&sum, &[]);
        assert!(exit == Exit::No && said.starts_with("refuse  "), "{said}");
        let (exit, _, error) = run_words(
            folder.path(),
            &["explain", "select 1", "--as", "@gone.json", "--target", "crm", "--policy", "@policy.toml"],
        );
        assert!(exit == Exit::Usage && error.contains("cannot be read"), "{error}");
        let (exit, _, error) = run_words(
            folder.path(),
            &["explain", "select 1", "--as", "@claims/agent.json", "--target", "crm", "--policy", "@crm.sql"],
        );
        assert!(exit == Exit::Usage && error.contains("not valid TOML"), "{error}");
    }

    #[test]
    fn explain_refuses_a_target_and_an_issuer_that_the_configuration_does_not_have() {
        let folder = folder(POLICY);
        let config = "version = 1\n[gateway]\npolicy = \"policy.toml\"\n[evidence]\ndirectory = \"e\"\n[[listener]]\n\
            address = \"127.0.0.1:6432\"\ntls = { certificate = \"a\", key = \"b\" }\n[[issuer]]\nname = \"corp\"\n\
            issuer = \"https://id.example.com\"\naudiences = [\"p\"]\ngroups = \"groups\"\n[credential.reader]\nuser = \"r\"\n\
            [[target]]\nname = \"crm\"\naddress = \"/run/postgresql:5432\"\ndatabase = \"crm\"\ncontrol = \"reader\"\n";
        std::fs::write(folder.path().join("c.toml"), config).expect("written");
        std::fs::write(folder.path().join("other.json"), "{\"issuer\":\"cropp\",\"claims\":{\"sub\":\"x\"}}")
            .expect("written");
        for (who, target, says) in [
            ("@claims/agent.json", "crn", "there is no target crn; "),
            ("@other.json", "crm", "there is no issuer cropp; the configuration has: corp"),
        ] {
            let words = ["explain", "select 1", "--config", "@c.toml", "--as", who, "--target", target];
            let (exit, said, error) = run_words(folder.path(), &words);
            assert!(exit == Exit::Usage && said.is_empty() && error.contains(says), "{said}{error}");
        }
    }

    #[test]
    fn explain_judges_each_text_of_a_file_by_itself() {
        let folder = folder(POLICY);
        let each = |texts: &str, more: &[&str]| {
            std::fs::write(folder.path().join("texts.jsonl"), texts).expect("written");
            let command =
                ["explain", "--each", "@texts.jsonl", "--as", "@claims/agent.json", "--target", "crm"];
            let rest = ["--policy", "@policy.toml", "--catalog", "@crm.sql"];
            run_words(folder.path(), &[&command[..], &rest[..], more].concat())
        };
        let texts = "\"select * from orders\"\n\n{\"sql\":\"drop table orders\",\"in_transaction\":true}\n\"selct\\n1\"\n\"\"\n";
        let (exit, said, _) = each(texts, &["--json"]);
        let answers: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let told: Vec<(u64, &str)> = answers
            .iter()
            .map(|answer| {
                (answer["line"].as_u64().expect("a number"), answer["action"].as_str().expect("text"))
            })
            .collect();
        assert_eq!(told, [(1, "allow"), (3, "refuse"), (4, "refuse"), (5, "allow")]);
        assert_eq!(exit, Exit::No);
        assert_eq!(answers[0]["statements"][0]["unproven"], serde_json::Value::Null);
        assert!(answers[1]["statements"][0]["unproven"].is_string(), "{said}");
        let (exit, said, _) = each("\"select * from orders\"\n\"select * from orders\"", &[]);
        assert_eq!((exit, said.as_str()), (Exit::Yes, "1: allow  SELECT\n2: allow  SELECT\n"));
        // The answers before a bad line stand; the error names the line.
        for bad in ["7", "{\"sql\":\"select 1\",\"as\":\"x\"}", "select 1", "[]", "\"\u{0}"] {
            let (exit, said, error) = each(&format!("\"select 1\"\n{bad}\n"), &[]);
            assert_eq!(exit, Exit::Usage, "{bad}");
            assert!(said.starts_with("1: ") && error.contains("texts.jsonl:2: "), "{bad}: {said}{error}");
        }
    }
}
