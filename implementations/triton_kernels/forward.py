"""The forward kernel: a block a (batch, head, segment, tile of value columns), state in registers.

Q' = norm(φ(Q)), K' = norm(φ(K)); γ the decay since the chunk began, Γ that between two tokens:
    U = A diag(β) (V − diag(r∘γ) K'S)     A = (I + tril(diag(β∘r) (Γ∘K'K'ᵀ), −1))⁻¹
    O = diag(γ) Q'S + tril(Γ∘Q'K'ᵀ) U     S ← γ_C S + (Γ_C∘K')ᵀ U
    y = the same of z and a column of ones   O ← O / (y + ε)     where the norm divides
Rules that do not correct what they find have U = V or βV; without decay Γ = 1; and r = 1, but with
the delta rule and a norm that divides, 1 / (z·k + ε), where z is the sum of keys.
(fwpbench.operators.chunk_form: Yang et al. 2024b, section 3.)

A segment is L tokens, for the plan `fused` all of them. It begins from the state in S_in; or ALONE,
reading nothing, from 0, and then gives what it adds to a state and, as `passed`, by what it decays
the one that it finds. With a rule that corrects that is a matrix: of COLUMNS, those beyond V have
values of 0 and begin as the identity. PREPARED: A and the scores come from memory (prepare.py).
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
    place_of,
)
from fwpbench.implementations.triton_kernels.features import EPSILON, features
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=SIZES)
def fwp_chunk_forward(
    q, k, v, alpha, beta, projection, S_in, z_in, o, y, S_out, z_out, passed, S_kept, z_kept,
    A_kept, scores_kept, T, H, L,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr, COLUMNS: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr, KEEPS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, ALONE: tl.constexpr, PREPARED: tl.constexpr,
    DOT: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    # The segment that `n` counts: all of a head one after the other.
    n, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, first, end = place_of(n, T, L)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    at_S = d[:, None] * COLUMNS + e[None, :]
    in_S = (d < D)[:, None] & (e < COLUMNS)[None, :]
    in_z = (d < D) & (tile == 0)
    chunks = (T + C - 1) // C
    S = tl.zeros((BD, BV), tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if STATE_IN:
        # Alone too: what the delta rule finds depends on the keys before the segment.
        if DIVIDES:
            z = tl.load(z_in + n * D + d, mask=d < D, other=0.0)
        if not ALONE:
            S = tl.load(S_in + n * D * V + at_S, mask=in_S, other=0.0)
    if ALONE:
        if COLUMNS > V:
            S = tl.where(d[:, None] + V == e[None, :], 1.0, 0.0)
        decayed = tl.full((1,), 1.0, tl.float32)
    for t in tl.range(first, end, C, disable_licm=True):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        if KEEPS:
            at = bh * chunks + t // C
            tl.store(S_kept + at * D * V + at_S, cast(S, S_kept.dtype.element_ty), mask=in_S)
            if DIVIDES:
                tl.store(z_kept + at * D + d, z, mask=in_z)
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        U = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        if DECAYS or GATED:
            a = decay_of(alpha, beta, rows, live, GATED)
            gamma, since = 1.0, tl.cumprod(a, 0)
            if not PREPARED:
                gamma = between(a, C)
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
            found, r = found_in_state(found, P, z, b, since, DECAYS, DIVIDES)
            at_A = rows[:, None] * C + c[None, :]
            if PREPARED:
                A = tl.load(A_kept + at_A, mask=live[:, None], other=0.0)
            else:
                near = tl.where(c[:, None] > c[None, :], product(P, tl.trans(P), DOT), 0.0)
                gram = found_in_chunk(near, r, gamma, DECAYS, DIVIDES)
                A = inverse(b[:, None] * gram, C, SOLVE)
                if KEEPS:
                    tl.store(A_kept + at_A, A, mask=live[:, None] & (tile == 0))
            U = product(A, b[:, None] * (U - found), DOT)
        elif GATED:
            U = b[:, None] * U
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        read = product(Q, S, DOT)
        if PREPARED:
            at_A = rows[:, None] * C + c[None, :]
            scores = tl.load(scores_kept + at_A, mask=live[:, None], other=0.0)
        else:
            scores = tl.where(c[:, None] >= c[None, :], product(Q, tl.trans(P), DOT), 0.0)
        if DECAYS or GATED:
            scores, read = scores * gamma, since[:, None] * read
        read += product(scores, U, DOT)
        if DIVIDES:
            seen = tl.sum(Q * z[None, :], 1)
        if DECAYS or GATED:
            P, S = left[:, None] * P, across * S
            if ALONE:
                decayed *= across
        if DIVIDES:
            ones = tl.full((C,), 1.0, tl.float32)
            if GATED:
                ones = b
            if DECAYS or GATED:
                seen, z = since * seen, across * z
            seen += tl.sum(scores * ones[None, :], 1) + EPSILON
            read = read / seen[:, None]
            if not ALONE:
                tl.store(y + rows, seen, mask=live & (tile == 0))
            z += tl.sum(ones[:, None] * P, 0)
        # What nothing stores is not computed: alone, all of the queries.
        if not ALONE:
            tl.store(o + at_v, cast(read, o.dtype.element_ty), mask=in_v)
        S += product(tl.trans(P), U, DOT)
    if STATE_OUT:
        tl.store(S_out + n * D * COLUMNS + at_S, S, mask=in_S)
        if DIVIDES:
            tl.store(z_out + n * D + d, z, mask=in_z)
    if ALONE and (DECAYS or GATED) and not CORRECTS:
        tl.store(passed + n + tl.arange(0, 1), decayed, mask=tl.arange(0, 1) == tile)
