//! Keys near labels: which writes may be answered, by tier, and how a refusal says it.

use std::path::Path;

use super::labels::{judged_on, policy_with};
use crate::catalog::Definitions;
use crate::policy::Action;

const CATALOG: &str = "create schema crm;
    create table crm.cards (id int primary key, number text unique, holder text, spare text);
    create table crm.people (id int primary key, email text not null unique, born date, pay int, bonus int,
      check (pay > bonus), check (born < '2100-01-01'));
    create unique index on crm.people (lower(email));
    create table crm.uses (id int primary key, number text references crm.cards (number), at date);
    create table crm.free (id int primary key, note text unique);
    create table crm.rooms (id int primary key, guest text, during text, exclude using gist (during with &&));
    create table crm.stepped (id serial primary key, k bigserial unique, t text default current_setting('app.t') unique, w text default 'x' unique);
    create table crm.computed (id int primary key, pay int, factor int, name text, note text, g int generated always as (pay * factor) stored,
      whole text generated always as (name || ' ' || note) stored);
    create index on crm.computed ((pay / factor), note) where lower(name) > 'a' and factor > 3;
    create table crm.secrets (id int primary key, code text) partition by list (id);
    create table crm.secrets_1 partition of crm.secrets for values in (1);
    create unique index on crm.secrets_1 (code);";

const LABELS: &str = "
[[label]]
column = \"crm.cards.number\"
tier = \"secret\"
mask = \"null\"
[[label]]
column = \"crm.people.email\"
tier = \"personal\"
mask = \"null\"
[[label]]
column = \"crm.people.pay\"
tier = \"restricted\"
mask = \"null\"
[[label]]
column = \"crm.rooms.during\"
tier = \"restricted\"
mask = \"null\"
[[label]]
column = \"crm.stepped.k\"
tier = \"secret\"
mask = \"null\"
[[label]]
column = \"crm.stepped.t\"
tier = \"secret\"
mask = \"null\"
[[label]]
column = \"crm.stepped.w\"
tier = \"secret\"
mask = \"null\"
[[label]]
column = \"crm.computed.pay\"
tier = \"personal\"
mask = \"null\"
[[label]]
column = \"crm.computed.name\"
tier = \"personal\"
mask = \"null\"
[[label]]
column = \"crm.secrets.code\"
tier = \"secret\"
mask = \"null\"
";

const PASS: [&str; 27] = [
    // An expression whose labelled columns are written as well, or that cannot fail.
    "update computed set pay = 3, factor = 4 where id = 1",
    "update computed set note = 'x' where id = 1",
    "insert into computed (id, factor) values (1, 2)",
    // What is not of the key asks nothing of it.
    "insert into cards (id, holder) values (1, 'x')",
    "update cards set holder = 'x' where id = 1",
    "insert into uses (id, at) values (1, now())",
    "update uses set at = now() where id = 1",
    "delete from uses where id = 1",
    "insert into secrets (id) values (1)",
    // P1 of personal and restricted labels.
    "insert into people values (1, 'a@b.example', null, 1, 0)",
    "insert into people (id, email) values (1, 'a@b.example') returning id, email",
    "update people set email = 'a@b.example' where id = 1",
    "copy people from stdin",
    "insert into people (id, email) values (1, 'x') on conflict (id) do nothing",
    "insert into people (id, email) values (1, 'x') on conflict (id) do update set email = excluded.email",
    "insert into people (id, email) values (1, 'x') on conflict on constraint people_pkey do nothing",
    "prepare p as insert into people (id, email) values ($1, $2)",
    "delete from people where id = 1",
    "delete from rooms where id = 1",
    // A check whose labelled columns are written as well knows only what the client sent.
    "update people set pay = 3, bonus = 1 where id = 1",
    "update people set born = null where id = 1",
    "insert into people (id, email, pay, bonus) values (1, 'x', 2, 1)",
    // No label is in any key.
    "insert into free (note) values ('x') on conflict do nothing",
    "insert into rooms (id, guest) values (1, 'x')",
    "with w as (insert into free (note) values ('x') on conflict do nothing returning id) select * from w",
    "merge into people p using (values (1)) v (id) on p.id = v.id when matched then delete when not matched then do nothing",
    "merge into people p using (values (1)) v (id) on p.id = v.id when not matched then insert (id, email) values (1, 'x')",
];

const REFUSED: [(&str, &str); 24] = [
    // A default that the writer steers gives a value to a key.
    ("insert into stepped (t, w) values ('x', 'y')", "the unique key stepped_k_key"),
    ("insert into stepped default values", "the unique key"),
    ("insert into stepped (k, w) values (1, 'y')", "the unique key"),
    // What an UPDATE computes of what it writes and of what it leaves.
    ("update computed set factor = 3 where id = 1", "the expression of"),
    ("insert into cards values (1, 'x')", "the unique key"),
    ("insert into cards (id, number) values (1, 'x')", "the unique key"),
    ("insert into cards (number) select note from free", "the unique key"),
    ("update cards set number = 'x' where id = 1", "the unique key"),
    ("copy cards from stdin", "the unique key"),
    ("copy cards (id, number) from stdin", "the unique key"),
    ("with w as (insert into cards (number) values ('x') returning id) select * from w", "the unique key"),
    ("prepare p as insert into cards (number) values ($1)", "the unique key"),
    (
        "merge into cards c using (values (1)) v (id) on c.id = v.id when matched then update set number = 'x'",
        "the unique key",
    ),
    (
        "merge into cards c using (values (1)) v (id) on c.id = v.id when not matched then insert values (1, 'x')",
        "the unique key",
    ),
    ("insert into cards (id) values (1) on conflict (id) do update set number = 'x'", "the unique key"),
    ("insert into secrets values (1, 'x')", "the unique key"),
    ("insert into uses (id, number) values (1, 'x')", "the foreign key"),
    ("update uses set number = 'x'", "the foreign key"),
    ("update people set bonus = 7 where id = 1", "the check"),
    ("insert into rooms (during) values ('x')", "the exclusion constraint"),
    (
        "insert into people (id, email) values (1, 'x') on conflict do nothing",
        "ON CONFLICT without columns asks the key",
    ),
    ("insert into cards (id) values (1) on conflict do nothing", "ON CONFLICT without columns asks the key"),
    ("insert into people (id) values (1) on conflict (email) do nothing", "stands in ON CONFLICT"),
    ("delete from cards where number = 'x'", "stands in WHERE"),
];

#[test]
fn keys_answer_as_their_labels_allow() {
    let policy = policy_with(LABELS);
    for sql in PASS {
        let verdict = judged_on(CATALOG, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Allow, "{sql}\n{}", verdict.render());
    }
    for (sql, said) in REFUSED {
        let verdict = judged_on(CATALOG, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Refuse, "{sql}\n{}", verdict.render());
        let message = &verdict.judgement.message;
        assert!(message.contains(said) && message.contains("Next: "), "{sql}: {message}");
    }
}

#[test]
fn who_reads_in_clear_is_answered() {
    let clear = LABELS.replace("tier = \"secret\"", "tier = \"internal\"");
    let policy = policy_with(&clear);
    for sql in [
        "insert into cards values (1, 'x')",
        "insert into uses values (1, 'x')",
        "update secrets set code = 'x'",
    ] {
        let verdict = judged_on(CATALOG, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Allow, "{sql}\n{}", verdict.render());
    }
    let disclosed = format!(
        "[[permit]]\nid = \"clear\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"*\"]\non = [\"*\"]\n\
         disclose = {{ clear_up_to = \"secret\" }}\n{LABELS}"
    );
    let policy = policy_with(&disclosed);
    for (sql, _) in REFUSED {
        let verdict = judged_on(CATALOG, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Allow, "{sql}\n{}", verdict.render());
    }
}

#[test]
fn a_label_on_a_partition_key_is_told() {
    let catalog = "create schema crm; create table crm.lists (id int, ssn text) partition by list (ssn);
        create table crm.spans (id int, born date) partition by range (extract(year from born));
        create table crm.quiet (id int, ssn text) partition by hash (id);";
    let labels: String = ["lists.ssn", "spans.born", "quiet.ssn"]
        .map(|column| format!("[[label]]\ncolumn = \"crm.{column}\"\ntier = \"personal\"\nmask = \"null\"\n"))
        .concat();
    let policy = policy_with(&labels);
    let read = Definitions::from_text(catalog, Path::new("crm.sql")).expect("the fixture");
    let labelled = crate::policy::Labelled::new(&policy.model().labels, &read.snapshot);
    let mut told: Vec<&str> = labelled.findings().iter().map(|finding| finding.message.as_str()).collect();
    told.sort_unstable();
    assert!(
        matches!(told[..], [one, two] if one.starts_with("crm.lists is partitioned") && two.starts_with("crm.spans is")),
        "{told:?}"
    );
}

const DEFINED: &str = "create schema crm;
    create table crm.people (id int primary key, tenant int, email text, note text);
    create policy own on crm.people using (tenant = current_setting('app.tenant')::int);
    create table crm.cards (id int primary key, number text, note text);
    create policy asked on crm.cards using (number = current_setting('app.number'));
    create index by_number on crm.cards (number, note);";

#[test]
fn a_policy_that_the_session_steers_closes_its_relation_and_scans_are_not_moved() {
    let policy =
        policy_with(&LABELS[..LABELS.find("[[label]]\ncolumn = \"crm.people.pay\"").expect("it is there")]);
    for sql in [
        "select id, email from people",
        "set enable_hashjoin = off",
        "reset random_page_cost",
        "set jit = off",
    ] {
        let verdict = judged_on(DEFINED, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Allow, "{sql}\n{}", verdict.render());
    }
    for (sql, said) in [
        (
            "select id from cards",
            "row security policy asked of crm.cards compares it with what the session holds",
        ),
        ("update cards set note = 'x' where id = 1", "row security policy asked"),
        ("set enable_seqscan = off", "in the order of a labelled column"),
        ("select set_config('random_page_cost', '1', true)", "in the order of a labelled column"),
    ] {
        let verdict = judged_on(DEFINED, &policy, sql);
        assert_eq!(verdict.judgement.action, Action::Refuse, "{sql}\n{}", verdict.render());
        assert!(verdict.judgement.message.contains(said), "{sql}: {}", verdict.judgement.message);
    }
}
