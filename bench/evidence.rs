//! What evidence costs a session: one statement and one result, from the entry to the ring, hash included; and what the
//! verifier makes of a record, also against blake3 on one core over the same bytes.
//!
//! `cargo bench -p pgturnstile-bench --bench evidence`. The targets: 500 ns a submit at most, goal 250; `verify` at half of
//! single-core blake3 or better on large segments.
#![allow(clippy::unwrap_used, reason = "a bench that cannot run must say so")]
#![allow(clippy::print_stdout, reason = "a bench reports there, as criterion does")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgturnstile::audit::filter::Filter;
use pgturnstile::audit::index::Index;
use pgturnstile::audit::json;
use pgturnstile::audit::tell::Teller;
use pgturnstile::evidence::format::RecordView;
use pgturnstile::evidence::record::v1::{
    Action, Facts, Outcome, Protocol, Relation, Rows, SessionOpened, Statement, StatementResult, TextHeld,
};
use pgturnstile::evidence::record::{Entry, How, Stamp};
use pgturnstile::evidence::{Evidence, Lane, Run, SessionLog, Settings, open, verify};

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

/// A log with one session, which is open.
fn begun(directory: &Path) -> (Evidence, Vec<Lane>, SessionLog) {
    let settings = Settings { reserve_bytes: 0, ..Settings::new(directory.to_owned()) };
    let run = Run { version: "bench".into(), configuration_hash: [0; 32], policy_hash: [0; 32] };
    let (evidence, lanes) = open(&settings, &run, &[1; 32], 1).unwrap();
    let mut session = evidence.session(&lanes[0], [3; 16]);
    let opened = SessionOpened { peer: "192.0.2.1:1", listener: "0.0.0.0:6432", tls: "none" };
    session.try_append(&Entry::SessionOpened(opened), How::GATED).unwrap().unwrap();
    (evidence, lanes, session)
}

/// Statement and result, submitted to a writer that writes. The batches are small, so that the ring never fills.
fn submit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let (evidence, _lanes, mut session) = begun(directory.path());
    let facts = facts();
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

/// Bytes of the log that is verified: several of the reader's pieces a core, and more than any cache holds.
const LARGE_LOG_BYTES: u64 = 128 << 20;
/// Rounds of the comparison; the median counts.
const ROUNDS: usize = 5;

/// A log of one large segment.
fn large_log(directory: &Path) {
    let (_evidence, _lanes, mut session) = begun(directory);
    let facts = facts();
    let pair_bytes = [
        statement(&facts).encode(&STAMP, How::QUEUED, 0).unwrap().len(),
        result().encode(&STAMP, How::QUEUED, 0).unwrap().len(),
    ];
    let pairs = LARGE_LOG_BYTES / pair_bytes.iter().sum::<usize>() as u64;
    (0..pairs).for_each(|_| pair(&mut session, &facts));
}

/// Bytes of rows in a record of the log of rows.
const ROWS_BYTES: usize = 64 << 10;

/// A log of one large segment in which results are recorded: most of its bytes are rows.
fn log_of_rows(directory: &Path) {
    let (_evidence, _lanes, mut session) = begun(directory);
    let facts = facts();
    let frames = vec![7; ROWS_BYTES];
    for _ in 0..LARGE_LOG_BYTES / ROWS_BYTES as u64 {
        pair(&mut session, &facts);
        let rows = Rows { described: 1, first_row: 0, rows: 1, frames: &frames };
        while session.try_append(&Entry::Rows(rows), How::QUEUED.belonging_to(2)).unwrap().is_none() {
            std::thread::yield_now();
        }
    }
}

/// Where what the hash of each record covers stands in a segment.
fn hashed_parts(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let word = |at: usize| u32::from_le_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut parts) = (256, Vec::new());
    while segment.get(at..at + 4).is_some_and(|magic| magic.starts_with(b"PGT")) {
        if segment[at..].starts_with(b"PGTR") {
            parts.push(at + 48..at + 112 + word(at + 56));
        }
        at += word(at + 4);
    }
    parts
}

/// Bytes a second of `verify`, of blake3 on one core over the whole file, and over each record by itself, in turn.
fn verify_against_blake3(_: &mut Criterion) {
    against_blake3("statements and results", large_log);
    against_blake3("rows", log_of_rows);
}

fn against_blake3(what: &str, made: fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let mut content = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "evidence") {
            content.extend(std::fs::read(path).unwrap());
        }
    }
    let parts = hashed_parts(&content);
    let mut rounds: Vec<(f64, f64, f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let report = verify::verify(directory.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap();
            let verified = report.bytes as f64 / begun.elapsed().as_secs_f64();
            assert!(report.sound());
            let bytes = &content[..usize::try_from(report.bytes).unwrap()];
            let begun = Instant::now();
            black_box(blake3::hash(black_box(bytes)));
            let hashed = bytes.len() as f64 / begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            for part in &parts {
                black_box(blake3::keyed_hash(&[1; 32], black_box(&content[part.clone()])));
            }
            let each = report.bytes as f64 / begun.elapsed().as_secs_f64();
            (verified / hashed, verified, hashed, each)
        })
        .collect();
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (ratio, verified, hashed, each) = rounds[ROUNDS / 2];
    println!(
        "evidence/verify of {what}: {ratio:.2} of one core's blake3 over the file (of {:.2} to {:.2}); {:.0} MB/s against {:.0} MB/s; \
         one core's blake3 over each record: {:.0} MB/s; {} MiB",
        rounds[0].0,
        rounds[ROUNDS - 1].0,
        verified / 1e6,
        hashed / 1e6,
        each / 1e6,
        LARGE_LOG_BYTES >> 20,
    );
}

/// Seconds per GB of evidence of what reads it: verified, told as events, as JSON lines, as the SQLite index.
fn seconds_per_gb(_: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    large_log(directory.path());
    let measured = |what: &str, read: &mut dyn FnMut(&mut Teller, &RecordView<'_>)| {
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                let mut teller = Teller::default();
                let report = verify::verify(directory.path(), &mut |_, _| {}, &mut |_, record| {
                    read(&mut teller, record)
                });
                begun.elapsed().as_secs_f64() * 1e9 / report.unwrap().bytes as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!(
            "evidence/{what}: {:.1} s per GB (of {:.1} to {:.1})",
            rounds[ROUNDS / 2],
            rounds[0],
            rounds[ROUNDS - 1]
        );
    };
    measured("verify", &mut |_, _| {});
    let filter = Filter { verdict: vec!["refuse".into()], ..Filter::default() };
    measured("query", &mut |teller, record| {
        teller.take(record, &mut |event| {
            black_box(filter.wants(event));
        })
    });
    measured("export as JSON lines", &mut |teller, record| {
        teller.take(record, &mut |event| drop(black_box(json::event_line(event))));
    });
    let mut index = Index::open(None).unwrap();
    let mut filling = index.filling(false).unwrap();
    // The rounds behind the first replace rows instead of adding them, which costs a little more.
    measured("index in SQLite", &mut |teller, record| {
        teller.take(record, &mut |event| filling.take(event));
    });
    filling.give_up().unwrap();
}

criterion_group!(benches, encode, submit, verify_against_blake3, seconds_per_gb);
criterion_main!(benches);
