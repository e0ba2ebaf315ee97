"""The kernels for a wide φ: what they give out, and their launches."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, added, parts
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.plan import Plan, kept_dtype, plan
from fwpbench.implementations.triton_kernels.wide_backward import (
    fwp_wide_backward_found,
    fwp_wide_backward_kv,
    fwp_wide_backward_q,
)
from fwpbench.implementations.triton_kernels.wide_forward import fwp_wide_forward
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z; then the divisor y and, for a backward pass of a rule that decays or corrects,
    the states between chunks, and what was corrected."""
    p, B, T, H = plan(problem, keeps=keeps), problem.B, problem.T, problem.H
    chunks = -(-T // p.C)
    corrected = p.KEEPS and p.CORRECTS
    found: Shapes = {"o": ((B, T, H, p.V), problem.torch_dtype)}
    if p.KEEPS:
        found["S_kept"] = (B, H, chunks, p.D, p.V), kept_dtype(problem)
    numbers: dict[str, tuple[bool, tuple[int, ...]]] = {
        "S": (p.STATE_OUT, (B, H, p.D, p.V)),
        "z": (p.STATE_OUT and p.DIVIDES, (B, H, p.D)),
        "y": (p.DIVIDES, (B, T, H)),
        "z_kept": (p.KEEPS and p.DIVIDES, (p.tiles, B, H, chunks, p.D)),
        "A_kept": (corrected, (B, T, H, p.C)),
        "E_kept": (corrected, (B, T, H, p.V)),
        "r_kept": (corrected and p.DIVIDES, (B, T, H)),
    }
    return found | {name: (shape, torch.float32) for name, (is_, shape) in numbers.items() if is_}


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, _ = given
    p, T, H = plan(problem, keeps="S_kept" in out), problem.T, problem.H
    states, normalizers = _room(p, v, out.get("S"))
    kept = out.get("z_kept")
    _begin(states, 2, S)
    _begin(normalizers, 3, z)
    launch(
        fwp_wide_forward, p, v,
        q, k, v, alpha, beta, projection, states, normalizers, out["o"],
        *map(out.get, ("y", "S_kept", "z_kept", "A_kept", "E_kept", "r_kept")), T, H,
        _part(normalizers), _part(kept),
    )  # fmt: skip
    if "z" in out and normalizers is not None:
        out["z"].copy_(normalizers[0, :, :, 0])


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, alpha, beta, projection, S, z, _ = given
    p, T, H = plan(problem, backward=True), problem.T, problem.H
    o, y, A, E, r = map(out.get, ("o", "y", "A_kept", "E_kept", "r_kept"))
    chunks, states, normalizers = 1, out.get("S_kept"), out.get("z_kept")
    if states is None:
        states, normalizers = _room(p, v)
        _begin(states, 2, S)
        _begin(normalizers, 3, z)
    else:
        chunks = states.shape[2]
    dS, dz = _room(p, v)
    _begin(dS, 2, dS_out)
    _begin(dz, 3, None)
    if dz is not None and dz_out is not None:
        dz[0, :, :, 0] = dz_out  # no tile's part, so the first takes it
    # Two kernels have a part in the gradient of keys that find, and in that of what decays; where
    # keys find, three in the latter.
    dq, dk = parts(q, p.tiles), parts(k, 2 * p.tiles if p.CORRECTS else p.tiles)
    dalpha = parts(alpha, 3 * p.tiles if p.CORRECTS else 2 * p.tiles)
    dbeta = parts(beta, 2 * p.tiles if p.GATED else p.tiles)
    dv = torch.empty_like(v, dtype=torch.float32 if p.CORRECTS else v.dtype)
    dgate = dbeta if p.GATED else dalpha
    sizes = T, H, k.numel(), k.numel() // p.K, _part(normalizers)
    launch(
        fwp_wide_backward_q, p, v,
        q, k, v, alpha, beta, projection, states, normalizers, o, y, E, do,
        dq, None if dgate is None else dgate[p.tiles :], *sizes,
        chunks=chunks,
    )  # fmt: skip
    launch(
        fwp_wide_backward_kv, p, v,
        q, k, v, alpha, beta, projection, states, normalizers, o, y, A, E, r, do,
        dS, dz, dk, dv, dalpha, dbeta, *sizes, _part(dz),
    )  # fmt: skip
    if p.CORRECTS and dk is not None:
        launch(
            fwp_wide_backward_found, p, v,
            k, v, alpha, beta, projection, states, normalizers, E, r, dv,
            dk[p.tiles :], None if dalpha is None else dalpha[2 * p.tiles :], *sizes,
            chunks=chunks,
        )  # fmt: skip
    return {
        "q": added(dq, q),
        "k": added(dk, k),
        "v": dv.to(v.dtype),
        "alpha": added(dalpha, alpha),
        "beta": added(dbeta, beta),
        "S": None if S is None else dS[:, :, 0],
        "z": None if z is None or dz is None else dz[..., 0, :].sum(0),
    }


def _room(p: Plan, v: Tensor, S: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Memory for one state of every block, or S as that; and for a z for each tile."""
    B, _, H, _ = v.shape
    if S is None:
        S = v.new_empty(B, H, p.D, p.V, dtype=torch.float32)
    z = v.new_empty(p.tiles, B, H, 1, p.D, dtype=torch.float32) if p.DIVIDES else None
    return S[:, :, None], z


def _begin(slots: Tensor | None, axis: int, state: Tensor | None) -> None:
    """Puts a state, or zeros, into the first slot of every block."""
    if slots is not None:
        first = slots.select(axis, 0)
        first.zero_() if state is None else first.copy_(state)


def _part(normalizers: Tensor | None) -> int:
    return 0 if normalizers is None else normalizers[0].numel()
