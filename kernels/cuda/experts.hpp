// A mixture of experts: the choice of experts per row, and the chosen ones' products.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/elementwise.hpp"
#include "kernels/tensor.hpp"

namespace troupe::cuda {

constexpr int kExpertsMax = 1024, kTopMax = 64;

struct Routing {
  bool sigmoid = false, renormalise = false;
  int32_t experts = 0, top_k = 0, groups = 1, top_groups = 1, group_score_top = 1;
  float scale = 1.0F;
  const float* correction = nullptr;
};
// One local expert's weights, merged: [gate; up] x hidden, and hidden x inner.
struct ExpertWeights {
  const void* gate_up = nullptr;
  const void* gate_up_bias = nullptr;
  const void* down = nullptr;
  const void* down_bias = nullptr;
};
struct ExpertsWork {
  Matrix input, logits, output;
  Routing routing;
  const int32_t* forced = nullptr;  // rows x top_k, or null
  const ExpertWeights* weights = nullptr;  // on the device, per local expert
  DType dtype = DType::bf16;
  int32_t local = 0, first = 0, inner = 0;
  Curve curve = Curve::silu;
  ExpertWeights* chosen = nullptr;  // rows x top_k; null weights: not a local one
  float* shares = nullptr;  // rows x top_k
  void* between = nullptr;  // rows x top_k x inner, in dtype
};
cudaError_t experts(const ExpertsWork& args, cudaStream_t stream);

}  // namespace troupe::cuda
