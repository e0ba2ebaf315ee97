"""One token in the recurrent kernels, both ways: what it says, and what it does to a state.

    S ← γS + k' uᵀ      u = v, β v or, corrected, β (v − r γSᵀk')
    z ← γz + β k', or z + k'

What a token says is [1, BD] or a number, so that γS is never formed beside S: γSᵀk' is Sᵀ(γk').
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import (
    EPSILON,
    directions,
    features,
    last,
    loaded,
    mapped,
    rectified,
    row_step,
    shift,
    store,
    temperature,
    through_map,
    through_scale_of_all,
)

#: Of LayerNorm.
VARIANCE_EPSILON = tl.constexpr(1e-5)


@triton.jit
def token_counts(mask, at, MASKED: tl.constexpr):
    """Whether a token counts: one that does not has k' = 0, β = 0, γ = 1, and clips nothing."""
    counts = True
    if MASKED:
        counts = tl.load(mask + at) != 0
    return counts


@triton.jit
def token_features(
    x, row, counts, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """norm(φ(x)) of the token in `row`, [1, BD]; 0 where it does not count."""
    one = tl.arange(0, 1)
    return features(x, row + one, (one == 0) & counts, projection, K, D, BK, BD, MAP, SCALE)


@triton.jit
def token_gradient(
    dP, x, row, dx, room, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """Stores the gradient of x in `row` of `dx`, where that of norm(φ(x)) is dP [1, BD]: what
    features.py does by products. `room` is memory for D numbers."""
    d = tl.arange(0, BD)
    rows = row + tl.arange(0, 1)
    live = rows >= 0
    taken = shift(x, rows, live, projection, K, D, BK, BD, MAP)
    phi = mapped(x, rows, live, d, taken, projection, K, D, BK, BD, MAP)
    dphi = dP
    if SCALE != "none":
        dphi = through_scale_of_all(dP, phi, SCALE)
    if MAP == "dpfp":
        # Another thread reads what one writes, now and for the next token.
        tl.debug_barrier()
        tl.store(room + d[None, :], dphi, mask=(d < D)[None, :])
        tl.debug_barrier()
        n = tl.arange(0, BK)
        store(dx, _through_pairs(room, x, rows, live, n, K, D), rows, live, n, K)
    elif MAP == "favor" or MAP == "favor-queries" or MAP == "favor-published":
        g = tl.where((d < D)[None, :], dphi * phi, 0.0)
        t = temperature(K, MAP)
        total = tl.sum(g, 1)[:, None] * (t * t)
        for first in range(0, last(BK, rows), row_step(BD)):
            n = first + tl.arange(0, row_step(BD))
            along = tl.sum(g * directions(projection, n, d, K, D), 1)[None, :] * t
            store(dx, along - loaded(x, rows, live, n, K) * total, rows, live, n, K)
    else:
        dx_tile = through_map(dphi, phi, x, rows, live, d, d, projection, K, D, MAP, "ieee")
        store(dx, dx_tile, rows, live, d, K)


@triton.jit
def _through_pairs(dphi, x, rows, live, n, K: tl.constexpr, D: tl.constexpr):
    """DPFP's gradient of the entries n of x: each is first and second of 2ν pairs, ± in turn."""
    dx = tl.zeros((1, n.shape[0]), tl.float32)
    inside = (n < K)[None, :]
    for half in range(0, last(D // K, rows)):
        block, sign = half // 2, 1 - half % 2 * 2
        i = n + half % 2 * K
        first, second = (i + 2 * K - block - 1) % (2 * K), (i + block + 1) % (2 * K)
        into = tl.load(dphi + block * 2 * K + i[None, :], mask=inside, other=0.0)
        dr = into * rectified(x, rows, live, first, K)
        into = tl.load(dphi + block * 2 * K + second[None, :], mask=inside, other=0.0)
        dr += into * rectified(x, rows, live, second, K)
        dx += tl.where(rectified(x, rows, live, i, K) > 0, dr * sign, 0.0)
    return dx


@triton.jit
def token_gates(
    alpha, beta, row, counts, d, D: tl.constexpr, DECAY: tl.constexpr, WEIGHS: tl.constexpr
):
    """γ, a number or [1, BD], and β; 1 where the rule has none."""
    g, b = 1.0, 1.0
    if WEIGHS:
        b = tl.where(counts, tl.load(beta + row), 0.0)
    if DECAY == "head":
        g = tl.where(counts, tl.load(alpha + row), 1.0)
    if DECAY == "beta":
        g = 1 - b
    if DECAY == "feature":
        g = tl.load(alpha + row * D + d[None, :], mask=(d < D)[None, :] & counts, other=1.0)
    return g, b


@triton.jit
def written(S, z, P, values, g, b, CORRECTS: tl.constexpr, NORMALIZER: tl.constexpr):
    """u [BV]; what it corrects, r γSᵀk'; and r."""
    found, r = 0.0, 1.0
    if CORRECTS:
        found = tl.sum(S * tl.trans(g * P), 0)
        if NORMALIZER == "sum":
            r = 1.0 / (tl.sum(z * P) + EPSILON)
            found = found * r
    return b * (values - found), found, r


@triton.jit
def decayed(S, g, DECAY: tl.constexpr):
    """γS"""
    if DECAY == "feature":
        g = tl.trans(g)
    if DECAY != "none":
        S = S * g
    return S


@triton.jit
def next_z(z, P, g, b, NORMALIZER: tl.constexpr):
    if NORMALIZER == "same-law":
        z = g * z + b * P
    if NORMALIZER == "sum":
        z = z + P
    return z


@triton.jit
def layer_normalized(y, e, V: tl.constexpr):
    """(y − mean) / σ over the V value columns, and 1 / σ; 0 beyond them."""
    y = tl.where(e < V, y - tl.sum(y) / V, 0.0)
    factor = 1.0 / tl.sqrt(tl.sum(y * y) / V + VARIANCE_EPSILON)
    return y * factor, factor
