//! A snapshot of a throwaway server's catalog, read as the gateway reads it: simple queries, cells as text.

use pgturnstile_rules::catalog::{Rows, Snapshot, queries};
use pgturnstile_rules::resolve::{Resolution, SearchPath, SessionView, resolve};
use pgturnstile_rules::statement::facts::StatementFacts;
use pgturnstile_rules::statement::{Limits, facts_here, on_parser_stack};

use crate::Postgres;

/// The answers to every catalog query, in one transaction.
///
/// # Panics
/// When the server refuses one.
#[must_use]
pub fn rows(server: &Postgres, database: &str) -> Rows {
    let session = server.session(database);
    session.run(queries::GREET);
    session.run(queries::OPEN);
    let answers = queries::QUERIES.iter().map(|query| session.query(query.sql)).collect();
    session.run(queries::CLOSE);
    Rows(answers)
}

/// A snapshot of that database.
///
/// # Panics
/// When the server's rows are none.
#[must_use]
pub fn snapshot(server: &Postgres, database: &str) -> Snapshot {
    Snapshot::from_rows(&rows(server, database), 1).unwrap_or_else(|error| panic!("{error}"))
}

/// The facts of a text's statements.
///
/// # Panics
/// When the text does not parse.
#[must_use]
pub fn facts(sql: &str) -> Vec<StatementFacts> {
    let text = on_parser_stack(|| facts_here(sql.as_bytes(), &Limits::default()));
    text.unwrap_or_else(|error| panic!("{error} in: {sql}")).statements
}

/// What a single statement reaches.
///
/// # Panics
/// When the text is not one statement.
#[must_use]
pub fn resolution(snapshot: &Snapshot, path: &[&str], session: &SessionView<'_>, sql: &str) -> Resolution {
    let statements = facts(sql);
    assert_eq!(statements.len(), 1, "{sql}");
    resolve(&statements[0], snapshot, &SearchPath::new(path, "login"), session)
}
