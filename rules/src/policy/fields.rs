//! What the fields of a statement near labels hold, and how each leaves.
//!
//! Owns: [`Fields`], and its words for people. May not: find any of it out; that is [`crate::policy::labels`].

use crate::catalog::Column;
use crate::mask::plan::Style;
use crate::mask::shape::Shape;
use crate::policy::labelled::Hit;
use crate::policy::labels::Sight;

/// A field of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLabel {
    /// Oid of the relation that the labelled column belongs to (of the view, where it is a view's).
    pub relation: u32,
    /// Number of the column.
    pub number: i16,
    /// The label.
    pub hit: Hit,
    /// What stands in for its values: the label's mask, or what the permits disclose.
    pub style: Style,
}

/// What a statement gives, as far as labels go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// In order; `None` for a field that holds nothing labelled.
    pub list: Vec<Option<FieldLabel>>,
    /// There may be more fields, all of them clean.
    pub more: bool,
    /// It reaches a label that is not clear for the subject: texts of the server may quote its values.
    pub near: bool,
    /// Labelled columns, by relation and number, that a permit discloses in clear to this statement.
    pub cleared: Vec<(u32, i16)>,
}

/// The word of a field that leaves in clear, in tests of a policy.
pub const CLEAR: &str = "clear";

impl Fields {
    /// A word for each field: [`CLEAR`], `masked:last4`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let word = |field: &Option<FieldLabel>| match field {
            None => CLEAR.to_owned(),
            Some(field) => format!("masked:{}", word(field.style)),
        };
        self.list.iter().map(word).collect()
    }
}

/// One line for each field, for the reason tree.
pub(crate) fn describe(fields: &Fields, sight: &Sight<'_>) -> Vec<String> {
    let one = |(at, field): (usize, &Option<FieldLabel>)| {
        let number = at + 1;
        let Some(field) = field else { return format!("field {number}  clear of labels") };
        let fact = sight.labelled.fact(field.hit);
        let rule = fact
            .map_or_else(|| "a label".to_owned(), |fact| format!("{} ({})", fact.rule.id, fact.rule.place));
        let why = match fact {
            _ if !field.hit.identity => ", computed from labelled values",
            Some(fact) if fact.style() != field.style => ", as the permits disclose it",
            Some(_) | None => "",
        };
        let kind = column_kind(sight, field).unwrap_or("");
        format!("field {number}  masked:{} by {rule}{why}{kind}", word(field.style))
    };
    let mut lines: Vec<String> = fields.list.iter().enumerate().map(one).collect();
    if fields.more && fields.near {
        lines.push("any further field  clear of labels".into());
    }
    for (relation, number) in &fields.cleared {
        lines.push(format!(
            "{} leaves in clear: a permit discloses it",
            column_name(sight, *relation, *number)
        ));
    }
    lines
}

/// What becomes of a style that the column's type cannot take.
fn column_kind(sight: &Sight<'_>, field: &FieldLabel) -> Option<&'static str> {
    let column = column_of(sight, field.relation, field.number)?;
    let shape = Shape::of(column.type_oid, false);
    let text = matches!(field.style, Style::Last(_) | Style::Domain | Style::Fixed);
    let takes = match field.style {
        Style::Token(_) => matches!(shape, Shape::Text | Shape::Json | Shape::NumberText | Shape::UuidText),
        Style::Null | Style::Fixed | Style::Last(_) | Style::Domain => !text || column.text,
    };
    (!takes).then_some("; its type cannot take that, so it becomes NULL")
}

fn column_of<'s>(sight: &Sight<'s>, relation: u32, number: i16) -> Option<&'s Column> {
    let found = sight.snapshot.relation_by_oid(relation)?;
    found.columns.as_deref()?.iter().find(|column| column.number == number)
}

/// "crm.customers.ssn".
pub(crate) fn column_name(sight: &Sight<'_>, relation: u32, number: i16) -> String {
    let Some(found) = sight.snapshot.relation_by_oid(relation) else {
        return format!("column {number} of relation {relation}");
    };
    let column = column_of(sight, relation, number);
    let last = column.map_or_else(|| number.to_string(), |column| column.name.to_string());
    printed(&format!("{}.{}.{last}", found.schema, found.name))
}

/// A style's word.
pub(crate) fn word(style: Style) -> &'static str {
    match style {
        Style::Null => "null",
        Style::Fixed => "fixed",
        Style::Last(_) => "last4",
        Style::Domain => "domain",
        Style::Token(_) => "token",
    }
}

/// A name without control characters.
fn printed(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_control() {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}
