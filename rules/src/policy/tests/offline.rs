//! Whole texts through the parser, a fixture and the judgement: the packs' own tests, the tree, monstrous texts.

use std::path::Path;

use serde_json::{Value, json};

use crate::catalog::Definitions;
use crate::policy::fixture::{Issuer, principal};
use crate::policy::offline::{Bench, TextVerdict};
use crate::policy::{Action, Policy, Subject, TestPrincipal, packs};
use crate::statement::{Limits, Unparsable, on_parser_stack};

const FIXTURE: &str = "\
create schema crm;
create table crm.orders (id int primary key, state text);
create table crm.customers (id int, ssn text);
create view crm.open_orders as select * from crm.orders;
create sequence crm.numbers;
create function crm.price(int) returns int language sql as 'select 1';
";

const RULES: &str = r#"
version = 1
include = ["packs/drivers.toml"]
[group.agents]
any = [{ issuer = "corp", groups = ["agents"] }]
[[access]]
id = "agents"
groups = ["agents"]
targets = ["crm"]
login = "agent"
mode = "write"
guards = { search_path = ["crm"] }
[[permit]]
id = "agents.read"
groups = ["agents"]
targets = ["crm"]
classes = ["read.select"]
on = ["crm.orders", "crm.open_orders"]
[[permit]]
id = "agents.write"
groups = ["agents"]
targets = ["crm"]
classes = ["write", "call.function"]
on = ["crm.orders", "crm.numbers", "fn:crm.price"]
[[restrict]]
id = "blind"
groups = ["*"]
targets = ["*"]
classes = ["write.update", "write.delete"]
on = ["*"]
when = { predicate = "absent" }
then = "refuse"
"#;

fn policy(text: &str) -> Policy {
    Policy::from_text("policy.toml", text, None).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn claims(value: Value) -> serde_json::Map<String, Value> {
    let Value::Object(claims) = value else { panic!("an object") };
    claims
}

fn agent(policy: &Policy) -> Subject {
    let who = principal(&claims(json!({"issuer": "corp", "groups": ["agents"]})), &[]).expect("an identity");
    policy.subject(&who, "crm", None).expect("an access entry")
}

fn fixture(text: &str) -> Definitions {
    Definitions::from_text(text, Path::new("crm.sql")).expect("the fixture")
}

fn judge(
    policy: &Policy,
    subject: &Subject,
    catalog: &Definitions,
    sql: &str,
) -> Result<TextVerdict, Unparsable> {
    judge_behind::<&str>(policy, subject, catalog, &[], sql)
}

/// Behind texts that the session has sent before, which pass.
fn judge_behind<T: AsRef<str> + Sync>(
    policy: &Policy,
    subject: &Subject,
    catalog: &Definitions,
    before: &[T],
    sql: &str,
) -> Result<TextVerdict, Unparsable> {
    let bench = Bench {
        policy,
        subject,
        snapshot: &catalog.snapshot,
        in_transaction: false,
        now_s: 1_800_000_000,
        limits: Limits::default(),
    };
    on_parser_stack(|| {
        let mut session = bench.session();
        for text in before {
            let verdict = session.judge_here(text.as_ref())?;
            assert_eq!(verdict.judgement.action, Action::Allow, "{}", verdict.render());
        }
        session.judge_here(sql)
    })
}

#[test]
fn the_packs_pass_their_own_tests() {
    let empty = fixture("");
    let mut failed = Vec::new();
    for pack in packs::PACKS {
        let bench = pack.bench().expect("the pack alone");
        assert!(!bench.model().tests.is_empty(), "{} has no tests", pack.name);
        for test in &bench.model().tests {
            let TestPrincipal::Inline(who) = &test.who else {
                panic!("{}: claims stand in place", test.name)
            };
            let who = principal(who, &[]).expect("an identity");
            let subject = bench.subject(&who, &test.target, None).expect("an access entry");
            let verdict = match judge_behind(&bench, &subject, &empty, &test.before, &test.sql) {
                Ok(verdict) => verdict,
                Err(fault) => {
                    failed.push(format!("{}: {fault}", test.name));
                    continue;
                }
            };
            let spoke = |rule: &String| verdict.judgement.rules.iter().any(|spoken| *spoken.id == **rule);
            if verdict.judgement.asked.name() != test.expect.action || !test.expect.rules.iter().all(spoke) {
                failed.push(format!("{}: expected {:?}\n{}", test.name, test.expect, verdict.render()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn statements_of_real_texts() {
    let mut failed = Vec::new();
    let (policy, catalog) = (policy(RULES), fixture(FIXTURE));
    let subject = agent(&policy);
    for (sql, action) in [
        ("select * from orders where id = 1", Action::Allow),
        ("select * from crm.open_orders", Action::Allow),
        ("select crm.price(id) from orders", Action::Allow),
        ("select * from customers", Action::Refuse),
        ("select * from orders, customers", Action::Refuse),
        ("with a as (delete from orders where id = 1 returning *) select * from a", Action::Allow),
        ("with a as (delete from orders returning *) select * from a", Action::Refuse),
        ("update orders set state = 'x' where id = 3", Action::Allow),
        ("update orders set state = 'x'", Action::Refuse),
        ("delete from orders where true", Action::Refuse),
        ("insert into orders values (1) on conflict (id) do update set state = 'x'", Action::Allow),
        ("copy orders to stdout", Action::Refuse),
        ("copy (select * from orders) to stdout", Action::Refuse),
        ("create table crm.t (x int)", Action::Refuse),
        ("drop table orders", Action::Refuse),
        ("select nextval('crm.numbers')", Action::Allow),
        ("select setval('crm.numbers', 1)", Action::Allow),
        ("truncate orders", Action::Allow),
        ("truncate orders cascade", Action::Refuse),
        ("select * from orders for update", Action::Refuse),
        ("lock table orders", Action::Refuse),
        ("do $$ begin end $$", Action::Refuse),
        ("set search_path = crm", Action::Allow),
        ("set search_path = crm, public", Action::Refuse),
        ("select set_config('search_path', 'public', false)", Action::Refuse),
        ("select pg_stat_get_activity(null)", Action::Refuse),
        ("explain select * from orders", Action::Refuse),
        ("begin; select 1; commit", Action::Allow),
        ("prepare p as delete from orders; select 1", Action::Refuse),
        ("", Action::Allow),
        ("-- nothing", Action::Allow),
    ] {
        let verdict =
            judge(&policy, &subject, &catalog, sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        if verdict.judgement.action != action {
            failed.push(format!("{sql}\n{}", verdict.render()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A type that runs code, and an operator that takes it.
const CODE_OF_TYPES: &str = "\
create schema ext;
create function ext.same(ext.mail, ext.mail) returns bool language internal as 'same';
create operator ext.= (leftarg = ext.mail, rightarg = ext.mail, function = ext.same);
create table crm.mails (id int, mail ext.mail);
";

/// What each text is refused by, `""` where it passes, and the SQLSTATE.
fn refused_by(before: &[&str], sql: &str) -> (String, &'static str) {
    let fixture = fixture(&format!("{FIXTURE}{CODE_OF_TYPES}"));
    let rules = format!(
        "{RULES}[[permit]]\nid = \"all\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"*\"]\non = [\"*\"]\n"
    );
    let policy = policy(&rules);
    let verdict = judge_behind(&policy, &agent(&policy), &fixture, before, sql).expect("facts");
    let judgement = &verdict.judgement;
    let rule = judgement.rule.as_ref().map(|rule| rule.id.to_string()).unwrap_or_default();
    if judgement.action == Action::Refuse {
        let json = serde_json::to_value(&verdict.statements).expect("JSON");
        assert!(
            verdict.render().contains(&format!("+- {rule} (built in) -> refuse: ")),
            "{}",
            verdict.render()
        );
        assert!(json.to_string().contains(&format!("\"rule\":\"{rule}\"")), "{json}");
        assert!(judgement.rules.iter().any(|spoke| *spoke.id == *rule));
    }
    (rule, judgement.sqlstate)
}

#[test]
fn texts_are_refused_by_what_they_do_to_themselves() {
    let order = "builtin.order";
    let unknown = "builtin.unknown-name";
    for (sql, rule, sqlstate) in [
        ("select crm.price(1); select 1", order, "42501"),
        ("select crm.price(1); commit", "", ""),
        ("select 1; select crm.price(1)", "", ""),
        ("do $$ begin end $$; select 1", order, "42501"),
        // A function of this text's own is in no catalog yet.
        (
            "create function crm.f() returns int language sql as 'select 1'; select f(); select 1",
            order,
            "42501",
        ),
        ("prepare p as select 1; select crm.price(1)", order, "42501"),
        ("begin; declare c cursor for select 1; select crm.price(1); commit", order, "42501"),
        ("prepare p as select 1; execute p", order, "42501"),
        ("deallocate p; execute p", order, "42501"),
        ("begin; declare c cursor for select 1; fetch 1 from c; commit", order, "42501"),
        ("begin; declare c cursor for select 1; close c; commit", "", ""),
        ("execute nothing", unknown, "26000"),
        ("explain execute nothing", unknown, "26000"),
        ("fetch 1 from nocursor", unknown, "34000"),
        ("move 1 in nocursor", unknown, "34000"),
        // The server says that it has none.
        ("close nocursor", "", ""),
        ("deallocate nothing", "", ""),
        ("select id from crm.mails where mail = 'x'", "builtin.analysis", "42501"),
        ("select * from crm.mails", "", ""),
        ("prepare \"pgturnstile.x\" as select 1", "builtin.reserved-name", "42939"),
    ] {
        assert_eq!(refused_by(&[], sql), (rule.to_owned(), sqlstate), "{sql}");
    }
}

#[test]
fn names_of_texts_before_are_known() {
    for (before, sql, rule) in [
        (&["prepare p as select 1"][..], "execute p; execute p", ""),
        (&["prepare p as select 1", "deallocate all"], "execute p", "builtin.unknown-name"),
        (&["prepare p as select crm.price(1)"], "execute p; select 1", "builtin.order"),
        (&["begin; declare c cursor for select 1"], "fetch c; commit", ""),
        (&["begin; declare c cursor for select 1; commit"], "fetch c", "builtin.unknown-name"),
        (&["begin; declare c cursor with hold for select 1; commit"], "fetch c", ""),
        (&["select crm.price(1)"], "select 1", ""),
    ] {
        assert_eq!(refused_by(before, sql).0, rule, "{before:?} {sql}");
    }
}

#[test]
fn the_rule_about_texts_is_what_a_client_reads() {
    let (policy, catalog) = (policy(RULES), fixture(FIXTURE));
    let verdict =
        judge(&policy, &agent(&policy), &catalog, "drop table orders; select crm.price(1); select 1")
            .expect("facts");
    let judgement = &verdict.judgement;
    assert!(judgement.message.starts_with("pgturnstile refused a text in which "), "{}", verdict.render());
    let spoke: Vec<&str> = judgement.rules.iter().map(|rule| &*rule.id).collect();
    assert!(spoke.contains(&"builtin.order") && spoke.contains(&"default-deny"), "{spoke:?}");
}

#[test]
fn a_label_holds_for_partitions_children_and_ancestors() {
    let rules = format!(
        "{RULES}[[permit]]\nid = \"all\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"crm.*\"]\n\
         [[label]]\ncolumn = \"crm.people.ssn\"\ntier = \"restricted\"\nmask = \"last4\"\n"
    );
    let catalog = fixture(
        "create schema crm;
         create table crm.everybody (id int);
         create table crm.people (ssn text) inherits (crm.everybody);
         create table crm.people_more () inherits (crm.people);
         create table crm.things () inherits (crm.everybody);",
    );
    let policy = policy(&rules);
    let subject = agent(&policy);
    for (sql, action) in [
        ("select * from crm.people", Action::Allow),
        ("select id, ssn from crm.people_more", Action::Allow),
        ("select ssn || '' from crm.people_more", Action::Refuse),
        // It has no such column, and its children's are not in its rows.
        ("select * from crm.everybody", Action::Allow),
        ("select * from crm.things", Action::Allow),
        ("select id from crm.people", Action::Allow),
        ("select id from crm.people_more where ssn = 'x'", Action::Refuse),
    ] {
        let verdict = judge(&policy, &subject, &catalog, sql).expect("facts");
        assert_eq!(verdict.judgement.action, action, "{sql}\n{}", verdict.render());
    }
}

#[test]
fn the_tree_names_file_and_line() {
    let (policy, catalog) = (policy(RULES), fixture(FIXTURE));
    let verdict = judge(&policy, &agent(&policy), &catalog, "select 1; delete from orders").expect("facts");
    assert_eq!(
        verdict.render(),
        "\
refuse  42501
+- statement 1 of 2  read.select  SELECT  -> allow
|  +- read.select the statement
|  |  +- permit agents.read (policy.toml:14)
+- statement 2 of 2  write.delete  DELETE  -> refuse
|  +- write.delete crm.orders [table] [predicate absent]
|  |  +- permit agents.write (policy.toml:20)
|  |  +- restrict blind (policy.toml:26) -> refuse: when predicate
+- message: pgturnstile refused DELETE on crm.orders: write.delete without a predicate is refused (rule blind, \
policy.toml:26). Next: add a WHERE clause that looks at the columns of crm.orders, or ask whoever keeps the policy.
"
    );
    let json = serde_json::to_value(&verdict.statements).expect("JSON");
    assert_eq!(json[1]["atoms"][0]["leaves"][1]["place"], "policy.toml:26");
    assert_eq!(json[1]["action"], "refuse");
}

#[test]
fn claims_become_identities_in_three_ways() {
    let corp = Issuer {
        name: "corp".into(),
        url: "https://id.example.com".into(),
        groups: Some("realm.roles".into()),
        person: Some("email".into()),
    };
    let token = json!({"iss": "https://id.example.com", "sub": "s", "email": "kim@example.com", "realm": {"roles": ["a"]}});
    let one = principal(&claims(token.clone()), std::slice::from_ref(&corp)).expect("an identity");
    assert_eq!(
        (one.issuer.as_str(), one.groups.as_deref(), one.person.as_deref()),
        ("corp", Some(&["a".to_owned()][..]), Some("kim@example.com"))
    );
    let wrapped = json!({"issuer": "corp", "claims": token});
    assert_eq!(principal(&claims(wrapped), &[corp]).expect("an identity").groups, one.groups);
    let inline = principal(&claims(json!({"issuer": "other", "groups": ["b"]})), &[]).expect("an identity");
    assert_eq!(inline.groups.as_deref(), Some(&["b".to_owned()][..]));
    let overflowing =
        principal(&claims(json!({"issuer": "other", "groups": {"src": "graph"}})), &[]).expect("an identity");
    assert_eq!(overflowing.groups, None);
    assert!(principal(&claims(json!({"iss": "https://elsewhere"})), &[]).is_err());
    assert!(principal(&claims(json!({"sub": "s"})), &[]).is_err());
}

#[test]
fn monstrous_texts_are_judged_or_refused_and_nothing_falls() {
    let (policy, catalog) = (policy(RULES), fixture(FIXTURE));
    let subject = agent(&policy);
    let sum = |terms: usize| format!("select {}", vec!["1"; terms].join("+"));
    for (text, judged) in [
        (sum(1_000), true),
        (sum(60_000), false),
        (format!("select {} true", "not ".repeat(4_990)), true),
        (format!("select {}1{}", "(select ".repeat(23), ")".repeat(23)), true),
        (format!("select * from orders where {}", vec!["id = 1"; 100_000].join(" or ")), false),
        ("x".repeat(5 << 20), false),
    ] {
        let length = text.len();
        match judge(&policy, &subject, &catalog, &text) {
            Ok(verdict) => assert!(judged, "{length} bytes: {:?}", verdict.judgement.action),
            Err(fault) => assert!(!judged, "{length} bytes: {fault}"),
        }
    }
    // As many atoms as a text of the default cap can hold.
    let many = format!(
        "select {}",
        (0..8_000).map(|at| format!("(select 1 from t{at})")).collect::<Vec<_>>().join(",")
    );
    let verdict = judge(&policy, &subject, &catalog, &many).expect("facts");
    assert_eq!(verdict.judgement.action, Action::Refuse);
}
