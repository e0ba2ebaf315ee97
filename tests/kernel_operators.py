"""What holds for kernels as an operator of torch, whichever language they are written in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fwpbench.harness.golden import Truths
from fwpbench.implementations._kernel_operator import Given, KernelOperator
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import problem_of

truths = Truths()


def tiny(operator: Operator, **changes: Any) -> Problem:
    sizes = {"B": 1, "T": 5, "H": 2, "K": 6, "V": 4, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def given_to(problem: Problem, *, differentiable: bool = True) -> Given:
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


def is_what_it_says(of: KernelOperator, problem: Problem, plan: str) -> None:
    """Torch finds nothing wrong with the operator, nor with that of its gradients."""
    named = str(problem), plan
    given = given_to(problem)
    torch.library.opcheck(of.operator, (*named, True, *given))
    plain = given_to(problem, differentiable=False)
    results = of.operator(*named, True, *plain)
    like = dict(zip(of.shapes(*named, True), results, strict=True))
    cotangents = (like.get(each) for each in ("o", "S", "z"))
    torch.library.opcheck(of.gradients, (*named, *plain, results, *cotangents))


def is_the_same_compiled(implementation: str, problems: list[Problem]) -> None:
    """In a process of its own, where nothing checks types: torch cannot look through that."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.compiled_kernels", implementation, *map(str, problems)],
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
