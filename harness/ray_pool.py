"""Stations on a Ray cluster, or on this machine by Ray: an actor a GPU, or a machine without.

An actor runs each task in a process of its own, as it is done here, so that what an implementation
does ends with its record. An actor that is lost, with its machine or without, costs nothing: what
it was at work on is asked again.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from fwpbench.harness.budget import Budget
from fwpbench.harness.engine import Log, make_record
from fwpbench.harness.environment import Value
from fwpbench.harness.plan import Task, task_as_json, task_from_json
from fwpbench.harness.pool import by_case
from fwpbench.harness.records import Record, from_own_line, to_line
from fwpbench.harness.suite import Answer, Setting
from fwpbench.operators.errors import UserError

#: How often a task whose actor was lost is asked again.
RETRIES = 2
#: Ray on this machine, and for nobody else.
ALONE = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
#: Seconds that Ray may take to start actors, and between two looks at the budget.
LONGEST_START, EVERY = 300.0, 1.0


@dataclass(frozen=True)
class Order:
    """What an actor is told, in words that travel."""

    suites: str
    load_plugins: str | None
    device: str
    profile: Mapping[str, Any]
    seed: int
    plugins: tuple[str, ...]
    data_dir: str | None
    checkpoints: str | None
    limit: float
    timed: frozenset[str]
    #: Where the driver finds modules: of these, an actor takes those that are there.
    path: tuple[str, ...]


class Station:
    """What an actor is: it runs one task at a time, in a worker of its own."""

    def __init__(self, order: Order):
        sys.path += [each for each in order.path if each not in sys.path and Path(each).exists()]
        from fwpbench.harness.device import DEVICES
        from fwpbench.harness.device_lock import Locked
        from fwpbench.harness.isolation import Isolated
        from fwpbench.harness.processes import Repeated
        from fwpbench.harness.profiles import Profile

        profile = Profile(**{**order.profile, "data": tuple(order.profile["data"])})
        setting = Setting(
            DEVICES[order.device](),
            profile,
            order.seed,
            order.plugins,
            order.data_dir and Path(order.data_dir),  # type: ignore[arg-type]
            order.checkpoints and Path(order.checkpoints),  # type: ignore[arg-type]
        )
        self._said: list[str] = []
        isolated = Isolated(
            order.suites,
            setting,
            lambda task, text: self._said.append(text),
            order.limit,
            load_plugins=order.load_plugins,
        )
        self._device = setting.device
        repeated = Repeated(isolated, order.timed, profile.processes)
        self._execute = Locked(repeated, _place(order.device), order.timed, setting)

    def about(self) -> dict[str, Value]:
        """Which device it has, and how it executes."""
        return {"device": self._device.name, **self._execute.facts()}

    def run(self, task: dict[str, Any], seconds: float | None) -> tuple[str, list[str]]:
        """The record as a line, and what the task printed."""
        record = self._execute(task_from_json(task), seconds)
        said, self._said = self._said, []
        return to_line(record), said


def _place(kind: str) -> str:
    """The name of the lock: Ray shows an actor the GPUs that are its own, and no others."""
    return "-".join([kind, *os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]).strip("-")


class RayPool:
    """Runs tasks on the actors of a cluster (`address`), or of this machine (None).

    `stations` is how many of them; None takes every GPU, or, on the CPU, every machine.
    """

    def __init__(
        self,
        suites: str,
        setting: Setting,
        log: Log | None = None,
        limit: float | None = None,
        load_plugins: str | None = None,
        address: str | None = None,
        timed: frozenset[str] = frozenset(),
        stations: int | None = None,
    ):
        try:
            import ray
        except ImportError:
            raise UserError("--executor ray needs ray: pip install 'fwpbench[ray]'") from None
        self._ray, self._address, self._setting, self._log = ray, address, setting, log
        self._stations = stations
        self._ours = False
        self.actors: list[Any] = []
        self._order = Order(
            suites,
            load_plugins,
            setting.device.kind,
            asdict(setting.profile),
            setting.seed,
            setting.plugins,
            setting.data_dir and str(setting.data_dir),  # type: ignore[arg-type]
            setting.checkpoints and str(setting.checkpoints),  # type: ignore[arg-type]
            setting.profile.limit if limit is None else limit,
            timed,
            tuple(sys.path),
        )

    def facts(self) -> dict[str, Value]:
        return {"isolation": 1, "executor": "ray", "case limit s": self._order.limit}

    def __enter__(self) -> RayPool:
        """Start, or find, the cluster and its actors.

        Raises UserError where there is none, it has no such device, or its devices differ.
        """
        if not self._ray.is_initialized():
            given = {"address": self._address} if self._address else ALONE
            try:
                self._ray.init(log_to_driver=False, logging_level="ERROR", **given)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"no Ray cluster at {self._address}: {str(error).strip().splitlines()[0]}. "
                    "Start one (ray start --head), or leave --ray-address out"
                ) from None
            self._ours = True
        try:
            self.actors = [self._new(options) for options in self._options()]
            self._check()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for actor in self.actors:
            self._ray.kill(actor)
        self.actors = []
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _options(self) -> list[dict[str, Any]]:
        """Of each actor: a GPU, or all cores of a machine, so that nothing else is timed there."""
        if self._stations is not None:
            return [{"num_cpus": 0}] * self._stations
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        if self._setting.device.kind == "cuda":
            number = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
            if not number:
                raise UserError("the Ray cluster has no GPU: try --device cpu")
            return [{"num_gpus": 1, "num_cpus": 0}] * number
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return [
            {
                "num_cpus": node["Resources"].get("CPU", 1),
                "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            }
            for node in nodes
        ]

    def _new(self, options: dict[str, Any]) -> Any:
        return self._ray.remote(Station).options(**options).remote(self._order)

    def _check(self) -> None:
        """One run has one environment, that of this machine."""
        said = self._ray.get([actor.about.remote() for actor in self.actors], timeout=LONGEST_START)
        here = self._setting.device.name
        others = {str(each["device"]) for each in said} - {here}
        if others:
            raise UserError(
                f"the cluster has {', '.join(sorted(others))}, this machine {here}, and a run has "
                "one environment: start it on a machine like those, or run shards (--shard) there"
            )

    def records(self, tasks: Sequence[Task], budget: Budget | None = None) -> Iterator[Record]:
        """One record a task that was begun, as they are done, in any order."""
        cases = deque(deque(case) for case in by_case(tasks))
        lost: dict[str, int] = {}
        at_work: dict[Any, tuple[int, Task, deque[Task]]] = {}
        free = list(range(len(self.actors)))
        while cases or at_work:
            while free and cases and (budget is None or budget.left() > 0):
                self._begin(free.pop(), cases.popleft(), budget, at_work)
            if not at_work:
                return
            done, _ = self._ray.wait(list(at_work), num_returns=1, timeout=EVERY)
            for reference in done:
                place, task, rest = at_work.pop(reference)
                record = self._result(reference, task, lost)
                if record is None:
                    rest.appendleft(task)
                    self.actors[place] = self._new(self._options()[place])
                else:
                    yield record
                if rest and (budget is None or budget.left() > 0):
                    self._begin(place, rest, budget, at_work)
                else:
                    free.append(place)

    def _begin(
        self,
        place: int,
        case: deque[Task],
        budget: Budget | None,
        at_work: dict[Any, tuple[int, Task, deque[Task]]],
    ) -> None:
        task = case.popleft()
        seconds = None if budget is None else budget.left()
        reference = self.actors[place].run.remote(task_as_json(task), seconds)
        at_work[reference] = place, task, case

    def _result(self, reference: Any, task: Task, lost: dict[str, int]) -> Record | None:
        """None where the actor was lost, and the task is to be asked again."""
        try:
            line, said = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            lost[task.key] = lost.get(task.key, 0) + 1
            if lost[task.key] <= RETRIES:
                return None
            sentence = " ".join(str(error).split())[:200]
            answer = Answer(
                "runtime-error", f"its machine was lost {RETRIES + 1} times: {sentence}"
            )
            return make_record(task, self._setting, "unknown", answer, datetime.now(UTC), 0.0)
        if self._log is not None:
            for text in said:
                self._log(task, text)
        return from_own_line(line)
