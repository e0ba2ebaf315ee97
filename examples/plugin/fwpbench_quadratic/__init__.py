"""The sum rule in its quadratic form, o = tril(Q Kᵀ) V, and the feature map x²."""

from __future__ import annotations

import torch

from fwpbench import FeatureMap, Implementation, Inputs, Output, Problem, State


def square(x: torch.Tensor) -> torch.Tensor:
    """φ(x) = x²

    Nonnegative and of the size of x.
    """
    return x.square()


SQUARE = FeatureMap(square, nonnegative=True)


def cannot(problem: Problem) -> str | None:
    """Why this problem is not for this implementation, in a sentence, or None."""
    if (problem.rule, problem.phi, problem.norm) != ("sum", "square", "none"):
        return "only rule=sum phi=square norm=none"
    if not problem.causal or problem.masked or not problem.reads:
        return "only causal problems that read, without a mask"
    return None


def run(problem: Problem, inputs: Inputs) -> Output:
    """O = tril(φ(Q) φ(K)ᵀ) V + φ(Q) S₀ and S = S₀ + φ(K)ᵀ V, in float32 or better."""
    q, k, v = (x.to(problem.arithmetic_dtype) for x in (inputs.q, inputs.k, inputs.v))
    q, k = square(q), square(k)
    scores = torch.einsum("bthd,bshd->bhts", q, k).tril()
    o = torch.einsum("bhts,bshv->bthv", scores, v)
    S = torch.einsum("bthd,bthv->bhdv", k, v)
    if inputs.state is not None:
        o = o + torch.einsum("bthd,bhdv->bthv", q, inputs.state.S)
        S = S + inputs.state.S
    return Output(o.to(problem.torch_dtype), State(S) if problem.state_out else None)


IMPLEMENTATION = Implementation(
    run, "sum of squares, quadratic in T", cannot=cannot, origin="third-party"
)
