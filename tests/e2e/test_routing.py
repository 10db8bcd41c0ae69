"""How a session finds its target: by server name, by the user's suffix, by the database; and what is refused."""

from __future__ import annotations

import psycopg
import pytest

NAMES = 'server_names = ["shop.db.example.com", "*.shops.example.com"]'


@pytest.fixture(scope="module")
def gate(world):
    """A gateway whose second listener takes every way, and whose third takes server names alone."""
    made = world.gateway(extra_target=NAMES)
    made.every = made.listener('routes = ["server-name", "user-suffix", "database"]')
    made.named = made.listener('routes = ["server-name"]')
    made.suffixed = made.listener('routes = ["user-suffix"]')
    yield made.start()
    made.stop()
    assert made.verify().returncode == 0


def to(gate, host="localhost", port=None, group="app", **more):
    """The server name is sent as libpq sends it; the certificate is this run's own, whatever the name."""
    return gate.connect(group, host=host, port=port or gate.every, sslmode="verify-ca", **more)


def target(gate, **how) -> str:
    with to(gate, **how) as db:
        return db.execute("SELECT current_database()").fetchone()[0]


def refused(gate, **how) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        to(gate, **how)
    message = str(caught.value)
    assert "pgturnstile refused the connection" in message, message
    return message


def routed(gate, condition):
    return gate.wait_record("the route", lambda r: r["kind"] == "routed" and condition(r["payload"]))["payload"]


def test_by_server_name_exact_and_below_a_wildcard(gate):
    for host in ("shop.db.example.com", "SHOP.db.example.com", "berlin.shops.example.com"):
        # Without a database libpq sends the user's name.
        for database in ("", "shop"):
            assert target(gate, host=host, database=database) == "shop"
            assert target(gate, host=host, database=database, port=gate.named) == "shop"
    found = routed(gate, lambda p: p["server_name"] == "berlin.shops.example.com")
    assert (found["target"], found["by"][0], found["user"]) == ("shop", "server-name", "app")


def test_by_the_users_suffix(gate):
    for port in (gate.every, gate.suffixed):
        assert target(gate, user="app@shop", database="", port=port) == "shop"
        assert target(gate, user="app@shop", database="shop", port=port) == "shop"
    found = routed(gate, lambda p: p["user"] == "app@shop")
    assert (found["target"], found["by"]) == ("shop", ["user-suffix"])
    # What is left of it chooses among access entries, as a user does.
    chosen = gate.wait_record("the target", lambda r: r["kind"] == "target-chosen")["payload"]
    assert chosen["access"] == "app"


def test_by_the_database_as_ever(gate):
    assert target(gate, port=gate.port) == "shop"
    assert target(gate, database="shop") == "shop"
    with to(gate, group="bench", database="bench") as db:
        assert db.execute("SELECT current_database()").fetchone() == ("bench",)
    # The listener that goes by the database alone takes an at sign for what it is, and no server name.
    assert target(gate, port=gate.port, user="kim@bench", host="shop.db.example.com") == "shop"


def test_names_that_disagree_are_refused(gate):
    for how, parts in {
        ("shop.db.example.com", "app", "bench"): ('TLS server name asks for target "shop"', 'database for "bench"'),
        ("shop.db.example.com", "app@bench", ""): ('TLS server name asks for target "shop"', 'suffix for "bench"'),
        ("localhost", "app@bench", "shop"): ('suffix asks for target "bench"', 'database for "shop"'),
        ("shop.db.example.com", "app", "sales"): ('database "sales" is not that of target "shop"',),
    }.items():
        host, user, database = how
        message = refused(gate, host=host, user=user, database=database)
        assert all(part in message for part in parts), message


def test_what_leads_nowhere_says_what_this_principal_may_use_and_nothing_more(gate):
    for how, part in {
        ("localhost", "app", "sales", gate.every): 'no target named "sales", which its database asks for',
        ("localhost", "app@sales", "", gate.every): 'no target named "sales", which its user name\'s suffix asks for',
        ("localhost", "kim@example.com", "shop", gate.every): 'no target named "example.com"',
        ("localhost", "app", "shop", gate.named): "nothing names its target: this listener goes by TLS server name",
        ("a.b.shops.example.com", "app", "", gate.named): "nothing names its target",
        ("localhost", "app", "shop", gate.suffixed): "this listener goes by user name's suffix",
    }.items():
        host, user, database, port = how
        message = refused(gate, host=host, user=user, database=database, port=port)
        assert part in message, message
        assert "name one of the targets that you may use: shop" in message and "bench" not in message, message
    message = refused(gate, group="stranger", database="sales")
    assert "none lets you on any target" in message and "shop" not in message.partition("Next: ")[2], message


def test_whoever_is_not_authenticated_learns_no_name(gate):
    for how in ({"database": "sales"}, {"user": "app@sales"}, {"host": "shop.db.example.com", "database": "bench"}):
        with pytest.raises(psycopg.OperationalError) as caught:
            to(gate, token="not-a-token", **how)
        assert "login refused" in str(caught.value) and "shop" not in str(caught.value).replace("shop.db.example.com", "")
