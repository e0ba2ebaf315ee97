"""One token at a time, straight from the law. Slow, and right by construction."""

from __future__ import annotations

import torch

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators import law
from fwpbench.operators.features import Prepared, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.operators.update_rules import read_softmax


def run(problem: Problem, inputs: Inputs) -> Output:
    if problem.operator.update_rule.keeps_tokens and inputs.mask is not None:
        return Output(_masked_softmax(problem, inputs, inputs.mask), None)
    prepared = prepare(problem, inputs)
    operator, state, read = problem.operator, prepared.state, []
    for t in range(prepared.k.shape[1]):
        gates = {name: gate[:, t] for name, gate in prepared.gates.items()}
        after = law.write(operator, state, prepared.k[:, t], prepared.v[:, t], gates)
        state = after if inputs.mask is None else _where(inputs.mask[:, t], after, state)
        if problem.causal and prepared.q is not None:
            read.append(law.read(operator, state, prepared.q[:, t]))
    if not problem.causal and prepared.q is not None:
        read = [law.read(operator, state, q) for q in prepared.q.unbind(1)]
    o = torch.stack(read, dim=1).to(problem.torch_dtype) if read else None
    return Output(o, _stored(problem, state) if problem.state_out else None)


def _stored(problem: Problem, state: State) -> State:
    return State(state.S.to(problem.state_dtype), state.z)


def _where(counts: torch.Tensor, after: State, before: State) -> State:
    """A token that does not count leaves the state as it was."""
    S = torch.where(counts[:, None, None, None], after.S, before.S)
    if after.z is None or before.z is None:
        return State(S)
    return State(S, torch.where(counts[:, None, None], after.z, before.z))


def _masked_softmax(problem: Problem, inputs: Inputs, mask: torch.Tensor) -> torch.Tensor | None:
    """softmax-attention over the tokens that count; those that went before all do."""
    prepared: Prepared = prepare(problem, inputs)
    if prepared.q is None:
        return None
    state, T = prepared.state, prepared.k.shape[1]
    before = state.S.shape[2]
    for t in range(T):
        state = law.write(problem.operator, state, prepared.k[:, t], prepared.v[:, t], {})
    read = []
    for t, q in enumerate(prepared.q.unbind(1)):
        seen = t + 1 if problem.causal else T
        counts = torch.cat([mask.new_ones(problem.B, before), mask[:, :seen]], dim=1)
        counts = counts[:, None].expand(-1, problem.H, -1)
        read.append(read_softmax(state.S[:, :, : before + seen], q, counts))
    return torch.stack(read, dim=1).to(problem.torch_dtype)


IMPLEMENTATION = Implementation(run, "the law, one token at a time")
