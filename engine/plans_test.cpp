// What is decided before the first step: sampling plans, memory plans, echo's options. And how step plans
// that repeat the one before are followed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/echo.hpp"
#include "engine/memory_plan.hpp"
#include "engine/sampling_plan.hpp"
#include "engine/slot_tables.hpp"

namespace troupe::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

models::ModelFacts facts() {
  models::ModelFacts f;
  f.vocab = 100;
  f.eos_tokens = {2, 9};
  return f;
}

Result<SamplingPlan> plan(const SamplingParams& p, const models::GenerationDefaults& d = {},
                          const std::vector<std::vector<int32_t>>& bad = {}) {
  return plan_sampling(p, d, facts(), bad, 77);
}

TEST(SamplingPlan, UnsetTakesTheFoldersThenTheDocumentedDefault) {
  models::GenerationDefaults d;
  d.temperature = 0.6F;
  d.top_k = 20;
  d.max_new_tokens = 50;
  const SamplingPlan p = plan({}, d).value();
  EXPECT_FLOAT_EQ(p.temperature, 0.6F);
  EXPECT_EQ(p.top_k, 20);
  EXPECT_EQ(p.max_tokens, 50);
  EXPECT_FLOAT_EQ(p.top_p, 1.0F);
  EXPECT_EQ(p.seed, 77U);
  EXPECT_THAT(p.stop_tokens, ElementsAre(2, 9));
  EXPECT_FLOAT_EQ(plan({}).value().temperature, 1.0F);
  d.greedy = true;
  EXPECT_FLOAT_EQ(plan({}, d).value().temperature, 0.0F);
  SamplingParams asked;
  asked.temperature = 0.0F;
  asked.seed = 0;
  asked.max_tokens = 0;
  const SamplingPlan zeros = plan(asked).value();
  EXPECT_FLOAT_EQ(zeros.temperature, 0.0F);
  EXPECT_EQ(zeros.seed, 0U);
  EXPECT_EQ(zeros.max_tokens, 0);
}

TEST(SamplingPlan, MinTokensBanWhatWouldStop) {
  SamplingParams p;
  p.min_tokens = 3;
  p.stop_token_ids = {40};
  p.logit_bias = {{9, 5.0F}, {41, 1.0F}};
  const SamplingPlan made = plan(p).value();
  EXPECT_EQ(made.biases.size(), 2U);
  ASSERT_EQ(made.early_biases.size(), 4U);
  EXPECT_EQ(made.early_biases[1].token, 9);
  EXPECT_TRUE(std::isinf(made.early_biases[1].bias));
  EXPECT_TRUE(made.is_stop(40));
  p.ignore_eos = true;
  EXPECT_FALSE(plan(p).value().is_stop(2));
}

TEST(SamplingPlan, OneTokenBadWordsAreBiasesLongerOnesAreLists) {
  const SamplingPlan p = plan({}, {}, {{5}, {6, 7, 8}}).value();
  EXPECT_EQ(p.bad_word_count, 1);
  EXPECT_THAT(p.bad_words, ElementsAre(3, 6, 7, 8));
  ASSERT_EQ(p.biases.size(), 1U);
  EXPECT_TRUE(p.needs_history());
  EXPECT_FALSE(p.counts_tokens());
}

TEST(SamplingPlan, RefusalsNameFieldLimitAndValue) {
  const auto refused = [](auto change, const char* field, const char* value) {
    SamplingParams p;
    change(p);
    const auto made = plan(p);
    ASSERT_FALSE(made.ok()) << field;
    EXPECT_THAT(made.status().message(), AllOf(HasSubstr(field), HasSubstr(value)));
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  refused([&](auto& p) { p.temperature = -0.5F; }, "temperature", "-0.5");
  refused([&](auto& p) { p.temperature = nan; }, "temperature", "nan");
  refused([&](auto& p) { p.temperature = HUGE_VALF; }, "temperature", "inf");
  refused([&](auto& p) { p.top_p = 0.0F; }, "top_p", "0");
  refused([&](auto& p) { p.top_p = 1.5F; }, "top_p", "1.5");
  refused([&](auto& p) { p.min_p = 2.0F; }, "min_p", "2");
  refused([&](auto& p) { p.top_k = -3; }, "top_k", "-3");
  refused([&](auto& p) { p.repetition_penalty = 0.0F; }, "repetition_penalty", "0");
  refused([&](auto& p) { p.repetition_penalty = 1e-45F; }, "repetition_penalty must be 0.001 .. 1000", "0");
  refused([&](auto& p) { p.repetition_penalty = 1e4F; }, "repetition_penalty", "10000");
  refused([&](auto& p) { p.presence_penalty = 3.0F; }, "presence_penalty", "3");
  refused([&](auto& p) { p.frequency_penalty = -9.0F; }, "frequency_penalty", "-9");
  refused([&](auto& p) { p.max_tokens = -1; }, "max_tokens", "-1");
  refused([&](auto& p) { p.max_tokens = 3, p.min_tokens = 4; }, "min_tokens", "4");
  refused([&](auto& p) { p.n = 0; }, "n must", "0");
  refused([&](auto& p) { p.n = 1000; }, "n must", "1000");
  refused([&](auto& p) { p.logprobs = 65; }, "logprobs", "65");
  refused([&](auto& p) { p.prompt_logprobs = -2; }, "prompt_logprobs", "-2");
  refused([&](auto& p) { p.stop = {""}; }, "stop", "empty");
  refused([&](auto& p) { p.stop.assign(65, "x"); }, "stop", "65");
  refused([&](auto& p) { p.stop = {std::string(5000, 'x')}; }, "stop", "5000");
  refused([&](auto& p) { p.stop_token_ids = {100}; }, "stop_token_ids", "100");
  refused([&](auto& p) { p.logit_bias = {{-1, 1.0F}}; }, "logit_bias", "-1");
  refused([&](auto& p) { p.logit_bias = {{1, HUGE_VALF}}; }, "logit_bias", "inf");
  refused([&](auto& p) { p.logit_bias = {{1, nan}}; }, "logit_bias", "nan");
  refused([&](auto& p) { p.logit_bias = {{1, 3.4e38F}}; }, "logit_bias must be -1e30 .. 1e30", "token 1");
  refused([&](auto& p) { p.logit_bias = {{1, -3.4e38F}}; }, "logit_bias", "token 1");
  EXPECT_FALSE(plan({}, {}, {{}}).ok());
  EXPECT_FALSE(plan({}, {}, {std::vector<int32_t>(17, 1)}).ok());
  EXPECT_FALSE(plan({}, {}, {{1, 200}}).ok());
}

// Its inverse is infinite, and infinity times the likeliest's zero is no number.
TEST(SamplingPlan, ATemperatureNextToNothingIsGreedy) {
  SamplingParams p;
  p.temperature = 1e-45F;
  EXPECT_EQ(plan(p).value().temperature, 0.0F);
  p.temperature = 1e-30F;
  EXPECT_EQ(plan(p).value().temperature, 1e-30F);
}

MemoryRequest request() {
  MemoryRequest r;
  r.budget_bytes = int64_t{1} << 30;
  r.weight_bytes = 500 << 20;
  r.workspace_bytes = 20 << 20;
  r.max_sequences = 8;
  r.context_length = 4096;
  r.step_rows = 512;
  models::CacheGroup whole, window;
  window.kind = models::CacheKind::window;
  window.window = 256;
  r.groups = {whole, window};
  r.block_bytes = {64 << 10, 64 << 10};
  return r;
}

TEST(MemoryPlan, SharesOutWhatIsThereAndNoMoreThanIsOfUse) {
  const MemoryRequest r = request();
  const MemoryPlan p = plan_memory(r).value();
  EXPECT_EQ(p.context_length, 4096);
  EXPECT_EQ(p.groups[0].cache.blocks, 8 * 4096 / 16);
  // The window group ends at a window per sequence and one chunk.
  EXPECT_EQ(p.groups[1].cache.blocks, 8 * (256 / 16 + 1) + 512 / 16 + 2);
  EXPECT_EQ(p.kv_bytes, int64_t{64 << 10} * (p.groups[0].cache.blocks + p.groups[1].cache.blocks));
  EXPECT_LE(p.kv_bytes + p.weight_bytes + p.workspace_bytes, r.budget_bytes);
  EXPECT_THAT(p.table, AllOf(HasSubstr("weights"), HasSubstr("500.0 MiB"), HasSubstr("window 256")));
}

TEST(MemoryPlan, ASmallerBudgetShortensTheContext) {
  MemoryRequest r = request();
  r.budget_bytes = r.weight_bytes + r.workspace_bytes + (40 << 20);
  const MemoryPlan p = plan_memory(r).value();
  EXPECT_LT(p.context_length, 8192);
  EXPECT_LE(p.kv_bytes, 40 << 20);
  EXPECT_EQ(p.context_length, std::min<int64_t>(p.kv_tokens, 4096));
  r.kv_bytes = 30 << 20;
  EXPECT_LE(plan_memory(r).value().kv_bytes, 30 << 20);
  r.kv_bytes = 80 << 20;
  EXPECT_THAT(plan_memory(r).status().message(), HasSubstr("kv_bytes"));
}

TEST(MemoryPlan, ABoundKeepsTheCacheModestButForOneContext) {
  MemoryRequest r = request();
  r.kv_bytes_most = 100 << 20;
  MemoryPlan p = plan_memory(r).value();
  EXPECT_LE(p.kv_bytes, 100 << 20);
  EXPECT_GT(p.kv_bytes, 90 << 20);
  EXPECT_EQ(p.context_length, 4096);
  r.kv_bytes_most = 1 << 20;
  p = plan_memory(r).value();
  EXPECT_EQ(p.context_length, 4096) << "one whole context always fits";
  EXPECT_LT(p.kv_tokens, 4096 + 16);
  r.kv_bytes = 200 << 20;
  EXPECT_GT(plan_memory(r).value().kv_bytes, 130 << 20) << "whoever asks gets it";
}

TEST(MemoryPlan, TooLittleSaysWhatWouldFit) {
  MemoryRequest r = request();
  models::CacheGroup fixed;
  fixed.kind = models::CacheKind::fixed;
  fixed.fixed_rows = 1024;
  r.groups.push_back(fixed);
  r.block_bytes.push_back(64 << 10);
  r.budget_bytes = r.weight_bytes + r.workspace_bytes + (16 << 20);
  const auto p = plan_memory(r);
  ASSERT_FALSE(p.ok());
  EXPECT_EQ(p.status().code(), Code::out_of_memory);
  EXPECT_THAT(p.status().message(), AllOf(HasSubstr("max_sequences 2"), HasSubstr("16.0 MiB are left")));
  r.max_sequences = 2;
  EXPECT_TRUE(plan_memory(r).ok()) << "the remedy helps";
  r.budget_bytes = r.weight_bytes;
  EXPECT_EQ(plan_memory(r).status().code(), Code::out_of_memory);
}

// Two sequences with one row and one draw each, in slots 1 and 0.
StepPlanDraft two_rows() {
  StepPlanDraft d;
  d.step = 7;
  d.groups = 1;
  d.token_ids = {40, 41};
  d.positions = {3, 7};
  d.sequences = {{.slot = 1, .row_begin = 0, .row_count = 1, .kv_len = 4, .prompt_len = 2},
                 {.slot = 0, .row_begin = 1, .row_count = 1, .kv_len = 8, .prompt_len = 5}};
  d.tables = {{.begin = 0, .count = 1}, {.begin = 1, .count = 2}};
  d.blocks = {10, 11, 12};
  d.logit_rows = {{.row = 0, .sequence = 0, .sampling = 0}, {.row = 1, .sequence = 1, .sampling = 1}};
  d.sampling = {{.slot = 1, .position = 4, .reset = 1}, {.slot = 0, .position = 8}};
  return d;
}

TEST(StepPlan, ARepeatedStepIsTheOneBeforeOneTokenFurther) {
  std::vector<std::byte> bytes;
  SlotTables slots(2, 1, 4);
  two_rows().seal(bytes);
  ASSERT_TRUE(slots.take(bytes).ok());
  StepPlanDraft again;
  again.step = 8;
  again.groups = 1;
  again.repeats = 2;
  again.sequences = {{.slot = 0, .row_count = 1, .kv_len = 9}};
  again.tables = {{.begin = 0, .count = 1, .kept = 2}};
  again.blocks = {13};
  again.seal(bytes);
  ASSERT_TRUE(slots.take(bytes).ok());
  const PlanView plan = PlanView::parse(slots.complete().bytes()).value();
  EXPECT_EQ(plan.step(), 8U);
  EXPECT_TRUE(plan.complete());
  EXPECT_THAT(plan.token_ids(), ElementsAre(kTokenFromSlot, kTokenFromSlot));
  EXPECT_THAT(plan.positions(), ElementsAre(4, 8));
  EXPECT_EQ(plan.sequences()[0].kv_len, 5);
  EXPECT_EQ(plan.header().max_kv_len, 9);
  EXPECT_THAT(plan.block_table(0, 0), ElementsAre(10));
  EXPECT_THAT(plan.block_table(1, 0), ElementsAre(11, 12, 13));
  EXPECT_EQ(plan.sampling()[0].position, 5);
  EXPECT_EQ(plan.sampling()[0].reset, 0) << "the slot is not new any more";
}

TEST(StepPlan, AnExecutorMovesAWholePlanOnWhereItIsWhileThereIsRoom) {
  std::vector<std::byte> bytes;
  SlotTables slots(2, 1, 4);
  two_rows().seal(bytes);
  ASSERT_TRUE(slots.take(bytes).ok());
  const std::byte* where = slots.complete().bytes().data();
  EXPECT_FALSE(slots.complete().repeats()) << "it stands for itself";
  std::vector<int32_t> table = {11, 12};
  int32_t moves = 0, first = 0;
  for (int32_t step = 1; step <= 200; ++step) {
    StepPlanDraft again;
    again.step = 7 + static_cast<uint64_t>(step);
    again.groups = 1;
    again.repeats = 2;
    const auto kept = static_cast<int32_t>(table.size());
    if (step % 4 == 1) {  // sequence 1, which has slot 0, stood at the end of a block
      again.sequences = {{.slot = 0, .row_count = 1, .kv_len = 8 + step}};
      again.tables = {{.begin = 0, .count = 1, .first_position = first, .kept = kept}};
      again.blocks = {100 + step};
      table.push_back(100 + step);
    } else if (step == 50) {  // and now two blocks leave its window
      again.sequences = {{.slot = 0, .row_count = 1, .kv_len = 8 + step}};
      first = 8;
      again.tables = {{.first_position = first, .kept = kept - 2}};
      table.erase(table.begin(), table.begin() + 2);
    }
    again.seal(bytes);
    ASSERT_TRUE(slots.take(bytes).ok());
    const PlanView& plan = slots.complete();
    ASSERT_TRUE(PlanView::parse(plan.bytes()).ok());
    ASSERT_THAT(plan.block_table(1, 0), testing::ElementsAreArray(table)) << step;
    ASSERT_THAT(plan.block_table(0, 0), ElementsAre(10));
    EXPECT_EQ(plan.positions()[1], 7 + step);
    EXPECT_EQ(plan.step(), 7U + static_cast<uint64_t>(step));
    EXPECT_EQ(plan.repeats(), plan.bytes().data() == where) << step;
    moves += plan.bytes().data() == where ? 0 : 1;
    where = plan.bytes().data();
  }
  EXPECT_GT(moves, 0);
  EXPECT_LT(moves, 5) << "most steps find room";
}

TEST(StepPlan, WhoNeedsNoRowsOfARepetitionIsSparedThem) {
  std::vector<std::byte> bytes;
  SlotTables slots(2, 1, 4);
  two_rows().seal(bytes);
  ASSERT_TRUE(slots.take(bytes).ok());
  EXPECT_EQ(slots.repeated(), nullptr) << "it has not been written out";
  const std::byte* const where = slots.complete().bytes().data();
  for (int32_t step = 1; step <= 3; ++step) {
    StepPlanDraft again;
    again.step = 7 + static_cast<uint64_t>(step);
    again.groups = 1;
    again.repeats = 2;
    if (step == 1) {
      again.sequences = {{.slot = 0, .row_count = 1, .kv_len = 9}};
      again.tables = {{.begin = 0, .count = 1, .kept = 2}};
      again.blocks = {13};
    }
    again.seal(bytes);
    ASSERT_TRUE(slots.take(bytes).ok());
    const PlanView* const plan = slots.repeated();
    ASSERT_NE(plan, nullptr);
    EXPECT_EQ(plan->bytes().data(), where);
    EXPECT_EQ(plan->step(), 7U + static_cast<uint64_t>(step));
    EXPECT_EQ(plan->header().max_kv_len, 8 + step);
    EXPECT_THAT(plan->block_table(1, 0), ElementsAre(11, 12, 13));
  }
  const PlanView& plan = slots.complete();  // and whoever does has all that were left out
  EXPECT_THAT(plan.positions(), ElementsAre(6, 10));
  EXPECT_EQ(plan.sequences()[0].kv_len, 7);
  EXPECT_EQ(plan.sampling()[0].position, 7);
  EXPECT_EQ(slots.repeated(), nullptr);
}

TEST(StepPlan, ARepetitionOfSomethingElseIsRefused) {
  std::vector<std::byte> bytes;
  StepPlanDraft again;
  again.groups = 1;
  again.repeats = 2;
  again.seal(bytes);
  SlotTables fresh(2, 1, 4);
  EXPECT_THAT(fresh.take(bytes).message(), HasSubstr("is the first"));
  SlotTables slots(2, 1, 4);
  two_rows().seal(bytes);
  ASSERT_TRUE(slots.take(bytes).ok());
  again.repeats = 3;
  again.seal(bytes);
  EXPECT_THAT(slots.take(bytes).message(), HasSubstr("other rows"));
  again.repeats = 2;
  again.token_ids = {1};
  again.seal(bytes);
  EXPECT_THAT(slots.take(bytes).message(), HasSubstr("rows of its own"));
}

TEST(EchoOptions, AreReadAndRefusedByName) {
  EXPECT_EQ(EchoOptions::parse("echo:").value().step_ns, 0);
  const EchoOptions o = EchoOptions::parse("echo:?step_ms=2.5&context=64&fail_step=7").value();
  EXPECT_EQ(o.step_ns, 2'500'000);
  EXPECT_EQ(o.context_length, 64);
  EXPECT_EQ(o.fail_step, 7);
  EXPECT_THAT(EchoOptions::parse("echo:?speed=1").status().message(), HasSubstr("\"speed\""));
  EXPECT_THAT(EchoOptions::parse("echo:?step_ms=fast").status().message(), HasSubstr("\"fast\""));
  for (const char* bad : {"echo:x", "echo:?step_ms", "echo:?step_ms=-1", "echo:?context=1", "tcp://x"}) {
    EXPECT_FALSE(EchoOptions::parse(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace troupe::engine
