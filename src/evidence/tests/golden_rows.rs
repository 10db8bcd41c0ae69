//! Golden files of what `record = "text"` and `record = "rows"` keep: kinds 31 to 41, each shape of each of them.

use std::path::PathBuf;

use super::directory::check;
use super::golden::{self, Script, folder, header, same, told};
use super::samples;
use crate::evidence::read::segment_name;
use crate::evidence::record::captured::NOT_DESCRIBED;
use crate::evidence::record::v1::*;
use crate::evidence::record::{Entry, How, Kind};

fn golden() -> PathBuf {
    folder("evidence_v1_rows")
}

/// A DataRow of text values.
fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(value.as_bytes());
            }
            None => body.extend((-1i32).to_be_bytes()),
        }
    }
    frame(b'D', &body)
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// What the session says first, and a simple query with its text and result.
fn simple(script: &mut Script) {
    script.put(
        3,
        3,
        &Entry::Recording(Recording {
            record: "rows",
            rows_bytes_max: 1 << 20,
            why: "the default: labels or detectors are active",
        }),
        How::QUEUED,
    );
    let claims =
        [StatedClaim { name: "agent", value: "reporter" }, StatedClaim { name: "model", value: "m-1" }];
    script.put(3, 4, &Entry::Stated(Stated { origin: "application_name", claims: &claims }), How::QUEUED);
    let facts = samples::facts();
    let Entry::Statement(statement) = samples::statement(&facts) else { panic!("a sample") };
    script.put(3, 5, &Entry::JudgedText(statement.shared()), How::QUEUED);
    script.put(3, 6, &Entry::Statement(statement), How::GATED);
    let text = "select name from crm.customers where id = 1 -- mine";
    script.put(
        3,
        7,
        &Entry::StatementText(StatementText { text: TextKept::Whole(text) }),
        How::GATED.belonging_to(6),
    );
    let columns = [
        ResultColumn {
            name: "name",
            table_oid: 16_402,
            attribute: 2,
            type_oid: 25,
            type_bytes: -1,
            type_modifier: -1,
            binary: false,
        },
        ResultColumn {
            name: "id",
            table_oid: 0,
            attribute: 0,
            type_oid: 20,
            type_bytes: 8,
            type_modifier: -1,
            binary: true,
        },
    ];
    let described = Entry::RowDescription(RowDescription { columns: &columns });
    script.put(3, 8, &described, How::QUEUED.belonging_to(6));
    rows(script);
    script.put(3, 12, &samples::result(), How::QUEUED.answering(6));
}

/// Two records of rows; the second row goes on in the second.
fn rows(script: &mut Script) {
    let frames = [row(&[Some("Kim"), Some("\0\0\0\0\0\0\0\u{7}")]), row(&[None, None])].concat();
    let (first, second) = frames.split_at(frames.len() - 4);
    for (number, first_row, rows, frames) in [(9, 0, 2, first), (10, 2, 0, second)] {
        let entry = Entry::Rows(Rows { described: 8, first_row, rows, frames });
        script.put(3, number, &entry, How::GATED.belonging_to(6));
    }
    let ended = CaptureEnded {
        what: Captured::Rows,
        why: "the limit of 1048576 bytes",
        rows: 2,
        bytes: frames.len() as u64,
    };
    script.put(3, 11, &Entry::CaptureEnded(ended), How::GATED.belonging_to(6));
}

/// A Bind with its parameters, and texts of the server.
fn bound(script: &mut Script) {
    let facts = samples::facts();
    let Entry::Statement(statement) = samples::statement(&facts) else { panic!("a sample") };
    let statement = Statement { protocol: Protocol::Execute, parameters: 5, ..statement };
    script.put_judged(3, 13, &Entry::Statement(statement), How::GATED, 5);
    let value = |type_oid, binary, value| Parameter { type_oid, binary, value };
    let values = [
        value(23, true, ValueKept::Whole(&[0, 0, 0, 7])),
        value(0, false, ValueKept::Masked(b"[email]")),
        value(25, false, ValueKept::Null),
        value(25, false, ValueKept::Withheld("the statement reaches a labelled column")),
        value(600, true, ValueKept::Whole(&[1; 16])),
    ];
    script.put(3, 14, &Entry::Parameters(Parameters { values: &values }), How::GATED.belonging_to(13));
    let fields = [
        ReportField { code: b'S', text: "ERROR" },
        ReportField { code: b'C', text: "23505" },
        ReportField { code: b'M', text: "duplicate key" },
    ];
    for (number, what) in [(15, ReportKind::Notice), (16, ReportKind::Error)] {
        let report = Entry::Report(Report { what, fields: &fields });
        script.put(3, number, &report, How::QUEUED.belonging_to(13));
    }
    let failed = Entry::StatementResult(StatementResult {
        outcome: Outcome::Failed,
        sqlstate: Some("23505"),
        tag: "",
        rows: 0,
        bytes: 0,
        bytes_in: 0,
        digest: None,
        started_ns: 1,
        first_row_ns: 0,
        ended_ns: 2,
    });
    script.put(3, 17, &failed, How::QUEUED.answering(13));
    for (number, payload) in [(18, Some("news")), (19, None)] {
        let entry = Entry::Notification(Notification { process: 4_711, channel: "changes", payload });
        script.put(3, number, &entry, How::QUEUED);
    }
}

/// A COPY in each direction, texts that are not kept whole, rows that nothing described, and the session's end.
fn copied(script: &mut Script) {
    let facts = samples::facts();
    let statement = samples::statement(&facts);
    for (number, text) in [
        (20, TextKept::Masked("copy t from stdin -- for [email]")),
        (22, TextKept::Withheld("the statement reaches a labelled column")),
    ] {
        script.put_judged(3, number, &statement, How::GATED, 5);
        let text = Entry::StatementText(StatementText { text });
        script.put(3, number + 1, &text, How::GATED.belonging_to(number));
    }
    let line = frame(b'd', b"1\tKim\n");
    let copy = |direction, binary, offset| CopyData { direction, binary, offset, frames: &line };
    let from_client = copy(Direction::FromClient, false, 0);
    let to_client = copy(Direction::ToClient, true, 11);
    script.put(3, 24, &Entry::CopyData(from_client), How::QUEUED.belonging_to(20));
    let digest = [4; 32];
    let copied = CopiedIn { frames: 1, bytes: line.len() as u64, digest: &digest };
    script.put(3, 25, &Entry::CopiedIn(copied), How::QUEUED.belonging_to(20));
    script.put(3, 26, &samples::result(), How::QUEUED.answering(20));
    script.put(3, 27, &Entry::CopyData(to_client), How::GATED.belonging_to(22));
    for (number, what) in [(28, Captured::CopyToClient), (29, Captured::CopyFromClient)] {
        let ended = CaptureEnded { what, why: "a labelled column leaves in clear", rows: 0, bytes: 0 };
        script.put(3, number, &Entry::CaptureEnded(ended), How::GATED.belonging_to(22));
    }
    let undescribed = row(&[Some("x")]);
    let undescribed = Rows { described: NOT_DESCRIBED, first_row: 0, rows: 1, frames: &undescribed };
    script.put(3, 30, &Entry::Rows(undescribed), How::GATED.belonging_to(22));
    script.put(3, 31, &samples::result(), How::QUEUED.answering(22));
    script.put(3, 32, &samples::closed_entry(&Totals::default()), How::QUEUED);
    script.put(1, 4, &Entry::GatewayStopped(GatewayStopped { reason: "signal" }), How::GATED);
    script.seal();
}

fn made() -> Vec<u8> {
    let mut script = Script::begin(&header());
    golden::gateway(&mut script);
    golden::login(&mut script);
    simple(&mut script);
    bound(&mut script);
    copied(&mut script);
    let missing: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| (31..=41).contains(&kind.code()) && !script.kinds.contains(kind))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not in the golden file");
    script.closed()
}

#[test]
fn what_is_captured_is_written_byte_for_byte_as_it_was_published() {
    same(&golden(), &segment_name(0), &made());
}

#[test]
fn what_is_captured_reads_as_it_was_published() {
    let report = check(&golden());
    assert_eq!(report.bad, None);
    assert_eq!((report.sessions_closed, report.records), (1, 38));
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}
