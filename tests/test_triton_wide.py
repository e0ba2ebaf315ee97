"""The kernels for a wide φ, interpreted: in tiles so small that there are several, the last partial.
"""

from __future__ import annotations

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.triton_kernels import plan as plans
from fwpbench.implementations.triton_kernels.plan import is_wide, plan
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import problem_of

TRITON = IMPLEMENTATIONS["triton"]
pytestmark = pytest.mark.skipif(
    TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()

#: Every map, every normalisation, and every pair of them that needs another first pass.
OPERATORS = [
    Operator("sum", "identity", "none"),
    Operator("sum", "elu+1", "sum"),
    Operator("sum", "relu", "attention"),
    Operator("sum", "tanh", "l2"),
    Operator("sum", "dpfp-1", "sum+attention"),
    Operator("sum", "dpfp-2", "none"),
    Operator("sum", "dpfp-3", "sum"),
    Operator("sum", "dpfp-3", "l2"),
    Operator("sum", "favor-10", "none"),
    Operator("sum", "favor-10", "sum"),
    Operator("sum", "favor-10", "attention"),
    Operator("sum", "favor-10", "l2"),
    Operator("sum", "favor-published-10", "sum+attention"),
]
C = 16


@pytest.fixture(autouse=True)
def in_small_tiles(monkeypatch):
    """Tiles of 16 features for whatever has more, chunks of C tokens."""
    monkeypatch.setattr(plans, "NARROW_D", dict.fromkeys(plans.NARROW_D, 0))
    blocks = dict.fromkeys(plans.WIDE_BLOCKS, (16, C, 16, 4))
    monkeypatch.setattr(plans, "WIDE_BLOCKS", blocks)


def small(operator: Operator, **changes) -> Problem:
    """D of every map is no multiple of 16 and more than one tile."""
    K = 10 if operator.phi.startswith(("dpfp", "favor")) else 21
    sizes = {"B": 1, "T": C + 1, "H": 2, "K": K, "V": 5, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def agrees(problem: Problem) -> None:
    assert plan(problem).wide
    agreement = check(TRITON.run, problem, truths(problem, 0))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@pytest.mark.parametrize("T", [1, C - 1, C, C + 1, 37])
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_length_agrees(operator, T):
    agrees(small(operator, T=T))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_low_precision_agrees(operator, dtype):
    agrees(small(operator, T=2 * C + 1, V=16, dtype=dtype))


@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize("norm", ["sum", "sum+attention"])
def test_every_way_of_the_states_agrees(norm, state):
    """Two tiles of value columns, the second partial."""
    problem = small(Operator("sum", "dpfp-1", norm), V=18, state=state)
    assert plan(problem).tiles == 2
    agrees(problem)


def test_the_gate_with_its_laws():
    problem = small(OPERATORS[4], direction="forward", inputs="realistic")
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken
