"""How long does the first call of a process take, before anything is compiled?

Each case starts a process of its own whose caches of compiled code (Triton's, torch.compile's, the
driver's) are an empty folder, and times its first call and five later ones. Where that left
anything in the folder, a second process finds it there: its first call loads what the first one
compiled. Imports and the start of the device come before the clock.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import make_call, wrong

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "FWPBENCH_CACHE")
LATER = 5
#: Of the quick profile: starting a process takes seconds.
QUICK = "Delta Network"
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); " + (
    "from fwpbench.suites.first_call import main; main(json.loads(sys.argv[2]))"
)


def cases(profile: Profile) -> Sequence[Case]:
    form = {"B": 1, "H": 4, "K": 64, "V": 64, "direction": "forward+backward"}
    found = named_cases(profile, (256,), form)
    return [case for case in found if profile.name != "quick" or case.name == QUICK]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    if (refusal := wrong(case.problem, implementation, setting)) is not None:
        return refusal
    if (name := name_of(implementation)) is None:
        return Answer("unsupported", "another process finds only what the tables name")
    with tempfile.TemporaryDirectory() as folder:
        empty = _in_a_process(case.problem, name, setting, folder)
        if isinstance(empty, Answer):
            return empty
        metrics = {"first call": empty["first"], "later call": empty["later"]}
        if empty["autotune"] is not None:
            metrics["autotune"] = empty["autotune"]
        compiled = sum(file.is_file() for file in Path(folder).rglob("*"))
        if compiled:
            filled = _in_a_process(case.problem, name, setting, folder)
            if isinstance(filled, Answer):
                return filled
            metrics["first call, disk cache"] = filled["first"]
    return Answer(
        metrics={name: Measurement(value=value, unit="s") for name, value in metrics.items()},
        detail={"files compiled": compiled, "domain": "call"},
    )


def name_of(implementation: Implementation) -> str | None:
    for name in IMPLEMENTATIONS:
        with suppress(ImportError):
            if IMPLEMENTATIONS[name] is implementation:
                return name
    return None


def _in_a_process(
    problem: Problem, implementation: str, setting: Setting, folder: str
) -> dict[str, Any] | Answer:
    order = {
        "problem": str(problem),
        "implementation": implementation,
        "device": setting.device.kind,
        "seed": setting.seed,
        "plugins": setting.plugins,
        "load_plugins": setting.load_plugins,
    }
    command = [sys.executable, "-c", _START, json.dumps(sys.path), json.dumps(order)]
    try:
        done = subprocess.run(
            command,
            env=os.environ | dict.fromkeys(CACHES, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=setting.profile.limit / 3,
        )
    except subprocess.TimeoutExpired as late:
        return Answer("timeout", f"its first call took longer than {late.timeout:.0f} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return Answer(
            "runtime-error",
            f"a process of its own ended with {done.returncode}: {lines[-1] if lines else ''}",
        )
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main(order: dict[str, Any]) -> None:
    """In the process of its own: time a first call and later ones, and print what was found."""
    import torch

    from fwpbench.harness.device import DEVICES
    from fwpbench.harness.profiles import PROFILES

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    if order["plugins"] and order["load_plugins"] is not None:
        module, _, name = order["load_plugins"].partition(":")
        getattr(importlib.import_module(module), name)(tuple(order["plugins"]))
    setting = Setting(DEVICES[order["device"]](), PROFILES["quick"], order["seed"])
    problem, device = Problem.parse(order["problem"]), setting.device
    call = make_call(problem, IMPLEMENTATIONS[order["implementation"]], setting)
    device.synchronize()
    seconds = []
    for _ in range(1 + LATER):
        began = device.now()
        call()
        device.synchronize()
        seconds.append(device.now() - began)
    found = {"first": seconds[0], "later": statistics.median(seconds[1:])}
    print(json.dumps(found | {"autotune": _autotuning()}))


def _autotuning() -> float | None:
    """Seconds that Triton's autotuners took to choose; None where there was none to choose."""
    if (triton := sys.modules.get("triton.runtime.autotuner")) is None:
        return None
    tuners = [each for each in gc.get_objects() if isinstance(each, triton.Autotuner)]
    taken = [tuner.bench_time for tuner in tuners if getattr(tuner, "bench_time", None)]
    return float(sum(taken)) if taken else None


SUITE = Suite(
    question="How long does the first call take?",
    cases=cases,
    answer=answer,
    metrics={
        "first call": Metric("s", "lower", "of a process, with empty caches of compiled code"),
        "first call, disk cache": Metric("s", "lower", "where another process has compiled"),
        "later call": Metric("s", "lower", "median of the five that follow the first"),
        "autotune": Metric("s", "lower", "of the first call: Triton's search for a configuration"),
    },
)
