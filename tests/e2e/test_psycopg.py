"""psycopg 3 through the gateway: both protocols, pipelines, cursors, COPY, binary values, cancel."""

import datetime
import threading
import uuid

import psycopg
import pytest

from harness import wait_until


def test_rows_and_types(gate):
    with gate.connect() as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (1000,)
        got = db.execute("SELECT %s::int, %s::text, %s::bytea, NULL::int", (7, "ü€", b"\0\xff")).fetchone()
        assert got == (7, "ü€", b"\0\xff", None)


def test_prepared_statements(gate):
    with gate.connect() as db:
        for n in range(1, 30):
            got = db.execute("SELECT name FROM items WHERE id = %s", (n,), prepare=True).fetchone()
            assert got == (f"item {n}",)
        # More than the driver keeps: it closes the old ones.
        for n in range(130):
            assert db.execute(f"SELECT %s::int + {n}", (n,), prepare=True).fetchone() == (2 * n,)


def test_a_prepared_statement_outlives_an_error(gate):
    with gate.connect() as db:
        sql = "SELECT 10 / %s::int"
        assert db.execute(sql, (5,), prepare=True).fetchone() == (2,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.execute(sql, (0,), prepare=True)
        assert db.execute(sql, (2,), prepare=True).fetchone() == (5,)


def test_transactions_and_savepoints(gate, database):
    with gate.connect(autocommit=False) as db:
        db.execute("INSERT INTO notes (test, body) VALUES ('savepoints', 'kept')")
        with pytest.raises(psycopg.errors.UniqueViolation), db.transaction():
            db.execute("INSERT INTO items (id, name) VALUES (1, 'again')")
        db.execute("INSERT INTO notes (test, body) VALUES ('savepoints', 'kept too')")
        db.commit()
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.execute("INSERT INTO items (id, name) VALUES (1, 'again')")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            db.execute("SELECT 1")
        db.rollback()
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'savepoints'") == 2


def test_pipeline(gate, database):
    with gate.connect(autocommit=False) as db, db.pipeline():
        cursors = [db.execute("SELECT %s::int * 2", (n,)) for n in range(200)]
        db.execute("INSERT INTO notes (test) VALUES ('pipeline')")
        assert [c.fetchone()[0] for c in cursors] == [2 * n for n in range(200)]
        db.commit()
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'pipeline'") == 1


def test_pipeline_with_an_error(gate, database):
    with gate.connect() as db:
        with pytest.raises(psycopg.errors.DivisionByZero), db.pipeline() as pipeline:
            db.execute("SELECT 1")
            db.execute("SELECT 1 / 0")
            db.execute("INSERT INTO notes (test) VALUES ('pipeline-error')")
            pipeline.sync()
        assert db.execute("SELECT 2").fetchone() == (2,)
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'pipeline-error'") == 0


def test_server_side_cursor(gate):
    with gate.connect(autocommit=False) as db, db.cursor(name="c1") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT id FROM items ORDER BY id")
        assert [r[0] for r in cursor.fetchmany(3)] == [1, 2, 3]
        assert sum(1 for _ in cursor) == 997


def test_scrollable_cursor_in_sql(gate):
    with gate.connect(autocommit=False) as db:
        db.execute("DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id")
        assert db.execute("FETCH 2 FROM c").fetchall() == [(1,), (2,)]
        assert db.execute("FETCH LAST FROM c").fetchall() == [(1000,)]
        assert db.execute("FETCH PRIOR FROM c").fetchall() == [(999,)]
        db.execute("MOVE FIRST FROM c")
        db.execute("CLOSE c")
        db.rollback()


def test_copy_both_ways(gate, database):
    with gate.connect() as db:
        with db.cursor().copy("COPY notes (test, body) FROM STDIN") as copy:
            for n in range(5000):
                copy.write_row(("copy", f"row {n}\twith\ttabs\n"))
        out = b""
        with db.cursor().copy("COPY (SELECT body FROM notes WHERE test = 'copy' ORDER BY id) TO STDOUT") as copy:
            for block in copy:
                out += bytes(block)
        assert out.count(b"\n") == 5000
        assert out.startswith(b"row 0\\twith\\ttabs\\n\n")
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'copy'") == 5000


def test_copy_binary_and_big(gate):
    with gate.connect() as db:
        with db.cursor().copy("COPY wide TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert len(rows) == 2000 and all(len(r[1]) == 8000 for r in rows)


def test_a_copy_that_the_client_gives_up(gate, database):
    with gate.connect() as db:
        with pytest.raises(ZeroDivisionError):
            with db.cursor().copy("COPY notes (test, body) FROM STDIN") as copy:
                copy.write_row(("copy-given-up", "x"))
                raise ZeroDivisionError
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'copy-given-up'") == 0


def test_a_copy_with_a_bad_row(gate):
    with gate.connect() as db:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with db.cursor().copy("COPY items (id, name) FROM STDIN") as copy:
                copy.write("no number\tx\n" * 20_000)
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_binary_values(gate):
    with gate.connect() as db:
        value = (b"\x00\x01\xff" * 1000, datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), [1, None, 3],
                 uuid.UUID(int=7))
        db.execute("DELETE FROM binaries WHERE id = 1")
        db.execute("INSERT INTO binaries (id, b, t, a, u) VALUES (1, %b, %b, %b, %b)", value)
        got = db.cursor(binary=True).execute("SELECT b, t, a, u FROM binaries WHERE id = 1").fetchone()
        assert got == value


def test_wide_rows(gate):
    with gate.connect() as db:
        got = db.execute("SELECT sum(length(payload)) FROM wide").fetchone()[0]
        rows = db.execute("SELECT payload FROM wide").fetchall()
        assert sum(len(r[0]) for r in rows) == got == 2000 * 8000
        one = db.execute("SELECT repeat('x', 20000000)").fetchone()[0]
        assert len(one) == 20_000_000


def test_notices(gate):
    heard = []
    with gate.connect() as db:
        db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        assert db.execute("SELECT shop.shout('hello')").fetchone() == ("HELLO",)
    assert heard == ["heard: hello"]


def test_cancel(gate, database):
    with gate.connect() as db:
        failed = []

        def sleep():
            try:
                db.execute("SELECT pg_sleep(600) /* cancel me */")
            except psycopg.errors.QueryCanceled as error:
                failed.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        wait_until(
            "the sleep",
            lambda: database.one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND pid <> pg_backend_pid()",
                                 "SELECT pg_sleep(600) /* cancel me */%"),
        )
        db.cancel()
        thread.join(60)
        assert failed
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_many_sessions_at_once(gate):
    wrong = []

    def work(n):
        with gate.connect() as db:
            for m in range(20):
                if db.execute("SELECT %s::int + %s::int", (n, m)).fetchone() != (n + m,):
                    wrong.append((n, m))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
