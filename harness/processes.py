"""A case timed in several fresh processes: what differs from process to process is in the interval.

Addresses, the allocator and what an autotuner chose are drawn once a process, so the samples of one
cannot show how much they matter. Of n processes with medians mᵢ the time is exp of the mean of
log mᵢ, and its interval Student's, with n − 1 degrees of freedom: what is between and what is
within processes are both in it. The part between them is var(log mᵢ) less the medians' own errors.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from fwpbench.harness.comparison import error_of_log_median
from fwpbench.harness.environment import Value
from fwpbench.harness.isolation import Isolated
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Measurement, Record
from fwpbench.harness.scaling_law import T_975
from fwpbench.harness.timing import UNSTABLE


@dataclass(frozen=True)
class Spread:
    """Seconds; `between` and `within` are standard deviations of the logarithm, so fractions.

    `within` is that of a median; None where a process has too few samples to tell, and then
    `between` has it in it.
    """

    value: float
    low: float
    high: float
    between: float
    within: float | None


def spread_of(processes: Sequence[Sequence[float]]) -> Spread:
    """Of the samples of two processes or more."""
    n = len(processes)
    logarithms = [math.log(statistics.median(samples)) for samples in processes]
    center, variance = statistics.fmean(logarithms), statistics.variance(logarithms)
    errors = [error_of_log_median(samples) for samples in processes]
    known = [error for error in errors if error is not None]
    own = statistics.fmean(error**2 for error in known) if len(known) == n else None
    half = T_975[min(n - 1, len(T_975)) - 1] * math.sqrt(variance / n)
    return Spread(
        math.exp(center),
        math.exp(center - half),
        math.exp(center + half),
        math.sqrt(max(0.0, variance - (own or 0.0))),
        None if own is None else math.sqrt(own),
    )


class Repeated:
    """Runs each task of these suites in so many fresh processes, and makes one record of theirs.

    What fails in one of them is the record.
    """

    def __init__(self, execute: Isolated, timed: frozenset[str], processes: int):
        self._execute, self._timed, self._processes = execute, timed, processes

    def facts(self) -> dict[str, Value]:
        return self._execute.facts() | {"processes a case": self._processes}

    def __enter__(self) -> Repeated:
        self._execute.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._execute.__exit__(kind, error, traceback)

    def cut(self) -> None:
        self._execute.cut()

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        if self._processes < 2 or task.suite not in self._timed:
            return self._execute(task, seconds)
        records: list[Record] = []
        while len(records) < self._processes:
            self._execute.close()
            left = None if seconds is None else seconds - sum(each.seconds for each in records)
            record = self._execute(task, left)
            if not record.samples.get("time"):
                return record
            records.append(record)
        return together(records)


def together(records: Sequence[Record]) -> Record:
    """One record of the same task from several processes: all samples, and the interval of all."""
    processes = [[x for x in each.samples["time"] if x] for each in records]
    found = spread_of(processes)
    worst = next((each for each in records if each.status not in ("ok", "unstable")), records[0])
    status, reason = worst.status, worst.reason
    if status in ("ok", "unstable"):
        wide = (found.high - found.low) / 2 > UNSTABLE * found.value
        status = "unstable" if wide else "ok"
        number = len(records)
        reason = f"the 95 % interval of {number} processes is wider than ± 10 %" if wide else ""
    metrics = dict(worst.metrics)
    if "roofline" in metrics:  # of that one process's time
        alone = metrics["roofline"]
        fraction = alone.value and alone.value * (metrics["time"].value or 0.0) / found.value
        metrics["roofline"] = replace(alone, value=fraction)
    metrics["time"] = Measurement(value=found.value, unit="s", low=found.low, high=found.high)
    return replace(
        worst,
        status=status,
        reason=reason,
        metrics=metrics,
        samples=worst.samples | {"time": [x for samples in processes for x in samples]},
        tags=list(dict.fromkeys(tag for each in records for tag in each.tags)),
        detail=worst.detail
        | {
            "processes": {
                "samples": [len(samples) for samples in processes],
                "medians": [statistics.median(samples) for samples in processes],
                "between": found.between,
                "within": found.within,
            }
        },
        seconds=sum(each.seconds for each in records),
    )
