//! What belongs to a statement and is more than one: results, parameters, errors and notices, what the client says of itself, waits for people.
//!
//! Owns: the inserting statements of these tables. A row that is there already (a statement whose end was missing when the index was
//! built) is replaced. Where a record stands by itself, because its statement was told before, it is written under that one's number all the same.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Result, params};

use super::fill::signed;
use crate::audit::event::{Event, Returned, Statement};
use crate::audit::json;
use crate::evidence::describe::Value;
use crate::evidence::record::Kind;
use crate::evidence::record::v1::Outcome;

/// The keys of every row: the event's sequence, its session, the number of the statement that it is about.
struct Keys {
    sequence: i64,
    session: Option<i64>,
    number: Option<i64>,
}

type Fields = [(&'static str, Value)];

fn part<'f>(fields: &'f Fields, name: &str) -> &'f Value {
    fields.iter().find(|(field, _)| *field == name).map_or(&Value::Null, |(_, value)| value)
}

/// A value as SQLite holds it; what has parts is JSON.
fn sql(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(value) => Sql::Integer(i64::from(*value)),
        Value::Unsigned(value) => Sql::Integer(signed(*value)),
        Value::Signed(value) => Sql::Integer(*value),
        Value::Text(text) => Sql::Text(text.clone()),
        Value::Bytes(bytes) => Sql::Blob(bytes.clone()),
        Value::List(_) | Value::Map(_) => Sql::Text(json::of(value.clone()).to_string()),
    }
}

fn list(value: &Value) -> &[Value] {
    if let Value::List(list) = value { list } else { &[] }
}

fn map(value: &Value) -> &Fields {
    if let Value::Map(fields) = value { fields } else { &[] }
}

/// Everything of a statement.
pub(super) fn statement(connection: &Connection, event: &Event, statement: &Statement) -> Result<()> {
    let keys = Keys {
        sequence: signed(event.sequence),
        session: event.session.as_deref().map(|session| signed(session.opened_at)),
        number: Some(signed(event.number)),
    };
    for (at, result) in (0_i64..).zip(&statement.results) {
        returned(connection, &keys, at, result)?;
    }
    let captured = &statement.captured;
    let values = captured.parameters.iter().flat_map(|bound| list(part(map(bound), "values")));
    for (at, value) in (1_i64..).zip(values) {
        parameter(connection, &keys, at, map(value))?;
    }
    for (at, fields) in (0_i64..).zip(&captured.reports) {
        report(connection, &keys, at, map(fields))?;
    }
    let mut at = 0;
    for fields in &captured.stated {
        at = stated(connection, &keys, at, map(fields))?;
    }
    for fields in &statement.holds {
        hold(connection, &keys, map(fields))?;
    }
    Ok(())
}

/// A record that stands by itself; kinds that are none of these tables' leave nothing.
pub(super) fn record(connection: &Connection, event: &Event, kind: Kind, fields: &Fields) -> Result<()> {
    let number = match part(fields, "refers") {
        Value::Unsigned(number) => Some(signed(*number)),
        Value::Null
        | Value::Bool(_)
        | Value::Signed(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_) => None,
    };
    let keys = Keys {
        sequence: signed(event.sequence),
        session: event.session.as_deref().map(|session| signed(session.opened_at)),
        number,
    };
    if kind == Kind::Stated {
        stated(connection, &keys, 0, fields)?;
    } else if kind == Kind::Report {
        report(connection, &keys, 0, fields)?;
    }
    Ok(())
}

fn returned(connection: &Connection, keys: &Keys, at: i64, result: &Returned) -> Result<()> {
    let outcome = match result.outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "failed",
        Outcome::Suspended => "suspended",
        Outcome::Skipped => "skipped",
        Outcome::Unknown => "unknown",
    };
    connection.prepare_cached("INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)")?.execute(
        params![
            keys.sequence,
            keys.session,
            keys.number,
            at,
            outcome,
            result.tag,
            result.sqlstate,
            signed(result.rows),
            signed(result.bytes),
            signed(result.bytes_in),
            signed(result.started_ns),
            signed(result.ended_ns),
            result.digest,
        ],
    )?;
    Ok(())
}

fn parameter(connection: &Connection, keys: &Keys, at: i64, fields: &Fields) -> Result<()> {
    // How it is kept is the last part's name.
    let (how, value) = fields
        .last()
        .map_or(("", Sql::Null), |(how, value)| (*how, if *how == "null" { Sql::Null } else { sql(value) }));
    connection.prepare_cached("INSERT OR REPLACE INTO parameter_values VALUES (?,?,?,?,?,?,?,?)")?.execute(
        params![
            keys.sequence,
            keys.session,
            keys.number,
            at,
            sql(part(fields, "type_oid")),
            sql(part(fields, "binary")),
            how,
            value,
        ],
    )?;
    Ok(())
}

fn report(connection: &Connection, keys: &Keys, at: i64, fields: &Fields) -> Result<()> {
    let all = part(fields, "fields");
    let coded = |code: &str| {
        let found = list(all)
            .iter()
            .map(map)
            .find(|field| matches!(part(field, "code"), Value::Text(text) if text == code));
        found.map_or(Sql::Null, |field| sql(part(field, "text")))
    };
    connection.prepare_cached("INSERT OR REPLACE INTO reports VALUES (?,?,?,?,?,?,?,?)")?.execute(
        params![
            keys.sequence,
            keys.session,
            keys.number,
            at,
            sql(part(fields, "what")),
            coded("C"),
            coded("M"),
            sql(all),
        ],
    )?;
    Ok(())
}

/// A row a claim; the place behind the last.
fn stated(connection: &Connection, keys: &Keys, from: i64, fields: &Fields) -> Result<i64> {
    let mut at = from;
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO stated VALUES (?,?,?,?,?,?,?)")?;
    for claim in list(part(fields, "claims")).iter().map(map) {
        insert.execute(params![
            keys.sequence,
            keys.session,
            keys.number,
            at,
            sql(part(fields, "origin")),
            sql(part(claim, "name")),
            sql(part(claim, "value")),
        ])?;
        at += 1;
    }
    Ok(at)
}

/// What opened a wait makes its row, what ended it fills it.
fn hold(connection: &Connection, keys: &Keys, fields: &Fields) -> Result<()> {
    let hold = sql(part(fields, "hold"));
    if matches!(part(fields, "outcome"), Value::Null) {
        let nothing = None::<i64>;
        connection.prepare_cached("INSERT OR REPLACE INTO holds VALUES (?,?,?,?,?,?,?,?,?,?)")?.execute(
            params![
                keys.sequence,
                keys.session,
                keys.number,
                hold,
                sql(part(fields, "needs")),
                sql(part(fields, "expires_ns")),
                nothing,
                nothing,
                nothing,
                nothing,
            ],
        )?;
        return Ok(());
    }
    connection
        .prepare_cached("UPDATE holds SET outcome = ?, reason = ?, approved_by = ?, waited_ns = ? WHERE sequence = ? AND hold = ?")?
        .execute(params![
            sql(part(fields, "outcome")),
            sql(part(fields, "reason")),
            sql(part(fields, "approved_by")),
            sql(part(fields, "waited_ns")),
            keys.sequence,
            hold,
        ])?;
    Ok(())
}
