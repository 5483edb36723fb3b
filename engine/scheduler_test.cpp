// What the scheduler promises, one behaviour per test, over the checked fake device. Worlds of
// random behaviour are the simulator's (simulator_test.cpp).
#include "engine/scheduler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "engine/scheduler_rig.hpp"

namespace troupe::engine {
namespace {

using ::testing::HasSubstr;

TEST(Scheduler, RefusesByType) {
  SchedulerConfig c = small_config(8);
  c.waiting_max = 2;
  Rig rig(c);
  EXPECT_EQ(rig.submit(1, 0, 4).code(), Code::invalid);
  EXPECT_EQ(rig.submit(1, 3, 4, [](Job& j) { j.priority = 101; }).code(), Code::invalid);
  EXPECT_EQ(rig.submit(1, 3, 4, [](Job& j) { j.session = 9; }).code(), Code::not_found);
  const Status longer = rig.submit(1, 64, 4);
  EXPECT_EQ(longer.code(), Code::limit);
  EXPECT_THAT(longer.message(), HasSubstr("64 tokens, and the context holds 64"));
  EXPECT_TRUE(rig.submit(1, 64, 0).ok()) << "nothing is generated: the prompt may fill the context";
  EXPECT_EQ(rig.submit(1, 3, 4).code(), Code::invalid) << "the id is in use";
  EXPECT_TRUE(rig.submit(2, 3, 4).ok());
  const Status full = rig.submit(3, 3, 4);
  EXPECT_EQ(full.code(), Code::overloaded);
  EXPECT_TRUE(full.retryable());
  rig.run();
  EXPECT_EQ(rig.out.requests.size(), 2U);
}

// Whoever leaves nothing to draw, or meets a model that gives no numbers, fails alone, with a reason.
TEST(Scheduler, ADrawOfNothingFailsOneRequestAlone) {
  for (const bool overlap : {false, true}) {
    SchedulerConfig c = small_config();
    c.overlap = overlap;
    Rig rig(c);
    ASSERT_TRUE(rig.submit(1, 5, 60).ok());
    ASSERT_TRUE(rig.submit(2, 6, 60, [](Job& j) {
                     for (int32_t t = 0; t < kVocab; ++t) j.sampling.biases.push_back({t, -HUGE_VALF});
                     j.sampling.early_biases = j.sampling.biases;
                   }).ok());
    ASSERT_TRUE(rig.submit(3, 7, 60, [](Job& j) {
                     j.sampling.choices = 2;
                     j.sampling.temperature = 1.0F;
                     j.sampling.min_tokens = 4;  // stop tokens are all that is left, and come too early
                     for (int32_t t = 0; t < kVocab - 1; ++t) j.sampling.biases.push_back({t, -HUGE_VALF});
                     j.sampling.stop_tokens = {kVocab - 1};
                     j.sampling.early_biases = j.sampling.biases;
                     j.sampling.early_biases.push_back({kVocab - 1, -HUGE_VALF});
                   }).ok());
    rig.run();
    EXPECT_EQ(rig.end_of(1)->kind, EventKind::done);
    EXPECT_EQ(rig.said(1).size(), 60U);
    for (const uint64_t id : {uint64_t{2}, uint64_t{3}}) {
      EXPECT_EQ(rig.end_of(id)->kind, EventKind::failed);
      EXPECT_EQ(rig.end_of(id)->status.code(), Code::invalid);
      EXPECT_THAT(rig.end_of(id)->status.message(), HasSubstr("no token is left to draw at token 0"));
      EXPECT_TRUE(rig.said(id).empty());
    }
  }
}

// After a while, among others that decode steadily.
TEST(Scheduler, ADrawOfNothingEndsAChorusForOneAlone) {
  SchedulerConfig c = small_config();
  FakeDeviceOptions options = Rig::options(c);
  options.draw = [](const FakeContext& context) {
    const FakeCell* far = context.prompt_len() == 6 ? context.cell(26) : nullptr;
    return far != nullptr && far->position == 26 ? -1 : 7;
  };
  Rig rig(c, options);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(rig.submit(id, 4 + static_cast<int32_t>(id), 60).ok());
  rig.run();
  EXPECT_EQ(rig.end_of(2)->kind, EventKind::failed);
  EXPECT_EQ(rig.said(2).size(), 21U);
  for (const uint64_t id : {uint64_t{1}, uint64_t{3}}) EXPECT_EQ(rig.said(id).size(), 60U);
}

TEST(Scheduler, TheContextEndsAnAnswer) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.submit(1, 250, -1).ok());
  rig.run();
  EXPECT_EQ(rig.said(1).size(), 6U);
  EXPECT_EQ(rig.out.choices[0].reason, FinishReason::length);
}

TEST(Scheduler, DecodesAndPromptsShareAStep) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.submit(1, 5, 40).ok());
  rig.turn();
  rig.turn();
  ASSERT_TRUE(rig.submit(2, 100, 2).ok());
  rig.turn();
  const StepPlanDraft& d = rig.loop.draft();
  ASSERT_EQ(d.sequences.size(), 2U);
  EXPECT_EQ(d.sequences[0].row_count, 1);
  EXPECT_EQ(d.sequences[1].row_count, 35);
  EXPECT_EQ(d.token_ids[0], kTokenFromSlot) << "overlapped: its token is not known here yet";
  rig.run();
  EXPECT_EQ(rig.said(1).size(), 40U);
}

// What comes while a long step runs goes along in the next one: that is not planned yet.
TEST(Scheduler, SteadyPlansNameChangesOnly) {
  Rig rig(small_config());
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(rig.submit(id, 4 + static_cast<int32_t>(id), 60).ok());
  for (int32_t i = 0; i < 4; ++i) rig.turn();
  size_t named = 0;
  for (int32_t i = 0; i < 32; ++i) {
    rig.turn();
    const StepPlanDraft& d = rig.loop.draft();
    ASSERT_EQ(d.repeats, 3);
    EXPECT_EQ(d.answers(), 3U);
    EXPECT_TRUE(d.token_ids.empty() && d.sampling.empty());
    named += d.sequences.size();
  }
  EXPECT_EQ(named, 3U * 32 / 8);
  // Whoever comes or goes ends it, and nobody is told anything twice or too late.
  ASSERT_TRUE(rig.submit(4, 9, 50).ok());
  rig.turn();
  EXPECT_EQ(rig.loop.draft().repeats, 0);
  for (int32_t i = 0; i < 6; ++i) rig.turn();
  EXPECT_EQ(rig.loop.draft().repeats, 4);
  rig.scheduler.end(2, Status(Code::cancelled, "enough"), rig.time.now, rig.out);
  rig.scheduler.cut(3, 0, 20, rig.time.now, rig.out);
  rig.turn();
  EXPECT_EQ(rig.loop.draft().repeats, 0);
  rig.run();
  for (const uint64_t id : {uint64_t{1}, uint64_t{4}}) {
    SchedulerConfig plain = small_config();
    plain.overlap = false;
    Rig alone(plain);
    ASSERT_TRUE(alone.submit(id, id == 1 ? 5 : 9, id == 1 ? 60 : 50).ok());
    alone.run();
    EXPECT_EQ(alone.loop.draft().repeats, 0) << "the executable specification writes everything out";
    EXPECT_EQ(rig.said(id), alone.said(id));
  }
  EXPECT_EQ(rig.end_of(3)->usage.completion_tokens, 20);
}

TEST(Scheduler, TheTwinsSayTheSame) {
  std::vector<std::vector<int32_t>> answers[2];
  for (const bool overlap : {false, true}) {
    SchedulerConfig c = small_config(40);
    c.overlap = overlap;
    Rig rig(c);
    for (uint64_t id = 1; id <= 12; ++id) {
      ASSERT_TRUE(rig.submit(id, 10 + static_cast<int32_t>(id) * 5, 30, [](Job& j) {
                       j.sampling.stop_tokens = {3, 5, 11, 17, 40, 41};
                       j.sampling.choices = j.id % 3 == 0 ? 3 : 1;
                       j.sampling.temperature = 1.0F;
                     }).ok());
    }
    rig.run();
    EXPECT_EQ(rig.scheduler.stats().speculative_rows_dropped > 0, overlap);
    for (uint64_t id = 1; id <= 12; ++id) {
      for (int32_t choice = 0; choice < 3; ++choice) answers[overlap].push_back(rig.said(id, choice));
    }
  }
  EXPECT_EQ(answers[0], answers[1]);
}

TEST(Scheduler, ChoicesShareThePromptsBlocks) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.submit(1, 60, 4, [](Job& j) {
                   j.sampling.choices = 4;
                   j.sampling.temperature = 1.0F;
                 }).ok());
  for (int32_t i = 0; i < 3; ++i) rig.turn();
  // Eight blocks of prompt once, and a last block of one's own for each choice.
  EXPECT_LE(rig.scheduler.stats().kv_blocks_used, 8U + 4U);
  rig.run();
  EXPECT_NE(rig.said(1, 0), rig.said(1, 1));
  EXPECT_EQ(rig.end_of(1)->usage.completion_tokens, 16);
}

TEST(Scheduler, HigherPriorityFirstFifoWithinAndAgeBeatsBoth) {
  SchedulerConfig c = small_config();
  c.slots = 1;
  c.step_rows = 16;
  c.ageing_ns = 1'000'000;
  Rig rig(c);
  ASSERT_TRUE(rig.submit(1, 4, 2).ok());
  ASSERT_TRUE(rig.submit(2, 4, 2).ok());
  ASSERT_TRUE(rig.submit(3, 4, 2).ok());
  ASSERT_TRUE(rig.submit(4, 4, 2, [](Job& j) { j.priority = 1; }).ok());
  rig.time.now += 5'000'000;
  ASSERT_TRUE(rig.submit(5, 4, 2, [](Job& j) { j.priority = 2; }).ok());
  rig.run();
  std::vector<uint64_t> order;
  for (const RequestEnd& e : rig.out.requests) order.push_back(e.request);
  EXPECT_THAT(order, ::testing::ElementsAre(4, 1, 2, 3, 5)) << "5 came five levels of age later";
}

TEST(Scheduler, PreemptsTheYoungestAndItGoesOnFromItsTokens) {
  SchedulerConfig c = small_config(12);
  c.prefix_reuse = false;
  Rig rig(c);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(rig.submit(id, 16, 40).ok());
  rig.run();
  EXPECT_GT(rig.scheduler.stats().preemptions, 0U);
  EXPECT_EQ(rig.out.requests[0].request, 1U);
  for (uint64_t id = 1; id <= 3; ++id) {
    Rig alone(small_config());
    ASSERT_TRUE(alone.submit(id, 16, 40).ok());
    alone.run();
    EXPECT_EQ(rig.said(id), alone.said(id));
  }
}

TEST(Scheduler, CancelAndDeadlineEndAtAnyStage) {
  SchedulerConfig c = small_config();
  c.slots = 1;
  Rig rig(c);
  ASSERT_TRUE(rig.submit(1, 4, 100).ok());
  ASSERT_TRUE(rig.submit(2, 4, 100).ok());
  ASSERT_TRUE(rig.submit(3, 4, 100, [](Job& j) { j.deadline_ns = j.submitted_ns + 5000; }).ok());
  for (int32_t i = 0; i < 4; ++i) rig.turn();
  rig.scheduler.end(2, Status(Code::cancelled, "enough"), rig.time.now, rig.out);
  rig.scheduler.end(1, Status(Code::cancelled, "enough"), rig.time.now, rig.out);
  rig.scheduler.end(1, Status(Code::cancelled, "twice"), rig.time.now, rig.out);
  rig.time.now += 10'000;
  rig.run();
  EXPECT_EQ(rig.out.requests.size(), 3U);
  EXPECT_EQ(rig.end_of(1)->kind, EventKind::cancelled);
  EXPECT_EQ(rig.end_of(3)->status.code(), Code::deadline);
  EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, 0U);
}

TEST(Scheduler, SessionsContinueForkAndRewind) {
  Rig rig(small_config());
  const uint64_t session = rig.scheduler.session_new({}, rig.time.now).value();
  ASSERT_EQ(session, 1U);
  ASSERT_TRUE(rig.submit(1, 40, 9, [](Job& j) { j.session = 1; }).ok());
  EXPECT_EQ(rig.submit(2, 4, 9, [](Job& j) { j.session = 1; }).code(), Code::invalid) << "busy";
  rig.run();
  EXPECT_EQ(rig.scheduler.session_info(1, rig.time.now)->tokens, 49);
  EXPECT_GT(rig.scheduler.stats().kv_blocks_used, 0U) << "pinned";
  const uint64_t fork = rig.scheduler.session_fork(1, rig.time.now).value();
  ASSERT_TRUE(rig.scheduler.session_rewind(fork, 20, rig.time.now).ok());
  EXPECT_FALSE(rig.scheduler.session_rewind(fork, 21, rig.time.now).ok());
  ASSERT_TRUE(rig.submit(3, 5, 4, [](Job& j) { j.session = 1; }).ok());
  ASSERT_TRUE(rig.submit(4, 5, 4, [](Job& j) { j.session = 2; }).ok());
  rig.run();
  EXPECT_EQ(rig.end_of(3)->usage.prompt_tokens, 54);
  EXPECT_EQ(rig.end_of(3)->usage.cached_tokens, 48);
  EXPECT_EQ(rig.end_of(4)->usage.prompt_tokens, 25);
  EXPECT_EQ(rig.end_of(4)->usage.cached_tokens, 16);
  rig.scheduler.session_free(1);
  rig.scheduler.session_free(2);
  EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, 0U);
  EXPECT_EQ(rig.scheduler.session_info(1, 0).status().code(), Code::not_found);
}

TEST(Scheduler, ASessionsLaterTurnsDoNotBeginATextAgain) {
  constexpr int32_t kBos = 95;
  const auto turn = [](Job& j) {
    j.session = 1;
    j.opening = 1;
    j.prompt.tokens.front() = kBos;
  };
  Rig rig(small_config());
  ASSERT_TRUE(rig.scheduler.session_new({}, rig.time.now).ok());
  ASSERT_TRUE(rig.submit(1, 6, 3, turn).ok());
  rig.run();
  EXPECT_EQ(rig.end_of(1)->usage.prompt_tokens, 6) << "the first turn begins the text";
  ASSERT_TRUE(rig.submit(2, 5, 3, turn).ok());
  rig.run();
  EXPECT_EQ(rig.end_of(2)->usage.prompt_tokens, 6 + 3 + 4);
  // The same conversation at once, with one BOS, is answered alike.
  Rig once(small_config());
  Job whole;
  whole.id = 3;
  whole.sampling.max_tokens = 3;
  whole.sampling.temperature = 0.0F;
  whole.prompt.tokens = {kBos};
  for (int32_t i = 1; i < 6; ++i) whole.prompt.tokens.push_back((i * 7 + 1) % 90);
  for (const int32_t t : rig.said(1)) whole.prompt.tokens.push_back(t);
  for (int32_t i = 1; i < 5; ++i) whole.prompt.tokens.push_back((i * 7 + 2) % 90);
  ASSERT_TRUE(once.scheduler.admit(std::move(whole)).ok());
  once.run();
  EXPECT_EQ(once.said(3), rig.said(2));
}

// Named elsewhere, before the scheduler saw it, a prompt's blocks have the same names; with another block
// size or root they are named again, and it shares nothing that it does not hold.
// INV-CAST-4: no plan of a long cached prompt takes longer than one of a short one.
TEST(Scheduler, PromptsThatWereNamedBeforeShareTheirPrefix) {
  for (const auto& [block_tokens, wrong_root] : {std::pair(8, false), std::pair(16, false), std::pair(8, true)}) {
    Rig rig(small_config());
    ASSERT_TRUE(rig.submit(1, 64, 2).ok());
    rig.run();
    Job again;
    again.id = 2;
    again.sampling.max_tokens = 2;
    again.sampling.temperature = 0.0F;
    for (int32_t i = 0; i < 64; ++i) again.prompt.tokens.push_back((i * 7 + 1) % 90);
    name_blocks(again.prompt, root_key({}), block_tokens);
    again.prompt.tokens.back() = (63 * 7 + 1) % 90;
    ASSERT_TRUE(rig.scheduler.admit(std::move(again)).ok());
    rig.run();
    EXPECT_EQ(rig.end_of(2)->usage.cached_tokens, 56);
    EXPECT_EQ(rig.said(2), rig.said(1));
    Job other;
    other.id = 3;
    other.sampling.max_tokens = 2;
    for (int32_t i = 0; i < 64; ++i) other.prompt.tokens.push_back((i * 7 + 1) % 90);
    other.prompt.tokens[12] = 91;  // the second block of 8, the first of 16
    name_blocks(other.prompt, root_key({.tenant = wrong_root ? 1U : 0U}), block_tokens);
    ASSERT_TRUE(rig.scheduler.admit(std::move(other)).ok());
    rig.run();
    EXPECT_EQ(rig.end_of(3)->usage.cached_tokens, 8);
  }
}

TEST(Scheduler, WhatMayChangeWhileItRuns) {
  Rig rig(small_config());
  EXPECT_THAT(rig.scheduler.set_step_rows(37).message(), HasSubstr("4 (one row for each"));
  EXPECT_EQ(rig.scheduler.set_step_rows(3).code(), Code::invalid);
  ASSERT_TRUE(rig.scheduler.set_step_rows(8).ok());
  ASSERT_TRUE(rig.submit(1, 40, 2).ok());
  for (int32_t i = 0; i < 6 && !rig.scheduler.idle(); ++i) {
    rig.turn();
    EXPECT_LE(rig.loop.draft().token_ids.size(), 8U);
  }
  rig.run();
  rig.scheduler.set_prefix_reuse(false);
  ASSERT_TRUE(rig.submit(2, 40, 2, [](Job& j) {
    for (int32_t i = 0; i < 40; ++i) j.prompt.tokens[static_cast<size_t>(i)] = (i * 7 + 1) % 90;
  }).ok());
  rig.run();
  EXPECT_EQ(rig.end_of(2)->usage.cached_tokens, 0);
  rig.scheduler.set_waiting_max(1);
  ASSERT_TRUE(rig.submit(3, 4, 2).ok());
  EXPECT_EQ(rig.submit(4, 4, 2).code(), Code::overloaded);
  rig.scheduler.set_session_lease(5);
  ASSERT_TRUE(rig.scheduler.session_new({}, 100).ok());
  EXPECT_EQ(rig.scheduler.session_info(1, 100)->lease_left_ns, 5);
}

TEST(Scheduler, SessionsEndWithTheirLeaseAndKeepTheirShare) {
  SchedulerConfig c = small_config(32);
  c.session_share = 0.25;
  Rig rig(c);
  SessionOptions brief;
  brief.lease_ns = 50'000'000;
  for (int32_t i = 0; i < 3; ++i) ASSERT_TRUE(rig.scheduler.session_new(brief, rig.time.now).ok());
  for (uint64_t id = 1; id <= 3; ++id) {
    ASSERT_TRUE(rig.submit(id, 40, 8, [](Job& j) { j.session = j.id; }).ok());
    rig.run();
  }
  EXPECT_LE(rig.scheduler.stats().kv_blocks_used, 8U) << "INV-SESSION-2";
  EXPECT_EQ(rig.scheduler.next_deadline_ns() > rig.time.now, true);
  rig.time.now += 500'000'000;
  rig.turn();
  EXPECT_EQ(rig.scheduler.stats().sessions, 0U);
  EXPECT_EQ(rig.scheduler.stats().kv_blocks_used, 0U);
}

TEST(Scheduler, ACutFollowsIntoTheSession) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.scheduler.session_new({}, rig.time.now).ok());
  ASSERT_TRUE(rig.submit(1, 10, 30, [](Job& j) { j.session = 1; }).ok());
  for (int32_t i = 0; i < 8; ++i) rig.turn();
  const auto said = static_cast<int32_t>(rig.said(1).size());
  ASSERT_GT(said, 3);
  rig.scheduler.cut(1, 0, 3, rig.time.now, rig.out);
  rig.run();
  EXPECT_EQ(rig.end_of(1)->usage.completion_tokens, 3);
  EXPECT_EQ(rig.scheduler.session_info(1, rig.time.now)->tokens, 13);
  // And when the request had ended before the stop string was found.
  ASSERT_TRUE(rig.submit(2, 5, 6, [](Job& j) { j.session = 1; }).ok());
  rig.run();
  rig.scheduler.cut(2, 0, 2, rig.time.now, rig.out);
  EXPECT_EQ(rig.scheduler.session_info(1, rig.time.now)->tokens, 20);
}

TEST(Scheduler, ALostDeviceCostsTimeAndNothingElse) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.submit(1, 30, 20).ok());
  for (int32_t i = 0; i < 6; ++i) rig.turn();
  rig.scheduler.device_lost(Status(Code::device_failed, "gone"), rig.time.now, rig.out);
  FakeDevice next(Rig::options(small_config()), rig.time);
  rig.loop.replace(next);
  rig.run();
  Rig alone(small_config());
  ASSERT_TRUE(alone.submit(1, 30, 20).ok());
  alone.run();
  EXPECT_EQ(rig.said(1), alone.said(1));
  EXPECT_EQ(rig.end_of(1)->kind, EventKind::done);
}

TEST(Scheduler, WhoeverKillsDevicesIsGivenUp) {
  SchedulerConfig c = small_config();
  c.restarts_max = 2;
  Rig rig(c);
  ASSERT_TRUE(rig.submit(1, 30, 20).ok());
  StepPlanDraft draft;
  for (int32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(rig.scheduler.plan(rig.time.now, draft, rig.out));
    rig.scheduler.device_lost(Status(Code::device_failed, "gone"), rig.time.now, rig.out);
  }
  ASSERT_NE(rig.end_of(1), nullptr);
  EXPECT_EQ(rig.end_of(1)->kind, EventKind::failed);
  EXPECT_EQ(rig.end_of(1)->status.code(), Code::device_failed);
  EXPECT_TRUE(rig.scheduler.idle());
}

TEST(Scheduler, AResultThatIsNotThePlansIsRefused) {
  Rig rig(small_config());
  ASSERT_TRUE(rig.submit(1, 3, 5).ok());
  StepPlanDraft draft;
  ASSERT_TRUE(rig.scheduler.plan(1, draft, rig.out));
  StepResult result;
  result.step = draft.step + 1;
  EXPECT_EQ(rig.scheduler.commit(result, 1, rig.out).code(), Code::internal);
  result.step = draft.step;
  EXPECT_EQ(rig.scheduler.commit(result, 1, rig.out).code(), Code::internal);
  result.tokens.push_back({.token = kVocab});
  EXPECT_EQ(rig.scheduler.commit(result, 1, rig.out).code(), Code::internal);
}

// On lengths as a server meets them, at most 4 % of the blocks' tokens hold nothing.
TEST(Scheduler, WastesLittleCache) {
  SchedulerConfig c = small_config(40000);
  c.slots = 256;
  c.step_rows = 2048;
  c.context_length = 4096;
  c.block_tokens = 16;
  c.prefix_reuse = false;  // sharing would hide what is wasted
  Rig rig(c);
  std::map<uint64_t, int64_t> lengths;
  for (uint64_t id = 1; id <= 256; ++id) {
    const auto length = static_cast<int32_t>(40 + (id * 2654435761U) % 900);
    ASSERT_TRUE(rig.submit(id, length, 200).ok());
    lengths[id] = length;
  }
  double held = 0, used = 0;
  for (int32_t turn = 0; turn < 250; ++turn) {
    ASSERT_TRUE(rig.loop.turn(rig.out).ok());
    for (const TokenOutput& t : rig.out.tokens) ++lengths[t.request];
    for (const RequestEnd& e : rig.out.requests) lengths.erase(e.request);
    rig.out.clear();
    if (rig.scheduler.stats().running < 256 || turn < 80) continue;
    int64_t tokens = 0;
    for (const auto& [id, length] : lengths) tokens += length;
    held += static_cast<double>(rig.scheduler.stats().kv_blocks_used) * 16;
    used += static_cast<double>(tokens);
  }
  ASSERT_GT(used, 0);
  const double waste = 1.0 - used / held;
  RecordProperty("waste_percent", std::to_string(100 * waste));
  EXPECT_GT(waste, 0.0);
  EXPECT_LT(waste, 0.04);
}

}  // namespace
}  // namespace troupe::engine
