// Attention over the paged cache. Two kernels share one description of the batch: sequences of few
// query rows go to decode_attention (split along the cache, memory-bound), long ones to
// prefill_attention (tensor cores, sm_90a). attention_plain takes whatever these two do not.
//
// Work lists, block tables and cached tokens of earlier steps may be read before the kernels in
// front have finished: a step's plan and its block copies must be complete before its first kernel.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

// A sequence of the batch, as kernels see it.
struct AttentionSequence {
  int32_t row_begin = 0;
  int32_t row_count = 0;
  int32_t kv_len = 0;  // tokens visible to the last row
  int32_t table_begin = 0;  // into the block list
  int32_t first_position = 0;  // of the first block listed
  int32_t causal = 1;  // 0: every row sees all of kv_len
};
// Positions [begin, end) of one sequence: one share of a decode row's work.
struct DecodeWork {
  AttentionSequence sequence;
  int32_t begin = 0;
  int32_t end = 0;
  int32_t share = 0;
  int32_t shares = 1;
  int32_t partial = 0;  // index of the sequence's first share in the partial results
  int32_t counter = 0;
};
// Query rows [128 * tile, 128 * tile + 128) of one sequence.
struct PrefillWork {
  int32_t sequence = 0;
  int32_t tile = 0;
};

// One layer's part of the cache as it lies in memory: [block][head][token][element].
struct CacheLayer {
  void* keys = nullptr;
  void* values = nullptr;  // latent attention: the keys
  DType dtype = DType::bf16;
  int32_t kv_heads = 0, key_dim = 0, value_dim = 0;
  int32_t block_tokens = 0, blocks = 0;
  int32_t value_row = 0;  // elements from one token's value to the next: value_dim, or key_dim
};

// One layer's keys and values for the fast kernels: block b, head h, token t, element e at
// b * block_stride + h * head_stride + t * token_stride + e (elements).
struct PagedLayer {
  const void* keys = nullptr;
  const void* values = nullptr;
  int64_t block_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  int32_t blocks = 0;
  int32_t block_tokens = 0;
  int32_t kv_heads = 0;
};

struct AttentionShape {
  DType dtype = DType::bf16;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t window = 0;
  float scale = 1.0F;
  float softcap = 0.0F;
  const float* alibi_slopes = nullptr;
  const float* sinks = nullptr;
};

constexpr int kDecodeRowsMax = 16;  // query heads of a group times query rows

struct DecodeAttention {
  AttentionShape shape;
  PagedLayer layer;
  const void* query = nullptr;
  int64_t query_stride = 0;
  void* output = nullptr;
  int64_t output_stride = 0;
  const DecodeWork* work = nullptr;
  int32_t work_stride = 1;  // elements from one item to the next
  const int32_t* work_count = nullptr;  // on the device
  const int32_t* blocks = nullptr;
  int32_t rows_max = 1;  // query rows of any sequence in the work
  float* partials = nullptr;  // per share and kv head: 16 x (head_dim + 2)
  uint32_t* counters = nullptr;  // zero: two of the kernel's own, then per sequence and kv head
  // In place of the work: sequences of one row each that go to clusters; few and not long ones.
  const AttentionSequence* sequences = nullptr;
  int32_t sequence_count = 0;
};
// Whether so many sequences, none of them long, are better spread over clusters.
bool decode_spreads(const AttentionShape& shape, const PagedLayer& layer, int32_t sequences,
                    int32_t multiprocessors);
// For at most rows_max rows of a sequence, on a device whose blocks may have `shared_max` bytes.
bool decode_attention_fits(const AttentionShape& shape, const PagedLayer& layer, int32_t rows_max,
                           size_t shared_max);
size_t decode_partials_floats(int head_dim);
constexpr int kDecodeShareMax = 2048;  // positions
constexpr int kSpreadMost = 2048;  // positions of a sequence that goes to a cluster
cudaError_t decode_attention(const DecodeAttention& args, int multiprocessors, cudaStream_t stream);

// Single rows over a latent cache (a key's first elements are its value): DeepSeek's 512 + 64.
constexpr int kLatentHeads = 16;  // heads that go together
struct LatentAttention {
  AttentionShape shape;
  CacheLayer cache;
  const void* query = nullptr;
  int64_t query_stride = 0;
  void* output = nullptr;
  int64_t output_stride = 0;
  const DecodeWork* work = nullptr;
  int32_t work_stride = 1;
  const int32_t* work_count = nullptr;  // on the device
  const int32_t* blocks = nullptr;
  float* partials = nullptr;  // per share: latent_partials_floats(heads)
  uint32_t* counters = nullptr;  // per sequence and kLatentHeads heads, zero
  // In place of the work: sequences of one row each that go to clusters; few and not long ones.
  const AttentionSequence* sequences = nullptr;
  int32_t sequence_count = 0;
};
bool latent_spreads(const AttentionShape& shape, int32_t sequences, int32_t multiprocessors);
bool latent_attention_fits(const AttentionShape& shape, const CacheLayer& cache, size_t shared_max);
size_t latent_partials_floats(int heads);
cudaError_t latent_attention(const LatentAttention& args, int multiprocessors, cudaStream_t stream);

struct PrefillAttention {
  AttentionShape shape;
  PagedLayer layer;
  const void* query = nullptr;
  int64_t query_stride = 0;
  int64_t query_rows = 0;
  void* output = nullptr;
  int64_t output_stride = 0;
  const AttentionSequence* sequences = nullptr;
  const PrefillWork* work = nullptr;  // the longest first
  int32_t work_count = 0;
  const int32_t* blocks = nullptr;
  // Sequences that begin with these rows may read keys and values where the projection left them:
  // layer.keys and layer.values are then rows of row_stride elements, beside the query's.
  int64_t row_stride = 0;  // 0: the paged cache
};
bool prefill_attention_fits(const AttentionShape& shape, const PagedLayer& layer);
bool prefill_attention_fits_rows(const AttentionShape& shape);
cudaError_t prefill_attention(const PrefillAttention& args, int multiprocessors,
                              cudaStream_t stream);

// Any shape, dtype and view: what the kernels above do not take.
struct PlainAttention {
  AttentionShape shape;  // head_dim: the key's; dtype: of query and output
  CacheLayer cache;  // keys null: packed below
  Matrix query, output;
  const int32_t* row_sequence = nullptr;  // per row, -1: none
  const int32_t* positions = nullptr;
  const int32_t* span_ends = nullptr;  // null, or per row
  const AttentionSequence* sequences = nullptr;
  const int32_t* blocks = nullptr;
  bool cross = false;  // every row sees its sequence's kv_len
  const int32_t* cross_spans = nullptr;  // … or, two per row, the [begin, end) of it
  int32_t rows_above = 0;  // only sequences with more rows than this …
  int32_t rows_most = INT32_MAX;  // … and at most so many
  int32_t rows_least = 1, rows_longest = INT32_MAX;  // of any sequence here, as far as is known
  bool rows_independent = false;  // one way to compute a row, however its sequence is cut
  size_t shared_max = 0;  // bytes that a block may have
  // Keys and values that lie in rows, without a cache: sequences are [row_begin, + row_count).
  Matrix keys, values;
};
cudaError_t plain_attention(const PlainAttention& args, cudaStream_t stream);
// Its way with runs of rows: sequences of more than rows_above, which is at least 0.
bool tiled_attention_fits(const PlainAttention& args);
cudaError_t tiled_attention(const PlainAttention& args, cudaStream_t stream);

}  // namespace troupe::cuda
