"""The process that implementations run in: it takes tasks one by one and answers with records.

Lines of JSON in both directions, because what comes back was written beside a stranger's code:
    in    an order (suites, plugins, device, profile, seed, threads, memory), then tasks
    out   ready; then for each task: began, its origin, how far it is, its record
It ends when nothing more can come, and on Linux at once when its parent dies.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1
#: What an order says of folders: paths, or null.
FOLDERS = ("data_dir", "checkpoints")


def main(orders: int, answers: int) -> None:
    """Serve the parent at the other ends of these two pipes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to decide about
    for pipe in (orders, answers):
        os.set_inheritable(pipe, False)
    with open(orders, encoding="utf-8") as incoming, open(answers, "w", encoding="utf-8") as out:
        order = json.loads(incoming.readline())
        die_with(order["parent"])
        if order["visible"] is not None:  # before torch looks for its devices
            os.environ["CUDA_VISIBLE_DEVICES"] = order["visible"]
        _serve(order, incoming, out)


def _serve(order: dict[str, Any], incoming: IO[str], out: IO[str]) -> None:
    import faulthandler

    import torch

    from fwpbench.harness.device import DEVICES
    from fwpbench.harness.engine import run_task
    from fwpbench.harness.plan import Task, task_from_json
    from fwpbench.harness.profiles import Profile
    from fwpbench.harness.records import to_line
    from fwpbench.harness.suite import Setting
    from fwpbench.implementations import IMPLEMENTATIONS

    plugins = tuple(order["plugins"])
    if plugins and order["load_plugins"] is not None:
        _named(order["load_plugins"])(plugins)
    suites = _named(order["suites"])
    faulthandler.enable()  # where a segmentation fault happened, on stderr
    torch.set_num_threads(order["threads"])
    if order["memory"] is not None:
        limit_memory(order["memory"])
    profile = Profile.from_json(order["profile"])
    data_dir, checkpoints = (order[name] and Path(order[name]) for name in FOLDERS)

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def tell(done: int, total: int, words: str) -> None:
        say({"progress": [done, total, words]})

    setting = Setting(
        device=DEVICES[order["device"]](),
        profile=profile,
        seed=order["seed"],
        plugins=plugins,
        load_plugins=order["load_plugins"],
        data_dir=data_dir,
        checkpoints=checkpoints,
        tell=tell,
    )

    def log(task: Task, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    say({"ready": True})
    for line in incoming:
        task = task_from_json(json.loads(line))
        say({"began": task.key})
        # What cannot be loaded is told by the record.
        with suppress(Exception, SystemExit):
            say({"origin": IMPLEMENTATIONS[task.implementation].origin})
        record = run_task(task, suites[task.suite], setting, log)
        sys.stdout.flush()
        say({"record": to_line(record)})


def _named(where: str) -> Any:
    """What "module:object" names."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def die_with(parent: int) -> None:
    """Linux: be killed when the parent dies, also where a call never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that was asked for
            sys.exit("the parent is gone")


def limit_memory(more: int) -> None:
    """Allow this many bytes beyond what is mapped already: the libraries of torch alone are GBs."""
    if sys.platform == "linux":
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = mapped + more
        if hard == resource.RLIM_INFINITY or wanted < hard:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))
