"""What a gateway's evidence says of each text of a run: was it *proven*, so that it went on before its record was durable?

Owns: the joining of a run's exchanges with the records of the same sessions. A join that does not fit (another number of texts,
another length) is a fault: then nothing is known, and the command fails.
"""

from __future__ import annotations

import json
import subprocess

from .runs import Gateway, Run, harness

# Why a text counts as one that runs code while the session's own definitions are not in the catalog snapshot.
UNSEEN = "may see a catalog that the snapshot does not show"


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


def join(run: Run, tests: list[str], gateway: Gateway) -> tuple[dict[tuple[str, int, int], dict], list[str]]:
    """What was recorded of each exchange (test, session, number from 1): its text, whether it was proven, whether it runs code of
    users. And what does not fit. The files ran one after the other, so that both lists of sessions have one order."""
    recorded = texts_of(gateway)
    ours = [(test, number, session) for test in tests
            for number, session in enumerate(run.recording.get(test, [])) if session.admitted]
    if len(recorded) != len(ours):
        return {}, [f"{len(ours)} sessions, the evidence has {len(recorded)}"]
    out, faults = {}, []
    for (test, number, session), one in zip(ours, recorded):
        # The name may be cut: the session's own id stands behind it, and the server keeps 63 bytes.
        name = one["name"].removeprefix("pg_regress/").split(" ")[0]
        if not test.startswith(name):
            faults.append(f"{test}: the evidence has a session of {name} there")
            continue
        faults += join_session(test, number, session, one["texts"], out)
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
        out[(test, number, at)] = {
            "text": exchange.text,
            "proven": record["action"] == "allow" and bool(facts) and all(one["unproven"] is None for one in facts),
            "code": any(one["functions"] or UNSEEN in (one["unproven"] or "") for one in facts),
        }
    return []
