"""Detectors: what is recognised by pattern leaves masked, by every way back, in every format; what is not leaves as it is."""

import subprocess

import psycopg
import pytest

from harness import HANG_S, binary

CARD = "4111111111111111"
SPACED = "4111 1111 1111 1111"
EMAIL = "ann.oneil@example.org"
SSN = "123-45-6789"
IBAN = "GB29NWBK60161331926819"
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRETS = [CARD, SPACED, EMAIL, SSN, IBAN, KEY, CARD.encode().hex()]

FIXTURE = f"""
DROP TABLE IF EXISTS shop.people;
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


@pytest.fixture(scope="module")
def people(world):
    with world.database.superuser() as db:
        db.execute("DROP TABLE IF EXISTS shop.people; DROP TYPE IF EXISTS shop.pair")
        db.execute(FIXTURE)
    yield world
    with world.database.superuser() as db:
        db.execute("DROP TABLE shop.people; DROP TYPE shop.pair")


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
    held = gateway.evidence_bytes()
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


def test_without_detectors_nothing_is_touched(people, gate):
    with gate.connect() as db:
        assert db.execute("SELECT small, big FROM people WHERE id = 1").fetchone() == (SSN, int(CARD))
