"""How many pairs an operator stores: relative squared error over the load n/D."""

from __future__ import annotations

from collections.abc import Sequence

from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.curves import Curve, curve_panels, curves_of
from fwpbench.reports.evidence import Case, Evidence, shared
from fwpbench.reports.section import Section
from fwpbench.reports.units import digits, shown

#: The error at which the summary compares operators.
THRESHOLD = 0.1


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("capacity")
    if not cases:
        return None
    measured = [case for case in cases if case.value("error") is not None]
    curves = curves_of(evidence, measured, axis="load")
    x = axes.logarithmic("load n/D (pairs per feature)", "1", [load_of(case) for case in measured])
    y = axes.logarithmic("relative squared error", "1", [case.value("error") for case in measured])
    content = {
        "curves": curves,
        "loads": sorted({_step(case) for case in measured} - {0.0}),
        "pairs_of": pairs_of,
        "most": lambda curve: most_pairs(curve.cases),
        "at": _at,
        "threshold": THRESHOLD,
        "common": shared(cases, ("dtype", "B", "H", "K", "V")),
        "panels": curve_panels(curves, _points, x, y),
        "without": by_cause(case for case in cases if case.value("error") is None),
    }
    return Section(
        "capacity",
        "Capacity",
        "How many pairs does each operator store before it errs?",
        "capacity.html.jinja",
        content,
    )


def pairs_of(case: Case) -> float | None:
    pairs = case.record.parameters.get("pairs")
    return float(pairs) if isinstance(pairs, int | float) else None


def load_of(case: Case) -> float | None:
    load = case.record.parameters.get("load")
    if isinstance(load, int | float):
        return float(load)
    pairs, features = pairs_of(case), case.value("features")
    return pairs / features if pairs is not None and features else None


def most_pairs(cases: Sequence[Case]) -> Case | None:
    """The largest number of pairs up to which every smaller one stays within the threshold."""
    best = None
    for case in sorted(cases, key=lambda case: pairs_of(case) or 0.0):
        error = case.value("error")
        if error is None or error > THRESHOLD:
            break
        best = case
    return best


def _step(case: Case) -> float:
    """The load as a column of the table; pairs are whole, so loads may differ a little."""
    return round(load_of(case) or 0.0, 4)


def _at(curve: Curve, load: float) -> Case | None:
    return next((case for case in curve.cases if _step(case) == load), None)


def _points(curve: Curve) -> list[charts.Point]:
    points = []
    for case in curve.cases:
        load, error = load_of(case), case.value("error")
        if load and error and load > 0 and error > 0:
            pairs = pairs_of(case)
            text = f"error {shown(error, 'fraction')} at load {digits(load)}"
            text += f" ({digits(pairs)} pairs)" if pairs is not None else ""
            points.append(charts.Point(load, error, text))
    return sorted(points, key=lambda point: point.x)
