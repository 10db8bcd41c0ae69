//! `evidence export`: every form, and a cursor that leaves neither gap nor double.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::super::{Exit, Out};
use super::Args;
use crate::evidence::describe::is_deceptive;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn exported(directory: &Path, arguments: &[&str]) -> (Exit, String, String) {
    let directory = directory.display().to_string();
    let line = Line::try_parse_from(["export", &directory].iter().chain(arguments)).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut out = Out::captured(&mut said, &mut complained);
    let exit = super::run(&line.args, &mut out).unwrap();
    drop(out);
    (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
}

#[test]
fn every_form_holds_the_same_events() {
    let log = golden("evidence_v1");
    let all = ["--kind", "*"];
    let (exit, lines, complained) = exported(&log, &[&all[..], &["--format", "jsonl"]].concat());
    assert_eq!(exit, Exit::Yes, "{complained}");
    let count = lines.lines().count();
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let (_, csv, _) = exported(&log, &[&all[..], &["--format", "csv"]].concat());
    assert_eq!(csv.lines().count(), count + 1);
    let (_, page, _) = exported(&log, &[&all[..], &["--format", "html"]].concat());
    assert_eq!(page.matches("<tr>").count(), count + 1);
    assert!(
        page.starts_with("<!doctype html>") && page.ends_with("</html>\n\n") && !page.contains("<script"),
        "{page}"
    );
    let (_, ocsf, complained) = exported(&log, &[&all[..], &["--format", "ocsf"]].concat());
    let events: Vec<Value> = ocsf.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        complained.contains(&format!("{} without a class in OCSF", count - events.len())),
        "{complained}"
    );
    assert!(
        events.iter().any(|event| event["class_uid"] == 6005)
            && events.iter().any(|event| event["class_uid"] == 3002)
    );
    for text in [&lines, &csv, &page, &ocsf] {
        assert!(!text.contains(|character: char| character != '\n' && is_deceptive(character)));
    }
    let (exit, _, complained) = exported(&log, &["--format", "html", "--cursor", "x"]);
    assert!(exit == Exit::Usage && complained.contains("a page has an end"), "{complained}");
}

/// The golden log as it was when its first blocks were written: cut behind the seal at `end`.
fn younger(end: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let name = "segment-0000000000.evidence";
    let mut content = fs::read(golden("evidence_v1_signed").join(name)).unwrap();
    content.truncate(end);
    fs::write(folder.path().join(name), content).unwrap();
    folder
}

/// Where the first segment's seals end.
fn seals() -> Vec<usize> {
    let content = fs::read(golden("evidence_v1_signed").join("segment-0000000000.evidence")).unwrap();
    let mut ends: Vec<usize> = (256..content.len())
        .step_by(16)
        .filter(|at| content[*at..].starts_with(b"PGTB"))
        .map(|at| at + 112)
        .collect();
    ends.dedup();
    ends
}

#[test]
fn a_cursor_goes_on_without_a_gap_or_a_double() {
    let folder = tempfile::tempdir().unwrap();
    let whole = golden("evidence_v1_signed");
    let (_, expected, _) = exported(&whole, &["--kind", "*"]);
    let ends = seals();
    assert!(ends.len() > 1, "{ends:?}");
    for end in ends {
        let younger = younger(end);
        let cursor = folder.path().join(format!("cursor-{end}")).display().to_string();
        let out = folder.path().join(format!("out-{end}")).display().to_string();
        let arguments = ["--kind", "*", "--cursor", &cursor, "--out", &out];
        let (exit, _, complained) = exported(younger.path(), &arguments);
        assert_eq!(exit, Exit::Yes, "{complained}");
        // A crash behind the output and before the cursor: what came too early is cut off and comes again.
        let mut early = fs::read_to_string(&out).unwrap();
        early.push_str("{\"half\": ");
        fs::write(&out, early).unwrap();
        let (exit, _, complained) = exported(&whole, &arguments);
        assert_eq!(exit, Exit::Yes, "{complained}");
        // Statements without an end wait behind a cursor; this log has none at its end.
        assert_eq!(fs::read_to_string(&out).unwrap(), expected, "cut at {end}");
        let (_, _, complained) = exported(&whole, &arguments);
        assert!(complained.starts_with("0 event(s) exported"), "{complained}");
        assert_eq!(fs::read_to_string(&out).unwrap(), expected);
        // The older log again: the cursor has seen more.
        let (exit, _, complained) = exported(younger.path(), &arguments);
        assert!(exit == Exit::No && complained.contains("does not begin with the records"), "{complained}");
        // Another history under the same log id: both golden logs bear one.
        let (exit, _, complained) = exported(&golden("evidence_v1"), &arguments);
        assert!(exit == Exit::No && complained.contains("does not begin with the records"), "{complained}");
        let (exit, _, complained) = exported(&whole, &["--cursor", &cursor, "--out", &out]);
        assert!(exit == Exit::Usage && complained.contains("another form, filter or output"), "{complained}");
        fs::write(&out, "").unwrap();
        let (exit, _, complained) = exported(&whole, &arguments);
        assert!(exit == Exit::Usage && complained.contains("shorter than"), "{complained}");
    }
}

#[test]
fn an_export_that_was_killed_in_its_first_pass_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let whole = golden("evidence_v1");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for format in ["jsonl", "csv"] {
        let (cursor, out) = (path(&format!("{format}.cursor")), path(format));
        let arguments = ["--format", format, "--kind", "*", "--cursor", &cursor, "--out", &out];
        let (exit, _, complained) = exported(&whole, &arguments);
        assert_eq!(exit, Exit::Yes, "{complained}");
        let wanted = fs::read(&out).unwrap();
        // What a kill leaves: the first cursor, and some of the output behind it; or neither but an empty file.
        let begun = fs::read_to_string(&cursor).unwrap();
        let mut begun: serde_json::Value = serde_json::from_str(&begun).unwrap();
        begun["records"] = 0.into();
        begun["bytes"] = 0.into();
        fs::write(&cursor, begun.to_string()).unwrap();
        fs::write(&out, &wanted[..wanted.len() / 2]).unwrap();
        let (exit, _, complained) = exported(&whole, &arguments);
        assert_eq!((exit, fs::read(&out).unwrap() == wanted), (Exit::Yes, true), "{complained}");
        fs::remove_file(&cursor).unwrap();
        fs::write(&out, "").unwrap();
        let (exit, _, complained) = exported(&whole, &arguments);
        assert_eq!((exit, fs::read(&out).unwrap() == wanted), (Exit::Yes, true), "{complained}");
        fs::remove_file(&cursor).unwrap();
        let (exit, _, complained) = exported(&whole, &arguments);
        assert!(exit == Exit::Trouble && complained.contains("exists"), "{complained}");
    }
}

#[test]
fn what_is_broken_is_exported_up_to_there_and_the_answer_is_no() {
    let folder = tempfile::tempdir().unwrap();
    let name = "segment-0000000000.evidence";
    let sound = fs::read(golden("evidence_v1").join(name)).unwrap();
    for at in (300..sound.len()).step_by(211) {
        let mut content = sound.clone();
        content[at] ^= 0x40;
        fs::write(folder.path().join(name), content).unwrap();
        let (exit, _, complained) = exported(folder.path(), &["--kind", "*"]);
        assert!(exit == Exit::No && complained.contains("BROKEN"), "{at}: {complained}");
    }
}

#[test]
fn a_second_export_to_the_same_cursor_or_file_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = golden("evidence_v1_signed");
    let (cursor, out) = (folder.path().join("cursor"), folder.path().join("out"));
    let arguments = |cursor: &Path| {
        ["--kind", "*", "--out", &out.display().to_string(), "--cursor", &cursor.display().to_string()]
            .map(str::to_owned)
    };
    let run = |cursor: &Path| {
        let arguments = arguments(cursor);
        exported(&whole, &arguments.each_ref().map(String::as_str))
    };
    let first = younger(seals()[0]);
    let owned = arguments(&cursor);
    let (exit, _, complained) = exported(first.path(), &owned.each_ref().map(String::as_str));
    assert_eq!(exit, Exit::Yes, "{complained}");
    // Another run is on its way: it has written beyond its cursor.
    let mut before = fs::read(&out).unwrap();
    before.extend_from_slice(b"{\"on its way\": ");
    fs::write(&out, &before).unwrap();
    let noted = fs::read(&cursor).unwrap();
    let lock = fs::File::open(folder.path().join("cursor.lock")).unwrap();
    lock.try_lock().unwrap();
    let file = fs::File::open(&out).unwrap();
    for (held, at) in [(&lock, &cursor), (&file, &out)] {
        held.lock().unwrap();
        let (exit, _, complained) = run(&cursor);
        assert!(
            exit == Exit::Trouble
                && complained.contains(&format!("{}: another export writes here", at.display()))
                && complained.contains("wait for that run to end"),
            "{complained}"
        );
        assert!(fs::read(&out).unwrap() == before && fs::read(&cursor).unwrap() == noted);
        held.unlock().unwrap();
    }
    // A file that is claimed and still empty, by a run with another cursor.
    let empty = folder.path().join("empty");
    let claimed = fs::File::create(&empty).unwrap();
    claimed.lock().unwrap();
    let (exit, _, complained) = exported(&whole, &["--out", &empty.display().to_string()]);
    assert!(exit == Exit::Trouble && complained.contains("another export"), "{complained}");
    drop(claimed);
    // A run that was killed holds nothing.
    let (exit, _, complained) = run(&cursor);
    assert_eq!(exit, Exit::Yes, "{complained}");
    assert_eq!(fs::read_to_string(&out).unwrap(), exported(&whole, &["--kind", "*"]).1);
}

#[test]
fn one_file_is_not_both_output_and_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let both = folder.path().join("both").display().to_string();
    let round = folder.path().join(".").join("both").display().to_string();
    for exists in [false, true] {
        let arguments = ["--out", &both, "--cursor", &round];
        let (exit, _, complained) = exported(&golden("evidence_v1"), &arguments);
        assert!(exit == Exit::Usage && complained.contains("are one file"), "{complained}");
        assert_eq!(Path::new(&both).exists(), exists);
        fs::write(&both, "").unwrap();
    }
}
