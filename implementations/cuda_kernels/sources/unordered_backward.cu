// Of the rule sum where all tokens are written before the first reads: no token waits for another.
//
// With S and z as the forward kernel kept them, after all writes, y = Sᵀq', n = z·q' + ε, o = y / n:
//     dy = do / n, dn = −dy·o     dq' = S dy + dn z     dS = dS⁺ + Σ q'dyᵀ     dz = dz⁺ + Σ dn q'
//     dk' = dS v + dz             dv = dSᵀk'
#include "recurrent_gradients.cuh"

static_assert(FLOATS >= AT_DGATES);

extern "C" __global__ void __launch_bounds__(HEADS * THREADS, 1)
cuda_fwp_unordered_backward(const Number* q, const Number* k, const Number* v, const float* projection,
                            const unsigned char* mask, const float* kept, const float* kept_z,
                            const Number* d_o, const float* dS_out, const float* dz_out, Gradient* dq,
                            Gradient* dk, Number* dv, float* dS_in, float* dz_in, Index T, Index H,
                            Index BH, Index part, Index part_z) {
  Index bh = this_head();
  if (HEADS > 1 && bh >= BH) return;
  Place at;
  Head head{q, k, projection, mask, T, H, bh / H, bh % H};
  Shared<float> row_room = at_float(AT_ROWS + at.warp * K);
  dq = part_of_block(dq, part), dk = part_of_block(dk, part);
  dz_in = part_of_block(dz_in, part_z);
  State state, gradient;
  state.load(kept + bh * D * V, kept_z ? kept_z + bh * D : nullptr, at);
  load_gradient(gradient, dS_out, dz_out, bh, at);
  float(&S)[ROWS][COLUMNS] = state.S;
  float(&dS)[ROWS][COLUMNS] = gradient.S;

  for (Index from = 0; READS && from < T; from += TOKENS) {
    int tokens = T - from < TOKENS ? int(T - from) : TOKENS;
    head.prepare(from, tokens, false, true, at);
    for (int i = 0; i < tokens; i++) {
      Shared<float> query = at_float(AT_QUERIES + i * PADDED_D);
      float Q[ROWS], dy[COLUMNS], dseen = 0.f;
#pragma unroll
      for (int r = 0; r < ROWS; r++) Q[r] = query[at.d(r)];
#pragma unroll
      for (int c = 0; c < COLUMNS; c++)
        dy[c] = at.e(c) < V ? to_float(d_o[head.row(from + i) * V + at.e(c)]) : 0.f;
      if constexpr (NORMALIZER != Normalizer::none) {
        float seen = 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) seen += state.z[r] * Q[r];
        seen = sum_over_rows(seen) + EPSILON;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
          float y = 0.f;
#pragma unroll
          for (int r = 0; r < ROWS; r++) y += S[r][c] * Q[r];
          dy[c] /= seen;
          dseen -= dy[c] * sum_over_rows(y);
        }
        dseen = sum_over_columns(dseen) / seen;
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        float dQ = 0.f;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
          dQ += S[r][c] * dy[c];
          dS[r][c] += Q[r] * dy[c];
        }
        if constexpr (NORMALIZER != Normalizer::none) {
          // One lane of those beside each other adds it: they are summed up.
          if (at.lane % LANES == 0) dQ += dseen * state.z[r];
          gradient.z[r] += dseen * Q[r];
        }
        leave(part_of(AT_DQUERIES, at.warp, i), dQ, r, at);
      }
    }
    sync_head();
    for (int i = at.warp; i < tokens; i += WARPS) {
      Index row = head.row(from + i);
      features_gradient<QUERY_MAP>(q + row * K, projection, row_room,
                                   at_float(AT_QUERIES + i * PADDED_D), summed(AT_DQUERIES, i),
                                   dq + row * K);
    }
  }
  for (Index from = 0; from < T; from += TOKENS) {
    int tokens = T - from < TOKENS ? int(T - from) : TOKENS;
    head.prepare(from, tokens, true, false, at);
    for (int i = 0; i < tokens; i++) {
      Index row = head.row(from + i);
      Token token(v, nullptr, nullptr, mask, row, head.token(from + i),
                  at_float(AT_KEYS + i * PADDED_D), at);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        float dP = 0.f;
        if (NORMALIZER != Normalizer::none && at.lane % LANES == 0) dP = gradient.z[r];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) dP += dS[r][c] * token.values[c];
        leave(part_of(AT_DKEYS, at.warp, i), dP, r, at);
      }
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) {
        float sum = 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum += dS[r][c] * token.P[r];
        sum = sum_over_rows(sum);
        if (at.group == 0 && at.e(c) < V) store(dv + row * V + at.e(c), sum);
      }
    }
    sync_head();
    for (int i = at.warp; i < tokens; i += WARPS) {
      Index row = head.row(from + i);
      Shared<float> dkey = summed(AT_DKEYS, i);
      if (!head.counts(from + i))
        for (int d = at.lane; d < D; d += 32) dkey[d] = 0.f;
      features_gradient<KEY_MAP>(k + row * K, projection, row_room,
                                 at_float(AT_KEYS + i * PADDED_D), dkey, dk + row * K);
    }
  }
  save_gradient(gradient, dS_in, dz_in, bh, at);
}
EXPORT(cuda_fwp_unordered_backward)
