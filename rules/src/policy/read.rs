//! The tables of a policy, one reader for each.
//!
//! Owns: the keys of policy.toml and their checks (config.md). May not: open files, judge. Every reader goes on after an
//! error, so that one run names them all; the load fails if there was one.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::class::Class;
use crate::document::Place as DocumentPlace;
use crate::document::{Date, Diagnostics, Located, Shape, Table, Unique, name_fault, unknown_word};
use crate::policy::condition::{self, Condition};
use crate::policy::group::{Group, Match};
use crate::policy::model::{
    Access, Canonical, Classes, Defaults, Disclose, Durability, Expect, Groups, Guards, Hold, Label, Mask,
    Mode, Model, Observe, Permit, Record, Restrict, Rule, Targets, Test, TestPrincipal, Then, Vouch,
};
use crate::policy::object::{Glob, On, Pattern, Tier, split_parts};
use crate::policy::packs::Pack;
use crate::policy::place::Place;

/// Longest `statement_timeout` and the like: what the server takes (int, milliseconds).
const TIMEOUT_MS_MAX: u64 = 2_147_483_647;
/// Longest life of a hold or ticket, seconds: a year.
const TTL_S_MAX: u64 = 31_536_000;
/// Most approvers that one hold may need.
const QUORUM_MAX: u64 = 16;

/// Which file a table stands in.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// How decisions name it.
    pub(crate) file: Arc<str>,
    /// What stands in front of its ids.
    pub(crate) prefix: Option<String>,
    /// Whether it may hold what adds: permits, access entries, vouches.
    pub(crate) permits: bool,
    /// Whether it is the policy itself.
    pub(crate) top: bool,
    /// The shipped pack that it is.
    pub(crate) pack: Option<&'static Pack>,
}

impl Origin {
    fn place(&self, place: &DocumentPlace) -> Place {
        Place { file: Arc::clone(&self.file), line: u32::try_from(place.line).unwrap_or(u32::MAX) }
    }

    fn id(&self, id: &str) -> Arc<str> {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{id}").into(),
            None => Arc::from(id),
        }
    }
}

/// A model with the places that later checks report at.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) model: Model,
    pub(crate) permit_places: Vec<RulePlaces>,
    pub(crate) restrict_places: Vec<RulePlaces>,
    pub(crate) label_places: Vec<DocumentPlace>,
}

/// Where the parts of a rule stand.
pub(crate) struct RulePlaces {
    pub(crate) whole: DocumentPlace,
    pub(crate) on: Vec<DocumentPlace>,
    pub(crate) when: DocumentPlace,
    pub(crate) unless: DocumentPlace,
    pub(crate) then: DocumentPlace,
}

impl Draft {
    pub(crate) fn into_model(self) -> Model {
        self.model
    }
}

/// Reads every table of every file into one draft.
pub(crate) struct Reader<'d> {
    diagnostics: &'d Diagnostics,
    draft: Draft,
    groups: HashMap<String, usize>,
    group_names: Unique,
    ids: Unique,
    test_names: Unique,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(diagnostics: &'d Diagnostics) -> Self {
        Self {
            diagnostics,
            draft: Draft::default(),
            groups: HashMap::new(),
            group_names: Unique::new(),
            ids: Unique::new(),
            test_names: Unique::new(),
        }
    }

    pub(crate) fn finish(self) -> Draft {
        self.draft
    }

    /// `[group.NAME]`.
    pub(crate) fn groups(&mut self, root: &Table<'_>, origin: &Origin) {
        for (name, table) in root.named_tables("group") {
            let entries = table.tables("any");
            if entries.is_empty() {
                table.error(
                    "any",
                    "must hold at least one { issuer = …, … }; a group without one has nobody in it",
                );
            }
            let any = entries.iter().filter_map(read_match).collect();
            if !self.group_names.claim(&name.value, &name.place, self.diagnostics) {
                continue;
            }
            self.groups.insert(name.value.clone(), self.draft.model.groups.len());
            self.draft.model.groups.push(Group {
                name: name.value.into(),
                place: origin.place(&name.place),
                any,
            });
        }
    }

    /// Everything but groups and `[[observe]]`.
    pub(crate) fn rules(&mut self, root: &Table<'_>, origin: &Origin) {
        if origin.top {
            // Read before (load.rs); asked again, so that it is no unknown key.
            if let Some(include) = root.shape("include") {
                include.value.abandon();
            }
        } else if root.has("include") {
            root.error("include", "only the policy itself includes files");
            if let Some(include) = root.shape("include") {
                include.value.abandon();
            }
        }
        self.defaults(root, origin);
        let adds = ["permit", "access", "vouch"];
        for key in adds.into_iter().filter(|key| !origin.permits && root.has(key)) {
            root.error(
                key,
                "adds rights; an included file may do so only with allow_permits = true in the include",
            );
        }
        for table in root.tables("access") {
            self.access(&table, origin);
        }
        for table in root.tables("label") {
            self.label(&table, origin);
        }
        for table in root.tables("vouch") {
            self.vouch(&table, origin);
        }
        for table in root.tables("permit") {
            self.permit(&table, origin);
        }
        for table in root.tables("restrict") {
            self.restrict(&table, origin);
        }
        for table in root.tables("test") {
            self.test(&table, origin);
        }
    }

    /// `[[observe]]`: a restrict of an included file is only measured for a while.
    pub(crate) fn observes(&mut self, root: &Table<'_>, origin: &Origin) {
        for table in root.tables("observe") {
            if !origin.top {
                table.error_here("only the policy itself switches restricts to observe");
            }
            let id = table.required_name("rule");
            let observe = read_observe(&table);
            let Some(id) = id else { continue };
            let restrict = self.draft.model.restricts.iter_mut().find(|restrict| *restrict.rule.id == *id);
            match restrict {
                None => table.error("rule", "names no restrict; rules of a pack are written PACK.ID"),
                Some(restrict) if restrict.observe.is_some() => {
                    table.error("rule", "is under observe already");
                }
                Some(restrict) => restrict.observe = observe,
            }
        }
    }

    fn defaults(&mut self, root: &Table<'_>, origin: &Origin) {
        let Some(table) = root.table("defaults") else { return };
        if !origin.top {
            table.error_here("only the policy itself sets defaults");
        }
        // None of these moves anything yet, and what this version does stands first: the rest is not built.
        built_choice(&table, "unknown_lineage", "refuse", &["hold", "mask_text"]);
        built_choice(&table, "derived_mask", "null", &["constant"]);
        built_choice(&table, "catalog_drift", "bounded", &["stamped", "frozen"]);
        let record = match table.choice(
            "record",
            &[("digest", Some(Record::Digest)), ("text", Some(Record::Text)), ("rows", None)],
        ) {
            Some(None) => {
                table.error("record", "\"rows\" is not built into this version (it needs masking before anything is recorded); write \"digest\" or \"text\"");
                None
            }
            Some(record) => record,
            None => None,
        };
        let defaults = Defaults::default();
        self.draft.model.defaults = Defaults {
            record: record.unwrap_or(defaults.record),
            record_rows_bytes_max: table
                .integer("record_rows_bytes_max", 1..=1 << 40)
                .unwrap_or(defaults.record_rows_bytes_max),
        };
    }

    fn access(&mut self, table: &Table<'_>, origin: &Origin) {
        let rule = self.rule(table, origin);
        let groups = self.groups_of(table);
        let targets = read_targets(table);
        let login = table.required_name("login");
        let mode = table.required_choice("mode", &[("read", Mode::Read), ("write", Mode::Write)]);
        let durability = table
            .choice("durability", &[("gated", Durability::Gated), ("queued", Durability::Queued)])
            .unwrap_or(Durability::Gated);
        let guards = read_guards(table);
        let (Some(rule), Some(groups), Some(targets), Some(login), Some(mode), Some(guards)) =
            (rule, groups, targets, login, mode, guards)
        else {
            return;
        };
        let Rule { id, place } = rule;
        self.draft.model.accesses.push(Arc::new(Access {
            id,
            place,
            groups,
            targets,
            login,
            mode,
            guards,
            durability,
        }));
    }

    fn label(&mut self, table: &Table<'_>, origin: &Origin) {
        let column = table.required_string("column");
        let tiers = Tier::ALL.map(|tier| (tier.name(), tier));
        let tier = table.required_choice("tier", &tiers);
        let mask = table.required_choice("mask", Mask::NAMES);
        let entropy_bits = table.integer("entropy_bits", 0..=4096).and_then(|bits| u32::try_from(bits).ok());
        let canonical = table.choice("canonical", Canonical::NAMES);
        let parts = column.as_deref().and_then(|column| {
            let parts = match split_parts(column) {
                Ok(parts) => {
                    <[Glob; 3]>::try_from(parts).map_err(|_| "must be schema.relation.column".to_owned())
                }
                Err(bad) => Err(bad.to_string()),
            };
            parts.map_err(|message| table.error("column", message)).ok()
        });
        let (Some(column), Some(parts), Some(tier), Some(mask)) = (column, parts, tier, mask) else { return };
        let place = table.place_of("column");
        self.draft.label_places.push(place.clone());
        let place = origin.place(&place);
        self.draft.model.labels.push(Label { place, column, parts, tier, mask, entropy_bits, canonical });
    }

    fn vouch(&mut self, table: &Table<'_>, origin: &Origin) {
        let function = table.required_string("function");
        if let Some(function) = &function
            && !matches!(
                Pattern::parse(&format!("fn:{function}")),
                Ok(Pattern::Function { arguments: Some(_), .. })
            )
        {
            table.error("function", "must be schema.name(argument types)");
        }
        let body = table.required_string("body");
        if let Some(body) = &body
            && body.strip_prefix("blake3:").and_then(|hex| blake3::Hash::from_hex(hex).ok()).is_none()
        {
            table.error("body", "must be blake3: and 64 hexadecimal digits");
        }
        let reads = table.strings("reads").unwrap_or_default();
        drop(condition::read_patterns(table, &reads));
        table.diagnostics().warn(
            &table.place(),
            "vouching for functions is not built into this version: the function needs a permit on fn: all the same",
        );
        let (Some(function), Some(body)) = (function, body) else { return };
        let reads = reads.into_iter().map(|read| read.value).collect();
        self.draft.model.vouches.push(Vouch { place: origin.place(&table.place()), function, body, reads });
    }

    fn permit(&mut self, table: &Table<'_>, origin: &Origin) {
        let rule = self.rule(table, origin);
        let groups = self.groups_of(table);
        let targets = read_targets(table);
        let classes = read_classes(table);
        let on = read_on(table);
        let disclose = read_disclose(table);
        let (Some(rule), Some(groups), Some(targets), Some(classes), Some((on, on_places))) =
            (rule, groups, targets, classes, on)
        else {
            return;
        };
        self.draft.permit_places.push(places(table, on_places));
        self.draft.model.permits.push(Permit { rule, groups, targets, classes, on, disclose });
    }

    fn restrict(&mut self, table: &Table<'_>, origin: &Origin) {
        let rule = self.rule(table, origin);
        let groups = self.groups_of(table);
        let targets = read_targets(table);
        let classes = read_classes(table);
        let on = read_on(table);
        let when = read_conditions(table, "when");
        let unless = read_conditions(table, "unless");
        let then = self.then(table);
        let message = table.string("message");
        if message.as_ref().is_some_and(|message| message.len() > 300 || message.contains(char::is_control)) {
            table.error(
                "message",
                "must be one line of at most 300 bytes; it stands inside the client's error message",
            );
        }
        let observe = table.table("observe").and_then(|observe| read_observe(&observe));
        let (Some(rule), Some(groups), Some(targets), Some(classes), Some((on, on_places)), Some(then)) =
            (rule, groups, targets, classes, on, then)
        else {
            return;
        };
        self.draft.restrict_places.push(places(table, on_places));
        self.draft.model.restricts.push(Restrict {
            rule,
            groups,
            targets,
            classes,
            on,
            when,
            unless,
            then,
            message,
            observe,
        });
    }

    fn then(&self, table: &Table<'_>) -> Option<Then> {
        #[derive(Clone, Copy, PartialEq)]
        enum Word {
            Hold,
            Cut,
            Refuse,
        }
        let choices = [("hold", Word::Hold), ("cut", Word::Cut), ("refuse", Word::Refuse)];
        let word = table.required_choice("then", &choices);
        let hold = match table.table("hold") {
            Some(hold) => self.hold(&hold),
            None => None,
        };
        if word.is_some_and(|word| word != Word::Hold) && table.has("hold") {
            table.error("hold", "says who approves, and `then` is not \"hold\"");
        }
        match word? {
            Word::Refuse => Some(Then::Refuse),
            Word::Cut => Some(Then::Cut),
            Word::Hold => {
                if !table.has("hold") {
                    table.error("then", "needs hold = { approvers = [...], quorum = …, ttl_s = …, in_transaction_ttl_s = …, ticket_ttl_s = … }");
                }
                hold.map(Then::Hold)
            }
        }
    }

    fn hold(&self, table: &Table<'_>) -> Option<Hold> {
        let approvers = table.required_strings("approvers");
        let approvers: Option<Vec<usize>> = approvers.map(|names| {
            names
                .iter()
                .filter_map(|name| {
                    if name.value == "*" {
                        table
                            .diagnostics()
                            .error(&name.place, "\"*\" would let anybody approve; name groups");
                        return None;
                    }
                    self.group(name)
                })
                .collect()
        });
        let quorum = table.required_integer("quorum", 1..=QUORUM_MAX);
        let ttl_s = table.required_integer("ttl_s", 1..=TTL_S_MAX);
        let in_transaction_ttl_s = table.required_integer("in_transaction_ttl_s", 1..=TTL_S_MAX);
        let ticket_ttl_s = table.required_integer("ticket_ttl_s", 1..=TTL_S_MAX);
        Some(Hold {
            approvers: approvers?,
            quorum: u32::try_from(quorum?).ok()?,
            ttl_s: ttl_s?,
            in_transaction_ttl_s: in_transaction_ttl_s?,
            ticket_ttl_s: ticket_ttl_s?,
        })
    }

    fn test(&mut self, table: &Table<'_>, origin: &Origin) {
        let name = table.required_string("name");
        let who = read_test_principal(table);
        let target = table.required_name("target");
        let catalog = table.string("catalog");
        let sql = table.required_string("sql");
        let in_transaction = table.boolean("in_transaction").unwrap_or(false);
        let expect = read_expect(table);
        let (Some(name), Some(who), Some(target), Some(sql), Some(expect)) = (name, who, target, sql, expect)
        else {
            return;
        };
        let place = table.place();
        let name = match &origin.prefix {
            Some(prefix) => format!("{prefix}: {name}"),
            None => name,
        };
        if !self.test_names.claim(&name, &table.place_of("name"), self.diagnostics) {
            return;
        }
        self.draft.model.tests.push(Test {
            name,
            place: origin.place(&place),
            pack: origin.pack,
            who,
            target,
            catalog,
            sql,
            in_transaction,
            expect,
        });
    }

    /// Id and place of a rule; ids of all rules and access entries are one name space.
    fn rule(&mut self, table: &Table<'_>, origin: &Origin) -> Option<Rule> {
        let id = origin.id(&table.required_name("id")?);
        if !self.ids.claim(&id, &table.place_of("id"), self.diagnostics) {
            return None;
        }
        if id.starts_with("builtin.") || &*id == "default-deny" {
            table.error("id", "is the name of a rule of the program; choose another");
        }
        Some(Rule { id, place: origin.place(&table.place_of("id")) })
    }

    fn groups_of(&self, table: &Table<'_>) -> Option<Groups> {
        let names = table.required_strings("groups")?;
        if names.iter().any(|name| name.value == "*") {
            if names.len() > 1 {
                table.error("groups", "\"*\" is everyone; the other names say nothing beside it");
            }
            return Some(Groups::Everyone);
        }
        Some(Groups::Listed(names.iter().filter_map(|name| self.group(name)).collect()))
    }

    fn group(&self, name: &Located<String>) -> Option<usize> {
        let position = self.groups.get(&name.value).copied();
        if position.is_none() {
            let known: Vec<&str> = self.draft.model.groups.iter().map(|group| &*group.name).collect();
            let message = if known.is_empty() {
                "no group is defined; write [group.NAME]".to_owned()
            } else {
                unknown_word(&name.value, &known)
            };
            self.diagnostics.error(&name.place, message);
        }
        position
    }
}

fn places(table: &Table<'_>, on: Vec<DocumentPlace>) -> RulePlaces {
    RulePlaces {
        whole: table.place_of("id"),
        on,
        when: table.place_of("when"),
        unless: table.place_of("unless"),
        then: table.place_of("then"),
    }
}

fn read_match(table: &Table<'_>) -> Option<Match> {
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

fn read_targets(table: &Table<'_>) -> Option<Targets> {
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

fn read_classes(table: &Table<'_>) -> Option<Classes> {
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
pub(crate) fn class_words() -> Vec<&'static str> {
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

fn read_on(table: &Table<'_>) -> Option<(On, Vec<DocumentPlace>)> {
    let entries = table.required_strings("on")?;
    let patterns = condition::read_patterns(table, &entries);
    if patterns.len() != entries.len() {
        return None;
    }
    let places = entries.into_iter().map(|entry| entry.place).collect();
    Some((On::new(patterns), places))
}

fn read_conditions(table: &Table<'_>, key: &str) -> Vec<Condition> {
    table.table(key).map(|conditions| condition::read_all(&conditions)).unwrap_or_default()
}

fn read_disclose(table: &Table<'_>) -> Disclose {
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

fn read_guards(table: &Table<'_>) -> Option<Guards> {
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
            name if name.len() > crate::policy::object::IDENTIFIER_BYTES_MAX => {
                Some("is longer than 63 bytes")
            }
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

fn read_observe(table: &Table<'_>) -> Option<Observe> {
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
fn built_choice(table: &Table<'_>, key: &str, built: &str, planned: &[&str]) {
    let mut choices: Vec<(&str, bool)> = vec![(built, true)];
    choices.extend(planned.iter().map(|word| (*word, false)));
    if table.choice(key, &choices) == Some(false) {
        table.error(key, format!("is not built into this version; write \"{built}\""));
    }
}

fn read_test_principal(table: &Table<'_>) -> Option<TestPrincipal> {
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

fn read_expect(table: &Table<'_>) -> Option<Expect> {
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
