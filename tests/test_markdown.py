"""Laws of the report in Markdown and of its pictures: they say what the page says, and no string of
a stranger becomes markup."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.harness.statuses import STATUSES
from fwpbench.reports import brief, build_report
from fwpbench.reports.evidence import read
from fwpbench.reports.findings import fastest, findings
from fwpbench.reports.markdown import code, text
from fwpbench.reports.units import count
from tests import sample_runs as sample
from tests.browser_pages import EVIL, RUNS, failing, some
from tests.test_site import written


@cache
def markdown(name: str) -> str:
    return brief(RUNS[name]())


def tokens(source: str) -> list[Any]:
    """What a reader of Markdown finds, with HTML allowed and tables known."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True})
    parsed = parser.enable("table").parse(source)
    return [inner for token in parsed for inner in (token, *(token.children or []))]


def plain(source: str) -> str:
    return " ".join(one.content for one in tokens(source) if one.type in ("text", "code_inline"))


@pytest.mark.parametrize("name", RUNS)
def test_it_holds_text_tables_and_nothing_else(name: str) -> None:
    kinds = {
        one.type.removesuffix("_open").removesuffix("_close") for one in tokens(markdown(name))
    }
    assert kinds <= {
        *("heading", "paragraph", "inline", "text", "strong", "code_inline", "softbreak"),
        *("bullet_list", "list_item", "table", "thead", "tbody", "tr", "th", "td", "text_special"),
    }
    assert "\x1b" not in markdown(name)


@pytest.mark.parametrize("name", RUNS)
def test_each_row_has_as_many_cells_as_its_table_has_columns(name: str) -> None:
    cells, columns = 0, 0
    for one in tokens(markdown(name)):
        if one.type == "tr_open":
            cells = 0
        cells += one.type in ("th_open", "td_open")
        if one.type == "thead_close":
            columns = cells
        if one.type == "tr_close":
            assert cells == (columns or cells)
        columns = 0 if one.type == "table_close" else columns


NASTY = (
    EVIL,
    "[a](javascript:alert(1)) ![b](http://example.org/x.png)",
    "<b>bold</b> &lt; **strong** __under__ ~~gone~~ `code` | cell \\| \\",
    "# heading\n- list\n1. one\n> quote\n```\nfence\n\x1b[31mred",
    "https://example.org www.example.org @somebody #17",
    "``` `` `",
    "---",
    "$x$ \t +",
)


@pytest.mark.parametrize("string", NASTY)
@pytest.mark.parametrize(
    ("escape", "around"),
    [
        *((text, around) for around in ("{}", "- {}", "**{}**", "| a |\n| --- |\n| {} |")),
        *((code, around) for around in ("{}", "- {}")),
    ],
)
def test_any_string_is_text_and_reads_as_it_was(string: str, escape: Any, around: str) -> None:
    found = tokens(around.format(escape(string)))
    assert not {one.type for one in found} & {
        *("html_block", "html_inline", "link_open", "image", "heading_open", "fence", "hr"),
        *("blockquote_open", "ordered_list_open", "em_open", "code_block"),
    }
    kinds = ("text", "code_inline", "text_special")
    shown = "".join(one.content for one in found if one.type in kinds)
    first = "".join(string.split("\n")[0].split())
    words = "".join(letter if letter.isprintable() else "\ufffd" for letter in first)
    assert words in "".join(shown.split())


def test_no_mention_and_no_address_is_left_for_a_site_to_link() -> None:
    source = text("https://example.org www.example.org ask @somebody or #17")
    for found in ("://", "www.", "@", " #"):
        assert found not in source


def test_it_says_what_the_page_says() -> None:
    said = plain(markdown("everything"))
    evidence = read(RUNS["everything"]())
    for finding in findings(evidence)[:3]:
        assert finding.sentence in said
    table = fastest(evidence)
    assert table is not None
    for row in table.rows:
        for cell in row:
            assert cell in said
    groups = [STATUSES[case.record.status].group for case in evidence.cases]
    for group in set(groups):
        assert f" {count(groups.count(group))} " in said
    assert "7 wrong of" in said


@pytest.mark.parametrize("name", ["everything", "all failed", "hostile"])
def test_what_failed_has_a_reason_and_a_command(name: str) -> None:
    source, said = markdown(name), plain(markdown(name))
    failed = [r for run in RUNS[name]() for r in run.records if STATUSES[r.status].fails_the_run]
    assert failed
    commands = [one for one in tokens(source) if one.content.startswith("fwpbench run")]
    assert commands
    assert {one.content for one in commands} <= {" ".join(r.command.split()) for r in failed} | {
        code(r.command).strip("` ") for r in failed
    }
    assert failed[0].status in said


def test_a_string_of_a_megabyte_is_cut() -> None:
    longest = {"reason": "y" * 2**20, "command": "z" * 2**20}
    long = [replace(one, **longest) for one in failing(some(60))]
    assert len(brief([sample.run_of(long)])) < 100_000


# Files beside the page


def test_every_chart_is_a_picture_beside_the_page(tmp_path: Path) -> None:
    runs = RUNS["only speed"]()
    build_report(runs, tmp_path / "my report.html", png=True)
    pictures = sorted(tmp_path.glob("*.png"))
    page = (tmp_path / "my report.html").read_text(encoding="utf-8")
    assert len(pictures) == page.count("<figure") > 0
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
    shown = [one.attrs["src"] for one in tokens((tmp_path / "my report.md").read_text("utf-8"))
             if one.type == "image"]  # fmt: skip
    assert sorted(src.replace("%20", " ") for src in shown) == [each.name for each in pictures]


def test_the_command_writes_both_and_prints_where_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(sample.run_of(some(200)), tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert {path.name for path in folder.glob("report.*")} == {"report.html", "report.md"}
    beside = (folder / "report.md").read_text(encoding="utf-8")
    for file in folder.glob("report.*"):
        file.unlink()
    capsys.readouterr()
    assert main(["report", str(folder), "--markdown"]) == 0
    assert capsys.readouterr().out == beside
    assert list(folder.glob("report.*")) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--markdown", "--png"], "--markdown goes without --png"),
        (["--site", "s", "--output", "x.html"], "--site goes without --output"),
        (["--output", "x.md"], "names the page"),
    ],
)
def test_options_that_do_not_go_together_are_said_so(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(sample.run_of([]), tmp_path / "run")
    assert main(["report", str(folder), *words]) == 2
    assert said in capsys.readouterr().err
