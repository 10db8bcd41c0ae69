"""What `pgturnstile explain --each` says of many texts.

Owns: the files that it reads, and its answers. May not: judge. Fails loudly: an answer that is missing is an error.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from . import runs, sources


def each(folder: Path, texts: list[dict], policy: Path, *catalog) -> list[dict]:
    """One answer a text, in their order. `catalog` is what says which relations there are (`--dsn`, URL)."""
    claims, lines = folder / "claims.json", folder / "texts.jsonl"
    claims.write_text(json.dumps({"issuer": "dev", "claims": {"sub": "regress-7", "groups": ["regress"]}}))
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts))
    command = [runs.harness.binary(), "explain", "--each", lines, "--as", claims, "--target", "regression", "--json", "--policy", policy, *catalog]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1) or len(answers) != len(texts):
        raise sources.Missing(f"explain --each ended with {done.returncode} behind {len(answers)} of {len(texts)} texts: {done.stderr[-800:]}")
    return answers
