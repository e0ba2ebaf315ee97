"""How much faster is `chunked` than the token loop? Forward and backward, on this machine.

make speed, or: python -m pytest benchmarks/test_chunked.py --benchmark-columns=min,median,rounds

B = 1, H = 2, T = 1024, K = V = 64, float32: every rule that `chunked` computes. Times are
pytest-benchmark's; nothing is asserted about them here, and the tests of the project time nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.suites.named_operators import NAMED_OPERATORS

SIZES: dict[str, dict[str, int]] = {
    "T = 1024": {"B": 1, "T": 1024, "H": 2, "K": 64, "V": 64},
}
#: Shapes of the causal product of idiap/fast-transformers that docs/performance.md compares with.
CAUSAL_PRODUCT = {
    "B1 H8 T1024 K64": {"B": 1, "T": 1024, "H": 8, "K": 64, "V": 64},
    "B8 H8 T256 K16": {"B": 8, "T": 256, "H": 8, "K": 16, "V": 16},
}
COMPUTED = {
    name: operator
    for name, operator in NAMED_OPERATORS.items()
    if operator.rule != "fwm" and not operator.phi.startswith("favor-published")
}


def make_training_call(
    operator: Operator, sizes: dict[str, int], implementation: str
) -> Callable[[], object]:
    problem = Problem.of(operator, dtype="fp32", direction="forward+backward", **sizes)
    inputs = make_inputs(problem, seed=0)
    assert inputs.q is not None
    leaves = [inputs.q, inputs.k, inputs.v, *inputs.gates.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    run = IMPLEMENTATIONS[implementation].run
    ones = torch.ones_like(inputs.v)

    def call() -> object:
        o = run(problem, inputs).o
        assert o is not None
        return torch.autograd.grad(o, leaves, ones)

    return call


@pytest.mark.parametrize("implementation", ["chunked", "reference"])
@pytest.mark.parametrize("name", COMPUTED)
def test_forward_and_backward(benchmark: Any, name: str, implementation: str) -> None:
    benchmark.group = name
    call = make_training_call(COMPUTED[name], SIZES["T = 1024"], implementation)
    benchmark.pedantic(call, rounds=20 if implementation == "chunked" else 3, warmup_rounds=1)


@pytest.mark.parametrize("shape", CAUSAL_PRODUCT)
def test_the_sum_rule_alone(benchmark: Any, shape: str) -> None:
    """Without feature map and normalisation, as a causal product computes it."""
    benchmark.group = f"causal product, {shape}"
    call = make_training_call(Operator("sum", "identity", "none"), CAUSAL_PRODUCT[shape], "chunked")
    benchmark.pedantic(call, rounds=50, warmup_rounds=3)
