"""Which of two runs is faster, cell by cell, and whether that can be told from noise.

The logarithm of a ratio of medians has the standard errors of both logarithms, which are read off
the order-statistic intervals (timing.py), so samples that follow each other count for less. A cell
is slower or faster where its ratio lies beyond the margin by more than noise explains; over all
cells at most 5 % of such verdicts are expected to be false (Benjamini and Hochberg 1995). What the
interval holds within the margin is the same; what it does not is undecided.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fwpbench.harness.records import Record
from fwpbench.harness.timing import interval_of_median

Verdict = Literal["faster", "slower", "same", "undecided"]

#: A smaller difference interests nobody, and no two runs of the same code agree better.
MARGIN = 0.01
FALSE_DISCOVERIES = 0.05
NORMAL = statistics.NormalDist()
Z = NORMAL.inv_cdf(0.975)
#: A time and the standard error of its logarithm; None where too little is known of that.
Between = tuple[float, float | None]


@dataclass(frozen=True)
class Change:
    """Of one cell, `ratio` is after ÷ before; `low` and `high` bound it with 95 %.

    `p` is how likely so large a ratio is if the truth lies at the margin; None, and no interval,
    where a run has fewer than six samples that count as independent.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: Verdict = "undecided"


def changes(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    margin: float = MARGIN,
    between: Mapping[str, tuple[Between | None, Between | None]] | None = None,
) -> dict[str, Change]:
    """By cell, from the samples before and after; all in one unit, smaller is better.

    `between` has the times of the cells that were timed in several processes, with their errors:
    samples taken together know nothing of what differs between those.
    """
    known = between or {}
    found = {}
    for name, (before, after) in pairs.items():
        first, second = known.get(name, (None, None))
        found[name] = _change(first or _of_samples(before), second or _of_samples(after), margin)
    told = _discoveries({name: each.p for name, each in found.items() if each.p is not None})
    return {name: _judged(each, margin, name in told) for name, each in found.items()}


def _of_samples(samples: Sequence[float]) -> Between:
    return statistics.median(samples), error_of_log_median(samples)


def between_processes(record: Record, metric: str) -> Between | None:
    """The time of a record that several processes made, and its error; None for any other."""
    measured = record.metrics.get(metric)
    if "processes" not in record.detail or metric != "time" or measured is None:
        return None
    value, low, high = measured.value, measured.low, measured.high
    if not value or not low or not high:
        return None
    # Student's interval is wide for few processes, and so is what follows from it.
    return value, (math.log(high) - math.log(low)) / (2 * Z)


def _change(before: Between, after: Between, margin: float) -> Change:
    ratio = after[0] / before[0]
    if before[1] is None or after[1] is None:
        return Change(ratio)
    error, log = math.hypot(before[1], after[1]), math.log(ratio)
    beyond = abs(log) - math.log1p(margin)
    p = 1 - NORMAL.cdf(beyond / error) if error else float(beyond <= 0)
    return Change(ratio, math.exp(log - Z * error), math.exp(log + Z * error), p)


def error_of_log_median(samples: Sequence[float]) -> float | None:
    interval = interval_of_median(samples)
    if interval is None or interval[0] <= 0:
        return None
    return (math.log(interval[1]) - math.log(interval[0])) / (2 * Z)


def _discoveries(p_values: Mapping[str, float]) -> set[str]:
    """Those that the procedure of Benjamini and Hochberg rejects."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    last = 0
    for rank, name in enumerate(ordered, start=1):
        if p_values[name] <= FALSE_DISCOVERIES * rank / len(ordered):
            last = rank
    return set(ordered[:last])


def _judged(change: Change, margin: float, told: bool) -> Change:
    if change.low is None or change.high is None:
        return change
    verdict: Verdict = "undecided"
    if told:
        verdict = "slower" if change.ratio > 1 else "faster"
    elif 1 / (1 + margin) <= change.low and change.high <= 1 + margin:
        verdict = "same"
    return Change(change.ratio, change.low, change.high, change.p, verdict)


def samples_of(record: Record, metric: str) -> list[float] | None:
    """Why a record has no time is in its status; None then, and where a sample is missing."""
    if record.status not in ("ok", "unstable"):
        return None
    samples = record.samples.get(metric, [])
    finite = [x for x in samples if x is not None and x > 0]
    return finite if finite and len(finite) == len(samples) else None
