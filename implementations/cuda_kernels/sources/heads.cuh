// The heads of a block: HEADS of them, each with WARPS warps and a part of the shared memory.
//
// threadIdx.y is the head of the block, threadIdx.x the thread of that head. So a head's threads work
// as if the block were theirs alone; they wait for each other, and for nobody else.
#pragma once
#include "barrier.cuh"

constexpr int THREADS = 32 * WARPS;

//! Which (b, h) of the grid. Those past the last return at once: nobody waits for them.
__device__ inline Index this_head() {
  // Else loops over a head's threads would have no known length.
  if constexpr (HEADS > 1) ASSUME(threadIdx.x < THREADS);
  return HEADS == 1 ? Index(blockIdx.x) : Index(blockIdx.x) * HEADS + threadIdx.y;
}

//! What the columns of a block say is one part; those of the others lie behind it. Null stays null.
template <class T>
__device__ inline T* part_of_block(T* parts, Index size) {
  return parts ? parts + blockIdx.y * size : parts;
}

//! Of the head's shared memory, which has FLOATS.
__device__ inline Shared<float> at_float(int i) {
  return shared_memory<float>(4 * ((HEADS == 1 ? 0 : int(threadIdx.y) * FLOATS) + i));
}

//! Barrier 1 + HEAD, for the head that this thread belongs to. 0 is that of __syncthreads().
template <int HEAD = 0>
__device__ inline void sync_by_number(int line) {
  if constexpr (HEAD < HEADS) {
    if (threadIdx.y == HEAD)
      named_barrier<1 + HEAD, THREADS>(line);
    else
      sync_by_number<HEAD + 1>(line);
  }
}

//! What __syncthreads() is to a block, to all threads of a head.
__device__ inline void sync_head(int line = __builtin_LINE()) {
  if constexpr (HEADS == 1) block_barrier(line);
  if constexpr (HEADS > 1 && WARPS == 1) __syncwarp();
  if constexpr (HEADS > 1 && WARPS > 1) sync_by_number(line);
}
