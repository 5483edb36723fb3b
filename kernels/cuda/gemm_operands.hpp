// What a product of our own works on, whichever kernel computes it:
// output[m, n] = input[m, k] * weight[n, k]^T.
#pragma once

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

struct GreedyRow;  // sampling.hpp

// What becomes of a product's sums.
enum class SumsTo : uint8_t { output, gate, likeliest };

struct GemmOperands {
  int m = 0, n = 0, k = 0;  // k a multiple of 8
  DType dtype = DType::bf16;  // f16 or bf16: input, weight, bias
  const void* weight = nullptr;  // rows readable up to the next multiple of 16
  const void* slim = nullptr;  // the same weight as slim_weight.hpp packs it, or null
  bool slim_paired = false;  // its strips are 8 rows of the upper half and 8 of the lower
  const void* input = nullptr;
  int64_t input_stride = 0;
  const void* bias = nullptr;  // null, or n
  void* output = nullptr;
  int64_t output_stride = 0;
  bool output_f32 = false;
  // The weight is [gate; up]: output[m, n / 2] = silu(gate) * up. n a multiple of 16.
  bool gated_silu = false;
  // Not null: only the key of each input row's largest sum is written (an atomic maximum).
  GreedyRow* likeliest = nullptr;
  // Sums of tiles that several blocks share; one per stream, counters zero before the first use.
  float* partials = nullptr;
  uint32_t* counters = nullptr;
  // Parts of k are not added up: `partials` gets a plane of m x n sums of each, in the order of k,
  // and nothing goes to the output. For whoever reads the product next and can add (norm.cu).
  bool parts_apart = false;

  [[nodiscard]] SumsTo sums_to() const {
    return likeliest != nullptr ? SumsTo::likeliest : gated_silu ? SumsTo::gate : SumsTo::output;
  }
};

}  // namespace troupe::cuda
