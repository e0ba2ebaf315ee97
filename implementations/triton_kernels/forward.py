"""The forward kernel: one block a (batch, head, tile of value columns), its state in registers.

Q' = norm(φ(Q)), K' = norm(φ(K))
O = Q'S + tril(Q'K'ᵀ) V        S ← S + K'ᵀV
y = Q'z + rowsum tril(Q'K'ᵀ)   z ← z + Σ K'       O ← O / (y + ε)  where the norm divides
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import EPSILON, features
from fwpbench.implementations.triton_kernels.products import cast, product


@triton.jit
def fwp_sum_forward(
    q, k, v, projection, S_in, z_in, o, y, S_out, z_out, T, H,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = bh * D * V + d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if STATE_IN:
        S = tl.load(S_in + at_S, mask=in_S, other=0.0)
        if DIVIDES:
            z = tl.load(z_in + bh * D + d, mask=d < D, other=0.0)
    for t in range(0, T, C):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        A = tl.where(c[:, None] >= c[None, :], product(Q, tl.trans(P), DOT), 0.0)
        read = product(Q, S, DOT) + product(A, values, DOT)
        if DIVIDES:
            seen = tl.sum(Q * z[None, :], 1) + tl.sum(A, 1) + EPSILON
            read = read / seen[:, None]
            tl.store(y + rows, seen, mask=live & (tile == 0))
            z += tl.sum(P, 0)
        tl.store(o + at_v, cast(read, o.dtype.element_ty), mask=in_v)
        S += product(tl.trans(P), values, DOT)
    if STATE_OUT:
        tl.store(S_out + at_S, S, mask=in_S)
        if DIVIDES:
            tl.store(z_out + bh * D + d, z, mask=(d < D) & (tile == 0))
