"""The kernels for a wide φ: what they give out, and their launches."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations.triton_kernels.launch import Given, Shapes, added, launch, parts
from fwpbench.implementations.triton_kernels.plan import Plan, plan
from fwpbench.implementations.triton_kernels.wide_backward import (
    fwp_wide_sum_backward_kv,
    fwp_wide_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.wide_forward import fwp_wide_sum_forward
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z, and the divisor y."""
    p, B, T, H = plan(problem), problem.B, problem.T, problem.H
    found: Shapes = {"o": ((B, T, H, p.V), problem.torch_dtype)}
    if p.STATE_OUT:
        found["S"] = (B, H, p.D, p.V), torch.float32
    if p.STATE_OUT and p.DIVIDES:
        found["z"] = (B, H, p.D), torch.float32
    if p.DIVIDES:
        found["y"] = (B, T, H), torch.float32
    return found


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, _, _, projection, S, z, _ = given
    p, T, H = plan(problem), problem.T, problem.H
    kept, normalizers = _kept(p, v, S, z, out.get("S"))
    launch(
        fwp_wide_sum_forward, p, v,
        q, k, v, projection, kept, normalizers, out["o"], out.get("y"), T, H, problem.B * H * p.D,
    )  # fmt: skip
    if "z" in out and normalizers is not None:
        out["z"].copy_(normalizers[0])


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, _, _, projection, S, z, _ = given
    p, T, H = plan(problem, backward=True), problem.T, problem.H
    o, y, part_z = out["o"], out.get("y"), problem.B * H * p.D
    dq, dk = (parts(x, p.tiles) for x in (q, k))
    dv = torch.empty_like(v)
    launch(
        fwp_wide_sum_backward_q, p, v,
        q, k, v, projection, *_kept(p, v, S, z), o, y, do, dq, T, H, k.numel(), part_z,
    )  # fmt: skip
    dS, dz = _kept(p, v, dS_out, None)
    if dz is not None and dz_out is not None:
        dz[0] = dz_out  # no tile's part, so the first takes it
    launch(
        fwp_wide_sum_backward_kv, p, v,
        q, k, v, projection, o, y, do, dS, dz, dk, dv, T, H, k.numel(), part_z,
    )  # fmt: skip
    return {
        "q": added(dq, q),
        "k": added(dk, k),
        "v": dv,
        "S": None if S is None else dS,
        "z": None if z is None or dz is None else dz.sum(0),
    }


def _kept(
    p: Plan, v: Tensor, S: Tensor | None, z: Tensor | None, room: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Memory for the state of every block, which begins with S and z; a z for each tile."""
    B, _, H, _ = v.shape
    kept = v.new_empty(B, H, p.D, p.V, dtype=torch.float32) if room is None else room
    if S is None:
        kept.zero_()
    else:
        kept.copy_(S)
    if not p.DIVIDES:
        return kept, None
    normalizers = v.new_zeros(p.tiles, B, H, p.D, dtype=torch.float32)
    if z is not None:
        normalizers.copy_(z)
    return kept, normalizers
