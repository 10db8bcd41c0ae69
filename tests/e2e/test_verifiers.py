"""Two verifiers, one answer: `pgturnstile verify` and the second one that was written from src/evidence/README.md alone."""

import random
import shutil

import pytest

import second_verifier
import tamper
from harness import ROOT

README = ROOT / "src" / "evidence" / "README.md"
# What each attack must be called where the auditor has the checkpoint that was kept elsewhere.
NAMES = {
    "a record is removed": "removed record", "a record is inserted": "inserted record", "a record is duplicated": "duplicated record",
    "two records change places": "reordered record", "a byte of a record is flipped": "flipped byte",
    "… and every hash behind it computed anew": "gap in a session", "an inner segment is deleted": "missing segment",
    "the last segment is deleted": "cut tail", "the end of an inner segment is cut off": "cut tail",
    "an older copy of the directory is put back": "rollback", "a result is altered, every hash computed anew": "fork",
    "a checkpoint is signed with another key": "wrong key", "a record is replaced": "replaced record",
}


@pytest.fixture(scope="module")
def made():
    return tamper.rows()


def test_both_verifiers_agree_on_every_attack(made):
    rows, disagreements = made
    assert not disagreements, disagreements
    cells = dict(rows)
    for attack, name in NAMES.items():
        assert f"**{name}**" in cells[attack][2], f"{attack}: {cells[attack]}"
    # Whoever has no key and leaves nothing signed is found by the key alone; only the kept checkpoint finds all.
    assert all("**" in row[2] for attack, row in rows if attack != "none"), rows
    assert cells["none"] == ["sound, end unproven", "sound, end unproven", "complete"]


def test_the_missing_close_is_named(made):
    assert "**missing close**" in dict(made[0])["a session's close is taken out, checkpoints too, all hashes anew"][0]


def test_the_table_in_the_readme_is_what_verify_says(made):
    stored = README.read_text().split(tamper.BEGIN)[1].split(tamper.END)[0]
    assert stored == tamper.table(made[0]), "src/evidence/README.md is stale: tests/tamper --write src/evidence/README.md"


GOLDEN = ["evidence_v1", "evidence_v1_signed", "evidence_v1_rows", "evidence_v1_sealed", "evidence_v1_holds", "evidence_v1_tickets"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_evidence_verifies_with_both(name):
    folder = ROOT / "tests" / "golden" / name
    code, report = tamper.judged(folder, [])
    assert (code, report["ok"]) == (0, True), report
    assert second_verifier.sound(folder)[0]


def test_random_damage_is_judged_alike(tmp_path):
    """Flipped bits, cuts, and pieces taken out, put in or moved, wherever they fall."""
    dice = random.Random(7)
    broken = 0
    for attempt in range(60):
        folder = tmp_path / "evidence"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tamper.GOLDEN, folder)
        path = folder / dice.choice([*sorted(p.name for p in folder.glob("segment-*")), tamper.LAST])
        data = bytearray(path.read_bytes())
        at, other = dice.randrange(len(data)), dice.randrange(len(data))
        match dice.randrange(5):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at // 16 * 16 : at // 16 * 16 + 112]
            case 3:
                data[at // 16 * 16 : at // 16 * 16] = data[other // 16 * 16 : other // 16 * 16 + 96]
            case _:
                data += data[at : at + 64]
        path.write_bytes(data)
        code, report = tamper.judged(folder, ["--checkpoint", tamper.GOLDEN / tamper.LAST])
        second, why = second_verifier.sound(folder, (tamper.GOLDEN / tamper.LAST).read_text())
        assert (second, 0 if second else 1) == (report["ok"], code), f"{attempt}: {path.name} at {at}: {report['findings']}; {why}"
        broken += not second
    assert broken > 40, f"only {broken} were found broken"


@pytest.mark.parametrize("stranger", ["segment-00000000001.evidence", "segment-1.evidence", "segment-99999999999999999999999.evidence"])
def test_a_segment_under_another_spelling_is_named_by_both(stranger, tmp_path):
    folder = tmp_path / "evidence"
    shutil.copytree(tamper.GOLDEN, folder)
    shutil.copy(folder / "segment-0000000001.evidence", folder / stranger)
    code, report = tamper.judged(folder, ["--checkpoint", tamper.GOLDEN / tamper.LAST])
    assert (code, report["ok"]) == (1, False) and stranger in report["findings"][0]["text"], report
    assert not second_verifier.sound(folder, (tamper.GOLDEN / tamper.LAST).read_text())[0]


def test_live_evidence_of_a_gateway_verifies_with_both(own_gate):
    gate = own_gate()
    with gate.connect() as db:
        db.execute("SELECT count(*) FROM items").fetchall()
    gate.stop()
    left = gate.evidence / tamper.LAST
    code, report = tamper.judged(gate.evidence, ["--checkpoint", left])
    assert (code, report["end"]["state"], report["end"]["behind"]) == (0, "reached", 0), report
    is_sound, why = second_verifier.sound(gate.evidence, left.read_text())
    assert is_sound and f"complete up to record {report['records']}" in why, why
