//! A statement as the evidence tells it.
//!
//! Owns: the translation of facts and resolution into the recorded form, made once for a decision. May not: hold a
//! literal: names, classes and tags only.

use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::value::redacted;
use pgturnstile_rules::policy::{Judgement, Rule};
use pgturnstile_rules::resolve::{Reach, Resolution};
use pgturnstile_rules::statement::facts::{Predicate, SettingAction, StatementFacts};

use crate::evidence::record::v1;

/// What is recorded of one statement.
pub fn facts(statement: &StatementFacts, resolution: &Resolution) -> v1::Facts {
    v1::Facts {
        class: statement.class.name().to_owned(),
        tag: statement.tag.to_owned(),
        relations: resolution
            .relations
            .iter()
            .map(|relation| v1::Relation {
                name: format!("{}.{}", relation.schema, relation.name),
                access: relation.class.name().to_owned(),
                what: reach(relation.reach).to_owned(),
                blind: relation.predicate == Predicate::Absent,
            })
            .collect(),
        functions: resolution
            .functions
            .iter()
            .map(|function| format!("{}.{}", function.schema, function.name))
            .collect(),
        acts: statement
            .acts
            .iter()
            .map(|act| match &act.object {
                Some(object) => format!("{} {}", act.class, object.name),
                None => act.class.name().to_owned(),
            })
            .collect(),
        settings: statement
            .settings
            .iter()
            .map(|setting| {
                let action = match setting.action {
                    SettingAction::Show => "show",
                    SettingAction::Set => "set",
                    SettingAction::Reset => "reset",
                    SettingAction::Persist => "persist",
                };
                format!("{action} {}", setting.name.as_deref().unwrap_or("*"))
            })
            .collect(),
        unproven: resolution.unproven.as_deref().map(str::to_owned),
    }
}

/// Takes out of its names what the detectors find there: nobody keeps a client from putting a value into an alias.
pub fn redact(facts: &mut v1::Facts, detectors: &Detectors) {
    let v1::Facts { class: _, tag: _, relations, functions, acts, settings, unproven } = facts;
    let relations = relations.iter_mut().map(|relation| &mut relation.name);
    for name in relations.chain(functions).chain(acts).chain(settings).chain(unproven) {
        if let Some(redacted) = redacted(detectors, name) {
            *name = redacted;
        }
    }
}

/// The rules that spoke, one line.
pub fn rules(judgement: &Judgement) -> String {
    let mut line = String::new();
    for rule in &judgement.rules {
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&named(rule));
    }
    for observed in &judgement.observed {
        line.push_str(&format!("; observed: {} would {}", named(&observed.rule), observed.would));
    }
    line
}

/// A rule as messages and records name it.
pub fn named(rule: &Rule) -> String {
    format!("{} ({})", rule.id, rule.place)
}

/// What a relation is, in a word.
pub fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Table => "table",
        Reach::View => "view",
        Reach::MaterializedView => "materialized view",
        Reach::Sequence => "sequence",
        Reach::Foreign => "foreign table",
        Reach::Temporary => "temporary",
        Reach::Catalog => "catalog",
        Reach::DataBearingCatalog => "data-bearing catalog",
        Reach::New => "new",
        Reach::Unresolved => "unresolved",
    }
}
