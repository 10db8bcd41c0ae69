"""`fuzz/run` as a CI calls it: what it keeps, writes and ends with. libFuzzer's place takes a script that does as it is told;
the real targets run by `tests/run --all`."""

import importlib.util
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# As libFuzzer: a run writes what it found into the first corpus; a finding is an artefact and exit code 77; -merge keeps
# one file of two; a single file is run once. The file `orders` of its folder says how it goes.
BINARY = """#!{python}
import pathlib, sys
here = pathlib.Path(__file__).parent
order = (here / "orders").read_text()
options = [word for word in sys.argv[1:] if word.startswith("-")]
paths = [pathlib.Path(word) for word in sys.argv[1:] if not word.startswith("-")]
if "-merge=1" in options:
    smaller, corpus = paths
    for path in sorted(corpus.iterdir())[::2]:
        (smaller / path.name).write_bytes(path.read_bytes())
    sys.exit(0)
if len(paths) == 1 and paths[0].is_file():
    sys.exit(77 if order in ("crash", "still") else 0)
for number in range(4):
    (paths[0] / f"input-{{number}}").write_bytes(bytes([number]))
print("#4 DONE cov: 12 ft: 34 corp: 4/4b")
print("stat::number_of_executed_units: 1000")
print("stat::average_exec_per_sec:     500")
print("stat::peak_rss_mb:              40")
if order == "mute":
    sys.exit(9)
if order in ("crash", "slow machine"):
    prefix = next(word for word in options if word.startswith("-artifact_prefix=")).split("=", 1)[1]
    name = "crash-1" if order == "crash" else "timeout-1"
    pathlib.Path(prefix + name).write_bytes(b"!")
    sys.exit(77)
"""


class Runner:
    """The command with two targets, in a folder of its own."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        loader = SourceFileLoader("fuzz_run", str(ROOT / "fuzz" / "run"))
        self.module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fuzz_run", loader))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader.exec_module(self.module)
        for name, value in {"FUZZ": folder, "TARGETS": ["alpha", "beta"], "TALLY": folder / "target" / "tally.json"}.items():
            monkeypatch.setattr(self.module, name, value)
        monkeypatch.setattr(self.module, "need_cargo_fuzz", lambda: None)
        monkeypatch.setattr(self.module, "build", self.build)
        self.unbuildable = set()
        (folder / "Cargo.toml").write_text("[features]\nbeta = []\n")
        for target in self.module.TARGETS:
            committed = folder / "corpus" / target
            committed.mkdir(parents=True)
            (committed / "seed").write_bytes(b"seed")
            self.order(target, "well")

    def build(self, target):
        if target in self.unbuildable:
            raise self.module.Broken(f"{target} does not build")
        return self.folder / "binaries" / target / "binary"

    def order(self, target, what):
        here = self.folder / "binaries" / target
        here.mkdir(parents=True, exist_ok=True)
        (here / "orders").write_text(what)
        (here / "binary").write_text(BINARY.format(python=sys.executable))
        (here / "binary").chmod(0o755)

    def run(self, *words):
        """The exit code, and the summary."""
        self.monkeypatch.setattr(sys, "argv", ["fuzz/run", *words, "--json", str(self.folder / "summary.json")])
        code = self.module.main()
        return code, json.loads((self.folder / "summary.json").read_text())

    def files(self, *parts):
        return sorted(path.name for path in self.folder.joinpath(*parts).iterdir())


@pytest.fixture
def runner(tmp_path, monkeypatch):
    return Runner(tmp_path, monkeypatch)


def test_nothing_found_is_zero_and_the_corpus_is_kept_and_smaller(runner):
    code, summary = runner.run("all", "1")
    assert code == 0 and [row["target"] for row in summary["targets"]] == ["alpha", "beta"]
    row = summary["targets"][0]
    assert (row["executions"], row["edges"], row["features"], row["findings"]) == (1000, 12, 34, [])
    assert runner.files("target", "corpus", "alpha") == ["input-0", "input-2"]
    # What is committed is read, never written.
    assert runner.files("corpus", "alpha") == ["seed"]
    # The next run goes on with it, and both count.
    code, summary = runner.run("all", "1", "--no-minimise")
    assert code == 0 and len(runner.files("target", "corpus", "beta")) == 4
    sums = summary["tally"]["alpha"]
    sums.pop("seconds")
    assert sums == {"runs": 2, "executions": 2000, "edges": 12, "features": 34, "corpus_files": 4, "open_findings": 0}


def test_a_finding_is_one_its_input_stays_and_is_tried_first_until_it_passes(runner, capsys):
    runner.order("beta", "crash")
    code, summary = runner.run("all", "1")
    assert code == 1
    alpha, beta = summary["targets"]
    assert alpha["findings"] == [] and [found["file"] for found in beta["findings"]] == [f"{runner.folder.name}/artifacts/beta/crash-1"]
    assert "cargo fuzz run --features beta beta artifacts/beta/crash-1" in beta["findings"][0]["again"]
    assert "FOUND" in capsys.readouterr().out
    runner.order("beta", "still")
    code, summary = runner.run("beta", "1")
    assert code == 1 and len(summary["targets"][0]["findings"]) == 1 and summary["tally"]["beta"]["open_findings"] == 1
    runner.order("beta", "well")
    code, summary = runner.run("beta", "1")
    assert code == 0 and summary["tally"]["beta"]["open_findings"] == 0
    assert "passes now: commit it" in capsys.readouterr().out
    assert runner.files("artifacts", "beta") == ["crash-1"]


def test_what_only_the_machine_was_slow_at_is_no_finding(runner):
    runner.order("alpha", "slow machine")
    code, summary = runner.run("alpha", "1")
    assert code == 0 and summary["targets"][0]["findings"] == []
    assert runner.files("artifacts", "alpha") == []


@pytest.mark.parametrize("how", ["unbuildable", "mute"])
def test_a_target_that_cannot_run_is_three_and_the_others_run(runner, how, capsys):
    if how == "unbuildable":
        runner.unbuildable.add("alpha")
    else:
        runner.order("alpha", "mute")
    code, summary = runner.run("all", "1")
    assert code == 3
    assert [row["target"] for row in summary["targets"]] == ["beta"] and [one["target"] for one in summary["broken"]] == ["alpha"]
    assert "alpha" in capsys.readouterr().err


def test_hours_are_gone_round_for_and_the_table_says_what_all_runs_came_to(runner):
    table = runner.folder / "README.md"
    table.write_text(f"before\n{runner.module.TABLE_BEGIN}old\n{runner.module.TABLE_END}behind\n")
    kept = {"runs": 3, "seconds": 3599, "executions": 5, "edges": 1, "features": 1, "corpus_files": 1, "open_findings": 0}
    (runner.folder / "target").mkdir()
    (runner.folder / "target" / "tally.json").write_text(json.dumps({"alpha": kept}))
    # As if each run were twelve minutes.
    runner.monkeypatch.setattr(runner.module, "hours_done", lambda: sum(one["runs"] for one in runner.module.tally().values()) / 5)
    code, summary = runner.run("all", "1", "--hours", "1", "--table", str(table))
    assert code == 0 and {name: sums["runs"] for name, sums in summary["tally"].items()} == {"alpha": 4, "beta": 1}
    said = table.read_text()
    assert said.startswith("before\n") and said.endswith("behind\n") and "old" not in said
    assert "| `alpha` | 4 |" in said and "| `beta` | 1 |" in said


def test_wrong_arguments_are_two(runner):
    with pytest.raises(SystemExit) as ended:
        runner.run("all", "0")
    assert ended.value.code == 2
