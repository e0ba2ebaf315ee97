"""The CUDA kernels as an operator of torch: it is what it says, and compiled code may call it."""

from __future__ import annotations

import pytest

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from tests.kernel_operators import is_the_same_compiled, is_what_it_says, tiny

CUDA = IMPLEMENTATIONS["cuda"]
pytestmark = pytest.mark.skipif(
    CUDA.missing() is not None or "cpu" not in CUDA.devices,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)

#: Every kind of input and of what is kept, and every plan.
PROBLEMS = {
    "kept states": (Operator("gated-delta", "favor-8", "sum"), {}, "recurrent"),
    "kept normalisers": (Operator("gla", "relu", "attention"), {"masked": True}, "recurrent"),
    "where it clipped": (Operator("fwm", "tanh", "none"), {}, "recurrent"),
    "writing alone": (Operator("delta", "elu+1", "attention"), {"reads": False}, "recurrent"),
    "no order": (Operator("sum", "elu+1", "attention"), {"causal": False}, "recurrent"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_torch_finds_nothing_wrong_with_it(name):
    from fwpbench.implementations.cuda_kernels.operator import OPERATOR

    operator, changes, plan = PROBLEMS[name]
    is_what_it_says(OPERATOR, tiny(operator, **changes), plan)


def test_compiled_code_has_the_same_results_and_gradients():
    problems = [tiny(operator, **changes) for operator, changes, _ in PROBLEMS.values()]
    is_the_same_compiled("cuda", problems)


def test_without_gradients_nothing_is_kept():
    from fwpbench.implementations.cuda_kernels.operator import shapes

    named = str(tiny(PROBLEMS["where it clipped"][0])), "recurrent"
    assert shapes(*named, False).keys() == {"o", "S"}
    assert shapes(*named, True).keys() == {"o", "S", "clips", "kept"}
