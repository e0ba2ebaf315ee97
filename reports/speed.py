"""Medians with intervals, one table and one chart of dots a set of conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, shared, varying
from fwpbench.reports.section import Key, Panels, Section
from fwpbench.reports.units import between, clipped, shown

MOST_ROWS = 24
MOST_PANELS = 8


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("speed")
    if not cases:
        return None
    timed = [case for case in cases if case.value("time") is not None]
    told = varying(cases)
    content = {
        "told": told,
        "groups": _groups(evidence, timed),
        "common": shared(cases, ("dtype", "B", "T", "H", "K", "V", "direction")),
        "panels": _panels(evidence, timed, told),
        "without": by_cause(case for case in cases if case.value("time") is None),
        "timed": len(timed),
        "joules": any(case.value("energy") is not None for case in timed),
        "said": lambda case, name: clipped(str(case.record.detail.get(name, "")), 80),
        "samples": lambda case: len(case.record.samples.get("time", [])),
        "evidence": evidence,
    }
    return Section(
        "speed", "Speed", "Which implementation is fastest?", "speed.html.jinja", content
    )


def comparable(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases of the same problem, parameters, seed and machine, fastest first."""
    same: dict[tuple[Any, ...], list[Case]] = defaultdict(list)
    for case in cases:
        record = case.record
        parameters = tuple(sorted(record.parameters.items()))
        place = (record.problem, parameters, record.device, case.words["run"], record.seed)
        same[place].append(case)
    return [sorted(group, key=lambda case: case.value("time") or 0.0) for group in same.values()]


def _groups(
    evidence: Evidence, timed: Sequence[Case]
) -> list[tuple[str, list[tuple[Case, float]]]]:
    """Per problem: its label, and each case with its ratio to the fastest ranked one."""
    groups = []
    for same in comparable(timed):
        best = next((c.value("time") for c in same if evidence.is_ranked(c)), None)
        rows = [(case, (case.value("time") or 0.0) / best if best else 0.0) for case in same]
        groups.append((evidence.label(same[0]), rows))
    met = list(dict.fromkeys(label for label, _ in groups))
    return sorted(groups, key=lambda g: (not g[1][0][0].record.name, met.index(g[0])))


def _panels(evidence: Evidence, timed: Sequence[Case], told: Sequence[str]) -> Panels | None:
    by_panel: dict[str, list[Case]] = defaultdict(list)
    for case in timed:
        by_panel[case.told_by(told)].append(case)
    if not by_panel:
        return None
    x = axes.logarithmic(
        "time", "s", [edge for c in timed for edge in (c.value("time"), *c.bounds("time"))]
    )
    figures = []
    for title, cases in list(by_panel.items())[:MOST_PANELS]:
        labels = dict.fromkeys(evidence.label(c) for c in cases if c.record.name)
        rows = list(labels or dict.fromkeys(evidence.label(c) for c in cases))[:MOST_ROWS]
        there = [case for case in cases if evidence.label(case) in rows]
        spec = charts.dots(_series(evidence, there), x, rows, width=500)
        figures.append(Figure(title or "all cases", spec))
    used = {case.implementation for case in timed}
    keys = [
        Key(one.name, one.style, "" if one.origin == "in-tree" else one.origin)
        for one in evidence.implementations.values()
        if one.name in used
    ]
    caption = "Median time, the bar its 95 % interval; logarithmic, further left is faster."
    return Panels(caption, keys, figures, wide=True)


def _series(evidence: Evidence, cases: Sequence[Case]) -> list[charts.Series]:
    points: dict[str, list[charts.Point]] = defaultdict(list)
    for case in cases:
        value, (low, high) = case.value("time"), case.bounds("time")
        if value is None or value <= 0:
            continue
        if low is None or low <= 0:
            low = high = None
        interval = f" (95 %: {between(low, high, 's')})" if low is not None else ""
        label = evidence.label(case)
        text = f"{label}: {shown(value, 's')}{interval}"
        text += "" if case.group == "ok" else f", {case.record.status}"
        points[case.implementation].append(charts.Point(value, label, text, low, high))
    return [
        charts.Series(name, one.style, points[name])
        for name, one in evidence.implementations.items()
        if name in points
    ]
