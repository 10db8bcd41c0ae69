//! Columns of the server's own relations that hold what their neighbours do not: secrets.
//!
//! Owns: the list, and whether a text may read one of them. May not: resolve a name. Fails closed: a star, a whole row and
//! columns that are renamed by their place count as all columns.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::generated::{
    Visitor, walk_column_ref, walk_copy_stmt, walk_join_expr, walk_range_var, walk_select_stmt,
};

/// Relation of `pg_catalog`, column, and what it holds. The table behind them is closed as a whole.
pub const CLOSED_COLUMNS: &[(&str, &str, &str)] = &[
    ("pg_roles", "rolconfig", "settings of roles, where applications keep secrets"),
    ("pg_user", "useconfig", "settings of roles, where applications keep secrets"),
];

/// The closed column of a relation of `pg_catalog`, and what it holds.
#[must_use]
pub fn of_relation(name: &str) -> Option<(&'static str, &'static str)> {
    CLOSED_COLUMNS.iter().find(|(relation, ..)| *relation == name).map(|(_, column, holds)| (*column, *holds))
}

/// Whether a statement that names such a relation may read its closed column.
pub(super) fn may_be_read(statement: Option<&pb::Node>) -> bool {
    let mut columns = Columns { rows: Vec::new(), bare: Vec::new(), direct: true, found: false };
    if let Some(node) = statement {
        columns.node(node);
    }
    columns.found || columns.bare.iter().any(|name| columns.rows.contains(name))
}

struct Columns<'t> {
    /// What a whole row of such a relation can be named by.
    rows: Vec<&'t str>,
    /// Names that are no more than one word, or the last of several.
    bare: Vec<&'t str>,
    /// A star here takes in the columns of such a relation.
    direct: bool,
    found: bool,
}

/// Whether an item of FROM gives a star the columns of such a relation. A sub-select gives what it lists.
fn gives_all(item: Option<&pb::Node>) -> bool {
    match item.and_then(|node| node.node.as_ref()) {
        Some(N::RangeVar(range)) => of_relation(&range.relname).is_some(),
        Some(N::JoinExpr(join)) => gives_all(join.larg.as_deref()) || gives_all(join.rarg.as_deref()),
        Some(N::RangeTableSample(sample)) => gives_all(sample.relation.as_deref()),
        Some(N::RangeSubselect(_) | N::RangeFunction(_) | N::RangeTableFunc(_) | N::JsonTable(_)) => false,
        Some(_) | None => true,
    }
}

impl<'t> Visitor<'t> for Columns<'t> {
    fn refused(&mut self, _what: &'static str) {
        self.found = true;
    }

    fn string(&mut self, n: &'t pb::String) {
        let pb::String { sval } = n;
        self.found |= CLOSED_COLUMNS.iter().any(|(_, column, _)| *column == *sval);
    }

    // A constant is no name.
    fn a_const(&mut self, _n: &'t pb::AConst) {}

    fn column_ref(&mut self, n: &'t pb::ColumnRef) {
        match n.fields.last().and_then(|node| node.node.as_ref()) {
            Some(N::String(name)) => self.bare.push(&name.sval),
            Some(N::AStar(_)) => {
                let before = n.fields.len().checked_sub(2).and_then(|at| n.fields.get(at));
                match before.and_then(|node| node.node.as_ref()) {
                    Some(N::String(qualifier)) => self.bare.push(&qualifier.sval),
                    Some(_) => self.found = true,
                    None => self.found |= self.direct,
                }
            }
            // The grammar puts nothing else there.
            Some(_) | None => self.found = true,
        }
        walk_column_ref(self, n);
    }

    fn select_stmt(&mut self, n: &'t pb::SelectStmt) {
        let direct = n.from_clause.iter().any(|item| gives_all(Some(item)));
        let around = std::mem::replace(&mut self.direct, direct);
        walk_select_stmt(self, n);
        self.direct = around;
    }

    fn range_var(&mut self, n: &'t pb::RangeVar) {
        if of_relation(&n.relname).is_some() {
            self.rows.push(&n.relname);
            if let Some(alias) = &n.alias {
                self.rows.push(&alias.aliasname);
                self.found |= !alias.colnames.is_empty();
            }
        }
        walk_range_var(self, n);
    }

    fn join_expr(&mut self, n: &'t pb::JoinExpr) {
        if let Some(alias) = &n.alias {
            self.rows.push(&alias.aliasname);
            self.found |= !alias.colnames.is_empty();
        }
        walk_join_expr(self, n);
    }

    fn copy_stmt(&mut self, n: &'t pb::CopyStmt) {
        let listed = n.relation.as_ref().is_none_or(|relation| of_relation(&relation.relname).is_none());
        self.found |= !listed && n.attlist.is_empty();
        walk_copy_stmt(self, n);
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::Limits;
    use crate::statement::door::{facts_here, on_parser_stack};
    use crate::statement::facts::StatementFacts;

    fn closed(sql: &str) -> bool {
        let facts = on_parser_stack(|| facts_here(sql.as_bytes(), &Limits::default())).unwrap();
        let inner = |statement: &StatementFacts| {
            statement.prepared.as_ref().is_some_and(|inner| inner.flags.closed_columns)
        };
        facts.statements.iter().any(|statement| statement.flags.closed_columns || inner(statement))
    }

    #[test]
    fn what_may_read_a_closed_column_is_found() {
        for sql in [
            "select rolconfig from pg_roles",
            "select * from pg_catalog.pg_roles",
            "select r.* from pg_roles r",
            "select * from (select 1) x, pg_roles",
            "select * from (pg_namespace n join pg_user a on true)",
            "select (select r.* from (select 1) x) from pg_roles r",
            "select * from pg_user tablesample system (1)",
            "update pg_user set usename = 'x' returning *",
            "select r from pg_roles r",
            "select pg_roles from pg_roles",
            "select pg_catalog.pg_roles from pg_roles",
            "select row_to_json(r) from pg_roles as r",
            "select (r).rolconfig from pg_roles r",
            "select rolconfig(r) from pg_roles r",
            "select c from pg_roles r (a, b, c)",
            "select j.c from (pg_roles r join pg_user u on true) as j (a, b, c)",
            "select j from (pg_roles r join pg_user u on true) as j",
            "select 1 from pg_roles where 'x' = any (rolconfig)",
            "select x.a from (select * from pg_user) x (a)",
            "with q as (table pg_user) select 1 from q",
            "copy pg_roles to stdout",
            "copy pg_roles (rolname, rolconfig) to stdout",
            "copy (select useconfig from pg_user) to stdout",
            "select 1 from pg_user a join t using (useconfig)",
            "prepare p as select * from pg_roles",
            "declare c cursor for select * from pg_user",
        ] {
            assert!(closed(sql), "{sql}");
        }
    }

    #[test]
    fn what_reads_its_neighbours_is_none() {
        for sql in [
            "select rolname, rolsuper from pg_roles r where r.oid = 10",
            "select count(*) from pg_roles",
            "copy pg_roles (rolname) to stdout",
            "select usename from pg_user where usename <> 'useconfig'",
            "select rolconfig from elsewhere",
            "select u.n from pg_user a, unnest(array[a.usesysid]) as u (n)",
            "select * from (select a.usename, a.usesysid from pg_user a) c where true",
            "select c.*, n.* from (select a.usename from pg_user a) c join pg_namespace n on true",
            "with c as (select a.usename from pg_user a) select * from c",
            "select * from pg_attribute",
        ] {
            assert!(!closed(sql), "{sql}");
        }
    }
}
