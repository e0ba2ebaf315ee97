// Chunk by chunk backwards: the state before a chunk was kept, all else of it is computed anew.
//
// P = k', Q = q' [C, D], b = β, Γ the decay between two tokens, γ since the chunk began, λ until it
// ends, r = 1 / (z_{i−1}·P + ε) where the delta rule divides, else 1; n = γ Q·z + tril(Γ∘QPᵀ) 1 + ε.
// L = tril(r Γ∘PPᵀ, −1), X = (I + Lb)⁻¹ (V − r γ PS), U = bX; of rules that do not correct X = V.
//     dN = dO / n      dy = −Σ dN∘O       E = tril(dN Uᵀ + dy 1ᵀ)
//     dU = tril(Γ∘QPᵀ)ᵀ dN + λ P dS       dX = (I + bL)⁻ᵀ dU    dL = −b tril(dX Uᵀ, −1)
//     dV = b dX   db = dX·X   F = −r γ b dX     ds = −r² dr = −r (Σ dL∘L + F·PS)
//     dQ = γ (dN Sᵀ + dy zᵀ) + (Γ∘E) P
//     dP = λ (U dSᵀ + 1 dzᵀ) + (Γ∘E)ᵀ Q + F Sᵀ + ds zᵀ + (J + Jᵀ) P    J = tril(dL∘r Γ + ds, −1)
//     dS ← γ_C dS + (γQ)ᵀ dN + Pᵀ F       dz ← γ_C dz + (γQ)ᵀ dy + Pᵀ ds
// where 1 is b for `gated`, whose db has of z's column dy·tril(Γ∘QPᵀ) + λ P·dz.
// Let M be the gradient of Γ, with a row more for the state that leaves and a column for the one that
// enters: M[i, j] = E∘QPᵀ + dL∘r PPᵀ, M[i, in] = dN·QS + dy Q·z − b r dX·PS, M[out, j] = U·PdS +
// 1 P·dz, M[out, in] = ⟨S, dS⟩ + z·dz. Then
//     dα_t = Σ_{i ≥ t > j} Γ[i, t] Γ[t − 1, j] M[i, j]
// divides by no gate, so gates may be 0. All is linear in the value columns: a block has BV of each of its
// heads and gives their part of dq, dk, dα, dβ and dz, which are added up afterwards.
#include "chunk.cuh"

constexpr int LD = padded(PADDED_D), LV = padded(BV), LC = padded(C);

// Shared memory of a head, in floats. Where φ is WIDE, rows of features, S and z stay in memory.
constexpr int AT_DS = 0;
constexpr int AT_S = AT_DS + PADDED_D * LV;
constexpr int AT_P = AT_S + !WIDE * PADDED_D * LV;
constexpr int AT_Q = AT_P + !WIDE * C * LD;
constexpr int AT_G = AT_Q + !WIDE * C * LD;
constexpr int AT_Z = AT_G + !WIDE * C * LD;
constexpr int AT_DZ = AT_Z + !WIDE * DIVIDES * PADDED_D;
constexpr int AT_X = AT_DZ + DIVIDES * PADDED_D;
constexpr int AT_DU = AT_X + C * LV;
constexpr int AT_DN = AT_DU + C * LV;
constexpr int AT_READ = AT_DN + READS * C * LV;
constexpr int AT_FAR = AT_READ + (READS && (DECAYS || DIVIDES)) * C * LV;
constexpr int AT_SCORES = AT_FAR + CORRECTS * C * LV;
constexpr int AT_E = AT_SCORES + READS * C * LC;
constexpr int AT_NEAR = AT_E + READS * C * LC;
// PPᵀ makes way for L where nothing else asks for it, and the head is small: then one more of them fits.
constexpr bool MAKES_WAY = PADDED_D <= 32 && !DECAYS && !DIVIDES;
constexpr int AT_DL = AT_NEAR + (CORRECTS && !MAKES_WAY) * C * LC;
constexpr int AT_GAMMA = AT_DL + CORRECTS * C * LC;
constexpr int AT_DGAMMA = AT_GAMMA + DECAYS * C * LC;
constexpr int AT_TOKENS = AT_DGAMMA + DECAYS * C * LC;
constexpr int AT_ROWS = AT_TOKENS + 13 * C;
constexpr int AT_ROOM = AT_ROWS + WARPS * K;
static_assert(FLOATS == AT_ROOM + WARPS);

// With 1 the compiler does not spill a few registers for one block more.
extern "C" __global__ void __launch_bounds__(HEADS * THREADS, 1)
cuda_fwp_chunk_backward(const Number* q, const Number* k, const Number* v, const float* alpha,
                        const float* beta, const float* projection, const float* kept,
                        const float* kept_z, float* rows, const Number* d_o, const float* dS_out,
                        const float* dz_out, Gradient* dq, Gradient* dk, Number* dv, float* dalpha,
                        float* dbeta, float* dS_in, float* dz_in, Index T, Index H, Index BH,
                        Index part, Index part_gate, Index part_z) {
  Index bh = this_head();
  if (HEADS > 1 && bh >= BH) return;
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, first = blockIdx.y * BV;
  Index chunks = (T + C - 1) / C, tile = blockIdx.y;
  dq = part_of_block(dq, part), dk = part_of_block(dk, part);
  dalpha = part_of_block(dalpha, part_gate), dbeta = part_of_block(dbeta, part_gate);
  auto features_at = [&](int at, int n) {
    if constexpr (WIDE) return rows + ((bh * gridDim.y + tile) * 3 + n) * C * LD;
    if constexpr (!WIDE) return at_float(at);
  };
  auto P = features_at(AT_P, 0), Q = features_at(AT_Q, 1), G = features_at(AT_G, 2);
  Shared<float> dS = at_float(AT_DS), S_here = at_float(AT_S), z_here = at_float(AT_Z), dz = at_float(AT_DZ),
                X = at_float(AT_X), dU = at_float(AT_DU), dN = at_float(AT_DN),
                read = at_float(AT_READ), far = at_float(AT_FAR), scores = at_float(AT_SCORES),
                E = at_float(AT_E), near = at_float(AT_NEAR), dL = at_float(AT_DL),
                gammas = at_float(AT_GAMMA), dGamma = at_float(AT_DGAMMA),
                row_rooms = at_float(AT_ROWS), row_room = row_rooms + warp * K, room = at_float(AT_ROOM);
  auto vector = [](int n) { return at_float(AT_TOKENS + n * C); };
  Shared<float> gate = vector(0), weight = vector(1), retrieval = vector(2), seen = vector(3),
                Qz = vector(4), Pz = vector(5), Pdz = vector(6), dy = vector(7), ds = vector(8),
                along_X = vector(9), along_far = vector(10), of_entering = vector(11),
                of_leaving = vector(12);
  auto gamma = [&](int i, int j) { return DECAYS ? float(gammas[i * LC + j]) : 1.f; };
  auto since = [&](int i) { return gamma(i, C); };
  auto left = [&](int i) { return gamma(C - 1, i); };
  auto b_of = [&](int i) { return WEIGHS ? float(weight[i]) : 1.f; };
  //! What z adds of a key.
  auto one = [&](int i) { return NORMALIZER == Normalizer::same_law ? b_of(i) : 1.f; };
  auto U = [&](int i, int e) { return b_of(i) * float(X[i * LV + e]); };
  auto U_turned = [&](int e, int i) { return U(i, e); };
  auto r_of = [&](int i) { return RETRIEVES ? float(retrieval[i]) : 1.f; };

  for (int n = thread; n < PADDED_D * BV; n += THREADS) {
    int d = n / BV, e = n % BV;
    dS[d * LV + e] = STATE_OUT && d < D && first + e < V ? dS_out[(bh * D + d) * V + first + e] : 0.f;
  }
  if constexpr (DIVIDES)
    // What comes in from outside is nobody's part, so the first tile takes it.
    for (int d = thread; d < PADDED_D; d += THREADS)
      dz[d] = STATE_OUT && tile == 0 && d < D ? dz_out[bh * D + d] : 0.f;

  for (Index n = chunks - 1; n >= 0; n--) {
    Chunk chunk(bh, n, T, H);
    const float* S_kept = kept + (bh * chunks + n) * D * V;
    const float* z_kept = DIVIDES ? kept_z + (bh * chunks + n) * D : nullptr;
    auto S = [&](int d, int e) {
      if constexpr (WIDE) return d < D && first + e < V ? S_kept[d * V + first + e] : 0.f;
      return float(S_here[d * LV + e]);
    };
    auto z = [&](int d) {
      if constexpr (WIDE) return d < D ? z_kept[d] : 0.f;
      return float(z_here[d]);
    };

    // What the chunk brings.
    sync_head();
    if constexpr (!WIDE)
      for (int n = thread; n < PADDED_D * BV; n += THREADS) {
        int d = n / BV, e = n % BV;
        S_here[d * LV + e] = d < D && first + e < V ? S_kept[d * V + first + e] : 0.f;
      }
    if constexpr (DIVIDES && !WIDE)
      for (int d = thread; d < PADDED_D; d += THREADS) z_here[d] = d < D ? z_kept[d] : 0.f;
    for (int n = thread; n < C * BV; n += THREADS) {
      int i = n / BV, e = n % BV;
      bool is = chunk.live(i) && first + e < V;
      X[i * LV + e] = is ? to_float(v[chunk.row(i) * V + first + e]) : 0.f;
      if constexpr (READS) dN[i * LV + e] = is ? to_float(d_o[chunk.row(i) * V + first + e]) : 0.f;
    }
    for (int i = thread; i < C; i += THREADS) {
      if constexpr (WEIGHS) weight[i] = chunk.live(i) ? beta[chunk.row(i)] : 0.f;
      if constexpr (DECAYS) gate[i] = decay_of(chunk, alpha, beta, i);
    }
    if constexpr (DECAYS) between(chunk, alpha, beta, Matrix{gammas, LC});
    features_of<KEY_MAP>(chunk, k, projection, row_rooms, MatrixAt<decltype(P)>{P, LD});
    if constexpr (READS)
      features_of<QUERY_MAP>(chunk, q, projection, row_rooms, MatrixAt<decltype(Q)>{Q, LD});
    sync_head();

    // What was found, read and will be written to.
    auto of = [](auto x, int ld) { return [=](int i, int j) { return float(x[i * ld + j]); }; };
    auto turned = [](auto x, int ld) { return [=](int i, int j) { return float(x[j * ld + i]); }; };
    auto into = [](Shared<float> x, int ld) {
      return [=](int i, int j, float sum) { x[i * ld + j] = sum; };
    };
    if constexpr (READS)
      product<PRECISION, C, C, PADDED_D>(of(Q, LD), turned(P, LD), into(scores, LC));
    if constexpr (CORRECTS) {
      // In float32 where r needs its sums, as forwards.
      product<RETRIEVES ? Precision::fp32 : PRECISION, C, C, PADDED_D>(
          of(P, LD), turned(P, LD), into(near, LC));
      product<PRECISION, C, BV, PADDED_D>(of(P, LD), S, into(far, LV));
    }
    if constexpr (READS && (DECAYS || DIVIDES))
      product<PRECISION, C, BV, PADDED_D>(of(Q, LD), S, into(read, LV));
    product<PRECISION, C, BV, PADDED_D>(of(P, LD), of(dS, LV), into(dU, LV));
    if constexpr (DIVIDES)
      for (int i = warp; i < C; i += WARPS) {
        float Qz_sum = 0.f, Pz_sum = 0.f, Pdz_sum = 0.f;
        for (int d = lane; d < PADDED_D; d += 32) {
          float x = P[i * LD + d];
          if constexpr (READS) Qz_sum += float(Q[i * LD + d]) * z(d);
          Pz_sum += x * z(d);
          Pdz_sum += x * float(dz[d]);
        }
        Qz_sum = sum_over_warp(Qz_sum), Pz_sum = sum_over_warp(Pz_sum);
        Pdz_sum = sum_over_warp(Pdz_sum);
        if (lane == 0) Qz[i] = Qz_sum, Pz[i] = Pz_sum, Pdz[i] = Pdz_sum;
      }
    if constexpr (DECAYS) {
      float sum = 0.f;
      for (int n = thread; n < PADDED_D * BV; n += THREADS)
        sum += S(n / BV, n % BV) * float(dS[n / BV * LV + n % BV]);
      if constexpr (DIVIDES)
        for (int d = thread; d < PADDED_D; d += THREADS) sum += z(d) * float(dz[d]);
      sum = sum_over_warp(sum);
      if (lane == 0) room[warp] = sum;
    }
    sync_head();
    auto decayed_scores = [&](int i, int j) {
      return i >= j ? gamma(i, j) * float(scores[i * LC + j]) : 0.f;
    };
    if constexpr (DIVIDES) {
      for (int i = thread; i < C; i += THREADS) {
        float found = Pz[i] + EPSILON;
        if constexpr (CORRECTS) {
          for (int j = 0; j < i; j++) found += near[i * LC + j];
          retrieval[i] = 1.f / found;
        }
        if constexpr (READS) {
          float sum = since(i) * Qz[i] + EPSILON;
          for (int j = 0; j <= i; j++) sum += decayed_scores(i, j) * one(j);
          seen[i] = sum;
        }
      }
      sync_head();
    }
    // Of a token, its row of value columns: a warp each.
    if constexpr (READS && (DECAYS || DIVIDES))
      for (int i = warp; i < C; i += WARPS) {
        float sum = 0.f;
        for (int e = lane; e < BV; e += 32) {
          float x = dN[i * LV + e];
          if constexpr (DIVIDES) dN[i * LV + e] = x = x / float(seen[i]);
          sum += x * float(read[i * LV + e]);
        }
        sum = sum_over_warp(sum);
        if (lane == 0) of_entering[i] = sum;
      }
    if constexpr (CORRECTS) {
      for (int n = thread; n < C * BV; n += THREADS) {
        int i = n / BV, e = n % BV;
        X[i * LV + e] -= r_of(i) * since(i) * float(far[i * LV + e]);
      }
      // L, until its gradient takes its place.
      for (int n = thread; n < C * C; n += THREADS) {
        int i = n / C, j = n % C;
        dL[i * LC + j] = i > j ? r_of(i) * gamma(i, j) * float(near[i * LC + j]) : 0.f;
      }
      solve<BV>([&](int i, int j) { return float(dL[i * LC + j]) * b_of(j); }, Matrix{X, LV});
    } else {
      sync_head();
    }
    if constexpr (READS && DIVIDES) {
      product<Precision::fp32, C, BV, C>(decayed_scores, U, [&](int i, int e, float sum) {
        read[i * LV + e] = (since(i) * float(read[i * LV + e]) + sum) / float(seen[i]);
      });
      sync_head();
    }
    if constexpr (DECAYS || DIVIDES)
      for (int i = warp; i < C; i += WARPS) {
        float along = 0.f, leaving = 0.f;
        for (int e = lane; e < BV; e += 32) {
          if constexpr (READS && DIVIDES)
            along -= float(dN[i * LV + e]) * float(read[i * LV + e]);
          if constexpr (DECAYS) leaving += U(i, e) * float(dU[i * LV + e]);
        }
        along = sum_over_warp(along), leaving = sum_over_warp(leaving);
        if (lane == 0) {
          if constexpr (READS && DIVIDES) dy[i] = along;
          if constexpr (DECAYS) {
            if constexpr (READS && DIVIDES) of_entering[i] += along * float(Qz[i]);
            if constexpr (!READS) of_entering[i] = 0.f;
            if constexpr (DIVIDES) leaving += one(i) * float(Pdz[i]);
            of_leaving[i] = leaving;
          }
        }
      }
    sync_head();

    // Back through what was read, and through the correction.
    if constexpr (READS) {
      // dN·U_j and dy, which is −dN·O, cancel where a token reads little but U_j.
      constexpr Precision OF_E = DIVIDES ? Precision::fp32 : PRECISION;
      product<OF_E, C, C, BV>(of(dN, LV), U_turned, [&](int i, int j, float sum) {
        if constexpr (DIVIDES) sum += float(dy[i]) * one(j);
        E[i * LC + j] = i >= j ? sum : 0.f;
      });
      auto scores_of_later = [&](int i, int j) { return decayed_scores(j, i); };
      product<PRECISION, C, BV, C>(scores_of_later, of(dN, LV), [&](int i, int e, float sum) {
        dU[i * LV + e] = left(i) * float(dU[i * LV + e]) + sum;
      });
    } else if constexpr (DECAYS) {
      for (int n = thread; n < C * BV; n += THREADS) dU[n / BV * LV + n % BV] *= left(n / BV);
    }
    if constexpr (CORRECTS) {
      solve<BV, true>([&](int i, int j) { return b_of(i) * float(dL[i * LC + j]); },
                      Matrix{dU, LV});
      product<PRECISION, C, C, BV>(of(dU, LV), U_turned, [&](int i, int j, float sum) {
        dL[i * LC + j] = i > j ? -b_of(i) * sum : 0.f;
      });
    } else {
      sync_head();
    }
    if constexpr (WEIGHS)
      for (int i = warp; i < C; i += WARPS) {
        float of_X = 0.f, of_far = 0.f;
        for (int e = lane; e < BV; e += 32) {
          of_X += float(dU[i * LV + e]) * float(X[i * LV + e]);
          if constexpr (CORRECTS) of_far += float(dU[i * LV + e]) * float(far[i * LV + e]);
        }
        of_X = sum_over_warp(of_X), of_far = sum_over_warp(of_far);
        if (lane == 0) {
          along_X[i] = of_X;
          if constexpr (CORRECTS) along_far[i] = of_far;
        }
      }
    for (int n = thread; n < chunk.tokens * BV; n += THREADS) {
      int i = n / BV, e = n % BV;
      if (first + e < V)
        store(dv + chunk.row(i) * V + first + e, b_of(i) * float(dU[i * LV + e]));
    }
    sync_head();
    if constexpr (WEIGHS)
      for (int i = thread; i < C; i += THREADS) {
        if constexpr (CORRECTS) {
          float found = b_of(i) * r_of(i) * float(along_far[i]);
          if constexpr (DECAYS) of_entering[i] -= found;
          if constexpr (DIVIDES) {
            // Not from V − X, whose rounding r would enlarge.
            float sum = 0.f;
            for (int j = 0; j < i; j++) sum += float(dL[i * LC + j]) * float(near[i * LC + j]);
            ds[i] = -r_of(i) * (r_of(i) * sum - found);
          }
        } else if constexpr (DIVIDES) {
          float db = along_X[i] + left(i) * float(Pdz[i]);
          if constexpr (READS)
            for (int t = i; t < C; t++) db += float(dy[t]) * decayed_scores(t, i);
          along_X[i] = db;
        }
      }
    if constexpr (DECAYS) {
      if constexpr (CORRECTS) sync_head();
      for (int j = thread; j <= C; j += THREADS) {
        float sum = 0.f;
        if (j < C) {
          sum = of_leaving[j];
        } else {
          for (int n = 0; n < WARPS; n++) sum += room[n];
        }
#pragma unroll 4
        for (int t = C - 1; t >= 0; t--) {
          float M = 0.f;
          if (j == C) {
            M = of_entering[t];
          } else if (j < t) {
            if constexpr (READS) M += float(E[t * LC + j]) * float(scores[t * LC + j]);
            if constexpr (CORRECTS)
              M += float(dL[t * LC + j]) * r_of(t) * float(near[t * LC + j]);
          }
          sum = (t + 1 < C ? float(gate[t + 1]) : 1.f) * sum + M;
          dGamma[t * LC + j] = j < t || j == C ? (t ? gamma(t - 1, j) : 1.f) * sum : 0.f;
        }
      }
    }
    sync_head();
    for (int i = thread; i < chunk.tokens; i += THREADS) {
      float da = 0.f;
      if constexpr (DECAYS)
#pragma unroll 4
        for (int j = 0; j <= C; j++) da += dGamma[i * LC + j];
      if constexpr (DECAY == Decay::head) dalpha[chunk.row(i)] = da;
      if constexpr (WEIGHS)
        dbeta[chunk.row(i)] = along_X[i] - (DECAY == Decay::beta ? da : 0.f);
    }

    // Features and state. What products round is as it came, where it can be: not decayed.
    auto S_turned = [&](int e, int d) { return S(d, e); };
    if constexpr (READS) {
      each_tile<C, PADDED_D>([&](auto& sum) {
        sum.template add<PRECISION, BV>(of(dN, LV), S_turned);
        sum.each([&](int i, int d, float& x) {
          if constexpr (DIVIDES) x += float(dy[i]) * z(d);
          x *= since(i);
        });
        sum.template add<PRECISION, C>(
            [&](int i, int j) { return gamma(i, j) * float(E[i * LC + j]); }, of(P, LD));
        sum.each([&](int i, int d, float x) { G[i * LD + d] = x; });
      });
      sync_head();
      for (int i = warp; i < chunk.tokens; i += WARPS) {
        // It leaves φ(q), of which q' is a multiple.
        auto x = Q + i * LD;
        float s = features_gradient<QUERY_MAP>(q + chunk.row(i) * K, projection, row_room, x,
                                               G + i * LD, dq + chunk.row(i) * K);
        if constexpr (SCALE != Scale::none)
          for (int d = lane; d < D; d += 32) x[d] *= s;
      }
      sync_head();
    }
    auto F = [&](int i, int e) {
      return -r_of(i) * since(i) * b_of(i) * float(dU[i * LV + e]);
    };
    each_tile<C, PADDED_D>([&](auto& sum) {
      sum.template add<PRECISION, BV>(U, turned(dS, LV));
      sum.each([&](int i, int d, float& x) {
        if constexpr (DIVIDES) x += one(i) * float(dz[d]);
        x *= left(i);
      });
      if constexpr (READS)
        sum.template add<PRECISION, C>(
            [&](int i, int j) { return j >= i ? gamma(j, i) * float(E[j * LC + i]) : 0.f; },
            of(Q, LD));
      if constexpr (CORRECTS) {
        auto J = [&](int i, int j) {
          if (i <= j) return 0.f;
          float x = float(dL[i * LC + j]) * r_of(i) * gamma(i, j);
          return DIVIDES ? x + float(ds[i]) : x;
        };
        sum.template add<PRECISION, BV>(F, S_turned);
        sum.template add<PRECISION, C>([&](int i, int j) { return J(i, j) + J(j, i); }, of(P, LD));
      }
      sum.each([&](int i, int d, float x) {
        if constexpr (CORRECTS && DIVIDES) x += float(ds[i]) * z(d);
        G[i * LD + d] = x;
      });
    });
    sync_head();
    float across = since(C - 1);
    each_tile<PADDED_D, BV>([&](auto& sum) {
      if constexpr (READS)
        sum.template add<PRECISION, C>(
            [&](int d, int i) { return since(i) * float(Q[i * LD + d]); }, of(dN, LV));
      if constexpr (CORRECTS) sum.template add<PRECISION, C>(turned(P, LD), F);
      sum.each([&](int d, int e, float x) {
        dS[d * LV + e] = across * float(dS[d * LV + e]) + x;
      });
    });
    if constexpr (DIVIDES)
      for (int d = thread; d < PADDED_D; d += THREADS) {
        float sum = across * float(dz[d]);
#pragma unroll 4
        for (int i = 0; i < C; i++) {
          if constexpr (READS) sum += since(i) * float(dy[i]) * float(Q[i * LD + d]);
          if constexpr (CORRECTS) sum += float(ds[i]) * float(P[i * LD + d]);
        }
        dz[d] = sum;
      }
    sync_head();
    for (int i = warp; i < chunk.tokens; i += WARPS)
      features_gradient<KEY_MAP>(k + chunk.row(i) * K, projection, row_room, P + i * LD, G + i * LD,
                                 dk + chunk.row(i) * K);
  }
  sync_head();
  if constexpr (STATE_IN) {
    for (int n = thread; n < D * BV; n += THREADS) {
      int d = n / BV, e = n % BV;
      if (first + e < V) dS_in[(bh * D + d) * V + first + e] = dS[d * LV + e];
    }
    if constexpr (DIVIDES)
      for (int d = thread; d < D; d += THREADS) dz_in[tile * part_z + bh * D + d] = dz[d];
  }
}
EXPORT(cuda_fwp_chunk_backward)
