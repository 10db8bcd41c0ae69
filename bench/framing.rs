//! What it costs to find frames and to read them, once for a statement and once for 64 KiB of rows.
//!
//! `cargo bench -p pgturnstile-bench --bench framing`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot run must say so")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgturnstile_proto::{Limits, backend, encode, frontend};

const POINT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";
const RUN_BYTES: usize = 64 * 1024;

fn query() -> Vec<u8> {
    let mut frame = Vec::new();
    encode::query(&mut frame, POINT).unwrap();
    frame
}

/// Rows of seven columns, about 200 bytes each, as the bulk SELECT of bench/compare has them.
fn rows() -> Vec<u8> {
    let mut run = Vec::new();
    let columns: [&[u8]; 7] = [
        b"471123",
        b"Elena Kowalski",
        b"elena.kowalski123@example.org",
        b"318-42-4711",
        b"4000000811228431",
        b"+1-415-555-0123",
        b"Customer asked for a refund; delivery was late twice. confirmed the appointment.",
    ];
    let columns = columns.map(Some);
    loop {
        let whole = run.len();
        encode::data_row(&mut run, &columns).unwrap();
        if run.len() > RUN_BYTES {
            run.truncate(whole);
            return run;
        }
    }
}

fn statement(criterion: &mut Criterion) {
    let (frame, limits) = (query(), Limits::default());
    let mut group = criterion.benchmark_group("framing");
    group.bench_function("peek a header", |bencher| {
        bencher.iter(|| frontend::Header::peek(black_box(&frame), &limits).unwrap().unwrap().len);
    });
    group.bench_function("parse a Query", |bencher| {
        bencher.iter(|| {
            let message = frontend::Message::parse(black_box(&frame)).unwrap();
            let frontend::Message::Query(query) = message else { panic!("the frame is a Query") };
            query.text().len()
        });
    });
    group.finish();
}

fn run_of_rows(criterion: &mut Criterion) {
    let (run, limits) = (rows(), Limits::default());
    let mut group = criterion.benchmark_group("framing of 64 KiB of rows");
    group.throughput(Throughput::Bytes(run.len() as u64));
    group.bench_function("skip_rows: headers only", |bencher| {
        bencher.iter(|| backend::skip_rows(black_box(&run), &limits).frames);
    });
    group.bench_function("check_rows: every column", |bencher| {
        bencher.iter(|| {
            let (rows, checked) = backend::check_rows(black_box(&run), &limits, Some(7));
            checked.unwrap();
            assert_eq!(rows.bytes, run.len());
            rows.frames
        });
    });
    group.finish();
}

criterion_group!(benches, statement, run_of_rows);
criterion_main!(benches);
