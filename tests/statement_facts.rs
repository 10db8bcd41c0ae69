//! The walker against a second opinion: the server's own read-only verdict and command tags.
//!
//! Each statement of `rules/tests/statements.txt` runs in a READ ONLY transaction of a real server. Where the server says
//! 25006 ("cannot execute TAG in a read-only transaction"), the facts must own up to effects, and name the same tag. The
//! reverse is no fault: the facts also count effects that a read-only transaction does not stop (decision 15).
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a panic here is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use pgturnstile_rules::class::Class;
use pgturnstile_rules::statement::facts::{CopyUse, StatementFacts};
use pgturnstile_rules::statement::{Limits, facts_here, on_parser_stack};
use pgturnstile_tests::Postgres;
use pgturnstile_tests::catalog::facts;

/// Enough for the list's reads and writes to get past the analyzer: what they name exists.
const SCHEMA: &str = "
    CREATE SCHEMA s; CREATE SCHEMA x; CREATE ROLE joe; CREATE ROLE r;
    CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, x int, name text);
    CREATE TABLE u (LIKE t); CREATE TABLE o (LIKE t); CREATE TABLE p (LIKE t); CREATE TABLE a (LIKE t);
    CREATE TABLE b (LIKE t); CREATE TABLE secret (LIKE t); CREATE TABLE s.t (LIKE t); CREATE TABLE s.u (LIKE t);
    CREATE TABLE s.b (LIKE t); CREATE TABLE b_c (LIKE t);
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE PROCEDURE s.p(int) LANGUAGE sql AS '';
    CREATE SEQUENCE s.q; CREATE SEQUENCE \"Q\"; CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW m AS SELECT 1;
    ";

/// Where the server names another tag than the completion of the statement, with its reason.
const OTHER_TAGS: &[(&str, &str)] = &[
    ("SELECT", "CREATE TABLE AS"), // CREATE TABLE AS with data completes as SELECT; its utility node says otherwise
    ("SELECT", "CREATE MATERIALIZED VIEW"),
    ("SELECT", "SELECT INTO"),
    ("DO", "DELETE"), // the block's own statement is what fails
    ("DO", "DROP TABLE"),
    ("SELECT", "INSERT"), // WITH … INSERT … SELECT
    ("SELECT", "DELETE"),
    ("SELECT", "nextval()"),
    ("EXPLAIN", "DELETE"),
    ("EXPLAIN", "CREATE TABLE AS"),
    ("UPDATE", "SELECT"), // UPDATE pg_settings, whose rule selects
    ("COPY", "COPY FROM"),
    ("COPY", "DELETE"),
    ("SELECT", "SELECT FOR UPDATE"),
    ("SELECT", "SELECT FOR SHARE"),
];

#[test]
fn what_a_read_only_transaction_refuses_has_effects() {
    let server = Postgres::builder(21100..21160).start();
    server.execute("postgres", SCHEMA);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/tests/statements.txt");
    let list = std::fs::read_to_string(list).expect("the reviewed list");
    let statements = list.lines().filter(|l| !l.is_empty() && !l.starts_with('#') && !l.starts_with("    "));
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for sql in statements {
        let parsed = facts(sql);
        let [statement] = parsed.as_slice() else { continue };
        if statement.copy == Some(CopyUse::Out) {
            continue; // its answer is no result that the client reads here
        }
        if let Some(tag) = refused_tag(&server, sql) {
            refused += 1;
            wrong.extend(disagreement(sql, statement, &tag));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(
        refused >= 120,
        "only {refused} statements were refused: the schema above no longer fits the list"
    );
}

/// Runs the statement in a READ ONLY transaction of a new session; the tag in the server's refusal, if it is one.
fn refused_tag(server: &Postgres, sql: &str) -> Option<String> {
    let session = server.session("postgres");
    session.run("BEGIN READ ONLY");
    let error = session.try_query(sql).err()?;
    let error = error.as_db_error()?;
    let tag = error.message().strip_prefix("cannot execute ")?.strip_suffix(" in a read-only transaction")?;
    (error.code().code() == "25006").then(|| tag.to_owned())
}

fn disagreement(sql: &str, statement: &StatementFacts, tag: &str) -> Option<String> {
    // A row lock writes to the row, yet leaves the data as it was: owned up to as a lock.
    let owned = statement.flags.effects || (statement.flags.locks && tag.starts_with("SELECT FOR"));
    if !owned {
        return Some(format!("{sql}\n  the server refuses {tag}, the facts know no effect"));
    }
    let same = statement.tag == tag || OTHER_TAGS.contains(&(statement.tag, tag));
    (!same).then(|| format!("{sql}\n  the server says {tag}, the facts say {}", statement.tag))
}

/// The scripts that the server ships (system views, information schema, every extension): some thousand statements that
/// real authors wrote. None holds anything that the walker cannot place.
#[test]
fn the_servers_own_scripts_hold_nothing_unknown() {
    let server = Postgres::builder(21100..21160).start();
    let share = Command::new(server.program("pg_config")).arg("--sharedir").output().expect("pg_config runs");
    let share = PathBuf::from(String::from_utf8(share.stdout).expect("a path").trim());
    let (mut statements, mut wrong) = (0, Vec::new());
    for folder in [share.clone(), share.join("extension")] {
        for entry in std::fs::read_dir(&folder).expect("the server's scripts") {
            let path = entry.expect("an entry").path();
            // PL/pgSQL's own script is a template in more than its schema.
            if path.extension().is_none_or(|e| e != "sql") || path.ends_with("plpgsql--1.0.sql") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a script");
            let lines =
                text.lines().filter(|l| !l.starts_with('\\')).map(|l| l.replace("@extschema@", "ext"));
            let sql: String = lines.map(|l| l + "\n").collect();
            let limits = Limits { text_bytes_max: sql.len() };
            let facts = on_parser_stack(|| facts_here(sql.as_bytes(), &limits));
            let facts = facts.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for statement in &facts.statements {
                statements += 1;
                if statement.acts.iter().any(|a| a.class == Class::Unknown) {
                    wrong.push(format!(
                        "{}: {:?} {}",
                        path.display(),
                        statement.acts,
                        &sql[statement.range.clone()]
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(statements > 500, "{statements} statements in {}", share.display());
}
