// What becomes of decode_attention's sums: the four warps of a block leave theirs in shared memory,
// the shares of a sequence in memory, and both are added up here, on the way to the output.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace troupe::cuda::decode {

// Sums of a set of rows: the rows, then (top, weight) of each; whole 16-byte pieces.
template <int kDim>
__host__ __device__ constexpr int set_floats(int rows) {
  return (rows * (kDim + 2) + 3) / 4 * 4;
}

__device__ __forceinline__ void meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// Sets of sums over the same rows: the warps' of a block, or the shares' of a sequence.
struct Sets {
  const float* base;
  int64_t stride;  // floats from one set to the next
  int count, rows;
};

// Four columns of some rows, over all sets.
template <int kBatch>
struct Added {
  float4 sum[kBatch];
  float top[kBatch], weight[kBatch];
};

// Rows from `row` on; those that are not there are the last one once more. Four sets are asked for
// together, since each load waits for memory.
template <int kDim, int kBatch>
__device__ __forceinline__ Added<kBatch> add_sets(const Sets& s, int row, int column) {
  constexpr int kAhead = 4;
  Added<kBatch> all;
#pragma unroll
  for (int r = 0; r < kBatch; ++r) {
    all.sum[r] = {0.0F, 0.0F, 0.0F, 0.0F};
    all.top[r] = kNone;
    all.weight[r] = 0.0F;
  }
  for (int first = 0; first < s.count; first += kAhead) {
    float2 head[kBatch][kAhead];
    float4 x[kBatch][kAhead];
#pragma unroll
    for (int r = 0; r < kBatch; ++r) {
      const int at = min(row + r, s.rows - 1);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float* set = s.base + min(first + i, s.count - 1) * s.stride;
        head[r][i] = *reinterpret_cast<const float2*>(set + s.rows * kDim + at * 2);
        x[r][i] = *reinterpret_cast<const float4*>(set + at * kDim + column);
      }
    }
#pragma unroll
    for (int r = 0; r < kBatch; ++r) {
      float top = all.top[r];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= s.count) head[r][i] = {kNone, 0.0F};
        top = fmaxf(top, head[r][i].x);
      }
      const float before = exp2_fast(all.top[r] - top);
      float4 sum = all.sum[r];
      sum.x *= before;
      sum.y *= before;
      sum.z *= before;
      sum.w *= before;
      all.weight[r] *= before;
      all.top[r] = top;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float factor = first + i < s.count ? exp2_fast(head[r][i].x - top) : 0.0F;
        sum.x += x[r][i].x * factor;
        sum.y += x[r][i].y * factor;
        sum.z += x[r][i].z * factor;
        sum.w += x[r][i].w * factor;
        all.weight[r] += head[r][i].y * factor;
      }
      all.sum[r] = sum;
    }
  }
  return all;
}

// Four columns of a row's result.
template <class T, int kDim>
__device__ __forceinline__ void write_row(const DecodeAttention& p, const Item& item, int group,
                                          int row, int column, float4 sum, float top,
                                          float weight) {
  const int head = item.kv_head * group + row % group;
  if (p.shape.sinks != nullptr) weight += exp2_fast(p.shape.sinks[head] * kLog2e - top);
  const float factor = weight > 0.0F ? __fdividef(1.0F, weight) : 0.0F;
  T* to = static_cast<T*>(p.output) +
          (item.work.sequence.row_begin + row / group) * p.output_stride + head * kDim + column;
  *reinterpret_cast<uint2*>(to) = {pack<T>(sum.x * factor, sum.y * factor),
                                   pack<T>(sum.z * factor, sum.w * factor)};
}

// Where a sequence's shares leave their sums.
template <int kDim>
__device__ __forceinline__ Sets sets_of_shares(const DecodeAttention& p, const Item& item,
                                               int group) {
  constexpr int kShare = set_floats<kDim>(kRows);
  const int kv_heads = p.layer.kv_heads;
  return {p.partials + (static_cast<int64_t>(item.work.partial) * kv_heads + item.kv_head) * kShare,
          static_cast<int64_t>(kv_heads) * kShare, item.work.shares,
          group * item.work.sequence.row_count};
}

template <class T, int kDim, int kEights>
__device__ __forceinline__ void put_set(float* set, int rows, const Rows<T, kDim, kEights>& r) {
  const int g = threadIdx.x % 32 / 4;
#pragma unroll
  for (int i = 0; i < r.kOwn; ++i) {
    const float weight = over_tokens(r.weight[i], [](float a, float b) { return a + b; });
    const int row = r.row_of(i);
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        set[row * kDim + n * 16 + half * 8 + g] = r.sum[n][i / 2][half * 2 + i % 2];
    }
    if (g == 0) *reinterpret_cast<float2*>(set + rows * kDim + row * 2) = {r.top[i], weight};
  }
}

// Adds up what the four warps have; the result goes to the output, or to the share's own place.
template <class T, int kDim, int kEights>
__device__ void leave_sums(const DecodeAttention& p, const Item& item, int group, float* sets,
                           const Rows<T, kDim, kEights>& r) {
  const int rows = group * item.work.sequence.row_count, floats = set_floats<kDim>(rows);
  put_set(sets + static_cast<int>(threadIdx.x) / 32 * floats, rows, r);
  meet();
  const Sets warps = {sets, floats, kWarps, rows};
  for (int i = threadIdx.x; i < rows * (kDim / 4); i += kThreads) {
    const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
    const Added<1> all = add_sets<kDim, 1>(warps, row, column);
    if (item.work.shares == 1) {
      write_row<T, kDim>(p, item, group, row, column, all.sum[0], all.top[0], all.weight[0]);
      continue;
    }
    const Sets shares = sets_of_shares<kDim>(p, item, group);
    float* share = const_cast<float*>(shares.base) + item.work.share * shares.stride;
    *reinterpret_cast<float4*>(share + row * kDim + column) = all.sum[0];
    if (column == 0) {
      *reinterpret_cast<float2*>(share + rows * kDim + row * 2) = {all.top[0], all.weight[0]};
    }
  }
  meet();  // the sets are free for the next item
}

// Counts one share in, and says whether it was the sequence's last. What was written before, by
// this thread or by others it has met, is there for whoever counts in later, and the other way
// round.
__device__ __forceinline__ bool count_in(const DecodeAttention& p, const Item& item) {
  uint32_t* counter = p.counters + 2 + item.work.counter * p.layer.kv_heads + item.kv_head;
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(counter)
               : "memory");
  const bool last = before + 1 == static_cast<uint32_t>(item.work.shares);
  if (last) *counter = 0;
  return last;
}

// Adds up all shares: `threads` of them, of which this is number `index`.
template <class T, int kDim, int kBatch>
__device__ void merge_shares(const DecodeAttention& p, const Item& item, int group, int index,
                             int threads) {
  const Sets shares = sets_of_shares<kDim>(p, item, group);
  const int batches = (shares.rows + kBatch - 1) / kBatch;
  for (int i = index; i < batches * (kDim / 4); i += threads) {
    const int row = i / (kDim / 4) * kBatch, column = i % (kDim / 4) * 4;
    const Added<kBatch> all = add_sets<kDim, kBatch>(shares, row, column);
#pragma unroll
    for (int r = 0; r < kBatch; ++r) {
      if (row + r >= shares.rows) break;
      write_row<T, kDim>(p, item, group, row + r, column, all.sum[r], all.top[r], all.weight[r]);
    }
  }
}

}  // namespace troupe::cuda::decode
