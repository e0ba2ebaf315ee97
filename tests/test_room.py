"""How deep a program stands says nothing of how long a call takes."""

from __future__ import annotations

import resource
import sys

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.engine import run_task
from fwpbench.harness.plan import Task
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Answer, Case, Setting, Suite
from fwpbench.implementations._room import with_room
from fwpbench.operators.problem import Problem

CALLS = 200
#: Of 16 KB a frame takes some hundred bytes: among so many depths there is the end of a piece.
DEPTHS = range(200)


def two_deep() -> None:
    (lambda: None)()


def pages_mapped() -> int:
    """By this thread, of memory that it had not touched before."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def pages(depth: int) -> int:
    """Mapped by a loop of CALLS calls that stands so deep."""
    if depth:
        return pages(depth - 1)
    before = pages_mapped()
    for _ in range(CALLS):
        two_deep()
    return pages_mapped() - before


def most_pages() -> int:
    return max(map(pages, DEPTHS))


COUNTS = hasattr(resource, "RUSAGE_THREAD") and sys.implementation.name == "cpython"
needs = pytest.mark.skipif(not COUNTS, reason="counts the pages of a CPython thread on Linux")


@needs
def test_no_loop_maps_memory_at_each_of_its_calls():
    if most_pages() < CALLS:
        pytest.skip("this Python keeps the pieces of its stack")
    assert with_room(most_pages) < CALLS / 4


@needs
def test_a_suite_has_room_wherever_the_engine_stands():
    sizes = "B=1 T=1 H=1 K=1 V=1 dtype=fp32 direction=forward"
    problem = Problem.parse(f"rule=sum phi=relu norm=sum {sizes}")
    suite = Suite("?", lambda _: [], lambda *_: Answer(detail={"pages": most_pages()}), {})
    setting = Setting(CpuDevice(), PROFILES["quick"], seed=0)
    record = run_task(Task("asked", Case(problem), "reference", 0), suite, setting)
    assert record.detail["pages"] < CALLS / 4
