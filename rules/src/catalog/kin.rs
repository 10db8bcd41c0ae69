//! Which relations share rows by inheritance and partitioning.
//!
//! Owns: [`Relation::kin`]. A label on a table holds for every child (a child's rows are the table's) and for every
//! ancestor (reading one returns the child's rows); siblings share nothing. Follows `pg_inherits`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::load::RawLink;
use super::parts::Relation;

/// Fills in the kin of every relation. A link to a relation that the snapshot leaves out (another session's temporary
/// child) leads nowhere: no statement can name that one.
pub(super) fn fill(relations: &mut [Relation], places: &HashMap<u32, usize>, links: &[RawLink]) {
    let mut parents: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for link in links {
        let RawLink::Child { parent, child, .. } = *link else { continue };
        if let (Some(parent), Some(child)) = (places.get(&parent), places.get(&child)) {
            parents.entry(*child).or_default().push(*parent);
            children.entry(*parent).or_default().push(*child);
        }
    }
    let related: HashSet<usize> = parents.keys().chain(children.keys()).copied().collect();
    for place in related {
        let mut kin = reach(place, &parents);
        kin.extend(reach(place, &children));
        let names: Vec<(Arc<str>, Arc<str>)> = kin
            .into_iter()
            .filter_map(|at| relations.get(at))
            .map(|relation| (relation.schema.clone(), relation.name.clone()))
            .collect();
        if let Some(relation) = relations.get_mut(place) {
            relation.kin = Some(names.into());
        }
    }
}

/// Everything behind `from`, nearest first, without `from`.
fn reach(from: usize, edges: &HashMap<usize, Vec<usize>>) -> Vec<usize> {
    let mut seen = HashSet::from([from]);
    let mut found = vec![from];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        next += 1;
        for further in edges.get(&at).into_iter().flatten() {
            if seen.insert(*further) {
                found.push(*further);
            }
        }
    }
    found.remove(0);
    found
}
