"""Decays by sums of logarithms: overflow, 0 · ∞, log 0, and masks in the wrong place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fwpbench.harness.mutants.form import Form
from fwpbench.implementations.base import Output
from fwpbench.operators.features import prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.suites.exhibits.exhibit import FLA, Credit, Exhibit, shows

#: a, k [B H T D] and g, the running sums of log α [B H T D or 1], to Σ_d a_i k_j exp(g_i − g_j).
Scores = Callable[[Tensor, Tensor, Tensor], Tensor]


def _in_logarithms(
    problem: Problem,
    inputs: Inputs,
    *,
    scores: Scores,
    summed: Callable[[Tensor], Tensor] = lambda g: g.cumsum(2),
) -> Output:
    """All tokens as one chunk: U = (I + tril(β A, −1))⁻¹ β V where the rule corrects, else V."""
    prepared = prepare(problem, inputs)
    assert prepared.q is not None
    q, k, v = (x.transpose(1, 2) for x in (prepared.q, prepared.k, prepared.v))
    alpha = prepared.gates["alpha"].transpose(1, 2)
    g = summed((alpha if alpha.dim() == 4 else alpha[..., None]).log())
    if problem.operator.update_rule.corrects:
        beta = prepared.gates["beta"].transpose(1, 2)[..., None]
        v = torch.linalg.solve_triangular(
            beta * scores(k, k, g).tril(-1), beta * v, upper=False, unitriangular=True
        )
    o = scores(q, k, g) @ v
    return Output(o.transpose(1, 2).to(problem.torch_dtype), None)


def _between(g: Tensor) -> Tensor:
    """g_i − g_j of every pair: [B H T T D]."""
    return g[:, :, :, None] - g[:, :, None]


def _later(g: Tensor) -> Tensor:
    """True where j is after i."""
    T = g.shape[2]
    return torch.ones(T, T, dtype=torch.bool, device=g.device).triu(1)[..., None]


def _scored(a: Tensor, k: Tensor, decays: Tensor) -> Tensor:
    return (a[:, :, :, None] * k[:, :, None] * decays).sum(-1)


def masked_first(a: Tensor, k: Tensor, g: Tensor) -> Tensor:
    return _scored(a, k, _between(g).masked_fill(_later(g), -torch.inf).exp())


def masked_last(a: Tensor, k: Tensor, g: Tensor) -> Tensor:
    """exp overflows where j is after i; ∞ is masked, but its gradient is 0 · ∞."""
    return _scored(a, k, _between(g).exp().masked_fill(_later(g), 0.0))


def masked_by_sign(a: Tensor, k: Tensor, g: Tensor) -> Tensor:
    """What is above 0 is taken for a pair that is masked; rounding puts other pairs there too."""
    decays = _between(g)
    return _scored(a, k, torch.where(decays <= 0, decays, -torch.inf).exp()).tril()


def factored(a: Tensor, k: Tensor, g: Tensor) -> Tensor:
    """(a exp g) (k exp −g)ᵀ: one product, but exp −g overflows, and 0 · ∞ is NaN."""
    return ((a * g.exp()) @ (k * (-g).exp()).mT).tril()


def scanned(g: Tensor) -> Tensor:
    """Running sums as a parallel scan associates them: in log₂ T steps, each twice as far."""
    reach = 1
    while reach < g.shape[2]:
        g = torch.cat([g[:, :, :reach], g[:, :, reach:] + g[:, :, :-reach]], dim=2)
        reach *= 2
    return g


class PaddingDecays(Form):
    """A token that does not count writes 0, but the state decays by its α all the same."""

    def given(self, inputs: Inputs) -> Inputs:
        assert inputs.mask is not None
        return inputs._replace(v=inputs.v * inputs.mask[..., None, None], mask=None)


def _alpha(change: Callable[[Tensor], Tensor]) -> Callable[[Inputs], Inputs]:
    def given(inputs: Inputs) -> Inputs:
        return inputs._replace(gates=inputs.gates | {"alpha": change(inputs.gates["alpha"])})

    return given


def _problem(rule: str, words: str) -> Problem:
    return Problem.parse(f"rule={rule} phi=identity norm=l2 B=1 T=67 H=2 K=16 V=12 {words}")


EXHIBITS = {
    "mask-after-exp": Exhibit(
        wrong="The decay of every pair of tokens is exponentiated and then masked: the pairs that "
        "are masked overflow, and their gradient is 0 · ∞ = NaN.",
        credits=(
            Credit(
                "transformers, pull request 48455 (September 2026)",
                "https://github.com/huggingface/transformers/pull/48455",
            ),
        ),
        fixed="by pull request 48455",
        problem=_problem("kda", "dtype=bf16 direction=forward+backward"),
        # The lower bound of that model's logarithm, −5, for every token.
        given=_alpha(lambda alpha: (-5 * (1 - alpha / 8)).exp()),
        published=partial(_in_logarithms, scores=masked_last),
        mended=partial(_in_logarithms, scores=masked_first),
        must=shows("not-finite", "dalpha"),
    ),
    "factored-decay": Exhibit(
        wrong="Decays are factored into exp(g) and exp(−g); where a gate is tiny the second "
        "overflows, and 0 · ∞ = NaN.",
        credits=(
            Credit(
                "executorch, pull request 21417 (July 2026)",
                "https://github.com/pytorch/executorch/pull/21417",
            ),
            Credit(
                "the same overflow, flash-linear-attention, pull request 649 (November 2025)",
                f"{FLA}/pull/649",
            ),
        ),
        fixed="by pull request 21417",
        problem=_problem("kda", "dtype=bf16 direction=forward"),
        # The smallest decay that was observed there, for one token in six.
        given=_alpha(lambda alpha: torch.where(alpha < 0.27, 6.5e-12, alpha)),
        published=partial(_in_logarithms, scores=factored),
        mended=partial(_in_logarithms, scores=masked_first),
        must=shows("not-finite", "o"),
    ),
    "log-of-zero": Exhibit(
        wrong="A gate of exactly 0 goes in as its logarithm: −∞ − (−∞) = NaN, and dα is "
        "d log α / α.",
        credits=(
            Credit(
                "gates as logarithms, flash-linear-attention 0.5.2",
                f"{FLA}/blob/v0.5.2/fla/ops/simple_gla/naive.py#L41-L42",
            ),
            Credit(
                "gates of 0 go another way, executorch, pull request 21417",
                "https://github.com/pytorch/executorch/pull/21417",
            ),
        ),
        fixed="nothing to mend but a limit of the form: its gates must not be 0",
        problem=_problem("decay", "dtype=bf16 direction=forward+backward inputs=saturated-gates"),
        published=partial(_in_logarithms, scores=masked_first),
        must=shows("not-finite", "o dq dk dv dalpha"),
    ),
    "mask-by-sign": Exhibit(
        wrong="A decay whose logarithm is above 0 is taken for a masked pair; where gates are 1, "
        "rounding of a parallel scan puts it there, and what was to be kept is dropped.",
        credits=(
            Credit("flash-linear-attention, issue 461 (June 2025)", f"{FLA}/issues/461"),
            Credit("mended by pull request 463", f"{FLA}/pull/463"),
            Credit(
                "on that rounding, vllm, pull request 37501",
                "https://github.com/vllm-project/vllm/pull/37501",
            ),
        ),
        fixed="in June 2025",
        # Many tokens and heads: rounding is chance, and one pair put above 0 is enough.
        problem=_problem("gated-delta", "dtype=bf16 direction=forward").replace(T=131, H=8),
        given=_alpha(lambda alpha: torch.where(alpha > 0.2, 1.0, alpha)),
        published=partial(_in_logarithms, scores=masked_by_sign, summed=scanned),
        mended=partial(_in_logarithms, scores=masked_first, summed=scanned),
        must=shows("incorrect", "o"),
    ),
    "padding-decays": Exhibit(
        wrong="Padding is masked out of the values but not out of the gates: tokens that do not "
        "count make the state decay.",
        credits=(
            Credit("flash-linear-attention, issue 1272 (September 2026)", f"{FLA}/issues/1272"),
            Credit("a mending, pull request 1273", f"{FLA}/pull/1273"),
        ),
        fixed="not when we looked",
        problem=_problem("decay", "dtype=fp32 direction=forward state=out masked=yes"),
        published=PaddingDecays(16),
        must=shows("incorrect", "o S"),
    ),
}
