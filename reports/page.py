"""The page: sections in the order of importance, one template, nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fwpbench.harness.records import PROTOCOL
from fwpbench.harness.run_folder import Run
from fwpbench.harness.statuses import STATUSES
from fwpbench.reports import (
    agreement,
    capacity,
    coverage,
    explained,
    first_call,
    growth,
    longest,
    machines,
    museum,
    quality,
    record,
    speed,
    stability,
    summary,
)
from fwpbench.reports.charts import CONFIG
from fwpbench.reports.drawing import Figure, fingerprints, for_script
from fwpbench.reports.evidence import Evidence, read
from fwpbench.reports.packed import LIBRARIES, packed, packed_library, script_of
from fwpbench.reports.section import Link, Panels, Section
from fwpbench.reports.units import between, clipped, count, digits, plural, shown

#: Top to bottom; each gives a section, or None where the runs have nothing for it.
SECTIONS = (
    summary.section,
    coverage.section,
    agreement.section,
    museum.section,
    speed.section,
    first_call.section,
    machines.section,
    growth.memory,
    longest.section,
    growth.scaling,
    capacity.section,
    stability.section,
    quality.section,
    explained.section,
    record.section,
)
#: What makes a page more than a text, in this order: each may use what stands before it.
SCRIPTS = ("packed.js", "page.js", "charts.js", "tables.js", "record.js", "view.js")
MOST_COMPLAINTS = 50


def page_of(runs: Sequence[Run]) -> str:
    """The whole page as one string."""
    evidence = read(runs)
    return html_of(evidence, sections_of(evidence))


def sections_of(evidence: Evidence) -> list[Section]:
    sections = [made for make in SECTIONS if (made := make(evidence)) is not None]
    sections.append(about(evidence, evidence.runs, sections))
    return sections


def html_of(evidence: Evidence, sections: Sequence[Section], links: Sequence[Link] = ()) -> str:
    """`links` lead to the pages around this one, where there are some."""
    environment = templates()
    figures = [figure for section in sections for figure in figures_of(section)]
    script = for_script(script_of([template_text(name) for name in SCRIPTS]))
    blocks = blocks_of(evidence, figures) if evidence.cases else {}
    environment.globals |= {"number_of": _numbers(figures)}
    return environment.get_template("report.html.jinja").render(
        title=_title(evidence.runs),
        links=links,
        sections=sections,
        implementations=evidence.implementations,
        style=template_text("style.css"),
        script=script,
        script_hashes=fingerprints([script]),
        blocks=blocks,
    )


def blocks_of(evidence: Evidence, figures: Sequence[Figure]) -> dict[str, str]:
    """What the page's script unpacks when somebody looks at it, by name."""
    specs = specs_of([figure.spec for figure in figures])
    libraries = {name: packed_library(name) for name in LIBRARIES}
    return {"specs": packed(specs), **libraries, "records": record.records_of(evidence)}


def specs_of(charts: Sequence[dict[str, Any]]) -> str:
    told = {"config": CONFIG, "charts": charts, "samples": record.samples_charts()}
    return json.dumps(told, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fwpbench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "between": between,
        "clipped": clipped,
        "count": count,
        "digits": digits,
        "plural": plural,
    }
    return environment


def about(evidence: Evidence, runs: Sequence[Run], sections: Sequence[Section]) -> Section:
    complaints = [unplaced(line, run) for run in runs for line in run.complaints]
    content = {
        "statuses": STATUSES,
        "marks": coverage.MARKS,
        "protocols": sorted({case.record.protocol for case in evidence.cases} or {PROTOCOL}),
        "complaints": [clipped(line) for line in complaints[:MOST_COMPLAINTS]],
        "complained": len(complaints),
        "sections": {case.record.suite for case in evidence.cases},
        "quality": any(section.anchor == "quality" for section in sections),
    }
    return Section(
        "about", "How to read this", "What do the words mean?", "about.html.jinja", content
    )


def unplaced(line: str, run: Run) -> str:
    """A report is shown to others: where the folder lay is nobody's business."""
    return line.replace(str(run.path), run.path.name)


def _title(runs: Sequence[Run]) -> str:
    devices = dict.fromkeys(
        str(run.environment["device"]) for run in runs if run.environment.get("device")
    )
    return clipped(", ".join(devices) or "FWPBench", 120)


def figures_of(section: Section) -> list[Figure]:
    """Every chart of a section, in order; the script finds a chart's spec by its place."""
    figures: list[Figure] = []
    held = section.content.get("panels")
    for panels in held if isinstance(held, list) else [held]:
        if isinstance(panels, Panels):
            figures += panels.figures
    return figures


def _numbers(figures: Sequence[Figure]) -> Any:
    places = {id(figure): place for place, figure in enumerate(figures)}
    return lambda figure: places[id(figure)]


def template_text(name: str) -> str:
    return files("fwpbench.reports").joinpath("templates", name).read_text(encoding="utf-8")
