"""Every text of PostgreSQL's own regression suite, as this gateway classifies it, against what the server does with it.

Two runs. One goes through a gateway, whose evidence says of each text whether it was proven. In the other, which keeps from the server
what that gateway refused, the server is asked about each text before it runs (probe.py): does a read-only transaction refuse it,
what does it lock? Then `pgturnstile explain --each` judges the same texts without a catalog, for a session that may only read and
for one that may write. Unsafe is: a text proven or called a read that the server says writes, or whose command tag is no reading
one; and a relation that the server locks for a text that does not name it, nor anything that leads there. Exit codes: 0 nothing
unsafe, 1 something, 3 the suite or a server cannot be had.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from . import compare, explained, probe, proven, regress, report, runs, sources
from .tap import Tap

# Command tags of what changes nothing that outlives the session's transaction, and of its own housekeeping.
READING_TAGS = {
    "SELECT", "FETCH", "MOVE", "SHOW", "EXPLAIN", "COPY", "SET", "RESET", "SET CONSTRAINTS", "BEGIN", "START TRANSACTION", "COMMIT",
    "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE", "DEALLOCATE", "DEALLOCATE ALL", "DECLARE CURSOR", "CLOSE CURSOR", "CLOSE CURSOR ALL",
    "LISTEN", "UNLISTEN", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP",
}
# A text that runs what another text made: a session judges that one, a single text cannot say.
CARRYING = {"EXECUTE", "FETCH", "MOVE"}


def arguments(words):
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/classify", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("tests", nargs="*", help="files of the suite, without .sql; test_setup runs before them. Default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every disagreement")
    parser.add_argument("--write", action="store_true", help="put the table into tests/README.md")
    return parser.parse_args(words)


def names(answer: dict) -> set[str]:
    """The bare names of every relation that the facts hold."""
    out = set()
    for statement in answer.get("statements", []):
        for atom in statement["atoms"]:
            out |= {part.strip('"').lower() for part in atom["object"].replace("(", " ").replace(",", " ").split(".")[-1:]}
    return out


def runs_code(answer: dict) -> bool:
    """Whether the facts name code of users, or something that no text fixes."""
    classes = {atom["class"] for statement in answer.get("statements", []) for atom in statement["atoms"]}
    return any(name.startswith("call.") or name == "unknown" for name in classes)


def carries(answer: dict) -> bool:
    """Whether what it runs stands in another text."""
    return bool(answer.get("notes")) and any("prepared statement" in note or "cursor" in note for note in answer["notes"])


def handles_rows(answer: dict) -> bool:
    """Whether every statement reads or writes rows. A definition that is changed locks its neighbours' definitions too."""
    parts = [statement["class"].split(".")[0] for statement in answer.get("statements", [])]
    return all(part in ("read", "write", "export", "import", "session") for part in parts)


def hidden(answer: dict, text: str, locked: list[probe.Locked], known: list[compare.Rule]) -> list[str]:
    """Relations that were locked, and that nothing which the facts name leads to."""
    if runs_code(answer) or carries(answer) or not handles_rows(answer):
        return []
    reached = names(answer)
    if any(lock.code and lock.name.lower() in reached for lock in locked):
        return []
    left = list(locked)
    while True:
        led = [lock for lock in left if lock.name.lower() in reached or any(name.lower() in reached for name in lock.near)]
        if not led:
            rule = next((rule for rule in known if rule.kind == "lock" and rule.pattern.search(text)), None) if left else None
            if rule is None:
                return [lock.name for lock in left]
            rule.uses += 1
            return []
        for lock in led:
            left.remove(lock)
            reached |= {lock.name.lower(), *(name.lower() for name in lock.near)}


def bare_tag(tag: str) -> str:
    """A command tag without its counts."""
    return " ".join(word for word in tag.split() if not word.isdigit())


def disagreements(item: dict, reading: dict, writing: dict, known: list[compare.Rule]) -> list[tuple[str, str]]:
    """(kind, words) of what is wrong with one text. Kinds that begin with `unsafe` fail the command."""
    out = []
    exchange, verdict = item["exchange"], item["exchange"].verdict or probe.Verdict("not asked")
    called_read = reading["action"] == "allow"
    tags = [bare_tag(tag) for tag in exchange.tags]
    writes = verdict.says == "writes" or any(tag not in READING_TAGS for tag in tags)
    if item["proven"] and writes:
        out.append(("unsafe: proven", f"the server: {verdict.sqlstate or ', '.join(tags)}"))
    explained = next((rule for rule in known if rule.kind == "write" and rule.pattern.search(exchange.text)), None)
    if called_read and writes and explained is not None:
        explained.uses += 1
    elif called_read and writes:
        words = f"the server: {verdict.sqlstate or ', '.join(tags)}"
        if runs_code(reading):
            out.append(("named code that writes", words))
        elif carries(reading):
            out.append(("carried by a name", words))
        else:
            out.append(("unsafe: called a read", words))
    # A function behind a dot (`person.hobbies`) shows by the catalog alone: the session's facts have it.
    for name in [] if item["code"] else hidden(writing, exchange.text, verdict.locked, known):
        out.append(("unsafe: relation not named", name))
    if verdict.says in ("reads", "writes") and writing["action"] != "allow":
        out.append((f"refused, and the server {verdict.says}", writing["message"]))
    ours = [statement["tag"] for statement in writing.get("statements", []) if not statement["carried"]]
    if not exchange.errors and tags and ours and tags != ours and not carries(writing):
        out.append(("another tag", f"{', '.join(ours)} here, {', '.join(tags)} there"))
    return out


def items_of(run: runs.Run, tests: list[str], records: dict) -> list[dict]:
    """Every text that psql sent, with what the evidence says of it where the gateway saw the same text at the same place."""
    out = []
    for test in tests:
        for number, session in enumerate(run.recording.get(test, [])):
            for at, exchange in enumerate(session.exchanges, 1):
                if not exchange.client or exchange.client[0][0] not in (b"Q", b"P"):
                    continue
                record = records.get((test, number, at), {})
                same = record.get("text") == exchange.text
                out.append({"test": test, "exchange": exchange, "proven": same and record["proven"], "code": same and record["code"]})
    return out


def answer(world: runs.World, tests: list[str], gate: runs.Run, run: runs.Run) -> dict:
    """Everything as one object."""
    proof, misfits = proven.join(gate, tests, gate.gateway)
    items = items_of(run, tests, proof)
    texts = [{"sql": item["exchange"].text, "in_transaction": item["exchange"].before != "I"} for item in items]
    reading, writing = (explained.each(world.folder, texts, runs.HERE / "fixtures" / f"policy-{mode}.toml") for mode in ("read", "write"))
    found, counts, asked, known = [], Counter(), Counter(), compare.rules("lock", "write")
    for item, as_reader, as_writer in zip(items, reading, writing):
        verdict = item["exchange"].verdict or probe.Verdict("not asked")
        called = "a read" if as_reader["action"] == "allow" else "no read" if as_writer["action"] == "allow" else "refused"
        asked[("proven" if item["proven"] else called, verdict.says)] += 1
        for kind, words in disagreements(item, as_reader, as_writer, known):
            counts[kind] += 1
            found.append({"kind": kind, "test": item["test"], "sql": item["exchange"].text, "words": words})
    faults = misfits + [fault for one in (gate, run) for fault in one.faults + [f"{test} did not end" for test in one.hung]]
    return {
        "server": sources.run(world.bin / "postgres", "--version").strip(),
        "passed": not any(kind.startswith("unsafe") for kind in counts) and not faults,
        "seconds": round(gate.seconds + run.seconds),
        "files": len(tests),
        "texts": len(items),
        "table": [{"called": called, "server": says, "count": count} for (called, says), count in sorted(asked.items())],
        "counts": dict(counts),
        "disagreements": found,
        "rules": [{"id": rule.id, "decision": rule.decision, "reason": rule.reason, "uses": rule.uses} for rule in known],
        "faults": faults,
    }


def summary(said: dict) -> str:
    """The tables for the README."""
    calls, verdicts = ["proven", "a read", "no read", "refused"], ["reads", "writes", "fails", "not asked"]
    counted = {(row["called"], row["server"]): row["count"] for row in said["table"]}
    words = {"proven": "proven: a code-free read by the catalog", "a read": "called a read, not proven", "no read": "called no read",
             "refused": "refused in every session"}
    rows = [[words[call], *(counted.get((call, says), 0) for says in verdicts)] for call in calls]
    refused = Counter(item["words"].split("[ref")[0].split(":")[0] for item in said["disagreements"] if item["kind"].startswith("refused"))
    counts = said["counts"]
    kinds = [
        ["**unsafe: proven, and the server says it writes**", f"**{counts.get('unsafe: proven', 0)}**"],
        ["**unsafe: called a read, and the server says it writes**", f"**{counts.get('unsafe: called a read', 0)}**"],
        ["**unsafe: a relation is locked that the facts do not name or lead to**", f"**{counts.get('unsafe: relation not named', 0)}**"],
        ["called a read with code of users in it, which a permit on `fn:` must open; it writes", counts.get("named code that writes", 0)],
        ["EXECUTE, FETCH: a session judges what the name stands for", counts.get("carried by a name", 0)],
        ["refused in every session: settings, mostly, that the server would only read", counts.get("refused, and the server reads", 0)],
        ["refused in every session, and the server would write", counts.get("refused, and the server writes", 0)],
        ["the command tag is another one: COMMIT of a transaction that failed, mostly", counts.get("another tag", 0)],
    ]
    head = f"`tests/classify`, {said['server']}, {said['texts']} texts of {said['files']} files:"
    parts = [head, report.table(["", *(f"server: {says}" for says in verdicts)], rows), report.table(["disagreement", "count"], kinds)]
    locks = [[rule["id"], rule["uses"], rule["reason"], rule["decision"]] for rule in said["rules"]]
    parts.append(report.table(["locks and writes explained by", "times", "because", "decision"], locks))
    if refused:
        parts.append(report.table(["refused although the server runs it", "count"], [[words, count] for words, count in refused.most_common()]))
    return "\n\n".join(parts)


def show(said: dict):
    """For people."""
    for item in said["disagreements"]:
        if item["kind"].startswith("unsafe"):
            print(f"{item['kind'].upper()} in {item['test']}: {compare.shown(item['sql'])}\n    {item['words']}")
    for fault in said["faults"]:
        print(f"FAULT {fault}")
    print(summary(said))


def main(words=None) -> int:
    """Runs it."""
    given = arguments(words)
    world = None
    try:
        world = runs.World(runs.cache_folder(), report.progress)
        unknown = sorted(set(given.tests) - set(world.tests))
        if unknown:
            print(f"no such file in the suite: {', '.join(unknown)}", file=sys.stderr)
            return 2
        chosen = [test for test in world.tests if not given.tests or test in given.tests or test == "test_setup"]
        gate = regress.through_gateway(world, chosen)
        cluster = world.cluster("asked")
        # Tries take back what they did, but a prepared transaction may outlive the file that forgot it.
        settings = {"search_path": f'"{runs.SEARCH_PATH}"', "jit": "off", "lock_timeout": "10s"}
        tap = Tap(("127.0.0.1", cluster.port), parameters=settings, script=gate.recording, prober=probe.ask)
        said = answer(world, chosen, gate, world.run("asked", tap, chosen))
    except sources.Missing as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 3
    finally:
        report.progress("")
        if world is not None:
            world.stop()
    if given.json:
        json.dump(said, sys.stdout, indent=1)
        print()
    else:
        show(said)
    if given.write:
        report.replace("classify", summary(said))
    return 0 if said["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
