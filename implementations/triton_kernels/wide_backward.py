"""The backward kernels for a wide φ: as backward.py, tile by tile of features.

The gradient through the normalisation needs dP·P over all features before any tile of dP can go on,
so dP is computed in two passes where φ is scaled, in one where it is not. A tile of the state goes
back to memory before the gradient of x takes its registers: the other way round, some spilled.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.backward import output_gradient
from fwpbench.implementations.triton_kernels.feature_tiles import (
    feature_tile,
    gradient_tile,
    shared,
    store_gathered,
)
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.state_tiles import read_tile, write_tile


@triton.jit
def fwp_wide_sum_backward_q(
    q, k, v, projection, S, z, o, y, do, dq, T, H, part, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """S, z: the state before; what stands there afterwards is of no use."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    dq += tile.to(tl.int64) * part
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
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        dA = product(dN, tl.trans(values), DOT)
        if DIVIDES:
            dA += dy[:, None]
        dA = tl.where(c[:, None] >= c[None, :], dA, 0.0)
        along = tl.zeros((C,), tl.float32)
        if SCALE != "none":
            for first in range(0, D, BD):
                d = first + tl.arange(0, BD)
                Q = feature_tile(
                    q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
                )
                P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
                S_d = read_tile(S, d, e, D, V)
                dQ = product(dA, P, DOT) + product(dN, tl.trans(S_d), DOT)
                if DIVIDES:
                    dQ += dy[:, None] * tl.load(z + d, mask=d < D, other=0.0)[None, :]
                along += tl.sum(dQ * Q, 1)
        gathered = tl.zeros((C, BK), tl.float32)
        for first in range(0, D, BD):
            d = first + tl.arange(0, BD)
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            S_d = read_tile(S, d, e, D, V)
            dQ = product(dA, P, DOT) + product(dN, tl.trans(S_d), DOT)
            z_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                z_d = tl.load(z + d, mask=d < D, other=0.0)
                dQ += dy[:, None] * z_d[None, :]
            S_d += product(tl.trans(P), values, DOT)
            tl.debug_barrier()
            write_tile(S, S_d, d, e, D, V)
            if DIVIDES:
                tl.store(z + d, z_d + tl.sum(P, 0), mask=d < D)
            gathered = gradient_tile(
                gathered, dQ, along, q, rows, live, d, q_off, q_s, dq, projection,
                K, D, BK, BD, QUERY_MAP, SCALE, DOT,
            )  # fmt: skip
        store_gathered(dq, gathered, rows, live, K, BK, QUERY_MAP)
        tl.debug_barrier()


@triton.jit
def fwp_wide_sum_backward_kv(
    q, k, v, projection, o, y, do, dS, dz, dk, dv, T, H, part, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """dS, dz: the gradients of the state after, and in their place those of the state before."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    dk += tile.to(tl.int64) * part
    dS += bh * D * V
    if DIVIDES:
        dz += tile.to(tl.int64) * part_z + bh * D
    chunks = (T + C - 1) // C
    for n in range(0, chunks):
        t = (chunks - 1 - n) * C
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        q_off, q_s = shared(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        k_off, k_s = shared(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        later = c[None, :] >= c[:, None]
        dA = product(values, tl.trans(dN), DOT)
        if DIVIDES:
            dA += dy[None, :]
        dA = tl.where(later, dA, 0.0)
        A = tl.zeros((C, C), tl.float32)
        dV = tl.zeros((C, BV), tl.float32)
        along = tl.zeros((C,), tl.float32)
        for first in range(0, D, BD):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            dS_d = read_tile(dS, d, e, D, V)
            A += product(P, tl.trans(Q), DOT)
            dV += product(P, dS_d, DOT)
            if SCALE != "none":
                dP = product(values, tl.trans(dS_d), DOT) + product(dA, Q, DOT)
                if DIVIDES:
                    dP += tl.load(dz + d, mask=d < D, other=0.0)[None, :]
                along += tl.sum(dP * P, 1)
        dV += product(tl.where(later, A, 0.0), dN, DOT)
        tl.store(dv + at_v, cast(dV, dv.dtype.element_ty), mask=in_v)
        gathered = tl.zeros((C, BK), tl.float32)
        for first in range(0, D, BD):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            dS_d = read_tile(dS, d, e, D, V)
            dP = product(values, tl.trans(dS_d), DOT) + product(dA, Q, DOT)
            dz_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                dz_d = tl.load(dz + d, mask=d < D, other=0.0)
                dP += dz_d[None, :]
            dS_d += product(tl.trans(Q), dN, DOT)
            tl.debug_barrier()
            write_tile(dS, dS_d, d, e, D, V)
            if DIVIDES:
                tl.store(dz + d, dz_d + tl.sum(Q * dy[:, None], 0), mask=d < D)
            gathered = gradient_tile(
                gathered, dP, along, k, rows, live, d, k_off, k_s, dk, projection,
                K, D, BK, BD, MAP, SCALE, DOT,
            )  # fmt: skip
        store_gathered(dk, gathered, rows, live, K, BK, MAP)
        tl.debug_barrier()
