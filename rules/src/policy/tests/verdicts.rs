//! What comes out: permits add, restricts tighten, no permit means refuse.

use super::support::{
    act, context, function, judge, judge_statement, permit, policy, principal, relation, resolution,
    restrict, statement, subject,
};
use crate::class::Class;
use crate::policy::{Action, Context, NoAccess, Policy};
use crate::resolve::Reach;
use crate::statement::facts::{ObjectKind, Predicate};

const HOLD: &str = "then = \"hold\"\nhold = { approvers = [\"other\"], quorum = 1, ttl_s = 3_600, \
                    in_transaction_ttl_s = 60, ticket_ttl_s = 3_600 }";

#[test]
fn no_permit_means_refuse() {
    let policy = policy("write", "");
    let orders = relation("crm.orders", Class::ReadSelect, Reach::Table);
    let judgement = judge(&policy, Class::ReadSelect, vec![orders]);
    assert_eq!(judgement.action, Action::Refuse);
    assert_eq!(judgement.sqlstate, "42501");
    assert_eq!(
        judgement.message,
        "pgturnstile refused SELECT on crm.orders: no permit of yours covers read.select on it (rule default-deny, \
         built in). Next: ask whoever keeps the policy for a permit on read.select for crm.orders."
    );
    assert_eq!(judgement.message_with_reference("7K3Q"), format!("{} [ref 7K3Q]", judgement.message));
}

#[test]
fn a_blind_delete_that_the_policy_would_hold_is_refused_and_says_so() {
    let rules = permit("w", "\"write\"", "\"crm.*\"")
        + &restrict(
            "any.blind-write",
            "\"write.update\", \"write.delete\"",
            "\"*\"",
            &format!("when = {{ predicate = \"absent\" }}\n{HOLD}"),
        );
    let policy = policy("write", &rules);
    let mut blind = relation("crm.orders", Class::WriteDelete, Reach::Table);
    let judgement = judge(&policy, Class::WriteDelete, vec![blind.clone()]);
    assert_eq!(judgement.action, Action::Allow, "{}", judgement.message);
    blind.predicate = Predicate::Absent;
    let judgement = judge(&policy, Class::WriteDelete, vec![blind.clone()]);
    assert_eq!((judgement.action, judgement.asked), (Action::Hold, Action::Hold));
    assert_eq!(
        judgement.message,
        "DELETE on crm.orders: write.delete without a predicate needs approval (rule any.blind-write, policy.toml:20)"
    );
    assert_eq!(judgement.approvals.len(), 1);
    // A delete whose facts say nothing of a predicate has none.
    blind.predicate = Predicate::NotApplicable;
    assert_eq!(judge(&policy, Class::WriteDelete, vec![blind]).asked, Action::Hold);
}

#[test]
fn the_operators_own_words_stand_in_the_message() {
    let rules = permit("r", "\"read\"", "\"crm.*\"")
        + &restrict(
            "no",
            "\"read\"",
            "\"crm.orders\"",
            "then = \"refuse\"\nmessage = \"orders are read in the mart\"",
        );
    let judgement = judge(
        &policy("read", &rules),
        Class::ReadSelect,
        vec![relation("crm.orders", Class::ReadSelect, Reach::Table)],
    );
    assert_eq!(
        judgement.message,
        "pgturnstile refused SELECT on crm.orders: orders are read in the mart (rule no, policy.toml:20). Next: ask \
         whoever keeps the policy, if it must run."
    );
}

#[test]
fn names_cannot_break_out_of_the_message() {
    let evil = "crm.x\ny\u{2028}[ref 1]";
    let judgement = judge(
        &policy("read", ""),
        Class::ReadSelect,
        vec![relation(evil, Class::ReadSelect, Reach::Unresolved)],
    );
    assert!(judgement.message.contains("crm.x\\u{a}y\\u{2028}[ref 1]"), "{}", judgement.message);
    assert!(!judgement.message.contains('\n'));
}

#[test]
fn objects_that_permits_cover() {
    let select = Class::ReadSelect;
    for (on, name, reach, covered) in [
        ("crm.*", "crm.orders", Reach::Table, true),
        ("crm.*", "crm.orders", Reach::Unresolved, true),
        ("crm.*", "mart.orders", Reach::Table, false),
        ("crm.ord*", "crm.orders", Reach::Table, true),
        ("*.orders", "mart.orders", Reach::Table, true),
        ("kind:view", "crm.v", Reach::View, true),
        ("kind:view", "crm.v", Reach::Table, false),
        ("kind:temp", "pg_temp.t", Reach::Temporary, true),
        ("kind:catalog", "pg_catalog.pg_class", Reach::Catalog, true),
        ("kind:catalog", "pg_catalog.pg_stats", Reach::DataBearingCatalog, false),
        ("pg_catalog.*", "pg_catalog.pg_stats", Reach::DataBearingCatalog, false),
        ("pg_catalog.pg_stat*", "pg_catalog.pg_stats", Reach::DataBearingCatalog, false),
        ("*.*", "pg_catalog.pg_stats", Reach::DataBearingCatalog, false),
        ("pg_catalog.pg_stats", "pg_catalog.pg_stats", Reach::DataBearingCatalog, true),
        ("*", "pg_catalog.pg_stats", Reach::DataBearingCatalog, true),
        ("\\\"Crm\\\".\\\"My.Table\\\"", "Crm.My.Table", Reach::Table, true),
        ("fn:crm.*", "crm.orders", Reach::Table, false),
    ] {
        let on = format!("\"{on}\"");
        let policy = policy("write", &permit("p", "\"read\", \"call\"", &on));
        let (schema, rest) = name.split_once('.').expect("schema.name");
        let mut reached = relation("a.b", select, reach);
        reached.schema = schema.into();
        reached.name = rest.into();
        let judgement = judge(&policy, select, vec![reached]);
        assert_eq!(judgement.action == Action::Allow, covered, "{on} {name}: {}", judgement.message);
    }
}

#[test]
fn functions_are_named_by_fn_alone() {
    for (on, arguments, covered) in [
        ("fn:crm.*", "integer", true),
        ("fn:crm.price", "integer", true),
        ("fn:crm.price(integer)", "integer", true),
        ("fn:crm.price( Integer )", "integer", true),
        ("fn:crm.price(text)", "integer", false),
        ("fn:crm.price(integer)", "", false),
        ("crm.*", "integer", false),
        ("*", "integer", true),
    ] {
        let policy = policy("write", &permit("p", "\"call\", \"read\"", &format!("\"{on}\"")));
        let mut reached = resolution();
        reached.functions.push(function("crm.price", arguments));
        let judgement =
            policy.judge(&subject(&policy), &statement(Class::ReadSelect, "SELECT"), &reached, &context());
        assert_eq!(judgement.action == Action::Allow, covered, "{on} ({arguments}): {}", judgement.message);
    }
}

#[test]
fn ddl_objects_by_kind() {
    for (on, kind, object, covered) in [
        ("crm.*", ObjectKind::Type, "crm.mood", true),
        ("crm.*", ObjectKind::Type, "mood", true),
        ("mart.*", ObjectKind::Type, "mood", false),
        ("crm.*", ObjectKind::Function, "crm.f", false),
        ("fn:crm.*", ObjectKind::Function, "crm.f", true),
        ("fn:crm.*", ObjectKind::Function, "f", true),
        ("fn:crm.f(integer)", ObjectKind::Function, "crm.f", false),
        ("crm.*", ObjectKind::Schema, "crm", true),
        ("crm.*", ObjectKind::Schema, "mart", false),
        ("crm.o*", ObjectKind::Schema, "crm", false),
        ("crm.*", ObjectKind::AllInSchema, "crm", true),
        ("crm.*", ObjectKind::Role, "crm", false),
        ("*", ObjectKind::Role, "crm", true),
        ("crm.*", ObjectKind::Extension, "postgis", false),
    ] {
        let policy =
            policy("write", &permit("p", "\"ddl\", \"dcl\", \"admin\", \"call\"", &format!("\"{on}\"")));
        let mut change = statement(Class::DdlAlter, "ALTER");
        let mut only = act(Class::DdlAlter, Some(object));
        only.kind = kind;
        change.acts.push(only);
        let judgement = judge_statement(&policy, &change);
        assert_eq!(
            judgement.action == Action::Allow,
            covered,
            "{on} {kind:?} {object}: {}",
            judgement.message
        );
    }
}

#[test]
fn cascade_reaches_what_no_text_names() {
    let mut drop = statement(Class::DdlDrop, "DROP TABLE");
    drop.flags.cascade = true;
    let mut reached = resolution();
    reached.relations.push(relation("crm.orders", Class::DdlDrop, Reach::Table));
    let narrow = policy("write", &permit("p", "\"ddl\"", "\"crm.*\""));
    let judgement = narrow.judge(&subject(&narrow), &drop, &reached, &context());
    assert!(judgement.message.contains("CASCADE"), "{}", judgement.message);
    let wide = policy("write", &permit("p", "\"ddl\"", "\"*\""));
    assert_eq!(wide.judge(&subject(&wide), &drop, &reached, &context()).action, Action::Allow);
}

#[test]
fn what_is_exported_must_be_permitted_for_export() {
    let policy = policy(
        "read",
        &(permit("r", "\"read\"", "\"crm.*\"") + &permit("x", "\"export.copy_out\"", "\"mart.*\"")),
    );
    let judgement =
        judge(&policy, Class::ExportCopyOut, vec![relation("crm.orders", Class::ReadSelect, Reach::Table)]);
    assert_eq!(judgement.action, Action::Refuse);
}

#[test]
fn unknown_and_replication_are_spelled() {
    let starred = policy("write", &permit("p", "\"*\"", "\"*\""));
    for class in [Class::Unknown, Class::ExportReplication] {
        assert_eq!(judge_statement(&starred, &statement(class, "X")).action, Action::Refuse);
    }
    let spelled = policy("write", &permit("p", "\"unknown\", \"export.replication\"", "\"*\""));
    for class in [Class::Unknown, Class::ExportReplication] {
        assert_eq!(judge_statement(&spelled, &statement(class, "X")).action, Action::Allow);
    }
}

#[test]
fn conditions_hold_or_do_not() {
    let orders = || vec![relation("crm.orders", Class::ReadSelect, Reach::Table)];
    let digest = format!("blake3:{}", blake3::Hash::from_bytes([7; 32]).to_hex());
    for (conditions, fires) in [
        ("when = { in_transaction = false }".to_owned(), true),
        ("when = { in_transaction = true }".to_owned(), false),
        ("when = { touches = [\"crm.*\"] }".to_owned(), true),
        ("when = { touches = [\"mart.*\"] }".to_owned(), false),
        (format!("when = {{ text_digest_in = [\"{digest}\"] }}"), true),
        (format!("unless = {{ text_digest_in = [\"{digest}\"] }}"), false),
        ("when = { in_transaction = false, touches = [\"mart.*\"] }".to_owned(), false),
        ("unless = { in_transaction = false, touches = [\"mart.*\"] }".to_owned(), true),
        // Not built: met in `when`, not met in `unless`.
        ("when = { environment = \"production\" }".to_owned(), true),
        ("unless = { plan = \"approved\" }".to_owned(), true),
        ("unless = { in_transaction = false, plan = \"approved\" }".to_owned(), true),
        ("when = { environment = \"x\", touches = [\"mart.*\"] }".to_owned(), false),
    ] {
        let rules = permit("r", "\"read\"", "\"*\"")
            + &restrict("no", "\"read\"", "\"*\"", &format!("{conditions}\nthen = \"refuse\""));
        let judgement = judge(&policy("read", &rules), Class::ReadSelect, orders());
        assert_eq!(judgement.action == Action::Refuse, fires, "{conditions}: {}", judgement.message);
    }
}

#[test]
fn observe_records_what_it_would_have_done_until_its_last_day() {
    let rules = permit("r", "\"read\"", "\"*\"")
        + &restrict(
            "no",
            "\"read\"",
            "\"*\"",
            "then = \"refuse\"\nobserve = { until = 2027-03-31, reason = \"measuring\" }",
        );
    let policy = policy("read", &rules);
    let on = |now_s| {
        let context = Context { now_s, ..context() };
        policy.judge(&subject(&policy), &statement(Class::ReadSelect, "SELECT"), &resolution(), &context)
    };
    // 2027-03-31T23:59:59Z, and the second behind it.
    let last = on(1_806_537_599);
    assert_eq!(last.action, Action::Allow);
    assert_eq!(last.observed.len(), 1);
    assert_eq!((&*last.observed[0].rule.id, last.observed[0].would), ("no", "refuse"));
    assert_eq!(on(1_806_537_600).action, Action::Refuse);
}

#[test]
fn the_strictest_restrict_wins_and_every_reason_is_counted() {
    let rules = permit("r", "\"read\"", "\"*\"")
        + &restrict("hold", "\"read\"", "\"*\"", HOLD)
        + &restrict("refuse", "\"read\"", "\"*\"", "then = \"refuse\"");
    let judgement = judge(
        &policy("read", &rules),
        Class::ReadSelect,
        vec![relation("crm.orders", Class::ReadSelect, Reach::Table)],
    );
    assert_eq!(judgement.asked, Action::Refuse);
    assert_eq!(&*judgement.rule.expect("a rule").id, "refuse");
    assert!(judgement.message.contains("there is 1 more reason"), "{}", judgement.message);
    assert_eq!(judgement.rules.len(), 3);
}

#[test]
fn every_restrict_that_holds_asks_for_its_own_approval() {
    let rules = permit("r", "\"read\"", "\"*\"")
        + &restrict("one", "\"read\"", "\"*\"", HOLD)
        + &restrict("two", "\"read\"", "\"crm.orders\"", &HOLD.replace("quorum = 1", "quorum = 2"));
    let policy = policy("read", &rules);
    let on = |name| judge(&policy, Class::ReadSelect, vec![relation(name, Class::ReadSelect, Reach::Table)]);
    let both = on("crm.orders");
    let quorums: Vec<u32> = both.approvals.iter().map(|approval| approval.hold.quorum).collect();
    assert_eq!((both.action, quorums), (Action::Hold, vec![1, 2]));
    // Of two statements of one text each brings its own; what is refused asks nobody.
    let text = on("crm.items").and(both.clone());
    assert_eq!((text.action, text.approvals.len()), (Action::Hold, 2));
    assert!(text.message.starts_with("SELECT on crm.items"), "{}", text.message);
    let refused =
        judge(&policy, Class::WriteDelete, vec![relation("crm.items", Class::WriteDelete, Reach::Table)]);
    let text = both.and(refused);
    assert_eq!((text.action, text.approvals.len()), (Action::Refuse, 0));
}

#[test]
fn only_who_is_certainly_in_a_group_of_approvers_approves() {
    let rules = permit("r", "\"read\"", "\"*\"") + &restrict("hold", "\"read\"", "\"*\"", HOLD);
    let policy = policy("read", &rules);
    let asked =
        judge(&policy, Class::ReadSelect, vec![relation("crm.orders", Class::ReadSelect, Reach::Table)]);
    let hold = &asked.approvals.first().expect("one").hold;
    assert_eq!(policy.approvers(hold), ["other"]);
    assert_eq!(policy.approves(&principal(Some(&["other"])), hold), ["other"]);
    for nobody in [None, Some(&[][..]), Some(&["g"][..])] {
        assert!(policy.approves(&principal(nobody), hold).is_empty());
    }
}

#[test]
fn missing_groups_open_nothing_and_escape_nothing() {
    let rules = permit("r", "\"read\"", "\"*\"")
        + "[[permit]]\nid = \"all\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nclasses = [\"session\"]\non = [\"*\"]\n".replace("\"all\"", "\"everyone\"").as_str()
        + &restrict("no", "\"session\"", "\"*\"", "then = \"refuse\"");
    let policy = policy("read", &rules);
    let nameless = policy.subject(&principal(None), "crm-prod", None).expect("an access entry");
    let read = policy.judge(&nameless, &statement(Class::ReadSelect, "SELECT"), &resolution(), &context());
    assert!(read.message.contains("the claim groups, which group g needs"), "{}", read.message);
    let begin =
        policy.judge(&nameless, &statement(Class::SessionTransaction, "BEGIN"), &resolution(), &context());
    assert_eq!(&*begin.rule.expect("a rule").id, "no");
    let outside = policy.subject(&principal(Some(&[])), "crm-prod", None).expect("an access entry");
    let begin =
        policy.judge(&outside, &statement(Class::SessionTransaction, "BEGIN"), &resolution(), &context());
    assert_eq!(begin.action, Action::Allow);
}

#[test]
fn access_is_one_entry_or_the_one_that_is_asked_for() {
    let entry = |id: &str, group: &str, target: &str| {
        format!(
            "[[access]]\nid = \"{id}\"\ngroups = [\"{group}\"]\ntargets = [\"{target}\"]\nlogin = \"l\"\nmode = \"read\"\n\
             guards = {{ search_path = [] }}\n"
        )
    };
    let text = "version = 1\n[group.g]\nany = [{ issuer = \"corp\", groups = [\"g\"] }]\n".to_owned()
        + &entry("one", "g", "t*")
        + &entry("two", "*", "t2");
    let policy = Policy::from_text("policy.toml", &text, None).expect("a policy");
    let (member, stranger, nameless) = (principal(Some(&["g"])), principal(Some(&[])), principal(None));
    assert_eq!(&*policy.access(&member, "t1", None).expect("one").id, "one");
    assert_eq!(&*policy.access(&stranger, "t2", Some("one")).expect("two").id, "two");
    assert_eq!(&*policy.access(&member, "t2", Some("two")).expect("two").id, "two");
    assert!(
        matches!(policy.access(&member, "t2", None), Err(NoAccess::Ambiguous { ids, .. }) if ids == ["one", "two"])
    );
    assert!(matches!(policy.access(&stranger, "t1", None), Err(NoAccess::None { unknown: None, .. })));
    let refused = policy.access(&nameless, "t1", None).expect_err("no entry").to_string();
    assert!(refused.contains("group g needs the claim groups"), "{refused}");
}

#[test]
fn the_startup_packet_carries_the_guards() {
    let policy = policy("read", "");
    let settings = subject(&policy).access().startup_settings();
    assert_eq!(
        settings,
        [("search_path", "\"crm\"".to_owned()), ("default_transaction_read_only", "on".to_owned())]
    );
}

#[test]
fn another_versions_subject_is_refused() {
    let (one, other) = (policy("read", &permit("r", "\"*\"", "\"*\"")), policy("read", ""));
    let judgement =
        other.judge(&subject(&one), &statement(Class::ReadSelect, "SELECT"), &resolution(), &context());
    assert_eq!(&*judgement.rule.expect("a rule").id, "builtin.policy-version");
}

#[test]
fn labels_that_were_not_looked_up_refuse_whatever_names_an_object() {
    let rules = permit("r", "\"*\"", "\"*\"")
        + "[[label]]\ncolumn = \"crm.customers.ssn\"\ntier = \"restricted\"\nmask = \"last4\"\n";
    let policy = policy("write", &rules);
    for name in ["crm.orders", "crm.customers"] {
        let judgement =
            judge(&policy, Class::ReadSelect, vec![relation(name, Class::ReadSelect, Reach::Table)]);
        assert_eq!(judgement.action, Action::Refuse, "{name}");
        assert!(judgement.message.contains("not looked up"), "{}", judgement.message);
    }
    assert_eq!(judge(&policy, Class::ReadSelect, Vec::new()).action, Action::Allow);
}
