// What the special function unit gives in one instruction. exp2f() and expf() wrap it in three more
// to keep numbers below 2^-126, a division likewise; here those are zero.
#pragma once

namespace troupe::cuda::ptx {

__device__ __forceinline__ float exp2_flushed(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float reciprocal_flushed(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace troupe::cuda::ptx
