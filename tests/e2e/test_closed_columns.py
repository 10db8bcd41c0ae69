"""Columns of the server's own relations that hold secrets, beside neighbours that everybody reads."""

import psycopg
import pytest

PRIVILEGE = psycopg.errors.InsufficientPrivilege
SECRET = "QZXV-closed-column"


@pytest.fixture(scope="module")
def settled(world):
    with world.database.superuser() as db:
        db.execute(f"ALTER ROLE bench_login SET app.closed = '{SECRET}'")
    yield
    with world.database.superuser() as db:
        db.execute("ALTER ROLE bench_login RESET app.closed")


@pytest.mark.parametrize(
    "sql",
    ["SELECT rolname, rolconfig FROM pg_roles", "SELECT * FROM pg_roles", "SELECT r FROM pg_roles r", "TABLE pg_user", "SELECT useconfig FROM pg_user",
     "SELECT row_to_json(u) FROM pg_user u",
     "SELECT count(*) FROM pg_roles WHERE 'app.closed=x' = ANY (rolconfig)", "COPY (SELECT rolconfig FROM pg_roles) TO STDOUT",
     "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM pg_roles"],
)
def test_a_closed_column_is_refused_in_words_that_help(gate, settled, sql):
    with gate.connect() as db:
        with pytest.raises(PRIVILEGE) as refused:
            db.execute(sql)
        message = refused.value.diag.message_primary
        assert "its column" in message and "name the columns that you need" in message and SECRET not in message, message


def test_its_neighbours_are_read_as_before(gate, settled):
    with gate.connect() as db:
        for sql in ("SELECT oid, rolname, rolsuper FROM pg_catalog.pg_roles ORDER BY 1", "SELECT count(*) FROM pg_roles", "SELECT usename FROM pg_user",
                    "SELECT * FROM (SELECT a.attname, a.attnum FROM pg_attribute a) c LIMIT 5", "SELECT * FROM (SELECT u.usename FROM pg_user u) c"):
            rows = db.execute(sql).fetchall()
            assert rows and SECRET not in repr(rows), sql


def test_npgsql_gives_a_connection_back(gate):
    """NpgsqlConnector.GenerateResetMessage, with prepared statements alive: one text, whose replies it counts."""
    reset = "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP"
    with gate.connect() as db:
        db.execute("PREPARE mine AS SELECT 1")
        db.execute(reset)
        assert db.execute("EXECUTE mine").fetchone() == (1,)
