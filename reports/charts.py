"""Charts as declarative specs (altair): lines with intervals, dots with intervals, a histogram.

Every string of a record enters as a data value, never as an expression or a field name. Colours of
text and grid are `currentColor`, so a chart follows the page into the dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from fwpbench.reports import axes
from fwpbench.reports.axes import Axis
from fwpbench.reports.palette import COLOURS, Style

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
#: Said once per page, not once per spec.
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.12,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 6,
        "labelLimit": 260,
    },
}


@dataclass(frozen=True)
class Point:
    """`text` says in words, with units, what stands at the point."""

    x: float
    y: float | str
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    label: str
    style: Style
    points: list[Point]


def lines(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    width: int,
    height: int,
    beneath: Sequence[Series] = (),
) -> dict[str, Any]:
    """One line a series, its points, and the interval of each point.

    `beneath` is what they are held against: wide and pale, so that it shows where they agree.
    """
    everything = [*beneath, *series]
    colours, dashes = _colours(everything), _dashes(everything)
    base = _base(_rows(series)).encode(x=_x("x", x), color=colours, strokeDash=dashes)
    layers: list[alt.Chart] = [base.mark_line(strokeWidth=1.75).encode(y=_y("y", y))]
    if beneath:
        ground = _base(_rows(beneath)).encode(
            x=_x("x", x), y=_y("y", y), color=colours, strokeDash=dashes
        )
        marks = _symbols(ground, everything, size=110).encode(strokeDash=alt.Undefined)
        layers = [ground.mark_line(strokeWidth=3.5, opacity=0.6), marks, *layers]
    if any(point.low is not None for one in series for point in one.points):
        layers.append(
            base.mark_rule(strokeWidth=1.25)
            .transform_filter("isValid(datum.low) && isValid(datum.high)")
            .encode(y=_y("low", y), y2="high:Q", strokeDash=alt.Undefined)
        )
    layers.append(_symbols(base, everything).encode(y=_y("y", y), strokeDash=alt.Undefined))
    return finished(alt.layer(*layers), width, height)


def dots(series: Sequence[Series], x: Axis, rows: Sequence[str], *, width: int) -> dict[str, Any]:
    """One row a name, on it one dot and one interval a series."""
    # The reader's font may be wider than the one the drawing was measured with.
    room = 10 + 6.5 * max((len(row) for row in rows), default=0)
    place = alt.Y("y:N", sort=list(rows), title=None).axis(
        grid=True, domain=False, ticks=False, minExtent=min(room, CONFIG["axis"]["labelLimit"])
    )
    base = _base(_rows(series)).encode(y=place, color=_colours(series))
    interval = (
        base.mark_rule(strokeWidth=2)
        .transform_filter("isValid(datum.low) && isValid(datum.high)")
        .encode(x=_x("low", x), x2="high:Q")
    )
    points = _symbols(base, series).encode(x=_x("x", x))
    return finished(alt.layer(interval, points), width, 60 + 24 * len(rows))


@dataclass(frozen=True)
class Dot:
    """One of a scatter, filled or hollow."""

    x: float
    y: float
    label: str
    text: str
    filled: bool


def scatter(
    dots: Sequence[Dot], worn: Sequence[Style], x: Axis, y: str, *, width: int, height: int
) -> dict[str, Any]:
    """Each dot of its own colour and shape."""
    rows = [
        {"x": dot.x, "y": dot.y, "series": dot.label, "value": dot.text, "filled": dot.filled}
        for dot in dots
    ]
    labels = [dot.label for dot in dots]
    base = _base(rows).encode(
        x=_x("x", x),
        y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False, nice=True)).axis(
            tickCount=5, domain=False, ticks=False
        ),
    )
    colour = alt.Scale(domain=labels, range=[style.colour for style in worn])
    points = base.mark_point(size=110, strokeWidth=2, opacity=1).encode(
        color=alt.Color("series:N", legend=None, scale=colour),
        fill=alt.Fill("series:N", legend=None, scale=colour),
        fillOpacity=alt.condition("datum.filled", alt.value(1), alt.value(0)),
        shape=alt.Shape("series:N", legend=None).scale(
            domain=labels, range=[style.shape for style in worn]
        ),
        tooltip=_tooltip(),
    )
    return finished(alt.layer(points), width, height)


def histogram(
    counts: Sequence[tuple[float, float, int]],
    x: Axis,
    style: Style,
    limit: float,
    *,
    width: int,
    height: int,
) -> dict[str, Any]:
    """Bars from `low` to `high`, and a line at what is allowed."""
    rows = [
        {
            "x": low,
            "high": high,
            "y": number,
            "series": f"{low:.2g} – {high:.2g}",
            "value": f"{number:,} tensors",
        }
        for low, high, number in counts
    ]
    bars = (
        _base(rows)
        .mark_bar(color=style.colour, opacity=0.85)
        .encode(
            x=_x("x", x),
            x2="high:Q",
            y2=alt.datum(0),
            y=alt.Y("y:Q", title="tensors", scale=alt.Scale(domainMin=0)).axis(
                tickCount=4, domain=False, ticks=False
            ),
            tooltip=_tooltip(),
        )
    )
    border = (
        _base([{"x": limit}]).mark_rule(strokeDash=[4, 3], color="currentColor").encode(x="x:Q")
    )
    return finished(alt.layer(bars, border), width, height)


def samples(unit: str, *, width: int, height: int) -> dict[str, Any]:
    """One dot a sample in the order taken, a line at the median; the page's script has the data."""
    words = axes.LABELS[unit]
    base = alt.Chart(alt.NamedData("samples")).transform_calculate(
        title="'sample ' + datum.x", value=words.replace("datum.value", "datum.y")
    )
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(labelExpr=words))
    dots = base.mark_point(filled=True, size=30, color=COLOURS[1], opacity=0.8).encode(
        x=alt.X("x:Q", title="sample", axis=alt.Axis(tickMinStep=1, format="d")),
        y=y,
        tooltip=[alt.Tooltip("title:N", title="title"), alt.Tooltip("value:N", title="value")],
    )
    middle = base.mark_rule(strokeDash=[4, 3], color="currentColor").encode(
        y=alt.Y("median(y):Q", title=None)
    )
    return finished(alt.layer(middle, dots), width, height)


def _base(rows: list[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _rows(series: Sequence[Series]) -> list[dict[str, Any]]:
    return [
        {"x": point.x, "y": point.y, "series": one.label, "value": point.text}
        | ({} if point.low is None else {"low": point.low, "high": point.high})
        for one in series
        for point in one.points
    ]


def _x(field: str, axis: Axis) -> alt.X:
    return alt.X(f"{field}:Q", title=axis.title, scale=_scale(axis), axis=_ticks(axis))


def _y(field: str, axis: Axis) -> alt.Y:
    return alt.Y(f"{field}:Q", title=axis.title, scale=_scale(axis), axis=_ticks(axis))


def _scale(axis: Axis) -> alt.Scale:
    return alt.Scale(type="log", domain=[axis.low, axis.high], nice=False)


def _ticks(axis: Axis) -> alt.Axis:
    return alt.Axis(values=axis.ticks, labelExpr=axis.label, labelOverlap=True)


def _symbols(base: alt.Chart, series: Sequence[Series], size: int = 42) -> alt.Chart:
    symbols: alt.Chart = base.mark_point(filled=True, size=size, opacity=1).encode(
        shape=alt.Shape("series:N", legend=None).scale(
            domain=[one.label for one in series], range=[one.style.shape for one in series]
        ),
        tooltip=_tooltip(),
    )
    return symbols


def _tooltip() -> list[alt.Tooltip]:
    """`title` is what the tooltip library writes above the rest."""
    return [alt.Tooltip("series:N", title="title"), alt.Tooltip("value:N", title="value")]


def _colours(series: Sequence[Series]) -> alt.Color:
    return alt.Color("series:N", legend=None).scale(
        domain=[one.label for one in series], range=[one.style.colour for one in series]
    )


def _dashes(series: Sequence[Series]) -> alt.StrokeDash:
    return alt.StrokeDash("series:N", legend=None).scale(
        domain=[one.label for one in series], range=[list(one.style.dash) for one in series]
    )


def finished(chart: Any, width: int, height: int) -> dict[str, Any]:
    """A chart of this size as a spec; what all charts share is said once per page."""
    chart = chart.properties(
        width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)
    spec.pop("$schema", None)
    return spec
