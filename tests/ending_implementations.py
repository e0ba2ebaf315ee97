"""Implementations that take their process with them, each in its own way; found by entry points.

`announce(folder)` writes what a package would have installed: with that folder on the path, every
new process has them in its table.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fwpbench.implementations.base import Implementation, Output
from fwpbench.implementations.reference import run as run_law
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem

_HELD: list[Any] = []
_BROKEN: list[bool] = []


def _made(end: Callable[[], object]) -> Implementation:
    def run(problem: Problem, inputs: Inputs) -> Output:
        end()
        return run_law(problem, inputs)

    return Implementation(run, "made for a test", origin="third-party")


def _allocate_everything() -> None:
    while True:
        _HELD.append(bytearray(2**24))


def _cuda_error() -> None:
    _BROKEN.append(True)
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")


def _as_cuda_is_now() -> None:
    """Every call after an illegal access fails like it, until the process ends."""
    if _BROKEN or _HELD:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _exit_loudly() -> None:
    print("on stdout", flush=True)
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


def _leave_a_child_behind() -> None:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)


def _end_later() -> None:
    threading.Timer(0.1, os._exit, [0]).start()


def _kill(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


segfault = _made(lambda: ctypes.string_at(0))
killed = _made(_kill(signal.SIGKILL))
exits = _made(lambda: os._exit(0))
exits_loudly = _made(_exit_loudly)
hangs = _made(lambda: time.sleep(600))
allocates = _made(_allocate_everything)
cuda_error = _made(_cuda_error)
forks = _made(_leave_a_child_behind)
interrupts = _made(_kill(signal.SIGINT))
ends_later = _made(_end_later)
healthy = _made(_as_cuda_is_now)

NAMES = [name for name, thing in list(globals().items()) if isinstance(thing, Implementation)]


def announce(folder: Path) -> None:
    package = folder / "ending-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: ending\nVersion: 1.0\n")
    rows = [f"{name.replace('_', '-')} = {__name__}:{name}" for name in NAMES]
    (package / "entry_points.txt").write_text(
        "\n".join(["[fwpbench.implementations]", *rows, ""]), encoding="utf-8"
    )
