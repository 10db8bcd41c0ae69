//! Golden files of sealed originals and of their opening: kinds 42 and 43. What is sealed is random, so it stands beside the
//! segment, and is opened here.

use std::fs;
use std::path::PathBuf;

use super::directory::check;
use super::golden::{self, Script, folder, header, same, told};
use super::samples;
use crate::evidence::checkpoint::unhex;
use crate::evidence::describe::hex;
use crate::evidence::format::{REFERS_TO_NONE, RecordView};
use crate::evidence::originals::{AuditorSecret, Chunk, Chunks, Opened, Place, SealError, Valued, what_of};
use crate::evidence::read::segment_name;
use crate::evidence::record::v1::*;
use crate::evidence::record::{self, Entry, How, Payload};
use crate::evidence::verify::verify;

/// Number in session 3 of the statement that sealed records refer to.
const STATEMENT: u64 = 4;
/// File of what was sealed.
const SEALED: &str = "sealed.txt";

fn golden() -> PathBuf {
    folder("evidence_v1_sealed")
}

fn secret() -> AuditorSecret {
    AuditorSecret::new("golden", &[9; 32]).unwrap()
}

/// What the golden records hold, in order; of each: of what, values, bytes of a record.
fn content() -> Vec<(SealedOf, Vec<Valued<'static>>, usize)> {
    vec![
        (SealedOf::Rows, vec![(0, 0, b"123-45-6789"), (0, 2, b"\xff\0"), (7, 0, b"")], 1 << 10),
        (SealedOf::CopyToClient, vec![(1, 1, b"kim@example.com, who is longer than a record")], 40),
        (SealedOf::Text, vec![(0, 0, b"select 1 where ssn = '123-45-6789'")], 1 << 10),
        (SealedOf::Parameters, vec![(0, 1, b"4111111111111111")], 1 << 10),
        (SealedOf::Report, vec![(0, 0, b"E...")], 1 << 10),
        (SealedOf::Notification, vec![(0, 0, b"row 123-45-6789")], 1 << 10),
    ]
}

/// Every chunk of the content with the number of its record.
fn chunks() -> Vec<(u64, SealedOf, Chunk)> {
    let mut number = STATEMENT;
    let mut chunks = Vec::new();
    for (what, values, bytes_max) in content() {
        for chunk in Chunks::new(&values, bytes_max) {
            number += 1;
            chunks.push((number, what, chunk));
        }
    }
    chunks
}

fn refers(what: SealedOf) -> Option<u64> {
    (what != SealedOf::Notification).then_some(STATEMENT)
}

/// What was sealed once: a line of encapsulated key and ciphertext for each chunk.
fn sealed() -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = golden().join(SEALED);
    if std::env::var_os("PGTURNSTILE_WRITE_GOLDEN").is_some() && !path.exists() {
        let log_id = header().log_id;
        let line = |(number, what, chunk): &(u64, SealedOf, Chunk)| {
            let refers = refers(*what).unwrap_or(REFERS_TO_NONE);
            let place = Place { log_id: &log_id, session: &[3; 16], number: *number, refers, what: *what };
            let sealed = chunk.seal(secret().key(), &place).unwrap();
            let entry = sealed.entry(None);
            format!("{} {}\n", hex(entry.encapsulated), hex(entry.ciphertext))
        };
        fs::create_dir_all(golden()).unwrap();
        fs::write(&path, chunks().iter().map(line).collect::<String>()).unwrap();
    }
    let bytes = |digits: &str| -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    };
    let text = fs::read_to_string(&path).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(key, text)| (bytes(key), bytes(text)))
        .collect()
}

fn made() -> Vec<u8> {
    let mut script = Script::begin(&header());
    golden::gateway(&mut script);
    golden::login(&mut script);
    let facts = samples::facts();
    let Entry::Statement(statement) = samples::statement(&facts) else { panic!("a sample") };
    script.put(3, 3, &Entry::JudgedText(statement.shared()), How::QUEUED);
    script.put(3, STATEMENT, &Entry::Statement(statement), How::GATED);
    let id = *secret().key().id();
    let mut last = STATEMENT;
    for ((number, what, chunk), (encapsulated, ciphertext)) in chunks().iter().zip(sealed()) {
        let columns: &[u16] = match what {
            SealedOf::Rows => &[0, 2],
            SealedOf::CopyToClient | SealedOf::Parameters => &[1],
            SealedOf::Text | SealedOf::Report | SealedOf::Notification => &[0],
        };
        let rest = (*what == SealedOf::CopyToClient).then_some("record_rows_bytes_max, 40 bytes, is reached");
        let entry = Sealed {
            what: *what,
            rest,
            values: chunk.values(),
            key_id: &id,
            columns,
            encapsulated: encapsulated.as_slice().try_into().unwrap(),
            ciphertext: &ciphertext,
        };
        let how = refers(*what).map_or(How::GATED, |refers| How::GATED.belonging_to(refers));
        script.put(3, *number, &Entry::Sealed(entry), how);
        last = *number;
    }
    script.put(3, last + 1, &samples::result(), How::QUEUED.answering(STATEMENT));
    script.put(3, last + 2, &samples::closed_entry(&Totals::default()), How::QUEUED);
    let head = unhex::<32>(&"ab".repeat(32)).unwrap();
    let unsealed = Unsealed {
        reason: "case 4711",
        operator: "kim (uid 1000)",
        filter: "session 0303, statement 4",
        log_id: &[8; 16],
        records: 74,
        head: &head,
        key_id: &id,
        sealed: 7,
        values: 9,
    };
    script.put(1, 4, &Entry::Unsealed(unsealed), How::GATED);
    script.put(1, 5, &Entry::GatewayStopped(GatewayStopped { reason: "written down" }), How::GATED);
    script.seal();
    script.closed()
}

/// Does something with every sealed record of the golden log.
fn each(look: &mut dyn FnMut(&RecordView<'_>, &ArchivedSealed<'_>)) {
    verify(&golden(), &mut |_, _| {}, &mut |_, record| {
        if let Ok((_, Payload::Sealed(sealed))) = record::payload(record) {
            look(record, sealed);
        }
    })
    .unwrap();
}

#[test]
fn what_is_sealed_is_written_byte_for_byte_as_it_was_published() {
    same(&golden(), &segment_name(0), &made());
}

#[test]
fn what_is_sealed_reads_as_it_was_published() {
    let report = check(&golden());
    assert!(report.sound(), "{:?} {:?}", report.bad, report.findings);
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}

#[test]
fn what_was_sealed_once_opens_for_ever_in_its_place_and_for_its_key_alone() {
    let mut found: Vec<(u64, u16, Vec<u8>)> = Vec::new();
    let mut before: Option<Vec<u8>> = None;
    each(&mut |record, sealed| {
        let log_id = header().log_id;
        let opened = secret().open(&log_id, record, sealed).unwrap();
        for original in opened.values().unwrap() {
            match found.last_mut().filter(|_| original.went_on) {
                Some((_, _, begun)) => begun.extend_from_slice(original.value),
                None => found.push((original.row, original.column, original.value.to_vec())),
            }
        }
        let fails = |error: Result<Opened, SealError>, what: &str| {
            let error = error.map(drop).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        };
        fails(secret().open(&[6; 16], record, sealed), "another place");
        let other = AuditorSecret::new("golden", &[10; 32]).unwrap();
        fails(other.open(&log_id, record, sealed), "another key");
        // The same bytes anywhere else, or cut, or under the words of another record.
        let (ciphertext, encapsulated) = (sealed.ciphertext.get(), sealed.encapsulated);
        let columns: Vec<u16> = sealed.columns.get().iter().map(|column| column.to_native()).collect();
        let header = record.header();
        let whole = Sealed {
            what: what_of(&sealed.what),
            rest: None,
            values: sealed.values.to_native(),
            key_id: &sealed.key_id,
            columns: &columns,
            encapsulated: &encapsulated,
            ciphertext,
        };
        let here = (header.stream[0], header.stream_sequence, Some(header.refers));
        assert!(reopened(here, whole).is_ok(), "the way of this test opens what was not moved");
        let moved: Vec<(&str, Result<(), SealError>)> = vec![
            ("session", reopened((4, here.1, here.2), whole)),
            ("number", reopened((here.0, here.1 + 1, here.2), whole)),
            ("statement", reopened((here.0, here.1, Some(3)), whole)),
            ("columns", reopened(here, Sealed { columns: &[5], ..whole })),
            ("values", reopened(here, Sealed { values: 77, ..whole })),
            ("cut", reopened(here, Sealed { ciphertext: &ciphertext[..ciphertext.len() - 1], ..whole })),
            ("empty", reopened(here, Sealed { ciphertext: &[], ..whole })),
            ("key", reopened(here, Sealed { encapsulated: &[9; 32], ..whole })),
        ];
        for (what, outcome) in moved {
            assert!(outcome.is_err(), "moved to another {what}, it opened");
        }
        if let Some(before) = before.replace(ciphertext.to_vec()) {
            assert!(
                reopened(here, Sealed { ciphertext: &before, ..whole }).is_err(),
                "another's bytes opened"
            );
        }
    });
    let expected: Vec<(u64, u16, Vec<u8>)> = content()
        .iter()
        .flat_map(|(_, values, _)| values.iter().map(|(row, column, value)| (*row, *column, value.to_vec())))
        .collect();
    assert_eq!(found, expected);
}

/// Opens an entry as a record of this stream, with this number and reference.
fn reopened((stream, number, refers): (u8, u64, Option<u64>), entry: Sealed<'_>) -> Result<(), SealError> {
    let stamp =
        record::Stamp { lane: 1, stream: [stream; 16], stream_sequence: number, wall_ns: 1, monotonic_ns: 1 };
    let how = How { refers: refers.filter(|refers| *refers != REFERS_TO_NONE), ..How::GATED };
    let bytes = Entry::Sealed(entry).encode(&stamp, how, 0).unwrap();
    let view = RecordView::parse(&bytes).unwrap();
    let Ok((_, Payload::Sealed(sealed))) = record::payload(&view) else { panic!("a sealed record") };
    secret().open(&header().log_id, &view, sealed).map(drop)
}
