//! `predicate = "absent"`: which conditions hold by their form, and which choose.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use pgturnstile_rules::statement::facts::{Predicate, TextFacts};
use pgturnstile_rules::statement::{Limits, Unparsable, facts_here, on_parser_stack};

fn facts(sql: &str) -> Result<TextFacts, Unparsable> {
    on_parser_stack(|| facts_here(sql.as_bytes(), &Limits::default()))
}

/// Which of the writes are not graded as they should be: the first ones absent, the others present.
fn misgraded(absent: &[&str], present: &[&str]) -> Vec<String> {
    let grade = |sql: &str| {
        let facts = facts(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        facts.statements[0].relations.iter().map(|r| r.predicate).find(|p| *p != Predicate::NotApplicable)
    };
    let wrong = |list: &[&str], said: &str, wanted: Predicate| -> Vec<String> {
        let of = list.iter().filter(|sql| grade(sql) != Some(wanted));
        of.map(|sql| format!("{said}: {sql}")).collect()
    };
    let mut all = wrong(absent, "absent", Predicate::Absent);
    all.extend(wrong(present, "present", Predicate::Present));
    all
}

fn as_texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Conditions that hold for every row, but for those where a column is NULL.
const HOLD_BY_FORM: [&str; 59] = [
    "(id is not null) = true",
    "true = (id is not null)",
    "(id is not null) <> false",
    "(id is not null) is distinct from false",
    "(id is null) = false",
    "(id is null) is not distinct from false",
    "(id is not null) = 'yes'::bool",
    "not ((id is null) = true)",
    "id < 5 or id >= 5",
    "id < 5 or 5 <= id",
    "id > 0 or id < 10",
    "id > -10 or id <= 10",
    "id <= 3 or id > 3 or name = 'x'",
    "name = 'x' or (id <= 3 or id > 3)",
    "id < $1 or id >= $1",
    "a < b or a >= b",
    "a < b or b <= a",
    "id <> 1 or id <> 2",
    "id <> 1 or id = 1",
    "id <> 1 or id < 5",
    "name = 'x' or name <> 'x'",
    "not (id < 5 and id >= 5)",
    "not (id = 1 and id = 2)",
    "id in (1, 2) or id not in (1, 2)",
    "id between 1 and 2 or id not between 1 and 2",
    "name like 'a%' or name not like 'a%'",
    "(id = 1) is true or (id = 1) is not true",
    "id is distinct from 1 or id is not distinct from 1",
    "not (id is null)",
    "id = id and true",
    "coalesce(id, id) = id",
    "coalesce(id, 0) = id",
    "id = coalesce(id, 0)",
    "id + 0 = id",
    "id = 1 * id",
    "name || '' = name",
    "id = (select id)",
    "(select id is not null)",
    "(select true)",
    "exists (select 1 where id is not null)",
    "exists (select id)",
    "id in (select id)",
    "id = 1 or exists (select 1)",
    "case id when id then true end",
    "id = coalesce($1, id)",
    "coalesce($1, $2, id) = id",
    "id = case when $1 then 5 else id end",
    "id = case $1 when 1 then id end",
    "nullif(id, null) = id",
    "greatest(id, id) = id",
    "id = least(id, id, id)",
    "int4eq(id, id)",
    "texteq(name, name)",
    "ctid = any (array(select ctid from t))",
    "tableoid = 't'::regclass",
    "id <> all ('{}')",
    "id <> all (array[]::int[])",
    "id not in (select 0 where false)",
    "id not in (select 5 where $1)",
];

/// Conditions that choose.
const CHOOSE: [&str; 39] = [
    "active = true",
    "active <> false",
    "(id = 5) = true",
    "(id is null) = true",
    "(id is not null) = false",
    "not ((id is not null) = true)",
    "id < 5 or id > 5",
    "id < 5 or id >= 6",
    "id < 0 or id > 10",
    "id = 1 or id = 2",
    "id <> 1",
    "id <> 1 or id <> 1",
    "id <> 1 and id <> 2",
    "not (id <> 1 or id <> 2)",
    "not (id < 5 or id >= 5) or id = 1",
    "id < 5 or other >= 5",
    "id < 5 and id >= 5",
    "id < $1 or id >= $2",
    "name = 'x' or name <> 'y' and id = 1",
    "id in (1, 2) or id not in (3) and name = 'x'",
    "coalesce(id, 0) = 1",
    "coalesce(name, id) = id",
    "id + 1 = 5",
    "id = (select 5)",
    "(select id = 5)",
    "exists (select 1 where id = 5)",
    "not exists (select 1 where id <> 5)",
    "id in (select 5)",
    "id = (select max(id) from t)",
    "case id when 5 then true end",
    "id = coalesce($1, 5)",
    "id = case when active then 5 else id end",
    "greatest(id, 5) = id",
    "int4eq(id, 5)",
    "ctid = any (array(select ctid from t limit 100))",
    "id = any (array(select id from t where old))",
    "id <> all ('{1}')",
    "id in (select 5 where $1)",
    "tableoid = 't'::regclass and id = 5",
];

#[test]
fn conditions_that_hold_by_their_form() {
    let condition = |conditions: &[&str]| -> Vec<String> {
        conditions.iter().map(|condition| format!("delete from t where {condition}")).collect()
    };
    let (absent, present) = (condition(&HOLD_BY_FORM), condition(&CHOOSE));
    let wrong = misgraded(&as_texts(&absent), &as_texts(&present));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Mappers delete by long lists: they are read in one walk, and are what they say.
#[test]
fn long_lists_of_arms_restrict() {
    let arms = |of: &dyn Fn(usize) -> String| (0..3_000).map(of).collect::<Vec<_>>().join(" or ");
    let nested = (0..1_500).fold("id = 0".to_owned(), |inner, n| format!("id = {n} or ({inner})"));
    let whole = arms(&|n| format!("id = {n}"));
    let pairs = arms(&|n| format!("(a = {n} and b = 'x{n}')"));
    let covered = format!("{whole} or id <> 7");
    let absent = format!("delete from t where {covered}");
    let present = [whole, pairs, nested].map(|condition| format!("delete from t where {condition}"));
    let wrong = misgraded(&[&absent], &as_texts(&present));
    assert!(wrong.is_empty(), "{} are not", wrong.len());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn predicates() {
    let absent = [
        "delete from t",
        "delete from t where true",
        "delete from t where 1 = 1",
        "delete from t where id = id",
        "delete from t where t.id = id",
        "delete from t where id = 5 or true",
        "delete from t where id is not null",
        "delete from t where not id is null",
        "delete from t where not (id <> id)",
        "delete from t where id = 5 or id is not null",
        "delete from t where id = 5 or id = id",
        "delete from t where id = id and x = x",
        "delete from t where $1",
        "delete from t where now() > $1",
        "delete from t where exists (select 1 from s)",
        "delete from t where exists (select 1 from t where t.id = 1)",
        "delete from t using s where s.id = 5",
        "delete from t using t b where t.id = b.id",
        "delete from t where id in (select id from t)",
        "delete from t where id in (1, id)",
        "delete from t where id in (select id from t where true)",
        "delete from t where id in (select x.id from t x where x.id = x.id)",
        "delete from t where id = any (select id from t limit all)",
        "delete from t where id in (select id from s union select id from t)",
        "delete from t where exists (select 1 from t x where x.id = t.id)",
        "delete from t where exists (select 1 from s where s.id = 1)",
        "delete from t where id >= id - 0 or id = id",
        "delete from t where coalesce(id = 1, true)",
        "delete from t where case when id = 1 then true else true end",
        "delete from t where (id = id) is true",
        "delete from t where (id = 1) is not unknown",
        "delete from only s.t where s.t.id = t.id",
        "delete from t x where t.id = 1",
        "update t set a = 1 from s where s.id = 1 and exists (select 1 from u)",
        "with x as (select 1) delete from t",
        "with x as (select id from t) delete from t where id in (select id from x)",
        "with x as (select id from t) delete from t using x where t.id = x.id",
        "with x as (select id from t), y as (select * from x) delete from t where id in (select id from y)",
        "with x as (select id from t), y as (delete from t where id in (select id from x) returning 1) select 1",
        "delete from t where id in (with x as (select id from t) select id from x)",
        "delete from t using (select id from t) q where t.id = q.id",
        "delete from t a using lateral (select a.id) b where a.id = b.id",
        "with x as (select * from t) insert into t select * from x on conflict (id) do update set a = 1",
        "with x as (select * from t) merge into t using x on t.id = x.id when matched then delete",
        "delete from t where name like '%'",
        "delete from t where a or not a",
        "update t set x = 1",
        "update t set x = 1 where id::text = id::text",
        "update t set x = 1 where id is distinct from null",
        "merge into t using s on true when matched then delete",
        "merge into t using s on t.id = s.id when not matched by source then delete",
        "insert into t select * from t on conflict (id) do update set x = 0",
    ];
    let present = [
        "delete from t where id = 5",
        "delete from t where id = $1",
        "delete from t where t.id = $1 and true",
        "delete from t where id is null",
        "delete from t where active",
        "delete from t where not active",
        "delete from t where id in (select id from s)",
        "delete from t where id in (select id from t where old)",
        "delete from t where ctid in (select ctid from t limit 100)",
        "delete from t where id in (select id from (select id, row_number() over () rn from t) x where rn > 1)",
        "delete from t where id in (select max(id) from t group by k having count(*) > 1)",
        "delete from t using t b where t.id < b.id and t.k = b.k",
        "delete from t where exists (select 1 from t x where x.id > t.id and x.k = t.k)",
        "delete from t where coalesce(id = 1, false)",
        "delete from t where case when id = 1 then true end",
        "delete from t where (id = 1) is true",
        "delete from only s.t where s.t.id = 5",
        "delete from t x where x.id = 1",
        "with x as (select id from t where old limit 5) delete from t where id in (select id from x)",
        "with x as (select id from t where old) delete from t using x where t.id = x.id",
        "with t as (select 1 as id) delete from s.u using t where u.id = t.id",
        "delete from t using (select id from t order by id limit 5) q where t.id = q.id",
        "insert into t select * from t where id = 5 on conflict (id) do update set x = 0",
        "insert into t select * from u on conflict (id) do update set x = 0",
        "with x as (delete from u where id = 1 returning id) update t set a = 1 where id in (select id from x)",
        "delete from t where exists (select 1 from s where s.id = t.id)",
        "delete from t using s where s.id = t.id",
        "delete from t where current of c",
        "delete from t where name like 'a%'",
        "delete from t where id between 1 and 5",
        "update t set x = 1 where id = any($1)",
        "update t a set x = 1 from s where a.id = s.id",
        "merge into t using s on t.id = s.id when matched then delete",
        "insert into t values (1) on conflict (id) do update set x = 0",
        "update t set x = 1 where id = 5 and x = x",
    ];
    let wrong = misgraded(&absent, &present);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An expression and itself, a sub-select and the row's own, in spellings that only the tree knows.
const SAME_WHATEVER_ITS_KIND: [&str; 37] = [
    "array[id] = array[id]",
    "array[id] @> array[t.id]",
    "(array[id])[1] = (array[t.id])[1]",
    "(t).id = id",
    "greatest(id, 0) = greatest(t.id, 0)",
    "case when id = 5 then 1 else 2 end = case when t.id = 5 then 1 else 2 end",
    "case id when 5 then 1 end = case id when 5 then 1 end",
    "(id in (1, 2)) = (id in (1, 2))",
    "(id is not true) = (id is not true)",
    "extract(year from at) = extract(year from at)",
    "xmlforest(id) is not distinct from xmlforest(id)",
    "json_object('a': id) = json_object('a': id)",
    "name collate \"C\" = name collate \"C\"",
    "(select max(s.x) from s where s.id = t.id) = (select max(s.x) from s where s.id = t.id)",
    "nullif(id, id) is null",
    "nullif(id, t.id) is not distinct from null",
    "nullif(id, id) is unknown",
    "(id = null) is not true",
    "(id, name) = (select id, name)",
    "(id, name) in (select id, name)",
    "(id, name) in (values (1, 'x'), (id, name))",
    "id in (values (5), (id))",
    "id = (values (id))",
    "id = (select t.id limit 1)",
    "id in (select id limit 5)",
    "exists (values (id))",
    "exists (select 1 from t i where i.id = t.id limit 1)",
    "exists (select 1 from t i where t.id = i.id)",
    "exists (select 1 from t i where i.id = t.id having count(*) >= 1)",
    "exists (select count(*) from s where s.id = t.id)",
    "exists (select 1 from s where s.id = t.id having true)",
    "id in (select id from t group by id having true)",
    "id in (select id from t group by id having count(*) > 0 and $1)",
    "id in (select i.id from t i where i.id = t.id limit 1)",
    "id = (select i.id from t i where i.id = t.id)",
    "(select count(*) from t i where i.id = t.id) > 0",
    "0 <= (select count(*) from s where s.id = t.id)",
];

/// What looks like one of those and is none.
const OTHERS_OF_THESE_KINDS: [&str; 37] = [
    "array[id] = array[other]",
    "array[id] @> array[5]",
    "(array[id, other])[1] = (array[id, other])[2]",
    "(t).id = 5",
    "greatest(id, 0) = greatest(id, 1)",
    "least(id, 0) = greatest(id, 0)",
    "case when id = 5 then 1 else 2 end = case when id = 6 then 1 else 2 end",
    "extract(year from at) = extract(month from at)",
    "extract(year from at) = 2020",
    "name collate \"C\" = 'x' collate \"C\"",
    "created_at < now() - interval '1 day'",
    "created_at < current_date",
    "lower(name) = $1",
    "lower(name) = upper(name)",
    "at at time zone 'UTC' < now()",
    "tags && array['x']",
    "tags @> $1",
    "data ->> 'a' = $1",
    "data ->> 'a' = data ->> 'b'",
    "(data -> 'a')::int > 5",
    "nullif(name, '') is null",
    "nullif(id, 5) is null",
    "(id = 5) is not true",
    "(id, name) = ($1, $2)",
    "(id, name) in ((1, 'x'), (2, 'y'))",
    "(id, name) in (values (1, 'x'), (2, 'y'))",
    "(id, name) = (select 5, name)",
    "id in (values (1), (2))",
    "(select max(s.x) from s where s.id = t.id) = (select max(s.y) from s where s.id = t.id)",
    "(select max(s.x) from s where s.id = t.id) < now()",
    "exists (select 1 from s where s.id = t.id limit 1)",
    "exists (select 1 from s where s.id = t.id having count(*) > 1)",
    "exists (select 1 from t i where i.k = t.k and i.id < t.id limit 1)",
    "id in (select min(id) from t group by k having count(*) > 1)",
    "id in (select i.id from t i where i.k = t.k order by i.at limit 1)",
    "id = (select max(i.id) from t i where i.k = t.k)",
    "(select count(*) from t i where i.k = t.k) > 1",
];

/// Conditions and their denials, matches of anything, comparisons with nothing.
const DENIED_AND_ALL: [&str; 49] = [
    "id = 5 or id is distinct from 5",
    "id <> $1 or id is not distinct from $1",
    "(id = 5) or (id = 5) is not true",
    "(id = 5) is true or id <> 5",
    "(id = 5) is false or 5 = id",
    "id = 5 or (id = 5) = false",
    "active is not true or active",
    "(id = 5 and name = 'x') or not (id = 5 and name = 'x')",
    "not (id = 5 or name = 'x') or (id = 5 or name = 'x')",
    "array[id] = $1 or array[id] <> $1",
    "tags @> $1 or not tags @> $1",
    "name ~ 'x' or name !~ 'x'",
    "name ~~ 'x' or name not like 'x'",
    "name similar to 'x' or name not similar to 'x'",
    "id = any ($1) or id <> all ($1)",
    "id in (select id from s) or id not in (select id from s)",
    "id = any (select id from s) or id <> all (select id from s)",
    "exists (select 1 from s where s.id = t.id) or not exists (select 1 from s where s.id = t.id)",
    "(id > 5) <> (id <= 5)",
    "(id > 5) is distinct from (id <= 5)",
    "(id > 5) = (not id <= 5)",
    "(id = 5) in (true, false)",
    "(id = 5) = any (array[true, false])",
    "name like '%' escape '!'",
    "name like '%%' escape $1",
    "name ilike '%'",
    "name like '%'::varchar",
    "name like '%' || ''",
    "name ~~ '%'",
    "name ~~* '%%'",
    "name operator(pg_catalog.~~) '%'",
    "name not like '%' is not true",
    "not name !~~ '%'",
    "not name not ilike '%' escape '!'",
    "like(name, '%')",
    "pg_catalog.textlike(name, '%')",
    "not notlike(name, '%')",
    "name similar to '%'",
    "name similar to '%' escape '!'",
    "name ~ '.*'",
    "name ~* ''",
    "starts_with(name, '')",
    "name ^@ ''",
    "not (id = any ('{}'::int[]))",
    "not (id = any ('{}'))",
    "not (id = any (array[]::int[]))",
    "id <> all ('{}'::int[])",
    "not exists (select 1 from s where s.id = t.id and false)",
    "id not in (select s.id from s where 1 = 0)",
];

/// Conditions and what is no denial of them, patterns, comparisons with something.
const NEITHER: [&str; 30] = [
    "id = 5 or id is distinct from 6 and name = 'x'",
    "id = 5 or id is not distinct from 6",
    "(id = 5) is true or (id = 5) is not false",
    "(id = 5) is not true or id = 6",
    "(id = 5 and name = 'x') or not (id = 5 or name = 'y')",
    "not (id = 5 or name = 'x') or id = 6",
    "name ~ 'x' or name !~ 'y'",
    "name ~ 'x' or name !~* 'x'",
    "name like 'x' or name similar to 'x'",
    "id = any ($1) or id <> all ($2)",
    "id in (select id from s) or id not in (select id from u)",
    "(id > 5) <> (other <= 5)",
    "(id > 5) = (id <= 5)",
    "(id = 5) in (true)",
    "active in (true, null)",
    "name like $1",
    "name like '%' escape '%'",
    "name like '%x%' escape '!'",
    "name not like '%x'",
    "name ~~ 'x%'",
    "like(name, $1)",
    "name similar to '%x'",
    "name ~ '^$'",
    "name ~ 'x.*'",
    "starts_with(name, 'x')",
    "id = any ('{1,2}')",
    "not (id = any ('{1,2}'::int[]))",
    "id <> all (array[1])",
    "not exists (select 1 from s where s.id = t.id and not s.gone)",
    "id not in (select s.id from s where s.k = 0)",
];

#[test]
fn conditions_that_hold_by_what_the_tree_says() {
    let of = |lists: [&[&str]; 2]| -> Vec<String> {
        lists.concat().iter().map(|condition| format!("delete from t where {condition}")).collect()
    };
    let absent = of([&SAME_WHATEVER_ITS_KIND, &DENIED_AND_ALL]);
    let present = of([&OTHERS_OF_THESE_KINDS, &NEITHER]);
    let wrong = misgraded(&as_texts(&absent), &as_texts(&present));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
