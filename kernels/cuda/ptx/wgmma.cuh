// Warpgroup matrix instructions (sm_90a): 64 x N x 16 products of bf16 or f16 with f32 sums.
//
// Operands lie in shared memory in rows of 128 bytes under the 128-byte swizzle that the bulk
// tensor copies write: a descriptor holds the address and the distance of eight such rows. wgmma_ss
// takes both operands from there, k running along the rows. wgmma_rs takes A from registers and B
// with k running down the rows (a transposed B): values in attention. wgmma_rows takes A from
// registers too, and B as wgmma_ss does.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

// Rows of 128 bytes; eight rows are 1024 bytes, which is where the swizzle repeats. For operands
// whose k runs along the rows `block_bytes` is ignored; else it is the distance of the next 64
// elements of the other axis.
__device__ __forceinline__ uint64_t swizzled_operand(SharedPlace shared,
                                                     uint32_t block_bytes = 16) {
  const uint64_t address = (shared.address & 0x3FFFF) >> 4;
  return address | static_cast<uint64_t>(block_bytes >> 4) << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}

__device__ __forceinline__ void wgmma_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// What is reckoned from sums after this stays behind the wait in front of it: the compiler knows of
// no other tie between the two.
template <int kCount>
__device__ __forceinline__ void wgmma_settled(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// Gives registers of a warpgroup back, or takes more.
template <int kRegisters>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <class T, int kN>
__device__ __forceinline__ void wgmma_ss(float (&d)[kN / 2], uint64_t a, uint64_t b,
                                         bool accumulate);
template <class T, int kN>
__device__ __forceinline__ void wgmma_rs(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b,
                                         bool accumulate);
template <class T, int kN>
__device__ __forceinline__ void wgmma_rows(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b,
                                           bool accumulate);

// The instruction names each of its sums, N / 2 of them: first those names, then the sums
// themselves, each list the one before and some more.
// clang-format off
#define TR_NAMES4 "%0, %1, %2, %3"
#define TR_NAMES8 TR_NAMES4 ", %4, %5, %6, %7"
#define TR_NAMES16 TR_NAMES8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define TR_NAMES32 TR_NAMES16 \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TR_NAMES40 TR_NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define TR_NAMES64 TR_NAMES40 \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define TR_NAMES96 TR_NAMES64 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define TR_NAMES104 TR_NAMES96 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define TR_NAMES112 TR_NAMES104 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define TR_NAMES128 TR_NAMES112 \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define TR_SUMS4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TR_SUMS8(i) TR_SUMS4(i), TR_SUMS4(i + 4)
#define TR_SUMS16(i) TR_SUMS8(i), TR_SUMS8(i + 8)
#define TR_SUMS32(i) TR_SUMS16(i), TR_SUMS16(i + 16)
#define TR_SUMS40(i) TR_SUMS32(i), TR_SUMS8(i + 32)
#define TR_SUMS64(i) TR_SUMS32(i), TR_SUMS32(i + 32)
#define TR_SUMS96(i) TR_SUMS64(i), TR_SUMS32(i + 64)
#define TR_SUMS104(i) TR_SUMS96(i), TR_SUMS8(i + 96)
#define TR_SUMS112(i) TR_SUMS96(i), TR_SUMS16(i + 96)
#define TR_SUMS128(i) TR_SUMS64(i), TR_SUMS64(i + 64)
// clang-format on

// n columns, `sums` of them a thread; then the numbers of the operands behind the sums.
#define TR_WGMMA_SS_OF(T, type, n, sums, a_name, b_name, p_name)                          \
  template <>                                                                             \
  __device__ __forceinline__ void wgmma_ss<T, n>(float(&d)[sums], uint64_t a, uint64_t b, \
                                                 bool accumulate) {                       \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p_name                             \
                 ", 0;\n"                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type          \
                 " {" TR_NAMES##sums "}, %" #a_name ", %" #b_name ", p, 1, 1, 0, 0;\n}\n" \
                 : TR_SUMS##sums(0)                                                       \
                 : "l"(a), "l"(b), "r"(static_cast<int32_t>(accumulate)));                \
  }
#define TR_WGMMA_SS(n, sums, a_name, b_name, p_name)                     \
  TR_WGMMA_SS_OF(__nv_bfloat16, "bf16", n, sums, a_name, b_name, p_name) \
  TR_WGMMA_SS_OF(__half, "f16", n, sums, a_name, b_name, p_name)

TR_WGMMA_SS(8, 4, 4, 5, 6)
TR_WGMMA_SS(16, 8, 8, 9, 10)
TR_WGMMA_SS(32, 16, 16, 17, 18)
TR_WGMMA_SS(64, 32, 32, 33, 34)
TR_WGMMA_SS(128, 64, 64, 65, 66)
TR_WGMMA_SS(192, 96, 96, 97, 98)
TR_WGMMA_SS(208, 104, 104, 105, 106)
TR_WGMMA_SS(224, 112, 112, 113, 114)
TR_WGMMA_SS(256, 128, 128, 129, 130)

#define TR_WGMMA_A_OF(name, down, T, type, n, sums, a0, a1, a2, a3, b_name, p_name)              \
  template <>                                                                                    \
  __device__ __forceinline__ void name<T, n>(float(&d)[sums], const uint32_t(&a)[4], uint64_t b, \
                                             bool accumulate) {                                  \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p_name                                    \
                 ", 0;\n"                                                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type                 \
                 " {" TR_NAMES##sums "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_name    \
                                     ", p, 1, 1, " down ";\n}\n"                                 \
                 : TR_SUMS##sums(0)                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                           \
                   "r"(static_cast<int32_t>(accumulate)));                                       \
  }
#define TR_WGMMA_RS(n, sums, ...)                                           \
  TR_WGMMA_A_OF(wgmma_rs, "1", __nv_bfloat16, "bf16", n, sums, __VA_ARGS__) \
  TR_WGMMA_A_OF(wgmma_rs, "1", __half, "f16", n, sums, __VA_ARGS__)
#define TR_WGMMA_ROWS(n, sums, ...) \
  TR_WGMMA_A_OF(wgmma_rows, "0", __nv_bfloat16, "bf16", n, sums, __VA_ARGS__)

TR_WGMMA_RS(64, 32, 32, 33, 34, 35, 36, 37)
TR_WGMMA_RS(80, 40, 40, 41, 42, 43, 44, 45)
TR_WGMMA_RS(128, 64, 64, 65, 66, 67, 68, 69)

TR_WGMMA_ROWS(8, 4, 4, 5, 6, 7, 8, 9)
TR_WGMMA_ROWS(16, 8, 8, 9, 10, 11, 12, 13)
TR_WGMMA_ROWS(32, 16, 16, 17, 18, 19, 20, 21)
TR_WGMMA_ROWS(64, 32, 32, 33, 34, 35, 36, 37)

#undef TR_WGMMA_ROWS
#undef TR_WGMMA_RS
#undef TR_WGMMA_A_OF
#undef TR_WGMMA_SS
#undef TR_WGMMA_SS_OF
#undef TR_SUMS128
#undef TR_SUMS112
#undef TR_SUMS104
#undef TR_SUMS96
#undef TR_SUMS64
#undef TR_SUMS40
#undef TR_SUMS32
#undef TR_SUMS16
#undef TR_SUMS8
#undef TR_SUMS4
#undef TR_NAMES128
#undef TR_NAMES112
#undef TR_NAMES104
#undef TR_NAMES96
#undef TR_NAMES64
#undef TR_NAMES40
#undef TR_NAMES32
#undef TR_NAMES16
#undef TR_NAMES8
#undef TR_NAMES4

}  // namespace troupe::cuda::ptx
