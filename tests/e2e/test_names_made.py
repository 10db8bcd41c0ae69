"""Decision 9 while the catalog moves: a bare name that the session, or code, may just have made counts in every schema of the path that
could hold it, so the permit on the known one of that name is not enough."""

import pytest

from harness import policed
from wire import Client, errors, query, row

SETUP = """
CREATE SCHEMA early; CREATE SCHEMA late;
CREATE TABLE late.audit (who text); INSERT INTO late.audit VALUES ('late'); CREATE TABLE late.maker (i int);
CREATE FUNCTION late.dynamic() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'CREATE TABLE early.audit (who text)'; RETURN 1; END $$;
CREATE FUNCTION late.plain() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE early.audit (who text); RETURN 1; END $$;
CREATE FUNCTION late.selects() RETURNS int LANGUAGE sql AS $$ SELECT 'x'::text AS who INTO early.audit; SELECT 1 $$;
CREATE FUNCTION late.by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE early.audit (who text); RETURN NEW; END $$;
CREATE FUNCTION late.in_fresh() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  CREATE SCHEMA fresh; CREATE TABLE fresh.audit (who text); RETURN 1; END $$;
CREATE TRIGGER t BEFORE INSERT ON late.maker FOR EACH ROW EXECUTE FUNCTION late.by_trigger();
GRANT ALL ON SCHEMA early, late TO app_login; GRANT ALL ON ALL TABLES IN SCHEMA late TO app_login;
GRANT CREATE ON DATABASE shop TO app_login;
"""
CLEANUP = """
DROP SCHEMA IF EXISTS early CASCADE; DROP SCHEMA IF EXISTS late CASCADE; DROP SCHEMA IF EXISTS fresh CASCADE;
REVOKE CREATE ON DATABASE shop FROM app_login;
"""
PERMITS = """
[[permit]]
id = "makes"
groups = ["app"]
targets = ["shop"]
classes = ["ddl.create", "ddl.alter", "ddl.code"]
on = ["fresh.*", "late.*", "fn:late.*"]
"""


@pytest.fixture(scope="module")
def made(world):
    """A path of three schemas, of which the last alone is permitted, and the first does not exist."""
    functions = '"fn:late.dynamic", "fn:late.plain", "fn:late.selects", "fn:late.in_fresh", "fn:late.joined"]'

    def late_alone(text):
        text = text.replace('search_path = ["shop"]', 'search_path = ["fresh", "early", "late"]')
        return text.replace('on = ["shop.*"]', 'on = ["late.*"]').replace('"fn:shop.*"]', functions)

    with policed(world, CLEANUP + SETUP, CLEANUP, PERMITS, late_alone) as gateway:
        yield gateway


def said(client, *texts):
    """The answer to the last of the texts; those before it pass."""
    *first, last = texts
    for text in first:
        assert not errors(client.ask(query(text))), text
    return client.ask(query(last))


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize(
    "making",
    ["SELECT dynamic()", "SELECT plain()", "SELECT selects()", "INSERT INTO maker VALUES (1)", "SELECT in_fresh()"],
    ids=["EXECUTE", "CREATE TABLE", "SELECT INTO", "a trigger", "a schema, too"],
)
@pytest.mark.parametrize("then", ["INSERT INTO audit VALUES ('x')", "SELECT * FROM audit"])
def test_a_relation_that_code_made(made, world, making, then, in_transaction):
    with Client(made, "app") as client:
        begun = ["BEGIN"] if in_transaction else []
        (refused,) = errors(said(client, *begun, making, then))
        assert refused["C"] == "42501" and ("early.audit" in refused["M"] or "fresh.audit" in refused["M"]), refused
        if in_transaction:
            assert not errors(client.ask(query("ROLLBACK")))
    with world.database.superuser() as db:
        db.execute("DROP TABLE IF EXISTS early.audit; DROP SCHEMA IF EXISTS fresh CASCADE")


def test_a_relation_in_a_schema_of_the_path_that_was_made_just_now(made):
    with Client(made, "app") as client:
        begin = ("BEGIN", "CREATE SCHEMA fresh", "CREATE TABLE fresh.audit (who text)")
        (refused,) = errors(said(client, *begin, "INSERT INTO audit VALUES ('x')"))
        assert refused["C"] == "42501" and "fresh.audit" in refused["M"], refused
        client.ask(query("ROLLBACK"))


@pytest.mark.parametrize(
    "texts",
    [("CREATE FUNCTION late.upper(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'mine'::text $$", "SELECT upper('x'::varchar)"),
     ("CREATE FUNCTION late.mine(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'mine'::text $$",
      "ALTER FUNCTION late.mine(varchar) RENAME TO upper", "SELECT upper('x'::varchar)"),
     ("CREATE FUNCTION late.joined(varchar, varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'mine'::text $$",
      "CREATE OPERATOR late.|| (leftarg = varchar, rightarg = varchar, function = late.joined)", "SELECT 'a'::varchar || 'b'::varchar")],
    ids=["a function", "a function by another name", "an operator"],
)
def test_what_a_text_made_beside_a_built_in_of_that_name(made, texts):
    with Client(made, "app") as client:
        (refused,) = errors(said(client, "BEGIN", *texts))
        assert refused["C"] == "42501" and "no permit of yours covers call.function" in refused["M"], refused
        client.ask(query("ROLLBACK"))


def test_other_names_go_on(made):
    """What no statement made means what it meant, in the same transaction."""
    with Client(made, "app") as client:
        before = ("BEGIN", "CREATE FUNCTION late.upper(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'mine'::text $$")
        got = said(client, *before, "SELECT lower('X') || who FROM audit")
        assert [row(body) for tag, body in got if tag == "D"] == [(b"xlate",)], got
        client.ask(query("ROLLBACK"))
