// What the lanes of a warp do together.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

// What the first lane reads there, for all. Nobody else reads, so that whoever waits for the first
// lane may write there again. Said in PTX: a condition on threadIdx costs skinny_gemm's loop
// registers, and steps of 64 sequences one percent.
__device__ __forceinline__ int32_t read_once(SharedPlace at) {
  int32_t value;
  asm volatile(
      "{\n"
      ".reg .pred first;\n"
      ".reg .u32 lane;\n"
      "mov.u32 lane, %%laneid;\n"
      "setp.eq.u32 first, lane, 0;\n"
      "mov.s32 %0, 0;\n"
      "@first ld.shared.s32 %0, [%1];\n"
      "}\n"
      : "=r"(value)
      : "r"(at.address)
      : "memory");
  return __shfl_sync(0xffffffff, value, 0);
}

}  // namespace troupe::cuda::ptx
