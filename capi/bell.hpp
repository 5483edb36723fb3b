// A condition variable for waiters that one mutex guards: the kernel's futex without what
// std::condition_variable does around it. Its wait takes the mutex back as if others wanted it, so
// that every unlock afterwards is one more call of the kernel. That counts where a token is an
// event.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace troupe::capi {

class Bell {
 public:
  using Clock = std::chrono::steady_clock;

  // With the mutex held: who sleeps now is to wake. Then, best without it, wake_one() or
  // wake_all().
  void ring() { rings_.fetch_add(1, std::memory_order_relaxed); }
  void wake_one() noexcept { wake(1); }
  void wake_all() noexcept;

  // Sleeps until a ring after this call began, or until then; may return before.
  void sleep(std::unique_lock<std::mutex>& lock, Clock::time_point until) {
    const uint32_t seen = rings_.load(std::memory_order_relaxed);
    lock.unlock();
    wait(seen, until);
    lock.lock();
  }
  static constexpr Clock::time_point for_ever() { return Clock::time_point::max(); }

 private:
  void wake(int threads) noexcept;
  void wait(uint32_t seen, Clock::time_point until) noexcept;

  std::atomic<uint32_t> rings_{0};
};

}  // namespace troupe::capi
