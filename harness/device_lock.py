"""Never two timed cases on one device at a time, whoever runs them: a lock file a device.

The system frees the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from fwpbench.harness.engine import Executor, make_record
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record
from fwpbench.harness.statuses import SKIPPED
from fwpbench.harness.suite import Answer, Setting

#: Seconds between two looks whether it is free.
EVERY = 0.05


def folder() -> Path:
    """The user's own, so that nobody else's files stand in the way."""
    return Path(tempfile.gettempdir()) / f"fwpbench-locks-{os.getuid()}"


@contextmanager
def held(device: str, until: float = float("inf")) -> Iterator[bool]:
    """Wait for the device, at most until this moment of time.monotonic(); whether it is ours."""
    import fcntl

    folder().mkdir(mode=0o700, exist_ok=True)
    with open(folder() / f"{device}.lock", "a", encoding="ascii") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    yield False
                    return
                time.sleep(EVERY)
        yield True


class Locked:
    """The same executor, which waits for its device where a task of these suites is timed."""

    def __init__(self, execute: Executor, device: str, timed: frozenset[str], setting: Setting):
        self._execute, self._device, self._timed = execute, device, timed
        self._setting = setting

    def facts(self) -> dict[str, str | int | float | bool | None]:
        return self._execute.facts()

    def __enter__(self) -> Locked:
        self._execute.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._execute.__exit__(kind, error, traceback)

    def cut(self) -> None:
        """End what runs, from another thread."""
        if (cut := getattr(self._execute, "cut", None)) is not None:
            cut()

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        if task.suite not in self._timed:
            return self._execute(task, seconds)
        began = time.monotonic()
        until = float("inf") if seconds is None else began + seconds
        with held(self._device, until) as ours:
            left = None if seconds is None else seconds - (time.monotonic() - began)
            if ours and (left is None or left > 0):
                return self._execute(task, left)
        answer = Answer(SKIPPED, f"{self._device} was busy until the budget was used up")
        return make_record(task, self._setting, "unknown", answer, datetime.now(UTC), 0.0)
