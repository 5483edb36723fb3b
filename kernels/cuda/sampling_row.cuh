// What the sampling kernels share: the order of tokens, reading a row, remembering what was drawn.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/store.cuh"
#include "kernels/cuda/sampling.hpp"

namespace troupe::cuda {

// Orders tokens: larger is better; equal logits by lower id.
__device__ __forceinline__ unsigned long long key_of(float logit, int32_t token) {
  uint32_t bits = __float_as_uint(logit == 0.0F ? 0.0F : logit);
  bits = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<unsigned long long>(bits) << 32 | (0xFFFFFFFFU - static_cast<uint32_t>(token));
}

// What the key was made of.
__device__ __forceinline__ float logit_of(unsigned long long key) {
  const auto bits = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((bits & 0x80000000U) != 0 ? bits & 0x7FFFFFFFU : ~bits);
}
__device__ __forceinline__ int32_t token_of(unsigned long long key) {
  return static_cast<int32_t>(0xFFFFFFFFU - static_cast<uint32_t>(key));
}

// The key of a NaN: it outdoes every token.
constexpr unsigned long long kPoisonedKey = ~0ULL;
__device__ __forceinline__ unsigned long long checked_key_of(float logit, int32_t token) {
  return isnan(logit) ? kPoisonedKey : key_of(logit, token);
}

// Logits [4 * piece, + 4) of a row of n; what lies behind the row reads as minus infinity. A row is
// read by one multiprocessor: only many bytes under way make that fast.
__device__ __forceinline__ float4 load_piece(const float* row, int32_t piece, int32_t n) {
  const int32_t i = piece * 4;
  if (i + 4 <= n && reinterpret_cast<uintptr_t>(row) % 16 == 0)
    return reinterpret_cast<const float4*>(row)[piece];
  return {i < n ? row[i] : -INFINITY, i + 1 < n ? row[i + 1] : -INFINITY,
          i + 2 < n ? row[i + 2] : -INFINITY, i + 3 < n ? row[i + 3] : -INFINITY};
}

__device__ inline void append(const SlotMemory& m, int32_t slot, int32_t token) {
  m.last_token[slot] = token;
  int32_t* tail = m.tail + slot * kTail;
  int32_t count = m.tail_count[slot];
  if (count == kTail) {
    for (int i = 0; i + 1 < kTail; ++i) tail[i] = tail[i + 1];
    --count;
  }
  tail[count] = token;
  m.tail_count[slot] = count + 1;
}

// One thread of a row, when all else of it is done.
__device__ __forceinline__ void tell(const DrawTarget& target, int64_t row, const Drawn& out) {
  const auto word = [](uint32_t low, uint32_t high) {
    return static_cast<uint64_t>(high) << 32 | low;
  };
  ptx::store_whole(
      target.drawn + row,
      word(static_cast<uint32_t>(out.token), static_cast<uint32_t>(out.rank)),
      word(__float_as_uint(out.logprob), target.step));
}

}  // namespace troupe::cuda
