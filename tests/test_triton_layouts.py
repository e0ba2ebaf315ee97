"""Which blocks the Triton kernels are launched in: by architecture, and smaller where they must."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from fwpbench.harness.agreement import check
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Unsupported
from fwpbench.implementations.triton_kernels import layouts
from fwpbench.implementations.triton_kernels import plan as plans
from fwpbench.operators.operator import Operator
from tests.test_triton import agrees, interpreted, small, truths

TRITON = IMPLEMENTATIONS["triton"]
with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def test_every_architecture_has_layouts():
    assert [layouts.like(arch) for arch in (75, 80, 86, 89)] == [80] * 4
    assert [layouts.like(arch) for arch in (90, 100, 103, 120, 121)] == [90, 100, 100, 120, 120]


@pytest.mark.parametrize("arch", layouts.ELSEWHERE)
def test_what_another_architecture_has_replaces_something(arch):
    for (rule, backward, dtype, width), blocks in layouts.ELSEWHERE[arch].items():
        assert layouts.BLOCKS[rule][backward][dtype][width] != blocks


def test_interpreted_layouts_are_those_for_sm_90():
    assert layouts.arch() == layouts.SM_90


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose blocks have so many value columns, tokens and features at most; its launches."""
    from triton.runtime.errors import OutOfResources

    from fwpbench.implementations.triton_kernels import chunks, wide
    from fwpbench.implementations.triton_kernels.launch import launch

    most: dict[str, int] = {}
    launched = []

    def fits(kernel, plan, *arguments, **rest):
        launched.append((kernel.fn.__name__, plan.C, plan.BV))
        for side, size in most.items():
            if getattr(plan, side) > size:
                raise OutOfResources(getattr(plan, side), size, "shared memory")
        launch(kernel, plan, *arguments, **rest)

    for module in (chunks, wide):
        monkeypatch.setattr(module, "launch", fits)
    yield most, launched
    plans.REPLACED.clear()


LARGE = {
    "sum": small(Operator("sum", "elu+1", "sum"), T=9, H=1, V=20, dtype="bf16"),
    "gated-delta": small(Operator("gated-delta", "elu+1", "sum"), T=9, H=1, V=20, dtype="bf16"),
    "in tiles": small(Operator("sum", "identity", "l2"), K=70, T=9, H=1),
}


@interpreted
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("sum", {"BV": 16, "C": 16}),
        ("gated-delta", {"BV": 16}),
        ("in tiles", {"BV": 16, "BD": 16}),
    ],
)
def test_smaller_blocks_are_taken_until_they_fit_and_remembered(gpu, name, most):
    sizes, launched = gpu
    sizes.update(most)
    agrees(LARGE[name])
    tried = len(launched)
    del launched[:]
    agrees(LARGE[name])
    assert len(launched) == 3 < tried


@interpreted
@pytest.mark.parametrize("keeps", [False, True])
def test_what_fits_in_no_blocks_is_unsupported_with_the_numbers(gpu, keeps):
    """Chunks of which something is kept are not shortened: the kernels back have the same."""
    sizes, launched = gpu
    sizes["C"] = 8
    problem = LARGE["gated-delta"].replace(direction="forward+backward" if keeps else "forward")
    with pytest.raises(Unsupported, match=r"take 16 of shared memory in the smallest .* has 8$"):
        check(TRITON.run, problem, truths(problem, 0))
    assert [C for _, C, _ in launched][-1] == 16
    assert launched[-1][2] == 16


def test_remembered_blocks_are_those_of_one_problem_and_direction(monkeypatch):
    problem = LARGE["gated-delta"]
    monkeypatch.setitem(plans.REPLACED, plans.key(problem, True, False), {"BV": 16})
    before = plans.plan(problem.replace(T=10), backward=True).BV
    assert plans.plan(problem, backward=True).BV == 16 < before
    kept = plans.plan(problem, keeps=True).BV
    assert kept == before
