//! The order in which rows come, near labels.
//!
//! Owns: which settings decide what a table is read by, and the findings about what a definition tells by order or place. May not: see a
//! plan. A server that reads an index whose key holds a labelled column gives rows in its order, and so tells which value is greater, in
//! whatever columns they leave. It does so by its own costs, which nobody sees from outside; who may not see the labels in clear does not move them.

use crate::catalog::{Key, KeyRule, Kind, Relation, Snapshot};
use crate::class::Class;
use crate::policy::labelled::{Finding, Hit, Labelled};
use crate::policy::labels::{NEXT_WHO_SEES_ALL, Near, Reached, feared};
use crate::policy::object::Object;
use crate::policy::settings::Category;
use crate::statement::facts::SettingAction;

/// Settings by which a planner prefers an index to the table. Those of joins, sorts and memory choose none.
const SCANS: [&str; 15] = [
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "effective_cache_size",
    "enable_bitmapscan",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_seqscan",
    "enable_tidscan",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_tuple_cost",
    "random_page_cost",
    "seq_page_cost",
];

impl Near<'_> {
    /// A setting that would have rows come in the order of a label. Back to its start value it may go.
    pub(crate) fn moves_scans(&self) -> Option<Reached> {
        let carried = self.statement.prepared.as_deref().into_iter();
        let settings = std::iter::once(self.statement).chain(carried).flat_map(|facts| &facts.settings);
        let names = settings
            .filter(|setting| setting.action == SettingAction::Set)
            .filter_map(|setting| setting.name.as_deref());
        let moved = |name: &&str| SCANS.iter().any(|scan| scan.eq_ignore_ascii_case(name));
        let object = |name| Object::Setting { name: Some(name), category: Category::Client, shown: false };
        let object =
            names.filter(moved).map(object).find(|object| !self.code_is_clear(Class::SessionSet, object))?;
        let why = format!("{} can have rows read in the order of a labelled column", object);
        Some(feared(why, NEXT_WHO_SEES_ALL))
    }
}

impl Labelled {
    /// What definitions tell, whatever is masked.
    pub(super) fn tell(&mut self, snapshot: &Snapshot) {
        let mut told = Vec::new();
        for (schema, relation) in snapshot.relations() {
            for key in snapshot.keys(relation.oid) {
                told.extend(
                    self.partition_key(schema, relation, key).or_else(|| self.order(schema, relation, key)),
                );
            }
        }
        told.sort_unstable_by(|one, other| one.message.cmp(&other.message));
        self.findings.extend(told);
        self.tell_depends(snapshot);
    }

    /// What a table is parted by stands in definitions, which nothing masks.
    fn partition_key(&self, schema: &str, relation: &Relation, key: &Key) -> Option<Finding> {
        if key.rule != KeyRule::Partition || relation.kind != Kind::Partitioned {
            return None;
        }
        let hit = self.first_hit(relation, &key.columns)?.1;
        let message = format!(
            "{schema}.{} is partitioned by a labelled column: bounds and names of its partitions are definitions, and tell its \
             values. Next: partition it by another column, or permit only its root",
            relation.name
        );
        Some(Finding { rule: self.fact(hit)?.rule.clone(), message, unmatched: false })
    }

    /// An index by which rows may come in the order of a label: it holds others beside it, or rows that another condition chooses.
    fn order(&self, schema: &str, relation: &Relation, key: &Key) -> Option<Finding> {
        let KeyRule::Ordered { included, partial } = &key.rule else { return None };
        let (number, hit) = self.first_hit(relation, &key.columns)?;
        let unlabelled = |number: &i16| self.hit(relation.oid, *number).is_none();
        if !partial && !key.columns.iter().chain(included).any(unlabelled) {
            return None;
        }
        let columns = relation.columns.iter().flat_map(|all| all.iter());
        let column = { columns }.find(|column| column.number == number).map_or("?", |column| &*column.name);
        let message = format!(
            "index {} of {schema}.{} orders rows by {column}, which is labelled, beside other columns: where the server reads it, the \
             order of rows without ORDER BY tells which value is greater. Next: index {column} alone, or accept it (rules/README.md, what is told)",
            key.name, relation.name
        );
        Some(Finding { rule: self.fact(hit)?.rule.clone(), message, unmatched: false })
    }

    fn first_hit(&self, relation: &Relation, columns: &[i16]) -> Option<(i16, Hit)> {
        columns.iter().find_map(|number| Some((*number, self.hit(relation.oid, *number)?)))
    }
}
