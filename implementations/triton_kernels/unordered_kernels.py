"""The kernels of causal=no: all tokens are written, then each reads; no token waits for another.

    S = S₀ + K'ᵀV     z = z₀ + Σ k'     O = Q'S / y, y = Q'z + ε
    dQ' = dN Sᵀ + dy zᵀ     dS = dS⁺ + Q'ᵀdN     dz = dz⁺ + Q'ᵀdy     dK' = V dSᵀ + dz     dV = K'dS
with dN = dO / y and dy = −Σ dN∘O. Three products of φ make both ways: what is written, what is
read, and the gradient of φ; each takes queries or keys. φ goes in tiles of BD features, of which
writing has one a block, and is computed anew wherever it is used.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.feature_tiles import (
    feature_tile,
    gradient_tile,
    shared,
    store_gathered,
)
from fwpbench.implementations.triton_kernels.features import EPSILON
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES
from fwpbench.implementations.triton_kernels.state_tiles import read_tile, write_tile


@triton.jit(do_not_specialize=SIZES)
def fwp_unordered_write(
    x, w, weight, projection, mask, S_in, z_in, S_out, z_out, T, H,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr, MASKED: tl.constexpr,
    WEIGHTED: tl.constexpr, STATE_IN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """S = S_in + X'ᵀW and z = z_in + X'ᵀ weight, or Σ x' where nothing is weighted."""
    parts: tl.constexpr = (D + BD - 1) // BD
    bh, tile = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(1)
    d = tl.program_id(0) % parts * BD + tl.arange(0, BD)
    e = tile * BV + tl.arange(0, BV)
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if STATE_IN:
        S = read_tile(S_in + bh * D * V, d, e, D, V)
        if DIVIDES:
            z = tl.load(z_in + bh * D + d, mask=d < D, other=0.0)
    for t in tl.range(0, T, C, disable_licm=True):
        rows, inside, live = token_rows(mask, bh, t, T, H, C, MASKED)
        taken, s = shared(x, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        X = feature_tile(x, rows, live, d, taken, s, projection, K, D, BK, BD, MAP, SCALE)
        values = rows_of(w, rows, inside, e, V)
        S += product(tl.trans(X), values, DOT)
        if DIVIDES:
            if WEIGHTED:
                X = X * tl.load(weight + rows, mask=inside, other=0.0)[:, None]
            z += tl.sum(X, 0)
    write_tile(S_out + bh * D * V, S, d, e, D, V)
    if DIVIDES:
        tl.store(z_out + bh * D + d, z, mask=(d < D) & (tile == 0))


@triton.jit(do_not_specialize=SIZES)
def fwp_unordered_read(
    x, S, z, projection, mask, o, y, T, H,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr, MASKED: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """O = X'S, divided by y = X'z + ε where the norm divides."""
    chunks = (T + C - 1) // C
    at, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, t = at // chunks, at % chunks * C
    e = tile * BV + tl.arange(0, BV)
    rows, inside, live = token_rows(mask, bh, t, T, H, C, MASKED)
    taken, s = shared(x, rows, live, projection, K, D, BK, BD, MAP, SCALE)
    read = tl.zeros((C, BV), tl.float32)
    seen = tl.zeros((C,), tl.float32)
    for first in tl.range(0, D, BD, disable_licm=True):
        d = first + tl.arange(0, BD)
        X = feature_tile(x, rows, live, d, taken, s, projection, K, D, BK, BD, MAP, SCALE)
        read += product(X, read_tile(S + bh * D * V, d, e, D, V), DOT)
        if DIVIDES:
            seen += tl.sum(X * tl.load(z + bh * D + d, mask=d < D, other=0.0)[None, :], 1)
    if DIVIDES:
        seen += EPSILON
        read = read / seen[:, None]
        tl.store(y + rows, seen, mask=inside & (tile == 0))
    in_o = inside[:, None] & (e < V)[None, :]
    tl.store(o + rows[:, None] * V + e[None, :], cast(read, o.dtype.element_ty), mask=in_o)


@triton.jit(do_not_specialize=SIZES)
def fwp_unordered_gradient(
    x, w, weight, S, z, projection, mask, dx, T, H, part,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr, MASKED: tl.constexpr,
    WEIGHTED: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Of x, where that of X' is W Sᵀ + weight zᵀ: this tile of value columns' part."""
    chunks = (T + C - 1) // C
    at, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, t = at // chunks, at % chunks * C
    e = tile * BV + tl.arange(0, BV)
    dx += tile.to(tl.int64) * part
    S += bh * D * V
    rows, inside, live = token_rows(mask, bh, t, T, H, C, MASKED)
    # A token that does not count gets the gradient 0 of what is 0 here; φ of it is as any.
    taken, s = shared(x, rows, inside, projection, K, D, BK, BD, MAP, SCALE)
    values = rows_of(w, rows, live, e, V)
    weights = tl.zeros((C,), tl.float32)
    if DIVIDES:
        # z has no value columns, so the first tile takes it.
        z += bh * D
        weights = tl.where(live & (tile == 0), 1.0, 0.0)
        if WEIGHTED:
            weights = tl.load(weight + rows, mask=live & (tile == 0), other=0.0)
    along = tl.zeros((C,), tl.float32)
    if SCALE != "none":
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            dX = _feature_gradient(values, weights, S, z, d, e, D, V, DIVIDES, DOT)
            X = feature_tile(x, rows, inside, d, taken, s, projection, K, D, BK, BD, MAP, SCALE)
            along += tl.sum(dX * X, 1)
    gathered = tl.zeros((C, BK), tl.float32)
    for first in tl.range(0, D, BD, disable_licm=True):
        d = first + tl.arange(0, BD)
        dX = _feature_gradient(values, weights, S, z, d, e, D, V, DIVIDES, DOT)
        gathered = gradient_tile(
            gathered, dX, along, x, rows, inside, d, taken, s, dx, projection,
            K, D, BK, BD, MAP, SCALE, DOT,
        )  # fmt: skip
    store_gathered(dx, gathered, rows, inside, K, BK, MAP)


@triton.jit
def token_rows(mask, bh, t, T, H, C: tl.constexpr, MASKED: tl.constexpr):
    """The rows of C tokens, which of them there are, and which of those count."""
    at = t + tl.arange(0, C)
    inside = at < T
    live = inside
    if MASKED:
        live = inside & (tl.load(mask + bh // H * T + at, mask=inside, other=0) != 0)
    return (bh // H * T + at) * H + bh % H, inside, live


@triton.jit
def rows_of(w, rows, inside, e, V: tl.constexpr):
    in_w = inside[:, None] & (e < V)[None, :]
    return tl.load(w + rows[:, None] * V + e[None, :], mask=in_w, other=0.0).to(tl.float32)


@triton.jit
def _feature_gradient(
    values, weights, S, z, d, e, D: tl.constexpr, V: tl.constexpr, DIVIDES: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    dX = product(values, tl.trans(read_tile(S, d, e, D, V)), DOT)
    if DIVIDES:
        dX += weights[:, None] * tl.load(z + d, mask=d < D, other=0.0)[None, :]
    return dX
