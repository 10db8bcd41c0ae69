"""Tables in tests/README.md between markers.

Owns: finding the markers and replacing what stands between them. Fails: a file without the markers is an error.
"""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def replace(name: str, text: str, file: Path = README) -> bool:
    """Puts `text` between the markers of that name; whether the file changed."""
    opening, closing = f"<!-- {name}: written by tests/{name} -->", f"<!-- /{name} -->"
    old = file.read_text(encoding="utf-8")
    if old.count(opening) != 1 or old.count(closing) != 1:
        raise SystemExit(f"{file} lacks the markers {opening} and {closing}")
    before, _, rest = old.partition(opening)
    _, _, behind = rest.partition(closing)
    new = f"{before}{opening}\n\n{text.strip()}\n\n{closing}{behind}"
    if new != old:
        file.write_text(new, encoding="utf-8")
    return new != old


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])
