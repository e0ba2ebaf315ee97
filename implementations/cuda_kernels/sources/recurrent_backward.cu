// Token by token backwards: chunks in reverse, their states recomputed, dS in registers.
//
// Of one token, with γ, u, r and z as in recurrent.cuh, f = r γSᵀk', c the clip, else 1:
//     W = γS + k'uᵀ   S⁺ = W / c   y = S⁺ᵀq'   o = y / n with n = z⁺·q' + ε, or LayerNorm(y) = ŷ
//     dy = do / n, dn = −dy·o   or   dy = (do − mean do − ŷ mean(do∘ŷ)) / σ
//     dq' = S⁺dy + dn z⁺              dS⁺ ← dS⁺ + q'dyᵀ      dz⁺ ← dz⁺ + dn q'
//     dW = dS⁺ / c − a W, a = ⟨dS⁺, W⟩ / c³ where it clipped, else 0
//     du = dWᵀk'   dv = β du   dβ = du·(v − f), and dz⁺·k' where β weighs what z adds
//     dk' = dW u + γS df + ds z + dz⁺ (weighed alike)      df = −β r du      ds = β r du·f
//     dγS = dW + k'dfᵀ   dγ = Σ dγS∘S + dz⁺·z, or feature by feature   dS = γ dγS   dz = γdz⁺ + ds k'
// where df and ds, of z·k' + ε, are of rules that correct. For β as 1 − γ, dβ is less by dγ. The
// forward kernel kept the state every C tokens; those between are recomputed into scratch memory,
// each thread's for itself.
#include "recurrent_gradients.cuh"

// Of z the first of the lanes beside each other has its rows, in shared memory: registers are dear.
constexpr int AT_DZ = AT_DGATES + 2 * WARPS * TOKENS;
static_assert(FLOATS == AT_DZ + (NORMALIZER != Normalizer::none) * WARPS * PADDED_D);

extern "C" __global__ void __launch_bounds__(HEADS * THREADS, 1)
cuda_fwp_recurrent_backward(const Number* q, const Number* k, const Number* v, const float* alpha,
                            const float* beta, const float* projection, const unsigned char* mask,
                            const float* clips, const float* kept, const float* kept_z, float* scratch,
                            const Number* d_o, const float* dS_out, const float* dz_out, Gradient* dq,
                            Gradient* dk, Number* dv, float* dalpha, float* dbeta, float* dS_in,
                            float* dz_in, Index T, Index H, Index BH, Index C, Index part,
                            Index part_alpha, Index part_gate, Index part_z) {
  Index bh = this_head();
  if (HEADS > 1 && bh >= BH) return;
  Place at;
  Index chunks = (T + C - 1) / C;
  Head head{q, k, projection, mask, T, H, bh / H, bh % H};
  Shared<float> room = at_float(AT_ROOM), row_room = at_float(AT_ROWS + at.warp * K);
  dq = part_of_block(dq, part), dk = part_of_block(dk, part);
  dalpha = part_of_block(dalpha, part_alpha), dbeta = part_of_block(dbeta, part_gate);
  dz_in = part_of_block(dz_in, part_z);
  // Each thread reads what it wrote itself: token after token, number after number, thread by thread.
  constexpr int NUMBERS = ROWS * (COLUMNS + 1);
  scratch += (bh * gridDim.y + blockIdx.y) * C * NUMBERS * THREADS + threadIdx.x;
  State gradient;
  gradient.load(dS_out ? dS_out + bh * D * V : nullptr, nullptr, at);
  float(&dS)[ROWS][COLUMNS] = gradient.S;
  bool one = at.lane % LANES == 0;
  Shared<float> dz = at_float(AT_DZ + at.warp * PADDED_D);
  if constexpr (NORMALIZER != Normalizer::none) {
    // What comes in from outside is nobody's part, so the first warp takes it.
    bool given = dz_out && blockIdx.y == 0 && at.warp == 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
      if (one) dz[at.d(r)] = given && at.d(r) < D ? dz_out[bh * D + at.d(r)] : 0.f;
  }

  for (Index chunk = chunks - 1; chunk >= 0; chunk--) {
    Index start = chunk * C, end = T < start + C ? T : start + C;
    State state;
    state.load(kept + (bh * chunks + chunk) * D * V,
               NORMALIZER != Normalizer::none ? kept_z + (bh * chunks + chunk) * D : nullptr, at);
    for (Index from = start; from < end; from += TOKENS) {
      int tokens = end - from < TOKENS ? int(end - from) : TOKENS;
      head.prepare(from, tokens, true, false, at);
      for (int i = 0; i < tokens; i++) {
        Index row = head.row(from + i);
        float* own = scratch + (from + i - start) * NUMBERS * THREADS;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) own[(r * COLUMNS + c) * THREADS] = state.S[r][c];
          own[(ROWS * COLUMNS + r) * THREADS] = state.z[r];
        }
        Token token(v, alpha, beta, mask, row, head.token(from + i),
                    at_float(AT_KEYS + i * PADDED_D), at);
        Write write(state, token);
        apply(state, token, write);
        if constexpr (CLIPS) {
          float clip = clips[row] > 0.f ? clips[row] : 1.f;
#pragma unroll
          for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) state.S[r][c] /= clip;
        }
      }
    }
    for (Index from = start + (end - start - 1) / TOKENS * TOKENS; from >= start; from -= TOKENS) {
      int tokens = end - from < TOKENS ? int(end - from) : TOKENS;
      head.prepare(from, tokens, true, READS, at);
      for (int i = tokens - 1; i >= 0; i--) {
        Index row = head.row(from + i);
        const float* own = scratch + (from + i - start) * NUMBERS * THREADS;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) state.S[r][c] = own[(r * COLUMNS + c) * THREADS];
          state.z[r] = own[(ROWS * COLUMNS + r) * THREADS];
        }
        float(&S)[ROWS][COLUMNS] = state.S;
        float(&z)[ROWS] = state.z;
        Token token(v, alpha, beta, mask, row, head.token(from + i),
                    at_float(AT_KEYS + i * PADDED_D), at);
        float(&P)[ROWS] = token.P;
        Write write(state, token);
        float(&u)[COLUMNS] = write.u;
        float clip = CLIPS && clips[row] > 0.f ? clips[row] : 1.f;
        bool clipped = CLIPS && clips[row] > 0.f;
        if constexpr (READS) {
          Shared<float> query = at_float(AT_QUERIES + i * PADDED_D);
          float dy[COLUMNS], y[COLUMNS] = {}, dseen = 0.f;
#pragma unroll
          for (int c = 0; c < COLUMNS; c++)
            dy[c] = at.e(c) < V ? to_float(d_o[row * V + at.e(c)]) : 0.f;
          if constexpr (CLIPS || NORMALIZER != Normalizer::none) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
              float Q = query[at.d(r)];
#pragma unroll
              for (int c = 0; c < COLUMNS; c++)
                y[c] += (token.gamma(r) * S[r][c] + P[r] * u[c]) * Q;
            }
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) y[c] = sum_over_rows(y[c]) / clip;
          }
          if constexpr (CLIPS) {
            float factor = layer_normalized(y, at, room), sum = 0.f, along = 0.f;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
              if (at.group == 0) sum += dy[c], along += dy[c] * y[c];
            sum = sum_over_head(sum, room) / V;
            along = sum_over_head(along, room) / V;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
              dy[c] = at.e(c) < V ? (dy[c] - sum - y[c] * along) * factor : 0.f;
          }
          if constexpr (NORMALIZER != Normalizer::none) {
            float seen = 0.f;
#pragma unroll
            for (int r = 0; r < ROWS; r++) seen += next_z(state, token, r) * query[at.d(r)];
            seen = sum_over_rows(seen) + EPSILON;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
              dy[c] /= seen;
              dseen -= dy[c] * y[c];
            }
            dseen = sum_over_columns(dseen) / seen;
          }
#pragma unroll
          for (int r = 0; r < ROWS; r++) {
            float Q = query[at.d(r)], dQ = 0.f;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
              dQ += (token.gamma(r) * S[r][c] + P[r] * u[c]) * dy[c] / clip;
              dS[r][c] += Q * dy[c];
            }
            if constexpr (NORMALIZER != Normalizer::none) {
              // One lane of those beside each other adds it: they are summed up.
              if (one) {
                dQ += dseen * next_z(state, token, r);
                dz[at.d(r)] += dseen * Q;
              }
            }
            leave(part_of(AT_DQUERIES, at.warp, i), dQ, r, at);
          }
        }
        float du[COLUMNS], w[COLUMNS], a = 0.f;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
          float sum = 0.f;
#pragma unroll
          for (int r = 0; r < ROWS; r++) sum += dS[r][c] * P[r];
          du[c] = sum_over_rows(sum) / clip;
        }
        if constexpr (CLIPS) {
          // With W = S + k'uᵀ, for fwm has no decay.
          float sum = 0.f, length = 0.f;
#pragma unroll
          for (int r = 0; r < ROWS; r++) {
            length += P[r] * P[r];
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sum += dS[r][c] * (S[r][c] + P[r] * u[c]);
          }
          a = sum_over_head(sum, room) / clip / clip / clip;
          a = clipped ? a : 0.f;
          length = sum_over_rows(length);
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) {
            // du = dWᵀk', and Wᵀk' is what was found and |k'|² u.
            du[c] -= a * (write.found[c] + length * u[c]);
          }
        }
        float dbeta_part = 0.f, ds = 0.f;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
          // The gradient of what was found is −w r.
          w[c] = token.beta * du[c];
          if constexpr (NORMALIZER == Normalizer::sum) {
            ds += write.r * w[c] * write.found[c];
            w[c] *= write.r;
          }
          dbeta_part += du[c] * (token.values[c] - write.found[c]);
        }
        dbeta_part = sum_over_columns(dbeta_part);
        if constexpr (CORRECTS && NORMALIZER == Normalizer::sum) ds = sum_over_columns(ds);
        // Row after row, and each left at once: no array of them takes registers.
        float dgamma_part = 0.f, along_z = 0.f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          float gamma = token.gamma(r), dP = 0.f, dgamma = 0.f;
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) {
            float gS = gamma * S[r][c], dW = dS[r][c] / clip;
            if constexpr (CLIPS) dW -= a * (gS + P[r] * u[c]);
            dP += dW * u[c];
            if constexpr (CORRECTS) {
              dP -= gS * w[c];
              dW -= P[r] * w[c];
            }
            dgamma += dW * S[r][c];
            dS[r][c] = gamma * dW;
          }
          if constexpr (NORMALIZER != Normalizer::none) {
            if (one) {
              float dz_r = dz[at.d(r)];
              if constexpr (NORMALIZER == Normalizer::same_law) {
                dP += token.beta * dz_r;
                dgamma += dz_r * z[r];
                along_z += dz_r * P[r];
                dz[at.d(r)] = gamma * dz_r;
              } else {
                dP += dz_r + (CORRECTS ? ds * z[r] : 0.f);
                if constexpr (CORRECTS) dz[at.d(r)] = dz_r + ds * P[r];
              }
            }
          }
          leave(part_of(AT_DKEYS, at.warp, i), dP, r, at);
          if constexpr (DECAY == Decay::feature)
            leave(part_of(AT_DDECAYS, at.warp, i), dgamma, r, at);
          else
            dgamma_part += dgamma;
        }
        // Lane 0 is one of those that have z, and it alone leaves the sum.
        if constexpr (NORMALIZER == Normalizer::same_law) dbeta_part += sum_over_rows(along_z);
        if constexpr (DECAY == Decay::head || DECAY == Decay::beta)
          dgamma_part = sum_over_warp(dgamma_part);
        if constexpr (DECAY == Decay::beta) dbeta_part -= dgamma_part;
        if (at.lane == 0) {
          at_float(AT_DGATES)[(at.warp * TOKENS + i) * 2] = token.counts ? dbeta_part : 0.f;
          at_float(AT_DGATES)[(at.warp * TOKENS + i) * 2 + 1] = token.counts ? dgamma_part : 0.f;
        }
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
          if (at.group == 0 && at.e(c) < V)
            store(dv + row * V + at.e(c), token.counts ? token.beta * du[c] : 0.f);
      }
      sync_head();
      for (int job = at.warp; job < (READS ? 2 : 1) * tokens; job += WARPS) {
        int i = job % tokens;
        Index row = head.row(from + i);
        if (job < tokens) {
          Shared<float> dkey = summed(AT_DKEYS, i);
          if (!head.counts(from + i))
            for (int d = at.lane; d < D; d += 32) dkey[d] = 0.f;
          features_gradient<KEY_MAP>(k + row * K, projection, row_room,
                                     at_float(AT_KEYS + i * PADDED_D), dkey, dk + row * K);
          if constexpr (DECAY == Decay::feature) {
            Shared<float> ddecay = summed(AT_DDECAYS, i);
            for (int d = at.lane; d < D; d += 32)
              dalpha[row * D + d] = head.counts(from + i) ? float(ddecay[d]) : 0.f;
          }
          if (at.lane == 0) {
            float dbeta_sum = 0.f, dgamma_sum = 0.f;
            for (int warp = 0; warp < WARPS; warp++) {
              dbeta_sum += at_float(AT_DGATES)[(warp * TOKENS + i) * 2];
              dgamma_sum += at_float(AT_DGATES)[(warp * TOKENS + i) * 2 + 1];
            }
            if constexpr (WEIGHS) dbeta[row] = dbeta_sum;
            if constexpr (DECAY == Decay::head) dalpha[row] = dgamma_sum;
          }
        } else {
          features_gradient<QUERY_MAP>(q + row * K, projection, row_room,
                                       at_float(AT_QUERIES + i * PADDED_D), summed(AT_DQUERIES, i),
                                       dq + row * K);
        }
      }
    }
  }
  if (dS_in) gradient.save(dS_in + bh * D * V, at);
  if (NORMALIZER == Normalizer::none || !dz_in) return;
  sync_head();
  for (int d = threadIdx.x; d < D; d += THREADS) {
    float sum = 0.f;
    for (int warp = 0; warp < WARPS; warp++) sum += at_float(AT_DZ + warp * PADDED_D)[d];
    dz_in[bh * D + d] = sum;
  }
}
EXPORT(cuda_fwp_recurrent_backward)
