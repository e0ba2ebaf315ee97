"""Several stations at work at once, each with a device of its own: one worker a GPU.

All implementations of a case go to one station: two GPUs of a kind differ by more than what is
looked for, and what is found once for a case is shared.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from queue import SimpleQueue
from types import TracebackType

from fwpbench.harness.budget import Budget
from fwpbench.harness.engine import Executor
from fwpbench.harness.environment import Value
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record


def by_case(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks that follow each other and ask the same."""
    return [list(same) for _, same in groupby(tasks, lambda task: (task.suite, task.case))]


class Pool:
    """Runs tasks on as many stations as there are makers of executors, one thread each.

    Leaving it ends what is still running.
    """

    def __init__(self, makers: Sequence[Callable[[], Executor]]):
        self._makers = makers
        self._stop = threading.Event()
        self._executors: list[Executor] = []
        self._threads: list[threading.Thread] = []

    def facts(self) -> dict[str, Value]:
        with self._makers[0]() as one:
            return one.facts() | {"workers": len(self._makers)}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for execute in self._executors:
            if (cut := getattr(execute, "cut", None)) is not None:
                cut()
        for thread in self._threads:
            thread.join()

    def records(self, tasks: Sequence[Task], budget: Budget | None = None) -> Iterator[Record]:
        """One record a task that was begun, as they are done, in any order."""
        cases = deque(by_case(tasks))
        said: SimpleQueue[Record | BaseException | None] = SimpleQueue()

        def work(make: Callable[[], Executor]) -> None:
            try:
                with make() as execute:
                    self._executors.append(execute)
                    while cases:
                        try:
                            case = cases.popleft()
                        except IndexError:  # another was quicker
                            return
                        for task in case:
                            seconds = None if budget is None else budget.left()
                            if self._stop.is_set() or (seconds is not None and seconds <= 0):
                                return
                            said.put(execute(task, seconds))
            except BaseException as error:  # told by the thread that waits for records
                said.put(error)
            finally:
                said.put(None)

        self._threads = [
            threading.Thread(target=work, args=(make,), daemon=True) for make in self._makers
        ]
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            match said.get():
                case None:
                    working -= 1
                case BaseException() as error:
                    raise error
                case record:
                    yield record
