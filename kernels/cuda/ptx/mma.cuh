// Warp-level matrix instructions and asynchronous 16-byte copies of sm_80 and later; on sm_75 the
// same results from what that has: plain copies, products of 8 columns, and bf16 by multiply-adds.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

// Copies 16 bytes, or writes zeros when `present` is false.
__device__ __forceinline__ void copy16_async(uint32_t to_shared, const void* from, bool present) {
#if __CUDA_ARCH__ >= 800
  const int bytes = present ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_shared), "l"(from),
               "r"(bytes)
               : "memory");
#else
  uint4 piece = {0, 0, 0, 0};
  if (present) piece = *static_cast<const uint4*>(from);
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to_shared), "r"(piece.x),
               "r"(piece.y), "r"(piece.z), "r"(piece.w)
               : "memory");
#endif
}
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kPending>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

__device__ __forceinline__ void load_matrix(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ __forceinline__ void load_matrix_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
// Of an 8 x 8 matrix whose rows are four lanes' pairs each: its columns.
__device__ __forceinline__ uint32_t transposed(uint32_t pair) {
  uint32_t out;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
  return out;
}

// d += a (16 x 16, rows) * b (16 x 8, columns), f32 sums.
template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1);
#if __CUDA_ARCH__ >= 800
template <>
__device__ __forceinline__ void mma_16x8x16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                           uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma_16x8x16<__half>(float (&d)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
// sum + the products of two pairs of bf16.
__device__ __forceinline__ float add_products(float sum, uint32_t x, uint32_t y) {
  sum += __uint_as_float(x << 16) * __uint_as_float(y << 16);
  return sum + __uint_as_float(x & 0xFFFF0000U) * __uint_as_float(y & 0xFFFF0000U);
}
// Four lanes hold a row of a, four a column of b: each lane asks round for the rows and columns of
// its own four sums.
template <>
__device__ __forceinline__ void mma_16x8x16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                           uint32_t b0, uint32_t b1) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4 * 4, column = lane % 4 * 8;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    uint32_t of_rows[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) of_rows[i] = __shfl_sync(0xFFFFFFFF, a[i], row + j);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint32_t low = __shfl_sync(0xFFFFFFFF, b0, column + c * 4 + j),
                     high = __shfl_sync(0xFFFFFFFF, b1, column + c * 4 + j);
      d[c] = add_products(add_products(d[c], of_rows[0], low), of_rows[2], high);
      d[c + 2] = add_products(add_products(d[c + 2], of_rows[1], low), of_rows[3], high);
    }
  }
}
template <>
__device__ __forceinline__ void mma_16x8x16<__half>(float (&d)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1) {
  const uint32_t b[2] = {b0, b1};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[half * 2]), "r"(a[half * 2 + 1]), "r"(b[half]));
  }
}
#endif

}  // namespace troupe::cuda::ptx
