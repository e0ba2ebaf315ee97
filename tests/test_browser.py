"""The report in a real browser: from disk, offline, with and without script, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fwpbench.reports import build_report, build_site, site
from tests import sample_runs as sample
from tests.browser_pages import failing, hostile, some
from tests.test_site import written

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on this machine"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = sample.run_of(sample.everything())
    return build_report([run], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two runs, one of them too large for a report."""
    root = tmp_path_factory.mktemp("pages")
    few = some(200)
    bf16 = [replace(one, problem=one.problem.replace("fp32", "bf16")) for one in some(150)]
    runs = [
        written(sample.run_of(bf16, environment={"device": "Imaginary GPU"}), root / "small"),
        written(sample.run_of([*some(90), *failing(few)]), root / "large"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "MOST_ON_A_PAGE", len(bf16))
        index, _ = build_site(runs, root / "site")
    return index.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Visit:
    """A page that is open, with what it complained of and what it asked for."""

    def __init__(self, browser: Any, report: Path, **options: Any):
        self.page = browser.new_context(**options).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri())

    def close(self, report: Path) -> None:
        assert self.complaints == []
        assert self.requests == [report.as_uri()]
        self.page.context.close()


def test_is_ready_within_a_second(
    browser: Any, report: Path, record_property: Any, capsys: Any
) -> None:
    times: list[int] = []
    while len(times) < 5 and min(times, default=1000) >= 1000:
        visit = Visit(browser, report)
        times.append(int(visit.page.evaluate("document.documentElement.dataset.ready")))
        visit.close(report)
    record_property("ready_ms", min(times))
    with capsys.disabled():
        print(f" [{report.stat().st_size / 1e6:.2f} MB, ready after {min(times)} ms]", end="")
    assert min(times) < 1000


def test_charts_become_interactive_when_they_come_into_view(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    figure = visit.page.locator("#scaling figure").first
    figure.scroll_into_view_if_needed()
    visit.page.wait_for_selector("#scaling figure[data-live]")
    figure.locator(".mark-symbol path").first.hover(force=True)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    said = visit.page.locator("#vg-tooltip-element").inner_text()
    assert "reference" in said
    assert "at T = " in said
    assert " ms" in said
    visit.close(report)


def test_tables_sort_and_filter(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    table = visit.page.locator("#speed table.sortable")
    table.get_by_role("button", name="Median").click()
    assert table.locator("th[aria-sort=ascending]").count() == 1
    cells = table.locator("tbody td[data-value]:nth-of-type(3)")
    times = [float(cell.get_attribute("data-value")) for cell in cells.all()]
    assert times == sorted(times)
    visit.page.locator("#speed input[type=search]").fill("retention chunked")
    assert table.locator("tbody tr:not([hidden])").count() == 2
    visit.close(report)


def test_a_cell_leads_to_its_reason_and_command(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.get_by_role("link", name="kda", exact=True).click()
    cell = visit.page.locator("#coverage td.cell.wrong a")
    cell.click()
    target = visit.page.locator("#coverage li:target")
    assert target.is_visible()
    assert "--implementations chunked" in target.inner_text()
    visit.close(report)


def test_a_hostile_report_runs_nothing(browser: Any, tmp_path: Path) -> None:
    report = build_report(hostile(), tmp_path / "report.html")
    visit = Visit(browser, report)
    visit.page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for section in ("agreement", "speed", "capacity", "stability", "memory"):
        visit.page.locator(f"#{section} figure").first.scroll_into_view_if_needed()
        visit.page.wait_for_selector(f"#{section} figure[data-live]")
    visit.page.locator("#memory .mark-symbol path").first.hover(force=True)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    assert "<x-evil" in visit.page.locator("#vg-tooltip-element").inner_text()
    assert visit.page.locator("x-evil").count() == 0
    visit.close(report)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reads_without_script(browser: Any, report: Path, scheme: Any) -> None:
    visit = Visit(browser, report, java_script_enabled=False, color_scheme=scheme)
    visit.page.locator("#summary .verdict").wait_for()
    assert visit.page.locator("#coverage table").first.is_visible()
    drawings = visit.page.locator("figure svg.marks")
    assert drawings.count() == visit.page.locator("figure").count() > 10
    assert all(drawing.bounding_box()["height"] > 50 for drawing in drawings.all())
    visit.close(report)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_never_scrolls_sideways(browser: Any, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 800})
    visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close(report)


def test_the_keyboard_reaches_everything_that_can_be_used(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    stuck = visit.page.evaluate(
        """[...document.querySelectorAll('.scroll')]
        .filter((one) => one.scrollWidth > one.clientWidth && one.tabIndex !== 0).length"""
    )
    assert stuck == 0
    visit.close(report)


# Accessibility

PAGES = ("index.html", "runs/large/index.html", "runs/large/records.html")
PAGES += ("runs/large/records-1.html", "runs/small/index.html")


def violations(page: Any) -> list[str]:
    """What axe-core calls serious or critical, with everything unfolded, and where it is."""
    pytest.importorskip("axe_playwright_python")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(axe)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10, "it looked at something"
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def drawn(page: Any) -> None:
    """Every chart has been in view, and so has become interactive."""
    for figure in page.locator("figure").all():
        figure.scroll_into_view_if_needed()
    page.wait_for_function("!document.querySelector('figure[data-chart]:not([data-live])')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_in_a_site(
    browser: Any, pages: Path, name: str, scheme: Any
) -> None:
    """The page of a run that is not large is its report."""
    visit = Visit(browser, pages / name, color_scheme=scheme)
    drawn(visit.page)
    assert violations(visit.page) == []
    visit.page.context.close()


def test_axe_would_find_something(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "runs/large/index.html")
    visit.page.evaluate("document.querySelector('h2').style.color = '#ddd'")
    assert any("color-contrast" in each for each in violations(visit.page))
    visit.page.context.close()


# The site


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 1280])
def test_a_site_neither_scrolls_sideways_nor_complains(
    browser: Any, pages: Path, name: str, width: int
) -> None:
    visit = Visit(browser, pages / name, viewport={"width": width, "height": 800})
    visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close(pages / name)


def test_the_leaderboard_is_filtered(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "index.html")
    boards = visit.page.locator(".board")
    everything = boards.count()
    visit.page.get_by_label("dtype").select_option("bf16")
    shown = visit.page.locator(".board:not([hidden])")
    assert 0 < shown.count() < everything
    assert {one.get_attribute("data-dtype") for one in shown.all()} == {"bf16"}
    assert f"of {everything} tables" in visit.page.locator(".choose output").inner_text()
    visit.page.get_by_label("GPU or CPU").select_option("Imaginary CPU (made up)")
    assert shown.count() == 0
    visit.close(pages / "index.html")


def test_a_cell_of_the_leaderboard_leads_to_its_record(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "index.html")
    visit.page.locator("td.cell.ok a").first.click()
    target = visit.page.locator("tr:target")
    target.wait_for()
    assert "speed" in target.inner_text()
    target.get_by_text("Make it again").click()
    assert "fwpbench run speed" in target.inner_text()
    assert visit.complaints == []
    visit.page.context.close()


def test_the_leaderboard_reads_without_script(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "index.html", java_script_enabled=False)
    assert visit.page.locator(".board table").first.is_visible()
    assert not visit.page.locator("form.choose").is_visible()
    visit.close(pages / "index.html")


def test_records_of_a_page_are_filtered(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "runs/large/records-1.html")
    visit.page.locator("input[type=search]").fill("made-up reason")
    rows = visit.page.locator("table.records tbody tr:not([hidden])")
    assert rows.count() == len(some(200))
    visit.close(pages / "runs/large/records-1.html")
