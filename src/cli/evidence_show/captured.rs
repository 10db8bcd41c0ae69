//! Captured rows and COPY data of one session, as values.
//!
//! Owns: what later records need of earlier ones: descriptions of columns, the beginning of a row that goes on in the next
//! record. Holds at most one such beginning, and the descriptions of a session that is open.

use std::collections::HashMap;

use rkyv::boxed::ArchivedBox;

use crate::evidence::delivered::{Frames, cells};
use crate::evidence::describe::{Value, escaped};
use crate::evidence::record::{Payload, v1};
use crate::evidence::value;

/// Longest value that the timeline shows, characters; `--json` shows all.
const VALUE_CHARS_MAX: usize = 80;
/// Rows of one record that the timeline shows; `--json` shows all.
const ROWS_SHOWN_MAX: usize = 10;

/// How the values of a column are spelled: type, and whether in binary.
type Spelled = (u32, bool);

/// See the module.
#[derive(Default)]
pub(in crate::cli) struct Captured {
    descriptions: HashMap<u64, Vec<Spelled>>,
    frames: Frames,
}

impl Captured {
    /// Takes a record of the session, `number` in it. What it holds of values: rows for rows, one value for each CopyData.
    pub(in crate::cli) fn take(&mut self, number: u64, payload: &Payload<'_>) -> Option<Vec<Value>> {
        if let Payload::RowDescription(described) = payload {
            let columns = described.columns.get().iter();
            let spelled = columns.map(|column| (column.type_oid.to_native(), column.binary)).collect();
            self.descriptions.insert(number, spelled);
        }
        let mut values = Vec::new();
        if let Payload::Rows(v1::ArchivedRows { described, first_row, rows: _, frames }) = payload {
            self.begin(first_row.to_native() == 0, frames);
            let columns =
                self.descriptions.get(&described.to_native()).map(Vec::as_slice).unwrap_or_default();
            self.frames.push(frames.get(), |body| values.push(row(body, columns)));
            return Some(values);
        }
        if let Payload::CopyData(v1::ArchivedCopyData { direction: _, binary, offset, frames }) = payload {
            self.begin(offset.to_native() == 0, frames);
            self.frames.push(frames.get(), |body| values.push(value::shown(0, *binary, body)));
            return Some(values);
        }
        None
    }

    /// A result that begins leaves nothing of the one before.
    fn begin(&mut self, first: bool, frames: &ArchivedBox<[u8]>) {
        if first && frames.get().first().is_some_and(u8::is_ascii_alphabetic) {
            self.frames = Frames::new();
        }
    }
}

fn row(body: &[u8], columns: &[Spelled]) -> Value {
    let Some(cells) = cells(body) else { return Value::Bytes(body.to_vec()) };
    let cell = |(at, cell): (usize, Option<&[u8]>)| match (cell, columns.get(at)) {
        (None, _) => Value::Null,
        (Some(bytes), Some((oid, binary))) => value::shown(*oid, *binary, bytes),
        // Nothing described it: what is no text is shown as bytes.
        (Some(bytes), None) => value::shown(0, false, bytes),
    };
    Value::List(cells.into_iter().enumerate().map(cell).collect())
}

/// The first of them, one line each.
pub(in crate::cli) fn lines(values: &[Value]) -> Vec<String> {
    let mut lines: Vec<String> = values.iter().take(ROWS_SHOWN_MAX).map(line).collect();
    if values.len() > ROWS_SHOWN_MAX {
        lines.push(format!("      … {} more", values.len() - ROWS_SHOWN_MAX));
    }
    lines
}

fn line(value: &Value) -> String {
    let cells = if let Value::List(cells) = value { cells.as_slice() } else { std::slice::from_ref(value) };
    format!("      | {}", cells.iter().map(short).collect::<Vec<_>>().join(" | "))
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => {
            let shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            format!("{}{more}", escaped(&shown))
        }
        Value::Bytes(bytes) => format!("({} bytes)", bytes.len()),
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::List(_) | Value::Map(_) => {
            String::new()
        }
    }
}
