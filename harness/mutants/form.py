"""A plain chunk form in which every step that can be got wrong is a method.

The same mathematics as `fwpbench.operators.chunk_form`, for rules with gates per head; a mutant
overrides one method. As it stands it is honest, and a test holds it to that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fwpbench.implementations.base import Output
from fwpbench.operators.features import Prepared, masked, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.problem import Problem
from fwpbench.operators.segment_products import segment_products
from fwpbench.operators.state import State


class Piece(NamedTuple):
    """A chunk: [B H C ·], gates [B H C 1]; α and β are 1 where the rule has none."""

    q: Tensor
    k: Tensor
    v: Tensor
    alpha: Tensor
    beta: Tensor


class Decay(NamedTuple):
    """`between` [B H C C], `since` the chunk began and `left` to its end [B H C 1], `across` it."""

    between: Tensor
    since: Tensor
    left: Tensor
    across: Tensor


class Form:
    """`Form(chunk)(problem, inputs)` is o and the final state."""

    def __init__(self, chunk: int = 16) -> None:
        self.chunk = chunk

    def __call__(self, problem: Problem, inputs: Inputs) -> Output:
        inputs = self.given(inputs)
        prepared = self.prepared(problem, masked(prepare(problem, inputs), inputs.mask))
        state, outputs = self.entering(prepared.state), []
        for piece in self.pieces(problem, prepared):
            o, state = self.step(problem, piece, state)
            state = self.carried(state)
            outputs.append(o)
        o = torch.cat(outputs, dim=2).transpose(1, 2).to(problem.torch_dtype)
        state = self.leaving(state, prepared)
        return self.returned(Output(o, state if problem.state_out else None), inputs)

    def given(self, inputs: Inputs) -> Inputs:
        return inputs

    def prepared(self, problem: Problem, prepared: Prepared) -> Prepared:
        return prepared

    def entering(self, state: State) -> State:
        return state

    def carried(self, state: State) -> State:
        return state

    def leaving(self, state: State, prepared: Prepared) -> State:
        return state

    def returned(self, output: Output, inputs: Inputs) -> Output:
        return output

    def pieces(self, problem: Problem, prepared: Prepared) -> list[Piece]:
        q, k, v, gates, _ = prepared
        assert q is not None, "the form of the mutants reads"
        one = torch.ones_like(k[..., 0])
        beta = gates.get("beta", one)
        alpha = 1 - beta if problem.rule == "gated" else gates.get("alpha", one)
        whole = [x.transpose(1, 2) for x in (q, k, v, alpha[..., None], beta[..., None])]
        starts = range(0, k.shape[1], self.chunk)
        return [Piece(*(x[:, :, t : t + self.chunk] for x in whole)) for t in starts]

    def step(self, problem: Problem, piece: Piece, state: State) -> tuple[Tensor, State]:
        (q, k, v, _, beta), (S, z) = piece, state
        rule, matmul, decay = problem.operator.update_rule, self.matmul, self.decay(piece)
        if rule.corrects:
            U = self.corrected(piece, decay, S, self.retrieval(k, z))
        else:
            U = self.weight(beta) * v
        scores = matmul(q, k.mT) * decay.between
        o = matmul(decay.since * q, S) + matmul(self.visible(scores), U)
        S = decay.across * S + matmul((decay.left * k).mT, U)
        if z is None:
            return o, State(S)
        w = torch.ones_like(beta) if rule.corrects else beta
        seen = decay.since * q @ z[..., None] + self.counted(scores) @ w
        z = decay.across[..., 0] * z + ((decay.left * k).mT @ w)[..., 0]
        return o / (self.normalizer(seen) + EPSILON), State(S, z)

    def decay(self, piece: Piece) -> Decay:
        P = segment_products(piece.alpha[..., 0])
        return Decay(P[..., 1:, 1:], P[..., 1:, :1], P[..., -1, 1:, None], P[..., -1:, :1])

    def retrieval(self, k: Tensor, z: Tensor | None) -> Tensor:
        """What a retrieved value is multiplied by: 1 / (z·k) where the operator divides."""
        if z is None:
            return torch.ones_like(k[..., :1])
        seen = (k @ k.mT).tril(-1).sum(-1, keepdim=True) + k @ z[..., None]
        return 1 / (seen + EPSILON)

    def corrected(self, piece: Piece, decay: Decay, S: Tensor, retrieval: Tensor) -> Tensor:
        k, beta = piece.k, self.weight(piece.beta)
        gram = self.beta_of_correction(beta) * retrieval * (k @ k.mT) * decay.between
        sides = beta * (piece.v - retrieval * self.matmul(decay.since * self.asking(k), S))
        solved: Tensor = torch.linalg.solve_triangular(
            gram.tril(-1), sides, upper=False, unitriangular=True
        )
        return solved

    def weight(self, beta: Tensor) -> Tensor:
        return beta

    def beta_of_correction(self, beta: Tensor) -> Tensor:
        return beta

    def asking(self, k: Tensor) -> Tensor:
        """The key that asks the state what it holds."""
        return k

    def visible(self, scores: Tensor) -> Tensor:
        return scores.tril()

    def counted(self, scores: Tensor) -> Tensor:
        """What of the scores goes into z·q."""
        return scores.tril()

    def normalizer(self, seen: Tensor) -> Tensor:
        return seen

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b
