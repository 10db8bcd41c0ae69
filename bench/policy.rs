//! What it costs to resolve and to judge a point select, by the number of rules that apply to the subject. It must be flat.
//!
//! `cargo bench -p pgturnstile-bench --bench policy`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot run must say so")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pgturnstile_rules::catalog::Definitions;
use pgturnstile_rules::policy::fixture;
use pgturnstile_rules::policy::{Action, Context, Policy};
use pgturnstile_rules::resolve::{SearchPath, SessionView, resolve};
use pgturnstile_rules::statement::facts::TextFacts;
use pgturnstile_rules::statement::{Limits, facts_here, on_parser_stack};

const POINT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711";
const HEAD: &str = r#"
version = 1
[group.bench]
any = [{ issuer = "dev", groups = ["bench"] }]
[[access]]
id = "bench"
groups = ["bench"]
targets = ["bench"]
login = "bench"
mode = "read"
guards = { search_path = ["public"] }
[[permit]]
id = "read"
groups = ["bench"]
targets = ["bench"]
classes = ["read.select"]
on = ["public.pgbench_accounts"]
"#;

/// A policy with `rules` rules for the subject: one permits the statement, the others speak of other relations.
fn policy(rules: usize) -> Policy {
    let mut text = HEAD.to_owned();
    for at in 1..rules {
        let kind = if at % 4 == 0 { "restrict" } else { "permit" };
        let then = if at % 4 == 0 { "then = \"refuse\"" } else { "" };
        write!(
            text,
            "[[{kind}]]\nid = \"rule-{at}\"\ngroups = [\"bench\"]\ntargets = [\"bench\"]\n\
             classes = [\"read.select\", \"write.update\"]\non = [\"app.relation_{at}\"]\n{then}\n"
        )
        .unwrap();
    }
    Policy::from_text("policy.toml", &text, None).unwrap()
}

fn facts() -> TextFacts {
    on_parser_stack(|| facts_here(POINT.as_bytes(), &Limits { text_bytes_max: 1 << 16 }).unwrap())
}

fn definitions() -> Definitions {
    let text = "CREATE TABLE public.pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84));";
    Definitions::from_text(text, Path::new("bench.sql")).unwrap()
}

fn judge(criterion: &mut Criterion) {
    let (facts, definitions) = (facts(), definitions());
    let statement = &facts.statements[0];
    let path = SearchPath::new(["public"], "bench");
    let view = SessionView::default();
    criterion.bench_function("resolve a point select", |bencher| {
        bencher.iter(|| resolve(black_box(statement), &definitions.snapshot, &path, &view).proven());
    });
    let resolution = resolve(statement, &definitions.snapshot, &path, &view);
    let claims = serde_json::json!({ "issuer": "dev", "sub": "bench", "groups": ["bench"] });
    let principal = fixture::principal(claims.as_object().unwrap(), &[]).unwrap();
    let context =
        Context { in_transaction: false, text_digest: &facts.digest, now_s: 1_800_000_000, sight: None };
    let mut group = criterion.benchmark_group("judge a point select, rules of the subject");
    for rules in [10, 1_000, 10_000] {
        let policy = policy(rules);
        let subject = policy.subject(&principal, "bench", None).unwrap();
        assert_eq!(policy.judge(&subject, statement, &resolution, &context).action, Action::Allow);
        group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
            bencher.iter(|| policy.judge(&subject, black_box(statement), &resolution, &context).action);
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
