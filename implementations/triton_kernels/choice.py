"""Which plan a problem gets on which GPU: the one place that chooses.

`fused`            one launch, a block a (batch, head, tile of value columns)
`prepared`         what needs no state for all chunks at once, then chunk after chunk
`segmented-1024`   T in segments of so many tokens, all at once, twice
`wide`             φ in tiles, its state in memory
`recurrent`        token after token
`unordered`        all tokens written, then all queries read, for no token waits for another
"""

from __future__ import annotations

from collections.abc import Callable

from fwpbench.implementations.base import Output, Run
from fwpbench.implementations.triton_kernels.plan import Plan, is_wide, plan
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent, recurrent_plan
from fwpbench.implementations.triton_kernels.unordered_plan import (
    UnorderedPlan,
    is_unordered,
    unordered_plan,
)
from fwpbench.operators.problem import Problem

#: Of an H200, which interpreted kernels stand for.
MULTIPROCESSORS = 132
#: A segment is a multiple of it, and every chunk divides it.
SEGMENT = 512
#: Fewer chunks are done before two more launches would have paid.
FEWEST_CHUNKS = 4


def multiprocessors(device: str) -> int:
    """Of a CUDA device; interpreted kernels stand for an H200."""
    import torch

    if torch.device(device).type != "cuda":
        return MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def chosen_plan(problem: Problem, multiprocessors: int = MULTIPROCESSORS) -> str:
    """By counts of blocks alone; no GPU has been asked yet.

    A GPU is full with a block a multiprocessor, for a block takes most of its registers. In so far
    as fewer heads leave it idle, segments take as many times less; but each is swept twice, and of
    a rule that corrects the first sweep has D columns more. That must be worth twice the time.
    """
    if is_unordered(problem):
        return "unordered"
    if is_recurrent(problem):
        return "recurrent"
    if is_wide(problem):
        return "wide"
    forward, longest = (
        plan(problem, keeps=problem.backward),
        plan(problem, backward=problem.backward),
    )
    heads, T = problem.B * problem.H, problem.T
    segments = min(multiprocessors // (heads * longest.tiles), -(-T // SEGMENT))
    sweeps = 2 + (longest.D / longest.V if longest.CORRECTS else 0)
    if segments >= 2 * sweeps:
        return f"segmented-{_multiple(-(-T // segments), SEGMENT)}"
    idle = 2 * heads * forward.tiles <= multiprocessors
    if forward.CORRECTS and idle and T >= FEWEST_CHUNKS * forward.C:
        return "prepared"
    return "fused"


def plans(problem: Problem, multiprocessors: int = MULTIPROCESSORS) -> list[str]:
    """Every plan that is chosen for its operator, K, V, dtype and direction at some B, T and H:
    first the one for this problem. Segments go by that name at every length."""
    chosen = _name(chosen_plan(problem, multiprocessors))
    if chosen in ("unordered", "recurrent", "wide"):
        return [chosen]  # at every size
    many, long = multiprocessors, multiprocessors * SEGMENT
    at = [problem.replace(B=B, T=T, H=1) for B, T in ((many, SEGMENT), (1, SEGMENT), (1, long))]
    return list(dict.fromkeys([chosen, *(_name(chosen_plan(p, multiprocessors)) for p in at)]))


def _name(plan: str) -> str:
    return plan.partition("-")[0]


def for_few_tokens(name: str, problem: Problem) -> str:
    """The plan of that name whose segments, if it has any, are as short as the chunks allow."""
    if name != "segmented":
        return name
    laid_out = [plan(problem), plan(problem, keeps=True), plan(problem, backward=True)]
    return f"segmented-{max(p.C for p in laid_out)}"


def by_plan(run: Callable[..., Output], problem: Problem, device: str) -> dict[str, Run]:
    """`run(problem, inputs, plan)` by each of the plans, for problems of few tokens."""

    def by(name: str) -> Run:
        return lambda problem, inputs: run(problem, inputs, for_few_tokens(name, problem))

    return {name: by(name) for name in plans(problem, multiprocessors(device))}


def _multiple(size: int, of: int) -> int:
    return -(-size // of) * of


def described(problem: Problem, multiprocessors: int = MULTIPROCESSORS) -> str:
    """The plan and its layouts, for the record."""
    chosen = chosen_plan(problem, multiprocessors)
    if chosen == "recurrent":
        r = recurrent_plan(problem)
        return f"{chosen}: BV={r.BV} warps={r.options['num_warps']}"
    if chosen == "unordered":
        return f"{chosen}: {_layout(unordered_plan(problem))}"
    words = [_layout(plan(problem, keeps=problem.backward))]
    if problem.backward:
        words.append(f"backward {_layout(plan(problem, backward=True))}")
    return f"{chosen}: {', '.join(words)}"


def _layout(p: Plan | UnorderedPlan) -> str:
    tile = f" BD={p.BD}" if p.BD < p.D else ""
    return f"C={p.C} BV={p.BV}{tile} warps={p.warps}"
