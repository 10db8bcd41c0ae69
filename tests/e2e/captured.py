"""Rows and COPY data out of the segments, byte for byte, read as src/evidence/README.md says: no line of `evidence show` in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from wire import row

ROWS, COPIED, ENDED, RESULT, TEXT = 36, 37, 38, 21, 33


@dataclass
class Result:
    """What was captured of one result: the bytes of its frames, and whether capture ended before it did."""

    frames: bytes = b""
    cut: bool = False
    records: int = 0
    whole: bool = False
    clocks: list = field(default_factory=list)

    def bodies(self):
        """Bodies of its frames, those that are whole."""
        at = 0
        while at + 5 <= len(self.frames):
            (size,) = struct.unpack_from("!I", self.frames, at + 1)
            if at + 1 + size > len(self.frames):
                return
            yield self.frames[at + 5 : at + 1 + size]
            at += 1 + size

    def rows(self):
        return [row(body) for body in self.bodies()]

    def data(self):
        return b"".join(self.bodies())


def segments(folder: Path) -> list[bytes]:
    """The segments of a directory, in order; of copies under other names, too."""
    found = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    return sorted((data for data in found if data[:8] == b"PGTEVID1"), key=lambda data: data[32:40][::-1])


def records(folder: Path):
    """Every record of the segments: kind, stream, number, reference, monotonic clock, payload. A torn tail ends it."""
    for data in segments(folder):
        at = 256
        while data[at : at + 4] in (b"PGTR", b"PGTB", b"PGTT"):
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            frame = data[at : at + length]
            if frame[:4] == b"PGTR" and len(frame) == length:
                kind, size = struct.unpack_from("<H", frame, 50)[0], struct.unpack_from("<I", frame, 56)[0]
                number, refers = struct.unpack_from("<QQ", frame, 80)
                yield kind, frame[64:80].hex(), number, refers, struct.unpack_from("<Q", frame, 104)[0], frame[112 : 112 + size]
            at += length


def last_bytes(payload: bytes) -> bytes:
    """The frames that a payload of kind 36 or 37 ends with."""
    root = len(payload) - 8
    offset, length = struct.unpack_from("<iI", payload, root)
    return payload[root + offset : root + offset + length]


def results(folder: Path, session: str, statement: int) -> list[Result]:
    """The results of a statement, in order; the last may be without its end."""
    found, running = [], Result()
    for kind, stream, _, refers, clock, payload in records(folder):
        if (stream, refers) != (session, statement):
            continue
        if kind in (ROWS, COPIED):
            running.frames += last_bytes(payload)
            running.records += 1
            running.clocks.append(clock)
        elif kind == ENDED:
            running.cut = True
        elif kind == RESULT:
            running.whole = True
            found.append(running)
            running = Result()
    return found + ([running] if running.records or running.cut else [])


def statement_of(gate, sql: str) -> tuple[str, int]:
    """Session and number of the last statement with this exact text; of a prepared one, those of its last Bind."""
    shown = gate.records()
    text = [r for r in shown if r["kind"] == "statement-text" and r["payload"]["text"].get("whole") == sql][-1]
    binds = [
        r for r in shown if r["kind"] == "statement" and r["session"] == text["session"]
        and r.get("refers") == text["refers"] and r["payload"]["protocol"] == "execute"
    ]
    return text["session"], (binds[-1]["session_sequence"] if binds else text["refers"])


def captured(gate, sql: str) -> list[Result]:
    """What was captured of the last statement with this exact text."""
    return results(gate.evidence, *statement_of(gate, sql))
