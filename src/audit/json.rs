//! JSON that is safe to print.
//!
//! Owns: values of records as JSON, and the one line that an object becomes. What could move a terminal or reorder text is
//! escaped, which JSON allows everywhere inside a string.

use serde_json::{Value as Json, json};

use super::columns::{COLUMNS, Cell, Column};
use super::event::Event;
use crate::evidence::describe::{Value, hex, is_deceptive};

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
    let plain = value.to_string();
    if !plain.contains(is_deceptive) {
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
}
