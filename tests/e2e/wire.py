"""Raw frames: a client that says exactly what a test wants, and a target played by hand.

Protocol 3.0 as in the PostgreSQL documentation, "Frontend/Backend Protocol". Nothing here retries or repairs.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)
# Ends a hang; no test asserts on it.
TIMEOUT_S = 60


def text(value) -> bytes:
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def frame(tag, body=b"") -> bytes:
    return (tag if isinstance(tag, bytes) else tag.encode()) + struct.pack("!I", len(body) + 4) + body


def startup(version=196608, **parameters) -> bytes:
    body = struct.pack("!I", version) + b"".join(text(k) + text(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql):
    return frame("Q", text(sql))


def parse(sql, name="", types=()):
    return frame("P", text(name) + text(sql) + struct.pack("!H", len(types)) + b"".join(struct.pack("!I", t) for t in types))


def bind(*values, portal="", statement="", result_formats=()):
    body = text(portal) + text(statement) + struct.pack("!HH", 0, len(values))
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            raw = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack("!i", len(raw)) + raw
    return frame("B", body + struct.pack("!H", len(result_formats)) + b"".join(struct.pack("!H", f) for f in result_formats))


def describe(kind="S", name=""):
    return frame("D", kind.encode() + text(name))


def execute(portal="", rows=0):
    return frame("E", text(portal) + struct.pack("!I", rows))


def close(kind="S", name=""):
    return frame("C", kind.encode() + text(name))


SYNC, FLUSH, TERMINATE = frame("S"), frame("H"), frame("X")
COPY_DONE = frame("c")


def copy_data(data):
    return frame("d", data)


def copy_fail(why="no"):
    return frame("f", text(why))


def fields(body: bytes) -> dict:
    """The fields of an ErrorResponse or NoticeResponse."""
    out = {}
    for part in body.split(b"\0"):
        if part:
            out[chr(part[0])] = part[1:].decode(errors="replace")
    return out


def row(body: bytes) -> tuple:
    """The columns of a DataRow."""
    (count,), at, out = struct.unpack_from("!H", body), 2, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        if size < 0:
            out.append(None)
        else:
            out.append(body[at : at + size])
            at += size
    return tuple(out)


class Closed(Exception):
    """The other side closed the connection."""


class Frames:
    """A socket read frame by frame."""

    def __init__(self, sock):
        self.sock = sock

    def exactly(self, count) -> bytes:
        out = b""
        while len(out) < count:
            try:
                more = self.sock.recv(min(count - len(out), 1 << 20))
            except (ConnectionError, ssl.SSLError) as error:
                raise Closed(str(error)) from error
            if not more:
                raise Closed("end of stream")
            out += more
        return out

    def read(self) -> tuple[str, bytes]:
        """One frame: its tag and body."""
        head = self.exactly(5)
        return chr(head[0]), self.exactly(struct.unpack("!I", head[1:])[0] - 4)

    def send(self, *data):
        self.sock.sendall(b"".join(data))


class Client(Frames):
    """A client of the gateway, inside TLS, logged in unless told otherwise. `tls` may be "direct": without SSLRequest.
    `first` is sent before anything else, to `port` where it is not the gateway's first."""

    def __init__(
        self, gate, group="app", database="shop", login=True, tls=True, alpn=None, token=None, port=None, first=b"", **parameters
    ):
        sock = socket.create_connection(("127.0.0.1", port or gate.port), TIMEOUT_S)
        super().__init__(sock)
        self.sock.sendall(first)
        self.parameters = {}
        self.key = None
        self.negotiated = None
        if tls:
            if tls != "direct":
                self.sock.sendall(SSL_REQUEST)
                assert self.exactly(1) == b"S"
            context = ssl.create_default_context(cafile=str(gate.certificate))
            if alpn:
                context.set_alpn_protocols([alpn])
            self.sock = context.wrap_socket(sock, server_hostname="localhost")
        if login:
            self.login(token or gate.idp.token(group), user=group, database=database, **parameters)

    def login(self, token, **parameters):
        self.send(startup(**parameters))
        tag, body = self.read()
        if tag == "v":
            self.negotiated = body
            tag, body = self.read()
        if tag == "E":
            raise Refused(fields(body))
        assert (tag, body) == ("R", struct.pack("!I", 3)), (tag, body)
        self.send(frame("p", text(token)))
        while True:
            tag, body = self.read()
            if tag == "E":
                raise Refused(fields(body))
            if tag == "S":
                name, value = body[:-1].split(b"\0")
                self.parameters[name.decode()] = value.decode()
            elif tag == "K":
                self.key = body
            elif tag == "Z":
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def until_ready(self) -> list[tuple[str, bytes]]:
        """Frames up to and with ReadyForQuery; a FATAL error ends it with [`Refused`]."""
        out = []
        while True:
            got = self.read()
            out.append(got)
            if got[0] == "E" and fields(got[1]).get("V") == "FATAL":
                raise Refused(fields(got[1]), out)
            if got[0] == "Z":
                return out

    def ask(self, *frames) -> list[tuple[str, bytes]]:
        """Sends, and reads up to ReadyForQuery."""
        self.send(*frames)
        return self.until_ready()

    def rows(self, sql) -> list[tuple]:
        """The rows of a simple query that succeeds."""
        out = self.ask(query(sql))
        assert "E" not in tags(out), errors(out)
        return [row(body) for tag, body in out if tag == "D"]

    def fatal(self) -> dict:
        """Reads to the end of the stream: the fields of the FATAL that stands last."""
        last = None
        try:
            while True:
                last = self.read()
        except Closed:
            pass
        assert last is not None and last[0] == "E", f"no FATAL: {last}"
        got = fields(last[1])
        assert got["V"] == "FATAL", got
        return got

    def rest(self) -> list[tuple[str, bytes]]:
        """Everything up to the end of the stream."""
        out = []
        try:
            while True:
                out.append(self.read())
        except Closed:
            return out


class Refused(Exception):
    """An error where success was asked for."""

    def __init__(self, got, frames=()):
        super().__init__(str(got))
        self.fields = got
        self.frames = list(frames)


def tags(frames) -> str:
    """The tags of frames, without reports and notices."""
    return "".join(tag for tag, _ in frames if tag not in "SNA")


def errors(frames) -> list[dict]:
    return [fields(body) for tag, body in frames if tag == "E"]


def cancel(gate, key: bytes, tls=True, **how):
    """A CancelRequest over a connection of its own."""
    with Client(gate, login=False, tls=tls, **how) as client:
        client.send(struct.pack("!II", 8 + len(key), 80877102) + key)
        client.rest()


# --- a target played by hand --------------------------------------------------------------------------------------

GREETING = {
    "server_version": "15.1",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "is_superuser": "off",
    "session_authorization": "app_login",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "application_name": "",
}
AUTH_OK = frame("R", struct.pack("!I", 0))
KEY_DATA = frame("K", struct.pack("!II", 4711, 815))
READY = frame("Z", b"I")
# What the gateway asks for behind a login and behind a barrier, as the access entries of fixtures/policy.toml have it.
GUARDS = {
    "role": b"none", "search_path": b'"shop"', "row_security": b"on", "session_replication_role": b"origin",
    "statement_timeout": b"1min", "lock_timeout": b"20s",
}
# To the SELECT behind them: no temporary schema, no type in it, no name that SQL has made.
SESSION = b"[0, false, null, null, null]"


def status(name, value):
    return frame("S", text(name) + text(value))


def row_description(*names):
    body = struct.pack("!H", len(names))
    for name in names:
        body += text(name) + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
    return frame("T", body)


def data_row(*values):
    return frame("D", struct.pack("!H", len(values)) + b"".join(struct.pack("!i", len(v)) + v for v in values))


def complete(tag="SELECT 1"):
    return frame("C", text(tag))


def error(severity="ERROR", code="XX000", message="played by hand"):
    return frame("E", b"S" + text(severity) + b"V" + text(severity) + b"C" + text(code) + b"M" + text(message) + b"\0")


HONEST = row_description("?column?") + data_row(b"1") + complete() + READY


def guards_answer(body: bytes) -> bytes:
    """What an honest server says to the gateway's reading of the guards."""
    names = [part.split()[1] for part in body.rstrip(b"\0").decode().split("; ")]
    return b"".join(row_description(name[:60]) + data_row(GUARDS.get(name, SESSION)) + complete("SHOW") for name in names) + READY


class HostileServer:
    """Takes the gateway's connections. Its control login, and any client that calls itself bystander, is passed through to
    the real server; every other login meets
    `script`, an object with any of: `login(peer)`, to say everything up to ReadyForQuery itself (`peer.startup` is the packet),
    `answer(peer, tag, body)`, for each frame behind it that is no reading of guards, `guards(body)`, for those, and
    `cancel(key)`, for the key of a CancelRequest. `startups` keeps the packets of the logins."""

    def __init__(self, real_port, script):
        self.real_port = real_port
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.failures = []
        self.startups = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        peer = Frames(sock)
        try:
            size = peer.exactly(4)
            packet = size + peer.exactly(struct.unpack("!I", size)[0] - 4)
            if struct.unpack_from("!I", packet, 4)[0] == 80877102:
                if hasattr(self.script, "cancel"):
                    self.script.cancel(packet[8:])
                return
            if b"\0catalog_login\0" in packet or b"\0bystander " in packet:
                self._pass_through(sock, packet)
                return
            self.startups.append(packet)
            peer.startup = packet
            script = self.script
            if hasattr(script, "login"):
                script.login(peer)
            else:
                honest_login(peer)
            while True:
                tag, body = peer.read()
                if tag == "X":
                    return
                if tag == "Q" and body.startswith(b"SHOW role"):
                    peer.send(getattr(script, "guards", guards_answer)(body))
                elif hasattr(script, "answer"):
                    if script.answer(peer, tag, body) == "close":
                        return
                elif tag == "Q":
                    peer.send(HONEST)
        except (Closed, OSError):
            pass
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failures.append(failure)
        finally:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _pass_through(self, sock, packet):
        real = socket.create_connection(("127.0.0.1", self.real_port))
        real.sendall(packet)

        def pump(source, sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass
            for one in (source, sink):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        other = threading.Thread(target=pump, args=(real, sock), daemon=True)
        other.start()
        pump(sock, real)
        other.join()
        real.close()


def honest_login(peer):
    """A login without a question, as `trust` gives it."""
    peer.send(AUTH_OK, *(status(k, v) for k, v in GREETING.items()), KEY_DATA, READY)
