"""Listeners behind load balancers: whose word is believed, what it decides, and what is refused.

The header is that of the PROXY protocol, version 2 (HAProxy, doc/proxy-protocol.txt, section 2.2).
"""

from __future__ import annotations

import socket
import struct
import threading

import pytest

import wire
from harness import HANG_S, wait_until
from wire import Client

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT, BALANCED = ("198.51.100.7", 12345), ("203.0.113.9", 5432)
V1 = b"PROXY TCP4 198.51.100.7 203.0.113.9 12345 5432\r\n"


def header(source=CLIENT, command=0x21, transport=0x11, extensions=b"", length=None) -> bytes:
    block = socket.inet_aton(source[0]) + socket.inet_aton(BALANCED[0]) + struct.pack("!HH", source[1], BALANCED[1]) + extensions
    return SIGNATURE + struct.pack("!BBH", command, transport, len(block) if length is None else length) + block


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def summed() -> bytes:
    blank = header(extensions=b"\x05\0\x02id" + b"\x03\0\x04\0\0\0\0")
    return blank[:-4] + struct.pack("!I", crc32c(blank))


LOCAL = SIGNATURE + b"\x20\0\0\0"


@pytest.fixture(scope="module")
def gate(world):
    """A gateway with a listener behind this machine, and one behind another."""
    made = world.gateway(extra_limits="connections_per_address_max = 4")
    made.proxied = made.listener('proxy_protocol = { version = "v2", trusted = ["127.0.0.1"] }')
    made.distrusting = made.listener('proxy_protocol = { trusted = ["192.0.2.0/24", "2001:db8::/32"] }')
    yield made.start()
    made.stop()
    assert made.verify().returncode == 0


def recorded(gate, kind, condition=lambda payload: True):
    return gate.wait_record(kind, lambda r: r["kind"] == kind and condition(r["payload"]))


class Balancer(threading.Thread):
    """A load balancer: puts a header before each connection, then passes bytes both ways."""

    def __init__(self, port, first):
        super().__init__(daemon=True)
        self.to, self.first = port, first
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            server.sendall(self.first)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.splice, args=pair, daemon=True).start()

    @staticmethod
    def splice(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self.listening.close()


# -- whose the connection is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [header(), header(extensions=b"\x01\0\x02h2\xf0\0\0"), summed()], ids=["plain", "extended", "summed"])
def test_the_headers_address_is_the_sessions_and_the_balancers_stands_beside_it(gate, first):
    with Client(gate, port=gate.proxied, first=first) as client:
        here = "%s:%s" % client.sock.getsockname()
        assert client.rows("SELECT 40 + 2") == [(b"42",)]
    proxied = recorded(gate, "proxied", lambda p: p["proxy"] == here)
    assert proxied["payload"]["destination"] == "203.0.113.9:5432"
    opened = next(r for r in gate.records() if r["kind"] == "session-opened" and r["session"] == proxied["session"])
    assert opened["payload"]["peer"] == "198.51.100.7:12345"
    assert f"peer=198.51.100.7:12345(by={here})" in gate.log()


def test_psql_and_a_cancel_through_a_balancer(gate, world):
    balancer = Balancer(gate.proxied, header(source=("198.51.100.77", 4)))
    try:
        done = gate.psql("-c", "SELECT 40 + 2", env={"PGPORT": str(balancer.port)})
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
        with gate.connect(port=balancer.port) as db:
            told = []

            def run():
                try:
                    db.execute("SELECT pg_sleep(600) /* through a balancer */")
                except Exception as error:  # noqa: BLE001 - looked at below
                    told.append(error)

            running = threading.Thread(target=run)
            running.start()
            wait_until("it runs", lambda: world.database.one(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(600) /* through%'"))
            # Not `cancel`: it holds the interpreter, in which the balancer runs, until the answer has come.
            db.cancel_safe(timeout=HANG_S)
            running.join(HANG_S)
            assert "canceling statement" in str(told[0])
        cancel = recorded(gate, "cancel-requested", lambda p: p["peer"].startswith("198.51.100.77:4"))
        assert cancel["payload"]["outcome"].endswith("forwarded")
    finally:
        balancer.stop()


def test_a_balancers_own_connection_is_its_own(gate):
    with Client(gate, port=gate.proxied, first=LOCAL) as client:
        here = "%s:%s" % client.sock.getsockname()
    recorded(gate, "session-opened", lambda p: p["peer"] == here)
    # A health check that says nothing more, or nothing at all, is no fault.
    before = len([r for r in gate.records() if r["kind"] == "protocol-violation"])
    for first in (LOCAL, b""):
        with Client(gate, login=False, tls=False, port=gate.proxied, first=first) as client:
            client.sock.shutdown(socket.SHUT_WR)
            assert client.rest() == []
    assert len([r for r in gate.records() if r["kind"] == "protocol-violation"]) == before


def test_the_limit_of_an_address_goes_by_the_header(gate):
    busy = ("198.51.100.200", 1)
    held = [Client(gate, login=False, tls=False, port=gate.proxied, first=header(busy)) for _ in range(4)]
    for client in held:
        client.send(wire.SSL_REQUEST)
        assert client.exactly(1) == b"S"
    with Client(gate, login=False, tls=False, port=gate.proxied, first=header(busy) + wire.SSL_REQUEST) as one_more:
        assert one_more.rest() == []
    recorded(gate, "protocol-violation", lambda p: "connections_per_address_max" in p["what"])
    # Another client behind the same balancer has its own four, and the balancer is not counted.
    with Client(gate, port=gate.proxied, first=header(("198.51.100.201", 1))) as other:
        assert other.rows("SELECT 1") == [(b"1",)]
    [client.sock.close() for client in held]


def test_a_header_in_single_bytes_is_read(gate):
    client = Client(gate, login=False, tls=False, port=gate.proxied)
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in header(("198.51.100.9", 9)):
        client.sock.sendall(bytes([byte]))
    client.send(wire.SSL_REQUEST)
    assert client.exactly(1) == b"S"
    client.sock.close()


# -- what is refused -----------------------------------------------------------------------------------------------------


REFUSED = {
    "version 1": (V1, "version 1"),
    "no header": (wire.SSL_REQUEST, "does not begin with a PROXY header"),
    "startup": (wire.startup(user="app", database="shop"), "does not begin with a PROXY header"),
    "direct TLS": (b"\x16\x03\x01\x02\0", "does not begin with a PROXY header"),
    "version 3": (header(command=0x31), "0x31 is neither 0x20"),
    "command 2": (header(command=0x22), "0x22 is neither 0x20"),
    "unspecified": (SIGNATURE + b"\x21\0\0\0", "0x00 is neither 0x11"),
    "datagram": (header(transport=0x12), "0x12 is neither 0x11"),
    "unix": (SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), "0x31 is neither 0x11"),
    "cut off": (header(length=11)[:27], "ends inside destination port"),
    "extension cut off": (header(extensions=b"\x01\0\x09h2"), "the length of extension is 9"),
    "wrong checksum": (summed()[:-1] + b"\0", "the checksum does not fit"),
    "too long": (SIGNATURE + b"\x21\x11\xff\xff", "65535 bytes exceed the limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_header_that_can_be_read_is_refused_and_recorded(gate, name):
    first, part = REFUSED[name]
    before = gate.metrics()['pgturnstile_logins_total{outcome="bad_proxy"}']
    with Client(gate, login=False, tls=False, port=gate.proxied, first=first) as client:
        got = client.fatal()
        here = "%s:%s" % client.sock.getsockname()
    assert got["C"] == "08004" and part in got["M"] and "Next: " in got["M"], got
    violation = recorded(gate, "protocol-violation", lambda p: part in p["what"])
    assert violation
    recorded(gate, "session-opened", lambda p: p["peer"] == here)
    assert gate.metrics()['pgturnstile_logins_total{outcome="bad_proxy"}'] == before + 1
    gate.served()


@pytest.mark.parametrize("first", [header(), LOCAL, b"", V1], ids=["header", "local", "nothing", "version 1"])
def test_a_peer_that_is_not_trusted_is_refused_whatever_it_says(gate, first):
    with Client(gate, login=False, tls=False, port=gate.distrusting, first=first) as client:
        got = client.fatal()
        here = "%s:%s" % client.sock.getsockname()
    assert got["C"] == "08004" and "through a load balancer only" in got["M"]
    # By its own address: what it said of itself stands nowhere.
    opened = recorded(gate, "session-opened", lambda p: p["peer"] == here)
    assert not [r for r in gate.records() if r["kind"] == "proxied" and r["session"] == opened["session"]]


def test_a_listener_that_was_not_told_takes_no_header(gate):
    with Client(gate, login=False, tls=False, first=header()) as client:
        got = client.fatal()
    assert got["C"] == "08P01" and "startup packet" in got["M"]
    gate.served()


def test_a_header_that_does_not_come_ends_with_the_login_deadline(own_gate):
    gate = own_gate(start=False, login_deadline_ms=9_000)
    port = gate.listener('proxy_protocol = { trusted = ["127.0.0.1"] }')
    gate.start()
    slow = [Client(gate, login=False, tls=False, port=port, first=first) for first in (b"", header()[:7], header()[:20])]
    for client in slow:
        assert client.rest() == []
    late = lambda: [r for r in gate.records() if r["kind"] == "protocol-violation" and "login_deadline_ms" in r["payload"]["what"]]  # noqa: E731
    wait_until("all are recorded", lambda: len(late()) == 3)
