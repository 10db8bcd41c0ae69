//! Names as the tree spells them.
//!
//! Owns: their reading. May not: resolve. A name that does not read is `None`, and whoever asked is opaque for it.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use crate::statement::facts::NameUse;
use crate::statement::generated::{self, Visitor};

/// The node's content, if there is one.
pub(super) fn kind(node: Option<&pb::Node>) -> Option<&N> {
    node.and_then(|n| n.node.as_ref())
}

/// The strings of a dotted name or a list of names; `None` when anything else stands among them.
pub(super) fn strings(nodes: &[pb::Node]) -> Option<Vec<&str>> {
    let one = |node| match kind(Some(node)) {
        Some(N::String(pb::String { sval })) => Some(sval.as_str()),
        Some(_) | None => None,
    };
    nodes.iter().map(one).collect()
}

pub(super) fn named(range: &pb::RangeVar) -> NameUse {
    let some = |part: &String| (!part.is_empty()).then(|| part.clone());
    NameUse {
        catalog: some(&range.catalogname),
        schema: some(&range.schemaname),
        name: range.relname.clone(),
    }
}

/// An alias with its column names. A list that does not read names nothing: the columns keep their own names as well,
/// which finds more than the server does, not less.
pub(super) fn alias_of(alias: Option<&pb::Alias>) -> (Option<String>, Vec<String>) {
    let Some(pb::Alias { aliasname, colnames }) = alias else { return (None, Vec::new()) };
    let columns = strings(colnames).unwrap_or_default().into_iter().map(str::to_owned).collect();
    (Some(aliasname.clone()), columns)
}

/// The parts of a name, and whether it ends in a star.
pub(super) fn path_of(n: &pb::ColumnRef) -> Option<(Vec<String>, bool)> {
    let pb::ColumnRef { fields, location: _ } = n;
    let (star, parts) = match fields.split_last() {
        Some((last, rest)) if matches!(kind(Some(last)), Some(N::AStar(_))) => (true, rest),
        Some(_) => (false, &fields[..]),
        None => return None,
    };
    let parts = strings(parts)?.into_iter().map(str::to_owned).collect();
    Some((parts, star))
}

/// The name that `name::text` casts; `None` for every other expression. Which type `text` is, the catalog says.
pub(super) fn cast_to_text(node: Option<&pb::Node>) -> Option<&pb::ColumnRef> {
    let Some(N::TypeCast(cast)) = kind(node) else { return None };
    let pb::TypeCast { arg, type_name, location: _ } = &**cast;
    let pb::TypeName { names, type_oid, setof, pct_type, typmods, typemod, array_bounds, location: _ } =
        type_name.as_ref()?;
    let plain = *type_oid == 0
        && !setof
        && !pct_type
        && typmods.is_empty()
        && *typemod == -1
        && array_bounds.is_empty();
    match (kind(arg.as_deref()), strings(names)?.as_slice()) {
        (Some(N::ColumnRef(column)), ["text"] | ["pg_catalog", "text"]) if plain => Some(column),
        _ => None,
    }
}

/// Whether an output gives every field of a row: `(row).*`.
pub(super) fn gives_fields(node: Option<&pb::Node>) -> bool {
    let Some(N::AIndirection(row)) = kind(node) else { return false };
    let pb::AIndirection { arg: _, indirection } = &**row;
    indirection.last().is_some_and(|last| matches!(kind(Some(last)), Some(N::AStar(_))))
}

/// The last part of every name of a column in some expressions and keys of indexes; a whole row is named by an empty one.
pub(crate) fn columns_in<'t>(nodes: impl IntoIterator<Item = &'t pb::Node>) -> Vec<String> {
    let mut columns = Columns(Vec::new());
    nodes.into_iter().for_each(|node| columns.node(node));
    columns.0
}

struct Columns(Vec<String>);

impl<'t> Visitor<'t> for Columns {
    fn refused(&mut self, _: &'static str) {
        // What it holds is not known: the whole row.
        self.0.push(String::new());
    }

    fn column_ref(&mut self, n: &'t pb::ColumnRef) {
        let last = path_of(n).and_then(|(mut path, star)| path.pop().filter(|_| !star));
        self.0.push(last.unwrap_or_default());
    }

    fn index_elem(&mut self, n: &'t pb::IndexElem) {
        if !n.name.is_empty() {
            self.0.push(n.name.clone());
        }
        generated::walk_index_elem(self, n);
    }
}
