//! The masker against its twin, over plans, formats, chunks and splits; and cases worth naming.

use pgturnstile_proto::encode;
use proptest::prelude::*;

use super::copy::CopyMasker;
use super::detect::{self, Detectors};
use super::plan::{Canonical, Column, ColumnMask, LabelId, Plan, Style};
use super::reference;
use super::row::Masker;
use super::shape::Shape;
use super::style::TokenKey;
use super::tally::Tally;
use crate::statement::facts::CopySpelling;

fn masker() -> Masker {
    Masker::new(TokenKey::derive(&[7; 32]))
}

fn all() -> Detectors {
    Detectors::all(Style::Fixed)
}

fn clear(shapes: &[Shape]) -> Plan {
    Plan::new(shapes.iter().map(|shape| Column { mask: ColumnMask::Clear, shape: *shape }).collect(), all())
}

/// One value of one shape through the masker.
fn one(shape: Shape, value: &[u8]) -> Option<Vec<u8>> {
    let mut run = Vec::new();
    encode::data_row(&mut run, &[Some(value)]).unwrap();
    let out = masker().rows(&clear(&[shape]), &run, &mut Tally::default()).unwrap().unwrap_or(run);
    let row = pgturnstile_proto::backend::DataRow::parse(&out).unwrap();
    row.columns().iter().next().unwrap().map(<[u8]>::to_vec)
}

fn text(shape: Shape, value: &str) -> String {
    one(shape, value.as_bytes()).map_or_else(|| "NULL".to_owned(), |value| String::from_utf8(value).unwrap())
}

#[test]
fn values_stay_valid_where_they_stand() {
    let cases: &[(Shape, &str, &str)] = &[
        (Shape::Text, "pay 4111 1111 1111 1111 now", "pay [card] now"),
        (
            Shape::Text,
            "nothing here 2026-11-21 04:50:17.123456+00 1234567.89",
            "nothing here 2026-11-21 04:50:17.123456+00 1234567.89",
        ),
        (Shape::Text, "ann@example.org, (415) 555-0134", "[email], [phone]"),
        (
            Shape::Json,
            r#"{"pan": 4111111111111111, "n": "5555-5555-5555-4444"}"#,
            r#"{"pan": null, "n": "[card]"}"#,
        ),
        (
            Shape::Json,
            r#"{"a":"\nann@example.org","b":-4111111111111111.00}"#,
            r#"{"a":"\n[email]","b":null}"#,
        ),
        (Shape::NumberText, "4111111111111111.00", "NULL"),
        (Shape::NumberText, "4111111111111112", "4111111111111112"),
        (Shape::FloatText, "4.111111111111111e+15", "NULL"),
        (
            Shape::TextArray,
            r#"{4111111111111111,"a b","x ann@example.org"}"#,
            r#"{[card],"a b","x [email]"}"#,
        ),
        (Shape::NumberArray, "{1,4111111111111111,NULL}", "{1,NULL,NULL}"),
        (Shape::ByteaText, "\\x34313131313131313131313131313131", "NULL"),
        (Shape::Opaque, "(1,4111111111111111)", "NULL"),
        (Shape::Unknown, r#"{"pan":4111111111111111}"#, r#"{"pan":null}"#),
        (Shape::Unknown, "4111111111111111", "NULL"),
        (Shape::Unknown, "123-45-6789", "[ssn]"),
        (Shape::Unknown, "+14155550134", "[phone]"),
        (Shape::Unknown, "(415) 555-0134", "NULL"),
    ];
    for (shape, value, expected) in cases {
        assert_eq!(text(*shape, value), *expected, "{shape:?} {value}");
    }
    assert_eq!(one(Shape::Int8Binary, &4_111_111_111_111_111_i64.to_be_bytes()), None);
    assert_eq!(one(Shape::JsonbBinary, b"\x01{\"a\": 4111111111111111}").unwrap(), b"\x01{\"a\": null}");
}

#[test]
fn arrays_in_binary_keep_their_frame() {
    let mut array = Vec::new();
    for word in [1_i32, 0, 20, 2, 1, 8] {
        array.extend_from_slice(&word.to_be_bytes());
    }
    array.extend_from_slice(&4_111_111_111_111_111_i64.to_be_bytes());
    array.extend_from_slice(&8_i32.to_be_bytes());
    array.extend_from_slice(&5_i64.to_be_bytes());
    let masked = one(Shape::ArrayBinary, &array).unwrap();
    assert_eq!(masked.len(), array.len() - 8);
    assert_eq!(masked[4..8], [0, 0, 0, 1], "it holds a NULL now");
    assert_eq!(masked[20..24], [0xFF; 4]);
    assert_eq!(one(Shape::ArrayBinary, b"\0\0\0"), None, "what cannot be read is NULL");
}

#[test]
fn a_record_in_binary_is_searched_by_its_fields() {
    let mut record = 2_i32.to_be_bytes().to_vec();
    for (oid, value) in
        [(23_u32, &7_i32.to_be_bytes()[..]), (20, &4_111_111_111_111_111_i64.to_be_bytes()[..])]
    {
        record.extend_from_slice(&oid.to_be_bytes());
        record.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        record.extend_from_slice(value);
    }
    assert_eq!(one(Shape::OpaqueBinary, &record), None);
    record.truncate(record.len() - 8);
    record.extend_from_slice(&5_i64.to_be_bytes());
    assert_eq!(one(Shape::OpaqueBinary, &record), Some(record));
}

#[test]
fn a_row_of_another_width_is_a_misfit() {
    let mut run = Vec::new();
    encode::data_row(&mut run, &[Some(b"ann@example.org"), None]).unwrap();
    assert!(masker().rows(&clear(&[Shape::Text]), &run, &mut Tally::default()).is_err());
}

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

fn raw() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => words(),
        2 => "[0-9 .@+()-]{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => any::<i64>().prop_map(|number| number.to_be_bytes().to_vec()),
        1 => Just(4_111_111_111_111_111_i64.to_be_bytes().to_vec()),
    ]
}

const SHAPES: &[Shape] = &[
    Shape::Text,
    Shape::Text,
    Shape::Json,
    Shape::JsonbBinary,
    Shape::NumberText,
    Shape::FloatText,
    Shape::Int8Binary,
    Shape::NumericBinary,
    Shape::Float8Binary,
    Shape::UuidText,
    Shape::UuidBinary,
    Shape::ByteaText,
    Shape::Opaque,
    Shape::TextArray,
    Shape::NumberArray,
    Shape::ArrayBinary,
    Shape::OpaqueBinary,
    Shape::Unknown,
    Shape::UnknownBinary,
    Shape::Never,
];

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
    (mask, proptest::sample::select(SHAPES)).prop_map(|(mask, shape)| Column { mask, shape })
}

fn plan_and_rows() -> impl Strategy<Value = (Plan, Vec<Vec<Option<Vec<u8>>>>)> {
    (proptest::collection::vec(column(), 1..5), style(), any::<bool>()).prop_flat_map(
        |(columns, style, sweeping)| {
            let columns: Vec<Column> =
                columns
                    .into_iter()
                    .map(|column| {
                        if sweeping { Column { mask: ColumnMask::Clear, shape: Shape::Text } } else { column }
                    })
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
        let mut found = Vec::new();
        detect::find(&all(), &value, &mut found);
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
        let masked = masker().rows(&plan, &run, &mut fast).unwrap();
        let expected = reference::rows(&mut masker(), &plan, &run, &mut slow).unwrap();
        prop_assert_eq!(masked.as_deref().unwrap_or(&run), &expected[..]);
        prop_assert_eq!(fast.sorted(), slow.sorted());
        if plan.is_clear() {
            prop_assert_eq!(masked, None);
        }
    }

    /// Whatever pieces a COPY comes in, the same bytes leave.
    #[test]
    fn copies_are_the_same_in_any_pieces(
        rows in proptest::collection::vec(proptest::collection::vec(words(), 3), 0..6),
        csv in any::<bool>(),
        cuts in proptest::collection::vec(1usize..40, 0..40),
    ) {
        let spelling = if csv {
            CopySpelling::Csv { delimiter: b',', quote: b'"', escape: b'"', null: Box::from(*b""), header: false }
        } else {
            CopySpelling::Text { delimiter: b'\t', null: Box::from(*b"\\N"), header: false }
        };
        let mut whole = Vec::new();
        for row in &rows {
            for (index, value) in row.iter().enumerate() {
                if index > 0 {
                    whole.push(if csv { b',' } else { b'\t' });
                }
                spell(csv, value, &mut whole);
            }
            whole.push(b'\n');
        }
        let run_of = |pieces: &[&[u8]]| {
            let plan = clear(&[Shape::Unknown; 3]);
            let mut copy = CopyMasker::new(plan, spelling.clone());
            let (mut masker, mut tally, mut out) = (masker(), Tally::default(), Vec::new());
            for piece in pieces {
                let mut run = Vec::new();
                encode::copy_data(&mut run, piece).unwrap();
                let masked = copy.run(&mut masker, &run, &mut tally).unwrap();
                out.extend(reference::copy_data(masked.as_deref().unwrap_or(&run)).unwrap());
            }
            if let Some(rest) = copy.end(&mut masker, &mut tally).unwrap() {
                out.extend(reference::copy_data(&rest).unwrap());
            }
            (out, tally.sorted())
        };
        let mut pieces = Vec::new();
        let mut rest = whole.as_slice();
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        prop_assert_eq!(run_of(&pieces), run_of(&[&whole]));
        let by_rows: Vec<&[u8]> = if csv { vec![&whole] } else { whole.split_inclusive(|byte| *byte == b'\n').collect() };
        prop_assert_eq!(run_of(&by_rows), run_of(&[&whole]));
    }
}

fn spell(csv: bool, value: &[u8], out: &mut Vec<u8>) {
    if csv {
        out.push(b'"');
        for byte in value {
            if *byte == b'"' {
                out.push(b'"');
            }
            out.push(*byte);
        }
        out.push(b'"');
    } else {
        for byte in value {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                byte => out.push(*byte),
            }
        }
    }
}
