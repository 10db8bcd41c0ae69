//! From what judged a statement to what is recorded of it.
//!
//! Owns: the words of [`v1::Facts`]. May not: be on the hot path: the result is kept beside the cached facts and recorded
//! as often as the text comes. Everything in it is a name or a class, nothing a value: constants of a text never get here.

use pgturnstile_rules::resolve::{Code, Reach, Resolution};
use pgturnstile_rules::statement::facts::{
    Act, NameUse, Predicate, SettingAction, SettingUse, StatementFacts,
};

use super::record::v1::{Facts, Relation};

/// What is recorded of one statement. Relations and functions are the resolved ones.
pub fn facts(statement: &StatementFacts, resolution: &Resolution) -> Facts {
    let relations = resolution.relations.iter().map(|relation| Relation {
        name: format!("{}.{}", relation.schema, relation.name),
        access: relation.class.name().to_owned(),
        what: reach(relation.reach).to_owned(),
        blind: match relation.predicate {
            Predicate::Absent => true,
            Predicate::Present | Predicate::NotApplicable => false,
        },
    });
    let functions = resolution
        .functions
        .iter()
        .map(|function| format!("{}.{}({})", function.schema, function.name, function.arguments));
    let code = match &resolution.code {
        Code::Free => None,
        Code::ThroughRelations(why) => Some(format!("code through relations: {why}")),
        Code::Named(why) => Some(format!("code: {why}")),
    };
    Facts {
        class: statement.class.name().to_owned(),
        tag: statement.tag.to_owned(),
        relations: relations.collect(),
        functions: functions.collect(),
        acts: statement.acts.iter().map(act).chain(code).collect(),
        settings: statement.settings.iter().map(setting).collect(),
        unproven: resolution.unproven.as_deref().map(str::to_owned),
    }
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Table => "table",
        Reach::View => "view",
        Reach::MaterializedView => "materialized view",
        Reach::Sequence => "sequence",
        Reach::Foreign => "foreign table",
        Reach::Temporary => "temporary relation",
        Reach::Catalog => "catalog",
        Reach::DataBearingCatalog => "data-bearing catalog",
        Reach::New => "to be created",
        Reach::Unresolved => "unresolved",
    }
}

fn name(name: &NameUse) -> String {
    let parts = [name.catalog.as_deref(), name.schema.as_deref(), Some(name.name.as_str())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(".")
}

fn act(act: &Act) -> String {
    match &act.object {
        Some(object) => format!("{} {} ({})", act.class.name(), name(object), act.why),
        None => format!("{} ({})", act.class.name(), act.why),
    }
}

fn setting(setting: &SettingUse) -> String {
    let action = match setting.action {
        SettingAction::Show => "show",
        SettingAction::Set if setting.local => "set local",
        SettingAction::Set => "set",
        SettingAction::Reset => "reset",
        SettingAction::Persist => "persist",
    };
    format!("{action} {}", setting.name.as_deref().unwrap_or("(any)"))
}
