"""What runs: PostgreSQL, pgbouncer twice, the gateway several times. All of it is ours, listens on loopback and ends with us.

One gateway process for each durability, and one more with labels and every detector on, so that CPU is attributable to it; with --recording
one for each `record` and durability, once on the disk as it is and once on one whose syncs take longer on command. Every client connection is TLS, with the same
certificate at pgbouncer and at the gateway, because the gateway takes tokens inside TLS only; both speak plaintext to the
server and log in there as the same role by SCRAM.
"""

import os
import pathlib
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = ["postgresql", "postgresql-contrib", "postgresql-client", "pgbouncer", "openssl", "gcc", "libc6-dev", "libpq-dev", "libssl-dev"]
DATABASE = ROLE = "bench"
START_LIMIT_S = 60
TOKEN_TTL_S = 86_400
#: Milliseconds by which syncs are made longer.
SYNCS_MS = (1, 3)
#: What makes them so.
SHIM = ROOT / "tests/e2e/fixtures/disk_shim.c"


@dataclass(frozen=True)
class Gate:
    """One gateway process."""

    durability: str
    #: It has a label and every detector on.
    masks: bool = False
    record: str = "digest"
    #: Its syncs take longer on command.
    shimmed: bool = False


GATES = {"gateway-queued": Gate("queued"), "gateway-gated": Gate("gated"), "gateway-masking": Gate("queued", masks=True)}
#: Of --recording. All of them mask, so that they differ in what is recorded alone: `rows` is refused without.
RECORDING = {
    f"{record}-{durability}{'-slow' if shimmed else ''}": Gate(durability, True, record, shimmed)
    for record in ("digest", "text", "rows")
    for durability in ("gated", "queued")
    for shimmed in (False, True)
}
LABELS = """
[[label]]
column = "public.patients.ssn"
tier = "restricted"
mask = "null"
"""


class Failed(Exception):
    """The comparison cannot be made; says why."""


@dataclass
class Endpoint:
    """One proxy: what a client needs to reach it, and whose CPU counts."""

    name: str
    port: int
    pid: int
    password: str = field(repr=False)
    #: The file by which its disk is told how long a sync takes, and what is written there before a cell.
    order: pathlib.Path | None = None
    told: str = ""

    def prepare(self):
        """Its disk is as slow as its name says."""
        if self.order:
            self.order.write_text(self.told)

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": ROLE,
            "PGDATABASE": DATABASE,
            "PGPASSWORD": self.password,
            "PGSSLMODE": "require",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "20",
        }


def shell(script, *arguments, **options):
    """A piece of bash with docker/common.sh sourced."""
    command = ["bash", "-c", f"set -euo pipefail; . docker/common.sh; {script}", "compare", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise Failed(f"this failed, see above: {script}")
    return done.stdout.strip()


def free_port():
    """Below 32768: above, a client socket of this very benchmark may sit on a listener's port."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Stand:
    """A context: everything is up inside it and gone behind it."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.gates = RECORDING if chosen.recording else GATES
        self.processes = []
        self.endpoints = []
        self.folder = None
        self.own_folder = not chosen.dir

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_):
        self._stop()

    def _start(self):
        shell('need_packages "$@"', *PACKAGES)
        self.gateway = self._gateway()
        self.postgres_bin = shell("pg_bin")
        self.folder = pathlib.Path(self.chosen.dir or tempfile.mkdtemp(prefix="pgturnstile-bench."))
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            self.own_folder = False
            raise Failed(f"{self.folder} is not empty")
        self.folder.chmod(0o755)
        self.evidence = pathlib.Path(self.chosen.evidence_dir or self.folder)
        self.user = shell("pg_user")
        self.password = secrets.token_urlsafe(24)
        self._start_postgres()
        shell('certificate "$1"', self.folder)
        idp = self._start_idp()
        for name, packet_bytes in (("pgbouncer-4k", 4096), ("pgbouncer-64k", 65536)):
            self._start_pgbouncer(name, packet_bytes)
        if self.chosen.recording:
            self.shim = self.folder / "disk_shim.so"
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", self.shim, SHIM, "-ldl"], check=True)
        for name, gate in self.gates.items():
            self._start_gateway(name, gate, idp)
        self.tls = self._negotiated()

    def _gateway(self):
        named = os.environ.get("PGTURNSTILE_BIN")
        if named:
            return pathlib.Path(named).resolve()
        profile = self.chosen.profile
        shell('need_cargo; need_packages "${BUILD_PACKAGES[@]}"; cargo build --profile "$1" --locked --bin pgturnstile', profile)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        return (ROOT / target / profile / "pgturnstile").resolve()

    def revision(self):
        """What the gateway was built from, as far as it can be known."""
        if os.environ.get("PGTURNSTILE_BIN"):
            return "the binary named by PGTURNSTILE_BIN"
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        return f"profile {self.chosen.profile}, {done.stdout.strip() or 'unknown revision'}"

    # -- PostgreSQL

    def _start_postgres(self):
        self.postgres_port = free_port()
        settings = ["shared_buffers = 256MB", "autovacuum = off", "max_wal_size = 4GB"]
        shell('start_postgres "$@"', self.folder / "postgres", self.postgres_port, *settings)
        self.postgres_pid = int((self.folder / "postgres/data/postmaster.pid").read_text().splitlines()[0])
        roles = "".join(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}';\n" for role in (ROLE, "pgturnstile_catalog"))
        self._sql("postgres", roles + f"CREATE DATABASE {DATABASE};\n")
        shell(
            'as_pg "$(pg_bin)/pgbench" -h "$1" -p "$2" -U postgres -i -q -s "$3" "$4" >/dev/null 2>"$1/pgbench.log"',
            self.folder / "postgres", self.postgres_port, self.chosen.scale, DATABASE,
        )
        people = (pathlib.Path(__file__).parent / "people.sql").read_text()
        self._sql(DATABASE, people.replace("@ROWS@", str(self.chosen.bulk_rows)))
        self._sql(DATABASE, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}; CHECKPOINT;")

    def _sql(self, database, text):
        shell('superuser "$1" "$2" -d "$3" -f -', self.folder / "postgres", self.postgres_port, database, input=text)

    # -- pgbouncer

    def _start_pgbouncer(self, name, packet_bytes):
        folder, port = self.folder / name, free_port()
        folder.mkdir(mode=0o700)
        (folder / "users.txt").write_text(f'"{ROLE}" "{self.password}"\n')
        for end in ("key", "crt"):
            shutil.copy(self.folder / f"gateway.{end}", folder)
        (folder / "pgbouncer.ini").write_text(f"""
[databases]
{DATABASE} = host=127.0.0.1 port={self.postgres_port} dbname={DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = session
default_pool_size = 64
max_client_conn = 200
pkt_buf = {packet_bytes}
client_tls_sslmode = require
client_tls_key_file = {folder}/gateway.key
client_tls_cert_file = {folder}/gateway.crt
server_tls_sslmode = disable
logfile = {folder}/log
log_connections = 0
log_disconnections = 0
""")
        if os.getuid() == 0:
            owner = pwd.getpwnam(self.user)
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        process = self._spawn(name, ["pgbouncer", "-q", folder / "pgbouncer.ini"], as_server_user=True)
        self._listening(name, port, process)
        self.endpoints.append(Endpoint(name, port, process.pid, self.password))

    # -- the gateway

    def _start_idp(self):
        state, port = self.folder / "idp", free_port()
        process = self._spawn("idp", [self.gateway, "dev-idp", "--listen", f"127.0.0.1:{port}", "--state", state])
        self._listening("idp", port, process)
        # Its configuration is printed once everything is in its folder.
        self._until("idp", process, lambda: "[[issuer]]" in (self.folder / "idp.log").read_text())
        token = [self.gateway, "token", "--idp-state", state, "--sub", "bench", "--groups", "bench", "--ttl", str(TOKEN_TTL_S)]
        self.token = subprocess.run(token, check=True, capture_output=True, text=True).stdout.strip()
        return port

    def _start_gateway(self, name, gate, idp_port):
        folder, port = self.folder / name, free_port()
        folder.mkdir(mode=0o700)
        evidence = self.evidence / f"{name}-evidence"
        for made in (folder / "state", evidence):
            made.mkdir(mode=0o700, parents=True)
        values = {
            "@FOLDER@": self.folder, "@EVIDENCE@": evidence, "@PORT@": port, "@IDP_PORT@": idp_port,
            "@POSTGRES_PORT@": self.postgres_port, "@DURABILITY@": gate.durability,
            "@DETECTORS@": ', "packs/pii.toml"' if gate.masks else "", "@LABELS@": LABELS if gate.masks else "",
            "@RECORD@": gate.record,
        }
        for template in ("gateway.toml", "policy.toml"):
            text = (pathlib.Path(__file__).parent / template).read_text()
            for mark, value in values.items():
                text = text.replace(mark, str(value))
            (folder / template).write_text(text)
        secret = folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        order, environment = None, None
        if gate.shimmed:
            order = folder / "order"
            order.write_text("none")
            shim = {"LD_PRELOAD": str(self.shim), "DRILL_EVIDENCE": str(evidence), "DRILL_ORDER": str(order)}
            environment = os.environ | shim
        command = [self.gateway, "--log", "warn", "serve", "--config", folder / "gateway.toml"]
        process = self._spawn(name, command, environment=environment)
        self._listening(name, port, process)
        endpoint = Endpoint(name, port, process.pid, self.token)
        # It refuses sessions until it has read the target's catalog.
        self._until(name, process, lambda: self._psql(endpoint).returncode == 0)
        if not order:
            self.endpoints.append(endpoint)
        for milliseconds in SYNCS_MS if order else ():
            slow = f"{name.removesuffix('-slow')}+{milliseconds}ms"
            told = f"slow-sync {milliseconds}"
            self.endpoints.append(Endpoint(slow, port, process.pid, self.token, order, told))

    # -- processes

    def _spawn(self, name, command, as_server_user=False, environment=None):
        log = open(self.folder / f"{name}.log", "wb")
        user = self.user if as_server_user and os.getuid() == 0 else None
        extra = [] if user is None else pwd.getpwnam(user)
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment,
            **({} if user is None else {"user": extra.pw_uid, "group": extra.pw_gid, "extra_groups": []}),
        )
        log.close()
        self.processes.append(process)
        return process

    def _listening(self, name, port, process):
        def accepts():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._until(name, process, accepts)

    def _until(self, name, process, happened):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and process.poll() is None:
            if happened():
                return
            time.sleep(0.05)
        raise Failed(f"{name} did not start:\n{(self.folder / f'{name}.log').read_text()[-2000:]}")

    def _psql(self, endpoint):
        command = [f"{self.postgres_bin}/psql", "-X", "-c", "SELECT 1", "-c", r"\conninfo"]
        return subprocess.run(command, env=endpoint.environment(), capture_output=True, text=True, timeout=START_LIMIT_S)

    def _negotiated(self):
        """The suite that libpq agreed on with each endpoint: the comparison is unfair unless it is one."""
        suites = {}
        for endpoint in self.endpoints:
            done = self._psql(endpoint)
            if done.returncode:
                raise Failed(f"{endpoint.name} does not answer: {done.stderr.strip()}")
            suites[endpoint.name] = done.stdout.partition("(protocol:")[2].partition(")")[0].strip()
        if len(set(suites.values())) != 1:
            raise Failed(f"endpoints agreed on different TLS: {suites}")
        return suites.popitem()[1]

    def _stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.folder is None:
            return
        if (self.folder / "postgres").exists():
            shell('stop_postgres "$1"', self.folder / "postgres")
        for name in self.gates:
            shutil.rmtree(self.evidence / f"{name}-evidence", ignore_errors=True)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
