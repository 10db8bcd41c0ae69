"""What the figures were measured on."""

import os
import platform
import subprocess
import time


def load_average():
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (done.stdout or done.stderr).splitlines()[0].strip()


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _file_system(folder):
    return _first_line("stat", "-f", "-c", "%T", str(folder))


SYNC_BYTES, SYNCS, SYNC_SPACE_BYTES = 6_000, 1_000, 8 << 20


def _bare_sync(folder):
    """What a pwrite with its fdatasync costs here, without any gateway: the floor under `gated`."""
    path = folder / "bare-sync"
    data, offset = os.urandom(SYNC_BYTES), 0
    with open(path, "wb", buffering=0) as file:
        # Written, not only reserved: so does the gateway.
        file.write(bytes(SYNC_SPACE_BYTES))
        os.fsync(file)
        began, before = time.perf_counter(), sum(os.times()[:2])
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), data, offset)
            os.fdatasync(file)
            offset = (offset + SYNC_BYTES) % (SYNC_SPACE_BYTES - SYNC_BYTES)
        wall, cpu = time.perf_counter() - began, sum(os.times()[:2]) - before
    path.unlink()
    return f"{cpu / SYNCS * 1e6:.0f} us of CPU, {wall / SYNCS * 1e6:.0f} us of time"


def describe(stand):
    """A dictionary of facts in the order in which they are printed."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores ({_first_line('systemd-detect-virt')}), {_memory_gib():.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "PostgreSQL": _first_line(f"{stand.postgres_bin}/postgres", "--version"),
        "pgbouncer": _first_line("pgbouncer", "--version"),
        "gateway": f"{_first_line(str(stand.gateway), '--version')}, {stand.revision()}",
        "libpq's TLS": stand.tls,
        "evidence on": _file_system(stand.evidence),
        "a bare pwrite of 6 kB with its fdatasync there": _bare_sync(stand.evidence),
        "load average": load_average(),
    }
