"""The backward kernel of fwm: chunks in reverse, their states recomputed, dS in registers.

Of one token, with c = ‖W‖ as the forward kernel kept it where it clipped, else 1:
    f = Sᵀk'   u = β (v − f)   W = S + k'uᵀ   S⁺ = W / c   y = S⁺ᵀq'   o = LayerNorm(y) = ŷ
    dy = (do − mean do − ŷ mean(do∘ŷ)) / σ           dq' = S⁺dy        dS⁺ ← dS⁺ + q'dyᵀ
    dW = dS⁺ / c − a W, a = ⟨dS⁺, W⟩ / c³ where it clipped, else 0
    du = dWᵀk'   dk' = dW u − β S du   dv = β du   dβ = du·(v − f)   dS = dW − β k'duᵀ
S⁺, W and dW are never formed: each is a sum of S or dS⁺ and outer products, so that two tiles
[D, V] are held and not four. The forward kernel kept S every C tokens; those between are written to
scratch memory, C a block, and read backwards.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import gradient
from fwpbench.implementations.triton_kernels.products import cast
from fwpbench.implementations.triton_kernels.recurrent_forward import (
    layer_normalized,
    token_counts,
    token_features,
)


@triton.jit
def fwp_fwm_backward(
    q, k, v, beta, projection, mask, clips, kept, scratch, do, dS_out,
    dq, dk, dv, dbeta, dS_in, T, H, C,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DECAY: tl.constexpr,
    WEIGHS: tl.constexpr, CORRECTS: tl.constexpr, CLIPS: tl.constexpr, NORMALIZER: tl.constexpr,
    MASKED: tl.constexpr, READS: tl.constexpr, KEEPS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr,
):  # fmt: skip
    bh = tl.program_id(0).to(tl.int64)
    one, d, e = tl.arange(0, 1), tl.arange(0, BD), tl.arange(0, BV)
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    scratch += bh * C * D * V
    dS = tl.zeros((BD, BV), tl.float32)
    if STATE_OUT:
        dS = tl.load(dS_out + bh * D * V + at_S, mask=in_S, other=0.0)
    chunks = (T + C - 1) // C
    for n in range(0, chunks):
        start = (chunks - 1 - n) * C
        tokens = tl.minimum(C, T - start)
        S = tl.load(kept + (bh * chunks + chunks - 1 - n) * D * V + at_S, mask=in_S, other=0.0)
        for i in range(0, tokens):
            tl.store(scratch + i * D * V + at_S, S, mask=in_S)
            row = (bh // H * T + start + i) * H + bh % H
            counts = token_counts(mask, bh // H * T + start + i, MASKED)
            P = token_features(k + row * K, True, projection, K, D, BK, BD, MAP, SCALE)
            values = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
            b = tl.where(counts, tl.load(beta + row), 0.0)
            u = b * (values - tl.sum(S * tl.trans(P), 0))
            clip, _ = kept_clip(clips + row)
            S = (S + tl.trans(P) * u[None, :]) / clip
        # What one thread wrote another may read, and the other way round in the next chunk.
        tl.debug_barrier()
        for n_after in range(0, tokens):
            i = tokens - 1 - n_after
            row = (bh // H * T + start + i) * H + bh % H
            counts = token_counts(mask, bh // H * T + start + i, MASKED)
            S = tl.load(scratch + i * D * V + at_S, mask=in_S, other=0.0)
            P = token_features(k + row * K, True, projection, K, D, BK, BD, MAP, SCALE)
            column = tl.trans(P)
            values = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
            b = tl.where(counts, tl.load(beta + row), 0.0)
            clip, clipped = kept_clip(clips + row)
            found = tl.sum(S * column, 0)
            u = b * (values - found)
            if READS:
                Q = token_features(q + row * K, True, projection, K, D, BK, BD, QUERY_MAP, SCALE)
                y = (tl.sum(S * tl.trans(Q), 0) + tl.sum(P * Q) * u) / clip
                normal, factor = layer_normalized(y, e, V)
                dy = tl.load(do + row * V + e, mask=e < V, other=0.0).to(tl.float32)
                dy = dy - tl.sum(dy) / V - normal * (tl.sum(dy * normal) / V)
                dy = tl.where(e < V, dy * factor, 0.0)
                dQ = (tl.sum(S * dy[None, :], 1)[None, :] + P * tl.sum(u * dy)) / clip
                gradient(
                    dQ,
                    q + row * K,
                    one,
                    one == 0,
                    dq + row * K,
                    projection,
                    K,
                    D,
                    BK,
                    BD,
                    QUERY_MAP,
                    SCALE,
                    "row",
                )
                dS += tl.trans(Q) * dy[None, :]
            along = tl.sum(dS * column, 0)
            a = (tl.sum(dS * S) + tl.sum(along * u)) / clip / clip / clip
            a = tl.where(clipped, a, 0.0)
            du = along / clip - a * (found + tl.sum(P * P) * u)
            w = a * u + b * du
            dP = tl.sum(dS * (u / clip)[None, :] - S * w[None, :], 1)[None, :]
            dP -= P * (a * tl.sum(u * u))
            gradient(
                dP,
                k + row * K,
                one,
                one == 0,
                dk + row * K,
                projection,
                K,
                D,
                BK,
                BD,
                MAP,
                SCALE,
                "row",
            )
            tl.store(dv + row * V + e, cast(b * du, dv.dtype.element_ty), mask=e < V)
            tl.store(dbeta + row, tl.where(counts, tl.sum(du * (values - found)), 0.0))
            dS = dS / clip - a * S - column * w[None, :]
        tl.debug_barrier()
    if STATE_IN:
        tl.store(dS_in + bh * D * V + at_S, dS, mask=in_S)


@triton.jit
def kept_clip(clip):
    """c, and whether the state was clipped: kept is 0 where it was not, for c may be just 1."""
    c = tl.load(clip)
    return tl.where(c > 0, c, 1.0), c > 0
