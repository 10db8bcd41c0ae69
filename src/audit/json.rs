//! JSON that is safe to print.
//!
//! Owns: values of records as JSON, and the one line that an object becomes. What could move a terminal or reorder text is
//! escaped, which JSON allows everywhere inside a string.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::columns::{COLUMNS, Cell, Column};
use super::event::Event;
use crate::evidence::describe::{Value, hex, is_deceptive};

/// Bytes that most lines of an event fit into.
const LINE_BYTES: usize = 2 << 10;

/// A payload's value as JSON.
pub fn of(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Unsigned(value) => json!(value),
        Value::Signed(value) => json!(value),
        Value::Text(text) => Json::String(text),
        Value::Bytes(bytes) => json!({ "hex": hex(&bytes) }),
        Value::List(list) => Json::Array(list.into_iter().map(of).collect()),
        Value::Map(fields) => {
            Json::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), of(value))).collect())
        }
    }
}

/// One line; serde_json escapes what JSON must, this escapes the rest that could deceive a terminal.
pub fn line(value: &Json) -> String {
    safe(value.to_string())
}

/// The same over several lines, for a file that people read too.
pub fn page(value: &Json) -> String {
    // What breaks a line inside a string stands as \\n: every line is a whole one.
    format!("{value:#}").lines().map(|line| safe(line.to_owned()) + "\n").collect()
}

fn safe(plain: String) -> String {
    // Nothing printable of ASCII deceives, and most lines hold nothing else.
    if plain.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || !plain.contains(is_deceptive) {
        return plain;
    }
    let mut safe = String::with_capacity(plain.len() + 16);
    for character in plain.chars() {
        if is_deceptive(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// An event: every column that says something.
pub fn event(event: &Event) -> Json {
    let cells = COLUMNS.iter().map(|column| (column.name, cell((column.cell)(event))));
    Json::Object(cells.filter_map(|(name, cell)| Some((name.to_owned(), cell?))).collect())
}

/// The columns in the order in which an object holds them.
static SORTED: LazyLock<Vec<&'static Column>> = LazyLock::new(|| {
    let mut sorted: Vec<&Column> = COLUMNS.iter().collect();
    sorted.sort_unstable_by_key(|column| column.name);
    sorted
});

/// [`line()`] of [`event`](fn@event), without the object between.
pub fn event_line(event: &Event) -> String {
    let mut written = Vec::with_capacity(LINE_BYTES);
    for column in SORTED.iter() {
        let begun = written.len();
        written.push(if begun == 0 { b'{' } else { b',' });
        written.push(b'"');
        written.extend_from_slice(column.name.as_bytes());
        written.extend_from_slice(b"\":");
        // Writing what holds no map with other keys than strings into a vector cannot fail.
        let outcome = match (column.cell)(event) {
            Cell::Empty => {
                written.truncate(begun);
                Ok(())
            }
            Cell::Text(text) => serde_json::to_writer(&mut written, &text),
            Cell::Number(number) => serde_json::to_writer(&mut written, &number),
            Cell::List(list) => serde_json::to_writer(&mut written, &list),
            Cell::Json(json) => serde_json::to_writer(&mut written, &json),
        };
        debug_assert!(outcome.is_ok());
    }
    let end: &[u8] = if written.is_empty() { b"{}" } else { b"}" };
    written.extend_from_slice(end);
    safe(String::from_utf8_lossy(&written).into_owned())
}

/// Some columns of an event; what says nothing is null.
pub fn part(event: &Event, columns: &[&'static Column]) -> Json {
    let cells = columns.iter().map(|column| (column.name.to_owned(), (column.cell)(event)));
    Json::Object(cells.map(|(name, value)| (name, cell(value).unwrap_or_default())).collect())
}

/// A cell; `None` where nothing stands in it.
pub fn cell(cell: Cell) -> Option<Json> {
    match cell {
        Cell::Empty => None,
        Cell::Text(text) => Some(Json::String(text)),
        Cell::Number(number) => Some(json!(number)),
        Cell::List(list) => Some(json!(list)),
        Cell::Json(json) => Some(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_stay_json_and_hold_no_control_character() {
        let value = json!({ "text": "a\u{1b}[31m\u{9b}b\u{202e}\n\u{7f}é" });
        let line = line(&value);
        assert!(!line.contains(is_deceptive), "{line}");
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap(), value);
    }

    #[test]
    fn a_line_of_an_event_is_the_line_of_its_object() {
        use std::path::Path;

        use crate::audit::tell::Teller;
        use crate::evidence::verify::verify;

        let mut lines = 0;
        for log in ["evidence_v1", "evidence_v1_rows", "evidence_v1_sealed", "evidence_v1_signed"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(log);
            let mut teller = Teller::default();
            let mut compare = |one: &Event| {
                assert_eq!(event_line(one), line(&event(one)));
                lines += 1;
            };
            let report =
                verify(&folder, &mut |_, _| {}, &mut |_, record| teller.take(record, &mut compare)).unwrap();
            teller.finish(report.records, &mut compare);
        }
        assert!(lines > 30, "{lines}");
    }
}
