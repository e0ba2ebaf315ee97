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
#: Every other rule with and without a scale, and with every way to divide that it has.
GATED = [
    Operator("decay", "identity", "none"),
    Operator("decay", "favor-10", "sum+attention"),
    Operator("gated", "relu", "l2"),
    Operator("gated", "dpfp-1", "attention"),
    Operator("delta", "dpfp-3", "sum"),
    Operator("delta", "elu+1", "attention"),
    Operator("delta", "favor-published-10", "sum+attention"),
    Operator("gated-delta", "tanh", "l2"),
    Operator("gated-delta", "favor-10", "sum"),
]
C = 16
SECOND_PASS, GATHERED_ONLY = Operator("sum", "favor-10", "sum"), Operator("sum", "dpfp-3", "none")


@pytest.fixture
def in_small_tiles(monkeypatch):
    """Tiles of 16 features for whatever has more, chunks of C tokens."""
    blocks = dict.fromkeys(plans.DOTS, ((16, C, 16, 4),) * 2)
    monkeypatch.setattr(plans, "largest_narrow", lambda problem: 0)
    monkeypatch.setattr(plans, "wide_blocks", lambda problem: blocks)


def small(operator: Operator, **changes) -> Problem:
    """D of every map is more than one tile of 16 and no multiple of it.

    Many heads for one token: one number of dα the yardstick may have right by luck. Several where
    the delta rule divides in tf32: so it may the dz₀ of one head, in which large terms cancel.
    """
    K = 21
    if operator.phi.startswith(("dpfp", "favor")):
        K = {"dpfp-1": 10, "dpfp-2": 7, "dpfp-3": 6}.get(operator.phi, 10)
    B = 8 if changes.get("T") == 1 else 1
    cancels = changes.get("dtype") == "tf32" and operator.rule == "delta" and operator.divides
    sizes = {"B": B, "T": C + 1, "H": 4 if cancels else 1, "K": K, "V": 5, "dtype": "fp32"}
    problem = problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))
    assert problem.D > 16
    assert problem.D % 16
    return problem


def agrees(problem: Problem, seed: int = 0) -> None:
    assert is_wide(problem)
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize("operator", OPERATORS + GATED, ids=str)
def test_every_map_and_normalisation_agrees(in_small_tiles, operator):
    """Two chunks, two heads: the state of each is its own."""
    agrees(small(operator, H=2))


@interpreted
@pytest.mark.parametrize("T", [1, C - 1, C, 37])
@pytest.mark.parametrize("operator", [SECOND_PASS, GATHERED_ONLY, GATED[7]], ids=str)
def test_every_length_agrees(in_small_tiles, operator, T):
    agrees(small(operator, T=T))


LOW = [(operator, dtype) for operator in OPERATORS[4::2] for dtype in ("bf16", "fp16")]
LOW += [(operator, ("fp16", "bf16")[n % 2]) for n, operator in enumerate(GATED)]
LOW += [(operator, "tf32") for operator in (OPERATORS[4], OPERATORS[12], *GATED[3::2])]


@interpreted
@pytest.mark.parametrize(("operator", "dtype"), LOW, ids=str)
def test_low_precision_agrees(in_small_tiles, operator, dtype):
    agrees(small(operator, V=16, dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize(
    ("rule", "norm"),
    [("sum", "sum"), ("sum", "sum+attention"), ("gated", "attention"), ("delta", "sum+attention")],
)
def test_every_way_of_the_states_agrees(in_small_tiles, rule, norm, state):
    """Two tiles of value columns, the second partial."""
    problem = small(Operator(rule, "dpfp-1", norm), V=18, state=state)
    assert plan(problem, backward=True).tiles == 2
    agrees(problem)


@interpreted
def test_tiles_of_value_columns_share_the_gradients_of_gates(in_small_tiles):
    agrees(small(Operator("gated-delta", "dpfp-1", "sum"), V=33))


@interpreted
@pytest.mark.parametrize("rule", ["decay", "gated", "delta", "gated-delta"])
def test_gates_may_be_exactly_0_and_1(in_small_tiles, rule):
    """Inside a chunk too: several of each, where a logarithm would be −∞ and a quotient 0 / 0."""
    problem = small(Operator(rule, "elu+1", "sum"), T=37, inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        assert {0.0, 1.0} <= set(gate[:, 1:C].flatten().tolist())
    agrees(problem)


@interpreted
@pytest.mark.parametrize("family", ["repeated-keys", "beta-1"])
def test_the_delta_rule_inverts_where_keys_are_alike(in_small_tiles, family):
    agrees(small(Operator("delta", "identity", "l2"), T=37, inputs=family))


@interpreted
def test_the_maximum_of_all_tiles_is_taken_off(in_small_tiles):
    """The last tile has two features: without its maximum, or with its alone, exp overflows."""
    operator = Operator("sum", "favor-17", "attention")
    agrees(small(operator, K=32, inputs="huge", direction="forward"))


@interpreted
@pytest.mark.parametrize("operator", [OPERATORS[4], GATED[1], GATED[5], GATED[7]], ids=str)
def test_the_gate_with_its_laws(in_small_tiles, operator):
    problem = small(operator, direction="forward", inputs="realistic")
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("rule", ["sum", "gated", "delta"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_layouts_of_every_day_agree(rule, dtype):
    phi = "dpfp-3" if dtype == "fp32" else "dpfp-5"
    agrees(small(Operator(rule, phi, "sum"), T=33, K=15, V=16, dtype=dtype))


@interpreted
def test_without_gradients_no_state_between_chunks_is_kept(in_small_tiles):
    from fwpbench.implementations.triton_kernels import operator

    problem = str(small(GATED[5]))
    kept = {"S_kept", "z_kept", "A_kept", "E_kept", "r_kept"}
    assert operator.shapes(problem, "wide", False).keys() == {"o", "S", "z", "y"}
    assert operator.shapes(problem, "wide", True).keys() == {"o", "S", "z", "y"} | kept


@interpreted
@pytest.mark.parametrize(("dtype", "kept"), [("bf16", 2), ("fp16", 4), ("fp32", 4)])
@pytest.mark.parametrize("operator", [GATED[5], Operator("delta", "identity", "l2")], ids=str)
def test_states_are_kept_in_as_many_bytes_as_products_take(operator, dtype, kept):
    """In tiles and not: 805 MB of them, for dpfp-3 at B8 T4096 H8 K64, are 403 in bf16."""
    from fwpbench.implementations.triton_kernels import operator as call

    for plan_name in ("wide", "fused"):
        shape, of = call.shapes(str(small(operator, dtype=dtype)), plan_name, True)["S_kept"]
        assert of.itemsize == kept
        assert len(shape) == 5


# Which kernels a problem gets. Nothing of Triton is needed to ask.


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("phi", ["identity", "elu+1", "tanh", "dpfp-1", "dpfp-3", "favor-128"])
@pytest.mark.parametrize("rule", plans.RULES)
def test_only_what_is_too_wide_gets_the_wide_kernels(rule, phi, dtype):
    """And what is refused is wider than those go; chunks are as long forward as what is kept."""
    for K in (16, 32, 64, 128, 256):
        problem = problem_of(Operator(rule, phi, "none"), K=K, dtype=dtype)
        if TRITON.cannot(problem) is not None:
            assert problem.D > plans.LARGEST_D
            continue
        assert is_wide(problem) or plan(problem).BD >= problem.D
        assert plan(problem, keeps=rule != "sum").C == plan(problem, backward=rule != "sum").C
