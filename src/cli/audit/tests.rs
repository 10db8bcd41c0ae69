//! `audit pack`: what is in it, what `verify` says of it, and of one that somebody changed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::super::{Exit, Out, verify};
use super::Args;
use crate::audit::pack::sample::rank;
use crate::evidence::describe::is_deceptive;
use crate::evidence::note::SigningKey;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[derive(Parser)]
struct VerifyLine {
    #[command(flatten)]
    args: verify::Args,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn packed(log: &Path, out: &Path, arguments: &[&str]) -> (Exit, String, String) {
    let (log, folder) = (log.display().to_string(), out.display().to_string());
    let all = ["pack", &log, "--out", &folder, "--from", "1970-01-01", "--to", "2100-01-01"];
    let line = Line::try_parse_from(all.iter().chain(arguments)).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut out = Out::captured(&mut said, &mut complained);
    let exit = super::run(&line.args, &mut out).unwrap();
    drop(out);
    (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
}

fn verified(pack: &Path, arguments: &[&str]) -> (Exit, Value) {
    let pack = pack.display().to_string();
    let line = VerifyLine::try_parse_from(["verify", &pack, "--json"].iter().chain(arguments)).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut out = Out::captured(&mut said, &mut complained);
    let exit = verify::run(&line.args, &mut out).unwrap();
    drop(out);
    (exit, serde_json::from_slice(&said).unwrap_or_default())
}

#[test]
fn a_pack_holds_what_it_says_and_a_stranger_can_tell() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::new("auditee", &[7; 32]).unwrap();
    let file = folder.path().join("key");
    fs::write(&file, key.spelled().as_bytes()).unwrap();
    let mut mode = fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(&file, mode).unwrap();
    let out = folder.path().join("pack");
    let key_file = file.display().to_string();
    let (exit, said, complained) = packed(
        &golden("evidence_v1"),
        &out,
        &["--seed", "agreed", "--operator", "<b>Kim</b>\u{202e}", "--sign", &key_file],
    );
    assert_eq!(exit, Exit::Yes, "{complained}");
    assert!(said.contains("1  Statements that were refused (1 drawn)"), "{said}");
    let pack: Value = serde_json::from_slice(&fs::read(out.join("pack.json")).unwrap()).unwrap();
    for population in pack["populations"].as_array().unwrap() {
        let csv = fs::read_to_string(out.join(population["file"].as_str().unwrap())).unwrap();
        let count = population["count"].as_u64().unwrap();
        assert_eq!(csv.lines().count() as u64, count + 1, "{population}");
        let name = population["name"].as_str().unwrap();
        let mut sequences: Vec<u64> =
            csv.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
        sequences.sort_by_key(|sequence| rank("agreed", name, *sequence));
        sequences.truncate(25);
        sequences.sort_unstable();
        assert_eq!(population["sample"], serde_json::json!(sequences), "{name}: anybody can draw it again");
        let sampled = fs::read_to_string(out.join(format!("samples/{name}.csv"))).unwrap();
        assert_eq!(sampled.lines().count(), sequences.len() + 1);
        for sequence in sequences {
            let packet = fs::read_to_string(out.join(format!("packets/{sequence}.html"))).unwrap();
            let session = packet.split("../sessions/").nth(1).unwrap().split('"').next().unwrap();
            assert!(out.join("sessions").join(session).is_file());
        }
    }
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    for part in [
        "their numbers have no gap",
        "&lt;b&gt;Kim",
        "CC8.1",
        "seed &quot;agreed&quot;",
        "auditee+",
        "nothing in it speaks of",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        !page.contains("<script")
            && !page.contains(|character: char| character != '\n' && is_deceptive(character))
    );
    let public = key.verifier().to_string();
    let (exit, report) = verified(&out, &["--key", &public]);
    assert_eq!(
        (exit, &report["pack"]["ok"], &report["end_proven"]),
        (Exit::Yes, &true.into(), &false.into()),
        "{report}"
    );
    // The end is the word of whoever made the pack, signed or not.
    assert_eq!(report["end"]["state"], "as-the-pack-says");
    assert!(report["end"]["text"].as_str().unwrap().contains("NO EVIDENCE OF COMPLETENESS"));
    assert_eq!(report["pack"]["key"], public.as_str());
    assert!(complained.contains("the log holds 2"), "{complained}");
    // The folder is never written into again.
    let (exit, _, complained) = packed(&golden("evidence_v1"), &out, &[]);
    assert!(exit == Exit::Trouble && complained.contains("exists"), "{complained}");
}

#[test]
fn what_somebody_changed_in_a_pack_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pack");
    let (exit, _, complained) = packed(&golden("evidence_v1_signed"), &out, &[]);
    assert_eq!(exit, Exit::Yes, "{complained}");
    assert_eq!(verified(&out, &[]).0, Exit::Yes);
    let listing = out.join("populations/logins.csv");
    let sound = fs::read(&listing).unwrap();
    fs::write(&listing, [&sound[..], b"x"].concat()).unwrap();
    let (exit, report) = verified(&out, &[]);
    assert!(
        exit == Exit::No && report["pack"]["wrong"][0] == "populations/logins.csv was changed",
        "{report}"
    );
    fs::write(&listing, &sound).unwrap();
    fs::write(out.join("more.html"), "x").unwrap();
    let (exit, report) = verified(&out, &[]);
    assert!(
        exit == Exit::No && report["pack"]["wrong"][0].as_str().unwrap().contains("was added"),
        "{report}"
    );
    fs::remove_file(out.join("more.html")).unwrap();
    // The evidence of an older pack in a newer one, its list made to fit: the note names another end.
    let last = out.join("evidence/segment-0000000002.evidence");
    fs::remove_file(&last).unwrap();
    let (exit, _) = verified(&out, &[]);
    assert_eq!(exit, Exit::No);
}

#[test]
fn a_pack_over_broken_evidence_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::create_dir(&log).unwrap();
    let name = "segment-0000000000.evidence";
    let mut content = fs::read(golden("evidence_v1").join(name)).unwrap();
    content[2_000] ^= 1;
    fs::write(log.join(name), content).unwrap();
    let out = folder.path().join("pack");
    let (exit, _, complained) = packed(&log, &out, &[]);
    assert!(exit == Exit::No && complained.contains("BROKEN"), "{complained}");
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains("The evidence is broken"));
}
