//! Statements, resolutions and identities made by hand.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::class::Class;
use crate::policy::{Context, Judgement, Policy, Principal, Subject};
use crate::resolve::{Code, Reach, Resolution, ResolvedFunction, ResolvedRelation};
use crate::statement::facts::{
    Act, Flags, NameUse, ObjectKind, Predicate, SettingAction, SettingUse, StatementFacts, TransactionControl,
};

pub(super) const DIGEST: [u8; 32] = [7; 32];

/// A policy of text, with a group `g` for issuer `corp`, an access entry for everyone and the given rules.
pub(super) fn policy(mode: &str, rules: &str) -> Policy {
    let text = format!(
        "version = 1\n[group.g]\nany = [{{ issuer = \"corp\", groups = [\"g\"] }}]\n\
         [group.other]\nany = [{{ issuer = \"corp\", groups = [\"other\"] }}]\n\
         [[access]]\nid = \"all\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nlogin = \"login\"\nmode = \"{mode}\"\n\
         guards = {{ search_path = [\"crm\"] }}\n{rules}"
    );
    match Policy::from_text("policy.toml", &text, None) {
        Ok(policy) => policy,
        Err(found) => panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

pub(super) fn permit(id: &str, classes: &str, on: &str) -> String {
    format!(
        "[[permit]]\nid = \"{id}\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nclasses = [{classes}]\non = [{on}]\n"
    )
}

pub(super) fn restrict(id: &str, classes: &str, on: &str, rest: &str) -> String {
    format!(
        "[[restrict]]\nid = \"{id}\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nclasses = [{classes}]\non = [{on}]\n{rest}\n"
    )
}

pub(super) fn principal(groups: Option<&[&str]>) -> Principal {
    Principal {
        issuer: "corp".into(),
        issuer_url: "https://id.example.com".into(),
        subject: "someone".into(),
        groups: groups.map(|groups| groups.iter().map(ToString::to_string).collect()),
        person: None,
        claims: Map::<String, Value>::new(),
        kept: Vec::new(),
        token_thumbprint: String::new(),
        token_id: None,
        issued_at_s: 0,
        expires_at_s: 0,
    }
}

pub(super) fn subject(policy: &Policy) -> Subject {
    policy.subject(&principal(Some(&["g"])), "crm-prod", None).expect("an access entry")
}

pub(super) fn statement(class: Class, tag: &'static str) -> StatementFacts {
    StatementFacts {
        range: 0..0,
        class,
        tag,
        acts: Vec::new(),
        relations: Vec::new(),
        newer: Vec::new(),
        functions: Vec::new(),
        operators: Vec::new(),
        types: Vec::new(),
        attributes: Vec::new(),
        settings: Vec::new(),
        transaction: None,
        named: None,
        copy: None,
        copy_spelling: None,
        flags: Flags::default(),
        parameters: 0,
        prepared: None,
        outline: crate::statement::outline::Outline::Opaque,
    }
}

pub(super) fn resolution() -> Resolution {
    Resolution {
        relations: Vec::new(),
        functions: Vec::new(),
        code: Code::Free,
        runs_code: false,
        runs_at_analysis: false,
        types_run_code: false,
        unproven: None,
        epoch: 1,
    }
}

pub(super) fn relation(name: &str, class: Class, reach: Reach) -> ResolvedRelation {
    let (schema, name) = name.split_once('.').expect("schema.name");
    let writes = matches!(class, Class::WriteUpdate | Class::WriteDelete);
    let predicate = if writes { Predicate::Present } else { Predicate::NotApplicable };
    ResolvedRelation { schema: schema.into(), name: name.into(), reach, kin: None, class, predicate }
}

pub(super) fn function(name: &str, arguments: &str) -> ResolvedFunction {
    let (schema, name) = name.split_once('.').expect("schema.name");
    ResolvedFunction {
        schema: schema.into(),
        name: name.into(),
        arguments: Arc::from(arguments),
        class: Class::CallFunction,
        category: None,
    }
}

pub(super) fn act(class: Class, object: Option<&str>) -> Act {
    let object = object.map(|object| match object.split_once('.') {
        Some((schema, name)) => {
            NameUse { catalog: None, schema: Some(schema.to_owned()), name: name.to_owned() }
        }
        None => NameUse { catalog: None, schema: None, name: object.to_owned() },
    });
    Act { class, object, kind: ObjectKind::Type, why: "test" }
}

pub(super) fn set(name: Option<&str>, value: Option<&str>, action: SettingAction) -> StatementFacts {
    let mut statement = statement(Class::SessionSet, "SET");
    statement.settings.push(SettingUse {
        name: name.map(str::to_owned),
        action,
        value: value.map(str::to_owned),
        local: false,
    });
    statement
}

pub(super) fn transaction(control: TransactionControl) -> StatementFacts {
    let mut statement = statement(Class::SessionTransaction, "BEGIN");
    statement.transaction = Some(control);
    statement
}

pub(super) fn context() -> Context<'static> {
    Context { in_transaction: false, text_digest: &DIGEST, now_s: 1_800_000_000, sight: None }
}

/// The verdict on a statement of `class` that reaches these relations.
pub(super) fn judge(policy: &Policy, class: Class, relations: Vec<ResolvedRelation>) -> Judgement {
    let mut resolution = resolution();
    resolution.relations = relations;
    policy.judge(&subject(policy), &statement(class, tag(class)), &resolution, &context())
}

fn tag(class: Class) -> &'static str {
    if class == Class::WriteDelete {
        "DELETE"
    } else if class == Class::WriteUpdate {
        "UPDATE"
    } else {
        "SELECT"
    }
}

/// The verdict on a statement without relations.
pub(super) fn judge_statement(policy: &Policy, statement: &StatementFacts) -> Judgement {
    policy.judge(&subject(policy), statement, &resolution(), &context())
}
