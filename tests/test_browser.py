"""The report in a real browser: from disk, offline, with and without script, wide and narrow."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.harness.run_folder import read_run
from fwpbench.reports import build_report, build_site, site
from tests import sample_runs as sample
from tests.browser_pages import failing, hostile, of, some
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
        shared = (report.parent / "assets", report.parents[2] / "assets")
        ours = tuple(f"{folder.as_uri()}/" for folder in shared)
        assert [url for url in self.requests if not url.startswith(ours)] == [report.as_uri()]
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


#: Sections with charts of lines, dots and bars, and what a hover over their first point must tell.
TOLD = {
    "agreement": r"[\d,]+ tensors",
    "speed": r"\d (µs|ms|s) \(95 %: ",
    "first-call": r"\d (µs|ms|s)\b",
    "memory": r"\d (KiB|MiB) at T = ",
    "longest": r": T = [\d,]+",
    "scaling": r"\d ms \(95 %: .* at T = [\d,]+",
    "capacity": r"\d %",
    "quality": r"\d",
}


@pytest.mark.parametrize("section", TOLD)
def test_hover_shows_values_with_units(browser: Any, report: Path, section: str) -> None:
    """And a chart becomes interactive when it comes into view."""
    visit = Visit(browser, report)
    figure = visit.page.locator(f"#{section} figure").first
    figure.scroll_into_view_if_needed()
    visit.page.wait_for_selector(f"#{section} figure[data-live]")
    figure.locator(".mark-symbol path, .mark-rect path").first.hover(force=True)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    assert re.search(TOLD[section], visit.page.locator("#vg-tooltip-element").inner_text())
    visit.close(report)


def test_hover_over_the_front_tells_all_three(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    figure = visit.page.locator("#quality figure", has_text="pairs held").first
    figure.scroll_into_view_if_needed()
    figure.locator("xpath=self::*[@data-live]").wait_for()
    figure.locator(".mark-symbol path").first.hover(force=True)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    told = visit.page.locator("#vg-tooltip-element").inner_text()
    assert re.search(r"\d pairs, [\d.]+ (µs|ms|s) .*by [\w-]+, state [\d.]+ (B|KiB|MiB)", told)
    visit.close(report)


def test_a_chart_is_drawn_for_the_width_it_has(browser: Any, report: Path) -> None:
    """Scaled down to a telephone, its words could not be read."""
    visit = Visit(browser, report, viewport={"width": 390, "height": 800})
    drawn(visit.page)
    scales = visit.page.evaluate(
        """[...document.querySelectorAll('figure[data-live] svg.marks')].map((one) =>
        one.getBoundingClientRect().width / one.viewBox.baseVal.width)"""
    )
    assert len(scales) > 10
    assert min(scales) > 0.9
    visit.close(report)


def table_of(visit: Visit, section: str) -> Any:
    """The table of a section, when it can be sorted."""
    table = visit.page.locator(f"#{section} table.sortable").first
    table.scroll_into_view_if_needed()
    visit.page.wait_for_selector(f"#{section} table.sortable[data-live]")
    return table


def medians(table: Any) -> list[float]:
    cells = table.locator("tbody td[data-record]").all()
    return [float(cell.get_attribute("data-order")) for cell in cells]


def test_tables_sort_and_filter_by_mouse(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    table = table_of(visit, "speed")
    before = medians(table)
    assert before != sorted(before)
    table.get_by_role("button", name="Median").click()
    table.locator("th[aria-sort=ascending]").wait_for()
    assert medians(table) == sorted(before)
    table.get_by_role("button", name="Median").click()
    table.locator("th[aria-sort=descending]").wait_for()
    assert medians(table) == sorted(before, reverse=True)
    visit.page.locator("#speed input[type=search]").fill("retention chunked")
    assert table.locator("tbody tr").count() == 2
    visit.close(report)


def test_tables_sort_and_filter_by_keyboard(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    table = table_of(visit, "speed")
    before = medians(table)
    visit.page.locator("#speed input[type=search]").focus()
    visit.page.keyboard.type("chunked forward+backward")
    assert 0 < table.locator("tbody tr").count() < len(before)
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.press("Delete")
    assert table.locator("tbody tr").count() == len(before)
    for _ in range(30):
        visit.page.keyboard.press("Tab")
        if "Median" in visit.page.evaluate("document.activeElement.closest('th')?.innerText ?? ''"):
            break
    visit.page.keyboard.press("Enter")
    table.locator("th[aria-sort=ascending]").wait_for()
    assert medians(table) == sorted(before)
    visit.close(report)


def test_what_a_number_is_not_there_for_comes_last(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.evaluate("document.querySelectorAll('#memory details').forEach(x => x.open = true)")
    table = table_of(visit, "memory")
    header = table.locator("thead th.number").first
    header.get_by_role("button").click()
    place = int(header.get_attribute("data-dt-column"))
    cells = table.locator(f"tbody tr > :nth-child({place + 1})").all()
    shown = [cell.inner_text() for cell in cells]
    assert shown[0] != "–"
    assert "–" not in " ".join(shown).split(" – ")[0]
    visit.close(report)


def test_numbers_are_copied_and_downloaded(browser: Any, report: Path) -> None:
    """In the units of the records, whatever the page shows them in."""
    visit = Visit(browser, report, accept_downloads=True)
    table = table_of(visit, "speed")
    expected = medians(table)
    with visit.page.expect_download() as download:
        visit.page.locator("#speed").get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "fwpbench-speed.csv"
    rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert [float(row["Median (s)"]) for row in rows] == expected
    assert {row["Implementation"] for row in rows} == {
        *("reference", "chunked", "torch-sdpa third-party")
    }
    low, high = rows[0]["95 % interval (s)"].split(" to ")
    assert float(low) < expected[0] < float(high)
    visit.page.evaluate(
        "document.addEventListener('copy', () => { window.copied = String(getSelection())"
        " || document.activeElement.value; }, true)"
    )
    visit.page.locator("#speed").get_by_role("button", name="Copy").click()
    visit.page.get_by_text(f"{len(expected)} rows").wait_for()
    copied = visit.page.evaluate("window.copied").strip().splitlines()
    assert copied[0].split("\t")[:2] == ["Operator", "direction"]
    assert len(copied) == len(expected) + 1
    visit.close(report)


# One record


def test_a_record_is_opened_by_keyboard_from_its_row(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    table = table_of(visit, "speed")
    link = table.locator("a.record").first
    told = link.inner_text()
    link.focus()
    visit.page.keyboard.press("Enter")
    record = visit.page.locator("dialog.one[data-shown]")
    record.wait_for()
    assert told in record.inner_text()
    for word in ("fwpbench run speed", "signature", "fwpbench:1|", "95 % interval"):
        assert word in record.inner_text()
    record.get_by_text("Environment").click()
    assert sample.DEVICE in record.inner_text()
    assert record.locator("figure svg path[aria-label], figure .mark-symbol path").count() == 9
    record.locator("figure .mark-symbol path").first.hover(force=True)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    assert re.search(r"\d (µs|ms|s)\b", visit.page.locator("#vg-tooltip-element").inner_text())
    visit.page.keyboard.press("Escape")
    assert not record.is_visible()
    assert "#" not in visit.page.url
    visit.close(report)


def test_an_address_leads_to_a_record(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    speed = next(n for n, one in enumerate(sample.everything(), 1) if one.suite == "speed")
    visit.page.goto(f"{report.as_uri()}#record-{speed}")
    visit.page.locator(f"dialog.one[data-shown='{speed}']").wait_for()
    assert visit.page.get_by_role("heading", name=f"Record {speed}").is_visible()
    visit.page.goto(f"{report.as_uri()}#record-999999")
    visit.page.get_by_text("This page holds no such record.").wait_for()
    visit.page.context.close()


def test_a_record_is_found_by_words(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.get_by_label("Find a record").fill("speed retention chunked ok")
    visit.page.get_by_text("found", exact=False).first.wait_for()
    first = visit.page.locator("ul.found a").first
    first.wait_for()
    assert "Retention" in first.inner_text()
    first.click()
    visit.page.locator("dialog.one[data-shown]").wait_for()
    visit.close(report)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_record(browser: Any, report: Path, scheme: Any) -> None:
    visit = Visit(browser, report, color_scheme=scheme, viewport={"width": 390, "height": 800})
    speed = next(n for n, one in enumerate(sample.everything(), 1) if one.suite == "speed")
    visit.page.evaluate(f"location.hash = 'record-{speed}'")
    visit.page.locator("dialog.one[data-shown]").wait_for()
    assert violations(visit.page, "dialog.one") == []
    assert visit.page.evaluate("document.querySelector('dialog.one').scrollWidth <= 390")
    visit.close(report)


# Coverage


def test_a_cell_leads_to_its_reason_and_command(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.get_by_role("link", name="kda", exact=True).click()
    cell = visit.page.locator("#coverage td.cell.wrong a")
    cell.click()
    target = visit.page.locator("#coverage li:target")
    assert target.is_visible()
    assert "--implementations chunked" in target.inner_text()
    visit.close(report)


PLUGIN = """
import fwpbench

run = lambda problem, inputs: fwpbench.Output(0 * inputs.v, None)
IMPLEMENTATIONS = {
    "zeros": fwpbench.Implementation(run, "nothing"),
    "absent": fwpbench.Implementation(run, "nothing", missing=lambda: "it is not installed"),
}
"""


def test_a_cells_command_makes_its_status_again(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Right, not supported, wrong and not here: where the cell leads stands what makes it again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zeros.py").write_text(PLUGIN, encoding="utf-8")
    asked = ["--plugin", "zeros.py", "--implementations", "chunked,torch-sdpa,zeros,absent"]
    where = "rule=sum phi=elu+1 norm=attention direction=forward inputs=normal"
    assert main(["run", "agreement", "--where", where, *asked, "--output", "first"]) == 1
    visit = Visit(browser, tmp_path / "first" / "report.html")
    statuses = set()
    for place, cell in enumerate(visit.page.locator("#coverage td.cell a").all()):
        cell.click()
        target = visit.page.locator("#coverage :target")
        command = target.locator("code.command").first.inner_text()
        shown = cell.inner_text().split(maxsplit=1)[1]
        main([*shlex.split(command)[1:], "--output", f"again-{place}", "--json"])
        (again,) = read_run(tmp_path / f"again-{place}").records
        assert (again.status if again.status != "ok" else "1/1") == shown
        statuses.add(again.status)
    assert statuses == {"ok", "unsupported", "incorrect", "missing"}
    capsys.readouterr()
    visit.page.context.close()


def test_what_is_not_here_is_told_once_an_implementation(browser: Any, tmp_path: Path) -> None:
    """And every cell that says so leads there, and says why."""
    absent = [
        replace(one, implementation="far away", status="missing", reason="not installed (made up)",
                metrics={}, samples={}, detail={})
        for one in of("agreement")[::3]
    ]  # fmt: skip
    runs = [sample.run_of([*some(), *absent])]
    report = build_report(runs, tmp_path / "report.html")
    without = build_report([sample.run_of(some())], tmp_path / "without.html")
    assert report.stat().st_size - without.stat().st_size < 250 * len(absent)
    visit = Visit(browser, report)
    cells = visit.page.locator("#coverage td.cell a", has_text="missing")
    assert cells.count() > 100
    assert {cell.get_attribute("href") for cell in cells.all()} == {"#absent-1"}
    assert {cell.get_attribute("title") for cell in cells.all()} == {"not installed (made up)"}
    told = visit.page.locator("#absent-1")
    assert f"({len(absent):,} records: agreement)" in told.inner_text()
    assert told.locator("code.command").inner_text() == absent[0].command
    visit.close(report)


def sorted_and_opened(visit: Visit, section: str) -> None:
    """The first table of a section, by each of its columns; then the first record of it."""
    table = table_of(visit, section)
    for button in table.locator("thead [role=button]").all():
        button.click()
    for search in visit.page.locator(f"#{section} input[type=search]").all():
        search.fill("evil")
    visit.page.locator(f"#{section} a.record").first.click()
    record = visit.page.locator("dialog.one[data-shown]")
    record.wait_for()
    assert "<x-evil" in record.inner_text()
    visit.page.keyboard.press("Escape")


def test_a_hostile_site_runs_nothing(browser: Any, tmp_path: Path) -> None:
    evil = hostile()[0]
    run = written(replace(evil, records=evil.records[::3]), tmp_path / "evil")
    build_site([run], tmp_path / "site")
    for name in ("index.html", "runs/evil/records.html", "runs/evil/records-1.html"):
        visit = Visit(browser, tmp_path / "site" / name)
        visit.page.on("dialog", lambda dialog, to=visit: to.complaints.append(dialog.message))
        if "records-1" in name:
            sorted_and_opened(visit, "list")
        assert visit.page.locator("x-evil").count() == 0
        visit.close(tmp_path / "site" / name)


def test_a_hostile_report_runs_nothing(browser: Any, tmp_path: Path) -> None:
    report = build_report(hostile(), tmp_path / "report.html")
    visit = Visit(browser, report)
    visit.page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    sorted_and_opened(visit, "speed")
    visit.page.get_by_label("Find a record").fill("evil")
    visit.page.locator("ul.found a").first.wait_for()
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


def test_a_slider_moves_through_the_tokens_of_a_memory(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.locator("#explained figure").first.scroll_into_view_if_needed()
    visit.page.wait_for_selector("#explained figure[data-live]")
    visit.page.get_by_role("slider", name="Token").focus()
    visit.page.keyboard.press("End")
    visit.page.get_by_text("Token 24 stores pair 12 for the first time").wait_for()
    visit.page.keyboard.press("Home")
    visit.page.get_by_text("Token 1 stores pair 1 for the first time").wait_for()
    visit.close(report)


# Accessibility

PAGES = ("index.html", "runs/large/index.html", "runs/large/records.html")
PAGES += ("runs/large/records-1.html", "runs/small/index.html")


def violations(page: Any, within: str = "html") -> list[str]:
    """What axe-core calls serious or critical, with everything unfolded, and where it is."""
    pytest.importorskip("axe_playwright_python")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(axe)
    found = page.evaluate(f"axe.run('{within}', {{ resultTypes: ['violations'] }})")
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


def test_the_leaderboard_is_sorted(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "index.html")
    table = table_of(visit, "boards")
    header = table.locator("thead th.number").first
    header.get_by_role("button").click()
    table.locator("th[aria-sort=ascending]").wait_for()
    place = int(header.get_attribute("data-dt-column")) + 1
    cells = table.locator(f"tbody tr > :nth-child({place})").all()
    shares = [float(cell.get_attribute("data-order")) for cell in cells]
    assert shares == sorted(shares)
    visit.close(pages / "index.html")


def test_a_record_of_a_site_is_opened(browser: Any, pages: Path) -> None:
    address = pages / "runs/large/records-1.html"
    visit = Visit(browser, address)
    visit.page.goto(f"{address.as_uri()}#record-1")
    record = visit.page.locator("dialog.one[data-shown='1']")
    record.wait_for()
    assert "fwpbench:1|" in record.inner_text()
    visit.page.context.close()


def test_the_leaderboard_reads_without_script(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "index.html", java_script_enabled=False)
    assert visit.page.locator(".board table").first.is_visible()
    assert not visit.page.locator("form.choose").is_visible()
    visit.close(pages / "index.html")


def test_records_of_a_page_are_filtered(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "runs/large/records-1.html")
    table_of(visit, "list")
    visit.page.locator("input[type=search]").fill("made-up reason")
    rows = visit.page.locator("table.records tbody tr")
    assert rows.count() == len(some(200))
    visit.close(pages / "runs/large/records-1.html")
