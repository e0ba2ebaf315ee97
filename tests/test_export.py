"""Records as tables: nothing is lost, columns keep their places, errors say what to do."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pandas
import pytest

from fwpbench.cli import main
from fwpbench.commands.export import ENDINGS
from fwpbench.harness.records import Measurement, Record
from tests.test_compare import run_folder

PROBLEM = "rule={} phi=relu norm=none B=1 T={} H=2 K=16 V=16 dtype=bf16 direction=forward"
FIXED = ["run", "machine", "suite", "name", "problem", "implementation", "origin", "device", "seed"]


def record(number: int, suite: str = "speed", **given: object) -> Record:
    value = math.pi * 1e-3 * (number + 1) / 3
    metrics = {"time": Measurement(value=value, unit="s", low=value / 1.1, high=value * 1.1)}
    told = {"metrics": metrics, "samples": {"time": [value] * 7}} | given
    return Record(
        suite=suite, problem=PROBLEM.format("sum" if number % 2 else "delta", 64 * (number + 1)),
        implementation="chunked", origin="in-tree", device="cuda", seed=0, status="ok", **told,
    )  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    wrong = {"metrics": {}, "samples": {}, "status": "incorrect", "reason": 'o, "very" | wrong'}
    first = [record(n) for n in range(3)]
    first.append(Record(**{**vars(record(3)), **wrong}))
    peak = {"peak": Measurement(value=2.0**40 + 1, unit="B")}
    second = [record(0, "memory", metrics=peak, samples={}, parameters={"load": 0.25})]
    return [
        run_folder(tmp_path / "a", first),
        run_folder(tmp_path / "b", second, device="made-up 2"),
    ]


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["export", *words]) == 0
    return capsys.readouterr().out


def test_csv_is_read_back_number_by_number(runs, capsys):
    frame = pandas.read_csv(io.StringIO(exported(capsys, *runs)))
    assert list(frame.columns[: len(FIXED)]) == FIXED
    assert frame.time.dropna().tolist() == [record(n).metrics["time"].value for n in range(3)]
    assert frame["time.low"].dropna().tolist() == [record(n).metrics["time"].low for n in range(3)]
    assert frame.peak.dropna().tolist() == [2.0**40 + 1]
    assert frame.machine.tolist() == ["made-up"] * 4 + ["made-up 2"]
    assert frame.reason.dropna().tolist() == ['o, "very" | wrong']
    assert frame.norm.tolist() == ["none"] * 5, "a word, and not a missing value"
    assert frame["T"].tolist() == [64, 128, 192, 256, 64]
    assert frame.samples.tolist() == [7, 7, 7, 0, 0]
    assert frame.signature[0].startswith("fwpbench:1|dtype=bf16|device=made-up")


def test_json_is_the_same_table_one_object_a_line(runs, capsys):
    lines = exported(capsys, *runs, "--to", "json").splitlines()
    rows = [json.loads(line) for line in lines]
    frame = pandas.read_csv(io.StringIO(exported(capsys, *runs)))
    assert [list(row) for row in rows] == [list(frame.columns)] * 5
    assert [row["time"] for row in rows[:3]] == frame.time.tolist()[:3]
    assert rows[3]["time"] is None
    assert rows[4]["peak"] == 2**40 + 1
    assert rows[0]["T"] == 64


def test_columns_keep_their_places_whatever_was_run(runs, capsys):
    """What a script counts on is first; what a suite adds comes after, in alphabetical order."""
    heads = [exported(capsys, run).partition("\n")[0].split(",") for run in runs]
    fixed = heads[0].index("signature") + 1
    assert heads[0][:fixed] == heads[1][:fixed]
    for head in heads:
        assert head[fixed:] == sorted(head[fixed:])


def test_markdown_shows_what_differs(runs, capsys):
    text = exported(capsys, runs[0], "--to", "markdown")
    same, _, *table = text.splitlines()
    assert same.startswith("The same in all: ")
    assert "dtype=bf16" in same
    assert table[0].startswith("| status |") or "| status |" in table[0]
    assert {line.replace("\\|", "").count("|") for line in table} == {table[0].count("|")}
    assert "0.001047 (0.000952 – 0.001152)" in text


def test_files_and_filters(runs, tmp_path, capsys):
    for ending in (".csv", ".json", ".jsonl", ".md"):
        path = tmp_path / f"all{ending}"
        assert "5 records" in exported(capsys, *runs, "--output", str(path))
        assert path.read_text(encoding="utf-8").count("\n") >= 5
    assert len(pandas.read_csv(tmp_path / "all.csv")) == 5
    some = exported(capsys, *runs, "--where", "rule=sum T>100", "--suites", "speed")
    assert some.count("\n") == 3


def test_parquet_is_read_back_or_says_what_is_missing(runs, tmp_path, capsys):
    path = tmp_path / "all.parquet"
    code = main(["export", *runs, "--output", str(path)])
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        assert code == 2
        assert "pip install pyarrow" in capsys.readouterr().err
        assert not path.exists()
    else:
        assert len(pandas.read_parquet(path)) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "parquet"], "--output records.parquet"),
        (["--output", "all.xlsx"], ", ".join(ENDINGS)),
        (["--output", "nowhere/all.csv"], "no folder nowhere"),
        (["--where", "T=7"], "the runs hold memory, speed"),
        (["--suites", "spede"], "speed"),
        (["--to", "excel"], "csv"),
    ],
)
def test_errors_say_what_to_do(runs, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["export", *runs, *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
