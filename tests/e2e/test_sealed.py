"""Originals of what is masked: sealed to an auditor's key, nowhere in the clear, opened by that key alone and behind a record of why."""

import json
import subprocess

import psycopg
import pytest

from captured import records
from harness import HANG_S, binary, spawn_on_shim
from second_unsealer import SEALED, private_key, unseal
from test_recording import LABEL, with_policy
from wire import SYNC, Client, bind, execute, parse, query

CARD, EMAIL, LABELLED = "4111111111111111", "ann.oneil@example.org", "canary-sealed-zq93"
CANARIES = [CARD, EMAIL, LABELLED]

FIXTURE = f"""
CREATE TABLE shop.labelled (id int PRIMARY KEY, secret text UNIQUE, open text);
INSERT INTO shop.labelled SELECT n, '{LABELLED}-' || n, 'open value' FROM generate_series(1, 400) AS n;
INSERT INTO shop.labelled VALUES (1000, NULL, 'mail {EMAIL} card {CARD}');
GRANT ALL ON shop.labelled TO app_login;
"""
GONE = "DROP TABLE IF EXISTS shop.labelled"


@pytest.fixture(scope="module")
def labelled(world):
    with world.database.superuser() as db:
        db.execute(GONE)
        db.execute(FIXTURE)
    yield world
    with world.database.superuser() as db:
        db.execute(GONE)


def keygen(folder, name="auditor"):
    """A key pair: the private file, the public line."""
    private = folder / f"{name}.private"
    made = subprocess.run([binary(), "evidence", "keygen", private, "--name", name], capture_output=True, text=True, timeout=HANG_S, check=True)
    return private, made.stdout


def sealing(gateway, public, name="auditor.pub"):
    """A gateway that seals to this line."""
    (gateway.folder / name).write_text(public)
    config = gateway.folder / "pgturnstile.toml"
    config.write_text(config.read_text().replace("[evidence]", f'[evidence]\nsealing_key = {{ file = "{name}" }}'))
    return gateway


@pytest.fixture(scope="module")
def sealed(labelled, tmp_path_factory):
    """A gateway that masks by label and detectors, and seals; its auditor's key. No canary is in the clear behind all tests."""
    private, public = keygen(tmp_path_factory.mktemp("auditor"))
    gateway = sealing(with_policy(labelled.gateway(), more=LABEL), public).start()
    yield gateway, private
    gateway.stop()
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr
    held = gateway.evidence_bytes() + gateway.log().encode()
    for canary in CANARIES:
        assert canary.encode() not in held, f"{canary} stands in the evidence or the log"


def opened(gateway, private, *more, log=None):
    log = log or private.parent / "unsealings"
    command = [binary(), "evidence", "unseal", gateway.evidence, "--private-key", private, "--log", log, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)


def shown(gateway, private, *more):
    """What `evidence unseal` shows, as the second opener tells it; pieces of a value put together."""
    done = opened(gateway, private, "--reason", "test", "--json", *more)
    assert done.returncode == 0, done.stderr
    found = []
    for line in map(json.loads, done.stdout.splitlines()):
        value = line["value"]["text"].encode() if "text" in line["value"] else bytes.fromhex(line["value"]["hex"])
        if line["went_on"]:
            found[-1] = (*found[-1][:-1], found[-1][-1] + value)
        else:
            found.append((line["session"], line["statement"], line["what"], line["row"], line["column"], value))
    return found


def second(gateway, private):
    return [
        (o.session, None if o.statement == 2**64 - 1 else o.statement, o.what, o.row, o.column, o.value)
        for o in unseal(gateway.evidence, private_key(private))
    ]


def of(found, what, *places):
    return [(row, column, value.decode(errors="replace")) for _, _, kind, row, column, value in found if kind == what and (not places or row in places)]


def test_both_openers_give_back_what_was_masked(sealed):
    gateway, private = sealed
    with gateway.connect() as db:
        masked = db.execute("SELECT id, secret, open FROM labelled ORDER BY id").fetchall()
        assert masked[0] == (1, None, "open value") and masked[-1] == (1000, None, "mail [email] card [card]")
        with db.cursor(binary=True) as cursor:
            cursor.execute("SELECT secret FROM labelled WHERE id < 3 ORDER BY id").fetchall()
        with db.cursor().copy("COPY labelled TO STDOUT") as copy:
            got = b"".join(bytes(block) for block in copy)
        assert LABELLED.encode() not in got
    mine, theirs = second(gateway, private), shown(gateway, private)
    assert mine == theirs and mine
    rows = of(mine, "rows")
    assert rows[:2] == [(0, 1, f"{LABELLED}-1"), (1, 1, f"{LABELLED}-2")]
    assert (400, 2, f"mail {EMAIL} card {CARD}") in rows, "a NULL is masked by nobody; what a detector finds is"
    copied = of(mine, "copy to the client")
    assert copied[1] == (1, 1, f"{LABELLED}-2") and copied[-1] == (400, 2, f"mail {EMAIL} card {CARD}") and len(copied) == 401


def test_texts_parameters_and_errors_that_are_withheld_are_sealed(sealed):
    gateway, private = sealed
    text = f"INSERT INTO labelled VALUES (2000, '{LABELLED}-1', 'x')"
    with gateway.connect() as db:
        with pytest.raises(psycopg.errors.UniqueViolation) as failed:
            db.execute(text)
        assert LABELLED not in str(failed.value)
    sql = "INSERT INTO labelled (id, secret) VALUES ($1, $2)"
    with Client(gateway) as client:
        client.ask(parse(sql), bind("3000", f"{LABELLED}-3000"), execute(), SYNC)
    found = second(gateway, private)
    texts = [value for _, _, value in of(found, "text")]
    assert text in texts and sql in texts
    assert (0, 1, f"{LABELLED}-3000") in of(found, "parameters")
    assert any(f"({LABELLED}-1) already exists" in value for _, _, value in of(found, "report"))
    assert found == shown(gateway, private)


def test_a_large_result_is_bounded_and_says_where(labelled, tmp_path):
    private, public = keygen(tmp_path)
    gateway = sealing(with_policy(labelled.gateway(), more=LABEL), public)
    policy = gateway.folder / "policy.toml"
    policy.write_text(policy.read_text() + "\n[defaults]\nrecord = \"digest\"\nrecord_rows_bytes_max = 4096\n")
    gateway.start()
    with gateway.connect() as db:
        assert len(db.execute("SELECT secret FROM labelled ORDER BY id").fetchall()) >= 400
        db.execute("SELECT secret FROM labelled WHERE id = 7").fetchall()
    gateway.stop()
    assert gateway.verify().returncode == 0
    done = opened(gateway, private, "--reason", "test")
    assert "the rest of this result is not sealed: record_rows_bytes_max" in done.stdout
    rows = of(second(gateway, private), "rows")
    assert rows[0] == (0, 0, f"{LABELLED}-1") and len(rows) < 400
    assert rows[-1] == (0, 0, f"{LABELLED}-7"), "the next result is sealed again, also where digests alone are recorded"
    assert LABELLED.encode() not in gateway.evidence_bytes()


def test_nothing_is_opened_before_it_is_written_down(sealed, tmp_path):
    gateway, private = sealed
    with gateway.connect() as db:
        db.execute("SELECT secret FROM labelled WHERE id = 5").fetchall()
    log = tmp_path / "unsealings"
    log.write_text("in the way")
    done = opened(gateway, private, "--reason", "no", log=log)
    assert (done.returncode, done.stdout) == (3, "") and "nothing is opened" in done.stderr
    log.unlink()
    other, _ = keygen(tmp_path, "other")
    done = opened(gateway, other, "--reason", "no", log=log)
    assert (done.returncode, done.stdout) == (1, "") and not log.exists()
    done = opened(gateway, private, "--reason", "case 4711", log=log)
    assert done.returncode == 0 and f"{LABELLED}-5" in done.stdout
    read = subprocess.run([binary(), "evidence", "show", log], capture_output=True, text=True, timeout=HANG_S)
    assert "case 4711" in read.stdout and LABELLED not in read.stdout
    assert gateway.verify(log).returncode == 0


def test_without_a_key_nothing_is_kept_and_a_wrong_one_does_not_start(labelled, tmp_path):
    plain = with_policy(labelled.gateway(), more=LABEL).start()
    with plain.connect() as db:
        db.execute("SELECT secret FROM labelled WHERE id = 5").fetchall()
    plain.stop()
    assert not [kind for kind, *_ in records(plain.evidence) if kind == SEALED]
    private, _ = keygen(tmp_path)
    mixed_up = sealing(with_policy(labelled.gateway(), more=LABEL), private.read_text())
    checked = subprocess.run([binary(), "check", "--config", mixed_up.folder / "pgturnstile.toml"], capture_output=True, text=True, timeout=HANG_S)
    assert checked.returncode == 2 and "PRIVATE" in checked.stdout + checked.stderr
    started = subprocess.run([binary(), "serve", "--config", mixed_up.folder / "pgturnstile.toml"], capture_output=True, text=True, timeout=HANG_S)
    assert started.returncode != 0 and "PRIVATE" in started.stdout + started.stderr
    secret = private.read_text().split()[-1]
    assert secret not in started.stdout + started.stderr + checked.stdout + checked.stderr


def test_no_masked_row_leaves_before_its_original_is_durable(labelled, tmp_path):
    """Syncs are slow, and what a loss of power would leave is opened while rows come: every original is in it."""
    private, public = keygen(tmp_path)
    gateway = sealing(with_policy(labelled.gateway(), more=LABEL), public)
    order, durable = spawn_on_shim(gateway, tmp_path)
    try:
        with Client(gateway) as client:
            order.write_text("slow-sync 40")
            client.send(query("SELECT secret, repeat('p', 600) FROM labelled WHERE id < 400 ORDER BY id"))
            came = 0
            while (got := client.read())[0] != "Z":
                assert got[0] != "E", got
                came += got[0] == "D"
                if got[0] == "D" and came % 90 == 1:
                    kept = [o for o in unseal(durable, private_key(private)) if o.what == "rows"]
                    assert [o.value.decode() for o in kept[:came]] == [f"{LABELLED}-{n + 1}" for n in range(came)]
            assert came == 399
    finally:
        order.write_text("none")
        gateway.stop()
    assert gateway.verify().returncode == 0
