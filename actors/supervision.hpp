// What the supervisor decides, free of CAF: is a dead executor worth replacing, is a step stuck.
#pragma once

#include <cstdint>

namespace troupe::actors {

class Supervision {
 public:
  struct Limits {
    bool replaceable = true;
    // Deaths in a row without one finished step. More than a poisonous request survives
    // (SchedulerConfig::restarts_max), so that it is the request which ends and not the engine.
    int32_t fruitless_max = 5;
    int64_t stall_warn_ns = 0, stall_fatal_ns = 0;
  };
  enum class Stall : uint8_t { none, warn, fatal };

  explicit Supervision(const Limits& limits) : limits_(limits) {}

  // `steps`: finished so far. True: replace it.
  bool executor_died(uint64_t steps) {
    if (!limits_.replaceable) return false;
    fruitless_ = steps == steps_at_death_ ? fruitless_ + 1 : 1;
    steps_at_death_ = steps;
    return fruitless_ <= limits_.fruitless_max;
  }

  // `launched_ns`: when the oldest step in flight was launched, 0 without one. Warns once a step.
  Stall look(int64_t now_ns, int64_t launched_ns) {
    if (launched_ns == 0) return Stall::none;
    const int64_t age = now_ns - launched_ns;
    if (age >= limits_.stall_fatal_ns) return Stall::fatal;
    if (age < limits_.stall_warn_ns || warned_about_ns_ == launched_ns) return Stall::none;
    warned_about_ns_ = launched_ns;
    return Stall::warn;
  }

 private:
  const Limits limits_;
  uint64_t steps_at_death_ = 0;
  int32_t fruitless_ = 0;
  int64_t warned_about_ns_ = 0;
};

}  // namespace troupe::actors
