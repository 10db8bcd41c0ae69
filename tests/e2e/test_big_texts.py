"""Texts at the edge of what PostgreSQL itself takes (issue 2, point 6), through serve: accepted where the server's defaults
accept and the cap allows, refused else; the process lives, and others are served meanwhile."""

import threading

import psycopg
import pytest

from harness import policed

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def big(world):
    """A gateway whose cap lets a megabyte and some through."""
    gate = world.gateway(statement_bytes_max=8 * MIB).start()
    yield gate
    gate.stop()


def sums(terms):
    return "SELECT " + " + ".join(["1"] * terms)


def nots(count):
    return "SELECT " + "NOT " * count + "true"


def sub_selects(depth):
    text = "SELECT 1 AS x"
    for n in range(depth):
        text = f"SELECT x FROM ({text}) AS s{n}"
    return text


def joins(count):
    return "SELECT count(*) FROM items i0" + "".join(f" JOIN items i{n} ON i{n}.id = i{n - 1}.id" for n in range(1, count + 1)) + " WHERE i0.id = 7"


def or_chain(size):
    # Over one row: what is asked for is reading it, and the server's own planner is slow at such a chain over an index.
    parts, total, n = [], 0, 1
    while total < size:
        part = f"x = {n}"
        parts.append(part)
        total += len(part) + 4
        n += 1
    return "SELECT count(*) FROM (VALUES (1)) AS v (x) WHERE " + " OR ".join(parts)


def directly(database, sql):
    """What the server itself makes of it: the value, or the SQLSTATE of its refusal."""
    with database.superuser() as db:
        db.execute("SET search_path TO shop")
        db.execute("SET join_collapse_limit TO 1")
        try:
            return db.execute(sql).fetchone()
        except psycopg.Error as error:
            return error.sqlstate


def served_meanwhile(gate, work):
    """Runs `work` while another session is served; what it came to."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    gate.served()
    thread.join()
    gate.served()
    return outcome[0]


TEXTS = {
    "a sum of 1000 terms": sums(1_000),
    "a sum of 4900 terms": sums(4_900),
    "a sum of 10000 terms": sums(10_000),
    "a sum of 60000 terms": sums(60_000),
    "4990 nots": nots(4_990),
    "23 nested sub-selects": sub_selects(23),
    "200 nested sub-selects": sub_selects(200),
    "46 joins": joins(46),
    "one value of 5 MB": "SELECT length('" + "x" * (5 * 1000 * 1000) + "')",
    "a comment of 5 MB": "SELECT 1 /* " + "y" * (5 * 1000 * 1000) + " */",
    "a list of 20000 values": "SELECT count(*) FROM items WHERE id IN (" + ",".join(map(str, range(20_000))) + ")",
    "a megabyte of or": or_chain(MIB),
    "10000 parentheses": "SELECT " + "(" * 10_000 + "1" + ")" * 10_000,
}


@pytest.mark.parametrize("what", TEXTS)
def test_as_the_server_takes_it(big, database, what):
    sql = TEXTS[what]
    wanted = directly(database, sql)

    def work():
        with big.connect() as db:
            if "joins" in what:
                db.execute("SET join_collapse_limit TO 1")
            return db.execute(sql).fetchone()

    got = served_meanwhile(big, work)
    if isinstance(wanted, tuple):
        assert got == wanted, got
    else:
        assert isinstance(got, psycopg.Error), (wanted, got)


def outcome(gate, sql):
    with gate.connect() as db:
        try:
            return "row", db.execute(sql).fetchone()
        except psycopg.Error as error:
            return "error", error.sqlstate, error.diag.message_primary, db.closed


@pytest.mark.parametrize(
    "sql",
    [sums(200_000), "SELECT length('" + "x" * 300_000 + "')", or_chain(MIB), "SELECT '" + "z" * (5 * 1000 * 1000) + "'"],
    ids=["sum", "value", "or", "5 MB"],
)
def test_beyond_the_cap(gate, sql):
    """The default cap is 256 KiB: refused with the reason and the setting's name."""
    kind, *rest = served_meanwhile(gate, lambda: outcome(gate, sql))
    assert kind == "error", rest
    sqlstate, message, _ = rest
    assert "statement_bytes_max" in message and "Next:" in message, message
    assert sqlstate == "54000"


def names(first, one, between=","):
    """A text below the default cap that is made of different names."""
    parts, total, n = [], len(first), 0
    while total < 250_000:
        parts.append(one.format(f"q{n:x}"))
        total += len(parts[-1]) + len(between)
        n += 1
    return first + between.join(parts)


def stars(levels):
    """Each query doubles the columns of the one before."""
    doubled = "".join(f", q{n} AS (SELECT a.*, b.* FROM q{n - 1} a, q{n - 1} b)" for n in range(1, levels))
    return f"WITH q0 AS (SELECT a.*, b.* FROM of_stars a, of_stars b){doubled} SELECT 1 FROM q{levels - 1}"


@pytest.fixture(scope="module")
def near_a_label(world):
    """A gateway with a label on one column of a table: the columns of what reads it are followed."""
    made = "DROP TABLE IF EXISTS shop.of_stars; CREATE TABLE shop.of_stars (id int, s text); GRANT ALL ON shop.of_stars TO app_login"
    label = '\n[[label]]\ncolumn = "shop.of_stars.s"\ntier = "secret"\nmask = "null"\n'
    with policed(world, made, "DROP TABLE shop.of_stars", label) as gate:
        yield gate


@pytest.mark.parametrize(
    "sql",
    [names("SELECT 1 FROM ", "{}"), names("SELECT ", "{}()"), names("DROP TABLE ", "{}"), names("GRANT SELECT ON ", "{}") + " TO x", stars(30)],
    ids=["relations", "functions", "DROP", "GRANT", "stars over stars"],
)
def test_many_names_are_refused_while_others_are_served(near_a_label, sql):
    kind, *rest = served_meanwhile(near_a_label, lambda: outcome(near_a_label, sql))
    assert kind == "error" and rest[0] in ("54000", "42501") and "Next:" in rest[1], rest


def test_as_many_names_as_pg_dump_locks_in_one_text(near_a_label):
    tables = ", ".join(f"shop.t{n}" for n in range(7_000))
    kind, sqlstate, message, _ = outcome(near_a_label, f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
    assert kind == "error" and "different relations" not in message, (sqlstate, message[:300])


DEEP = {
    "100000 parentheses": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "100000 open parentheses": "SELECT " + "(" * 100_000,
    "60000 nots": nots(60_000),
    "5000 nested sub-selects": "SELECT (" * 5_000 + "SELECT 1" + ")" * 5_000,
    "20000 array brackets": "SELECT " + "ARRAY[" * 20_000 + "1" + "]" * 20_000,
    "50000 casts": "SELECT 1" + "::int" * 50_000,
    "50000 minus signs": "SELECT " + "- " * 50_000 + "1",
    "100000 statements": "SELECT 1;" * 100_000,
    "500 unions": " UNION ALL ".join(["SELECT 1"] * 500),
    "20000 CASE": "SELECT " + "CASE WHEN true THEN " * 20_000 + "1" + " END" * 20_000,
}


@pytest.mark.parametrize("what", DEEP)
def test_depth_breaks_nothing(big, what):
    got = served_meanwhile(big, lambda: outcome(big, DEEP[what]))
    assert got[0] in ("row", "error"), got
    assert big.alive()


def test_many_big_texts_at_once(big):
    def work():
        wrong = []

        def one():
            try:
                if outcome(big, sums(4_000))[0] not in ("row", "error"):
                    wrong.append(1)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wrong

    assert served_meanwhile(big, work) == []
