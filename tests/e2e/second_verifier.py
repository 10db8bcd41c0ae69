"""A second verifier of the evidence, written from src/evidence/README.md alone: it shares no line with `pgturnstile verify`.

    python tests/e2e/second_verifier.py DIR [--checkpoint FILE] [--key KEY]

Prints what it found; exit code 0: sound, 1: not. Packages: blake3, PyNaCl. It reads a log front to back and holds all of a
segment in memory; it says what is wrong first, in a few words, and knows no crash: a torn tail is not sound.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import struct
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

NONE = 2**64 - 1
GATED, OPENS, CLOSES, EXPECTS, SETTLES = 1, 2, 4, 8, 16
STARTED, STOPPED, CHECKPOINT, ROTATED, OPENED, STATEMENT, CLOSED, JUDGED = 1, 2, 5, 6, 16, 20, 26, 27
KINDS = {*range(1, 8), *range(16, 51)}


class Wrong(Exception):
    """The first thing that is not as the README says."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


def domain_hash(domain: str, data: bytes) -> bytes:
    key = blake3(b"", derive_key_context=f"pgturnstile evidence v1 {domain}").digest()
    return blake3(data, key=key).digest()


def number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def canonical(text: str) -> bytes:
    """Base64 in its one spelling."""
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, "base64 in another spelling")
    return raw


def is_name(name: str) -> bool:
    """Nothing of it is blank, or hides or reorders text."""
    hidden = ("Cc", "Cf", "Zs", "Zl", "Zp", "Cn", "Cs")
    return bool(name) and "+" not in name and not any(unicodedata.category(c) in hidden or c in IGNORED for c in name)


# Default_Ignorable_Code_Point beyond the categories above, and the blank of Braille.
IGNORED = {*map(chr, [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10),
                      *range(0xE0000, 0xE1000)])}


# --- signed notes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    name: str
    ident: bytes
    public: bytes

    @staticmethod
    def parse(text: str) -> "Key":
        name, ident, rest = text.split("+", 2)
        raw = canonical(rest)
        need(is_name(name) and re.fullmatch("[0-9a-f]{8}", ident), "a key's name or id")
        need(len(raw) == 33 and raw[0] == 1, "no Ed25519 key")
        key = Key(name, bytes.fromhex(ident), raw[1:])
        need(hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4] == key.ident, "a key's id is not its own")
        return key


def open_note(note: str):
    """The text, and a test whether a key signed it."""
    need(len(note.encode()) <= 64 * 1024, "a note's length")
    text, empty, lines = note.rpartition("\n\n")
    need(empty and lines.endswith("\n"), "no signed note")
    text += "\n"

    def signed_by(key: Key) -> bool:
        signatures = lines[:-1].split("\n")
        need(len(signatures) <= 16, "a note of many signatures")
        for line in signatures:
            dash, name, signature = line.split(" ")
            need(dash == "\u2014", "no signature")
            raw = canonical(signature)
            need(len(raw) >= 5 and is_name(name), "a signature")
            if name == key.name and raw[:4] == key.ident:
                try:
                    VerifyKey(key.public).verify(text.encode(), raw[4:])
                    return True
                except BadSignatureError:
                    pass
        return False

    return text, signed_by


CHECKPOINT_TEXT = re.compile(
    r"pgturnstile\.evidence\.v1/([0-9a-f]{32})\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\ntime (0|[1-9][0-9]*)\n"
    r"place (0|[1-9][0-9]*) (0|[1-9][0-9]*)\nwhy (start|stop|rotation|records|interval)\nsecond-place (yes|no)\nkey (\S+)\n")
ROTATION_TEXT = re.compile(r"pgturnstile\.evidence\.v1 key rotation\nold (\S+)\nnew (\S+)\n")


@dataclass(frozen=True)
class Checkpoint:
    log: bytes
    records: int
    value: bytes
    key: Key

    @staticmethod
    def open(note: str) -> "Checkpoint":
        text, signed_by = open_note(note)
        parts = CHECKPOINT_TEXT.fullmatch(text)
        need(parts, "no checkpoint")
        key = Key.parse(parts[9])
        need(all(int(parts[at]) <= NONE for at in (2, 4, 5, 6)), "a number of a checkpoint")
        need(signed_by(key), "a checkpoint's signature is not that of its key")
        return Checkpoint(bytes.fromhex(parts[1]), int(parts[2]), canonical(parts[3]), key)


# --- the log --------------------------------------------------------------------------------------------------------


@dataclass
class Stream:
    run: int
    next: int = 0
    expected: set = field(default_factory=set)
    texts: set = field(default_factory=set)


@dataclass
class Log:
    ident: bytes = b""
    previous: bytes = bytes(32)
    sequence: int = 0
    runs: int = 0
    ended: set = field(default_factory=set)
    streams: dict = field(default_factory=dict)
    ends: dict = field(default_factory=dict)
    signed: int = 0
    keys: list = field(default_factory=list)
    signers: list = field(default_factory=list)
    checkpoints: int = 0

    def segment(self, index: int, last: bool, data: bytes):
        head = data[:256]
        need(len(head) == 256 and head[:8] == b"PGTEVID1", "no segment")
        need(head[224:] == domain_hash("segment", head[:224]), "a segment header's check")
        need(number(head, 8, 4) == 1 and number(head, 12, 4) == 256 and not any(head[176:224]), "a segment header")
        self.ident = self.ident or head[16:32]
        need(head[16:32] == self.ident and head[48:80] == self.previous, "a segment continues another log")
        need((number(head, 32, 8), number(head, 40, 8)) == (index, self.sequence), "a segment's place")
        first_of_segment = first = self.sequence
        value, hashes, at, closed = head[224:], [], 256, False
        self.ends.setdefault((self.sequence, value), len(self.ends))
        while at + 8 <= len(data) and any(data[at : at + 8]):
            length = number(data, at + 4, 4)
            frame = data[at : at + length]
            need(not closed and length >= 96 and length % 16 == 0 and len(frame) == length, "a frame")
            match frame[:4]:
                case b"PGTR":
                    self.record(frame)
                    hashes.append(frame[16:48])
                case b"PGTB":
                    need(length == 112 and frame[96:] == domain_hash("seal", frame[:96])[:16], "a seal's check")
                    need(number(frame, 8, 8) == first and number(frame, 16, 4) == len(hashes), "a block's records")
                    need(not any(frame[20:24]) and frame[32:64] == value, "a block continues another")
                    value = domain_hash("block", frame[8:64] + b"".join(hashes))
                    need(frame[64:96] == value, "a block's value")
                    first, hashes = self.sequence, []
                    self.ends.setdefault((self.sequence, value), len(self.ends))
                case b"PGTT":
                    need(length == 96 and frame[64:] == domain_hash("trailer", frame[:64]), "a trailer's check")
                    need(not hashes and frame[32:64] == value, "a trailer's value")
                    need((number(frame, 8, 8), number(frame, 16, 8)) ==
                         (first_of_segment, self.sequence - first_of_segment), "a trailer's count")
                    self.previous, closed = frame[64:], True
                case _:
                    raise Wrong("an unknown frame")
            at += length
        need(not any(data[at:]) and len(data) - at not in range(1, 8) and not hashes and (closed or last), "the end of a segment")

    def record(self, frame: bytes):
        need(len(frame) >= 112, "a record's length")
        size = number(frame, 56, 4)
        payload = frame[112 : 112 + size]
        need(-(112 + size) % 16 + 112 + size == len(frame) and not any(frame[112 + size :]), "a record's padding")
        need(frame[16:48] == domain_hash("record", frame[48 : 112 + size]), "a record's hash")
        version, kind, kind_version, flags = struct.unpack("<4H", frame[48:56])
        need((version, kind_version) == (1, 1) and kind in KINDS and flags < 32, "a record's version, kind or flags")
        need(flags & (OPENS | CLOSES) == {STARTED: OPENS, OPENED: OPENS, STOPPED: CLOSES, CLOSED: CLOSES}.get(kind, 0),
             "a record's flags")
        need(number(frame, 8, 8) == self.sequence, "a record's sequence")
        own, refers = number(frame, 80, 8), number(frame, 88, 8)
        self.stream(frame[64:80], kind, flags, own, refers, payload)
        if kind == CHECKPOINT:
            self.checkpoint(Checkpoint.open(text_of(payload)))
        if kind == ROTATED:
            self.rotation(text_of(payload))
        self.sequence += 1

    def stream(self, ident, kind, flags, own, refers, payload):
        self.runs += kind == STARTED
        need(self.runs, "a session before any run")
        if flags & OPENS:
            need(ident not in self.streams, "a stream is opened twice")
            self.streams[ident] = Stream(self.runs)
        need(ident in self.streams, "a record of a stream that is not open")
        stream = self.streams[ident]
        need(own == stream.next and (refers == NONE or refers < own), "a gap in a session")
        stream.next += 1
        if kind == JUDGED:
            stream.texts.add(own)
        if kind == STATEMENT:
            need(len(payload) >= 80 and number(payload, len(payload) - 80, 8) in stream.texts, "a statement without its text")
        if flags & SETTLES:
            need(refers in stream.expected, "an answer to nothing")
            stream.expected.remove(refers)
        if flags & EXPECTS:
            stream.expected.add(own)
        if flags & CLOSES:
            need(not stream.expected, "a statement without its result")
            del self.streams[ident]
            if kind == STOPPED:
                self.ended.add(stream.run)

    def checkpoint(self, checkpoint: Checkpoint):
        need(checkpoint.log == self.ident, "a checkpoint of another log")
        self.keys = self.keys or [checkpoint.key]
        need(checkpoint.key == self.keys[-1], "a checkpoint of a wrong key")
        stand = self.ends.get((checkpoint.records, checkpoint.value))
        need(stand is not None and stand >= self.signed, "a checkpoint of another history")
        self.signed = stand
        self.signers.append(checkpoint.key)
        self.checkpoints += 1

    def rotation(self, note: str):
        text, signed_by = open_note(note)
        parts = ROTATION_TEXT.fullmatch(text)
        need(parts, "no key rotation")
        old, new = Key.parse(parts[1]), Key.parse(parts[2])
        need(signed_by(old), "a rotation that the old key did not sign")
        self.keys = self.keys or [old]
        need(self.keys[-1] == old, "a rotation of a wrong key")
        self.keys.append(new)


def text_of(payload: bytes) -> str:
    """The one string of a payload: its root, the last 8 bytes, is an offset from there and a length."""
    root = len(payload) - 8
    need(root >= 0, "a note")
    offset, length = struct.unpack("<iI", payload[root:])
    need(0 <= root + offset <= root + offset + length <= root, "a note's place")
    return payload[root + offset : root + offset + length].decode()


def verify(folder: Path, checkpoint: str | None = None, key: str | None = None) -> str:
    """What was proven; raises Wrong."""
    log = Log()
    names = sorted(path.name for path in folder.iterdir() if re.fullmatch(r"segment-[0-9]+\.evidence", path.name))
    need(names, "no evidence")
    for index, name in enumerate(names):
        need(name == f"segment-{index:010}.evidence", "a segment is missing")
        log.segment(index, index + 1 == len(names), (folder / name).read_bytes())
    need(not any(stream.run in log.ended for stream in log.streams.values()), "a missing close")
    beside = folder / "last.checkpoint"
    if beside.exists():
        left = Checkpoint.open(beside.read_text())
        need(left.log == log.ident and (not log.keys or left.key in log.keys), "last.checkpoint: wrong log or key")
        log.keys = log.keys or [left.key]
        need((left.records, left.value) in log.ends, "last.checkpoint: cut tail or fork")
        log.signers.append(left.key)
    if key is not None:
        need(Key.parse(key) in log.signers, "wrong key")
    if checkpoint is None:
        return f"{log.sequence} records, {log.checkpoints} checkpoints; NO EVIDENCE OF COMPLETENESS"
    end = Checkpoint.open(checkpoint)
    need(end.log == log.ident, "another log was expected")
    need(not log.keys or end.key in log.keys, "the expected end is signed by a wrong key")
    need((end.records, end.value) in log.ends, "cut tail, rollback or fork: the log does not hold the expected end")
    return f"{log.sequence} records, {log.checkpoints} checkpoints; complete up to record {end.records}"


def sound(folder: Path, checkpoint: str | None = None, key: str | None = None) -> tuple[bool, str]:
    """Whether the log is sound, and why."""
    try:
        return True, verify(folder, checkpoint, key)
    except (Wrong, ValueError, struct.error) as wrong:
        return False, str(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE")
    parser.add_argument("--key", metavar="KEY")
    arguments = parser.parse_args()
    is_sound, why = sound(arguments.folder, arguments.checkpoint and arguments.checkpoint.read_text(), arguments.key)
    print(("sound: " if is_sound else "NOT SOUND: ") + why)
    sys.exit(0 if is_sound else 1)


if __name__ == "__main__":
    main()
