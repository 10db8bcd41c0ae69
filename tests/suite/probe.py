"""What the server itself says of a text: does it write, and which relations does it lock?

Owns: the questions that are asked in psql's own session before a text runs, each in a transaction or behind a savepoint that is
rolled back, and their answers. May not: change what the session goes on with, beyond what no rollback undoes (sequences, session
locks), which this comparison does not look at.

    no transaction open      BEGIN READ ONLY; text; locks; ROLLBACK
    in a transaction         SAVEPOINT; SET LOCAL transaction_read_only TO on; locks; text; locks; ROLLBACK TO; RELEASE
    it writes                once more without read-only, for the locks
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import frames

READ_ONLY_VIOLATED = "25006"
# What ends or opens a transaction, or cannot be undone: not asked.
CONTROL = re.compile(
    r"\b(begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction|discard"
    r"|set\s+((local|session)\s+)?transaction|set\s+session\s+characteristics)\b",
    re.IGNORECASE,
)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

# Every locked relation of users: its name, whether code of users may stand behind it, and the relations by which it may have been
# reached from one that is named: ancestors and descendants, ends of foreign keys, views and what they read, owned
# sequences, and those of defaults.
LOCKS = b"""
SELECT c.oid, c.relname, CASE WHEN c.relhasrules AND c.relkind NOT IN ('v', 'm') OR c.relrowsecurity
    OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.objid = r.oid WHERE r.ev_class = c.oid
      AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass) THEN 'code' ELSE '' END,
  (SELECT pg_catalog.string_agg(o.relname, ',') FROM pg_catalog.pg_class o WHERE o.oid IN (
    SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
    UNION SELECT k.conrelid FROM pg_catalog.pg_constraint k WHERE k.confrelid = c.oid
    UNION SELECT k.confrelid FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid
    UNION SELECT r.ev_class FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
      WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refobjid = c.oid
    UNION SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    UNION SELECT f.adrelid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
      WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refobjid = c.oid
    UNION SELECT a.attrelid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.atttypid = d.objid
      WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.refobjid = c.oid
    UNION SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid
    UNION SELECT d.objid FROM pg_catalog.pg_depend d WHERE d.refobjid = c.oid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass))
FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.oid >= 16384 AND c.oid IN (
  SELECT l.relation FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted)
"""


@dataclass
class Locked:
    """One relation that the server locked."""

    oid: str
    name: str
    code: bool
    near: list[str]


@dataclass
class Verdict:
    """The server's answer."""

    # `reads`, `writes`, `fails` (with its SQLSTATE), `not asked`.
    says: str
    sqlstate: str = ""
    locked: list[Locked] = field(default_factory=list)


def askable(text: str, status: str) -> bool:
    """Whether the text can be tried and taken back."""
    bare = COMMENT.sub(" ", text).strip()
    if status not in ("I", "T") or not bare:
        return False
    one = re.split(r"\s", bare, maxsplit=1)[0].rstrip(";").lower()
    first = CONTROL.match(bare)
    several = ";" in bare.rstrip("; \n\t")
    return not first and one != "copy" and not (several and CONTROL.search(bare))


def ask(connection, exchange):
    """The prober of a tap: leaves its verdict on the exchange."""
    text = exchange.text
    if not askable(text, exchange.before):
        exchange.verdict = Verdict("not asked")
        return
    verdict = conversation(connection, exchange.before, text, read_only=True)
    if verdict.says == "writes":
        verdict.locked = conversation(connection, exchange.before, text, read_only=False).locked
    exchange.verdict = verdict


def conversation(connection, status: str, text: str, read_only: bool) -> Verdict:
    """One try."""
    said = text.encode()
    if status == "I":
        asked = [b"BEGIN READ ONLY" if read_only else b"BEGIN", said, LOCKS, b"ROLLBACK"]
        at = 1
    else:
        mode = b"SET LOCAL transaction_read_only TO on" if read_only else b"SELECT"
        asked = [b"SAVEPOINT pgturnstile_probe", mode, LOCKS, said, LOCKS, b"ROLLBACK TO pgturnstile_probe", b"RELEASE pgturnstile_probe"]
        at = 3
    # One after the other: a text that asks for COPY data would swallow what stands behind it.
    answers = [connection.converse(frames.query(one)) for one in asked]
    errors = [error["C"] for error in answers[at].errors]
    before = {lock.oid for lock in locks(answers[at - 1])} if status != "I" else set()
    found = [lock for lock in locks(answers[at + 1]) if lock.oid not in before]
    if READ_ONLY_VIOLATED in errors:
        return Verdict("writes", READ_ONLY_VIOLATED)
    return Verdict("fails", errors[0], found) if errors else Verdict("reads", "", found)


def locks(answer) -> list[Locked]:
    """The rows of LOCKS."""
    out = []
    for tag, payload in answer.server:
        if tag == b"D":
            oid, name, code, near = [None if value is None else value.decode() for value in frames.data_row(payload)]
            out.append(Locked(oid, name, code == "code", near.split(",") if near else []))
    return out
