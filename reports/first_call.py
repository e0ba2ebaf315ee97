"""How long the first call of a process takes, and what of that comes again."""

from __future__ import annotations

from fwpbench.reports import axes
from fwpbench.reports.coverage import by_cause
from fwpbench.reports.dotted import dotted_panels, row_of
from fwpbench.reports.evidence import Evidence, shared, varying
from fwpbench.reports.section import Section

METRICS = {
    "first call": "First call, nothing compiled yet",
    "first call, disk cache": "First call, compiled by another process before",
    "autotune": "Of the first call: Triton's search for a configuration",
    "later call": "Later calls",
}


def section(evidence: Evidence) -> Section | None:
    cases = evidence.of("first-call")
    if not cases:
        return None
    timed = [case for case in cases if case.value("first call") is not None]
    x = axes.logarithmic("time", "s", (case.value(metric) for case in timed for metric in METRICS))
    caption = "Logarithmic, the same axis in every chart; further left is faster."
    content = {
        "told": (told := varying(timed)),
        "rows": [(case, row_of(evidence, case, told)) for case in timed],
        "metrics": [name for name in METRICS if any(case.value(name) for case in timed)],
        "common": shared(cases, ("dtype", "B", "T", "H", "K", "V", "direction")),
        "panels": dotted_panels(evidence, timed, METRICS, x, caption),
        "without": by_cause(case for case in cases if case.value("first call") is None),
        "evidence": evidence,
    }
    return Section(
        "first-call",
        "First call",
        "How long does the first call take, before anything is compiled?",
        "first_call.html.jinja",
        content,
    )
