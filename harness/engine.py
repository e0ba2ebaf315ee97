"""Every task of a plan gives exactly one record, whatever happens."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import torch

from fwpbench.harness.plan import Task
from fwpbench.harness.process_state import put_back, state
from fwpbench.harness.records import LONGEST_LINE, Record, to_line
from fwpbench.harness.run_folder import RunWriter
from fwpbench.harness.statuses import SKIPPED, STATUSES
from fwpbench.harness.suite import Answer, Setting, Suite
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._copies import taken
from fwpbench.implementations._room import with_room
from fwpbench.implementations.base import Implementation, Unsupported
from fwpbench.operators.errors import unknown

if TYPE_CHECKING:
    from fwpbench.harness.budget import Budget

Progress = Callable[[int, int, Record], None]
#: Takes what a task printed, its traceback for one.
Log = Callable[[Task, str], None]


class Executor(Protocol):
    """Where tasks are run: in this process, or in one of their own (isolation.py)."""

    def facts(self) -> dict[str, str | int | float | bool | None]:
        """What the environment tells of it."""

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        """`seconds` are left of the run's budget: what takes longer is `skipped`, if it can be cut
        off."""

    def __enter__(self) -> Executor: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Several(Protocol):
    """Where tasks are run several at once: by the GPUs of this machine, or the machines of a
    cluster."""

    def facts(self) -> dict[str, str | int | float | bool | None]: ...

    def records(self, tasks: Sequence[Task], budget: Budget | None = None) -> Iterator[Record]:
        """One record a task that was begun, as they are done, in any order. With a budget, none is
        begun after it is used up."""

    def __enter__(self) -> Several: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class InProcess:
    """Runs tasks here: for tests, and where there are no POSIX processes.

    Nothing can be cut off here, so a budget is overrun by what the case begun last still takes.
    """

    def __init__(self, suites: Mapping[str, Suite], setting: Setting, log: Log | None = None):
        self._suites, self._setting, self._log = suites, setting, log

    def facts(self) -> dict[str, str | int | float | bool | None]:
        return {"isolation": 0}

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        return run_task(task, self._suites[task.suite], self._setting, self._log)


def run_tasks(
    tasks: Sequence[Task],
    execute: Executor | Several,
    writer: RunWriter,
    progress: Progress,
    budget: Budget | None = None,
) -> list[Record]:
    """Run what has no record yet; Ctrl-C leaves every record before it in place.

    What is not begun when the budget is used up is skipped.
    """
    left = [task for task in tasks if task.key not in writer.done]
    records: list[Record] = []
    for record in records_of(left, execute, budget):
        if budget is not None and record.status == SKIPPED:
            record = replace(record, reason=budget.reason)
        writer.append(record)
        records.append(record)
        progress(len(records), len(left), record)
    if budget is not None:
        # At once: thousands of lines, each waiting for the disk, are seconds that nobody gave.
        made = {record.key for record in records}
        skipped = [budget.skip(task) for task in left if task.key not in made]
        writer.append(*skipped)
        records += skipped
    return records


def records_of(
    tasks: Sequence[Task], execute: Executor | Several, budget: Budget | None = None
) -> Iterator[Record]:
    """One record a task that was begun, as they are done."""
    several = getattr(execute, "records", None)
    if several is not None:
        yield from several(tasks, budget)
        return
    one: Any = execute
    for task in tasks:
        if budget is None:
            yield one(task)
        elif (seconds := budget.left()) > 0:
            yield one(task, seconds)
        else:
            return


def run_task(task: Task, suite: Suite, setting: Setting, log: Log | None = None) -> Record:
    started, clock = datetime.now(UTC), time.perf_counter()
    before = state()
    implementation, answer = _ask(task, suite, setting, log)
    if (changed := put_back(before)) is not None:
        answer = Answer("process-modified", f"it changed {changed}: of all, not its own")
    seconds = time.perf_counter() - clock
    origin = implementation.origin if implementation else "unknown"
    record = make_record(task, setting, origin, answer, started, seconds)
    try:
        if (length := len(to_line(record))) > LONGEST_LINE:
            raise ValueError(f"{length:,} characters; at most {LONGEST_LINE:,} are read")
    except (TypeError, ValueError, RecursionError) as error:
        answer = Answer(
            "runtime-error", f"{task.suite} answered what cannot be written: {_sentence(error)}"
        )
        record = make_record(task, setting, origin, answer, started, seconds)
    return record


def make_record(
    task: Task,
    setting: Setting,
    origin: str,
    answer: Answer,
    started: datetime,
    seconds: float,
) -> Record:
    return Record(
        suite=task.suite,
        problem=str(task.case.problem),
        implementation=task.implementation,
        origin=origin,
        device=setting.device.kind,
        seed=task.seed,
        status=answer.status,
        reason=answer.reason,
        name=task.case.name,
        parameters=dict(task.case.parameters),
        metrics=dict(answer.metrics),
        samples={name: list(values) for name, values in answer.samples.items()},
        tags=list(answer.tags),
        detail=dict(answer.detail),
        command=task.command(setting.device.kind, setting.profile, setting.plugins),
        seconds=seconds,
        started=started.isoformat(timespec="milliseconds"),
    )


def _ask(
    task: Task, suite: Suite, setting: Setting, log: Log | None
) -> tuple[Implementation | None, Answer]:
    implementation, detail = None, dict[str, Any]()
    try:
        try:
            implementation = IMPLEMENTATIONS[task.implementation]
        except ImportError as error:
            return None, Answer("missing", _sentence(error))
        if (reason := implementation.missing()) is not None:
            return implementation, Answer("missing", reason)
        if (reason := implementation.refuses(task.case.problem, setting.device.kind)) is not None:
            return implementation, Answer("unsupported", reason)
        if (reason := task.case.excluded.get(task.implementation)) is not None:
            return implementation, Answer("unsupported", reason)
        # Before it is asked: of one that fails, too, it matters what it chose.
        if words := implementation.chosen(task.case.problem, setting.device.kind):
            detail = {"chosen": words}
        taken()  # by whoever was asked before
        here = replace(setting, task=task.key)
        answer = with_room(partial(suite.answer, task.case, implementation, here))
        setting.device.synchronize()  # what it left under way, and how that ends, is its own
        answer = _declared(task, suite, answer)
        if copied := taken():
            detail["copied"] = copied
        return implementation, replace(answer, detail={**detail, **answer.detail})
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except Unsupported as error:
        return implementation, Answer("unsupported", _sentence(error))
    # Whatever an implementation raises is its result, sys.exit() too.
    except BaseException as error:
        if out_of_memory(error):
            return implementation, Answer("out-of-memory", _sentence(error), detail=detail)
        if log is not None:
            log(task, traceback.format_exc())
        status = "illegal-access" if _illegal_access(error) else "runtime-error"
        reason = f"{type(error).__name__}: {_sentence(error)}"
        return implementation, Answer(status, reason, detail=detail)


def out_of_memory(error: BaseException) -> bool:
    # The CPU allocator of torch says so in a RuntimeError, and so does that of C++.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and any(word in _sentence(error) for word in ("DefaultCPUAllocator", "bad_alloc"))
    )


def _illegal_access(error: BaseException) -> bool:
    """CUDA tells of it in words: no type of torch stands for this one error."""
    return isinstance(error, RuntimeError) and bool(
        re.search("CUDA error: (an illegal memory access|misaligned address)", _sentence(error))
    )


def _declared(task: Task, suite: Suite, answer: Answer) -> Answer:
    """The answer, if its status exists and its metrics are those of its suite, in their units."""
    if answer.status not in STATUSES:
        raise TypeError(unknown("status", answer.status, STATUSES))
    for name, measured in answer.metrics.items():
        if name not in suite.metrics or suite.metrics[name].unit != measured.unit:
            declared = {name: metric.unit for name, metric in suite.metrics.items()}
            raise TypeError(
                f"{task.suite} answered with {name} in {measured.unit}, but declares {declared}"
            )
    return answer


def _sentence(error: BaseException) -> str:
    """The first line of what it says, without the colours that compilers write."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an error that cannot even say what it is
        lines = []
    first = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", lines[0] if lines else type(error).__name__)
    return "".join(c if c.isprintable() else " " for c in first)
