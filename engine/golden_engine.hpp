// One engine over one golden model: a scheduler, an executor core and the CPU backend on one thread.
// It is what the golden tests of text and of pictures ask, and holds what was answered.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "engine/executor_core.hpp"
#include "engine/scheduler.hpp"
#include "engine/step_loop.hpp"
#include "kernels/cpu/cpu_backend.hpp"

namespace troupe::engine::testing {

constexpr float kTolerance = 1e-3F;
constexpr int32_t kBlockTokens = 8;

struct Ways {
  bool overlap = true;
  bool prefix_reuse = false;
  int32_t step_rows = 1024;
  int32_t slots = 32;
  int32_t blocks = 1024;  // of each group that grows with the text
};

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;  // of the prompt's tokens from the second on; may be empty
};

class GoldenEngine {
 public:
  GoldenEngine(const std::shared_ptr<const models::ModelFolder>& folder,
               const models::LoadOptions& options, const Ways& ways) {
    backend_ = cpu::open_cpu_backend({.threads = 1, .device = 0, .cores = {}}).value();
    model_ = models::Model::load(folder, *backend_, nullptr, options).value();
    SchedulerConfig config;
    config.facts = model_->facts();
    config.groups = config.facts.groups;
    for (models::CacheGroup& g : config.groups) {
      const int32_t fixed = (g.fixed_rows + kBlockTokens - 1) / kBlockTokens * ways.slots;
      g.cache.blocks = g.kind == models::CacheKind::fixed ? fixed : ways.blocks;
    }
    config.vocab = config.facts.vocab;
    config.context_length = config.facts.context_length;
    config.block_tokens = kBlockTokens;
    config.slots = ways.slots;
    config.step_rows = ways.step_rows;
    config.overlap = ways.overlap;
    config.prefix_reuse = ways.prefix_reuse;
    config.logit_rows = ways.slots + 64;
    auto executor = ExecutorCore::open(*backend_, *model_, config.groups,
                                       {ways.slots, ways.step_rows, config.logit_rows});
    EXPECT_TRUE(executor.ok()) << executor.status().message();
    executor_ = std::move(executor).value();
    scheduler_ = std::make_unique<Scheduler>(config);
  }

  // Greedy, exactly `max_tokens`, with logprobs.
  void submit(uint64_t id, Prompt prompt, int32_t max_tokens, bool score = false) {
    Job job;
    job.id = id;
    job.prompt = std::move(prompt);
    SamplingParams params;
    params.temperature = 0.0F;
    params.max_tokens = max_tokens;
    params.ignore_eos = true;
    params.logprobs = 0;
    if (score) params.prompt_logprobs = 0;
    job.sampling = plan_sampling(params, {}, scheduler_->config().facts, {}, 0).value();
    const Status status = scheduler_->admit(std::move(job));
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // Until nothing is left to do; `after_turn` may bring what is waited for.
  void run(const std::function<void()>& after_turn = [] {}) {
    StepLoop loop(*scheduler_, *executor_, clock_);
    Outputs out;
    while (!scheduler_->idle()) {
      const auto turned = loop.turn(out);
      ASSERT_TRUE(turned.ok()) << turned.status().message();
      after_turn();
    }
    for (const TokenOutput& t : out.tokens) {
      said[t.request].tokens.push_back(t.token);
      said[t.request].logprobs.push_back(t.logprob);
    }
    for (const ScoreOutput& s : out.scores) said[s.request].prompt_logprobs.push_back(s.logprob);
    for (const RequestEnd& e : out.requests) {
      EXPECT_EQ(e.kind, EventKind::done) << e.status.message();
      cached[e.request] = e.usage.cached_tokens;
    }
    const Status sound = scheduler_->check_integrity();
    EXPECT_TRUE(sound.ok()) << sound.message();
  }

  void expect(uint64_t id, const std::vector<int32_t>& tokens, const std::vector<float>& logprobs,
              const std::string& what) {
    const Answer& got = said[id];
    EXPECT_EQ(got.tokens, tokens) << what;
    ASSERT_EQ(got.logprobs.size(), logprobs.size()) << what;
    for (size_t t = 0; t < got.logprobs.size(); ++t) {
      EXPECT_NEAR(got.logprobs[t], logprobs[t], kTolerance) << what << " token " << t;
    }
  }

  [[nodiscard]] Scheduler& scheduler() { return *scheduler_; }
  [[nodiscard]] ExecutorCore& executor() { return *executor_; }

  std::map<uint64_t, Answer> said;
  std::map<uint64_t, int64_t> cached;

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<models::Model> model_;
  std::unique_ptr<ExecutorCore> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  SteadyClock clock_;
};

}  // namespace troupe::engine::testing
