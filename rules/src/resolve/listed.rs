//! What a statement reaches, each once, in the order in which it was met.
//!
//! Owns: finding what is listed already without looking at all of it: a text of 256 KiB can name fifty thousand things, and is
//! judged on a shard that other sessions share. Short lists are searched, since most are short.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::{Reach, ResolvedFunction, ResolvedRelation};
use crate::class::Class;
use crate::statement::facts::Predicate;

/// Entries up to which a list is searched.
const SEARCHED_MAX: usize = 24;

/// What tells two entries apart.
pub(super) trait Keyed {
    /// See the trait.
    type Key: Eq + Hash;
    /// The key of this one.
    fn key(&self) -> Self::Key;
}

impl Keyed for ResolvedRelation {
    // Its kin follow from its name.
    type Key = (Arc<str>, Arc<str>, Reach, Class, Predicate);

    fn key(&self) -> Self::Key {
        (self.schema.clone(), self.name.clone(), self.reach, self.class, self.predicate)
    }
}

impl Keyed for ResolvedFunction {
    // What a call may do at worst is kept with it.
    type Key = (Arc<str>, Arc<str>, Arc<str>, Class);

    fn key(&self) -> Self::Key {
        (self.schema.clone(), self.name.clone(), self.arguments.clone(), self.class)
    }
}

/// See the module.
pub(super) struct Listed<T: Keyed> {
    list: Vec<T>,
    /// Where each stands; empty while the list is searched.
    places: HashMap<T::Key, usize>,
}

impl<T: Keyed> Default for Listed<T> {
    fn default() -> Self {
        Self { list: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Keyed> Listed<T> {
    /// What is listed, going on from there.
    pub(super) fn of(list: Vec<T>) -> Self {
        let mut listed = Self { list, places: HashMap::new() };
        if listed.list.len() > SEARCHED_MAX {
            listed.index();
        }
        listed
    }

    fn index(&mut self) {
        self.places = self.list.iter().enumerate().map(|(place, entry)| (entry.key(), place)).collect();
    }

    /// Adds an entry; the one that is listed already, where there is one.
    pub(super) fn add(&mut self, entry: T) -> Option<&mut T> {
        let key = entry.key();
        let known = if self.places.is_empty() {
            self.list.iter().position(|listed| listed.key() == key)
        } else {
            self.places.get(&key).copied()
        };
        if let Some(known) = known {
            return self.list.get_mut(known);
        }
        self.list.push(entry);
        if !self.places.is_empty() {
            self.places.insert(key, self.list.len() - 1);
        } else if self.list.len() > SEARCHED_MAX {
            self.index();
        }
        None
    }

    /// The entries.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    /// The entries alone.
    pub(super) fn into_list(self) -> Vec<T> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_listed_once_however_many_there_are() {
        let function = |number: usize| ResolvedFunction {
            schema: "s".into(),
            name: number.to_string().into(),
            arguments: "".into(),
            class: Class::CallFunction,
            category: None,
        };
        let mut listed = Listed::default();
        for _ in 0..2 {
            for number in 0..100 {
                listed.add(function(number));
            }
        }
        assert!(listed.add(function(7)).is_some_and(|known| &*known.name == "7"));
        let mut again = Listed::of(listed.into_list());
        assert!(again.add(function(99)).is_some() && again.add(function(100)).is_none());
        let names: Vec<usize> = again.iter().map(|function| function.name.parse().unwrap()).collect();
        assert_eq!(names, (0..101).collect::<Vec<_>>());
    }
}
