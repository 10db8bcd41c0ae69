"""Conversations frame by frame: what a driver could send, and what none should."""

import os
import socket
import struct
import threading

import pytest

import wire
from harness import wait_until
from wire import (
    COPY_DONE, FLUSH, SYNC, TERMINATE, Client, Closed, bind, close, copy_data, copy_fail, describe, errors,
    execute, frame, parse, query, row, tags,
)

BROKEN = {
    "a query without its NUL": frame("Q", b"SELECT 1"),
    "bytes behind the NUL": frame("Q", b"SELECT 1\0more"),
    "an empty query frame": frame("Q", b""),
    "a length below four": b"Q" + struct.pack("!I", 3),
    "a length of zero": b"S" + struct.pack("!I", 0),
    "a length beyond two gigabytes": b"Q" + struct.pack("!I", 0xFFFF_FFFF),
    "a sync with a body": frame("S", b"x"),
    "a flush with a body": frame("H", b"x"),
    "a terminate with a body": frame("X", b"x"),
    "a truncated parse": frame("P", b"name"),
    "a parse with a wrong count": frame("P", b"\0SELECT 1\0\0\5"),
    "a truncated bind": frame("B", b"\0\0\0\1"),
    "a bind with a negative length": frame("B", b"\0\0\0\0\0\1" + struct.pack("!i", -2) + b"\0\0"),
    "a bind whose value is too long": frame("B", b"\0\0\0\0\0\1" + struct.pack("!i", 1000) + b"\0\0"),
    "a function call without its end": frame("F", b"\0\0"),
    "a describe of nothing": frame("D", b"X\0"),
    "a close of nothing": frame("C", b"X\0"),
    "an execute without its limit": frame("E", b"\0"),
    "an unknown frame": frame("z", b""),
    "a backend's frame": frame("T", b"\0\0"),
    "a frame of zeroes": b"\0" * 16,
    "text of another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "a second password": frame("p", b"secret\0"),
    "copy data out of nowhere": copy_data(b"x"),
    "the end of a copy out of nowhere": COPY_DONE,
    "the failure of a copy out of nowhere": copy_fail(),
    "a second startup": wire.startup(user="app"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_read_ends_the_session(gate, what):
    with Client(gate) as client:
        client.send(BROKEN[what])
        try:
            client.send(query("SELECT 'behind'"))
        except OSError:
            pass
        rest = client.rest()
        assert rest, "no word was said"
        assert all(tag == "E" for tag, _ in rest), tags(rest)
        got = wire.fields(rest[-1][1])
        assert (got["V"], got["C"]) == ("FATAL", "08P01"), got
        assert "pgturnstile" in got["M"]
    gate.served()


@pytest.mark.parametrize("tag", "QPBDECSHXFpf")
def test_a_frame_over_its_limit_ends_the_session_by_its_header(gate, tag):
    """The declared length alone decides: nothing is waited for, nothing is set aside for it."""
    with Client(gate) as client:
        client.send(tag.encode() + struct.pack("!I", 0x7FFF_FFFF))
        got = client.fatal()
        assert got["C"] in ("08P01", "54000") and "limit" in got["M"], got
    gate.served()


def test_a_broken_frame_is_recorded(gate, world):
    with Client(gate, token=world.idp.token("app", sub="breaker")) as client:
        client.send(frame("Q", b"SELECT 1"))
        client.fatal()
    opened = gate.wait_record("the session", lambda r: r["kind"] == "authenticated" and r["payload"]["subject"] == "breaker")
    closed = gate.wait_record("its end", lambda r: r["kind"] == "session-closed" and r["session"] == opened["session"])
    assert closed["payload"]["by"] == "client"
    violations = [r for r in gate.records() if r["session"] == opened["session"] and "violation" in r["kind"]]
    assert violations or "Query" in closed["payload"]["reason"], closed


def test_early_bytes_behind_an_ssl_request(gate):
    """CVE-2021-23214: bytes in clear behind the request must not be taken for something said inside TLS."""
    with Client(gate, login=False, tls=False) as client:
        client.send(wire.SSL_REQUEST + wire.startup(user="app", database="shop"))
        rest = b""
        try:
            while True:
                rest += client.exactly(1)
        except Closed:
            pass
        assert b"R\0\0\0" not in rest, "no credential is asked for"
    gate.served()


def test_gss_is_answered_no_and_tls_may_follow(gate):
    with Client(gate, login=False, tls=False) as client:
        client.send(wire.GSS_REQUEST)
        assert client.exactly(1) == b"N"
        client.send(wire.SSL_REQUEST)
        assert client.exactly(1) == b"S"


@pytest.mark.parametrize(
    "first",
    [b"\0\0\0\7\0\0\0", struct.pack("!II", 4, 0), struct.pack("!I", 0x7FFF_FFFF) + b"x" * 20, b"GET / HTTP/1.0\r\n\r\n",
     b"\x16\x03\x01\x00\x05hello", struct.pack("!II", 8, 2 << 16), os.urandom(64)],
    ids=["short", "empty", "huge", "http", "tls-first", "protocol-2", "noise"],
)
def test_first_bytes_that_are_no_startup(gate, first):
    with Client(gate, login=False, tls=False) as client:
        try:
            client.send(first)
            client.sock.shutdown(socket.SHUT_WR)
            data = client.sock.recv(65536)
        except OSError:
            data = b""
        # Nothing, an ErrorResponse, or the alert of a TLS handshake that failed.
        assert data[:1] in (b"", b"E", b"\x15"), data
    gate.served()


def test_cancel_by_key(gate, database):
    with Client(gate) as client:
        client.send(query("SELECT pg_sleep(600) /* by key */"))
        wait_until("the sleep", lambda: sleeping(database, "by key"))
        for wrong in (os.urandom(len(client.key)), client.key[:4] + bytes(len(client.key) - 4), client.key[:8] + b"xxxx"):
            if wrong != client.key:
                wire.cancel(gate, wrong)
        assert sleeping(database, "by key") == 1, "a wrong key cancels nothing"
        wire.cancel(gate, client.key)
        out = client.until_ready()
        assert errors(out)[0]["C"] == "57014"
        assert client.rows("SELECT 1") == [(b"1",)]
    gate.wait_record("the cancel", lambda r: r["kind"].startswith("cancel") and "forwarded" in r["payload"]["outcome"])


def test_cancel_in_clear_works_as_libpq_sends_it(gate, database):
    with Client(gate) as client:
        client.send(query("SELECT pg_sleep(600) /* in clear */"))
        wait_until("the sleep", lambda: sleeping(database, "in clear"))
        wire.cancel(gate, client.key, tls=False)
        assert errors(client.until_ready())[0]["C"] == "57014"


def test_the_key_is_ours_not_the_servers(gate, database):
    with Client(gate) as client:
        ours = struct.unpack_from("!I", client.key)[0]
        with database.superuser() as db:
            servers = {pid for (pid,) in db.execute("SELECT pid FROM pg_stat_activity").fetchall()}
        assert ours not in servers


def test_a_late_cancel_hits_nobody(gate):
    with Client(gate) as client:
        client.rows("SELECT 1")
        wire.cancel(gate, client.key)
        for _ in range(20):
            assert client.rows("SELECT 2") == [(b"2",)]


def sleeping(database, mark):
    return database.one(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND usename = 'app_login'",
        f"SELECT pg_sleep(600) /* {mark}%",
    )


def test_a_function_call_is_refused_and_the_session_goes_on(gate):
    call = frame("F", struct.pack("!IHHH", 1598, 0, 0, 1))
    with Client(gate) as client:
        out = client.ask(call)
        assert tags(out) == "EZ" and errors(out)[0]["C"] == "42501"
        assert client.rows("SELECT 1") == [(b"1",)]
        client.ask(query("BEGIN"))
        out = client.ask(call)
        assert tags(out) == "EZ" and out[-1][1] == b"E"
        client.ask(query("ROLLBACK"))
        assert client.rows("SELECT 2") == [(b"2",)]


def test_names_of_statements(gate):
    with Client(gate) as client:
        assert tags(client.ask(parse("SELECT 1", "a"), SYNC)) == "1Z"
        out = client.ask(parse("SELECT 2", "a"), SYNC)
        assert errors(out)[0]["C"] == "42P05", "a name that is taken"
        assert value(client.ask(bind(statement="a"), execute(), SYNC)) == b"1"
        out = client.ask(parse("SELECT no_such_column", "b"), SYNC)
        assert errors(out)[0]["C"] == "42703"
        assert errors(client.ask(bind(statement="b"), execute(), SYNC))[0]["C"] == "26000"
        assert tags(client.ask(close("S", "a"), SYNC)) == "3Z"
        assert errors(client.ask(bind(statement="a"), execute(), SYNC))[0]["C"] == "26000"
        assert tags(client.ask(close("S", "never made"), SYNC)) == "3Z"
        assert tags(client.ask(parse("SELECT 3", "a"), SYNC)) == "1Z"
        assert value(client.ask(bind(statement="a"), execute(), SYNC)) == b"3"


def value(frames):
    return next(row(body)[0] for tag, body in frames if tag == "D")


def test_a_close_in_a_failed_batch_did_not_happen(gate):
    with Client(gate) as client:
        client.ask(parse("SELECT 1", "kept"), SYNC)
        out = client.ask(parse("SELECT no_such_column"), close("S", "kept"), parse("SELECT 2", "new"), SYNC)
        assert tags(out) == "EZ"
        assert value(client.ask(bind(statement="kept"), execute(), SYNC)) == b"1"
        assert errors(client.ask(bind(statement="new"), execute(), SYNC))[0]["C"] == "26000"


def test_a_close_behind_its_use(gate):
    with Client(gate) as client:
        out = client.ask(parse("SELECT 1", "a"), bind(statement="a"), execute(), close("S", "a"), parse("SELECT 2", "a"),
                         bind(statement="a"), execute(), close("P", ""), SYNC)
        assert tags(out) == "12DC312DC3Z"


def test_an_execute_behind_an_error(gate, database):
    with Client(gate) as client:
        out = client.ask(parse("SELECT 1 / (random() * 0)::int"), bind(), execute(),
                         parse("INSERT INTO notes (test) VALUES ('behind-an-error')"), bind(), execute(), SYNC)
        assert tags(out) == "12EZ"
        assert client.rows("SELECT 1") == [(b"1",)]
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'behind-an-error'") == 0


def test_a_query_between_an_error_and_its_sync(gate):
    """The server skips to the Sync, and a Query with it."""
    with Client(gate) as client:
        client.send(parse("SELECT no_such_column"), query("SELECT 'skipped'"), SYNC, query("SELECT 'served'"))
        first, second = client.until_ready(), client.until_ready()
        assert tags(first) == "EZ"
        assert value(second) == b"served"


@pytest.mark.parametrize("sql", ["SELECT 'skipped'", "SET application_name = 'skipped'", "COPY items FROM STDIN", "BEGIN"])
@pytest.mark.parametrize("first", [parse("SELECT no_such_column"), parse("SELECT 1/0") + bind() + execute()])
def test_any_query_between_an_error_and_its_sync(gate, first, sql):
    """A statement behind which nothing may move until the server is ready is skipped as well: nobody waits for it."""
    with Client(gate) as client:
        client.send(first + query(sql) + SYNC, query("SHOW application_name"))
        assert tags(client.until_ready())[-2:] == "EZ"
        assert "skipped" not in str(value(client.until_ready()))
        assert client.rows("SELECT 1") == [(b"1",)]


def test_a_query_behind_a_refused_parse(gate):
    with Client(gate) as client:
        client.send(parse("DELETE FROM notes"), query("SELECT 'skipped'"), SYNC, query("SELECT 'served'"))
        assert tags(client.until_ready()) == "EZ"
        assert value(client.until_ready()) == b"served"


def test_portals_with_row_limits(gate):
    with Client(gate) as client:
        client.ask(query("BEGIN"))
        out = client.ask(parse("SELECT id FROM items ORDER BY id"), bind(portal="p"), execute("p", 3), SYNC)
        assert tags(out) == "12DDDsZ"
        out = client.ask(execute("p", 2), describe("P", "p"), SYNC)
        assert [row(b) for t, b in out if t == "D"] == [(b"4",), (b"5",)]
        out = client.ask(execute("p"), SYNC)
        assert tags(out) == "D" * 995 + "CZ"
        out = client.ask(execute("p", 1), SYNC)
        assert tags(out) == "CZ"
        client.ask(query("COMMIT"))
        out = client.ask(execute("p", 1), SYNC)
        assert errors(out)[0]["C"] == "34000"


def test_two_portals_interleaved(gate):
    with Client(gate) as client:
        client.ask(query("BEGIN"))
        out = client.ask(parse("SELECT generate_series(1, 3)", "s"), bind(portal="a", statement="s"),
                         bind(portal="b", statement="s"), execute("a", 1), execute("b", 2), execute("a", 1), execute("b"),
                         execute("a"), SYNC)
        assert [row(b)[0] for t, b in out if t == "D"] == [b"1", b"1", b"2", b"2", b"3", b"3"]
        client.ask(query("COMMIT"))


def test_empty_queries(gate):
    with Client(gate) as client:
        assert tags(client.ask(query(""))) == "IZ"
        assert tags(client.ask(query(" ; ; "))) == "IZ"
        assert tags(client.ask(query("-- nothing"))) == "IZ"
        assert tags(client.ask(parse(""), bind(), describe("P"), execute(), SYNC)) == "12nIZ"
        assert tags(client.ask(SYNC)) == "Z"
        assert tags(client.ask(FLUSH, SYNC)) == "Z"


@pytest.mark.parametrize("size", [63, 64, 200])
def test_long_names(gate, size):
    """SQL cuts a name at 63 bytes, the protocol does not: two readings of one name are none."""
    name = "n" * size
    with Client(gate) as client:
        out = client.ask(parse("SELECT 1", name), bind(statement=name), execute(), SYNC)
        if size <= 63:
            assert tags(out) == "12DCZ"
        else:
            assert errors(out)[0]["C"] == "42622"
        assert client.rows("SELECT 2") == [(b"2",)]


def test_reserved_names(gate):
    with Client(gate) as client:
        for frames in ((parse("SELECT 1", "pgturnstile.refused"),), (describe("S", "pgturnstile.refused"),),
                       (close("S", "pgturnstile.refused"),), (bind(statement="pgturnstile.refused"),)):
            assert errors(client.ask(*frames, SYNC))[0]["C"] in ("42939", "26000")
        assert client.rows("SELECT 2") == [(b"2",)]


def test_names_with_strange_bytes(gate):
    with Client(gate) as client:
        for name in (b"\xff\xfe", "ü".encode(), b"a b'c\"d", b"\x01"):
            assert tags(client.ask(parse("SELECT 1", name), SYNC))[-1] == "Z"
            assert tags(client.ask(close("S", name), SYNC))[-1] == "Z"
        assert client.rows("SELECT 2") == [(b"2",)]


def test_a_text_that_is_not_utf8(gate):
    with Client(gate) as client:
        out = client.ask(query(b"SELECT '\xff'"))
        assert errors(out)[0]["C"] == "22021"
        assert client.rows("SELECT 2") == [(b"2",)]


def test_split_at_every_byte(gate):
    """The same conversation, cut in two writes at every position."""
    conversation = (parse("SELECT $1::text", "s") + bind("x", statement="s") + describe("P") + execute() + SYNC
                    + query("SELECT 'y'") + close("S", "s") + SYNC)
    with Client(gate) as client:
        for at in range(1, len(conversation)):
            client.sock.sendall(conversation[:at])
            client.sock.sendall(conversation[at:])
            assert tags(client.until_ready()) == "12TDCZ"
            assert tags(client.until_ready()) == "TDCZ"
            assert tags(client.until_ready()) == "3Z"


def test_one_byte_at_a_time(gate):
    with Client(gate) as client:
        for byte in query("SELECT 'slow'"):
            client.sock.sendall(bytes([byte]))
        assert value(client.until_ready()) == b"slow"


def test_copy_in_frame_by_frame(gate, database):
    with Client(gate) as client:
        client.send(query("COPY notes (test, body) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(copy_data(b"wire-co"), copy_data(b""), copy_data(b"py\ta\nwire-copy\tb"), FLUSH, SYNC, copy_data(b"\n"), COPY_DONE)
        assert tags(client.until_ready()) == "CZ"
        # The failing kind.
        client.send(query("COPY notes (test, body) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(copy_data(b"wire-copy-fail\ta\n"), copy_fail("changed my mind"))
        out = client.until_ready()
        assert errors(out)[0]["C"] == "57014" and "changed my mind" in errors(out)[0]["M"]
        # All in one go, before the server has asked.
        out = client.ask(query("COPY notes (test, body) FROM STDIN"), copy_data(b"wire-copy\tc\n"), COPY_DONE)
        assert tags(out) == "GCZ"
        # By the extended protocol, its Sync behind.
        client.send(parse("COPY notes (test, body) FROM STDIN"), bind(), execute(), FLUSH)
        assert tags([client.read() for _ in range(3)]) == "12G"
        out = client.ask(copy_data(b"wire-copy\td\n"), COPY_DONE, SYNC)
        assert tags(out) == "CZ"
    assert database.one("SELECT string_agg(body, '' ORDER BY id) FROM shop.notes WHERE test = 'wire-copy'") == "abcd"
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'wire-copy-fail'") == 0


def test_copy_data_behind_an_error_of_the_server(gate):
    with Client(gate) as client:
        client.send(query("COPY items (id, name) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(copy_data(b"no number\tx\n") * 2000, COPY_DONE, query("SELECT 'behind'"))
        assert errors(client.until_ready())[0]["C"] == "22P02"
        assert value(client.until_ready()) == b"behind"


COPY_NOTES = "COPY notes (test, body) FROM STDIN"
NOT_COPIED = {
    "a query": ([query(COPY_NOTES)], [query("SELECT 1")]),
    "a batch": ([query(COPY_NOTES)], [parse("SELECT 1"), bind(), execute(), SYNC]),
    "a batch in a batch": ([parse(COPY_NOTES), bind(), execute(), FLUSH], [parse("SELECT 1"), bind(), execute(), SYNC]),
    "a batch behind a Sync": ([parse(COPY_NOTES), bind(), execute(), SYNC], [SYNC, parse("SELECT 1"), bind(), execute(), SYNC]),
    "a function call": ([query(COPY_NOTES)], [frame("F", struct.pack("!IHHH", 2026, 0, 0, 0))]),
    "a barrier's own": ([query("SET application_name = 'x'; " + COPY_NOTES)], [query("SELECT 1")]),
}


@pytest.mark.parametrize("what", NOT_COPIED)
def test_what_is_none_of_a_running_copy_ends_the_session(gate, database, what):
    begun, then = NOT_COPIED[what]
    with Client(gate, "power") as client:
        client.send(*begun)
        while client.read()[0] != "G":
            pass
        client.send(copy_data(b"query-in-copy\ta\n"), *then)
        got = client.fatal()
        assert got["C"] == "08P01" and f"a {'FunctionCall' if 'call' in what else 'Query' if 'batch' not in what else 'Parse'} message" in got["M"], got
    gate.served()
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'query-in-copy'") == 0


def test_copy_into_a_table_with_a_trigger(gate, database):
    """The barrier of such a statement must not stand before its own data."""
    with Client(gate, "power") as client:
        client.send(query("COPY trapped (setting, value) FROM STDIN"))
        assert client.read()[0] == "G"
        out = client.ask(copy_data(b"work_mem\t4MB\n" * 10), COPY_DONE)
        assert tags(out) == "CZ"
        assert client.rows("SELECT 1") == [(b"1",)]
    assert database.one("SELECT count(*) FROM shop.trapped WHERE setting = 'work_mem'") == 10


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_a_failed_copy_into_a_table_with_a_trigger_whose_client_is_inside_a_frame(gate, extended):
    """The guards are read behind it, but between two frames: not where the rest of the client's data belongs."""
    with Client(gate, "power") as client:
        copy = "COPY trapped (setting, value) FROM STDIN"
        client.send(*([parse(copy), bind(), execute(), FLUSH] if extended else [query(copy)]))
        while client.read()[0] != "G":
            pass
        half = copy_data(b"y" * 100_000)
        # The second frame's beginning goes on; then the server denies the first.
        client.send(copy_data(b"one column\n") + half[:50_000])
        if extended:
            assert errors([client.read()])[0]["C"] == "22P04"
            client.send(half[50_000:], COPY_DONE, SYNC)
            assert tags(client.until_ready()) == "Z"
        else:
            assert errors(client.until_ready())[0]["C"] == "22P04"
            client.send(half[50_000:], COPY_DONE)
        assert client.rows("SELECT 1") == [(b"1",)]
        # What the reading answers is the gateway's alone, and the next statement's answer is its own.
        assert client.rows("SELECT 2") == [(b"2",)]


def test_terminate_in_a_transaction_rolls_back(gate, database):
    with Client(gate) as client:
        client.ask(query("BEGIN"), )
        client.ask(query("INSERT INTO notes (test) VALUES ('terminated')"))
        client.send(TERMINATE)
        assert client.rest() == []
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'terminated'") == 0


def test_a_client_that_goes_away_frees_its_target_session(gate, database):
    client = Client(gate, application_name="goes-away")
    client.ask(query("BEGIN"))
    wait_until("the session", lambda: database.one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s", "%goes-away%"))
    client.sock.close()
    wait_until("its end", lambda: database.one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s", "%goes-away%") == 0)


def resident_kib(pid) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_backpressure(gate):
    """Thousands of queries are pipelined while the client reads nothing: neither side is buffered without end."""
    count = 3000
    with Client(gate) as client:
        before = resident_kib(gate.process.pid)
        sender = threading.Thread(target=lambda: client.sock.sendall(query("SELECT repeat('x', 50000)") * count), daemon=True)
        sender.start()
        sender.join(3)
        grown = resident_kib(gate.process.pid) - before
        assert grown < 100_000, f"{grown} KiB for a client that does not read"
        rows = 0
        for _ in range(count):
            out = client.until_ready()
            rows += sum(1 for tag, body in out if tag == "D" and len(row(body)[0]) == 50_000)
        sender.join(60)
        assert rows == count


def test_a_server_that_sends_faster_than_the_client_reads(gate):
    with Client(gate) as client:
        before = resident_kib(gate.process.pid)
        client.send(query("SELECT repeat('y', 10000) FROM generate_series(1, 20000)"))
        gate.served()
        assert resident_kib(gate.process.pid) - before < 100_000
        assert tags(client.until_ready()).count("D") == 20_000


def test_a_row_beyond_the_buffer_and_the_split_of_a_header(gate):
    with Client(gate) as client:
        for size in (8_180, 8_187, 8_188, 8_192, 65_520, 65_529, 65_530, 65_536, 65_540, 1_000_003):
            assert len(client.rows(f"SELECT repeat('z', {size})")[0][0]) == size


def test_parameters_of_every_size(gate):
    with Client(gate) as client:
        for size in (0, 1, 8_150, 8_190, 8_192, 65_500, 65_536, 300_000):
            out = client.ask(parse("SELECT length($1::text)"), bind("q" * size), execute(), SYNC)
            assert value(out) == str(size).encode()


def with_formats(parameters=(), results=(), values=()):
    def codes(list_):
        return struct.pack(f"!H{len(list_)}h", len(list_), *list_)

    return frame("B", b"\0\0" + codes(parameters) + struct.pack("!H", len(values)) + b"".join(struct.pack("!i", len(v)) + v for v in values) + codes(results))


@pytest.mark.parametrize(
    "formats, values, code",
    [(((2,), ()), (b"1", b"2"), "22023"), (((0, -1), ()), (b"1", b"2"), "22023"), (((), (7,)), (b"1", b"2"), "22023"),
     (((0, 1, 0), ()), (b"1", b"2"), "08P01"), (((0, 0), ()), (b"1",), "08P01")],
)
def test_formats_that_no_server_takes_are_an_error_and_the_session_goes_on(gate, formats, values, code):
    """A server's own codes. It finds an unknown format of a result only when it sends the row: here it is the Bind."""
    wrong = with_formats(*formats, values)
    text = parse("SELECT $1::text, $2::text")
    with Client(gate) as client:
        for before in ("", "BEGIN"):
            client.ask(query(before))
            out = client.ask(text, wrong, execute(), SYNC)
            assert errors(out)[0]["C"] == code and tags(out) in ("1EZ", "EZ"), out
        assert client.ask(query("ROLLBACK"))[-1][1] == b"I"
        # Skipped behind an error, as anything else.
        out = client.ask(parse("SELECT no_such_column"), wrong, SYNC)
        assert errors(out)[0]["C"] == "42703"
        assert errors(client.ask(frame("F", struct.pack("!IHhHh", 1598, 1, 7, 0, 9))))[0]["C"] == "22023"
        assert client.rows("SELECT 1") == [(b"1",)]


def test_notifications_and_reports_at_any_time(gate):
    with Client(gate) as client:
        out = client.ask(query("SET application_name = 'renamed'"))
        assert any(tag == "S" and body.startswith(b"application_name\0") for tag, body in out), out
        assert tags(out) == "CZ"


def test_two_sessions_have_two_name_spaces(gate):
    with Client(gate) as one, Client(gate) as two:
        one.ask(parse("SELECT 'one'", "s"), SYNC)
        two.ask(parse("SELECT 'two'", "s"), SYNC)
        assert value(one.ask(bind(statement="s"), execute(), SYNC)) == b"one"
        assert value(two.ask(bind(statement="s"), execute(), SYNC)) == b"two"



@pytest.mark.parametrize("sql", ['PREPARE "pgturnstile.refused" AS SELECT 1', 'DECLARE "pgturnstile.x" CURSOR WITH HOLD FOR SELECT 1'])
def test_sql_cannot_take_a_reserved_name(gate, sql):
    with Client(gate) as client:
        got = errors(client.ask(query(sql)))
        assert got and got[0]["C"] == "42939", got


def test_prepared_texts_are_bounded_in_bytes(gate):
    """What a session holds by name is bounded by its bytes, and giving names up frees them."""
    text = f"SELECT '{'x' * 250_000}', {{}}::int"
    with Client(gate) as client:
        taken = 0
        while True:
            out = client.ask(parse(text.format(taken), name=f"s{taken}"), SYNC)
            if errors(out):
                break
            taken += 1
            assert taken < 200, "no bound"
        (refused,) = errors(out)
        assert refused["C"] == "53400" and "32 MiB of text" in refused["M"], refused
        assert taken == 135  # 32 MiB at 250,024 bytes and more each, the last of which crosses the line
        for sql in ("PREPARE one AS SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"):
            (refused,) = errors(client.ask(query(sql)))
            assert refused["C"] == "53400", refused
        (refused,) = errors(client.ask(bind(portal="p", statement="s1"), SYNC))
        assert refused["C"] == "53400", refused
        # What was taken runs on, and the names can be given up by either protocol.
        assert not errors(client.ask(bind(statement="s1"), execute(), SYNC))
        assert not errors(client.ask(parse("DEALLOCATE s1"), bind(), execute(), SYNC))
        assert not errors(client.ask(close("S", "s2"), SYNC))
        assert not errors(client.ask(parse("SELECT 1", name="s1"), SYNC))
        assert not errors(client.ask(query("DEALLOCATE ALL")))
        assert not errors(client.ask(query("PREPARE one AS SELECT 1")))
