"""The backward kernels of the rules that decay or correct.

S at each chunk's start was kept by the forward kernel, and A, which is far smaller; what else the
chunk had is computed anew (forward.py has the formulas). With W = β(V − r γ K'S), U = A W, L = A⁻¹
and dN, dy as in backward.py, the gradients, dS and dz being those of the state after the chunk:
    dQ' = tril(Γ∘dN Uᵀ) K' + γ dN Sᵀ
    dU = tril(Γ∘Q'K'ᵀ)ᵀ dN + Γ_C∘K'dS      dW = Aᵀ dU      dL = −tril(dW Uᵀ, −1)
    dV = β dW      dβ = dW·(V − r γ K'S) + Σ_j dL∘r Γ∘K'K'ᵀ
    dK' = tril(Γ∘dN Uᵀ)ᵀ Q' + Γ_C∘U dSᵀ − β r γ dW Sᵀ + (G + Gᵀ) K'      G = dL∘β r Γ
    dS ← γ_C dS + (γ Q')ᵀ dN − (β r γ K')ᵀ dW
Where the norm divides, z is one more column: with dN = dy, U = 1 (β for gated) and the same decay;
for the delta rule the sum of keys, which r depends on too: d(z·k) = −r² dr.
With M the gradient of Γ, and Γ's borders for the state that enters and the state that leaves,
    dα_t = Σ_{i ≥ t > j} Γ[i, t] Γ[t−1, j] M[i, j]
which divides by no α, so α may be 0. As in backward.py all is linear in the value columns; and the
queries' part needs nothing of later chunks, so one kernel does all chunks at once, and the other
sweeps from the last to the first. Both in one needed twice the registers. Segments of L tokens are
as in forward.py: ALONE, the sweep gives what a segment adds to dS and dz, and no gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.backward import output_gradient
from fwpbench.implementations.triton_kernels.chunk import (
    between,
    decay_of,
    found_in_chunk,
    found_in_state,
    last_of,
    place_of,
    through_decay,
)
from fwpbench.implementations.triton_kernels.features import features, gradient
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=SIZES)
def fwp_chunk_backward_q(
    q, k, v, alpha, beta, projection, S_kept, z_kept, A_kept, o, y, do,
    dq, dgate, T, H, part, part_gate,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    chunks = (T + C - 1) // C
    # The chunk that `at` counts: all of a head one after the other.
    at, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, t = at // chunks, at % chunks * C
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    lower = c[:, None] >= c[None, :]
    live = t + c < T
    rows = (bh // H * T + t + c) * H + bh % H
    at_v = rows[:, None] * V + e[None, :]
    in_v = live[:, None] & (e < V)[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    at_S = d[:, None] * V + e[None, :]
    S = tl.load(S_kept + at * D * V + at_S, mask=in_S, other=0.0).to(tl.float32)
    z = tl.zeros((BD,), tl.float32)
    if DIVIDES:
        z = tl.load(z_kept + at * D + d, mask=d < D, other=0.0)
    P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
    U = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
    gamma, since = 1.0, 1.0
    if DECAYS or GATED:
        a = decay_of(alpha, beta, rows, live, GATED)
        gamma, since = between(a, C), tl.cumprod(a, 0)
    if GATED or CORRECTS:
        b = tl.load(beta + rows, mask=live, other=0.0)
    if CORRECTS:
        A = tl.load(A_kept + rows[:, None] * C + c[None, :], mask=live[:, None], other=0.0)
        found = product(P, S, DOT)
        found = found_in_state(found, P, z, b, since, DECAYS, DIVIDES)[0]
        U = product(A, b[:, None] * (U - found), DOT)
    elif GATED:
        U = b[:, None] * U
    dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
    dQ = product(dN, tl.trans(S), DOT)
    dscores = product(dN, tl.trans(U), DOT)
    if DIVIDES:
        dQ += dy[:, None] * z[None, :]
        if GATED:
            dscores += dy[:, None] * b[None, :]
        else:
            dscores += dy[:, None]
    dscores = tl.where(lower, dscores, 0.0)
    if DECAYS or GATED:
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        M, dsince = dscores * product(Q, tl.trans(P), DOT), tl.sum(dQ * Q, 1)
        later = decay_of(alpha, beta, rows + H, live & (c + 1 < C) & (t + c + 1 < T), GATED)
        # One token before: Γ[t − 1, j] and γ_{t − 1}.
        a = decay_of(alpha, beta, rows - H, live & (c > 0), GATED)
        da = through_decay(M, dsince, gamma, between(a, C, 1), tl.cumprod(a, 0), later, C)
        if GATED:
            da = -da
        tl.store(dgate + tile.to(tl.int64) * part_gate + rows, da, mask=live)
        dscores, dQ = dscores * gamma, since[:, None] * dQ
    dQ += product(dscores, P, DOT)
    dq += tile.to(tl.int64) * part
    gradient(dQ, q, rows, live, dq, projection, K, D, BK, BD, QUERY_MAP, SCALE, DOT)


@triton.jit(do_not_specialize=SIZES)
def fwp_chunk_backward_kv(
    q, k, v, alpha, beta, projection, S_kept, z_kept, A_kept, o, y, do, dS_out, dz_out,
    dk, dv, dalpha, dbeta, dS_in, dz_in, T, H, L, part, part_gate, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr,
    STATE_IN: tl.constexpr, STATE_OUT: tl.constexpr, ALONE: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    segment, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bh, first, end = place_of(segment, T, L)
    c, d, e = tl.arange(0, C), tl.arange(0, BD), tile * BV + tl.arange(0, BV)
    if not ALONE:
        dk += tile.to(tl.int64) * part
        if DECAYS:
            dalpha += tile.to(tl.int64) * part_gate
        if GATED or CORRECTS:
            dbeta += tile.to(tl.int64) * part_gate
    at_S = d[:, None] * V + e[None, :]
    in_S = (d < D)[:, None] & (e < V)[None, :]
    lower, below = c[:, None] >= c[None, :], c[:, None] > c[None, :]
    dS = tl.zeros((BD, BV), tl.float32)
    dz = tl.zeros((BD,), tl.float32)
    if STATE_OUT:
        dS = tl.load(dS_out + segment * D * V + at_S, mask=in_S, other=0.0)
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
        at = bh * ((T + C - 1) // C) + t // C
        S = tl.load(S_kept + at * D * V + at_S, mask=in_S, other=0.0).to(tl.float32)
        z = tl.zeros((BD,), tl.float32)
        if DIVIDES:
            z = tl.load(z_kept + at * D + d, mask=d < D, other=0.0)
        P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
        gamma, since = 1.0, 1.0
        if DECAYS or GATED:
            a = decay_of(alpha, beta, rows, live, GATED)
            gamma, since = between(a, C), tl.cumprod(a, 0)
            later = decay_of(alpha, beta, rows + H, live & (c + 1 < C) & (t + c + 1 < T), GATED)
            left, across = tl.cumprod(later, 0, reverse=True), last_of(since, C)
        if GATED or CORRECTS:
            b = tl.load(beta + rows, mask=live, other=0.0)
        U = values
        if CORRECTS:
            A = tl.load(A_kept + rows[:, None] * C + c[None, :], mask=live[:, None], other=0.0)
            far = product(P, S, DOT)
            near = tl.where(below, product(P, tl.trans(P), DOT), 0.0)
            found, r = found_in_state(far, P, z, b, since, DECAYS, DIVIDES)
            gram = found_in_chunk(near, r, gamma, DECAYS, DIVIDES)
            U = product(A, b[:, None] * (values - found), DOT)
        elif GATED:
            U = b[:, None] * values

        # Through the state and what was read.
        dP = product(U, tl.trans(dS), DOT)
        if DIVIDES:
            ones = tl.full((C,), 1.0, tl.float32)
            if GATED:
                ones = b
                dones = left * tl.sum(P * dz[None, :], 1)
            dP += ones[:, None] * dz[None, :]
        if DECAYS or GATED:
            dleft, dacross = tl.sum(dP * P, 1), tl.sum(S * dS)
            if DIVIDES:
                dacross += tl.sum(z * dz)
            # One token before: Γ[t − 1, j] and γ_{t − 1}.
            a = decay_of(alpha, beta, rows - H, live & (c > 0), GATED)
            gamma_before, since_before = between(a, C, 1), tl.cumprod(a, 0)
            da = left * (tl.sum(dleft[None, :] * gamma_before, 1) + dacross * since_before)
            dP = left[:, None] * dP
        dU = product(P, dS, DOT)
        if DECAYS or GATED:
            dU = left[:, None] * dU
        Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        scores = tl.where(lower, product(Q, tl.trans(P), DOT), 0.0)
        dscores = product(dN, tl.trans(U), DOT)
        if DIVIDES:
            dscores += dy[:, None] * ones[None, :]
        dscores = tl.where(lower, dscores, 0.0)
        if DECAYS or GATED:
            scores, dscores = scores * gamma, dscores * gamma
        dP += product(tl.trans(dscores), Q, DOT)
        dU += product(tl.trans(scores), dN, DOT)
        if GATED:
            db = tl.sum(dU * values, 1) - da
            if DIVIDES:
                db += dones + tl.sum(dy[:, None] * scores, 0)

        # Of the state, which nothing below needs as it was after the chunk.
        if DECAYS or GATED:
            # On Q', not on dN: where no norm divides, dN is exact in the products' dtype.
            Q, dS, dz = since[:, None] * Q, across * dS, across * dz
        if DIVIDES:
            dz += tl.sum(dy[:, None] * Q, 0)
        dS += product(tl.trans(Q), dN, DOT)

        # Through what was found.
        dV = dU
        if GATED:
            dV = b[:, None] * dU
        if CORRECTS:
            dW = product(tl.trans(A), dU, DOT)
            dV = b[:, None] * dW
            dL = -tl.where(below, product(dW, tl.trans(U), DOT), 0.0)
            inside = tl.sum(dL * gram, 1)
            db = inside + tl.sum(dW * (values - found), 1)
            dgram, dfound = b[:, None] * dL, -dV
            if DECAYS:
                dsince = tl.sum(dfound * far, 1)
                da += through_decay(
                    dgram * near, dsince, gamma, gamma_before, since_before, later, C
                )
                dgram, dfound = dgram * gamma, since[:, None] * dfound
            if DIVIDES:
                dseen = -r * (b * inside + tl.sum(dfound * found, 1))
                dgram, dfound = r[:, None] * dgram, r[:, None] * dfound
                dgram += tl.where(below, dseen[:, None], 0.0)
                dP += dseen[:, None] * z[None, :]
                dz += tl.sum(dseen[:, None] * P, 0)
            dP += product(dfound, tl.trans(S), DOT) + product(dgram + tl.trans(dgram), P, DOT)
            dS += product(tl.trans(P), dfound, DOT)
        if not ALONE:
            tl.store(dv + at_v, cast(dV, dv.dtype.element_ty), mask=in_v)
            gradient(dP, k, rows, live, dk, projection, K, D, BK, BD, MAP, SCALE, DOT)
            if DECAYS:
                tl.store(dalpha + rows, da, mask=live)
            if GATED or CORRECTS:
                tl.store(dbeta + rows, db, mask=live)
    if STATE_IN:
        tl.store(dS_in + segment * D * V + at_S, dS, mask=in_S)
        if DIVIDES and dz_in is not None:
            at_z = tile.to(tl.int64) * part_z + segment * D + d
            tl.store(dz_in + at_z, dz, mask=d < D)
