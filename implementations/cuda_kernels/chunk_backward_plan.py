"""How the backward kernel of whole chunks is laid out in a block."""

from __future__ import annotations

from fwpbench.implementations._kernel_terms import LAWS, normalizer
from fwpbench.implementations.cuda_kernels.chunk_plan import (
    PRECISIONS,
    SHARED_BYTES,
    ChunkPlan,
    padded,
    planned,
    sixteens,
)
from fwpbench.operators.problem import Problem

#: Rows of features a block has of a token: k', q' and the gradient of one of them.
ROWS = 3
#: D of small heads.
SMALL = 32
#: WIDE, C and BV, the best first. Where rows lie in memory, chunks of 32 spilled.
LAYOUTS = (
    (False, 32, 32),
    (False, 32, 16),
    (False, 16, 32),
    (False, 16, 16),
    (True, 16, 32),
    (True, 16, 16),
)


def chunk_backward_plan(problem: Problem) -> ChunkPlan:
    """The longest chunks and the most columns that fit: what is left for D = 1024 does."""
    p, D = problem, sixteens(problem.D)
    most = 2 if D <= SMALL else 4 if D <= 128 else 8
    # Each warp has room for an x; so where K is large too, fewer of them fit.
    for WARPS in (most, 2):
        for WIDE, C, BV in LAYOUTS:
            BV = min(BV, sixteens(p.V))
            floats = _floats(p, C, BV, WARPS, WIDE)
            if 4 * floats <= SHARED_BYTES:
                precision = PRECISIONS[p.dtype] if p.reads else "fp32"
                return planned(p, C, BV, WARPS, floats, WIDE, precision)
    raise ValueError(f"{p}: D = {p.D} is more than refusal.py lets pass")


def rows_in_memory(plan: ChunkPlan) -> int:
    """Numbers that a block has in global memory."""
    return ROWS * plan.C * padded(plan.PADDED_D) if plan.WIDE else 0


def _floats(p: Problem, C: int, BV: int, WARPS: int, WIDE: bool) -> int:
    """As sources/chunk_backward.cu lays it out."""
    law, divides, D = LAWS[p.rule], normalizer(p) != "none", sixteens(p.D)
    decays, corrects = law.DECAY != "none", law.CORRECTS
    columns = 2 + p.reads + (p.reads and (decays or divides)) + corrects
    makes_way = D <= SMALL and not decays and not divides
    squares = 2 * (p.reads + corrects + decays) - (corrects and makes_way)
    rows = 0 if WIDE else ROWS * C * padded(D)
    numbers = (2 - WIDE) * divides * D + 13 * C + WARPS * (p.K + 1)
    states = (1 if WIDE else 2) * D * padded(BV)
    return states + rows + columns * C * padded(BV) + squares * C * padded(C) + numbers
