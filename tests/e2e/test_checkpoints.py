"""Checkpoints of a running gateway: the second place, what a start refuses, keys and their rotation."""

import json
import re
import shutil
import signal
import subprocess

import pytest

from harness import HANG_S, binary, wait_until


def evidence(*arguments):
    return subprocess.run([binary(), "evidence", *arguments], capture_output=True, text=True, check=False)


def verified(gate, *arguments):
    done = subprocess.run([binary(), "verify", gate.evidence, "--json", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def checked(gate, code=0) -> str:
    done = subprocess.run([binary(), "check"], cwd=gate.folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def anchored(own_gate):
    """A gateway that keeps its last checkpoint in a second place."""
    def make(extra="", start=True):
        gate = own_gate(start=False, extra=f'head = {{ file = "head/last" }}\n{extra}')
        (gate.folder / "head").mkdir()
        gate.head = gate.folder / "head" / "last"
        return gate.start() if start else gate
    return make


def work(gate, rounds=3):
    with gate.connect() as db:
        for number in range(rounds):
            db.execute("INSERT INTO notes (test, body) VALUES ('checkpoints', %s)", (str(number),))


def refused_start(gate) -> str:
    """What a gateway says that does not start."""
    before = len(gate.log())
    gate.spawn()
    assert gate.process.wait(HANG_S) == 3, gate.log()[before:]
    said = gate.log()[before:]
    assert "accepting" not in said
    return said


def test_the_second_place_proves_the_end(anchored):
    gate = anchored("checkpoint_every_s = 1")
    work(gate)
    assert gate.metrics()["pgturnstile_evidence_checkpoint_age_seconds"] <= 30
    # Also while it runs, and while nothing happens.
    kept = gate.head.read_text()
    wait_until("a checkpoint of an idle gateway", lambda: "\nwhy interval\n" in gate.head.read_text() and gate.head.read_text() != kept)
    code, report = verified(gate, "--checkpoint", gate.head)
    assert (code, report["end"]["state"]) == (0, "reached"), report
    gate.stop()
    code, report = verified(gate, "--checkpoint", gate.head, "--key", report["signed"]["keys"][0])
    assert (code, report["end_proven"], report["end"]["behind"]) == (0, True, 0), report
    text = gate.verify().stdout
    assert "NO EVIDENCE OF COMPLETENESS" in text and report["signed"]["keys"][0] in text
    # The value alone does, too.
    assert verified(gate, "--head", report["head"])[1]["end_proven"]
    assert verified(gate, "--head", "00" * 32)[0] == 1


def test_an_older_copy_is_refused_at_the_start_and_named(anchored):
    gate = anchored()
    work(gate)
    gate.stop()
    shutil.copytree(gate.evidence, gate.folder / "older")
    gate.start()
    work(gate)
    gate.stop()
    shutil.rmtree(gate.evidence)
    shutil.copytree(gate.folder / "older", gate.evidence)
    before = {path.name: path.read_bytes() for path in gate.evidence.iterdir()}
    said = refused_start(gate)
    assert "behind its checkpoint" in said and "pgturnstile verify DIR --checkpoint" in said, said
    assert {path.name: path.read_bytes() for path in gate.evidence.iterdir()} == before, "nothing was changed"
    code, report = verified(gate, "--checkpoint", gate.head)
    assert (code, report["findings"][0]["what"]) == (1, "rollback"), report


def test_a_kill_never_leaves_the_log_behind_its_second_place(anchored):
    gate = anchored("checkpoint_every_records = 100")
    for _ in range(3):
        work(gate, 150)
        gate.stop(signal.SIGKILL)
        assert verified(gate, "--checkpoint", gate.head)[1]["end"]["state"] in ("reached", "not-reached")
        gate.start()
    gate.stop()
    code, report = verified(gate, "--checkpoint", gate.head)
    assert (code, report["end"]["behind"]) == (0, 0), report
    assert report["signed"]["checkpoints"] > 4


def test_a_second_place_that_is_lost_is_repaired_by_the_command_that_is_named(anchored):
    gate = anchored()
    gate.stop()
    assert ".head" not in checked(gate)
    gate.head.unlink()
    # What the start will refuse is an error, at the line of its key.
    said = checked(gate, code=2)
    assert re.search(r"pgturnstile\.toml:\d+: evidence\.head\.file: .* holds no checkpoint although", said), said
    said = refused_start(gate)
    assert "is its disk or share mounted?" in said and "pgturnstile evidence checkpoint DIR --to" in said, said
    done = evidence("checkpoint", gate.evidence, "--to", gate.head)
    assert done.returncode == 0, done.stderr
    gate.start()
    gate.served()
    # What somebody else put there is never overwritten.
    gate.stop()
    gate.head.write_text("something else\n")
    assert "holds no checkpoint" in refused_start(gate)
    assert gate.head.read_text() == "something else\n"
    # A folder that is missing is never made.
    gate.head.unlink()
    gate.head.parent.rmdir()
    gate.spawn()
    assert gate.process.wait(HANG_S) == 2
    assert not gate.head.parent.exists() and "head" in gate.log()


def test_a_key_passes_the_signing_on(anchored):
    gate = anchored('signing_key = { file = "secrets/one" }', start=False)
    one, two = gate.folder / "secrets" / "one", gate.folder / "secrets" / "two"
    made = [evidence("new-key", path, "--name", f"gateway-{name}") for path, name in ((one, "a"), (two, "b"))]
    assert all(done.returncode == 0 for done in made), made
    keys = [done.stdout.strip() for done in made]
    assert one.stat().st_mode & 0o777 == 0o600 and "PRIVATE" not in made[0].stdout
    assert evidence("new-key", one).returncode == 3, "a key is never replaced"
    gate.start()
    work(gate)
    gate.stop()
    config = gate.folder / "pgturnstile.toml"
    config.write_text(config.read_text().replace('{ file = "secrets/one" }', '{ command = ["cat", "secrets/two"] }').replace(
        '"secrets/two"', f'"{two}"'))
    said = refused_start(gate)
    assert "nothing certifies it" in said and "evidence rotate-key" in said, said
    note = gate.folder / "rotation.note"
    assert evidence("rotate-key", "--old", one, "--new", two, "--out", note).returncode == 0
    config.write_text(config.read_text().replace("] }\n", f'], certificate = "{note}" }}\n', 1))
    one.unlink()
    gate.start()
    work(gate)
    gate.stop()
    code, report = verified(gate, "--checkpoint", gate.head, "--key", keys[0])
    assert (code, report["signed"]["keys"], report["end"]["behind"]) == (0, keys, 0), report
    strange = gate.folder / "secrets" / "three"
    key = evidence("new-key", strange).stdout.strip()
    code, report = verified(gate, "--key", key)
    assert (code, report["findings"][0]["what"]) == (1, "wrong key"), report


def test_words_for_what_cannot_be_a_checkpoint(anchored, tmp_path):
    gate = anchored()
    gate.stop()
    garbled = tmp_path / "garbled"
    garbled.write_text(gate.head.read_text().replace("place", "plaice"))
    for arguments in (["--checkpoint", garbled], ["--checkpoint", tmp_path / "none"], ["--head", "abc"], ["--key", "a+b+c"]):
        done = subprocess.run([binary(), "verify", gate.evidence, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout, done
