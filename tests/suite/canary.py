"""Sentinels in every labelled cell, and every byte that reaches the client searched for them.

The databases are those of `tests/usability`, filled here, and the one that PostgreSQL's regression suite leaves behind. The statements
are theirs, the forms that are made for every relation, and mutations: wrapped, and with names of labelled columns in the place of
others. Each goes through the gateway by every way of `label_ways.py`; the bytes are searched for the sentinels under the disguises of
the design. Half of the columns are labelled, by a hash, with the mask `null`, which leaves nothing of a value.

Exit codes: 0 no sentinel came back, 1 one did, 2 wrong arguments, 3 nothing could be had.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg

from . import corpora, report, runs, sources
from .corpora import Corpus, Statement

from label_ways import ALL, bring, data, disguises  # noqa: E402 - beside the harness, which runs.py puts on the path
from wire import Client, Closed, Refused, errors  # noqa: E402

WORD = "QZXV"
NUMBER = 734_011_100
DAY = datetime.date(4821, 3, 1)
ROWS = 3
STATEMENT_LIMIT_MS = 4_000
WRAPPED = (
    "WITH m AS ({q}) SELECT * FROM m", "SELECT * FROM ({q}) m", "SELECT m.* FROM ({q}) m, LATERAL (SELECT 1) l", "SELECT m FROM ({q}) m",
    "SELECT to_jsonb(m) FROM ({q}) m", "SELECT m::text FROM ({q}) m", "({q}) UNION ALL ({q})", "SELECT DISTINCT * FROM ({q}) m",
    "SELECT * FROM ({q}) m ORDER BY 1", "SELECT array_agg(m) FROM ({q}) m", "SELECT max(m::text) FROM ({q}) m", "EXPLAIN VERBOSE {q}",
    "SELECT * FROM ({q}) m (a, b, c)", "SELECT count(*), min(m::text) FROM ({q}) m GROUP BY ()", "SELECT ARRAY({q})", "SELECT ({q})",
    "SELECT * FROM (VALUES (1)) v (x) WHERE EXISTS ({q})", "SELECT (m).* FROM ({q}) m", "SELECT * FROM ({q}) m FULL JOIN ({q}) n ON true",
    "CREATE TEMP TABLE taken ON COMMIT DROP AS {q}", "WITH RECURSIVE m AS ({q}) TABLE m", "SELECT xmlelement(name m, m) FROM ({q}) m",
)  # fmt: skip
COLUMNS = """
SELECT c.oid::int, n.nspname, c.relname, a.attnum::int, a.attname, t.typname, t.typcategory::text, a.atttypmod, a.attgenerated <> '',
  c.relkind::text, c.relispartition
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
ORDER BY c.oid, a.attnum
"""
# What a labelled cell of row `s.x` holds.
FILLED = {
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), f"'{WORD}' || s.x"), "bytea": f"('{WORD}' || s.x)::bytea",
    **{kind: f"format('{{\"k\": \"{WORD}%s\"}}', s.x)::{kind}" for kind in ("json", "jsonb")},
    **dict.fromkeys(("_text", "_varchar"), f"ARRAY['{WORD}' || s.x]"),
    **dict.fromkeys(("int4", "int8", "numeric", "float8"), f"{NUMBER} + s.x % {ROWS} + 1"),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), f"date '{DAY}' + (s.x % {ROWS})::int"),
}
ROWS_OF = "(SELECT tableoid AS o, ctid AS at, row_number() OVER () AS x FROM {name}) s WHERE t.ctid = s.at AND t.tableoid = s.o"
PLAIN = {"S": "'{n}'", "N": "{n}", "D": "'2026-01-0{n}'", "B": "true", "A": "'{{}}'"}


def needles() -> list[bytes]:
    """What a sentinel looks like, in every format and under every disguise."""
    found = set(disguises(WORD)) | {str(NUMBER)[:7].encode(), DAY.strftime("%Y-%m").encode()}
    for n in range(1, ROWS + 1):
        found |= {struct.pack(">i", NUMBER + n), struct.pack(">d", NUMBER + n)}
        found.add(struct.pack(">hhh", 7, 3401, 1100 + n))
        days = (DAY + datetime.timedelta(n - 1) - datetime.date(2000, 1, 1)).days
        found |= {struct.pack(">i", days), struct.pack(">q", days * 86_400_000_000)}
    return sorted(found)


def chosen(relation: str, column: str) -> bool:
    """Whether a column is one of the half that is labelled; partitions share their names' fate."""
    return hashlib.sha256(f"{relation}.{column}".encode()).digest()[0] % 2 == 0


def spelled(*names: str) -> str:
    """As SQL and the policy spell it, whatever it holds: a name behind its schema's."""
    plain = re.compile(r"[a-z_][a-z0-9_$]*")
    return ".".join(name if plain.fullmatch(name) else '"' + name.replace('"', '""') + '"' for name in names)


class Filled:
    """A database whose labelled cells hold sentinels."""

    def __init__(self, conninfo: str):
        self.conninfo = conninfo
        self.tables: dict[int, list] = {}
        # Schema, relation, column.
        self.labels: list[tuple[str, str, str]] = []
        self.cells = 0
        with psycopg.connect(conninfo) as db:
            db.execute("SET session_replication_role TO replica; SET search_path TO public")
            for row in db.execute(COLUMNS).fetchall():
                self.tables.setdefault(row[0], []).append(row[1:])
            for columns in self.tables.values():
                self._fill(db, columns)
            db.commit()
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("ANALYZE")

    def _fill(self, db, columns):
        """Rows where there are none, sentinels in what is labelled; a column that takes none bears no label."""
        schema, relation, *_ = columns[0]
        name = spelled(schema, relation)
        if not columns[0][9] and not db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchall():
            self._insert(db, name, columns)
        for _, _, _, column, kind, _, width, generated, _, partition in columns:
            short = kind in ("varchar", "bpchar") and 0 < width - 4 < 12
            # Partitions share the fate of what they are parts of.
            if partition or generated or short or kind not in FILLED or not chosen(relation, column):
                continue
            try:
                with db.transaction():
                    rows = ROWS_OF.format(name=name)
                    self.cells += db.execute(f"UPDATE {name} t SET {spelled(column)} = {FILLED[kind]} FROM {rows}").rowcount
            except psycopg.Error:
                continue
            self.labels.append((schema, relation, column))

    def _insert(self, db, name, columns):
        for n in range(1, ROWS + 1):
            named = [row for row in columns if not row[7]]
            values = [PLAIN.get(row[5], "NULL").format(n=n) if row[4] not in ("json", "jsonb", "uuid", "bytea") else
                      {"uuid": f"'00000000-0000-0000-0000-00000000000{n}'"}.get(row[4], "'{}'") for row in named]  # fmt: skip
            try:
                with db.transaction():
                    db.execute(f"INSERT INTO {name} ({', '.join(spelled(row[3]) for row in named)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})")
            except psycopg.Error:
                return

    def found_directly(self, sought: list[bytes]) -> int:
        """Labelled columns in which the search finds a sentinel without a gateway; those of tables that are empty hold none."""
        found = 0
        with psycopg.connect(self.conninfo, autocommit=True) as db:
            for *relation, column in self.labels:
                with db.cursor().copy(f"COPY (SELECT {spelled(column)} FROM {spelled(*relation)} LIMIT 3) TO STDOUT") as copy:
                    got = b"".join(bytes(part) for part in copy)
                found += any(needle in got for needle in sought)
        return found

    def policy(self) -> str:
        """The labels."""
        one = '\n[[label]]\ncolumn = {}\ntier = "restricted"\nmask = "null"\n'
        return "".join(one.format(json.dumps(spelled(*label))) for label in self.labels)

    def names(self) -> tuple[list[str], set[str]]:
        """Names of labelled columns, and of all."""
        labelled = sorted({spelled(column) for *_, column in self.labels})
        return labelled, {spelled(row[3]) for columns in self.tables.values() for row in columns}

    def forms(self) -> list[Statement]:
        """The made forms over every relation that has a labelled column and another."""
        out = []
        for columns in self.tables.values():
            schema, relation, *_ = columns[0]
            labelled = [row[3] for row in columns if (schema, relation, row[3]) in self.labels]
            plain = [row[3] for row in columns if row[3] not in labelled and row[5] in "NSDB"]
            if labelled and plain:
                out += corpora.forms(spelled(relation) if schema == "public" else spelled(schema, relation), labelled[0], plain[0])
        return out


def queries(text: str) -> list[str]:
    """What reads, of a script of psql; what is cut wrongly the server does not take."""
    text = re.sub(r"(?m)^\\.*$|--.*$", "", text)
    parts = re.findall(r"(?s)(?:\$\w*\$.*?\$\w*\$|'(?:[^']|'')*'|\"[^\"]*\"|[^;'\"$]|\$)+", text)
    reading = re.compile(r"\s*\(?\s*(select|with|values|table)\b", re.IGNORECASE)
    return [part.strip() for part in parts if reading.match(part) and "\\g" not in part]


def mutated(statement: str, labelled: list[str], names: set[str], dice: random.Random) -> str:
    """Wrapped, or with a labelled column's name in the place of another's, or both."""
    text = statement
    if labelled and dice.random() < 0.6:
        places = [match for match in re.finditer(r"\b[a-z_][a-z0-9_]*\b", text) if match.group() in names]
        if places:
            place = dice.choice(places)
            text = text[: place.start()] + dice.choice(labelled) + text[place.end():]
    return dice.choice(WRAPPED).format(q=text) if dice.random() < 0.7 else text


class Search:
    """Statements through one gateway, and what came back."""

    def __init__(self, gate: runs.Gateway):
        self.gate, self.client = gate, None
        self.needles = needles()
        self.counts = Counter()
        self.leaks: list[dict] = []

    def _client(self) -> Client:
        if self.client is None:
            self.client = Client(self.gate, group="regress", database="regression", token=self.gate.token())
        return self.client

    def statement(self, sql: str, ways):
        """One statement by some ways."""
        for way in ways:
            try:
                frames = bring(self._client(), way, sql)
            except Refused as ended:
                frames, self.client = ended.frames, None
                self.counts["session ended"] += 1
            except Closed:
                frames, self.client = [], None
                self.counts["session ended"] += 1
            said = errors(frames)
            refused = any(error.get("M", "").startswith("pgturnstile refused") for error in said)
            self.counts["refused" if refused else "the server's error" if said else "passed"] += 1
            got = data(frames)
            found = [needle for needle in self.needles if needle in got]
            if found:
                self.leaks.append({"way": way, "sql": sql, "found": [repr(needle) for needle in found[:3]]})
            if refused and way == ways[0]:
                # The others are judged by the same text; one of them is tried.
                ways = ways[:1]
        self.counts["statements"] += 1

    def close(self):
        if self.client is not None:
            self.client.sock.close()


def searched(world: runs.World, name: str, cluster: runs.Cluster, statements: list[str], given) -> dict:
    """One database, filled and searched."""
    filled = Filled(f"host={cluster.folder} port={cluster.port} user=postgres dbname=regression")
    gate = runs.Gateway(world.folder / f"gateway-{len(world.started)}", cluster, world.idp, world.folder)
    world.started.append(gate)
    policy = gate.folder / "policy.toml"
    text = policy.read_text().replace("guards = {", f"guards = {{ statement_timeout_ms = {STATEMENT_LIMIT_MS},")
    policy.write_text(text + filled.policy())
    if world.idp.process is None:
        world.idp.start()
    gate.start()
    dice = random.Random(f"{given.seed}:{name}")
    labelled, names = filled.names()
    every = list(dict.fromkeys(text for text in [*statements, *(form.text for form in filled.forms())] if "$" not in text))
    dice.shuffle(every)
    # A third as they are, the rest mutated.
    sent = every[: given.statements // 3]
    while every and len(sent) < given.statements:
        sent.append(mutated(dice.choice(every), labelled, names, dice))
    search = Search(gate)
    for number, sql in enumerate(sent):
        if number % 20 == 0:
            report.progress(f"{name}: {number} of {len(sent)}")
        ways = [dice.choice(ALL), *ALL] if number % 4 == 0 else dice.sample(ALL, 3)
        search.statement(sql, list(dict.fromkeys(ways)))
    search.close()
    gate.stop()
    seen = filled.found_directly(search.needles)
    return {"corpus": name, "labels": len(filled.labels), "found": seen, "cells": filled.cells, **search.counts, "leaks": search.leaks}


def of_corpus(world: runs.World, corpus: Corpus, given) -> dict:
    """One of the corpora of tests/usability."""
    cluster = world.cluster(corpus.database)
    schema = world.folder / f"{corpus.database}.sql"
    schema.write_text(corpus.schema)
    corpora.send([str(cluster.bin / "psql"), "-X", "-q", "-h", str(cluster.folder), "-p", str(cluster.port), "-U", "postgres",
                  "-d", "regression", "-f", str(schema)])  # fmt: skip
    said = searched(world, corpus.name, cluster, [statement.text for statement in corpus.statements], given)
    cluster.stop()
    return said


def of_regression(world: runs.World, given) -> dict:
    """What PostgreSQL's regression suite leaves behind, and what its files ask."""
    cluster = world.cluster("regression")
    statements = []
    for test in world.tests:
        report.progress(f"regression: {test}")
        script = world.suite / "sql" / f"{test}.sql"
        statements += queries(script.read_text(errors="replace"))
        with open(script, "rb") as text:
            subprocess.run(
                [str(cluster.bin / "psql"), "-X", "-q", "-d", "regression", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"],
                stdin=text, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=runs.environment(cluster.port, world.suite),
                check=False, timeout=runs.TEST_LIMIT_S, cwd=world.suite / "build")  # fmt: skip
    said = searched(world, "PostgreSQL's regression files", cluster, statements, given)
    cluster.stop()
    return said


def arguments(words):
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/canary", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("corpora", nargs="*", help="names of corpora; all of them when none is named")
    parser.add_argument("--small", action="store_true", help="what needs no network")
    parser.add_argument("--statements", type=int, default=400, help="statements of each corpus")
    parser.add_argument("--seed", type=int, default=20261121, help="chooses and mutates them")
    parser.add_argument("--offline", type=Path, help="folder with copies of the repositories, OWNER/NAME/PATH, used before the network")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="put the table into tests/README.md")
    return parser.parse_args(words)


def answer(given) -> dict:
    """Everything as one object."""
    missing: list[str] = []
    rows: list[dict] = []
    wanted = [name.lower() for name in given.corpora]

    def asked(name):
        return not wanted or any(part in name.lower() for part in wanted)

    offline = given.offline or (Path(os.environ["PGTURNSTILE_CORPORA"]) if "PGTURNSTILE_CORPORA" in os.environ else None)
    cache = corpora.Cache(runs.cache_folder().parent / "corpora", offline)
    suite = not given.small and asked("regression")
    world = runs.World(runs.cache_folder() if suite else None, report.progress)
    try:
        for source in corpora.SMALL if given.small else corpora.PUBLIC:
            try:
                for corpus in filter(lambda corpus: asked(corpus.name), source(cache)):
                    rows.append(of_corpus(world, corpus, given))
            except sources.Missing as fault:
                missing.append(f"{source.__name__}: {str(fault).splitlines()[0]}")
        if suite:
            rows.append(of_regression(world, given))
    finally:
        world.stop()
    return {"rows": rows, "missing": missing, "passed": bool(rows) and all(row["found"] and not row["leaks"] for row in rows) and not (given.small and missing)}


def summary(said: dict) -> str:
    """The table for the README."""
    keys = ("labels", "found", "cells", "statements", "passed", "refused", "the server's error", "session ended")
    rows = [[row["corpus"], *(row.get(key, 0) for key in keys), len(row["leaks"])] for row in said["rows"]]
    total = ["**all**", *(sum(row.get(key, 0) for row in said["rows"]) for key in keys), f"**{sum(len(row['leaks']) for row in said['rows'])}**"]
    head = ["corpus", "labelled columns", "found without the gateway", "sentinels", "statements", "answers", "refusals", "errors of the server", "sessions ended", "**sentinels that came back**"]
    parts = [report.table(head, [*rows, total])]
    if said["missing"]:
        parts.append("Could not be had in this run: " + "; ".join(said["missing"]) + ".")
    return "\n\n".join(parts)


def main(words=None) -> int:
    """Runs it."""
    given = arguments(words)
    try:
        said = answer(given)
    except sources.Missing as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 3
    finally:
        report.progress("")
    if given.json:
        json.dump(said, sys.stdout, indent=1)
        print()
    else:
        for row in said["rows"]:
            for leak in row["leaks"][:20]:
                print(f"LEAK {row['corpus']}, {leak['way']}: {leak['sql'][:600]}\n    {', '.join(leak['found'])}")
        print(summary(said))
    if given.write:
        report.replace("canary", summary(said))
    if not said["rows"]:
        return 3
    return 0 if said["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
