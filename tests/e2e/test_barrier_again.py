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


def test_a_sequence_of_the_same_text_brings_no_code(gate):
    with Client(gate, "power") as client:
        said = client.ask(query("BEGIN; CREATE SEQUENCE s9; CREATE TABLE t9 (id int DEFAULT nextval('s9'), v text); INSERT INTO t9 (v) VALUES ('a'); "
                                "INSERT INTO t9 (v) VALUES ('b'); SELECT id FROM t9; ROLLBACK"))  # fmt: skip
        assert not errors(said) and [tag for tag, _ in said].count("D") == 2, said


@pytest.mark.parametrize("barrier", ["INSERT INTO kept VALUES (1, 'x')", "SET application_name = 'x'"])
def test_a_describe_behind_a_barrier(gate, barrier):
    """It analyses its statement anew where something that it names was touched: by then under another path."""
    with Client(gate, "power") as client:
        client.ask(parse("SELECT name FROM items", "other"), parse(barrier, "own"), SYNC)
        before = bind(statement="own"), execute()
        (refused,) = errors(client.ask(*before, wire.describe("S", "other"), SYNC))
        assert refused["C"] == "42501" and "no ReadyForQuery between them" in refused["M"], refused
        said = client.ask(*before, wire.describe("S", "own"), wire.describe("P"), SYNC)
        assert not errors(said), said
        said = client.ask(wire.describe("S", "other"), SYNC)
        assert not errors(said), said


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


# --- types of the server's own, where a session's own might hide them ---------------------------------------------------

# One name of two functions; a relation that may be temporary; a type.
BETWEEN = "SELECT initcap('x') FROM pg_class WHERE oid = 'pg_class'::{}"
HIDES = "CREATE DOMAIN pg_temp.regclass AS text CHECK (shop.moves_in_a_check(value))"


def after_code(client, *before):
    """The errors of the statement, in a session that has a temporary table and has run code of users."""
    for sql in ("CREATE TEMP TABLE IF NOT EXISTS here (i int)", *before, "SELECT shop.shout('x')"):
        assert not errors(client.ask(query(sql))), sql
    return errors(client.ask(query(BETWEEN.format("regclass"))))


@pytest.mark.parametrize("type_", ["regclass", "pg_catalog.regclass", "bigint", "REGCLASS"])
def test_a_type_of_the_server_stands_between_names_of_two(gate, type_):
    """In a session with a temporary table behind code of users: what a pooled session is, where citext is installed."""
    with Client(gate, "power") as client:
        assert not after_code(client)
        sql = BETWEEN.format(type_).replace("'pg_class'::bigint", "'1259'::bigint")
        for frames in ((query(sql),), (parse(sql), bind(), execute(), SYNC)):
            assert not errors(client.ask(*frames))


@pytest.mark.parametrize("hides", ["CREATE TEMP TABLE regclass (i int)", HIDES], ids=["a table", "a domain"])
def test_a_type_of_the_session_hides_it(gate, hides):
    with Client(gate, "power") as client:
        (refused,) = after_code(client, hides)
        assert refused["C"] == "42501" and "while the statement is analysed" in refused["M"], refused
        # As the grammar spells it, it is the server's.
        assert not errors(client.ask(query("SELECT initcap('x') FROM pg_class WHERE oid = '1'::bigint")))


def test_a_type_that_comes_back_with_its_transactions_end_hides_it(gate):
    with Client(gate, "power") as client:
        assert after_code(client, HIDES)
        assert after_code(client, "BEGIN", "DROP DOMAIN pg_temp.regclass")
        client.ask(query("ROLLBACK"))
        assert errors(client.ask(query(BETWEEN.format("regclass"))))
        assert after_code(client)
        assert not after_code(client, "DROP DOMAIN pg_temp.regclass")


def test_it_is_not_known_in_the_text_that_makes_it(gate):
    with Client(gate, "power") as client:
        assert not after_code(client)
        assert errors(client.ask(query(HIDES + "; " + BETWEEN.format("regclass"))))
        assert errors(client.ask(query("CREATE TEMP TABLE regclass (i int); " + BETWEEN.format("regclass"))))


# --- a table of the open transaction's own ----------------------------------------------------------------------------

OWN = "CREATE TABLE shop.own9 (id int PRIMARY KEY, v text NOT NULL DEFAULT 'x' CHECK (v <> ''))"
FILL = "INSERT INTO shop.own9 (id, v) VALUES ($1, $2)"
TWO_ROWS = [bind("1", "a"), execute(), bind("2", "b"), execute()]


def filled(client, *before, fill=FILL, rows=TWO_ROWS):
    """The errors of a batch of rows behind these in one transaction, which stays open."""
    for sql in ("BEGIN", *before):
        assert not errors(client.ask(query(sql))), sql
    return errors(client.ask(parse(fill), *rows, SYNC))


@pytest.mark.parametrize(
    "definition, fill",
    [(OWN, FILL), (OWN, FILL.replace("$1", "$1::integer").replace("$2", "$2::VARCHAR") + " RETURNING own9.id"),
     (OWN, FILL + " ON CONFLICT (id) DO UPDATE SET v = excluded.v"),
     ("CREATE UNLOGGED TABLE own9 (id serial, v varchar(20), at timestamptz DEFAULT now(), UNIQUE (id))", FILL.replace("shop.", ""))],
    ids=["plain", "casts", "upsert", "without a schema"],
)
def test_a_batch_fills_a_table_of_its_own_transaction(gate, definition, fill):
    """Nobody else sees it, and no code stands behind it: Alembic's bulk_insert, JDBC's batches."""
    with Client(gate, "power") as client:
        assert not filled(client, definition, fill=fill)
        again = [frame for values in (("3", "c"), ("4", "d")) for frame in (parse(fill), bind(*values), execute())]
        assert not errors(client.ask(*again, SYNC))
        assert client.rows("SELECT count(*) FROM own9") == [(b"4",)]
        client.ask(query("ROLLBACK"))


def test_rows_of_several_lengths_fill_it(gate):
    """As pgjdbc's reWriteBatchedInserts spells a batch; the end of the transaction may stand behind it."""
    with Client(gate, "power") as client:
        more = [parse(FILL + ", ($3, $4)"), bind("3", "c", "4", "d"), execute(), parse("ROLLBACK"), bind(), execute()]
        assert not filled(client, OWN, rows=[*TWO_ROWS, *more])


@pytest.mark.parametrize(
    "before",
    [("CREATE TABLE IF NOT EXISTS shop.own9 (id int, v text)",),
     ("CREATE TABLE shop.own9 (LIKE shop.kept INCLUDING ALL)",),
     ("CREATE TABLE shop.own9 () INHERITS (shop.kept)",),
     ("CREATE TABLE shop.own9 (id int, v text) PARTITION BY LIST (id)", "CREATE TABLE shop.own9_1 PARTITION OF shop.own9 DEFAULT"),
     ("CREATE TABLE shop.own9 (id int, v shop.moving_domain)",),
     ("CREATE TABLE shop.own9 (id int, v text CHECK (shop.moves_in_a_check(v)))",),
     (OWN, "CREATE TRIGGER let_it BEFORE INSERT ON shop.own9 FOR EACH ROW EXECUTE FUNCTION shop.let_it()"),
     (OWN, "ALTER TABLE shop.own9 ADD COLUMN w text"),
     (OWN, "CREATE INDEX ON shop.own9 (md5(v))"),
     (OWN, "ALTER TABLE shop.own9 ENABLE ROW LEVEL SECURITY"),
     (OWN, "INSERT INTO shop.kept VALUES (1, 'x')"),
     (OWN, "SAVEPOINT s"),
     (OWN, "DROP TABLE shop.own9", "CREATE TABLE IF NOT EXISTS shop.own9 (id int, v text)"),
     (OWN, "ALTER TABLE shop.own9 RENAME TO own8", "ALTER TABLE shop.own8 RENAME TO own9"),
     ("CREATE TABLE shop.own8 (id int); " + OWN,)],
)
def test_one_that_code_could_stand_behind_is_not_filled_so(gate, before):
    with Client(gate, "power") as client:
        (refused,) = filled(client, *before)
        assert refused["C"] == "42501" and "sent behind" in refused["M"], refused
        client.ask(query("ROLLBACK"))


@pytest.mark.parametrize(
    "fill, rows",
    [("INSERT INTO own9 (id, v) VALUES ($1, $2)", TWO_ROWS),
     ("INSERT INTO shop.own9 (id, v) VALUES ($1, initcap($2))", TWO_ROWS),
     ("INSERT INTO shop.own9 (id, v) VALUES ($1::int + 1, $2)", TWO_ROWS),
     ("INSERT INTO shop.own9 (id, v) SELECT $1::int, $2 FROM shop.kept", TWO_ROWS),
     (FILL, [*TWO_ROWS, parse("SELECT 1 FROM shop.kept"), bind(), execute()]),
     (FILL, [*TWO_ROWS, parse("INSERT INTO shop.kept VALUES ($1, $2)"), bind("1", "x"), execute()]),
     (FILL, [*TWO_ROWS, parse("SELECT 1 FROM shop.own9"), bind(), execute()])],
    ids=["spelled otherwise", "a function", "an operator", "it reads", "another behind it", "another write", "a read of it"],
)
def test_nothing_but_rows_of_values_fills_it_so(gate, fill, rows):
    with Client(gate, "power") as client:
        (refused,) = filled(client, OWN, fill=fill, rows=rows)
        assert refused["C"] == "42501" and "sent behind" in refused["M"], refused
        client.ask(query("ROLLBACK"))


def test_a_table_that_a_savepoint_took_away_is_nobodys_own(attack, database):
    """Between its end and the batch somebody else makes one of that name, with code behind it."""
    client = attack.client
    for sql in ("BEGIN", "SAVEPOINT s", OWN, "ROLLBACK TO s"):
        assert not errors(client.ask(query(sql)))
    with database.superuser() as db:
        db.execute("""CREATE TABLE shop.own9 (id int, v text); CREATE TRIGGER move_by_trigger BEFORE INSERT ON shop.own9
            FOR EACH ROW EXECUTE FUNCTION shop.let_it()""")
    try:
        (refused,) = errors(client.ask(parse(FILL), *TWO_ROWS, SYNC))
        assert refused["C"] == "42501" and "sent behind" in refused["M"], refused
        client.ask(query("ROLLBACK"))
        client.sock.close()
    finally:
        with database.superuser() as db:
            db.execute("DROP TABLE shop.own9")


def test_what_a_failed_definition_would_have_made_is_nobodys_own(gate, database):
    with Client(gate, "power") as client:
        for sql in ("BEGIN", "SAVEPOINT s"):
            client.ask(query(sql))
        (failed,) = errors(client.ask(query("CREATE TABLE shop.own9 (id int, id int)")))
        assert failed["C"] == "42701"
        client.ask(query("ROLLBACK TO s"))
        assert errors(client.ask(parse(FILL), *TWO_ROWS, SYNC))
        client.ask(query("ROLLBACK"))
