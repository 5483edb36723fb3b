// What one thread waits for and another one brings.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

namespace troupe::wire {

template <class T>
class Slot {
 public:
  void put(T value) {
    const std::scoped_lock lock(mutex_);
    if (!value_) value_ = std::move(value);
    there_.notify_all();
  }
  std::optional<T> take(int64_t timeout_ns) {
    std::unique_lock lock(mutex_);
    there_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return value_.has_value(); });
    return std::move(value_);
  }
  // As take, given up soon after `wanted` has said no.
  std::optional<T> take_while(const std::function<bool()>& wanted, int64_t timeout_ns) {
    constexpr std::chrono::milliseconds kLook(20);
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout_ns);
    std::unique_lock lock(mutex_);
    while (!value_ && wanted()) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= until) break;
      there_.wait_until(lock, std::min(now + kLook, until));
    }
    return std::move(value_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::optional<T> value_;
};

}  // namespace troupe::wire
