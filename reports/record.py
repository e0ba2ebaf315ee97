"""Everything about one record, as the page's script shows it when somebody asks for it.

Numbers are written here, once, in the words of the rest of the page; the script writes none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fwpbench.harness.signature import FACTS, signature
from fwpbench.reports import charts
from fwpbench.reports.coverage import MARKS, is_absent
from fwpbench.reports.evidence import Case, Evidence, is_number
from fwpbench.reports.packed import packed
from fwpbench.reports.section import Section
from fwpbench.reports.summary import told_of
from fwpbench.reports.units import between, clipped, shown

#: Units that samples are drawn in; another unit is drawn as a bare number.
UNITS = ("s", "B", "J", "1")
MOST_SAMPLES = 1000
MOST_PARTS = 60
LONGEST_STRING = 300
LONGEST_DETAIL = 6000


def section(evidence: Evidence) -> Section | None:
    if not evidence.cases:
        return None
    return Section(
        "record",
        "Record",
        "What is there to know of one record?",
        "record.html.jinja",
        {"number": len(evidence.cases), "absent": sum(map(is_absent, evidence.cases))},
    )


def records_of(evidence: Evidence) -> Markup:
    """All but those that only say that something is not here: the coverage counts them."""
    facts = {
        name: facts_of(run.environment)
        for name, run in zip(evidence.names, evidence.runs, strict=True)
    }
    environments = {
        name: told_of(run) for name, run in zip(evidence.names, evidence.runs, strict=True)
    }
    entries = {
        evidence.number(case): entry(case, facts[case.words["run"]])
        for case in evidence.cases
        if not is_absent(case)
    }
    return packed_records(entries, environments)


def packed_records(
    entries: Mapping[int, Mapping[str, Any]], environments: Mapping[str, Sequence[tuple[str, str]]]
) -> Markup:
    """Records by their numbers, environments by the names of their runs."""
    told = {"environments": environments, "records": entries}
    return packed(json.dumps(told, ensure_ascii=True, allow_nan=False, separators=(",", ":")))


def facts_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Of an environment, what a signature says."""
    return {
        name: clipped(str(environment[name]), 100)
        for name in (*FACTS.values(), "dirty")
        if environment.get(name)
    }


def entry(case: Case, facts: Mapping[str, object]) -> dict[str, Any]:
    record = case.record
    said = {
        "suite": record.suite,
        "operator": " · ".join(filter(None, (record.name, str(case.operator)))),
        "problem": record.problem,
        "parameters": " ".join(
            f"{clipped(name, 60)}={value:.12g}"
            if isinstance(value, int | float)
            else f"{clipped(name, 60)}={clipped(value, 80)}"
            for name, value in list(record.parameters.items())[:MOST_PARTS]
        ),
        "implementation": f"{record.implementation} ({record.origin})",
        "reason": record.reason,
        "tags": ", ".join(record.tags),
        "run": case.words["run"],
        "device": record.device,
        "seed": str(record.seed),
        "took": f"{shown(record.seconds, 's')}, from {clipped(record.started, 40)}",
        "signature": clipped(signature(record, facts), 600),
    }
    return {
        "run": case.words["run"],
        "status": record.status,
        "group": case.group,
        "mark": MARKS[case.group],
        "said": {name: text for name, text in said.items() if text},
        "command": record.command,
        "measured": [
            (clipped(name, 60), shown(one.value, one.unit), between(one.low, one.high, one.unit))
            for name, one in list(record.metrics.items())[:MOST_PARTS]
        ],
        "samples": [
            {"name": clipped(name, 60), "unit": _unit(case, name), "values": _rounded(values)}
            for name, values in list(record.samples.items())[:MOST_PARTS]
        ],
        "detail": _detail(record.detail),
    }


def samples_charts() -> dict[str, dict[str, Any]]:
    """By unit, a chart that waits for its samples."""
    return {unit: charts.samples(unit, width=460, height=180) for unit in UNITS}


def _unit(case: Case, name: str) -> str:
    measured = case.record.metrics.get(name)
    return measured.unit if measured and measured.unit in UNITS else "1"


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Six digits are more than a picture shows. What is no number leaves a gap."""
    return [
        float(f"{value:.6g}") if value is not None and is_number(value) else None
        for value in values[:MOST_SAMPLES]
    ]


def _detail(detail: Mapping[str, Any]) -> str:
    if not detail:
        return ""
    text = json.dumps(_short(detail), ensure_ascii=False, indent=1)
    return clipped(text, LONGEST_DETAIL)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, str):
        return clipped(value, LONGEST_STRING)
    if isinstance(value, dict):
        return {clipped(name, 60): _short(inner) for name, inner in _first(value.items())}
    if isinstance(value, list):
        left = len(value) - MOST_PARTS
        more = [f"… {left:,} more"] if left > 0 else []
        return [_short(inner) for inner in _first(value)] + more
    return value


def _first(values: Any) -> list[Any]:
    return list(values)[:MOST_PARTS]
