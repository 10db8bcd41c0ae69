"""The protocol's odd corners, each played to the bare server and through the gateway: the replies must be the same, byte
for byte, in the same order.

What may differ is named in `seen`: process ids of notifications, and the words of an error about a name that this session
has not, which the gateway gives itself. All else of an error is compared, its place in the server's sources too: it is the
same server.
"""

import socket
import struct
import threading

import pytest

import wire
from harness import wait_until
from wire import (
    COPY_DONE, FLUSH, SYNC, Client, Frames, bind, close, copy_data, copy_fail, describe, execute, parse, query,
)

SETUP = (
    "DROP VIEW IF EXISTS shop.same_view; DROP TABLE IF EXISTS shop.same; CREATE TABLE shop.same (id int PRIMARY KEY, body text);"
    "INSERT INTO shop.same SELECT n, 'row ' || n FROM generate_series(1, 12) n;"
    "DROP TABLE IF EXISTS shop.late; CREATE TABLE shop.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
    "CREATE VIEW shop.same_view AS SELECT id, count(*) FROM shop.same GROUP BY id;"
    "DROP TABLE IF EXISTS shop.same_trap; CREATE TABLE shop.same_trap (id int);"
    "CREATE OR REPLACE FUNCTION shop.same_spring() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;"
    "CREATE TRIGGER spring BEFORE INSERT ON shop.same_trap FOR EACH ROW EXECUTE FUNCTION shop.same_spring()"
)
LONGEST = "n" * 63


class Direct(Client):
    """The same login as the gateway's `power`, on the server itself."""

    def __init__(self, database):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(wire.TIMEOUT_S)
        sock.connect(f"{database.folder}/.s.PGSQL.{database.port}")
        Frames.__init__(self, sock)
        self.parameters, self.key = {}, None
        self.send(wire.startup(user="power_login", database="shop", search_path="shop", client_encoding="UTF8"))
        while True:
            tag, body = self.read()
            assert tag not in "E", wire.fields(body)
            if tag == "K":
                self.key = body
            elif tag == "Z":
                return


class Through(Client):
    """Through the gateway."""

    def __init__(self, gate):
        super().__init__(gate, group="power")


def seen(frames):
    """Frames as they are compared."""
    out = []
    for tag, body in frames:
        if tag == "A":
            body = b"pid " + body[4:]
        elif tag == "E" and wire.fields(body)["C"] in ("26000", "34000"):
            body = wire.fields(body)["C"].encode()
        out.append((tag, body))
    return out


class Play:
    """A conversation: what is sent, and what came back so far."""

    def __init__(self, client):
        self.client = client
        self.got = []

    def ask(self, *frames, ready=1):
        """Sends, and reads up to so many ReadyForQuery."""
        self.client.send(*frames)
        for _ in range(ready):
            try:
                self.got += self.client.until_ready()
            except wire.Refused as fatal:
                self.got += fatal.frames
                raise
        return self

    def send(self, *frames):
        self.client.send(*frames)
        return self

    def read(self, count=1):
        """So many frames."""
        self.got += [self.client.read() for _ in range(count)]
        return self

    def end(self):
        """Everything to the end of the stream."""
        self.got += self.client.rest()
        return self


CASES = {}


def case(function):
    CASES[function.__name__.replace("_", " ")] = function
    return function


# --- texts --------------------------------------------------------------------------------------------------------


@case
def empty_queries_and_comments(play):
    for text in ("", " ", ";", ";;; ;", "-- a comment", "/* a comment */", "/* /* nested */ */ ; -- and", "\n\t", "--\n;"):
        play.ask(query(text))
        play.ask(parse(text), bind(), describe("S"), describe("P"), execute(), execute(), SYNC)


@case
def several_statements_in_a_text(play):
    play.ask(query("SELECT 1; SELECT 2 WHERE false; ; SELECT 3, 'x'"))
    play.ask(query("INSERT INTO same VALUES (100, 'a'); SELECT body FROM same WHERE id = 100; DELETE FROM same WHERE id = 100"))
    play.ask(query("SELECT 1; SELECT 1/0; SELECT 2"))
    play.ask(query("INSERT INTO same VALUES (101); SELECT 1/0"), query("SELECT count(*) FROM same WHERE id = 101"), ready=2)
    play.ask(query("BEGIN; INSERT INTO same VALUES (102); COMMIT; SELECT 1/0"), query("DELETE FROM same WHERE id = 102"), ready=2)
    play.ask(query("SELECT 1; BEGIN; SELECT 2"), query("SELECT 3"), query("ROLLBACK; SELECT 4"), ready=3)
    play.ask(parse("SELECT 1; SELECT 2"), bind(), execute(), SYNC)


@case
def errors_keep_every_field(play):
    play.ask(query("SELECT no_such_column FROM same"))
    play.ask(query("SELECT 1/0"))
    play.ask(query("INSERT INTO same VALUES (1, 'again')"))
    play.ask(query("DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'PG001', DETAIL = 'd', HINT = 'h', COLUMN = 'c', "
                   "CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'tab', SCHEMA = 's'; END $$"))
    play.ask(query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"))


# --- statements and portals ---------------------------------------------------------------------------------------


@case
def portals_with_row_limits_and_suspension(play):
    play.ask(query("BEGIN"))
    play.ask(parse("SELECT id FROM same ORDER BY id"), bind(portal="p"), execute("p", 5), SYNC)
    play.ask(execute("p", 5), FLUSH, execute("p", 1), SYNC)
    play.ask(describe("P", "p"), execute("p"), execute("p"), execute("p", 3), SYNC)
    play.ask(query("COMMIT"), execute("p"), SYNC, ready=2)
    # A limit that the rows exactly fill is a suspension; one more row would be the end.
    play.ask(parse("SELECT generate_series(1, 3)"), bind(), execute("", 3), execute("", 3), SYNC)
    # Outside a transaction block a portal ends at the Sync.
    play.ask(parse("SELECT generate_series(1, 3)"), bind(portal="q"), execute("q", 1), SYNC, execute("q", 1), SYNC, ready=2)


@case
def a_suspended_write_keeps_its_rows(play):
    play.ask(query("BEGIN"))
    play.ask(parse("UPDATE same SET body = body WHERE id <= 4 RETURNING id"), bind(portal="u"), execute("u", 2), SYNC)
    play.ask(execute("u"), SYNC)
    play.ask(query("ROLLBACK"))


@case
def executes_without_a_describe(play):
    play.ask(parse("SELECT id, body FROM same WHERE id = 3", "s"), SYNC)
    play.ask(bind(statement="s"), execute(), bind(statement="s", result_formats=(1,)), execute(), SYNC)
    play.ask(bind(statement="s", result_formats=(1, 0)), execute(), bind(statement="s", result_formats=(1, 0, 1)), execute(), SYNC)


@case
def a_name_parsed_again(play):
    play.ask(parse("SELECT 1", "s"), parse("SELECT 2", "s"), bind(statement="s"), SYNC)
    play.ask(bind(statement="s"), execute(), SYNC)
    play.ask(parse("SELECT 3"), parse("SELECT 4"), bind(), execute(), SYNC)
    play.ask(close("S", "s"), parse("SELECT 5", "s"), bind(statement="s"), execute(), SYNC)
    play.ask(parse("SELECT 6", "s"), SYNC, bind(statement="s"), execute(), SYNC, ready=2)


@case
def a_failed_parse(play):
    play.ask(parse("SELECT 'kept'"), SYNC)
    play.ask(parse("SELECT no_such_column"), bind(), execute(), SYNC)
    # A failing Parse of the unnamed statement has dropped the one before.
    play.ask(bind(), execute(), SYNC)
    play.ask(parse("SELECT 'named'", "s"), SYNC, parse("SELECT no_such_column", "t"), SYNC, ready=2)
    play.ask(bind(statement="t"), SYNC, bind(statement="s"), execute(), SYNC, ready=2)


@case
def a_close_in_a_failed_batch(play):
    play.ask(parse("SELECT 1", "kept"), SYNC)
    play.ask(parse("SELECT no_such_column"), close("S", "kept"), SYNC)
    play.ask(bind(statement="kept"), execute(), SYNC)
    play.ask(close("S", "kept"), parse("SELECT no_such_column"), SYNC)
    play.ask(bind(statement="kept"), execute(), SYNC)
    play.ask(close("S", "never"), close("P", "never"), close("S"), close("P"), SYNC)


@case
def an_execute_behind_an_error(play):
    play.ask(parse("SELECT 1/0"), bind(), execute(), execute(), parse("INSERT INTO same VALUES (103)"), bind(), execute(), SYNC)
    play.ask(query("SELECT count(*) FROM same WHERE id = 103"))
    play.ask(execute("nowhere"), execute("nowhere"), SYNC, execute(), SYNC, ready=2)


@case
def a_query_between_an_error_and_its_sync(play):
    play.ask(parse("SELECT no_such_column"), query("SELECT 'skipped'"), FLUSH, SYNC, query("SELECT 'served'"), ready=2)
    play.send(parse("SELECT 1/0"), bind(), execute(), FLUSH).read(2)
    play.ask(query("SELECT 'skipped'"), query("also"), SYNC)
    play.ask(query("SELECT 'served'"))


@case
def a_query_in_an_open_batch(play):
    """It ends the batch: what stood before it is committed with it."""
    play.ask(parse("INSERT INTO same VALUES (104)"), bind(), execute(), query("SELECT 1"), SYNC, ready=2)
    play.ask(query("DELETE FROM same WHERE id = 104"))
    play.ask(parse("SELECT 1"), bind(portal="p"), query("SELECT 2"), execute("p"), SYNC, ready=2)


@case
def batches_and_flushes(play):
    play.ask(SYNC, SYNC, FLUSH, SYNC, ready=3)
    play.send(parse("SELECT 1"), FLUSH).read(1).send(bind(), FLUSH).read(1).send(describe("P"), FLUSH).read(1)
    play.send(execute(), FLUSH).read(2).ask(SYNC)
    many = [frame for n in range(50) for frame in (parse(f"SELECT {n}"), bind(), describe("P"), execute())]
    play.ask(*many, SYNC)


@case
def describes(play):
    play.ask(parse("SELECT $1::int, $2::text", "s"), describe("S", "s"), SYNC)
    play.ask(parse("INSERT INTO same VALUES ($1, $2)", "i"), describe("S", "i"), bind("105", None, statement="i"), describe("P"), SYNC)
    play.ask(describe("S", "nowhere"), SYNC, describe("P", "nowhere"), SYNC, ready=2)
    play.ask(parse("SELECT 1"), describe("S"), describe("S"), bind(), describe("P"), describe("P"), SYNC)


@case
def binds_that_do_not_fit(play):
    play.ask(parse("SELECT $1::int", "s"), SYNC)
    for frame in (bind(statement="s"), bind("1", "2", statement="s"), bind("x", statement="s"), bind(b"\xff\xfe", statement="s"),
                  bind("1", statement="nowhere")):
        play.ask(frame, execute(), SYNC)
    play.ask(bind("1", statement="s", portal="p"), bind("2", statement="s", portal="p"), SYNC)


@case
def names_of_63_bytes(play):
    play.ask(parse("SELECT 'longest'", LONGEST), bind(statement=LONGEST, portal=LONGEST), execute(LONGEST), SYNC)
    # SQL cuts a name of 64 bytes to the same 63.
    play.ask(query(f"EXECUTE {LONGEST}x"), query(f"DEALLOCATE {LONGEST}y"), bind(statement=LONGEST), SYNC, ready=3)
    play.ask(query(f"PREPARE {LONGEST}z AS SELECT 'cut'"), bind(statement=LONGEST), execute(), SYNC, ready=2)


@case
def prepared_by_sql_and_bound_by_the_protocol(play):
    play.ask(query("PREPARE s (int) AS SELECT $1 + 1"))
    play.ask(describe("S", "s"), bind("41", statement="s"), describe("P"), execute(), SYNC)
    play.ask(query("EXECUTE s(1)"), close("S", "s"), SYNC, ready=2)
    play.ask(bind("1", statement="s"), SYNC, query("EXECUTE s(1)"), ready=2)


@case
def prepared_by_the_protocol_and_executed_by_sql(play):
    play.ask(parse("SELECT $1::int * 2", "s"), SYNC)
    play.ask(query("EXECUTE s(21)"))
    play.ask(query("DEALLOCATE s"), bind("1", statement="s"), SYNC, query("EXECUTE s(1)"), ready=3)
    play.ask(parse("SELECT 1", "t"), SYNC, query("DEALLOCATE ALL"), bind(statement="t"), execute(), SYNC, ready=3)
    play.ask(parse("SELECT 2", "u"), SYNC, query("DISCARD ALL"), bind(statement="u"), execute(), SYNC, ready=3)


@case
def cursors_by_either_side(play):
    play.ask(query("BEGIN"), query("DECLARE c CURSOR FOR SELECT id FROM same ORDER BY id"), ready=2)
    play.ask(describe("P", "c"), execute("c", 2), SYNC)
    play.ask(query("FETCH 2 FROM c"))
    play.ask(parse("SELECT id FROM same ORDER BY id DESC"), bind(portal="d"), execute("d", 1), SYNC)
    play.ask(query("FETCH 2 FROM d"), query("MOVE 1 IN d"), execute("d", 1), SYNC, ready=3)
    play.ask(query("CLOSE d"), execute("d"), SYNC, query("ROLLBACK"), ready=3)
    play.ask(query("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM same ORDER BY id"))
    play.ask(query("FETCH 3 FROM c"), close("P", "c"), SYNC, query("FETCH 1 FROM c"), ready=3)
    play.ask(query("BEGIN"), query("DECLARE b BINARY SCROLL CURSOR FOR SELECT id FROM same ORDER BY id"), ready=2)
    play.ask(query("FETCH LAST FROM b"), query("FETCH PRIOR FROM b"), execute("b", 1), SYNC, query("COMMIT"), ready=4)


# --- transactions -------------------------------------------------------------------------------------------------


@case
def failed_transactions_and_savepoints(play):
    play.ask(query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("COMMIT"), ready=4)
    play.ask(query("BEGIN"), query("SAVEPOINT a"), query("SELECT 1/0"), query("ROLLBACK TO a"), query("SELECT 2"), query("COMMIT"), ready=6)
    play.ask(query("BEGIN"), parse("SELECT 1/0"), bind(), execute(), SYNC, parse("SELECT 1"), SYNC, query("ROLLBACK"), ready=4)
    play.ask(parse("BEGIN"), bind(), execute(), parse("SELECT 1"), bind(), execute(), parse("COMMIT"), bind(), execute(), SYNC)
    play.ask(query("COMMIT"), query("ROLLBACK"), query("BEGIN; BEGIN"), query("ROLLBACK"), ready=4)


@case
def an_error_at_the_sync(play):
    """Deferred constraints are checked when the Sync commits."""
    play.ask(query("INSERT INTO late VALUES (1)"))
    play.ask(parse("INSERT INTO late VALUES (1)"), bind(), execute(), SYNC)
    play.ask(query("BEGIN"), query("INSERT INTO late VALUES (1)"), query("COMMIT"), ready=3)
    play.ask(query("DELETE FROM late WHERE id = 1"))


# --- COPY ---------------------------------------------------------------------------------------------------------


@case
def copy_fails_both_ways(play):
    play.send(query("COPY same FROM STDIN")).read(1).ask(copy_data(b"200\tx\n"), copy_fail("changed my mind"))
    play.send(query("COPY same FROM STDIN")).read(1).ask(copy_data(b"no number\tx\n"), COPY_DONE)
    play.send(query("COPY same FROM STDIN")).read(1).ask(copy_data(b"201\tx"), copy_fail(""))
    play.send(query("COPY same FROM STDIN")).read(1).ask(copy_data(b"1\ttwice\n"), COPY_DONE)
    play.ask(query("COPY (SELECT 1/(5-id) FROM same ORDER BY id) TO STDOUT"))
    play.ask(query("COPY no_such_table FROM STDIN"), query("COPY no_such_table TO STDOUT"), ready=2)
    play.ask(query("SELECT count(*) FROM same"))


@case
def copy_out_in_every_form(play):
    play.ask(query("COPY same TO STDOUT"), query("COPY (SELECT 1 WHERE false) TO STDOUT"), ready=2)
    play.ask(query("COPY (SELECT id, body FROM same ORDER BY id) TO STDOUT (FORMAT csv, HEADER)"))
    play.ask(query("COPY (SELECT id, body FROM same ORDER BY id) TO STDOUT (FORMAT binary)"))
    play.ask(query("COPY same TO STDOUT; SELECT 1; COPY same TO STDOUT"))


@case
def copy_in_extended_batches(play):
    play.send(parse("COPY same FROM STDIN"), bind(), describe("P"), execute(), FLUSH).read(4)
    play.ask(copy_data(b"202\tx\n"), COPY_DONE, SYNC)
    play.send(parse("COPY same FROM STDIN"), bind(), execute(), FLUSH).read(3)
    play.ask(copy_data(b"203\tx\n"), copy_fail("no"), SYNC)
    # The Sync that stands behind the Execute is ignored while the data comes.
    play.send(parse("COPY same FROM STDIN"), bind(), execute(), SYNC).read(3)
    play.ask(copy_data(b"204\tx\n"), COPY_DONE, SYNC)
    play.send(parse("COPY same FROM STDIN"), bind(), execute(), FLUSH).read(3)
    play.ask(copy_data(b"no number\n"), COPY_DONE, parse("SELECT 'skipped'"), bind(), execute(), SYNC, query("SELECT 'served'"), ready=2)
    play.ask(parse("COPY same TO STDOUT"), bind(), describe("P"), execute(), parse("SELECT 1"), bind(), execute(), SYNC)
    play.ask(query("DELETE FROM same WHERE id > 199"))


@case
def copy_in_with_everything_at_once(play):
    play.ask(query("COPY same FROM STDIN"), copy_data(b"205\tx\n206"), FLUSH, copy_data(b""), copy_data(b"\ty\n"), COPY_DONE,
             query("SELECT id, body FROM same WHERE id > 199 ORDER BY id"), query("DELETE FROM same WHERE id > 199"), ready=3)


@case
def several_copies_in_a_text(play):
    play.send(query("COPY same FROM STDIN; COPY same FROM STDIN; SELECT count(*) FROM same")).read(1)
    play.send(copy_data(b"207\tx\n"), COPY_DONE).read(2)
    play.ask(copy_data(b"208\tx\n"), COPY_DONE)
    play.ask(query("DELETE FROM same WHERE id > 199"))


@case
def stray_copy_frames_behind_a_failed_copy(play):
    """A driver that has not read the error yet goes on sending: the server drops it."""
    play.send(query("COPY same FROM STDIN")).read(1)
    play.ask(copy_data(b"no number\n"), *[copy_data(b"1\tx\n")] * 20, COPY_DONE, query("SELECT 'served'"), ready=2)
    play.send(query("COPY same FROM STDIN")).read(1)
    play.ask(copy_data(b"no number\n"), copy_data(b"x" * 200_000), copy_fail("late"), query("SELECT 'served'"), ready=2)


BAD_LINE = copy_data(b"no number\n")


@case
def syncs_among_the_data_of_a_failed_copy(play):
    """A server that copies ignores them; one that has failed the copy answers each."""
    play.send(query("COPY same FROM STDIN")).read(1).ask(BAD_LINE, SYNC, copy_data(b"1\tx\n"), SYNC, COPY_DONE, SYNC, ready=4)
    play.send(query("COPY same FROM STDIN")).read(1).ask(SYNC, copy_data(b"400\tx\n"), SYNC, BAD_LINE, SYNC, COPY_DONE, query("SELECT 'served'"), ready=3)
    play.send(query("COPY same FROM STDIN")).read(1).ask(BAD_LINE, SYNC, query("SELECT 'served'"), query("SELECT 'again'"), ready=4)
    play.send(query("COPY same FROM STDIN")).read(1).ask(SYNC, SYNC, copy_fail("no"), parse("SELECT 1"), bind(), execute(), SYNC, ready=2)
    play.send(query("BEGIN; COPY same FROM STDIN")).read(2).ask(BAD_LINE, SYNC, COPY_DONE, query("SELECT 1"), query("ROLLBACK"), SYNC, ready=5)
    # Nothing the gateway says itself comes before what the server still owes.
    play.send(query("COPY same FROM STDIN")).read(1).ask(BAD_LINE, SYNC, SYNC, query("SELECT 1/0"), query(""), ready=5)
    play.ask(query("SELECT count(*) FROM same WHERE id > 199"))


@case
def syncs_among_the_data_of_a_failed_copy_in_a_batch(play):
    copying = (parse("COPY same FROM STDIN"), bind(), execute())
    # As libpq sends it: the Sync behind the Execute is ignored, the batch goes on to the one behind the data.
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, COPY_DONE, SYNC)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, COPY_DONE, parse("SELECT 'skipped'"), bind(), execute(), SYNC, query("SELECT 1"), ready=2)
    play.send(*copying, SYNC).read(3).ask(copy_data(b"401\tx\n"), copy_fail("no"), SYNC, query("SELECT 'served'"), ready=2)
    # Behind the failure a Sync ends it, and stray data is dropped.
    play.send(*copying, FLUSH).read(3).ask(BAD_LINE, SYNC).ask(copy_data(b"1\tx\n"), COPY_DONE, SYNC)
    play.send(*copying, FLUSH).read(3).ask(BAD_LINE, SYNC, copy_data(b"1\tx\n"), SYNC, COPY_DONE, SYNC, ready=3).ask(query("SELECT 'served'"))
    play.send(*copying, FLUSH).read(3).ask(BAD_LINE, SYNC).ask(parse("SELECT 'served'"), bind(), execute(), SYNC)
    # Asked for its data, and failed before any of it is read.
    play.ask(parse("COPY same_view FROM STDIN"), bind(), execute(), SYNC).ask(copy_data(b"1\t1\n"), COPY_DONE, SYNC)
    play.ask(query("BEGIN")).send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, COPY_DONE, SYNC, ready=2).ask(query("ROLLBACK"))
    play.ask(query("SELECT count(*) FROM same WHERE id > 199"))


@case
def what_follows_a_copy_of_a_batch_without_another_sync(play):
    """The Sync behind the Execute was ignored, so the server keeps the copy's answer until the next Sync, Flush or Query."""
    copying = (parse("COPY same FROM STDIN"), bind(), execute(), SYNC)
    play.send(*copying).read(3).ask(copy_data(b"501\tx\n"), COPY_DONE, query("SELECT 'behind'"))
    play.send(*copying).read(3).ask(copy_data(b"502\tx\n"), COPY_DONE, parse("SELECT 'behind'"), bind(), execute(), SYNC)
    play.send(*copying).read(3).ask(copy_data(b"503\tx\n"), copy_fail("no"), parse("SELECT 'skipped'"), SYNC, query("SELECT 'behind'"), ready=2)
    play.ask(query("DELETE FROM same WHERE id > 199"))


@case
def batches_behind_a_failed_copy_without_its_end(play):
    """A Sync among the data ends the batch of a COPY that had failed before it, and what follows runs; one before the
    failure is ignored, and what follows is skipped."""
    copying = (parse("COPY same FROM STDIN"), bind(), execute())
    batch = (parse("SELECT 'served'"), bind(), execute(), SYNC)
    play.send(*copying, FLUSH).read(3).ask(BAD_LINE, SYNC, *batch, ready=2)
    play.send(*copying, FLUSH).read(3).ask(BAD_LINE, SYNC, SYNC, *batch, query("SELECT 'again'"), ready=4)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, *batch).ask(*batch)
    play.send(*copying, SYNC).read(3).ask(SYNC, copy_data(b"402\tx\n"), SYNC, BAD_LINE, *batch, query("SELECT 'again'"), ready=2)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, *batch, *batch, ready=3)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, COPY_DONE, *batch, ready=2)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, query("SELECT 'skipped'"), SYNC).send(*batch[:3], FLUSH).read(3).ask(SYNC)
    play.ask(query("BEGIN")).send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, *batch, query("ROLLBACK"), ready=3)
    play.ask(query("BEGIN")).send(*copying, SYNC).read(3).ask(BAD_LINE, *batch, query("ROLLBACK"), ready=2)
    play.ask(query("SELECT count(*) FROM same WHERE id > 199"))


@case
def what_follows_a_failed_copy_behind_a_barrier(play):
    """Its trigger makes the COPY a barrier: what follows is judged behind the reading of the settings."""
    copying = (parse("COPY same_trap FROM STDIN"), bind(), execute())
    batch = (parse("SELECT 'served'"), bind(), execute(), SYNC)
    play.send(query("COPY same_trap FROM STDIN")).read(1).ask(BAD_LINE, query("SELECT 'served'"), ready=2)
    play.send(query("COPY same_trap FROM STDIN")).read(1).ask(SYNC, BAD_LINE, SYNC, *batch, ready=3)
    play.send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, *batch, ready=2)
    play.send(*copying, SYNC).read(3).ask(SYNC, BAD_LINE, *batch).ask(*batch)
    play.ask(query("BEGIN")).send(*copying, SYNC).read(3).ask(BAD_LINE, SYNC, query("ROLLBACK"), *batch, ready=3)
    play.ask(query("SELECT count(*) FROM same_trap"))


@case
def copy_data_of_more_than_64_mib_in_one_message(play):
    play.send(query("COPY same FROM STDIN")).read(1)
    play.ask(copy_data(b"".join(b"%d\t%s\n" % (n, b"d" * 1_000_000) for n in range(500, 570))), COPY_DONE)
    play.ask(query("SELECT count(*), sum(length(body)) FROM same WHERE id > 199"), query("DELETE FROM same WHERE id > 199"), ready=2)


# --- reports ------------------------------------------------------------------------------------------------------


@case
def notifications(play):
    play.ask(query("LISTEN a; LISTEN \"B c\""))
    play.ask(query("NOTIFY a, 'one'"), query("SELECT pg_notify('B c', 'two')"), ready=2)
    play.ask(query("BEGIN"), query("NOTIFY a, 'at the commit'"), query("SELECT 1"), query("COMMIT"), ready=4)
    play.ask(parse("NOTIFY a"), bind(), execute(), SYNC, query("UNLISTEN *"), query("NOTIFY a"), ready=3)


@case
def parameters_are_reported_when_they_move(play):
    play.ask(query("SET TimeZone = 'Asia/Tokyo'"), query("SET DateStyle = 'SQL, DMY'; SELECT '2020-02-01'::date"), ready=2)
    play.ask(query("BEGIN"), query("SET LOCAL IntervalStyle = 'iso_8601'"), query("SELECT '1 day'::interval"), query("ROLLBACK"), ready=4)
    play.ask(parse("SET TimeZone = 'UTC'"), bind(), execute(), SYNC)
    play.ask(query("RESET DateStyle"))


# --- sizes --------------------------------------------------------------------------------------------------------


@case
def frames_around_the_size_of_a_buffer(play):
    for size in (8_180, 8_187, 8_192, 65_519, 65_531, 65_536, 131_072):
        play.ask(query(f"SELECT repeat('z', {size})"))
        play.ask(parse("SELECT length($1::text), $1::text"), bind("q" * size), execute(), SYNC)
        play.ask(query(f"SELECT length('{'t' * size}')"))
        play.ask(query(f"COPY (SELECT repeat('c', {size})) TO STDOUT"))
        play.send(query("COPY same FROM STDIN")).read(1).ask(copy_data(b"300\t" + b"d" * size + b"\n"), COPY_DONE)
        play.ask(query("DELETE FROM same WHERE id = 300 RETURNING length(body)"))


@case
def wide_rows_and_many_columns(play):
    play.ask(query("SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1_600))))
    play.ask(query("SELECT repeat('w', 3000000), NULL, ''"))
    play.ask(parse("SELECT repeat('w', 3000000), NULL, ''"), bind(result_formats=(1,)), execute(), SYNC)


# --- ends ---------------------------------------------------------------------------------------------------------


@case
def a_query_during_copy_in(play):
    """A server fails the copy and ends the session: in the middle of a copy it cannot tell where the next frame starts."""
    play.send(query("COPY same FROM STDIN")).read(1)
    play.send(copy_data(b"301\tx\n"), query("SELECT 1")).end()


ENDINGS = ("a query during copy in",)


def fatal_of(frames):
    last = [wire.fields(body) for tag, body in frames if tag == "E"][-1]
    return last["V"], last["C"]


@pytest.fixture(scope="module")
def prepared(world, shared):
    with world.database.superuser() as db:
        db.execute(SETUP)
        db.execute("GRANT ALL ON ALL TABLES IN SCHEMA shop TO power_login")
    # What is compared must be judged by the catalog that has these tables.
    def known():
        with Client(shared, group="power") as client:
            # A relation that is not known may run code, and nothing with a bare name may stand behind that in one text.
            return "E" not in wire.tags(client.ask(query("SELECT 1 FROM same; SELECT 1 FROM late")))

    wait_until("the new tables", known)
    return world


@pytest.mark.parametrize("name", CASES)
def test_replies_are_the_server_s(prepared, gate, name):
    plays = []
    for client in (Direct(prepared.database), Through(gate)):
        with client:
            play = Play(client)
            try:
                CASES[name](play)
            except (wire.Refused, wire.Closed) as end:
                play.got.append(("ended", str(end).encode()))
            plays.append(seen(play.got))
    direct, through = plays
    if name in ENDINGS:
        assert fatal_of(direct) == fatal_of(through) == ("FATAL", "08P01")
        gate.served()
        return
    for at, (theirs, ours) in enumerate(zip(direct, through)):
        assert ours == theirs, f"frame {at}: server {theirs[:1]} {theirs[1][:300]!r}, gateway {ours[:1]} {ours[1][:300]!r}"
    assert len(direct) == len(through)
