// A step's plan brought to the device by a kernel in place of copies: launched in one call, it reads
// pinned memory while the step before still ends.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace troupe::cuda {

struct PlanPiece {
  void* to = nullptr;  // both at multiples of 16, with room for whole ones
  const void* from = nullptr;  // pinned memory, written before the launch
  size_t bytes = 0;
};

// What follows must not start early (ptx/grid.cuh): kernels read plans before they wait for those
// in front of them. A graph does not.
cudaError_t fetch_plan(const PlanPiece& plan, const PlanPiece& blocks, cudaStream_t stream);

}  // namespace troupe::cuda
