//! The keys of pgturnstile.toml as data, and the reader that is driven by them.
//!
//! Owns the one description of each key: name, kind, range, default, meaning, and whether what it asks for is built.
//! The reader, `check` and the generated reference all use it, so they cannot say different things. A key that is not
//! described cannot be read: asking for one is reported as an error of the load.

use std::path::{Path, PathBuf};

use pgturnstile_rules::document::{Place, Table};

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number between `low` and `high`, in the unit of the key's name.
    Integer {
        /// Smallest.
        low: u64,
        /// Largest.
        high: u64,
        /// Value when the key is absent; `None` means the meaning says what then holds.
        default: Option<u64>,
    },
    /// true or false.
    Boolean {
        /// Value when the key is absent.
        default: bool,
    },
    /// A string.
    Text(Absent),
    /// A path, relative to the file.
    Path(Absent),
    /// One of these words.
    Word {
        /// The words.
        words: &'static [&'static str],
        /// The word when the key is absent; `None` means that it must be there.
        default: Option<&'static str>,
    },
    /// An array of strings.
    Strings(Absent),
    /// An array of paths, relative to the file.
    Paths(Absent),
    /// A table that has its own section, or alternatives that the meaning names.
    Table(Absent),
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The key must be there.
    Required,
    /// Nothing holds; the meaning says what that amounts to.
    Optional,
    /// This value holds (a string list holds it as its words, separated by commas).
    Default(&'static str),
}

/// Whether what a key asks for is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Built,
    /// Not yet, and relying on it would be unsafe: the file is refused.
    Refused(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name; the unit is its suffix.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it is built.
    pub state: State,
    /// What it means.
    pub meaning: &'static str,
}

/// The keys of one kind of table.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its header as an operator writes it, `[[listener]]`.
    pub header: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A table that is read through its section.
#[derive(Debug)]
pub(super) struct Reader<'d> {
    pub(super) table: Table<'d>,
    section: &'static Section,
    /// The folder that relative paths start from.
    base: &'d Path,
}

impl<'d> Reader<'d> {
    /// Reports at once which present keys ask for what is not built.
    pub(super) fn new(table: Table<'d>, section: &'static Section, base: &'d Path) -> Self {
        for key in section.keys.iter().filter(|key| table.has(key.name)) {
            match key.state {
                State::Built => {}
                State::Refused(why) => table.error(key.name, why),
            }
        }
        Self { table, section, base }
    }

    /// Asks for every key of the section that this reader has not asked for, so that a key which is described but only
    /// reported (not built) is not called unknown.
    pub(super) fn done(self) {
        for key in self.section.keys {
            if key.state != State::Built
                && let Some(shape) = self.table.shape(key.name)
            {
                shape.value.abandon();
            }
        }
    }

    /// A sub-table read through its own section.
    pub(super) fn table(&self, name: &str, section: &'static Section) -> Option<Reader<'d>> {
        let key = self.key(name)?;
        if matches!(key.kind, Kind::Table(Absent::Required)) && !self.table.has(name) {
            self.table.error(name, format!("is required here: {}", key.meaning));
        }
        self.table.table(name).map(|table| Reader::new(table, section, self.base))
    }

    /// A sub-table read through its own section; an absent one is read as empty, so that defaults stand in one place.
    pub(super) fn section(&self, name: &str, section: &'static Section) -> Reader<'d> {
        Reader::new(self.table.table_or_empty(name), section, self.base)
    }

    /// The elements of an array of tables, each read through its section.
    pub(super) fn sections(&self, name: &str, section: &'static Section) -> Vec<Reader<'d>> {
        self.table.tables(name).into_iter().map(|table| Reader::new(table, section, self.base)).collect()
    }

    /// The tables below `name` whose names are the operator's, each read through its section.
    pub(super) fn named_sections(&self, name: &str, section: &'static Section) -> Vec<(String, Reader<'d>)> {
        let tables = self.table.named_tables(name).into_iter();
        tables.map(|(name, table)| (name.value, Reader::new(table, section, self.base))).collect()
    }

    /// An identifier that must be there.
    pub(super) fn name(&self, name: &str) -> Option<String> {
        let Some(Kind::Text(Absent::Required)) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name);
        };
        self.table.required_name(name)
    }

    /// A whole number, its default when it is absent, its lower bound after a report.
    pub(super) fn integer(&self, name: &str) -> u64 {
        self.optional_integer(name).unwrap_or_else(|| match self.key(name).map(|key| key.kind) {
            Some(Kind::Integer { default: Some(default), .. }) => default,
            Some(_) | None => 0,
        })
    }

    /// A whole number if it is there.
    pub(super) fn optional_integer(&self, name: &str) -> Option<u64> {
        let Some(Kind::Integer { low, high, .. }) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name);
        };
        self.table.integer(name, low..=high)
    }

    /// true or false.
    pub(super) fn boolean(&self, name: &str) -> bool {
        let Some(Kind::Boolean { default }) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name).unwrap_or(false);
        };
        self.table.boolean(name).unwrap_or(default)
    }

    /// A string, its default when it is absent; `None` when it is optional and absent, or after a report.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let Some(Kind::Text(absent)) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name);
        };
        self.string(name, absent)
    }

    /// A path, resolved.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let Some(Kind::Path(absent)) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name);
        };
        self.string(name, absent).map(|path| self.resolve(&path))
    }

    /// One of the section's words, as its index in them.
    pub(super) fn word<T: Copy>(&self, name: &str, values: &[T]) -> Option<T> {
        let Some(Kind::Word { words, default }) = self.key(name).map(|key| key.kind) else {
            return self.undescribed(name);
        };
        let choices: Vec<(&str, T)> = words.iter().copied().zip(values.iter().copied()).collect();
        if let Some(default) = default.filter(|_| !self.table.has(name)) {
            let _counts_as_asked: Option<T> = self.table.choice(name, &choices);
            return choices.iter().find(|(word, _)| *word == default).map(|(_, value)| *value);
        }
        self.table.required_choice(name, &choices)
    }

    /// A list of strings, its default when it is absent, empty when it is optional and absent.
    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        match self.key(name).map(|key| key.kind) {
            Some(Kind::Strings(absent)) => self.list(name, absent),
            Some(_) | None => self.undescribed(name).unwrap_or_default(),
        }
    }

    /// A list of paths, resolved.
    pub(super) fn paths(&self, name: &str) -> Vec<PathBuf> {
        match self.key(name).map(|key| key.kind) {
            Some(Kind::Paths(absent)) => {
                self.list(name, absent).iter().map(|path| self.resolve(path)).collect()
            }
            Some(_) | None => self.undescribed(name).unwrap_or_default(),
        }
    }

    /// Resolves a path of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.table.place()
    }

    fn string(&self, name: &str, absent: Absent) -> Option<String> {
        match absent {
            Absent::Required => self.table.required_string(name),
            Absent::Optional => self.table.string(name),
            Absent::Default(default) if self.table.has(name) => {
                self.table.string(name).or_else(|| Some(default.to_owned()))
            }
            Absent::Default(default) => {
                let _counts_as_asked: Option<String> = self.table.string(name);
                Some(default.to_owned())
            }
        }
    }

    fn list(&self, name: &str, absent: Absent) -> Vec<String> {
        let found = match absent {
            Absent::Required => self.table.required_strings(name),
            Absent::Optional | Absent::Default(_) => self.table.strings(name),
        };
        match (found, absent) {
            (Some(list), _) => list.into_iter().map(|item| item.value).collect(),
            (None, Absent::Default(default)) => default.split(", ").map(str::to_owned).collect(),
            (None, Absent::Required | Absent::Optional) => Vec::new(),
        }
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        self.section.keys.iter().find(|key| key.name == name)
    }

    /// A reader that asks for what no key describes is a mistake of this program; the load must not pass.
    fn undescribed<T>(&self, name: &str) -> Option<T> {
        self.table.error(name, "this build reads the key but does not describe it; report this as a defect");
        None
    }
}
