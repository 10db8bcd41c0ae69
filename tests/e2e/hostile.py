"""What a hostile peer can send, as two tables, and the arena in which it is sent.

Owns: one row for every frame kind of proto/src/tag.rs and for the packets of the start-up phase; how each row is damaged;
what came of it; the measures of the gateway while it goes on. May not: assert (test_hostile_peers.py does).
"""

from __future__ import annotations

import collections
import os
import re
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

import wire
from wire import (
    AUTH_OK, COPY_DONE, GREETING, HONEST, KEY_DATA, READY, SYNC, Client, Closed, HostileServer, Refused, bind, close, complete,
    copy_data, data_row, describe, error, execute, fields, frame, honest_login, parse, query, row, row_description, status, text,
)

ROOT = Path(__file__).resolve().parent.parent.parent
COPY_IN = query("COPY notes (test) FROM STDIN")
COPY_OUT = query("COPY notes (test) TO STDOUT")
PARAMETERS = b"".join(status(name, value) for name, value in GREETING.items())
BAD = parse("SELECT no_such_column")
# How much an endless stream is, unless it is held back before: of large frames, and of such as are a few bytes.
ENDLESS_BYTES, ENDLESS_SMALL_BYTES = 32 << 20, 1 << 20
# What stands in a frame of an endless stream where it may be long.
FILL = b"x" * 8_000
ENDLESS = {
    "Query": query(b"SELECT 1 /* " + FILL + b" */"), "Parse": parse(b"SELECT 1 /* " + FILL + b" */"), "Bind": bind(FILL), "CopyData": copy_data(FILL + b"\n"),
    "CopyFail": wire.copy_fail(FILL), "PasswordMessage": frame("p", text(FILL)),
}
ENDLESS_OF_SERVERS = {
    "DataRow": data_row(FILL), "CopyData": copy_data(FILL), "NoticeResponse": frame("N", b"SNOTICE\0C00000\0M" + FILL + b"\0\0"),
    "NotificationResponse": frame("A", struct.pack("!I", 7) + text("c") + text(FILL)), "ParameterStatus": status("TimeZone", FILL.decode()),
    "ErrorResponse": frame("E", b"SERROR\0VERROR\0C22000\0M" + FILL + b"\0\0"),
}


def u16(number):
    return struct.pack("!H", number & 0xFFFF)


def u32(number):
    return struct.pack("!I", number & 0xFFFFFFFF)


def tags_of_proto() -> dict[str, dict[str, str]]:
    """Name and byte of every frame kind that the gateway knows, by direction, read from its source."""
    source = (ROOT / "proto" / "src" / "tag.rs").read_text()
    found = {}
    for enum, body in re.findall(r"(FrontendTag|BackendTag) \{(.*?)\n    \}", source, re.S):
        found[enum] = {name: byte for byte, name in re.findall(r"= b'(.)', \"(\w+)\";", body)}
    return found


class Row(NamedTuple):
    """One frame kind: where it belongs, and how it can lie."""

    tag: str
    body: bytes
    # Client frames in front of it; for a backend's kind: the request that it answers.
    before: bytes = b""
    # Server frames between the request and it (backend kinds), or during login.
    lead: bytes = b""
    after: bytes = b""
    # Wrong counts and contents: label, body, outcome.
    counts: tuple = ()
    # At a place where it does not belong: label, all that is sent, outcome.
    order: tuple = ()
    # Outcomes other than FATAL of damaged lengths, and of the undamaged frame.
    unless: dict = {}
    at_login: bool = False
    good: str = "served"


FATAL = "FATAL 08P01"

FRONTEND = {
    "Query": Row("Q", b"SELECT 1\0", counts=(("no NUL", b"SELECT 1", FATAL), ("two NULs", b"SELECT 1\0\0", FATAL), ("nothing", b"", FATAL)),
                 order=(("during COPY", COPY_IN + query("SELECT 1"), FATAL), ("behind an error", BAD + query("SELECT 1") + SYNC, "ERROR 42703"))),
    "Parse": Row("P", b"\0SELECT 1\0\0\0", after=SYNC,
                 counts=(("types that do not come", b"\0SELECT 1\0\0\5", FATAL), ("65535 types", b"\0SELECT 1\0\xff\xff", FATAL),
                         ("no count", b"\0SELECT 1\0", FATAL), ("one string", b"SELECT 1\0", FATAL)),
                 order=(("during COPY", COPY_IN + parse("SELECT 1"), FATAL), ("behind an error", BAD + parse("SELECT 1") + SYNC, "ERROR 42703"))),
    "Bind": Row("B", bind("x")[5:], parse("SELECT $1::text"), after=execute() + SYNC,
                counts=(("values that do not come", b"\0\0" + u16(0) + u16(5) + u16(0), FATAL), ("65535 values", b"\0\0" + u16(0) + u16(-1), FATAL),
                        ("a length of -2", b"\0\0" + u16(0) + u16(1) + u32(-2) + u16(0), FATAL),
                        ("a value beyond the frame", b"\0\0" + u16(0) + u16(1) + u32(1000) + b"x" + u16(0), FATAL),
                        ("a value of 2 GiB", b"\0\0" + u16(0) + u16(1) + u32(0x7FFFFFFF) + b"x" + u16(0), FATAL),
                        ("formats that do not come", b"\0\0" + u16(9), FATAL), ("result formats that do not come", b"\0\0" + u16(0) + u16(1) + u32(1) + b"x" + u16(3), FATAL),
                        ("a format of 7", b"\0\0" + u16(1) + u16(7) + u16(1) + u32(1) + b"x" + u16(0), "ERROR 22023"),
                        ("no values", bind()[5:], "ERROR 08P01")),
                order=(("of no statement", bind("x", statement="none") + SYNC, "ERROR 26000"), ("during COPY", COPY_IN + bind("x"), FATAL))),
    "Describe": Row("D", b"S\0", parse("SELECT 1"), after=SYNC, counts=(("neither S nor P", b"X\0", FATAL), ("no name", b"S", FATAL), ("nothing", b"", FATAL)),
                    order=(("of nothing", describe("S", "none") + SYNC, "ERROR 26000"), ("during COPY", COPY_IN + describe(), FATAL))),
    "Execute": Row("E", b"\0" + u32(0), parse("SELECT 1") + bind(), after=SYNC,
                   counts=(("no limit", b"\0", FATAL), ("a limit of two bytes", b"\0\0\1", FATAL), ("a negative limit", b"\0" + u32(-1), "served")),
                   order=(("of no portal", execute("none") + SYNC, "ERROR 34000"), ("during COPY", COPY_IN + execute(), FATAL))),
    "Close": Row("C", b"S\0", after=SYNC, counts=(("neither S nor P", b"X\0", FATAL), ("no name", b"S", FATAL)),
                 order=(("of nothing", close("S", "none") + SYNC, "served"), ("during COPY", COPY_IN + close(), FATAL))),
    "Sync": Row("S", b"", order=(("a hundred times", SYNC * 100, "served"), ("during COPY", COPY_IN + SYNC + COPY_DONE, "served"))),
    "Flush": Row("H", b"", order=(("a hundred times", wire.FLUSH * 100, "served"), ("during COPY", COPY_IN + wire.FLUSH + COPY_DONE, "served"))),
    "Terminate": Row("X", b"", good="closed", order=(("in a transaction", query("BEGIN") + wire.TERMINATE, "closed"), ("during COPY", COPY_IN + wire.TERMINATE, "closed"))),
    "FunctionCall": Row("F", u32(1598) + u16(0) + u16(0) + u16(1), good="ERROR 42501",
                        counts=(("arguments that do not come", u32(1598) + u16(0) + u16(3) + u16(1), FATAL), ("nothing", b"", FATAL)),
                        order=(("in a batch", parse("SELECT 1") + frame("F", u32(1598) + u16(0) + u16(0) + u16(1)) + SYNC, "ERROR 42501"),
                               ("during COPY", COPY_IN + frame("F", u32(1598) + u16(0) + u16(0) + u16(1)), FATAL))),
    "PasswordMessage": Row("p", b"secret\0", good=FATAL, counts=(("no NUL", b"secret", FATAL), ("nothing", b"", FATAL)),
                           order=(("in a transaction", query("BEGIN") + frame("p", b"secret\0"), FATAL),)),
    "CopyData": Row("d", b"hostile\n", COPY_IN, after=COPY_DONE, counts=(("no line", b"hostile", "served"), ("an end in the middle", b"hostile\n\\.\nmore\n", "served")),
                    unless={"a byte long": "ERROR 22021"},
                    order=(("outside of COPY", copy_data(b"x"), FATAL), ("behind its end", COPY_IN + COPY_DONE + copy_data(b"x"), FATAL))),
    "CopyDone": Row("c", b"", COPY_IN, order=(("outside of COPY", COPY_DONE, FATAL), ("twice", COPY_IN + COPY_DONE + COPY_DONE, FATAL))),
    "CopyFail": Row("f", b"no\0", COPY_IN, good="ERROR 57014", counts=(("no NUL", b"no", FATAL),),
                    order=(("outside of COPY", wire.copy_fail(), FATAL), ("behind the end", COPY_IN + COPY_DONE + wire.copy_fail(), FATAL))),
}

ONE = parse("SELECT 1")
DESCRIBED = u16(1) + text("a") + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)


def misplaced(good, behind=FATAL, instead=FATAL):
    """The frame behind ReadyForQuery, where nothing is owed, and in the place of a query's answer."""
    return (("unasked", HONEST + good, behind), ("instead of an answer", good + HONEST, instead))


BROKEN = "FATAL 08006"


def backend(tag, body, request=query("SELECT 1"), lead=b"", after=b"", counts=(), behind=BROKEN, instead=BROKEN, **more):
    counts = tuple((label, lie, *(rest or (BROKEN,))) for label, lie, *rest in counts)
    return Row(tag, body, request, lead, after, counts, misplaced(frame(tag, body), behind, instead), **more)


BACKEND = {
    "Authentication": backend("R", u32(0), after=PARAMETERS + KEY_DATA + READY, at_login=True,
                              counts=(("an unknown method", u32(99)), ("two bytes", b"\0\0"), ("nothing", b""), ("a list of mechanisms without end", u32(10) + b"SCRAM"))),
    "BackendKeyData": backend("K", u32(1) + u32(2), lead=AUTH_OK + PARAMETERS, after=READY, at_login=True,
                              # A key of five bytes is one of protocol 3.2.
                              unless={"a byte long": "served"},
                              counts=(("no key", u32(1)), ("a key of 300 bytes", u32(1) + b"k" * 300), ("two bytes", b"\0\0"))),
    "NegotiateProtocolVersion": backend("v", u32(3 << 16) + u32(0), after=AUTH_OK + PARAMETERS + KEY_DATA + READY, at_login=True,
                                        counts=(("options that do not come", u32(3 << 16) + u32(5)), ("2 GiB of options", u32(3 << 16) + u32(-1)), ("another version", u32(4 << 16) + u32(0)))),
    "ParameterStatus": backend("S", b"TimeZone\0UTC\0", after=HONEST, behind="served", instead="served",
                               counts=(("no value", b"TimeZone\0"), ("three strings", b"TimeZone\0UTC\0x\0"), ("nothing", b""))),
    "NoticeResponse": backend("N", b"SNOTICE\0C00000\0Mx\0\0", after=HONEST, behind="served", instead="served",
                              counts=(("no end", b"SNOTICE\0"), ("a field without NUL", b"SNOTICE"), ("bytes behind the end", b"SNOTICE\0\0x"))),
    "NotificationResponse": backend("A", u32(7) + b"c\0p\0", after=HONEST, behind="served", instead="served",
                                    counts=(("no payload", u32(7) + b"c\0"), ("two bytes", b"\0\0"), ("more strings", u32(7) + b"c\0p\0q\0"))),
    "RowDescription": backend("T", DESCRIBED, after=data_row(b"1") + complete() + READY,
                              counts=(("fields that do not come", u16(3) + DESCRIBED[2:]), ("65535 fields", u16(-1) + DESCRIBED[2:]), ("fields too many", u16(0) + DESCRIBED[2:]))),
    "DataRow": backend("D", data_row(b"1")[5:], lead=row_description("a"), after=complete() + READY,
                       counts=(("columns that do not come", u16(3) + u32(1) + b"x"), ("65535 columns", u16(-1)), ("a length of -2", u16(1) + u32(-2)),
                               ("a value beyond the frame", u16(1) + u32(100) + b"x"), ("columns too many", u16(0) + u32(1) + b"x"))),
    "CommandComplete": backend("C", b"SELECT 1\0", lead=row_description("a"), after=READY, counts=(("no NUL", b"SELECT 1"), ("two strings", b"SELECT 1\0x\0"))),
    "EmptyQueryResponse": backend("I", b"", query(""), after=READY),
    "ErrorResponse": backend("E", error()[5:], after=READY, good="ERROR XX000", counts=(("no end", b"SERROR\0"), ("a field without NUL", b"SERROR"))),
    "ReadyForQuery": backend("Z", b"I", lead=row_description("a") + complete(), counts=(("an unknown state", b"Q"), ("two states", b"II"), ("nothing", b"")), instead=BROKEN),
    "ParseComplete": backend("1", b"", ONE + SYNC, after=READY),
    "BindComplete": backend("2", b"", ONE + bind() + SYNC, lead=frame("1"), after=READY),
    "CloseComplete": backend("3", b"", close("S", "s") + SYNC, after=READY),
    "ParameterDescription": backend("t", u16(1) + u32(25), ONE + describe() + SYNC, lead=frame("1"), after=frame("n") + READY,
                                    counts=(("types that do not come", u16(3) + u32(25)), ("65535 types", u16(-1)), ("types too many", u16(0) + u32(25)))),
    "NoData": backend("n", b"", ONE + describe() + SYNC, lead=frame("1") + frame("t", u16(0)), after=READY),
    "PortalSuspended": backend("s", b"", ONE + bind() + execute("", 1) + SYNC, lead=frame("1") + frame("2") + data_row(b"1"), after=READY),
    "CopyInResponse": backend("G", b"\0" + u16(1) + u16(0), COPY_IN + COPY_DONE, after=complete("COPY 0") + READY,
                              counts=(("columns that do not come", b"\0" + u16(3) + u16(0)), ("65535 columns", b"\0" + u16(-1)), ("a format of 9", b"\x09" + u16(0)))),
    "CopyOutResponse": backend("H", b"\0" + u16(1) + u16(0), COPY_OUT, after=copy_data(b"x\n") + COPY_DONE + complete("COPY 1") + READY,
                               counts=(("columns that do not come", b"\0" + u16(3) + u16(0)), ("a format of 9", b"\x09" + u16(0)))),
    "CopyData": backend("d", b"x\n", COPY_OUT, lead=frame("H", b"\0" + u16(1) + u16(0)), after=COPY_DONE + complete("COPY 1") + READY, unless={"a byte long": "served"}),
    "CopyDone": backend("c", b"", COPY_OUT, lead=frame("H", b"\0" + u16(1) + u16(0)), after=complete("COPY 0") + READY),
    "CopyBothResponse": backend("W", b"\0" + u16(0), after=HONEST, good=BROKEN, counts=(("columns that do not come", b"\0" + u16(3)),)),
    "FunctionCallResponse": backend("V", u32(-1), after=HONEST, good=BROKEN, counts=(("a value beyond the frame", u32(100) + b"x"),)),
}

SSL, GSS = wire.SSL_REQUEST, wire.GSS_REQUEST
STARTUP = wire.startup(user="app", database="shop")


def packet(code, rest=b"", length=None):
    return u32(8 + len(rest) if length is None else length) + u32(code) + rest


# Packets of the start-up phase, in clear and inside TLS: label, TLS, bytes. None may reach a question for a password,
# but those of GOOD_STARTS.
STARTS = {
    "StartupMessage": [
        *((f"a length of {length}", tls, packet(3 << 16, b"user\0app\0\0", length & 0xFFFFFFFF))
          for length in (0, 1, 3, 4, 7, 8, 10_005, 65_536, 0x7FFFFFFF, -1, -2**31) for tls in (False, True)),
        *((f"version {version >> 16}.{version & 0xFFFF}", True, packet(version & 0xFFFFFFFF, b"user\0app\0database\0shop\0\0"))
          for version in (0, 1, 1 << 16, 2 << 16, (2 << 16) + 99, 4 << 16, 9 << 16, 1234 << 16, (1234 << 16) + 5678 + 9, -1)),
        ("in clear", False, STARTUP), ("no parameters' end", True, packet(3 << 16, b"user\0app\0")), ("a name without a value", True, packet(3 << 16, b"user\0\0")),
        ("no NUL", True, packet(3 << 16, b"user")), ("bytes behind the end", True, packet(3 << 16, b"user\0app\0\0more")), ("no parameters", True, packet(3 << 16, b"\0")),
        ("200 parameters", True, packet(3 << 16, b"".join(b"n%d\0v\0" % n for n in range(200)) + b"\0")), ("the user twice", True, packet(3 << 16, b"user\0a\0user\0b\0\0")),
        ("a value of 9 KiB", True, packet(3 << 16, b"user\0app\0options\0" + b"x" * 9000 + b"\0\0")), ("another protocol", False, b"GET / HTTP/1.1\r\n\r\n"),
        ("SSH", False, b"SSH-2.0-x\r\n"), ("a frame", False, query("SELECT 1")), ("a password first", True, frame("p", b"secret\0")),
    ],
    "SSLRequest": [
        *((f"a length of {length}", False, packet(80877103, b"", length & 0xFFFFFFFF)) for length in (0, 4, 7, 9, 12, 0x7FFFFFFF, -1)),
        ("startup behind it in clear", False, SSL + STARTUP), ("a password behind it in clear", False, SSL + frame("p", b"secret\0")), ("one byte behind it", False, SSL + b"\0"),
        ("again behind it", False, SSL + SSL), ("inside TLS", True, SSL), ("no TLS behind it", False, None),
    ],
    "GSSENCRequest": [
        *((f"a length of {length}", False, packet(80877104, b"", length & 0xFFFFFFFF)) for length in (0, 4, 7, 9, 0x7FFFFFFF, -1)),
        ("startup behind it in clear", False, GSS + STARTUP), ("SSLRequest behind it", False, GSS + SSL + STARTUP), ("a hundred times", False, GSS * 100), ("inside TLS", True, GSS),
    ],
    "CancelRequest": [
        *((f"a length of {length}", tls, packet(80877102, b"\0" * 8, length & 0xFFFFFFFF)) for length in (0, 7, 8, 11, 0x7FFFFFFF, -1) for tls in (False, True)),
        ("no key", False, packet(80877102, u32(1))), ("a key of 257 bytes", False, packet(80877102, b"\0" * 261)), ("a key of nobody", False, packet(80877102, b"\0" * 8)),
        ("frames behind it", True, packet(80877102, b"\0" * 8) + query("SELECT 1")),
    ],
}

LENGTHS = {
    "zero": lambda tag, body: tag + u32(0) + body,
    "three": lambda tag, body: tag + u32(3) + body,
    "negative": lambda tag, body: tag + u32(-1) + body,
    "the least number": lambda tag, body: tag + u32(1 << 31) + body,
    "two gigabytes": lambda tag, body: tag + u32(0x7FFFFFFF) + body,
    "a byte short": lambda tag, body: tag + u32(len(body) + 3) + body,
    "a byte long": lambda tag, body: tag + u32(len(body) + 5) + body + b"\0",
}


class Played:
    """What the hostile server does with one session: sends `answer` in the pace that is asked for."""

    def __init__(self):
        self.honest()

    def honest(self):
        self.answer_with, self.at_login, self.closes, self.pace, self.endless, self.on_done = HONEST, None, False, 0, None, None

    def send(self, peer, data):
        if self.pace:
            for byte in data:
                peer.send(bytes([byte]))
                time.sleep(self.pace)
        else:
            peer.send(data)
        if self.endless:
            pump(peer.sock, self.endless)
            raise Closed("enough")
        if self.closes:
            raise Closed("on purpose")

    def login(self, peer):
        if self.at_login is None:
            honest_login(peer)
        else:
            self.send(peer, self.at_login)

    def answer(self, peer, tag, _body):
        if tag == "c" and self.on_done:
            peer.send(self.on_done)
        elif tag in "QS":
            self.send(peer, self.answer_with)


def pump(sock, piece) -> int:
    """Sends `piece` again and again until it is enough, or the other side does not take it for a while; bytes."""
    limit = ENDLESS_BYTES if len(piece) > 1_000 else ENDLESS_SMALL_BYTES
    block = piece * max(1, 65_536 // max(1, len(piece)))
    sent = 0
    sock.settimeout(0.7)
    try:
        while sent < limit:
            sent += sock.send(block[sent % len(piece):] if len(piece) > 1 else block)
    except (TimeoutError, OSError):
        pass
    sock.settimeout(wire.TIMEOUT_S)
    return sent


class Usage(NamedTuple):
    """What the gateway's process holds."""

    rss_kib: int
    peak_kib: int
    descriptors: int


def usage(process) -> Usage:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return Usage(int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0]), len(os.listdir(f"/proc/{process.pid}/fd")))


class Bystander:
    """Another session, which asks on and on while its neighbours misbehave."""

    def __init__(self, gate):
        self.client = Client(gate, "reader", application_name="bystander")
        self.answers, self.failure, self.over = 0, None, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.over:
                got = self.client.rows(f"SELECT count(*), {self.answers} FROM items")
                assert got == [(b"1000", str(self.answers).encode())], got
                self.answers += 1
                time.sleep(0.01)
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure

    def stop(self):
        self.over = True
        self.thread.join(60)
        self.client.sock.close()


class Case(NamedTuple):
    """One session of a hostile peer."""

    gateway: str
    kind: str
    column: str
    label: str
    port: int
    outcome: str
    message: str


class Arena:
    """Two gateways, one before the real server and one before a server that lies, each with a bystander."""

    def __init__(self, world):
        self.script = Played()
        self.server = HostileServer(world.database.port, self.script)
        self.gates = {
            "client": world.gateway().start(),
            "server": world.gateway(pg_address=self.server.address, app_password="").start(),
            # Of their own, since their evidence is large.
            "client without end": world.gateway().start(),
            "server without end": world.gateway(pg_address=self.server.address, app_password="", extra_limits="dial_deadline_ms = 3000").start(),
        }
        self.cases: list[Case] = []
        self.bystanders = {name: Bystander(gate) for name, gate in self.gates.items()}
        self.at_first = {name: usage(gate.process) for name, gate in self.gates.items()}

    def stop(self):
        for bystander in self.bystanders.values():
            bystander.stop()
        for gate in self.gates.values():
            gate.stop()
        self.server.stop()

    def note(self, gateway, kind, column, label, port, said):
        outcome, message = said
        case = Case(gateway, kind, column, label, port, outcome, message)
        self.cases.append(case)
        return case

    # --- what a client sends ---

    def client_sends(self, kind, column, label, data, cut=False, pace=0.0, half=None):
        """One session of a client: `data` behind the login, and behind it a query that must be served or never seen."""
        gate = self.gates["client"]
        with Client(gate) as client:
            port = client.sock.getsockname()[1]
            try:
                if half is not None:
                    client.send(data[:half])
                    gate.served()
                    client.send(data[half:])
                elif pace:
                    for byte in data:
                        client.send(bytes([byte]))
                        time.sleep(pace)
                else:
                    client.send(data)
                if cut:
                    client.sock.close()
                    return self.note("client", kind, column, label, port, ("gone", ""))
                client.send(SYNC, query("SELECT 'end of the attack'"))
            except OSError:
                pass
            return self.note("client", kind, column, label, port, outcome(client))

    def client_floods(self, kind, lead, piece):
        gate = self.gates["client without end"]
        with Client(gate) as client:
            client.send(lead)
            sent = pump(client.sock, piece)
            held = usage(gate.process)
            gate.served()
            return self.note("client without end", kind, "endless", f"{sent} bytes", client.sock.getsockname()[1], ("", "")), sent, held

    # --- what a server sends ---

    def server_sends(self, kind, column, label, row, data, cut=False, pace=0.0):
        """One session whose server sends `data` where the row's frame belongs, or at login."""
        script, gate = self.script, self.gates["server"]
        script.honest()
        script.closes, script.pace = cut, pace
        if row.at_login:
            script.at_login = data
        else:
            script.answer_with = data
        try:
            with Client(gate, login=False) as client:
                port = client.sock.getsockname()[1]
                try:
                    client.login(gate.idp.token("app"), user="app", database="shop")
                except Refused as refused:
                    return self.note("server", kind, column, label, port, (f"FATAL {refused.fields['C']}", refused.fields["M"]))
                except Closed:
                    return self.note("server", kind, column, label, port, ("closed", ""))
                client.send(row.before)
                said = outcome(client, script.honest)
                return self.note("server", kind, column, label, port, said)
        finally:
            script.honest()

    def server_floods(self, kind, row, lead, piece):
        script, gate = self.script, self.gates["server without end"]
        script.honest()
        script.endless = piece
        # The login is honest, and the answer is endless.
        script.answer_with = lead
        try:
            with Client(gate, login=False) as client:
                port = client.sock.getsockname()[1]
                try:
                    client.login(gate.idp.token("app"), user="app", database="shop")
                    client.send(row.before)
                    time.sleep(1.0)
                except (Refused, Closed) as ended:
                    said = getattr(ended, "fields", {"C": "", "M": ""})
                    return self.note("server without end", kind, "endless", "endless", port, ("FATAL " + said["C"], said["M"])), usage(gate.process)
                return self.note("server without end", kind, "endless", "endless", port, ("", "")), usage(gate.process)
        finally:
            script.honest()


def outcome(client, renew=None) -> tuple[str, str]:
    """What a client read: FATAL with its code, the last ERROR and served on, served, or closed without a word."""
    last, readies, asked = None, 0, renew is None
    try:
        while True:
            tag, body = client.read()
            if tag == "E":
                last = fields(body)
                if last["V"] == "FATAL":
                    return f"FATAL {last['C']}", last["M"]
            elif tag == "D" and asked and row(body) == (b"end of the attack",):
                break
            elif tag == "Z":
                readies += 1
                if not asked:
                    # Whatever comes behind the answer is already here, or comes before the next one.
                    renew()
                    asked = True
                    client.send(query("SELECT 1"))
                elif renew is not None:
                    break
    except (Closed, OSError):
        return ("closed", "") if last is None else (f"closed behind ERROR {last['C']}", last["M"])
    return ("served", "") if last is None else (f"ERROR {last['C']}", last["M"])


def table(arena: Arena, measured: dict) -> str:
    """The cases as Markdown: one row a frame kind."""
    columns = ["lengths", "contents", "order", "endless", "byte by byte"]
    lines = ["| from | frame | wrong lengths | wrong counts, contents | out of order | endless | byte by byte |", "|---|---|---|---|---|---|---|"]
    rows = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    for case in arena.cases:
        rows[(case.gateway.split()[0], case.kind)][case.column][case.outcome] += 1
    for (side, kind), found in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1])):
        cells = [", ".join(f"{count} × {what}" for what, count in found[column].most_common()) or "–" for column in columns]
        lines.append(f"| {side} | {kind} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {name}: {value}" for name, value in measured.items()]
    return "\n".join(lines) + "\n"
