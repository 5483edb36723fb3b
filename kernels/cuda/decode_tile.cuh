// What both decode kernels do with keys and values once they lie in shared memory: scores of packed
// query rows, running softmax, weighted sums. (Adding up what warps and shares left: decode_sums.cuh.)
//
// All query heads of a group (times the query rows) are the 16 rows of the matrix instruction, so a
// key is read once for all of them. Four warps take 16 tokens each and meet only at an item's end.
//
// Rows that are not there are zeros, and so are their weights (but where scores are shaped, which
// takes the registers): products of zeros draw next to no power, and a step of hundreds of sequences
// is as fast as its power allows.
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
  int limit[2];  // positions from here on are not this lane's rows' to see
};

// The last position that a packed row sees.
__device__ __forceinline__ int own_position(const AttentionSequence& s, int row, int group) {
  return s.causal ? s.kv_len - s.row_count + row / group : s.kv_len - 1;
}

template <class T, int kDim>
__device__ __forceinline__ void begin_rows(const Item& item, int group, Rows<T, kDim>& r) {
  const int g = threadIdx.x % 32 / 4, rows = group * item.work.sequence.row_count;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + half * 8, own = own_position(item.work.sequence, row, group);
    r.limit[half] = row < rows ? min(item.work.end, own + 1) : 0;
    r.top[half] = kNone;
    r.weight[half] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kDim / 8; ++i) r.sum[i][0] = r.sum[i][1] = r.sum[i][2] = r.sum[i][3] = 0.0F;
}

// Where a packed row's query lies.
template <class T, int kDim>
__device__ __forceinline__ const T* query_row(const DecodeAttention& p, const Item& item, int group,
                                              int row) {
  return static_cast<const T*>(p.query) +
         (item.work.sequence.row_begin + row / group) * p.query_stride +
         (item.kv_head * group + row % group) * kDim;
}

// The query rows this lane holds of the matrix fragment: g and g + 8 of the packed rows.
template <class T, int kDim>
__device__ void load_query(const DecodeAttention& p, const Item& item, int group,
                           Rows<T, kDim>& r) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int rows = group * item.work.sequence.row_count;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + half * 8;
    const bool there = row < rows;
    const auto* words =
        reinterpret_cast<const uint32_t*>(query_row<T, kDim>(p, item, group, there ? row : 0));
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      r.query[k][half] = there ? words[k * 8 + t] : 0;
      r.query[k][half + 2] = there ? words[k * 8 + t + 4] : 0;
    }
  }
}

// 2^x as the hardware has it; results too small to be normal become zero.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// What the score of (packed row, position) becomes before the softmax, in powers of two: caps,
// slopes and windows.
__device__ __forceinline__ float shaped(const DecodeAttention& p, const Item& item, int group,
                                        int row, int position, float score) {
  const AttentionShape& s = p.shape;
  float x = score * s.scale;
  if (s.softcap > 0.0F) x = s.softcap * tanhf(x / s.softcap);
  const int own = own_position(item.work.sequence, row, group);
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

// Heads of 256 leave no registers for more.
template <int kDim>
constexpr int kFragmentsAhead = kDim == 256 ? 2 : 4;

// Products of the query with 16 keys: score[n][..] belongs to tokens n * 8 + t * 2 and the next.
// Fragments are asked for ahead, and sums run in four chains, since each waits for its last.
template <class T, int kDim, class Place>
__device__ __forceinline__ void multiply_keys(uint32_t keys, const Rows<T, kDim>& r,
                                              float (&score)[2][4]) {
  constexpr int kSteps = kDim / 16, kAhead = kFragmentsAhead<kDim>;
  const int lane = threadIdx.x % 32, i = lane / 8;
  const auto load = [&](uint32_t(&b)[4], int k) {
    ptx::load_matrix(b, keys + Place::at((i / 2) * 8 + lane % 8, k * 2 + (i & 1)));
  };
  float odd[2][4] = {};
  uint32_t b[kAhead][4];
#pragma unroll
  for (int k = 0; k < kAhead; ++k) load(b[k], k);
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    float(&sum)[2][4] = k % 2 == 0 ? score : odd;
    ptx::mma_16x8x16<T>(sum[0], r.query[k], b[k % kAhead][0], b[k % kAhead][1]);
    ptx::mma_16x8x16<T>(sum[1], r.query[k], b[k % kAhead][2], b[k % kAhead][3]);
    if (k + kAhead < kSteps) load(b[k % kAhead], k + kAhead);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) score[n][c] += odd[n][c];
  }
}

// Place::at(token, chunk): the byte offset of a 16-byte piece of a token's row. kRich: scores have
// caps, slopes or windows.
template <class T, int kDim, class Place, bool kRich>
__device__ __forceinline__ Weights score_tile(const DecodeAttention& p, const Item& item, int group,
                                              int position, uint32_t keys, Rows<T, kDim>& r) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float score[2][4] = {};
  multiply_keys<T, kDim, Place>(keys, r, score);
  const float scale = p.shape.scale * kLog2e;
  Weights w;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = r.top[half];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int at = position + e / 2 * 8 + t * 2 + e % 2;
      float& x = score[e / 2][half * 2 + e % 2];
      if constexpr (kRich) {
        x = shaped(p, item, group, g + half * 8, at, x);
      } else {
        x = at < r.limit[half] ? x * scale : kNone;
      }
      top = fmaxf(top, x);
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
    w.grown[half] = exp2_fast(r.top[half] - top);
    r.top[half] = top;
    const float from = top <= kNone ? 0.0F : top;  // as long as nothing is seen, weights are zero
    float weight = 0.0F;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& x = score[e / 2][half * 2 + e % 2];
      x = exp2_fast(x - from);
      weight += x;
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
  constexpr int kSteps = kDim / 16, kAhead = kFragmentsAhead<kDim>;
  const int lane = threadIdx.x % 32, i = lane / 8;
  const auto load = [&](uint32_t(&b)[4], int n) {
    ptx::load_matrix_transposed(b, values + Place::at((i & 1) * 8 + lane % 8, n * 2 + (i >> 1)));
  };
  uint32_t b[kAhead][4];
#pragma unroll
  for (int n = 0; n < kAhead; ++n) load(b[n], n);
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float(&sum)[4] = r.sum[n * 2 + j];
      sum[0] *= w.grown[0];
      sum[1] *= w.grown[0];
      sum[2] *= w.grown[1];
      sum[3] *= w.grown[1];
      ptx::mma_16x8x16<T>(sum, w.a, b[n % kAhead][j * 2], b[n % kAhead][j * 2 + 1]);
    }
    if (n + kAhead < kSteps) load(b[n % kAhead], n + kAhead);
  }
}

}  // namespace troupe::cuda::decode
