// What becomes of skinny_gemm's sums: parts of a tile meet in memory or are left apart there; whole
// ones are written as rows, through a gate, or only their likeliest tokens are kept.
#pragma once

#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/likeliest.cuh"

namespace troupe::cuda::skinny {

struct Params {
  int m, n, steps, tiles, parts;
  int strips;  // of 16 weight rows, in a tile
  int stages;  // steps in flight
  uint32_t step_bytes;  // that come for a step
  const void* bias;
  void* output;
  int64_t output_stride;
  GreedyRow* likeliest;
  float* partials;
  uint32_t* counters;  // per tile; before them the next free chunk and how many blocks are done
  bool output_f32, gated;
  bool paired;  // a strip is 8 rows of the weight's upper half and the 8 beside them below
  int64_t plane;  // parts stay apart, each in a plane of so many sums; 0: they meet
};

template <class T>
__device__ __forceinline__ void store(const Params& p, int64_t row, int column, float value) {
  if (p.output_f32) {
    static_cast<float*>(p.output)[row * p.output_stride + column] = value;
  } else {
    static_cast<T*>(p.output)[row * p.output_stride + column] = from_float<T>(value);
  }
}

// `strip` counts 16 weight rows: 8 and 8 following, or (paired) 8 of the gate and 8 of the up
// projection.
template <class T>
__device__ __forceinline__ void write_pair(const Params& p, int strip, int x, float upper,
                                           float lower) {
  const int g = threadIdx.x % 32 / 4;
  const int row = strip * (p.paired ? 8 : 16) + g;
  const int width = p.paired ? p.n / 2 : p.n;
  if (row >= width || x >= p.m) return;
  const int other = row + (p.paired ? width : 8);
  if (const T* bias = static_cast<const T*>(p.bias)) {
    upper += to_float(bias[row]);
    lower += other < p.n ? to_float(bias[other]) : 0.0F;
  }
  if (p.gated) {
    store<T>(p, x, row, __fdividef(upper * lower, 1.0F + __expf(-upper)));
  } else {
    store<T>(p, x, row, upper);
    if (other < p.n) store<T>(p, x, other, lower);
  }
}

template <class T, int kN>
__device__ __forceinline__ void note_tile(const Params& p, int tile, const float (&sum)[kN / 2],
                                          likeliest::Found<kN>& found) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp >= p.strips) return;
  const int token = (tile * p.strips + warp) * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  const auto pair = likeliest::TokenPair::from(token, p.n, static_cast<const T*>(p.bias));
  constexpr int kPiece = kN < 32 ? kN : 32;
#pragma unroll
  for (int row = 0; row < kN; row += kPiece)
    found.template note<kPiece>(warp, row, sum + row / 2, pair);
}

template <class T, int kN>
__device__ __forceinline__ void end_tile(const Params& p, int tile, const float (&sum)[kN / 2],
                                         likeliest::Found<kN>& found) {
  if (p.likeliest != nullptr) return note_tile<T, kN>(p, tile, sum, found);
  const int warp = static_cast<int>(threadIdx.x) / 32, strip = tile * p.strips + warp;
  if (warp >= p.strips) return;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      write_pair<T>(p, strip, j * 8 + t * 2 + c, sum[j * 4 + c], sum[j * 4 + 2 + c]);
    }
  }
}

// Leaves a part of a tile where whoever reads the product adds it up.
template <int kN>
__device__ __forceinline__ void leave_part(const Params& p, int chunk, const float (&sum)[kN / 2]) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp >= p.strips) return;
  const int lane = static_cast<int>(threadIdx.x) % 32, t = lane % 4;
  const int column = (chunk / p.parts * p.strips + warp) * 16 + lane / 4;
  float* plane = static_cast<float*>(p.output) + chunk % p.parts * p.plane;
#pragma unroll
  for (int j = 0; j < kN / 2; ++j) {
    const int row = j / 4 * 8 + t * 2 + (j & 1), half = (j & 2) * 4;
    if (row < p.m && column + half < p.n) plane[row * p.output_stride + column + half] = sum[j];
  }
}

// Those of a block who multiply.
template <int kThreads>
__device__ __forceinline__ void meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// Leaves a part of a tile in memory; the last part to come adds all of them up.
template <class T, int kN, int kGroups>
__device__ void share_tile(const Params& p, int chunk, float (&sum)[kN / 2],
                           likeliest::Found<kN>& found) {
  constexpr int kThreads = kGroups * 128;
  constexpr int kShare = kThreads * (kN / 2);
  __shared__ bool last;
  const int tile = chunk / p.parts;
  float* mine = p.partials + static_cast<int64_t>(chunk) * kShare + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) __stcg(mine + i * kThreads, sum[i]);
  meet<kThreads>();
  if (threadIdx.x == 0) {
    __threadfence();
    uint32_t* counter = p.counters + 2 + tile;
    last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(p.parts);
    if (last) *counter = 0;
    __threadfence();
  }
  meet<kThreads>();
  if (!last) return;
  const float* share = p.partials + static_cast<int64_t>(tile) * p.parts * kShare + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) sum[i] = 0.0F;
  for (int part = 0; part < p.parts; ++part, share += kShare) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] += __ldcg(share + i * kThreads);
  }
  end_tile<T, kN>(p, tile, sum, found);
}

// What becomes of a chunk's sums.
template <class T, int kN, int kGroups>
__device__ __forceinline__ void end_chunk(const Params& p, int chunk, float (&sum)[kN / 2],
                                          likeliest::Found<kN>& found) {
  if (p.plane != 0) {
    leave_part<kN>(p, chunk, sum);
  } else if (p.parts == 1) {
    end_tile<T, kN>(p, chunk, sum, found);
  } else {
    share_tile<T, kN, kGroups>(p, chunk, sum, found);
  }
}

// The chunk that a block takes next, by the one thread that asks; and that it takes no more: the
// last block leaves the counters as it found them.
__device__ __forceinline__ int next_chunk(const Params& p) {
  return static_cast<int>(atomicAdd(p.counters, 1U) + gridDim.x);
}
__device__ __forceinline__ void take_no_more(const Params& p) {
  if (atomicAdd(p.counters + 1, 1U) + 1 != gridDim.x) return;
  p.counters[0] = 0;
  p.counters[1] = 0;
}

}  // namespace troupe::cuda::skinny
