"""The backward kernel token by token: chunks in reverse, their states recomputed, dS in registers.

Of one token, with γ, u, r and z as in recurrent_forward.py, f = r γSᵀk', c the clip, else 1:
    W = γS + k'uᵀ   S⁺ = W / c   y = S⁺ᵀq'   o = y / n with n = z⁺·q' + ε, or LayerNorm(y) = ŷ
    dy = do / n, dn = −dy·o   or   dy = (do − mean do − ŷ mean(do∘ŷ)) / σ
    dq' = S⁺dy + dn z⁺              dS⁺ ← dS⁺ + q'dyᵀ      dz⁺ ← dz⁺ + dn q'
    dW = dS⁺ / c − a W, a = ⟨dS⁺, W⟩ / c³ where it clipped, else 0
    du = dWᵀk'   dv = β du   dβ = du·(v − f), and dz⁺·k' where β weighs what z adds
    dk' = dW u + γS df + ds z + dz⁺ (weighed alike)      df = −β r du      ds = β r du·f
    dγS = dW + k'dfᵀ   dγ = Σ dγS∘S + dz⁺·z, or feature by feature   dS = γ dγS   dz = γ dz⁺ + ds k'
where df and ds, of z·k' + ε, are of rules that correct. For 1 − β, dβ is less by dγ. S⁺, W, γS and
dW are never formed: each is a sum of S or dS⁺ and outer products, so that two tiles [D, V] are held
and not four. But for the clip all is linear in the value columns: each tile of them gives its part
of dq, dk, dα, dβ and dz, and the parts are added up afterwards. The forward kernel kept the state
every C tokens; those between are written to scratch memory, C a block, and read backwards.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import EPSILON
from fwpbench.implementations.triton_kernels.products import cast
from fwpbench.implementations.triton_kernels.recurrent_token import (
    decayed,
    layer_normalized,
    next_z,
    token_counts,
    token_features,
    token_gates,
    token_gradient,
    written,
)
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=(*SIZES, "C"))
def fwp_recurrent_backward(
    q, k, v, alpha, beta, projection, mask, clips, kept, kept_z, scratch, scratch_z, room,
    do, dS_out, dz_out, dq, dk, dv, dalpha, dbeta, dS_in, dz_in,
    T, H, C, part, part_alpha, part_gate, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DECAY: tl.constexpr,
    WEIGHS: tl.constexpr, CORRECTS: tl.constexpr, CLIPS: tl.constexpr, NORMALIZER: tl.constexpr,
    MASKED: tl.constexpr, READS: tl.constexpr, KEEPS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr,
):  # fmt: skip
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    d, e = tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    at_z, in_z = d[None, :], (d < D)[None, :]
    if READS:
        dq += tile * part
    dk += tile * part
    if DECAY == "head" or DECAY == "feature":
        dalpha += tile * part_alpha
    if WEIGHS:
        dbeta += tile * part_gate
    scratch += bh * C * D * V
    room += tile * part_z + bh * D
    dS = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((1, BD), tl.float32)
    dz = tl.zeros((1, BD), tl.float32)
    if NORMALIZER != "none":
        scratch_z += tile * part_z * C + bh * C * D
    if STATE_OUT:
        dS = tl.load(dS_out + bh * D * V + at_S, mask=in_S, other=0.0)
        if NORMALIZER != "none":
            # What comes in from outside is no tile's part, so the first takes it.
            dz = tl.load(dz_out + bh * D + at_z, mask=in_z & (tile == 0), other=0.0)
    chunks = (T + C - 1) // C
    for n in tl.range(0, chunks, disable_licm=True):
        chunk = bh * chunks + chunks - 1 - n
        start = (chunks - 1 - n) * C
        tokens = tl.minimum(C, T - start)
        S = tl.load(kept + chunk * D * V + at_S, mask=in_S, other=0.0)
        if NORMALIZER != "none":
            z = tl.load(kept_z + chunk * D + at_z, mask=in_z, other=0.0)
        for i in tl.range(0, tokens, disable_licm=True):
            tl.store(scratch + i * D * V + at_S, S, mask=in_S)
            if NORMALIZER != "none":
                tl.store(scratch_z + i * D + at_z, z, mask=in_z)
            row = (bh // H * T + start + i) * H + bh % H
            counts = token_counts(mask, bh // H * T + start + i, MASKED)
            P = token_features(k, row, counts, projection, K, D, BK, BD, MAP, SCALE)
            values = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
            g, b = token_gates(alpha, beta, row, counts, d, D, DECAY, WEIGHS)
            u, _, _ = written(S, z, P, values, g, b, CORRECTS, NORMALIZER)
            S = decayed(S, g, DECAY) + tl.trans(P) * u[None, :]
            z = next_z(z, P, g, b, NORMALIZER)
            if CLIPS:
                S = S / kept_clip(clips + row)[0]
        # What one thread wrote another may read, and the other way round in the next chunk.
        tl.debug_barrier()
        for n_after in tl.range(0, tokens, disable_licm=True):
            i = tokens - 1 - n_after
            row = (bh // H * T + start + i) * H + bh % H
            counts = token_counts(mask, bh // H * T + start + i, MASKED)
            S = tl.load(scratch + i * D * V + at_S, mask=in_S, other=0.0)
            if NORMALIZER != "none":
                z = tl.load(scratch_z + i * D + at_z, mask=in_z, other=0.0)
            P = token_features(k, row, counts, projection, K, D, BK, BD, MAP, SCALE)
            values = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
            g, b = token_gates(alpha, beta, row, counts, d, D, DECAY, WEIGHS)
            u, found, r = written(S, z, P, values, g, b, CORRECTS, NORMALIZER)
            clip, clipped = 1.0, False
            if CLIPS:
                clip, clipped = kept_clip(clips + row)
            if READS:
                Q = token_features(q, row, True, projection, K, D, BK, BD, QUERY_MAP, SCALE)
                dy = tl.load(do + row * V + e, mask=e < V, other=0.0).to(tl.float32)
                if CLIPS or NORMALIZER != "none":
                    y = (tl.sum(S * tl.trans(g * Q), 0) + tl.sum(P * Q) * u) / clip
                if CLIPS:
                    normal, factor = layer_normalized(y, e, V)
                    dy = dy - tl.sum(dy) / V - normal * (tl.sum(dy * normal) / V)
                    dy = tl.where(e < V, dy * factor, 0.0)
                if NORMALIZER != "none":
                    after = next_z(z, P, g, b, NORMALIZER)
                    seen = tl.sum(after * Q) + EPSILON
                    dy = dy / seen
                    dseen = -tl.sum(dy * y) / seen
                dQ = (g * tl.sum(S * dy[None, :], 1)[None, :] + P * tl.sum(u * dy)) / clip
                if NORMALIZER != "none":
                    dQ += dseen * after
                    dz += dseen * Q
                dS += tl.trans(Q) * dy[None, :]
                token_gradient(dQ, q, row, dq, room, projection, K, D, BK, BD, QUERY_MAP, SCALE)
            along = tl.sum(dS * tl.trans(P), 0)
            du = along / clip
            # The gradient of what was found is −w.
            w = b * du
            if CLIPS:
                a = (tl.sum(dS * S) + tl.sum(along * u)) / clip / clip / clip
                a = tl.where(clipped, a, 0.0)
                du -= a * (found + tl.sum(P * P) * u)
                w = a * u + b * du
            if WEIGHS:
                db = tl.sum(du * (values - found))
                if NORMALIZER == "same-law":
                    db += tl.sum(dz * P)
            through_writing = dS * (u / clip)[None, :]
            dS = dS / clip
            if CORRECTS:
                if NORMALIZER == "sum":
                    ds = r * tl.sum(w * found)
                    w = r * w
                through_writing -= decayed(S, g, DECAY) * w[None, :]
                dS -= tl.trans(P) * w[None, :]
            dP = tl.sum(through_writing, 1)[None, :]
            if CLIPS:
                dP -= P * (a * tl.sum(u * u))
                dS -= a * S
            if NORMALIZER == "same-law":
                dP += b * dz
            if NORMALIZER == "sum":
                dP += dz
                if CORRECTS:
                    dP += ds * z
                    dz += ds * P
            dP = tl.where(counts, dP, 0.0)
            token_gradient(dP, k, row, dk, room, projection, K, D, BK, BD, MAP, SCALE)
            dv_row = tl.where(counts, b * du, 0.0)
            tl.store(dv + row * V + e, cast(dv_row, dv.dtype.element_ty), mask=e < V)
            if DECAY != "none":
                dg = tl.sum(dS * S, 1)[None, :]
                if NORMALIZER == "same-law":
                    dg += dz * z
                    dz = g * dz
                dS = decayed(dS, g, DECAY)
                if DECAY == "feature":
                    tl.store(dalpha + row * D + at_z, tl.where(counts, dg, 0.0), mask=in_z)
                if DECAY == "head":
                    tl.store(dalpha + row, tl.where(counts, tl.sum(dg), 0.0))
                if DECAY == "beta":
                    db -= tl.sum(dg)
            if WEIGHS:
                tl.store(dbeta + row, tl.where(counts, db, 0.0))
        tl.debug_barrier()
    if STATE_IN:
        tl.store(dS_in + bh * D * V + at_S, dS, mask=in_S)
        if NORMALIZER != "none":
            tl.store(dz_in + tile * part_z + bh * D + at_z, dz, mask=in_z)


@triton.jit
def kept_clip(clip):
    """c, and whether the state was clipped: kept is 0 where it was not, for c may be just 1."""
    c = tl.load(clip)
    return tl.where(c > 0, c, 1.0), c > 0
