// A scheduler over the checked fake device, turn by turn, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/fake_device.hpp"
#include "engine/scheduler.hpp"
#include "engine/step_loop.hpp"

namespace troupe::engine {

inline constexpr int32_t kVocab = 97;

class TestTime final : public Waiter {
 public:
  [[nodiscard]] int64_t now_ns() const override { return now; }
  void wait_until(int64_t ns) override { now = std::max(now, ns); }
  int64_t now = 1;
};

inline SchedulerConfig small_config(int32_t blocks = 64) {
  SchedulerConfig c;
  c.slots = 4;
  c.step_rows = 36;
  c.context_length = 256;
  c.vocab = kVocab;
  c.block_tokens = 8;
  models::CacheGroup g;
  g.cache.blocks = blocks;
  c.groups = {g};
  return c;
}

struct Rig {
  explicit Rig(const SchedulerConfig& c) : Rig(c, options(c)) {}
  Rig(const SchedulerConfig& c, const FakeDeviceOptions& o)
      : scheduler(c), device(o, time), loop(scheduler, device, time) {}
  static FakeDeviceOptions options(const SchedulerConfig& c) {
    FakeDeviceOptions o;
    o.vocab = c.vocab;
    o.slots = c.slots;
    o.block_tokens = c.block_tokens;
    o.groups = c.groups;
    o.step_ns = 1000;
    o.checked = true;
    return o;
  }
  Status submit(uint64_t id, int32_t prompt, int32_t max_tokens, void (*change)(Job&) = nullptr) {
    Job job;
    job.id = id;
    job.submitted_ns = time.now;
    job.sampling.max_tokens = max_tokens;
    job.sampling.temperature = 0.0F;
    for (int32_t i = 0; i < prompt; ++i) job.prompt.tokens.push_back((i * 7 + static_cast<int32_t>(id)) % 90);
    if (change != nullptr) change(job);
    return scheduler.admit(std::move(job));
  }
  void turn() {
    const auto r = loop.turn(out);
    ASSERT_TRUE(r.ok()) << r.status().message();
    const Status sound = scheduler.check_integrity();
    ASSERT_TRUE(sound.ok()) << sound.message();
  }
  void run() {
    for (int32_t i = 0; i < 5000 && !scheduler.idle(); ++i) turn();
    ASSERT_TRUE(scheduler.idle());
  }
  [[nodiscard]] const RequestEnd* end_of(uint64_t id) const {
    for (const RequestEnd& e : out.requests) {
      if (e.request == id) return &e;
    }
    return nullptr;
  }
  [[nodiscard]] std::vector<int32_t> said(uint64_t id, int32_t choice = 0) const {
    std::vector<int32_t> tokens;
    for (const TokenOutput& t : out.tokens) {
      if (t.request == id && t.choice == choice) tokens.push_back(t.token);
    }
    return tokens;
  }

  TestTime time;
  Scheduler scheduler;
  FakeDevice device;
  StepLoop loop;
  Outputs out;
};

}  // namespace troupe::engine
