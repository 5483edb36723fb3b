// How long prompts and long prefixes are cut into steps beside others that decode, over the checked
// fake device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/scheduler.hpp"
#include "engine/scheduler_rig.hpp"

namespace troupe::engine {
namespace {

TEST(Scheduler, BehindALongStepAShortOneWaitsForItsEnd) {
  SchedulerConfig c = small_config();
  c.long_step_rows = 20;
  Scheduler scheduler(c);
  StepPlanDraft draft;
  Outputs out;
  const auto admit = [&](uint64_t id, int32_t prompt) {
    Job job;
    job.id = id;
    job.sampling.max_tokens = 8;
    job.prompt.tokens.assign(static_cast<size_t>(prompt), static_cast<int32_t>(id));
    ASSERT_TRUE(scheduler.admit(std::move(job)).ok());
  };
  const auto commit = [&](size_t tokens) {
    StepResult result;
    result.step = draft.step;
    result.tokens.resize(tokens);
    for (StepToken& t : result.tokens) t.token = 7;
    ASSERT_TRUE(scheduler.commit(result, 1, out).ok());
  };
  admit(1, 30);
  ASSERT_TRUE(scheduler.plan(0, draft, out));
  EXPECT_FALSE(scheduler.plan(0, draft, out));  // one row, for the token of the first
  admit(2, 5);
  EXPECT_FALSE(scheduler.plan(0, draft, out));
  commit(1);
  ASSERT_TRUE(scheduler.plan(0, draft, out));  // both
  EXPECT_EQ(draft.sequences.size(), 2U);
  EXPECT_TRUE(scheduler.plan(0, draft, out));  // behind a short one at once
  EXPECT_EQ(scheduler.steps_in_flight(), 2);
}

TEST(Scheduler, ALongStepFollowsALongOneAtOnce) {
  SchedulerConfig c = small_config();
  c.long_step_rows = 20;
  Rig rig(c);
  ASSERT_TRUE(rig.submit(1, 30, 2).ok());
  ASSERT_TRUE(rig.submit(2, 60, 2).ok());
  rig.turn();
  rig.turn();
  EXPECT_EQ(rig.scheduler.steps_in_flight(), 1);  // two were, and one has come back
  rig.run();
  EXPECT_EQ(rig.said(2).size(), 2U);
}

TEST(Scheduler, FewPromptsTakeAPartOfAStepWhileOthersDecode) {
  SchedulerConfig c = small_config();
  c.slots = 8;
  c.prompt_rows_beside = 6;
  Rig rig(c);
  const auto rows = [&] {
    rig.turn();
    return rig.loop.draft().token_ids.size();
  };
  ASSERT_TRUE(rig.submit(1, 20, 200).ok());
  EXPECT_EQ(rows(), 20U);  // nobody decodes: all at once
  ASSERT_TRUE(rig.submit(2, 40, 1).ok());
  EXPECT_EQ(rows(), 1U + 10);  // a quarter of 40
  EXPECT_EQ(rows(), 1U + 7);   // of 30
  EXPECT_EQ(rows(), 1U + 6);   // of 23, but at least 6
  for (uint64_t id = 3; id <= 6; ++id) ASSERT_TRUE(rig.submit(id, 40, 1).ok());
  EXPECT_EQ(rows(), 36U);  // a crowd: all that a step has
  rig.run();
  EXPECT_EQ(rig.said(6).size(), 1U);
}

// While everybody just decodes, a plan names those only whose block is full.
TEST(Scheduler, TakesALongPrefixInParts) {
  SchedulerConfig c = small_config();
  c.attach_blocks = 3;
  Rig rig(c);
  const auto ask = [&](uint64_t id, int32_t priority) {
    Job job;
    job.id = id;
    job.priority = priority;
    job.submitted_ns = rig.time.now;
    job.sampling.max_tokens = 2;
    job.sampling.temperature = 0.0F;
    for (int32_t i = 0; i < 81; ++i) job.prompt.tokens.push_back(i % 90);
    ASSERT_TRUE(rig.scheduler.admit(std::move(job)).ok());
  };
  StepPlanDraft draft;
  const auto takes_a_part = [&](uint64_t held) {
    EXPECT_FALSE(rig.scheduler.plan(rig.time.now, draft, rig.out));
    EXPECT_TRUE(rig.scheduler.goes_on());
    EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, held);
    EXPECT_TRUE(rig.scheduler.check_integrity().ok());
  };
  ask(1, 0);
  rig.run();

  ask(2, 0);
  for (const uint64_t held : {3U, 6U, 9U}) takes_a_part(held);
  rig.run();
  EXPECT_EQ(rig.end_of(2)->usage.cached_tokens, 80);
  EXPECT_EQ(rig.said(2), rig.said(1));

  ask(3, 0);
  takes_a_part(3);
  rig.scheduler.end(3, {Code::cancelled, "enough"}, rig.time.now, rig.out);
  EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, 0U);

  ask(4, 0);
  takes_a_part(3);
  takes_a_part(6);
  ask(5, 1);  // overtakes
  takes_a_part(3);
  rig.run();
  EXPECT_EQ(rig.said(4), rig.said(1));
  EXPECT_EQ(rig.said(5), rig.said(1));

  ask(6, 0);
  takes_a_part(3);
  rig.scheduler.device_lost({Code::device_failed, "lost"}, rig.time.now, rig.out);
  EXPECT_TRUE(rig.scheduler.check_integrity().ok());
  EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, 0U);
}

}  // namespace
}  // namespace troupe::engine
