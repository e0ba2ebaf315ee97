// One token of the recurrent kernels: the state of a head in registers, and what a token does to it.
//
//     S ← γS + k' uᵀ      u = v, βv or, corrected, β (v − r γSᵀk')
//     z ← γz + βk', or z + k'
//
// A head has BV value columns in a block, and all its D rows. A thread has COLUMNS columns beside
// each other and every GROUPS-th row; a warp LANES such threads beside each other and GROUPS below.
// So warps share no column, and only the clip and the layer normalisation of fwm make them wait for
// each other inside a token.
#pragma once
#include "features.cuh"
#include "heads.cuh"

constexpr int LANES = 32 / GROUPS;
constexpr int ROWS = PADDED_D / GROUPS;
constexpr int BV = WARPS * LANES * COLUMNS;

struct Place {
  int warp, lane, group, column;  //!< the first of its columns in the head
  __device__ Place()
      : warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        group(lane / LANES),
        column(blockIdx.y * BV + (warp * LANES + lane % LANES) * COLUMNS) {}
  __device__ int d(int r) const { return group + GROUPS * r; }
  __device__ int e(int c) const { return column + c; }
};

__device__ inline float sum_over_rows(float x) { return sum_over_lanes<LANES, 32>(x); }
__device__ inline float sum_over_columns(float x) { return sum_over_lanes<1, LANES>(x); }

//! Summed over the warps of a head; `room` has a number for each. All its threads call it.
__device__ inline float sum_over_head(float x, Shared<float> room) {
  x = sum_over_warp(x);
  sync_head();
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  sync_head();
  float sum = 0.f;
  for (int warp = 0; warp < WARPS; warp++) sum += room[warp];
  return sum;
}

struct State {
  float S[ROWS][COLUMNS];
  float z[ROWS];

  //! From memory [D, V] and [D]; zeros where there is none.
  __device__ void load(const float* S_in, const float* z_in, Place at) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      bool inside = at.d(r) < D;
#pragma unroll
      for (int c = 0; c < COLUMNS; c++)
        S[r][c] = S_in && inside && at.e(c) < V ? S_in[at.d(r) * V + at.e(c)] : 0.f;
      z[r] = z_in && inside ? z_in[at.d(r)] : 0.f;
    }
  }
  __device__ void save(float* S_out, Place at) const {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int c = 0; c < COLUMNS; c++)
        if (at.d(r) < D && at.e(c) < V) S_out[at.d(r) * V + at.e(c)] = S[r][c];
  }
  __device__ void save_z(float* z_out, Place at) const {
    if (at.lane % LANES) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
      if (at.d(r) < D) z_out[at.d(r)] = z[r];
  }
};

//! What one token brings, in the registers of each thread: its rows and its columns of it.
struct Token {
  bool counts;  //!< one that does not has k' = 0, β = 0, γ = 1, and clips nothing
  float beta, head_decay;
  const float* decays;  //!< a feature each, from memory when it is needed: registers are dear
  int group;
  float P[ROWS], values[COLUMNS];

  __device__ Token(const Number* v, const float* alpha, const float* gate, const unsigned char* mask,
                   Index row, Index at_token, Shared<float> key, Place at) {
    counts = !MASKED || mask[at_token];
    beta = WEIGHS ? (counts ? gate[row] : 0.f) : 1.f;
    head_decay = 1.f;
    decays = DECAY == Decay::feature ? alpha + row * D : nullptr;
    group = at.group;
    if constexpr (DECAY == Decay::head) head_decay = counts ? alpha[row] : 1.f;
    if constexpr (DECAY == Decay::beta) head_decay = 1.f - beta;
#pragma unroll
    for (int r = 0; r < ROWS; r++) P[r] = key[at.d(r)];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
      values[c] = at.e(c) < V ? to_float(v[row * V + at.e(c)]) : 0.f;
  }
  __device__ float gamma(int r) const {
    if constexpr (DECAY == Decay::feature) {
      int d = group + GROUPS * r;
      return counts && d < D ? decays[d] : 1.f;
    }
    return head_decay;
  }
};

//! What a token writes: u, what it corrects, f = r γSᵀk', and r.
struct Write {
  float u[COLUMNS], found[COLUMNS], r;

  __device__ Write(const State& state, const Token& token) {
    r = 1.f;
    if constexpr (CORRECTS && NORMALIZER == Normalizer::sum) {
      float seen = 0.f;
#pragma unroll
      for (int i = 0; i < ROWS; i++) seen += state.z[i] * token.P[i];
      r = 1.f / (sum_over_rows(seen) + EPSILON);
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      found[c] = 0.f;
      if constexpr (CORRECTS) {
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < ROWS; i++) sum += state.S[i][c] * (token.gamma(i) * token.P[i]);
        found[c] = sum_over_rows(sum) * r;
      }
      u[c] = token.beta * (token.values[c] - found[c]);
    }
  }
};

//! z after the token, in row r.
__device__ inline float next_z(const State& state, const Token& token, int r) {
  if constexpr (NORMALIZER == Normalizer::same_law)
    return token.gamma(r) * state.z[r] + token.beta * token.P[r];
  if constexpr (NORMALIZER == Normalizer::sum) return state.z[r] + token.P[r];
  return state.z[r];
}

__device__ inline void apply(State& state, const Token& token, const Write& write) {
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
      state.S[r][c] = token.gamma(r) * state.S[r][c] + token.P[r] * write.u[c];
    state.z[r] = next_z(state, token, r);
  }
}

//! (y − mean) / σ over the V columns of the head, and 1 / σ; 0 beyond them.
__device__ inline float layer_normalized(float (&y)[COLUMNS], Place at, Shared<float> room) {
  float sum = 0.f, squares = 0.f;
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) sum += at.group == 0 && at.e(c) < V ? y[c] : 0.f;
  float mean = sum_over_head(sum, room) / V;
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) {
    y[c] = at.e(c) < V ? y[c] - mean : 0.f;
    squares += at.group == 0 ? y[c] * y[c] : 0.f;
  }
  float factor = 1.f / sqrtf(sum_over_head(squares, room) / V + VARIANCE_EPSILON);
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) y[c] *= factor;
  return factor;
}

// Shared memory of a head, in floats: k' and q' of TOKENS tokens, room for a token's x a warp, and a
// number a warp.
constexpr int AT_KEYS = 0;
constexpr int AT_QUERIES = AT_KEYS + TOKENS * PADDED_D;
constexpr int AT_ROWS = AT_QUERIES + TOKENS * PADDED_D;
constexpr int AT_ROOM = AT_ROWS + WARPS * K;
constexpr int AFTER_ROOM = AT_ROOM + WARPS;

//! A head's tokens: where they lie, and their features.
struct Head {
  const Number *q, *k;
  const float* projection;
  const unsigned char* mask;
  Index T, H, b, h;

  __device__ Index token(Index t) const { return b * T + t; }
  __device__ Index row(Index t) const { return token(t) * H + h; }
  __device__ bool counts(Index t) const { return !MASKED || mask[token(t)]; }

  //! k' and q' of so many tokens, or one of the two, a warp each. All threads of it call this.
  __device__ void prepare(Index from, int tokens, bool keys, bool queries, Place at) const {
    Shared<float> x = at_float(AT_ROWS + at.warp * K);
    sync_head();
    for (int job = (keys ? 0 : tokens) + at.warp; job < (queries ? 2 : 1) * tokens; job += WARPS) {
      int i = job % tokens;
      Index t = from + i;
      if (job < tokens) {
        Shared<float> key = at_float(AT_KEYS + i * PADDED_D);
        features<KEY_MAP>(k + row(t) * K, projection, x, key);
        if (!counts(t))
          for (int d = at.lane; d < D; d += 32) key[d] = 0.f;
      } else {
        features<QUERY_MAP>(q + row(t) * K, projection, x, at_float(AT_QUERIES + i * PADDED_D));
      }
    }
    sync_head();
  }
};
