// What sources/on_cpu/cuda_on_cpu.h has to catch, one kernel each, beside the same done right.
#include "portable.cuh"
#include "barrier.cuh"

__device__ Shared<float> number(int i) { return shared_memory<float>(4 * i); }

//! Barriers

extern "C" __global__ void cuda_fwp_some_threads_return(float*) {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
EXPORT(cuda_fwp_some_threads_return)

extern "C" __global__ void cuda_fwp_two_barriers_for_one(float*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
EXPORT(cuda_fwp_two_barriers_for_one)

extern "C" __global__ void cuda_fwp_a_lane_returns_before_a_shuffle(float* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_xor_sync(EVERY_LANE, 1.f, 1);
}
EXPORT(cuda_fwp_a_lane_returns_before_a_shuffle)

extern "C" __global__ void cuda_fwp_a_shuffle_against_a_barrier_of_the_warp(float* out) {
  if (threadIdx.x % 32 < 16)
    out[threadIdx.x] = __shfl_xor_sync(EVERY_LANE, 1.f, 1);
  else
    __syncwarp();
}
EXPORT(cuda_fwp_a_shuffle_against_a_barrier_of_the_warp)

extern "C" __global__ void cuda_fwp_a_barrier_of_the_warp_against_one_of_the_block(float*) {
  if (threadIdx.x % 32 < 16)
    __syncwarp();
  else
    __syncthreads();
}
EXPORT(cuda_fwp_a_barrier_of_the_warp_against_one_of_the_block)

extern "C" __global__ void cuda_fwp_half_a_warp_is_named(float* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 0);
}
EXPORT(cuda_fwp_half_a_warp_is_named)

extern "C" __global__ void cuda_fwp_part_of_a_warp_shuffles(float* out) {
  out[threadIdx.x] = __shfl_sync(EVERY_LANE, 1.f, 0, 8);
}
EXPORT(cuda_fwp_part_of_a_warp_shuffles)

extern "C" __global__ void cuda_fwp_barriers_are_met(float* out) {
  if (threadIdx.x < 32) __syncwarp();
  __syncthreads();
  float lane = __shfl_xor_sync(EVERY_LANE, float(threadIdx.x), 1);
  out[threadIdx.x] = lane + 100.f * __shfl_sync(EVERY_LANE, float(threadIdx.x), 3);
}
EXPORT(cuda_fwp_barriers_are_met)

//! Barriers by number: of 128 threads the two groups of 64, or what goes wrong there

__device__ inline void sync_group(int line = __builtin_LINE()) {
  if (threadIdx.x < 64)
    named_barrier<1, 64>(line);
  else
    named_barrier<2, 64>(line);
}

extern "C" __global__ void cuda_fwp_a_group_waits_without_the_other(float* out) {
  if (threadIdx.x >= 64) return;
  for (int i = 0; i < 3; i++) sync_group();
  out[threadIdx.x] = 1.f;
}
EXPORT(cuda_fwp_a_group_waits_without_the_other)

extern "C" __global__ void cuda_fwp_a_thread_of_a_group_returns(float*) {
  if (threadIdx.x == 69) return;
  sync_group();
}
EXPORT(cuda_fwp_a_thread_of_a_group_returns)

extern "C" __global__ void cuda_fwp_a_warp_of_a_group_returns(float*) {
  if (threadIdx.x / 32 == 3) return;
  sync_group();
}
EXPORT(cuda_fwp_a_warp_of_a_group_returns)

extern "C" __global__ void cuda_fwp_two_barriers_for_a_group(float*) {
  if (threadIdx.x / 32 == 3) {
    sync_group();
  } else {
    sync_group();
  }
}
EXPORT(cuda_fwp_two_barriers_for_a_group)

extern "C" __global__ void cuda_fwp_half_a_warp_waits_for_its_group(float*) {
  if (threadIdx.x % 32 < 16) sync_group();
}
EXPORT(cuda_fwp_half_a_warp_waits_for_its_group)

extern "C" __global__ void cuda_fwp_a_group_against_the_block(float*) {
  if (threadIdx.x % 64 < 32)
    __syncthreads();
  else
    sync_group();
}
EXPORT(cuda_fwp_a_group_against_the_block)

extern "C" __global__ void cuda_fwp_both_groups_by_one_number(float*) {
  named_barrier<1, 64>(0);
}
EXPORT(cuda_fwp_both_groups_by_one_number)

//! The other group has met there before.
extern "C" __global__ void cuda_fwp_the_number_of_the_other_group(float*) {
  if (threadIdx.x < 64) named_barrier<1, 64>(0);
  __syncthreads();
  if (threadIdx.x >= 64) named_barrier<1, 64>(0);
}
EXPORT(cuda_fwp_the_number_of_the_other_group)

extern "C" __global__ void cuda_fwp_a_number_and_then_another(float*) {
  named_barrier<1, 128>(0);
  named_barrier<2, 128>(0);
}
EXPORT(cuda_fwp_a_number_and_then_another)

extern "C" __global__ void cuda_fwp_a_group_counts_one_warp(float*) {
  if (threadIdx.x < 64) named_barrier<1, 32>(0);
}
EXPORT(cuda_fwp_a_group_counts_one_warp)

extern "C" __global__ void cuda_fwp_a_group_counts_the_block(float*) {
  if (threadIdx.x < 64) named_barrier<1, 128>(0);
}
EXPORT(cuda_fwp_a_group_counts_the_block)

extern "C" __global__ void cuda_fwp_two_counts_for_a_group(float*) {
  if (threadIdx.x < 32) named_barrier<1, 64>(0);
  if (threadIdx.x / 32 == 1) named_barrier<1, 96>(0);
}
EXPORT(cuda_fwp_two_counts_for_a_group)

extern "C" __global__ void cuda_fwp_half_a_warp_is_counted(float*) { named_barrier<1, 48>(0); }
EXPORT(cuda_fwp_half_a_warp_is_counted)

extern "C" __global__ void cuda_fwp_the_number_of_the_block(float*) { named_barrier<0, 128>(0); }
EXPORT(cuda_fwp_the_number_of_the_block)

extern "C" __global__ void cuda_fwp_a_number_of_no_barrier(float*) { named_barrier<16, 128>(0); }
EXPORT(cuda_fwp_a_number_of_no_barrier)

extern "C" __global__ void cuda_fwp_what_is_assumed_does_not_hold(float*) {
  ASSUME(threadIdx.x < 63);
}
EXPORT(cuda_fwp_what_is_assumed_does_not_hold)

//! Shared memory: a number a thread

extern "C" __global__ void cuda_fwp_nobody_has_written(float* out) {
  if (threadIdx.x != 5) number(threadIdx.x)[0] = 1.f;
  __syncthreads();
  out[threadIdx.x] = number(threadIdx.x)[0];
}
EXPORT(cuda_fwp_nobody_has_written)

extern "C" __global__ void cuda_fwp_what_the_last_block_wrote_is_gone(float* out) {
  if (blockIdx.x == 0) number(threadIdx.x)[0] = 1.f;
  out[threadIdx.x] = number(threadIdx.x)[0];
}
EXPORT(cuda_fwp_what_the_last_block_wrote_is_gone)

extern "C" __global__ void cuda_fwp_a_number_too_far(float*) { number(threadIdx.x + 1)[0] = 1.f; }
EXPORT(cuda_fwp_a_number_too_far)

extern "C" __global__ void cuda_fwp_a_number_before(float*) {
  number(int(threadIdx.x) - 1)[0] = 1.f;
}
EXPORT(cuda_fwp_a_number_before)

enum class By { nothing, shuffle, warp, group, block };

__device__ inline void order(By by) {
  if (by == By::shuffle) __shfl_xor_sync(EVERY_LANE, 0.f, 1);
  if (by == By::warp) __syncwarp();
  if (by == By::group) sync_group();
  if (by == By::block) __syncthreads();
}

//! Each reads what the thread `distance` away wrote.
__device__ inline void write_then_read(float* out, int distance, By by) {
  int x = threadIdx.x;
  number(x)[0] = float(x);
  order(by);
  out[x] = number(x ^ distance)[0];
}

//! Each writes where the thread `distance` away read.
__device__ inline void read_then_write(float* out, int distance, By by) {
  int x = threadIdx.x;
  number(x)[0] = float(x);
  __syncthreads();
  out[x] = number(x ^ distance)[0];
  order(by);
  number(x)[0] = 1.f;
}

//! All read one number, then one writes it.
__device__ inline void all_read_then_one_writes(float* out, int threads, By by) {
  int x = threadIdx.x;
  if (x == 0) number(0)[0] = 7.f;
  __syncthreads();
  if (x < threads) out[x] = number(0)[0];
  order(by);
  if (x == 0) number(0)[0] = 1.f;
}

//! Two threads write one number.
__device__ inline void write_twice(float* out, int distance, By by) {
  int x = threadIdx.x;
  if (x == 0) number(0)[0] = 1.f;
  order(by);
  if (x == distance) number(0)[0] = 2.f;
  __syncthreads();
  out[x] = number(0)[0];
}

#define RACES(what, within, across, between)                                                            \
  extern "C" __global__ void cuda_fwp_##what##_within(float* out) { what(out, within, By::nothing); } \
  EXPORT(cuda_fwp_##what##_within)                                                                  \
  extern "C" __global__ void cuda_fwp_##what##_shuffled(float* out) {                               \
    what(out, within, By::shuffle);                                                            \
  }                                                                                            \
  EXPORT(cuda_fwp_##what##_shuffled)                                                                \
  extern "C" __global__ void cuda_fwp_##what##_across(float* out) { what(out, across, By::warp); }    \
  EXPORT(cuda_fwp_##what##_across)                                                                  \
  extern "C" __global__ void cuda_fwp_##what##_in_order(float* out) {                               \
    what(out, within, By::warp);                                                               \
    __syncthreads();                                                                           \
    what(out, across, By::block);                                                              \
  }                                                                                            \
  EXPORT(cuda_fwp_##what##_in_order)                                                               \
  extern "C" __global__ void cuda_fwp_##what##_in_groups(float* out) { what(out, across, By::group); } \
  EXPORT(cuda_fwp_##what##_in_groups)                                                               \
  extern "C" __global__ void cuda_fwp_##what##_between_groups(float* out) {                         \
    what(out, between, By::group);                                                             \
  }                                                                                            \
  EXPORT(cuda_fwp_##what##_between_groups)

RACES(write_then_read, 1, 32, 64)
RACES(read_then_write, 1, 32, 64)
RACES(all_read_then_one_writes, 32, 64, 128)
RACES(write_twice, 1, 32, 64)

//! What is rounded, and in which order

extern "C" __global__ void cuda_fwp_sixteen_bits(const float* x, __half* half, __nv_bfloat16* bfloat,
                                            float* from_half, float* from_bfloat, Index n) {
  for (Index i = threadIdx.x; i < n; i += blockDim.x) {
    half[i] = __float2half(x[i]);
    bfloat[i] = __float2bfloat16(x[i]);
    from_half[i] = to_float(half[i]);
    from_bfloat[i] = to_float(bfloat[i]);
  }
}
EXPORT(cuda_fwp_sixteen_bits)

//! Global memory, which nothing watches: the order in which threads came, and what they add up to.
extern "C" __global__ void cuda_fwp_who_came_when(float* out) {
  __syncthreads();
  int came = int(out[64]++);
  out[came] = float(threadIdx.x);
  number(threadIdx.x)[0] = 1.f / float(threadIdx.x + 1);
  __syncthreads();
  float sum = 0.f;
  for (int i = 0; i < 64; i++) sum += number(i)[0];
  out[65 + threadIdx.x] = sum + sum_over_warp(1.f / float(threadIdx.x + 1));
}
EXPORT(cuda_fwp_who_came_when)

extern "C" void seed(unsigned number) { on_cpu::random_order.seed(number); }
