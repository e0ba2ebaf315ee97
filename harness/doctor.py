"""Can this machine's numbers be trusted, and why not?

Every check reads one number through a probe and holds it against a limit; nothing here sees a GPU,
so each can be made to fail by made-up numbers. What a machine does not tell is unknown, not good.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

Verdict = Literal["good", "poor", "unknown"]


class Probe(Protocol):
    """What the checks read. Seconds, hertz, watts; None where the machine does not tell."""

    kind: str

    def ticks(self) -> Sequence[float]:
        """Readings of the clock that times calls, one right after the other."""

    def empty_calls(self) -> Sequence[float]:
        """Times of a call that does next to nothing."""

    def warm_and_cold(self) -> tuple[Sequence[float], Sequence[float]]:
        """Times of reading a few megabytes again, and of reading them after a flush."""

    def clocks(self) -> Sequence[float] | None:
        """Of the cores that compute, while they do."""

    def power_limits(self) -> tuple[float, float] | None:
        """In force, and by default."""

    def busy_elsewhere(self) -> float | None:
        """How much of the device others keep busy: 0 to 1, or more where they queue."""

    def split(self) -> bool | None:
        """Whether the device is one slice of several (MIG)."""

    def pairs_of_medians(self) -> Sequence[tuple[float, float]]:
        """Medians of the same call, timed twice, again and again."""


@dataclass(frozen=True)
class Finding:
    """What one check found: a sentence, and what to do where it is poor."""

    check: str
    verdict: Verdict
    said: str
    advice: str = ""
    value: float | None = None


Check = Callable[[Probe], Finding]

#: Seconds: a clock this coarse adds less than 1 % to calls of 100 µs.
COARSEST_TICK = 1e-6
SLOWEST_EMPTY_CALL = 100e-6
LEAST_FLUSHED = 1.1
WIDEST_CLOCK = 0.05
MOST_BUSY = 0.25
MOST_NOISE = 0.02


def timer(probe: Probe) -> Finding:
    ticks = probe.ticks()
    steps = [b - a for a, b in pairwise(ticks) if b > a]
    if not steps:
        return Finding("timer", "poor", "its clock stands still", "use another machine")
    step = min(steps)
    said = f"its clock tells {step * 1e9:,.0f} ns apart"
    advice = "time calls of a millisecond and more, or set another clock source"
    return _judged("timer", said, step <= COARSEST_TICK, advice, step)


def empty_call(probe: Probe) -> Finding:
    floor = statistics.median(probe.empty_calls())
    said = f"a call that does nothing takes {floor * 1e6:,.1f} µs"
    advice = "calls about as short measure the host: compare long ones only"
    return _judged("empty call", said, floor <= SLOWEST_EMPTY_CALL, advice, floor)


def flush(probe: Probe) -> Finding:
    warm, cold = (statistics.median(times) for times in probe.warm_and_cold())
    ratio = cold / warm
    said = f"reading after a flush takes {ratio:.2f} times as long as reading again"
    advice = "the flush does not reach the cache, so cold times are warm ones: do not publish them"
    return _judged("flush", said, ratio >= LEAST_FLUSHED, advice, ratio)


def clock(probe: Probe) -> Finding:
    clocks = probe.clocks()
    if not clocks:
        return Finding("clock", "unknown", "the machine does not tell its clock rate")
    width = (max(clocks) - min(clocks)) / max(clocks)
    most = f"{max(clocks) / 1e6:,.0f} MHz"
    said = f"the clock rate moves by {100 * width:.1f} % under load, up to {most}"
    advice = "cool the machine, lock the clock (nvidia-smi --lock-gpu-clocks), or wait for others"
    return _judged("clock", said, width <= WIDEST_CLOCK, advice, width)


def power(probe: Probe) -> Finding:
    limits = probe.power_limits()
    if limits is None:
        return Finding("power", "unknown", "the machine does not tell its power limit")
    limit, default = limits
    said = f"power is limited to {limit:,.0f} W of {default:,.0f} W"
    advice = "say so beside every number, or lift the limit (nvidia-smi --power-limit)"
    return _judged("power", said, limit >= 0.99 * default, advice, limit)


def others(probe: Probe) -> Finding:
    busy = probe.busy_elsewhere()
    if busy is None:
        return Finding("others", "unknown", "the machine does not tell who else uses it")
    said = f"others keep {100 * busy:.0f} % of it busy"
    return _judged("others", said, busy <= MOST_BUSY, "stop them, or come back later", busy)


def whole(probe: Probe) -> Finding:
    split = probe.split()
    if split is None:
        return Finding("whole", "unknown", "the machine does not tell whether it is a slice")
    said = "it is one slice of a device (MIG)" if split else "it is a whole device"
    return _judged("whole", said, not split, "slices share memory and power: use a whole device")


def noise(probe: Probe) -> Finding:
    found = noise_of(probe.pairs_of_medians())
    said = f"the same call, timed twice, differs by up to {100 * found:.1f} % (95 % of pairs)"
    advice = "changes smaller than that cannot be told: stop other work, take more samples"
    return _judged("noise", said, found <= MOST_NOISE, advice, found)


def noise_of(pairs: Sequence[tuple[float, float]]) -> float:
    """The 95th percentile of |A/A − 1|."""
    differences = sorted(abs(second / first - 1) for first, second in pairs)
    return differences[min(len(differences) - 1, round(0.95 * (len(differences) - 1)))]


def _judged(check: str, said: str, good: bool, advice: str, value: float | None = None) -> Finding:
    return Finding(check, "good" if good else "poor", said, "" if good else advice, value)


CHECKS: Mapping[str, Check] = {
    "timer": timer,
    "empty call": empty_call,
    "flush": flush,
    "clock": clock,
    "power": power,
    "others": others,
    "whole": whole,
    "noise": noise,
}


def examine(probe: Probe, checks: Mapping[str, Check] = CHECKS) -> list[Finding]:
    """A check that raises is unknown, and says what was raised."""
    findings = []
    for name, check in checks.items():
        try:
            findings.append(check(probe))
        except Exception as error:  # whatever a driver raises is what the check found
            findings.append(Finding(name, "unknown", f"{type(error).__name__}: {error}"))
    return findings


def grade(findings: Sequence[Finding]) -> str:
    """A: nothing is poor. B: one check is. C: more are, or the flush or the timer is."""
    poor = {finding.check for finding in findings if finding.verdict == "poor"}
    if not poor:
        return "A"
    return "C" if len(poor) > 1 or poor & {"flush", "timer"} else "B"


MEANINGS = {
    "A": "nothing speaks against its numbers",
    "B": "say what is poor beside its numbers",
    "C": "its numbers are for yourself only",
}
#: What the environment of a run calls the grade, and the noise that `compare` takes as its margin.
GRADE, NOISE = "grade", "A/A noise"


def as_facts(findings: Sequence[Finding]) -> dict[str, str | int | float | bool | None]:
    """What the environment of a run keeps of an examination."""
    facts: dict[str, str | int | float | bool | None] = {GRADE: grade(findings)}
    for each in findings:
        if each.check == "noise" and each.value is not None:
            facts[NOISE] = each.value
        facts[f"doctor: {each.check}"] = f"{each.verdict}: {each.said}"
    return facts


def worst(environments: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Of machines that make one run together: the worst grade and the most noise, if all tell."""
    told: dict[str, object] = {}
    listed = list(environments)
    for name, kind in ((GRADE, str), (NOISE, (int, float))):
        values = [facts.get(name) for facts in listed]
        if values and all(isinstance(value, kind) for value in values):
            told[name] = max(values)  # type: ignore[type-var]
    return told
