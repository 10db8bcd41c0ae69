"""What leaves of labelled columns by every way back, proven in bytes.

- Canary: every labelled cell holds a sentinel. Generated statements come back by every way of the protocol; no byte to the client
  may hold it, under none of its disguises.
- Twins: two databases that differ in labelled values alone, each behind a gateway. With the mask `null` every byte, count and
  SQLSTATE must be the same.
- Usability: a statement whose labelled columns are plain outputs is never refused.
"""

import os

import psycopg
import pytest

from harness import wait_until
from hostile_sql import Bare, Hostile
from label_ways import ALL, bring, data, disguises, in_no_order
from test_labels import OTHER, ROWS, SCHEMA, SENTINEL, TABLES
from wire import SYNC, Client, Refused, bind, errors, execute, parse, query, row, tags

# How many statements are made of each kind; `tests/run --all` makes more by this variable.
STATEMENTS = int(os.environ.get("PGTURNSTILE_WAYS_STATEMENTS", "40"))
SEED = int(os.environ.get("PGTURNSTILE_LABEL_SEED", "20261121"))
WORD = "QZXV"
NEEDLES = disguises(WORD)

MORE = """
CREATE TABLE crm.lands (name text PRIMARY KEY);
CREATE TABLE crm.residents (id int PRIMARY KEY CHECK (id < 1000), ssn text,
    land text NOT NULL REFERENCES crm.lands ON DELETE SET NULL);
CREATE TABLE crm.kinds (id int, word text, number numeric, big bigint, day date, doc jsonb, list text[], raw bytea, short varchar(40));
CREATE FUNCTION crm.tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_notify(''changes'', row_to_json(NEW)::text); RETURN NEW; END';
CREATE TRIGGER tell AFTER UPDATE ON crm.noted FOR EACH ROW EXECUTE FUNCTION crm.tell();
GRANT ALL ON ALL TABLES IN SCHEMA crm TO app_login;
"""
MORE_ROWS = """
INSERT INTO crm.lands SELECT 'land ' || n FROM generate_series(1, 3) n;
INSERT INTO crm.residents SELECT n, {ssn}, 'land ' || n FROM generate_series(1, 3) n;
INSERT INTO crm.kinds SELECT n, {ssn}, n, n, '2026-01-01', to_jsonb(({ssn})), ARRAY[{ssn}], ({ssn})::bytea, {ssn}
    FROM generate_series(1, 3) n;
"""
LABELLED = {
    "crm.customers.ssn": "restricted", "crm.people.ssn": "restricted", "crm.parts.ssn": "personal", "crm.residents.ssn": "secret",
    **{f"crm.kinds.{name}": "internal" for name in ("word", "number", "big", "day", "doc", "list", "raw", "short")},
}  # fmt: skip
# Plain outputs, of the tables that every gateway here has.
BARE = {**TABLES, "people": ["id", "ssn", "loud"], "mart.kept": ["id", "ssn", "region"], "residents": ["id", "ssn", "land"],
        "mart.over": ["id", "t"], "kinds": ["id", "word", "doc", "list", "raw", "short"]}
SECRET = {("customers", "ssn"), ("people", "ssn"), ("people", "loud"), ("parts", "ssn"), ("mart.bare", "s"), ("mart.derived", "u"),
          ("mart.derived", "next"), ("mart.kept", "ssn"), ("residents", "ssn"), ("mart.over", "t"),
          *(("kinds", name) for name in BARE["kinds"][1:])}


def policy_of(gateway, masks):
    text = (gateway.folder / "policy.toml").read_text()
    text = text.replace('on = ["shop.*"]', 'on = ["shop.*", "crm.*", "mart.*"]').replace(
        'search_path = ["shop"]', 'search_path = ["crm", "mart"]').replace(
        '"export.copy_out", "ddl.drop"]', '"export.copy_out", "ddl", "session"]')
    for column, tier in LABELLED.items():
        text += f'[[label]]\ncolumn = "{column}"\ntier = "{tier}"\nmask = "{masks.get(column, "null")}"\n'
    (gateway.folder / "policy.toml").write_text(text)


def gateway_to(world, database, masks):
    gateway = world.gateway()
    config = gateway.folder / "pgturnstile.toml"
    config.write_text(config.read_text().replace('database = "shop"', f'database = "{database}"'))
    policy_of(gateway, masks)
    gateway.start()
    return gateway


@pytest.fixture(scope="module")
def databases(world):
    """`one` and `two`: the same objects with the same oids, other labelled values."""
    with world.database.superuser("postgres") as db:
        db.execute("CREATE DATABASE one TEMPLATE template0")
    with world.database.superuser("one") as db:
        db.execute(SCHEMA)
        db.execute(MORE)
    with world.database.superuser("postgres") as db:
        db.execute("CREATE DATABASE two TEMPLATE one")
    for name, ssn in (("one", SENTINEL), ("two", OTHER)):
        with world.database.superuser(name) as db:
            # Without statistics the plans are the same, and so is what a LIMIT without an order gives.
            db.execute(ROWS.format(ssn=ssn).replace("ANALYZE;", ""))
            db.execute(MORE_ROWS.format(ssn=ssn))
    yield world
    for name in ("one", "two"):
        with world.database.superuser("postgres") as db:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def canary(databases):
    """Masks that show nothing of a sentinel: a constant (it holds no `@`), a token, NULL."""
    masks = {"crm.customers.ssn": "domain", "crm.people.ssn": "token", "crm.kinds.short": "token", "crm.kinds.word": "domain"}
    gateway = gateway_to(databases, "one", masks)
    yield gateway
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr
    gateway.stop()


@pytest.fixture(scope="module")
def twins(databases):
    """Two gateways with the mask `null` everywhere."""
    gateways = [gateway_to(databases, name, {}) for name in ("one", "two")]
    yield gateways
    for gateway in gateways:
        gateway.stop()


def search(got, what):
    for needle in NEEDLES:
        assert needle not in got, f"{needle} in what came back of {what}: {got[:2000]}"


def made(kind, seed):
    generator = Bare(BARE, SECRET, seed) if kind == "bare" else Hostile(TABLES, seed)
    statements = (generator.statement() for _ in range(STATEMENTS * (1 if kind == "bare" else 6)))
    return [sql for sql in statements if len(sql) < 3000]


def refused(frames):
    return any(error["M"].startswith("pgturnstile refused") for error in errors(frames))


def test_the_search_finds_what_is_there():
    for way in (b"xxQZXVBKJ1", b"vxzq", b"515a5856", b"UVpYVkJLSjE=", b"81, 90, 88, 86", "QZXV".encode("utf-16-le")):
        assert any(needle in way for needle in NEEDLES), way


@pytest.mark.parametrize("kind", ["bare", "hostile"])
def test_canary(canary, kind):
    """No sentinel in any byte, by no way; plain outputs are never refused."""
    passed = stopped = 0
    client = Client(canary)
    for sql in made(kind, SEED):
        first = bring(client, "simple", sql)
        search(data(first), sql)
        if refused(first):
            assert kind != "bare", f"{sql}\n{errors(first)}"
            stopped += 1
        if errors(first):
            continue
        passed += 1
        for way in ALL[1:]:
            frames = bring(client, way, sql)
            assert not refused(frames), (way, sql, errors(frames))
            search(data(frames), (way, sql))
    client.sock.close()
    print(f"{kind}: {passed} passed by {len(ALL)} ways, {stopped} refused")
    assert passed > STATEMENTS // 20


@pytest.mark.parametrize("kind", ["bare", "hostile"])
def test_twins(twins, kind):
    """Every byte, count and SQLSTATE is the same from both."""
    clients = [Client(gateway) for gateway in twins]
    compared = 0
    for sql in made(kind, SEED + 1):
        for way in ALL:
            here, there = (in_no_order(bring(client, way, sql)) for client in clients)
            assert here == there, f"{way}: {sql}\n{here}\n{there}"
            compared += 1
            if errors(here) and way == "simple":
                break
    print(f"{kind}: {compared} results compared")
    for client in clients:
        client.sock.close()


WRITES = [
    "INSERT INTO residents VALUES (1, 'x', 'land 1')", "INSERT INTO residents VALUES (9, 'x', NULL)",
    "INSERT INTO residents VALUES (2000, 'x', 'land 1')", "INSERT INTO residents VALUES (9, 'x', 'nowhere')",
    "UPDATE residents SET land = NULL WHERE id = 1", "UPDATE residents SET id = id + 999 WHERE id = 2",
    "UPDATE residents SET id = 3 WHERE id = 2 RETURNING *", "UPDATE residents SET land = 'land 2' WHERE id = 1 RETURNING *",
    "DELETE FROM lands WHERE name = 'land 1'", "INSERT INTO residents VALUES (1, 'x', 'land 1') ON CONFLICT (id) DO UPDATE "
    "SET land = excluded.land RETURNING *", "DELETE FROM residents WHERE id = 3 RETURNING ssn, id",
    "INSERT INTO parts VALUES (5000, 'x')", "UPDATE parts SET id = 5000 WHERE id = 1", "SELECT id / 0, ssn FROM customers",
    "SELECT name::int, ssn FROM customers", "SELECT ssn, nothing FROM customers", "SELECT ssn FROM nowhere",
]  # fmt: skip


def test_writes_and_errors_tell_nothing(twins, canary):
    clients = [Client(gateway) for gateway in twins]
    with Client(canary) as alone:
        for sql in WRITES:
            search(data(alone.ask(query("BEGIN")) + alone.ask(query(sql)) + alone.ask(query("ROLLBACK"))), sql)
            for way in ("simple", "extended text", "extended binary"):
                here, there = (
                    in_no_order(client.ask(query("BEGIN")) + bring(client, way, sql) + client.ask(query("ROLLBACK")))
                    for client in clients
                )
                assert here == there, f"{way}: {sql}\n{here}\n{there}"
    for client in clients:
        client.sock.close()


def test_errors_keep_what_holds_no_value(canary):
    with canary.connect() as db:
        for sql, state, kept in [
            ("SELECT ssn FROM customers WHERE name = 1", "42883", "operator does not exist"),
            ("SELECT id / 0, ssn FROM customers", "22012", "withheld"),
            ("UPDATE residents SET land = NULL WHERE id = 1", "23502", "withheld"),
            # It names no labelled relation in its text; the foreign key leads there.
            ("DELETE FROM lands WHERE name = 'land 1'", "23502", "withheld"),
            ("INSERT INTO lands VALUES ('land 1')", "23505", "duplicate key"),
        ]:
            with pytest.raises(psycopg.Error) as raised:
                db.execute(sql)
            assert raised.value.sqlstate == state and kept in raised.value.diag.message_primary, raised.value
            if kept == "withheld":
                assert not raised.value.diag.message_detail and not raised.value.diag.table_name


def test_who_chooses_what_null_is_written_as_asks_nothing(canary):
    """A value that equals it would be written like NULL; so are all others, then."""
    with canary.connect() as db:
        told = []
        for null in ("QZXVBKJ1", "nobody"):
            with db.cursor().copy(f"COPY (SELECT id, ssn FROM customers ORDER BY id) TO STDOUT (NULL '{null}')") as copy:
                told.append(b"".join(bytes(part) for part in copy).decode().replace(null, "?"))
        assert told[0] == told[1] and told[0].count("?") == 7


def test_a_notification_tells_no_labelled_value(canary, databases):
    with Client(canary) as client:
        client.ask(query("LISTEN changes"))
        with databases.database.superuser("one") as other:
            other.execute("UPDATE crm.noted SET id = id WHERE id = 1")
        got = []

        def heard():
            got.extend(client.ask(query("SELECT 1")))
            return "A" in tags_with_notices(got)

        wait_until("the notification", heard)
        search(data(got), "the notification")


def tags_with_notices(frames):
    return "".join(tag for tag, _ in frames)


def test_a_cursor_that_is_declared_anew_under_a_portal(canary):
    """A portal bound to FETCH has its row type from then: what the name means later is not what it may give."""
    with Client(canary) as client:
        client.ask(query("BEGIN"))
        client.ask(query("DECLARE cc CURSOR FOR SELECT id FROM customers"))
        client.ask(parse("FETCH ALL FROM cc", name="f"), bind(portal="p", statement="f"), SYNC)
        client.ask(query("CLOSE cc"))
        client.ask(query("DECLARE cc CURSOR FOR SELECT ssn FROM customers"))
        frames = client.ask(execute("p"), SYNC)
        search(data(frames), "the portal")
        assert refused(frames), frames
        # Nor as another type: the server would print the new rows by the old one.
        client.ask(query("ROLLBACK"))
        client.ask(query("BEGIN"))
        client.ask(query("DECLARE cc CURSOR FOR SELECT id FROM plain"))
        client.ask(parse("FETCH ALL FROM cc", name="g"), bind(portal="p", statement="g"), SYNC)
        client.ask(query("CLOSE cc"))
        client.ask(query("DECLARE cc CURSOR FOR SELECT y FROM plain"))
        frames = client.ask(execute("p"), SYNC)
        assert "D" not in tags(frames) and "declared anew" in errors(frames)[0]["M"], frames
        client.ask(query("ROLLBACK"))


def test_the_record_says_which_label(canary):
    with canary.connect() as db:
        db.execute("SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id").fetchall()
    canary.wait_record(
        "the record of what was masked",
        lambda record: record["kind"] == "masked"
        and {(c["place"], c["by"], c["count"]) for c in record["payload"]["counts"]}
        == {("column 2", "label crm.customers.ssn", 3)},
    )


def test_tokens_are_equal_where_values_are(canary):
    with canary.connect() as db:
        tokens = [value for (value,) in db.execute("SELECT ssn FROM people ORDER BY id")]
        again = [value for (value,) in db.execute("SELECT ssn FROM people ORDER BY id")]
    assert tokens == again and len(set(tokens)) == 4 and all(token.startswith("tok_") for token in tokens), tokens


def test_every_type_leaves_as_its_style_allows(canary):
    with Client(canary) as client:
        for formats in (0, 1):
            frames = client.ask(parse("SELECT * FROM kinds ORDER BY id"), bind(result_formats=(formats,)), execute(), SYNC)
            first = next(row(body) for tag, body in frames if tag == "D")
            # number, big, day, doc, list, raw: NULL.
            assert first[1] == b"***" and first[2:8] == (None,) * 6 and first[8].startswith(b"tok_"), first


def test_no_way_back_ends_the_session(canary):
    """What the server says of results and what the texts say agree in all of it."""
    try:
        with Client(canary) as client:
            for sql in ("SELECT * FROM mart.whole", "SELECT * FROM holders", "TABLE mart.bare", "SELECT ssn FROM ONLY parts_1"):
                for way in ALL:
                    search(data(bring(client, way, sql)), (way, sql))
            assert tags(client.ask(query("SELECT 1"))) == "TDCZ"
    except Refused as ended:
        raise AssertionError(ended) from ended
