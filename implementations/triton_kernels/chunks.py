"""The kernels of whole chunks: what they give out, and their launches."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.implementations.triton_kernels.backward import (
    fwp_sum_backward_kv,
    fwp_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.forward import fwp_chunk_forward
from fwpbench.implementations.triton_kernels.launch import Given, Shapes, added, launch, parts
from fwpbench.implementations.triton_kernels.plan import plan
from fwpbench.implementations.triton_kernels.reverse_sweep import (
    fwp_chunk_backward_kv,
    fwp_chunk_backward_q,
)
from fwpbench.operators.problem import Problem


def shapes(problem: Problem, keeps: bool) -> Shapes:
    """o, S and z; then the divisor y and, for a backward pass of a rule that decays or corrects,
    the state and A at every chunk."""
    p, B, T, H = plan(problem, keeps=keeps), problem.B, problem.T, problem.H
    found: Shapes = {"o": ((B, T, H, p.V), problem.torch_dtype)}
    numbers: dict[str, tuple[bool, tuple[int, ...]]] = {
        "S": (p.STATE_OUT, (B, H, p.D, p.V)),
        "z": (p.STATE_OUT and p.DIVIDES, (B, H, p.D)),
        "y": (p.DIVIDES, (B, T, H)),
        "S_kept": (p.KEEPS, (B, H, -(-T // p.C), p.D, p.V)),
        "z_kept": (p.KEEPS and p.DIVIDES, (B, H, -(-T // p.C), p.D)),
        "A_kept": (p.KEEPS and p.CORRECTS, (B, T, H, p.C)),
    }
    return found | {name: (shape, torch.float32) for name, (is_, shape) in numbers.items() if is_}


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, S, z, _ = given
    names = ("y", "S", "z", "S_kept", "z_kept", "A_kept")
    p = plan(problem, keeps="S_kept" in out)
    launch(
        fwp_chunk_forward, p, v,
        q, k, v, alpha, beta, projection, S, z, out["o"], *map(out.get, names),
        problem.T, problem.H,
    )  # fmt: skip


def backward(
    problem: Problem,
    given: Given,
    out: dict[str, Tensor],
    do: Tensor,
    dS_out: Tensor | None,
    dz_out: Tensor | None,
) -> dict[str, Tensor | None]:
    q, k, v, alpha, beta, projection, S, z, _ = given
    o, y, S_kept, z_kept, A_kept = map(out.get, ("o", "y", "S_kept", "z_kept", "A_kept"))
    p, T, H = plan(problem, backward=True), problem.T, problem.H
    dq, dk, dz = (parts(x, p.tiles) for x in (q, k, z))
    # Both kernels have a part in the gradient of what decays.
    dalpha = parts(alpha, 2 * p.tiles)
    dbeta = parts(beta, 2 * p.tiles if p.GATED else p.tiles)
    dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
    part, part_gate, part_z = k.numel(), k.numel() // p.K, problem.B * H * p.D
    if S_kept is None:
        launch(fwp_sum_backward_q, p, v, q, k, v, projection, S, z, o, y, do, dq, T, H, part)
        launch(
            fwp_sum_backward_kv, p, v,
            q, k, v, projection, o, y, do, dS_out, dz_out, dk, dv, dS, dz, T, H, part, part_z,
        )  # fmt: skip
    else:
        decay = dbeta if p.GATED else dalpha
        launch(
            fwp_chunk_backward_q, p, v,
            q, k, v, alpha, beta, projection, S_kept, z_kept, A_kept, o, y, do,
            dq, None if decay is None else decay[p.tiles :], T, H, part, part_gate,
            chunks=S_kept.shape[2],
        )  # fmt: skip
        launch(
            fwp_chunk_backward_kv, p, v,
            q, k, v, alpha, beta, projection, S_kept, z_kept, A_kept, o, y, do, dS_out, dz_out,
            dk, dv, dalpha, dbeta, dS, dz, T, H, part, part_gate, part_z,
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
