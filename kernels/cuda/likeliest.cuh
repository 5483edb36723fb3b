// The likeliest token of each input row, found in a product's own sums: the head's logits are then
// neither written nor read again. A warp reduces the sums of a tile to one key an input row, and a
// block those of its warps. Who works on many tiles makes its best known after each, and looks
// closer only at sums that are not less than what is known by then: hardly any after the first.
//
// Keys are those of sampling_row.cuh, so that tokens are what a kernel behind the product would
// find: larger logits first, equal ones by lower id, a NaN before all.
#pragma once

#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace troupe::cuda::likeliest {

using Key = unsigned long long;
constexpr Key kNoKey = 0;  // less than every token's

__device__ __forceinline__ Key larger(Key a, Key b) {
  return a > b ? a : b;
}

__device__ __forceinline__ float larger_or_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// Of a logit that is not -0; a NaN has no sign.
__device__ __forceinline__ Key key_of(float logit, uint32_t lower_half) {
  const auto bits = static_cast<int32_t>(__float_as_uint(logit));
  const auto ordered = static_cast<uint32_t>(bits ^ (bits >> 31 | INT32_MIN));
  return static_cast<Key>(ordered) << 32 | lower_half;
}

// The tokens that a thread has sums of: one, and the eighth after it.
class TokenPair {
 public:
  template <class T>
  __device__ __forceinline__ static TokenPair from(int32_t token, int32_t tokens, const T* bias) {
    TokenPair pair;
    pair.lower_[0] = ~static_cast<uint32_t>(token);
    pair.lower_[1] = ~static_cast<uint32_t>(token + 8);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      pair.there_[i] = token + i * 8 < tokens;
      if (bias != nullptr && pair.there_[i]) pair.bias_[i] += to_float(bias[token + i * 8]);
    }
    return pair;
  }

  // The larger logit; NaN where one is. Tokens behind the last count as well.
  [[nodiscard]] __device__ __forceinline__ float top(float sum, float of_eighth) const {
    return larger_or_nan(sum + bias_[0], of_eighth + bias_[1]);
  }

  // The key of the likelier. A bias is no -0, so no logit is one; a sum of a NaN has no sign.
  // A token behind the last is no better than any, and behind them all.
  [[nodiscard]] __device__ __forceinline__ Key likelier(float sum, float of_eighth) const {
    sum = there_[0] ? sum + bias_[0] : -INFINITY;
    of_eighth = there_[1] ? of_eighth + bias_[1] : -INFINITY;
    return key_of(larger_or_nan(sum, of_eighth), of_eighth > sum ? lower_[1] : lower_[0]);
  }

 private:
  uint32_t lower_[2];  // halves of their keys
  bool there_[2] = {};
  float bias_[2] = {};
};

// Sums of 16 weight rows by kRows input rows (8, 16 or 32) as a warp has them of a warpgroup
// product: of every 8 input rows a thread holds two (lane % 4 * 2 and the next), each by two weight
// rows (lane / 4, and the eighth after it). In each exchange a lane gives away half of the input
// rows it knows of: one is left in the end, and for fewer than 32 some lanes know the same.
template <int kRows>
struct Piece {
  static constexpr int kEach = kRows / 4, kAlike = 32 / kRows;

  __device__ __forceinline__ static int row_of(int lane) {
    const int kept = lane / 4 / kAlike;
    return kept / 2 * 8 + lane % 4 * 2 + kept % 2;
  }
  __device__ __forceinline__ static bool is_first_alike(int lane) { return lane / 4 % kAlike == 0; }

  // Of row_of(lane).
  __device__ __forceinline__ static Key best(const float* sums, const TokenPair& pair) {
    Key keys[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float* s = sums + i / 2 * 4 + i % 2;
      keys[i] = pair.likelier(s[0], s[2]);
    }
    exchange<kEach, 16>(keys);
    return keys[0];
  }

 private:
  // With the lane that differs in bit kBit and in those below.
  template <int kKnown, int kBit>
  __device__ __forceinline__ static void exchange(Key (&keys)[kEach]) {
    constexpr int kKept = kKnown > 1 ? kKnown / 2 : 1, kGiven = kKnown - kKept;
    const bool upper = (threadIdx.x & kBit) != 0;
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const Key given = upper ? keys[i] : keys[i + kGiven];
      const Key kept = upper ? keys[i + kGiven] : keys[i];
      keys[i] = larger(kept, __shfl_xor_sync(0xffffffff, given, kBit));
    }
    if constexpr (kBit > 4) exchange<kKept, kBit / 2>(keys);
  }
};

// What a block has found so far, in shared memory: a key per warp and input row of its tiles.
template <int kRows>
class Found {
 public:
  __host__ __device__ static constexpr int bytes(int warps) {
    return warps * kRows * static_cast<int>(sizeof(Key));
  }
  __device__ Found(uint8_t* memory, int warps)
      : keys_(reinterpret_cast<Key*>(memory)), warps_(warps) {}

  __device__ void clear(int thread) {
    for (int i = thread; i < warps_ * kRows; i += warps_ * 32) keys_[i] = kNoKey;
  }

  // sums: of input rows [row, + kPiece).
  template <int kPiece>
  __device__ __forceinline__ void note(int warp, int row, const float* sums,
                                       const TokenPair& pair) {
    using P = Piece<kPiece>;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const Key key = P::best(sums, pair);
    Key& known = keys_[warp * kRows + row + P::row_of(lane)];
    if (P::is_first_alike(lane)) known = larger(known, key);
  }

  // To input rows [0, count) of `rows`, by all threads once they have met; begins anew.
  __device__ void hand_over(int thread, GreedyRow* rows, int count) {
    for (int row = thread; row < kRows; row += warps_ * 32) {
      Key best = kNoKey;
      for (int warp = 0; warp < warps_; ++warp) {
        best = larger(best, keys_[warp * kRows + row]);
        keys_[warp * kRows + row] = kNoKey;
      }
      if (row < count && best != kNoKey) atomicMax(&rows[row].best, best);
    }
  }

 private:
  Key* keys_;
  const int warps_;
};

// The largest logit that blocks have handed over so far, of each of a block's input rows.
template <int kRows>
class Known {
 public:
  static constexpr int kBytes = kRows * static_cast<int>(sizeof(float));
  __device__ explicit Known(uint8_t* memory) : logits_(reinterpret_cast<float*>(memory)) {}

  // A key's upper half, whatever has come into it by now.
  __device__ __forceinline__ static uint32_t ask(const GreedyRow& row) {
    uint32_t half;
    const auto* halves = reinterpret_cast<const uint32_t*>(&row.best);
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(half) : "l"(halves + 1));
    return half;
  }
  // Nothing is known of a row that nobody has handed over. One with a NaN is lost.
  __device__ __forceinline__ void set(int row, uint32_t half) {
    const float logit = logit_of(static_cast<Key>(half) << 32);
    logits_[row] = half == 0 ? -INFINITY : isnan(logit) ? INFINITY : logit;
  }

  // Whether a sum may be that of its row's best token.
  [[nodiscard]] __device__ __forceinline__ bool is_reached(int row, float top) const {
    return !(top < logits_[row]);
  }
  // Whether one of a warp's sums of 32 input rows may be that of its row's best token.
  __device__ __forceinline__ bool is_reached(int row, const float* sums,
                                             const TokenPair& pair) const {
    const float* known = logits_ + row + threadIdx.x % 4 * 2;
    bool reached = false;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 two = *reinterpret_cast<const float2*>(known + j * 8);
      const float* s = sums + j * 4;
      reached |= !(pair.top(s[0], s[2]) < two.x);
      reached |= !(pair.top(s[1], s[3]) < two.y);
    }
    return __any_sync(0xffffffff, reached);
  }

 private:
  float* logits_;
};

}  // namespace troupe::cuda::likeliest
