"""The kernels of whole chunks: what they give out, their launches, and the plan `fused`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes, added, parts
from fwpbench.implementations.triton_kernels.backward import (
    fwp_sum_backward_kv,
    fwp_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.forward import fwp_chunk_forward
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.plan import Plan, kept_dtype, plan
from fwpbench.implementations.triton_kernels.reverse_sweep import (
    fwp_chunk_backward_kv,
    fwp_chunk_backward_q,
)
from fwpbench.operators.problem import Problem

#: By name; of segments, and of parts of a gradient, with an axis of their own.
Tensors = Mapping[str, Tensor | None]


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z; then the divisor y and, for a backward pass of a rule that decays or corrects,
    the state and A at every chunk."""
    p, B, T, H = plan(problem, keeps=keeps), problem.B, problem.T, problem.H
    found: Shapes = {"o": ((B, T, H, p.V), problem.torch_dtype)}
    if p.KEEPS:
        found["S_kept"] = (B, H, -(-T // p.C), p.D, p.V), kept_dtype(problem)
    numbers: dict[str, tuple[bool, tuple[int, ...]]] = {
        "S": (p.STATE_OUT, (B, H, p.D, p.V)),
        "z": (p.STATE_OUT and p.DIVIDES, (B, H, p.D)),
        "y": (p.DIVIDES, (B, T, H)),
        "z_kept": (p.KEEPS and p.DIVIDES, (B, H, -(-T // p.C), p.D)),
        "A_kept": (p.KEEPS and p.CORRECTS, (B, T, H, p.C)),
    }
    return found | {name: (shape, torch.float32) for name, (is_, shape) in numbers.items() if is_}


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    sweep(plan(problem, keeps="S_kept" in out), problem, given, out)


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> Tensors:
    p = plan(problem, backward=True)
    found = gradient_room(p, given)
    dS, dz = None if given.S is None else torch.empty_like(given.S), parts(given.z, p.tiles)
    queries(p, problem, given, out, do, found)
    into = {**found, "S_out": dS_out, "z_out": dz_out, "S": dS, "z": dz}
    reverse_sweep(p, problem, given, out, do, into)
    return {**gradients(found, given), "S": dS, "z": added(dz, given.z)}


def sweep(p: Plan, problem: Problem, given: Given, out: Tensors, tokens: int | None = None) -> None:
    """The forward kernel, for segments of `tokens` tokens: all of them, if not said."""
    q, k, v, alpha, beta, projection, S, z, _ = given
    names = ("o", "y", "S", "z", "passed", "S_kept", "z_kept", "A_kept", "scores")
    tokens = tokens or problem.T
    launch(
        fwp_chunk_forward, p, v,
        q, k, v, alpha, beta, projection, S, z, *map(out.get, names), problem.T, problem.H, tokens,
        chunks=-(-problem.T // tokens),
    )  # fmt: skip


def gradient_room(p: Plan, given: Given) -> Tensors:
    """Room for every gradient but the states', in the parts that blocks write."""
    return {
        "q": parts(given.q, p.tiles),
        "k": parts(given.k, p.tiles),
        "v": torch.empty_like(given.v),
        # The queries' kernel and the reverse sweep have a part in the gradient of what decays.
        "alpha": parts(given.alpha, 2 * p.tiles),
        "beta": parts(given.beta, 2 * p.tiles if p.GATED else p.tiles),
    }


def gradients(room: Tensors, given: Given) -> Tensors:
    names = ("q", "k", "alpha", "beta")
    return {"v": room["v"], **{name: added(room[name], getattr(given, name)) for name in names}}


def queries(
    p: Plan,
    problem: Problem,
    given: Given,
    out: Mapping[str, Tensor],
    do: Tensor,
    room: Tensors,
    tokens: int | None = None,
) -> None:
    """The queries' gradient, and their part in that of what decays."""
    q, k, v, alpha, beta, projection, S, z, _ = given
    T, H, part = problem.T, problem.H, k.numel()
    if "S_kept" not in out:
        tokens = tokens or T
        launch(
            fwp_sum_backward_q, p, v,
            q, k, v, projection, S, z, out["o"], out.get("y"), do, room["q"], T, H, tokens, part,
            chunks=-(-T // tokens),
        )  # fmt: skip
        return
    decay = room["beta" if p.GATED else "alpha"]
    launch(
        fwp_chunk_backward_q, p, v,
        q, k, v, alpha, beta, projection, *map(out.get, ("S_kept", "z_kept", "A_kept", "o", "y")),
        do, room["q"], None if decay is None else decay[p.tiles :], T, H, part, part // p.K,
        chunks=out["S_kept"].shape[2],
    )  # fmt: skip


def reverse_sweep(
    p: Plan,
    problem: Problem,
    given: Given,
    out: Mapping[str, Tensor],
    do: Tensor,
    room: Tensors,
    tokens: int | None = None,
) -> None:
    """All other gradients, from S_out and z_out, those of the states after, to S and z before."""
    q, k, v, alpha, beta, projection, *_ = given
    tokens = tokens or problem.T
    segments = -(-problem.T // tokens)
    ends = (problem.T, problem.H, tokens, k.numel())
    part_gate, part_z = k.numel() // p.K, problem.B * problem.H * segments * p.D
    kept, results = ("S_kept", "z_kept", "A_kept"), ("o", "y")
    before, after = ("S", "z"), ("S_out", "z_out")
    if "S_kept" not in out:
        launch(
            fwp_sum_backward_kv, p, v,
            q, k, v, projection, *map(out.get, results), do,
            *map(room.get, (*after, "k", "v", *before)), *ends, part_z,
            chunks=segments,
        )  # fmt: skip
        return
    launch(
        fwp_chunk_backward_kv, p, v,
        q, k, v, alpha, beta, projection, *map(out.get, kept + results), do,
        *map(room.get, (*after, "k", "v", "alpha", "beta", *before)), *ends, part_gate, part_z,
        chunks=segments,
    )  # fmt: skip
