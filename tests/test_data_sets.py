"""Data sets from a folder: the right files or a sentence, and the page that tells of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from fwpbench import cli
from fwpbench.operators.errors import UserError
from fwpbench.suites import SUITES, data_sets
from fwpbench.suites.data_sets import (
    DATA_SETS,
    VARIABLE,
    DataSet,
    check_data,
    data_file,
    data_folder,
)

PAGE = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
FILES = {"train.txt": b" a b c \n", "raw/test.txt": b" a b \n"}
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of two files, in the layout of every other."""
    for name, content in FILES.items():
        path = tmp_path / "wikitext-2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    table = {"wikitext-2": DataSet("words", "https://example.org", "CC BY-SA 3.0", HASHES)}
    monkeypatch.setattr(data_sets, "DATA_SETS", table)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_files_that_are_the_right_ones_are_found(folder: Path) -> None:
    for name, content in FILES.items():
        assert data_file("wikitext-2", name, folder).read_bytes() == content
    check_data(["wikitext-2"], ["grammar", "wikitext-2"], folder)


def test_without_a_folder_it_says_how_to_name_one_and_where_the_data_are_from(
    folder: Path,
) -> None:
    with pytest.raises(UserError) as error:
        data_file("wikitext-2", "train.txt", None)
    for word in ("--data-dir", VARIABLE, "wikitext-2/train.txt", "https://example.org", "CC BY-SA"):
        assert word in str(error.value)


def test_a_missing_file_is_told_with_all_files_that_are_needed(folder: Path) -> None:
    (missing := folder / "wikitext-2" / "raw" / "test.txt").unlink()
    with pytest.raises(UserError) as error:
        data_file("wikitext-2", "raw/test.txt", folder)
    assert str(error.value).startswith(f"{missing} is not there")
    assert str(folder / "wikitext-2" / "train.txt") in str(error.value)


def test_a_folder_in_the_place_of_a_file_is_no_file(folder: Path) -> None:
    (path := folder / "wikitext-2" / "train.txt").unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is not there"):
        data_file("wikitext-2", "train.txt", folder)


@pytest.mark.parametrize("at", range(len(FILES["train.txt"])))
def test_a_flipped_bit_anywhere_is_refused_with_both_hashes(at: int, folder: Path) -> None:
    flipped = bytearray(FILES["train.txt"])
    flipped[at] ^= 1
    (folder / "wikitext-2" / "train.txt").write_bytes(flipped)
    with pytest.raises(UserError) as error:
        data_file("wikitext-2", "train.txt", folder)
    assert hashlib.sha256(flipped).hexdigest() in str(error.value)
    assert HASHES["train.txt"] in str(error.value)


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    (folder / "wikitext-2" / "train.txt").write_bytes(FILES["train.txt"][:-1])
    with pytest.raises(UserError, match=HASHES["train.txt"]):
        check_data(["wikitext-2"], ["wikitext-2"], folder)


def test_what_is_given_counts_and_else_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "there")
    assert data_folder(None) == Path("there")
    assert data_folder("here") == Path("here")
    monkeypatch.delenv(VARIABLE)
    assert data_folder(None) is None


RUN = ["run", "language-modeling", "--device", "cpu", "--data"]


def test_the_command_suggests_the_nearest_data_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*RUN, "wikitext2", "--dry-run"]) == 2
    complaint = capsys.readouterr().err
    assert "no data set of these suites named 'wikitext2'" in complaint
    assert "Did you mean 'wikitext-2'?" in complaint


@pytest.mark.parametrize("state", ["none", "missing", "flipped"])
def test_the_command_refuses_data_that_are_not_there_before_it_makes_a_run(
    state: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, words = tmp_path / "run", [*RUN, "wikitext-2", "--output", str(tmp_path / "run")]
    if state != "none":
        words += ["--data-dir", str(folder)]
    if state == "missing":
        (folder / "wikitext-2" / "train.txt").unlink()
    if state == "flipped":
        (folder / "wikitext-2" / "train.txt").write_bytes(b" a b d \n")
    assert cli.main(words) == 2
    expected = {"none": "--data-dir", "missing": "is not there", "flipped": HASHES["train.txt"]}
    assert expected[state] in capsys.readouterr().err
    assert not run.exists()


def test_a_plan_of_a_data_set_in_a_folder_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*RUN, "grammar,wikitext-2", "--data-dir", str(folder), "--dry-run"]) == 0
    keys = capsys.readouterr().out.splitlines()
    assert any("data=grammar" in key for key in keys)
    assert any("data=wikitext-2" in key for key in keys)


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_page_tells_of_every_data_set_its_files_hashes_source_and_licence(name: str) -> None:
    data_set = DATA_SETS[name]
    for file, digest in data_set.files.items():
        assert re.search(rf"`{re.escape(name)}/{re.escape(file)}` .*`{digest}`", PAGE), file
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    assert data_set.licence in row
    assert f"## {name}" in PAGE


def test_every_data_set_of_a_suite_is_on_the_page() -> None:
    for suite in SUITES:
        for name in SUITES[suite].data:
            assert f"`{name}` | `{suite}`" in PAGE


def test_suites_that_read_no_data_set_say_so() -> None:
    with pytest.raises(UserError, match="leave --data wikitext-2 out"):
        check_data(["wikitext-2"], [], None)
