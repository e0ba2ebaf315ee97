"""The state where it is too wide for registers: in memory, float32, one block its only owner.

Of a state [D, V] the block holds a tile of features d and value columns e at a time. Between
reading a tile and writing it, and between writing and reading it again, stands a barrier: another
thread of the block may do either. What is kept for a backward pass may have fewer bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.products import cast


@triton.jit
def read_tile(S, d, e, D: tl.constexpr, V: tl.constexpr):
    at, inside = _place(d, e, D, V)
    return tl.load(S + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def write_tile(S, tile, d, e, D: tl.constexpr, V: tl.constexpr):
    at, inside = _place(d, e, D, V)
    tl.store(S + at, cast(tile, S.dtype.element_ty), mask=inside)


@triton.jit
def _place(d, e, D: tl.constexpr, V: tl.constexpr):
    return d[:, None] * V + e[None, :], (d < D)[:, None] & (e < V)[None, :]
