"""The kernels of whole chunks: what they give out, and their launches."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, gradients, parts, results
from fwpbench.implementations.cuda_kernels import chunk_backward_plan as planned_backward
from fwpbench.implementations.cuda_kernels.chunk_plan import (
    ChunkPlan,
    chunk_plan,
    rows_in_memory,
)
from fwpbench.implementations.cuda_kernels.constants import constants as of_every_kernel
from fwpbench.implementations.cuda_kernels.launch import launch
from fwpbench.implementations.cuda_kernels.sources import Constant, Constants, Word
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    return results(problem, keeps, chunks=-(-problem.tokens // _planned(problem, keeps).C))


def _planned(problem: Problem, keeps: bool) -> ChunkPlan:
    """What keeps states keeps them before the chunks that go back."""
    C = planned_backward.chunk_backward_plan(problem).C if keeps else None
    plan = chunk_plan(problem, C)
    assert plan is not None, "choice.py has other kernels for what has no layout"
    return plan


def constants(problem: Problem, plan: ChunkPlan, **more: Constant) -> Constants:
    return of_every_kernel(
        problem, plan,
        STATE_IN=problem.state_in, STATE_OUT=problem.state_out, WIDE=plan.WIDE, C=plan.C,
        BV=plan.BV, PRECISION=Word("Precision", plan.PRECISION), **more,
    )  # fmt: skip


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, _ = given
    plan, heads = _planned(problem, "kept" in out), problem.B * problem.H
    rows = v.new_empty(heads * plan.tiles * rows_in_memory(plan), dtype=torch.float32)
    launch(
        "chunk_forward", problem.dtype, constants(problem, plan, KEEPS="kept" in out),
        plan.grid(heads), plan.block, plan.shared_bytes, v,
        q, k, v, alpha, beta, projection, S, z, rows,
        *map(out.get, ("o", "kept", "kept_z", "S", "z")), problem.tokens, problem.H, heads,
    )  # fmt: skip


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, alpha, beta, projection, S, z, _ = given
    plan, heads = planned_backward.chunk_backward_plan(problem), problem.B * problem.H
    numbers = planned_backward.rows_in_memory(plan)
    rows = v.new_empty(heads * plan.tiles * numbers, dtype=torch.float32)
    dq, dk, dalpha, dbeta, dz = (parts(x, plan.tiles) for x in (q, k, alpha, beta, z))
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    launch(
        "chunk_backward", problem.dtype,
        constants(problem, plan, GRADIENTS_IN_PARTS=plan.tiles > 1),
        plan.grid(heads), plan.block, plan.shared_bytes, v,
        q, k, v, alpha, beta, projection, *map(out.get, ("kept", "kept_z")),
        rows, do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS, dz,
        problem.tokens, problem.H, heads, k.numel(), heads * problem.tokens, heads * problem.D,
    )  # fmt: skip
    return gradients(given, v=dv, S=dS, q=dq, k=dk, alpha=dalpha, beta=dbeta, z=dz)
