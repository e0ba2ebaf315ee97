"""Which plan a problem gets: the one place that chooses.

`chunked`          chunk after chunk, with products of matrices
`recurrent`        token after token
"""

from __future__ import annotations

import torch

from fwpbench.implementations.cuda_kernels.chunk_plan import chunk_plan, is_chunked
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators.problem import Problem

#: From this compute capability on tensor cores multiply bf16 and tf32.
FIRST_WITH_PRODUCTS = (8, 0)


def chosen_plan(problem: Problem, device: str) -> str:
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and torch.cuda.get_device_capability(device) < FIRST_WITH_PRODUCTS:
        return "recurrent"
    return "chunked" if is_chunked(problem) else "recurrent"


def described(problem: Problem, device: str) -> str:
    """The plan and its layouts, for the record."""
    if chosen_plan(problem, device) == "chunked":
        chunks = chunk_plan(problem)
        assert chunks is not None
        rows = ", φ in memory" if chunks.WIDE else ""
        return f"chunked: C={chunks.C} BV={chunks.BV} warps={chunks.WARPS}{rows}"
    words = []
    for backward in (False, True)[: 1 + problem.backward]:
        plan = recurrent_plan(problem, backward=backward)
        assert plan is not None
        direction = "backward " if backward else ""
        words.append(f"{direction}BV={plan.columns} warps={plan.WARPS}")
    return f"recurrent: {', '.join(words)}"
