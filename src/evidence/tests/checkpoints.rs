//! Checkpoints in operation, and what a start and a verifier make of them.

use std::fs;
use std::path::Path;

use super::directory::{KEY, block_on, check, run, settings};
use super::samples;
use crate::evidence::checkpoint::{Checkpoint, LAST_NAME, Why, rotation_text};
use crate::evidence::note::SigningKey;
use crate::evidence::record::{How, Kind};
use crate::evidence::second_place::{Standing, second_place};
use crate::evidence::verify::{End, ExpectedEnd, Report, Tampering, Trust, verify_with};
use crate::evidence::{OpenError, Settings, Signing, open};

fn key(seed: u8) -> SigningKey {
    SigningKey::new("gateway-1", &[seed; 32]).unwrap()
}

/// A folder with an empty evidence directory and a second place beside it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("evidence")).unwrap();
    fs::create_dir(folder.path().join("head")).unwrap();
    folder
}

fn signed(folder: &Path) -> Settings {
    let head = Some(folder.join("head/last"));
    let signing = Signing { head, every_records: 100, ..Signing::new(key(1)) };
    Settings { segment_bytes: 64 << 10, signing: Some(signing), ..settings(&folder.join("evidence")) }
}

/// One run of whole sessions, ended in order.
fn run_sessions(settings: &Settings, from: u8, sessions: u8) {
    block_on(async {
        let (evidence, lanes) = open(settings, &run(), &KEY, 2).unwrap();
        for number in from..from + sessions {
            let lane = &lanes[usize::from(number) % 2];
            let mark = samples::session(evidence.session(lane, [number; 16]), 30, How::GATED).await;
            lane.until_durable(mark).await.unwrap();
        }
        evidence.stop("test").await.unwrap();
    });
}

fn judged(folder: &Path, trust: Trust) -> Report {
    verify_with(&folder.join("evidence"), trust, &mut |_, _| {}, &mut |_, _| {}).unwrap()
}

fn kept(folder: &Path) -> Checkpoint {
    Checkpoint::open(&fs::read_to_string(folder.join("head/last")).unwrap()).unwrap()
}

fn expecting(checkpoint: &Checkpoint) -> Trust {
    Trust { end: Some(ExpectedEnd::Checkpoint(Box::new(checkpoint.clone()))), ..Trust::default() }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_ordered_run_is_signed_to_its_very_end_in_both_places() {
    let folder = folder();
    run_sessions(&signed(folder.path()), 1, 6);
    let last = kept(folder.path());
    let beside = fs::read_to_string(folder.path().join("evidence").join(LAST_NAME)).unwrap();
    assert_eq!((Checkpoint::open(&beside).unwrap(), last.why), (last.clone(), Why::Stop));
    let report = judged(folder.path(), expecting(&last));
    assert_eq!(report.end, End::Reached { records: report.records, behind: 0 });
    assert!(report.sound() && report.segments > 1, "{:?}", report.signatures);
    assert_eq!(report.signatures.last, Some(last));
    assert_eq!(report.signatures.keys, [key(1).verifier().clone()]);
    // The start's, and at least one for a closed segment or a hundred records.
    assert!(report.signatures.checkpoints > 1);
    assert!(report.kinds.contains(&(Kind::Clock, 1)), "{:?}", report.kinds);
    let known = judged(folder.path(), Trust { key: Some(key(1).verifier().clone()), ..Trust::default() });
    assert!(known.sound() && known.signatures.key_is_known == Some(true) && known.end == End::Unproven);
    let other = judged(folder.path(), Trust { key: Some(key(2).verifier().clone()), ..Trust::default() });
    assert!(!other.sound() && other.signatures.key_is_known == Some(false));
}

#[test]
fn runs_go_on_under_the_same_checkpoints() {
    let folder = folder();
    run_sessions(&signed(folder.path()), 1, 2);
    let first = kept(folder.path());
    run_sessions(&signed(folder.path()), 10, 2);
    let report = judged(folder.path(), expecting(&first));
    let End::Reached { records, behind } = report.end else { panic!("{:?}", report.end) };
    assert!(records == first.point.records && behind > 0 && report.sound());
    assert_eq!(check(&folder.path().join("evidence")).runs, 2);
}

/// The gateway's start signs what it finds: of what a run without a stop wrote behind its last checkpoint, nothing proves that it is all.
#[test]
fn a_run_without_a_stop_is_a_hole_in_what_later_checkpoints_prove() {
    let (folder, died) = (folder(), folder());
    let settings = signed(folder.path());
    block_on(async {
        let (evidence, lanes) = open(&settings, &run(), &KEY, 1).unwrap();
        let mark = samples::session(evidence.session(&lanes[0], [1; 16]), 30, How::GATED).await;
        lanes[0].until_durable(mark).await.unwrap();
        // What a kill of the gateway would leave here.
        for part in ["evidence", "head"] {
            copy(&folder.path().join(part), &died.path().join(part));
        }
        evidence.stop("test").await.unwrap();
    });
    run_sessions(&signed(died.path()), 10, 1);
    let last = kept(died.path());
    let report = judged(died.path(), expecting(&last));
    assert_eq!(report.end, End::Reached { records: report.records, behind: 0 });
    let [hole] = &report.unstopped[..] else { panic!("{:?}", report.unstopped) };
    assert_eq!((report.runs, hole.run), (2, 1));
    assert!(hole.from_record < hole.to_record && hole.to_record < report.records, "{hole:?}");
    assert!(hole.from_ns > 0 && hole.from_ns <= hole.to_ns, "{hole:?}");
    // The run that was stopped leaves none.
    assert_eq!(judged(folder.path(), Trust::default()).unstopped, []);
}

#[test]
fn a_log_behind_its_second_place_is_refused_and_says_what_shows_it() {
    let folder = folder();
    let settings = signed(folder.path());
    run_sessions(&settings, 1, 1);
    copy(&folder.path().join("evidence"), &folder.path().join("older"));
    run_sessions(&settings, 10, 1);
    let last = kept(folder.path());
    fs::remove_dir_all(folder.path().join("evidence")).unwrap();
    fs::rename(folder.path().join("older"), folder.path().join("evidence")).unwrap();
    let error = open(&settings, &run(), &KEY, 1).unwrap_err();
    assert!(matches!(error, OpenError::Behind { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("pgturnstile verify DIR --checkpoint") && said.contains("head/last"), "{said}");
    let report = judged(folder.path(), expecting(&last));
    assert!(matches!(report.end, End::Behind { set_back: true, .. }), "{:?}", report.end);
    assert!(!report.sound() && report.bad.is_none());
    // An empty directory is behind, too; and nothing was begun there.
    for entry in fs::read_dir(folder.path().join("evidence")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(matches!(open(&settings, &run(), &KEY, 1), Err(OpenError::Behind { records: 0, .. })));
    assert_eq!(fs::read_dir(folder.path().join("evidence")).unwrap().count(), 0);
}

#[test]
fn a_cut_tail_is_told_from_an_older_copy() {
    let folder = folder();
    run_sessions(&signed(folder.path()), 1, 6);
    let last = kept(folder.path());
    let report = judged(folder.path(), expecting(&last));
    let segment = crate::evidence::read::segment_name(report.segments - 1);
    // Its last segment is gone: the one before has a trailer, the chain is whole.
    fs::remove_file(folder.path().join("evidence").join(segment)).unwrap();
    let report = judged(folder.path(), expecting(&last));
    assert!(matches!(report.end, End::Behind { set_back: false, .. }), "{:?}", report.end);
    let left = report.signatures.left_is_wrong.clone().unwrap();
    assert!(left.0 == Tampering::CutTail && report.bad.is_none(), "{left:?}");
    assert!(matches!(open(&signed(folder.path()), &run(), &KEY, 1), Err(OpenError::Behind { .. })));
    // Also by the log's own word alone.
    assert!(!judged(folder.path(), Trust::default()).sound());
}

#[test]
fn another_history_is_a_fork() {
    let (one, other) = (folder(), folder());
    run_sessions(&signed(one.path()), 1, 2);
    run_sessions(&signed(other.path()), 1, 2);
    let strange = kept(other.path());
    let report = judged(one.path(), expecting(&strange));
    assert_eq!(report.end, End::OtherLog { log_id: strange.log_id });
    fs::copy(other.path().join("head/last"), one.path().join("head/last")).unwrap();
    assert!(matches!(open(&signed(one.path()), &run(), &KEY, 1), Err(OpenError::OtherLog { .. })));
    // The same log, gone on with twice from one state.
    let twice = folder();
    run_sessions(&signed(twice.path()), 1, 1);
    copy(&twice.path().join("evidence"), &twice.path().join("copy"));
    copy(&twice.path().join("head"), &twice.path().join("head-copy"));
    run_sessions(&signed(twice.path()), 10, 2);
    let first = kept(twice.path());
    for (from, to) in [("copy", "evidence"), ("head-copy", "head")] {
        fs::remove_dir_all(twice.path().join(to)).unwrap();
        fs::rename(twice.path().join(from), twice.path().join(to)).unwrap();
    }
    run_sessions(&signed(twice.path()), 20, 3);
    let report = judged(twice.path(), expecting(&first));
    assert_eq!(report.end, End::Forked { records: Some(first.point.records) });
    fs::write(twice.path().join("head/last"), key(1).sign(&first.text())).unwrap();
    assert!(matches!(open(&signed(twice.path()), &run(), &KEY, 1), Err(OpenError::Forked { .. })));
}

#[test]
fn a_second_place_that_is_gone_foreign_or_garbled_refuses_the_start() {
    let folder = folder();
    let settings = signed(folder.path());
    run_sessions(&settings, 1, 1);
    let note = fs::read_to_string(folder.path().join("head/last")).unwrap();
    fs::remove_file(folder.path().join("head/last")).unwrap();
    let error = open(&settings, &run(), &KEY, 1).unwrap_err().to_string();
    assert!(
        error.contains("mounted") && error.contains("pgturnstile evidence checkpoint DIR --to"),
        "{error}"
    );
    fs::write(folder.path().join("head/last"), note.replace("place", "plaice")).unwrap();
    assert!(matches!(open(&settings, &run(), &KEY, 1), Err(OpenError::NoCheckpoint { .. })));
    fs::remove_dir_all(folder.path().join("head")).unwrap();
    assert!(matches!(open(&settings, &run(), &KEY, 1), Err(OpenError::Head(_))));
    // What the repair puts there is taken.
    fs::create_dir(folder.path().join("head")).unwrap();
    fs::write(folder.path().join("head/last"), note).unwrap();
    run_sessions(&settings, 10, 1);
    assert!(check(&folder.path().join("evidence")).sound());
}

#[test]
fn another_key_signs_on_only_with_the_old_one_s_note() {
    let folder = folder();
    let before = signed(folder.path());
    run_sessions(&before, 1, 1);
    let (old, new) = (key(1), key(2));
    let with = |rotation: Option<String>| {
        let signing = Signing { key: new.clone(), rotation, ..before.signing.clone().unwrap() };
        Settings { signing: Some(signing), ..before.clone() }
    };
    let error = open(&with(None), &run(), &KEY, 1).unwrap_err();
    assert!(matches!(error, OpenError::UncertifiedKey { .. }), "{error}");
    assert!(error.to_string().contains("evidence rotate-key"), "{error}");
    let text = rotation_text(old.verifier(), new.verifier());
    assert!(
        open(&with(Some(new.sign(&text))), &run(), &KEY, 1).is_err(),
        "the new key cannot certify itself"
    );
    run_sessions(&with(Some(old.sign(&text))), 10, 1);
    // From then on the note is no longer needed.
    run_sessions(&with(None), 20, 1);
    let report = judged(folder.path(), expecting(&kept(folder.path())));
    assert!(report.sound(), "{:?} {:?}", report.bad, report.signatures);
    assert_eq!(report.signatures.keys, [old.verifier().clone(), new.verifier().clone()]);
    // The way back is certified no more than any other.
    assert!(matches!(open(&before, &run(), &KEY, 1), Err(OpenError::UncertifiedKey { .. })));
}

#[test]
fn an_idle_gateway_goes_on_signing() {
    let folder = folder();
    let mut settings = signed(folder.path());
    settings.signing.as_mut().unwrap().every_s = 1;
    block_on(async {
        let (evidence, _lanes) = open(&settings, &run(), &KEY, 1).unwrap();
        while kept(folder.path()).why != Why::Interval {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let live = judged(folder.path(), expecting(&kept(folder.path())));
        assert!(live.sound() && live.live, "{:?} {:?}", live.bad, live.end);
        evidence.stop("test").await.unwrap();
    });
    let report = judged(folder.path(), Trust::default());
    assert!(report.signatures.checkpoints >= 2 && report.signatures.longest_silence_ns > 0);
}

#[test]
fn a_look_at_the_second_place_says_what_a_start_would() {
    let folder = folder();
    let settings = signed(folder.path());
    let (log, head) = (folder.path().join("evidence"), folder.path().join("head/last"));
    let look = || second_place(&log, &head, 10).unwrap();
    assert_eq!(look(), Standing::Fits, "no log yet");
    run_sessions(&settings, 1, 6);
    assert_eq!(look(), Standing::Fits);
    let (old, old_note) = (kept(folder.path()), fs::read_to_string(&head).unwrap());
    copy(&log, &folder.path().join("older"));
    run_sessions(&settings, 7, 2);
    let (new, new_note) = (kept(folder.path()), fs::read_to_string(&head).unwrap());
    fs::write(&head, &old_note).unwrap();
    assert_eq!(look(), Standing::Behind { there: old.point.records, log: new.point.records });
    fs::write(&head, "else").unwrap();
    assert_eq!(look(), Standing::NoCheckpoint);
    fs::remove_file(&head).unwrap();
    assert_eq!(look(), Standing::Missing);
    fs::write(&head, &new_note).unwrap();
    let older = second_place(&folder.path().join("older"), &head, 10).unwrap();
    assert_eq!(older, Standing::Ahead { there: new.point.records, log: old.point.records });
    let other = Checkpoint { log_id: [9; 16], ..new };
    fs::write(&head, key(1).sign(&other.text())).unwrap();
    assert_eq!(look(), Standing::OtherLog);
}
