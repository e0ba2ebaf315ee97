"""What was run, on what, what came of it and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fwpbench.harness.doctor import GRADE, MEANINGS, NOISE
from fwpbench.harness.run_folder import Run
from fwpbench.harness.statuses import SKIPPED, STATUSES, Group, group_of
from fwpbench.reports.coverage import MARKS, by_cause
from fwpbench.reports.evidence import Case, Evidence
from fwpbench.reports.findings import findings
from fwpbench.reports.section import Section
from fwpbench.reports.units import clipped, count, plural, shown

GROUPS: dict[Group, str] = {
    "ok": "ran and is right",
    "wrong": "returned something wrong",
    "crashed": "did not come to an end",
    "untrusted": "ran, but the time cannot be trusted",
    "cannot": "not supported, or something is missing here",
    "skipped": "the budget was used up",
}
#: Up to so many failures are listed unfolded.
FEW = 4
MOST_FACTS = 200


@dataclass(frozen=True)
class Failure:
    """Records that failed for the same reason."""

    status: str
    mark: str
    reason: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class About:
    """One run in a few words, and everything that is known of its machine."""

    name: str
    headline: str
    device: str
    facts: Sequence[tuple[str, str]]
    progress: str
    trust: str


def section(evidence: Evidence) -> Section:
    groups = Counter(case.group for case in evidence.cases)
    statuses = Counter(case.record.status for case in evidence.cases)
    failed = [case for case in evidence.cases if case.fails]
    diverged = [case for case in evidence.cases if case.group == "crashed" and not case.fails]
    content = {
        "runs": [about(run, len(run.records)) for run in evidence.runs],
        "groups": [
            (group, MARKS[group], groups[group], _detail(group, statuses) or meaning)
            for group, meaning in GROUPS.items()
        ],
        "failures": _failures(failed),
        "failed": len(failed),
        "diverged": _failures(diverged),
        "unfold": len(failed) <= FEW,
        "verdict": _verdict(evidence, failed),
        "findings": findings(evidence),
        "evidence": evidence,
    }
    return Section(
        "summary", "Summary", "What was run, and can it be trusted?", "summary.html.jinja", content
    )


def _detail(group: Group, statuses: Mapping[str, int]) -> str:
    inside = [name for name in STATUSES if group_of(name) == group and statuses.get(name)]
    if group in ("ok", "skipped"):
        return ""
    return ", ".join(f"{statuses[name]:,} {name}" for name in inside)


def _failures(cases: Sequence[Case]) -> list[Failure]:
    failures = [
        Failure(same[0].record.status, MARKS[same[0].group], reason, same)
        for reason, same in by_cause(cases)
    ]
    return sorted(failures, key=lambda failure: -len(failure.cases))


def _verdict(evidence: Evidence, failed: Sequence[Case]) -> str:
    if not evidence.cases:
        return "There are no records yet: nothing was measured, so nothing can be said."
    run = sum(case.group != "skipped" for case in evidence.cases)
    if not run:
        return "The budget was used up before anything was measured, so nothing can be said."
    if not failed:
        skipped = len(evidence.cases) - run
        known = f" among the {count(run)} that were not skipped" if skipped else ""
        return f"Nothing was wrong, nothing crashed{known}."
    wrong = sum(case.group == "wrong" for case in failed)
    parts = [f"{wrong:,} wrong"] if wrong else []
    parts += [f"{len(failed) - wrong:,} crashed"] if len(failed) > wrong else []
    return f"{' and '.join(parts)} of {plural(len(evidence.cases), 'record')}."


def about(run: Run, records: int) -> About:
    """`records` are all that were read, also where `run` does not hold them."""
    facts = run.environment
    profile = clipped(str(run.plan.get("profile", "")), 40)
    named = [clipped(str(suite), 40) for suite in _list(run.plan.get("suites"))[:20]]
    headline = " · ".join(
        filter(
            None,
            (
                f"{profile} profile" if profile else "",
                ", ".join(named),
                plural(records, "record"),
            ),
        )
    )
    device = " · ".join(
        clipped(told, 80)
        for told in (facts.get("device"), facts.get("os"), _day(facts.get("started")))
        if isinstance(told, str) and told
    )
    name = clipped(run.path.name or "run", 60)
    return About(name, headline, device, told_of(run), _progress(run, records), _trust(run))


def _trust(run: Run) -> str:
    """How far the doctor trusted the machine's numbers, before it was measured."""
    grade = run.environment.get(GRADE)
    if not isinstance(grade, str) or grade not in MEANINGS:
        return "No grade by the doctor: how far the numbers can be trusted is unknown."
    return f"Grade {grade} by the doctor: {MEANINGS[grade]}."


def _day(started: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(started)):%d %B %Y, %H:%M %Z}".lstrip("0").strip()
    except ValueError:
        return str(started or "")


def told_of(run: Run) -> list[tuple[str, str]]:
    """The environment and the plan's own words, as text."""
    said: dict[str, Any] = dict(run.environment)
    said |= {name: run.plan[name] for name in ("arguments", "seed") if name in run.plan}
    return [
        (clipped(str(name), 60), _fact(str(name), value))
        for name, value in list(said.items())[:MOST_FACTS]
    ]


def _fact(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name == NOISE:
            return f"{100 * value:.2g} %"
        return (
            shown(float(value), "B")
            if name.endswith("bytes")
            else f"{value:,}"
            if name != "seed"
            else str(value)
        )
    return clipped(str(value))


def _progress(run: Run, records: int) -> str:
    """Says so where cases of the plan have no record, or one that says that they were not run."""
    planned = {str(case) for case in _list(run.plan.get("cases"))}
    if not run.records and records:
        left = max(0, len(planned) - records)
        return (
            f"{count(left)} of {plural(len(planned), 'planned case')} have no record."
            if left
            else ""
        )
    left = len(planned - {record.key for record in run.records}) if planned else 0
    if left:
        of = plural(len(planned), "planned case")
        return f"{count(left)} of {of} have no record: interrupted?"
    skipped = [record for record in run.records if record.status == SKIPPED]
    if skipped:
        of = plural(len(run.records), "case")
        return f"{count(len(skipped))} of {of} were skipped: {clipped(skipped[-1].reason)}"
    return ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
