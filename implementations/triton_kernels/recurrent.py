"""The recurrent kernels: what they give out, and their launches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, gradients, parts, results
from fwpbench.implementations._kernel_terms import LAWS, tokens_between
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.recurrent_backward import fwp_recurrent_backward
from fwpbench.implementations.triton_kernels.recurrent_forward import fwp_recurrent_forward
from fwpbench.implementations.triton_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """A state every C tokens is kept."""
    T = problem.tokens
    chunks = -(-T // tokens_between(T))
    return results(problem, keeps, chunks=chunks, clips=LAWS[problem.rule].CLIPS)


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, mask = given
    p, T = replace(recurrent_plan(problem), KEEPS="kept" in out), problem.tokens
    launch(
        fwp_recurrent_forward, p, v,
        q, k, v, alpha, beta, projection, mask, S, z,
        *map(out.get, ("o", "clips", "kept", "kept_z", "S", "z")),
        T, problem.H, tokens_between(T),
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
    p, B, H = recurrent_plan(problem, backward=True), problem.B, problem.H
    T, C = problem.tokens, tokens_between(problem.tokens)
    scratch = v.new_empty(B, H, C, p.D, p.V, dtype=torch.float32)
    room = v.new_empty(p.tiles, B, H, p.D, dtype=torch.float32)
    scratch_z = None
    if p.NORMALIZER != "none":
        scratch_z = v.new_empty(p.tiles, B, H, C, p.D, dtype=torch.float32)
    dq, dk, dalpha, dbeta, dz = (parts(x, p.tiles) for x in (q, k, alpha, beta, z))
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    launch(
        fwp_recurrent_backward, p, v,
        q, k, v, alpha, beta, projection, mask, *map(out.get, ("clips", "kept", "kept_z")),
        scratch, scratch_z, room, do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS, dz, T, H, C,
        k.numel(), 0 if alpha is None else alpha.numel(), B * T * H, B * H * p.D,
    )  # fmt: skip
    return gradients(given, v=dv, S=dS, q=dq, k=dk, alpha=dalpha, beta=dbeta, z=dz)
