"""What may happen at any moment: a cancel, the server's FATAL, a client that is gone; and texts over the cap, behind which
a session goes on."""

import struct
import threading
import time

import pytest

import wire
from harness import spawn_on_shim, wait_until
from test_same_as_server import Direct, Through
from wire import COPY_DONE, FLUSH, SYNC, Client, bind, copy_data, errors, execute, frame, parse, query, row, tags

SLOW_CODE = "DO $$BEGIN PERFORM pg_sleep(600); END$$"
BIG = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)"


def backend_pid(client):
    return int(client.rows("SELECT pg_backend_pid()")[0][0])


def state(database, pid):
    return database.one("SELECT state || coalesce(':' || wait_event, '') FROM pg_stat_activity WHERE pid = %s", pid) or "gone"


# Each: what brings the session there, and what the server then shows.
MOMENTS = {
    "idle": ([], "idle:ClientRead"),
    "in a transaction": ([query("BEGIN"), query("SELECT 1")], "idle in transaction:ClientRead"),
    "in a failed transaction": ([query("BEGIN"), query("SELECT 1/0")], "idle in transaction (aborted):ClientRead"),
    "in a query": ([query("SELECT pg_sleep(600)")], "active:PgSleep"),
    "in an execute": ([parse("SELECT pg_sleep(600)"), bind(), execute(), SYNC], "active:PgSleep"),
    "in the second statement of a text": ([query("SELECT 1; SELECT pg_sleep(600); SELECT 2")], "active:PgSleep"),
    "in a query with others behind it": ([query("SELECT pg_sleep(600)"), query("SELECT 1"), parse("SELECT 2"), SYNC], "active:PgSleep"),
    "in a barrier with others behind it": ([query(SLOW_CODE), query("SELECT 1")], "active:PgSleep"),
    "in a barrier's batch with others behind it": ([parse(SLOW_CODE), bind(), execute(), SYNC, parse("SELECT 1"), bind(), execute(), SYNC], "active:PgSleep"),
    "in an open batch": ([parse("SELECT 1"), bind(), execute(), FLUSH], None),
    "at a suspended portal": ([query("BEGIN"), parse("SELECT generate_series(1, 9)"), bind(), execute("", 2), SYNC], "idle in transaction:ClientRead"),
    "among rows nobody reads": ([query(BIG)], "active:ClientWrite"),
    "in COPY TO STDOUT nobody reads": ([query(f"COPY ({BIG}) TO STDOUT")], "active:ClientWrite"),
    "in COPY FROM STDIN": ([query("COPY notes (test) FROM STDIN"), copy_data(b"any-moment\n")], "active:ClientRead"),
}


def bring(client, database, moment):
    """Brings a session to the moment; the server's process, and frames that were read on the way."""
    frames, wanted = MOMENTS[moment]
    pid = backend_pid(client)
    client.send(*frames)
    if wanted is not None:
        wait_until(f"{moment}: {wanted}", lambda: state(database, pid) == wanted)
    else:
        for _ in range(4):
            client.read()
    return pid


def end_of(frames):
    return [(got["V"], got["C"], got["M"]) for got in errors(frames)][-1]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fatal_of_the_server_at_any_moment(gate, database, moment):
    """The server's own last words reach the client, behind everything that was released before them."""
    said = []
    for client in (Direct(database), Through(gate)):
        with client:
            pid = bring(client, database, moment)
            assert database.one("SELECT pg_terminate_backend(%s)", pid)
            said.append(client.rest())
    direct, through = said
    if "nobody reads" in moment:
        # A server that cannot write goes without a word (`ProcessClientWriteInterrupt`): whether it could is chance.
        assert end_of(through)[1] in ("57P01", "08006")
        gate.served()
        return
    assert end_of(through) == end_of(direct) == ("FATAL", "57P01", "terminating connection due to administrator command")
    assert tags(through) == tags(direct)
    gate.served()
    wait_until("no session of it is left", lambda: state(database, pid) == "gone")


CANCELLED = [moment for moment in MOMENTS if moment not in ("in an open batch",)]


@pytest.mark.parametrize("moment", CANCELLED)
def test_a_cancel_at_any_moment(gate, database, moment):
    """The statement in flight is cancelled, or nothing; the session goes on either way, as on the server itself."""
    said = []
    for client in (Direct(database), Through(gate)):
        with client:
            pid = bring(client, database, moment)
            if isinstance(client, Direct):
                direct_cancel(database, client.key)
            else:
                wire.cancel(gate, client.key)
            if moment == "in COPY FROM STDIN":
                client.send(copy_data(b"any-moment\n"), COPY_DONE)
            client.send(SYNC, query("SELECT 'the mark'"))
            got = []
            while not any(tag == "D" and b"the mark" in body for tag, body in got[-3:]) and not ended(got):
                got.append(client.read())
            said.append([(tag, wire.fields(body)["C"] if tag == "E" else None) for tag, body in got if tag not in "SNDdT"])
            assert state(database, pid) != "gone"
    direct, through = said
    assert through == direct
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'any-moment'") == 0


def ended(frames):
    """The mark's own reply was an error, as in a failed transaction."""
    return bool(frames) and frames[-1][0] == "E" and wire.fields(frames[-1][1])["C"] == "25P02"


def direct_cancel(database, key):
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{database.folder}/.s.PGSQL.{database.port}")
        sock.sendall(struct.pack("!II", 8 + len(key), 80877102) + key)
        sock.settimeout(wire.TIMEOUT_S)
        assert sock.recv(1) == b""


def test_cancels_around_the_end_of_a_barrier_end_no_session(gate):
    """One that comes late hits whatever runs then, also the gateway's reading of the guards."""
    barriers = (
        (query("SET application_name = 'a barrier'"),),
        # Closed first, not last: a cancel that hits Bind or Execute has the server skip what stands behind them, and "b" would stay.
        (wire.close("S", "b"), parse("SET application_name = 'a barrier'", "b"), bind(statement="b"), execute(), SYNC),
    )
    with Client(gate, "power") as client:
        for n in range(40):
            # An unnamed statement that stands has the reading done beside it.
            client.ask(parse("SELECT 1"), SYNC)
            canceller = threading.Thread(target=wire.cancel, args=(gate, client.key), kwargs={"tls": False})
            canceller.start()
            for _ in range(4):
                out = client.ask(*barriers[n % 2])
                assert {one["C"] for one in errors(out)} <= {"57014"}, out
            canceller.join()
        assert {one["C"] for one in errors(client.ask(query("SELECT 1")))} <= {"57014"}
        assert client.rows("SELECT 1") == [(b"1",)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_that_goes_at_any_moment_leaves_nothing_behind(gate, database, moment):
    with Through(gate) as client:
        pid = bring(client, database, moment)
    if "pg_sleep" in repr(MOMENTS[moment][0]):
        # A server does not notice either until it writes; what the client has started is ended by hand.
        database.one("SELECT pg_cancel_backend(%s)", pid)
    wait_until("its end at the target", lambda: state(database, pid) == "gone")
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'any-moment'") == 0
    gate.served()


# --- while a statement waits for its record --------------------------------------------------------------------------


class SlowDisk:
    """A gateway whose syncs take so long that what is asked of it meanwhile is done first."""

    def __init__(self, world):
        self.gate = world.gateway()
        self.order, _ = spawn_on_shim(self.gate, world.folder)

    def held(self, client, mark, *frames):
        """Sends a write, or these frames, and waits until nothing but its record keeps it."""
        self.order.write_text("slow-sync 3000")
        client.send(*frames or [query(f"INSERT INTO notes (test, body) VALUES ('any-moment-held', '{mark}')")])
        wait_until("a session that waits for its record", lambda: self.gate.metrics()['pgturnstile_sessions{state="awaiting_evidence"}'] == 1)

    def behind(self, database, mark):
        """Everything is recorded: how often the write was done."""
        self.order.write_text("none")
        self.gate.served()
        return database.one("SELECT count(*) FROM shop.notes WHERE test = 'any-moment-held' AND body = %s", mark)


@pytest.fixture(scope="module")
def slow(world):
    disk = SlowDisk(world)
    yield disk
    disk.gate.stop()
    proof = disk.gate.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr


def cancelled(frames):
    got = errors(frames)
    assert [one["C"] for one in got] == ["57014"], frames
    assert got[0]["V"] == "ERROR" and got[0]["M"].startswith("canceling statement due to user request"), got


def test_a_cancel_while_a_statement_waits_for_its_record(slow, database):
    """Nothing runs yet: it is withdrawn, and never reaches the server."""
    with Client(slow.gate) as client:
        slow.held(client, "cancel")
        wire.cancel(slow.gate, client.key)
        out = client.until_ready()
        assert tags(out) == "EZ" and out[-1][1] == b"I"
        cancelled(out)
        slow.order.write_text("none")
        assert client.rows("SELECT 1") == [(b"1",)]
    assert slow.behind(database, "cancel") == 0
    slow.gate.wait_record("the request", lambda r: r["kind"] == "cancel-requested" and "withdrawn before it was sent" in r["payload"]["outcome"])
    slow.gate.wait_record("its result", lambda r: r["payload"].get("sqlstate") == "57014")


def test_a_cancel_while_a_statement_of_a_transaction_waits_for_its_record(slow, database):
    """As at the server itself, the transaction has failed by it."""
    with Client(slow.gate) as client:
        slow.order.write_text("none")
        client.ask(query("BEGIN"))
        slow.held(client, "in a transaction")
        wire.cancel(slow.gate, client.key)
        out = client.until_ready()
        assert tags(out) == "EZ" and out[-1][1] == b"E"
        cancelled(out)
        slow.order.write_text("none")
        assert errors(client.ask(query("SELECT 1")))[0]["C"] == "25P02"
        client.ask(query("ROLLBACK"))
        assert client.rows("SELECT 1") == [(b"1",)]
    assert slow.behind(database, "in a transaction") == 0


def test_a_cancel_while_a_bind_waits_for_its_record(slow, database):
    """What stands before it in the batch is done, what stands behind it is skipped, as at the server itself."""
    insert = "INSERT INTO notes (test, body) VALUES ('any-moment-held', 'bind')"
    with Client(slow.gate) as client:
        slow.held(client, "bind", parse("SELECT 1"), bind(), execute(), parse(insert, "w"), bind(statement="w"), execute(),
                  parse("SELECT 'skipped'"), bind(), execute(), SYNC, query("SELECT 'served'"))
        wire.cancel(slow.gate, client.key)
        slow.order.write_text("none")
        first, second = client.until_ready(), client.until_ready()
        assert tags(first) == "12DC1EZ", first
        cancelled(first)
        assert tags(second) == "TDCZ"
        # The name is free: its Parse was undone with the batch, or stands, as at the server.
        assert tags(client.ask(wire.close("S", "w"), parse(insert, "w"), SYNC)) == "31Z"
    assert slow.behind(database, "bind") == 0


def test_a_cancel_behind_one_that_was_taken_goes_nowhere(slow, database):
    """The statement behind the withdrawn one is another."""
    with Client(slow.gate) as client:
        slow.held(client, "first")
        wire.cancel(slow.gate, client.key)
        cancelled(client.until_ready())
        wire.cancel(slow.gate, client.key)
        slow.order.write_text("none")
        client.ask(query("INSERT INTO notes (test, body) VALUES ('any-moment-held', 'second')"))
    assert slow.behind(database, "first") == 0
    assert slow.behind(database, "second") == 1


def test_a_fatal_of_the_server_while_a_statement_waits_for_its_record(slow, database):
    with Client(slow.gate) as client:
        pid = backend_pid(client)
        slow.held(client, "fatal")
        assert database.one("SELECT pg_terminate_backend(%s)", pid)
        got = client.rest()
        assert tags(got) == "E" and end_of(got)[:2] == ("FATAL", "57P01"), got
    assert slow.behind(database, "fatal") == 0


def test_a_client_that_goes_while_its_statement_waits_for_its_record(slow, database):
    """Its connection broke off (no Terminate, no end of TLS): what had not left goes nowhere."""
    with Client(slow.gate) as client:
        pid = backend_pid(client)
        slow.held(client, "gone")
    wait_until("its end at the target", lambda: state(database, pid) == "gone")
    assert slow.behind(database, "gone") == 0


def test_a_parse_that_runs_code_waits_for_its_record(slow, database):
    """Analysis of a text runs the input functions of types on its constants: what they write is an effect."""
    with database.superuser() as db:
        db.execute("""CREATE FUNCTION shop.writes_in_a_check(text) RETURNS bool LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO shop.notes (test, body) VALUES ('any-moment-held', $1); RETURN true; END $$;
            CREATE DOMAIN shop.writing AS text CHECK (shop.writes_in_a_check(value)); CREATE TABLE shop.of_writing (c shop.writing[]);
            GRANT ALL ON shop.of_writing TO PUBLIC""")
    try:
        with Client(slow.gate, "power") as client:
            slow.held(client, "analysed", parse("INSERT INTO shop.of_writing VALUES ('{analysed}')"), SYNC)
            assert database.one("SELECT count(*) FROM shop.notes WHERE body = 'analysed'") == 0
            # No statement runs yet: a cancel request passes it by.
            wire.cancel(slow.gate, client.key)
            slow.order.write_text("none")
            assert tags(client.until_ready()) == "1Z"
        assert slow.behind(database, "analysed") == 1
        # Where a statement stands behind it in the batch, the request is for that one, and the batch fails.
        with Client(slow.gate, "power") as client:
            slow.held(client, "analysed", parse("INSERT INTO shop.of_writing VALUES ('{withdrawn}')"), bind(), execute(), SYNC)
            wire.cancel(slow.gate, client.key)
            slow.order.write_text("none")
            out = client.until_ready()
            assert tags(out) == "1EZ", out
            cancelled(out)
        assert slow.behind(database, "withdrawn") == 0
    finally:
        with database.superuser() as db:
            db.execute("DROP TABLE shop.of_writing; DROP DOMAIN shop.writing; DROP FUNCTION shop.writes_in_a_check(text)")


# --- over the cap -------------------------------------------------------------------------------------------------

CAP = 262_144
OVER = "SELECT '" + "t" * (CAP + 10) + "'"
FAR_OVER = "SELECT '" + "t" * (9 * 1024 * 1024) + "'"


@pytest.mark.parametrize("text", [OVER, FAR_OVER], ids=["by-a-little", "by-far"])
def test_a_text_over_the_cap_is_refused_and_the_session_goes_on(gate, text):
    with Client(gate) as client:
        out = client.ask(query(text))
        got = errors(out)
        assert tags(out) == "EZ" and out[-1][1] == b"I" and got[0]["C"] == "54000", out
        assert "statement_bytes_max" in got[0]["M"] and got[0]["V"] == "ERROR"
        assert client.rows("SELECT 1") == [(b"1",)]
        out = client.ask(parse("x" * (CAP + 300_000)), bind(), execute(), SYNC)
        assert tags(out) == "EZ" and errors(out)[0]["C"] == "54000"
        assert client.rows("SELECT 2") == [(b"2",)]


def test_a_text_over_the_cap_inside_a_transaction_fails_it(gate):
    with Client(gate) as client:
        client.ask(query("BEGIN"))
        out = client.ask(query(FAR_OVER))
        assert tags(out) == "EZ" and out[-1][1] == b"E" and errors(out)[0]["C"] == "54000"
        assert errors(client.ask(query("SELECT 1")))[0]["C"] == "25P02"
        client.ask(query("ROLLBACK"))
        assert client.rows("SELECT 2") == [(b"2",)]


def test_a_text_over_the_cap_in_a_pipeline_keeps_the_order(gate):
    with Client(gate) as client:
        client.send(query("SELECT 'before'"), query(OVER), query("SELECT 'behind'"))
        first, second, third = client.until_ready(), client.until_ready(), client.until_ready()
        assert [row(b)[0] for t, b in first + third if t == "D"] == [b"before", b"behind"]
        assert tags(second) == "EZ" and errors(second)[0]["C"] == "54000"
        client.send(parse("SELECT 'before'"), bind(), execute(), parse("y" * 900_000, "s"), bind(statement="s"), execute(), SYNC,
                    query("SELECT 'behind'"))
        first, second = client.until_ready(), client.until_ready()
        assert tags(first) == "12DCEZ" and errors(first)[0]["C"] == "54000"
        assert tags(second) == "TDCZ"
        # Skipped behind an error, whatever its size.
        client.send(parse("SELECT no_such_column"), query(FAR_OVER), SYNC, query("SELECT 'served'"))
        assert errors(client.until_ready())[0]["C"] == "42703"
        assert tags(client.until_ready()) == "TDCZ"


def test_parameters_over_their_limit_are_refused_and_the_session_goes_on(own_gate):
    gate = own_gate(extra_limits="held_bytes_max = 1_048_576\nrow_bytes_max = 1_048_576")
    with Client(gate) as client:
        out = client.ask(parse("SELECT length($1::text)"), bind("v" * 2_000_000), execute(), SYNC)
        assert tags(out) == "1EZ" and errors(out)[0]["C"] == "54000" and "held_bytes_max" in errors(out)[0]["M"]
        assert client.rows("SELECT 1") == [(b"1",)]


@pytest.mark.parametrize("sql", ["SELECT repeat('r', 1_100_000)", "COPY (SELECT repeat('r', 1_100_000)) TO STDOUT"], ids=["select", "copy"])
def test_a_row_over_its_limit_ends_the_session_and_names_the_limit(own_gate, sql):
    gate = own_gate(extra_limits="row_bytes_max = 1_048_576")
    with Client(gate) as client:
        assert client.rows("SELECT length(repeat('r', 1000000))") == [(b"1000000",)]
        client.send(query(sql.replace("1_100_000", "1100000")))
        got = client.fatal()
        assert got["C"] == "08006" and "row_bytes_max" in got["M"] and "1048576" in got["M"], got


RAISES = "DO $$BEGIN RAISE {} '%', repeat('é', {}); END$$"


def test_a_large_notice_and_a_large_error_pass(gate, database):
    """As from the server itself, to the byte."""
    said = []
    for client in (Direct(database), Through(gate)):
        with client:
            said.append(client.ask(query(RAISES.format("NOTICE", 4_000_000)))
                        + client.ask(query(RAISES.format("EXCEPTION", 4_000_000))) + client.ask(query("SELECT 1")))
    assert "".join(tag for tag, _ in said[1]) == "NCZEZTDCZ"
    assert said[0] == said[1]


@pytest.mark.parametrize("what", ["NOTICE", "EXCEPTION"])
def test_a_report_over_the_limit_of_rows_ends_the_session_and_names_the_limit(own_gate, what):
    gate = own_gate(extra_limits="row_bytes_max = 2_097_152")
    with Through(gate) as client:
        assert "E" not in tags(client.ask(query(RAISES.format("NOTICE", 1_000_000))))
        client.send(query(RAISES.format(what, 1_100_000)))
        got = client.fatal()
        assert got["C"] == "08006" and "error or notice is too long" in got["M"] and "row_bytes_max" in got["M"], got
    ended = gate.wait_record("the end", lambda r: r["kind"] == "session-closed" and r["payload"]["by"] == "backend")
    assert "malformed frame" not in ended["payload"]["reason"]


def test_copy_data_longer_than_any_server_takes_ends_the_session(gate):
    with Client(gate, group="power") as client:
        client.send(query("COPY notes (test) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(b"d" + (0x3FFF_FFFE + 1).to_bytes(4, "big"))
        got = client.fatal()
        assert got["C"] == "54000" and "limit of 1073741818 bytes" in got["M"], got


def test_a_text_over_the_cap_one_piece_at_a_time(gate):
    """Its answer may come before its end: the rest is dropped, and the next frame is read where it stands."""
    whole = query(OVER)
    with Client(gate) as client:
        for at in (1, 5, 6, 8_192, 65_536, len(whole) - 1):
            client.sock.sendall(whole[:at])
            client.sock.sendall(whole[at:])
            out = client.until_ready()
            assert tags(out) == "EZ" and errors(out)[0]["C"] == "54000"
            assert client.rows("SELECT 1") == [(b"1",)]


def test_a_text_over_the_cap_is_recorded(gate, world):
    with Client(gate, token=world.idp.token("app", sub="long-winded")) as client:
        client.ask(query(OVER))
    who = gate.wait_record("the session", lambda r: r["kind"] == "authenticated" and r["payload"]["subject"] == "long-winded")
    gate.wait_record("the refusal", lambda r: r["session"] == who["session"] and "54000" in str(r["payload"]))


def test_what_no_server_takes_ends_the_session(gate):
    """One byte more than a server's own limit: nobody could say where the next frame starts in time."""
    with Client(gate) as client:
        client.send(b"Q" + struct.pack("!I", 0x3FFF_FFFF))
        got = client.fatal()
        assert got["C"] == "54000", got
    gate.served()


def test_a_text_over_the_cap_during_copy_ends_the_session_as_a_query_does(gate, database):
    with Client(gate) as client:
        client.send(query("COPY notes (test) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(copy_data(b"over-in-copy\n"), frame("Q", b"x" * (CAP + 10) + b"\0"))
        assert client.fatal()["C"] == "08P01"
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'over-in-copy'") == 0


@pytest.mark.parametrize("tls", [True, "direct"])
def test_last_words_reach_a_client_that_goes_on_sending(gate, tls):
    """A close with bytes unread answers them with a reset, and the reset takes the message along."""
    with Client(gate, tls=tls, alpn="postgresql") as client:
        client.send(frame("?", b""))
        for _ in range(10):
            client.send(b"x" * 65_536)
            time.sleep(0.02)
        assert client.fatal()["C"] == "08P01"


def test_a_token_that_is_too_long_is_told_so(gate):
    with Client(gate, login=False) as client, pytest.raises(wire.Refused) as refused:
        client.login("x" * 1_000_000, user="app", database="shop")
    assert refused.value.fields["C"] == "28000"
    assert "token_bytes_max" in refused.value.fields["M"]
