//! `audit pack`: what is in it, what `verify` says of it, and of one that somebody changed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::super::{Exit, Out, evidence_query, verify};
use super::Args;
use crate::audit::pack::manifest::{self, FILES_NAME, Manifest, NOTE_NAME};
use crate::audit::pack::place::Place;
use crate::audit::pack::recipe::{RECIPE_NAME, Recipe};
use crate::audit::pack::sample::rank;
use crate::evidence::describe::{hex, is_deceptive};
use crate::evidence::note::SigningKey;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[derive(Parser)]
struct QueryLine {
    #[command(flatten)]
    args: evidence_query::Args,
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

/// What who made a pack, and holds its key, can do: list and note fit whatever lies in the folder.
fn made_to_fit(pack: &Path, key: Option<&SigningKey>, change: impl FnOnce(&mut Manifest)) {
    let files = manifest::list(pack).unwrap();
    fs::write(pack.join(FILES_NAME), &files).unwrap();
    let note = fs::read_to_string(pack.join(NOTE_NAME)).unwrap();
    let mut made =
        Manifest { files: *blake3::hash(files.as_bytes()).as_bytes(), ..Manifest::open(&note).unwrap() };
    change(&mut made);
    fs::write(pack.join(NOTE_NAME), made.note(key)).unwrap();
}

#[test]
fn listings_that_the_evidence_does_not_give_are_named_whoever_signs_them() {
    let folder = tempfile::tempdir().unwrap();
    let forger = SigningKey::new("auditee", &[9; 32]).unwrap();
    let forged =
        |name: &str, key: Option<&SigningKey>, forge: &dyn Fn(&Path), change: &dyn Fn(&mut Manifest)| {
            let pack = folder.path().join(name);
            let (exit, _, complained) = packed(&golden("evidence_v1"), &pack, &["--seed", "agreed"]);
            assert_eq!(exit, Exit::Yes, "{complained}");
            let (exit, report) = verified(&pack, &[]);
            assert!(exit == Exit::Yes && report["pack"]["made_anew"].as_u64() > Some(26), "{report}");
            forge(&pack);
            made_to_fit(&pack, key, change);
            let (exit, report) = verified(&pack, &[]);
            assert_eq!((exit, &report["pack"]["ok"]), (Exit::No, &false.into()), "{report}");
            report["pack"]["wrong"].to_string()
        };
    let same: &dyn Fn(&mut Manifest) = &|_| {};
    let nothing: &dyn Fn(&Path) = &|_| {};
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |pack: &Path| {
            let text = fs::read_to_string(pack.join(file)).unwrap();
            assert!(text.contains(from), "{file}");
            fs::write(pack.join(file), text.replace(from, to)).unwrap();
        }
    };
    let shortened = |pack: &Path| {
        let path = pack.join("populations/refused-statements.csv");
        let titles = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
        fs::write(path, titles + "\n").unwrap();
    };
    for (name, key) in [("nobody", None), ("signed", Some(&forger))] {
        let wrong = forged(name, key, &shortened, &|made| made.key = None);
        assert!(
            wrong.contains("populations/refused-statements.csv is not what the evidence gives"),
            "{wrong}"
        );
    }
    let wrong = forged("page", None, &edit("index.html", "Completeness", "Complete"), same);
    assert!(wrong.contains("index.html is not what the evidence gives"), "{wrong}");
    // Another seed would have drawn others, or at least said so.
    let wrong = forged("seed", None, &edit(RECIPE_NAME, "\"agreed\"", "\"chosen\""), same);
    assert!(wrong.contains("pack.json is not") && wrong.contains("index.html is not"), "{wrong}");
    let wrong = forged("more", None, &|pack| fs::write(pack.join("samples/more.csv"), "x").unwrap(), same);
    assert!(
        wrong.contains("samples/more.csv is in the pack, and nothing in the evidence gives it"),
        "{wrong}"
    );
    let wrong =
        forged("fewer", None, &|pack| fs::remove_file(pack.join("samples/logins.csv")).unwrap(), same);
    assert!(wrong.contains("samples/logins.csv is missing: the evidence gives it"), "{wrong}");
    let wrong = forged("version", None, &edit(RECIPE_NAME, "\"version\": 3", "\"version\": 1"), same);
    assert!(wrong.contains("verify the pack with a program of that version"), "{wrong}");
    let wrong = forged("records", None, nothing, &|made| made.records += 1);
    assert!(wrong.contains("and the evidence in the pack holds 24"), "{wrong}");
    let wrong = forged("log", None, nothing, &|made| made.log = [0; 16]);
    assert!(wrong.contains("it is about another log"), "{wrong}");
    let wrong = forged("period", None, nothing, &|made| made.period.1 -= 1);
    assert!(wrong.contains("its period is not that of the note"), "{wrong}");
}

/// Packs that older programs made are verified by this one: whoever changes a byte of a listing or page raises [`VERSION`].
///
/// [`VERSION`]: crate::audit::pack::control::VERSION
#[test]
fn what_the_version_stands_for_does_not_change() {
    let recipe = Recipe {
        version: 3,
        program: "0".to_owned(),
        from_ns: 0,
        to_ns: u64::MAX,
        seed: "pinned".to_owned(),
        samples: 3,
        operator: "nobody".to_owned(),
        made_ns: 1,
        key: None,
    };
    let mut place = Place::Hashes(std::collections::BTreeMap::new());
    super::listings::make(&recipe, &golden("evidence_v1_signed"), false, &mut place).unwrap();
    let Place::Hashes(made) = place else { unreachable!() };
    let all: Vec<u8> = made.iter().flat_map(|(name, hash)| [name.as_bytes(), hash].concat()).collect();
    let pinned = (recipe.version, hex(blake3::hash(&all).as_bytes()));
    assert_eq!(
        pinned,
        (
            crate::audit::pack::control::VERSION,
            "a3be31a4f32959ef898ceb7c9403962544dfc00c25a3b47bea14f1d0f558a855".to_owned()
        )
    );
}

#[test]
fn a_pack_is_not_made_in_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::create_dir(&log).unwrap();
    let name = "segment-0000000000.evidence";
    fs::copy(golden("evidence_v1").join(name), log.join(name)).unwrap();
    let (exit, _, complained) = packed(&log, &log.join("pack"), &[]);
    assert!(exit == Exit::Usage && complained.contains("lies in the evidence"), "{complained}");
    assert!(!log.join("pack").exists());
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

#[test]
fn a_gateway_that_goes_on_and_stops_while_it_is_copied_accuses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (log, to) = (folder.path().join("log"), folder.path().join("copy"));
    fs::create_dir(&log).unwrap();
    fs::create_dir(&to).unwrap();
    // The log as it was with its first segment, without a stop; then as it is with all of them and the checkpoint of its stop.
    let whole = golden("evidence_v1_signed");
    let mut later: Vec<String> = fs::read_dir(&whole)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    later.retain(|name| name == "last.checkpoint" || name.starts_with("segment-"));
    assert!(later.len() > 2, "{later:?}");
    let first = "segment-0000000000.evidence";
    fs::copy(whole.join(first), log.join(first)).unwrap();
    let mut copied = Vec::new();
    super::copy(&log, &to, &mut |from, to| {
        copied.push(from.file_name().unwrap().to_str().unwrap().to_owned());
        let done = super::copy_file(from, to);
        if copied.len() == 2 {
            for name in &later {
                fs::copy(whole.join(name), log.join(name)).unwrap();
            }
        }
        done
    })
    .unwrap();
    assert_eq!(copied, ["last.checkpoint", first], "what is written behind the first look is not taken");
    let (_, report) = verified(&to, &[]);
    assert!(
        !to.join("last.checkpoint").exists() && report["findings"].as_array().is_none_or(Vec::is_empty),
        "{report}"
    );
}

#[test]
fn a_pack_counts_as_query_does_and_holds_no_character_that_deceives() {
    let folder = tempfile::tempdir().unwrap();
    let log = golden("evidence_v1_rows");
    let out = folder.path().join("pack");
    let (exit, _, complained) = packed(&log, &out, &["--operator", "kim\u{202e}gro.example"]);
    assert_eq!(exit, Exit::Yes, "{complained}");
    let shown = log.display().to_string();
    let line = QueryLine::try_parse_from(["query", &shown, "--kind", "*", "--json"]).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    evidence_query::run(&line.args, &mut Out::captured(&mut said, &mut complained)).unwrap();
    let events = String::from_utf8(said).unwrap().lines().count();
    let text = fs::read_to_string(out.join(RECIPE_NAME)).unwrap();
    assert!(!text.contains(|character: char| character != '\n' && is_deceptive(character)), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["made"]["operator"], "kim\u{202e}gro.example");
    let counted = told["completeness"]["events in the period"].as_str().unwrap();
    assert!(events > 10 && counted.starts_with(&format!("{events}, as")), "{counted}, {events}");
    let unknown =
        told["populations"].as_array().unwrap().iter().find(|one| one["name"] == "unknown-outcomes").unwrap();
    let gaps = told["completeness"]["gaps"].as_str().unwrap();
    assert!(gaps.contains(&format!("Of {} statement(s) of the period", unknown["count"])), "{gaps}");
    let (exit, report) = verified(&out, &[]);
    assert_eq!(exit, Exit::Yes, "{report}");
}
