//! The values of a policy's tables: what several of them share, and what takes more than one form.
//!
//! Owns: the readers of groups' matches, targets, classes, objects, guards, disclosure, observe, tests. May not: know which
//! file it reads. Reports what is wrong and yields nothing for it; the load fails then.

use serde_json::{Map, Value};

use crate::class::Class;
use crate::document::Place as DocumentPlace;
use crate::document::{Date, Shape, Table, name_fault, unknown_word};
use crate::policy::condition::{self, Condition};
use crate::policy::group::Match;
use crate::policy::model::{Classes, Disclose, Expect, Guards, Observe, Record, Targets, TestPrincipal};
use crate::policy::object::{IDENTIFIER_BYTES_MAX, Tier};
use crate::policy::pattern::{Glob, On};
use crate::policy::read::RulePlaces;

/// Longest `statement_timeout` and the like: what the server takes (int, milliseconds).
const TIMEOUT_MS_MAX: u64 = 2_147_483_647;
/// Most bytes of rows that may be kept of one result.
const ROWS_BYTES_LIMIT: u64 = 1 << 40;

pub(super) fn places(table: &Table<'_>, on: Vec<DocumentPlace>) -> RulePlaces {
    RulePlaces {
        whole: table.place_of("id"),
        on,
        when: table.place_of("when"),
        unless: table.place_of("unless"),
        then: table.place_of("then"),
    }
}

pub(super) fn read_match(table: &Table<'_>) -> Option<Match> {
    let issuer = table.required_name("issuer");
    let groups = table.strings("groups");
    if groups.as_ref().is_some_and(Vec::is_empty) {
        table.error("groups", "must name at least one group of the token");
    }
    let claims = condition::read_claim_values(table, "");
    Some(Match {
        issuer: issuer?,
        groups: groups.map(|groups| groups.into_iter().map(|group| group.value).collect()),
        claims,
    })
}

pub(super) fn read_targets(table: &Table<'_>) -> Option<Targets> {
    let names = table.required_strings("targets")?;
    for name in &names {
        if !name.value.contains('*')
            && let Some(fault) = name_fault(&name.value)
        {
            table.diagnostics().error(&name.place, fault);
        }
    }
    Some(Targets(names.iter().map(|name| Glob::new(&name.value)).collect()))
}

pub(super) fn read_classes(table: &Table<'_>) -> Option<Classes> {
    let names = table.required_strings("classes")?;
    let mut classes = Classes::default();
    for name in &names {
        let covered = Classes::covered_by(&name.value);
        if covered.is_empty() {
            table.diagnostics().error(&name.place, unknown_word(&name.value, &class_words()));
        }
        classes = classes.union(covered);
    }
    Some(classes)
}

/// Every word that `classes` knows: `*`, parents, leaves.
pub(super) fn class_words() -> Vec<&'static str> {
    let mut words = vec!["*"];
    for class in Class::ALL {
        if let Some((parent, _)) = class.name().split_once('.')
            && !words.contains(&parent)
        {
            words.push(parent);
        }
        words.push(class.name());
    }
    words
}

pub(super) fn read_on(table: &Table<'_>) -> Option<(On, Vec<DocumentPlace>)> {
    let entries = table.required_strings("on")?;
    let patterns = condition::read_patterns(table, &entries);
    if patterns.len() != entries.len() {
        return None;
    }
    let places = entries.into_iter().map(|entry| entry.place).collect();
    Some((On::new(patterns), places))
}

pub(super) fn read_conditions(table: &Table<'_>, key: &str) -> Vec<Condition> {
    table.table(key).map(|conditions| condition::read_all(&conditions)).unwrap_or_default()
}

pub(super) fn read_disclose(table: &Table<'_>) -> Disclose {
    let Some(shape) = table.shape("disclose") else { return Disclose::default() };
    match shape.value {
        Shape::Text(word) => {
            match word.as_str() {
                "token" => Disclose::Token,
                "masked" => Disclose::Masked,
                "withheld" => Disclose::Withheld,
                "clear" => {
                    table.error("disclose", "\"clear\" without a tier would open every label; write { clear_up_to = \"personal\" }");
                    Disclose::default()
                }
                _ => {
                    table.error("disclose", unknown_word(&word, &["token", "masked", "withheld"]));
                    Disclose::default()
                }
            }
        }
        Shape::Table(inner) => {
            let tiers = Tier::ALL.map(|tier| (tier.name(), tier));
            inner.required_choice("clear_up_to", &tiers).map_or(Disclose::default(), Disclose::ClearUpTo)
        }
        other @ (Shape::Integer(_)
        | Shape::Float(_)
        | Shape::Boolean(_)
        | Shape::Datetime(_)
        | Shape::List(_)) => {
            table.error("disclose", format!("must be a word or {{ clear_up_to = … }}, not {}", other.kind()));
            other.abandon();
            Disclose::default()
        }
    }
}

/// `record` and `record_rows_bytes_max`, where they stand.
pub(super) fn read_record(table: &Table<'_>) -> (Option<Record>, Option<u64>) {
    let words = [Record::Digest, Record::Text, Record::Rows].map(|record| (record.name(), record));
    (table.choice("record", &words), table.integer("record_rows_bytes_max", 1..=ROWS_BYTES_LIMIT))
}

pub(super) fn read_guards(table: &Table<'_>) -> Option<Guards> {
    let Some(guards) = table.table("guards") else {
        if !table.has("guards") {
            table.error(
                "guards",
                "is required here, with search_path at least: guards = { search_path = [\"public\"] }",
            );
        }
        return None;
    };
    let timeout = |key: &str| guards.integer(key, 1..=TIMEOUT_MS_MAX);
    let statement_timeout_ms = timeout("statement_timeout_ms");
    let lock_timeout_ms = timeout("lock_timeout_ms");
    let idle_in_transaction_ms = timeout("idle_in_transaction_ms");
    let search_path = guards.strings("search_path");
    if !guards.has("search_path") {
        guards.error(
            "search_path",
            "is required here: names are resolved by it, never guessed; [] leaves pg_catalog alone",
        );
    }
    let search_path = search_path?;
    for schema in &search_path {
        let fault = match schema.value.as_str() {
            "$user" => Some("would depend on the login; name the schema"),
            "pg_temp" | "pg_catalog" => Some("is searched anyway, and its place does not move"),
            name if name.contains('*') => Some("is a path of exact names"),
            name if name.len() > IDENTIFIER_BYTES_MAX => Some("is longer than 63 bytes"),
            _ => None,
        };
        if let Some(fault) = fault {
            guards.diagnostics().error(&schema.place, fault);
        }
    }
    Some(Guards {
        statement_timeout_ms,
        lock_timeout_ms,
        idle_in_transaction_ms,
        search_path: search_path.into_iter().map(|schema| schema.value).collect(),
    })
}

pub(super) fn read_observe(table: &Table<'_>) -> Option<Observe> {
    let until = table.date("until");
    if !table.has("until") {
        table.error(
            "until",
            "is required here: what is only observed needs an end, a date such as 2027-03-31",
        );
    }
    let reason = table.required_string("reason");
    let until = until?;
    Some(Observe { until_day: days_since_1970(until), until: until.to_string(), reason: reason? })
}

/// Days of the civil calendar (Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days_since_1970(date: Date) -> i64 {
    let month = i64::from(date.month);
    let year = i64::from(date.year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A word of which this version does only one.
pub(super) fn built_choice(table: &Table<'_>, key: &str, built: &str, planned: &[&str]) {
    let mut choices: Vec<(&str, bool)> = vec![(built, true)];
    choices.extend(planned.iter().map(|word| (*word, false)));
    if table.choice(key, &choices) == Some(false) {
        table.error(key, format!("is not built into this version; write \"{built}\""));
    }
}

pub(super) fn read_test_principal(table: &Table<'_>) -> Option<TestPrincipal> {
    let Some(shape) = table.shape("as") else {
        if !table.has("as") {
            table.error(
                "as",
                "is required here: a JSON file with claims, or { issuer = …, groups = [...], … }",
            );
        }
        return None;
    };
    match shape.value {
        Shape::Text(file) => Some(TestPrincipal::File(file)),
        Shape::Table(claims) => Some(TestPrincipal::Inline(json_of(&claims))),
        other @ (Shape::Integer(_)
        | Shape::Float(_)
        | Shape::Boolean(_)
        | Shape::Datetime(_)
        | Shape::List(_)) => {
            table.error("as", format!("must be a path or a table of claims, not {}", other.kind()));
            other.abandon();
            None
        }
    }
}

fn json_of(table: &Table<'_>) -> Map<String, Value> {
    table
        .rest()
        .into_iter()
        .filter_map(|key| {
            let shape = table.shape(&key)?;
            Some((key, json_value(shape.value)))
        })
        .collect()
}

fn json_value(shape: Shape<'_>) -> Value {
    match shape {
        Shape::Text(text) => text.into(),
        Shape::Integer(integer) => integer.into(),
        Shape::Float(float) => float.into(),
        Shape::Boolean(boolean) => boolean.into(),
        Shape::Datetime(datetime) => datetime.to_string().into(),
        Shape::List(items) => items.into_iter().map(|item| json_value(item.value)).collect(),
        Shape::Table(table) => json_of(&table).into(),
    }
}

pub(super) fn read_expect(table: &Table<'_>) -> Option<Expect> {
    let Some(expect) = table.table("expect") else {
        if !table.has("expect") {
            table.error("expect", "is required here: expect = { action = \"allow\" }");
        }
        return None;
    };
    let actions = [("allow", "allow"), ("hold", "hold"), ("refuse", "refuse")];
    let action = expect.required_choice("action", &actions);
    let fields = expect.strings("fields").map(|fields| fields.into_iter().map(|field| field.value).collect());
    let rules = expect.strings("rules").unwrap_or_default().into_iter().map(|rule| rule.value).collect();
    Some(Expect { action: action?.to_owned(), fields, rules })
}
