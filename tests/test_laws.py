"""The laws without a reference: honest arithmetic keeps them, and each can be broken."""

from __future__ import annotations

import pytest
import torch

import fwpbench
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.laws import LAWS, Laws, applicable, find_broken
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from tests.tables import able, problem_of

truths = Truths(100)
run_chunked = IMPLEMENTATIONS["chunked"].run


def forward(operator: Operator, **changes) -> Problem:
    sizes = {"B": 1, "T": 67, "H": 2, "K": 16, "V": 12, "dtype": "fp32", "inputs": "realistic"}
    return problem_of(operator, **(sizes | changes))


def laws_of(run, problem, **options) -> Laws:
    return find_broken(run, problem, truths(problem, 0), **options)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "operator"), able(), ids=str)
def test_honest_implementations_keep_every_law(name, operator, dtype):
    problem = forward(operator, dtype=dtype)
    laws = laws_of(IMPLEMENTATIONS[name].run, problem, cannot=IMPLEMENTATIONS[name].cannot)
    assert not laws.broken, laws.ratios
    assert laws.ratios.keys() | laws.exempt.keys() == LAWS.keys()
    assert not laws.ratios.keys() & laws.exempt.keys()
    assert laws.distinct == 1


def exempt(rule: str) -> set[str]:
    operator = next(operator for _, operator in able(["reference"]) if operator.rule == rule)
    return set(laws_of(IMPLEMENTATIONS["reference"].run, forward(operator)).exempt)


def test_rules_are_exempt_by_their_own_definition():
    """fwm is not linear in v and clips where β = 0; a decay changes the state where β = 0."""
    assert exempt("fwm") == {"linear in v", "beta = 0", "alpha = 1"}
    assert exempt("gated-delta") == exempt("kda") == {"beta = 0"}
    assert exempt("delta") == exempt("gated") == {"alpha = 1"}
    assert exempt("sum") == exempt("softmax-attention") == {"alpha = 1", "beta = 0"}


def test_a_law_that_needs_what_is_refused_is_exempt_with_the_reason():
    def cannot(problem):
        if problem.B > 1:
            return "one row only"
        return None if problem.T == 67 else "67 tokens only"

    laws = laws_of(run_chunked, forward(Operator("delta", "identity", "l2")), cannot=cannot)
    assert laws.exempt["rows"] == laws.exempt["causality"] == "one row only"
    assert laws.exempt["two halves"] == "67 tokens only"
    assert set(laws.ratios) == {"memory"}


def test_laws_are_asked_of_a_causal_call_without_gradients():
    problem = forward(Operator("sum", "elu+1", "none"))
    assert applicable(problem)
    for change in (
        {"direction": "forward+backward"}, {"direction": "decode"},
        {"masked": True}, {"causal": False}, {"reads": False}, {"T": 2},
    ):  # fmt: skip
        assert not applicable(problem.replace(**change)), change


def chunked_with(**edits):
    """chunked, with o or S edited: each edit is given the tensor and the problem."""

    def run(problem, inputs):
        output = run_chunked(problem, inputs)
        o = edits.get("o", lambda x, p, i: x)(output.o, problem, inputs)
        S = edits.get("S", lambda x, p, i: x)(output.state.S, problem, inputs)
        return Output(o, State(S, output.state.z))

    return run


def ungated_only(S, problem, inputs):
    return S * 1.1 if problem.rule == "delta" else S


#: What breaks each law: seen by it whatever else is seen.
BREAKS = {
    "causality": {"o": lambda o, p, i: o + o.mean(1, keepdim=True)},
    "two halves": {"S": lambda S, p, i: S * 1.01},
    "rows": {"o": lambda o, p, i: o + 0.01 * o.mean(0, keepdim=True) * (p.B > 1)},
    "heads": {"o": lambda o, p, i: o + 0.01 * o.mean(2, keepdim=True)},
    "order of heads": {"o": lambda o, p, i: o * torch.tensor([1.0, 1.1])[:, None]},
    "beta = 0": {"S": lambda S, p, i: S * 1.01},
    "alpha = 1": {"S": ungated_only},
    "linear in v": {"o": lambda o, p, i: o + 0.1 * o**2},
    "padding": {"o": lambda o, p, i: o * (1.1 if p.T % 64 else 1.0)},
}


@pytest.mark.parametrize("law", BREAKS)
def test_each_law_can_be_broken(law):
    rule = "gated-delta" if law == "alpha = 1" else "delta"
    problem = forward(Operator(rule, "identity", "l2"))
    assert law in laws_of(chunked_with(**BREAKS[law]), problem).broken


def test_what_was_computed_before_shows():
    calls = []

    def run(problem, inputs):
        calls.append(problem)
        output = run_chunked(problem, inputs)
        return output if len(calls) < 4 else output._replace(o=output.o * 1.1)

    problem = forward(Operator("delta", "identity", "l2"))
    assert "memory" in laws_of(run, problem).broken


def test_a_broken_law_alone_is_incorrect_and_named():
    """At B = 1 the golden cannot see that rows meet."""
    problem = forward(Operator("delta", "identity", "l2"))
    run = chunked_with(**BREAKS["rows"])
    agreement, laws = judge(run, problem, truths(problem, 0))
    assert "rows" in laws.broken
    assert agreement.status == "incorrect"
    assert agreement.worst_ratio < 1
    assert LAWS["rows"] in agreement.reason


def test_not_deterministic_is_reported_and_no_failure():
    """One unit in the last place, another one every call."""
    generator = torch.Generator().manual_seed(0)

    def noisy(o, problem, inputs):
        up = torch.rand(o.shape, generator=generator) < 0.5
        return torch.where(up, o.nextafter(torch.tensor(torch.inf)), o)

    problem = forward(Operator("delta", "identity", "l2"))
    agreement, laws = judge(chunked_with(o=noisy), problem, truths(problem, 0))
    assert (agreement.status, laws.distinct) == ("ok", 5)
    assert laws.as_json()["distinct of 5"] == 5


@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize(("name", "operator"), able(), ids=str)
def test_without_a_state_in_and_out_the_other_laws_are_asked(name, operator, state):
    problem = forward(operator, T=33, state=state)
    laws = laws_of(IMPLEMENTATIONS[name].run, problem, cannot=IMPLEMENTATIONS[name].cannot)
    assert not laws.broken, laws.ratios
    assert laws.ratios.keys() | laws.exempt.keys() == LAWS.keys()
    assert "two halves" in laws.exempt


@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("inputs", ["normal", "realistic"])
def test_check_asks_the_laws_of_whatever_is_given(direction, inputs):
    """Right wherever B is 1, as the golden asks; rows meet where it is not."""
    problem = forward(
        Operator("delta", "identity", "l2"), direction=direction, inputs=inputs, state="none"
    )
    assert fwpbench.check(run_chunked, problem).status == "ok"

    def rows_meet(p, i):
        o, state = run_chunked(p, i)
        return Output(o + 0.01 * o.mean(0, keepdim=True) * (p.B > 1), state)

    found = fwpbench.check(rows_meet, problem)
    assert found.status == "incorrect"
    assert "rows of a batch do not meet (rows)" in found.reason
