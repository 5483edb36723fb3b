// The small ops between the products: norms, rope and the cache write, activations, embedding,
// gathering rows. Any of f32, f16, bf16; sums in f32. Rows may be strided.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/attention.hpp"
#include "kernels/tensor.hpp"

namespace troupe::cuda {

// Rows that kernels may read and write 16 bytes at a time.
inline bool is_aligned(const Matrix& m) {
  return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 &&
         static_cast<size_t>(m.stride) * dtype_bytes(m.dtype) % 16 == 0;
}

// residual += input (when there is one); output = norm(residual or input) * (weight + offset) +
// bias
struct Norm {
  Matrix input, residual, weight, bias, output;
  bool centred = false;  // layer norm
  float weight_offset = 0.0F;
  float eps = 1e-5F;
  int32_t group = 0;  // columns normalised together; 0: all
  // The input is what so many planes of input.rows x input.cols sums, one behind the other, add up
  // to, rounded as it would have been written; input.data is not read. 0: there are none.
  const float* sums = nullptr;
  int32_t parts = 0;
};
// Whether norm() takes its input in parts for these.
bool norm_adds_parts(const Norm& args);
constexpr int kNormPartsMax = 4;
cudaError_t norm(const Norm& args, cudaStream_t stream);

// output = input * scale (+ addend)
struct Add {
  Matrix input, addend, output;
  float scale = 1.0F;
};
cudaError_t add(const Add& args, cudaStream_t stream);

// The numbers are troupe::Activation's.
enum class Curve : uint8_t { silu, gelu, gelu_tanh, gelu_quick, relu, relu2 };
// gated: output = curve(input[:, :n]) * input[:, n:]
cudaError_t activation(Curve curve, bool gated, const Matrix& input, const Matrix& output,
                       cudaStream_t stream);

struct Embed {
  Matrix table, output;
  int32_t first_token = 0;
  float scale = 1.0F;
  const int32_t* tokens = nullptr;  // per row; -1: the slot's last token
  const int32_t* slots = nullptr;  // per row
  const int32_t* slot_tokens = nullptr;  // per slot
};
cudaError_t embed(const Embed& args, cudaStream_t stream);

// output[i] = input[rows[i]]
cudaError_t gather(const Matrix& input, const int32_t* rows, const Matrix& output,
                   cudaStream_t stream);

// output = input * weight, column by column
cudaError_t scale_columns(const Matrix& input, const Matrix& weight, const Matrix& output,
                          cudaStream_t stream);

// Rows of several matrices, counted through: `first` is a matrix's first.
struct MixSource {
  const void* data = nullptr;
  int64_t stride = 0;
  int64_t first = 0;
};
// output[i] (+)= the sum over taps of weights[i, k] * row rows[i, k] of the sources; -1: nothing
struct MixRows {
  const MixSource* sources = nullptr;
  int32_t source_count = 0;
  const int32_t* rows = nullptr;
  const float* weights = nullptr;  // null: 1
  int32_t taps = 1;
  bool accumulate = false;
  Matrix output;
};
cudaError_t mix_rows(const MixRows& args, cudaStream_t stream);

struct Rope {
  bool interleaved = false;
  int32_t rotary_dim = 0;
  const float* frequencies = nullptr;  // one or two tables of rotary_dim / 2
  int32_t short_length = 0;
  bool two_tables = false;
  int64_t table_stride = 0;
  float attention_scale = 1.0F, attention_scale_long = 1.0F;
  float dynamic_base = 0.0F, dynamic_factor = 1.0F;
  int32_t dynamic_length = 0;
  int32_t sections[3] = {0, 0, 0};
  bool sections_interleaved = false;
};
// RMS norms of heads on their way: a weight of the rows' type for each element of a head.
struct HeadNorm {
  const void* weight = nullptr;  // null: none
  float offset = 0.0F, eps = 1e-5F;
};
struct RopeWrite {
  Rope rope;
  Matrix query, key, value;  // query or value may be empty
  int32_t heads = 0, head_dim = 0, rotary_begin = 0;
  int32_t kv_heads = 0, key_dim = 0, value_dim = 0;
  const int32_t* positions = nullptr;  // per row
  const int32_t* rope_positions = nullptr;  // null, or 3 per row
  const int32_t* prompt_lengths = nullptr;  // per row
  const int32_t* cache_rows = nullptr;  // per row: block * block_tokens + token; -1: none
  CacheLayer cache;  // keys null: rotate only
  HeadNorm query_norm, key_norm;  // where rope_write_norms()
};
cudaError_t rope_write(const RopeWrite& args, cudaStream_t stream);
// Whether it can norm queries and keys before it turns them.
bool rope_write_norms(const RopeWrite& args);

// Rows of an encoder become the first tokens of one sequence's blocks.
struct CrossWrite {
  Matrix key, value;
  CacheLayer cache;
  const int32_t* blocks = nullptr;  // of the sequence
};
cudaError_t cross_write(const CrossWrite& args, cudaStream_t stream);

// output = input, whatever the two element types; rows whose mark differs from `keep` are left out.
struct CopyRows {
  Matrix input, output;
  const int32_t* marks = nullptr;  // null: all rows
  int32_t keep = 0;
};
cudaError_t copy_rows(const CopyRows& args, cudaStream_t stream);

// 16-bit numbers to time products with: zeros run faster than life.
cudaError_t fill_noise(void* to, size_t halves, cudaStream_t stream);

}  // namespace troupe::cuda
