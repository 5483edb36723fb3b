// What steady decoding asks of the heap: nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "engine/scheduler.hpp"

// counting_new.cpp: calls of operator new so far.
extern std::atomic<int64_t> allocations_counted;

namespace troupe::engine {
namespace {

TEST(Scheduler, SteadyDecodingAllocatesNothing) {
  SchedulerConfig c;
  c.slots = 64;
  c.step_rows = 256;
  c.context_length = 2048;
  c.vocab = 97;
  c.block_tokens = 8;
  c.groups.emplace_back().cache.blocks = 8000;
  Scheduler scheduler(c);
  Outputs out;
  for (uint64_t id = 1; id <= 64; ++id) {
    Job job;
    job.id = id;
    job.sampling.max_tokens = 1500;
    job.sampling.logprobs = id % 4 == 0 ? 2 : -1;
    job.prompt.tokens.assign(20 + id, 1);
    ASSERT_TRUE(scheduler.admit(std::move(job)).ok());
  }
  // The caller's buffers, used again from step to step, at the size to which they would grow.
  StepPlanDraft draft;
  draft.blocks.reserve(size_t{64} * 2048 / 16);
  std::vector<std::byte> bytes;
  bytes.reserve(size_t{1} << 20);
  StepResult results[2];
  uint64_t planned = 0, committed = 0;
  const auto turn = [&] {
    if (scheduler.plan(1, draft, out)) {
      draft.seal(bytes);
      StepResult& r = results[planned++ % 2];
      r.step = draft.step;
      r.tokens.clear();
      for (size_t i = 0; i < draft.answers(); ++i) r.tokens.push_back({.token = 5});
    }
    if (scheduler.steps_in_flight() == 2) {
      out.clear();
      EXPECT_TRUE(scheduler.commit(results[committed++ % 2], 1, out).ok());
    }
  };
  for (int32_t i = 0; i < 500; ++i) turn();
  ASSERT_EQ(scheduler.stats().running, 64U);
  const int64_t before = allocations_counted.load();
  for (int32_t i = 0; i < 100; ++i) turn();
  EXPECT_EQ(allocations_counted.load() - before, 0);
}

}  // namespace
}  // namespace troupe::engine
