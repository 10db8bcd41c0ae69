"""The comparisons of tests/regress and tests/classify themselves: that they find what they are there to find."""

import re
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from suite import classify, compare, probe  # noqa: E402
from suite.tap import Exchange, Session  # noqa: E402


def row(*values):
    body = struct.pack("!H", len(values))
    return b"D", body + b"".join(struct.pack("!i", len(value)) + value for value in values)


def exchange(sql, *server, after="I"):
    return Exchange(client=[(b"Q", sql.encode() + b"\0")], server=[*server, (b"Z", after.encode())], before="I", after=after)


def error(code, message):
    return b"E", f"SERROR\0C{code}\0M{message}\0\0".encode()


def differences(ours, theirs, known=()):
    sessions = [Session("some", exchanges=list(one)) for one in (ours, theirs)]
    return compare.session_differences("some", 0, *sessions, known, compare.Numbers())


def test_the_same_is_no_difference():
    said = [exchange("SELECT 1", row(b"1"), (b"C", b"SELECT 1\0"))]
    assert differences(said, said) == []


@pytest.mark.parametrize(
    "other",
    [
        exchange("SELECT 1", row(b"2"), (b"C", b"SELECT 1\0")),
        exchange("SELECT 1", (b"C", b"SELECT 1\0")),
        exchange("SELECT 1", row(b"1"), (b"C", b"SELECT 2\0")),
        exchange("SELECT 1", row(b"1"), (b"C", b"SELECT 1\0"), after="T"),
        exchange("SELECT 1", row(b"1"), error("22012", "division by zero")),
        exchange("SELECT 1", row(b"1", b"1"), (b"C", b"SELECT 1\0")),
        exchange("SELECT 2", row(b"1"), (b"C", b"SELECT 1\0")),
    ],
)
def test_every_difference_is_found_and_unexplained(other):
    found = differences([exchange("SELECT 1", row(b"1"), (b"C", b"SELECT 1\0"))], [other])
    assert [item["rule"] for item in found] == [None]


def test_an_exchange_more_is_a_difference():
    one = exchange("SELECT 1", row(b"1"))
    assert differences([one], [one, one])


def test_object_numbers_match_one_to_one():
    numbers = compare.Numbers()
    assert numbers.same_frames([row(b"20001 t")], [row(b"20003 t")])
    assert numbers.same_frames([row(b"x 20001")], [row(b"x 20003")])
    assert not numbers.same_frames([row(b"20001")], [row(b"20004")]), "it has another partner"
    assert not numbers.same_frames([row(b"20002")], [row(b"20003")]), "that partner is taken"
    assert not numbers.same_frames([row(b"20001 x")], [row(b"20001 y")]), "only numbers may differ"
    assert not numbers.same_frames([row(b"7")], [row(b"8")]), "no object of users"
    # What a comparison that failed had matched is forgotten.
    assert not numbers.same_frames([row(b"30001", b"a")], [row(b"30009", b"b")])
    assert numbers.same_frames([row(b"30001")], [row(b"30001")])


def test_a_rule_explains_only_what_it_leaves_out():
    rule = compare.Rule("salt", "difference", re.compile(rb"SALT:\w+"), "chance", "none")
    ours, theirs = exchange("SELECT s", row(b"SALT:abc")), exchange("SELECT s", row(b"SALT:xyz"))
    assert [item["rule"] for item in differences([ours], [theirs], [rule])] == ["salt"]
    theirs = exchange("SELECT s", row(b"SALT:xyz and more"))
    assert [item["rule"] for item in differences([ours], [theirs], [rule])] == [None]
    assert rule.uses == 1


def test_rules_about_rows_hold_where_they_say():
    ordered = compare.Rule("order", "difference", re.compile(rb"^$"), "chance", "none", where=re.compile("^some\nSELECT x"), rows="order")
    one, two = (row(b"a"), row(b"b")), (row(b"b"), row(b"a"))
    assert [item["rule"] for item in differences([exchange("SELECT x", *one)], [exchange("SELECT x", *two)], [ordered])] == ["order"]
    assert [item["rule"] for item in differences([exchange("SELECT y", *one)], [exchange("SELECT y", *two)], [ordered])] == [None]
    other = exchange("SELECT x", row(b"a"), row(b"c"))
    assert [item["rule"] for item in differences([exchange("SELECT x", *one)], [other], [ordered])] == [None]


def test_the_rules_are_sound():
    known = compare.rules("refusal", "difference", "lock", "write")
    assert len({rule.id for rule in known}) == len(known)
    assert all(rule.reason and rule.decision for rule in known)


def atoms(*found, tag="SELECT", cls="read.select", **more):
    listed = [{"class": kind, "object": name} for kind, name in found]
    return {"statements": [{"atoms": listed, "tag": tag, "class": cls, "carried": False}], "notes": [], "action": "allow", "message": "", **more}


def locked(name, near=(), code=False):
    return probe.Locked("20000", name, code, list(near))


@pytest.mark.parametrize(
    "answer, locks, left",
    [
        (atoms(("read.select", "public.a")), [locked("a")], []),
        (atoms(("read.select", "public.a")), [locked("a"), locked("b")], ["b"]),
        (atoms(("read.select", "v")), [locked("c", ["b"]), locked("b", ["v"]), locked("v")], []),
        (atoms(("read.select", "a"), ("call.function", "f")), [locked("b")], []),
        (atoms(("read.select", "a")), [locked("a", code=True), locked("b")], []),
        (atoms(("read.select", "a")), [locked("b", code=True)], ["b"]),
        (atoms(), [locked("b")], ["b"]),
    ],
)
def test_relations_that_nothing_leads_to(answer, locks, left):
    assert classify.hidden(answer, "SELECT", locks, []) == left


def kinds(verdict, reading, writing=None, proven=False, tag="SELECT 1", server=()):
    said = exchange("SELECT f()", *server, (b"C", tag.encode() + b"\0"))
    said.verdict = verdict
    return [kind for kind, _ in classify.disagreements({"exchange": said, "proven": proven, "code": False}, reading, writing or reading, [])]


def test_a_read_that_writes_is_unsafe():
    writes, reads = probe.Verdict("writes", "25006"), probe.Verdict("reads")
    plain, refused = atoms(("read.select", "a")), atoms(("read.select", "a"), action="refuse")
    assert kinds(reads, plain) == []
    assert kinds(writes, plain) == ["unsafe: called a read"]
    assert kinds(reads, plain, tag="INSERT 0 1")[0] == "unsafe: called a read"
    assert kinds(writes, plain, proven=True) == ["unsafe: proven", "unsafe: called a read"]
    assert kinds(writes, refused, plain) == []
    assert kinds(writes, atoms(("call.function", "f"))) == ["named code that writes"]
    assert kinds(reads, refused, refused) == ["refused, and the server reads"]


@pytest.mark.parametrize(
    "text, status, yes",
    [
        ("SELECT 1", "I", True),
        ("-- COMMIT\nSELECT 'commit'", "T", True),
        ("SELECT 1", "E", False),
        ("COMMIT", "T", False),
        ("/* x */ rollback to here;", "T", False),
        ("PREPARE TRANSACTION 'x'", "T", False),
        ("SELECT 1; COMMIT; SELECT 2", "I", False),
        ("SET TRANSACTION READ ONLY", "T", False),
        ("SET work_mem = 100", "I", True),
        ("COPY t FROM STDIN", "I", False),
        ("", "I", False),
    ],
)
def test_what_can_be_asked(text, status, yes):
    assert probe.askable(text, status) is yes
