"""The Triton kernels, interpreted: every operator they can do; every other has a reason."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.triton_kernels.plan import NORMS, plan
from fwpbench.implementations.triton_kernels.recurrent_plan import TOKEN_BY_TOKEN
from fwpbench.operators.operator import Operator, undefined
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, problem_of

TRITON = IMPLEMENTATIONS["triton"]
interpreted = pytest.mark.skipif(
    TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()

MAPS = ("identity", "elu+1", "relu", "tanh", "favor-16", "favor-published-16")
MAPS += ("dpfp-1", "dpfp-2", "dpfp-3")
SLICE = [
    operator
    for phi in MAPS
    for norm in NORMS
    if undefined(operator := Operator("sum", phi, norm)) is None
]
#: Every map and every normalisation at least once.
THIN = [
    Operator("sum", "identity", "none"),
    Operator("sum", "elu+1", "attention"),
    Operator("sum", "relu", "l2"),
    Operator("sum", "tanh", "l2"),
    Operator("sum", "dpfp-1", "sum"),
    Operator("sum", "dpfp-3", "sum+attention"),
    Operator("sum", "tanh", "none"),
    Operator("sum", "favor-16", "attention"),
    Operator("sum", "favor-16", "l2"),
    Operator("sum", "favor-published-16", "sum"),
]
#: Where a dtype's chunk begins and ends, and lengths without any relation to it.
C = {dtype: plan(problem_of(SLICE[0], dtype=dtype)).C for dtype in ("fp32", "bf16", "fp16")}


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes, filled up in every axis."""
    sizes = {"B": 1, "T": 37, "H": 2, "K": 10, "V": 7, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def agrees(problem: Problem, seed: int = 0) -> None:
    assert TRITON.refuses(problem) is None
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize("T", [1, C["fp32"] - 1, C["fp32"], C["fp32"] + 1, 37])
@pytest.mark.parametrize("operator", SLICE, ids=str)
def test_every_length_agrees(operator, T):
    for direction in ("forward+backward", "forward"):
        agrees(small(operator, T=T, direction=direction))


@interpreted
@pytest.mark.parametrize(
    ("operator", "dtype"), [*((o, "bf16") for o in SLICE), *((o, "fp16") for o in THIN)], ids=str
)
def test_low_precision_agrees(operator, dtype):
    """Several chunks and a token, so that what is carried was rounded."""
    agrees(small(operator, T=2 * C[dtype] + 1, K=16, V=16, dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize(
    ("phi", "norm", "inputs"), [("tanh", "none", "tiny"), ("favor-16", "attention", "huge")]
)
def test_the_ends_of_a_map_agree(phi, norm, inputs):
    """Where exp(−2|x|) would cancel, and where exponents overflow unless their maximum is off."""
    agrees(small(Operator("sum", phi, norm), inputs=inputs, direction="forward"))


@interpreted
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_tiles_of_value_columns_add_up(operator):
    problem = small(operator, V=33)
    assert plan(problem).tiles > 1
    agrees(problem)


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize("norm", ["sum", "sum+attention"])
def test_every_way_of_the_states_agrees(norm, state):
    agrees(small(Operator("sum", "dpfp-1", norm), state=state))


@interpreted
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_the_gate_with_its_laws(operator, dtype):
    """A batch's rows do not meet, two halves make a whole, nothing is seen before its time, …"""
    problem = small(operator, direction="forward", inputs="realistic", dtype=dtype)
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@interpreted
def test_inputs_may_lie_anywhere_in_memory():
    problem = small(Operator("sum", "elu+1", "attention"))
    run = TRITON.run

    def turned(problem, inputs):
        turn = {name: getattr(inputs, name).mT.contiguous().mT for name in ("q", "k", "v")}
        assert not turn["q"].is_contiguous()
        return run(problem, inputs._replace(**turn))

    agreement = check(turned, problem, truths(problem, 0))
    assert agreement.status == "ok", agreement.reason


@interpreted
def test_the_second_derivative_is_refused():
    problem = small(SLICE[0], state="none", T=3)
    inputs = truths(problem, 0).inputs
    q = inputs.q.clone().requires_grad_()
    o = TRITON.run(problem, inputs._replace(q=q)).o
    (dq,) = torch.autograd.grad(o.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


# What it cannot do. Nothing of Triton is needed to ask.


#: Those that go token by token (tests/test_triton_recurrent.py) and those that nothing does yet.
OTHERS = [o for o in OPERATORS if o not in SLICE]
REFUSED_OPERATORS = [o for o in OTHERS if o.rule not in TOKEN_BY_TOKEN or o.phi not in MAPS]


@pytest.mark.parametrize("operator", REFUSED_OPERATORS, ids=str)
def test_what_it_cannot_do_has_a_sentence(operator):
    """A reason that names what is in the way, for every other operator of the tables."""
    reason = TRITON.cannot(problem_of(operator, dtype="fp32"))
    assert reason is not None
    assert operator.rule in reason or operator.phi in reason


@pytest.mark.parametrize("operator", SLICE, ids=str)
def test_what_it_can_do_has_none(operator):
    for dtype in ("fp32", "bf16", "fp16"):
        assert TRITON.cannot(small(operator, dtype=dtype)) is None


REFUSED = {
    "fp64": {"dtype": "fp64"},
    "causal=no": {"causal": False},
    "mask": {"masked": True},
    "reads=no": {"reads": False, "direction": "forward"},
    "K = 257": {"K": 257},
    "V = 300": {"V": 300},
    "D = 1536": {"K": 256},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_named(name):
    assert name in TRITON.cannot(small(Operator("sum", "dpfp-3", "sum"), **REFUSED[name]))


def test_what_is_missing_is_said(monkeypatch):
    package = "fwpbench.implementations.triton_kernels"
    monkeypatch.setattr(f"{package}.find_spec", lambda name: None)
    assert "pip install" in TRITON.missing()
    monkeypatch.setattr(f"{package}.find_spec", lambda name: name)
    monkeypatch.setattr(f"{package}.INTERPRETED", False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "TRITON_INTERPRET=1" in TRITON.missing()
