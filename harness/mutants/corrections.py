"""Mutants of the maths: β, the correction, the normaliser, feature maps, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.harness.mutants.form import Decay, Form, Piece
from fwpbench.harness.mutants.mutant import (
    Mutant,
    correcting,
    decaying,
    dividing,
    linear,
    mapped_by,
    with_beta,
)
from fwpbench.operators.features import Prepared
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


class BetaTwice(Form):
    def weight(self, beta: Tensor) -> Tensor:
        return beta * beta


class BetaForgottenInCorrection(Form):
    def beta_of_correction(self, beta: Tensor) -> Tensor:
        return torch.ones_like(beta)


class CorrectionForgotten(Form):
    """β v instead of β (v − Sᵀk)."""

    def corrected(self, piece: Piece, decay: Decay, S: Tensor, retrieval: Tensor) -> Tensor:
        return self.weight(piece.beta) * piece.v


class DecayAfterCorrection(Form):
    """S ← αS + β k (v − Sᵀk): what is retrieved has not decayed by the token's own α."""

    def corrected(self, piece: Piece, decay: Decay, S: Tensor, retrieval: Tensor) -> Tensor:
        before = torch.nn.functional.pad(decay.between[..., :-1, :], (0, 0, 1, 0))
        since = torch.nn.functional.pad(decay.since[..., :-1, :], (0, 0, 1, 0), value=1.0)
        return super().corrected(piece, decay._replace(between=before, since=since), S, retrieval)


class NormalizedBeforeUpdate(Form):
    """o_i / (z_{i−1}·q_i)."""

    def counted(self, scores: Tensor) -> Tensor:
        return scores.tril(-1)


class RetrievalNotNormalized(Form):
    def retrieval(self, k: Tensor, z: Tensor | None) -> Tensor:
        return super().retrieval(k, None)


class ScaleApplied(Form):
    def prepared(self, problem: Problem, prepared: Prepared) -> Prepared:
        assert prepared.q is not None
        return prepared._replace(q=prepared.q * problem.K**-0.5)


class OtherMap(Form):
    """φ is replaced; what normalises it is not."""

    def phi(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def given(self, inputs: Inputs) -> Inputs:
        self.inputs = inputs
        return inputs

    def prepared(self, problem: Problem, prepared: Prepared) -> Prepared:
        scale, dtype = problem.operator.normalization.scale, problem.arithmetic_dtype
        assert self.inputs.q is not None
        q, k = (scale(self.phi(x.to(dtype))) for x in (self.inputs.q, self.inputs.k))
        return prepared._replace(q=q, k=k)


class SignedDpfp(OtherMap):
    def phi(self, x: Tensor) -> Tensor:
        r = torch.cat([x.relu(), -x.relu()], dim=-1)
        return r * r.roll(1, dims=-1)


class UnrolledDpfp(OtherMap):
    def phi(self, x: Tensor) -> Tensor:
        r = torch.cat([x.relu(), (-x).relu()], dim=-1)
        return torch.nn.functional.pad((r * r.roll(1, dims=-1))[..., 1:], (1, 0))


class EluInBf16(OtherMap):
    def phi(self, x: Tensor) -> Tensor:
        return (torch.nn.functional.elu(x.bfloat16()) + 1).to(x.dtype)


class GradientOfNormalizerDropped(Form):
    def normalizer(self, seen: Tensor) -> Tensor:
        return seen.detach()


class GradientOfDecayDropped(Form):
    def pieces(self, problem: Problem, prepared: Prepared) -> list[Piece]:
        return [p._replace(alpha=p.alpha.detach()) for p in super().pieces(problem, prepared)]


class GradientOfCorrectionsBetaDropped(Form):
    def beta_of_correction(self, beta: Tensor) -> Tensor:
        return beta.detach()


class GradientOfRetrievalDropped(Form):
    def asking(self, k: Tensor) -> Tensor:
        return k.detach()


class GradientStopsAtBorder(Form):
    def carried(self, state: State) -> State:
        return State(state.S.detach(), state.z)


class GradientOfInitialStateDropped(Form):
    def entering(self, state: State) -> State:
        return State(state.S.detach(), state.z)


class GradientOfFinalStateDropped(Form):
    def leaving(self, state: State, prepared: Prepared) -> State:
        return State(state.S.detach(), None if state.z is None else state.z.detach())


def _with_dpfp_1(operator: Operator) -> bool:
    return linear(operator) and operator.phi == "dpfp-1"


MUTANTS = (
    Mutant(
        "β twice",
        "β weighs what is written once more than it should.",
        BetaTwice,
        "delta elu+1 sum",
        with_beta,
    ),
    Mutant(
        "β forgotten in the correction",
        "Inside a chunk the full retrieved value is taken off, not β of it.",
        BetaForgottenInCorrection,
        "gated-delta identity l2",
        correcting,
        chunked=True,
    ),
    Mutant(
        "correction forgotten",
        "β v is written, and what the key already retrieves stays.",
        CorrectionForgotten,
        "delta dpfp-1 sum",
        correcting,
    ),
    Mutant(
        "decay after the correction",
        "What is retrieved to be corrected has not decayed by the token's own α.",
        DecayAfterCorrection,
        "gated-delta identity l2",
        lambda operator: operator.rule == "gated-delta",
    ),
    Mutant(
        "normaliser before the update",
        "o is divided by z·q with the z from before the token's own key.",
        NormalizedBeforeUpdate,
        "sum elu+1 attention",
        dividing,
    ),
    Mutant(
        "retrieval not normalised",
        "What the delta rule retrieves is not divided by z·k.",
        RetrievalNotNormalized,
        "delta elu+1 sum+attention",
        lambda operator: correcting(operator) and operator.divides,
    ),
    Mutant(
        "scale K^(−1/2) applied",
        "Queries are scaled as softmax attention scales them.",
        ScaleApplied,
        "delta identity l2",
        lambda operator: linear(operator) and not operator.stabilized_queries,
    ),
    Mutant(
        "DPFP of [relu(x), −relu(x)]",
        "The second half of DPFP is the negative of the first, not that of the negative.",
        SignedDpfp,
        "delta dpfp-1 l2",
        _with_dpfp_1,
    ),
    Mutant(
        "DPFP not rolled around",
        "The product of the last and the first entry is left out.",
        UnrolledDpfp,
        "delta dpfp-1 sum",
        _with_dpfp_1,
    ),
    Mutant(
        "elu + 1 in bf16",
        "exp(x) − 1 + 1 is computed in bf16, where it cancels.",
        EluInBf16,
        "sum elu+1 attention",
        mapped_by("elu+1"),
        dtypes=("fp32", "tf32", "fp16"),  # in bf16 no further off than inputs rounded
    ),
    Mutant(
        "gradient of z dropped",
        "The normaliser is a constant to the gradient.",
        GradientOfNormalizerDropped,
        "sum elu+1 attention",
        dividing,
    ),
    Mutant(
        "gradient of the decay dropped",
        "The gates that decay the state get no gradient.",
        GradientOfDecayDropped,
        "gated-delta identity l2",
        decaying,
    ),
    Mutant(
        "gradient of the correction's β dropped",
        "β gets the gradient of what it writes, not of what it takes off inside a chunk.",
        GradientOfCorrectionsBetaDropped,
        "delta identity l2",
        correcting,
        chunked=True,
    ),
    Mutant(
        "dk without its second term",
        "The keys get no gradient from what they retrieve of the state before the chunk.",
        GradientOfRetrievalDropped,
        "delta identity l2",
        correcting,
        chunked=True,
    ),
    Mutant(
        "gradient stops at a chunk border",
        "No gradient goes from a chunk to the one before it.",
        GradientStopsAtBorder,
        "sum identity l2",
        linear,
        chunked=True,
    ),
    Mutant(
        "gradient of the initial state dropped",
        "The state that goes in gets no gradient.",
        GradientOfInitialStateDropped,
        "gated-delta identity l2",
        linear,
    ),
    Mutant(
        "gradient of the final state dropped",
        "What is made of the state that comes out gives no gradient.",
        GradientOfFinalStateDropped,
        "delta identity l2",
        linear,
    ),
)
