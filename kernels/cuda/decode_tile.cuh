// What both decode kernels do with keys and values once they lie in shared memory: scores of packed
// query rows, running softmax, weighted sums, and adding up what warps and shares left.
//
// All query heads of a group (times the query rows) are the 16 rows of the matrix instruction, so a
// key is read once for all of them. Four warps take 16 tokens each and meet only at an item's end.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::cuda::decode {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;  // that compute
constexpr int kTile = 16;
constexpr int kRows = kDecodeRowsMax;
constexpr float kLog2e = 1.44269504F;
constexpr float kNone = -1e30F;  // stands for minus infinity without making NaNs

// Sums of a set of rows: the rows, then (top, weight) of each; whole 16-byte pieces.
template <int kDim>
__host__ __device__ constexpr int set_floats(int rows) {
  return (rows * (kDim + 2) + 3) / 4 * 4;
}

__device__ __forceinline__ void meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

struct Item {
  DecodeWork work;
  int32_t kv_head;
  bool valid;
};

__device__ __forceinline__ Item load_item(const DecodeAttention& p, int index, int items) {
  Item item;
  item.valid = index < items;
  if (!item.valid) return item;
  const auto* words =
      reinterpret_cast<const int4*>(p.work + index / p.layer.kv_heads * p.work_stride);
  auto* to = reinterpret_cast<int4*>(&item.work);
  static_assert(sizeof(DecodeWork) == 48, "read as three 16-byte words");
#pragma unroll
  for (int i = 0; i < 3; ++i) to[i] = words[i];
  item.kv_head = index % p.layer.kv_heads;
  const AttentionSequence& s = item.work.sequence;
  if (p.shape.window > 0) {  // tiles that no row sees are not even read
    const int first = s.kv_len - s.row_count + 1 - p.shape.window - s.first_position;
    const int from = s.first_position + max(first, 0) / 64 * 64;
    item.work.begin = min(max(item.work.begin, from), item.work.end);
  }
  return item;
}

template <class T, int kDim>
struct Rows {
  uint32_t query[kDim / 16][4];
  float sum[kDim / 8][4];
  float top[2], weight[2];
};

// The query rows this lane holds of the matrix fragment: g and g + 8 of the packed rows.
template <class T, int kDim>
__device__ void load_query(const DecodeAttention& p, const Item& item, int group,
                           Rows<T, kDim>& r) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const AttentionSequence& s = item.work.sequence;
  const int rows = group * s.row_count;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + half * 8;
    const bool there = row < rows;
    const int64_t at = (s.row_begin + (there ? row / group : 0)) * p.query_stride +
                       (item.kv_head * group + (there ? row % group : 0)) * kDim;
    const auto* words = reinterpret_cast<const uint32_t*>(static_cast<const T*>(p.query) + at);
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      r.query[k][half] = there ? words[k * 8 + t] : 0;
      r.query[k][half + 2] = there ? words[k * 8 + t + 4] : 0;
    }
    r.top[half] = kNone;
    r.weight[half] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kDim / 8; ++i) r.sum[i][0] = r.sum[i][1] = r.sum[i][2] = r.sum[i][3] = 0.0F;
}

// What the score of (packed row, position) becomes before the softmax, in powers of two.
__device__ __forceinline__ float shaped(const DecodeAttention& p, const Item& item, int group,
                                        int row, int position, float score) {
  const AttentionShape& s = p.shape;
  float x = score * s.scale;
  if (s.softcap > 0.0F) x = s.softcap * tanhf(x / s.softcap);
  const AttentionSequence& q = item.work.sequence;
  const int own = q.causal ? q.kv_len - q.row_count + row / group : q.kv_len - 1;
  if (s.alibi_slopes != nullptr) {
    x += s.alibi_slopes[item.kv_head * group + row % group] * static_cast<float>(position - own);
  }
  const bool seen =
      position <= own && position < item.work.end && (s.window == 0 || position > own - s.window);
  return seen ? x * kLog2e : kNone;
}

// Scores of 16 tokens become weights, kept as an operand of the sums; `grown` is what earlier sums
// are multiplied by.
struct Weights {
  uint32_t a[4];
  float grown[2];
};

// Place::at(token, chunk): the byte offset of a 16-byte piece of a token's row.
template <class T, int kDim, class Place>
__device__ __forceinline__ Weights score_tile(const DecodeAttention& p, const Item& item, int group,
                                              int position, uint32_t keys, Rows<T, kDim>& r) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, i = lane / 8;
  float score[2][4] = {};
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t b[4];
    ptx::load_matrix(b, keys + Place::at((i / 2) * 8 + lane % 8, k * 2 + (i & 1)));
    ptx::mma_16x8x16<T>(score[0], r.query[k], b[0], b[1]);
    ptx::mma_16x8x16<T>(score[1], r.query[k], b[2], b[3]);
  }
  const AttentionSequence& q = item.work.sequence;
  const bool plain = p.shape.softcap == 0.0F && p.shape.alibi_slopes == nullptr &&
                     p.shape.window == 0 && position + kTile <= item.work.end &&
                     (q.causal == 0 || position + kTile <= q.kv_len - q.row_count + 1);
  const float scale = p.shape.scale * kLog2e;
  Weights w;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = r.top[half];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = score[n][half * 2 + c];
        x = plain ? x * scale
                  : shaped(p, item, group, g + half * 8, position + n * 8 + t * 2 + c, x);
        top = fmaxf(top, x);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
    w.grown[half] = exp2f(r.top[half] - top);
    r.top[half] = top;
    float weight = 0.0F;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = score[n][half * 2 + c];
        x = x <= kNone ? 0.0F : exp2f(x - top);
        weight += x;
      }
    }
    r.weight[half] = r.weight[half] * w.grown[half] + weight;
  }
  w.a[0] = pack<T>(score[0][0], score[0][1]);
  w.a[1] = pack<T>(score[0][2], score[0][3]);
  w.a[2] = pack<T>(score[1][0], score[1][1]);
  w.a[3] = pack<T>(score[1][2], score[1][3]);
  return w;
}

template <class T, int kDim, class Place>
__device__ __forceinline__ void sum_tile(uint32_t values, const Weights& w, Rows<T, kDim>& r) {
  const int lane = threadIdx.x % 32, i = lane / 8;
#pragma unroll
  for (int n = 0; n < kDim / 16; ++n) {
    uint32_t b[4];
    ptx::load_matrix_transposed(b, values + Place::at((i & 1) * 8 + lane % 8, n * 2 + (i >> 1)));
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float(&sum)[4] = r.sum[n * 2 + j];
      sum[0] *= w.grown[0];
      sum[1] *= w.grown[0];
      sum[2] *= w.grown[1];
      sum[3] *= w.grown[1];
      ptx::mma_16x8x16<T>(sum, w.a, b[j * 2], b[j * 2 + 1]);
    }
  }
}

// Sets of sums over the same rows: the warps' of a block, or the shares' of a sequence.
struct Sets {
  const float* base;
  int64_t stride;  // floats from one set to the next
  int count, rows;
};

// One warp: the largest top of a row over all sets, and the weights' sum under it.
template <int kDim>
__device__ __forceinline__ float2 merged_weight(const Sets& s, int row) {
  float top = kNone, weight = 0.0F;
  for (int i = threadIdx.x % 32; i < s.count; i += 32) {
    const float2 x =
        *reinterpret_cast<const float2*>(s.base + i * s.stride + s.rows * kDim + row * 2);
    const float higher = fmaxf(top, x.x);
    weight = weight * exp2f(top - higher) + x.y * exp2f(x.x - higher);
    top = higher;
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const float other = __shfl_xor_sync(0xffffffff, top, d);
    const float other_weight = __shfl_xor_sync(0xffffffff, weight, d);
    const float higher = fmaxf(top, other);
    weight = weight * exp2f(top - higher) + other_weight * exp2f(other - higher);
    top = higher;
  }
  return {top, weight};
}

template <int kDim>
__device__ __forceinline__ float4 merged_sum(const Sets& s, int row, int column, float top) {
  float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll 4
  for (int i = 0; i < s.count; ++i) {
    const float* set = s.base + i * s.stride;
    const float factor = exp2f(set[s.rows * kDim + row * 2] - top);
    const float4 x = *reinterpret_cast<const float4*>(set + row * kDim + column);
    sum.x += x.x * factor;
    sum.y += x.y * factor;
    sum.z += x.z * factor;
    sum.w += x.w * factor;
  }
  return sum;
}

// Adds up the sets; the result goes to the output, or to `share` as a set of its own.
template <class T, int kDim>
__device__ void merge(const DecodeAttention& p, const Item& item, int group, const Sets& sets,
                      float* share) {
  __shared__ float2 of_row[kRows];
  for (int row = threadIdx.x / 32; row < sets.rows; row += kWarps) {
    const float2 x = merged_weight<kDim>(sets, row);
    if (threadIdx.x % 32 == 0) of_row[row] = x;
  }
  meet();
  for (int i = threadIdx.x; i < sets.rows * (kDim / 4); i += kThreads) {
    const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
    const float top = of_row[row].x;
    float weight = of_row[row].y;
    const float4 sum = merged_sum<kDim>(sets, row, column, top);
    if (share != nullptr) {
      *reinterpret_cast<float4*>(share + row * kDim + column) = sum;
      if (column == 0)
        *reinterpret_cast<float2*>(share + sets.rows * kDim + row * 2) = {top, weight};
      continue;
    }
    const int head = item.kv_head * group + row % group;
    if (p.shape.sinks != nullptr) weight += exp2f(p.shape.sinks[head] * kLog2e - top);
    const float factor = weight > 0.0F ? 1.0F / weight : 0.0F;
    T* to = static_cast<T*>(p.output) +
            (item.work.sequence.row_begin + row / group) * p.output_stride + head * kDim + column;
    *reinterpret_cast<uint2*>(to) = {pack<T>(sum.x * factor, sum.y * factor),
                                     pack<T>(sum.z * factor, sum.w * factor)};
  }
}

template <class T, int kDim>
__device__ void finish(const DecodeAttention& p, const Item& item, int group, float* sets,
                       const Rows<T, kDim>& r) {
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int rows = group * item.work.sequence.row_count;
  float* set = sets + warp * set_floats<kDim>(rows);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float weight = r.weight[half];
    weight += __shfl_xor_sync(0xffffffff, weight, 1);
    weight += __shfl_xor_sync(0xffffffff, weight, 2);
    const int row = g + half * 8;
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(set + row * kDim + n * 8 + t * 2) = {r.sum[n][half * 2],
                                                                      r.sum[n][half * 2 + 1]};
    }
    if (t == 0) *reinterpret_cast<float2*>(set + rows * kDim + row * 2) = {r.top[half], weight};
  }
  meet();
  const Sets warps = {sets, set_floats<kDim>(rows), kWarps, rows};
  const DecodeWork& w = item.work;
  const int kv_heads = p.layer.kv_heads;
  constexpr int kShare = set_floats<kDim>(kRows);
  const int64_t stride = static_cast<int64_t>(kv_heads) * kShare;
  float* first = p.partials + (static_cast<int64_t>(w.partial) * kv_heads + item.kv_head) * kShare;
  merge<T, kDim>(p, item, group, warps, w.shares == 1 ? nullptr : first + w.share * stride);
  if (w.shares > 1) {
    __shared__ bool last;
    __threadfence();
    meet();
    if (threadIdx.x == 0) {
      uint32_t* counter = p.counters + 2 + w.counter * kv_heads + item.kv_head;
      last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(w.shares);
      if (last) *counter = 0;
      __threadfence();
    }
    meet();
    if (last) merge<T, kDim>(p, item, group, {first, stride, w.shares, rows}, nullptr);
  }
  meet();  // the sets are free for the next item
}

}  // namespace troupe::cuda::decode
