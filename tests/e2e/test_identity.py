"""Who gets in, and what the ones who do not are told."""

import os
import struct
import time

import psycopg
import pytest

import wire
from wire import Client, Refused


def refused(gate, **parameters) -> dict:
    with pytest.raises(Refused) as caught:
        Client(gate, **parameters)
    gate.served()
    return caught.value.fields


def test_no_tls_no_question(gate):
    with Client(gate, login=False, tls=False) as client:
        client.send(wire.startup(user="app", database="shop"))
        tag, body = client.read()
        assert tag == "E", "it must not be asked for a token in clear"
        got = wire.fields(body)
        assert (got["V"], got["C"]) == ("FATAL", "28000")
        assert "TLS" in got["M"]
        assert client.rest() == []


@pytest.mark.parametrize("kind", ["audience", "garbage", "tampered", "none-algorithm", "empty-signature"])
def test_a_token_that_is_not_good_enough(gate, world, kind):
    good = world.idp.token("app", sub=f"mallory-{kind}")
    head, payload, signature = good.split(".")
    token = {
        "audience": lambda: world.idp.token("app", sub="mallory-audience", audience="somebody-else"),
        "garbage": lambda: "not-a-token-but-secret-all-the-same",
        "tampered": lambda: f"{head}.{payload[:-4]}AAAA.{signature}",
        "none-algorithm": lambda: f"eyJhbGciOiJub25lIn0.{payload}.",
        "empty-signature": lambda: f"{head}.{payload}.",
    }[kind]()
    got = refused(gate, token=token)
    assert (got["V"], got["C"]) == ("FATAL", "28000")
    assert got["M"].startswith("pgturnstile: login refused")
    assert nothing_of(token, got["M"].encode())
    gate.wait_record("the denial", lambda r: r["kind"] == "authentication-denied" and r["payload"]["told"] == got["M"])
    assert nothing_of(token, gate.log_path.read_bytes())
    assert nothing_of(token, gate.evidence_bytes())


def test_an_expired_token(gate, world):
    token = world.idp.token("app", sub="latecomer", ttl=1)
    # The clock skew that is allowed is the gateway's to give: wait until it is used up.
    end = time.monotonic() + 90
    while True:
        try:
            Client(gate, token=token).sock.close()
        except Refused as error:
            got = error.fields
            break
        assert time.monotonic() < end, "an expired token was taken for ever"
        time.sleep(1)
    assert (got["V"], got["C"]) == ("FATAL", "28000")
    assert nothing_of(token, got["M"].encode())


def nothing_of(token: str, data: bytes) -> bool:
    """No part of the token that carries anything stands in `data`: pieces of 16 characters, in each of its parts."""
    for part in token.split(".")[1:] or [token]:
        for at in range(0, max(1, len(part) - 16), 8):
            piece = part[at : at + 16].encode()
            if piece and piece in data:
                return False
    return True


def test_a_good_token_leaves_no_trace_either(gate, world):
    token = world.idp.token("app", sub="quiet")
    with gate.connect(token=token) as db:
        db.execute("SELECT 1")
    gate.wait_record("the session", lambda r: r["kind"] == "authenticated" and r["payload"]["subject"] == "quiet")
    assert nothing_of(token, gate.log_path.read_bytes())
    assert nothing_of(token, gate.evidence_bytes())


def test_an_unknown_database(gate):
    got = refused(gate, database="nowhere")
    assert (got["V"], got["C"]) == ("FATAL", "3D000")
    assert "nowhere" in got["M"] and "Next:" in got["M"]


def test_no_access_entry(gate, world):
    got = refused(gate, token=world.idp.token("strangers"))
    assert (got["V"], got["C"]) == ("FATAL", "28000")
    got = refused(gate, group="app", database="bench")
    assert (got["V"], got["C"]) == ("FATAL", "28000")


def test_who_is_unknown_learns_nothing_of_targets(gate):
    known, unknown = refused(gate, token="garbage"), refused(gate, token="garbage", database="nowhere")
    assert known["M"] == unknown["M"]


def test_allowed_options(gate):
    with gate.connect(options="-c TimeZone=Europe/Berlin -c extra_float_digits=1", application_name="my tool") as db:
        assert db.execute("SHOW TimeZone").fetchone() == ("Europe/Berlin",)
        assert "my tool" in db.execute("SHOW application_name").fetchone()[0]


@pytest.mark.parametrize(
    "parameters",
    [
        {"options": "-c search_path=evil"},
        {"options": "-c role=boss"},
        {"options": "-c session_replication_role=replica"},
        {"options": "-c standard_conforming_strings=off"},
        {"options": "-c row_security=off"},
        {"options": "--search_path=evil"},
        {"options": "-csearch_path=evil"},
        {"options": "-c TimeZone=UTC -c search_path=evil"},
        {"options": "-c Search_Path=evil"},
        {"options": "-fs"},
        {"search_path": "evil"},
        {"session_authorization": "boss"},
        {"replication": "database"},
        {"replication": "true"},
        {"client_encoding": "SJIS"},
        {"client_encoding": "SQL_ASCII"},
        {"default_transaction_read_only": "off"},
        {"local_preload_libraries": "x"},
    ],
    ids=lambda p: "_".join(f"{k}_{v}" for k, v in p.items()).replace(" ", "_"),
)
def test_refused_startup_parameters(gate, parameters):
    got = refused(gate, **parameters)
    assert got["V"] == "FATAL"
    assert got["C"] in ("0A000", "22023"), got
    assert "pgturnstile" in got["M"]


@pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "UTF8"])
def test_utf8_by_any_of_its_names(gate, encoding):
    with Client(gate, client_encoding=encoding) as client:
        assert client.parameters["client_encoding"] == "UTF8"


def test_a_read_only_entry(gate, database):
    with gate.connect("reader") as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (1000,)
        for sql in ("INSERT INTO notes (test) VALUES ('reader')", "BEGIN READ WRITE",
                    "SET default_transaction_read_only = off", "SET transaction_read_only = off"):
            with pytest.raises(psycopg.errors.DatabaseError):
                db.execute(sql)
            db.execute("ROLLBACK")
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'reader'") == 0


def test_a_protocol_of_the_future(gate):
    with Client(gate, login=False) as client:
        client.send(wire.startup(version=(3 << 16) | 9999, user="app", database="shop", **{"_pq_.shiny": "1"}))
        tag, body = client.read()
        assert tag == "v"
        assert struct.unpack_from("!II", body) == (3 << 16 | 2, 1)
        assert b"_pq_.shiny\0" in body
        assert client.read()[0] == "R"


def test_the_client_knows_the_gateway(gate, tmp_path, world):
    """verify-full against another authority fails: it is the client's own check."""
    other = tmp_path / "other"
    other.mkdir()
    from harness import certificates

    certificates(other)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        gate.connect(sslrootcert=str(other / "gateway.crt"))


def test_a_password_that_is_too_long(gate):
    with Client(gate, login=False) as client:
        client.send(wire.startup(user="app", database="shop"))
        assert client.read()[0] == "R"
        client.send(b"p" + struct.pack("!I", 10_000_000))
        assert client.fatal()["C"] == "28000"
    gate.served()


def test_a_login_that_goes_silent_holds_nothing(own_gate):
    gate = own_gate(login_deadline_ms=3_000, extra_limits="dial_deadline_ms = 2_000")
    with Client(gate, login=False) as client:
        client.send(wire.startup(user="app", database="shop"))
        assert client.read()[0] == "R"
        assert client.rest()[-1:][0][0] == "E"
    with Client(gate, login=False, tls=False) as client:
        client.rest()
    gate.served()
