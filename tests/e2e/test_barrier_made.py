"""The barrier of README decision 6, where code of the database's users makes what others run: triggers that nobody's text names, other
statements under a known name, other cursors."""

import pytest

from harness import wait_until
from test_barrier import Attack
from wire import SYNC, Client, Refused, bind, close, describe, errors, execute, parse, query, row

SETUP = """
CREATE TABLE shop.maker (id int);
CREATE TABLE shop.made_for (id int, setting text, value text);
CREATE FUNCTION shop.make_it() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  EXECUTE 'CREATE OR REPLACE TRIGGER made BEFORE INSERT ON shop.made_for FOR EACH ROW EXECUTE FUNCTION shop.move_by_trigger()';
  RETURN 'made'; END $$;
CREATE FUNCTION shop.make_by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.make_it(); RETURN NEW; END $$;
CREATE TRIGGER maker BEFORE INSERT ON shop.maker FOR EACH ROW EXECUTE FUNCTION shop.make_by_trigger();
CREATE PROCEDURE shop.make_and_fail() LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.make_it(); COMMIT; RAISE 'made, and failed'; END $$;
CREATE FUNCTION shop.makes_in_a_check(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.make_it(); RETURN true; END $$;
CREATE DOMAIN shop.making AS text CHECK (shop.makes_in_a_check(value));
CREATE TABLE shop.of_making (c shop.making[]);
CREATE FUNCTION shop.as_text(text, text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('search_path', 'evil', true); RETURN bttextcmp($1, $2); END $$;
CREATE OPERATOR CLASS shop.evil_ops FOR TYPE text USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
  FUNCTION 1 shop.as_text(text, text);
CREATE FUNCTION shop.harmless() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION shop.prepares(name text, as_what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('DEALLOCATE %I', name); EXECUTE format('PREPARE %I AS %s', name, as_what); END $$;
CREATE FUNCTION shop.opens(name refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$ BEGIN
  OPEN name FOR SELECT 'of the code'; RETURN name; END $$;
CREATE FUNCTION shop.opens_anew(name text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE c refcursor := name; BEGIN
  CLOSE c; OPEN c FOR SELECT 'of the code'; END $$;
CREATE TABLE shop.gives (id int, name text, as_what text);
CREATE FUNCTION shop.gives() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.as_what = 'cursor' THEN PERFORM shop.opens_anew(NEW.name);
  ELSIF NEW.name IS NOT NULL THEN PERFORM shop.prepares(NEW.name, NEW.as_what); END IF; RETURN NEW; END $$;
CREATE TRIGGER gives BEFORE INSERT ON shop.gives FOR EACH ROW EXECUTE FUNCTION shop.gives();
CREATE FUNCTION shop.hides_a_type() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'CREATE TEMP TABLE regclass (i int)'; RETURN 1; END $$;
CREATE FUNCTION shop.json_value(jsonb, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('search_path', 'evil', false); RETURN 'x'; END $$;
CREATE FUNCTION shop.json_object(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('search_path', 'evil', false); RETURN 'x'; END $$;
"""
CLEANUP = """
DROP TABLE shop.maker, shop.made_for, shop.of_making, shop.gives;
DROP DOMAIN shop.making;
DROP OPERATOR FAMILY shop.evil_ops USING btree;
DROP PROCEDURE shop.make_and_fail();
DROP FUNCTION shop.make_by_trigger(), shop.make_it(), shop.makes_in_a_check(text), shop.as_text(text, text), shop.harmless(),
  shop.prepares(text, text), shop.gives(), shop.opens(refcursor), shop.opens_anew(text), shop.json_value(jsonb, text), shop.json_object(text, text), shop.hides_a_type();
"""
HARMLESS = "INSERT INTO shop.made_for VALUES (1, 'application_name', 'x')"
MOVES = "INSERT INTO shop.made_for VALUES (1, 'search_path', 'evil')"


def knows(gate, sql) -> bool:
    """Whether the gateway knows that code runs with this write: what follows in its batch is refused then."""
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        said = errors(client.ask(parse(sql), bind(), execute(), parse("SELECT 1"), bind(), execute(), SYNC))
        return any("behind another one" in error["M"] for error in said)


@pytest.fixture(scope="module", autouse=True)
def made(world, shared):
    with world.database.superuser() as db:
        db.execute(SETUP)
    for table in ("maker", "gives"):
        wait_until("the snapshot shows them", lambda: knows(shared, f"INSERT INTO shop.{table} (id) VALUES (1)"))  # noqa: B023
    yield
    with world.database.superuser() as db:
        db.execute(CLEANUP)


@pytest.fixture
def plain(world, shared):
    """shop.made_for has no trigger, and the gateway knows it."""

    def drop():
        with world.database.superuser() as db:
            db.execute("DROP TRIGGER IF EXISTS made ON shop.made_for")
        wait_until("the snapshot shows no trigger", lambda: not knows(shared, HARMLESS))

    drop()
    yield
    drop()


@pytest.fixture
def attack(gate, database, plain):
    return Attack(gate, database)


SUSPENDED = (parse("SELECT shop.make_it() FROM generate_series(1, 5)"), bind(), execute(rows=1), SYNC)
BOUND = (parse("INSERT INTO shop.of_making VALUES (ARRAY[$1]::shop.making[])"), bind("x"), SYNC)
ANALYSED = (parse("INSERT INTO shop.of_making VALUES ('{x}')"), SYNC)


@pytest.mark.parametrize(
    "frames",
    [
        (query("INSERT INTO shop.maker VALUES (1)"),),
        (parse("INSERT INTO shop.maker VALUES ($1)"), bind(1), execute(), SYNC),
        (query("SELECT set_config('application_name', shop.make_it(), false)"),),
        (query("INSERT INTO shop.maker SELECT 1 WHERE set_config('application_name', 'x', false) = 'x'"),),
        (query("CALL shop.make_and_fail()"),),
        BOUND,
        ANALYSED,
    ],
    ids=["trigger", "trigger, extended", "beside a setting", "trigger beside a setting", "failed procedure", "bound", "analysed"],
)
def test_code_that_defines(attack, frames):
    """It makes a trigger that no snapshot shows yet: the write that meets it, at once, is behind a barrier all the same."""
    attack.client.ask(*frames)
    attack.client.send(query(MOVES), query(attack.after))
    attack.defeated()


@pytest.mark.parametrize("frames", [(query("INSERT INTO shop.maker VALUES (1)"),), SUSPENDED], ids=["trigger", "suspended"])
def test_code_that_defines_in_a_transaction(attack, frames):
    attack.client.ask(query("BEGIN"))
    attack.client.ask(*frames)
    attack.client.send(query(MOVES), query(attack.after), query("COMMIT"))
    attack.defeated()


def test_a_definition_that_another_session_has_brought_meanwhile(attack, world):
    """The write was judged by a catalog without the trigger, and waited for the table; the guarded settings are read before anything
    else is judged by a later catalog."""
    with world.database.superuser() as db:
        db.autocommit = False
        db.execute("LOCK TABLE shop.made_for")
        db.execute("SELECT shop.make_it()")
        attack.client.send(query(MOVES))
        wait_until(
            "the write waits", lambda: world.database.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query = %s", MOVES))
        db.commit()
    try:
        assert not errors(attack.client.until_ready())
    except Refused as refused:
        # The catalog was read while the write waited: its end is met by the reading of the settings already.
        assert "search_path was moved" in refused.fields["M"], refused
        return
    wait_until("the snapshot shows the trigger", lambda: knows(attack.gate, HARMLESS))
    attack.client.send(query(attack.after))
    attack.defeated()


@pytest.mark.parametrize(
    "brings",
    ["CREATE INDEX of_evil ON shop.made_for (value shop.evil_ops)", "ALTER TABLE shop.made_for ADD EXCLUDE USING btree (value shop.evil_ops WITH =)",
     "CREATE TEMP TABLE of_evil (value text, EXCLUDE USING btree (value shop.evil_ops WITH =))",
     "CREATE TABLE shop.of_evil (value text) PARTITION BY RANGE (value shop.evil_ops)"],
    ids=["index", "constraint", "temporary", "partitions"],
)
def test_an_operator_class_is_code(gate, plain, brings):
    """Every later row of the table is compared by it."""
    table = "shop.made_for" if "made_for" in brings else "of_evil" if "TEMP" in brings else "shop.of_evil"
    with Client(gate, "power") as client:
        (refused,) = errors(client.ask(query(f"BEGIN; {brings}; INSERT INTO {table} (value) VALUES ('x'); SELECT * FROM items; ROLLBACK")))
        assert refused["C"] == "42501" and "behind one that runs code" in refused["M"], refused


def test_an_operator_class_of_the_server_is_none(gate, plain):
    with Client(gate, "power") as client:
        text = "BEGIN; CREATE INDEX of_like ON shop.made_for (value text_pattern_ops); INSERT INTO shop.made_for (value) VALUES ('x'); SELECT * FROM items; ROLLBACK"
        assert not errors(client.ask(query(text)))


@pytest.mark.parametrize(
    "since, call", [(170000, "json_value('{}'::jsonb, '$')"), (160000, "json_object('a'::text, 'b'::text)"), (160000, "system_user")]
)
def test_syntax_that_is_a_name_to_an_older_server(attack, database, since, call):
    """The grammar is that of the newest server; an older one looks the name up among its functions, or columns."""
    newer = int(database.one("SHOW server_version_num")) >= since
    with Client(attack.gate, "reader") as client:
        said = errors(client.ask(query(f"SELECT {call}")))
        assert newer or said and said[0]["C"] == "42501", said
    if not newer and call != "system_user":
        attack.client.send(query(f"SELECT {call}"), query("SELECT * FROM items"), query(attack.after))
        # Refused already, or behind a barrier.
        assert attack.outcome()


# -- names ------------------------------------------------------------------------------------------------------------

OTHER = "SELECT name FROM evil.items"


def values(frames):
    return [row(body) for tag, body in frames if tag == "D"]


@pytest.mark.parametrize("how", ["protocol", "sql"])
def test_a_prepared_name_that_code_gave_another_statement(gate, how):
    with Client(gate, "power") as client:
        if how == "protocol":
            make, use = (parse("SELECT 'its own'", "s"), SYNC), (bind(statement="s"), execute(), SYNC)
        else:
            make, use = (query("PREPARE s AS SELECT 'its own'"),), (query("EXECUTE s"),)
        assert not errors(client.ask(*make))
        for code in ("SELECT shop.harmless()", "INSERT INTO shop.maker VALUES (1)"):
            assert not errors(client.ask(query(code)))
            assert values(client.ask(*use)) == [(b"its own",)]
        assert not errors(client.ask(query(f"SELECT shop.prepares('s', '{OTHER}')")))
        (refused,) = errors(client.ask(*use))
        assert refused["C"] == "26000" and "[ref " in refused["M"], refused
        # The name is free to be made anew.
        client.ask(*(make if how == "sql" else (query("DEALLOCATE s"), *make)))


def test_a_cursor_ends_with_its_transaction(gate):
    with Client(gate, "power") as client:
        for text in ("BEGIN", "DECLARE c CURSOR FOR SELECT 'its own'", "COMMIT", "BEGIN", "SELECT shop.opens('c')"):
            assert not errors(client.ask(query(text))), text
        (refused,) = errors(client.ask(query("FETCH ALL FROM c")))
        assert refused["C"] == "34000" and "did not make it through the gateway" in refused["M"], refused


@pytest.mark.parametrize("hold", ["", " WITH HOLD"])
def test_a_cursor_that_code_opened_anew(gate, hold):
    with Client(gate, "power") as client:
        for text in ("BEGIN", f"DECLARE c CURSOR{hold} FOR SELECT 'its own' FROM generate_series(1, 9)"):
            assert not errors(client.ask(query(text))), text
        for code in ("SELECT shop.harmless()", "INSERT INTO shop.maker VALUES (1)"):
            assert not errors(client.ask(query(code)))
            assert values(client.ask(query("FETCH 2 FROM c"))) == [(b"its own",)] * 2
        assert not errors(client.ask(query("SELECT shop.opens_anew('c')")))
        (refused,) = errors(client.ask(query("FETCH ALL FROM c")))
        assert refused["C"] == "34000" and "did not make it through the gateway" in refused["M"], refused


def test_a_cursor_with_hold_outlives_its_transaction(gate):
    with Client(gate, "power") as client:
        for text in ("BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 'its own' FROM generate_series(1, 3)", "COMMIT", "SELECT shop.harmless()"):
            assert not errors(client.ask(query(text))), text
        assert values(client.ask(query("FETCH ALL FROM c"))) == [(b"its own",)] * 3


OWN_ROWS = "SELECT 'its own' FROM generate_series(1, 9)"


def test_a_portal_that_code_opened_anew(gate):
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        assert not errors(client.ask(parse(OWN_ROWS), bind(portal="p"), execute("p", 2), SYNC))
        for code in ("SELECT shop.harmless()", "INSERT INTO shop.maker VALUES (1)"):
            assert not errors(client.ask(query(code)))
            assert values(client.ask(execute("p", 1), SYNC)) == [(b"its own",)]
            assert values(client.ask(query("FETCH 1 FROM p"))) == [(b"its own",)]
        assert not errors(client.ask(query("SELECT shop.opens_anew('p')")))
        client.ask(query("SAVEPOINT s"))
        for use in ((execute("p"), SYNC), (describe("P", "p"), SYNC), (query("FETCH ALL FROM p"),)):
            (refused,) = errors(client.ask(*use))
            assert refused["C"] == "34000" and "given its name to another cursor" in refused["M"], refused
            client.ask(query("ROLLBACK TO s"))
        # The name is free to be bound anew.
        client.ask(close("P", "p"), SYNC)
        assert values(client.ask(parse(OWN_ROWS), bind(portal="p"), execute("p", 1), SYNC)) == [(b"its own",)]


def test_a_portal_of_code_is_its_own(gate):
    """A driver fetches from a function by portions, beside other functions."""
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        text = "SELECT 'its own', shop.harmless() FROM generate_series(1, 9)"
        assert len(values(client.ask(parse(text), bind(portal="p"), execute("p", 2), SYNC))) == 2
        for _ in range(3):
            assert values(client.ask(parse("SELECT shop.harmless()"), bind(), execute(), SYNC)) == [(b"1",)]
            assert values(client.ask(execute("p", 1), SYNC)) == [(b"its own", b"1")]
        assert len(values(client.ask(execute("p", 0), SYNC))) == 4


TO_GIVE = "INSERT INTO shop.gives VALUES ($1, $2, $3)"


def test_a_portal_that_code_opens_anew_in_its_batch(gate):
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        said = client.ask(
            parse(TO_GIVE), bind(1, None, None, portal="p"), bind(2, "p", "cursor", portal="q"), execute("q"), execute("p"), SYNC
        )
        assert len(errors(said)) == 1 and not values(said), said


def test_a_portal_beside_code_of_its_own_batch_is_not_used_behind_it(gate):
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        client.ask(parse(TO_GIVE, "g"), parse(OWN_ROWS, "s"), SYNC)
        client.ask(bind(portal="p", statement="s"), bind(2, "p", "cursor", statement="g"), execute(), SYNC)
        (refused,) = errors(client.ask(execute("p"), SYNC))
        assert refused["C"] == "34000" and "Next: bind it anew" in refused["M"], refused


@pytest.mark.parametrize(
    "text",
    [
        f"DECLARE c CURSOR FOR {OWN_ROWS}; SELECT shop.opens_anew('c')",
        "PREPARE s AS SELECT 'its own'; SELECT shop.prepares('s', 'SELECT 1')",
    ],
)
def test_code_behind_a_new_name_in_one_text(gate, text):
    with Client(gate, "power") as client:
        client.ask(query("BEGIN"))
        (refused,) = errors(client.ask(query(text)))
        assert refused["C"] == "42501" and "send them as separate queries" in refused["M"], refused


def evil_names(world):
    with world.database.superuser() as db:
        return [name for (name,) in db.execute("SELECT name FROM evil.items ORDER BY name")]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "other"),
    [
        ("g", TO_GIVE, "INSERT INTO evil.items (id, name) SELECT 666, $2 FROM (SELECT $1::int, $3::text) AS taken"),
        ("c", "COMMIT", "INSERT INTO evil.items (id, name) VALUES (666, 'x')"),
    ],
    ids=["its own", "of a commit"],
)
def test_a_prepared_name_that_code_gives_away_in_its_batch(gate, world, inside, name, text, other):
    """Its own write may come again behind its trigger, and the transaction may end."""
    before = evil_names(world)
    with Client(gate, "power") as client:
        assert not errors(client.ask(parse(TO_GIVE, "g"), SYNC))
        if name != "g":
            client.ask(parse(text, name), SYNC)
        if inside:
            client.ask(query("BEGIN"))
        again = bind(*([2, "x", None] if name == "g" else []), statement=name)
        (refused,) = errors(client.ask(bind(1, name, other, statement="g"), execute(), again, execute(), SYNC))
        assert refused["C"] == "42501" and "behind another one" in refused["M"], refused
        # In a failed transaction the server runs nothing that PREPARE could have made.
        said = client.ask(parse("ROLLBACK", "r"), bind(statement="r"), execute(), SYNC)
        assert not errors(said), said
        (refused,) = errors(client.ask(bind(statement=name), execute(), SYNC))
        assert refused["C"] == "26000", refused
    assert evil_names(world) == before


def test_a_prepared_rollback_ends_what_failed_behind_code(gate):
    """Drivers prepare it by name, and bind that name again."""
    with Client(gate, "power") as client:
        client.ask(parse("ROLLBACK", "r"), SYNC)
        client.ask(query("BEGIN"))
        assert errors(client.ask(query("SELECT shop.harmless() / 0")))
        assert not errors(client.ask(close("S", "other"), bind(statement="r"), execute(), SYNC))


def test_a_temporary_table_of_the_same_text_hides_what_it_is_called_by(gate):
    """What the evidence says was reached."""
    with Client(gate, "power") as client:
        mark = "of_one_text"
        assert not errors(client.ask(query(f"BEGIN; CREATE TEMP TABLE items (id int, {mark} int); DELETE FROM items WHERE id = 1; ROLLBACK")))
    record = gate.wait_record("the text", lambda r: r["kind"] == "statement" and mark in str(r["payload"]["text"]))
    reached = str(record["payload"]["facts"])
    assert reached.count("pg_temp") >= 2, reached


def test_a_type_that_code_made_hides_the_servers_own(gate):
    """A bare name of a type, between others that are not the only ones of their kind."""
    between = "SELECT json_object('{}') FROM pg_class WHERE oid = 'pg_class'::regclass"
    with Client(gate, "power") as client:
        for text in ("CREATE TEMP TABLE here (i int)", "SELECT shop.harmless()", between, "SELECT shop.hides_a_type()"):
            assert not errors(client.ask(query(text))), text
        (refused,) = errors(client.ask(query(between)))
        assert refused["C"] == "42501" and "while the statement is analysed" in refused["M"], refused
