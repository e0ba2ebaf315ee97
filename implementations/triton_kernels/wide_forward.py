"""The forward kernel for a wide φ: as forward.py, tile by tile of features.

Where the rule corrects, a first pass over the tiles d finds what the state and the chunk hold:
    F += K'_d S_d    G += K'_d K'_dᵀ    E = (I + tril(r Γ∘G, −1) diag(β))⁻¹ (V − r γ F)    U = β E
and the pass that reads is the one that writes:
    R += Q'_d S_d    A += Q'_d K'_dᵀ    S_d ← γ_C S_d + (Γ_C∘K'_d)ᵀ U    O = γ R + tril(Γ∘A) U
E is what forward.py divides by β to have: the backward kernels take β's gradient from it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.chunk import decays, inverse, last_of
from fwpbench.implementations.triton_kernels.feature_tiles import feature_tile, shared
from fwpbench.implementations.triton_kernels.features import EPSILON
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES
from fwpbench.implementations.triton_kernels.state_tiles import read_tile, write_tile


@triton.jit(do_not_specialize=SIZES)
def fwp_wide_forward(
    q, k, v, alpha, beta, projection, S, z, o, y, S_kept, z_kept, A_kept, E_kept, r_kept, T, H,
    part_z, part_kept,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr, KEEPS: tl.constexpr,
    DOT: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    """S, z: the state before, and in its place the state after; z once per tile of columns. Where
    the kernel KEEPS, the state before each chunk besides, in as many bits as products take."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    chunks = (T + C - 1) // C
    if DIVIDES:
        z += tile.to(tl.int64) * part_z
        if KEEPS:
            z_kept += tile.to(tl.int64) * part_kept
    for t in tl.range(0, T, C, disable_licm=True):
        at = bh * chunks + t // C
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        k_off, k_s = shared(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        if CORRECTS:
            found = tl.zeros((C, BV), tl.float32)
            gram = tl.zeros((C, C), tl.float32)
            met = tl.zeros((C,), tl.float32)
            for first in tl.range(0, D, BD, disable_licm=True):
                d = first + tl.arange(0, BD)
                P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
                found += product(P, read_tile(S + bh * D * V, d, e, D, V), DOT)
                gram += product(P, tl.trans(P), DOT)
                if DIVIDES:
                    z_d = tl.load(z + bh * D + d, mask=d < D, other=0.0)
                    met += tl.sum(P * (z_d[None, :] + tl.cumsum(P, 0) - P), 1)
        U = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        if DECAYS or GATED:
            gamma, since, later = decays(alpha, beta, rows, live, t, T, H, C, GATED)
            left, across = tl.cumprod(later, 0, reverse=True), last_of(since, C)
        if GATED or CORRECTS:
            b = tl.load(beta + rows, mask=live, other=0.0)
        if CORRECTS:
            gram = tl.where(c[:, None] > c[None, :], gram, 0.0)
            if DECAYS:
                found, gram = since[:, None] * found, gamma * gram
            if DIVIDES:
                r = 1.0 / (met + EPSILON)
                found, gram = r[:, None] * found, r[:, None] * gram
                if KEEPS:
                    tl.store(r_kept + rows, r, mask=live & (tile == 0))
            A = inverse(gram * b[None, :], C, SOLVE)
            U = product(A, U - found, DOT)
            if KEEPS:
                tl.store(E_kept + at_v, U, mask=in_v)
                # (I + βG)⁻¹ of (I + Gβ)⁻¹: the gradient of E is to be had without dividing by β too
                one = tl.where(c[:, None] == c[None, :], 1.0, 0.0)
                A = one - b[:, None] * product(A, gram, SOLVE)
                in_A = live[:, None] & (tile == 0)
                tl.store(A_kept + rows[:, None] * C + c[None, :], A, mask=in_A)
        if GATED or CORRECTS:
            U = b[:, None] * U
        q_off, q_s = shared(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        read = tl.zeros((C, BV), tl.float32)
        scores = tl.zeros((C, C), tl.float32)
        seen = tl.zeros((C,), tl.float32)
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            S_d = read_tile(S + bh * D * V, d, e, D, V)
            if KEEPS:
                write_tile(S_kept + at * D * V, S_d, d, e, D, V)
            scores += product(Q, tl.trans(P), DOT)
            read += product(Q, S_d, DOT)
            if DECAYS or GATED:
                P, S_d = left[:, None] * P, across * S_d
            S_d += product(tl.trans(P), U, DOT)
            z_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                z_d = tl.load(z + bh * D + d, mask=d < D, other=0.0)
                if KEEPS:
                    tl.store(z_kept + at * D + d, z_d, mask=d < D)
                seen += tl.sum(Q * z_d[None, :], 1)
                if GATED:
                    P = b[:, None] * P
                if DECAYS or GATED:
                    z_d = across * z_d
            tl.debug_barrier()
            write_tile(S + bh * D * V, S_d, d, e, D, V)
            if DIVIDES:
                tl.store(z + bh * D + d, z_d + tl.sum(P, 0), mask=d < D)
        scores = tl.where(c[:, None] >= c[None, :], scores, 0.0)
        if DECAYS or GATED:
            scores, read = scores * gamma, since[:, None] * read
        read += product(scores, U, DOT)
        if DIVIDES:
            if DECAYS or GATED:
                seen = since * seen
            if GATED:
                scores = scores * b[None, :]
            seen += tl.sum(scores, 1) + EPSILON
            read = read / seen[:, None]
            tl.store(y + rows, seen, mask=live & (tile == 0))
        tl.store(o + at_v, cast(read, o.dtype.element_ty), mask=in_v)
        tl.debug_barrier()
