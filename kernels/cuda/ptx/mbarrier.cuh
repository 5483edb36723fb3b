// Shared-memory barriers that count arrivals and the bytes of asynchronous copies (sm_90).
#pragma once

#include <cstdint>

namespace troupe::cuda::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// A place in shared memory: a pointer there, or the 32 bits that instructions take.
struct SharedPlace {
  __device__ __forceinline__ SharedPlace(const void* p) : address(shared_address(p)) {}
  __device__ __forceinline__ SharedPlace(uint32_t a) : address(a) {}
  uint32_t address;
};

__device__ __forceinline__ void mbarrier_init(SharedPlace bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar.address), "r"(arrivals));
}

// Makes initialised barriers visible to the copy engine and to the rest of the cluster.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Orders this thread's ordinary shared-memory accesses before later asynchronous ones.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(SharedPlace bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar.address) : "memory");
}

__device__ __forceinline__ void mbarrier_expect_bytes(SharedPlace bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar.address),
               "r"(bytes)
               : "memory");
}

// Waits until the phase of the given parity has completed.
__device__ __forceinline__ void mbarrier_wait(SharedPlace bar, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "AGAIN_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra AGAIN_%=;\n"
      "}\n" ::"r"(bar.address),
      "r"(parity)
      : "memory");
}

}  // namespace troupe::cuda::ptx
