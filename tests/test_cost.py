"""Formulas of cost, against what torch is asked for and against the sizes of tensors.

A count over several D and V tells the coefficient of D·V apart from terms of lower order: f(D, V) −
f(D, V−1) − f(D−1, V) + f(D−1, V−1), exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fwpbench.harness.agreement import named_inputs
from fwpbench.harness.golden import named
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import UPDATE_RULES
from fwpbench.operators.chunk_form import chunk_form
from fwpbench.operators.cost import (
    CHUNKED,
    LAWS,
    algorithmic_flop,
    compulsory_bytes,
    executed_flop,
    least_flop,
)
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator, discouraged, undefined
from fwpbench.operators.problem import Problem
from tests.counting import Multiplications

run_law = IMPLEMENTATIONS["reference"].run
DIRECTIONS = ("forward", "forward+backward")


def problem(rule: str, T: int, K: int, V: int, direction: str, norm: str = "none") -> Problem:
    phi = "identity" if rule == "softmax-attention" else "relu"
    return Problem(
        rule=rule, phi=phi, norm=norm, B=1, T=T, H=1, K=K, V=V, dtype="fp64", direction=direction
    )


def counted(p: Problem, form: Callable) -> Multiplications:
    inputs = make_inputs(p, seed=0)
    leaves = [inputs.q, inputs.k, inputs.v, *inputs.gates.values()]
    for leaf in leaves:
        leaf.requires_grad_(p.backward)
    with Multiplications() as count:
        o = form(p, inputs)
        if p.backward:
            torch.autograd.grad(o, leaves, torch.ones_like(o))
    return count


def of_D_and_V(f: Callable[[int, int], int]) -> int:
    """The coefficient of D·V."""
    return f(8, 6) - f(8, 5) - f(7, 6) + f(7, 5)


def a_token(f: Callable[[int], int]) -> int:
    """What one token more adds, where the first and the last, whose state has no gradient, do not
    count."""
    return f(4) - f(3)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("rule", LAWS)
def test_the_law_costs_what_the_reference_multiplies(rule: str, direction: str) -> None:
    norms = ["none"] + (["attention"] if UPDATE_RULES[rule].normalizer else [])
    for norm in norms:

        def of_both(cost: Callable[[Problem], int], norm: str = norm) -> int:
            def at(T: int, K: int, V: int) -> int:
                return cost(problem(rule, T, K, V, direction, norm))

            return a_token(lambda T: of_D_and_V(lambda K, V: at(T, K, V)))

        found = of_both(lambda p: counted(p, lambda *x: run_law(*x).o).number)
        formula = of_both(lambda p: algorithmic_flop(p) // 2)
        if rule == "fwm" and direction == "forward+backward":
            # Autograd's general forms of x² and x / y multiply more often than these two need to.
            assert formula <= found <= 1.3 * formula
        else:
            assert formula == found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_softmax_attention_costs_what_the_reference_multiplies(direction: str) -> None:
    """A token more; the first, which sees one key, is no product of matrices."""
    for T, K, V in ((3, 4, 3), (5, 4, 3), (6, 7, 2)):
        ps = [problem("softmax-attention", tokens, K, V, direction) for tokens in (T, T + 1)]
        one, more = (counted(p, lambda *x: run_law(*x).o).products for p in ps)
        assert more - one == (algorithmic_flop(ps[1]) - algorithmic_flop(ps[0])) // 2


@pytest.mark.parametrize("rule", CHUNKED)
def test_the_chunk_form_costs_what_its_products_multiply(rule: str) -> None:
    """Forward to the last multiplication, a partial last chunk too."""
    norms = ["none"] + (["attention"] if UPDATE_RULES[rule].normalizer == "same-law" else [])
    for norm in norms:
        for T, K, V, C in ((8, 6, 5, 8), (16, 5, 3, 8), (13, 4, 7, 8), (7, 4, 3, 4), (1, 4, 3, 8)):
            p = problem(rule, T, K, V, "forward", norm)
            found = counted(p, lambda p, x, C=C: chunk_form(p, x, chunk=C)[0]).products
            # z·q is read off the last column: the plain form has it, too.
            assert executed_flop(p, C) // 2 == found


@pytest.mark.parametrize("rule", ["sum", "decay", "gated"])
def test_gradients_of_the_chunk_form_cost_two_more_products_for_each(rule: str) -> None:
    def count(T: int, K: int, V: int) -> int:
        p = problem(rule, T, K, V, "forward+backward")
        return counted(p, lambda p, x: chunk_form(p, x, chunk=8)[0]).products

    # A chunk more; its terms in D V, in D and in V.
    for f in (
        lambda T: of_D_and_V(lambda K, V: count(T, K, V)),
        lambda T: count(T, 8, 5) - count(T, 7, 5),
        lambda T: count(T, 8, 6) - count(T, 8, 5),
    ):
        found = f(24) - f(16)
        assert found > 0
    for K, V in ((8, 5), (7, 6)):
        added = {
            T: executed_flop(problem(rule, T, K, V, "forward+backward"), 8) // 2 for T in (16, 24)
        }
        constant = (count(24, 1, 1) - count(16, 1, 1)) - (3 * (2 * 8 + 64 * 2))
        assert count(24, K, V) - count(16, K, V) == added[24] - added[16] + constant


def test_the_least_is_never_more_than_any_form() -> None:
    for T in (1, 3, 64, 4096):
        p = problem("delta", T, 64, 64, "forward")
        least = least_flop(p)
        assert 0 < least <= algorithmic_flop(p)
        assert all(least <= executed_flop(p, 2**n) for n in range(13))
    few = problem("sum", 4, 64, 64, "forward")
    assert least_flop(few) < algorithmic_flop(few), "few tokens are cheaper in pairs"


OPERATORS = [
    Operator(rule, phi, norm)
    for rule in UPDATE_RULES
    for phi in ("identity", "favor-5")
    for norm in ("none", "sum+attention", "l2")
]


@pytest.mark.parametrize("direction", [*DIRECTIONS, "decode"])
@pytest.mark.parametrize(
    "operator", [o for o in OPERATORS if not undefined(o) and not discouraged(o)], ids=str
)
def test_compulsory_bytes_are_the_sizes_of_what_goes_in_and_out(operator, direction) -> None:
    states = ["in+out"] if direction == "decode" else ["none", "out", "in+out"]
    for dtype in ("fp64", "bf16"):
        for state in states:
            p = Problem.of(
                operator, B=2, T=3, H=2, K=4, V=5, dtype=dtype, direction=direction, state=state
            )
            inputs = make_inputs(p, seed=0)
            outputs = run_law(p, inputs)
            read = _bytes(named_inputs(inputs).values())
            written = _bytes(named(outputs).values())
            if p.backward:
                read += _bytes([outputs.o])
                written += _bytes([inputs.q, inputs.k, inputs.v, *inputs.gates.values()])
            assert compulsory_bytes(p) == (read, written)


def _bytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
