"""What differs between two runs of the suite, and whether a rule of explanations.toml says why.

Owns: the reading of the rules, the alignment of two recordings, and the list of differences. Fails closed: what no rule explains
is unexplained, and a rule of a refusal that explains nothing any more is stale; the command fails on either.

    direct ──────────► what the suite does without a gateway
    gate   ──────────► the same through the gateway; some texts are refused
    mirror ──────────► direct again, with exactly the texts kept from the server that the gateway refused

A difference between direct and gate is *a refusal* (each needs a rule of [[refusal]]), or *follows* from the refusals before it:
that is proven by the mirror, which agrees with the gate in every frame of every exchange. Where it does not, the
difference needs a rule of [[difference]].
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from . import frames
from .runs import Run
from .tap import Exchange

EXPLANATIONS = Path(__file__).resolve().parent / "explanations.toml"
# Longest text shown of a statement or reply.
SHOWN_CHARS = 160


@dataclass
class Rule:
    """One explanation."""

    id: str
    kind: str
    # Of a refusal: what is found in its severity, SQLSTATE and message. Of a difference: what is left out of both sides, which
    # must then be the same. Of a lock: what is found in the text.
    pattern: re.Pattern
    reason: str
    decision: str
    # Of a refusal: the server itself must deny the same text, asked by the mirror.
    server_too: bool = False
    # Of a difference: where it may be, found in the file's name, a line end and the text.
    where: re.Pattern | None = None
    # Of a difference: "same" rows, the same in any "order", or "any" rows at all.
    rows: str = "same"
    uses: int = 0


def rules(*kinds: str, path: Path = EXPLANATIONS) -> list[Rule]:
    """The checked-in explanations of these kinds, in order: the first that fits is taken."""
    with open(path, "rb") as file:
        read = tomllib.load(file)
    out = []
    for kind in kinds:
        for entry in read.get(kind, []):
            unknown = set(entry) - {"id", "pattern", "reason", "decision", "server_too", "where", "rows"}
            if unknown:
                raise ValueError(f"{path}: unknown keys {sorted(unknown)} in {entry.get('id')}")
            pattern = re.compile(entry["pattern"].encode() if kind == "difference" else entry["pattern"], re.DOTALL)
            where = re.compile(entry["where"], re.DOTALL) if "where" in entry else None
            out.append(Rule(entry["id"], kind, pattern, entry["reason"], entry["decision"], entry.get("server_too", False), where,
                            entry.get("rows", "same")))
    return out


def shown(text: str) -> str:
    """One short line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + "…"


def spoken(exchange: Exchange) -> str:
    """What an exchange's replies say, for people."""
    parts = []
    for tag, payload in exchange.server:
        if tag in (b"E", b"N"):
            fields = frames.fields(payload)
            parts.append(" ".join(fields[name] for name in "SCMDHW" if name in fields))
        elif tag == b"C":
            parts.append(frames.cstring(payload))
        elif tag == b"D":
            parts.append("row " + payload[2:].decode("utf-8", "replace").replace("\0", ""))
        elif tag == b"S":
            parts.append("status " + payload.decode("utf-8", "replace").replace("\0", " "))
        elif tag == b"Z":
            parts.append(payload.decode())
    return " | ".join(parts)


def refusals(run: Run, mirror: Run, tests: list[str], known: list[Rule]) -> list[dict]:
    """Every answer of the gateway's own. What the mirror asked the server about them decides `server_too`."""
    out = []
    for test in tests:
        for number, session in enumerate(run.recording.get(test, [])):
            for at, exchange in enumerate([session.login, *session.exchanges]):
                said = exchange.gateways()
                if said is None:
                    if exchange.ended and at > 0:
                        out.append(entry("refusal", test, number, at, exchange, "the session ended without a word", None))
                    continue
                words = f"{said['S']} {said['C']} {said['M']}"
                rule = next((rule for rule in known if rule.kind == "refusal" and rule.pattern.search(words)
                             and (not rule.server_too or (test, number, at) in mirror.denied)), None)
                if rule is not None:
                    rule.uses += 1
                out.append(entry("refusal", test, number, at, exchange, words, rule))
    return out


def entry(kind, test, session, at, exchange, words, rule, **more) -> dict:
    """One difference as JSON speaks it."""
    return {
        "kind": kind,
        "test": test,
        "session": session,
        "exchange": at,
        "sql": exchange.text if exchange else "",
        "words": words,
        "rule": rule.id if rule else None,
        **more,
    }


class Numbers:
    """Object numbers of two runs, matched one to one: the server counts them through everything that it makes, and a refusal that is
    stood in for may leave the two counters apart. Texts that are equal are the same; where they differ in numbers alone, each must be
    an object's (FIRST_USER_OID), and neither may have met another partner before."""

    FIRST_USER_OID = 16_384

    def __init__(self):
        self.theirs: dict[int, int] = {}
        self.ours: dict[int, int] = {}
        # Pairs of the comparison under way: kept if it ends well.
        self.tried: list[tuple[int, int]] = []
        self.left_out: re.Pattern | None = None

    def match(self, our: int, their: int) -> bool:
        """Whether the two may be one object."""
        if our == their and our not in self.theirs and their not in self.ours:
            return True
        if our != their and min(our, their) < self.FIRST_USER_OID:
            return False
        if our not in self.theirs and their not in self.ours:
            self.tried.append((our, their))
            self.theirs[our], self.ours[their] = their, our
        return self.theirs.get(our) == their and self.ours.get(their) == our

    def same(self, our: bytes, their: bytes) -> bool:
        """Whether two texts are the same up to such numbers."""
        if self.left_out is not None:
            our, their = self.left_out.sub(b"", our), self.left_out.sub(b"", their)
        if our == their:
            return True
        a, b = re.split(rb"(\d+)", our), re.split(rb"(\d+)", their)
        return len(a) == len(b) and all(
            x == y or (at % 2 == 1 and self.match(int(x), int(y))) for at, (x, y) in enumerate(zip(a, b))
        )

    def same_frame(self, our: tuple[bytes, bytes], their: tuple[bytes, bytes]) -> bool:
        """The same of two frames."""
        if our == their:
            return True
        if our[0] != their[0]:
            return False
        if our[0] == b"T":
            a, b = frames.row_description(our[1]), frames.row_description(their[1])
        elif our[0] == b"D":
            a, b = frames.data_row(our[1]), frames.data_row(their[1])
        else:
            return self.same(our[1], their[1])
        return len(a) == len(b) and all(
            x == y
            or (isinstance(x, int) and isinstance(y, int) and self.match(x, y))
            or (isinstance(x, bytes) and isinstance(y, bytes) and self.same(x, y))
            for x, y in zip(a, b)
        )

    def same_frames(self, ours: list, theirs: list, rule: Rule | None = None) -> bool:
        """The same of two lists of them, with what a rule leaves out of both."""
        self.tried, self.left_out = [], rule.pattern if rule else None
        if rule and rule.rows != "same":
            ours, theirs = loosened(ours, rule.rows), loosened(theirs, rule.rows)
        if len(ours) == len(theirs) and all(self.same_frame(x, y) for x, y in zip(ours, theirs)):
            return True
        for our, their in self.tried:
            del self.theirs[our], self.ours[their]
        return False


def loosened(said: list, rows: str) -> list:
    """Frames with their rows in one order, or without them."""
    found = sorted(one for one in said if one[0] == b"D") if rows == "order" else []
    return [one for one in said if one[0] not in (b"D", b"C")] + found


def opening(client: list) -> list:
    """What psql asked for. When it stops sending COPY data to a statement that fails is a matter of time."""
    return [one for one in client if one[0] not in (b"d", b"c", b"f")]


def beside_refusals(gate: Run, mirror: Run, tests: list[str], known: list[Rule]) -> list[dict]:
    """Where the gate's exchanges differ from the mirror's."""
    out, numbers = [], Numbers()
    for test in tests:
        ours, theirs = gate.recording.get(test, []), mirror.recording.get(test, [])
        if len(ours) != len(theirs):
            out.append(entry("difference", test, 0, 0, None, f"{len(ours)} sessions, without the gateway {len(theirs)}", None))
        for number, (our, their) in enumerate(zip(ours, theirs)):
            out += session_differences(test, number, our, their, known, numbers)
    return out


def session_differences(test, number, our, their, known, numbers) -> list[dict]:
    """The same of one session."""
    out = []
    if len(our.exchanges) != len(their.exchanges):
        words = f"{len(our.exchanges)} exchanges, without the gateway {len(their.exchanges)}"
        out.append(entry("difference", test, number, 0, our.exchanges[-1] if our.exchanges else None, words, None))
    for at, (mine, other) in enumerate(zip(our.exchanges, their.exchanges), 1):
        fitting = [rule for rule in known if rule.kind == "difference"
                   and (rule.where is None or rule.where.search(f"{test}\n{mine.text}"))]
        asked = numbers.same_frames(opening(mine.client), opening(other.client))
        if asked and mine.after == other.after and numbers.same_frames(mine.server, other.server):
            continue
        rule = next((rule for rule in fitting if mine.after == other.after
                     and (asked or numbers.same_frames(opening(mine.client), opening(other.client), rule))
                     and numbers.same_frames(mine.server, other.server, rule)), None)
        if rule is None and not asked:
            out.append(entry("difference", test, number, at, mine, "psql itself went another way", None, other=other.text))
            break
        if rule is not None:
            rule.uses += 1
        out.append(entry("difference", test, number, at, mine, spoken(mine), rule, other=spoken(other)))
    return out


def hunks(direct: Run, gate: Run, test: str) -> list[dict]:
    """Where psql's two outputs differ, and whether the gateway speaks in it."""
    a, b = direct.output(test), gate.output(test)
    out = []
    for verb, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if verb == "equal":
            continue
        told = any("pgturnstile" in line for line in b[b0:b1])
        out.append({"direct": [a0 + 1, a[a0:a1]], "gateway": [b0 + 1, b[b0:b1]], "why": "refused" if told else "follows"})
    return out


def stale(known: list[Rule]) -> list[str]:
    """Rules of refusals that explained nothing; what chance moves need not move in every run."""
    return [rule.id for rule in known if rule.uses == 0 and rule.kind == "refusal"]


def by_rule(found: list[dict]) -> Counter:
    """How often each rule spoke."""
    return Counter(item["rule"] or "UNEXPLAINED" for item in found)
