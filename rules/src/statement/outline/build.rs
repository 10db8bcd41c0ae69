//! The tree to an [`Outline`].
//!
//! Owns: which name stands where. May not: resolve, or leave a name out: expressions are visited whole by the generated
//! visitor, statements and items of FROM by the lists below. What is on no list makes its level opaque.

use pg_query::protobuf as pb;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as N;

use super::names::{alias_of, cast_to_text, gives_fields, kind, named, path_of, strings};
use super::writes;
use super::{Gives, Inner, Item, Level, Outline, Output, Place, Query, Source, Use, With};
use crate::statement::generated::{self, Visitor};

/// Deepest nesting of queries and joins that is followed; what is deeper is opaque. It bounds the recursion of everything
/// that reads or drops an outline.
const DEPTH_MAX: usize = 128;

/// The outline of a whole statement.
pub(in crate::statement) fn of(node: Option<&pb::Node>) -> Outline {
    let rows = |node| Outline::Rows(Box::new(query(node, 0)));
    match kind(node) {
        Some(N::SelectStmt(n)) if n.into_clause.is_some() => {
            Outline::Stores(Box::new(query_of_select(n, 0, true)))
        }
        Some(N::SelectStmt(_) | N::InsertStmt(_) | N::UpdateStmt(_) | N::DeleteStmt(_) | N::MergeStmt(_)) => {
            rows(node)
        }
        Some(N::DeclareCursorStmt(n)) => rows(n.query.as_deref()),
        Some(N::CreateTableAsStmt(n)) => match kind(n.query.as_deref()) {
            Some(N::SelectStmt(_)) => Outline::Stores(Box::new(query(n.query.as_deref(), 0))),
            _ => Outline::Opaque,
        },
        Some(N::CopyStmt(n)) => copy(n),
        Some(N::TruncateStmt(_) | N::LockStmt(_)) => Outline::NoValues,
        Some(N::PrepareStmt(_) | N::ExecuteStmt(_) | N::FetchStmt(_)) => Outline::Carries,
        Some(N::ExplainStmt(_)) => Outline::Explains,
        _ => Outline::Opaque,
    }
}

fn copy(n: &pb::CopyStmt) -> Outline {
    if n.is_program || !n.filename.is_empty() {
        return Outline::Opaque;
    }
    match (&n.query, &n.relation) {
        (Some(inner), None) if !n.is_from => Outline::CopyQuery(Box::new(query(Some(inner), 0))),
        (None, Some(relation)) => {
            let Some(columns) = strings(&n.attlist) else { return Outline::Opaque };
            if !n.is_from {
                let columns = columns.into_iter().map(str::to_owned).collect();
                return Outline::CopyTable { relation: named(relation), columns };
            }
            let mut builder = Builder::new(0);
            let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
            builder.level.writes = writes::of_copy(relation, &columns);
            builder.level.items.push(target(relation));
            builder.uses(n.where_clause.as_deref(), Place::Where);
            Outline::CopyIn(Box::new(builder.finish()))
        }
        _ => Outline::Opaque,
    }
}

fn target(range: &pb::RangeVar) -> Item {
    let (alias, columns) = alias_of(range.alias.as_ref());
    Item { source: Source::Target(named(range)), alias, columns }
}

fn opaque(why: &'static str) -> Query {
    Query { level: Level { opaque: Some(why), ..Level::default() }, ..Query::default() }
}

/// Any statement that can stand where a query can.
fn query(node: Option<&pb::Node>, depth: usize) -> Query {
    if depth >= DEPTH_MAX {
        return opaque("queries nested more deeply than labels are followed");
    }
    match kind(node) {
        Some(N::SelectStmt(n)) => query_of_select(n, depth, false),
        Some(N::InsertStmt(n)) => insert(n, depth),
        Some(N::UpdateStmt(n)) => update(n, depth),
        Some(N::DeleteStmt(n)) => delete(n, depth),
        Some(N::MergeStmt(n)) => merge(n, depth),
        _ => opaque("a query of a kind that is not followed"),
    }
}

fn query_of_select(n: &pb::SelectStmt, depth: usize, into_is_known: bool) -> Query {
    if depth >= DEPTH_MAX {
        return opaque("queries nested more deeply than labels are followed");
    }
    let pb::SelectStmt {
        distinct_clause,
        into_clause,
        target_list,
        from_clause,
        where_clause,
        group_clause,
        group_distinct: _,
        having_clause,
        window_clause,
        values_lists,
        sort_clause,
        limit_offset,
        limit_count,
        limit_option: _,
        locking_clause: _,
        with_clause,
        op,
        all: _,
        larg,
        rarg,
    } = n;
    let mut builder = Builder::new(depth);
    builder.with(with_clause.as_ref());
    if into_clause.is_some() && !into_is_known {
        builder.opaque("INTO inside a query");
    }
    for node in from_clause {
        let item = builder.item(node);
        builder.level.items.push(item);
    }
    builder.outputs(target_list);
    if !values_lists.is_empty() {
        builder.values(values_lists);
    }
    builder.level.distinct |= !distinct_clause.is_empty();
    builder.sorted(distinct_clause, Place::Distinct);
    builder.uses(where_clause.as_deref(), Place::Where);
    builder.sorted(group_clause, Place::Group);
    builder.uses(having_clause.as_deref(), Place::Having);
    builder.all(window_clause, Place::Window);
    builder.sorted(sort_clause, Place::Order);
    builder.uses(limit_offset.as_deref(), Place::Limit);
    builder.uses(limit_count.as_deref(), Place::Limit);
    let mut query = builder.finish();
    match (pb::SetOperation::try_from(*op), larg, rarg) {
        (Ok(pb::SetOperation::SetopNone), None, None) => {}
        (
            Ok(
                pb::SetOperation::SetopUnion
                | pb::SetOperation::SetopIntersect
                | pb::SetOperation::SetopExcept,
            ),
            Some(left),
            Some(right),
        ) => {
            query.arms =
                vec![query_of_select(left, depth + 1, false), query_of_select(right, depth + 1, false)];
        }
        _ => query.level.opaque = Some("a set operation of unknown kind"),
    }
    query
}

fn insert(n: &pb::InsertStmt, depth: usize) -> Query {
    let pb::InsertStmt {
        relation,
        cols,
        select_stmt,
        on_conflict_clause,
        returning_clause,
        with_clause,
        r#override: _,
    } = n;
    let mut builder = Builder::new(depth);
    builder.level.writes = writes::of_insert(n);
    builder.with(with_clause.as_ref());
    // Names of the target's columns; a subscript among them is an expression.
    builder.all(cols, Place::Assigned);
    if let Some(source) = select_stmt {
        builder.level.stores = Some(Box::new(query(Some(source), depth + 1)));
    }
    builder.written(relation.as_ref());
    if let Some(pb::OnConflictClause { action: _, infer, target_list, where_clause, location: _ }) =
        on_conflict_clause.as_deref()
    {
        // Without columns the keys of the relation say what is asked.
        if let Some(infer) = infer {
            builder.collect(Place::Conflict, false, |visitor| visitor.infer_clause(infer));
        }
        builder.level.items.push(Item {
            source: Source::Excluded,
            alias: Some("excluded".into()),
            columns: Vec::new(),
        });
        builder.all(target_list, Place::Assigned);
        builder.uses(where_clause.as_deref(), Place::Conflict);
    }
    builder.returning(returning_clause.as_ref());
    builder.finish()
}

fn update(n: &pb::UpdateStmt, depth: usize) -> Query {
    let pb::UpdateStmt { relation, target_list, where_clause, from_clause, returning_clause, with_clause } =
        n;
    let mut builder = Builder::new(depth);
    builder.level.writes = writes::of_update(n);
    builder.with(with_clause.as_ref());
    builder.written(relation.as_ref());
    for node in from_clause {
        let item = builder.item(node);
        builder.level.items.push(item);
    }
    builder.all(target_list, Place::Assigned);
    builder.uses(where_clause.as_deref(), Place::Where);
    builder.returning(returning_clause.as_ref());
    builder.finish()
}

fn delete(n: &pb::DeleteStmt, depth: usize) -> Query {
    let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = n;
    let mut builder = Builder::new(depth);
    builder.level.writes = writes::of_delete(n);
    builder.with(with_clause.as_ref());
    builder.written(relation.as_ref());
    for node in using_clause {
        let item = builder.item(node);
        builder.level.items.push(item);
    }
    builder.uses(where_clause.as_deref(), Place::Where);
    builder.returning(returning_clause.as_ref());
    builder.finish()
}

fn merge(n: &pb::MergeStmt, depth: usize) -> Query {
    let pb::MergeStmt {
        relation,
        source_relation,
        join_condition,
        merge_when_clauses,
        returning_clause,
        with_clause,
    } = n;
    let mut builder = Builder::new(depth);
    builder.level.writes = writes::of_merge(n);
    builder.with(with_clause.as_ref());
    builder.written(relation.as_ref());
    if let Some(source) = source_relation {
        let item = builder.item(source);
        builder.level.items.push(item);
    }
    builder.uses(join_condition.as_deref(), Place::Merge);
    builder.all(merge_when_clauses, Place::Merge);
    builder.returning(returning_clause.as_ref());
    // Which side comes first in it is the server's affair, and no other statement has it.
    if builder.level.outputs.iter().any(|output| matches!(output.gives, Gives::Star(_))) {
        builder.opaque("RETURNING * of MERGE");
    }
    builder.finish()
}

/// A query while it is built.
struct Builder {
    depth: usize,
    with: Vec<With>,
    recursive: bool,
    level: Level,
}

impl Builder {
    fn new(depth: usize) -> Self {
        Self { depth, with: Vec::new(), recursive: false, level: Level::default() }
    }

    fn finish(self) -> Query {
        Query { with: self.with, recursive: self.recursive, arms: Vec::new(), level: self.level }
    }

    fn opaque(&mut self, why: &'static str) {
        self.level.opaque.get_or_insert(why);
    }

    fn with(&mut self, clause: Option<&pb::WithClause>) {
        let Some(pb::WithClause { ctes, recursive, location: _ }) = clause else { return };
        self.recursive = *recursive;
        for node in ctes {
            let Some(N::CommonTableExpr(item)) = kind(Some(node)) else {
                self.opaque("a WITH item of unknown kind");
                continue;
            };
            if item.search_clause.is_some() || item.cycle_clause.is_some() {
                self.opaque("SEARCH or CYCLE");
            }
            let Some(columns) = strings(&item.aliascolnames) else {
                self.opaque("a WITH item whose column names do not read");
                continue;
            };
            self.with.push(With {
                name: item.ctename.clone(),
                columns: columns.into_iter().map(str::to_owned).collect(),
                query: query(item.ctequery.as_deref(), self.depth + 1),
            });
        }
    }

    fn written(&mut self, relation: Option<&pb::RangeVar>) {
        match relation {
            Some(range) => self.level.items.push(target(range)),
            None => self.opaque("a write without a relation"),
        }
    }

    /// RETURNING; WITH (OLD AS o, NEW AS n) names the target twice more.
    fn returning(&mut self, clause: Option<&pb::ReturningClause>) {
        let Some(pb::ReturningClause { options, exprs }) = clause else { return };
        let of = self.level.items.iter().find(|item| matches!(item.source, Source::Target(_))).cloned();
        if let Some(target) = of {
            let mut named = vec!["old".to_owned(), "new".to_owned()];
            for option in options {
                match kind(Some(option)) {
                    Some(N::ReturningOption(option)) => named.push(option.value.clone()),
                    Some(_) | None => self.opaque("an option of RETURNING"),
                }
            }
            // Hidden items: they can be named, and stand in no star.
            for alias in named {
                let hidden = Item { alias: Some(alias), ..target.clone() };
                self.level.hidden.push(hidden);
            }
        }
        self.outputs(exprs);
    }

    fn outputs(&mut self, list: &[pb::Node]) {
        for node in list {
            let Some(N::ResTarget(output)) = kind(Some(node)) else {
                self.opaque("an output of unknown kind");
                continue;
            };
            let pb::ResTarget { name, indirection, val, location: _ } = &**output;
            if !indirection.is_empty() {
                self.opaque("an output with a subscript");
            }
            let alias = (!name.is_empty()).then(|| name.clone());
            let gives = match kind(val.as_deref()) {
                Some(N::ColumnRef(column)) => match path_of(column) {
                    Some((path, true)) => Gives::Star(path),
                    Some((path, false)) => {
                        Gives::Column(Use { path, star: false, place: Place::Output, weak: false })
                    }
                    None => {
                        self.opaque("a name that does not read");
                        Gives::Expression
                    }
                },
                _ => match cast_to_text(val.as_deref()).and_then(path_of) {
                    Some((path, false)) => {
                        Gives::Text(Use { path, star: false, place: Place::Output, weak: false })
                    }
                    Some((_, true)) | None => {
                        self.uses(val.as_deref(), Place::Expression);
                        if gives_fields(val.as_deref()) { Gives::Fields } else { Gives::Expression }
                    }
                },
            };
            self.level.outputs.push(Output { alias, gives });
        }
    }

    fn values(&mut self, lists: &[pb::Node]) {
        let Some(N::List(first)) = lists.first().and_then(|node| kind(Some(node))) else {
            return self.opaque("VALUES that do not read");
        };
        for number in 1..=first.items.len() {
            let alias = Some(format!("column{number}"));
            self.level.outputs.push(Output { alias, gives: Gives::Expression });
        }
        self.all(lists, Place::Expression);
    }

    /// A list in which an integer is the number of an output.
    fn sorted(&mut self, list: &[pb::Node], place: Place) {
        for node in list {
            self.position(node, place);
            self.uses(Some(node), place);
        }
    }
    fn position(&mut self, node: &pb::Node, place: Place) {
        match kind(Some(node)) {
            Some(N::SortBy(sort)) => {
                if let Some(node) = sort.node.as_deref() {
                    self.position(node, place);
                }
            }
            Some(N::GroupingSet(set)) => set.content.iter().for_each(|node| self.position(node, place)),
            Some(N::List(list)) => list.items.iter().for_each(|node| self.position(node, place)),
            // `GROUP BY (1, 2)` is `GROUP BY 1, 2` (parse_clause.c, flatten_grouping_sets).
            Some(N::RowExpr(row)) => row.args.iter().for_each(|node| self.position(node, place)),
            Some(N::AConst(pb::AConst { val: Some(Val::Ival(number)), isnull: _, location: _ })) => {
                let number = usize::try_from(number.ival).unwrap_or(usize::MAX);
                self.level.positions.push((number, place));
            }
            _ => {}
        }
    }

    fn uses(&mut self, node: Option<&pb::Node>, place: Place) {
        if let Some(node) = node {
            self.collect(place, false, |visitor| visitor.node(node));
        }
    }

    fn all(&mut self, nodes: &[pb::Node], place: Place) {
        self.collect(place, false, |visitor| visitor.nodes(nodes));
    }

    fn collect<'t>(&mut self, place: Place, weak: bool, run: impl FnOnce(&mut Collector<'_, 't>)) {
        let mut collector = Collector { builder: self, place, weak, marker: std::marker::PhantomData };
        run(&mut collector);
    }

    /// An item of FROM.
    fn item(&mut self, node: &pb::Node) -> Item {
        let plain = |source, alias: Option<&pb::Alias>| {
            let (alias, columns) = alias_of(alias);
            Item { source, alias, columns }
        };
        match kind(Some(node)) {
            Some(N::RangeVar(range)) => plain(Source::Relation(named(range)), range.alias.as_ref()),
            Some(N::RangeSubselect(n)) => {
                let pb::RangeSubselect { lateral, subquery, alias } = &**n;
                let query = Box::new(query(subquery.as_deref(), self.depth + 1));
                plain(Source::Query { query, lateral: *lateral }, alias.as_ref())
            }
            Some(N::JoinExpr(join)) => self.join(join),
            Some(N::RangeFunction(n)) => {
                self.collect(Place::Argument, true, |visitor| visitor.nodes(&n.functions));
                plain(Source::Function, n.alias.as_ref())
            }
            Some(N::RangeTableFunc(n)) => {
                self.collect(Place::Argument, true, |visitor| generated::walk_range_table_func(visitor, n));
                plain(Source::Function, n.alias.as_ref())
            }
            Some(N::JsonTable(n)) => {
                self.collect(Place::Argument, true, |visitor| generated::walk_json_table(visitor, n));
                plain(Source::Function, n.alias.as_ref())
            }
            Some(N::RangeTableSample(n)) => {
                let pb::RangeTableSample { relation, method: _, args, repeatable, location: _ } = &**n;
                self.collect(Place::Argument, true, |visitor| {
                    visitor.nodes(args);
                    if let Some(seed) = repeatable {
                        visitor.node(seed);
                    }
                });
                match kind(relation.as_deref()) {
                    Some(N::RangeVar(range)) => plain(Source::Relation(named(range)), range.alias.as_ref()),
                    _ => self.unknown_item(),
                }
            }
            _ => self.unknown_item(),
        }
    }

    fn unknown_item(&mut self) -> Item {
        self.opaque("an item of FROM of a kind that is not followed");
        Item { source: Source::Function, alias: None, columns: Vec::new() }
    }

    fn join(&mut self, n: &pb::JoinExpr) -> Item {
        let pb::JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = n;
        if self.depth >= DEPTH_MAX {
            self.opaque("joins nested more deeply than labels are followed");
            return Item { source: Source::Function, alias: None, columns: Vec::new() };
        }
        let (Some(left), Some(right), Some(using)) = (larg, rarg, strings(using_clause)) else {
            return self.unknown_item();
        };
        let using: Vec<String> = using.into_iter().map(str::to_owned).collect();
        self.depth += 1;
        let sides = Box::new([self.item(left), self.item(right)]);
        self.depth -= 1;
        if let Some(quals) = quals {
            self.collect(Place::Join, true, |visitor| visitor.node(quals));
        }
        let (alias, columns) = alias_of(alias.as_ref());
        let using_alias = join_using_alias.as_ref().map(|alias| alias.aliasname.clone());
        Item { source: Source::Join { sides, natural: *is_natural, using, using_alias }, alias, columns }
    }
}

/// Visits an expression whole: names become uses, queries inner ones.
struct Collector<'b, 't> {
    builder: &'b mut Builder,
    place: Place,
    weak: bool,
    marker: std::marker::PhantomData<&'t ()>,
}

impl Collector<'_, '_> {
    fn inner(&mut self, query: Query, exists: bool) {
        self.builder.level.queries.push(Inner { query, weak: self.weak, exists });
    }
}

impl<'t> Visitor<'t> for Collector<'_, 't> {
    fn refused(&mut self, what: &'static str) {
        self.builder.opaque(what);
    }

    fn column_ref(&mut self, n: &'t pb::ColumnRef) {
        match path_of(n) {
            Some((path, star)) => {
                self.builder.level.uses.push(Use { path, star, place: self.place, weak: self.weak });
            }
            None => self.builder.opaque("a name that does not read"),
        }
    }

    fn index_elem(&mut self, n: &'t pb::IndexElem) {
        if !n.name.is_empty() {
            let path = vec![n.name.clone()];
            self.builder.level.uses.push(Use { path, star: false, place: self.place, weak: self.weak });
        }
        generated::walk_index_elem(self, n);
    }

    fn select_stmt(&mut self, n: &'t pb::SelectStmt) {
        let query = query_of_select(n, self.builder.depth + 1, false);
        self.inner(query, false);
    }

    fn sub_link(&mut self, n: &'t pb::SubLink) {
        let exists = pb::SubLinkType::try_from(n.sub_link_type) == Ok(pb::SubLinkType::ExistsSublink);
        match (exists, kind(n.subselect.as_deref())) {
            (true, Some(N::SelectStmt(select))) => {
                let query = query_of_select(select, self.builder.depth + 1, false);
                self.inner(query, true);
            }
            _ => generated::walk_sub_link(self, n),
        }
    }

    fn insert_stmt(&mut self, _: &'t pb::InsertStmt) {
        self.builder.opaque("a write in an expression");
    }

    fn update_stmt(&mut self, _: &'t pb::UpdateStmt) {
        self.builder.opaque("a write in an expression");
    }

    fn delete_stmt(&mut self, _: &'t pb::DeleteStmt) {
        self.builder.opaque("a write in an expression");
    }

    fn merge_stmt(&mut self, _: &'t pb::MergeStmt) {
        self.builder.opaque("a write in an expression");
    }

    fn range_var(&mut self, _: &'t pb::RangeVar) {
        self.builder.opaque("a relation in an expression");
    }

    fn current_of_expr(&mut self, _: &'t pb::CurrentOfExpr) {}
}
