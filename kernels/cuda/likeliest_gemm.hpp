// The likeliest token of each of a hundred input rows and more, found in the head's sums, in the
// largest tiles that registers hold: likeliest[row].best = the key of row's largest
// input[row, k] * weight[n, k]^T. sm_90a. wide_gemm is the other way; timing chooses (tuning.cpp).
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

struct LikeliestTile {
  int rows = 256;  // of the input: 128 or 256
};

struct LikeliestGemm : GemmOperands {
  LikeliestTile tile = {};
};

bool likeliest_gemm_fits(const LikeliestGemm& args);
cudaError_t likeliest_gemm(const LikeliestGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
