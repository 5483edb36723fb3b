// Blocks of a cluster (sm_90): who is who, meeting, barriers and copies that reach the others.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace troupe::cuda::ptx {

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// Every thread of every block of the cluster.
__device__ __forceinline__ void cluster_meet() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}

// Reads from the same place of block `rank`, which must not have left.
__device__ __forceinline__ float4 load_at(const float4* here, uint32_t rank) {
  float4 x;
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
      "}\n"
      : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
      : "r"(shared_address(here)), "r"(rank)
      : "memory");
  return x;
}
__device__ __forceinline__ float2 load_at(const float2* here, uint32_t rank) {
  float2 x;
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %2, %3;\n"
      "ld.shared::cluster.v2.f32 {%0, %1}, [there];\n"
      "}\n"
      : "=f"(x.x), "=f"(x.y)
      : "r"(shared_address(here)), "r"(rank)
      : "memory");
  return x;
}

// Arrives at the same barrier of block `rank`.
__device__ __forceinline__ void mbarrier_arrive_at(SharedPlace bar, uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(bar.address),
      "r"(rank)
      : "memory");
}

// Brings a box into the same place of every block in `blocks` (bits), each one's barrier counting.
__device__ __forceinline__ void load_box_widely(SharedPlace to, const CUtensorMap* map,
                                                SharedPlace bar, uint16_t blocks, uint64_t policy,
                                                int32_t c0, int32_t c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%5, %6}], [%2], %3, %4;" ::"r"(to.address),
      "l"(map), "r"(bar.address), "h"(blocks), "l"(policy), "r"(c0), "r"(c1)
      : "memory");
}

}  // namespace troupe::cuda::ptx
