"""How much faster is `chunked` than the token loop? Forward and backward, on this machine.

make speed, or: python -m pytest benchmarks/test_chunked.py --benchmark-columns=min,median,rounds

B = 1, H = 2, T = 1024, K = V = 64, float32: every rule that `chunked` computes; then shapes of a
retrieval model, for `chunked` alone. Times are pytest-benchmark's; nothing
is asserted about them here, and the tests of the project time nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._room import with_room
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.suites.named_operators import NAMED_OPERATORS

SIZE = {"B": 1, "T": 1024, "H": 2, "K": 64, "V": 64}
#: A retrieval model's memory in training: S values written for one final state, B = 32, H = 1.
MEMORY: dict[str, Any] = {"B": 32, "H": 1, "K": 64, "state": "out", "reads": False}
RETRIEVAL = {
    "dpfp-1, S = 20": (Operator("delta", "dpfp-1", "sum"), MEMORY | {"T": 40, "V": 20}),
    "dpfp-1, S = 100": (Operator("delta", "dpfp-1", "sum"), MEMORY | {"T": 200, "V": 100}),
    "dpfp-2, S = 100": (Operator("delta", "dpfp-2", "sum"), MEMORY | {"T": 200, "V": 100}),
    "sum, dpfp-1, S = 600": (Operator("sum", "dpfp-1", "attention"), MEMORY | {"T": 600, "V": 600}),
}
COMPUTED = {
    name: operator
    for name, operator in NAMED_OPERATORS.items()
    if operator.rule != "fwm" and not operator.phi.startswith("favor-published")
}


def make_training_call(
    operator: Operator, sizes: dict[str, Any], implementation: str
) -> Callable[[], object]:
    """To the gradients of all inputs, from what is read or, where nothing is, from the state."""
    problem = Problem.of(operator, dtype="fp32", direction="forward+backward", **sizes)
    inputs = make_inputs(problem, seed=0)
    asked = (inputs.q, inputs.k, inputs.v, *inputs.gates.values())
    leaves = [leaf.requires_grad_() for leaf in asked if leaf is not None]
    run = IMPLEMENTATIONS[implementation].run

    def call() -> object:
        o, state = run(problem, inputs)
        results = [x for x in (o, *(state or ())) if x is not None]
        return torch.autograd.grad(results, leaves, [torch.ones_like(x) for x in results])

    return call


@pytest.mark.parametrize("implementation", ["chunked", "reference"])
@pytest.mark.parametrize("name", COMPUTED)
def test_forward_and_backward(benchmark: Any, name: str, implementation: str) -> None:
    benchmark.group = name
    call = make_training_call(COMPUTED[name], SIZE, implementation)
    rounds = 20 if implementation == "chunked" else 3
    with_room(partial(benchmark.pedantic, call, rounds=rounds, warmup_rounds=1))


@pytest.mark.parametrize("case", RETRIEVAL)
def test_the_memory_of_a_retrieval_model(benchmark: Any, case: str) -> None:
    benchmark.group = f"retrieval, {case}"
    call = make_training_call(*RETRIEVAL[case], "chunked")
    with_room(partial(benchmark.pedantic, call, rounds=20, warmup_rounds=1))
