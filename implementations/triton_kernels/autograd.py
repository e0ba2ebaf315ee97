"""The kernels as one differentiable call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Output
from fwpbench.implementations.triton_kernels.backward import (
    fwp_sum_backward_kv,
    fwp_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.forward import fwp_chunk_forward
from fwpbench.implementations.triton_kernels.launch import added, contiguous, launch, parts
from fwpbench.implementations.triton_kernels.plan import plan
from fwpbench.implementations.triton_kernels.reverse_sweep import (
    fwp_chunk_backward_kv,
    fwp_chunk_backward_q,
)
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def run(problem: Problem, inputs: Inputs) -> Output:
    assert inputs.q is not None, "refused before"
    S, z = (None, None) if inputs.state is None else inputs.state
    o, S, z = Chunked.apply(  # type: ignore[no-untyped-call]
        problem,
        inputs.q,
        inputs.k,
        inputs.v,
        inputs.gates.get("alpha"),
        inputs.gates.get("beta"),
        inputs.projection,
        S,
        z,
    )
    return Output(o, State(S, z) if problem.state_out else None)


class Chunked(torch.autograd.Function):
    """o, S and z of the inputs and the state before; None for what a problem does not have."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        projection: Tensor | None,
        S: Tensor | None,
        z: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        q, k, v, alpha, beta, projection, S, z = map(
            contiguous, (q, k, v, alpha, beta, projection, S, z)
        )
        p, (B, T, H, V) = plan(problem, keeps=any(ctx.needs_input_grad)), v.shape

        def new(*shape: int) -> Tensor:
            return v.new_empty(shape, dtype=torch.float32)

        o, y = torch.empty_like(v), new(B, T, H) if p.DIVIDES else None
        S_out = z_out = S_kept = z_kept = A_kept = None
        if p.STATE_OUT:
            S_out, z_out = new(B, H, p.D, V), new(B, H, p.D) if p.DIVIDES else None
        if p.KEEPS:
            chunks = -(-T // p.C)
            S_kept = new(B, H, chunks, p.D, V)
            z_kept = new(B, H, chunks, p.D) if p.DIVIDES else None
            A_kept = new(B, T, H, p.C) if p.CORRECTS else None
        launch(
            fwp_chunk_forward, p, v,
            q, k, v, alpha, beta, projection, S, z,
            o, y, S_out, z_out, S_kept, z_kept, A_kept, T, H,
        )  # fmt: skip
        ctx.problem = problem
        ctx.save_for_backward(
            q, k, v, alpha, beta, projection, S, z, S_kept, z_kept, A_kept,
            o if p.DIVIDES else None, y,
        )  # fmt: skip
        return o, S_out, z_out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, do: Tensor, dS_out: Tensor | None, dz_out: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, alpha, beta, projection, S, z, S_kept, z_kept, A_kept, o, y = ctx.saved_tensors
        do, dS_out, dz_out = map(contiguous, (do, dS_out, dz_out))
        p, (_, T, H, _) = plan(ctx.problem, backward=True), v.shape
        dq, dk, dz = (parts(x, p.tiles) for x in (q, k, z))
        # Both kernels have a part in the gradient of what decays.
        dalpha = parts(alpha, 2 * p.tiles)
        dbeta = parts(beta, 2 * p.tiles if p.GATED else p.tiles)
        dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
        part, part_gate, part_z = k.numel(), k.numel() // p.K, v.shape[0] * H * p.D
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
        return (
            None,
            added(dq, q),
            added(dk, k),
            dv,
            added(dalpha, alpha),
            added(dbeta, beta),
            None,
            dS,
            added(dz, z),
        )
