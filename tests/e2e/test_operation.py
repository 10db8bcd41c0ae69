"""What whoever runs the gateway sees and relies on: health, metrics, logs, the service manager, descriptors, restarts."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections import Counter

import psycopg
import pytest

import wire
from harness import HANG_S, Handed, free_port, wait_until

STATEMENTS = 'pgturnstile_statements_total{verdict="%s",class="%s"}'


# -- health ---------------------------------------------------------------------------------------------------------


def test_health_names_every_part(gate):
    status, body = gate.page("/live")
    assert (status, json.loads(body)) == (200, {"live": True, "stalled_shards": []})
    status, body = gate.page("/ready")
    page = json.loads(body)
    assert (status, page["ready"], page["not_ready"]) == (200, True, [])
    assert page["evidence"]["state"] == "running"
    assert [(key["issuer"], key["usable"]) for key in page["keys"]] == [("dev", True)]
    assert page["policy"]["loaded"] and re.fullmatch("[0-9a-f]{64}", page["policy"]["hash"])
    wait_until(
        "both targets are reached",
        lambda: [(t["target"], t["reachable"]) for t in json.loads(gate.page("/ready")[1])["targets"]]
        == [("bench", True), ("shop", True)],
    )


def test_pages_are_only_read_and_never_for_a_browsers_page(gate):
    assert gate.page("/")[0] == 404
    assert gate.page("/metrics", method="POST", data=b"x")[0] == 405
    assert gate.page("/metrics", headers={"Origin": "http://evil.example"})[0] == 403
    assert gate.page("/live", method="HEAD") == (200, b"")


def test_whoever_holds_all_places_and_asks_for_nothing_keeps_no_probe_out(own_gate):
    gate = own_gate()
    idle = []
    try:
        # Again and again: more than there are places, each silent, or silent behind half a request or a whole one.
        for number in range(60):
            one = socket.create_connection(("127.0.0.1", gate.control_port), HANG_S)
            one.sendall([b"", b"GET /li", b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"][number % 3])
            idle.append(one)
            if number > 16:
                assert gate.page("/live")[0] == 200
        assert gate.page("/ready")[0] == 200
    finally:
        [one.close() for one in idle]


def test_without_the_section_nothing_listens_and_without_metrics_none_are_offered(own_gate):
    quiet = own_gate(start=False, extra_control="metrics = false")
    quiet.start()
    assert quiet.page("/metrics")[0] == 404 and quiet.page("/ready")[0] == 200
    quiet.stop()
    toml = quiet.folder / "pgturnstile.toml"
    toml.write_text(re.sub(r"\[control\].*?(?=\[evidence\])", "", toml.read_text(), flags=re.S))
    quiet.start()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", quiet.control_port), 5)


def test_the_admin_listener_speaks_tls_where_it_is_told_to(own_gate):
    gate = own_gate(start=False, extra_control='tls = { certificate = "gateway.crt", key = "gateway.key" }')
    gate.start()
    context = ssl.create_default_context(cafile=str(gate.certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    url = f"https://localhost:{gate.control_port}/ready"
    with urllib.request.urlopen(url, context=context, timeout=HANG_S) as answer:
        assert json.loads(answer.read())["ready"]
    with pytest.raises(Exception):  # noqa: B017 - whatever a client makes of TLS bytes
        gate.page("/ready")


def test_not_ready_says_that_evidence_has_no_space(own_gate):
    gate = own_gate(start=False, reserve_bytes=1 << 50)
    gate.spawn()
    wait_until("evidence is constrained", lambda: gate.page("/ready")[0] == 503)
    page = json.loads(gate.page("/ready")[1])
    assert [part["part"] for part in page["not_ready"]] == ["evidence"]
    assert "reserve_bytes" in page["not_ready"][0]["why"]
    assert gate.page("/live")[0] == 200
    assert gate.metrics()["pgturnstile_evidence_constrained"] == 1


def test_not_ready_without_keys_and_ready_when_they_come(own_gate, world):
    """An issuer that is not there yet: nobody can log in, and the page says why."""
    port = free_port()
    gate = own_gate(start=False, idp_port=port)
    gate.spawn()
    wait_until("the admin listener", lambda: gate.page("/ready"))
    status, body = gate.page("/ready")
    page = json.loads(body)
    assert status == 503
    assert [part["part"] for part in page["not_ready"]] == ["keys"]
    assert page["keys"] == [{"issuer": "dev", "usable": False, "age_s": None}]
    metrics = gate.metrics()
    assert metrics['pgturnstile_jwks_usable{issuer="dev"}'] == 0
    assert metrics['pgturnstile_jwks_fetch_failures_total{issuer="dev"}'] >= 1


def test_a_target_that_is_gone_is_shown_and_does_not_decide(own_gate):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", free_port()))
        gate = own_gate(start=False, pg_address=f"127.0.0.1:{nobody.getsockname()[1]}")
        gate.spawn()
        wait_until("ready", lambda: gate.page("/ready")[0] == 200)
        targets = json.loads(gate.page("/ready")[1])["targets"]
        assert [(target["target"], target["reachable"]) for target in targets] == [("bench", False), ("shop", False)]
        assert "has not been read yet" in targets[0]["trouble"]
        assert gate.metrics()['pgturnstile_target_reachable{target="shop"}'] == 0


def test_a_refused_reload_is_shown(own_gate):
    gate = own_gate()
    policy = (gate.folder / "policy.toml").read_text()
    (gate.folder / "policy.toml").write_text(policy + "\nnonsense = 1\n")
    gate.process.send_signal(signal.SIGHUP)
    shown = lambda: json.loads(gate.page("/ready")[1])["policy"]  # noqa: E731
    wait_until("the refusal is shown", lambda: shown()["last_reload_refused"])
    assert shown()["generation"] == 1 and gate.page("/ready")[0] == 200
    (gate.folder / "policy.toml").write_text(policy)
    gate.process.send_signal(signal.SIGHUP)
    wait_until("the reload is shown", lambda: shown()["generation"] == 2)
    assert not shown()["last_reload_refused"]
    metrics = gate.metrics()
    assert metrics['pgturnstile_reloads_total{outcome="in_force"}'] == 1
    assert metrics['pgturnstile_reloads_total{outcome="refused"}'] == 1


# -- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_count_what_happened(own_gate):
    gate = own_gate()
    before = gate.metrics()
    grown = lambda name: gate.metrics()[name] - before[name]  # noqa: E731
    with gate.connect() as db:
        for _ in range(3):
            db.execute("SELECT 1")
        db.execute("SELECT %s::int", (7,), prepare=True)
        with pytest.raises(psycopg.Error):
            db.execute("DROP TABLE shop.items")
        db.execute("BEGIN")
        wait_until("the session is in a transaction", lambda: gate.metrics()['pgturnstile_sessions{state="idle_in_transaction"}'] == 1)
        db.execute("ROLLBACK")
        wait_until("the session is idle", lambda: gate.metrics()['pgturnstile_sessions{state="idle"}'] == 1)
        wait_until("the session is at the target", lambda: gate.metrics()['pgturnstile_target_sessions{target="shop"}'] == 1)
    with pytest.raises(psycopg.OperationalError):
        gate.connect(token="not.a.token")
    wait_until("the session is gone", lambda: gate.metrics()['pgturnstile_sessions{state="idle"}'] == 0)
    assert grown(STATEMENTS % ("allow", "read.select")) == 4
    assert grown(STATEMENTS % ("allow", "session.transaction")) == 2
    assert grown(STATEMENTS % ("refuse", "ddl.drop")) == 1
    assert grown('pgturnstile_logins_total{outcome="admitted"}') == 1
    assert grown('pgturnstile_logins_total{outcome="bad_token"}') == 1
    refusals = {k: v - before[k] for k, v in gate.metrics().items() if k.startswith("pgturnstile_refusals_total")}
    assert sum(refusals.values()) == 1
    assert grown('pgturnstile_received_bytes_total{from="client"}') > 0
    assert grown('pgturnstile_received_bytes_total{from="target"}') > 0
    assert grown("pgturnstile_decision_cache_hits_total") >= 2
    assert grown("pgturnstile_facts_cache_misses_total") >= 1
    assert grown("pgturnstile_evidence_sync_duration_seconds_count") > 0
    assert grown("pgturnstile_evidence_batch_records_sum") > 0
    assert grown("pgturnstile_evidence_last_durable_sequence") > 0
    metrics = gate.metrics()
    assert metrics["process_open_fds"] > 5 and metrics["process_resident_memory_bytes"] > 1 << 20
    assert 0 < metrics["pgturnstile_evidence_segment_left_bytes"] < 16_777_216


def test_metrics_are_well_formed_bounded_and_carry_their_units(gate):
    """What `promtool check metrics` asks for, and that no peer can add a series."""
    with gate.connect() as db:
        db.execute("SELECT 1 AS \"a_peer's own \\ name\"")
    status, body = gate.page("/metrics")
    assert status == 200
    kinds, series, helped = {}, [], set()
    for line in body.decode().splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, f"{name} stands twice"
            kinds[name] = kind
        else:
            found = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.]+', line)
            assert found, line
            series.append(line.rpartition(" ")[0])
            family = re.sub("_(bucket|sum|count)$", "", found[1]) if kinds.get(found[1]) is None else found[1]
            assert family in kinds, line
    assert helped == set(kinds) and len(series) == len(set(series))
    assert len(series) < 250, len(series)
    for name, kind in kinds.items():
        assert name.endswith("_total") == (kind == "counter"), name
    assert "a_peer" not in body.decode()


# -- logs -----------------------------------------------------------------------------------------------------------


def test_the_log_is_one_json_object_an_event_with_the_sessions_id_and_no_secret(own_gate):
    gate = own_gate(start=False)
    gate.spawn("--log-format", "json", "--log", "debug")
    gate.wait_ready()
    token = gate.idp.token("app", sub="who-is-logged-nowhere")
    with gate.connect(token=token) as db:
        db.execute("SELECT 'a literal that is logged nowhere'")
        with pytest.raises(psycopg.Error):
            db.execute("DROP TABLE shop.items -- a comment that is logged nowhere")
    with pytest.raises(psycopg.OperationalError):
        gate.connect(token=token[:-4] + "AAAA")
    gate.stop()
    def once(pairs):
        assert len(pairs) == len(dict(pairs)), f"a key stands twice in {pairs}"
        return dict(pairs)

    events = [json.loads(line, object_pairs_hook=once) for line in gate.log().splitlines()]
    assert "shop" in [event.get("target_name") for event in events if event["message"] == "catalog read"]
    assert all({"timestamp", "level", "message"} <= event.keys() for event in events)
    of = lambda message: [event for event in events if event["message"] == message]  # noqa: E731
    began, ended, away = of("session began")[-1], of("session ended")[-1], of("turned away")[-1]
    assert re.fullmatch("[0-9a-f]{32}", began["session"])
    assert began["session"] == ended["session"] != away["session"]
    assert (began["target_name"], began["access"], began["issuer"]) == ("shop", "app", "dev")
    assert (ended["by"], ended["statements"], ended["refused"], ended["rows"]) == ("client", 2, 1, 1)
    assert away["outcome"] == "bad_token"
    opened = [r for r in gate.records() if began["session"] in json.dumps(r)]
    assert opened, "the log's session is the evidence's"
    refused = of("refused")[-1]
    assert refused["session"] == began["session"] and refused["rule"].startswith("no-drop (")
    log = gate.log()
    for secret in ["logged nowhere", "logged-nowhere", *token.split("."), *gate.database.passwords.values()]:
        assert secret not in log


def test_levels_choose_what_is_logged(own_gate):
    gate = own_gate(start=False)
    gate.spawn("--log", "warn")
    gate.wait_ready()
    gate.served()
    gate.stop()
    assert "session began" not in gate.log() and "INFO" not in gate.log()


# -- the service manager ----------------------------------------------------------------------------------------------


class Manager:
    """The service manager's end of sd_notify(3)."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(HANG_S)

    def next(self, what) -> dict:
        """The next message but pings, which must be `what`'s."""
        while True:
            message = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if "WATCHDOG" not in message or what == "WATCHDOG":
                assert what in message, message
                return message


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_is_told(own_gate, tmp_path, kind):
    gate = own_gate(start=False)
    name = str(tmp_path / "notify") if kind == "path" else f"@pgturnstile-{gate.port}"
    manager = Manager(name if kind == "path" else "\0" + name[1:])
    gate.spawn(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
    assert manager.next("READY")["READY"] == "1"
    gate.wait_ready()
    manager.next("WATCHDOG")
    manager.next("WATCHDOG")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    gate.process.send_signal(signal.SIGHUP)
    began = int(manager.next("RELOADING")["MONOTONIC_USEC"])
    assert before <= began <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.next("READY")
    gate.process.send_signal(signal.SIGTERM)
    manager.next("STOPPING")
    assert gate.process.wait(HANG_S) == 0


def test_a_service_manager_that_went_away_is_no_fault(own_gate, tmp_path):
    gate = own_gate(start=False)
    gate.spawn(env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "400000"})
    gate.wait_ready()
    gate.served()


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_socket_that_was_handed_over_is_served_and_survives(own_gate):
    gate = own_gate(start=False)
    handed = Handed(gate)
    handed.spawn()
    gate.wait_ready()
    assert "the socket was handed over" in gate.log()
    gate.stop()
    # Nobody accepts; the connection is made all the same, and served by the next gateway.
    waiting = socket.create_connection(("127.0.0.1", gate.port), HANG_S)
    waiting.sendall(wire.SSL_REQUEST)
    handed.spawn()
    waiting.settimeout(HANG_S)
    assert waiting.recv(1) == b"S"
    gate.wait_ready()
    assert b"127.0.0.1" in gate.log_path.read_bytes()


def test_a_socket_for_no_listener_is_a_fault(own_gate):
    gate = own_gate(start=False)
    handed = Handed(gate)
    toml = gate.folder / "pgturnstile.toml"
    toml.write_text(toml.read_text().replace(f':{gate.settings["gate_port"]}"', f':{free_port()}"'))
    handed.spawn()
    assert gate.process.wait(HANG_S) == 3
    assert "was handed over (LISTEN_FDS), and neither a [[listener]] nor [control] has this address" in gate.log()


class Writer(threading.Thread):
    """Commits rows as fast as it can, and remembers those whose commit was acknowledged."""

    def __init__(self, gate, number, stop):
        super().__init__()
        self.gate, self.number, self.stop_event = gate, number, stop
        self.acknowledged, self.sent, self.faults, self.sessions = [], 0, [], 0

    def run(self):
        while not self.stop_event.is_set():
            try:
                with self.gate.connect(application_name=f"writer-{self.number}") as db:
                    self.sessions += 1
                    while not self.stop_event.is_set():
                        self.sent += 1
                        row = self.number * 1_000_000 + self.sent
                        if self.sent % 2:
                            db.execute("INSERT INTO shop.acknowledged VALUES (%s)", (row,))
                        else:
                            db.execute("BEGIN")
                            db.execute("INSERT INTO shop.acknowledged VALUES (%s)", (row,))
                            db.execute("COMMIT")
                        self.acknowledged.append(row)
            except psycopg.OperationalError as error:
                self.faults.append(str(error))


def kind(fault) -> str:
    """What ended a session or a login, as the client saw it."""
    if "the gateway is being stopped" in fault or "drain deadline passed" in fault:
        return "told that the gateway stops"
    # libpq takes a FATAL that comes behind ReadyForQuery for a notice, and then meets the end of the stream.
    if re.search("closed unexpectedly|closed the connection unexpectedly|SSL SYSCALL|connection is closed", fault):
        return "closed"
    return fault


def test_a_drain_loses_no_acknowledged_statement_and_a_restart_refuses_no_connection(own_gate, database):
    """Clients that count their acknowledged commits, while the gateway is stopped and started under them."""
    gate = own_gate(start=False)
    with database.superuser() as db:
        db.execute("CREATE TABLE shop.acknowledged (id bigint PRIMARY KEY)")
        db.execute("GRANT SELECT, INSERT ON shop.acknowledged TO app_login")
    handed = Handed(gate)
    handed.spawn()
    gate.wait_ready()
    stop = threading.Event()
    writers = [Writer(gate, number, stop) for number in range(1, 7)]
    [writer.start() for writer in writers]
    rounds = int(os.environ.get("PGTURNSTILE_DRAIN_ROUNDS", "5"))
    for _ in range(rounds):
        known = sum(len(writer.acknowledged) for writer in writers)
        wait_until("more is acknowledged", lambda: sum(len(w.acknowledged) for w in writers) > known + 60)
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(HANG_S) == 0, gate.log()[-3000:]
        handed.spawn()
    known = sum(len(writer.acknowledged) for writer in writers)
    wait_until("more is acknowledged", lambda: sum(len(w.acknowledged) for w in writers) > known + 60)
    stop.set()
    [writer.join(HANG_S) for writer in writers]
    gate.stop()

    acknowledged = {row for writer in writers for row in writer.acknowledged}
    sent = sum(writer.sent for writer in writers)
    with database.superuser() as db:
        there = {row for (row,) in db.execute("SELECT id FROM shop.acknowledged")}
        db.execute("DROP TABLE shop.acknowledged")
    assert acknowledged <= there, f"{len(acknowledged - there)} acknowledged rows are lost"
    # What was in flight when a session ended is the only difference.
    assert len(there - acknowledged) <= sum(len(writer.faults) for writer in writers) + len(writers)
    faults = Counter(kind(fault) for writer in writers for fault in writer.faults)
    assert faults.keys() <= {"told that the gateway stops", "closed"}, faults
    sessions = sum(writer.sessions for writer in writers)
    assert sessions >= rounds, "they reconnected"

    # Every acknowledged insert has a record of its completion.
    assert gate.verify().returncode == 0, gate.verify().stdout
    completed = 0
    for record in gate.records():
        if '"INSERT 0 1"' in json.dumps(record):
            completed += 1
    assert completed >= len(acknowledged)
    print(f"\n{rounds} restarts: {sent} sent, {len(acknowledged)} acknowledged, {len(there)} in the table, {completed} in "
          f"the evidence; {sessions} sessions; ended under their clients: {dict(faults)}; no connection refused")


def test_a_login_that_a_drain_overtakes_is_ended_and_holds_nothing_up(own_gate):
    """A client that is still to send its password when the gateway is told to stop."""
    gate = own_gate(drain_deadline_s=1)
    late = wire.Client(gate, login=False)
    late.send(wire.startup(user="app", database="shop"))
    assert late.read()[0] == "R"
    gate.process.send_signal(signal.SIGTERM)
    wait_until("the drain has begun", lambda: "draining" in gate.log())
    late.send(wire.frame("p", wire.text(gate.idp.token("app"))))
    seen = []
    with pytest.raises(wire.Closed):
        while True:
            seen.append(late.read())
    errors = [wire.fields(body) for tag, body in seen if tag == "E"]
    assert errors and errors[-1]["C"] == "57P01", seen
    assert gate.process.wait(HANG_S) == 0
    assert gate.verify().returncode == 0


def test_a_drained_session_is_told_why_at_its_next_statement_which_goes_nowhere(own_gate, database):
    gate = own_gate(drain_deadline_s=30)
    with gate.connect() as db:
        db.execute("BEGIN")
        gate.process.send_signal(signal.SIGTERM)
        wait_until("the drain has begun", lambda: "draining" in gate.log())
        db.execute("INSERT INTO notes (test) VALUES ('drained: kept')")
        db.execute("COMMIT")
        with pytest.raises(psycopg.errors.AdminShutdown, match="the gateway is being stopped. Next: reconnect"):
            db.execute("INSERT INTO notes (test) VALUES ('drained: not sent')")
    assert gate.process.wait(HANG_S) == 0
    there = database.one("SELECT string_agg(test, ',') FROM shop.notes WHERE test LIKE 'drained:%%'")
    assert there == "drained: kept"


def test_a_signal_that_comes_while_it_starts_is_kept(own_gate):
    gate = own_gate(start=False)
    for _ in range(4):
        gate.spawn()
        wait_until("it listens", lambda: socket.create_connection(("127.0.0.1", gate.port), 5).close() is None)
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(HANG_S) == 0, gate.log()[-2000:]
    assert gate.verify().returncode == 0


def test_not_ready_while_draining(own_gate):
    gate = own_gate(drain_deadline_s=30)
    with gate.connect() as db:
        db.execute("BEGIN")
        gate.process.send_signal(signal.SIGTERM)
        wait_until("not ready", lambda: gate.page("/ready")[0] == 503)
        assert [part["part"] for part in json.loads(gate.page("/ready")[1])["not_ready"]] == ["draining"]
        assert gate.page("/live")[0] == 200
        db.execute("SELECT 1")
        db.execute("COMMIT")
    assert gate.process.wait(HANG_S) == 0


# -- descriptors ------------------------------------------------------------------------------------------------------


def limited(gate, soft, hard=None):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or soft))

    gate.spawn(preexec_fn=limit)


def test_connections_are_bounded_by_the_descriptors_there_are(own_gate):
    gate = own_gate(start=False)
    limited(gate, 128)
    gate.wait_ready()
    assert "allows fewer connections than connections_max" in gate.log()
    bound = int(gate.metrics()["pgturnstile_connections_limit"])
    assert 4 < bound < 64
    held, away = [], 0
    for _ in range(bound + 6):
        try:
            held.append(gate.connect())
        except psycopg.OperationalError:
            away += 1
    # Sessions that were ended a moment ago may still hold a place.
    assert len(held) <= bound and away >= 6
    assert gate.metrics()['pgturnstile_turned_away_total{limit="descriptors"}'] == away
    assert gate.metrics()["process_open_fds"] <= 128
    assert all(db.execute("SELECT 1").fetchone() == (1,) for db in held), "those inside are untouched"
    assert gate.page("/ready")[0] == 200
    [db.close() for db in held]
    wait_until("a place is free", lambda: gate.metrics()['pgturnstile_sessions{state="idle"}'] == 0)
    gate.served()


def test_too_few_descriptors_for_anybody_is_said_at_the_start(own_gate):
    gate = own_gate(start=False)
    limited(gate, 56)
    assert gate.process.wait(HANG_S) == 3
    assert "the limit of open descriptors, 56, leaves none for connections" in gate.log()


def test_the_soft_limit_is_raised(own_gate):
    gate = own_gate(start=False)
    limited(gate, 64, 4_096)
    gate.wait_ready()
    assert gate.metrics()["process_max_fds"] == 4_096


def test_descriptors_that_run_out_stop_nothing(own_gate):
    """The limit falls below what is open: accepts fail, and are tried again without spinning."""
    gate = own_gate()
    with gate.connect() as db:
        pid = gate.process.pid
        before = gate.metrics()
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, limit[1]))
        waiting = socket.create_connection(("127.0.0.1", gate.port), HANG_S)
        waiting.sendall(wire.SSL_REQUEST)
        used = cpu_seconds(pid)
        wait_until("accepts fail", lambda: "connections cannot be accepted" in gate.log())
        time.sleep(3)
        # A loop that spun would have used all of them.
        assert cpu_seconds(pid) - used < 1.5
        assert gate.log().count("connections cannot be accepted") <= 2, "one line in ten seconds"
        assert db.execute("SELECT 42").fetchone() == (42,), "the session inside is untouched"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        waiting.settimeout(HANG_S)
        assert waiting.recv(1) == b"S", "who waited is served"
        waiting.close()
    gate.served()
    assert gate.metrics()["pgturnstile_accept_failures_total"] > before["pgturnstile_accept_failures_total"]


def cpu_seconds(pid) -> float:
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- peers that do nothing, or nonsense ---------------------------------------------------------------------------------


def test_peers_that_dawdle_or_talk_nonsense_hold_nothing_for_long(own_gate):
    """Descriptors and memory while many strange peers are there, and behind them, by the gateway's own figures."""
    gate = own_gate(login_deadline_ms=3_000, extra_limits="dial_deadline_ms = 2_500")
    gate.served()
    wait_until("nobody is there", lambda: gate.metrics()['pgturnstile_sessions{state="login"}'] == 0)
    before = gate.metrics()
    kinds = {
        "silent": b"",
        "half a length": b"\0\0",
        "half an SSLRequest": wire.SSL_REQUEST[:6],
        "SSLRequest, then silence": wire.SSL_REQUEST,
        "SSLRequest, then nonsense": wire.SSL_REQUEST + b"\0" * 600,
        "a length of 2 GiB": b"\x7f\xff\xff\xff" + b"x" * 4_096,
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a startup packet in clear": wire.startup(user="app", database="shop"),
    }
    peers, each = [], 20
    with gate.connect() as inside:
        for said in kinds.values():
            for _ in range(each):
                peer = socket.create_connection(("127.0.0.1", gate.port), HANG_S)
                peer.sendall(said)
                peers.append(peer)
        during = gate.metrics()
        assert inside.execute("SELECT 1").fetchone() == (1,), "another session is untouched"
        # One descriptor each, and not more.
        assert during["process_open_fds"] - before["process_open_fds"] <= len(peers) + 8
        wait_until(
            "the gateway has closed all of them",
            lambda: gate.metrics()['pgturnstile_sessions{state="login"}'] == 0,
        )
        after = gate.metrics()
        assert inside.execute("SELECT 1").fetchone() == (1,)
    assert after["process_open_fds"] <= before["process_open_fds"] + 4
    grown = (max(during["process_resident_memory_bytes"], after["process_resident_memory_bytes"])
             - before["process_resident_memory_bytes"])
    assert grown < 64 << 20, grown
    bad = sum(after[name] - before[name] for name in before
              if name.startswith("pgturnstile_logins_total") and "admitted" not in name)
    assert bad == len(peers), "each is counted once"
    print(f"\n{len(peers)} peers of {len(kinds)} kinds: descriptors {before['process_open_fds']:.0f} -> "
          f"{during['process_open_fds']:.0f} -> {after['process_open_fds']:.0f}, resident "
          f"{before['process_resident_memory_bytes'] / 2**20:.1f} -> {during['process_resident_memory_bytes'] / 2**20:.1f} -> "
          f"{after['process_resident_memory_bytes'] / 2**20:.1f} MiB")
    [peer.close() for peer in peers]
