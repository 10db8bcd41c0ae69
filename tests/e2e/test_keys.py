"""Keys and checks over labelled columns on a real server: what answers a writer, and what ordinary writes must not notice."""

import psycopg
import pytest

from harness import wait_until

SCHEMA = """
CREATE SCHEMA keys;
SET search_path TO keys;
CREATE TABLE cards (id int PRIMARY KEY, number text UNIQUE, holder text);
CREATE TABLE people (id int PRIMARY KEY, email text NOT NULL UNIQUE, phone text, pay int DEFAULT 10, bonus int DEFAULT 1,
  CONSTRAINT fair CHECK (pay > bonus), CHECK (email LIKE '%@%'));
CREATE UNIQUE INDEX people_lower ON people (lower(email)) INCLUDE (phone);
CREATE UNIQUE INDEX people_some ON people (phone) WHERE pay > 3;
CREATE TABLE uses (id int PRIMARY KEY, number text REFERENCES cards (number) ON DELETE CASCADE, note text);
CREATE TABLE strict_uses (id int PRIMARY KEY, number text REFERENCES cards (number), note text);
CREATE TABLE rooms (id int PRIMARY KEY, guest text, EXCLUDE USING btree (guest WITH =));
CREATE TABLE codes (id int, code text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE codes_1 (code text, id int NOT NULL);
ALTER TABLE codes ATTACH PARTITION codes_1 FOR VALUES FROM (0) TO (100);
CREATE UNIQUE INDEX codes_1_code ON codes_1 (code);
CREATE TABLE roots (id int PRIMARY KEY, name text);
CREATE TABLE stems (id int PRIMARY KEY, code text UNIQUE, root int REFERENCES roots (id) ON DELETE CASCADE ON UPDATE CASCADE,
  soft int REFERENCES roots (id) ON DELETE SET NULL);
CREATE TABLE leaves (id int PRIMARY KEY, code text REFERENCES stems (code));
CREATE TABLE free (id int PRIMARY KEY, note text UNIQUE);
CREATE DOMAIN word AS text;
CREATE TABLE words (id int PRIMARY KEY, word word);
INSERT INTO words VALUES (1, 'QZXV5');
INSERT INTO cards VALUES (1, 'QZXV1', 'a');
INSERT INTO people VALUES (1, 'QZXV@b.example', '1');
INSERT INTO roots VALUES (1, 'a'), (2, 'b');
INSERT INTO stems VALUES (1, 'QZXV4', 1, 2);
INSERT INTO leaves VALUES (1, 'QZXV4');
INSERT INTO codes VALUES (1, 'QZXV2');
INSERT INTO rooms VALUES (1, 'QZXV3');
INSERT INTO strict_uses VALUES (1, 'QZXV1');
GRANT USAGE ON SCHEMA keys TO app_login;
GRANT ALL ON ALL TABLES IN SCHEMA keys TO app_login;
"""
LABELS = "".join(
    f'\n[[label]]\ncolumn = "keys.{column}"\ntier = "{tier}"\nmask = "null"\n'
    for column, tier in (("cards.number", "secret"), ("people.email", "personal"), ("people.pay", "restricted"),
                         ("rooms.guest", "restricted"), ("codes.code", "secret"), ("leaves.code", "secret"), ("words.word", "personal"))
)  # fmt: skip


@pytest.fixture(scope="module")
def keyed(world):
    with world.database.superuser() as db:
        db.execute(SCHEMA)
    gateway = world.gateway()
    text = (gateway.folder / "policy.toml").read_text().replace('on = ["shop.*"]', 'on = ["shop.*", "keys.*"]')
    (gateway.folder / "policy.toml").write_text(text.replace('search_path = ["shop"]', 'search_path = ["keys"]') + LABELS)
    gateway.start()
    yield gateway
    gateway.stop()
    with world.database.superuser() as db:
        db.execute("DROP SCHEMA keys CASCADE")


# Statement → rows that it changes, or the server's own word on it.
PASS = {
    "INSERT INTO cards (id, holder) VALUES (2, 'x')": 1,
    "UPDATE cards SET holder = 'x' WHERE id = 1": 1,
    "INSERT INTO people (id, email) VALUES (2, 'new@b.example')": 1,
    "INSERT INTO people (id, email, phone) VALUES (2, 'a@b.example', '2'), (3, 'c@b.example', '3') RETURNING id, email": 2,
    "INSERT INTO people VALUES (2, 'new@b.example', '9', 5, 4)": 1,
    "INSERT INTO people (id, email) VALUES (3, 'QZXV@b.example')": "23505",
    "UPDATE people SET email = 'x@b.example', phone = '7' WHERE id = 1": 1,
    "UPDATE people SET pay = 9, bonus = 8 WHERE id = 1": 1,
    "INSERT INTO people (id, email) VALUES (1, 'y@b.example') ON CONFLICT (id) DO NOTHING": 0,
    "INSERT INTO people (id, email) VALUES (1, 'y@b.example') ON CONFLICT (id) DO UPDATE SET email = excluded.email": 1,
    "INSERT INTO people (id, email) VALUES (1, 'y@b.example') ON CONFLICT ON CONSTRAINT people_pkey DO NOTHING": 0,
    "INSERT INTO free VALUES (1, 'x') ON CONFLICT DO NOTHING": 1,
    "INSERT INTO uses (id, note) VALUES (2, 'x')": 1,
    "INSERT INTO codes (id) VALUES (2)": 1,
    "DELETE FROM people WHERE id = 1": 1,
    "DELETE FROM codes WHERE id = 1": 1,
    "UPDATE roots SET id = 5 WHERE id = 1": 1,
    "UPDATE roots SET name = 'x' WHERE id = 2": 1,
    "INSERT INTO roots VALUES (3, 'c')": 1,
    "MERGE INTO people p USING (VALUES (5)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id, email) VALUES (v.id, 'z@b.example')": 1,
}
REFUSED = {
    "INSERT INTO cards VALUES (3, 'QZXV1')": "cards_number_key",
    "INSERT INTO cards (id, number) VALUES (3, 'x')": "cards_number_key",
    "UPDATE cards SET number = 'x' WHERE id = 1": "cards_number_key",
    "WITH w AS (INSERT INTO cards (id, number) VALUES (3, 'x') RETURNING id) SELECT count(*) FROM w": "cards_number_key",
    "PREPARE p AS INSERT INTO cards (id, number) VALUES ($1, $2)": "cards_number_key",
    "INSERT INTO uses (id, number) VALUES (3, 'QZXV1')": "uses_number_fkey",
    "UPDATE strict_uses SET number = 'x'  WHERE id = 1": "strict_uses_number_fkey",
    "UPDATE people SET bonus = 5 WHERE id = 1": "fair",
    "INSERT INTO rooms VALUES (2, 'QZXV3')": "rooms_guest_excl",
    "INSERT INTO codes VALUES (3, 'QZXV2')": "codes_1_code",
    "DELETE FROM stems WHERE id = 1": "leaves_code_fkey",
    "DELETE FROM roots WHERE id = 1": "leaves_code_fkey",
    "DELETE FROM roots WHERE id = 2": "leaves_code_fkey",
    "INSERT INTO people (id, email) VALUES (3, 'x@b.example') ON CONFLICT DO NOTHING": "people_",
    "INSERT INTO people (id, email) VALUES (3, 'x@b.example') ON CONFLICT ON CONSTRAINT people_email_key DO NOTHING": "people_email_key",
    "INSERT INTO people (id, email) VALUES (3, 'x@b.example') ON CONFLICT (email) DO NOTHING": "ON CONFLICT",
    "INSERT INTO people (id, email) VALUES (3, 'x@b.example') ON CONFLICT (lower(email)) DO NOTHING": "ON CONFLICT",
}


def test_ordinary_writes_do_not_notice(keyed):
    with keyed.connect() as db:
        if db.info.server_version < 150000:
            PASS.pop(next(sql for sql in PASS if sql.startswith("MERGE")), None)
        for sql, expected in PASS.items():
            with db.transaction(force_rollback=True):
                try:
                    with db.transaction():
                        got = db.execute(sql).rowcount
                except psycopg.Error as error:
                    got = error.sqlstate
                    assert "QZXV" not in str(error), sql
            assert got == expected, sql


@pytest.mark.parametrize("sql", REFUSED)
def test_a_key_answers_no_more_than_its_label_allows(keyed, sql):
    """The refusal names the key, and is the same whether the value is there or not: the statement never ran."""
    with keyed.connect() as db, pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        db.execute(sql)
    said = refused.value.diag.message_primary
    assert REFUSED[sql] in said and "Next: " in said and "QZXV" not in said, said


@pytest.mark.parametrize("rest", ["ADD CHECK (value <> 'QZXV5')", "ADD CONSTRAINT c CHECK (value > 'A')", "SET NOT NULL", "VALIDATE CONSTRAINT c", "SET DEFAULT 'x'"])
def test_a_domain_asks_no_labelled_column_of_its_type(keyed, rest):
    with keyed.connect("power") as db, pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        db.execute(f"ALTER DOMAIN keys.word {rest}")
    said = refused.value.diag.message_primary
    assert said.startswith("pgturnstile") and "whether its values fit" in said and "Next: " in said, said


def test_what_asks_no_row_of_a_domain_passes(keyed):
    with keyed.connect("power") as db:
        for rest in ("DROP NOT NULL", "DROP CONSTRAINT IF EXISTS c"):
            assert db.execute(f"ALTER DOMAIN keys.word {rest}").statusmessage == "ALTER DOMAIN"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'cards'",
        "SELECT * FROM pg_stat_user_tables",
        "SELECT pg_stat_get_tuples_hot_updated('keys.cards'::regclass)",
        "SELECT pg_stat_get_xact_tuples_hot_updated('keys.cards'::regclass)",
        "SELECT pg_current_wal_insert_lsn()",
        "SELECT idx_blks_hit FROM pg_statio_user_indexes",
        "SELECT wal_bytes FROM pg_stat_wal",
        "SELECT blks_hit FROM pg_stat_database",
    ],
)
def test_counters_do_not_tell_whether_a_secret_value_was_guessed(keyed, sql):
    with keyed.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            db.execute(sql)
        assert refused.value.diag.message_primary.startswith("pgturnstile")
        assert db.execute("SELECT idx_scan FROM pg_stat_user_indexes LIMIT 1").description


def test_copy_asks_like_an_insert(keyed):
    with keyed.connect("power") as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.cursor().copy("COPY keys.cards FROM STDIN") as copy:
            copy.write("4\tx\ty\n")
        with db.cursor().copy("COPY keys.cards (id, holder) FROM STDIN") as copy:
            copy.write("4\ty\n")
        assert db.execute("DELETE FROM keys.cards WHERE id = 4 AND holder = 'y'").rowcount == 1


def test_a_row_that_is_referenced_by_a_secret_is_not_asked_for(keyed, world):
    with world.database.superuser() as other:
        other.execute("CREATE TABLE keys.open (number text PRIMARY KEY, note text); CREATE TABLE keys.closed (id int, "
                      "number text REFERENCES keys.open); COMMENT ON COLUMN keys.closed.number IS 'pgturnstile: tier=secret mask=null';"
                      "INSERT INTO keys.open VALUES ('a'), ('b'); INSERT INTO keys.closed VALUES (1, 'a')")  # fmt: skip
    with keyed.connect("power") as db:
        def refused(sql):
            try:
                db.execute(sql)
            except psycopg.errors.InsufficientPrivilege as error:
                return "closed_number_fkey" in error.diag.message_primary
            except psycopg.Error:
                return False
            return False

        wait_until("the new key is known", lambda: refused("DELETE FROM keys.open WHERE number = 'x'"))
        assert refused("UPDATE keys.open SET number = 'c' WHERE number = 'b'")
        assert db.execute("UPDATE keys.open SET note = 'c' WHERE number = 'b'").rowcount == 1
