"""Quality, speed and state at once: which operators does no other one beat in all three?

An operator is on the front where no other is at least as good in quality, time and bytes of state,
and better in one. All three come from records: the score of a suite, the fastest right median of
the speed suite at one size, and the state that the same model (or the memory suite) measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fwpbench.reports import axes, charts
from fwpbench.reports.capacity import THRESHOLD, most_pairs, pairs_of
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, Operator, shared
from fwpbench.reports.palette import Style, style
from fwpbench.reports.quality_language import PERPLEXITY
from fwpbench.reports.quality_translation import BLEU
from fwpbench.reports.quality_trials import scores_of
from fwpbench.reports.section import Key, Panels
from fwpbench.reports.units import between, count, digits, shown


@dataclass(frozen=True)
class Quality:
    """What operators scored, and the bytes of their states where the same training told them."""

    title: str
    unit: str
    better: Literal["higher", "lower"]
    scores: Mapping[Operator, float]
    states: Mapping[Operator, float]


@dataclass(frozen=True)
class Standing:
    """One operator, in three numbers; `case` is the record of its time."""

    label: str
    operator: Operator
    case: Case
    time: float
    state: float
    quality: float
    gain: float
    first: bool = False

    def is_beaten_by(self, other: Standing) -> bool:
        mine, theirs = (self.time, self.state, -self.gain), (other.time, other.state, -other.gain)
        pairs = list(zip(mine, theirs, strict=True))
        return all(b <= a for a, b in pairs) and any(b < a for a, b in pairs)


@dataclass(frozen=True)
class Front:
    """All operators that have the three numbers, those on the front first."""

    quality: Quality
    standings: Sequence[Standing]
    timed: str
    panels: Panels


def fronts(evidence: Evidence, dress: Mapping[Operator, Style]) -> list[Front]:
    found = []
    for run in dict.fromkeys(case.words["run"] for case in evidence.cases):
        times = _times(evidence, run)
        for quality in _qualities(evidence, run):
            standings = _standings(evidence, run, quality, times)
            if len(standings) > 1:
                found.append(_front(evidence, quality, standings, dress))
    return found


def _front(
    evidence: Evidence,
    quality: Quality,
    standings: Sequence[Standing],
    dress: Mapping[Operator, Style],
) -> Front:
    cases = [one.case for one in standings]
    words = shared(cases, ("dtype", "B", "T", "H", "K", "V", "direction"))
    timed = f"{evidence.device(cases[0])}, {words}"
    return Front(quality, standings, timed, _panels(quality, standings, dress))


def _times(evidence: Evidence, run: str) -> dict[Operator, Case]:
    """The fastest right time of each operator, at the size most operators were timed at."""
    sizes: dict[tuple[Any, ...], dict[Operator, Case]] = defaultdict(dict)
    for case in evidence.of("speed"):
        time = case.value("time")
        if case.words["run"] != run or not evidence.is_ranked(case) or not time or time <= 0:
            continue
        if case.record.parameters or case.words["inputs"] != "normal":
            continue
        words = tuple(
            case.words.get(word, "") for word in ("dtype", "direction", "B", "H", "K", "V")
        )
        place = (case.words.get("direction") == "forward", case.tokens, *words)
        best = sizes[place].get(case.operator)
        if best is None or time < (best.value("time") or 0.0):
            sizes[place][case.operator] = case
    if not sizes:
        return {}
    return sizes[max(sizes, key=lambda place: (len(sizes[place]), place))]


def _qualities(evidence: Evidence, run: str) -> Iterator[Quality]:
    held = _held(evidence, run)
    if held:
        title = f"pairs held within an error of {100 * THRESHOLD:g} %"
        yield Quality(title, "pairs", "higher", held, {})
    for scored, said in ((PERPLEXITY, "perplexity"), (BLEU, "BLEU")):
        for scores in scores_of(evidence, scored):
            values: dict[Operator, float] = {}
            states: dict[Operator, float] = {}
            for line in scores.lines:
                operator, first = line.curve.operator, line.first
                if line.mean is None or first.words["run"] != run or operator in values:
                    continue
                values[operator] = line.mean.value
                if (state := first.value("state") or 0.0) > 0:
                    states[operator] = state
            if values:
                yield Quality(f"{said} on {scores.data}", said, scored.better, values, states)


def _held(evidence: Evidence, run: str) -> dict[Operator, float]:
    by_operator: dict[tuple[Operator, str], list[Case]] = defaultdict(list)
    for case in evidence.of("capacity"):
        if case.words["run"] == run and case.value("error") is not None:
            by_operator[case.operator, case.implementation].append(case)
    held: dict[Operator, float] = {}
    for (operator, _), cases in by_operator.items():
        most = most_pairs(cases)
        pairs = (pairs_of(most) or 0.0) if most else 0.0
        held[operator] = max(pairs, held.get(operator, 0.0))
    return held


def _states(evidence: Evidence, run: str, tokens: int) -> dict[Operator, float]:
    """Of the memory suite, at the length nearest to that of the times: some states grow with T."""
    found: dict[Operator, tuple[float, float]] = {}
    for case in evidence.of("memory"):
        size = case.value("state")
        if case.words["run"] != run or not size or size <= 0 or not case.tokens:
            continue
        distance = abs(case.tokens - tokens)
        if case.operator not in found or distance < found[case.operator][0]:
            found[case.operator] = distance, size
    return {operator: size for operator, (_, size) in found.items()}


def _standings(
    evidence: Evidence, run: str, quality: Quality, times: Mapping[Operator, Case]
) -> list[Standing]:
    if not times:
        return []
    tokens = next(iter(times.values())).tokens
    states = quality.states or _states(evidence, run, tokens)
    sign = 1.0 if quality.better == "higher" else -1.0
    there = [
        Standing(
            evidence.label(case),
            operator,
            case,
            case.value("time") or 0.0,
            states[operator],
            quality.scores[operator],
            sign * quality.scores[operator],
        )
        for operator, case in times.items()
        if operator in quality.scores and operator in states
    ]
    marked = [
        Standing(**{**vars(one), "first": not any(map(one.is_beaten_by, there))}) for one in there
    ]
    return sorted(marked, key=lambda one: (not one.first, -one.gain, one.time))


def _panels(
    quality: Quality, standings: Sequence[Standing], dress: Mapping[Operator, Style]
) -> Panels:
    worn = {
        one.operator: dress.get(one.operator) or style(len(dress) + place)
        for place, one in enumerate(standings)
    }
    time = axes.logarithmic("time of one call", "s", (one.time for one in standings))
    state = axes.logarithmic("state", "B", (one.state for one in standings))
    views: list[tuple[str, axes.Axis, Callable[[Standing], float]]] = [
        ("time", time, lambda one: one.time),
        ("state", state, lambda one: one.state),
    ]
    figures = [
        Figure(
            f"{quality.title}, by {said}",
            charts.scatter(
                [
                    charts.Dot(x(one), one.quality, one.label, _words(quality, one), one.first)
                    for one in standings
                ],
                [worn[one.operator] for one in standings],
                axis,
                quality.title,
                width=460,
                height=280,
            ),
        )
        for said, axis, x in views
    ]
    keys = [
        Key(one.label, worn[one.operator], "on the front" if one.first else "") for one in standings
    ]
    better = "further up" if quality.better == "higher" else "further down"
    caption = f"Better is {better} and further left. Filled: on the front, by medians and means; "
    caption += "hollow: another is at least as good in all three. Colours are operators."
    return Panels(caption, keys, figures, wide=True)


def _words(quality: Quality, one: Standing) -> str:
    low, high = one.case.bounds("time")
    interval = f" (95 %: {between(low, high, 's')})" if low is not None else ""
    scored = count(one.quality) if quality.unit == "pairs" else digits(one.quality)
    return (
        f"{scored} {quality.unit}, {shown(one.time, 's')}{interval} by {one.case.implementation}, "
        f"state {shown(one.state, 'B')}"
    )
