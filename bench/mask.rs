//! What masking costs: 64 KiB of clean rows swept, the same walked by the naive twin, rows that hold something.
//!
//! `cargo bench -p pgturnstile-bench --bench mask`. Time per row is time per iteration divided by the rows that the name tells.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot run must say so")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgturnstile_proto::{Limits, backend, encode};
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::plan::{Column, ColumnMask, LabelId, Plan, Style};
use pgturnstile_rules::mask::reference;
use pgturnstile_rules::mask::row::Masker;
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::mask::tally::Tally;

const RUN_BYTES: usize = 64 * 1024;

/// As many of these rows as fit, and how many they are.
fn rows(columns: &[&[u8]]) -> (Vec<u8>, usize) {
    let columns: Vec<Option<&[u8]>> = columns.iter().copied().map(Some).collect();
    let (mut run, mut count) = (Vec::new(), 0);
    loop {
        let whole = run.len();
        encode::data_row(&mut run, &columns).unwrap();
        if run.len() > RUN_BYTES {
            run.truncate(whole);
            return (run, count);
        }
        count += 1;
    }
}

/// About 100 bytes with framing: number, name, text, amount, flag.
const CLEAN: &[&[u8]] =
    &[b"471123", b"Elena Kowalski", b"asked for a refund, delivery was late", b"129.90", b"t"];
/// The same with a timestamp, which holds a stretch of digits in every row.
const DATED: &[&[u8]] = &[b"471123", b"Elena Kowalski", b"2026-11-21 04:50:17.123456+00", b"129.90", b"t"];
/// One address in every row.
const HIT: &[&[u8]] =
    &[b"471123", b"Elena Kowalski", b"elena.kowalski@example.org wrote twice", b"129.90", b"t"];

fn plan(label: bool) -> Plan {
    let mut columns = vec![Column::clear(Shape::Text); 5];
    if label {
        columns[1].mask = ColumnMask::Label { label: LabelId(0), style: Style::Last(4) };
    }
    Plan::new(columns, Detectors::all(Style::Fixed))
}

fn mask(criterion: &mut Criterion) {
    let key = TokenKey::derive(&[7; 32]);
    let mut group = criterion.benchmark_group("mask");
    for (name, columns, label) in [
        ("clean", CLEAN, false),
        ("with a timestamp", DATED, false),
        ("with an address", HIT, false),
        ("with a labelled column", CLEAN, true),
    ] {
        let ((run, count), plan) = (rows(columns), plan(label));
        group.throughput(Throughput::Bytes(run.len() as u64));
        let (mut masker, mut tally) = (Masker::new(key.clone()), Tally::default());
        group.bench_function(format!("{count} rows {name}"), |bencher| {
            bencher.iter(|| masker.rows(&plan, black_box(&run), &mut tally).unwrap().map(|out| out.len()));
        });
    }
    let ((run, count), plan) = (rows(CLEAN), plan(false));
    group.throughput(Throughput::Bytes(run.len() as u64));
    group.bench_function(format!("{count} rows clean, by the naive twin"), |bencher| {
        bencher.iter(|| reference::rows(&key, &plan, black_box(&run), &mut Tally::default()).unwrap().len());
    });
    let limits = Limits::default();
    group.bench_function(format!("{count} rows clean, walked to their ends only"), |bencher| {
        bencher.iter(|| backend::check_rows(black_box(&run), &limits, Some(5)).0.frames);
    });
    group.finish();
}

criterion_group!(benches, mask);
criterion_main!(benches);
