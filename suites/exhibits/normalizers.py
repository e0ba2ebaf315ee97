"""Normalisers that sum the wrong axis, forget a state, lose a gradient or overflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fwpbench.implementations.base import Output
from fwpbench.operators import law
from fwpbench.operators.features import Prepared, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.suites.exhibits.exhibit import FLA, Credit, Exhibit, shows

IDSIA = "https://github.com/IDSIA/lmtool-fwp/blob/48132dea95c6a27d8778c4dac21b1ef2013ef913"

#: o before it is normalised, and what it is made of, to o.
Normalize = Callable[[Tensor, Prepared], Tensor]


def _normalized(problem: Problem, inputs: Inputs, *, normalize: Normalize) -> Output:
    """The sum rule in its quadratic form, S₀ before it, then `normalize`."""
    prepared = prepare(problem, inputs)
    q, k, v, _, state = prepared
    scores = torch.einsum("bthd,bshd->bhts", q, k).tril()
    o = torch.einsum("bhts,bshv->bthv", scores, v) + torch.einsum("bthd,bhdv->bthv", q, state.S)
    return Output(normalize(o, prepared).to(problem.torch_dtype), None)


def _by(z: Tensor, o: Tensor, prepared: Prepared) -> Tensor:
    """o / (z·q + ε)"""
    assert prepared.q is not None
    return o / ((z * prepared.q).sum(-1, keepdim=True) + EPSILON)


def _entering(prepared: Prepared) -> Tensor:
    assert prepared.state.z is not None
    return prepared.state.z[:, None]


def right(o: Tensor, prepared: Prepared) -> Tensor:
    return _by(prepared.k.cumsum(1) + _entering(prepared), o, prepared)


def over_heads(o: Tensor, prepared: Prepared) -> Tensor:
    """Axis −2 of [B T H D] are the heads."""
    return _by(prepared.k.cumsum(-2), o, prepared)


def without_gradient_of_keys(o: Tensor, prepared: Prepared) -> Tensor:
    """A kernel called outside of autograd: its result has no history."""
    return _by(prepared.k.detach().cumsum(1), o, prepared)


def without_what_entered(o: Tensor, prepared: Prepared) -> Tensor:
    return _by(prepared.k.cumsum(1), o, prepared)


def multiplied(o: Tensor, prepared: Prepared) -> Tensor:
    """o · (z·q): the reciprocal was forgotten."""
    assert prepared.q is not None
    return o * (prepared.k.cumsum(1) * prepared.q).sum(-1, keepdim=True)


def in_fp16(o: Tensor, prepared: Prepared) -> Tensor:
    """z is rounded to fp16 token by token, and so is K^(−1/2) z·q: above 65,504 both are ∞."""
    q, k = prepared.q, prepared.k
    assert q is not None
    z = k.half().float().cumsum(1).half()
    scale: float = k.shape[-1] ** -0.5
    denominator: Tensor = ((q.half() * scale) * z).sum(-1, keepdim=True)
    return o * scale / denominator.float()


def _attention_normalized_delta(problem: Problem, inputs: Inputs, *, divided: bool) -> Output:
    """S ← S + β k (v − Sᵀk / (z·k + ε))ᵀ, or by the plain delta rule with other k and β:

    k' = k / (z·k + ε) and β' = β z·k make β' k' ≈ β k and Sᵀk' = Sᵀk / (z·k + ε).
    """
    q, k, v, gates, (S, z) = prepare(problem, inputs)
    assert q is not None
    assert z is not None
    read = []
    for t in range(k.shape[1]):
        key, beta = k[:, t], gates["beta"][:, t, :, None]
        # What the first token retrieves is 0, whatever that is divided by.
        seen = (z * key).sum(-1, keepdim=True) if t else torch.ones_like(beta)
        asking = key / (seen + EPSILON)
        written = beta * seen * asking if divided else beta * key
        found = torch.einsum("bhdv,bhd->bhv", S, asking)
        S, z = S + written[..., None] * (v[:, t] - found)[:, :, None], z + key
        read.append(law.read(problem.operator, State(S, z), q[:, t]))
    return Output(torch.stack(read, dim=1).to(problem.torch_dtype), None)


def _louder(inputs: Inputs) -> Inputs:
    """Two above 0 in the mean, as after a layer with a bias."""
    assert inputs.q is not None
    return inputs._replace(q=inputs.q + 2, k=inputs.k + 2)


def _neighbours(inputs: Inputs) -> Inputs:
    """Unit vectors e_i become e_i + e_{i+1}, whose dpfp-1 is one feature alone."""
    assert inputs.q is not None
    q, k = (x + x.roll(1, dims=-1) for x in (inputs.q, inputs.k))
    return inputs._replace(q=q, k=k)


def _sum(words: str) -> Problem:
    return Problem.parse(f"rule=sum phi=elu+1 norm=attention B=1 V=12 {words}")


EXHIBITS = {
    "normaliser-over-heads": Exhibit(
        wrong="The running sum of the keys runs over the heads instead of the tokens.",
        credits=(
            Credit(
                "flash-linear-attention, mended by pull request 594 (September 2025)",
                f"{FLA}/pull/594",
            ),
            Credit("once more in the naive form, issue 850 (April 2026)", f"{FLA}/issues/850"),
            Credit("mended by pull request 851", f"{FLA}/pull/851"),
        ),
        fixed="in flash-linear-attention after 0.3.2, and in April 2026",
        problem=_sum("T=67 H=3 K=16 dtype=fp32 direction=forward"),
        published=partial(_normalized, normalize=over_heads),
        mended=partial(_normalized, normalize=right),
        must=shows("incorrect", "o"),
    ),
    "normaliser-without-gradient": Exhibit(
        wrong="The normaliser's sum of keys is made outside of autograd, so dk lacks a term.",
        credits=(Credit("flash-linear-attention, pull request 875 (May 2026)", f"{FLA}/pull/875"),),
        fixed="in 0.5.1",
        problem=_sum("T=67 H=2 K=16 dtype=fp32 direction=forward+backward"),
        published=partial(_normalized, normalize=without_gradient_of_keys),
        mended=partial(_normalized, normalize=right),
        must=shows("incorrect", "dk"),
    ),
    "normaliser-without-state": Exhibit(
        wrong="A state goes in, but the keys it has seen are not in the normaliser.",
        credits=(
            Credit("flash-linear-attention, pull request 268 (April 2025)", f"{FLA}/pull/268"),
            Credit(
                "normalize_output of 0.3.2",
                f"{FLA}/blob/v0.3.2/fla/ops/linear_attn/utils.py#L7-L10",
            ),
        ),
        fixed="by another change: 0.5.0 carries z from call to call",
        problem=_sum("T=67 H=2 K=16 dtype=fp32 direction=forward state=in"),
        published=partial(_normalized, normalize=without_what_entered),
        mended=partial(_normalized, normalize=right),
        must=shows("incorrect", "o"),
    ),
    "normaliser-in-fp16": Exhibit(
        wrong="The running sum of the keys and the denominator are kept in the dtype of the keys: "
        "in fp16 they overflow, and what is divided by infinity is 0.",
        credits=(
            Credit(
                "flash-linear-attention 0.5.2, StatefulNormalizeFunction",
                f"{FLA}/blob/v0.5.2/fla/ops/linear_attn/utils.py#L21-L30",
            ),
            Credit(
                "the same sum, fast-transformers, issue 32 (November 2020)",
                "https://github.com/idiap/fast-transformers/issues/32",
            ),
        ),
        fixed="not in 0.5.2",
        problem=_sum("T=1031 H=1 K=64 dtype=fp16 direction=forward"),
        given=_louder,
        published=partial(_normalized, normalize=in_fp16),
        mended=partial(_normalized, normalize=right),
        must=shows("incorrect", "o"),
    ),
    "normaliser-multiplied": Exhibit(
        wrong="The output is multiplied by z·φ(q) instead of divided by it.",
        credits=(
            Credit(
                "performer-pytorch, issue 40 (December 2020)",
                "https://github.com/lucidrains/performer-pytorch/issues/40",
            ),
        ),
        fixed="in 0.11.2",
        problem=_sum("T=67 H=2 K=16 dtype=fp32 direction=forward"),
        published=partial(_normalized, normalize=multiplied),
        mended=partial(_normalized, normalize=right),
        must=shows("incorrect", "o"),
    ),
    "written-key-divided": Exhibit(
        wrong="Attention normalisation of the delta rule divides the key that is written and "
        "multiplies β by the same z·k: where z·k is 0, a new key, nothing is written at all.",
        credits=(
            Credit(
                "lmtool-fwp, CudaNormFastWeightLinearTransformerLayer",
                f"{IDSIA}/src/utils/cuda_fast_weight_layer.py",
            ),
        ),
        fixed="not in that code",
        problem=Problem.parse(
            "rule=delta phi=dpfp-1 norm=sum+attention B=1 T=67 H=2 K=16 V=12 dtype=fp32 "
            "direction=forward inputs=one-hot"
        ),
        given=_neighbours,
        published=partial(_attention_normalized_delta, divided=True),
        mended=partial(_attention_normalized_delta, divided=False),
        must=shows("incorrect", "o"),
    ),
}
