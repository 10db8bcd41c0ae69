"""What the evidence holds, what it proves, and what happens to the gateway when it cannot be written."""

import shutil
import signal
import subprocess
import threading

import psycopg
import pytest

from harness import HANG_S, SmallDisk, binary, end, free_port, wait_until
from wire import SYNC, TERMINATE, Client, bind, errors, execute, parse, query


def traffic(gate, marker="ordinary"):
    """A little of everything, with values that must stand nowhere."""
    with gate.connect(token=gate.idp.token("app", sub=f"witness-{marker}")) as db:
        db.execute(f"SELECT count(*) FROM items WHERE name = 'literal-secret-{marker}'")
        db.execute("SELECT count(*) FROM items WHERE name = %s", (f"parameter-secret-{marker}",))
        db.execute(f"SELECT 'row-secret-{marker}'").fetchall()
        db.execute(f"SELECT 1 /* comment-secret-{marker} */")
        db.execute("INSERT INTO notes (test, body) VALUES ('evidence', %s)", (f"insert-secret-{marker}",))
        with db.cursor().copy("COPY notes (test, body) FROM STDIN") as copy:
            copy.write_row(("evidence", f"copy-secret-{marker}"))
        for sql in (f"DELETE FROM notes WHERE true -- refused-secret-{marker}", f"this is no SQL 'garbled-secret-{marker}'",
                    f"SELECT 'error-secret-{marker}'::int"):
            with pytest.raises(psycopg.Error):
                db.execute(sql)


def session_of(gate, subject):
    """Records of the session of that subject, in their order, once it has ended."""
    opened = gate.wait_record("the session", lambda r: r["kind"] == "authenticated" and r["payload"]["subject"] == subject)
    gate.wait_record("its end", lambda r: r["kind"] == "session-closed" and r["session"] == opened["session"])
    return [r for r in gate.records() if r.get("session") == opened["session"]]


def test_who_what_and_result(gate):
    traffic(gate, "who")
    records = session_of(gate, "witness-who")
    kinds = [r["kind"] for r in records]
    assert kinds[0] == "session-opened" and kinds[-1] == "session-closed"
    who = next(r["payload"] for r in records if r["kind"] == "authenticated")
    assert (who["issuer"], [g for g in who["groups"]]) == ("dev", ["app"])
    target = next(r["payload"] for r in records if r["kind"] == "target-chosen")
    assert (target["target"], target["access"], target["mode"], target["durability"]) == ("shop", "app", "write", "gated")
    statements = [r for r in records if r["kind"] == "statement"]
    first = statements[0]
    assert first["payload"]["text"]["lifted"] == "SELECT count(*) FROM items WHERE name = $1"
    assert first["payload"]["action"] == "allow" and "app.work" in first["payload"]["rule"]
    result = next(r for r in records if r["kind"] == "result" and r["refers"] == first["session_sequence"])
    assert (result["payload"]["outcome"], result["payload"]["rows"]) == ("completed", 1)
    assert result["payload"]["tag"] == "SELECT 1"
    refusals = [r["payload"] for r in records if r["kind"] == "refusal"]
    assert any("no-blind-write" in r["rule"] for r in refusals)
    failed = [r["payload"] for r in records if r["kind"] == "result" and r["payload"]["sqlstate"]]
    assert "22P02" in {r["sqlstate"] for r in failed}
    sequence = [r["session_sequence"] for r in records]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence))), "a session's records have no gap"
    totals = records[-1]["payload"]["totals"]
    assert totals["refused"] == len(refusals)


def test_the_report_for_people(gate):
    traffic(gate, "people")
    session_of(gate, "witness-people")
    shown = subprocess.run([binary(), "evidence", "show", gate.evidence], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "witness-people" in shown.stdout
    assert "no-blind-write" in shown.stdout


def test_no_value_stands_anywhere(gate):
    traffic(gate, "absent")
    session_of(gate, "witness-absent")
    written, log = gate.evidence_bytes(), gate.log_path.read_bytes()
    for kind in ("literal", "parameter", "row", "comment", "insert", "copy", "refused", "garbled", "error"):
        assert f"{kind}-secret-absent".encode() not in written, kind
        assert f"{kind}-secret-absent".encode() not in log, kind
    # It would have been found: what may stand there does.
    assert b"witness-absent" in written
    assert b"SELECT count(*) FROM items WHERE name = $1" in written


@pytest.mark.parametrize("size", [0, 1])
def test_live_evidence_verifies(gate, size):
    traffic(gate, f"live-{size}")
    got = gate.verify()
    assert got.returncode == 0, got.stdout + got.stderr


def test_every_flipped_byte_is_found(own_gate, tmp_path):
    gate = own_gate()
    traffic(gate, "flip")
    gate.stop()
    assert gate.verify().returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(gate.evidence, copy)
    segment = next(path for path in sorted(copy.iterdir()) if path.stat().st_size > 1000)
    good = segment.read_bytes()
    step = max(1, len(good) // 40)
    for at in [*range(0, len(good), step), len(good) - 1]:
        data = bytearray(good)
        data[at] ^= 0x01
        segment.write_bytes(data)
        assert gate.verify(copy).returncode == 1, f"byte {at} of {len(good)}"
    segment.write_bytes(good[: len(good) // 2])
    assert gate.verify(copy).returncode == 1, "half of it is gone"
    segment.unlink()
    assert gate.verify(copy).returncode != 0, "the segment is gone"


def test_verify_names_the_first_bad_record(own_gate, tmp_path):
    gate = own_gate()
    traffic(gate, "named")
    gate.stop()
    segment = next(path for path in sorted(gate.evidence.iterdir()) if path.stat().st_size > 1000)
    data = bytearray(segment.read_bytes())
    data[data.index(b"witness-named")] ^= 0x20
    segment.write_bytes(data)
    got = gate.verify()
    assert got.returncode == 1
    assert "authenticated" in (got.stdout + got.stderr) or "record" in (got.stdout + got.stderr), got.stdout


def test_sigterm_drains(own_gate):
    """A statement that runs is finished, a session that is idle is told, and the evidence is closed: long before the deadline."""
    gate = own_gate(drain_deadline_s=600)
    idle = Client(gate)
    busy = Client(gate)
    busy.send(query("SELECT pg_sleep(2), 'finished'"))
    wait_until("the sleep", lambda: gate.database.one("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s",
                                                      "SELECT pg_sleep(2), 'finished'%"))
    gate.process.send_signal(signal.SIGTERM)
    got = idle.fatal()
    assert got["C"] == "57P01"
    rest = busy.rest()
    assert any(b"finished" in body for tag, body in rest if tag == "D")
    assert gate.process.wait(HANG_S) == 0
    assert gate.verify().returncode == 0
    records = gate.records()
    assert records[-1]["kind"] == "gateway-stopped", records[-1]["kind"]
    opened = sum(r["kind"] == "session-opened" for r in records)
    assert opened == sum(r["kind"] == "session-closed" for r in records)


def test_sigterm_ends_what_does_not_end(own_gate):
    gate = own_gate()
    with Client(gate) as busy:
        busy.send(query("SELECT pg_sleep(600) /* endless */"))
        wait_until("the sleep", lambda: gate.database.one("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s",
                                                          "SELECT pg_sleep(600) /* endless */%"))
        gate.process.send_signal(signal.SIGTERM)
        assert busy.fatal()["C"] == "57P01"
    assert gate.process.wait(HANG_S) == 0
    assert gate.verify().returncode == 0


def test_reload(own_gate):
    gate = own_gate()
    policy = gate.folder / "policy.toml"
    old = policy.read_text()
    with gate.connect() as db:
        db.execute("SELECT count(*) FROM items")
        # A bad one: the old stays.
        policy.write_text(old.replace("[[permit]]", "[[permitt]]", 1))
        gate.process.send_signal(signal.SIGHUP)
        wait_until("the refusal of the reload", lambda: "the old one stays in force" in gate.log())
        db.execute("SELECT count(*) FROM items")
        # A good one: it holds for sessions that run, and for statements that were prepared before.
        db.execute("SELECT count(*) FROM items WHERE id = %s", (1,), prepare=True)
        policy.write_text(old + '\n[[restrict]]\nid = "no-items"\ngroups = ["app"]\ntargets = ["shop"]\nclasses = ["read.select"]\n'
                          'on = ["shop.items"]\nthen = "refuse"\nmessage = "items are closed today"\n')
        gate.process.send_signal(signal.SIGHUP)
        wait_until("the reload", lambda: "loaded anew" in gate.log())
        for sql, values in (("SELECT count(*) FROM items", None), ("SELECT count(*) FROM items WHERE id = %s", (1,))):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="items are closed today"):
                db.execute(sql, values, prepare=values is not None)
        db.execute("SELECT count(*) FROM notes WHERE id = 1")
    documents = [r["payload"] for r in gate.records() if r["kind"] == "document-loaded" and r["payload"]["document"] == "policy"]
    assert [d["in_force"] for d in documents] == [True, False, True]
    assert documents[-1]["old_hash"] == documents[0]["new_hash"] != documents[-1]["new_hash"]


def test_killed_under_load(own_gate):
    """kill -9 loses nothing that a client saw answered, and the next start goes on behind the torn tail."""
    gate = own_gate()
    answered = []

    def load(n):
        try:
            with gate.connect(token=gate.idp.token("app", sub=f"loaded-{n}")) as db:
                while True:
                    row = db.execute("INSERT INTO notes (test, body) VALUES ('killed', %s) RETURNING id", (str(n),)).fetchone()
                    answered.append(row[0])
        except psycopg.Error:
            pass

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_until("some load", lambda: len(answered) > 200)
    gate.process.kill()
    gate.process.wait()
    for thread in threads:
        thread.join()
    gate.start()
    traffic(gate, "after-the-kill")
    gate.stop()
    got = gate.verify()
    assert got.returncode == 0, got.stdout + got.stderr
    # The records of the statements were durable before their answers left: each answer that was seen has one.
    records = gate.records()
    loaded = {r["session"] for r in records if r["kind"] == "authenticated" and r["payload"]["subject"].startswith("loaded-")}
    ran = [r for r in records if r["session"] in loaded and r["payload"].get("protocol") == "execute"]
    assert len(loaded) == 4 and len(ran) >= len(answered)


AGAIN = {
    "a portal again in its batch": [[parse("SELECT 1"), bind(), execute(), execute(), SYNC]],
    "a portal again behind its Sync": [
        [query("BEGIN")], [parse("SELECT 1"), bind(portal="p"), execute("p"), SYNC], [execute("p"), SYNC]],
    "a portal row by row": [
        [query("BEGIN")], [parse("SELECT generate_series(1, 3)"), bind(portal="p"), execute("p", 1), SYNC],
        [execute("p", 1), SYNC], [execute("p", 5), execute("p", 5), SYNC]],
    "a cursor by the protocol": [
        [query("BEGIN")], [query("DECLARE c CURSOR FOR SELECT generate_series(1, 3)")], [execute("c", 1), SYNC],
        [execute("c", 9), execute("c"), SYNC]],
    "a portal that failed": [
        [query("BEGIN")], [parse("SELECT 1/0"), bind(portal="p"), execute("p"), SYNC], [execute("p"), SYNC]],
    "a portal behind its transaction": [
        [query("BEGIN")], [parse("SELECT 1"), bind(portal="p"), SYNC], [query("COMMIT")], [execute("p"), SYNC]],
    "a portal that never ran": [[parse("SELECT 1"), bind(portal="p"), SYNC]],
}


def vanish(gate, how):
    segment = max(gate.evidence.glob("segment-*.evidence"))
    if how == "the segment is removed":
        segment.unlink()
    elif how == "the segment is cut":
        with open(segment, "r+b") as file:
            file.truncate(100)
    elif how == "the segment is replaced by a copy":
        copy = segment.with_name("copy")
        shutil.copy(segment, copy)
        copy.replace(segment)
    else:
        gate.evidence.rename(gate.evidence.with_name("elsewhere"))


@pytest.mark.parametrize(
    "how", ["the segment is removed", "the segment is cut", "the segment is replaced by a copy", "the directory is moved"]
)
def test_evidence_that_is_taken_away_ends_the_gateway(own_gate, how):
    """What goes into a file that no name leads to would be lost with the process: nothing is acknowledged behind it."""
    gate = own_gate()
    with gate.connect() as db:
        db.execute("SELECT 1")
        vanish(gate, how)

        def refused():
            try:
                db.execute("INSERT INTO notes (test, body) VALUES ('taken away', 'x')")
            except psycopg.Error:
                return True
            return False

        wait_until("a write is refused", refused)
    assert gate.process.wait(HANG_S) == 3
    assert "while it was written" in gate.log()


@pytest.mark.parametrize("what", AGAIN)
def test_a_statement_is_settled_once_however_often_its_portal_runs(own_gate, what):
    gate = own_gate()
    with Client(gate) as client:
        for batch in AGAIN[what]:
            client.ask(*batch)
        client.send(TERMINATE)
    gate.wait_record("its end", lambda r: r["kind"] == "session-closed")
    got = gate.verify()
    assert got.returncode == 0, got.stdout


def test_queued_records_are_stated_and_complete(gate):
    with gate.connect("queued", token=gate.idp.token("queued", sub="patient")) as db:
        for n in range(100):
            db.execute("INSERT INTO notes (test, body) VALUES ('queued', %s)", (str(n),))
            db.execute("SELECT count(*) FROM notes WHERE id = %s", (n,))
    records = session_of(gate, "patient")
    assert next(r["payload"]["durability"] for r in records if r["kind"] == "target-chosen") == "queued"
    assert sum(r["kind"] == "result" and r["payload"]["outcome"] == "completed" for r in records) == 200
    assert gate.verify().returncode == 0


def test_a_refused_text_that_no_record_holds(own_gate):
    """It is recorded as its length and its commitment: no refusal is without its record."""
    gate = own_gate(segment_bytes=1_048_576, statement_bytes_max=8_388_608)
    text = "SELECT * FROM items WHERE " + " OR ".join(f"id = {n}" for n in range(80_000))
    with Client(gate) as client:
        (refused,) = errors(client.ask(query(text)))
        assert refused["C"] == "54000" and "[ref unrecorded]" not in refused["M"], refused
        assert client.rows("SELECT 1") == [(b"1",)]
    held = gate.wait_record("the refused text", lambda r: r["kind"] == "statement" and r["payload"]["text_bytes"] == len(text))
    assert held["payload"]["action"] == "refuse", held
    gate.wait_record("its refusal", lambda r: r["kind"] == "refusal" and r["payload"]["sqlstate"] == "54000")
    assert gate.verify().returncode == 0


def test_a_full_disk(own_gate, tmp_path):
    """On a file system of its own that fills up: statements are refused with 53100, and nothing is released unrecorded."""
    disk = SmallDisk(tmp_path / "small", mib=6, mode="700")
    if disk.reason:
        pytest.skip(f"THE FULL DISK IS NOT TESTED HERE: {disk.reason}")
    gate = None
    try:
        gate = own_gate(evidence=str(disk.folder / "evidence"), segment_bytes=1_048_576, reserve_bytes=1_048_576)
        with Client(gate) as client:
            assert client.rows("SELECT 1") == [(b"1",)]
            disk.fill()
            codes = set()
            try:
                for n in range(20_000):
                    out = client.ask(query(f"SELECT {n}"))
                    codes |= {e["C"] for e in errors(out)}
                    if codes:
                        break
            except Exception as ended:  # noqa: BLE001 - a FATAL says the same
                codes.add(getattr(ended, "fields", {}).get("C"))
            assert "53100" in codes, codes
        assert gate.alive(), gate.log()[-3000:]
        with pytest.raises(psycopg.OperationalError):
            gate.connect()
        # Room again: work again, without a restart.
        disk.make_room()
        wait_until("service", lambda: gate.served() is None)
        assert gate.verify().returncode == 0
    finally:
        if gate is not None:
            gate.stop()
        disk.unmount()


@pytest.mark.parametrize("what", ["missing", "locked", "not a folder", "inconsistent"])
def test_a_folder_that_cannot_be_used(own_gate, what):
    gate = own_gate(start=False)
    other = None
    if what == "missing":
        gate.evidence.rmdir()
    elif what == "not a folder":
        gate.evidence.rmdir()
        gate.evidence.write_text("a file")
    elif what == "inconsistent":
        gate.start()
        traffic(gate, "inconsistent")
        gate.stop()
        segment = next(path for path in sorted(gate.evidence.iterdir()) if path.stat().st_size > 1000)
        data = bytearray(segment.read_bytes())
        data[data.index(b"witness-inconsistent")] ^= 1
        segment.write_bytes(data)
    else:
        gate.start()
        other = gate.process
        # A second gateway on the same folder, with a listener of its own.
        config = (gate.folder / "pgturnstile.toml").read_text()
        (gate.folder / "pgturnstile.toml").write_text(config.replace(f"127.0.0.1:{gate.port}", f"127.0.0.1:{free_port()}"))
    log = len(gate.log())
    try:
        gate.spawn()
        code = gate.process.wait(HANG_S)
        assert code in (2, 3), code
        said = gate.log()[log:]
        assert "accepting" not in said
        assert "evidence" in said, said
        if what != "inconsistent":
            assert str(gate.evidence) in said or "evidence" in said
        else:
            assert "pgturnstile verify" in said, said
        if other is not None:
            gate.process = other
            gate.served()
    finally:
        if other is not None:
            end(other)


def test_what_is_not_executed_is_recorded_as_such(gate):
    with Client(gate, token=gate.idp.token("app", sub="skipper")) as client:
        client.ask(parse("SELECT no_such_column"), bind(), execute(), SYNC)
    records = session_of(gate, "skipper")
    assert gate.verify().returncode == 0
    assert all(r["payload"].get("outcome") != "completed" for r in records if r["kind"] == "result")
