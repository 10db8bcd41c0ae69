//! The tables of a policy, one reader for each.
//!
//! Owns: the keys of policy.toml and their checks (config.md). May not: open files, judge. Every reader goes on after an
//! error, so that one run names them all; the load fails if there was one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::document::Place as DocumentPlace;
use crate::document::{Diagnostics, Located, Table, Unique, unknown_word};
use crate::mask::detect::Detector;
use crate::mask::plan::Style;
use crate::policy::condition;
use crate::policy::group::Group;
use crate::policy::model::{
    Access, Canonical, DETECTOR_STYLES, Defaults, Detection, Drift, Durability, Groups, Hold, HoldMode,
    Label, Mask, Mode, Model, Permit, Restrict, Rule, Test, Then, Vouch,
};
use crate::policy::object::Tier;
use crate::policy::packs::Pack;
use crate::policy::pattern::{Glob, Pattern, split_parts};
use crate::policy::place::Place;
use crate::policy::values::{
    built_choice, places, read_classes, read_conditions, read_disclose, read_expect, read_guards, read_match,
    read_observe, read_on, read_record, read_targets, read_test_principal,
};

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
        for table in root.tables("detector") {
            self.detection(&table, origin);
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
        let drift = match table.choice(
            "catalog_drift",
            &[("bounded", Some(Drift::Bounded)), ("stamped", Some(Drift::Stamped)), ("frozen", None)],
        ) {
            Some(None) => {
                table.error("catalog_drift", "is not built into this version (nobody proves that only the gateway's roles may change the schema); write \"stamped\"");
                None
            }
            Some(drift) => drift,
            None => None,
        };
        let (record, rows_bytes_max) = read_record(&table);
        let defaults = Defaults::default();
        self.draft.model.defaults = Defaults {
            record,
            record_rows_bytes_max: rows_bytes_max.unwrap_or(defaults.record_rows_bytes_max),
            catalog_drift: drift.unwrap_or(defaults.catalog_drift),
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
        let (record, record_rows_bytes_max) = read_record(table);
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
            record,
            record_rows_bytes_max,
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
        let place = origin.place(&place);
        self.draft.model.labels.push(Label { place, column, parts, tier, mask, entropy_bits, canonical });
    }

    fn detection(&mut self, table: &Table<'_>, origin: &Origin) {
        let rule = self.rule(table, origin);
        let groups = self.groups_of(table);
        let targets = read_targets(table);
        let style = table.choice("mask", DETECTOR_STYLES).unwrap_or(Style::Fixed);
        let known: Vec<&str> = Detector::ALL.iter().map(|detector| detector.name()).collect();
        let mut detect = Vec::new();
        for word in table.required_strings("detect").unwrap_or_default() {
            let named =
                Detector::ALL.iter().filter(|detector| word.value == "*" || detector.name() == word.value);
            let before = detect.len();
            detect.extend(named);
            if detect.len() == before {
                table.diagnostics().error(&word.place, unknown_word(&word.value, &known));
            }
        }
        let (Some(rule), Some(groups), Some(targets)) = (rule, groups, targets) else { return };
        self.draft.model.detections.push(Detection { rule, groups, targets, detect, style });
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
                    table.error(
                        "then",
                        "needs hold = { approvers = [...], quorum = …, ttl_s = …, in_transaction_ttl_s = … }",
                    );
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
        let ticket_ttl_s = table.integer("ticket_ttl_s", 1..=TTL_S_MAX);
        let choices = [("wait", HoldMode::Wait), ("ticket", HoldMode::Ticket)];
        let mode = table.choice("mode", &choices).unwrap_or(HoldMode::Wait);
        if mode == HoldMode::Ticket && !table.has("ticket_ttl_s") {
            table.error("mode", "\"ticket\" needs ticket_ttl_s: how long a ticket may be decided and used");
        }
        Some(Hold {
            approvers: approvers?,
            quorum: u32::try_from(quorum?).ok()?,
            ttl_s: ttl_s?,
            in_transaction_ttl_s: in_transaction_ttl_s?,
            ticket_ttl_s,
            mode,
        })
    }

    fn test(&mut self, table: &Table<'_>, origin: &Origin) {
        let name = table.required_string("name");
        let who = read_test_principal(table);
        let target = table.required_name("target");
        let catalog = table.string("catalog");
        let before = table.strings("before").unwrap_or_default();
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
            before: before.into_iter().map(|text| text.value).collect(),
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
