"""softmax-attention by torch's scaled_dot_product_attention (FlashAttention on GPUs)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def cannot(problem: Problem) -> str | None:
    if problem.rule != "softmax-attention":
        return f"only softmax-attention, not {problem.rule}"
    return None


def run(problem: Problem, inputs: Inputs) -> Output:
    k, v = (x.transpose(1, 2) for x in (inputs.k, inputs.v))  # [B H T ·], a view
    before = 0
    if inputs.state is not None:
        before = inputs.state.S.shape[2]
        keys, values = inputs.state.S.to(k.dtype).split([problem.K, problem.V], dim=-1)
        k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
    o = None if inputs.q is None else _attend(problem, inputs, k, v, before)
    state = None
    if problem.state_out:
        state = State(torch.cat([k, v], dim=-1).to(problem.state_dtype))
    return Output(o, state)


def _attend(problem: Problem, inputs: Inputs, k: Tensor, v: Tensor, before: int) -> Tensor:
    assert inputs.q is not None
    q = inputs.q.transpose(1, 2)
    T, N = q.shape[2], k.shape[2]
    if inputs.mask is None and (T == 1 or before == 0 or not problem.causal):
        causal = problem.causal and T > 1
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    seen = torch.ones(T, N, dtype=torch.bool, device=q.device)
    if problem.causal:
        seen = seen.tril(before)
    if inputs.mask is not None:
        counts = F.pad(inputs.mask, (before, 0), value=True)
        seen = seen & counts[:, None, None, :]
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    # A query that sees no token at all reads 0.
    return torch.where(seen.any(-1)[..., None], o, 0.0).transpose(1, 2)


IMPLEMENTATION = Implementation(
    run, "torch.nn.functional.scaled_dot_product_attention", cannot=cannot, origin="third-party"
)
