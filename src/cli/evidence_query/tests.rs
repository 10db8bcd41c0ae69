//! `evidence query` on the golden log and on damaged and hostile ones.

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

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1")
}

fn asked(directory: &Path, arguments: &[&str]) -> (Exit, String, String) {
    let directory = directory.display().to_string();
    let line = Line::try_parse_from(["query", &directory].iter().chain(arguments)).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut out = Out::captured(&mut said, &mut complained);
    let exit = super::run(&line.args, &mut out).unwrap();
    drop(out);
    (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
}

fn sequences(arguments: &[&str]) -> Vec<u64> {
    let (exit, said, _) = asked(&golden(), &[arguments, &["--json"]].concat());
    assert_eq!(exit, Exit::Yes);
    let mut sequences: Vec<u64> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    sequences.sort_unstable();
    sequences
}

#[test]
fn every_filter_finds_what_it_names_and_nothing_else() {
    let all = sequences(&[]);
    assert!(all.len() > 1, "{all:?}");
    let refused = sequences(&["--verdict", "refuse"]);
    let allowed = sequences(&["--verdict", "allow"]);
    assert_eq!(refused.len() + allowed.len(), all.len());
    assert!(!refused.is_empty() && !allowed.is_empty());
    for (fits, arguments) in [
        (&all, &["--who", "u-17"][..]),
        (&all, &["--who", "kim@*", "--group", "analysts", "--target", "crm-*"]),
        (&all, &["--claim", "email=kim@example.com"]),
        (&all, &["--claim", "email"]),
        (&all, &["--session", "0303"]),
        (&all, &["--kind", "statement", "--from", "1970-01-01"]),
        (&refused, &["--relation", "crm.*", "--class", "write"]),
        (&refused, &["--rule", "any.blind-*", "--outcome", "refused"]),
        (&allowed, &["--class", "read.select", "--text", "SELECT name"]),
        (&allowed, &["--rows-over", "0"]),
        (&allowed, &["--rule", "analyst.read"]),
    ] {
        assert_eq!(&sequences(arguments), fits, "{arguments:?}");
    }
    for nothing in [
        &["--who", "somebody"][..],
        &["--claim", "email=other"],
        &["--rows-over", "1000000"],
        &["--to", "1970-01-02"],
        &["--kind", "result"],
    ] {
        assert!(sequences(nothing).is_empty(), "{nothing:?}");
    }
    assert_eq!(sequences(&["--kind", "authentication-denied"]).len(), 1);
    let (_, said, _) = asked(&golden(), &["--verdict", "allow", "--json"]);
    let event: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let digest = event["text_commitment"].as_str().unwrap();
    assert!(sequences(&["--digest", &digest[..12]]).contains(&event["sequence"].as_u64().unwrap()));
}

#[test]
fn an_answer_reads_and_says_how_far_it_can_be_trusted() {
    let (exit, said, complained) = asked(&golden(), &[]);
    assert_eq!(exit, Exit::Yes);
    for part in [
        "u-17 (kim@example.com)  crm-prod  allow by analyst.read",
        "REFUSE by any.blind-write",
        "-> refused with 42501",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(
        complained.contains("evidence sound") && complained.contains("nothing from outside proves its end"),
        "{complained}"
    );
    let (_, csv, _) = asked(&golden(), &["--csv", "--columns", "sequence,subject,verdict", "--limit", "1"]);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("sequence,subject,verdict"));
    assert!(lines.next().unwrap().ends_with(",\"u-17\",\"allow\"") && lines.next().is_none(), "{csv}");
    let (_, counted, _) = asked(&golden(), &["--count"]);
    assert_eq!(counted.trim().parse::<usize>().unwrap(), sequences(&[]).len());
}

#[test]
fn what_is_broken_is_said_loudly_and_the_answer_is_no() {
    let directory = tempfile::tempdir().unwrap();
    let name = "segment-0000000000.evidence";
    let sound = fs::read(golden().join(name)).unwrap();
    for at in (256..sound.len()).step_by(97) {
        let mut content = sound.clone();
        content[at] ^= 0x11;
        fs::write(directory.path().join(name), content).unwrap();
        let (exit, said, complained) = asked(directory.path(), &["--kind", "*"]);
        assert!(exit == Exit::No && complained.contains("BROKEN"), "{at}: {complained}");
        assert!(!said.contains(|character: char| character != '\n' && is_deceptive(character)));
    }
    let (exit, _, complained) = asked(&directory.path().join("none"), &[]);
    assert!(exit == Exit::Usage && complained.starts_with("error: cannot read"), "{complained}");
    assert!(Line::try_parse_from(["query", "x", "--from", "yesterday"]).is_err());
    assert!(Line::try_parse_from(["query", "x", "--columns", "nothing"]).is_err());
}
