"""The backward kernels for a wide φ: as reverse_sweep.py, tile by tile of features.

What is read, and what a rule that corrects finds, are one formula of q or k:
    R = γ X S + tril(Γ∘XK'ᵀ) U     N = γ X z + Σ tril(Γ∘XK'ᵀ)     X = Q', or K' and tril(…, −1)
So a token's own part of its gradient, with dR and dN given and Y = Γ∘tril(dR Uᵀ + dN), is
    dX = Y K' + γ (dR Sᵀ + dN zᵀ)
for q in one kernel and for k in another, where dR = −r λ, λ the gradient of V. Each does all chunks
at once, from the states that the forward kernel kept; of the rule sum, which keeps none, one after
the other. What later tokens give to k and v, and λ, need the gradient of the state, dS:
    dU = Γ_C∘K'dS + tril(Γ∘Q'K'ᵀ)ᵀ dO     λ = β μ     μ = (I + diag(β) G)⁻ᵀ dU     dβ = μ·E
    dK' = Γ_C∘U dSᵀ + Yᵀ Q'        dS ← γ_C dS + (γ Q')ᵀ dO − (r γ K')ᵀ λ
in one sweep from the last chunk to the first (wide_forward.py has G and E); the same Yᵀ K' of what
was found goes with that kernel's dX. The gradient through the normalisation needs dX·X over all
features before any tile of dX can go on, so dX is computed in two passes where φ is scaled. A tile
of the state goes back to memory before the gradient of x takes its registers: the other way round,
some spilled.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.backward import output_gradient
from fwpbench.implementations.triton_kernels.chunk import (
    between,
    decay_before,
    decays,
    last_of,
    summed_before,
    through_decay,
)
from fwpbench.implementations.triton_kernels.feature_tiles import (
    feature_tile,
    gradient_tile,
    shared,
    store_gathered,
)
from fwpbench.implementations.triton_kernels.products import cast, product
from fwpbench.implementations.triton_kernels.sizes import SIZES
from fwpbench.implementations.triton_kernels.state_tiles import read_tile, write_tile


@triton.jit(do_not_specialize=SIZES)
def fwp_wide_backward_kv(
    q, k, v, alpha, beta, projection, S_kept, z, o, y, A_kept, E_kept, r_kept, do, dS, dz,
    dk, dv, dalpha, dbeta, T, H, part, part_gate, part_z, part_dz,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """dS, dz: the gradients of the state after, and in their place those of the state before."""
    bh, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    dk += tile.to(tl.int64) * part
    dS += bh * D * V
    if DIVIDES:
        dz += tile.to(tl.int64) * part_dz + bh * D
        if DECAYS or GATED:
            z += tile.to(tl.int64) * part_z
    if DECAYS:
        dalpha += tile.to(tl.int64) * part_gate
    if GATED or CORRECTS:
        dbeta += tile.to(tl.int64) * part_gate
    chunks = (T + C - 1) // C
    for n in tl.range(0, chunks, disable_licm=True):
        t = (chunks - 1 - n) * C
        slot = bh * chunks + chunks - 1 - n
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        q_off, q_s = shared(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
        k_off, k_s = shared(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
        ones, U = written(v, beta, E_kept, rows, at_v, live, in_v, GATED, CORRECTS)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        lower = c[:, None] >= c[None, :]
        dscores = product(dN, tl.trans(U), DOT)
        if DIVIDES:
            dscores += dy[:, None] * ones[None, :]
        if DECAYS or GATED:
            gamma, since, later = decays(alpha, beta, rows, live, t, T, H, C, GATED)
            left, across = tl.cumprod(later, 0, reverse=True), last_of(since, C)
            dscores = dscores * gamma
        dscores = tl.where(lower, dscores, 0.0)
        dU = tl.zeros((C, BV), tl.float32)
        scores = tl.zeros((C, C), tl.float32)
        dones = tl.zeros((C,), tl.float32)
        along = tl.zeros((C,), tl.float32)
        dacross = 0.0
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            dS_d = read_tile(dS, d, e, D, V)
            dU += product(P, dS_d, DOT)
            scores += product(Q, tl.trans(P), DOT)
            dz_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                dz_d = tl.load(dz + d, mask=d < D, other=0.0)
                dones += tl.sum(P * dz_d[None, :], 1)
            if DECAYS or GATED:
                dacross += tl.sum(read_tile(S_kept + slot * D * V, d, e, D, V) * dS_d)
                if DIVIDES:
                    z_d = tl.load(z + slot * D + d, mask=d < D, other=0.0)
                    dacross += tl.sum(z_d * dz_d)
            if SCALE != "none":
                dP = product(U, tl.trans(dS_d), DOT)
                if DIVIDES:
                    dP += ones[:, None] * dz_d[None, :]
                if DECAYS or GATED:
                    dP = left[:, None] * dP
                dP += product(tl.trans(dscores), Q, DOT)
                along += tl.sum(dP * P, 1)
        if DECAYS or GATED:
            dleft = tl.sum(U * dU, 1)
            if DIVIDES:
                dleft += ones * dones
            a = decay_before(alpha, beta, rows, live, H, C, GATED)
            da = left * summed_before(a, dleft, dacross, C)
            if DECAYS:
                tl.store(dalpha + rows, da, mask=live)
            dU, dones, scores = left[:, None] * dU, left * dones, scores * gamma
        scores = tl.where(lower, scores, 0.0)
        dU += product(tl.trans(scores), dN, DOT)
        if GATED:
            values = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
            db = tl.sum(dU * values, 1) - da
            if DIVIDES:
                db += dones + tl.sum(dy[:, None] * scores, 0)
            tl.store(dbeta + rows, db, mask=live)
            dU = ones[:, None] * dU
        if CORRECTS:
            b = tl.load(beta + rows, mask=live, other=0.0)
            A = tl.load(A_kept + rows[:, None] * C + c[None, :], mask=live[:, None], other=0.0)
            E = tl.load(E_kept + at_v, mask=in_v, other=0.0)
            dU = product(tl.trans(A), dU, DOT)
            tl.store(dbeta + rows, tl.sum(dU * E, 1), mask=live)
            dU = b[:, None] * dU
        tl.store(dv + at_v, cast(dU, dv.dtype.element_ty), mask=in_v)
        if CORRECTS:
            dF, dmet = found_gradient(dU, v, E_kept, r_kept, rows, at_v, live, in_v, DIVIDES)
        gathered = tl.zeros((C, BK), tl.float32)
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            Q = feature_tile(
                q, rows, live, d, q_off, q_s, projection, K, D, BK, BD, QUERY_MAP, SCALE
            )
            dS_d = read_tile(dS, d, e, D, V)
            dP = product(U, tl.trans(dS_d), DOT)
            dz_d = tl.zeros((BD,), tl.float32)
            if DIVIDES:
                dz_d = tl.load(dz + d, mask=d < D, other=0.0)
                dP += ones[:, None] * dz_d[None, :]
            if DECAYS or GATED:
                dP = left[:, None] * dP
            dP += product(tl.trans(dscores), Q, DOT)
            if DECAYS or GATED:
                # On Q', not on dN: where no norm divides, dN is exact in the products' dtype.
                Q, dS_d, dz_d = since[:, None] * Q, across * dS_d, across * dz_d
            dS_d += product(tl.trans(Q), dN, DOT)
            if DIVIDES:
                dz_d += tl.sum(dy[:, None] * Q, 0)
            if CORRECTS:
                P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
                if DECAYS:
                    P = since[:, None] * P
                dS_d += product(tl.trans(P), dF, DOT)
                if DIVIDES:
                    dz_d += tl.sum(dmet[:, None] * P, 0)
            tl.debug_barrier()
            write_tile(dS, dS_d, d, e, D, V)
            if DIVIDES:
                tl.store(dz + d, dz_d, mask=d < D)
            gathered = gradient_tile(
                gathered, dP, along, k, rows, live, d, k_off, k_s, dk, projection,
                K, D, BK, BD, MAP, SCALE, DOT,
            )  # fmt: skip
        store_gathered(dk, gathered, rows, live, K, BK, MAP)
        tl.debug_barrier()


@triton.jit(do_not_specialize=SIZES)
def fwp_wide_backward_q(
    q, k, v, alpha, beta, projection, S_kept, z, o, y, E_kept, do, dq, dgate,
    T, H, part, part_gate, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """S_kept, z: the states kept; of the rule sum the one before, and in its place those after."""
    at, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    dq += tile.to(tl.int64) * part
    if DIVIDES:
        z += tile.to(tl.int64) * part_z
    if DECAYS or GATED:
        dgate += tile.to(tl.int64) * part_gate
    bh, begin, end = at, 0, T
    if DECAYS or GATED or CORRECTS:
        chunks = (T + C - 1) // C
        bh, begin = at // chunks, (at % chunks).to(tl.int32) * C
        end = begin + C
    for t in tl.range(begin, end, C, disable_licm=True):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        at_v = rows[:, None] * V + e[None, :]
        in_v = live[:, None] & (e < V)[None, :]
        ones, U = written(v, beta, E_kept, rows, at_v, live, in_v, GATED, CORRECTS)
        dN, dy = output_gradient(o, y, do, rows, at_v, live, in_v, DIVIDES)
        own_gradient(
            q, k, alpha, beta, projection, ones, U, dN, dy, S_kept + at * D * V, z,
            at * D, dq, dgate, rows, live, t, e, T, H,
            K, V, D, BK, BD, C, QUERY_MAP, MAP, SCALE, DIVIDES, DECAYS, GATED, CORRECTS, False, DOT,
        )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def fwp_wide_backward_found(
    k, v, alpha, beta, projection, S_kept, z, E_kept, r_kept, dv, dk, dgate,
    T, H, part, part_gate, part_z,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr, DECAYS: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """The part of dk that fwp_wide_backward_kv leaves, of the dv that it gives in float32."""
    at, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, e = tl.arange(0, C), tile * BV + tl.arange(0, BV)
    dk += tile.to(tl.int64) * part
    if DIVIDES:
        z += tile.to(tl.int64) * part_z
    if DECAYS:
        dgate += tile.to(tl.int64) * part_gate
    chunks = (T + C - 1) // C
    bh, t = at // chunks, (at % chunks).to(tl.int32) * C
    live = t + c < T
    rows = (bh // H * T + t + c) * H + bh % H
    at_v = rows[:, None] * V + e[None, :]
    in_v = live[:, None] & (e < V)[None, :]
    ones, U = written(v, beta, E_kept, rows, at_v, live, in_v, False, True)
    dV = tl.load(dv + at_v, mask=in_v, other=0.0)
    dF, dmet = found_gradient(dV, v, E_kept, r_kept, rows, at_v, live, in_v, DIVIDES)
    own_gradient(
        k, k, alpha, beta, projection, ones, U, dF, dmet, S_kept + at * D * V, z,
        at * D, dk, dgate, rows, live, t, e, T, H,
        K, V, D, BK, BD, C, MAP, MAP, SCALE, DIVIDES, DECAYS, False, True, True, DOT,
    )  # fmt: skip


@triton.jit
def written(
    v, beta, E_kept, rows, at_v, live, in_v, GATED: tl.constexpr, CORRECTS: tl.constexpr
):  # fmt: skip
    """What a token adds to the sum of keys, [C], and to the state, U [C, BV]: V, βV or βE."""
    ones = tl.full((rows.shape[0],), 1.0, tl.float32)
    if CORRECTS:
        U = tl.load(E_kept + at_v, mask=in_v, other=0.0)
    else:
        U = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32)
    if GATED or CORRECTS:
        b = tl.load(beta + rows, mask=live, other=0.0)
        U = b[:, None] * U
        if GATED:
            ones = b
    return ones, U


@triton.jit
def found_gradient(dV, v, E_kept, r_kept, rows, at_v, live, in_v, DIVIDES: tl.constexpr):
    """Of what is found, F with V − rF = E, and of the z·k that r divides by, in these columns."""
    dF = -dV
    dmet = tl.zeros((rows.shape[0],), tl.float32)
    if DIVIDES:
        r = tl.load(r_kept + rows, mask=live, other=0.0)
        E = tl.load(E_kept + at_v, mask=in_v, other=0.0)
        found = tl.load(v + at_v, mask=in_v, other=0.0).to(tl.float32) - E
        dmet = r * tl.sum(dV * found, 1)
        dF = r[:, None] * dF
    return dF, dmet


@triton.jit
def own_gradient(
    x, k, alpha, beta, projection, ones, U, dR, dN, S, z, at_z, dx, dgate,
    rows, live, t, e, T, H,
    K: tl.constexpr, V: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
    C: tl.constexpr, X_MAP: tl.constexpr, MAP: tl.constexpr, SCALE: tl.constexpr,
    DIVIDES: tl.constexpr, DECAYS: tl.constexpr, GATED: tl.constexpr, CORRECTS: tl.constexpr,
    FOUND: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Stores what dR [C, BV] and dN [C] give to x and to what decays: the part of each token itself
    and, of what is FOUND, where x is k, that of the keys too."""
    x_off, x_s = shared(x, rows, live, projection, K, D, BK, BD, X_MAP, SCALE)
    k_off, k_s = shared(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
    dscores = product(dR, tl.trans(U), DOT)
    if DIVIDES:
        dscores += dN[:, None] * ones[None, :]
    c = tl.arange(0, C)
    dscores = tl.where(c[:, None] > c[None, :] if FOUND else c[:, None] >= c[None, :], dscores, 0.0)
    onto = dscores
    if DECAYS or GATED:
        gamma, since, later = decays(alpha, beta, rows, live, t, T, H, C, GATED)
        onto = gamma * dscores
    if FOUND:
        onto += tl.trans(onto)
    along = tl.zeros((C,), tl.float32)
    if SCALE != "none" or DECAYS or GATED:
        scores = tl.zeros((C, C), tl.float32)
        dsince = tl.zeros((C,), tl.float32)
        for first in tl.range(0, D, BD, disable_licm=True):
            d = first + tl.arange(0, BD)
            X = feature_tile(x, rows, live, d, x_off, x_s, projection, K, D, BK, BD, X_MAP, SCALE)
            P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
            dX = product(dR, tl.trans(read_tile(S, d, e, D, V)), DOT)
            if DIVIDES:
                z_d = tl.load(z + at_z + d, mask=d < D, other=0.0)
                dX += dN[:, None] * z_d[None, :]
            if DECAYS or GATED:
                scores += product(X, tl.trans(P), DOT)
                dsince += tl.sum(dX * X, 1)
                dX = since[:, None] * dX
            if SCALE != "none":
                dX += product(onto, P, DOT)
                along += tl.sum(dX * X, 1)
        if DECAYS or GATED:
            a = decay_before(alpha, beta, rows, live, H, C, GATED)
            before, since_before = between(a, C, 1), tl.cumprod(a, 0)
            da = through_decay(dscores * scores, dsince, gamma, before, since_before, later, C)
            tl.store(dgate + rows, -da if GATED else da, mask=live)
    gathered = tl.zeros((C, BK), tl.float32)
    for first in tl.range(0, D, BD, disable_licm=True):
        d = first + tl.arange(0, BD)
        P = feature_tile(k, rows, live, d, k_off, k_s, projection, K, D, BK, BD, MAP, SCALE)
        S_d = read_tile(S, d, e, D, V)
        dX = product(dR, tl.trans(S_d), DOT)
        z_d = tl.zeros((BD,), tl.float32)
        if DIVIDES:
            z_d = tl.load(z + at_z + d, mask=d < D, other=0.0)
            dX += dN[:, None] * z_d[None, :]
        if DECAYS or GATED:
            dX = since[:, None] * dX
        dX += product(onto, P, DOT)
        if not (DECAYS or GATED or CORRECTS):
            S_d += product(tl.trans(P), U, DOT)
            tl.debug_barrier()
            write_tile(S, S_d, d, e, D, V)
            if DIVIDES:
                tl.store(z + at_z + d, z_d + tl.sum(P, 0), mask=d < D)
        gathered = gradient_tile(
            gathered, dX, along, x, rows, live, d, x_off, x_s, dx, projection,
            K, D, BK, BD, X_MAP, SCALE, DOT,
        )  # fmt: skip
    store_gathered(dx, gathered, rows, live, K, BK, X_MAP)
    tl.debug_barrier()
