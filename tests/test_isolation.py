"""Laws of isolation: what ends its process costs its own record, and nobody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fwpbench.harness import isolation
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.engine import InProcess, run_tasks
from fwpbench.harness.environment import memory_bytes, usable_cores
from fwpbench.harness.isolation import Isolated, memory_limit
from fwpbench.harness.plan import Task, make_tasks, task_as_json, task_from_json
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Record, to_line
from fwpbench.harness.run_folder import RunWriter, keys_done, read_run
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.errors import UserError
from fwpbench.operators.problem import Problem
from fwpbench.suites import SUITES
from tests import telling_suites
from tests.ending_implementations import announce

ROOT = Path(__file__).parent.parent
SETTING = Setting(CpuDevice(), PROFILES["quick"], 0)
PROBLEM = Problem(
    rule="sum", phi="elu+1", norm="attention", B=1, T=5, H=2, K=4, V=3,
    dtype="fp32", direction="forward", state="out",
)  # fmt: skip

#: What comes of each, in the order they are run, every one followed by a healthy one.
ENDS: dict[str, tuple[str, str]] = {
    "segfault": ("illegal-access", "its process was ended by SIGSEGV"),
    "cuda-error": ("illegal-access", "RuntimeError: CUDA error: an illegal memory access was"),
    "exits": ("runtime-error", "its process ended with exit code 0"),
    "exits-loudly": ("runtime-error", "its process ended with exit code 3"),
    "killed": ("out-of-memory", "its process was ended by SIGKILL, as the system does where"),
    "hangs": ("timeout", "took longer than 6 s and was ended"),
    "forks": ("runtime-error", "its process ended with exit code 0"),
    "allocates": ("out-of-memory", "MemoryError"),
}


def task(implementation: str, T: int = 5, suite: str = "agreement") -> Task:
    return Task(suite, Case(PROBLEM.replace(T=T), name="A name"), implementation, 0)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path of every new process, with the implementations that end theirs."""
    folder = tmp_path_factory.mktemp("plugins")
    announce(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def run_of(folder: Path) -> tuple[RunWriter, Any]:
    return RunWriter(folder / "run", {"schema": 1, "cases": []}, {}), lambda *_: None


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(process: int) -> list[int]:
    return [
        int(child)
        for file in Path(f"/proc/{process}/task").glob("*/children")
        for child in file.read_text().split()
    ]


def gone(processes: list[int], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, processes))


# What ends its process


def test_what_ends_its_process_costs_its_own_record_and_one_start(
    plugins: Path, tmp_path: Path
) -> None:
    tasks = []
    for number, name in enumerate(ENDS):
        tasks += [task(name, T=5 + number), task("healthy", T=5 + number)]
    writer, nothing = run_of(tmp_path)
    with Isolated("fwpbench.suites:SUITES", SETTING, writer.log, limit=6.0) as isolated:
        isolated.memory = 2**29  # instead of the share of this machine
        records = run_tasks(tasks, isolated, writer, nothing)
        assert isolated.started == 1 + len(ENDS)
    writer.close()
    assert gone(children(os.getpid()))
    bad, healthy = records[::2], records[1::2]
    for (name, (status, reason)), record in zip(ENDS.items(), bad, strict=True):
        print(f"{name}: {record.status} after {record.seconds:.2f} s: {record.reason}")
        assert (record.status, record.implementation) == (status, name)
        assert record.reason.startswith(reason)
        assert record.reason.isprintable()
        assert (record.origin, record.name) == ("third-party", "A name")
    assert [(record.status, record.reason) for record in healthy] == [("ok", "")] * len(ENDS)
    assert keys_done(tmp_path / "run") == {task.key for task in tasks}
    assert read_run(tmp_path / "run").complaints == []

    log = (tmp_path / "run/logs/agreement.log").read_text(encoding="utf-8")
    told = dict(zip(ENDS, bad, strict=True))
    assert told["exits-loudly"].detail["log"] == ["on stdout", "last words"]
    assert f"{told['exits-loudly'].key}\non stdout\nlast words\n" in log
    assert "Segmentation fault" in told["segfault"].detail["log"][0], "and where it happened"
    assert any("ending_implementations.py" in line for line in told["segfault"].detail["log"])
    assert "log" not in told["exits"].detail


def test_a_case_that_tells_how_far_it_is_may_take_longer_than_one_that_does_not(
    tmp_path: Path,
) -> None:
    told = list[tuple[int, int, str]]()
    setting = replace(
        SETTING,
        profile=replace(SETTING.profile, data=("a", "b")),
        checkpoints=tmp_path / "kept",
        data_dir=tmp_path,
        tell=lambda *far: told.append(far),
    )
    limit = telling_suites.STEPS * telling_suites.PAUSE / 2
    with Isolated("tests.telling_suites:SUITES", setting, limit=limit) as isolated:
        told_all = isolated(task("reference", suite="tells"))
        assert (told_all.status, told_all.reason) == ("ok", "")
        assert told_all.seconds > limit
        assert told == [(n + 1, telling_suites.STEPS, "at work") for n in range(len(told))]
        assert len(told) == telling_suites.STEPS
        assert told_all.detail == {
            "task": told_all.key,
            "checkpoints": str(tmp_path / "kept"),
            "data_dir": str(tmp_path),
            "data": ["a", "b"],
        }
        silent = isolated(task("reference", suite="falls-silent"))
        assert (silent.status, silent.reason) == (
            "timeout",
            f"took longer than {limit:g} s and was ended",
        )
        cut = isolated(task("reference", suite="tells"), seconds=limit)
        assert cut.status == "skipped"


def test_what_ends_after_its_record_costs_none(plugins: Path) -> None:
    with Isolated("fwpbench.suites:SUITES", SETTING) as isolated:
        first = isolated(task("ends-later"))
        time.sleep(0.5)
        second = isolated(task("healthy"))
        assert isolated.started == 2
    assert (first.status, second.status) == ("ok", "ok")


def test_an_interrupt_is_for_the_parent(plugins: Path) -> None:
    with Isolated("fwpbench.suites:SUITES", SETTING) as isolated:
        assert isolated(task("interrupts")).status == "ok"
        assert isolated.started == 1


# What is the same


def test_records_are_those_of_one_process_up_to_times() -> None:
    tasks = [task(name) for name in ("chunked", "reference", "torch-sdpa")]
    with Isolated("fwpbench.suites:SUITES", SETTING) as isolated:
        records = [isolated(one) for one in tasks]
        assert isolated.started == 1, "one process for many tasks"
    assert [record.status for record in records] == ["ok", "ok", "unsupported"]
    here = InProcess(SUITES, SETTING)
    for one, record in zip(tasks, records, strict=True):
        assert comparable(here(one)) == comparable(record)


def comparable(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(to_line(record))
    return {name: value for name, value in fields.items() if name not in ("seconds", "started")}


def test_every_suite_and_every_batch_has_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "BATCH", 2)
    tasks = [task("chunked", T) for T in (1, 2, 3)] + [task("chunked", suite="stability")]
    with Isolated("fwpbench.suites:SUITES", SETTING) as isolated:
        assert [isolated(one).status for one in tasks] == ["ok"] * 4
        assert isolated.started == 3


@pytest.mark.parametrize("suite", SUITES)
def test_a_task_survives_the_way_to_another_process(suite: str) -> None:
    tasks = make_tasks({suite: SUITES[suite]}, list(IMPLEMENTATIONS), PROFILES["quick"], 3)
    for one in tasks[:: max(1, len(tasks) // 50)]:
        again = task_from_json(json.loads(json.dumps(task_as_json(one))))
        assert (again, again.key) == (one, one.key)


# What is recorded, and what is said


def test_the_environment_tells_how_it_was_isolated() -> None:
    facts = Isolated("fwpbench.suites:SUITES", SETTING).facts()
    assert facts["isolation"] == 1
    assert facts["workers"] == 1
    assert 1 <= int(facts["threads"] or 0) <= usable_cores()
    assert facts["case limit s"] == PROFILES["quick"].limit >= 120
    assert facts["memory limit bytes"] == memory_limit()
    assert 0 < int(facts["memory limit bytes"] or 0) < (memory_bytes() or 0)


def test_those_beside_each_other_share_cores_and_memory() -> None:
    alone = Isolated("fwpbench.suites:SUITES", SETTING)
    shared = Isolated("fwpbench.suites:SUITES", SETTING, beside=usable_cores() - 1)
    assert shared.threads == 1
    assert alone.memory is not None
    assert shared.memory == alone.memory // usable_cores()


def test_a_process_that_cannot_start_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_START", "raise SystemExit('no torch today')")
    with pytest.raises(UserError, match=r"ended with exit code 1 \(no torch today\)"):
        Isolated("fwpbench.suites:SUITES", SETTING)(task("chunked"))
    assert gone(children(os.getpid()))


# The whole command


def started(plugins: Path, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fwpbench", "run", *words, "--output", str(folder / "run")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(plugins), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        # A shell starts what stands before `&` deaf to Ctrl-C, and so all that it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_records(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if (folder / "run/plan.json").exists() and len(keys_done(folder / "run")) >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {number} records: {process.communicate(timeout=1)}")


WORDS = ["agreement", "--where", "rule=sum phi=elu+1 norm=attention", "--device", "cpu"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["control c", "kill -9"])
def test_the_end_of_the_parent_is_that_of_its_child_even_where_that_hangs(
    number: signal.Signals, plugins: Path, tmp_path: Path
) -> None:
    process = started(plugins, tmp_path, *WORDS, "--implementations", "chunked,hangs")
    wait_for_records(tmp_path, 1, process)
    time.sleep(0.3)
    workers = children(process.pid)
    assert len(workers) == 1
    assert alive(workers[0])
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert gone(workers)
    assert len(read_run(tmp_path / "run").records) == 1
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    if number == signal.SIGINT:
        assert said.splitlines()[-1] == f"  fwpbench run --resume {tmp_path / 'run'}"
        assert "Traceback" not in said


def test_a_case_that_hangs_is_ended_by_the_timeout_that_is_asked_for(
    plugins: Path, tmp_path: Path
) -> None:
    words = ["agreement", "--where", WORDS[2] + " direction=forward inputs=normal"]
    words += ["--implementations", "hangs", "--timeout", "1s", "--json"]
    process = started(plugins, tmp_path, *words)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (failed,) = json.loads(said)["failed"]
    assert (failed["status"], failed["reason"]) == ("timeout", "took longer than 1 s and was ended")
    assert read_run(tmp_path / "run").environment["case limit s"] == 1.0
