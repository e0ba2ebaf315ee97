// What the recurrent kernels that go back share: parts of gradients, by warps and by blocks.
//
// But for the clip all is linear in the value columns: each warp, and each block, gives its columns'
// part of dq', dk', dα, dβ and dz; warps are added up here, blocks afterwards.
#pragma once
#include "recurrent.cuh"

constexpr int AT_DKEYS = AFTER_ROOM;
constexpr int AT_DQUERIES = AT_DKEYS + WARPS * TOKENS * PADDED_D;
constexpr int AT_DDECAYS = AT_DQUERIES + (READS ? WARPS * TOKENS * PADDED_D : 0);
constexpr int AT_DGATES = AT_DDECAYS + (DECAY == Decay::feature ? WARPS * TOKENS * PADDED_D : 0);

//! Where a warp leaves its part of a token's row of features; that of the first holds the sum later.
__device__ inline Shared<float> part_of(int from, int warp, int i) {
  return at_float(from + (warp * TOKENS + i) * PADDED_D);
}

//! A number of a row of features, summed over the columns of the warp.
__device__ inline void leave(Shared<float> part, float x, int r, Place at) {
  x = sum_over_columns(x);
  if (at.lane % LANES == 0) part[at.d(r)] = x;
}

//! The sum over warps, in the part of the first: what a warp asks of a token whose parts all left.
__device__ inline Shared<float> summed(int from, int i) {
  Shared<float> total = part_of(from, 0, i);
  for (int d = threadIdx.x % 32; d < D; d += 32) {
    float sum = total[d];
    for (int warp = 1; warp < WARPS; warp++) sum += part_of(from, warp, i)[d];
    total[d] = sum;
  }
  return total;
}

//! The state's gradient as it comes in: of z nobody's part, so the first warp takes it.
__device__ inline void load_gradient(State& gradient, const float* dS, const float* dz, Index bh,
                                     Place at) {
  bool takes_z = dz && blockIdx.y == 0 && at.warp == 0;
  gradient.load(dS ? dS + bh * D * V : nullptr, takes_z ? dz + bh * D : nullptr, at);
}

//! And as it goes out. All threads of a head call it.
__device__ inline void save_gradient(const State& gradient, float* dS, float* dz, Index bh,
                                     Place at) {
  if (dS) gradient.save(dS + bh * D * V, at);
  if (NORMALIZER == Normalizer::none || !dz) return;
  sync_head();
  Shared<float> own = part_of(AT_DKEYS, at.warp, 0);
#pragma unroll
  for (int r = 0; r < ROWS; r++)
    if (at.lane % LANES == 0) own[at.d(r)] = gradient.z[r];
  sync_head();
  if (at.warp != 0) return;
  Shared<float> total = summed(AT_DKEYS, 0);
  for (int d = at.lane; d < D; d += 32) dz[bh * D + d] = total[d];
}
