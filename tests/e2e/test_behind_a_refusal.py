"""What a client has sent before it read that the gateway refused a frame: it means what it would behind the server's own error."""

import pytest

from wire import COPY_DONE, SYNC, Client, bind, copy_data, copy_fail, errors, execute, parse, query, tags

REFUSED = ["SELEC", "DROP TABLE shop.orders"]
STRAY = (copy_data(b"1\n"), copy_data(b"x" * 200_000))


def notes(client):
    return client.rows("SELECT count(*) FROM notes WHERE test = 'unnamed'")


@pytest.mark.parametrize("begin", [None, "BEGIN"])
@pytest.mark.parametrize("text", REFUSED)
def test_a_refused_parse_drops_the_unnamed_statement_as_the_server_does(gate, text, begin):
    """Else the Bind behind it would run another statement than the client meant."""
    with Client(gate) as client:
        client.ask(parse("INSERT INTO notes (test, body) VALUES ('unnamed', $1)"), SYNC)
        if begin:
            client.ask(query(begin))
        assert tags(client.ask(parse(text), SYNC)) == "EZ"
        if begin:
            client.ask(query("ROLLBACK; BEGIN"))
        got = client.ask(bind("meant for the other"), execute(), SYNC)
        assert errors(got)[0]["C"] == "26000", tags(got)
        client.ask(query("ROLLBACK"))
        assert notes(client) == [(b"0",)]


def test_all_of_it_in_one_packet(gate):
    with Client(gate) as client:
        client.ask(parse("INSERT INTO notes (test, body) VALUES ('unnamed', $1)"), SYNC)
        client.send(parse("SELEC"), SYNC, bind("meant for the other"), execute(), SYNC)
        assert tags(client.until_ready()) == "EZ"
        assert errors(client.until_ready())[0]["C"] == "26000"
        # Named ones stay, and so does the unnamed one where the refused Parse was skipped.
        client.ask(parse("SELECT 'named'", "n"), parse("SELECT 'unnamed'"), SYNC)
        client.send(parse("SELECT 1 / 0", "zero"), bind(statement="zero"), execute(), parse("SELEC"), SYNC)
        assert "E" in tags(client.until_ready())
        assert "D" in tags(client.ask(bind(statement="n"), execute(), SYNC))


def test_the_parse_that_an_error_skips_drops_nothing(gate):
    with Client(gate) as client:
        client.ask(parse("SELECT 'unnamed'"), SYNC)
        # A pipeline: the server fails first, and skips what stands in for the refused Parse.
        client.send(bind(statement="no_such"), parse("DROP TABLE shop.orders"), SYNC)
        assert tags(client.until_ready()) == "EZ"
        assert "D" in tags(client.ask(bind(), execute(), SYNC))


@pytest.mark.parametrize("begin", [None, "BEGIN"])
@pytest.mark.parametrize("end", [COPY_DONE, copy_fail()])
@pytest.mark.parametrize("text", ["COPY pg_class FROM STDIN", "COPY FROM STDIN WHAT"])
def test_the_data_of_a_refused_copy_are_dropped(gate, text, end, begin):
    """pgx sends them without waiting: the refusal must reach its user, and the session goes on."""
    with Client(gate) as client:
        if begin:
            client.ask(query(begin))
        client.send(query(text), *STRAY, end, query("ROLLBACK"), query("SELECT 'served'"))
        assert errors(client.until_ready())[0]["M"].startswith("pgturnstile refused")
        client.until_ready()
        assert "D" in tags(client.until_ready())


def test_the_same_in_a_batch(gate):
    with Client(gate) as client:
        batch = (parse("COPY pg_class FROM STDIN"), bind(), execute())
        client.send(*batch, *STRAY, COPY_DONE, SYNC, query("SELECT 'served'"))
        assert tags(client.until_ready()) == "EZ"
        assert "D" in tags(client.until_ready())
        client.send(*batch, SYNC, *STRAY, COPY_DONE, SYNC, query("SELECT 'served'"))
        assert tags(client.until_ready()) == "EZ"
        client.until_ready()
        assert "D" in tags(client.until_ready())


@pytest.mark.parametrize(
    "text",
    ["COPY shop.items TO STDOUT", "COPY shop.items FROM STDIN", "DEALLOCATE t", "PREPARE t AS SELECT 2", "DECLARE c CURSOR FOR SELECT 1",
     "CLOSE ALL", "DISCARD ALL", "COMMIT", "BEGIN"],
)  # fmt: skip
def test_sql_executes_what_prepare_would_take(gate, text):
    """What else the protocol has prepared does things to names, copies and transactions that no text of an EXECUTE shows."""
    with Client(gate, group="power") as client:
        client.ask(query("PREPARE t AS SELECT 1"))
        assert tags(client.ask(parse(text, "s"), SYNC)) == "1Z"
        got = client.ask(query("EXECUTE s"))
        assert tags(got) == "EZ" and "by Bind and Execute" in errors(got)[0]["M"], got
        assert client.rows("EXECUTE t") == [(b"1",)]
        client.ask(parse("SELECT 7", "q"), SYNC)
        assert client.rows("EXECUTE q") == [(b"7",)]


@pytest.mark.parametrize("take", ["FETCH 1 FROM p", "MOVE 1 IN p", "FETCH ALL FROM p"])
def test_no_portal_of_the_protocol_is_fetched_that_runs_by_name(gate, take):
    """The server runs what the name means by then, and reads its rows as what it meant at the Bind: another type ends the server."""
    with Client(gate) as client:
        client.ask(query("BEGIN"))
        client.ask(parse("SELECT 'old'", "s"), parse("EXECUTE s", "e"), SYNC)
        client.ask(bind(portal="p", statement="e"), SYNC)
        got = client.ask(query(take))
        assert errors(got)[0]["C"] == "42501" and "by Bind and Execute" in errors(got)[0]["M"], got
        client.ask(query("ROLLBACK"))
        client.ask(query("BEGIN"))
        client.ask(parse("SELECT 1 UNION SELECT 2", "q"), bind(portal="p", statement="q"), SYNC)
        assert client.rows("FETCH ALL FROM p") == [(b"1",), (b"2",)]


# --- names that a text makes or drops itself ----------------------------------------------------------------------------

WRITES = "INSERT INTO notes (test) VALUES ('given anew')"
# Made before; the text; what it names as the reason.
ANEW = {
    "PREPARE": (None, "PREPARE s AS SELECT 1; EXECUTE s", "prepared statement"),
    "PREPARE of another": ("PREPARE s AS SELECT 1", f"DEALLOCATE s; PREPARE s AS {WRITES}; EXECUTE s", "prepared statement"),
    "PREPARE of another behind all": ("PREPARE s AS SELECT 1", f"DEALLOCATE ALL; PREPARE s AS {WRITES}; EXECUTE s", "prepared statement"),
    "EXPLAIN of it": ("PREPARE s AS SELECT 1", f"DEALLOCATE s; PREPARE s AS {WRITES}; EXPLAIN ANALYZE EXECUTE s", "prepared statement"),
    "DECLARE": (None, "DECLARE c CURSOR FOR SELECT 1; FETCH c", "cursor"),
    "DECLARE of another": ("DECLARE c CURSOR FOR SELECT 1", "CLOSE c; DECLARE c CURSOR FOR SELECT body FROM notes; FETCH c", "cursor"),
    "DECLARE of another behind all": ("DECLARE c CURSOR FOR SELECT 1", "CLOSE ALL; DECLARE c CURSOR FOR SELECT body FROM notes; MOVE c", "cursor"),
}


@pytest.mark.parametrize("what", ANEW)
def test_a_name_is_not_used_behind_what_makes_it_in_the_same_text(gate, what):
    """The text is judged before any of it runs: by what bore the name until then, another statement would run unjudged."""
    first, text, said = ANEW[what]
    with Client(gate, group="power") as client:
        client.ask(query("BEGIN"))
        if first:
            assert tags(client.ask(query(first))) == "CZ"
        (got,) = errors(client.ask(query(text)))
        assert got["C"] == "42501" and said in got["M"] and "a statement of its own" in got["M"], got
        client.ask(query("ROLLBACK"))
        assert client.rows("SELECT count(*) FROM notes WHERE test = 'given anew'") == [(b"0",)]
        # One by one it is judged.
        client.ask(query("BEGIN"))
        if first and what.startswith("DECLARE"):
            client.ask(query(first))
        for one in text.split("; "):
            assert not errors(client.ask(query(one))), one
        client.ask(query("ROLLBACK"))


BARRIERS = {
    "DEALLOCATE s": "makes or drops the name",
    "CLOSE ALL": "makes or drops the name",
    "PREPARE t AS SELECT 2": "makes or drops the name",
    "SET application_name = 'b'": "sets a setting",
    "CREATE TABLE barred (i int)": "changes definitions",
    "SELECT shop.shout('b')": "runs code of the database's users",
}


@pytest.mark.parametrize("barrier", BARRIERS)
def test_what_is_refused_behind_a_barrier_is_told_what_the_barrier_does(gate, barrier):
    with Client(gate, group="power") as client:
        client.ask(query("PREPARE s AS SELECT 1"))
        client.ask(query("BEGIN"))
        got = client.ask(parse(barrier), bind(), execute(), parse("SELECT 1"), SYNC)
        (said,) = errors(got)
        assert said["C"] == "42501" and BARRIERS[barrier] in said["M"], said
        client.ask(query("ROLLBACK"))


@pytest.mark.parametrize("sent", [execute(), parse("SELECT 1"), query("SELECT 1")], ids=["Execute", "Parse", "Query"])
def test_the_server_names_the_frame_that_breaks_a_copy_as_the_client_sent_it(gate, sent):
    with Client(gate) as client:
        client.send(query("COPY notes (test) FROM STDIN"))
        assert client.read()[0] == "G"
        client.send(sent)
        first, last = errors(client.rest())
        assert f"0x{sent[0]:02X}" in first["M"] and (first["C"], last["V"]) == ("08P01", "FATAL"), first
