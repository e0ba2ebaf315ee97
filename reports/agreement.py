"""How far results are from the float64 golden, as a fraction of what is allowed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fwpbench.reports import axes, charts
from fwpbench.reports.coverage import ILL_CONDITIONED, cause
from fwpbench.reports.drawing import Figure
from fwpbench.reports.evidence import Case, Evidence, Operator
from fwpbench.reports.section import Panels, Section
from fwpbench.reports.units import clipped

#: The order of the columns; what else a record names comes after.
TENSORS = ("o", "S", "z", "dq", "dk", "dv", "dbeta", "dalpha", "dS0", "dz0")
MOST_TENSORS = 20
MOST_SLIPPED = 50


@dataclass(frozen=True)
class Worst:
    """The largest error ratio of some records, and where it was."""

    ratio: float
    tensor: str
    case: Case

    @property
    def where(self) -> str:
        words = self.case.words
        return f"{self.tensor}, {words.get('direction', '')}, {words.get('inputs', '')} inputs"

    @property
    def group(self) -> str:
        return "wrong" if self.ratio > 1 or self.case.group == "wrong" else "ok"


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("agreement")
    if not cases:
        return None
    judged = [worst for case in cases for worst in _ratios(case)]
    names = [
        name for name in evidence.implementations if any(c.implementation == name for c in cases)
    ]
    content = {
        "names": names,
        "tensors": _tensors(judged),
        "by_tensor": _worst(judged, lambda one: (one.case.implementation, one.tensor)),
        "by_operator": _by_operator(judged, evidence),
        "compared": len({id(one.case) for one in judged}),
        "records": len(cases),
        "silent": sum("non-discriminating" in case.record.tags for case in cases),
        "ill": sum(cause(case).startswith(ILL_CONDITIONED) for case in cases),
        "gates": [gate for run in evidence.runs if (gate := _gate(run.gate)) is not None],
        "laws": _laws(cases),
        "label": evidence.label,
        "panels": _distributions(evidence, judged, names),
    }
    return Section(
        "agreement",
        "Agreement",
        "How close is each implementation to the float64 golden?",
        "agreement.html.jinja",
        content,
    )


@dataclass(frozen=True)
class Gate:
    """How many mutants the gate of a run caught, and which it did not."""

    caught: int
    total: int
    dtype: str
    slipped: list[str]


def _gate(found: Mapping[str, Any]) -> Gate | None:
    """None where a run has none, or what it has is not one of ours."""
    caught, total, slipped = found.get("caught"), found.get("total"), found.get("slipped")
    if not (type(caught) is type(total) is int and isinstance(slipped, list)):
        return None
    if not 0 <= caught <= total <= 10_000:
        return None
    names = [clipped(str(name), 60) for name in slipped[:MOST_SLIPPED]]
    return Gate(caught, total, clipped(str(found.get("dtype", "")), 8), names)


@dataclass(frozen=True)
class Asked:
    """Of how many records laws were asked, how many broke one, and how many gave other bits."""

    records: int
    broken: int
    various: int


def _laws(cases: Sequence[Case]) -> Asked | None:
    asked = [laws for case in cases if isinstance(laws := case.record.detail.get("laws"), dict)]
    if not asked:
        return None
    various = [n for laws in asked if isinstance(n := laws.get("distinct of 5"), int) and n > 1]
    return Asked(len(asked), sum(bool(laws.get("broken")) for laws in asked), len(various))


def _ratios(case: Case) -> list[Worst]:
    """The ratio of every tensor; the record's own worst where it names no tensors."""
    listed = case.record.detail.get("tensors")
    found = []
    if isinstance(listed, dict):
        for tensor, judged in list(listed.items())[:MOST_TENSORS]:
            ratio = judged.get("ratio") if isinstance(judged, dict) else None
            if isinstance(ratio, int | float) and math.isfinite(ratio):
                found.append(Worst(float(ratio), clipped(str(tensor), 20), case))
    worst = case.value("error ratio")
    if not found and worst is not None:
        found.append(Worst(worst, "all", case))
    return found


def _tensors(judged: Sequence[Worst]) -> list[str]:
    met = dict.fromkeys(one.tensor for one in judged)
    return [*(tensor for tensor in TENSORS if tensor in met), *(t for t in met if t not in TENSORS)]


def _worst(judged: Sequence[Worst], place: Any) -> dict[Any, Worst]:
    worst: dict[Any, Worst] = {}
    for one in judged:
        if place(one) not in worst or one.ratio > worst[place(one)].ratio:
            worst[place(one)] = one
    return worst


def _by_operator(judged: Sequence[Worst], evidence: Evidence) -> dict[str, Any]:
    """rule → operator → implementation → its worst."""
    worst = _worst(judged, lambda one: (one.case.operator, one.case.implementation))
    rules: dict[str, dict[Operator, dict[str, Worst]]] = defaultdict(lambda: defaultdict(dict))
    for (operator, implementation), one in worst.items():
        rules[operator.rule][operator][implementation] = one
    return rules


def _distributions(
    evidence: Evidence, judged: Sequence[Worst], names: Sequence[str]
) -> Panels | None:
    """For each implementation, how many tensors lie at which ratio; four bars a decade."""
    positive = [one for one in judged if one.ratio > 0]
    if not positive:
        return None
    bins = {name: Counter[int]() for name in names}
    for one in positive:
        bins[one.case.implementation][max(-8, min(8, math.floor(4 * math.log10(one.ratio))))] += 1
    edges = [place for counts in bins.values() for place in counts] + [-4, 0]
    low, high = 10 ** (min(edges) / 4), 10 ** ((max(edges) + 1) / 4)
    x = axes.Axis(
        "error ÷ allowed error",
        "1",
        low,
        high,
        [tick for tick in (0.01, 0.1, 1, 10, 100) if low <= tick <= high],
    )
    figures = [
        Figure(
            name,
            charts.histogram(
                [
                    (10 ** (place / 4), 10 ** ((place + 1) / 4), n)
                    for place, n in sorted(bins[name].items())
                ],
                x,
                evidence.implementations[name].style,
                1.0,
                width=360,
                height=150,
            ),
        )
        for name in names
        if bins[name]
    ]
    caption = "Tensors by error ratio. The dashed line is what is allowed; right of it is wrong. "
    caption += "The outermost bars hold everything beyond."
    return Panels(caption, [], figures)
