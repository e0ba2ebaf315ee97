"""The backward kernel of whole chunks: its launch."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, added, parts
from fwpbench.implementations.cuda_kernels.chunk import constants
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan, scratch
from fwpbench.implementations.cuda_kernels.launch import launch
from fwpbench.operators.problem import Problem


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    """From the states before every chunk, `kept` and `kept_z` of `out`."""
    q, k, v, alpha, beta, projection, S, z, _ = given
    plan, blocks = chunk_backward_plan(problem), problem.B * problem.H
    rows = v.new_empty(blocks * plan.tiles * scratch(plan), dtype=torch.float32)
    dq, dk, dalpha, dbeta, dz = (parts(x, plan.tiles) for x in (q, k, alpha, beta, z))
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    launch(
        "chunk_backward", problem.dtype,
        constants(problem, plan, WIDE=plan.WIDE, GRADIENTS_IN_PARTS=plan.tiles > 1),
        (blocks, plan.tiles), plan.threads, 4 * plan.floats, v,
        q, k, v, alpha, beta, projection, *map(out.get, ("kept", "kept_z")),
        rows, do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS, dz,
        problem.tokens, problem.H, k.numel(), blocks * problem.tokens, blocks * problem.D,
    )  # fmt: skip
    return {
        "q": added(dq, q),
        "k": added(dk, k),
        "v": dv,
        "alpha": added(dalpha, alpha),
        "beta": added(dbeta, beta),
        "S": dS,
        "z": added(dz, z),
    }
