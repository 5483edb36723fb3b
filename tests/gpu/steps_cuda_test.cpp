// Steps that repeat the one before, as a device runs them: fetched, computed and drawn by one launch,
// planned ahead, looked for by their rows. Held to steps that are committed one by one and written
// out in full, in deterministic mode to the last token.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/executor_core.hpp"
#include "engine/scheduler.hpp"
#include "engine/step_loop.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "models/model.hpp"
#include "tests/gpu/dummy_folder.hpp"

namespace troupe::engine {
namespace {

constexpr int32_t kSlots = 9, kRows = 512, kLogitRows = 64, kBlockTokens = 16, kBlocks = 512;

struct Said {
  std::map<uint64_t, std::vector<int32_t>> tokens;
  uint64_t repeated = 0;  // steps
};

class Steps : public ::testing::Test {
 protected:
  void SetUp() override { TR_NEEDS_DEVICE(); }

  // Prompts of all lengths, answers of which some end long before others.
  static void submit(Scheduler& scheduler, const SamplingParams& common) {
    std::mt19937 random(7);
    for (uint64_t id = 1; id <= kSlots; ++id) {
      Job job;
      job.id = id;
      for (uint32_t t = 0; t < 10 + random() % 60; ++t) {
        const auto token = static_cast<int32_t>(random() % models::testing::DummyFolder::kVocab);
        job.prompt.tokens.push_back(token);
      }
      SamplingParams params = common;
      params.max_tokens = id % 4 == 0 ? 70 : 240;
      params.ignore_eos = true;
      job.sampling = plan_sampling(params, {}, scheduler.config().facts, {}, 0).value();
      const Status status = scheduler.admit(std::move(job));
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }

  Said run(const SamplingParams& params, bool overlap) const {
    Said said;
    auto backend = cuda::CudaBackend::open(0).value();
    backend->keep_rows_independent();
    models::LoadOptions options;
    options.format = models::LoadFormat::dummy;
    options.block_tokens = kBlockTokens;
    const auto folder = models::ModelFolder::open(folder_.path(), options).value();
    const auto model = models::Model::load(folder, *backend, nullptr, options).value();
    SchedulerConfig config;
    config.facts = model->facts();
    config.groups = config.facts.groups;
    for (models::CacheGroup& g : config.groups) g.cache.blocks = kBlocks;
    config.vocab = config.facts.vocab;
    config.context_length = config.facts.context_length;
    config.block_tokens = kBlockTokens;
    config.slots = kSlots;
    config.step_rows = kRows;
    config.logit_rows = kLogitRows;
    config.overlap = overlap;
    Scheduler scheduler(config);
    const auto executor =
        ExecutorCore::open(*backend, *model, config.groups, {kSlots, kRows, kLogitRows}).value();
    submit(scheduler, params);
    const SteadyClock clock;
    StepLoop loop(scheduler, *executor, clock);
    Outputs out;
    while (!scheduler.idle()) {
      const auto turned = loop.turn(out);
      EXPECT_TRUE(turned.ok()) << turned.status().message();
      if (!turned.ok()) break;
    }
    for (const TokenOutput& t : out.tokens) said.tokens[t.request].push_back(t.token);
    said.repeated = scheduler.stats().steps_sung;
    return said;
  }

  static void expect_equal(const Said& ahead, const Said& one_by_one) {
    EXPECT_GT(ahead.repeated, 150U);
    EXPECT_EQ(one_by_one.repeated, 0U);
    ASSERT_EQ(ahead.tokens.size(), static_cast<size_t>(kSlots));
    for (const auto& [id, tokens] : ahead.tokens) {
      EXPECT_EQ(tokens, one_by_one.tokens.at(id)) << "request " << id;
    }
  }

 private:
  models::testing::DummyFolder folder_;
};

TEST_F(Steps, ThatRepeatSayWhatStepsOneByOneSay) {
  SamplingParams params;
  params.temperature = 0.0F;
  expect_equal(run(params, true), run(params, false));
}

TEST_F(Steps, ThatRepeatDrawWhatStepsOneByOneDraw) {
  SamplingParams params;
  params.temperature = 0.9F;
  params.top_k = 40;
  params.seed = 11;
  expect_equal(run(params, true), run(params, false));
}

}  // namespace
}  // namespace troupe::engine
