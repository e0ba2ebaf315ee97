"""How far a run is and when it will end: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from fwpbench.harness.budget import Budget
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record
from fwpbench.harness.statuses import STATUSES, group_of

#: Plain lines come at most this often, in seconds.
EVERY = 10.0


class Remaining:
    """The seconds left: what each suite's cases took so far, for those still to come."""

    def __init__(self, tasks: Sequence[Task], budget: Budget | None = None):
        self._left, self._budget = Counter(task.suite for task in tasks), budget
        self._spent: dict[str, list[float]] = defaultdict(list)

    def add(self, record: Record) -> None:
        self._left[record.suite] -= 1
        self._spent[record.suite].append(record.seconds)

    def seconds(self) -> float:
        everything = [seconds for spent in self._spent.values() for seconds in spent]
        if not everything:
            return 0.0
        total = 0.0
        for suite, left in self._left.items():
            known = self._spent.get(suite) or everything
            total += left * sum(known) / len(known)
        return total

    def __str__(self) -> str:
        said = f"about {duration(self.seconds())} left"
        if self._budget is not None:
            said += f", {duration(max(0.0, self._budget.left()))} of the budget"
        return said


class Reporter(Protocol):
    def __call__(self, number: int, total: int, record: Record) -> None: ...
    def tell(self, done: int, total: int, words: str) -> None:
        """How far the case is that runs now."""

    def __enter__(self) -> Reporter: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Silent:
    """For --json."""

    def __call__(self, number: int, total: int, record: Record) -> None:
        pass

    def tell(self, done: int, total: int, words: str) -> None:
        pass

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Plain(Silent):
    """A line every few seconds, for logs and pipes: no control characters."""

    def __init__(self, tasks: Sequence[Task], budget: Budget | None = None):
        self._remaining = Remaining(tasks, budget)
        self._last = self._begun = time.monotonic()

    def __call__(self, number: int, total: int, record: Record) -> None:
        self._remaining.add(record)
        if STATUSES[record.status].fails_the_run:
            print(f"{record.status}: {record.key}: {record.reason}", flush=True)
        if number == total or time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(f"{number} of {total} · {record.suite} · {self._remaining}", flush=True)
        self._begun = time.monotonic()

    def tell(self, done: int, total: int, words: str) -> None:
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(f"  {within(done, total, words, self._last - self._begun)}", flush=True)


class Live(Silent):
    """One line that is redrawn; what is wrong or crashed scrolls by above it."""

    def __init__(self, tasks: Sequence[Task], console: Console, budget: Budget | None = None):
        self._remaining = Remaining(tasks, budget)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} · {task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=len(tasks), left="")
        self._begun = time.monotonic()

    def __call__(self, number: int, total: int, record: Record) -> None:
        self._remaining.add(record)
        if STATUSES[record.status].fails_the_run:
            self._bar.console.print(
                f"{record.status}: {record.key}: {record.reason}",
                style="red",
                markup=False,
                emoji=False,
                highlight=False,
            )
        self._bar.update(
            self._task,
            completed=number,
            total=total,
            description=record.suite,
            left=str(self._remaining),
        )
        self._begun = time.monotonic()

    def tell(self, done: int, total: int, words: str) -> None:
        seconds = time.monotonic() - self._begun
        self._bar.update(self._task, left=within(done, total, words, seconds))

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def make_reporter(tasks: Sequence[Task], budget: Budget | None = None, *, silent: bool) -> Reporter:
    if silent:
        return Silent()
    if sys.stdout.isatty():
        return Live(tasks, Console(), budget)
    return Plain(tasks, budget)


def within(done: int, total: int, words: str, seconds: float) -> str:
    """How far one case is, and when it will end if it goes on like this."""
    if not total:
        return f"step {done} · {words}"
    left = seconds / max(done, 1) * (total - done)
    return f"step {done} of {total} · {words} · about {duration(left)} for this case"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def groups(records: Sequence[Record]) -> dict[str, int]:
    """How many records of each status group there are, in the order of the statuses."""
    counts = Counter(group_of(record.status) for record in records)
    order = dict.fromkeys(status.group for status in STATUSES.values())
    return {group: counts[group] for group in order if counts[group]}
