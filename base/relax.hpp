// A moment's rest for a core that waits for another without giving itself away.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <atomic>
#endif

namespace troupe {

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace troupe
