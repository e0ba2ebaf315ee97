"""The kernels by the names of their plans, as one operator: `fwpbench::cuda`."""

from __future__ import annotations

from functools import partial
from typing import Any

from fwpbench.implementations._kernel_operator import KernelOperator
from fwpbench.implementations.base import Run
from fwpbench.implementations.cuda_kernels import chunk, recurrent
from fwpbench.implementations.cuda_kernels.choice import chosen_plan
from fwpbench.implementations.cuda_kernels.refusal import cannot
from fwpbench.operators.problem import Problem

#: Tokens enough for any plan.
LONG = 4096
KERNELS: dict[str, Any] = {"chunked": chunk, "recurrent": recurrent}

OPERATOR = KernelOperator("cuda", KERNELS.__getitem__, chosen_plan)
run, shapes = OPERATOR.run, OPERATOR.shapes


def plans(problem: Problem, device: str) -> dict[str, Run]:
    """By name, the plan for this problem first: all that its operator gets at some T."""
    at = [problem, *(problem.replace(T=T) for T in (LONG, 1))]
    names = dict.fromkeys(chosen_plan(each, device) for each in at if cannot(each) is None)
    return {name: partial(run, plan=name) for name in names}
