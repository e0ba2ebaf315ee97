"""The recurrent kernel: one token after the other, the state of a head in registers.

    S ← γS + k' uᵀ      k' = norm(φ(k)), q' = norm(φ(q))
    γ: 1, α, diag(α) or 1 − β       u: v, β v or, corrected, β (v − r γSᵀk')
    o = Sᵀq', divided by z·q' + ε where the normalisation divides

z follows by the same law as one more column of ones, or is the sum of all keys, and then r = 1 /
(z·k' + ε) before the write. fwm clips, S ← S / max(‖S‖, 1), after each write but the first, and
layer-normalises what it reads: its block has all value columns, every other rule's a tile of them.
For a backward pass the state before every C-th token is kept, and where fwm clipped.
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
    written,
)
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=(*SIZES, "C"))
def fwp_recurrent_forward(
    q, k, v, alpha, beta, projection, mask, S_in, z_in, o, clips, kept, kept_z, S_out, z_out,
    T, H, C,
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
    for t in tl.range(0, T, disable_licm=True):
        if KEEPS:  # noqa: SIM102 (known when it is compiled; t is not)
            if t % C == 0:
                chunk = bh * ((T + C - 1) // C) + t // C
                tl.store(kept + chunk * D * V + at_S, S, mask=in_S)
                if NORMALIZER != "none":
                    tl.store(kept_z + chunk * D + at_z, z, mask=in_z & (tile == 0))
        row = (bh // H * T + t) * H + bh % H
        counts = token_counts(mask, bh // H * T + t, MASKED)
        P = token_features(k, row, counts, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + row * V + e, mask=e < V, other=0.0).to(tl.float32)
        g, b = token_gates(alpha, beta, row, counts, d, D, DECAY, WEIGHS)
        first = True
        if CLIPS:
            first = tl.max(tl.abs(S)) == 0
        u, _, _ = written(S, z, P, values, g, b, CORRECTS, NORMALIZER)
        S = decayed(S, g, DECAY) + tl.trans(P) * u[None, :]
        z = next_z(z, P, g, b, NORMALIZER)
        if CLIPS:
            norm2 = tl.sum(S * S)
            clipped = counts & (norm2 >= 1) & (first == 0)
            clip = tl.where(clipped, tl.sqrt(norm2), 1.0)
            S = S / clip
            if KEEPS:
                tl.store(clips + row, tl.where(clipped, clip, 0.0))
        if READS:
            Q = token_features(q, row, True, projection, K, D, BK, BD, QUERY_MAP, SCALE)
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
