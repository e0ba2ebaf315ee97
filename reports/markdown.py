"""The report in a page of Markdown, for a pull request or a terminal.

Every string of a record is escaped: it becomes text or code, never markup, a link or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from urllib.parse import quote

from fwpbench.reports.coverage import MARKS
from fwpbench.reports.evidence import Evidence
from fwpbench.reports.findings import Finding, fastest
from fwpbench.reports.section import Section
from fwpbench.reports.summary import About, Failure
from fwpbench.reports.units import clipped, count, plural

MOST_FINDINGS = 3
MOST_ROWS = 40
MOST_FAILURES = 20


def markdown_of(
    evidence: Evidence, sections: Sequence[Section], pictures: Mapping[str, str] | None = None
) -> str:
    """`sections` are those of the page; `pictures` are titles by the file they are drawn in."""
    by_name = {section.anchor: section.content for section in sections}
    summary = by_name["summary"]
    parts: list[Iterator[str]] = [_runs(summary["runs"])]
    parts.append(iter([f"**{text(summary['verdict'])}**"]))
    parts.append(_counts(summary["groups"]))
    if "coverage" in by_name:
        parts.append(_coverage(by_name["coverage"]))
    parts.append(_findings(summary["findings"]))
    parts.append(_fastest(fastest(evidence)))
    parts.append(_failures(summary["failures"]))
    parts.append(_pictures(pictures or {}))
    return "\n\n".join(["# FWPBench report", *(block for part in parts for block in part)]) + "\n"


def text(value: str) -> str:
    """What means something in Markdown or HTML means nothing here, and all is one line."""
    plain = _line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", plain)
    plain = re.sub(r"^([#+=-]|\d+(?=[.)]\s))", r"\\\1", plain)
    plain = re.sub(r"^\\(\d+)", r"\1\\", plain)
    # Names and addresses are not to become mentions and links by themselves.
    plain = re.sub(r"[@#](?=\w)", lambda sign: f"&#{ord(sign[0])};", plain)
    return re.sub(r"(?i)(?<=\w):(?=//)|(?<=www)\.", lambda sign: f"&#{ord(sign[0])};", plain)


def code(value: str) -> str:
    """A code span, fenced by more backticks than stand in a row within; not for a table's cell."""
    plain = _line(value) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    room = " " if "`" in plain else ""
    return f"{fence}{room}{plain}{room}{fence}"


def _line(value: str) -> str:
    spaced = re.sub(r"\s+", " ", value).strip()
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in spaced
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    head = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _runs(runs: Sequence[About]) -> Iterator[str]:
    for run in runs:
        told = [run.headline, run.device, run.progress]
        yield f"**{text(run.name)}**: {text('; '.join(filter(None, told)))}"


def _counts(groups: Sequence[tuple[str, str, int, str]]) -> Iterator[str]:
    numbers = [count(number) for _, _, number, _ in groups]
    yield _table([f"{mark} {group}" for group, mark, _, _ in groups], [numbers])


def _coverage(content: Mapping[str, object]) -> Iterator[str]:
    names, rules = content["names"], content["rules"]
    assert isinstance(names, list)
    assert isinstance(rules, list)
    yield "## Operators that work, of those asked"
    yield _table(
        ["update rule", *map(text, names)],
        [
            [text(rule.name or "(none)")]
            + [f"{MARKS[total[0]]} {total[1]}" if total else "" for total in rule.totals]
            for rule in rules
        ],
    )


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield "## What the records say"
        yield "\n".join(f"- {text(finding.sentence)}" for finding in findings[:MOST_FINDINGS])


def _fastest(finding: Finding | None) -> Iterator[str]:
    if finding is None:
        return
    yield "## Fastest correct implementation"
    rows = [[text(cell) for cell in row] for row in finding.rows[:MOST_ROWS]]
    yield _table([text(column) for column in finding.columns], rows)
    if left := len(finding.rows) - len(rows):
        yield f"And {plural(left, 'row')} more: see the page."


def _failures(failures: Sequence[Failure]) -> Iterator[str]:
    if not failures:
        return
    yield "## What failed"
    for failure in islice(failures, MOST_FAILURES):
        first = failure.cases[0].record
        said = f"- {failure.mark} **{failure.status}**, {plural(len(failure.cases), 'record')}: "
        said += f"{code(clipped(failure.reason, 300))}, {code(first.implementation)}"
        yield f"{said}\n  {code(first.command)}" if first.command else said
    if (left := len(failures) - MOST_FAILURES) > 0:
        yield f"And {plural(left, 'reason')} more: see the page."


def _pictures(pictures: Mapping[str, str]) -> Iterator[str]:
    if pictures:
        yield "## Charts"
        for file, title in pictures.items():
            yield f"![{text(title)}]({quote(file)})"
