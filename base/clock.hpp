// The monotonic clock, as an interface so that simulations own time.
#pragma once

#include <chrono>
#include <cstdint>

namespace troupe {

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual int64_t now_ns() const = 0;
};

inline int64_t steady_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class SteadyClock final : public Clock {
 public:
  [[nodiscard]] int64_t now_ns() const override { return steady_now_ns(); }
};

}  // namespace troupe
