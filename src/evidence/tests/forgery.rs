//! Somebody with an editor, and somebody who can compute hashes: what each does is found and named.

use std::fs;
use std::path::Path;

use super::directory::{block_on, check, start};
use super::samples;
use crate::evidence::chain::Chain;
use crate::evidence::format::{
    self, Flaw, Frame, RECORD_HEAD_BYTES, RECORD_PREFIX_BYTES, RecordView, SEGMENT_HEADER_BYTES,
    SegmentHeader,
};
use crate::evidence::read::segment_name;
use crate::evidence::record::How;
use crate::evidence::verify::Tampering;

/// A directory with one run: three sessions of three statements.
fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let (evidence, lanes) = start(directory.path(), 1);
        for number in 1..4 {
            let mark = samples::session(evidence.session(&lanes[0], [number; 16]), 3, How::GATED).await;
            // One block a session at least.
            lanes[0].until_durable(mark).await.unwrap();
        }
        evidence.stop("test").await.unwrap();
    });
    directory
}

/// The frames of the only segment behind its header.
fn frames(directory: &Path) -> (Vec<u8>, Vec<(Frame, Vec<u8>)>) {
    let content = fs::read(directory.join(segment_name(0))).unwrap();
    let mut at = SEGMENT_HEADER_BYTES;
    let mut frames = Vec::new();
    while at < content.len() {
        let mut first = [0; 8];
        first.copy_from_slice(&content[at..at + 8]);
        let (frame, length) = format::peek(&first).unwrap().unwrap();
        frames.push((frame, content[at..at + length].to_vec()));
        at += length;
    }
    (content[..SEGMENT_HEADER_BYTES].to_vec(), frames)
}

fn records(directory: &Path) -> Vec<Vec<u8>> {
    let frames = frames(directory).1.into_iter();
    frames.filter(|(frame, _)| *frame == Frame::Record).map(|(_, bytes)| bytes).collect()
}

fn write(directory: &Path, header: &[u8], frames: &[(Frame, Vec<u8>)]) {
    let mut content = header.to_vec();
    frames.iter().for_each(|(_, bytes)| content.extend_from_slice(bytes));
    fs::write(directory.join(segment_name(0)), content).unwrap();
}

/// Writes records anew with everything that an unkeyed hash allows to recompute.
fn rechain(directory: &Path, records: Vec<Vec<u8>>) {
    let header = frames(directory).0;
    let (_, hash) = SegmentHeader::parse(&header).unwrap();
    let mut chain = Chain::new(hash, 0);
    let mut content = header;
    for mut record in records {
        format::set_sequence(&mut record, chain.next_sequence());
        chain.push(&format::carried_hash(&record));
        content.extend_from_slice(&record);
    }
    let seal = chain.seal(0);
    content.extend_from_slice(&format::encode_seal(&seal));
    fs::write(directory.join(segment_name(0)), content).unwrap();
}

fn index_of(frames: &[(Frame, Vec<u8>)], nth_record: usize) -> usize {
    frames.iter().enumerate().filter(|(_, (frame, _))| *frame == Frame::Record).nth(nth_record).unwrap().0
}

#[test]
fn a_removed_a_moved_and_a_doubled_record_are_found_and_named() {
    for edit in ["remove", "swap", "double", "remove a block's end"] {
        let directory = sample();
        let (header, mut frames) = frames(directory.path());
        let at = index_of(&frames, 5);
        let next = index_of(&frames, 6);
        match edit {
            "remove" => drop(frames.remove(at)),
            "swap" => frames.swap(at, next),
            "double" => frames.insert(at, frames[at].clone()),
            _ => {
                let seal = frames.iter().skip(at).position(|(frame, _)| *frame == Frame::Seal).unwrap() + at;
                frames.remove(seal);
            }
        }
        write(directory.path(), &header, &frames);
        let bad = check(directory.path()).bad.unwrap_or_else(|| panic!("{edit} was not found"));
        assert!(
            bad.position.sequence == 5 || bad.position.sequence == 6 || edit.starts_with("remove a"),
            "{edit}: {bad:?}"
        );
        let report = check(directory.path());
        assert!(!report.torn, "{edit}: {bad:?}");
        let named = match edit {
            "swap" => Tampering::Reordered,
            "double" => Tampering::Duplicated,
            _ => Tampering::Removed,
        };
        assert_eq!(report.findings[0].0, named, "{edit}: {bad:?}");
    }
}

#[test]
fn a_forger_who_recomputes_every_hash_still_breaks_a_session() {
    // The honest way round proves that the forger's tool is good.
    let directory = sample();
    rechain(directory.path(), records(directory.path()));
    assert_eq!(check(directory.path()).bad, None);
    for edit in ["remove", "swap", "double", "remove a result and renumber"] {
        let directory = sample();
        let mut records = records(directory.path());
        match edit {
            "remove" => drop(records.remove(5)),
            "swap" => records.swap(5, 6),
            "double" => records.insert(5, records[5].clone()),
            _ => drop_last_result(&mut records),
        }
        rechain(directory.path(), records);
        let bad = check(directory.path()).bad.unwrap_or_else(|| panic!("{edit} was not found"));
        assert!(matches!(bad.flaw, Flaw::SessionOrder(_)), "{edit}: {bad:?}");
    }
}

/// Takes the last result of session 1 out and numbers what follows in its session anew.
fn drop_last_result(records: &mut Vec<Vec<u8>>) {
    let of_session: Vec<usize> = (0..records.len())
        .filter(|at| RecordView::parse(&records[*at]).unwrap().header().stream == [1; 16])
        .collect();
    let [.., result, closing] = of_session[..] else { panic!("a session of more records") };
    let mut closed = records[closing].clone();
    let number = RecordView::parse(&closed).unwrap().header().stream_sequence - 1;
    closed[80..88].copy_from_slice(&number.to_le_bytes());
    records[closing] = rehash(closed);
    records.remove(result);
}

fn rehash(mut record: Vec<u8>) -> Vec<u8> {
    let mut payload = [0; 4];
    payload.copy_from_slice(&record[56..60]);
    let end = RECORD_HEAD_BYTES + u32::from_le_bytes(payload) as usize;
    let hash = crate::evidence::chain::RECORD.hash(&record[RECORD_PREFIX_BYTES..end]);
    record[16..48].copy_from_slice(&hash);
    record
}

#[test]
fn a_cut_end_verifies_and_the_report_says_that_it_could() {
    let directory = sample();
    let whole = check(directory.path()).records;
    let (header, frames) = frames(directory.path());
    let seals: Vec<usize> =
        frames.iter().enumerate().filter(|(_, (frame, _))| *frame == Frame::Seal).map(|(at, _)| at).collect();
    let cut = seals[1] + 1;
    write(directory.path(), &header, &frames[..cut]);
    let report = check(directory.path());
    assert!(report.sound() && report.records < whole);
    assert!(report.end.to_string().contains("nothing proves that the end"));
    // A session that lost its end is told apart from a whole one.
    assert_eq!(report.sessions, report.sessions_closed + report.open.len() as u64);
}

#[test]
fn segments_of_two_logs_do_not_mix() {
    let (one, other) = (sample(), sample());
    fs::copy(one.path().join(segment_name(0)), other.path().join(segment_name(1))).unwrap();
    let bad = check(other.path()).bad.unwrap();
    assert_eq!(bad.position.segment, 0);
    assert!(matches!(bad.flaw, Flaw::NoTrailer));
}

#[test]
fn unknown_versions_kinds_and_flags_are_named_not_guessed() {
    for (at, value) in [(48, 2), (50, 200), (52, 2), (54, 0x80)] {
        let directory = sample();
        let mut records = records(directory.path());
        records[3][at] = value;
        records[3] = rehash(records[3].clone());
        rechain(directory.path(), records);
        let bad = check(directory.path()).bad.unwrap();
        assert_eq!(bad.position.sequence, 3);
        assert!(matches!(bad.flaw, Flaw::Version(_) | Flaw::Flags(_) | Flaw::Payload(_)), "{bad:?}");
    }
}
