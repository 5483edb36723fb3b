// Element types in kernels: f32, f16, bf16, computed in f32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

// Matrix's own test is host code.
__device__ __forceinline__ bool present(const Matrix& m) {
  return m.data != nullptr;
}

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Two neighbours in one register; the first in the low half.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
  const __half2 h = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&h);
}
template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&h);
}

// The two that lie in a register.
template <class T>
__device__ __forceinline__ float2 unpack(uint32_t bits);
template <>
__device__ __forceinline__ float2 unpack<__half>(uint32_t bits) {
  return __half22float2(*reinterpret_cast<const __half2*>(&bits));
}
template <>
__device__ __forceinline__ float2 unpack<__nv_bfloat16>(uint32_t bits) {  // one instruction each
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000U)};
}

}  // namespace troupe::cuda

// Runs the statements with `Name` standing for the element type of `dtype`, or with `T`.
#define TR_DISPATCH_FLOAT_AS(Name, dtype, ...) \
  switch (dtype) {                             \
    case ::troupe::DType::f32: {               \
      using Name = float;                      \
      __VA_ARGS__;                             \
    } break;                                   \
    case ::troupe::DType::f16: {               \
      using Name = __half;                     \
      __VA_ARGS__;                             \
    } break;                                   \
    case ::troupe::DType::bf16: {              \
      using Name = __nv_bfloat16;              \
      __VA_ARGS__;                             \
    } break;                                   \
    default:                                   \
      return cudaErrorInvalidValue;            \
  }
#define TR_DISPATCH_FLOAT(dtype, ...) TR_DISPATCH_FLOAT_AS(T, dtype, __VA_ARGS__)
