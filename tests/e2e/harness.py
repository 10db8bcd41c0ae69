"""What the end-to-end tests stand on: a throwaway PostgreSQL, the development identity provider, gateways.

Owns: processes, folders and ports of one run, and their end. Everything lies under one temporary folder and listens on
loopback only. Fails loudly: what does not come up prints its log.

The binary is the one that PGTURNSTILE_BIN names, else target/release/pgturnstile of this tree.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from string import Template

import psycopg

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Ends a hang; no test asserts on it.
HANG_S = 120

# Server logins, and what stands behind each: see fixtures/database.sql.
LOGINS = ("app_login", "owner_login", "bench_login", "power_login", "catalog_login")


def binary() -> Path:
    """The gateway under test."""
    named = os.environ.get("PGTURNSTILE_BIN")
    path = Path(named) if named else Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "pgturnstile"
    if not path.exists():
        raise RuntimeError(f"{path} does not exist: build it (cargo build --release) or set PGTURNSTILE_BIN")
    return path.resolve()


_taken: set[int] = set()


def free_port() -> int:
    """A port below 32768, where client sockets of this machine do not sit, handed out once in a run."""
    while True:
        port = random.randrange(20000, 32000)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


# How long a token is used again, seconds: far below the 900 that one lives, however long the whole run takes.
TOKEN_KEPT_S = 300


# Several times what the writer of a queued gateway sleeps before it writes what it has.
QUIET_S = 0.06


def settle(folder: Path):
    """Until nothing was written there for a while, or for long: what a client has seen of a queued gateway is on the disk by then."""
    written, since = None, time.monotonic()
    end = since + 5 * QUIET_S
    while time.monotonic() < min(end, since + QUIET_S):
        with os.scandir(folder) as entries:
            now = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".evidence"))
        if now != written:
            written, since = now, time.monotonic()
        time.sleep(QUIET_S / 6)


def wait_until(what, condition, seconds=60.0):
    """Polls until `condition()` is true, and returns it. The limit only ends a hang: no test asserts a duration."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            got = condition()
            if got:
                return got
        except Exception as error:  # noqa: BLE001 - reported below
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s; last error: {last}")


def disk_shim(folder: Path) -> Path:
    """A library that makes a disk misbehave on command, for LD_PRELOAD; its source says how."""
    shim = folder / "disk_shim.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, HERE / "fixtures" / "disk_shim.c", "-ldl"], check=True)
    return shim


def spawn_on_shim(gateway, folder: Path) -> tuple[Path, Path]:
    """Starts a gateway on the misbehaving disk: the file of its orders, and the folder of what a loss of power would leave."""
    order, durable = gateway.folder / "order", gateway.folder / "durable"
    order.write_text("none")
    durable.mkdir()
    gateway.spawn(env={"LD_PRELOAD": str(disk_shim(folder)), "DRILL_EVIDENCE": str(gateway.evidence),
                       "DRILL_ORDER": str(order), "DRILL_DURABLE": str(durable)})
    gateway.wait_ready()
    return order, durable


class SmallDisk:
    """A file system of its own that fills up, for root: `reason` says why there is none."""

    def __init__(self, folder: Path, mib: int, mode="755"):
        self.folder = folder
        folder.mkdir()
        options = f"size={mib}m,mode={mode}"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True, text=True)
        self.reason = mounted.returncode and f"no tmpfs can be mounted: {mounted.stderr.strip()}"

    def fill(self):
        with open(self.folder / "ballast", "wb") as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 65_536)
                    ballast.flush()
            except OSError:
                pass

    def make_room(self):
        (self.folder / "ballast").unlink()

    def unmount(self):
        subprocess.run(["umount", self.folder], check=False, capture_output=True)


def pg_bin() -> Path:
    """The server's programs: those that PGTURNSTILE_PG_BIN names, else the newest installed."""
    named = os.environ.get("PGTURNSTILE_PG_BIN")
    if named:
        if not (Path(named) / "postgres").exists():
            raise RuntimeError(f"PGTURNSTILE_PG_BIN={named} holds no postgres")
        return Path(named)
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
    if not found:
        raise RuntimeError("no PostgreSQL server under /usr/lib/postgresql (apt-get install postgresql)")
    return Path(found[-1])


class Postgres:
    """A cluster of its own: SCRAM over TCP, trust on its own socket."""

    def __init__(self, folder: Path, hba="", settings=""):
        """`hba` stands before the lines of every cluster, `settings` behind theirs."""
        self.folder = folder
        self.hba, self.settings = hba, settings
        self.port = free_port()
        self.bin = pg_bin()
        self.passwords = {login: secrets.token_urlsafe(18) for login in LOGINS}
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def _as_server(self, *command):
        command = [str(part) for part in command]
        return ["runuser", "-u", self.user, "--", *command] if os.geteuid() == 0 else command

    def start(self):
        self.folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        data = self.folder / "data"
        run = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
        subprocess.run(
            self._as_server(self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"),
            **run,
        )
        hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (data / "pg_hba.conf").write_text("local all postgres trust\n" + self.hba + hba)
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n"
                "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nmax_connections = 200\n"
                "log_statement = 'all'\nlog_line_prefix = '%p %u %a '\n" + self.settings
            )
        subprocess.run(
            self._as_server(self.bin / "pg_ctl", "-D", data, "-l", self.folder / "log", "-w", "-t", "120", "start"), **run
        )
        with self.superuser("postgres") as db:
            for login in LOGINS:
                extra = "SUPERUSER" if login == "power_login" else ""
                db.execute(f"CREATE ROLE {login} LOGIN {extra} PASSWORD '{self.passwords[login]}'")
            db.execute("CREATE ROLE boss")
            db.execute("CREATE ROLE chief SUPERUSER")
            db.execute("CREATE DATABASE shop")
            db.execute("CREATE DATABASE bench OWNER bench_login")
        with self.superuser("shop") as db:
            db.execute((HERE / "fixtures" / "database.sql").read_text())
        with self.superuser("bench") as db:
            db.execute("CREATE SCHEMA bench AUTHORIZATION bench_login")

    def superuser(self, database="shop") -> psycopg.Connection:
        """Beside the gateway, as the superuser: for fixtures, and to look at what really happened."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        )

    def one(self, sql, *parameters):
        """The first value of a query, as the superuser."""
        with self.superuser() as db:
            row = db.execute(sql, parameters or None).fetchone()
            return None if row is None else row[0]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self):
        if (self.folder / "data").exists():
            subprocess.run(
                self._as_server(self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                check=False,
            )


class Idp:
    """The development identity provider, and the tokens of this run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = folder / "idp"
        self.port = free_port()
        self.process = None
        self.tokens: dict[tuple, tuple[float, str]] = {}

    def start(self):
        out = open(self.folder / "issuer.toml", "wb")
        err = open(self.folder / "idp.log", "wb")
        self.process = subprocess.Popen(
            [binary(), "dev-idp", "--listen", f"127.0.0.1:{self.port}", "--state", self.state], stdout=out, stderr=err
        )
        wait_until("the identity provider", lambda: (self.folder / "issuer.toml").stat().st_size > 0)

    def token(self, *groups, sub=None, **options) -> str:
        """A token for a member of `groups`; `ttl` and `audience` as the command takes them."""
        key = (groups, sub, tuple(sorted(options.items())))
        made_at, kept = self.tokens.get(key, (0.0, ""))
        if not kept or time.monotonic() - made_at > TOKEN_KEPT_S:
            command = [binary(), "token", "--idp-state", self.state, "--sub", sub or f"{groups[0] if groups else 'nobody'}-7"]
            if groups:
                command += ["--groups", ",".join(groups)]
            for name, value in options.items():
                command += [f"--{name}", str(value)]
            made = subprocess.run(command, check=True, capture_output=True, text=True)
            kept = made.stdout.strip()
            self.tokens[key] = (time.monotonic(), kept)
        return kept

    def stop(self):
        end(self.process)


def end(process, how=signal.SIGTERM):
    """Ends a process that this run started, and waits for it."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Gateway:
    """One `pgturnstile serve` with its own folder."""

    def __init__(self, folder: Path, database: Postgres, idp: Idp, certificates: Path, **settings):
        self.folder = folder
        self.database = database
        self.idp = idp
        self.certificate = certificates / "gateway.crt"
        self.port = free_port()
        self.control_port = free_port()
        self.process = None
        self.settings = {
            "gate_port": self.port,
            "control_port": self.control_port,
            "extra_control": "",
            "idp_port": idp.port,
            "pg_address": f"127.0.0.1:{database.port}",
            "statement_bytes_max": 262_144,
            "evidence": "evidence",
            "reserve_bytes": 1_048_576,
            "segment_bytes": 16_777_216,
            "login_deadline_ms": 20_000,
            "direct": "true",
            "extra": "",
            "extra_limits": "",
            "extra_target": "",
            "target_tls": '{ mode = "disable" }',
            "drain_deadline_s": 2,
            "app_password": 'password = { file = "secrets/app_login" }',
            **settings,
        }
        folder.mkdir(parents=True)
        (folder / "secrets").mkdir(mode=0o700)
        for name in ("gateway.crt", "gateway.key"):
            shutil.copy(certificates / name, folder / name)
        for login, password in database.passwords.items():
            secret = folder / "secrets" / login
            secret.write_text(password)
            secret.chmod(0o600)
        self.evidence = (folder / self.settings["evidence"]).resolve()
        self.evidence.mkdir(mode=0o700, exist_ok=True)
        (folder / "state").mkdir(mode=0o700)
        self.write("pgturnstile.toml", (HERE / "fixtures" / "pgturnstile.toml").read_text())
        self.write("policy.toml", (HERE / "fixtures" / "policy.toml").read_text())

    def write(self, name, template):
        (self.folder / name).write_text(Template(template).substitute({k: str(v) for k, v in self.settings.items()}))

    def listener(self, keys, tls=True, address=None) -> int:
        """One more `[[listener]]` in the file, with these keys; its port."""
        port = free_port()
        certificate = 'tls = { certificate = "gateway.crt", key = "gateway.key" }\n' if tls else ""
        with open(self.folder / "pgturnstile.toml", "a", encoding="utf-8") as toml:
            toml.write(f'\n[[listener]]\naddress = "{address or "127.0.0.1"}:{port}"\n{certificate}{keys}\n')
        return port

    @property
    def log_path(self) -> Path:
        return self.folder / "gateway.log"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def spawn(self, *arguments, wrapper=(), env=None, **more):
        """Starts it without waiting; the log goes on where it stood. `wrapper` is a command that becomes the gateway."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*wrapper, binary(), "serve", "--config", self.folder / "pgturnstile.toml", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "PGTURNSTILE_LOG": os.environ.get("PGTURNSTILE_LOG", "info"), **(env or {})},
            **more,
        )
        log.close()

    def start(self, target="shop"):
        self.spawn()
        self.wait_ready(target)
        return self

    def wait_ready(self, target="shop"):
        """Until a session can begin: the listener is open and the target's catalog is read."""
        end_at = time.monotonic() + 90
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log()}")
            try:
                with self.connect("bench" if target == "bench" else "app", database=target) as db:
                    db.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > end_at:
                    raise AssertionError(f"the gateway did not come up: {error}\n{self.log()[-3000:]}") from error
                time.sleep(0.1)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def conninfo(self, group="app", database="shop", token=None, **more) -> dict:
        return {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self.port,
            "dbname": database,
            "user": group,
            "password": token if token is not None else self.idp.token(group),
            "sslmode": "verify-full",
            "sslrootcert": str(self.certificate),
            "connect_timeout": 60,
            **more,
        }

    def connect(self, group="app", database="shop", token=None, autocommit=True, **more) -> psycopg.Connection:
        """psycopg 3 through the gateway."""
        return psycopg.connect(**self.conninfo(group, database, token, **more), autocommit=autocommit)

    def environment(self, group="app", database="shop", **more) -> dict:
        """For libpq's own programs."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {
            **env,
            "PGHOST": "localhost",
            "PGHOSTADDR": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGDATABASE": database,
            "PGUSER": group,
            "PGPASSWORD": self.idp.token(group),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.certificate),
            "LC_ALL": "C.UTF-8",
            **more,
        }

    def psql(self, *arguments, group="app", database="shop", stdin=None, check=False, env=None):
        """psql through the gateway; stops at the first error."""
        return subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *map(str, arguments)],
            env=self.environment(group, database, **(env or {})),
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=HANG_S,
        )

    def served(self):
        """Another session is served."""
        with self.connect() as db:
            assert db.execute("SELECT 40 + 2").fetchone() == (42,)
        assert self.alive()

    def evidence_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.evidence.rglob("*")) if path.is_file())

    def page(self, path, **more) -> tuple[int, bytes]:
        """A page of the admin listener: its status and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.control_port}{path}", **more)
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels as they are written."""
        status, body = self.page("/metrics")
        assert status == 200, body
        lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def verify(self, directory=None):
        return subprocess.run(
            [binary(), "verify", directory or self.evidence], capture_output=True, text=True, check=False
        )

    def records(self) -> list[dict]:
        """The evidence as `evidence show --json` speaks it, with what the clients of a running gateway have seen so far."""
        if self.alive():
            settle(self.evidence)
        shown = subprocess.run(
            [binary(), "evidence", "show", "--json", self.evidence], capture_output=True, text=True, check=False
        )
        assert shown.returncode in (0, 1), shown.stderr
        return [json.loads(line) for line in shown.stdout.splitlines() if line.strip()]

    def wait_record(self, what, condition):
        """Until some record fulfils `condition`; the record."""
        return wait_until(what, lambda: next((r for r in self.records() if condition(r)), None))

    def stop(self, how=signal.SIGTERM):
        end(self.process, how)


class Handed:
    """A listening socket that outlives the gateways that serve it: TCP on the gateway's port, or a Unix socket."""

    def __init__(self, gate: Gateway, path: Path | None = None):
        self.gate = gate
        self.socket = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", gate.port) if path is None else str(path))
        self.socket.listen(512)

    def spawn(self):
        # As sd_listen_fds(3) hands it over: descriptor 3 exactly, and the process id is the gateway's own.
        fd = self.socket.fileno()
        script = f'exec 3<&{fd}; exec {fd}<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
        if fd == 3:
            script = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
        self.gate.spawn(wrapper=["bash", "-c", script], pass_fds=[fd])


def certificates(folder: Path):
    """A self-signed certificate for localhost, and its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", folder / "gateway.key", "-out", folder / "gateway.crt"],
        check=True, capture_output=True,
    )
    (folder / "gateway.key").chmod(0o600)


class World:
    """Everything of one run."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pgturnstile-e2e."))
        self.folder.chmod(0o755)
        self.database = Postgres(self.folder / "postgres")
        self.idp = Idp(self.folder)
        self.gateways: list[Gateway] = []

    def start(self):
        certificates(self.folder)
        self.database.start()
        self.idp.start()
        return self

    def gateway(self, **settings) -> Gateway:
        """One more gateway, not started."""
        made = Gateway(self.folder / f"gateway-{len(self.gateways)}", self.database, self.idp, self.folder, **settings)
        self.gateways.append(made)
        return made

    def stop(self):
        for gateway in self.gateways:
            gateway.stop()
        self.idp.stop()
        self.database.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def policed(world, setup, cleanup, more="", change=None):
    """A running gateway of its own with `more` in its policy, `change` done to the rest, and what `setup` makes until `cleanup`."""
    with world.database.superuser() as db:
        db.execute(setup)
    gateway = world.gateway()
    policy = gateway.folder / "policy.toml"
    text = policy.read_text()
    policy.write_text((change(text) if change else text) + more)
    try:
        yield gateway.start()
    finally:
        gateway.stop()
        with world.database.superuser() as db:
            db.execute(cleanup)


def in_schema(schema):
    """A change of the policy: sessions see that schema alone, and may work in it."""
    return lambda text: text.replace('on = ["shop.*"]', f'on = ["shop.*", "{schema}.*"]').replace(
        'search_path = ["shop"]', f'search_path = ["{schema}"]')
