//! `evidence sql`: answers, what is no question, and an index that is stale, foreign or another log's.

use std::fs;
use std::path::Path;

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

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).display().to_string()
}

fn asked(directory: &str, arguments: &[&str]) -> (Exit, String, String) {
    let line = Line::try_parse_from(["sql", directory].iter().chain(arguments)).unwrap();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut out = Out::captured(&mut said, &mut complained);
    let exit = super::run(&line.args, &mut out).unwrap();
    drop(out);
    (exit, String::from_utf8(said).unwrap(), String::from_utf8(complained).unwrap())
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let (exit, said, complained) = asked(&golden("evidence_v1"), &[arguments, &["--json"]].concat());
    assert_eq!(exit, Exit::Yes, "{complained}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn statements_stand_there_with_who_and_what() {
    let found = rows(&["SELECT * FROM statements WHERE verdict = 'refuse'"]);
    assert_eq!(found.len(), 1);
    for (name, value) in [
        ("subject", "u-17"),
        ("person", "kim@example.com"),
        ("target", "crm-prod"),
        ("sqlstate", "42501"),
        ("outcome", "refused"),
    ] {
        assert_eq!(found[0][name], value, "{name}");
    }
    let reached = rows(&["SELECT name, access, blind FROM reached WHERE verdict = 'refuse'"]);
    assert_eq!(reached[0]["name"], "crm.customers");
    assert_eq!(reached[0]["blind"], 1);
    assert_eq!(rows(&["SELECT name FROM session_groups ORDER BY 1"])[0]["name"], "analysts");
    assert_eq!(rows(&["SELECT json FROM session_claims"])[0]["json"], "\"kim@example.com\"");
    let covered = rows(&["SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM asked) AS n"]);
    assert!(covered[0]["n"].as_u64().unwrap() > 15, "{covered:?}");
    let (_, table, _) = asked(&golden("evidence_v1"), &["SELECT -1 AS n, char(27) AS c, '=1' AS f, NULL"]);
    assert!(table.starts_with("n ") && table.contains("\\u{1b}"), "{table}");
    assert!(!table.contains(|character: char| character != '\n' && is_deceptive(character)));
    let (_, csv, _) = asked(&golden("evidence_v1"), &["SELECT -1 AS n, '=1' AS f", "--csv"]);
    assert_eq!(csv, "\"n\",\"f\"\n-1,\"'=1\"\n");
    let endless = rows(&["SELECT 9e999 AS more, -9e999 AS less, 9e999 - 9e999 AS neither"]);
    assert_eq!(
        (&endless[0]["more"], &endless[0]["less"], &endless[0]["neither"]),
        (&Value::from("Infinity"), &Value::from("-Infinity"), &Value::Null)
    );
}

#[test]
fn a_time_is_cut_and_not_rounded() {
    let sql = "SELECT count(*) AS n FROM statements WHERE time <> strftime('%Y-%m-%dT%H:%M:%S', time_ns / 1000000000, 'unixepoch') \
               || '.' || substr('00' || (time_ns / 1000000 % 1000), -3) || 'Z'";
    assert_eq!(rows(&[sql])[0]["n"], 0);
    // The golden log's own times are whole milliseconds: the form is held to the schema's word.
    assert!(!include_str!("../../audit/index/schema.sql").contains("%f"), "%f rounds");
}

#[test]
fn the_example_of_the_help_counts_a_statements_rows_once() {
    let help = <super::Args as clap::Args>::augment_args(clap::Command::new("sql"))
        .get_after_help()
        .unwrap()
        .to_string();
    let example = help.split('"').find(|part| part.contains("sum(rows)")).unwrap();
    // As many rows of a relation as its statements gave, whatever else of them reaches it.
    for row in rows(&[&example.replace("2026-11", "1970")]) {
        let name = row["name"].as_str().unwrap();
        let once = format!(
            "SELECT sum(rows) AS n FROM statements WHERE subject = '{}' AND sequence IN (SELECT sequence FROM reached WHERE name = '{name}')",
            row["subject"].as_str().unwrap()
        );
        assert_eq!(row["sum(rows)"], rows(&[&once])[0]["n"], "{name}");
    }
}

/// Each record of these kinds is a row, whether a statement waited for it or not.
#[test]
fn what_belongs_to_a_statement_is_in_tables() {
    let ask = |log: &str, sql: &str| -> Vec<Value> {
        let (exit, said, complained) = asked(&golden(log), &[sql, "--json"]);
        assert_eq!(exit, Exit::Yes, "{sql}: {complained}");
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let bound = ask(
        "evidence_v1_rows",
        "SELECT at, type_oid, kept, value FROM parameter_values JOIN asked USING (sequence) ORDER BY at",
    );
    let kept: Vec<&str> = bound.iter().map(|row| row["kept"].as_str().unwrap()).collect();
    assert_eq!(kept, ["whole", "masked", "null", "withheld", "whole"], "{bound:?}");
    assert!(bound[0]["at"] == 1 && bound[0]["value"] == "7" && bound[2]["value"].is_null(), "{bound:?}");
    let reports = ask(
        "evidence_v1_rows",
        "SELECT what, r.sqlstate, message, s.outcome FROM reports r JOIN statements s USING (sequence) ORDER BY at",
    );
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(
        reports[1]["what"] == "error"
            && reports[1]["sqlstate"] == "23505"
            && reports[1]["message"] == "duplicate key",
        "{reports:?}"
    );
    for log in ["evidence_v1_rows", "evidence_v1_holds", "evidence_v1"] {
        let results = ask(log, "SELECT count(*) AS n, sum(r.rows) AS rows FROM results r");
        let rows = ask(log, "SELECT sum(rows) AS rows FROM statements");
        assert!(
            results[0]["n"].as_u64().unwrap() > 0 && results[0]["rows"] == rows[0]["rows"],
            "{results:?}"
        );
    }
    let stated = ask("evidence_v1_rows", "SELECT origin, number IS NULL AS own FROM stated");
    assert!(!stated.is_empty(), "{stated:?}");
    assert!(stated.iter().all(|row| (row["origin"] == "comment") != (row["own"] == 1)), "{stated:?}");
    let holds = ask(
        "evidence_v1_holds",
        "SELECT h.outcome, h.approved_by, s.verdict FROM holds h JOIN statements s USING (sequence)",
    );
    assert!(holds.iter().any(|row| row["outcome"] == "released" && row["verdict"].is_string()), "{holds:?}");
    let decided =
        ask("evidence_v1_holds", "SELECT d.decision, h.hold FROM decisions d LEFT JOIN holds h USING (hold)");
    assert!(decided.iter().any(|row| row["decision"] == "approve" && row["hold"].is_string()), "{decided:?}");
    // An index that is built again over a statement whose end is known by now has no row twice.
    let twice =
        ask("evidence_v1_rows", "SELECT sequence FROM results GROUP BY sequence, at HAVING count(*) > 1");
    assert!(twice.is_empty());
}

#[test]
fn nothing_but_one_question_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index.db").display().to_string();
    let elsewhere = folder.path().join("else.db").display().to_string();
    let attach = format!("ATTACH '{elsewhere}' AS e");
    let vacuum = format!("VACUUM INTO '{elsewhere}'");
    for kept in [&["--index", &index][..], &[]] {
        for sql in [
            "DELETE FROM asked",
            "DROP TABLE asked",
            "CREATE TABLE t (a)",
            "CREATE TEMP TABLE t (a)",
            "PRAGMA query_only = OFF",
            "PRAGMA user_version",
            &attach,
            &vacuum,
            "SELECT 1; SELECT 2",
            "BEGIN",
            "SELECT load_extension('x')",
            "REINDEX",
            "",
        ] {
            let (exit, said, complained) = asked(&golden("evidence_v1"), &[&[sql], kept].concat());
            assert_eq!((exit, said.as_str()), (Exit::Usage, ""), "{sql}: {complained}");
            assert!(complained.contains("only questions are answered"), "{sql}: {complained}");
        }
    }
    let (exit, _, complained) = asked(&golden("evidence_v1"), &["SELECT missing FROM asked"]);
    assert!(exit == Exit::Usage && complained.contains("no such column"), "{complained}");
    assert!(!Path::new(&elsewhere).exists());
}

#[test]
fn an_index_is_kept_extended_and_built_anew_where_it_holds_another_log() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index.db");
    let shown = index.display().to_string();
    let count = |directory: &str| {
        let sql =
            "SELECT (SELECT value FROM meta WHERE name = 'records') AS r, (SELECT count(*) FROM asked) AS n";
        let (exit, said, complained) = asked(directory, &[sql, "--index", &shown, "--json"]);
        assert_eq!(exit, Exit::Yes, "{complained}");
        let row: Value = serde_json::from_str(&said).unwrap();
        (row["r"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap(), complained)
    };
    let (records, asked_there, complained) = count(&golden("evidence_v1"));
    assert!(records == "24" && asked_there > 0 && complained.contains("built anew"), "{complained}");
    let (again, same, complained) = count(&golden("evidence_v1"));
    assert!(
        (again.as_str(), same) == ("24", asked_there) && complained.contains("24 were there"),
        "{complained}"
    );
    let (other, _, complained) = count(&golden("evidence_v1_signed"));
    assert!(other != "24" && complained.contains("holds other records than the log"), "{complained}");
    // What is no index is never written to.
    for content in
        [&b"some text of somebody's, longer than a header of SQLite's would be, to be sure of it"[..], b"x"]
    {
        fs::write(&index, content).unwrap();
        let (exit, _, complained) = asked(&golden("evidence_v1"), &["SELECT 1", "--index", &shown]);
        assert!(exit == Exit::Usage && complained.contains("no index of pgturnstile"), "{complained}");
        assert_eq!(fs::read(&index).unwrap(), content);
    }
    fs::remove_file(&index).unwrap();
    let inside = Path::new(&golden("evidence_v1")).join("index.db").display().to_string();
    let (exit, _, complained) = asked(&golden("evidence_v1"), &["SELECT 1", "--index", &inside]);
    assert!(exit == Exit::Usage && complained.contains("chained files alone"), "{complained}");
    assert!(!Path::new(&inside).exists());
}

#[test]
fn an_answer_over_broken_evidence_is_about_what_stands_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = "segment-0000000000.evidence";
    let mut content = fs::read(Path::new(&golden("evidence_v1")).join(name)).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(folder.path().join(name), content).unwrap();
    let directory = folder.path().display().to_string();
    let (exit, said, complained) = asked(&directory, &["SELECT count(*) AS n FROM events", "--json"]);
    assert!(exit == Exit::No && complained.contains("BROKEN") && said.contains("\"n\":"), "{complained}");
}
