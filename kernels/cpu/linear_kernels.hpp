// The inner parts of a linear layer: output[m, n] = sum over k of input[m, k] * weight[n, k].
//
// Few rows: dot products; a tile of some weight rows meets all input rows while it is in the
// nearest cache, so weights stream from memory once. Many rows (packed_kernels.cpp): the inputs are
// packed once, panels of weights are turned to f32 and transposed in the second-level cache, and a
// micro-kernel of 6 rows by two vectors runs at the multipliers' rate.
#pragma once

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cpu {

// Input rows and where their results go. Row i is `input_rows[i]` of the input and
// `output_rows[i]` of the output, or i itself where the list is null.
struct LinearRows {
  const float* input = nullptr;
  int64_t input_stride = 0;
  const int32_t* input_rows = nullptr;
  float* output = nullptr;
  int64_t output_stride = 0;
  const int32_t* output_rows = nullptr;
  int64_t count = 0;

  [[nodiscard]] const float* in(int64_t i) const {
    return input + (input_rows != nullptr ? input_rows[i] : i) * input_stride;
  }
  [[nodiscard]] float* out(int64_t i) const {
    return output + (output_rows != nullptr ? output_rows[i] : i) * output_stride;
  }
};

// Weight rows [0, n) of k columns; results go to columns [0, n) of LinearRows::output.
struct WeightRows {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t stride = 0;
  int64_t n = 0;
  int64_t k = 0;
  const float* bias = nullptr;

  [[nodiscard]] WeightRows slice(int64_t begin, int64_t end) const {
    const auto* bytes = static_cast<const std::byte*>(data);
    return {bytes + begin * stride * static_cast<int64_t>(dtype_bytes(dtype)), dtype, stride,
            end - begin, k, bias != nullptr ? bias + begin : nullptr};
  }
};

inline constexpr int64_t kTileRows = 6;       // input rows of the micro-kernel
inline constexpr int64_t kPanelColumns = 96;  // weight rows packed together, at most
inline constexpr int64_t kPanelDepth = 288;   // columns packed together, at most
inline constexpr int64_t kPanelFloats = kPanelDepth * kPanelColumns;
inline constexpr int64_t kDotRowsMax = 64;    // rows that linear_dot takes

// Columns packed together: k in equal runs.
constexpr int64_t panel_depth(int64_t k) {
  const int64_t runs = (k + kPanelDepth - 1) / kPanelDepth;
  return runs == 0 ? kPanelDepth : ((k + runs - 1) / runs + 7) / 8 * 8;
}
// Weight rows that the micro-kernel takes at once: slices should be multiples of it.
int64_t panel_width();

// Few rows (<= kDotRowsMax), any k.
void linear_dot(const LinearRows& rows, const WeightRows& weight);

// Many rows. pack_inputs lays tiles [tile_begin, tile_end) of six rows out, for each run of
// columns [tile][column][6]; packed holds tiles * k * 6 floats. `panels` is scratch of kPanelFloats.
// Both are 64-byte aligned.
void pack_inputs(const LinearRows& rows, int64_t k, int64_t tile_begin, int64_t tile_end,
                 float* packed);
void linear_packed(const float* packed, const LinearRows& rows, const WeightRows& weight,
                   float* panels);

}  // namespace troupe::cpu
