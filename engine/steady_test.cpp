// What steady decoding asks of the heap: nothing; and a request that may say much, but does not: little. And what
// decoding leaves in the cache: all that was said.
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "engine/scheduler.hpp"

// counting_new.cpp: calls of operator new so far, and the bytes that they asked for.
extern std::atomic<int64_t> allocations_counted, bytes_counted;

namespace troupe::engine {
namespace {

SchedulerConfig config_of(int32_t slots, int32_t context, int32_t blocks) {
  SchedulerConfig c;
  c.slots = slots;
  c.step_rows = 256;
  c.context_length = context;
  c.vocab = 97;
  c.block_tokens = 8;
  c.groups.emplace_back().cache.blocks = blocks;
  return c;
}

Job job_of(uint64_t id, std::vector<int32_t> prompt, int32_t tokens) {
  Job job;
  job.id = id;
  job.sampling.max_tokens = tokens;
  job.prompt.tokens = std::move(prompt);
  return job;
}

// Every row that asks for a token gets the same one. `result` keeps its room.
void answer_all(const StepPlanDraft& draft, StepResult& result) {
  result.step = draft.step;
  result.tokens.assign(draft.answers(), {.token = 5});
}

TEST(Scheduler, SteadyDecodingAllocatesNothing) {
  Scheduler scheduler(config_of(64, 2048, 8000));
  Outputs out;
  for (uint64_t id = 1; id <= 64; ++id) {
    Job job = job_of(id, std::vector<int32_t>(20 + id, 1), 1500);
    job.sampling.logprobs = id % 4 == 0 ? 2 : -1;
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
      answer_all(draft, results[planned++ % 2]);
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

// Who gives no max_tokens may say all that the context holds; most say little, or are cancelled. Hundreds of them
// at once leave the heap as large as they have made it.
TEST(Scheduler, ARequestWithoutMaxTokensTakesMemoryForAShortAnswer) {
  constexpr int64_t kRequests = 64, kOfOne = 16 * 1024, kOfOneThatWaits = 2 * 1024;
  Scheduler scheduler(config_of(kRequests, 1 << 20, 8000));
  Outputs out;
  StepPlanDraft draft;
  draft.blocks.reserve(size_t{1} << 16);
  const int64_t before = bytes_counted.load();
  for (uint64_t id = 1; id <= kRequests; ++id) {
    ASSERT_TRUE(scheduler.admit(job_of(id, std::vector<int32_t>(3, 1), -1)).ok());
  }
  EXPECT_LT(bytes_counted.load() - before, kRequests * kOfOneThatWaits);
  ASSERT_TRUE(scheduler.plan(1, draft, out));
  ASSERT_EQ(scheduler.stats().running, static_cast<uint64_t>(kRequests));
  EXPECT_LT(bytes_counted.load() - before, kRequests * kOfOne);
}

// Blocks get their names now and then while the chorus sings: none may be missing when it ends.
TEST(Scheduler, WhoQuotesAnAnswerFindsAllOfItInTheCache) {
  Scheduler scheduler(config_of(4, 512, 200));
  Outputs out;
  StepPlanDraft draft;
  std::vector<std::byte> bytes;
  std::vector<StepResult> flights;
  const auto answer = [&](uint64_t id, std::vector<int32_t> prompt, int32_t tokens) {
    ASSERT_TRUE(scheduler.admit(job_of(id, std::move(prompt), tokens)).ok());
    while (!scheduler.idle()) {
      if (scheduler.plan(1, draft, out)) {
        answer_all(draft, flights.emplace_back());
      } else {
        ASSERT_TRUE(scheduler.commit(flights.front(), 1, out).ok());
        flights.erase(flights.begin());
      }
    }
  };
  constexpr int32_t kSaid = 101;
  answer(1, std::vector<int32_t>(10, 3), kSaid);
  EXPECT_GT(scheduler.stats().steps_sung, 90U);
  std::vector<int32_t> quoted(10, 3);
  quoted.insert(quoted.end(), kSaid, 5);
  answer(2, quoted, 1);
  // The last token was never read, so its block is the only one that cannot be there.
  EXPECT_EQ(scheduler.stats().cached_tokens, (10U + kSaid - 1) / 8 * 8);
}

}  // namespace
}  // namespace troupe::engine
