"""norm(φ(x)) of a tile of tokens, and its gradient: computed where they are used, never stored.

A tile is [C, BD]: C tokens, D features filled up to BD, a power of two, with zeros. DPFP's block j
is r ⊙ roll(r, j) with r = [relu(x); relu(−x)]: x is loaded twice, with shifted indices.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.operators.normalizations import EPSILON as _EPSILON

EPSILON = tl.constexpr(_EPSILON)


@triton.jit
def features(
    x, rows, live, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """norm(φ(x)) [C, BD] of x [·, K] at `rows`; 0 where a row is not `live`."""
    phi = _mapped(x, rows, live, projection, K, D, BK, BD, MAP)
    if SCALE != "none":
        phi = phi * _scale(phi, SCALE)[:, None]
    return phi


@triton.jit
def gradient(
    dP, x, rows, live, dx, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Stores the gradient of x at `rows` of `dx`, where that of norm(φ(x)) is dP [C, BD]."""
    d = tl.arange(0, BD)
    dphi = dP
    if SCALE != "none":
        # P = s·φ:  sum: dφ = s (dP − dP·P),  l2: dφ = s (dP − (dP·P) P)
        phi = _mapped(x, rows, live, projection, K, D, BK, BD, MAP)
        s = _scale(phi, SCALE)[:, None]
        P = phi * s
        along = tl.sum(dP * P, 1)[:, None]
        if SCALE == "l2":
            along = along * P
        dphi = s * (dP - along)
    dphi = tl.where(live[:, None] & (d < D)[None, :], dphi, 0.0)
    n = tl.arange(0, BK)
    if MAP == "dpfp":
        i, j = _pair(d, K)
        a, b = _rectified(x, rows, live, i, K), _rectified(x, rows, live, j, K)
        da = tl.where(a > 0, dphi * b, 0.0) * tl.where(i < K, 1.0, -1.0)[None, :]
        db = tl.where(b > 0, dphi * a, 0.0) * tl.where(j < K, 1.0, -1.0)[None, :]
        # Every entry of x takes part in 4ν features: a product with ones where it does. They are
        # exact in any precision, so only da and db are rounded, to tf32 where DOT is not ieee.
        onto_i = tl.where((i % K)[:, None] == n[None, :], 1.0, 0.0)
        onto_j = tl.where((j % K)[:, None] == n[None, :], 1.0, 0.0)
        dx_tile = product(da, onto_i, "ieee" if DOT == "ieee" else "tf32")
        dx_tile += product(db, onto_j, "ieee" if DOT == "ieee" else "tf32")
    else:
        dx_tile = dphi
        if MAP != "identity":
            u = _loaded(x, rows, live, n, K)
            slope = tl.where(u > 0, 1.0, 0.0)
            if MAP == "elu+1":
                slope = tl.exp(tl.minimum(u, 0.0))
            dx_tile = dphi * slope
    inside = live[:, None] & (n < K)[None, :]
    tl.store(dx + rows[:, None] * K + n[None, :], cast(dx_tile, dx.dtype.element_ty), mask=inside)


@triton.jit
def _mapped(
    x, rows, live, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, BD)
    if MAP == "dpfp":
        i, j = _pair(d, K)
        phi = _rectified(x, rows, live, i, K) * _rectified(x, rows, live, j, K)
    else:
        phi = _loaded(x, rows, live, d, K)
        if MAP == "elu+1":
            phi = tl.where(phi > 0, phi + 1, tl.exp(tl.minimum(phi, 0.0)))
        elif MAP == "relu":
            phi = tl.maximum(phi, 0.0)
    return tl.where(live[:, None] & (d < D)[None, :], phi, 0.0)


@triton.jit
def _scale(phi, SCALE: tl.constexpr):
    """One factor a token."""
    if SCALE == "sum":
        s = 1.0 / (tl.sum(phi, 1) + EPSILON)
    else:
        s = 1.0 / tl.sqrt(tl.sum(phi * phi, 1) + EPSILON)
    return s


@triton.jit
def _pair(d, K: tl.constexpr):
    """The two entries of r that make feature d, the second rolled by 1 to ν."""
    i = d % (2 * K)
    j = (i + 2 * K - d // (2 * K) - 1) % (2 * K)
    return i, j


@triton.jit
def _rectified(x, rows, live, i, K: tl.constexpr):
    """r = [relu(x); relu(−x)] at i."""
    u = _loaded(x, rows, live, tl.where(i < K, i, i - K), K)
    return tl.maximum(tl.where((i < K)[None, :], u, -u), 0.0)


@triton.jit
def _loaded(x, rows, live, n, K: tl.constexpr):
    inside = live[:, None] & (n < K)[None, :]
    return tl.load(x + rows[:, None] * K + n[None, :], mask=inside, other=0.0).to(tl.float32)
