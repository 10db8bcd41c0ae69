//! What a name may mean, gathered item by item.
//!
//! Owns: that every meaning counts, and when a name certainly is a column. May not: know which items are in sight.

use super::Ranged;
use crate::policy::outs::{Column, Origin};

/// What a name may mean.
#[derive(Default)]
pub(super) struct Meanings {
    pub(super) labelled: Vec<Column>,
    /// Something clean.
    pub(super) clean: bool,
    /// A labelled one is there by a whole row.
    pub(super) whole: bool,
    /// It is certainly a column.
    pub(super) settled: bool,
    /// Where it comes from, by the meanings so far: the inner `None` where that is not known, or not one place.
    pub(super) origin: Option<Option<Origin>>,
}

impl Meanings {
    /// Adds the column of that name of an item; whether it has, or may have, one.
    pub(super) fn column_of(&mut self, item: &Ranged, name: &str) -> bool {
        let mut found = false;
        for out in item.outs.list.iter().filter(|out| out.name.as_deref() == Some(name)) {
            found = true;
            self.comes_from(out.origin);
            match out.column {
                Some(column) => self.labelled.push(column),
                None => self.clean = true,
            }
        }
        // What has a name that the server made up, or is not listed, is clean.
        if !found && (item.outs.more || item.outs.list.iter().any(|out| out.name.is_none())) {
            self.clean = true;
            self.comes_from(None);
            return true;
        }
        found
    }

    fn comes_from(&mut self, origin: Option<Origin>) {
        let same = self.origin.is_none_or(|known| known == origin);
        self.origin = Some(origin.filter(|_| same));
    }

    pub(super) fn whole_row(&mut self, item: &Ranged) {
        self.clean = true;
        self.comes_from(None);
        let labelled = item.outs.list.iter().filter_map(|out| out.column);
        let before = self.labelled.len();
        self.labelled.extend(labelled);
        self.whole |= self.labelled.len() > before;
    }
}
