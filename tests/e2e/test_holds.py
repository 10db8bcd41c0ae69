"""Holds (README decision 14): a statement waits for people, in any driver, and its session survives whatever they say."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import psycopg
import pytest

import wire
from desk import Desk, behind, guards, human, outcome, rule
from harness import HANG_S, binary, wait_until


@pytest.fixture(scope="module")
def desk(world):
    gate = world.gateway(extra_control='socket = "control"')
    made = Desk(gate)
    gate.start()
    yield made
    assert made.open() == []
    gate.stop()
    proof = gate.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr


@pytest.fixture
def own_desk(own_gate):
    """A gateway of one test's own."""

    def make(policy=lambda text: text, **settings):
        made = Desk(own_gate(start=False, extra_control='socket = "control"', **settings), policy)
        made.gate.start()
        return made

    return make


def delete(db, mark, **how):
    return outcome(lambda: db.execute("DELETE FROM notes WHERE test = %s", (mark,), **how).rowcount)


def test_what_is_approved_runs_once_as_it_was_shown(desk):
    desk.write("approved")
    notices = []
    with behind() as start, desk.connect() as db:
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        running = start(lambda: delete(db, "approved"))
        hold = desk.one()
        ident = hold["id"]
        # Nobody sees a value without a token; an approver sees exactly what would run.
        assert "approved" not in json.dumps(hold["lifted"]) and "text" not in hold and "parameters" not in hold
        assert (hold["requester"]["subject"], hold["requester"]["person"], hold["target"]) == ("agent-7", "kim@example.com", "shop")
        assert hold["reaches"] == ["shop.notes (write.delete)"] and hold["needs"][0]["missing"] == 1
        shown = json.loads(desk.run("holds", ident, "--json", token=desk.approver("lee")).stdout)
        assert (shown["text"], shown["parameters"]) == ("DELETE FROM notes WHERE test = $1", ["approved"])
        picture = desk.run("holds", ident, token=desk.approver("lee")).stdout
        assert "DELETE FROM notes WHERE test = $1" in picture and "$1          approved" in picture
        assert desk.run("holds", ident, token=desk.agent()).returncode == 1, "the requester is no approver"
        wait_until("notices", lambda: len(notices) > 1)
        assert f"pgturnstile approve {ident}" in notices[0] and "s left" in notices[0]
        assert desk.notes("approved") == 1 and not running.done()
        said = desk.approve(ident)
        assert said.returncode == 0 and "approved" in said.stdout, said.stderr
        assert running.result(HANG_S) == 1 and desk.notes("approved") == 0
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert desk.run("hold", "wait", ident).returncode == 0
    told = desk.told(ident)
    assert [record["kind"] for record in told] == ["hold-opened", "hold-decided", "hold-ended"]
    opened, decided, ended = (record["payload"] for record in told)
    assert (decided["decision"], decided["person"], decided["refused"]) == ("approve", "lee@example.com", None)
    assert decided["binding"] == opened["binding"] and ended["outcome"] == "released"
    assert "dev/lee@example.com" in json.dumps(ended["approved_by"])


def test_the_evidence_says_who_approved_next_to_the_statement(desk):
    desk.write("told")
    with behind() as start, desk.connect() as db:
        running = start(lambda: delete(db, "told"))
        ident = desk.one()["id"]
        assert desk.approve(ident, "kay").returncode == 0
        assert running.result(HANG_S) == 1
    records = desk.gate.records()
    released = next(r for r in records if r["kind"] == "hold-ended" and r["payload"]["hold"] == ident)
    mine = [r for r in records if r["session"] == released["session"]]
    statement = next(r for r in mine if r["session_sequence"] == released["refers"])
    result = next(r for r in mine if r["kind"] == "result" and r.get("refers") == released["refers"])
    assert statement["payload"]["action"] == "hold" and result["payload"]["tag"] == "DELETE 1"
    assert statement["sequence"] < released["sequence"] < result["sequence"]
    asked = subprocess.run(
        [binary(), "evidence", "query", desk.gate.evidence, "--verdict", "hold", "--json"], capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    holds = [hold for event in found for hold in event["detail"]["holds"] if hold["hold"] == ident]
    assert [hold.get("outcome") for hold in holds] == [None, "released"]
    assert "kay@example.com" in json.dumps(holds[1]["approved_by"])


def test_what_is_denied_is_one_error_with_its_reason_and_the_session_goes_on(desk):
    desk.write("denied")
    script = "\\set VERBOSITY verbose\nDELETE FROM notes WHERE test = 'denied';\nSELECT 'still ' || 'here';\n"
    environment = {"PGPASSWORD": desk.agent()}
    with behind() as start:
        running = start(lambda: desk.gate.psql("-v", "ON_ERROR_STOP=0", stdin=script, env=environment))
        ident = desk.one()["id"]
        assert desk.run("deny", ident, "--reason", " ", token=desk.approver("lee")).returncode == 2, "a reason is needed"
        assert desk.deny(ident, "not on a Friday").returncode == 0
        got = running.result(HANG_S)
    assert got.stderr.count("ERROR:") == 1 and "PH001" in got.stderr and "not on a Friday" in got.stderr, got.stderr
    assert f"pgturnstile approve {ident}" in got.stderr, "psql shows the notice"
    assert "lee@example.com" in got.stderr and got.stdout.strip() == "still here"
    assert desk.notes("denied") == 1
    waited = desk.run("hold", "wait", ident, "--json")
    assert waited.returncode == 10 and json.loads(waited.stdout)["state"] == "denied"


def test_nobody_decides_and_it_expires(desk):
    with desk.connect() as db:
        error = outcome(lambda: db.execute("DELETE FROM wide WHERE id = -1"))
        assert error.sqlstate == "PH002" and "nobody decided" in str(error)
        ident = re.search(r"hold ([0-9A-Z-]{14})", str(error)).group(1)
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert desk.run("hold", "wait", ident).returncode == 11
    late = desk.approve(ident)
    assert late.returncode == 1 and "expired" in late.stderr


def test_a_cancel_request_withdraws_it(desk):
    desk.write("cancelled")
    with behind() as start, desk.connect() as db:
        running = start(lambda: delete(db, "cancelled"))
        ident = desk.one()["id"]
        db.cancel()
        error = running.result(HANG_S)
        assert isinstance(error, psycopg.errors.QueryCanceled) and "not sent" in str(error)
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert desk.run("hold", "wait", ident).returncode == 12
    assert desk.approve(ident).returncode == 1 and desk.notes("cancelled") == 1
    assert [record["payload"].get("outcome") for record in desk.told(ident)] == [None, "withdrawn"]


@pytest.mark.parametrize("how", ["terminate", "close"])
def test_a_client_that_goes_takes_its_hold_along(desk, how):
    desk.write(f"gone {how}")
    client = wire.Client(desk.gate, token=desk.agent())
    client.send(wire.query(f"DELETE FROM notes WHERE test = 'gone {how}'"))
    ident = desk.one()["id"]
    if how == "terminate":
        client.send(wire.TERMINATE)
    client.sock.close()
    wait_until("it is withdrawn", lambda: desk.state(ident) == "withdrawn")
    assert desk.approve(ident).returncode == 1 and desk.notes(f"gone {how}") == 1


def test_nothing_behind_it_moves_and_what_stands_before_it_is_answered(desk):
    """A batch without a transaction block: what ran before the held statement is rolled back with a denial, as the server does it."""
    insert = "INSERT INTO notes (test) VALUES ('batch')"
    frames = [wire.parse(insert), wire.bind(), wire.execute(), wire.parse("DELETE FROM notes WHERE test = $1"), wire.bind("batch"),
              wire.execute(), wire.parse(insert), wire.bind(), wire.execute(), wire.SYNC]
    for decide, wanted, left in ((desk.approve, "12C12C12CZ", 1), (lambda ident: desk.deny(ident, "no"), "12C1EZ", 0)):
        with wire.Client(desk.gate, token=desk.agent()) as client:
            client.send(*frames)
            # The answers to what stands before it come although nobody asked for them yet.
            before = [client.read() for _ in range(4)]
            ident = desk.one()["id"]
            assert wire.tags(before) == "12C1"
            assert decide(ident).returncode == 0
            rest = client.until_ready()
            assert wire.tags(before + rest) == wanted
            if "E" in wanted:
                assert wire.errors(rest)[0]["C"] == "PH001"
            assert client.rows("SELECT 1") == [(b"1",)]
        assert desk.notes("batch") == left
        with desk.gate.database.superuser() as superuser:
            superuser.execute("DELETE FROM shop.notes WHERE test = 'batch'")


def test_in_a_transaction(desk):
    desk.write("in transaction")
    for decide, works in ((lambda ident: desk.deny(ident, "no"), False), (desk.approve, True)):
        with behind() as start, desk.connect(autocommit=False) as db:
            db.execute("INSERT INTO notes (test) VALUES ('in transaction')")
            running = start(lambda: delete(db, "in transaction"))
            hold = desk.one()
            assert hold["in_transaction"]
            assert decide(hold["id"]).returncode == 0
            got = running.result(HANG_S)
            if works:
                assert got == 2
                db.commit()
            else:
                assert got.sqlstate == "PH001" and db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
                with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                    # Nobody is asked for what the server would refuse.
                    db.execute("DELETE FROM notes WHERE test = 'in transaction'")
                db.rollback()
    assert desk.notes("in transaction") == 0


def test_two_must_approve_and_they_must_be_two(desk):
    desk.write("two")
    with behind() as start, desk.connect() as db:
        running = start(lambda: outcome(lambda: db.execute("UPDATE notes SET body = 'x' WHERE test = 'two'").rowcount))
        ident = desk.one()["id"]
        first = desk.approve(ident, "lee")
        assert first.returncode == 0 and "1 more must approve" in first.stdout
        again = desk.approve(ident, "lee")
        assert again.returncode == 1 and "already" in again.stderr
        # The same person by another subject.
        twin = desk.run("approve", ident, token=desk.gate.idp.token("dba", sub="lee-at-home", **human("lee")))
        assert twin.returncode == 1 and not running.done()
        assert desk.open()[0]["approved_by"] == ["dev/lee@example.com"]
        assert desk.approve(ident, "kay").returncode == 0
        assert running.result(HANG_S) == 1
    refused = [record["payload"]["refused"] for record in desk.told(ident) if record["kind"] == "hold-decided"]
    assert refused == [None, "again", "again", None], "each attempt is recorded"


def test_who_may_not_decide(desk):
    desk.write("separated")
    with behind() as start, desk.connect() as db:
        running = start(lambda: delete(db, "separated"))
        ident = desk.one()["id"]
        both = desk.gate.idp.token("app", "dba", sub="agent-7", **human("kim"))
        nameless = desk.gate.idp.token("dba", sub="somebody")
        cases = {
            "the requester": (desk.agent(), "your own"),
            "the requester, in the group": (both, "your own"),
            "the person behind the agent": (desk.approver("kim"), "your own"),
            "no approver": (desk.approver("max", "app"), "none of the groups"),
            "expired": (desk.gate.idp.token("dba", sub="old", ttl=1, **human("old")), None),
            "no token": ("nonsense", "login refused"),
            "of another audience": (desk.gate.idp.token("dba", sub="eve", audience="other", **human("eve")), "login refused"),
        }
        for who, (token, words) in cases.items():
            if who == "expired":
                wait_until("it is expired", lambda: desk.run("holds", ident, token=token).returncode == 1)
                words = "login refused"
            said = desk.run("approve", ident, token=token)
            assert said.returncode == 1 and words in said.stderr, (who, said.stderr)
            assert desk.run("deny", ident, "--reason", "no", token=token).returncode == 1, who
            assert token not in desk.gate.log()
        assert desk.run("approve", ident).returncode == 2, "no token at all"
        assert not running.done()
        # Who cannot be compared with the requester is one of two.
        assert "1 more" in desk.run("approve", ident, token=nameless).stdout
        assert not running.done()
        assert desk.approve(ident, "kay").returncode == 0
        assert running.result(HANG_S) == 1


def test_an_approval_is_for_one_statement_once(desk):
    for mark in ("once", "another"):
        desk.write(mark)
    with behind() as start, desk.connect() as db:
        running = start(lambda: delete(db, "once"))
        first = desk.one()
        assert desk.approve(first["id"]).returncode == 0 and running.result(HANG_S) == 1
        replayed = desk.approve(first["id"], "kay")
        assert replayed.returncode == 1 and "released already" in replayed.stderr
        # The same again, and with another value: each is held anew, and bound to what it is.
        ids, bindings = {first["id"]}, {first["binding"]}
        for mark in ("once", "another"):
            running = start(lambda mark=mark: delete(db, mark))
            hold = desk.one(ids)
            ids.add(hold["id"])
            bindings.add(hold["binding"])
            assert desk.approve(first["id"], "kay").returncode == 1 and not running.done()
            assert desk.deny(hold["id"], "no").returncode == 0
            assert running.result(HANG_S).sqlstate == "PH001"
        assert len(ids) == 3 and len(bindings) == 2, "what is the same binds the same, and is asked again all the same"
    assert desk.notes("another") == 1


def test_reads_and_prepared_statements_of_sql_are_held_where_they_run(desk):
    with behind() as start, desk.connect() as db:
        running = start(lambda: outcome(lambda: db.execute("SELECT count(*) FROM binaries").fetchone()))
        assert desk.approve(desk.one()["id"]).returncode == 0
        assert running.result(HANG_S) == (0,)
        db.execute("PREPARE doomed AS DELETE FROM notes WHERE test = $1 AND body IS NOT DISTINCT FROM 'nobody'")
        running = start(lambda: outcome(lambda: db.execute("EXECUTE doomed('x')").rowcount))
        hold = desk.one()
        shown = json.loads(desk.run("holds", hold["id"], "--json", token=desk.approver("lee")).stdout)
        assert shown["text"] == "EXECUTE doomed('x')" and "'nobody'" in shown["runs"][0]
        assert desk.approve(hold["id"]).returncode == 0 and running.result(HANG_S) == 0


def test_several_statements_of_one_text_are_approved_together_or_not_at_all(desk):
    desk.write("together")
    text = "INSERT INTO notes (test) VALUES ('together'); DELETE FROM notes WHERE test = 'together'"
    with behind() as start, desk.connect() as db:
        running = start(lambda: outcome(lambda: db.execute(text)))
        hold = desk.one()
        assert [one["class"] for one in hold["statements"]] == ["write.insert", "write.delete"]
        assert desk.notes("together") == 1, "not half of it"
        assert desk.approve(hold["id"]).returncode == 0
        assert not isinstance(running.result(HANG_S), Exception) and desk.notes("together") == 0


def test_a_reload_judges_what_waits_anew(own_desk):
    desk = own_desk()
    policy = desk.gate.folder / "policy.toml"
    before = policy.read_text()
    desk.write("reloaded")

    def reload(text):
        policy.write_text(text)
        desk.gate.process.send_signal(signal.SIGHUP)

    with behind() as start, desk.connect() as db:
        running = start(lambda: delete(db, "reloaded"))
        first = desk.one()
        # The same policy: it waits on, under the same id.
        reload(before)
        wait_until("it is loaded", lambda: desk.gate.log().count("the configuration was loaded anew") == 1)
        assert desk.one()["id"] == first["id"]
        # Another policy that holds it, too: an approval of before is none of now.
        reload(before + "\n# another policy\n")
        second = desk.one((first["id"],))
        assert desk.run("hold", "wait", first["id"]).returncode == 13
        assert desk.approve(first["id"]).returncode == 1 and not running.done()
        # One that lets it pass.
        reload(before.replace('id = "one-approves"\ngroups = ["app"]', 'id = "one-approves"\ngroups = ["reader"]'))
        assert running.result(HANG_S) == 1 and desk.notes("reloaded") == 0
        assert desk.state(second["id"]) == "superseded"
        # One that refuses it.
        reload(before)
        wait_until("it is loaded", lambda: desk.gate.log().count("the configuration was loaded anew") == 4)
        running = start(lambda: delete(db, "reloaded"))
        third = desk.one()
        reload(before + rule("no", ["write.delete"], "shop.notes").replace('then = "hold"', 'then = "refuse"').split("hold = ")[0])
        error = running.result(HANG_S)
        assert error.sqlstate == "42501" and "rule no" in str(error)
        assert desk.state(third["id"]) == "superseded"


def test_what_it_reaches_is_changed_while_it_waits(own_desk):
    desk = own_desk()
    with behind() as start, desk.connect() as db, desk.gate.database.superuser() as superuser:
        running = start(lambda: delete(db, "drifted"))
        first = desk.one()
        superuser.execute("CREATE TABLE shop.elsewhere (n int)")
        superuser.execute("ALTER TABLE shop.notes ADD COLUMN drifted int")
        try:
            second = desk.one((first["id"],))
            assert desk.state(first["id"]) == "superseded" and second["binding"] != first["binding"]
            assert desk.approve(second["id"]).returncode == 0 and running.result(HANG_S) == 0
        finally:
            superuser.execute("ALTER TABLE shop.notes DROP COLUMN drifted")
            superuser.execute("DROP TABLE shop.elsewhere")


def test_a_drain_gives_up_what_waits_with_one_error(own_desk):
    desk = own_desk(drain_deadline_s=30)
    desk.write("drained")
    with wire.Client(desk.gate, token=desk.agent()) as client:
        client.send(wire.query("DELETE FROM notes WHERE test = 'drained'"))
        desk.one()
        desk.gate.process.send_signal(signal.SIGTERM)
        told = wire.errors(client.rest())
    assert [error["C"] for error in told][0] == "PH003" and told[-1]["C"] == "57P01"
    desk.gate.process.wait(HANG_S)
    assert desk.notes("drained") == 1 and desk.gate.verify().returncode == 0


def test_a_gateway_that_is_killed_runs_nothing_that_waited(own_desk):
    desk = own_desk()
    desk.write("killed while held")
    with behind() as start:
        db = desk.connect()
        running = start(lambda: delete(db, "killed while held"))
        ident = desk.one()["id"]
        desk.gate.stop(signal.SIGKILL)
        assert isinstance(running.result(HANG_S), psycopg.OperationalError)
        (desk.gate.folder / "control").unlink(missing_ok=True)
        desk.gate.start()
        assert desk.run("holds", ident).returncode == 1 and desk.approve(ident).returncode == 1
    assert desk.notes("killed while held") == 1 and desk.open() == []
    assert [record["kind"] for record in desk.told(ident)] == ["hold-opened"], "opened, and never ended"


def test_it_outlives_the_timeouts_of_the_server(own_desk):
    """statement_timeout counts from the first frame of a batch, idle_in_transaction_session_timeout from ReadyForQuery."""
    desk = own_desk(lambda text: guards(text, statement_timeout_ms=2_000, idle_in_transaction_ms=4_000))
    desk.write("timeouts")
    notices = []

    def waited(db, mark, work):
        notices.clear()
        with behind() as start:
            running = start(work)
            ident = desk.one()["id"]
            wait_until("longer than the timeouts", lambda: len(notices) > 6 or running.done())
            assert not running.done(), running.result()
            assert desk.approve(ident).returncode == 0
            return running.result(HANG_S)

    with desk.connect() as db:
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        # Parse and Bind in one batch; then the same in a transaction; then a simple query in one.
        assert waited(db, "timeouts", lambda: delete(db, "timeouts")) == 1
        db.execute("BEGIN")
        assert waited(db, "timeouts", lambda: delete(db, "timeouts")) == 0
        sql = "DELETE FROM notes WHERE test = 'timeouts'"
        assert waited(db, "timeouts", lambda: outcome(lambda: db.execute(sql, prepare=False).rowcount)) == 0
        db.execute("COMMIT")


def test_fifty_held_sessions_leave_a_busy_one_alone(own_desk):
    desk = own_desk()
    clients = []
    try:
        for number in range(50):
            client = wire.Client(desk.gate, token=desk.agent())
            client.send(wire.query(f"DELETE FROM notes WHERE test = 'held {number}'"))
            clients.append(client)
        wait_until("all are held", lambda: len(desk.open()) == 50)
        with desk.connect() as db:
            for number in range(200):
                assert db.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        assert desk.gate.metrics()['pgturnstile_sessions{state="awaiting_approval"}'] == 50
        for hold in desk.open():
            assert desk.approve(hold["id"]).returncode == 0
        for client in clients:
            assert "C" in wire.tags(client.until_ready())
    finally:
        for client in clients:
            client.sock.close()


def test_no_more_are_held_than_may_be(own_desk):
    desk = own_desk()
    configuration = desk.gate.folder / "pgturnstile.toml"
    configuration.write_text(configuration.read_text() + "open_per_requester_max = 1\n")
    desk.gate.process.send_signal(signal.SIGHUP)
    wait_until("it is loaded", lambda: "the configuration was loaded anew" in desk.gate.log())
    with behind() as start, desk.connect() as db, desk.connect() as other:
        running = start(lambda: delete(db, "first"))
        ident = desk.one()["id"]
        error = delete(other, "second")
        assert error.sqlstate == "PH004" and "open_per_requester_max" in str(error)
        assert desk.approve(ident).returncode == 0 and running.result(HANG_S) == 0


def test_who_only_reads_pages_or_asks_wrongly_changes_nothing(desk):
    status, body = desk.gate.page("/holds")
    assert status == 404 and b"control socket" in body, "never on the network"
    for arguments in (("holds", "no-such-id"), ("approve", "7K3M-9QX2-TB4R"), ("hold", "wait", "7K3M-9QX2-TB4R")):
        assert desk.run(*arguments, token=desk.approver("lee")).returncode == 1, arguments
    assert desk.run("holds").returncode == 0
    assert binary().exists()
