#include "kernels/cuda/plan_fetch.hpp"

#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"

namespace troupe::cuda {
namespace {

constexpr int kThreads = 128;

struct Pieces {
  uint4 *plan, *blocks;
  const uint4 *plan_from, *blocks_from;
  uint32_t plan_count, count;  // of 16 bytes; of both
};

__global__ void __launch_bounds__(kThreads) fetch_kernel(const __grid_constant__ Pieces p) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  const bool of_plan = i < p.plan_count;
  uint4 piece = {};
  if (i < p.count) piece = of_plan ? p.plan_from[i] : p.blocks_from[i - p.plan_count];
  ptx::wait_for_earlier_kernels();  // they read the plan before
  if (i < p.count) *(of_plan ? p.plan + i : p.blocks + (i - p.plan_count)) = piece;
}

uint32_t pieces_of(size_t bytes) {
  return static_cast<uint32_t>((bytes + sizeof(uint4) - 1) / sizeof(uint4));
}

}  // namespace

cudaError_t fetch_plan(const PlanPiece& plan, const PlanPiece& blocks, cudaStream_t stream) {
  Pieces p = {static_cast<uint4*>(plan.to), static_cast<uint4*>(blocks.to),
              static_cast<const uint4*>(plan.from), static_cast<const uint4*>(blocks.from),
              pieces_of(plan.bytes), 0};
  p.count = p.plan_count + pieces_of(blocks.bytes);
  return launch(fetch_kernel, {dim3((p.count + kThreads - 1) / kThreads), dim3(kThreads)}, stream,
                p);
}

}  // namespace troupe::cuda
