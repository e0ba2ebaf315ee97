"""The laws that every implementation keeps, for the tests of whoever writes one.

    import pytest
    from fwpbench.testing import CHECKS, name

    @pytest.mark.parametrize(("law", "problem"), CHECKS, ids=name)
    def test_my_kernel(law, problem):
        law(IMPLEMENTATION, problem)

A law takes an implementation and a problem and raises AssertionError that says which tensor differs
and by how much. Where the implementation refuses the problem, or what the law asks of it, the law
raises unittest.SkipTest with the sentence, which pytest shows as a skipped test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths, named
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.rounding import TF32_LACKS
from fwpbench.operators.state import State

#: One operator for every rule × what its normalisation does to the state; every φ at least once.
OPERATORS = [
    Operator("sum", "elu+1", "attention"),
    Operator("sum", "favor-16", "sum"),
    Operator("sum", "identity", "none"),
    Operator("decay", "dpfp-2", "sum+attention"),
    Operator("decay", "identity", "l2"),
    Operator("gla", "relu", "attention"),
    Operator("gla", "tanh", "none"),
    Operator("gated", "favor-published-16", "attention"),
    Operator("gated", "dpfp-1", "sum"),
    Operator("delta", "dpfp-3", "sum"),
    Operator("delta", "elu+1", "sum+attention"),
    Operator("delta", "identity", "l2"),
    Operator("gated-delta", "identity", "l2"),
    Operator("gated-delta", "elu+1", "sum"),
    Operator("kda", "identity", "l2"),
    Operator("fwm", "tanh", "none"),
    Operator("softmax-attention", "identity", "none"),
]
#: Odd sizes, past the border of a chunk of 64, states in and out.
PROBLEMS = [
    Problem.of(
        operator, B=2, T=70, H=3, K=16, V=5, dtype="fp32", direction="forward", state="in+out"
    )
    for operator in OPERATORS
]

truths = Truths()


def same(problem: Problem) -> float:
    """The relative error of the same arithmetic done twice: 10⁻¹³ in fp64."""
    return min(512 * _eps(problem), other(problem))


def other(problem: Problem) -> float:
    """The relative error of the same sums in another order: 10⁻¹⁰ in fp64, 10⁻⁴ in fp32."""
    return 3 * math.pow(_eps(problem), 2 / 3)


def _eps(problem: Problem) -> float:
    if problem.dtype == "tf32":
        return 2.0 ** (TF32_LACKS - 23)
    return float(torch.finfo(problem.torch_dtype).eps)


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """‖got − wanted‖ / ‖wanted‖ over the whole tensor; 0 where they are equal bit for bit."""
    if torch.equal(got, wanted):
        return 0.0
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def assert_close(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], within: float) -> None:
    """Raises unless both have the same tensors, each within a relative error (by norm)."""
    assert got.keys() == wanted.keys(), f"got {', '.join(got)}, expected {', '.join(wanted)}"
    for tensor, like in wanted.items():
        assert got[tensor].shape == like.shape, (
            f"{tensor} has the shape {list(got[tensor].shape)}, expected {list(like.shape)}"
        )
        # Where the truth is 0, so small that only rounding is left, by the size of the others.
        size = max(float(each.double().norm()) for each in wanted.values())
        difference = float((got[tensor].double() - like.double()).norm())
        error = relative_error(got[tensor], like)
        assert error <= within or difference <= within * 1e-6 * size, (
            f"{tensor} differs by {error:.1e}, allowed is {within:.0e}"
        )


def agrees_with_float64(implementation: Implementation, problem: Problem, seed: int = 0) -> None:
    """Output, state and every gradient pass the gate, in every direction it does not refuse."""
    asked = [
        changed
        for direction in ("forward+backward", "forward", "decode")
        if _refusal(implementation, changed := problem.replace(direction=direction)) is None
    ]
    if not asked:
        _able(implementation, problem)
    for changed in asked:
        truth = truths(changed, seed)
        agreement = check(implementation.run, changed, truth, _device(implementation))
        assert agreement.status in ("ok", "unsupported"), f"{changed}: {agreement.reason}"


def any_length_agrees(implementation: Implementation, problem: Problem) -> None:
    """Around the borders of a chunk, from an initial state and from none, against the law."""
    asked = [
        changed
        for T in (1, 2, 63, 64, 65, 131)
        for state in ("out", "in+out")
        if _refusal(implementation, changed := problem.replace(B=1, T=T, H=2, state=state)) is None
    ]
    if not asked:
        _able(implementation, problem)
    for changed in asked:
        given = _inputs(implementation, changed, seed=changed.T)
        law = IMPLEMENTATIONS["reference"].run(changed, given)
        assert_close(named(implementation.run(changed, given)), named(law), within=other(changed))


def two_halves_make_a_whole(implementation: Implementation, problem: Problem) -> None:
    """Two calls with the state between them give what one call gives, wherever it is cut."""
    whole = _able(implementation, problem.replace(state="in+out"))
    given = _inputs(implementation, whole, seed=4)
    wanted = implementation.run(whole, given)
    for at in sorted({1, whole.T // 2, min(64, whole.T - 1), whole.T - 1}):
        first = implementation.run(whole.replace(T=at), cut(given, slice(at), given.state))
        rest = whole.replace(T=whole.T - at)
        second = implementation.run(rest, cut(given, slice(at, None), first.state))
        got = named(second) | {"o": torch.cat([_o(first), _o(second)], dim=1)}
        assert_close(got, named(wanted), within=other(problem))


def no_token_sees_a_later_one(implementation: Implementation, problem: Problem) -> None:
    """Changing a token's key and value changes what it reads and nothing that is read before."""
    _able(implementation, problem)
    given = _inputs(implementation, problem, seed=5)
    before = _o(implementation.run(problem, given))
    for t in sorted({0, problem.T // 2, min(64, problem.T - 1), problem.T - 1}):
        changed = given._replace(k=given.k.clone(), v=given.v.clone())
        changed.k[:, t] += 1
        changed.v[:, t] -= 2
        after = _o(implementation.run(problem, changed))
        assert_close({"o": after[:, :t]}, {"o": before[:, :t]}, within=same(problem))
        assert not torch.equal(after[:, t], before[:, t]), f"o[{t}] does not see its own token"


def rows_and_heads_do_not_meet(implementation: Implementation, problem: Problem) -> None:
    """Permuting rows and heads of the inputs permutes those of the outputs, and nothing else."""
    _able(implementation, problem)
    given = _inputs(implementation, problem, seed=6)
    rows, heads = (torch.arange(size).roll(1).to(given.k.device) for size in (problem.B, problem.H))

    def permuted(x: Any) -> Any:
        return None if x is None else x[rows][:, :, heads]

    def permuted_state(x: Any) -> Any:
        return None if x is None else x[rows][:, heads]

    def permuted_pair(state: State | None) -> State | None:
        return None if state is None else State(*map(permuted_state, state))

    turned = given._replace(
        q=permuted(given.q),
        k=permuted(given.k),
        v=permuted(given.v),
        gates={gate: permuted(x) for gate, x in given.gates.items()},
        state=permuted_pair(given.state),
    )
    wanted, got = implementation.run(problem, given), implementation.run(problem, turned)
    expected = Output(permuted(wanted.o), permuted_pair(wanted.state))
    assert_close(named(got), named(expected), within=other(problem))


def inputs_are_left_alone(implementation: Implementation, problem: Problem) -> None:
    """A call changes none of the tensors it is given."""
    _able(implementation, problem)
    given = _inputs(implementation, problem, seed=7)
    again = _inputs(implementation, problem, seed=7)
    implementation.run(problem, given)
    for (tensor, mine), fresh in zip(_all(given).items(), _all(again).values(), strict=True):
        assert torch.equal(mine, fresh), f"{tensor} was changed by the call"


def only_writing_gives_the_same_state(implementation: Implementation, problem: Problem) -> None:
    """Without queries the state is what it is with them."""
    writes = problem.replace(state="in+out", reads=False)
    _able(implementation, writes.replace(reads=True))
    _able(implementation, writes)
    given = _inputs(implementation, writes.replace(reads=True), seed=8)
    wanted = implementation.run(writes.replace(reads=True), given).state
    output = implementation.run(writes, given._replace(q=None))
    assert output.o is None, "o was returned though nothing was asked"
    assert_close(named(output), named(Output(None, wanted)), within=other(problem))


def a_masked_token_is_as_if_it_were_not_there(
    implementation: Implementation, problem: Problem
) -> None:
    """Dropping the masked tokens of one row gives the outputs of those that are left."""
    keeps_tokens = problem.operator.update_rule.keeps_tokens
    state = "in" if keeps_tokens else "in+out"
    masked = _able(implementation, problem.replace(B=1, masked=True, state=state))
    given = _inputs(implementation, masked, seed=9)
    assert given.mask is not None
    keep = given.mask[0]
    assert 0 < keep.sum() < len(keep)
    got = implementation.run(masked, given)
    left = masked.replace(T=int(keep.sum()), masked=False)
    wanted = implementation.run(left, cut(given, keep, given.state)._replace(mask=None))
    assert_close(named(got._replace(o=_o(got)[:, keep])), named(wanted), within=other(problem))


def without_causality_the_order_does_not_matter(
    implementation: Implementation, problem: Problem
) -> None:
    """An encoder's keys and values may come in any order."""
    if not problem.operator.update_rule.order_free:
        raise SkipTest(f"{problem.rule} depends on the order of its tokens")
    free = _able(implementation, problem.replace(causal=False))
    given = _inputs(implementation, free, seed=10)
    order = torch.randperm(problem.T, generator=torch.Generator().manual_seed(0))
    order = order.to(given.k.device)
    wanted = _o(implementation.run(free, given))
    turned = given._replace(k=given.k[:, order], v=given.v[:, order])
    got = _o(implementation.run(free, turned))
    assert_close({"o": got}, {"o": wanted}, within=other(problem))


def cut(inputs: Inputs, at: Any, state: State | None) -> Inputs:
    """The inputs of these tokens alone, from another state."""
    return inputs._replace(
        q=None if inputs.q is None else inputs.q[:, at],
        k=inputs.k[:, at],
        v=inputs.v[:, at],
        gates={gate: x[:, at] for gate, x in inputs.gates.items()},
        mask=None if inputs.mask is None else inputs.mask[:, at],
        state=state,
    )


def _device(implementation: Implementation) -> str:
    """The CPU where it runs there: laws need no speed."""
    return "cpu" if "cpu" in implementation.devices else implementation.devices[0]


def _inputs(implementation: Implementation, problem: Problem, seed: int) -> Inputs:
    return make_inputs(problem, seed=seed, device=_device(implementation))


def _refusal(implementation: Implementation, problem: Problem) -> str | None:
    return implementation.refuses(problem, _device(implementation))


def _able(implementation: Implementation, problem: Problem) -> Problem:
    """The problem, if it is not refused."""
    if (reason := _refusal(implementation, problem)) is not None:
        raise SkipTest(f"{problem}: {reason}")
    return problem


def _o(output: Output) -> Tensor:
    assert output.o is not None, "o was not returned"
    return output.o


def _all(inputs: Inputs) -> dict[str, Tensor]:
    state = inputs.state or (None, None)
    tensors = {"q": inputs.q, "k": inputs.k, "v": inputs.v, **inputs.gates}
    tensors |= {"projection": inputs.projection, "S0": state[0], "z0": state[1]}
    return {tensor: x for tensor, x in tensors.items() if x is not None}


Law = Callable[[Implementation, Problem], None]

LAWS: list[Law] = [
    agrees_with_float64,
    any_length_agrees,
    two_halves_make_a_whole,
    no_token_sees_a_later_one,
    rows_and_heads_do_not_meet,
    inputs_are_left_alone,
    only_writing_gives_the_same_state,
    a_masked_token_is_as_if_it_were_not_there,
    without_causality_the_order_does_not_matter,
]

#: Every law with every problem.
CHECKS = [(law, problem) for law in LAWS for problem in PROBLEMS]


def name(value: Any) -> str:
    """What pytest calls a law or a problem: `ids=name`."""
    return str(getattr(value, "__name__", value))
