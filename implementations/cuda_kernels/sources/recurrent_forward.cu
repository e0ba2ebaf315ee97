// Token by token: decoding, masks, writing alone, and rules without a kernel of whole chunks. Where
// CAUSAL is false, all tokens are written, then each reads. What there is no room for is null.
#include "recurrent.cuh"

static_assert(FLOATS == AFTER_ROOM);

//! o of a token: what it reads of the state.
__device__ inline void read(const State& state, Shared<float> query, Number* o, Place at,
                            Shared<float> room) {
  float y[COLUMNS] = {}, seen = 0.f;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    float Q = query[at.d(r)];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) y[c] += state.S[r][c] * Q;
    seen += state.z[r] * Q;
  }
  if constexpr (NORMALIZER != Normalizer::none) seen = sum_over_rows(seen) + EPSILON;
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) {
    y[c] = sum_over_rows(y[c]);
    if constexpr (NORMALIZER != Normalizer::none) y[c] /= seen;
  }
  if constexpr (CLIPS) layer_normalized(y, at, room);
#pragma unroll
  for (int c = 0; c < COLUMNS; c++)
    if (at.group == 0 && at.e(c) < V) store(o + at.e(c), y[c]);
}

extern "C" __global__ void __launch_bounds__(HEADS * THREADS, 1)
cuda_fwp_recurrent_forward(const Number* q, const Number* k, const Number* v, const float* alpha,
                           const float* beta, const float* projection, const unsigned char* mask,
                           const float* S_in, const float* z_in, Number* o, float* clips, float* kept,
                           float* kept_z, float* S_out, float* z_out, Index T, Index H, Index BH,
                           Index C) {
  Index bh = this_head();
  if (HEADS > 1 && bh >= BH) return;
  Place at;
  Index chunks = CAUSAL ? (T + C - 1) / C : 1;
  Head head{q, k, projection, mask, T, H, bh / H, bh % H};
  Shared<float> room = at_float(AT_ROOM);
  bool saves_z = NORMALIZER != Normalizer::none && blockIdx.y == 0 && at.warp == 0;
  State state;
  state.load(S_in ? S_in + bh * D * V : nullptr, z_in ? z_in + bh * D : nullptr, at);
  auto keep = [&](Index chunk) {
    state.save(kept + (bh * chunks + chunk) * D * V, at);
    if (saves_z) state.save_z(kept_z + (bh * chunks + chunk) * D, at);
  };
  bool empty = true;  // whether S is zero, which fwm asks before a write
  if constexpr (CLIPS) {
    float entries = 0.f;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) entries += state.S[r][c] != 0.f ? 1.f : 0.f;
    empty = sum_over_head(entries, room) == 0.f;
  }
  for (Index first = 0; first < T; first += TOKENS) {
    int tokens = T - first < TOKENS ? int(T - first) : TOKENS;
    head.prepare(first, tokens, true, READS && CAUSAL, at);
    for (int i = 0; i < tokens; i++) {
      Index t = first + i, row = head.row(t);
      if (CAUSAL && kept && t % C == 0) keep(t / C);
      Token token(v, alpha, beta, mask, row, head.token(t), at_float(AT_KEYS + i * PADDED_D), at);
      Write write(state, token);
      apply(state, token, write);
      if constexpr (CLIPS) {
        float squares = 0.f, entries = 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) {
            squares += state.S[r][c] * state.S[r][c];
            entries += state.S[r][c] != 0.f ? 1.f : 0.f;
          }
        squares = sum_over_head(squares, room);
        bool clipped = token.counts && squares >= 1.f && !empty;
        float clip = clipped ? sqrtf(squares) : 1.f;
        empty = sum_over_head(entries, room) == 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) state.S[r][c] /= clip;
        if (clips && threadIdx.x == 0) clips[row] = clipped ? clip : 0.f;
      }
      if constexpr (READS && CAUSAL)
        read(state, at_float(AT_QUERIES + i * PADDED_D), o + row * V, at, room);
    }
  }
  if constexpr (!CAUSAL) {
    if (kept) keep(0);
    for (Index first = 0; READS && first < T; first += TOKENS) {
      int tokens = T - first < TOKENS ? int(T - first) : TOKENS;
      head.prepare(first, tokens, false, true, at);
      for (int i = 0; i < tokens; i++)
        read(state, at_float(AT_QUERIES + i * PADDED_D), o + head.row(first + i) * V, at, room);
    }
  }
  if (S_out) state.save(S_out + bh * D * V, at);
  if (z_out && saves_z) state.save_z(z_out + bh * D, at);
}
EXPORT(cuda_fwp_recurrent_forward)
