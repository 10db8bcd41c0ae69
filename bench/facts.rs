//! What facts cost: a text that was never seen, against the grammar alone; a text seen before; the plain sweep.
//!
//! `cargo bench -p pgturnstile-bench --bench facts`. Targets (throughput design): uncached at most 12 times the raw grammar,
//! cached about 100 ns.
#![allow(clippy::unwrap_used, reason = "a bench that cannot run must say so")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group};
use pgturnstile_rules::statement::{Cache, Limits, facts_here, on_parser_stack};
use pgturnstile_sweep::{Engine, plain_prefix_by};

const TEXTS: [(&str, &str); 3] = [
    ("point", "select abalance from pgbench_accounts where aid = 1"),
    (
        "joins",
        "select a.x, b.y, count(*) from s.a a join s.b b on a.id = b.a_id join s.c c on c.id = b.c_id left join d using (k) \
         where a.made > now() - interval '1 day' and b.state in ('x', 'y') and c.name like 'f%' group by a.x, b.y order by 3",
    ),
    (
        "update",
        "update crm.accounts set balance = balance + $1, changed = now() where id = $2 returning balance",
    ),
];

fn uncached(criterion: &mut Criterion) {
    for (name, text) in TEXTS {
        let mut group = criterion.benchmark_group(format!("facts/{name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("grammar alone", |b| {
            b.iter(|| pg_query::is_utility_stmt(black_box(text)).unwrap())
        });
        group.bench_function("tree", |b| b.iter(|| pg_query::parse(black_box(text), 0).unwrap()));
        let limits = Limits::default();
        group
            .bench_function("facts", |b| b.iter(|| facts_here(black_box(text).as_bytes(), &limits).unwrap()));
        group.finish();
    }
}

fn cached(criterion: &mut Criterion) {
    let mut cache = Cache::new(64 * 1024 * 1024);
    let facts = |text: &str| facts_here(text.as_bytes(), &Limits::default()).unwrap();
    for (name, text) in TEXTS {
        let facts = Arc::new(facts(text));
        for i in 0..1000 {
            cache.insert(format!("{text} -- {i}").as_bytes(), Arc::clone(&facts));
        }
        let key = format!("{text} -- 500");
        criterion.bench_function(&format!("cache/{name}"), |b| {
            b.iter(|| cache.get(black_box(key.as_bytes())).map(Arc::as_ptr));
        });
    }
}

fn plain(criterion: &mut Criterion) {
    let text = vec![b'a'; 64 * 1024];
    let mut group = criterion.benchmark_group("plain");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for engine in Engine::ALL.into_iter().filter(|e| e.is_available()) {
        group.bench_function(format!("{engine:?}"), |b| b.iter(|| plain_prefix_by(engine, black_box(&text))));
    }
    group.finish();
}

criterion_group!(benches, uncached, cached, plain);

/// Criterion's `main` on a thread of the door: the process's first thread has no stack to parse on.
fn main() {
    on_parser_stack(|| {
        benches();
        Criterion::default().configure_from_args().final_summary();
    });
}
