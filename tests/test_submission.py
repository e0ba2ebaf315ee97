"""Laws of a submission: a run as it was written passes, and each thing broken is named with its
line, what was expected, what came, and what to do."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.harness.plan import SETTINGS
from fwpbench.harness.records import LONGEST_LINE, PROTOCOL, SCHEMA, Measurement, Record, to_line
from fwpbench.harness.submission import FACTS, MOST_BYTES
from tests.browser_pages import EVIL

PROBLEM = "rule=sum phi=elu+1 norm=none B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"


def record(seed: int, **changes: Any) -> Record:
    given: dict[str, Any] = {"suite": "speed", "problem": PROBLEM, "implementation": "chunked"}
    given |= {"origin": "in-tree", "device": "cpu", "seed": seed, "status": "ok"}
    time = Measurement(value=2.0, unit="s", low=1.0, high=3.0)
    given |= {"metrics": {"time": time}, "samples": {"time": [1.0, 2.0, 3.0]}}
    return Record(**(given | changes))


PLAN: dict[str, Any] = {
    "schema": SCHEMA,
    "protocol": PROTOCOL,
    "profile": "quick",
    "seed": 0,
    "where": "",
    "suites": ["speed"],
    "implementations": ["chunked"],
    "device": "cpu",
    "arguments": "fwpbench run speed --plugin ~/mine.py",
    "cases": [record(seed).key for seed in range(3)],
}
ENVIRONMENT: dict[str, Any] = {
    **dict.fromkeys(FACTS, "an abacus"),
    "protocol": PROTOCOL,
    "commit": "0123abc",
    "dirty": False,
    "triton": None,
}


def submit(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = [to_line(record(seed)) for seed in range(3)]
    (folder / "records.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name, content in (("plan.json", PLAN), ("environment.json", ENVIRONMENT)):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return submit(tmp_path / "h200-2026-11")


def said_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code and the errors, without the folder before them and the sum below."""
    code = main(["submit-check", str(folder)])
    *errors, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{folder}: ")
    assert all(error.startswith(f"{folder}/") for error in errors)
    return code, [error.removeprefix(f"{folder}/") for error in errors]


Break = Callable[[Path], object]


@dataclass(frozen=True)
class Broken:
    """What somebody did to a submission, where it is told of, and words of what is told."""

    how: Break
    place: str
    words: str
    number: int = 1


def second(change: Callable[[str], str]) -> Break:
    """The second record's line, changed."""

    def how(folder: Path) -> None:
        first, line, last = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        text = "\n".join([first, change(line), last, ""])
        (folder / "records.jsonl").write_text(text, encoding="utf-8")

    return how


def fields(**changes: Any) -> Break:
    return second(lambda line: json.dumps(json.loads(line) | changes))


def file(name: str, **changes: Any) -> Break:
    """Fields of a JSON file changed, or left out where None."""

    def how(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8")) | changes
        kept = {field: value for field, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(kept, indent=1), encoding="utf-8")

    return how


def text(name: str, old: str, new: str) -> Break:
    def how(folder: Path) -> None:
        before = (folder / name).read_text(encoding="utf-8")
        assert old in before
        (folder / name).write_text(before.replace(old, new, 1), encoding="utf-8")

    return how


def measured(**changes: Any) -> dict[str, Any]:
    return {"metrics": {"time": {"value": 2.0, "unit": "s", "low": 1.0, "high": 3.0} | changes}}


def linked(folder: Path) -> None:
    (folder / "gate.json").symlink_to("/etc/hostname")


def torn(folder: Path) -> None:
    lines = folder / "records.jsonl"
    os.truncate(lines, lines.stat().st_size - 9)


def larger(name: str) -> Break:
    return lambda folder: os.truncate(folder / name, MOST_BYTES[name] + 1)


LINE = "records.jsonl:2"
BROKEN = {
    "no JSON": Broken(second(lambda line: "{"), LINE, "not JSON", 2),
    "a torn line": Broken(torn, "records.jsonl:3",
                          "torn line; go on with it", 2),
    "an unknown field": Broken(fields(sead=1), LINE, "Did you mean 'seed'"),
    "an unknown field within": Broken(fields(**measured(loww=1)), LINE, "Did you mean 'low'"),
    "a missing field": Broken(second(lambda line: '{"suite": "speed"}'), LINE, "problem", 2),
    "a wrong type": Broken(fields(seed="1"), LINE, "Expected `int`, got `str` - at `$.seed`", 2),
    "a wrong type within": Broken(fields(**measured(value="2")), LINE, "metrics", 2),
    "NaN": Broken(fields(seconds=math.nan), LINE, "NaN, which is no number in JSON", 2),
    "infinity": Broken(fields(**measured(high=math.inf)), LINE, "Infinity, which is no number", 2),
    "a name twice": Broken(second(lambda line: '{"seed": 7, ' + line[1:]), LINE, "given twice", 2),
    "an unknown status": Broken(fields(status="superb"), LINE, "unknown status 'superb'", 2),
    "ok with a reason": Broken(fields(reason="a wish"), LINE, "no reason where the status is ok"),
    "wrong without a reason": Broken(fields(status="incorrect"), LINE, "one where it is not"),
    "another schema": Broken(fields(schema=SCHEMA + 1), LINE, "newer FWPBench", 2),
    "another protocol": Broken(fields(protocol=PROTOCOL + 1), LINE, "protocol: expected the plan"),
    "a protocol that is none": Broken(fields(protocol=-1), LINE, "is no signature", 2),
    "a giant line": Broken(fields(reason="x" * LONGEST_LINE), LINE, "more than 4,194,304", 2),
    "an interval that misses its value": Broken(fields(**measured(low=2.5)), LINE, "low ≤ value"),
    "half an interval": Broken(fields(**measured(low=None)), LINE, "low ≤ value"),
    "a time that is none": Broken(fields(**measured(value=0.0, low=None, high=None), samples={}),
                                  LINE, "more than 0 s"),
    "a better median": Broken(fields(**measured(value=1.5)), LINE, "the median of its samples, 2"),
    "a second record of a case": Broken(fields(seed=0), LINE, "another (see line 1) of", 2),
    "a record that was not planned": Broken(fields(seed=9), LINE, "expected a case of plan.json",
                                            2),
    "a bad one left out": Broken(second(lambda line: to_line(record(0))), "plan.json:17",
                                 "came none of speed rule=sum", 2),
    "a home folder": Broken(fields(status="missing", reason="no /home/ada/k.so"), LINE,
                            'came "/home/ada/k.so"; write a relative path'),
    "an address": Broken(fields(detail={"author": "ada@example.org"}), LINE, "ada@example.org"),
    "a folder in a name": Broken(fields(parameters={"/mnt/ada/x": 1.0}), LINE, "/mnt/ada/x", 3),
    "a folder of the environment": Broken(file("environment.json", command=r"C:\Users\ada\x.py"),
                                          "environment.json:14", "came"),
    "a folder of the plan": Broken(file("plan.json", arguments="fwpbench run --output /Users/ada"),
                                   "plan.json:14", "/Users/ada"),
    "no plan": Broken(lambda f: (f / "plan.json").unlink(), "plan.json", "is missing"),
    "no environment": Broken(lambda f: (f / "environment.json").unlink(), "environment.json",
                             "is missing"),
    "no records": Broken(lambda f: (f / "records.jsonl").unlink(), "records.jsonl", "is missing",
                         1),
    "a folder too many": Broken(lambda f: (f / "logs").mkdir(), "logs", "leave it out"),
    "a program": Broken(lambda f: (f / "run.py").touch(), "run.py", "expected nothing but plan"),
    "a link": Broken(linked, "gate.json", "came a link or a folder"),
    "a folder for a file": Broken(lambda f: (f / "gate.json").mkdir(), "gate.json", "a folder"),
    "too many bytes": Broken(larger("environment.json"), "environment.json", "at most 1,048,576"),
    "a plan cut off": Broken(lambda f: os.truncate(f / "plan.json", 90), "plan.json:7", "not JSON"),
    "no UTF-8": Broken(lambda f: (f / "environment.json").write_bytes(b"{\n\n\xff}"),
                       "environment.json:3", "expected UTF-8"),
    "a plan that is a list": Broken(lambda f: (f / "plan.json").write_text("[]"), "plan.json:1",
                                    "expected an object, came an array"),
    "NaN in the plan": Broken(text("plan.json", '"seed": 0', '"seed": NaN'), "plan.json:5",
                              "NaN, which is no number"),
    "a name twice in the environment": Broken(
        text("environment.json", '"dirty": false', '"dirty": false,\n "dirty": true'),
        "environment.json:13", "'dirty' is given twice"),
    "a plan of another protocol": Broken(file("plan.json", protocol=PROTOCOL + 1), "plan.json:3",
                                         "protocol: expected a number", 4),
    "a plan of another schema": Broken(file("plan.json", schema=SCHEMA + 1), "plan.json:2",
                                       "schema: expected"),
    "a plan of nothing": Broken(file("plan.json", cases=[]), "plan.json:15", "at least one", 4),
    "a case twice": Broken(file("plan.json", cases=[*PLAN["cases"], PLAN["cases"][0]]),
                           "plan.json:15", "each case once"),
    "cases that are none": Broken(file("plan.json", cases=[*PLAN["cases"], 7]), "plan.json:15",
                                  "cases: expected texts"),
    "a shard": Broken(file("plan.json", shard={"number": 1}), "plan.json:20", "fwpbench merge"),
    "changes that nobody has": Broken(file("environment.json", dirty=True), "environment.json:12",
                                      "commit your changes"),
    **{f"a plan without {name}": Broken(file("plan.json", **{name: ...}), "plan.json:1",
                                        f"{name}: expected a", 4 if name == "cases" else 1)
       for name in SETTINGS if name != "cases"},
    **{f"an environment without {name}": Broken(file("environment.json", **{name: ...}),
                                                "environment.json:1", f"{name}: expected")
       for name in FACTS},
}  # fmt: skip


def test_a_run_as_it_was_written_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said_of(folder, capsys) == (0, [])
    assert main(["submit-check", str(folder), str(folder)]) == 0
    assert capsys.readouterr().out == 2 * f"{folder}: 3 records, ready to submit\n"


@pytest.mark.parametrize("name", BROKEN)
def test_each_error_is_named_with_its_line_and_a_remedy(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = BROKEN[name]
    broken.how(folder)
    code, errors = said_of(folder, capsys)
    assert code == 1
    mine = [error for error in errors if error.startswith(f"{broken.place}: ")]
    assert any(broken.words in error for error in mine), errors
    assert len(errors) == broken.number, errors
    for error in errors:
        assert "; " in error
        assert error.isprintable()
        assert len(error) < 1200


def test_all_errors_are_told_and_not_the_first_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for how in (fields(seed=9, sead=1), file("environment.json", dirty=True), linked):
        how(folder)
    code, errors = said_of(folder, capsys)
    places = [error.partition(": ")[0] for error in errors]
    assert code == 1
    assert places == ["gate.json", "environment.json:12", LINE, LINE, "plan.json:17"]


def test_markup_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages escape it; a record may quote whatever a compiler printed."""
    evil = EVIL.replace("\ud800", "")
    fields(status="runtime-error", reason=evil, name=evil, detail={evil: [evil]})(folder)
    assert said_of(folder, capsys) == (0, [])


def test_what_failed_or_was_not_run_is_a_record_like_any_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for status in ("incorrect", "timeout", "unsupported", "skipped", "unstable"):
        fields(status=status, reason="made up")(folder)
        assert said_of(folder, capsys) == (0, [])


@pytest.mark.parametrize("name", ["H200", "-x", "a b", ".hidden", "x" * 90])
def test_a_folders_name_is_plain(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, errors = said_of(submit(tmp_path / name), capsys)
    assert code == 1
    assert [error.partition(",")[0] for error in errors] == [
        ".: expected a folder named like h200-2026-11"
    ]


def test_the_other_records_are_read_where_one_is_bad(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line is answered for, whatever stands in the others."""
    lines = ["{", to_line(record(0)), "", "[]", to_line(replace(record(1), seed=1)), "\x1b[31m{"]
    (folder / "records.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _, errors = said_of(folder, capsys)
    assert [error.partition(": ")[0] for error in errors] == [
        *(f"records.jsonl:{number}" for number in (1, 3, 4, 6)),
        "plan.json:18",
    ]


def test_a_folder_that_is_not_there_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit-check", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
