//! Conditions of `when` and `unless`.
//!
//! Owns: the closed list of conditions with the phase in which each can be known (lineage.md 6.2), how they are read,
//! and the evaluation of those that are built. May not: decide what follows. Fails closed: a condition that is not built
//! counts as met in `when` and as not met in `unless`, and the loader says so.

use std::cell::RefCell;

use crate::document::{Located, Shape, Table, unknown_word};
use crate::policy::atoms::Atom;
use crate::policy::object::Tier;
use crate::policy::pattern::Pattern;
use crate::statement::facts::Predicate;

/// When the truth of a condition can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the text, the catalog and the session.
    Static,
    /// With the parameters.
    Bound,
    /// By one EXPLAIN.
    Estimate,
    /// While it runs.
    Running,
    /// From the world around: time, claims, network, budgets, plans.
    Context,
}

impl Phase {
    /// Its word in the reference.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Static => "static",
            Phase::Bound => "bound",
            Phase::Estimate => "estimate",
            Phase::Running => "running",
            Phase::Context => "context",
        }
    }
}

/// One key of `when` or `unless`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `predicate = "absent"` or `"present"`.
    Predicate(Predicate),
    /// `in_transaction = true` or `false`: whether a transaction block is open.
    InTransaction(bool),
    /// `touches = [...]`: the statement, in any of its atoms, may reach one of these.
    Touches(Vec<Pattern>),
    /// `text_digest_in = ["blake3:…"]`: the exact text is one of these.
    TextDigestIn(Vec<[u8; 32]>),
    /// Read and checked, but nothing evaluates it yet.
    NotBuilt {
        /// Its key.
        key: &'static str,
        /// When it could be known.
        phase: Phase,
    },
}

/// What the evaluation of conditions looks at.
pub(crate) struct Situation<'s> {
    /// Predicate of the atom at hand; [`Predicate::Absent`] for an update or delete that states none.
    pub(crate) predicate: Predicate,
    /// Every atom of the statement.
    pub(crate) atoms: &'s [Atom<'s>],
    /// Whether a transaction block is open.
    pub(crate) in_transaction: bool,
    /// blake3 of the text.
    pub(crate) text_digest: &'s [u8; 32],
    /// Tiers of the labels that the statement may reach.
    pub(crate) tiers: &'s [Tier],
    /// What `touches` conditions answered for this statement: they say the same of each of its atoms.
    pub(crate) touched: &'s RefCell<Vec<(usize, bool)>>,
}

impl Situation<'_> {
    fn touches(&self, patterns: &[Pattern]) -> bool {
        // Patterns live in the policy, which outlives the judgement: their address is their name.
        let key = patterns.as_ptr().addr();
        if let Some((_, known)) = self.touched.borrow().iter().find(|(of, _)| *of == key) {
            return *known;
        }
        let labelled =
            |pattern: &Pattern| matches!(pattern, Pattern::Label(tier) if self.tiers.contains(tier));
        let touches = patterns.iter().any(labelled)
            || self.atoms.iter().any(|atom| {
                atom.reaches().any(|object| patterns.iter().any(|pattern| pattern.touches(&object)))
            });
        self.touched.borrow_mut().push((key, touches));
        touches
    }
}

impl Condition {
    /// Its key.
    pub const fn key(&self) -> &'static str {
        match self {
            Condition::Predicate(_) => "predicate",
            Condition::InTransaction(_) => "in_transaction",
            Condition::Touches(_) => "touches",
            Condition::TextDigestIn(_) => "text_digest_in",
            Condition::NotBuilt { key, .. } => key,
        }
    }

    /// When it can be known.
    pub const fn phase(&self) -> Phase {
        match self {
            Condition::Predicate(_)
            | Condition::InTransaction(_)
            | Condition::Touches(_)
            | Condition::TextDigestIn(_) => Phase::Static,
            Condition::NotBuilt { phase, .. } => *phase,
        }
    }

    /// Whether it is evaluated by this version.
    pub const fn is_built(&self) -> bool {
        !matches!(self, Condition::NotBuilt { .. })
    }

    /// Whether it is met; `None` where nothing evaluates it yet.
    pub(crate) fn met(&self, situation: &Situation<'_>) -> Option<bool> {
        match self {
            Condition::Predicate(wanted) => Some(situation.predicate == *wanted),
            Condition::InTransaction(wanted) => Some(situation.in_transaction == *wanted),
            Condition::Touches(patterns) => Some(situation.touches(patterns)),
            Condition::TextDigestIn(digests) => Some(digests.contains(situation.text_digest)),
            Condition::NotBuilt { .. } => None,
        }
    }

    /// Its words in a reason: what was met.
    pub(crate) fn words(&self) -> String {
        match self {
            Condition::Predicate(Predicate::Absent) => "without a predicate".into(),
            Condition::Predicate(Predicate::Present) => "with a predicate".into(),
            Condition::Predicate(Predicate::NotApplicable) => "that is no update or delete".into(),
            Condition::InTransaction(true) => "inside a transaction".into(),
            Condition::InTransaction(false) => "outside a transaction".into(),
            Condition::Touches(patterns) => {
                let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
                format!("that touches {}", names.join(" or "))
            }
            Condition::TextDigestIn(_) => "with this very text".into(),
            Condition::NotBuilt { key, .. } => format!("under `{key}`, which this version cannot tell"),
        }
    }
}

/// A condition as the reference lists it, with the reader that checks its value.
pub struct Kind {
    /// The key.
    pub key: &'static str,
    /// When it can be known.
    pub phase: Phase,
    /// Whether this version evaluates it.
    pub built: bool,
    /// The type of its value.
    pub value: &'static str,
    /// What it means.
    pub meaning: &'static str,
    read: fn(&Table<'_>, &Kind) -> Option<Condition>,
}

const fn kind(
    key: &'static str,
    phase: Phase,
    value: &'static str,
    meaning: &'static str,
    read: fn(&Table<'_>, &Kind) -> Option<Condition>,
) -> Kind {
    Kind { key, phase, built: false, value, meaning, read }
}

const fn built(
    key: &'static str,
    value: &'static str,
    meaning: &'static str,
    read: fn(&Table<'_>, &Kind) -> Option<Condition>,
) -> Kind {
    Kind { key, phase: Phase::Static, built: true, value, meaning, read }
}

/// Every condition there is.
pub const KINDS: &[Kind] = &[
    built(
        "predicate",
        "\"absent\" or \"present\"",
        "whether a real predicate restricts the update or delete",
        read_predicate,
    ),
    built("in_transaction", "boolean", "whether a transaction block is open", read_in_transaction),
    built(
        "touches",
        "array of objects",
        "the statement may reach one of these, in whatever way",
        read_touches,
    ),
    built("text_digest_in", "array of \"blake3:…\"", "the exact text is one of these", read_digests),
    kind(
        "control",
        Phase::Static,
        "\"P0\" to \"P5\" or a range \"P4..\"",
        "how a labelled column steers the result",
        read_control,
    ),
    kind("lineage", Phase::Static, "\"unknown\"", "where a result comes from cannot be told", read_lineage),
    kind("parameter", Phase::Bound, "{ n, matches }", "a parameter matches a pattern", read_parameter),
    kind(
        "lookup_values_over",
        Phase::Bound,
        "integer",
        "more values of a labelled column are looked up",
        read_count,
    ),
    kind("estimated_rows_over", Phase::Estimate, "integer", "the planner expects more rows", read_count),
    kind("estimated_cost_over", Phase::Estimate, "integer", "the planner expects a higher cost", read_count),
    kind("returned_rows_over", Phase::Running, "integer", "more rows have been returned", read_count),
    kind("returned_bytes_over", Phase::Running, "integer", "more bytes have been returned", read_count),
    kind("affected_rows_over", Phase::Running, "integer", "more rows have been changed", read_count),
    kind(
        "outside",
        Phase::Context,
        "{ days, from, to, zone }",
        "the time is outside these hours",
        read_outside,
    ),
    kind(
        "claim",
        Phase::Context,
        "table of claim path to value",
        "verified claims have these values",
        read_claims,
    ),
    kind("environment", Phase::Context, "string", "the environment of the target", read_word),
    kind(
        "source_net",
        Phase::Context,
        "array of networks",
        "the client's address is in one of these",
        read_words,
    ),
    kind(
        "client_app",
        Phase::Context,
        "array of strings",
        "the application says it is one of these (unverified)",
        read_words,
    ),
    kind("budget", Phase::Context, "string", "the named budget is used up", read_word),
    kind("plan", Phase::Context, "\"approved\"", "the statement is part of an approved plan", read_plan),
];

/// Reads a whole `when` or `unless`; an empty one is an error, since it would say nothing.
pub(crate) fn read_all(table: &Table<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut present = false;
    for kind in KINDS {
        // Asked even when absent, so that a misspelt key is told the nearest known one.
        present |= table.has(kind.key);
        if let Some(condition) = (kind.read)(table, kind) {
            conditions.push(condition);
        }
    }
    if !present && table.rest().is_empty() {
        table.error_here("says nothing; name a condition, or leave the key out");
    }
    conditions
}

fn not_built(kind: &Kind) -> Condition {
    Condition::NotBuilt { key: kind.key, phase: kind.phase }
}

fn read_predicate(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table
        .choice(kind.key, &[("absent", Predicate::Absent), ("present", Predicate::Present)])
        .map(Condition::Predicate)
}

fn read_in_transaction(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table.boolean(kind.key).map(Condition::InTransaction)
}

fn read_touches(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let entries = table.strings(kind.key)?;
    if entries.is_empty() {
        table.error(kind.key, "must name at least one object");
        return None;
    }
    let patterns: Vec<Pattern> = read_patterns(table, &entries);
    (patterns.len() == entries.len()).then_some(Condition::Touches(patterns))
}

/// Reads entries of `on` or `touches`; those that cannot be read are reported and left out.
pub(crate) fn read_patterns(table: &Table<'_>, entries: &[Located<String>]) -> Vec<Pattern> {
    entries
        .iter()
        .filter_map(|entry| match Pattern::parse(&entry.value) {
            Ok(pattern) => Some(pattern),
            Err(bad) => {
                table.diagnostics().error(&entry.place, format!("\"{}\" {bad}", entry.value.escape_debug()));
                None
            }
        })
        .collect()
}

fn read_digests(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let entries = table.strings(kind.key)?;
    let mut digests = Vec::with_capacity(entries.len());
    for entry in &entries {
        let digest = entry.value.strip_prefix("blake3:").and_then(|hex| blake3::Hash::from_hex(hex).ok());
        match digest {
            Some(digest) => digests.push(*digest.as_bytes()),
            None => table.diagnostics().error(
                &entry.place,
                "must be blake3: and 64 hexadecimal digits, as `pgturnstile explain` prints them",
            ),
        }
    }
    if entries.is_empty() {
        table.error(kind.key, "must name at least one digest");
    }
    (!digests.is_empty() && digests.len() == entries.len()).then_some(Condition::TextDigestIn(digests))
}

fn read_control(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let text = table.string(kind.key)?;
    let grade = |text: &str| matches!(text.as_bytes(), [b'P', b'0'..=b'5']);
    let sound = match text.split_once("..") {
        None => grade(&text),
        Some((from, to)) => grade(from) && (to.is_empty() || grade(to)),
    };
    if !sound {
        table.error(kind.key, "must be a grade P0 to P5 or a range such as \"P4..\"");
        return None;
    }
    Some(not_built(kind))
}

fn read_lineage(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table.choice(kind.key, &[("unknown", ())]).map(|()| not_built(kind))
}

fn read_plan(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table.choice(kind.key, &[("approved", ())]).map(|()| not_built(kind))
}

fn read_parameter(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let parameter = table.table(kind.key)?;
    let n = parameter.required_integer("n", 1..=65_535);
    let matches = parameter.required_string("matches");
    (n.is_some() && matches.is_some()).then(|| not_built(kind))
}

fn read_count(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table.integer(kind.key, 0..=i64::MAX.unsigned_abs()).map(|_| not_built(kind))
}

fn read_word(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    table.string(kind.key).map(|_| not_built(kind))
}

fn read_words(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let words = table.strings(kind.key)?;
    if words.is_empty() {
        table.error(kind.key, "must name at least one");
        return None;
    }
    Some(not_built(kind))
}

fn read_outside(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let hours = table.table(kind.key)?;
    let days = hours.required_strings("days");
    for day in days.iter().flatten().filter(|day| !DAYS.contains(&day.value.as_str())) {
        hours.diagnostics().error(&day.place, unknown_word(&day.value, &DAYS));
    }
    for key in ["from", "to"] {
        if let Some(time) = hours.required_string(key)
            && !is_time_of_day(&time)
        {
            hours.error(key, "must be a time of day such as \"07:00\"");
        }
    }
    let zone = hours.required_string("zone");
    (days.is_some() && zone.is_some()).then(|| not_built(kind))
}

fn is_time_of_day(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else { return false };
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u8>().ok())
            .flatten()
    };
    match (number(hours), number(minutes)) {
        (Some(hour), Some(minute)) => (hour < 24 && minute < 60) || (hour == 24 && minute == 0),
        (Some(_) | None, _) => false,
    }
}

fn read_claims(table: &Table<'_>, kind: &Kind) -> Option<Condition> {
    let claims = table.table(kind.key)?;
    let values = read_claim_values(&claims, "");
    if values.is_empty() {
        claims.error_here("must name at least one claim");
        return None;
    }
    Some(not_built(kind))
}

/// Claim paths and the values they may have, from every key that nobody else asked for. `act.sub = "x"` and
/// `"act.sub" = "x"` mean the same.
pub(crate) fn read_claim_values(table: &Table<'_>, prefix: &str) -> Vec<(String, Vec<serde_json::Value>)> {
    let mut found = Vec::new();
    for key in table.rest() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let Some(shape) = table.shape(&key) else { continue };
        match shape.value {
            Shape::Table(inner) => {
                let nested = read_claim_values(&inner, &path);
                if nested.is_empty() && !inner.diagnostics().has_errors() {
                    inner.error_here("says nothing; write the value that the claim must have");
                }
                found.extend(nested);
            }
            Shape::List(items) => {
                let count = items.len();
                let values: Vec<_> = items.into_iter().filter_map(|item| claim_value(item.value)).collect();
                if values.is_empty() || values.len() != count {
                    table.error(&key, "must be an array of at least one string, integer or boolean");
                } else {
                    found.push((path, values));
                }
            }
            scalar @ (Shape::Text(_)
            | Shape::Integer(_)
            | Shape::Boolean(_)
            | Shape::Float(_)
            | Shape::Datetime(_)) => match claim_value(scalar) {
                Some(value) => found.push((path, vec![value])),
                None => table.error(&key, "must be a string, an integer, a boolean, or an array of those"),
            },
        }
    }
    found
}

fn claim_value(shape: Shape<'_>) -> Option<serde_json::Value> {
    match shape {
        Shape::Text(text) => Some(text.into()),
        Shape::Integer(integer) => Some(integer.into()),
        Shape::Boolean(boolean) => Some(boolean.into()),
        other @ (Shape::Float(_) | Shape::Datetime(_) | Shape::List(_) | Shape::Table(_)) => {
            other.abandon();
            None
        }
    }
}
