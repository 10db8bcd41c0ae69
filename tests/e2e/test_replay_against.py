"""`replay --against`: a recorded session run again on a scratch database; the same where nothing changed, and every reason where it cannot be told."""

import contextlib
import json
import os
import socket
import subprocess
import threading

import psycopg
import pytest

from captured import statement_of
from harness import HANG_S, binary
from test_recording import with_policy

FIXTURE = """
CREATE SCHEMA IF NOT EXISTS shop;
DROP TABLE IF EXISTS shop.ledger;
CREATE TABLE shop.ledger (id int PRIMARY KEY, name text, sum numeric, at timestamptz DEFAULT '2026-11-21 00:00+00');
INSERT INTO shop.ledger SELECT n, 'name ' || n, n * 1.25 FROM generate_series(1, 500) AS n;
GRANT USAGE ON SCHEMA shop TO app_login;
GRANT ALL ON shop.ledger TO app_login;
"""


@pytest.fixture(scope="module")
def recorded(world):
    """A session's evidence, and its first digits."""
    with world.database.superuser() as db:
        db.execute(FIXTURE)
    gateway = with_policy(world.gateway()).start()
    with gateway.connect() as db:
        assert db.execute("SELECT id, name, sum FROM ledger ORDER BY id").fetchall()[499][0] == 500
        db.execute("SELECT name FROM ledger WHERE id = %s", (7,)).fetchall()
        with db.cursor(binary=True) as cursor:
            cursor.execute("SELECT id, sum FROM ledger WHERE id < %s ORDER BY id", (50,)).fetchall()
        db.execute("UPDATE ledger SET name = 'other' WHERE id = 3")
        db.execute("SELECT name FROM ledger WHERE id = 3").fetchall()
        db.execute("INSERT INTO ledger (id, name) VALUES (1000, 'new')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.execute("INSERT INTO ledger (id, name) VALUES (1000, 'again')")
        db.execute("SELECT random() FROM ledger WHERE id = 1").fetchall()
        db.execute("SELECT now()").fetchall()
        db.execute("SELECT CURRENT_DATE").fetchall()
        db.execute("SELECT name, 'ann.oneil@example.org' FROM ledger WHERE id = 9").fetchall()
        with db.cursor().copy("COPY ledger TO STDOUT") as copy:
            list(copy)
    gateway.stop()
    session, _ = statement_of(gateway, "SELECT id, name, sum FROM ledger ORDER BY id")
    yield gateway, session
    with world.database.superuser() as db:
        db.execute("DROP TABLE shop.ledger")


@pytest.fixture()
def scratch(world):
    """A scratch database as it was before the session; its URL."""
    with world.database.superuser("postgres") as db:
        db.execute("DROP DATABASE IF EXISTS scratch WITH (FORCE)")
        db.execute("CREATE DATABASE scratch")
    with world.database.superuser("scratch") as db:
        db.execute(FIXTURE)
    yield f"postgresql://app_login@127.0.0.1:{world.database.port}/scratch"
    with world.database.superuser("postgres") as db:
        db.execute("DROP DATABASE IF EXISTS scratch WITH (FORCE)")


def replayed(recorded, url, *more, digest_key=None):
    gateway, session = recorded
    key = digest_key or gateway.folder / "state" / "digest.key"
    command = [binary(), "replay", gateway.evidence, session, "--against", url, "--digest-key", key, *more]
    environment = os.environ | {"PGPASSWORD": gateway.database.passwords["app_login"]}
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=environment, cwd=gateway.folder)


def verdicts(done):
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["text"]: (line["verdict"], line["why"] or "") for line in lines[:-1]}, lines[-1]["summary"]


def test_the_same_database_gives_the_same(recorded, scratch):
    done = replayed(recorded, scratch, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found, summary = verdicts(done)
    for text in [
        "SELECT id, name, sum FROM ledger ORDER BY id",
        "SELECT name FROM ledger WHERE id = $1",
        "SELECT id, sum FROM ledger WHERE id < $1 ORDER BY id",
        "UPDATE ledger SET name = 'other' WHERE id = 3",
        "SELECT name FROM ledger WHERE id = 3",
        "INSERT INTO ledger (id, name) VALUES (1000, 'new')",
        "INSERT INTO ledger (id, name) VALUES (1000, 'again')",
    ]:
        assert found[text][0] == "same", (text, found[text])
    for part, word, why in [
        ("random()", "not comparable", "volatile"),
        ("now()", "not comparable", "moment"),
        ("CURRENT_DATE", "not comparable", "moment"),
        ("COPY ledger", "not run", "copies"),
    ]:
        [(verdict, said)] = [found[text] for text in found if text and part in text]
        assert verdict == word and why in said, (part, verdict, said)
    assert found[None][0] == "not run" and "masked" in found[None][1], "an address is masked in the text"
    assert summary["same"]["statements"] >= 7 and "differs" not in summary
    # Again, on what the first run wrote: the insert fails now, and the update changes nothing.
    done = replayed(recorded, scratch)
    assert done.returncode == 1 and "differs" in done.stdout
    assert "no error then, 23505 now" in done.stdout, done.stdout


def test_a_value_that_was_changed_is_found(recorded, scratch, world):
    with world.database.superuser("scratch") as db:
        db.execute("UPDATE shop.ledger SET sum = sum + 0.01 WHERE id = 250")
    done = replayed(recorded, scratch, "--json")
    assert done.returncode == 1, done.stderr
    found, _ = verdicts(done)
    verdict, why = found["SELECT id, name, sum FROM ledger ORDER BY id"]
    assert verdict == "differs" and "500 row(s) with another digest" in why
    assert found["SELECT id, sum FROM ledger WHERE id < $1 ORDER BY id"][0] == "same", "it does not read that row"


def test_a_target_is_refused(recorded, scratch, world):
    gateway, _ = recorded
    for host in ["127.0.0.1", "localhost"]:
        url = f"postgresql://app_login@{host}:{world.database.port}/shop"
        done = replayed(recorded, url)
        assert (done.returncode, done.stdout) == (2, "") and "target" in done.stderr, done.stderr
    # Also one that only the configuration knows.
    config = gateway.folder / "other.toml"
    config.write_text((gateway.folder / "pgturnstile.toml").read_text().replace('database = "shop"', 'database = "scratch"'))
    done = replayed(recorded, scratch, "--config", config)
    assert (done.returncode, done.stdout) == (2, "") and "target shop of" in done.stderr, done.stderr
    with world.database.superuser("scratch") as db:
        assert db.execute("SELECT count(*) FROM shop.ledger WHERE id = 1000").fetchone() == (0,), "nothing ran"


@pytest.fixture()
def tunnel(world):
    """Another way to the database server, as `ssh -L` or a cloud's proxy makes one: its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", world.database.port))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_a_target_behind_a_tunnel_is_refused(recorded, scratch, tunnel, world, tmp_path):
    gateway, _ = recorded

    def ledger():
        with world.database.superuser() as db:
            return db.execute("SELECT count(*), max(xmin::text::bigint) FROM shop.ledger").fetchone()

    before = ledger()
    url = f"postgresql://app_login@127.0.0.1:{tunnel}/shop"
    done = replayed(recorded, url)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "the same server and database" in done.stderr, done.stderr
    # Without a target that can be asked, the name alone refuses.
    done = replayed(recorded, url, "--config", elsewhere(gateway, tmp_path))
    assert (done.returncode, done.stdout) == (2, "") and "cannot be told" in done.stderr, done.stderr
    assert "--even-a-target" in done.stderr and ledger() == before, "nothing ran"
    # A scratch database of another name is none, by whatever way.
    done = replayed(recorded, scratch.replace(str(world.database.port), str(tunnel)))
    assert done.returncode == 0, done.stdout + done.stderr


def elsewhere(gateway, folder):
    """The configuration, with its target at an address where nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    config = folder / "elsewhere.toml"
    text = (gateway.folder / "pgturnstile.toml").read_text()
    config.write_text(text.replace(f"127.0.0.1:{gateway.database.port}", f"127.0.0.1:{port}"))
    assert str(port) in config.read_text()
    return config


def test_what_is_missing_says_so(recorded, scratch, tmp_path):
    done = replayed(recorded, scratch.replace("/scratch", "/nowhere"))
    assert done.returncode == 3 and "nowhere" in done.stderr
    other = tmp_path / "digest.key"
    other.write_text("ab" * 32 + "\n")
    other.chmod(0o600)
    done = replayed(recorded, scratch, digest_key=other)
    assert done.returncode == 2 and "not the digest key" in done.stderr
