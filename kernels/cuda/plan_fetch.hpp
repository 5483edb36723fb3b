// A step's plan as it comes to the device: a head, the plan, and block tables behind it or patches to
// those that are there. In front of a graph stands a kernel that fetches it from pinned memory. A
// graph's arguments stay as they are while plans come from one place after the other, so each plan's
// head says where the next will lie.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/sampling.hpp"

namespace troupe::cuda {

struct BlockPatch {
  uint32_t index = 0;  // into the block tables
  int32_t block = 0;
};

struct alignas(16) PlanHead {
  const void* next = nullptr;  // pinned memory
  DrawTarget target;
  uint32_t pieces = 0;  // of 16 bytes: the plan, this included
  uint32_t block_pieces = 0;  // block tables, which lie behind them
  uint32_t patches = 0;
  uint32_t patches_begin = 0;  // bytes from here, within the plan
};

// Staged plans have room for so much, whatever they use: the kernel reads that much at once.
constexpr size_t kPlanBytesLeast = size_t{16} << 10;

// Puts the kernel in front of all that the graph has. It fetches from where the plan at `head`, the
// last one that came, says that the next lies.
cudaError_t put_fetch_in_front(cudaGraph_t graph, PlanHead* head, int32_t* blocks);

}  // namespace troupe::cuda
