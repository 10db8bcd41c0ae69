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
fn a_mistyped_question_is_refused_or_told_what_there_is() {
    for (arguments, says) in [
        (&["--class", "wrte"][..], "did you mean write?"),
        (&["--class", "read.slect"], "did you mean read.select?"),
        (&["--kind", "refusl"], "did you mean refusal?"),
        (&["--kind", "nothing-such-*"], "no record is of such a kind"),
        (&["--from", "2026-11-22", "--to", "2026-11-01"], "--to lies before --from"),
    ] {
        let (exit, said, complained) = asked(&golden(), arguments);
        assert!(
            exit == Exit::Usage && said.is_empty() && complained.contains(says),
            "{arguments:?}: {complained}"
        );
    }
    for wrong in
        [["--session", "zz"], ["--session", ""], ["--relation", "customers"], ["--ref", "3F4Q2F8000"]]
    {
        assert!(Line::try_parse_from(["query", "x"].iter().chain(&wrong)).is_err(), "{wrong:?}");
    }
    for (arguments, says) in [
        (
            &["--who", "u-71"][..],
            "--who: no record names a subject or person that fits u-71; did you mean u-17?",
        ),
        (&["--target", "erp"], "--target: no record names a target that fits erp; there is crm-prod"),
        (&["--relation", "CRM.Customers"], "did you mean crm.customers?"),
        (&["--group", "nobody"], "there are analysts, dba"),
        (&["--claim", "mail"], "--claim: "),
        (&["--rule", "any.blind-wrte"], "did you mean any.blind-write?"),
        (&["--kind", "result"], "--kind: "),
        (&["--session", "ffff"], "no session's id begins so"),
        (&["--ref", "00000000000"], "--ref: no record"),
        (&["--to", "1970-01-02"], "nothing in it speaks of anything before 1970-01-03T00:00:00Z"),
        (&["--from", "2099-01-01"], "nothing in it speaks of anything from 2099-01-01T00:00:00Z on"),
    ] {
        let (exit, said, complained) = asked(&golden(), arguments);
        assert!(
            exit == Exit::Yes && said.is_empty() && complained.contains(says),
            "{arguments:?}: {complained}"
        );
        assert!(complained.contains("\n0 event(s) fit"), "{complained}");
    }
    // Each by itself is there; both together are not: nothing was mistyped.
    let (_, _, complained) = asked(&golden(), &["--verdict", "refuse", "--rule", "analyst.read"]);
    assert!(complained.starts_with("0 event(s) fit"), "{complained}");
}

#[test]
fn what_a_client_was_told_finds_its_record() {
    let (_, said, _) = asked(&golden(), &["--verdict", "refuse", "--json"]);
    let event: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let reference = event["ref"].as_str().unwrap();
    assert_eq!(sequences(&["--ref", reference]), [event["sequence"].as_u64().unwrap()]);
    assert_eq!(sequences(&["--ref", &reference.to_lowercase(), "--verdict", "allow"]), [0_u64; 0]);
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
