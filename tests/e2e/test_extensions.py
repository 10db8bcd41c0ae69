"""Extensions in C whose libraries are reviewed: their types, operators and operator classes are no code of users.

Some stand on the path and some off it; no table need use them. What users bring beside them stays theirs.
"""

import psycopg
import pytest

from harness import in_schema, policed, wait_until
from wire import SYNC, Client, bind, describe, errors, execute, parse

PRIVILEGE = psycopg.errors.InsufficientPrivilege
ON_THE_PATH = ["citext", "hstore", "ltree", "cube", "isn"]
OFF_THE_PATH = ["btree_gist", "btree_gin", "intarray", "pg_trgm"]
SETUP = "CREATE SCHEMA kit; CREATE SCHEMA aside; " + "".join(
    f"CREATE EXTENSION {name} SCHEMA {schema};" for schema, names in (("kit", ON_THE_PATH), ("aside", OFF_THE_PATH)) for name in names
) + """
SET search_path TO kit;
CREATE FUNCTION yes(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
CREATE DOMAIN plain_box AS citext;
CREATE DOMAIN checked_box AS citext CHECK (yes(VALUE::text));
CREATE TABLE plain (id int PRIMARY KEY, name text);
INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, 9) n;
CREATE TABLE people (id int PRIMARY KEY, mail citext UNIQUE, box plain_box, kept hstore, place ltree, spot cube, book isbn13);
INSERT INTO people SELECT n, 'QZXVmail' || n, 'box', 'a=>1', 'a.b', '(1,2)', '978-0-11-000533-1' FROM generate_series(1, 5) n;
CREATE TABLE quiet (id int PRIMARY KEY, mail citext, kept hstore, place ltree);
INSERT INTO quiet SELECT n, 'quiet' || n, 'a=>1', 'a.b' FROM generate_series(1, 5) n;
CREATE TABLE checked (id int, box checked_box);
GRANT USAGE ON SCHEMA kit TO app_login; GRANT ALL ON ALL TABLES IN SCHEMA kit TO app_login;
"""
CLEANUP = "DROP SCHEMA kit, aside CASCADE"
LABEL = """
[[label]]
column = "kit.people.mail"
tier = "restricted"
mask = "last4"
"""


@pytest.fixture(scope="module")
def kit(world):
    with policed(world, SETUP, CLEANUP, change=in_schema("kit")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def labelled(world, kit):
    with policed(world, "SELECT 1", "SELECT 1", LABEL, in_schema("kit")) as gateway:
        yield gateway


ORDINARY = [
    ("SELECT mail FROM people WHERE id = %s", (1,)),
    ("SELECT count(*) FROM people WHERE id = %s AND id IN (1, 2) AND id > 0", (1,)),
    ("SELECT id FROM people WHERE mail = %s", ("qzxvMAIL1",)),
    ("SELECT id FROM people WHERE mail IN ('a', 'qzxvmail2') OR mail LIKE 'QZ%%' ORDER BY mail", None),
    ("SELECT a.id FROM people a JOIN people b USING (mail)", None),
    ("SELECT id FROM people WHERE box = 'BOX' AND kept ? 'a' AND kept -> 'a' = '1' AND place <@ 'a' AND spot @> '(1,2)'", None),
    ("SELECT id FROM people WHERE book = '978-0-11-000533-1'", None),
    ("UPDATE people SET id = id + 0 WHERE id = 1 RETURNING id", None),
    ("UPDATE people SET box = %s WHERE id = %s RETURNING id", ("b", 2)),
    ("INSERT INTO people (id, mail, kept) VALUES (%s, %s, %s) RETURNING mail", (99, "new", "a=>2")),
    ("DELETE FROM people WHERE mail = %s RETURNING id", ("NEW",)),
]


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor], ids=["parameters", "constants"])
def test_ordinary_statements_on_their_types_pass(kit, cursor):
    for group in ("app", "power"):
        with kit.connect(group, cursor_factory=cursor) as db:
            for sql, values in ORDINARY:
                assert db.execute(sql, values).fetchall(), sql
    with kit.connect("power") as db:
        assert db.execute("SELECT min(mail) FROM people").fetchall() == [("QZXVmail1",)]
    with kit.connect("app") as db, pytest.raises(PRIVILEGE, match=r"kit\.min"):
        db.execute("SELECT min(mail) FROM people")


@pytest.mark.parametrize("group", ["app", "reader", "power"])
@pytest.mark.parametrize("table", ["plain", "people"])
def test_reads_in_one_batch_pass(kit, group, table):
    """No barrier stands between them, though an operator class of theirs compares integers."""
    one = (parse(f"SELECT id FROM {table} WHERE id = $1"), bind(1), describe("P"), execute())
    with Client(kit, group) as client:
        assert not errors(client.ask(*one, *one, *one, SYNC))


def test_a_labelled_column_leaves_masked_and_the_others_as_they_are(labelled):
    with labelled.connect() as db:
        for binary in (False, True):
            rows = db.cursor(binary=binary).execute("SELECT mail, id FROM people WHERE id < 3 ORDER BY id").fetchall()
            # psycopg knows no binary form of citext.
            told = [(mail.decode() if binary else mail, number) for mail, number in rows]
            assert told == [("****ail1", 1), ("****ail2", 2)]
        for sql in ("SELECT id, kept, place FROM people WHERE place <@ 'a'", "SELECT id FROM quiet WHERE id = 1",
                    "SELECT mail FROM quiet WHERE mail = 'QUIET1'", "SELECT * FROM quiet", "UPDATE quiet SET mail = 'x' WHERE id = 5 RETURNING mail"):
            rows = db.execute(sql).fetchall()
            assert rows and "QZXV" not in repr(rows), sql
        for sql in ("SELECT id FROM people WHERE mail = 'QZXVmail1'", "SELECT upper(mail) FROM people", "SELECT id FROM checked"):
            with pytest.raises(PRIVILEGE):
                db.execute(sql)


COMPARE = "SELECT id FROM quiet WHERE id = 1"
THEIRS = [
    ("CREATE OR REPLACE FUNCTION kit.citext_eq(kit.citext, kit.citext) RETURNS bool LANGUAGE plpgsql IMMUTABLE STRICT AS 'BEGIN RETURN true; END'",
     "CREATE OR REPLACE FUNCTION kit.citext_eq(kit.citext, kit.citext) RETURNS bool LANGUAGE c IMMUTABLE STRICT AS '$libdir/citext', 'citext_eq'"),
    ("CREATE OPERATOR kit.= (LEFTARG = kit.citext, RIGHTARG = text, FUNCTION = kit.other);"
     "ALTER EXTENSION citext ADD OPERATOR kit.= (kit.citext, text)",
     "ALTER EXTENSION citext DROP OPERATOR kit.= (kit.citext, text); DROP OPERATOR kit.= (kit.citext, text)"),
]


@pytest.mark.parametrize("made, gone", THEIRS, ids=["replaced", "put into the extension"])
def test_code_of_users_beside_them_stays_theirs(kit, labelled, made, gone):
    def passes(gate):
        with gate.connect() as db:
            try:
                return db.execute(COMPARE).fetchall() == [(1,)]
            except PRIVILEGE:
                return False

    with kit.database.superuser() as db:
        db.execute("CREATE OR REPLACE FUNCTION kit.other(kit.citext, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END'")
    for gate in (kit, labelled):
        # The other gateway may still see what an earlier turn has changed.
        wait_until("it passes as it is", lambda: passes(gate))
        try:
            with kit.database.superuser() as db:
                db.execute(made)
            wait_until("the gateway sees it", lambda: not passes(gate))
        finally:
            with kit.database.superuser() as db:
                db.execute(gone)
        wait_until("the gateway sees that it is gone", lambda: passes(gate))
