"""A target that lies: the client gets a FATAL with its reason, the gateway lives, other sessions are served.

The control login is passed through to the real server, so that the gateway has a catalog; every session of a client
meets a server that is played by hand.
"""

import struct
import threading

import pytest

import wire
from harness import wait_until
from wire import (
    AUTH_OK, GREETING, HONEST, KEY_DATA, READY, Client, Closed, HostileServer, Refused, bind, complete, copy_data,
    data_row, describe, error, execute, frame, guards_answer, honest_login, parse, query, row_description, status, tags, text,
)

PARAMETERS = b"".join(status(k, v) for k, v in GREETING.items())


class Script:
    """What the hostile server says; set anew by each test."""

    def __init__(self):
        self.honest()

    def honest(self):
        self.at_login = None
        self.at_query = HONEST
        self.closes = False
        # What is said to the readings of the guards that come next; behind them, what is honest.
        self.at_guards = []
        self.cancelled = []

    def login(self, peer):
        if self.at_login is None:
            honest_login(peer)
        elif callable(self.at_login):
            self.at_login(peer)
        else:
            peer.send(self.at_login)
            if self.closes:
                raise Closed("on purpose")

    def guards(self, body):
        said = self.at_guards.pop(0) if self.at_guards else guards_answer
        return said(body) if callable(said) else said

    def cancel(self, key):
        self.cancelled.append(key)

    def answer(self, peer, tag, body):
        if tag in "QSH":
            peer.send(self.at_query)
            return "close" if self.closes else None
        return None


@pytest.fixture(scope="module")
def played(world):
    script = Script()
    server = HostileServer(world.database.port, script)
    gate = world.gateway(pg_address=server.address, app_password="").start()
    yield gate, script
    gate.stop()
    server.stop()
    assert not server.failures, server.failures


@pytest.fixture
def hostile(played):
    gate, script = played
    script.honest()
    yield gate, script
    # Another session is served, by the same gateway, from a server that behaves again.
    script.honest()
    with Client(gate) as client:
        assert client.rows("SELECT 1") == [(b"1",)]
    assert gate.alive(), gate.log()[-3000:]


LOGINS = {
    "a method that nobody knows": frame("R", struct.pack("!I", 99)),
    "kerberos": frame("R", struct.pack("!I", 2)),
    "md5": frame("R", struct.pack("!I", 5) + b"salt"),
    "a cleartext password outside TLS": frame("R", struct.pack("!I", 3)),
    "gss": frame("R", struct.pack("!I", 7)),
    "sasl without a mechanism": frame("R", struct.pack("!I", 10) + b"\0"),
    "sasl with a foreign mechanism": frame("R", struct.pack("!I", 10) + b"PLAIN\0\0"),
    "sasl that ends before it began": frame("R", struct.pack("!I", 12) + b"v=AAAA"),
    "a truncated authentication": frame("R", b"\0\0"),
    "an authentication without its end": b"R\0\0\0\x08\0\0",
    "rows before the login": data_row(b"x"),
    "ready before the login": READY,
    "noise": b"\xff" * 100,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "ok without a key": AUTH_OK + PARAMETERS + READY,
    "two keys": AUTH_OK + PARAMETERS + KEY_DATA + KEY_DATA + READY,
    "rows in the greeting": AUTH_OK + PARAMETERS + data_row(b"x") + KEY_DATA + READY,
    "copy both in the greeting": AUTH_OK + frame("W", b"\0\0\0"),
    "another encoding": AUTH_OK + status("client_encoding", "SJIS") + KEY_DATA + READY,
    "strings that escape": AUTH_OK + PARAMETERS + status("standard_conforming_strings", "off") + KEY_DATA + READY,
    "a transaction that is open": AUTH_OK + PARAMETERS + KEY_DATA + frame("Z", b"T"),
    "bytes behind ready": AUTH_OK + PARAMETERS + KEY_DATA + READY + data_row(b"x"),
    "a fatal error": error("FATAL", "57P03", "the database system is starting up"),
    "a fatal error that names the login": error("FATAL", "28P01", 'password authentication failed for user "app_login"'),
    "an error without fields": frame("E", b"\0"),
    "nothing at all": b"",
}


@pytest.mark.parametrize("what", LOGINS)
def test_at_login(hostile, what):
    gate, script = hostile
    script.at_login, script.closes = LOGINS[what], True
    with pytest.raises(Refused) as caught:
        with Client(gate) as client:
            client.ask(query("SELECT 1"))
    assert caught.value.fields["V"] == "FATAL", caught.value.fields
    assert 'target "shop"' in caught.value.fields["M"] or "pgturnstile" in caught.value.fields["M"]
    assert "app_login" not in caught.value.fields["M"]


def test_a_scram_that_does_not_prove_itself(hostile):
    gate, script = hostile

    def login(peer):
        peer.send(frame("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        tag, body = peer.read()
        assert tag == "p"
        nonce = body.split(b"r=")[1]
        peer.send(frame("R", struct.pack("!I", 11) + b"r=" + nonce + b"server,s=c2FsdHNhbHQ=,i=4096"))
        peer.read()
        peer.send(frame("R", struct.pack("!I", 12) + b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), AUTH_OK, PARAMETERS,
                  KEY_DATA, READY)

    script.at_login = login
    with pytest.raises(Refused) as caught:
        Client(gate, "reader")
    assert caught.value.fields["V"] == "FATAL"


def test_a_login_without_a_question(hostile):
    """A credential with a password was to be proven by it: a server that asks for none is not the one that was meant."""
    gate, _ = hostile
    with pytest.raises(Refused) as caught:
        Client(gate, "reader")
    assert caught.value.fields["V"] == "FATAL"


@pytest.mark.parametrize("iterations", [b"1", b"0", b"-1", b"999999999999", b"x"])
def test_a_scram_with_foolish_iterations(hostile, iterations):
    gate, script = hostile

    def login(peer):
        peer.send(frame("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        nonce = peer.read()[1].split(b"r=")[1]
        peer.send(frame("R", struct.pack("!I", 11) + b"r=" + nonce + b"server,s=c2FsdHNhbHQ=,i=" + iterations))
        raise Closed("on purpose")

    script.at_login = login
    with pytest.raises(Refused) as caught:
        Client(gate, "reader")
    assert caught.value.fields["V"] == "FATAL"


ANSWERS = {
    "copy both": frame("W", b"\0\0\0"),
    "copy in that nobody asked for": frame("G", b"\0\0\0"),
    "copy out that nobody asked for": frame("H", b"\0\0\0"),
    "copy data that nobody asked for": copy_data(b"x"),
    "an authentication request": frame("R", struct.pack("!I", 3)),
    "a second key": KEY_DATA,
    "a negotiation": frame("v", struct.pack("!II", 3 << 16, 0)),
    "a function's answer": frame("V", struct.pack("!i", -1)),
    "a parse that nobody sent": frame("1") + HONEST,
    "a bind that nobody sent": frame("2") + HONEST,
    "a close that nobody sent": frame("3") + HONEST,
    "another encoding": status("client_encoding", "SJIS") + HONEST,
    "strings that escape": status("standard_conforming_strings", "off") + HONEST,
    "another login": status("session_authorization", "boss") + HONEST,
    "an unknown frame": frame("q") + HONEST,
    "a length below four": b"D" + struct.pack("!I", 2),
    "a length beyond all": b"T" + struct.pack("!I", 0x7FFF_FFFF),
    "a row with a wrong count": row_description("a") + frame("D", struct.pack("!H", 3) + struct.pack("!i", 1) + b"x") + READY,
    "a row whose value is too long": row_description("a") + frame("D", struct.pack("!Hi", 1, 100) + b"x") + READY,
    "a truncated description": frame("T", b"\0\5abc"),
    "a ready of an unknown state": row_description("a") + complete() + frame("Z", b"Q"),
    "a ready with more": row_description("a") + complete() + frame("Z", b"II"),
    "an error without its end": frame("E", b"SERROR\0"),
    "a tag without its end": row_description("a") + frame("C", b"SELECT 1"),
    "a ready that nobody asked for": HONEST + READY,
    "rows behind ready": HONEST + data_row(b"late"),
    "noise": b"\x00\xff" * 50,
}


@pytest.mark.parametrize("what", ANSWERS)
def test_behind_the_login(hostile, what):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = ANSWERS[what]
        client.send(query("SELECT 1"))
        rest = client.rest()
        assert rest and rest[-1][0] == "E", tags(rest)
        got = wire.fields(rest[-1][1])
        assert got["V"] == "FATAL" and "pgturnstile" in got["M"], got
        assert "Next:" in got["M"]


def test_what_is_wrong_is_recorded(hostile):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = ANSWERS["copy both"]
        client.send(query("SELECT 1"))
        client.fatal()
    closed = gate.wait_record("the end", lambda r: r["kind"] == "session-closed" and "CopyBoth" in r["payload"]["reason"])
    assert closed["payload"]["by"] in ("backend", "target", "server"), closed["payload"]


def test_a_late_row_goes_nowhere(hostile):
    """What the client reads ends at the answer that it asked for; the lie behind it is not passed on."""
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = HONEST + data_row(b"a lie")
        client.send(query("SELECT 1"))
        rest = client.rest()
        assert not any(b"a lie" in body for tag, body in rest if tag == "D")
        assert rest[-1][0] == "E"


WHOLE = row_description("a", "b") + data_row(b"one", b"two") + data_row(b"three", b"four") + complete("SELECT 2") + READY


@pytest.mark.parametrize("at", sorted({*range(0, len(WHOLE), 7), 1, 4, 5, 6, len(WHOLE) - 6, len(WHOLE) - 1}))
def test_it_closes_at_any_moment(hostile, at):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query, script.closes = WHOLE[:at], True
        client.send(query("SELECT 1"))
        rest = client.rest()
        assert tags(rest)[-1:] == "E", tags(rest)
        got = wire.fields(rest[-1][1])
        assert got["V"] == "FATAL" and "pgturnstile" in got["M"]


def test_it_says_fatal(hostile):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query, script.closes = error("FATAL", "57P01", "terminating connection due to administrator command"), True
        client.send(query("SELECT 1"))
        got = client.fatal()
        assert got["C"] == "57P01"


def test_extended_answers_out_of_order(hostile):
    gate, script = hostile
    for lie in (frame("2") + frame("1"), frame("n"), frame("t", b"\0\0"), frame("s"), data_row(b"x"), complete(), READY + READY):
        script.honest()
        with Client(gate) as client:
            script.at_query = lie
            client.send(parse("SELECT 1"), bind(), describe("P"), execute(), wire.SYNC)
            assert client.fatal()["V"] == "FATAL"


# What no server answers to SELECT 1, frame by frame well formed.
T1, D1, C1 = row_description("a"), data_row(b"1"), complete()
IMPOSSIBLE = {
    "two results for one statement": T1 + D1 + C1 + T1 + D1 + C1,
    "two ends": T1 + D1 + C1 + C1,
    "a result behind the error": error() + T1 + D1 + C1,
    "a row behind the error": T1 + error() + D1,
    "a wider row": T1 + data_row(b"1", b"2") + C1,
    "a narrower row": row_description("a", "b") + D1 + C1,
    "a wider row behind others": T1 + D1 * 3 + data_row(b"1", b"2") + C1,
    "no result": b"",
    "no end": T1 + D1,
    "an empty text": frame("I"),
    "an empty text behind the result": T1 + D1 + C1 + frame("I"),
    "a suspended portal": T1 + D1 + frame("s"),
}


def broken(client):
    """The session ends, and the words name the target."""
    got = client.fatal()
    assert got["C"] == "08006" and "the target" in got["M"] and "Next: " in got["M"], got


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_answer_that_cannot_be(hostile, what):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = IMPOSSIBLE[what] + READY
        client.send(query("SELECT 1"))
        broken(client)


@pytest.mark.parametrize("sql, answer", [
    ("COPY items TO STDOUT", T1 + D1 + complete("COPY 1")),
    ("", complete("SELECT 0")),
    ("", frame("I") + frame("I")),
    ("SELECT 1; SELECT 2", T1 + D1 + C1),
    ("SELECT 1; SELECT 2", (T1 + D1 + C1) * 3),
    ("no statement at all", b""),
], ids=["rows for COPY", "an end of nothing", "nothing twice", "one result for two", "three for two", "nothing for what is refused"])  # fmt: skip
def test_an_answer_that_cannot_be_to_another_text(hostile, sql, answer):
    gate, script = hostile
    with Client(gate) as client:
        # In a transaction what is refused has a stand-in, which fails there.
        script.at_query = complete("BEGIN") + frame("Z", b"T")
        client.ask(query("BEGIN"))
        script.at_query = answer + READY
        client.send(query(sql))
        broken(client)


@pytest.mark.parametrize("answer", [
    T1 + data_row(b"1", b"2") + C1,
    frame("n") + D1 + C1,
    T1 + D1 + frame("s"),
    T1 + frame("I"),
    T1 + D1 + C1 + C1,
], ids=["a wider row", "a row behind NoData", "suspended without a limit", "an empty text", "two ends"])  # fmt: skip
def test_an_answer_that_cannot_be_to_a_batch(hostile, answer):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = PARSED + BOUND + answer + READY
        client.send(parse("SELECT 1"), bind(), describe("P"), execute(), wire.SYNC)
        broken(client)


def test_answers_that_can_be(hostile):
    gate, script = hostile
    with Client(gate) as client:
        for sql, answer in (("SELECT 1; SELECT 2", (T1 + D1 + C1) * 2), ("SELECT 1; SELECT 2", T1 + D1 + C1 + error()), ("", frame("I")),
                            ("INSERT INTO items DEFAULT VALUES", complete("INSERT 0 0")), ("SELECT 1", T1 + D1 * 2 + error()), ("SELECT 1", T1 + C1)):
            script.at_query = answer + READY
            assert tags(client.ask(query(sql))) == tags_of(answer + READY), sql
        script.at_query = PARSED + BOUND + T1 + D1 + frame("s") + READY
        assert tags(client.ask(parse("SELECT 1"), bind(), describe("P"), execute("", 1), wire.SYNC)) == "12TDsZ"


def tags_of(frames):
    """The tags of frames that stand in one row of bytes."""
    out = ""
    while frames:
        out += chr(frames[0])
        frames = frames[1 + struct.unpack_from("!I", frames, 1)[0]:]
    return out


def test_notices_and_reports_pass(hostile):
    gate, script = hostile
    with Client(gate) as client:
        script.at_query = (frame("N", b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0") + status("TimeZone", "CET")
                           + frame("A", struct.pack("!I", 7) + text("channel") + text("payload")) + HONEST)
        out = client.ask(query("SELECT 1"))
        assert "".join(tag for tag, _ in out) == "NSATDCZ"


def test_the_guards_cannot_be_read(hostile):
    gate, script = hostile

    def login(peer):
        honest_login(peer)
        tag, body = peer.read()
        assert (tag, body[:9]) == ("Q", b"SHOW role")
        peer.send(error(code="42501", message="no"), READY)

    script.at_login = login
    with pytest.raises(Refused) as caught:
        with Client(gate) as client:
            client.ask(query("SELECT 1"))
    assert caught.value.fields["V"] == "FATAL"


# --- the reading of the guards, behind a barrier --------------------------------------------------------------------

BARRIER = query("SET application_name = 'a barrier'")
LATE = error(code="57014", message="canceling statement due to user request")


def logged_in(gate, script, *guards):
    """A session behind its login, whose next readings are answered so."""
    client = Client(gate)
    script.at_guards = list(guards)
    return client


class SlowReading:
    """Holds an answer of the server back, and what the gateway says of a cancel request meanwhile."""

    def __init__(self, gate):
        self.gate, self.asked, self.go_on = gate, threading.Event(), threading.Event()

    def __call__(self, body):
        self.asked.set()
        assert self.go_on.wait(wire.TIMEOUT_S)
        return guards_answer(body)

    def cancel(self, client, outcome):
        """A request that comes while the server is asked; then it answers."""
        assert self.asked.wait(wire.TIMEOUT_S)
        said = lambda: sum(r["kind"] == "cancel-requested" and outcome in r["payload"]["outcome"] for r in self.gate.records())
        before = said()
        wire.cancel(self.gate, client.key)
        wait_until(f"a cancel request that is {outcome}", lambda: said() > before)
        self.go_on.set()


def test_a_cancel_that_comes_while_the_guards_are_read_and_nothing_waits_goes_nowhere(hostile):
    gate, script = hostile
    slow = SlowReading(gate)
    with logged_in(gate, script, slow) as client:
        assert tags(client.ask(BARRIER)) == "TDCZ"
        slow.cancel(client, "idle")
        assert tags(client.ask(query("SELECT 1"))) == "TDCZ" and not script.cancelled


ASKED = {
    "a query": [query("SELECT 1")],
    "a batch": [parse("SELECT 1"), bind(), describe(), execute(), wire.SYNC],
    "a batch of what stands": [bind(statement="stands"), execute(), wire.SYNC],
    "a batch that begins with Close and Flush": [wire.close("S", "none"), wire.FLUSH, bind(statement="stands"), execute(), wire.SYNC],
}


@pytest.mark.parametrize("what", ASKED)
def test_a_cancel_while_a_statement_waits_for_the_reading_of_the_guards(hostile, what):
    """A server would have the statement by then. It is withdrawn; what stands behind it is served."""
    gate, script = hostile
    slow = SlowReading(gate)
    with logged_in(gate, script, slow) as client:
        script.at_query = frame("1", b"") + READY
        client.ask(parse("SELECT 1", "stands"), wire.SYNC)
        script.at_query = HONEST
        assert tags(client.ask(BARRIER)) == "TDCZ"
        client.send(*ASKED[what], query("SELECT 1"))
        slow.cancel(client, "withdrawn before it was sent")
        out = client.until_ready()
        assert [one["C"] for one in wire.errors(out)] == ["57014"] and tags(out)[-2:] == "EZ", out
        assert wire.errors(out)[0]["M"].startswith("canceling statement due to user request"), out
        assert tags(client.until_ready()) == "TDCZ" and not script.cancelled


@pytest.mark.parametrize("frames", [[parse("SELECT 1"), wire.SYNC], [wire.SYNC], [wire.close("S", "none"), wire.SYNC]])
def test_a_cancel_while_what_runs_nothing_waits_goes_nowhere(hostile, frames):
    gate, script = hostile
    slow = SlowReading(gate)
    with logged_in(gate, script, slow) as client:
        assert tags(client.ask(BARRIER)) == "TDCZ"
        script.at_query = {"P": frame("1", b""), "C": frame("3", b"")}.get(frames[0][:1].decode(), b"") + READY
        client.send(*frames)
        slow.cancel(client, "idle")
        out = client.until_ready()
        assert not wire.errors(out), out
        script.at_query = HONEST
        assert tags(client.ask(query("SELECT 1"))) == "TDCZ"


def test_a_late_cancel_that_hits_the_reading_has_it_read_again(hostile):
    """It was on its way when the statement ended, and the server takes it for what runs now."""
    gate, script = hostile
    with logged_in(gate, script, *[LATE + READY] * 3) as client:
        assert tags(client.ask(BARRIER)) == "TDCZ"
        assert tags(client.ask(query("SELECT 1"))) == "TDCZ"
        assert not script.at_guards


def test_a_reading_that_is_always_cancelled_ends_the_session(hostile):
    gate, script = hostile
    with logged_in(gate, script, *[LATE + READY] * 100) as client:
        client.ask(BARRIER)
        got = client.fatal()
        assert got["C"] == "XX000" and "could not be read" in got["M"], got
        assert len(script.at_guards) > 80


def test_a_late_cancel_that_hits_the_reading_in_a_transaction_fails_it(hostile):
    """As it would have failed the client's next statement. Nothing runs before the transaction ended and the guards are read."""
    gate, script = hostile
    open_, failed = frame("Z", b"T"), frame("Z", b"E")
    with logged_in(gate, script, LATE + failed) as client:
        script.at_query = complete("SET") + open_
        assert client.ask(BARRIER)[-1][1] == b"T"
        # The stand-in of what is refused.
        script.at_query = error(code="42601", message="syntax error") + failed
        out = client.ask(query("SELECT 1"))
        assert wire.errors(out)[0]["C"] == "25P02" and out[-1][1] == b"E", out
        script.at_query = complete("ROLLBACK") + READY
        assert client.ask(query("ROLLBACK"))[-1][1] == b"I"
        script.at_query = HONEST
        assert tags(client.ask(query("SELECT 1"))) == "TDCZ"


ROLE, *OTHERS = [[row_description(name), data_row(wire.GUARDS[name]), complete("SHOW")] for name in list(wire.GUARDS)[:4]]
REST = b"".join(part for each in OTHERS for part in each)
PARSED, BOUND, CLOSED = frame("1"), frame("2"), frame("3")


@pytest.mark.parametrize(
    "first",
    [
        [ROLE[0], data_row(b"none", b"none"), ROLE[2]],
        [row_description("role", "role"), *ROLE[1:]],
        [ROLE[0], ROLE[1], ROLE[1], ROLE[2]],
        [ROLE[0], ROLE[0], ROLE[1], ROLE[2]],
        [ROLE[1], ROLE[2]],
        [ROLE[0], ROLE[1]],
        [ROLE[0], ROLE[2]],
        [ROLE[1], ROLE[0], ROLE[2]],
        [PARSED, *ROLE],
        [ROLE[0], BOUND, *ROLE[1:]],
        [PARSED, BOUND, *ROLE[1:], CLOSED, CLOSED],
        [*ROLE, CLOSED],
        [*ROLE, *ROLE],
        [*ROLE[:2], frame("s")],
        [frame("n"), *ROLE[1:]],
        [],
    ],
    ids=[
        "two columns", "two columns described", "two rows", "described twice", "row alone", "no end", "no row", "row first", "stray parse",
        "stray bind", "by name", "stray close", "twice", "suspended", "no data", "missing",
    ],
)  # fmt: skip
def test_an_answer_to_the_reading_that_is_none(hostile, first):
    """Each frame of it has one place, whatever its values say."""
    gate, script = hostile
    with logged_in(gate, script, b"".join(first) + REST + READY) as client:
        script.at_query = complete("SET") + READY
        client.ask(BARRIER)
        script.at_query = HONEST
        client.send(query("SELECT 1"))
        fields = client.fatal()
        assert fields["C"] == "08006" and "Next: " in fields["M"], fields


def test_a_second_error_to_the_reading(hostile):
    gate, script = hostile
    with logged_in(gate, script, LATE + LATE + READY) as client:
        script.at_query = complete("SET") + READY
        client.ask(BARRIER)
        client.send(query("SELECT 1"))
        assert "Next: " in client.fatal()["M"]


def test_a_fatal_while_the_guards_are_read(hostile):
    gate, script = hostile
    with logged_in(gate, script, error("FATAL", "57P01", "terminating connection due to administrator command")) as client:
        client.ask(BARRIER)
        client.send(query("SELECT 1"))
        assert client.fatal()["C"] == "57P01"
