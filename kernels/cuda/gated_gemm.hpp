// output[m, n / 2] = silu(input * gate^T) * (input * up^T), the weight [gate; up], for a hundred
// rows and more: the widest product of a layer, in the largest tiles that registers hold. sm_90a.
// wide_gemm is the other way, for tiles that do not come out even over the multiprocessors; timing
// chooses (tuning.cpp).
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

struct GatedTile {
  int rows = 256;  // of the input: 128 or 256
};

struct GatedGemm : GemmOperands {
  GatedTile tile = {};
};

// The part of what all multiprocessors could multiply until the last is done that is asked for.
double gated_gemm_evenness(const GatedGemm& args, int multiprocessors);
bool gated_gemm_fits(const GatedGemm& args);
cudaError_t gated_gemm(const GatedGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
