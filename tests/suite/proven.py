"""What a gateway's evidence says of each text of a run: was it *proven*, so that it went on before its record was durable?

Owns: the joining of a run's exchanges with the records of the same sessions. A join that does not fit (another number of texts,
another length) is a fault: then nothing is known, and the command fails.
"""

from __future__ import annotations

import json
import subprocess

from .runs import Gateway, Run, harness


def texts_of(gateway: Gateway) -> list[list[dict]]:
    """The judged texts of every session that reached the target, in order; sessions in the order in which they began."""
    command = [harness.binary(), "evidence", "show", "--json", gateway.folder / "evidence"]
    sessions: dict[str, dict] = {}
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as shown:
        for line in shown.stdout:
            record = json.loads(line)
            payload = record.get("payload", {})
            if record["kind"] == "target-chosen":
                sessions[record["session"]] = {"name": payload["application_name"], "texts": []}
            elif record["kind"] == "statement" and payload["protocol"] in ("simple", "parse"):
                sessions[record["session"]]["texts"].append(payload)
    return [session for session in sessions.values() if session["name"].startswith("pg_regress/")]


def join(run: Run, gateway: Gateway) -> tuple[dict[tuple[str, int, int], bool], list[str]]:
    """Whether each exchange (test, session, number from 1) was proven; and what does not fit."""
    recorded: dict[str, list] = {}
    for session in texts_of(gateway):
        test = session["name"].removeprefix("pg_regress/").split(" ")[0]
        recorded.setdefault(test, []).append(session["texts"])
    out, faults = {}, []
    for test, sessions in run.recording.items():
        admitted = [(number, session) for number, session in enumerate(sessions) if session.admitted]
        ours = recorded.get(test, [])
        if len(ours) != len(admitted):
            faults.append(f"{test}: {len(admitted)} sessions, the evidence has {len(ours)}")
            continue
        for (number, session), texts in zip(admitted, ours):
            faults += join_session(test, number, session, texts, out)
    return out, faults


def join_session(test, number, session, texts, out) -> list[str]:
    """The same of one session."""
    asked = [(at, exchange) for at, exchange in enumerate(session.exchanges, 1)
             if any(tag in (b"Q", b"P") for tag, _ in exchange.client)]
    if len(asked) != len(texts):
        return [f"{test}, session {number}: {len(asked)} texts, the evidence has {len(texts)}"]
    for (at, exchange), record in zip(asked, texts):
        if record["text_bytes"] != len(exchange.text.encode()):
            return [f"{test}, session {number}, exchange {at}: {len(exchange.text.encode())} bytes, the evidence has {record['text_bytes']}"]
        facts = record.get("facts") or []
        out[(test, number, at)] = record["action"] == "allow" and bool(facts) and all(one["unproven"] is None for one in facts)
    return []
