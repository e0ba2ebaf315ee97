"""The kernels for a wide φ, interpreted: in several tiles of features, the last of them partial."""

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
interpreted = pytest.mark.skipif(
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
    Operator("sum", "favor-10", "sum+attention"),
    Operator("sum", "favor-published-10", "sum+attention"),
]
C = 16
SECOND_PASS, GATHERED_ONLY = Operator("sum", "favor-10", "sum"), Operator("sum", "dpfp-3", "none")


@pytest.fixture
def in_small_tiles(monkeypatch):
    """Tiles of 16 features for whatever has more, chunks of C tokens."""
    monkeypatch.setattr(plans, "largest_narrow", lambda problem: 0)
    blocks = dict.fromkeys(("fp32", "bf16", "fp16"), ((16, C, 16, 4),) * 2)
    monkeypatch.setattr(plans, "WIDE_BLOCKS", dict.fromkeys(plans.RULES, blocks))


def small(operator: Operator, **changes) -> Problem:
    """D of every map is more than one tile of 16 and no multiple of it."""
    K = 21
    if operator.phi.startswith(("dpfp", "favor")):
        K = {"dpfp-1": 10, "dpfp-2": 7, "dpfp-3": 6}.get(operator.phi, 10)
    sizes = {"B": 1, "T": C + 1, "H": 1, "K": K, "V": 5, "dtype": "fp32"}
    problem = problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))
    assert problem.D > 16
    assert problem.D % 16
    return problem


def agrees(problem: Problem, seed: int = 0) -> None:
    assert is_wide(problem)
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_map_and_normalisation_agrees(in_small_tiles, operator):
    """Two chunks, two heads: the state of each is its own."""
    agrees(small(operator, H=2))


@interpreted
@pytest.mark.parametrize("T", [1, C - 1, C, 37])
@pytest.mark.parametrize("operator", [SECOND_PASS, GATHERED_ONLY], ids=str)
def test_every_length_agrees(in_small_tiles, operator, T):
    agrees(small(operator, T=T))


@interpreted
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", OPERATORS[4::2], ids=str)
def test_low_precision_agrees(in_small_tiles, operator, dtype):
    agrees(small(operator, T=2 * C + 1, V=16, dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize("norm", ["sum", "sum+attention"])
def test_every_way_of_the_states_agrees(in_small_tiles, norm, state):
    """Two tiles of value columns, the second partial."""
    problem = small(Operator("sum", "dpfp-1", norm), V=18, state=state)
    assert plan(problem).tiles == 2
    agrees(problem)


@interpreted
def test_the_maximum_of_all_tiles_is_taken_off(in_small_tiles):
    """The last tile has two features: without its maximum, or with its alone, exp overflows."""
    operator = Operator("sum", "favor-17", "attention")
    agrees(small(operator, K=32, inputs="huge", direction="forward"))


@interpreted
def test_the_gate_with_its_laws(in_small_tiles):
    problem = small(OPERATORS[4], direction="forward", inputs="realistic")
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@interpreted
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_layouts_of_every_day_agree(dtype):
    phi = "dpfp-3" if dtype == "fp32" else "dpfp-5"
    agrees(small(Operator("sum", phi, "sum"), T=33, K=15, V=16, dtype=dtype))


# Which kernels a problem gets. Nothing of Triton is needed to ask.


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("phi", ["identity", "elu+1", "tanh", "dpfp-1", "dpfp-3", "favor-128"])
def test_only_what_is_too_wide_gets_the_wide_kernels(phi, dtype):
    for K in (16, 32, 64, 128, 256):
        problem = problem_of(Operator("sum", phi, "none"), K=K, dtype=dtype)
        if TRITON.cannot(problem) is not None:
            assert problem.D > plans.LARGEST_D
            continue
        assert is_wide(problem) or plan(problem).BD >= problem.D
