// Every golden model through scheduler and executor core on the CPU: the tokens that transformers
// gave, whatever the engine does on the way to them: alone or among others, prompts whole or in
// chunks, prefixes found or computed, before and after a preemption, overlapped or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/executor_core.hpp"
#include "engine/scheduler.hpp"
#include "engine/step_loop.hpp"
#include "kernels/cpu/cpu_backend.hpp"

namespace troupe::engine {
namespace {

using nlohmann::json;
constexpr const char* kModels = "tests/golden/models";
constexpr float kTolerance = 1e-3F;
constexpr int32_t kBlockTokens = 8;

struct Case {
  std::vector<int32_t> prompt, tokens;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;  // of the prompt's tokens from the second on; may be empty
};

struct Ways {
  bool overlap = true;
  bool prefix_reuse = false;
  int32_t step_rows = 1024;
  int32_t slots = 32;
  int32_t whole_blocks = 1024;  // of each group
};

// One engine over one model.
class Engine {
 public:
  Engine(const std::string& folder, const Ways& ways) {
    models::LoadOptions options;
    options.block_tokens = kBlockTokens;
    auto opened = models::ModelFolder::open(folder, options);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    backend_ = cpu::open_cpu_backend({.threads = 1, .device = 0, .cores = {}}).value();
    model_ = models::Model::load(*opened, *backend_, nullptr, options).value();
    SchedulerConfig config;
    config.facts = model_->facts();
    config.groups = config.facts.groups;
    for (models::CacheGroup& g : config.groups) g.cache.blocks = ways.whole_blocks;
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

  void submit(uint64_t id, const std::vector<int32_t>& prompt, int32_t max_tokens, bool score = false) {
    Job job;
    job.id = id;
    job.prompt.tokens = prompt;
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

  void run() {
    StepLoop loop(*scheduler_, *executor_, clock_);
    Outputs out;
    while (!scheduler_->idle()) {
      const auto turned = loop.turn(out);
      ASSERT_TRUE(turned.ok()) << turned.status().message();
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

  [[nodiscard]] bool keeps_everything() const {
    const auto& groups = scheduler_->config().groups;
    return std::any_of(groups.begin(), groups.end(), [](const models::CacheGroup& g) {
      return g.kind == models::CacheKind::whole || g.kind == models::CacheKind::latent;
    });
  }
  [[nodiscard]] SchedulerStats stats() const { return scheduler_->stats(); }
  std::map<uint64_t, Case> said;
  std::map<uint64_t, int64_t> cached;

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<models::Model> model_;
  std::unique_ptr<ExecutorCore> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  SteadyClock clock_;
};

class EndToEnd : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream file(folder() + "/expected.json");
    const json expected = json::parse(file);
    ASSERT_FALSE(expected["cases"].empty());
    for (const json& c : expected["cases"]) {
      Case& made = cases_.emplace_back(Case{c["prompt"], c["tokens"], c["logprobs"], {}});
      if (c.contains("prompt_logprobs")) scored_ = &made - cases_.data();
    }
  }
  [[nodiscard]] std::string folder() const { return std::string(kModels) + "/" + GetParam(); }

  void submit_all(Engine& engine, uint64_t first_id = 1) {
    for (size_t i = 0; i < cases_.size(); ++i) {
      engine.submit(first_id + i, cases_[i].prompt, static_cast<int32_t>(cases_[i].tokens.size()));
    }
  }
  void expect_all(Engine& engine, uint64_t first_id = 1) {
    for (size_t i = 0; i < cases_.size(); ++i) {
      const Case& got = engine.said[first_id + i];
      EXPECT_EQ(got.tokens, cases_[i].tokens) << GetParam() << " case " << i;
      ASSERT_EQ(got.logprobs.size(), cases_[i].logprobs.size());
      for (size_t t = 0; t < got.logprobs.size(); ++t) {
        EXPECT_NEAR(got.logprobs[t], cases_[i].logprobs[t], kTolerance) << "case " << i << " token " << t;
      }
    }
  }
  [[nodiscard]] int32_t blocks_of_longest() const {
    size_t longest = 0;
    for (const Case& c : cases_) longest = std::max(longest, c.prompt.size() + c.tokens.size());
    return static_cast<int32_t>(longest) / kBlockTokens + 1;
  }

  std::vector<Case> cases_;
  ptrdiff_t scored_ = -1;
};

TEST_P(EndToEnd, OneByOne) {
  Engine engine(folder(), {});
  for (size_t i = 0; i < cases_.size(); ++i) {
    engine.submit(1 + i, cases_[i].prompt, static_cast<int32_t>(cases_[i].tokens.size()));
    engine.run();
  }
  expect_all(engine);
}

TEST_P(EndToEnd, WithoutOverlap) {
  Engine engine(folder(), {.overlap = false});
  submit_all(engine);
  engine.run();
  expect_all(engine);
}

TEST_P(EndToEnd, AmongSixteenOthersInChunks) {
  Engine engine(folder(), {.step_rows = 32 + 13});
  for (uint64_t other = 0; other < 16; ++other) {
    std::vector<int32_t> prompt;
    for (uint64_t t = 0; t < 3 + 7 * other; ++t) {
      prompt.push_back(static_cast<int32_t>((t * 37 + other * 11) % 200) + 3);
    }
    engine.submit(100 + other, prompt, 9 + static_cast<int32_t>(other));
  }
  submit_all(engine);
  engine.run();
  expect_all(engine);
}

TEST_P(EndToEnd, FromTheCache) {
  Engine engine(folder(), {.prefix_reuse = true});
  submit_all(engine, 1);
  engine.run();
  submit_all(engine, 101);
  engine.run();
  expect_all(engine, 1);
  expect_all(engine, 101);
  int64_t cached = 0;
  for (size_t i = 0; i < cases_.size(); ++i) cached += engine.cached[101 + i];
  EXPECT_GT(cached, 0);
}

TEST_P(EndToEnd, ThroughPreemptions) {
  for (const bool reuse : {false, true}) {
    // Together they need more than twice of what is there.
    Engine engine(folder(), {.prefix_reuse = reuse, .step_rows = 64, .whole_blocks = blocks_of_longest() + 8});
    submit_all(engine, 1);
    submit_all(engine, 101);
    engine.run();
    expect_all(engine, 1);
    expect_all(engine, 101);
    // A model of windows alone never holds enough to run out.
    EXPECT_EQ(engine.stats().preemptions > 0, engine.keeps_everything());
  }
}

TEST_P(EndToEnd, ScoresItsPromptInChunks) {
  if (scored_ < 0) GTEST_SKIP() << "no prompt logprobs in its golden file";
  std::ifstream file(folder() + "/expected.json");
  const json expected = json::parse(file)["cases"][static_cast<size_t>(scored_)]["prompt_logprobs"];
  Engine engine(folder(), {.prefix_reuse = true, .step_rows = 32 + 5});
  const Case& c = cases_[static_cast<size_t>(scored_)];
  engine.submit(1, c.prompt, 0, true);
  engine.submit(2, c.prompt, static_cast<int32_t>(c.tokens.size()), true);
  engine.run();
  EXPECT_EQ(engine.said[2].tokens, c.tokens);
  for (const uint64_t id : {1, 2}) {
    const std::vector<float>& got = engine.said[id].prompt_logprobs;
    ASSERT_EQ(got.size(), c.prompt.size() - 1);
    // The golden table may or may not have an entry for the first token, which nothing predicts.
    const size_t skip = expected.size() - got.size();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i + skip].get<float>(), kTolerance) << "position " << i + 1;
    }
  }
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    if (std::filesystem::exists(entry.path() / "expected.json")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Models, EndToEnd, ::testing::ValuesIn(model_names()), [](const auto& p) {
  std::string name = p.param;
  std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace troupe::engine
