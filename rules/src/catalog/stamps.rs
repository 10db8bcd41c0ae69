//! Whether relations are what they were: what a statement that was judged by one snapshot may be held against another.
//!
//! Owns: the stamps of relations and of everything that their rows come from. May not: tell what has changed. A relation without
//! a stamp (the system's, one that a file defines) has the stamp 0 and is the same as long as it is there.

use std::collections::BTreeMap;

use super::Snapshot;

/// Relations by oid, each with its stamp.
pub type Stamps = BTreeMap<u32, u64>;

impl Snapshot {
    /// Adds to `stamps` the relation of that name, and what it leads to: kin by inheritance and partitions, and what views read.
    pub fn stamp(&self, schema: &str, name: &str, stamps: &mut Stamps) {
        let mut next: Vec<u32> =
            self.relation(schema, name).map(|relation| relation.oid).into_iter().collect();
        while let Some(oid) = next.pop() {
            if stamps.insert(oid, self.stamps.get(&oid).copied().unwrap_or_default()).is_some() {
                continue;
            }
            let Some(relation) = self.relation_by_oid(oid) else { continue };
            let kin = relation.kin.iter().flat_map(|kin| kin.iter());
            next.extend(kin.filter_map(|(schema, name)| self.relation(schema, name)).map(|kin| kin.oid));
            next.extend(self.view(oid).into_iter().flat_map(|view| view.reads.iter().map(|(read, _)| *read)));
        }
    }

    /// Whether every one of them is here, and is what it was.
    #[must_use]
    pub fn holds(&self, stamps: &Stamps) -> bool {
        stamps.iter().all(|(oid, stamp)| {
            self.relation_by_oid(*oid).is_some()
                && self.stamps.get(oid).copied().unwrap_or_default() == *stamp
        })
    }
}
