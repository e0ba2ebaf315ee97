"""The call for model authors: right, differentiable, and clear about what it cannot take."""

from __future__ import annotations

import pytest
import torch

import fwpbench
from fwpbench import State, UserError, choose, fast_weight_attention, make_inputs
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from tests.comparison import assert_close
from tests.tables import VARIED, problem_of


def call(problem, inputs, **more):
    """The public call with everything an Inputs holds."""
    return fast_weight_attention(
        inputs.q,
        inputs.k,
        inputs.v,
        feature_map=problem.phi,
        update_rule=problem.rule,
        normalization=problem.norm,
        **inputs.gates,
        projection=inputs.projection,
        mask=inputs.mask,
        causal=problem.causal,
        initial_state=inputs.state,
        **more,
    )


@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_every_operator_is_the_reference(operator):
    problem = problem_of(operator)
    given = make_inputs(problem, seed=0)
    wanted = IMPLEMENTATIONS["reference"].run(problem, given)
    o, state = call(problem, given, return_state=True)
    assert_close({"o": o, "S": state.S}, {"o": wanted.o, "S": wanted.state.S}, within=1e-10)
    alone = call(problem, given)
    assert torch.equal(alone, o)


@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_gradients_reach_every_tensor(operator):
    problem = problem_of(operator, dtype="fp32")
    given = make_inputs(problem, seed=1)
    leaves = [given.q, given.k, given.v, *given.gates.values(), given.state.S]
    for leaf in leaves:
        leaf.requires_grad_()
    call(problem, given).square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_masks_and_the_other_way_of_reading():
    operator = Operator("sum", "elu+1", "attention")
    problem = problem_of(operator, causal=False, masked=True)
    given = make_inputs(problem, seed=2)
    o = call(problem, given)
    changed = given._replace(v=torch.where(given.mask[..., None, None], given.v, 1e6))
    assert torch.equal(call(problem, changed), o)


def test_without_queries_only_the_state_is_made():
    problem = problem_of(Operator("delta", "elu+1", "sum"))
    given = make_inputs(problem, seed=3)
    o, state = call(problem, given._replace(q=None), return_state=True)
    assert o is None
    _, wanted = call(problem, given, return_state=True)
    assert_close({"S": state.S}, {"S": wanted.S}, within=1e-12)


x = torch.zeros(2, 5, 3, 4)
gate = torch.full((2, 5, 3), 0.5)
GOOD = {
    "q": x,
    "k": x,
    "v": torch.zeros(2, 5, 3, 6),
    "feature_map": "elu+1",
    "update_rule": "delta",
    "normalization": "sum",
    "beta": gate,
}
BAD = {
    "k without heads": ({"k": x[0]}, r"k must have the axes \[B, T, H, K\], got \[5, 3, 4\]"),
    "q of another shape": ({"q": x[:, :4]}, "q and k must have one shape"),
    "v of another length": ({"v": torch.zeros(2, 4, 3, 6)}, r"v must begin with the \[B, T, H\]"),
    "dtypes that differ": ({"q": x.double()}, "q, k and v must be alike"),
    "whole numbers": (
        {"q": x.long(), "k": x.long(), "v": torch.zeros(2, 5, 3, 6, dtype=torch.long)},
        "must be float64, float32, bfloat16, float16",
    ),
    "a list": ({"k": [1.0]}, "k must be a tensor, got a list"),
    "no tokens": (
        {"q": x[:, :0], "k": x[:, :0], "v": torch.zeros(2, 0, 3, 6), "beta": gate[:, :0]},
        "T = 0",
    ),
    "no gate": ({"beta": None}, r"delta needs beta: \[B, T, H\] = \[2, 5, 3\]"),
    "a gate too many": ({"alpha": gate}, "delta takes beta: leave alpha out"),
    "a gate for a rule without": ({"update_rule": "sum"}, "sum takes no gate: leave beta out"),
    "a gate of the wrong shape": ({"beta": gate[..., None]}, "beta must be"),
    "a gate of whole numbers": ({"beta": gate.long()}, "beta must be floating point"),
    "a misspelt rule": ({"update_rule": "dleta"}, "Did you mean 'delta'"),
    "a misspelt map": ({"feature_map": "elu1"}, "Did you mean 'elu\\+1'"),
    "a family without its number": ({"feature_map": "dpfp"}, "no feature map named 'dpfp'"),
    "a misspelt norm": ({"normalization": "sums"}, "Did you mean 'sum'"),
    "a misspelt implementation": ({"implementation": "chunk"}, "Did you mean 'chunked'"),
    "an implementation that cannot": (
        {"implementation": "torch-sdpa"},
        "implementation='torch-sdpa' cannot do this: only softmax-attention",
    ),
    "no sense": ({"feature_map": "tanh"}, "sum is undefined"),
    "a projection too many": ({"projection": x[0, 0]}, "takes no projection"),
    "no projection": ({"feature_map": "favor-8"}, r"needs a projection \[K, M\] = \[4, 8\]"),
    "a mask of numbers": ({"mask": torch.ones(2, 5)}, r"mask must be bool \[B, T\] = \[2, 5\]"),
    "reading all with an ordered rule": ({"causal": False}, "not for delta"),
    "nothing asked": ({"q": None}, "ask for the state with return_state=True"),
    "a state of the wrong shape": (
        {"initial_state": State(torch.zeros(2, 3, 4, 4))},
        r"S must be \[B, H, D, V\] = \[2, 3, 4, 6\]",
    ),
    "a z nobody needs": (
        {"initial_state": State(torch.zeros(2, 3, 4, 6), torch.zeros(2, 3, 4))},
        "has no z",
    ),
    "no z": (
        {"normalization": "attention", "initial_state": State(torch.zeros(2, 3, 4, 6))},
        "needs z",
    ),
    "a tuple for a state": (
        {"initial_state": (torch.zeros(2, 3, 4, 6), None)},
        "must be a fwpbench.State",
    ),
    "another device": ({"beta": gate.to("meta")}, "beta must be floating point on cpu"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_it_cannot_take_it_names(name):
    """Argument, what was expected and what came."""
    edits, sentence = BAD[name]
    arguments = GOOD | edits
    q, k, v = (arguments.pop(name) for name in "qkv")
    with pytest.raises(UserError, match=sentence):
        fast_weight_attention(q, k, v, **arguments)


def test_what_is_good_is_taken():
    arguments = dict(GOOD)
    q, k, v = (arguments.pop(name) for name in "qkv")
    assert fast_weight_attention(q, k, v, **arguments).shape == v.shape


@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_choose_takes_the_first_that_can_and_tells_why_not_the_others(operator):
    problem = problem_of(operator)
    choice = choose(problem)
    able = [n for n, i in IMPLEMENTATIONS.items() if i.refuses(problem) is None]
    assert choice.name == able[0]
    assert choice.refusals.keys() == set(IMPLEMENTATIONS) - set(able)
    assert all(choice.refusals.values())


def test_the_front_door_has_what_it_says():
    for name in fwpbench.__all__:
        assert getattr(fwpbench, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        fwpbench.nothing  # noqa: B018
