// A warp's product of fragments on tensor cores: inline PTX, with a twin that a CPU runs
// (on_cpu/mma_on_cpu.h).
//
// With g = lane / 4 and t = lane % 4, a lane has of C [16, 8] the numbers (g, 2t), (g, 2t + 1),
// (g + 8, 2t), (g + 8, 2t + 1). A register holds one number of tf32, or two of 16 bits that are
// neighbours in k, the first in its lower half; so with w = 2t of pairs, w = t of tf32, and half of k
// from one register to the next, it has
//     of A [16, k]   (g, w), (g + 8, w), (g, w + k/2), (g + 8, w + k/2)
//     of B [k, 8]    (w, g), (w + k/2, g)                       (PTX ISA, "Matrix Fragments for mma")
#pragma once
#ifdef __CUDACC__

__device__ inline unsigned bf16_pair(float first, float second) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<unsigned*>(&pair);
}
__device__ inline unsigned fp16_pair(float first, float second) {
  __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<unsigned*>(&pair);
}
//! To nearest, ties away from zero.
__device__ inline unsigned tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

//! C += A B, k = 16
__device__ inline void mma_bf16(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(C[0]), "+f"(C[1]), "+f"(C[2]), "+f"(C[3])
      : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]));
}
//! C += A B, k = 16
__device__ inline void mma_fp16(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(C[0]), "+f"(C[1]), "+f"(C[2]), "+f"(C[3])
      : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]));
}
//! C += A B, k = 8
__device__ inline void mma_tf32(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(C[0]), "+f"(C[1]), "+f"(C[2]), "+f"(C[3])
      : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]));
}

#else
#include "on_cpu/mma_on_cpu.h"
#endif
