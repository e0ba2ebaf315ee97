// What the kernels share with both of their worlds: a GPU (NVRTC), and a CPU (on_cpu/cuda_on_cpu.h).
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define EXPORT(kernel)
//! What the compiler may rely on; a CPU ends where it does not hold. Not __builtin_assume: of that
//! NVRTC 13.5 crashed on a kernel of several heads, in 8 of 40 processes.
#define ASSUME(what) \
  if (!(what)) __builtin_unreachable()
extern __shared__ __align__(16) char shared_bytes[];
template <class T>
using Shared = T*;
template <class T>
__device__ Shared<T> shared_memory(int byte) {
  return reinterpret_cast<T*>(shared_bytes + byte);
}
#else
#include "on_cpu/cuda_on_cpu.h"
template <class T>
using Shared = on_cpu::Pointer<T>;
template <class T>
Shared<T> shared_memory(int byte) {
  return {reinterpret_cast<T*>(on_cpu::shared.data() + byte)};
}
#endif

typedef long long Index;
constexpr unsigned EVERY_LANE = 0xffffffffu;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline void store(float* at, float x) { *at = x; }
__device__ inline void store(__nv_bfloat16* at, float x) { *at = __float2bfloat16(x); }
__device__ inline void store(__half* at, float x) { *at = __float2half(x); }

//! Summed over lanes that differ in the bits of `lanes`; every lane gets the sum.
template <int FROM, int TO>
__device__ inline float sum_over_lanes(float x) {
#pragma unroll
  for (int lane = FROM; lane < TO; lane *= 2) x += __shfl_xor_sync(EVERY_LANE, x, lane);
  return x;
}
__device__ inline float sum_over_warp(float x) { return sum_over_lanes<1, 32>(x); }

// What a problem's constants say; their values come before a kernel's source (sources.py).
enum class Map { identity, elu_plus_one, relu, tanh, favor, favor_queries, favor_published, dpfp };
enum class Scale { none, sum, l2 };
enum class Decay { none, head, feature, beta };
//! How z follows: by the rule's own law as one more value column of ones, or by adding keys up.
enum class Normalizer { none, same_law, sum };
//! What the operands of a product are rounded to; it is added up in float32.
enum class Precision { fp32, tf32, bf16, fp16 };

constexpr float EPSILON = 1e-6f;
constexpr float VARIANCE_EPSILON = 1e-5f;
