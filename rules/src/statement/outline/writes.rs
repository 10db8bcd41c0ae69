//! What a statement writes, as far as keys and checks may answer it.
//!
//! Owns: which columns an INSERT, UPDATE, MERGE or COPY gives values to, and which key ON CONFLICT asks. May not: resolve a name. A
//! list of columns that does not read counts as all of them.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::names::{kind, named};
use crate::statement::facts::NameUse;

/// A write of one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The relation.
    pub relation: NameUse,
    /// What it does.
    pub act: Act,
    /// The columns that it gives values to; `None`: all of them.
    pub columns: Option<Vec<String>>,
    /// The key that ON CONFLICT asks, where it names no columns.
    pub conflict: Option<Conflict>,
}

/// What a [`Write`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Makes rows.
    Insert,
    /// Changes rows.
    Update,
    /// Takes rows away.
    Delete,
}

/// ON CONFLICT that names no columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Whichever key is hit.
    Any,
    /// The constraint of that name.
    Constraint(String),
}

impl Write {
    /// Heap bytes it takes, near enough for a budget.
    pub(super) fn footprint(&self) -> usize {
        let columns = self.columns.iter().flatten().map(|name| 24 + name.capacity()).sum::<usize>();
        size_of::<Self>() + 96 + columns
    }
}

/// The columns of a list of targets.
pub(super) fn targets(list: &[pb::Node]) -> Option<Vec<String>> {
    let name = |node: &pb::Node| match kind(Some(node)) {
        Some(N::ResTarget(target)) if !target.name.is_empty() => Some(target.name.clone()),
        Some(_) | None => None,
    };
    list.iter().map(name).collect()
}

fn write(relation: Option<&pb::RangeVar>, act: Act, columns: Option<Vec<String>>) -> Option<Write> {
    Some(Write { relation: named(relation?), act, columns, conflict: None })
}

/// INSERT; ON CONFLICT DO UPDATE changes rows as well.
pub(super) fn of_insert(n: &pb::InsertStmt) -> Vec<Write> {
    let columns = match (n.select_stmt.is_some(), n.cols.as_slice()) {
        (true, []) => None,
        (true, listed) => targets(listed),
        (false, _) => Some(Vec::new()), // DEFAULT VALUES
    };
    let mut all: Vec<Write> = write(n.relation.as_ref(), Act::Insert, columns).into_iter().collect();
    if let Some(clause) = n.on_conflict_clause.as_deref() {
        for made in &mut all {
            made.conflict = match &clause.infer {
                Some(infer) if infer.conname.is_empty() => None,
                Some(infer) => Some(Conflict::Constraint(infer.conname.clone())),
                None => Some(Conflict::Any),
            };
        }
        if !clause.target_list.is_empty() {
            all.extend(write(n.relation.as_ref(), Act::Update, targets(&clause.target_list)));
        }
    }
    all
}

/// UPDATE.
pub(super) fn of_update(n: &pb::UpdateStmt) -> Vec<Write> {
    write(n.relation.as_ref(), Act::Update, targets(&n.target_list)).into_iter().collect()
}

/// DELETE.
pub(super) fn of_delete(n: &pb::DeleteStmt) -> Vec<Write> {
    write(n.relation.as_ref(), Act::Delete, Some(Vec::new())).into_iter().collect()
}

/// COPY FROM.
pub(super) fn of_copy(relation: &pb::RangeVar, columns: &[String]) -> Vec<Write> {
    let columns = (!columns.is_empty()).then(|| columns.to_vec());
    write(Some(relation), Act::Insert, columns).into_iter().collect()
}

/// MERGE: each of its actions.
pub(super) fn of_merge(n: &pb::MergeStmt) -> Vec<Write> {
    let action = |node: &pb::Node| {
        let Some(N::MergeWhenClause(when)) = kind(Some(node)) else {
            return write(n.relation.as_ref(), Act::Update, None);
        };
        let listed = (!when.target_list.is_empty()).then(|| targets(&when.target_list)).flatten();
        match pb::CmdType::try_from(when.command_type) {
            Ok(pb::CmdType::CmdInsert) => write(n.relation.as_ref(), Act::Insert, listed),
            Ok(pb::CmdType::CmdDelete) => write(n.relation.as_ref(), Act::Delete, Some(Vec::new())),
            Ok(pb::CmdType::CmdNothing) => None,
            Ok(
                pb::CmdType::CmdUpdate
                | pb::CmdType::Undefined
                | pb::CmdType::CmdUnknown
                | pb::CmdType::CmdSelect
                | pb::CmdType::CmdMerge
                | pb::CmdType::CmdUtility,
            )
            | Err(_) => write(n.relation.as_ref(), Act::Update, listed),
        }
    };
    n.merge_when_clauses.iter().filter_map(action).collect()
}
