"""Every implementation keeps every law, wherever it says it can."""

from __future__ import annotations

import pytest
import torch

from fwpbench import testing
from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.inputs import make_inputs
from tests.tables import OPERATORS, able, problem_of

truths = Truths()

#: Every implementation with every operator of the table that it does.
every = pytest.mark.parametrize(("name", "operator"), able(), ids=str)


#: The gate asks in lower precision, below: what is allowed is measured in rounding errors.
EXACT = [law for law in testing.LAWS if law is not testing.agrees_with_float64]


@pytest.mark.parametrize("law", EXACT, ids=testing.name)
@every
def test_every_law_holds(name, operator, law):
    """In float64, where what is wrong cannot be taken for rounding; chunks of 64 and a bit."""
    law(IMPLEMENTATIONS[name], problem_of(operator, T=70))


def test_masks_count_without_causality_too():
    for name, operator in able():
        if operator.update_rule.order_free:
            testing.a_masked_token_is_as_if_it_were_not_there(
                IMPLEMENTATIONS[name], problem_of(operator, causal=False)
            )


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_operator_is_scored_on_normal_and_realistic_inputs(operator):
    """In fp32, with every gradient: evidence, and right, for whoever can (the reference always)."""
    for inputs in ("normal", "realistic"):
        problem = problem_of(
            operator, B=1, T=67, H=2, K=16, V=12, dtype="fp32", inputs=inputs,
            direction="forward+backward",
        )  # fmt: skip
        for name, implementation in IMPLEMENTATIONS.items():
            if implementation.refuses(problem) is None:
                agreement = check(implementation.run, problem, truths(problem, 0))
                assert (agreement.status, agreement.evidence) == ("ok", True), (
                    f"{name}: {agreement.reason}"
                )


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@every
def test_low_precision_agrees(name, operator, dtype):
    """In every direction."""
    problem = problem_of(operator, dtype=dtype, K=16)
    testing.agrees_with_float64(IMPLEMENTATIONS[name], problem, seed=1)


def test_what_chunked_saves_for_the_backward_pass_grows_with_T_not_with_T_D_V():
    """Twice the tokens need twice the memory, a small part of one state a token."""

    def saved_bytes(T: int, operator) -> int:
        problem = problem_of(
            operator, B=1, T=T, H=1, K=64, V=128, dtype="fp32",
            direction="forward+backward", state="none",
        )  # fmt: skip
        given = make_inputs(problem, seed=0)
        leaves = [given.q, given.k, given.v, *given.gates.values()]
        for leaf in leaves:
            leaf.requires_grad_()
        storages: dict[int, int] = {}

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output = IMPLEMENTATIONS["chunked"].run(problem, given)
        assert output.o.requires_grad
        return sum(storages.values())

    for _, operator in able(["chunked"]):
        short, long = saved_bytes(512, operator), saved_bytes(1024, operator)
        assert 1.8 < long / short < 2.2, operator
        D = operator.feature_map.size(64)
        assert long < 0.5 * 1024 * D * 128 * 4, operator
