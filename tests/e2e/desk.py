"""A gateway that holds statements, its requesters and its approvers: what the tests of holds share.

Owns: the rules, the tokens, the commands an approver types, and a statement that runs in the background. Nothing here waits for a
time to pass: a hold is there when the gateway lists it.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from harness import HANG_S, binary, wait_until

HOLD = "hold = {{ approvers = [\"dba\"], quorum = {quorum}, ttl_s = {ttl}, in_transaction_ttl_s = {ttl}{tickets} }}"


def rule(name, classes, on, quorum=1, ttl=300, more="", tickets="") -> str:
    """A restrict that holds; `tickets`: more of its keys."""
    hold = HOLD.format(quorum=quorum, ttl=ttl, tickets=tickets)
    return (
        f'\n[[restrict]]\nid = "{name}"\ngroups = ["app"]\ntargets = ["shop"]\nclasses = {json.dumps(classes)}\n'
        f'on = ["{on}"]\nthen = "hold"\n{hold}\n{more}\n'
    )


APPROVERS = '\n[group.dba]\nany = [{ issuer = "dev", groups = ["dba"] }]\n'

RULES = (
    APPROVERS
    + rule("one-approves", ["write.delete"], "shop.notes")
    + rule("two-approve", ["write.update"], "shop.notes", quorum=2)
    + rule("soon-over", ["write.delete"], "shop.wide", ttl=1)
    + rule("read-approved", ["read.select"], "shop.binaries")
    + rule("ddl-approved", ["write.truncate"], "shop.binaries")
)


def guards(text: str, **more) -> str:
    """The policy with more guards for the app's sessions."""
    spelled = "".join(f"{name} = {value}, " for name, value in more.items())
    found = "guards = { statement_timeout_ms = 60_000, lock_timeout_ms = 20_000, "
    assert found in text
    return text.replace(found, "guards = { lock_timeout_ms = 20_000, " + spelled, 1)


def human(name) -> dict:
    """The claims of a person."""
    return {"claims-json": json.dumps({"email": f"{name}@example.com", "email_verified": True})}


class Desk:
    """A gateway, and people at its control socket."""

    def __init__(self, gate, policy=lambda text: text, rules=RULES):
        self.gate = gate
        policy_file, configuration = gate.folder / "policy.toml", gate.folder / "pgturnstile.toml"
        policy_file.write_text(policy(policy_file.read_text() + rules))
        text = configuration.read_text().replace('groups = "groups"\n', 'groups = "groups"\nperson = "email"\n')
        configuration.write_text(text + "\n[holds]\nnotice_every_s = 1\n")

    def agent(self, name="kim", sub="agent-7") -> str:
        """The token of an agent behind which a person stands."""
        return self.gate.idp.token("app", sub=sub, **human(name))

    def approver(self, name, *groups) -> str:
        return self.gate.idp.token(*(groups or ("dba",)), sub=name, **human(name))

    def connect(self, **more):
        return self.gate.connect(token=self.agent(), **more)

    def run(self, *arguments, token=None):
        """A command of the gateway's, at its control socket."""
        named = [binary(), *map(str, arguments), "--config", self.gate.folder / "pgturnstile.toml"]
        environment = {} if token is None else {"PGTURNSTILE_TOKEN": token}
        return subprocess.run(named, capture_output=True, text=True, timeout=HANG_S, check=False, env=environment)

    def open(self) -> list[dict]:
        listed = self.run("holds", "--json")
        assert listed.returncode == 0, listed.stderr
        return json.loads(listed.stdout)["holds"]

    def one(self, but=()) -> dict:
        """The hold that is open, beside those named."""
        return wait_until("a hold", lambda: next((hold for hold in self.open() if hold["id"] not in but), None))

    def state(self, ident) -> str:
        shown = self.run("holds", ident, "--json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)["state"]

    def approve(self, ident, name="lee", *groups):
        return self.run("approve", ident, token=self.approver(name, *groups))

    def deny(self, ident, reason, name="lee"):
        return self.run("deny", ident, "--reason", reason, token=self.approver(name))

    def told(self, ident) -> list[dict]:
        """The records of a hold, in their order."""
        return [record for record in self.gate.records() if record.get("payload", {}).get("hold") == ident]

    def told_of_ticket(self, ident) -> list[dict]:
        """The records of a ticket, in their order."""
        return [record for record in self.gate.records() if record.get("payload", {}).get("ticket") == ident]

    def tickets(self) -> dict[str, dict]:
        """Every ticket that is known."""
        listed = self.run("tickets", "--json")
        assert listed.returncode == 0, listed.stderr
        return {ticket["id"]: ticket for ticket in json.loads(listed.stdout)["tickets"]}

    def write(self, mark):
        """A note to be deleted, beside the gateway."""
        with self.gate.database.superuser() as superuser:
            superuser.execute("INSERT INTO shop.notes (test) VALUES (%s)", (mark,))

    def notes(self, mark) -> int:
        return self.gate.database.one("SELECT count(*) FROM shop.notes WHERE test = %s", mark)


@contextmanager
def behind():
    """Runs something while the test goes on; its future is awaited at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda work: pool.submit(work)


def outcome(work):
    """What a statement comes to: its result, or its error."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error
