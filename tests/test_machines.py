"""Across machines there are ratios and fractions of each one's roofline, and never a verdict."""

from __future__ import annotations

import json
import math
import re
from itertools import permutations
from pathlib import Path

import pytest

from fwpbench.cli import main
from fwpbench.harness.run_folder import read_run
from fwpbench.reports import machines
from fwpbench.reports.evidence import read
from fwpbench.reports.page import page_of
from tests.made_up_gpus import GPUS, LENGTHS, REACHED, run_folders

VERDICTS = ("faster", "slower", "undecided")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return run_folders(tmp_path_factory.mktemp("gpus"))


def compared(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    assert main(["compare", str(before), str(after), "--json", "--fail-on", "slower"]) == 0
    return json.loads(capsys.readouterr().out)["cells"]


@pytest.mark.parametrize(("one", "other"), list(permutations(range(3), 2)))
def test_compare_gives_the_made_up_ratio_and_no_verdict(one, other, folders, capsys):
    cells = compared(folders[one], folders[other], capsys)
    longest = min(GPUS[one].longest, GPUS[other].longest)
    assert len(cells) == 2 * len(REACHED) * sum(tokens <= longest for tokens in LENGTHS)
    for cell in cells:
        tokens = int(re.search(r"T=(\d+)", cell["problem"])[1])
        seconds = [GPUS[place].seconds(tokens, cell["implementation"]) for place in (one, other)]
        assert cell["ratio"] == pytest.approx(seconds[1] / seconds[0], rel=0.005)
        assert cell["low"] < cell["ratio"] < cell["high"]
        assert cell["verdict"] is None
        assert cell["p"] is None
        for place, side in ((one, "before"), (other, "after")):
            reached = REACHED[cell["implementation"]] if GPUS[place].tells_roofline else None
            assert cell["roofline"][side] == reached


def test_the_ratio_there_and_back_is_one(folders, capsys):
    there = {
        each["problem"] + each["implementation"]: each["ratio"]
        for each in compared(*folders[:2], capsys)
    }
    back = compared(folders[1], folders[0], capsys)
    for each in back:
        assert each["ratio"] * there[each["problem"] + each["implementation"]] == pytest.approx(1)


def test_what_is_printed_has_no_verdict_and_says_why(folders, capsys):
    assert main(["compare", str(folders[0]), str(folders[1])]) == 0
    out = capsys.readouterr().out
    assert "no verdict" in out
    assert not [word for word in VERDICTS if word in out]
    assert "70.0 %" in out
    assert "of roofline" in out


def test_a_roofline_that_was_not_measured_is_said_to_be_missing(folders, tmp_path, capsys):
    bare = []
    for folder in folders[:2]:
        there = tmp_path / folder.name
        there.mkdir()
        for file in folder.iterdir():
            text = file.read_text(encoding="utf-8")
            (there / file.name).write_text(
                re.sub(r', "roofline": \{[^}]*\}', "", text), encoding="utf-8"
            )
        bare.append(str(there))
    assert main(["compare", *bare]) == 0
    assert "no record has its fraction of the measured roofline" in capsys.readouterr().out
    page = page_of([read_run(Path(path)) for path in bare])
    assert "No record has its fraction of the measured roofline" in page


def said(folders: list[Path]) -> tuple[dict, str]:
    runs = [read_run(folder) for folder in folders]
    section = machines.section(read(runs))
    assert section is not None
    page = page_of(runs)
    start = page.index('id="machines"')
    return dict(section.content), page[start : page.index("<section", start)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_report_gives_ratios_whatever_the_order(order, folders):
    content, _ = said([folders[place] for place in order])
    cells = [place for place in LENGTHS if place <= min(gpu.longest for gpu in GPUS)]
    assert content["common"] == 2 * len(REACHED) * len(cells), "the same cells on all"
    first = GPUS[order[0]]
    for place, machine in zip(order, content["machines"], strict=True):
        assert machine.name == GPUS[place].name
        true = math.prod(
            GPUS[place].seconds(tokens, each) / first.seconds(tokens, each)
            for tokens in cells
            for each in REACHED
        ) ** (1 / (len(cells) * len(REACHED)))
        assert float(machine.mean) == pytest.approx(true, rel=0.01)


def test_the_report_shows_fractions_gaps_and_no_verdict(folders):
    content, text = said(folders)
    assert not [word for word in VERDICTS if word in text]
    assert "There is no verdict across machines" in text
    assert "out-of-memory" in text, "what one machine cannot do stays in its row"
    assert f"{content['unmeasured']} of {content['timed']} records have no fraction" in text
    assert content["unmeasured"] == sum(
        len(REACHED) * 2 for tokens in LENGTHS for gpu in GPUS[2:] if tokens <= gpu.longest
    )
    for reached in REACHED.values():
        assert f"{100 * reached:.1f} %" in text


def test_one_machine_has_no_such_section(folders):
    assert machines.section(read([read_run(folders[0])])) is None
    assert machines.section(read([read_run(folders[0])] * 2)) is None
