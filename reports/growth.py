"""Time and memory over the sequence length T, one small chart an operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fwpbench.harness.scaling_law import Points, error_of, fit
from fwpbench.reports import axes, charts
from fwpbench.reports.axes import Unit
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, shared, telling
from fwpbench.reports.palette import Style, style
from fwpbench.reports.section import Key, Panels, Section
from fwpbench.reports.units import between, count, shown

MOST_PANELS = 18


@dataclass(frozen=True)
class Line:
    """One operator on one implementation under one set of conditions, its cases ordered by T."""

    label: str
    conditions: str
    direction: str
    implementation: str
    cases: Sequence[Case]

    @property
    def under(self) -> str:
        return " · ".join(filter(None, (self.direction, self.conditions)))

    def points(self, metric: str) -> Points | None:
        """What a law is fitted to: T, the values, and their errors; None where none has one."""
        points = [
            (case.tokens, value, error)
            for case in self.cases
            if case.group == "ok"
            and (value := case.value(metric)) is not None
            and (error := error_of(*case.bounds(metric), value)) is not None
        ]
        if not points:
            return None
        tokens, values, errors = zip(*points, strict=True)
        return tokens, values, errors

    def exponent(self, metric: str) -> str:
        """`1.02 (0.97 – 1.08)`: p of a + c·T^p; a dash where too few lengths have an interval."""
        points = self.points(metric)
        law = fit(*points) if points else None
        if law is None:
            return "–"
        return f"{law.exponent:.2f} ({law.low:.2f} – {law.high:.2f})"

    def at(self, tokens: int) -> Case | None:
        return next((case for case in self.cases if case.tokens == tokens), None)


def scaling(evidence: Evidence) -> Section | None:
    return _section(
        evidence, "scaling", "Scaling", "How does time grow with the sequence?", "time", "s"
    )


def memory(evidence: Evidence) -> Section | None:
    return _section(
        evidence, "memory", "Memory", "How much memory does a call need at its peak?", "peak", "B"
    )


def lines_of(cases: Sequence[Case], evidence: Evidence) -> list[Line]:
    told = telling(cases, axis="T")
    directed = "direction" in told
    rest = [word for word in told if word != "direction"]
    grouped: dict[tuple[str, str, str, str], list[Case]] = defaultdict(list)
    for case in cases:
        direction = case.words.get("direction", "") if directed else ""
        place = (evidence.label(case), case.told_by(rest), direction, case.implementation)
        grouped[place].append(case)
    return [
        Line(*place, sorted(same, key=lambda case: case.tokens)) for place, same in grouped.items()
    ]


def _section(
    evidence: Evidence, suite: str, title: str, question: str, metric: str, unit: Unit
) -> Section | None:
    cases = evidence.of(suite)
    if not cases:
        return None
    measured = [case for case in cases if case.value(metric) is not None and case.tokens > 0]
    lines = lines_of(measured, evidence)
    content = {
        "lines": lines,
        "evidence": evidence,
        "metric": metric,
        "unit": unit,
        "tokens": sorted({case.tokens for case in measured}),
        "with_state": metric == "peak",
        "with_exponent": metric == "time",
        "common": shared(cases, ("dtype", "B", "H", "K", "V", "direction")),
        "panels": _panels(evidence, lines, metric, unit),
        "without": by_cause(case for case in cases if case.value(metric) is None),
    }
    return Section(suite, title, question, "growth.html.jinja", content)


def _panels(evidence: Evidence, lines: Sequence[Line], metric: str, unit: Unit) -> Panels | None:
    by_panel: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        by_panel[line.label, line.conditions].append(line)
    if not by_panel:
        return None
    named = [place for place, same in by_panel.items() if same[0].cases[0].record.name]
    places = (named or list(by_panel))[:MOST_PANELS]
    drawn = [line for place in places for line in by_panel[place]]
    directions = list(dict.fromkeys(line.direction for line in drawn))
    cases = [case for line in drawn for case in line.cases]
    x = axes.logarithmic("T (tokens)", "count", (case.tokens for case in cases))
    edges = [edge for case in cases for edge in (case.value(metric), *case.bounds(metric))]
    y = axes.logarithmic("time" if unit == "s" else "peak memory", unit, edges)
    figures = [
        Figure(
            " · ".join(filter(None, place)),
            charts.lines(
                [
                    _series(evidence, line, metric, unit, directions.index(line.direction))
                    for line in by_panel[place]
                ],
                x,
                y,
                width=360,
                height=240,
            ),
        )
        for place in places
    ]
    left = len(by_panel) - len(places)
    caption = f"Both axes logarithmic, the same in every chart. {_left(left)}"
    used = {line.implementation for line in drawn}
    keys = [
        Key(one.name, one.style, "" if one.origin == "in-tree" else one.origin)
        for one in evidence.implementations.values()
        if one.name in used
    ]
    if len(directions) > 1:
        keys += [
            Key(direction, Style("currentColor", "", style(0, dash).dash))
            for dash, direction in enumerate(directions)
        ]
    return Panels(caption.strip(), keys, figures)


def _left(number: int) -> str:
    return f"{number} more are in the table." if number else ""


def _series(evidence: Evidence, line: Line, metric: str, unit: Unit, dash: int) -> charts.Series:
    points = []
    for case in line.cases:
        value, (low, high) = case.value(metric), case.bounds(metric)
        if value is None or value <= 0:
            continue
        if low is None or low <= 0:
            low = high = None
        interval = f" (95 %: {between(low, high, unit)})" if low is not None else ""
        text = f"{shown(value, unit)}{interval} at T = {count(case.tokens)}"
        text += "" if case.group == "ok" else f", {case.record.status}"
        points.append(charts.Point(case.tokens, value, text, low, high))
    worn = replace(evidence.implementations[line.implementation].style, dash=style(0, dash).dash)
    label = " · ".join(filter(None, (line.implementation, line.direction)))
    return charts.Series(label, worn, points)
