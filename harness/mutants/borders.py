"""Mutants of chunks: borders, masks, decays, and the state between them."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.harness.mutants.form import Decay, Form, Piece
from fwpbench.harness.mutants.mutant import Mutant, decaying, dividing, linear
from fwpbench.operators.features import Prepared
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


class DecayDroppedAtBorder(Form):
    def decay(self, piece: Piece) -> Decay:
        decay = super().decay(piece)
        return decay._replace(across=torch.ones_like(decay.across))


class EnteringStateNotDecayed(Form):
    def decay(self, piece: Piece) -> Decay:
        decay = super().decay(piece)
        return decay._replace(since=torch.ones_like(decay.since))


class WrittenBeforeDecay(Form):
    """S ← α (S + k vᵀ): each write decays by its own token's α too."""

    def decay(self, piece: Piece) -> Decay:
        decay, alpha = super().decay(piece), piece.alpha
        return decay._replace(between=decay.between * alpha.mT, left=decay.left * alpha)


class MaskTooStrict(Form):
    def visible(self, scores: Tensor) -> Tensor:
        return scores.tril(-1)


class MaskTooLate(Form):
    """Undecayed for the token too many: what matters is that it is seen."""

    def step(self, problem: Problem, piece: Piece, state: State) -> tuple[Tensor, State]:
        o, after = super().step(problem, piece, state)
        ahead = (piece.q[:, :, :-1] * piece.k[:, :, 1:]).sum(-1, keepdim=True) * piece.v[:, :, 1:]
        return o + torch.nn.functional.pad(ahead, (0, 0, 0, 1)), after


class LastPartialChunkSkipped(Form):
    def step(self, problem: Problem, piece: Piece, state: State) -> tuple[Tensor, State]:
        o, after = super().step(problem, piece, state)
        return (o, after) if o.shape[2] == self.chunk else (0 * o, state)


class StateNotCarriedIntoPartialChunk(Form):
    def step(self, problem: Problem, piece: Piece, state: State) -> tuple[Tensor, State]:
        if piece.q.shape[2] == self.chunk:
            return super().step(problem, piece, state)
        o, _ = super().step(problem, piece, State(0 * state.S, state.z))
        return o, super().step(problem, piece, state)[1]


class FinalStateNotWritten(Form):
    def leaving(self, state: State, prepared: Prepared) -> State:
        return prepared.state


class FinalStateOneTokenEarly(Form):
    def step(self, problem: Problem, piece: Piece, state: State) -> tuple[Tensor, State]:
        o, after = super().step(problem, piece, state)
        most = piece.k.shape[2] - 1
        early = Piece(*(x[:, :, :most] for x in piece))
        self.early = super().step(problem, early, state)[1] if most else state
        return o, after

    def leaving(self, state: State, prepared: Prepared) -> State:
        return self.early


class StateTransposed(Form):
    """Read with the strides of its transpose, as a kernel with two layouts does."""

    def carried(self, state: State) -> State:
        return state._replace(S=state.S.mT.reshape(state.S.shape))


class NormalizerNotCarried(Form):
    def carried(self, state: State) -> State:
        return state._replace(z=None if state.z is None else torch.zeros_like(state.z))


class InitialStateIgnored(Form):
    def entering(self, state: State) -> State:
        return State(0 * state.S, None if state.z is None else 0 * state.z)


class NormalizerNotStarted(Form):
    def entering(self, state: State) -> State:
        return State(state.S, None if state.z is None else 0 * state.z)


MUTANTS = (
    Mutant(
        "decay dropped at a chunk border",
        "The state that goes from one chunk to the next has not decayed over the chunk.",
        DecayDroppedAtBorder,
        "gated-delta identity l2",
        decaying,
        chunked=True,
    ),
    Mutant(
        "entering state not decayed",
        "Outputs read the state at the start of their chunk as if nothing had decayed since.",
        EnteringStateNotDecayed,
        "decay identity l2",
        decaying,
        chunked=True,
    ),
    Mutant(
        "v written before decay",
        "A token's own write decays by its own α.",
        WrittenBeforeDecay,
        "decay elu+1 sum",
        decaying,
    ),
    Mutant(
        "mask off by one, too strict",
        "A token does not read what it has just written.",
        MaskTooStrict,
        "sum elu+1 sum",
        linear,
    ),
    Mutant(
        "mask off by one, too late",
        "A token reads the one after it, where that is in the same chunk.",
        MaskTooLate,
        "delta dpfp-1 sum",
        linear,
    ),
    Mutant(
        "last partial chunk skipped",
        "Tokens beyond the last full chunk read 0 and write nothing.",
        LastPartialChunkSkipped,
        "delta identity l2",
        linear,
        chunked=True,
    ),
    Mutant(
        "last partial chunk without state",
        "Tokens beyond the last full chunk see nothing of the chunks before.",
        StateNotCarriedIntoPartialChunk,
        "sum identity l2",
        linear,
        chunked=True,
    ),
    Mutant(
        "final state not written",
        "The state that comes out is the one that went in.",
        FinalStateNotWritten,
        "gated-delta identity l2",
        linear,
    ),
    Mutant(
        "final state one token early",
        "The state that comes out lacks the last token.",
        FinalStateOneTokenEarly,
        "delta elu+1 sum",
        linear,
    ),
    Mutant(
        "state transposed at a chunk border",
        "The state is written in one layout and read in the other.",
        StateTransposed,
        "sum elu+1 sum",
        linear,
        chunked=True,
    ),
    Mutant(
        "normaliser not carried over a chunk border",
        "z begins at 0 in every chunk but the first.",
        NormalizerNotCarried,
        "sum elu+1 attention",
        dividing,
        chunked=True,
    ),
    Mutant(
        "initial state ignored",
        "The first chunk begins with a state of 0, whatever was given.",
        InitialStateIgnored,
        "delta identity l2",
        linear,
    ),
    Mutant(
        "initial normaliser ignored",
        "z begins at 0, whatever was given; S does not.",
        NormalizerNotStarted,
        "sum dpfp-1 attention",
        dividing,
    ),
)
