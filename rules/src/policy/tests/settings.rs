//! Settings and read-only sessions: what no permit opens.

use super::support::{act, judge, judge_statement, permit, policy, relation, set, statement, transaction};
use crate::class::Class;
use crate::policy::settings::{Category, category};
use crate::policy::{Action, Policy};
use crate::resolve::Reach;
use crate::statement::facts::{FunctionUse, NameUse, SettingAction, TransactionControl};

fn everything(mode: &str) -> Policy {
    policy(mode, &permit("everything", "\"*\", \"unknown\", \"export.replication\"", "\"*\""))
}

#[test]
fn an_empty_path_may_be_set_empty() {
    let rules = "[[access]]\nid = \"dump\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nlogin = \"l\"\nmode = \"write\"\n\
                 guards = { search_path = [] }\n";
    let policy = policy("write", &(rules.to_owned() + &permit("everything", "\"*\"", "\"*\"")));
    let principal = super::support::principal(Some(&["g"]));
    let subject = policy.subject(&principal, "crm-prod", Some("dump")).expect("the entry");
    for (value, allowed) in [(Some(""), true), (Some("crm"), false), (Some("\"\""), false), (None, false)] {
        let statement = set(Some("search_path"), value, SettingAction::Set);
        let judgement =
            policy.judge(&subject, &statement, &super::support::resolution(), &super::support::context());
        assert_eq!(judgement.action == Action::Allow, allowed, "{value:?}: {}", judgement.message);
    }
}

#[test]
fn every_setting_has_its_kind() {
    for (name, expected) in [
        ("DateStyle", Category::Client),
        ("timezone", Category::Client),
        ("enable_seqscan", Category::Client),
        ("enable_x.y", Category::Custom),
        ("statement_timeout", Category::Guard),
        ("synchronous_commit", Category::Guard),
        ("search_path", Category::Pinned),
        ("ROLE", Category::Pinned),
        ("client_encoding", Category::Pinned),
        ("app.tenant", Category::Custom),
        ("log_statement", Category::Closed),
        ("session_preload_libraries", Category::Closed),
        ("debug_print_rewritten", Category::Closed),
        ("transform_null_equals", Category::Closed),
        ("backslash_quote", Category::Closed),
        ("lo_compat_privileges", Category::Closed),
    ] {
        assert_eq!(category(name), expected, "{name}");
    }
}

#[test]
fn setting_a_setting() {
    // (mode, name, value, allowed under a permit for everything)
    for (mode, name, value, allowed) in [
        ("read", Some("datestyle"), Some("ISO"), true),
        ("read", Some("work_mem"), None, true),
        ("read", Some("statement_timeout"), Some("0"), false),
        ("write", Some("statement_timeout"), Some("0"), true),
        ("write", Some("client_encoding"), Some("UTF-8"), true),
        ("write", Some("client_encoding"), Some("SJIS"), false),
        ("write", Some("client_encoding"), None, false),
        ("write", Some("standard_conforming_strings"), Some("on"), true),
        ("write", Some("standard_conforming_strings"), Some("off"), false),
        ("write", Some("search_path"), Some("crm"), true),
        ("write", Some("search_path"), Some("evil"), false),
        ("write", Some("role"), Some("none"), true),
        ("write", Some("role"), Some("postgres"), false),
        ("write", Some("session_authorization"), Some("postgres"), false),
        ("write", Some("row_security"), Some("off"), false),
        ("write", Some("session_replication_role"), Some("replica"), false),
        ("read", Some("transaction_read_only"), Some("off"), false),
        ("read", Some("transaction_read_only"), Some("on"), true),
        ("read", Some("default_transaction_read_only"), Some("off"), false),
        ("write", Some("default_transaction_read_only"), Some("off"), true),
        ("write", Some("app.tenant"), Some("1"), true),
        ("write", Some("log_statement"), Some("none"), false),
        ("write", None, None, false),
    ] {
        let judgement = judge_statement(&everything(mode), &set(name, value, SettingAction::Set));
        assert_eq!(
            judgement.action == Action::Allow,
            allowed,
            "{mode} {name:?} {value:?}: {}",
            judgement.message
        );
        if !allowed {
            assert!(judgement.rule.is_some_and(|rule| rule.id.starts_with("builtin.")));
        }
    }
}

#[test]
fn reset_returns_to_the_guards_and_is_always_the_clients_affair() {
    let policy = policy("read", &permit("s", "\"session.set\"", "\"kind:client-setting\""));
    for name in [None, Some("search_path"), Some("statement_timeout"), Some("app.tenant")] {
        let judgement = judge_statement(&policy, &set(name, None, SettingAction::Reset));
        assert_eq!(judgement.action, Action::Allow, "{name:?}: {}", judgement.message);
    }
}

#[test]
fn resetting_the_transactions_mode_does_not_escape_a_read_only_session() {
    let reset = set(Some("transaction_read_only"), None, SettingAction::Reset);
    assert_eq!(judge_statement(&everything("read"), &reset).action, Action::Refuse);
    assert_eq!(judge_statement(&everything("write"), &reset).action, Action::Allow);
}

#[test]
fn a_permit_says_which_settings_or_speaks_of_all_but_custom_ones() {
    let silent = policy("write", &permit("s", "\"session\"", "\"crm.*\""));
    assert_eq!(
        judge_statement(&silent, &set(Some("lock_timeout"), Some("1"), SettingAction::Set)).action,
        Action::Allow
    );
    assert_eq!(
        judge_statement(&silent, &set(Some("app.tenant"), Some("1"), SettingAction::Set)).action,
        Action::Refuse
    );
    let named = policy("write", &permit("s", "\"session.set\"", "\"setting:app.*\""));
    assert_eq!(
        judge_statement(&named, &set(Some("app.tenant"), Some("1"), SettingAction::Set)).action,
        Action::Allow
    );
    assert_eq!(
        judge_statement(&named, &set(Some("lock_timeout"), Some("1"), SettingAction::Set)).action,
        Action::Refuse
    );
    let show = policy("write", &permit("s", "\"session.set\"", "\"kind:show\""));
    assert_eq!(
        judge_statement(&show, &set(Some("search_path"), None, SettingAction::Show)).action,
        Action::Allow
    );
    assert_eq!(
        judge_statement(&show, &set(Some("datestyle"), Some("ISO"), SettingAction::Set)).action,
        Action::Refuse
    );
}

#[test]
fn read_only_sessions_refuse_what_the_server_would_let_pass() {
    let policy = everything("read");
    for control in [
        TransactionControl::Begin { read_write: true },
        TransactionControl::Mode { read_write: true },
        TransactionControl::TwoPhase,
    ] {
        let judgement = judge_statement(&policy, &transaction(control));
        assert_eq!(judgement.action, Action::Refuse, "{control:?}");
        assert!(judgement.message.contains("read-only"), "{}", judgement.message);
    }
    assert_eq!(
        judge_statement(&policy, &transaction(TransactionControl::Begin { read_write: false })).action,
        Action::Allow
    );
    let passes = [
        "read.select",
        "read.fetch",
        "read.explain",
        "read.explain_analyze",
        "session.transaction",
        "session.set",
        "session.prepare",
        "session.cursor",
        "session.listen",
        "export.copy_out",
        "export.bulk",
        "export.large_object",
        "call.function",
    ];
    for class in Class::ALL {
        let judgement = judge_statement(&policy, &statement(*class, "TAG"));
        assert_eq!(
            judgement.action == Action::Allow,
            passes.contains(&class.name()),
            "{class}: {}",
            judgement.message
        );
    }
    for class in [Class::SessionLock, Class::SessionNotify, Class::AdminSystem, Class::CallDo] {
        let mut inside = statement(Class::ReadSelect, "SELECT");
        inside.acts.push(act(class, None));
        assert_eq!(judge_statement(&policy, &inside).action, Action::Refuse, "{class}");
    }
    let temporary = relation("pg_temp.t", Class::WriteInsert, Reach::Temporary);
    assert_eq!(judge(&policy, Class::WriteInsert, vec![temporary]).action, Action::Allow);
}

#[test]
fn large_objects_are_not_written_by_a_session_that_reads() {
    let calls = |schema: Option<&str>, name: &str| {
        let mut select = statement(Class::ReadSelect, "SELECT");
        select.functions.push(FunctionUse {
            name: NameUse { catalog: None, schema: schema.map(Into::into), name: name.into() },
            arguments: Some(1),
            constants: Vec::new(),
            implied: false,
            offset: None,
        });
        select
    };
    for name in ["lo_create", "lo_unlink", "lowrite", "lo_put"] {
        for schema in [None, Some("pg_catalog")] {
            assert_eq!(
                judge_statement(&everything("read"), &calls(schema, name)).action,
                Action::Refuse,
                "{name}"
            );
            assert_eq!(
                judge_statement(&everything("write"), &calls(schema, name)).action,
                Action::Allow,
                "{name}"
            );
        }
        // A function of users that bears such a name is what its own class says.
        assert_eq!(
            judge_statement(&everything("read"), &calls(Some("crm"), name)).action,
            Action::Allow,
            "{name}"
        );
    }
    for name in ["lo_get", "lo_open", "loread"] {
        assert_eq!(judge_statement(&everything("read"), &calls(None, name)).action, Action::Allow, "{name}");
    }
}

#[test]
fn flags_without_an_act_still_count() {
    let policy = policy("write", &permit("r", "\"read\"", "\"*\""));
    let mut file = statement(Class::ReadSelect, "SELECT");
    file.flags.server_files = true;
    assert_eq!(judge_statement(&policy, &file).action, Action::Refuse);
    let mut lock = statement(Class::ReadSelect, "SELECT");
    lock.flags.locks = true;
    assert_eq!(judge_statement(&policy, &lock).action, Action::Refuse);
}

#[test]
fn settings_that_outlive_the_session_are_judged_by_their_own_class() {
    let mut alter = set(Some("search_path"), Some("x"), SettingAction::Persist);
    alter.class = Class::DclRole;
    alter.acts.push(act(Class::DclRole, Some("app")));
    assert_eq!(judge_statement(&everything("write"), &alter).action, Action::Allow);
    assert_eq!(judge_statement(&everything("read"), &alter).action, Action::Refuse);
    let only_settings = policy("write", &permit("s", "\"session\"", "\"*\""));
    assert_eq!(judge_statement(&only_settings, &alter).action, Action::Refuse);
    let mut hidden = set(None, None, SettingAction::Persist);
    hidden.class = Class::WriteUpdate;
    assert_eq!(judge_statement(&everything("write"), &hidden).action, Action::Refuse);
}
