// Bulk tensor copies from global to shared memory (sm_90): a descriptor names the tensor, the
// coordinates name the box, an mbarrier counts its bytes.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

// What the L2 cache should do with the lines of a copy.
constexpr uint64_t kEvictFirst = 0x12F0000000000000ULL;  // read once: streamed weights
constexpr uint64_t kEvictNormal = 0x1000000000000000ULL;
constexpr uint64_t kEvictLast = 0x14F0000000000000ULL;  // read again soon: activations

__device__ __forceinline__ void prefetch_descriptor(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void load_box(SharedPlace to, const CUtensorMap* map, SharedPlace bar,
                                         uint64_t policy, int32_t c0, int32_t c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to.address),
      "l"(map), "r"(bar.address), "l"(policy), "r"(c0), "r"(c1)
      : "memory");
}

__device__ __forceinline__ void load_box(SharedPlace to, const CUtensorMap* map, SharedPlace bar,
                                         uint64_t policy, int32_t c0, int32_t c1, int32_t c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to.address),
      "l"(map), "r"(bar.address), "l"(policy), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}

__device__ __forceinline__ void load_box(SharedPlace to, const CUtensorMap* map, SharedPlace bar,
                                         uint64_t policy, int32_t c0, int32_t c1, int32_t c2,
                                         int32_t c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(to.address),
      "l"(map), "r"(bar.address), "l"(policy), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// So many bytes that lie in a row: multiples of 16, at such addresses on both sides.
__device__ __forceinline__ void load_row(void* to, const void* from, uint32_t bytes,
                                         uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(bar))
      : "memory");
}

__device__ __forceinline__ void load_row(SharedPlace to, const void* from, uint32_t bytes,
                                         SharedPlace bar, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(to.address),
      "l"(from), "r"(bytes), "r"(bar.address), "l"(policy)
      : "memory");
}

// Brings a box as far as L2, ahead of the copy that wants it.
__device__ __forceinline__ void prefetch_box(const CUtensorMap* map, int32_t c0, int32_t c1,
                                             int32_t c2, int32_t c3) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(map),
               "r"(c0), "r"(c1), "r"(c2), "r"(c3)
               : "memory");
}

}  // namespace troupe::cuda::ptx
