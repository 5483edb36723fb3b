// What the lanes of a warp do together.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffff, x, d);
  return x;
}

// Of this lane's and all earlier lanes' numbers.
template <class T>
__device__ __forceinline__ T warp_sum_upto(T x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const T y = __shfl_up_sync(0xffffffff, x, d);
    if (lane >= d) x += y;
  }
  return x;
}

__device__ __forceinline__ float warp_largest(float x) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, d));
  return x;
}

// What the first lane reads there, for all. Nobody else reads, so that whoever waits for the first
// lane may write there again. In PTX, since a condition on threadIdx cost skinny_gemm's loop
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
