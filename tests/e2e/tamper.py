"""The tamper table: what `pgturnstile verify` says of each attack on a signed log, and whether the second verifier agrees.

Every attack is made on a copy of tests/golden/evidence_v1_signed: three segments, two runs, a key that passed the signing on.
It is judged alone, with a key that the auditor knows, and with a checkpoint that was kept elsewhere. Run by tests/tamper.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nacl.signing import SigningKey

import second_verifier
from harness import ROOT, binary
from second_verifier import domain_hash, number

GOLDEN = ROOT / "tests" / "golden" / "evidence_v1_signed"
LAST = "last.checkpoint"
BEGIN, END = "<!-- tamper table: made by tests/tamper -->\n", "<!-- end of tamper table -->\n"
RECORD, SEAL, TRAILER = b"PGTR", b"PGTB", b"PGTT"


class Log:
    """A log taken apart, to be put together in another way."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names = sorted(path.name for path in folder.glob("segment-*.evidence"))
        self.segments = []
        for name in self.names:
            data = (folder / name).read_bytes()
            frames, at = [], 256
            while at < len(data):
                size = number(data, at + 4, 4)
                frames.append(bytearray(data[at : at + size]))
                at += size
            self.segments.append((bytearray(data[:256]), frames))

    def records(self):
        """Segment, place in it, and frame of every record."""
        return [(frames, at, frame) for _, frames in self.segments for at, frame in enumerate(frames) if frame[:4] == RECORD]

    def nth(self, wanted):
        return self.records()[wanted]

    def of_kind(self, *kinds):
        return [entry for entry in self.records() if number(entry[2], 50, 2) in kinds]

    def write(self):
        for name, (header, frames) in zip(self.names, self.segments):
            (self.folder / name).write_bytes(bytes(header) + b"".join(bytes(frame) for frame in frames))

    def rechain(self):
        """Computes everything anew that needs no key: what somebody with this page and the disk can do."""
        previous, sequence = bytes(32), 0
        for index, (header, frames) in enumerate(self.segments):
            header[32:40] = index.to_bytes(8, "little")
            header[40:48] = sequence.to_bytes(8, "little")
            header[48:80] = previous
            header[224:] = domain_hash("segment", bytes(header[:224]))
            value, first, of_segment, hashes = bytes(header[224:]), sequence, sequence, []
            for frame in frames:
                if frame[:4] == RECORD:
                    frame[8:16] = sequence.to_bytes(8, "little")
                    frame[16:48] = domain_hash("record", bytes(frame[48 : 112 + number(frame, 56, 4)]))
                    hashes.append(bytes(frame[16:48]))
                    sequence += 1
                elif frame[:4] == SEAL:
                    frame[8:16] = first.to_bytes(8, "little")
                    frame[16:20] = len(hashes).to_bytes(4, "little")
                    frame[32:64] = value
                    value = domain_hash("block", bytes(frame[8:64]) + b"".join(hashes))
                    frame[64:96] = value
                    frame[96:] = domain_hash("seal", bytes(frame[:96]))[:16]
                    first, hashes = sequence, []
                elif frame[:4] == TRAILER:
                    frame[8:16] = of_segment.to_bytes(8, "little")
                    frame[16:24] = (sequence - of_segment).to_bytes(8, "little")
                    frame[32:64] = value
                    previous = domain_hash("trailer", bytes(frame[:64]))
                    frame[64:] = previous
        return self

    def renumber(self):
        """Numbers every stream anew, and what refers to its records: no gap is left."""
        renamed = {}
        for _, _, frame in self.records():
            stream = bytes(frame[64:80])
            numbers = renamed.setdefault(stream, {})
            numbers[number(frame, 80, 8)] = len(numbers)
            frame[80:88] = (len(numbers) - 1).to_bytes(8, "little")
            refers = number(frame, 88, 8)
            if refers != second_verifier.NONE:
                frame[88:96] = numbers[refers].to_bytes(8, "little")
            if number(frame, 50, 2) == second_verifier.STATEMENT:
                judged = 112 + number(frame, 56, 4) - 80
                frame[judged : judged + 8] = numbers[number(frame, judged, 8)].to_bytes(8, "little")
        return self

    def drop(self, entries):
        gone = {id(frame) for _, _, frame in entries}
        for _, frames in self.segments:
            frames[:] = [frame for frame in frames if id(frame) not in gone]
        return self

    def drop_signatures(self):
        """Takes every checkpoint out: the log looks like one of a gateway that never signed."""
        (self.folder / LAST).unlink(missing_ok=True)
        return self.drop(self.of_kind(second_verifier.CHECKPOINT, second_verifier.ROTATED)).renumber()


# --- the attacks: each changes a folder -------------------------------------------------------------------------------


def flipped_payload(folder):
    log = Log(folder)
    log.nth(9)[2][120] ^= 1
    log.write()


def flipped_seal(folder):
    log = Log(folder)
    next(frame for frame in log.segments[1][1] if frame[:4] == SEAL)[70] ^= 1
    log.write()


def flipped_header(folder):
    log = Log(folder)
    log.segments[2][0][100] ^= 1
    log.write()


def removed(folder):
    log = Log(folder)
    log.drop([log.nth(6)]).write()


def removed_and_recomputed(folder):
    log = Log(folder)
    log.drop([log.nth(6)]).rechain().write()


def inserted(folder):
    """A record of somebody's own, with its hash, in another's number."""
    log = Log(folder)
    frames, at, frame = log.nth(9)
    strange = bytearray(frame)
    strange[96:104] = (1).to_bytes(8, "little")
    strange[16:48] = domain_hash("record", bytes(strange[48 : 112 + number(strange, 56, 4)]))
    frames.insert(at, strange)
    log.write()


def replaced(folder):
    log = Log(folder)
    frame = log.nth(9)[2]
    frame[96:104] = (1).to_bytes(8, "little")
    frame[16:48] = domain_hash("record", bytes(frame[48 : 112 + number(frame, 56, 4)]))
    log.write()


def reordered(folder):
    log = Log(folder)
    frames, at, _ = log.nth(4)
    frames[at], frames[at + 1] = frames[at + 1], frames[at]
    log.write()


def duplicated(folder):
    log = Log(folder)
    frames, at, frame = log.nth(9)
    frames.insert(at + 1, bytearray(frame))
    log.write()


def removed_block(folder):
    log = Log(folder)
    frames = log.segments[1][1]
    seals = [at for at, frame in enumerate(frames) if frame[:4] == SEAL]
    del frames[seals[0] + 1 : seals[1] + 1]
    log.write()


def cut_inside(folder):
    path = folder / "segment-0000000001.evidence"
    path.write_bytes(path.read_bytes()[:-200])


def torn(folder):
    path = folder / "segment-0000000002.evidence"
    log = Log(folder)
    path.write_bytes(path.read_bytes()[: 256 + len(log.segments[2][1][0]) + 40])


def cut_at_block(folder, last=False):
    """The end is gone from a block on, and with it, perhaps, the checkpoint that says so."""
    log = Log(folder)
    frames = log.segments[2][1]
    first = next(at for at, frame in enumerate(frames) if frame[:4] == SEAL)
    del frames[first + 1 :]
    log.write()
    if last:
        (folder / LAST).unlink()


def cut_at_block_and_unsigned(folder):
    cut_at_block(folder, last=True)


def last_segment_gone(folder):
    (folder / "segment-0000000002.evidence").unlink()


def missing_segment(folder):
    (folder / "segment-0000000001.evidence").unlink()


def segments_swapped(folder):
    one, other = folder / "segment-0000000000.evidence", folder / "segment-0000000001.evidence"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def altered_and_recomputed(folder):
    """A result says another count of rows; everything that needs no key is computed anew."""
    log = Log(folder)
    log.of_kind(21)[3][2][112] ^= 1
    log.rechain().write()


def session_taken_out(folder):
    """A whole session is gone, everything is numbered and computed anew; the checkpoints stay."""
    log = Log(folder)
    log.drop([entry for entry in log.records() if entry[2][64:80] == bytes([4]) * 16]).renumber().rechain().write()


def rewritten_unsigned(folder):
    """The same, and the checkpoints are taken out: nothing in the log contradicts it."""
    log = Log(folder)
    log.drop([entry for entry in log.records() if entry[2][64:80] == bytes([4]) * 16]).drop_signatures().rechain().write()


def close_taken_out(folder):
    """A session's end is gone, everything is computed anew, the checkpoints are taken out."""
    log = Log(folder).drop_signatures()
    log.drop([log.of_kind(second_verifier.CLOSED)[-1]]).rechain().write()


def sign(key: SigningKey, text: str) -> str:
    """A note of somebody's own key, under the name of the gateway's."""
    public = b"\x01" + key.verify_key.encode()
    ident = hashlib.sha256(b"gateway-1\n" + public).digest()[:4]
    verifier = f"gateway-1+{ident.hex()}+{base64.b64encode(public).decode()}"
    lines = text.split("\n")
    text = "\n".join(f"key {verifier}" if line.startswith("key ") else line for line in lines)
    signature = base64.b64encode(ident + key.sign(text.encode()).signature).decode()
    return f"{text}\n\u2014 gateway-1 {signature}\n"


def put_note(frame, note):
    """A checkpoint's record with another note."""
    text = note.encode()
    payload = text + bytes(-len(text) % 4)
    payload += (-len(payload)).to_bytes(4, "little", signed=True) + len(text).to_bytes(4, "little")
    frame[56:60] = len(payload).to_bytes(4, "little")
    whole = bytes(frame[:112]) + payload
    frame[:] = whole + bytes(-len(whole) % 16)
    frame[4:8] = len(frame).to_bytes(4, "little")


def signed_by_another(folder):
    """The last checkpoint of the log is signed by somebody else's key, and everything behind it computed anew."""
    log = Log(folder)
    frame = log.of_kind(second_verifier.CHECKPOINT)[-1][2]
    text = second_verifier.open_note(second_verifier.text_of(bytes(frame[112 : 112 + number(frame, 56, 4)])))[0]
    put_note(frame, sign(SigningKey(b"\x09" * 32), text))
    (folder / LAST).unlink()
    log.rechain().write()


def rewritten_and_signed_anew(folder):
    """A session is gone, and somebody signs all of it with a key of his own: a whole log, of another hand."""
    log = Log(folder)
    log.drop([entry for entry in log.records() if entry[2][64:80] == bytes([4]) * 16]).drop_signatures().rechain().write()
    proven = second_verifier.Log()
    for index, name in enumerate(log.names):
        proven.segment(index, index + 1 == len(log.names), (folder / name).read_bytes())
    records, value = max(proven.ends, key=lambda end: end[0])
    text = (f"pgturnstile.evidence.v1/{proven.ident.hex()}\n{records}\n{base64.b64encode(value).decode()}\ntime 1\nplace 2 0\n"
            "why stop\nsecond-place no\nkey -\n")
    # The empty block of an ordered end has the same number of records: the last value is the one that counts.
    seal = [frame for frame in log.segments[-1][1] if frame[:4] == SEAL][-1]
    text = text.replace(base64.b64encode(value).decode(), base64.b64encode(bytes(seal[64:96])).decode())
    (folder / LAST).write_text(sign(SigningKey(b"\x09" * 32), text))


def set_back(folder):
    """An older copy of the whole directory: the first run, as its stop left it."""
    (folder / "segment-0000000002.evidence").unlink()
    (folder / LAST).unlink()
    log = Log(folder)
    frames = log.segments[1][1]
    stopped = next(at for at, frame in enumerate(frames) if frame[:4] == RECORD and number(frame, 50, 2) == second_verifier.STOPPED)
    del frames[stopped + 2 :]
    log.write()


def nothing(_folder):
    """No attack: it must stay sound."""


ATTACKS = {
    "none": nothing,
    "a byte of a record is flipped": flipped_payload,
    "a byte of a block's end is flipped": flipped_seal,
    "a byte of a segment's header is flipped": flipped_header,
    "a record is removed": removed,
    "… and every hash behind it computed anew": removed_and_recomputed,
    "a record is inserted": inserted,
    "a record is replaced": replaced,
    "two records change places": reordered,
    "a record is duplicated": duplicated,
    "a whole block is removed": removed_block,
    "the end of an inner segment is cut off": cut_inside,
    "the end of the log is cut inside a record": torn,
    "the end is cut off behind a block": cut_at_block,
    "… and last.checkpoint deleted": cut_at_block_and_unsigned,
    "the last segment is deleted": last_segment_gone,
    "an inner segment is deleted": missing_segment,
    "two segments change names": segments_swapped,
    "a result is altered, every hash computed anew": altered_and_recomputed,
    "a whole session is taken out, all numbers and hashes anew": session_taken_out,
    "… and every checkpoint taken out": rewritten_unsigned,
    "… and the whole signed with another key": rewritten_and_signed_anew,
    "a session's close is taken out, checkpoints too, all hashes anew": close_taken_out,
    "a checkpoint is signed with another key": signed_by_another,
    "an older copy of the directory is put back": set_back,
}


# --- what is said of them -----------------------------------------------------------------------------------------------


def known_key() -> str:
    """The key of the golden log's first checkpoint: what an auditor was given when it began."""
    return (GOLDEN / "earlier.note").read_text().split("\nkey ")[1].split("\n")[0]


def ways():
    """How an auditor verifies: arguments of the command, and of the second verifier."""
    note = GOLDEN / LAST
    key = known_key()
    return {
        "alone": ([], {}),
        "--key": (["--key", key], {"key": key}),
        "--checkpoint": (["--checkpoint", note], {"checkpoint": note.read_text()}),
    }


def judged(folder, arguments):
    """What `verify` says: exit code and report."""
    done = subprocess.run([binary(), "verify", folder, "--json", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def attacked(attack, folder: Path) -> Path:
    target = folder / "evidence"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(GOLDEN, target)
    ATTACKS[attack](target)
    return target


def said(report) -> str:
    """A cell of the table."""
    if not report["ok"]:
        finding = report["findings"][0]
        bad = report["first_bad"]
        return f"**{finding['what']}**" + (f" at record {bad['sequence']}" if bad else "")
    if report["end"]["state"] == "reached":
        return "complete"
    return "sound, end unproven" if report["signed"]["keys"] else "sound, nothing signed"


def rows():
    made, disagreements = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for attack in ATTACKS:
            folder = attacked(attack, Path(scratch))
            cells = []
            for way, (arguments, known) in ways().items():
                code, report = judged(folder, arguments)
                second, why = second_verifier.sound(folder, **known)
                if second != report["ok"] or code != (0 if second else 1):
                    disagreements.append(f"{attack}, {way}: verify says {report['findings']}, the second verifier: {why}")
                cells.append(said(report))
            made.append((attack, cells))
    return made, disagreements


def table(made) -> str:
    lines = ["| what somebody did | `verify DIR` | … `--key`, the log's first | … `--checkpoint`, kept elsewhere |", "|---|---|---|---|"]
    lines += [f"| {attack} | {' | '.join(cells)} |" for attack, cells in made]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers there")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    arguments = parser.parse_args()
    made, disagreements = rows()
    print(json.dumps([{"attack": attack, **dict(zip(ways(), cells))} for attack, cells in made], indent=1) if arguments.json
          else table(made), end="" if not arguments.json else "\n")
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(before + BEGIN + table(made) + END + rest.split(END)[1])
    for disagreement in disagreements:
        print(disagreement, file=sys.stderr)
    sys.exit(1 if disagreements else 0)


if __name__ == "__main__":
    main()
