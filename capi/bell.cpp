#include "capi/bell.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace troupe::capi {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) &&
              std::atomic<uint32_t>::is_always_lock_free);

void Bell::wake_all() noexcept {
  wake(INT_MAX);
}

void Bell::wake(int threads) noexcept {
  ::syscall(SYS_futex, &rings_, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

void Bell::wait(uint32_t seen, Clock::time_point until) noexcept {
  // FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC, which is what steady_clock shows.
  const int64_t ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(until.time_since_epoch()).count();
  const timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
  ::syscall(SYS_futex, &rings_, FUTEX_WAIT_BITSET_PRIVATE, seen,
            until == for_ever() ? nullptr : &time, nullptr, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace troupe::capi
