"""Frames of the PostgreSQL protocol, as the tap needs them: cut, built, and read where the suite's comparison looks.

Owns: framing of both directions, error fields, command tags. Both peers are ours (psql and a server or gateway on loopback), so
what cannot be cut is a bug and raises.
"""

from __future__ import annotations

import struct

SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


def frame(tag: bytes, payload: bytes = b"") -> bytes:
    """One frame."""
    return tag + struct.pack("!I", len(payload) + 4) + payload


def query(text: bytes) -> bytes:
    """A simple query."""
    return frame(b"Q", text + b"\0")


class Cutter:
    """Cuts a stream into frames."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data: bytes):
        """The whole frames that `data` completes, as (tag, payload)."""
        self.buffer += data
        at, out = 0, []
        while len(self.buffer) - at >= 5:
            length = struct.unpack_from("!I", self.buffer, at + 1)[0]
            if length < 4:
                raise ValueError(f"a frame of length {length}")
            if len(self.buffer) - at < length + 1:
                break
            out.append((bytes(self.buffer[at : at + 1]), bytes(self.buffer[at + 5 : at + 1 + length])))
            at += length + 1
        del self.buffer[:at]
        return out


def fields(payload: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse."""
    out = {}
    for part in payload.split(b"\0"):
        if part:
            out[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return out


def cstring(payload: bytes) -> str:
    """The first NUL-terminated string of a payload."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "replace")


def startup(parameters: dict[str, str], version: int = 196608) -> bytes:
    """A startup packet."""
    body = struct.pack("!I", version)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def startup_parameters(packet: bytes) -> dict[str, str]:
    """The parameters of a startup packet (without its length)."""
    parts = packet[4:].split(b"\0")
    names = [part.decode("utf-8", "replace") for part in parts]
    return {names[at]: names[at + 1] for at in range(0, len(names) - 1, 2) if names[at]}


def data_row(payload: bytes) -> list[bytes | None]:
    """The values of a DataRow."""
    count, at, out = struct.unpack_from("!H", payload)[0], 2, []
    for _ in range(count):
        length = struct.unpack_from("!i", payload, at)[0]
        at += 4
        out.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return out


def row_description(payload: bytes) -> list[bytes | int]:
    """Each field of a RowDescription: name, table, column, type, length, modifier, format, one behind the other."""
    count, at, out = struct.unpack_from("!H", payload)[0], 2, []
    for _ in range(count):
        end = payload.index(b"\0", at)
        out.append(payload[at:end])
        out += struct.unpack_from("!IHIhih", payload, end + 1)
        at = end + 19
    return out
