//! What must hold of every policy and every statement.

use std::sync::Arc;

use proptest::prelude::*;

use super::support::{act, context, function, principal, relation, resolution, statement};
use super::twin;
use crate::class::Class;
use crate::policy::condition::{Condition, Phase};
use crate::policy::group::{Group, Match};
use crate::policy::model::{
    Access, Classes, Disclose, Durability, Groups, Guards, Hold, HoldMode, Mode, Model, Observe, Permit,
    Restrict, Rule, Targets, Then,
};
use crate::policy::pattern::{Glob, On, Pattern};
use crate::policy::{Action, Place, Policy, Principal};
use crate::resolve::{Reach, Resolution};
use crate::statement::facts::{ObjectKind, Predicate, SettingAction, SettingUse, StatementFacts};

const PATTERNS: &[&str] = &[
    "*",
    "crm.*",
    "crm.orders",
    "*.orders",
    "crm.o*",
    "mart.*",
    "*.*",
    "*art.*",
    "kind:table",
    "kind:view",
    "kind:catalog",
    "kind:temp",
    "pg_catalog.*",
    "pg_catalog.pg_stats",
    "pg_catalog.pg_st*",
    "pg_temp.*",
    "fn:crm.*",
    "fn:crm.f(integer)",
    "fn:crm.f",
    "fn:*.f",
    "setting:*",
    "setting:app.*",
    "kind:client-setting",
    "kind:guard-setting",
    "kind:show",
];
const CLASSES: &[&str] = &[
    "*",
    "read",
    "read.select",
    "write",
    "write.delete",
    "write.update",
    "ddl",
    "ddl.drop",
    "ddl.code",
    "call",
    "call.function",
    "session",
    "session.set",
    "session.transaction",
    "dcl",
    "admin",
    "unknown",
    "export",
    "export.copy_out",
    "export.replication",
];
const REACHES: &[Reach] = &[
    Reach::Table,
    Reach::View,
    Reach::MaterializedView,
    Reach::Sequence,
    Reach::Foreign,
    Reach::Temporary,
    Reach::Catalog,
    Reach::DataBearingCatalog,
    Reach::New,
    Reach::Unresolved,
];
const NAMES: &[&str] = &[
    "crm.orders",
    "crm.items",
    "mart.orders",
    "mart.facts",
    "pg_catalog.pg_stats",
    "pg_catalog.pg_class",
    "pg_temp.orders",
    "other.thing",
];

fn classes() -> impl Strategy<Value = Classes> {
    proptest::collection::vec(proptest::sample::select(CLASSES), 1..3).prop_map(|words| {
        words.iter().fold(Classes::default(), |all, word| all.union(Classes::covered_by(word)))
    })
}

fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    proptest::collection::vec(proptest::sample::select(PATTERNS), 1..4)
        .prop_map(|texts| texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect())
}

fn groups() -> impl Strategy<Value = Groups> {
    prop_oneof![Just(Groups::Everyone), Just(Groups::Listed(vec![0])), Just(Groups::Listed(vec![1]))]
}

fn targets() -> impl Strategy<Value = Targets> {
    prop_oneof![4 => Just("*"), 1 => Just("crm-prod"), 1 => Just("elsewhere")]
        .prop_map(|target| Targets(vec![Glob::new(target)]))
}

fn rule() -> Rule {
    Rule { id: Arc::from("rule"), place: Place { file: Arc::from("policy.toml"), line: 1 } }
}

fn permit() -> impl Strategy<Value = Permit> {
    (classes(), patterns(), groups(), targets()).prop_map(|(classes, on, groups, targets)| Permit {
        rule: rule(),
        groups,
        targets,
        classes,
        on: On::new(on),
        disclose: Disclose::Masked,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Predicate(Predicate::Absent)),
        Just(Condition::Predicate(Predicate::Present)),
        any::<bool>().prop_map(Condition::InTransaction),
        patterns().prop_map(Condition::Touches),
        Just(Condition::TextDigestIn(vec![[7; 32]])),
        Just(Condition::TextDigestIn(vec![[8; 32]])),
        Just(Condition::NotBuilt { key: "plan", phase: Phase::Context }),
    ]
}

fn then() -> impl Strategy<Value = Then> {
    let hold = Hold {
        approvers: vec![1],
        quorum: 1,
        ttl_s: 1,
        in_transaction_ttl_s: 1,
        ticket_ttl_s: None,
        mode: HoldMode::Wait,
    };
    prop_oneof![Just(Then::Hold(hold)), Just(Then::Cut), Just(Then::Refuse)]
}

fn restrict() -> impl Strategy<Value = Restrict> {
    let conditions = || proptest::collection::vec(condition(), 0..3);
    let observe = prop_oneof![
        4 => Just(None),
        1 => prop_oneof![Just(0_i64), Just(100_000)].prop_map(|until_day| {
            Some(Observe { until_day, until: "a day".into(), reason: "a reason".into() })
        }),
    ];
    (classes(), patterns(), groups(), targets(), conditions(), conditions(), then(), observe).prop_map(
        |(classes, on, groups, targets, when, unless, then, observe)| Restrict {
            rule: rule(),
            groups,
            targets,
            classes,
            on: On::new(on),
            when,
            unless,
            then,
            message: None,
            observe,
        },
    )
}

fn model(permits: Vec<Permit>, restricts: Vec<Restrict>) -> Model {
    let group = |name: &str| Group {
        name: name.into(),
        place: Place { file: Arc::from("policy.toml"), line: 1 },
        any: vec![Match { issuer: "corp".into(), groups: Some(vec![name.to_owned()]), claims: Vec::new() }],
    };
    let access = Access {
        id: "all".into(),
        place: Place { file: Arc::from("policy.toml"), line: 1 },
        groups: Groups::Everyone,
        targets: Targets(vec![Glob::Any]),
        login: "login".into(),
        mode: Mode::Write,
        guards: Guards { search_path: vec!["crm".into(), "mart".into()], ..Guards::default() },
        durability: Durability::Gated,
        record: None,
        record_rows_bytes_max: None,
    };
    Model {
        groups: vec![group("g"), group("other")],
        accesses: vec![Arc::new(access)],
        permits,
        restricts,
        ..Model::default()
    }
}

fn who() -> impl Strategy<Value = Principal> {
    prop_oneof![
        4 => Just(Some(&["g"][..])),
        1 => Just(Some(&["g", "other"][..])),
        1 => Just(Some(&[][..])),
        1 => Just(None),
    ]
    .prop_map(principal)
}

fn setting() -> impl Strategy<Value = SettingUse> {
    const NAMES: &[&str] =
        &["datestyle", "statement_timeout", "search_path", "app.tenant", "log_statement", "enable_seqscan"];
    (
        proptest::option::of(proptest::sample::select(NAMES)),
        proptest::sample::select(
            &[SettingAction::Show, SettingAction::Set, SettingAction::Reset, SettingAction::Persist][..],
        ),
    )
        .prop_map(|(name, action)| SettingUse {
            name: name.map(str::to_owned),
            action,
            value: None,
            local: false,
        })
}

prop_compose! {
    fn asked_for()(
        class in proptest::sample::select(Class::ALL),
        relations in proptest::collection::vec(
            (proptest::sample::select(NAMES), proptest::sample::select(REACHES), proptest::sample::select(Class::ALL), any::<bool>()),
            0..4,
        ),
        functions in proptest::collection::vec(
            (proptest::sample::select(&["crm.f", "crm.g", "mart.f"][..]), proptest::sample::select(&["", "integer", "text"][..])),
            0..2,
        ),
        acts in proptest::collection::vec(
            (
                proptest::sample::select(Class::ALL),
                proptest::option::of(proptest::sample::select(&["crm.orders", "orders", "crm", "f"][..])),
                proptest::sample::select(&[
                    ObjectKind::Relation, ObjectKind::Schema, ObjectKind::AllInSchema, ObjectKind::Function,
                    ObjectKind::Type, ObjectKind::Role, ObjectKind::Other,
                ][..]),
            ),
            0..3,
        ),
        settings in proptest::collection::vec(setting(), 0..2),
        cascade in any::<bool>(),
    ) -> (StatementFacts, Resolution) {
        let mut facts = statement(class, "TAG");
        facts.flags.cascade = cascade;
        facts.settings = settings;
        facts.acts = acts
            .into_iter()
            .map(|(class, object, kind)| {
                let mut act = act(class, object);
                act.kind = kind;
                act
            })
            .collect();
        let mut reached = resolution();
        reached.relations = relations
            .into_iter()
            .map(|(name, reach, class, present)| {
                let mut relation = relation(name, class, reach);
                relation.predicate = if present { Predicate::Present } else { Predicate::Absent };
                relation
            })
            .collect();
        reached.functions = functions.into_iter().map(|(name, arguments)| function(name, arguments)).collect();
        (facts, reached)
    }
}

fn verdict(policy: &Policy, who: &Principal, case: &(StatementFacts, Resolution)) -> (Action, Action) {
    let subject = policy.subject(who, "crm-prod", None).expect("an access entry");
    let judgement = policy.judge(&subject, &case.0, &case.1, &context());
    assert_eq!(judgement.action == Action::Allow, judgement.asked == Action::Allow);
    assert_eq!(judgement.action == Action::Allow, judgement.message.is_empty());
    assert!(!judgement.message.contains(char::is_control));
    (judgement.action, judgement.asked)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_the_naive_twin(
        permits in proptest::collection::vec(permit(), 0..6),
        restricts in proptest::collection::vec(restrict(), 0..6),
        who in who(),
        case in asked_for(),
    ) {
        let policy = Policy::of_model(model(permits, restricts));
        let twin = twin::asked(&policy, &who, "crm-prod", &case.0, &case.1, &context());
        prop_assert_eq!(verdict(&policy, &who, &case).1, twin);
    }

    #[test]
    fn one_more_restrict_never_loosens_and_one_more_permit_never_tightens(
        permits in proptest::collection::vec(permit(), 0..5),
        restricts in proptest::collection::vec(restrict(), 0..5),
        more_permit in permit(),
        more_restrict in restrict(),
        who in who(),
        case in asked_for(),
    ) {
        let before = verdict(&Policy::of_model(model(permits.clone(), restricts.clone())), &who, &case);
        let mut tighter = restricts.clone();
        tighter.push(more_restrict);
        let tighter = verdict(&Policy::of_model(model(permits.clone(), tighter)), &who, &case);
        prop_assert!(tighter.0 >= before.0 && tighter.1 >= before.1, "{:?} then {:?}", before, tighter);
        let mut wider = permits;
        wider.push(more_permit);
        let wider = verdict(&Policy::of_model(model(wider, restricts)), &who, &case);
        prop_assert!(wider.0 <= before.0 && wider.1 <= before.1, "{:?} then {:?}", before, wider);
    }

    #[test]
    fn order_does_not_matter(
        permits in proptest::collection::vec(permit(), 0..5),
        restricts in proptest::collection::vec(restrict(), 0..5),
        who in who(),
        case in asked_for(),
    ) {
        let before = verdict(&Policy::of_model(model(permits.clone(), restricts.clone())), &who, &case);
        let reversed = model(permits.into_iter().rev().collect(), restricts.into_iter().rev().collect());
        prop_assert_eq!(verdict(&Policy::of_model(reversed), &who, &case), before);
    }

    #[test]
    fn what_a_pattern_covers_it_touches(
        text in proptest::sample::select(PATTERNS),
        class in proptest::sample::select(Class::ALL),
        case in asked_for(),
    ) {
        let on = On::new(vec![Pattern::parse(text).expect("a pattern")]);
        for atom in crate::policy::atoms::atoms(&case.0, &case.1, &["crm".to_owned()]) {
            // A statement that names no object is covered by any permit of its class and touched only by `*`.
            if atom.object == crate::policy::object::Object::Whole {
                continue;
            }
            prop_assert!(!on.covers(class, &atom.object) || on.touches(class, &atom.object), "{} {:?}", text, atom);
        }
    }

    #[test]
    fn no_text_of_a_policy_panics(text in "\\PC{0,200}") {
        drop(Policy::from_text("policy.toml", &text, None));
    }

    #[test]
    fn no_pattern_panics(text in "\\PC{0,40}") {
        drop(Pattern::parse(&text));
    }

    #[test]
    fn globs_agree_with_a_naive_matcher(glob in "[ab*]{0,6}", name in "[ab]{0,8}") {
        fn naive(glob: &[u8], name: &[u8]) -> bool {
            match (glob.split_first(), name.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => naive(rest, name) || (!name.is_empty() && naive(glob, &name[1..])),
                (Some((one, rest)), Some((other, left))) => one == other && naive(rest, left),
                (None, Some(_)) | (Some(_), None) => false,
            }
        }
        prop_assert_eq!(Glob::new(&glob).matches(&name), naive(glob.as_bytes(), name.as_bytes()));
    }
}
