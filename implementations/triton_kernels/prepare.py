"""What every chunk can prepare before any state is known: A and the scores, and sums of keys.

forward.py has the formulas. A of the delta rule with a norm that divides needs the sum of all keys
before the chunk, so that is found first (segment_scan.py adds up the sums of the chunks).
"""

from __future__ import annotations

import triton
import triton.language as tl

from fwpbench.implementations.triton_kernels.chunk import (
    between,
    decay_of,
    found_in_chunk,
    inverse,
    place_of,
    retrieval,
)
from fwpbench.implementations.triton_kernels.features import features
from fwpbench.implementations.triton_kernels.products import product
from fwpbench.implementations.triton_kernels.sizes import SIZES


@triton.jit(do_not_specialize=SIZES)
def fwp_key_sums(
    k, projection, z, T, H, L,
    K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """z [·, segments, D]: Σ K' of every segment of L tokens."""
    n = tl.program_id(0).to(tl.int64)
    bh, first, end = place_of(n, T, L)
    c, d = tl.arange(0, C), tl.arange(0, BD)
    sums = tl.zeros((BD,), tl.float32)
    for t in range(first, end, C):
        live = t + c < T
        rows = (bh // H * T + t + c) * H + bh % H
        sums += tl.sum(features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE), 0)
    tl.store(z + n * D + d, sums, mask=d < D)


@triton.jit(do_not_specialize=SIZES)
def fwp_chunk_prepare(
    q, k, alpha, beta, projection, z_begin, A_kept, scores_kept, T, H,
    K: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
    MAP: tl.constexpr, QUERY_MAP: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    DECAYS: tl.constexpr, DOT: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    """z_begin [·, chunks, D]: the sum of all keys before every chunk."""
    n = tl.program_id(0).to(tl.int64)
    bh, t, _ = place_of(n, T, C)
    c, d = tl.arange(0, C), tl.arange(0, BD)
    live = t + c < T
    rows = (bh // H * T + t + c) * H + bh % H
    at = rows[:, None] * C + c[None, :]
    P = features(k, rows, live, projection, K, D, BK, BD, MAP, SCALE)
    b = tl.load(beta + rows, mask=live, other=0.0)
    near = tl.where(c[:, None] > c[None, :], product(P, tl.trans(P), DOT), 0.0)
    gamma, r = 1.0, b
    if DECAYS:
        gamma = between(decay_of(alpha, beta, rows, live, False), C)
    if DIVIDES:
        r = retrieval(P, tl.load(z_begin + n * D + d, mask=d < D, other=0.0))
    A = inverse(b[:, None] * found_in_chunk(near, r, gamma, DECAYS, DIVIDES), C, SOLVE)
    tl.store(A_kept + at, A, mask=live[:, None])
    Q = features(q, rows, live, projection, K, D, BK, BD, QUERY_MAP, SCALE)
    scores = tl.where(c[:, None] >= c[None, :], product(Q, tl.trans(P), DOT), 0.0)
    tl.store(scores_kept + at, scores * gamma, mask=live[:, None])
