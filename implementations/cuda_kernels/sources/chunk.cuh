// What the kernels of whole chunks do between the C tokens of one: how they decay, and what the delta
// rule corrects.
//
// All functions are called by all threads of a head; barriers are the caller's, but for `solve`.
// Rows of tokens beyond the last are zeros in K', Q' and β, and ones in what decays.
#pragma once
#include "features.cuh"
#include "heads.cuh"
#include "products.cuh"

constexpr bool DECAYS = DECAY == Decay::head || DECAY == Decay::beta;
constexpr bool DIVIDES = NORMALIZER != Normalizer::none;
//! r = 1 / (z·k + ε) of the delta rule, whose z does not decay.
constexpr bool RETRIEVES = CORRECTS && DIVIDES;
static_assert(!RETRIEVES || !DECAYS);
//! From row to row of a tile of so many columns: neighbouring rows lie in different banks.
__device__ constexpr int padded(int columns) { return columns + 4; }

//! Tokens `first` to `first + tokens` of a head.
struct Chunk {
  Index b, h, T, H, first;
  int tokens;

  __device__ Chunk(Index bh, Index number, Index T, Index H)
      : b(bh / H), h(bh % H), T(T), H(H), first(number * C),
        tokens(int(T - first < C ? T - first : C)) {}
  __device__ Index row(int i) const { return (b * T + first + i) * H + h; }
  __device__ bool live(int i) const { return i < tokens; }
};

__device__ inline float decay_of(const Chunk& chunk, const float* alpha, const float* beta, int i) {
  if (!chunk.live(i)) return 1.f;
  return DECAY == Decay::beta ? 1.f - beta[chunk.row(i)] : alpha[chunk.row(i)];
}

//! Γ[i, j] = Π γ over (j, i], 0 above the diagonal; Γ[i, C] = γ_0 … γ_i, the decay since the chunk began.
//!
//! Running products, not exponentials of differences: gates of exactly 0 need no case of their own, and
//! where γ is small the difference of two large sums of logarithms would cancel.
__device__ inline void between(const Chunk& chunk, const float* alpha, const float* beta, Matrix gamma) {
  for (int j = threadIdx.x; j <= C; j += THREADS) {
    float product = j == C ? 1.f : 0.f;
#pragma unroll 8
    for (int i = 0; i < C; i++) {
      product *= decay_of(chunk, alpha, beta, i);
      if (i == j) product = 1.f;
      gamma.at[i * gamma.ld + j] = product;
    }
  }
}

//! P ← the features of a chunk's tokens, one row each; `row_room` has K numbers a warp.
template <Map MAP, class At>
__device__ void features_of(const Chunk& chunk, const Number* x, const float* projection,
                            Shared<float> row_room, MatrixAt<At> P) {
  int warp = threadIdx.x / 32;
  for (int i = warp; i < C; i += WARPS) {
    At row = P.at + i * P.ld;
    if (chunk.live(i))
      features<MAP>(x + chunk.row(i) * K, projection, row_room + warp * K, row);
    else
      for (int d = threadIdx.x % 32; d < PADDED_D; d += 32) row[d] = 0.f;
  }
}

//! into(i, P_i · z) for the rows of a chunk that the same warp has just written.
template <class At, class Into>
__device__ void along_z(MatrixAt<At> P, Shared<float> z, const Into& into) {
  __syncwarp();
  for (int i = threadIdx.x / 32; i < C; i += WARPS) {
    float sum = 0.f;
    for (int d = threadIdx.x % 32; d < D; d += 32) sum += P(i, d) * float(z[d]);
    sum = sum_over_warp(sum);
    if (threadIdx.x % 32 == 0) into(i, sum);
  }
}

//! U ← (I + N)⁻¹ U, or (I + Nᵀ)⁻¹ U, for N strictly lower triangular: n(i, j) gives its numbers.
//!
//! By blocks of 16 rows, in float32: what is below a block in products, what is within it row by row, a
//! thread a column. Begins and ends with a barrier.
template <int COLUMNS, bool TRANSPOSED = false, class N>
__device__ void solve(const N& n, Matrix U) {
  constexpr int BLOCKS = C / 16;
  auto at = [&](int i, int j) -> float { return TRANSPOSED ? n(j, i) : n(i, j); };
#pragma unroll 1
  for (int step = 0; step < BLOCKS; step++) {
    int block = TRANSPOSED ? BLOCKS - 1 - step : step, first = 16 * block;
    sync_head();
    if (step > 0) {
      each_tile<16, COLUMNS>([&](auto& tile) {
#pragma unroll 1
        for (int done = 0; done < step; done++) {
          int from = 16 * (TRANSPOSED ? BLOCKS - 1 - done : done);
          tile.template add<Precision::fp32, 16>(
              [&](int i, int j) { return at(first + i, from + j); },
              [&](int i, int j) { return U(from + i, j); });
        }
        tile.each([&](int i, int j, float x) { U.at[(first + i) * U.ld + j] += -x; });
      });
      sync_head();
    }
    for (int e = threadIdx.x; e < COLUMNS; e += THREADS) {
      float u[16];
#pragma unroll
      for (int i = 0; i < 16; i++) u[i] = U(first + i, e);
#pragma unroll
      for (int i = 0; i < 16; i++) {
#pragma unroll
        for (int j = 0; j < i; j++) {
          int from = TRANSPOSED ? 15 - j : j, to = TRANSPOSED ? 15 - i : i;
          u[to] -= at(first + to, first + from) * u[from];
        }
      }
#pragma unroll
      for (int i = 0; i < 16; i++) U.at[(first + i) * U.ld + e] = u[i];
    }
  }
  sync_head();
}
