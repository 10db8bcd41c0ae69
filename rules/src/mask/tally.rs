//! What was masked, by what, how often; never a value.
//!
//! Owns: the counts of one result. May not: hold a byte of data. Never fails: a count stops at its type's end. A match costs
//! the same whatever the number of columns: each column has its own counters.

use std::collections::BTreeMap;

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

/// How often each detector found something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits([u64; Detector::ALL.len()]);

impl Hits {
    /// Once more.
    pub fn add(&mut self, detector: Detector) {
        if let Some(count) = self.0.get_mut(detector as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Whether none found anything.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// The detectors that found something, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Detector, u64)> + '_ {
        Detector::ALL.iter().copied().zip(self.0).filter(|(_, count)| *count > 0)
    }

    fn merge(&mut self, other: &Hits) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }
}

/// Counts of one result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What detectors found, by column; a column without has none.
    columns: Vec<Option<Box<Hits>>>,
    /// Labels, what was withheld, texts.
    rest: BTreeMap<(At, By), u64>,
}

impl Tally {
    /// Once more.
    pub fn add(&mut self, at: At, by: By) {
        let count = self.rest.entry((at, by)).or_default();
        *count = count.saturating_add(1);
    }

    /// What detectors found in one value.
    pub fn found(&mut self, at: At, hits: &Hits) {
        if hits.is_empty() {
            return;
        }
        match at {
            At::Column(index) => {
                let index = usize::from(index);
                if self.columns.len() <= index {
                    self.columns.resize_with(index + 1, || None);
                }
                if let Some(column) = self.columns.get_mut(index) {
                    column.get_or_insert_default().merge(hits);
                }
            }
            At::Text(_) => {
                for (detector, found) in hits.iter() {
                    let count = self.rest.entry((at, By::Detector(detector))).or_default();
                    *count = count.saturating_add(found);
                }
            }
        }
    }

    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.rest.is_empty()
    }

    /// The counts, by place.
    pub fn sorted(&self) -> Vec<(At, By, u64)> {
        let columns =
            self.columns.iter().enumerate().filter_map(|(index, hits)| Some((index, hits.as_ref()?)));
        let found = columns.flat_map(|(index, hits)| {
            let at = At::Column(u16::try_from(index).unwrap_or(u16::MAX));
            hits.iter().map(move |(detector, count)| (at, By::Detector(detector), count))
        });
        let rest = self.rest.iter().map(|((at, by), count)| (*at, *by, *count));
        let mut counts: Vec<(At, By, u64)> = found.chain(rest).collect();
        counts.sort_unstable();
        counts
    }

    /// The counts, and none from here on.
    pub fn take(&mut self) -> Tally {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_by_place_and_add_up() {
        let mut tally = Tally::default();
        let mut hits = Hits::default();
        assert!(tally.is_empty());
        tally.found(At::Column(3), &hits);
        assert!(tally.is_empty(), "no hit leaves no trace");
        hits.add(Detector::Card);
        hits.add(Detector::Card);
        tally.found(At::Column(3), &hits);
        tally.found(At::Column(1), &hits);
        tally.found(At::Column(3), &hits);
        tally.found(At::Text("error"), &hits);
        tally.add(At::Column(0), By::Label(LabelId(7)));
        assert_eq!(
            tally.take().sorted(),
            [
                (At::Column(0), By::Label(LabelId(7)), 1),
                (At::Column(1), By::Detector(Detector::Card), 2),
                (At::Column(3), By::Detector(Detector::Card), 4),
                (At::Text("error"), By::Detector(Detector::Card), 2),
            ]
        );
        assert!(tally.is_empty());
    }
}
