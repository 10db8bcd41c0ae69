//! Keys and checks of relations: what answers a writer, by an error or by none, about rows that it does not see.
//!
//! Owns: [`Key`], by relation, also as seen from the relation that a foreign key references. May not: judge what an answer
//! tells. Follows `pg_index` and `pg_constraint`; constraint triggers are code and no keys.

use std::collections::HashMap;
use std::sync::Arc;

/// A key or a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The index's or constraint's name.
    pub name: Arc<str>,
    /// Numbers of the relation's own columns that it is of, also in expressions and predicates; 0 is the whole row.
    pub columns: Box<[i16]>,
    /// What it demands.
    pub rule: KeyRule,
}

/// What a [`Key`] demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// No two rows are alike in it: a unique index.
    Unique,
    /// No two rows meet in it by other operators than `=`, or as well: an exclusion constraint.
    Exclusion,
    /// An expression over the row holds.
    Check,
    /// Rows are parted by it: a partition's bounds and name tell of its rows.
    Partition,
    /// Rows may be read in its order: an index of more than one column, or with a predicate. Nothing is demanded.
    Ordered {
        /// Numbers of the columns that it holds beside its key.
        included: Box<[i16]>,
        /// It has a predicate.
        partial: bool,
    },
    /// An expression over the row is computed, and may fail: a generated column, an index, a partition key.
    Computed,
    /// A row of another relation has the same values.
    References {
        /// Oid of that relation.
        relation: u32,
        /// Numbers of its columns.
        columns: Box<[i16]>,
    },
    /// The other end: rows of another relation have these values, and keep a row here from being deleted or changed.
    ReferencedBy {
        /// Oid of that relation.
        relation: u32,
        /// Numbers of its columns.
        columns: Box<[i16]>,
        /// What becomes of those rows where a row here is deleted.
        on_delete: Action,
        /// The same where the columns are changed here.
        on_update: Action,
    },
}

/// What a foreign key does to the rows that reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The change is refused while there are any (NO ACTION, RESTRICT), and where the letter is not known.
    Refuses,
    /// They go, or change, too (CASCADE).
    Cascades,
    /// Their columns are set (SET NULL, SET DEFAULT).
    Sets,
}

impl Action {
    /// By `pg_constraint`'s letter.
    fn of(letter: Option<&u8>) -> Self {
        match letter {
            Some(b'c') => Self::Cascades,
            Some(b'n' | b'd') => Self::Sets,
            Some(_) | None => Self::Refuses,
        }
    }
}

/// A key as it is read: of this relation; of a foreign key its actions, ON DELETE and ON UPDATE as `pg_constraint` letters.
pub(super) type RawKey = (u32, Key, Box<str>);

/// What is of relations, by relation.
pub(super) fn grouped<T>(all: Vec<(u32, T)>) -> HashMap<u32, Vec<T>> {
    let mut grouped: HashMap<u32, Vec<T>> = HashMap::new();
    for (relation, one) in all {
        grouped.entry(relation).or_default().push(one);
    }
    grouped
}

/// Keys by relation, with the other ends of foreign keys.
pub(super) fn by_relation(keys: Vec<RawKey>) -> HashMap<u32, Vec<Key>> {
    let mut all: HashMap<u32, Vec<Key>> = HashMap::new();
    for (of, key, actions) in keys {
        if let KeyRule::References { relation, columns } = &key.rule {
            let action = |at: usize| Action::of(actions.as_bytes().get(at));
            let rule = KeyRule::ReferencedBy {
                relation: of,
                columns: key.columns.clone(),
                on_delete: action(0),
                on_update: action(1),
            };
            let end = Key { name: Arc::clone(&key.name), columns: columns.clone(), rule };
            all.entry(*relation).or_default().push(end);
        }
        all.entry(of).or_default().push(key);
    }
    all
}
