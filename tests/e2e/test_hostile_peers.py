"""Hostile peers, frame kind by frame kind (the tables are in hostile.py): lengths, counts, order, endless streams, slow bytes,
half-open sockets, early data, wild versions; from a client and from a server.

Whatever is sent: the gateway lives, nothing panics, the session that was lied to closes with its reason, exactly one record
closes it and says who erred and how, the bystanders' sessions run on untouched, and memory and descriptors stay bounded.
`tests/hostile` runs this and writes what came of it into tests/README.md.
"""

import json
import re
import socket
import struct
import threading
import time

import pytest

import hostile
import wire
from harness import wait_until
from hostile import BACKEND, FRONTEND, LENGTHS, STARTS, Arena, frame, usage
from wire import AUTH_OK, KEY_DATA, READY, Client, Closed, Refused, data_row, query, row_description

# What one hostile session may make the gateway grow by, KiB: both conduits at their largest, TLS, the evidence.
GROWTH_KIB_MAX = 64 * 1024


@pytest.fixture(scope="module")
def arena(world):
    made = Arena(world)
    try:
        yield made
    finally:
        made.stop()


def wrong_of(cases):
    """The cases whose outcome is not the one that was due, as text."""
    return "\n".join(f"{case.gateway} {case.kind}, {case.column}, {case.label}: {case.outcome} ({case.message}), due was {due}"
                     for case, due in cases if not re.fullmatch(due, case.outcome))


def test_every_frame_kind_has_a_row():
    tags = hostile.tags_of_proto()
    assert {name: row.tag for name, row in FRONTEND.items()} == tags["FrontendTag"]
    assert {name: row.tag for name, row in BACKEND.items()} == tags["BackendTag"]
    packets = (hostile.ROOT / "proto" / "src" / "startup.rs").read_text().split("pub enum Packet")[1].split("\n}")[0]
    assert len(re.findall(r"^    [A-Z]\w+\b", packets, re.M)) == len(STARTS), packets


# --- a client that lies ---------------------------------------------------------------------------------------------

OVER = "FATAL (08P01|54000)"


@pytest.mark.parametrize("kind", FRONTEND)
def test_a_client_frame(arena, kind):
    row = FRONTEND[kind]
    tag, good = row.tag.encode(), frame(row.tag, row.body)
    done = []
    for label, damage in LENGTHS.items():
        due = row.unless.get(label, OVER)
        done.append((arena.client_sends(kind, "lengths", label, row.before + damage(tag, row.body) + row.after), due))
    for cut in sorted({1, 3, 5, len(good) - 1}):
        if cut < len(good):
            done.append((arena.client_sends(kind, "lengths", f"cut off behind {cut} bytes", row.before + good[:cut], cut=True), "gone"))
    for label, body, due in row.counts:
        done.append((arena.client_sends(kind, "contents", label, row.before + frame(row.tag, body) + row.after), due))
    for label, data, due in row.order:
        done.append((arena.client_sends(kind, "order", label, data), due))
    whole = row.before + good + row.after
    done.append((arena.client_sends(kind, "order", "where it belongs", whole), row.good))
    done.append((arena.client_sends(kind, "byte by byte", "byte by byte", whole, pace=0.002), row.good))
    done.append((arena.client_sends(kind, "byte by byte", "its half, others served, its rest", whole, half=len(row.before) + 3), row.good))
    assert not wrong_of(done), wrong_of(done)


@pytest.mark.parametrize("kind", FRONTEND)
def test_a_client_without_end(arena, kind):
    """The client sends one frame again and again and reads nothing."""
    row = FRONTEND[kind]
    before = usage(arena.gates["client without end"].process)
    _, sent, held = arena.client_floods(kind, row.before, hostile.ENDLESS.get(kind) or frame(row.tag, row.body))
    assert held.rss_kib - before.rss_kib < GROWTH_KIB_MAX, (sent, before, held)


def test_frames_that_are_announced_and_never_come(arena):
    """Forty clients announce the largest frame that is allowed: nothing is set aside for an announcement."""
    gate = arena.gates["client"]
    before = usage(gate.process)
    clients = [Client(gate) for _ in range(40)]
    for client in clients:
        client.send(b"B" + struct.pack("!I", 16_000_000) + b"\0" * 1000)
    gate.served()
    grown = usage(gate.process).rss_kib - before.rss_kib
    for client in clients:
        client.sock.close()
    assert grown < GROWTH_KIB_MAX, f"{grown} KiB for 40 announced frames of 16 MB"


# --- before it is known ---------------------------------------------------------------------------------------------

GOOD_STARTS = {("CancelRequest", "a key of nobody"), ("CancelRequest", "frames behind it")}


@pytest.mark.parametrize("kind", STARTS)
def test_a_first_packet(arena, kind):
    gate = arena.gates["client"]
    wrong = []
    for label, tls, data in STARTS[kind]:
        with Client(gate, login=False, tls=tls) as client:
            port = client.sock.getsockname()[1]
            if data is None:
                client.send(wire.SSL_REQUEST)
                assert client.exactly(1) == b"S"
                client.send(wire.startup(user="app"))
            else:
                client.send(data)
            try:
                if not tls:
                    client.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            got = rest_of(client)
        said = re.search(rb"VFATAL\0C(.{5})\0M([^\0]*)", got)
        case = arena.note("client", kind, "contents" if "length" not in label else "lengths", label, port,
                          (f"FATAL {said[1].decode()}", said[2].decode()) if said else ("closed", ""))
        if b"R\0\0\0\x08\0\0\0\x03" in got:
            wrong.append((label, "was asked for a password"))
        if said is None and got.strip(b"NS") and not got.startswith(b"\x15\x03"):
            wrong.append((label, got))
        assert case.outcome in ("closed", "FATAL 08P01", "FATAL 28000", "FATAL 22023", "FATAL 0A000", "FATAL 54000"), case
    assert not wrong
    gate.served()


def rest_of(client) -> bytes:
    got = b""
    client.sock.settimeout(30)
    try:
        while more := client.sock.recv(65_536):
            got += more
    except OSError:
        pass
    return got


@pytest.mark.parametrize("first", [b"", wire.SSL_REQUEST[:1], wire.SSL_REQUEST[:5], wire.SSL_REQUEST], ids=["nothing", "a byte", "half a request", "a request"])
@pytest.mark.parametrize("pace", [None, 0.5], ids=["silent", "slow"])
def test_slow_before_the_login(own_gate, first, pace):
    """Whoever is not through in time is turned away, and the record says so; others are served meanwhile."""
    gate = own_gate(login_deadline_ms=1500, extra_limits="dial_deadline_ms = 1500")
    with Client(gate, login=False, tls=False) as client:
        peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
        client.send(first)
        if first == wire.SSL_REQUEST:
            assert client.exactly(1) == b"S"
        if pace:
            feed(client, (wire.SSL_REQUEST + b"\x16\x03\x01\x02\x00" + bytes(60))[len(first):], pace)
        gate.served()
        rest_of(client)
    closed_by(gate, peer, "client", "login")
    gate.served()


@pytest.mark.parametrize("stage", ["startup", "password"])
@pytest.mark.parametrize("pace", [None, 0.5], ids=["silent", "slow"])
def test_slow_inside_tls(own_gate, stage, pace):
    gate = own_gate(login_deadline_ms=1500, extra_limits="dial_deadline_ms = 1500")
    with Client(gate, login=False) as client:
        peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
        data = wire.startup(user="app", database="shop")
        if stage == "password":
            client.send(data)
            assert client.read()[0] == "R"
            data = frame("p", b"x" * 100 + b"\0")
        client.send(data[:7])
        if pace:
            feed(client, data[7:], pace)
        gate.served()
        got = rest_of(client)
    # Before its startup packet a client is told nothing.
    assert b"login_deadline_ms" in got or stage == "startup", got
    closed_by(gate, peer, "client", "login_deadline_ms")


def feed(client, data, pace):
    """One byte, a pause, the next, until the other side has had enough; in a thread of its own."""
    def run():
        try:
            for byte in data:
                client.sock.send(bytes([byte]))
                time.sleep(pace)
        except (OSError, ValueError):
            pass

    threading.Thread(target=run, daemon=True).start()


def closed_by(gate, peer, who, what):
    """Exactly one record closes the session of that peer, and names who and what."""

    def ends():
        # The newest session of that peer: hundreds of connections later the kernel gives a port out again.
        records = gate.records()
        of_peer = [r["session"] for r in records if r["kind"] == "session-opened" and r["payload"]["peer"] == peer]
        return [r["payload"] for r in records if r["kind"] == "session-closed" and r["session"] in of_peer[-1:]]

    def held():
        found = ends()
        return len(found) == 1 and found[0]["by"] == who and what in found[0]["reason"]

    wait_until(f"one record that the session of {peer} was ended by {who}: {what}", held)
    assert held(), ends()
    return ends()[0]


# --- sockets that are only half there -------------------------------------------------------------------------------

TCP_REPAIR = 19


def vanish(sock) -> bool:
    """Forgets a connection without a word to the other side, as a machine does that loses its power."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError:
        return False
    sock.close()
    return True


def test_clients_that_vanish(own_gate, database):
    """Keep-alive finds them, their sessions end at the target too, and the records say so."""
    gate = own_gate(extra_limits="keepalive_s = 10")
    stages = {
        "idle": b"", "in a frame": query("SELECT 1")[:7], "in a batch": wire.parse("SELECT 1"),
        "in a transaction": query("BEGIN; INSERT INTO notes (test) VALUES ('vanished')"), "while a statement runs": query("SELECT pg_sleep(5)"),
    }
    peers = []
    for sent in stages.values():
        client = Client(gate, application_name="vanishing")
        peers.append("127.0.0.1:%d" % client.sock.getsockname()[1])
        if sent.endswith(b"'vanished')\0"):
            client.ask(sent)
        else:
            client.send(sent)
        if not vanish(client.sock):
            pytest.skip("HALF-OPEN SOCKETS ARE NOT TESTED HERE: TCP_REPAIR needs CAP_NET_ADMIN")
    for peer in peers:
        closed_by(gate, peer, "client", "client")
    wait_until("the end at the target", lambda: database.one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'vanishing%%'") == 0)
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'vanished'") == 0


@pytest.mark.parametrize("how", ["write half closed", "reset"])
@pytest.mark.parametrize("sent", [b"", query("SELECT 1")[:6], query("SELECT 1")], ids=["idle", "in a frame", "behind a query"])
def test_a_client_that_closes_half(arena, how, sent):
    gate = arena.gates["client"]
    client = Client(gate)
    peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
    client.send(sent)
    if how == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()
    else:
        socket.socket.shutdown(client.sock, socket.SHUT_WR)
        rest_of(client)
        client.sock.close()
    closed_by(gate, peer, "client", "client")


# --- a server that lies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BACKEND)
def test_a_server_frame(arena, kind):
    row = BACKEND[kind]
    tag, good = row.tag.encode(), frame(row.tag, row.body)
    ends = "FATAL 08.*" if row.at_login else hostile.BROKEN
    done = []

    def send(column, label, lie, due, **how):
        # The data of COPY IN is answered when its end has come, as a server does.
        arena.script.on_done = None
        done.append((arena.server_sends(kind, column, label, row, row.lead + lie + row.after, **how), due))

    for label, damage in LENGTHS.items():
        send("lengths", label, damage(tag, row.body), row.unless.get(label, ends))
    for cut in sorted({1, 3, 5, len(good) - 1}):
        if cut < len(good):
            done.append((arena.server_sends(kind, "lengths", f"cut off behind {cut} bytes", row, row.lead + good[:cut], cut=True), "FATAL .*"))
    for label, body, due in row.counts:
        send("contents", label, frame(row.tag, body), ends if due == hostile.BROKEN else due)
    for label, data, due in row.order:
        done.append((arena.server_sends(kind, "order", label, row._replace(at_login=False, before=query("SELECT 1")), data), due))
    send("order", "where it belongs", good, row.good)
    send("byte by byte", "byte by byte", good, row.good, pace=0.001)
    assert not wrong_of(done), wrong_of(done)


@pytest.mark.parametrize("kind", BACKEND)
def test_a_server_without_end(arena, kind):
    """The server sends one frame again and again, and the client reads nothing."""
    row = BACKEND[kind]
    before = usage(arena.gates["server without end"].process)
    lead = b"" if row.at_login else row.lead
    _, held = arena.server_floods(kind, row, lead, hostile.ENDLESS_OF_SERVERS.get(kind) or frame(row.tag, row.body))
    assert held.rss_kib - before.rss_kib < GROWTH_KIB_MAX, (before, held)


FLOODS_AT_LOGIN = {
    "notices": frame("N", b"SNOTICE\0C00000\0Mx\0\0"),
    "large notices": frame("N", b"SNOTICE\0C00000\0M" + b"x" * 900_000 + b"\0\0"),
    "reports": wire.status("TimeZone", "UTC"),
    "reports of new names": b"".join(wire.status(f"n{n}", "x" * 100) for n in range(1000)),
    "keys": KEY_DATA,
    "authentication": AUTH_OK,
    "bytes of a row": b"D" + struct.pack("!I", 60_000_000) + b"\0" * 60_000,
}


@pytest.mark.parametrize("what", FLOODS_AT_LOGIN)
def test_a_login_without_end(arena, what):
    script, gate = arena.script, arena.gates["server without end"]
    before = usage(gate.process)
    script.honest()
    script.at_login, script.endless = AUTH_OK if what != "authentication" else b"", FLOODS_AT_LOGIN[what]
    try:
        with Client(gate, login=False) as client:
            peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
            with pytest.raises((Refused, Closed)):
                client.login(gate.idp.token("app"), user="app", database="shop")
    finally:
        script.honest()
    assert usage(gate.process).rss_kib - before.rss_kib < GROWTH_KIB_MAX
    arena.note("server without end", "NoticeResponse" if "notice" in what else "Authentication", "endless", f"{what} at login", int(peer.split(":")[1]), ("", ""))


def test_a_server_that_is_slow_at_login(own_gate, arena):
    """One byte now and then is no login in time."""
    gate = own_gate(start=False, pg_address=arena.server.address, app_password="", login_deadline_ms=3000, extra_limits="dial_deadline_ms = 3000")
    gate.spawn()
    wait_until("the gateway", lambda: "catalog read" in gate.log())
    script = arena.script
    script.honest()
    script.at_login, script.pace = AUTH_OK + hostile.PARAMETERS + KEY_DATA + READY, 0.5
    try:
        with Client(gate, login=False) as client:
            peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
            with pytest.raises(Refused) as caught:
                client.login(gate.idp.token("app"), user="app", database="shop")
    finally:
        script.honest()
    assert caught.value.fields["V"] == "FATAL" and caught.value.fields["C"].startswith("08"), caught.value.fields
    ended = gate.wait_record("the end", lambda r: r["kind"] == "session-closed")
    assert ended["payload"]["by"] != "operator", (peer, ended)


def test_a_server_that_vanishes(arena):
    """Its socket is gone without a word: the client's next request finds out."""
    script, gate = arena.script, arena.gates["server"]
    script.honest()
    gone = threading.Event()

    class Vanishing:
        honest = staticmethod(wire.honest_login)

        def login(self, peer):
            wire.honest_login(peer)

        def answer(self, peer, _tag, _body):
            peer.send(row_description("a"), data_row(b"1"))
            if not vanish(peer.sock):
                gone.reason = "TCP_REPAIR needs CAP_NET_ADMIN"
            gone.set()
            raise Closed("vanished")

    arena.server.script = Vanishing()
    try:
        with Client(gate) as client:
            peer = "127.0.0.1:%d" % client.sock.getsockname()[1]
            client.send(query("SELECT 1"))
            assert gone.wait(30)
            if getattr(gone, "reason", None):
                pytest.skip("HALF-OPEN SOCKETS ARE NOT TESTED HERE: " + gone.reason)
            arena.server.script = script
            client.send(query("SELECT 2"))
            got = client.fatal()
            assert "target" in got["M"], got
        closed_by(gate, peer, "backend", "target")
    finally:
        arena.server.script = script


# --- what must hold behind all of it --------------------------------------------------------------------------------


def test_behind_all_of_it(arena, request):
    """Bystanders, processes, descriptors, memory, logs, and one record for each session that ended."""
    measured = {}
    for name, gate in arena.gates.items():
        assert gate.alive(), gate.log()[-3000:]
        assert "panicked" not in gate.log()
        assert arena.bystanders[name].failure is None, arena.bystanders[name].failure
        first = arena.at_first[name]
        wait_until("descriptors given back", lambda gate=gate, first=first: usage(gate.process).descriptors <= first.descriptors + 2)
        last = usage(gate.process)
        assert last.peak_kib - first.rss_kib < 2 * GROWTH_KIB_MAX, (first, last)
        measured[f"the gateway for \"{name}\""] = (
            f"resident {first.rss_kib // 1024} MiB at first, {last.peak_kib // 1024} MiB at most, {last.rss_kib // 1024} MiB behind it; "
            f"descriptors {first.descriptors} at first, {last.descriptors} behind it; its bystander asked {arena.bystanders[name].answers} times "
            "and got every answer"
        )
    assert not arena.server.failures, arena.server.failures
    checked = sum(records_hold(arena, name) for name in arena.gates)
    measured["sessions"] = f"{len(arena.cases)} hostile ones; {checked} were opened, and each has exactly one record that closes it and says who erred and how"
    measured["panics"] = "0"
    print("\n" + "\n".join(f"{name}: {value}" for name, value in measured.items()))
    write(request.config, hostile.table(arena, measured), measured, arena)


def records_hold(arena, name):
    """Each session of the hostile peers in the evidence: one closing record, with the right side and the words that were said."""
    gate = arena.gates[name]
    by_peer, ends = {}, {}
    for record in gate.records():
        if record["kind"] == "session-opened":
            by_peer.setdefault(record["payload"]["peer"], []).append(record["session"])
        elif record["kind"] == "session-closed":
            ends.setdefault(record["session"], []).append(record["payload"])
    checked = 0
    for number, case in enumerate(arena.cases):
        if case.gateway != name:
            continue
        sessions = by_peer.get(f"127.0.0.1:{case.port}", [])
        if case.kind in STARTS and not sessions:
            assert case.kind in ("CancelRequest", "SSLRequest"), f"no record of {case}"
            continue
        assert sessions and all(len(ends.get(session, [])) == 1 for session in sessions), case
        checked += 1
        closing = [ends[session][0] for session in sessions]
        if case.column == "endless":
            outcome = "held back" if all(end["by"] == "client" and "client" in end["reason"][:40] and not end["reason"].startswith("pgturnstile") and "Terminate" not in end["reason"].removesuffix("without Terminate") for end in closing) else "ended"
            arena.cases[number] = case._replace(outcome=outcome)
        elif case.outcome.startswith("FATAL"):
            sides = {"client"} if name.startswith("client") else {"backend", "operator"}
            fits = [end for end in closing if end["by"] in sides and (end["reason"].startswith(case.message) or name.startswith("server") or case.kind in STARTS)]
            assert fits and all(end["reason"] for end in fits), (case, closing)
        else:
            assert any(end["by"] == "client" for end in closing), (case, closing)
    return checked


def write(config, made, measured, arena):
    """What `tests/hostile` asks for: the table into tests/README.md, everything as JSON."""
    if into := config.getoption("--hostile-json"):
        with open(into, "w", encoding="utf-8") as out:
            json.dump({"measured": measured, "cases": [case._asdict() for case in arena.cases]}, out, indent=1)
    if into := config.getoption("--hostile-table"):
        text = open(into, encoding="utf-8").read()
        begin, end = "<!-- hostile peers: made by tests/hostile -->\n", "<!-- end of hostile peers -->\n"
        head, rest = text.split(begin)
        with open(into, "w", encoding="utf-8") as out:
            out.write(head + begin + made + end + rest.split(end)[1])
