"""What is asked of an endpoint, and how one cell is measured.

A cell is one workload at one endpoint in one round. CPU is read while everybody is connected and busy, so logins (a TLS
handshake, a token or a password) count at nobody; transactions are counted in exactly the same interval, from pgbench's
own log of every transaction.
"""

import math
import os
import pathlib
import re
import shlex
import subprocess
import time
from dataclasses import dataclass, field

from . import proc
from .stand import Failed

LEAD_S = 0.25  # behind the first transaction: everybody is connected, texts are known
TAIL_S = 0.10  # before the last one
SAMPLE_S = 0.02
SEEN_MIN = 0.8  # of a cell's seconds, at least
CELL_LIMIT_S = 300
CACHED_TEXTS = 100
BULK_ROWS_MIN = 3_000_000  # a cell reads at least as many, by repeating: CPU is counted in ticks of 10 ms
MASKING = ("pgbouncer-4k", "pgbouncer-64k", "gateway-masking")
HUNDRED = "SELECT * FROM visits WHERE id BETWEEN :aid * 100 AND :aid * 100 + 99;\n"
POINT = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"


class TooShort(Failed):
    """Too little of a cell was seen to count; the next attempt allows for what was in its way."""


@dataclass
class Cell:
    """One measurement. A unit is a query, or a GB (10^9 bytes) of row payload."""

    units: float
    rate: float  # queries per second, or MB of payload per second
    user_s: float
    system_s: float
    p50_us: float | None = None
    p99_us: float | None = None

    @property
    def cpu(self):
        """Proxy CPU per unit: microseconds per query, or seconds per GB."""
        seconds = (self.user_s + self.system_s) / self.units
        return seconds if self.p50_us is None else seconds * 1e6

    @property
    def user(self):
        """The part of it spent outside the kernel."""
        whole = self.user_s + self.system_s
        return self.cpu * self.user_s / whole if whole else 0.0

    def line(self):
        if self.p50_us is None:
            return f"{self.rate:8.0f} MB/s  {self.cpu:6.2f} s/GB"
        return f"{self.rate:8.0f} q/s  {self.cpu:6.1f} us/query  p50 {self.p50_us:.0f}  p99 {self.p99_us:.0f} us"


@dataclass
class Workload:
    """A workload; `limits` holds {(endpoint, figure): (ratio, who says so)}, figures being cpu, p50 and p99."""

    name: str
    title: str
    run: object
    endpoints: tuple
    limits: dict = field(default_factory=dict)
    #: Its clients, where the floor under gated is of interest.
    floor_of: int | None = None


def recording(stand, chosen):
    """Those of --recording: every `record`, durability and disk beside pgbouncer."""
    point = tuple(endpoint.name for endpoint in stand.endpoints if endpoint.name != "pgbouncer-64k")
    everybody = tuple(endpoint.name for endpoint in stand.endpoints)
    cached = "point query, simple protocol, cached text"
    return [
        Workload("simple-8", cached, _Pgbench(stand, "simple", 8, CACHED_TEXTS), point),
        Workload("rows100-8", "100 rows of 100 bytes", _Pgbench(stand, "simple", 8, CACHED_TEXTS, HUNDRED), point),
        Workload("bulk-clean", "bulk SELECT", _Bulk(stand, chosen.bulk_rows, "visits"), everybody),
    ]


def workloads(stand, chosen):
    """All of them, in the order of the table, or those that were chosen."""
    found = recording(stand, chosen) if chosen.recording else compared(stand, chosen)
    prefixes = tuple(chosen.only.split(","))
    return [workload for workload in found if workload.name.startswith(prefixes)]


def compared(stand, chosen):
    """Those that limits stand on."""
    everybody = tuple(endpoint.name for endpoint in stand.endpoints)
    point = ("pgbouncer-4k", "gateway-queued", "gateway-gated")
    found = [
        Workload(
            f"{mode}-{clients}", title, _Pgbench(stand, mode, clients, CACHED_TEXTS), point, _limits(mode, clients),
            floor_of=clients if mode == "simple" else None,
        )
        for mode, title in (
            ("simple", "point query, simple protocol, cached text"),
            ("extended", "point query, extended protocol"),
            ("prepared", "point query, prepared"),
        )
        for clients in (1, 8, 32)
    ]
    fresh = {("gateway-queued", "cpu"): (1.60, "design")}
    ever_new = _Pgbench(stand, "simple", 8, 100_000 * chosen.scale)
    found.append(Workload("fresh-8", "point query, simple protocol, ever new literals", ever_new, point, fresh))
    hundred = {("gateway-masking", "cpu"): (0.90, "issue")}
    rows = _Pgbench(stand, "simple", 8, CACHED_TEXTS, HUNDRED)
    found.append(Workload("rows100-8", "100 rows of 100 bytes, nothing to mask", rows, (*point, "gateway-masking"), hundred))
    unmasked = tuple(name for name in everybody if name != "gateway-masking")
    bulk = {(name, "cpu"): (1.10, "issue") for name in ("gateway-queued", "gateway-gated")}
    drain = _Bulk(stand, chosen.bulk_rows, "people")
    found.append(Workload("bulk", "bulk SELECT", drain, unmasked, bulk))
    found.append(Workload("bulk-masked", "the same, five columns masked in every row", drain, MASKING))
    clean = {("gateway-masking", "cpu"): (1.10, "issue")}
    found.append(Workload("bulk-clean", "bulk SELECT, nothing to mask", _Bulk(stand, chosen.bulk_rows, "visits"), MASKING, clean))
    return found


def _limits(mode, clients):
    if mode == "simple" and clients == 8:
        return {("gateway-queued", "cpu"): (1.15, "issue"), ("gateway-gated", "cpu"): (1.30, "issue")}
    limits = {}
    if clients == 1 and mode == "simple":
        limits["gateway-queued", "p50"] = (1.20, "design")
    if clients == 32 and mode == "simple":
        limits["gateway-queued", "p99"] = (1.50, "design")
    if clients > 1 and mode != "simple":
        limits["gateway-queued", "cpu"] = (1.15, "design")
    return limits


class _Pgbench:
    """pgbench with a script of one SELECT whose literal is one of `texts`."""

    def __init__(self, stand, mode, clients, texts, statement=POINT):
        self.mode, self.clients = mode, clients
        self.login_s = 0.0  # pgbench's clock runs while its clients log in: the longest login so far
        self.pgbench = f"{stand.postgres_bin}/pgbench"
        self.folder = stand.folder / "load"
        self.folder.mkdir(exist_ok=True)
        self.script = self.folder / f"{'point' if statement == POINT else 'rows'}-{texts}.sql"
        self.script.write_text(f"\\set aid random(1, {texts})\n{statement}")

    def __call__(self, endpoint, seconds):
        command = [
            self.pgbench, "-n", "-M", self.mode, "-c", str(self.clients), "-j", str(min(self.clients, os.cpu_count())),
            "-T", str(math.ceil(seconds + LEAD_S + TAIL_S + self.login_s)), "-f", str(self.script), "-l", "--log-prefix", str(self.folder / "log"),
        ]
        process = subprocess.Popen(command, env=endpoint.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        samples = _sample(endpoint.pid, process)
        output = process.communicate()[0]
        log = self._log()
        login = re.search(r"initial connection time = ([\d.]+) ms", output)
        if login:
            self.login_s = max(self.login_s, float(login[1]) / 1000)
        elif re.search(r"actually processed: 0\b", output):
            self.login_s = 2 * self.login_s + 2
            raise TooShort("pgbench's time was over before all of its clients had logged in")
        if process.returncode or not log:
            raise Failed(f"pgbench at {endpoint.name} failed: {shlex.join(command)}\n{output[-1000:]}")
        return _cell_of(log, samples, seconds)

    def _log(self):
        """(finished at, seconds since 1970; latency, us) of every transaction."""
        log = []
        for path in self.folder.glob("log.*"):
            with open(path, encoding="ascii") as file:
                for line in file:
                    # client, transaction, latency, script, epoch, microseconds
                    _, _, latency_us, _, epoch, epoch_us, *_ = line.split()
                    log.append((int(epoch) + int(epoch_us) / 1e6, int(latency_us)))
            path.unlink()
        log.sort()
        return log


def _sample(pid, process):
    """(time, (user, system)) of `pid` until `process` ends."""
    samples = []
    deadline = time.monotonic() + CELL_LIMIT_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            break
        samples.append((time.time(), proc.cpu(pid)))
        time.sleep(SAMPLE_S)
    return samples


def _cell_of(log, samples, seconds):
    """The cell of the interval between the first sample behind the lead and the last one before the tail."""
    begin, end = log[0][0] + LEAD_S, log[-1][0] - TAIL_S
    if end - begin < seconds * SEEN_MIN:
        raise TooShort(f"only {max(end - begin, 0):.2f} s of {seconds:g} s could be measured")
    inside = [sample for sample in samples if begin <= sample[0] <= end]
    if len(inside) < 2:
        raise TooShort("the cell was too short to be measured: give it more --seconds")
    (begin, (user, system)), (end, (user_end, system_end)) = inside[0], inside[-1]
    latencies = sorted(latency for finished, latency in log if begin < finished <= end)
    if not latencies:
        raise TooShort("no transaction finished inside the measured interval")
    return Cell(
        units=len(latencies),
        rate=len(latencies) / (end - begin),
        user_s=user_end - user,
        system_s=system_end - system,
        p50_us=latencies[len(latencies) // 2],
        p99_us=latencies[len(latencies) * 99 // 100],
    )


class _Bulk:
    """A whole table through drain.c, which only walks message headers: any real reader would be the bottleneck."""

    def __init__(self, stand, rows, table):
        self.table = table
        self.repeats = -(-BULK_ROWS_MIN // rows)
        self.drain = stand.folder / "drain"
        source = pathlib.Path(__file__).parent / "drain.c"
        include = subprocess.run(["pg_config", "--includedir"], capture_output=True, text=True, check=True).stdout.strip()
        compiled = subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", f"-I{include}", "-o", self.drain, source, "-lpq", "-lssl", "-lcrypto"],
            capture_output=True, text=True,
        )
        if compiled.returncode:
            raise Failed(f"drain.c does not compile:\n{compiled.stderr}")

    def __call__(self, endpoint, _seconds):
        process = subprocess.Popen(
            [str(self.drain), f"SELECT * FROM {self.table}", str(self.repeats)], env=endpoint.environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        ready = process.stdout.readline()
        user, system = proc.cpu(endpoint.pid)
        try:
            result, errors = process.communicate("go\n", timeout=CELL_LIMIT_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            process.kill()
            result, errors = process.communicate()
        user_end, system_end = proc.cpu(endpoint.pid)
        if process.returncode or not ready:
            raise Failed(f"the bulk SELECT at {endpoint.name} failed: {errors.strip()[-500:]}")
        seconds, payload_bytes = result.split()
        return Cell(
            units=int(payload_bytes) / 1e9,
            rate=int(payload_bytes) / 1e6 / float(seconds),
            user_s=user_end - user,
            system_s=system_end - system,
        )
