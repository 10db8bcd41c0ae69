"""pgbench through the gateway: it makes its tables and runs its scripts by all three protocols."""

import subprocess

import pytest

from harness import HANG_S


def pgbench(gate, *arguments):
    return subprocess.run(
        ["pgbench", *arguments], env=gate.environment("bench", "bench"), capture_output=True, text=True, check=False,
        timeout=HANG_S,
    )


@pytest.fixture(scope="module")
def tables(shared):
    shared.wait_ready("bench")
    made = pgbench(shared, "-i", "-s", "1", "--quiet")
    assert made.returncode == 0, made.stderr
    return shared


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["tpcb-like", "select-only"])
def test_runs(tables, gate, protocol, script):
    got = pgbench(gate, "-n", "-M", protocol, "-b", script, "-c", "4", "-j", "2", "-t", "25")
    assert got.returncode == 0, got.stderr
    assert "number of transactions actually processed: 100/100" in got.stdout, got.stdout + got.stderr
    assert "failed transactions: 0" in got.stdout


def test_the_balances_add_up(tables, gate):
    with gate.connect("bench", "bench") as db:
        sums = db.execute(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        ).fetchone()
        assert len(set(sums)) == 1
