"""The paper in two pictures, for who has not read it, drawn by the operators' own code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import torch
import vl_convert

from fwpbench.operators.feature_maps import dpfp
from fwpbench.reports import charts, forgetting
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Evidence
from fwpbench.reports.forgetting import Answer
from fwpbench.reports.palette import COLOURS, Style, style
from fwpbench.reports.section import Key, Panels, Section

#: The colours of the two rules, here and in README.
STYLES = {"sum": style(2), "delta": style(1)}
#: Where the slider stands at first: the sum rule has mixed what the delta rule has replaced.
AT_FIRST = forgetting.ACTS[1]
ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth"}
#: Squares of DPFP's picture from the middle to each side.
STEPS = 6
#: In the order of DPFP-1's features for a key (k₁, k₂).
FEATURES = (
    "relu(k₁) · relu(−k₂)",
    "relu(k₁) · relu(k₂)",
    "relu(−k₁) · relu(k₂)",
    "relu(−k₁) · relu(−k₂)",
)
FEATURE_STYLES = [Style(colour, "square") for colour in COLOURS[1:5]]


def section(evidence: Evidence) -> Section | None:
    """For every report with a number in it: who looks for what went wrong is spared it."""
    if not any(case.group == "ok" for case in evidence.cases):
        return None
    content = {
        "panels": [memory_panels(), dpfp_panels()],
        "acts": forgetting.ACTS,
        "room": forgetting.ROOM,
    }
    return Section(
        "explained",
        "The paper",
        "What is a fast-weight memory, and what do the delta rule and DPFP change?",
        "explained.html.jinja",
        content,
    )


def memory_panels() -> Panels:
    keys = [
        Key(f"{rule} rule", STYLES[rule], note)
        for rule, note in (("sum", "adds each value"), ("delta", "replaces what it finds"))
    ]
    caption = (
        "One group of bars a pair, one bar a rule. A bar of 1 is an answer in the direction of the "
        "value stored last. Computed by the token law of each rule."
    )
    spec = charts.finished(memory_chart(forgetting.answers()), width=600, height=260)
    return Panels(caption, keys, [Figure("", spec)], wide=True)


def memory_chart(answers: Sequence[Answer], token: int | None = None) -> alt.LayerChart:
    """Likeness by pair and rule; with a slider over tokens or, given one, that `token` alone."""
    rows = [
        {
            "t": one.token,
            "pair": one.pair,
            "series": f"{one.rule} rule",
            "y": round(one.likeness, 3),
            "value": f"pair {one.pair}, stored for the {ORDINALS[one.writes]} time: "
            f"{one.likeness:.2f}",
        }
        for one in answers
        if token is None or one.token == token
    ]
    base = alt.Chart(alt.InlineData(values=rows))
    # What each token does, above the bars.
    said = alt.Chart(alt.InlineData(values=_captions(token)))
    if token is None:
        slider = alt.binding_range(min=1, max=len(forgetting.WRITES), step=1, name="Token ")
        at = alt.param(name="token", value=AT_FIRST, bind=slider)
        base, said = (
            base.add_params(at).transform_filter("datum.t == token"),
            said.transform_filter("datum.t == token"),
        )
    bars = base.mark_bar().encode(
        x=alt.X("pair:O", title="pair of key and value", scale=alt.Scale(domain=_pairs())).axis(
            labelAngle=0, ticks=False
        ),
        xOffset=alt.XOffset("series:N", sort=list(_labels())),
        y=alt.Y("y:Q", title="likeness of the answer", scale=alt.Scale(domain=[0, 1])).axis(
            tickCount=5, domain=False, ticks=False
        ),
        color=alt.Color("series:N", legend=None).scale(
            domain=list(_labels()), range=[one.colour for one in STYLES.values()]
        ),
        tooltip=_tooltip(),
    )
    words = said.mark_text(align="left", baseline="top", fontSize=12, color="currentColor").encode(
        x=alt.value(0), y=alt.value(-20), text="text:N"
    )
    return alt.LayerChart(layer=[bars, words])


def _captions(token: int | None) -> list[dict[str, Any]]:
    found = []
    for t, pair in enumerate(forgetting.WRITES, start=1):
        times = ORDINALS[forgetting.WRITES[:t].count(pair)]
        if token in (None, t):
            found.append({"t": t, "text": f"Token {t} stores pair {pair + 1} for the {times} time"})
    return found


def _pairs() -> list[int]:
    return list(range(1, forgetting.PAIRS + 1))


def _labels() -> tuple[str, ...]:
    return tuple(f"{rule} rule" for rule in STYLES)


def dpfp_panels() -> Panels:
    caption = (
        "Keys in the plane, in the colour of the one feature of DPFP-1 that is not 0 there, as "
        "strong as the feature. Keys of different quadrants share no feature: their product is 0, "
        "and neither disturbs what the memory stores for the other."
    )
    keys = [
        Key(f"φ{number} = {name}", FEATURE_STYLES[place])
        for place, (number, name) in enumerate(zip("₁₂₃₄", FEATURES, strict=True))
    ]
    return Panels(caption, keys, [Figure("", dpfp_chart(size=320))])


def dpfp_chart(*, size: int) -> dict[str, Any]:
    along = torch.arange(-STEPS, STEPS + 1) / STEPS
    points = torch.cartesian_prod(along, along)
    features = dpfp(points, nu=1)
    rows = [
        {
            "x": x,
            "y": y,
            "strength": strength,
            "series": f"φ{'₁₂₃₄'[place]} = {strength:.2f}",
            "feature": FEATURES[place],
            "value": f"at k = ({x:.1f}, {y:.1f}), the others are 0",
        }
        for (x, y), each in zip(_rounded(points), _rounded(features), strict=True)
        for place, strength in enumerate(each)
        if strength
    ]
    ends = [-1 - 0.5 / STEPS, 1 + 0.5 / STEPS]
    sides = {"left": "x -", "right": "x +", "bottom": "y -", "top": "y +"}
    squares = (
        alt.Chart(alt.InlineData(values=rows))
        .transform_calculate(**{side: f"datum.{at} {0.5 / STEPS}" for side, at in sides.items()})
        .mark_rect()
        .encode(
            x=_plane("left:Q", "k₁", ends, alt.X),
            x2="right:Q",
            y=_plane("bottom:Q", "k₂", ends, alt.Y),
            y2="top:Q",
            color=alt.Color("feature:N", legend=None).scale(
                domain=list(FEATURES), range=[one.colour for one in FEATURE_STYLES]
            ),
            opacity=alt.Opacity("strength:Q", legend=None, scale=alt.Scale(range=[0.1, 1])),
            tooltip=_tooltip(),
        )
    )
    return charts.finished(squares, size, size)


def _rounded(rows: torch.Tensor) -> list[list[float]]:
    return [[round(x, 3) for x in row] for row in rows.tolist()]


def _plane(field: str, title: str, ends: list[float], channel: Any) -> Any:
    axis = alt.Axis(values=[-1, 0, 1], grid=False)
    return channel(field, title=title, scale=alt.Scale(domain=ends, nice=False), axis=axis)


def _tooltip() -> list[alt.Tooltip]:
    return [alt.Tooltip("series:N", title="title"), alt.Tooltip("value:N", title="value")]


def memory_strip() -> dict[str, Any]:
    """The memory at the end of each act, side by side, for pages without script."""
    acts = [
        memory_chart(forgetting.answers(), token).properties(width=300, height=190)
        for token in forgetting.ACTS
    ]
    keys = alt.Legend(title=None, orient="bottom", symbolType="square")
    for act in acts:
        act.layer[0].encoding.color.legend = keys
    spec: dict[str, Any] = alt.hconcat(*acts, spacing=24).to_dict()
    return {name: value for name, value in spec.items() if name != "config"}


def main(arguments: Sequence[str] | None = None) -> None:
    """python -m fwpbench.reports.explained FILE.png: the strip of README, docs/forgetting.png."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, help="where the picture goes, a .png")
    file = parser.parse_args(arguments).file
    config = {**charts.CONFIG, "background": "white"}
    file.write_bytes(vl_convert.vegalite_to_png(memory_strip(), config=config, scale=1.5))


if __name__ == "__main__":
    main()
