"""PostgreSQL's own regression suite, direct and through the gateway: every difference, and why.

Three runs on fresh servers: direct, through a gateway whose policy permits everything, and direct again with what the gateway
refused kept from the server (compare.py says what follows from that). Exit codes: 0 every difference is explained, 1 one is
not (or a rule is stale), 3 the suite or a server cannot be had.
"""

from __future__ import annotations

import argparse
import json
import sys

from . import compare, report, runs, sources
from .tap import Tap


def arguments(words):
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/regress", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("tests", nargs="*", help="files of the suite, without .sql; test_setup runs before them. Default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object: every file, every difference, every rule")
    parser.add_argument("--write", action="store_true", help="put the table into tests/README.md")
    return parser.parse_args(words)


def three_runs(world: runs.World, tests: list[str]):
    """direct, gate, mirror."""
    parameters = {"search_path": f'"{runs.SEARCH_PATH}"'}
    cluster = world.cluster("direct")
    direct = world.run("direct", Tap(("127.0.0.1", cluster.port), parameters=parameters), tests)
    cluster.stop()
    gate = through_gateway(world, tests)
    cluster = world.cluster("mirror")
    tap = Tap(("127.0.0.1", cluster.port), parameters=parameters, script=gate.recording)
    mirror = world.run("mirror", tap, tests)
    cluster.stop()
    return direct, gate, mirror


def through_gateway(world: runs.World, tests: list[str]) -> runs.Run:
    """The run through the gateway, with its evidence verified behind it."""
    cluster = world.cluster("behind-gateway")
    gateway = world.gateway(cluster)
    run = world.run("gate", Tap(("127.0.0.1", gateway.port), tls=gateway.certificate), tests, gateway.token())
    if gateway.process.poll() is not None:
        run.faults.append(f"the gateway ended with {gateway.process.returncode}")
    gateway.stop()
    cluster.stop()
    verified = runs.verify(gateway)
    if verified is not None:
        run.faults.append(verified)
    run.gateway = gateway
    return run


def answer(world, tests, direct, gate, mirror) -> dict:
    """Everything as one object."""
    known = compare.rules("refusal", "difference")
    refused = compare.refusals(gate, mirror, tests, known)
    beside = compare.beside_refusals(gate, mirror, tests, known)
    files = []
    for test in tests:
        hunks = compare.hunks(direct, gate, test)
        found = [item for item in refused + beside if item["test"] == test]
        files.append({
            "file": test,
            "texts": len(direct.exchanges(test)),
            "texts_through_gateway": len(gate.exchanges(test)),
            "refused": sum(item["kind"] == "refusal" for item in found),
            "differences_beside_refusals": sum(item["kind"] == "difference" for item in found),
            "unexplained": sum(item["rule"] is None for item in found),
            "as_postgresql_expects": runs.same_as_expected(world.suite, direct, test),
            "hunks": hunks,
        })
    unexplained = [item for item in refused + beside if item["rule"] is None]
    faults = [f"{run.name}: {fault}" for run in (direct, gate, mirror) for fault in run.faults]
    faults += [f"{run.name}: {test} did not end" for run in (direct, gate, mirror) for test in run.hung]
    stale = compare.stale(known) if tests == world.tests else []
    return {
        "server": sources.run(world.bin / "postgres", "--version").strip(),
        "passed": not (unexplained or faults or stale),
        "seconds": {run.name: round(run.seconds) for run in (direct, gate, mirror)},
        "files": files,
        "refusals": refused,
        "differences": beside,
        "rules": [{"id": rule.id, "kind": rule.kind, "decision": rule.decision, "reason": rule.reason, "uses": rule.uses} for rule in known],
        "unexplained": len(unexplained),
        "stale_rules": stale,
        "faults": faults,
    }


def summary(said: dict) -> str:
    """The table for the README."""
    files = said["files"]
    same = sum(not file["hunks"] for file in files)
    refused_hunks = sum(hunk["why"] == "refused" for file in files for hunk in file["hunks"])
    hunks = sum(len(file["hunks"]) for file in files)
    rows = [
        ["files of the suite", len(files)],
        ["files whose direct output is the one that PostgreSQL ships", sum(file["as_postgresql_expects"] for file in files)],
        ["texts sent by psql, direct", sum(file["texts"] for file in files)],
        ["texts sent by psql, through the gateway", sum(file["texts_through_gateway"] for file in files)],
        ["files with the same output through the gateway", same],
        ["places where psql's output differs", f"{hunks}: {refused_hunks} are refusals, {hunks - refused_hunks} follow from them"],
        ["answers of the gateway's own", len(said["refusals"])],
        ["answers of the server that differ beside them", len(said["differences"])],
        ["**unexplained**", f"**{said['unexplained']}**"],
    ]
    rules = [[rule["id"], rule["uses"], rule["reason"], rule["decision"]] for rule in said["rules"]]
    head = f"`tests/regress`, {said['server']}:"
    return "\n\n".join([head, report.table(["", "count"], rows), report.table(["explanation", "times", "because", "decision"], rules)])


def show(said: dict):
    """For people."""
    for file in said["files"]:
        state = "same" if not file["hunks"] else f"{len(file['hunks'])} places differ"
        print(f"{file['file']:<28} {file['texts']:>5} texts  {file['refused']:>4} refused  {state}"
              f"{'' if not file['unexplained'] else '  UNEXPLAINED: ' + str(file['unexplained'])}")
    for item in said["refusals"] + said["differences"]:
        if item["rule"] is None:
            print(f"\nUNEXPLAINED {item['kind']} in {item['test']}, exchange {item['exchange']}: {compare.shown(item['sql'])}")
            print(f"  through the gateway: {item['words'][:800]}")
            if "other" in item:
                print(f"  without:             {item['other'][:800]}")
    for fault in said["faults"]:
        print(f"FAULT {fault}")
    for rule in said["stale_rules"]:
        print(f"STALE RULE {rule}: it explains nothing any more; take it out of explanations.toml")
    print("\n" + summary(said))


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
        said = answer(world, chosen, *three_runs(world, chosen))
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
        report.replace("regress", summary(said))
    return 0 if said["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
