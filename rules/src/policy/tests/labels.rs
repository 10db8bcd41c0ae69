//! The rule near labels: what stands bare, what is refused and how it is said, what passes.

use std::path::Path;

use serde_json::json;

use crate::catalog::Definitions;
use crate::policy::fixture::principal;
use crate::policy::offline::{Bench, TextVerdict};
use crate::policy::{Action, Policy};
use crate::statement::{Limits, on_parser_stack};

const CATALOG: &str = "create schema crm; create schema mart;
    create table crm.customers (id int primary key, name text, ssn text, email text, note text, born date);
    create table crm.orders (id int, customer_id int, name text, total numeric);
    create table crm.people (id int, ssn text, seen text generated always as (upper(ssn)) stored);
    create table crm.holders (id int, who crm.customers);
    create table mart.plain (id int, ssn text);
    create table crm.parts (id int, email text) partition by range (id);
    create table crm.parts_1 partition of crm.parts for values from (0) to (10);
    create view mart.v as select id from crm.customers;
    create function crm.f(int) returns int language sql as 'select 1';";

const LABELS: &str = "
[[label]]
column = \"crm.customers.ssn\"
tier = \"restricted\"
mask = \"last4\"
[[label]]
column = \"crm.customers.email\"
tier = \"personal\"
mask = \"domain\"
[[label]]
column = \"crm.people.ssn\"
tier = \"restricted\"
mask = \"last4\"
[[label]]
column = \"crm.parts.email\"
tier = \"personal\"
mask = \"domain\"
";

fn policy(extra: &str) -> Policy {
    policy_with(&format!("{extra}{LABELS}"))
}

/// One group that may do everything on the path `crm`, and these rules.
pub(super) fn policy_with(extra: &str) -> Policy {
    let rules = format!(
        "version = 1\n[group.agents]\nany = [{{ issuer = \"corp\" }}]\n[[access]]\nid = \"a\"\ngroups = [\"agents\"]\n\
         targets = [\"*\"]\nlogin = \"l\"\nmode = \"write\"\nguards = {{ search_path = [\"crm\"] }}\n[[permit]]\nid = \"all\"\n\
         groups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"*\"]\non = [\"*\"]\n{extra}"
    );
    Policy::from_text("policy.toml", &rules, None).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn judged(policy: &Policy, sql: &str) -> TextVerdict {
    judged_on(CATALOG, policy, sql)
}

/// What becomes of a text on a target of these definitions.
pub(super) fn judged_on(catalog: &str, policy: &Policy, sql: &str) -> TextVerdict {
    let catalog =
        Definitions::from_text(catalog, Path::new("crm.sql")).unwrap_or_else(|fault| panic!("{fault}"));
    let claims = json!({ "issuer": "corp", "groups": ["agents"] });
    let who = principal(claims.as_object().expect("an object"), &[]).expect("an identity");
    let subject = policy.subject(&who, "crm", None).expect("access");
    let bench = Bench {
        policy,
        subject: &subject,
        snapshot: &catalog.snapshot,
        in_transaction: false,
        now_s: 1_800_000_000,
        limits: Limits::default(),
    };
    on_parser_stack(|| bench.judge_here(sql)).unwrap_or_else(|fault| panic!("{sql}: {fault}"))
}

/// Judges, and holds the action.
fn judged_as(policy: &Policy, sql: &str, action: Action) -> TextVerdict {
    let verdict = judged(policy, sql);
    assert_eq!(verdict.judgement.action, action, "{sql}\n{}", verdict.render());
    verdict
}

fn all_judged_as(policy: &Policy, texts: &[&str], action: Action) {
    for sql in texts {
        judged_as(policy, sql, action);
    }
}

/// One letter a field: `-` clean, `m` masked by its label, `n` derived.
fn fields(verdict: &TextVerdict) -> String {
    let Some(fields) = verdict.judgement.fields.as_ref().filter(|fields| fields.near) else {
        return "far".into();
    };
    let letter = |field: &Option<crate::policy::FieldLabel>| match field {
        None => '-',
        Some(field) if field.hit.identity => 'm',
        Some(_) => 'n',
    };
    fields.list.iter().map(letter).collect()
}

#[test]
fn bare_outputs_pass_masked_however_they_are_reached() {
    let policy = policy("");
    for (sql, expected) in [
        ("select ssn from customers", "m"),
        ("select id, ssn, name from crm.customers where id = 3", "-m-"),
        ("select * from customers", "--mm--"),
        ("select c.* from customers c order by id limit 3", "--mm--"),
        ("select s as x from (select id, ssn s from customers) q where id = 1", "m"),
        (
            "with q as (select id, ssn as s from customers) select q.s, count from q, (select count(*) from orders) o",
            "m-",
        ),
        ("with q (a, b) as (select id, ssn from customers) select b, a from q", "m-"),
        ("select b from customers as c (a, n, b)", "m"),
        ("select c.ssn, o.total from customers c join orders o on o.customer_id = c.id", "m-"),
        ("select * from customers c join orders o using (id)", "--mm-----"),
        (
            "select c.ssn from customers c left join lateral (select o.total from orders o where o.customer_id = c.id) t on true",
            "m",
        ),
        ("select count(*) from customers", "-"),
        ("select (m).* from (select 1, id, count(*) from customers group by 1, 2) m", ""),
        (
            "select q.n, c.ssn from (select (m).* from (select 1 as n, id from customers) m) q, customers c",
            "-m",
        ),
        ("select id from customers where exists (select * from people p where p.id = 1)", "-"),
        (
            "select (select max(total) from orders o where o.customer_id = c.id) t, c.ssn from customers c",
            "-m",
        ),
        ("select email from parts_1", "m"),
        ("select id, seen from people", "-n"),
        ("select * from holders", "-n"),
        ("update customers set ssn = 'x' where id = 1 returning id, ssn", "-m"),
        ("insert into customers (id, ssn) values (1, 'x') returning *", "--mm--"),
        (
            "insert into customers (id, email) values (1, 'x') on conflict (id) do update set email = excluded.email returning email",
            "m",
        ),
        ("delete from customers where id = 1", ""),
        ("insert into customers (id, email) values (1, 'x') on conflict do nothing", ""),
        ("copy customers to stdout", "--mm--"),
        ("copy customers (id, ssn) to stdout", "-m"),
        ("copy (select ssn, id from customers) to stdout", "m-"),
        ("copy customers from stdin", ""),
        ("select ssn from mart.plain where ssn = 'x'", "far"),
        ("select o.name from orders o where o.name = 'x' order by name", "far"),
        ("select name from orders where name = 'x' and customer_id in (select id from customers)", "-"),
        ("declare c cursor for select ssn from customers", "m"),
        ("insert into orders (id, name) select id, name from customers", ""),
        ("truncate customers", ""),
        ("select ssn::text as x, id::text from customers", "m-"),
        ("select a::pg_catalog.text from (select ssn::text as a from customers) q", "m"),
        ("insert into customers (id, ssn) select * from unnest(array[1, 2], array['x', 'y'])", ""),
        ("select * from unnest(array[1], array['x']) u (a, b)", "far"),
        ("select rolname, setconfig from pg_db_role_setting s join pg_roles r on r.oid = s.setrole", "far"),
        ("select subname from pg_subscription", "far"),
        ("alter table crm.orders drop column total cascade", "far"),
        ("create table mart.n (id int); insert into mart.n values (1); select * from mart.n", "far"),
        ("create type mart.mood as enum ('a')", "far"),
        ("create domain mart.short as text check (length(value) < 9)", "far"),
        ("create index on mart.plain (id)", "far"),
    ] {
        let verdict = judged_as(&policy, sql, Action::Allow);
        assert_eq!(fields(&verdict), expected, "{sql}\n{}", verdict.render());
    }
}

/// What a labelled column must not do.
const REFUSED: &[&str] = &[
    "select id from customers where ssn = '1'",
    "select id from customers c where c.ssn > '1'",
    "select id from customers order by ssn",
    "select id, ssn from customers order by 2",
    "select id, ssn as x from customers order by x",
    "select ssn from customers group by ssn",
    "select ssn from customers group by 1",
    "select count(*) from customers having max(ssn) > '1'",
    "select distinct ssn from customers",
    "select distinct on (ssn) id from customers",
    "select ssn || '' from customers",
    "select ssn::varchar from customers",
    "select ssn::text::varchar from customers",
    "select ssn::text || '' from customers",
    "select distinct ssn::text from customers",
    "select ssn::text from customers order by 1",
    "select ssn::text from customers union all select 'x'",
    "select ssn::text[] from customers",
    "create temp table text (a int); select ssn::text from customers",
    "insert into mart.plain select id, ssn::text from customers",
    "select * from unnest(array[1], array[(select ssn from customers limit 1)])",
    "select upper(ssn) from customers",
    "select count(ssn) from customers",
    "select max(ssn) from customers",
    "select row_number() over (order by ssn) from customers",
    "select sum(id) over w from customers window w as (partition by ssn)",
    "select case when ssn is null then 1 end from customers",
    "select coalesce(ssn, '') from customers",
    "select c from customers c",
    "select (c).ssn from customers c",
    "select ssn(c) from customers c",
    "select c.anything from customers c",
    "select row(c.*) from customers c",
    "select to_jsonb(c) from customers c",
    "select count(c.*) from customers c",
    "select array_agg(c) from customers c",
    "select q from (select ssn from customers) q",
    "select (m).*, ssn from customers, (select 1, 2) m",
    "select ssn, (m).* from customers, (select 1, 2) m",
    "select a from (select (m).*, ssn from customers, (select 1, 2) m) q (a, b, x) where x like 'a%'",
    "select x || 'y' from (select (m).*, ssn from customers, (select 1, 2) m) q (a, b, x)",
    "select id from (select id, (m).*, ssn from customers, (select 1, 2) m order by 4 limit 1) q",
    "select x || 'y' from ((select (m).* from (select 1, 2) m) q join customers c on true) j (a, b, i, n, x)",
    "with q (a, b, x) as (update customers set name = 'x' from (select 1, 2) m returning (m).*, ssn) select upper(x) from q",
    "select (m).* from (select ssn from customers) m",
    "select ssn from customers union all select 'x'",
    "select 'x' union select ssn from customers",
    "select id from customers except select id from people where ssn = 'a'",
    "select id from orders where name in (select ssn from customers)",
    "select (select ssn from customers limit 1)",
    "select array(select ssn from customers)",
    "select id from orders o where exists (select 1 from customers c where c.ssn = o.name)",
    "select id from orders where id = (select 1 from customers where ssn = 'x')",
    "select 1 from customers c join people p on c.ssn = p.ssn",
    "select 1 from customers c join people p using (ssn)",
    "select 1 from customers natural join people",
    // What the server names, and the text does not.
    "select c.id from customers c natural join (select (select 'x' as ssn)) q",
    "select c.id from customers c natural join (select 'x'::ssn) q",
    "select c.id from (select ssn(1)) q natural join customers c",
    "with q as (select (v).ssn from people v) select c.id from q natural join orders natural join customers c",
    "select ssn, id, count(*) from customers group by (1, 2)",
    "select ssn, id, count(*) from customers group by ((1, 2), 3)",
    "select ssn, id, count(*) from customers group by rollup ((1, 2))",
    "select ssn, id, count(*) from customers group by cube (2, (1, 2))",
    "select ssn, id, count(*) from customers group by grouping sets ((1, 2), ())",
    "select ssn, id, count(*) from customers group by distinct (1, 2)",
    "select 1 from orders o join (select id, ssn name from customers) c using (name)",
    "select x from customers, unnest(array[ssn]) x",
    "select * from customers, json_table(ssn::jsonb, '$' columns (a int path '$'))",
    "select id from customers limit (select length(ssn) from customers limit 1)",
    "select id from customers tablesample bernoulli (1) where ssn ~ 'x'",
    "with q as (select ssn s from customers) select s || 'x' from q",
    "with q as (select ssn s from customers) select 1 from q where s = 'x'",
    "with recursive q as (select ssn s from customers union all select s from q) select s from q",
    "with recursive q as (select id from customers where ssn = 'x' union all select id from q) select * from q",
    "with w as (update customers set name = ssn returning id) select * from w",
    "with w as (delete from customers returning ssn) select upper(ssn) from w",
    "insert into mart.plain select id, ssn from customers",
    "insert into mart.plain select * from people",
    "insert into orders (id, name) values (1, (select ssn from customers limit 1))",
    "create table mart.copy as select ssn from customers",
    "select ssn into mart.copy from customers",
    "create temp table t as select * from customers",
    "create view mart.w as select ssn from customers",
    "create materialized view mart.w as select ssn from customers",
    "create index on customers (ssn)",
    "create unique index on customers (ssn)",
    "alter table customers rename ssn to x",
    "alter table customers add check (ssn > 'a')",
    "alter table customers alter ssn type int using ssn::int",
    "alter schema crm rename to other",
    "alter table mart.plain inherit customers",
    "create table mart.l (like customers including all)",
    "update orders o set name = c.ssn from customers c where c.id = o.customer_id",
    "update customers set name = ssn",
    "update customers set note = email where id = 1",
    "update customers set name = 'x' where ssn = 'y'",
    "delete from customers where email like 'a%'",
    "delete from orders using customers c where c.email = orders.name",
    "insert into customers (id, email) values (1, 'x') on conflict (email) do nothing",
    "insert into customers (id) values (1) on conflict (id) do update set name = customers.email",
    "merge into orders o using customers c on o.name = c.ssn when matched then delete",
    "merge into orders o using customers c on o.id = c.id when matched then update set name = c.ssn",
    "copy (select upper(ssn) from customers) to stdout",
    "copy people to stdout",
    "copy customers from stdin where ssn > 'x'",
    "explain select id from customers",
    "explain analyze select ssn from customers",
    "prepare p as select id from customers where ssn = $1",
    "declare c cursor for select upper(ssn) from customers",
    "select id from people where seen = 'X'",
    "select who from holders where who is null",
    "select (who).ssn from holders",
    "select crm.f(1)",
    "select id from mart.v",
    "select * from pg_stats",
    "select * from mart.not_there",
    "do 'begin end'",
    "select a.id from orders a join orders b on ssn = 'x' , customers c",
    "select (select 1 from orders a join orders b on name = ssn) from customers c",
    "select q.x from customers c, lateral (select ssn as x from orders) q where q.x = 'a'",
    "analyze customers",
    "create function mart.upper(varchar) returns text language sql as 'select ssn from crm.customers'",
    "alter function crm.f(int) rename to abs",
    "alter function crm.f(int) set schema mart",
    "create trigger t before insert on mart.plain for each row execute function crm.f()",
    "create rule r as on insert to mart.plain do instead select 1",
    "create operator mart.<< (leftarg = text, rightarg = text, function = texteq)",
    "create cast (int as text) with inout as implicit",
    "create aggregate mart.max (text) (sfunc = text_larger, stype = text)",
    "create extension dblink",
    "alter type customers rename attribute ssn to x",
    "alter type crm.customers rename attribute ssn to x",
    "update pg_attribute set attname = 'x' where attname = 'ssn'",
    "delete from pg_catalog.pg_description where objsubid > 0",
    "copy pg_class from stdin",
    // An alias of a join hides what stands in it.
    "select (select c.ssn from (mart.plain c join orders o on true) as j limit 1) from customers c",
    "select (select ssn from (mart.plain p join orders o on true) as j (a, b) limit 1) from customers",
    "select id from customers c order by (select c.ssn from (mart.plain c cross join orders) as k limit 1)",
    "insert into orders (name) select (select c.ssn from (mart.plain c cross join orders) as k limit 1) from customers c returning name",
    "select 1 from (customers c join orders o on c.ssn = o.name) as j",
    "create foreign table mart.f (id int) server s",
    "create publication p for all tables",
];

#[test]
fn a_join_with_an_alias_gives_its_columns() {
    let policy = policy("");
    for (sql, expected) in [
        ("select j.ssn from (customers c join orders o on c.id = o.customer_id) as j", "m"),
        ("select ssn, total from (customers c join orders o on c.id = o.customer_id) as j (i)", "m-"),
        ("select j.* from (mart.plain p join parts c on c.id = p.id) as j (a, b, c, d)", "---m"),
    ] {
        assert_eq!(fields(&judged_as(&policy, sql, Action::Allow)), expected, "{sql}");
    }
}

#[test]
fn every_other_use_is_refused() {
    let policy = policy("");
    for sql in REFUSED {
        let verdict = judged_as(&policy, sql, Action::Refuse);
        assert_eq!(verdict.judgement.sqlstate, "42501");
    }
}

/// Migrations drop what may not be there; whatever else they do to it, it may be a view of a label by then.
#[test]
fn what_nobody_knows_may_be_dropped_and_nothing_else() {
    let policy = policy("");
    let dropped = [
        "drop table if exists gone",
        "drop view if exists crm.gone, mart.gone cascade",
        "drop materialized view if exists gone",
        "drop sequence if exists gone",
        "drop index if exists gone",
    ];
    all_judged_as(&policy, &dropped, Action::Allow);
    let used =
        ["alter table if exists gone add column a int", "select from gone", "truncate gone", "table gone"];
    all_judged_as(&policy, &used, Action::Refuse);
}

#[test]
fn a_refusal_names_column_label_line_and_what_would_pass() {
    let policy = policy("");
    let verdict = judged(&policy, "select id from customers where ssn = '123-45-6789'");
    let message = &verdict.judgement.message;
    for part in [
        "crm.customers.ssn is labelled restricted",
        "in WHERE",
        "label crm.customers.ssn, policy.toml:",
        "Next: take labelled columns as plain outputs alone",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!message.contains("123-45"), "{message}");
    let verdict = judged(&policy, "select id, ssn from customers");
    assert!(
        verdict.render().contains("field 2  masked:last4 by label crm.customers.ssn (policy.toml:"),
        "{}",
        verdict.render()
    );
}

#[test]
fn who_reads_in_clear_reads_and_makes_no_copies() {
    let rules = "[[permit]]\nid = \"dba\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"*\"]\non = [\"*\"]\n\
                 disclose = { clear_up_to = \"personal\" }\n";
    let policy = policy(rules);
    for (sql, action, expected) in [
        ("select email, ssn from customers", Action::Allow, "-m"),
        ("select email from customers where email = 'x'", Action::Allow, "-"),
        ("select ssn from customers where ssn = 'x'", Action::Refuse, "far"),
        ("select email from parts where email = 'x'", Action::Allow, "far"),
        ("create table mart.c as select email from parts", Action::Refuse, "far"),
        ("insert into mart.plain select id, email from parts", Action::Refuse, "far"),
        ("select crm.f(1)", Action::Refuse, "far"),
    ] {
        assert_eq!(fields(&judged_as(&policy, sql, action)), expected, "{sql}");
    }
    // In whatever expression, whatever else the label is used for, by whatever carrier.
    for stored in [
        "insert into mart.plain select id, email from parts where email > ''",
        "insert into mart.plain select distinct id, email from parts order by email",
        "insert into mart.plain select id, email || '' from parts",
        "insert into mart.plain select id, max(email) from parts group by id",
        "insert into mart.plain select id, email from parts union select 1, 'x'",
        "insert into mart.plain values (1, (select email from parts limit 1))",
        "insert into mart.plain values (1, 'x') on conflict (id) do update set note = (select email from parts limit 1)",
        "update mart.plain set note = (select email from parts where parts.id = plain.id)",
        "update mart.plain set note = email from parts where parts.id = plain.id",
        "merge into mart.plain p using parts c on p.id = c.id when matched then update set note = c.email",
        "prepare p as insert into mart.plain select id, email from parts",
        "explain analyze insert into mart.plain select id, email from parts",
        "copy (with w as (insert into mart.plain select id, email from parts returning 1) select * from w) to stdout",
        "create table mart.c as select email || '' as e from parts",
        "create table mart.c as select email from parts where email > ''",
        "create table mart.c as select parts.email from parts join mart.plain on plain.note = parts.email",
        // Beside a label that is shut for the subject.
        "insert into mart.plain select id, email from customers",
    ] {
        judged_as(&policy, stored, Action::Refuse);
    }
    for chosen in [
        "insert into mart.plain select id, 'x' from parts where email = 'x' order by email",
        "update mart.plain set note = 'x' from parts where parts.id = plain.id and parts.email like 'a%'",
        "delete from mart.plain using parts where parts.email = plain.note",
        "explain insert into mart.plain select id, 'x' from parts",
        "create table mart.c as select id from parts where email > '' group by id, email",
    ] {
        judged_as(&policy, chosen, Action::Allow);
    }
}

#[test]
fn permits_say_how_a_labelled_column_leaves() {
    let permit = |disclose: &str| {
        format!(
            "[[permit]]\nid = \"more\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"crm.*\"]\n\
             disclose = {disclose}\n"
        )
    };
    let words = |rules: &str, sql: &str| {
        let verdict = judged(&policy(rules), sql);
        let fields = verdict.judgement.fields.as_ref().map(|fields| fields.words()).unwrap_or_default();
        fields.join(" ")
    };
    let sql = "select id, ssn, email from customers";
    assert_eq!(words("", sql), "clear masked:last4 masked:domain");
    assert_eq!(words(&permit("\"token\""), sql), "clear masked:token masked:token");
    // The other permit, on everything, is the more generous.
    assert_eq!(words(&permit("\"withheld\""), sql), "clear masked:last4 masked:domain");
    assert_eq!(words(&permit("{ clear_up_to = \"personal\" }"), sql), "clear masked:last4 clear");
    assert_eq!(words(&permit("\"token\""), "select id, seen from people"), "clear masked:null");
    // A write is another atom on the relation, and the permit on it discloses less.
    let returning = "update customers set note = 'x' where id = 1 returning ssn";
    assert_eq!(words(&permit("\"token\""), returning), "masked:last4");
}

#[test]
fn what_is_clear_for_the_subject_is_told_to_the_session() {
    let rules = "[[permit]]\nid = \"dba\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"*\"]\non = [\"*\"]\n\
                 disclose = { clear_up_to = \"personal\" }\n";
    let policy = policy(rules);
    let cleared = |sql: &str| {
        let fields = judged(&policy, sql).judgement.fields;
        fields
            .map(|fields| (fields.near, fields.cleared.iter().map(|(_, number)| *number).collect::<Vec<_>>()))
    };
    assert_eq!(cleared("select email from parts"), Some((false, vec![2])));
    assert_eq!(cleared("select * from customers"), Some((true, vec![4])));
    assert_eq!(cleared("select id from orders"), None);
}

#[test]
fn built_ins_that_tell_no_stored_data_pass_beside_labels() {
    let policy = policy("");
    for (sql, action) in [
        ("select pg_sleep(0)", Action::Allow),
        (
            "select pg_notify('a', 'b'), pg_advisory_lock(1), txid_current(), pg_stat_get_numscans(1)",
            Action::Allow,
        ),
        ("select ssn, pg_advisory_xact_lock(id) from customers", Action::Allow),
        ("select pg_notify('a', ssn) from customers", Action::Refuse),
        ("select query_to_xml('select 1', true, true, '')", Action::Refuse),
        ("select lo_get(1)", Action::Refuse),
        ("select pg_read_file('x')", Action::Refuse),
        ("select * from pg_stat_get_activity(null)", Action::Refuse),
        ("select crm.f(1)", Action::Refuse),
        ("select pg_catalog.not_in_the_table()", Action::Refuse),
    ] {
        judged_as(&policy, sql, action);
    }
}

#[test]
fn a_restrict_on_a_tier_touches_what_reaches_it() {
    let rules = "[[restrict]]\nid = \"night\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\n\
                 on = [\"label:restricted\"]\nthen = \"refuse\"\n";
    let policy = policy(rules);
    all_judged_as(&policy, &["select id from customers"], Action::Refuse);
    all_judged_as(&policy, &["select email from parts", "select id from orders"], Action::Allow);
}

/// A column is known by its number too: renamed, moved or detached behind the gateway's back it keeps its label, and the log
/// says so.
#[test]
fn a_renamed_column_keeps_its_label() {
    let policy = policy("");
    let read = |text: &str, earlier: Option<&crate::catalog::Snapshot>| {
        let catalog = Definitions::from_text(text, Path::new("crm.sql")).expect("the fixture");
        let snapshot = catalog.snapshot.behind(earlier);
        let labelled = crate::policy::Labelled::new(&policy.model().labels, &snapshot);
        (snapshot, labelled)
    };
    let (first, labelled) = read(CATALOG, None);
    let oid = |snapshot: &crate::catalog::Snapshot, schema: &str, name: &str| {
        snapshot.relation(schema, name).map_or(0, |relation| relation.oid)
    };
    let customers = oid(&first, "crm", "customers");
    assert!(labelled.hit(customers, 3).is_some() && labelled.findings().is_empty());
    let moved = CATALOG
        .replace(
            "create table crm.customers (id int primary key, name text, ssn text",
            "create table mart.persons (id int primary key, name text, tax text",
        )
        .replace("who crm.customers", "who mart.persons")
        .replace("select id from crm.customers", "select id from mart.persons")
        .replace(
            "create table crm.parts_1 partition of crm.parts for values from (0) to (10)",
            "create table crm.parts_1 (id int, email text)",
        );
    let (second, labelled) = read(&moved, Some(&first));
    assert_eq!(oid(&second, "mart", "persons"), customers, "the fixture counts oids in order");
    let words: Vec<&str> = [3, 4]
        .iter()
        .filter_map(|number| Some(&*labelled.fact(labelled.hit(customers, *number)?)?.rule.id))
        .collect();
    assert_eq!(words, ["label crm.customers.ssn", "label crm.customers.email"]);
    assert!(labelled.hit(oid(&second, "crm", "parts_1"), 2).is_some(), "a partition that was detached");
    let told: String = labelled.findings().iter().map(|finding| finding.message.as_str()).collect();
    for name in [
        "mart.persons.tax bore the label crm.customers.ssn",
        "crm.parts_1.email bore the label crm.parts.email",
    ] {
        assert!(told.contains(name), "{name} in {told}");
    }
    // Once more, and not for ever: what is gone is forgotten, and without its past nothing is known of it.
    let (third, labelled) = read(&moved, Some(&second));
    assert!(labelled.hit(customers, 3).is_some());
    let (fourth, _) = read("create schema crm;", Some(&third));
    assert!(read(&moved, Some(&fourth)).1.hit(customers, 3).is_none());
}

#[test]
fn a_label_that_matches_nothing_and_a_style_that_does_not_fit_close_their_relation() {
    for (label, sql) in [
        ("crm.orders.gone", "select id from orders"),
        ("crm.orders.total", "select id from orders"),
        ("mart.nowhere.x", "select id from mart.nowhere"),
    ] {
        let rules = format!("[[label]]\ncolumn = \"{label}\"\ntier = \"secret\"\nmask = \"last4\"\n");
        let policy = policy(&rules);
        judged_as(&policy, sql, Action::Refuse);
        let catalog = Definitions::from_text(CATALOG, Path::new("crm.sql")).expect("the fixture");
        let labelled = crate::policy::Labelled::new(&policy.model().labels, &catalog.snapshot);
        assert_eq!(labelled.findings().len(), 1, "{:?}", labelled.findings());
        assert!(labelled.findings()[0].message.contains("Next: "), "{:?}", labelled.findings());
    }
}
