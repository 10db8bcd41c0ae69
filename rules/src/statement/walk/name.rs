//! Names as the grammar spells them: lists of strings, constants, identifiers inside string constants.
//!
//! Owns: turning them into [`NameUse`] and constants. May not: guess. A list that is no name yields `None`.

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::kind;
use crate::statement::facts::NameUse;

/// A node that is a bare string.
pub(super) fn string(node: &pb::Node) -> Option<&str> {
    match kind(Some(node)) {
        Some(N::String(pb::String { sval })) => Some(sval),
        _ => None,
    }
}

/// The strings of a dotted name; `None` when anything else stands among them.
pub(super) fn strings(nodes: &[pb::Node]) -> Option<Vec<&str>> {
    nodes.iter().map(string).collect()
}

/// One to three parts to a name.
pub(super) fn from_parts(parts: &[&str]) -> Option<NameUse> {
    let (catalog, schema, name) = match parts {
        [name] => (None, None, name),
        [schema, name] => (None, Some(schema), name),
        [catalog, schema, name] => (Some(catalog), Some(schema), name),
        _ => return None,
    };
    let own = |s: &&str| (*s).to_owned();
    Some(NameUse { catalog: catalog.map(own), schema: schema.map(own), name: own(name) })
}

/// A list of strings to a name.
pub(super) fn from_nodes(nodes: &[pb::Node]) -> Option<NameUse> {
    from_parts(&strings(nodes)?)
}

/// A name without a schema.
pub(super) fn bare(name: &str) -> NameUse {
    NameUse { catalog: None, schema: None, name: name.to_owned() }
}

/// The text of a constant (string, number, boolean, bits), looked at through casts that change
/// nothing; `None` for anything else and NULL.
#[allow(clippy::wildcard_enum_match_arm, reason = "what is no constant has no text, whatever it is")]
pub(super) fn constant(node: Option<&pb::Node>) -> Option<String> {
    match kind(node)? {
        N::AConst(pb::AConst { val, isnull: _, location: _ }) => match val.as_ref()? {
            Val::Sval(pb::String { sval }) => Some(sval.clone()),
            Val::Ival(pb::Integer { ival }) => Some(ival.to_string()),
            Val::Fval(pb::Float { fval }) => Some(fval.clone()),
            Val::Boolval(pb::Boolean { boolval }) => Some(boolval.to_string()),
            Val::Bsval(pb::BitString { bsval }) => Some(bsval.clone()),
        },
        // Any other cast may change the value ('rolex'::char(4)).
        N::TypeCast(cast) if cast.type_name.as_ref().is_some_and(keeps_text) => constant(cast.arg.as_deref()),
        N::CollateClause(clause) => constant(clause.arg.as_deref()),
        _ => None,
    }
}

/// Casts that leave a constant's text as it is.
fn keeps_text(of: &pb::TypeName) -> bool {
    let parts = strings(&of.names).unwrap_or_default();
    let plain = [
        &["text"][..],
        &["pg_catalog", "text"],
        &["pg_catalog", "varchar"],
        &["bool"],
        &["pg_catalog", "bool"],
    ];
    of.typmods.is_empty() && of.array_bounds.is_empty() && plain.contains(&parts.as_slice())
}

/// Splits a name inside a string constant (`'s."T"'::regclass`) as the server's stringToQualifiedNameList does: folded
/// unless quoted. `None` when it is no name.
pub(super) fn in_constant(text: &str) -> Option<NameUse> {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text.trim_matches(is_space);
    loop {
        let (part, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_part(quoted)?
        } else {
            let end = rest.find(|c: char| c == '.' || is_space(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            (word.to_lowercase(), tail)
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        let tail = tail.trim_start_matches(is_space);
        match tail.strip_prefix('.') {
            Some(next) => rest = next.trim_start_matches(is_space),
            None if tail.is_empty() => break,
            None => return None,
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    from_parts(&parts)
}

fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        part.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Some((part, rest)),
        }
    }
}

/// The scanner's white space (scan.l).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}
