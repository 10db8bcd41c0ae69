"""A tap between psql and a server or gateway: it records what is said, and can say again what somebody else said.

Owns: one listener on loopback and its connections. psql speaks plainly to it; toward a gateway it speaks TLS. A conversation is
cut into *exchanges*: what the client sends from one ReadyForQuery to the next, and every frame that it gets for it. psql
never pipelines, so that this cut is exact.

With a *script* (the recording of another run) the tap stands in for what only the gateway does: where the script's exchange
was refused, this one's text does not reach the server either; the server gets a text that fails in its parser when a
transaction is open (README decision 7 of the design), nothing when none is, and the client gets the script's own bytes. What
is then left between the two runs is what the gateway does beside refusing.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field

from . import frames

READ_BYTES = 1 << 16
# Words of the gateway, and of nobody else: its refusals carry a reference, its last words its name.
OURS = re.compile(r"pgturnstile|\[ref [0-9A-Z]{11}\]$")

# SQLSTATEs with which the server's grammar, or what stands right behind it, denies a text whatever the catalog holds.
GRAMMAR = ("42601", "22019", "22025", "22P06", "22023", "0A000", "42611", "42P17")


@dataclass
class Exchange:
    """What the client said, and what it was told."""

    client: list[tuple[bytes, bytes]] = field(default_factory=list)
    server: list[tuple[bytes, bytes]] = field(default_factory=list)
    # Transaction status before and behind it: I, T, E; "" behind the end of the session.
    before: str = ""
    after: str = ""
    # What a prober left: the server's own word on it.
    verdict: object = None

    @property
    def text(self) -> str:
        """The SQL of its Query or Parse."""
        for tag, payload in self.client:
            if tag == b"Q":
                return frames.cstring(payload)
            if tag == b"P":
                return frames.cstring(payload[payload.index(b"\0") + 1 :])
        return ""

    @property
    def errors(self) -> list[dict[str, str]]:
        """Its errors."""
        return [frames.fields(payload) for tag, payload in self.server if tag == b"E"]

    @property
    def tags(self) -> list[str]:
        """The server's command tags."""
        return [frames.cstring(payload) for tag, payload in self.server if tag == b"C"]

    @property
    def ended(self) -> bool:
        """The session ended in it."""
        return self.after == ""

    def gateways(self) -> dict[str, str] | None:
        """The error that is the gateway's own."""
        return next((error for error in self.errors if OURS.search(error.get("M", ""))), None)


@dataclass
class Session:
    """One connection of psql."""

    test: str
    login: Exchange = field(default_factory=Exchange)
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def admitted(self) -> bool:
        """It came to its first ReadyForQuery."""
        return not self.login.ended


class Recording(dict):
    """Sessions by test file, in their order."""

    def begin(self, test: str) -> tuple[Session, int]:
        """A new session of `test` and its number."""
        sessions = self.setdefault(test, [])
        sessions.append(Session(test))
        return sessions[-1], len(sessions) - 1


class Tap:
    """See the module. `upstream` is host and port; `tls` a certificate file to trust, for a gateway; `parameters` go into the
    startup packet; `script` is another run's recording; `prober` sees each exchange before it is sent."""

    def __init__(self, upstream, tls=None, parameters=None, script=None, prober=None):
        self.upstream, self.parameters, self.script, self.prober = upstream, parameters or {}, script, prober
        self.recording = Recording()
        self.context = None
        if tls:
            self.context = ssl.create_default_context(cafile=str(tls))
        self.faults: list[str] = []
        # Texts that a gateway could not read and the server, asked by itself, does not take either: test, session, exchange.
        self.denied: set[tuple[str, int, int]] = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        connection = Connection(self, client)
        try:
            connection.run()
        except (ConnectionError, ssl.SSLError, EOFError):
            pass
        except Exception as error:  # noqa: BLE001 - told by the command, which fails
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def dial(self):
        """A connection to the other side."""
        server = socket.create_connection(self.upstream)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return server
        server.sendall(struct.pack("!II", 8, frames.SSL_REQUEST))
        if server.recv(1) != b"S":
            raise ConnectionError("the gateway does not speak TLS")
        return self.context.wrap_socket(server, server_hostname="localhost")

    def stop(self):
        """No more connections."""
        self.listener.close()


class Connection:
    """One connection of psql and what stands behind it."""

    def __init__(self, tap: Tap, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tap, self.client, self.server = tap, client, None
        self.up, self.down = frames.Cutter(), frames.Cutter()
        self.session, self.scripted, self.number, self.packet = None, None, 0, b""
        self.status = ""
        self.exchange: Exchange | None = None
        self.held: list[tuple[bytes, bytes]] = []

    def close(self):
        for side in (self.client, self.server):
            if side is not None:
                side.close()

    def run(self):
        packet = self._startup()
        if packet is None:
            return
        parameters = frames.startup_parameters(packet)
        test = parameters.get("application_name", "?").removeprefix("pg_regress/")
        self.session, self.number = self.tap.recording.begin(test)
        number, self.packet = self.number, packet
        if self.tap.script is not None:
            sessions = self.tap.script.get(test, [])
            self.scripted = sessions[number] if number < len(sessions) else None
        if self.scripted is not None and not self.scripted.admitted:
            self.session.login = self.scripted.login
            self._tell(self.scripted.login.server)
            return
        self.server = self.tap.dial()
        version = struct.unpack("!I", packet[:4])[0]
        self.server.sendall(frames.startup({**parameters, **self.tap.parameters}, version))
        self.exchange = self.session.login
        while True:
            pending = isinstance(self.server, ssl.SSLSocket) and self.server.pending()
            ready = [self.server] if pending else select.select([self.client, self.server], [], [])[0]
            # The server first: what it has said stands before what the client says now.
            if self.server in ready and not self._from_server():
                return
            if self.client in ready and not self._from_client():
                return

    def _startup(self) -> bytes | None:
        while True:
            length = struct.unpack("!I", self._exactly(4))[0]
            packet = self._exactly(length - 4)
            code = struct.unpack("!I", packet[:4])[0]
            if code in (frames.SSL_REQUEST, frames.GSSENC_REQUEST):
                self.client.sendall(b"N")
            elif code == frames.CANCEL_REQUEST:
                return None
            else:
                return packet

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.client.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _tell(self, said):
        self.client.sendall(b"".join(frames.frame(tag, payload) for tag, payload in said))

    def _from_server(self) -> bool:
        data = self.server.recv(READ_BYTES)
        if not data:
            return False
        for tag, payload in self.down.feed(data):
            if self.exchange is None:
                self.exchange = Exchange(before=self.status)
                self.session.exchanges.append(self.exchange)
            self.exchange.server.append((tag, payload))
            if tag == b"Z":
                self.status = payload.decode()
                self.exchange.after, self.exchange = self.status, None
        self.client.sendall(data)
        return True

    def _from_client(self) -> bool:
        data = self.client.recv(READ_BYTES)
        if not data:
            return False
        for tag, payload in self.up.feed(data):
            if tag == b"X":
                self.server.sendall(frames.frame(tag, payload))
                return False
            if not self._say(tag, payload):
                return False
        return True

    def _say(self, tag, payload) -> bool:
        """A frame of the client goes on, or is held where the script refuses it."""
        if not self.session.exchanges and self.exchange is self.session.login:
            # A password message: part of the login, and never recorded.
            self.server.sendall(frames.frame(tag, payload))
            return True
        if self.exchange is None and tag in (b"d", b"c", b"f"):
            # COPY data on its way when the server had failed already: it drops it, and so does the record.
            self.server.sendall(frames.frame(tag, payload))
            return True
        opens = self.exchange is None or not self.exchange.client
        if opens and self.exchange is None:
            self.exchange = Exchange(before=self.status)
            self.session.exchanges.append(self.exchange)
        self.exchange.client.append((tag, payload))
        planned = self._planned()
        if opens and tag == b"Q" and self.tap.prober is not None:
            self.tap.prober(self, self.exchange)
        if planned is None:
            self.server.sendall(frames.frame(tag, payload))
            return True
        if tag not in (b"Q", b"F", b"S"):
            return True
        return self._stand_in(planned)

    def _planned(self) -> Exchange | None:
        """The script's exchange at this place, if the gateway answered it by itself."""
        number = len(self.session.exchanges) - 1
        if self.scripted is None or number >= len(self.scripted.exchanges):
            return None
        planned = self.scripted.exchanges[number]
        # Another text at this place: psql went another way, which the comparison tells.
        same = planned.text == self.exchange.text
        return planned if same and (planned.gateways() or planned.ended) else None

    def _stand_in(self, planned: Exchange) -> bool:
        """Does to the server what the gateway did, and tells the client what the gateway told."""
        mine = self.exchange
        if (planned.gateways() or {}).get("C") == "42601" and self._denies(mine.text):
            self.tap.denied.add((self.session.test, self.number, len(self.session.exchanges)))
        if planned.ended:
            # The gateway passed it on, and ended the session when it saw what it had done.
            if planned.client and (planned.gateways() or {}).get("C") == "42501":
                for tag, payload in mine.client:
                    self.server.sendall(frames.frame(tag, payload))
                self.converse(None)
            mine.server = planned.server
            self._tell(planned.server)
            return False
        if mine.before != "I":
            self.status = self.converse(frames.query(b"pgturnstile refused")).after
        if self.status != planned.after:
            self.tap.faults.append(f"{self.session.test}: the server stands at {self.status} where the gateway said {planned.after}")
        mine.server, mine.after, self.exchange = planned.server, self.status, None
        self._tell(planned.server)
        return True

    def _denies(self, text: str) -> bool:
        """Whether the server's grammar denies a text too: asked in a session of its own, in a transaction that its end takes back."""
        other = Connection(self.tap, self.client)
        other.server = self.tap.dial()
        try:
            parameters = frames.startup_parameters(self.packet)
            other.server.sendall(frames.startup({**parameters, **self.tap.parameters}))
            other.converse(None)
            other.converse(frames.query(b"BEGIN"))
            said = other.converse(frames.query(text.encode()))
            return any(error["C"] in GRAMMAR for error in said.errors)
        finally:
            other.server.close()

    def converse(self, said: bytes | None) -> Exchange:
        """An exchange of the tap's own with the server."""
        own = Exchange(before=self.status)
        if said is not None:
            self.server.sendall(said)
        while not own.after:
            data = self.server.recv(READ_BYTES)
            if not data:
                raise EOFError
            for tag, payload in self.down.feed(data):
                own.server.append((tag, payload))
                if tag == b"G":
                    self.server.sendall(frames.frame(b"f", b"probe\0"))
                if tag == b"Z":
                    own.after = payload.decode()
        return own
