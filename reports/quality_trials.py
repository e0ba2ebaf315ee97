"""A training and its repetitions: each trial, their mean with an interval, learning curves."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fwpbench.harness.scaling_law import T_975
from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.curves import Curve, curves_of, one_implementation_each
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import LARGEST, Case, Evidence, Operator
from fwpbench.reports.palette import Style, style
from fwpbench.reports.section import Key, Panels
from fwpbench.reports.stability import thinned
from fwpbench.reports.units import clipped, count, digits

SUITES = ("retrieval", "language-modeling", "translation")
SOFTMAX = "softmax-attention"
#: What a learning curve shows, and its title: the first of these that there is.
LEARNING = {
    "validation perplexity": "validation perplexity",
    "validation loss": "validation loss (nats a word)",
    "training loss": "training loss (nats a word)",
}
#: Points of a learning curve that are drawn.
MOST_POINTS = 14


@dataclass(frozen=True)
class Mean:
    """The mean of some trials; `low` and `high` bound it with 95 %, of two trials or more."""

    value: float
    low: float | None
    high: float | None
    number: int


def mean_of(values: Sequence[float], most: float = math.inf) -> Mean | None:
    """Student's interval: with two trials it is 12.7 standard errors wide to each side. It is cut
    at the largest value that there can be."""
    if not values:
        return None
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Mean(mean, None, None, 1)
    t = T_975[min(len(values) - 1, len(T_975)) - 1]
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return Mean(mean, mean - half, min(mean + half, most), len(values))


def parameter(case: Case, name: str) -> str:
    """What the suite varies, as text: `0` for 0.0."""
    value = case.record.parameters.get(name, "")
    return f"{value:g}" if isinstance(value, int | float) else clipped(value, 60)


def number(case: Case, name: str) -> float:
    value = case.record.parameters.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def by_data(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases of each data set, embedded ones and real ones never mixed."""
    sets: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        sets[parameter(case, "data")].append(case)
    return sets


@dataclass(frozen=True)
class Trial:
    """One trial in a cell: its number, or the status it has instead, and why."""

    text: str
    title: str
    group: str


def trials_of(curve: Curve, metric: str) -> list[Trial]:
    ordered = sorted(curve.cases, key=lambda case: number(case, "trial"))
    trials = []
    for case in ordered:
        value = case.value(metric)
        place = f"trial {parameter(case, 'trial')}"
        if value is None:
            text, title = case.record.status, f"{place}: {case.record.reason or 'no number'}"
            trials.append(Trial(text, clipped(title, 160), case.group))
        else:
            trials.append(Trial(digits(value), place, ""))
    return trials


def values_of(curve: Curve, metric: str) -> list[float]:
    return [value for case in curve.cases if (value := case.value(metric)) is not None]


@dataclass(frozen=True)
class Line:
    """One model on one implementation."""

    curve: Curve
    trials: Sequence[Trial]
    mean: Mean | None

    @property
    def first(self) -> Case:
        return self.curve.cases[0]


@dataclass(frozen=True)
class Scored:
    """How a suite's score is read: `baselines` maps metrics that belong to the data to words."""

    suite: str
    metric: str
    better: Literal["lower", "higher"]
    baselines: Mapping[str, str]
    most: float = math.inf


@dataclass(frozen=True)
class Scores:
    """Every model on one data set, the best first, and what scores without a model."""

    data: str
    cases: Sequence[Case]
    lines: Sequence[Line]
    baselines: Sequence[tuple[str, str]]
    without: Sequence[tuple[str, Sequence[Case]]]

    @property
    def curves(self) -> list[Curve]:
        return [line.curve for line in self.lines]


def scores_of(evidence: Evidence, scored: Scored) -> list[Scores]:
    sets = by_data(evidence.of(scored.suite))
    return [_scores(evidence, data, cases, scored) for data, cases in sets.items()]


def _scores(evidence: Evidence, data: str, cases: list[Case], scored: Scored) -> Scores:
    def told(case: Case) -> bool:
        return case.value(scored.metric) is not None or case.record.status == "diverged"

    def place(line: Line) -> float:
        if line.mean is None:
            return math.inf
        return line.mean.value if scored.better == "lower" else -line.mean.value

    lines = [
        Line(
            curve,
            trials_of(curve, scored.metric),
            mean_of(values_of(curve, scored.metric), scored.most),
        )
        for curve in curves_of(evidence, [case for case in cases if told(case)], axis="trial")
    ]
    baselines = [
        (said, ", ".join(map(digits, found)))
        for metric, said in scored.baselines.items()
        if (found := sorted({v for case in cases if (v := case.value(metric)) is not None}))
    ]
    without = by_cause(case for case in cases if not told(case))
    return Scores(data, cases, sorted(lines, key=place), baselines, without)


def signed(value: float) -> str:
    """`+1.2`, `−0.3`: a difference."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{digits(abs(value))}"


def dress_of(evidence: Evidence) -> dict[Operator, Style]:
    """One colour and shape a model in every chart of the section; softmax attention comes first."""
    met = dict.fromkeys(case.operator for suite in SUITES for case in evidence.of(suite))
    ordered = sorted(met, key=lambda operator: operator.rule != SOFTMAX)
    return {operator: style(place) for place, operator in enumerate(ordered)}


def learning_curve(case: Case, quantity: str) -> list[tuple[float, float]]:
    """(step, value) where both are positive numbers."""
    samples = case.record.samples
    return [
        (float(step), float(value))
        for step, value in zip(samples.get("step", []), samples.get(quantity, []), strict=False)
        if step is not None and value is not None and 0 < step < LARGEST and 0 < value < LARGEST
    ]


def learning_panels(curves: Sequence[Curve], dress: Mapping[Operator, Style]) -> Panels | None:
    """One chart of the validation loss, or of the training loss where nothing else was seen."""
    drawn, others = one_implementation_each(curves)
    seen = {name for curve in drawn for case in curve.cases for name in case.record.samples}
    quantity = next((name for name in LEARNING if name in seen), "training loss")
    series = [
        charts.Series(curve.name, dress[curve.operator], points)
        for curve in drawn
        if (points := _points(curve, quantity))
    ]
    if not series:
        return None
    points = [point for one in series for point in one.points]
    x = axes.logarithmic("step", "1", [point.x for point in points])
    heights = [edge for point in points for edge in (float(point.y), point.low, point.high)]
    y = axes.logarithmic(LEARNING[quantity], "1", heights)
    said = "Both axes logarithmic. A line is the mean over the trials; a stroke through a point "
    said += "reaches from the lowest trial to the highest."
    said += " Of several implementations the first in the table is drawn." if others else ""
    figure = Figure("", charts.lines(series, x, y, width=600, height=320))
    return Panels(said, [Key(one.label, one.style) for one in series], [figure], wide=True)


def _points(curve: Curve, quantity: str) -> list[charts.Point]:
    seen: dict[float, list[float]] = defaultdict(list)
    for case in curve.cases:
        for step, value in learning_curve(case, quantity):
            seen[step].append(value)
    means = sorted((step, statistics.fmean(values)) for step, values in seen.items())
    points = []
    for step, mean in thinned(means, MOST_POINTS):
        low, high = span(seen[step])
        text = f"{quantity} {digits(mean)} after {count(step)} steps{span_text(low, high)}"
        points.append(charts.Point(step, mean, text, low, high))
    return points


def span(values: Sequence[float]) -> tuple[float | None, float | None]:
    """From the lowest trial to the highest, where there are several."""
    return (min(values), max(values)) if len(values) > 1 else (None, None)


def span_text(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (trials {digits(low)} – {digits(high)})"


def text_of(value: Any, longest: int = 300) -> str:
    """A string of a record's detail; "" where it is none."""
    return clipped(value, longest) if isinstance(value, str) else ""
