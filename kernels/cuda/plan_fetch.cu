#include "kernels/cuda/plan_fetch.hpp"

#include <cstddef>
#include <vector>

#include "kernels/cuda/launch.cuh"

namespace troupe::cuda {
namespace {

// One block: nobody may write the head before everybody knows where to read. Most plans are one
// piece a thread.
constexpr int kThreads = kPlanBytesLeast / sizeof(uint4), kAhead = 4;
constexpr int kHeadPieces = sizeof(PlanHead) / sizeof(uint4);
static_assert(sizeof(PlanHead) % sizeof(uint4) == 0 && kThreads <= 1024);

__global__ void __launch_bounds__(kThreads) fetch_kernel(PlanHead* head, int32_t* blocks) {
  __shared__ const uint4* from;
  __shared__ PlanHead come;
  const uint32_t thread = threadIdx.x;
  if (thread == 0) from = static_cast<const uint4*>(head->next);
  __syncthreads();
  const uint4* source = from;
  const uint4 first = __ldcv(source + thread);
  if (thread < kHeadPieces) reinterpret_cast<uint4*>(&come)[thread] = first;
  __syncthreads();
  const uint32_t pieces = come.pieces, count = pieces + come.block_pieces;
  auto* const plan = reinterpret_cast<uint4*>(head);
  auto* const tables = reinterpret_cast<uint4*>(blocks);
  const auto put = [&](uint32_t i, uint4 piece) {
    *(i < pieces ? plan + i : tables + (i - pieces)) = piece;
  };
  if (thread < count) put(thread, first);
  for (uint32_t begin = kThreads + thread; begin < count; begin += kAhead * kThreads) {
    uint4 piece[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (begin + a * kThreads < count) piece[a] = __ldcv(source + begin + a * kThreads);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (begin + a * kThreads < count) put(begin + a * kThreads, piece[a]);
    }
  }
  __syncthreads();
  const auto* patches = reinterpret_cast<const BlockPatch*>(
      reinterpret_cast<const std::byte*>(head) + come.patches_begin);
  for (uint32_t i = thread; i < come.patches; i += kThreads) {
    const BlockPatch patch = patches[i];
    blocks[patch.index] = patch.block;
  }
}

}  // namespace

cudaError_t put_fetch_in_front(cudaGraph_t graph, PlanHead* head, int32_t* blocks) {
  size_t count = 0;
  TR_CUDA_TRY(cudaGraphGetRootNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> roots(count);
  TR_CUDA_TRY(cudaGraphGetRootNodes(graph, roots.data(), &count));
  void* arguments[] = {&head, &blocks};
  cudaKernelNodeParams params = {};
  params.func = reinterpret_cast<void*>(fetch_kernel);
  params.gridDim = dim3(1);
  params.blockDim = dim3(kThreads);
  params.kernelParams = arguments;
  cudaGraphNode_t fetch = nullptr;
  TR_CUDA_TRY(cudaGraphAddKernelNode(&fetch, graph, nullptr, 0, &params));
  const std::vector<cudaGraphNode_t> before(count, fetch);
  // Whole dependencies, not the kind that lets a kernel start early: plans are read at once.
  return cudaGraphAddDependencies(graph, before.data(), roots.data(), nullptr, count);
}

}  // namespace troupe::cuda
