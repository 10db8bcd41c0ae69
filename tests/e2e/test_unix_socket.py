"""Listeners on Unix sockets: who may connect, what is recorded of whom, the socket's file from start to end; and targets
on Unix sockets."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import threading

import psycopg
import pytest

import wire
from harness import HANG_S, Handed, wait_until
from wire import COPY_DONE, FLUSH, SYNC, Client, Frames, bind, copy_data, execute, parse, query, tags

NOBODY = "nobody"


@pytest.fixture
def local(own_gate):
    """A factory of gateways with a Unix socket beside their TCP listener; `mode` as the file has it."""

    def make(start=True, mode=None, **settings):
        gate = with_socket(own_gate(start=False, **settings), mode)
        return gate.start() if start else gate

    return make


def with_socket(gate, mode):
    permissions = f'socket = {{ mode = "{mode}" }}' if mode else ""
    gate.socket_port = gate.listener(permissions, tls=False, address=gate.folder)
    gate.socket_file = gate.folder / f".s.PGSQL.{gate.socket_port}"
    return gate


def at(gate, **more) -> dict:
    """Connection parameters for the socket: no TLS, as on every Unix socket of PostgreSQL."""
    return {"host": str(gate.folder), "hostaddr": "", "port": gate.socket_port, "sslmode": "prefer", "sslrootcert": "", **more}


def psql(gate, sql, as_user=None):
    environment = gate.environment(PGHOST=str(gate.folder), PGPORT=str(gate.socket_port), PGSSLMODE="prefer")
    del environment["PGHOSTADDR"], environment["PGSSLROOTCERT"]
    command = ["psql", "-X", "-q", "-A", "-t", "-c", sql]
    if as_user:
        command = ["runuser", "-u", as_user, "--", *command]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False, cwd="/")


def opened(gate, condition):
    return gate.wait_record("the opening", lambda r: r["kind"] == "session-opened" and condition(r["payload"]))["payload"]


def logged_in(gate) -> Client:
    """A client on the socket, by the frames of its own."""
    client = Client.__new__(Client)
    Frames.__init__(client, connected(gate).sock)
    client.parameters, client.key, client.negotiated = {}, None, None
    client.login(gate.idp.token("app"), user="app", database="shop")
    return client


def connected(gate) -> wire.Frames:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(wire.TIMEOUT_S)
    sock.connect(str(gate.socket_file))
    return wire.Frames(sock)


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_psql_on_a_unix_socket_and_what_is_recorded_of_it(local):
    gate = local()
    done = psql(gate, "SELECT 40 + 2")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    record = opened(gate, lambda p: p["listener"] == str(gate.socket_file))
    assert record["peer"].startswith(f"unix(uid={os.geteuid()},gid={os.getegid()},pid=")
    assert record["tls"] == "none"
    with gate.connect(**at(gate)) as db:
        assert db.execute("SELECT count(*) FROM pg_class").fetchone()
        # The process that connected, not the one that asks later.
        opened(gate, lambda p: p["peer"].endswith(f",pid={os.getpid()})"))
        assert f",pid={os.getpid()}) listener" in gate.log()
    # TCP goes on as it was.
    gate.served()


def test_a_token_is_judged_on_a_unix_socket_as_elsewhere(local):
    gate = local()
    with pytest.raises(psycopg.OperationalError, match="pgturnstile: login refused"):
        gate.connect(**at(gate), token="not-a-token")
    denial = gate.wait_record("the denial", lambda r: r["kind"] == "authentication-denied")
    assert denial["payload"]["method"] == "token-password"


def test_a_cancel_by_the_unix_socket(local, database):
    gate = local()
    with gate.connect(**at(gate)) as db:
        told = []
        running = threading.Thread(target=lambda: told.append(pytest.raises(
            psycopg.errors.QueryCanceled, db.execute, "SELECT pg_sleep(600) /* by the socket */")))
        running.start()
        wait_until("it runs", lambda: database.one(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(600) /* by the socket */%'"))
        db.cancel()
        running.join(HANG_S)
        assert told and db.execute("SELECT 1").fetchone() == (1,)


def test_requests_for_encryption_are_answered_with_a_no(local, world):
    gate = local()
    client = connected(gate)
    for request in (wire.GSS_REQUEST, wire.SSL_REQUEST):
        client.sock.sendall(request)
        assert client.exactly(1) == b"N"
    client.sock.sendall(wire.startup(user="app", database="shop"))
    assert client.read() == ("R", b"\0\0\0\3")
    client.sock.sendall(wire.frame("p", wire.text(world.idp.token("app"))))
    assert client.read() == ("R", b"\0\0\0\0")
    # Asked for again and again: turned away.
    client = connected(gate)
    client.sock.sendall(wire.SSL_REQUEST * 4)
    assert client.exactly(3) == b"NNN"
    tag, body = client.read()
    assert tag == "E" and "repeats its encryption request" in wire.fields(body)["M"]
    # TLS from the first byte is no startup packet here.
    client = connected(gate)
    client.sock.sendall(b"\x16\x03\x01\x00\x05hello")
    tag, body = client.read()
    assert tag == "E" and "TLS record" in wire.fields(body)["M"]


def test_connections_of_one_user_are_limited(local):
    gate = local(extra_limits="connections_per_address_max = 3")
    held = [connected(gate) for _ in range(3)]
    with pytest.raises(wire.Closed):
        connected(gate).exactly(1)
    assert gate.metrics()['pgturnstile_turned_away_total{limit="connections"}'] == 1
    assert "turned away: connections_per_address_max is reached by this client" in gate.log()
    # Another origin has its own.
    gate.served()
    held.pop().sock.close()
    wait_until("one is free again", lambda: psql(gate, "SELECT 1").returncode == 0)


# -- the file -----------------------------------------------------------------------------------------------------------


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_socket_is_the_gateways_users_own_unless_told_otherwise(local):
    gate = local()
    assert mode(gate.socket_file) == 0o600
    refused = psql(gate, "SELECT 1", as_user=NOBODY)
    assert refused.returncode == 2 and "Permission denied" in refused.stderr
    gate.stop()
    open_gate = local(mode="0666")
    assert mode(open_gate.socket_file) == 0o666
    done = psql(open_gate, "SELECT 1", as_user=NOBODY)
    assert done.returncode == 0, done.stderr
    opened(open_gate, lambda p: f"(uid={pwd.getpwnam(NOBODY).pw_uid}," in p["peer"])


def test_the_file_goes_with_the_gateway_and_a_left_over_is_taken(local):
    gate = local()
    lock = gate.socket_file.with_name(gate.socket_file.name + ".lock")
    assert lock.read_text() == f"{gate.process.pid}\n"
    gate.stop()
    assert not gate.socket_file.exists() and not lock.exists()
    gate.start()
    gate.stop(signal.SIGKILL)
    assert gate.socket_file.exists()
    gate.start()
    assert psql(gate, "SELECT 1").returncode == 0


def test_what_listens_there_or_is_no_socket_is_left_alone(local):
    gate = local(start=False)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(gate.socket_file))
    server.listen()
    gate.spawn()
    assert gate.process.wait(HANG_S) == 3
    assert f"cannot listen on {gate.socket_file}: another program listens there; stop it, or use another port" in gate.log()
    server.close()
    gate.socket_file.unlink()
    gate.socket_file.write_text("precious")
    gate.spawn()
    assert gate.process.wait(HANG_S) == 3
    assert "something that is no socket stands there" in gate.log()
    assert gate.socket_file.read_text() == "precious"


def test_a_unix_socket_that_was_handed_over_is_served_and_survives(local):
    gate = local(start=False)
    handed = Handed(gate, gate.socket_file)
    handed.spawn()
    assert gate.process.wait(HANG_S) == 3
    assert "more open than socket.mode, 0600; make them agree (SocketMode= of the socket's unit)" in gate.log()
    gate.socket_file.chmod(0o600)
    handed.spawn()
    gate.wait_ready()
    assert psql(gate, "SELECT 1").returncode == 0
    gate.stop()
    # Nobody accepts; the connection is made all the same, and served by the next gateway.
    waiting = connected(gate)
    waiting.sock.sendall(wire.SSL_REQUEST)
    handed.spawn()
    assert waiting.exactly(1) == b"N"


def test_a_drain_waits_for_sessions_on_the_unix_socket(local):
    gate = local(drain_deadline_s=60)
    with gate.connect(**at(gate), autocommit=False) as db:
        db.execute("SELECT 1")
        gate.process.send_signal(signal.SIGTERM)
        wait_until("nobody new", lambda: not gate.socket_file.exists())
        assert db.execute("SELECT 2").fetchone() == (2,)
        db.commit()
    assert gate.process.wait(HANG_S) == 0
    assert gate.verify().returncode == 0


# -- targets ------------------------------------------------------------------------------------------------------------


def test_a_target_on_a_unix_socket(own_gate, database):
    gate = own_gate(start=False, pg_address=f"{database.folder}:{database.port}", app_password="")
    toml = gate.folder / "pgturnstile.toml"
    # This server trusts its socket, and a credential with a password insists on being asked for it.
    toml.write_text("".join(line for line in toml.open() if not line.startswith("password")))
    gate.start()
    with gate.connect() as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
        assert database.one("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_login' AND client_addr IS NULL") >= 1
    chosen = gate.wait_record("the target", lambda r: r["kind"] == "target-chosen")["payload"]
    assert (chosen["endpoint"], chosen["tls"]) == (f"{database.folder}:{database.port}", "none")


# --- a client that only has nothing more to say -----------------------------------------------------------------------

INSERT = "INSERT INTO notes (test) VALUES ('half-closed')"
# What is sent before the end of the stream; the answers; how many rows stand there then.
SAID = {
    "a query": ([query(INSERT)], "CZ", 1),
    "three queries": ([query(INSERT), query(INSERT), query("SELECT 1")], "CZCZTDCZ", 2),
    "a query that takes its time": ([query("SELECT pg_sleep(1)")], "TDCZ", 0),
    "behind a barrier": ([query("SET application_name = 'half'"), query(INSERT)], "CZCZ", 1),
    "a batch": ([parse(INSERT), bind(), execute(), SYNC], "12CZ", 1),
    "a batch that is flushed": ([parse(INSERT), bind(), execute(), FLUSH], "12C", 0),
    "a batch that fails": ([parse("SELECT 1/0"), bind(), execute(), FLUSH], "1E", 0),
    "COPY": ([query("COPY notes (test) FROM STDIN"), copy_data(b"half-closed\n"), COPY_DONE], "GCZ", 1),
    "rows that fill the buffers": ([query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)")], "T" + 5000 * "D" + "CZ", 0),
    "what is refused": ([query("DROP TABLE notes"), query(INSERT)], "EZCZ", 1),
    "half a frame behind it": ([query(INSERT), query("SELECT 1")[:7]], "CZ", 1),
}


@pytest.fixture(scope="module")
def one_local(world):
    """A gateway with a Unix socket for all of these."""
    gate = world.gateway()
    with_socket(gate, None).start()
    yield gate
    gate.stop()


@pytest.mark.parametrize("what", SAID)
def test_what_stands_before_the_end_of_the_stream_is_answered(one_local, database, what):
    """As a server does: it reads that end behind all that stands before it."""
    frames, answers, rows = SAID[what]
    database.one("WITH gone AS (DELETE FROM shop.notes WHERE test = 'half-closed' RETURNING 1) SELECT count(*) FROM gone")
    with logged_in(one_local) as client:
        client.send(*frames)
        client.sock.shutdown(socket.SHUT_WR)
        assert tags(client.rest()) == answers
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'half-closed'") == rows


def test_a_client_that_is_gone_holds_its_session_no_longer_than_its_statement(local, database):
    gate = local()
    with logged_in(gate) as client:
        (pid,) = client.rows("SELECT pg_backend_pid()")[0]
        client.send(query("SELECT pg_sleep(600)"))
        wait_until("the statement", lambda: database.one("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", int(pid)) == "PgSleep")
    database.one("SELECT pg_cancel_backend(%s)", int(pid))
    gate.wait_record("the end", lambda r: r["kind"] == "session-closed" and r["payload"]["by"] == "client")


def test_a_client_whose_stream_has_ended_is_not_waited_for_without_end(local):
    """Its statement goes on at the target, as it does there."""
    gate = local()
    with logged_in(gate) as client:
        client.send(query("SELECT pg_sleep(55)"))
        client.sock.shutdown(socket.SHUT_WR)
        assert tags(client.rest()) == ""
    gate.wait_record("the end", lambda r: r["kind"] == "session-closed" and "for 30 s nothing" in r["payload"]["reason"])
