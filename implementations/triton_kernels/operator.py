"""The kernels by the names of their plans, as one operator: `fwpbench::triton`."""

from __future__ import annotations

from typing import Any

from fwpbench.implementations._kernel_operator import KernelOperator
from fwpbench.implementations.triton_kernels import (
    chunks,
    prepared,
    recurrent,
    unordered,
    wide,
)
from fwpbench.implementations.triton_kernels.choice import chosen_plan, multiprocessors
from fwpbench.implementations.triton_kernels.fit import in_blocks_that_fit
from fwpbench.implementations.triton_kernels.segmented import Segmented
from fwpbench.operators.problem import Problem

#: By the name of a plan, whose part after a dash is a number.
KERNELS = {
    "fused": chunks,
    "prepared": prepared,
    "wide": wide,
    "recurrent": recurrent,
    "unordered": unordered,
}


def kernels_of(plan: str) -> Any:
    name, _, tokens = plan.partition("-")
    return Segmented(int(tokens)) if name == "segmented" else KERNELS[name]


def _chosen(problem: Problem, device: str) -> str:
    return chosen_plan(problem, multiprocessors(device))


OPERATOR = KernelOperator("triton", kernels_of, _chosen, around=in_blocks_that_fit)
run, shapes = OPERATOR.run, OPERATOR.shapes
