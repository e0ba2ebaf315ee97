"""The Triton kernels, interpreted: every operator they can do; every other has a reason."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._kernel_terms import NORMS
from fwpbench.implementations.triton_kernels.plan import RULES, plan
from fwpbench.operators.operator import Operator, discouraged, undefined
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
    for rule in RULES
    for phi in MAPS
    for norm in NORMS
    if undefined(operator := Operator(rule, phi, norm)) is None and discouraged(operator) is None
]
#: With every rule every kind of normalisation at least once, and every map.
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
    Operator("decay", "identity", "none"),
    Operator("decay", "elu+1", "attention"),
    Operator("decay", "dpfp-2", "sum"),
    Operator("gated", "relu", "l2"),
    Operator("gated", "dpfp-1", "sum+attention"),
    Operator("delta", "identity", "l2"),
    Operator("delta", "elu+1", "attention"),
    Operator("delta", "dpfp-2", "sum+attention"),
    Operator("gated-delta", "identity", "l2"),
    Operator("gated-delta", "dpfp-1", "sum"),
    Operator("delta", "favor-8", "attention"),
]
#: By rule, K where 10 makes DPFP too wide for the narrow kernels in fp32.
NARROW = {
    "delta": {"dpfp-2": 7, "dpfp-3": 5},
    "gated-delta": {"dpfp-1": 7, "dpfp-2": 4, "dpfp-3": 2},
}


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes, filled up in every axis.

    Many heads for one token: of two numbers of dβ the yardstick may have both right by luck.
    """
    B = 4 if changes.get("T") == 1 else 1
    K = NARROW.get(operator.rule, {}).get(operator.phi, 10)
    sizes = {"B": B, "T": 37, "H": 2, "K": K, "V": 7, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def chunk(operator: Operator, dtype: str) -> int:
    """Tokens a chunk of the kernels that go back, and of the forward one before them."""
    return plan(small(operator, dtype=dtype), backward=True).C


def lengths(operator: Operator, direction: str) -> list[int]:
    """One token, where a chunk begins and ends, and a length without any relation to it."""
    C = plan(small(operator, direction=direction), backward=direction != "forward").C
    return [1, C - 1, C, C + 1] + [37] * (C != 16)  # 17 is prime


def agrees(problem: Problem, seed: int = 0) -> None:
    assert TRITON.refuses(problem) is None
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("operator", SLICE, ids=str)
def test_every_operator_agrees_at_every_length(operator, direction):
    """Forward alone nothing is kept, and the chunks are others.

    Of these 1,300 problems the yardstick's own order of sums is lucky in a few, so that an honest
    one is beyond it, by 1.3 at most so far; what is wrong is so with other numbers, too.
    """
    for T in lengths(operator, direction):
        problem = small(operator, T=T, direction=direction)
        if check(TRITON.run, problem, truths(problem, 0)).status != "ok":
            agrees(problem, seed=1)
            agrees(problem, seed=2)


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("dtype", ["tf32", "bf16", "fp16"])
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_low_precision_agrees(operator, dtype):
    """Several chunks and a token, so that what is carried was rounded."""
    agrees(small(operator, T=2 * chunk(operator, dtype) + 1, V=16, dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize("operator", [THIN[1], THIN[3], THIN[15], THIN[18]], ids=str)
def test_tf32_rounds_its_operands_and_fp32_does_not(operator):
    """Held to one yardstick, that of tf32: a good part of what it allows, and next to nothing."""
    asked = small(operator, dtype="tf32", direction="forward")
    truth, errors = truths(asked, 2), {}
    for dtype in ("tf32", "fp32"):
        problem = asked.replace(dtype=dtype)
        errors[dtype] = check(TRITON.run, problem, truth).comparisons["o"].ratio
    assert 0.1 < errors["tf32"] < 1
    assert errors["fp32"] < 0.01


@interpreted
@pytest.mark.parametrize(
    ("phi", "norm", "inputs"), [("tanh", "none", "tiny"), ("favor-16", "attention", "huge")]
)
def test_the_ends_of_a_map_agree(phi, norm, inputs):
    """Where exp(−2|x|) would cancel, and where exponents overflow unless their maximum is off."""
    agrees(small(Operator("sum", phi, norm), inputs=inputs, direction="forward"))


@interpreted
@pytest.mark.parametrize("operator", THIN[1::2], ids=str)
def test_tiles_of_value_columns_add_up(operator):
    problem = small(operator, V=33)
    assert plan(problem, backward=True).tiles > 1
    agrees(problem)


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize(
    ("rule", "norm"),
    [("sum", "sum"), ("sum", "sum+attention"), ("gated", "attention"), ("delta", "attention")],
)
def test_every_way_of_the_states_agrees(rule, norm, state):
    agrees(small(Operator(rule, "dpfp-1", norm), T=19, state=state))


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("rule", ["decay", "gated", "delta", "gated-delta"])
def test_gates_may_be_exactly_0_and_1(rule):
    """Inside a chunk too: several of each, where a logarithm would be −∞ and a quotient 0 / 0."""
    problem = small(Operator(rule, "elu+1", "sum"), inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        inside = gate[:, 1 : chunk(problem.operator, "fp32")]
        assert {0.0, 1.0} <= set(inside.flatten().tolist())
    agrees(problem)


@interpreted
@pytest.mark.parametrize("family", ["repeated-keys", "beta-1"])
def test_the_delta_rule_inverts_where_keys_are_alike(family):
    agrees(small(Operator("delta", "identity", "l2"), inputs=family))


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(THIN)), ids=str)
def test_the_gate_with_its_laws(n, operator):
    """A batch's rows do not meet, two halves make a whole, nothing is seen before its time, …"""
    dtype = ("fp32", "bf16", "tf32")[n % 3]
    problem = small(operator, direction="forward", inputs="realistic", dtype=dtype)
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@interpreted
def test_inputs_may_lie_anywhere_in_memory():
    problem = small(Operator("gated-delta", "elu+1", "l2"))
    run = TRITON.run

    def turned_tensor(x):
        return x.mT.contiguous().mT

    def turned(problem, inputs):
        turn = {name: turned_tensor(getattr(inputs, name)) for name in ("q", "k", "v")}
        assert not turn["q"].is_contiguous()
        gates = {name: turned_tensor(gate) for name, gate in inputs.gates.items()}
        return run(problem, inputs._replace(**turn, gates=gates))

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


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_only_what_keeps_its_tokens_is_refused(operator):
    """In every dtype but fp64, with every way to read; by a reason that names the rule."""
    rule = operator.update_rule
    ways = [{}, {"direction": "decode"}, {"reads": False}, {"masked": not rule.keeps_tokens}]
    ways += [{"causal": not rule.order_free}]
    for way in ways:
        for dtype in ("fp32", "bf16", "fp16"):
            problem = problem_of(operator, **({"direction": "forward+backward"} | way), dtype=dtype)
            reason = TRITON.cannot(problem)
            assert (reason is None) == (not rule.keeps_tokens)
            assert reason is None or operator.rule in reason


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_tf32_is_for_whole_chunks(operator):
    """What multiplies no tiles, or as exactly as float32, is not called tf32."""
    ways = [{}, {"direction": "decode"}, {"reads": False}]
    ways += [{"causal": False}] * operator.update_rule.order_free
    for way in ways:
        problem = problem_of(operator, **({"direction": "forward+backward"} | way), dtype="tf32")
        reason = TRITON.cannot(problem)
        assert (reason is None) == (not way and operator.rule in RULES)
        assert reason is None or "tf32" in reason or operator.rule in reason


REFUSED = {
    "fp64": {"dtype": "fp64"},
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
