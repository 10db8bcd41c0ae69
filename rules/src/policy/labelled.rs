//! Which columns of a target are labelled: the policy's labels, what the target says itself, and everything that shares
//! or shows their values.
//!
//! Owns: [`Labelled`], computed once for a policy and a snapshot. May not: look at a statement. Fails closed: what cannot
//! be followed closes its relation ([`Labelled::closed`]) until it can.
//!
//! A label spreads, to a fixpoint, each time the stricter of two winning:
//!
//! ```text
//! a column named by [[label]], by SECURITY LABEL (provider anon) or by a comment "pgturnstile: tier=… mask=…"
//!   → the column that it was, when it has another name now             for as long as the gateway runs
//!   → the column of that name in every ancestor and descendant (inheritance, partitions)
//!   → a generated column that is computed from it                                        masked as a derived value
//!   → a column whose type holds the row of a labelled relation                           masked as a derived value
//!   → a view's column that is bare that column                                           with the label's own mask
//!   → every other column of such a view that is no bare unlabelled column                masked as a derived value
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::catalog::system;
use crate::catalog::{Column, Event, Kind, Relation, Snapshot};
use crate::mask::plan::{self, Style};
use crate::policy::Policy;
use crate::policy::depends::Depends;
use crate::policy::model::{Canonical, Label, Mask, Rule};
use crate::policy::object::Tier;
use crate::policy::pattern::Glob;
use crate::policy::place::Place;

/// A label as it stands on columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFact {
    /// Its id and where it stands.
    pub rule: Rule,
    /// How sensitive.
    pub tier: Tier,
    /// The style of its mask.
    pub mask: Mask,
    /// How values are brought to one form.
    pub canonical: Option<Canonical>,
}

impl LabelFact {
    /// What stands in for values of a column that it stands on.
    #[must_use]
    pub fn style(&self) -> Style {
        match self.mask {
            Mask::Null => Style::Null,
            Mask::Last4 => Style::Last(4),
            Mask::Domain => Style::Domain,
            Mask::Token => Style::Token(self.canonical()),
        }
    }

    /// How its values are brought to one form before they become tokens.
    #[must_use]
    pub fn canonical(&self) -> plan::Canonical {
        match self.canonical {
            None => plan::Canonical::AsIs,
            Some(Canonical::Lower) => plan::Canonical::Lower,
            Some(Canonical::Digits) => plan::Canonical::Digits,
        }
    }
}

/// A label on a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which of [`Labelled::facts`].
    pub label: usize,
    /// The column holds the labelled values themselves; otherwise something computed of them, which leaves as NULL.
    pub identity: bool,
}

/// Why a relation is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The rule that closes it.
    pub rule: Rule,
    /// Why, as a clause.
    pub why: Arc<str>,
}

/// Something about the labels that the operator should mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which label.
    pub rule: Rule,
    /// What is wrong and what mends it.
    pub message: String,
    /// It matches nothing here: on another target it may.
    pub unmatched: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Labelled {
    facts: Vec<LabelFact>,
    columns: HashMap<u32, BTreeMap<i16, Hit>>,
    closed: HashMap<u32, Closed>,
    /// What labelled columns the rows of a relation depend on.
    pub(super) depends: HashMap<u32, Vec<Depends>>,
    pub(super) findings: Vec<Finding>,
    /// Schema and relation of the policy's labels, in the order of `facts`.
    names: Vec<(Glob, Glob)>,
    told: AtomicBool,
}

/// Id of the built-in rule about what may read a label.
pub(crate) const RULE_LABELS: &str = "builtin.labels";

impl Labelled {
    /// The labels of `labels` and of the target on the columns of `snapshot`.
    #[must_use]
    pub fn new(labels: &[Label], snapshot: &Snapshot) -> Self {
        if labels.is_empty() && snapshot.remarks().is_empty() {
            return Self::default();
        }
        let mut labelled = Self::default();
        for label in labels {
            let [schema, relation, _] = &label.parts;
            labelled.names.push((schema.clone(), relation.clone()));
            labelled.facts.push(LabelFact {
                rule: Rule { id: format!("label {}", label.column).into(), place: label.place.clone() },
                tier: label.tier,
                mask: label.mask,
                canonical: label.canonical,
            });
        }
        for (index, label) in labels.iter().enumerate() {
            labelled.place(index, label, snapshot);
        }
        labelled.remarks(snapshot);
        labelled.spread(snapshot);
        labelled.remembered(labels, snapshot);
        if labelled.is_empty() {
            snapshot.marks().set(std::iter::empty());
            return labelled;
        }
        labelled.close_unknown(snapshot);
        labelled.spread(snapshot);
        labelled.depend(snapshot);
        labelled.tell(snapshot);
        labelled.remember(labels, snapshot);
        labelled
    }

    /// Whether nothing on the target is labelled or closed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.closed.is_empty()
    }

    /// The label that names a relation, whether it is there or not.
    #[must_use]
    pub fn named(&self, schema: &str, relation: &str) -> Option<&LabelFact> {
        let at = self.names.iter().position(|(s, r)| s.matches(schema) && r.matches(relation))?;
        self.facts.get(at)
    }

    /// Every tier that stands on a column of a relation; all of the target's where it is closed.
    #[must_use]
    pub fn tiers(&self, relation: u32) -> Vec<Tier> {
        if self.closed.contains_key(&relation) {
            return self.all_tiers();
        }
        let hits = self.columns.get(&relation).into_iter().flatten();
        hits.filter_map(|(_, hit)| self.fact(*hit)).map(|fact| fact.tier).collect()
    }

    /// Every tier of the target's labels.
    #[must_use]
    pub fn all_tiers(&self) -> Vec<Tier> {
        self.facts.iter().map(|fact| fact.tier).collect()
    }

    /// The labels.
    #[must_use]
    pub fn facts(&self) -> &[LabelFact] {
        &self.facts
    }

    /// What the operator should mend.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The same, the first time it is asked for: to be logged once.
    pub fn findings_once(&self) -> &[Finding] {
        if self.told.swap(true, Ordering::Relaxed) { &[] } else { &self.findings }
    }

    /// The labelled columns of a relation, by number.
    #[must_use]
    pub fn columns(&self, relation: u32) -> Option<&BTreeMap<i16, Hit>> {
        self.columns.get(&relation)
    }

    /// The label on a column.
    #[must_use]
    pub fn hit(&self, relation: u32, column: i16) -> Option<Hit> {
        self.columns.get(&relation)?.get(&column).copied()
    }

    /// Why a relation is closed.
    #[must_use]
    pub fn closed(&self, relation: u32) -> Option<&Closed> {
        self.closed.get(&relation)
    }

    /// The label of a hit.
    #[must_use]
    pub fn fact(&self, hit: Hit) -> Option<&LabelFact> {
        self.facts.get(hit.label)
    }

    /// The strictest tier on the target.
    #[must_use]
    pub fn strictest(&self) -> Tier {
        if !self.closed.is_empty() {
            return Tier::Secret;
        }
        let hits = self.columns.values().flat_map(BTreeMap::values);
        hits.filter_map(|hit| self.fact(*hit)).map(|fact| fact.tier).max().unwrap_or(Tier::Internal)
    }

    /// A policy's label on the columns that it names.
    fn place(&mut self, index: usize, label: &Label, snapshot: &Snapshot) {
        let [schema, name, column] = &label.parts;
        let exact = schema.literal().is_some() && name.literal().is_some();
        let mut matched = false;
        let mut named = None;
        for (of_schema, relation) in snapshot.relations() {
            if relation.system || !schema.matches(of_schema) || !name.matches(&relation.name) {
                continue;
            }
            if !matches!(
                relation.kind,
                Kind::Table | Kind::Partitioned | Kind::View | Kind::MaterializedView | Kind::Foreign
            ) {
                continue;
            }
            named = Some(relation.oid);
            let Some(columns) = &relation.columns else {
                matched = true;
                let why =
                    format!("its columns are not known, and the label {} may stand on one", label.column);
                self.close(relation.oid, index, why);
                continue;
            };
            for found in columns.iter().filter(|found| column.matches(&found.name)) {
                matched = true;
                self.put(relation.oid, found.number, Hit { label: index, identity: true });
                self.check_style(index, label.mask, relation, found);
            }
        }
        if matched {
            return;
        }
        let rule = self.facts[index].rule.clone();
        let message = if named.is_some() && exact {
            format!(
                "the label {} matches no column: the relation is closed until it does. Next: name the column as it is called \
                 now, or take the label out",
                label.column
            )
        } else {
            format!(
                "nothing on this target matches the label {}. Next: check the name; a label that is meant for another target may stay",
                label.column
            )
        };
        self.findings.push(Finding { rule, message, unmatched: true });
        if let (Some(relation), true) = (named, exact) {
            let why =
                format!("the label {} matches none of its columns: it may have been renamed", label.column);
            self.close(relation, index, why);
        }
    }

    /// A column that bore a label of this policy keeps it under another name: a rename, a partition that was detached, a
    /// table that was moved, all behind the gateway's back.
    fn remembered(&mut self, labels: &[Label], snapshot: &Snapshot) {
        for ((oid, number), word) in snapshot.marks().all() {
            let Some(index) = labels.iter().position(|label| *label.column == *word) else { continue };
            let Some(relation) = snapshot.relation_by_oid(oid) else { continue };
            let columns = relation.columns.iter().flat_map(|all| all.iter());
            let column = { columns }.find(|column| column.number == number);
            let Some(column) = column.filter(|_| self.hit(oid, number).is_none()) else { continue };
            self.put(oid, number, Hit { label: index, identity: true });
            self.check_style(index, labels[index].mask, relation, column);
            let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
            let message = format!(
                "{name} bore the label {word} under another name, or as a part of what bears it, and keeps it until the gateway \
                 restarts. Next: name it in a label of its own, or drop the column"
            );
            self.findings.push(Finding { rule: self.facts[index].rule.clone(), message, unmatched: false });
        }
    }

    /// Which columns bear a label of the policy themselves, for the snapshot that comes next.
    fn remember(&self, labels: &[Label], snapshot: &Snapshot) {
        let stores = |kind: Kind| match kind {
            Kind::Table | Kind::Partitioned | Kind::MaterializedView | Kind::Foreign => true,
            Kind::View | Kind::Sequence | Kind::Index => false,
        };
        let relations = snapshot.relations().filter(|(_, relation)| stores(relation.kind));
        let marks = relations.flat_map(|(_, relation)| {
            let hits = self.columns.get(&relation.oid).into_iter().flatten();
            hits.filter(|(_, hit)| hit.identity).filter_map(|(number, hit)| {
                let label = labels.get(hit.label)?;
                Some(((relation.oid, *number), Arc::from(&*label.column)))
            })
        });
        snapshot.marks().set(marks);
    }

    /// A style that makes a text of a value needs a column of texts.
    fn check_style(&mut self, index: usize, mask: Mask, relation: &Relation, column: &Column) {
        if mask == Mask::Null || column.text {
            return;
        }
        let word = mask.word();
        let rule = self.facts[index].rule.clone();
        let what = format!("{}.{}.{}", relation.schema, relation.name, column.name);
        let message = format!(
            "mask = \"{word}\" makes a text, and {what} is of a type that holds none: the relation is closed until the \
             style fits. Next: write mask = \"null\" for it"
        );
        self.findings.push(Finding { rule, message, unmatched: false });
        self.close(
            relation.oid,
            index,
            format!("the mask {word} of its column {} does not fit the column's type", column.name),
        );
    }

    /// SECURITY LABEL and comments. What does not read counts as the strictest.
    fn remarks(&mut self, snapshot: &Snapshot) {
        for remark in snapshot.remarks() {
            let Some(relation) = snapshot.relation_by_oid(remark.relation) else { continue };
            let column = relation.columns.as_deref().unwrap_or_default();
            let Some(column) = column.iter().find(|column| column.number == remark.column) else { continue };
            let words = remark.words.trim();
            let (tier, mask, read) = if remark.comment {
                match read_comment(words) {
                    Some((tier, mask)) => (tier, mask, true),
                    None => (Tier::Secret, Mask::Null, false),
                }
            } else if words.eq_ignore_ascii_case("NOT MASKED") {
                continue;
            } else {
                (Tier::Restricted, Mask::Null, true)
            };
            let source =
                if remark.comment { "comment of the target" } else { "SECURITY LABEL of the target" };
            let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
            let rule =
                Rule { id: format!("label {name}").into(), place: Place { file: source.into(), line: 0 } };
            let index = self.facts.len();
            self.facts.push(LabelFact { rule: rule.clone(), tier, mask, canonical: None });
            self.put(relation.oid, column.number, Hit { label: index, identity: true });
            self.check_style(index, mask, relation, column);
            if !read {
                let message = format!(
                    "the comment on {name} does not read as \"pgturnstile: tier=… mask=…\" and counts as secret, null. Next: \
                     write it so"
                );
                self.findings.push(Finding { rule, message, unmatched: false });
            }
        }
    }

    fn close(&mut self, relation: u32, label: usize, why: String) {
        let rule = self.facts[label].rule.clone();
        self.closed.entry(relation).or_insert(Closed { rule, why: why.into() });
    }

    /// What may read anything: foreign tables, views that do not read or run code, the server's own data-bearing views.
    fn close_unknown(&mut self, snapshot: &Snapshot) {
        let rule = Rule { id: RULE_LABELS.into(), place: Place::built_in() };
        let mut close = |oid, why: String| {
            self.closed.entry(oid).or_insert(Closed { rule: rule.clone(), why: why.into() });
        };
        for (_, relation) in snapshot.relations().filter(|(_, relation)| !relation.system) {
            match relation.kind {
                Kind::Foreign => close(relation.oid, "a foreign table may read a labelled column".into()),
                Kind::View | Kind::MaterializedView => {
                    if let Some(why) = unknown_view(relation, snapshot) {
                        close(relation.oid, why);
                    }
                }
                Kind::Table | Kind::Partitioned | Kind::Sequence | Kind::Index => {}
            }
        }
    }

    /// Puts a label on a column, unless a stricter one stands there; whether anything changed.
    fn put(&mut self, relation: u32, column: i16, hit: Hit) -> bool {
        let rank = |facts: &[LabelFact], hit: Hit| {
            (facts.get(hit.label).map(|fact| fact.tier), !hit.identity, std::cmp::Reverse(hit.label))
        };
        let columns = self.columns.entry(relation).or_default();
        match columns.get(&column) {
            Some(known) if rank(&self.facts, *known) >= rank(&self.facts, hit) => false,
            Some(_) | None => {
                columns.insert(column, hit);
                true
            }
        }
    }

    /// To a fixpoint: ranks only grow, so it ends.
    fn spread(&mut self, snapshot: &Snapshot) {
        let relations: Vec<&Relation> =
            snapshot.relations().map(|(_, relation)| relation).filter(|relation| !relation.system).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for relation in &relations {
                changed |= self.spread_to_kin(relation, snapshot)
                    | self.spread_to_columns(relation, snapshot)
                    | self.spread_to_view(relation, snapshot);
            }
        }
    }

    fn spread_to_kin(&mut self, relation: &Relation, snapshot: &Snapshot) -> bool {
        let mut changed = false;
        for (schema, name) in relation.kin.iter().flat_map(|kin| kin.iter()) {
            let Some(kin) = snapshot.relation(schema, name) else { continue };
            if let (Some(closed), false) =
                (self.closed.get(&kin.oid).cloned(), self.closed.contains_key(&relation.oid))
            {
                self.closed.insert(relation.oid, closed);
                changed = true;
            }
            let Some(hits) = self.columns.get(&kin.oid).cloned() else { continue };
            for (number, hit) in hits {
                let name =
                    kin.columns.iter().flat_map(|all| all.iter()).find(|column| column.number == number);
                let own = relation.columns.iter().flat_map(|all| all.iter());
                if let Some(column) = name.and_then(|name| own.into_iter().find(|own| own.name == name.name))
                {
                    changed |= self.put(relation.oid, column.number, hit);
                }
            }
        }
        changed
    }

    /// Generated columns, and columns that hold rows.
    fn spread_to_columns(&mut self, relation: &Relation, snapshot: &Snapshot) -> bool {
        let mut changed = false;
        for column in relation.columns.iter().flat_map(|all| all.iter()) {
            let mut found: Vec<Hit> = Vec::new();
            if let Some(inputs) = &column.generated {
                let hits = self.columns.get(&relation.oid).into_iter().flatten();
                found.extend(
                    hits.filter(|(number, _)| {
                        **number != column.number && (inputs.is_empty() || inputs.contains(number))
                    })
                    .map(|(_, hit)| *hit),
                );
            }
            if let Some(of_user) = snapshot.type_by_oid(column.type_oid) {
                for part in
                    of_user.closure.iter().map(|id| snapshot.type_of(*id)).filter(|part| part.relation != 0)
                {
                    found.extend(self.columns.get(&part.relation).into_iter().flatten().map(|(_, hit)| *hit));
                }
            }
            for hit in found {
                changed |= self.put(relation.oid, column.number, Hit { identity: false, ..hit });
            }
        }
        changed
    }

    fn spread_to_view(&mut self, relation: &Relation, snapshot: &Snapshot) -> bool {
        let (Some(view), Some(columns)) = (snapshot.view(relation.oid), &relation.columns) else {
            return false;
        };
        let mut changed = false;
        let mut touched: Vec<Hit> = Vec::new();
        for (read, column) in &view.reads {
            if let (Some(closed), false) =
                (self.closed.get(read).cloned(), self.closed.contains_key(&relation.oid))
            {
                self.closed.insert(relation.oid, closed);
                changed = true;
            }
            let hits = self.columns.get(read).into_iter().flatten();
            touched.extend(hits.filter(|(number, _)| *column == 0 || *number == column).map(|(_, hit)| *hit));
        }
        if touched.is_empty() {
            return changed;
        }
        for (column, origin) in columns.iter().zip(&view.origins) {
            match origin {
                Some((read, number)) => {
                    if let Some(hit) = self.hit(*read, *number) {
                        changed |= self.put(relation.oid, column.number, hit);
                    }
                }
                None => {
                    for hit in &touched {
                        changed |= self.put(relation.oid, column.number, Hit { identity: false, ..*hit });
                    }
                }
            }
        }
        changed
    }
}

/// Why a view may read a label although none of its columns says so.
fn unknown_view(relation: &Relation, snapshot: &Snapshot) -> Option<String> {
    let Some(view) = snapshot.view(relation.oid) else {
        return Some("its definition is not known, so it may read a labelled column".into());
    };
    if relation.columns.as_ref().is_none_or(|columns| columns.len() != view.origins.len()) {
        return Some("its definition does not read, so it may read a labelled column".into());
    }
    if let Some(code) = &view.code {
        return Some(format!("its definition {code}, which may read a labelled column"));
    }
    for (read, _) in &view.reads {
        let Some(read) = snapshot.relation_by_oid(*read) else {
            return Some("it reads a relation that the catalog snapshot does not show".into());
        };
        if read.system {
            if system::may_show_values(&read.schema, &read.name) {
                return Some(format!("it reads {}.{}, which carries users' data", read.schema, read.name));
            }
            continue;
        }
        match read.kind {
            // The relation below is closed itself where it must be.
            Kind::View | Kind::MaterializedView | Kind::Foreign => {}
            Kind::Table | Kind::Partitioned | Kind::Sequence | Kind::Index => {
                if let Some(code) = read.code(Event::Read) {
                    return Some(format!("code behind a relation ({code}) may read a labelled column"));
                }
            }
        }
    }
    None
}

/// `pgturnstile: tier=personal mask=domain`, on a line of its own or not.
fn read_comment(words: &str) -> Option<(Tier, Mask)> {
    let (_, rest) = words.split_once("pgturnstile:")?;
    let (mut tier, mut mask) = (None, Mask::Null);
    for word in rest.lines().next()?.split_whitespace() {
        match word.split_once('=')? {
            ("tier", name) => tier = Some(Tier::from_name(name)?),
            ("mask", name) => mask = Mask::NAMES.iter().find(|(word, _)| *word == name)?.1,
            _ => return None,
        }
    }
    Some((tier?, mask))
}

/// Labels that were computed lately, by snapshot.
#[derive(Debug, Default)]
pub(crate) struct LabelMemory(Mutex<Vec<(Weak<Snapshot>, Arc<Labelled>)>>);

impl Policy {
    /// The labels of this policy and of the target itself on the columns of a snapshot: computed once for each.
    pub fn labelled(&self, snapshot: &Arc<Snapshot>) -> Arc<Labelled> {
        let mut known = self.label_memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| of.strong_count() > 0);
        let same = |of: &Weak<Snapshot>| std::ptr::eq(of.as_ptr(), Arc::as_ptr(snapshot));
        if let Some((_, labelled)) = known.iter().find(|(of, _)| same(of)) {
            return Arc::clone(labelled);
        }
        let labelled = Arc::new(Labelled::new(&self.model.labels, snapshot));
        known.push((Arc::downgrade(snapshot), Arc::clone(&labelled)));
        labelled
    }
}
