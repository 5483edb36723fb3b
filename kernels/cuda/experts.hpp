// A mixture of experts: the choice of experts per row, and the chosen ones' products.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
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
// For many rows: items (a row and one of its experts) in order of experts, cut into tiles.
struct ExpertTile {
  int32_t expert, begin, end;  // places [begin, end) of the order
};
struct ExpertTiles {
  int32_t* order = nullptr;  // the item at each place
  int32_t* place_of = nullptr;  // each item's place; -1: its expert is not here
  ExpertTile* tiles = nullptr;  // expert_tiles_max()
  int32_t* count = nullptr;  // of tiles
  void* results = nullptr;  // place x output columns, in dtype
};
struct ExpertsWork {
  Matrix input, logits, output;
  Routing routing;
  const int32_t* forced = nullptr;  // rows x top_k, or null
  bool rows_independent = false;  // one way to compute a row, however many there are
  size_t shared_max = 0;  // bytes that a block may have
  int32_t multiprocessors = 0;
  const ExpertWeights* weights = nullptr;  // on the device, per local expert
  DType dtype = DType::bf16;
  int32_t local = 0, first = 0, inner = 0;
  // An expert that all rows share, beside the chosen ones: shared_parts times as wide as these.
  ExpertWeights shared;
  int32_t shared_parts = 0;  // 0: none; only where experts_stream_fits()
  Curve curve = Curve::silu;
  ExpertWeights* chosen = nullptr;  // rows x top_k; null weights: not a local one
  int32_t* expert_of = nullptr;  // rows x top_k: among the local ones; -1: not a local one
  float* shares = nullptr;  // rows x top_k
  void* between = nullptr;  // rows x (top_k + shared_parts) x inner, in dtype
  ExpertTiles tiles;  // where experts_in_tiles()
};
cudaError_t experts(const ExpertsWork& args, cudaStream_t stream);

// Whether few rows stream their experts' weights through shared memory (experts_stream.cu).
bool experts_stream_fits(const ExpertsWork& args);
// With its routing, or, once `routed`, what follows that.
cudaError_t expert_streams(const ExpertsWork& args, bool routed, cudaStream_t stream);

// Whether tensor cores take the products (experts_tiles.cu); they need the memory of `tiles`.
bool experts_in_tiles(const ExpertsWork& args);
int64_t expert_tiles_max(const ExpertsWork& args);
// What follows the routing then.
cudaError_t expert_tiles(const ExpertsWork& args, cudaStream_t stream);

}  // namespace troupe::cuda
