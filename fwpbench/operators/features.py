"""Queries and keys as the fast weights see them: mapped by φ, then normalised, then masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.operator import Operator

if TYPE_CHECKING:
    from fwpbench.operators.inputs import Inputs
    from fwpbench.operators.problem import Problem
    from fwpbench.operators.state import State


def features(
    operator: Operator,
    x: Float[Tensor, "... K"],
    projection: Float[Tensor, "K M"] | None = None,
    *,
    query: bool = False,
) -> Float[Tensor, "... D"]:
    """norm(φ(x)) of keys, or of queries."""
    scaled_query = query and operator.stabilized_queries
    return operator.normalization.scale(
        operator.feature_map(x, projection, scaled_query=scaled_query)
    )


class Prepared(NamedTuple):
    """Inputs in the dtype of the arithmetic, q and k already φ(q) and φ(k)."""

    q: Float[Tensor, "B T H D"] | None
    k: Float[Tensor, "B T H D"]
    v: Float[Tensor, "B T H V"]
    gates: dict[str, Tensor]
    state: State


def prepare(problem: Problem, inputs: Inputs) -> Prepared:
    """What every implementation in plain PyTorch starts from: cast, mapped, normalised, a state.

    All arithmetic is in float32 (float64 for fp64), whatever the dtype of the inputs.
    """
    from fwpbench.operators.state import State

    dtype, operator = problem.arithmetic_dtype, problem.operator
    projection = None if inputs.projection is None else inputs.projection.to(dtype)
    q = None if inputs.q is None else inputs.q.to(dtype)
    q = None if q is None else features(operator, q, projection, query=True)
    k = features(operator, inputs.k.to(dtype), projection)
    v = inputs.v.to(dtype)
    gates = {name: gate.to(dtype) for name, gate in inputs.gates.items()}
    if inputs.state is not None:
        S, z = inputs.state
        state = State(S.to(dtype), None if z is None else z.to(dtype))
    elif operator.update_rule.keeps_tokens:
        state = State(v.new_zeros(problem.B, problem.H, 0, problem.K + problem.V))
    else:
        z = v.new_zeros(problem.B, problem.H, k.shape[-1]) if operator.divides else None
        state = State(v.new_zeros(problem.B, problem.H, k.shape[-1], problem.V), z)
    return Prepared(q, k, v, gates, state)


def masked(prepared: Prepared, mask: Tensor | None) -> Prepared:
    """The same with tokens that do not count made to write nothing: φ(k) = 0, β = 0, α = 1.

    Not for rules whose law does more than the gates say (fwm) or which keep every token.
    """
    if mask is None:
        return prepared
    keep = mask[:, :, None]
    gates = {
        name: torch.where(keep if gate.dim() == 3 else keep[..., None], gate, neutral)
        for name, gate in prepared.gates.items()
        for neutral in [1.0 if name == "alpha" else 0.0]
    }
    return prepared._replace(
        k=torch.where(keep[..., None], prepared.k, 0.0),
        v=torch.where(keep[..., None], prepared.v, 0.0),
        gates=gates,
    )
