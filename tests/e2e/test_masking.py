"""Detectors: what is recognised by pattern leaves masked, by every way back, in every format; what is not leaves as it is."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest

from harness import HANG_S, binary
from wire import SYNC, Client, bind, close, errors, execute, parse, query, row, tags

CARD = "4111111111111111"
SPACED = "4111 1111 1111 1111"
EMAIL = "ann.oneil@example.org"
SSN = "123-45-6789"
IBAN = "GB29NWBK60161331926819"
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRETS = [CARD, SPACED, EMAIL, SSN, IBAN, KEY, CARD.encode().hex()]

FIXTURE = f"""
CREATE TYPE shop.pair AS (a text, b bigint);
CREATE TABLE shop.people (
    id int PRIMARY KEY, note text, small varchar(30), big bigint, exact numeric, real float8, doc json, docb jsonb,
    list text[], numbers bigint[], raw bytea, pair shop.pair, at timestamptz, key uuid
);
INSERT INTO shop.people SELECT n, 'call {EMAIL} about {SPACED}', '{SSN}', {CARD}, {CARD}.00, {CARD},
    '{{"pan": {CARD}, "mail": "{EMAIL}"}}', '{{"pan": {CARD}, "mail": "{EMAIL}"}}',
    array['{EMAIL}', 'plain', NULL], array[{CARD}, 5], '{CARD}'::bytea, row('{IBAN}', {CARD})::shop.pair,
    '2026-11-21 04:50:17.123456+00', '550e8400-e29b-41d4-a716-446655440000' FROM generate_series(1, 300) AS n;
INSERT INTO shop.people (id, note, big) VALUES (301, 'nothing here', 4711), (302, NULL, NULL);
GRANT ALL ON shop.people TO app_login;
"""

KEYS = """
CREATE TYPE shop.who AS ENUM ('plain', 'ann.oneil@example.org');
CREATE TABLE shop.keys (id bigint, paid money, who shop.who, price float8, exact numeric, spans int8range, many bigint[], vector oidvector, note text);
INSERT INTO shop.keys SELECT 10000000000 + n * 7919, 41111111111111.11, 'plain', n * 1.37, n * 1.5, int8range(n, n + 5), array[10000000000 + n],
    '5078 5077 5077', 'plain' FROM generate_series(1, 5000) AS n;
INSERT INTO shop.keys VALUES (378282246310005, 0, 'ann.oneil@example.org', 30569309025904, 6212345678900000003, int8range(4111111111111111, NULL), array[378282246310005], '1', '52998224725'),
    (30569309025904, 0, 'plain', 378282246310005, 378282246310005, NULL, NULL, NULL, 'x'), (6212345678900000003, 0, 'plain', 1, 1, NULL, NULL, NULL, 'x');
GRANT ALL ON shop.keys TO app_login;
"""
GONE = "DROP TABLE IF EXISTS shop.people, shop.keys; DROP TYPE IF EXISTS shop.pair, shop.who;"


@pytest.fixture(scope="module")
def people(world):
    with world.database.superuser() as db:
        db.execute(GONE + FIXTURE + KEYS)
    yield world
    with world.database.superuser() as db:
        db.execute(GONE)


@pytest.fixture(scope="module")
def masking(people):
    """A gateway whose policy has every detector on."""
    gateway = people.gateway()
    policy = gateway.folder / "policy.toml"
    text = policy.read_text().replace('["packs/drivers.toml"]', '["packs/drivers.toml", "packs/pii.toml"]')
    assert "packs/pii.toml" in text
    policy.write_text(text)
    gateway.start()
    yield gateway
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr
    # Two cards without a word's end between them are none, and stand in texts that are kept.
    held = gateway.evidence_bytes().replace(f"{CARD}{CARD}".encode(), b"")
    for secret in SECRETS:
        assert secret.encode() not in held, f"{secret} stands in the evidence"
    gateway.stop()


def clean(text):
    """Nothing of the fixture's secrets is in it, in no spelling."""
    text = text if isinstance(text, str) else repr(text)
    for secret in SECRETS:
        assert secret not in text, text[:600]
        assert secret[:-1] not in text, text[:600]


COLUMNS = "id, note, small, big, exact, real, doc, docb, list, numbers, raw, at, key"
FIRST = (
    1, "call [email] about [card]", "[ssn]", None, None, None,
    {"pan": None, "mail": "[email]"}, {"pan": None, "mail": "[email]"}, ["[email]", "plain", None], [None, 5], None,
)  # fmt: skip


@pytest.mark.parametrize("binary_rows", [False, True])
def test_every_type_in_both_formats(masking, binary_rows):
    with masking.connect() as db, db.cursor(binary=binary_rows) as cursor:
        rows = cursor.execute(f"SELECT {COLUMNS} FROM people ORDER BY id").fetchall()
        assert len(rows) == 302
        assert rows[0][:11] == FIRST
        assert str(rows[0][12]) == "550e8400-e29b-41d4-a716-446655440000"
        assert rows[0][11].microsecond == 123456, "a timestamp is no number of a card"
        assert rows[299][1:11] == FIRST[1:]
        assert rows[300][:4] == (301, "nothing here", None, 4711)
        clean(rows)
        clean(cursor.execute("SELECT pair FROM people WHERE id < 4").fetchall())
        clean(cursor.execute("SELECT people FROM people WHERE id < 4").fetchall())
        clean(cursor.execute("SELECT array_agg(big), to_jsonb(array_agg(note)), max(note) FROM people").fetchall())


def test_simple_protocol_and_psql(masking):
    done = masking.psql("-c", "SELECT * FROM people ORDER BY id LIMIT 20", "-c", "SELECT note, big FROM people WHERE id = 301")
    assert done.returncode == 0, done.stderr
    assert "[email]" in done.stdout and done.stdout.endswith("nothing here|4711\n")
    clean(done.stdout)


def test_prepared_cursors_and_pipelines(masking):
    with masking.connect(autocommit=False) as db:
        for n in range(1, 12):
            got = db.execute("SELECT note FROM people WHERE id = %s", (n,), prepare=True).fetchone()
            assert got == ("call [email] about [card]",)
        with db.cursor(name="c1") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT note, big FROM people ORDER BY id")
            clean([row for row in cursor])
        db.execute("DECLARE plain CURSOR FOR SELECT note FROM people ORDER BY id")
        clean(db.execute("FETCH 5 FROM plain").fetchall())
        db.rollback()
        db.execute("PREPARE p AS SELECT small FROM people WHERE id = 1")
        assert db.execute("EXECUTE p").fetchall() == [("[ssn]",)]
        with db.pipeline():
            cursors = [db.execute("SELECT small, %s::int FROM people WHERE id = %s", (n, n)) for n in range(1, 60)]
            assert [cursor.fetchone() for cursor in cursors] == [("[ssn]", n) for n in range(1, 60)]


def test_returning_and_errors_hold_no_value(masking):
    with masking.connect() as db:
        with pytest.raises(psycopg.errors.UniqueViolation) as duplicate:
            db.execute("INSERT INTO people (id, note) VALUES (1, 'x')")
        clean(str(duplicate.value))
        for sql in [
            "SELECT note::int FROM people WHERE id = 1",
            "SELECT note::int FROM people WHERE id = 1 -- again",
            "SELECT doc::text::inet FROM people WHERE id = 1",
        ]:
            with pytest.raises(psycopg.Error) as raised:
                db.execute(sql)
            clean(str(raised.value) + str(raised.value.diag.message_detail) + str(raised.value.diag.context))
            assert "[email]" in str(raised.value), "the rest of the message stays"
        got = db.execute("UPDATE people SET small = small WHERE id = 2 RETURNING note, small").fetchone()
        assert got == ("call [email] about [card]", "[ssn]")
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_what_leaves_is_masked_and_what_is_stored_is_not(masking, database):
    with masking.connect() as db:
        db.execute("UPDATE people SET small = %s WHERE id = 3", ("987-65-4320",))
    assert database.one("SELECT note FROM shop.people WHERE id = 3") == f"call {EMAIL} about {SPACED}"


@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(FORMAT csv, HEADER, DELIMITER ';', NULL 'none')", "(FORMAT binary)"])
def test_copy_in_every_format(masking, options):
    with masking.connect() as db, db.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT {COLUMNS} FROM people ORDER BY id) TO STDOUT {options}") as copy:
            data = b"".join(bytes(block) for block in copy)
    clean(data.decode("latin-1"))
    if "binary" in options:
        assert data.startswith(b"PGCOPY\n") and data.endswith(b"\xff\xff")
        return
    assert b"[ssn]" in data and b"2026-11-21" in data and b"550e8400-e29b-41d4-a716-446655440000" in data
    # It is still a COPY: the server reads it back.
    with masking.database.superuser() as db, db.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE back (LIKE shop.people)")
        with cursor.copy(f"COPY back ({COLUMNS}) FROM STDIN {options}") as copy:
            copy.write(data)
        got = cursor.execute("SELECT count(*), count(big), min(note) FROM back WHERE id <> 302").fetchone()
        assert got == (301, 1, "call [email] about [card]")


def test_a_copy_in_another_encoding_is_refused(masking):
    with masking.connect() as db, db.cursor() as cursor:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="how its rows are spelled"):
            with cursor.copy("COPY people TO STDOUT (ENCODING 'LATIN1')") as copy:
                b"".join(bytes(block) for block in copy)
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_a_row_larger_than_any_buffer(masking):
    with masking.connect() as db:
        got = db.execute("SELECT repeat('x', 3000000) || ' ' || note FROM people WHERE id = 1").fetchone()[0]
        assert got.endswith(" call [email] about [card]") and len(got) > 3_000_000


def test_the_record_says_what_and_how_often(masking):
    with masking.connect() as db:
        db.execute("SELECT note, small FROM people WHERE id BETWEEN 5 AND 9 -- counted").fetchall()
    counts = masking.wait_record(
        "the record of what was masked",
        lambda record: record["kind"] == "masked"
        and {(c["place"], c["by"], c["count"]) for c in record["payload"]["counts"]}
        == {("column 1", "detector email", 5), ("column 1", "detector card", 5), ("column 2", "detector ssn", 5)},
    )
    assert counts
    shown = subprocess.run([binary(), "evidence", "show", masking.evidence], capture_output=True, text=True, timeout=HANG_S)
    assert "detector ssn" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    "moves",
    [
        [query("CLOSE cc"), query(f"DECLARE cc CURSOR FOR SELECT '{CARD}{CARD}'::text")],
        [query("CLOSE ALL"), query(f"DECLARE cc CURSOR FOR SELECT '{CARD}{CARD}'::text")],
        [(close("P", "cc"), SYNC), query(f"DECLARE cc CURSOR FOR SELECT '{CARD}{CARD}'::text")],
        [(parse("CLOSE cc"), bind(), execute(), SYNC), (parse(f"DECLARE cc CURSOR FOR SELECT '{CARD}{CARD}'::text"), bind(), execute(), SYNC)],
        [query("ROLLBACK TO SAVEPOINT before"), query(f"DECLARE cc CURSOR FOR SELECT '{CARD}{CARD}'::text")],
    ],
)
@pytest.mark.parametrize("to_text", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_a_portal_by_name_is_refused_when_its_name_has_moved(masking, gate, moves, to_text, masked):
    """PostgreSQL would read the rows of the new cursor by the types of the old one: in clear, or into its own memory."""
    first = "7::int4" if to_text else "'x'::text"
    with Client(masking if masked else gate) as client:
        client.ask(query("BEGIN; SAVEPOINT before"))
        assert not errors(client.ask(query(f"DECLARE cc CURSOR FOR SELECT {first}")))
        bound = client.ask(parse("FETCH ALL FROM cc", name="s"), bind(portal="p", statement="s"), SYNC)
        assert tags(bound) == "12Z", bound
        for move in moves:
            frames = move if isinstance(move, tuple) else (move,)
            # Back before the savepoint the portal is gone with its cursor.
            assert not errors(client.ask(*frames))
        got = client.ask(execute("p"), SYNC)
        assert tags(got) == "EZ", got
        # CLOSE ALL closes portals as well, and so does the way back before the savepoint that they were made behind.
        gone = moves[0] in (query("CLOSE ALL"), query("ROLLBACK TO SAVEPOINT before"))
        said = "does not exist" if gone else "bind it again"
        assert errors(got)[0]["C"] == "34000" and said in errors(got)[0]["M"]
        client.ask(query("ROLLBACK"))
        # The session goes on, and a portal whose name did not move runs, in parts too.
        client.ask(query("BEGIN; DECLARE cc CURSOR FOR SELECT generate_series(1, 5)"))
        got = client.ask(parse("FETCH ALL FROM cc", name="t"), bind(portal="q", statement="t"), execute("q", rows=2), SYNC)
        assert tags(got) == "12DDsZ", got
        assert tags(client.ask(execute("q"), SYNC)) == "DDDCZ"


def test_a_portal_of_an_execute_is_refused_when_the_statement_is_another(masking):
    with Client(masking) as client:
        client.ask(query("BEGIN"))
        client.ask(query("PREPARE pp AS SELECT 7::int4"))
        client.ask(parse("EXECUTE pp", name="s"), bind(portal="p", statement="s"), SYNC)
        client.ask(query("DEALLOCATE pp"))
        client.ask(query(f"PREPARE pp AS SELECT '{CARD}'::text"))
        got = client.ask(execute("p"), SYNC)
        assert errors(got) and errors(got)[0]["C"] == "34000", got
        assert CARD.encode() not in b"".join(body for _, body in got)


def test_binary_copies_keep_ordinary_values(masking):
    """Eight bytes are not taken for a card because they can be read as one."""
    makers = {
        "(n * 1.37)::float8": "float8", "timestamptz '2011-03-01' + n * interval '17 minutes'": "timestamptz",
        "'ABC' || lpad(n::text, 5, '0')": "text", "'C0' || lpad(n::text, 6, '0')": "text", "n * 7919::bigint": "bigint",
        "array[(n * 1.37)::float8]": "float8[]", "row((n * 1.37)::float8)": None,
    }
    with masking.connect() as db, db.cursor() as cursor:
        for maker, kind in makers.items():
            with cursor.copy(f"COPY (SELECT {maker} FROM generate_series(1, 5000) AS n) TO STDOUT (FORMAT binary)") as copy:
                data = b"".join(bytes(block) for block in copy)
            at, nulls, rows = 19, 0, 0
            while data[at : at + 2] != b"\xff\xff":
                length = int.from_bytes(data[at + 2 : at + 6], "big", signed=True)
                nulls += length < 0
                rows += 1
                at += 6 + max(length, 0)
            assert (rows, nulls) == (5000, 0), maker
        cursor = db.cursor(binary=True)
        got = cursor.execute("SELECT row((n * 1.37)::float8) FROM generate_series(1, 5000) AS n").fetchall()
        assert sum(value is None for (value,) in got) == 0


@pytest.mark.parametrize("options", ["DELIMITER ' '", "DELIMITER '-'", "DELIMITER '@'", "DELIMITER 'A'", "(FORMAT csv, QUOTE '-', ESCAPE '\"')", "(FORMAT csv, QUOTE '4')", "(FORMAT csv, DELIMITER '1', QUOTE '@')"])
def test_no_spelling_of_copy_hides_a_value(masking, options):
    query_ = f"SELECT 'pay {SPACED}', '{SSN}', '415-555-0134', '{EMAIL}', '{KEY}'"
    with masking.connect() as db, db.cursor() as cursor:
        with cursor.copy(f"COPY ({query_}) TO STDOUT {options}") as copy:
            data = b"".join(bytes(block) for block in copy)
    with masking.database.superuser() as db, db.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE spelled (a text, b text, c text, d text, e text)")
        with cursor.copy(f"COPY spelled FROM STDIN {options}") as copy:
            copy.write(data)
        got = cursor.execute("SELECT * FROM spelled").fetchone()
    assert got == ("pay [card]", "[ssn]", "[phone]", "[email]", "[api-key]")


def test_what_was_masked_is_recorded_where_the_session_ends_first(masking):
    with Client(masking) as client:
        client.send(query("SELECT 1, 2, 3, note FROM people, generate_series(1, 3000) -- left"))
        for _ in range(9):
            client.read()
    assert masking.wait_record(
        "the record of what was masked before the client left",
        lambda record: record["kind"] == "masked"
        and any(c["place"] == "column 4" and c["by"] == "detector email" for c in record["payload"]["counts"]),
    )


def test_without_detectors_nothing_is_touched(people, gate):
    with gate.connect() as db:
        assert db.execute("SELECT small, big FROM people WHERE id = 1").fetchone() == (SSN, int(CARD))


@pytest.mark.parametrize(
    "sql, sides",
    [
        (f"SET application_name = 'pay {CARD}'", "S"),
        (f"SELECT set_config('application_name', '{EMAIL}', false)", "S"),
        (f"DO $$ BEGIN RAISE NOTICE 'call % now', '{EMAIL}' USING DETAIL = 'pay {CARD}', HINT = '{SSN}'; END $$", "N"),
        (f"DO $$ BEGIN RAISE EXCEPTION 'call {EMAIL}' USING CONSTRAINT = '{CARD}', TABLE = '{SSN}'; END $$", "E"),
        (f"NOTIFY heard, '{IBAN} of {EMAIL}'", "A"),
        (f"EXPLAIN SELECT * FROM people WHERE note = '{CARD}' OR small = '{SSN}'", "D"),
        (f"SELECT '{CARD}'::int", "E"),
        (f"SELECT lo_from_bytea(4711, '{EMAIL}'); SELECT lo_get(4711); SELECT lo_unlink(4711)", "D"),
        (f"CREATE SEQUENCE shop.cards START {CARD} MAXVALUE {CARD}; SELECT nextval('shop.cards'), currval('shop.cards'); "
         "SELECT last_value FROM shop.cards", "D"),
        (f"SELECT query FROM pg_stat_activity WHERE query LIKE '%{EMAIL}%'", "D"),
    ],
)
def test_no_side_door_tells_a_value(masking, sql, sides):
    """Settings, notices, errors, notifications, plans, large objects, sequences, other sessions' texts: R29, and threats 3."""
    with Client(masking, "power") as client:
        client.ask(query("LISTEN heard"))
        frames = client.ask(query(f"BEGIN; {sql}")) if "SEQUENCE" in sql or "lo_" in sql else client.ask(query(sql))
        frames += client.ask(query("SELECT 1"))
        client.ask(query("ROLLBACK"))
    assert sides in "".join(tag for tag, _ in frames), frames
    clean(b"".join(body for tag, body in frames if tag != "T").decode("latin-1"))


def copied(gateway, sql):
    """What a COPY delivers."""
    with gateway.connect() as db, db.cursor() as cursor, cursor.copy(sql) as copy:
        return b"".join(bytes(block) for block in copy)


@pytest.mark.parametrize("connected", ["psycopg", "wire"])
def test_the_first_row_of_a_session_may_be_larger_than_the_buffer(masking, connected):
    """What stands before it in the buffer is less than a cache line, and frees no room when it has left."""
    sql = "SELECT repeat('x', 200000)"
    if connected == "psycopg":
        with masking.connect() as db:
            assert len(db.execute(sql).fetchone()[0]) == 200_000
        return
    with Client(masking) as client:
        assert tags(client.ask(query(sql))) == "TDCZ"


@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(FORMAT binary)"])
def test_a_row_too_large_for_a_turn_is_masked_all_the_same(masking, options):
    """It is masked beside the shard's thread; many sessions at once wait for their places."""
    sql = f"SELECT repeat('{EMAIL} and ', 60000) || '{SPACED}', n FROM generate_series(1, 3) AS n"
    with ThreadPoolExecutor(6) as pool:
        copies = [pool.submit(copied, masking, f"COPY ({sql}) TO STDOUT {options}") for _ in range(3)]

        def fetched():
            with masking.connect() as db:
                return db.execute(sql).fetchall()

        selects = [pool.submit(fetched) for _ in range(3)]
        for select in selects:
            assert [(text == "[email] and " * 60000 + "[card]", n) for text, n in select.result(HANG_S)] == [(True, n) for n in (1, 2, 3)]
        for copy in copies:
            data = copy.result(HANG_S)
            # In binary a text of no known type is NULL as a whole.
            assert (data.count(b"[email]"), data.count(b"[card]")) == ((0, 0) if "binary" in options else (180_000, 3))
            clean(data.decode("latin-1"))


@pytest.mark.parametrize("what", ["keys", "(SELECT * FROM keys)", "(SELECT k.id, paid, who, price, exact, spans, many, vector, note FROM shop.keys AS k WHERE id > 0)"])
@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(FORMAT binary)"])
def test_the_catalog_tells_a_copy_its_types(masking, what, options):
    """No card passes as bigint, of whatever length; no key is lost for its digits, and what leaves is valid for its type."""
    data = copied(masking, f"COPY {what} TO STDOUT {options}")
    with masking.database.superuser() as db, db.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE back (LIKE shop.keys)")
        with cursor.copy(f"COPY back FROM STDIN {options}") as copy:
            copy.write(data)
        same = "id, paid, who, price, exact, spans, many, vector::text, note"
        lost = f"SELECT count(*) FROM (SELECT {same} FROM shop.keys WHERE id < 20000000000 EXCEPT SELECT {same} FROM back) AS lost"
        assert cursor.execute(lost).fetchone() == (0,)
        rest = cursor.execute("SELECT id, who, price, exact, spans, many, note FROM back WHERE id IS NULL ORDER BY price, who").fetchall()
    masked_array = None if options == "(FORMAT binary)" else [None]
    assert [row[1:] for row in rest] == [
        ("plain", 1.0, Decimal(1), None, None, "x"),
        ("plain", None, None, None, None, "x"),
        (None, None, None, None, masked_array, None),
    ]


def test_names_that_hold_a_value_are_recorded_without_it(masking):
    """Nobody keeps a client from putting a value into an alias, a relation's name or a cursor's."""
    with Client(masking) as client:
        client.ask(query(f'SELECT 1 AS "{EMAIL}", 2 AS "pay {CARD}" -- an alias'))
        client.ask(parse("SELECT 1", name=f"s {CARD}"), bind(portal=f"p {EMAIL}", statement=f"s {CARD}"), execute(f"p {EMAIL}"), SYNC)
        client.ask(query("BEGIN"))
        client.ask(query(f'DECLARE "{EMAIL}" CURSOR FOR SELECT 1'))
        client.ask(query("ROLLBACK"))
        assert errors(client.ask(query(f'SELECT * FROM "{SSN}"')))
        assert errors(client.ask(query(f'EXECUTE "{CARD}"')))
    assert masking.wait_record(
        "the alias, masked",
        lambda record: record["kind"] == "statement" and '"[email]"' in (record["payload"]["text"].get("lifted") or "")
        and '"pay [card]"' in record["payload"]["text"]["lifted"],
    )
    # The fixture looks for the values themselves in all of the evidence.


TOKENS = """
[[detector]]
id = "tokens"
groups = ["*"]
targets = ["*"]
detect = ["ssn"]
mask = "token"
"""


@pytest.fixture(scope="module")
def tokens(people):
    gateway = people.gateway()
    policy = gateway.folder / "policy.toml"
    policy.write_text(policy.read_text() + TOKENS)
    gateway.start()
    yield gateway
    gateway.stop()


def test_tokens_are_a_column_s_own(tokens):
    """Equal values get equal tokens in one column; no constant and no table of the client's own gives one that stands there."""
    with tokens.connect() as db:
        first, second = [row[0] for row in db.execute("SELECT small FROM people WHERE id IN (5, 6)").fetchall()]
        assert first == second and first.startswith("tok_")
        assert db.execute("SELECT p.small AS other FROM shop.people AS p WHERE id = 7").fetchone() == (first,)
        for constant in [f"SELECT '{SSN}'", f"SELECT small || '' FROM people WHERE id = 5", f"SELECT * FROM (VALUES ('{SSN}')) AS v"]:
            assert db.execute(constant).fetchone() == ("[ssn]",), constant
        with pytest.raises(psycopg.Error) as raised:
            db.execute(f"SELECT '{SSN}'::int")
        assert "[ssn]" in str(raised.value)
    assert copied(tokens, "COPY (SELECT small FROM people WHERE id = 5) TO STDOUT") == first.encode() + b"\n"
    assert copied(tokens, f"COPY (SELECT '{SSN}'::text) TO STDOUT") == b"[ssn]\n"
