//! The masker against its naive twin: rows under a plan that the input makes, and COPY data in pieces that it cuts.
//!
//! Input: a byte for the number of columns, two for each column (mask, shape), one for the style of detectors, one for
//! the way COPY is spelled; then values, parted by 0x1E, row by row.
#![allow(clippy::panic, reason = "a broken promise must stop the run")]

use pgturnstile_proto::encode;
use pgturnstile_rules::mask::copy::CopyMasker;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::plan::{Canonical, Column, ColumnMask, LabelId, Origin, Plan, Style};
use pgturnstile_rules::mask::reference;
use pgturnstile_rules::mask::row::Masker;
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::mask::tally::Tally;
use pgturnstile_rules::statement::facts::CopySpelling;

const STYLES: &[Style] =
    &[Style::Null, Style::Fixed, Style::Last(4), Style::Domain, Style::Token(Canonical::Lower)];

fn pick<T: Copy>(list: &[T], byte: u8) -> Option<T> {
    list.get(usize::from(byte) % list.len()).copied()
}

fn masker() -> Masker {
    Masker::new(TokenKey::derive(&[7; 32]))
}

/// See the module.
pub fn run(data: &[u8]) {
    let mut input = data.iter().copied();
    let mut next = || input.next().unwrap_or(0);
    let width = usize::from(next() % 6) + 1;
    let mut columns = Vec::new();
    for _ in 0..width {
        let (mask, shape) = (next(), next());
        let Some(style) = pick(STYLES, mask >> 4) else { return };
        let mask = match mask & 15 {
            0 => ColumnMask::Label { label: LabelId(1), style },
            1 => ColumnMask::Null { why: "origin" },
            _ => ColumnMask::Clear,
        };
        let Some(shape) = pick(Shape::ALL, shape) else { return };
        let origin = (style == Style::Fixed).then(|| Origin::of("crm", "people", "note"));
        columns.push(Column { mask, shape, origin });
    }
    let (Some(style), spelling) = (pick(STYLES, next()), next()) else { return };
    let rest: Vec<u8> = input.collect();
    let plan = Plan::new(columns, Detectors::all(style));
    rows(&plan, &rest);
    copies(&plan, spelling, &rest);
    // Bytes that are no run must be refused or taken, never panic.
    drop(masker().rows(&plan, &rest, &mut Tally::default()));
}

fn rows(plan: &Plan, rest: &[u8]) {
    let values: Vec<&[u8]> = rest.split(|byte| *byte == 0x1E).collect();
    let mut run = Vec::new();
    for row in values.chunks_exact(plan.columns().len()) {
        let row: Vec<Option<&[u8]>> = row.iter().map(|value| (*value != b"NULL").then_some(*value)).collect();
        if encode::data_row(&mut run, &row).is_err() {
            return;
        }
    }
    let (mut fast, mut slow) = (Tally::default(), Tally::default());
    let masked = masker().rows(plan, &run, &mut fast);
    let expected = reference::rows(masker().key(), plan, &run, &mut slow);
    match (masked, expected) {
        (Ok(masked), Ok(expected)) => {
            assert_eq!(masked.as_deref().unwrap_or(&run), expected, "the rows");
            assert_eq!(fast.sorted(), slow.sorted(), "the tally");
        }
        // A value that is none of its type is refused by both.
        (Err(_), Err(_)) => {}
        other => panic!("one of the two refused: {other:?}"),
    }
}

/// The data that leaves, or that it was refused.
fn copied(plan: &Plan, spelling: &CopySpelling, pieces: &[&[u8]]) -> Result<Vec<u8>, ()> {
    let mut copy = CopyMasker::new(plan.clone(), spelling.clone());
    let (mut masker, mut tally, mut out) = (masker(), Tally::default(), Vec::new());
    for piece in pieces {
        let mut run = Vec::new();
        encode::copy_data(&mut run, piece).map_err(drop)?;
        let masked = copy.run(&mut masker, &run, &mut tally).map_err(drop)?;
        out.extend(reference::copy_data(masked.as_deref().unwrap_or(&run)).map_err(drop)?);
    }
    if let Some(rest) = copy.end(&mut masker, &mut tally).map_err(drop)? {
        out.extend(reference::copy_data(&rest).map_err(drop)?);
    }
    Ok(out)
}

fn copies(plan: &Plan, spelling: u8, data: &[u8]) {
    // What a client may choose: signs that stand in what detectors look for, too.
    let delimiter = pick(b"\x1e\t,;| -.@:_A", spelling >> 4).unwrap_or(0x1E);
    let quote = pick(b"\"'-1 x", spelling >> 2).filter(|quote| *quote != delimiter).unwrap_or(b'"');
    let escape = pick(b"\"\\-1e ", spelling >> 3).unwrap_or(b'"');
    let spelling = match spelling % 3 {
        0 => CopySpelling::Text { delimiter, null: Box::from(*b"\\N"), header: false },
        1 => CopySpelling::Csv { delimiter, quote, escape, null: Box::from(*b""), header: false },
        _ => CopySpelling::Binary,
    };
    // Whole lines, or pieces of seven bytes: a search may see a line at a glance and must not answer otherwise.
    let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
    let pieces: Vec<&[u8]> = data.chunks(7).collect();
    let whole = copied(plan, &spelling, &[data]);
    let same = |pieces: &[&[u8]], how: &str| {
        // A row of another width is refused where it is read, and not where a glance says that it holds nothing.
        if let (Ok(whole), Ok(pieces)) = (&whole, &copied(plan, &spelling, pieces)) {
            assert_eq!(pieces, whole, "{how}");
        }
    };
    same(&pieces, "in small pieces");
    if spelling != CopySpelling::Binary {
        same(&lines, "line by line");
    }
}
