//! What the rows of a view, or of a relation with row security, depend on: the comparisons of its definition.
//!
//! Owns: [`Comparison`], read off the server's own analysed trees. May not: know a label, or judge. A column that is a bare output is
//! none; every condition is one, AND, OR and NOT taken apart; so is what rows are grouped, ordered or made distinct by, and an
//! output that is computed of several columns and may fail. Columns are followed through sub-selects, joins and WITH to those of relations.
//! Fails closed: a definition that does not read is no list, and its relation may depend on anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::builtins::Category;
use super::nodes::{self, Node, Value};
use super::parts::Routine;
use super::tree::{FUNCTIONS, PLAIN};
use super::{computed, functions};

/// Nodes that are looked at for one definition, at most: names in WITH RECURSIVE lead back to themselves.
const STEPS_MAX: usize = 200_000;

/// Expressions within each other, at most, with those of sub-selects that a column is followed through: the stack is bounded.
const DEEP_MAX: usize = 1_000;

/// One comparison of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Relation and number of every column in it; 0 is the whole row. One stands there twice where it is of two rows.
    pub columns: Vec<(u32, i16)>,
    /// It asks what a session holds: a setting, a sequence, a random value, or what is not known.
    pub session: bool,
    /// It is an equality of two columns.
    pub equality: bool,
    /// It compares rows with each other: grouping, order, DISTINCT, UNION.
    pub rows: bool,
}

/// A row security policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// The comparisons of USING and WITH CHECK; `None` where they do not read.
    pub comparisons: Option<Vec<Comparison>>,
}

/// What of a function matters here.
#[derive(Clone, Copy, Debug)]
struct Called {
    /// It fails for no value, save for its length.
    total: bool,
    /// It asks what the session holds.
    session: bool,
    /// It is an equality.
    equality: bool,
}

/// The server's built-in functions by oid.
#[derive(Debug)]
pub(super) struct Calls(HashMap<u32, Called>);

impl Calls {
    pub(super) fn new(builtins: &[Routine]) -> Self {
        let called = |routine: &Routine| {
            let total = &*routine.schema == "pg_catalog" && computed::is_total(&routine.name);
            // What formats and time zones move is not counted: README, "told all the same".
            let fixed = matches!(
                functions::category(routine),
                Some(Category::Pure | Category::Clock | Category::TextSearch | Category::Catalog)
            );
            Called { total, session: !fixed, equality: total && routine.name.ends_with("eq") }
        };
        Self(builtins.iter().map(|routine| (routine.oid, called(routine))).collect())
    }

    /// What is not known may do anything.
    fn of(&self, oid: u32) -> Called {
        self.0.get(&oid).copied().unwrap_or(Called { total: false, session: true, equality: false })
    }
}

/// The comparisons of a view's rule, or of an expression over `relation`; `None` where it does not read.
pub(super) fn comparisons(tree: &str, relation: Option<u32>, calls: &Calls) -> Option<Vec<Comparison>> {
    let value = nodes::read(tree)?;
    let mut reader = Reader { calls, found: Vec::new(), steps: 0, lost: false };
    match relation {
        Some(relation) => {
            let level = Level { from: From::Relation(relation), outer: None };
            value.nodes().iter().for_each(|node| reader.condition(node, &level));
        }
        None => {
            for query in value.nodes() {
                reader.query(query, None);
            }
        }
    }
    (!reader.lost).then_some(reader.found)
}

/// What numbers of FROM mean at one level, and around it.
#[derive(Clone, Copy)]
struct Level<'l, 't> {
    from: From<'l, 't>,
    outer: Option<&'l Level<'l, 't>>,
}

#[derive(Clone, Copy)]
enum From<'l, 't> {
    Query(&'l Node<'t>),
    Relation(u32),
}

/// What one expression is made of.
#[derive(Default)]
struct Parts {
    columns: Vec<(u32, i16)>,
    /// Entry of FROM and column of those that are there already.
    seen: HashSet<(usize, i16)>,
    session: bool,
    fails: bool,
}

struct Reader<'r> {
    calls: &'r Calls,
    found: Vec<Comparison>,
    steps: usize,
    lost: bool,
}

impl Reader<'_> {
    fn query(&mut self, query: &Node<'_>, outer: Option<&Level<'_, '_>>) {
        let level = Level { from: From::Query(query), outer };
        for with in query.list(":cteList") {
            if let Some(inner) = with.node(":ctequery") {
                self.query(inner, Some(&level));
            }
        }
        for entry in query.list(":rtable") {
            match entry.node(":subquery") {
                Some(inner) => self.query(inner, Some(&level)),
                None => {
                    for field in [":functions", ":values_lists", ":tablefunc", ":tablesample"] {
                        entry.list(field).for_each(|node| self.output(node, &level));
                    }
                }
            }
        }
        if let Some(tree) = query.node(":jointree") {
            self.joined(tree, &level);
        }
        for field in [":havingQual", ":limitOffset", ":limitCount"] {
            query.list(field).for_each(|node| self.condition(node, &level));
        }
        let mut compared = Parts::default();
        for target in query.list(":targetList") {
            let Some(made) = target.node(":expr") else { continue };
            if target.word(":ressortgroupref").is_some_and(|number| number != "0") {
                let mut parts = Parts::default();
                self.gather(made, &level, &mut parts, 0);
                // Of the order of rows any value can be told, of groups only equal ones.
                let equality = matches!(query.field(":sortClause"), Some(Value::Word(_)) | None)
                    && matches!(query.field(":windowClause"), Some(Value::Word(_)) | None);
                self.add(parts, equality, true);
            }
            self.output(made, &level);
        }
        let sets = query.node(":setOperations");
        if sets.is_some_and(removes_duplicates) {
            for entry in query.list(":rtable").filter_map(|entry| entry.node(":subquery")) {
                let inner = Level { from: From::Query(entry), outer: Some(&level) };
                for target in entry.list(":targetList").filter_map(|target| target.node(":expr")) {
                    self.gather(target, &inner, &mut compared, 0);
                }
            }
            self.add(compared, true, true);
        }
    }

    /// Conditions of joins, and WHERE.
    fn joined(&mut self, tree: &Node<'_>, level: &Level<'_, '_>) {
        for (field, value) in tree.fields() {
            let below = matches!(field, ":fromlist" | ":larg" | ":rarg");
            for node in value.nodes() {
                match field {
                    ":quals" => self.condition(node, level),
                    _ if below => self.joined(node, level),
                    _ => {}
                }
            }
        }
    }

    /// A condition: each that AND, OR and NOT join by itself, and those of a sub-select in EXISTS or IN.
    fn condition(&mut self, node: &Node<'_>, level: &Level<'_, '_>) {
        match node.kind {
            "BOOLEXPR" => node.list(":args").for_each(|one| self.condition(one, level)),
            "SUBLINK" if matches!(node.word(":subLinkType"), Some("0" | "2")) => {
                let Some(inner) = node.node(":subselect") else { return };
                self.query(inner, Some(level));
                let Some(test) = node.node(":testexpr") else { return };
                let mut parts = Parts::default();
                self.gather(test, level, &mut parts, 0);
                let inner_level = Level { from: From::Query(inner), outer: Some(level) };
                for target in inner.list(":targetList").filter_map(|target| target.node(":expr")) {
                    self.gather(target, &inner_level, &mut parts, 0);
                }
                self.add(parts, self.is_equality(test, true), false);
            }
            _ => {
                let mut parts = Parts::default();
                self.gather(node, level, &mut parts, 0);
                self.add(parts, self.is_equality(node, false), false);
            }
        }
    }

    /// An output: a bare column is none, and what cannot fail tells nothing.
    fn output(&mut self, node: &Node<'_>, level: &Level<'_, '_>) {
        if node.kind == "VAR" {
            return;
        }
        let mut parts = Parts::default();
        self.gather(node, level, &mut parts, 0);
        if parts.fails {
            self.add(parts, false, false);
        }
    }

    fn is_equality(&self, node: &Node<'_>, with_parameter: bool) -> bool {
        let bare = |node: &Node<'_>| match node.kind {
            "VAR" => true,
            "PARAM" => with_parameter,
            "RELABELTYPE" => node.node(":arg").is_some_and(|arg| arg.kind == "VAR"),
            _ => false,
        };
        let by = node.number(":opfuncid").is_some_and(|oid| self.calls.of(oid).equality);
        node.kind == "OPEXPR" && by && node.list(":args").all(bare)
    }

    fn add(&mut self, parts: Parts, equality: bool, rows: bool) {
        let Parts { columns, seen: _, session, fails: _ } = parts;
        if !columns.is_empty() {
            self.found.push(Comparison { columns, session, equality, rows });
        }
    }

    /// Everything that an expression is made of, sub-selects and all.
    fn gather(&mut self, node: &Node<'_>, level: &Level<'_, '_>, parts: &mut Parts, deep: usize) {
        self.steps += 1;
        if self.steps > STEPS_MAX || deep > DEEP_MAX {
            self.lost = true;
        }
        if self.lost {
            return;
        }
        if node.kind == "VAR" {
            return self.column(node, level, parts, deep);
        }
        parts.fails |= !PLAIN.contains(&node.kind) && node.kind != "TARGETENTRY";
        parts.session |= node.kind == "NEXTVALUEEXPR";
        for (field, value) in node.fields() {
            if let (true, Value::Word(oid)) = (FUNCTIONS.contains(&field), value)
                && *oid != "0"
            {
                let called = self.calls.of(oid.parse().unwrap_or(0));
                parts.fails |= !called.total;
                parts.session |= called.session;
            }
        }
        let inner = Level { from: From::Query(node), outer: Some(level) };
        let level = if node.kind == "QUERY" { &inner } else { level };
        for value in node.values() {
            for below in value.nodes() {
                self.gather(below, level, parts, deep + 1);
            }
        }
    }

    /// A column, followed to where it is stored.
    fn column(&mut self, node: &Node<'_>, level: &Level<'_, '_>, parts: &mut Parts, deep: usize) {
        let known = || {
            Some((
                node.number::<usize>(":varlevelsup")?,
                node.number::<usize>(":varno")?,
                node.number(":varattno")?,
            ))
        };
        let Some((up, at, number)) = known() else {
            self.lost = true;
            return;
        };
        let found = std::iter::successors(Some(level), |level| level.outer).nth(up);
        let Some(level) = found.filter(|_| number >= 0) else {
            self.lost |= found.is_none();
            return; // ctid and its kin hold nothing
        };
        let query = match level.from {
            From::Relation(relation) => {
                if parts.seen.insert((0, number)) {
                    parts.columns.push((relation, number));
                }
                return;
            }
            From::Query(query) => query,
        };
        let Some(entry) = at.checked_sub(1).and_then(|at| query.list(":rtable").nth(at)) else {
            self.lost = true;
            return;
        };
        if entry.word(":rtekind") == Some("0") {
            match entry.number(":relid") {
                Some(relation) if parts.seen.insert((std::ptr::from_ref(entry) as usize, number)) => {
                    parts.columns.push((relation, number));
                }
                Some(_) => {}
                None => self.lost = true,
            }
            return;
        }
        self.followed(entry, number, level, parts, deep + 1);
    }

    /// A column of what is no relation.
    fn followed(
        &mut self,
        entry: &Node<'_>,
        number: i16,
        level: &Level<'_, '_>,
        parts: &mut Parts,
        deep: usize,
    ) {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match entry.word(":rtekind") {
            Some("1") => {
                if let Some(query) = entry.node(":subquery") {
                    self.outputs_of(query, place, level, parts, deep);
                }
            }
            Some("2" | "9") => {
                let field =
                    if entry.word(":rtekind") == Some("2") { ":joinaliasvars" } else { ":groupexprs" };
                let all = entry.list(field).enumerate();
                for (_, one) in all.filter(|(at, _)| place.is_none_or(|place| place == *at)) {
                    self.gather(one, level, parts, deep);
                }
            }
            Some("3" | "4" | "5") => {
                for value in entry.values() {
                    for node in value.nodes().into_iter().filter(|node| node.kind != "ALIAS") {
                        self.gather(node, level, parts, deep);
                    }
                }
            }
            Some("6") => {
                let up = entry.number(":ctelevelsup").unwrap_or(0);
                let of = std::iter::successors(Some(level), |level| level.outer).nth(up);
                let with = of.and_then(|of| match of.from {
                    From::Query(query) => {
                        query.list(":cteList").find(|with| with.word(":ctename") == entry.word(":ctename"))
                    }
                    From::Relation(_) => None,
                });
                match (of, with.and_then(|with| with.node(":ctequery"))) {
                    (Some(of), Some(query)) => self.outputs_of(query, place, of, parts, deep),
                    _ => self.lost = true,
                }
            }
            Some(_) | None => self.lost = true,
        }
    }

    fn outputs_of(
        &mut self,
        query: &Node<'_>,
        place: Option<usize>,
        outer: &Level<'_, '_>,
        parts: &mut Parts,
        deep: usize,
    ) {
        let level = Level { from: From::Query(query), outer: Some(outer) };
        let named = |target: &&Node<'_>| {
            place.is_none_or(|place| target.number::<usize>(":resno") == Some(place + 1))
        };
        for target in query.list(":targetList").filter(named) {
            if let Some(made) = target.node(":expr") {
                self.gather(made, &level, parts, deep);
            }
        }
        // The outputs of a set operation are those of its first arm; the others have theirs.
        if query.node(":setOperations").is_some() {
            for arm in query.list(":rtable").filter_map(|entry| entry.node(":subquery")) {
                self.outputs_of(arm, place, &level, parts, deep + 1);
            }
        }
    }
}

/// UNION and its kin without ALL, at any depth.
fn removes_duplicates(node: &Node<'_>) -> bool {
    node.kind == "SETOPERATIONSTMT"
        && (node.word(":all") != Some("true")
            || [":larg", ":rarg"].iter().any(|side| node.node(side).is_some_and(removes_duplicates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tree: &str, relation: Option<u32>) -> Option<Vec<Comparison>> {
        let called = |oid, total, session, equality| (oid, Called { total, session, equality });
        let calls = Calls(HashMap::from([
            called(65, true, false, true),
            called(66, true, false, false),
            called(3294, false, true, false),
        ]));
        comparisons(tree, relation, &calls)
    }

    fn var(at: u8, number: u8, up: u8) -> String {
        format!("{{VAR :varno {at} :varattno {number} :varlevelsup {up}}}")
    }

    fn op(function: u32, one: &str, other: &str) -> String {
        format!("{{OPEXPR :opno 1 :opfuncid {function} :args ({one} {other})}}")
    }

    fn one(columns: &[(u32, i16)]) -> Comparison {
        Comparison { columns: columns.to_vec(), ..Comparison::default() }
    }

    #[test]
    fn a_policy_is_taken_apart_and_its_settings_are_seen() {
        let setting = "{FUNCEXPR :funcid 3294 :args ({CONST :constvalue 7 [ 28 0 0 0 97 46 98 ]})}";
        let tree = format!(
            "{{BOOLEXPR :boolop or :args ({} {} {})}}",
            op(66, &var(1, 2, 0), setting),
            op(65, &var(1, 3, 0), &var(1, 4, 0)),
            "{NULLTEST :arg {CONST :constisnull true}}"
        );
        let expected = [
            Comparison { session: true, ..one(&[(50, 2)]) },
            Comparison { equality: true, ..one(&[(50, 3), (50, 4)]) },
        ];
        assert_eq!(read(&tree, Some(50)).expect("it reads"), expected);
    }

    #[test]
    fn columns_are_followed_to_their_relations_and_bare_outputs_are_no_comparison() {
        let target = |made: &str, number: u8| {
            format!("{{TARGETENTRY :expr {made} :resno {number} :ressortgroupref 0}}")
        };
        let relation = |oid: u32| format!("{{RTE :rtekind 0 :relid {oid}}}");
        let inner = format!(
            "{{QUERY :rtable ({}) :targetList ({}) :jointree {{FROMEXPR :fromlist ({{RANGETBLREF :rtindex 1}}) :quals <>}}}}",
            relation(9),
            target(&var(1, 5, 0), 1)
        );
        let query = |quals: &str, outputs: &str| {
            format!(
                "({{QUERY :rtable ({} {{RTE :rtekind 1 :subquery {inner}}}) :jointree {{FROMEXPR :quals {quals}}} :targetList ({outputs})}})",
                relation(8)
            )
        };
        let compared = query(&op(66, &var(1, 2, 0), &var(2, 1, 0)), &target(&var(1, 2, 0), 1));
        assert_eq!(read(&compared, None).expect("it reads"), [one(&[(8, 2), (9, 5)])]);
        let total = query("<>", &target(&op(66, &var(1, 2, 0), &var(2, 1, 0)), 1));
        assert_eq!(read(&total, None).expect("it reads"), []);
        let fails = query("<>", &target(&op(7, &var(1, 2, 0), &var(2, 1, 0)), 1));
        assert_eq!(
            read(&fails, None).expect("it reads"),
            [Comparison { session: true, ..one(&[(8, 2), (9, 5)]) }]
        );
        for torn in
            ["({QUERY", "({QUERY :jointree {FROMEXPR :quals {VAR :varno 7 :varattno 1 :varlevelsup 3}}})"]
        {
            assert_eq!(read(torn, None), None, "{torn}");
        }
    }
}
