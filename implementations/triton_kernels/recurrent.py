"""The recurrent kernels as one call, differentiable for fwm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Output
from fwpbench.implementations.triton_kernels.launch import contiguous, launch
from fwpbench.implementations.triton_kernels.recurrent_backward import fwp_fwm_backward
from fwpbench.implementations.triton_kernels.recurrent_forward import fwp_recurrent_forward
from fwpbench.implementations.triton_kernels.recurrent_plan import (
    RecurrentPlan,
    recurrent_plan,
    tokens_between,
)
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def run(problem: Problem, inputs: Inputs) -> Output:
    S, z = (None, None) if inputs.state is None else inputs.state
    alpha, beta = (inputs.gates.get(name) for name in ("alpha", "beta"))
    given = inputs.q, inputs.k, inputs.v, alpha, beta, inputs.projection, S, z
    plan = recurrent_plan(problem)
    asked = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)
    plan = replace(plan, KEEPS=asked and plan.CLIPS)
    o, S, z = Recurrent.apply(plan, *given, inputs.mask)  # type: ignore[no-untyped-call]
    return Output(o, State(S, z) if problem.state_out else None)


class Recurrent(torch.autograd.Function):
    """o, S and z; None for what is not asked for."""

    @staticmethod
    def forward(
        ctx: Any, plan: RecurrentPlan,
        q: Tensor | None, k: Tensor, v: Tensor, alpha: Tensor | None, beta: Tensor | None,
        projection: Tensor | None, S: Tensor | None, z: Tensor | None, mask: Tensor | None,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        q, alpha, beta, projection, S, z, mask = map(
            contiguous, (q, alpha, beta, projection, S, z, mask)
        )
        k, v = k.contiguous(), v.contiguous()
        B, T, H, _ = v.shape
        C = tokens_between(T)
        o = v.new_empty(v.shape) if plan.READS else None
        clips = kept = S_out = z_out = None
        if plan.KEEPS:
            clips = v.new_empty(B, T, H, dtype=torch.float32)
            kept = v.new_empty(B, H, -(-T // C), plan.D, plan.V, dtype=torch.float32)
        if plan.STATE_OUT:
            S_out = v.new_empty(B, H, plan.D, plan.V, dtype=torch.float32)
            if plan.NORMALIZER != "none":
                z_out = v.new_empty(B, H, plan.D, dtype=torch.float32)
        launch(
            fwp_recurrent_forward, plan, v,
            q, k, v, alpha, beta, projection, mask, S, z, o, clips, kept, S_out, z_out, T, H, C,
        )  # fmt: skip
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, beta, projection, mask, clips, kept)
        return o, S_out, z_out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, do: Tensor | None, dS_out: Tensor | None, dz_out: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        plan: RecurrentPlan = ctx.plan
        if not plan.KEEPS:
            raise NotImplementedError("the recurrent kernels have the gradients of fwm only")
        q, k, v, beta, projection, mask, clips, kept = ctx.saved_tensors
        do, dS_out = contiguous(do), contiguous(dS_out)
        B, T, H, _ = v.shape
        C = tokens_between(T)
        scratch = v.new_empty(B, H, C, plan.D, plan.V, dtype=torch.float32)
        dq = None if q is None else torch.empty_like(q)
        dk, dv, dbeta = torch.empty_like(k), torch.empty_like(v), torch.empty_like(beta)
        dS = None
        if plan.STATE_IN:
            dS = v.new_empty(B, H, plan.D, plan.V, dtype=torch.float32)
        launch(
            fwp_fwm_backward, replace(plan, backward=True), v,
            q, k, v, beta, projection, mask, clips, kept, scratch, do, dS_out,
            dq, dk, dv, dbeta, dS, T, H, C,
        )  # fmt: skip
        return None, dq, dk, dv, None, dbeta, None, dS, None, None
