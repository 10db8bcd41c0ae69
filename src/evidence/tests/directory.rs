//! A real directory: open, record, stop, verify, damage.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::samples;
use super::simulated::Dice;
use crate::evidence::limits::PIECE_BYTES;
use crate::evidence::read::{Bad, segment_name, walk_segment};
use crate::evidence::record::{How, Kind};
use crate::evidence::verify::{Report, verify};
use crate::evidence::{Evidence, Lane, OpenError, Run, Settings, open};

pub(super) const KEY: [u8; 32] = [42; 32];

pub(super) fn settings(directory: &Path) -> Settings {
    Settings { segment_bytes: 1 << 20, reserve_bytes: 0, ..Settings::new(directory.to_owned()) }
}

pub(super) fn run() -> Run {
    Run { version: "test".into(), configuration_hash: [1; 32], policy_hash: [2; 32] }
}

pub(super) fn start(directory: &Path, lanes: usize) -> (Evidence, Vec<Lane>) {
    open(&settings(directory), &run(), &KEY, lanes).unwrap()
}

pub(super) fn check(directory: &Path) -> Report {
    verify(directory, &mut |_, _| {}, &mut |_, _| {}).unwrap()
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn record_sessions(directory: &Path, sessions: u8, statements: usize) {
    block_on(async {
        let (evidence, lanes) = start(directory, 2);
        for number in 0..sessions {
            let lane = &lanes[usize::from(number) % lanes.len()];
            let mark =
                samples::session(evidence.session(lane, [number + 1; 16]), statements, How::GATED).await;
            lane.until_durable(mark).await.unwrap();
            assert!(lane.durable(mark));
        }
        evidence.stop("test").await.unwrap();
    });
}

#[test]
fn what_was_recorded_verifies_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 3, 4);
    let report = check(directory.path());
    assert_eq!(report.bad, None);
    assert!(!report.live && report.sound());
    assert_eq!((report.runs, report.sessions, report.sessions_closed), (1, 3, 3));
    // Every session says its text once, whatever number of statements shares it.
    assert_eq!(report.records, 2 + 3 * (3 + 2 * 4));
    assert!(report.kinds.contains(&(Kind::JudgedText, 3)) && report.kinds.contains(&(Kind::Statement, 12)));
    assert!(report.open.is_empty());
}

#[test]
fn runs_follow_one_another_in_one_log() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 1, 1);
    record_sessions(directory.path(), 2, 1);
    let report = check(directory.path());
    assert_eq!(report.bad, None);
    assert_eq!((report.runs, report.sessions, report.segments), (2, 3, 1));
}

#[test]
fn segments_rotate_and_stay_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 20, 300);
    let report = check(directory.path());
    assert_eq!(report.bad, None);
    assert!(report.segments > 2, "{} segments", report.segments);
    assert_eq!(report.sessions_closed, 20);
    // Without one in the middle, and without the first, it is found.
    for missing in [1, 0] {
        let path = directory.path().join(segment_name(missing));
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(check(directory.path()).bad.unwrap().position.segment, missing);
        fs::write(&path, content).unwrap();
    }
}

#[test]
fn a_file_that_would_pass_for_a_segment_is_named() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 1, 1);
    let content = fs::read(directory.path().join(segment_name(0))).unwrap();
    for stranger in
        ["segment-00000000000.evidence", "segment-0.evidence", "segment-99999999999999999999999.evidence"]
    {
        let path = directory.path().join(stranger);
        fs::write(&path, &content).unwrap();
        let report = check(directory.path());
        let [(_, text)] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert!(text.contains(stranger) && !report.sound(), "{text}");
        fs::remove_file(path).unwrap();
    }
    for nobodys in
        ["segment-0000000000.evidence.bak", "segment-.evidence", "segment-x.evidence", "next.prepared"]
    {
        fs::write(directory.path().join(nobodys), b"").unwrap();
    }
    assert!(check(directory.path()).sound());
}

#[test]
fn a_live_log_is_no_broken_log() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let (evidence, lanes) = start(directory.path(), 1);
        let mut session = evidence.session(&lanes[0], [1; 16]);
        let mark = session.append(samples::opened(), How::QUEUED).await.unwrap();
        lanes[0].until_durable(mark).await.unwrap();
        let report = check(directory.path());
        assert_eq!(report.bad, None);
        assert!(report.live);
        assert_eq!((report.open.len(), report.open[0].cut_off), (1, false));
        assert!(matches!(open(&settings(directory.path()), &run(), &KEY, 1), Err(OpenError::Locked(_))));
        drop(session);
        evidence.stop("test").await.unwrap();
    });
    // The dropped session was closed for it.
    let report = check(directory.path());
    assert_eq!((report.bad, report.sessions_closed, report.open.len()), (None, 1, 0));
}

#[test]
fn starts_are_refused_with_words() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = open(&settings(&missing), &run(), &KEY, 1).unwrap_err().to_string();
    assert!(error.contains("mkdir -m 700"), "{error}");
    record_sessions(directory.path(), 1, 1);
    let error = open(&settings(directory.path()), &run(), &[1; 32], 1).unwrap_err().to_string();
    assert!(error.contains("another digest key"), "{error}");
    let small = Settings { segment_bytes: 100, ..settings(directory.path()) };
    assert!(matches!(open(&small, &run(), &KEY, 1), Err(OpenError::Setting(_))));
}

#[test]
fn a_segment_without_an_end_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 1, 1);
    let second = directory.path().join(segment_name(1));
    std::os::unix::fs::symlink("/dev/zero", &second).unwrap();
    let error = verify(directory.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("is no regular file"), "{error}");
}

/// A hole of the file system: its bytes are zeros that nobody wrote.
fn hole(directory: &Path, index: u64, bytes: u64) {
    fs::File::create(directory.join(segment_name(index))).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_segment_larger_than_any_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 1, 1);
    hole(directory.path(), 1, 60_000_000_000);
    let error = verify(directory.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("has 60000000000 bytes, and no segment has more than 17179869184"), "{error}");
    let large = Settings { segment_bytes: (16 << 30) + 1, ..settings(directory.path()) };
    assert!(matches!(open(&large, &run(), &KEY, 1), Err(OpenError::Setting(_))));
}

#[test]
fn zeros_in_the_place_of_a_header_are_not_read_to_their_end() {
    let directory = tempfile::tempdir().unwrap();
    hole(directory.path(), 0, 16 << 30);
    let mut read = 0;
    let report = verify(directory.path(), &mut |bytes, _| read = bytes, &mut |_, _| {}).unwrap();
    let bad = report.bad.unwrap();
    assert!(bad.flaw.to_string().contains("does not begin with"), "{bad:?}");
    assert!(read < 1 << 30, "{read}");
}

#[test]
fn a_flipped_byte_anywhere_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    record_sessions(directory.path(), 2, 2);
    let path = directory.path().join(segment_name(0));
    let content = fs::read(&path).unwrap();
    let sound = check(directory.path());
    assert!(sound.sound() && sound.bytes == content.len() as u64);
    let mut starts = vec![0];
    verify(directory.path(), &mut |_, _| {}, &mut |position, _| starts.push(position.offset)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (at, byte) in (0..).zip(&content) {
        file.write_all_at(&[byte ^ 0x10], at).unwrap();
        let Bad { position, .. } =
            check(directory.path()).bad.unwrap_or_else(|| panic!("byte {at} was not found"));
        // What is named begins at or before the byte, and no further record lies between.
        assert!(position.offset <= at, "byte {at} was named at {}", position.offset);
        let record = starts.iter().rev().find(|start| **start <= at).unwrap();
        assert!(position.offset >= *record, "byte {at} was named at {}, record at {record}", position.offset);
        file.write_all_at(&[*byte], at).unwrap();
    }
    assert!(check(directory.path()).sound());
}

#[test]
fn what_is_checked_ahead_is_found_where_a_walk_alone_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 64 << 20, ..settings(directory.path()) };
    block_on(async {
        let (evidence, lanes) = open(&settings, &run(), &KEY, 1).unwrap();
        for number in 0..60 {
            let mark =
                samples::session(evidence.session(&lanes[0], [number + 1; 16]), 300, How::QUEUED).await;
            lanes[0].until_durable(mark).await.unwrap();
        }
        evidence.stop("test").await.unwrap();
    });
    let path = directory.path().join(segment_name(0));
    let content = fs::read(&path).unwrap();
    // Several pieces, and frames that the end of one cuts.
    assert!(content.len() > 3 * PIECE_BYTES, "{} bytes", content.len());
    assert!(check(directory.path()).sound());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut dice = Dice(5);
    for _ in 0..30 {
        let at = dice.below(content.len() as u64);
        let byte = content[usize::try_from(at).unwrap()];
        file.write_all_at(&[byte ^ 0x21], at).unwrap();
        let alone = walk_segment(&mut fs::File::open(&path).unwrap(), 0, None, &mut ()).unwrap();
        // A session's own order is no matter of the walk: a flipped byte is found before it.
        assert_eq!(check(directory.path()).bad, alone.bad, "byte {at}");
        file.write_all_at(&[byte], at).unwrap();
    }
    assert!(check(directory.path()).sound());
}
