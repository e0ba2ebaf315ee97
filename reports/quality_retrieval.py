"""Retrieval: loss over S with the published runs beneath, learning curves against the logs."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.curves import Curve, curves_of, one_implementation_each
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, Operator, shared
from fwpbench.reports.palette import DASHES, Style, style
from fwpbench.reports.quality_published import Run, curves, runs
from fwpbench.reports.quality_trials import (
    MOST_POINTS,
    learning_curve,
    number,
    parameter,
    span,
    span_text,
)
from fwpbench.reports.section import Key, Panels
from fwpbench.reports.stability import thinned
from fwpbench.reports.units import count, digits

#: A training ends at this loss: the pairs are stored.
SOLVED = 1e-3
#: Of a curve that conforms: its first evaluation, and every one. Relative to the authors' log.
FIRST, WORST = 1e-3, 1e-2
#: Where rounding alone drifts further before a training ends; without a bound, it is not judged.
DRIFTS = {("sum", "dpfp-2"): 3e-2} | dict.fromkeys(
    (("delta", "dpfp-1"), ("delta", "dpfp-2"), ("fwm", "dpfp-1"), ("fwm", "tanh")), math.inf
)
SETTINGS = {
    1: "setting 1 (S pairs, every key once)",
    2: "setting 2 (2S pairs, keys come again)",
}
#: In the middle of the greys: 3 : 1 on white and on black.
GREY = "#7d858f"
#: Of each model, lengths whose learning curves are drawn.
MOST_LENGTHS, MOST_PANELS = 3, 12


@dataclass(frozen=True)
class Row:
    """One training beside the published one; `published` is None where there is none."""

    case: Case
    label: str
    setting: int
    S: int
    trial: str
    published: Run | None
    furthest: float | None
    verdict: str
    group: str


def setting_of(case: Case) -> int:
    return int(number(case, "setting"))


def size_of(case: Case) -> int:
    """S, the number of keys and of values: the width of a value."""
    said = case.words.get("V", "")
    return int(said) if said.isdecimal() and len(said) < 13 else 0


def retrieval(evidence: Evidence, dress: Mapping[Operator, Style]) -> Mapping[str, Any] | None:
    cases = evidence.of("retrieval")
    if not cases:
        return None
    measured = [case for case in cases if case.value("best loss") is not None]
    by_setting: dict[int, list[Case]] = defaultdict(list)
    for case in measured:
        by_setting[setting_of(case)].append(case)
    losses = [_losses(evidence, of, dress) for _, of in sorted(by_setting.items())]
    learning = [_learning(evidence, setting, of) for setting, of in sorted(by_setting.items())]
    rows = [_row(evidence, case) for case in cases if is_shown(case)]
    return {
        "common": shared(cases, ("dtype", "B", "H", "K")),
        "losses": _side_by_side([one for one in losses if one is not None]),
        "learning": [one for one in learning if one is not None],
        "rows": sorted(rows, key=lambda row: (row.setting, row.S)),
        "solved": SOLVED,
        "first": FIRST,
        "worst": WORST,
        "drifts": DRIFTS["sum", "dpfp-2"],
        "judged": sum(row.group in ("ok", "wrong") for row in rows),
        "conform": sum(row.group == "ok" for row in rows),
        "without": by_cause(case for case in cases if not is_shown(case)),
    }


def is_shown(case: Case) -> bool:
    """Trained to an end, or diverged: a finding, not a case without an answer."""
    return case.value("best loss") is not None or case.record.status == "diverged"


def _row(evidence: Evidence, case: Case) -> Row:
    setting, S = setting_of(case), size_of(case)
    published = runs().get((setting, case.operator, S))
    verdict, group = conformance(case)
    return Row(
        case,
        evidence.label(case),
        setting,
        S,
        parameter(case, "trial"),
        published,
        furthest(case),
        verdict,
        group,
    )


def conformance(case: Case) -> tuple[str, str]:
    """Whether the learning curve is the one the authors logged, in words, and as a group of
    statuses: `ok`, `wrong`, or "" where that is not asked."""
    if case.value("best loss") is None:
        return case.record.status, case.group
    if number(case, "trial") != 0:
        return "own seed", ""
    found = case.record.detail.get("published")
    first, worst = _measured(found, "first"), furthest(case)
    if not isinstance(found, dict) or first is None or worst is None:
        return "no log", ""
    limit = DRIFTS.get((case.operator.rule, case.operator.phi), WORST)
    if math.isinf(limit):
        return "not judged", ""
    conforms = found.get("same steps") is True and first <= FIRST and worst <= limit
    return ("conforms", "ok") if conforms else ("does not conform", "wrong")


def furthest(case: Case) -> float | None:
    """How far the curve is from the log where it is furthest, as a fraction of the log."""
    return _measured(case.record.detail.get("published"), "worst")


def _measured(found: Any, name: str) -> float | None:
    value = found.get(name) if isinstance(found, dict) else None
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


# Loss over S


def _losses(
    evidence: Evidence, cases: Sequence[Case], dress: Mapping[Operator, Style]
) -> tuple[str, list[charts.Series], list[charts.Series]] | None:
    """What a chart of one setting shows: its title, our lines, and the published ones. None where
    there is one S: its learning curves say more."""
    if len({size_of(case) for case in cases}) < 2:
        return None
    setting = setting_of(cases[0])
    drawn, _ = one_implementation_each(curves_of(evidence, cases, axis="V"))
    ours, theirs = [], []
    for curve in drawn:
        points = _over_sizes(curve)
        if not points:
            continue
        worn = dress[curve.operator]
        ours.append(charts.Series(curve.name, worn, points))
        label = f"published: {curve.name}"
        grey = Style(GREY, worn.shape, DASHES[1])
        longest = max(point.x for point in points)
        if published := _published(setting, curve.operator, longest):
            theirs.append(charts.Series(label, grey, published))
    title = SETTINGS.get(setting, f"setting {setting}")
    return (title[0].upper() + title[1:], ours, theirs) if ours else None


def _over_sizes(curve: Curve) -> list[charts.Point]:
    by_size: dict[int, list[float]] = defaultdict(list)
    for case in curve.cases:
        loss = case.value("best loss")
        if loss is not None and loss > 0 and size_of(case):
            by_size[size_of(case)].append(loss)
    points = []
    for S, losses in sorted(by_size.items()):
        low, high = span(losses)
        text = f"loss {digits(statistics.fmean(losses))} at S = {S}{span_text(low, high)}"
        points.append(charts.Point(S, statistics.fmean(losses), text, low, high))
    return points


def _published(setting: int, operator: Operator, longest: float) -> list[charts.Point]:
    found = sorted(
        (run.S, run.best)
        for run in runs().values()
        if (run.setting, run.operator) == (setting, operator) and longest >= run.S
        if run.best
    )
    return [charts.Point(S, best, f"loss {digits(best)} at S = {S}") for S, best in found]


def _side_by_side(
    settings: Sequence[tuple[str, list[charts.Series], list[charts.Series]]],
) -> Panels | None:
    """The settings in one row, with the same axes."""
    if not settings:
        return None
    lines = [line for _, ours, theirs in settings for line in (*ours, *theirs)]
    points = [point for line in lines for point in line.points]
    sizes = sorted({point.x for point in points})
    x = axes.logarithmic("S (keys)", "1", sizes)
    if len(sizes) <= axes.MOST_TICKS:
        x = replace(x, ticks=sizes)
    y = axes.logarithmic("smallest evaluated loss", "1", [float(point.y) for point in points])
    width, height = (600, 340) if len(settings) == 1 else (380, 280)
    figures = [
        Figure(title, charts.lines(ours, x, y, width=width, height=height, beneath=theirs))
        for title, ours, theirs in settings
    ]
    keys = [Key(line.label, line.style) for _, ours, _ in settings for line in ours]
    keys = list({key.label: key for key in keys}.values())
    if any(theirs for _, _, theirs in settings):
        keys.append(Key("published (beneath, in the same shape)", Style(GREY, "", DASHES[1])))
    said = f"Both axes logarithmic. A training ends at a loss of {SOLVED:g}, so that what "
    said += "lies below is stored, and by how much is chance. A stroke through a point reaches "
    said += "from the lowest trial to the highest. Of several implementations the first is drawn."
    return Panels(said, keys, figures, wide=True)


# Learning curves


def _learning(evidence: Evidence, setting: int, cases: Sequence[Case]) -> Panels | None:
    """One chart a model: our curve of trial 0 at a few S, the authors' beneath."""
    first = [case for case in cases if number(case, "trial") == 0]
    sizes = _few(sorted({size_of(case) for case in first}))
    worn = {S: style(place + 1) for place, S in enumerate(sizes)}
    charted = []
    for curve in one_implementation_each(curves_of(evidence, first, axis="V"))[0]:
        ours, theirs = _against_logs(curve, setting, worn)
        if ours:
            charted.append((curve.name, ours, theirs))
    if not charted:
        return None
    lines = [line for _, ours, theirs in charted for line in (*ours, *theirs)]
    points = [point for line in lines for point in line.points]
    x = axes.logarithmic("step", "1", [point.x for point in points])
    y = axes.logarithmic("evaluated loss", "1", [float(point.y) for point in points])
    figures = [
        Figure(title, charts.lines(ours, x, y, width=360, height=220, beneath=theirs))
        for title, ours, theirs in charted[:MOST_PANELS]
    ]
    keys = [Key(f"S = {S}", one) for S, one in worn.items()]
    if any(theirs for _, _, theirs in charted):
        keys.append(Key("published (beneath)", Style(GREY, "", DASHES[1])))
    title = SETTINGS.get(setting, f"setting {setting}")
    said = f"Learning curves in {title}, trial 0. Both axes logarithmic, the same in every chart."
    return Panels(said, keys, figures)


def _few(sizes: Sequence[int]) -> list[int]:
    """The smallest, the largest, and what lies evenly between."""
    if len(sizes) <= MOST_LENGTHS:
        return list(sizes)
    last = len(sizes) - 1
    return [sizes[round(last * place / (MOST_LENGTHS - 1))] for place in range(MOST_LENGTHS)]


def _against_logs(
    curve: Curve, setting: int, worn: Mapping[int, Style]
) -> tuple[list[charts.Series], list[charts.Series]]:
    ours, theirs = [], []
    for case in curve.cases:
        S = size_of(case)
        if S not in worn:
            continue
        if points := _steps(learning_curve(case, "loss")):
            ours.append(charts.Series(f"S = {S}", worn[S], points))
            log = curves().get((setting, curve.operator, S), [])
            if log:
                grey = Style(GREY, worn[S].shape, DASHES[1])
                theirs.append(charts.Series(f"published, S = {S}", grey, _steps(log)))
    return ours, theirs


def _steps(curve: list[tuple[float, float]]) -> list[charts.Point]:
    return [
        charts.Point(step, loss, f"loss {digits(loss)} after {count(step)} steps")
        for step, loss in thinned(curve, MOST_POINTS)
    ]


# What is learned


def largest_solved(cases: Sequence[Case]) -> int | None:
    """The largest S up to which every trial at every S tried ended below SOLVED; 0 where the
    smallest did not."""
    by_size: dict[int, list[Case]] = defaultdict(list)
    for case in cases:
        by_size[size_of(case)].append(case)
    solved = None
    for S, same in sorted(by_size.items()):
        losses = [case.value("best loss") for case in same]
        if any(loss is None or loss > SOLVED for loss in losses):
            return solved or 0
        solved = S
    return solved
