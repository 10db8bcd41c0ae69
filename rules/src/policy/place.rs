//! Where a rule stands, so that every decision can name its file and line.
//!
//! Owns: [`Place`]. May not: open a file. The file is the name that a reader of the policy knows it by (`policy.toml`,
//! `packs/drivers.toml`), never a path of the machine.

use core::fmt;
use std::sync::Arc;

/// A file and a line of the policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the policy names it.
    pub file: Arc<str>,
    /// The line, from 1; 0 means that the rule is built in and stands in no file.
    pub line: u32,
}

impl Place {
    /// The place of a rule that is part of the program.
    pub(crate) fn built_in() -> Self {
        Self { file: Arc::from("built in"), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}
