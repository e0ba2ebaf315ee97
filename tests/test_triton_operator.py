"""The kernels as an operator of torch: it is what it says, and compiled code may call it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.kernel_operators import is_the_same_compiled, is_what_it_says, tiny

TRITON = IMPLEMENTATIONS["triton"]
pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)

#: One for each module of kernels, with every kind of input. The last one's plan is `prepared`.
PROBLEMS = {
    "two sweeps": (Operator("sum", "elu+1", "attention"), {}),
    "kept states": (Operator("gated-delta", "favor-8", "sum"), {}),
    "kept normalisers": (Operator("gated", "dpfp-1", "attention"), {"K": 5}),
    "in tiles": (Operator("delta", "dpfp-3", "sum+attention"), {}),
    "token by token": (Operator("fwm", "tanh", "none"), {"masked": True}),
    "first prepared": (Operator("delta", "elu+1", "attention"), {"T": 65}),
    "token by token, z too": (Operator("gla", "relu", "attention"), {"T": 3}),
    "all at once": (Operator("sum", "elu+1", "attention"), {"causal": False, "state": "in"}),
    "writing alone": (Operator("sum", "elu+1", "attention"), {"reads": False}),
}
#: By problem, all that take it.
PLANS = [
    ("two sweeps", "fused"),
    ("two sweeps", "segmented-16"),
    ("kept states", "fused"),
    ("kept normalisers", "fused"),
    ("kept normalisers", "segmented-16"),
    ("in tiles", "wide"),
    ("token by token", "recurrent"),
    ("token by token, z too", "recurrent"),
    ("all at once", "unordered"),
    ("writing alone", "unordered"),
    ("first prepared", "prepared"),
    ("first prepared", "segmented-16"),
]


def problem_named(name: str, **changes) -> Problem:
    operator, sizes = PROBLEMS[name]
    return tiny(operator, **(sizes | changes))


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_torch_finds_nothing_wrong_with_it(name, plan):
    from fwpbench.implementations.triton_kernels.operator import OPERATOR

    is_what_it_says(OPERATOR, problem_named(name, T=5), plan)


def test_compiled_code_has_the_same_results_and_gradients():
    is_the_same_compiled("triton", [problem_named(name) for name in PROBLEMS])


def test_without_gradients_nothing_is_kept():
    from fwpbench.implementations.triton_kernels import operator

    named = str(problem_named("kept states")), "fused"
    assert operator.shapes(*named, False).keys() == {"o", "S"}
    assert operator.shapes(*named, True).keys() == {"o", "S", "S_kept", "A_kept"}
