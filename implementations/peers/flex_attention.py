"""torch's flex_attention: softmax attention compiled for its mask, skipping what is masked.

The mask of a shape is made once, as its users do, and the function is compiled by torch where there
is a GPU: without that it computes every pair, and would be no peer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


def missing() -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here, and flex_attention is compiled for one"
    return None


def cannot(problem: Problem) -> str | None:
    p = problem
    if p.rule != "softmax-attention":
        return f"only softmax-attention, not {p.rule}"
    if p.direction == "decode":
        return "its mask is made for a length: one more token would be another mask each time"
    for asked, words in (
        (not p.causal, "causal=no: without a mask it is scaled_dot_product_attention"),
        (p.masked, "a mask of tokens: its block mask would be made anew in every call"),
        (not p.reads, "reads=no"),
        (p.state_in, "tokens that went before: its mask is square here"),
    ):
        if asked:
            return f"not called with {words}"
    if p.dtype == "fp64":
        return "its kernels compute in float32, not in fp64"
    return None


def run(problem: Problem, inputs: Inputs) -> Output:
    assert inputs.q is not None, "refused before"
    q, k, v = (x.transpose(1, 2) for x in (inputs.q, inputs.k, inputs.v))  # [B H T ·], a view
    attend = _compiled() if q.is_cuda else _flex_attention
    o = attend(q, k, v, _causal(q.shape[2], str(q.device)))
    state = State(torch.cat([k, v], dim=-1)) if problem.state_out else None
    return Output(o.transpose(1, 2), state)


def _flex_attention(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    o = flex_attention(q, k, v, block_mask=mask)
    assert isinstance(o, Tensor)
    return o


@cache
def _compiled() -> Callable[..., Tensor]:
    # Beyond its limit torch would go on uncompiled; fullgraph makes that an error.
    torch._dynamo.config.recompile_limit = 4096
    torch._dynamo.config.accumulated_recompile_limit = 4096
    return torch.compile(_flex_attention, dynamic=False, fullgraph=True)


@cache
def _causal(tokens: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    # A lambda: torch counts the parameters, and checks of types in tests would hide those.
    return create_block_mask(
        lambda batch, head, query, key: query >= key, None, None, tokens, tokens, device=device
    )


IMPLEMENTATION = Implementation(
    run,
    "torch.nn.attention.flex_attention, compiled",
    missing=missing,
    cannot=cannot,
    devices=("cuda",),
    origin="third-party",
)
