"""The law of one token for a whole operator: rule, normalisation and z together.

This is the definition that everything else is measured against. All axes before the last two are
free, so that one line serves a token of [B, H] heads and a test of one head.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.operator import Operator
from fwpbench.operators.state import State


def write(
    operator: Operator,
    state: State,
    k: Float[Tensor, "*b D"],
    v: Float[Tensor, "*b V"],
    gates: Mapping[str, Tensor],
) -> State:
    """The state after one token; k is φ(k), normalised."""
    rule, (S, z) = operator.update_rule, state
    if z is None:
        return State(rule.step(S, k, v, **gates), None)
    if rule.normalizer == "sum":
        retrieval = 1 / ((z * k).sum(-1) + EPSILON)
        return State(rule.step(S, k, v, **gates, retrieval=retrieval), z + k)
    one = torch.ones_like(v[..., :1])
    return State(rule.step(S, k, v, **gates), rule.step(z[..., None], k, one, **gates)[..., 0])


def read(operator: Operator, state: State, q: Float[Tensor, "*b D"]) -> Float[Tensor, "*b V"]:
    """What the state answers to one query; q is φ(q), normalised."""
    o = operator.update_rule.read(state.S, q)
    if state.z is None:
        return o
    return o / ((state.z * q).sum(-1, keepdim=True) + EPSILON)
