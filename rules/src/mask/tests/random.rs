//! The masker against its naive twin: random plans, rows, spellings and splits.

use proptest::prelude::*;

use super::*;
use crate::mask::originals::Originals;
use pgturnstile_proto::backend::DataRow;

const WORDS: &[&str] = &[
    "4111111111111111",
    "4111 1111 1111 1111",
    "5555-5555-5555-4444",
    "378282246310005",
    "123-45-6789",
    "ann@example.org",
    "GB29NWBK60161331926819",
    "DE89 3704 0044 0532 0130 00",
    "+49 30 901820",
    "(415) 555-0134",
    "415-555-0134",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "postgres://u:p@h/db",
    "password=hunter22",
    "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
    "529.982.247-25",
    "943 476 5919",
    "44051401359",
    "11.222.333/0001-81",
    "2026-11-21 04:50:17",
    "2026-11-21",
    "1234567.89",
    "550e8400-e29b-41d4-a716-446655440000",
    "hello",
    "\n",
    "\t",
    "\\",
    "\"",
    "{",
    "}",
    ",",
    "@",
    " ",
    "-",
    ".",
    "+1",
    "é",
    "null",
    "\\x4040",
    "\\x34313131313131313131313131313131",
    "\\064",
    "4.111111111111111e+15",
    "{\"a\": ",
    "\"}",
    "[1,",
    "(",
    "415-555-2671x12",
    "%B",
    "\\u00e9",
    "sk_live_0123456789abcdef",
    "glpat-0123456789abcdefghij",
    "811218-9876",
    "1 84 12 76 451 089 46",
    "0",
    "x",
];

fn words() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(WORDS), 0..5)
        .prop_map(|words| words.concat().into_bytes())
}

/// A value of a plain type, and its type's oid.
fn plain() -> impl Strategy<Value = (u32, Vec<u8>)> {
    prop_oneof![
        words().prop_map(|value| (25, value)),
        words().prop_map(|value| (90_000, value)),
        Just((20, 4_111_111_111_111_111_i64.to_be_bytes().to_vec())),
        Just((701, 4_111_111_111_111_111_f64.to_be_bytes().to_vec())),
        any::<f64>().prop_map(|value| (701, value.to_be_bytes().to_vec())),
        any::<i64>().prop_map(|value| (20, value.to_be_bytes().to_vec())),
        words().prop_map(|value| (3802, [&[1], value.as_slice()].concat())),
        Just((1700, {
            let mut value = Vec::new();
            crate::mask::number::write_numeric(4_111_111_111_111_111, &mut value);
            value
        })),
    ]
}

/// Arrays and records, one in the other, some of them bent.
fn containers() -> impl Strategy<Value = Vec<u8>> {
    let nested = plain().prop_recursive(3, 12, 3, |inner| {
        let sized =
            |value: &[u8]| [u32::try_from(value.len()).unwrap().to_be_bytes().as_slice(), value].concat();
        let array = proptest::collection::vec(inner.clone(), 0..3).prop_map(move |values| {
            let oid = values.first().map_or(25, |(oid, _)| *oid);
            let mut array: Vec<u8> = Vec::new();
            for word in [1, 0, oid, u32::try_from(values.len()).unwrap(), 1] {
                array.extend_from_slice(&word.to_be_bytes());
            }
            array.extend(values.iter().flat_map(|(_, value)| sized(value)));
            (1009, array)
        });
        let record = proptest::collection::vec(inner, 0..3).prop_map(move |values| {
            let mut record = u32::try_from(values.len()).unwrap().to_be_bytes().to_vec();
            for (oid, value) in &values {
                record.extend_from_slice(&oid.to_be_bytes());
                record.extend(sized(value));
            }
            (2249, record)
        });
        prop_oneof![array, record]
    });
    let bend = proptest::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
    (nested, bend).prop_map(|((_, mut value), bend)| {
        if let (Some((place, byte)), false) = (bend, value.is_empty()) {
            let place = place.index(value.len());
            value[place] = byte;
        }
        value
    })
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => words(),
        2 => "[0-9 .@+()-]{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => any::<i64>().prop_map(|number| number.to_be_bytes().to_vec()),
        2 => containers(),
        1 => Just(4_111_111_111_111_111_i64.to_be_bytes().to_vec()),
    ]
}

fn style() -> impl Strategy<Value = Style> {
    prop_oneof![
        Just(Style::Null),
        Just(Style::Fixed),
        (0u8..9).prop_map(Style::Last),
        Just(Style::Domain),
        Just(Style::Token(Canonical::Lower)),
    ]
}

fn column() -> impl Strategy<Value = Column> {
    let mask = prop_oneof![
        12 => Just(ColumnMask::Clear),
        1 => style().prop_map(|style| ColumnMask::Label { label: LabelId(3), style }),
        1 => Just(ColumnMask::Null { why: "origin" }),
    ];
    let origin = proptest::option::of(Just(Origin::of("crm", "people", "note")));
    (mask, proptest::sample::select(Shape::ALL), origin).prop_map(|(mask, shape, origin)| Column {
        mask,
        shape,
        origin,
    })
}

fn plan_and_rows() -> impl Strategy<Value = (Plan, Vec<Vec<Option<Vec<u8>>>>)> {
    (proptest::collection::vec(column(), 1..5), style(), any::<bool>()).prop_flat_map(
        |(columns, style, sweeping)| {
            let columns: Vec<Column> = columns
                .into_iter()
                .map(|column| if sweeping { Column::clear(Shape::Text) } else { column })
                .collect();
            let width = columns.len();
            let row = proptest::collection::vec(proptest::option::weighted(0.9, raw()), width);
            (Just(Plan::new(columns, Detectors::all(style))), proptest::collection::vec(row, 0..8))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_search_is_its_twins(value in raw()) {
        let found: Vec<detect::Match> = detect::find(&all(), &value).collect();
        prop_assert_eq!(found, reference::find(&all(), &value));
    }

    #[test]
    fn rows_are_their_twins((plan, rows) in plan_and_rows()) {
        let mut run = Vec::new();
        for row in &rows {
            let values: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
            encode::data_row(&mut run, &values).unwrap();
        }
        let (mut fast, mut slow) = (Tally::default(), Tally::default());
        let mut masker = masker();
        masker.keep_originals(true, 0);
        let masked = masker.rows(&plan, &run, &mut fast);
        let originals = masker.take_originals();
        let expected = reference::rows(masker.key(), &plan, &run, &mut slow);
        prop_assert_eq!(masked.is_err(), expected.is_err());
        if let (Ok(masked), Ok(expected)) = (masked, expected) {
            prop_assert_eq!(masked.as_deref().unwrap_or(&run), &expected[..]);
            prop_assert_eq!(fast.sorted(), slow.sorted());
            if plan.is_clear() {
                prop_assert_eq!(masked.as_deref(), None);
            }
            let left = masked.as_deref().unwrap_or(&run);
            prop_assert!(put_back(&originals, &rows, left), "{:?}", originals);
        }
    }

    /// Whatever pieces a COPY comes in, and however it is spelled, the same bytes leave.
    #[test]
    fn copies_are_the_same_in_any_pieces(
        rows in proptest::collection::vec(proptest::collection::vec(words(), 3), 0..6),
        csv in any::<bool>(),
        (delimiter, quote, escape) in (
            proptest::sample::select(b"\t,;| -.@:_A\x1e".as_slice()),
            proptest::sample::select(b"\"'-1 x".as_slice()),
            proptest::sample::select(b"\"\\'-1 e".as_slice()),
        ),
        cuts in proptest::collection::vec(1usize..40, 0..40),
    ) {
        // PostgreSQL refuses a delimiter that is the quote.
        let delimiter = if csv && delimiter == quote { b',' } else { delimiter };
        let spelling = if csv {
            CopySpelling::Csv { delimiter, quote, escape, null: Box::from(*b""), header: false }
        } else {
            CopySpelling::Text { delimiter, null: Box::from(*b"\\N"), header: false }
        };
        let mut whole = Vec::new();
        for row in &rows {
            for (index, value) in row.iter().enumerate() {
                whole.extend((index > 0).then_some(delimiter));
                if csv { spell_csv((quote, escape), value, &mut whole) } else { spell_text(delimiter, value, &mut whole) }
            }
            whole.push(b'\n');
        }
        let run_of = |pieces: &[&[u8]], keeps: bool| {
            let plan = clear(&[Shape::Unknown(Hint::None); 3]);
            let mut copy = CopyMasker::new(plan, spelling.clone());
            let (mut masker, mut tally, mut out) = (masker(), Tally::default(), Vec::new());
            let mut originals = Vec::new();
            for piece in pieces {
                masker.keep_originals(keeps, 0);
                let mut run = Vec::new();
                encode::copy_data(&mut run, piece).unwrap();
                let masked = copy.run(&mut masker, &run, &mut tally).unwrap();
                out.extend(reference::copy_data(masked.as_deref().unwrap_or(&run)).unwrap());
                originals.extend(masker.take_originals().iter().map(|(row, column, value)| (row, column, value.to_vec())));
            }
            masker.keep_originals(keeps, 0);
            if let Some(rest) = copy.end(&mut masker, &mut tally).unwrap() {
                out.extend(reference::copy_data(&rest).unwrap());
            }
            originals.extend(masker.take_originals().iter().map(|(row, column, value)| (row, column, value.to_vec())));
            (out, tally.sorted(), originals)
        };
        let mut pieces = Vec::new();
        let mut rest = whole.as_slice();
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        let (out, tally, none) = run_of(&[&whole], false);
        prop_assert!(none.is_empty());
        let (kept_out, kept_tally, originals) = run_of(&[&whole], true);
        prop_assert_eq!((&kept_out, &kept_tally), (&out, &tally), "keeping originals changes nothing");
        for (row, column, value) in &originals {
            prop_assert_eq!(value, &rows[usize::try_from(*row).unwrap()][usize::from(*column)]);
        }
        prop_assert_eq!(run_of(&pieces, true), (out.clone(), tally.clone(), originals));
        let by_rows: Vec<&[u8]> = if csv { vec![&whole] } else { whole.split_inclusive(|byte| *byte == b'\n').collect() };
        prop_assert_eq!(run_of(&by_rows, false), (out.clone(), tally, Vec::new()));
        // What leaves reads back as the values that the twin masks one by one.
        let mut expected = Vec::new();
        for row in &rows {
            for (index, value) in row.iter().enumerate() {
                expected.extend((index > 0).then_some(delimiter));
                let (masked, _) = reference::value(&all(), None, Shape::Unknown(Hint::None), value).unwrap();
                match masked {
                    reference::Became::Kept if csv => spell_csv((quote, escape), value, &mut expected),
                    reference::Became::Kept => spell_text(delimiter, value, &mut expected),
                    reference::Became::Null if csv => {}
                    reference::Became::Null => expected.extend_from_slice(b"\\N"),
                    reference::Became::Value(value) if csv => spell_csv((quote, escape), &value, &mut expected),
                    reference::Became::Value(value) => spell_text(delimiter, &value, &mut expected),
                }
            }
            expected.push(b'\n');
        }
        prop_assert_eq!(out, expected);
    }
}

/// Whether the originals are the values that stood in their places, and every value that left otherwise is among them.
fn put_back(originals: &Originals, rows: &[Vec<Option<Vec<u8>>>], left: &[u8]) -> bool {
    let mut kept: Vec<(u64, u16, &[u8])> = originals.iter().collect();
    let mut rest = left;
    for (row, values) in rows.iter().enumerate() {
        let length = 1 + u32::from_be_bytes(*rest[1..].first_chunk().unwrap()) as usize;
        let (frame, behind) = rest.split_at(length);
        rest = behind;
        let frame = DataRow::parse(frame).unwrap();
        for (column, (came, went)) in values.iter().zip(frame.columns().iter()).enumerate() {
            let place = (row as u64, u16::try_from(column).unwrap());
            let original = kept.iter().position(|(row, column, _)| (*row, *column) == place);
            match original.map(|at| kept.remove(at).2) {
                Some(original) if Some(original) != came.as_deref() => return false,
                None if came.as_deref() != went => return false,
                Some(_) | None => {}
            }
        }
    }
    kept.is_empty()
}

pub(super) fn spell_csv((quote, escape): (u8, u8), value: &[u8], out: &mut Vec<u8>) {
    out.push(quote);
    for byte in value {
        if *byte == quote || *byte == escape {
            out.push(escape);
        }
        out.push(*byte);
    }
    out.push(quote);
}

pub(super) fn spell_text(delimiter: u8, value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte if *byte == delimiter => out.extend_from_slice(&[b'\\', delimiter]),
            byte => out.push(*byte),
        }
    }
}
