"""Published defects, what the gate says of each, and of every implementation on the same inputs."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fwpbench.harness.statuses import STATUSES, Group, group_of
from fwpbench.reports.coverage import LOUDNESS, MARKS, by_cause
from fwpbench.reports.evidence import Case, Evidence
from fwpbench.reports.section import Section
from fwpbench.reports.units import clipped

MOST_CREDITS = 8


@dataclass(frozen=True)
class Credit:
    """`url` is None where what the record names is no address that a page may lead to."""

    text: str
    url: str | None


@dataclass(frozen=True)
class Published:
    """The gate's verdict on the published form."""

    status: str
    group: Group
    reason: str
    beside: str
    ratio: float | None


@dataclass(frozen=True)
class Row:
    exhibit: str
    wrong: str
    fixed: str
    credits: Sequence[Credit]
    published: Published | None
    cells: Sequence[Case | None]


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("museum")
    if not cases:
        return None
    judged = {case.implementation for case in cases if case.group != "cannot"}
    names = [name for name in evidence.implementations if name in judged]
    exhibits: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        exhibits[clipped(str(case.record.parameters.get("exhibit", "")), 60)].append(case)
    content = {
        "names": names,
        "rows": [_row(exhibit, mine, names) for exhibit, mine in exhibits.items()],
        "marks": MARKS,
        "without": by_cause(case for case in cases if case.group != "ok"),
    }
    return Section(
        "museum",
        "Museum of bugs",
        "Does it make the mistakes that others made?",
        "museum.html.jinja",
        content,
    )


def _row(exhibit: str, cases: Sequence[Case], names: Sequence[str]) -> Row:
    told = next((case for case in cases if "published" in case.record.detail), cases[0])
    detail = told.record.detail
    loudest = [
        min(mine, key=lambda case: LOUDNESS.index(case.group)) if mine else None
        for name in names
        for mine in [[case for case in cases if case.implementation == name]]
    ]
    return Row(
        exhibit,
        _text(detail, "wrong"),
        _text(detail, "fixed"),
        _credits(detail.get("credits")),
        _published(told),
        loudest,
    )


def _text(detail: Mapping[str, Any], name: str) -> str:
    return clipped(str(detail.get(name, "")))


def _credits(listed: Any) -> list[Credit]:
    if not isinstance(listed, list):
        return []
    return [
        Credit(_text(one, "text"), address(one.get("url")))
        for one in listed[:MOST_CREDITS]
        if isinstance(one, dict)
    ]


def address(url: Any) -> str | None:
    """The address if it is one of http or https, else None: a record may come from a stranger."""
    known = isinstance(url, str) and re.fullmatch(r"https?://[\w.-]+(/[\w.~/#%+-]*)?", url, re.A)
    return url if known and len(url) <= 300 else None


def _published(case: Case) -> Published | None:
    found = case.record.detail.get("published")
    if not isinstance(found, dict) or _text(found, "status") not in STATUSES:
        return None
    status, ratio = found["status"], case.value("published error ratio")
    ratio = None if ratio is None or not math.isfinite(ratio) else ratio
    return Published(
        status, group_of(status), _text(found, "reason"), _text(found, "beside"), ratio
    )
