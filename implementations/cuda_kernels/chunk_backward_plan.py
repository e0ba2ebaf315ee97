"""How the chunked backward kernel of a problem is laid out in a block."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.implementations._kernel_terms import LAWS, normalizer
from fwpbench.operators.problem import Problem

#: Of a block's shared memory, what every GPU since sm_80 gives where it is asked.
SHARED_BYTES = 99 * 1024
#: What operands of products are rounded to. Sums of fp16 may go beyond fp16; tf32 has as many bits.
PRECISIONS = {"fp32": "fp32", "bf16": "bf16", "fp16": "tf32"}


@dataclass(frozen=True)
class ChunkBackwardPlan:
    """C tokens a chunk, BV value columns a block; WIDE: features and S stay in memory."""

    V: int
    C: int
    BV: int
    WARPS: int
    PADDED_D: int
    WIDE: bool
    #: Of shared memory.
    floats: int

    @property
    def threads(self) -> int:
        return 32 * self.WARPS

    @property
    def tiles(self) -> int:
        return -(-self.V // self.BV)

    @property
    def scratch(self) -> int:
        """Numbers a block keeps in memory: k', q' and a gradient of theirs."""
        return 3 * self.C * self.PADDED_D if self.WIDE else 0


def chunk_backward_plan(problem: Problem) -> ChunkBackwardPlan:
    """The longest chunks and the most columns that fit."""
    p = problem
    PADDED_D = -(-p.D // 16) * 16
    WARPS = 2 if p.D <= 32 else 4 if p.D <= 128 else 8
    BVS = (32, 16) if p.V > 16 else (16,)
    for WIDE in (False, True):
        for C in (32, 16):
            for BV in BVS:
                number = floats(p, C, BV, WARPS, PADDED_D, WIDE)
                if 4 * number <= SHARED_BYTES:
                    return ChunkBackwardPlan(p.V, C, BV, WARPS, PADDED_D, WIDE, number)
    raise ValueError(f"{p}: D = {p.D} does not fit")


def floats(problem: Problem, C: int, BV: int, WARPS: int, PADDED_D: int, WIDE: bool) -> int:
    """Of shared memory, as sources/chunk_backward.cu lays it out."""
    p, law = problem, LAWS[problem.rule]
    decays, divides, corrects = law.DECAY != "none", normalizer(p) != "none", law.CORRECTS
    state = PADDED_D * (BV + 4)
    columns = 3 + p.reads + (p.reads and (decays or divides)) + corrects
    squares = 2 * p.reads + 2 * corrects + 2 * decays
    rows = 0 if WIDE else (2 + p.reads) * C * (PADDED_D + 4)
    return (
        (1 if WIDE else 2) * state
        + rows
        + 2 * PADDED_D * divides
        + columns * C * (BV + 4)
        + squares * C * (C + 1)
        + 14 * C
        + WARPS * (p.K + 1)
    )
