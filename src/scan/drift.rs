//! What has changed since an earlier scan.
//!
//! Owns: the comparison of two reports. May not: look at the target. A relation that one of the two could not read says nothing
//! of its contents, and that itself is told.

use std::collections::BTreeMap;

use super::class::Confidence;
use super::report::{Basis, Change, Column, Drift, Report};

/// Values below which a column that matches nothing tells nothing.
const VALUES_MIN: u64 = 10;

/// What differs between an earlier report and this one, by column.
pub fn compare(before: &Report, now: &Report) -> Vec<Drift> {
    let least = now.settings.min_confidence;
    let old: BTreeMap<_, &Column> = before.columns.iter().map(|column| (column.key(), column)).collect();
    let new: BTreeMap<_, &Column> = now.columns.iter().map(|column| (column.key(), column)).collect();
    let mut drift = Vec::new();
    for (key, column) in &new {
        match old.get(key) {
            None => drift.push(told(Change::NewColumn, column, None, class(column, least))),
            Some(earlier) => changes(earlier, column, least, &mut drift),
        }
    }
    for (_, column) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        drift.push(told(Change::GoneColumn, column, class(column, Confidence::Low), None));
    }
    drift.sort_by(|a, b| {
        (&a.schema, &a.relation, &a.column, a.change).cmp(&(&b.schema, &b.relation, &b.column, b.change))
    });
    drift
}

fn changes(before: &Column, now: &Column, least: Confidence, drift: &mut Vec<Drift>) {
    let mut push = |change, was: Option<String>, is: Option<String>| drift.push(told(change, now, was, is));
    if before.type_name != now.type_name {
        push(Change::TypeChanged, Some(before.type_name.clone()), Some(now.type_name.clone()));
    }
    if let (Some(label), None) = (&before.label, &now.label) {
        push(Change::LabelGone, Some(label.rule.clone()), None);
    }
    if let (None, Some(why)) = (&before.skipped, &now.skipped) {
        push(Change::NotLookedAt, None, Some(why.clone()));
        return;
    }
    match (before.found(least), now.found(least)) {
        (None, Some(_)) => push(Change::ClassAppeared, None, class(now, least)),
        (Some(was), Some(is)) if was.class != is.class => {
            push(Change::ClassChanged, class(before, least), class(now, least));
        }
        // Less sure is not gone: samples differ.
        (Some(was), None) if was.basis != Basis::Name && stopped(now) => {
            push(Change::StoppedMatching, class(before, least), None);
        }
        (Some(_), Some(_) | None) | (None, None) => {}
    }
}

/// It bears a label, and no value of enough matches anything.
fn stopped(now: &Column) -> bool {
    let by_name = now.finding.as_ref().is_none_or(|found| found.basis == Basis::Name);
    by_name && now.label.is_some() && now.looked >= VALUES_MIN
}

fn class(column: &Column, least: Confidence) -> Option<String> {
    column.found(least).map(|found| format!("{}, {}", found.class, found.confidence))
}

fn told(change: Change, column: &Column, before: Option<String>, now: Option<String>) -> Drift {
    let (schema, relation, name) = column.key();
    Drift {
        change,
        schema: schema.to_owned(),
        relation: relation.to_owned(),
        column: name.to_owned(),
        before,
        now,
    }
}
