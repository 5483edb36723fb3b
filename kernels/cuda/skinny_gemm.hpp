// output[m, n] = input[m, k] * weight[n, k]^T for few rows (1 to 64), at the speed at which memory
// gives the weight. sm_90a; other devices take gemm_portable.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {

constexpr int kSkinnyRowsMax = 64;

struct SkinnyGemm : GemmOperands {
  // Rows come out alike whatever their number: all are computed as if there were 64.
  bool fixed_cut = false;
  int variant = -1;  // benchmarks choose; -1: by shape
  int parts = -1;  // of k per tile; -1: by shape
  // Of 16 weight rows in a tile; -1: by shape. Up to 4, for 9 to 16 rows up to 8, for 17 to 32 up
  // to 16: taller tiles read the input from L2 less often.
  int strips = -1;
};

// What timing found best for a shape (tuning.cpp): this kernel cut so, or another's product.
struct SkinnyCut {
  bool skinny = true;
  int strips = -1, parts = -1;
};

constexpr int kSkinnyVariants = 2;
size_t skinny_gemm_partials_bytes(int rows_max);
size_t skinny_gemm_counters(int64_t n_max);

bool skinny_gemm_fits(const SkinnyGemm& args);
cudaError_t skinny_gemm(const SkinnyGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
