"""The schema changes behind the gateway while statements run: `catalog_drift = "stamped"` lets nothing of an answer leave before the
catalog was looked at again, and `"bounded"` is blind for as long as it says.

The gateway's own look is held up by a lock on a catalog table that nobody else reads. In that time the test changes what a clean
relation gives, asks for it by every way, and sees what arrives.
"""

import socket
import threading

import psycopg
import pytest

from harness import wait_until
from wire import SYNC, Client, Closed, Refused, bind, errors, execute, parse, query

SCHEMA = """
CREATE SCHEMA drift;
SET search_path TO drift;
CREATE TABLE people (id int, note text, ssn text);
CREATE TABLE plain (id int, note text);
CREATE TABLE parent (id int, note text, ssn text);
CREATE VIEW seen AS SELECT id, note FROM plain;
INSERT INTO people SELECT n, 'note', 'QZXVSSN' || n FROM generate_series(1, 5) n;
INSERT INTO plain SELECT n, 'plain' FROM generate_series(1, 5) n;
INSERT INTO parent VALUES (1, 'parent', 'parent');
"""
LABEL = '\n[[label]]\ncolumn = "drift.people.ssn"\ntier = "restricted"\nmask = "null"\n'
# What an answer that tells of rows is made of: rows, COPY data, errors, the row limit of a portal.
TELLING = set("DdHGEs")
QUIET_S = 0.5

# name: what is changed, what undoes it, what is asked for then.
CHANGES = {
    "view": ("CREATE OR REPLACE VIEW drift.seen AS SELECT id, ssn AS note FROM drift.people",
             "CREATE OR REPLACE VIEW drift.seen AS SELECT id, note FROM drift.plain",
             "SELECT note FROM seen"),
    "expression": ("CREATE OR REPLACE VIEW drift.seen AS SELECT id, ssn AS note FROM drift.people",
                   "CREATE OR REPLACE VIEW drift.seen AS SELECT id, note FROM drift.plain",
                   "SELECT max(note) FROM seen"),
    "swapped": ("ALTER TABLE drift.plain RENAME TO away; CREATE VIEW drift.plain AS SELECT id, ssn AS note FROM drift.people",
                "DROP VIEW drift.plain; ALTER TABLE drift.away RENAME TO plain",
                "SELECT note FROM plain"),
    # What was an ancestor keeps the label for as long as the gateway runs: another takes its place.
    "child": ("ALTER TABLE drift.people INHERIT drift.parent",
              "ALTER TABLE drift.people NO INHERIT drift.parent; DROP TABLE drift.parent; CREATE TABLE drift.parent (id int, note text, ssn text)",
              "SELECT ssn FROM parent"),
}  # fmt: skip
WAYS = {
    "simple": lambda sql: [query(sql)],
    "second of a text": lambda sql: [query(f"SELECT 1; {sql}")],
    "extended": lambda sql: [parse(sql), bind(), execute(), SYNC],
    "binary, in pieces": lambda sql: [parse(sql), bind(result_formats=(1,)), execute(rows=2), execute(), SYNC],
    "prepared": lambda sql: [bind(statement="before"), execute(), SYNC],
    "cursor": lambda sql: [query(f"DECLARE c CURSOR FOR {sql}")],
    "EXECUTE": lambda sql: [query("EXECUTE sql_before")],
    "COPY": lambda sql: [query(f"COPY ({sql}) TO STDOUT")],
    "COPY binary": lambda sql: [query(f"COPY ({sql}) TO STDOUT (FORMAT binary)")],
    "fault": lambda sql: [query(f"SELECT v.x::int FROM ({sql}) v (x)")],
    "stored": lambda sql: [query(f"CREATE TEMP TABLE taken AS {sql}")],
}


@pytest.fixture(scope="module")
def gates(world):
    """A gateway for each word, over one database."""
    with world.database.superuser() as db:
        db.execute(SCHEMA)
    made = {}
    for word in ("bounded", "stamped"):
        gateway = made[word] = world.gateway()
        text = (gateway.folder / "policy.toml").read_text().replace('search_path = ["shop"]', 'search_path = ["drift"]')
        (gateway.folder / "policy.toml").write_text(f'{text}{LABEL}\n[defaults]\ncatalog_drift = "{word}"\n')
        gateway.start()
    yield made
    for gateway in made.values():
        gateway.stop()
    with world.database.superuser() as db:
        db.execute("DROP SCHEMA drift CASCADE")


class Blind:
    """No gateway can look at the catalog, and then it changes; both end with the block."""

    def __init__(self, world, change, undo):
        self.world, self.change, self.undo = world, change, undo

    def __enter__(self):
        self.lock = self.world.database.superuser()
        self.lock.autocommit = False
        self.lock.execute("LOCK TABLE pg_catalog.pg_ts_parser IN ACCESS EXCLUSIVE MODE")
        with self.world.database.superuser() as db:
            db.execute(self.change)
        return self

    def look(self):
        self.lock.close()

    def __exit__(self, *_):
        self.lock.close()
        with self.world.database.superuser() as db:
            db.execute(self.undo)


def arrived(client, quiet) -> list:
    """Frames that came until the client is asked again, its connection ended, or (`quiet`) nothing came for a while."""
    client.sock.settimeout(QUIET_S if quiet else 60)
    frames = []
    try:
        while True:
            frames.append(client.read())
            if frames[-1][0] == "Z":
                return frames
    except (Closed, socket.timeout):
        return frames


def settled(gate):
    """A session of a gateway that has seen the schema as it is: no label is near."""
    client = Client(gate, group="power")
    for sql in ("SELECT max(note) FROM seen", "SELECT max(note) FROM plain", "SELECT max(ssn) FROM parent"):
        assert "T" in [tag for tag, _ in client.ask(query(sql))], sql
    return client


def ready(gate, world):
    """The same, as soon as the gateway has seen it: what an earlier test changed is undone."""
    def sees():
        try:
            return settled(gate)
        except (AssertionError, Closed, Refused):
            return None

    return wait_until("the schema is known as it is", sees)


# Every way for one change, three for the others.
TRIED = [(change, way) for change in CHANGES for way in WAYS if change == "view" or way in ("simple", "extended", "prepared")]


@pytest.mark.parametrize(("change", "way"), TRIED)
def test_nothing_leaves_before_the_catalog_was_looked_at(gates, world, change, way):
    made, undo, sql = CHANGES[change]
    client = ready(gates["stamped"], world)
    client.ask(parse(sql, "before") + SYNC)
    client.ask(query(f"PREPARE sql_before AS {sql}"))
    if way == "cursor":
        client.ask(query("BEGIN"))
    with Blind(world, made, undo) as blind:
        client.send(*WAYS[way](sql))
        early = arrived(client, quiet=True)
        assert not TELLING & {tag for tag, _ in early}, early
        blind.look()
        late = arrived(client, quiet=False)
    assert b"QZXV" not in b"".join(body for _, body in early + late), late
    client.sock.close()


def test_bounded_is_blind_for_that_time(gates, world):
    """What the other word is for: the same, without the wait."""
    made, undo, sql = CHANGES["expression"]
    client = ready(gates["bounded"], world)
    with Blind(world, made, undo):
        client.send(query(sql))
        assert b"QZXV" in b"".join(body for _, body in arrived(client, quiet=False))
    client.sock.close()


def test_what_else_changes_disturbs_nobody(gates, world):
    stop = threading.Event()

    def change():
        with world.database.superuser() as db:
            while not stop.is_set():
                db.execute("CREATE TABLE drift.other (id int); GRANT SELECT ON drift.plain TO PUBLIC; ANALYZE drift.people")
                db.execute("DROP TABLE drift.other")
                # Each change has the gateway read the catalog anew: some looks shall find it at rest.
                stop.wait(0.2)

    ready(gates["stamped"], world).sock.close()
    changing = threading.Thread(target=change)
    changing.start()
    try:
        with gates["stamped"].connect("power") as db:
            for _ in range(15):
                assert db.execute("SELECT id, note FROM seen ORDER BY id").fetchone() == (1, "plain")
                assert db.execute("SELECT id, ssn FROM people ORDER BY id LIMIT %s", [2]).fetchall() == [(1, None), (2, None)]
                assert db.execute("UPDATE plain SET note = note WHERE id = 1").rowcount == 1
    finally:
        stop.set()
        changing.join()


def test_own_definitions_are_no_drift(gates, world):
    ready(gates["stamped"], world).sock.close()
    with gates["stamped"].connect("power") as db:
        for inside in (False, True):
            if inside:
                db.execute("BEGIN")
            for sql in ("CREATE TABLE mine (id int)", "INSERT INTO mine VALUES (1)", "ALTER TABLE mine ADD COLUMN note text",
                        "INSERT INTO mine VALUES (2, 'x')", "CREATE VIEW over_mine AS SELECT note FROM mine", "TRUNCATE mine"):
                db.execute(sql)
            assert db.execute("SELECT count(*) FROM mine").fetchone() == (0,)
            db.execute("DROP TABLE mine CASCADE")
            if inside:
                db.execute("COMMIT")
            assert db.execute("SELECT count(*) FROM plain").fetchone() == (5,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.execute("SELECT 1 / (id - 1) FROM plain")


MOVED = """
CREATE SCHEMA drift_moved;
CREATE TABLE drift_moved.plain AS SELECT 1 AS id, 'QZXV of another schema'::text AS note;
GRANT USAGE ON SCHEMA drift_moved TO PUBLIC;
GRANT SELECT ON drift_moved.plain TO PUBLIC;
CREATE FUNCTION drift.moves() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('search_path', 'drift_moved', false); RETURN NEW; END $$;
"""
# The first trigger of a table is told by pg_class, further ones are not.
HARMLESS = """
CREATE FUNCTION drift.passes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER passes AFTER DELETE ON drift.plain FOR EACH ROW EXECUTE FUNCTION drift.passes();
"""


@pytest.fixture
def moved(world):
    with world.database.superuser() as db:
        db.execute(MOVED + HARMLESS)
    yield
    with world.database.superuser() as db:
        db.execute("DROP TRIGGER passes ON drift.plain; DROP FUNCTION drift.moves(), drift.passes(); DROP SCHEMA drift_moved CASCADE")
        db.execute("DELETE FROM drift.plain WHERE id > 5")


@pytest.mark.parametrize(
    "insert",
    [
        [query("INSERT INTO plain VALUES (6, 'x')")],
        [parse("INSERT INTO plain VALUES (6, 'x') RETURNING id"), bind(), execute(), SYNC],
    ],
    ids=["simple", "extended"],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_trigger_that_comes_meanwhile_ends_the_session_at_its_first_answer(gates, world, moved, insert, inside):
    client = ready(gates["stamped"], world)
    if inside:
        client.ask(query("BEGIN"))
    trigger = "CREATE TRIGGER moves BEFORE INSERT ON drift.plain FOR EACH ROW EXECUTE FUNCTION drift.moves()"
    with Blind(world, trigger, "DROP TRIGGER moves ON drift.plain") as blind:
        client.send(*insert, query("SELECT note FROM plain"))
        early = arrived(client, quiet=True)
        blind.look()
        late = arrived(client, quiet=False)
        while late and late[-1][0] == "Z":
            late += arrived(client, quiet=False) or [("", b"")]
    assert b"QZXV" not in b"".join(body for _, body in early + late), late
    assert "changed behind the gateway" in repr(late), late
    client.sock.close()


def test_the_end_is_recorded(gates, world):
    made, undo, sql = CHANGES["view"]
    client = ready(gates["stamped"], world)
    with Blind(world, made, undo) as blind:
        client.send(query(sql))
        blind.look()
        frames = arrived(client, quiet=False)
    assert "changed behind the gateway" in repr(frames), frames
    gates["stamped"].wait_record(
        "the end", lambda record: record["kind"] == "session-closed" and "changed behind the gateway" in repr(record))


FOLLOWED = LABEL + """
[[permit]]
id = "sees"
groups = ["power"]
targets = ["*"]
classes = ["*"]
on = ["*"]
disclose = { clear_up_to = "secret" }

[[permit]]
id = "reads-drift"
groups = ["app"]
targets = ["*"]
classes = ["read"]
on = ["drift.*"]
"""


def test_what_passes_the_gateway_is_followed_by_every_session(world, gates):
    """`bounded` is blind for what is changed behind the gateway, not for what went through it and was answered."""
    gateway = world.gateway()
    text = (gateway.folder / "policy.toml").read_text().replace('search_path = ["shop"]', 'search_path = ["drift"]')
    (gateway.folder / "policy.toml").write_text(text + FOLLOWED)
    gateway.start()
    with world.database.superuser() as db:
        db.execute("GRANT USAGE ON SCHEMA drift TO app_login; GRANT SELECT ON ALL TABLES IN SCHEMA drift TO app_login")
    labelled = "CREATE OR REPLACE VIEW drift.seen AS SELECT id, ssn AS note FROM drift.people"
    clean = "CREATE OR REPLACE VIEW drift.seen AS SELECT id, note FROM drift.plain"
    ask = "SELECT upper(note) FROM seen"
    try:
        with Client(gateway, "app") as reader, Client(gateway, "power") as definer:
            for frames in ((query(ask),), (parse(ask), bind(), execute(), SYNC)) * 4:
                assert not errors(definer.ask(query(labelled)))
                (refused,) = errors(reader.ask(*frames))
                assert refused["C"] == "42501" and "label" in refused["M"], refused
                for sql in ("BEGIN", clean, "COMMIT"):
                    assert not errors(definer.ask(query(sql)))
                assert not errors(reader.ask(*frames))
    finally:
        gateway.stop()
        with world.database.superuser() as db:
            db.execute(clean)
