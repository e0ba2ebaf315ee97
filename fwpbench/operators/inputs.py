"""Inputs of a problem, the same for everyone who is asked the same problem with the same seed.

Every family is drawn in float32 on the CPU from a generator made from the seed, then rounded to the
problem's dtype; gates and states stay in float32, because a decay of 1 − 2⁻¹² rounds to 1 in bf16
and would be another operator.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.feature_maps import orthogonal_projection
from fwpbench.operators.features import features
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.operators.streams import stream

#: Tokens whose keys and values make up a state that goes in (softmax-attention: all T of decode).
TOKENS_BEFORE = 16


class Inputs(NamedTuple):
    """What an implementation is given. T is 1 when decoding; q is None where nothing is read."""

    q: Float[Tensor, "B T H K"] | None
    k: Float[Tensor, "B T H K"]
    v: Float[Tensor, "B T H V"]
    gates: dict[str, Tensor]  # each [B T H], or [B T H D] where the rule's gate is per feature
    projection: Float[Tensor, "K M"] | None = None
    state: State | None = None
    mask: Bool[Tensor, "B T"] | None = None


def make_inputs(problem: Problem, *, seed: int, device: str | torch.device = "cpu") -> Inputs:
    """The inputs of `problem` for `seed`: equal on every machine and for every implementation.

    q and k of a `normal` input are standard normal. The state that goes in holds what the sum rule
    stores of TOKENS_BEFORE tokens of the same family, so that S and z belong together.
    """
    p, family = problem, INPUT_FAMILIES[problem.inputs]
    q, k, v = (
        _draw(problem, what, p.tokens, seed).to(device=device, dtype=p.torch_dtype)
        for what in ("q", "k", "v")
    )
    gates = {}
    for name, per in p.operator.update_rule.gates.items():
        g = stream(seed, name)
        shape = (p.B, p.tokens, p.H, *([p.D] if per == "feature" else []))
        draw = getattr(family, name)
        gates[name] = draw(torch.randn(shape, generator=g), g).to(device, p.arithmetic_dtype)
    projection = None
    if (M := p.operator.feature_map.projection_columns) is not None:
        projection = orthogonal_projection(p.K, M, stream(seed, "projection"))
        projection = projection.float().to(device, p.arithmetic_dtype)
    mask = None
    if p.masked:
        mask = torch.rand(p.B, p.tokens, generator=stream(seed, "mask")) > 0.25
        mask = mask.to(device)
    state = _state_before(p, seed, projection, device) if p.state_in else None
    return Inputs(q if p.reads else None, k, v, gates, projection, state, mask)


def _draw(problem: Problem, what: str, tokens: int, seed: int) -> Tensor:
    p, family = problem, INPUT_FAMILIES[problem.inputs]
    g = stream(seed, what)
    size = p.V if what.startswith("v") else p.K
    x = torch.randn(p.B, tokens, p.H, size, generator=g)
    if what.startswith("v"):
        return family.values(x, g)
    if what.startswith("q") and family.queries_like_keys:
        # Ask for keys that are there: the same draw, in another order.
        g = stream(seed, what.replace("q", "k"))
        keys = family.keys(torch.randn(p.B, tokens, p.H, size, generator=g), g)
        return keys[:, torch.randperm(tokens, generator=g)]
    return family.keys(x, g)


def _state_before(
    p: Problem, seed: int, projection: Tensor | None, device: str | torch.device
) -> State:
    rule = p.operator.update_rule
    tokens = p.T if rule.keeps_tokens and p.direction == "decode" else TOKENS_BEFORE
    # Rounded to the problem's dtype first, as keys and values that were stored had been.
    k, v = (
        _draw(p, what, tokens, seed).to(p.torch_dtype).to(device, p.state_dtype)
        for what in ("k before", "v before")
    )
    if rule.keeps_tokens:
        return State(torch.cat([k, v], dim=-1).transpose(1, 2).contiguous())
    phi = features(p.operator, k, projection)
    S = torch.einsum("bthd,bthv->bhdv", phi, v)
    return State(S, phi.sum(1) if p.operator.divides else None)
