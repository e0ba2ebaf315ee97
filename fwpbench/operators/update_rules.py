"""Update rules: how one token changes the fast weights.

A rule is written once, for one token, on fast weights `S` of shape `[*b, D, V]`. That law is the
definition; every implementation is a faster way of saying the same thing. The first line of each
docstring is the formula, the second the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Weights = Float[Tensor, "*b D V"]
Key = Float[Tensor, "*b D"]
Value = Float[Tensor, "*b V"]
HeadGate = Float[Tensor, "*b"]
FeatureGate = Float[Tensor, "*b D"]


def read_weights(S: Weights, q: Key) -> Value:
    """o = Sᵀ q"""
    return torch.einsum("...dv,...d->...v", S, q)


@dataclass(frozen=True)
class UpdateRule:
    """The law `step(S, k, v, **gates) -> S` of one token, and what is true of it.

    `gates` names what the law reads besides, one number a head or one a feature.
    `normalizer` says how z of the attention normalisation follows: by the same law as one more
    value column that is 1 (`same-law`), by z + k (`sum`, and the law takes `retrieval`, the weight
    1 / (z·k + ε) of what it reads before it writes), or not at all.
    """

    step: Callable[..., Tensor]
    gates: Mapping[str, Literal["head", "feature"]] = field(default_factory=dict)
    normalizer: Literal["same-law", "sum"] | None = "same-law"
    read: Callable[[Tensor, Tensor], Tensor] = read_weights
    #: The state is what was written, whatever the order: reading may come after all writing.
    order_free: bool = False
    #: The law subtracts what it reads: needs bounded keys; β may go up to 2.
    corrects: bool = False
    #: The state keeps every token: [B, H, tokens, K + V].
    keeps_tokens: bool = False


def outer(k: Key, v: Value) -> Weights:
    return k[..., :, None] * v[..., None, :]


def sum_step(S: Weights, k: Key, v: Value) -> Weights:
    """S ← S + k vᵀ

    Katharopoulos et al. 2020, eq. 18; Schlag et al. 2021, eq. 17.
    """
    return S + outer(k, v)


def decay_step(S: Weights, k: Key, v: Value, alpha: HeadGate) -> Weights:
    """S ← α S + k vᵀ

    Sun et al. 2023, eq. 6 (fixed α); Dao and Gu 2024 (α from the token).
    """
    return alpha[..., None, None] * S + outer(k, v)


def gla_step(S: Weights, k: Key, v: Value, alpha: FeatureGate) -> Weights:
    """S ← diag(α) S + k vᵀ

    Yang et al. 2023, section 4.1, eq. 3 as revised in 2024 (gated linear attention).
    """
    return alpha[..., :, None] * S + outer(k, v)


def gated_step(S: Weights, k: Key, v: Value, beta: HeadGate) -> Weights:
    """S ← (1 − β) S + β k vᵀ

    Peng et al. 2021, as written by Schlag et al. 2021, appendix B.
    """
    return (1 - beta)[..., None, None] * S + outer(beta[..., None] * k, v)


def delta_step(
    S: Weights, k: Key, v: Value, beta: HeadGate, retrieval: HeadGate | None = None
) -> Weights:
    """S ← S + β k (v − Sᵀk)ᵀ

    Schlag et al. 2021, eq. 23–24; with attention Sᵀk is divided by z·k + ε (eq. 27).
    """
    found = read_weights(S, k)
    if retrieval is not None:
        found = retrieval[..., None] * found
    return S + outer(beta[..., None] * k, v - found)


def gated_delta_step(S: Weights, k: Key, v: Value, alpha: HeadGate, beta: HeadGate) -> Weights:
    """S ← αS + β k (v − αSᵀk)ᵀ

    Yang et al. 2024b, section 3.1, eq. 10 as published at ICLR 2025 (gated delta networks).
    """
    return delta_step(alpha[..., None, None] * S, k, v, beta)


def kda_step(S: Weights, k: Key, v: Value, alpha: FeatureGate, beta: HeadGate) -> Weights:
    """S ← diag(α)S + β k (v − (diag(α)S)ᵀk)ᵀ

    Kimi Team 2025, eq. 1 (Kimi delta attention).
    """
    return delta_step(alpha[..., :, None] * S, k, v, beta)


def fwm_step(S: Weights, k: Key, v: Value, beta: HeadGate) -> Weights:
    """S ← W / (relu(‖W‖ − 1) + 1) with W = S + β k (v − Sᵀk)ᵀ; the first write is not clipped

    Schlag et al. 2021, section 6.1.2 and its code, after Schlag, Munkhdalai and Schmidhuber 2021.
    """
    W = delta_step(S, k, v, beta)
    norm = W.square().sum((-2, -1), keepdim=True)
    # √ has an infinite slope at 0; the clip does nothing below 1, so the inside may stay above 1.
    clip = norm.clamp(min=1).sqrt()
    first = (S == 0).all(-1, keepdim=True).all(-2, keepdim=True)
    return torch.where(first, W, W / clip)


def read_layer_normalized(S: Weights, q: Key) -> Value:
    """o = LayerNorm(Sᵀ q) over the values, without affine parameters, ε = 1e-5"""
    o = read_weights(S, q)
    return F.layer_norm(o, o.shape[-1:], eps=1e-5)


def append_step(S: Float[Tensor, "*b N C"], k: Key, v: Value) -> Float[Tensor, "*b M C"]:
    """S ← [S; (k, v)]: every key and value is kept; o = softmax(q kᵀ / √K) v

    Vaswani et al. 2017, eq. 1; as a memory: Schlag et al. 2021, section 3.1, eq. 5–7.
    """
    return torch.cat([S, torch.cat([k, v], dim=-1)[..., None, :]], dim=-2)


def read_softmax(
    S: Float[Tensor, "*b N C"],
    q: Float[Tensor, "*b K"],
    counts: Bool[Tensor, "*b N"] | None = None,
) -> Value:
    """o = softmax(q kᵀ / √K) v over the tokens that count; 0 where none does"""
    K = q.shape[-1]
    keys, values = S[..., :K], S[..., K:]
    scores = torch.einsum("...nk,...k->...n", keys, q) * K**-0.5
    if counts is None:
        return torch.einsum("...n,...nv->...v", scores.softmax(-1), values)
    # Not −∞: where no token counts the softmax and its gradient would be NaN.
    weights = scores.masked_fill(~counts, torch.finfo(scores.dtype).min).softmax(-1)
    weights = weights.masked_fill(~counts, 0.0)
    return torch.einsum("...n,...nv->...v", weights, values)


SUM = UpdateRule(sum_step, order_free=True)
DECAY = UpdateRule(decay_step, {"alpha": "head"})
GLA = UpdateRule(gla_step, {"alpha": "feature"})
GATED = UpdateRule(gated_step, {"beta": "head"})
DELTA = UpdateRule(delta_step, {"beta": "head"}, normalizer="sum", corrects=True)
GATED_DELTA = UpdateRule(
    gated_delta_step, {"alpha": "head", "beta": "head"}, normalizer=None, corrects=True
)
KDA = UpdateRule(kda_step, {"alpha": "feature", "beta": "head"}, normalizer=None, corrects=True)
FWM = UpdateRule(fwm_step, {"beta": "head"}, normalizer=None, read=read_layer_normalized)
SOFTMAX_ATTENTION = UpdateRule(
    append_step, normalizer=None, read=read_softmax, order_free=True, keeps_tokens=True
)
