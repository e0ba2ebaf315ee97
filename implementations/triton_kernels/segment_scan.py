"""From segment to segment: what each adds to a state, and the states that they begin from.

    S ← M S + ΔS      M the matrix of a rule that corrects, else a decay or 1; z likewise
BACKWARDS, from the last to the first, for the gradients of the states, with Mᵀ.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.products import product
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=SIZES)
def fwp_segment_scan(
    added, M, passed, S_in, S_begin, S_out, segments,
    V: tl.constexpr, D: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
    ADDED_COLUMNS: tl.constexpr, MATRIX: tl.constexpr, PASSED: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, BACKWARDS: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    """added, M [·, segments, D, ·]: of rows ADDED_COLUMNS long, and V + D, M after V of them."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    d, e = tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    S = tl.zeros((BD, BV), tl.float32)
    if STATE_IN:
        S = tl.load(S_in + bh * D * V + at_S, mask=in_S, other=0.0)
    for step in range(0, segments):
        n = bh * segments + (segments - 1 - step if BACKWARDS else step)
        tl.store(S_begin + n * D * V + at_S, S, mask=in_S)
        if MATRIX:
            row, column = d[:, None], d[None, :]
            if BACKWARDS:
                row, column = d[None, :], d[:, None]
            at_M = n * D * (V + D) + row * (V + D) + V + column
            in_M = (d < D)[:, None] & (d < D)[None, :]
            S = product(tl.load(M + at_M, mask=in_M, other=0.0), S, SOLVE)
        if PASSED:
            S *= tl.load(passed + n)
        at_added = n * D * ADDED_COLUMNS + d[:, None] * ADDED_COLUMNS + e[None, :]
        S += tl.load(added + at_added, mask=in_S, other=0.0)
    if STATE_OUT:
        tl.store(S_out + bh * D * V + at_S, S, mask=in_S)
