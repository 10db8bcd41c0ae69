"""A second opener of sealed originals, written from src/evidence/README.md and RFC 9180: no line of `evidence unseal` in it.

Packages: blake3, PyNaCl. It opens one record at a time; which records there are says `captured.records`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt, crypto_scalarmult, crypto_scalarmult_base

from captured import records, segments

SEALED = 42
WHAT = ["rows", "copy to the client", "text", "parameters", "report", "notification"]
INFO = b"pgturnstile evidence v1 sealed"
# DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
KEM, SUITE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"


def _extract(salt, suite, label, material):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(secret, suite, label, info, length):
    labelled = struct.pack("!H", length) + b"HPKE-v1" + suite + label + info
    block = hmac.digest(secret, labelled + b"\x01", hashlib.sha256)
    return block[:length]


def hpke_open(secret: bytes, encapsulated: bytes, bound: bytes, ciphertext: bytes) -> bytes:
    """RFC 9180, base mode, one message."""
    agreed = crypto_scalarmult(secret, encapsulated)
    both = encapsulated + crypto_scalarmult_base(secret)
    shared = _expand(_extract(b"", KEM, b"eae_prk", agreed), KEM, b"shared_secret", both, 32)
    context = b"\x00" + _extract(b"", SUITE, b"psk_id_hash", b"") + _extract(b"", SUITE, b"info_hash", INFO)
    scheduled = _extract(shared, SUITE, b"secret", b"")
    key = _expand(scheduled, SUITE, b"key", context, 32)
    nonce = _expand(scheduled, SUITE, b"base_nonce", context, 12)
    return crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, bound, nonce, key)


@dataclass(frozen=True)
class Original:
    session: str
    statement: int
    what: str
    row: int
    column: int
    value: bytes


def _boxed(payload: bytes, at: int) -> tuple[int, int]:
    """Where what a pair of offset and length points to begins, and how long it is."""
    offset, length = struct.unpack_from("<iI", payload, at)
    return at + offset, length


def private_key(path: Path) -> bytes:
    word, _, key = path.read_text().split()
    assert word == "PRIVATE-pgturnstile-auditor"
    return base64.b64decode(key, validate=True)


def unseal(folder: Path, secret: bytes) -> list[Original]:
    """Every original of a directory of evidence that is sealed to this key, in order."""
    log = segments(folder)[0][16:32]
    ident = blake3(crypto_scalarmult_base(secret), derive_key_context="pgturnstile evidence v1 auditor key id").digest()[:16]
    found = []
    for kind, stream, number, refers, _, payload in records(folder):
        if kind != SEALED:
            continue
        end = len(payload)
        what = payload[end - 88]
        (values,) = struct.unpack_from("<Q", payload, end - 72)
        if payload[end - 64 : end - 48] != ident:
            continue
        at, count = _boxed(payload, end - 48)
        columns = payload[at : at + 2 * count]
        encapsulated = payload[end - 40 : end - 8]
        at, length = _boxed(payload, end - 8)
        bound = log + bytes.fromhex(stream) + struct.pack("<QQBQ", number, refers, what, values) + columns
        plain = hpke_open(secret, encapsulated, bound, payload[at : at + length])
        at, begun = 0, 0
        while at < len(plain):
            row, column, flags, length = struct.unpack_from("<QHHI", plain, at)
            value = plain[at + 16 : at + 16 + length]
            assert len(value) == length
            at += 16 + length
            if flags & 2:
                found[-1] = Original(stream, refers, WHAT[what], row, column, found[-1].value + value)
            else:
                begun += 1
                found.append(Original(stream, refers, WHAT[what], row, column, value))
        assert begun == values
    return found
