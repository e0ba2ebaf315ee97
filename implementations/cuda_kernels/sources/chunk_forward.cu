// Chunk by chunk: BV value columns of a head, its state S [D, BV] in shared memory. Where φ is WIDE,
// its Q' and K' of a chunk lie in a room in global memory, which the caches hold.
//
// Q' = norm(φ(Q)), K' = norm(φ(K)); γ the decay since the chunk began, Γ that between two tokens:
//     U = A diag(β) (V − diag(r∘γ) K'S)     A = (I + tril(diag(β∘r) (Γ∘K'K'ᵀ), −1))⁻¹
//     O = diag(γ) Q'S + tril(Γ∘Q'K'ᵀ) U     S ← γ_C S + (Γ_C∘K')ᵀ U
//     y = the same of z and a column of ones   O ← O / (y + ε)     where the norm divides
// Rules that do not correct what they find have U = V or βV; without decay Γ = 1; and r = 1, but with
// the delta rule and a norm that divides, 1 / (z·k + ε), where z is the sum of keys.
// (fwpbench.operators.chunk_form: Yang et al. 2024b, section 3.)
#include "chunk.cuh"

// Shared memory of a head, in floats.
constexpr int AT_S = 0;
constexpr int AT_KEYS = AT_S + PADDED_D * padded(BV);
constexpr int AT_QUERIES = AT_KEYS + !WIDE * C * padded(PADDED_D);
constexpr int AT_U = AT_QUERIES + !WIDE * READS * C * padded(PADDED_D);
constexpr int AT_SCORES = AT_U + C * padded(BV);
constexpr int AT_GRAM = AT_SCORES + READS * C * padded(C);
constexpr int AT_GAMMA = AT_GRAM + CORRECTS * C * padded(C);
constexpr int AT_BETA = AT_GAMMA + DECAYS * C * padded(C);
constexpr int AT_RETRIEVED = AT_BETA + WEIGHS * C;
constexpr int AT_SEEN = AT_RETRIEVED + RETRIEVES * C;
constexpr int AT_Z = AT_SEEN + DIVIDES * C;
constexpr int AT_ROWS = AT_Z + DIVIDES * D;
static_assert(FLOATS == AT_ROWS + WARPS * K);

// With 1 the compiler does not spill a few registers for one block more.
extern "C" __global__ void __launch_bounds__(HEADS * THREADS, 1)
cuda_fwp_chunk_forward(const Number* q, const Number* k, const Number* v, const float* alpha,
                       const float* beta, const float* projection, const float* S_in, const float* z_in,
                       float* rows, Number* o, float* kept, float* kept_z, float* S_out, float* z_out,
                       Index T, Index H, Index BH) {
  Index bh = this_head();
  if (HEADS > 1 && bh >= BH) return;
  Matrix S{at_float(AT_S), padded(BV)}, U{at_float(AT_U), padded(BV)};
  auto features_at = [&](int at, int n) {
    constexpr int LD = padded(PADDED_D);
    if constexpr (WIDE)
      return MatrixAt<float*>{rows + ((bh * gridDim.y + blockIdx.y) * 2 + n) * C * LD, LD};
    if constexpr (!WIDE) return Matrix{at_float(at), LD};
  };
  auto keys = features_at(AT_KEYS, 0), queries = features_at(AT_QUERIES, 1);
  auto keys_transposed = [&](int d, int i) { return keys(i, d); };
  Matrix scores{at_float(AT_SCORES), padded(C)}, gram{at_float(AT_GRAM), padded(C)};
  Matrix gamma{at_float(AT_GAMMA), padded(C)};
  Shared<float> weights = at_float(AT_BETA), retrieved = at_float(AT_RETRIEVED);
  Shared<float> seen = at_float(AT_SEEN), z = at_float(AT_Z), row_room = at_float(AT_ROWS);
  auto since = [&](int i) -> float { return DECAYS ? gamma(i, C) : 1.f; };
  auto left = [&](int i) -> float { return DECAYS ? gamma(C - 1, i) : 1.f; };
  auto decayed = [&](int i, int j) -> float { return DECAYS ? gamma(i, j) : 1.f; };
  auto weight = [&](int i) -> float { return WEIGHS ? weights[i] : 1.f; };

  Index chunks = (T + C - 1) / C;
  int column = blockIdx.y * BV;
  for (int n = threadIdx.x; n < PADDED_D * BV; n += THREADS) {
    int d = n / BV, e = n % BV;
    bool inside = STATE_IN && d < D && column + e < V;
    S.at[d * S.ld + e] = inside ? S_in[(bh * D + d) * V + column + e] : 0.f;
  }
  if constexpr (DIVIDES)
    for (int d = threadIdx.x; d < D; d += THREADS) z[d] = STATE_IN ? z_in[bh * D + d] : 0.f;
  auto save = [&](float* states, float* zs, Index number) {
    float* to = states + number * D * V;
    for (int n = threadIdx.x; n < D * BV; n += THREADS)
      if (column + n % BV < V) to[n / BV * V + column + n % BV] = S(n / BV, n % BV);
    if (DIVIDES && blockIdx.y == 0)
      for (int d = threadIdx.x; d < D; d += THREADS) zs[number * D + d] = z[d];
  };

  for (Index n = 0; n < chunks; n++) {
    Chunk chunk(bh, n, T, H);
    sync_head();
    if constexpr (KEEPS) save(kept, kept_z, bh * chunks + n);
    features_of<KEY_MAP>(chunk, k, projection, row_room, keys);
    if constexpr (READS) features_of<QUERY_MAP>(chunk, q, projection, row_room, queries);
    if constexpr (RETRIEVES) along_z(keys, z, [&](int i, float x) { retrieved[i] = x; });
    if constexpr (DIVIDES && READS) along_z(queries, z, [&](int i, float x) { seen[i] = x; });
    if constexpr (WEIGHS)
      for (int i = threadIdx.x; i < C; i += THREADS)
        weights[i] = chunk.live(i) ? beta[chunk.row(i)] : 0.f;
    if constexpr (DECAYS) between(chunk, alpha, beta, gamma);
    sync_head();

    if constexpr (CORRECTS)
      // In float32 where r needs its sums.
      product<RETRIEVES ? Precision::fp32 : PRECISION, C, C, PADDED_D>(
          keys, keys_transposed, [&](int i, int j, float x) {
            gram.at[i * gram.ld + j] = i > j ? decayed(i, j) * x : 0.f;
          });
    if constexpr (READS)
      product<PRECISION, C, C, PADDED_D>(
          queries, keys_transposed, [&](int i, int j, float x) {
            scores.at[i * scores.ld + j] = i >= j ? decayed(i, j) * x : 0.f;
          });
    if constexpr (RETRIEVES) {
      sync_head();
      for (int i = threadIdx.x; i < C; i += THREADS) {
        float sum = retrieved[i];
        for (int j = 0; j < i; j++) sum += gram(i, j);
        retrieved[i] = 1.f / (sum + EPSILON);
      }
      sync_head();
    }
    auto r = [&](int i) -> float { return RETRIEVES ? retrieved[i] : 1.f; };
    auto value = [&](int i, int e) {
      bool inside = chunk.live(i) && column + e < V;
      return inside ? to_float(v[chunk.row(i) * V + column + e]) : 0.f;
    };
    if constexpr (CORRECTS)
      product<PRECISION, C, BV, PADDED_D>(keys, S, [&](int i, int e, float x) {
        U.at[i * U.ld + e] = weight(i) * (value(i, e) - r(i) * since(i) * x);
      });
    else
      for (int n = threadIdx.x; n < C * BV; n += THREADS)
        U.at[n / BV * U.ld + n % BV] = weight(n / BV) * value(n / BV, n % BV);
    if constexpr (CORRECTS)
      solve<BV>([&](int i, int j) { return weight(i) * r(i) * gram(i, j); }, U);
    else
      sync_head();

    if constexpr (READS) {
      if constexpr (DIVIDES) {
        for (int i = threadIdx.x; i < C; i += THREADS) {
          float sum = since(i) * float(seen[i]);
          for (int j = 0; j <= i; j++)
            sum += scores(i, j) * (NORMALIZER == Normalizer::same_law ? weight(j) : 1.f);
          seen[i] = sum + EPSILON;
        }
        sync_head();
      }
      each_tile<C, BV>([&](auto& tile) {
        tile.template add<PRECISION, PADDED_D>(queries, S);
        if constexpr (DECAYS) tile.each([&](int i, int, float& x) { x *= since(i); });
        tile.template add<PRECISION, C>(scores, U);
        tile.each([&](int i, int e, float x) {
          if constexpr (DIVIDES) x /= seen[i];
          if (chunk.live(i) && column + e < V) store(o + chunk.row(i) * V + column + e, x);
        });
      });
      sync_head();
    }
    product<PRECISION, PADDED_D, BV, C>(
        [&](int d, int i) { return left(i) * keys(i, d); }, U, [&](int d, int e, float x) {
          S.at[d * S.ld + e] = since(C - 1) * S(d, e) + x;
        });
    if constexpr (DIVIDES)
      for (int d = threadIdx.x; d < D; d += THREADS) {
        float sum = since(C - 1) * float(z[d]);
        for (int i = 0; i < C; i++)
          sum += (NORMALIZER == Normalizer::same_law ? weight(i) : 1.f) * left(i) * keys(i, d);
        z[d] = sum;
      }
  }
  sync_head();
  if constexpr (STATE_OUT) save(S_out, z_out, bh);
}
EXPORT(cuda_fwp_chunk_forward)
