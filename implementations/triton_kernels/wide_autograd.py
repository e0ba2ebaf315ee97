"""The kernels for a wide φ as one differentiable call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Output
from fwpbench.implementations.triton_kernels.launch import added, launch, parts
from fwpbench.implementations.triton_kernels.plan import Plan, plan
from fwpbench.implementations.triton_kernels.wide_backward import (
    fwp_wide_sum_backward_kv,
    fwp_wide_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.wide_forward import fwp_wide_sum_forward
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def run(problem: Problem, inputs: Inputs) -> Output:
    assert inputs.q is not None, "refused before"
    S, z = (None, None) if inputs.state is None else inputs.state
    o, S, z = WideSum.apply(  # type: ignore[no-untyped-call]
        plan(problem), inputs.q, inputs.k, inputs.v, inputs.projection, S, z
    )
    return Output(o, State(S, z) if problem.state_out else None)


class WideSum(torch.autograd.Function):
    """o, S and z of q, k, v and the state before; None for a state that is not given out."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        projection: Tensor | None,
        S: Tensor | None,
        z: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        B, T, H, _ = v.shape
        o = v.new_empty(v.shape)
        y = v.new_empty(B, T, H, dtype=torch.float32) if plan.DIVIDES else None
        S_out, z_out = _kept(plan, v, S, z)
        launch(
            fwp_wide_sum_forward, plan, v,
            q, k, v, projection, S_out, z_out, o, y, T, H, B * H * plan.D,
        )  # fmt: skip
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, projection, S, z, o if plan.DIVIDES else None, y)
        if not plan.STATE_OUT:
            return o, None, None
        return o, S_out, None if z_out is None else z_out[0]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, do: Tensor, dS_out: Tensor | None, dz_out: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        q, k, v, projection, S, z, o, y = ctx.saved_tensors
        do = do.contiguous()
        B, T, H, _ = v.shape
        dq, dk = (parts(x, plan.tiles) for x in (q, k))
        dv = torch.empty_like(v)
        launch(
            fwp_wide_sum_backward_q, plan, v,
            q, k, v, projection, *_kept(plan, v, S, z), o, y, do, dq,
            T, H, q.numel(), B * H * plan.D,
        )  # fmt: skip
        dS, dz = _kept(plan, v, dS_out, None)
        if dz is not None and dz_out is not None:
            dz[0] = dz_out  # no tile's part, so the first takes it
        launch(
            fwp_wide_sum_backward_kv, plan, v,
            q, k, v, projection, o, y, do, dS, dz, dk, dv,
            T, H, k.numel(), B * H * plan.D,
        )  # fmt: skip
        return (
            None, added(dq, q), added(dk, k), dv, None,
            None if S is None else dS, None if z is None or dz is None else dz.sum(0),
        )  # fmt: skip


def _kept(
    plan: Plan, v: Tensor, S: Tensor | None, z: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Memory for the state of every block, which begins with S and z; a z for each tile."""
    B, _, H, _ = v.shape
    kept = v.new_zeros(B, H, plan.D, plan.V, dtype=torch.float32)
    if S is not None:
        kept.copy_(S)
    if not plan.DIVIDES:
        return kept, None
    normalizers = v.new_zeros(plan.tiles, B, H, plan.D, dtype=torch.float32)
    if z is not None:
        normalizers.copy_(z)
    return kept, normalizers
