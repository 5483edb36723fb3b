// One block and one row of logits: reading it, and what the block's threads reckon together.
#pragma once

#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace troupe::cuda::drawing {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 2048;
constexpr int kListMax = kThreads;

struct Shared {
  unsigned long long bins[kBins];
  uint32_t counts[kBins];
  unsigned long long keys[kListMax], measures[kListMax];
  unsigned long long of_warp[kWarps];
  float values[kWarps];
  unsigned long long cut;
  int32_t bin, count;
  int32_t token;
};

__device__ inline unsigned long long block_sum(Shared& s, unsigned long long x) {
  x = ptx::warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  return ptx::warp_sum(threadIdx.x % 32 < kWarps ? s.of_warp[threadIdx.x % 32] : 0ULL);
}

__device__ inline float block_sum(Shared& s, float x) {
  x = ptx::warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.values[threadIdx.x / 32] = x;
  __syncthreads();
  return ptx::warp_sum(s.values[threadIdx.x % 32]);
}

// visit(logit, token) for every token that is this thread's, in rising order.
template <class Visit>
__device__ __forceinline__ void each_logit(const float* row, int32_t n, const Visit& visit) {
  constexpr int kAhead = 4;
  const int32_t pieces = (n + 3) / 4;
  for (int32_t first = threadIdx.x; first < pieces; first += kAhead * kThreads) {
    float4 x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int32_t piece = first + a * kThreads;
      if (piece < pieces) x[a] = load_piece(row, piece, n);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int32_t i = (first + a * kThreads) * 4;
      if (i < n) visit(x[a].x, i);
      if (i + 1 < n) visit(x[a].y, i + 1);
      if (i + 2 < n) visit(x[a].z, i + 2);
      if (i + 3 < n) visit(x[a].w, i + 3);
    }
  }
}

// The best token that is this thread's: its key, zero where it has none.
__device__ inline unsigned long long best_of_thread(const float* row, int32_t n) {
  float top = -INFINITY;
  int32_t token = -1;
  bool poisoned = false;
  each_logit(row, n, [&](float x, int32_t i) {
    poisoned |= isnan(x);
    if (x > top || token < 0) {
      top = x;
      token = i;
    }
  });
  if (poisoned) return kPoisonedKey;
  return token < 0 ? 0 : key_of(top, token);
}

__device__ inline unsigned long long block_max(Shared& s, unsigned long long x) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffff, x, d);
    x = other > x ? other : x;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  for (const unsigned long long other : s.of_warp) x = other > x ? other : x;
  return x;
}

// Thread i gets the i-th largest.
__device__ inline unsigned long long sort_falling(Shared& s, unsigned long long mine) {
  const auto thread = static_cast<int>(threadIdx.x);
  for (int size = 2; size <= kThreads; size *= 2) {
    for (int d = size / 2; d > 0; d /= 2) {
      unsigned long long other = 0;
      if (d < 32) {
        other = __shfl_xor_sync(0xffffffff, mine, d);
      } else {
        __syncthreads();
        s.keys[thread] = mine;
        __syncthreads();
        other = s.keys[thread ^ d];
      }
      const bool larger = ((thread & d) == 0) == ((thread & size) == 0);
      mine = (other > mine) == larger ? other : mine;
    }
  }
  __syncthreads();
  return mine;
}

// The sum of this thread's and all earlier threads' values.
__device__ inline unsigned long long sum_upto(Shared& s, unsigned long long x) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  x = ptx::warp_sum_upto(x);
  __syncthreads();
  if (lane == 31) s.of_warp[warp] = x;
  __syncthreads();
  for (int w = 0; w < warp; ++w) x += s.of_warp[w];
  return x;
}

// What the thread says, to all.
__device__ inline unsigned long long from_thread(Shared& s, int thread, unsigned long long x) {
  __syncthreads();
  if (static_cast<int>(threadIdx.x) == thread) s.cut = x;
  __syncthreads();
  return s.cut;
}

}  // namespace troupe::cuda::drawing
