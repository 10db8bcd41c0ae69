//! A table of a configuration file, read key by key.
//!
//! Owns the typed getters and the memory of which keys were asked for. A getter returns `None` when the key is absent
//! *or* was reported as wrong; a default is the caller's `unwrap_or`, and the load fails all the same because of the
//! report. A key that nobody asked for is reported when the table is dropped.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use super::words::{name_fault, nearest, same_but_for_unit, unit_of, unknown_word};
use super::{Date, Datetime, Diagnostics, Document, Entry, Located, Node, NodeValue, Place};

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

    /// Gives up on the value after reporting that its kind is wrong, so that the keys within go unreported.
    pub fn abandon(self) {
        match self {
            Shape::Table(table) => table.abandon(),
            Shape::List(items) => items.into_iter().for_each(|item| item.value.abandon()),
            Shape::Text(_) | Shape::Integer(_) | Shape::Float(_) | Shape::Boolean(_) | Shape::Datetime(_) => {
            }
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
        let Some(node) = self.required("version") else { return };
        let NodeValue::Integer(version) = &node.value else {
            return self.wrong_type("version", &format!("the integer {supported}"), &node.value);
        };
        if *version != Some(supported) {
            self.error("version", format!("this build reads version {supported} only"));
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

    /// An identifier that must be there: 1 to [`super::NAME_BYTES_MAX`] of `A-Z a-z 0-9 _ - .`, starting with a letter or digit.
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
        let node = self.ask(key)?;
        if let NodeValue::Boolean(boolean) = &node.value {
            return Some(*boolean);
        }
        self.wrong_type(key, "true or false", &node.value);
        None
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
        let node = self.ask(key)?;
        if let NodeValue::Datetime(Datetime { date: Some(date), time: None, offset: None }) = &node.value {
            return Some(*date);
        }
        self.wrong_type(key, "a date such as 2027-03-31, without quotes and without a time", &node.value);
        None
    }

    /// A moment: date, time and offset (`2027-03-31T18:00:00Z`).
    #[must_use]
    pub fn datetime(&self, key: &str) -> Option<Datetime> {
        let node = self.ask(key)?;
        if let NodeValue::Datetime(moment @ Datetime { date: Some(_), time: Some(_), offset: Some(_) }) =
            &node.value
        {
            return Some(*moment);
        }
        self.wrong_type(key, "a moment such as 2027-03-31T18:00:00Z, without quotes", &node.value);
        None
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
        if let NodeValue::Table(entries) = &node.value {
            return Some(self.child(self.join(key), self.start(key), entries));
        }
        self.wrong_type(key, "a table", &node.value);
        None
    }

    /// A sub-table, or an empty one when it is absent: for sections in which every key has a default.
    #[must_use]
    pub fn table_or_empty(&self, key: &str) -> Table<'d> {
        self.table(key).unwrap_or_else(|| self.child(self.join(key), self.at, &[]))
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
            if let NodeValue::Table(entries) = &item.value {
                tables.push(self.child(path, item.at, entries));
            } else {
                let place = self.document.place(item.at, path);
                self.diagnostics.error(&place, format!("must be a table, not {}", kind(&item.value)));
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
            if let NodeValue::Table(children) = &entry.node.value {
                let table = self.child(path, entry.at, children);
                tables.push((Located { value: entry.key.clone(), place }, table));
            } else {
                let message = format!("must be a table, not {}", kind(&entry.node.value));
                self.diagnostics.error(&place, message);
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
        let Located { value, .. } = self.shape(key)?;
        let kind = value.kind();
        if let Shape::List(items) = value {
            return Some(items);
        }
        value.abandon();
        self.error(key, format!("must be an array, not {kind}"));
        None
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
        let NodeValue::String(text) = &node.value else {
            self.wrong_type(key, "a string", &node.value);
            return None;
        };
        if text.is_empty() {
            self.error(key, "must not be empty; leave the key out instead");
            return None;
        }
        if text.contains('\0') {
            self.error(key, "must not hold a NUL character");
            return None;
        }
        Some(text.clone())
    }

    fn number(&self, key: &str, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let unit = unit_of(key).map_or(String::new(), |unit| format!(" of {unit}"));
        let NodeValue::Integer(number) = &node.value else {
            self.wrong_type(
                key,
                &format!("a whole number{unit} (the unit is in the key's name)"),
                &node.value,
            );
            return None;
        };
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) | None => {
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
            let fault = if let NodeValue::String(text) = &item.value {
                if text.is_empty() {
                    "must not be empty".to_owned()
                } else if list.iter().any(|seen| seen.value == *text) {
                    format!("`{text}` stands here twice")
                } else {
                    list.push(Located { value: text.clone(), place });
                    continue;
                }
            } else {
                format!("must be a string, not {}", kind(&item.value))
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

/// Where the key of a dotted path stands, or the deepest table above it that is there.
pub(super) fn find(node: &Node, path: &str, key: &str) -> Option<usize> {
    let leads = |here: &str| {
        key.strip_prefix(here).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let children: Vec<(String, usize, &Node)> = match &node.value {
        NodeValue::Table(entries) => {
            let dot = if path.is_empty() { "" } else { "." };
            entries.iter().map(|entry| (format!("{path}{dot}{}", entry.key), entry.at, &entry.node)).collect()
        }
        NodeValue::Array(items) => {
            let label = |index: usize, item: &Node| label(item).unwrap_or_else(|| index.to_string());
            let items = items.iter().enumerate();
            items.map(|(index, item)| (format!("{path}[{}]", label(index, item)), item.at, item)).collect()
        }
        NodeValue::String(_)
        | NodeValue::Integer(_)
        | NodeValue::Float(_)
        | NodeValue::Boolean(_)
        | NodeValue::Datetime(_) => Vec::new(),
    };
    // A name may hold a dot: the longest one that leads there is meant.
    let children = children.into_iter().filter(|(here, ..)| leads(here));
    let (here, at, node) = children.max_by_key(|(here, ..)| here.len())?;
    Some(find(node, &here, key).unwrap_or(at))
}

fn label(node: &Node) -> Option<String> {
    let NodeValue::Table(entries) = &node.value else { return None };
    ["id", "name"].iter().find_map(|key| {
        let entry = entries.iter().find(|entry| entry.key == *key)?;
        let NodeValue::String(text) = &entry.node.value else { return None };
        name_fault(text).is_none().then(|| text.clone())
    })
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
