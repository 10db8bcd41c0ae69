//! Golden files of a signed log: two runs over three segments, a key that passes the signing on, the checkpoint that the
//! last stop left, and an earlier one as an auditor keeps it. The second verifier in Python reads them, too.

use std::fs;
use std::path::PathBuf;

use super::golden::{Script, folder, header, same, told};
use super::samples;
use crate::evidence::checkpoint::{Checkpoint, LAST_NAME, Point, Why, rotation_text};
use crate::evidence::format::{SegmentHeader, Trailer};
use crate::evidence::note::SigningKey;
use crate::evidence::read::segment_name;
use crate::evidence::record::{Entry, How, v1};
use crate::evidence::verify::{End, ExpectedEnd, Trust, verify_with};

const LOG: [u8; 16] = [7; 16];
/// What the auditor keeps: the checkpoint of the first rotation.
const EARLIER_NAME: &str = "earlier.note";

fn golden() -> PathBuf {
    folder("evidence_v1_signed")
}

fn key(seed: u8) -> SigningKey {
    SigningKey::new("gateway-1", &[seed; 32]).unwrap()
}

/// A log on its way.
struct Book {
    script: Script,
    header: SegmentHeader,
    closed: Vec<Vec<u8>>,
    key: SigningKey,
}

impl Book {
    fn new() -> Book {
        let header = header();
        Book { script: Script::begin(&header), header, closed: Vec::new(), key: key(1) }
    }

    /// Ends the segment and begins the next.
    fn rotate(&mut self) {
        self.script.seal();
        let next = self.script.chain.next_sequence();
        let trailer = Trailer {
            first_sequence: self.header.first_sequence,
            count: next - self.header.first_sequence,
            closed_ns: self.script.stamp.wall_ns,
            value: self.script.chain.value(),
        };
        let (bytes, previous) = trailer.encode();
        self.script.content.extend_from_slice(&bytes);
        let header = SegmentHeader {
            index: self.header.index + 1,
            first_sequence: next,
            previous,
            created_ns: self.script.stamp.wall_ns,
            ..self.header.clone()
        };
        let ended = std::mem::replace(&mut self.script, Script::begin(&header));
        self.header = header;
        self.closed.push(ended.content);
    }

    /// A note over what stands here, behind a block.
    fn sign(&self, why: Why) -> String {
        let point = Point {
            records: self.script.chain.next_sequence(),
            value: self.script.chain.value(),
            segment: self.header.index,
            offset: self.script.content.len() as u64,
        };
        let verifier = self.key.verifier().clone();
        let time_ns = self.script.stamp.wall_ns + 10;
        let checkpoint = Checkpoint { log_id: LOG, point, time_ns, why, second_place: true, key: verifier };
        self.key.sign(&checkpoint.text())
    }

    fn start(&mut self, run: u8, rotation: Option<&str>) {
        let started = v1::GatewayStarted {
            version: "0.2.0",
            binary_hash: [11; 32],
            configuration_hash: [12; 32],
            policy_hash: [13; 32],
            key_id: "0f0f",
            host: "gateway-1",
            process: 4711,
            shards: 2,
        };
        self.script.put(run, 0, &Entry::GatewayStarted(started), How::GATED);
        let clock = clock("start", self.script.stamp.wall_ns, 0);
        self.script.put(run, 1, &Entry::Clock(clock), How::GATED);
        if let Some(note) = rotation {
            self.script.put(run, 2, &Entry::KeyRotated(v1::KeyRotated { note }), How::GATED);
        }
        self.script.seal();
        self.checkpoint(run, 2 + u64::from(rotation.is_some()), Why::Start);
    }

    fn checkpoint(&mut self, run: u8, number: u64, why: Why) {
        let note = self.sign(why);
        self.script.put(run, number, &Entry::Checkpoint(v1::Checkpoint { note: &note }), How::QUEUED);
    }

    /// One whole session of two statements that share their text.
    fn session(&mut self, stream: u8) {
        let facts = samples::facts();
        let statement = samples::statement(&facts);
        let Entry::Statement(judged) = &statement else { panic!("{statement:?} is no statement") };
        self.script.put(stream, 0, &samples::opened(), How::GATED);
        self.script.put(stream, 1, &Entry::JudgedText(judged.shared()), How::QUEUED);
        self.script.put(stream, 2, &statement, How::GATED);
        self.script.put(stream, 3, &samples::result(), How::QUEUED.answering(2));
        self.script.seal();
        // The same judged text: `put` would name the record before it.
        self.script.put_judged(stream, 4, &statement, How::GATED, 1);
        self.script.put(stream, 5, &samples::result(), How::QUEUED.answering(4));
        let totals = v1::Totals::default();
        self.script.put(stream, 6, &samples::closed_entry(&totals), How::QUEUED);
        self.script.seal();
    }

    fn stop(&mut self, run: u8, number: u64) {
        let stopped = v1::GatewayStopped { reason: "signal" };
        self.script.put(run, number, &Entry::GatewayStopped(stopped), How::GATED);
        self.script.seal();
    }
}

fn clock(why: &'static str, wall_ns: u64, step_ns: i64) -> v1::Clock<'static> {
    v1::Clock { why, wall_ns, boot_ns: 17, step_ns, source: "tsc", synchronized: "systemd-timesyncd" }
}

/// The files, by name.
fn made() -> Vec<(String, Vec<u8>)> {
    let mut book = Book::new();
    book.start(1, None);
    book.session(2);
    book.session(3);
    book.rotate();
    let earlier = book.sign(Why::Rotation);
    book.checkpoint(1, 3, Why::Rotation);
    book.session(4);
    book.stop(1, 4);
    let (old, new) = (key(1), key(2));
    let rotation = old.sign(&rotation_text(old.verifier(), new.verifier()));
    book.key = new;
    book.start(5, Some(&rotation));
    book.session(6);
    book.rotate();
    let wall_ns = book.script.stamp.wall_ns;
    book.script.put(5, 4, &Entry::Clock(clock("step", wall_ns, -2_000_000_000)), How::QUEUED);
    book.session(7);
    book.checkpoint(5, 5, Why::Interval);
    book.stop(5, 6);
    // The empty block of an ordered end.
    book.script.seal();
    let last = book.sign(Why::Stop);
    let segments = book.closed.into_iter().chain([book.script.content]);
    let mut files: Vec<_> = (0..).map(segment_name).zip(segments).collect();
    files.push((LAST_NAME.to_owned(), last.into_bytes()));
    files.push((EARLIER_NAME.to_owned(), earlier.into_bytes()));
    files
}

#[test]
fn a_signed_log_is_written_byte_for_byte_as_it_was_published() {
    for (name, content) in made() {
        same(&golden(), &name, &content);
    }
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}

#[test]
fn a_signed_log_reads_as_it_was_published() {
    let earlier = fs::read_to_string(golden().join(EARLIER_NAME)).unwrap();
    let end = Some(ExpectedEnd::Checkpoint(Box::new(Checkpoint::open(&earlier).unwrap())));
    let trust = Trust { end, key: Some(key(1).verifier().clone()), left: None };
    let report = verify_with(&golden(), trust, &mut |_, _| {}, &mut |_, _| {}).unwrap();
    assert!(report.sound(), "{:?} {:?} {:?}", report.bad, report.end, report.signatures);
    assert_eq!(report.end, End::Reached { records: 17, behind: report.records - 17 });
    assert_eq!((report.runs, report.sessions_closed, report.segments), (2, 5, 3));
    let keys = [key(1).verifier().clone(), key(2).verifier().clone()];
    assert_eq!((report.signatures.checkpoints, &report.signatures.keys[..]), (4, &keys[..]));
    assert_eq!(report.signatures.last.map(|last| last.point.records), Some(report.records));
}
