"""The Triton kernels of causal=no and of writing sums alone, interpreted."""

from __future__ import annotations

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.triton_kernels import unordered_plan as plans
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import problem_of

TRITON = IMPLEMENTATIONS["triton"]
interpreted = pytest.mark.skipif(
    TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()

#: Every map and normalisation.
OPERATORS = [
    Operator("sum", "identity", "none"),
    Operator("sum", "tanh", "l2"),
    Operator("sum", "relu", "attention"),
    Operator("sum", "elu+1", "sum"),
    Operator("sum", "dpfp-1", "sum+attention"),
    Operator("sum", "dpfp-3", "l2"),
    Operator("sum", "favor-16", "attention"),
    Operator("sum", "favor-16", "l2"),
    Operator("sum", "favor-published-16", "sum"),
]
STATES = ("in+out", "none", "in", "out")
C = plans.BLOCKS["fp32"][1]


def small(operator: Operator, **changes) -> Problem:
    """Two tiles of features for maps that widen, two of value columns, two chunks."""
    sizes = {"B": 1, "T": C + 1, "H": 2, "K": 10, "V": 19, "dtype": "fp32"}
    rest = {"direction": "forward+backward", "causal": False}
    return problem_of(operator, **(sizes | rest | changes))


def agrees(problem: Problem, seed: int = 0) -> None:
    assert TRITON.refuses(problem) is None
    assert plans.is_unordered(problem)
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(OPERATORS)), ids=str)
def test_every_map_and_normalisation_agrees(n, operator):
    """The states take turns."""
    agrees(small(operator, state=STATES[n % 4]))


@interpreted
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("operator", [OPERATORS[3], OPERATORS[4]], ids=str)
def test_every_way_of_the_states_agrees(operator, state):
    agrees(small(operator, T=5, state=state))
    agrees(small(operator, T=5, state=state, direction="forward"))


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(OPERATORS)), ids=str)
def test_a_mask_and_writing_alone_agree(n, operator):
    """A token that does not count reads, too; its exponents may be anything."""
    agrees(small(operator, T=7, B=3, H=1, masked=True, state=STATES[n % 4]))
    agrees(small(operator, T=7, reads=False, causal=n % 2 == 0, state=("in+out", "out")[n % 2]))


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", OPERATORS[4:7], ids=str)
def test_low_precision_agrees(operator, dtype):
    agrees(small(operator, V=16, dtype=dtype), seed=1)


@interpreted
def test_tiny_keys_agree():
    """Where exp(−2|x|) would cancel."""
    agrees(small(OPERATORS[1], T=5, inputs="tiny", direction="forward"))
