"""The commands that need no server, on the same texts and files: explain, check and test never end by a signal."""

import json
import subprocess

import pytest

from harness import HANG_S, binary
from test_big_texts import DEEP, TEXTS


@pytest.fixture(scope="module")
def folder(world):
    """A gateway's folder, never started."""
    made = world.gateway(statement_bytes_max=8 * 1024 * 1024)
    (made.folder / "claims.json").write_text(json.dumps(
        {"iss": f"http://127.0.0.1:{world.idp.port}", "sub": "app-7", "aud": "pgturnstile", "groups": ["app"]}))
    (made.folder / "catalog.sql").write_text(
        "CREATE SCHEMA shop; CREATE TABLE shop.items (id int PRIMARY KEY, name text NOT NULL, price numeric NOT NULL DEFAULT 1);"
        "CREATE TABLE shop.notes (id bigint PRIMARY KEY, test text NOT NULL, body text);")
    return made


def run(folder, *arguments, stdin=None):
    return subprocess.run([binary(), *arguments], cwd=folder.folder, input=stdin, capture_output=True, text=True,
                          timeout=HANG_S, check=False)


def explain(folder, sql):
    return run(folder, "explain", "-", "--as", "claims.json", "--target", "shop", "--catalog", "catalog.sql", stdin=sql)


@pytest.mark.parametrize("what", [*TEXTS, *DEEP])
def test_explain_lives(folder, what):
    got = explain(folder, {**TEXTS, **DEEP}[what])
    assert got.returncode in (0, 1, 2), (got.returncode, got.stderr[-2000:])
    assert "panicked" not in got.stderr


@pytest.mark.parametrize(
    "sql, code",
    [("SELECT name FROM items WHERE id = 1", 0), ("DELETE FROM notes WHERE id = 1", 0), ("DELETE FROM notes", 1),
     ("DROP TABLE notes", 1), ("SELECT * FROM pg_catalog.pg_authid", 1), ("no SQL at all", 1)],
)
def test_explain_says_what_serve_does(folder, gate, sql, code):
    got = explain(folder, sql)
    assert got.returncode == code, got.stdout + got.stderr
    through = gate.psql("-c", f"BEGIN; {sql}; ROLLBACK" if code == 0 else sql)
    assert (through.returncode == 0) == (code == 0), through.stderr
    if "notes" in sql and code:
        rule = "no-blind-write" if sql.startswith("DELETE") else "no-drop"
        assert rule in got.stdout and rule in through.stderr


@pytest.mark.parametrize(
    "sql, rule",
    [("begin; declare c cursor for select 1; fetch 10 from c; commit", "order"),
     ("prepare p as select 1; execute p; deallocate all", "order"),
     ("execute nothing", "unknown-name"), ("fetch 1 from nocursor", "unknown-name"),
     ('prepare "pgturnstile.x" as select 1', "reserved-name"),
     ("begin; declare c cursor for select 1; close c; commit", None)],
)
def test_explain_says_what_serve_says_of_texts(folder, gate, sql, rule):
    got = explain(folder, sql)
    through = gate.psql("-c", sql)
    assert (got.returncode, through.returncode) == ((1, 1) if rule else (0, 0)), got.stdout + through.stderr
    if rule:
        message = got.stdout.partition("+- message: ")[2].splitlines()[0]
        assert message and f"{message} [ref " in through.stderr, (message, through.stderr)
        assert f"builtin.{rule} (built in) -> refuse: " in got.stdout, got.stdout


def test_check(folder):
    got = run(folder, "check")
    assert got.returncode == 0, got.stdout + got.stderr


@pytest.mark.parametrize("keys", ["no keys at all", '{"keys": []}'])
def test_a_key_file_without_a_usable_key_stops_check_and_start(world, keys):
    made = world.gateway()
    configuration = made.folder / "pgturnstile.toml"
    text = configuration.read_text()
    assert 'jwks = "discover"' in text
    configuration.write_text(text.replace('jwks = "discover"', 'jwks = "keys.json"'))
    (made.folder / "keys.json").write_text(keys)
    for arguments in (("check",), ("serve",)):
        got = run(made, *arguments)
        assert got.returncode == 2, got.stdout + got.stderr
        assert "keys.json" in got.stdout + got.stderr and "jwks" in got.stdout + got.stderr
    (made.folder / "keys.json").unlink()
    assert run(made, "check", "--skip-files").returncode == 0


def test_check_names_every_error(world):
    made = world.gateway()
    # Not beside the configuration under its usual name: it is found although the configuration has errors.
    config, policy = made.folder / "pgturnstile.toml", made.folder / "rules-of-the-shop.toml"
    (made.folder / "policy.toml").rename(policy)
    config.write_text(config.read_text().replace('policy = "policy.toml"', f'policy = "{policy.name}"\ncolour = "red"', 1)
                      .replace("sessions_max = 60", 'sessions_max = "many"'))
    policy.write_text(policy.read_text().replace('classes = ["*"]', 'classes = ["read.everything"]'))
    got = run(made, "check")
    said = got.stdout + got.stderr
    assert got.returncode == 2, said
    lines = config.read_text().splitlines()
    colour = lines.index('colour = "red"') + 1
    many = lines.index('sessions_max = "many"') + 1
    assert f"pgturnstile.toml:{colour}:" in said and f"pgturnstile.toml:{many}:" in said, said
    assert "read.everything" in said and f"{policy.name}:" in said
    # serve says the same, all at once, and opens nothing.
    served = run(made, "serve")
    said = served.stdout + served.stderr
    assert served.returncode == 2, said
    for what in (f"pgturnstile.toml:{colour}:", f"pgturnstile.toml:{many}:", "read.everything", f"{policy.name}:"):
        assert what in said, (what, said)


def test_the_policys_own_tests_on_big_texts(folder):
    policy = folder.folder / "policy.toml"
    before = policy.read_text()
    cases = ["a sum of 1000 terms", "4990 nots", "46 joins", "a list of 20000 values"]
    try:
        policy.write_text(before + "".join(
            f'\n[[test]]\nname = "{what}"\nas = {{ issuer = "dev", subject = "app-7", groups = ["app"] }}\ntarget = "shop"\n'
            f'catalog = "catalog.sql"\nsql = "{TEXTS[what]}"\nexpect = {{ action = "allow" }}\n' for what in cases))
        got = run(folder, "test")
        assert got.returncode == 0, got.stdout[-2000:] + got.stderr[-2000:]
        assert run(folder, "check").returncode == 0
    finally:
        policy.write_text(before)
