//! Events as rows: one list of columns for CSV, JSON lines, HTML and the documentation.
//!
//! Owns: names, meanings and values of the columns. A name that was published keeps its meaning; new ones are added.

use serde_json::{Value as Json, json};

use super::event::{Body, Captured, Event, Exact, Identity, Returned, Session, Statement, Target};
use super::json;
use super::time::rfc3339;
use crate::evidence::chain::Hash;
use crate::evidence::describe::{Value, hex};
use crate::evidence::record::Kind;
use crate::evidence::record::v1::{Facts, Relation};
use crate::evidence::reference::reference;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// Words of somebody's: not escaped.
    Text(String),
    /// A count, a size, a time.
    Number(u64),
    /// Several words.
    List(Vec<String>),
    /// Parts.
    Json(Json),
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it says, and in which unit.
    pub meaning: &'static str,
    /// Its value of an event.
    pub cell: fn(&Event) -> Cell,
}

fn text(text: impl Into<String>) -> Cell {
    let text = text.into();
    if text.is_empty() { Cell::Empty } else { Cell::Text(text) }
}

fn list(list: impl IntoIterator<Item = impl Into<String>>) -> Cell {
    let list: Vec<String> = list.into_iter().map(Into::into).collect();
    if list.is_empty() { Cell::Empty } else { Cell::List(list) }
}

fn hash(hash: Option<&Hash>) -> Cell {
    hash.map_or(Cell::Empty, |hash| Cell::Text(hex(hash)))
}

fn session(event: &Event, cell: impl FnOnce(&Session) -> Cell) -> Cell {
    event.session.as_deref().map_or(Cell::Empty, cell)
}

fn identity(event: &Event, cell: impl FnOnce(&Identity) -> Cell) -> Cell {
    session(event, |session| session.identity.as_ref().map_or(Cell::Empty, cell))
}

fn target(event: &Event, cell: impl FnOnce(&Target) -> Cell) -> Cell {
    session(event, |session| session.target.as_ref().map_or(Cell::Empty, cell))
}

fn statement(event: &Event, cell: impl FnOnce(&Statement) -> Cell) -> Cell {
    event.statement().map_or(Cell::Empty, cell)
}

fn sum(event: &Event, of: impl Fn(&Returned) -> u64) -> Cell {
    statement(event, |statement| {
        let sum = |sum: u64, result: &Returned| sum.saturating_add(of(result));
        if statement.results.is_empty() {
            Cell::Empty
        } else {
            Cell::Number(statement.results.iter().fold(0, sum))
        }
    })
}

fn took_us(statement: &Statement) -> Cell {
    let started = statement.results.iter().map(|result| result.started_ns).filter(|ns| *ns > 0).min();
    let ended = statement.results.iter().map(|result| result.ended_ns).max();
    match (started, ended) {
        (Some(started), Some(ended)) => Cell::Number(ended.saturating_sub(started) / 1_000),
        (None, _) | (_, None) => Cell::Empty,
    }
}

fn facts(facts: &Facts) -> Json {
    let relation = |relation: &Relation| {
        let Relation { name, access, what, blind } = relation;
        json!({ "name": name, "access": access, "what": what, "blind": blind })
    };
    let Facts { class, tag, relations, functions, acts, settings, unproven } = facts;
    json!({
        "class": class, "tag": tag, "relations": relations.iter().map(relation).collect::<Vec<Json>>(),
        "functions": functions, "acts": acts, "settings": settings, "unproven": unproven,
    })
}

/// What is kept beyond digests; null where nothing is.
fn captured(captured: &Captured) -> Json {
    let Captured { text, parameters, rows, bytes, ended, reports, stated } = captured;
    let list = |values: &[Value]| values.iter().cloned().map(json::of).collect::<Vec<Json>>();
    let text = text.as_deref().map(|text| match text {
        Exact::Whole(_) => json!("whole"),
        Exact::Masked(_) => json!("masked"),
        Exact::Withheld(why) => json!({ "withheld": why }),
    });
    if text.is_none()
        && *bytes == 0
        && [parameters, ended, reports, stated].iter().all(|list| list.is_empty())
    {
        return Json::Null;
    }
    json!({
        "text": text, "parameters": list(parameters), "rows": rows, "bytes": bytes, "ended": list(ended),
        "reports": list(reports), "stated": list(stated),
    })
}

fn detail(event: &Event) -> Cell {
    let statement = match &event.body {
        Body::Record(_, fields) => {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), json::of(value.clone())));
            return Cell::Json(Json::Object(fields.collect()));
        }
        Body::Statement(statement) => statement,
    };
    let results: Vec<Json> = statement
        .results
        .iter()
        .map(|result| {
            json!({
                "outcome": format!("{:?}", result.outcome).to_lowercase(), "tag": result.tag,
                "sqlstate": result.sqlstate, "rows": result.rows, "bytes": result.bytes, "bytes_in": result.bytes_in,
                "digest": result.digest.as_ref().map(|digest| hex(digest)),
            })
        })
        .collect();
    let masked: Vec<Json> = statement
        .masked
        .iter()
        .map(|mask| json!({ "place": mask.place, "by": mask.by, "count": mask.count }))
        .collect();
    Cell::Json(json!({
        "statements": statement.judged.facts.iter().map(facts).collect::<Vec<Json>>(),
        "results": results,
        "masked": masked,
        "name": statement.name,
        "portal": statement.portal,
        "catalog_epoch": statement.judged.catalog_epoch,
        "captured": captured(&statement.captured),
        "holds": statement.holds.iter().cloned().map(json::of).collect::<Vec<_>>(),
    }))
}

/// What stands in the client's message behind `ref`.
fn reference_of(event: &Event) -> Cell {
    match &event.body {
        Body::Statement(statement) => statement
            .refusal
            .as_ref()
            .map_or(Cell::Empty, |refusal| Cell::Text(reference(&event.stream, refusal.number))),
        Body::Record(Kind::Refusal, _) => Cell::Text(reference(&event.stream, event.number)),
        Body::Record(..) => Cell::Empty,
    }
}

macro_rules! columns {
    ($( $name:literal, $meaning:literal, $cell:expr; )*) => {
        /// Every column, in order.
        pub const COLUMNS: &[Column] = &[ $( Column { name: $name, meaning: $meaning, cell: $cell }, )* ];
    };
}

columns! {
    "sequence", "number of the record in the log; of a statement, of the record that asked", |event| Cell::Number(event.sequence);
    "time", "when, RFC 3339, UTC", |event| Cell::Text(rfc3339(event.time_ns));
    "kind", "`statement`, or the record's kind", |event| Cell::Text(event.kind().to_owned());
    "session", "id of the session, or of the gateway's run", |event| Cell::Text(hex(&event.stream));
    "number", "number of the record in the session", |event| Cell::Number(event.number);
    "subject", "the token's subject", |event| identity(event, |who| text(&who.subject));
    "issuer", "the `[[issuer]]` entry", |event| identity(event, |who| text(&who.issuer));
    "person", "who stands behind it, by a claim", |event| identity(event, |who| text(who.person.clone().unwrap_or_default()));
    "groups", "groups of the policy that it matched", |event| identity(event, |who| list(&who.groups));
    "claims", "claims kept: path=JSON",
        |event| identity(event, |who| list(who.claims.iter().map(|(path, json)| format!("{path}={json}"))));
    "peer", "address and port of the client", |event| session(event, |session| text(&session.peer));
    "target", "the `[[target]]` entry", |event| target(event, |target| text(&target.target));
    "database", "database", |event| target(event, |target| text(&target.database));
    "access", "the `[[access]]` entry", |event| target(event, |target| text(&target.access));
    "user", "the database's user", |event| target(event, |target| text(&target.user));
    "verdict", "`allow`, `hold` or `refuse`", |event| statement(event, |statement| text(statement.verdict()));
    "rule", "the rules that decided, with file and line", |event| statement(event, |statement| text(&statement.judged.rule));
    "classes", "classes of the statement and of what it reaches", |event| statement(event, |statement| list(statement.classes()));
    "relations", "relations that it names; what a view, a function or a trigger reads, and the partitions below a table, are not named", |event| statement(event, |statement| list(statement.relations()));
    "protocol", "`simple`, `parse`, `execute`, `injected`", |event| statement(event, |statement| text(statement.protocol()));
    "outcome", "`completed`, `failed`, `suspended`, `skipped`, `refused`, `unknown`; `parsed`: it runs nothing",
        |event| statement(event, |statement| text(statement.outcome()));
    "tag", "command tags",
        |event| statement(event, |statement| {
            list(statement.results.iter().map(|result| result.tag.as_str()).filter(|tag| !tag.is_empty()))
        });
    "sqlstate", "SQLSTATE of the error or refusal", |event| statement(event, |statement| {
        let refused = statement.refusal.as_ref().map(|refusal| refusal.sqlstate.as_str());
        let failed = statement.results.iter().rev().find_map(|result| result.sqlstate.as_deref());
        text(refused.or(failed).unwrap_or_default())
    });
    "rows", "rows that the client got", |event| sum(event, |result| result.rows);
    "bytes", "bytes of these rows", |event| sum(event, |result| result.bytes);
    "bytes_in", "bytes of COPY from the client", |event| sum(event, |result| result.bytes_in);
    "took_us", "from forwarding to the last byte, microseconds", |event| statement(event, took_us);
    "masked", "values masked in its result", |event| statement(event, |statement| match statement.masked_values() {
        0 => Cell::Empty,
        values => Cell::Number(values),
    });
    "refusal", "what the client was told", |event| statement(event, |statement| {
        text(statement.refusal.as_ref().map(|refusal| refusal.message.as_str()).unwrap_or_default())
    });
    "ref", "the refusal's `[ref …]`, as the client was told it", reference_of;
    "text", "the text with its literals lifted", |event| statement(event, |statement| {
        text(statement.judged.text.as_deref().unwrap_or_default())
    });
    "withheld", "why there is no text", |event| statement(event, |statement| {
        text(statement.judged.text.as_ref().err().cloned().unwrap_or_default())
    });
    "exact_text", "the exact text, where it is recorded; what detectors found in it is replaced", |event| statement(event, |statement| {
        match statement.captured.text.as_deref() {
            Some(Exact::Whole(exact) | Exact::Masked(exact)) => text(exact),
            Some(Exact::Withheld(_)) | None => Cell::Empty,
        }
    });
    "text_bytes", "length of the exact text, bytes", |event| statement(event, |statement| Cell::Number(statement.text_bytes));
    "text_commitment", "keyed commitment to the exact text", |event| statement(event, |statement| hash(statement.text_commitment.as_ref()));
    "parameters", "bound parameters", |event| statement(event, |statement| Cell::Number(statement.parameters));
    "parameter_digest", "keyed digest of the parameters", |event| statement(event, |statement| hash(statement.parameter_digest.as_ref()));
    "result_digest", "keyed digest of the rows as sent", |event| statement(event, |statement| {
        list(statement.results.iter().filter_map(|result| result.digest.as_ref()).map(|digest| hex(digest)))
    });
    "policy", "hash of the policy that decided", |event| statement(event, |statement| hash(Some(&statement.judged.policy_hash)));
    "detail", "everything else, as JSON", detail;
    "hash", "hash of the record", |event| Cell::Text(hex(&event.hash));
}

/// The column of a name.
pub fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_every_column_says_what_it_means() {
        let names: HashSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert!(COLUMNS.iter().all(|column| !column.meaning.is_empty()));
        assert!(column("sequence").is_some() && column("none").is_none());
    }

    #[test]
    fn the_guide_tells_every_column() {
        let rows: String =
            COLUMNS.iter().map(|column| format!("| `{}` | {} |\n", column.name, column.meaning)).collect();
        assert!(include_str!("README.md").contains(&rows), "src/audit/README.md lacks:\n{rows}");
    }
}
