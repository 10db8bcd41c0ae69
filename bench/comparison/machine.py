"""What the figures were measured on."""

import os
import platform
import subprocess

from . import floor


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
        "a bare pwrite of 6 kB with its fdatasync there": floor.alone(stand.evidence),
        "load average": load_average(),
    }
