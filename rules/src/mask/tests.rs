//! The masker against its twin, over plans, formats, chunks and splits; and cases worth naming.

mod random;

use pgturnstile_proto::encode;

use self::random::{spell_csv, spell_text};
use super::copy::CopyMasker;
use super::detect::{self, Detectors};
use super::plan::{Canonical, Column, ColumnMask, LabelId, Origin, Plan, Style};
use super::reference;
use super::row::Masker;
use super::shape::{Hint, Shape};
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
    Plan::new(shapes.iter().map(|shape| Column::clear(*shape)).collect(), all())
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
        (Shape::OpaqueText, "(1,4111111111111111)", "NULL"),
        (Shape::OpaqueText, "(4.111111111111111e+15,x)", "NULL"),
        (Shape::OpaqueText, r#"{"\\x34313131313131313131313131313131"}"#, "NULL"),
        (Shape::OpaqueText, r#"{"\\x3431"}"#, r#"{"\\x3431"}"#),
        (Shape::ByteaText, r"\0014111111111111111", "NULL"),
        (
            Shape::Json,
            r#"{"created": 1701234567890, "id": 52998224725}"#,
            r#"{"created": 1701234567890, "id": 52998224725}"#,
        ),
        (Shape::Json, r#"{"pan": 4.111111111111111e15}"#, r#"{"pan": null}"#),
        (Shape::Json, r#"{"pan": 4111111111111111 X}"#, "NULL"),
        (Shape::Json, r#""\u00e9ann@example.org""#, r#""\u00e9[email]""#),
        (Shape::Unknown(Hint::None), r#" {"a": 4111111111111111}"#, r#" {"a": null}"#),
        (Shape::Unknown(Hint::None), r#"{"{\"pan\": 4111111111111111}"}"#, "NULL"),
        (Shape::Unknown(Hint::None), "{[1,4111111111111113),[4111111111111111,5)}", "NULL"),
        (Shape::Unknown(Hint::None), r#"{"[4111111111111111,4111111111111113)"}"#, "NULL"),
        (Shape::Unknown(Hint::None), "{1,4111111111111111,NULL}", "{1,NULL,NULL}"),
        (Shape::Unknown(Hint::None), "{4.111111111111111e+15}", "{NULL}"),
        (
            Shape::Unknown(Hint::None),
            r#"{a,"pay 4111 1111 1111 1111",ann@example.org}"#,
            r#"{a,"pay [card]",[email]}"#,
        ),
        (Shape::Unknown(Hint::None), "4111 1111 1111 1111", "NULL"),
        (Shape::Unknown(Hint::None), r#"{"C:\\4111111111111111"}"#, r#"{"C:\\[card]"}"#),
        (Shape::Unknown(Hint::None), "{4111", "{4111"),
        (Shape::Unknown(Hint::None), r#"{"pan":4111111111111111}"#, r#"{"pan":null}"#),
        (Shape::Unknown(Hint::None), "4111111111111111", "NULL"),
        (Shape::Unknown(Hint::None), "123-45-6789", "[ssn]"),
        (Shape::Unknown(Hint::None), "+14155550134", "[phone]"),
        (Shape::Unknown(Hint::None), "(415) 555-0134", "NULL"),
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
}

/// One array in binary whose one element, of type `oid`, is `element`.
fn array_of(oid: u32, element: &[u8]) -> Vec<u8> {
    let mut array = Vec::new();
    for word in [1, 0, oid, 1, 1, u32::try_from(element.len()).unwrap()] {
        array.extend_from_slice(&word.to_be_bytes());
    }
    array.extend_from_slice(element);
    array
}

/// What a run of one value comes to, or that it is refused.
fn refuses(shape: Shape, value: &[u8]) -> bool {
    let mut run = Vec::new();
    encode::data_row(&mut run, &[Some(value)]).unwrap();
    masker().rows(&clear(&[shape]), &run, &mut Tally::default()).is_err()
}

#[test]
fn arrays_in_binary_that_are_none_are_refused() {
    let card = b"4111111111111111";
    let sound = array_of(25, card);
    assert!(!refuses(Shape::ArrayBinary, &sound));
    assert!(refuses(Shape::ArrayBinary, b"\0\0\0"));
    assert!(refuses(Shape::ArrayBinary, &sound[..sound.len() - 1]), "an element is cut off");
    assert!(refuses(Shape::ArrayBinary, &[&sound[..], b"x"].concat()), "bytes behind the last element");
    assert!(refuses(Shape::ArrayBinary, &array_of(1009, &sound)), "an array of arrays");
    assert!(refuses(Shape::ArrayBinary, &array_of(1009, b"\0\0\0\x074111111111111111")));
    assert!(
        refuses(Shape::ArrayBinary, &array_of(2249, &sound)),
        "an array of records under a type of plain elements"
    );
    for place in 0..sound.len() {
        // Whatever byte is wrong, it is refused, or the card does not leave.
        let mut bent = sound.clone();
        bent[place] ^= 0x80;
        let mut run = Vec::new();
        encode::data_row(&mut run, &[Some(&bent)]).unwrap();
        if let Ok(out) = masker().rows(&clear(&[Shape::ArrayBinary]), &run, &mut Tally::default()) {
            let out = out.unwrap_or(run);
            assert!(place >= 24 || memchr::memmem::find(&out, card).is_none(), "byte {place}");
        }
    }
}

/// The stack holds none of a value's nesting: PostgreSQL has no arrays of arrays, and records nest by `row(row(…))`.
#[test]
fn nesting_costs_no_stack() {
    const DEPTH: usize = 200_000;
    // Built from the inside, each head written once in front of what it holds.
    let nested = |head: &dyn Fn(usize) -> Vec<u8>, core: &[u8]| {
        let (mut heads, mut length) = (Vec::with_capacity(DEPTH), core.len());
        for _ in 0..DEPTH {
            let head = head(length);
            length += head.len();
            heads.push(head);
        }
        let mut value = heads.into_iter().rev().flatten().collect::<Vec<u8>>();
        value.extend_from_slice(core);
        value
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let length = |length: usize| u32::try_from(length).unwrap();
    let arrays = nested(&|bytes| words(&[1, 0, 1009, 1, 1, length(bytes)]), b"4111111111111111");
    assert!(refuses(Shape::ArrayBinary, &arrays));
    let records = nested(
        &|bytes| words(&[1, 2249, length(bytes)]),
        &array_of(20, &4_111_111_111_111_111_i64.to_be_bytes()),
    );
    for shape in [Shape::OpaqueBinary, Shape::UnknownBinary(Hint::None)] {
        assert_eq!(one(shape, &arrays), None);
        assert_eq!(one(shape, &records), None, "the card at the innermost is found");
    }
    let json = ["[".repeat(DEPTH), "4111111111111111".into(), "]".repeat(DEPTH)].concat();
    assert!(!text(Shape::Json, &json).contains("4111"));
    assert!(!text(Shape::Unknown(Hint::None), &json).contains("4111"));
}

/// Foreign bytes must not make the work grow faster than their number: what is done is counted by what is asked.
#[test]
fn repeated_beginnings_are_searched_once() {
    let stretches = |value: &[u8]| {
        let mut matches = detect::find(&all(), value);
        let mut last = 0;
        while matches.next().is_some() {
            last += 1;
        }
        last
    };
    // Quadratic work would take hours here.
    for word in [
        "eyJ-",
        "eyJ_",
        "eyJ.eyJ-",
        "a@b-",
        "a://",
        "a.a.a://",
        "-----BEGIN ",
        "\\u0001",
        "1 ",
        "(1",
        "+1",
        "sk-",
    ] {
        stretches(word.repeat(4_000_000 / word.len()).as_bytes());
    }
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc";
    assert_eq!(stretches(format!("eyJ- {jwt} eyJ_eyJ-{jwt}").as_bytes()), 2);
}

/// Eight bytes are a number of any type, or text. Of each kind no more than one in a thousand may become NULL.
#[test]
fn values_in_binary_of_no_known_type_are_left_alone() {
    const EACH: u64 = 20_000;
    type Make = fn(u64) -> Vec<u8>;
    let kinds: &[(&str, Make)] = &[
        ("float8, prices", |n| (f64::from(u32::try_from(n).unwrap()) * 1.37 + 0.01).to_be_bytes().into()),
        ("float8, whole", |n| f64::from(u32::try_from(n).unwrap() * 97).to_be_bytes().into()),
        ("int8, keys", |n| (n * 7_919).to_be_bytes().into()),
        ("int8, milliseconds", |n| (1_701_000_000_000 + n * 1_000_003).to_be_bytes().into()),
        ("timestamptz, 2011", |n| (347_155_200_000_000 + n * 1_571_000_003).to_be_bytes().into()),
        ("timestamptz, 2026", |n| (820_000_000_000_000 + n * 1_571_000_003).to_be_bytes().into()),
        ("codes of 8 letters and digits", |n| format!("ABC{n:05}").into_bytes()),
        ("codes that begin with C0", |n| format!("C0{n:06}").into_bytes()),
        ("hexadecimal", |n| format!("{:08X}", n * 200_003).into_bytes()),
        ("uuid", |n| {
            (u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C96_2B1D_11EB)).to_be_bytes().into()
        }),
        ("a record of a float8", |n| {
            let mut record = Vec::new();
            for word in [1_u32, 701, 8] {
                record.extend_from_slice(&word.to_be_bytes());
            }
            record.extend_from_slice(&(f64::from(u32::try_from(n).unwrap()) * 1.37).to_be_bytes());
            record
        }),
        ("float8[]", |n| array_of(701, &(f64::from(u32::try_from(n).unwrap()) * 1.37).to_be_bytes())),
        ("timestamptz[]", |n| array_of(1184, &(347_155_200_000_000 + n * 1_571_000_003).to_be_bytes())),
    ];
    println!("| values in binary, COPY | NULL, of 1,000 |\n|---|---|");
    for (name, make) in kinds {
        let lost = (0..EACH).filter(|n| one(Shape::UnknownBinary(Hint::None), &make(*n)).is_none()).count();
        println!("| {name} | {:.2} |", lost as f64 * 1_000.0 / EACH as f64);
        assert!(lost as u64 * 1_000 <= EACH, "{name}: {lost} of {EACH}");
    }
    let card = 4_111_111_111_111_111_i64;
    let range =
        [&[2_u8, 0, 0, 0, 8][..], &card.to_be_bytes(), &[0, 0, 0, 8], &(card + 2).to_be_bytes()].concat();
    let multirange = [&[0, 0, 0, 1, 0, 0, 0, 25][..], &range].concat();
    let found = [card.to_be_bytes().to_vec(), (card as f64).to_be_bytes().to_vec(), range, multirange];
    for value in found.into_iter().chain([b"pay 4111 1111 1111 1111".to_vec(), b"ann@example.org".to_vec()]) {
        assert_eq!(one(Shape::UnknownBinary(Hint::None), &value), None, "{value:?}");
    }
}

/// Images and what is encrypted are bytes of every kind: an address of six of them is chance. Text in them is found.
#[test]
fn random_bytes_hold_nothing() {
    let mut state = 42_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    const EACH: usize = 200;
    for shape in [Shape::Opaque, Shape::UnknownBinary(Hint::None)] {
        let lost = (0..EACH)
            .filter(|_| {
                let image: Vec<u8> = (0..20_000).map(|_| random()).collect();
                one(shape, &image).is_none()
            })
            .count();
        assert!(lost <= 1, "{lost} of {EACH}");
        let hidden = [b"\xFF\xD8\xFF\xE0".as_slice(), b"by ann.oneil@example.org", b"\0\xFF\xFF"].concat();
        assert_eq!(one(shape, &hidden), None);
        assert_eq!(one(shape, b"a@b.cc"), None);
    }
}

/// A field of a record is searched by itself: the length word before it is no part of it, though it may look like a digit.
#[test]
fn a_length_word_hides_no_field() {
    for length in 16..64 {
        let value = format!("{:<length$}", "4111111111111111");
        let mut record = Vec::new();
        for word in [1_u32, 90_000, u32::try_from(length).unwrap()] {
            record.extend_from_slice(&word.to_be_bytes());
        }
        record.extend_from_slice(value.as_bytes());
        assert_eq!(one(Shape::OpaqueBinary, &record), None, "{length}");
    }
}

/// What the catalog says of a column of COPY chooses between the readings of a value, and hides none.
#[test]
fn a_hint_of_the_catalog_settles_what_digits_are() {
    let cases: &[(Hint, &str, &str)] = &[
        (Hint::None, "52998224725", "NULL"),
        (Hint::Number, "52998224725", "52998224725"),
        (Hint::Number, "378282246310005", "NULL"),
        (Hint::Number, "4111111111111111.00", "NULL"),
        (Hint::Number, "{52998224725,4111111111111111}", "{52998224725,NULL}"),
        // The catalog may be a moment old.
        (Hint::Number, "123-45-6789", "[ssn]"),
        (Hint::Number, "call ann@example.org", "call [email]"),
        (Hint::Number, r#"{"pan": 4111111111111111}"#, r#"{"pan": null}"#),
        (Hint::Nothing, "5078 5077 5077", "5078 5077 5077"),
        (Hint::Nothing, "pay 4111 1111 1111 1111", "pay [card]"),
        (Hint::Opaque, "ann@example.org", "NULL"),
        (Hint::Opaque, "plain", "plain"),
    ];
    for (hint, value, expected) in cases {
        assert_eq!(text(Shape::Unknown(*hint), value), *expected, "{hint:?} {value}");
    }
    for card in
        [30_569_309_025_904_i64, 378_282_246_310_005, 4_111_111_111_111_111, 6_212_345_678_900_000_003]
    {
        assert_eq!(one(Shape::UnknownBinary(Hint::Int8), &card.to_be_bytes()), None, "{card}");
        let date = one(Shape::UnknownBinary(Hint::Nothing), &card.to_be_bytes());
        assert_eq!(date.as_deref(), Some(card.to_be_bytes().as_slice()), "{card}");
    }
    let float = 378_282_246_310_005_f64.to_be_bytes();
    assert_eq!(one(Shape::UnknownBinary(Hint::Float8), &float), None);
    for hint in [Hint::Int8, Hint::Float8, Hint::Numeric, Hint::Nothing, Hint::None] {
        assert_eq!(one(Shape::UnknownBinary(hint), b"to ann@example.org"), None, "{hint:?}");
    }
    let known = |oid| (Shape::of_copied(Some(oid), false), Shape::of_copied(Some(oid), true));
    assert_eq!(known(20), (Shape::Unknown(Hint::Number), Shape::UnknownBinary(Hint::Int8)));
    assert_eq!(known(25), (Shape::Unknown(Hint::None), Shape::UnknownBinary(Hint::None)));
    assert_eq!(known(790), (Shape::Unknown(Hint::Nothing), Shape::UnknownBinary(Hint::Nothing)));
    assert_eq!(known(90_000), (Shape::Unknown(Hint::Opaque), Shape::UnknownBinary(Hint::None)));
}

/// A token of a detector is its column's own, and what is no column has none.
#[test]
fn tokens_of_detectors_are_their_column_s() {
    let masked = |origin: Option<Origin>| {
        let plan = Plan::new(
            vec![Column { origin, ..Column::clear(Shape::Text) }],
            Detectors::all(Style::Token(Canonical::AsIs)),
        );
        let mut run = Vec::new();
        encode::data_row(&mut run, &[Some(b"123-45-6789")]).unwrap();
        masker().rows(&plan, &run, &mut Tally::default()).unwrap().unwrap()
    };
    let one = Origin::of("crm", "people", "ssn");
    assert_eq!(masked(Some(one)), masked(Some(one)));
    assert!(masked(None).ends_with(b"[ssn]"));
    let others = [("crm", "people", "note"), ("crm", "peopl", "essn"), ("hr", "people", "ssn")];
    for (schema, relation, column) in others {
        assert_ne!(masked(Some(one)), masked(Some(Origin::of(schema, relation, column))));
    }
    let mut labelled = Vec::new();
    let style = Style::Token(Canonical::AsIs);
    super::style::label(style, Shape::Text, b"123-45-6789", masker().key(), &mut labelled);
    assert!(!masked(Some(one)).ends_with(&labelled), "a label's tokens are others");
}

/// What is recorded of a text keeps no value that stands in a name.
#[test]
fn names_are_redacted() {
    let redacted = |text: &str| super::value::redacted(&all(), text);
    assert_eq!(
        redacted("select $1 as \"pay 4111111111111111\"").as_deref(),
        Some("select $1 as \"pay [card]\"")
    );
    assert_eq!(redacted("select name from crm.customers where id = $1"), None);
    assert_eq!(super::value::redacted(&Detectors::NONE, "ann@example.org"), None);
    let tokens = Detectors::all(Style::Token(Canonical::AsIs));
    assert_eq!(super::value::redacted(&tokens, "ann@example.org").as_deref(), Some("[email]"));
}

/// Stand-ins that are longer than what they stand for cannot make a value grow without end.
#[test]
fn tokens_do_not_swell_a_value() {
    let value = "a@b.cc ".repeat(100_000);
    let origin = Some(Origin::of("crm", "people", "note"));
    let columns = vec![Column { origin, ..Column::clear(Shape::Text) }];
    let plan = Plan::new(columns, Detectors::all(Style::Token(Canonical::AsIs)));
    let mut run = Vec::new();
    encode::data_row(&mut run, &[Some(value.as_bytes())]).unwrap();
    let out = masker().rows(&plan, &run, &mut Tally::default()).unwrap().unwrap();
    assert!(memchr::memchr(b'@', &out).is_none());
    assert!(out.len() < value.len() + 2 * super::value::GROWTH_BYTES_MAX + 200_000);
}

/// A row that comes in pieces of one byte is looked through once.
#[test]
fn pieces_of_one_byte_cost_no_more_than_their_row() {
    let whole = [b"x ".repeat(1_000_000), b"ann@example.org\n".to_vec()].concat();
    let spelling = CopySpelling::Text { delimiter: b'\t', null: Box::from(*b"\\N"), header: false };
    let mut copy = CopyMasker::new(clear(&[Shape::Unknown(Hint::None)]), spelling);
    let (mut masker, mut tally, mut out) = (masker(), Tally::default(), Vec::new());
    for byte in &whole {
        let mut run = Vec::new();
        encode::copy_data(&mut run, &[*byte]).unwrap();
        let masked = copy.run(&mut masker, &run, &mut tally).unwrap().unwrap_or(run);
        out.extend(reference::copy_data(&masked).unwrap());
    }
    assert!(out.ends_with(b"x [email]\n"));
}

/// Many columns, many matches: a match costs no more for the columns beside it.
#[test]
fn a_tally_of_many_columns() {
    let width = 1_600;
    let mut run = Vec::new();
    let value = b"a@b.cc ".repeat(8);
    for _ in 0..100 {
        encode::data_row(&mut run, &vec![Some(value.as_slice()); width]).unwrap();
    }
    let mut tally = Tally::default();
    masker().rows(&clear(&vec![Shape::Text; width]), &run, &mut tally).unwrap();
    assert_eq!(tally.sorted().len(), width);
    assert!(tally.sorted().iter().all(|(_, _, count)| *count == 800));
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

#[test]
fn of_a_secret_no_end_stays() {
    let plan = Plan::new(vec![Column::clear(Shape::Text)], Detectors::all(Style::Last(4)));
    let mut run = Vec::new();
    encode::data_row(&mut run, &[Some(b"password=hunter2 4111111111111111")]).unwrap();
    let out = masker().rows(&plan, &run, &mut Tally::default()).unwrap().unwrap();
    let out = String::from_utf8_lossy(&out);
    assert!(out.contains("[connection-string] ****1111") && !out.contains("ter2"), "{out}");
}

/// A client chooses delimiter, quote and escape: none of them hides a value, and what leaves reads back as what was masked.
#[test]
fn no_spelling_of_copy_hides_a_value() {
    let values = [
        "pay 4111 1111 1111 1111",
        "123-45-6789 +14155550134",
        "ann.o@example.org",
        "GB29NWBK60161331926819",
    ];
    let masked = ["pay [card]", "[ssn] [phone]", "[email]", "[iban]"];
    let signs: Vec<u8> = (b'!'..=b'~').chain([b' ', b'\t', 0x1E]).collect();
    for delimiter in
        signs.iter().copied().filter(|sign| !b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(sign))
    {
        let mut data = Vec::new();
        for (index, value) in values.iter().enumerate() {
            data.extend((index > 0).then_some(delimiter));
            spell_text(delimiter, value.as_bytes(), &mut data);
        }
        data.push(b'\n');
        let out = copied(CopySpelling::Text { delimiter, null: Box::from(*b"\\N"), header: false }, 4, &data);
        let mut expected = Vec::new();
        for (index, value) in masked.iter().enumerate() {
            expected.extend((index > 0).then_some(delimiter));
            spell_text(delimiter, value.as_bytes(), &mut expected);
        }
        expected.push(b'\n');
        assert_eq!(out, expected, "delimiter {}", char::from(delimiter));
    }
    for quote in signs.iter().copied() {
        for escape in [quote, b'"', b'\\', b'-', b' ', b'1', b'@'] {
            let delimiter = if quote == b'|' { b';' } else { b'|' };
            let mut data = Vec::new();
            for (index, value) in values.iter().enumerate() {
                data.extend((index > 0).then_some(delimiter));
                spell_csv((quote, escape), value.as_bytes(), &mut data);
            }
            data.push(b'\n');
            let spelling =
                CopySpelling::Csv { delimiter, quote, escape, null: Box::from(*b""), header: false };
            let out = copied(spelling, 4, &data);
            let fields = csv_fields(&out, (delimiter, quote, escape));
            assert_eq!(
                fields,
                masked.map(|value| value.as_bytes().to_vec()),
                "{} {}",
                char::from(quote),
                char::from(escape)
            );
        }
    }
}

/// What leaves of COPY data that comes in one piece.
fn copied(spelling: CopySpelling, width: usize, data: &[u8]) -> Vec<u8> {
    let mut copy = CopyMasker::new(clear(&vec![Shape::Unknown(Hint::None); width]), spelling);
    let (mut masker, mut tally) = (masker(), Tally::default());
    let mut run = Vec::new();
    encode::copy_data(&mut run, data).unwrap();
    let out = copy.run(&mut masker, &run, &mut tally).unwrap().unwrap_or(run);
    assert!(copy.end(&mut masker, &mut tally).unwrap().is_none());
    reference::copy_data(&out).unwrap()
}

/// The fields of one line, read as COPY FROM reads them.
fn csv_fields(line: &[u8], (delimiter, quote, escape): (u8, u8, u8)) -> Vec<Vec<u8>> {
    let (mut fields, mut open) = (vec![Vec::new()], false);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if open && byte == escape && bytes.peek().is_some_and(|next| *next == quote || *next == escape) {
            fields.last_mut().unwrap().extend(bytes.next());
        } else if byte == quote {
            open = !open;
        } else if !open && byte == delimiter {
            fields.push(Vec::new());
        } else if open || byte != b'\n' {
            fields.last_mut().unwrap().push(byte);
        }
    }
    fields
}
