"""Implementations run in a process of their own: what ends it costs one record, never the run.

One worker takes tasks one by one, so that torch is imported once for many; it is replaced after
every suite, after `BATCH` tasks, and whenever it died, hung, ran out of memory or left its device
in a state that nothing recovers from. The parent never calls an implementation.
"""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fwpbench.harness.engine import Log, make_record
from fwpbench.harness.environment import Value, memory_bytes, usable_cores
from fwpbench.harness.plan import Task, task_as_json
from fwpbench.harness.records import LONGEST_LINE, BadRecord, Record, from_own_line
from fwpbench.harness.statuses import SKIPPED, STATUSES
from fwpbench.harness.suite import Answer, Setting
from fwpbench.harness.worker import FOLDERS
from fwpbench.operators.errors import UserError

#: A worker is replaced after this many tasks: what leaks, and what is left behind, ends there.
BATCH = 2000
#: Seconds that a worker may take to import torch.
LONGEST_START = 120.0
#: Of the machine's memory, what a worker on the CPU may allocate.
MEMORY_SHARE = 0.8
#: Bytes kept of what a task wrote to stdout and stderr: the last ones.
LONGEST_LOG = 64 * 2**10
LINES_IN_RECORD = 30
#: How often to look whether a worker is alive whose pipes somebody else holds open.
EVERY = 0.2

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from fwpbench.harness.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_CUT_OFF = Answer(SKIPPED, "the budget of the run was used up before it ended")
_STATUS_OF = {
    signal.SIGSEGV: "illegal-access",
    signal.SIGBUS: "illegal-access",
    signal.SIGKILL: "out-of-memory",
}


class Died(Exception):
    """The worker is gone, with this exit code; None where only its pipe is."""

    def __init__(self, code: int | None):
        self.code = code


class Late(Exception):
    """The worker did not answer in time."""


class Isolated:
    """Runs tasks in a worker; leaving it as a context manager leaves no process behind.

    `suites` says where the worker finds the table of suites, as "module:object", `load_plugins` who
    loads the setting's plugins there, `limit` how long one task may take, in seconds, since it last
    told how far it is, `visible` which GPU it sees, where not all that are seen here, and `beside`
    how many others it shares cores and memory with. The thread that makes it must live as long as
    it is used: where that thread ends, Linux takes the worker for orphaned.
    """

    def __init__(
        self,
        suites: str,
        setting: Setting,
        log: Log | None = None,
        limit: float | None = None,
        load_plugins: str | None = None,
        visible: str | None = None,
        beside: int = 0,
    ):
        self._suites, self._setting, self._log = suites, setting, log
        self._visible, self._cut = visible, False
        self._load_plugins = load_plugins
        self.limit = setting.profile.limit if limit is None else limit
        workers = 1 + beside
        self.threads = min(torch.get_num_threads(), max(1, usable_cores() // workers))
        memory = memory_limit() if setting.device.kind == "cpu" else None
        self.memory = None if memory is None else memory // workers
        self.started = 0
        self._worker: _Worker | None = None
        self._suite = ""

    def facts(self) -> dict[str, Value]:
        """What the environment tells of it."""
        return {
            "isolation": 1,
            "workers": 1,
            "threads": self.threads,
            "memory limit bytes": self.memory,
            "case limit s": self.limit,
        }

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """End what runs, from another thread: nobody waits for its record any more."""
        self._cut = True
        if (worker := self._worker) is not None:
            worker.kill()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def __call__(self, task: Task, seconds: float | None = None) -> Record:
        """The record of a task. One that is not done in `seconds`, the start of a process included,
        is `skipped`: they are what is left of the run's budget, whereas `limit` is the case's own.
        """
        started, clock, origin = datetime.now(UTC), time.perf_counter(), "unknown"
        end = math.inf if seconds is None else clock + seconds
        if self._worker is not None and (self._suite != task.suite or self._worker.taken >= BATCH):
            self.close()
        self._suite = task.suite
        try:
            worker = self._give(task, end)
        except Late:
            took = time.perf_counter() - clock
            return make_record(task, self._setting, origin, _CUT_OFF, started, took)
        except Died as death:
            raise UserError(
                f"a process for {task.key} cannot be kept alive: {_ending(death.code)}"
            ) from None
        clock, record = time.perf_counter(), None
        answer = Answer("runtime-error", "its process answered what is no record")
        try:
            worker.deadline = min(clock + self.limit, end)
            for message in worker.messages():
                if isinstance(named := message.get("origin"), str):
                    origin = named
                elif "progress" in message:
                    done, total, words = message["progress"]
                    self._setting.tell(int(done), int(total), str(words))
                    worker.deadline = min(time.perf_counter() + self.limit, end)
                elif "record" in message:
                    record = from_own_line(message["record"])
                    break
        except Died as death:
            answer = self._death(death.code, worker)
        except Late:
            reason = f"took longer than {self.limit:g} s and was ended"
            answer = _CUT_OFF if end <= worker.deadline else Answer("timeout", reason)
        except (BadRecord, TypeError, ValueError):
            pass
        if record is not None and record.key == task.key and record.status in STATUSES:
            self._say(task, worker.text())
            if _spoils(record):
                self.close()
            return record
        self.close()
        text = worker.text()
        self._say(task, text)
        answer = _with_log(answer, text)
        return make_record(
            task, self._setting, origin, answer, started, time.perf_counter() - clock
        )

    def _give(self, task: Task, end: float) -> _Worker:
        """Hand the task to a worker that has begun it. One that died idle is replaced once.

        Raises Late where that takes until `end`.
        """
        for attempt in (1, 2):
            if self._cut:
                raise Died(None)
            if self._worker is None:
                self._worker = _Worker(self._order(), end)
                self.started += 1
                self._say(task, self._worker.text())
            worker = self._worker
            try:
                worker.send(task_as_json(task))
                worker.deadline = min(time.perf_counter() + LONGEST_START, end)
                for message in worker.messages():
                    if message.get("began") == task.key:
                        worker.taken += 1
                        return worker
            except (Died, Late, BadRecord) as failure:
                self.close()
                if isinstance(failure, Late) and time.perf_counter() >= end:
                    raise
                if attempt == 2:
                    raise Died(getattr(failure, "code", None)) from None
        raise AssertionError("unreachable")

    def _order(self) -> dict[str, Any]:
        return {
            "parent": os.getpid(),
            "suites": self._suites,
            "device": self._setting.device.kind,
            "profile": asdict(self._setting.profile),
            "seed": self._setting.seed,
            "threads": self.threads,
            "memory": self.memory,
            "load_plugins": self._load_plugins,
            "visible": self._visible,
            "plugins": self._setting.plugins,
            **{name: path and str(path) for name, path in self._folders().items()},
        }

    def _folders(self) -> dict[str, Path | None]:
        return {name: getattr(self._setting, name) for name in FOLDERS}

    def _say(self, task: Task, text: str) -> None:
        if self._log is not None and text.strip():
            self._log(task, text)

    def _death(self, code: int | None, worker: _Worker) -> Answer:
        status = "runtime-error"
        if code is not None and code < 0:
            status = _STATUS_OF.get(signal.Signals(-code), status)
        if re.search(r"bad_alloc|MemoryError|[Oo]ut of memory", worker.text(keep=True)):
            status = "out-of-memory" if status == "runtime-error" else status
        return Answer(status, _ending(code))


def memory_limit() -> int | None:
    """What a worker may allocate: a share of what the machine, or its container, has."""
    known = [memory_bytes()]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            known.append(int(file.read()))  # "max" is no number
    least = min((size for size in known if size is not None), default=None)
    return None if least is None else int(least * MEMORY_SHARE)


def _ending(code: int | None) -> str:
    if code is None:
        return "its process closed its pipe"
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"


def _spoils(record: Record) -> bool:
    """Whether what follows in the same process may fail for this record's reason."""
    return record.status in ("illegal-access", "out-of-memory") or "CUDA error" in record.reason


def _with_log(answer: Answer, text: str) -> Answer:
    lines = text.strip().splitlines()[-LINES_IN_RECORD:]
    return Answer(answer.status, answer.reason, detail={"log": lines} if lines else {})


class _Worker:
    """One process and its pipes. Raises Died and Late; Late also where it is not there by `end`."""

    def __init__(self, order: dict[str, Any], end: float):
        self.taken = 0
        #: Until when it may be silent, as a moment of time.perf_counter().
        self.deadline = 0.0
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        command = [sys.executable, "-c", _START, json.dumps(sys.path), str(orders), str(answers)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(orders, answers),
                start_new_session=True,  # so that what it starts can be ended with it
            )
        finally:
            os.close(orders)
            os.close(answers)
        assert self._process.stdout is not None
        self._printed = self._process.stdout.fileno()
        self._waiting = selectors.DefaultSelector()
        for pipe in (self._answers, self._printed):
            os.set_blocking(pipe, False)
            self._waiting.register(pipe, selectors.EVENT_READ)
        self._incoming, self._said = bytearray(), bytearray()
        try:
            self.send(order)
            self.deadline = min(time.perf_counter() + LONGEST_START, end)
            next(iter(self.messages()))
        except (Died, Late, BadRecord) as failure:
            self.end()
            if isinstance(failure, Late) and time.perf_counter() >= end:
                raise
            lines = self.text().strip().splitlines()
            why = _ending(failure.code) if isinstance(failure, Died) else "it did not answer"
            raise UserError(
                f"no process for implementations could be started: {why}"
                + (f" ({lines[-1]})" if lines else "")
            ) from None
        except BaseException:
            self.end()
            raise

    def send(self, message: dict[str, Any]) -> None:
        try:
            data = memoryview(json.dumps(message).encode() + b"\n")
            while data:
                data = data[os.write(self._orders, data) :]
        except BrokenPipeError:
            raise Died(self._code()) from None

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it says, as it says it, until `deadline`, which may be moved while it speaks."""
        while True:
            while (end := self._incoming.find(b"\n")) >= 0:
                line = bytes(self._incoming[:end])
                del self._incoming[: end + 1]
                try:
                    message = json.loads(line)
                except (ValueError, RecursionError):
                    raise BadRecord("no JSON") from None
                if not isinstance(message, dict):
                    raise BadRecord("no object")
                yield message
            if len(self._incoming) > 2 * LONGEST_LINE:
                raise BadRecord("longer than any record")
            if (left := self.deadline - time.perf_counter()) <= 0:
                raise Late
            # Somebody it started may hold its pipes open: then only its end is seen.
            ended = self._process.poll() is not None
            ready = {key.fd for key, _ in self._waiting.select(0 if ended else min(left, EVERY))}
            if self._printed in ready:
                self._listen()
            if self._answers in ready:
                if not (data := self._read(self._answers)):
                    raise Died(self._code())
                self._incoming += data
            elif ended:
                raise Died(self._code())

    def text(self, *, keep: bool = False) -> str:
        """What it printed since this was last asked, the end of it."""
        self._listen()
        text = self._said.decode("utf-8", "replace")
        if not keep:
            self._said.clear()
        return text

    def _listen(self) -> None:
        while self._printed >= 0 and (data := self._read(self._printed)):
            self._said += data
            if len(data) < 2**16:
                break
        del self._said[:-LONGEST_LOG]

    def _read(self, pipe: int) -> bytes:
        """What there is; nothing, and no longer waited for, at its end."""
        try:
            data = os.read(pipe, 2**16)
        except BlockingIOError:
            return b""
        if not data:
            with suppress(KeyError):
                self._waiting.unregister(pipe)
        return data

    def _code(self) -> int | None:
        """Its exit code, once its pipe is closed; None where it lives on without."""
        try:
            return self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and what it started, and wait until it is gone."""
        if self._printed < 0:
            return
        self.kill()
        self._process.wait()
        self._listen()
        self._waiting.close()
        os.close(self._orders)
        os.close(self._answers)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._printed = -1
