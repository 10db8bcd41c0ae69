"""The list of clients, the run over them, the report. Called by tests/drivers, which has installed them.

Owns: which program stands for which client, what is expected of it, and the report. May not: touch the gateway (run.py).
Fails: exit code 1 when an answer is neither yes, nor known to be no.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
JDBC = Path("/usr/share/java/postgresql.jar")

STEPS = [
    "connect", "simple", "extended", "binary", "transaction", "batch", "pipeline", "copy in", "copy out", "cursor", "listen",
    "cancel", "errors", "large objects", "types", "reset", "drain",
]
MEANING = {
    "connect": "TLS verified in full, the token as password; a wrong one is refused with a reason",
    "simple": "several statements in one text, an empty one",
    "extended": "parameters, named statements used again and again",
    "binary": "binary results",
    "transaction": "isolation levels, savepoints, an error inside",
    "batch": "a thousand rows by the driver's own means",
    "pipeline": "many statements in flight, an error among them",
    "copy in": "COPY FROM STDIN, and one that fails",
    "copy out": "COPY TO STDOUT",
    "cursor": "a result in pieces",
    "listen": "LISTEN, NOTIFY, UNLISTEN",
    "cancel": "CancelRequest ends a statement, the session goes on",
    "errors": "all fields of the server's errors; a refusal names the next step; the session survives both",
    "large objects": "lo_from_bytea, lo_get, lo_put, lo_unlink; FunctionCall is refused and the refusal names these",
    "types": "look-ups of types, tables and columns",
    "reset": "what a pool does between two users",
    "drain": "SIGTERM inside a transaction: it commits, then the session ends with 57P01; a new one goes on",
}


@dataclass
class Client:
    """A program and what it stands for."""

    name: str
    title: str
    command: list
    # What tests/drivers calls its installation; its failure is why the client is skipped.
    needs: str = ""
    # Whether it needs no compiler.
    fast: bool = True
    # A tool's own steps; none for a driver, which has STEPS.
    work: tuple = ()
    group: str = "app"
    database: str = "shop"

    @property
    def steps(self) -> list[str]:
        return list(self.work or STEPS)


def clients(state: Path) -> list[Client]:
    python, rust = state / "venv/bin/python", state / "rust/release"
    shown = subprocess.run(["psql", "--version"], capture_output=True, text=True, check=True).stdout.split()
    major = shown[2].split(".")[0]
    return [
        Client("psql", f"psql {major}", ["bash", HERE / "psql.sh"]),
        Client("psycopg3", "psycopg 3.3, libpq 18", [python, HERE / "psycopg_three.py"]),
        Client("psycopg2", "psycopg 2.9, libpq 17", [python, HERE / "psycopg_two.py"]),
        Client("asyncpg", "asyncpg 0.32", [python, HERE / "asyncpg_driver.py"]),
        Client("node-postgres", "node-postgres 8.23", ["node", HERE / "node_postgres.cjs"], needs="node"),
        Client("pgjdbc", "pgjdbc 42.5", ["java", "-cp", JDBC, HERE / "Pgjdbc.java"]),
        Client("tokio-postgres", "tokio-postgres 0.7", [rust / "tokio-postgres"], needs="rust", fast=False),
        Client("sqlx", "sqlx 0.9", [rust / "sqlx"], needs="rust", fast=False),
        Client("pgx", "pgx 4.15", [state / "pgx"], needs="go", fast=False),
        Client("sqlalchemy", "SQLAlchemy 2.1", [python, HERE / "sqlalchemy_tool.py"], group="owner",
               work=("by psycopg 3", "by psycopg 2", "by asyncpg")),
        Client("alembic", "Alembic 1.20", [python, HERE / "alembic_tool.py"], group="owner",
               work=("by psycopg 3", "by psycopg 3, row by row", "by psycopg 2")),
        Client("django", "Django 5.2, psycopg 3", [python, HERE / "django_tool.py"], group="owner",
               work=("migrate", "models", "transactions", "introspection", "migrate to zero")),
        Client("pg_dump", f"pg_dump and pg_restore {major}", ["bash", HERE / "dump.sh"], group="dump",
               work=("schema only", "plain text", "as INSERT", "custom format", "directory, two jobs", "without --enable-row-security",
                     "pg_restore", "pg_restore --clean in one transaction", "the plain text by psql", "what is not permitted")),
        Client("pgbench", f"pgbench {major}", ["bash", HERE / "pgbench.sh"], group="bench", database="bench",
               work=("initialize by COPY", "initialize by the server", "initialize, partitioned, foreign keys", "simple",
                     "extended", "prepared", "pipelines", "variables", "a connection each", "retried")),
    ]


# Not to be had by the means of this project, and so not run.
ABSENT = {"Npgsql": "needs .NET and NuGet, which the distribution lacks: not run here"}


def known() -> dict[tuple[str, str], str]:
    entries = tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8")).get("known", [])
    return {(entry["client"], entry["step"]): entry["reason"] for entry in entries}


def judged(client: Client, told: dict[str, dict], expected) -> dict[str, dict]:
    """The answers, each with whether it is a fault."""
    for step, answer in told.items():
        reason = expected.get((client.name, step))
        answer["fault"] = answer["answer"] == "no" and reason is None
        if reason is not None:
            answer["said"], answer["note"] = answer["note"], reason
            if answer["answer"] != "no":
                answer.update(fault=True, note=f"expected.toml says it does not work: {reason}")
    return told


def run(chosen: list[Client], state: Path) -> dict[str, dict]:
    from run import Ground  # needs the environment's psycopg

    results, expected = {}, known()
    ground = Ground()
    try:
        for client in chosen:
            missing = state / "missing" / client.needs
            if client.needs and missing.exists():
                results[client.name] = {"title": client.title, "skipped": " ".join(missing.read_text().split()) or "it cannot be installed"}
                continue
            environment = {**ground.gateway.environment(client.group, client.database), "NODE_PATH": str(state / "node_modules")}
            told = judged(client, ground.run(client.command, environment, client.steps), expected)
            results[client.name] = {"title": client.title, "steps": told}
            faults = [step for step, answer in told.items() if answer["fault"]]
            print(f"{client.title}: {len(told) - len(faults)} as expected, {len(faults)} not", file=sys.stderr)
            for step in faults:
                print(f"    {step}: {told[step]['note']}", file=sys.stderr)
    finally:
        ground.stop()
    return results


def cell(result: dict, step: str) -> str:
    if "skipped" in result:
        return "not run"
    return {"yes": "yes", "no": "**no**", "none": "–"}[result["steps"][step]["answer"]]


def tools_table(shown: list[dict]) -> str:
    rows = [
        [result["title"], step, cell(result, step), answer["note"]]
        for result in shown for step, answer in result.get("steps", {"all": {"note": result.get("skipped", "")}}).items()
    ]
    return table.markdown(["tool", "work", "", "note"], rows)


def report(results: dict[str, dict], chosen: list[Client]) -> str:
    parts = []
    if any(not client.work for client in chosen):
        parts.append(drivers_table([results[client.name] for client in chosen if not client.work]))
    if any(client.work for client in chosen):
        parts.append(tools_table([results[client.name] for client in chosen if client.work]))
    return "\n\n".join(parts)


def drivers_table(shown: list[dict]) -> str:
    rows = [[f"{step}: {MEANING[step]}", *(cell(result, step) for result in shown)] for step in STEPS]
    parts = [table.markdown(["", *(result["title"] for result in shown)], rows), "", "– : the driver has no such thing.", ""]
    for result in shown:
        if "skipped" in result:
            parts.append(f"- {result['title']}: not run: {result['skipped']}")
            continue
        notes = [(step, answer) for step, answer in result["steps"].items() if answer["note"]]
        said = "; ".join(f"{step}: {answer['note']}" for step, answer in notes)
        if said:
            parts.append(f"- {result['title']}: {said}")
    parts += [f"- {name}: {reason}" for name, reason in ABSENT.items()]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/drivers")
    parser.add_argument("--state", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    listed = clients(arguments.state)
    unknown = set(arguments.names) - {client.name for client in listed}
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    chosen = [
        client for client in listed
        if (not arguments.names or client.name in arguments.names) and (client.fast or not arguments.fast)
    ]
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    results = run(chosen, arguments.state)
    faults = sum(answer["fault"] for result in results.values() for answer in result.get("steps", {}).values())
    text = report(results, chosen)
    if len(chosen) == len(listed):
        table.replace("drivers", text)
    if arguments.json:
        print(json.dumps({"clients": results, "faults": faults}, indent=2, ensure_ascii=False))
    else:
        print(text)
    skipped = [result["title"] for result in results.values() if "skipped" in result]
    print(f"{len(results)} clients, {faults} faults" + (f", not run: {', '.join(skipped)}" if skipped else ""), file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
