// Token by token: decoding, masks, writing alone, and rules without a kernel of whole chunks.
#include "recurrent.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 1)
fwp_recurrent_forward(const Number* q, const Number* k, const Number* v, const float* alpha,
                      const float* beta, const float* projection, const unsigned char* mask,
                      const float* S_in, const float* z_in, Number* o, float* clips, float* kept,
                      float* kept_z, float* S_out, float* z_out, Index T, Index H, Index C) {
  Place at;
  Index bh = blockIdx.x, b = bh / H, h = bh % H, chunks = (T + C - 1) / C;
  Shared<float> room = at_float(AT_ROOM), row_room = at_float(AT_ROWS + at.warp * K);
  State state;
  state.load(STATE_IN ? S_in + bh * D * V : nullptr,
             STATE_IN && NORMALIZER != Normalizer::none ? z_in + bh * D : nullptr, at);
  bool empty = true;  // whether S is zero, which fwm asks before a write
  if constexpr (CLIPS) {
    float entries = 0.f;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) entries += state.S[r][c] != 0.f ? 1.f : 0.f;
    empty = sum_over_block(entries, room) == 0.f;
  }
  for (Index first = 0; first < T; first += TOKENS) {
    int tokens = T - first < TOKENS ? int(T - first) : TOKENS;
    __syncthreads();
    for (int job = at.warp; job < (READS ? 2 : 1) * tokens; job += WARPS) {
      int i = job % tokens;
      Index at_token = b * T + first + i, row = at_token * H + h;
      if (job < tokens) {
        Shared<float> key = at_float(AT_KEYS + i * PADDED_D);
        features<KEY_MAP>(k + row * K, projection, row_room, key);
        if (MASKED && !mask[at_token])
          for (int d = at.lane; d < D; d += 32) key[d] = 0.f;
      } else {
        features<QUERY_MAP>(q + row * K, projection, row_room, at_float(AT_QUERIES + i * PADDED_D));
      }
    }
    __syncthreads();
    for (int i = 0; i < tokens; i++) {
      Index t = first + i, at_token = b * T + t, row = at_token * H + h;
      if (KEEPS && t % C == 0) {
        Index chunk = bh * chunks + t / C;
        state.save(kept + chunk * D * V, at);
        if (NORMALIZER != Normalizer::none && blockIdx.y == 0 && at.warp == 0)
          state.save_z(kept_z + chunk * D, at);
      }
      Token token(v, alpha, beta, mask, row, at_token, at_float(AT_KEYS + i * PADDED_D), at);
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
        squares = sum_over_block(squares, room);
        bool clipped = token.counts && squares >= 1.f && !empty;
        float clip = clipped ? sqrtf(squares) : 1.f;
        empty = sum_over_block(entries, room) == 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) state.S[r][c] /= clip;
        if (KEEPS && threadIdx.x == 0) clips[row] = clipped ? clip : 0.f;
      }
      if constexpr (READS) {
        Shared<float> query = at_float(AT_QUERIES + i * PADDED_D);
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
          if (at.group == 0 && at.e(c) < V) store(o + row * V + at.e(c), y[c]);
      }
    }
  }
  if constexpr (STATE_OUT) {
    state.save(S_out + bh * D * V, at);
    if (NORMALIZER != Normalizer::none && blockIdx.y == 0 && at.warp == 0)
      state.save_z(z_out + bh * D, at);
  }
}
EXPORT(fwp_recurrent_forward)
