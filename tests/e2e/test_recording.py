"""`record = "rows"`: what the evidence holds is what the client got, byte for byte, and nothing that a label or detector masks."""

import subprocess
import threading

import psycopg
import pytest

from captured import Result, captured, last_bytes, records, results, statement_of
from harness import HANG_S, SmallDisk, binary, spawn_on_shim, wait_until
from wire import SYNC, Client, Closed, Refused, bind, execute, parse, query, row, tags

CARD, EMAIL = "4111111111111111", "ann.oneil@example.org"
LABELLED = "canary-of-a-label-zq81"
CANARIES = [CARD, "4111 1111 1111 1111", EMAIL, "123-45-6789", "GB29NWBK60161331926819", LABELLED]

FIXTURE = f"""
CREATE TABLE shop.told (id int PRIMARY KEY, name text, at timestamptz, sum numeric, raw bytea, tags text[], big bigint, secret text UNIQUE);
INSERT INTO shop.told SELECT n, 'name ' || n || ' é', '2026-11-21 04:50:17.5+00', n * 1.25, decode(md5(n::text), 'hex'), array['a', NULL, n::text],
    n * 1000003, 'plain' || n FROM generate_series(1, 400) AS n;
INSERT INTO shop.told (id, name, secret) VALUES (1000, 'mail {EMAIL} card {CARD}', '{LABELLED}');
CREATE TABLE shop.labelled (id int PRIMARY KEY, secret text UNIQUE, open text);
INSERT INTO shop.labelled VALUES (1, '{LABELLED}', 'open value');
CREATE FUNCTION shop.complain() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'call {EMAIL} now'; END $$;
GRANT ALL ON shop.told, shop.labelled TO app_login;
GRANT EXECUTE ON FUNCTION shop.complain() TO app_login;
"""
GONE = "DROP TABLE IF EXISTS shop.told, shop.labelled; DROP FUNCTION IF EXISTS shop.complain();"
LABEL = '[[label]]\ncolumn = "shop.labelled.secret"\ntier = "restricted"\nmask = "null"\n'


def with_policy(gateway, detectors=True, more=""):
    """The fixture's policy with every detector on, and whatever else."""
    policy = gateway.folder / "policy.toml"
    text = policy.read_text()
    if detectors:
        text = text.replace('["packs/drivers.toml"]', '["packs/drivers.toml", "packs/pii.toml"]')
    policy.write_text(text + "\n" + more)
    return gateway


@pytest.fixture(scope="module")
def told(world):
    with world.database.superuser() as db:
        db.execute(GONE + FIXTURE)
    yield world
    with world.database.superuser() as db:
        db.execute(GONE)


@pytest.fixture(scope="module")
def rows(told):
    """Detectors are on and a column is labelled: rows are recorded by default. No canary is in the files behind all tests."""
    gateway = with_policy(told.gateway(), more=LABEL).start()
    yield gateway
    gateway.stop()
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr
    held = gateway.evidence_bytes()
    for canary in CANARIES:
        for spelled in (canary.encode(), canary.encode().hex().encode()):
            assert spelled not in held, f"{spelled} stands in the evidence"
    assert int(CARD).to_bytes(8, "big") not in held, "the card as a binary bigint"


def raw(cursor):
    """The values of a psycopg result as they came over the wire."""
    got = cursor.pgresult
    return [tuple(got.get_value(r, c) for c in range(got.nfields)) for r in range(got.ntuples)]


COLUMNS = "id, name, at, sum, raw, tags, big"


@pytest.mark.parametrize("binary_rows", [False, True])
def test_rows_are_what_psycopg_got(rows, binary_rows):
    sql = f"SELECT {COLUMNS} FROM told WHERE id < %s ORDER BY id"
    with rows.connect() as db, db.cursor(binary=binary_rows) as cursor:
        cursor.execute(sql, (90 + binary_rows,))
        got = raw(cursor)
    assert len(got) == 89 + binary_rows
    [result] = captured(rows, sql.replace("%s", "$1"))
    assert result.whole and not result.cut and result.rows() == got
    shown = rows.records()
    session, statement = statement_of(rows, sql.replace("%s", "$1"))
    [bound] = [r["payload"] for r in shown if r["kind"] == "parameters" and (r["session"], r["refers"]) == (session, statement)]
    assert [value["whole"] for value in bound["values"]] == [str(90 + binary_rows)], "decoded, whatever its form"
    values = [r["payload"]["values"] for r in shown if r["kind"] == "rows" and (r["session"], r["refers"]) == (session, statement)]
    first = [cell for chunk in values for cell in chunk][0]
    assert first == ["1", "name 1 é", "2026-11-21 04:50:17.5+00", "1.25", "\\xc4ca4238a0b923820dcc509a6f75849b", "{a,NULL,1}", "1000003"]


def test_rows_are_what_psql_printed(rows):
    sql = "SELECT id, name, sum FROM told ORDER BY id LIMIT 25"
    done = rows.psql("-c", sql)
    assert done.returncode == 0, done.stderr
    [result] = captured(rows, sql)
    printed = "".join("|".join(cell.decode() for cell in cells) + "\n" for cells in result.rows())
    assert printed == done.stdout


def test_masked_values_are_recorded_masked(rows):
    sql = "SELECT name, name AS again FROM told WHERE id = 1000"
    with rows.connect() as db:
        assert db.execute(sql).fetchone()[0] == "mail [email] card [card]"
    [result] = captured(rows, sql)
    assert result.rows() == [(b"mail [email] card [card]",) * 2]


@pytest.mark.parametrize("spelling", ["", "WITH (FORMAT csv, HEADER)", "WITH (FORMAT binary)"])
def test_copy_to_the_client_is_what_it_got(rows, spelling):
    sql = f"COPY (SELECT {COLUMNS} FROM told WHERE id < 300 ORDER BY id) TO STDOUT {spelling}"
    with rows.connect() as db, db.cursor().copy(sql) as copy:
        got = b"".join(bytes(block) for block in copy)
    [result] = captured(rows, sql)
    assert result.whole and result.data() == got and len(got) > 10_000
    # A header and the end of a binary copy come as messages of rows, and are none.
    session, statement = statement_of(rows, sql)
    ended = rows.wait_record("its end", lambda r: r["kind"] == "result" and (r["session"], r["refers"]) == (session, statement))["payload"]
    assert (ended["tag"], ended["rows"]) == (f"COPY {ended['rows']}", 299), ended


def test_copy_from_the_client_is_held_by_digest_near_detectors(rows):
    with rows.connect() as db:
        with db.cursor().copy("COPY notes (test, body) FROM STDIN") as copy:
            copy.write_row(("recording", f"copied {EMAIL}"))
    shown = rows.records()
    copied = [r["payload"] for r in shown if r["kind"] == "copied-in"][-1]
    assert copied["frames"] >= 1 and copied["bytes"] > 20
    ended = [r["payload"] for r in shown if r["kind"] == "capture-ended" and r["payload"]["what"] == "copy from the client"]
    assert ended and ended[-1]["rows"] == 0


@pytest.mark.parametrize("how", ["a query", "COPY"])
def test_who_hangs_up_has_read_what_the_record_says(rows, how):
    """A result that does not come to its end is told with what of it left."""
    inner = f"SELECT a.id FROM told a, told b, told c /* hangs up, {how} */"
    sql, frame = (inner, "D") if how == "a query" else (f"COPY ({inner}) TO STDOUT (FORMAT csv)", "d")
    client = Client(rows)
    client.send(query(sql))
    got = 0
    while got < 5_000:
        got += client.read()[0] == frame
    client.sock.close()
    session, statement = statement_of(rows, sql)
    ended = rows.wait_record("its end", lambda r: r["kind"] == "result" and (r["session"], r["refers"]) == (session, statement))["payload"]
    assert ended["outcome"] == "unknown" and ended["rows"] >= got and ended["bytes"] > got and ended["digest"], ended
    closed = rows.wait_record("the close", lambda r: r["kind"] == "session-closed" and r["session"] == session)["payload"]
    assert closed["totals"]["rows"] == ended["rows"], (closed, ended)


def test_cursors_and_portals_with_row_limits(rows):
    with rows.connect(autocommit=False) as db:
        with db.cursor(name="c1") as cursor:
            cursor.execute("SELECT id, name FROM told WHERE id < 60 ORDER BY id")
            fetched = [list(cursor.fetchmany(25)) for _ in range(3)]
    recorded = [r for result in captured(rows, 'FETCH FORWARD 25 FROM "c1"') for r in result.rows()]
    assert [(int(a), b.decode()) for a, b in recorded] == fetched[2], "the last fetch"
    sql = "SELECT id FROM told WHERE id < 11 ORDER BY id /* portal */"
    with Client(rows) as client:
        client.send(parse(sql), bind(), execute(rows=4), execute(rows=4), execute(rows=4), SYNC)
        got = client.until_ready()
    session, statement = statement_of(rows, sql)
    found = results(rows.evidence, session, statement)
    assert [len(result.rows()) for result in found] == [4, 4, 2]
    assert [r for result in found for r in result.rows()] == [row(body) for tag, body in got if tag == "D"]


def test_a_portal_in_binary_that_nobody_describes_is_read_all_the_same(rows):
    sql = "SELECT id, big FROM told WHERE id = 7 /* undescribed */"
    with Client(rows) as client:
        client.send(parse(sql), bind(result_formats=(1,)), execute(), SYNC)
        assert tags(client.until_ready()) == "12DCZ"
    session, statement = statement_of(rows, sql)
    [shown] = [r["payload"] for r in rows.records() if r["kind"] == "rows" and (r["session"], r["refers"]) == (session, statement)]
    assert shown["values"] == [["7", "7000021"]]


def test_two_statements_of_one_text_have_two_results(rows):
    sql = "SELECT 1 AS a; SELECT name FROM told WHERE id < 4 ORDER BY id"
    with Client(rows) as client:
        got = [row(body) for tag, body in client.ask(query(sql)) if tag == "D"]
    first, second = captured(rows, sql)
    assert first.rows() + second.rows() == got and len(second.rows()) == 3


@pytest.mark.parametrize("shape", ["many rows", "one row"])
def test_capture_ends_at_its_bound_and_says_where(rows, shape):
    wide = "SELECT n, repeat('x', 5000) FROM generate_series(1, 2000) AS n"
    sql = wide if shape == "many rows" else "SELECT 1, repeat('y', 3000000)"
    with Client(rows) as client:
        got = [body for tag, body in client.ask(query(sql)) if tag == "D"]
    [result] = captured(rows, sql)
    bodies = list(result.bodies())
    assert result.cut and result.whole and bodies == got[: len(bodies)]
    assert len(result.frames) <= 1_048_576 < len(result.frames) + 5_100 if shape == "many rows" else not bodies
    session, statement = statement_of(rows, sql)
    shown = [r for r in rows.records() if (r["session"], r.get("refers")) == (session, statement)]
    [cut] = [r["payload"] for r in shown if r["kind"] == "capture-ended"]
    assert cut["rows"] == len(bodies) and cut["bytes"] == len(result.frames) and "record_rows_bytes_max" in cut["why"]
    [outcome] = [r["payload"] for r in shown if r["kind"] == "result"]
    assert outcome["rows"] == len(got) and outcome["digest"], "the digest covers all of it"


def test_large_values_below_the_bound_are_whole(rows):
    sql = "SELECT n, repeat('z', 200000) FROM generate_series(1, 4) AS n"
    with Client(rows) as client:
        got = [row(body) for tag, body in client.ask(query(sql)) if tag == "D"]
    [result] = captured(rows, sql)
    assert result.whole and not result.cut and result.rows() == got


def test_values_that_come_with_a_statement(rows):
    """Parameters in both forms, literals, column names, errors and notices: what detectors find is in none of them."""
    with rows.connect(application_name=f"tool of {EMAIL} {CARD}") as db:
        db.execute("SELECT name FROM told WHERE name = %s AND id > %s", (EMAIL, 5)).fetchall()
        with db.cursor(binary=True) as cursor:
            cursor.execute("SELECT name FROM told WHERE big = %b AND name <> %b", (int(CARD), EMAIL)).fetchall()
        db.execute(f"SELECT id AS \"{EMAIL}\" FROM told WHERE name = '{EMAIL}' -- of {CARD}").fetchall()
        with pytest.raises(psycopg.Error):
            db.execute(f"SELECT '{EMAIL}'::int")
        with pytest.raises(psycopg.Error):
            db.execute(f"DELETE FROM notes WHERE true /* {EMAIL} */")
        with pytest.raises(psycopg.Error):
            db.execute(f"this is no SQL {EMAIL}")
    shown = rows.records()
    names = [r["payload"]["application_name"] for r in shown if r["kind"] == "target-chosen"]
    assert any("tool of [email]" in name for name in names), names
    bound = [v for r in shown if r["kind"] == "parameters" for v in r["payload"]["values"]]
    assert any(v.get("masked") == "[email]" for v in bound), bound
    assert any("withheld" in v for v in bound), "the card as a number"
    texts = [r["payload"]["text"] for r in shown if r["kind"] == "statement-text"]
    assert any("[email]" in text.get("masked", "") for text in texts)
    names = [c["name"] for r in shown if r["kind"] == "row-description" for c in r["payload"]["columns"]]
    assert "[email]" in names


def test_what_a_labelled_column_takes_is_withheld(rows):
    with rows.connect() as db:
        db.execute("INSERT INTO labelled (id, secret, open) VALUES (%s, %s, 'x')", (2, LABELLED + "2"))
        db.execute(f"INSERT INTO labelled (id, secret) VALUES (3, '{LABELLED}3')")
        assert db.execute("SELECT id, secret, open FROM labelled WHERE id = 1").fetchall() == [(1, None, "open value")]
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.execute("INSERT INTO labelled (id, secret) VALUES (%s, %s)", (4, LABELLED))
        with pytest.raises(psycopg.Error):
            db.execute(f"SELECT id FROM labelled WHERE secret = '{LABELLED}'")
    shown = rows.records()
    withheld = [r["payload"]["text"] for r in shown if r["kind"] == "statement-text" and "withheld" in r["payload"]["text"]]
    assert withheld and all("label" in text["withheld"] for text in withheld)
    bound = [r["payload"]["values"] for r in shown if r["kind"] == "parameters" and "withheld" in r["payload"]["values"][0]]
    assert bound and all("label" in v["withheld"] for v in bound[-1])
    kept = [v for r in shown if r["kind"] == "rows" for v in r["payload"]["values"]]
    assert ["1", None, "open value"] in kept, "rows near labels are recorded as they left, masked"


def test_a_label_that_leaves_in_clear_is_held_by_digest(told):
    """Who may see it sees it; the evidence holds it no more for that."""
    more = LABEL + '[[permit]]\nid = "sees"\ngroups = ["app"]\ntargets = ["shop"]\nclasses = ["read", "write"]\non = ["shop.labelled"]\n'
    gateway = with_policy(told.gateway(), more=more + 'disclose = { clear_up_to = "secret" }\n').start()
    try:
        with gateway.connect() as db:
            assert (1, LABELLED) in db.execute("SELECT id, secret FROM labelled").fetchall()
            with pytest.raises(psycopg.errors.UniqueViolation):
                db.execute("INSERT INTO labelled (id, secret) VALUES (%s, %s)", (9, LABELLED))
        shown = gateway.records()
        ended = [r["payload"]["why"] for r in shown if r["kind"] == "capture-ended"]
        assert ended and all("in clear" in why for why in ended)
    finally:
        gateway.stop()
    assert LABELLED.encode() not in gateway.evidence_bytes()


def test_what_the_session_records_is_said(rows, told):
    with rows.connect(application_name="reports agent=reporter model=m-1") as db:
        db.execute("SELECT 1 /* run='77',commit='a%2Fb' */")
    shown = rows.records()
    said = [r["payload"] for r in shown if r["kind"] == "recording"]
    assert said and all(s["record"] == "rows" and s["rows_bytes_max"] == 1_048_576 and "default" in s["why"] for s in said)
    stated = [(r["payload"]["origin"], {c["name"]: c["value"] for c in r["payload"]["claims"]}) for r in shown if r["kind"] == "stated"]
    assert ("application_name", {"agent": "reporter", "model": "m-1"}) in stated
    assert ("comment", {"run": "77", "commit": "a/b"}) in stated
    # Where nothing masks, digests are the default and nothing is said.
    gateway = told.gateway().start()
    try:
        with gateway.connect() as db:
            db.execute("SELECT 1")
        gateway.wait_record("the end", lambda r: r["kind"] == "session-closed")
        assert not [r for r in gateway.records() if r["kind"] in ("recording", "rows", "statement-text")]
    finally:
        gateway.stop()


def test_text_keeps_texts_and_no_rows(told):
    gateway = told.gateway()
    policy = gateway.folder / "policy.toml"
    policy.write_text(policy.read_text() + '\n[defaults]\nrecord = "text"\n')
    gateway.start()
    try:
        with gateway.connect() as db:
            db.execute("SELECT name FROM told WHERE id = %s", (7,)).fetchall()
            with pytest.raises(psycopg.Error):
                db.execute("SELECT 1/0")
        gateway.wait_record("the error", lambda r: r["kind"] == "report")
        shown = gateway.records()
        kinds = {r["kind"] for r in shown}
        assert {"statement-text", "parameters", "report"} <= kinds and not {"rows", "row-description"} & kinds
        reports = [{f["code"]: f["text"] for f in r["payload"]["fields"]} for r in shown if r["kind"] == "report"]
        assert any(f["C"] == "22012" and f["M"] == "division by zero" for f in reports)
        assert gateway.verify().returncode == 0
    finally:
        gateway.stop()


def test_check_refuses_rows_where_nothing_masks(told):
    gateway = told.gateway()
    policy = gateway.folder / "policy.toml"
    before = policy.read_text()
    for keys, refused in (('\n[defaults]\nrecord = "rows"\n', True), ('\n[defaults]\nrecord = "text"\n', False)):
        policy.write_text(before + keys)
        done = subprocess.run([binary(), "check", "--config", gateway.folder / "pgturnstile.toml"], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == refused, said
        assert ("neither a [[label]] nor a [[detector]]" in said) == refused, said


def rows_of_two_columns(folder):
    """Every row of a directory that has two columns, in order: those that asked whether the gateway is ready have one."""
    kept = [last_bytes(payload) for kind, *_, payload in records(folder) if kind == 36]
    return [body for body in Result(frames=b"".join(kept)).bodies() if body[:2] == b"\0\2"]


@pytest.mark.parametrize("extended", [False, True])
def test_no_row_leaves_before_its_record_is_durable(told, extended):
    """Syncs are slow, and what a loss of power would leave is looked at while rows come: every row that came is in it."""
    gateway = with_policy(told.gateway(), more=LABEL)
    order, durable = spawn_on_shim(gateway, told.folder)
    sql = "SELECT n, repeat('p', 600) FROM generate_series(1, 500) AS n"
    try:
        with Client(gateway) as client:
            order.write_text("slow-sync 40")
            client.send(*((parse(sql), bind(), execute(), SYNC) if extended else (query(sql),)))
            got = []
            while True:
                tag, body = client.read()
                if tag == "Z":
                    break
                if tag == "D":
                    got.append(body)
                    if len(got) % 90 == 1:
                        held = rows_of_two_columns(durable)
                        assert held[: len(got)] == got, f"row {len(got)} left before it was durable"
            assert len(got) == 500
    finally:
        order.write_text("none")
        gateway.stop()
    assert gateway.verify().returncode == 0


def test_a_sync_that_fails_releases_no_row(told):
    gateway = with_policy(told.gateway(), more=LABEL)
    order, durable = spawn_on_shim(gateway, told.folder)
    try:
        with Client(gateway) as client:
            order.write_text("fail-sync")
            client.send(query("SELECT n, repeat('s', 600) FROM generate_series(1, 500) AS n"))
            got = read_until_cut(client)
        held = rows_of_two_columns(durable)
        assert held[: len(got)] == got and len(got) < 500, "a sync that failed released rows"
        wait_until("its end", lambda: not gateway.alive())
    finally:
        gateway.stop()


def read_until_cut(client):
    """Frames of rows up to where the connection broke."""
    got = []
    try:
        while True:
            tag, body = client.read()
            if tag == "D":
                got.append(body)
            if tag in "ZE":
                return got
    except (Closed, OSError):
        return got


@pytest.mark.parametrize("round", range(3))
def test_kill_while_rows_stream(told, round):
    """kill -9: every row that a client got is in the evidence."""
    gateway = with_policy(told.gateway(segment_bytes=4_194_304), more=LABEL).start()
    sql = "SELECT n, repeat('k', 700) FROM generate_series(1, 1400) AS n"
    clients = [Client(gateway) for _ in range(3)]
    got = [[] for _ in clients]

    def read(at):
        for _ in range(40):
            try:
                clients[at].send(query(sql))
            except OSError:
                return
            rows_of = read_until_cut(clients[at])
            got[at].append(rows_of)
            if len(rows_of) < 1400:
                return

    threads = [threading.Thread(target=read, args=(at,)) for at in range(len(clients))]
    for thread in threads:
        thread.start()
    wait_until("some results", lambda: sum(map(len, got)) > round * 2)
    gateway.process.kill()
    for thread in threads:
        thread.join(HANG_S)
    gateway.process.wait(HANG_S)
    gateway.start()
    gateway.stop()
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr
    by_session = {}
    for kind, stream, number, refers, _, payload in records(gateway.evidence):
        if kind == 36:
            by_session.setdefault(stream, {}).setdefault(refers, None)
    held = [
        [body for statement in sorted(statements) for result in results(gateway.evidence, stream, statement) for body in result.bodies()]
        for stream, statements in by_session.items()
    ]
    for one in got:
        flat = [body for rows_of in one for body in rows_of]
        assert any(rows_held[: len(flat)] == flat for rows_held in held), f"{len(flat)} rows reached a client"


def test_a_full_disk_lets_no_row_go_unrecorded(told, tmp_path):
    disk = SmallDisk(tmp_path / "small", mib=11, mode="700")
    if disk.reason:
        pytest.skip(disk.reason)
    gateway = None
    try:
        gateway = with_policy(
            told.gateway(evidence=str(tmp_path / "small" / "evidence"), segment_bytes=2_097_152, reserve_bytes=1_048_576), more=LABEL
        ).start()
        sql = "SELECT n, repeat('d', 700) FROM generate_series(1, 1400) AS n"
        got, refused = [], None
        for _ in range(30):
            try:
                with Client(gateway) as client:
                    client.send(query(sql))
                    rows_of = read_until_cut(client)
            except (Refused, Closed, OSError) as error:
                refused = error
                break
            got.append(rows_of)
            if len(rows_of) < 1400:
                refused = "the session ended"
                break
        assert refused, "the disk never was full"
        assert got and len(got[0]) == 1400
        held = [len(r.rows()) for s in {s for _, s, *_ in records(gateway.evidence)} for n in {
            refers for kind, stream, _, refers, _, _ in records(gateway.evidence) if kind == 36 and stream == s
        } for r in results(gateway.evidence, s, n)]
        assert sum(held) >= sum(map(len, got)), "a row left that no record holds"
    finally:
        if gateway is not None:
            gateway.stop()
        disk.unmount()
