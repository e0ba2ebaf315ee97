"""The kernels as one differentiable call."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Output
from fwpbench.implementations.triton_kernels.backward import (
    fwp_sum_backward_kv,
    fwp_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.forward import fwp_sum_forward
from fwpbench.implementations.triton_kernels.plan import Plan, launch_options, plan
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def run(problem: Problem, inputs: Inputs) -> Output:
    assert inputs.q is not None, "refused before"
    S, z = (None, None) if inputs.state is None else inputs.state
    o, S, z = Sum.apply(plan(problem), inputs.q, inputs.k, inputs.v, inputs.projection, S, z)  # type: ignore[no-untyped-call]
    return Output(o, State(S, z) if problem.state_out else None)


class Sum(torch.autograd.Function):
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
        S, z = _contiguous(S), _contiguous(z)
        B, T, H, _ = v.shape
        o = v.new_empty(v.shape)
        y = v.new_empty(B, T, H, dtype=torch.float32) if plan.DIVIDES else None
        S_out = z_out = None
        if plan.STATE_OUT:
            S_out = v.new_empty(B, H, plan.D, plan.V, dtype=torch.float32)
            if plan.DIVIDES:
                z_out = v.new_empty(B, H, plan.D, dtype=torch.float32)
        _launch(fwp_sum_forward, plan, v, q, k, v, projection, S, z, o, y, S_out, z_out, T, H)
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, projection, S, z, o if plan.DIVIDES else None, y)
        return o, S_out, z_out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, do: Tensor, dS_out: Tensor | None, dz_out: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        q, k, v, projection, S, z, o, y = ctx.saved_tensors
        do, dS_out, dz_out = do.contiguous(), _contiguous(dS_out), _contiguous(dz_out)
        B, T, H, _ = v.shape
        dq, dk = (_parts(plan, x) for x in (q, k))
        dv, dS = torch.empty_like(v), None if S is None else torch.empty_like(S)
        dz = None if z is None else z.new_empty(plan.tiles, *z.shape)
        _launch(
            fwp_sum_backward_q, plan, v, q, k, v, projection, S, z, o, y, do, dq, T, H, q.numel()
        )
        _launch(
            fwp_sum_backward_kv, plan, v,
            q, k, v, projection, o, y, do, dS_out, dz_out, dk, dv, dS, dz,
            T, H, k.numel(), B * H * plan.D,
        )  # fmt: skip
        return None, _added(dq, q), _added(dk, k), dv, None, dS, None if dz is None else dz.sum(0)


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _parts(plan: Plan, x: Tensor) -> Tensor:
    """Room for each tile's part of a gradient; one part alone is the gradient itself."""
    dtype = x.dtype if plan.tiles == 1 else torch.float32
    return x.new_empty(plan.tiles, *x.shape, dtype=dtype)


def _added(parts: Tensor, like: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else parts.sum(0).to(like.dtype)


def _launch(kernel: Any, plan: Plan, v: Tensor, *arguments: Tensor | int | None) -> None:
    """One block a (batch, head) and tile of value columns; None stands for what is not there."""
    grid = (v.shape[0] * v.shape[2], plan.tiles)
    device: AbstractContextManager[Any] = nullcontext()
    if v.is_cuda:
        device = torch.cuda.device(v.device)
    with device:
        kernel[grid](*arguments, **vars(plan), **launch_options(plan))
