// What both decode kernels do with keys and values once they lie in shared memory: scores of packed
// query rows, running softmax, weighted sums. (Adding up what warps and shares left:
// decode_sums.cuh.)
//
// All query heads of a group (times the query rows) are columns of the matrix instruction, which
// has eight, so a key is read once for all of them; keys, and then dimensions of values, are its 16
// rows. (The other way round 16 rows would be multiplied where a group of four or eight has no more
// than eight.) Four warps take 16 tokens each and meet only at an item's end.
//
// Rows that are not there are zeros, and so are their weights (but where scores are shaped, which
// takes the registers): products of zeros draw next to no power, and a step of hundreds of
// sequences is as fast as its power allows.
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

// The packed query rows as a lane has them: eight a column of the matrix instruction, kEights
// times. Of every eight a lane has the softmax and the sums of two.
template <class T, int kDim, int kEights>
struct Rows {
  static constexpr int kOwn = kEights * 2;
  uint32_t query[kDim / 16][kEights][2];
  float sum[kDim / 16][kEights][4];
  float top[kOwn], weight[kOwn];
  int limit[kOwn];  // positions from here on are not this row's to see

  // The packed row whose softmax is this lane's `own`th.
  static __device__ __forceinline__ int row_of(int own) {
    return own / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + own % 2;
  }
};

// The last position that a packed row sees.
__device__ __forceinline__ int own_position(const AttentionSequence& s, int row, int group) {
  return s.causal ? s.kv_len - s.row_count + row / group : s.kv_len - 1;
}

template <class T, int kDim, int kEights>
__device__ __forceinline__ void begin_rows(const Item& item, int group, Rows<T, kDim, kEights>& r) {
  const int rows = group * item.work.sequence.row_count;
#pragma unroll
  for (int i = 0; i < r.kOwn; ++i) {
    const int row = r.row_of(i), own = own_position(item.work.sequence, row, group);
    r.limit[i] = row < rows ? min(item.work.end, own + 1) : 0;
    r.top[i] = kNone;
    r.weight[i] = 0.0F;
  }
#pragma unroll
  for (int n = 0; n < kDim / 16; ++n) {
#pragma unroll
    for (int e = 0; e < kEights; ++e)
      r.sum[n][e][0] = r.sum[n][e][1] = r.sum[n][e][2] = r.sum[n][e][3] = 0.0F;
  }
}

// Where a packed row's query lies.
template <class T, int kDim>
__device__ __forceinline__ const T* query_row(const DecodeAttention& p, const Item& item, int group,
                                              int row) {
  return static_cast<const T*>(p.query) +
         (item.work.sequence.row_begin + row / group) * p.query_stride +
         (item.kv_head * group + row % group) * kDim;
}

// The query rows this lane holds of the matrix fragment: one of every eight.
template <class T, int kDim, int kEights>
__device__ void load_query(const DecodeAttention& p, const Item& item, int group,
                           Rows<T, kDim, kEights>& r) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int rows = group * item.work.sequence.row_count;
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
    const int row = e * 8 + g;
    const bool there = row < rows;
    const auto* words =
        reinterpret_cast<const uint32_t*>(query_row<T, kDim>(p, item, group, there ? row : 0));
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      r.query[k][e][0] = there ? words[k * 8 + t] : 0;
      r.query[k][e][1] = there ? words[k * 8 + t + 4] : 0;
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
template <int kEights>
struct Weights {
  uint32_t b[kEights][2];
  float grown[kEights * 2];
};

// How many fragments of keys or values are asked for ahead: what registers leave room for.
template <int kDim, int kEights>
constexpr int kFragmentsAhead = kDim == 256 && kEights > 1 ? 2 : 4;

// Products of 16 keys with the query: score[e][..] belongs to token g (and g + 8 from 2 on), rows
// e * 8 + t * 2 and the next. Fragments are asked for ahead, and sums run in two chains, since each
// waits for its last.
template <class T, int kDim, int kEights, class Place>
__device__ __forceinline__ void multiply_keys(uint32_t keys, const Rows<T, kDim, kEights>& r,
                                              float (&score)[kEights][4]) {
  constexpr int kSteps = kDim / 16, kAhead = kFragmentsAhead<kDim, kEights>;
  const int lane = threadIdx.x % 32, i = lane / 8;
  const auto load = [&](uint32_t(&a)[4], int k) {
    ptx::load_matrix(a, keys + Place::at((i & 1) * 8 + lane % 8, k * 2 + (i >> 1)));
  };
  float odd[kEights][4] = {};
  uint32_t a[kAhead][4];
#pragma unroll
  for (int k = 0; k < kAhead; ++k) load(a[k], k);
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    float(&sum)[kEights][4] = k % 2 == 0 ? score : odd;
#pragma unroll
    for (int e = 0; e < kEights; ++e)
      ptx::mma_16x8x16<T>(sum[e], a[k % kAhead], r.query[k][e][0], r.query[k][e][1]);
    if (k + kAhead < kSteps) load(a[k % kAhead], k + kAhead);
  }
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
#pragma unroll
    for (int c = 0; c < 4; ++c) score[e][c] += odd[e][c];
  }
}

// Over the eight lanes that have the same rows.
template <class Join>
__device__ __forceinline__ float over_tokens(float x, const Join& join) {
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) x = join(x, __shfl_xor_sync(0xffffffff, x, apart));
  return x;
}

// Place::at(token, chunk): the byte offset of a 16-byte piece of a token's row. kRich: scores have
// caps, slopes or windows.
template <class T, int kDim, int kEights, class Place, bool kRich>
__device__ __forceinline__ Weights<kEights> score_tile(const DecodeAttention& p, const Item& item,
                                                       int group, int position, uint32_t keys,
                                                       Rows<T, kDim, kEights>& r) {
  const int g = threadIdx.x % 32 / 4;
  float score[kEights][4] = {};
  multiply_keys<T, kDim, kEights, Place>(keys, r, score);
  const float scale = p.shape.scale * kLog2e;
  Weights<kEights> w;
#pragma unroll
  for (int i = 0; i < r.kOwn; ++i) {
    float* of_row = score[i / 2] + i % 2;  // two tokens, 8 apart
    float top = r.top[i];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = position + half * 8 + g;
      float& x = of_row[half * 2];
      if constexpr (kRich) {
        x = shaped(p, item, group, r.row_of(i), at, x);
      } else {
        x = at < r.limit[i] ? x * scale : kNone;
      }
      top = fmaxf(top, x);
    }
    top = over_tokens(top, [](float a, float b) { return fmaxf(a, b); });
    w.grown[i] = exp2_fast(r.top[i] - top);
    r.top[i] = top;
    const float from = top <= kNone ? 0.0F : top;  // as long as nothing is seen, weights are zero
    of_row[0] = exp2_fast(of_row[0] - from);
    of_row[2] = exp2_fast(of_row[2] - from);
    r.weight[i] = r.weight[i] * w.grown[i] + (of_row[0] + of_row[2]);
  }
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      w.b[e][half] = ptx::transposed(pack<T>(score[e][half * 2], score[e][half * 2 + 1]));
  }
  return w;
}

template <class T, int kDim, int kEights, class Place>
__device__ __forceinline__ void sum_tile(uint32_t values, const Weights<kEights>& w,
                                         Rows<T, kDim, kEights>& r) {
  constexpr int kSteps = kDim / 16, kAhead = kFragmentsAhead<kDim, kEights>;
  const int lane = threadIdx.x % 32, i = lane / 8;
  const auto load = [&](uint32_t(&a)[4], int n) {
    ptx::load_matrix_transposed(a, values + Place::at((i >> 1) * 8 + lane % 8, n * 2 + (i & 1)));
  };
  uint32_t a[kAhead][4];
#pragma unroll
  for (int n = 0; n < kAhead; ++n) load(a[n], n);
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      float(&sum)[4] = r.sum[n][e];
#pragma unroll
      for (int c = 0; c < 4; ++c) sum[c] *= w.grown[e * 2 + c % 2];
      ptx::mma_16x8x16<T>(sum, a[n % kAhead], w.b[e][0], w.b[e][1]);
    }
    if (n + kAhead < kSteps) load(a[n % kAhead], n + kAhead);
  }
}

}  // namespace troupe::cuda::decode
