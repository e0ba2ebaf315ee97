"""The kernels of what needs no order of tokens: what they give out, and their launches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, added, parts
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.unordered_kernels import (
    fwp_unordered_gradient,
    fwp_unordered_read,
    fwp_unordered_write,
)
from fwpbench.implementations.triton_kernels.unordered_plan import UnorderedPlan, unordered_plan
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z; then, for the gradients, S and z where they do not go out."""
    p, B, T, H = unordered_plan(problem), problem.B, problem.T, problem.H
    state = {"S": (B, H, p.D, p.V)} | ({"z": (B, H, p.D)} if p.DIVIDES else {})
    kept = "" if problem.state_out else "_kept"
    numbers = {name + kept: shape for name, shape in state.items() if problem.state_out or keeps}
    found: Shapes = {}
    if problem.reads:
        found["o"] = (B, T, H, p.V), problem.torch_dtype
    return found | {name: (shape, torch.float32) for name, shape in numbers.items()}


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, _, _, projection, S_in, z_in, mask = given
    p, T, H = unordered_plan(problem), problem.T, problem.H
    S, z = _state(problem, p, out, v)
    launch(
        fwp_unordered_write, p, v, k, v, None, projection, mask, S_in, z_in, S, z, T, H,
        chunks=p.feature_tiles,
    )  # fmt: skip
    if problem.reads:
        _read(problem, q, S, z, projection, out["o"])


def _state(
    problem: Problem, p: UnorderedPlan, out: dict[str, Tensor], v: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Where S and z lie: among what goes out, what is kept, or in memory of this call."""
    S, z = (out.get(name, out.get(f"{name}_kept")) for name in ("S", "z"))
    if S is None:
        S = v.new_empty(problem.B, problem.H, p.D, p.V, dtype=torch.float32)
        z = S.new_empty(S.shape[:3]) if p.DIVIDES else None
    return S, z


def _read(
    problem: Problem,
    q: Tensor | None,
    S: Tensor,
    z: Tensor | None,
    projection: Tensor | None,
    o: Tensor,
) -> Tensor:
    """Into o; the divisor y, where the norm divides."""
    p, T = unordered_plan(problem, queries=True), problem.T
    y = S.new_empty(o.shape[:3])
    launch(
        fwp_unordered_read, p, o, q, S, z, projection, None, o, y, T, problem.H,
        chunks=-(-T // p.C),
    )  # fmt: skip
    return y


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor | None,
    dS: Tensor | None,
    dz: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, _, _, projection, S_in, z_in, mask = given
    p, of_queries = unordered_plan(problem), unordered_plan(problem, queries=True)
    T, H, part, chunks = problem.T, problem.H, k.numel(), -(-problem.T // p.C)
    dq, dk = (parts(x, p.tiles) for x in (q, k))
    if q is not None and do is not None:
        S, z = _state(problem, p, out, v)
        dN, dy = do, None
        if p.DIVIDES:
            # As read, not as rounded: what dy takes off cancels most of dN Sᵀ.
            o = torch.empty_like(v, dtype=torch.float32)
            dN = do / _read(problem, q, S, z, projection, o)[..., None]
            dy = -(dN * o).sum(-1)
        launch(
            fwp_unordered_gradient, of_queries, v,
            q, dN, dy, S, z, projection, None, dq, T, H, part, chunks=chunks,
        )  # fmt: skip
        after, dS = (dS, dz), torch.empty_like(S)
        dz = None if z is None else torch.empty_like(z)
        launch(
            fwp_unordered_write, replace(of_queries, STATE_IN=problem.state_out), v,
            q, dN, dy, projection, None, *after, dS, dz, T, H, chunks=p.feature_tiles,
        )  # fmt: skip
    launch(
        fwp_unordered_gradient, p, v,
        k, v, None, dS, dz, projection, mask, dk, T, H, part, chunks=chunks,
    )  # fmt: skip
    if q is None:
        # What an operator of torch gives out is none of what it was given.
        dS, dz = (None if x is None else x.clone() for x in (dS, dz))
    dv = torch.empty_like(v)
    launch(
        fwp_unordered_read, replace(p, DIVIDES=False), v,
        k, dS, None, projection, mask, dv, None, T, H, chunks=chunks,
    )  # fmt: skip
    return {
        "q": added(dq, q),
        "k": added(dk, k),
        "v": dv,
        "S": None if S_in is None else dS,
        "z": None if z_in is None else dz,
    }
