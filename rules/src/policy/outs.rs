//! Outputs of a query, as far as labels go, and why a query is not followed.
//!
//! Owns: these values. May not: find any of it out; that is [`crate::policy::follow`]. An output without a labelled column is
//! clean: what may be labelled is never left out.

use std::rc::Rc;

use crate::policy::labelled::Hit;
use crate::statement::outline::Place;

/// A labelled column of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Oid of the relation.
    pub(crate) relation: u32,
    /// Number of the column.
    pub(crate) number: i16,
    /// The label on it.
    pub(crate) hit: Hit,
}

/// Relation and number of a column.
pub(crate) type Origin = (u32, i16);

/// One output of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    /// Its name; `None` for one that the server makes up.
    pub(crate) name: Option<Rc<str>>,
    /// The labelled column that it is; `None` for one that holds nothing labelled.
    pub(crate) column: Option<Column>,
    /// Relation and number of the column that it is, as far as that is known. No rule rests on it.
    pub(crate) origin: Option<Origin>,
}

impl Out {
    /// An output that is no column as it stands.
    pub(crate) fn computed(name: Option<Rc<str>>) -> Self {
        Self { name, column: None, origin: None }
    }
}

/// The outputs of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outs {
    /// In order, as far as they are known.
    pub(crate) list: Vec<Out>,
    /// There may be more, all of them clean.
    pub(crate) more: bool,
}

impl Outs {
    /// Nothing is known but that it is clean.
    pub(crate) fn unknown() -> Self {
        Self { list: Vec::new(), more: true }
    }

    /// An alias's names for the first columns.
    pub(crate) fn rename(&mut self, columns: &[String]) {
        for (place, name) in columns.iter().enumerate() {
            match self.list.get_mut(place) {
                Some(out) => out.name = Some(name.as_str().into()),
                None => self.list.push(Out::computed(Some(name.as_str().into()))),
            }
        }
    }

    /// The first labelled one.
    pub(crate) fn labelled(&self) -> Option<Column> {
        self.list.iter().find_map(|out| out.column)
    }
}

/// The oid of `text` (src/include/catalog/pg_type.dat).
pub(crate) const TEXT_OID: u32 = 25;

/// Columns that every relation has (src/backend/catalog/heap.c, SysAtt), and no label stands on.
pub(crate) const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// Why a statement near a label is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A labelled column is used otherwise than as a bare output.
    Used(Column, Place),
    /// Something is not followed, or not known.
    Unfollowed(String),
}
