"""OAUTHBEARER on the client's leg: RFC 7628 as PostgreSQL 18's clients speak it, with libpq 18 itself and frame by frame."""

from __future__ import annotations

import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

import wire
from harness import HANG_S, wait_until

OFFER = ("R", struct.pack("!I", 10) + b"OAUTHBEARER\0\0")
CONTINUE = struct.pack("!I", 11)


@pytest.fixture(scope="module")
def bearer(world):
    """A gateway whose second listener takes OAUTHBEARER, and its first one tokens as passwords."""
    gate = world.gateway()
    gate.bearer_port = gate.listener('auth = "oauthbearer"\noauth = { scope = "openid db" }\n')
    yield gate.start()
    gate.stop()


def discovery(gate) -> str:
    return f"http://127.0.0.1:{gate.idp.port}/.well-known/openid-configuration"


def libpq(gate, token="", **more):
    """What libpq 18 makes of it: see `libpq_oauth.py`. It takes documents that are not https only where it is told to."""
    settings = {
        "host": "localhost", "hostaddr": "127.0.0.1", "port": gate.bearer_port, "user": "app", "dbname": "shop", "sslmode": "verify-full",
        "sslrootcert": gate.certificate, "oauth_client_id": "cli", "oauth_issuer": f"http://127.0.0.1:{gate.idp.port}", **more,
    }
    conninfo = " ".join(f"{name}='{value}'" for name, value in settings.items())
    script = pathlib.Path(__file__).with_name("libpq_oauth.py")
    done = subprocess.run(
        [sys.executable, script, conninfo], env={**os.environ, "TOKEN": token, "PGOAUTHDEBUG": "UNSAFE"}, capture_output=True, text=True,
        timeout=HANG_S, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def initial(message, mechanism="OAUTHBEARER"):
    data = struct.pack("!i", -1) if message is None else struct.pack("!i", len(message)) + message
    return wire.frame("p", wire.text(mechanism) + data)


def carried(token) -> bytes:
    return b"n,,\x01auth=Bearer " + token.encode() + b"\x01\x01"


def greeted(gate, **parameters) -> wire.Client:
    """A client that has been asked for its token."""
    client = wire.Client(gate, login=False, port=gate.bearer_port)
    client.send(wire.startup(user="app", database="shop", **parameters))
    assert client.read() == OFFER
    return client


def logins(gate, outcome) -> int:
    text = gate.page("/metrics")[1].decode()
    wanted = f'pgturnstile_logins_total{{outcome="{outcome}"}} '
    return next(int(line[len(wanted) :]) for line in text.splitlines() if line.startswith(wanted))


def since(gate, before):
    return [record for record in gate.records() if record["sequence"] > before]


def last(gate) -> int:
    return max(record["sequence"] for record in gate.records())


# -- libpq 18 ---------------------------------------------------------------------------------------------------------


def test_libpq_is_told_where_tokens_come_from_and_brings_one(bearer):
    """Two connections: the first carries no token, is answered with the discovery document and the scope, and is no failed login."""
    probes, failed = logins(bearer, "discovery"), logins(bearer, "bad_token")
    told = libpq(bearer, bearer.idp.token("app"))
    assert told == {"asked": [[discovery(bearer), "openid db"]], "said": [42, False], "error": None}
    assert (logins(bearer, "discovery"), logins(bearer, "bad_token")) == (probes + 1, failed)
    bearer.wait_record(
        "the probe", lambda r: r["kind"] == "session-closed" and "OAUTHBEARER discovery" in r["payload"]["reason"])
    bearer.wait_record("the login", lambda r: r["kind"] == "authenticated" and r["payload"]["method"] == "oauthbearer")


def test_libpq_that_knows_the_document_needs_one_connection(bearer):
    probes = logins(bearer, "discovery")
    told = libpq(bearer, bearer.idp.token("app"), oauth_issuer=discovery(bearer), oauth_scope="openid db")
    assert told == {"asked": [[discovery(bearer), "openid db"]], "said": [42, False], "error": None}
    assert logins(bearer, "discovery") == probes


@pytest.mark.parametrize("token", ["not-a-token", "a.b.c", "aGVhZA.Y2xhaW1z.c2ln"])
def test_libpq_with_a_bad_token_is_told_why(bearer, token):
    before = last(bearer)
    told = libpq(bearer, token, oauth_issuer=discovery(bearer), oauth_scope="openid db")
    assert told["said"] is None and "pgturnstile: login refused" in told["error"], told
    denied = bearer.wait_record("the denial", lambda r: r["sequence"] > before and r["kind"] == "authentication-denied")
    assert denied["payload"]["method"] == "oauthbearer"
    assert token not in json.dumps(since(bearer, before)) + bearer.log()


def test_a_token_over_a_kilobyte_long_comes_whole(bearer):
    token = bearer.idp.token("app", *(f"group-{n}-of-many" for n in range(200)))
    assert len(token) > 4_000
    assert libpq(bearer, token)["said"] == [42, False]


# -- frame by frame ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [196608, 196610])
def test_a_token_logs_in(bearer, version):
    client = wire.Client(bearer, login=False, port=bearer.bearer_port)
    client.send(wire.startup(version=version, user="app", database="shop"))
    assert client.read() == OFFER
    client.send(initial(carried(bearer.idp.token("app"))))
    got = [client.read()]
    while got[-1][0] != "Z":
        got.append(client.read())
    # No final message: the mechanism has none (RFC 7628, section 3.2.1).
    assert got[0] == ("R", struct.pack("!I", 0)), got[0]
    assert client.rows("SELECT 1") == [(b"1",)]


def test_a_client_that_waits_to_be_asked(bearer):
    """An initial response of length -1 is none: the server asks with an empty challenge."""
    client = greeted(bearer)
    client.send(initial(None))
    assert client.read() == ("R", CONTINUE)
    client.send(wire.frame("p", carried(bearer.idp.token("app"))))
    assert client.read() == ("R", struct.pack("!I", 0))


@pytest.mark.parametrize("answer", [wire.frame("p", b"\x01"), wire.frame("p", b"anything"), b""], ids=["dummy", "other", "hangs_up"])
def test_a_probe_is_answered_and_ends(bearer, answer):
    probes, failed = logins(bearer, "discovery"), logins(bearer, "bad_token")
    client = greeted(bearer)
    client.send(initial(b"n,,\x01auth=\x01\x01"))
    tag, body = client.read()
    assert (tag, body[:4]) == ("R", CONTINUE)
    assert json.loads(body[4:]) == {"status": "invalid_token", "openid-configuration": discovery(bearer), "scope": "openid db"}
    if answer:
        client.send(answer)
        refused = client.fatal()
        assert refused["C"] == "28000" and "has been told where tokens come from" in refused["M"], refused
    client.sock.close()
    wait_until("the probe is counted", lambda: logins(bearer, "discovery") == probes + 1)
    assert logins(bearer, "bad_token") == failed


def test_a_bad_token_is_answered_before_its_error(bearer):
    client = greeted(bearer)
    client.send(initial(carried("a.b.c")))
    tag, body = client.read()
    assert (tag, body[:4]) == ("R", CONTINUE) and json.loads(body[4:])["status"] == "invalid_token"
    client.send(wire.frame("p", b"\x01"))
    refused = client.fatal()
    assert refused["C"] == "28000" and refused["M"].startswith("pgturnstile: login refused"), refused


@pytest.mark.parametrize(
    "message, why",
    [
        (b"", "GS2 header"),
        (b"p=tls-exporter,,\x01auth=Bearer t\x01\x01", "channel binding"),
        (b"n,a=postgres,\x01auth=Bearer t\x01\x01", "authorization identity"),
        (b"n,,\x01auth=Bearer t", "not terminated"),
        (b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01", "two auth values"),
        (b"n,,\x01host=x\x01\x01", "no auth value"),
        (b"n,,\x01auth=Bearer t\x01\x01more", "behind its end"),
    ],
)
def test_a_message_that_cannot_be_read(bearer, message, why):
    client = greeted(bearer)
    client.send(initial(message))
    refused = client.fatal()
    assert refused["C"] == "08P01" and why in refused["M"], refused


@pytest.mark.parametrize(
    "frame, why",
    [
        (initial(carried("t"), mechanism="SCRAM-SHA-256"), "another SASL mechanism"),
        (wire.frame("p", b"password\0"), "malformed"),
        (wire.query("SELECT 1"), "instead of its password"),
    ],
    ids=["scram", "password", "query"],
)
def test_what_is_no_oauthbearer(bearer, frame, why):
    client = greeted(bearer)
    client.send(frame)
    refused = client.fatal()
    assert refused["C"] == "08P01" and why in refused["M"], refused


def test_a_token_that_is_too_long(bearer):
    client = greeted(bearer)
    client.send(initial(carried("a" * 70_000)))
    refused = client.fatal()
    assert refused["C"] == "28000" and "token" in refused["M"], refused


def test_no_token_is_asked_for_outside_tls(bearer):
    client = wire.Client(bearer, login=False, tls=False, port=bearer.bearer_port)
    client.send(wire.startup(user="app", database="shop"))
    refused = client.fatal()
    assert refused["C"] == "28000" and "inside TLS only" in refused["M"], refused


def test_the_other_listener_takes_passwords_as_before(bearer):
    with bearer.connect() as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
