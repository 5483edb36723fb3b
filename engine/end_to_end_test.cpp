// Every golden model through scheduler and executor core on the CPU: the tokens that transformers
// gave, whatever the engine does on the way to them: alone or among others, prompts whole or in
// chunks, prefixes found or computed, before and after a preemption, overlapped or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/golden_engine.hpp"
#include "models/golden_folders.hpp"

namespace troupe::engine {
namespace {

using nlohmann::json;
using models::testing::expected_of;
using models::testing::golden_names;
using models::testing::kGoldenModels;
using testing::kBlockTokens;
using testing::kTolerance;
using testing::Ways;

struct Case {
  std::vector<int32_t> prompt, tokens;
  std::vector<float> logprobs;
};

class Engine : public testing::GoldenEngine {
 public:
  Engine(const std::string& folder, const Ways& ways) : GoldenEngine(opened(folder), options(), ways) {}

  void submit(uint64_t id, const std::vector<int32_t>& tokens, int32_t max_tokens, bool score = false) {
    Prompt prompt;
    prompt.tokens = tokens;
    GoldenEngine::submit(id, std::move(prompt), max_tokens, score);
  }

  [[nodiscard]] bool keeps_everything() {
    const auto& groups = scheduler().config().groups;
    return std::any_of(groups.begin(), groups.end(), [](const models::CacheGroup& g) {
      return g.kind == models::CacheKind::whole || g.kind == models::CacheKind::latent;
    });
  }

 private:
  static models::LoadOptions options() {
    models::LoadOptions options;
    options.block_tokens = kBlockTokens;
    return options;
  }
  static std::shared_ptr<const models::ModelFolder> opened(const std::string& folder) {
    auto opened = models::ModelFolder::open(folder, options());
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return *opened;
  }
};

class EndToEnd : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const json expected = expected_of(folder());
    ASSERT_FALSE(expected["cases"].empty());
    for (const json& c : expected["cases"]) {
      Case& made = cases_.emplace_back(Case{c["prompt"], c["tokens"], c["logprobs"]});
      if (c.contains("prompt_logprobs")) scored_ = &made - cases_.data();
    }
  }
  [[nodiscard]] std::string folder() const { return std::string(kGoldenModels) + "/" + GetParam(); }

  void submit_all(Engine& engine, uint64_t first_id = 1) {
    for (size_t i = 0; i < cases_.size(); ++i) {
      engine.submit(first_id + i, cases_[i].prompt, static_cast<int32_t>(cases_[i].tokens.size()));
    }
  }
  void expect_all(Engine& engine, uint64_t first_id = 1) {
    for (size_t i = 0; i < cases_.size(); ++i) {
      engine.expect(first_id + i, cases_[i].tokens, cases_[i].logprobs,
                    GetParam() + " case " + std::to_string(i));
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
    Engine engine(folder(), {.prefix_reuse = reuse, .step_rows = 64, .blocks = blocks_of_longest() + 8});
    submit_all(engine, 1);
    submit_all(engine, 101);
    engine.run();
    expect_all(engine, 1);
    expect_all(engine, 101);
    // A model of windows alone never holds enough to run out.
    EXPECT_EQ(engine.scheduler().stats().preemptions > 0, engine.keeps_everything());
  }
}

TEST_P(EndToEnd, ScoresItsPromptInChunks) {
  if (scored_ < 0) GTEST_SKIP() << "no prompt logprobs in its golden file";
  const json expected = expected_of(folder())["cases"][static_cast<size_t>(scored_)]["prompt_logprobs"];
  Engine engine(folder(), {.prefix_reuse = true, .step_rows = 32 + 5});
  const Case& c = cases_[static_cast<size_t>(scored_)];
  engine.submit(1, c.prompt, 0, true);
  engine.submit(2, c.prompt, static_cast<int32_t>(c.tokens.size()), true);
  engine.run();
  EXPECT_EQ(engine.said[2].tokens, c.tokens);
  for (const uint64_t id : {1U, 2U}) {
    const std::vector<float>& got = engine.said[id].prompt_logprobs;
    ASSERT_EQ(got.size(), c.prompt.size() - 1);
    // The golden table may or may not have an entry for the first token, which nothing predicts.
    const size_t skip = expected.size() - got.size();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i + skip].get<float>(), kTolerance) << "position " << i + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EndToEnd, ::testing::ValuesIn(golden_names(kGoldenModels)),
                         models::testing::test_name);

}  // namespace
}  // namespace troupe::engine
