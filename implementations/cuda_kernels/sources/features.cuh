// norm(φ(x)) of a token, and its gradient: by one warp.
//
// `row` has room for x, K numbers; P for φ(x), D numbers and zeros up to PADDED_D, in shared memory or,
// where φ is wide, a block's own room in global memory. A lane computes the features lane, lane + 32,
// …; what it reads of others it reads after a __syncwarp.
#pragma once

__device__ constexpr bool is_favor(Map map) {
  return map == Map::favor || map == Map::favor_queries || map == Map::favor_published;
}

__device__ inline float temperature(Map map) {
  return map == Map::favor_published ? 1.f : 1.f / sqrtf(sqrtf(float(K)));
}

//! r = [relu(x); relu(−x)] at i, of which DPFP multiplies pairs.
__device__ inline float rectified(Shared<float> row, int i) {
  float x = i < K ? row[i] : -row[i - K];
  return fmaxf(x, 0.f);
}

//! φ(x), not yet normalised, and the factor of the normalisation: what both passes need.
template <Map MAP, class Row>
__device__ float mapped(const Number* x, const float* projection, Shared<float> row, Row P) {
  int lane = threadIdx.x % 32;
  __syncwarp();
  for (int n = lane; n < K; n += 32) row[n] = to_float(x[n]);
  __syncwarp();
  float total = 0.f;
  auto summand = [](float phi) { return SCALE == Scale::l2 ? phi * phi : phi; };
  if constexpr (is_favor(MAP)) {
    constexpr int M = D / 2;
    float t = temperature(MAP), taken = 0.f;
    for (int m = lane; m < M; m += 32) {
      float u = 0.f;
      for (int n = 0; n < K; n++) u += float(row[n]) * projection[n * M + m];
      P[m] = u * t;
      taken = fmaxf(taken, fabsf(u * t));
    }
    if constexpr (MAP == Map::favor_queries) {
      // A factor that is divided out again: the largest exponent, a constant to the gradient.
      for (int lanes = 1; lanes < 32; lanes *= 2)
        taken = fmaxf(taken, __shfl_xor_sync(EVERY_LANE, taken, lanes));
    } else {
      float squares = 0.f;
      for (int n = lane; n < K; n += 32) squares += float(row[n]) * float(row[n]);
      taken = sum_over_warp(squares) * t * t / 2.f + logf(float(D)) / 2.f;
    }
    for (int m = lane; m < M; m += 32) {
      float u = P[m], plus = expf(u - taken), minus = expf(-u - taken);
      P[m] = plus;
      P[m + M] = minus;
      total += summand(plus) + summand(minus);
    }
  } else {
    for (int d = lane; d < D; d += 32) {
      float phi;
      if constexpr (MAP == Map::dpfp) {
        int i = d % (2 * K), j = (i + 2 * K - d / (2 * K) - 1) % (2 * K);
        phi = rectified(row, i) * rectified(row, j);
      } else {
        float u = row[d];
        if constexpr (MAP == Map::identity) phi = u;
        // Not exp(u) − 1 + 1, which cancels to 0.
        if constexpr (MAP == Map::elu_plus_one) phi = u > 0.f ? u + 1.f : expf(u);
        if constexpr (MAP == Map::relu) phi = fmaxf(u, 0.f);
        if constexpr (MAP == Map::tanh) phi = tanhf(u);
      }
      P[d] = phi;
      total += summand(phi);
    }
  }
  for (int d = D + lane; d < PADDED_D; d += 32) P[d] = 0.f;
  if constexpr (SCALE == Scale::none) return 1.f;
  total = sum_over_warp(total) + EPSILON;
  return SCALE == Scale::l2 ? 1.f / sqrtf(total) : 1.f / total;
}

//! P ← norm(φ(x))
template <Map MAP, class Row>
__device__ void features(const Number* x, const float* projection, Shared<float> row, Row P) {
  float s = mapped<MAP>(x, projection, row, P);
  // FAVOR writes P[m + M] by the lane of m.
  __syncwarp();
  if constexpr (SCALE != Scale::none)
    for (int d = threadIdx.x % 32; d < D; d += 32) P[d] *= s;
}

//! dx from dP, the gradient of norm(φ(x)), which is overwritten. `P` is room for φ(x), which is left
//! there: times what is returned it is norm(φ(x)).
template <Map MAP, class Row>
__device__ float features_gradient(const Number* x, const float* projection, Shared<float> row,
                                   Row P, Row dP, Gradient* dx) {
  int lane = threadIdx.x % 32;
  float s = mapped<MAP>(x, projection, row, P);
  __syncwarp();
  if constexpr (SCALE != Scale::none) {
    // With P = sφ and a = dP·P:  sum: dφ = s (dP − a),  l2: dφ = s (dP − aP)
    float along = 0.f, rest = 0.f;
    for (int d = lane; d < D; d += 32) along += float(dP[d]) * float(P[d]);
    along = sum_over_warp(along) * s;
    // Where one feature has nearly all, that is all rounding; ΣP = 1 − εs (sum) and ΣP² = 1 − εs²
    // (l2) say what its sum along P is, and what is to be taken off.
    constexpr bool L2 = SCALE == Scale::l2;
    for (int d = lane; d < D; d += 32)
      rest += (dP[d] - along * (L2 ? float(P[d]) * s : 1.f)) * float(P[d]);
    rest = (sum_over_warp(rest) - along * EPSILON * (L2 ? s : 1.f)) * s;
    for (int d = lane; d < D; d += 32) {
      float P_d = L2 ? float(P[d]) * s : 1.f;
      dP[d] = s * (dP[d] - along * P_d - rest * P_d);
    }
    __syncwarp();
  }
  if constexpr (is_favor(MAP)) {
    // dy = g Ω'ᵀ − y Σg with g = dφ ⊙ φ, the gradient of the exponents
    constexpr int M = D / 2;
    float t = temperature(MAP), total = 0.f;
    for (int d = lane; d < D; d += 32) {
      float g = float(dP[d]) * float(P[d]);
      dP[d] = g;
      total += g;
    }
    total = sum_over_warp(total) * t * t;
    __syncwarp();
    for (int n = lane; n < K; n += 32) {
      float sum = 0.f;
      for (int m = 0; m < M; m++)
        sum += (float(dP[m]) - float(dP[m + M])) * projection[n * M + m];
      store(dx + n, sum * t - float(row[n]) * total);
    }
  } else {
    for (int n = lane; n < K; n += 32) {
      float sum = 0.f;
      if constexpr (MAP == Map::dpfp) {
        // Every entry of r is first and second of ν pairs, and every entry of x is two of r.
        for (int sign = 0; sign < 2; sign++) {
          int i = n + sign * K;
          float dr = 0.f;
          for (int block = 0; block < D / (2 * K); block++) {
            int first = (i + 2 * K - block - 1) % (2 * K), second = (i + block + 1) % (2 * K);
            dr += float(dP[block * 2 * K + i]) * rectified(row, first);
            dr += float(dP[block * 2 * K + second]) * rectified(row, second);
          }
          if (rectified(row, i) > 0.f) sum += sign ? -dr : dr;
        }
      } else {
        float u = row[n], slope = 1.f;
        if constexpr (MAP == Map::elu_plus_one) slope = u > 0.f ? 1.f : expf(u);
        if constexpr (MAP == Map::relu) slope = u > 0.f ? 1.f : 0.f;
        if constexpr (MAP == Map::tanh) {
          // 1 − tanh², which would cancel
          float small = expf(-2.f * fabsf(u));
          slope = 4.f * small / ((1.f + small) * (1.f + small));
        }
        sum = slope * float(dP[n]);
      }
      store(dx + n, sum);
    }
  }
  return s;
}
