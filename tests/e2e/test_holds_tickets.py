"""Tickets (README decision 14): nobody waits, people decide, and exactly that statement passes once; whatever differs is asked for anew."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from desk import APPROVERS, Desk, human, outcome, rule
from harness import HANG_S, binary, wait_until

TICKET = ', ticket_ttl_s = 300, mode = "ticket"'
RULES = (
    APPROVERS
    + '\n[[permit]]\nid = "temp"\ngroups = ["app"]\ntargets = ["shop"]\nclasses = ["ddl.temp", "write", "read"]\non = ["*"]\n'
    + '\n[group.other]\nany = [{ issuer = "dev", groups = ["other"] }]\n'
    + '\n[[access]]\nid = "other"\ngroups = ["other"]\ntargets = ["shop"]\nlogin = "owner"\nmode = "write"\n'
    + 'guards = { search_path = ["shop", "evil"] }\n'
    + rule("delete-ticket", ["write.delete"], "shop.notes", tickets=TICKET)
    + rule("update-ticket", ["write.update"], "shop.notes", quorum=2, tickets=TICKET)
    + rule("insert-ticket", ["write.insert"], "shop.notes", tickets=TICKET)
    + rule("unanswered", ["write.delete"], "shop.wide", ttl=1, tickets=", ticket_ttl_s = 300")
    + rule("short", ["write.update"], "shop.wide", tickets=', ticket_ttl_s = 1, mode = "ticket"')
    + rule("view", ["read.select"], "shop.noted", tickets=TICKET)
    + rule("code", ["read.select"], "shop.items", tickets=TICKET)
)
DELETE = "DELETE FROM notes WHERE test = %s"


@pytest.fixture(scope="module")
def desk(world):
    gate = world.gateway(extra_control='socket = "control"')
    with world.database.superuser() as superuser:
        superuser.execute("CREATE OR REPLACE VIEW shop.noted AS SELECT test FROM shop.notes")
        superuser.execute("GRANT SELECT ON shop.noted TO app_login")
    made = Desk(gate, rules=RULES)
    gate.start()
    yield made
    gate.stop()
    with world.database.superuser() as superuser:
        superuser.execute("DROP VIEW shop.noted")
    proof = gate.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr


@pytest.fixture
def own_desk(own_gate):
    """A gateway of one test's own."""

    def make(**settings):
        made = Desk(own_gate(start=False, extra_control='socket = "control"', **settings), rules=RULES)
        made.gate.start()
        return made

    return make


def run(db, sql, *values, **how):
    return outcome(lambda: db.execute(sql, values or None, **how).rowcount)


def delete(db, mark, **how):
    return run(db, DELETE, mark, **how)


def ticket(error) -> str:
    """The id in an error that says that a statement is a ticket."""
    assert getattr(error, "sqlstate", None) == "PH005", error
    assert "run the same statement again" in str(error) and re.search(r"until \d{4}-\d\d-\d\dT", str(error)), error
    return re.search(r"ticket ([0-9A-Z-]{14})", str(error)).group(1)


def approved(desk, error, *names) -> str:
    ident = ticket(error)
    for name in names or ("lee",):
        said = desk.approve(ident, name)
        assert said.returncode == 0, said.stderr
    return ident


def restart(desk):
    (desk.gate.folder / "control").unlink(missing_ok=True)
    desk.gate.start()


def caught_up(desk, change):
    """Until the gateway has read the catalog behind `change`."""
    read = desk.gate.log().count("catalog read")
    with desk.gate.database.superuser() as superuser:
        superuser.execute(change)
    wait_until("the catalog is read anew", lambda: desk.gate.log().count("catalog read") > read)


def test_by_mode_it_is_refused_at_once_and_passes_once_when_it_is_approved(desk):
    desk.write("ticket once")
    with desk.connect() as db:
        first = delete(db, "ticket once")
        ident = ticket(first)
        assert desk.open() == [] and desk.notes("ticket once") == 1
        # While nobody has decided, it is the same ticket.
        assert ticket(delete(db, "ticket once")) == ident
        told = desk.tickets()[ident]
        assert (told["state"], told["ticket"], told["requester"]["subject"]) == ("open", True, "agent-7")
        assert "text" not in told and "ticket once" not in json.dumps(told["lifted"])
        shown = json.loads(desk.run("tickets", ident, "--json", token=desk.approver("lee")).stdout)
        assert (shown["text"], shown["parameters"]) == ("DELETE FROM notes WHERE test = $1", ["ticket once"])
        assert ident in desk.run("tickets").stdout and "ticket" in desk.run("tickets", ident).stdout
        said = desk.approve(ident)
        assert said.returncode == 0 and "passes once" in said.stdout, said.stderr
        assert desk.run("hold", "wait", ident).returncode == 0, "approved: the job is run again"
        assert desk.notes("ticket once") == 1, "an approval sends nothing"
    # In another session of the same requester.
    with desk.connect() as db:
        assert delete(db, "ticket once") == 1 and desk.notes("ticket once") == 0
        desk.write("ticket once")
        again = ticket(delete(db, "ticket once"))
        assert again != ident and desk.notes("ticket once") == 1, "the second time it is asked for anew"
        assert desk.state(ident) == "used" and desk.approve(ident, "kay").returncode == 1
        assert desk.run("hold", "wait", ident).returncode == 0
        assert db.execute("SELECT 1").fetchone() == (1,)
    told = desk.told_of_ticket(ident)
    assert [record["kind"] for record in told] == ["ticket-opened", "ticket-decided", "ticket-used", "ticket-decided"]
    opened, counts, used, late = (record["payload"] for record in told)
    assert (counts["decision"], counts["person"], counts["refused"]) == ("approve", "lee@example.com", None)
    assert late["refused"] == "decided" and opened["binding"] == counts["binding"] == used["binding"]
    assert "dev/lee@example.com" in json.dumps(used["approved_by"])
    # The use stands before the result of the statement that it let pass, and is told with it.
    records = desk.gate.records()
    release = next(r for r in records if r["kind"] == "ticket-used" and r["payload"]["ticket"] == ident)
    mine = [r for r in records if r["session"] == release["session"]]
    result = next(r for r in mine if r["kind"] == "result" and r.get("refers") == release["refers"])
    assert release["sequence"] < result["sequence"] and result["payload"]["tag"] == "DELETE 1"
    asked = subprocess.run(
        [binary(), "evidence", "query", desk.gate.evidence, "--verdict", "hold", "--json"], capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert any(hold.get("ticket") == ident for event in found for hold in event["detail"]["holds"])


def test_unanswered_it_becomes_a_ticket(desk):
    with desk.connect() as db:
        error = run(db, "DELETE FROM wide WHERE id = %s", -1)
        ident = ticket(error)
        assert "nobody decided within 1 s" in str(error)
        bears = [record for record in desk.gate.records() if ident in map(record.get("payload", {}).get, ("hold", "ticket"))]
        told = [record["kind"] for record in bears]
        assert told == ["hold-opened", "ticket-opened", "hold-ended"]
        approved(desk, error)
        assert run(db, "DELETE FROM wide WHERE id = %s", -1) == 0, "it passes without a pause"


def test_with_psql_and_a_denial_whose_reason_comes_with_the_next_try(desk):
    desk.write("ticket psql")
    environment = {"PGPASSWORD": desk.agent()}
    script = "\\set VERBOSITY verbose\nDELETE FROM notes WHERE test = 'ticket psql';\n"

    def psql():
        return desk.gate.psql("-v", "ON_ERROR_STOP=0", stdin=script, env=environment).stderr

    ident = re.search(r"ticket ([0-9A-Z-]{14})", psql()).group(1)
    said = desk.deny(ident, "not on a Friday")
    assert said.returncode == 0 and "told" in said.stdout, said.stderr
    assert desk.run("hold", "wait", ident).returncode == 10
    told = psql()
    assert "PH001" in told and "not on a Friday" in told and "lee@example.com" in told and ident in told
    # Told once: who changed his mind is asked again.
    again = psql()
    assert "PH005" in again and ident not in again and desk.notes("ticket psql") == 1
    assert [record["kind"] for record in desk.told_of_ticket(ident)] == ["ticket-opened", "ticket-decided", "ticket-ended"]


def test_an_approval_that_nobody_has_used_is_taken_back(desk):
    with desk.connect() as db:
        ident = approved(desk, delete(db, "ticket taken back"))
        assert desk.deny(ident, "on second thoughts", "kay").returncode == 0
        error = delete(db, "ticket taken back")
        assert error.sqlstate == "PH001" and "on second thoughts" in str(error)


def test_other_parameters_and_texts_are_asked_for_anew_and_it_is_said(desk):
    with desk.connect() as db:
        ident = approved(desk, delete(db, "ticket mine"))
        other = delete(db, "ticket yours")
        assert ticket(other) != ident and ident in str(other) and "the parameters" in str(other)
        binary_form = outcome(lambda: db.execute("DELETE FROM notes WHERE test = %b", ("ticket mine",)).rowcount)
        assert ticket(binary_form) != ident
        simple = run(db, "DELETE FROM notes WHERE test = 'ticket mine'")
        assert ticket(simple) != ident
        assert ticket(run(db, "DELETE FROM notes WHERE test = %s ", "ticket mine")) != ident, "a blank more"
        assert delete(db, "ticket mine") == 0, "and the ticket is still good for what it is for"
        literal = approved(desk, run(db, "DELETE FROM notes WHERE test = 'literal 1'"))
        other = run(db, "DELETE FROM notes WHERE test = 'literal 2'")
        assert ticket(other) != literal and literal in str(other) and "the text" in str(other)


def test_another_transaction_state_setting_or_identity(desk):
    with desk.connect() as db:
        ident = approved(desk, delete(db, "ticket where"))
        db.execute("BEGIN")
        inside = delete(db, "ticket where")
        assert ticket(inside) != ident and "whether a transaction is open" in str(inside)
        db.execute("ROLLBACK")
        db.execute("SET datestyle = 'German'")
        other = delete(db, "ticket where")
        assert ticket(other) != ident and "a setting" in str(other)
        db.execute("SET datestyle = 'ISO, MDY'")
        with desk.gate.connect(token=desk.agent(sub="agent-8")) as twin:
            twins = delete(twin, "ticket where")
            assert ticket(twins) != ident and ident not in str(twins), "another's tickets are not told of"
        grouped = desk.gate.idp.token("app", "queued", sub="agent-7", **human("kim"))
        with desk.gate.connect(group="queued", token=grouped) as elsewhere:
            other = delete(elsewhere, "ticket where")
            assert ticket(other) != ident and "who asks" in str(other) and "the access entry" in str(other)
        grouped = desk.gate.idp.token("app", "other", sub="agent-7", **human("kim"))
        with desk.gate.connect(group="other", token=grouped) as elsewhere:
            # Another login, with another search path.
            other = delete(elsewhere, "ticket where")
            assert ticket(other) != ident and "the role, the search path" in str(other)
        assert delete(db, "ticket where") == 0


def test_what_one_session_alone_has_gets_no_ticket(desk):
    sql = "DELETE FROM notes WHERE test = 'shadowed'"
    with desk.connect() as db:
        ident = approved(desk, run(db, sql))
        db.execute("PREPARE doomed AS DELETE FROM notes WHERE test = 'prepared'")
        named = run(db, "EXECUTE doomed")
        assert named.sqlstate == "PH004" and "its session alone has" in str(named), named
    for name in ("passing", "notes"):
        with desk.connect() as db:
            db.execute(f"CREATE TEMP TABLE {name} (n int, test text)")
            shadowed = run(db, sql)
            assert shadowed.sqlstate == "PH004" and "temporary" in str(shadowed), shadowed
            assert desk.state(ident) == "approved"
    with desk.connect() as db:
        nowhere = run(db, "DELETE FROM notes WHERE test = (SELECT test FROM nowhere)")
        assert nowhere.sqlstate in ("PH004", "42501", "42P01"), nowhere
        assert run(db, sql) == 0


def test_a_view_or_function_that_was_replaced(desk):
    read, call = "SELECT count(*) FROM noted", "SELECT shop.shout(name) FROM items WHERE id = -1"
    before = desk.gate.database.one("SELECT pg_get_functiondef('shop.shout(text)'::regprocedure)")
    with desk.connect() as db:
        tickets = {sql: approved(desk, run(db, sql)) for sql in (read, call)}
        caught_up(desk, "CREATE OR REPLACE VIEW shop.noted AS SELECT test FROM shop.notes WHERE test <> ''")
        other = run(db, read)
        assert ticket(other) != tickets[read] and "what it reaches" in str(other)
        other = run(db, call)
        assert ticket(other) != tickets[call] and "what it reaches" in str(other)
        again = approved(desk, other)
        caught_up(
            desk,
            "CREATE OR REPLACE FUNCTION shop.shout(message text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN upper(message); END $$",
        )
        assert ticket(run(db, call)) != again
        assert outcome(lambda: db.execute("SELECT 1").fetchone()) == (1,)
    caught_up(desk, before)


def test_two_must_approve_and_the_requester_is_none_of_them(desk):
    sql = "UPDATE notes SET body = 'x' WHERE test = %s"
    with desk.connect() as db:
        ident = ticket(run(db, sql, "ticket two"))
        own = desk.gate.idp.token("app", "dba", sub="agent-7", **human("kim"))
        for token, words in ((own, "your own"), (desk.approver("kim"), "your own"), (desk.approver("max", "app"), "none of the groups")):
            for command in (("approve", ident), ("deny", ident, "--reason", "no")):
                said = desk.run(*command, token=token)
                assert said.returncode == 1 and words in said.stderr, said.stderr
        assert desk.run("tickets", ident, token=own).returncode == 1
        first = desk.approve(ident, "lee")
        assert first.returncode == 0 and "1 more must approve" in first.stdout
        assert desk.approve(ident, "lee").returncode == 1
        assert ticket(run(db, sql, "ticket two")) == ident, "one is not enough"
        assert desk.approve(ident, "kay").returncode == 0
        assert run(db, sql, "ticket two") == 0
    refused = [record["payload"]["refused"] for record in desk.told_of_ticket(ident) if record["kind"] == "ticket-decided"]
    assert refused.count(None) == 2 and "requester" in refused and "no-approver" in refused and "again" in refused


def test_its_time_is_up(desk):
    with desk.connect() as db:
        ident = ticket(run(db, "UPDATE wide SET payload = '' WHERE id = %s", -1))
        wait_until("it has expired", lambda: desk.state(ident) == "expired")
        assert desk.run("hold", "wait", ident).returncode == 11
        assert desk.approve(ident).returncode == 1
        assert ticket(run(db, "UPDATE wide SET payload = '' WHERE id = %s", -1)) != ident
    wait_until("it is recorded", lambda: [r["payload"].get("outcome") for r in desk.told_of_ticket(ident)][-1:] == ["expired"])


def test_of_many_sessions_that_come_with_one_ticket_one_passes(desk):
    sql = "INSERT INTO notes (test) VALUES (%s)"
    with desk.connect() as db:
        ident = approved(desk, run(db, sql, "ticket race"))
    connections = [desk.connect() for _ in range(8)]
    try:
        with ThreadPoolExecutor(len(connections)) as pool:
            came = list(pool.map(lambda db: run(db, sql, "ticket race"), connections))
    finally:
        for db in connections:
            db.close()
    assert came.count(1) == 1 and desk.notes("ticket race") == 1, came
    assert all(one == 1 or ticket(one) != ident for one in came)


def test_another_policy(own_desk):
    desk = own_desk()
    policy = desk.gate.folder / "policy.toml"
    with desk.connect() as db:
        first, second = approved(desk, delete(db, "ticket policy")), ticket(delete(db, "ticket undecided"))
        policy.write_text(policy.read_text() + "\n# another policy\n")
        desk.gate.process.send_signal(signal.SIGHUP)
        wait_until("it is loaded", lambda: "the configuration was loaded anew" in desk.gate.log())
        other = delete(db, "ticket policy")
        assert ticket(other) != first and "the policy" in str(other)
        late = desk.approve(second)
        assert late.returncode == 1 and "another policy" in late.stderr


def test_a_kill_loses_no_ticket_and_no_decision(own_desk):
    desk = own_desk()
    sql = "INSERT INTO notes (test) VALUES (%s)"
    with desk.connect() as db:
        good, undecided, denied = (run(db, sql, mark) for mark in ("ticket kept", "ticket undecided", "ticket denied"))
        approved(desk, good)
        assert desk.deny(ticket(denied), "never").returncode == 0
    desk.gate.stop(signal.SIGKILL)
    restart(desk)
    states = {ident: told["state"] for ident, told in desk.tickets().items()}
    assert states == {ticket(good): "approved", ticket(undecided): "open", ticket(denied): "denied"}
    with desk.connect() as db:
        assert run(db, sql, "ticket kept") == 1 and desk.notes("ticket kept") == 1
        assert "never" in str(run(db, sql, "ticket denied"))
        approved(desk, undecided)
        assert run(db, sql, "ticket undecided") == 1
    # Used is used, also behind a kill.
    desk.gate.stop(signal.SIGKILL)
    restart(desk)
    with desk.connect() as db:
        assert ticket(run(db, sql, "ticket kept")) != ticket(good) and desk.notes("ticket kept") == 1
    # At whatever moment it is killed, the statement ran once at most.
    for number in range(3):
        mark = f"ticket killed {number}"
        with desk.connect() as db:
            approved(desk, run(db, sql, mark))
        journal = desk.gate.folder / "state" / "tickets.journal"
        uses = journal.read_text().count('{"Used"')
        with ThreadPoolExecutor(1) as pool:
            db = desk.connect()
            running = pool.submit(run, db, sql, mark)
            if number:
                # As soon as its use is in the journal, perhaps before it is sent.
                while not running.done() and journal.read_text().count('{"Used"') == uses:
                    pass
            desk.gate.stop(signal.SIGKILL)
            running.result(HANG_S)
        restart(desk)
        with desk.connect() as db:
            again = run(db, sql, mark)
        assert again == 1 or ticket(again), again
        assert desk.notes(mark) <= 1
    assert desk.gate.verify().returncode in (0, 1)


def test_a_damaged_journal_refuses_the_start_and_says_what_explains_it(own_desk):
    desk = own_desk()
    with desk.connect() as db:
        one, two = ticket(delete(db, "ticket one")), ticket(delete(db, "ticket two"))
    second = subprocess.run(
        [binary(), "tickets", "--check", desk.gate.folder / "state" / "tickets.journal"], capture_output=True, text=True, check=False
    )
    assert second.returncode == 0 and one in second.stdout and "is whole: 2" in second.stdout, second.stderr
    desk.gate.stop(signal.SIGKILL)
    (desk.gate.folder / "control").unlink(missing_ok=True)
    journal = desk.gate.folder / "state" / "tickets.journal"
    whole = journal.read_bytes()
    # A torn end is cut off: what was never acknowledged is gone, and nothing else.
    journal.write_bytes(whole + whole[-400:-100])
    desk.gate.start()
    assert set(desk.tickets()) == {one, two} and journal.read_bytes() == whole
    desk.gate.stop()
    journal.write_bytes(whole.replace(b"agent-7", b"agent-8", 1))
    command = [binary(), "serve", "--config", desk.gate.folder / "pgturnstile.toml"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert refused.returncode == 2 and "line 2" in refused.stderr, refused.stderr
    found = re.search(r"`pgturnstile (tickets --check) ([^`]+)`", refused.stderr)
    told = subprocess.run([binary(), *found.group(1).split(), found.group(2)], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "line 2" in told.stderr
    journal.write_bytes(whole)
    desk.gate.start()
    assert set(desk.tickets()) == {one, two}


def test_where_tickets_are_kept_must_be_said(own_gate):
    desk = Desk(own_gate(start=False, extra_control='socket = "control"'), rules=RULES)
    configuration = desk.gate.folder / "pgturnstile.toml"
    configuration.write_text(configuration.read_text().replace('state_dir = "state"\n', ""))
    for command in ("check", "serve"):
        said = subprocess.run([binary(), command, "--config", configuration], capture_output=True, text=True, timeout=HANG_S, check=False)
        told = said.stdout + said.stderr
        assert said.returncode in (1, 2) and "policy.toml:" in told and "ticket_ttl_s" in told and "state_dir" in told, told


def test_bounds_leave_the_plain_words(own_desk):
    desk = own_desk()
    configuration = desk.gate.folder / "pgturnstile.toml"
    configuration.write_text(configuration.read_text() + "tickets_max = 1\n")
    desk.gate.process.send_signal(signal.SIGHUP)
    wait_until("it is loaded", lambda: "the configuration was loaded anew" in desk.gate.log())
    with desk.connect() as db:
        ticket(delete(db, "ticket first"))
        full = delete(db, "ticket second")
        assert full.sqlstate == "PH004" and "tickets_max" in str(full)
        expired = run(db, "DELETE FROM wide WHERE id = -1")
        assert expired.sqlstate == "PH002" and "nobody decided" in str(expired) and "tickets_max" in str(expired)
        assert isinstance(expired, psycopg.Error)
    metrics = desk.gate.metrics()
    assert metrics['pgturnstile_tickets{state="open"}'] == 1 and metrics["pgturnstile_tickets_broken"] == 0
