//! What evidence costs a session: one statement and one result, from the entry to the ring, hash included; and what the
//! verifier makes of a record.
//!
//! `cargo bench -p pgturnstile-bench --bench evidence`. The target (throughput design): 500 ns a submit at most, goal 250.
#![allow(clippy::unwrap_used, reason = "a bench that cannot run must say so")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgturnstile::evidence::record::v1::{
    Action, Facts, Outcome, Protocol, Relation, SessionOpened, Statement, StatementResult, TextHeld,
};
use pgturnstile::evidence::record::{Entry, How, Stamp};
use pgturnstile::evidence::{Run, SessionLog, Settings, open, verify};

/// Pairs in a burst: their credits fit the lane.
const BURST_PAIRS: u64 = 8_192;
/// Longer than the writer needs for a burst.
const CATCH_UP: Duration = Duration::from_millis(60);
/// What is measured in all, so that the log stays small.
const MEASURED: Duration = Duration::from_millis(300);

const STAMP: Stamp = Stamp { lane: 0, stream: [1; 16], stream_sequence: 1, wall_ns: 1, monotonic_ns: 1 };

fn facts() -> Vec<Facts> {
    vec![Facts {
        class: "read.select".into(),
        tag: "SELECT".into(),
        relations: vec![Relation {
            name: "public.pgbench_accounts".into(),
            access: "read.select".into(),
            what: "table".into(),
            blind: false,
        }],
        ..Facts::default()
    }]
}

fn statement(facts: &[Facts]) -> Entry<'_> {
    Entry::Statement(Statement {
        protocol: Protocol::Simple,
        name: "",
        portal: "",
        text: TextHeld::Lifted("SELECT abalance FROM pgbench_accounts WHERE aid = $1"),
        text_bytes: 60,
        text_commitment: [7; 32],
        parameters: 0,
        parameter_digest: None,
        facts,
        action: Action::Allow,
        rule: "bench.read (policy.toml:12)",
        policy_hash: [9; 32],
        catalog_epoch: 3,
    })
}

fn result() -> Entry<'static> {
    Entry::StatementResult(StatementResult {
        outcome: Outcome::Completed,
        tag: "SELECT 1",
        sqlstate: None,
        rows: 1,
        bytes: 38,
        bytes_in: 0,
        digest: Some([5; 32]),
        started_ns: 1,
        first_row_ns: 2,
        ended_ns: 3,
    })
}

fn encode(criterion: &mut Criterion) {
    let facts = facts();
    let mut group = criterion.benchmark_group("evidence");
    group.bench_function("encode statement", |bencher| {
        bencher.iter(|| black_box(statement(&facts)).encode(&STAMP, How::QUEUED, 0).unwrap());
    });
    group.bench_function("encode result", |bencher| {
        bencher.iter(|| black_box(result()).encode(&STAMP, How::QUEUED, 0).unwrap());
    });
    group.finish();
}

/// Statement and result, submitted to a writer that writes. The batches are small, so that the ring never fills.
fn submit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { reserve_bytes: 0, ..Settings::new(directory.path().to_owned()) };
    let run = Run { version: "bench".into(), configuration_hash: [0; 32], policy_hash: [0; 32] };
    let (evidence, lanes) = open(&settings, &run, &[1; 32], 1).unwrap();
    let facts = facts();
    let mut session = evidence.session(&lanes[0], [3; 16]);
    let opened = SessionOpened { peer: "192.0.2.1:1", listener: "0.0.0.0:6432", tls: "none" };
    session.try_append(&Entry::SessionOpened(opened), How::GATED).unwrap().unwrap();
    let mut group = criterion.benchmark_group("evidence");
    group.sample_size(10).measurement_time(MEASURED);
    group.bench_function("submit statement and result, queued", |bencher| {
        bencher.iter_custom(|pairs| submit_pairs(&mut session, &facts, pairs));
    });
    group.finish();
    drop(session);
    drop(evidence);
    let records = verify::verify(directory.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap().records;
    let mut group = criterion.benchmark_group("evidence");
    group.sample_size(10).throughput(Throughput::Elements(records));
    group.bench_function("verify the log", |bencher| {
        bencher.iter(|| verify::verify(directory.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap().records);
    });
    group.finish();
}

/// Time of that many pairs. The writer is given time between bursts: how fast it writes is not this bench's question.
fn submit_pairs(session: &mut SessionLog, facts: &[Facts], pairs: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = pairs;
    while left > 0 {
        let burst = left.min(BURST_PAIRS);
        let begun = Instant::now();
        (0..burst).for_each(|_| pair(session, facts));
        spent += begun.elapsed();
        left -= burst;
        std::thread::sleep(CATCH_UP);
    }
    spent
}

fn pair(session: &mut SessionLog, facts: &[Facts]) {
    // No credits: the writer is behind, which is its measure, not this one's; the pair is tried again.
    loop {
        if let Some(mark) = session.try_append(&statement(facts), How::QUEUED).unwrap() {
            while session
                .try_append(&result(), How::QUEUED.answering(mark.stream_sequence))
                .unwrap()
                .is_none()
            {
                std::thread::yield_now();
            }
            return;
        }
        std::thread::yield_now();
    }
}

criterion_group!(benches, encode, submit);
criterion_main!(benches);
