// output[m, n] = input[m, k] * weight[n, k]^T for a few rows and few outputs: routers, latent keys.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

bool narrow_gemm_fits(const GemmOperands& args);
cudaError_t narrow_gemm(const GemmOperands& args, cudaStream_t stream);

}  // namespace troupe::cuda
