"""Which plan a problem gets: the one place that chooses.

`recurrent`        token after token
"""

from __future__ import annotations

from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators.problem import Problem


def chosen_plan(problem: Problem, device: str) -> str:
    return "recurrent"


def described(problem: Problem) -> str:
    """The plan and its layouts, for the record."""
    words = []
    for backward in (False, True)[: 1 + problem.backward]:
        plan = recurrent_plan(problem, backward=backward)
        assert plan is not None
        direction = "backward " if backward else ""
        words.append(f"{direction}BV={plan.columns} warps={plan.WARPS}")
    return f"recurrent: {', '.join(words)}"
