// skinny_gemm by a slim weight (slim_weight.hpp): the same product of few rows from three quarters
// of the bytes. sm_90a.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

constexpr int kSlimRowsMax = 64;

struct SlimCut {
  int strips = 0;  // of 16 weight rows in a tile: up to 16
  int parts = 1;  // of k per tile
};

struct SlimGemm : GemmOperands {
  SlimCut cut = {};
};

// Whether this many rows may be cut so.
bool slim_cut_fits(int rows, const SlimCut& cut);
bool slim_gemm_fits(const SlimGemm& args);
size_t slim_gemm_partials_bytes();
cudaError_t slim_gemm(const SlimGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
