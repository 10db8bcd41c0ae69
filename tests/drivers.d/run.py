"""Runs each driver's program against one gateway and gathers what it told.

Owns: the world of the run, the programs' processes, and what the gateway does on their behalf. May not: judge a driver;
`expected.toml` says what is known not to work and why. Fails: a program that ends early, hangs or tells nothing is a fault
of each step that it did not tell.

A program writes one line a step, fields split by tabs, and may ask for something and wait for one line:

    yes   STEP  NOTE        it works
    no    STEP  REASON      it does not
    none  STEP  REASON      the driver has no such thing
    ask   drain             SIGTERM to the gateway; answered once it refuses new sessions
    ask   reopen            waits until the gateway is gone, and starts it again
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from harness import World, wait_until  # noqa: E402

# Ends a program that hangs; nothing is measured by it.
PROGRAM_HANG_S = 240


class Ground:
    """The world of one run, and its gateway."""

    def __init__(self):
        self.world = World().start()
        with self.world.database.superuser() as db:
            db.execute((HERE / "fixture.sql").read_text())
        # A drain that is not cut off: the programs end their transactions themselves.
        self.gateway = self.world.gateway(drain_deadline_s=600)
        with open(self.gateway.folder / "policy.toml", "a", encoding="utf-8") as policy:
            policy.write((HERE / "policy.toml").read_text())
        self.gateway.start()
        self.gateway.wait_ready("bench")
        self.draining = False

    def stop(self):
        # The deadline above is for programs; what is left over now is nobody's.
        if self.gateway.alive():
            self.gateway.process.kill()
            self.gateway.process.wait()
        self.world.stop()

    def answer(self, wish: str) -> str:
        gateway = self.gateway
        if wish == "drain":
            self.draining = True
            before = gateway.log().count("draining")
            gateway.process.send_signal(signal.SIGTERM)
            wait_until("the drain", lambda: gateway.log().count("draining") > before)
            return "draining"
        if wish == "reopen":
            gateway.process.wait(PROGRAM_HANG_S)
            self.draining = False
            gateway.start()
            return "open"
        return f"what is {wish}?"

    def whole(self):
        """A gateway that serves, whatever the last program left behind."""
        if self.draining and self.gateway.alive():
            self.gateway.process.kill()
            self.gateway.process.wait()
        self.draining = False
        if not self.gateway.alive():
            self.gateway.start()

    def run(self, command: list, environment: dict, steps: list[str]) -> dict[str, dict]:
        """What the program told of each step."""
        self.whole()
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=self.world.folder,
        )
        told: dict[str, dict] = {}
        try:
            self._listen(process, told)
        finally:
            if process.poll() is None:
                process.kill()
            said = " ".join((process.communicate()[1] or "").split())[-400:]
        if not self.gateway.alive() and "drain" not in told:
            said += " THE GATEWAY ENDED: " + self.gateway.log()[-400:]
        for step in steps:
            told.setdefault(step, {"answer": "no", "note": f"the program told nothing of it (exit {process.returncode}): {said}"})
        return told

    def _listen(self, process, told):
        # A blocking read ends when the program does: a hanging one is ended here.
        watchdog = threading.Timer(PROGRAM_HANG_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                kind, _, rest = line.rstrip("\n").partition("\t")
                name, _, note = rest.partition("\t")
                if kind == "ask":
                    process.stdin.write(self.answer(name) + "\n")
                    process.stdin.flush()
                elif kind in ("yes", "no", "none"):
                    told[name] = {"answer": kind, "note": note.strip()}
                else:
                    print(f"    {line.rstrip()}", file=sys.stderr)
            process.wait(60)
        finally:
            watchdog.cancel()
