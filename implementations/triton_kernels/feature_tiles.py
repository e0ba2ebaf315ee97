"""norm(φ(x)) where φ is wider than a tile: one tile of features [C, BD] after the other.

What a token's features share, FAVOR's shift and the factor of the normalisation, is found in a pass
of its own; the tiles are computed anew in every pass and never stored. The gradient of x is
gathered over the tiles in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import (
    mapped,
    scale,
    shift,
    store,
    summand,
    through_map,
    through_scale,
)


@triton.jit
def shared(
    x, rows, live, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """What all features of a token share: taken off its exponents [C], and its factor [C]."""
    taken = shift(x, rows, live, projection, K, D, BK, BD, MAP)
    s = tl.full((rows.shape[0],), 1.0, tl.float32)
    if SCALE != "none":
        total = tl.zeros((rows.shape[0],), tl.float32)
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
            total += tl.sum(summand(phi, SCALE), 1)
        s = scale(total, SCALE)
    return taken, s


@triton.jit
def feature_tile(
    x, rows, live, d, taken, s, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """norm(φ(x)) at the features d [BD], with what `shared` gave."""
    phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
    if SCALE != "none":
        phi = phi * s[:, None]
    return phi


@triton.jit
def gradient_tile(
    gathered, dP, along, x, rows, live, d, taken, s, dx, projection, K: tl.constexpr,
    D: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """`gathered` [C, BK] and what dP at the features d adds to the gradient of x; `along` is dP·P
    over all features. Where every entry of x has its own feature, its gradient is stored at once.
    """
    phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
    dphi = dP
    if SCALE != "none":
        dphi = through_scale(dP, phi, s, along, SCALE)
    n = tl.arange(0, BK)
    dx_tile = through_map(dphi, phi, x, rows, live, d, n, projection, K, D, MAP, DOT)
    if _gathers(MAP):
        gathered += dx_tile
    else:
        store(dx, dx_tile, rows, live, d, K)
    return gathered


@triton.jit
def store_gathered(dx, gathered, rows, live, K: tl.constexpr, BK: tl.constexpr, MAP: tl.constexpr):
    if _gathers(MAP):
        store(dx, gathered, rows, live, tl.arange(0, BK), K)


@triton.constexpr_function
def _gathers(MAP):
    """Whether an entry of x takes part in features of several tiles."""
    return MAP == "dpfp" or MAP.startswith("favor")
