// Products that no faster kernel takes: any element type, size and alignment; and products per
// head.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

// output[m, n] = input[m, k] * weight[n, k]^T (+ bias); sums in f32.
struct PortableGemm {
  Matrix input, weight, bias, output;
};
cudaError_t portable_gemm(const PortableGemm& args, cudaStream_t stream);

// Per head: output[:, h] = weight[h] * input[:, h]; weight is heads x (out x in), or (in x out).
struct HeadGemm {
  Matrix input, weight, output;
  bool transposed = false;
  int32_t heads = 0;
};
cudaError_t head_gemm(const HeadGemm& args, cudaStream_t stream);

// The same for few rows, in f16 and bf16.
constexpr int kHeadRowsMax = 16;
bool head_rows_fits(const HeadGemm& args);
cudaError_t head_rows(const HeadGemm& args, cudaStream_t stream);

}  // namespace troupe::cuda
