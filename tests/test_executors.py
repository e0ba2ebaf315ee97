"""Whoever executes, here or on a cluster: every task gives its one record, and devices are not
shared while something is timed."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.commands.selection import timed_suites
from fwpbench.harness import device_lock
from fwpbench.harness.budget import Budget
from fwpbench.harness.device_lock import Locked, held
from fwpbench.harness.engine import InProcess, make_record, run_tasks
from fwpbench.harness.isolation import Isolated
from fwpbench.harness.plan import Task
from fwpbench.harness.pool import Pool, by_case
from fwpbench.harness.ray_pool import RayPool
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import RunWriter, read_run
from fwpbench.harness.statuses import SKIPPED
from fwpbench.harness.suite import Answer
from fwpbench.operators.errors import UserError
from fwpbench.suites import SUITES
from tests.ending_implementations import announce
from tests.test_isolation import SETTING, task

TABLES = "fwpbench.suites:SUITES"
STATIONS = 2


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Implementations that end their process, on the path of every new one."""
    folder = tmp_path_factory.mktemp("plugins")
    announce(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(device_lock, "folder", lambda: folder / "locks")
        yield folder


@pytest.fixture(scope="module", params=["local", "ray"])
def several(request: pytest.FixtureRequest, plugins: Path) -> Iterator[Callable[[], Any]]:
    """Makes what runs tasks on two stations."""
    if request.param == "local":
        isolated = partial(Isolated, TABLES, SETTING)
        yield lambda: Pool([isolated] * STATIONS)
        return
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'fwpbench[ray]'")
    with suppress(Exception):
        ray.shutdown()
    first = RayPool(TABLES, SETTING, stations=0)
    first.__enter__()  # one cluster for all tests: starting one takes seconds
    yield lambda: RayPool(TABLES, SETTING, stations=STATIONS)
    first.__exit__(None, None, None)


def tasks_of(*implementations: str, lengths: int = 2) -> list[Task]:
    return [task(name, T=5 + n) for n in range(lengths) for name in implementations]


def executed(
    several: Callable[[], Any],
    tasks: list[Task],
    folder: Path,
    progress: Callable[..., object] = lambda *_: None,
    budget: Budget | None = None,
) -> list[Record]:
    writer = RunWriter(folder / "run", {"schema": 1, "cases": [t.key for t in tasks]}, {})
    with several() as execute:
        run_tasks(tasks, execute, writer, partial(progress, execute), budget)
    writer.close()
    run = read_run(folder / "run")
    assert run.complaints == []
    return run.records


def test_the_records_are_those_of_one_process(several, tmp_path):
    tasks = tasks_of("reference", "chunked", lengths=4)
    made = executed(several, tasks, tmp_path)
    serial = [InProcess(SUITES, SETTING)(each) for each in tasks]

    def said(records: list[Record]) -> set[tuple[object, ...]]:
        told = {(r.key, r.status, r.reason, r.origin, str(r.metrics), r.command) for r in records}
        assert len(told) == len(tasks)
        return told

    assert said(made) == said(serial)


def test_what_ends_its_process_costs_its_own_record(several, tmp_path):
    made = executed(several, tasks_of("exits", "reference", "killed", lengths=1), tmp_path)
    found = {record.implementation: record.status for record in made}
    assert found == {"exits": "runtime-error", "reference": "ok", "killed": "out-of-memory"}


def test_what_the_budget_leaves_is_skipped(several, tmp_path):
    budget = Budget(1.0, SETTING, "fwpbench run --resume", taken=2.0)
    made = executed(several, tasks_of("reference", "chunked"), tmp_path, budget=budget)
    assert [record.status for record in made] == [SKIPPED] * 4


def test_a_station_that_is_killed_midway_loses_nothing(several, tmp_path):
    tasks, killed = tasks_of("reference", "chunked", lengths=6), []

    def kill(execute: Any, done: int, *_: object) -> None:
        if done == 2 and isinstance(execute, RayPool):
            import ray

            killed.append(execute.actors[0])
            ray.kill(execute.actors[0])
        elif done == 2:
            (worker, *_) = [each for each in execute._executors if each._worker is not None]
            killed.append(worker)
            worker._worker.kill()

    made = executed(several, tasks, tmp_path, kill)
    assert killed
    assert sorted(record.key for record in made) == sorted(each.key for each in tasks)
    # Here the case that was at work is told to have ended so; a lost machine's is asked again.
    assert [record.status for record in made].count("ok") >= len(tasks) - 1


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'fwpbench\[ray\]'"):
        RayPool(TABLES, SETTING)


# Stations that are made up


class Station:
    """Takes a moment, and tells when it began and ended."""

    def __init__(self, name: str, log: list[tuple[str, str, Task]], moment: float = 0.02):
        self.name, self.log, self.moment = name, log, moment

    def facts(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append((self.name, "closed", None))

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        from datetime import UTC, datetime

        self.log.append((self.name, "began", task))
        time.sleep(self.moment)
        self.log.append((self.name, "ended", task))
        return make_record(task, SETTING, "in-tree", Answer(), datetime.now(UTC), 0.0)


def busiest(log: list[tuple[str, str, Task]], *names: str) -> int:
    """How many tasks were at work at once on these stations, at most."""
    at_once = most = 0
    for name, event, _ in log:
        if name in names and event in ("began", "ended"):
            at_once += 1 if event == "began" else -1
            most = max(most, at_once)
    return most


def test_four_devices_work_at_once_and_each_on_one_task():
    log: list[Any] = []
    names = [f"device-{n}" for n in range(4)]
    tasks = tasks_of("a", "b", "c", lengths=12)
    with Pool([partial(Station, name, log) for name in names]) as pool:
        made = list(pool.records(tasks))
    assert sorted(r.key for r in made) == sorted(t.key for t in tasks)
    assert busiest(log, *names) == 4
    assert [busiest(log, name) for name in names] == [1] * 4
    assert sum(event == "closed" for _, event, _ in log) == 4
    places = {(name, each.case.problem) for name, event, each in log if event == "began"}
    assert len(places) == len(by_case(tasks)), "all implementations of a case on one device"


def test_what_a_station_raises_ends_the_run_and_the_others():
    class Broken(Station):
        def __call__(self, task: Task, seconds: float | None = None) -> Record:
            raise UserError("no process could be started")

    log: list[Any] = []
    before = threading.active_count()
    pool = Pool([partial(Broken, "broken", log), partial(Station, "fine", log, 0.01)])
    with pytest.raises(UserError, match="no process"), pool:
        list(pool.records(tasks_of("a", lengths=500)))
    assert threading.active_count() == before
    assert sum(event == "began" for _, event, _ in log) < 500


def test_leaving_a_pool_ends_what_runs_there():
    """Ctrl-C: nobody waits for a case that takes minutes."""
    pool = Pool([partial(Isolated, TABLES, SETTING)])
    began = time.monotonic()
    with pool:
        record = next(iter(pool.records([task("reference"), task("hangs", T=6)])))
        assert record.status == "ok"
    assert time.monotonic() - began < 60
    assert not any(thread.is_alive() for thread in pool._threads)


# The lock of a device


def test_two_timed_cases_are_never_on_one_device():
    log: list[Any] = []
    timed = frozenset({"speed"})
    stations = [partial(Locked, Station(f"{n}", log), "gpu-0", timed, SETTING) for n in range(3)]
    tasks = [task("a", T=5 + n, suite="speed") for n in range(12)]
    with Pool(stations) as pool:
        assert len(list(pool.records(tasks))) == 12
    assert busiest(log, "0", "1", "2") == 1


def test_what_is_not_timed_waits_for_nobody():
    log: list[Any] = []
    stations = [partial(Locked, Station(f"{n}", log), "gpu-0", frozenset(), SETTING) for n in "ab"]
    with Pool(stations) as pool:
        list(pool.records(tasks_of("a", lengths=8)))
    assert busiest(log, "a", "b") == 2


def hold(device: str, folder: Path, ready: Any) -> None:
    device_lock.folder = lambda: folder  # type: ignore[assignment]
    with held(device):
        ready.set()
        time.sleep(600)


def test_a_device_is_free_again_when_its_holder_was_killed(plugins):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=("gpu-1", plugins / "locks", ready))
    other.start()
    assert ready.wait(60)
    station = Locked(Station("a", []), "gpu-1", frozenset({"speed"}), SETTING)
    record = station(task("a", suite="speed"), 0.2)
    assert (record.status, "was busy" in record.reason) == (SKIPPED, True)
    with held("gpu-2", 0.0) as ours:
        assert ours, "another device is another lock"
    other.kill()
    other.join()
    with held("gpu-1", time.monotonic() + 30) as ours:
        assert ours


# Several workers on one device


def test_several_workers_say_what_one_says(capsys):
    words = ["check", "--json", "--device", "cpu", "--implementations", "reference,chunked"]
    words += ["--where", "rule=sum norm=l2 direction=forward"]
    told = []
    for workers in ("1", "2"):
        assert main([*words, "--workers", workers]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        told.append(sorted((r["problem"], r["implementation"], r["status"]) for r in lines))
    assert told[0] == told[1]
    assert len(told[0]) > 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "agreement", "speed"], "speed must have the device alone"),
        (["run", "agreement", "--executor", "ray"], "ask for more GPUs"),
        (["check", "mine.py:f", "--rule", "sum"], "judged in one process"),
    ],
)
def test_where_there_can_be_but_one_worker_it_is_said(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def f(q, k, v): return v\n")
    assert main([*words, "--workers", "2"]) == 2
    assert said in capsys.readouterr().err


def test_what_is_timed_never_works_beside_others():
    for name in timed_suites() | {"first-call", "longest", "memory"}:
        assert not SUITES[name].side_by_side
