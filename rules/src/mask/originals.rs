//! What masked values were, for whoever seals them.
//!
//! Owns: the values that were replaced since they were taken last, each with its place. May not: show one (its `Debug` counts
//! them), or outlive its taking. Bound: the bytes of one run of rows. Never fails.

/// Originals of one run; see the module.
#[derive(Default)]
pub struct Originals {
    row: u64,
    places: Vec<(u64, u16, usize)>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Originals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Originals({})", self.places.len())
    }
}

impl Originals {
    /// What comes now is of this row, counted from 0.
    pub(super) fn at_row(&mut self, row: u64) {
        self.row = row;
    }

    /// A value of a column that something stands in for.
    pub fn push(&mut self, column: usize, value: &[u8]) {
        self.places.push((self.row, u16::try_from(column).unwrap_or(u16::MAX), value.len()));
        self.bytes.extend_from_slice(value);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Row, column and value of each, in the order in which they were masked.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u16, &[u8])> {
        self.places.iter().scan(self.bytes.as_slice(), |rest, (row, column, length)| {
            let (value, behind) = rest.split_at_checked(*length)?;
            *rest = behind;
            Some((*row, *column, value))
        })
    }
}
