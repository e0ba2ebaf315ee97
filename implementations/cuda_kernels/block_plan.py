"""What all layouts share: a block has HEADS heads, and each of them WARPS warps."""

from __future__ import annotations

from dataclasses import dataclass

#: Of a multiprocessor, each with warps of its own.
SCHEDULERS = 4
#: Of shared memory, for several heads: a sixth of what the smallest multiprocessor has. Up to here
#: such blocks leave so little over that no GPU holds fewer heads at once.
BYTES_OF_SEVERAL = 16 * 1024


def heads_of_a_block(WARPS: int, floats: int) -> int:
    """As many as there are schedulers with a warp for each, while their shared memory stays small.

    No scheduler gets more warps so: of N on M multiprocessors ⌈⌈N / 4⌉ / M⌉ = ⌈⌈N / M⌉ / 4⌉.
    """
    HEADS = 1
    while 2 * HEADS * WARPS <= SCHEDULERS and 2 * HEADS * 4 * floats <= BYTES_OF_SEVERAL:
        HEADS *= 2
    return HEADS


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """BV value columns of HEADS heads, each with WARPS warps; sources/heads.cuh says more."""

    PADDED_D: int
    V: int
    BV: int
    WARPS: int
    HEADS: int
    #: Of a head's shared memory.
    floats: int

    @property
    def threads(self) -> int:
        """Of a head."""
        return 32 * self.WARPS

    @property
    def block(self) -> tuple[int, int]:
        return self.threads, self.HEADS

    @property
    def shared_bytes(self) -> int:
        """Of a block."""
        return 4 * self.floats * self.HEADS

    @property
    def tiles(self) -> int:
        return -(-self.V // self.BV)

    def grid(self, heads: int) -> tuple[int, int]:
        """For B·H heads; the last block may have fewer."""
        return -(-heads // self.HEADS), self.tiles
