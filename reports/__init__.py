"""Records in, pages out: nothing here computes a result.

`build_report(runs, output)` writes one self-contained HTML file that opens from disk without a
network and reads without JavaScript; `build_site` writes a folder of such files from any number of
runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwpbench.operators.errors import UserError

if TYPE_CHECKING:
    from fwpbench.harness.run_folder import Run
    from fwpbench.reports.section import Section

__all__ = ["brief", "build_report", "build_site", "load", "too_many"]


#: A page of more records than this is nothing that a browser likes to open.
MOST_ON_A_PAGE = 20_000


def too_many(records: int) -> str:
    """Why one page is not made of so many records; empty where it is."""
    if records <= MOST_ON_A_PAGE:
        return ""
    return (
        f"one page shows at most {MOST_ON_A_PAGE:,} records, and here are {records:,}: "
        "make pages of them with fwpbench report --site FOLDER RUN"
    )


def build_report(runs: Sequence[Run], output: Path, *, png: bool = False) -> Path:
    """Write the report of one or more runs to the file `output` and return its path.

    The same in brief is written as Markdown beside it, and with `png` every chart as a picture.

    Raises:
        UserError: there are more records than one page shows.
    """
    from fwpbench.reports.evidence import read
    from fwpbench.reports.markdown import markdown_of
    from fwpbench.reports.page import html_of, sections_of

    if complaint := too_many(sum(len(run.records) for run in runs)):
        raise UserError(complaint)
    output.parent.mkdir(parents=True, exist_ok=True)
    evidence = read(runs)
    sections = sections_of(evidence)
    # A lone surrogate is legal in JSON and not in UTF-8.
    output.write_bytes(html_of(evidence, sections).encode("utf-8", "replace"))
    pictures = _draw(sections, output) if png else {}
    brief = markdown_of(evidence, sections, pictures)
    output.with_suffix(".md").write_bytes(brief.encode("utf-8", "replace"))
    return output


def build_site(runs: Sequence[Path], output: Path) -> tuple[Path, list[str]]:
    """Write a site of these run folders into `output`: its first page, and what was not read."""
    from fwpbench.reports import site

    return site.build_site(runs, output)


def brief(runs: Sequence[Run]) -> str:
    """The report as Markdown."""
    from fwpbench.reports.evidence import read
    from fwpbench.reports.markdown import markdown_of
    from fwpbench.reports.page import sections_of

    evidence = read(runs)
    return markdown_of(evidence, sections_of(evidence))


def _draw(sections: Sequence[Section], output: Path) -> dict[str, str]:
    """Every chart beside the page, and its title by the name of its file."""
    from fwpbench.reports.page import figures_of

    titles: dict[str, str] = {}
    for section in sections:
        for place, figure in enumerate(figures_of(section), 1):
            file = output.with_name(f"{output.stem}-{section.anchor}-{place}.png")
            file.write_bytes(figure.png)
            titles[file.name] = " · ".join(filter(None, (section.title, figure.title)))
    return titles


def load() -> None:
    """Load and start what draws charts: later a report takes the time of its records alone."""
    import fwpbench.reports.page  # noqa: F401
    from fwpbench.reports.drawing import Figure
    from fwpbench.reports.packed import LIBRARIES, packed_library

    for name in LIBRARIES:
        packed_library(name)
    _ = Figure("the first drawing", {"data": {"values": []}, "mark": "point"}).svg
