// A block of a slim weight (slim_weight.hpp) in registers: packed as it stands in memory, and as
// the sixteen registers that a thread's share of four matrix fragments is.
//
// Three words hold eight values, four pairs. A pair's halves are s....nnnnfffffff: sign, exponent
// in the window, fraction, where they are in bf16; each of the first three pairs has a word of its
// own and the fourth lies in the four bits between sign and exponent that they leave.
#pragma once

#include <cstdint>

#include "kernels/cuda/slim_weight.hpp"

namespace troupe::cuda::slim {

constexpr uint32_t kOwn = 0x87FF87FF;  // of a word: its own pair

// Where a pair of the fourth kind has its bits, from the top of s nnnn fffffff: nnnn in the first
// word, ffff in the second, fff and s in the third.
__device__ __forceinline__ uint32_t fourth(uint32_t w0, uint32_t w1, uint32_t w2) {
  return (w0 >> 4 & 0x07800780) | (w1 >> 8 & 0x00780078) | (w2 >> 12 & 0x00070007) |
         (w2 << 4 & 0x80008000);
}
__device__ __forceinline__ void spread_fourth(uint32_t pair, uint32_t (&w)[3]) {
  w[0] |= (pair & 0x07800780) << 4;
  w[1] |= (pair & 0x00780078) << 8;
  w[2] |= (pair & 0x00070007) << 12 | (pair & 0x80008000) >> 4;
}

// The head's first word: the window's lowest exponent, and how many values lie outside.
struct Head {
  uint32_t word;
  [[nodiscard]] __device__ __forceinline__ uint32_t lowest() const {
    return (word & 0xFF) * 0x00800080;  // added to both halves' exponents
  }
  [[nodiscard]] __device__ __forceinline__ uint32_t strays() const { return word >> 16; }
};

__device__ __forceinline__ Head head_of(const uint8_t* block) {
  return {*reinterpret_cast<const uint32_t*>(block + 3 * kSlimPlane)};
}

// A value outside the window: bits, register, lane and half.
struct Stray {
  uint32_t word;
  static __device__ __forceinline__ Stray of(uint32_t bits, int at, int lane, int half) {
    return {bits << 16 | static_cast<uint32_t>(half << 9 | lane << 4 | at)};
  }
  __device__ __forceinline__ void put(uint32_t (&fragment)[4][4]) const {
    if ((word >> 4 & 31) != threadIdx.x % 32) return;
    const bool upper = (word >> 9 & 1) != 0;
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i) {
      uint32_t& pair = fragment[i / 4][i % 4];
      if ((word & 15) == i)
        pair = upper ? (pair & 0xFFFF) | (word & 0xFFFF0000) : (pair & 0xFFFF0000) | word >> 16;
    }
  }
};

// What a thread has of a block: fragment[s][r] is register r of the step s of 16 along k.
using Fragments = uint32_t[4][4];

// block: in shared memory. Values outside the window come as zeros: put_strays().
__device__ __forceinline__ void unpack(const uint8_t* block, Fragments& fragment) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t w[12];
#pragma unroll
  for (int plane = 0; plane < 3; ++plane) {
    const uint4 v = *reinterpret_cast<const uint4*>(block + plane * kSlimPlane + lane * 16);
    w[plane * 4] = v.x;
    w[plane * 4 + 1] = v.y;
    w[plane * 4 + 2] = v.z;
    w[plane * 4 + 3] = v.w;
  }
  const uint32_t lowest = head_of(block).lowest();
#pragma unroll
  for (int s = 0; s < 4; ++s) {
#pragma unroll
    for (int i = 0; i < 3; ++i) fragment[s][i] = (w[s * 3 + i] & kOwn) + lowest;
    fragment[s][3] = fourth(w[s * 3], w[s * 3 + 1], w[s * 3 + 2]) + lowest;
  }
}

// list: behind all blocks, in the device's memory.
__device__ __forceinline__ void put_strays(const uint8_t* block, const uint32_t* list,
                                           Fragments& fragment) {
  const uint32_t strays = head_of(block).strays();
  const auto* head = reinterpret_cast<const uint32_t*>(block + 3 * kSlimPlane);
  const uint32_t* from = strays <= kSlimStrays ? head + 1 : list + head[1];
  for (uint32_t i = 0; i < strays; ++i) Stray{from[i]}.put(fragment);
}

}  // namespace troupe::cuda::slim
