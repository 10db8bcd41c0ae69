"""psql through the gateway: what people type, and what scripts pipe in."""

import os
import signal
import subprocess

from harness import HANG_S, wait_until


def test_one_command(gate):
    got = gate.psql("-c", "SELECT count(*) FROM items")
    assert (got.returncode, got.stdout.strip()) == (0, "1000"), got.stderr


def test_a_file(gate, database, tmp_path):
    script = tmp_path / "script.sql"
    script.write_text(
        "BEGIN;\nINSERT INTO notes (test, body) VALUES ('psql-file', $body$a; 'b'$body$);\n"
        "\\set n 41\nSELECT :n + 1;\nCOMMIT;\nSELECT 'done';\n"
    )
    got = gate.psql("-f", script)
    assert (got.returncode, got.stdout.split()) == (0, ["42", "done"]), got.stderr
    assert database.one("SELECT body FROM shop.notes WHERE test = 'psql-file'") == "a; 'b'"


def test_copy_in_and_out(gate, tmp_path):
    data, out = tmp_path / "in.csv", tmp_path / "out.csv"
    data.write_text("".join(f"psql-copy,line {n}\n" for n in range(2000)))
    got = gate.psql(
        "-c", f"\\copy notes (test, body) FROM '{data}' WITH (FORMAT csv)",
        "-c", f"\\copy (SELECT test, body FROM notes WHERE test = 'psql-copy' ORDER BY id) TO '{out}' WITH (FORMAT csv)",
    )
    assert got.returncode == 0, got.stderr
    assert out.read_text() == data.read_text()


def test_copy_from_a_pipe(gate, database):
    got = gate.psql(stdin="COPY notes (test, body) FROM STDIN;\npsql-pipe\tone\npsql-pipe\ttwo\n\\.\nSELECT 'behind';\n")
    assert (got.returncode, got.stdout.strip()) == (0, "behind"), got.stderr
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'psql-pipe'") == 2


def test_several_statements_in_one_text(gate):
    got = gate.psql("-c", "SELECT 1; SELECT 2; SELECT 3")
    assert (got.returncode, got.stdout.split()) == (0, ["1", "2", "3"]), got.stderr


def test_an_error_inside_a_transaction(gate):
    script = "BEGIN;\nSELECT 1/0;\nSELECT 1;\nROLLBACK;\nSELECT 'alive';\n"
    got = gate.psql("-v", "ON_ERROR_STOP=0", stdin=script)
    assert "division by zero" in got.stderr
    assert "current transaction is aborted" in got.stderr
    assert got.stdout.strip() == "alive"


def test_an_error_says_where(gate):
    got = gate.psql("-c", "SELECT no_such_column FROM items")
    assert got.returncode == 1
    assert 'column "no_such_column" does not exist' in got.stderr
    assert "LINE 1:" in got.stderr


def test_backslash_d(gate, database):
    commands = ["\\d items", "\\dt", "\\du"]
    # psql reads catalogs of servers up to its own version: 15's \\l asks for a column that 17 has not.
    client = int(subprocess.run(["psql", "--version"], capture_output=True, text=True, check=True).stdout.split()[2].split(".")[0])
    if int(database.one("SHOW server_version_num")) // 10000 <= client:
        commands.append("\\l")
    got = gate.psql(*(part for command in commands for part in ("-c", command)))
    assert got.returncode == 0, got.stderr
    assert "id|integer" in got.stdout


def test_a_notice(gate):
    got = gate.psql("-c", "SELECT shop.shout('psql')")
    assert "NOTICE:  heard: psql" in got.stderr
    assert got.stdout.strip() == "PSQL"


def test_ctrl_c(gate, database):
    running = subprocess.Popen(
        ["psql", "-X", "-A", "-t"], env=gate.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    running.stdin.write("SELECT pg_sleep(600) /* ctrl-c */;\n")
    running.stdin.flush()
    wait_until(
        "the sleep",
        lambda: database.one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'",
                             "SELECT pg_sleep(600) /* ctrl-c */%"),
    )
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=HANG_S)
    # A script that is interrupted ends there: psql gives up what follows.
    assert "canceling statement due to user request" in err
    gate.served()
