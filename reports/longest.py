"""The longest sequence that fitted into a given memory, and what the next one failed of."""

from __future__ import annotations

from typing import Any

from fwpbench.reports import axes
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.dotted import dotted_panels, row_of
from fwpbench.reports.evidence import Case, Evidence, shared, varying
from fwpbench.reports.section import Section
from fwpbench.reports.units import clipped

METRIC = "longest"


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("longest")
    if not cases:
        return None
    found = [case for case in cases if case.value(METRIC) is not None]
    edges = [edge for case in found for edge in (case.value(METRIC), *case.bounds(METRIC))]
    x = axes.logarithmic("T (tokens)", "count", edges)
    caption = "Inputs and gradients included. A bar reaches to the length that did not fit; "
    caption += "without one, nothing longer was tried. Logarithmic, further right is longer."
    told = varying(found)
    content = {
        "rows": [(case, row_of(evidence, case, told), failed_of(case)) for case in found],
        "memory": " or ".join(sorted({f"{gib:g} GiB" for case in cases if (gib := _gib(case))})),
        "common": shared(cases, ("dtype", "B", "H", "K", "V", "direction")),
        "panels": dotted_panels(evidence, found, {METRIC: ""}, x, caption),
        "without": by_cause(case for case in cases if case.value(METRIC) is None),
        "evidence": evidence,
    }
    return Section(
        "longest",
        "Longest sequence",
        "How long a sequence fits into memory?",
        "longest.html.jinja",
        content,
    )


def _gib(case: Case) -> float | None:
    """Memory that was given; a record may hold anything under this name."""
    said = case.record.parameters.get("GiB")
    return float(said) if isinstance(said, int | float) else None


def failed_of(case: Case) -> str:
    """What the shortest length that did not fit said."""
    tried: Any = case.record.detail.get("tried")
    if not isinstance(tried, list):
        return ""
    failures = [
        (one[0], one[1])
        for one in tried
        if isinstance(one, list)
        and len(one) == 2
        and isinstance(one[0], int | float)
        and isinstance(one[1], str)
        and one[1] != "fits"
    ]
    return clipped(min(failures)[1], 160) if failures else ""
