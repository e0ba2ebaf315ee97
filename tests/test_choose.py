"""A recommendation is what records say: right ones only, of the nearest sizes, and no further."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.harness.records import Measurement, Record, to_line
from fwpbench.reports.choosing import Choice, Wish, choose
from fwpbench.reports.evidence import read
from tests import sample_runs as sample

SUM, DELTA = "rule=sum phi=elu+1 norm=attention", "rule=delta phi=identity norm=l2"
LENGTHS = (64, 256, 1024, 4096)


def seconds(T: int, per_token: float) -> float:
    return 1e-3 + per_token * T


def timed(
    operator: str, implementation: str, per_token: float, lengths: Sequence[int] = LENGTHS,
    sizes: str = "K=64 V=64", **given: Any,
) -> list[Record]:  # fmt: skip
    records = []
    for T in lengths:
        t = seconds(T, per_token)
        time = {"time": Measurement(value=t, unit="s", low=0.99 * t, high=1.01 * t)}
        problem = f"{operator} B=1 T={T} H=2 {sizes} dtype=fp32 direction=forward"
        records.append(sample.record("scaling", problem, implementation, metrics=time, **given))
    return records


def held(operator: str, pairs: int) -> list[Record]:
    """It stores so many pairs, and no more."""
    problem = f"{operator} B=1 T=64 H=2 K=64 V=64 dtype=fp32 direction=forward"
    return [
        sample.record(
            "capacity", problem, "reference", parameters={"pairs": n},
            metrics={"error": Measurement(value=0.01 if n <= pairs else 0.9, unit="fraction")},
        )
        for n in (2, 4, 8, 16)
    ]  # fmt: skip


def chosen(records: list[Record], **wish: Any) -> Choice:
    return choose(read([sample.run_of(records)]), Wish(**wish))


@pytest.mark.parametrize(
    ("T", "how", "within"),
    [(256, "measured", 0), (512, "between T = 256 and 1,024", 0.2), (8192, "by its law", 0.02)],
)
def test_a_time_comes_from_the_nearest_lengths(T: int, how: str, within: float) -> None:
    (one,) = chosen(timed(SUM, "chunked", 1e-6), T=T).candidates
    assert one.time.how.startswith(how)
    assert one.time.seconds == pytest.approx(seconds(T, 1e-6), rel=within or 1e-12)
    assert (one.time.low is None) == (how == "by its law")


@pytest.mark.parametrize(("T", "lengths"), [(16385, LENGTHS), (8192, LENGTHS[1:]), (32, LENGTHS)])
def test_nothing_is_said_beyond_what_lengths_tell(T: int, lengths: Sequence[int]) -> None:
    choice = chosen(timed(SUM, "chunked", 1e-6, lengths), T=T)
    assert choice.candidates == []
    assert "chunked: its times, up to T = 4,096" in choice.unknown[0]


def test_the_fastest_right_implementation_stands_for_its_operator() -> None:
    records = timed(SUM, "chunked", 2e-6) + timed(SUM, "reference", 9e-6)
    records += timed(SUM, "torch-sdpa", 1e-6, status="incorrect")
    records += timed(DELTA, "chunked", 3e-6)
    choice = chosen(records, T=1024)
    assert [(one.label, one.implementation) for one in choice.candidates] == [
        ("Linear Transformer", "chunked"),
        ("DeltaNet", "chunked"),
    ]


def test_what_agreement_refused_is_no_candidate() -> None:
    problem = f"{SUM} B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"
    wrong = sample.record("agreement", problem, "chunked", status="incorrect", reason="o")
    choice = chosen([*timed(SUM, "chunked", 2e-6), wrong], T=1024)
    assert choice.candidates == []
    assert "Linear Transformer: no implementation has a time that counts" in choice.unknown


def test_sizes_are_the_nearest_that_were_measured_and_said() -> None:
    records = timed(SUM, "chunked", 1e-6) + timed(SUM, "chunked", 4e-6, sizes="K=128 V=128")
    choice = chosen(records, T=1024, K=120)
    assert choice.candidates[0].sizes == "B=1 H=2 K=128 V=128"
    assert "K = 120: times were measured with K = 128" in choice.unknown
    assert chosen(records, T=1024, K=64).candidates[0].time.seconds == seconds(1024, 1e-6)


def test_what_holds_more_and_takes_longer_is_named_too() -> None:
    records = timed(SUM, "chunked", 1e-6) + timed(DELTA, "chunked", 2e-6)
    choice = chosen(records + held(SUM, 2) + held(DELTA, 8), T=1024)
    assert [(one.label, one.pairs) for one in choice.front] == [
        ("Linear Transformer", 2.0),
        ("DeltaNet", 8.0),
    ]
    dominated = chosen(records + held(SUM, 8) + held(DELTA, 4), T=1024)
    assert [one.label for one in dominated.front] == ["Linear Transformer"]
    assert "no record of the suite capacity" in chosen(records, T=1024).unknown[-1]


def test_times_that_cannot_be_told_apart_share_the_first_place() -> None:
    records = timed(SUM, "chunked", 1e-6) + timed(DELTA, "chunked", 1.005e-6)
    assert [one.label for one in chosen(records, T=1024).as_fast] == ["DeltaNet"]
    apart = timed(SUM, "chunked", 1e-6) + timed(DELTA, "chunked", 2e-6)
    assert chosen(apart, T=1024).as_fast == []


def test_of_several_machines_the_one_asked_for() -> None:
    runs = [
        replace(sample.run_of(timed(SUM, "chunked", each)), environment={"device": name})
        for name, each in (("Imaginary H200", 1e-6), ("Imaginary CPU", 1e-5))
    ]
    evidence = read([replace(run, path=Path(f"run-{n}")) for n, run in enumerate(runs)])
    (one,) = choose(evidence, Wish(T=1024, device="cpu")).candidates
    assert one.time.seconds == seconds(1024, 1e-5)


def folder(tmp_path: Path, records: list[Record]) -> str:
    tmp_path.joinpath("records.jsonl").write_text("\n".join([*map(to_line, records), ""]), "utf-8")
    tmp_path.joinpath("plan.json").write_text("{}", "utf-8")
    return str(tmp_path)


def test_the_command_says_it_with_its_record(tmp_path: Path, capsys: Any) -> None:
    run = folder(tmp_path, timed(SUM, "chunked", 1e-6) + held(SUM, 4))
    assert main(["choose", "--T", "1024", "--K", "32", run]) == 0
    said = capsys.readouterr().out
    assert "fastest: Linear Transformer by chunked, 2.02 ms, holds 4 pairs" in said
    assert "measured again by: fwpbench run scaling --implementations chunked" in said
    assert "unknown: K = 32: times were measured with K = 64" in said
    assert main(["choose", "--T", "1024", "--json", run]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["candidates"][0]["time"]["how"] == "measured"
    assert told["front"] == ["Linear Transformer"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--T", "1024", "--gpu", "H200"], "no time is known for forward, T = 1,024, H200"),
        (["--T", "1024", "--dtype", "bf16"], "dtypes: fp32"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_what_is(
    tmp_path: Path, capsys: Any, words: list[str], expected: str
) -> None:
    run = folder(tmp_path, timed(SUM, "chunked", 1e-6))
    assert main(["choose", *words, run]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(("words", "expected"), [(["--T", "much"], "such as 64"), ([], "--T")])
def test_wrong_usage_is_said(capsys: Any, words: list[str], expected: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["choose", *words])
    assert expected in capsys.readouterr().err


def test_without_any_run_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["choose", "--T", "64"]) == 2
    assert "fwpbench run speed scaling capacity" in capsys.readouterr().err
