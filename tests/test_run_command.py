"""Laws of `fwpbench run`: what it writes and prints, and that nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fwpbench
from fwpbench.cli import main
from fwpbench.commands import run
from fwpbench.commands.run import score_the_gate
from fwpbench.commands.selection import make_setting
from fwpbench.harness.plan import make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import SCHEMA
from fwpbench.harness.run_folder import read_run
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.suites import SUITES
from tests.small_run import SMALL, fails_at, fwpbench_in_a_process, keys, printable

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("in_this_process")


def test_a_run_makes_one_record_a_case_and_a_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "my run"]) == 0
    printed = capsys.readouterr()
    run = read_run(folder / "my run")
    assert [record.key for record in run.records] == run.plan["cases"]
    assert len(run.records) == 12
    assert {record.implementation for record in run.records} == {"chunked", "reference"}
    assert (folder / "my run/report.html").is_file()
    assert "12 records to make" in printed.out
    assert printed.out.endswith("nothing wrong, nothing crashed\nreport: my run/report.html\n")
    assert printable(printed.out)
    assert printed.err == ""
    assert run.environment["fwpbench"] == fwpbench.__version__
    words = shlex.split(run.environment["command"])
    assert words == ["fwpbench", "run", *SMALL, "--output", "my run"]


def test_by_default_a_run_is_named_after_the_time(folder: Path) -> None:
    assert main(["run", *SMALL, "--where", "rule=sum phi=relu norm=l2", "--json"]) == 0
    (run,) = (folder / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", run.name)
    assert len(keys(run)) == 12


def test_json_is_one_object_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "run", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    assert printable(printed.out)
    summary = json.loads(printed.out)
    assert summary == {
        "run": "run",
        "report": "run/report.html",
        "records": 12,
        "groups": {"ok": 12},
        "failed": [],
    }


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *SMALL, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert main(["run", *SMALL, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert printed.out.splitlines() == planned
    assert len(planned) == 12
    assert printed.err == "12 records; nothing was run\n"
    assert list(folder.iterdir()) == []


def test_an_existing_run_is_not_written_into(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keys(finished)
    assert main(["run", *SMALL, "--output", str(finished)]) == 2
    assert f"--resume {finished}" in capsys.readouterr().err
    assert keys(finished) == before


@pytest.mark.parametrize("json_asked", [False, True])
def test_what_crashed_exits_1_and_says_how_to_see_it_again(
    json_asked: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails_at(3, ValueError("\x1b[31mred\x1b[0m [s]struck[/s]"), monkeypatch)
    assert main(["run", *SMALL, "--output", "run", *(["--json"] if json_asked else [])]) == 1
    printed = capsys.readouterr().out
    (failed,) = (one for one in read_run(Path("run")).records if one.status != "ok")
    assert failed.reason == "ValueError: red [s]struck[/s]"
    assert printable(printed)
    if json_asked:
        assert json.loads(printed)["failed"] == [
            {"key": failed.key, "status": "runtime-error", "reason": failed.reason}
        ]
    else:
        assert f"runtime-error: {failed.key}: {failed.reason}\n" in printed
        assert f"  {failed.command}\n1 failed\n" in printed
    assert "\x1b[31mred" in (folder / "run/logs/agreement.log").read_text(encoding="utf-8")


# Interrupted and resumed


@pytest.mark.parametrize("call", [1, 4])
def test_an_interrupted_run_keeps_its_records_and_is_completed(
    call: int,
    finished: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fails_at(call, KeyboardInterrupt(), patch)
        assert main(["run", *SMALL, "--output", "run"]) == 130
    printed = capsys.readouterr()
    kept = keys(Path("run"))
    assert kept == keys(finished)[: len(kept)]
    assert len(kept) == 2 * call - 1
    assert f"interrupted: {len(kept)} of 12 records are kept" in printed.err
    resume = re.findall(r"^  fwpbench (.*)$", printed.err, re.MULTILINE)
    assert resume == ["run --resume run"]
    assert main([*resume[0].split(), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12 - len(kept)
    assert main(resume[0].split()) == 0
    assert keys(Path("run")) == keys(finished)
    assert main([*resume[0].split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["records"] == 12


def test_a_reader_that_leaves_interrupts_a_run(folder: Path) -> None:
    """`fwpbench run | head -0` has not said that all is well, and can be gone on with."""
    reader, pipe = os.pipe()
    os.close(reader)
    done = fwpbench_in_a_process("run", *SMALL, "--output", "run", stdout=pipe)
    os.close(pipe)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "  fwpbench run --resume run"


@pytest.mark.parametrize("command", [["check", *SMALL[1:]], ["list", "suites"]], ids=" ".join)
def test_control_c_exits_130_in_every_command(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "check":
        fails_at(2, KeyboardInterrupt(), monkeypatch)
    else:
        monkeypatch.setattr(type(SUITES), "__getitem__", interrupted)
    assert main(command) == 130
    printed = capsys.readouterr()
    assert "interrupted" in printed.err
    assert "interrupted" not in printed.out


def interrupted(*_: object) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "given",
    [
        ["speed"], ["--where", "rule=sum"], ["--output", "other"], ["--implementations", "chunked"],
        ["--profile", "quick"], ["--shard", "1/2"], ["--device", "cpu"], ["--seed", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_resumed_run_takes_no_other_plan(
    given: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--resume", str(finished), *given]) == 2
    option = given[0] if given[0].startswith("-") else "SUITE"
    assert f"leave {option} out" in capsys.readouterr().err


def change_plan(run: Path, **changes: Any) -> None:
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    (run / "plan.json").write_text(json.dumps(plan | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": 0}, "resumed by the version that began it"),
        ({"schema": SCHEMA + 1}, "newer FWPBench"),
        ({"cases": []}, "whose cases differ"),
        ({"suites": ["agreemnt"]}, "no suite named 'agreemnt'. Did you mean 'agreement'?"),
        ({"implementations": ["theirs"]}, "no implementation named 'theirs'"),
        ({"profile": "slow"}, "no profile named 'slow'"),
        ({"device": "abacus"}, "no device named 'abacus'"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"where": "x"}, "'x' is not a condition"),
        ({"where": 3}, "plan.json is damaged"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_gone_on_with_says_why(
    copy: Path, changes: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_plan(copy, **changes)
    before = (copy / "records.jsonl").read_bytes()
    assert main(["run", "--resume", str(copy)]) == 2
    assert sentence in capsys.readouterr().err
    assert (copy / "records.jsonl").read_bytes() == before


def test_a_full_disk_exits_2_and_says_how_to_go_on(
    folder: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full_after(5))
        assert main(["run", *SMALL, "--output", "run"]) == 2
    assert "fwpbench run --resume run" in capsys.readouterr().err
    assert (folder / "run/records.jsonl").read_bytes().endswith(b"\n")
    assert keys(folder / "run") == keys(finished)[:5]
    assert main(["run", "--resume", "run", "--json"]) == 0
    assert keys(folder / "run") == keys(finished)


def full_after(writes: int) -> Callable[[int], None]:
    left = [writes]

    def fsync(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    return fsync


# Budgets


def test_what_a_budget_left_is_said_and_run_by_the_command_it_names(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "my run", "--budget", "0.001"]) == 0
    said = capsys.readouterr().out
    reason = 'the budget of 0.001 s was used up; go on with: fwpbench run --resume "my run"'
    assert f"12 skipped: {reason}\n" in said
    assert (
        "12 of 12 cases were skipped: the budget of" in (folder / "my run/report.html").read_text()
    )
    assert keys(Path("my run")) == keys(finished)
    resume = shlex.split(said.partition("go on with: fwpbench ")[2].splitlines()[0])
    assert main([*resume, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == keys(finished)
    assert main([*resume, "--budget", "0.001", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["groups"], summary["skipped"]) == ({"skipped": 12}, reason)
    assert main([*resume, "--budget", "10m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"ok": 12}
    assert keys(Path("my run")) == keys(finished)


def test_a_machine_that_only_measures_has_budgets_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'altair'", name="altair")

    monkeypatch.setattr(run, "load", load)
    assert main(["run", *SMALL, "--output", "run", "--budget", "10m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"ok": 12}


# The command that makes a record again


@pytest.mark.parametrize("name", SUITES)
def test_the_command_of_a_record_selects_that_record_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = make_tasks({name: SUITES[name]}, list(IMPLEMENTATIONS), PROFILES["quick"], seed=3)
    for task in tasks[:: max(1, len(tasks) // 4)]:
        words = shlex.split(task.command("cpu", PROFILES["quick"]))
        assert words[0] == "fwpbench"
        assert main([*words[1:], "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [task.key]


def test_the_command_of_a_record_makes_it_again(finished: Path, folder: Path) -> None:
    for wanted in read_run(finished).records[::5]:
        words = shlex.split(wanted.command)[1:]
        assert main([*words, "--output", wanted.started, "--json"]) == 0
        (again,) = read_run(folder / wanted.started).records
        assert (again.key, again.command) == (wanted.key, wanted.command)
        assert again.metrics == wanted.metrics


def test_measuring_needs_no_package_that_only_reports_need(tmp_path: Path) -> None:
    """As on a machine with a GPU and nothing else: records, summary, and what to do next."""
    script = (
        "import sys; sys.modules |= dict.fromkeys(['msgspec', 'altair', 'vl_convert']); "
        "from fwpbench.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", "stability", "--implementations", "chunked", "--where", "rule=sum"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--output", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing wrong, nothing crashed" in done.stdout
    assert "no report: " in done.stdout
    assert f"fwpbench report {tmp_path / 'run'}" in done.stdout
    assert len(fwpbench.load(tmp_path / "run")) == 3


def test_a_run_of_all_operators_writes_what_its_gate_catches(tmp_path: Path) -> None:
    """Once, and not where --where picked a few operators."""
    written: list[dict[str, object]] = []

    class Writer:
        has_gate = False

        def write_gate(self, score: dict[str, object]) -> None:
            written.append(score)
            self.has_gate = True

    here = make_setting("cpu", "quick", 0)
    suites, writer = {"agreement": SUITES["agreement"]}, Writer()
    for where, scores in (("rule=sum", 0), ("", 1), ("", 1)):
        tasks = make_tasks(suites, ["chunked"], here.profile, 0, where)
        score_the_gate(tasks, here, writer)  # type: ignore[arg-type]
        assert len(written) == scores
    assert written[0]["caught"] == written[0]["total"]
    assert json.loads(json.dumps(written[0]))["slipped"] == []
