//! A table of a configuration file, read key by key.
//!
//! Owns the typed getters and the memory of which keys were asked for. A getter returns `None` when the key is absent
//! *or* was reported as wrong; a default is the caller's `unwrap_or`, and the load fails all the same because of the
//! report. A key that nobody asked for is reported when the table is dropped.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use super::{Date, Datetime, Diagnostics, Document, Entry, Located, Node, NodeValue, Place};

/// The unit suffixes of keys, and how a message names the unit.
const UNITS: [(&str, &str); 6] = [
    ("_bytes", "bytes"),
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("_bytes_max", "bytes"),
    ("_max", "items"),
    ("_bits", "bits"),
];

/// Longest identifier, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// One table. Dropping it reports every key that no getter asked for.
#[derive(Debug)]
pub struct Table<'d> {
    document: &'d Document,
    diagnostics: &'d Diagnostics,
    path: String,
    at: usize,
    entries: &'d [Entry],
    asked: RefCell<Vec<String>>,
    abandoned: Cell<bool>,
}

/// A value whose kind the caller chooses by looking at it (`disclose = "masked"` or `disclose = { … }`).
#[derive(Debug)]
pub enum Shape<'d> {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date, a time or both.
    Datetime(Datetime),
    /// An array.
    List(Vec<Located<Shape<'d>>>),
    /// A table.
    Table(Table<'d>),
}

impl Shape<'_> {
    /// How a message names the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Shape::Text(_) => "a string",
            Shape::Integer(_) => "an integer",
            Shape::Float(_) => "a floating-point number",
            Shape::Boolean(_) => "a boolean",
            Shape::Datetime(_) => "a date or time",
            Shape::List(_) => "an array",
            Shape::Table(_) => "a table",
        }
    }
}

impl<'d> Table<'d> {
    pub(super) fn new(
        document: &'d Document,
        diagnostics: &'d Diagnostics,
        path: String,
        at: usize,
        entries: &'d [Entry],
    ) -> Self {
        Self {
            document,
            diagnostics,
            path,
            at,
            entries,
            asked: RefCell::new(Vec::new()),
            abandoned: Cell::new(false),
        }
    }

    // -- places and reports --------------------------------------------------------------------------------------

    /// Dotted path of this table; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The collector this table reports to.
    #[must_use]
    pub fn diagnostics(&self) -> &'d Diagnostics {
        self.diagnostics
    }

    /// Where this table begins.
    #[must_use]
    pub fn place(&self) -> Place {
        self.document.place(self.at, self.path.clone())
    }

    /// Where the value of `key` stands; where the table begins when the key is absent.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Place {
        let at = self.entry(key).map_or(self.at, |entry| entry.at);
        self.document.place(at, self.join(key))
    }

    /// Reports an error at `key`.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        self.diagnostics.error(&self.place_of(key), message);
    }

    /// Reports a warning at `key`.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        self.diagnostics.warn(&self.place_of(key), message);
    }

    /// Reports an error about the table as a whole.
    pub fn error_here(&self, message: impl Into<String>) {
        self.diagnostics.error(&self.place(), message);
    }

    /// Gives up on this table after an error that makes its keys meaningless: unknown keys go unreported. Report that
    /// error first.
    pub fn abandon(self) {
        self.abandoned.set(true);
    }

    // -- keys ----------------------------------------------------------------------------------------------------

    /// Whether the key is present. Does not count as asking.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The keys that are present and that no getter has asked for yet, in the order of the file: for tables whose key
    /// names are the operator's own (claims).
    #[must_use]
    pub fn rest(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        self.entries
            .iter()
            .filter(|entry| !asked.contains(&entry.key))
            .map(|entry| entry.key.clone())
            .collect()
    }

    /// Checks `version`, which both files must state first of all.
    pub fn version(&self, supported: i64) {
        match self.required("version").map(|node| &node.value) {
            Some(NodeValue::Integer(Some(version))) if *version == supported => {}
            Some(NodeValue::Integer(_)) => {
                self.error("version", format!("this build reads version {supported} only"));
            }
            Some(other) => self.wrong_type("version", "the integer 1", other),
            None => {}
        }
    }

    // -- scalars -------------------------------------------------------------------------------------------------

    /// A string; an empty one is an error.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<String> {
        self.ask(key).and_then(|node| self.text(key, node))
    }

    /// A string that must be there.
    #[must_use]
    pub fn required_string(&self, key: &str) -> Option<String> {
        self.required(key).and_then(|node| self.text(key, node))
    }

    /// An identifier that must be there: 1 to [`NAME_BYTES_MAX`] of `A-Z a-z 0-9 _ - .`, starting with a letter or digit.
    #[must_use]
    pub fn required_name(&self, key: &str) -> Option<String> {
        let name = self.required_string(key)?;
        if let Some(fault) = name_fault(&name) {
            self.error(key, fault);
            return None;
        }
        Some(name)
    }

    /// A whole number within `range`. The unit is the suffix of the key's name.
    #[must_use]
    pub fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.ask(key)?;
        self.number(key, node, range)
    }

    /// A whole number within `range` that must be there.
    #[must_use]
    pub fn required_integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.required(key)?;
        self.number(key, node, range)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match &self.ask(key)?.value {
            NodeValue::Boolean(boolean) => Some(*boolean),
            other => {
                self.wrong_type(key, "true or false", other);
                None
            }
        }
    }

    /// One of the listed words.
    #[must_use]
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.string(key)?;
        self.choose(key, &word, choices)
    }

    /// One of the listed words, which must be there.
    #[must_use]
    pub fn required_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.required_string(key)?;
        self.choose(key, &word, choices)
    }

    /// A date without a time (`2027-03-31`).
    #[must_use]
    pub fn date(&self, key: &str) -> Option<Date> {
        match &self.ask(key)?.value {
            NodeValue::Datetime(Datetime { date: Some(date), time: None, offset: None }) => Some(*date),
            other => {
                self.wrong_type(key, "a date such as 2027-03-31, without quotes and without a time", other);
                None
            }
        }
    }

    /// A moment: date, time and offset (`2027-03-31T18:00:00Z`).
    #[must_use]
    pub fn datetime(&self, key: &str) -> Option<Datetime> {
        match &self.ask(key)?.value {
            NodeValue::Datetime(datetime)
                if datetime.date.is_some() && datetime.time.is_some() && datetime.offset.is_some() =>
            {
                Some(*datetime)
            }
            other => {
                self.wrong_type(key, "a moment such as 2027-03-31T18:00:00Z, without quotes", other);
                None
            }
        }
    }

    // -- lists and tables ----------------------------------------------------------------------------------------

    /// An array of strings, each with its place; empty strings and repeated ones are errors. An absent key is `None`,
    /// an empty array is `Some([])`.
    #[must_use]
    pub fn strings(&self, key: &str) -> Option<Vec<Located<String>>> {
        let node = self.ask(key)?;
        self.text_list(key, node)
    }

    /// An array of at least one string that must be there.
    #[must_use]
    pub fn required_strings(&self, key: &str) -> Option<Vec<Located<String>>> {
        let node = self.required(key)?;
        let list = self.text_list(key, node)?;
        if list.is_empty() {
            self.error(key, "must name at least one; \"*\" is spelled, never implied by an empty array");
            return None;
        }
        Some(list)
    }

    /// A sub-table, inline or with its own header.
    #[must_use]
    pub fn table(&self, key: &str) -> Option<Table<'d>> {
        let node = self.ask(key)?;
        match &node.value {
            NodeValue::Table(entries) => Some(self.child(self.join(key), self.start(key), entries)),
            other => {
                self.wrong_type(key, "a table", other);
                None
            }
        }
    }

    /// An array of tables (`[[key]]`); empty when absent. Paths name an element by its `id` or `name` where it has one.
    #[must_use]
    pub fn tables(&self, key: &str) -> Vec<Table<'d>> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let NodeValue::Array(items) = &node.value else {
            self.wrong_type(key, &format!("an array of tables, written [[{key}]]"), &node.value);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{}]", self.join(key), label(item).unwrap_or_else(|| index.to_string()));
            match &item.value {
                NodeValue::Table(entries) => tables.push(self.child(path, item.at, entries)),
                other => self.diagnostics.error(
                    &self.document.place(item.at, path),
                    format!("must be a table, not {}", kind(other)),
                ),
            }
        }
        tables
    }

    /// The tables below `key` whose names are the operator's (`[group.analysts]`), in the order of the file. Names are
    /// checked as identifiers.
    #[must_use]
    pub fn named_tables(&self, key: &str) -> Vec<(Located<String>, Table<'d>)> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let NodeValue::Table(entries) = &node.value else {
            self.wrong_type(key, &format!("tables with names, written [{key}.NAME]"), &node.value);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = format!("{}.{}", self.join(key), entry.key);
            let place = self.document.place(entry.at, path.clone());
            if let Some(fault) = name_fault(&entry.key) {
                self.diagnostics.error(&place, fault);
            }
            match &entry.node.value {
                NodeValue::Table(children) => tables.push((
                    Located { value: entry.key.clone(), place },
                    self.child(path, entry.at, children),
                )),
                other => self.diagnostics.error(&place, format!("must be a table, not {}", kind(other))),
            }
        }
        tables
    }

    /// A value of any kind, for keys that take several.
    #[must_use]
    pub fn shape(&self, key: &str) -> Option<Located<Shape<'d>>> {
        let node = self.ask(key)?;
        let value = self.shape_of(self.join(key), self.start(key), node)?;
        Some(Located { value, place: self.place_of(key) })
    }

    /// An array of values of any kind.
    #[must_use]
    pub fn list(&self, key: &str) -> Option<Vec<Located<Shape<'d>>>> {
        match self.shape(key)? {
            Located { value: Shape::List(items), .. } => Some(items),
            Located { value, .. } => {
                self.error(key, format!("must be an array, not {}", value.kind()));
                if let Shape::Table(table) = value {
                    table.abandon();
                }
                None
            }
        }
    }

    // -- within --------------------------------------------------------------------------------------------------

    fn entry(&self, key: &str) -> Option<&'d Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn ask(&self, key: &str) -> Option<&'d Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
        }
        self.entry(key).map(|entry| &entry.node)
    }

    fn required(&self, key: &str) -> Option<&'d Node> {
        let node = self.ask(key);
        if node.is_none() {
            // The nearest key that is there but unasked is named by the drop; here only what is missing.
            self.diagnostics.error(&self.place_of(key), "is required here");
        }
        node
    }

    fn child(&self, path: String, at: usize, entries: &'d [Entry]) -> Table<'d> {
        Table::new(self.document, self.diagnostics, path, at, entries)
    }

    fn start(&self, key: &str) -> usize {
        self.entry(key).map_or(self.at, |entry| entry.at)
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &NodeValue) {
        self.error(key, format!("must be {wanted}, not {}", kind(found)));
    }

    fn text(&self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            NodeValue::String(text) if text.is_empty() => {
                self.error(key, "must not be empty; leave the key out instead");
                None
            }
            NodeValue::String(text) if text.contains('\0') => {
                self.error(key, "must not hold a NUL character");
                None
            }
            NodeValue::String(text) => Some(text.clone()),
            other => {
                self.wrong_type(key, "a string", other);
                None
            }
        }
    }

    fn number(&self, key: &str, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let unit = unit_of(key).map_or(String::new(), |unit| format!(" of {unit}"));
        let number = match &node.value {
            NodeValue::Integer(Some(number)) => u64::try_from(*number).ok(),
            NodeValue::Integer(None) => None,
            other => {
                self.wrong_type(key, &format!("a whole number{unit} (the unit is in the key's name)"), other);
                return None;
            }
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = (range.start(), range.end());
                self.error(key, format!("must be a whole number{unit} between {low} and {high}"));
                None
            }
        }
    }

    fn choose<T: Copy>(&self, key: &str, word: &str, choices: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.error(key, unknown_word(word, &names));
        None
    }

    fn text_list(&self, key: &str, node: &Node) -> Option<Vec<Located<String>>> {
        let NodeValue::Array(items) = &node.value else {
            self.wrong_type(key, "an array of strings", &node.value);
            return None;
        };
        let mut list: Vec<Located<String>> = Vec::with_capacity(items.len());
        let mut sound = true;
        for (index, item) in items.iter().enumerate() {
            let place = self.document.place(item.at, format!("{}[{index}]", self.join(key)));
            let fault = match &item.value {
                NodeValue::String(text) if text.is_empty() => "must not be empty".to_owned(),
                NodeValue::String(text) if list.iter().any(|seen| seen.value == *text) => {
                    format!("`{text}` stands here twice")
                }
                NodeValue::String(text) => {
                    list.push(Located { value: text.clone(), place });
                    continue;
                }
                other => format!("must be a string, not {}", kind(other)),
            };
            self.diagnostics.error(&place, fault);
            sound = false;
        }
        sound.then_some(list)
    }

    fn shape_of(&self, path: String, at: usize, node: &'d Node) -> Option<Shape<'d>> {
        Some(match &node.value {
            NodeValue::String(text) => Shape::Text(text.clone()),
            NodeValue::Integer(Some(integer)) => Shape::Integer(*integer),
            NodeValue::Integer(None) => {
                self.diagnostics.error(&self.document.place(at, path), "does not fit 64 bits");
                return None;
            }
            NodeValue::Float(float) => Shape::Float(*float),
            NodeValue::Boolean(boolean) => Shape::Boolean(*boolean),
            NodeValue::Datetime(datetime) => Shape::Datetime(*datetime),
            NodeValue::Array(items) => {
                let shapes = items.iter().enumerate().filter_map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    let value = self.shape_of(path.clone(), item.at, item)?;
                    Some(Located { value, place: self.document.place(item.at, path) })
                });
                Shape::List(shapes.collect())
            }
            NodeValue::Table(entries) => Shape::Table(self.child(path, at, entries)),
        })
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        if self.abandoned.get() || std::thread::panicking() {
            return;
        }
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&entry.key)) {
            let known: Vec<&str> = asked.iter().map(String::as_str).collect();
            let message = match same_but_for_unit(&entry.key, &known) {
                Some(right) => format!("unknown key; the unit is wrong: this key is `{right}`"),
                None => match nearest(&entry.key, &known) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None if known.is_empty() => "unknown key; this table takes none".to_owned(),
                    None => format!("unknown key; known here: {}", known.join(", ")),
                },
            };
            self.diagnostics.error(&self.document.place(entry.at, self.join(&entry.key)), message);
        }
    }
}

/// Says that `word` is none of `names`, with the nearest one when there is one.
#[must_use]
pub fn unknown_word(word: &str, names: &[&str]) -> String {
    let all = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    match nearest(word, names) {
        Some(near) => format!("\"{word}\" is not known; did you mean \"{near}\"? One of: {all}"),
        None => format!("\"{word}\" is not known; one of: {all}"),
    }
}

/// The known word that `word` was probably meant to be.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = word.chars().count();
    let allowed = (length / 3).max(usize::from(length > 1));
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What is wrong with an identifier, if anything.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some(format!("a name has 1 to {NAME_BYTES_MAX} characters"));
    }
    if !name.chars().all(sound) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some(format!(
            "`{}` is no name: letters, digits, `_`, `-` and `.` only, starting with a letter or digit",
            name.escape_debug()
        ));
    }
    None
}

fn label(node: &Node) -> Option<String> {
    let NodeValue::Table(entries) = &node.value else { return None };
    ["id", "name"].iter().find_map(|key| {
        let entry = entries.iter().find(|entry| entry.key == *key)?;
        match &entry.node.value {
            NodeValue::String(text) if name_fault(text).is_none() => Some(text.clone()),
            _ => None,
        }
    })
}

fn unit_of(key: &str) -> Option<&'static str> {
    UNITS.iter().find(|(suffix, _)| key.ends_with(suffix)).map(|(_, unit)| *unit)
}

fn same_but_for_unit<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    const SUFFIXES: [&str; 12] =
        ["_ms", "_s", "_sec", "_secs", "_seconds", "_m", "_min", "_minutes", "_bytes", "_kb", "_mb", "_gb"];
    let stem = |key: &str| {
        SUFFIXES
            .iter()
            .filter_map(|suffix| key.strip_suffix(suffix))
            .min_by_key(|stem| stem.len())
            .map(str::to_owned)
    };
    let bare = stem(key).unwrap_or_else(|| key.to_owned());
    known.iter().copied().find(|candidate| stem(candidate).is_some_and(|known| known == bare))
}

fn kind(value: &NodeValue) -> &'static str {
    match value {
        NodeValue::String(_) => "a string",
        NodeValue::Integer(_) => "an integer",
        NodeValue::Float(_) => "a floating-point number",
        NodeValue::Boolean(_) => "a boolean",
        NodeValue::Datetime(_) => "a date or time",
        NodeValue::Array(_) => "an array",
        NodeValue::Table(_) => "a table",
    }
}
