"""One line an operator: in one chart while they are few, else one chart an update rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fwpbench.reports import charts
from fwpbench.reports.axes import Axis
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, Operator, telling
from fwpbench.reports.palette import COLOURS, Style, style
from fwpbench.reports.section import Key, Panels

#: Two lines of one colour differ in shape and dashes; more lines than this are a tangle. A dashed
#: line shows the solid one it lies on.
MOST_IN_ONE = 2 * len(COLOURS)
MOST_PANELS = 12


@dataclass(frozen=True)
class Curve:
    """An operator on one implementation under one set of conditions."""

    label: str
    conditions: str
    implementation: str
    operator: Operator
    cases: Sequence[Case]

    @property
    def name(self) -> str:
        return " · ".join(filter(None, (self.label, self.conditions)))


def curves_of(evidence: Evidence, cases: Sequence[Case], axis: str) -> list[Curve]:
    told = telling(cases, axis)
    grouped: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
    for case in cases:
        grouped[evidence.label(case), case.told_by(told), case.implementation].append(case)
    curves = [Curve(*place, same[0].operator, same) for place, same in grouped.items()]
    names = list(evidence.implementations)
    met = list(dict.fromkeys((curve.label, curve.conditions) for curve in curves))
    return sorted(
        curves, key=lambda c: (met.index((c.label, c.conditions)), names.index(c.implementation))
    )


def curve_panels(
    curves: Sequence[Curve], points: Callable[[Curve], list[charts.Point]], x: Axis, y: Axis
) -> Panels | None:
    """Charts of the curves that have points; a curve is coloured by its place among all."""
    first, others = one_implementation_each(curves)
    dotted = [(curve, points(curve)) for curve in first]
    if not any(drawn for _, drawn in dotted):
        return None
    said = "Both axes logarithmic. The colours here are operators, not implementations."
    said += (
        " Where several implementations were asked, the first in the table is drawn."
        if others
        else ""
    )
    if len(first) <= MOST_IN_ONE:
        series = [
            charts.Series(curve.name, style(place, place // 3), drawn)
            for place, (curve, drawn) in enumerate(dotted)
            if drawn
        ]
        keys = [Key(one.label, one.style) for one in series]
        spec = charts.lines(series, x, y, width=600, height=360)
        return Panels(said, keys, [Figure("", spec)], wide=True)
    dress, keys = _dress([curve for curve, drawn in dotted if drawn])
    by_panel: dict[str, list[charts.Series]] = defaultdict(list)
    for curve, drawn in dotted:
        rest = f"{curve.operator.phi} · {curve.operator.norm}"
        label = rest if curve.label == str(curve.operator) else f"{curve.label} ({rest})"
        title = " · ".join(filter(None, (curve.operator.rule, curve.conditions)))
        if drawn:
            by_panel[title].append(charts.Series(label, dress[curve.operator], drawn))
    figures = [
        Figure(title, charts.lines(series, x, y, width=360, height=260))
        for title, series in list(by_panel.items())[:MOST_PANELS]
    ]
    return Panels(f"{said} One chart an update rule, axes shared.", keys, figures)


def one_implementation_each(curves: Sequence[Curve]) -> tuple[list[Curve], int]:
    """The first curve of each operator, and how many others there are."""
    first: dict[tuple[str, str], Curve] = {}
    for curve in curves:
        first.setdefault((curve.label, curve.conditions), curve)
    return list(first.values()), len(curves) - len(first)


def _dress(curves: Sequence[Curve]) -> tuple[dict[Operator, Style], list[Key]]:
    """The colour and shape of a line are its feature map, its dashes the normalisation."""
    maps = list(dict.fromkeys(curve.operator.phi for curve in curves))
    norms = list(dict.fromkeys(curve.operator.norm for curve in curves))
    dress = {
        curve.operator: style(maps.index(curve.operator.phi), norms.index(curve.operator.norm))
        for curve in curves
    }
    keys = [Key(f"φ = {phi or 'none'}", style(place)) for place, phi in enumerate(maps)]
    lines = [
        Key(f"norm = {norm}", Style("currentColor", "", style(0, n).dash))
        for n, norm in enumerate(norms)
    ]
    return dress, keys + (lines if len(norms) > 1 else [])
