"""The kernels by the names of their plans, as one operator: `fwpbench::cuda`."""

from __future__ import annotations

from typing import Any

from fwpbench.implementations._kernel_operator import KernelOperator
from fwpbench.implementations.cuda_kernels import chunk, recurrent
from fwpbench.implementations.cuda_kernels.choice import chosen_plan

KERNELS: dict[str, Any] = {"chunked": chunk, "recurrent": recurrent}

OPERATOR = KernelOperator("cuda", KERNELS.__getitem__, chosen_plan)
run, shapes = OPERATOR.run, OPERATOR.shapes
