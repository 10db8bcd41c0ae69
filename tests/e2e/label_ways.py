"""Every way by which rows come back, and the disguises under which a value may stand in the bytes."""

from __future__ import annotations

import base64
import hashlib
import re

from wire import SYNC, bind, describe, errors, execute, parse, query

ALL = (
    "simple", "extended text", "extended binary", "extended described", "portal in pieces", "prepared", "cursor",
    "binary cursor", "copy text", "copy csv", "copy binary",
)  # fmt: skip


def bring(client, way, sql) -> list[tuple[str, bytes]]:
    """Every frame that comes back of one statement by one way. Ends outside a transaction."""
    if way == "simple":
        return client.ask(query(sql))
    if way == "extended text":
        return client.ask(parse(sql), bind(), execute(), SYNC)
    if way == "extended binary":
        return client.ask(parse(sql), bind(result_formats=(1,)), execute(), SYNC)
    if way == "extended described":
        return client.ask(parse(sql), describe("S"), bind(), describe("P"), execute(), SYNC)
    if way == "portal in pieces":
        frames = client.ask(query("BEGIN")) + client.ask(parse(sql), bind(portal="p"), execute("p", 2), SYNC)
        if not errors(frames):
            frames += client.ask(execute("p", 1), execute("p"), SYNC)
        return frames + client.ask(query("ROLLBACK"))
    if way == "prepared":
        frames = client.ask(query(f"PREPARE held AS {sql}"))
        return frames if errors(frames) else frames + client.ask(query("EXECUTE held")) + client.ask(query("DEALLOCATE held"))
    if way in ("cursor", "binary cursor"):
        kind = "BINARY CURSOR" if way == "binary cursor" else "CURSOR"
        frames = client.ask(query("BEGIN")) + client.ask(query(f"DECLARE held {kind} FOR {sql}"))
        if not errors(frames):
            frames += client.ask(query("FETCH 2 FROM held")) + client.ask(parse("FETCH ALL FROM held"), bind(), execute(), SYNC)
        return frames + client.ask(query("ROLLBACK"))
    return client.ask(query(f"COPY ({sql}) TO STDOUT (FORMAT {way.removeprefix('copy ')})"))


def data(frames) -> bytes:
    """All bytes of all frames."""
    return b"\n".join(body for _, body in frames)


def disguises(word: str) -> set[bytes]:
    """What a word may look like where it should not stand: lineage 5.1 of the design."""
    raw, found = word.encode(), set()
    for form in (word, word.lower(), word.capitalize(), word[::-1], word[::-1].lower()):
        found.add(form.encode())
        found.add(form.encode().hex().encode())
        found.add(form.encode().hex().upper().encode())
        found.add(form.encode("utf-16-le"))
        found.add(form.encode("utf-16-be"))
        found.add("".join(f"%{byte:02X}" for byte in form.encode()).encode())
        found.add("".join(f"={byte:02X}" for byte in form.encode()).encode())
        found.add("".join(f"\\u{byte:04x}" for byte in form.encode()).encode())
        for separator in (",", ", ", " ", ";", "|", "}, {"):
            found.add(separator.join(str(byte) for byte in form.encode()).encode())
            found.add(separator.join(form).encode())
        for shift in range(3):
            # Without the characters that depend on what stands beside it.
            coded = base64.b64encode(b"\0" * shift + form.encode())
            found.add(coded[-(-shift * 8 // 6):(shift + len(form)) * 8 // 6])
    for digest in ("md5", "sha1", "sha256"):
        found.add(hashlib.new(digest, raw).hexdigest()[:12].encode())
    found.add(raw.translate(bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"NOPQRSTUVWXYZABCDEFGHIJKLM")))
    return {form for form in found if len(form) >= 4}


def in_no_order(frames) -> list[tuple[str, bytes]]:
    """Frames with the rows behind all others, sorted: a plan may give them in another order. A refusal's reference is its own."""
    frames = [(tag, re.sub(rb"\[ref \w+\]", b"", body) if tag == "E" else body) for tag, body in frames]
    rows = [(tag, body) for tag, body in frames if tag in "Dd"]
    return [(tag, body) for tag, body in frames if tag not in "Dd"] + sorted(rows)
