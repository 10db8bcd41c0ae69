"""psycopg 2 from its binary wheel, which brings libpq 17. It knows the simple protocol only."""

import io
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from steps import HANG_S, ask, check, env, run, until

ME = "psycopg2"


def connect(autocommit=True, **more):
    db = psycopg2.connect("", **more)
    db.autocommit = autocommit
    return db


def rows(db, sql, values=None):
    with db.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else None


def fails(sqlstate, act):
    try:
        act()
    except psycopg2.Error as error:
        if error.pgcode != sqlstate:
            raise AssertionError(f"wanted {sqlstate}, got {error.pgcode}: {error}") from error
        return error
    raise AssertionError(f"{sqlstate} did not come")


def connects():
    db = connect()
    check("TLS", True, db.info.ssl_in_use)
    db.close()
    try:
        connect(password=env("PGPASSWORD") + "x")
    except psycopg2.OperationalError as error:
        check("refused", True, "pgturnstile" in str(error))
        return f"libpq {psycopg2.__libpq_version__ // 10000}"
    raise AssertionError("a wrong token opened a session")


def simple():
    db = connect()
    check("last", [("two",)], rows(db, "SELECT 1; SELECT 'two'"))
    check("item", [("item 3",)], rows(db, "SELECT name FROM items WHERE id = %s", (3,)))
    check("values", [("ü€'\\", None, [1, None, 3])], rows(db, "SELECT %s, %s::int, %s", ("ü€'\\", None, [1, None, 3])))
    db.close()


def transaction():
    db = connect(autocommit=False)
    db.set_session(isolation_level="SERIALIZABLE")
    rows(db, "INSERT INTO notes (test) VALUES (%s)", (ME,))
    rows(db, "SAVEPOINT a")
    fails("23505", lambda: rows(db, "INSERT INTO items (id, name) VALUES (1, 'again')"))
    rows(db, "ROLLBACK TO SAVEPOINT a")
    db.commit()
    db.set_session(readonly=True)
    fails("25006", lambda: rows(db, "INSERT INTO notes (test) VALUES (%s)", (ME,)))
    db.rollback()
    db.close()


def batch():
    db = connect()
    with db.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor, "INSERT INTO notes (test, body) VALUES %s", [(ME + "-batch", str(n)) for n in range(1000)], page_size=200)
        psycopg2.extras.execute_batch(
            cursor, "INSERT INTO notes (test, body) VALUES (%s, %s)", [(ME + "-batch", str(n)) for n in range(500)])
    check("rows", [(1500,)], rows(db, "SELECT count(*) FROM notes WHERE test = %s", (ME + "-batch",)))
    db.close()


def copy_in():
    db = connect()
    with db.cursor() as cursor:
        text = "".join(f"{ME}-copy,row {n}\n" for n in range(3000))
        cursor.copy_expert("COPY notes (test, body) FROM STDIN (FORMAT csv)", io.StringIO(text))
        check("rows", 3000, cursor.rowcount)
        fails("22P02", lambda: cursor.copy_from(io.StringIO("no number\tx\n" * 5000), "items", columns=("id", "name")))
    check("behind it", [(1,)], rows(db, "SELECT 1"))
    db.close()


def copy_out():
    db = connect()
    out = io.StringIO()
    with db.cursor() as cursor:
        cursor.copy_expert("COPY (SELECT id FROM items ORDER BY id) TO STDOUT", out)
    check("rows", [str(n) for n in range(1, 1001)], out.getvalue().split())
    db.close()


def cursor():
    db = connect(autocommit=False)
    with db.cursor("c1", scrollable=True) as c:
        c.itersize = 100
        c.execute("SELECT id FROM items ORDER BY id")
        check("rows", 1000, sum(1 for _ in c))
        c.scroll(0, "absolute")
        check("first", (1,), c.fetchone())
    db.close()


def listen():
    one, two = connect(), connect()
    rows(one, "LISTEN psycopg2")
    rows(two, "NOTIFY psycopg2, 'hello'")

    def heard():
        one.poll()
        return one.notifies

    until("the notification", heard)
    check("payload", "hello", one.notifies[0].payload)
    one.close()
    two.close()


def cancel():
    db = connect()
    stop = threading.Event()

    def canceller():
        while not stop.wait(0.2):
            db.cancel()

    thread = threading.Thread(target=canceller)
    thread.start()
    try:
        fails("57014", lambda: rows(db, "SELECT pg_sleep(600)"))
    finally:
        stop.set()
        thread.join(HANG_S)
    db.close()
    return "libpq's PQcancel: without TLS"


def errors():
    db = connect()
    diag = fails("23505", lambda: rows(db, "INSERT INTO items (id, name) VALUES (1, 'x')")).diag
    check("fields", ("shop", "items", "items_pkey", True),
          (diag.schema_name, diag.table_name, diag.constraint_name, "already exists" in diag.message_detail))
    refused = fails("42501", lambda: rows(db, "DELETE FROM notes")).diag.message_primary
    check("next step", True, "Next:" in refused)
    db.autocommit = False
    fails("42501", lambda: rows(db, "DELETE FROM notes"))
    fails("25P02", lambda: rows(db, "SELECT 1"))
    db.rollback()
    check("alive", [(1,)], rows(db, "SELECT 1"))
    db.close()


def large_objects():
    db = connect(autocommit=False)
    [(oid,)] = rows(db, "SELECT lo_from_bytea(0, %s)", (b"abc" * 1000,))
    rows(db, "SELECT lo_put(%s, 3, %s)", (oid, b"XYZ"))
    check("read", b"XYZabc", bytes(rows(db, "SELECT lo_get(%s, 3, 6)", (oid,))[0][0]))
    check("unlink", [(1,)], rows(db, "SELECT lo_unlink(%s)", (oid,)))
    try:
        db.lobject(0, "w")
    except psycopg2.Error as error:
        check("the refusal names the way", True, "lo_from_bytea" in str(error))
        return "by SQL functions; lobject() is refused and told so"
    raise AssertionError("lobject() passed")


def types():
    db = connect()
    psycopg2.extras.register_composite("pair", db)
    psycopg2.extras.register_uuid()
    (pair,) = rows(db, "SELECT p FROM typed")[0]
    check("composite", (7, "seven"), (pair.a, pair.b))
    check("encoding", "UTF8", db.encoding)
    db.set_client_encoding("UTF8")
    check("no hstore", ((), ()), psycopg2.extras.HstoreAdapter.get_oids(db))
    db.close()


def reset():
    db = connect()
    rows(db, "SET application_name = 'changed'")
    # ABORT, RESET ALL, SET SESSION AUTHORIZATION DEFAULT: what a pool sends between two users.
    db.reset()
    check("behind it", [(1,)], rows(db, "SELECT 1"))
    db.close()


def drain():
    db = connect(autocommit=False)
    rows(db, "INSERT INTO notes (test, body) VALUES (%s, 'before')", (ME + "-drain",))
    ask("drain")
    rows(db, "INSERT INTO notes (test, body) VALUES (%s, 'while')", (ME + "-drain",))
    db.commit()
    try:
        until("the session's end", lambda: rows(db, "SELECT 1") is None)
    except psycopg2.OperationalError:
        pass  # whether libpq still reads the FATAL in front of the end is a race of its own
    ask("reopen")
    db = connect()
    check("kept", [(2,)], rows(db, "SELECT count(*) FROM notes WHERE test = %s", (ME + "-drain",)))
    db.close()


run({
    "connect": connects, "simple": simple, "extended": "the driver writes values into the text",
    "binary": "the driver asks for text only", "transaction": transaction, "batch": batch,
    "pipeline": "the driver waits for each answer", "copy in": copy_in, "copy out": copy_out, "cursor": cursor,
    "listen": listen, "cancel": cancel, "errors": errors, "large objects": large_objects, "types": types, "reset": reset,
    "drain": drain,
})
