"""How the kernels of whole chunks are laid out in a block, and which problems they are for."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.implementations._kernel_terms import LAWS, normalizer
from fwpbench.implementations.cuda_kernels.block_plan import BlockPlan, heads_of_a_block
from fwpbench.operators.problem import Problem

RULES = ("sum", "decay", "gated", "delta", "gated-delta")
#: Products by dtype. fp16 has the bits of tf32, whose range cannot be left.
PRECISIONS = {"fp32": "fp32", "tf32": "tf32", "bf16": "bf16", "fp16": "tf32"}
#: Shared memory of a block that sm_120 gives, the least of those from sm_80 on.
SHARED_BYTES = 99 * 1024


def padded(columns: int) -> int:
    """From row to row of a tile in shared memory, as in sources/chunk.cuh."""
    return columns + 4


def sixteens(size: int) -> int:
    return -(-size // 16) * 16


@dataclass(frozen=True, kw_only=True)
class ChunkPlan(BlockPlan):
    """C tokens a chunk; sources/chunk_forward.cu says more."""

    C: int
    PRECISION: str
    #: Whether rows of features lie in global memory.
    WIDE: bool


def chunk_plan(problem: Problem, C: int | None = None) -> ChunkPlan | None:
    """Of the forward kernel, with chunks of C if said; None where no layout fits a block."""
    p = problem
    for WIDE in (False, True):
        for tokens, BV in ((32, 64), (32, 32), (32, 16), (16, 64), (16, 32), (16, 16)):
            BV = min(BV, sixteens(p.V))
            # Two tiles of 16 × 16 of S, or of what it gives, for every warp: small heads have one.
            WARPS = _power_below(min(8, max(tokens, p.D) * BV // 512))
            floats = _floats(p, tokens, BV, WARPS, WIDE)
            if 4 * floats <= SHARED_BYTES and C in (None, tokens):
                # What is only written is all float32, and expected to be as exact.
                precision = PRECISIONS[p.dtype] if p.reads else "fp32"
                return planned(p, tokens, BV, WARPS, floats, WIDE, precision)
    return None


def planned(
    p: Problem, C: int, BV: int, WARPS: int, floats: int, WIDE: bool, precision: str
) -> ChunkPlan:
    return ChunkPlan(
        PADDED_D=sixteens(p.D), V=p.V, BV=BV, WARPS=WARPS,
        HEADS=heads_of_a_block(WARPS, floats), floats=floats,
        C=C, PRECISION=precision, WIDE=WIDE,
    )  # fmt: skip


def rows_in_memory(plan: ChunkPlan) -> int:
    """Numbers that a block has in global memory: k' and q' of a chunk."""
    return 2 * plan.C * padded(plan.PADDED_D) if plan.WIDE else 0


def _power_below(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1)


def _floats(p: Problem, C: int, BV: int, WARPS: int, WIDE: bool) -> int:
    """As sources/chunk_forward.cu lays it out."""
    law, divides, D = LAWS[p.rule], normalizer(p) != "none", sixteens(p.D)
    tiles_of_tokens = C * (padded(D) * (1 + p.reads) * (not WIDE) + padded(BV))
    squares = C * padded(C) * (p.reads + law.CORRECTS + (law.DECAY != "none"))
    numbers = C * (law.WEIGHS + divides * (law.CORRECTS + 1)) + divides * p.D + WARPS * p.K
    return D * padded(BV) + tiles_of_tokens + squares + numbers
