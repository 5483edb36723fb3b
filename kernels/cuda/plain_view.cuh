// What a query row of a PlainAttention sees, and where that lies.
#pragma once

#include "kernels/cuda/attention.hpp"

namespace troupe::cuda {

struct View {
  int begin, end;
};

__device__ __forceinline__ View visible(const PlainAttention& p, const AttentionSequence& s,
                                        int row) {
  if (p.cross && p.cross_spans == nullptr) return {0, s.kv_len};
  if (p.cross) return {max(p.cross_spans[2 * row], 0), min(p.cross_spans[2 * row + 1], s.kv_len)};
  const int position = p.positions[row];
  const int span_end = p.span_ends != nullptr ? p.span_ends[row] : 0;
  const int begin = p.shape.window > 0 ? max(0, position + 1 - p.shape.window) : 0;
  return {begin, min(max(position + 1, span_end), s.kv_len)};
}

__device__ __forceinline__ int kv_heads_of(const PlainAttention& p) {
  return p.cache.keys != nullptr ? p.cache.kv_heads
                                 : static_cast<int>(p.keys.cols) / p.shape.head_dim;
}

// A head's keys or values, one row a place.
struct Rows {
  const void* data;
  int64_t stride;  // elements
};
__device__ __forceinline__ const void* shifted(const Matrix& m, int64_t elements) {
  const int bytes = m.dtype == DType::f32 ? 4 : 2;
  return static_cast<const char*>(m.data) + elements * bytes;
}
__device__ __forceinline__ Rows keys_of(const PlainAttention& p, int kv_head) {
  if (p.cache.keys != nullptr) return {p.cache.keys, p.cache.key_dim};
  return {shifted(p.keys, int64_t{kv_head} * p.shape.head_dim), p.keys.stride};
}
__device__ __forceinline__ Rows values_of(const PlainAttention& p, int kv_head, int value_dim) {
  if (p.cache.keys != nullptr) return {p.cache.values, p.cache.value_row};
  return {shifted(p.values, int64_t{kv_head} * value_dim), p.values.stride};
}
// The place of one of the sequence's tokens.
__device__ __forceinline__ int64_t place_of(const PlainAttention& p, const AttentionSequence& s,
                                            int kv_head, int position) {
  if (p.cache.keys == nullptr) return s.row_begin + position;
  const CacheLayer& c = p.cache;
  const int relative = position - s.first_position;
  const int64_t block = p.blocks[s.table_begin + relative / c.block_tokens];
  return (block * c.kv_heads + kv_head) * c.block_tokens + relative % c.block_tokens;
}

}  // namespace troupe::cuda
