"""The barrier of README decision 6: nothing is judged by another reading than the server's.

The group `power` logs in as a superuser and may do everything, so that only the gateway's own guard stands in the way.
Each attack moves a guarded setting and sends, behind it, a text that would read or resolve otherwise. Either the
statement that moves it is refused, or the session ends with FATAL; never is the text behind it run.
"""

import itertools

import psycopg
import pytest

import wire
from harness import wait_until
from wire import FLUSH, SYNC, Client, Closed, Refused, bind, describe, errors, execute, fields, parse, query, row

MOVES = {
    "client_encoding": "SJIS",
    "standard_conforming_strings": "off",
    "role": "boss",
    "search_path": "evil",
    "row_security": "off",
    "session_replication_role": "replica",
    "session_authorization": "boss",
}
_number = itertools.count()


class Attack:
    """One session whose last text must not run: it would write a mark that the superuser looks for."""

    def __init__(self, gate, database):
        self.gate, self.database = gate, database
        self.mark = f"barrier-{next(_number)}"
        self.client = Client(gate, "power")
        self.ended: list[dict] = []
        self.after = f"INSERT INTO shop.notes (test) VALUES ('{self.mark}')"

    def begin(self, *frames, ready=1):
        """Sends, and reads up to that many ReadyForQuery. Where the server reports the setting that moves (18 does so with
        search_path), the session may end here already."""
        self.client.send(*frames)
        out = []
        try:
            for _ in range(ready):
                out += self.client.until_ready()
        except Refused as refused:
            if not any(name in refused.fields["M"] for name in self.client.parameters):
                raise
            self.ended.append(refused.fields)
            out += refused.frames
        return out

    def go_on(self, *frames):
        """Sends what may find the session ended."""
        try:
            self.client.send(*frames)
        except OSError:
            if not self.ended:
                raise

    def run_and_go_on(self, behind):
        """Executes the portal `p`, and has the last text follow in its batch, or as a Query behind it. It must not run."""
        self.client.send(execute("p"), FLUSH)
        if behind == "batch":
            self.client.send(parse(self.after), bind(), execute(), SYNC, query("COMMIT"))
        else:
            self.client.send(SYNC, query(self.after), query("COMMIT"))
        self.defeated()

    def outcome(self):
        """FATAL, or the errors that were said; reads until the gateway has nothing more to say."""
        said = list(self.ended)
        try:
            self.client.send(SYNC, query("SELECT 'end of the attack'"))
        except OSError:
            pass
        try:
            while True:
                tag, body = self.client.read()
                if tag == "E":
                    said.append(fields(body))
                if tag == "D" and row(body) == (b"end of the attack",):
                    break
        except Closed:
            pass
        self.client.sock.close()
        return said

    def defeated(self):
        said = self.outcome()
        assert said, "nothing was refused"
        assert self.database.one("SELECT count(*) FROM shop.notes WHERE test = %s", self.mark) == 0, said
        self.gate.served()
        return said


@pytest.fixture
def attack(gate, database):
    return Attack(gate, database)


# Who moves it: a function of the database's users, whose text says nothing of settings; and, with the setting's name as a
# constant or as a parameter, the server's own set_config, which is refused by what its text says.
BY_FUNCTION = "SELECT shop.move_by_operator($1, $2)"
BY_SET_CONFIG = "SELECT pg_catalog.set_config($1, $2, false)"


def by_function(setting):
    return BY_FUNCTION.replace("$1", f"'{setting}'").replace("$2", f"'{MOVES[setting]}'")


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("mover", [BY_FUNCTION, BY_SET_CONFIG], ids=["function", "set_config"])
def test_bind_execute_flush_next_parse(attack, mover, setting):
    """Behind Execute and Flush no ParameterStatus has come yet: an empty reply queue proves nothing (facts.md 3.9)."""
    attack.client.send(parse(mover), bind(setting, MOVES[setting]), execute(), FLUSH)
    attack.client.send(parse(attack.after), bind(), execute())
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
def test_waiting_for_the_answers_changes_nothing(attack, setting):
    client = attack.client
    client.send(parse(BY_FUNCTION), bind(setting, MOVES[setting]), execute(), FLUSH)
    got = ""
    while "C" not in got and "E" not in got:
        got += client.read()[0]
    assert got == "12DC"
    client.send(parse(attack.after), bind(), execute())
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
def test_a_statement_parsed_earlier(attack, setting):
    """Its Parse was judged before the move; its Bind and Execute would run behind it."""
    assert wire.tags(attack.client.ask(parse(attack.after, "earlier"), SYNC)) == "1Z"
    attack.client.send(parse(BY_FUNCTION), bind(setting, MOVES[setting]), execute(), FLUSH)
    attack.client.send(bind(statement="earlier"), execute())
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("behind", ["batch", "query"])
def test_a_portal_with_the_name_of_a_cursor_that_is_gone(attack, behind, setting):
    """The gateway knows a cursor until it is closed; the server has let it go with its transaction, and takes the name again."""
    client = attack.client
    client.ask(query("BEGIN"))
    client.ask(query("DECLARE p CURSOR FOR SELECT 1"))
    client.ask(query("COMMIT"))
    client.ask(query("BEGIN"))
    client.ask(parse(BY_FUNCTION), bind(setting, MOVES[setting], portal="p"), SYNC)
    attack.run_and_go_on(behind)


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("bound", ["portal", "portal of a named statement", "cursor"])
@pytest.mark.parametrize("behind", ["batch", "query"])
def test_bound_in_one_batch_and_executed_in_another(attack, bound, behind, setting):
    """The fence of its Bind has fallen when it runs: Execute raises its own."""
    client, value = attack.client, MOVES[setting]
    client.ask(query("BEGIN"))
    if bound == "portal":
        client.ask(parse(BY_FUNCTION), bind(setting, value, portal="p"), SYNC)
    elif bound == "cursor":
        client.ask(query(f"DECLARE p CURSOR FOR {by_function(setting)}"))
    else:
        client.ask(parse(BY_FUNCTION, name="s"), SYNC)
        client.ask(bind(setting, value, portal="p", statement="s"), SYNC)
    attack.run_and_go_on(behind)


def test_a_portal_of_an_earlier_batch_behind_unread_guards(attack):
    """In a failed transaction a bound ROLLBACK TO would run, and others behind it: none does while guards are unread."""
    client = attack.client
    client.ask(query("BEGIN"))
    client.ask(parse("ROLLBACK TO here", name="back"), bind(portal="back", statement="back"),
               parse(attack.after, name="mark"), bind(portal="mark", statement="mark"), SYNC)
    moved = "INSERT INTO shop.trapped (setting, value) VALUES ('search_path', 'evil')"
    client.send(parse(moved), bind(), execute(), parse("SAVEPOINT here"), bind(), execute(),
                parse("SELECT 1/0"), bind(), execute(), SYNC)
    client.send(execute("back"), execute("mark"), SYNC, query("COMMIT"))
    attack.defeated()


# As applications use savepoints: what fails behind one may have run code of the database's users.
FAILING = "INSERT INTO shop.trapped (setting, value) VALUES ('application_name', (1 / (SELECT 0))::text)"


@pytest.mark.parametrize("back", ["query", "batch", "named statement"])
def test_back_to_a_savepoint(gate, back):
    """The guards are read behind it, and the transaction goes on."""
    client = Client(gate, "power")
    client.ask(query("BEGIN"))
    client.ask(parse("ROLLBACK TO here", name="back"), SYNC)
    client.ask(query("SAVEPOINT here"))
    assert errors(client.ask(query(FAILING)))[0]["C"] == "22012"
    # Anything else is answered as the server would.
    assert errors(client.ask(query("SELECT 1")))[0]["C"] == "25P02"
    if back == "query":
        said = client.ask(query("ROLLBACK TO here"))
    elif back == "batch":
        said = client.ask(parse("ROLLBACK TO SAVEPOINT here"), bind(), describe(), execute(), SYNC)
    else:
        said = client.ask(bind(statement="back"), execute(), SYNC)
    assert said[-1] == ("Z", b"T") and not errors(said), said
    assert client.ask(query("INSERT INTO shop.notes (test) VALUES ('savepoint')"))[-1] == ("Z", b"T")
    assert client.ask(query("ROLLBACK"))[-1] == ("Z", b"I")


def test_a_savepoint_that_is_not_there(gate):
    client = Client(gate, "power")
    client.ask(query("BEGIN"))
    client.ask(query(FAILING))
    said = client.ask(query("ROLLBACK TO nowhere"))
    assert errors(said)[0]["C"] == "3B001" and said[-1] == ("Z", b"E")
    assert errors(client.ask(query("SELECT 1")))[0]["C"] == "25P02"
    assert client.ask(query("ROLLBACK"))[-1] == ("Z", b"I")


@pytest.mark.parametrize("setting", ["search_path", "row_security", "session_replication_role"])
@pytest.mark.parametrize("back", ["query", "batch"])
def test_moved_before_the_savepoint(attack, setting, back):
    """What had moved a setting before the savepoint is still in force behind ROLLBACK TO: it is read before anything moves."""
    client = attack.client
    client.ask(query("BEGIN"))
    moved = f"INSERT INTO shop.trapped (setting, value) VALUES ('{setting}', '{MOVES[setting]}')"
    attack.begin(parse(moved), bind(), execute(), parse("SAVEPOINT here"), bind(), execute(),
                 parse("SELECT 1/0"), bind(), execute(), SYNC)
    if back == "query":
        attack.go_on(query("ROLLBACK TO here"), query(attack.after), query("COMMIT"))
    else:
        attack.go_on(parse("ROLLBACK TO here"), bind(), execute(), parse(attack.after), bind(), execute(), SYNC, query("COMMIT"))
    attack.defeated()


@pytest.mark.parametrize("transaction", [True, False])
def test_an_unnamed_statement_outlives_the_reading_of_the_guards(gate, transaction):
    """libpq's PQprepare with an empty name, and what it binds later, stand in batches of their own; a Query would drop it."""
    client = Client(gate, "power")
    if transaction:
        client.ask(query("BEGIN"))
    assert wire.tags(client.ask(parse("SELECT shop.shout($1) UNION ALL SELECT '7'"), SYNC)) == "1Z"
    assert wire.tags(client.ask(describe("S"), SYNC))[-2:] == "TZ"
    assert not errors(client.ask(bind("x"), execute(), SYNC))
    if transaction:
        # The portal, too: the rest of its rows comes in a later batch.
        assert "s" in wire.tags(client.ask(bind("x"), execute("", 1), SYNC))
        said = client.ask(execute("", 0), SYNC)
        assert not errors(said) and [row(body) for tag, body in said if tag == "D"] == [(b"7",)], said
    assert not errors(client.ask(query("ROLLBACK" if transaction else "SELECT 1")))


def test_the_path_it_began_with_in_another_spelling(gate):
    """SET to the value that stands passes, and the server's spelling of it is no move."""
    client = Client(gate, "power")
    assert not errors(client.ask(query("SET search_path TO shop")))
    assert not errors(client.ask(query("SELECT count(*) FROM notes WHERE test = 'none'")))


@pytest.mark.parametrize("setting", MOVES)
def test_a_query_behind_sync(attack, setting):
    attack.client.send(parse(BY_FUNCTION), bind(setting, MOVES[setting]), execute(), SYNC, query(attack.after))
    assert attack.defeated()[-1]["V"] == "FATAL"


@pytest.mark.parametrize("setting", MOVES)
def test_a_query_in_the_same_batch(attack, setting):
    attack.client.send(parse(BY_FUNCTION), bind(setting, MOVES[setting]), execute(), query(attack.after))
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
def test_a_query_behind_a_query(attack, setting):
    attack.client.send(query(by_function(setting)), query(attack.after))
    assert attack.defeated()[-1]["V"] == "FATAL"


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("table", ["notes", "shop.notes"])
def test_in_one_text(attack, setting, table):
    attack.client.send(query(by_function(setting) + "; " + attack.after.replace("shop.notes", table)))
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("sql", ["SELECT pg_catalog.set_config('{0}', '{1}', false)", "SELECT set_config('{0}', '{1}', true)",
                                 "SELECT pg_catalog.set_config($1, $2, false)"])
def test_set_config_is_refused_by_what_it_says(gate, setting, sql):
    with Client(gate, "power") as client:
        before = client.rows(f"SHOW {setting}")
        sql = sql.format(setting, MOVES[setting])
        values = (setting, MOVES[setting]) if "$1" in sql else ()
        out = client.ask(parse(sql), bind(*values), execute(), SYNC)
        assert errors(out)[0]["C"] == "42501" and "setting" in errors(out)[0]["M"]
        assert client.rows(f"SHOW {setting}") == before


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("how", ["SET {0} = '{1}'", "SET SESSION {0} TO '{1}'", "BEGIN; SET LOCAL {0} = '{1}'"])
def test_plain_set(gate, setting, how):
    with Client(gate, "power") as client:
        before = client.rows(f"SHOW {setting}")
        out = client.ask(query(how.format(setting, MOVES[setting])))
        assert errors(out)[0]["C"] == "42501", errors(out)
        client.ask(query("ROLLBACK"))
        assert client.rows(f"SHOW {setting}") == before


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("by", ["trigger", "operator", "view"])
@pytest.mark.parametrize("protocol", ["simple", "extended", "flush"])
def test_moved_by_code_that_no_text_names(attack, database, setting, by, protocol):
    value = MOVES[setting]
    if by == "view":
        database.one("DELETE FROM shop.moves RETURNING 1")
        database.one("INSERT INTO shop.moves VALUES (%s, %s) RETURNING 1", setting, value)
    sql = {
        "trigger": f"INSERT INTO shop.trapped (setting, value) VALUES ('{setting}', '{value}')",
        "operator": f"SELECT '{setting}'::text OPERATOR(shop.<~~>) '{value}'::text",
        "view": "SELECT moved FROM shop.moving",
    }[by]
    # Not plain by is_plain: a backslash reads otherwise where strings do.
    after = attack.after[:-1] + r" || replace('\', '\', ''))"
    if protocol == "simple":
        attack.client.send(query(sql), query(after))
    elif protocol == "extended":
        attack.client.send(parse(sql), bind(), execute(), SYNC, query(after))
    else:
        attack.client.send(parse(sql), bind(), execute(), FLUSH, parse(after), bind(), execute())
    attack.defeated()


@pytest.mark.parametrize("parsed", ["before", "behind", "bound before"])
@pytest.mark.parametrize("table", ["items", "shop.items"])
def test_what_stands_behind_code_that_no_text_names(gate, database, parsed, table):
    """A trigger moves the search path and moves it back within one batch, before anybody reads it again: what stood between
    would have read another table than the one that was judged, or run as another role."""
    with database.superuser() as db:
        db.execute("INSERT INTO evil.items VALUES (666, 'of evil', 1)")
    there, back = (f"INSERT INTO shop.trapped (setting, value) VALUES ('search_path', '{path}')" for path in ("evil", "shop"))
    reading = f"SELECT name FROM {table} WHERE id = 666"
    with Client(gate, "power") as client:
        first = ()
        if parsed == "behind":
            between = (parse(reading), bind(), execute())
        else:
            assert not errors(client.ask(parse(reading, "reading"), SYNC))
            between = (bind(statement="reading", portal="reading"), execute("reading"))
        if parsed == "bound before":
            first, between = between[:1], between[1:]
        out = client.ask(*first, parse(there), bind(), execute(), *between, parse(back), bind(), execute(), SYNC)
        (refused,) = errors(out)
        assert refused["C"] == "42501" and "behind another one" in refused["M"] and "Next:" in refused["M"], refused
        assert not any(b"of evil" in body for _, body in out)
        # The transaction may end behind it.
        commit = (parse("COMMIT"), bind(), execute())
        assert not errors(client.ask(query("BEGIN")) + client.ask(parse(there.replace("evil", "shop")), bind(), execute(), *commit, SYNC))
    with database.superuser() as db:
        db.execute("DELETE FROM evil.items WHERE id = 666")


def test_a_batch_fills_a_table_with_a_trigger(gate):
    """One text again and again, as drivers send it for many rows: parsed once, and parsed anew each time; or spelled for several
    rows at once, as pgjdbc does."""
    insert = "INSERT INTO trapped (id, setting, value) VALUES ($1, 'application_name', 'x')"
    with Client(gate, "power") as client:
        once = (parse(insert, "once"), *(frame for n in "123" for frame in (bind(n, statement="once"), execute())))
        assert not errors(client.ask(*once, SYNC))
        anew = (frame for n in "456" for frame in (parse(insert), bind(n), execute()))
        assert not errors(client.ask(*anew, SYNC))
        rows = insert.partition("VALUES ")[2]
        more = (parse(insert + ", " + rows.replace("$1", "$2")), bind("7", "8"), execute(), parse(insert), bind("9"), execute())
        assert not errors(client.ask(*more, SYNC))


def test_a_batch_whose_table_may_be_another_one(gate, database):
    """The same text again means another table behind code that moves the search path, where another schema has one of that name."""
    insert = "INSERT INTO {}trapped (id, setting, value) VALUES ($1::int + 1000, $2, $3)"
    with database.superuser() as db:
        db.execute("CREATE TABLE evil.trapped (LIKE shop.trapped)")
    try:
        wait_until("the snapshot shows it", lambda: again(gate, insert.format("")))
        assert not again(gate, insert.format("shop."))
        with database.superuser() as db:
            assert db.execute("SELECT count(*) FROM evil.trapped").fetchone() == (0,)
    finally:
        with database.superuser() as db:
            db.execute("DROP TABLE evil.trapped")


def again(gate, insert):
    """What refuses the second of two rows."""
    with Client(gate, "power") as client:
        rows = (frame for _ in "12" for frame in (parse(insert), bind(str(next(_number)), "application_name", "x"), execute()))
        return [one["M"] for one in errors(client.ask(*rows, SYNC)) if "behind another one" in one["M"]]


@pytest.mark.parametrize(
    "setting, value", [("role", "chief"), ("search_path", "evil"), ("row_security", "off"), ("session_replication_role", "replica")]
)
def test_a_move_without_any_report_ends_the_session(attack, setting, value):
    """The server reports none of these on 15: the gateway reads them itself, and says which one moved."""
    with pytest.raises(Refused) as caught:
        attack.client.ask(query(f"SELECT shop.move_by_operator('{setting}', '{value}')"))
        attack.client.ask(query("SELECT 1"))
    assert (caught.value.fields["V"], caught.value.fields["C"]) == ("FATAL", "42501")
    assert f"setting {setting} was moved" in caught.value.fields["M"]
    assert not any(tag == "S" for tag, _ in caught.value.frames), "this setting is not one that the server reports"


@pytest.mark.parametrize("setting", ["client_encoding", "standard_conforming_strings"])
def test_a_reported_move_ends_the_session(attack, setting):
    with pytest.raises(Refused) as caught:
        attack.client.ask(query(by_function(setting)))
        attack.client.ask(query("SELECT 1"))
    assert setting in caught.value.fields["M"]


def test_a_move_inside_a_transaction(attack):
    client = attack.client
    client.ask(query("BEGIN"))
    with pytest.raises((Refused, Closed, OSError)):
        client.ask(query(by_function("search_path")))
        client.ask(query(attack.after))
        client.ask(query("COMMIT"))
        assert attack.database.one("SELECT count(*) FROM shop.notes WHERE test = %s", attack.mark) == 0
        raise Closed("everything was refused")
    assert attack.database.one("SELECT count(*) FROM shop.notes WHERE test = %s", attack.mark) == 0


def test_a_move_in_a_transaction_that_fails_is_read_behind_it(attack):
    """In a failed transaction nothing can be read: until it ends, only its end passes, and then the guards are read."""
    client = attack.client
    client.ask(query("BEGIN"))
    out = client.ask(query("SELECT shop.move_by_operator('search_path', 'evil'), 1 / (random() * 0)::int"))
    assert errors(out)
    out = client.ask(query("SELECT 1"))
    assert errors(out)
    client.ask(query("ROLLBACK"))
    # Rolled back, the setting stands where it stood.
    assert client.rows("SELECT 5") == [(b"5",)]


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("by", ["protocol", "cursor"])
def test_a_portal_made_behind_an_earlier_sync(attack, setting, by):
    """What its Bind or DECLARE raised has fallen by then: its Execute raises it again."""
    client = attack.client
    client.ask(query("BEGIN"))
    if by == "protocol":
        client.ask(parse(BY_FUNCTION), bind(setting, MOVES[setting], portal="mover"), SYNC)
    else:
        client.ask(query(f"DECLARE mover CURSOR FOR {by_function(setting)}"))
    client.send(execute("mover"), FLUSH, parse(attack.after), bind(), execute(), SYNC, query("COMMIT"))
    attack.defeated()


@pytest.mark.parametrize("setting", MOVES)
@pytest.mark.parametrize("by", ["protocol", "cursor"])
def test_the_guards_are_read_behind_such_a_portal(attack, setting, by):
    client = attack.client
    client.ask(query("BEGIN"))
    if by == "protocol":
        client.ask(parse(BY_FUNCTION), bind(setting, MOVES[setting], portal="mover"), SYNC)
    else:
        client.ask(query(f"DECLARE mover CURSOR FOR {by_function(setting)}"))
    client.send(execute("mover"), SYNC, query(attack.after), query("COMMIT"))
    assert attack.defeated()[-1]["V"] == "FATAL"


def test_a_query_behind_one_whose_answer_comes_while_its_record_is_written(gate):
    """The first answer's ReadyForQuery comes while the second Query is held: the guards are read behind the second."""
    for _ in range(5):
        with Client(gate) as client:
            client.send(query("BEGIN"), query("SELECT shop.shout('x')"))
            assert wire.tags(client.until_ready()) == "CZ"
            assert wire.tags(client.until_ready()) == "TDCZ"


@pytest.mark.parametrize(
    "setting, value", [("role", "chief"), ("search_path", "evil"), ("row_security", "off"), ("session_replication_role", "replica")]
)
def test_answers_cannot_stand_for_the_reading_of_the_guards(attack, setting, value):
    """A Query that answers what the reading would, behind one whose ReadyForQuery comes while it is held."""
    forged = f"CASE WHEN shop.move_by_operator('{setting}', '{value}') IS NULL THEN 'x' ELSE 'origin' END"
    attack.begin(
        query("BEGIN"),
        query(
            "SELECT 1 FROM pg_sleep(0.3) WHERE random() > 2; "
            f"SELECT v FROM (VALUES (1, 'none'), (2, '\"shop\"'), (3, 'on'), (4, {forged})) t (n, v) ORDER BY n"
        ),
        ready=2,
    )
    attack.go_on(query(attack.after), query("COMMIT"))
    assert attack.defeated()[-1]["V"] == "FATAL"


@pytest.mark.parametrize("extended", [False, True])
def test_a_savepoint_brings_a_failed_transaction_back(gate, database, extended):
    """psql's ON_ERROR_ROLLBACK, JDBC's autosave and every ORM's nested transaction: the guards are read behind it."""

    def say(sql):
        return (parse(sql), bind(), execute(), SYNC) if extended else (query(sql),)

    with Client(gate) as client:
        for sql in ("BEGIN", "SAVEPOINT s"):
            assert not errors(client.ask(*say(sql)))
        assert errors(client.ask(*say("SELECT shop.shout('x'), 1 / (random() * 0)::int")))
        assert errors(client.ask(*say("SELECT 1")))
        assert client.ask(*say("ROLLBACK TO SAVEPOINT s"))[-1] == ("Z", b"T")
        assert client.rows("SELECT 5") == [(b"5",)]
        assert client.ask(*say("COMMIT"))[-1] == ("Z", b"I")


def test_a_setting_moved_before_the_savepoint_is_seen_behind_it(attack):
    client = attack.client
    client.ask(query("BEGIN"))
    out = attack.begin(query("SELECT shop.move_by_operator('search_path', 'evil'); SAVEPOINT s; SELECT 1 / (random() * 0)::int"))
    assert errors(out)
    attack.go_on(query("ROLLBACK TO SAVEPOINT s"), query(attack.after), query("COMMIT"))
    attack.defeated()


def test_what_moves_nothing_goes_on(attack):
    client = attack.client
    client.ask(query("SELECT shop.move_by_operator('search_path', '\"shop\"')"))
    assert client.rows("SELECT count(*) FROM items") == [(b"1000",)]
    client.ask(query("SELECT shop.move_by_operator('work_mem', '8MB')"))
    client.ask(query("SELECT shop.shout('x')"))
    assert client.rows("SELECT count(*) FROM items") == [(b"1000",)]
    client.sock.close()


def test_reset_and_discard_return_to_the_guards(attack):
    client = attack.client
    for sql in ("RESET search_path", "RESET ALL", "DISCARD ALL"):
        client.ask(query(sql))
    assert client.rows("SHOW search_path") == [(b'"shop"',)]
    client.sock.close()


def test_many_steps_in_one_batch_without_code_pay_nothing(attack):
    """Ordinary work is no barrier: a batch of plain reads and writes goes through without a Sync between."""
    client = attack.client
    out = client.ask(*[parse("SELECT name FROM shop.items WHERE id = $1") + bind(n) + describe("P") + execute()
                       for n in range(1, 50)], SYNC)
    assert wire.tags(out) == "12TDC" * 49 + "Z"
    client.sock.close()


@pytest.fixture
def trapdoor(database):
    """A table whose trigger puts a temporary view before a table of everybody's, and a function that does nothing."""
    for sql in (
        "CREATE TABLE shop.trapdoor (id int)",
        """CREATE FUNCTION shop.trapdoor() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN EXECUTE 'CREATE TEMP VIEW items AS SELECT 1 AS id, ''from the trapdoor'' AS name'; RETURN new; END $$""",
        "CREATE TRIGGER trapdoor BEFORE INSERT ON shop.trapdoor FOR EACH ROW EXECUTE FUNCTION shop.trapdoor()",
        "CREATE FUNCTION shop.harmless() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "GRANT ALL ON shop.trapdoor TO PUBLIC",
    ):
        with database.superuser() as db:
            db.execute(sql)
    yield
    for sql in ("DROP TABLE shop.trapdoor", "DROP FUNCTION shop.trapdoor()", "DROP FUNCTION shop.harmless()"):
        with database.superuser() as db:
            db.execute(sql)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_temporary_object_made_by_a_trigger_is_no_longer_the_table_that_was_permitted(gate, trapdoor, in_transaction):
    with Client(gate, "app") as client:
        if in_transaction:
            client.ask(query("BEGIN"))
        wait_until("the trigger is known", lambda: not errors(client.ask(query("INSERT INTO shop.trapdoor VALUES (1)"))))
        out = client.ask(query("SELECT name FROM items WHERE id = 1"))
        assert "pg_temp" in errors(out)[0]["M"], out
        assert not errors(client.ask(query("SELECT name FROM shop.items WHERE id = 1"))) or in_transaction


def test_code_that_makes_nothing_temporary_takes_no_name_away(gate, trapdoor):
    with Client(gate, "power") as client:
        wait_until("the function is known", lambda: not errors(client.ask(query("SELECT shop.harmless()"))))
        assert client.rows("SELECT 5 FROM items LIMIT 1") is not None


def test_a_setting_before_the_isolation_level_takes_no_snapshot(gate):
    with Client(gate, "power") as client:
        for sql in ("BEGIN", "SET application_name = 'early'", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT 1", "COMMIT"):
            assert not errors(client.ask(query(sql))), sql


def test_a_ready_of_an_earlier_batch_is_not_the_fences_own(gate):
    """A batch stands unanswered before a barrier (tokio-postgres drops a statement, then sends DISCARD ALL)."""
    with Client(gate) as client:
        for n in range(30):
            name = f"s{n}"
            client.ask(parse("SELECT 1", name), SYNC)
            client.send(wire.close("S", name), SYNC, query("SET application_name = 'x'"), query("SELECT 42"))
            client.until_ready()
            client.until_ready()
            assert [row(body) for tag, body in client.until_ready() if tag == "D"] == [(b"42",)]


def test_a_barrier_behind_an_earlier_batch_is_still_one(gate, database):
    """The guarded settings are read behind the statement that moves them, not before it."""
    for _ in range(10):
        attack = Attack(gate, database)
        attack.client.send(
            query("SELECT 1"), SYNC,
            query("INSERT INTO trapped (id, setting, value) VALUES (1, 'search_path', 'evil')"), query(attack.after),
        )
        attack.defeated()


@pytest.mark.parametrize("sql", ["SET search_path = shop", 'SET search_path TO "shop"', "SELECT set_config('search_path', 'shop', false)"])
def test_a_path_set_to_what_it_is_moves_nothing(gate, sql):
    with gate.connect() as db:
        db.execute(sql)
        assert db.execute("SELECT count(*) FROM items").fetchone() == (1000,)


def test_a_savepoint_outlives_a_failure_behind_a_barrier(gate, database):
    """What Django's nested blocks and JDBC's autosave do on a table with a trigger."""
    with gate.connect(autocommit=False) as db:
        db.execute("INSERT INTO notes (test) VALUES ('savepoint-behind-a-barrier')")
        for _ in range(3):
            with pytest.raises(psycopg.errors.UndefinedObject), db.transaction():
                db.execute("INSERT INTO trapped (id, setting, value) VALUES (1, 'no_such_setting', 'x')")
            assert db.execute("SELECT count(*) FROM items").fetchone() == (1000,)
        db.commit()
    assert database.one("SELECT count(*) FROM shop.notes WHERE test = 'savepoint-behind-a-barrier'") == 1


@pytest.mark.parametrize("setting", sorted(set(MOVES) - {"client_encoding", "standard_conforming_strings"}))
def test_a_savepoint_does_not_lead_round_the_barrier(gate, database, setting):
    """The setting is moved before the savepoint in one text with the failure, so that ROLLBACK TO does not move it back."""
    attack = Attack(gate, database)
    move = f"INSERT INTO shop.trapped (id, setting, value) VALUES (1, '{setting}', '{MOVES[setting]}')"
    attack.client.send(
        query("BEGIN"), query(f"{move}; SAVEPOINT a; SELECT 1/0"), query("ROLLBACK TO a"), query(attack.after), query("COMMIT"),
    )
    attack.defeated()


def test_own_ddl_that_ended_is_no_barrier_for_a_batch(gate, database):
    """asyncpg goes on behind Parse and Describe without Sync, also just behind a CREATE TABLE of its own."""
    refused = []
    with Client(gate, "power") as client:
        for n in range(5):
            client.ask(query(f"CREATE TABLE shop.own_ddl_{n} (id int)"))
            client.send(
                parse(f"SELECT id FROM shop.own_ddl_{n}", f"a{n}"), describe("S", f"a{n}"), FLUSH, parse("SELECT 1", f"b{n}"),
                bind(statement=f"b{n}"), execute(), wire.close("S", f"a{n}"), wire.close("S", f"b{n}"), SYNC,
            )
            got = client.until_ready()
            client.ask(query(f"DROP TABLE shop.own_ddl_{n}"))
            refused.append(errors(got))
    # The reading has a deadline, which a busy machine may miss now and then.
    assert not all(refused), refused


BY_TRIGGER = "INSERT INTO shop.trapped (setting, value) VALUES ('search_path', 'evil')"
BY_VIEW = "CREATE TABLE shop.made_of_a_view AS SELECT moved FROM shop.moving"


@pytest.mark.parametrize("first", [BY_TRIGGER, BY_VIEW])
@pytest.mark.parametrize(
    "second",
    ["SELECT * FROM {}items", "PREPARE later AS SELECT * FROM {}items", "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM {}items",
     "CREATE TABLE {}of_another (id int)"],
)
def test_nothing_behind_code_in_one_text(attack, first, second):
    """Also where a statement carries another one, whose names are bound when it is made; and where the first one is refused a
    place in a batch for more reasons than its code."""
    with Client(attack.gate, "power") as client:
        for schema in ("", "shop."):
            (refused,) = errors(client.ask(query(first + "; " + second.format(schema))))
            assert refused["C"] == "42501" and "behind one that runs code" in refused["M"], refused


@pytest.mark.parametrize(
    "more",
    ["CREATE INDEX of_a_script_note ON shop.of_a_script (note); INSERT INTO shop.of_a_script VALUES (1), (2); "
     "UPDATE of_a_script SET note = 'y' WHERE id = 1; SELECT * FROM of_a_script",
     "ALTER TABLE shop.of_a_script ADD COLUMN more int DEFAULT 3, ADD CHECK (id > 0); UPDATE of_a_script SET more = 4 WHERE id = 1; "
     "ALTER TABLE shop.of_a_script ALTER more TYPE bigint, ALTER more SET NOT NULL; INSERT INTO shop.of_a_script VALUES (1); SELECT 1",
     "ALTER TABLE shop.of_a_script ADD COLUMN more int; ALTER TABLE of_a_script ALTER more SET DEFAULT 1; "
     "CREATE TRIGGER of_a_script_1 BEFORE INSERT ON of_a_script FOR EACH ROW EXECUTE FUNCTION shop.move_by_trigger(); "
     "CREATE TRIGGER of_a_script_2 BEFORE UPDATE ON of_a_script FOR EACH ROW EXECUTE FUNCTION shop.move_by_trigger(); "
     "DROP TRIGGER of_a_script_1 ON of_a_script; DROP TRIGGER of_a_script_2 ON of_a_script; "
     "CREATE VIEW shop.of_a_view AS SELECT * FROM shop.moving; COMMENT ON VIEW shop.of_a_view IS 'x'; DROP VIEW shop.of_a_view; "
     "INSERT INTO shop.of_a_script VALUES (1), (2)",
     "CREATE TYPE shop.of_states AS ENUM ('a', 'b'); CREATE TABLE shop.of_a_type (s shop.of_states, d timestamptz DEFAULT now()); "
     "INSERT INTO shop.of_a_type VALUES ('a'); INSERT INTO shop.of_a_type VALUES ('b')",
     "CREATE TEMP TABLE of_temp (id int); INSERT INTO of_temp VALUES (1); INSERT INTO of_temp SELECT id FROM items; SELECT count(*) FROM of_temp",
     "ALTER TABLE shop.of_a_script RENAME TO of_a_play; COMMENT ON TABLE shop.of_a_play IS 'x'; ALTER TABLE shop.of_a_play RENAME TO of_a_script; "
     "CREATE FUNCTION shop.of_function() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
     "CREATE TRIGGER t BEFORE INSERT ON shop.of_a_script FOR EACH ROW EXECUTE FUNCTION shop.of_function(); "
     "CREATE INDEX of_a_script_note ON shop.of_a_script (note); INSERT INTO shop.of_a_script VALUES (1)",
     "CREATE TABLE shop.of_a_script_line (n int PRIMARY KEY, script int REFERENCES shop.of_a_script ON DELETE CASCADE, item int REFERENCES shop.items); "
     "ALTER TABLE shop.of_a_script_line ADD COLUMN other int REFERENCES of_a_script; ALTER TABLE shop.of_a_script_line RENAME COLUMN other TO another; "
     "INSERT INTO shop.of_a_script VALUES (1), (2); INSERT INTO shop.of_a_script_line VALUES (1, 1, NULL, 2); "
     "UPDATE shop.of_a_script_line SET another = 1 WHERE n = 1; DELETE FROM shop.of_a_script WHERE id = 1; SELECT count(*) FROM shop.of_a_script_line"],
    ids=["filled", "migrated", "altered", "typed", "temporary", "renamed", "keyed"],
)
def test_definitions_in_one_text(gate, more):
    """A script of definitions passes whole; so does what fills its own tables, while no definition could have brought code there."""
    with Client(gate, "power") as client:
        assert not errors(client.ask(query(f"BEGIN; CREATE TABLE shop.of_a_script (id int PRIMARY KEY, note text DEFAULT 'x'); {more}; ROLLBACK")))


@pytest.mark.parametrize(
    "tie",
    ["ALTER TABLE shop.trapped ADD COLUMN of_a_script int REFERENCES shop.of_a_script ON DELETE CASCADE; DELETE FROM shop.of_a_script WHERE id = 1",
     "CREATE TABLE shop.of_a_child () INHERITS (shop.trapped); INSERT INTO shop.of_a_child (id) VALUES (1)",
     "ALTER TABLE shop.trapped RENAME COLUMN value TO worth; INSERT INTO shop.trapped (id) VALUES (1)",
     "ALTER TABLE shop.trapped RENAME TO of_a_trap; INSERT INTO shop.of_a_trap (id) VALUES (1)"],
    ids=["by_key", "by_inheritance", "by_column", "by_name"],
)
def test_no_definition_ties_code_to_a_table(gate, tie):
    """The trigger of shop.trapped runs in each, and nothing is judged behind it."""
    with Client(gate, "power") as client:
        text = f"BEGIN; CREATE TABLE shop.of_a_script (id int PRIMARY KEY); {tie}; SELECT * FROM items; ROLLBACK"
        (refused,) = errors(client.ask(query(text)))
        assert refused["C"] == "42501" and "behind one that runs code" in refused["M"], refused


def test_texts_over_temporary_tables(gate):
    """Made by a plain definition, they run no code of anybody."""
    with Client(gate, "power") as client:
        assert not errors(client.ask(query("CREATE TEMP TABLE of_steps (id int)")))
        for _ in range(2):
            assert not errors(client.ask(query("INSERT INTO of_steps VALUES (1); INSERT INTO of_steps SELECT id FROM items; SELECT count(*) FROM of_steps")))
            # Also once the catalog has been read behind it, and still shows no such table.
            wait_until("the DDL is no news", lambda: not errors(client.ask(parse("SELECT 1"), bind(), execute(), parse("SELECT 2"), bind(), execute(), SYNC)))
        assert not errors(client.ask(query("BEGIN; DELETE FROM of_steps WHERE id = 1; COMMIT; BEGIN; SELECT 1; COMMIT")))


def test_a_pool_resets_right_behind_code(gate):
    """asyncpg's pool sends this when a connection comes back, whatever ran before. The server's own functions without arguments,
    and constants, mean the same under every catalog."""
    reset = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"
    for _ in range(20):
        with Client(gate) as client:
            client.ask(query("SELECT shop.shout('x')"))
            for text in (reset, "SELECT 1; SELECT 'two'"):
                assert "E" not in wire.tags(client.ask(query(text))), text
