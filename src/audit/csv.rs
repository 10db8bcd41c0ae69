//! CSV that no spreadsheet takes for a formula.
//!
//! Owns: the quoting. RFC 4180 with `\n` as line end, UTF-8 without a mark. Every text stands in quotes, whatever separator a
//! reader's country has. A text that begins, blanks aside, with `=`, `+`, `-`, `@`, a tab, a line break, or the full-width form of one of these
//! gets an apostrophe before it; so does one that begins with an apostrophe, so that taking one away gives back what was there.
//! What could deceive a terminal is escaped as `\u{…}`, a backslash as two.

use super::columns::Cell;
use crate::evidence::describe::escaped;

/// Whether a spreadsheet could take a text that begins so for a formula, or for a quote of one.
fn begins_formula(character: char) -> bool {
    matches!(character, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\'' | '＝' | '＋' | '－' | '＠')
}

/// A text as a quoted field.
pub fn field(text: &str) -> String {
    // Some spreadsheets take blanks away before they look.
    let formula = text.starts_with(begins_formula) || text.trim_start().starts_with(begins_formula);
    let quote = if formula { "'" } else { "" };
    format!("\"{quote}{}\"", escaped(text).replace('"', "\"\""))
}

/// A cell's words, not escaped.
pub fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::List(list) => list.join("; "),
        Cell::Json(json) => json.to_string(),
    }
}

/// A cell as a field: a number stands bare.
pub fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Number(_) | Cell::Json(serde_json::Value::Number(_)) => plain(cell),
        Cell::Text(_) | Cell::List(_) | Cell::Json(_) => field(&plain(cell)),
    }
}

/// A line of fields, without its end.
pub fn line(cells: impl IntoIterator<Item = Cell>) -> String {
    cells.into_iter().map(|value| cell(&value)).collect::<Vec<String>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_formula_is_no_formula() {
        for (text, written) in [
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("\t=1", "\"'\\u{9}=1\""),
            ("\r=1", "\"'\\u{d}=1\""),
            ("＝1", "\"'＝1\""),
            ("'x", "\"''x\""),
            (" =1", "\"' =1\""),
            ("\u{a0}\u{3000}@x", "\"'\u{a0}\u{3000}@x\""),
            (" a =1", "\" a =1\""),
            ("a=1", "\"a=1\""),
            ("say \"hi\", you; all", "\"say \"\"hi\"\", you; all\""),
            ("a\u{1b}[2J\u{202e}\\", "\"a\\u{1b}[2J\\u{202e}\\\\\""),
            ("", "\"\""),
        ] {
            assert_eq!(field(text), written, "{text:?}");
        }
        let cells = [Cell::Number(7), Cell::Empty, Cell::List(vec!["a".into(), "b".into()])];
        assert_eq!(line(cells), "7,,\"a; b\"");
    }
}
