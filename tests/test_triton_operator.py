"""The kernels as an operator of torch: it is what it says, and compiled code may call it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import problem_of

TRITON = IMPLEMENTATIONS["triton"]
pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()

#: One for each module of kernels, with every kind of input. The last one's plan is `prepared`.
PROBLEMS = {
    "two sweeps": (Operator("sum", "elu+1", "attention"), {}),
    "kept states": (Operator("gated-delta", "favor-8", "sum"), {}),
    "kept normalisers": (Operator("gated", "dpfp-1", "attention"), {"K": 5}),
    "in tiles": (Operator("delta", "dpfp-3", "sum+attention"), {}),
    "token by token": (Operator("fwm", "tanh", "none"), {"masked": True}),
    "first prepared": (Operator("delta", "elu+1", "attention"), {"T": 65}),
    "token by token, z too": (Operator("gla", "relu", "attention"), {"T": 3}),
    "all at once": (Operator("sum", "elu+1", "attention"), {"causal": False, "state": "in"}),
    "writing alone": (Operator("sum", "elu+1", "attention"), {"reads": False}),
}
#: By problem, all that take it.
PLANS = [
    ("two sweeps", "fused"),
    ("two sweeps", "segmented-16"),
    ("kept states", "fused"),
    ("kept normalisers", "fused"),
    ("kept normalisers", "segmented-16"),
    ("in tiles", "wide"),
    ("token by token", "recurrent"),
    ("token by token, z too", "recurrent"),
    ("all at once", "unordered"),
    ("writing alone", "unordered"),
    ("first prepared", "prepared"),
    ("first prepared", "segmented-16"),
]


def problem_named(name: str, **changes) -> Problem:
    operator, sizes = PROBLEMS[name]
    small = {"B": 1, "T": 5, "H": 2, "K": 6, "V": 4, "dtype": "fp32"}
    return problem_of(operator, **(small | {"direction": "forward+backward"} | sizes | changes))


def given_to(problem: Problem, *, differentiable: bool = True):
    from fwpbench.implementations._kernel_operator import Given

    inputs = truths(problem, 0).inputs
    S, z = inputs.state or (None, None)
    alpha, beta = (inputs.gates.get(name) for name in ("alpha", "beta"))
    q, k, v = inputs.q, inputs.k, inputs.v
    leaves = {"q": q, "k": k, "v": v, "alpha": alpha, "beta": beta, "S": S, "z": z}
    leaves = {
        name: None if x is None else x.detach().clone().requires_grad_(differentiable)
        for name, x in leaves.items()
    }
    return Given(**leaves, projection=inputs.projection, mask=inputs.mask)


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_torch_finds_nothing_wrong_with_it(name, plan):
    from fwpbench.implementations.triton_kernels import operator

    problem = problem_named(name, T=5)
    named = str(problem), plan
    given = given_to(problem)
    torch.library.opcheck(operator.OPERATOR.operator, (*named, True, *given))
    plain = given_to(problem, differentiable=False)
    results = operator.OPERATOR.operator(*named, True, *plain)
    like = dict(zip(operator.shapes(*named, True), results, strict=True))
    cotangents = (like.get(each) for each in ("o", "S", "z"))
    arguments = (*named, *plain, results, *cotangents)
    torch.library.opcheck(operator.OPERATOR.gradients, arguments)


def test_compiled_code_has_the_same_results_and_gradients():
    """In a process of its own, where nothing checks types: torch cannot look through that."""
    problems = [str(problem_named(name)) for name in PROBLEMS]
    done = subprocess.run(
        [sys.executable, "-m", "tests.compiled_triton", *problems],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    differences = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(differences) == len(problems)
    for problem, found in zip(problems, differences, strict=True):
        assert {"dk", "dv"} <= found.keys()
        assert set(found.values()) == {0.0}, f"{problem}: {found}"


def test_without_gradients_nothing_is_kept():
    from fwpbench.implementations.triton_kernels import operator

    named = str(problem_named("kept states")), "fused"
    assert operator.shapes(*named, False).keys() == {"o", "S"}
    assert operator.shapes(*named, True).keys() == {"o", "S", "S_kept", "A_kept"}
