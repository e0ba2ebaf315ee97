"""The form of attention kernels is softmax attention, and honest ones stay within its rounding."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import find_truth, make_cotangents, tensors_of
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.implementations.reference import run as run_law
from fwpbench.operators.attention_form import attention_form
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.problem import Problem
from tests.comparison import assert_close

SIZES = "rule=softmax-attention phi=identity norm=none B=2 H=2 direction=forward+backward"
SEEDS = 12


def run_form(problem: Problem, inputs: Inputs) -> Output:
    o, state = attention_form(problem, inputs, matmul=torch.matmul)
    return Output(o, state if problem.state_out else None)


@pytest.mark.parametrize("T", [1, 19])
@pytest.mark.parametrize("inputs", ["normal", "zero-keys", "one-hot"])
@pytest.mark.parametrize(
    "form",
    ["state=in+out", "masked=yes state=in", "causal=no masked=yes", "causal=no state=in+out"],
)
def test_it_is_the_law_with_its_gradients(form: str, inputs: str, T: int) -> None:
    problem = Problem.parse(f"{SIZES} {form} inputs={inputs} T={T} K=5 V=3 dtype=fp64")
    given, cotangents = make_inputs(problem, seed=0), make_cotangents(problem, 0, "cpu")
    law = tensors_of(run_law, problem, given, cotangents)
    assert_close(tensors_of(run_form, problem, given, cotangents), law, within=1e-10)


@pytest.mark.parametrize("form", ["causal=yes", "causal=no masked=yes"])
def test_attention_of_torch_is_judged_by_what_such_kernels_round(form: str) -> None:
    """Its gradients come from the output: by the rounding of a plain softmax's, every other seed
    was refused. One in thirty still errs up to 1.4 times what is allowed."""
    ratios = []
    for T in (13, 45):
        problem = Problem.parse(f"{SIZES} {form} T={T} K=32 V=32 dtype=fp32")
        for seed in range(SEEDS):
            agreement = check(IMPLEMENTATIONS["torch-sdpa"].run, problem, find_truth(problem, seed))
            ratios.append(agreement.worst_ratio or 0.0)
    print(f"{form}: {sum(r > 1 for r in ratios)} of {len(ratios)} refused, worst {max(ratios):.2f}")
    assert sum(ratio > 1 for ratio in ratios) <= len(ratios) // 8
    assert max(ratios) < 2
