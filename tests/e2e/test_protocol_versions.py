"""Protocol 3.0 and 3.2 on both legs, and TLS that begins without an SSLRequest."""

import os
import struct
import threading

import psycopg
import pytest

import wire
from harness import wait_until
from wire import Client, HostileServer, Refused, error, errors, frame, query

V3_0, V3_1, V3_2, V3_3, GREASE = 0x30000, 0x30001, 0x30002, 0x30003, 0x3270F

# What a server of 18.4 answers: minor version and extensions asked for, version of NegotiateProtocolVersion, bytes of key.
AS_A_SERVER_OF_18 = [
    (V3_0, [], None, 4),
    (V3_1, [], None, 4),
    (V3_2, [], None, 32),
    (V3_3, [], V3_2, 32),
    (GREASE, [], V3_2, 32),
    (V3_0, ["_pq_.x"], V3_0, 4),
    (V3_1, ["_pq_.x"], V3_1, 4),
    (V3_2, ["_pq_.x"], V3_2, 32),
    (GREASE, ["_pq_.test_protocol_negotiation", "_pq_.y"], V3_2, 32),
]


@pytest.mark.parametrize("asked,extensions,told,key_bytes", AS_A_SERVER_OF_18)
def test_versions_are_negotiated_as_a_server_of_18_does(gate, asked, extensions, told, key_bytes):
    with Client(gate, version=asked, **{name: "1" for name in extensions}) as client:
        if told is None:
            assert client.negotiated is None
        else:
            named = b"".join(wire.text(name) for name in extensions)
            assert client.negotiated == struct.pack("!II", told, len(extensions)) + named
        assert len(client.key) == 4 + key_bytes
        assert client.rows("SELECT 1") == [(b"1",)]


@pytest.mark.parametrize("version", [2 << 16, 4 << 16, 0, 1 << 16, 0xFFFF << 16])
def test_other_major_versions_are_refused_by_name(gate, version):
    with pytest.raises(Refused) as refused:
        Client(gate, version=version)
    got = refused.value.fields
    assert (got["V"], got["C"]) == ("FATAL", "08P01") and "3.0 and 3.2 are spoken" in got["M"], got


def sleeping(database, mark):
    return database.one(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND usename = 'app_login'",
        f"SELECT pg_sleep(600) /* {mark}%",
    )


@pytest.mark.parametrize("tls", [True, False, "direct"])
def test_a_long_key_cancels_and_only_the_whole_of_it(gate, database, tls):
    mark = f"long key {tls}"
    how = {"tls": tls, **({"alpn": "postgresql"} if tls == "direct" else {})}
    with Client(gate, version=V3_2) as client:
        pid, secret = client.key[:4], client.key[4:]
        client.send(query(f"SELECT pg_sleep(600) /* {mark} */"))
        wait_until("the sleep", lambda: sleeping(database, mark))
        flipped = bytes([secret[0] ^ 1]) + secret[1:]
        for wrong in (secret[:4], secret[:31], secret + b"\0", secret + bytes(256 - 32), flipped, os.urandom(256)):
            wire.cancel(gate, pid + wrong, **how)
        assert sleeping(database, mark) == 1, "a wrong key cancels nothing"
        wire.cancel(gate, client.key, **how)
        assert errors(client.until_ready())[0]["C"] == "57014"
        assert client.rows("SELECT 1") == [(b"1",)]


@pytest.mark.parametrize("bytes_", [3, 257])
def test_keys_beyond_their_bounds_are_no_cancel_request(gate, bytes_):
    with Client(gate, login=False) as client:
        client.send(struct.pack("!III", 12 + bytes_, 80877102, 1) + bytes(bytes_))
        assert client.fatal()["C"] == "08P01"
    gate.served()


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="libpq before 18 speaks 3.0 only")
@pytest.mark.parametrize("newest", ["3.0", "3.2", "latest"])
def test_libpq_of_18_connects_and_cancels(gate, database, newest):
    oldest = "3.0" if newest == "3.0" else "3.2"
    with gate.connect(max_protocol_version=newest, min_protocol_version=oldest) as db:
        mark = f"libpq {newest}"
        outcome = []

        def sleep():
            try:
                db.execute(f"SELECT pg_sleep(600) /* {mark} */")
            except psycopg.errors.QueryCanceled as cancelled:
                outcome.append(cancelled)

        thread = threading.Thread(target=sleep)
        thread.start()
        wait_until("the sleep", lambda: sleeping(database, mark))
        db.cancel_safe()
        thread.join()
        assert outcome, "it was cancelled"
        assert db.execute("SELECT 1").fetchone() == (1,)


# --- direct TLS ---------------------------------------------------------------------------------------------------


def test_direct_tls(gate):
    with Client(gate, tls="direct", alpn="postgresql") as client:
        assert client.sock.selected_alpn_protocol() == "postgresql"
        assert client.rows("SELECT 1") == [(b"1",)]


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="libpq before 17 has no sslnegotiation")
def test_direct_tls_as_libpq_does_it(gate):
    with gate.connect(sslnegotiation="direct") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_direct_tls_without_alpn_is_told_why_it_is_refused(gate):
    with Client(gate, tls="direct", login=False) as client:
        got = client.fatal()
        assert got["C"] == "08P01" and 'ALPN "postgresql"' in got["M"], got
    gate.wait_record("the refusal", lambda r: r["kind"] == "session-closed" and "ALPN" in r["payload"]["reason"])


def test_direct_tls_for_another_protocol_fails_in_its_handshake(gate):
    with pytest.raises((wire.ssl.SSLError, ConnectionError)) as failed:
        Client(gate, tls="direct", alpn="http/1.1", login=False)
    if isinstance(failed.value, wire.ssl.SSLError):
        assert "NO_APPLICATION_PROTOCOL" in str(failed.value).upper().replace(" ", "_")
    gate.served()


def test_direct_tls_behind_a_request_in_clear_is_no_startup(gate):
    with Client(gate, login=False, tls=False) as client:
        client.send(wire.GSS_REQUEST)
        assert client.exactly(1) == b"N"
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert client.fatal()["C"] == "08P01"
    gate.served()


def test_direct_tls_is_refused_with_its_reason_where_the_listener_does_not_take_it(own_gate):
    gate = own_gate(direct="false")
    with Client(gate, tls="direct", alpn="postgresql", login=False) as client:
        got = client.fatal()
        assert got["C"] == "0A000" and "sslnegotiation=postgres" in got["M"], got
    gate.served()


# --- the target's leg ---------------------------------------------------------------------------------------------


class Versioned:
    """A target that answers the version it is asked for by `offer`, and has a cancel key of `key_bytes`."""

    def __init__(self, offer=b"", key_bytes=4):
        self.offer = offer
        self.key = struct.pack("!I", 4711) + os.urandom(key_bytes)
        self.cancelled = threading.Event()
        self.cancels = []

    def login(self, peer):
        reports = (wire.status(name, value) for name, value in wire.GREETING.items())
        peer.send(self.offer, wire.AUTH_OK, *reports, frame("K", self.key), wire.READY)

    def answer(self, peer, tag, body):
        if tag == "Q" and b"pg_sleep" in body:
            assert self.cancelled.wait(60), "nobody cancelled"
            peer.send(error(code="57014", message="canceled by hand"), wire.READY)
        elif tag == "Q":
            peer.send(wire.HONEST)

    def cancel(self, key):
        self.cancels.append(key)
        self.cancelled.set()


def negotiate(version, *names):
    return frame("v", struct.pack("!II", version, len(names)) + b"".join(wire.text(name) for name in names))


@pytest.fixture
def before(database, own_gate):
    """A gateway before a target played by hand."""
    servers = []

    def make(script):
        server = HostileServer(database.port, script)
        servers.append(server)
        return server, own_gate(pg_address=server.address, app_password="", start=False)

    yield make
    for server in servers:
        server.stop()
        assert not server.failures, server.failures


@pytest.mark.parametrize(
    "offer,key_bytes",
    [(b"", 4), (b"", 32), (b"", 256), (negotiate(V3_0), 4)],
    ids=["3.2-short-key", "3.2", "3.2-longest-key", "3.0"],
)
def test_a_target_s_own_key_cancels_at_the_target(before, offer, key_bytes):
    script = Versioned(offer, key_bytes)
    server, gate = before(script)
    gate.start()
    with Client(gate) as client:
        assert struct.unpack_from("!I", server.startups[-1], 4)[0] == V3_2, "the newest is asked for"
        client.send(query("SELECT pg_sleep(600)"))
        gate_key = client.key
        wait_until("the query", lambda: wire_busy(gate, gate_key, script))
        out = client.until_ready()
        assert errors(out)[0]["C"] == "57014"
    assert script.cancels == [script.key]


def wire_busy(gate, key, script):
    """Cancels until the statement is in flight; an idle session's cancel is dropped."""
    wire.cancel(gate, key)
    return script.cancelled.wait(0.2)


@pytest.mark.parametrize(
    "script,why",
    [
        (Versioned(negotiate(V3_1)), "NegotiateProtocolVersion for something that was not asked for"),
        (Versioned(negotiate(V3_2)), "NegotiateProtocolVersion for something that was not asked for"),
        (Versioned(negotiate(V3_0, "_pq_.x")), "NegotiateProtocolVersion for something that was not asked for"),
        (Versioned(negotiate(V3_0) + negotiate(V3_0)), "NegotiateProtocolVersion for something that was not asked for"),
        (Versioned(negotiate(V3_0), 32), "a cancel key longer than protocol 3.0 has"),
        (Versioned(b"", 3), "BackendKeyData"),
        (Versioned(b"", 257), "BackendKeyData"),
    ],
    ids=["to-3.1", "to-3.2", "unknown-option", "twice", "long-key-in-3.0", "key-too-short", "key-too-long"],
)
def test_a_target_that_negotiates_nonsense_is_refused(before, script, why):
    _, gate = before(script)
    gate.spawn()

    def refused():
        try:
            Client(gate)
        except Refused as got:
            return got.fields if got.fields["C"] == "08P01" else None

    got = wait_until("the refusal", refused)
    assert got["V"] == "FATAL", got
    assert why in gate.log()


def test_a_target_may_be_kept_at_3_0(database, own_gate):
    server = HostileServer(database.port, Versioned())
    try:
        gate = own_gate(pg_address=server.address, app_password="", extra_target='max_protocol_version = "3.0"')
        with Client(gate):
            assert {struct.unpack_from("!I", packet, 4)[0] for packet in server.startups} == {V3_0}
    finally:
        server.stop()


class Old(Versioned):
    """What refuses a newer version instead of negotiating it, as PgBouncer 1.18 does."""

    def __init__(self, sqlstate):
        super().__init__()
        self.sqlstate = sqlstate

    def login(self, peer):
        if struct.unpack_from("!I", peer.startup, 4)[0] != V3_0:
            peer.send(error("FATAL", self.sqlstate, "bad packet header"))
        else:
            super().login(peer)


def versions(server):
    return [struct.unpack_from("!I", packet, 4)[0] for packet in server.startups]


@pytest.mark.parametrize("sqlstate", ["08P01", "0A000"])
def test_what_refuses_a_newer_version_is_asked_for_3_0_from_then_on(before, sqlstate):
    server, gate = before(Old(sqlstate))
    gate.start()
    with Client(gate) as client:
        assert client.rows("SHOW role")
    first = versions(server)
    assert first[:2] == [V3_2, V3_0] and V3_2 not in first[2:], "asked once, remembered"
    assert "the target does not negotiate protocol 3.2" in gate.log()


def test_another_refusal_is_no_reason_to_step_down(before):
    server, gate = before(Old("57P03"))
    gate.spawn()

    def refused():
        try:
            Client(gate)
        except Refused as got:
            return got.fields["C"] == "57P03"

    wait_until("the refusal", refused)
    assert V3_0 not in versions(server)
