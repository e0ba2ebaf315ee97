"""norm(φ(x)) of a tile of tokens, and its gradient: computed where they are used, never stored.

A tile is [C, BD]: C tokens, D features filled up to BD, a power of two, with zeros. DPFP's block j
is r ⊙ roll(r, j) with r = [relu(x); relu(−x)]: x is loaded twice, with shifted indices. FAVOR is
exp(±yω − shift), the shift one number a token: ‖y‖²/2 + log(2M)/2, or for queries whose factor is
divided out again (map favor-queries) the largest exponent, a constant to the gradient.
"""

from __future__ import annotations

import math

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
    d = tl.arange(0, BD)
    taken = shift(x, rows, live, projection, K, D, BK, BD, MAP)
    phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
    if SCALE != "none":
        phi = phi * scale(tl.sum(summand(phi, SCALE), 1), SCALE)[:, None]
    return phi


@triton.jit
def gradient(
    dP, x, rows, live, dx, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Stores the gradient of x at `rows` of `dx`, where that of norm(φ(x)) is dP [C, BD]."""
    d = tl.arange(0, BD)
    taken = shift(x, rows, live, projection, K, D, BK, BD, MAP)
    phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
    dphi = dP
    if SCALE != "none":
        dphi = through_scale_of_all(dP, phi, SCALE)
    for first in range(0, BK, _step(MAP, BK)):
        n = first + tl.arange(0, _step(MAP, BK))
        dx_tile = through_map(dphi, phi, x, rows, live, d, n, projection, K, D, MAP, DOT)
        store(dx, dx_tile, rows, live, n, K)


@triton.constexpr_function
def _step(MAP, BK):
    """Entries of x whose gradients are computed at once: more spilled for FAVOR."""
    return max(16, min(BK // 2, 32)) if MAP.startswith("favor") else BK


@triton.jit
def store(dx, dx_tile, rows, live, n, K: tl.constexpr):
    inside = live[:, None] & (n < K)[None, :]
    tl.store(dx + rows[:, None] * K + n[None, :], cast(dx_tile, dx.dtype.element_ty), mask=inside)


@triton.jit
def mapped(
    x, rows, live, d, taken, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr,
):  # fmt: skip
    """φ(x) at the features d [BD]."""
    if MAP == "dpfp":
        i, j = _pair(d, K)
        phi = rectified(x, rows, live, i, K) * rectified(x, rows, live, j, K)
    elif MAP == "favor" or MAP == "favor-queries" or MAP == "favor-published":
        u = _projected(x, rows, live, d, projection, K, D, BK, MAP)
        if MAP == "favor-queries" and D <= BD:
            taken = tl.max(tl.abs(u), 1)
        phi = tl.exp(u - taken[:, None])
    else:
        phi = loaded(x, rows, live, d, K)
        if MAP == "elu+1":
            phi = tl.where(phi > 0, phi + 1, tl.exp(tl.minimum(phi, 0.0)))
        elif MAP == "relu":
            phi = tl.maximum(phi, 0.0)
        elif MAP == "tanh":
            phi = _tanh(phi)
    return tl.where(live[:, None] & (d < D)[None, :], phi, 0.0)


@triton.jit
def through_map(
    dphi, phi, x, rows, live, d, n, projection, K: tl.constexpr, D: tl.constexpr,
    MAP: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """What dphi at the features d gives to the gradient of x at the entries n; where every entry
    has its own feature, at the entries d."""
    dphi = tl.where(live[:, None] & (d < D)[None, :], dphi, 0.0)
    if MAP == "dpfp":
        i, j = _pair(d, K)
        a, b = rectified(x, rows, live, i, K), rectified(x, rows, live, j, K)
        da = tl.where(a > 0, dphi * b, 0.0) * tl.where(i < K, 1.0, -1.0)[None, :]
        db = tl.where(b > 0, dphi * a, 0.0) * tl.where(j < K, 1.0, -1.0)[None, :]
        # Every entry of x takes part in 4ν features: a product with ones where it does. They are
        # exact in any precision, so only da and db are rounded, to tf32 if not ieee.
        onto_i = tl.where((i % K)[:, None] == n[None, :], 1.0, 0.0)
        onto_j = tl.where((j % K)[:, None] == n[None, :], 1.0, 0.0)
        dx_tile = product(da, onto_i, "ieee" if DOT == "ieee" else "tf32")
        dx_tile += product(db, onto_j, "ieee" if DOT == "ieee" else "tf32")
    elif MAP == "favor" or MAP == "favor-queries" or MAP == "favor-published":
        # dy = g Ω'ᵀ − y Σg with g = dφ ⊙ φ, the gradient of the exponents
        g = dphi * phi
        omega = tl.trans(directions(projection, n, d, K, D))
        t = temperature(K, MAP)
        dx_tile = product(g, omega, "ieee" if DOT == "ieee" else "tf32") * t
        dx_tile -= loaded(x, rows, live, n, K) * (tl.sum(g, 1) * (t * t))[:, None]
    elif MAP == "identity":
        dx_tile = dphi
    else:
        u = loaded(x, rows, live, d, K)
        slope = tl.where(u > 0, 1.0, 0.0)
        if MAP == "elu+1":
            slope = tl.exp(tl.minimum(u, 0.0))
        elif MAP == "tanh":
            small = tl.exp(-2 * tl.abs(u))
            slope = 4 * small / ((1 + small) * (1 + small))
        dx_tile = dphi * slope
    return dx_tile


@triton.jit
def summand(phi, SCALE: tl.constexpr):
    """What the scale adds up."""
    return phi if SCALE == "sum" else phi * phi


@triton.jit
def scale(total, SCALE: tl.constexpr):
    """One factor a token."""
    total += EPSILON
    return 1.0 / (total if SCALE == "sum" else tl.sqrt(total))


@triton.jit
def through_scale(dP, phi, s, along, SCALE: tl.constexpr):
    """P = s·φ and a = dP·P over all features:  sum: dφ = s (dP − a),  l2: dφ = s (dP − a P)"""
    along = along[:, None]
    if SCALE == "l2":
        along = along * phi * s[:, None]
    return s[:, None] * (dP - along)


@triton.jit
def through_scale_of_all(dP, phi, SCALE: tl.constexpr):
    """The same of rows that hold all features, where one more sum takes off what rounding left.

    Where one feature has nearly all, dP − a P is all rounding; ΣP = 1 − εs (sum) and
    ΣP² = 1 − εs² (l2) say what its sum along P is.
    """
    s = scale(tl.sum(summand(phi, SCALE), 1), SCALE)
    along = tl.sum(dP * phi, 1) * s
    dphi = through_scale(dP, phi, s, along, SCALE)
    left = tl.sum(dphi * phi, 1) - along * EPSILON * (s if SCALE == "sum" else s * s)
    left = (left * s)[:, None]
    if SCALE == "l2":
        left = left * phi * s[:, None]
    return dphi - left


@triton.jit
def _pair(d, K: tl.constexpr):
    """The two entries of r that make feature d, the second rolled by 1 to ν."""
    i = d % (2 * K)
    j = (i + 2 * K - d // (2 * K) - 1) % (2 * K)
    return i, j


@triton.jit
def rectified(x, rows, live, i, K: tl.constexpr):
    """r = [relu(x); relu(−x)] at i."""
    u = loaded(x, rows, live, tl.where(i < K, i, i - K), K)
    return tl.maximum(tl.where((i < K)[None, :], u, -u), 0.0)


@triton.jit
def shift(
    x, rows, live, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr,
):  # fmt: skip
    """What FAVOR takes off the exponents of a token; a tile of all features finds its maximum."""
    taken = tl.zeros((rows.shape[0],), tl.float32)
    if MAP == "favor" or MAP == "favor-published":
        y = loaded(x, rows, live, tl.arange(0, BK), K) * temperature(K, MAP)
        taken = tl.sum(y * y, 1) / 2 + _log(D) / 2
    elif MAP == "favor-queries" and D > BD:
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            u = _projected(x, rows, live, d, projection, K, D, BK, MAP)
            taken = tl.maximum(taken, tl.max(tl.abs(u), 1))
    return taken


@triton.jit
def _projected(
    x, rows, live, d, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    MAP: tl.constexpr,
):  # fmt: skip
    """±yω at the features d: a product as exact as float32, for it goes into an exponent."""
    # tf32 holds x of 16 bits exactly, so that three of its products do.
    exact: tl.constexpr = "ieee" if x.dtype.element_ty == tl.float32 else "tf32x3"
    u = tl.zeros((rows.shape[0], d.shape[0]), tl.float32)
    # In steps: all at once spilled.
    step: tl.constexpr = row_step(d.shape[0]) if rows.shape[0] == 1 else 16
    for first in range(0, last(K, rows), step):
        n = first + tl.arange(0, step)
        omega = directions(projection, n, d, K, D)
        part = loaded(x, rows, live, n, K)
        if rows.shape[0] == 1:  # too few rows for a product
            u += tl.sum(tl.trans(part) * omega, 0)[None, :]
        else:
            u += product(part, omega, exact)
    return u * temperature(K, MAP)


@triton.constexpr_function
def row_step(BD):
    """Rows of [Ω, −Ω] at a time for one token: no sides of products, so fewer than 16 may do."""
    return max(1, min(2048 // BD, 16))


@triton.jit
def last(size: tl.constexpr, rows):
    """`size`, so that the compiler does not know it: of few steps it made no loop and loaded what
    all of them need first, a hundred registers of it, and spilled."""
    return size + (tl.max(rows, 0).to(tl.int64) >> 40).to(tl.int32)  # there are no 2⁴⁰ rows


@triton.jit
def directions(projection, n, d, K: tl.constexpr, D: tl.constexpr):
    """[Ω, −Ω] at rows n and columns d."""
    M: tl.constexpr = D // 2
    inside = (n < K)[:, None] & (d < D)[None, :]
    omega = tl.load(projection + n[:, None] * M + (d % M)[None, :], mask=inside, other=0.0)
    return tl.where((d < M)[None, :], omega, -omega)


@triton.constexpr_function
def temperature(K, MAP):
    return 1.0 if MAP == "favor-published" else K**-0.25


@triton.constexpr_function
def _log(x):
    return math.log(x)


@triton.jit
def _tanh(x):
    """1 − 2 / (e²ˣ + 1); below 1, where that cancels, x less x³ times a quotient.

    The quotient is what Padé's approximant [7/6] takes from x, off by less than 2⁻³⁸ there. The
    approximant as one fraction erred by 3.5 · 2⁻²⁴ in float32, this by 1.6 · 2⁻²⁴.
    """
    u = tl.abs(x)
    near = tl.minimum(u, 1.0)
    w = near * near
    above = 45045.0 + w * (2772.0 + w * 27.0)
    below = 135135.0 + w * (62370.0 + w * (3150.0 + w * 28.0))
    far = 1 - 2 / (tl.exp(2 * tl.minimum(u, 20.0)) + 1)
    y = tl.where(u < 1, near - near * w * (above / below), far)
    return tl.where(x < 0, -y, y)


@triton.jit
def loaded(x, rows, live, n, K: tl.constexpr):
    inside = live[:, None] & (n < K)[None, :]
    return tl.load(x + rows[:, None] * K + n[None, :], mask=inside, other=0.0).to(tl.float32)
