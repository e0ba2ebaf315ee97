"""Several heads in one block: right where the last has fewer, and no GPU holds fewer at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.cuda_kernels import ON_CPU, block_plan
from fwpbench.implementations.cuda_kernels.block_plan import BlockPlan
from fwpbench.implementations.cuda_kernels.choice import chosen_plan, described
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES, chunk_plan
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators import UPDATE_RULES
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, problem_of

CUDA = IMPLEMENTATIONS["cuda"]
on_cpu = pytest.mark.skipif(
    not ON_CPU or CUDA.missing() is not None, reason="FWPBENCH_CUDA_ON_CPU=1 is not set"
)
truths = Truths()
C = 32


@pytest.fixture
def any_size(monkeypatch):
    """As many heads a block as have a scheduler each, whatever memory they take together."""
    monkeypatch.setattr(block_plan, "BYTES_OF_SEVERAL", 1 << 20)


def small(operator: Operator, **changes) -> Problem:
    """Heads enough for a whole block of them and part of another."""
    sizes = {"B": 1, "T": 37, "H": 5, "dtype": "fp32", "direction": "forward+backward"}
    return problem_of(operator, **(sizes | changes))


def agrees(problem: Problem, plan: str) -> None:
    from fwpbench.implementations.cuda_kernels.operator import run

    def planned(problem, inputs):
        return run(problem, inputs, plan=plan)

    agreement = check(planned, problem, truths(problem, 0))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


#: Every rule of whole chunks: one warp a head and two, sizes that fill their tiles and that do not.
CHUNKED = [
    (Operator("sum", "elu+1", "attention"), {"K": 32, "V": 32}),
    (Operator("decay", "relu", "sum"), {"K": 9, "V": 7}),
    (Operator("gated", "elu+1", "sum+attention"), {"K": 16, "V": 16, "dtype": "bf16"}),
    (Operator("delta", "elu+1", "attention"), {"K": 16, "V": 16}),
    (Operator("gated-delta", "identity", "l2"), {"K": 32, "V": 32, "dtype": "bf16"}),
]


@on_cpu
@pytest.mark.parametrize(("operator", "sizes"), CHUNKED, ids=str)
def test_chunks_of_several_heads_agree(any_size, operator, sizes):
    problem = small(operator, **sizes)
    plans = chunk_plan(problem, C), chunk_backward_plan(problem)
    assert [plan.C for plan in plans] == [C, C]
    assert [plan.HEADS * plan.WARPS for plan in plans] == [4, 4]
    for T in (1, C - 1, C, C + 1, 37):
        # Many rows of one token, as in test_cuda_chunk.py.
        agrees(small(operator, T=T, B=5 if T == 1 else 1, **sizes), "chunked")


@on_cpu
@pytest.mark.parametrize(
    ("operator", "changes"),
    [
        (Operator("sum", "identity", "none"), {"direction": "decode", "B": 3}),
        (Operator("decay", "dpfp-2", "sum+attention"), {"masked": True}),
        (Operator("delta", "elu+1", "attention"), {}),
        (Operator("kda", "favor-16", "l2"), {"state": "none"}),
        (Operator("sum", "elu+1", "attention"), {"causal": False}),
        # One head and two warps of it, which wait for each other inside a token.
        (Operator("fwm", "tanh", "none"), {"H": 3, "V": 37, "direction": "forward"}),
    ],
    ids=str,
)
def test_tokens_of_several_heads_agree(operator, changes):
    problem = small(operator, **({"K": 9, "V": 7, "T": 5} | changes))
    plan = recurrent_plan(problem)
    assert 1 < plan.HEADS < problem.B * problem.H
    assert problem.B * problem.H % plan.HEADS
    agrees(problem, "recurrent")


# Which blocks have several. Nothing of CUDA is needed to ask.

#: KB of shared memory, blocks and warps of a multiprocessor (CUDA programming guide, "Technical
#: specifications per compute capability"); each block takes a KB besides.
GPUS = {
    "sm_80": (164, 32, 64),
    "sm_86": (100, 16, 48),
    "sm_90": (228, 32, 64),
    "sm_100": (228, 32, 64),
    "sm_120": (100, 24, 48),
}


def at_once(plan: BlockPlan, gpu: str) -> int:
    """Heads on a multiprocessor, by all but registers."""
    kilobytes, blocks, warps = GPUS[gpu]
    by_memory = kilobytes * 1024 // (plan.shared_bytes + 1024)
    return min(by_memory, blocks, warps // (plan.WARPS * plan.HEADS)) * plan.HEADS


#: Maps of different widths.
WIDTHS = ("identity", "dpfp-1", "dpfp-3", "favor-16")


@pytest.mark.parametrize("K", [9, 16, 32])
def test_several_heads_a_block_are_never_fewer_at_once(K):
    several = set()
    for operator in OPERATORS:
        if UPDATE_RULES[operator.rule].keeps_tokens or operator.phi not in WIDTHS:
            continue
        for reads in (True, False):
            p = problem_of(operator, T=256, K=K, V=K, dtype="bf16", reads=reads)
            plans = [recurrent_plan(p), recurrent_plan(p, backward=True)]
            if operator.rule in RULES:
                plans += [chunk_plan(p), chunk_backward_plan(p)]
            for plan in plans:
                if plan is None or plan.HEADS == 1:
                    continue
                several.add(plan.HEADS)
                for gpu in GPUS:
                    assert at_once(plan, gpu) >= at_once(replace(plan, HEADS=1), gpu), (gpu, plan)
    assert several == ({2, 4} if K < 32 else {2})


def test_the_record_says_how_many():
    operator = Operator("delta", "elu+1", "sum")
    sizes = {"K": 16, "V": 16, "dtype": "bf16"}
    decode = small(operator, direction="decode", **sizes)
    assert described(decode, "cpu") == "recurrent: BV=32 warps=1 heads=4"
    chunked = small(operator, T=256, direction="forward", **sizes)
    assert chosen_plan(chunked, "cpu") == "chunked"
    assert described(chunked, "cpu") == "chunked: C=32 BV=16 warps=1"
