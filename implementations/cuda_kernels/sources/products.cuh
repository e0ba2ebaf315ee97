// Products of tiles by all warps of a head: operands rounded to a precision, added up in float32.
//
// An operand is anything that gives its number (row, column): a Matrix in shared memory, its
// transpose, or a lambda that masks or scales one as it is read. What becomes of the product is a
// function of (row, column, number). Barriers are the caller's: one after the operands were written,
// one before the result is read. Which lane has which numbers of a result follows from M, N and WARPS
// alone; so a second product may be added into the first without a barrier between them.
#pragma once
#include "mma.cuh"

//! Numbers, `ld` from one row to the next.
template <class At>
struct MatrixAt {
  At at;
  int ld;
  __device__ float operator()(int i, int j) const { return at[i * ld + j]; }
};
typedef MatrixAt<Shared<float>> Matrix;
struct Transposed {
  Shared<float> at;
  int ld;
  __device__ float operator()(int i, int j) const { return at[j * ld + i]; }
};

//! 16 rows and 8 × PARTS columns of a product, in the registers of a warp.
template <int PARTS>
struct Tile {
  int row, column;  //!< its first
  float C[PARTS][4];

  //! C += A[·, :SUM] B[:SUM, ·]; SUM is a multiple of 16.
  template <Precision PRECISION, int SUM, class A, class B>
  __device__ void add(const A& a, const B& b) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int i = row + g;
    if constexpr (PRECISION == Precision::fp32) {
#pragma unroll 4
      for (int k = 0; k < SUM; k++) {
        float upper = a(i, k), lower = a(i + 8, k);
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
          int j = column + 8 * part + 2 * t;
          float left = b(k, j), right = b(k, j + 1);
          C[part][0] += upper * left;
          C[part][1] += upper * right;
          C[part][2] += lower * left;
          C[part][3] += lower * right;
        }
      }
    } else {
      constexpr int PER = PRECISION == Precision::tf32 ? 1 : 2, STEP = 8 * PER;
      static_assert(SUM % STEP == 0);
#pragma unroll 2
      for (int k = 0; k < SUM; k += STEP) {
        int first = k + PER * t, second = first + STEP / 2;
        unsigned left[4] = {of_row<PRECISION>(a, i, first), of_row<PRECISION>(a, i + 8, first),
                            of_row<PRECISION>(a, i, second), of_row<PRECISION>(a, i + 8, second)};
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
          int j = column + 8 * part + g;
          auto of_column = [&](int j, int k) { return b(k, j); };
          unsigned right[2] = {of_row<PRECISION>(of_column, j, first),
                               of_row<PRECISION>(of_column, j, second)};
          if constexpr (PRECISION == Precision::tf32) mma_tf32(C[part], left, right);
          if constexpr (PRECISION == Precision::bf16) mma_bf16(C[part], left, right);
          if constexpr (PRECISION == Precision::fp16) mma_fp16(C[part], left, right);
        }
      }
    }
  }

  //! use(row, column, number), which it may change.
  template <class Use>
  __device__ void each(const Use& use) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int part = 0; part < PARTS; part++)
#pragma unroll
      for (int n = 0; n < 4; n++)
        use(row + g + n / 2 * 8, column + 8 * part + 2 * t + n % 2, C[part][n]);
  }

 private:
  template <Precision PRECISION, class A>
  __device__ static unsigned of_row(const A& a, int i, int k) {
    if constexpr (PRECISION == Precision::tf32) return tf32(a(i, k));
    if constexpr (PRECISION == Precision::bf16) return bf16_pair(a(i, k), a(i, k + 1));
    if constexpr (PRECISION == Precision::fp16) return fp16_pair(a(i, k), a(i, k + 1));
  }
};

//! As wide as every warp still has a tile: what is read of A serves all its parts.
template <int M, int N>
__device__ constexpr int parts_of_a_tile() {
  for (int parts = 4; parts > 1; parts /= 2)
    if (N % (8 * parts) == 0 && M / 16 * (N / 8 / parts) >= WARPS) return parts;
  return 1;
}

//! use(tile) for the tiles of a product [M, N], shared out among the warps of the head.
template <int M, int N, class Use>
__device__ void each_tile(const Use& use) {
  static_assert(M % 16 == 0 && N % 8 == 0);
  constexpr int PARTS = parts_of_a_tile<M, N>(), ACROSS = N / 8 / PARTS;
  for (int n = threadIdx.x / 32; n < M / 16 * ACROSS; n += WARPS) {
    Tile<PARTS> tile{n / ACROSS * 16, n % ACROSS * 8 * PARTS, {}};
    use(tile);
  }
}

//! into(i, j, Σ_k a(i, k) b(k, j)) for i < M, j < N, k < SUM.
template <Precision PRECISION, int M, int N, int SUM, class A, class B, class Into>
__device__ void product(const A& a, const B& b, const Into& into) {
  each_tile<M, N>([&](auto& tile) {
    tile.template add<PRECISION, SUM>(a, b);
    tile.each(into);
  });
}
