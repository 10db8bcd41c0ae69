"""`pgturnstile top` and the control socket: the live sessions as an operator sees them, and who may not."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading

import psycopg
import pytest

from harness import HANG_S, binary, wait_until

SECRET = "a-literal-that-nobody-sees"


@pytest.fixture(scope="module")
def gate(world):
    made = world.gateway(extra_control='socket = "control"')
    yield made.start()
    made.stop()
    assert not (made.folder / "control").exists() and not (made.folder / "control.lock").exists()


def top(gate, *arguments, config=True):
    named = ["--config", gate.folder / "pgturnstile.toml"] if config else []
    return subprocess.run(
        [binary(), "top", *named, *map(str, arguments)], capture_output=True, text=True, timeout=HANG_S, check=False
    )


def sessions(gate, *arguments) -> list[dict]:
    shown = top(gate, "--once", "--json", "--limit", 0, *arguments)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)["sessions"]


def mine(gate, db) -> dict | None:
    """The session of a connection: by its client's port."""
    with socket.socket(fileno=os.dup(db.fileno())) as client:
        peer = "%s:%s" % client.getsockname()
    return next((session for session in sessions(gate) if session["peer"] == peer), None)


def test_a_session_is_shown_from_its_login_to_its_end(gate):
    with gate.connect() as db:
        session = wait_until("it is shown", lambda: mine(gate, db))
        assert (session["issuer"], session["subject"], session["target"], session["access"]) == ("dev", "app-7", "shop", "app")
        assert (session["state"], session["waits_for"], session["class"]) == ("idle", "client", None)
        db.execute("SELECT generate_series(1, 7)")
        session = wait_until("rows are counted", lambda: (s := mine(gate, db)) and s["rows"] == 7 and s)
        assert session["class"] == "read.select" and session["statements"] == 1 and session["target_bytes"] > 0
        db.execute("BEGIN")
        wait_until("the transaction is seen", lambda: mine(gate, db)["state"] == "idle_in_transaction")
        with pytest.raises(Exception):  # noqa: B017 - whatever the refusal is
            db.execute("DROP TABLE shop.refused")
        wait_until("the refusal is counted", lambda: mine(gate, db)["refused"] == 1)
        assert mine(gate, db)["state"] == "idle_in_failed_transaction"
        assert len(session["session"]) == 32 and session["session"] in gate.log()
    wait_until("it is gone", lambda: session["session"] not in [s["session"] for s in sessions(gate)])


def test_a_running_statement_shows_its_class_and_never_its_text(gate, world):
    with gate.connect() as db:

        def run():
            with pytest.raises(psycopg.errors.QueryCanceled):
                db.execute(f"SELECT pg_sleep(600), '{SECRET}'")

        running = threading.Thread(target=run, daemon=True)
        running.start()
        session = wait_until("it runs", lambda: (s := mine(gate, db)) and s["state"] == "active" and s)
        assert session["waits_for"] == "target" and session["class"]
        wait_until("its age grows", lambda: mine(gate, db)["age_ms"] > session["age_ms"])
        for arguments in (("--once",), ("--once", "--json")):
            shown = top(gate, *arguments)
            assert SECRET not in shown.stdout and "pg_sleep" not in shown.stdout
        with world.database.superuser() as superuser:
            superuser.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600), %%' AND state = 'active'", ())
        running.join(HANG_S)


def test_the_table_is_for_people_and_ordered_as_asked(gate):
    with gate.connect() as busy, gate.connect("reader") as quiet:
        busy.execute("SELECT generate_series(1, 50)")
        quiet.execute("SELECT 1")
        wait_until("both are counted", lambda: mine(gate, busy)["rows"] == 50 and mine(gate, quiet)["rows"] == 1)
        by_rows = [session["rows"] for session in sessions(gate, "--sort", "rows")]
        assert by_rows == sorted(by_rows, reverse=True) and by_rows[0] >= 50
        assert [session["rows"] for session in sessions(gate, "--sort", "rows", "--reverse")] == by_rows[::-1]
        shown = top(gate, "--once", "--sort", "rows", "--limit", 1)
        lines = shown.stdout.splitlines()
        assert shown.returncode == 0 and "\x1b" not in shown.stdout
        assert lines[0].startswith("pgturnstile ") and " sessions: " in lines[0]
        assert lines[1].split()[:3] == ["SESSION", "PRINCIPAL", "TARGET"]
        assert "dev/app-7" in lines[2] and lines[-1].startswith("… and ")


def test_it_looks_again_and_waits_for_a_gateway_that_restarts(own_gate):
    gate = own_gate(start=False, extra_control='socket = "control"').start()
    looking = subprocess.Popen(
        [binary(), "top", "--config", gate.folder / "pgturnstile.toml", "--interval", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        assert all(json.loads(looking.stdout.readline())["sessions"] == [] for _ in range(2))
        gate.stop()
        assert "asking again" in looking.stderr.readline()
        gate.start()
        assert json.loads(looking.stdout.readline())["version"]
    finally:
        looking.kill()
        looking.wait()


def test_the_page_is_on_the_socket_only_and_the_socket_is_the_gateways_own(gate):
    assert stat.S_IMODE(os.stat(gate.folder / "control").st_mode) == 0o600
    status, body = gate.page("/sessions")
    assert status == 404 and b"control socket only" in body
    if os.geteuid() == 0:
        refused = subprocess.run(
            ["runuser", "-u", "nobody", "--", binary(), "top", "--once", "--socket", gate.folder / "control"],
            capture_output=True, text=True, timeout=HANG_S, check=False, cwd="/",
        )
        # The binary may itself be out of the other user's reach.
        assert refused.returncode != 0 and refused.stdout == ""


def test_what_is_missing_is_said(gate, own_gate, tmp_path):
    without = own_gate(start=False)
    told = top(without, "--once")
    assert told.returncode == 2 and 'Add socket = "/run/pgturnstile/control" to [control]' in told.stderr
    told = top(gate, "--once", "--socket", tmp_path / "nobody", config=False)
    assert told.returncode == 3 and "does not answer" in told.stderr
    told = top(gate, "--interval", 0)
    assert told.returncode == 2
