"""The function of `fwpbench check FILE.py:FUNCTION` is judged in a process of its own.

What ends that process (a segmentation fault, os._exit, a hang) is a verdict too: the parent knows
which problem was asked, imports no torch unless it has to, and prints what the child prints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from contextlib import suppress
from queue import Empty, Queue
from shutil import get_terminal_size
from typing import IO

#: Seconds for one problem; --timeout gives more. Importing torch and the file may take longer.
LIMIT, LONGEST_START = 15.0, 120.0
#: Told where all is judged, and what is left is ours.
JUDGED = "judged"

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from fwpbench.commands.own_process import serve; serve(int(sys.argv[2]), sys.argv[3:])"
)

#: What came, and from where: a line of "out", "err" or "told", or None at its end.
Line = tuple[str, str | None]


def judged_in_own_process(arguments: Namespace) -> int:
    """The exit code; 1 where the process did not come to its own end."""
    told, telling = os.pipe()
    command = [sys.executable, "-c", _START, json.dumps(sys.path), str(telling)]
    try:
        child = subprocess.Popen(
            [*command, *arguments.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=(telling,),
            env=os.environ
            | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
            | ({"COLUMNS": str(get_terminal_size().columns)} if sys.stdout.isatty() else {}),
            start_new_session=True,  # so that what it starts can be ended with it
        )
    finally:
        os.close(telling)
    assert child.stdout is not None
    assert child.stderr is not None
    lines: Queue[Line] = Queue()
    tells = os.fdopen(told, encoding="utf-8")
    for name, pipe in (("out", child.stdout), ("err", child.stderr), ("told", tells)):
        threading.Thread(target=_read, args=(name, pipe, lines), daemon=True).start()
    try:
        return _followed(child, lines, arguments)
    finally:
        _end(child)


def _read(name: str, pipe: IO[str], lines: Queue[Line]) -> None:
    for line in pipe:
        lines.put((name, line))
    lines.put((name, None))


def _followed(child: subprocess.Popen[str], lines: Queue[Line], arguments: Namespace) -> int:
    """Print what it prints, and know what it is at."""
    limit = arguments.timeout or LIMIT
    asked, until, open_ = "", time.monotonic() + max(limit, LONGEST_START), {"out", "err", "told"}
    while open_:
        try:
            name, line = lines.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            _end(child)
            return _verdict(
                "timeout",
                f"took longer than {limit:g} s (--timeout gives more) and was ended",
                asked,
                arguments.json,
            )
        if line is None:
            open_.discard(name)
            if name == "told":  # its own end, or the end of it; what it started may print for ever
                until = min(until, time.monotonic() + 2)
                if not asked.startswith("ended "):
                    break
        elif name == "told":
            asked = line.rstrip("\n")
            ours = asked == JUDGED or asked.startswith("ended ")
            until = time.monotonic() + (LONGEST_START if ours else limit)
        else:
            print(line, end="", file=sys.stdout if name == "out" else sys.stderr, flush=True)
    if asked.startswith("ended "):
        return int(asked.removeprefix("ended "))
    return _verdict(*_ending(child), asked, arguments.json)


def _ending(child: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        code = child.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return "runtime-error", "its process closed what it was given to answer with"
    if code >= 0:
        return "runtime-error", f"its process ended with exit code {code}"
    crashed = -code in (signal.SIGSEGV, signal.SIGBUS)
    status = "illegal-access" if crashed else "runtime-error"
    return (
        "out-of-memory" if -code == signal.SIGKILL else status,
        f"its process was ended by {signal.Signals(-code).name}",
    )


def _verdict(status: str, reason: str, asked: str, as_json: bool) -> int:
    """`asked` is the record of a problem that has no answer, or the command, or nothing yet."""
    record = json.loads(asked) if asked.startswith("{") else None
    if as_json and record is not None:
        print(json.dumps(record | {"status": status, "reason": reason}, ensure_ascii=False))
        return 1
    command = asked if record is None else record["command"]
    # Where JSON is asked for, stdout has nothing else.
    stream = sys.stderr if as_json else sys.stdout
    print(f"{status}: {reason}" + (f"\n  {command}" if command else ""), file=stream)
    said = "nothing after that problem was asked" if command else "nothing was asked"
    print(f"wrong: {said}", file=stream)
    return 1


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def serve(telling: int, words: list[str]) -> None:
    """The child: judge, and tell the parent which problem is next, and the exit code at the end."""
    os.set_inheritable(telling, False)
    from fwpbench.cli import main
    from fwpbench.commands import check
    from fwpbench.harness.isolation import memory_limit
    from fwpbench.harness.worker import die_with, limit_memory

    die_with(os.getppid())

    def tell(text: str) -> None:
        os.write(telling, f"{text}\n".encode())

    check.begin = tell
    if (most := memory_limit()) is not None and "cuda" not in words:
        limit_memory(most)
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    tell(f"ended {code}")
    os._exit(code)  # threads that it left behind hold nothing up
