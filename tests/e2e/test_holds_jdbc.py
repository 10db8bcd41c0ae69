"""Holds by PostgreSQL's JDBC driver: what it is told, and that its connection goes on. HeldJdbc.java says what it does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from desk import Desk, behind, guards
from harness import HANG_S, HERE, wait_until

DRIVER = Path("/usr/share/java/postgresql.jar")

pytestmark = pytest.mark.skipif(
    shutil.which("java") is None or not DRIVER.exists(),
    reason="JDBC IS NOT TESTED HERE: apt-get install default-jdk-headless libpostgresql-jdbc-java",
)


@pytest.fixture(scope="module")
def desk(world):
    # Shorter than what the driver waits: a batch that the gateway did not end would fail with the server's timeout.
    gate = world.gateway(extra_control='socket = "control"')
    made = Desk(gate, lambda text: guards(text, statement_timeout_ms=2_000))
    gate.start()
    yield made
    gate.stop()
    assert gate.verify().returncode == 0


def java(desk, how, mark):
    return subprocess.run(
        ["java", "-cp", str(DRIVER), str(HERE / "HeldJdbc.java"), how, mark],
        env={**desk.gate.environment(), "PGPASSWORD": desk.agent()},
        capture_output=True, text=True, timeout=2 * HANG_S, check=False,
    )


@pytest.mark.parametrize("how", ["extended", "simple", "transaction"])
def test_approved_and_denied(desk, how):
    for approve in (False, True):
        desk.write(f"jdbc {how}")
        with behind() as start:
            running = start(lambda: java(desk, how, f"jdbc {how}"))
            hold = desk.one()
            assert hold["in_transaction"] == (how == "transaction")
            # Longer than the driver's socketTimeout and the server's statement_timeout.
            wait_until("time has passed", lambda: desk.open()[0]["left_s"] < 295 or running.done())
            assert not running.done(), running.result()
            decided = desk.approve(hold["id"]) if approve else desk.deny(hold["id"], "not this one")
            assert decided.returncode == 0, decided.stderr
            lines = running.result(2 * HANG_S)
        first, second = lines.stdout.splitlines()
        assert second == "still 42", lines.stderr
        if approve:
            assert first == "deleted 2" and desk.notes(f"jdbc {how}") == 0
        else:
            assert first.startswith("PH001 ") and "not this one" in first and desk.notes(f"jdbc {how}") == 1


def test_the_drivers_own_timeout_withdraws_it(desk):
    desk.write("jdbc timeout")
    with behind() as start:
        running = start(lambda: java(desk, "timeout", "jdbc timeout"))
        ident = desk.one()["id"]
        lines = running.result(2 * HANG_S).stdout.splitlines()
    assert lines[0].startswith("57014 ") and lines[1] == "still 42", lines
    assert desk.state(ident) == "withdrawn" and desk.notes("jdbc timeout") == 1
