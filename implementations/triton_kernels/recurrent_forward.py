"""The recurrent kernel: one token after the other, the state of a head in registers.

    S ← γS + k' uᵀ      k' = norm(φ(k)), q' = norm(φ(q))
    γ: 1, α, diag(α) or 1 − β       u: v, β v or, corrected, β (v − r γSᵀk')
    o = Sᵀq', divided by z·q' + ε where the normalisation divides

z follows by the same law as one more column of ones, or is the sum of all keys, and then r = 1 /
(z·k' + ε) before the write. fwm clips, S ← S / max(‖S‖, 1), after each write but the first, and
layer-normalises what it reads: its block has all value columns, every other rule's a tile of them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import EPSILON, features
from fwpbench.implementations.triton_kernels.products import cast

#: Of LayerNorm.
VARIANCE_EPSILON = tl.constexpr(1e-5)


@triton.jit
def fwp_recurrent_forward(
    q, k, v, alpha, beta, projection, mask, S_in, z_in, o, clips, kept, S_out, z_out, T, H, C,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DECAY: tl.constexpr,
    WEIGHS: tl.constexpr, CORRECTS: tl.constexpr, CLIPS: tl.constexpr, NORMALIZER: tl.constexpr,
    MASKED: tl.constexpr, READS: tl.constexpr, KEEPS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr,
):  # fmt: skip
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    d, e = tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    # z lies as φ of one token does, [1, BD].
    at_z, in_z = d[None, :], (d < D)[None, :]
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((1, BD), tl.float32)
    if STATE_IN:
        S = tl.load(S_in + bh * D * V + at_S, mask=in_S, other=0.0)
        if NORMALIZER != "none":
            z = tl.load(z_in + bh * D + at_z, mask=in_z, other=0.0)
    for t in range(0, T):
        if KEEPS:  # noqa: SIM102 (known when it is compiled; t is not)
            if t % C == 0:
                chunks = (T + C - 1) // C
                tl.store(kept + (bh * chunks + t // C) * D * V + at_S, S, mask=in_S)
        row = (bh // H * T + t) * H + bh % H
        counts = token_counts(mask, bh // H * T + t, MASKED)
        P = token_features(k + row * K, counts, projection, K, D, BK, BD, MAP, SCALE)
        u = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
        b = 1.0
        if WEIGHS:
            b = tl.where(counts, tl.load(beta + row), 0.0)
        first = True
        if CLIPS:
            first = tl.max(tl.abs(S)) == 0
        if DECAY == "head" or DECAY == "beta":
            g = 1 - b
            if DECAY == "head":
                g = tl.where(counts, tl.load(alpha + row), 1.0)
            S *= g
            if NORMALIZER == "same-law":
                z *= g
        if DECAY == "feature":
            g = tl.load(alpha + row * D + at_z, mask=in_z & counts, other=1.0)
            S *= tl.trans(g)
            if NORMALIZER == "same-law":
                z *= g
        if CORRECTS:
            found = tl.sum(S * tl.trans(P), 0)
            if NORMALIZER == "sum":
                found = found / (tl.sum(z * P) + EPSILON)
            u -= found
        S += tl.trans(P) * (b * u)[None, :]
        if NORMALIZER == "same-law":
            z += b * P
        if NORMALIZER == "sum":
            z += P
        if CLIPS:
            norm2 = tl.sum(S * S)
            clipped = counts & (norm2 >= 1) & (first == 0)
            clip = tl.where(clipped, tl.sqrt(norm2), 1.0)
            S = S / clip
            if KEEPS:
                tl.store(clips + row, tl.where(clipped, clip, 0.0))
        if READS:
            Q = token_features(q + row * K, True, projection, K, D, BK, BD, QUERY_MAP, SCALE)
            read = tl.sum(S * tl.trans(Q), 0)
            if NORMALIZER != "none":
                read = read / (tl.sum(z * Q) + EPSILON)
            if CLIPS:
                read, _ = layer_normalized(read, e, V)
            tl.store(o + row * V + e, cast(read, o.dtype.element_ty), mask=e < V)
    if STATE_OUT:
        tl.store(S_out + bh * D * V + at_S, S, mask=in_S)
        if NORMALIZER != "none":
            tl.store(z_out + bh * D + at_z, z, mask=in_z & (tile == 0))


@triton.jit
def token_counts(mask, at, MASKED: tl.constexpr):
    """Whether a token counts: one that does not has k' = 0, β = 0, α = 1, and clips nothing."""
    counts = True
    if MASKED:
        counts = tl.load(mask + at) != 0
    return counts


@triton.jit
def token_features(
    x, counts, projection, K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """norm(φ(x)) of the token at x, [1, BD]; 0 where it does not count."""
    one = tl.arange(0, 1)
    return features(x, one, (one == 0) & counts, projection, K, D, BK, BD, MAP, SCALE)


@triton.jit
def layer_normalized(y, e, V: tl.constexpr):
    """(y − mean) / σ over the V value columns, and 1 / σ; 0 beyond them."""
    y = tl.where(e < V, y - tl.sum(y) / V, 0.0)
    factor = 1.0 / tl.sqrt(tl.sum(y * y) / V + VARIANCE_EPSILON)
    return y * factor, factor
