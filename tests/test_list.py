"""Laws of `fwpbench list`."""

from __future__ import annotations

import json
import os

import pytest

from fwpbench.arguments.listing import KINDS
from fwpbench.cli import main
from fwpbench.implementations import IMPLEMENTATIONS
from tests.small_run import fwpbench_in_a_process, printable

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.parametrize("kind", KINDS)
def test_list_tells_every_row_in_text_and_as_json(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", kind]) == 0
    text = capsys.readouterr().out
    assert rows
    assert printable(text)
    for row in rows:
        for value in row.values():
            for word in value.values() if isinstance(value, dict) else str(value).split("\n"):
                assert word == "yes" or word in text, "nothing is cut off or taken for markup"


def test_list_problems_says_yes_or_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "problems", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len({(row["rule"], row["phi"], row["norm"]) for row in rows}) == len(rows)
    for row in rows:
        assert list(row["implementations"]) == list(IMPLEMENTATIONS)
        for answer in row["implementations"].values():
            assert answer == "yes" or len(answer.split()) >= 3
    assert any(row["implementations"]["reference"] == "yes" for row in rows)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "problems"])
def test_list_names_are_those_of_the_rows(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--names"]) == 0
    names = capsys.readouterr().out.split()
    assert main(["list", kind, "--names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == names
    assert main(["list", "--names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[kind] == names


@pytest.mark.parametrize("words", [["implementations"], ["problems"]], ids=" ".join)
def test_an_implementation_that_cannot_be_imported_is_listed_with_its_reason(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(IMPLEMENTATIONS._targets, "absent", "no_such_module:IT")
    assert main(["list", *words]) == 0
    assert "cannot be imported: No module named 'no_such_module'" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["statuses", "--names"])  # printed by rich, and by print
def test_a_reader_that_leaves_is_no_error(kind: str) -> None:
    """`fwpbench list statuses | head -0`"""
    reader, pipe = os.pipe()
    os.close(reader)
    done = fwpbench_in_a_process("list", kind, stdout=pipe)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_greek_ends_nothing() -> None:
    done = fwpbench_in_a_process("list", "statuses", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "? 10 %" in done.stdout
