"""Which plan a problem gets: the one place that chooses.

`chunked`          chunk after chunk, with products of matrices
`recurrent`        token after token
"""

from __future__ import annotations

from fwpbench.implementations.cuda_kernels.chunk_plan import chunk_plan, is_chunked
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators.problem import Problem


def chosen_plan(problem: Problem, device: str) -> str:
    return "chunked" if is_chunked(problem) else "recurrent"


def described(problem: Problem) -> str:
    """The plan and its layouts, for the record."""
    if is_chunked(problem):
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
