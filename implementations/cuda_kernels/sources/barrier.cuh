// Barriers by number: inline PTX beside mma.cuh's, with a twin that a CPU runs
// (on_cpu/cuda_on_cpu.h).
//
// Number and count are constants, so that the compiler says how many barriers a block takes: of a
// number in a register it takes all 16, and a multiprocessor has few (24 on sm_120).
#pragma once
#ifdef __CUDACC__

//! Waits until COUNT threads, whole warps, wait at barrier NUMBER. (PTX ISA, "bar.sync")
template <int NUMBER, int COUNT>
__device__ inline void named_barrier(int) {
  asm volatile("bar.sync %0, %1;" : : "n"(NUMBER), "n"(COUNT) : "memory");
}
__device__ inline void block_barrier(int) { __syncthreads(); }

#else
//! `line` tells barriers apart, which all threads have to meet at the same one.
template <int NUMBER, int COUNT>
void named_barrier(int line) {
  on_cpu::named_barrier(NUMBER, COUNT, line);
}
inline void block_barrier(int line) { __syncthreads(line); }
#endif
