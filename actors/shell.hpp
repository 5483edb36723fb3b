// What every shell shares: handlers that are timed, exceptions that keep their text.
//
// Handlers on the shared actor threads must stay under kHandlerLimitNs: anything longer belongs to
// a pool or to a detached actor. measured() wraps a handler and counts those that did not.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/clock.hpp"
#include "base/status.hpp"

namespace troupe::actors {

inline constexpr int64_t kHandlerLimitNs = 200'000;

// How long one actor's handlers take. Shared by its shell and whoever reads the numbers.
struct HandlerClock {
  explicit HandlerClock(const char* name, bool precise = false)
      : actor(name), cpu_time(precise) {}
  const char* const actor;
  const bool cpu_time;  // tests: a handler that was preempted is not a slow one, at 1 us a look
  std::atomic<uint64_t> calls{0}, slow{0};
  std::atomic<int64_t> busy_ns{0}, worst_ns{0};

  void add(int64_t ns) {
    calls.fetch_add(1, std::memory_order_relaxed);
    busy_ns.fetch_add(ns, std::memory_order_relaxed);
    if (ns > kHandlerLimitNs) slow.fetch_add(1, std::memory_order_relaxed);
    if (ns > worst_ns.load(std::memory_order_relaxed)) worst_ns.store(ns, std::memory_order_relaxed);
  }
};
using HandlerClockPtr = std::shared_ptr<HandlerClock>;

int64_t thread_cpu_ns();

class HandlerTimer {
 public:
  explicit HandlerTimer(HandlerClock& clock) : clock_(clock), begin_(now()) {}
  ~HandlerTimer() { clock_.add(now() - begin_); }
  HandlerTimer(const HandlerTimer&) = delete;
  HandlerTimer& operator=(const HandlerTimer&) = delete;

 private:
  [[nodiscard]] int64_t now() const { return clock_.cpu_time ? thread_cpu_ns() : steady_now_ns(); }
  HandlerClock& clock_;
  const int64_t begin_;
};

namespace detail {
template <class F, class R, class... Args>
auto measured(HandlerClockPtr clock, F handler, R (F::*)(Args...) const) {
  return [clock = std::move(clock), handler = std::move(handler)](Args... args) -> R {
    const HandlerTimer timer(*clock);
    return handler(std::forward<Args>(args)...);
  };
}
}  // namespace detail

// A handler (a lambda that is not mutable) that is timed.
template <class F>
auto measured(const HandlerClockPtr& clock, F handler) {
  return detail::measured(clock, std::move(handler), &F::operator());
}

// What an exception says, as a Status.
Status status_of(const std::exception_ptr& exception);

// Why an actor died, kept where its supervisor finds it: CAF's down message drops the text.
class Obituary {
 public:
  void write(Status status) {
    const std::scoped_lock lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
  }
  [[nodiscard]] Status read() const {
    const std::scoped_lock lock(mutex_);
    return status_;
  }

 private:
  mutable std::mutex mutex_;
  Status status_;
};
using ObituaryPtr = std::shared_ptr<Obituary>;

}  // namespace troupe::actors
