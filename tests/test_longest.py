"""The longest sequence that fits: on a simulated memory, and in processes under a real limit."""

from __future__ import annotations

import sys

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.longest import RESOLUTION, Longest, longest
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem
from fwpbench.plugins import plugged
from fwpbench.suites import longest as suite

PROBLEM = Problem(
    rule="sum", phi="identity", norm="none", B=1, T=256, H=1, K=4, V=4, dtype="fp32",
    direction="forward",
)  # fmt: skip


class Memory:
    """So many bytes, and what a sequence of T tokens takes of them."""

    def __init__(self, size: float, constant: float, factor: float, exponent: int):
        self.size, self.law, self.tried = size, (constant, factor, exponent), []

    def fits(self, tokens: int) -> bool:
        assert tokens not in self.tried, "nothing is tried twice"
        self.tried.append(tokens)
        constant, factor, exponent = self.law
        return constant + factor * tokens**exponent <= self.size

    @property
    def truth(self) -> int:
        constant, factor, exponent = self.law
        return int(((self.size - constant) / factor) ** (1 / exponent) + 1e-9)


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("size", [3e3, 1e6, 1.7e9, 1e12])
@pytest.mark.parametrize("first", [1, 64, 1024])
def test_the_longest_is_found_on_a_simulated_memory(size, exponent, first):
    memory = Memory(size, constant=1e3, factor=7.0, exponent=exponent)
    found = longest(memory.fits, first, most=2**40)
    assert found.fits <= memory.truth < found.fails
    assert found.fails - found.fits <= max(1, RESOLUTION * found.fits)
    doublings = max(1, (max(memory.truth, 1) / first)).__ceil__().bit_length()
    assert len(memory.tried) <= doublings + 1 + max(4, first.bit_length()) + 1


def test_what_always_fits_ends_at_the_most():
    memory = Memory(1e12, 0, 1.0, 1)
    assert longest(memory.fits, 1024, most=2**15) == Longest(2**15, None)
    assert longest(lambda tokens: False, 64, most=2**15) == Longest(0, 1)


DYING = """
import ctypes, os
import torch
import fwpbench

def hungry(problem, inputs):
    # A mebibyte a token, said so.
    block = torch.empty(problem.T * 2**20, dtype=torch.int8)
    return fwpbench.IMPLEMENTATIONS["chunked"].run(problem, inputs)

def dying(problem, inputs):
    if problem.T > 300:
        os.kill(os.getpid(), 9)
    print("what it prints disturbs nobody")
    return fwpbench.IMPLEMENTATIONS["chunked"].run(problem, inputs)

def failing(problem, inputs):
    if problem.T > 300:
        raise ValueError("301 is too many")
    return fwpbench.IMPLEMENTATIONS["chunked"].run(problem, inputs)

IMPLEMENTATIONS = {
    "failing": fwpbench.Implementation(failing, "raises for 301 tokens"),
    "hungry": fwpbench.Implementation(hungry, "a mebibyte a token"),
    "dying": fwpbench.Implementation(dying, "dies of 301 tokens"),
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits what Linux maps")
def test_a_memory_limit_is_found_and_a_death_is_survived(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "wrong", lambda *_: None)
    monkeypatch.setitem(suite.BOUNDS, "quick", (0.5, 2**11))
    file = tmp_path / "dying.py"
    file.write_text(DYING)
    here = Setting(CpuDevice(), PROFILES["quick"], 0, (str(file),), "fwpbench.plugins:load_plugins")
    case = Case(PROBLEM, {"GiB": 0.5})
    with plugged([str(file)]):
        hungry = suite.answer(case, IMPLEMENTATIONS["hungry"], here)
        assert hungry.status == "ok", hungry.reason
        # 512 MiB, less what the call itself and the allocator map besides.
        assert 512 * 0.8 <= hungry.metrics["longest"].value <= 512
        assert not hungry.tags
        failing = suite.answer(case, IMPLEMENTATIONS["failing"], here)
        assert failing.status == "runtime-error", "it did not fit, but not for lack of memory"
        assert failing.reason.endswith("not for memory: ValueError: 301 is too many")
        dying = suite.answer(case, IMPLEMENTATIONS["dying"], here)
        assert dying.metrics["longest"].value <= 300 < dying.metrics["longest"].high
        assert "its process ended with -9" in dict(dying.detail["tried"]).values()
