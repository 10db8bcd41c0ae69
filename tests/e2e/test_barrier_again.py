"""The barrier of README decision 6, where code runs that no text names: what comes again behind it, what its Parse alone runs, and
what a text of several statements does to relations that it has only renamed or attached."""

import pytest

import wire
from harness import wait_until
from test_barrier import Attack
from wire import SYNC, Client, bind, errors, execute, parse, query

SETUP = """
CREATE FUNCTION shop.let_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
CREATE TABLE shop.kept (id int, v text);
CREATE TABLE shop.rowly (id int, v text);
CREATE TRIGGER let_it BEFORE INSERT OR UPDATE OR DELETE ON shop.kept FOR EACH ROW EXECUTE FUNCTION shop.let_it();
CREATE TRIGGER let_it BEFORE INSERT OR UPDATE OR DELETE ON shop.rowly FOR EACH ROW EXECUTE FUNCTION shop.let_it();
ALTER TABLE shop.rowly ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION evil.initcap(text) RETURNS text LANGUAGE sql AS 'SELECT name FROM evil.items';
CREATE FUNCTION shop.moves_in_a_check(text) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('search_path', $1, false); RETURN true; END $$;
CREATE DOMAIN shop.moving_domain AS text CHECK (shop.moves_in_a_check(value));
CREATE TABLE shop.of_domains (c shop.moving_domain[]);
"""
CLEANUP = """
DROP TABLE shop.kept, shop.rowly, shop.of_domains;
DROP DOMAIN shop.moving_domain;
DROP FUNCTION shop.let_it(), evil.initcap(text), shop.moves_in_a_check(text);
"""


@pytest.fixture(scope="module", autouse=True)
def relations(world, shared):
    with world.database.superuser() as db:
        db.execute(SETUP)
    wait_until("the snapshot shows them", lambda: not twice(shared, "UPDATE kept SET v = $2 WHERE id = $1::int"))
    yield
    with world.database.superuser() as db:
        db.execute(CLEANUP)


@pytest.fixture
def attack(gate, database):
    return Attack(gate, database)


def twice(gate, sql):
    """The errors of two Binds of one text in one batch."""
    with Client(gate, "power") as client:
        return errors(client.ask(parse(sql), *(frame for n in "12" for frame in (bind(n, "x"), execute())), SYNC))


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO kept (id, v) VALUES ($1, $2)", "INSERT INTO shop.kept VALUES ($1, md5($2)) RETURNING id, v",
     "UPDATE kept SET v = $2 WHERE id = $1", "DELETE FROM kept WHERE id = $1 AND v = $2"],
)
def test_a_write_of_one_table_comes_again(gate, sql):
    assert not twice(gate, sql)


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO kept (id, v) VALUES ($1, $2) RETURNING (SELECT count(*) FROM shop.notes)",
     "UPDATE kept SET v = $2 WHERE id = (SELECT max(id) + $1::int FROM shop.items)",
     "INSERT INTO rowly VALUES ($1, $2)", "UPDATE shop.rowly SET v = $2 WHERE id = $1",
     "INSERT INTO kept VALUES ($1, initcap($2))", "SELECT moved, $1::int, $2::text FROM shop.moving"],
    ids=["RETURNING reads", "WHERE reads", "row security", "row security, UPDATE", "a name of two functions", "a view"],
)
def test_what_could_be_another_thing_does_not(gate, sql):
    (refused,) = twice(gate, sql)
    assert refused["C"] == "42501" and "behind another one" in refused["M"], refused


@pytest.mark.parametrize("sql", ["INSERT INTO of_domains VALUES ('{evil}')", "SELECT 1 FROM of_domains WHERE c = '{evil}'"])
@pytest.mark.parametrize("described", [False, True])
def test_a_parse_that_runs_code_is_a_barrier(attack, sql, described):
    """Input functions of types run on the constants of a text that is only analysed."""
    more = (wire.describe("S", "p"),) if described else ()
    attack.client.send(parse(sql, "p"), *more, SYNC, query(attack.after))
    fatal = attack.defeated()[-1]
    assert fatal["V"] == "FATAL" and "search_path was moved" in fatal["M"], fatal


def test_a_describe_that_runs_code_is_a_barrier(attack, database):
    """The server analyses a statement anew where its table was touched since its Parse."""
    client = attack.client
    client.ask(parse("SELECT 1 FROM of_domains WHERE c = '{shop}'", "p"), SYNC)
    with database.superuser() as db:
        db.execute("""CREATE OR REPLACE FUNCTION shop.moves_in_a_check(text) RETURNS bool LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN true; END $$""")
        db.execute("ANALYZE shop.of_domains")
    client.send(wire.describe("S", "p"), SYNC, query(attack.after))
    fatal = attack.defeated()[-1]
    assert fatal["V"] == "FATAL" and "search_path was moved" in fatal["M"], fatal
    with database.superuser() as db:
        db.execute("""CREATE OR REPLACE FUNCTION shop.moves_in_a_check(text) RETURNS bool LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('search_path', $1, false); RETURN true; END $$""")


def test_its_own_bind_follows_it(gate):
    with Client(gate, "power") as client:
        out = client.ask(parse("INSERT INTO of_domains VALUES ('{shop}')"), wire.describe("S"), bind(), execute(), SYNC)
        assert not errors(out)
        assert client.rows("SELECT count(*) > 0 FROM of_domains") == [(b"t",)]


MOVE = "INSERT INTO shop.{} (setting, value) VALUES ('role', 'chief')"


@pytest.mark.parametrize(
    "before, text",
    [
        ((), "ALTER TABLE shop.trapped RENAME TO trapped9; " + MOVE.format("trapped9") + "; {after}"),
        (("ALTER TABLE shop.trapped RENAME TO trapped9",), MOVE.format("trapped9") + "; {after}"),
        (("ALTER TABLE shop.trapped SET SCHEMA evil",), MOVE.format("trapped").replace("shop", "evil") + "; {after}"),
        (("CREATE VIEW shop.v9 AS SELECT * FROM shop.moving",), "SELECT * FROM shop.v9; {after}"),
        (("CREATE TRIGGER t9 BEFORE INSERT ON shop.notes FOR EACH ROW EXECUTE FUNCTION shop.let_it()",), "{after}; {after}"),
        ((), "CREATE TABLE shop.p9 (LIKE shop.trapped) PARTITION BY LIST (id); ALTER TABLE shop.p9 ATTACH PARTITION shop.trapped DEFAULT; "
             + MOVE.format("p9") + "; {after}"),
    ],
    ids=["rename", "rename before", "schema", "view", "trigger", "partition"],
)
def test_definitions_bring_code_to_a_relation(attack, before, text):
    """It runs in the statement that uses the relation next: nothing stands behind that one in its text."""
    for sql in ("BEGIN", *before):
        assert not errors(attack.client.ask(query(sql)))
    (refused,) = errors(attack.client.ask(query(text.format(after=attack.after))))
    assert refused["C"] == "42501" and "behind one that runs code" in refused["M"], refused
    attack.client.ask(query("ROLLBACK"))
    attack.client.sock.close()


@pytest.mark.parametrize("frames", [lambda text: (query(text),), lambda text: (parse(text), SYNC)], ids=["simple", "extended"])
@pytest.mark.parametrize(
    "text",
    ["SELECT i.name FROM (SELECT 1 FROM shop.of_domains WHERE c = '{evil}') a, items i, (SELECT 1 FROM shop.of_domains WHERE c = '{shop}') b",
     "WITH a AS (SELECT 1 FROM shop.of_domains WHERE c = '{evil}') INSERT INTO items (id) SELECT 1 FROM a",
     "SELECT initcap('x') FROM shop.of_domains WHERE c = '{evil}'", "SELECT r.v FROM shop.rowly r, shop.of_domains WHERE c = '{evil}'"],
    ids=["a name of two relations", "written", "a name of two functions", "row security"],
)
def test_names_between_code_that_runs_at_analysis(gate, text, frames):
    """The first constant moves the path while the statement is analysed, the second one moves it back."""
    with Client(gate, "power") as client:
        (refused,) = errors(client.ask(*frames(text)))
        assert refused["C"] == "42501" and "while the statement is analysed" in refused["M"], refused
