"""`pgturnstile scan` against a real server: what it finds, what it never prints, what it never does.

Every sensitive cell holds a sentinel of its own. No output of any form may hold one of them, whatever it is disguised as.
"""

from __future__ import annotations

import json
import os
import subprocess
import tomllib

import pytest

from harness import HANG_S, binary, wait_until
from label_ways import disguises

WORD = "Quetzalcoatlus"
CARD, IBAN = "4111 1111 1111 1111", "DE89370400440532013000"
SENTINELS = [WORD, CARD, CARD.replace(" ", ""), IBAN, "123-45-", "915-555", "AKIAIOSFODNN7EXAMPLE", "1987-06-05"]
NEEDLES = set().union(*(disguises(sentinel) for sentinel in SENTINELS))

SCHEMA = f"""
CREATE SCHEMA crm; CREATE SCHEMA odd; CREATE SCHEMA shut;
CREATE EXTENSION citext SCHEMA odd;
CREATE TYPE odd.mood AS ENUM ('{WORD.lower()}', 'glad');
CREATE DOMAIN odd.mail AS text; CREATE DOMAIN odd.work_mail AS odd.mail;
CREATE TYPE odd.pair AS (a text, b int);
CREATE TABLE crm.people (id int PRIMARY KEY, email text, phone text, ssn text, card varchar(30), iban text, first_name text,
  birth_date date, notes text, profile jsonb, tags text[], raw bytea, cpf bigint, ssn_digits text, order_no bigint, plain text,
  peer inet, active boolean);
INSERT INTO crm.people SELECT n, '{WORD}' || n || '@example.com', '915-555-' || 1000 + n, '123-45-' || 1000 + n, '{CARD}', '{IBAN}',
  '{WORD}', '1987-06-05', CASE WHEN n % 10 = 0 THEN 'write to {WORD}' || n || '@example.com' ELSE 'nothing' END,
  jsonb_build_object('mail', '{WORD}' || n || '@example.com'), ARRAY['x', '{WORD}' || n || '@example.com'],
  convert_to('{WORD}' || n || '@example.com', 'UTF8'), 52998224725, '12345' || 1000 + n, 4000000000000000 + n * 7919, 'word ' || n % 7,
  '10.0.0.1', true FROM generate_series(1, 500) n;
CREATE TABLE crm.keys (id int, note text);
INSERT INTO crm.keys SELECT n, CASE n WHEN 7 THEN 'key AKIAIOSFODNN7EXAMPLE' ELSE 'none' END FROM generate_series(1, 300) n;
CREATE TABLE crm.big (id int, contact text, filler text) WITH (autovacuum_enabled = off);
INSERT INTO crm.big SELECT n, '{WORD}' || n || '@example.com', repeat('x', 900) FROM generate_series(1, 40000) n;
CREATE TABLE crm.parts (id int, contact text) PARTITION BY RANGE (id);
DO $$ BEGIN FOR n IN 0..39 LOOP EXECUTE format('CREATE TABLE crm.parts_%s PARTITION OF crm.parts FOR VALUES FROM (%s) TO (%s)',
  n, n * 100, n * 100 + 100); END LOOP; END $$;
INSERT INTO crm.parts SELECT n, '{WORD}' || n || '@example.com' FROM generate_series(0, 3999) n;
CREATE TABLE crm.empty (email text);
CREATE TABLE crm.few (email text);
INSERT INTO crm.few VALUES ('{WORD}@example.com'), (NULL);
CREATE VIEW crm.seen AS SELECT email FROM crm.people;
CREATE MATERIALIZED VIEW crm.kept AS SELECT email AS e FROM crm.people;
CREATE MATERIALIZED VIEW crm.unborn AS SELECT email AS e FROM crm.people WITH NO DATA;
CREATE TABLE odd."Odd Name" ("E-Mail" odd.citext, "a.b*c" odd.work_mail, "q""t\ny" text, mood odd.mood, p odd.pair, x xml, "größe" text, "last\nname" text);
INSERT INTO odd."Odd Name" SELECT '{WORD}' || n || '@example.com', '{WORD}' || n || '@example.com', '{WORD}' || n || '@example.com',
  '{WORD.lower()}', ('{WORD}' || n || '@example.com', n)::odd.pair, ('<a>{WORD}' || n || '@example.com</a>')::xml, '{WORD}' FROM generate_series(1, 60) n;
CREATE TABLE odd.wide (doc text, j jsonb, b bytea);
INSERT INTO odd.wide SELECT '{WORD}@example.com ' || (SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 60000) m),
  to_jsonb((SELECT string_agg(md5(n::text || m), '{WORD}@example.com') FROM generate_series(1, 20000) m)),
  '\\x00'::bytea FROM generate_series(1, 3) n;
CREATE TABLE odd.nothing ();
CREATE TABLE odd.guarded (email text);
INSERT INTO odd.guarded VALUES ('{WORD}@example.com');
CREATE TABLE odd.mark (n int);
CREATE FUNCTION odd.peep(t text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE WARNING '%', t; PERFORM pg_catalog.pg_notify('peep', t); RETURN true; END $$;
ALTER TABLE odd.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON odd.guarded USING (odd.peep(email));
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE odd.far (email text) SERVER away;
CREATE TABLE odd.half (email text, secret text);
INSERT INTO odd.half SELECT '{WORD}' || n || '@example.com', '{WORD}' FROM generate_series(1, 20) n;
CREATE TABLE shut.all_of_it (email text);
CREATE TABLE crm.closed (email text);
GRANT USAGE ON SCHEMA crm, odd TO catalog_login;
GRANT SELECT ON ALL TABLES IN SCHEMA crm, odd TO catalog_login;
REVOKE ALL ON crm.closed FROM catalog_login;
REVOKE ALL ON odd.half FROM catalog_login; GRANT SELECT (email) ON odd.half TO catalog_login;
"""


def make(world, name, sql, *options):
    """A database of its own."""
    with world.database.superuser("postgres") as db:
        db.execute(" ".join([f"CREATE DATABASE {name}", *options]))
    with world.database.superuser(name) as db:
        db.execute(sql)


def target(name):
    return f'[[target]]\nname = "{name}"\naddress = "$pg_address"\ndatabase = "{name}"\ntls = {{ mode = "disable" }}\ncontrol = "catalog"\n'


@pytest.fixture(scope="module")
def gate(world):
    """A configuration; no gateway runs."""
    make(world, "scanned", SCHEMA)
    made = world.gateway(extra=target("scanned").replace("$pg_address", f"127.0.0.1:{world.database.port}"))
    return made


def scan(gate, *arguments, code=None, env=None):
    """Runs it; no output may hold a sentinel."""
    got = subprocess.run(
        [binary(), "scan", "--config", gate.folder / "pgturnstile.toml", *map(str, arguments)],
        capture_output=True, timeout=HANG_S, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    for needle in NEEDLES:
        assert needle not in got.stdout and needle not in got.stderr, (needle, got.stdout[-2000:], got.stderr)
    assert b"panicked" not in got.stderr, got.stderr
    if code is not None:
        assert got.returncode == code, (got.returncode, got.stdout[-3000:], got.stderr[-3000:])
    return got


def report(gate, *arguments, code=None, target="scanned", env=None) -> dict:
    named = ["--target", target] if target else []
    return json.loads(scan(gate, *named, "--json", *arguments, code=code, env=env).stdout)


def columns(made) -> dict:
    return {f"{column['schema']}.{column['relation']}.{column['column']}": column for column in made["columns"]}


def relations(made) -> dict:
    return {f"{relation['schema']}.{relation['name']}": relation for relation in made["relations"]}


def found(column):
    finding = column.get("finding")
    return finding and (finding["confidence"], finding["class"], finding["mask"])


@pytest.fixture(scope="module")
def first(gate):
    return report(gate, code=1)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("crm.people.email", ("high", "email", "domain")),
        ("crm.people.phone", ("high", "phone", "last4")),
        ("crm.people.ssn", ("high", "ssn", "last4")),
        ("crm.people.card", ("high", "card", "last4")),
        ("crm.people.iban", ("high", "iban", "last4")),
        ("crm.people.first_name", ("low", "person-name", "null")),
        ("crm.people.birth_date", ("low", "birth-date", "null")),
        ("crm.people.notes", ("medium", "email", "null")),
        ("crm.people.profile", ("high", "email", "null")),
        ("crm.people.tags", ("high", "email", "null")),
        ("crm.people.raw", ("high", "email", "null")),
        ("crm.people.cpf", ("high", "national-id", "null")),
        ("crm.people.ssn_digits", ("medium", "ssn", "null")),
        ("crm.people.order_no", None),
        ("crm.people.plain", None),
        ("crm.people.id", None),
        ("crm.people.peer", ("low", "network-address", "null")),
        ("crm.people.active", None),
        ("crm.keys.note", ("medium", "api-key", "null")),
        ("crm.big.contact", ("high", "email", "domain")),
        ("crm.big.filler", None),
        ("crm.parts.contact", ("high", "email", "domain")),
        ("crm.empty.email", ("low", "email", "null")),
        ("crm.few.email", ("high", "email", "domain")),
        ("crm.kept.e", ("high", "email", "domain")),
        ('odd.Odd Name.E-Mail', ("high", "email", "domain")),
        ('odd.Odd Name.a.b*c', ("high", "email", "domain")),
        ('odd.Odd Name.q"t\ny', ("high", "email", "domain")),
        ("odd.Odd Name.mood", None),
        ("odd.Odd Name.p", ("high", "email", "null")),
        ("odd.Odd Name.x", ("high", "email", "null")),
        ("odd.wide.doc", ("medium", "email", "null")),
        ("odd.half.email", ("high", "email", "domain")),
    ],
)
def test_what_is_found(first, name, wanted):
    assert found(columns(first)[name]) == wanted, columns(first)[name]


def test_counts_and_shapes_tell_no_value(first):
    by_name = columns(first)
    ssn = by_name["crm.people.ssn"]["finding"]
    assert ssn["shapes"] == [{"shape": "9{3}-9{2}-9{4}", "percent": 100}] and ssn["percent"] == 100
    assert ssn["matched"] == {"at_least": 500, "at_most": 500} and by_name["crm.people.ssn"]["looked"] == 500
    keys = by_name["crm.keys.note"]["finding"]
    assert keys["matched"] == {"at_least": 1, "at_most": 9} and "percent" not in keys and "shapes" not in keys
    few = by_name["crm.few.email"]
    assert "shapes" not in few["finding"] and (few["looked"], few["absent"]) == (1, 1)


def test_what_is_not_read_is_said(first):
    by_name = relations(first)
    for name, why in [
        ("crm.seen", "a view"),
        ("crm.unborn", "populated"),
        ("odd.guarded", "code of users"),
        ("odd.far", "foreign table"),
        ("crm.closed", "permission denied"),
        ("shut.all_of_it", "permission denied"),
    ]:
        assert why in by_name[name]["skipped"], by_name[name]
        assert "sample" not in by_name[name]
    assert columns(first)["odd.half.secret"]["skipped"] == "permission denied on the column"
    assert "crm.parts_3" not in by_name, "a partition is its root's"
    assert by_name["crm.parts"]["partitions"] == 40 and by_name["crm.parts"]["partitions_sampled"] > 10
    big = by_name["crm.big"]["sample"]
    assert big["how"] == "random pages" and 500 < big["rows"] <= 10_000, big


def test_people_get_a_table_and_the_next_step(gate):
    shown = scan(gate, "--target", "scanned", code=1).stdout.decode()
    assert "CONFIDENCE" in shown and "crm.people.ssn" in shown and "9{3}-9{2}-9{4}" in shown
    assert "permission denied" in shown and "--toml" in shown and "\x1b" not in shown
    assert 'q"t\\u{a}y' in shown, "a name cannot move the terminal"


def test_the_labels_can_be_pasted_and_cover_what_was_found(gate):
    fragment = scan(gate, "--target", "scanned", "--toml", code=1).stdout.decode()
    proposed = tomllib.loads(fragment)["label"]
    assert {"column": "crm.people.email", "tier": "personal", "mask": "domain", "canonical": "lower"} in proposed
    assert "# column = \"crm.people.first_name\"" in fragment and not any("first_name" in label["column"] for label in proposed)
    policy = gate.folder / "labelled.toml"
    policy.write_text((gate.folder / "policy.toml").read_text() + "\n" + fragment)
    checked = subprocess.run(
        [binary(), "check", "--config", gate.folder / "pgturnstile.toml", "--policy", policy], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    covered = report(gate, "--policy", policy, code=0)
    assert covered["unlabelled"] == 0
    by_name = columns(covered)
    label = by_name["crm.people.ssn"]["label"]
    assert label["tier"] == "restricted" and "labelled.toml:" in label["place"]
    assert by_name["crm.seen.email"]["label"]["rule"] == "label crm.people.email", "it spreads to the view"
    assert 'odd."Odd Name"."a.b*c"' in [label["column"] for label in proposed]
    # All labels, also those that are commented out.
    everything = scan(gate, "--target", "scanned", "--toml", "--min-confidence", "low", code=1).stdout.decode()
    policy.write_text((gate.folder / "policy.toml").read_text() + "\n" + everything)
    assert report(gate, "--policy", policy, "--min-confidence", "low", code=0)["unlabelled"] == 0


def test_what_changes_is_told(gate, world, tmp_path):
    policy = gate.folder / "drift.toml"
    labels = "".join(
        f'[[label]]\ncolumn = "{name}"\ntier = "personal"\nmask = "null"\n' for name in ("odd.moving.a", "odd.moving.stops")
    )
    policy.write_text((gate.folder / "policy.toml").read_text() + labels)
    only = ("--policy", policy, "--only", "odd.moving")
    with world.database.superuser("scanned") as db:
        db.execute(
            "CREATE TABLE odd.moving (a text, stops text, swaps text, grows text, goes text, widens int, loses text);"
            f"INSERT INTO odd.moving SELECT m, m, m, 'x', 'x', 1, m FROM (SELECT '{WORD}' || n || '@example.com' FROM generate_series(1, 60) n) s(m);"
            "GRANT SELECT ON odd.moving TO catalog_login"
        )
        baseline = tmp_path / "baseline.json"
        baseline.write_text(json.dumps(report(gate, *only, code=1)))
        still = report(gate, *only, "--baseline", baseline)
        assert still["drift"] == []
        assert b"Nothing has changed" in scan(gate, "--target", "scanned", *only, "--baseline", baseline).stdout
        db.execute(
            f"UPDATE odd.moving SET stops = 'nothing', swaps = '{CARD}', grows = '{IBAN}', loses = 'nothing';"
            "ALTER TABLE odd.moving DROP goes, ADD arrives text, ALTER widens TYPE bigint"
        )
        changed = report(gate, *only, "--baseline", baseline, code=1)["drift"]
        db.execute("REVOKE ALL ON odd.moving FROM catalog_login; GRANT SELECT (a) ON odd.moving TO catalog_login")
        policy.write_text((gate.folder / "policy.toml").read_text())
        shut = report(gate, *only, "--baseline", baseline, code=1)["drift"]
        shown = scan(gate, "--target", "scanned", *only, "--baseline", baseline, code=1).stdout.decode()
        db.execute("DROP TABLE odd.moving")
    got = {(change["column"], change["change"]) for change in changed}
    assert got == {
        ("stops", "stopped-matching"), ("swaps", "class-changed"), ("grows", "class-appeared"), ("goes", "gone-column"),
        ("arrives", "new-column"), ("widens", "type-changed"),
    }  # fmt: skip
    got = {(change["column"], change["change"]) for change in shut}
    assert {("a", "label-gone"), ("stops", "label-gone"), ("swaps", "not-looked-at")} <= got, got
    assert "Changed since" in shown and "its label is gone" in shown


def test_nothing_is_written_and_no_lock_is_kept(gate, world):
    """EXCLUSIVE conflicts with every lock but ACCESS SHARE; a lock that a relation's sample leaves behind would keep ALTER out."""
    before = len(world.database.log())
    with world.database.superuser("scanned") as holder:
        holder.autocommit = False
        holder.execute("LOCK crm.people IN EXCLUSIVE MODE; LOCK crm.keys IN ACCESS EXCLUSIVE MODE")
        made = relations(report(gate, "--lock-timeout-ms", 50, code=1))
        holder.rollback()
    assert made["crm.people"]["sample"]["rows"] == 500
    assert "holds a lock" in made["crm.keys"]["skipped"]
    said = [line for line in world.database.log()[before:].splitlines() if " catalog_login " in line and "statement: " in line]
    statements = [line.split("statement: ", 1)[1] for line in said]
    assert len(statements) > 50
    assert all(statement.startswith(("SET ", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT ", "WITH RECURSIVE ",
                                     "WITH trees", "SAVEPOINT scan", "ROLLBACK")) for statement in statements), statements  # fmt: skip
    begun = [statement for statement in statements if statement.startswith(("BEGIN", "COMMIT"))]
    assert len(begun) == 1 and statements[-1] == "ROLLBACK"
    samples = [statement for statement in statements if " LIMIT " in statement]
    assert samples and all(" FROM ONLY " in sample for sample in samples)


def test_the_lock_of_a_relation_goes_before_the_next_is_read(gate, world):
    """The scan waits at a locked relation; by then it holds no lock on what it has read."""
    with world.database.superuser("scanned") as holder, world.database.superuser("scanned") as other:
        holder.autocommit = False
        holder.execute("LOCK crm.people IN ACCESS EXCLUSIVE MODE")
        running = subprocess.Popen(
            [binary(), "scan", "--config", gate.folder / "pgturnstile.toml", "--target", "scanned", "--json", "--lock-timeout-ms", str(HANG_S * 1000)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        held = "SELECT l.relation::regclass::text, l.mode, l.granted FROM pg_locks l JOIN pg_stat_activity a USING (pid)" \
               " WHERE a.application_name = 'pgturnstile scan' AND l.locktype = 'relation' AND l.relation >= 16384"  # fmt: skip
        wait_until("it waits", lambda: any(not granted for *_, granted in other.execute(held).fetchall()))
        locks = other.execute(held).fetchall()
        assert [name for name, *_ in locks] == ["crm.people"] and locks[0][1] == "AccessShareLock", locks
        holder.rollback()
        assert running.wait(HANG_S) == 1, running.stderr.read()
        assert columns(json.loads(running.stdout.read()))["crm.people.email"]["looked"] == 500


def test_code_of_users_runs_only_where_it_is_asked_for(gate, world):
    with world.database.superuser("scanned") as db:
        db.execute("LISTEN peep")
        report(gate, "--only", "odd.guarded", code=3)
        assert list(db.notifies(timeout=0.1)) == []
        made = report(gate, "--only", "odd.guarded", "--only", "crm.seen", "--with-code")
        assert relations(made)["odd.guarded"]["notes"] == ["row security may hide rows from this login"]
        assert found(columns(made)["crm.seen.email"]) == ("high", "email", "domain")


def test_names_alone(gate):
    made = report(gate, "--names-only", code=0)
    assert all(column["looked"] == 0 for column in made["columns"])
    assert {finding[0] for finding in map(found, made["columns"]) if finding} == {"low"}


def test_a_limit_cuts_and_is_said(gate, world):
    made = report(gate, "--rows", 7, "--only", "crm.people", code=1)
    assert relations(made)["crm.people"]["sample"] == {"rows": 7, "how": "the first rows"}
    with world.database.superuser("scanned") as db:
        db.execute("CREATE FUNCTION odd.slow() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(3600)';"
                   "CREATE VIEW odd.sleeps AS SELECT 'x'::text AS email WHERE odd.slow() = 1; GRANT SELECT ON odd.sleeps TO catalog_login")  # fmt: skip
        made = report(gate, "--only", "odd.sleeps", "--only", "crm.few", "--with-code", "--statement-timeout-ms", 100)
        db.execute("DROP VIEW odd.sleeps")
    assert "limit of one statement" in relations(made)["odd.sleeps"]["skipped"]
    assert relations(made)["crm.few"]["sample"]["rows"] == 2, "the next relation is read"


@pytest.mark.parametrize(
    "name, options, word",
    [
        ("latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", "größe"),
        ("ascii", "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", "grosse"),
    ],
)
def test_other_encodings(gate, world, name, options, word):
    make(world, name, f"CREATE SCHEMA crm; CREATE TABLE crm.people (email text, {word} text); GRANT USAGE ON SCHEMA crm TO catalog_login;"
         f"INSERT INTO crm.people SELECT '{WORD}' || n || '@example.com', convert_from('\\x67e4f6', getdatabaseencoding()) FROM generate_series(1, 30) n;"
         "GRANT SELECT ON ALL TABLES IN SCHEMA crm TO catalog_login", options)  # fmt: skip
    dsn = f"postgresql://catalog_login@127.0.0.1:{world.database.port}/{name}"
    made = report(gate, "--dsn", dsn, target=None, code=1, env={"PGPASSWORD": world.database.passwords["catalog_login"]})
    assert found(columns(made)["crm.people.email"]) == ("high", "email", "domain")
    assert columns(made)[f"crm.people.{word}"]["looked"] == 30


@pytest.mark.parametrize(
    "arguments, code, part",
    [
        (["--target", "nobody"], 2, "there is no target nobody"),
        ([], 2, "name one by --target"),
        (["--target", "scanned", "--credential", "nobody"], 2, "there is no [credential.nobody]"),
        (["--target", "scanned", "--only", "people"], 2, "schema"),
        (["--target", "scanned", "--only", "kind:table"], 2, "must name relations"),
        (["--target", "scanned", "--baseline", "/dev/null"], 2, "is no report"),
        (["--target", "scanned", "--baseline", "/nowhere"], 2, "cannot be read"),
        (["--target", "scanned", "--json", "--toml"], 2, "cannot be used with"),
        (["--dsn", "postgresql://me:pw@db/crm"], 2, "PGPASSWORD"),
        (["--dsn", "postgresql://me@127.0.0.1:1/crm"], 3, "127.0.0.1:1"),
        (["--target", "scanned", "--only", "shut.*"], 3, "nothing could be read"),
        (["--target", "scanned", "--credential", "app"], 3, "nothing could be read"),
    ],
)
def test_what_is_wrong_is_said(gate, arguments, code, part):
    got = scan(gate, *arguments, code=code)
    assert part in got.stderr.decode(), got.stderr


def test_a_database_without_relations_is_a_good_answer(gate, world):
    make(world, "bare", "CREATE SCHEMA crm")
    dsn = f"postgresql://catalog_login@127.0.0.1:{world.database.port}/bare"
    report(gate, "--dsn", dsn, target=None, code=0, env={"PGPASSWORD": world.database.passwords["catalog_login"]})


def test_a_server_that_ends_the_session_ends_the_scan(gate, world):
    with world.database.superuser("scanned") as holder, world.database.superuser("scanned") as other:
        holder.autocommit = False
        holder.execute("LOCK crm.people IN ACCESS EXCLUSIVE MODE")
        running = subprocess.Popen(
            [binary(), "scan", "--config", gate.folder / "pgturnstile.toml", "--target", "scanned", "--lock-timeout-ms", str(HANG_S * 1000)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        ends = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgturnstile scan' AND wait_event_type = 'Lock'"
        wait_until("it waits and is ended", lambda: other.execute(ends).fetchone()[0])
        assert running.wait(HANG_S) == 3
        assert b"broke off" in running.stderr.read() and running.stdout.read() == b""


def test_every_shell_completes_it():
    for shell in ("bash", "zsh", "fish"):
        made = subprocess.run([binary(), "completions", shell], capture_output=True, text=True, check=True)
        assert "scan" in made.stdout and "min-confidence" in made.stdout



def test_a_live_catalog_serves_explain_and_check(gate, world):
    """`--dsn` reads the catalog that the gateway would: names resolve, and a label that matches nothing is said."""
    dsn = f"postgresql://catalog_login@127.0.0.1:{world.database.port}/scanned"
    claims = gate.folder / "claims.json"
    claims.write_text(json.dumps({"issuer": "dev", "claims": {"sub": "power-7", "groups": ["power"]}}))
    policy = gate.folder / "live.toml"
    label = '[[label]]\ncolumn = "crm.people.{}"\ntier = "personal"\nmask = "null"\n'
    policy.write_text((gate.folder / "policy.toml").read_text() + label.format("email") + label.format("gone"))
    env = {**os.environ, "PGPASSWORD": world.database.passwords["catalog_login"]}

    def run(*arguments):
        return subprocess.run([binary(), *map(str, arguments)], capture_output=True, text=True, check=False, env=env, timeout=HANG_S)

    ask = ("--as", claims, "--target", "shop", "--policy", policy, "--dsn", dsn)
    # The second label names a column that is not there: the relation is closed until it is mended.
    refused = run("explain", "SELECT id FROM crm.people", *ask)
    assert refused.returncode == 1 and "is closed" in refused.stdout, refused.stdout + refused.stderr
    policy.write_text((gate.folder / "policy.toml").read_text() + label.format("email"))
    told = run("explain", "SELECT id, email FROM crm.people", *ask)
    assert told.returncode == 0 and "field 2  masked:null" in told.stdout, told.stdout + told.stderr
    checked = ("check", "--config", gate.folder / "pgturnstile.toml", "--policy", policy)
    assert run(*checked, "--dsn", dsn).returncode == 0
    policy.write_text((gate.folder / "policy.toml").read_text() + label.format("gone"))
    found = run(*checked, "--dsn", dsn)
    assert "crm.people.gone matches no column" in found.stdout, found.stdout + found.stderr
    unreachable = run(*checked, "--dsn", "postgresql://me@127.0.0.1:1/crm")
    assert unreachable.returncode == 2 and "--dsn" in unreachable.stdout
