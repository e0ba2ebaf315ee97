"""The chunked backward kernel: its launch."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, added, parts
from fwpbench.implementations._kernel_terms import (
    LAWS,
    NORMS,
    kind,
    normalizer,
    query_map,
)
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import (
    PRECISIONS,
    ChunkBackwardPlan,
    chunk_backward_plan,
)
from fwpbench.implementations.cuda_kernels.launch import launch
from fwpbench.implementations.cuda_kernels.sources import Constants, Word
from fwpbench.operators.problem import Problem


def constants(problem: Problem, plan: ChunkBackwardPlan) -> Constants:
    p = problem
    scale, _ = NORMS[p.norm]
    law = LAWS[p.rule]
    return {
        "K": p.K,
        "V": p.V,
        "D": p.D,
        "PADDED_D": plan.PADDED_D,
        "KEY_MAP": Word("Map", kind(p.phi)),
        "QUERY_MAP": Word("Map", query_map(p)),
        "SCALE": Word("Scale", scale),
        "DECAY": Word("Decay", law.DECAY),
        "NORMALIZER": Word("Normalizer", normalizer(p)),
        "WEIGHS": law.WEIGHS,
        "CORRECTS": law.CORRECTS,
        "MASKED": p.masked,
        "READS": p.reads,
        "STATE_IN": p.state_in,
        "STATE_OUT": p.state_out,
        "PRECISION": Word("Precision", PRECISIONS[p.dtype]),
        "C": plan.C,
        "BV": plan.BV,
        "WARPS": plan.WARPS,
        "WIDE": plan.WIDE,
        "FLOATS": plan.floats,
        "GRADIENTS_IN_PARTS": plan.tiles > 1,
    }


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    """`out` has the state before every chunk of C tokens, `kept` and `kept_z`."""
    q, k, v, alpha, beta, projection, S, z, mask = given
    plan, B, T, H = chunk_backward_plan(problem), problem.B, problem.tokens, problem.H
    scratch = v.new_empty(B * H * plan.tiles * plan.scratch, dtype=torch.float32)
    dq, dk, dalpha, dbeta, dz = (parts(x, plan.tiles) for x in (q, k, alpha, beta, z))
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    launch(
        "chunk_backward", problem.dtype, constants(problem, plan),
        (B * H, plan.tiles), plan.threads, 4 * plan.floats, v,
        q, k, v, alpha, beta, projection, mask, *map(out.get, ("kept", "kept_z")),
        scratch, do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS, dz, T, H,
        k.numel(), B * T * H, B * H * problem.D,
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
