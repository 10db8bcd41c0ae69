"""What the policy refuses, how it says so, and that nothing else is lost by it (README decision 7)."""

import psycopg
import pytest

from harness import policed
from wire import SYNC, Client, bind, describe, errors, execute, parse, query, row, tags

PRIVILEGE = psycopg.errors.InsufficientPrivilege

BLIND = [
    "DELETE FROM notes",
    "DELETE FROM notes WHERE true",
    "DELETE FROM notes WHERE id = id",
    "DELETE FROM notes WHERE id = 1 OR true",
    "DELETE FROM notes WHERE id IS NOT NULL",
    "DELETE FROM notes WHERE 1 = 1",
    "DELETE FROM notes WHERE id = 1 OR 1 = 1",
    "DELETE FROM notes WHERE NOT false",
    "DELETE FROM notes USING items",
    "UPDATE notes SET body = 'x'",
    "UPDATE notes SET body = 'x' WHERE true",
    "UPDATE notes SET body = 'x' WHERE notes.id = notes.id",
    "UPDATE notes SET body = 'x' WHERE (SELECT true)",
    "WITH gone AS (DELETE FROM notes RETURNING 1) SELECT count(*) FROM gone",
    "MERGE INTO notes USING items ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO notes n USING items i ON n.id = n.id WHEN MATCHED THEN UPDATE SET body = 'x'",
    "INSERT INTO items (id, name) SELECT id, name FROM items ON CONFLICT (id) DO UPDATE SET name = 'x'",
    "EXPLAIN ANALYZE DELETE FROM notes",
    "PREPARE p AS DELETE FROM notes",
]


def rule_line(gate, rule) -> str:
    lines = (gate.folder / "policy.toml").read_text().splitlines()
    line = lines.index('id = "' + rule + '"') + 1
    return f"policy.toml:{line}"


@pytest.mark.parametrize("sql", BLIND)
def test_blind_writes(gate, database, sql):
    before = database.one("SELECT count(*) || ' ' || coalesce(max(xmin::text), '') FROM shop.notes")
    items = database.one("SELECT md5(string_agg(name, ',' ORDER BY id)) FROM shop.items")
    with gate.connect() as db:
        with pytest.raises(PRIVILEGE) as caught:
            db.execute(sql)
        message = caught.value.diag.message_primary
        if "ON CONFLICT" not in sql:
            assert "no-blind-write" in message and rule_line(gate, "no-blind-write") in message, message
        assert "Next:" in message, message
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert database.one("SELECT count(*) || ' ' || coalesce(max(xmin::text), '') FROM shop.notes") == before
    assert database.one("SELECT md5(string_agg(name, ',' ORDER BY id)) FROM shop.items") == items


def test_writes_that_choose_pass(gate):
    with gate.connect() as db:
        key = db.execute("INSERT INTO notes (test) VALUES ('chosen') RETURNING id").fetchone()[0]
        db.execute("UPDATE notes SET body = 'y' WHERE id = %s", (key,))
        db.execute("DELETE FROM notes WHERE id = %s", (key,))


@pytest.mark.parametrize("sql", ["DROP TABLE notes", "TRUNCATE notes", "DROP TABLE IF EXISTS nothing"])
def test_destruction(gate, sql):
    with gate.connect() as db:
        with pytest.raises(PRIVILEGE) as caught:
            db.execute(sql)
        message = caught.value.diag.message_primary
        assert "no-drop" in message and rule_line(gate, "no-drop") in message
        assert "nothing is dropped here" in message
        assert "[ref " in message
        assert db.execute("SELECT count(*) > 0 FROM items").fetchone() == (True,)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (i int)",
        "SELECT * FROM pg_catalog.pg_authid",
        "SELECT * FROM evil.items",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "COPY items TO '/tmp/x'",
        "COPY items TO PROGRAM 'cat'",
        "DO $$ BEGIN END $$",
        "SET ROLE boss",
        "SET search_path TO evil",
        "SET SESSION AUTHORIZATION boss",
        "SET standard_conforming_strings = off",
        "SET client_encoding = 'SJIS'",
        "SET NAMES 'SJIS'",
        "SET row_security = off",
        "SET session_replication_role = replica",
        "SELECT set_config('search_path', 'evil', false)",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "GRANT ALL ON items TO boss",
        "LISTEN x",
        "CREATE TEMP TABLE items (id int)",
        "VACUUM",
        "SELECT 1; this is no SQL",
        "no SQL at all",
    ],
)
def test_what_no_rule_permits(gate, sql):
    with gate.connect() as db:
        with pytest.raises(psycopg.errors.DatabaseError) as caught:
            db.execute(sql)
        assert "pgturnstile" in caught.value.diag.message_primary
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_text_is_refused_as_a_whole(gate, database):
    with Client(gate) as client:
        out = client.ask(query("INSERT INTO notes (test) VALUES ('whole'); DELETE FROM notes; SELECT 1"))
        assert tags(out) == "EZ"
        out = client.ask(query("INSERT INTO notes (test) VALUES ('whole'); COMMIT; DROP TABLE notes"))
        assert tags(out) == "EZ"
        assert client.rows("SELECT 1") == [(b"1",)]
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'whole'") == 0


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_inside_a_transaction(gate, database, protocol):
    with Client(gate) as client:
        client.ask(query("BEGIN"))
        client.ask(query(f"INSERT INTO notes (test) VALUES ('in-transaction-{protocol}')"))
        if protocol == "simple":
            out = client.ask(query("DELETE FROM notes"))
        else:
            out = client.ask(parse("DELETE FROM notes"), bind(), execute(), SYNC)
        assert tags(out) == "EZ"
        assert errors(out)[0]["C"] == "42501"
        assert out[-1][1] == b"E", "the transaction has failed, as the server itself says"
        out = client.ask(query("SELECT 1"))
        assert errors(out)[0]["C"] == "25P02"
        out = client.ask(query("COMMIT"))
        assert ("C", b"ROLLBACK\0") in out and out[-1][1] == b"I"
        assert client.rows("SELECT 1") == [(b"1",)]
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = %s", f"in-transaction-{protocol}") == 0


def test_savepoints_work_across_a_refusal(gate, database):
    with gate.connect(autocommit=False) as db:
        db.execute("INSERT INTO notes (test) VALUES ('refusal-savepoint')")
        with pytest.raises(PRIVILEGE), db.transaction():
            db.execute("DELETE FROM notes")
        db.commit()
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'refusal-savepoint'") == 1


def test_a_pipeline_commits_nothing_before_a_refusal(gate, database):
    """facts.md 3.9: a refused frame that is simply dropped would leave the INSERT before it committed."""
    with Client(gate) as client:
        out = client.ask(
            parse("INSERT INTO notes (test) VALUES ('pipelined')"), bind(), execute(),
            parse("DELETE FROM notes"), bind(), execute(),
            parse("INSERT INTO notes (test) VALUES ('pipelined')"), bind(), execute(),
            SYNC,
        )
        assert tags(out) == "12CEZ"
        assert errors(out)[0]["C"] == "42501" and "no-blind-write" in errors(out)[0]["M"]
        assert out[-1][1] == b"I"
        assert client.rows("SELECT 7") == [(b"7",)]
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'pipelined'") == 0


def test_a_refused_query_behind_an_open_batch(gate, database):
    """A Query ends the batch before it: the server's own rule is that it commits then, or fails as one."""
    with Client(gate) as client:
        client.send(parse("INSERT INTO notes (test) VALUES ('open-batch')"), bind(), execute(), query("DELETE FROM notes"))
        out = client.until_ready()
        assert [e["C"] for e in errors(out)] == ["42501"]
        assert out[-1][1] == b"I"
        assert client.rows("SELECT 7") == [(b"7",)]
    # Whatever became of the INSERT, the DELETE did nothing.
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'chosen'") == 0


def test_a_refused_parse_when_idle(gate):
    with Client(gate) as client:
        out = client.ask(parse("DELETE FROM notes", "s"), describe("S", "s"), bind(statement="s"), execute(), SYNC)
        assert tags(out) == "EZ"
        assert errors(out)[0]["C"] == "42501"
        # The name was never made.
        out = client.ask(bind(statement="s"), execute(), SYNC)
        assert errors(out)[0]["C"] == "26000"
        out = client.ask(parse("SELECT 5", "s"), bind(statement="s"), execute(), SYNC)
        assert tags(out) == "12DCZ"


def test_a_refused_bind(gate):
    """A statement that passes at Parse and is refused when it is bound: here by a name that is not the client's."""
    with Client(gate) as client:
        out = client.ask(parse("SELECT 1", "s"), SYNC)
        assert tags(out) == "1Z"
        out = client.ask(bind(statement="s", portal="pgturnstile.x"), execute("pgturnstile.x"), SYNC)
        assert errors(out)[0]["C"] == "42939"
        client.ask(query("BEGIN"))
        out = client.ask(bind(statement="s", portal="pgturnstile.x"), execute("pgturnstile.x"), SYNC)
        assert (errors(out)[0]["C"], out[-1][1]) == ("42939", b"E")
        client.ask(query("ROLLBACK"))
        assert tags(client.ask(bind(statement="s"), execute(), SYNC)) == "2DCZ"


@pytest.mark.parametrize("inside", [False, True])
def test_the_unnamed_statement_survives_a_refusal(gate, inside):
    """As on the server: a Parse that fails leaves the old unnamed statement gone there; a Query refused leaves it."""
    with Client(gate) as client:
        assert tags(client.ask(parse("SELECT 11", "kept"), parse("SELECT 12"), SYNC)) == "11Z"
        if inside:
            client.ask(query("BEGIN"))
        # A reserved name carries the refusal to the server, so that the client's own statements stay.
        out = client.ask(parse("DELETE FROM notes", "other"), SYNC)
        assert errors(out)[0]["C"] == "42501"
        if inside:
            client.ask(query("ROLLBACK"))
        out = client.ask(bind(statement="kept"), execute(), SYNC)
        assert [row(b) for t, b in out if t == "D"] == [(b"11",)]
        if not inside:
            out = client.ask(bind(), execute(), SYNC)
            assert [row(b) for t, b in out if t == "D"] == [(b"12",)]


def test_many_refusals_in_one_stream(gate):
    with Client(gate) as client:
        client.send(*[query("SELECT 1") + query("DELETE FROM notes") for _ in range(100)])
        for _ in range(100):
            assert tags(client.until_ready()) == "TDCZ"
            assert tags(client.until_ready()) == "EZ"


def test_sql_prepare_carries_its_facts(gate):
    with gate.connect() as db:
        db.execute("PREPARE chosen (bigint) AS DELETE FROM notes WHERE id = $1")
        db.execute("EXECUTE chosen (-1)")
        with pytest.raises(psycopg.errors.DatabaseError, match="pgturnstile"):
            db.execute("EXECUTE unknown_name")
        db.execute("DEALLOCATE ALL")
        with pytest.raises(psycopg.errors.DatabaseError):
            db.execute("EXECUTE chosen (-1)")


def test_the_server_never_saw_it(gate, database):
    marker = "never_seen_by_the_server"
    with Client(gate) as client:
        client.ask(query(f"DELETE FROM notes /* {marker} */"))
        client.ask(query("BEGIN"))
        client.ask(query(f"DELETE FROM notes /* {marker} */"))
        client.ask(query("ROLLBACK"))
        client.ask(parse(f"DELETE FROM notes /* {marker} */"), SYNC)
    assert marker not in database.log()


SHARED = """
CREATE TABLE shop.salaries (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE shop.salaries_eu PARTITION OF shop.salaries FOR VALUES IN ('eu');
CREATE TABLE shop.salaries_us PARTITION OF shop.salaries FOR VALUES IN ('us');
CREATE TABLE shop.logs (id int); CREATE TABLE shop.logs_secret (why text) INHERITS (shop.logs); CREATE TABLE shop.logs_open () INHERITS (shop.logs);
GRANT ALL ON ALL TABLES IN SCHEMA shop TO app_login;
"""


@pytest.fixture(scope="module")
def shared_rows(world):
    """Restricts on a partitioned table, and on a child of another table."""
    gone = "DROP TABLE IF EXISTS shop.salaries, shop.logs CASCADE;"
    with policed(world, gone + SHARED, gone, """
[[restrict]]
id = "closed"
groups = ["app"]
targets = ["shop"]
classes = ["read", "write", "export"]
on = ["shop.salaries", "shop.logs_secret"]
then = "refuse"
message = "closed"
""") as gateway:
        yield gateway


@pytest.mark.parametrize(
    "sql",
    ["SELECT * FROM salaries", "SELECT * FROM salaries_eu", "DELETE FROM salaries_eu WHERE id = 1", "COPY salaries_us TO STDOUT",
     "INSERT INTO salaries_eu VALUES (1, 'eu')", "SELECT * FROM logs_secret", "SELECT * FROM logs", "DELETE FROM logs WHERE id = 7"],
)
def test_a_restrict_holds_for_what_shares_its_rows(shared_rows, sql):
    with shared_rows.connect() as db, pytest.raises(PRIVILEGE, match="closed"):
        db.execute(sql)


def test_a_restrict_on_a_child_leaves_its_siblings(shared_rows):
    with shared_rows.connect() as db:
        assert db.execute("SELECT count(*) FROM logs_open").fetchone() == (0,)
