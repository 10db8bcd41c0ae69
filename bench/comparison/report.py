"""The tables, in Markdown, and the same as a document for JSON."""

import dataclasses
import statistics

from . import verdict

FIGURE_NAMES = {"cpu": "proxy CPU", "p50": "p50 latency", "p99": "p99 latency"}


def write(out, facts, workloads, cells, verdicts, floors):
    for name, value in facts.items():
        out.write(f"- {name}: {value}\n")
    point = [workload for workload in workloads if not workload.name.startswith("bulk")]
    if point:
        out.write("\nPoint queries: medians; in brackets user-space part; ratios to pgbouncer with their interval.\n\n")
        _table(out, point, cells, "us/query", "q/s", latency=True)
    bulk = [workload for workload in workloads if workload.name.startswith("bulk")]
    if bulk:
        out.write("\nBulk SELECT: medians; ratios to the better pgbouncer.\n\n")
        _table(out, bulk, cells, "s/GB", "MB/s", latency=False)
    _verdicts(out, verdicts)
    _floors(out, floors)


def _table(out, workloads, cells, cpu_unit, rate_unit, latency):
    heads = ["workload", "endpoint", f"proxy CPU {cpu_unit}", "ratio", rate_unit, "ratio"]
    heads += ["p50 us", "ratio", "p99 us", "ratio"] if latency else []
    _row(out, heads)
    _row(out, ["---"] * len(heads))
    for workload in workloads:
        for endpoint in workload.endpoints:
            _row(out, _line(workload.name, endpoint, cells, latency))


def _line(workload, endpoint, cells, latency):
    rounds = cells[workload, endpoint]
    median = {figure: statistics.median(map(take, rounds)) for figure, take in verdict.FIGURES.items() if latency or figure in ("cpu", "rate")}
    user = statistics.median(cell.user for cell in rounds)
    digits = 1 if latency else 2
    words = [workload, endpoint]
    for figure in ("cpu", "rate", "p50", "p99")[: 4 if latency else 2]:
        value = f"{median[figure]:.{digits}f} ({user:.{digits}f})" if figure == "cpu" else f"{median[figure]:,.0f}"
        words += [value, str(verdict.ratio(cells, workload, endpoint, figure))]
    return words


def _verdicts(out, verdicts):
    if not verdicts:
        return
    out.write("\n")
    _row(out, ["limit of the", "workload", "endpoint", "figure", "at most", "measured", "verdict"])
    _row(out, ["---"] * 7)
    for one in verdicts:
        _row(out, [one.source, one.workload, one.endpoint, FIGURE_NAMES[one.figure], f"{one.limit:.2f} ×", str(one.ratio), one.answer])


def _floors(out, floors):
    if not floors:
        return
    out.write("\nThe floor under gated: queued, and one bare sync for all clients; the hand-over to the disk is free in it.\n\n")
    _row(out, ["workload", "a sync beside pgbouncer, us of CPU", "gated is at least"])
    _row(out, ["---"] * 3)
    for workload, (ratio, syncs) in floors.items():
        _row(out, [workload, f"{statistics.median(syncs):.0f}", str(ratio)])


def _row(out, words):
    out.write("| " + " | ".join(words) + " |\n")


def document(facts, cells, verdicts, floors):
    """Everything, for --json."""
    return {
        "facts": facts,
        "cells": [
            {"workload": workload, "endpoint": endpoint, "rounds": [dataclasses.asdict(cell) | {"cpu": cell.cpu} for cell in rounds]}
            for (workload, endpoint), rounds in cells.items()
        ],
        "verdicts": [dataclasses.asdict(one) for one in verdicts],
        "floors": {workload: {"gated_at_least": dataclasses.asdict(ratio), "sync_us": syncs} for workload, (ratio, syncs) in floors.items()},
    }
