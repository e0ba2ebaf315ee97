"""Which plan a problem gets: the one place that chooses.

`chunked`          chunk after chunk, with products of matrices
`recurrent`        token after token
"""

from __future__ import annotations

import torch

from fwpbench.implementations.cuda_kernels.block_plan import BlockPlan
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES, ChunkPlan, chunk_plan
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators.problem import Problem

#: From this compute capability on tensor cores multiply bf16 and tf32.
FIRST_WITH_PRODUCTS = (8, 0)


def chosen_plan(problem: Problem, device: str) -> str:
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and torch.cuda.get_device_capability(device) < FIRST_WITH_PRODUCTS:
        return "recurrent"
    return "chunked" if chunk_plans(problem) else "recurrent"


def chunk_plans(problem: Problem) -> list[ChunkPlan]:
    """Forward and backward; none for fewer tokens than two a chunk, which are done one by one where
    that has a layout."""
    p = problem
    if p.rule not in RULES or p.masked or not p.causal:
        return []
    if p.backward and not p.reads:
        # Through a chunk of more tokens than features dS shrinks far more than it decays: the
        # chunk's form takes two large numbers from each other, and no dO hides it.
        return []
    backward = [chunk_backward_plan(p)] if p.backward else []
    plan = chunk_plan(p, *[plan.C for plan in backward])
    if plan is None or (p.tokens < 2 * plan.C and goes_token_by_token(p)):
        return []
    return [plan, *backward]


def goes_token_by_token(problem: Problem) -> bool:
    ways = (False, True)[: 1 + problem.backward]
    return all(recurrent_plan(problem, backward=way) is not None for way in ways)


def described(problem: Problem, device: str) -> str:
    """The plan and its layouts, for the record."""
    if chosen_plan(problem, device) == "chunked":
        plans = chunk_plans(problem)
        each = [
            f"{way}{_of_block(plan)}{', φ in memory' if plan.WIDE else ''}"
            for way, plan in zip(("", "backward "), plans, strict=False)
        ]
        return f"chunked: C={plans[0].C} {', '.join(each)}"
    words = []
    for backward in (False, True)[: 1 + problem.backward]:
        plan = recurrent_plan(problem, backward=backward)
        assert plan is not None
        direction = "backward " if backward else ""
        words.append(f"{direction}{_of_block(plan)}")
    return f"recurrent: {', '.join(words)}"


def _of_block(plan: BlockPlan) -> str:
    heads = f" heads={plan.HEADS}" if plan.HEADS > 1 else ""
    return f"BV={plan.BV} warps={plan.WARPS}{heads}"
