//! Body of `evidence_reader`: any bytes as evidence.
//!
//! The first byte chooses. 0: the rest is a segment. Otherwise: the rest is the payload of a record of that kind, in a
//! record whose hash is right, because random bytes would never get past the hash.
//!
//! Promises held: nothing panics; however the bytes arrive, the walk is the same; what a walk kept re-reads as sound; a
//! payload is refused or can be described whole.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::io::{self, Read};

use pgturnstile::evidence::{
    describe::{describe, escaped, is_deceptive},
    format::{self, RecordHeader, RecordView, SegmentHeader},
    read::{EachRecord, Position, Source, Walk, scan_tail, walk_segment},
    record,
};

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, segment)) => whole_segment(segment),
        Some((kind, payload)) => one_payload(u16::from(*kind), payload),
        None => {}
    }
}

/// A source that gives a few bytes at a time.
struct Drip<'d> {
    data: &'d [u8],
    most: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let take = self.data.len().min(bytes.len()).min(self.most);
        let (now, later) = self.data.split_at(take);
        bytes.get_mut(..take).expect("no more than asked").copy_from_slice(now);
        self.data = later;
        Ok(take)
    }
}

impl Source for Drip<'_> {}

fn walk(segment: &[u8], most: usize) -> (Walk, usize) {
    let mut records = 0;
    let mut source = Drip { data: segment, most };
    let mut each = EachRecord(|_: Position, record: &RecordView<'_>| {
        records += 1;
        if let Ok((_, payload)) = record::payload(record) {
            let _fields = describe(&payload);
        }
        Ok(())
    });
    let walk = walk_segment(&mut source, 0, None, &mut each).expect("memory can be read");
    (walk, records)
}

fn whole_segment(segment: &[u8]) {
    let (whole, records) = walk(segment, usize::MAX);
    let end = usize::try_from(whole.end).expect("within the bytes");
    assert!(end <= segment.len());
    for most in [1, 7, 4096] {
        let (again, again_records) = walk(segment, most);
        assert_eq!(
            (again.end, &again.bad, again_records),
            (whole.end, &whole.bad, records),
            "pieces of {most} bytes"
        );
    }
    if whole.header.is_some() {
        let (kept, kept_records) = walk(segment.get(..end).expect("within the bytes"), usize::MAX);
        assert_eq!((kept.end, kept.bad, kept_records), (whole.end, None, records));
    }
    let mut rest = segment.get(end..).expect("within the bytes");
    let tail = scan_tail(&mut rest).expect("memory can be read");
    assert!(tail.bytes <= (segment.len() - end) as u64);
}

fn one_payload(kind: u16, payload: &[u8]) {
    let header = RecordHeader {
        kind,
        kind_version: record::KIND_VERSION,
        flags: 0,
        payload_bytes: 0,
        lane: 0,
        stream: [1; 16],
        stream_sequence: 0,
        refers: format::REFERS_TO_NONE,
        wall_ns: 0,
        monotonic_ns: 0,
    };
    let mut frame = Vec::new();
    format::begin_record(&mut frame, &header);
    frame.extend_from_slice(payload);
    if format::finish_record(&mut frame).is_err() {
        return;
    }
    // Through the walk, because its buffer is aligned as rkyv needs it.
    let segment = [segment_header().as_slice(), &frame].concat();
    let mut told = Vec::new();
    let mut each = EachRecord(|_: Position, record: &RecordView<'_>| {
        assert_eq!((record.payload(), record.header().kind), (payload, kind));
        let (_, payload) = record::payload(record)?;
        told.push(format!("{:?}", describe(&payload)));
        Ok(())
    });
    let walk = walk_segment(&mut segment.as_slice(), 0, None, &mut each).expect("memory can be read");
    match walk.bad {
        None => assert!(told.iter().all(|told| !escaped(told).contains(is_deceptive)) && told.len() == 1),
        Some(bad) => assert!(matches!(bad.flaw, format::Flaw::Payload(_)), "{bad:?}"),
    }
}

/// A first segment's header.
fn segment_header() -> [u8; format::SEGMENT_HEADER_BYTES] {
    let header = SegmentHeader {
        log_id: [1; 16],
        index: 0,
        first_sequence: 0,
        previous: [0; 32],
        created_ns: 0,
        segment_bytes: 1 << 20,
        binary_hash: [0; 32],
        configuration_hash: [0; 32],
        key_id: [0; 16],
    };
    header.encode()
}
