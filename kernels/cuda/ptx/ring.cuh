// A place in a ring of stages in shared memory, each with barriers for "full" and "empty".
#pragma once

#include <cstdint>

namespace troupe::cuda::ptx {

struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;  // of the barriers of `slot`; changes with every turn
  __device__ __forceinline__ void next(int slots) {
    if (++slot < slots) return;
    slot = 0;
    parity ^= 1;
  }
};

}  // namespace troupe::cuda::ptx
