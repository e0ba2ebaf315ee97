"""How the recurrent kernels of a problem are laid out in a block, and what has no layout."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.implementations._kernel_terms import LAWS, normalizer
from fwpbench.implementations.cuda_kernels.block_plan import BlockPlan, heads_of_a_block
from fwpbench.operators.problem import Problem

#: Numbers of a state in a thread's registers, of which it has 255 at most; backward there are two.
NUMBERS = 64
#: Of a block's shared memory, what every GPU gives without being asked.
SHARED_BYTES = 48 * 1024
#: Of a multiprocessor, all of which one block may have; and of a thread.
REGISTERS, MOST_REGISTERS = 64 * 1024, 255
LARGEST_D = 1024


@dataclass(frozen=True, kw_only=True)
class RecurrentPlan(BlockPlan):
    """A thread has COLUMNS columns and every GROUPS-th row; TOKENS are prepared at once.
    sources/recurrent.cuh says more.
    """

    COLUMNS: int
    GROUPS: int
    TOKENS: int


def recurrent_plan(problem: Problem, *, backward: bool = False) -> RecurrentPlan | None:
    """Of the forward kernel or of the backward one; None where none has the registers."""
    p, law = problem, LAWS[problem.rule]
    most = NUMBERS // (2 if backward else 1)
    # Four columns are 16 bytes; then as few groups as the registers allow, whose lanes read rows.
    COLUMNS, GROUPS = 4, 4
    while most < COLUMNS * -(-p.D // GROUPS) and GROUPS < 32:
        GROUPS *= 2
    while most < COLUMNS * -(-p.D // GROUPS) and COLUMNS > 1:
        COLUMNS //= 2
    of_a_warp = 32 // GROUPS * COLUMNS
    WARPS = -(-p.V // of_a_warp)
    if not law.CLIPS:
        WARPS = min(WARPS, 4)
    PADDED_D = -(-p.D // GROUPS) * GROUPS
    divides = normalizer(p) != "none"
    rows = 0
    if backward:
        rows = 1 + p.reads + (law.DECAY == "feature")

    def floats(WARPS: int, TOKENS: int) -> int:
        parts = rows * WARPS * TOKENS * PADDED_D + 2 * WARPS * TOKENS * backward
        sums = WARPS * PADDED_D * (backward and divides)
        return 2 * TOKENS * PADDED_D + WARPS * (p.K + 1) + parts + sums

    TOKENS = 16
    while 4 * floats(WARPS, TOKENS) > SHARED_BYTES and (TOKENS > 1 or WARPS > 1):
        if TOKENS > 1:
            TOKENS //= 2
        elif law.CLIPS:
            return None
        else:
            WARPS //= 2
    ROWS = PADDED_D // GROUPS
    needed = needed_registers(ROWS, COLUMNS, backward=backward, divides=divides)
    if needed > registers(WARPS):
        return None
    of_a_head = floats(WARPS, TOKENS)
    return RecurrentPlan(
        PADDED_D=PADDED_D, V=p.V, BV=WARPS * of_a_warp, WARPS=WARPS,
        HEADS=heads_of_a_block(WARPS, of_a_head), floats=of_a_head,
        COLUMNS=COLUMNS, GROUPS=GROUPS, TOKENS=TOKENS,
    )  # fmt: skip


def registers(WARPS: int) -> int:
    """A thread's share: they are dealt out to four warps at a time and in eights; 0 is no block."""
    return min(REGISTERS // (128 * -(-WARPS // 4)) // 8 * 8, MOST_REGISTERS) if WARPS <= 32 else 0


def needed_registers(ROWS: int, COLUMNS: int, *, backward: bool, divides: bool) -> int:
    """Of a thread with so many numbers of a state; backward there are two, and their tokens' rows,
    and where the normalisation divides those of z.

    What NVRTC 13 needs not to spill: at 24 numbers backward 168 are enough, at 28 they are not, at
    20 not 128; forward 128 are at 64. With z 32 rows of one column spilled 8 to 116 bytes.
    """
    if not backward:
        return 64 + ROWS * COLUMNS
    return 64 + 4 * ROWS * COLUMNS + 3 * ROWS * divides
