// What all lanes of a warp make of one number each.
#pragma once

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

}  // namespace troupe::cuda::ptx
