"""Softmax attention with the gradients that its kernels compute: the yardstick of their rounding.

Dao et al. 2022, algorithms 2 and 4. Weights are divided by their sum after they met the values,
come back as exp(s − log Σ exp s), and dS = P∘(dP − Σ_v dO∘O) is made from the output. Where one key
takes nearly all of the weight the terms of dS cancel, and each is rounded in an order of its own;
the plain softmax's gradient knows nothing of that error, which every such kernel has.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fwpbench.operators.chunk_form import Matmul
from fwpbench.operators.features import prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def attention_form(problem: Problem, inputs: Inputs, *, matmul: Matmul) -> tuple[Tensor, State]:
    """o and the state after the last token, for problems of softmax-attention that read."""
    prepared = prepare(problem, inputs)
    assert prepared.q is not None, "the attention form reads"
    q, k, v = (x.transpose(1, 2) for x in (prepared.q, prepared.k, prepared.v))
    S = torch.cat([prepared.state.S, torch.cat([k, v], dim=-1)], dim=2)
    keys, values = S.split([problem.K, problem.V], dim=-1)
    T, N = q.shape[2], keys.shape[2]
    unseen = torch.zeros(T, N, dtype=torch.bool, device=q.device)
    if problem.causal:
        unseen = torch.ones_like(unseen).triu(N - T + 1)
    if inputs.mask is not None:
        unseen = unseen | ~F.pad(inputs.mask, (N - T, 0), value=True)[:, None, None, :]
    o = _Attend.apply(q * problem.K**-0.5, keys, values, unseen, matmul)  # type: ignore[no-untyped-call]
    return o.transpose(1, 2).to(problem.torch_dtype), State(S.to(problem.state_dtype))


class _Attend(torch.autograd.Function):
    """softmax(QKᵀ) V over what is seen; a query that sees nothing reads 0."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, unseen: Tensor, matmul: Matmul
    ) -> Tensor:
        scores = matmul(q, k.mT).masked_fill(unseen, -torch.inf)
        most = scores.amax(-1, keepdim=True)
        most = torch.where(most.isfinite(), most, 0.0)
        weights = (scores - most).exp()
        total = weights.sum(-1, keepdim=True)
        total = torch.where(total > 0, total, 1.0)
        o = matmul(weights, v) / total
        ctx.save_for_backward(q, k, v, o, scores, most + total.log())
        ctx.matmul = matmul
        return o

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (q, k, v, o, scores, log_total), matmul = ctx.saved_tensors, ctx.matmul
        P = (scores - log_total).exp()
        # By a product with 1: rounded as it is stored.
        stored = matmul(o, torch.eye(o.shape[-1], dtype=o.dtype, device=o.device))
        # A sum, no product of matrices: kernels add this up in an order of its own.
        read = (do * stored).sum(-1, keepdim=True)
        dscores = P * (matmul(do, v.mT) - read)
        return matmul(dscores, k), matmul(dscores.mT, q), matmul(P.mT, do), None, None
