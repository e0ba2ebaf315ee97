"""A static site from any number of runs: a leaderboard, a page a run, pages of all records.

Each run is read once, one record at a time, and no more of it is kept than the leaderboard needs,
so that the number of records is bounded by the disk. Of a run of up to MOST_ON_A_PAGE records the
page is its report; of a larger one, its counts, its failures and the way to its records.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count as counting
from pathlib import Path
from typing import Any

from jinja2 import Template

from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import (
    Run,
    count_lines,
    read_environment,
    read_gate,
    read_plan,
    read_records,
)
from fwpbench.harness.signature import signature
from fwpbench.harness.statuses import Group
from fwpbench.operators.errors import UserError
from fwpbench.reports import MOST_ON_A_PAGE
from fwpbench.reports.coverage import MARKS, cause, is_absent
from fwpbench.reports.evidence import Case, Evidence, case_of
from fwpbench.reports.leaderboard import Board, Contest
from fwpbench.reports.packed import LIBRARIES, library, packed, script_of
from fwpbench.reports.page import (
    MOST_COMPLAINTS,
    html_of,
    sections_of,
    specs_of,
    template_text,
    templates,
    unplaced,
)
from fwpbench.reports.record import entry, facts_of, packed_records
from fwpbench.reports.section import Link
from fwpbench.reports.summary import About, about, told_of
from fwpbench.reports.units import clipped

#: Records on one page: half a megabyte.
ON_A_PAGE = 500
#: A folder with this file in it was made here, and may be made anew.
MARK = ".fwpbench-site"
MOST_REASONS = 200
#: As in a page, but for where libraries are, and with a choice of leaderboards.
SCRIPTS = ("packed.js", "site.js", "charts.js", "tables.js", "record.js", "boards.js", "view.js")


def build_site(folders: Sequence[Path], output: Path) -> tuple[Path, list[str]]:
    """Write the site and return its first page, and which lines were not read.

    Raises:
        UserError: a folder is no run, or `output` holds something else than a site.
    """
    for folder in folders:
        read_plan(folder)  # before anything is written
    _clear(output)
    site = _Site(output)
    names = _names(folders)
    pages = [site.add(folder, name) for folder, name in zip(folders, names, strict=True)]
    index = site.write_index(pages)
    return index, [line for page in pages for line in page.complaints]


def _clear(output: Path) -> None:
    if (
        output.exists()
        and not (output / MARK).is_file()
        and (not output.is_dir() or any(output.iterdir()))
    ):
        raise UserError(f"{output} holds something that is no site: choose another --site")
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).touch()
    for made in ("runs", "assets"):
        shutil.rmtree(output / made, ignore_errors=True)


def _names(folders: Sequence[Path]) -> list[str]:
    """One plain name a run, for its folder and its address."""
    names: list[str] = []
    for folder in folders:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip(".-")[:60] or "run"
        numbered = (f"{plain}-{number}" for number in counting(2))
        names.append(plain if plain not in names else next(n for n in numbered if n not in names))
    return names


@dataclass
class _Page:
    """What the index says of a run."""

    name: str
    about: About
    groups: Counter[Group]
    boards: list[Board]
    complaints: list[str]


@dataclass(frozen=True)
class _Row:
    """A record on its page."""

    number: int
    case: Case
    signature: str

    @property
    def is_whole(self) -> bool:
        """Whether there is more to see of it than stands in its row."""
        return not is_absent(self.case)


@dataclass
class _Reason:
    """Failures that share status and reason: how many, and the first of them."""

    case: Case
    address: str
    number: int = 0


class _Site:
    def __init__(self, output: Path):
        self.output = output
        environment = templates()
        environment.globals |= {"marks": MARKS}
        self.specs = packed(specs_of([]))
        self._write_assets()
        self.index, self.records, self.large, self.contents = (
            environment.get_template(f"{name}.html.jinja")
            for name in ("site_index", "site_records", "site_run", "site_contents")
        )

    def _write_assets(self) -> None:
        """What all pages share, once: ten thousand pages of one site have 8 kB less each."""
        assets = {f"{name}.js": library(name) for name in LIBRARIES}
        assets["site.js"] = script_of([template_text(name) for name in SCRIPTS])
        assets["style.css"] = template_text("style.css")
        (self.output / "assets").mkdir()
        for name, text in assets.items():
            (self.output / "assets" / name).write_text(text, encoding="utf-8")

    def add(self, folder: Path, name: str) -> _Page:
        """Write the pages of a run."""
        reading = _Reading(self, folder, name)
        reading.run()
        return reading.page()

    def write_index(self, pages: Sequence[_Page]) -> Path:
        boards = [board for page in pages for board in page.boards]
        chosen = {
            word: sorted({getattr(board, word) for board in boards})
            for word in ("device", "dtype", "direction")
        }
        path = self.output / "index.html"
        self.write(
            path,
            self.index,
            root="",
            title="Leaderboard",
            pages=pages,
            boards=boards,
            chosen=chosen,
        )
        return path

    def write(self, path: Path, template: Template, **content: Any) -> None:
        path.write_bytes(template.render({"root": "../../"} | content).encode("utf-8", "replace"))


class Complaints(list[str]):
    """The first of the lines that were not read, and how many there were: a million bad lines are
    no reason to run out of memory."""

    number = 0

    def append(self, line: str) -> None:
        self.number += 1
        if len(self) < MOST_ON_A_PAGE:
            super().append(line)

    @property
    def told(self) -> list[str]:
        left = self.number - len(self)
        return [*self, f"and {left:,} more lines"] if left else list(self)


@dataclass
class _Reading:
    """One run on its way from its folder to its pages."""

    site: _Site
    folder: Path
    name: str
    rows: list[_Row] = field(default_factory=list)
    listed: list[tuple[int, int, str, Counter[Group]]] = field(default_factory=list)
    groups: Counter[Group] = field(default_factory=Counter)
    reasons: dict[tuple[str, str], _Reason] = field(default_factory=dict)
    complaints: Complaints = field(default_factory=Complaints)

    def __post_init__(self) -> None:
        self.out = self.site.output / "runs" / self.name
        self.out.mkdir(parents=True)
        self.environment = read_environment(self.folder)
        device = clipped(str(self.environment.get("device") or "unknown device"), 80)
        self.contest = Contest(self.name, f"runs/{self.name}/index.html", device)
        self.facts = facts_of(self.environment)
        # The same list for the page and for what is told on the terminal: names of folders go.
        plan, gate = read_plan(self.folder), read_gate(self.folder)
        self.told = Run(Path(self.name), plan, self.environment, [], self.complaints, gate)
        # As `too_many` counts: what is too large for a page is not kept until that is found out.
        whole = count_lines(self.folder) <= MOST_ON_A_PAGE
        self.kept: list[Record] | None = [] if whole else None
        self.seen = 0

    def run(self) -> None:
        for record in read_records(self.folder, self.complaints):
            self.seen += 1
            if len(self.rows) == ON_A_PAGE:
                self._write_records(more=True)
            self._take(record)
        if self.rows:
            self._write_records(more=False)
        told = replace(self.told, records=self.kept or [])
        self.about = about(told, self.seen)
        self._write_contents()
        if self.kept is None:
            self._write_large(told)
        else:
            self._write_report(told)

    def page(self) -> _Page:
        boards = self.contest.boards()
        return _Page(self.name, self.about, self.groups, boards, self.complaints.told)

    def _take(self, record: Record) -> None:
        case = case_of(record, self.name)
        address = f"records-{self._page_number()}.html#r{self.seen}"
        self.rows.append(_Row(self.seen, case, signature(record, self.facts)))
        self.groups[case.group] += 1
        self.contest.add(case, f"runs/{self.name}/{address}")
        if case.fails:
            plain = re.sub(r"\d[\d.,e+-]*", "0", cause(case))
            if (place := (record.status, plain)) not in self.reasons:
                if len(self.reasons) >= MOST_REASONS:
                    place = (record.status, "")
                self.reasons.setdefault(place, _Reason(case, address))
            self.reasons[place].number += 1
        if self.kept is not None:
            self.kept.append(record)

    def _page_number(self) -> int:
        return len(self.listed) + 1

    def _write_records(self, more: bool) -> None:
        number = self._page_number()
        first, last = self.rows[0].number, self.rows[-1].number
        self.site.write(
            self.out / f"records-{number}.html",
            self.site.records,
            title=f"{self.name}: records {first:,} to {last:,}",
            number=number,
            more=more,
            rows=self.rows,
            blocks={"specs": self.site.specs, "records": self._packed()},
        )
        suites = ", ".join(dict.fromkeys(row.case.record.suite for row in self.rows))
        groups = Counter(row.case.group for row in self.rows)
        self.listed.append((first, last, clipped(suites, 200), groups))
        self.rows = []

    def _packed(self) -> str:
        entries = {row.number: entry(row.case, self.facts) for row in self.rows if row.is_whole}
        return packed_records(entries, {self.name: told_of(self.told)})

    def _write_contents(self) -> None:
        self.site.write(
            self.out / "records.html",
            self.site.contents,
            title=f"{self.name}: all records",
            listed=self.listed,
        )

    def _write_report(self, run: Run) -> None:
        cases = [case_of(record, self.name) for record in run.records]
        evidence = Evidence([run], cases)
        links = [Link("../../index.html", "← Leaderboard"), Link("records.html", "All records")]
        page = html_of(evidence, sections_of(evidence), links)
        (self.out / "index.html").write_bytes(page.encode("utf-8", "replace"))

    def _write_large(self, run: Run) -> None:
        self.site.write(
            self.out / "index.html",
            self.site.large,
            title=self.name,
            about=self.about,
            records=self.seen,
            most=MOST_ON_A_PAGE,
            groups=self.groups,
            reasons=sorted(self.reasons.values(), key=lambda reason: -reason.number),
            complaints=[unplaced(clipped(line), run) for line in self.complaints[:MOST_COMPLAINTS]],
            complained=self.complaints.number,
        )
