"""The forward kernel: one block a (batch, head, tile of value columns), its state in registers.

Q' = norm(φ(Q)), K' = norm(φ(K)); γ the decay since the chunk began, Γ that between two tokens:
    U = A diag(β) (V − diag(r∘γ) K'S)     A = (I + tril(diag(β∘r) (Γ∘K'K'ᵀ), −1))⁻¹
    O = diag(γ) Q'S + tril(Γ∘Q'K'ᵀ) U     S ← γ_C S + (Γ_C∘K')ᵀ U
    y = the same of z and a column of ones   O ← O / (y + ε)     where the norm divides
Rules that do not correct what they find have U = V or βV; without decay Γ = 1; and r = 1, but with
the delta rule and a norm that divides, 1 / (z·k + ε), where z is the sum of keys.
(fwpbench.operators.chunk_form: Yang et al. 2024b, section 3.)
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.chunk import (
    between,
    decay_of,
    found_in_chunk,
    found_in_state,
    inverse,
    last_of,
)
from fwpbench.implementations.triton_kernels.features import EPSILON, features
from fwpbench.implementations.triton_kernels.products import cast, product


@triton.jit
def fwp_chunk_forward(
    q, k, v, alpha, beta, projection, S_in, z_in, o, y, S_out, z_out, S_kept, z_kept, A_kept, T, H,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr, KEEPS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    in_z = (d < D) & (tile == 0)
    chunks = (T + C - 1) // C
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if STATE_IN:
        S = tl.load(S_in + bh * D * V + at_S, mask=in_S, other=0.0)
        if DIVIDES:
            z = tl.load(z_in + bh * D + d, mask=d < D, other=0.0)
    for t in tl.range(0, T, C, disable_licm=True):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        if KEEPS:
            at = bh * chunks + t // C
            tl.store(S_kept + at * D * V + at_S, S, mask=in_S)
            if DIVIDES:
                tl.store(z_kept + at * D + d, z, mask=in_z)
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        U = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        if DECAYS or GATED:
            a = decay_of(alpha, beta, rows, live, GATED)
            gamma, since = between(a, C), tl.cumprod(a, 0)
            later = decay_of(alpha, beta, rows + H, live & (c + 1 < C) & (t + c + 1 < T), GATED)
            left, across = tl.cumprod(later, 0, reverse=True), last_of(since, C)
        else:
            gamma, since = 1.0, 1.0
        if GATED or CORRECTS:
            b = tl.load(beta + rows, mask=live, other=0.0)
        if CORRECTS:
            # The widest product first: Triton splits what is chained among the warps as it splits
            # the first, and of a square of C they would split the rows, fewer than they are.
            found = product(P, S, DOT)
            near = tl.where(c[:, None] > c[None, :], product(P, tl.trans(P), DOT), 0.0)
            found, r = found_in_state(found, P, z, b, since, DECAYS, DIVIDES)
            gram = found_in_chunk(near, r, gamma, DECAYS, DIVIDES)
            A = inverse(b[:, None] * gram, C, SOLVE)
            if KEEPS:
                in_A = live[:, None] & (tile == 0)
                tl.store(A_kept + rows[:, None] * C + c[None, :], A, mask=in_A)
            U = product(A, b[:, None] * (U - found), DOT)
        elif GATED:
            U = b[:, None] * U
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        read = product(Q, S, DOT)
        scores = tl.where(c[:, None] >= c[None, :], product(Q, tl.trans(P), DOT), 0.0)
        if DECAYS or GATED:
            scores, read = scores * gamma, since[:, None] * read
        read += product(scores, U, DOT)
        if DIVIDES:
            seen = tl.sum(Q * z[None, :], 1)
        if DECAYS or GATED:
            P, S = left[:, None] * P, across * S
        if DIVIDES:
            ones = tl.full((C,), 1.0, tl.float32)
            if GATED:
                ones = b
            if DECAYS or GATED:
                seen, z = since * seen, across * z
            seen += tl.sum(scores * ones[None, :], 1) + EPSILON
            read = read / seen[:, None]
            tl.store(y + rows, seen, mask=live & (tile == 0))
            z += tl.sum(ones[:, None] * P, 0)
        tl.store(o + at_v, cast(read, o.dtype.element_ty), mask=in_v)
        S += product(tl.trans(P), U, DOT)
    if STATE_OUT:
        tl.store(S_out + bh * D * V + at_S, S, mask=in_S)
        if DIVIDES:
            tl.store(z_out + bh * D + d, z, mask=in_z)
