"""Definitions that compare a labelled column: views and row security policies that a session may steer, plans over them, and the order of rows.

Each refusal here answered a question about a masked value before it was one.
"""

import psycopg
import pytest

from harness import in_schema, policed, wait_until

SCHEMA = """
CREATE SCHEMA defs;
SET search_path TO defs;
CREATE TABLE customers (id int PRIMARY KEY, tenant int, first text, last text, ssn text, email text, pay int, born date, region text, factor int DEFAULT 1);
INSERT INTO customers SELECT n, n % 2, 'QZXVf' || n, 'QZXVl' || n, 'QZXVs' || n, 'QZXVe' || n || '@b.example', n * 100, '2000-01-01'::date + n, 'r' || n % 2
  FROM generate_series(1, 5) n;
CREATE TABLE notes (id int, y text, email text, factor int);
INSERT INTO notes VALUES (1, 'QZXVs3', 'QZXVe2@b.example', 2);
CREATE TABLE tenants (id int, tenant int, email text);
INSERT INTO tenants SELECT n, n % 2, 'QZXVt' || n FROM generate_series(1, 4) n;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants USING (tenant = current_setting('app.tenant', true)::int AND email IS NOT NULL);
CREATE TABLE asked (id int, s text, pay int);
INSERT INTO asked SELECT n, 'QZXVa' || n, n * 100 FROM generate_series(1, 5) n;
ALTER TABLE asked ENABLE ROW LEVEL SECURITY;
CREATE POLICY a ON asked USING (s = current_setting('app.k', true) OR pay < current_setting('app.p', true)::int);
CREATE TABLE checked (id int, s text, note text);
ALTER TABLE checked ENABLE ROW LEVEL SECURITY;
CREATE POLICY w ON checked USING (true) WITH CHECK (s < current_setting('app.k', true));
CREATE TABLE guarded (id int, y text);
INSERT INTO guarded VALUES (1, 'QZXVs3');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY g ON guarded USING (EXISTS (SELECT FROM customers c WHERE c.ssn < guarded.y AND c.id = guarded.id));
CREATE TABLE dormant (id int, s text);
CREATE POLICY d ON dormant USING (s = current_setting('app.k', true));
CREATE VIEW filtered AS SELECT id, region FROM customers WHERE ssn LIKE 'QZXVs%' AND NOT (pay > 450 OR email IS NULL);
CREATE VIEW plain AS SELECT id, y FROM notes;
CREATE VIEW bare AS SELECT id, region, email, pay FROM customers WHERE region = current_setting('app.r', true) OR region LIKE 'r%';
CREATE VIEW whole AS SELECT c.id, first || ' ' || last AS name, upper(ssn) AS loud, age(born) AS age FROM customers c;
CREATE VIEW adults AS SELECT id FROM customers WHERE born < now() - interval '18 years';
CREATE VIEW by_setting AS SELECT id FROM customers WHERE ssn < current_setting('app.k', true);
CREATE VIEW over_it AS SELECT b.id, n.y FROM by_setting b JOIN notes n ON n.id = b.id;
CREATE VIEW by_table AS SELECT n.id FROM notes n JOIN customers c ON c.ssn < n.y AND c.id = 3;
CREATE VIEW by_sub AS SELECT id FROM customers c WHERE pay > (SELECT max(n.factor) FROM notes n);
CREATE VIEW by_lateral AS SELECT c.id FROM customers c, LATERAL (SELECT n.y AS limit_of FROM notes n WHERE n.id = c.id) l WHERE l.limit_of > c.ssn;
CREATE VIEW by_with AS WITH w AS (SELECT y AS z FROM notes) SELECT c.id FROM customers c JOIN w ON w.z > c.ssn;
CREATE VIEW by_sequence AS SELECT id FROM customers WHERE pay < (SELECT random() * 1000);
CREATE VIEW times AS SELECT id, pay * factor AS total FROM customers;
CREATE VIEW first_ones AS SELECT id FROM customers ORDER BY ssn LIMIT 2;
CREATE VIEW same_email AS SELECT c.id, n.id AS note FROM customers c JOIN notes n USING (email);
CREATE VIEW in_notes AS SELECT id FROM customers WHERE email IN (SELECT email FROM notes);
CREATE VIEW same_ssn AS SELECT c.id, n.id AS note FROM customers c JOIN notes n ON n.y = c.ssn;
CREATE VIEW groups AS SELECT region, count(DISTINCT email) AS n FROM customers GROUP BY region;
CREATE TABLE ordered (id int PRIMARY KEY, u int, s text);
CREATE INDEX ordered_s_u ON ordered (s, u);
CREATE INDEX ordered_s ON ordered (s);
CREATE INDEX ordered_including ON ordered (s) INCLUDE (u);
CREATE INDEX ordered_some ON ordered (s) WHERE u > 3;
CREATE INDEX ordered_u ON ordered (u, id);
INSERT INTO ordered SELECT n, n, md5(n::text) FROM generate_series(1, 3000) n;
GRANT USAGE ON SCHEMA defs TO app_login;
GRANT ALL ON ALL TABLES IN SCHEMA defs TO app_login;
"""
TIERS = {
    "customers.first": "personal", "customers.last": "personal", "customers.email": "restricted", "notes.email": "restricted",
    "customers.ssn": "secret", "customers.pay": "personal", "customers.born": "personal", "tenants.email": "secret", "asked.s": "personal",
    "asked.pay": "secret", "checked.s": "personal", "dormant.s": "secret", "ordered.s": "secret",
}  # fmt: skip
POLICY = "".join(f'\n[[label]]\ncolumn = "defs.{column}"\ntier = "{tier}"\nmask = "null"\n' for column, tier in TIERS.items()) + """
[[permit]]
id = "settings.of.the.application"
groups = ["app", "reader"]
targets = ["shop"]
classes = ["session.set"]
on = ["setting:app.k", "setting:app.p", "setting:app.r", "setting:app.tenant"]

[[permit]]
id = "queued.sees.all"
groups = ["queued"]
targets = ["shop"]
classes = ["read", "write", "session.set"]
on = ["*"]
disclose = { clear_up_to = "secret" }
"""


@pytest.fixture(scope="module")
def defined(world):
    with policed(world, SCHEMA, "DROP SCHEMA defs CASCADE", POLICY, in_schema("defs")) as gateway:
        with world.database.superuser() as db:
            db.execute("VACUUM ANALYZE defs.ordered")
        yield gateway


def refusal(db, sql):
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        db.execute(sql)
    said = refused.value.diag.message_primary
    assert said.startswith("pgturnstile") and "Next: " in said and "QZXV" not in said, said
    return said


# Relation → what the refusal names: compared with what the session holds, or with what the app may write.
STEERED = {
    "asked": "row security policy a of defs.asked", "guarded": "row security policy g of defs.guarded",
    "by_setting": "the definition of defs.by_setting", "over_it": "the definition of defs.by_setting",
    "by_table": "the definition of defs.by_table", "by_sub": "by_sub", "by_lateral": "by_lateral", "by_with": "by_with",
    "by_sequence": "by_sequence", "times": "times", "first_ones": "first_ones", "same_ssn": "same_ssn",
}  # fmt: skip


@pytest.mark.parametrize("relation", STEERED)
def test_rows_answer_no_comparison_that_the_session_steers(defined, relation):
    with defined.connect() as db:
        assert STEERED[relation] in refusal(db, f"SELECT count(*) FROM {relation}")
        assert STEERED[relation] in refusal(db, f"SELECT id FROM {relation}")
        assert "compare" in refusal(db, f"EXPLAIN SELECT 1 FROM {relation}")


def test_a_policy_answers_no_write_either(defined):
    with defined.connect() as db:
        assert "row security policy w" in refusal(db, "UPDATE checked SET note = 'x' WHERE id = 1")
        assert "row security policy a" in refusal(db, "DELETE FROM asked WHERE id = 1")


def test_who_cannot_steer_reads_on(defined):
    """A reader writes nothing: what compares with columns alone tells what its owner said, and no more."""
    with defined.connect("reader") as db:
        for relation in ("guarded", "by_table", "by_sub", "by_lateral", "by_with", "times", "first_ones", "same_ssn", "same_email"):
            db.execute(f"SELECT id FROM {relation}").fetchall()
        assert db.execute("SELECT * FROM times WHERE id = 1").fetchall() == [(1, None)]
        for relation in ("asked", "by_setting", "over_it", "by_sequence"):
            assert "what the session holds" in refusal(db, f"SELECT id FROM {relation}")


def test_who_sees_the_column_reads_on(defined):
    with defined.connect("queued") as db:
        db.execute("SELECT set_config('app.k', 'QZXVa3', false), set_config('app.p', '0', false)")
        assert db.execute("SELECT id, s FROM defs.asked").fetchall() == [(3, "QZXVa3")]
        assert db.execute("SELECT count(*) FROM defs.by_table").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM defs.first_ones").fetchone() == (2,)


PASS = {
    "SELECT id, region FROM filtered ORDER BY id": [(1, "r1"), (2, "r0"), (3, "r1"), (4, "r0")],
    "SELECT id, email FROM bare WHERE id = 1": [(1, None)],
    "SELECT * FROM whole WHERE id = 2": [(2, None, None, None)],
    "SELECT count(*) FROM adults": [(5,)],
    "SELECT id, note FROM same_email": [(2, 1)],
    "SELECT id FROM in_notes": [(2,)],
    "SELECT * FROM groups ORDER BY region": [("r0", None), ("r1", None)],
    "SELECT id, s FROM dormant": [],
    "EXPLAIN SELECT * FROM plain": None,
}


def test_the_rest_does_not_notice(defined):
    with defined.connect() as db:
        for sql, expected in PASS.items():
            got = db.execute(sql).fetchall()
            assert expected is None or got == expected, sql
        db.execute("SET app.tenant = '1'")
        assert db.execute("SELECT id, email FROM tenants ORDER BY id").fetchall() == [(1, None), (3, None)]
        assert db.execute("UPDATE tenants SET email = 'x' WHERE id = 1").rowcount == 1


@pytest.mark.parametrize("view", ["filtered", "adults", "same_email"])
def test_no_plan_tells_what_a_definition_compares(defined, view):
    with defined.connect() as db:
        assert "a plan tells" in refusal(db, f"EXPLAIN SELECT id FROM {view}")
        assert "a plan tells" in refusal(db, f"EXPLAIN ANALYZE SELECT id FROM {view}")
    with defined.connect("queued") as db:
        assert db.execute(f"EXPLAIN SELECT id FROM defs.{view}").fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "SET enable_seqscan = off",
        "SET LOCAL Enable_BitmapScan TO off",
        "SELECT set_config('random_page_cost', '0.01', false)",
        "PREPARE p AS SELECT set_config('enable_seqscan', 'off', false)",
        "SET seq_page_cost = 1000000",
        "SET cursor_tuple_fraction = 0.0001",
    ],
)
def test_no_session_has_rows_read_in_the_order_of_a_label(defined, sql):
    with defined.connect() as db:
        assert "in the order of a labelled column" in refusal(db, sql)
        # Without its settings moved, the server reads this table as it lies.
        by_value = [u for u, in defined.database.superuser().execute("SELECT u FROM defs.ordered ORDER BY s, u").fetchall()]
        assert [u for u, in db.execute("SELECT u FROM ordered").fetchall()] != by_value


def test_other_settings_of_the_planner_pass(defined):
    with defined.connect() as db:
        for sql in ("SET jit = off", "SET enable_hashjoin = off", "SET work_mem = '8MB'", "RESET enable_seqscan", "SHOW random_page_cost",
                    "SET random_page_cost TO DEFAULT", "DISCARD ALL"):  # fmt: skip
            db.execute(sql)
    with defined.connect("queued") as db:
        db.execute("SET enable_seqscan = off")


def test_what_definitions_tell_is_found(defined):
    """The log of a start says what `check` says: each by the label that it is about."""
    def told():
        log = defined.log()
        return [name for name in ("ordered_s_u", "ordered_including", "ordered_some", "policy a of defs.asked", "definition of defs.by_table") if name in log]

    wait_until("the findings", lambda: len(told()) == 5)
    log = defined.log()
    assert "index ordered_s of" not in log and "index ordered_u of" not in log and "policy d of" not in log and "policy own of" not in log
