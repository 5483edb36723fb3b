// Attention for every case that the fast kernels leave: any head size, block size, element types,
// soft caps, slopes, sinks, windows, bidirectional spans, latent caches, encoders, packed rows. Runs
// of rows go to tiled_attention where that takes them; else it is one block a row and head, whose
// warps take positions in turn with a running softmax each.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/plain_view.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kFewRows = 15;  // of a sequence: less than a warp's tile
constexpr int kKeyMax = 1024, kPerLane = 32;  // head sizes up to 32 * kPerLane

template <class C>
struct Token {
  const C* key;
  const C* value;
};

template <class C>
__device__ __forceinline__ Token<C> token_at(const PlainAttention& p, const AttentionSequence& s,
                                             int kv_head, int value_dim, int position) {
  const int64_t place = place_of(p, s, kv_head, position);
  const Rows keys = keys_of(p, kv_head), values = values_of(p, kv_head, value_dim);
  return {static_cast<const C*>(keys.data) + place * keys.stride,
          static_cast<const C*>(values.data) + place * values.stride};
}

template <class T, class C>
__global__ void __launch_bounds__(kWarps * 32)
    plain_attention_kernel(const __grid_constant__ PlainAttention p) {
  __shared__ float query[kKeyMax];
  __shared__ float tops[kWarps], weights[kWarps];
  extern __shared__ float sums[];  // kWarps x value_dim
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int which = p.row_sequence[row];
  if (which < 0) return;
  const AttentionSequence s = p.sequences[which];
  if (s.row_count <= p.rows_above || s.row_count > p.rows_most) return;
  const int key_dim = p.shape.head_dim;
  const int value_dim = static_cast<int>(p.output.cols) / p.shape.heads;
  const int kv_head = head / (p.shape.heads / kv_heads_of(p));
  const T* q = static_cast<const T*>(p.query.data) + row * p.query.stride + head * key_dim;
  for (int e = threadIdx.x; e < key_dim; e += kWarps * 32)
    query[e] = to_float(q[e]) * p.shape.scale;
  __syncthreads();
  const View view = visible(p, s, row);
  const int position = p.positions != nullptr ? p.positions[row] : 0;
  const float slope = p.shape.alibi_slopes != nullptr ? p.shape.alibi_slopes[head] : 0.0F;
  float top = -INFINITY, weight = 0.0F;
  float sum[kPerLane] = {};
  for (int t = view.begin + warp; t < view.end; t += kWarps) {
    const Token<C> token = token_at<C>(p, s, kv_head, value_dim, t);
    float score = 0.0F;
    for (int e = lane; e < key_dim; e += 32) score += query[e] * to_float(token.key[e]);
    score = ptx::warp_sum(score);
    if (p.shape.softcap > 0.0F) score = p.shape.softcap * tanhf(score / p.shape.softcap);
    score += slope * static_cast<float>(t - position);
    const float higher = fmaxf(top, score);
    const float shrink = top == -INFINITY ? 0.0F : expf(top - higher);
    const float share = expf(score - higher);
    top = higher;
    weight = weight * shrink + share;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = lane + i * 32;
      if (e < value_dim) sum[i] = sum[i] * shrink + share * to_float(token.value[e]);
    }
  }
  if (lane == 0) {
    tops[warp] = top;
    weights[warp] = weight;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + i * 32 < value_dim) sums[warp * value_dim + lane + i * 32] = sum[i];
  }
  __syncthreads();
  float highest = p.shape.sinks != nullptr ? p.shape.sinks[head] : -INFINITY;
  for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, tops[w]);
  float total = p.shape.sinks != nullptr ? expf(p.shape.sinks[head] - highest) : 0.0F;
  float factors[kWarps];
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    factors[w] = tops[w] == -INFINITY ? 0.0F : expf(tops[w] - highest);
    total += weights[w] * factors[w];
  }
  T* out = static_cast<T*>(p.output.data) + row * p.output.stride + head * value_dim;
  for (int e = threadIdx.x; e < value_dim; e += kWarps * 32) {
    float x = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) x += sums[w * value_dim + e] * factors[w];
    out[e] = from_float<T>(total > 0.0F ? x / total : 0.0F);
  }
}

template <class T>
cudaError_t by_cache(const PlainAttention& p, cudaStream_t stream) {
  const auto value_dim = static_cast<size_t>(p.output.cols / p.shape.heads);
  if (p.shape.head_dim > kKeyMax || value_dim > 32 * kPerLane) return cudaErrorInvalidValue;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>(p.query.rows), static_cast<unsigned>(p.shape.heads)),
      dim3(kWarps * 32), kWarps * value_dim * sizeof(float)};
  const DType dtype = p.cache.keys != nullptr ? p.cache.dtype : p.keys.dtype;
  TR_DISPATCH_FLOAT_AS(C, dtype, return launch(plain_attention_kernel<T, C>, shape, stream, p));
}

}  // namespace

cudaError_t plain_attention(const PlainAttention& p, cudaStream_t stream) {
  if (p.query.rows == 0 || p.shape.heads == 0) return cudaSuccess;
  PlainAttention rest = p;
  if (!p.rows_independent && p.rows_longest > kFewRows && tiled_attention_fits(p)) {
    PlainAttention runs = p;
    runs.rows_above = p.rows_above > kFewRows ? p.rows_above : kFewRows;
    TR_CUDA_TRY(tiled_attention(runs, stream));
    if (p.rows_above >= kFewRows || p.rows_least > kFewRows) return cudaSuccess;
    rest.rows_most = kFewRows;
  }
  TR_DISPATCH_FLOAT(p.query.dtype, return by_cache<T>(rest, stream));
}

}  // namespace troupe::cuda
