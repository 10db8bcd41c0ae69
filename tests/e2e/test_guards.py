"""The guards of README decision 15: what an access entry fixes for a session stands, whatever the session tries.

Two groups log in as a superuser and hold every permit, so that nothing but the built-in guard stands in the way: `power`
with `mode = "write"` and `auditor` with `mode = "read"`. Each escape is one row of a table and runs by the simple and by
the extended protocol, alone and inside a transaction. Behind each the session writes down where it stands, or tries to
write although it only reads; the superuser beside the gateway looks at what is there.
"""

import itertools
import struct

import pytest

from wire import (
    COPY_DONE, SYNC, Client, Closed, Refused, bind, copy_data, errors, execute, fields, frame, parse, query, tags, text,
)

_number = itertools.count()

# --- what stands at the beginning -----------------------------------------------------------------------------------

PLAIN = {
    "client_encoding": "UTF8", "standard_conforming_strings": "on", "row_security": "on", "role": "none",
    "session_replication_role": "origin", "search_path": '"shop"', "default_transaction_read_only": "off",
    "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
}
# By access entry of fixtures/policy.toml: what the server itself says, in its own units.
STANDING = {
    "app": {"statement_timeout": "1min", "lock_timeout": "20s", "session_authorization": "app_login"},
    "reader": {"default_transaction_read_only": "on", "transaction_read_only": "on", "session_authorization": "app_login"},
    "queued": {"session_authorization": "app_login"},
    "bench": {"search_path": '"bench"', "session_authorization": "bench_login"},
    "power": {"session_authorization": "power_login"},
    "auditor": {
        "default_transaction_read_only": "on", "transaction_read_only": "on", "statement_timeout": "61500ms",
        "lock_timeout": "2h", "idle_in_transaction_session_timeout": "90s", "session_authorization": "power_login",
    },
}


def entries_of_the_policy(gate):
    text = (gate.folder / "policy.toml").read_text()
    return {part.split('id = "')[1].split('"')[0] for part in text.split("[[access]]")[1:]}


def database_of(entry):
    return "bench" if entry == "bench" else "shop"


def seen(client, names):
    return {name: client.rows(f"SHOW {name}")[0][0].decode() for name in names}


def by_the_superuser(database, sql):
    # In a database of its own, which none of these tests change.
    with database.superuser("postgres") as db:
        db.execute(sql)


def test_every_access_entry_has_a_row(gate):
    assert entries_of_the_policy(gate) == set(STANDING)


@pytest.mark.parametrize("behind", ["login", "RESET ALL", "DISCARD ALL", "RESET SESSION AUTHORIZATION", "RESET ROLE"])
@pytest.mark.parametrize("entry", STANDING)
def test_the_guards_stand_on_the_server(gate, entry, behind):
    """Read from the server, for every access entry, at the beginning and behind what returns to the beginning."""
    wanted = {**PLAIN, **STANDING[entry]}
    with Client(gate, entry, database=database_of(entry)) as client:
        if behind != "login":
            client.ask(query(behind))
        assert seen(client, wanted) == wanted


@pytest.mark.parametrize("whom", ["ROLE power_login", "DATABASE shop", "ROLE ALL", "ROLE power_login IN DATABASE shop"])
@pytest.mark.parametrize(
    "setting, value",
    [("client_encoding", "SJIS"), ("client_encoding", "GBK"), ("client_encoding", "BIG5"), ("client_encoding", "GB18030"),
     ("standard_conforming_strings", "off"), ("search_path", "evil"), ("default_transaction_read_only", "off"),
     ("statement_timeout", "0"), ("lock_timeout", "1"), ("idle_in_transaction_session_timeout", "0")],
)
def test_what_the_startup_packet_says_outranks_the_database(gate, database, whom, setting, value):
    """ALTER ROLE SET and ALTER DATABASE SET give a session its start values; the packet stands above them."""
    by_the_superuser(database, f"ALTER {whom} SET {setting} = '{value}'")
    try:
        wanted = {**PLAIN, **STANDING["auditor"]}
        with Client(gate, "auditor") as client:
            assert seen(client, wanted) == wanted
            client.ask(query("RESET ALL"))
            client.ask(query("DISCARD ALL"))
            assert seen(client, wanted) == wanted
    finally:
        by_the_superuser(database, f"ALTER {whom} RESET {setting}")


@pytest.mark.parametrize("whom", ["ROLE power_login", "ROLE power_login IN DATABASE shop"])
@pytest.mark.parametrize(
    "setting, value", [("role", "boss"), ("role", "chief"), ("row_security", "off"), ("session_replication_role", "replica")]
)
@pytest.mark.parametrize("entry", ["power", "auditor"])
def test_a_start_value_that_no_packet_can_outrank_ends_the_login(gate, database, entry, whom, setting, value):
    """A role that ALTER ROLE SET role gives is one that no access entry chose."""
    by_the_superuser(database, f"ALTER {whom} SET {setting} = '{value}'")
    try:
        with pytest.raises(Refused) as caught:
            Client(gate, entry)
        got = caught.value.fields
        assert got["V"] == "FATAL" and "operator" in got["M"], got
        assert setting in gate.log().splitlines()[-1] or setting in gate.log()[-3000:]
    finally:
        by_the_superuser(database, f"ALTER {whom} RESET {setting}")
    with Client(gate, entry) as client:
        assert seen(client, [setting]) == {setting: PLAIN[setting]}


# --- settings, in a session that may do everything else -------------------------------------------------------------

HONEST = "power_login|power_login|none|shop|on|origin|UTF8|on|off"
WHERE_IT_STANDS = (
    "concat_ws('|', current_user, session_user, current_setting('role'), current_setting('search_path'), "
    "current_setting('row_security'), current_setting('session_replication_role'), current_setting('client_encoding'), "
    "current_setting('standard_conforming_strings'), current_setting('default_transaction_read_only'))"
)
MOVED = {
    "role": "boss", "search_path": "evil", "session_authorization": "boss", "row_security": "off",
    "session_replication_role": "replica", "client_encoding": "SJIS", "standard_conforming_strings": "off",
}

# {s} the setting, {v} the value to move it to. Statements that stand on their own, tried with every setting.
PLAIN_SPELLINGS = [
    "SET {s} = '{v}'", "SET {s} TO '{v}'", "SET SESSION {s} TO '{v}'", "set \"{s}\" = '{v}'", "SET {s} = \"{v}\"", "SeT {s} tO {v}",
    "SET LOCAL {s} = '{v}'", "SET {s} = E'{v}'", "SET {s} = U&'{v}'", "SET {s} = $x${v}$x$", "SET/**/{s}/**/=/**/'{v}'",
    "SET U&\"{s}\" = '{v}'",
    "SAVEPOINT a; SET {s} = '{v}'; RELEASE a", "SAVEPOINT a; ROLLBACK TO a; SET LOCAL {s} = '{v}'",
    "SELECT 1; SET {s} = '{v}'; SELECT 1", "BEGIN; SET {s} = '{v}'; COMMIT", "BEGIN; SET LOCAL {s} = '{v}'; COMMIT",
    "ALTER SYSTEM SET {s} = '{v}'; SET {s} = '{v}'",
    "UPDATE pg_settings SET setting = '{v}' WHERE name = '{s}'", "UPDATE pg_catalog.pg_settings AS p SET setting = '{v}' WHERE name LIKE '{s}'",
    "WITH x AS (UPDATE pg_settings SET setting = '{v}' WHERE name = '{s}' RETURNING 1) SELECT * FROM x",
    "PREPARE g AS UPDATE pg_settings SET setting = '{v}' WHERE name = '{s}'",
    "DO $$BEGIN PERFORM set_config('{s}', '{v}', false); END$$",
    "DO LANGUAGE plpgsql $$BEGIN EXECUTE 'SET {s} = ' || quote_literal('{v}'); END$$",
    "DO $$BEGIN SET {s} = '{v}'; END$$",
]
# {f} is the call. Everywhere an expression can stand.
POSITIONS = [
    "SELECT {f}", "SELECT 1 WHERE {f} IS NOT NULL", "WITH x AS (SELECT {f}) SELECT * FROM x", "WITH x AS MATERIALIZED (SELECT {f}) SELECT 1",
    "SELECT * FROM {f}", "SELECT * FROM ROWS FROM ({f}) AS x", "SELECT * FROM items i, LATERAL {f} x LIMIT 1", "SELECT (SELECT {f})",
    "SELECT 1 FROM items ORDER BY {f} LIMIT 1", "SELECT 1 FROM items GROUP BY {f}", "SELECT count(*) FROM items HAVING {f} IS NOT NULL",
    "SELECT count(*) FILTER (WHERE {f} IS NOT NULL) FROM items", "SELECT 1 LIMIT length({f})", "SELECT 1 OFFSET length({f})",
    "SELECT sum(1) OVER (PARTITION BY {f}) FROM items LIMIT 1", "SELECT CASE WHEN {f} IS NULL THEN 1 END", "SELECT ARRAY[{f}]", "SELECT ROW({f})",
    "SELECT coalesce({f}, 'x')", "SELECT nullif({f}, 'x')", "SELECT greatest({f}, 'x')", "SELECT ({f})::text::name", "VALUES ({f})",
    "SELECT 1 FROM items i JOIN items j ON i.id = j.id AND {f} IS NOT NULL LIMIT 1", "SELECT 1 WHERE EXISTS (SELECT {f})",
    "SELECT 1 WHERE 'x' IN (SELECT {f})", "SELECT 1 WHERE 'x' = ANY (ARRAY[{f}])", "SELECT 1 UNION SELECT length({f})",
    "SELECT concat({f})", "SELECT format('%s', VARIADIC ARRAY[{f}])", "SELECT string_agg({f}, ',') FROM items WHERE id = 1",
    "INSERT INTO notes (test) VALUES ({f})", "INSERT INTO notes (test) SELECT {f}", "UPDATE notes SET body = {f} WHERE id = -1",
    "INSERT INTO notes (test) VALUES ('guard') RETURNING {f}", "DELETE FROM notes WHERE id = -1 AND body = {f}",
    "MERGE INTO notes n USING items i ON n.id = -i.id AND {f} IS NULL WHEN MATCHED THEN DO NOTHING",
    "PREPARE g AS SELECT {f}", "PREPARE g AS SELECT {f}; EXECUTE g", "BEGIN; DECLARE g CURSOR FOR SELECT {f}; FETCH ALL FROM g; COMMIT",
    "DECLARE g CURSOR WITH HOLD FOR SELECT {f}", "COPY (SELECT {f}) TO STDOUT", "EXPLAIN ANALYZE SELECT {f}", "EXPLAIN (ANALYZE) VALUES ({f})",
    "CREATE TABLE shop.guard_ctas AS SELECT {f}", "SELECT {f} INTO TEMP guard_into", "CREATE TEMP VIEW guard_view AS SELECT {f} AS x; SELECT * FROM guard_view",
    "CREATE MATERIALIZED VIEW shop.guard_mat AS SELECT {f} AS x",
    "CREATE TEMP TABLE guard_default (x text DEFAULT {f}); INSERT INTO guard_default DEFAULT VALUES",
    "CREATE TEMP TABLE guard_check (x text CHECK ({f} IS NOT NULL)); INSERT INTO guard_check VALUES ('x')",
    "CREATE DOMAIN pg_temp.guard_domain AS text CHECK ({f} IS NOT NULL); SELECT 'x'::pg_temp.guard_domain",
    "CREATE FUNCTION pg_temp.guard_default(x text DEFAULT {f}) RETURNS text LANGUAGE sql AS 'SELECT x'; SELECT pg_temp.guard_default()",
    "CREATE FUNCTION pg_temp.guard_atomic() RETURNS text LANGUAGE sql RETURN {f}; SELECT pg_temp.guard_atomic()",
    "CREATE TABLE pg_temp.guard_part (x text) PARTITION BY LIST ((x)); SELECT {f}", "CREATE STATISTICS guard_stat ON ({f}), id FROM items",
    "ALTER TABLE notes ALTER body SET DEFAULT {f}", "CREATE RULE guard_rule AS ON DELETE TO binaries DO ALSO SELECT {f}",
    "CREATE POLICY guard_policy ON binaries USING ({f} IS NOT NULL)",
    "SELECT query_to_xml('SELECT ' || $$ {f} $$, true, true, '')", "SELECT * FROM ts_stat($$SELECT to_tsvector({f})$$)",
    "SELECT json_build_object('x', {f})", "SELECT * FROM xmltable('/' PASSING xmlparse(content {f}) COLUMNS x text PATH '.')",
    "CALL shop.end_and_write({f})", "SELECT generate_series(1, length({f}))", "SELECT 1 FROM items TABLESAMPLE SYSTEM (length({f}))",
]
# Every way to write the call: %s the setting, %v the value.
CALLS = [
    "set_config('%s', '%v', false)", "pg_catalog.set_config('%s', '%v', true)", "SET_CONFIG('%s', '%v', false)", '"set_config"(\'%s\', \'%v\', false)',
    'U&"set\\005fconfig"(\'%s\', \'%v\', false)', "set_config(setting_name => '%s', new_value => '%v', is_local => false)",
    "set_config('%s'::text, '%v'::text, false::bool)", "set_config(concat('%s'), '%v', false)", "set_config(upper('%s'), '%v', 1 = 0)",
    "set_config((SELECT '%s'), '%v', false)", "set_config(E'%s', U&'%v', false)", "set_config('%s', '%v', NULL)", "set_config($$%s$$, $$%v$$, false)",
    "set_config((ARRAY['%s'])[1], '%v', false)", "set_config('%s' COLLATE \"C\", '%v', false)", "set_config(name, '%v', false)",
]
# Returns to what stands, or asks for it: they pass, and nothing has moved behind them.
HARMLESS = [
    "SET ROLE NONE", "RESET ROLE", "RESET ALL", "DISCARD ALL", "DISCARD PLANS", "RESET search_path", "SET search_path = shop", "SET search_path TO DEFAULT",
    "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION", "SET NAMES 'UTF8'", "SET NAMES DEFAULT", "RESET client_encoding",
    "SET client_encoding = 'utf-8'", "SET standard_conforming_strings = on", "SET row_security = on", "RESET row_security",
    "SET session_replication_role = origin", "SET default_transaction_read_only = off", "RESET default_transaction_read_only",
    "BEGIN; SET LOCAL search_path = shop; ROLLBACK",
]


def power_table():
    for setting, value in MOVED.items():
        for text in PLAIN_SPELLINGS:
            yield text.format(s=setting, v=value)
        for call in CALLS:
            yield "SELECT " + call.replace("%s", setting).replace("%v", value) + (" FROM pg_settings WHERE name = '" + setting + "'" if "(name" in call else "")
    for setting in ("role", "search_path"):
        for text in POSITIONS:
            yield text.format(f=f"set_config('{setting}', '{MOVED[setting]}', false)")
    yield from [
        "SET ROLE boss", "SET ROLE 'boss'", "SET SESSION ROLE boss", "SET LOCAL ROLE boss", "SET SESSION AUTHORIZATION boss", "SET SESSION AUTHORIZATION 'boss'",
        "SET LOCAL SESSION AUTHORIZATION boss", "SET SCHEMA 'evil'", "SET LOCAL SCHEMA 'evil'", "SET search_path = shop, evil", "SET search_path = '$user'",
        "SET search_path = ''", "SET search_path = pg_temp, shop", "SET search_path = \"SHOP\"", "SET XML OPTION DOCUMENT; SET ROLE boss",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET default_transaction_read_only = on",
        "SET role TO none, boss", "SET client_encoding = 'MULE_INTERNAL'", "SET NAMES 'SQL_ASCII'", "SET backslash_quote = on", "SET escape_string_warning = off",
        "SET transform_null_equals = on", "SET lo_compat_privileges = on", "SET session_preload_libraries = 'x'", "SET local_preload_libraries = 'x'",
        "SET log_statement = 'none'", "SET log_min_messages = panic", "SET log_min_error_statement = panic", "SET allow_system_table_mods = on",
        "SET ignore_system_indexes = on", "SET zero_damaged_pages = on", "SET debug_print_plan = on", "SET dynamic_library_path = '/tmp'", "SET seed = 0.5",
        "LOAD 'x'; SET ROLE boss",
    ]


POWER = list(power_table())


class Session:
    """A session that tries one thing after another, and tells behind each where it stands. A new one where it ended."""

    def __init__(self, gate, database, group):
        self.gate, self.database, self.group = gate, database, group
        self.client = None

    def ask(self, *sent):
        """The errors of one request; a FATAL, or the end of the stream, ends the session."""
        if self.client is None:
            return []
        try:
            return errors(self.client.ask(*sent))
        except Refused as refused:
            self.close()
            return [refused.fields]
        except (Closed, OSError):
            self.close()
            return [{"V": "FATAL", "C": "", "M": "closed"}]

    def close(self):
        if self.client is not None:
            self.client.sock.close()
        self.client = None

    def attempt(self, sql, protocol, inside, behind):
        """Tries `sql`, then each of `behind`; all errors, in their order, and the mark that `behind` may use."""
        if self.client is None:
            self.client = Client(self.gate, self.group)
        mark = f"guard-{next(_number)}"
        said = self.ask(query("BEGIN")) if inside else []
        said += self.ask(query(sql)) if protocol == "simple" else self.ask(parse(sql), bind(), execute(), SYNC)
        if sql.startswith("PREPARE g"):
            said += self.ask(query("EXECUTE g"))
        for one in behind:
            said += self.ask(query(one.format(mark=mark)))
        for one in ("ROLLBACK", "DEALLOCATE ALL"):
            self.ask(query(one))
        return said, mark

    def bodies(self, mark):
        with self.database.superuser() as db:
            found = db.execute("SELECT body FROM shop.notes WHERE test = %s", (mark,)).fetchall()
        return [body and body.replace('"', "") for (body,) in found]


@pytest.fixture(scope="module")
def untouched(shared, world):
    """Behind all attempts, nothing of the database's own has moved."""
    yield
    with world.database.superuser() as db:
        assert db.execute("SELECT count(*) FROM pg_db_role_setting").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'").fetchone() == (0,)
        left = db.execute("SELECT relname FROM pg_class WHERE relname LIKE 'guard%' AND relnamespace = 'shop'::regnamespace").fetchall()
        assert left == []


WRITE_DOWN = f"INSERT INTO notes (test, body) SELECT '{{mark}}', {WHERE_IT_STANDS}"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_no_setting_moves(gate, database, untouched, protocol, inside):
    """Each text of the table: refused by the gateway or by the server, or FATAL; and what stands still stands."""
    wrong = []
    session = Session(gate, database, "power")
    for sql in POWER:
        said, mark = session.attempt(sql, protocol, inside, ["COMMIT", WRITE_DOWN])
        bodies = session.bodies(mark)
        fatal = any(one["V"] == "FATAL" for one in said)
        if not said:
            wrong.append((sql, "nothing was refused"))
        elif bodies != ([] if fatal else [HONEST]):
            wrong.append((sql, bodies, said))
    session.close()
    assert not wrong, "\n".join(map(str, wrong))
    gate.served()


def all_pass(gate, database, group, texts, protocol, behind, wrong_with):
    """Tries each text, then `behind`; `wrong_with(session, said, bodies)` says what is wrong with what came of it, if anything is."""
    wrong = []
    session = Session(gate, database, group)
    for sql in texts:
        # Parse takes one statement.
        if protocol == "extended" and ";" in sql:
            continue
        said, mark = session.attempt(sql, protocol, False, [behind])
        what = wrong_with(session, said, session.bodies(mark))
        if what:
            wrong.append((sql, what, said))
    session.close()
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_what_returns_to_the_guards_passes(gate, database, protocol):
    def wrong_with(_, said, bodies):
        return (said or bodies != [HONEST]) and f"refused, or the guards stand at {bodies}"

    all_pass(gate, database, "power", HARMLESS, protocol, WRITE_DOWN, wrong_with)


# --- a session that only reads --------------------------------------------------------------------------------------

# The way out of the read-only transaction, and what such a transaction does not stop at all.
READ_ESCAPES = [
    "BEGIN READ WRITE", "START TRANSACTION READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE", "BEGIN READ ONLY, READ WRITE",
    "BEGIN READ WRITE, READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE DEFERRABLE", "BEGIN; SET TRANSACTION READ WRITE",
    "SET TRANSACTION READ WRITE", "SET TRANSACTION READ ONLY, READ WRITE", "SET LOCAL TRANSACTION READ WRITE", "BEGIN; COMMIT; BEGIN READ WRITE",
    "BEGIN; ROLLBACK AND CHAIN; SET TRANSACTION READ WRITE", "SAVEPOINT a; SET TRANSACTION READ WRITE; ROLLBACK TO a",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
    "SET transaction_read_only = off", "SET transaction_read_only TO false", "SET SESSION transaction_read_only = 0", "SET LOCAL transaction_read_only = 'no'",
    "SET \"transaction_read_only\" = off", "SET TRANSACTION_READ_ONLY = OFF", "SET transaction_read_only = 'of'", "SET transaction_read_only = 'fal'",
    "RESET transaction_read_only", "SET transaction_read_only TO DEFAULT", "SET default_transaction_read_only = off",
    "SET LOCAL default_transaction_read_only = off", "SET default_transaction_read_only = 'f'", "SET default_transaction_read_only TO 0",
    "SELECT set_config('transaction_read_only', 'off', false)", "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('TRANSACTION_read_only', 'off', true)", "SELECT set_config('trans' || 'action_read_only', 'off', true)",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'transaction_read_only'",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only'",
    "SET ROLE chief", "SET ROLE NONE; SET ROLE chief", "SET SESSION AUTHORIZATION postgres", "SELECT set_config('role', 'chief', false)",
    "DO $$BEGIN SET TRANSACTION READ WRITE; END$$", "DO $$BEGIN COMMIT; SET TRANSACTION READ WRITE; END$$", "DO $$BEGIN PERFORM 1; END$$",
    "CALL shop.end_and_write('{mark}')", "PREPARE g AS UPDATE pg_settings SET setting = 'off' WHERE name = 'transaction_read_only'",
    "EXPLAIN ANALYZE UPDATE pg_settings SET setting = 'off' WHERE name = 'transaction_read_only'",
    "ALTER SYSTEM SET default_transaction_read_only = off", "ALTER SYSTEM RESET ALL", "ALTER SYSTEM SET log_statement = 'none'",
    "ALTER ROLE power_login SET default_transaction_read_only = off", "ALTER ROLE ALL SET role = 'chief'", "ALTER USER power_login SET search_path = evil",
    "ALTER ROLE power_login IN DATABASE shop SET role = 'chief'", "ALTER ROLE power_login RESET ALL", "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER DATABASE shop SET default_transaction_read_only = off", "ALTER DATABASE shop SET session_replication_role = replica", "ALTER DATABASE shop RESET ALL",
    "CREATE FUNCTION shop.guard_f() RETURNS int LANGUAGE sql SET role = 'chief' AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.guard_f() RETURNS int LANGUAGE sql SET transaction_read_only = off AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION shop.shout(message text) RETURNS text LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'",
    "ALTER FUNCTION shop.shout(text) SET default_transaction_read_only = off", "ALTER PROCEDURE shop.end_and_write(text) SET role = 'chief'",
    "ALTER FUNCTION shop.shout(text) RESET ALL",
    "COPY items TO '/tmp/guard'", "COPY notes FROM '/etc/passwd'", "COPY items TO PROGRAM 'cat'", "COPY notes (test) FROM PROGRAM 'echo {mark}'",
    "COPY (SELECT 1) TO '/tmp/guard'", "COPY (SELECT 1) TO PROGRAM 'cat'", "COPY notes (test) FROM STDIN", "COPY BINARY items TO '/tmp/guard'",
    "NOTIFY guard", "NOTIFY guard, 'x'", "SELECT pg_notify('guard', 'x')", "SELECT pg_catalog.pg_notify('guard', 'x')", "SELECT count(pg_notify('guard', 'x'))",
    "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock(1, 2)", "SELECT pg_advisory_lock_shared(1)", "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_advisory_xact_lock(1)", "SELECT pg_try_advisory_xact_lock_shared(1, 2)",
    "SELECT 1 FROM items WHERE pg_try_advisory_lock(id) LIMIT 1", "LOCK TABLE items", "LOCK items IN ACCESS EXCLUSIVE MODE", "LOCK items IN ACCESS SHARE MODE",
    "SELECT * FROM items WHERE id = 1 FOR UPDATE", "SELECT * FROM items WHERE id = 1 FOR KEY SHARE", "VACUUM", "VACUUM (FREEZE) items", "ANALYZE items",
    "REINDEX TABLE items", "CLUSTER", "CHECKPOINT", "LOAD 'plpgsql'", "PREPARE TRANSACTION 'guard'", "COMMIT PREPARED 'guard'", "ROLLBACK PREPARED 'guard'",
    "INSERT INTO notes (test) VALUES ('{mark}')", "WITH w AS (INSERT INTO notes (test) VALUES ('{mark}') RETURNING 1) SELECT * FROM w",
    "EXPLAIN ANALYZE INSERT INTO notes (test) VALUES ('{mark}')", "PREPARE g AS INSERT INTO notes (test) VALUES ('{mark}')",
    "SELECT '{mark}' AS test INTO shop.guard_into", "CREATE TABLE shop.guard_ctas AS SELECT 1", "TRUNCATE notes", "DROP TABLE notes",
    "CREATE DATABASE guard", "DROP DATABASE IF EXISTS guard", "CREATE TABLESPACE guard LOCATION '/tmp'", "CREATE EXTENSION IF NOT EXISTS plpgsql",
    "GRANT chief TO app_login", "COMMENT ON TABLE notes IS 'guard'", "SECURITY LABEL ON TABLE notes IS 'guard'",
    "SET statement_timeout = 0", "SET LOCAL statement_timeout = 0", "SET lock_timeout = 0", "SET idle_in_transaction_session_timeout = 0",
    "SELECT set_config('statement_timeout', '0', false)", "SET search_path = evil",
    "SELECT nextval('shop.notes_id_seq')", "SELECT setval('shop.notes_id_seq', 1)", "SELECT lo_import('/etc/passwd')", "SELECT lo_export(1, '/tmp/guard')",
    # The server itself lets a read-only transaction do these before 16.
    "SELECT lo_create(0)", "SELECT pg_catalog.lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_put(1, 0, 'x')", "SELECT lo_unlink(1)",
    "SELECT lowrite(0, 'x')", "SELECT lo_truncate(0, 1)", "SELECT pg_stat_reset()", "SELECT pg_stat_reset_single_table_counters(1259)",
    # A read-only transaction lets indexes be maintained.
    "SELECT brin_summarize_new_values('items_pkey')", "SELECT pg_catalog.brin_summarize_range('items_pkey', 0)",
    "SELECT brin_desummarize_range('items_pkey', 0)", "SELECT gin_clean_pending_list('items_pkey')",
]
# What reads, and what only looks like a way out.
READS = [
    "SELECT count(*) FROM items", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ", "SET TRANSACTION READ ONLY", "SET transaction_read_only = on",
    "SET default_transaction_read_only = on", "RESET default_transaction_read_only", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET default_transaction_read_only TO DEFAULT", "RESET ALL", "DISCARD ALL", "RESET statement_timeout", "COPY items TO STDOUT",
    "EXPLAIN ANALYZE SELECT 1", "DECLARE g CURSOR WITH HOLD FOR SELECT 1", "BEGIN; COMMIT AND CHAIN; SELECT 1; COMMIT",
    # Gives back what this session itself holds, which is nothing: drivers send it before they hand a connection on.
    "SELECT pg_advisory_unlock_all()",
]
WRITE_BY_FUNCTION = "SELECT shop.write_mark('{mark}')"
STILL_READS = {**PLAIN, **STANDING["auditor"]}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_a_session_that_reads_only_reads(gate, database, untouched, protocol, inside):
    """Each escape is refused, and behind it a function that writes is stopped by the server's read-only transaction."""
    wrong = []
    session = Session(gate, database, "auditor")
    before = database.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    for sql in READ_ESCAPES:
        sql = sql.replace("{mark}", f"guard-{next(_number) + 1}") if "{mark}" in sql else sql
        said, mark = session.attempt(sql, protocol, inside, [WRITE_BY_FUNCTION, "COMMIT", WRITE_BY_FUNCTION])
        if not said or said[0]["V"] != "ERROR" or not (said[0]["M"].startswith("pgturnstile refused") or said[0]["C"] in ("42601", "25P01")):
            wrong.append((sql, said))
        elif [one["C"] for one in said[-1:]] != ["25006"]:
            wrong.append((sql, "the function was not stopped by the server", said))
        if session.bodies(mark) or (session.client and seen(session.client, STILL_READS) != STILL_READS):
            wrong.append((sql, session.bodies(mark)))
    session.close()
    assert not wrong, "\n".join(map(str, wrong))
    assert database.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == before


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_what_only_reads_passes(gate, database, protocol):
    def wrong_with(session, said, bodies):
        if [one["C"] for one in said] != ["25006"] or bodies:
            return f"refused, or written: {bodies}"
        return seen(session.client, STILL_READS) != STILL_READS and "moved"

    all_pass(gate, database, "auditor", READS, protocol, WRITE_BY_FUNCTION, wrong_with)


def test_a_code_of_the_database_does_not_write_either(gate, database):
    """Functions that try the settings by themselves: the server, or the reading behind them, ends it."""
    session = Session(gate, database, "auditor")
    for setting, value in (("transaction_read_only", "off"), ("default_transaction_read_only", "off"), ("role", "chief")):
        said, mark = session.attempt(
            f"SELECT shop.move_by_operator('{setting}', '{value}')", "simple", False, [WRITE_BY_FUNCTION, "SELECT 1", WRITE_BY_FUNCTION])
        assert said and not session.bodies(mark), (setting, said)
    session.close()


# --- the startup packet ---------------------------------------------------------------------------------------------


def raw_startup(*pairs):
    body = struct.pack("!I", 196608) + b"".join(text(k) + text(v) for k, v in pairs) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def login(gate, group, *pairs):
    """Logs in with exactly these parameters behind user and database; the client, or the fields of the refusal."""
    client = Client(gate, login=False)
    client.send(raw_startup(("user", group), ("database", "shop"), *pairs))
    try:
        while True:
            tag, body = client.read()
            if tag == "R" and body == struct.pack("!I", 3):
                client.send(frame("p", text(gate.idp.token(group))))
            if tag == "E":
                client.sock.close()
                return fields(body)
            if tag == "Z":
                return client
    except Closed:
        return {"V": "", "M": "closed"}


def startup_escapes():
    moved = [("role", "boss"), ("session_authorization", "boss"), ("search_path", "evil"), ("default_transaction_read_only", "off"),
             ("transaction_read_only", "off"), ("row_security", "off"), ("session_replication_role", "replica"), ("statement_timeout", "0"),
             ("lock_timeout", "0"), ("client_encoding", "SJIS"), ("standard_conforming_strings", "off"), ("is_superuser", "on"),
             ("session_preload_libraries", "x"), ("log_statement", "none"), ("work_mem", "1GB"), ("a.b", "c")]
    for name, value in moved:
        yield [(name, value)]
        yield [(name.upper(), value)]
        yield [(name.title(), value)]
        for options in (
            f"-c {name}={value}", f"-c{name}={value}", f"--{name}={value}", f"--{name.replace('_', '-')}={value}", f"-c {name.upper()}={value}",
            f"\t-c\t{name}={value}\t", f"-c TimeZone=UTC -c {name}={value}", f"-c {name}={value} -c TimeZone=UTC", rf"-c {name}=\{value}",
            rf"\-c {name}={value}", rf"-\c {name}={value}", rf"-c \{name}={value}", rf"--{name}\={value}", f"-c '{name}={value}'", f"-c \"{name}\"={value}",
            f"-c {name} ={value}", f"-c {name}= {value}", f"-c --{name}={value}", f"---{name}={value}", f"-c\n{name}={value}", f"-c\x0b{name}={value}",
            f"-c TimeZone=UTC\\ -c {name}={value} --{name}={value}", f"-c application_name=x\\\\ -c {name}={value}",
        ):
            yield [("options", options)]
        yield [("options", "-c TimeZone=UTC"), ("options", f"-c {name}={value}")]
        yield [(name, value), (name, "x")]
        yield [("application_name", "x"), (name, value)]
        yield [(" " + name, value)]
        yield [(name + " ", value)]
        yield [(name.replace("_", "-"), value)]
    for switch in ("-d 5", "-f s", "-O", "-P", "-s", "-tpa", "-S 64", "-W 1", "-e", "-F", "-j", "-B 16", "-D /tmp", "-N 5", "-p 1", "-v 196608", "-y shop",
                   "-E", "-h x", "-i", "-k /tmp", "-l", "-n", "-o x", "-r /tmp/x", "-x 1", "--", "-", "word", "--single", "-C work_mem", "-b", "\\", "-c"):
        yield [("options", switch)]
    yield [("application_name", "a"), ("application_name", "b")]
    yield [("user", "postgres")]
    yield [("database", "bench")]
    yield [("replication", "true")]
    yield [("replication", "database")]
    yield [("REPLICATION", "database")]
    yield [("client_encoding", b"UTF8\xff")]
    yield [("client_encoding", "")]
    yield [("options", b"-c TimeZone=\xa0UTC")]
    yield [("options", "-c TimeZone=UTC\u00a0-c role=boss")]


STARTUP_HARMLESS = [
    [], [("client_encoding", "utf-8")], [("CLIENT_ENCODING", "'UTF8'")], [("standard_conforming_strings", "on")], [("options", "")],
    [("options", "-c TimeZone=UTC --DateStyle=ISO,\\ MDY")], [("options", "   ")], [("application_name", "-c role=boss")],
    [("TimeZone", "Europe/Berlin")], [("replication", "false")], [("application_name", "x" * 500)], [("IntervalStyle", "iso_8601")],
]


def test_no_startup_packet_moves_a_guard(gate):
    wrong, wanted = [], {**PLAIN, **STANDING["auditor"]}
    for pairs in startup_escapes():
        got = login(gate, "auditor", *pairs)
        if isinstance(got, Client):
            # Its backslashes make it another harmless text, and the guards stand.
            if seen(got, wanted) != wanted or not any("application_name=x" in str(v) for _, v in pairs):
                wrong.append((pairs, "was let in"))
            got.sock.close()
        elif got["V"] != "FATAL" or not got["M"].startswith("pgturnstile refused the connection"):
            wrong.append((pairs, got))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("group", ["power", "auditor"])
def test_startup_packets_that_are_let_in_have_the_guards(gate, group):
    wanted = {**PLAIN, **STANDING[group]}
    for pairs in STARTUP_HARMLESS:
        got = login(gate, group, *pairs)
        assert isinstance(got, Client), (pairs, got)
        assert seen(got, wanted) == wanted, pairs
        got.sock.close()


@pytest.mark.parametrize("options", ["-c role=boss", "-c search_path=evil", "--default-transaction-read-only=off", "-c client_encoding=SJIS"])
def test_pgoptions(gate, options):
    done = gate.psql("-c", "SELECT current_user", group="power", env={"PGOPTIONS": options})
    assert done.returncode != 0 and "pgturnstile refused the connection" in done.stderr, done


# --- encodings ------------------------------------------------------------------------------------------------------

ENCODINGS = ["SJIS", "SHIFT_JIS_2004", "GBK", "BIG5", "GB18030", "JOHAB", "UHC", "EUC_JP", "LATIN1", "SQL_ASCII", "MULE_INTERNAL", "'utf16'"]
# A lead byte whose pair ends in 0x5C, the backslash, or in a quote, by encoding; and what UTF-8 readers may stumble over.
PAIRS = [
    b"\x83\x5c", b"\x95\x5c", b"\xbf\x5c", b"\xa5\x5c", b"\x81\x5c", b"\x81\x35\xf4\x5c", b"\x81\x30\x81\x27", b"\xbf\x27", b"\x81\x22", b"\xff\x27",
    b"\xc1\x9c", b"\xc0\xa7", b"\xe0\x80\xa7", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x27", b"\xf0\x9f\x27", b"\xc3\x27", b"\x80\x27", b"\xfe\xff\x00\x27",
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_route_moves_the_encoding(gate, database, encoding):
    plain = encoding.strip("'")
    routes = [f"SET client_encoding = {encoding!r}" if "'" not in encoding else f"SET client_encoding = {encoding}", f"SET client_encoding TO {plain}",
              f"SET NAMES '{plain}'", f"SET SESSION client_encoding = '{plain}'", f"SET LOCAL client_encoding = '{plain}'",
              f"SELECT set_config('client_encoding', '{plain}', false)", f"SELECT pg_catalog.set_config('CLIENT_ENCODING', '{plain}', true)",
              f"UPDATE pg_settings SET setting = '{plain}' WHERE name = 'client_encoding'", f"DO $$BEGIN SET client_encoding = '{plain}'; END$$",
              f"SELECT shop.move_by_operator('client_encoding', '{plain}')"]
    session = Session(gate, database, "power")
    for sql in routes:
        for protocol in ("simple", "extended"):
            said, mark = session.attempt(sql, protocol, False, [WRITE_DOWN])
            fatal = any(one["V"] == "FATAL" for one in said)
            assert said, sql
            assert session.bodies(mark) == ([] if fatal else [HONEST]), (sql, said)
    session.close()
    for pairs in ([("client_encoding", plain)], [("options", f"-c client_encoding={plain}")], [("options", f"--client-encoding={plain}")]):
        got = login(gate, "power", *pairs)
        assert isinstance(got, dict) and plain in got["M"], got
    done = gate.psql("-c", "SELECT 1", group="power", env={"PGCLIENTENCODING": plain})
    assert done.returncode != 0 and "client_encoding" in done.stderr, done


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.hex())
@pytest.mark.parametrize("before", ["'", "E'", "$a$", '"', "--", "/*", "U&'", "b'"])
def test_bytes_that_are_two_texts_are_none(gate, database, pair, before):
    """To a reader of another encoding these end the string and begin a statement; here they are refused, unread."""
    mark = f"smuggle-{next(_number)}"
    smuggled = f"; INSERT INTO shop.notes (test) VALUES ('{mark}'); --".encode()
    close = {"$a$": b"$a$", "--": b"\n", "/*": b"*/", '"': b'"'}.get(before, b"'")
    sql = b"SELECT " + before.encode() + pair + close + smuggled + b" " + close
    with Client(gate, "power") as client:
        for sent in ((query(sql),), (parse(sql), bind(), execute(), SYNC), (parse("SELECT 1", b"s" + pair), bind(statement=b"s" + pair), execute(), SYNC)):
            try:
                out = client.ask(*sent)
            except (Refused, Closed):
                break
            if sent[0][5:].startswith(b"s" + pair):
                continue
            assert errors(out) and errors(out)[0]["C"] in ("22021", "08P01"), out
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = %s", mark) == 0
    gate.served()


def test_bytes_in_values_are_the_servers_business(gate, database):
    """A parameter or a COPY line is no text of SQL: it is passed on, and the server refuses what is not UTF-8."""
    with Client(gate, "power") as client:
        for pair in PAIRS:
            out = client.ask(parse("INSERT INTO notes (test, body) VALUES ('bytes', $1)"), bind(pair), execute(), SYNC)
            assert errors(out)[0]["C"] == "22021", (pair, out)
            client.send(query("COPY notes (test) FROM STDIN"))
            out = client.ask(copy_data(b"bytes" + pair + b"\n"), COPY_DONE)
            assert errors(out)[0]["C"] in ("22021", "22P04"), (pair, out)
        assert tags(client.ask(query("SELECT 1"))) == "TDCZ"
    assert database.one("SELECT count(*) FROM shop.notes WHERE test LIKE 'bytes%%'") == 0


@pytest.mark.parametrize(
    "sent", [query(b"SELECT 1\0; SELECT 2"), query(b"\0SELECT 1"), frame("P", b"a\0b\0SELECT 1\0\0\0"), frame("P", b"\0SELECT 1\0SELECT 2\0\0\0"),
             frame("B", b"a\0b\0c\0\0\0\0\0\0\0"), frame("D", b"Sa\0b\0"), frame("C", b"Sa\0b\0"), frame("E", b"a\0b\0\0\0\0\0")],
    ids=["query", "query-first", "parse-name", "parse-text", "bind", "describe", "close", "execute"],
)
def test_a_nul_is_an_end_and_nothing_stands_behind_it(gate, sent):
    with Client(gate, "power") as client:
        client.send(sent)
        assert client.fatal()["C"] == "08P01"
    gate.served()
