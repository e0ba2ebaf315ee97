"""Operator × implementation by status: what works, and why the rest does not."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fwpbench.harness.statuses import Group
from fwpbench.reports.evidence import Case, Evidence, Operator
from fwpbench.reports.section import Section
from fwpbench.reports.units import clipped

MARKS: dict[Group, str] = {
    "ok": "✓", "wrong": "✗", "crashed": "!", "untrusted": "?", "cannot": "–", "skipped": "·"
}  # fmt: skip
#: What a cell shows of several records: a failure first; else that it works, if only in part.
LOUDNESS: list[Group] = ["wrong", "crashed", "untrusted", "ok", "skipped", "cannot"]
ILL_CONDITIONED = "ill-conditioned"
#: What is not installed, or needs a device that is not here, cannot be said once a case.
ABSENT = "missing"


@dataclass(frozen=True)
class Cell:
    """All records of one operator on one implementation."""

    operator: Operator
    implementation: str
    cases: Sequence[Case]
    anchor: str

    @property
    def loudest(self) -> Case:
        """The record the cell speaks of, and whose command reproduces it."""
        return min(
            self.cases, key=lambda case: (LOUDNESS.index(case.group), bool(case.record.tags))
        )

    @property
    def is_absent(self) -> bool:
        return is_absent(self.loudest)

    @property
    def group(self) -> Group:
        return self.loudest.group

    @property
    def ok(self) -> int:
        return sum(case.group == "ok" for case in self.cases)

    @property
    def text(self) -> str:
        if self.group == "ok":
            return f"{self.ok}/{len(self.cases)}"
        return self.loudest.record.status

    @property
    def title(self) -> str:
        if self.group == "ok":
            skipped = sum(case.group == "skipped" for case in self.cases)
            said = f", {skipped} were skipped" if skipped else ""
            return f"{self.ok} of {len(self.cases)} cases are right{said}"
        return clipped(cause(self.loudest), 160)


@dataclass(frozen=True)
class Why:
    """One reason and the cells that have it: how many records each, and whether the cell speaks
    of this reason (its command then stands here)."""

    status: str
    group: Group
    reason: str
    cells: Sequence[tuple[Cell, int, bool]]


@dataclass(frozen=True)
class Absence:
    """Records of one implementation that is not here, for one reason; the first of them."""

    anchor: str
    case: Case
    reason: str
    number: int
    suites: Sequence[str]


@dataclass(frozen=True)
class Rule:
    name: str
    rows: Sequence[tuple[Operator, Sequence[Cell | None]]]
    whys: Sequence[Why]
    totals: Sequence[tuple[Group, str] | None]

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, row in self.rows for cell in row if cell is not None]


def section(evidence: Evidence) -> Section | None:
    if not evidence.cases:
        return None
    cases = evidence.of("agreement") or evidence.cases
    grouped: dict[str, dict[Operator, dict[str, list[Case]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for case in cases:
        grouped[case.operator.rule][case.operator][case.implementation].append(case)
    names = [
        name for name in evidence.implementations if any(c.implementation == name for c in cases)
    ]
    absences = _absences(evidence)
    anchors = {(one.case.implementation, one.reason): one.anchor for one in absences}
    rules = [
        _rule(name, grouped[name], names, place, anchors) for place, name in enumerate(grouped)
    ]
    return Section(
        "coverage",
        "Coverage",
        "What does each implementation compute, and why not the rest?",
        "coverage.html.jinja",
        {
            "names": names,
            "rules": rules,
            "marks": MARKS,
            "absences": absences,
            "evidence": evidence,
            "excluded": _excluded(evidence),
            "of_agreement": bool(evidence.of("agreement")),
            "open": sum(len(rule.rows) for rule in rules) <= 30,
        },
    )


def is_absent(case: Case) -> bool:
    return case.record.status == ABSENT


def _absences(evidence: Evidence) -> list[Absence]:
    found: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in filter(is_absent, evidence.of("agreement") + evidence.cases):
        found[case.implementation, cause(case)].append(case)
    return [
        Absence(
            f"absent-{place}",
            same[0],
            reason,
            len({id(case) for case in same}),
            list(dict.fromkeys(case.record.suite for case in same)),
        )
        for place, ((_, reason), same) in enumerate(found.items(), 1)
    ]


def cause(case: Case) -> str:
    return case.record.reason or "no reason was recorded"


def by_cause(cases: Iterable[Case]) -> list[tuple[str, list[Case]]]:
    """Cases that share a reason; reasons that differ only in figures count as one."""
    alike: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        plain = re.sub(r"\d[\d.,e+-]*", "0", cause(case))
        plain = ILL_CONDITIONED if plain.startswith(ILL_CONDITIONED) else plain
        alike[case.record.status, plain].append(case)
    return [(_sentence(same), same) for same in alike.values()]


def _sentence(same: Sequence[Case]) -> str:
    others = len({cause(case) for case in same}) - 1
    return cause(same[0]) + (
        f" (and {others:,} more like it, with other figures)" if others else ""
    )


def _rule(
    name: str,
    operators: Mapping[Operator, Mapping[str, list[Case]]],
    names: list[str],
    place: int,
    anchors: Mapping[tuple[str, str], str],
) -> Rule:
    """`anchors` lead from an implementation that is not here, and why, to where that is told."""
    rows = []
    for row, operator in enumerate(sorted(operators, key=_natural)):
        cells = [
            _cell(operator, implementation, cases, f"c{place}-{row}-{column}", anchors)
            for column, implementation in enumerate(names)
            for cases in [operators[operator].get(implementation, [])]
        ]
        rows.append((operator, cells))
    totals = [_total([cells[column] for _, cells in rows]) for column in range(len(names))]
    return Rule(name, rows, _whys([cell for _, cells in rows for cell in cells if cell]), totals)


def _cell(
    operator: Operator,
    implementation: str,
    cases: Sequence[Case],
    anchor: str,
    anchors: Mapping[tuple[str, str], str],
) -> Cell | None:
    if not cases:
        return None
    cell = Cell(operator, implementation, cases, anchor)
    if not cell.is_absent:
        return cell
    return replace(cell, anchor=anchors[implementation, cause(cell.loudest)])


def _natural(operator: Operator) -> list[tuple[int, str]]:
    """favor-64 before favor-128."""
    words = re.split(r"(\d+)", str(operator))
    return [(int(word), "") if word.isdecimal() and len(word) < 9 else (-1, word) for word in words]


def _total(cells: Sequence[Cell | None]) -> tuple[Group, str] | None:
    there = [cell for cell in cells if cell is not None]
    if not there:
        return None
    groups = Counter(cell.group for cell in there)
    loudest = min(groups, key=LOUDNESS.index)
    if loudest == "cannot":
        return loudest, f"none of {len(there)}"
    if loudest == "ok":
        skipped = f", {groups['skipped']} skipped" if groups["skipped"] else ""
        return loudest, f"{groups['ok']} of {len(there)}{skipped}"
    return loudest, f"{groups[loudest]} {loudest}, {groups['ok']} of {len(there)} ok"


def _whys(cells: Sequence[Cell]) -> list[Why]:
    cell_of = {id(case): cell for cell in cells for case in cell.cases}
    troubled = [
        case for cell in cells for case in cell.cases if case.group != "ok" and not is_absent(case)
    ]
    whys = []
    for reason, same in by_cause(troubled):
        counts = Counter(cell_of[id(case)].anchor for case in same)
        spoken = {id(case) for case in same}
        sharing = [
            (cell, counts[cell.anchor], id(cell.loudest) in spoken)
            for cell in cells
            if cell.anchor in counts
        ]
        whys.append(Why(same[0].record.status, same[0].group, reason, sharing))
    return sorted(whys, key=lambda why: LOUDNESS.index(why.group))


def _excluded(evidence: Evidence) -> list[tuple[str, list[str]]]:
    """The combinations that make no sense, by reason."""
    reasons: dict[str, dict[str, None]] = defaultdict(dict)
    for run in evidence.runs:
        listed = run.plan.get("excluded")
        for pair in listed if isinstance(listed, list) else []:
            if isinstance(pair, list) and len(pair) == 2:
                reasons[clipped(str(pair[1]))][clipped(str(pair[0]), 120)] = None
    return [(reason, list(triples)) for reason, triples in reasons.items()]
