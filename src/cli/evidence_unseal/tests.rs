//! `evidence unseal` on the golden log: what it shows, and what stands in its own log before that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value as Json;

use super::super::Exit;
use super::super::out::told;
use super::{KeyGen, Unseal};
use crate::evidence::originals::{AuditorKey, AuditorSecret};
use crate::evidence::record::{self, Payload};
use crate::evidence::verify::verify;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Unseal,
}

#[derive(Parser)]
struct KeyLine {
    #[command(flatten)]
    args: KeyGen,
}

fn golden() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1_sealed").display().to_string()
}

/// A folder with the key of this seed in it.
fn with_key(seed: u8) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("auditor.private");
    fs::write(&key, AuditorSecret::new("golden", &[seed; 32]).unwrap().spelled().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (folder, key)
}

fn unsealed(directory: &str, key: &Path, log: &Path, more: &[&str]) -> (Exit, String, String) {
    let (key, log) = (key.display().to_string(), log.display().to_string());
    let fixed = ["unseal", directory, "--private-key", &key, "--log", &log];
    let line = Line::try_parse_from(fixed.iter().chain(more)).unwrap();
    told(|out| super::unseal(&line.args, out))
}

/// What the log of unsealings says: reason, filter, sealed records, values.
fn written_down(log: &Path) -> Vec<(String, String, u64, u64)> {
    let mut found = Vec::new();
    let report = verify(log, &mut |_, _| {}, &mut |_, record| {
        if let Ok((_, Payload::Unsealed(unsealed))) = record::payload(record) {
            let (sealed, values) = (unsealed.sealed.to_native(), unsealed.values.to_native());
            found.push((unsealed.reason.get().to_owned(), unsealed.filter.get().to_owned(), sealed, values));
        }
    })
    .unwrap();
    assert!(report.sound(), "{:?} {:?}", report.bad, report.findings);
    found
}

#[test]
fn what_is_sealed_is_shown_behind_a_record_of_who_and_why() {
    let (folder, key) = with_key(9);
    let log = folder.path().join("unsealings");
    let (exit, said, complained) = unsealed(&golden(), &key, &log, &["--reason", " case 4711 "]);
    assert_eq!(exit, Exit::Yes, "{complained}");
    for value in
        ["rows, row 0 column 0: 123-45-6789", "row 0 column 2: \\xff00", "4111111111111111", "(goes on)"]
    {
        assert!(said.contains(value), "{value} is not in {said}");
    }
    assert!(said.contains("the rest of this result is not sealed: record_rows_bytes_max"), "{said}");
    // Again, less, for programs: the log grows.
    let less = ["--reason", "again", "--session", "0303", "--statement", "4", "--json"];
    let (exit, said, _) = unsealed(&golden(), &key, &log, &less);
    assert_eq!(exit, Exit::Yes);
    let lines: Vec<Json> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["statement"] == 4), "{said}");
    assert_eq!(lines[0]["value"]["text"], "123-45-6789");
    assert!(!said.contains("row 123"), "a notification belongs to no statement");
    let written = written_down(&log);
    let reasons: Vec<&str> = written.iter().map(|(reason, ..)| reason.as_str()).collect();
    assert_eq!(reasons, ["case 4711", "again"]);
    assert_eq!(written[1].1, "session 0303, statement 4");
    assert!(written[0].3 > written[1].3 && written[0].2 > written[1].2, "{written:?}");
}

#[test]
fn nothing_is_shown_where_it_cannot_be_written_down() {
    let (folder, key) = with_key(9);
    let log = folder.path().join("unsealings");
    fs::write(&log, "a file").unwrap();
    let (exit, said, complained) = unsealed(&golden(), &key, &log, &["--reason", "case 4711"]);
    assert_eq!((exit, said.as_str()), (Exit::Trouble, ""));
    assert!(complained.contains("nothing is opened"), "{complained}");
    // A log that somebody changed is none to go on with.
    fs::remove_file(&log).unwrap();
    assert_eq!(unsealed(&golden(), &key, &log, &["--reason", "first"]).0, Exit::Yes);
    let segment = log.join("segment-0000000000.evidence");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[400] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (exit, said, complained) = unsealed(&golden(), &key, &log, &["--reason", "second"]);
    assert_eq!((exit, said.as_str()), (Exit::Trouble, ""), "{complained}");
}

#[test]
fn without_the_key_or_a_reason_nothing_is_shown_or_written() {
    let (folder, key) = with_key(10);
    let log = folder.path().join("unsealings");
    let (exit, said, complained) = unsealed(&golden(), &key, &log, &["--reason", "x"]);
    assert_eq!((exit, said.as_str()), (Exit::No, ""));
    assert!(complained.contains("sealed to other keys"), "{complained}");
    let (exit, said, _) = unsealed(&golden(), &key, &log, &["--reason", "  "]);
    assert_eq!((exit, said.as_str()), (Exit::Usage, ""));
    let public = folder.path().join("auditor.pub");
    fs::write(&public, AuditorSecret::new("golden", &[9; 32]).unwrap().key().to_string()).unwrap();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o600)).unwrap();
    let (exit, said, _) = unsealed(&golden(), &public, &log, &["--reason", "x"]);
    assert_eq!((exit, said.as_str()), (Exit::Usage, ""));
    assert!(!log.exists());
}

#[test]
fn evidence_that_is_not_sound_is_not_opened() {
    let (folder, key) = with_key(9);
    let broken = folder.path().join("evidence");
    fs::create_dir(&broken).unwrap();
    let name = "segment-0000000000.evidence";
    let mut bytes = fs::read(Path::new(&golden()).join(name)).unwrap();
    let at = bytes.len() - 300;
    bytes[at] ^= 1;
    fs::write(broken.join(name), bytes).unwrap();
    let log = folder.path().join("unsealings");
    let (exit, said, complained) =
        unsealed(&broken.display().to_string(), &key, &log, &["--reason", "case 4711"]);
    assert_eq!((exit, said.as_str()), (Exit::No, ""));
    assert!(complained.contains("BROKEN") && !log.exists(), "{complained}");
}

#[test]
fn a_key_is_made_once_and_its_private_half_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auditor.private").display().to_string();
    let made = |name: &str| {
        let line = KeyLine::try_parse_from(["keygen", &file, "--name", name]).unwrap();
        told(|out| super::keygen(&line.args, out))
    };
    assert_eq!(made("two words").0, Exit::Usage);
    let (exit, said, _) = made("audit-2027");
    assert_eq!(exit, Exit::Yes);
    let kept = fs::read_to_string(&file).unwrap();
    let secret = AuditorSecret::parse(&kept).unwrap();
    assert_eq!(AuditorKey::parse(&said).unwrap().id(), secret.key().id());
    assert!(!said.contains(kept.trim().rsplit(' ').next().unwrap()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(made("again").0, Exit::Trouble);
    assert_eq!(fs::read_to_string(&file).unwrap(), kept);
}
