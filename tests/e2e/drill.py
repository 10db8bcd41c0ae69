"""The fail-closed drill: everything that the gateway stands on is taken away in turn, under load.

Four clients write and read through the gateway in gated mode; each statement carries a name of its own (a column alias,
which the evidence keeps). A fault is made, seen, and where it can be, taken back. Then three sets are held against each
other: what is in the table, what the clients were told, and what the evidence holds *durably*: fixtures/disk_shim.c copies
each evidence file before every sync, and only copies whose sync succeeded count.

Run by tests/drill. Nothing may be in the table, and no row with a client, whose record is not durable; and the first error
that a client sees says what is wrong. Exit code 1 where one of these is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg

from harness import SmallDisk, World, binary, disk_shim, end, wait_until

WORKERS = 4
# Answers before a fault is made, and answers that show that the service is back.
WARM, BACK = 80, 20
BEGIN, END = "<!-- fail-closed drill: made by tests/drill -->\n", "<!-- end of fail-closed drill -->\n"


class Drill:
    """One gateway under load, with what is needed to hurt it."""

    def __init__(self, world, name, shim, preload=(), environment=None, files_max=None, group="app", **settings):
        self.world, self.name, self.group = world, name, group
        self.gate = world.gateway(segment_bytes=1_048_576, drain_deadline_s=1, **settings)
        folder = self.gate.folder
        self.order, self.durable = folder / "order", folder / "durable"
        self.order.write_text("none")
        self.durable.mkdir()
        self.environment = {
            "LD_PRELOAD": ":".join([str(shim), *preload]), "DRILL_EVIDENCE": str(self.gate.evidence), "DRILL_ORDER": str(self.order),
            "DRILL_DURABLE": str(self.durable), **(environment or {}),
        }
        self.files_max = files_max
        self.answered: set[str] = set()
        self.errors: list[str] = []
        self.lock = threading.Lock()
        self.over = False
        self.threads: list[threading.Thread] = []
        self.token = world.idp.token(group)

    # --- the gateway ---

    def spawn(self):
        gate = self.gate
        files_max = self.files_max

        def limits():
            if files_max:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))

        with open(gate.log_path, "ab") as log:
            gate.process = subprocess.Popen(
                [binary(), "serve", "--config", gate.folder / "pgturnstile.toml"], stdout=log, stderr=log,
                env={**os.environ, "PGTURNSTILE_LOG": "info", **self.environment}, preexec_fn=limits,
            )

    def start(self):
        self.spawn()
        self.gate.wait_ready()
        for number in range(WORKERS):
            thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            thread.start()
            self.threads.append(thread)
        self.wait_answers(WARM)

    def restart(self, wait=True):
        self.gate.stop(signal.SIGKILL)
        self.spawn()
        if wait:
            self.gate.wait_ready()

    def tell(self, what):
        self.order.write_text(what)

    # --- the load ---

    def _work(self, worker):
        count, db = 0, None
        while not self.over:
            try:
                if db is None or db.closed:
                    db = self.gate.connect(self.group, token=self.token, connect_timeout=15)
                while not self.over:
                    count += 1
                    mark = f"m_{self.name}_{worker}_{count}"
                    if count % 3 == 0:
                        sql = f"SELECT name AS {mark} FROM items WHERE id = {count % 1000 + 1}"
                    else:
                        sql = f"INSERT INTO notes (test, body) VALUES ('drill', '{mark}') RETURNING id AS {mark}"
                    row = db.execute(sql, () if count % 2 else None).fetchone()
                    with self.lock:
                        if row is not None:
                            self.answered.add(mark)
                    time.sleep(0.002)
            except psycopg.Error as error:
                said = " ".join(str(error).split())
                code = getattr(error, "sqlstate", None)
                with self.lock:
                    self.errors.append(f"{code or 'connect'}: {said}")
                time.sleep(0.05)
        if db is not None:
            db.close()

    def wait_answers(self, more):
        before = len(self.answered)
        wait_until(f"{self.name}: {more} more answers", lambda: len(self.answered) >= before + more, 90)

    def wait_error(self, pattern, beyond=0):
        try:
            return wait_until(f"{self.name}: an error like {pattern}",
                              lambda: next((e for e in self.errors[beyond:] if re.search(pattern, e)), None), 30)
        except AssertionError as error:
            raise AssertionError(f"{error}; clients read: {sorted(set(self.errors))[:8]}") from error

    def login_refused(self, pattern):
        """What a new client reads."""
        def tried():
            try:
                self.gate.connect(token=self.token, connect_timeout=15).close()
            except psycopg.OperationalError as error:
                said = " ".join(str(error).split())
                return said if re.search(pattern, said) else None
            return None

        return wait_until(f"{self.name}: a login refused with {pattern}", tried, 60)

    # --- what came of it ---

    def finish(self):
        self.over = True
        for thread in self.threads:
            thread.join(60)
        self.tell("none")
        self.gate.stop()

    def durable_marks(self):
        """The names of statements in what is durable, as `evidence show` reads it."""
        copy = self.gate.folder / "read"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o700)
        for path in self.gate.evidence.iterdir():
            kept = self.durable / str(path.stat().st_ino)
            if kept.exists():
                shutil.copyfile(kept, copy / path.name)
        shown = subprocess.run([binary(), "evidence", "show", "--json", copy], capture_output=True, text=True, check=False)
        if shown.returncode not in (0, 1):
            raise AssertionError(shown.stderr)
        marks = set()
        for line in shown.stdout.splitlines():
            record = json.loads(line)
            if record["kind"] == "statement" and record["payload"]["action"] == "allow":
                marks.update(re.findall(r"\bm_\w+", record["payload"]["text"]["lifted"]))
        return marks

    def result(self, seen, back):
        self.finish()
        with self.world.database.superuser() as db:
            effects = {body for (body,) in db.execute(
                "SELECT body FROM shop.notes WHERE test = 'drill' AND body LIKE %s", (f"m\\_{self.name}\\_%",)).fetchall()}
        durable = self.durable_marks()
        verified = self.gate.verify().returncode == 0
        return {
            "fault": self.name, "client_reads": seen, "effects": len(effects), "effects_without_record": sorted(effects - durable),
            "rows_released": len(self.answered), "rows_without_record": sorted(self.answered - durable),
            "service_back": back, "evidence_verifies": verified, "panicked": "panicked" in self.gate.log(),
        }


# --- the faults -----------------------------------------------------------------------------------------------------


def disk_full(world, shim):
    """A small tmpfs is filled up, and emptied again."""
    disk = SmallDisk(world.folder / "small-disk", mib=12)
    if disk.reason:
        print(f"   THE FULL DISK IS NOT RUN HERE: {disk.reason}", file=sys.stderr)
        return None
    try:
        drill = Drill(world, "disk_full", shim, evidence=str(disk.folder / "evidence"), reserve_bytes=1_048_576)
        drill.start()
        disk.fill()
        seen = drill.wait_error("53100")
        disk.make_room()
        drill.wait_answers(BACK)
        return drill.result(seen, "without a restart")
    finally:
        world.gateways[-1].stop()
        disk.unmount()


def disk_slow(world, shim):
    """Each sync takes four seconds, and the stall limit is one."""
    drill = Drill(world, "disk_slow", shim, extra="stall_limit_ms = 1000")
    drill.start()
    drill.tell("slow-sync 4000")
    try:
        # A statement waits for its record; what is refused is what finds no room to be recorded, or no login in time.
        time.sleep(6)
        seen = drill.errors[0] if drill.errors else "nothing: each statement waited for its record"
    finally:
        drill.tell("none")
    drill.wait_answers(BACK)
    return drill.result(seen, "without a restart")


def evidence_broken(world, shim, name, how):
    """The disk fails a call of the evidence's writer: the gateway ends, and is back by a restart."""
    drill = Drill(world, name, shim)
    drill.start()
    drill.tell(how)
    seen = drill.wait_error("58030")
    code = drill.gate.process.wait(30)
    assert code not in (0, None), code
    misled = [said for said in drill.errors if "drain" in said]
    assert not misled, misled
    drill.tell("none")
    drill.spawn()
    drill.gate.wait_ready()
    drill.wait_answers(BACK)
    return drill.result(seen, f"ended with exit code {code}; back by a restart")


def writer_dead(world, shim):
    """A sync fails: nothing that is in the page cache can be trusted any more."""
    return evidence_broken(world, shim, "writer_dead", "fail-sync")


def write_fails(world, shim):
    """A write fails."""
    return evidence_broken(world, shim, "write_fails", "fail-write")


def jwks_gone(world, shim):
    """The identity provider is gone, and the gateway has to start without its keys."""
    drill = Drill(world, "jwks_gone", shim)
    drill.start()
    end(world.idp.process)
    drill.wait_answers(BACK)
    drill.restart(wait=False)
    seen = drill.login_refused("key|issuer|identity")
    world.idp.start()
    drill.wait_answers(BACK)
    return drill.result(seen, "without a restart")


def secret_gone(world, shim):
    """The file of the target's password is gone, and the server has salted the password anew, so that no kept key fits."""
    drill = Drill(world, "secret_gone", shim)
    drill.start()
    secret = drill.gate.folder / "secrets" / "app_login"
    secret.rename(secret.with_suffix(".away"))
    with world.database.superuser("postgres") as db:
        db.execute(f"ALTER ROLE app_login PASSWORD '{world.database.passwords['app_login']}'")
    seen = drill.login_refused("log in to target")
    assert "secrets/app_login" in drill.gate.log(), "the log names the file"
    # Those who are in go on.
    drill.wait_answers(BACK)
    drill.restart(wait=False)
    code = drill.gate.process.wait(30)
    assert code == 2, code
    secret.with_suffix(".away").rename(secret)
    drill.spawn()
    drill.gate.wait_ready()
    drill.wait_answers(BACK)
    return drill.result(seen, "running: those who are in go on; start: exit code 2, back when the file is")


def target_gone(world, shim):
    """PostgreSQL is shot, and comes back."""
    drill = Drill(world, "target_gone", shim)
    drill.start()
    database = world.database
    database.stop()
    drill.wait_error("57P01|57P02|target")
    seen = drill.login_refused("target")
    subprocess.run(
        database._as_server(database.bin / "pg_ctl", "-D", database.folder / "data", "-l", database.folder / "log", "-w", "-t", "120", "start"),
        check=True, stdout=subprocess.DEVNULL, cwd="/",
    )
    drill.wait_answers(BACK)
    return drill.result(seen, "without a restart")


def policy_unreadable(world, shim):
    """A reload finds a policy that cannot be read, and then none at all; a start with it does not listen."""
    drill = Drill(world, "policy_unreadable", shim)
    drill.start()
    policy = drill.gate.folder / "policy.toml"
    kept = policy.read_text()
    before = len(drill.errors)
    for text in ("this is no [[policy", None):
        if text is None:
            policy.unlink()
        else:
            policy.write_text(text)
        refused = drill.gate.log().count("the old one stays in force")
        drill.gate.process.send_signal(signal.SIGHUP)
        wait_until("the refusal", lambda refused=refused: drill.gate.log().count("the old one stays in force") > refused)
        drill.wait_answers(BACK)
    assert len(drill.errors) == before, drill.errors
    drill.restart(wait=False)
    code = drill.gate.process.wait(30)
    assert code == 2, code
    seen = "by the running gateway: nothing, the old policy stays in force and the record says so; from a start with it: " + drill.login_refused("refused")
    policy.write_text(kept)
    drill.spawn()
    drill.gate.wait_ready()
    drill.wait_answers(BACK)
    return drill.result(seen, "reload: no pause; start: exit code 2, back when the file is")


def clock_jumped(world, shim):
    """The wall clock jumps two days ahead, two days back behind where it was, and home (libfaketime)."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise AssertionError("libfaketime is missing: apt-get install faketime")
    clock = world.folder / "clock"
    clock.write_text("+0")
    drill = Drill(world, "clock_jumped", shim, preload=[str(library)], environment={
        "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    })
    drill.start()
    seen = []
    for jump in ("+2d", "-2d"):
        clock.write_text(jump)
        seen.append(f"{jump}: " + drill.login_refused("token|expired|valid"))
        # Those who are in go on.
        drill.wait_answers(BACK)
    clock.write_text("+0")
    drill.gate.connect(token=drill.token).close()
    drill.wait_answers(BACK)
    return drill.result("; ".join(seen), "without a restart")


def descriptors_out(world, shim):
    """The process may open 200 files, and more clients come than that."""
    drill = Drill(world, "descriptors_out", shim, files_max=200)
    drill.start()
    gate = drill.gate
    crowd = [socket.create_connection(("127.0.0.1", gate.port)) for _ in range(150)]
    wait_until("the bound", lambda: "turned away: the limit of open descriptors" in gate.log())
    drill.wait_answers(BACK)
    for one in crowd:
        one.close()
    wait_until("room", lambda: gate.connect(token=drill.token).close() is None)
    drill.wait_answers(BACK)
    seen = "those who are in: nothing, they go on; who comes: a closed connection at the bound that the limit leaves; the log names it"
    return drill.result(seen, "without a restart")


def the_drill_itself(world, shim):
    """The drill's own proof: in queued mode, which does not wait for the disk, the same look must find what is missing."""
    drill = Drill(world, "the_drill_itself", shim, group="queued")
    drill.start()
    drill.tell("slow-sync 60000")
    drill.wait_answers(WARM)
    drill.gate.process.kill()
    drill.gate.process.wait()
    result = drill.result("queued mode: nothing", "not asked")
    missing = len(result["effects_without_record"]) + len(result["rows_without_record"])
    if missing == 0:
        raise AssertionError("the drill finds nothing where something must be missing: it proves nothing")
    print(f"   found {missing} that are not durable, as it must: queued mode does not wait", file=sys.stderr)
    return None


FAULTS = [disk_full, disk_slow, writer_dead, write_fails, jwks_gone, secret_gone, target_gone, policy_unreadable, clock_jumped, descriptors_out]
SHORT = [disk_full, writer_dead, target_gone, policy_unreadable]


# --- the run --------------------------------------------------------------------------------------------------------


def holds(result):
    return not (result["effects_without_record"] or result["rows_without_record"] or result["panicked"]) and result["evidence_verifies"]


def cut(text, limit=260):
    """One line for a table, without what differs from run to run."""
    text = re.sub(r"\[ref \w+\]", "[ref …]", text)
    text = re.sub(r"connection to server at \S+( \(\S+\))?, port \d+ failed: ", "", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\b\d{5,} s\b", "… s", text)
    text = re.sub(r"\x1b\[\d*m", "", text).replace("|", "\\|")
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def table(results):
    lines = ["| taken away | what a client reads | effects | of them without a durable record | rows released | of them without | back |", "|---|---|---:|---:|---:|---:|---|"]
    for r in results:
        lines.append(f"| {r['fault'].replace('_', ' ')} | {cut(r['client_reads'])} | {r['effects']} | {len(r['effects_without_record'])} "
                     f"| {r['rows_released']} | {len(r['rows_without_record'])} | {r['service_back']} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Takes away everything that the gateway stands on, in turn, under load.")
    parser.add_argument("faults", nargs="*", help="which: " + ", ".join(f.__name__ for f in FAULTS) + " (default: all)")
    parser.add_argument("--short", action="store_true", help="four of them, in less than a minute")
    parser.add_argument("--json", metavar="FILE", help="the results as JSON; - is standard output")
    parser.add_argument("--write", metavar="FILE", help="writes the table between the markers of this file")
    options = parser.parse_args()
    known = {fault.__name__: fault for fault in FAULTS}
    if unknown := [name for name in options.faults if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = [known[name] for name in options.faults] or [the_drill_itself, *(SHORT if options.short else FAULTS)]
    said = sys.stderr if options.json == "-" else sys.stdout
    world = World().start()
    results = []
    try:
        with world.database.superuser("postgres") as db:
            # What a client was told must be there when the server was shot.
            db.execute("ALTER SYSTEM SET synchronous_commit = on")
            db.execute("SELECT pg_reload_conf()")
        shim = disk_shim(world.folder)
        for fault in chosen:
            began = time.monotonic()
            print(f"== {fault.__name__.replace('_', ' ')}: {fault.__doc__.strip()}", file=said, flush=True)
            try:
                result = fault(world, shim)
            except Exception:
                gate = world.gateways[-1]
                print(gate.log()[-3000:], file=said)
                raise
            if result is None:
                continue
            result["seconds"] = round(time.monotonic() - began, 1)
            results.append(result)
            print(f"   client reads: {cut(result['client_reads'], 600)}\n"
                  f"   effects {result['effects']}, without a durable record {len(result['effects_without_record'])}; rows released "
                  f"{result['rows_released']}, without {len(result['rows_without_record'])}; back: {result['service_back']}; "
                  f"evidence {'verifies' if result['evidence_verifies'] else 'DOES NOT VERIFY'} ({result['seconds']} s)", file=said, flush=True)
    finally:
        world.stop()
    bad = [result["fault"] for result in results if not holds(result)]
    print(f"{len(results) - len(bad)} held, {len(bad)} failed{': ' + ', '.join(bad) if bad else ''}", file=said)
    if options.json:
        out = json.dumps({"results": results, "failed": bad}, indent=1)
        print(out) if options.json == "-" else Path(options.json).write_text(out + "\n")
    if options.write:
        path = Path(options.write)
        head, rest = path.read_text().split(BEGIN)
        path.write_text(head + BEGIN + table(results) + END + rest.split(END)[1])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
