"""What people do with the evidence of a running gateway: query, sql, export as it grows, OCSF against its schema, audit packs, replay."""

import json
import pathlib
import re
import signal
import subprocess

import jsonschema
import pytest

from harness import HANG_S, binary, wait_until

SCHEMA = json.loads((pathlib.Path(__file__).parent / "fixtures" / "ocsf-1.8.0.schema.json").read_text())


def run(*arguments):
    return subprocess.run([binary(), *map(str, arguments)], capture_output=True, text=True, timeout=HANG_S, check=False)


def lines(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def work(gate, word, rounds=3):
    with gate.connect() as db:
        for number in range(rounds):
            db.execute("INSERT INTO notes (test, body) VALUES (%s, %s)", (word, str(number)))
        db.execute("SELECT count(*) FROM notes")
    refused = gate.psql("-c", "DELETE FROM notes")
    assert refused.returncode != 0


@pytest.fixture
def worked(own_gate):
    gate = own_gate()
    work(gate, "use")
    return gate


def test_a_running_gateway_s_evidence_answers(worked):
    refused = lines(run("evidence", "query", worked.evidence, "--verdict", "refuse", "--json"))
    assert refused and all(event["sqlstate"] == "42501" for event in refused)
    counted = lines(run("evidence", "sql", worked.evidence, "--json",
                        "SELECT verdict, count(*) AS n FROM statements WHERE protocol <> 'parse' GROUP BY 1"))
    by_query = len(lines(run("evidence", "query", worked.evidence, "--verdict", "allow", "--json")))
    # A permitted Parse runs nothing: query leaves it out, and so does the question.
    assert {row["verdict"]: row["n"] for row in counted} == {"allow": by_query, "refuse": len(refused)}
    replayed = run("replay", worked.evidence, refused[0]["session"])
    assert replayed.returncode == 0 and "REFUSED 42501" in replayed.stdout


def test_what_a_refused_client_was_told_finds_its_record(worked):
    reference = re.search(r"\[ref ([0-9A-Z]{11})\]", worked.psql("-c", "DELETE FROM notes").stderr)[1]
    [event] = lines(run("evidence", "query", worked.evidence, "--ref", reference, "--json"))
    assert event["ref"] == reference and event["verdict"] == "refuse"
    assert f"[ref {reference}]" in run("evidence", "show", worked.evidence, "--session", event["session"]).stdout
    [row] = lines(run("evidence", "sql", worked.evidence, "--json", f"SELECT session FROM statements WHERE ref = '{reference}'"))
    assert row["session"] == event["session"]


def test_ocsf_is_what_its_schema_says(worked):
    events = lines(run("evidence", "export", worked.evidence, "--format", "ocsf", "--kind", "*"))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for event in events:
        errors = [error.message for error in validator.iter_errors(event)]
        assert not errors, (errors, event)
    assert {event["class_uid"] for event in events} == {3002, 6005}
    # The schema is no rubber stamp.
    for name, value in (("activity_id", "4"), ("time", None), ("nothing", 1), ("src_endpoint", {})):
        assert list(validator.iter_errors({**events[-1], name: value})), name


def test_an_export_follows_a_growing_log_over_its_own_death(own_gate, tmp_path):
    gate = own_gate()
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    command = [binary(), "evidence", "export", str(gate.evidence), "--kind", "*", "--follow", "--every-ms", "20", "--out", str(out),
               "--cursor", str(cursor)]
    for round_ in range(4):
        export = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            work(gate, f"round {round_}")
            before = cursor.read_text() if cursor.exists() else ""
            wait_until("the cursor moves", lambda: cursor.exists() and cursor.read_text() != before)
        finally:
            export.send_signal(signal.SIGKILL)
            export.wait(HANG_S)
            export.stderr.close()
    gate.stop()
    done = run("evidence", "export", gate.evidence, "--kind", "*", "--out", out, "--cursor", cursor)
    assert done.returncode == 0, done.stderr
    whole = run("evidence", "export", gate.evidence, "--kind", "*")
    assert out.read_text() == whole.stdout, "neither a gap nor a double"


def test_a_stranger_checks_a_pack_of_a_running_gateway_with_verify_alone(worked, tmp_path):
    pack, key = tmp_path / "pack", tmp_path / "key"
    public = run("evidence", "new-key", key, "--name", "auditee").stdout.strip()
    made = run("audit", "pack", worked.evidence, "--from", "2020-01-01", "--to", "2100-01-01", "--out", pack, "--sign", key, "--seed", "7")
    assert made.returncode == 0, made.stderr
    report = json.loads(run("verify", pack, "--json", "--key", public).stdout)
    assert report["ok"] and report["pack"]["key"] == public
    assert report["end"]["state"] == "as-the-pack-says" and not report["end_proven"], "its maker's own word proves nothing"
    population = pack / "populations" / "refused-statements.csv"
    assert len(population.read_text().splitlines()) > 1
    population.write_text(population.read_text().replace("42501", "00000"))
    done = run("verify", pack)
    assert done.returncode == 1 and "refused-statements.csv was changed" in done.stdout
