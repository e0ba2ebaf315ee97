"""The backward kernels of the rule sum: two sweeps, each with one state in registers.

With dN = dO / y and dy = −Σ dN∘O, the gradients of what was divided and of what it was divided by:
    forwards:   dA = tril(dN Vᵀ + dy)   dQ' = dA K' + dN Sᵀ + dy zᵀ
    backwards:  dK' = dAᵀ Q' + V dSᵀ + dz   dV = tril(Q'K'ᵀ)ᵀ dN + K' dS
                dS ← dS + Q'ᵀ dN   dz ← dz + Q'ᵀ dy
All of it is linear in the value columns: each tile of them gives its part of dq, dk and dz, and the
parts are added up afterwards. φ is computed anew. Segments of L tokens are as in forward.py: ALONE,
the backwards sweep gives what a segment adds to dS and dz, and no gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.chunk import place_of
from fwpbench.implementations.triton_kernels.features import features, gradient
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=SIZES)
def fwp_sum_backward_q(
    q, k, v, projection, S_in, z_in, o, y, do, dq, T, H, L, part,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    segment, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, first, end = place_of(segment, T, L)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    dq += tile.to(tl.int64) * part
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if STATE_IN:
        in_S = (d < D)[:, None] & (e < V)[None, :]
        S = tl.load(S_in + segment * D * V + d[:, None] * V + e[None, :], mask=in_S, other=0.0)
        if DIVIDES:
            z = tl.load(z_in + segment * D + d, mask=d < D, other=0.0)
    for t in tl.range(first, end, C, disable_licm=True):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        dA = product(dN, tl.trans(values), DOT)
        dQ = product(dN, tl.trans(S), DOT)
        if DIVIDES:
            dA += dy[:, None]
            dQ += dy[:, None] * z[None, :]
            z += tl.sum(P, 0)
        dA = tl.where(c[:, None] >= c[None, :], dA, 0.0)
        dQ += product(dA, P, DOT)
        gradient(dQ, q, rows, live, dq, projection, K, D, BK, BD, QUERY_MAP, SCALE, DOT)
        S += product(tl.trans(P), values, DOT)


@triton.jit(do_not_specialize=SIZES)
def fwp_sum_backward_kv(
    q, k, v, projection, o, y, do, dS_out, dz_out, dk, dv, dS_in, dz_in, T, H, L, part, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, ALONE: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    segment, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, first, end = place_of(segment, T, L)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    if not ALONE:
        dk += tile.to(tl.int64) * part
    at_S = segment * D * V + d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    dS = tl.zeros((BD, BV), tl.float32)
    dz = tl.zeros((BD,), tl.float32)
    if STATE_OUT:
        dS = tl.load(dS_out + at_S, mask=in_S, other=0.0)
        if DIVIDES:
            # What comes in from outside is no tile's part, so the first takes it.
            dz = tl.load(dz_out + segment * D + d, mask=(d < D) & (tile == 0), other=0.0)
    chunks = (end - first + C - 1) // C
    for n in tl.range(0, chunks, disable_licm=True):
        t = first + (chunks - 1 - n) * C
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        later = c[None, :] >= c[:, None]
        A = tl.where(later, product(P, tl.trans(Q), DOT), 0.0)
        dV = product(A, dN, DOT) + product(P, dS, DOT)
        if not ALONE:
            tl.store(dv + at_v, cast(dV, dv.dtype.element_ty), mask=in_v)
        dA = product(values, tl.trans(dN), DOT)
        dP = product(values, tl.trans(dS), DOT)
        if DIVIDES:
            dA += dy[None, :]
            dP += dz[None, :]
            dz += tl.sum(Q * dy[:, None], 0)
        dP += product(tl.where(later, dA, 0.0), Q, DOT)
        if not ALONE:
            gradient(dP, k, rows, live, dk, projection, K, D, BK, BD, MAP, SCALE, DOT)
        dS += product(tl.trans(Q), dN, DOT)
    if STATE_IN:
        tl.store(dS_in + at_S, dS, mask=in_S)
        if DIVIDES:
            at_z = tile.to(tl.int64) * part_z + segment * D + d
            tl.store(dz_in + at_z, dz, mask=d < D)


@triton.jit
def output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES: tl.constexpr):
    """dN [C, BV], and dy [C] of these value columns."""
    dN = tl.load(do + at_v, mask=in_v, other=0.0).to(tl.float32)
    dy = tl.sum(dN, 1)
    if DIVIDES:
        dN = dN / tl.load(y + rows, mask=live, other=1.0)[:, None]
        dy = -tl.sum(dN * tl.load(o + at_v, mask=in_v, other=0.0).to(tl.float32), 1)
    return dN, dy
