"""Ratios, their intervals, and what they say about a limit.

Rounds are interleaved, so a ratio is taken inside a round, between neighbours in time; its median over the rounds is
reported. The interval is the order statistics that hold the median with at least 93 % confidence: with 5 rounds their
lowest and highest, which is why fewer give no verdict. No distribution is assumed.
"""

import math
import statistics
from dataclasses import dataclass

ROUNDS_MIN = 5
CONFIDENCE = 0.93
HOLDS, BROKEN, UNDECIDED = "holds", "does not hold", "inconclusive"
FIGURES = {"cpu": lambda cell: cell.cpu, "rate": lambda cell: cell.rate, "p50": lambda cell: cell.p50_us, "p99": lambda cell: cell.p99_us}
PGBOUNCERS = ("pgbouncer-4k", "pgbouncer-64k")


@dataclass
class Ratio:
    """A median of ratios, and the interval around it."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass
class Verdict:
    """What the rounds say about one limit."""

    workload: str
    endpoint: str
    figure: str
    limit: float
    source: str
    ratio: Ratio
    answer: str


def interval(values):
    """The order statistics around the median that hold it with CONFIDENCE, or the extremes where too few are there.

    >>> interval([5, 1, 4, 2, 3])
    (1, 5)
    >>> interval(list(range(1, 12)))
    (3, 9)
    """
    ordered = sorted(values)
    count, cut = len(ordered), 0
    # Cutting k values at each end leaves the median out with probability 2 P(Binomial(count, 1/2) <= k).
    while cut + 1 < (count + 1) // 2:
        outside = 2 * sum(math.comb(count, k) for k in range(cut + 2)) / 2**count
        if 1 - outside < CONFIDENCE:
            break
        cut += 1
    return ordered[cut], ordered[count - 1 - cut]


def ratio(cells, workload, endpoint, figure):
    """`endpoint` to pgbouncer: the cheaper of the two where both ran, by the median of its CPU."""
    reference = min(
        (name for name in PGBOUNCERS if (workload, name) in cells),
        key=lambda name: statistics.median(cell.cpu for cell in cells[workload, name]),
    )
    take = FIGURES[figure]
    pairs = zip(cells[workload, endpoint], cells[workload, reference], strict=True)
    ratios = [take(own) / max(take(other), 1e-9) for own, other in pairs]
    return Ratio(statistics.median(ratios), *interval(ratios))


def answer(found, limit, rounds):
    """
    >>> answer(Ratio(1.0, 0.9, 1.1), 1.15, 5)
    'holds'
    >>> answer(Ratio(1.4, 1.2, 1.5), 1.15, 5)
    'does not hold'
    >>> answer(Ratio(1.1, 0.9, 1.2), 1.15, 5), answer(Ratio(1.0, 1.0, 1.0), 1.15, 4)
    ('inconclusive', 'inconclusive')
    """
    if rounds < ROUNDS_MIN or found.low <= limit < found.high:
        return UNDECIDED
    return HOLDS if found.high <= limit else BROKEN


def judge(workloads, cells, rounds):
    """A verdict for every limit of every workload that ran."""
    verdicts = []
    for workload in workloads:
        for (endpoint, figure), (limit, source) in workload.limits.items():
            found = ratio(cells, workload.name, endpoint, figure)
            verdicts.append(Verdict(workload.name, endpoint, figure, limit, source, found, answer(found, limit, rounds)))
    return verdicts
