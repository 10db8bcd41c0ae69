//! What is masked in one result, decided before its first row.
//!
//! Owns: the seam between labels and the masker. May not: look at the catalog, the policy or a value. Fails closed: a plan
//! that cannot be made (no description of the rows) is no plan, and the session ends rather than pass a row without one.
//!
//! The seam, in one line for each side:
//!
//! - **Labels** turn a RowDescription (table oid and attribute number of each column) and the verdict on the text
//!   ("labelled columns only as bare outputs") into one [`ColumnMask`] a column, and say by [`Reach`] whether the statement
//!   can reach a label at all.
//! - **The masker** does the rest. [`ColumnMask::Label`] and [`ColumnMask::Null`] are carried out on every value of the column.
//!   [`ColumnMask::Clear`] means "no label", not "no mask": what is clear goes through the detectors.

use super::detect::Detectors;
use super::shape::Shape;

/// A label, as the policy counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

/// How values are brought to one form before they become a token: equal forms give equal tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Canonical {
    /// As they are.
    #[default]
    AsIs,
    /// ASCII letters in lower case.
    Lower,
    /// ASCII digits only.
    Digits,
}

/// What stands in for a value. A style that the column's type cannot take in the format in use becomes SQL NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// SQL NULL; of a match inside a text: the constant.
    Null,
    /// A constant that does not depend on the value.
    Fixed,
    /// A constant and the last characters, at most this many and never more than half of them.
    Last(u8),
    /// A constant and what follows the last `@`.
    Domain,
    /// A keyed token: equal values give equal tokens under one key.
    Token(Canonical),
}

/// What a column of a result is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnMask {
    /// It bears no label; detectors look at it.
    Clear,
    /// Every value of it is a labelled one.
    Label {
        /// Which label.
        label: LabelId,
        /// Its style.
        style: Style,
    },
    /// It leaves as NULL throughout: its origin is not what the text promised.
    Null {
        /// Why, as a clause for the record.
        why: &'static str,
    },
}

/// Whether a statement can reach a labelled column: what side doors (errors, notices) may then say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// No label: texts of the server pass through the detectors.
    #[default]
    NoLabel,
    /// A label, or it is not known: texts of the server are replaced by their SQLSTATE's.
    Labels,
}

/// The column of a relation that a field is: tokens of what detectors find are its own, so that nobody makes them elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin([u8; 16]);

impl Origin {
    /// The column of that name, which outlives a dump and its restore.
    pub fn of(schema: &str, relation: &str, column: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        for name in [schema, relation, column] {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        }
        let mut short = [0; 16];
        short.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
        Self(short)
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One column under a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// By label.
    pub mask: ColumnMask,
    /// How its values are spelled, so that a mask is valid where it stands.
    pub shape: Shape,
    /// The column of a relation that it is, where the server or the catalog says so: without one, detectors give no tokens.
    pub origin: Option<Origin>,
}

impl Column {
    /// A column that bears no label, and whose origin is not known.
    pub fn clear(shape: Shape) -> Self {
        Self { mask: ColumnMask::Clear, shape, origin: None }
    }
}

/// What is masked in one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    columns: Box<[Column]>,
    detectors: Detectors,
    walks: bool,
    clear: bool,
}

impl Plan {
    /// The plan for columns in their order.
    pub fn new(columns: Vec<Column>, detectors: Detectors) -> Self {
        let masks = columns.iter().any(|column| column.mask != ColumnMask::Clear);
        let looks = |shape: Shape| !detectors.is_empty() && shape.may_hold();
        Self {
            walks: masks
                || columns.iter().any(|column| looks(column.shape) && column.shape.hides_from_sweep()),
            clear: !masks && !columns.iter().any(|column| looks(column.shape)),
            columns: columns.into(),
            detectors,
        }
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The detectors that look at what bears no label.
    pub fn detectors(&self) -> &Detectors {
        &self.detectors
    }

    /// Whether nothing of the result can be masked: its rows need not even be whole.
    pub fn is_clear(&self) -> bool {
        self.clear
    }

    /// Whether every row has to be walked: a label stands on a column, or a column spells values as no sweep sees them.
    pub fn walks(&self) -> bool {
        self.walks
    }
}
