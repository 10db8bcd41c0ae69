//! What was masked, by what, how often; never a value.
//!
//! Owns: the counts of one result. May not: hold a byte of data. Never fails: a count stops at its type's end.

use super::detect::Detector;
use super::plan::LabelId;

/// What masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A label.
    Label(LabelId),
    /// A plan that makes the column NULL throughout.
    Withheld(&'static str),
    /// A detector.
    Detector(Detector),
}

/// Where it was masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// In a column of the result, from 0.
    Column(u16),
    /// In a text of the server: an error, a notice, a notification, a setting.
    Text(&'static str),
}

/// Counts of one result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: Vec<(At, By, u64)>,
}

impl Tally {
    /// Once more.
    pub fn add(&mut self, at: At, by: By) {
        match self.counts.iter_mut().find(|(a, b, _)| *a == at && *b == by) {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None => self.counts.push((at, by, 1)),
        }
    }

    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The counts, by place.
    pub fn sorted(&self) -> Vec<(At, By, u64)> {
        let mut counts = self.counts.clone();
        counts.sort_unstable();
        counts
    }

    /// The counts, and none from here on.
    pub fn take(&mut self) -> Tally {
        std::mem::take(self)
    }
}
