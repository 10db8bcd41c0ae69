//! The strict reader of the two TOML files.
//!
//! Owns the way from a file's text to typed values with exact line numbers. It may not know what the keys mean: the
//! gateway's file is read by the root crate's `config`, the policy by [`crate::policy`]. Everything wrong is collected
//! in [`Diagnostics`], all of it in one run: syntax, unknown keys (with the nearest known one), wrong types, values out
//! of range, duplicates, missing keys. It fails closed: a key that no reader asked for is an error when its [`Table`]
//! is dropped, so that a forgotten `finish` cannot make the reader lenient.
//!
//! ```
//! use pgturnstile_rules::document::{Diagnostics, Document};
//!
//! let diagnostics = Diagnostics::new();
//! let document = Document::from_text("demo.toml", "version = 1\nshrads = 4\n");
//! if let Some(root) = document.root(&diagnostics) {
//!     root.version(1);
//!     let _shards = root.integer("shards", 0..=1024).unwrap_or(0);
//! }
//! let found = diagnostics.into_vec();
//! assert_eq!(found[0].to_string(), "demo.toml:2: shrads: unknown key; did you mean `shards`?");
//! ```

mod diagnostic;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

pub use diagnostic::{Diagnostic, Diagnostics, Located, Place, Severity, Unique};
pub use table::{Shape, Table};
pub use toml::value::{Date, Datetime, Time};
pub use words::{NAME_BYTES_MAX, name_fault, nearest, unknown_word};

/// Longest configuration file that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Most syntax errors that are reported of one file: one slip early in a file makes many.
const SYNTAX_ERRORS_MAX: usize = 16;

/// One configuration file: its name, its text, its lines.
#[derive(Debug)]
pub struct Document {
    file: Arc<str>,
    text: String,
    /// Byte offset at which each line starts.
    line_starts: Vec<usize>,
    /// The tree, or the syntax errors as (byte offset, message).
    tree: Result<Node, Vec<(usize, String)>>,
}

/// A value of the tree with the byte offset at which it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) value: NodeValue,
}

/// The kinds of TOML values.
#[derive(Debug)]
pub(crate) enum NodeValue {
    String(String),
    /// `None`: beyond 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value, in the order of the file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: usize,
    pub(crate) node: Node,
}

impl Document {
    /// Reads a file. `shown_as` is how messages name it (usually the path as the operator gave it).
    ///
    /// # Errors
    /// One diagnostic when the file cannot be read, is longer than [`DOCUMENT_BYTES_MAX`] or is not UTF-8. Syntax is
    /// judged by [`Document::root`].
    pub fn read(path: &Path, shown_as: &str) -> Result<Self, Diagnostic> {
        let refuse = |message: String| Diagnostic::of_file(shown_as, message);
        let metadata = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        if !metadata.is_file() {
            return Err(refuse("is not a regular file".to_owned()));
        }
        if metadata.len() > DOCUMENT_BYTES_MAX {
            return Err(refuse(format!(
                "is {} bytes long; at most {DOCUMENT_BYTES_MAX} bytes are read",
                metadata.len()
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            refuse(format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
        })?;
        Ok(Self::from_text(shown_as, text))
    }

    /// A document from text: tests, packs compiled into the binary.
    pub fn from_text(file: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        let (root, errors) = DeTable::parse_recoverable(&text);
        let tree = if errors.is_empty() {
            Ok(Node { at: 0, value: NodeValue::Table(entries(root.get_ref())) })
        } else {
            Err(errors
                .iter()
                .map(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))
                .collect())
        };
        Self { file: file.into(), text, line_starts, tree }
    }

    /// The root table; `None` after syntax errors, which are reported to `diagnostics`.
    pub fn root<'d>(&'d self, diagnostics: &'d Diagnostics) -> Option<Table<'d>> {
        match &self.tree {
            Ok(Node { value: NodeValue::Table(entries), .. }) => {
                Some(Table::new(self, diagnostics, String::new(), 0, entries))
            }
            Ok(_) => None,
            Err(errors) => {
                for (at, message) in errors.iter().take(SYNTAX_ERRORS_MAX) {
                    diagnostics.error(&self.place(*at, String::new()), format!("not valid TOML: {message}"));
                }
                None
            }
        }
    }

    /// How messages name the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole text, for hashing what was loaded.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 1-based line of a byte offset.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    pub(crate) fn place(&self, at: usize, key: String) -> Place {
        let line = self.line_of(at);
        Place { file: Arc::clone(&self.file), line, snippet: self.snippet(line), key }
    }

    /// The finding with the line of its key, where the document holds that key or a table above it: for checks that know a key
    /// by its path alone.
    #[must_use]
    pub fn placed(&self, found: Diagnostic) -> Diagnostic {
        let Some(at) = self.tree.as_ref().ok().and_then(|root| table::find(root, "", &found.key)) else {
            return found;
        };
        let place = self.place(at, found.key.clone());
        place.diagnostic(found.severity, found.message)
    }

    /// The text of a 1-based line, unless it may hold a secret that somebody wrote where a reference belongs.
    fn snippet(&self, line: usize) -> Option<Arc<str>> {
        const SNIPPET_CHARS_MAX: usize = 160;
        let start = *self.line_starts.get(line - 1)?;
        let end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end)?.trim_end();
        let lower = text.to_lowercase();
        if text.is_empty()
            || ["password", "secret", "token", "private"].iter().any(|word| lower.contains(word))
        {
            return None;
        }
        Some(text.chars().filter(|c| !c.is_control()).take(SNIPPET_CHARS_MAX).collect::<String>().into())
    }
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            at: key.span().start,
            node: Node { at: value.span().start, value: convert(value.get_ref()) },
        })
        .collect();
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// From the library's tree to ours; as deep as the library's own nesting limit at most.
fn convert(value: &DeValue<'_>) -> NodeValue {
    match value {
        DeValue::String(text) => NodeValue::String(text.to_string()),
        DeValue::Integer(integer) => {
            NodeValue::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(float) => NodeValue::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => NodeValue::Boolean(*boolean),
        DeValue::Datetime(datetime) => NodeValue::Datetime(*datetime),
        DeValue::Array(array) => NodeValue::Array(
            array.iter().map(|item| Node { at: item.span().start, value: convert(item.get_ref()) }).collect(),
        ),
        DeValue::Table(table) => NodeValue::Table(entries(table)),
    }
}
