"""The recurrent kernels: what they give out, and their launches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, gradients, parts, results
from fwpbench.implementations._kernel_terms import LAWS, tokens_between
from fwpbench.implementations.cuda_kernels.constants import constants as of_every_kernel
from fwpbench.implementations.cuda_kernels.launch import launch
from fwpbench.implementations.cuda_kernels.recurrent_plan import RecurrentPlan, recurrent_plan
from fwpbench.implementations.cuda_kernels.sources import Constant, Constants
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """A state every C tokens is kept; what reads after all is written needs the last alone."""
    T = problem.tokens
    chunks = -(-T // tokens_between(T)) if problem.causal else 1
    return results(problem, keeps, chunks=chunks, clips=LAWS[problem.rule].CLIPS)


def _planned(problem: Problem, *, backward: bool = False) -> RecurrentPlan:
    plan = recurrent_plan(problem, backward=backward)
    assert plan is not None, "refusal.py refuses what has no layout"
    return plan


def constants(problem: Problem, plan: RecurrentPlan, **more: Constant) -> Constants:
    return of_every_kernel(
        problem, plan, MASKED=problem.masked, CAUSAL=problem.causal,
        COLUMNS=plan.COLUMNS, GROUPS=plan.GROUPS, TOKENS=plan.TOKENS, **more,
    )  # fmt: skip


def _launch(
    kernel: str, problem: Problem, plan: RecurrentPlan, v: Tensor, *a: Any, **c: Any
) -> None:
    given = constants(problem, plan, **c)
    grid = plan.grid(problem.B * problem.H)
    launch(kernel, problem.dtype, given, grid, plan.block, plan.shared_bytes, v, *a)


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, mask = given
    T = problem.tokens
    _launch(
        "recurrent_forward", problem, _planned(problem), v,
        q, k, v, alpha, beta, projection, mask, S, z,
        *map(out.get, ("o", "clips", "kept", "kept_z", "S", "z")),
        T, problem.H, problem.B * problem.H, tokens_between(T),
    )  # fmt: skip


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, alpha, beta, projection, S, z, mask = given
    plan, B, H = _planned(problem, backward=True), problem.B, problem.H
    T, C = problem.tokens, tokens_between(problem.tokens)
    dq, dk, dalpha, dbeta, dz = (parts(x, plan.tiles) for x in (q, k, alpha, beta, z))
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    kept, kept_z, in_parts = out["kept"], out.get("kept_z"), plan.tiles > 1
    part, part_z = k.numel(), B * H * problem.D
    if problem.causal:
        numbers = plan.PADDED_D // plan.GROUPS * (plan.COLUMNS + 1)
        scratch = v.new_empty(B, H, plan.tiles, C, numbers, plan.threads, dtype=torch.float32)
        _launch(
            "recurrent_backward", problem, plan, v,
            q, k, v, alpha, beta, projection, mask, out.get("clips"), kept, kept_z, scratch,
            do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS, dz, T, H, B * H, C,
            part, 0 if alpha is None else alpha.numel(), B * T * H, part_z,
            GRADIENTS_IN_PARTS=in_parts,
        )  # fmt: skip
    else:
        _launch(
            "unordered_backward", problem, plan, v,
            q, k, v, projection, mask, kept, kept_z, do, dS_out, dz_out, dq, dk, dv, dS, dz,
            T, H, B * H, part, part_z, GRADIENTS_IN_PARTS=in_parts,
        )  # fmt: skip
    return gradients(given, v=dv, S=dS, q=dq, k=dk, alpha=dalpha, beta=dbeta, z=dz)
