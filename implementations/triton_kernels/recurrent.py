"""The recurrent kernels: what they give out, and their launches; gradients of fwm only."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fwpbench.implementations.triton_kernels.launch import Given, Shapes, launch
from fwpbench.implementations.triton_kernels.recurrent_backward import fwp_fwm_backward
from fwpbench.implementations.triton_kernels.recurrent_forward import fwp_recurrent_forward
from fwpbench.implementations.triton_kernels.recurrent_plan import recurrent_plan, tokens_between
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z; then, for the gradients of fwm, where it clipped and a state every C tokens."""
    p, B, T, H = recurrent_plan(problem), problem.B, problem.tokens, problem.H
    found: Shapes = {}
    if p.READS:
        found["o"] = (B, T, H, p.V), problem.torch_dtype
    if p.STATE_OUT:
        found["S"] = (B, H, p.D, p.V), torch.float32
    if p.STATE_OUT and p.NORMALIZER != "none":
        found["z"] = (B, H, p.D), torch.float32
    if keeps and p.CLIPS:
        found["clips"] = (B, T, H), torch.float32
        found["kept"] = (B, H, -(-T // tokens_between(T)), p.D, p.V), torch.float32
    return found


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, mask = given
    p, T = replace(recurrent_plan(problem), KEEPS="kept" in out), problem.tokens
    launch(
        fwp_recurrent_forward, p, v,
        q, k, v, alpha, beta, projection, mask, S, z,
        *map(out.get, ("o", "clips", "kept", "S", "z")), T, problem.H, tokens_between(T),
    )  # fmt: skip


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    if "kept" not in out:
        raise NotImplementedError("the recurrent kernels have the gradients of fwm only")
    q, k, v, _, beta, projection, S, _, mask = given
    assert beta is not None
    p = replace(recurrent_plan(problem), KEEPS=True, backward=True)
    T, C = problem.tokens, tokens_between(problem.tokens)
    scratch = v.new_empty(problem.B, problem.H, C, p.D, p.V, dtype=torch.float32)
    dq, dS = (None if x is None else torch.empty_like(x) for x in (q, S))
    dk, dv, dbeta = torch.empty_like(k), torch.empty_like(v), torch.empty_like(beta)
    launch(
        fwp_fwm_backward, p, v,
        q, k, v, beta, projection, mask, out["clips"], out["kept"], scratch, do, dS_out,
        dq, dk, dv, dbeta, dS, T, problem.H, C,
    )  # fmt: skip
    return {"q": dq, "k": dk, "v": dv, "beta": dbeta, "S": dS}
