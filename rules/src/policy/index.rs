//! The rules that apply to one subject, found by object in time that does not grow with their number.
//!
//! Owns: the buckets. May not: decide a match; every candidate is confirmed by [`Pattern`] itself, so that what a
//! pattern means is said in one place. Invariant: the candidates hold every match. A naive twin in the tests scans all
//! rules and must agree.

use std::collections::HashMap;

use crate::class::Class;
use crate::policy::model::{Classes, Permit, Restrict};
use crate::policy::object::{Home, Kind, Object, Tier, home};
use crate::policy::pattern::{On, Pattern};
use crate::resolve::Reach;

/// What the index needs of a rule.
pub(crate) trait Indexed {
    /// Its classes.
    fn classes(&self) -> Classes;
    /// Its objects.
    fn on(&self) -> &On;
}

impl Indexed for Permit {
    fn classes(&self) -> Classes {
        self.classes
    }

    fn on(&self) -> &On {
        &self.on
    }
}

impl Indexed for Restrict {
    fn classes(&self) -> Classes {
        self.classes
    }

    fn on(&self) -> &On {
        &self.on
    }
}

/// One pattern of one rule.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: usize,
    pattern: usize,
    classes: Classes,
}

#[derive(Debug, Default)]
struct Names {
    /// `schema.name`, both literal.
    exact: HashMap<Box<str>, HashMap<Box<str>, Vec<Entry>>>,
    /// Literal schema, a wildcard in the name.
    in_schema: HashMap<Box<str>, Vec<Entry>>,
    /// A wildcard in the schema.
    anywhere: Vec<Entry>,
}

impl Names {
    fn add(&mut self, schema: Option<&str>, name: Option<&str>, entry: Entry) {
        match (schema, name) {
            (Some(schema), Some(name)) => {
                self.exact.entry(schema.into()).or_default().entry(name.into()).or_default().push(entry);
            }
            (Some(schema), None) => self.in_schema.entry(schema.into()).or_default().push(entry),
            (None, _) => self.anywhere.push(entry),
        }
    }

    /// Most specific first.
    fn candidates(&self, schema: &str, name: &str) -> impl Iterator<Item = &Entry> {
        let exact = self.exact.get(schema).and_then(|names| names.get(name));
        let in_schema = self.in_schema.get(schema);
        exact.into_iter().flatten().chain(in_schema.into_iter().flatten()).chain(&self.anywhere)
    }
}

/// Rules by what they speak of. Rules are positions in the policy's list.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By class: every rule.
    every: Vec<Vec<usize>>,
    /// By class: rules with `*` in `on`.
    star: Vec<Vec<usize>>,
    relations: Names,
    functions: Names,
    kinds: Vec<Vec<Entry>>,
}

impl Index {
    /// Of the rules at `positions`.
    pub(crate) fn new<R: Indexed>(rules: &[R], positions: impl IntoIterator<Item = usize>) -> Self {
        let mut index = Self {
            every: vec![Vec::new(); Class::ALL.len()],
            star: vec![Vec::new(); Class::ALL.len()],
            kinds: vec![Vec::new(); Kind::ALL.len()],
            ..Self::default()
        };
        for rule in positions {
            if let Some(indexed) = rules.get(rule) {
                index.add(rule, indexed);
            }
        }
        index
    }

    fn add(&mut self, rule: usize, indexed: &impl Indexed) {
        let classes = indexed.classes();
        for class in classes.iter() {
            self.every[class as usize].push(rule);
        }
        for (pattern, wanted) in indexed.on().patterns().iter().enumerate() {
            let entry = Entry { rule, pattern, classes };
            match wanted {
                Pattern::Star => {
                    for class in classes.iter() {
                        self.star[class as usize].push(rule);
                    }
                }
                Pattern::Relation { schema, name } => {
                    self.relations.add(schema.literal(), name.literal(), entry);
                }
                Pattern::Function { schema, name, .. } => {
                    self.functions.add(schema.literal(), name.literal(), entry);
                }
                Pattern::Kind(kind) => self.kinds[*kind as usize].push(entry),
                // Settings are looked up by class, labels by the tiers that a statement reaches.
                Pattern::Setting(_) | Pattern::Label(_) => {}
            }
        }
    }

    /// Adds the rules that speak of labels of one of these tiers.
    pub(crate) fn on_labels<R: Indexed>(
        &self,
        rules: &[R],
        class: Class,
        tiers: &[Tier],
        found: &mut Vec<usize>,
    ) {
        for at in self.every[class as usize].iter().copied() {
            let speaks = rules.get(at).is_some_and(|rule| {
                let of = |pattern: &Pattern| matches!(pattern, Pattern::Label(tier) if tiers.contains(tier));
                rule.on().patterns().iter().any(of)
            });
            if speaks && !found.contains(&at) {
                found.push(at);
            }
        }
    }

    /// Every rule that certainly covers an object; each once, in no order.
    pub(crate) fn all_covering<R: Indexed>(
        &self,
        rules: &[R],
        class: Class,
        object: &Object<'_>,
    ) -> Vec<usize> {
        let mut found: Vec<usize> = self.star[class as usize].clone();
        let covers = |at: usize| {
            rules.get(at).is_some_and(|rule| {
                rule.classes().contain(class)
                    && rule.on().patterns().iter().any(|pattern| pattern.covers(object))
            })
        };
        for at in self.every[class as usize].iter().copied() {
            let whole = !class.has_objects() || matches!(object, Object::Whole);
            if (whole || covers(at)) && !found.contains(&at) {
                found.push(at);
            }
        }
        found
    }

    /// A permit that covers the object, the most specific first.
    pub(crate) fn covering<R: Indexed>(
        &self,
        rules: &[R],
        class: Class,
        object: &Object<'_>,
    ) -> Option<usize> {
        let every = self.every[class as usize].iter().copied();
        if !class.has_objects() {
            return every.into_iter().next();
        }
        let star = self.star[class as usize].iter().copied();
        let confirmed = |entry: &&Entry| {
            entry.classes.contain(class)
                && pattern(rules, entry).is_some_and(|pattern| pattern.covers(object))
        };
        let rule = |entry: &Entry| entry.rule;
        match object {
            Object::Whole => every.into_iter().next(),
            Object::Unfixed => star.into_iter().next(),
            Object::Relation { schema, name, reach } => {
                let kinds = Kind::of_relation(*reach).map(|kind| &self.kinds[kind as usize]);
                let entries = self.relations.candidates(schema, name).chain(kinds.into_iter().flatten());
                entries.filter(confirmed).map(rule).chain(star).next()
            }
            Object::Function { schema, name, .. } => {
                self.functions.candidates(schema, name).filter(confirmed).map(rule).chain(star).next()
            }
            Object::Named { kind, schema: Some(schema), name } if home(*kind) != Home::IsSchema => {
                let functions = self.functions.candidates(schema, name);
                let entries = self.relations.candidates(schema, name).chain(functions);
                entries.filter(confirmed).map(rule).chain(star).next()
            }
            // Settings, whole schemas, names in no schema: rare enough to ask every rule of the class.
            Object::Setting { .. } | Object::Named { .. } => {
                asked(rules, every, |on| on.covers(class, object)).next()
            }
        }
    }

    /// Every restrict that touches the object, each once, in the order of the policy.
    pub(crate) fn touching<R: Indexed>(
        &self,
        rules: &[R],
        class: Class,
        object: &Object<'_>,
        found: &mut Vec<usize>,
    ) {
        found.clear();
        let every = &self.every[class as usize];
        let confirmed = |entry: &&Entry| {
            entry.classes.contain(class)
                && pattern(rules, entry).is_some_and(|pattern| pattern.touches(object))
        };
        let rule = |entry: &Entry| entry.rule;
        if class.has_objects() {
            match object {
                Object::Whole => found.extend(&self.star[class as usize]),
                Object::Unfixed => found.extend(every),
                Object::Relation { schema, name, reach } => {
                    found.extend(&self.star[class as usize]);
                    found.extend(self.relations.candidates(schema, name).filter(confirmed).map(rule));
                    found.extend(self.kind_candidates(*reach).filter(confirmed).map(rule));
                }
                Object::Function { schema, name, .. } => {
                    found.extend(&self.star[class as usize]);
                    found.extend(self.functions.candidates(schema, name).filter(confirmed).map(rule));
                }
                Object::Named { kind, schema: Some(schema), name } if home(*kind) != Home::IsSchema => {
                    found.extend(&self.star[class as usize]);
                    found.extend(self.relations.candidates(schema, name).filter(confirmed).map(rule));
                    found.extend(self.functions.candidates(schema, name).filter(confirmed).map(rule));
                }
                Object::Named { .. } | Object::Setting { .. } => {
                    found.extend(asked(rules, every.iter().copied(), |on| on.touches(class, object)));
                }
            }
        } else {
            found.extend(every);
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Entries of `kind:` that may touch a relation.
    fn kind_candidates(&self, reach: Reach) -> impl Iterator<Item = &Entry> {
        let of_reach = Kind::of_relation(reach);
        let any = matches!(reach, Reach::Unresolved | Reach::DataBearingCatalog);
        Kind::ALL
            .into_iter()
            .filter(move |kind| any || of_reach == Some(*kind))
            .flat_map(|kind| &self.kinds[kind as usize])
    }
}

fn pattern<'r, R: Indexed>(rules: &'r [R], entry: &Entry) -> Option<&'r Pattern> {
    rules.get(entry.rule)?.on().patterns().get(entry.pattern)
}

/// Those of `positions` whose `on` answers yes.
fn asked<R: Indexed>(
    rules: &[R],
    positions: impl Iterator<Item = usize>,
    question: impl Fn(&On) -> bool,
) -> impl Iterator<Item = usize> {
    positions.filter(move |rule| rules.get(*rule).is_some_and(|rule| question(rule.on())))
}
