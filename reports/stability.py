"""What becomes of the state over a long sequence: its norm and its normaliser, token by token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.curves import Curve, curve_panels, curves_of
from fwpbench.reports.evidence import Case, Evidence, shared
from fwpbench.reports.section import Panels, Section
from fwpbench.reports.units import count, digits

QUANTITIES = ("state norm", "normaliser")
#: Points of a line that are drawn; evenly spaced on the logarithmic axis.
MOST_POINTS = 24


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("stability")
    if not cases:
        return None
    told = [case for case in cases if _has_end(case)]
    curves = curves_of(evidence, told, axis="")
    content = {
        "curves": curves,
        "common": shared(cases, ("dtype", "B", "T", "H", "K", "V", "inputs")),
        "panels": [panels for name in QUANTITIES if (panels := _panels(curves, name)) is not None],
        "without": by_cause(case for case in cases if not _has_end(case)),
    }
    return Section(
        "stability",
        "Stability",
        "Does the state stay bounded over a long sequence?",
        "stability.html.jinja",
        content,
    )


def _has_end(case: Case) -> bool:
    return any(case.value(metric) is not None for metric in ("state norm", "diverged at"))


def _panels(curves: Sequence[Curve], quantity: str) -> Panels | None:
    lines = {id(curve): trajectory(curve.cases[0], quantity) for curve in curves}
    limit = _limit(curves, lines)
    drawn = {
        place: [(token, value) for token, value in line if value <= limit]
        for place, line in lines.items()
    }
    points = [point for line in drawn.values() for point in line]
    x = axes.logarithmic("token", "count", [token for token, _ in points])
    title = "‖S‖ (norm of the state)" if quantity == "state norm" else "size of the normaliser"
    y = axes.logarithmic(title, "1", [value for _, value in points])
    panels = curve_panels(curves, lambda curve: _points(drawn[id(curve)], quantity), x, y)
    if panels is None or drawn == lines:
        return panels
    said = " A line that ends early diverged and left the picture; its numbers are in the table."
    return replace(panels, caption=panels.caption + said)


def _limit(curves: Sequence[Curve], lines: Mapping[int, list[tuple[float, float]]]) -> float:
    """A diverging line is drawn only so far that the others can still be told apart."""
    bounded = [
        value
        for curve in curves
        if curve.cases[0].value("diverged at") is None
        for _, value in lines[id(curve)]
    ]
    return 100 * max(bounded) if bounded else math.inf


def trajectory(case: Case, quantity: str) -> list[tuple[float, float]]:
    """(token, value) where both are positive numbers, thinned out."""
    tokens, values = case.record.detail.get("tokens"), case.record.detail.get(quantity)
    if not isinstance(tokens, list) or not isinstance(values, list):
        return []
    pairs = [
        (float(token), float(value))
        for token, value in zip(tokens, values, strict=False)
        if isinstance(token, int | float) and isinstance(value, int | float)
        if 0 < token < math.inf and 0 < value < math.inf
    ]
    return thinned(pairs)


def thinned(pairs: list[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many, evenly spaced on a logarithmic axis; the first and the last stay."""
    if len(pairs) <= most:
        return pairs
    span = math.log(pairs[-1][0] / pairs[0][0]) or 1.0
    seen: dict[int, tuple[float, float]] = {}
    for pair in pairs[:-1]:
        seen.setdefault(math.floor((most - 1) * math.log(pair[0] / pairs[0][0]) / span), pair)
    return [*seen.values(), pairs[-1]]


def _points(line: list[tuple[float, float]], quantity: str) -> list[charts.Point]:
    return [
        charts.Point(token, value, f"{quantity} {digits(value)} after {count(token)} tokens")
        for token, value in line
    ]
