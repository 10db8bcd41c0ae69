//! What a scan found, as it is written and read again.
//!
//! Owns: the JSON form, version 1. May not: hold a value, or a server's words: names, types, counts, shapes and our own words
//! are all that is in it.

use serde::{Deserialize, Serialize};

use super::class::{Class, Confidence};

/// The form that this version writes and reads.
pub const VERSION: u32 = 1;
/// Counts below this are told as a span.
const SMALL: u64 = 10;

/// A count; a small one is a span, since it points at somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// No fewer.
    pub at_least: u64,
    /// No more.
    pub at_most: u64,
}

impl Count {
    /// The count as it is told.
    pub fn of(count: u64) -> Self {
        if count == 0 || count >= SMALL {
            Self { at_least: count, at_most: count }
        } else {
            Self { at_least: 1, at_most: SMALL - 1 }
        }
    }

    /// The count, where it is told exactly.
    pub fn exact(self) -> Option<u64> {
        (self.at_least == self.at_most).then_some(self.at_least)
    }
}

/// What a finding stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Values match.
    Values,
    /// Values match, and the name says the same.
    ValuesAndName,
    /// The name and the type alone.
    Name,
}

/// A shape of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// See [`super::shape`](mod@super::shape).
    pub shape: String,
    /// Of the values looked at, percent.
    pub percent: u64,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The class.
    pub class: Class,
    /// How sure.
    pub confidence: Confidence,
    /// By what.
    pub basis: Basis,
    /// Values that match.
    pub matched: Count,
    /// Their share of the values looked at, percent; absent where they are few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// The commonest shapes of the column's values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Share>,
    /// Further classes that were found in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Class>,
    /// The proposed label's tier.
    pub tier: String,
    /// Its mask.
    pub mask: String,
}

/// The label that stands on a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Its id, as the policy has it.
    pub rule: String,
    /// Where it stands.
    pub place: String,
    /// Its tier; absent where the whole relation is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Schema.
    pub schema: String,
    /// Relation.
    pub relation: String,
    /// Name.
    pub column: String,
    /// Its type, as the server spells it.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Values looked at.
    pub looked: u64,
    /// Values that are NULL, or wider than what is looked at.
    pub absent: u64,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// The label that covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// Why no value of it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl Column {
    /// Schema, relation and name.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.schema, &self.relation, &self.column)
    }

    /// The finding, where it is sure enough.
    pub fn found(&self, least: Confidence) -> Option<&Finding> {
        self.finding.as_ref().filter(|found| found.confidence >= least)
    }
}

/// What was read of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Rows.
    pub rows: u64,
    /// `all rows`, `the first rows`, `random pages`.
    pub how: String,
    /// Why it ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// One relation. Partitions are counted with their root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `table`, `partitioned table`, `view`, `materialized view`, `foreign table`.
    pub kind: String,
    /// Leaf partitions, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u64>,
    /// Of those, how many were sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions_sampled: Option<u64>,
    /// What was read; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Why nothing was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What else should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// By what limits it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Rows of a relation at most.
    pub rows: u64,
    /// Chooses the pages.
    pub seed: u32,
    /// Limit of one statement, milliseconds.
    pub statement_timeout_ms: u32,
    /// Limit of waiting for a lock, milliseconds.
    pub lock_timeout_ms: u32,
    /// Limit of the whole, seconds.
    pub time_limit_s: u64,
    /// What counts as found.
    pub min_confidence: Confidence,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A column that the baseline does not have.
    NewColumn,
    /// A column of the baseline that is gone.
    GoneColumn,
    /// Its type is another.
    TypeChanged,
    /// It holds what it did not hold.
    ClassAppeared,
    /// It holds something else.
    ClassChanged,
    /// It bears a label and no value matches any more.
    StoppedMatching,
    /// A label covered it and none does now.
    LabelGone,
    /// It was looked at and could not be now.
    NotLookedAt,
}

impl Change {
    /// As people say it.
    pub const fn words(self) -> &'static str {
        match self {
            Change::NewColumn => "new column",
            Change::GoneColumn => "column is gone",
            Change::TypeChanged => "type changed",
            Change::ClassAppeared => "sensitive content appeared",
            Change::ClassChanged => "class changed",
            Change::StoppedMatching => "labelled, and no value matches any more",
            Change::LabelGone => "its label is gone",
            Change::NotLookedAt => "could not be looked at",
        }
    }
}

/// One change since the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// What.
    pub change: Change,
    /// Schema.
    pub schema: String,
    /// Relation.
    pub relation: String,
    /// Column.
    pub column: String,
    /// As it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// As it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The form's version.
    pub version: u32,
    /// When the sample was taken.
    pub at: String,
    /// The target's name, or its address where none is configured.
    pub target: String,
    /// The database.
    pub database: String,
    /// The server's version.
    pub server: String,
    /// Who read it.
    pub login: String,
    /// Limits.
    pub settings: Settings,
    /// By schema and name.
    pub relations: Vec<Relation>,
    /// By schema, relation and number.
    pub columns: Vec<Column>,
    /// Columns that hold something and bear no label.
    #[serde(default)]
    pub unlabelled: u64,
    /// Changes since the baseline; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Vec<Drift>>,
}

impl Report {
    /// Columns that hold something and bear no label.
    pub fn uncovered(&self) -> impl Iterator<Item = &Column> {
        let least = self.settings.min_confidence;
        self.columns.iter().filter(move |column| column.label.is_none() && column.found(least).is_some())
    }

    /// Whether anything of the target was read, or there was nothing to read.
    pub fn read_something(&self) -> bool {
        self.relations.is_empty() || self.relations.iter().any(|relation| relation.sample.is_some())
    }
}
