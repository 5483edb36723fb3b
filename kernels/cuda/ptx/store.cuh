// Stores that somebody else is looking at.
#pragma once

#include <cstdint>

namespace troupe::cuda::ptx {

// Sixteen bytes, aligned, that the device and the host see all at once or not at all.
__device__ __forceinline__ void store_whole(void* to, uint64_t low, uint64_t high) {
  asm volatile(
      "{\n"
      ".reg .b128 whole;\n"
      "mov.b128 whole, {%1, %2};\n"
      "st.relaxed.sys.global.b128 [%0], whole;\n"
      "}" ::"l"(to), "l"(low), "l"(high)
      : "memory");
}

}  // namespace troupe::cuda::ptx
