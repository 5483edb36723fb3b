// How long callers wait, as the ports take it: never so long that a clock would overflow.
#pragma once

#include <algorithm>
#include <cstdint>

namespace troupe::capi {

inline constexpr int64_t kForEver_ns = int64_t{365} * 24 * 3600 * 1'000'000'000;

// Of troupe_engine_close and troupe_server_close: below 0 it is as long as it takes.
[[nodiscard]] constexpr int64_t patience_ns(int64_t drain_ns) {
  return drain_ns < 0 ? kForEver_ns : std::min(drain_ns, kForEver_ns);
}

}  // namespace troupe::capi
