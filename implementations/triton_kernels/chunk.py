"""What happens between the tokens of a chunk: how they decay, and what the delta rule corrects.

All of it is [C] or [C, C], in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.features import EPSILON
from fwpbench.implementations.triton_kernels.products import product


@triton.jit
def place_of(n, T, L):
    """Of segment n, all of a head one after the other: the head, and from where to where it is."""
    segments = (T + L - 1) // L
    first = (n % segments).to(tl.int32) * L
    return n // segments, first, tl.minimum(first + L, T)


@triton.jit
def decay_of(alpha, beta, rows, live, GATED: tl.constexpr):
    """α [C] as given, or 1 − β for the rule gated; 1 where a row is not `live`."""
    if GATED:
        a = 1.0 - tl.load(beta + rows, mask=live, other=0.0)
    else:
        a = tl.load(alpha + rows, mask=live, other=1.0)
    return a


@triton.jit
def between(a, C: tl.constexpr, LATE: tl.constexpr = 0):
    """Γ [C, C] = Π α over (j, i], 0 above the diagonal; of gates one LATE, α_{i − 1}, Γ[i − 1, j].

    Running products, not exponentials of differences of cumulative logarithms: gates of exactly 0
    need no case of their own, and where α is small the difference of two large sums would cancel.
    """
    c = tl.arange(0, C)
    i, j = c[:, None], c[None, :] + LATE
    products = tl.cumprod(tl.where(i > j, a[:, None], 1.0), 0)
    return tl.where(i >= j, products, 0.0)


@triton.jit
def decays(alpha, beta, rows, live, t, T, H, C: tl.constexpr, GATED: tl.constexpr):
    """Γ [C, C], γ [C] and α_{i + 1} [C], 1 for the last, of the chunk that begins at t."""
    c = tl.arange(0, C)
    a = decay_of(alpha, beta, rows, live, GATED)
    later = decay_of(alpha, beta, rows + H, (c + 1 < C) & (t + c + 1 < T), GATED)
    return between(a, C), tl.cumprod(a, 0), later


@triton.jit
def decay_before(alpha, beta, rows, live, H, C: tl.constexpr, GATED: tl.constexpr):
    """α_{i − 1} [C], 1 for the first of a chunk."""
    return decay_of(alpha, beta, rows - H, live & (tl.arange(0, C) > 0), GATED)


@triton.jit
def through_decay(M, dsince, gamma, gamma_before, since_before, later, C: tl.constexpr):
    """Σ_{i ≥ t > j} Γ[i, t] Γ[t − 1, j] M[i, j] for every t, and with γ and dγ as column 0 of Γ, M.

    `later` is α_{t + 1}. The sum over i is a scan of sum ← M + α·sum; as a product of matrices it
    spilled 0.6 to 2 KB of registers.
    """
    a = later[:, None] + tl.zeros((C, C), tl.float32)
    sums = tl.associative_scan((a, M), 0, _joined, reverse=True)[1]
    return tl.sum(gamma_before * sums, 1) + since_before * tl.sum(gamma * dsince[:, None], 0)


@triton.jit
def summed_before(a, x, first, C: tl.constexpr):
    """s_t = α_{t−1} s_{t−1} + x_{t−1}, [C], from s_0 = `first`; `a` is α_{t−1}."""
    c = tl.arange(0, C)
    earlier = tl.sum(tl.where(c[:, None] == c[None, :] + 1, x[None, :], 0.0), 1)
    earlier = tl.where(c == 0, first, earlier)
    return tl.associative_scan((a, earlier), 0, _joined)[1]


@triton.jit
def _joined(a, sum, b, M):
    return a * b, b * sum + M


@triton.jit
def last_of(x, C: tl.constexpr):
    """x[C − 1] of a [C]."""
    return tl.sum(tl.where(tl.arange(0, C) == C - 1, x, 0.0), 0)


@triton.jit
def inverse(N, C: tl.constexpr, SOLVE: tl.constexpr):
    """(I + N)⁻¹ [C, C] of N strictly lower triangular.

    By blocks of 1, 2, 4 … rows: [[L₁, 0], [N₂₁, L₂]]⁻¹ = [[A₁, 0], [−A₂ N₂₁ A₁, A₂]]. As many
    products as (I − N)(I + N²)(I + N⁴) …, whose powers overflow where keys are alike and β = 2:
    there this errs by 1e-6 of A for C = 16 and 1e-5 for C = 64, in float32.
    """
    c = tl.arange(0, C)
    i, j = c[:, None], c[None, :]
    A = tl.where(i == j, 1.0, 0.0) - tl.where(i // 2 == j // 2, N, 0.0)
    for level in tl.static_range(1, 8):
        rows = 2**level
        if rows < C:
            below = (i // (2 * rows) == j // (2 * rows)) & (i // rows > j // rows)
            A -= product(A, product(tl.where(below, N, 0.0), A, SOLVE), SOLVE)
    return A


@triton.jit
def retrieval(P, z):
    """r [C] = 1 / (z_{i−1}·k_i + ε), z the sum of all keys so far."""
    before = z[None, :] + tl.cumsum(P, 0) - P
    return 1.0 / (tl.sum(P * before, 1) + EPSILON)


@triton.jit
def found_in_state(far, P, z, b, since, DECAYS: tl.constexpr, DIVIDES: tl.constexpr):
    """What the delta rule takes off the values, of `far` = P S; and r, which is b where it is 1."""
    found, r = far, b
    if DECAYS:
        found = since[:, None] * far
    if DIVIDES:
        r = retrieval(P, z)
        found = r[:, None] * far
    return found, r


@triton.jit
def found_in_chunk(near, r, gamma, DECAYS: tl.constexpr, DIVIDES: tl.constexpr):
    """The same of `near` = tril(P Pᵀ, −1), with which it is what A inverts."""
    gram = near
    if DECAYS:
        gram = gamma * near
    if DIVIDES:
        gram = r[:, None] * near
    return gram
