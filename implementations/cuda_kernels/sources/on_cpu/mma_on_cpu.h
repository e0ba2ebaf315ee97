// The twins of mma.cuh: fragments handed from lane to lane, products added up in float32 one after the
// other. (In which order, and how it rounds in between, a GPU does not say.)
#pragma once

inline unsigned bf16_pair(float first, float second) {
  return __float2bfloat16(first).bits | unsigned(__float2bfloat16(second).bits) << 16;
}
inline unsigned fp16_pair(float first, float second) {
  return __float2half(first).bits | unsigned(__float2half(second).bits) << 16;
}
inline unsigned tf32(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  // What is not finite stays what it is. A carry goes into the exponent, as it should.
  bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
}

namespace on_cpu {

//! What a lane hands over; twice, as the shim's own shuffles.
struct Fragments {
  unsigned A[4], B[2];
};
inline Fragments fragments[2][1024];

//! number(bits, i): the i-th of the PER numbers of a register.
template <int PER, class Numbers>
void mma(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2], Numbers number) {
  constexpr int K = 8 * PER;
  Fragments* handed = fragments[fibers[current].shuffles++ % 2];
  memcpy(handed[current].A, A, sizeof A);
  memcpy(handed[current].B, B, sizeof B);
  // As a shuffle, it orders nothing in memory.
  uint32_t& barriers = warp_barriers[current / 32];
  uint32_t before = barriers;
  wait(Waits::warp);
  barriers = before;
  const Fragments* lanes = handed + current / 32 * 32;
  int g = current % 32 / 4, t = current % 4;
  for (int i = 0; i < 4; i++) {
    int row = g + i / 2 * 8, column = 2 * t + i % 2;
    for (int k = 0; k < K; k++) {
      int from = k % (K / 2) / PER, half = k / (K / 2);
      float a = number(lanes[row % 8 * 4 + from].A[row / 8 + 2 * half], k % PER);
      float b = number(lanes[column * 4 + from].B[half], k % PER);
      C[i] += a * b;
    }
  }
}

}  // namespace on_cpu

inline void mma_bf16(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  on_cpu::mma<2>(C, A, B, [](unsigned bits, int i) {
    return __bfloat162float({uint16_t(bits >> 16 * i)});
  });
}
inline void mma_fp16(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  on_cpu::mma<2>(C, A, B, [](unsigned bits, int i) {
    return __half2float({uint16_t(bits >> 16 * i)});
  });
}
//! Of a register it sees 19 bits, whoever forgot to round.
inline void mma_tf32(float (&C)[4], const unsigned (&A)[4], const unsigned (&B)[2]) {
  on_cpu::mma<1>(C, A, B, [](unsigned bits, int) {
    bits &= 0xffffe000u;
    float value;
    memcpy(&value, &bits, 4);
    return value;
  });
}
