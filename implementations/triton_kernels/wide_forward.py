"""The forward kernel for a wide φ: as forward.py, tile by tile of features.

A += Q'_d K'_dᵀ    O += Q'_d S_d    S_d ← S_d + K'_dᵀ V    for every tile d;  O += tril(A) V
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.feature_tiles import feature_tile, shared
from fwpbench.implementations.triton_kernels.features import EPSILON
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.state_tiles import read_tile, write_tile


@triton.jit
def fwp_wide_sum_forward(
    q, k, v, projection, S, z, o, y, T, H, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """S, z: the state before, and in its place the state after; z once per tile of columns."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    S += bh * D * V
    if DIVIDES:
        z += tile.to(tl.int64) * part_z + bh * D
    for t in range(0, T, C):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        q_off, q_s = shared(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        k_off, k_s = shared(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        A = tl.zeros((C, C), tl.float32)
        read = tl.zeros((C, BV), tl.float32)
        seen = tl.zeros((C,), tl.float32)
        for first in range(0, D, BD):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            S_d = read_tile(S, d, e, D, V)
            A += product(Q, tl.trans(P), DOT)
            read += product(Q, S_d, DOT)
            S_d += product(tl.trans(P), values, DOT)
            z_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                z_d = tl.load(z + d, mask=d < D, other=0.0)
                seen += tl.sum(Q * z_d[None, :], 1)
            tl.debug_barrier()
            write_tile(S, S_d, d, e, D, V)
            if DIVIDES:
                tl.store(z + d, z_d + tl.sum(P, 0), mask=d < D)
        A = tl.where(c[:, None] >= c[None, :], A, 0.0)
        read += product(A, values, DOT)
        if DIVIDES:
            seen += tl.sum(A, 1) + EPSILON
            read = read / seen[:, None]
            tl.store(y + rows, seen, mask=live & (tile == 0))
        tl.store(o + at_v, cast(read, o.dtype.element_ty), mask=in_v)
        tl.debug_barrier()
