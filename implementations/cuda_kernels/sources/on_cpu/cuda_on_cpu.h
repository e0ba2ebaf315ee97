// CUDA C++ on a CPU: runs __global__ functions one block after the other, one fiber a CUDA thread.
//
// For tests, not for speed. It knows what these kernels use, and is stricter than a GPU: lanes run in
// shuffled order; a barrier, of the block or by number of some of its warps, that some of its threads
// never reach or that is not the same for all, an access outside shared memory, a read of shared memory
// that nobody wrote, two threads that touch one number without a barrier between them, one of them
// writing, and a null pointer that is followed end the process with a sentence on stderr. Shared memory
// is what the launch asks for, reached by shared_memory<T>(byte); whole warps wait for each other. Of
// global memory it watches no more: a sanitizer sees what is out of bounds there.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define CUDA_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __shared__ \
  static_assert(false, "static __shared__ is not watched here: take shared_memory<T>(byte)");

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
};
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

// Numbers of 16 bits, rounded to nearest even.

struct __nv_bfloat16 {
  uint16_t bits = 0;
};
inline float __bfloat162float(__nv_bfloat16 number) {
  uint32_t bits = uint32_t(number.bits) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline __nv_bfloat16 __float2bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {uint16_t(nan ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

struct __half {
  uint16_t bits = 0;
};
inline float __half2float(__half number) {
  float sign = number.bits & 0x8000u ? -1.f : 1.f;
  int exponent = (number.bits >> 10) & 31, fraction = number.bits & 1023;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(float(1024 + fraction), exponent - 25)
                          : std::ldexp(float(fraction), -24));
}
inline __half __float2half(float value) {
  uint16_t sign = std::signbit(value) ? 0x8000u : 0u;
  double size = std::fabs(double(value));
  if (std::isnan(value)) return {0x7fffu};
  if (size >= 65520.) return {uint16_t(sign | 0x7c00u)};
  int exponent;
  std::frexp(size, &exponent);
  // Units of the last place, at least those of the smallest normal number: nearbyint rounds to even.
  int unit = std::max(exponent, -13) - 11;
  auto units = uint32_t(std::nearbyint(std::ldexp(size, -unit)));
  // One place more carries into the exponent, as it should.
  return {uint16_t(sign | (size == 0. ? 0u : units + (uint32_t(unit + 24) << 10)))};
}

inline float rsqrtf(float value) { return 1.f / std::sqrt(value); }

namespace on_cpu {

enum class Waits { nothing, shuffle, warp, number, block, done };

struct Fiber {
  ucontext_t context;
  Waits waits;
  int line;           //!< of the barrier that it waits at
  int number, count;  //!< of a barrier by number
  uint3 index;
  std::vector<char> stack;
  void* fake_stack = nullptr;
  unsigned shuffles = 0;
};

inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline int current;
inline void (*body)(void*);
inline void* body_argument;
inline std::mt19937 random_order{20260101};
//! A barrier by its number.
struct Named {
  uint32_t waiting = 0;  //!< warps that ever did
  uint32_t met = 0;      //!< warps that it is for: those that met there first
  uint32_t barriers = 0;
};
constexpr int NUMBERS = 16;
inline Named named[NUMBERS];
//! The number that a warp waits at, 0 before it has waited at any.
inline std::vector<int> number_of_warp;
//! Barriers seen by the block, and by each of its warps.
inline uint32_t block_barriers;
inline std::vector<uint32_t> warp_barriers;
//! What lanes hand each other, twice, so that a shuffle never overwrites what is still read.
inline std::vector<uint64_t> handed[2];

inline const char* kernel_name;

//! The sentence is the last that the process says: no handler of its host's prints a stack after it.
[[noreturn]] inline void die(const char* what) {
  fprintf(stderr, "CUDA on CPU: %s (%s, block %u, %u; thread %u, %u)\n", what, kernel_name,
          blockIdx.x, blockIdx.y, threadIdx.x, threadIdx.y);
  fflush(stderr);
  signal(SIGABRT, SIG_DFL);
  abort();
}

#if defined(__SANITIZE_ADDRESS__)
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
#endif

inline void resume(int fiber) {
  current = fiber;
  threadIdx = fibers[fiber].index;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack;
  Fiber& f = fibers[fiber];
  __sanitizer_start_switch_fiber(&fake_stack, f.stack.data(), f.stack.size());
  swapcontext(&scheduler, &f.context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
  swapcontext(&scheduler, &fibers[fiber].context);
#endif
}

inline void wait(Waits what) {
  Fiber& f = fibers[current];
  f.waits = what;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&f.fake_stack, scheduler_stack, scheduler_stack_size);
  swapcontext(&f.context, &scheduler);
  __sanitizer_finish_switch_fiber(f.fake_stack, &scheduler_stack, &scheduler_stack_size);
#else
  swapcontext(&f.context, &scheduler);
#endif
}

inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
  body(body_argument);
  fibers[current].waits = Waits::done;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, scheduler_stack, scheduler_stack_size);
#endif
}

// Shared memory: who touched each two bytes of it, and at which barrier.

//! Whom a barrier is for: a warp, the warps that meet at one number, the block.
enum Scope { OF_THREAD, OF_WARP, OF_NUMBER, OF_BLOCK, SCOPES };

//! The last that touched it, and all warps that did since a barrier was between.
struct Touch {
  int thread = -1;
  bool by_many = false;
  uint32_t warps = 0;
  uint32_t barriers[SCOPES] = {};  //!< seen until then, in every scope
};

inline Touch now() {
  int warp = current / 32;
  return {current, false, 1u << warp,
          {0, warp_barriers[warp], named[number_of_warp[warp]].barriers, block_barriers}};
}

//! Whether no other thread has touched it, or a barrier of all that did lies between.
inline bool ordered(const Touch& before, const Touch& now) {
  if (before.thread < 0 || (before.thread == now.thread && !before.by_many)) return true;
  uint32_t warps = before.warps | now.warps;
  const Named& number = named[number_of_warp[now.thread / 32]];
  int of = warps == now.warps ? OF_WARP : (warps & ~number.waiting) == 0 ? OF_NUMBER : OF_BLOCK;
  for (int scope = of; scope < SCOPES; scope++)
    if (before.barriers[scope] != now.barriers[scope]) return true;
  return false;
}

struct Shadow {
  bool written = false;
  Touch write, read;
};
inline std::vector<char> shared;
inline std::vector<Shadow> shadow;

inline Shadow* touched(const char* address, size_t size) {
  if (address < shared.data() || address + size > shared.data() + shared.size())
    die("an access outside shared memory");
  return &shadow[(address - shared.data()) / 2];
}

inline void reads(const char* address, size_t size) {
  Shadow* at = touched(address, size);
  Touch here = now();
  for (size_t i = 0; i < size / 2; i++) {
    if (!at[i].written) die("shared memory is read that nobody has written");
    if (!ordered(at[i].write, here)) die("a race: shared memory is read that another thread writes");
    Touch& last = at[i].read;
    Touch read = here;
    if (last.thread >= 0 && !ordered(last, here))
      read.by_many = true, read.warps |= last.warps;
    last = read;
  }
}

inline void writes(const char* address, size_t size) {
  Shadow* at = touched(address, size);
  Touch here = now();
  for (size_t i = 0; i < size / 2; i++) {
    if (!ordered(at[i].write, here)) die("a race: two threads write to one place of shared memory");
    if (!ordered(at[i].read, here)) die("a race: shared memory is written that another thread reads");
    at[i].written = true;
    at[i].write = here;
  }
}

//! Lets go whoever waits at a number for which enough have come; whether there were any.
inline bool met_by_number(int threads) {
  bool met = false;
  for (int number = 1; number < NUMBERS; number++) {
    uint32_t warps = 0;
    int line, count, here = 0;
    for (int i = 0; i < threads; i++) {
      const Fiber& f = fibers[i];
      if (f.waits != Waits::number || f.number != number) continue;
      if (here && f.line != line) die("threads wait at different barriers of one number");
      if (here && f.count != count) die("threads wait at a barrier for different counts");
      line = f.line, count = f.count, here++;
      warps |= 1u << i / 32;
    }
    if (here != 32 * __builtin_popcount(warps))
      die("some lanes of a warp wait at a barrier by number, the others do not");
    if (!here || here < count) continue;
    if (here > count) die("more threads wait at a barrier than it counts");
    Named& barrier = named[number];
    if (barrier.barriers++ == 0) barrier.met = warps;
    if (barrier.met != warps) die("a barrier is that of other warps");
    for (Fiber& f : fibers)
      if (f.waits == Waits::number && f.number == number) f.waits = Waits::nothing;
    met = true;
  }
  return met;
}

inline void run_block(int threads) {
  for (int i = 0; i < threads; i++) {
    Fiber& f = fibers[i];
    f.waits = Waits::nothing;
    f.index = {unsigned(i) % blockDim.x, unsigned(i) / blockDim.x % blockDim.y,
               unsigned(i) / (blockDim.x * blockDim.y)};
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = &scheduler;
    makecontext(&f.context, entry, 0);
  }
  std::vector<int> order(threads), warps((threads + 31) / 32);
  std::iota(order.begin(), order.end(), 0);
  std::iota(warps.begin(), warps.end(), 0);
  auto waiting = [&](int from, int to, Waits what) {
    return int(std::count_if(fibers.begin() + from, fibers.begin() + to,
                             [&](const Fiber& f) { return f.waits == what; }));
  };
  for (;;) {
    bool ran = false;
    std::shuffle(warps.begin(), warps.end(), random_order);
    for (int warp : warps) {  // each until none of its lanes can go on
      int from = 32 * warp, to = std::min(from + 32, threads);
      for (bool again = true; again;) {
        std::shuffle(order.begin() + from, order.begin() + to, random_order);
        for (int i = from; i < to; i++)
          if (fibers[order[i]].waits == Waits::nothing) {
            resume(order[i]);
            ran = true;
          }
        int at_warp = waiting(from, to, Waits::warp), handing = waiting(from, to, Waits::shuffle);
        again = at_warp + handing;
        if (!again) continue;
        if (at_warp + handing < to - from)
          die("some lanes of a warp wait for each other, the others have gone on or returned");
        if (at_warp && handing) die("some lanes of a warp shuffle, the others are at __syncwarp()");
        // A shuffle orders nothing in memory.
        if (at_warp) warp_barriers[warp]++;
        for (int i = from; i < to; i++) fibers[i].waits = Waits::nothing;
      }
    }
    if (met_by_number(threads)) continue;
    int done = waiting(0, threads, Waits::done), at_block = waiting(0, threads, Waits::block);
    if (done == threads) return;
    if (waiting(0, threads, Waits::number)) die("a barrier by number is not reached by all it counts");
    if (done) die("__syncthreads() is not reached by all threads: some have returned");
    if (at_block == threads) {
      for (int i = 0; i < threads; i++)
        if (fibers[i].line != fibers[0].line) die("threads wait at different __syncthreads()");
      block_barriers++;
      for (int i = 0; i < threads; i++) fibers[i].waits = Waits::nothing;
    } else if (!ran) {
      die("no thread can go on");
    }
  }
}

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<Arguments*>(arguments[I])...);
}

//! While a kernel runs, a fault so low is one of a null pointer and an offset: no heap lies there.
struct Faults {
  static constexpr uintptr_t LOW = 1 << 30;
  static inline struct sigaction before;
  static void met(int, siginfo_t* fault, void*) {
    if (fault->si_code == SEGV_MAPERR && uintptr_t(fault->si_addr) < LOW)
      die("an access through a null pointer");
    sigaction(SIGSEGV, &before, nullptr);  // for whom it meets again when this returns
  }
  Faults() {
    struct sigaction ours = {};
    ours.sa_sigaction = met;
    ours.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &ours, &before);
  }
  ~Faults() { sigaction(SIGSEGV, &before, nullptr); }
};

template <class... Arguments>
void launch(void (*kernel)(Arguments...), const unsigned* grid, const unsigned* block, size_t bytes,
            void** arguments) {
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], 1};
  int threads = block[0] * block[1];
  if (threads < 1 || threads > 1024 || threads % 32) die("a block has 32 to 1024 threads, whole warps");
  fibers.resize(threads);
  for (Fiber& f : fibers) f.stack.resize(128 << 10);
  for (auto& each : handed) each.assign(threads, 0);
  auto run = [&] { call(kernel, arguments, std::index_sequence_for<Arguments...>{}); };
  body_argument = &run;
  body = [](void* argument) { (*static_cast<decltype(run)*>(argument))(); };
  Faults faults;
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0]; x++) {
        blockIdx = {x, y, z};
        shared.assign(bytes, char(0xff));  // NaN in every format
        shadow.assign((bytes + 1) / 2, Shadow{});
        block_barriers = 0;
        warp_barriers.assign(threads / 32, 0);
        number_of_warp.assign(threads / 32, 0);
        std::fill(std::begin(named), std::end(named), Named{});
        run_block(threads);
      }
}

//! A number in shared memory, as `pointer[i]` gives it.
template <class T>
struct Reference {
  static_assert(sizeof(T) % 2 == 0, "shared memory is watched by two bytes");
  T* at;
  operator T() const {
    reads(reinterpret_cast<const char*>(at), sizeof(T));
    return *at;
  }
  const Reference& operator=(const T& value) const {
    writes(reinterpret_cast<const char*>(at), sizeof(T));
    *at = value;
    return *this;
  }
  const Reference& operator=(const Reference& other) const { return *this = T(other); }
  const Reference& operator+=(const T& value) const { return *this = T(*this) + value; }
  const Reference& operator-=(const T& value) const { return *this = T(*this) - value; }
  const Reference& operator*=(const T& value) const { return *this = T(*this) * value; }
};

//! A pointer into shared memory.
template <class T>
struct Pointer {
  T* at;
  Reference<T> operator[](long long i) const { return {at + i}; }
  Reference<T> operator*() const { return {at}; }
  Pointer operator+(long long i) const { return {at + i}; }
};

}  // namespace on_cpu

inline void __syncthreads(int line = __builtin_LINE()) {
  on_cpu::fibers[on_cpu::current].line = line;
  on_cpu::wait(on_cpu::Waits::block);
}
namespace on_cpu {
inline void named_barrier(int number, int count, int line) {
  if (number < 1 || number >= NUMBERS) die("barriers have the numbers 1 to 15; 0 is __syncthreads()");
  if (count < 32 || count % 32) die("a barrier counts whole warps");
  int& own = number_of_warp[current / 32];
  if (own && own != number) die("a warp waits at a barrier of another number than before");
  own = number;
  named[number].waiting |= 1u << current / 32;
  Fiber& f = fibers[current];
  f.number = number, f.count = count, f.line = line;
  wait(Waits::number);
}
}  // namespace on_cpu
#define ASSUME(what) \
  ((what) ? void() : on_cpu::die("what the compiler may assume does not hold: " #what))

inline void whole_warp(unsigned mask, int width = 32) {
  if (mask != ~0u || width != 32) on_cpu::die("whole warps only: the mask names every lane");
}
inline void __syncwarp(unsigned mask = ~0u) {
  whole_warp(mask);
  on_cpu::wait(on_cpu::Waits::warp);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  static_assert(sizeof(T) <= 8);
  whole_warp(mask, width);
  auto& handed = on_cpu::handed[on_cpu::fibers[on_cpu::current].shuffles++ % 2];
  memcpy(&handed[on_cpu::current], &value, sizeof(T));
  on_cpu::wait(on_cpu::Waits::shuffle);
  T found;
  memcpy(&found, &handed[on_cpu::current / 32 * 32 + (lane & 31)], sizeof(T));
  return found;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return __shfl_sync(mask, value, (on_cpu::current % 32) ^ lanes, width);
}

#define EXPORT(kernel)                                                                          \
  extern "C" void launch_##kernel(const unsigned* grid, const unsigned* block, size_t bytes,    \
                                  void** a) {                                                   \
    on_cpu::kernel_name = #kernel;                                                              \
    on_cpu::launch(kernel, grid, block, bytes, a);                                              \
  }
