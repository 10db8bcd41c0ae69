//! The labels that a report proposes, as a part of policy.toml.
//!
//! Owns: their spelling. What is not sure enough stands as a comment. May not: propose what is labelled already.

use std::fmt::Write as _;

use pgturnstile_rules::policy::model::Mask;
use pgturnstile_rules::policy::object::Tier;

use super::report::{Basis, Column, Finding, Report};
use crate::evidence::describe::escaped;

/// The fragment; it reads as TOML and can stand anywhere behind the policy's top-level keys.
pub fn fragment(report: &Report) -> String {
    let mut text = format!(
        "# Proposed by pgturnstile scan of {} (database {}) at {}.\n# Look at each, then run: pgturnstile check\n",
        escaped(&report.target),
        escaped(&report.database),
        report.at
    );
    let least = report.settings.min_confidence;
    let unlabelled = |column: &&Column| column.label.is_none();
    let mut columns: Vec<(&Column, &Finding)> = report
        .columns
        .iter()
        .filter(unlabelled)
        .filter_map(|column| Some((column, column.finding.as_ref()?)))
        .collect();
    let tier = |found: &Finding| Tier::from_name(&found.tier);
    columns.sort_by_key(|(_, found)| {
        std::cmp::Reverse((found.confidence >= least, found.confidence, tier(found)))
    });
    if columns.is_empty() {
        text.push_str("# Nothing was found that no label covers.\n");
    }
    for (column, found) in columns {
        let prefix = if found.confidence >= least { "" } else { "# " };
        text.push_str(&label(column, found, prefix));
    }
    text
}

fn label(column: &Column, found: &Finding, prefix: &str) -> String {
    let name = [&column.schema, &column.relation, &column.column].map(|part| quoted(part)).join(".");
    let canonical = found.class.canonical().filter(|_| found.mask != Mask::Null.word());
    let keys = [
        ("column", Some(&*name)),
        ("tier", Some(&*found.tier)),
        ("mask", Some(&*found.mask)),
        ("canonical", canonical),
    ];
    let mut text = format!("\n# {}\n{prefix}[[label]]\n", why(column, found));
    for (key, value) in keys.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        // Writing to a String cannot fail.
        let _written: std::fmt::Result = writeln!(text, "{prefix}{key} = {}", one_line(value));
    }
    text
}

/// A string of TOML on one line, so that it can stand in a comment: as JSON writes it, and DEL escaped, too.
fn one_line(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
}

/// `email, high: 98 % of 10000 values and the name`.
fn why(column: &Column, found: &Finding) -> String {
    let share = found.percent.map_or_else(
        || format!("fewer than {} of {} values", found.matched.at_most + 1, column.looked),
        |percent| format!("{percent} % of {} values", column.looked),
    );
    let basis = match found.basis {
        Basis::Values => share,
        Basis::ValuesAndName => format!("{share}, and the name"),
        Basis::Name => "the name and the type".to_owned(),
    };
    let also: String = found.also.iter().map(|class| format!(", also {class}")).collect();
    format!("{}, {}: {basis}{also}", found.class, found.confidence)
}

/// A part of a column's name as the policy spells it.
fn quoted(part: &str) -> String {
    let plain =
        |character: char| matches!(character, 'a'..='z' | '0'..='9' | '_' | '$') || character as u32 >= 0x80;
    if !part.is_empty() && part.chars().all(plain) {
        part.to_owned()
    } else {
        format!("\"{}\"", part.replace('"', "\"\""))
    }
}
