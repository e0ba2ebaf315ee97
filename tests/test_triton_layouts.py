"""Which blocks the Triton kernels are launched in: by architecture, and smaller where they must."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from fwpbench.harness.agreement import check
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Unsupported
from fwpbench.implementations.triton_kernels import layouts
from fwpbench.implementations.triton_kernels import plan as plans
from fwpbench.implementations.triton_kernels.fit import chosen_layout
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


@interpreted
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


@interpreted
def test_remembered_blocks_are_those_of_one_problem_and_direction(monkeypatch):
    problem = LARGE["gated-delta"]
    monkeypatch.setitem(plans.REPLACED, plans.key(problem, True, False), {"BV": 16})
    before = plans.plan(problem.replace(T=10), backward=True).BV
    assert plans.plan(problem, backward=True).BV == 16 < before
    kept = plans.plan(problem, keeps=True).BV
    assert kept == before


# Blocks that were timed


@pytest.fixture
def tuning(monkeypatch, tmp_path):
    from fwpbench.implementations.triton_kernels import tuning

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "here", lambda: "a GPU")
    yield tuning
    tuning.look_up.cache_clear()
    plans.REPLACED.clear()
    plans.TUNED.clear()


FORWARD, BACKWARD = {"C": 32, "BV": 16, "warps": 4}, {"C": 32, "BV": 16, "warps": 8}
TUNED = small(Operator("sum", "elu+1", "sum"), T=9, H=1, V=20, dtype="bf16")


def simulated(call):
    """Seconds that are least for FORWARD, and behind that for BACKWARD; the call is made."""
    call()
    wanted = {"forward": FORWARD, "backward": BACKWARD}
    return sum(
        abs(blocks[side] - size)
        for name, blocks in chosen_layout(TUNED).items()
        for side, size in wanted[name].items()
    )


@interpreted
def test_the_fastest_blocks_are_kept_and_taken_by_the_tuned_row_alone(tuning):
    layout = chosen_layout(TUNED)
    tuning.keep(TUNED, tuning.fastest(TUNED, truths(TUNED, 0).inputs, simulated))
    plans.REPLACED.clear()
    plans.TUNED.clear()
    for run, wanted in ((tuning.run, True), (TRITON.run, False), (tuning.run, True)):
        agreement = check(run, TUNED, truths(TUNED, 0))
        assert agreement.status == "ok", agreement.reason
        chosen = chosen_layout(TUNED)
        if wanted:
            assert chosen["forward"].items() >= FORWARD.items()
            assert chosen["backward"].items() >= BACKWARD.items()
        assert (chosen == layout) != wanted


@with_triton
def test_what_was_timed_is_for_its_gpu_and_kind_of_problem(tuning, monkeypatch):
    short, long = ({"forward": {"C": C, "BV": 16, "BD": 16, "warps": 4}} for C in (16, 32))
    tuning.keep(TUNED, short)
    tuning.keep(TUNED.replace(T=4096, B=8), long)
    assert tuning.look_up(TUNED.replace(inputs="tiny")) == short
    assert tuning.look_up(TUNED.replace(T=131, state="none")) == long
    for change in ({"K": 11}, {"dtype": "fp16"}, {"direction": "forward"}, {"norm": "l2"}):
        assert tuning.look_up(TUNED.replace(**change)) == {}
    tuning.look_up.cache_clear()
    monkeypatch.setattr(tuning, "here", lambda: "another GPU")
    assert tuning.look_up(TUNED) == {}


@interpreted
def test_chunks_of_which_something_is_kept_stay_as_long_when_timed(tuning):
    problem = LARGE["gated-delta"]
    for backward in (False, True):
        tried = list(tuning.candidates(problem, backward=backward))
        assert len(set(tried)) == len(tried) > 2
        assert {blocks.C for blocks in tried} == {plans.plan(problem, backward=True).C}
    assert len({p.C for p in tuning.candidates(TUNED, backward=True)}) > 1


def test_blocks_are_timed_on_a_gpu_only(tuning, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert tuning.missing() is not None
