"""Which operator by which implementation, for a size somebody has: what the records say of it.

Times are taken from records of the sizes that come nearest. Of the length asked for itself where it
was measured, else between two lengths that were (a line through both, both axes logarithmic), else
by the law fitted to them, no further than four times beyond the last.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fwpbench.harness.scaling_law import error_of, fit
from fwpbench.reports.capacity import most_pairs, pairs_of
from fwpbench.reports.evidence import Case, Evidence, Operator
from fwpbench.reports.units import count

#: How far beyond the lengths measured a fitted law is believed.
FURTHEST = 4
#: Sizes that may differ from what is asked for, the first before the second.
SIZES = ("K", "V", "H", "B")


@dataclass(frozen=True)
class Wish:
    """What somebody has. `device` is part of a device's name; None: whatever there is."""

    T: int
    K: int | None = None
    V: int | None = None
    H: int | None = None
    B: int | None = None
    device: str = ""
    dtype: str | None = None
    direction: str = "forward"

    def distance(self, case: Case) -> tuple[float, ...]:
        """How far the sizes of a case are, each as a factor, most important first."""
        return tuple(
            abs(math.log(wanted / int(case.words[size]))) if _is_size(case, size) else math.inf
            for size in SIZES
            if (wanted := getattr(self, size)) is not None
        )


@dataclass(frozen=True)
class Estimate:
    """Seconds of one call; `low` and `high` are None where nothing bounds them. `how` it came."""

    seconds: float
    low: float | None
    high: float | None
    how: str


@dataclass(frozen=True)
class Candidate:
    """One operator by the implementation that is fastest at it."""

    label: str
    implementation: str
    time: Estimate
    case: Case
    #: Pairs that the capacity suite saw it hold, and bytes of its state; None: not measured.
    pairs: float | None = None
    state: float | None = None

    @property
    def sizes(self) -> str:
        return " ".join(f"{size}={self.case.words.get(size, '?')}" for size in ("B", "H", "K", "V"))


@dataclass(frozen=True)
class Choice:
    """The fastest first. `front`: candidates than which none is both faster and holds more."""

    candidates: list[Candidate]
    unknown: list[str]

    @property
    def front(self) -> list[Candidate]:
        best, front = -1.0, []
        for one in self.candidates:
            if one.pairs is not None and one.pairs > best:
                front.append(one)
                best = one.pairs
        return front

    @property
    def as_fast(self) -> list[Candidate]:
        """Those whose intervals overlap that of the fastest: nobody knows which is faster."""
        first, *others = self.candidates
        high = first.time.high or first.time.seconds
        return [one for one in others if (one.time.low or one.time.seconds) <= high]


def choose(evidence: Evidence, wish: Wish) -> Choice:
    asked = [case for suite in ("speed", "scaling") for case in evidence.of(suite)]
    fitting = [
        case
        for case in asked
        if wish.device.lower() in evidence.device(case).lower() and _fits(case, wish)
    ]
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    too_far: dict[tuple[str, int], list[str]] = defaultdict(list)
    for case in fitting:
        if evidence.is_ranked(case) and case.value("time") and case.tokens:
            groups[evidence.label(case), case.implementation].append(case)
    best: dict[str, Candidate] = {}
    for (label, implementation), cases in groups.items():
        nearest = min(wish.distance(case) for case in cases)
        same = [case for case in cases if wish.distance(case) == nearest]
        estimate, case = _estimate(same, wish.T)
        if estimate is None:
            too_far[implementation, max(each.tokens for each in same)].append(label)
        elif label not in best or estimate.seconds < best[label].time.seconds:
            best[label] = Candidate(label, implementation, estimate, case)
    missing = {evidence.label(case) for case in fitting} - {label for label, _ in groups}
    unknown = [
        f"{implementation}: its times, up to T = {count(longest)}, do not say what it takes at "
        f"{count(wish.T)} ({', '.join(labels)})"
        for (implementation, longest), labels in too_far.items()
    ]
    unknown += [f"{label}: no implementation has a time that counts" for label in sorted(missing)]
    held, states = _most_held(evidence), _states(evidence)
    candidates = [
        replace(one, pairs=held.get(one.case.operator), state=states.get(one.case.operator))
        for one in sorted(best.values(), key=lambda one: one.time.seconds)
    ]
    return Choice(candidates, unknown + _not_measured(candidates, wish))


def _fits(case: Case, wish: Wish) -> bool:
    """Of the dtype and direction asked for, on ordinary inputs."""
    words = case.words
    return (
        words.get("direction") == wish.direction
        and words.get("dtype") == (wish.dtype or words.get("dtype"))
        and words["inputs"] == "normal"
        and words["masked"] == "no"
    )


def _is_size(case: Case, size: str) -> bool:
    said = case.words.get(size, "")
    return said.isdecimal() and len(said) < 13 and int(said) > 0


def _estimate(cases: Sequence[Case], T: int) -> tuple[Estimate | None, Case]:
    """From cases that differ in T; and the one whose length is nearest."""
    fastest: dict[int, Case] = {}
    for case in cases:
        at = fastest.get(case.tokens)
        if at is None or (case.value("time") or math.inf) < (at.value("time") or math.inf):
            fastest[case.tokens] = case
    nearest = min(fastest.values(), key=lambda case: abs(math.log(case.tokens / T)))
    if nearest.tokens == T:
        return Estimate(nearest.value("time") or 0.0, *nearest.bounds("time"), "measured"), nearest
    shorter = [length for length in fastest if length < T]
    longer = [length for length in fastest if length > T]
    if shorter and longer:
        return _between(fastest[max(shorter)], fastest[min(longer)], T), nearest
    if shorter and max(shorter) * FURTHEST >= T:
        return _beyond(list(fastest.values()), T), nearest
    return None, nearest


def _between(one: Case, other: Case, T: int) -> Estimate:
    share = math.log(T / one.tokens) / math.log(other.tokens / one.tokens)

    def line(first: float | None, second: float | None) -> float | None:
        if not first or not second:
            return None
        return math.exp((1 - share) * math.log(first) + share * math.log(second))

    (low, high), (other_low, other_high) = one.bounds("time"), other.bounds("time")
    seconds = line(one.value("time"), other.value("time")) or 0.0
    how = f"between T = {count(one.tokens)} and {count(other.tokens)}"
    return Estimate(seconds, line(low, other_low), line(high, other_high), how)


def _beyond(cases: Sequence[Case], T: int) -> Estimate | None:
    """By the law of four lengths or more, each with its interval."""
    points = []
    for case in cases:
        seconds = case.value("time") or 0.0
        error = error_of(*case.bounds("time"), seconds)
        if error is not None:
            points.append((float(case.tokens), seconds, error))
    law = fit(*zip(*points, strict=True)) if points else None
    if law is None:
        return None
    longest = max(case.tokens for case in cases)
    return Estimate(law.at(T), None, None, f"by its law, from T ≤ {count(longest)}")


def _most_held(evidence: Evidence) -> dict[Operator, float]:
    by_operator: dict[Operator, list[Case]] = defaultdict(list)
    for case in evidence.of("capacity"):
        if case.value("error") is not None:
            by_operator[case.operator].append(case)
    held = {}
    for operator, cases in by_operator.items():
        most = most_pairs(cases)
        held[operator] = (pairs_of(most) or 0.0) if most else 0.0
    return held


def _states(evidence: Evidence) -> dict[Operator, float]:
    """At the longest T measured: what grows with T is not hidden."""
    found: dict[Operator, tuple[int, float]] = {}
    for case in evidence.of("memory"):
        size = case.value("state")
        if size and case.tokens >= found.get(case.operator, (0, 0.0))[0]:
            found[case.operator] = case.tokens, size
    return {operator: size for operator, (_, size) in found.items()}


def _not_measured(candidates: Sequence[Candidate], wish: Wish) -> list[str]:
    found = []
    for size in SIZES:
        wanted = getattr(wish, size)
        others = {one.case.words.get(size, "?") for one in candidates} - {str(wanted)}
        if wanted is not None and others:
            measured = ", ".join(sorted(others))
            found.append(f"{size} = {wanted}: times were measured with {size} = {measured}")
    if candidates and all(one.pairs is None for one in candidates):
        found.append("how much each remembers: no record of the suite capacity")
    return found
