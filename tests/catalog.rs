//! The catalog snapshot and what is resolved by it, against a real server: the definition of *code-free* is attacked here.
//!
//! Every function of a user in the hostile database leaves a trace that no rollback takes back (it moves a sequence), so
//! that a statement which is resolved as code-free and yet moves it fails the test, whatever the table beside it expects.

use std::path::Path;

use pgturnstile_rules::catalog::builtins;
use pgturnstile_rules::catalog::{Definitions, Event, LoadError, Rows, Snapshot, queries, system};
use pgturnstile_rules::class::Class;
use pgturnstile_rules::resolve::{Code, Reach, Resolution, SessionView};
use pgturnstile_tests::Postgres;
use pgturnstile_tests::catalog::{resolution, rows, snapshot};

const PATH: [&str; 2] = ["crm", "public"];

fn start() -> Postgres {
    Postgres::builder(21200..21260).start()
}

/// The schema of an ordinary application: nothing in it runs code of a user.
const ORDINARY: &str = include_str!("fixtures/ordinary.sql");

/// Statements of ordinary applications that are code-free; those marked `true` are also proven.
const FREE: &[(bool, &str)] = &[
    (true, "SELECT 1"),
    (true, "SELECT id, email FROM crm.customers WHERE id = $1"),
    (
        true,
        "SELECT * FROM customers c JOIN orders o ON o.customer = c.id WHERE c.email ILIKE $1 ORDER BY o.placed DESC LIMIT 10",
    ),
    (
        true,
        "SELECT customer, count(*), sum(total), max(placed) FROM crm.orders WHERE placed BETWEEN $1 AND $2 GROUP BY 1 HAVING count(*) > 3",
    ),
    (
        true,
        "SELECT mood, (home).city, discount, extra->>'a', tags[1], upper(name) || 'x', coalesce(name, 'y') FROM crm.customers WHERE mood = 'sad'",
    ),
    (
        true,
        "SELECT id FROM crm.customers WHERE id IN (1, 2, 3) AND tags @> ARRAY['a'] AND extra ? 'k' AND made > now() - interval '1 day'",
    ),
    (
        true,
        "SELECT 'glad'::crm.mood, 5::crm.percent, 'x'::varchar(3), '{}'::int[], CAST($1 AS numeric(10, 2))",
    ),
    (
        true,
        "SELECT row_number() OVER (PARTITION BY customer ORDER BY placed), to_char(placed, 'YYYY') FROM crm.orders",
    ),
    (
        true,
        "SELECT c.relname, pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)",
    ),
    (true, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'crm'"),
    (true, "SELECT current_user, version(), current_setting('server_version'), pg_backend_pid()"),
    (true, "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM crm.orders"),
    (true, "SELECT * FROM generate_series(1, 3) g, LATERAL jsonb_array_elements('[]') e"),
    (true, "SELECT * FROM crm.events WHERE at >= $1"),
    (true, "SELECT * FROM crm.orders TABLESAMPLE system (10)"),
    (
        true,
        "WITH recent AS (SELECT * FROM crm.orders) SELECT * FROM recent WHERE total <> 0 UNION ALL SELECT * FROM crm.orders",
    ),
    (false, "INSERT INTO crm.customers (email, name) VALUES ($1, $2) RETURNING id"),
    (false, "INSERT INTO crm.events (at, body) VALUES (now(), '{}')"),
    (
        false,
        "INSERT INTO crm.orders (customer, total) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
    ),
    (false, "UPDATE crm.orders SET total = total * 1.1 WHERE id = $1"),
    (false, "DELETE FROM crm.customers WHERE id = $1"),
    (false, "SELECT * FROM crm.orders WHERE id = 1 FOR UPDATE"),
    (false, "SELECT nextval('crm.orders_id_seq')"),
    (false, "COPY crm.orders (customer, total) FROM STDIN"),
    (false, "COPY (SELECT id FROM crm.orders) TO STDOUT"),
    (false, "BEGIN"),
    (false, "SAVEPOINT a"),
    (false, "COMMIT"),
    (false, "ROLLBACK"),
    (false, "EXPLAIN SELECT * FROM crm.orders"),
    (false, "SHOW search_path"),
    (false, "LISTEN c"),
];

#[test]
fn ordinary_applications_are_code_free() {
    let server = start();
    server.create_database("ordinary");
    server.execute("ordinary", ORDINARY);
    let snapshot = snapshot(&server, "ordinary");
    for (proven, sql) in FREE {
        let resolution = resolution(&snapshot, &PATH, &SessionView::default(), sql);
        assert_eq!(resolution.code, Code::Free, "{sql}");
        assert!(resolution.functions.is_empty(), "{sql}: {:?}", resolution.functions);
        assert_eq!(resolution.proven(), *proven, "{sql}: {:?}", resolution.unproven);
    }
}

/// The offline reader, given what `pg_dump --schema-only` of PostgreSQL 15 says of the same schema, judges the same.
#[test]
fn a_dump_says_what_the_server_says() {
    let dump = include_str!("fixtures/ordinary.dump.sql");
    let read = Definitions::from_text(dump, Path::new("ordinary.dump.sql")).unwrap();
    assert!(read.notes.is_empty(), "{:?}", read.notes);
    for (proven, sql) in FREE {
        let resolution = resolution(&read.snapshot, &PATH, &SessionView::default(), sql);
        assert!(resolution.functions.is_empty(), "{sql}: {:?}", resolution.functions);
        // It takes every foreign key as one that cascades, and knows no more of a sub-select than that it stands there.
        assert_eq!(
            (resolution.code == Code::Free, resolution.proven()),
            (true, *proven),
            "{sql}: {:?}",
            resolution.code
        );
    }
    assert_eq!(
        resolution(&read.snapshot, &PATH, &SessionView::default(), "SELECT * FROM crm.totals").relations[0]
            .reach,
        Reach::View
    );
}

#[test]
fn names_are_looked_up_in_every_schema_of_the_path() {
    let server = start();
    server.create_database("ordinary");
    server.execute("ordinary", ORDINARY);
    let snapshot = snapshot(&server, "ordinary");
    let reached = |session: &SessionView<'_>, sql: &str| -> Vec<(String, Reach)> {
        let resolution = resolution(&snapshot, &PATH, session, sql);
        resolution.relations.iter().map(|r| (format!("{}.{}", r.schema, r.name), r.reach)).collect()
    };
    let plain = SessionView::default();
    let temp = SessionView { temp_possible: true, ..SessionView::default() };
    let named = |name: &str, reach| (name.to_owned(), reach);
    assert_eq!(
        reached(&plain, "SELECT * FROM customers"),
        [named("crm.customers", Reach::Table), named("public.customers", Reach::Table)]
    );
    assert_eq!(reached(&plain, "SELECT * FROM crm.customers"), [named("crm.customers", Reach::Table)]);
    assert_eq!(
        reached(&plain, "SELECT * FROM ordinary.crm.customers"),
        [named("crm.customers", Reach::Table)]
    );
    assert_eq!(
        reached(&plain, "SELECT * FROM elsewhere.crm.customers"),
        [named("crm.customers", Reach::Unresolved)]
    );
    assert_eq!(
        reached(&temp, "SELECT * FROM orders"),
        [named("pg_temp.orders", Reach::Temporary), named("crm.orders", Reach::Table)]
    );
    assert_eq!(
        reached(&plain, "SELECT * FROM nowhere"),
        [named("crm.nowhere", Reach::Unresolved), named("public.nowhere", Reach::Unresolved)]
    );
    assert_eq!(
        reached(&plain, "CREATE TABLE fresh (id int)"),
        [named("crm.fresh", Reach::New), named("public.fresh", Reach::New)]
    );
    assert_eq!(reached(&plain, "CREATE TEMP TABLE fresh (id int)"), [named("pg_temp.fresh", Reach::New)]);
    assert_eq!(reached(&plain, "SELECT * FROM pg_class"), [named("pg_catalog.pg_class", Reach::Catalog)]);
    for hidden in
        ["pg_stats", "pg_authid", "pg_catalog.pg_shadow", "pg_stat_activity", "pg_toast.pg_toast_1255"]
    {
        let found = reached(&plain, &format!("SELECT * FROM {hidden}"));
        assert!(found.iter().all(|(_, reach)| *reach == Reach::DataBearingCatalog), "{hidden}: {found:?}");
    }
    assert_eq!(reached(&plain, "SELECT * FROM crm.totals"), [named("crm.totals", Reach::View)]);
    assert_eq!(reached(&plain, "SELECT * FROM daily"), [named("crm.daily", Reach::MaterializedView)]);
    let write = resolution(
        &snapshot,
        &PATH,
        &plain,
        "UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'",
    );
    assert!(matches!(write.code, Code::Named(_)), "{:?}", write.code);
    let write = resolution(&snapshot, &PATH, &plain, "DELETE FROM pg_catalog.pg_attribute WHERE attnum = 1");
    assert!(matches!(write.code, Code::Named(_)), "{:?}", write.code);
}

/// Functions of users that leave a trace, and every way the author knows to have them run without being called.
const HOSTILE: &str = include_str!("fixtures/hostile.sql");

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Free,
    Through,
    Named,
}

use Expect::{Free, Named, Through};

const ATTACKS: &[(Expect, &str)] = &[
    (Free, "SELECT * FROM crm.plain WHERE id = 1"),
    (Free, "UPDATE crm.plain SET other = lower(other) WHERE id = 1"),
    (Through, "INSERT INTO crm.on_insert VALUES (1)"),
    (Free, "UPDATE crm.on_insert SET id = 2 WHERE id = 1"),
    (Free, "SELECT * FROM crm.on_insert"),
    (Through, "COPY crm.on_insert FROM STDIN"),
    (Through, "DELETE FROM crm.on_delete WHERE id = 1"),
    (Through, "WITH gone AS (DELETE FROM crm.on_delete RETURNING id) SELECT * FROM crm.plain"),
    (Through, "TRUNCATE crm.on_truncate"),
    (Through, "INSERT INTO crm.defaulted (id) VALUES (1)"),
    (Free, "SELECT * FROM crm.defaulted"),
    (Through, "INSERT INTO crm.generated (id) VALUES (1)"),
    (Through, "INSERT INTO crm.checked VALUES (1)"),
    (Through, "INSERT INTO crm.indexed VALUES (1, 'x')"),
    (Through, "SELECT * FROM crm.indexed WHERE name = 'x'"),
    (Through, "INSERT INTO crm.partly VALUES (1, 'x')"),
    (Through, "SELECT * FROM crm.secured"),
    (Through, "UPDATE crm.secured SET id = 2"),
    (Through, "SELECT * FROM crm.secured_by_other"),
    (Through, "UPDATE crm.parted SET part = 2 WHERE part = 1"),
    (Through, "INSERT INTO crm.parted VALUES (3, 2)"),
    (Free, "SELECT * FROM crm.parted"),
    (Free, "INSERT INTO crm.parted_1 VALUES (3, 1)"),
    (Through, "INSERT INTO crm.keyed VALUES (1)"),
    (Through, "INSERT INTO crm.keyed_1 VALUES (1)"),
    (Through, "UPDATE crm.parent SET id = 1"),
    (Through, "SELECT * FROM crm.far"),
    (Through, "SELECT * FROM crm.near"),
    (Through, "SELECT * FROM crm.looking"),
    (Through, "INSERT INTO crm.ruled VALUES (1)"),
    (Through, "DELETE FROM crm.owner WHERE id = 1"),
    (Through, "INSERT INTO crm.domained VALUES (1, 'a@b')"),
    (Through, "INSERT INTO crm.nested SELECT 1, NULL"),
    (Named, "INSERT INTO crm.nested VALUES (1, ARRAY[ROW(1, 'x')::crm.pair])"),
    (Named, "SELECT 'x'::crm.email"),
    (Named, "SELECT CAST('x' AS crm.deep)"),
    (Named, "SELECT ROW(1, 'x')::crm.pair"),
    (Named, "SELECT jsonb_populate_record(NULL::crm.pair, '{\"two\": \"x\"}')"),
    (Named, "SELECT * FROM jsonb_to_record('{\"a\": \"x\"}') AS r (a crm.email)"),
    (Named, "SELECT pg_catalog.domain_in('x', 'crm.email'::regtype, -1)"),
    (Named, "SELECT * FROM crm.moody WHERE mood = 'sad'"),
    (Named, "SELECT count(*) FROM crm.moody a JOIN crm.moody b USING (mood)"),
    (Named, "SELECT CASE mood WHEN 'sad' THEN 1 END FROM crm.moody"),
    (Named, "SELECT 'sad'::crm.mood IN ('glad'::crm.mood)"),
    (Through, "SELECT mood + 1 FROM crm.moody"),
    (Named, "SELECT 'sad'::crm.mood + 1"),
    (Named, "SELECT other || name FROM crm.plain"),
    (Named, "SELECT OPERATOR(public.||)('a'::text, 'b'::varchar)"),
    (Named, "SELECT 'a'::text OPERATOR(public.||) 'b'::varchar"),
    (Free, "SELECT 'a' OPERATOR(pg_catalog.||) 'b'"),
    (Named, "SELECT upper(name) FROM crm.plain"),
    (Free, "SELECT pg_catalog.upper(name) FROM crm.plain"),
    (Free, "SELECT abs(id) FROM crm.plain"),
    (Named, "SELECT abs(mood) FROM crm.moody"),
    (Named, "SELECT ltrim(1, 2, 3)"),
    (Free, "SELECT ltrim(other) FROM crm.plain"),
    (Named, "SELECT initcap(name) FROM crm.plain"),
    (Named, "SELECT p.fullname FROM crm.plain p"),
    (Named, "SELECT (p).fullname FROM crm.plain p"),
    (Named, "SELECT fullname(p) FROM crm.plain p"),
    (Named, "SELECT best(id) FROM crm.plain"),
    (Named, "SELECT lab.word('x')"),
    (Through, "INSERT INTO crm.colors SELECT id, other FROM crm.plain"),
    (Through, "SELECT * FROM crm.counted WHERE name = 'x'"),
    (Named, "SELECT query_to_xml('select lab.number(1)', true, true, '')"),
    (Named, "SELECT ts_rewrite('a'::tsquery, 'select ''a''::tsquery, lab.word(''b'')::tsquery')"),
    (Named, "SELECT set_config('app.x', 'y', false)"),
    (Named, "DO $$BEGIN PERFORM lab.number(1); END$$"),
    (Named, "CREATE TABLE crm.copy AS SELECT lab.number(1)"),
    (Named, "PREPARE p AS SELECT lab.number(1)"),
    (Named, "SELECT no_such(1)"),
    (Named, "SELECT 1::no_such"),
    (Through, "SELECT * FROM no_such"),
    (Named, "VACUUM crm.indexed"),
    (Named, "REINDEX TABLE crm.indexed"),
];

fn grade(resolution: &Resolution) -> Expect {
    match resolution.code {
        Code::Free => Free,
        Code::ThroughRelations(_) => Through,
        Code::Named(_) => Named,
    }
}

#[test]
fn no_code_of_a_user_runs_in_what_is_code_free() {
    let server = start();
    server.create_database("hostile");
    server.execute("hostile", HOSTILE);
    let snapshot = snapshot(&server, "hostile");
    // The traces of a role that row security binds.
    let session = server.session("hostile");
    session.run("SET search_path TO crm, public; SET ROLE agent");
    let hits = || session.query("SELECT last_value, is_called FROM lab.hits");
    let mut traced = 0;
    for (expected, sql) in ATTACKS {
        let resolution = resolution(&snapshot, &PATH, &SessionView::default(), sql);
        assert_eq!(grade(&resolution), *expected, "{sql}: {:?} {:?}", resolution.code, resolution.functions);
        assert!(*expected == Free || !resolution.proven(), "{sql}");
        if sql.starts_with("COPY") {
            continue;
        }
        let before = hits();
        // Failures are fine: what ran until then has left its trace.
        drop(session.try_query(&format!("BEGIN; {sql}; ROLLBACK")));
        session.run("ROLLBACK");
        if hits() != before {
            traced += 1;
            assert_ne!(*expected, Free, "code of a user ran in: {sql}");
        }
    }
    assert!(traced >= 40, "only {traced} statements left a trace: the attacks have gone blunt");
}

#[test]
fn named_functions_ask_for_permits() {
    let server = start();
    server.create_database("hostile");
    server.execute("hostile", HOSTILE);
    let snapshot = snapshot(&server, "hostile");
    let permits = |sql: &str| -> Vec<(String, Class)> {
        let resolution = resolution(&snapshot, &PATH, &SessionView::default(), sql);
        resolution.functions.iter().map(|function| (function.to_string(), function.class)).collect()
    };
    let permit = |name: &str, class| (name.to_owned(), class);
    assert_eq!(permits("SELECT lab.word('x')"), [permit("lab.word(text)", Class::CallFunction)]);
    assert_eq!(
        permits("SELECT upper(name) FROM crm.plain"),
        [permit("public.upper(character varying)", Class::CallFunction)]
    );
    assert_eq!(permits("SELECT 'x'::crm.email"), [permit("lab.yes(anyelement)", Class::CallFunction)]);
    assert_eq!(
        permits("SELECT p.fullname FROM crm.plain p"),
        [permit("crm.fullname(crm.plain)", Class::CallFunction)]
    );
    assert_eq!(
        permits("SELECT a.mood = b.mood FROM crm.moody a, crm.moody b"),
        [permit("lab.mood_is()", Class::CallFunction)]
    );
    assert_eq!(
        permits("SELECT pg_read_file('x')"),
        [permit("pg_catalog.pg_read_file()", Class::AdminSystem)]
    );
    assert_eq!(permits("SELECT lo_get(1)"), [permit("pg_catalog.lo_get()", Class::ExportLargeObject)]);
    // The setting stands among the facts, and is judged as SET is; a mere mention has no such facts.
    assert_eq!(permits("SELECT set_config('a.b', 'c', false)"), []);
    assert_eq!(permits("SELECT pg_advisory_unlock_all()"), []);
    assert_eq!(
        permits("SELECT pg_advisory_lock(1)"),
        [permit("pg_catalog.pg_advisory_lock()", Class::SessionLock)]
    );
    assert_eq!(permits("SELECT pg_sleep(1)"), [permit("pg_catalog.pg_sleep()", Class::CallFunction)]);
    assert_eq!(
        permits("SELECT nowhere(1)"),
        [permit("crm.nowhere()", Class::CallFunction), permit("public.nowhere()", Class::CallFunction)]
    );
}

/// Extensions whose libraries are reviewed, and code of users beside them.
const EXTENSIONS: &str = include_str!("fixtures/extensions.sql");

/// What ordinary applications do with them: code-free, and those marked `true` proven.
const WITH_EXTENSIONS: &[(bool, &str)] = &[
    (true, "SELECT id, name FROM plain WHERE id = $1 AND other IN (1, 2) AND name <> 'x' AND id % 2 = 1"),
    (true, "SELECT mail FROM people WHERE id = $1"),
    (true, "SELECT id FROM people WHERE mail = $1 OR mail LIKE 'a%' OR mail IN ('a', 'b') ORDER BY mail"),
    (true, "SELECT a.id, 'x'::citext, 'a=>1'::hstore FROM people a JOIN people b USING (mail)"),
    (
        true,
        "SELECT kept -> 'a' FROM people WHERE kept ? 'a' AND place <@ 'a.b' AND spot && '(1,2)' AND span << '1'",
    ),
    (true, "SELECT id FROM people WHERE book = '978-0-11-000533-1' AND box = 'x' AND 'a' = ANY (many)"),
    (true, "SELECT id FROM booked WHERE room = 1 AND during && '[1,2)'"),
    (true, "SELECT body FROM letters WHERE body % 'abc' AND mail = 'A'"),
    (true, "SELECT DISTINCT mail, count(*) FROM parted WHERE mail = 'A' GROUP BY mail"),
    (false, "INSERT INTO people (id, mail, kept) VALUES (1, $1, $2) RETURNING mail"),
    (false, "INSERT INTO letters VALUES ('A', 'b')"),
    (false, "UPDATE people SET mail = $1, id = id + 1 WHERE id = $2"),
    (false, "DELETE FROM people WHERE mail = $1"),
    (false, "INSERT INTO parted VALUES ('A', 1)"),
    (false, "COMMIT"),
];

#[test]
fn reviewed_code_of_extensions_is_no_code_of_users() {
    let server = start();
    server.create_database("extended");
    server.execute("extended", EXTENSIONS);
    let snapshot = snapshot(&server, "extended");
    let session = &SessionView::default();
    for path in [&["crm", "ext"][..], &["crm", "ext", "aside"]] {
        for (proven, sql) in WITH_EXTENSIONS {
            let found = resolution(&snapshot, path, session, sql);
            assert_eq!(found.code, Code::Free, "{sql}: {:?}", found.functions);
            assert!(found.functions.is_empty() && !found.types_run_code, "{sql}: {:?}", found.functions);
            assert_eq!(found.proven(), *proven, "{sql}: {:?}", found.unproven);
        }
    }
    // Where the extension is off the path as well.
    let found = resolution(&snapshot, &["crm"], session, "SELECT id FROM people WHERE id = 1");
    assert!(found.proven(), "{:?}", found.unproven);
    assert_eq!((snapshot.everywhere(), snapshot.at_commit()), (None, None));
    let view = snapshot.view(snapshot.relation("crm", "found").unwrap().oid).unwrap();
    assert_eq!(view.code, None);
    // Who is called by name asks for a permit, whatever it runs.
    let least = resolution(&snapshot, &["crm", "ext"], session, "SELECT min(mail) FROM people");
    assert_eq!((grade(&least), least.proven()), (Free, false));
    assert_eq!(least.functions[0].to_string(), "ext.min(ext.citext)");
    for sql in [
        "SELECT replace(mail, 'a', 'b') FROM people",
        "SELECT set_limit(0.1)",
        "SELECT akeys(kept) FROM people",
        "SELECT p #= p.kept FROM people p",
        "SELECT 'x'::checked",
    ] {
        let found = resolution(&snapshot, &["crm", "ext"], session, sql);
        assert!(grade(&found) == Named && !found.functions.is_empty(), "{sql}");
    }
    let domained = resolution(&snapshot, &["crm", "ext"], session, "SELECT id FROM domained");
    assert_eq!((grade(&domained), domained.types_run_code), (Through, true));
}

/// What brings code of users into the objects of an extension, and the worst that is expected of the two statements behind it.
const INTRUSIONS: &[(Expect, Expect, &str)] = &[
    (
        Named,
        Through,
        "CREATE OR REPLACE FUNCTION ext.citext_eq(ext.citext, ext.citext) RETURNS bool LANGUAGE plpgsql IMMUTABLE STRICT AS $$BEGIN RETURN lab.yes('x'); END$$",
    ),
    (Named, Free, "CREATE OPERATOR crm.= (LEFTARG = ext.citext, RIGHTARG = ext.citext, FUNCTION = lab.same)"),
    (Named, Free, "CREATE OPERATOR crm.= (LEFTARG = ext.citext, RIGHTARG = text, FUNCTION = lab.worse)"),
    // Reviewed code under a name that somebody else has given it.
    (
        Named,
        Free,
        "CREATE OPERATOR crm.= (LEFTARG = ext.citext, RIGHTARG = ext.citext, FUNCTION = ext.citext_ne); ALTER OPERATOR crm.= (ext.citext, ext.citext) OWNER TO intruder",
    ),
    (
        Named,
        Free,
        "CREATE OPERATOR crm.= (LEFTARG = ext.citext, RIGHTARG = ext.citext, FUNCTION = lab.same); ALTER EXTENSION citext ADD OPERATOR crm.= (ext.citext, ext.citext)",
    ),
    (
        Through,
        Through,
        "CREATE FUNCTION lab.of_mail(ext.citext) RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$; CREATE CAST (ext.citext AS int) WITH FUNCTION lab.of_mail(ext.citext) AS IMPLICIT; ALTER EXTENSION citext ADD FUNCTION lab.of_mail(ext.citext)",
    ),
    (
        Through,
        Through,
        "CREATE OPERATOR CLASS lab.other FOR TYPE ext.citext USING btree AS OPERATOR 3 ext.= (ext.citext, ext.citext), FUNCTION 1 lab.order_of(ext.citext, ext.citext); CREATE INDEX ON crm.people (mail lab.other)",
    ),
    (
        Through,
        Through,
        "ALTER OPERATOR FAMILY ext.citext_ops USING hash ADD FUNCTION 1 (text, text) lab.hash(text)",
    ),
    (Named, Through, "ALTER FUNCTION ext.citext_eq(ext.citext, ext.citext) SET search_path TO lab"),
    (
        Named,
        Through,
        "CREATE OR REPLACE FUNCTION ext.citext_eq(ext.citext, ext.citext) RETURNS bool LANGUAGE c IMMUTABLE STRICT AS '$libdir/tablefunc', 'crosstab'",
    ),
];

#[test]
fn code_of_users_in_an_extension_stays_theirs() {
    let server = start();
    server.create_database("pristine");
    server.execute("pristine", EXTENSIONS);
    server.execute(
        "pristine",
        "CREATE FUNCTION lab.worse(ext.citext, text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RETURN true; END$$;
         CREATE FUNCTION lab.hash(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN 1; END$$;
         CREATE ROLE intruder; GRANT ALL ON SCHEMA crm, ext, lab TO intruder;",
    );
    for (number, (compared, read, change)) in INTRUSIONS.iter().enumerate() {
        let name = format!("intruded{number}");
        server.execute("postgres", &format!("CREATE DATABASE {name} TEMPLATE pristine"));
        server.execute(&name, change);
        let snapshot = snapshot(&server, &name);
        let graded = |sql: &str| grade(&resolution(&snapshot, &["crm", "ext"], &SessionView::default(), sql));
        assert_eq!(graded("SELECT id FROM people WHERE id = 1"), *compared, "{change}");
        assert_eq!(graded("SELECT id FROM people"), *read, "{change}");
    }
}

#[test]
fn commit_runs_what_was_deferred() {
    let server = start();
    server.create_database("deferred");
    server.execute("deferred", ORDINARY);
    let before = snapshot(&server, "deferred");
    assert_eq!(resolution(&before, &PATH, &SessionView::default(), "COMMIT").code, Code::Free);
    let private = SessionView { private_catalog: true, ..SessionView::default() };
    assert_eq!(grade(&resolution(&before, &PATH, &private, "COMMIT")), Through);
    assert_eq!(grade(&resolution(&before, &PATH, &private, "SELECT 1 + 1")), Named);
    // Constants and the server's own functions without arguments mean the same under every catalog.
    for text in ["SELECT 1", "SELECT pg_advisory_unlock_all()", "SELECT now(), 'x'"] {
        assert_eq!(grade(&resolution(&before, &PATH, &private, text)), Free, "{text}");
    }
    for text in ["SELECT nowhere()", "SELECT $1"] {
        assert_eq!(grade(&resolution(&before, &PATH, &private, text)), Named, "{text}");
    }
    assert_eq!(grade(&resolution(&before, &PATH, &private, "ROLLBACK")), Free);
    let held = SessionView { held_cursor: true, ..SessionView::default() };
    assert_eq!(grade(&resolution(&before, &PATH, &held, "END")), Through);

    server.execute(
        "deferred",
        "CREATE FUNCTION crm.late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON crm.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crm.late();
         CREATE FUNCTION crm.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION crm.watch();",
    );
    let after = snapshot(&server, "deferred");
    let commit = resolution(&after, &PATH, &SessionView::default(), "COMMIT");
    assert_eq!(
        commit.code.reason().map(|reason| &**reason),
        Some("what was deferred runs now: crm.orders has trigger late, which runs crm.late()")
    );
    assert_eq!(
        grade(&resolution(&after, &PATH, &SessionView::default(), "SET CONSTRAINTS ALL IMMEDIATE")),
        Through
    );
    assert_eq!(grade(&resolution(&after, &PATH, &SessionView::default(), "ROLLBACK")), Free);
    let ddl = resolution(&after, &PATH, &SessionView::default(), "CREATE TABLE crm.x (id int)");
    assert!(ddl.code.reason().is_some_and(|reason| reason.contains("event trigger watch")), "{:?}", ddl.code);
}

#[test]
fn commit_checks_deferred_keys_and_exclusions() {
    let server = start();
    for (name, script) in [
        (
            "keys",
            "CREATE TABLE one (id int PRIMARY KEY, x int); CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
             CREATE INDEX ON one (f(x)); CREATE TABLE many (id int REFERENCES one DEFERRABLE INITIALLY DEFERRED);",
        ),
        (
            "exclusion",
            "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
             CREATE TABLE one (x int, EXCLUDE USING btree (f(x) WITH =) DEFERRABLE INITIALLY DEFERRED);",
        ),
    ] {
        server.create_database(name);
        server.execute(name, script);
        let snapshot = snapshot(&server, name);
        assert_eq!(grade(&resolution(&snapshot, &PATH, &SessionView::default(), "COMMIT")), Through, "{name}");
    }
}

#[test]
fn temporary_objects_come_first() {
    let server = start();
    server.create_database("temporary");
    server.execute("temporary", ORDINARY);
    let session = server.session("temporary");
    session.run(queries::GREET);
    let print = || session.query(queries::FINGERPRINT)[0][0].clone();
    let before = print();
    let other = server.session("temporary");
    other.run("SET search_path TO crm");
    other.run("CREATE TEMP TABLE below () INHERITS (crm.orders)");
    other.run("CREATE DOMAIN pg_temp.text AS varchar CHECK (length(VALUE) < 3)");
    assert!(
        other.try_query("SELECT 'long'::text").is_err(),
        "a temporary domain catches the name of a built-in type"
    );
    assert_ne!(print(), before, "a temporary child of a permanent table");
    let snapshot = snapshot(&server, "temporary");
    assert_eq!(
        grade(&resolution(&snapshot, &PATH, &SessionView::default(), "SELECT * FROM crm.orders")),
        Through
    );
    let temp = SessionView { temp_possible: true, ..SessionView::default() };
    assert_eq!(grade(&resolution(&snapshot, &PATH, &temp, "SELECT 'x'::text")), Named);
    assert_eq!(grade(&resolution(&snapshot, &PATH, &temp, "SELECT 'x'::pg_catalog.text")), Free);
}

#[test]
fn what_the_session_made_in_an_earlier_schema_comes_first() {
    let server = start();
    server.create_database("made");
    server.execute(
        "made",
        "CREATE SCHEMA crm; CREATE TABLE public.audit (a int); CREATE TABLE crm.orders (a int)",
    );
    let snapshot = snapshot(&server, "made");
    let made = [std::sync::Arc::from("audit"), std::sync::Arc::from("orders")];
    let private = SessionView { private_catalog: true, made: &made, ..SessionView::default() };
    let reached = |session: &SessionView<'_>, sql: &str| -> Vec<String> {
        let found = resolution(&snapshot, &PATH, session, sql).relations;
        found.iter().map(|relation| format!("{}.{}", relation.schema, relation.name)).collect()
    };
    assert_eq!(reached(&private, "SELECT * FROM audit"), ["crm.audit", "public.audit"]);
    assert_eq!(reached(&private, "SELECT * FROM public.audit"), ["public.audit"]);
    assert_eq!(
        reached(&private, "SELECT * FROM orders"),
        ["crm.orders"],
        "nothing stands before the first schema"
    );
    assert_eq!(reached(&SessionView::default(), "SELECT * FROM audit"), ["public.audit"]);
    let more = SessionView { made: &[], made_more: true, ..private };
    assert_eq!(reached(&more, "SELECT * FROM audit"), ["crm.audit", "public.audit"]);
}

#[test]
fn parameters_bring_their_types() {
    let server = start();
    server.create_database("hostile");
    server.execute("hostile", HOSTILE);
    let snapshot = snapshot(&server, "hostile");
    let oid = |name: &str| -> u32 {
        let found = server.query("hostile", &format!("SELECT '{name}'::regtype::oid"));
        found[0][0].as_deref().and_then(|oid| oid.parse().ok()).unwrap()
    };
    let with = |types: &[u32], sql: &str| {
        resolution(&snapshot, &PATH, &SessionView { parameter_types: types, ..SessionView::default() }, sql)
    };
    assert_eq!(grade(&with(&[23, 0], "SELECT $1 = $2")), Free);
    let mood = oid("crm.mood");
    let compared = with(&[mood, mood], "SELECT $1 = $2");
    assert_eq!(grade(&compared), Named);
    assert!(compared.functions.iter().any(|function| function.to_string() == "lab.mood_is()"));
    assert_eq!(grade(&with(&[oid("crm.email")], "SELECT $1")), Named);
    assert_eq!(grade(&with(&[4_000_000_000], "SELECT $1")), Named);
}

#[test]
fn the_built_ins_of_the_live_server_are_the_reviewed_ones() {
    let server = start();
    server.create_database("bare");
    let session = server.session("bare");
    let callable = session.query(
        "SELECT n.nspname, p.proname, p.proargtypes, p.provolatile FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.oid < 16384 AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype,
           'index_am_handler'::regtype, 'table_am_handler'::regtype, 'fdw_handler'::regtype, 'tsm_handler'::regtype, 'language_handler'::regtype)
           AND NOT 'internal'::regtype = ANY (p.proargtypes) AND p.proname NOT LIKE 'pg\\_event\\_trigger\\_%'",
    );
    assert!(callable.len() > 2500);
    for row in &callable {
        let [Some(schema), Some(name), Some(arguments), Some(volatility)] = &row[..] else {
            panic!("{row:?}")
        };
        let arguments: Vec<u32> = arguments.split_whitespace().map(|oid| oid.parse().unwrap()).collect();
        let known = builtins::functions(schema, name);
        let known = known.iter().find(|builtin| *builtin.arguments == *arguments);
        let known =
            known.unwrap_or_else(|| panic!("{schema}.{name}({arguments:?}) is in no table: review it"));
        assert!(
            known.volatility.contains(volatility.as_str()),
            "{schema}.{name} became {volatility}: review it again"
        );
    }
    for row in session.query(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v')",
    ) {
        let [Some(schema), Some(name)] = &row[..] else { panic!("{row:?}") };
        assert!(system::knows(schema, name), "{schema}.{name} is on no list: review it");
    }
    for row in session.query("SELECT typname FROM pg_type WHERE oid < 16384 AND typtype <> 'c' AND typnamespace = 'pg_catalog'::regnamespace
        AND typelem = 0") {
        assert!(system::is_type(row[0].as_deref().unwrap()), "{row:?}");
    }
    let snapshot = snapshot(&server, "bare");
    for name in ["upper", "sum", "ts_stat"] {
        assert!(snapshot.unreviewed_functions(name).is_empty(), "{name}");
    }
}

#[test]
fn an_overload_that_nobody_reviewed_is_not_reviewed() {
    let server = start();
    server.create_database("bare");
    let mut later = rows(&server, "bare");
    let builtin = queries::QUERIES.iter().position(|query| query.name == "built-in functions").unwrap();
    let cell = |text: &str| Some(text.to_owned());
    later.0[builtin].push(vec![
        cell("9999"),
        cell("pg_catalog"),
        cell("upper"),
        cell("f"),
        cell("0"),
        cell("f"),
        cell("600"),
    ]);
    let operator = queries::QUERIES.iter().position(|query| query.name == "built-in operators").unwrap();
    later.0[operator].push(vec![cell("=="), cell("23"), cell("23")]);
    let later = Snapshot::from_rows(&later, 2).unwrap();
    for sql in ["SELECT upper('x')", "SELECT 1 == 2"] {
        let resolution = resolution(&later, &[], &SessionView::default(), sql);
        assert_eq!(grade(&resolution), Named, "{sql}");
        assert_eq!(&*resolution.functions[0].schema, "pg_catalog");
    }
}

#[test]
fn what_stands_in_pg_catalog_by_a_users_hand_is_a_users() {
    let server = Postgres::builder(21200..21260).setting("allow_system_table_mods", "on").start();
    server.create_database("planted");
    server.execute(
        "planted",
        "CREATE FUNCTION pg_catalog.upper(varchar) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
         CREATE TABLE pg_catalog.planted (id int);",
    );
    let snapshot = snapshot(&server, "planted");
    let call = resolution(&snapshot, &[], &SessionView::default(), "SELECT pg_catalog.upper('x'::varchar)");
    assert_eq!(grade(&call), Named);
    let read = resolution(&snapshot, &[], &SessionView::default(), "SELECT * FROM planted");
    assert_eq!(read.relations[0].reach, Reach::Table);
}

#[test]
fn the_fingerprint_moves_with_the_catalog_and_with_nothing_else() {
    let server = start();
    server.create_database("moving");
    server.execute("moving", HOSTILE);
    let session = server.session("moving");
    session.run(queries::GREET);
    let print = || session.query(queries::FINGERPRINT)[0][0].clone();
    let mut last = print();
    let other = server.session("moving");
    for quiet in [
        "ANALYZE crm.plain",
        "INSERT INTO crm.plain VALUES (2, 'x', 'y')",
        "VACUUM crm.plain",
        "CREATE TEMP TABLE mine (id int, mood crm.mood DEFAULT 'sad', CHECK (id > 0)); CREATE INDEX ON mine (id)",
        "SELECT nextval('lab.hits')",
    ] {
        other.run(quiet);
        assert_eq!(print(), last, "{quiet}");
    }
    for change in [
        "CREATE SCHEMA fresh",
        "CREATE TABLE crm.fresh (id int)",
        "ALTER TABLE crm.fresh ADD COLUMN mood crm.mood",
        "ALTER TABLE crm.fresh ALTER COLUMN id SET DEFAULT 7",
        "CREATE INDEX ON crm.fresh (abs(id))",
        "CREATE TRIGGER t BEFORE INSERT ON crm.fresh FOR EACH ROW EXECUTE FUNCTION lab.fire()",
        "ALTER TABLE crm.fresh DISABLE TRIGGER t",
        "ALTER TABLE crm.fresh ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON crm.fresh USING (true)",
        "ALTER POLICY p ON crm.fresh USING (lab.yes(id))",
        "ALTER TABLE crm.fresh ADD CHECK (id > 0)",
        "CREATE OR REPLACE VIEW crm.looking AS SELECT id FROM crm.plain",
        "CREATE OR REPLACE FUNCTION lab.word(text) RETURNS text LANGUAGE sql AS $$SELECT $1$$",
        "CREATE DOMAIN crm.fresh_domain AS int",
        "ALTER DOMAIN crm.fresh_domain ADD CHECK (lab.yes(VALUE))",
        "CREATE OPERATOR public.=== (LEFTARG = crm.mood, RIGHTARG = crm.mood, FUNCTION = lab.mood_is)",
        "DROP CAST (text AS crm.color)",
        "ALTER TABLE crm.child NO INHERIT crm.parent",
        "ALTER TABLE crm.fresh RENAME TO stale",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION lab.watch()",
        "DROP STATISTICS crm.counts",
        "CREATE OPERATOR FAMILY crm.kin USING btree; ALTER OPERATOR FAMILY crm.kin USING btree ADD OPERATOR 1 < (int, int)",
        "ALTER OPERATOR FAMILY crm.kin USING btree ADD FUNCTION 1 (int, int) btint4cmp(int, int)",
    ] {
        if change.contains("lab.watch") {
            other.run("CREATE FUNCTION lab.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$");
            last = print();
        }
        other.run(change);
        let now = print();
        assert_ne!(now, last, "{change}");
        last = now;
    }
}

#[test]
fn rows_that_do_not_read_are_no_snapshot() {
    let server = start();
    server.create_database("bare");
    let good = rows(&server, "bare");
    assert_eq!(Snapshot::from_rows(&good, 7).unwrap().epoch, 7);
    assert!(matches!(Snapshot::from_rows(&Rows(Vec::new()), 1), Err(LoadError::Answers { found: 0, .. })));
    for (query, of) in queries::QUERIES.iter().enumerate() {
        for column in 0..of.columns {
            for bad in [None, Some("\u{1}nonsense".to_owned())] {
                let mut broken = good.clone();
                let Some(first) = broken.0[query].first_mut() else { continue };
                if first[column].is_none() {
                    continue;
                }
                let text = bad.is_some();
                first[column] = bad;
                let loaded = Snapshot::from_rows(&broken, 1);
                // Nonsense is a fine name; nothing else may be nonsense, and nothing at all NULL.
                assert!(loaded.is_err() || text, "{}: column {column}", of.name);
            }
        }
        let mut narrow = good.clone();
        if let Some(first) = narrow.0[query].first_mut() {
            first.pop();
            assert!(matches!(Snapshot::from_rows(&narrow, 1), Err(LoadError::Columns { .. })), "{}", of.name);
        }
    }
    let mut foreign = good.clone();
    foreign.0[0][0][0] = Some("190001".to_owned());
    assert_eq!(Snapshot::from_rows(&foreign, 1).unwrap_err(), LoadError::Version(190_001));
    let snapshot = Snapshot::from_rows(&good, 1).unwrap();
    assert!(
        snapshot
            .relation("pg_catalog", "pg_class")
            .is_some_and(|class| class.system && class.code(Event::Read).is_none())
    );
}
