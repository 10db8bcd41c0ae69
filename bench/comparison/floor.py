"""The floor under `gated`: what syncs alone cost, whoever asks for them.

A query is answered only once its record is on disk, and clients in a closed loop can share one sync at most, all of them.
So `queued` (the same work without waiting) plus one sync for every N queries of N clients is what gated could cost at
best, with a hand-over to and from the disk that is free. The sync is measured where it happens: at the rate it would have,
beside pgbouncer under the same load, by a process that does nothing else; caches are cold there and the processor has
other interrupts, which is why it costs more than in a loop of its own.
"""

import os
import pathlib
import select
import statistics
import subprocess
import sys
import time

from . import verdict

SYNC_BYTES, SYNC_SPACE_BYTES, ALONE_S = 6_000, 8 << 20, 0.2
BESIDE = "pgbouncer-4k"


def syncs(path, per_second, ends):
    """Writes and syncs until `ends()`, once at least, and at most so often: CPU seconds and time, each for one of them.

    Only the two calls count: what paces them does not.
    """
    data = os.urandom(SYNC_BYTES)
    done = cpu = wall = offset = 0
    with open(path, "wb", buffering=0) as file:
        # Written, not only reserved: so does the gateway.
        file.write(bytes(SYNC_SPACE_BYTES))
        os.fsync(file)
        due = time.perf_counter()
        while not done or not ends():
            due = max(due + 1 / per_second, time.perf_counter())
            time.sleep(max(due - time.perf_counter(), 0))
            began, before = time.perf_counter(), time.thread_time()
            os.pwrite(file.fileno(), data, offset)
            os.fdatasync(file)
            cpu, wall, done = cpu + time.thread_time() - before, wall + time.perf_counter() - began, done + 1
            offset = (offset + SYNC_BYTES) % (SYNC_SPACE_BYTES - SYNC_BYTES)
    path.unlink()
    return cpu / done, wall / done


def alone(folder):
    """The same without pause on an idle machine, in words."""
    end = time.perf_counter() + ALONE_S
    cpu, wall = syncs(folder / "bare-sync", float("inf"), lambda: time.perf_counter() > end)
    return f"{cpu * 1e6:.0f} us of CPU, {wall * 1e6:.0f} us of time"


def under_load(stand, workload, clients, queries_per_second, seconds):
    """CPU of one sync in microseconds, beside pgbouncer serving `workload`."""
    beside = next(endpoint for endpoint in stand.endpoints if endpoint.name == BESIDE)
    command = [sys.executable, "-m", __name__, str(stand.evidence / "bare-sync"), str(queries_per_second / clients)]
    here = pathlib.Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        workload.run(beside, seconds)
    finally:
        said = process.communicate()[0]
    return float(said) * 1e6


def ratio(cells, workload, clients, sync_us):
    """What gated can be at best, as a ratio to pgbouncer with its interval."""
    rounds = zip(cells[workload, "gateway-queued"], cells[workload, BESIDE], sync_us, strict=True)
    ratios = [(queued.cpu + one / clients) / bouncer.cpu for queued, bouncer, one in rounds]
    return verdict.Ratio(statistics.median(ratios), *verdict.interval(ratios))


if __name__ == "__main__":
    # Until the other end of standard input is closed.
    print(syncs(pathlib.Path(sys.argv[1]), float(sys.argv[2]), lambda: select.select([sys.stdin], [], [], 0)[0])[0])
