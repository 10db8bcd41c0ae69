"""How a driver's program in Python tells what it found; the lines are described in run.py.

Owns: the lines on standard output. A step that fails says why and the next one goes on, so that one fault hides no other.
"""

from __future__ import annotations

import os
import sys
import time

# Ends a hang; nothing is measured by it.
HANG_S = 60


def tell(kind: str, name: str, note: str = "") -> None:
    print(kind, name, " ".join(str(note).split()), sep="\t", flush=True)


def ask(what: str) -> str:
    """Has the run do something to the gateway, and waits until it is done."""
    tell("ask", what)
    return sys.stdin.readline().strip()


def run(steps: dict) -> None:
    """Runs each step; its value is a note, its exception the reason why not."""
    only = sys.argv[1:]
    for name, step in steps.items():
        if only and name not in only:
            continue
        if isinstance(step, str):
            tell("none", name, step)
            continue
        try:
            tell("yes", name, step() or "")
        except Exception as error:  # noqa: BLE001 - it is what is told
            tell("no", name, f"{type(error).__name__}: {error}")


def check(what, wanted, got) -> None:
    if wanted != got:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {got!r}")


def until(what, condition):
    end = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen")
        time.sleep(0.05)


def env(name: str) -> str:
    return os.environ[name]
