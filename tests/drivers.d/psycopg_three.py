"""psycopg 3 from its binary wheel, which brings libpq 18."""

import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Jsonb

from steps import ask, check, env, run, until

ME = "psycopg3"


def connect(**more):
    # Everything else stands in the environment: libpq reads it.
    return psycopg.connect(**{"autocommit": True, "connect_timeout": 30, **more})


def fails(sqlstate, act):
    try:
        act()
    except psycopg.Error as error:
        if error.sqlstate != sqlstate:
            raise AssertionError(f"wanted {sqlstate}, got {error.sqlstate}: {error}") from error
        return error
    raise AssertionError(f"{sqlstate} did not come")


def connects():
    with connect() as db:
        check("TLS", True, db.pgconn.ssl_in_use)
    fails("28P01", lambda: wrong_token())
    return f"libpq {psycopg.pq.version() // 10000}"


def wrong_token():
    # A login's failure has its code in no attribute of this driver.
    try:
        connect(password=env("PGPASSWORD") + "x")
    except psycopg.OperationalError as error:
        if "pgturnstile" not in str(error):
            raise
        raise psycopg.errors.InvalidPassword() from error


def simple():
    with connect() as db:
        got = db.pgconn.exec_(b"SELECT 1; SELECT 'two'")
        check("last result", b"two", got.get_value(0, 0))
        check("empty", psycopg.pq.ExecStatus.EMPTY_QUERY, db.pgconn.exec_(b" -- nothing").status)


def extended():
    with connect() as db:
        for n in range(1, 21):
            check("name", (f"item {n}",), db.execute("SELECT name FROM items WHERE id = %s", (n,), prepare=True).fetchone())
        check("values", ("ü€", None, [1, None, 3]), db.execute("SELECT %s::text, %s::int, %s::int[]", ("ü€", None, [1, None, 3])).fetchone())


def binary():
    value = (2**63 - 1, 0.1, b"\0\xff'\\", datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), uuid.UUID(int=7),
             decimal.Decimal("12345678901234567890.12"), [1, None, 3], {"a": 1})
    with connect() as db:
        got = db.cursor(binary=True).execute(
            "SELECT %b::int8, %b::float8, %b::bytea, %b::timestamptz, %b::uuid, %b::numeric, %b::int[], %b::jsonb",
            (*value[:-1], Jsonb(value[-1])),
        ).fetchone()
        check("values", value, got)


def transaction():
    with connect(autocommit=False) as db:
        db.execute("INSERT INTO notes (test, body) VALUES (%s, 'kept')", (ME,))
        try:
            with db.transaction():
                db.execute("INSERT INTO items (id, name) VALUES (1, 'again')")
        except psycopg.errors.UniqueViolation:
            pass
        check("rows", (1,), db.execute("SELECT count(*) FROM notes WHERE test = %s", (ME,)).fetchone())
        db.rollback()
        db.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        db.read_only = True
        check("isolation", ("serializable",), db.execute("SHOW transaction_isolation").fetchone())


def batch():
    with connect() as db:
        db.cursor().executemany("INSERT INTO notes (test, body) VALUES (%s, %s)", [(ME + "-batch", str(n)) for n in range(1000)])
        check("rows", (1000,), db.execute("SELECT count(*) FROM notes WHERE test = %s", (ME + "-batch",)).fetchone())


def pipeline():
    with connect() as db:
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int * 2", (n,)) for n in range(300)]
            check("doubles", [2 * n for n in range(300)], [c.fetchone()[0] for c in cursors])

        def broken():
            with db.pipeline() as line:
                db.execute("SELECT 1 / (%s::int - 1)", (1,))
                db.execute("SELECT 1")
                line.sync()

        fails("22012", broken)
        check("behind it", (1,), db.execute("SELECT 1").fetchone())


def copy_in():
    with connect() as db:
        with db.cursor().copy("COPY notes (test, body) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text", "text"])
            for n in range(3000):
                copy.write_row((ME + "-copy", f"row {n}"))
        check("rows", (3000,), db.execute("SELECT count(*) FROM notes WHERE test = %s", (ME + "-copy",)).fetchone())

        def bad():
            with db.cursor().copy("COPY items (id, name) FROM STDIN") as copy:
                copy.write("no number\tx\n" * 5000)

        fails("22P02", bad)


def copy_out():
    with connect() as db:
        with db.cursor().copy("COPY (SELECT id FROM items ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4"])
            check("rows", list(range(1, 1001)), [r[0] for r in copy.rows()])


def cursor():
    with connect(autocommit=False) as db:
        with db.cursor(name="c1", scrollable=True) as c:
            c.itersize = 100
            c.execute("SELECT id FROM items ORDER BY id")
            check("rows", 1000, sum(1 for _ in c))
            c.scroll(0, "absolute")
            check("first", (1,), c.fetchone())
        check("stream", 1000, sum(1 for _ in db.cursor().stream("SELECT id FROM items")))


def listen():
    with connect() as one, connect() as two:
        one.execute("LISTEN psycopg3")
        two.execute("NOTIFY psycopg3, 'by statement'")
        two.execute("SELECT pg_notify('psycopg3', 'by function')")
        got = [n.payload for n in one.notifies(timeout=30, stop_after=2)]
        check("payloads", ["by statement", "by function"], got)
        one.execute("UNLISTEN *")


def cancel():
    with connect() as db, connect() as other:
        stop = threading.Event()

        def canceller():
            while not stop.wait(0.2):
                db.cancel_safe()

        thread = threading.Thread(target=canceller)
        thread.start()
        try:
            fails("57014", lambda: db.execute("SELECT pg_sleep(600)"))
        finally:
            stop.set()
            thread.join()
        check("other", (1,), other.execute("SELECT 1").fetchone())
    return "cancel_safe: TLS"


def errors():
    with connect() as db:
        diag = fails("23505", lambda: db.execute("INSERT INTO items (id, name) VALUES (1, 'x')")).diag
        check("fields", ("shop", "items", "items_pkey", True),
              (diag.schema_name, diag.table_name, diag.constraint_name, "already exists" in diag.message_detail))
        check("position", "8", fails("42703", lambda: db.execute("SELECT nothing")).diag.statement_position)
        refused = fails("42501", lambda: db.execute("DELETE FROM notes")).diag.message_primary
        check("next step", True, "Next:" in refused)
        with db.transaction(force_rollback=True):
            fails("42501", lambda: db.execute("DELETE FROM notes WHERE %s", (True,)))
            fails("25P02", lambda: db.execute("SELECT 1"))
        check("alive", (1,), db.execute("SELECT 1").fetchone())


def large_objects():
    with connect(autocommit=False) as db:
        oid = db.execute("SELECT lo_from_bytea(0, %s)", (b"abc" * 1000,)).fetchone()[0]
        db.execute("SELECT lo_put(%s, 3, %s)", (oid, b"XYZ"))
        check("read", (b"XYZabc",), db.execute("SELECT lo_get(%s, 3, 6)", (oid,)).fetchone())
        check("unlink", (1,), db.execute("SELECT lo_unlink(%s)", (oid,)).fetchone())
    return "by SQL functions; the driver has no other way"


def types():
    with connect() as db:
        info = EnumInfo.fetch(db, "mood")
        check("enum", ["sad", "ok"], list(info.labels))
        pair = CompositeInfo.fetch(db, "pair")
        check("composite", ["a", "b"], list(pair.field_names))


def reset():
    with connect() as db:
        db.execute("SELECT %s::int", (1,), prepare=True)
        db.execute("DISCARD ALL")
        db.execute("DEALLOCATE ALL")
        check("behind it", (1,), db.execute("SELECT 1").fetchone())


def drain():
    told = []
    with connect(autocommit=False) as db:
        db.add_notice_handler(lambda notice: told.append(notice.sqlstate))
        db.execute("INSERT INTO notes (test, body) VALUES (%s, 'before')", (ME + "-drain",))
        ask("drain")
        db.execute("INSERT INTO notes (test, body) VALUES (%s, 'while')", (ME + "-drain",))
        db.commit()
        try:
            until("the session's end", lambda: db.execute("SELECT 1") is None)
        except psycopg.OperationalError as error:
            # libpq hands out as a notice what it reads behind ReadyForQuery.
            check("told", "57P01", error.sqlstate or "".join(told))
    ask("reopen")
    with connect() as db:
        check("kept", (2,), db.execute("SELECT count(*) FROM notes WHERE test = %s", (ME + "-drain",)).fetchone())


run({
    "connect": connects, "simple": simple, "extended": extended, "binary": binary, "transaction": transaction, "batch": batch,
    "pipeline": pipeline, "copy in": copy_in, "copy out": copy_out, "cursor": cursor, "listen": listen, "cancel": cancel,
    "errors": errors, "large objects": large_objects, "types": types, "reset": reset, "drain": drain,
})
