"""One dot an operator and implementation: small charts of one metric each, axes shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fwpbench.reports import charts
from fwpbench.reports.axes import Axis
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, varying
from fwpbench.reports.section import Key, Panels
from fwpbench.reports.units import between, count, shown

MOST_ROWS = 24


def row_of(evidence: Evidence, case: Case, told: Sequence[str]) -> str:
    return " · ".join(filter(None, (evidence.label(case), case.told_by(told))))


def dotted_panels(
    evidence: Evidence, cases: Sequence[Case], metrics: Mapping[str, str], x: Axis, caption: str
) -> Panels | None:
    """`metrics` are titles of the charts by the metric they show."""
    told = varying(cases)
    rows = list(dict.fromkeys(row_of(evidence, case, told) for case in cases))[:MOST_ROWS]
    figures = []
    for metric, title in metrics.items():
        points: dict[str, list[charts.Point]] = defaultdict(list)
        for case in cases:
            row, value = row_of(evidence, case, told), case.value(metric)
            if row in rows and value is not None and value > 0:
                points[case.implementation].append(_point(case, row, metric, value, x))
        series = [
            charts.Series(name, one.style, points[name])
            for name, one in evidence.implementations.items()
            if name in points
        ]
        if series:
            figures.append(Figure(title, charts.dots(series, x, rows, width=500)))
    if not figures:
        return None
    used = {case.implementation for case in cases}
    keys = [
        Key(one.name, one.style, "" if one.origin == "in-tree" else one.origin)
        for one in evidence.implementations.values()
        if one.name in used
    ]
    return Panels(caption, keys, figures, wide=True)


def _point(case: Case, row: str, metric: str, value: float, x: Axis) -> charts.Point:
    low, high = case.bounds(metric)
    if low is None or high is None or low <= 0 or low == high:
        low = high = None
    if x.unit == "count":
        said = f"T = {count(value)}"
        interval = f" ({count(high)} did not fit)" if high is not None else ""
    else:
        said = shown(value, x.unit)
        interval = f" (95 %: {between(low, high, x.unit)})" if low is not None else ""
    text = f"{row}: {said}{interval}"
    return charts.Point(value, row, text if case.group == "ok" else f"{text}, {case.record.status}",
                        low, high)  # fmt: skip
