"""What the quality suites train: Transformers whose self-attention is a registered implementation.

Vaswani et al. 2017 with post-norm residuals, as the language models of Schlag et al. 2021 (section
6.3); only what mixes tokens differs from model to model. No randomness but that of the generator
that `initialize` is given.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from fwpbench.harness.attention import fast_weight_attention
from fwpbench.implementations.base import Implementation
from fwpbench.operators.feature_maps import orthogonal_projection
from fwpbench.operators.operator import Operator
from fwpbench.operators.state import State

#: Added to the logit of a decay α = sigmoid(·): at first, half of a pair is left after 37 tokens.
ALPHA_BIAS = 4.0


class Mixed(NamedTuple):
    """`state` is None unless it was asked for."""

    x: Float[Tensor, "B T width"]
    state: State | None


class TokenMixer(nn.Module):
    """Self-attention by any operator: q, k, v and the gates of every head are one projection of x
    without bias; gates are its sigmoids. K = V = width ÷ heads."""

    def __init__(
        self,
        operator: Operator,
        width: int,
        heads: int,
        implementation: str | Implementation = "auto",
        *,
        causal: bool = True,
    ):
        super().__init__()
        self.operator, self.implementation, self.causal = operator, implementation, causal
        self.heads, self.size = heads, width // heads
        D = operator.feature_map.size(self.size)
        self.gates = {
            name: D if per == "feature" else 1 for name, per in operator.update_rule.gates.items()
        }
        self.project = nn.Linear(
            width, heads * (3 * self.size + sum(self.gates.values())), bias=False
        )
        self.leave = nn.Linear(heads * self.size, width, bias=False)
        M = operator.feature_map.projection_columns
        self.projection: Tensor | None
        self.register_buffer("projection", None if M is None else torch.zeros(self.size, M))

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        state: State | None = None,
        return_state: bool = False,
    ) -> Mixed:
        parts = self.project(x).unflatten(-1, (self.heads, -1))
        q, k, v, *gates = parts.split([self.size] * 3 + list(self.gates.values()), dim=-1)
        made = dict(zip(self.gates, map(_gate, self.gates, gates), strict=True))
        call: dict[str, Any] = {
            "feature_map": self.operator.phi,
            "update_rule": self.operator.rule,
            "normalization": self.operator.norm,
            "projection": self.projection,
            "mask": mask,
            "causal": self.causal,
            "initial_state": state,
            "implementation": self.implementation,
            **made,
        }
        if return_state:
            o, state = fast_weight_attention(q, k, v, return_state=True, **call)
            assert o is not None
        else:
            o, state = fast_weight_attention(q, k, v, **call), None
        return Mixed(self.leave(o.flatten(2)), state)


def _gate(name: str, logits: Float[Tensor, "B T H n"]) -> Tensor:
    """[B T H] for a gate per head, [B T H D] for one per feature."""
    gate = torch.sigmoid(logits + ALPHA_BIAS if name == "alpha" else logits)
    return gate.squeeze(-1) if gate.shape[-1] == 1 else gate


class CrossAttention(nn.Module):
    """Softmax attention from one sequence to another, which may be padded."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, width, bias=False)
        self.offer = nn.Linear(width, 2 * width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        memory: Float[Tensor, "B N width"],
        mask: Bool[Tensor, "B N"],
    ) -> Float[Tensor, "B T width"]:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.ask(x), *self.offer(memory).chunk(2, dim=-1))
        )
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        left: Tensor = self.leave(o.transpose(1, 2).flatten(2))
        return left


class Layer(nn.Module):
    """Mix tokens, look across (in a decoder), transform each; each added, then normalised."""

    def __init__(self, mixer: TokenMixer, width: int, hidden: int, *, heads_across: int = 0):
        super().__init__()
        self.mixer, self.mixed = mixer, nn.LayerNorm(width)
        self.across = CrossAttention(width, heads_across) if heads_across else None
        self.crossed = nn.LayerNorm(width) if heads_across else None
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.transformed = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        state: State | None = None,
        return_state: bool = False,
        memory: Float[Tensor, "B N width"] | None = None,
        memory_mask: Bool[Tensor, "B N"] | None = None,
    ) -> Mixed:
        mixed = self.mixer(x, mask=mask, state=state, return_state=return_state)
        x = self.mixed(x + mixed.x)
        if self.across is not None and self.crossed is not None:
            x = self.crossed(x + self.across(x, memory, memory_mask))
        x = self.transformed(x + self.outer(torch.relu(self.inner(x))))
        return Mixed(x, mixed.state)


def positions(first: int, tokens: int, width: int) -> Float[Tensor, "tokens width"]:
    """Sinusoids of Vaswani et al. 2017 in halves, [sin | cos], counted from the start."""
    place = torch.arange(first, first + tokens, dtype=torch.float32)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = place[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def initialize(model: nn.Module, generator: Generator, *, std: float) -> None:
    """Weights N(0, std²), biases 0, LayerNorms 1, and the projections of random feature maps."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0.0, std, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()
        if isinstance(module, TokenMixer) and module.projection is not None:
            K, M = module.projection.shape
            module.projection.copy_(orthogonal_projection(K, M, generator))


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
