"""Every task of a plan gives exactly one record, whatever happens."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import torch

from fwpbench.harness.plan import Task
from fwpbench.harness.records import LONGEST_LINE, Record, to_line
from fwpbench.harness.run_folder import RunWriter
from fwpbench.harness.statuses import STATUSES
from fwpbench.harness.suite import Answer, Setting, Suite
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.operators.errors import unknown

Progress = Callable[[int, int, Record], None]


def run_tasks(
    tasks: Sequence[Task],
    suites: Mapping[str, Suite],
    setting: Setting,
    writer: RunWriter,
    progress: Progress,
) -> list[Record]:
    """Run what has no record yet; Ctrl-C leaves every record before it in place."""
    left = [task for task in tasks if task.key not in writer.done]
    records = []
    for number, task in enumerate(left, start=1):
        record = run_task(task, suites[task.suite], setting, writer)
        writer.append(record)
        records.append(record)
        progress(number, len(left), record)
    return records


def run_task(task: Task, suite: Suite, setting: Setting, writer: RunWriter | None) -> Record:
    started, clock = datetime.now(UTC), time.perf_counter()
    implementation, answer = _ask(task, suite, setting, writer)
    seconds = time.perf_counter() - clock
    record = _record(task, setting, implementation, answer, started, seconds)
    try:
        if (length := len(to_line(record))) > LONGEST_LINE:
            raise ValueError(f"{length:,} characters; at most {LONGEST_LINE:,} are read")
    except (TypeError, ValueError, RecursionError) as error:
        answer = Answer(
            "runtime-error", f"{task.suite} answered what cannot be written: {_sentence(error)}"
        )
        record = _record(task, setting, implementation, answer, started, seconds)
    return record


def _record(
    task: Task,
    setting: Setting,
    implementation: Implementation | None,
    answer: Answer,
    started: datetime,
    seconds: float,
) -> Record:
    return Record(
        suite=task.suite,
        problem=str(task.case.problem),
        implementation=task.implementation,
        origin=implementation.origin if implementation else "unknown",
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
        command=task.command(setting.device.kind, setting.profile.name, setting.plugins),
        seconds=seconds,
        started=started.isoformat(timespec="milliseconds"),
    )


def _ask(
    task: Task, suite: Suite, setting: Setting, writer: RunWriter | None
) -> tuple[Implementation | None, Answer]:
    implementation = None
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
        answer = suite.answer(task.case, implementation, setting)
        return implementation, _declared(task, suite, answer)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    # Whatever an implementation raises is its result, sys.exit() too.
    except BaseException as error:
        if _out_of_memory(error):
            return implementation, Answer("out-of-memory", _sentence(error))
        if writer is not None:
            _log(task, writer)
        return implementation, Answer(
            "runtime-error", f"{type(error).__name__}: {_sentence(error)}"
        )


def _out_of_memory(error: BaseException) -> bool:
    # The CPU allocator of torch says so in a RuntimeError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in _sentence(error)
    )


def _log(task: Task, writer: RunWriter) -> None:
    """The traceback of what is being handled. A log that cannot be written costs no record."""
    log = writer.path / "logs" / f"{task.suite}.log"
    with suppress(OSError), open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{task.key}\n{traceback.format_exc()}\n")


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
