// output[m, n] = input[m, k] * weight[n, k]^T for tens of rows and more, with the gate of a gated
// activation inside when asked, or the likeliest tokens in the place of an output. sm_90a; cuBLASLt
// is the other way, and timing chooses (tuning.cpp).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

// How a product is cut.
struct WideCut {
  int tokens = 256;  // input rows of a tile: 64, 128, 192 or 256
  // 0: what does not come out even over the multiprocessors is cut along k wherever their shares
  // end. p: every tile is cut into p equal parts (1: not at all).
  int parts = 0;
  int cluster = 2;  // blocks that share the input: 2 or 4
};

struct WideGemm : GemmOperands {
  WideCut cut = {};
};

size_t wide_gemm_partials_bytes(int multiprocessors);
size_t wide_gemm_counters(int multiprocessors);

bool wide_gemm_fits(const WideGemm& args);
// Whether the cut can be made for these sizes.
bool wide_cut_fits(const WideGemm& args, int multiprocessors);
cudaError_t wide_gemm(const WideGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
