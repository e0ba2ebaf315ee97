"""First calls, on an implementation whose compilation is a nap and a file in the cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem
from fwpbench.plugins import plugged
from fwpbench.suites import first_call

PROBLEM = Problem(
    rule="delta", phi="identity", norm="l2", B=1, T=5, H=1, K=4, V=3, dtype="fp32",
    direction="forward",
)  # fmt: skip
NAPPING = """
import os, time
from pathlib import Path
import fwpbench

ready = False

def run(problem, inputs):
    global ready
    if not ready:
        kernel = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel"
        time.sleep(0.5 if kernel.exists() else 2.0)
        kernel.touch()
        ready = True
    return fwpbench.IMPLEMENTATIONS["chunked"].run(problem, inputs)

def crash(problem, inputs):
    os._exit(3)

IMPLEMENTATIONS = {
    "napping": fwpbench.Implementation(run, "naps"),
    "crashing": fwpbench.Implementation(crash, "ends its process"),
}
"""


@pytest.fixture(autouse=True)
def no_gate(monkeypatch):
    monkeypatch.setattr(first_call, "wrong", lambda *_: None)


def answer(implementation: str, *plugins: str):
    here = Setting(
        CpuDevice(), PROFILES["quick"], 0, plugins, load_plugins="fwpbench.plugins:load_plugins"
    )
    return first_call.answer(Case(PROBLEM), IMPLEMENTATIONS[implementation], here)


def test_what_compiles_has_a_first_call_with_an_empty_and_with_a_filled_cache(tmp_path: Path):
    file = tmp_path / "napping.py"
    file.write_text(NAPPING)
    with plugged([str(file)]):
        found = answer("napping", str(file))
        assert found.status == "ok", found.reason
        seconds = {name: measured.value for name, measured in found.metrics.items()}
        assert set(seconds) == {"first call", "first call, disk cache", "later call"}
        assert seconds["first call"] >= 2.0
        assert seconds["first call, disk cache"] >= 0.5
        assert seconds["later call"] < 0.5 < 2.0 < seconds["first call"]
        assert found.detail["files compiled"] == 1
        crashed = answer("crashing", str(file))
        assert (crashed.status, crashed.reason) == (
            "runtime-error", "a process of its own ended with 3: ",
        )  # fmt: skip


def test_what_compiles_nothing_has_no_cache_to_find():
    found = answer("chunked")
    assert set(found.metrics) == {"first call", "later call"}
    assert found.detail["files compiled"] == 0


def test_quick_asks_it_of_one_operator():
    assert len(first_call.cases(PROFILES["quick"])) == 1
    assert len(first_call.cases(PROFILES["standard"])) > 8
