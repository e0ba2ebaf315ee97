"""How long a sequence fits into a given memory, inputs and gradients included?

Lengths are doubled until one does not fit and then bisected (harness/longest.py), each tried in a
process of its own that may allocate so many bytes and no more. What runs out of memory says so and
is asked again; what dies of it is started again: a run never does.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from fwpbench.harness.longest import longest
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem
from fwpbench.suites.first_call import name_of
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import make_call, wrong

#: By profile: GiB that may be allocated, and the largest T that is tried.
BOUNDS = {"quick": (0.25, 2**15), "standard": (1.0, 2**18), "full": (8.0, 2**21)}
QUICK = "Delta Network"
FIRST = 1024
LONGEST_TRIAL = 60.0
#: What begins a reason that is no lack of memory.
OTHER = "not for memory"
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); " + (
    "from fwpbench.suites.longest import main; main(json.loads(sys.argv[2]))"
)


def cases(profile: Profile) -> Sequence[Case]:
    gib, _ = BOUNDS[profile.name]
    form = {"B": 1, "H": 2, "K": 64, "V": 64, "direction": "forward+backward"}
    excluded = {"reference": "one token at a time: long before memory it runs out of patience"}
    return [
        Case(case.problem, {"GiB": gib}, case.name, excluded)
        for case in named_cases(profile, (FIRST,), form)
        if profile.name != "quick" or case.name == QUICK
    ]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    if (refusal := wrong(case.problem, implementation, setting)) is not None:
        return refusal
    if (name := name_of(implementation)) is None:
        return Answer("unsupported", "another process finds only what the tables name")
    most = BOUNDS[setting.profile.name][1]
    told: dict[int, str] = {}
    order = {
        "problem": str(case.problem),
        "implementation": name,
        "device": setting.device.kind,
        "seed": setting.seed,
        "bytes": int(float(case.parameters["GiB"]) * 2**30),
        "plugins": setting.plugins,
        "load_plugins": setting.load_plugins,
    }
    with Trials(order) as trials:

        def fits(tokens: int) -> bool:
            setting.tell(len(told), 0, f"T = {tokens:,}")
            told[tokens] = trials(tokens)
            return told[tokens] == ""

        found = longest(fits, case.problem.T, most)
    detail = {"tried": [[tokens, said or "fits"] for tokens, said in told.items()]}
    reason = "" if found.fails is None else told[found.fails]
    status = "ok"
    if reason.startswith(OTHER) or reason.endswith("ended with -11"):  # SIGSEGV
        status = "illegal-access" if reason.endswith("-11") else "runtime-error"
    elif not found.fits:
        status = "out-of-memory"
    said = f"T = {found.fails}: {reason}" if status != "ok" else ""
    if not found.fits:
        return Answer(status, said, detail=detail)
    fitted = Measurement(value=found.fits, unit="1", low=found.fits, high=found.fails)
    bounded = found.fails is None or "took longer" in reason
    tags = ["lower-bound"] if bounded else []
    return Answer(status, said, {"longest": fitted}, tags=tags, detail=detail)


class Trials:
    """A process that tries one length after another; "" for one that fits, else why it does not."""

    def __init__(self, order: dict[str, Any], seconds: float = LONGEST_TRIAL) -> None:
        self._order, self._seconds = order, seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, tokens: int) -> str:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{tokens}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return f"its process ended with {self._end()}"
        waiting = selectors.DefaultSelector()
        waiting.register(process.stdout, selectors.EVENT_READ)
        ready = waiting.select(self._seconds)
        waiting.close()
        if not ready:
            self._end()
            return f"took longer than {self._seconds:g} s"
        line = process.stdout.readline()
        if not line.strip():
            return f"its process ended with {self._end()}"
        said: str = json.loads(line)
        return said

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [
                *(sys.executable, "-c", _START),
                *(json.dumps(sys.path), json.dumps(self._order)),
            ]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self._process

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            code: int | None = process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return code


def main(order: dict[str, Any]) -> None:
    """In the process of its own: try each length that comes, and say "" or why it does not fit."""
    import importlib

    import torch

    from fwpbench.harness.device import DEVICES
    from fwpbench.harness.engine import out_of_memory
    from fwpbench.harness.profiles import PROFILES
    from fwpbench.harness.worker import die_with, limit_memory
    from fwpbench.implementations import IMPLEMENTATIONS

    die_with(os.getppid())
    # What implementations print is not what is answered.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if order["plugins"] and order["load_plugins"] is not None:
        module, _, name = order["load_plugins"].partition(":")
        getattr(importlib.import_module(module), name)(tuple(order["plugins"]))
    setting = Setting(DEVICES[order["device"]](), PROFILES["quick"], order["seed"])
    problem, implementation = (
        Problem.parse(order["problem"]),
        IMPLEMENTATIONS[order["implementation"]],
    )
    make_call(problem.replace(T=2), implementation, setting)()  # what is loaded once is not counted
    if order["device"] == "cuda":
        whole = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, order["bytes"] / whole))
    else:
        limit_memory(order["bytes"])
    for line in sys.stdin:
        said = ""
        try:
            make_call(problem.replace(T=int(line)), implementation, setting)()
            setting.device.synchronize()
        except BaseException as error:  # whatever it raises, it did not fit in
            said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]
            if not out_of_memory(error):
                said = f"{OTHER}: {said}"
        answers.write(json.dumps(said) + "\n")
        answers.flush()


SUITE = Suite(
    question="How long a sequence fits into memory?",
    cases=cases,
    answer=answer,
    metrics={"longest": Metric("1", "higher", "tokens of the longest sequence that fitted")},
)
