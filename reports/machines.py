"""The same cells on several machines: ratios and fractions of each machine's own roofline.

There is no verdict: what counts as a change is calibrated within one machine, by timing the same
code twice on it, and nothing of that kind can be done across two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwpbench.reports.evidence import Case, Evidence, shared, varying
from fwpbench.reports.section import Section
from fwpbench.reports.units import clipped, digits, plural, shown

MOST_ROWS = 400
#: The metric of a record that says which part of the measured roofline it reached, if it has one.
ROOFLINE = "roofline"


@dataclass(frozen=True)
class Cell:
    """One record on one machine: its time, and that as a multiple of the first machine's."""

    case: Case | None
    time: str
    ratio: str
    roofline: str


@dataclass(frozen=True)
class Machine:
    """`mean` is the geometric mean of its ratios over the cells that are ranked on all machines."""

    name: str
    facts: str
    mean: str


def section(evidence: Evidence) -> Section | None:
    machines = _machines(evidence)
    if len({device for device, _ in machines.values()}) < 2:
        return None
    rows = _rows(evidence, list(machines))
    if not rows:
        return None
    common = [row for row in rows.values() if all(_ranked(evidence, case) for case in row)]
    held = [case for row in rows.values() for case in row if case is not None]
    timed = [case for case in held if case.value("time") is not None]
    told = [word for word in varying(held) if word not in ("run", "device")]
    content = {
        "machines": [
            Machine(_label(run, machines), facts, _mean([row[place] for row in common], common))
            for place, (run, (_, facts)) in enumerate(machines.items())
        ],
        "told": told,
        "evidence": evidence,
        "rows": [
            (_first(row), evidence.label(_first(row)), _cells(evidence, row))
            for row in list(rows.values())[:MOST_ROWS]
        ],
        "number": len(rows),
        "common": len(common),
        "same": shared(timed, ("dtype", "B", "T", "H", "K", "V", "direction")),
        "unmeasured": sum(case.value(ROOFLINE) is None for case in timed),
        "timed": len(timed),
        "said": f"{plural(len(rows), 'cell')} timed on two machines or more",
    }
    return Section(
        "machines",
        "Machines",
        "How does one machine compare with another?",
        "machines.html.jinja",
        content,
    )


def _machines(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """By name of the run: its device, and what else tells it from another."""
    machines = {}
    for name, run in zip(evidence.names, evidence.runs, strict=True):
        said = run.environment
        facts = [
            f"{fact} {said[fact]}"
            for fact in ("driver", "torch", "triton", "grade")
            if said.get(fact) is not None
        ]
        device = clipped(str(said.get("device") or name), 80)
        machines[name] = (device, clipped(", ".join(facts), 120))
    return machines


def _label(run: str, machines: Mapping[str, tuple[str, str]]) -> str:
    device = machines[run][0]
    alone = [known for known, _ in machines.values()].count(device) == 1
    return device if alone else f"{device} ({run})"


def _rows(evidence: Evidence, runs: Sequence[str]) -> dict[str, list[Case | None]]:
    """By key of the record, each machine's case; only what two machines at least have timed."""
    found: dict[str, list[Case | None]] = {}
    for case in evidence.of("speed"):
        row = found.setdefault(case.record.key, [None] * len(runs))
        row[runs.index(case.words["run"])] = case
    return {
        key: row
        for key, row in found.items()
        if sum(case is not None and case.value("time") is not None for case in row) > 1
    }


def _first(row: Sequence[Case | None]) -> Case:
    return next(case for case in row if case is not None)


def _ranked(evidence: Evidence, case: Case | None) -> bool:
    return case is not None and evidence.is_ranked(case) and bool(case.value("time"))


def _cells(evidence: Evidence, row: Sequence[Case | None]) -> list[Cell]:
    base = row[0] if _ranked(evidence, row[0]) else None
    return [_cell(evidence, case, base) for case in row]


def _cell(evidence: Evidence, case: Case | None, base: Case | None) -> Cell:
    if case is None:
        return Cell(None, "not run", "–", "–")
    time = case.value("time")
    if time is None:
        return Cell(case, case.record.status, "–", "–")
    told = shown(time, "s")
    if not _ranked(evidence, case):
        return Cell(case, f"{told}, {case.record.status}, not ranked", "–", "–")
    ratio = "–" if base is None else _ratio(case, base)
    return Cell(case, told, ratio, shown(case.value(ROOFLINE), "fraction"))


def _ratio(case: Case, base: Case) -> str:
    """With bounds from those of both: wider than 95 %."""
    if case is base:
        return "1"
    ratio = digits((case.value("time") or 0.0) / (base.value("time") or 1.0))
    (low, high), (base_low, base_high) = case.bounds("time"), base.bounds("time")
    if not low or not high or not base_low or not base_high:
        return ratio
    return f"{ratio} ({digits(low / base_high)} – {digits(high / base_low)})"


def _mean(mine: Sequence[Case | None], common: Sequence[Sequence[Case | None]]) -> str:
    logarithms = [
        math.log((case.value("time") or 1.0) / (row[0].value("time") or 1.0))
        for case, row in zip(mine, common, strict=True)
        if case is not None and row[0] is not None
    ]
    return digits(math.exp(sum(logarithms) / len(logarithms))) if logarithms else "–"
