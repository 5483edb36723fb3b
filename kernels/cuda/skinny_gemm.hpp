// output[m, n] = input[m, k] * weight[n, k]^T for few rows (1 to 64), at the speed at which memory
// gives the weight. sm_90a; other devices take gemm_portable.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

constexpr int kSkinnyRowsMax = 64;

struct SkinnyGemm {
  int m = 0, n = 0, k = 0;  // k a multiple of 8
  DType dtype = DType::bf16;  // f16 or bf16: input, weight, bias
  const void* weight = nullptr;  // rows readable up to the next multiple of 16
  const void* input = nullptr;
  int64_t input_stride = 0;
  const void* bias = nullptr;  // null, or n
  void* output = nullptr;
  int64_t output_stride = 0;
  bool output_f32 = false;
  // The weight is [gate; up]: output[m, n / 2] = silu(gate) * up. n a multiple of 16.
  bool gated_silu = false;
  // Rows come out alike whatever their number: all are computed as if there were 64.
  bool fixed_cut = false;
  int variant = -1;  // benchmarks choose; -1: by shape
  int parts = -1;  // of k per tile; -1: by shape
  int strips = -1;  // of 16 weight rows in a tile; -1: by shape
  // Sums of tiles that several blocks share; one per stream, counters zero before the first use.
  float* partials = nullptr;
  uint32_t* counters = nullptr;
};

// What timing found best for a shape (tuning.cpp): this kernel cut so, or another's product.
struct SkinnyCut {
  bool skinny = true;
  int strips = -1, parts = -1;
};

constexpr int kSkinnyVariants = 3;
size_t skinny_gemm_partials_bytes(int rows_max);
size_t skinny_gemm_counters(int64_t n_max);

bool skinny_gemm_fits(const SkinnyGemm& args);
// Many rows of a wide gate: tiles of up to 256 weight rows, so that the input, which every tile
// reads again from L2, does not take more of its bandwidth than the weight.
bool skinny_takes_tall_tiles(const SkinnyGemm& args);
cudaError_t skinny_gemm(const SkinnyGemm& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
