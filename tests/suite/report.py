"""What both commands print: progress, tables between markers of tests/README.md.

Owns: the lines that a person reads while it runs, and the replacement of a marked part of a document. Fails loudly: a marker
that is not there is an error, not a silent no.
"""

from __future__ import annotations

import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def progress(line: str):
    """One line to the terminal, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def table(header: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def replace(name: str, text: str, path: Path = README):
    """Puts `text` between the markers of `name`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text()
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise ValueError(f"{path} needs the markers {begin} and {end}, once each")
    head, rest = whole.split(begin)
    tail = rest.split(end)[1]
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")
