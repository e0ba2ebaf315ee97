"""Laws of a budget: the command ends with it, and what it left is skipped until it is resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from fwpbench.arguments.values import seconds as seconds_of
from fwpbench.harness.budget import Budget, in_words
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.engine import InProcess, run_tasks
from fwpbench.harness.isolation import Isolated
from fwpbench.harness.plan import Task, as_json, make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Record, from_line, to_line
from fwpbench.harness.run_folder import RunWriter, keys_done, read_run
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.operators.problem import Problem
from tests.ending_implementations import announce
from tests.simulated_device import SimulatedDevice

ROOT = Path(__file__).parent.parent
PROBLEM = Problem(
    rule="sum", phi="elu+1", norm="attention", B=1, T=5, H=2, K=4, V=3,
    dtype="fp32", direction="forward", state="out",
)  # fmt: skip
CASES = 20


# On a clock that only the cases move


def simulated(seconds: float) -> tuple[SimulatedDevice, Setting, dict[str, Suite]]:
    """A suite whose every case takes so long on a made-up device."""
    device = SimulatedDevice([seconds])
    device.kind = "cpu"  # where the reference runs

    def answer(*_: object) -> Answer:
        device.call()
        return Answer()

    cases = [Case(PROBLEM.replace(T=tokens)) for tokens in range(1, CASES + 1)]
    suite = Suite("?", lambda profile: cases, answer, {"time": Metric("s", "lower", "")})
    return device, Setting(device, PROFILES["quick"], 0), {"speed": suite}


@pytest.mark.parametrize("taken", [0.0, 0.75, 1.5, 9.0])
@pytest.mark.parametrize("cost", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("seconds", [0.5, 4.0, 100.0])
def test_a_case_is_begun_until_the_budget_is_used_up_and_the_rest_is_skipped(
    seconds: float, cost: float, taken: float, tmp_path: Path
) -> None:
    device, setting, suites = simulated(cost)
    tasks = make_tasks(suites, ["reference"], setting.profile, 0)
    writer = RunWriter(tmp_path / "run", as_json(tasks, {}), {})
    budget = Budget(seconds, setting, "fwpbench run --resume it", taken)
    left = max(0.0, seconds - taken)
    records = run_tasks(tasks, InProcess(suites, setting), writer, lambda *_: None, budget)
    writer.close()
    ran = [record for record in records if record.status == "ok"]
    skipped = records[len(ran) :]
    assert [record.key for record in records] == [task.key for task in tasks]
    assert {record.status for record in skipped} <= {"skipped"}
    assert device.now() < left + cost, "the case that was begun last is all that it may take more"
    assert device.now() >= min(left, CASES * cost)
    assert keys_done(tmp_path / "run") == {record.key for record in ran}
    assert read_run(tmp_path / "run").records == records
    for record in skipped:
        assert from_line(to_line(record)) == record
        assert record.reason == (
            f"the budget of {in_words(seconds)} was used up; go on with: fwpbench run --resume it"
        )
    # What was left is all there is to do, and no record of another run changes.
    writer = RunWriter.resume(tmp_path / "run")
    again = run_tasks(tasks, InProcess(suites, setting), writer, lambda *_: None)
    writer.close()
    assert [record.key for record in again] == [record.key for record in skipped]
    assert read_run(tmp_path / "run").records == ran + again
    assert {record.status for record in again} <= {"ok"}


# In a process of its own


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    announce(folder)
    return folder


def test_a_case_and_the_start_of_its_process_are_cut_off(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plugins)
    setting = Setting(CpuDevice(), PROFILES["quick"], 0)

    def timed(implementation: str, seconds: float | None) -> tuple[Record, float]:
        clock = time.monotonic()
        record = isolated(Task("agreement", Case(PROBLEM), implementation, 0), seconds)
        return record, time.monotonic() - clock

    with Isolated("fwpbench.suites:SUITES", setting) as isolated:
        starting, start_took = timed("healthy", 0.05)
        assert timed("healthy", None)[0].status == "ok"
        hanging, hang_took = timed("hangs", 0.3)
        assert isolated.started == 1, "one that was cut off is not counted"
    print(f"cut off after {start_took:.2f} of 0.05 s and {hang_took:.2f} of 0.3 s")
    assert (starting.status, starting.origin) == ("skipped", "unknown")
    assert (hanging.status, hanging.origin) == ("skipped", "third-party")
    assert hanging.reason == "the budget of the run was used up before it ended"
    assert start_took < 1.05
    assert 0.3 <= hang_took < 1.3


# The whole command

SLOW = """
import time
from pathlib import Path
import fwpbench
from fwpbench.implementations.reference import run as run_law

def run(problem, inputs):
    time.sleep(0.2 if Path("slow").exists() else 0.0)
    return run_law(problem, inputs)

IMPLEMENTATIONS = {"slow": fwpbench.Implementation(run, "made for a test")}
"""
WORDS = ["agreement", "--where", "rule=sum phi=elu+1,relu norm=none,sum", "--device", "cpu"]
WORDS += ["--implementations", "slow", "--plugin", "slow.py"]


def command(folder: Path, *words: str) -> tuple[str, float]:
    """What `fwpbench run` prints, and how many seconds it takes from its start to its end."""
    clock = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "fwpbench", "run", *words],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - clock
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, seconds


def test_a_run_ends_within_ten_percent_of_its_budget_and_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slow").touch()
    # No time for any case: what is left is what starting and reporting take on this machine, now.
    said, least = command(tmp_path, *WORDS, "--budget", "0.1", "--output", "none", "--json")
    assert set(json.loads(said)["groups"]) == {"skipped"}
    assert (tmp_path / "none/report.html").exists()
    budget = round(3 * least)
    said, took = command(tmp_path, *WORDS, "--budget", str(budget), "--output", "run")
    run = read_run(tmp_path / "run")
    skipped = [record for record in run.records if record.status == "skipped"]
    print(
        f"a budget of {budget} s: {took:.1f} s ({took / budget - 1:+.1%}), of which starting and "
        f"reporting some {least:.1f} s; {len(skipped)} of {len(run.records)} records skipped"
    )
    assert abs(took - budget) <= 0.1 * budget
    assert [record.key for record in run.records] == run.plan["cases"]
    assert 0 < len(skipped) < len(run.records)
    assert f"records to make on {CpuDevice().name} in {in_words(budget)} → run" in said
    assert (
        f"{len(skipped)} skipped: the budget of {in_words(budget)} was used up; go on with: "
        in said
    )
    assert said.endswith("nothing wrong, nothing crashed\nreport: run/report.html\n")
    (tmp_path / "slow").unlink()
    words = skipped[-1].reason.partition("go on with: fwpbench run ")[2].split()
    assert words == ["--resume", "run"]
    command(tmp_path, *words, "--json")
    whole = read_run(tmp_path / "run")
    kept = [record for record in run.records if record.status != "skipped"]
    assert whole.records[: len(kept)] == kept
    assert [record.key for record in whole.records] == whole.plan["cases"]
    assert {record.status for record in whole.records} == {"ok"}


# What is typed, and what is said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("0.5", 0.5), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400),
        ("1m30", 90), ("1m30s", 90), ("2h1m1s", 7261),
    ],
)  # fmt: skip
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "soon",
        "-3",
        "+3",
        "1e3",
        "nan",
        "inf",
        "10 m",
        "30m1h",
        "0",
        "0h0m",
        "1d",
        "9" * 30,
    ],
)
def test_what_is_no_time_is_said_so(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected a time such as 90"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (90, "1 min 30 s"),
        (600, "10 min"),
        (5400, "1 h 30 min"),
        (7261, "2 h 1 min 1 s"),
        (0.5, "0.5 s"),
    ],
)
def test_a_budget_is_said_in_words(seconds: float, said: str) -> None:
    assert in_words(seconds) == said
