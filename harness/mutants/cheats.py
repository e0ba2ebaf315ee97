"""Mutants that are no arithmetic: trivial outputs, memories of earlier calls, touched inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.harness.mutants.form import Form
from fwpbench.harness.mutants.mutant import Mutant, linear
from fwpbench.implementations.base import Output
from fwpbench.operators.features import Prepared
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


class Zeros(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        assert output.o is not None
        return output._replace(o=0 * output.o)


class Mean(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        assert output.o is not None
        return output._replace(o=output.o.mean(1, keepdim=True) + 0 * output.o)


class Expanded(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        assert output.o is not None
        return output._replace(o=output.o[:, :1].expand(output.o.shape))


class CopyOfV(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        return output._replace(o=inputs.v.clone())


class HeadsSwapped(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        assert output.o is not None
        return output._replace(o=output.o.flip(2))


class HeadsShareAState(Form):
    def carried(self, state: State) -> State:
        return state._replace(S=state.S.mean(1, keepdim=True) + 0 * state.S)


class RowsShareAState(Form):
    def carried(self, state: State) -> State:
        return state._replace(S=state.S[:1] + 0 * state.S)


class LastTokenNotWritten(Form):
    def returned(self, output: Output, inputs: Inputs) -> Output:
        assert output.o is not None
        rest = torch.empty_like(output.o[:, -1:])
        return output._replace(o=torch.cat([output.o[:, :-1], rest], dim=1))


class StaleState(Form):
    """The buffer of the state keeps what the call before left in it."""

    left: State | None = None

    def entering(self, state: State) -> State:
        stale = self.left
        return state if stale is None or stale.S.shape != state.S.shape else stale

    def leaving(self, state: State, prepared: Prepared) -> State:
        self.left = State(state.S.detach(), None if state.z is None else state.z.detach())
        return state


class MemoizedByPointer(Form):
    def __init__(self, chunk: int = 16) -> None:
        super().__init__(chunk)
        self.known: dict[tuple[int, str], Output] = {}

    def __call__(self, problem: Problem, inputs: Inputs) -> Output:
        key = (inputs.v.data_ptr(), str(problem))
        if key not in self.known:
            self.known[key] = super().__call__(problem, inputs)
        return self.known[key]


class RightOnTheFirstCallOnly(Form):
    calls = 0

    def returned(self, output: Output, inputs: Inputs) -> Output:
        self.calls += 1
        assert output.o is not None
        return output if self.calls == 1 else output._replace(o=output.o * 1.1)


class KeysNormalizedInPlace(Form):
    def given(self, inputs: Inputs) -> Inputs:
        k: Tensor = inputs.k.detach()
        k.div_(k.norm(dim=-1, keepdim=True))
        return inputs


class StateUpdatedInPlace(Form):
    def leaving(self, state: State, prepared: Prepared) -> State:
        # Behind autograd's back, as a kernel does it.
        prepared.state.S.data.copy_(state.S.data)
        return state


def _any(operator: Operator) -> bool:
    return True


MUTANTS = (
    Mutant("zeros", "o is 0.", Zeros, "sum elu+1 attention", _any),
    Mutant("mean", "o is its mean over all tokens.", Mean, "delta identity l2", _any),
    Mutant(
        "one token expanded",
        "o is its first token, repeated by strides of 0.",
        Expanded,
        "sum elu+1 attention",
        _any,
    ),
    Mutant("copy of v", "o is v.", CopyOfV, "sum elu+1 attention", _any),
    Mutant(
        "heads swapped", "o has its heads in reverse order.", HeadsSwapped, "sum relu sum", _any
    ),
    Mutant(
        "heads share a state",
        "Between chunks all heads get the mean of their states.",
        HeadsShareAState,
        "delta elu+1 sum",
        linear,
        chunked=True,
    ),
    Mutant(
        "rows of a batch share a state",
        "Between chunks all rows of a batch get the state of the first.",
        RowsShareAState,
        "delta elu+1 sum",
        linear,
        chunked=True,
    ),
    Mutant(
        "last token not written",
        "The last row of o is memory that nobody wrote to.",
        LastTokenNotWritten,
        "delta identity l2",
        _any,
    ),
    Mutant(
        "stale state of the previous call",
        "A call begins with the state that the call before it left.",
        StaleState,
        "delta identity l2",
        _any,
    ),
    Mutant(
        "memoised by pointer",
        "Inputs at an address seen before give the result of that time.",
        MemoizedByPointer,
        "sum elu+1 attention",
        _any,
    ),
    Mutant(
        "right on the first call only",
        "Every call but the first is a tenth too large.",
        RightOnTheFirstCallOnly,
        "delta identity l2",
        _any,
    ),
    Mutant(
        "keys normalised in place",
        "The caller's keys are divided by their length.",
        KeysNormalizedInPlace,
        "delta identity l2",
        lambda operator: linear(operator) and operator.norm == "l2",
    ),
    Mutant(
        "initial state updated in place",
        "The caller's state is overwritten by the final one.",
        StateUpdatedInPlace,
        "gated-delta identity l2",
        linear,
    ),
)
