"""Runs of the suite: throwaway servers, gateways before them, psql over one test file after another.

Owns: the folder of one command with everything in it, and the environment that pg_regress would give psql
(src/test/regress/pg_regress.c: initialize_environment, create_database; pg_regress_main.c: psql_start_test). The files
run one at a time, so that two runs do the same in the same order.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from string import Template

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import harness  # noqa: E402 - beside this package

from . import sources  # noqa: E402
from .tap import Tap  # noqa: E402

HERE = Path(__file__).resolve().parent
# Ends a hang; a file of the suite takes seconds.
TEST_LIMIT_S = 300
# Longer than any run, so that no token expires under it.
TOKEN_TTL_S = 6 * 3600
SEARCH_PATH = "public"


class Cluster:
    """A throwaway server with the suite's database, made as pg_regress makes it."""

    def __init__(self, folder: Path, bindir: Path):
        self.folder, self.bin = folder, bindir
        self.port = harness.free_port()
        self.user = "postgres" if os.geteuid() == 0 else None

    def _as_server(self, *command):
        command = [str(part) for part in command]
        if self.user:
            command = ["runuser", "-u", self.user, "--", *command]
        return sources.run(*command, cwd="/", env={**os.environ, "LC_ALL": "C"})

    def start(self):
        self.folder.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self.folder, self.user)
        data = self.folder / "data"
        self._as_server(self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            # No background work: it would move plans and statistics between two runs.
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n"
                "fsync = off\nmax_connections = 60\nautovacuum = off\nmax_prepared_transactions = 2\n"
                "log_statement = 'none'\nlog_min_messages = fatal\nlog_min_error_statement = panic\n"
            )
        subprocess.run(
            [*(["runuser", "-u", self.user, "--"] if self.user else []), str(self.bin / "pg_ctl"), "-D", str(data), "-l",
             str(self.folder / "log"), "-w", "-t", "120", "start"],
            check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.psql("postgres", "CREATE DATABASE regression TEMPLATE=template0")
        for setting in ("lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'", "bytea_output TO 'hex'",
                        "timezone_abbreviations TO 'Default'"):
            self.psql("postgres", f"ALTER DATABASE regression SET {setting}")
        return self

    def psql(self, database, sql) -> str:
        """As the superuser, beside everything."""
        return sources.run(
            self.bin / "psql", "-X", "-q", "-A", "-t", "-h", self.folder, "-p", str(self.port), "-U", "postgres", "-d", database, "-c", sql
        )

    def stop(self):
        if (self.folder / "data").exists():
            try:
                self._as_server(self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")
            except sources.Missing:
                pass


class Gateway:
    """A gateway before one cluster, with a policy that permits everything to one group."""

    def __init__(self, folder: Path, cluster: Cluster, idp: harness.Idp, certificates: Path):
        self.folder, self.idp = folder, idp
        self.port = harness.free_port()
        self.certificate = certificates / "gateway.crt"
        folder.mkdir()
        for name in ("gateway.crt", "gateway.key"):
            shutil.copy(certificates / name, folder / name)
        (folder / "evidence").mkdir(mode=0o700)
        (folder / "state").mkdir(mode=0o700)
        values = {"gate_port": self.port, "idp_port": idp.port, "pg_port": cluster.port}
        for name, made in (("pgturnstile.toml", "pgturnstile.toml"), ("policy-write.toml", "policy.toml")):
            text = Template((HERE / "fixtures" / name).read_text()).substitute(values)
            (folder / made).write_text(text)
        self.process = None

    def start(self):
        log = open(self.folder / "gateway.log", "ab")
        self.process = subprocess.Popen(
            [harness.binary(), "serve", "--config", self.folder / "pgturnstile.toml"],
            stdout=log, stderr=log, env={**os.environ, "PGTURNSTILE_LOG": "info"},
        )
        log.close()

        def admits():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "gateway.log").read_text())
            env = {**environment(self.port, self.folder), "PGPASSWORD": self.token(), "PGSSLMODE": "verify-full",
                   "PGSSLROOTCERT": str(self.certificate), "PGHOST": "localhost"}
            done = subprocess.run(["psql", "-X", "-q", "-d", "regression", "-c", "SELECT 1"], env=env, capture_output=True, check=False)
            return done.returncode == 0

        harness.wait_until("the gateway", admits)
        return self

    def token(self) -> str:
        return self.idp.token("regress", ttl=TOKEN_TTL_S)

    def stop(self):
        harness.end(self.process)


def environment(port: int, suite: Path) -> dict[str, str]:
    """What pg_regress gives psql."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {
        **kept,
        "LC_MESSAGES": "C",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGTZ": "America/Los_Angeles",
        "PGDATESTYLE": "Postgres, MDY",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
        "PG_ABS_SRCDIR": str(suite),
        "PG_ABS_BUILDDIR": str(suite / "build"),
        "PG_LIBDIR": str(suite / "lib"),
        "PG_DLSUFFIX": ".so",
        "PGSSLMODE": "disable",
        "PGGSSENCMODE": "disable",
    }


class World:
    """Everything of one command, under one folder that the server's user can read."""

    def __init__(self, cache: Path | None, say):
        """`cache` keeps the fetched suite; without one there is none."""
        self.say = say
        # Told to end, it ends what it started first.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.bin = harness.pg_bin()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-suite."))
        self.folder.chmod(0o755)
        self.idp = harness.Idp(self.folder)
        self.started: list = []
        self.suite = self.folder / "suite"
        self.tests = self._fetched(cache) if cache else []
        harness.certificates(self.folder)

    def _fetched(self, cache: Path) -> list[str]:
        """The suite, in this folder; its tests in their order."""
        shutil.copytree(sources.fetch(cache, self.bin), self.suite)
        build = self.suite / "build"
        for made in (build, build / "results", build / "testtablespace"):
            made.mkdir()
            made.chmod(0o777)
        return sources.schedule(self.suite)

    def cluster(self, name: str) -> Cluster:
        made = Cluster(self.folder / name, self.bin)
        self.started.append(made)
        return made.start()

    def gateway(self, cluster: Cluster) -> Gateway:
        if self.idp.process is None:
            self.idp.start()
        made = Gateway(self.folder / f"gateway-{len(self.started)}", cluster, self.idp, self.folder)
        self.started.append(made)
        return made.start()

    def run(self, name: str, tap: Tap, tests: list[str], password="") -> "Run":
        """All of `tests` through `tap`."""
        began = time.monotonic()
        results = self.folder / f"results-{name}"
        results.mkdir()
        hung = []
        for number, test in enumerate(tests, 1):
            self.say(f"{name}: {number} of {len(tests)}: {test}")
            env = {**environment(tap.port, self.suite), "PGPASSWORD": password, "PGAPPNAME": f"pg_regress/{test}"}
            with open(self.suite / "sql" / f"{test}.sql", "rb") as script, open(results / f"{test}.out", "wb") as out:
                try:
                    subprocess.run(
                        ["psql", "-X", "-a", "-q", "-d", "regression", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"],
                        stdin=script, stdout=out, stderr=subprocess.STDOUT, env=env, check=False, timeout=TEST_LIMIT_S, cwd=self.suite / "build",
                    )
                except subprocess.TimeoutExpired:
                    hung.append(test)
        tap.stop()
        return Run(name, tap, results, hung, time.monotonic() - began)

    def stop(self):
        for made in reversed(self.started):
            made.stop()
        self.idp.stop()
        if os.environ.get("PGTURNSTILE_KEEP"):
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Run:
    """One run: what psql printed and what went over the wire."""

    def __init__(self, name: str, tap: Tap, results: Path, hung: list[str], seconds: float):
        self.name, self.results, self.hung, self.seconds = name, results, hung, seconds
        self.recording, self.faults, self.denied = tap.recording, tap.faults, tap.denied
        # The gateway that it went through, stopped; its evidence is still there.
        self.gateway: Gateway | None = None

    def output(self, test: str) -> list[str]:
        """What psql printed, a line each."""
        return (self.results / f"{test}.out").read_text(errors="replace").splitlines()

    def exchanges(self, test: str):
        """Its exchanges, session by session."""
        return [exchange for session in self.recording.get(test, []) for exchange in session.exchanges]


def verify(gateway: Gateway) -> str | None:
    """What `pgturnstile verify` finds wrong with a stopped gateway's evidence."""
    done = subprocess.run([harness.binary(), "verify", gateway.folder / "evidence"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"the evidence does not verify: {done.stdout[-600:]}{done.stderr[-600:]}"


def cache_folder() -> Path:
    """Where the fetched suite is kept between runs."""
    return Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")).resolve() / "tests-run" / "suite"


def same_as_expected(suite: Path, run: Run, test: str) -> bool:
    """Whether psql printed one of the outputs that PostgreSQL ships for this file."""
    got = "\n".join(run.output(test))
    pattern = re.compile(rf"{re.escape(test)}(_\d)?\.out")
    return any(
        "\n".join(path.read_text(errors="replace").splitlines()) == got
        for path in (suite / "expected").iterdir()
        if pattern.fullmatch(path.name)
    )
