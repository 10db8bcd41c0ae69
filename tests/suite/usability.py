"""What labels cost: statements that people and programs really send, judged with and without labels.

Every statement is analysed by the server (tree.py), which says of each column where it stands; the gateway's own reading is not asked.
From that follows what must become of it:

    far      reaches no relation with a labelled column        passes, nothing is masked
    clean    reaches one, and no labelled column               passes, nothing is masked
    bare     labelled columns leave as plain outputs alone     passes, masked
    near     any other use                                     the share that is refused is stated: what exact lineage must win back
    code     runs code of users, while labels are there        the share that is refused is stated
    utility  no query: DDL, EXPLAIN, locks on a labelled relation   the share that is refused is stated

What is refused without labels too says nothing of labels and is left out. Labels are chosen twice: by `pgturnstile scan --names-only`
on each database, and at random by a hash, one column in five, twenty and sixty, so that every kind of column is labelled somewhere. Exit codes: 0 nothing
false, 1 a false refusal or a false mask, 2 wrong arguments, 3 nothing could be had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

import psycopg

from . import corpora, explained, report, runs, sources
from .corpora import Corpus, Statement
from .tree import Analyst, Places

harness = runs.harness
CATEGORIES = ("far", "clean", "bare", "near", "code", "utility")
# The random choices: one column in so many.
DENSITIES = (5, 20, 60)
SETTINGS = (
    "logging_collector = on\nlog_destination = 'csvlog'\nlog_filename = 'all.log'\nlog_rotation_size = 0\nlog_rotation_age = 0\n"
    "log_directory = 'texts'\nautovacuum = off\n"
)
COLUMNS = """
SELECT c.oid::int, n.nspname, c.relname, a.attnum::int, a.attname, t.typcategory::text FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT LIKE 'pg_%'
  AND n.nspname <> 'information_schema' ORDER BY n.nspname, c.relname, a.attnum
"""


class Database:
    """One corpus, loaded, and what the server says of its statements."""

    def __init__(self, cluster: harness.Postgres, corpus: Corpus, folder: Path):
        self.cluster, self.corpus, self.folder = cluster, corpus, folder
        folder.mkdir()
        self.conninfo = f"host={cluster.folder} port={cluster.port} user=postgres dbname={corpus.database}"
        self.dsn = f"postgresql:///{corpus.database}?user=postgres&host={cluster.folder}&port={cluster.port}"
        with cluster.superuser("postgres") as db:
            db.execute(f"CREATE DATABASE {corpus.database}")
        schema = folder / "schema.sql"
        schema.write_text(corpus.schema)
        corpora.send(["psql", "-X", "-q", "-d", self.conninfo, "-f", str(schema)])
        log = cluster.folder / "data" / "texts" / "all.csv"
        before = len(corpora.recorded(log, corpus.database)) if corpus.recorded else 0
        for command in corpus.recorded:
            corpora.send(command, **self._environment())
        texts = corpora.recorded(log, corpus.database)[before:] if corpus.recorded else []
        self.recorded = [Statement(text) for text in dict.fromkeys(texts) if text]
        with psycopg.connect(self.conninfo) as db:
            self.columns = db.execute(COLUMNS).fetchall()
            self.kin = {oid: {oid} for oid, *_ in self.columns}
            for parent, child in db.execute("SELECT inhparent::int, inhrelid::int FROM pg_inherits").fetchall():
                family = self.kin.get(parent, {parent}) | self.kin.get(child, {child})
                self.kin.update({oid: family for oid in family})
            views = "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relkind IN ('v', 'm') AND oid >= 16384"
            self.views = [Statement(text.strip().rstrip(";")) for (text,) in db.execute(views).fetchall()]
            self.code = {oid for (oid,) in db.execute(
                "SELECT DISTINCT tgrelid::int FROM pg_trigger WHERE NOT tgisinternal UNION SELECT ev_class::int FROM pg_rewrite"
                " WHERE rulename <> '_RETURN' AND ev_class >= 16384").fetchall()}  # fmt: skip
            self.unique = set(db.execute("SELECT indrelid::int, unnest(indkey)::int FROM pg_index WHERE indisunique").fetchall())
            self.over = db.execute(
                "SELECT DISTINCT d.refobjid::int, v.relname FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON"
                " v.oid = r.ev_class WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid >= 16384 AND v.oid <> d.refobjid").fetchall()  # fmt: skip
        if not self.columns:
            raise sources.Missing(f"{corpus.name}: its schema made no table")
        self.analyst = Analyst(self.conninfo, "public")
        self.known: dict[str, Places | str] = {}

    def _environment(self):
        return {"PGHOST": str(self.cluster.folder), "PGPORT": str(self.cluster.port), "PGUSER": "postgres", "PGDATABASE": self.corpus.database}

    def statements(self) -> list[Statement]:
        """Of the corpus, of the views, and what was recorded."""
        return self.corpus.statements + self.views + self.recorded

    def places(self, statement: Statement) -> Places | str:
        text = statement.analysed or statement.text
        if text not in self.known:
            self.known[text] = self.analyst.places(text)
        return self.known[text]

    def labelled(self, labels: list[dict]) -> set[tuple[int, int]]:
        """Attributes, with those of the same name in partitions and ancestors."""
        named = {label["column"].replace('"', "") for label in labels}
        own = {(oid, column) for oid, schema, name, _, column, _ in self.columns if f"{schema}.{name}.{column}" in named}
        spread = {(kin, column) for oid, column in own for kin in self.kin[oid]}
        return {(oid, number) for oid, _, _, number, column, _ in self.columns if (oid, column) in spread}

    def close(self):
        self.analyst.close()


def category(database: Database, statement: Statement, labelled: set[tuple[int, int]]) -> str:
    """What the server's analysis makes of it; a reason in other words, where it makes nothing."""
    places = database.places(statement)
    near = {oid for oid, _ in labelled}
    if isinstance(places, str):
        if places != "utility":
            return places
        return "utility" if names(database, near) & set(re.findall(r"\w+", statement.text.lower())) else "far"
    writes = places.written and places.written & database.code
    if any(function >= 16_384 for function in places.functions) or writes:
        return "code"
    if not places.relations & near:
        return "far"
    whole = {oid for oid, number in places.found if number == 0}
    used = [where for column, where in places.found.items() if column in labelled]
    if places.any_conflict and any(column in database.unique and column[0] in places.written for column in labelled):
        return "near"
    if whole & near or any(where != {"output"} for where in used):
        return "near"
    return "bare" if used else "clean"


def names(database: Database, near: set[int]) -> set[str]:
    """Names of relations that lead to labelled ones."""
    found = {name.lower() for oid, _, name, *_ in database.columns if oid in near}
    by_name = {name.lower(): oid for oid, _, name, *_ in database.columns}
    while True:
        oids = {by_name[name] for name in found if name in by_name} | near
        more = {view.lower() for oid, view in database.over if oid in oids} - found
        if not more:
            return found
        found |= more


def choices(database: Database, given) -> dict[str, list[dict]]:
    """Labels by name of the choice."""
    scan = [harness.binary(), "scan", "--dsn", database.dsn, "--names-only", "--min-confidence", "low", "--toml"]
    made = subprocess.run([str(part) for part in scan], capture_output=True, text=True, check=False)
    if made.returncode not in (0, 1):
        raise sources.Missing(f"scan of {database.corpus.name}: {made.stderr[-800:]}")
    out = {"names": tomllib.loads(made.stdout).get("label", [])}
    for number, one_in in enumerate(DENSITIES[: given.rounds]):
        chosen = []
        for _, schema, name, _, column, _ in database.columns:
            digest = hashlib.sha256(f"{number}:{schema}.{name}.{column}".encode()).digest()
            if int.from_bytes(digest[:4]) % one_in == 0:
                spelled = ".".join(part if re.fullmatch(r"[a-z0-9_$]+", part) else json.dumps(part, ensure_ascii=False) for part in (schema, name, column))
                chosen.append({"column": spelled, "tier": "restricted", "mask": "null"})
        out[f"one in {one_in}"] = chosen
    return {name: labels for name, labels in out.items() if labels}


def made_forms(database: Database, labelled: set[tuple[int, int]]) -> list[Statement]:
    """The forms over every relation that has a labelled column and one without a label that can be compared."""
    relations: dict[tuple, dict] = {}
    for oid, schema, name, number, column, kind in database.columns:
        if schema == "public":
            part = relations.setdefault((oid, name), {})
            part.setdefault("labelled" if (oid, number) in labelled else "plain" if kind in "NSDB" else "other", column)
    return [
        statement
        for (_, name), part in relations.items()
        if "labelled" in part and "plain" in part
        for statement in corpora.forms(corpora.quoted(name), part["labelled"], part["plain"])
    ]


def judged(database: Database, statements: list[Statement], labels: list[dict]) -> list[dict]:
    """What `explain --each` says of each, by the database's own catalog."""
    policy = (runs.HERE / "fixtures" / "policy-write.toml").read_text()
    for label in labels:
        policy += "\n[[label]]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in label.items())
    (database.folder / "policy.toml").write_text(policy)
    texts = [{"sql": statement.text, "in_transaction": statement.in_transaction} for statement in statements]
    return explained.each(database.folder, texts, database.folder / "policy.toml", "--dsn", database.dsn)


def masked(answer: dict) -> int:
    """Fields that leave masked by a label."""
    return sum("masked:" in line for statement in answer.get("statements", []) for line in statement.get("fields", []))


def fault(kind: str, answer: dict) -> str:
    """What is false of it; empty where nothing is."""
    refused = answer["action"] != "allow"
    if kind in ("far", "clean", "bare") and refused:
        return "refused"
    if kind in ("far", "clean") and masked(answer):
        return "masked"
    return "not masked" if kind == "bare" and not masked(answer) else ""


def measure(database: Database, given, said: dict):
    """One database under every choice of labels, into `said`."""
    name = re.sub(r":.*", "", database.corpus.name)
    own = database.statements()
    everything = {}
    for choice, labels in choices(database, given).items():
        labelled = database.labelled(labels)
        everything[choice] = (labels, labelled, own + made_forms(database, labelled))
    texts = list({(one.text, one.in_transaction): one for _, _, all_of in everything.values() for one in all_of}.values())
    without = {one.text: answer["action"] == "allow" for one, answer in zip(texts, judged(database, texts, []), strict=True)}
    for choice, (labels, labelled, statements) in everything.items():
        passing = [one for one in statements if without[one.text]]
        said["refused without labels"] += len(statements) - len(passing)
        for one, answer in zip(passing, judged(database, passing, labels), strict=True):
            kind = category(database, one, labelled)
            if kind not in CATEGORIES:
                said["not analysed"][kind[:100]] += 1
                continue
            row = said["rows"].setdefault((name, "made forms" if one.made else "own"), Counter())
            row[kind] += 1
            row[f"{kind} refused"] += answer["action"] != "allow"
            wrong = fault(kind, answer)
            if wrong:
                said["false"].append({"corpus": database.corpus.name, "labels": choice, "category": kind, "what": wrong, "sql": one.text,
                                      "message": answer["message"]})  # fmt: skip
            elif answer["action"] != "allow":
                said["reasons"][(kind, re.sub(r"[\w\"$.]+\.[\w\"$]+", "…", answer["message"].split("; ")[-1].split(" (rule")[0])[:120])] += 1


def arguments(words):
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/usability", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("corpora", nargs="*", help="names of corpora; all of them when none is named")
    parser.add_argument("--small", action="store_true", help="what needs no network, and fewer labels")
    parser.add_argument("--offline", type=Path, help="folder with copies of the repositories, OWNER/NAME/PATH, used before the network")
    parser.add_argument("--rounds", type=int, default=len(DENSITIES), help="random choices of labels")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="put the table into tests/README.md")
    given = parser.parse_args(words)
    if given.small:
        given.rounds = 1
    return given


def collected(given, cache: corpora.Cache, clients: list, missing: list[str]) -> list[Corpus]:
    """Every corpus that can be had."""
    found = []
    for source in corpora.SMALL if given.small else corpora.PUBLIC:
        try:
            found += source(cache)
        except sources.Missing as fault_:
            missing.append(f"{source.__name__}: {str(fault_).splitlines()[0]}")
    found += clients
    wanted = [name.lower() for name in given.corpora]
    return [corpus for corpus in found if not wanted or any(name in corpus.name.lower() for name in wanted)]


def answer(given, folder: Path) -> dict:
    """Everything as one object."""
    missing: list[str] = []
    said = {"rows": {}, "false": [], "reasons": Counter(), "not analysed": Counter(), "refused without labels": 0}
    offline = given.offline or (Path(os.environ["PGTURNSTILE_CORPORA"]) if "PGTURNSTILE_CORPORA" in os.environ else None)
    cache = corpora.Cache(runs.cache_folder().parent / "corpora", offline)
    cluster = harness.Postgres(folder / "postgres", settings=SETTINGS)
    try:
        cluster.start()
        clients = corpora.programs() + ([] if given.small else corpora.orms(cache, missing))
        found = collected(given, cache, clients, missing)
        for corpus in found:
            report.progress(corpus.name)
            try:
                database = Database(cluster, corpus, folder / corpus.database)
            except sources.Missing as fault_:
                missing.append(str(fault_).splitlines()[0])
                continue
            measure(database, given, said)
            database.close()
    finally:
        cluster.stop()
    rows = [{"corpus": corpus, "statements": kind, **{key: count for key, count in row.items()}} for (corpus, kind), row in said["rows"].items()]
    return {
        "server": sources.run(harness.pg_bin() / "postgres", "--version").strip(),
        "passed": not said["false"] and bool(rows) and not (given.small and missing),
        "rows": rows,
        "false": said["false"],
        "reasons": [{"category": kind, "words": words, "count": count} for (kind, words), count in said["reasons"].most_common()],
        "not_analysed": [{"why": why, "count": count} for why, count in said["not analysed"].most_common()],
        "refused_without_labels": said["refused without labels"],
        "missing": missing,
    }


def share(row: dict, kind: str) -> str:
    """`7 of 9`, and percent."""
    refused, total = row.get(f"{kind} refused", 0), row.get(kind, 0)
    return f"{refused} of {total} ({100 * refused / total:.0f} %)" if total else "–"


def summary(said: dict) -> str:
    """The tables for the README."""
    wrong = Counter((item["corpus"].split(":")[0], item["category"]) for item in said["false"])
    rows = []
    for row in said["rows"]:
        cells = [f"{row['corpus']}, {row['statements']}"]
        for kind in ("far", "clean", "bare"):
            bad = sum(count for (corpus, category_), count in wrong.items() if (corpus, category_) == (row["corpus"], kind))
            cells.append(f"{row.get(kind, 0)}" if not bad else f"{row.get(kind, 0)}, **{bad} false**")
        rows.append(cells + [share(row, kind) for kind in ("near", "code", "utility")])
    total = Counter()
    for row in said["rows"]:
        total.update({key: count for key, count in row.items() if isinstance(count, int)})
    rows.append(["**all**", *(f"**{total[kind]}**" for kind in ("far", "clean", "bare")), *(share(total, kind) for kind in ("near", "code", "utility"))])
    refused = sum(item["what"] == "refused" for item in said["false"])
    head = (
        f"`tests/usability`, {said['server']}: of {total['far'] + total['clean'] + total['bare']} judgements on statements that must pass, "
        f"**{refused} falsely refused, {len(said['false']) - refused} falsely masked or not masked**."
    )
    header = ["corpus", "reach no label: pass", "reach one, use none: pass", "plain outputs: pass masked", "other uses, refused",
              "code of users, refused", "utilities near a label, refused"]  # fmt: skip
    parts = [head, report.table(header, rows)]
    if said["not_analysed"]:
        count = sum(item["count"] for item in said["not_analysed"])
        parts.append(f"Left out: {count} that the server does not take (another dialect, mostly), {said['refused_without_labels']} that are "
                     "refused without labels too.")  # fmt: skip
    if said["missing"]:
        parts.append("Could not be had in this run: " + "; ".join(said["missing"]) + ".")
    return "\n\n".join(parts)


def show(said: dict):
    """For people."""
    for item in said["false"][:40]:
        print(f"FALSE ({item['what']}, {item['category']}) {item['corpus']}, labels {item['labels']}: {item['sql'][:400]}\n    {item['message']}")
    print(summary(said))
    for item in said["reasons"][:12]:
        print(f"{item['count']:6}  {item['category']}: {item['words']}")
    for item in said["not_analysed"][:12]:
        print(f"{item['count']:6}  not analysed: {item['why']}")


def main(words=None) -> int:
    """Runs it."""
    given = arguments(words)
    folder = Path(tempfile.mkdtemp(prefix="pgturnstile-usability."))
    folder.chmod(0o755)
    try:
        said = answer(given, folder)
    except sources.Missing as fault_:
        print(f"error: {fault_}", file=sys.stderr)
        return 3
    finally:
        report.progress("")
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        json.dump(said, sys.stdout, indent=1)
        print()
    else:
        show(said)
    if given.write:
        report.replace("usability", summary(said))
    if not said["rows"]:
        return 3
    return 0 if said["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
