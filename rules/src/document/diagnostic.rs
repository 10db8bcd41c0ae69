//! What is wrong with a configuration file, where, and what to write instead.
//!
//! Owns the diagnostics of one load: every reader pushes here and goes on, so that one run names every error. It never
//! stops a load by itself; [`Diagnostics::finish`] does, when at least one entry is an error. A source line that may
//! hold a secret is never shown.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How bad a diagnostic is. Only errors stop a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and the operator should know this.
    Warning,
}

/// One finding in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file as the operator named it.
    pub file: String,
    /// 1-based line; 0 when the finding is about the file as a whole (it cannot be read).
    pub line: usize,
    /// Dotted path of the key, `listener[0].tls.mode` or `permit[analyst.read].classes`; empty for the whole file.
    pub key: String,
    /// What is wrong and what to write instead; one line, no trailing stop.
    pub message: String,
    /// Whether it stops the load.
    pub severity: Severity,
    /// The source line, when it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

impl Diagnostic {
    /// A finding about a file as a whole: missing, unreadable, not UTF-8, too long.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            key: String::new(),
            message: message.into(),
            severity: Severity::Error,
            snippet: None,
        }
    }

    /// Whether this finding stops the load.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding for a person: the one-line form, then the source line where it may be shown.
    #[must_use]
    pub fn render(&self) -> String {
        match &self.snippet {
            Some(snippet) => {
                let number = self.line.to_string();
                let pad = " ".repeat(number.len());
                format!("{self}\n {pad} |\n {number} | {snippet}\n")
            }
            None => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line: key: message`, the form editors and `grep` understand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A place in a file that outlives the reader: for findings that need the whole file (references, duplicates) and for
/// messages that cite a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// 1-based line.
    pub line: usize,
    /// Dotted path of the key.
    pub key: String,
    pub(super) snippet: Option<Arc<str>>,
}

impl Place {
    /// A finding of `severity` at this place.
    #[must_use]
    pub fn diagnostic(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: self.file.to_string(),
            line: self.line,
            key: self.key.clone(),
            message: message.into(),
            severity,
            snippet: self.snippet.as_deref().map(str::to_owned),
        }
    }
}

impl fmt::Display for Place {
    /// `file:line`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// Collects the findings of one load. Shared by reference between readers (one thread).
#[derive(Debug, Default)]
pub struct Diagnostics {
    found: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    /// An empty collector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding as it is.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Adds an error at a place.
    pub fn error(&self, place: &Place, message: impl Into<String>) {
        self.push(place.diagnostic(Severity::Error, message));
    }

    /// Adds a warning at a place.
    pub fn warn(&self, place: &Place, message: impl Into<String>) {
        self.push(place.diagnostic(Severity::Warning, message));
    }

    /// Whether an error has been found so far.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(Diagnostic::is_error)
    }

    /// Everything found, in the order of the files and lines.
    #[must_use]
    pub fn into_vec(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        let mut files: Vec<String> = Vec::new();
        for diagnostic in &found {
            if !files.contains(&diagnostic.file) {
                files.push(diagnostic.file.clone());
            }
        }
        let rank = |diagnostic: &Diagnostic| files.iter().position(|file| *file == diagnostic.file);
        found.sort_by_key(|diagnostic| (rank(diagnostic), diagnostic.line));
        found.dedup();
        found
    }

    /// The end of a load: `value` with the warnings, or every finding when one of them is an error.
    ///
    /// # Errors
    /// All findings, warnings included, when at least one is an error or the reader made no value.
    pub fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>> {
        let errors = self.has_errors();
        let found = self.into_vec();
        match value {
            Some(value) if !errors => Ok((value, found)),
            // A reader that made no value has said why; were it silent, the load must still not pass.
            Some(_) => Err(found),
            None if errors => Err(found),
            None => {
                let mut found = found;
                found.push(Diagnostic::of_file("configuration", "the file could not be read into a value"));
                Err(found)
            }
        }
    }
}

/// Finds duplicates among identifiers that must be unique, and names the first holder.
#[derive(Debug, Default)]
pub struct Unique {
    taken: Vec<(String, Place)>,
}

impl Unique {
    /// No identifier taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `id`; reports an error at `place` when an earlier entry has it. Returns whether it was free.
    pub fn claim(&mut self, id: &str, place: &Place, diagnostics: &Diagnostics) -> bool {
        if let Some((_, first)) = self.taken.iter().find(|(taken, _)| taken == id) {
            diagnostics.error(place, format!("`{id}` is taken already at {first}; choose another"));
            return false;
        }
        self.taken.push((id.to_owned(), place.clone()));
        true
    }

    /// Whether `id` is taken.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.taken.iter().any(|(taken, _)| taken == id)
    }

    /// The identifiers taken so far, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.taken.iter().map(|(id, _)| id.as_str())
    }
}
