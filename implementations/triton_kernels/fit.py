"""Blocks that replace those of a problem's layout: what fits a smaller GPU, or was faster there.

Chunks stay as long as they are where forward keeps something of every chunk for a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fwpbench.implementations.base import Unsupported
from fwpbench.implementations.triton_kernels.plan import REPLACED, Plan, is_wide, key, plan
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent, recurrent_plan
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.problem import Problem


def in_blocks_that_fit(
    launches: Callable[..., Any],
    problem: Problem,
    *arguments: Any,
    backward: bool = False,
    keeps: bool = False,
) -> Any:
    """`launches(problem, *arguments)`, with smaller blocks until they fit; that is remembered.

    Whatever it launched before one did not fit, it launches again.
    """
    try:
        return launches(problem, *arguments)
    except _out_of_resources() as error:
        refused = error
    if not (is_recurrent(problem) or is_unordered(problem)):
        now = plan(problem, backward=backward, keeps=keeps)
        for blocks in smaller(problem, now, keeps=backward or keeps):
            REPLACED[key(problem, backward, keeps)] = sizes(blocks)
            try:
                return launches(problem, *arguments)
            except _out_of_resources() as error:
                refused = error
    raise Unsupported(
        f"its kernels take {refused.required} of {refused.name} in the smallest blocks they have, "
        f"and this GPU has {refused.limit}"
    )


def _out_of_resources() -> type[Any]:
    # Not above, for what is asked without Triton; not before there is an exception to compare.
    from triton.runtime.errors import OutOfResources

    found: type[Any] = OutOfResources
    return found


def smaller(problem: Problem, now: Plan, *, keeps: bool) -> Iterator[Plan]:
    """One after the other, the largest side halved each time."""
    sides = ["BV"]
    if problem.rule == "sum" or not keeps:
        sides.append("C")
    if is_wide(problem):
        sides.append("BD")
    while True:
        side = max(sides, key=lambda side: getattr(now, side))
        if getattr(now, side) <= 16:
            return
        now = replace(now, **{side: getattr(now, side) // 2})
        yield now


def sizes(p: Plan) -> dict[str, int]:
    """What of a plan its blocks are."""
    return {"C": p.C, "BV": p.BV, "BD": p.BD, "warps": p.warps}


def chosen_layout(problem: Problem) -> dict[str, dict[str, int]]:
    """The blocks that its next call is launched in, by direction: for its record."""
    if is_recurrent(problem):
        p = recurrent_plan(problem)
        return {"forward": {"BV": p.BV, "BD": p.BD, "warps": p.options["num_warps"]}}
    found = {"forward": sizes(plan(problem, keeps=problem.backward))}
    return found | ({"backward": sizes(plan(problem, backward=True))} if problem.backward else {})
