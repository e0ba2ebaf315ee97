"""The two goldens agree: the law token by token, and the chunk form, both in float64."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness import honest
from fwpbench.harness.agreement import check
from fwpbench.harness.golden import (
    TURNS,
    Truths,
    make_cotangents,
    named,
    tensors_of,
)
from fwpbench.harness.yardstick import (
    chunks_with,
    nudged_chunks,
    rounded_chunks,
    rounded_matmul,
    turned,
)
from fwpbench.implementations.base import Output
from fwpbench.implementations.reference import run as run_law
from fwpbench.operators.chunk_form import chunk_form
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.segment_products import segment_products
from tests.comparison import assert_close
from tests.tables import OPERATORS, VARIED, families_of, problem_of


def run_chunks(problem: Problem, inputs: Inputs) -> Output:
    return Output(*chunk_form(problem, inputs, chunk=16))


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_goldens_agree_on_every_input_family(operator):
    """Outputs and states within 1e-10, on zero keys, one-hot keys and gates of exactly 0 too."""
    for inputs in families_of(operator):
        problem = problem_of(operator, B=1, H=2, inputs=inputs)
        given = make_inputs(problem, seed=0)
        law, chunks = run_law(problem, given), run_chunks(problem, given)
        assert_close(named(chunks), named(law), within=1e-10)


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_gradients_of_the_goldens_agree(operator):
    """Every gradient within 1e-10, with gates of exactly 0 and 1 and keys of exactly 0 too.

    Not for fwm: a token that writes nothing leaves ‖S‖ at 1, exactly where the clip has a kink, so
    its derivative there is whatever rounding says.
    """
    wanted = {"normal"} if operator.rule == "fwm" else {"normal", "saturated-gates", "zero-keys"}
    for inputs in sorted(wanted.intersection(families_of(operator))):
        problem = problem_of(operator, B=1, T=19, H=1, inputs=inputs, direction="forward+backward")
        given, cotangents = make_inputs(problem, seed=1), make_cotangents(problem, 1, "cpu")
        law = tensors_of(run_law, problem, given, cotangents)
        chunks = tensors_of(run_chunks, problem, given, cotangents)
        assert_close(chunks, law, within=1e-10)


@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_autograd_of_the_law_is_the_derivative(operator):
    """gradcheck: finite differences of every rule, in everything that has a gradient."""
    problem = problem_of(operator, B=1, T=3, H=1, K=2, V=2, direction="forward+backward")
    inputs = make_inputs(problem, seed=2)
    leaves = [inputs.q, inputs.k, inputs.v, *inputs.gates.values(), *inputs.state]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves if leaf is not None]

    def run(q, k, v, *rest):
        gates = dict(zip(inputs.gates, rest, strict=False))
        state = type(inputs.state)(*rest[len(gates) :])
        output = run_law(problem, inputs._replace(q=q, k=k, v=v, gates=gates, state=state))
        return tuple(named(output).values())

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("zeros", [[], [0], [2], [1, 3]])
def test_segment_products_differentiate_through_zero_gates(zeros):
    alpha = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha[:, zeros] = 0.0
    alpha.requires_grad_()
    assert torch.autograd.gradcheck(segment_products, alpha)
    P = segment_products(alpha)
    assert P.shape == (2, 6, 6)
    for i in range(6):
        for j in range(6):
            product = alpha[:, j:i].prod(-1) if j <= i else torch.zeros(2, dtype=torch.float64)
            torch.testing.assert_close(P[:, i, j], product)


def test_masked_tokens_are_skipped_by_both_goldens():
    """A masked token is as if it had never been, for every rule whose chunk form takes masks."""
    for operator in VARIED:
        if operator.rule in ("fwm", "softmax-attention"):
            continue  # their chunk form has no mask: the truth of a masked problem is the law's
        problem = problem_of(operator, masked=True)
        given = make_inputs(problem, seed=3)
        law, chunks = run_law(problem, given), run_chunks(problem, given)
        assert_close(named(chunks), named(law), within=1e-10)


@pytest.mark.parametrize("phi", ["favor-16", "favor-published-16"])
def test_the_order_of_a_projections_sums_is_the_implementations_own(phi, record_property):
    """In orders that the yardstick does not have either, no seed fails."""
    operator, worst = Operator("decay", phi, "none"), 0.0
    for seed in range(25):
        problem = problem_of(
            operator, B=1, T=17, H=2, K=10, V=7, dtype="fp32", direction="forward+backward"
        )
        run = turned(rounded_chunks(16), TURNS + seed)
        agreement = check(run, problem, Truths(1)(problem, seed))
        assert agreement.status == "ok", agreement.reason
        worst = max(worst, agreement.worst_ratio or 0)
    record_property("worst", f"{phi}: {worst:.2f} of what is allowed")
    assert worst > 0.34, "another order does err otherwise"


def test_a_kernel_that_rounds_elsewhere_is_right(record_property):
    """One token has nearly all of a gradient here, and its error is chance: of 8 seeds of a fused
    kernel 3 were beyond a yardstick of forms that all round alike, by up to 1.23."""
    operator, worst = Operator("gated", "dpfp-1", "sum+attention"), 0.0
    for seed in range(12):
        problem = problem_of(
            operator, B=1, T=67, H=2, K=16, V=12, dtype="fp32", direction="forward+backward",
            inputs="realistic",
        )  # fmt: skip
        agreement = check(
            nudged_chunks(16, "fp32", seed=100 + seed), problem, Truths(1)(problem, seed)
        )
        assert agreement.status == "ok", agreement.reason
        worst = max(worst, agreement.worst_ratio or 0)
    record_property("worst", f"{worst:.2f} of what is allowed")
    assert worst > 0.34, "other roundings do err otherwise"


@pytest.mark.parametrize(
    ("dtype", "seed", "chunk"), [("tf32", 906, 24), ("bf16", 1870, 32), ("fp16", 2869, 24)]
)
def test_operands_rounded_elsewhere_are_right_in_every_dtype(dtype, seed, chunk):
    """By a yardstick of forms that all round alike these were at 1.05, 1.41 and 1.90."""
    problem = honest.problem_of(seed, dtype)
    agreement = check(rounded_chunks(chunk), problem, Truths(1)(problem, seed))
    assert agreement.status == "ok", agreement.reason


def forgets_the_mask(problem: Problem, inputs: Inputs) -> Output:
    return run_law(problem, inputs._replace(mask=None))


def test_a_masked_problem_may_be_computed_in_chunks():
    """Its yardstick has no chunk form. By the law alone 16 of 120 seeds were refused, by up to
    1.75, these among them. Who forgets the mask, or rounds as tf32 does, is refused still."""
    problem = problem_of(
        Operator("gated", "dpfp-1", "sum+attention"), B=1, T=41, H=2, K=16, V=12, dtype="fp32",
        direction="forward+backward", inputs="realistic", masked=True,
    )  # fmt: skip
    for seed in (1, 34, 39, 93):
        truth = Truths(1)(problem, seed)
        for chunk in (16, 24, 64):
            agreement = check(rounded_chunks(chunk), problem, truth)
            assert agreement.status == "ok", agreement.reason
        for wrong in (forgets_the_mask, chunks_with(16, rounded_matmul("tf32"))):
            assert check(wrong, problem, truth).status == "incorrect"
